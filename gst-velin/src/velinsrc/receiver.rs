//! Where network threads and the streaming thread meet: streams come in here, players go out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use gst::prelude::*;
use gst::subclass::prelude::ObjectSubclassIsExt;
use velin_core::codec::StreamFormat;
use velin_core::identity::PublicKey;
use velin_core::playout::{
    self, MixCounters, OutputFormat, PlayerHalf, ReceiverHalf, StreamControls, StreamCounters,
    StreamError, StreamSettings, StreamStats, TraceTap, stream,
};
use velin_core::time::MonoTime;
use velin_core::wire::{CloseCode, StreamOffer};

use super::VelinSrc;
use super::child::{Stream, unique_name};
use super::memory::Memory;
use super::settings::{Drift, Settings};
use super::stats::add;
use crate::link::{self, Acceptor, PeerInfo, StreamKey, Verdict, now};
use crate::messages::{about_peer, post};

/// A stream whose sender vanished is kept this long.
const KEEP: Duration = Duration::from_secs(60);

/// Streams at a time.
const MAX_STREAMS: usize = 256;

/// The streams of one `velinsrc`.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    state: Mutex<State>,
    /// On their way into the mixer.
    joining: SegQueue<PlayerHalf>,
    /// Out of the mixer, to be freed by a thread that has the time.
    finished: SegQueue<PlayerHalf>,
    /// The last sender is gone, after there was one.
    pub(super) abandoned: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    output: Option<OutputFormat>,
    mix: Option<Arc<MixCounters>>,
    streams: HashMap<StreamKey, Entry>,
    /// Of streams that are over; some are still being played out.
    ending: Vec<Arc<StreamCounters>>,
    /// Of those that are silent for good, added up.
    ended: StreamStats,
    /// The place in the mix of streams that are over, by sender and name: who comes back sounds as
    /// before.
    memory: Memory<(PublicKey, String)>,
    /// For the first stream.
    trace: Option<TraceTap>,
}

impl State {
    fn remove(&mut self, key: &StreamKey) -> Option<Entry> {
        let entry = self.streams.remove(key)?;
        self.ending.push(entry.counters.clone());
        if let Some(controls) = entry.child.controls() {
            self.memory.keep((key.peer, entry.name.clone()), controls.settings());
        }
        Some(entry)
    }

    fn remove_all(&mut self) -> Vec<Stream> {
        let keys: Vec<_> = self.streams.keys().copied().collect();
        keys.iter().filter_map(|key| self.remove(key)).map(|entry| entry.child).collect()
    }

    /// Sets a new stream to what the user chose for the one before it.
    fn restore(&mut self, key: &StreamKey, name: &str, controls: &StreamControls) {
        if let Some(settings) = self.memory.recall(&(key.peer, name.to_owned())) {
            controls.set(settings);
        }
    }

    /// Adds up the streams that nobody counts any more.
    fn settle(&mut self) {
        let ended = &mut self.ended;
        self.ending.retain(|counters| {
            let counting = Arc::strong_count(counters) > 1;
            if !counting {
                add(ended, &counters.snapshot());
            }
            counting
        });
    }
}

/// One stream, playing or waiting for its sender to come back.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) peer: PeerInfo,
    pub(super) format: StreamFormat,
    pub(super) counters: Arc<StreamCounters>,
    pub(super) child: Stream,
    parked: Option<(ReceiverHalf, MonoTime)>,
}

impl Receiver {
    /// What the mixer plays from now on, and counts. Players made for another output are dropped;
    /// gives the children that go with them.
    pub(super) fn set_output(&self, output: OutputFormat, mix: Arc<MixCounters>) -> Vec<Stream> {
        let mut state = self.lock();
        state.output = Some(output);
        state.mix = Some(mix);
        let gone = state.remove_all();
        drop(state);
        while self.joining.pop().is_some() {}
        gone
    }

    /// The arrivals of the first stream from now on go into `trace`.
    pub(super) fn set_trace(&self, trace: TraceTap) {
        self.lock().trace = Some(trace);
    }

    /// Everything is over but what was set; gives the children that go.
    pub(super) fn clear(&self) -> Vec<Stream> {
        let gone = {
            let mut state = self.lock();
            let gone = state.remove_all();
            let memory = std::mem::take(&mut state.memory);
            *state = State { memory, ..State::default() };
            gone
        };
        while self.joining.pop().is_some() {}
        while self.finished.pop().is_some() {}
        self.abandoned.store(false, Ordering::Relaxed);
        gone
    }

