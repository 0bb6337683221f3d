//! The programs that are compared, and this program's own helpers: ended when they are dropped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use velin::proc::wait_until;

/// A thread whose name begins like this plays or records: it is none of what is compared.
pub(crate) const OWN_THREAD: &str = "bench-";

/// How long a helper may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a program may take to end by itself.
const END: Duration = Duration::from_secs(2);

/// A running program.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    /// What a helper says, line by line.
    lines: Option<Receiver<String>>,
    log: PathBuf,
}

impl Program {
    /// Starts this program as a helper, with `--probe` and `arguments`. `place` says where it runs.
    pub(crate) fn helper(
        arguments: &[&str],
        folder: &Path,
        place: impl FnOnce(Command) -> Command,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(super::probe::ARGUMENT).args(arguments);
        let mut command = place(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut helper = Self::spawn(arguments[0], command, folder)?;
        let output = helper.child.stdout.take().context("a pipe")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        helper.lines = Some(lines);
        Ok(helper)
    }

    /// Starts `command` with nothing on its standard input; what it prints goes to a log.
    pub(crate) fn quiet(name: &str, mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self::spawn(name, command, folder)
    }

    /// Starts `command`, whose standard output is sound.
    pub(crate) fn sounding(
        name: &str,
        mut command: Command,
        folder: &Path,
    ) -> anyhow::Result<(Self, ChildStdout)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut program = Self::spawn(name, command, folder)?;
        let sound = program.child.stdout.take().context("a pipe")?;
        Ok((program, sound))
    }

    fn spawn(name: &str, mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}-{}.log", crate::timer::now()));
        command.stderr(File::create(&log)?);
        // SAFETY: one system call, which allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, lines: None, log })
    }

    /// Tells a helper something.
    pub(crate) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.child.stdin.as_mut().context("only helpers listen")?;
        writeln!(input, "{line}").map_err(|e| anyhow!("{e}; {}", self.last_words()))
    }

    /// What a helper says next.
    pub(crate) fn hear(&self) -> anyhow::Result<String> {
        let lines = self.lines.as_ref().context("only helpers speak")?;
        lines.recv_timeout(ANSWER).map_err(|_| anyhow!("no answer; {}", self.last_words()))
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("ended with {status}; {}", self.last_words())),
        }
    }

    /// Nanoseconds of processor time of its threads, but for this program's own.
    pub(crate) fn cpu(&self) -> u64 {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return 0 };
        let of = |task: PathBuf| {
            let name = fs::read_to_string(task.join("comm")).ok()?;
            let used = fs::read_to_string(task.join("schedstat")).ok()?;
            (!name.starts_with(OWN_THREAD)).then(|| used.split(' ').next()?.parse::<u64>().ok())?
        };
        tasks.flatten().filter_map(|task| of(task.path())).sum()
    }

    /// What it printed last, for errors.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|l| !l.trim().is_empty()).collect();
        format!("{} printed: {}", self.name, lines[lines.len().saturating_sub(4)..].join(" / "))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A helper ends when its input does.
        drop(self.child.stdin.take());
        if self.lines.is_none() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        if !wait_until(END, || self.child.try_wait().is_ok_and(|status| status.is_some())) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
