//! Properties and virtual methods of `velinsrc`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;
use velin_core::playout::{OutputFormat, RenderTime};

use super::child::Stream;
use super::device_clock;
use super::receiver::{Doorman, Receiver};
use super::report::observer;
use super::settings::{Drift, PROPERTIES, Settings};
use super::small_buffers::least_period;
use super::stats;
use super::streaming::{Now, Streaming};
use super::timing::{CATCH_UP, Lead, Nap, Output, Pace, Timeline};
use crate::format::{PcmFormat, template_caps};
use crate::link::{self, Intake, Link, Recorded, StreamFilter};
use crate::link_options::{OpenLink, Seat};
use crate::messages::post_listening;
use crate::uri::VelinUri;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("velinsrc", gst::DebugColorFlags::empty(), Some("Velin receiver"))
});

/// What a buffer may be late for scheduling reasons, reported as latency.
const ALLOWANCE: gst::ClockTime = gst::ClockTime::from_mseconds(1);

/// How long READY→PAUSED waits for caps to go downstream, so that a sink knows its format and can
/// offer its clock. Nothing in it waits for the network.
const CAPS_WAIT: Duration = Duration::from_millis(200);

#[derive(Default)]
pub struct VelinSrc {
    settings: Mutex<Settings>,
    seat: Seat,
    /// From READY→PAUSED to PAUSED→READY.
    opened: Mutex<Option<Opened>>,
    /// Only the streaming thread, and state changes while it does not run.
    streaming: Mutex<Option<Streaming>>,
    /// What `unlock` needs; never held while waiting.
    wait: Mutex<Wait>,
    woken: Condvar,
    negotiated: Mutex<bool>,
    negotiation: Condvar,
    receiver: Arc<Receiver>,
    /// The pipeline's latency, in ns: what the sink buffers, for the most part.
    latency: AtomicU64,
}

/// The link, and what is attached to it.
struct Opened {
    link: Arc<OpenLink>,
    filter: StreamFilter,
    intake: Option<Arc<Intake>>,
}

#[derive(Default)]
struct Wait {
    flushing: bool,
    /// PLAYING→PAUSED is on its way through the base class.
    pausing: bool,
    /// In PAUSED the streaming thread stays where it is: if it left to pause its task, and that took
    /// longer than going on, the task would be paused for good.
    paused: bool,
    /// How often it was interrupted.
    interruptions: u64,
    clock_id: Option<gst::SingleShotClockId>,
}

#[glib::object_subclass]
impl ObjectSubclass for VelinSrc {
    const NAME: &'static str = "GstVelinSrc";
    type Type = super::VelinSrc;
    type ParentType = gst_base::PushSrc;
    type Interfaces = (gst::URIHandler, gst::ChildProxy);
}

impl ObjectImpl for VelinSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        &PROPERTIES
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_live(true);
        obj.set_format(gst::Format::Time);
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
        if self.settings().set(name, value) {
            gst::info!(CAT, imp = self, "{name} = {value:?}");
        } else {
            gst::warning!(CAT, imp = self, "{name} does not take {value:?}");
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let link = self.opened().as_ref().map(|o| o.link.clone());
                let listener = self.seat.listener();
                stats::structure(&self.receiver, listener.as_deref(), link.as_deref()).to_value()
            }
            "uri" => self.uri().to_value(),
            "current-port" => self.seat.listener().map_or(0, |l| u32::from(l.port())).to_value(),
            name => self.settings().get(name).unwrap_or_else(|| pspec.default_value().clone()),
        }
    }
}

impl GstObjectImpl for VelinSrc {}

impl ElementImpl for VelinSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Velin receiver",
                "Source/Network/Audio",
                "Receives and mixes audio from Velin senders, encrypted, with low latency",
                "The Velin developers",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            gst::PadTemplate::new(
                "src",
                gst::PadDirection::Src,
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
        self.wait().pausing = transition == gst::StateChange::PlayingToPaused;
        let result = self.parent_change_state(transition);
        self.wait().pausing = false;
        if transition == gst::StateChange::PausedToPlaying {
            // Not every GStreamer says so by `unlock_stop`: in 1.28 the streaming thread itself
            // calls it, once it has returned.
            self.wait().paused = false;
            self.woken.notify_all();
        }
        match transition {
            gst::StateChange::NullToReady if result.is_err() => self.seat.leave(),
            gst::StateChange::ReadyToPaused if result.is_err() => self.close(),
            gst::StateChange::ReadyToPaused => self.wait_for_caps(),
            gst::StateChange::PausedToReady => self.close(),
            gst::StateChange::ReadyToNull => self.seat.leave(),
            _ => {}
        }
        result
    }
}

