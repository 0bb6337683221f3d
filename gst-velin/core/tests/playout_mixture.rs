//! Streams of any rate, layout and sample format into one output: each tone comes out clean, as
//! loud as GStreamer's channel matrix says, and in its place.

mod playout_lab;

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use playout_lab::*;
use velin_core::codec::{ChannelMap, Coding, Position, SampleFormat, StreamFormat};
use velin_core::playout::{PlayoutDelay, StreamSettings};

const STEREO: &str = "FL FR";
const FIVE_ONE: &str = "FL FR FC LFE RL RR";
const SEVEN_ONE: &str = "FL FR FC LFE RL RR SL SR";

fn map(names: &str) -> ChannelMap {
    let positions: Vec<_> =
        names.split(' ').map(|name| Position::from_name(name).unwrap()).collect();
    ChannelMap::new(&positions).unwrap()
}

/// One sender: a tone of its own in every channel, Hz and amplitude.
struct Source {
    format: StreamFormat,
    tones: Vec<(f64, f64)>,
}

impl Source {
    fn new(
        sample: SampleFormat,
        hz: u32,
        layout: &str,
        frames_per_block: u32,
        tones: Vec<(f64, f64)>,
    ) -> Self {
        let format = StreamFormat {
            coding: Coding::Pcm(sample),
            rate: rate(hz),
            map: map(layout),
            frames_per_block,
        };
        assert_eq!(tones.len(), format.channels().get());
        Self { format, tones }
    }

    fn samples(&self, seconds: usize) -> Vec<f32> {
        let hz = self.format.rate.hz() as usize;
        let frame = |i: usize| {
            self.tones.iter().map(move |(tone, amplitude)| {
                let turns = (tone * i as f64 / hz as f64).fract();
                (amplitude * (TAU * turns).sin()) as f32
            })
        };
        (0..seconds * hz).flat_map(frame).collect()
    }
}

/// A sine found in a signal.
#[derive(Clone, Copy, Debug)]
struct Sine {
    hz: f64,
    re: f64,
    im: f64,
}

impl Sine {
    fn amplitude(&self) -> f64 {
        self.re.hypot(self.im)
    }

    fn add(&self, signal: &mut [f64], hz: u32, sign: f64) {
        let step = TAU * self.hz / f64::from(hz);
        for (i, x) in signal.iter_mut().enumerate() {
            let (sin, cos) = (step * i as f64).sin_cos();
            *x += sign * (self.re * cos + self.im * sin);
        }
    }

    /// The sine nearest to `near` in `signal`.
    fn fit(signal: &[f64], rate: u32, near: f64) -> Self {
        let correlate = |from: usize, to: usize, hz: f64| {
            let step = TAU * hz / f64::from(rate);
            let (mut re, mut im) = (0.0, 0.0);
            for (i, x) in signal.iter().enumerate().take(to).skip(from) {
                let (sin, cos) = (step * i as f64).sin_cos();
                re += x * cos;
                im += x * sin;
            }
            let scale = 2.0 / (to - from) as f64;
            (re * scale, im * scale)
        };
        // How far the phase turns from one half to the other says how far the frequency is off.
        let half = signal.len() / 2;
        let (first, second) = (correlate(0, half, near), correlate(half, 2 * half, near));
        let turn = first.0 * second.1 - first.1 * second.0;
        let along = first.0 * second.0 + first.1 * second.1;
        let off = -turn.atan2(along) / (TAU * half as f64 / f64::from(rate));
        let hz = if first.0.hypot(first.1) > 1e-5 { near + off } else { near };
        let (re, im) = correlate(0, signal.len(), hz);
        Self { hz, re, im }
    }
}

/// Finds all `tones` in one second of `signal`; gives them and the level of everything else.
fn analyse(signal: &[f32], rate: u32, tones: &[f64]) -> (Vec<Sine>, f64) {
    let mut rest: Vec<f64> = signal.iter().map(|x| f64::from(*x)).collect();
    let mut found: Vec<_> = tones.iter().map(|hz| Sine { hz: *hz, re: 0.0, im: 0.0 }).collect();
    // Each is looked for in what the others leave over.
    for _ in 0..4 {
        for sine in &mut found {
            sine.add(&mut rest, rate, 1.0);
            *sine = Sine::fit(&rest, rate, sine.hz);
            sine.add(&mut rest, rate, -1.0);
        }
    }
    let power = rest.iter().map(|x| x * x).sum::<f64>() / rest.len() as f64;
    (found, (2.0 * power).sqrt())
}

/// GStreamer's weights from a layout to stereo, left and right, by their definition: front as it is,
/// centre and sides at −3 dB, rear at −6 dB, bass in both, all brought to a sum of 1.
fn to_stereo(position: &str, layout: &str) -> [f64; 2] {
    let weights = |position: &str| match position {
        "M" | "LFE" => [1.0, 1.0],
        "FL" => [1.0, 0.0],
        "FR" => [0.0, 1.0],
        "FC" => [FRAC_1_SQRT_2; 2],
        "RL" => [0.5, 0.0],
        "RR" => [0.0, 0.5],
        "SL" => [FRAC_1_SQRT_2, 0.0],
        "SR" => [0.0, FRAC_1_SQRT_2],
        _ => unreachable!("{position}"),
    };
    let sum: f64 = layout.split(' ').map(|p| weights(p)[0]).sum();
    weights(position).map(|weight| weight / sum)
}

