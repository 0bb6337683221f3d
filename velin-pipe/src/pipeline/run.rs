//! Running what was built: one loop on the main thread for the messages of all pipelines.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use gst::MessageView;
use gst::prelude::*;
use serde_json::{Value, json};

use super::build::{self, Built};
use super::clock::{ClockCheck, ClockGuard};
use super::console::Console;
use super::{explain, stats};
use crate::error::{Error, exit};
use crate::plan::{Direction, Plan};
use crate::preset::diagnostic::Sources;

/// How long a clean end may take: files are finished and peers are told in this time.
const END: Duration = Duration::from_secs(2);
/// How often signals, the clock and the time are looked at.
const TICK: Duration = Duration::from_millis(50);

/// What [`run`] is told besides the plan.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// What the first line says.
    pub title: String,
    /// End by itself after this long.
    pub duration: Option<Duration>,
    /// Where the summary goes.
    pub stats_json: Option<PathBuf>,
}

/// Builds and runs `plan` until it ends, fails, its time is up or a signal ends it.
///
/// # Errors
/// What cannot be built, and the first error of any element. The summary is written either way.
pub fn run(plan: &Plan, sources: &Arc<Sources>, options: &RunOptions) -> Result<(), Error> {
    let built = build::build(plan, sources)?;
    let stop = watch_signals()?;
    let mut runner = Runner::new(built, stop, options.duration);
    runner.console.line(&options.title, runner.started);
    let result = runner.run();
    runner.console.clear();
    let summary = runner.summary(result.as_ref().err());
    runner.shut_down();
    if let Some(path) = &options.stats_json {
        write_summary(path, &summary)?;
    }
    result
}

/// The first SIGINT or SIGTERM sets the flag; a second one ends the process at once.
fn watch_signals() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the exit looks at the flag before the same signal sets it.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            i32::from(exit::INTERRUPTED),
            Arc::clone(&stop),
        )
        .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
        .map_err(|error| Error::Unusable {
            message: format!("signals cannot be watched: {error}"),
            help: "this is a fault of the system the program runs on".to_owned(),
        })?;
    }
    Ok(stop)
}

