//! What was captured when, and what came out when.

use std::io::{Read, Write};

use anyhow::Context;

use super::{CHANNELS, RATE};

/// When the source's frames were captured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Capture {
    /// Frames, and when each of them was captured (CLOCK_MONOTONIC, nanoseconds), in order; one for
    /// a source that paces itself, one for each cycle of a source that is driven.
    pub(crate) marks: Vec<(u64, u64)>,
    /// Frames a second of the source's clock.
    pub(crate) rate: f64,
}

impl Capture {
    /// A source that captured frame 0 at `t0`, with a clock that runs fast by `ppm`.
    pub(crate) fn steady(t0: u64, ppm: f64) -> Self {
        Self { marks: vec![(0, t0)], rate: RATE as f64 * (1.0 + ppm * 1e-6) }
    }

    /// When frame `n` was captured.
    pub(crate) fn at(&self, n: i64) -> f64 {
        let after = self.marks.partition_point(|(frame, _)| *frame as i64 <= n);
        let (frame, at) = self.marks.get(after.max(1) - 1).copied().unwrap_or_default();
        at as f64 + (n - frame as i64) as f64 * 1e9 / self.rate
    }

    /// The latest frame that was captured by `at`.
    pub(crate) fn latest(&self, at: u64) -> i64 {
        let after = self.marks.partition_point(|(_, then)| *then <= at);
        let (frame, then) = self.marks.get(after.max(1) - 1).copied().unwrap_or_default();
        frame as i64 + ((at as f64 - then as f64) * self.rate / 1e9).floor() as i64
    }
}

/// What came out, in mono: the left channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Recording {
    /// The first frame of each piece, and when that came out.
    pub(crate) pieces: Vec<(u64, u64)>,
    pub(crate) samples: Vec<i16>,
}

impl Recording {
    /// One for about `seconds`, which shall not grow while it is used.
    pub(crate) fn with_capacity(seconds: u64) -> Self {
        Self {
            pieces: Vec::with_capacity((seconds * 2_000) as usize),
            samples: Vec::with_capacity((seconds * RATE) as usize),
        }
    }

    /// Adds interleaved S16LE that came out at `at`; a frame that is cut is left out.
    pub(crate) fn add(&mut self, at: u64, bytes: &[u8]) {
        self.pieces.push((self.samples.len() as u64, at));
        let frames = bytes.chunks_exact(2 * CHANNELS);
        self.samples.extend(frames.map(|f| i16::from_le_bytes([f[0], f[1]])));
    }

    /// Adds one channel that came out at `at`.
    pub(crate) fn add_floats(&mut self, at: u64, samples: &[f32]) {
        self.pieces.push((self.samples.len() as u64, at));
        self.samples.extend(samples.iter().map(|s| (s * 32_768.0).round() as i16));
    }

    /// When the frame came out.
    pub(crate) fn came_out(&self, frame: usize) -> Option<u64> {
        let after = self.pieces.partition_point(|(first, _)| *first <= frame as u64);
        self.pieces.get(after.checked_sub(1)?).map(|(_, at)| *at)
    }

    pub(crate) fn write(&self, mut out: impl Write) -> std::io::Result<()> {
        out.write_all(&(self.pieces.len() as u64).to_le_bytes())?;
        for (first, at) in &self.pieces {
            out.write_all(&first.to_le_bytes())?;
            out.write_all(&at.to_le_bytes())?;
        }
        self.samples.iter().try_for_each(|s| out.write_all(&s.to_le_bytes()))
    }

    pub(crate) fn read(mut from: impl Read) -> anyhow::Result<Self> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        let (count, rest) = bytes.split_first_chunk().context("an empty recording")?;
        let table = (u64::from_le_bytes(*count) as usize).saturating_mul(16);
        let (table, samples) = rest.split_at_checked(table).context("a recording cut short")?;
        let word = |at: &[u8]| at.try_into().map(u64::from_le_bytes);
        let pieces = table.chunks_exact(16).map(|p| Ok((word(&p[..8])?, word(&p[8..])?)));
        let samples = samples.chunks_exact(2).map(|s| i16::from_le_bytes([s[0], s[1]]));
        Ok(Self { pieces: pieces.collect::<anyhow::Result<_>>()?, samples: samples.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_survives_the_way_through_a_file() {
        let mut recording = Recording::default();
        recording.add(7, &[1, 0, 9, 9, 2, 0, 9, 9, 3]);
        recording.add_floats(8, &[0.5, -1.0]);
        assert_eq!(recording.samples, [1, 2, 16_384, -32_768]);
        assert_eq!(recording.pieces, [(0, 7), (2, 8)]);
        let mut file = Vec::new();
        recording.write(&mut file).unwrap();
        assert_eq!(Recording::read(&file[..]).unwrap(), recording);
        assert!(Recording::read(&file[..20]).is_err());
    }

    #[test]
    fn a_source_knows_when_a_frame_was_captured_and_which_was_the_latest() {
        let fast = Capture::steady(1_000_000_000, 500.0);
        let n = fast.latest(31_000_000_000);
        assert_eq!(n, 30 * 48_024);
        assert!((fast.at(n) - 31e9).abs() < 1e5);
        let driven = Capture { marks: vec![(0, 1_000_000), (48, 3_000_000)], rate: 48_000.0 };
        assert_eq!(driven.at(24), 1_500_000.0);
        assert_eq!(driven.at(72), 3_500_000.0);
        assert_eq!(driven.latest(3_500_000), 72);
    }
}
