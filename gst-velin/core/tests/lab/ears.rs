//! Listeners that know what they should hear.

use velin_core::playout::StreamStats;

use crate::clocks::{Clock, True};
use crate::measure::Distribution;
use crate::model::{LOUD, SAW};

/// Hears every sample of an output, interleaved; `step` is the true time from one to the next, ns.
pub trait Ear {
    fn hear(&mut self, due: True, step: f64, samples: &[f32]);

    /// The engine's figures right after that.
    fn note(&mut self, _due: True, _stats: &StreamStats) {}
}

impl Ear for () {
    fn hear(&mut self, _: True, _: f64, _: &[f32]) {}
}

/// Keeps the engine's figures of every period.
#[derive(Default)]
pub struct Notes(pub Vec<(True, StreamStats)>);

impl Ear for Notes {
    fn hear(&mut self, _: True, _: f64, _: &[f32]) {}

    fn note(&mut self, due: True, stats: &StreamStats) {
        self.0.push((due, *stats));
    }
}

/// Keeps all.
#[derive(Default)]
pub struct Tape {
    pub samples: Vec<f32>,
    /// When the first was due, and each period after it.
    pub due: Vec<True>,
}

impl Ear for Tape {
    fn hear(&mut self, due: True, _: f64, samples: &[f32]) {
        self.due.push(due);
        self.samples.extend_from_slice(samples);
    }
}

/// So many samples in a row at one place are no accident.
const SURE: u32 = 960;

/// Follows the slow sawtooth of [`Sound::Saw`](crate::model::Sound::Saw): which frame is this
/// sample, how old is it, and does the next one follow it?
pub struct SawEar {
    sender: Clock,
    from: True,
    place: Option<f64>,
    unsure: u32,
    /// How far from there the last samples have been, and how many.
    elsewhere: (f64, u32),
    /// True ages, one each period, ns.
    pub ages: Distribution,
    /// Samples after `from` that do not continue the one before them, or are none of the stream.
    pub marred: u64,
    /// Where the stream went on at another place than it had stopped, in frames forward.
    pub jumps: Vec<(True, f64)>,
    pub heard: u64,
}

impl SawEar {
    /// `sender`: the clock of the scenario. Judges what is due from `from_s` seconds on.
    pub fn new(sender: &Clock, from_s: f64) -> Self {
        Self {
            sender: sender.clone(),
            from: (from_s * 1e9) as True,
            place: None,
            unsure: 0,
            elsewhere: (0.0, 0),
            ages: Distribution::default(),
            marred: 0,
            jumps: vec![],
            heard: 0,
        }
    }

    /// The frame of the stream near `near` that sounds like this.
    fn frame_of(sample: f32, near: f64) -> f64 {
        let within = (f64::from(sample) / LOUD + 1.0) / 2.0 * SAW as f64 - 0.5;
        let periods = ((near - within) / SAW as f64).round();
        within + periods * SAW as f64
    }
}

impl Ear for SawEar {
    fn hear(&mut self, due: True, step: f64, samples: &[f32]) {
        if due < self.from {
            return;
        }
        let now = self.sender.shown_at(due) as f64 * 48e-6;
        for x in samples {
            self.heard += 1;
            let expected = self.place.map_or(now, |place| place + 1.0);
            let near_end = (expected + 400.0).rem_euclid(SAW as f64) < 800.0;
            if near_end && self.place.is_some() {
                // The filter rings at the sawtooth's edge.
                self.place = Some(expected);
                self.unsure = 800;
                continue;
            }
            let frame = Self::frame_of(*x, expected);
            let off = frame - expected;
            // 2000 ppm of drift over what could not be judged, and what is 107 dB below full scale.
            let allowed = 0.3 + 0.002 * f64::from(self.unsure);
            if self.place.is_none() || off.abs() <= allowed {
                self.place = Some(frame);
                self.unsure = 0;
                continue;
            }
            self.marred += 1;
            self.unsure += 1;
            self.place = Some(expected);
            // Twenty milliseconds at one other place, and not a join that dies away: we are there now.
            if (off - self.elsewhere.0).abs() > 0.1 {
                self.elsewhere = (off, 0);
            }
            self.elsewhere.1 += 1;
            if self.elsewhere.1 == SURE {
                self.jumps.push((due, off));
                self.place = Some(frame);
                self.unsure = 0;
                self.marred -= u64::from(SURE);
            }
        }
        // Once a period, where it is sure.
        if let (Some(place), 0) = (self.place, self.unsure) {
            let last = due + ((samples.len() - 1) as f64 * step) as i64;
            self.ages.add(last - self.sender.true_at((place / 48e-6) as i64));
        }
    }
}