struct Runner {
    pipelines: Vec<Running>,
    messages: Receiver<(usize, gst::Message)>,
    console: Console,
    stop: Arc<AtomicBool>,
    started: Instant,
    duration: Option<Duration>,
    /// Since when everything is being ended, if it is.
    ending: Option<Instant>,
    first_error: Option<Error>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

struct Running {
    built: Built,
    clock: ClockGuard,
    has_level: bool,
    level_db: Option<f64>,
    clock_name: Option<String>,
    announced: bool,
    /// Whether a looped source was told where its end is.
    loop_set: bool,
    ended: bool,
}

impl Runner {
    fn new(built: Vec<Built>, stop: Arc<AtomicBool>, duration: Option<Duration>) -> Self {
        let (sender, messages) = channel();
        let mut pipelines = Vec::new();
        for (index, built) in built.into_iter().enumerate() {
            let sender = sender.clone();
            if let Some(bus) = built.pipeline.bus() {
                bus.set_sync_handler(move |_, message| {
                    // The loop may be gone already; then nobody needs the message.
                    let _ = sender.send((index, message.to_owned()));
                    gst::BusSyncReply::Drop
                });
            }
            pipelines.push(Running {
                has_level: built
                    .pipeline
                    .iterate_all_by_element_factory_name("level")
                    .next()
                    .is_ok_and(|level| level.is_some()),
                built,
                clock: ClockGuard::default(),
                level_db: None,
                clock_name: None,
                announced: false,
                loop_set: false,
                ended: false,
            });
        }
        let started = Instant::now();
        Self {
            pipelines,
            messages,
            console: Console::new(started),
            stop,
            started,
            duration,
            ending: None,
            first_error: None,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        for index in 0..self.pipelines.len() {
            self.start(index);
        }
        loop {
            match self.messages.recv_timeout(TICK) {
                Ok((index, message)) => self.handle(index, &message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tick(Instant::now());
            if self.pipelines.iter().all(|pipeline| pipeline.ended) {
                break;
            }
        }
        self.first_error.take().map_or(Ok(()), Err)
    }

    fn start(&mut self, index: usize) {
        let built = &self.pipelines[index].built;
        // A loop is set up while its start is waiting; PLAYING follows then.
        let state = if built.looped { gst::State::Paused } else { gst::State::Playing };
        if built.pipeline.set_state(state).is_err() {
            self.state_change_failed(index);
        }
    }

    /// The reason is on the bus, if the element gave one.
    fn state_change_failed(&mut self, index: usize) {
        let deadline = Instant::now() + Duration::from_millis(200);
        while self.first_error.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok((from, message)) => self.handle(from, &message),
                Err(_) => break,
            }
        }
        if self.first_error.is_none() {
            let element = self.pipelines[index].built.name.clone();
            self.fail(
                index,
                Error::Pipeline {
                    element,
                    message: "the pipeline does not start, and no element says why".to_owned(),
                    help: "GST_DEBUG=3 shows what happened before that".to_owned(),
                },
            );
        }
    }

    fn handle(&mut self, index: usize, message: &gst::Message) {
        let now = Instant::now();
        let pipeline = self.pipelines[index].built.pipeline.clone();
        let from_pipeline = message.src() == Some(pipeline.upcast_ref());
        match message.view() {
            MessageView::Error(message) => {
                let debug = message.debug();
                let error = explain::error(message.src(), &message.error(), debug.as_deref());
                self.fail(index, error);
            }
            MessageView::Warning(message) => {
                let name =
                    message.src().map_or_else(String::new, |src| format!("{}: ", src.name()));
                let text = format!("warning: {name}{}", message.error().message());
                self.console.line(&text, now);
                self.warnings.push(text);
                // A summary is read by people: the first ones tell the story.
                self.warnings.truncate(100);
            }
            MessageView::Eos(_) => self.ended(index, now),
            MessageView::Latency(_) => {
                // Failing means that the pipeline changes right now and asks again.
                let _ = pipeline.recalculate_latency();
            }
            MessageView::ClockLost(_) => {
                self.console.line("the clock was lost; choosing another one", now);
                self.pipelines[index].clock.lost(now);
                let restarted = pipeline
                    .set_state(gst::State::Paused)
                    .and_then(|_| pipeline.set_state(gst::State::Playing));
                if restarted.is_err() {
                    self.state_change_failed(index);
                }
            }
            MessageView::RequestState(message) => {
                let asked = message.requested_state();
                if pipeline.set_state(asked).is_err() {
                    self.state_change_failed(index);
                }
            }
            MessageView::Progress(message) => {
                let (_, code, text) = message.get();
                self.console.line(&format!("{code}: {text}"), now);
            }
            MessageView::StateChanged(message)
                if from_pipeline && message.current() == gst::State::Playing =>
            {
                self.pipelines[index].clock.playing(now);
            }
            MessageView::AsyncDone(_)
                if self.pipelines[index].built.looped && !self.pipelines[index].loop_set =>
            {
                self.pipelines[index].loop_set = true;
                self.play_from_start(index, gst::SeekFlags::FLUSH);
            }
            MessageView::SegmentDone(_) if self.ending.is_none() => {
                self.play_from_start(index, gst::SeekFlags::empty());
            }
            // A loop ends with a segment, never with EOS.
            MessageView::SegmentDone(_) => self.ended(index, now),
            MessageView::Element(message) => {
                if let Some(structure) = message.structure() {
                    self.element_message(index, structure, now);
                }
            }
            _ => {}
        }
    }

    fn element_message(&mut self, index: usize, structure: &gst::StructureRef, now: Instant) {
        if let Some(db) = stats::level_db(structure) {
            self.pipelines[index].level_db = Some(db);
            return;
        }
        if let Some(event) = structure.name().strip_prefix("velin/") {
            let mut text = event.replace('-', " ");
            for (name, value) in structure.iter() {
                if let Ok(value) = value.serialize() {
                    text += &format!("  {name}={value}");
                }
            }
            self.console.line(&text, now);
        }
    }

    /// Lets a looped source begin again, or for the first time.
    fn play_from_start(&mut self, index: usize, flags: gst::SeekFlags) {
        let pipeline = self.pipelines[index].built.pipeline.clone();
        let sought = pipeline.seek(
            1.0,
            flags | gst::SeekFlags::SEGMENT,
            gst::SeekType::Set,
            gst::ClockTime::ZERO,
            gst::SeekType::None,
            gst::ClockTime::NONE,
        );
        if sought.is_err() {
            let text = "warning: this file cannot be played in a loop; it is played once";
            self.console.line(text, Instant::now());
            self.warnings.push(text.to_owned());
        }
        if pipeline.set_state(gst::State::Playing).is_err() {
            self.state_change_failed(index);
        }
    }

    fn tick(&mut self, now: Instant) {
        if self.stop.load(Ordering::Relaxed) {
            self.end_all(now);
        }
        if self.duration.is_some_and(|duration| now.duration_since(self.started) >= duration) {
            self.end_all(now);
        }
        if self.ending.is_some_and(|since| now.duration_since(since) >= END) {
            for pipeline in self.pipelines.iter_mut().filter(|pipeline| !pipeline.ended) {
                pipeline.ended = true;
                let name = &pipeline.built.name;
                self.warnings.push(format!("warning: {name} did not end within 2 s"));
            }
        }
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| !pipeline.ended) {
            let Running { built, clock, clock_name, .. } = pipeline;
            // A capture's own clock is chosen by GStreamer already.
            if built.direction == Direction::Receive
                && self.ending.is_none()
                && clock.check(&built.pipeline, now) == ClockCheck::NotOffered
            {
                let text = "warning: the output's clock cannot be had; expect a jump of 20 ms every few minutes";
                self.console.line(text, now);
                self.warnings.push(text.to_owned());
            }
            if let Some(clock) = built.pipeline.clock() {
                *clock_name = Some(clock.name().to_string());
            }
        }
        for index in 0..self.pipelines.len() {
            self.announce(index, now);
        }
        if self.console.is_due(now) && self.ending.is_none() {
            let line = self.live_line();
            self.console.live(&line);
        }
    }

