//! The elements as users run them: `gst-launch-1.0` processes with the plugin these tests were built
//! with, devices with an identity and trust of their own, and recordings of what came out.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use gstvelin::link::store::{IdentityFile, Places, TrustFileError, trust_file};
use tempfile::TempDir;
use velin_core::identity::{Grants, Name, PublicKey, TrustedPeer, Via};

use crate::audio::Clip;
use crate::proc::{self, Process};

/// How long a process may take to start on a loaded machine.
pub const SOON: Duration = Duration::from_secs(20);

/// The rate of everything that is recorded.
pub const RATE: u32 = 48_000;

/// A playout delay that bridges the hiccups of a machine that is busy with something else, for tests
/// that measure what arrives and not how early.
pub const PATIENT: &str = "profile=fixed latency=150";

/// Keeps tests in real time from running beside each other in one process: hold it to the test's end.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    ALONE.write().unwrap_or_else(PoisonError::into_inner)
}

/// The same for tests that wait most of their time: they may run beside each other, not beside those
/// that hold [`alone`].
pub fn waiting() -> RwLockReadGuard<'static, ()> {
    ALONE.read().unwrap_or_else(PoisonError::into_inner)
}

static ALONE: RwLock<()> = RwLock::new(());

/// A command that sees the plugin the tests were built with, and of all other plugins what the
/// machine has.
///
/// # Panics
/// The plugin is not built or does not load; the text says what to do.
#[must_use]
pub fn gstreamer(program: &str) -> Command {
    let mut command = bare(program);
    // A launched pipeline fails like a test on a warning of GLib; the environment decides.
    static LOADS: OnceLock<()> = OnceLock::new();
    LOADS.get_or_init(|| {
        let mut inspect = bare("gst-inspect-1.0");
        // The scan of unrelated plugins may print warnings.
        inspect.arg("velinsrc").env_remove("G_DEBUG");
        if let Err(error) = proc::run(inspect, Duration::from_secs(60)) {
            panic!("gst-inspect-1.0 does not find velinsrc in the plugin: {error}");
        }
    });
    // Nothing of this machine's user is read or written by accident.
    command.env("VELIN_CONFIG_DIR", "/nonexistent");
    command
}

/// A machine's user: an identity, created on first use, and whom it trusts.
#[derive(Debug)]
pub struct Device {
    folder: TempDir,
}

impl Device {
    /// One that nobody knows yet and that has no files.
    ///
    /// # Errors
    /// There is no temporary folder.
    pub fn new() -> io::Result<Self> {
        Ok(Self { folder: tempfile::Builder::new().prefix("velin-device-").tempdir()? })
    }

    /// Its configuration folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its key, which is made if it has none yet: what `velin-pipe identity show` prints.
    ///
    /// # Panics
    /// The files cannot be written.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        let file = IdentityFile::new(None).with_places(self.places());
        file.load_or_create().expect("the folder is ours").identity.public()
    }

    /// What `velin-pipe trust add` does: `key` may play here, under `name`.
    ///
    /// # Panics
    /// The files cannot be written, or the name is taken.
    pub fn trust(&self, key: PublicKey, name: &str) {
        self.grant(key, name, Grants::PLAY_TO_ME);
    }

    /// What `velin-pipe trust add --may` does.
    ///
    /// # Panics
    /// The files cannot be written, or the name is taken.
    pub fn grant(&self, key: PublicKey, name: &str, may: Grants) {
        let name = Name::new(name).expect("tests use good names");
        let peer = TrustedPeer {
            key,
            name: Some(name),
            may,
            via: Via::File,
            added: None,
            host: None,
            expires: None,
        };
        trust_file::update_in(&self.places(), None, |book| {
            book.add(peer).expect("the name is free");
            Ok::<_, TrustFileError>(())
        })
        .expect("the folder is ours");
    }

    fn places(&self) -> Places {
        let folder = self.folder().to_owned();
        Places::from_lookup(|name| (name == "VELIN_CONFIG_DIR").then(|| folder.clone().into()))
    }

    /// `gst-launch-1.0` as this user runs it, printing all messages, with `pipeline` split at blanks.
    #[must_use]
    pub fn launch(&self, pipeline: &str) -> Command {
        let mut command = self.plain(pipeline);
        command.arg("-m");
        proc::urgent(&command)
    }

    /// The same, printing what a user sees.
    #[must_use]
    pub fn quietly(&self, pipeline: &str) -> Command {
        proc::urgent(&self.plain(pipeline))
    }

    /// `velin-pipe` as this user runs it, with `arguments` split at blanks.
    ///
    /// # Errors
    /// It is not built, for [`crate::skipped`]; cargo builds it with the workspace's tests.
    pub fn pipe(&self, arguments: &str) -> Result<Command, String> {
        let tests = std::env::current_exe().map_err(|e| e.to_string())?;
        let program = tests.ancestors().skip(1).take(2).map(|f| f.join("velin-pipe"));
        let Some(program) = program.into_iter().find(|p| p.exists()) else {
            return Err("velin-pipe is not built; run cargo build first".into());
        };
        let mut command = gstreamer(&program.display().to_string());
        command.args(arguments.split_whitespace()).env("VELIN_CONFIG_DIR", self.folder());
        Ok(command)
    }

    fn plain(&self, pipeline: &str) -> Command {
        let mut command = gstreamer("gst-launch-1.0");
        command.args(pipeline.split_whitespace()).env("VELIN_CONFIG_DIR", self.folder());
        command
    }
}

