//! Which way packets go: proving UDP, PINGs, and the route that media takes.

use std::sync::Arc;

use super::{HEADER, Live, Origin, UDP_UNANSWERED, seal_to, seal_to_stream};
use crate::session::event::{Event, Route};
use crate::session::liveness::{PROBE_ID, Pace};
use crate::session::streams::Stream;
use crate::session::{Carrier, Shell};
use crate::time::MonoTime;
use crate::wire::{UdpEndpoint, put_path_challenge, put_ping, put_pong};

impl Live {
    pub(super) fn announced(&mut self, shell: &Shell, now: MonoTime, udp: Option<UdpEndpoint>) {
        let ours = shell.config.announced_udp();
        let Some(udp) = udp.filter(|u| u.port != 0 && ours.is_some()) else { return };
        self.peer_mtu = Some(usize::from(udp.mtu));
        let mut address = shell.config.peer_address;
        address.set_port(udp.port);
        self.paths.announce(now, address);
    }

    /// On carrier `tcp` nothing but media that comes in is watched closely. On UDP a PING a second
    /// also keeps the path open.
    pub(super) fn update_pace(&mut self, shell: &Shell, now: MonoTime) {
        let hears = || self.streams.iter().any(|(_, s)| matches!(s, Stream::Playing { .. }));
        let slow = shell.config.carrier == Carrier::Tcp && !hears();
        self.liveness.set_pace(now, if slow { Pace::Slow } else { Pace::Close });
    }

    /// Sends every challenge that is due.
    pub(super) fn probe(&mut self, shell: &mut Shell, now: MonoTime) {
        while let Some((to, nonce)) = self.paths.poll(now, || shell.random_u64()) {
            let mut packet = vec![0; HEADER];
            put_path_challenge(nonce, &mut packet);
            seal_to(shell, self.epochs.path(), packet, to);
        }
    }

    /// TCP from now on, until UDP is proved again.
    pub(super) fn restart_paths(&mut self, shell: &mut Shell, now: MonoTime) {
        if self.is_detached() {
            // There is nothing else.
            return;
        }
        self.paths.restart(now);
        self.update_route(shell);
        self.probe(shell, now);
    }

    pub(super) fn update_route(&mut self, shell: &mut Shell) {
        let route = match self.paths.validated() {
            _ if self.is_lost() => Route::Held,
            Some(address) => Route::Datagram(address),
            None if self.is_detached() => Route::Held,
            None => Route::Stream,
        };
        if route != self.route() {
            self.route.store(Arc::new(route));
            shell.events.push_back(Event::RouteChanged(route));
        }
    }

    /// A packet of stream 0xFFFF, the way media goes.
    pub(super) fn send_path(&self, shell: &mut Shell, packet: Vec<u8>) {
        match self.route() {
            Route::Datagram(to) => seal_to(shell, self.epochs.path(), packet, to),
            Route::Stream => seal_to_stream(shell, self.epochs.path(), packet),
            Route::Held => {}
        }
    }

    /// Sends the PINGs that are due.
    pub(super) fn ask_for_life(&mut self, shell: &mut Shell, now: MonoTime) {
        let urgent = self.is_urgent(now);
        let Some(id) = self.liveness.poll_ping(now, urgent) else { return };
        let dead = self.unanswered.is_some_and(|t| now.since(t) >= UDP_UNANSWERED);
        if dead && !self.liveness.is_stalled() {
            self.restart_paths(shell, now);
        }
        self.unanswered = match self.route() {
            Route::Datagram(_) => self.unanswered.or(Some(now)),
            Route::Stream | Route::Held => None,
        };
        let mut packet = vec![0; HEADER];
        put_ping(id, now.as_nanos(), &mut packet);
        self.send_path(shell, packet);
        if urgent {
            self.probe_everywhere(shell, now);
        } else if self.liveness.is_stalled() {
            // Perhaps only the way we use is dead: five times a second, try the other.
            if self.route() == Route::Stream {
                self.paths.hurry(now);
                self.probe(shell, now);
            } else {
                let mut packet = vec![0; HEADER];
                put_ping(PROBE_ID, now.as_nanos(), &mut packet);
                seal_to_stream(shell, self.epochs.path(), packet);
            }
        }
    }

    /// Answers a PING.
    pub(super) fn answer_ping(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        origin: Origin,
        id: u16,
        t1: u64,
    ) {
        let mut packet = vec![0; HEADER];
        put_pong(id, t1, now.as_nanos(), now.as_nanos(), &mut packet);
        // Back the way it came, so that the round trip is one path's.
        match origin {
            Origin::Datagram(from) if self.paths.validated() == Some(from) => {
                seal_to(shell, self.epochs.path(), packet, from);
            }
            Origin::Datagram(_) => self.send_path(shell, packet),
            Origin::Stream => seal_to_stream(shell, self.epochs.path(), packet),
        }
    }
}