    /// Says once what a pipeline runs on.
    fn announce(&mut self, index: usize, now: Instant) {
        let running = &self.pipelines[index];
        let settled = running.clock.is_settled(running.built.direction);
        if running.announced || running.ended || !settled {
            return;
        }
        let name = &running.built.name;
        let clock = running.clock_name.as_deref().unwrap_or("no clock");
        let mut text = format!("{name}: playing on {clock}");
        let mut query = gst::query::Latency::new();
        if running.built.pipeline.query(&mut query) {
            let (live, min, _) = query.result();
            if live {
                let millis = min.nseconds() as f64 / 1e6;
                text += &format!(", pipeline latency {millis:.1} ms");
            }
        }
        self.pipelines[index].announced = true;
        self.console.line(&text, now);
    }

    fn live_line(&self) -> String {
        // What is heard is of more interest than what is sent.
        let heard = self.pipelines.iter().any(|p| p.built.direction == Direction::Receive);
        let shown = if heard { Direction::Receive } else { Direction::Send };
        let mut figures = stats::Figures::default();
        let mut level: Option<f64> = None;
        for pipeline in self.pipelines.iter().filter(|p| p.built.direction == shown) {
            let elements = stats::of(&pipeline.built.pipeline);
            let own = stats::Figures::of(elements.iter().map(|(_, stats)| stats.as_ref()));
            figures = figures.and(own);
            level = match (level, pipeline.level_db) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
        figures.line(level)
    }

    /// A pipeline has come to its end by itself or because it was asked to.
    fn ended(&mut self, index: usize, now: Instant) {
        self.pipelines[index].ended = true;
        let mut senders =
            self.pipelines.iter().filter(|p| p.built.direction == Direction::Send).peekable();
        // When everything was sent there is nothing more to hear.
        let sent = senders.peek().is_some() && senders.all(|sender| sender.ended);
        let heard = self.pipelines.iter().all(|p| p.ended || p.built.direction == Direction::Send);
        if sent || heard {
            self.end_all(now);
        }
    }

    /// Asks every pipeline to end; files are finished and peers are told.
    fn end_all(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(now);
        for pipeline in &mut self.pipelines {
            // What has not started has nothing to finish; and `level` complains about an EOS that
            // comes before any audio.
            let (_, state, _) = pipeline.built.pipeline.state(gst::ClockTime::ZERO);
            let is_silent = pipeline.has_level && pipeline.level_db.is_none();
            if state < gst::State::Paused || is_silent {
                pipeline.ended = true;
            } else if !pipeline.ended {
                // On a thread of its own: a source whose sink is stuck keeps the caller waiting.
                let pipeline = pipeline.built.pipeline.clone();
                thread::spawn(move || pipeline.send_event(gst::event::Eos::new()));
            }
        }
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.errors.push(error.to_string());
        self.errors.truncate(100);
        self.first_error.get_or_insert(error);
        self.pipelines[index].ended = true;
        self.end_all(Instant::now());
    }

    fn summary(&self, error: Option<&Error>) -> Value {
        let mut elements = Vec::new();
        for pipeline in &self.pipelines {
            for (element, stats) in stats::of(&pipeline.built.pipeline) {
                elements.push(json!({
                    "pipeline": pipeline.built.name,
                    "name": element.name().as_str(),
                    "factory": element.factory().map(|factory| factory.name().to_string()),
                    "stats": stats::json(&stats),
                }));
            }
        }
        let pipelines = self.pipelines.iter().map(|pipeline| {
            let position = pipeline.built.pipeline.query_position::<gst::ClockTime>();
            json!({
                "name": pipeline.built.name,
                "clock": pipeline.clock_name,
                "position-seconds": position.map(gst::ClockTime::seconds_f64),
            })
        });
        json!({
            "duration-seconds": self.started.elapsed().as_secs_f64(),
            "pipelines": pipelines.collect::<Vec<_>>(),
            "elements": elements,
            "exit-code": error.map_or(0, Error::exit_code),
            "errors": self.errors,
            "warnings": self.warnings,
        })
    }

    fn shut_down(&mut self) {
        let pipelines: Vec<_> =
            self.pipelines.iter().map(|running| running.built.pipeline.clone()).collect();
        let (done, is_done) = channel();
        thread::spawn(move || {
            for pipeline in pipelines {
                // There is nothing left to do about one that will not.
                let _ = pipeline.set_state(gst::State::Null);
            }
            let _ = done.send(());
        });
        // A device that is stuck must not keep the program.
        let _ = is_done.recv_timeout(END);
    }
}

fn write_summary(path: &Path, summary: &Value) -> Result<(), Error> {
    let text = format!("{summary:#}\n");
    fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}