impl BaseSrcImpl for VelinSrc {
    fn is_seekable(&self) -> bool {
        false
    }

    fn negotiate(&self) -> Result<(), gst::LoggableError> {
        let result = self.parent_negotiate();
        *self.negotiated.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.negotiation.notify_all();
        result
    }

    fn fixate(&self, mut caps: gst::Caps) -> gst::Caps {
        caps.truncate();
        {
            let caps = caps.make_mut();
            if let Some(s) = caps.structure_mut(0) {
                s.fixate_field_str("format", gst_audio::AudioFormat::F32le.to_str());
                s.fixate_field_nearest_int("rate", 48_000);
                s.fixate_field_nearest_int("channels", 2);
                // Whoever asks for a number of channels means their usual places.
                let channels = s.get::<i32>("channels").ok().and_then(|n| u32::try_from(n).ok());
                if let Some(channels) = channels.filter(|n| *n > 2 && !s.has_field("channel-mask"))
                {
                    let mask = gst_audio::AudioChannelPosition::fallback_mask(channels);
                    s.set("channel-mask", gst::Bitmask::new(mask));
                }
            }
        }
        self.parent_fixate(caps)
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let pcm = gst_audio::AudioInfo::from_caps(caps)
            .ok()
            .and_then(|info| PcmFormat::from_info(&info))
            .ok_or_else(|| gst::loggable_error!(CAT, "cannot play {caps}"))?;
        let least_period = least_period(&self.obj());
        let (first, mix) = {
            let mut streaming = self.streaming();
            if streaming.as_ref().is_some_and(|s| s.pcm == pcm) {
                return Ok(());
            }
            let first = streaming.is_none();
            let (period, drift) = {
                let settings = self.settings();
                (settings.output_period.max(least_period), settings.drift)
            };
            let follows_sender = drift == Drift::Source;
            let new = streaming.insert(Streaming::new(pcm, period, follows_sender, caps)?);
            (first, new.mixer.counters().clone())
        };
        let output = OutputFormat { rate: pcm.rate, map: pcm.map };
        self.children_go(self.receiver.set_output(output, mix));
        if !first {
            // The players were made for the old output. The senders come again within a second.
            gst::info!(CAT, imp = self, "another output: starting afresh");
        }
        self.attach()
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Latency(q) = query.view_mut() {
            // A period is handed out when its first frame is due. The playout delay is not in it: the
            // sink would add it once more.
            q.set(true, ALLOWANCE, gst::ClockTime::NONE);
            return true;
        }
        BaseSrcImplExt::parent_query(self, query)
    }

    fn event(&self, event: &gst::Event) -> bool {
        if let gst::EventView::Latency(event) = event.view() {
            self.latency.store(event.latency().nseconds(), Ordering::Relaxed);
        }
        self.parent_event(event)
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        let mut wait = self.wait();
        if wait.pausing {
            wait.paused = true;
        } else {
            wait.flushing = true;
        }
        wait.interruptions = wait.interruptions.wrapping_add(1);
        if let Some(id) = wait.clock_id.take() {
            id.unschedule();
        }
        self.woken.notify_all();
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        let mut wait = self.wait();
        wait.flushing = false;
        wait.paused = false;
        self.woken.notify_all();
        Ok(())
    }
}

impl PushSrcImpl for VelinSrc {
    fn create(
        &self,
        _buffer: Option<&mut gst::BufferRef>,
    ) -> Result<CreateSuccess, gst::FlowError> {
        loop {
            if self.receiver.abandoned.load(Ordering::Relaxed) {
                return Err(gst::FlowError::Eos);
            }
            if let Some(buffer) = self.next_period()? {
                return Ok(CreateSuccess::NewBuffer(buffer));
            }
        }
    }
}