/// A receiver that writes what it plays to a file: 48 kHz, two channels.
#[derive(Debug)]
pub struct Receiver {
    process: Process,
    file: PathBuf,
    port: u16,
}

impl Receiver {
    /// Starts `velinsrc` with `properties` on `device`, by way of `place` (a namespace, or nothing),
    /// and returns when it listens and records. With `port=0` any free port is taken. Its playout
    /// delay is [`PATIENT`]: tests share their machine with others.
    ///
    /// # Errors
    /// It does not come to that; the text carries what it printed.
    pub fn start(
        device: &Device,
        properties: &str,
        place: impl Fn(Command) -> Command,
    ) -> Result<Self, String> {
        Self::start_beside(device, properties, "", place)
    }

    /// The same with another pipeline in the same process. With `mode=caller` it returns when it
    /// records, connected or not, and has no port.
    ///
    /// # Errors
    /// It does not come to that; the text carries what it printed.
    pub fn start_beside(
        device: &Device,
        properties: &str,
        beside: &str,
        place: impl Fn(Command) -> Command,
    ) -> Result<Self, String> {
        static COUNT: Mutex<u32> = Mutex::new(0);
        let number = {
            let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            *count
        };
        let file = device.folder().join(format!("heard-{number}.f32"));
        let command = device.launch(&format!(
            "velinsrc {PATIENT} {properties} ! audio/x-raw,format=F32LE,rate={RATE},channels=2 \
             ! filesink buffer-mode=unbuffered sync=false location={} {beside}",
            file.display()
        ));
        let process = Process::spawn(place(command)).map_err(|e| e.to_string())?;
        let port = if properties.contains("mode=caller") {
            0
        } else {
            let line = process.wait_for_line("velin/listening", SOON).map_err(|e| e.to_string())?;
            number_after(&line, "port=(uint)").ok_or(line)?
        };
        let receiver = Self { process, file, port };
        if !proc::wait_until(SOON, || receiver.frames() > 0) {
            return Err(format!("nothing is recorded:\n{}", receiver.process.output()));
        }
        Ok(receiver)
    }

    /// The TCP port it listens on; 0 = none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for a line that it prints.
    ///
    /// # Errors
    /// The line does not come; the text carries what it printed.
    pub fn wait_for(&self, text: &str, limit: Duration) -> Result<String, String> {
        self.process.wait_for_line(text, limit).map_err(|e| e.to_string())
    }

    /// The process.
    #[must_use]
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// What was recorded until now.
    ///
    /// # Panics
    /// The file cannot be read.
    #[must_use]
    pub fn heard(&self) -> Clip {
        let bytes = fs::read(&self.file).expect("the recording exists since the start");
        let samples = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut samples: Vec<f32> = samples.collect();
        samples.truncate(samples.len() / 2 * 2);
        Clip { rate: RATE, channels: 2, samples }
    }

    /// How many frames were recorded until now.
    #[must_use]
    pub fn frames(&self) -> usize {
        fs::metadata(&self.file).map_or(0, |meta| meta.len() as usize / 8)
    }

    /// When the recording began, by the pace of its growth; watches for a fifth of a second.
    #[must_use]
    pub fn began(&self) -> Instant {
        let end = Instant::now() + Duration::from_millis(200);
        let mut best = None;
        while Instant::now() < end {
            // A writer is late at times and never early.
            let length = Duration::from_secs_f64(self.frames() as f64 / f64::from(RATE));
            let began = Instant::now().checked_sub(length);
            best = match (best, began) {
                (Some(a), Some(b)) => Some(std::cmp::min::<Instant>(a, b)),
                (a, b) => a.or(b),
            };
            std::thread::sleep(Duration::from_millis(1));
        }
        best.unwrap_or(end)
    }

