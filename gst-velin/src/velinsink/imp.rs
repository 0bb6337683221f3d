//! Properties and virtual methods of `velinsink`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use velin_core::codec::opus::OpusError;
use velin_core::entropy::Entropy;
use velin_core::identity::Name;
use velin_core::wire::{Hex, StreamUuid};

use super::coder::Coder;
use super::packetizer::{Packetizer, SendCounters};
use super::report::observer;
use super::settings::{Codec, PROPERTIES, Repair, Settings};
use crate::format::{PcmFormat, opus_caps, template_caps};
use crate::link::{Link, OsEntropy, OutStream, Outlet, StreamSpec};
use crate::link_options::{OpenLink, Seat};
use crate::messages::{post_listening, route_name};
use crate::uri::VelinUri;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("velinsink", gst::DebugColorFlags::empty(), Some("Velin sender"))
});

/// Input whose timestamps jump ahead by more than this left something out.
const MAX_JITTER: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// Paced input in larger buffers is sent in portions of this, each when it is due: a receiver has
/// no room for a second at once.
const SPOONFUL: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct VelinSink {
    settings: Mutex<Settings>,
    muted: AtomicBool,
    seat: Seat,
    /// From READY→PAUSED to PAUSED→READY.
    opened: Mutex<Option<Opened>>,
    /// Only the streaming thread, and state changes while it does not run.
    streaming: Mutex<Streaming>,
    counters: Arc<SendCounters>,
}

/// The link, and what is attached to it.
struct Opened {
    link: Arc<OpenLink>,
    /// For `stats` and for closing.
    stream: Option<Arc<OutStream>>,
}

#[derive(Default)]
struct Streaming {
    packetizer: Option<Packetizer>,
    pcm: Option<PcmFormat>,
    next_pts: Option<gst::ClockTime>,
    /// The element's `sync` before it was switched off for a live input.
    paced: Option<bool>,
}

#[glib::object_subclass]
impl ObjectSubclass for VelinSink {
    const NAME: &'static str = "GstVelinSink";
    type Type = super::VelinSink;
    type ParentType = gst_base::BaseSink;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for VelinSink {
    fn properties() -> &'static [glib::ParamSpec] {
        &PROPERTIES
    }

    fn constructed(&self) {
        self.parent_constructed();
        // BaseSink would add 20 ms to every live pipeline.
        self.obj().set_processing_deadline(gst::ClockTime::ZERO);
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let name = pspec.name();
        if name == "uri" {
            let result = match value.get::<Option<String>>() {
                Ok(Some(uri)) => self.set_uri(&uri),
                Ok(None) => Ok(()),
                Err(e) => Err(glib::Error::new(gst::URIError::BadUri, &e.to_string())),
            };
            if let Err(e) = result {
                gst::warning!(CAT, imp = self, "uri not set: {e}");
            }
            return;
        }
        let last = self.settings().last_state(name);
        let too_late = match last {
            gst::State::Null => self.seat.is_taken(),
            gst::State::Ready => self.opened().is_some(),
            _ => false,
        };
        if too_late {
            gst::warning!(CAT, imp = self, "{name} cannot change any more; set it in {last:?}");
            return;
        }
        let mut settings = self.settings();
        if !settings.set(name, value) {
            gst::warning!(CAT, imp = self, "{name} does not take {value:?}");
            return;
        }
        self.muted.store(settings.mute, Ordering::Relaxed);
        drop(settings);
        gst::info!(CAT, imp = self, "{name} = {value:?}");
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.stats().to_value(),
            "uri" => self.uri().to_value(),
            "current-port" => u32::from(self.current_port()).to_value(),
            name => self.settings().get(name).unwrap_or_else(|| pspec.default_value().clone()),
        }
    }
}

impl GstObjectImpl for VelinSink {}

impl ElementImpl for VelinSink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Velin sender",
                "Sink/Network/Audio",
                "Sends audio to a Velin receiver, encrypted, with low latency",
                "The Velin developers",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            gst::PadTemplate::new(
                "sink",
                gst::PadDirection::Sink,
                gst::PadPresence::Always,
                &template_caps(),
            )
            .into_iter()
            .collect()
        });
        TEMPLATES.as_ref()
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let failed = |message| {
            self.post_error_message(message);
            gst::StateChangeError
        };
        match transition {
            gst::StateChange::NullToReady => {
                let options = self.settings().link.clone();
                self.seat.take(&options).map_err(failed)?;
            }
            gst::StateChange::ReadyToPaused => self.open().map_err(failed)?,
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::NullToReady if result.is_err() => self.seat.leave(),
            gst::StateChange::ReadyToPaused if result.is_err() => self.close(),
            gst::StateChange::PausedToReady => self.close(),
            gst::StateChange::ReadyToNull => self.seat.leave(),
            _ => {}
        }
        result
    }
}

