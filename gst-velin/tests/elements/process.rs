//! A pipeline in a process of its own: to count one side's threads, to stop or kill it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use gst::prelude::*;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Line, PATIENCE, init, until};

/// Set for the child.
const MARK: &str = "VELIN_TEST_PROCESS";

/// Before every answer: the test harness prints lines of its own.
const ANSWER: &str = "> ";

/// This test program once more, with nothing in it but one pipeline. Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Process {
    /// A pipeline in NULL.
    pub(crate) fn launch(line: &str) -> Self {
        // Its answers are structures.
        init();
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["process::one_pipeline", "--exact", "--ignored", "--nocapture"])
            .env(MARK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(answer) = line.strip_prefix(ANSWER) {
                    let _ = tell.send(answer.to_owned());
                }
            }
        });
        let mut process = Self { child, input, answers };
        assert_eq!(process.ask(&line.replace('\n', " ")), "ready");
        process
    }

    /// The same, playing.
    pub(crate) fn play(line: &str) -> Self {
        let mut process = Self::launch(line);
        process.set("playing");
        process
    }

    pub(crate) fn set(&mut self, state: &str) {
        assert_eq!(self.ask(state), "done", "{state}");
    }

    pub(crate) fn stats(&mut self, element: &str) -> gst::Structure {
        self.ask(&format!("stats {element}")).parse().expect("a structure")
    }

    pub(crate) fn port(&mut self, element: &str) -> u32 {
        self.ask(&format!("port {element}")).parse().expect("a number")
    }

    /// Waits until the `velinsrc` plays `n` streams. Gives the milliseconds since it started.
    pub(crate) fn streams(&mut self, element: &str, n: usize) -> u64 {
        self.ask(&format!("streams {element} {n}")).parse().expect("a number")
    }

    pub(crate) fn no_error(&mut self) {
        assert_eq!(self.ask("errors"), "none");
    }

    /// How many threads of it are called `name`; of all threads without one.
    pub(crate) fn threads(&self, name: Option<&str>) -> usize {
        let names = self.tasks("comm");
        names.iter().filter(|n| name.is_none_or(|name| n.trim() == name)).count()
    }

    /// How many threads it has of each name.
    pub(crate) fn threads_by_name(&self) -> BTreeMap<String, usize> {
        let mut threads = BTreeMap::new();
        for name in self.tasks("comm") {
            *threads.entry(name.trim().to_owned()).or_default() += 1;
        }
        threads
    }

    /// How often the threads called `name` fell asleep by themselves, so far.
    pub(crate) fn sleeps(&self, name: &str) -> u64 {
        let named = |status: &String| status.contains(&format!("Name:\t{name}\n"));
        let sleeps = |status: String| {
            let (_, rest) = status.split_once("\nvoluntary_ctxt_switches:")?;
            rest.lines().next()?.trim().parse::<u64>().ok()
        };
        self.tasks("status").into_iter().filter(named).filter_map(sleeps).sum()
    }

    /// A file of each of its threads.
    fn tasks(&self, file: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it lives");
        tasks.filter_map(|t| fs::read_to_string(t.ok()?.path().join(file)).ok()).collect()
    }

    /// It reads nothing, sends nothing and does not know it.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("our own child");
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("it lives");
        let answer = self.answers.recv_timeout(2 * PATIENCE);
        answer.unwrap_or_else(|e| panic!("no answer to {:.200}: {e}", command))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What runs in the other process.
#[test]
#[ignore = "other tests start it, in a process of its own"]
fn one_pipeline() {
    if env::var_os(MARK).is_none() {
        return;
    }
    let mut commands = std::io::stdin().lines().map_while(Result::ok);
    let Some(line) = commands.next() else { return };
    let line = Line::parse(&line);
    let answer = |text: &str| {
        let mut out = std::io::stdout().lock();
        let _ = write!(out, "\n{ANSWER}{text}\n");
        let _ = out.flush();
    };
    answer("ready");
    let mut started = Instant::now();
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        match words[..] {
            ["playing"] => {
                line.set(gst::State::Playing);
                started = Instant::now();
                answer("done");
            }
            ["paused"] => {
                line.set(gst::State::Paused);
                answer("done");
            }
            ["stats", element] => {
                let stats: gst::Structure = line.element(element).property("stats");
                answer(&stats.to_string());
            }
            ["port", element] => {
                let port: u32 = line.element(element).property("current-port");
                answer(&port.to_string());
            }
            ["streams", element, n] => {
                let n: usize = n.parse().expect("a number");
                let element = line.element(element);
                let proxy = element.dynamic_cast_ref::<gst::ChildProxy>().expect("a velinsrc");
                let enough = || (proxy.children_count() as usize >= n).then_some(());
                until(&format!("{n} streams"), enough);
                answer(&started.elapsed().as_millis().to_string());
            }
            ["errors"] => {
                line.messages.no_error();
                answer("none");
            }
            _ => panic!("what is {command:?}?"),
        }
    }
}
