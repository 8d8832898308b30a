//! The commands: arguments in, exit code out.

pub mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A PostgreSQL connection-pooling proxy.
#[derive(Debug, Parser)]
#[command(name = "pgweir", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until SIGTERM or SIGINT.
    Serve {
        /// The configuration, a TOML file.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
}

/// It failed.
const FAILED: u8 = 1;
/// The arguments make no sense (`EX_USAGE`).
const USAGE: u8 = 64;
/// The configuration is wrong (`EX_CONFIG`).
const CONFIG: u8 = 78;

pub mod check;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // A closed stdout or stderr is no reason for another exit code.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match arguments.command {
        Command::Serve { config } => serve::run(&config),
    }
}
