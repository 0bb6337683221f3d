//! Compares a recording with what was played, and says what happened in between.
//!
//! ```sh
//! cargo run -p velin --bin compare -- [--json] [--at-least CORRELATION] REFERENCE.wav RECORDING.wav
//! ```
//!
//! Exit status: 0, 1 when the correlation is below what `--at-least` asks, 2 when the two files
//! cannot be compared.

use std::process::ExitCode;

use serde_json::json;
use velin::audio::{Clip, Comparison, compare};

const USAGE: &str = "usage: compare [--json] [--at-least CORRELATION] REFERENCE.wav RECORDING.wav";

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("compare: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let comparison = match arguments.compare() {
        Ok(comparison) => comparison,
        Err(error) => {
            eprintln!("compare: {error:#}");
            return ExitCode::from(2);
        }
    };
    if arguments.json {
        println!("{:#}", as_json(&comparison));
    } else {
        println!("{comparison}");
    }
    if comparison.correlation < arguments.at_least {
        eprintln!(
            "compare: the correlation is {:.5}, less than {}",
            comparison.correlation, arguments.at_least
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

struct Arguments {
    json: bool,
    at_least: f64,
    reference: String,
    recording: String,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let (mut json, mut at_least, mut files) = (false, -1.0, Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => json = true,
                "--at-least" => {
                    let value = arguments.next().unwrap_or_default();
                    at_least = value
                        .parse()
                        .map_err(|_| anyhow::anyhow!("--at-least wants a number, not {value:?}"))?;
                }
                option if option.starts_with('-') => anyhow::bail!("unknown option {option}"),
                _ => files.push(argument),
            }
        }
        let [reference, recording] = <[String; 2]>::try_from(files)
            .map_err(|files| anyhow::anyhow!("two files are wanted, not {}", files.len()))?;
        Ok(Self { json, at_least, reference, recording })
    }

    fn compare(&self) -> anyhow::Result<Comparison> {
        let reference = Clip::read(&self.reference)?;
        let recording = Clip::read(&self.recording)?;
        Ok(compare(&reference, &recording)?)
    }
}

fn as_json(comparison: &Comparison) -> serde_json::Value {
    let ms = |d: std::time::Duration| d.as_secs_f64() * 1000.0;
    json!({
        "judged_ms": ms(comparison.judged),
        "correlation": comparison.correlation,
        "level_db": comparison.level_db,
        "missing_ms": ms(comparison.missing()),
        "wrong_ms": ms(comparison.wrong),
        "lost_at_start_ms": ms(comparison.lost_at_start),
        "lost_at_end_ms": ms(comparison.lost_at_end),
        "offset_ms": comparison.offset * 1000.0,
        "wander_ms": comparison.wander_ms,
        "gaps": comparison.gaps.iter()
            .map(|gap| json!({ "at_ms": ms(gap.at), "length_ms": ms(gap.length) }))
            .collect::<Vec<_>>(),
    })
}
