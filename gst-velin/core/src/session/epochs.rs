//! Keys by epoch: one sealer per stream for the epoch in use, openers for the epochs around it.

use std::collections::HashMap;
use std::time::Duration;

use super::opener::{OpenError, Opener, PacketHeader};
use super::sealer::Sealer;
use crate::handshake::packets::SessionIndex;
use crate::handshake::schedule::{Direction, Epoch, EpochSecrets, TrafficSecret};
use crate::identity::SharedSecret;
use crate::time::MonoTime;
use crate::units::StreamId;

/// How long packets of the epoch before are still opened.
const OLD_EPOCH_LIFETIME: Duration = Duration::from_secs(5);

/// After the new keys are known, the side that did not ask for them uses them after this long
/// even if no packet under them arrived.
const SWITCH_ANYWAY: Duration = Duration::from_secs(1);

/// The keys of one session.
pub(super) struct Epochs {
    send: Direction,
    peer_index: SessionIndex,
    /// What outgoing packets are sealed with.
    tx: Tx,
    /// What incoming packets may be sealed with: at most the old, the current and the next epoch.
    rx: Vec<Rx>,
    /// Newest secrets; those of the next epoch while it is known and not in use for sending.
    newest: EpochSecrets,
    switch_at: Option<MonoTime>,
    drop_old_at: Option<MonoTime>,
}

struct Tx {
    epoch: Epoch,
    traffic: TrafficSecret,
    control: Sealer,
    path: Sealer,
}

struct Rx {
    epoch: Epoch,
    traffic: TrafficSecret,
    openers: HashMap<StreamId, Opener>,
}

/// What changed because a packet was opened or time passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Switched(pub(super) bool);

impl Epochs {
    /// `send` is our own direction.
    pub(super) fn new(send: Direction, peer_index: SessionIndex, secrets: EpochSecrets) -> Self {
        let tx = Tx::new(&secrets, send, peer_index);
        let rx = vec![Rx::new(&secrets, send.reverse(), &[])];
        Self {
            send,
            peer_index,
            tx,
            rx,
            newest: secrets,
            switch_at: None,
            drop_old_at: None,
        }
    }

    /// The epoch we send in.
    pub(super) fn epoch(&self) -> Epoch {
        self.tx.epoch
    }

    /// The newest epoch known, whether in use or not.
    pub(super) fn newest(&self) -> Epoch {
        self.newest.epoch()
    }

    pub(super) fn control(&self) -> &Sealer {
        &self.tx.control
    }

    pub(super) fn path(&self) -> &Sealer {
        &self.tx.path
    }

    /// The one sealer of media stream `id` in the current epoch. Call once per stream and epoch:
    /// the sealer holds the counter.
    pub(super) fn media_sealer(&self, id: StreamId) -> Sealer {
        Sealer::new(&self.tx.traffic.stream_key(id), self.tx.epoch, id, self.peer_index)
    }

    /// From now on packets of stream `id` are opened.
    pub(super) fn listen(&mut self, id: StreamId) {
        for rx in &mut self.rx {
            rx.listen(id);
        }
    }

    /// Packets of stream `id` are not opened any more.
    pub(super) fn ignore(&mut self, id: StreamId) {
        for rx in &mut self.rx {
            rx.openers.remove(&id);
        }
    }

    /// Opens a packet in place; gives where the plaintext stands in it.
    ///
    /// Nothing changes unless the packet is genuine and new.
    pub(super) fn open(
        &mut self,
        now: MonoTime,
        header: &PacketHeader,
        packet: &mut [u8],
    ) -> Result<(std::ops::Range<usize>, Switched), OpenFailure> {
        let rx = self
            .rx
            .iter_mut()
            .find(|rx| rx.epoch.to_wire() == header.epoch)
            .ok_or(OpenFailure::Epoch)?;
        let epoch = rx.epoch;
        let opener = rx.openers.get_mut(&header.stream).ok_or(OpenFailure::Stream)?;
        let range = opener.open(header, packet).map_err(OpenFailure::Open)?;
        let mut switched = Switched(false);
        if epoch > self.tx.epoch {
            switched = self.switch(now);
        }
        if epoch == self.tx.epoch && self.rx.len() > 1 && self.drop_old_at.is_none() {
            self.drop_old_at = Some(now + OLD_EPOCH_LIFETIME);
        }
        Ok((range, switched))
    }

    /// The next epoch's secret was agreed; its packets are opened from now on. The side that
    /// asked sends in it at once, the other when the first such packet arrives.
    pub(super) fn agree(&mut self, now: MonoTime, dh: &SharedSecret, at_once: bool) -> Switched {
        let next = self.newest.next(dh, None);
        let streams: Vec<_> =
            self.rx.last().map(|rx| rx.openers.keys().copied().collect()).unwrap_or_default();
        self.rx.retain(|rx| rx.epoch == self.tx.epoch);
        self.rx.push(Rx::new(&next, self.send.reverse(), &streams));
        self.newest = next;
        self.drop_old_at = None;
        if at_once {
            return self.switch(now);
        }
        self.switch_at = Some(now + SWITCH_ANYWAY);
        Switched(false)
    }

    /// Whether new keys are known that are not in use yet.
    pub(super) fn is_switching(&self) -> bool {
        self.newest.epoch() != self.tx.epoch
    }

    pub(super) fn handle_timeout(&mut self, now: MonoTime) -> Switched {
        if self.drop_old_at.is_some_and(|t| t <= now) {
            self.drop_old_at = None;
            let current = self.tx.epoch;
            self.rx.retain(|rx| rx.epoch >= current);
        }
        if self.switch_at.is_some_and(|t| t <= now) {
            return self.switch(now);
        }
        Switched(false)
    }

    pub(super) fn timeout(&self) -> Option<MonoTime> {
        self.switch_at.into_iter().chain(self.drop_old_at).min()
    }

    fn switch(&mut self, _now: MonoTime) -> Switched {
        self.switch_at = None;
        if !self.is_switching() {
            return Switched(false);
        }
        self.tx = Tx::new(&self.newest, self.send, self.peer_index);
        Switched(true)
    }
}

impl Tx {
    fn new(secrets: &EpochSecrets, send: Direction, peer_index: SessionIndex) -> Self {
        let traffic = secrets.traffic(send);
        let epoch = secrets.epoch();
        let sealer = |id| Sealer::new(&traffic.stream_key(id), epoch, id, peer_index);
        let control = sealer(StreamId::CONTROL);
        let path = sealer(StreamId::PATH);
        Self { epoch, traffic, control, path }
    }
}

impl Rx {
    fn new(secrets: &EpochSecrets, receive: Direction, streams: &[StreamId]) -> Self {
        let mut rx = Self {
            epoch: secrets.epoch(),
            traffic: secrets.traffic(receive),
            openers: HashMap::new(),
        };
        rx.listen(StreamId::CONTROL);
        rx.listen(StreamId::PATH);
        for id in streams {
            rx.listen(*id);
        }
        rx
    }

    fn listen(&mut self, id: StreamId) {
        if !self.openers.contains_key(&id) {
            self.openers.insert(id, Opener::new(&self.traffic.stream_key(id)));
        }
    }
}

/// Why a packet was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenFailure {
    Epoch,
    Open(OpenError),
    Stream,
}
