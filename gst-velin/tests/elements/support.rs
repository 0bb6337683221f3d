//! Devices with keys of their own, a receiving and a sending pipeline, what they post, what comes
//! out. Every wait is for a condition and ends with a panic that says what did not happen.
#![allow(dead_code)] // Every test program uses another part of it.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstvelin::link::store::identity_file;
use velin_core::identity::PublicKey;

/// Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// GStreamer with our plugin; from here on a warning of GLib is a failed test.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstvelin::plugin_register_static().expect("the plugin registers");
        let fatal = gst::glib::LogLevels::LEVEL_CRITICAL | gst::glib::LogLevels::LEVEL_WARNING;
        gst::glib::log_set_always_fatal(fatal);
    });
}

/// A machine of its own: an identity and a list of those it trusts.
pub(crate) struct Device {
    dir: tempfile::TempDir,
    pub(crate) key: PublicKey,
}

impl Device {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = identity_file::load_or_create(Some(&dir.path().join("identity.txt")))
            .expect("an identity");
        let device = Self { dir, key: identity.public() };
        device.trust(&[]);
        device
    }

    /// Trusts `others` and nobody else.
    pub(crate) fn trust(&self, others: &[&Self]) {
        let lines: String = others.iter().map(|o| o.key.recipient() + "\n").collect();
        fs::write(self.trust_file(), format!("# trusted\n{lines}")).expect("a trust file");
        #[cfg(unix)]
        set_mode(&self.trust_file(), 0o600);
    }

    pub(crate) fn identity_file(&self) -> String {
        self.file("identity.txt")
    }

    pub(crate) fn trust_file(&self) -> String {
        self.file("trusted.txt")
    }

    /// As a launch line takes it, where a backslash has another meaning than on Windows.
    fn file(&self, name: &str) -> String {
        let path = self.dir.path().join(name).display().to_string();
        if cfg!(windows) { path.replace('\\', "/") } else { path }
    }

    /// Both files as properties of an element in a launch line.
    pub(crate) fn files(&self) -> String {
        format!("identity-file={} trust-file={}", self.identity_file(), self.trust_file())
    }
}

