//! `velin-pipe run PRESET`

use crate::cli::Run;
use crate::error::Error;
use crate::pipeline::{self, RunOptions};
use crate::plan::Plan;
use crate::preset::load;
use crate::preset::model::CaptureSource;

/// Runs the preset until it ends, fails, its time is up, or a signal ends it.
pub fn run(arguments: &Run) -> Result<(), Error> {
    let preset = load::load(&arguments.preset, &arguments.sets)?;
    for capture in &preset.captures {
        if let CaptureSource::File { path, .. } = &capture.source
            && !path.get_ref().exists()
        {
            return Err(Error::NoInput { path: path.get_ref().clone() });
        }
    }
    pipeline::init()?;
    let plan = Plan::new(&preset, &pipeline::surroundings(&preset)?)?;
    let options = RunOptions {
        title: preset.description.clone().unwrap_or_else(|| arguments.preset.clone()),
        duration: arguments.duration.map(|duration| duration.0),
        stats_json: arguments.stats_json.clone(),
        status: arguments.status.map(|status| status.0),
    };
    pipeline::run(&plan, &preset.sources, &options)
}
