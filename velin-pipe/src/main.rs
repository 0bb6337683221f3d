//! The launcher's thin shell: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use velin_pipe::cli::{Cli, Command};
use velin_pipe::commands;
use velin_pipe::error::{Error, exit};

fn main() -> ExitCode {
    match try_main(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let code = error.downcast_ref::<Error>().map_or(exit::PIPELINE, Error::exit_code);
            ExitCode::from(code)
        }
    }
}

fn try_main(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Run(arguments) => commands::run::run(&arguments)?,
        Command::Check(arguments) => commands::check::run(&arguments)?,
        Command::Identity(arguments) => commands::identity::run(&arguments).map_err(Error::from)?,
        Command::Trust(arguments) => commands::trust::run(&arguments).map_err(Error::from)?,
        Command::Simulate(arguments) => commands::simulate::run(&arguments).map_err(Error::from)?,
        Command::Version => commands::version::run()?,
    }
    Ok(())
}