    /// Waits until there is sound after frame `from`; gives the first loud frame.
    pub fn wait_for_sound(&self, from: usize, limit: Duration) -> Option<usize> {
        let mut found = None;
        proc::wait_until(limit, || {
            found = first_sound(&self.heard(), from);
            found.is_some()
        });
        found
    }
}

/// `sound` with silence around it: a sender needs a moment to connect, and a receiver plays a
/// moment longer.
#[must_use]
pub fn framed(sound: &Clip, before: Duration, after: Duration) -> Clip {
    let frames = |time: Duration| (time.as_secs_f64() * f64::from(sound.rate)) as usize;
    let mut clip = Clip::silence(sound.rate, sound.channels, frames(before));
    clip.append(sound);
    clip.append(&Clip::silence(sound.rate, sound.channels, frames(after)));
    clip
}

/// A pipeline that sends the WAV file `wav` with a `velinsink` with `properties`, in real time.
#[must_use]
pub fn sending(wav: &Path, properties: &str) -> String {
    format!("filesrc location={} ! wavparse ! audioconvert ! velinsink {properties}", wav.display())
}

/// The first frame at or after `from` that is louder than −60 dB.
#[must_use]
pub fn first_sound(clip: &Clip, from: usize) -> Option<usize> {
    let mut frames = clip.samples.chunks(clip.channels).enumerate().skip(from);
    frames.find(|(_, f)| f.iter().any(|s| s.abs() > 0.001)).map(|(i, _)| i)
}

/// The number that follows `key` in `line`.
pub fn number_after<N: std::str::FromStr>(line: &str, key: &str) -> Option<N> {
    let rest = &line[line.find(key)? + key.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn bare(program: &str) -> Command {
    let folder = plugin_folder();
    let mut command = Command::new(program);
    command
        .env("GST_PLUGIN_PATH", folder)
        .env("GST_DEBUG_NO_COLOR", "1")
        // Messages are matched in English.
        .env("LC_ALL", "C.UTF-8");
    if std::env::var_os("GST_REGISTRY").is_none() {
        command.env("GST_REGISTRY", folder.join("registry.bin"));
    }
    command
}

/// A folder with the plugin and no other library, which GStreamer would try to load.
fn plugin_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let plugin = newest_plugin();
        let profile = plugin.ancestors().find(|f| f.join(".fingerprint").exists());
        let folder = profile.unwrap_or_else(|| Path::new("/tmp")).join("gst-plugins");
        let link = folder.join("libgstvelin.so");
        let made = fs::create_dir_all(&folder).and_then(|()| {
            if fs::read_link(&link).is_ok_and(|target| target == plugin) {
                return Ok(());
            }
            // Other tests may be about to do the same: a rename replaces in one step.
            let new = folder.join(format!("new-{}", std::process::id()));
            symlink(&plugin, &new)?;
            fs::rename(&new, &link)
        });
        made.unwrap_or_else(|e| panic!("cannot make {}: {e}", folder.display()));
        folder
    })
}

/// Cargo puts the library beside the tests when it builds them, and one folder up when asked for it.
fn newest_plugin() -> PathBuf {
    let tests = std::env::current_exe().expect("a test knows where it runs from");
    let candidates = tests.ancestors().skip(1).take(2).map(|f| f.join("libgstvelin.so"));
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
    candidates.filter_map(|p| Some((changed(&p)?, p))).max().map_or_else(
        || {
            panic!(
                "libgstvelin.so is not built beside {}: run cargo build -p gst-velin",
                tests.display()
            )
        },
        |(_, path)| path,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_messages() {
        let line =
            "Got message #8 (element): velin/listening, port=(uint)49000, audio-port=(uint)1;";
        assert_eq!(number_after(line, "port=(uint)"), Some(49_000_u16));
        assert_eq!(number_after(line, "audio-port=(uint)"), Some(1_u16));
        assert_eq!(number_after::<u16>(line, "other="), None);
    }

    #[test]
    fn the_first_sound_is_found_after_silence() {
        let mut clip = Clip::silence(RATE, 2, 100);
        clip.samples[41] = 0.5;
        assert_eq!(first_sound(&clip, 0), Some(20));
        assert_eq!(first_sound(&clip, 21), None);
    }
}
