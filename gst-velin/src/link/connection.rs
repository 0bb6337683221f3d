//! One session with its sockets: the task that drives the TCP side and the timers, and the door
//! through which the receive thread brings datagrams.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use velin_core::handshake::packets::SessionIndex;
use velin_core::playout::{Block, Body, ReceiverHalf};
use velin_core::session::{Ended, Event, MediaSink, MediaTx, Session, Transmit};
use velin_core::time::MonoTime;
use velin_core::units::StreamId;
use velin_core::wire::{AudioFlags, AudioFrame, CloseCode, frame_packet};

use super::clock;
use super::outlet::Outlet;
use super::tcp_media::TcpMedia;
use super::udp::UdpShared;

/// A closing connection has this long to take the last bytes.
const DRAIN: Duration = Duration::from_millis(300);

/// Control bytes that wait for a peer which does not read, at most: more than any honest session
/// ever has under way.
const MAX_PENDING: usize = 1024 * 1024;

/// One session and what its packets lead to.
#[derive(Debug)]
pub(crate) struct Connection {
    index: SessionIndex,
    udp: Arc<UdpShared>,
    tcp_media: Arc<TcpMedia>,
    inner: Mutex<Inner>,
    /// The task has something to do: bytes to write, events to handle.
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    session: Session,
    receivers: HashMap<StreamId, ReceiverHalf>,
    /// Bytes for the TCP connection, in order.
    pending: Vec<u8>,
    /// When the task wakes up by itself.
    armed: Option<MonoTime>,
}

/// What the owner of a connection does about its events. Runs on the connection's task, with no
/// lock held.
pub(crate) trait Driver: Send {
    /// Something happened.
    fn on_event(&mut self, connection: &Arc<Connection>, event: Event);

    /// The owner's [`Notify`] fired.
    fn on_wake(&mut self, connection: &Arc<Connection>);
}

impl Connection {
    pub(crate) fn new(index: SessionIndex, session: Session, udp: Arc<UdpShared>) -> Self {
        Self {
            index,
            udp,
            tcp_media: Arc::new(TcpMedia::new()),
            inner: Mutex::new(Inner {
                session,
                receivers: HashMap::new(),
                pending: Vec::new(),
                armed: None,
            }),
            wake: Notify::new(),
        }
    }

    /// A datagram with our index, on the receive thread.
    pub(crate) fn on_datagram(&self, now: MonoTime, from: SocketAddr, packet: &mut [u8]) {
        let mut inner = self.lock();
        let Inner { session, receivers, .. } = &mut *inner;
        session.handle_datagram(now, from, packet, &mut Receivers { receivers, now });
        self.flush(inner);
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
        inner.receivers.insert(id, receiver);
        inner.session.accept_stream(id, format);
        self.flush(inner);
    }

    /// Gives back the receiver of a stream that is over.
    pub(crate) fn take_receiver(&self, id: StreamId) -> Option<ReceiverHalf> {
        self.lock().receivers.remove(&id)
    }

    /// The way out for a stream of ours that was accepted.
    pub(crate) fn outlet(&self, id: StreamId) -> Option<Outlet> {
        let tx: MediaTx = self.lock().session.media_tx(id)?;
        Some(Outlet::new(tx, self.udp.clone(), self.tcp_media.clone()))
    }

    /// Says goodbye; the task ends when that is written.
    pub(crate) fn close(&self, code: CloseCode) {
        self.with(|s| s.close(code, ""));
    }

    /// No datagram reaches the session any more.
    pub(crate) fn unregister(&self) {
        self.udp.unregister(self.index);
    }

    /// Drives the session until it is over. `owner_wake` makes `driver.on_wake` run.
    pub(crate) async fn run(
        self: &Arc<Self>,
        mut tcp: TcpStream,
        owner_wake: &Notify,
        driver: &mut dyn Driver,
    ) -> Ended {
        let (mut reader, mut writer) = tcp.split();
        let mut buffer = vec![0; 16 * 1024];
        let mut out = Vec::new();
        let mut written = 0;
        let ended = loop {
            if let Some(ended) = self.dispatch_events(driver) {
                break ended;
            }
            if written == out.len() {
                written = 0;
                self.refill(&mut out);
            }
            let deadline = self.arm().map(clock::instant);
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = reader.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => self.on_stream_end(),
                    Ok(n) => self.on_stream(clock::now(), &buffer[..n]),
                },
                wrote = writer.write(&out[written..]), if written < out.len() => match wrote {
                    Ok(0) | Err(_) => self.on_stream_end(),
                    Ok(n) => written += n,
                },
                () = timer => {
                    let mut inner = self.lock();
                    inner.session.handle_timeout(clock::now());
                    self.flush(inner);
                }
                () = self.wake.notified() => {}
                () = self.tcp_media.pushed() => {}
                () = owner_wake.notified() => driver.on_wake(self),
            }
        };
        self.unregister();
        out.drain(..written);
        out.append(&mut self.lock().pending);
        let goodbye = async {
            let _ = writer.write_all(&out).await;
            let _ = writer.shutdown().await;
            // Closing with unread bytes would reset the connection and take our goodbye back.
            while matches!(reader.read(&mut buffer).await, Ok(n) if n > 0) {}
        };
        let _ = tokio::time::timeout(DRAIN, goodbye).await;
        ended
    }

    fn on_stream(&self, now: MonoTime, bytes: &[u8]) {
        let mut inner = self.lock();
        let Inner { session, receivers, .. } = &mut *inner;
        session.handle_stream(now, bytes, &mut Receivers { receivers, now });
        self.flush(inner);
    }

    fn on_stream_end(&self) {
        let mut inner = self.lock();
        inner.session.handle_stream_end();
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
    fn refill(&self, out: &mut Vec<u8>) {
        out.clear();
        out.append(&mut self.lock().pending);
        while let Some(packet) = self.tcp_media.pop() {
            frame_packet(&packet, out);
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
            inner.session.handle_stream_end();
        }
        // What arrived may have brought a timeout nearer than the one the task sleeps for.
        let earlier =
            inner.session.poll_timeout().is_some_and(|t| inner.armed.is_none_or(|a| t < a));
        let busy = earlier || !inner.pending.is_empty() || inner.session.has_events();
        drop(inner);
        for (to, packet) in datagrams {
            self.udp.send(to, &packet);
        }
        if busy {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leads blocks to the players.
struct Receivers<'a> {
    receivers: &'a mut HashMap<StreamId, ReceiverHalf>,
    now: MonoTime,
}

impl MediaSink for Receivers<'_> {
    fn audio(&mut self, stream: StreamId, frame: &AudioFrame<'_>) {
        let Some(receiver) = self.receivers.get_mut(&stream) else { return };
        let flags = frame.header.flags;
        let body = if flags.contains(AudioFlags::SILENCE) {
            let Some(frames) = frame.silent_frames() else { return };
            Body::Silence { frames }
        } else {
            Body::Pcm(frame.payload)
        };
        let repair = flags.contains(AudioFlags::COPY) || flags.contains(AudioFlags::RETRANSMISSION);
        let block = Block {
            index: frame.header.block,
            ts: frame.header.ts,
            discontinuity: flags.contains(AudioFlags::DISCONTINUITY),
            repair,
            body,
        };
        receiver.insert(self.now, block);
    }
}
