//! `velin-pipe check PRESET…`

use crate::cli::Check;
use crate::error::Error;
use crate::pipeline::{self, build};
use crate::plan::Plan;
use crate::preset::load;

/// Checks every preset; the first one's error if any is wrong, the others are printed before.
pub fn run(arguments: &Check) -> Result<(), Error> {
    let mut first = None;
    for preset in &arguments.presets {
        match check(preset, &arguments.sets) {
            Ok(()) => println!("{preset}: ok"),
            Err(error) => {
                if let Some(earlier) = first.replace(error) {
                    eprintln!("{earlier}");
                }
            }
        }
    }
    first.map_or(Ok(()), Err)
}

fn check(preset: &str, sets: &[String]) -> Result<(), Error> {
    let preset = load::load(preset, sets)?;
    pipeline::init()?;
    // No device is opened: a preset may be checked where it will not run.
    let plan = Plan::new(&preset, &pipeline::surroundings_without_devices()?)?;
    build::build(&plan, &preset.sources)?;
    Ok(())
}
