//! A pipeline in a process of its own, so that one side's processor time and memory can be told
//! from the other's.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use gst::prelude::*;

use crate::timer::cpu;

/// Argument that makes this program such a process.
pub(crate) const ARGUMENT: &str = "--pipeline";

/// A playing pipeline. Killed when it is dropped.
pub(crate) struct Pipeline {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// TCP port of the element called `link`; 0 = it does not listen.
    pub(crate) port: u64,
    /// Its UDP port.
    pub(crate) audio_port: u64,
}

impl Pipeline {
    /// Plays `line`, in which one Velin element is called `link`.
    pub(crate) fn play(line: &str) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().context("a pipe")?;
        let output = BufReader::new(process.stdout.take().context("a pipe")?).lines();
        let mut pipeline = Self { process, input, output, port: 0, audio_port: 0 };
        pipeline.port = pipeline.ask(line)?;
        pipeline.audio_port = pipeline.ask("audio-port")?;
        Ok(pipeline)
    }

    /// Waits until `n` streams are played or `n` receivers served. Gives the milliseconds since
    /// the pipeline plays.
    pub(crate) fn wait_for(&mut self, n: usize) -> anyhow::Result<u64> {
        self.ask(&n.to_string())
    }

    fn ask(&mut self, command: &str) -> anyhow::Result<u64> {
        writeln!(self.input, "{command}")?;
        let answer = self.output.next().context("the other process has ended")??;
        Ok(answer.parse()?)
    }

    /// Nanoseconds of processor time that it has used.
    pub(crate) fn cpu(&mut self) -> anyhow::Result<u64> {
        self.ask("cpu")
    }

    /// Frames that its receiver has played as silence or concealed, summed over all streams.
    pub(crate) fn not_as_sent(&mut self) -> anyhow::Result<u64> {
        self.ask("not-as-sent")
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        Ok(self.status("VmRSS:")?.trim_end_matches(" kB").parse()?)
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> anyhow::Result<u64> {
        Ok(self.status("Threads:")?.parse()?)
    }

    /// A line of the kernel's about it.
    fn status(&self, key: &'static str) -> anyhow::Result<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix(key)).context(key)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What runs in the other process.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut commands = std::io::stdin().lines();
    let line = commands.next().context("a pipeline")??;
    let pipeline = gst::parse::launch(&line)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow::anyhow!("not a pipeline"))?;
    let link = pipeline.by_name("link").context("an element called link")?;
    pipeline.set_state(gst::State::Playing)?;
    let started = Instant::now();
    println!("{}", link.property::<u32>("current-port"));
    for command in commands {
        let answer = match command?.as_str() {
            "audio-port" => {
                let stats = link.property::<gst::Structure>("stats");
                u64::from(stats.get::<u32>("audio-port").unwrap_or_default())
            }
            "cpu" => cpu(),
            "not-as-sent" => not_as_sent(&link)?,
            n => {
                let n: usize = n.parse()?;
                while served(&link)? < n {
                    if started.elapsed() > Duration::from_secs(60) {
                        bail!("no {n} within a minute");
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                u64::try_from(started.elapsed().as_millis())?
            }
        };
        println!("{answer}");
    }
    Ok(())
}

fn not_as_sent(link: &gst::Element) -> anyhow::Result<u64> {
    let stats = link.property::<gst::Structure>("stats");
    let mut frames = 0;
    for stream in stats.get::<gst::List>("streams")?.iter() {
        let stream = stream.get::<gst::Structure>()?;
        frames += stream.get::<u64>("silence")? + stream.get::<u64>("concealed")?;
    }
    Ok(frames)
}

fn served(link: &gst::Element) -> anyhow::Result<usize> {
    if let Some(proxy) = link.dynamic_cast_ref::<gst::ChildProxy>() {
        return Ok(proxy.children_count() as usize);
    }
    let stats = link.property::<gst::Structure>("stats");
    Ok(stats.get::<gst::List>("receivers")?.len())
}
