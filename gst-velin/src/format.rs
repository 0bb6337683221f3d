//! Between GStreamer's caps and the link's formats.

use gst_audio::{AudioChannelPosition as Gst, AudioFormat, AudioInfo};
use velin_core::codec::opus::OPUS_RATE;
use velin_core::codec::{ChannelMap, Position, SampleFormat};
use velin_core::units::{Channels, SampleRate};

/// What both elements carry.
pub(crate) fn template_caps() -> gst::Caps {
    gst_audio::AudioCapsBuilder::new_interleaved()
        .format_list([AudioFormat::F32le, AudioFormat::S16le, AudioFormat::S24le])
        .rate_range(SampleRate::MIN as i32..=SampleRate::MAX as i32)
        .channels_range(1..=i32::from(Channels::MAX))
        .build()
}

/// What Opus carries of that.
pub(crate) fn opus_caps() -> gst::Caps {
    gst_audio::AudioCapsBuilder::new_interleaved()
        .format_list([AudioFormat::F32le, AudioFormat::S16le, AudioFormat::S24le])
        .rate(OPUS_RATE.hz() as i32)
        .channels_range(1..=2)
        .build()
}

/// The parts of fixed caps that shape a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PcmFormat {
    pub(crate) sample: SampleFormat,
    pub(crate) rate: SampleRate,
    pub(crate) map: ChannelMap,
}

impl PcmFormat {
    /// `None` for what the pad templates already exclude.
    pub(crate) fn from_info(info: &AudioInfo) -> Option<Self> {
        let sample = match info.format() {
            AudioFormat::S16le => SampleFormat::S16Le,
            AudioFormat::S24le => SampleFormat::S24Le,
            AudioFormat::F32le => SampleFormat::F32Le,
            _ => return None,
        };
        let channels = Channels::new(u8::try_from(info.channels()).ok()?)?;
        Some(Self { sample, rate: SampleRate::new(info.rate())?, map: channel_map(info, channels) })
    }

    /// Bytes of one frame.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.sample.bytes() * self.map.channels().get()
    }
}

fn channel_map(info: &AudioInfo, channels: Channels) -> ChannelMap {
    let positions: Option<Vec<_>> =
        info.positions().and_then(|list| list.iter().map(|p| position(*p)).collect());
    positions
        .filter(|list| list.len() == channels.get())
        .and_then(|list| ChannelMap::new(&list).ok())
        .unwrap_or_else(|| match channels {
            Channels::MONO => ChannelMap::mono(),
            Channels::STEREO => ChannelMap::stereo(),
            _ => ChannelMap::unpositioned(channels),
        })
}

fn position(position: Gst) -> Option<Position> {
    Some(match position {
        Gst::Mono => Position::Mono,
        Gst::FrontLeft => Position::FrontLeft,
        Gst::FrontRight => Position::FrontRight,
        Gst::FrontCenter => Position::FrontCenter,
        Gst::Lfe1 => Position::Lfe1,
        Gst::RearLeft => Position::RearLeft,
        Gst::RearRight => Position::RearRight,
        Gst::RearCenter => Position::RearCenter,
        Gst::SideLeft => Position::SideLeft,
        Gst::SideRight => Position::SideRight,
        Gst::FrontLeftOfCenter => Position::FrontLeftOfCenter,
        Gst::FrontRightOfCenter => Position::FrontRightOfCenter,
        Gst::None => Position::None,
        // Anything else is carried one to one, without a place.
        _ => return None,
    })
}
