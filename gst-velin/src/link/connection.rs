//! One session with its sockets: the task that drives the TCP side and the timers, and the door
//! through which the receive thread brings datagrams.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use velin_core::handshake::packets::SessionIndex;
use velin_core::identity::PublicKey;
use velin_core::playout::{Block, Body, ReceiverHalf};
use velin_core::resend::History;
use velin_core::session::{
    Ended, Event, MediaSink, MediaTx, Route, Session, StreamEnd, Transmit, Trust,
};
use velin_core::time::MonoTime;
use velin_core::units::StreamId;
use velin_core::wire::{
    AudioFlags, AudioFrame, CloseCode, Copies, NackEntries, Report, frame_packet,
};

use super::clock;
use super::entropy::random_u64;
use super::feedback::{Outbox, Playing};
use super::goodbye::Living;
use super::outlet::Outlet;
use super::tcp_media::TcpMedia;
use super::udp::UdpShared;
use super::unsent::unsent;
use super::wake;

/// The receive thread looks after missing blocks no sooner than this after it did.
const SOONEST: Duration = Duration::from_micros(50);

/// A closing connection has this long to take the last bytes.
const DRAIN: Duration = Duration::from_millis(300);

/// Control bytes that wait for a peer which does not read, at most: more than any honest session
/// ever has under way.
const MAX_PENDING: usize = 1024 * 1024;

/// Media that is taken out of the queue for the TCP connection at once: some packets of any size.
const PORTION: usize = 4 * 1024;

/// One session and what its packets lead to.
#[derive(Debug)]
pub(crate) struct Connection {
    index: SessionIndex,
    /// Not on carrier `tcp`.
    udp: Option<Arc<UdpShared>>,
    tcp_media: Arc<TcpMedia>,
    inner: Mutex<Inner>,
    /// The ways out for our streams, for what their receivers ask. Locked after `inner`, or alone.
    outlets: Mutex<Vec<Outlet>>,
    /// When the receive thread has to look after missing blocks, in nanoseconds.
    next_nack: AtomicU64,
    /// The task has something to do: bytes to write, events to handle.
    wake: Notify,
    /// Something about the link has changed: the driver looks.
    nudged: Notify,
}

#[derive(Debug)]
struct Inner {
    session: Session,
    receivers: HashMap<StreamId, Ear>,
    /// Bytes for the TCP connection, in order.
    pending: Vec<u8>,
    /// When the task wakes up by itself.
    armed: Option<MonoTime>,
}

/// Where the blocks of a stream go.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Nearly all are the large one.
enum Ear {
    Own(Playing),
    /// To a later session, which has taken the stream over: what is still under way is not lost.
    Moved(Weak<Connection>, StreamId),
}

/// What the owner of a connection does about its events. Runs on the connection's task, with no
/// lock held.
pub(crate) trait Driver: Send {
    /// Something happened.
    fn on_event(&mut self, connection: &Arc<Connection>, event: Event);

    /// Something about the link has changed.
    fn on_nudge(&mut self, connection: &Arc<Connection>);

    /// The machine has slept.
    fn on_jump(&mut self) {}
}

impl Connection {
    /// Makes a session with an index of its own; datagrams for it arrive from now on.
    pub(crate) fn register(
        udp: Option<&Arc<UdpShared>>,
        make: impl FnOnce(SessionIndex) -> Session,
    ) -> Arc<Self> {
        let connection = |index, udp| {
            Arc::new(Self {
                index,
                udp,
                tcp_media: Arc::new(TcpMedia::new()),
                inner: Mutex::new(Inner {
                    session: make(index),
                    receivers: HashMap::new(),
                    pending: Vec::new(),
                    armed: None,
                }),
                outlets: Mutex::default(),
                next_nack: AtomicU64::new(u64::MAX),
                wake: Notify::new(),
                nudged: Notify::new(),
            })
        };
        match udp {
            Some(udp) => udp.register(|index| connection(index, Some(udp.clone()))),
            None => connection(random_index(), None),
        }
    }

    /// What datagrams for the session carry.
    pub(crate) fn index(&self) -> SessionIndex {
        self.index
    }

    /// The driver is to look at the link.
    pub(crate) fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// Which way media leaves.
    pub(crate) fn route(&self) -> Option<Route> {
        self.lock().session.route()
    }

