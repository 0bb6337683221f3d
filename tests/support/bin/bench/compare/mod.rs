//! The comparison with other programs: each with a sound card in front of it and a recorder behind
//! it, in processes of their own on two machines, over one path that can be made bad.
//!
//! `make bench ARGS=compare` prints tables and writes a page of HTML; `docs/performance.md` says what is
//! measured and what the figures do not say.

mod align;
mod cable;
mod card;
mod crowd;
mod figures;
mod impair;
mod jack;
mod libjack;
mod path;
mod peers;
mod plot;
mod probe;
mod process;
mod random;
mod recording;
mod report;
mod result;
mod scenario;
mod signal;
mod start;
mod table;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use velin::launch::Device;

use align::{Part, align};
use card::Card;
use figures::{Figures, figures, first_heard};
use path::Path;
use peers::Peer;
use recording::Capture;
use result::{Outcome, Results, Row};
use scenario::Scenario;
use signal::{Band, Signal};
use start::{Left, Stage};

use crate::timer::{Hiccups, now};

pub(crate) use probe::{ARGUMENT, run as help};

/// Frames a second.
pub(crate) const RATE: u64 = 48_000;
pub(crate) const CHANNELS: usize = 2;

/// Where a full comparison is kept, and a short one.
const REPORT: &str = "docs/bench/index.html";
const SHORT_REPORT: &str = "target/bench/index.html";

/// Compares, prints, and writes the report; with `only`, those whose name has that text, and no crowd.
pub(crate) fn run(short: bool, only: Option<&str>) -> anyhow::Result<()> {
    println!("### Comparison\n");
    let mut results = Results { setting: setting(), short, ..Results::default() };
    println!("{}\n", results.setting.join("  \n"));
    let folder = tempfile::Builder::new().prefix("velin-bench-").tempdir()?;
    for band in [Band::Wide, Band::Voice] {
        Signal::new(band).write(&folder.path().join(format!("{}.s16", band.name())))?;
    }
    let users = [Device::new()?, Device::new()?];
    users[0].trust(users[1].key(), "receiver");
    users[1].trust(users[0].key(), "sender");
    let path = Path::new(folder.path())?;
    let mut stage = Stage { path, folder: folder.path().to_owned(), users };

    for scenario in Scenario::ALL {
        let needs_cable = scenario.impairment() != impair::Impairment::default();
        if (short && !scenario.is_short()) || (needs_cable && !stage.path.can_be_bad()) {
            continue;
        }
        let wanted = |peer: &Peer| only.is_none_or(|text| peer.name.contains(text));
        let peers: Vec<Peer> = scenario.peers(short).into_iter().filter(wanted).collect();
        if peers.is_empty() {
            continue;
        }
        println!("{}", table::header(scenario));
        for peer in peers {
            if let Err(why) = peer.available() {
                if !results.skipped.iter().any(|(name, _)| *name == peer.name) {
                    results.skipped.push((peer.name, why));
                }
                continue;
            }
            let outcome = measure(&mut stage, scenario, &peer, short);
            let outcome = outcome.map_err(|e| format!("{e:#}"));
            results.rows.push(Row { scenario, peer: peer.name, outcome });
            results.rows.last().into_iter().for_each(|row| println!("{}", table::row(row)));
        }
        println!();
    }
    drop(stage);

    if only.is_none() {
        crowds(&mut results)?;
    }
    println!("\n{}", table::skipped(&results));

    results.setting.extend(load("after the run"));
    let report = PathBuf::from(if short || only.is_some() { SHORT_REPORT } else { REPORT });
    let parent = report.parent().context("the report's folder")?;
    std::fs::create_dir_all(parent).context("run this in the project's folder")?;
    std::fs::write(&report, report::html(&results))?;
    println!("Plots: {}\n", report.display());
    Ok(())
}

/// What more and more senders cost one receiver.
fn crowds(results: &mut Results) -> anyhow::Result<()> {
    println!(
        "#### Many senders, one receiver\n\nStereo, 5 ms packets, both processes on one machine.\n"
    );
    println!("| {} |\n|{}", table::CROWD.join(" | "), "---|".repeat(table::CROWD.len()));
    let crowds: &[(usize, u64)] = if results.short {
        &[(1, 3), (16, 3), (128, 5)]
    } else {
        &[(1, 5), (16, 5), (64, 5), (128, 300)]
    };
    for (senders, seconds) in crowds {
        let crowd = crowd::measure(*senders, *seconds)?;
        println!("| {} |", table::crowd_cells(&crowd).join(" | "));
        results.crowd.push(crowd);
    }
    Ok(())
}

