//! Keys by epoch: one sealer per stream for the epoch in use, openers for the epochs around it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::header::Header;
use super::opener::{OpenError, Opened, Opener};
use super::sealer::{Sealer, Sealers};
use crate::handshake::packets::SessionIndex;
use crate::handshake::schedule::{Direction, Epoch, EpochSecrets};
use crate::identity::SharedSecret;
use crate::time::MonoTime;
use crate::units::StreamId;

/// How long packets of the epoch before are still opened.
const OLD_EPOCH_LIFETIME: Duration = Duration::from_secs(5);

/// The keys of one session.
pub(super) struct Epochs {
    send: Direction,
    index: SessionIndex,
    peer_index: SessionIndex,
    /// What outgoing packets are sealed with.
    sealers: Sealers,
    control: Arc<Sealer>,
    path: Arc<Sealer>,
    /// What incoming packets may be sealed with: at most the old, the current and the next epoch.
    rx: Vec<Rx>,
}

/// The receiving side of one epoch. The secrets are wiped when it is dropped.
struct Rx {
    secrets: EpochSecrets,
    openers: HashMap<StreamId, Opener>,
    /// Set by the first packet of a later epoch.
    expires: Option<MonoTime>,
}

impl Rx {
    fn new(secrets: EpochSecrets) -> Self {
        Self { secrets, openers: HashMap::new(), expires: None }
    }
}

/// Whether packets leave under new keys from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Switched(pub(super) bool);

impl Epochs {
    /// `send` is our own direction.
    pub(super) fn new(
        send: Direction,
        index: SessionIndex,
        peer_index: SessionIndex,
        secrets: EpochSecrets,
    ) -> Self {
        let (sealers, control, path) = sealers(&secrets, send, peer_index);
        let mut this =
            Self { send, index, peer_index, sealers, control, path, rx: vec![Rx::new(secrets)] };
        this.listen(StreamId::CONTROL);
        this.listen(StreamId::PATH);
        this
    }

    /// The epoch we send in.
    pub(super) fn epoch(&self) -> Epoch {
        self.sealers.epoch()
    }

    /// The epoch after the newest known.
    pub(super) fn next_epoch(&self) -> Epoch {
        self.newest().secrets.epoch().next()
    }

    /// Whether new keys are known that are not in use yet.
    pub(super) fn is_switching(&self) -> bool {
        self.newest().secrets.epoch() != self.epoch()
    }

    /// How many packets the busiest stream has sealed with its key.
    pub(super) fn most_sealed(&self) -> u64 {
        self.sealers.most_sealed()
    }

    pub(super) fn control(&self) -> &Sealer {
        &self.control
    }

    pub(super) fn path(&self) -> &Sealer {
        &self.path
    }

    /// The one sealer of media stream `id` in the current epoch. `None`: the id was retired.
    pub(super) fn media_sealer(&mut self, id: StreamId) -> Option<Arc<Sealer>> {
        self.sealers.sealer(id).ok()
    }

    /// From now on packets of stream `id` are opened.
    pub(super) fn listen(&mut self, id: StreamId) {
        let (receive, index) = (self.send.reverse(), self.index);
        for rx in &mut self.rx {
            rx.openers.entry(id).or_insert_with(|| Opener::new(&rx.secrets, receive, index, id));
        }
    }

    /// Stream `id` is over: nothing is opened or sealed for it any more.
    pub(super) fn retire(&mut self, id: StreamId) {
        for rx in &mut self.rx {
            rx.openers.remove(&id);
        }
        self.sealers.retire(id);
    }

    /// Opens a packet in place.
    ///
    /// Nothing changes unless the packet is genuine and new.
    pub(super) fn open<'a>(
        &mut self,
        now: MonoTime,
        header: &Header,
        packet: &'a mut [u8],
    ) -> Result<(Opened<'a>, Switched), OpenFailure> {
        let current = self.epoch();
        let rx = self
            .rx
            .iter_mut()
            .find(|rx| rx.secrets.epoch().to_wire() == header.epoch)
            .ok_or(OpenFailure::Epoch)?;
        let epoch = rx.secrets.epoch();
        let opener = rx.openers.get_mut(&header.stream).ok_or(OpenFailure::Stream)?;
        let opened = opener.open(packet).map_err(OpenFailure::Open)?;
        for old in self.rx.iter_mut().filter(|rx| rx.secrets.epoch() < epoch) {
            old.expires.get_or_insert(now + OLD_EPOCH_LIFETIME);
        }
        let switched = if epoch > current { self.switch() } else { Switched(false) };
        Ok((opened, switched))
    }

    /// The next epoch's secret was agreed; its packets are opened from now on. The side that
    /// asked sends in it at once. The other waits for the first such packet, however long that
    /// takes: until then its answer may still be under way, and the peer could open nothing.
    pub(super) fn agree(&mut self, dh: &SharedSecret, at_once: bool) -> Switched {
        let current = self.epoch();
        let secrets = self.newest().secrets.next(dh, None);
        let streams: Vec<_> = self.newest().openers.keys().copied().collect();
        // n−1 stays: packets of it may be under way until those of n+1 are.
        self.rx.retain(|rx| rx.secrets.epoch().next() >= current);
        self.rx.push(Rx::new(secrets));
        for id in streams {
            self.listen(id);
        }
        if at_once { self.switch() } else { Switched(false) }
    }

    /// Wipes the keys whose time is over.
    pub(super) fn handle_timeout(&mut self, now: MonoTime) {
        self.rx.retain(|rx| rx.expires.is_none_or(|t| now < t));
    }

    pub(super) fn timeout(&self) -> Option<MonoTime> {
        self.rx.iter().filter_map(|rx| rx.expires).min()
    }

    fn newest(&self) -> &Rx {
        // There is always at least the epoch in use.
        &self.rx[self.rx.len() - 1]
    }

    fn switch(&mut self) -> Switched {
        if !self.is_switching() {
            return Switched(false);
        }
        (self.sealers, self.control, self.path) =
            sealers(&self.newest().secrets, self.send, self.peer_index);
        Switched(true)
    }
}

fn sealers(
    secrets: &EpochSecrets,
    send: Direction,
    peer_index: SessionIndex,
) -> (Sealers, Arc<Sealer>, Arc<Sealer>) {
    let mut sealers = Sealers::new(secrets, send, peer_index);
    let mut first = |id| sealers.sealer(id).unwrap_or_else(|_| unreachable!("never retired yet"));
    let (control, path) = (first(StreamId::CONTROL), first(StreamId::PATH));
    (sealers, control, path)
}

/// Why a packet was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenFailure {
    Epoch,
    Open(OpenError),
    Stream,
}
