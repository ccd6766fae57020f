//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

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
    /// Lists both sides and replicates the differences
    #[command(
        after_help = "Examples:\n  repl sync                                 what events missed: current objects that differ\n  repl sync --full                          backfill: every object in scope, with its history where the rule says so\n  repl sync --full --prefix critical/       only keys that begin so\n\nInterrupted at any moment it goes on where it was. With a worker running on the same ledger, the worker does it;\nits live changes go first. Exit: 0 all equal, 1 something failed and is recorded."
    )]
    Sync(Sync),
    /// Compares both sides, read-only, and says what is missing, different, extra or cannot be proven
    #[command(
        after_help = "Examples:\n  repl verify                                by listings, stamps and checksums: no request per object where listings tell\n  repl verify --deep --sample 1%             reads the bytes of one key in a hundred, the same ones for the same --seed\n  repl verify --versions --report audit.jsonl   whole histories; evidence for every difference as JSON lines\n  repl verify --receipts receipts/           is the chain of these downloaded receipts whole: 0 yes, 1 no\n\nNeeds no ledger, and works beside a running worker. \"kept\" counts what is gone at the source and rightly stays at\nthe target. Exit: 0 nothing missing, different or extra (what cannot be proven is counted and printed), 1 something\nis, 3 part of it could not be compared."
    )]
    Verify(Verify),
    /// Brings queue, notifications, lifecycle, alarms and dashboards to AWS: shows the difference, then makes it
    #[command(
        after_help = "Examples:\n  repl apply --dry-run                      what would change, and nothing else\n  repl apply                                all of it; a second time there is nothing to do\n  repl apply escalation                     topics, alarms, forwarding\n  repl apply --destroy                      removes what apply made, after asking; queues stay unless --queue\n\nWhat it did not write stays as it is. What cannot be done is told, and the rest goes on.\nExit: 0 all is as wanted (or would be), 1 something failed."
    )]
    Apply(Apply),
    /// Tells what is going on: from the running worker, or from its ledger
    #[command(after_help = "Examples:\n  repl status\n  repl status --json | jq .pending.oldest_age_seconds")]
    Status(Status),
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
    /// Every object in scope of every rule, with its version history where the rule says history = "all"
    #[arg(long)]
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
    /// Reads the bytes of both sides and compares them
    #[arg(long)]
    pub(super) deep: bool,
    /// Only that share of the keys, such as 1%
    #[arg(long, value_name = "PCT", value_parser = percentage)]
    pub(super) sample: Option<f64>,
    /// What picks the sample; printed, so that it can be picked again [default: the time]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Writes the evidence there as JSON lines: one for each object that is not identical
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Reports identical objects too
    #[arg(long, requires = "report")]
    pub(super) report_all: bool,
    /// Compares headers, user metadata, Object Lock and encryption key too: two HEADs per object
    #[arg(long)]
    pub(super) check_metadata: bool,
    /// Compares tags too: two requests more per object
    #[arg(long)]
    pub(super) check_tags: bool,
    /// Compares every version, in order, where the rule brings all
    #[arg(long)]
    pub(super) versions: bool,
    /// Only keys that begin so
    #[arg(long, value_name = "P", default_value = "")]
    pub(super) prefix: String,
    /// Only this rule
    #[arg(long, value_name = "ID")]
    pub(super) rule: Option<String>,
    /// Compares nothing, but checks downloaded receipts (*.jsonl, *.jsonl.gz): is their chain whole? Needs no config
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["deep", "sample", "seed", "report", "report_all", "check_metadata", "check_tags", "versions", "prefix", "rule"]
    )]
    pub(super) receipts: Option<PathBuf>,
    /// One JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    /// Which part
    #[arg(value_enum, default_value_t = Part::All)]
    pub(super) part: Part,
    /// Shows what would change, and changes nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Removes what apply made, and only that
    #[arg(long)]
    pub(super) destroy: bool,
    /// With --destroy: also the queues that apply made, if they are empty
    #[arg(long, requires = "destroy")]
    pub(super) queue: bool,
    /// With --destroy: does not ask
    #[arg(long, requires = "destroy")]
    pub(super) yes: bool,
    /// One JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// Queue, dead-letter queue and the bucket's event notifications
    Notifications,
    /// Lifecycle rules and Intelligent-Tiering of both buckets
    Lifecycle,
    /// Topics, alarms and their forwarding to the source's region
    Escalation,
    /// Dashboards and the request metrics that they show
    Dashboards,
    /// All of these
    All,
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

/// A share from 0 (exclusive) to 1, from a percentage with or without its sign.
fn percentage(text: &str) -> Result<f64, String> {
    let share = units::parse_share(&format!("{}%", text.strip_suffix('%').unwrap_or(text)))?;
    let share = f64::from(share.parts_per_million()) / 1e6;
    if share > 0.0 { Ok(share) } else { Err("nothing would be compared: give more than 0%".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(flags: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["repl", "verify"].iter().chain(flags))
    }

    #[test]
    fn receipts_are_checked_alone() {
        for alone in [&["--receipts", "dir"][..], &["--receipts", "dir", "--json"]] {
            let Ok(Args { command: Command::Verify(verify), .. }) = verify(alone) else { panic!("{alone:?}") };
            assert_eq!(verify.receipts, Some(PathBuf::from("dir")));
        }
        let others: [&[&str]; 10] = [
            &["--deep"],
            &["--sample", "1%"],
            &["--seed", "1"],
            &["--report", "file"],
            &["--report", "file", "--report-all"],
            &["--check-metadata"],
            &["--check-tags"],
            &["--versions"],
            &["--prefix", ""],
            &["--rule", "r"],
        ];
        for other in others {
            assert!(verify(other).is_ok(), "{other:?}");
            let refused = verify(&[other, &["--receipts", "dir"]].concat()).map_err(|error| error.kind());
            assert_eq!(refused.err(), Some(clap::error::ErrorKind::ArgumentConflict), "{other:?}");
        }
    }
}
