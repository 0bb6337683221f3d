//! Child processes for tests: their output is captured line by line, waiting always has a limit, and
//! nothing outlives the test, however it ends.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use thiserror::Error;

/// A running child, the leader of its own process group. Dropping it kills the whole group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    exit: Option<ExitStatus>,
    guardian: Option<Guardian>,
}

impl Process {
    /// Starts `command` with nothing on its standard input and both outputs captured.
    ///
    /// # Errors
    /// The program cannot be started; the error names it.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("cannot start {name}: {e}")))?;

        let output = Arc::new(Output::default());
        if let Some(stdout) = child.stdout.take() {
            output.clone().follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.clone().follow(stderr);
        }

        let guardian = Guardian::new(&format!("kill -KILL -{}", child.id()))?;
        Ok(Self { name, child, output, exit: None, guardian: Some(guardian) })
    }

    /// The child's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the child has printed so far, both outputs in order of arrival.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.lock().lines.join("\n")
    }

    /// Waits for a line that contains `text`, already printed or to come, and returns it.
    ///
    /// # Errors
    /// The child ended its output without the line, or `limit` passed. Both carry the output.
    pub fn wait_for_line(&self, text: &str, limit: Duration) -> Result<String, WaitError> {
        let deadline = Instant::now() + limit;
        let mut state = self.output.lock();
        loop {
            if let Some(line) = state.lines.iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            let (name, awaited) = (self.name.clone(), format!("a line with {text:?}"));
            let output = state.lines.join("\n");
            if state.closed == 2 {
                return Err(WaitError::Ended { name, awaited, output });
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(WaitError::TooLate { name, awaited, limit, output });
            };
            state = match self.output.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Asks the child to end as a user would, with Ctrl-C.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Asks the child to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends `signal` to the child (not to its group), unless it has been reaped.
    pub fn signal(&self, signal: Signal) {
        if self.exit.is_none() {
            let _ = kill_process(self.pid(), signal);
        }
    }

    /// True until the child has ended.
    pub fn is_running(&mut self) -> bool {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten();
        }
        self.exit.is_none()
    }

    /// Waits for the child to end and returns how it did.
    ///
    /// # Errors
    /// `limit` passed; the child goes on.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, WaitError> {
        let ended = wait_until(limit, || !self.is_running());
        // Its last words may still be on their way; a grandchild may keep the outputs open.
        if ended {
            wait_until(Duration::from_secs(1), || self.output.lock().closed == 2);
        }
        match self.exit {
            Some(status) if ended => Ok(status),
            _ => Err(WaitError::TooLate {
                name: self.name.clone(),
                awaited: "its end".into(),
                limit,
                output: self.output(),
            }),
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group may hold children of an already reaped leader; its number stays taken until
        // the last of them is gone, so it cannot name strangers as long as one exists. A leader
        // that is not reaped yet holds the number itself.
        if self.is_running() || group_exists(self.pid()) {
            let _ = kill_process_group(self.pid(), Signal::KILL);
        }
        if self.exit.is_none() {
            let _ = self.child.wait();
        }
        if let Some(guardian) = self.guardian.take() {
            guardian.dismiss();
        }
    }
}

/// Why waiting for a [`Process`] ended without what was awaited.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The child closed its outputs first.
    #[error("{name} ended before {awaited}; it printed:\n{output}")]
    Ended {
        /// The program.
        name: String,
        /// What was waited for.
        awaited: String,
        /// All it printed.
        output: String,
    },
    /// The limit passed.
    #[error("{name}: waited {limit:?} for {awaited} in vain; so far it printed:\n{output}")]
    TooLate {
        /// The program.
        name: String,
        /// What was waited for.
        awaited: String,
        /// How long.
        limit: Duration,
        /// All it has printed.
        output: String,
    },
}

/// Runs `command` to its end and returns what it printed, standard output first.
///
/// # Errors
/// It cannot be started, does not end within `limit`, or fails; the text carries its output.
pub fn run(mut command: Command, limit: Duration) -> Result<String, String> {
    let shown = format!("{command:?}");
    let (out, err) = (Arc::new(Output::default()), Arc::new(Output::default()));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {shown}: {e}"))?;
    if let Some(stdout) = child.stdout.take() {
        out.clone().follow(stdout);
    }
    if let Some(stderr) = child.stderr.take() {
        err.clone().follow(stderr);
    }

    let mut status = None;
    if !wait_until(limit, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    }) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{shown} did not end within {limit:?}"));
    }
    wait_until(Duration::from_secs(1), || out.lock().closed + err.lock().closed == 2);
    let (out, err) = (out.lock().lines.join("\n"), err.lock().lines.join("\n"));
    match status {
        Some(status) if status.success() => Ok(format!("{out}{err}")),
        _ => Err(format!("{shown} failed ({status:?}):\n{out}\n{err}")),
    }
}

