//! `velin-pipe simulate TRACE`

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use velin_core::playout::{
    self, MAX_TRACE_BYTES, PlayoutDelay, Simulation, SimulationError, SimulationSettings, Spread,
    Trace, TraceError, simulate,
};

use super::plot::{Curve, plot, strip};
use crate::cli::{Format, Profile, Simulate};

/// Where nobody says how wide the terminal is.
const WIDTH: usize = 80;

/// Why a recorded network was not played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// No such file.
    #[error("there is no file {}\nmake one with `velinsrc trace-file=FILE`", path.display())]
    NotFound {
        /// Which file.
        path: PathBuf,
    },
    /// It is there but cannot be read.
    #[error("cannot read {}: {source}\ncheck the path and its permissions", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no trace.
    #[error("{}{}: error: {source}", path.display(), line(source))]
    Trace {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: TraceError,
    },
    /// It is a trace that cannot be played so.
    #[error("{}: error: {source}", path.display())]
    Simulation {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SimulationError,
    },
    /// Standard output is gone.
    #[error("cannot write the output: {0}\ncheck where it goes")]
    Output(#[from] io::Error),
}

/// Plays the trace in virtual time and prints what was heard.
pub fn run(arguments: &Simulate) -> Result<(), SimulateError> {
    let path = &arguments.trace;
    let trace = Trace::parse(&read(path)?)
        .map_err(|source| SimulateError::Trace { path: path.clone(), source })?;
    let settings = SimulationSettings {
        packet_time: arguments.packet_time.map(|time| time.0),
        ..SimulationSettings::new(delay(arguments))
    };
    let simulation = simulate(&trace, &settings)
        .map_err(|source| SimulateError::Simulation { path: path.clone(), source })?;
    let text = match arguments.format {
        Format::Text => text(arguments, &simulation, width()),
        Format::Json => format!("{:#}\n", json(&simulation)),
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

fn read(path: &Path) -> Result<Vec<u8>, SimulateError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SimulateError::NotFound { path: path.to_owned() },
        _ => SimulateError::Read { path: path.to_owned(), source },
    };
    let mut bytes = Vec::new();
    // One byte more, so that the reader sees that there are too many.
    let limit = MAX_TRACE_BYTES as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// `:7` for the seventh line, nothing if it is no single line that is wrong.
fn line(error: &TraceError) -> String {
    error.line().map(|line| format!(":{line}")).unwrap_or_default()
}

fn delay(arguments: &Simulate) -> PlayoutDelay {
    match arguments.profile {
        Profile::Low => PlayoutDelay::Adaptive(playout::Profile::Low),
        Profile::Music => PlayoutDelay::Adaptive(playout::Profile::Music),
        Profile::Voice => PlayoutDelay::Adaptive(playout::Profile::Voice),
        Profile::Fixed => PlayoutDelay::Fixed(arguments.latency.0),
    }
}

fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    columns.or_else(terminal).unwrap_or(WIDTH).clamp(40, 200)
}

fn text(arguments: &Simulate, s: &Simulation, width: usize) -> String {
    let profile = match arguments.profile {
        Profile::Low => "low",
        Profile::Music => "music",
        Profile::Voice => "voice",
        Profile::Fixed => "fixed",
    };
    let (delay, target) = (&s.delay, &s.target);
    let lost_share = s.lost as f64 / (s.lost + s.blocks).max(1) as f64;
    let mut text = format!(
        "{}: {:.1} s, {} packets of {} ms, {} lost ({:.2} %)\n",
        arguments.trace.display(),
        s.length.as_secs_f64(),
        s.blocks,
        millis(s.packet_time),
        s.lost,
        lost_share * 100.0,
    );
    text += &format!(
        "profile {profile}: delay {:.1} ms (median; 99 % of the time at most {:.1}), target {:.1} \
         ms ({:.1} to {:.1})\n",
        millis(delay.median),
        millis(delay.p99),
        millis(target.median),
        millis(target.least),
        millis(target.most),
    );
    text += &format!(
        "concealed {:.3} % ({:.0} ms), {} packets too late, {} re-anchors; nothing was repaired: \
         that needs the sender\n",
        s.concealed() * 100.0,
        millis(s.concealed_time()),
        s.stats.late,
        s.stats.reanchors,
    );
    let curve = |mark, of: fn(&playout::SimulatedSecond) -> Duration| Curve {
        mark,
        values: s.seconds.iter().map(|second| millis(of(second))).collect(),
    };
    text += "\ndelay (*) and its target (-), ms\n";
    text += &plot(&[curve('-', |s| s.target), curve('*', |s| s.delay)], width);
    let shares: Vec<f64> = s.seconds.iter().map(|second| second.concealed * 100.0).collect();
    text += &strip("made up, %", &shares, width);
    text
}

fn json(s: &Simulation) -> serde_json::Value {
    let spread = |spread: &Spread| {
        json!({
            "least": millis(spread.least),
            "median": millis(spread.median),
            "p99": millis(spread.p99),
            "most": millis(spread.most),
        })
    };
    let seconds = s.seconds.iter().map(|second| {
        json!({
            "target-ms": millis(second.target),
            "delay-ms": millis(second.delay),
            "concealed": second.concealed,
        })
    });
    json!({
        "length-s": s.length.as_secs_f64(),
        "packet-time-ms": millis(s.packet_time),
        "packets": s.blocks,
        "lost": s.lost,
        "late": s.stats.late,
        "reanchors": s.stats.reanchors,
        "concealed": s.concealed(),
        "concealed-ms": millis(s.concealed_time()),
        "delay-ms": spread(&s.delay),
        "target-ms": spread(&s.target),
        "seconds": seconds.collect::<Vec<_>>(),
    })
}

/// Milliseconds, to the microsecond.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::units::TimeSpan;
    use velin_core::playout::TracedBlock;

    fn arguments(profile: Profile) -> Simulate {
        Simulate {
            trace: "wifi.csv".into(),
            profile,
            latency: TimeSpan(Duration::from_millis(30)),
            packet_time: None,
            format: Format::Text,
        }
    }

    fn simulation(arguments: &Simulate) -> Simulation {
        let block = |i: u64| TracedBlock { arrival_ns: i * 5_000_000, media_ns: i * 5_000_000 };
        let blocks = (0..4_000).filter(|i| i % 200 != 100).map(block).collect();
        let settings = SimulationSettings::new(delay(arguments));
        simulate(&Trace::new(blocks).unwrap(), &settings).unwrap()
    }

    #[test]
    fn the_text_fits_the_terminal_and_says_what_was_heard() {
        let arguments = arguments(Profile::Fixed);
        let text = text(&arguments, &simulation(&arguments), 60);
        assert!(text.starts_with("wifi.csv: 20.0 s, 3980 packets of 5 ms, 20 lost (0.50 %)\n"));
        assert!(text.contains("profile fixed: delay 30.0 ms (median; "), "{text}");
        assert!(text.contains("concealed 0.5"), "{text}");
        let plot = text.lines().skip(4);
        assert!(plot.clone().count() > 8, "{text}");
        assert!(plot.map(|line| line.chars().count()).max() <= Some(60), "{text}");
    }

    #[test]
    fn json_has_every_second() {
        let simulation = simulation(&arguments(Profile::Music));
        let json = json(&simulation);
        assert_eq!(json["seconds"].as_array().unwrap().len(), 20);
        assert_eq!((json["lost"].as_u64(), json["packets"].as_u64()), (Some(20), Some(3_980)));
        assert!((json["concealed"].as_f64().unwrap() - 0.005).abs() < 0.001);
    }
}