    /// A datagram with our index, on the receive thread.
    ///
    /// It came `age` ago.
    pub(super) fn on_datagram(
        &self,
        now: MonoTime,
        age: Duration,
        from: SocketAddr,
        packet: &mut [u8],
        out: &mut Outbox,
    ) {
        let mut inner = self.lock();
        let Inner { session, receivers, .. } = &mut *inner;
        let arrival = now - age;
        let mut sink = Receivers { receivers, arrival, outlets: &self.outlets, out: Some(out) };
        session.handle_datagram(now, from, packet, &mut sink);
        out.set_rtt(session.rtt());
        if !receivers.is_empty() {
            // Once all that has come is read: what seems to be missing may be the next.
            self.next_nack.store(0, Ordering::Relaxed);
        }
        self.flush(inner);
        self.deliver(now, out);
    }

    /// When [`poll_nacks`](Self::poll_nacks) is to be called.
    pub(super) fn next_nack(&self) -> MonoTime {
        MonoTime::from_nanos(self.next_nack.load(Ordering::Relaxed))
    }

    /// Time passed: asks for what is missing. On the receive thread.
    pub(super) fn poll_nacks(&self, now: MonoTime, out: &mut Outbox) {
        let mut inner = self.lock();
        self.give_feedback(now, &mut inner, out);
        self.flush(inner);
        self.deliver(now, out);
    }

    /// Collects what the senders of the streams we play are to be told.
    fn give_feedback(&self, now: MonoTime, inner: &mut Inner, out: &mut Outbox) {
        let Inner { session, receivers, pending, .. } = inner;
        let mut next = u64::MAX;
        for (id, ear) in receivers.iter_mut() {
            if let Ear::Own(playing) = ear {
                playing.poll(now, *id, session, out, pending);
                next = playing.next().map_or(next, |at| next.min(at.as_nanos()));
            }
        }
        // Never at once again, whatever a receiver says.
        let soonest = (now + SOONEST).as_nanos();
        self.next_nack.store(next.max(soonest), Ordering::Relaxed);
    }

    /// Sends what was collected, and again what the peer asked for.
    fn deliver(&self, now: MonoTime, out: &mut Outbox) {
        if out.is_asked() {
            let outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
            out.answer(now, &outlets);
        }
        if let Some(udp) = &self.udp {
            out.for_each_packet(|to, packet| {
                udp.send(to, packet);
            });
        }
        out.clear();
    }