impl BaseSinkImpl for VelinSink {
    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        if self.settings().codec == Codec::Pcm {
            return self.parent_caps(filter);
        }
        let caps = opus_caps();
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            None => caps,
        })
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let pcm = gst_audio::AudioInfo::from_caps(caps)
            .ok()
            .and_then(|info| PcmFormat::from_info(&info))
            .ok_or_else(|| gst::loggable_error!(CAT, "cannot send {caps}"))?;
        let mut streaming = self.streaming();
        if streaming.pcm == Some(pcm) {
            return Ok(());
        }
        self.start_stream(&mut streaming, pcm)
            .map_err(|e| gst::loggable_error!(CAT, "cannot send {caps} as Opus: {e}"))?
            .ok_or_else(|| gst::loggable_error!(CAT, "the element is not in PAUSED"))
    }

    fn render(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        if self.streaming().paced.is_none() {
            // Asks upstream, so no lock is held.
            let paced = self.stop_pacing_if_live();
            self.streaming().paced = Some(paced);
        }
        let mut streaming = self.streaming();
        let map = buffer.map_readable().map_err(|_| {
            gst::element_imp_error!(self, gst::ResourceError::Read, ["cannot map a buffer"]);
            gst::FlowError::Error
        })?;
        let Streaming { packetizer: Some(packetizer), pcm: Some(pcm), next_pts, .. } =
            &mut *streaming
        else {
            return Err(gst::FlowError::NotNegotiated);
        };
        let mute = self.muted.load(Ordering::Relaxed);
        let rate = u64::from(pcm.rate.hz());
        if let (Some(pts), Some(expected)) = (buffer.pts(), *next_pts)
            && pts > expected + MAX_JITTER
        {
            let frames = (pts - expected).nseconds().saturating_mul(rate) / 1_000_000_000;
            gst::debug!(CAT, imp = self, "the input left out {frames} frames");
            packetizer.skip(frames, mute);
        }
        let frames = map.len() / pcm.frame_bytes();
        *next_pts = buffer.pts().map(|pts| pts + time_of(frames, *pcm));
        if buffer.flags().contains(gst::BufferFlags::GAP) {
            // What it holds is silence, whatever its bytes say.
            packetizer.push_silence(frames as u64, mute);
            return Ok(gst::FlowSuccess::Ok);
        }
        let pcm = *pcm;
        let spoonful = pcm.rate.frames_in(SPOONFUL) as usize * pcm.frame_bytes();
        let whole = frames * pcm.frame_bytes();
        if whole <= 2 * spoonful || !self.obj().is_sync() {
            packetizer.push(&map[..whole], mute);
            self.tell_failure(packetizer);
            return Ok(gst::FlowSuccess::Ok);
        }
        drop(streaming);
        for (i, bytes) in map[..whole].chunks(spoonful).enumerate() {
            if i > 0
                && let Some(pts) = buffer.pts()
            {
                self.wait_for(pts + time_of(i * spoonful / pcm.frame_bytes(), pcm))?;
            }
            let mute = self.muted.load(Ordering::Relaxed);
            if let Some(packetizer) = &mut self.streaming().packetizer {
                packetizer.push(bytes, mute);
            }
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn event(&self, event: gst::Event) -> bool {
        let mute = self.muted.load(Ordering::Relaxed);
        match event.view() {
            gst::EventView::Eos(_) => {
                if let Some(packetizer) = &mut self.streaming().packetizer {
                    packetizer.finish(mute);
                }
            }
            gst::EventView::Gap(gap) => self.push_gap(gap, mute),
            gst::EventView::FlushStop(_) => {
                let mut streaming = self.streaming();
                streaming.next_pts = None;
                if let Some(packetizer) = &mut streaming.packetizer {
                    packetizer.skip(0, mute);
                }
            }
            _ => {}
        }
        self.parent_event(event)
    }
}

impl URIHandlerImpl for VelinSink {
    const URI_TYPE: gst::URIType = gst::URIType::Sink;

    fn protocols() -> &'static [&'static str] {
        &["velin"]
    }

    fn uri(&self) -> Option<String> {
        Some(self.settings().to_uri().to_text())
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        if self.seat.is_taken() {
            return Err(glib::Error::new(
                gst::URIError::BadState,
                "the URI cannot change while running; set it in NULL",
            ));
        }
        let bad = |e: String| glib::Error::new(gst::URIError::BadUri, &e);
        let parsed = VelinUri::parse(uri).map_err(bad)?;
        let unknown = self.settings().apply_uri(&parsed).map_err(bad)?;
        for key in unknown {
            gst::warning!(CAT, imp = self, "the URI's {key} is unknown and ignored");
        }
        Ok(())
    }
}

