//! One pipeline while it runs, and what is known about it.

use std::time::{Duration, Instant};

use gst::prelude::*;
use serde_json::{Value, json};

use super::build::Built;
use super::clock::ClockGuard;
use super::{devices, stats};
use crate::plan::Direction;

/// How long a file waits for those who are to hear it from its start.
const HOLD: Duration = Duration::from_secs(3);

pub(super) struct Running {
    pub(super) built: Built,
    pub(super) clock: ClockGuard,
    pub(super) has_level: bool,
    pub(super) level_db: Option<f64>,
    pub(super) clock_name: Option<String>,
    pub(super) device: Option<String>,
    pub(super) announced: bool,
    /// Whether a looped source was told where its end is.
    pub(super) loop_set: bool,
    /// Since when it waits for its receivers, if it does.
    pub(super) held: Option<Instant>,
    pub(super) ended: bool,
}

impl Running {
    pub(super) fn new(built: Built) -> Self {
        let level = built.pipeline.iterate_all_by_element_factory_name("level").next();
        Self {
            has_level: level.is_ok_and(|level| level.is_some()),
            built,
            clock: ClockGuard::default(),
            level_db: None,
            clock_name: None,
            device: None,
            announced: false,
            loop_set: false,
            held: None,
            ended: false,
        }
    }

    /// Begins: what is live plays at once. What can wait, such as a file, waits for its receivers
    /// with its first audio in hand, and a loop also for its end to be set.
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), gst::StateChangeError> {
        let pipeline = &self.built.pipeline;
        let can_wait = self.built.direction == Direction::Send;
        if can_wait && pipeline.set_state(gst::State::Paused)? != gst::StateChangeSuccess::NoPreroll
        {
            self.held = Some(now);
            return Ok(());
        }
        pipeline.set_state(gst::State::Playing).map(drop)
    }

    /// Lets it play if it waited and need not any more. `Ok(false)`: nobody hears it yet.
    pub(super) fn release(&mut self, now: Instant) -> Result<bool, gst::StateChangeError> {
        let Some(since) = self.held else { return Ok(true) };
        if self.built.looped && !self.loop_set {
            return Ok(true);
        }
        let heard = stats::all_streaming(&self.built.pipeline);
        if !heard && now.duration_since(since) < HOLD {
            return Ok(true);
        }
        self.held = None;
        self.built.pipeline.set_state(gst::State::Playing)?;
        Ok(heard)
    }

    /// What it runs on, once it is settled; said once.
    pub(super) fn announcement(&mut self) -> Option<String> {
        if self.announced || self.ended || !self.clock.is_settled(self.built.direction) {
            return None;
        }
        self.announced = true;
        self.device = devices::in_use(&self.built.pipeline);
        let name = &self.built.name;
        let clock = self.clock_name.as_deref().unwrap_or("no clock");
        let mut text = match (&self.device, self.built.direction) {
            (Some(device), Direction::Send) => format!("{name}: playing from {device} on {clock}"),
            (Some(device), Direction::Receive) => format!("{name}: playing to {device} on {clock}"),
            (None, _) => format!("{name}: playing on {clock}"),
        };
        let mut query = gst::query::Latency::new();
        if self.built.pipeline.query(&mut query) {
            let (live, min, _) = query.result();
            if live {
                let millis = min.nseconds() as f64 / 1e6;
                text += &format!(", pipeline latency {millis:.1} ms");
            }
        }
        Some(text)
    }

    /// What the live line says about it.
    pub(super) fn figures(&self) -> stats::Figures {
        let elements = stats::of(&self.built.pipeline);
        stats::Figures::of(
            elements.iter().map(|(element, stats)| (stats.as_ref(), stats::output_rate(element))),
        )
    }

    pub(super) fn summary(&self) -> Value {
        let position = self.built.pipeline.query_position::<gst::ClockTime>();
        json!({
            "name": self.built.name,
            "device": self.device,
            "clock": self.clock_name,
            "position-seconds": position.map(gst::ClockTime::seconds_f64),
        })
    }

    /// Every end of a link in it, with its statistics.
    pub(super) fn element_summaries(&self) -> impl Iterator<Item = Value> {
        stats::of(&self.built.pipeline).into_iter().map(|(element, stats)| {
            json!({
                "pipeline": self.built.name,
                "name": element.name().as_str(),
                "factory": element.factory().map(|factory| factory.name().to_string()),
                "stats": stats::json(&stats),
            })
        })
    }
}
