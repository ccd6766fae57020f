//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};

use crate::config::units;

/// Keeps a second S3 bucket, in another region, account or store, equal to a first one, and proves it.
#[derive(Debug, Parser)]
#[command(name = "repl", version, max_term_width = 110)]
pub struct Args {
    /// The config file [default: repl.toml, then /etc/repl/repl.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Says more in the log; twice: everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Args {
    /// Reads the process's command line; on a mistake it says what is wrong and exits with 2.
    #[must_use]
    pub fn from_command_line() -> Self {
        Self::parse()
    }

    /// How much to log.
    #[must_use]
    pub fn log_level(&self) -> &'static str {
        match self.verbose {
            0 => "info",
            1 => "debug",
            2.. => "trace",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Replicates continuously what the queue tells
    #[command(
        after_help = "Examples:\n  repl run --config /etc/repl/repl.toml\n  repl run --until-idle=5s     from cron: works the queue off, then ends with 0 (1 if something is parked)"
    )]
    Run(Run),
    /// Replicates what exists already
    #[command(
        after_help = "Examples:\n  repl sync --full                          backfill: every object in scope, with its history where the rule says so\n  repl sync --full --prefix critical/       only keys that begin so\n\nInterrupted at any moment it goes on where it was. With a worker running on the same ledger, the worker does it;\nits live changes go first. Exit: 0 all equal, 1 something failed and is recorded."
    )]
    Sync(Sync),
    /// Tells what is going on: from the running worker, or from its ledger
    #[command(after_help = "Examples:\n  repl status\n  repl status --json | jq .pending.oldest_age_seconds")]
    Status(Status),
    /// Checks the chain of a directory of downloaded receipts
    #[command(hide = true)]
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// Ends once queue and ledger have been empty this long
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "5s", value_parser = duration)]
    pub(super) until_idle: Option<Duration>,
    /// Reports the end of the run as one JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Sync {
    /// Every object in scope of every rule
    #[arg(long, required = true)]
    pub(super) full: bool,
    /// Only this rule
    #[arg(long, value_name = "ID")]
    pub(super) rule: Option<String>,
    /// Only keys that begin so
    #[arg(long, value_name = "P", default_value = "")]
    pub(super) prefix: String,
    /// Also makes delete markers that hide an object at the target, where the rule says so
    #[arg(long)]
    pub(super) delete_markers: bool,
    /// Reports the end as one JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// Checks the receipts in this directory (*.jsonl, *.jsonl.gz): is the chain whole? Needs no config
    #[arg(long, value_name = "DIR", required = true)]
    pub(super) receipts: PathBuf,
    /// One JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// One JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text)
}
