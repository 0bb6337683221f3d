//! A sound card in the test's own process: it takes its samples in real time by a clock of its own,
//! which may be off, and looks at each of them.

use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

use gst::glib;

use gst::subclass::prelude::*;
use gst_audio::subclass::prelude::*;

glib::wrapper! {
    /// An `AudioSink` like that of a real card, with GStreamer's ring buffer and clock for cards.
    pub(crate) struct Card(ObjectSubclass<imp::Card>)
        @extends gst_audio::AudioSink, gst_audio::AudioBaseSink, gst_base::BaseSink, gst::Element,
            gst::Object;
}

impl Card {
    /// One whose crystal is `ppm` fast. It plays F32LE stereo at 48 kHz.
    pub(crate) fn new(ppm: f64) -> Self {
        let card: Self = glib::Object::builder().property("name", "card").build();
        card.imp().state().ppm = ppm;
        card
    }

    /// What it has played so far.
    pub(crate) fn played(&self) -> Played {
        self.imp().state().played.clone()
    }
}

/// What a card has played, from the first sample on that was not zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Played {
    /// Frames.
    pub(crate) frames: u64,
    /// Places where a sine of 440 Hz and an amplitude of 0.2 is broken, by its second difference.
    pub(crate) clicks: Vec<u64>,
    /// Times that the card had nothing to play.
    pub(crate) dry: u64,
    last: [f32; 2],
}

impl Played {
    /// A sine's second difference is at most A (2π f / rate)²; this is four times as much.
    const SMOOTH: f32 = 4.0 * 0.2 * 0.003_317;
    /// What lies closer together is one click: 10 ms.
    const ONE: u64 = 480;

    fn look(&mut self, x: f32) {
        let [before, last] = self.last;
        self.last = [last, x];
        if self.frames == 0 && x == 0.0 {
            return;
        }
        self.frames += 1;
        let second = (x - 2.0 * last + before).abs();
        if self.frames > 48 && second > Self::SMOOTH {
            if self.clicks.last().is_none_or(|click| self.frames - click > Self::ONE) {
                self.clicks.push(self.frames);
            } else if let Some(click) = self.clicks.last_mut() {
                *click = self.frames;
            }
        }
    }
}

mod imp {
    use std::sync::MutexGuard;

    use super::*;

    #[derive(Default)]
    pub(crate) struct Card {
        state: Mutex<State>,
        stop: Arc<Condvar>,
    }

    #[derive(Default)]
    pub(super) struct State {
        pub(super) ppm: f64,
        pub(super) played: Played,
        /// When the card's first frame was heard.
        began: Option<Instant>,
        /// Frames that it was given since.
        written: u64,
        stopped: bool,
    }

    impl State {
        /// Frames that the card has played.
        fn position(&self) -> u64 {
            let speed = 48_000.0 * (1.0 + self.ppm / 1e6);
            self.began.map_or(0, |began| (began.elapsed().as_secs_f64() * speed) as u64)
        }
    }

    impl Card {
        /// What the card holds besides the ring buffer: 40 ms, four of its segments.
        const HELD: u64 = 1920;

        pub(super) fn state(&self) -> MutexGuard<'_, State> {
            self.state.lock().expect("no panic")
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Card {
        const NAME: &'static str = "VelinTestCard";
        type Type = super::Card;
        type ParentType = gst_audio::AudioSink;
    }

    impl ObjectImpl for Card {}
    impl GstObjectImpl for Card {}

    impl ElementImpl for Card {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                let text = "A sound card for tests";
                gst::subclass::ElementMetadata::new(
                    text,
                    "Sink/Audio",
                    text,
                    "The Velin developers",
                )
            });
            Some(&*METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let caps = gst_audio::AudioCapsBuilder::new_interleaved()
                    .format(gst_audio::AudioFormat::F32le)
                    .rate(48_000)
                    .channels(2)
                    .build();
                let (direction, presence) = (gst::PadDirection::Sink, gst::PadPresence::Always);
                vec![gst::PadTemplate::new("sink", direction, presence, &caps).expect("good caps")]
            });
            &TEMPLATES
        }
    }

    impl BaseSinkImpl for Card {}
    impl AudioBaseSinkImpl for Card {}

    impl AudioSinkImpl for Card {
        fn open(&self) -> Result<(), gst::LoggableError> {
            Ok(())
        }

        fn close(&self) -> Result<(), gst::LoggableError> {
            Ok(())
        }

        fn prepare(
            &self,
            _spec: &mut gst_audio::AudioRingBufferSpec,
        ) -> Result<(), gst::LoggableError> {
            let mut state = self.state();
            state.began = None;
            state.written = 0;
            state.stopped = false;
            Ok(())
        }

        fn unprepare(&self) -> Result<(), gst::LoggableError> {
            Ok(())
        }

        /// Blocks until the card has room, as ALSA does.
        fn write(&self, data: &[u8]) -> Result<i32, gst::LoggableError> {
            let mut state = self.state();
            if state.began.is_none() {
                state.began = Some(Instant::now());
            }
            let frames = data.len() as u64 / 8;
            while state.written + frames > state.position() + Self::HELD && !state.stopped {
                let rest = state.written + frames - state.position() - Self::HELD;
                let rest = Duration::from_secs_f64(rest as f64 / 48_000.0);
                state = self.stop.wait_timeout(state, rest).expect("no panic").0;
            }
            let position = state.position();
            if state.written < position && state.written > 0 {
                state.played.dry += 1;
                // The card plays on without it.
                state.written = position;
            }
            state.written += frames;
            for frame in data.chunks_exact(8) {
                let x = f32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
                state.played.look(x);
            }
            Ok(i32::try_from(data.len()).expect("short"))
        }

        fn delay(&self) -> u32 {
            let state = self.state();
            u32::try_from(state.written.saturating_sub(state.position())).unwrap_or(0)
        }

        fn reset(&self) {
            self.state().stopped = true;
            self.stop.notify_all();
        }
    }
}
