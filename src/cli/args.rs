//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::config::units;

use super::{control, failures, limit, why};

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
    /// How events are written to stderr, one line each
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object for each event
    Json,
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

    /// How to write the log.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Writes a commented starter config
    #[command(
        after_help = "Examples:\n  repl init                                   asks for what it needs\n  repl init --source acme-primary --source-region us-east-1 --target acme-dr --target-region eu-west-2\n  repl init --from-bucket acme-primary        in place of that bucket's own replication\n\nWhat native replication does and repl does otherwise stands in the file as comments, and on stderr."
    )]
    Init(Init),
    /// Proves the config with real calls: a table of what works, and of what to grant or set where something does not
    #[command(
        after_help = "Examples:\n  repl check                        writes, reads and removes probes under .repl/check/ at the targets\n  repl check --read-only            writes nothing anywhere\n  repl check --json | jq '.checks[] | select(.outcome == \"fail\") | .fix'\n\nWith a [queue] one small object is written to the source, and its event waited for; no rule replicates it, and it is\nremoved. Exit: 0 nothing failed, 1 something did."
    )]
    Check(Check),
    /// Replicates continuously what the queue tells
    #[command(
        after_help = "Examples:\n  repl run --config /etc/repl/repl.toml\n  repl run --until-idle=5s     from cron: works the queue off, then ends with 0 (1 if something is parked)"
    )]
    Run(Run),
    /// Lists both sides and replicates the differences
    #[command(
        after_help = "Examples:\n  repl sync                                 what events missed: current objects that differ\n  repl sync --full                          backfill: every object in scope, with its history where the rule says so\n  repl sync --full --prefix critical/       only keys that begin so\n  repl sync --manifest s3://acme-lists/acme-primary/daily/2026-11-21T01-00Z/manifest.json\n\nInterrupted at any moment it goes on where it was. With a worker running on the same ledger, the worker does it;\nits live changes go first. Exit: 0 all equal, 1 something failed and is recorded."
    )]
    Sync(Sync),
    /// Tells what a sync would do: objects, bytes, requests, time and dollars, before anything is done
    #[command(
        after_help = "Examples:\n  repl plan                                 of `repl sync`: the differences of current objects\n  repl plan --full --rate 20MiB/s           of the backfill, at that rate\n  repl plan --json | jq .dollars.total      needs no worker and no ledger, writes nothing\n\nWhat is not known is said to be not known; a total without it is told as a lower bound. Exit: 0 all could be\nforeseen, 3 part of it could not be listed or looked at."
    )]
    Plan(Plan),
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
    /// Shows the brake on mass deletes, and releases what it holds
    #[command(
        after_help = "Examples:\n  repl brake                       does it hold deletes, how many, since when and why\n  repl brake release               lets go what is held, and begins a new count\n  repl brake release --target dr   at this target only\n\nHeld deletes wait, also over restarts; everything else goes on. Before each one goes the source is asked again: what was\nundeleted there meanwhile stays."
    )]
    Brake(Brake),
    /// One object's story: its rule, events, attempts, both sides, and what happens next
    #[command(
        after_help = "Examples:\n  repl why s3://acme-primary/critical/a.pdf\n  repl why 's3://acme-primary/a.pdf?versionId=3sL4kqtJlcpXroDTDmJ'    one version\n  repl why --literal 's3://acme-primary/odd?versionId=name'            that is its key\n  repl why --encoded s3://acme-primary/caf%C3%A9%2B1                  as in a URL\n\nThe key is taken as it stands, unless --encoded. A replica's bucket and key may be named too. Works with the worker\nrunning or not, and for keys that were never seen."
    )]
    Why(why::Why),
    /// What is parked or could not be understood, why, what mends it; and the ways back
    #[command(
        after_help = "Examples:\n  repl failures                              groups by cause, each with its fix\n  repl failures retry --group 3              tries all of it again, now\n  repl failures drop --prefix tmp/ --yes     gives it up for good\n  repl failures show 7                       a message that could not be understood, whole\n  repl failures retry --messages             reads all of those again, as after an upgrade\n\nGroups go on by themselves when a probe shows that the cause is gone. Exit: 0; 1 nothing matched, or some of it stays."
    )]
    Failures(failures::Failures),
    /// Sets other limits while the worker runs, or tells what is in force
    #[command(
        after_help = "Examples:\n  repl limit                                      what is in force, and who set it\n  repl limit bandwidth=20MiB/s concurrency=4      from now on, over restarts too\n  repl limit bandwidth=unlimited --until 2h       ends by itself\n  repl limit --reset                              windows and config decide again\n\nOf each limit: what was set here; else the first time window of the config that holds and names it; else [transfer]."
    )]
    Limit(limit::Limit),
    /// Holds work back: nothing is polled or begun until `resume`, over restarts too
    #[command(
        after_help = "Examples:\n  repl pause                                until `repl resume`\n  repl pause --until 2h30m                  or until then, by itself\n  repl pause --until 2026-11-21T18:00:00Z\n\nWhat is under way is finished. Works without a running worker too: the next one starts paused."
    )]
    Pause(control::Pause),
    /// Ends a pause
    #[command(
        after_help = "Examples:\n  repl resume\n\nWorks without a running worker too. A pause that has its own end needs none."
    )]
    Resume(control::Resume),
    /// Ends the running worker once what is under way is done; started again, it goes on
    #[command(
        after_help = "Examples:\n  repl drain && reboot                      nothing is under way when the machine goes\n\nWaits until the worker has ended, which then exits with 0. What is not done after 30 s stays to be done by the next."
    )]
    Drain(control::Drain),
    /// Prints what a shell needs to complete commands and options
    #[command(
        after_help = "Examples:\n  repl completions bash > /usr/share/bash-completion/completions/repl\n  repl completions zsh > ~/.zfunc/_repl\n  repl completions fish > ~/.config/fish/completions/repl.fish\n  source <(repl completions bash)           for this shell only"
    )]
    Completions(Completions),
    /// Prints a page of the manual, or writes all of them
    #[command(
        after_help = "Examples:\n  repl man | man -l -                       repl(1)\n  repl man sync | man -l -                  repl-sync(1)\n  repl man --dir /usr/local/share/man/man1  all of them"
    )]
    Man(Man),
}

