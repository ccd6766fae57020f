//! `repl check`: the config proved by real calls. Every probe is a row: pass, fail with what mends it, or skipped with
//! the reason.
//!
//! It writes under `.repl/check/` only, at the targets, and one object at the source where an event is waited for;
//! whatever became of the probes, and also when it is interrupted, it sweeps its own prefix at the end. `plan::route`
//! knows the prefix and replicates none of it.

mod finding;
mod machine;
mod monitoring;
mod queue;
mod side;
mod source;
mod sweep;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

pub(super) use finding::Finding;
use finding::{Check, Outcome};
use side::{Bucket, Standing};

use super::fix::Place;
use super::known::{self, Known};
use super::progress::{complain, say};
use super::worker::Signals;
use super::world::{Aws, SystemClock};
use super::{Exit, Failure, args};
use crate::aws::Clients;
use crate::aws::s3::S3Bucket;
use crate::config::{Config, Target};
use crate::model::fault::Side;
use crate::model::object::{Key, Timestamp};
use crate::model::reserved;
use crate::ports::{Clock, World};

/// One check under way.
struct Probes<'a> {
    config: &'a Config,
    world: Aws,
    clients: Clients,
    read_only: bool,
    /// How long an event is waited for.
    wait: Duration,
    /// Names this check's own prefix.
    nonce: String,
    /// The sides that were written to, and the keys there.
    wrote: Mutex<BTreeMap<String, BTreeSet<Key>>>,
}

impl<'a> Bucket<'a> {
    fn source(config: &'a Config, world: &'a Aws) -> Self {
        let place = Place { section: "[source]", bucket: &config.source.bucket, connection: &config.source.connection };
        Self { side: "source", at: Side::Source, place, store: world.source() }
    }

    fn target(side: &'a str, section: &'a str, target: &'a Target, store: &'a S3Bucket) -> Self {
        let place = Place { section, bucket: &target.bucket, connection: &target.connection };
        Self { side, at: Side::Target, place, store }
    }
}

/// Carries the command out.
pub(super) async fn check(config: &Config, args: &args::Check) -> Result<Exit, Failure> {
    let now = SystemClock.now();
    let probes = Probes {
        config,
        world: Aws::new(config).await?,
        clients: Clients::new(),
        read_only: args.read_only,
        wait: args.wait,
        nonce: format!("{:x}-{}", now.0, std::process::id()),
        wrote: Mutex::default(),
    };
    let mut signals = Signals::listen()?;
    let done = tokio::select! {
        rows = probes.all() => Some(rows),
        _ = signals.next() => None,
    };
    let swept = probes.sweep_all().await;
    let Some((mut rows, learnt)) = done else {
        let left: Vec<&str> =
            swept.iter().filter(|row| row.finding.outcome != Outcome::Pass).map(|row| &*row.finding.reason).collect();
        let left = if left.is_empty() { "nothing of it is left".to_owned() } else { left.join("; ") };
        complain(format_args!("repl: interrupted: {left}"));
        return Ok(Exit::Interrupted);
    };
    rows.extend(swept);
    if !args.read_only {
        remember(config, learnt);
    }
    let count = |outcome| rows.iter().filter(|row| row.finding.outcome == outcome).count();
    let (passed, failed, skipped) = (count(Outcome::Pass), count(Outcome::Fail), count(Outcome::Skipped));
    if args.json {
        let checks: Vec<Value> = rows.iter().map(Check::json).collect();
        say(json!({"checks": checks, "passed": passed, "failed": failed, "skipped": skipped}));
    } else {
        say(table(&rows));
        say(format_args!("{passed} passed, {failed} failed, {skipped} skipped"));
    }
    Ok(if failed > 0 { Exit::Differs } else { Exit::Done })
}

/// What is learnt serves the next worker; that it cannot be kept is no fault of what was checked.
fn remember(config: &Config, learnt: BTreeMap<String, Known>) {
    let place = &config.ledger.path;
    if machine::may_make(place) {
        std::fs::create_dir_all(place).ok();
    }
    match known::write(place, learnt) {
        Ok(true) => {}
        Ok(false) => tracing::info!("there is no ledger yet: what was learnt of the endpoints is not kept"),
        Err(error) => tracing::warn!(%error, "what was learnt of the endpoints could not be kept"),
    }
}