/// The same to 5.1, as `audioconvert` does it.
fn to_five_one(position: &str, layout: &str) -> [f64; 6] {
    let one = |channel: usize, weight: f64| {
        let mut row = [0.0; 6];
        row[channel] = weight;
        row
    };
    let place = |position: &str| FIVE_ONE.split(' ').position(|p| p == position);
    match layout {
        "M" => [1.0, 1.0, FRAC_1_SQRT_2, 1.0, 0.5, 0.5],
        STEREO if position == "FL" => [0.5, 0.0, 0.5 * FRAC_1_SQRT_2, 0.5, 0.25, 0.0],
        STEREO => [0.0, 0.5, 0.5 * FRAC_1_SQRT_2, 0.5, 0.0, 0.25],
        FIVE_ONE => one(place(position).unwrap(), 1.0),
        _ => {
            let (kept, side) = (0.73879, 0.26121);
            match (place(position), position) {
                (Some(channel), _) => one(channel, kept),
                (None, "SL") => [side, 0.0, 0.0, 0.0, side, 0.0],
                (None, _) => [0.0, side, 0.0, 0.0, 0.0, side],
            }
        }
    }
}

/// What every tone should be in the output, and its level there.
const LEVEL: f64 = 0.02;

/// Mono to 7.1, 44.1 to 96 kHz, all sample formats. All frequencies are even, so that half a second
/// tells them apart; S16 carries a tone whose four samples it can hold without an error.
fn sources(gains: impl Fn(&str, &str) -> Vec<f64>) -> Vec<(Source, &'static str)> {
    let plan: [(SampleFormat, u32, &'static str, u32, &[f64]); 6] = [
        (SampleFormat::F32Le, 96_000, "M", 240, &[7_994.0]),
        (SampleFormat::S24Le, 44_100, STEREO, 110, &[998.0, 12_014.0]),
        (SampleFormat::F32Le, 48_000, FIVE_ONE, 48, &[402.0, 502.0, 614.0, 74.0, 808.0, 5_006.0]),
        (
            SampleFormat::S24Le,
            48_000,
            SEVEN_ONE,
            48,
            &[1_202.0, 1_306.0, 1_418.0, 94.0, 1_514.0, 1_622.0, 6_002.0, 9_022.0],
        ),
        (SampleFormat::S16Le, 48_000, "M", 120, &[12_000.0]),
        (SampleFormat::S24Le, 96_000, STEREO, 120, &[3_002.0, 9_974.0]),
    ];
    plan.into_iter()
        .map(|(sample, hz, layout, block, tones)| {
            let amplitude = |position: &str| {
                let loudest = gains(position, layout).into_iter().fold(0.0, f64::max);
                (LEVEL / loudest * 32_768.0).round() / 32_768.0
            };
            let tones = tones.iter().copied().zip(layout.split(' ').map(amplitude)).collect();
            (Source::new(sample, hz, layout, block, tones), layout)
        })
        .collect()
}

/// Plays all sources together and checks each tone in each channel of the output.
fn check(layout: &str, hz: u32, gains: impl Fn(&str, &str) -> Vec<f64>) {
    let out = output(hz, map(layout));
    let mut lab = Lab::new(out, hz as usize / 1000);
    let sources = sources(&gains);
    for (source, _) in &sources {
        // A delay that still came down would lower every tone for as long.
        let settings =
            StreamSettings { delay: PlayoutDelay::Fixed(ms(20)), ..auto(&source.format, out) };
        lab.join(settings, packets(&source.format, &source.samples(12)));
    }
    // The clocks of a stream whose blocks are no whole microseconds are known to a few parts in a
    // billion by then.
    lab.run(11_500 * MS);
    assert_eq!(lab.active, sources.len());
    assert_eq!((lab.mixer.counters().limiter_gain(), lab.mixer.counters().limited()), (1.0, 0));
    for sender in &lab.senders {
        let stats = sender.stats();
        assert_eq!((stats.concealed, stats.reanchors), (0, 0), "{stats:?}");
    }
    let channels = out.map.channels().get();
    let tones: Vec<_> = sources.iter().flat_map(|(s, _)| &s.tones).map(|(hz, _)| *hz).collect();
    let mut worst = f64::MIN;
    for (channel, name) in layout.split(' ').enumerate() {
        let second = 10 * hz as usize..11 * hz as usize;
        let heard: Vec<_> =
            lab.out.chunks(channels).map(|f| f[channel]).collect::<Vec<_>>()[second].to_vec();
        let (found, rest) = analyse(&heard, hz, &tones);
        let mut found = found.into_iter();
        for (source, from) in &sources {
            for ((tone, amplitude), position) in source.tones.iter().zip(from.split(' ')) {
                let sine = found.next().unwrap();
                let expected = amplitude * gains(position, from)[channel];
                let what = format!("{tone} Hz, {position} of {from}, in {name}");
                if expected == 0.0 {
                    assert!(sine.amplitude() < 1e-6, "{what}: {sine:?}");
                    continue;
                }
                let off = 20.0 * (sine.amplitude() / expected).log10();
                assert!(off.abs() < 0.05, "{what}: {off} dB off");
                let thd_n = 20.0 * (rest / sine.amplitude()).log10();
                worst = worst.max(thd_n);
                assert!(thd_n <= -90.0, "{what}: THD+N {thd_n} dB");
            }
        }
    }
    println!("row: {layout} at {hz} Hz: worst THD+N of a tone {worst:.1} dB");
}

#[test]
fn every_tone_of_a_mixture_is_intact_in_stereo() {
    for hz in [48_000, 44_100] {
        check(STEREO, hz, |position, layout| to_stereo(position, layout).to_vec());
    }
}

#[test]
fn every_tone_of_a_mixture_is_intact_in_five_one() {
    check(FIVE_ONE, 48_000, |position, layout| to_five_one(position, layout).to_vec());
}