    /// The next player that wants to join the mixer.
    pub(super) fn next_joining(&self) -> Option<PlayerHalf> {
        self.joining.pop()
    }

    /// Takes a player out of the streaming thread's hands.
    pub(super) fn dispose(&self, player: PlayerHalf) {
        self.finished.push(player);
    }

    /// Looks at every stream.
    pub(super) fn for_each(&self, mut f: impl FnMut(&StreamKey, &Entry)) {
        let state = self.lock();
        for (key, entry) in &state.streams {
            f(key, entry);
        }
    }

    /// The streams as children, in the order of their names.
    pub(super) fn children(&self) -> Vec<Stream> {
        let mut children: Vec<_> =
            self.lock().streams.values().map(|entry| entry.child.clone()).collect();
        children.sort_by_key(|child| child.name());
        children
    }

    /// What the mixer of this output did, once there is one.
    pub(super) fn mix(&self) -> Option<Arc<MixCounters>> {
        self.lock().mix.clone()
    }

    /// What the streams that are over had counted.
    pub(super) fn past(&self) -> StreamStats {
        let mut state = self.lock();
        state.settle();
        let mut sum = state.ended;
        for counters in &state.ending {
            add(&mut sum, &counters.snapshot());
        }
        // The delays of the living are what counts.
        StreamStats {
            delay: Duration::ZERO,
            target: Duration::ZERO,
            allowance: Duration::ZERO,
            rtt: Duration::ZERO,
            block: Duration::ZERO,
            codec: Duration::ZERO,
            jitter: Duration::ZERO,
            output: Duration::ZERO,
            drift_ppb: 0,
            ..sum
        }
    }