    /// Changes the session, then sends what that caused.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut Session) -> R) -> R {
        let mut inner = self.lock();
        let result = change(&mut inner.session);
        self.flush(inner);
        result
    }

    /// Plays an offered stream into `receiver`.
    pub(crate) fn accept(&self, id: StreamId, format: u8, receiver: ReceiverHalf) {
        let mut inner = self.lock();
        let mut playing = Playing::new(receiver, clock::now());
        inner.session.accept_stream(id, format);
        playing.set_feedback(inner.session.feedback_tx(id));
        inner.receivers.insert(id, Ear::Own(playing));
        self.flush(inner);
    }

    /// Gives back the receiver of a stream that is over, or goes on in another session.
    pub(crate) fn take_receiver(&self, id: StreamId) -> Option<ReceiverHalf> {
        match self.lock().receivers.remove(&id)? {
            Ear::Own(playing) => Some(playing.receiver),
            Ear::Moved(..) => None,
        }
    }

    /// What still comes on stream `id` belongs to stream `to` of `later`.
    pub(crate) fn forward(&self, id: StreamId, later: &Arc<Self>, to: StreamId) {
        self.lock().receivers.insert(id, Ear::Moved(Arc::downgrade(later), to));
    }

    /// The way out for a stream of ours that was accepted. What its receiver asks for is sent again
    /// from `history`.
    pub(crate) fn outlet(&self, id: StreamId, history: Option<&History>) -> Option<Outlet> {
        let inner = self.lock();
        let tx: MediaTx = inner.session.media_tx(id)?;
        let peer = inner.session.peer()?;
        drop(inner);
        let (udp, tcp) = (self.udp.clone(), self.tcp_media.clone());
        let outlet = Outlet::new(tx, self.index, peer, udp, tcp, history.cloned());
        let mut outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        outlets.retain(|outlet| !outlet.is_over());
        outlets.push(outlet.clone());
        Some(outlet)
    }

    /// The receiver of our stream wants these copies in its packets.
    pub(crate) fn set_copies(&self, id: StreamId, copies: Copies) {
        let outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outlet) = outlets.iter().find(|o| o.id() == id) {
            outlet.set_copies(copies);
        }
    }

    /// The trust has changed: the session ends, or goes on with what the peer may do now. Asks
    /// nothing about our own key and about `consent`, the key that a caller was told to expect.
    pub(crate) fn judge_again(
        &self,
        trust: &dyn Trust,
        own: PublicKey,
        consent: Option<PublicKey>,
    ) {
        self.with(|session| {
            let Some(peer) = session.peer().filter(|p| *p != own) else { return };
            match trust.grants(&peer) {
                Some(grants) => session.update_grants(grants),
                None if consent == Some(peer) => {}
                None => session.close(CloseCode::UNTRUSTED, ""),
            }
        });
    }

    /// Says goodbye; the task ends when that is written.
    pub(crate) fn close(&self, code: CloseCode) {
        self.with(|s| s.close(code, ""));
    }

    /// No datagram reaches the session any more.
    pub(crate) fn unregister(&self) {
        if let Some(udp) = &self.udp {
            udp.unregister(self.index);
        }
    }

    /// Drives the session until it is over, with or without its TCP connection.
    pub(crate) async fn run(self: &Arc<Self>, tcp: TcpStream, driver: &mut dyn Driver) -> Ended {
        let _living = Living::new();
        let mut tcp = Some(Tcp::new(tcp));
        let mut woken = wake::watch();
        let ended = loop {
            if let Some(ended) = self.dispatch_events(driver) {
                break ended;
            }
            if let Some(tcp) = &mut tcp {
                self.refill(tcp);
            }
            let deadline = self.arm().map(clock::instant);
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                progress = Tcp::progress(&mut tcp) => match progress {
                    Progress::Read(bytes) => self.on_stream(clock::now(), bytes),
                    Progress::Written => {}
                    Progress::End(end) => {
                        tcp = None;
                        self.on_stream_end(end);
                    }
                },
                () = timer => {
                    let mut inner = self.lock();
                    inner.session.handle_timeout(clock::now());
                    self.flush(inner);
                }
                () = self.wake.notified() => {}
                () = self.tcp_media.pushed(), if tcp.is_some() => {}
                () = self.nudged.notified() => driver.on_nudge(self),
                () = woken.jumped() => {
                    self.with(|s| s.wake(clock::now()));
                    driver.on_jump();
                }
            }
        };
        self.unregister();
        if let Some(tcp) = tcp {
            let last = std::mem::take(&mut self.lock().pending);
            tcp.say_goodbye(last).await;
        }
        ended
    }

    fn on_stream(&self, now: MonoTime, bytes: &[u8]) {
        let mut inner = self.lock();
        let Inner { session, receivers, .. } = &mut *inner;
        let mut sink = Receivers { receivers, arrival: now, outlets: &self.outlets, out: None };
        session.handle_stream(now, bytes, &mut sink);
        if inner.session.route() == Some(Route::Stream) {
            // No datagram wakes the receive thread.
            let mut out = Outbox::small();
            self.give_feedback(now, &mut inner, &mut out);
        }
        self.flush(inner);
    }

    fn on_stream_end(&self, end: StreamEnd) {
        let mut inner = self.lock();
        // Nobody reads them any more.
        inner.pending = Vec::new();
        inner.session.handle_stream_end(clock::now(), end);
        self.flush(inner);
    }

    /// Hands every event to the driver; the last one, if the session is over.
    fn dispatch_events(self: &Arc<Self>, driver: &mut dyn Driver) -> Option<Ended> {
        loop {
            let event = self.lock().session.poll_event()?;
            if let Event::Closed(ended) = event {
                return Some(ended);
            }
            driver.on_event(self, event);
        }
    }

    /// Control first, then the media that waits.
    fn refill(&self, tcp: &mut Tcp) {
        if tcp.written < tcp.out.len() {
            return;
        }
        tcp.written = 0;
        tcp.out.clear();
        if let Some(bytes) = unsent(tcp.writer.as_ref()) {
            self.tcp_media.set_unsent(bytes);
        }
        tcp.out.append(&mut self.lock().pending);
        // No more than goes out soon: what still waits in the queue can be dropped when it is old.
        while tcp.out.len() < PORTION
            && let Some(packet) = self.tcp_media.pop()
        {
            frame_packet(&packet, &mut tcp.out);
        }
    }

    /// Notes when the task has to wake up at the latest.
    fn arm(&self) -> Option<MonoTime> {
        let mut inner = self.lock();
        inner.armed = inner.session.poll_timeout();
        inner.armed
    }

    /// Takes out what the session wants sent, lets go of the lock, and sends.
    fn flush(&self, mut inner: MutexGuard<'_, Inner>) {
        // Nothing is allocated unless there is something to send.
        let mut datagrams = Vec::new();
        while let Some(transmit) = inner.session.poll_transmit() {
            match transmit {
                Transmit::Stream(bytes) => inner.pending.extend_from_slice(&bytes),
                Transmit::Datagram { to, packet } => datagrams.push((to, packet)),
            }
        }
        if inner.pending.len() > MAX_PENDING {
            inner.pending = Vec::new();
            inner.session.handle_stream_end(clock::now(), StreamEnd::TimedOut);
        }
        // What arrived may have brought a timeout nearer than the one the task sleeps for.
        let earlier =
            inner.session.poll_timeout().is_some_and(|t| inner.armed.is_none_or(|a| t < a));
        let busy = earlier || !inner.pending.is_empty() || inner.session.has_events();
        drop(inner);
        if let Some(udp) = &self.udp {
            for (to, packet) in datagrams {
                udp.send(to, &packet);
            }
        }
        if busy {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn random_index() -> SessionIndex {
    loop {
        if let Some(index) = SessionIndex::new(random_u64() as u32) {
            return index;
        }
    }
}

/// The TCP connection of a session, while it has one.
struct Tcp {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    buffer: Vec<u8>,
    out: Vec<u8>,
    written: usize,
}

enum Progress<'a> {
    Read(&'a [u8]),
    Written,
    End(StreamEnd),
}

impl Tcp {
    fn new(tcp: TcpStream) -> Self {
        let (reader, writer) = tcp.into_split();
        Self { reader, writer, buffer: vec![0; 16 * 1024], out: Vec::new(), written: 0 }
    }

    /// Waits until something was read or written. Without a connection: for ever.
    async fn progress(tcp: &mut Option<Self>) -> Progress<'_> {
        let Some(Self { reader, writer, buffer, out, written }) = tcp else {
            return std::future::pending().await;
        };
        tokio::select! {
            read = reader.read(buffer) => match read {
                Ok(0) => Progress::End(StreamEnd::Closed),
                Ok(n) => Progress::Read(&buffer[..n]),
                Err(e) => Progress::End(kind_of_end(&e)),
            },
            wrote = writer.write(&out[*written..]), if *written < out.len() => match wrote {
                Ok(0) => Progress::End(StreamEnd::Closed),
                Ok(n) => {
                    *written += n;
                    Progress::Written
                }
                Err(e) => Progress::End(kind_of_end(&e)),
            },
        }
    }

    /// Writes what is left and `last`, then ends the connection.
    async fn say_goodbye(mut self, mut last: Vec<u8>) {
        self.out.drain(..self.written);
        self.out.append(&mut last);
        let goodbye = async {
            let _ = self.writer.write_all(&self.out).await;
            let _ = self.writer.shutdown().await;
            // Closing with unread bytes would reset the connection and take our goodbye back.
            while matches!(self.reader.read(&mut self.buffer).await, Ok(n) if n > 0) {}
        };
        let _ = tokio::time::timeout(DRAIN, goodbye).await;
    }
}

/// Whether the other side ended the connection, or our system gave it up.
fn kind_of_end(error: &io::Error) -> StreamEnd {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => StreamEnd::Closed,
        _ => StreamEnd::TimedOut,
    }
}

