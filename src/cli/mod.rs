//! The commands: arguments in, exit code out.

pub mod check;
pub mod demo;
pub mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::auth::{StoredSecret, UsersFile};

/// A PostgreSQL connection-pooling proxy.
#[derive(Debug, Parser)]
#[command(name = "pgweir", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration: every problem, or what it comes to.
    Check {
        /// The configuration, a TOML file.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
    /// Try it: a throwaway PostgreSQL, pgweir before it with three domains, and a sample load.
    Demo(demo::Options),
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
        Command::Check { config } => check::run(&config, &users_of),
        Command::Demo(options) => demo::run(&options),
        Command::Serve { config } => serve::run(&config),
    }
}

/// Reads a users file for the check: who has what kind of secret.
fn users_of(text: &str) -> Result<Vec<(String, check::SecretKind)>, Vec<String>> {
    let users = UsersFile::parse(text)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let kind = |secret: &StoredSecret| match secret {
        StoredSecret::Plain(_) => check::SecretKind::Plain,
        StoredSecret::Md5(_) => check::SecretKind::Md5,
        StoredSecret::Scram(_) => check::SecretKind::Scram,
    };
    Ok(users.iter().map(|(name, secret)| (name.to_owned(), kind(secret))).collect())
}
