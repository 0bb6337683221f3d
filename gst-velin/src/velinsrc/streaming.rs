//! What the streaming thread does once a period: time, sound, a buffer.

use std::time::Duration;

use gst::prelude::*;
use velin_core::codec::encode_into;
use velin_core::playout::{Mixer, OutputFormat, RenderTime};

use super::imp::CAT;
use super::starvation::Starvation;
use super::timing::{Lead, Output, Pace, Pair, Timeline};
use crate::format::PcmFormat;
use crate::link;

/// What the streaming thread keeps between two periods.
pub(super) struct Streaming {
    pub(super) pcm: PcmFormat,
    pub(super) mixer: Mixer,
    /// `None` until the first buffer.
    pub(super) timeline: Option<Timeline>,
    pub(super) pace: Option<Pace>,
    /// Stays zero unless the output follows the sender's clock.
    pub(super) lead: Lead,
    pub(super) follows_sender: bool,
    /// Whether a stream had a part in the last period.
    pub(super) playing: bool,
    /// Whether the pipeline's clock was looked at.
    pub(super) clock_checked: bool,
    pub(super) period: u64,
    pub(super) samples: Vec<f32>,
    pub(super) pool: gst::BufferPool,
    pub(super) discont: bool,
    starvation: Starvation,
}

/// What time it is.
pub(super) struct Now {
    /// By the pipeline's clock and the host's, as they are read.
    pub(super) pair: Pair,
    /// Running time by the pipeline clock's pace.
    pub(super) running: gst::ClockTime,
}

impl Now {
    /// Now.
    pub(super) fn read(pace: &mut Pace, output: Output, base_time: gst::ClockTime) -> Self {
        let pair = Pair::read(|| pace.clock().time(), link::now);
        let running = pace.time(pair, output).saturating_sub(base_time);
        Self { pair, running }
    }
}

impl Streaming {
    /// Ready for `caps`.
    pub(super) fn new(
        pcm: PcmFormat,
        period: Duration,
        follows_sender: bool,
        caps: &gst::Caps,
    ) -> Result<Self, gst::LoggableError> {
        let period = pcm.rate.frames_in(period).max(1);
        let samples = usize::try_from(period).unwrap_or(1) * pcm.map.channels().get();
        let bytes = samples * pcm.sample.bytes();
        let pool = gst::BufferPool::new();
        let mut config = pool.config();
        config.set_params(Some(caps), u32::try_from(bytes).unwrap_or(u32::MAX), 4, 0);
        pool.set_config(config)?;
        pool.set_active(true)?;
        Ok(Self {
            pcm,
            mixer: Mixer::new(OutputFormat { rate: pcm.rate, map: pcm.map }),
            timeline: None,
            pace: None,
            lead: Lead::default(),
            follows_sender,
            playing: false,
            clock_checked: false,
            period,
            samples: vec![0.0; samples],
            pool,
            discont: true,
            starvation: Starvation::default(),
        })
    }

    /// The next period.
    pub(super) fn render(
        &mut self,
        when: RenderTime,
        timeline: &mut Timeline,
    ) -> Result<gst::Buffer, gst::FlowError> {
        let mut buffer = self.pool.acquire_buffer(None)?;
        let rendered = self.mixer.render(when, &mut self.samples);
        self.playing = rendered.active > 0;
        if let Some(frames) = self.starvation.note(timeline.due(), rendered.concealed) {
            let missing = self.pcm.rate.duration_of(frames);
            gst::warning!(
                CAT,
                "{missing:?} of sound did not come in time and were made up; stats say why: late, \
                 lost, jitter-us"
            );
        }
        if self.follows_sender {
            let period = self.pcm.rate.duration_of(self.period);
            self.lead.follow(rendered.behind_ns, period);
        }
        let frame = timeline.frame();
        let pts = timeline.due();
        let duration = timeline.advance(self.period);
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(pts);
            buffer.set_duration(duration);
            buffer.set_offset(frame);
            buffer.set_offset_end(frame + self.period);
            if std::mem::take(&mut self.discont) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
            let mut map = buffer.map_writable().map_err(|_| gst::FlowError::Error)?;
            encode_into(self.pcm.sample, &self.samples, &mut map);
        }
        Ok(buffer)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // Buffers still downstream keep their memory; the pool only stops lending.
        let _ = self.pool.set_active(false);
    }
}