#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Of this command [default: the program]
    #[arg(value_name = "COMMAND")]
    pub(super) page: Option<String>,
    /// Writes every page into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    pub(super) dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// The bucket to be replicated
    #[arg(long, value_name = "B", conflicts_with = "from_bucket")]
    pub(super) source: Option<String>,
    /// Its region
    #[arg(long, value_name = "R")]
    pub(super) source_region: Option<String>,
    /// The S3-compatible store that it is in, instead of AWS
    #[arg(long, value_name = "URL")]
    pub(super) source_endpoint: Option<String>,
    /// The bucket to be kept equal to it
    #[arg(long, value_name = "B", conflicts_with = "from_bucket")]
    pub(super) target: Option<String>,
    /// Its region
    #[arg(long, value_name = "R", conflicts_with = "from_bucket")]
    pub(super) target_region: Option<String>,
    /// The S3-compatible store that it is in, instead of AWS
    #[arg(long, value_name = "URL")]
    pub(super) target_endpoint: Option<String>,
    /// The URL of the queue that S3 sends its events to
    #[arg(long, value_name = "URL")]
    pub(super) queue: Option<String>,
    /// Translates this bucket's own ReplicationConfiguration
    #[arg(long, value_name = "B")]
    pub(super) from_bucket: Option<String>,
    /// Where to write; - is stdout
    #[arg(long, short, value_name = "FILE", default_value = "repl.toml")]
    pub(super) output: PathBuf,
    /// Writes over a file that is there
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Writes nothing: no probes, no event, no metric
    #[arg(long)]
    pub(super) read_only: bool,
    /// How long the event of a new object is waited for
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(super) wait: Duration,
    /// One JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Brake {
    #[command(subcommand)]
    pub(super) action: Option<BrakeAction>,
    /// One JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum BrakeAction {
    /// Lets go what is held, and begins a new count
    Release(BrakeRelease),
}

#[derive(Debug, clap::Args)]
pub(super) struct BrakeRelease {
    /// Only at this target
    #[arg(long, value_name = "T")]
    pub(super) target: Option<String>,
    /// One JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
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
    /// Does nothing, and tells what would be done, as `repl plan`
    #[arg(long, conflicts_with_all = ["max_spend", "manifest", "check_metadata", "check_tags"])]
    pub(super) dry_run: bool,
    /// Stops before more than that is spent on requests and transfer, such as 5.00 or '$5'; the next sync goes on
    #[arg(long, value_name = "DOLLARS", value_parser = units::parse_dollars)]
    pub(super) max_spend: Option<f64>,
    /// With --dry-run: tells the time at this rate, such as 20MiB/s
    #[arg(long, value_name = "RATE", value_parser = rate, requires = "dry_run")]
    pub(super) rate: Option<u64>,
    /// A price table in place of the built-in one (config/prices.toml)
    #[arg(long, value_name = "FILE")]
    pub(super) prices: Option<PathBuf>,
    /// Takes the objects from a list instead of listing the source: s3://BUCKET/PATH/manifest.json of an S3 Inventory
    /// (CSV), or a CSV file `bucket,key[,version]` with URL-encoded keys. Deletes nothing
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["delete_markers", "check_metadata", "check_tags"])]
    pub(super) manifest: Option<String>,
    /// Brings headers, user metadata, Object Lock and encryption key in line too: two HEADs per object
    #[arg(long, conflicts_with = "full")]
    pub(super) check_metadata: bool,
    /// Brings tags in line too: two requests more per object
    #[arg(long, conflicts_with = "full")]
    pub(super) check_tags: bool,
    /// Reports the end as one JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// Of `repl sync --full`: every object in scope, with its version history where the rule says history = "all"
    #[arg(long)]
    pub(super) full: bool,
    /// Only this rule
    #[arg(long, value_name = "ID")]
    pub(super) rule: Option<String>,
    /// Only keys that begin so
    #[arg(long, value_name = "P", default_value = "")]
    pub(super) prefix: String,
    /// Also delete markers that would hide an object at the target, where the rule says so
    #[arg(long)]
    pub(super) delete_markers: bool,
    /// Tells the time at this rate, such as 20MiB/s [default: that of the last sync on this ledger]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(super) rate: Option<u64>,
    /// A price table in place of the built-in one (config/prices.toml)
    #[arg(long, value_name = "FILE")]
    pub(super) prices: Option<PathBuf>,
    /// One JSON object on stdout
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

/// Bytes per second; none at all would never end.
fn rate(text: &str) -> Result<u64, String> {
    match units::parse_rate(text)? {
        0 => Err(format!("{text:?} would never end")),
        rate => Ok(rate),
    }
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