impl VelinSrc {
    /// Waits until the next period is due and plays it; `None` if there was a pause meanwhile, after
    /// which it is another time.
    fn next_period(&self) -> Result<Option<gst::Buffer>, gst::FlowError> {
        let (clock, base_time) = self.time_base()?;
        let mut streaming = self.streaming();
        let streaming = streaming.as_mut().ok_or(gst::FlowError::NotNegotiated)?;
        if streaming.pace.as_ref().is_none_or(|pace| *pace.clock() != clock) {
            streaming.pace = Some(Pace::new(clock.clone()));
        }
        let pace = streaming.pace.as_mut().ok_or(gst::FlowError::Error)?;

        let buffered = gst::ClockTime::from_nseconds(self.latency.load(Ordering::Relaxed));
        let output = Output { playing: streaming.playing, buffered };
        let mut now = Now::read(pace, output, base_time);
        let mut timeline = match streaming.timeline {
            // The first buffer never waits.
            None => Timeline::new(now.running, streaming.pcm.rate),
            Some(timeline) => {
                let period = streaming.pcm.rate.duration_of(streaming.period);
                let limit = CATCH_UP + gst::ClockTime::try_from(period).unwrap_or_default();
                if streaming.lead.wanted(timeline.due()) > now.running + limit {
                    // The running time began anew, for instance after a flush.
                    gst::info!(CAT, imp = self, "the running time went back: going on from now");
                    streaming.discont = true;
                    streaming.lead = Lead::default();
                    Timeline::new(now.running, streaming.pcm.rate)
                } else {
                    let wanted = streaming.lead.wanted(timeline.due());
                    let early = wanted.saturating_sub(now.running);
                    if !self.nap(pace.wait_for(now.pair, early))? {
                        return Ok(None);
                    }
                    now = Now::read(pace, output, base_time);
                    timeline
                }
            }
        };
        let wanted = streaming.lead.wanted(timeline.due());
        let mut late = now.running.saturating_sub(wanted);
        let early = wanted.saturating_sub(now.running);
        if late > CATCH_UP {
            gst::warning!(CAT, imp = self, "{late} late: going on from now");
            timeline = Timeline::new(now.running, streaming.pcm.rate);
            streaming.lead = Lead::default();
            streaming.discont = true;
            late = gst::ClockTime::ZERO;
        }
        let when =
            RenderTime { mono: now.pair.mono - Duration::from(late) + Duration::from(early) };
        if !streaming.clock_checked && timeline.frame() >= u64::from(streaming.pcm.rate.hz()) {
            streaming.clock_checked = true;
            // Posting a message is nothing for this thread, nor under its lock.
            self.obj().call_async(move |element| device_clock::check(element, &clock));
        }

        while let Some(player) = self.receiver.next_joining() {
            if let Err(player) = streaming.mixer.add(player) {
                self.receiver.dispose(player);
            }
        }
        let buffer = streaming.render(when, &mut timeline)?;
        while let Some(player) = streaming.mixer.take_finished() {
            self.receiver.dispose(player);
        }
        streaming.timeline = Some(timeline);
        Ok(Some(buffer))
    }
}

impl URIHandlerImpl for VelinSrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

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

impl ChildProxyImpl for VelinSrc {
    fn children_count(&self) -> u32 {
        self.receiver.children().len() as u32
    }

    fn child_by_index(&self, index: u32) -> Option<glib::Object> {
        self.receiver.children().into_iter().nth(index as usize).map(|child| child.upcast())
    }

    fn child_by_name(&self, name: &str) -> Option<glib::Object> {
        let mut children = self.receiver.children().into_iter();
        children.find(|child| child.name() == name).map(|child| child.upcast())
    }
}

impl VelinSrc {
    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streaming(&self) -> MutexGuard<'_, Option<Streaming>> {
        self.streaming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> MutexGuard<'_, Wait> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files and has the link ready. Touches no network by itself.
    fn open(&self) -> Result<(), gst::ErrorMessage> {
        let settings = self.settings().clone();
        let filter = settings
            .filter()
            .map_err(|e| gst::error_msg!(gst::ResourceError::Settings, ("{}", e)))?;
        let link = Arc::new(self.seat.open(&settings.link)?);
        if let Some(path) = &settings.trace_file {
            self.record(path)?;
        }
        *self.opened() = Some(Opened { link, filter, intake: None });
        *self.negotiated.lock().unwrap_or_else(PoisonError::into_inner) = false;
        Ok(())
    }