    /// Frees what nobody needs any more; gives the streams whose senders stayed away.
    fn sweep(&self) -> Vec<(StreamKey, Entry)> {
        while self.finished.pop().is_some() {}
        let now = now();
        let mut state = self.lock();
        let kept_too_long = |entry: &Entry| {
            entry.parked.as_ref().is_some_and(|(_, since)| now.since(*since) >= KEEP)
        };
        let over: Vec<_> =
            state.streams.iter().filter(|(_, e)| kept_too_long(e)).map(|(k, _)| *k).collect();
        let over = over.into_iter().filter_map(|key| Some((key, state.remove(&key)?))).collect();
        state.settle();
        over
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides about offered streams for one element.
#[derive(Clone)]
pub(super) struct Doorman {
    pub(super) element: gst::glib::WeakRef<VelinSrc>,
    pub(super) receiver: Arc<Receiver>,
}

impl Acceptor for Doorman {
    fn offered(&self, peer: &PeerInfo, offer: &StreamOffer) -> Verdict {
        self.sweep();
        let key = StreamKey { peer: peer.key, uuid: offer.uuid };
        // As they are now: the delay may change while the element plays.
        let Some(settings) = self.element.upgrade().map(|e| e.imp().settings().clone()) else {
            return Verdict::Refuse(CloseCode::BUSY);
        };
        let mtu = settings.link.mtu as usize;
        let mut state = self.receiver.lock();
        let Some(output) = state.output else { return Verdict::Refuse(CloseCode::BUSY) };
        let formats: Vec<_> = offer.formats.iter().map(|f| f.to_format(mtu)).collect();
        if let Some(resumed) = resume(&mut state, key, peer, &formats) {
            return resumed;
        }
        // Players wait for the streaming thread, which may be paused.
        if state.streams.len().max(self.receiver.joining.len()) >= MAX_STREAMS {
            return Verdict::Refuse(CloseCode::STREAM_LIMIT);
        }
        let others = state.streams.values().filter(|e| e.parked.is_none()).count();
        let mut refusal = None;
        for (index, format) in formats.into_iter().enumerate() {
            let Some(format) = format else { continue };
            match make(&settings, &format, output, others) {
                Ok((mut receiver, player, inexact)) => {
                    if let Some(trace) = state.trace.take() {
                        receiver.set_trace(trace);
                    }
                    let name = offer.name.to_string();
                    let (counters, controls) = (receiver.counters(), receiver.controls());
                    state.restore(&key, &name, controls);
                    let unique = unique_name(&name, state.streams.values());
                    let child =
                        Stream::new(&unique, key, &name, counters.clone(), controls.clone());
                    let entry = Entry {
                        name,
                        peer: peer.clone(),
                        format,
                        counters: counters.clone(),
                        child: child.clone(),
                        parked: None,
                    };
                    state.streams.insert(key, entry);
                    drop(state);
                    if let Some(element) = self.element.upgrade() {
                        element.child_added(&child, &unique);
                    }
                    self.announce("stream-added", peer, offer, inexact);
                    // Last, so that what those who were told have set holds from the first sample.
                    self.receiver.joining.push(player);
                    return Verdict::Accept { format: index as u8, receiver };
                }
                Err(e) => refusal = Some(e),
            }
        }
        drop(state);
        if let (Some(element), Some(e)) = (self.element.upgrade(), refusal) {
            gst::element_warning!(
                element,
                gst::StreamError::Format,
                ("The stream {} of {} was refused: {}", offer.name, peer.address, e)
            );
        }
        Verdict::Refuse(CloseCode::CAPS)
    }

    fn ended(&self, key: StreamKey, receiver: ReceiverHalf, resumable: bool) {
        let mut state = self.receiver.lock();
        let Some(entry) = state.streams.get_mut(&key) else { return };
        if !Arc::ptr_eq(&entry.counters, receiver.counters()) {
            // Another session has brought the stream anew since.
            return;
        }
        if resumable {
            entry.parked = Some((receiver, now()));
            let this = self.clone();
            link::later(KEEP, move || this.sweep());
            return;
        }
        let entry = state.remove(&key);
        drop(state);
        // Dropping the receiver lets the mixer play out what it has, then fade.
        drop(receiver);
        if let Some(entry) = entry {
            self.removed(key, &entry);
        }
    }
}

impl Doorman {
    /// Lets go of the streams whose senders stayed away.
    fn sweep(&self) {
        for (key, entry) in self.receiver.sweep() {
            self.removed(key, &entry);
        }
    }

    fn removed(&self, key: StreamKey, entry: &Entry) {
        let Some(element) = self.element.upgrade() else { return };
        element.child_removed(&entry.child, &entry.child.name());
        let structure = about_peer("stream-removed", &entry.peer)
            .field("stream", entry.name.as_str())
            .field("uuid", String::from(key.uuid.0));
        post(&element, structure.build());
    }

    fn announce(&self, event: &str, peer: &PeerInfo, offer: &StreamOffer, inexact: Option<String>) {
        let Some(element) = self.element.upgrade() else { return };
        let structure = about_peer(event, peer)
            .field("stream", offer.name.to_string())
            .field("uuid", String::from(offer.uuid.0));
        post(&element, structure.build());
        if let Some(reason) = inexact {
            let structure =
                gst::Structure::builder("velin/not-exact").field("reason", &reason).build();
            post(&element, structure);
            gst::element_warning!(
                element,
                gst::StreamError::Format,
                ("The output is not bit-exact: {}", reason)
            );
        }
    }
}

/// The halves of a stream; with the reason if it cannot be exact though it should.
fn make(
    wanted: &Settings,
    format: &StreamFormat,
    output: OutputFormat,
    others: usize,
) -> Result<(ReceiverHalf, PlayerHalf, Option<String>), StreamError> {
    let mut settings = StreamSettings {
        format: format.clone(),
        output,
        delay: wanted.delay(),
        drift: match wanted.drift {
            Drift::Resample => playout::Drift::Follow,
            // The first has the output's clock, the others follow it.
            Drift::Source if others > 0 => playout::Drift::Follow,
            Drift::Off if others > 0 => playout::Drift::Ignore,
            Drift::Source | Drift::Off => playout::Drift::Exact,
        },
        repair: wanted.repair.wish(),
    };
    let mut inexact = (wanted.drift == Drift::Off && others > 0)
        .then(|| "another stream plays already; exact output carries one stream".to_owned());
    let halves = match stream(settings.clone()) {
        Err(e @ (StreamError::NotExact { .. } | StreamError::NotExactCoded)) => {
            inexact = (wanted.drift == Drift::Off).then(|| e.to_string());
            settings.drift = playout::Drift::Ignore;
            stream(settings)?
        }
        other => other?,
    };
    Ok((halves.0, halves.1, inexact))
}

/// The sender is back with a stream that is still there.
fn resume(
    state: &mut State,
    key: StreamKey,
    peer: &PeerInfo,
    formats: &[Option<StreamFormat>],
) -> Option<Verdict> {
    let entry = state.streams.get_mut(&key)?;
    let index = formats.iter().position(|f| f.as_ref() == Some(&entry.format));
    let Some(index) = index else {
        state.remove(&key);
        return None;
    };
    match entry.parked.take() {
        Some((receiver, _)) => {
            entry.peer = peer.clone();
            Some(Verdict::Accept { format: index as u8, receiver })
        }
        // The link takes a stream out of its old session before it asks us.
        None => Some(Verdict::Refuse(CloseCode::BUSY)),
    }
}