impl Probes<'_> {
    /// All probes: source, machine, monitoring at once, then what needs something of the source, each target and the
    /// queue at once.
    async fn all(&self) -> (Vec<Check>, BTreeMap<String, Known>) {
        let source = Bucket::source(self.config, &self.world);
        let read = async {
            let (mut rows, standing) = self.ground(&source).await;
            let Standing::Reached(set_up) = standing else { return (rows, source::Samples::default(), None) };
            let (reading, samples) = self.reading(&source, &set_up).await;
            rows.extend(reading);
            (rows, samples, Some(set_up))
        };
        let (local, (mut rows, samples, set_up), monitoring) = tokio::join!(self.machine(), read, self.monitoring());
        let targets = self.config.targets.iter().map(|target| self.target(target, &samples, set_up.as_ref()));
        let queue = async { if set_up.is_some() { self.queue(&source).await } else { self.unreached() } };
        let (targets, queue) = tokio::join!(futures_util::future::join_all(targets), queue);
        let mut learnt = BTreeMap::new();
        let mut all = local;
        all.append(&mut rows);
        for (target, (rows, known)) in self.config.targets.iter().zip(targets) {
            all.extend(rows);
            learnt.insert(target.id.to_string(), known);
        }
        all.extend(queue);
        all.extend(monitoring);
        (all, learnt)
    }

    fn unreached(&self) -> Vec<Check> {
        vec![Check::at_once("queue", "queue", Finding::skipped("the source bucket could not be reached"))]
    }

    /// Removes what was left, on all sides.
    async fn sweep_all(&self) -> Vec<Check> {
        if self.read_only {
            return Vec::new();
        }
        let source = Bucket::source(self.config, &self.world);
        let mut rows = Vec::new();
        if !self.keys_written(&source).is_empty() {
            rows.push(self.sweep(&source).await);
        }
        for target in &self.config.targets {
            let side = format!("target {}", target.id);
            let Some(store) = self.world.target(&target.id) else { continue };
            let bucket = Bucket::target(&side, "", target, store);
            if !self.keys_written(&bucket).is_empty() {
                rows.push(self.sweep(&bucket).await);
            }
        }
        rows
    }

    fn key(&self, name: &str) -> Key {
        target::probe_key(&self.nonce, name)
    }

    fn prefix(&self) -> String {
        format!("{}{}/", reserved::PROBES, self.nonce)
    }

    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    /// Beforehand: what becomes of a write that is dropped is not known.
    fn note_writing(&self, bucket: &Bucket<'_>, key: &Key) {
        let mut wrote = self.wrote.lock().unwrap_or_else(PoisonError::into_inner);
        wrote.entry(bucket.side.to_owned()).or_default().insert(key.clone());
    }

    /// What may have been written there; none where nothing was.
    fn keys_written(&self, bucket: &Bucket<'_>) -> Vec<Key> {
        let wrote = self.wrote.lock().unwrap_or_else(PoisonError::into_inner);
        wrote.get(bucket.side).into_iter().flatten().cloned().collect()
    }
}

/// The rows for people: what mends a failure stands below it.
fn table(rows: &[Check]) -> String {
    let width = |of: fn(&Check) -> &str| rows.iter().map(|row| of(row).chars().count().min(40)).max().unwrap_or(0);
    let (names, sides) = (width(|row| &row.name), width(|row| &row.side));
    let mut text = String::new();
    for row in rows {
        let Finding { outcome, reason, fix } = &row.finding;
        let (outcome, name, side) = (outcome.name(), &row.name, &row.side);
        text.push_str(&format!("{outcome:<7}  {side:<sides$}  {name:<names$}  {:>5.1} s  {reason}\n", row.seconds));
        if let Some(fix) = fix {
            text.push_str(&format!("{:9}fix: {fix}\n", ""));
        }
    }
    text
}
