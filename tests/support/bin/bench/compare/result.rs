//! What a comparison found.

use super::figures::Figures;
use super::scenario::Scenario;
use crate::stats::Summary;

/// Everything, for the table and for the report.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Machine, versions and load, as lines.
    pub(crate) setting: Vec<String>,
    pub(crate) short: bool,
    pub(crate) rows: Vec<Row>,
    pub(crate) crowd: Vec<Crowd>,
    /// Who was not compared, and why.
    pub(crate) skipped: Vec<(String, String)>,
}

/// One peer in one scenario.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) peer: String,
    pub(crate) outcome: Result<Outcome, String>,
}

/// What one run gave.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) figures: Figures,
    /// Processor time in per cent of a core, sending and receiving.
    pub(crate) cpu: [f64; 2],
    /// 1000 bytes a second in the cable, there and back; none over the loopback.
    pub(crate) wire: Option<[f64; 2]>,
    /// Milliseconds from the start of the sender's process to its first sound.
    pub(crate) startup: Option<f64>,
    /// How late a thread woke that only sleeps.
    pub(crate) timer: Summary,
    /// How often the card behind it ran dry, and over; only where drift is looked at.
    pub(crate) card: Option<(u32, u32)>,
    /// Seconds, and the delay, its target (ms) and the drift (ppm) that the receiver told of.
    pub(crate) told: Vec<(f32, f32, f32, f32)>,
}

/// Many senders to one receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) senders: usize,
    pub(crate) seconds: u64,
    /// Cores that the receiver kept busy, and the process with all senders.
    pub(crate) receiver: f64,
    pub(crate) sender: f64,
    /// Milliseconds of sound per stream, summed over all, that were not played as sent.
    pub(crate) missing_ms: f64,
    pub(crate) threads: u64,
    pub(crate) timer: Summary,
}
