//! Which clock a receiving pipeline runs on: its output's, or the output jumps.
//!
//! With a live source, a sink often learns its format too late to offer its clock, and GStreamer
//! settles on the system's. The sink then corrects the difference by jumps, behind our resampler.

use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::plan::Direction;

/// How long a sink may take to have a clock after the pipeline plays.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a pipeline plays before its clock is changed: a sink that is stopped in the middle of
/// its first write may never write again (PulseAudio 16 with GStreamer 1.22).
const SETTLING: Duration = Duration::from_millis(300);

/// Sees to it that one pipeline runs on its output's clock.
#[derive(Debug, Default)]
pub(super) struct ClockGuard {
    playing_since: Option<Instant>,
    settled: bool,
}

/// What [`ClockGuard::check`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClockCheck {
    /// Nothing to do, or nothing yet.
    Fine,
    /// The pipeline now runs on the output's clock; it did not before.
    Corrected,
    /// The output has no clock to offer.
    NotOffered,
}

impl ClockGuard {
    /// The pipeline has reached PLAYING.
    pub(super) fn playing(&mut self, now: Instant) {
        self.playing_since.get_or_insert(now);
    }

    /// The clock was lost and chosen again: look again.
    pub(super) fn lost(&mut self, now: Instant) {
        self.settled = false;
        self.playing_since = Some(now);
    }

    /// Whether the pipeline plays on the clock that it will keep. Only receiving pipelines are
    /// looked after; the others keep the first one.
    pub(super) fn is_settled(&self, direction: Direction) -> bool {
        self.playing_since.is_some() && (self.settled || direction == Direction::Send)
    }

    /// Looks at the clock; to be called often until it is settled.
    pub(super) fn check(&mut self, pipeline: &gst::Pipeline, now: Instant) -> ClockCheck {
        let Some(since) = self.playing_since.filter(|_| !self.settled) else {
            return ClockCheck::Fine;
        };
        let Some(sink) = device_sink(pipeline) else {
            self.settled = true;
            return ClockCheck::Fine;
        };
        let Some(offered) = sink.provide_clock() else {
            if now.duration_since(since) < PATIENCE {
                return ClockCheck::Fine;
            }
            self.settled = true;
            return ClockCheck::NotOffered;
        };
        if pipeline.clock().as_ref() == Some(&offered) {
            self.settled = true;
            return ClockCheck::Fine;
        }
        if now.duration_since(since) < SETTLING {
            return ClockCheck::Fine;
        }
        self.settled = true;
        // A pipeline only hands out a clock on its way to PLAYING.
        let corrected = pipeline.set_state(gst::State::Paused).is_ok();
        pipeline.use_clock(Some(&offered));
        if corrected && pipeline.set_state(gst::State::Playing).is_ok() {
            ClockCheck::Corrected
        } else {
            ClockCheck::NotOffered
        }
    }
}

/// The output that has a clock, however deep it is.
fn device_sink(pipeline: &gst::Pipeline) -> Option<gst::Element> {
    let wanted = gst::ElementFlags::SINK | gst::ElementFlags::PROVIDE_CLOCK;
    pipeline
        .iterate_recurse()
        .into_iter()
        .flatten()
        .find(|element| element.element_flags().contains(wanted) && !element.is::<gst::Bin>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_without_a_device_keeps_the_clock_it_has() {
        gst::init().unwrap();
        let element =
            gst::parse::launch("audiotestsrc is-live=true num-buffers=2 ! fakesink").unwrap();
        let pipeline = element.downcast::<gst::Pipeline>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut guard = ClockGuard::default();
        let now = Instant::now();
        assert_eq!(guard.check(&pipeline, now), ClockCheck::Fine);
        guard.playing(now);
        assert_eq!(guard.check(&pipeline, now), ClockCheck::Fine);
        assert!(guard.settled);
        pipeline.set_state(gst::State::Null).unwrap();
    }
}
