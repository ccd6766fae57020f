//! `repl verify`: compares both sides, read-only, and leaves evidence.

use std::fs::File;
use std::io::BufWriter;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::audit::report::{Breadth, Report, Tally};
use crate::audit::sample::Sample;
use crate::audit::{self, Settings, Told, Verdict};
use crate::config::{self, Config};
use crate::engine::budget::Budget;
use crate::engine::paced::Paced;
use crate::model::fault::Fault;
use crate::model::object::{RuleId, Timestamp};
use crate::ports::{Clock, World};

use super::progress::{self, Figures, Words, say};
use super::worker::{Signals, limits};
use super::world::Aws;
use super::{Exit, Failure, args, further};

/// Looks at single objects at once where the config says `auto`: S3 answers a HEAD in some 20 ms, so this is about as
/// many as two cores can sign and read.
const LOOKS: usize = 32;
const WORDS: Words = Words { work: "verify", wrong: "not identical" };

/// Compares as asked; the outcome goes to stdout.
pub(super) async fn verify(config: &Config, args: &args::Verify) -> Result<Exit, Failure> {
    super::known_rule(config, args.rule.as_deref())?;
    let world = Arc::new(Aws::new(config).await?);
    let budget = Arc::new(Budget::new(&limits(&config.transfer)));
    let world = Arc::new(Paced::new(world, budget, config.targets.iter().map(|target| &target.id)));
    let settings = settings(config, args, world.clock().now());
    let begun = Instant::now();
    let mut report = begin_report(config, args, &settings)?;
    let tally = Mutex::new(Tally::default());
    let mut note = |told: Told| {
        tally.lock().unwrap_or_else(PoisonError::into_inner).count(&told);
        report.as_mut().map_or(Ok(()), |report| report.add(&told))
    };
    let ended = tokio::select! {
        ended = audit::walk(&world, &settings, &mut note) => ended,
        never = progress::show(WORDS, || figures(&tally)) => match never {},
        exit = interrupted("what was compared so far is not the whole, and the report has no trailer") => return exit,
    };
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.map_err(|fault| unfinished(&fault))?;
    let outcome = outcome(&tally, &settings, begun.elapsed());
    if let Some(report) = report {
        report.end(outcome.clone()).map_err(|fault| unfinished(&fault))?;
    }
    if args.json {
        say(Value::Object(outcome));
    } else {
        print_summary(&tally, &settings, args, begun.elapsed());
    }
    Ok(match (tally.incomplete(), tally.differs()) {
        (true, _) => Exit::Stopped,
        (false, true) => Exit::Differs,
        (false, false) => Exit::Done,
    })
}

fn unfinished(fault: &Fault) -> Failure {
    Failure::stopped(format!("the comparison stopped, its report is not whole: {fault}"))
}

/// How many single objects are looked at at once.
pub(super) fn looks(config: &Config) -> usize {
    match config.transfer.concurrency {
        config::Concurrency::Auto => LOOKS,
        config::Concurrency::Fixed(count) => usize::try_from(count.get()).unwrap_or(LOOKS),
    }
}

fn settings(config: &Config, args: &args::Verify, now: Timestamp) -> Settings {
    let seed = args.seed.unwrap_or(now.0);
    Settings {
        rules: config.rules.clone(),
        source_bucket: config.source.bucket.clone(),
        prefix: args.prefix.clone(),
        only: args.rule.as_ref().map(RuleId::new),
        sample: args.sample.and_then(|share| Sample::of(share, seed)).unwrap_or_else(|| Sample::all(seed)),
        bytes: further(args.deep),
        metadata: further(args.check_metadata),
        tags: further(args.check_tags),
        versions: further(args.versions),
        looks: looks(config),
        started: now,
    }
}

