//! The control stream: its messages, and the change of keys they agree on.

use super::{HEADER, Live, seal_to, seal_to_stream};
use crate::identity::PublicKey;
use crate::session::asks::AskId;
use crate::session::epochs::Switched;
use crate::session::event::{Ended, Event, Route};
use crate::session::liveness::PROBE_ID;
use crate::session::{Role, Shell};
use crate::time::MonoTime;
use crate::units::StreamId;
use crate::wire::{
    Accept, CloseCode, CloseReason, Hex, Message, common_version, encode_control, put_close,
    put_ctrl, put_ping,
};

/// Control bytes in one packet.
const CONTROL_CHUNK: usize = 8 * 1024;

impl Live {
    /// Whether a change of keys is under way now, because of this call or before it.
    pub(in crate::session) fn start_rekey(&mut self, shell: &mut Shell, now: MonoTime) -> bool {
        if self.rekey.is_pending() {
            return true;
        }
        if self.epochs.is_switching() || !self.accepted || self.is_detached() {
            return false;
        }
        let public = self.rekey.start(now, &mut *shell.entropy);
        let epoch = self.epochs.next_epoch().to_wire();
        self.say(shell, &Message::Rekey { epoch, public: Hex(public.0) });
        true
    }

    /// The last words. Nothing is sealed after them.
    pub(in crate::session) fn say_close(&mut self, shell: &mut Shell, reason: &CloseReason) {
        let mut packet = vec![0; HEADER];
        put_close(reason, &mut packet);
        seal_to_stream(shell, self.epochs.control(), packet);
    }

    pub(super) fn handle_message(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        message: Message,
    ) -> Result<(), Ended> {
        if !self.accepted && !matches!(message, Message::Accept(_)) {
            return Err(Ended::PeerMisbehaved("it spoke before it accepted".into()));
        }
        match message {
            Message::Accept(accept) => self.on_accept(shell, now, accept)?,
            Message::PathLost => self.restart_paths(shell, now),
            Message::Rekey { epoch, public } => self.on_rekey(shell, now, epoch, public)?,
            Message::RekeyAck { epoch, public } => self.on_rekey_ack(shell, now, epoch, public)?,
            Message::StreamAdd(offer) => self.on_offer(shell, offer)?,
            Message::StreamOk(answer) => self.on_answer(shell, answer)?,
            Message::StreamRemove { id, code } => {
                self.on_stream_end(shell, StreamId(id), CloseCode(code));
            }
            Message::StreamRepair { id, copies } => {
                self.on_repair_wish(shell, StreamId(id), copies);
            }
            Message::StreamAsk { ask, dir, name } => self.on_ask(shell, AskId(ask), dir, name)?,
            Message::AskEnd { ask, code } => self.on_ask_end(shell, AskId(ask), CloseCode(code)),
        }
        Ok(())
    }

    fn on_accept(&mut self, shell: &mut Shell, now: MonoTime, accept: Accept) -> Result<(), Ended> {
        if self.accepted {
            return Err(Ended::PeerMisbehaved("it accepted twice".into()));
        }
        if common_version(&accept.versions) != Some(1) {
            return Err(Ended::Downgrade);
        }
        self.accepted = true;
        shell.events.push_back(Event::Open { name: accept.name });
        self.announced(shell, now, accept.udp);
        self.probe(shell, now);
        for answer in accept.streams {
            self.on_answer(shell, answer)?;
        }
        Ok(())
    }

    fn on_rekey(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        epoch: u8,
        public: Hex<32>,
    ) -> Result<(), Ended> {
        if self.rekey.is_pending() {
            if self.role == Role::Caller {
                // Both asked at once: the caller's request wins.
                return Ok(());
            }
            self.rekey.yield_to_peer();
        }
        if self.epochs.is_switching() || epoch != self.epochs.next_epoch().to_wire() {
            return Err(Ended::PeerMisbehaved("new keys out of order".into()));
        }
        let (ours, secret) = self
            .rekey
            .answer(now, &PublicKey(public.0), &mut *shell.entropy)
            .ok_or_else(|| Ended::PeerMisbehaved("a low-order key".into()))?;
        // The answer still goes out under the old keys.
        self.say(shell, &Message::RekeyAck { epoch, public: Hex(ours.0) });
        let switched = self.epochs.agree(&secret, false);
        self.after_switch(shell, switched);
        Ok(())
    }

    fn on_rekey_ack(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        epoch: u8,
        public: Hex<32>,
    ) -> Result<(), Ended> {
        if !self.rekey.is_pending() {
            return Ok(());
        }
        if epoch != self.epochs.next_epoch().to_wire() {
            return Err(Ended::PeerMisbehaved("new keys out of order".into()));
        }
        let secret = self
            .rekey
            .finish(now, &PublicKey(public.0))
            .ok_or_else(|| Ended::PeerMisbehaved("a low-order key".into()))?;
        let switched = self.epochs.agree(&secret, true);
        self.after_switch(shell, switched);
        // The first packet under the new keys lets the peer follow. By UDP it comes sooner, by
        // TCP it comes for certain.
        let mut packet = vec![0; HEADER];
        put_ping(PROBE_ID, now.as_nanos(), &mut packet);
        if let Route::Datagram(to) = self.route() {
            seal_to(shell, self.epochs.path(), packet.clone(), to);
        }
        seal_to_stream(shell, self.epochs.path(), packet);
        Ok(())
    }

    pub(super) fn after_switch(&mut self, shell: &mut Shell, switched: Switched) {
        if !switched.0 {
            return;
        }
        for (id, stream) in self.streams.iter() {
            if let Some(tx) = stream.tx()
                && let Some(sealer) = self.epochs.media_sealer(id)
            {
                tx.rekey(sealer);
            }
        }
        shell.events.push_back(Event::Rekeyed { epoch: self.epochs.epoch().0 });
    }

    /// A control message.
    pub(super) fn say(&mut self, shell: &mut Shell, message: &Message) {
        if self.is_detached() {
            return;
        }
        for chunk in encode_control(message).chunks(CONTROL_CHUNK) {
            let mut packet = vec![0; HEADER];
            let mut frames = Vec::new();
            put_ctrl(self.control_offset, chunk, &mut frames);
            self.control_offset += chunk.len() as u64;
            packet.append(&mut frames);
            seal_to_stream(shell, self.epochs.control(), packet);
        }
    }
}
