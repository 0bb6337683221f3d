//! A recorded network that somebody sent along with a report, and how it would have been played.

use std::time::Duration;

use velin_core::playout::{PlayoutDelay, Profile, SimulationSettings, Trace, simulate};

/// What parses is written as something that parses to the same; a short one can be played.
pub fn run(data: &[u8]) {
    let trace = match Trace::parse(data) {
        Ok(trace) => trace,
        Err(e) => {
            super::assert_printable(&e);
            assert!(e.line().is_none_or(|line| line <= data.len()));
            return;
        }
    };
    let lines: Vec<String> = trace.blocks().iter().map(ToString::to_string).collect();
    assert_eq!(Trace::parse(lines.join("\n").as_bytes()).as_ref(), Ok(&trace));
    // Virtual time too takes its time.
    if trace.length() > Duration::from_secs(5) {
        return;
    }
    let settings = SimulationSettings::new(PlayoutDelay::Adaptive(Profile::Music));
    match simulate(&trace, &settings) {
        Ok(simulation) => {
            assert!(simulation.stats.adds_up());
            assert!((0.0..=1.0).contains(&simulation.concealed()));
            assert!(simulation.seconds.len() <= 6);
        }
        Err(e) => super::assert_printable(&e),
    }
}