impl VelinSink {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streaming(&self) -> MutexGuard<'_, Streaming> {
        self.streaming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files and has the link ready. Touches no network by itself.
    fn open(&self) -> Result<(), gst::ErrorMessage> {
        let options = self.settings().link.clone();
        let link = self.seat.open(&options)?;
        link.let_in().map_err(|e| gst::error_msg!(gst::ResourceError::Settings, ("{}", e)))?;
        let link = Arc::new(link);
        *self.opened() = Some(Opened { link: link.clone(), stream: None });
        if let Link::Listener(listener) = &link.link {
            post_listening(&*self.obj(), listener);
        }
        Ok(())
    }

    fn close(&self) {
        let opened = self.opened().take();
        if let Some(stream) = opened.as_ref().and_then(|o| o.stream.as_ref()) {
            stream.close();
        }
        drop(opened);
        let streaming = std::mem::take(&mut *self.streaming());
        if streaming.paced == Some(true) {
            self.obj().set_sync(true);
        }
    }

    fn current_port(&self) -> u16 {
        if let Some(listener) = self.seat.listener() {
            return listener.port();
        }
        let stream = self.opened().as_ref().and_then(|o| o.stream.clone());
        let outlets = stream.map(|s| s.outlets()).unwrap_or_default();
        outlets.first().map_or(0, |o| o.local_port())
    }

    /// Offers a new stream in place of the one before; `None` without a link to offer it on.
    fn start_stream(
        &self,
        streaming: &mut Streaming,
        pcm: PcmFormat,
    ) -> Result<Option<()>, OpusError> {
        let settings = self.settings().clone();
        let (coder, format) = Coder::new(&settings, pcm)?;
        let mut uuid = [0; 16];
        OsEntropy.fill(&mut uuid);
        let wished = settings.stream_name.unwrap_or_else(|| self.obj().name().to_string());
        let name = Name::normalized(&wished).or_else(|e| {
            gst::warning!(CAT, imp = self, "stream-name {wished:?}: {e}");
            Name::new("velin")
        });
        let (Ok(name), uuid) = (name, StreamUuid(Hex(uuid))) else { return Ok(None) };
        let repair = settings.repair == Repair::Auto;
        let spec = StreamSpec { name, uuid, format: format.clone(), repair };
        let mut opened = self.opened();
        let Some(opened) = opened.as_mut() else { return Ok(None) };
        if let Some(old) = opened.stream.take() {
            old.close();
        }
        let stream = opened.link.link.send(spec, observer(&self.obj(), &opened.link));
        opened.stream = Some(stream.clone());
        gst::info!(CAT, imp = self, "sending {format:?}");
        let (bundle, counters) = (settings.bundle, self.counters.clone());
        streaming.packetizer = Some(Packetizer::new(pcm, coder, format, bundle, stream, counters));
        streaming.pcm = Some(pcm);
        streaming.next_pts = None;
        Ok(Some(()))
    }

    /// The codec went wrong, which it never should: said once, and silence is sent meanwhile.
    fn tell_failure(&self, packetizer: &mut Packetizer) {
        if let Some(e) = packetizer.take_failure() {
            gst::element_imp_warning!(self, gst::StreamError::Encode, ["{e}"]);
        }
    }

    /// Waits until a stream time is due, as the base class did for the start of the buffer.
    fn wait_for(&self, pts: gst::ClockTime) -> Result<(), gst::FlowError> {
        let obj = self.obj();
        let segment = obj.segment().downcast::<gst::ClockTime>().ok();
        let Some(time) = segment.and_then(|s| s.to_running_time(pts)) else { return Ok(()) };
        obj.wait(time).0.map(|_| ())
    }