/// Whatever the umask is.
#[cfg(unix)]
pub(crate) fn set_mode(path: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// All that a pipeline posted.
pub(crate) struct Messages {
    bus: gst::Bus,
    seen: Mutex<Vec<gst::Message>>,
}

impl Messages {
    pub(crate) fn new(pipeline: &gst::Pipeline) -> Self {
        Self { bus: pipeline.bus().expect("a bus"), seen: Mutex::default() }
    }

    /// Everything so far. A panic inside an element fails the test at once.
    pub(crate) fn all(&self) -> MutexGuard<'_, Vec<gst::Message>> {
        let mut seen = self.seen.lock().expect("no panic");
        while let Some(message) = self.bus.pop() {
            if let gst::MessageView::Error(e) = message.view() {
                assert!(!e.error().to_string().contains("anicked"), "{e:?}");
            }
            seen.push(message);
        }
        seen
    }

    /// How many there are: where [`wait_from`](Self::wait_from) may start.
    pub(crate) fn mark(&self) -> usize {
        self.all().len()
    }

    /// Waits for the first message, from the start of the pipeline, that `find` knows.
    pub(crate) fn wait<T>(&self, what: &str, find: impl FnMut(&gst::Message) -> Option<T>) -> T {
        self.wait_from(0, what, find)
    }

    /// The same from a mark on.
    pub(crate) fn wait_from<T>(
        &self,
        mark: usize,
        what: &str,
        mut find: impl FnMut(&gst::Message) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut next = mark;
        loop {
            {
                let seen = self.all();
                for message in &seen[next..] {
                    if let Some(found) = find(message) {
                        return found;
                    }
                }
                next = seen.len();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = gst::ClockTime::try_from(left).expect("short");
            // Peeking would spin: what is popped here is put where `all` finds it.
            let Some(message) = self.bus.timed_pop(left) else {
                panic!("no {what} within {PATIENCE:?}; seen: {:#?}", self.texts());
            };
            self.seen.lock().expect("no panic").push(message);
        }
    }

    /// The element message `velin/<name>`.
    pub(crate) fn element(&self, name: &str) -> gst::Structure {
        self.element_from(0, name)
    }

    pub(crate) fn element_from(&self, mark: usize, name: &str) -> gst::Structure {
        let name = format!("velin/{name}");
        self.wait_from(mark, &name, |m| element(m, &name))
    }

    /// The first ERROR: its domain and its text.
    pub(crate) fn error(&self) -> (gst::glib::Error, String) {
        self.wait("error", |m| match m.view() {
            gst::MessageView::Error(e) => Some((e.error(), e.error().to_string())),
            _ => None,
        })
    }

    /// The first WARNING's text.
    pub(crate) fn warning(&self) -> String {
        self.wait("warning", |m| match m.view() {
            gst::MessageView::Warning(w) => Some(w.error().to_string()),
            _ => None,
        })
    }

    pub(crate) fn count(&self, mut what: impl FnMut(&gst::Message) -> bool) -> usize {
        self.all().iter().filter(|m| what(m)).count()
    }

    pub(crate) fn warnings(&self) -> usize {
        self.count(|m| m.type_() == gst::MessageType::Warning)
    }

    pub(crate) fn no_error(&self) {
        let errors = self.count(|m| m.type_() == gst::MessageType::Error);
        assert_eq!(errors, 0, "{:#?}", self.texts());
    }

    fn texts(&self) -> Vec<String> {
        let text = |m: &gst::Message| match m.view() {
            gst::MessageView::Error(e) => Some(format!("ERROR {} ({:?})", e.error(), e.debug())),
            gst::MessageView::Warning(w) => Some(format!("WARNING {}", w.error())),
            gst::MessageView::Progress(p) => Some(format!("PROGRESS {}", p.get().2)),
            gst::MessageView::Element(e) => e.structure().map(|s| s.to_string()),
            _ => None,
        };
        let mut texts: Vec<_> = self.all().iter().filter_map(text).collect();
        texts.drain(..texts.len().saturating_sub(20));
        texts
    }
}

/// The structure of an element message called `name`.
pub(crate) fn element(message: &gst::Message, name: &str) -> Option<gst::Structure> {
    match message.view() {
        gst::MessageView::Element(e) => {
            e.structure().filter(|s| s.name() == name).map(ToOwned::to_owned)
        }
        _ => None,
    }
}

/// What came out of a receiver.
#[derive(Default)]
pub(crate) struct Tape {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
    /// Times that the output left something out because this machine was too late.
    jumps: AtomicU64,
}

impl Tape {
    fn push(&self, bytes: &[u8]) {
        self.bytes.lock().expect("no panic").extend_from_slice(bytes);
        self.more.notify_all();
    }

    /// Forgets everything so far.
    pub(crate) fn rewind(&self) {
        self.bytes.lock().expect("no panic").clear();
    }

    /// Waits until `find`, called with all bytes since the last rewind, gives something.
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut(&[u8]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = self.bytes.lock().expect("no panic");
        let mut enough = 0;
        loop {
            // Looking holds up the element under test. A look at a long recording takes long, so
            // there is one for every twentieth that it grows.
            if bytes.len() >= enough {
                if let Some(found) = find(&bytes) {
                    return found;
                }
                enough = bytes.len() + bytes.len() / 20 + 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} within {PATIENCE:?} ({} bytes)", bytes.len());
            bytes = self.more.wait_timeout(bytes, left).expect("no panic").0;
        }
    }

    /// The next `n` F32 samples from now on.
    pub(crate) fn next_f32(&self, n: usize) -> Vec<f32> {
        self.rewind();
        self.wait("samples", |b| (b.len() >= 4 * n).then(|| floats(&b[..4 * n])))
    }

    /// Waits for sound: a block of ten milliseconds (480 stereo F32 frames) that passes `test`.
    pub(crate) fn heard(&self, what: &str, mut test: impl FnMut(&[f32]) -> bool) {
        let mut at = 0;
        self.rewind();
        self.wait(what, |bytes| {
            while bytes.len() >= at + 3840 {
                let block = floats(&bytes[at..at + 3840]);
                at += 3840;
                if test(&block) {
                    return Some(());
                }
            }
            None
        });
    }
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect()
}

pub(crate) fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// The amplitude of `hz` in the left channel of stereo samples at 48 kHz.
pub(crate) fn amplitude(samples: &[f32], hz: f64) -> f64 {
    let frames = samples.len() / 2;
    let (mut re, mut im) = (0.0, 0.0);
    for i in 0..frames {
        let phase = std::f64::consts::TAU * hz * i as f64 / 48_000.0;
        re += f64::from(samples[2 * i]) * phase.cos();
        im += f64::from(samples[2 * i]) * phase.sin();
    }
    2.0 * (re * re + im * im).sqrt() / frames as f64
}

/// A pipeline that stops when it is dropped.
pub(crate) struct Line {
    pub(crate) pipeline: gst::Pipeline,
    pub(crate) messages: Messages,
}

impl Line {
    pub(crate) fn parse(line: &str) -> Self {
        init();
        let pipeline = gst::parse::launch(line)
            .unwrap_or_else(|e| panic!("{line}: {e}"))
            .downcast::<gst::Pipeline>()
            .expect("a pipeline");
        let messages = Messages::new(&pipeline);
        Self { pipeline, messages }
    }

    pub(crate) fn element(&self, name: &str) -> gst::Element {
        self.pipeline.by_name(name).expect(name)
    }

    pub(crate) fn set(&self, state: gst::State) {
        if self.pipeline.set_state(state).is_err() {
            panic!("cannot go to {state:?}: {:?}", self.messages.texts());
        }
    }

    /// Whether the state change is refused.
    pub(crate) fn refuses(&self, state: gst::State) -> bool {
        self.pipeline.set_state(state).is_err()
    }

    pub(crate) fn play(self) -> Self {
        self.set(gst::State::Playing);
        self
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

pub(crate) const FLOAT_STEREO: &str = "audio/x-raw,format=F32LE,rate=48000,channels=2";

/// A playing `velinsrc` and what comes out of it.
pub(crate) struct Receiver {
    pub(crate) line: Line,
    pub(crate) src: gst::Element,
    pub(crate) tape: Arc<Tape>,
}

impl Receiver {
    /// In NULL; on ports that the system picks, unless `properties` name some.
    pub(crate) fn build(device: &Device, properties: &str, caps: &str) -> Self {
        let line = Line::parse(&format!(
            "velinsrc name=src port=0 audio-port=0 {} {properties} ! {caps} ! \
             appsink name=out sync=false",
            device.files()
        ));
        let tape = Arc::new(Tape::default());
        let out = line.element("out").downcast::<gst_app::AppSink>().expect("an appsink");
        let into = tape.clone();
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(buffer) = sample.buffer() {
                let jump = buffer.flags().contains(gst::BufferFlags::DISCONT);
                into.jumps.fetch_add(u64::from(jump), Ordering::Relaxed);
                into.push(&buffer.map_readable().map_err(|_| gst::FlowError::Error)?);
            }
            Ok(gst::FlowSuccess::Ok)
        });
        out.set_callbacks(callbacks.build());
        let src = line.element("src");
        Self { line, src, tape }
    }

    pub(crate) fn playing(device: &Device, properties: &str, caps: &str) -> Self {
        let receiver = Self::build(device, properties, caps);
        receiver.line.set(gst::State::Playing);
        receiver.line.messages.element("listening");
        receiver
    }

    /// The usual one: F32LE stereo.
    pub(crate) fn start(device: &Device) -> Self {
        Self::playing(device, "profile=fixed latency=60", FLOAT_STEREO)
    }

    pub(crate) fn port(&self) -> u32 {
        self.src.property("current-port")
    }

    pub(crate) fn stats(&self) -> gst::Structure {
        self.src.property("stats")
    }

    pub(crate) fn count(&self, field: &str) -> u64 {
        count(&self.stats(), field)
    }

    /// Whether the machine kept up: nothing came too late or got lost on its way. Exactness is
    /// promised only then, and that it was not kept is counted.
    pub(crate) fn was_undisturbed(&self) -> bool {
        let counters = ["lost", "late", "concealed", "reanchors", "overrun"];
        // The first buffer of all is no jump.
        let jumps = self.tape.jumps.load(Ordering::Relaxed).saturating_sub(1);
        jumps + counters.iter().map(|c| self.count(c)).sum::<u64>() == 0
    }

    pub(crate) fn messages(&self) -> &Messages {
        &self.line.messages
    }
}

/// Repeats what only a machine that keeps up can show, until it does.
pub(crate) fn undisturbed(mut run: impl FnMut() -> bool) {
    assert!((0..10).any(|_| run()), "this machine is too busy for real time");
}

/// A counter of any width.
pub(crate) fn count(stats: &gst::Structure, field: &str) -> u64 {
    stats
        .get::<u64>(field)
        .or_else(|_| stats.get::<u32>(field).map(u64::from))
        .unwrap_or_else(|_| panic!("no {field} in {stats:?}"))
}

/// A live sine into a `velinsink`.
pub(crate) struct Sender {
    pub(crate) line: Line,
    pub(crate) sink: gst::Element,
}

impl Sender {
    /// In NULL. `properties` are the sink's.
    pub(crate) fn build(device: &Device, port: u32, hz: u32, properties: &str) -> Self {
        let line = Line::parse(&format!(
            "audiotestsrc is-live=true samplesperbuffer=240 freq={hz} volume=0.2 ! {FLOAT_STEREO} \
             ! velinsink name=sink port={port} {} {properties}",
            device.files()
        ));
        let sink = line.element("sink");
        Self { line, sink }
    }

    pub(crate) fn start(device: &Device, port: u32, hz: u32) -> Self {
        let sender = Self::build(device, port, hz, "");
        sender.line.set(gst::State::Playing);
        sender
    }

    pub(crate) fn stats(&self) -> gst::Structure {
        self.sink.property("stats")
    }

    pub(crate) fn messages(&self) -> &Messages {
        &self.line.messages
    }
}

/// Looks again and again until `find` gives something: for what nobody announces.
pub(crate) fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