/// One row: starts the peer, waits, measures for a while, and looks at what came out.
fn measure(
    stage: &mut Stage,
    scenario: Scenario,
    peer: &Peer,
    short: bool,
) -> anyhow::Result<Outcome> {
    let (warm, seconds) = scenario.seconds(short);
    stage.path.impair(impair::Impairment::default())?;
    let mut running = stage.start(peer, scenario.ppm())?;
    stage.path.impair(scenario.impairment())?;
    std::thread::sleep(Duration::from_secs(warm));
    running.check()?;

    let hiccups = Hiccups::start();
    let (began, wire) = (now(), stage.path.counts()?);
    let cpu = [running.sender.cpu(), running.receiver.cpu()];
    std::thread::sleep(Duration::from_secs(seconds));
    let used = [running.sender.cpu() - cpu[0], running.receiver.cpu() - cpu[1]];
    let (ended, counts) = (now(), stage.path.counts()?);
    let timer = hiccups.finish();
    running.check()?;
    stage.path.impair(impair::Impairment::default())?;

    let span = (ended - began) as f64;
    let bytes = [0, 1].map(|d| (counts[d].bytes - wire[d].bytes) as f64 * 1e6 / span);
    let (spawned, at_once) = (running.spawned, running.started_at_once);
    let left = running.finish(&stage.folder)?;
    let signal = Signal::read(&stage.signal(peer))?;
    let parts = align(&signal, &left.capture, &left.recording, peer.grain);
    let came_out = |frame| left.recording.came_out(frame);
    let heard = first_heard(&parts, came_out).filter(|_| at_once);
    let (figures, card) = came_of(scenario, &left, &parts, began..ended);
    Ok(Outcome {
        figures: figures.context("nothing of the source came out")?,
        cpu: used.map(|used| used as f64 / span * 100.0),
        wire: stage.path.can_be_bad().then_some(bytes),
        startup: heard.map(|at| at.saturating_sub(spawned) as f64 / 1e6),
        timer,
        card,
        told: left
            .told
            .iter()
            .filter(|(at, ..)| (began..ended).contains(at))
            .map(|(at, delay, target, ppm)| ((at - began) as f32 / 1e9, *delay, *target, *ppm))
            .collect(),
    })
}

/// The figures, behind a sound card where the clocks are what matters.
fn came_of(
    scenario: Scenario,
    left: &Left,
    parts: &[Part],
    window: std::ops::Range<u64>,
) -> (Option<Figures>, Option<(u32, u32)>) {
    let capture: &Capture = &left.capture;
    if !scenario.drifts() {
        return (figures(parts, capture, window, |frame| left.recording.came_out(frame)), None);
    }
    let played = Card::USUAL.play(&left.recording);
    let figures = figures(parts, capture, window, |frame| played.came_out(frame));
    (figures, Some((played.dry, played.full)))
}

/// Where and with what this runs.
fn setting() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        let output = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        let text = String::from_utf8_lossy(&output).into_owned();
        text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default().trim().to_owned()
    };
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|l| Some(l.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()))
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let system = read("/etc/os-release")
        .lines()
        .find_map(|l| Some(l.strip_prefix("PRETTY_NAME=")?.trim_matches('"').to_owned()))
        .unwrap_or_default();
    let mut lines = vec![
        format!(
            "{}, commit {}",
            said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            said("git", &["rev-parse", "--short", "HEAD"])
        ),
        format!("{cores} cores of {model}; {system}; Linux {}", said("uname", &["-r"])),
        gst::version_string().to_string(),
        format!(
            "Snapcast: {}; JackTrip: {}",
            said("snapserver", &["--version"]),
            said("jacktrip", &["--version"])
        ),
    ];
    lines.extend(load("before the run"));
    lines
}

/// How busy the machine is.
fn load(when: &str) -> Option<String> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let minute = load.split(' ').next()?;
    Some(format!("Load of the last minute {when}: {minute}"))
}