/// Leads blocks to the players.
struct Receivers<'a> {
    receivers: &'a mut HashMap<StreamId, Ear>,
    arrival: MonoTime,
    outlets: &'a Mutex<Vec<Outlet>>,
    /// For what the peer asks; `None` where it has no reason to ask.
    out: Option<&'a mut Outbox>,
}

impl MediaSink for Receivers<'_> {
    fn audio(&mut self, stream: StreamId, frame: &AudioFrame<'_>) {
        let receiver = match self.receivers.get_mut(&stream) {
            Some(Ear::Own(playing)) => &mut playing.receiver,
            // Only ever to a later session, so no two of them wait for each other.
            Some(Ear::Moved(later, to)) => {
                if let Some(later) = later.upgrade() {
                    let receivers = &mut later.lock().receivers;
                    let (arrival, outlets) = (self.arrival, self.outlets);
                    Receivers { receivers, arrival, outlets, out: None }.audio(*to, frame);
                }
                return;
            }
            None => return,
        };
        let flags = frame.header.flags;
        let body = if flags.contains(AudioFlags::SILENCE) {
            let Some(frames) = frame.silent_frames() else { return };
            Body::Silence { frames }
        } else {
            Body::Audio(frame.payload)
        };
        let repair = flags.contains(AudioFlags::COPY) || flags.contains(AudioFlags::RETRANSMISSION);
        let block = Block {
            index: frame.header.block,
            ts: frame.header.ts,
            discontinuity: flags.contains(AudioFlags::DISCONTINUITY),
            repair,
            body,
        };
        receiver.insert(self.arrival, block);
    }

    fn report(&mut self, stream: StreamId, report: &Report) {
        let outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outlet) = outlets.iter().find(|o| o.id() == stream) {
            outlet.set_report(report);
        }
    }

    fn nack(&mut self, stream: StreamId, entries: NackEntries<'_>) {
        if let Some(out) = &mut self.out {
            entries.ranges().for_each(|range| out.ask(stream, range));
        }
    }
}
