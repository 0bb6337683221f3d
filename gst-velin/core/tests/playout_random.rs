//! Whatever comes in whatever order: the output is filled, finite, and every frame has a cause.

mod playout_lab;

use playout_lab::*;
use proptest::prelude::*;
use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat};
use velin_core::playout::{
    Block, Body, Drift, MixSettings, Mixer, PlayerId, PlayoutDelay, Profile, ReceiverHalf,
    RenderTime, RepairWish, StreamSettings, stream,
};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, FrameIndex};

#[derive(Clone, Debug)]
enum Step {
    Join {
        hz: u32,
        channels: u8,
        fixed: Option<u64>,
        exact: bool,
    },
    /// The usual next packet of a stream, or one displaced in number, time or both.
    Packet {
        who: usize,
        by: i64,
        ts: i64,
        late: u32,
        flags: u8,
        bytes: usize,
        fill: u8,
    },
    Wild {
        who: usize,
        index: u32,
        ts: u64,
        discontinuity: bool,
    },
    Silence {
        who: usize,
        frames: u16,
    },
    Render {
        frames: usize,
        wait: u32,
    },
    End {
        who: usize,
    },
    Remove {
        who: usize,
    },
    Set {
        who: usize,
        settings: MixSettings,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let hz = prop::sample::select(vec![8_000, 44_100, 48_000, 192_000]);
    let fixed = prop::option::of(0_u64..2_000);
    prop_oneof![
        1 => (hz, 1_u8..=8, fixed, any::<bool>())
            .prop_map(|(hz, channels, fixed, exact)| Step::Join { hz, channels, fixed, exact }),
        20 => (0_usize..4, -3_i64..9, -200_i64..2_000, 0_u32..30_000_000, any::<u8>(), 0_usize..40, any::<u8>())
            .prop_map(|(who, by, ts, late, flags, bytes, fill)| Step::Packet {
                who,
                by: if by > 3 { 0 } else { by },
                ts: if ts > 0 { 0 } else { ts },
                late,
                flags,
                bytes,
                fill,
            }),
        1 => (0_usize..4, any::<u32>(), any::<u64>(), any::<bool>())
            .prop_map(|(who, index, ts, discontinuity)| Step::Wild { who, index, ts, discontinuity }),
        1 => (0_usize..4, any::<u16>()).prop_map(|(who, frames)| Step::Silence { who, frames }),
        20 => (0_usize..1_200, 0_u32..3_000_000)
            .prop_map(|(frames, wait)| Step::Render { frames, wait }),
        1 => (0_usize..4).prop_map(|who| Step::End { who }),
        1 => (0_usize..4).prop_map(|who| Step::Remove { who }),
        1 => (0_usize..4, any::<f32>(), any::<bool>(), -2.0_f32..2.0, any::<bool>()).prop_map(
            |(who, volume, mute, pan, solo)| Step::Set {
                who,
                settings: MixSettings { volume, mute, pan, solo },
            }
        ),
    ]
}

struct Peer {
    rx: Option<ReceiverHalf>,
    id: PlayerId,
    counters: std::sync::Arc<velin_core::playout::StreamCounters>,
    format: StreamFormat,
    index: u32,
    ts: u64,
}

fn join(mixer: &mut Mixer, hz: u32, channels: u8, fixed: Option<u64>, exact: bool) -> Option<Peer> {
    let output = mixer.output();
    let map = match channels {
        1 => ChannelMap::mono(),
        2 => ChannelMap::stereo(),
        n => ChannelMap::unpositioned(velin_core::units::Channels::new(n)?),
    };
    let format = StreamFormat {
        coding: SampleFormat::F32Le.into(),
        rate: rate(hz),
        map,
        frames_per_block: (1_152 / 4 / u32::from(channels)).min(hz / 400),
    };
    let delay =
        fixed.map_or(PlayoutDelay::Adaptive(Profile::Music), |f| PlayoutDelay::Fixed(ms(f)));
    let drift = if exact { Drift::Exact } else { Drift::Follow };
    let repair = RepairWish::Auto;
    let settings = StreamSettings { format: format.clone(), output, delay, drift, repair };
    let (rx, player) = stream(settings).ok()?;
    let counters = rx.counters().clone();
    let id = mixer.add(player).ok()?;
    Some(Peer { rx: Some(rx), id, counters, format, index: 0, ts: 0 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_output_is_always_whole(steps in prop::collection::vec(step(), 1..150)) {
        let mut mixer = Mixer::new(output(48_000, ChannelMap::stereo()));
        let mut peers: Vec<Peer> =
            join(&mut mixer, 48_000, 2, None, false).into_iter().collect();
        let mut now = 1_000_000_000_u64;
        for step in steps {
            let count = peers.len();
            match step {
                Step::Join { hz, channels, fixed, exact } => {
                    if count < 4 {
                        peers.extend(join(&mut mixer, hz, channels, fixed, exact));
                    }
                }
                Step::Packet { who, by, ts, late, flags, bytes, fill } => {
                    let peer = &mut peers[who % count];
                    peer.index = peer.index.saturating_add_signed(1 + by as i32);
                    let frames = i64::from(peer.format.frames_per_block);
                    peer.ts = peer.ts.saturating_add_signed(frames * (1 + by) + ts * frames);
                    let whole = peer.format.block_bytes();
                    let payload = vec![fill; if bytes > 30 { bytes } else { whole }];
                    let block = Block {
                        index: BlockIndex(peer.index),
                        ts: FrameIndex(peer.ts),
                        discontinuity: flags & 15 == 0,
                        repair: flags & 16 != 0,
                        body: Body::Audio(&payload),
                    };
                    if let Some(rx) = &mut peer.rx {
                        rx.insert(MonoTime::from_nanos(now + u64::from(late)), block);
                    }
                }
                Step::Wild { who, index, ts, discontinuity } => {
                    let peer = &mut peers[who % count];
                    let body = Body::Silence { frames: 100 };
                    let (index, ts) = (BlockIndex(index), FrameIndex(ts));
                    let block = Block { index, ts, discontinuity, repair: false, body };
                    if let Some(rx) = &mut peer.rx {
                        rx.insert(MonoTime::from_nanos(now), block);
                    }
                }
                Step::Silence { who, frames } => {
                    let peer = &mut peers[who % count];
                    peer.index = peer.index.saturating_add(1);
                    let block = Block {
                        index: BlockIndex(peer.index),
                        ts: FrameIndex(peer.ts),
                        discontinuity: false,
                        repair: false,
                        body: Body::Silence { frames },
                    };
                    peer.ts += u64::from(frames);
                    if let Some(rx) = &mut peer.rx {
                        rx.insert(MonoTime::from_nanos(now), block);
                    }
                }
                Step::Render { frames, wait } => {
                    let mut out = vec![f32::NAN; frames * 2 + frames % 2];
                    let rendered = mixer.render(RenderTime { mono: MonoTime::from_nanos(now) }, &mut out);
                    prop_assert!(out.iter().all(|x| x.is_finite()));
                    prop_assert!(rendered.active <= 4);
                    now += frames as u64 * 1_000_000 / 48 + u64::from(wait);
                }
                Step::End { who } => peers[who % count].rx = None,
                Step::Remove { who } => mixer.remove(peers[who % count].id),
                Step::Set { who, settings } => {
                    if let Some(rx) = &peers[who % count].rx {
                        rx.controls().set(settings);
                    }
                }
            }
            for peer in &peers {
                prop_assert!(peer.counters.snapshot().adds_up());
            }
        }
    }
}