fn begin_report(
    config: &Config,
    args: &args::Verify,
    settings: &Settings,
) -> Result<Option<Report<BufWriter<File>>>, Failure> {
    let Some(path) = &args.report else { return Ok(None) };
    let unwritable = |reason: String| {
        Failure::usage(format!("could not write the report {}: {reason}; name another file", path.display()))
    };
    let file = File::create(path).map_err(|error| unwritable(error.to_string()))?;
    let breadth = if args.report_all { Breadth::All } else { Breadth::Differences };
    let header = header(config, args, settings);
    Report::begin(BufWriter::new(file), breadth, header).map(Some).map_err(|fault| unwritable(fault.detail))
}

fn header(config: &Config, args: &args::Verify, settings: &Settings) -> Map<String, Value> {
    let targets: Vec<Value> = config
        .targets
        .iter()
        .map(|target| json!({"id": target.id.as_str(), "bucket": target.bucket, "region": target.connection.region}))
        .collect();
    let rules: Vec<&str> = config.rules.iter().filter(|rule| rule.enabled).map(|rule| rule.id.as_str()).collect();
    let mut fields = Map::new();
    for (name, value) in [
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("started", json!(settings.started.rfc3339())),
        ("source", json!({"bucket": config.source.bucket, "region": config.source.connection.region})),
        ("targets", json!(targets)),
        ("rules", json!(rules)),
        ("rule", json!(args.rule)),
        ("prefix", json!(args.prefix)),
        ("seed", json!(settings.sample.seed())),
        ("sample", json!(settings.sample.share())),
        ("deep", json!(args.deep)),
        ("check_metadata", json!(args.check_metadata)),
        ("check_tags", json!(args.check_tags)),
        ("versions", json!(args.versions)),
        ("all", json!(args.report_all)),
    ] {
        fields.insert(name.to_owned(), value);
    }
    fields
}

fn outcome(tally: &Tally, settings: &Settings, took: Duration) -> Map<String, Value> {
    let mut fields = tally.fields();
    fields.insert("failed".to_owned(), json!(tally.holes));
    fields.insert("sample".to_owned(), json!(settings.sample.share()));
    fields.insert("seed".to_owned(), json!(settings.sample.seed()));
    fields.insert("seconds".to_owned(), json!(took.as_secs_f64()));
    fields
}

fn print_summary(tally: &Tally, settings: &Settings, args: &args::Verify, took: Duration) {
    let what = if args.versions { "versions" } else { "objects" };
    say(format_args!("compared {} {what} in {:.1} s", tally.compared(), took.as_secs_f64()));
    for verdict in Verdict::ALL {
        say(format_args!("  {:<11} {:>10}", verdict.name(), tally.of(verdict)));
    }
    if args.sample.is_some() {
        say(format_args!(
            "a sample of {} %; the same again with --seed {}",
            settings.sample.share() * 100.0,
            settings.sample.seed()
        ));
    }
    for hole in &tally.holes {
        say(format_args!("not listed: {hole}"));
    }
    if let Some(first) = &tally.first_obstacle {
        say(format_args!("{} objects could not be looked at; the first: {first}", tally.obstacles));
    }
    let verdict = match (tally.incomplete(), tally.differs(), tally.of(Verdict::Unprovable)) {
        (true, _, _) => "incomplete: nothing can be said of what could not be read; mend the cause and run it again",
        (false, true, _) => "the sides differ",
        (false, false, 0) => "the sides are equal",
        (false, false, _) => "no difference was found, but not all could be proven; --deep reads the bytes",
    };
    say(verdict);
    match &args.report {
        Some(path) => say(format_args!("evidence is in {}", path.display())),
        None if tally.differs() => say("--report FILE names each difference with its evidence"),
        None => {}
    }
}

fn figures(tally: &Mutex<Tally>) -> Figures {
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let done = tally.compared();
    let wrong = done - tally.of(Verdict::Identical) + tally.of(Verdict::Extra);
    Figures { done, of: None, bytes: tally.bytes, bytes_of: None, failed: wrong }
}

/// Returns when a signal asks to stop; `so_far` says what that means.
pub(super) async fn interrupted(so_far: &str) -> Result<Exit, Failure> {
    Signals::listen()?.next().await;
    tracing::warn!("interrupted: {so_far}");
    Ok(Exit::Interrupted)
}
