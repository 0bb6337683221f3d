//! What the tests of the program share: homes of their own, and runs that end with their test.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A folder that stands for a machine: a configuration of its own, and a place to listen that is
/// known beforehand and that nobody else can take.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    /// Held on 127.0.0.1, so that the system gives their ports to nobody else; what is tested
    /// listens on the same ports of another loopback address.
    held: (TcpListener, UdpSocket),
}

impl Home {
    pub(crate) fn new() -> Self {
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0"));
        Self { dir: tempfile::tempdir().unwrap(), held: (tcp.unwrap(), udp.unwrap()) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("config")
    }

    /// Where a receiver with [`listening`](Self::listening) is found.
    pub(crate) fn address(&self) -> SocketAddrV4 {
        let port = self.held.0.local_addr().unwrap().port();
        let [high, low] = port.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(127, 77, high, low), port)
    }

    /// The keys of `[receive]` for this machine's own place.
    pub(crate) fn listening(&self) -> String {
        let address = self.address();
        let audio_port = self.held.1.local_addr().unwrap().port();
        format!(
            "bind = \"{}\"\nport = {}\naudio-port = {audio_port}\n",
            address.ip(),
            address.port()
        )
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A preset that sends to itself, without any device.
    pub(crate) fn loopback(&self) -> PathBuf {
        self.write(
            "loopback.toml",
            &format!(
                "schema = 1\ndescription = \"loopback\"\n[[capture]]\nkind = \"test\"\n\
                 [[send]]\nto = \"{}\"\n[receive]\n{}[[playback]]\nkind = \"none\"\n",
                self.address(),
                self.listening()
            ),
        )
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_velin-pipe"));
        command
            .args(arguments)
            .env("VELIN_CONFIG_DIR", self.config())
            .env_remove("VELIN_LINUX_MONITOR")
            .env_remove("VELIN_LINUX_MIC_SOURCE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Exit code and everything that was printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments))
    }

    /// This machine's key.
    pub(crate) fn recipient(&self) -> String {
        let (code, said) = self.run(&["identity", "show"]);
        assert_eq!(code, Some(0), "{said}");
        let word =
            |line: &str| line.split_whitespace().find(|w| w.starts_with("age1")).map(str::to_owned);
        said.lines().find_map(word).unwrap()
    }

    /// Lets `other` play here, under the name `peer`.
    pub(crate) fn trusts(&self, other: &Self) {
        let (code, said) = self.run(&["trust", "add", &other.recipient(), "--name", "peer"]);
        assert_eq!(code, Some(0), "{said}");
    }
}

/// The program while it runs. Dropping it kills it.
pub(crate) struct Run {
    child: Child,
    lines: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Run {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            follow(child.stdout.take().unwrap(), Arc::clone(&lines)),
            follow(child.stderr.take().unwrap(), Arc::clone(&lines)),
        ];
        Self { child, lines, readers }
    }

    /// Everything that was printed so far.
    pub(crate) fn said(&self) -> String {
        self.lines.lock().unwrap().clone()
    }

    /// The first line with `words` in it.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) -> String {
        let find = || self.said().lines().find(|line| line.contains(words)).map(str::to_owned);
        assert!(wait_until(SOON, || find().is_some()), "no {words:?} in\n{}", self.said());
        find().unwrap()
    }

    /// The TCP port that it says it listens on.
    #[track_caller]
    pub(crate) fn port(&self) -> u16 {
        let line = self.wait_for("listening: TCP port ");
        let port = line.trim_start_matches("listening: TCP port ").split(',').next().unwrap();
        port.parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Its exit code, with everything read that it printed.
    #[track_caller]
    pub(crate) fn ends_within(&mut self, limit: Duration) -> Option<i32> {
        let ended = wait_until(limit, || self.child.try_wait().unwrap().is_some());
        assert!(ended, "still running after {limit:?}:\n{}", self.said());
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(pipe: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut into = into.lock().unwrap();
            into.push_str(&line);
            into.push('\n');
        }
    })
}

pub(crate) fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A WAV file with a tone: 48 kHz, two channels, 16 bits.
pub(crate) fn write_tone(path: &Path, frames: u32) {
    let bytes = frames * 4;
    let mut file = Vec::new();
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + bytes).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16u32.to_le_bytes());
    for half in [1u16, 2] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for word in [48_000u32, 48_000 * 4] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for half in [4u16, 16] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(b"data");
    file.extend_from_slice(&bytes.to_le_bytes());
    for frame in 0..frames {
        let sample = (8000.0 * (f64::from(frame) * 0.0576).sin()) as i16;
        file.extend_from_slice(&sample.to_le_bytes());
        file.extend_from_slice(&sample.to_le_bytes());
    }
    fs::write(path, file).unwrap();
}