/// `command` with real-time priority where the system allows it, as sound servers have on a desktop:
/// other work of the machine then disturbs it no more than it would there.
#[must_use]
pub fn urgent(command: &Command) -> Command {
    static ALLOWED: LazyLock<bool> = LazyLock::new(|| {
        let mut probe = Command::new("chrt");
        probe.args(["-f", "10", "true"]);
        run(probe, Duration::from_secs(10)).is_ok()
    });
    let mut urgent;
    if *ALLOWED {
        urgent = Command::new("chrt");
        urgent.args(["-f", "10"]).arg(command.get_program());
    } else {
        urgent = Command::new(command.get_program());
    }
    urgent.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => urgent.env(key, value),
            None => urgent.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        urgent.current_dir(folder);
    }
    urgent
}

/// Polls `condition` until it is true or `limit` has passed; returns whether it came true.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Watches how punctually this machine lets its threads run.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Watch {
    /// Begins to watch.
    #[must_use]
    pub fn start() -> Self {
        const NAP: Duration = Duration::from_millis(2);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                thread::sleep(NAP);
                longest = longest.max(begin.elapsed().saturating_sub(NAP));
            }
            longest
        });
        Self { stop, thread }
    }

    /// The longest that a thread has overslept since the start.
    #[must_use]
    pub fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(Duration::MAX)
    }
}

/// Runs a shell script if this process dies without saying [`Guardian::dismiss`]: a test runner that
/// kills a slow test gives it no chance to clean up after itself.
#[derive(Debug)]
pub(crate) struct Guardian(Child);

impl Guardian {
    pub(crate) fn new(script: &str) -> io::Result<Self> {
        // `read` returns when the pipe closes, which the kernel does for us.
        Command::new("sh")
            .args(["-c", &format!("read -r _; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map(Self)
    }

    pub(crate) fn dismiss(mut self) {
        // Killed before its pipe closes, so that the script never runs.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

impl Output {
    fn follow(self: Arc<Self>, pipe: impl Read + Send + 'static) {
        thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            // A status line may end in a carriage return only; both count as line ends below.
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line);
                let lines = text.split(['\r', '\n']).filter(|l| !l.is_empty());
                self.lock().lines.extend(lines.map(str::to_owned));
                self.changed.notify_all();
                line.clear();
            }
            self.lock().closed += 1;
            self.changed.notify_all();
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct OutputState {
    lines: Vec<String>,
    /// How many of the two pipes have ended.
    closed: u8,
}

fn group_exists(leader: Pid) -> bool {
    rustix::process::test_kill_process_group(leader).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_line_is_found_whether_it_came_before_or_comes_later() {
        let child = Process::spawn(shell("echo one; read -r _; echo two >&2; sleep 60")).unwrap();
        assert_eq!(child.wait_for_line("one", SOON).unwrap(), "one");
        assert_eq!(child.wait_for_line("tw", SOON).unwrap(), "two");
        assert_eq!(child.wait_for_line("one", SOON).unwrap(), "one");
    }

    #[test]
    fn waiting_ends_with_the_output_when_the_line_cannot_come() {
        let child = Process::spawn(shell("echo only this")).unwrap();
        let error = child.wait_for_line("that", SOON).unwrap_err();
        assert!(matches!(error, WaitError::Ended { .. }), "{error}");
        assert!(error.to_string().contains("only this"), "{error}");

        let silent = Process::spawn(shell("sleep 60")).unwrap();
        let error = silent.wait_for_line("x", Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, WaitError::TooLate { .. }), "{error}");
    }

    #[test]
    fn dropping_a_process_ends_its_children_too() {
        let child = Process::spawn(shell("sleep 60 & echo $!; wait")).unwrap();
        let line = child.wait_for_line("", SOON).unwrap();
        let grandchild = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        assert!(is_alive(grandchild));
        drop(child);
        assert!(wait_until(SOON, || !is_alive(grandchild)));
    }

    #[test]
    fn a_dead_test_takes_its_processes_along() {
        // The inner shell plays the test that is killed: its end of the guardian's pipe closes.
        let victim = Process::spawn(shell("sleep 60")).unwrap();
        let mut guardian = Guardian::new(&format!("kill -KILL -{}", victim.id())).unwrap();
        drop(guardian.0.stdin.take());
        let mut victim = victim;
        assert!(!victim.wait(SOON).unwrap().success());
        guardian.dismiss();
    }

    #[test]
    fn a_failing_command_is_reported_with_its_output() {
        let error = run(shell("echo why; exit 3"), SOON).unwrap_err();
        assert!(error.contains("why") && error.contains('3'), "{error}");
        assert_eq!(run(shell("echo fine"), SOON).unwrap(), "fine");
    }

    fn is_alive(pid: Pid) -> bool {
        // A zombie counts as gone: who reaps orphans is the machine's business.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|s| !s.rsplit(')').next().unwrap_or("").trim().starts_with('Z'))
    }
}
