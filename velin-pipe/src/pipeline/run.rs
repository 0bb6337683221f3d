//! Running what was built: one loop on the main thread for the messages of all pipelines.

use std::collections::HashSet;
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
use super::clock::ClockCheck;
use super::console::Console;
use super::running::Running;
use super::{events, explain, stats};
use crate::error::{Error, exit};
use crate::plan::{Direction, Plan};
use crate::preset::diagnostic::Sources;

/// How long a clean end may take: files are finished and peers are told in this time.
const END: Duration = Duration::from_secs(2);
/// How long the links have to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
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
    /// How often the live line is shown, instead of twice a second on a terminal and every ten
    /// seconds elsewhere.
    pub status: Option<Duration>,
}

/// Builds and runs `plan` until it ends, fails, its time is up or a signal ends it.
///
/// # Errors
/// What cannot be built, and the first error of any element. The summary is written either way.
pub fn run(plan: &Plan, sources: &Arc<Sources>, options: &RunOptions) -> Result<(), Error> {
    let built = build::build(plan, sources)?;
    let stop = watch_signals()?;
    let mut runner = Runner::new(built, stop, options);
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
    /// The elements that said that they call somebody; after that only changes are news.
    calling: HashSet<String>,
}

impl Runner {
    fn new(built: Vec<Built>, stop: Arc<AtomicBool>, options: &RunOptions) -> Self {
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
            pipelines.push(Running::new(built));
        }
        let started = Instant::now();
        Self {
            pipelines,
            messages,
            console: Console::new(options.status, started),
            stop,
            started,
            duration: options.duration,
            ending: None,
            first_error: None,
            errors: Vec::new(),
            warnings: Vec::new(),
            calling: HashSet::new(),
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        for index in 0..self.pipelines.len() {
            if self.pipelines[index].begin(Instant::now()).is_err() {
                self.state_change_failed(index);
            }
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
                let debug = message.debug();
                let text = explain::warning(message.src(), &message.error(), debug.as_deref());
                self.warn(text, now);
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
                let (kind, _, text) = message.get();
                let from = message.src().map_or_else(String::new, |src| src.name().to_string());
                // That it worked, failed or is tried again is said in messages of its own.
                if kind == gst::ProgressType::Start && self.calling.insert(from) {
                    self.console.line(text, now);
                }
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
                self.seek_to_start(index, gst::SeekFlags::FLUSH);
            }
            MessageView::SegmentDone(_) if self.ending.is_none() => {
                self.seek_to_start(index, gst::SeekFlags::empty());
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
        let direction = self.pipelines[index].built.direction;
        if let Some(text) = events::line(structure, direction) {
            self.console.line(&text, now);
        }
    }

    fn warn(&mut self, text: String, now: Instant) {
        self.console.line(&text, now);
        self.warnings.push(text);
        // A summary is read by people: the first ones tell the story.
        self.warnings.truncate(100);
    }

    /// Lets a looped source begin again, or for the first time.
    fn seek_to_start(&mut self, index: usize, flags: gst::SeekFlags) {
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
            self.warn(text.to_owned(), Instant::now());
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
            self.release(index, now);
            if let Some(text) = self.pipelines[index].announcement() {
                self.console.line(&text, now);
            }
        }
        if self.console.is_due(now) && self.ending.is_none() {
            let line = self.live_line();
            self.console.live(&line);
        }
    }

    fn release(&mut self, index: usize, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        match self.pipelines[index].release(now) {
            Ok(true) => {}
            Ok(false) => {
                let name = &self.pipelines[index].built.name;
                let text = format!("{name}: nobody takes it yet; it begins nevertheless");
                self.console.line(&text, now);
            }
            Err(_) => self.state_change_failed(index),
        }
    }

    fn live_line(&self) -> String {
        // What is heard is of more interest than what is sent.
        let heard = self.pipelines.iter().any(|p| p.built.direction == Direction::Receive);
        let shown = if heard { Direction::Receive } else { Direction::Send };
        let mut figures = stats::Figures::default();
        let mut level: Option<f64> = None;
        for pipeline in self.pipelines.iter().filter(|p| p.built.direction == shown) {
            figures = figures.and(pipeline.figures());
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
            if state < gst::State::Paused || is_silent || pipeline.held.is_some() {
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
        let pipelines: Vec<_> = self.pipelines.iter().map(Running::summary).collect();
        let elements: Vec<_> = self.pipelines.iter().flat_map(Running::element_summaries).collect();
        json!({
            "duration-seconds": self.started.elapsed().as_secs_f64(),
            "pipelines": pipelines,
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
        // The other side is to know that this is the end, and not an outage.
        gstvelin::link::wait_for_goodbyes(GOODBYE);
    }
}

fn write_summary(path: &Path, summary: &Value) -> Result<(), Error> {
    let text = format!("{summary:#}\n");
    fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}