    /// A live input is sent the moment it arrives; whatever else is in the pipeline must not hold
    /// it back. Gives whether pacing was on and is off now.
    fn stop_pacing_if_live(&self) -> bool {
        let obj = self.obj();
        let live = obj.query_latency().is_ok_and(|(_, upstream_live, _, _)| upstream_live);
        if live && obj.is_sync() {
            gst::info!(CAT, imp = self, "the input is live: sending on arrival");
            obj.set_sync(false);
            return true;
        }
        false
    }

    fn push_gap(&self, gap: &gst::event::Gap, mute: bool) {
        let mut streaming = self.streaming();
        let Streaming { packetizer: Some(packetizer), pcm: Some(pcm), next_pts, .. } =
            &mut *streaming
        else {
            return;
        };
        let (pts, Some(duration)) = gap.get() else { return };
        let rate = u64::from(pcm.rate.hz());
        let frames = duration.nseconds().saturating_mul(rate) / 1_000_000_000;
        // Whoever announces hours of silence means a jump.
        if duration > gst::ClockTime::from_seconds(10) {
            packetizer.skip(frames, mute);
        } else {
            packetizer.push_silence(frames, mute);
        }
        *next_pts = Some(pts + duration);
    }

    fn stats(&self) -> gst::Structure {
        let c = &self.counters;
        let opened = self.opened().as_ref().map(|o| (o.link.clone(), o.stream.clone()));
        let (link, stream) = opened.unzip();
        let outlets = stream.flatten().map(|s| s.outlets()).unwrap_or_default();
        let state = if outlets.is_empty() { "disconnected" } else { "streaming" };
        let first = outlets.first();
        let figures = link.as_ref().map(|l| l.figures()).unwrap_or_default();
        let builder = gst::Structure::builder("application/x-velin-sink-stats")
            .field("session-state", state)
            .field("sessions", link.map_or(0, |l| l.sessions()))
            .field("route", first.map_or("none", |o| route_name(o.route())))
            .field("uptime-ms", first.map_or(0, |o| millis(o.uptime())))
            .field("receivers", gst::List::from_iter(outlets.iter().map(|o| receiver(o))))
            .field("bit-rate", c.bit_rate.load(Ordering::Relaxed))
            .field("codec-bit-rate", c.codec_bit_rate.load(Ordering::Relaxed))
            .field("frames", c.frames.load(Ordering::Relaxed))
            .field("packets-sent", c.blocks.load(Ordering::Relaxed))
            .field("packets-dropped", c.dropped.load(Ordering::Relaxed))
            .field("bytes-sent", c.bytes.load(Ordering::Relaxed));
        figures.put(builder).build()
    }
}

/// What one receiver of the stream was sent.
fn receiver(outlet: &Outlet) -> glib::SendValue {
    let (packets, bytes) = outlet.sent();
    let (queued, dropped) = outlet.tcp_queue();
    let answers = outlet.answers();
    // Until the first report, all is well as far as is known.
    let report = outlet.report().unwrap_or_default();
    gst::Structure::builder("application/x-velin-receiver-stats")
        .field("peer", outlet.peer().recipient())
        .field("route", route_name(outlet.route()))
        .field("uptime-ms", millis(outlet.uptime()))
        .field("packets-sent", packets)
        .field("bytes-sent", bytes)
        .field("tcp-unsent-bytes", outlet.tcp_unsent())
        .field("tcp-queued-ms", millis(queued))
        .field("tcp-packets-dropped", dropped)
        .field("nacks", answers.requests)
        .field("resent", answers.resent)
        .field("resend-refused", answers.refused)
        .field("lost", report.lost)
        .field("by-retransmission", report.by_retransmit)
        .field("by-redundancy", report.by_redundancy)
        .field("late", report.late)
        .field("delay-us", report.level_us)
        .field("target-us", report.target_us)
        .field("drift-ppm", f64::from(report.drift_ppb) / 1_000.0)
        .build()
        .to_send_value()
}

/// How long `frames` last.
fn time_of(frames: usize, pcm: PcmFormat) -> gst::ClockTime {
    gst::ClockTime::try_from(pcm.rate.duration_of(frames as u64)).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