    /// Begins to write down when the blocks of the first stream arrive.
    fn record(&self, path: &str) -> Result<(), gst::ErrorMessage> {
        let (element, file) = (self.obj().downgrade(), path.to_owned());
        let trace = link::record(Path::new(path), move |recorded: Recorded| {
            let Some(element) = element.upgrade() else { return };
            let Recorded { blocks, dropped, error } = recorded;
            gst::info!(CAT, obj = element, "{file}: {blocks} blocks, {dropped} not recorded");
            let problem = error.map(|e| format!("it ended early: {e}"));
            let slow = || format!("the disk was too slow for {dropped} of its blocks");
            if let Some(problem) = problem.or_else(|| (dropped > 0).then(slow)) {
                gst::element_warning!(
                    element,
                    gst::ResourceError::Write,
                    ("The trace file {} is not whole: {}", file, problem)
                );
            }
        });
        let trace = trace.map_err(|e| gst::error_msg!(gst::ResourceError::OpenWrite, ("{}", e)))?;
        self.receiver.set_trace(trace);
        Ok(())
    }

    fn close(&self) {
        // The ports of a listener stay taken until NULL.
        let opened = self.opened().take();
        if let Some(intake) = opened.as_ref().and_then(|o| o.intake.as_ref()) {
            intake.close();
        }
        drop(opened);
        *self.streaming() = None;
        self.children_go(self.receiver.clear());
    }

    fn children_go(&self, children: Vec<Stream>) {
        for child in children {
            self.obj().child_removed(&child, &child.name());
        }
    }

    /// Plays what comes over the link, now that the output is known.
    fn attach(&self) -> Result<(), gst::LoggableError> {
        let opened =
            self.opened().as_mut().map(|o| (o.link.clone(), o.filter.clone(), o.intake.take()));
        let Some((link, filter, before)) = opened else {
            return Err(gst::loggable_error!(CAT, "the element is not in PAUSED"));
        };
        if let Some(before) = before {
            before.close();
        }
        let obj = self.obj();
        let doorman = Doorman { element: obj.downgrade(), receiver: self.receiver.clone() };
        let observer = observer(&obj, &link, self.receiver.clone());
        let intake = link.link.receive(filter, Arc::new(doorman), observer);
        if let Some(opened) = &mut *self.opened() {
            opened.intake = Some(intake);
        }
        if let Err(e) = link.let_in() {
            let message = gst::error_msg!(gst::ResourceError::Settings, ("{}", e));
            self.post_error_message(message);
            return Err(gst::loggable_error!(CAT, "{e}"));
        }
        if let Link::Listener(listener) = &link.link {
            post_listening(&*obj, listener);
        }
        Ok(())
    }

    fn wait_for_caps(&self) {
        if !self.obj().src_pad().is_linked() {
            return;
        }
        let negotiated = self.negotiated.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = Instant::now();
        let waited = self.negotiation.wait_timeout_while(negotiated, CAPS_WAIT, |done| !*done);
        if waited.is_ok_and(|(done, _)| !*done) {
            gst::info!(CAT, imp = self, "no caps yet: the sink may not offer its clock");
            return;
        }
        // Behind a queue they come a moment later.
        while !device_clock::is_ready(&self.obj()) && begin.elapsed() < CAPS_WAIT {
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// The pipeline's clock, or the system's in an application that runs without one.
    fn time_base(&self) -> Result<(gst::Clock, gst::ClockTime), gst::FlowError> {
        let obj = self.obj();
        let clock = obj.clock().unwrap_or_else(gst::SystemClock::obtain);
        let base_time = obj.base_time().unwrap_or(gst::ClockTime::ZERO);
        Ok((clock, base_time))
    }

    /// Waits; `false` if there was a pause meanwhile, which is over.
    fn nap(&self, nap: Nap) -> Result<bool, gst::FlowError> {
        let mut wait = self.wait();
        let before = (!wait.paused).then_some(wait.interruptions);
        match nap {
            _ if wait.paused || wait.flushing => {}
            Nap::For(time) => {
                let waits = |wait: &mut Wait| before == Some(wait.interruptions);
                let waited = self.woken.wait_timeout_while(wait, time, waits);
                wait = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            Nap::Until(id) => {
                wait.clock_id = Some(id.clone());
                drop(wait);
                // Woken in time or not: the rest says which.
                let _ = id.wait();
                wait = self.wait();
                wait.clock_id = None;
            }
        }
        let paused = |wait: &mut Wait| wait.paused && !wait.flushing;
        wait = self.woken.wait_while(wait, paused).unwrap_or_else(PoisonError::into_inner);
        if wait.flushing {
            return Err(gst::FlowError::Flushing);
        }
        Ok(before == Some(wait.interruptions))
    }
}
