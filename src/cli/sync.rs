//! `repl sync`: brings what exists already. Done by the worker that has the ledger open, where one runs; else by this
//! process, which then is the worker for as long as it takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Config;
use crate::engine::manifest::{Manifest, Place};
use crate::engine::scan::{DeleteMarkers, Looks, ScanProgress, Scanned, Scope};
use crate::engine::spending::{Dry, Purse};
use crate::ledger::{Count, Totals};
use crate::meter;
use crate::model::fault::FaultKind;
use crate::model::object::RuleId;

use super::measured::{self, Measured};
use super::plan::{self, forecast::requests};
use super::progress::{self, Figures, Words, say};
use super::worker::{LONGEST_POLL, Stopped, Worker};
use super::world::Aws;
use super::{Exit, Failure, args, further, socket, tariff};

/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(100);
const WORDS: Words = Words { work: "sync", wrong: "failed" };

/// Bad lines of a list that are printed; `--json` has more of them, and the log.
const TOLD_BAD_LINES: usize = 10;

/// The syncs that a worker has been asked for: one at a time.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    asked: Mutex<Asked>,
    tasks: Mutex<JoinSet<()>>,
}

/// Those that can still be asked about.
#[derive(Debug, Default)]
struct Asked {
    /// How many there were, which numbers them.
    count: u64,
    /// The last one, under way or ended, and the one before it: whoever asked for that may not have seen its end yet.
    last: Option<Arc<Sync>>,
    before: Option<Arc<Sync>>,
}

impl Asked {
    /// The one of that number; the last one where none is named.
    fn of(&self, number: Option<u64>) -> Option<&Arc<Sync>> {
        match number {
            None => self.last.as_ref(),
            Some(number) if number == self.count => self.last.as_ref(),
            Some(number) if number.checked_add(1) == Some(self.count) => self.before.as_ref(),
            Some(_) => None,
        }
    }

    /// Its number.
    fn add(&mut self, sync: Arc<Sync>) -> u64 {
        self.before = self.last.replace(sync);
        self.count = self.count.saturating_add(1);
        self.count
    }
}

/// What a sync looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Breadth {
    /// Both listings; only what differs becomes work, in these respects.
    Differences(Looks),
    /// Every object in scope, with its history.
    Full,
    /// Every object of a list.
    Listed(Place),
}

/// One sync, under way or ended.
#[derive(Debug)]
struct Sync {
    breadth: Breadth,
    scope: Scope,
    progress: ScanProgress,
    before: Totals,
    started: Instant,
    purse: Arc<Purse>,
    /// Whether everything in scope has been listed and admitted.
    listed_all: AtomicBool,
    /// How it was when nothing of it was left to do.
    ended: OnceLock<Ended>,
    /// Why it could not be done whole.
    failure: Mutex<Option<String>>,
}

/// What later work is not counted to.
#[derive(Debug)]
struct Ended {
    totals: Totals,
    took: Duration,
}

impl Sync {
    fn new(breadth: Breadth, scope: Scope, purse: Arc<Purse>, worker: &Worker) -> Self {
        Self {
            breadth,
            scope,
            progress: ScanProgress::default(),
            before: worker.ledger.totals(),
            started: Instant::now(),
            purse,
            listed_all: AtomicBool::new(false),
            ended: OnceLock::new(),
            failure: Mutex::new(None),
        }
    }

    /// Lists and admits, then waits until the ledger has nothing pending, or nothing more that there is money for.
    async fn carry_out(&self, worker: &Worker) {
        worker.engine.pay_with(Some(Arc::clone(&self.purse)));
        let (engine, scope, progress) = (&worker.engine, &self.scope, &self.progress);
        let listing = async {
            match &self.breadth {
                Breadth::Full => engine.scan(scope, progress).await,
                Breadth::Differences(looks) => engine.reconcile(scope, *looks, progress).await,
                Breadth::Listed(place) => engine.admit_listed(place, scope, progress).await,
            }
        };
        match meter::under(Some(self.purse.meter()), listing).await {
            Ok(Scanned::Complete) => self.listed_all.store(true, Ordering::Release),
            // Told at the end, when it is known what was spent.
            Ok(Scanned::Spent) => {}
            Ok(Scanned::Interrupted) => {
                self.fail("interrupted; the next sync of the same scope goes on where this one was".to_owned());
            }
            Err(fault) => self.fail(fault.to_string()),
        }
        loop {
            let totals = worker.ledger.totals();
            let is_dry = self.purse.dry().is_some();
            if (totals.pending.operations == 0 || (is_dry && !self.purse.is_waiting())) && totals.in_flight == 0 {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        match self.purse.dry() {
            Some(why) => self.fail(self.out_of_money(&why)),
            // What an operator releases later is not this sync's any more.
            None => {
                worker.engine.pay_with(None);
                if let Err(fault) = worker.engine.conclude(&self.scope, &self.progress).await {
                    self.fail(fault.to_string());
                }
            }
        }
        let ended = Ended { totals: worker.ledger.totals(), took: self.started.elapsed() };
        let copied = self.copied(&ended.totals);
        let (objects, bytes) = (copied.operations, copied.bytes);
        let seconds = ended.took.as_secs_f64();
        measured::write(&worker.config.ledger.path, &Measured { objects, bytes, seconds });
        self.ended.get_or_init(|| ended);
    }

    /// Why it stopped, with what was spent.
    fn out_of_money(&self, why: &Dry) -> String {
        let go_on = "the next sync of the same scope goes on where this one was";
        match (why, self.purse.limit(), &self.purse.spent()) {
            (Dry::Limit, Some(limit), Ok(spent)) => format!(
                "stopped before more than ${limit} would be spent: ${spent:.6} was, ${:.6} is left and does not suffice for what comes next; {go_on}",
                (limit - spent).max(0.0)
            ),
            (Dry::Unpriced(unknown), _, _) | (Dry::Limit, _, Err(unknown)) => {
                format!("stopped, as it is not known what this costs: {}; give --prices; {go_on}", unknown.join("; "))
            }
            (Dry::Limit, None, Ok(_)) => format!("stopped; {go_on}"),
        }
    }

    /// What was brought since it began.
    fn copied(&self, totals: &Totals) -> Count {
        Count {
            operations: totals.replicated.operations.saturating_sub(self.before.replicated.operations),
            bytes: totals.replicated.bytes.saturating_sub(self.before.replicated.bytes),
        }
    }

    fn fail(&self, reason: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// What it has come to; `totals` are those of now.
    fn report(&self, totals: &Totals) -> Value {
        let ended = self.ended.get();
        let (totals, took) =
            ended.map_or_else(|| (totals, self.started.elapsed()), |ended| (&ended.totals, ended.took));
        let copied = self.copied(totals);
        let spent = self.purse.spent().ok();
        let (bad_lines, first_bad) = self.progress.bad_lines();
        let bad = first_bad.iter().map(|bad| json!({"file": bad.file, "line": bad.line, "reason": bad.reason}));
        json!({
            "listed": self.progress.listed(),
            "copied": copied.operations,
            "already_equal": self.progress.equal() + totals.already_equal.saturating_sub(self.before.already_equal),
            "failed": totals.parked.operations,
            "held": totals.held.operations,
            "bytes": copied.bytes,
            "seconds": took.as_secs_f64(),
            "pending": totals.pending.operations,
            "pending_bytes": totals.pending.bytes,
            "listed_all": self.listed_all.load(Ordering::Acquire),
            "superseded": (totals.superseded + totals.gone).saturating_sub(self.before.superseded + self.before.gone),
            "not_replicated": totals.not_replicated.saturating_sub(self.before.not_replicated),
            "unprovable": self.progress.unprovable() + totals.unprovable.saturating_sub(self.before.unprovable),
            "requests": requests(&self.purse.meter().usage()),
            "spent": spent,
            "max_spend": self.purse.limit(),
            "left": self.purse.limit().zip(spent).map(|(limit, spent)| (limit - spent).max(0.0)),
            "bad_lines": bad_lines,
            "bad": bad.collect::<Vec<_>>(),
            "done": ended.is_some(),
            "failure": self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }
}

/// Carries the command out.
pub(super) async fn sync(config: &Config, args: &args::Sync) -> Result<Exit, Failure> {
    let scope = scope(config, args)?;
    let prices = match &args.prices {
        Some(path) => Some(tariff::read(path)?),
        None => None,
    };
    let purse = purse(config, prices.as_deref(), args.max_spend)?;
    let breadth = breadth(config, args).await?;
    let question = json!({
        "ask": "sync",
        "full": args.full,
        "rule": scope.rule.as_ref().map(RuleId::as_str),
        "prefix": scope.prefix,
        "delete_markers": scope.delete_markers == DeleteMarkers::Brought,
        "prices": prices,
        "max_spend": args.max_spend,
        "manifest": match &breadth {
            Breadth::Listed(place) => Some(place.to_string()),
            Breadth::Full | Breadth::Differences(_) => None,
        },
        "check_metadata": args.check_metadata,
        "check_tags": args.check_tags,
    });
    let (report, stopped) = match socket::ask(&config.ledger.path, &question).await? {
        Some(begun) => (by_worker(config, begun.get("begun")).await?, Stopped::Done),
        None => by_ourselves(config, breadth, scope, purse).await?,
    };
    tell(&report, args);
    Ok(match stopped {
        Stopped::Interrupted | Stopped::Terminated | Stopped::Drained => Exit::Interrupted,
        Stopped::Done if ["failed", "held", "bad_lines"].iter().any(|name| number(&report, name) > 0) => Exit::Differs,
        Stopped::Done if report.get("failure").is_some_and(Value::is_string) => Exit::Differs,
        Stopped::Done => Exit::Done,
    })
}

/// What a sync pays with. With a limit, everything that each rule needs must have a price.
fn purse(config: &Config, prices: Option<&str>, limit: Option<f64>) -> Result<Arc<Purse>, Failure> {
    let purse = Purse::new(tariff::tariff(config, prices)?, plan::server_side(config), limit);
    if limit.is_some() {
        for rule in config.rules.iter().filter(|rule| rule.enabled) {
            if let Err(unknown) = purse.least(rule) {
                let detail = "could not keep to --max-spend, as it is not known what a sync costs here";
                return Err(Failure::usage(format!(
                    "{detail}: {}; give the prices with --prices FILE",
                    unknown.join("; ")
                )));
            }
        }
    }
    Ok(purse)
}

/// What is asked for. A list that cannot be used is told at once, by whoever typed its place.
async fn breadth(config: &Config, args: &args::Sync) -> Result<Breadth, Failure> {
    let Some(place) = &args.manifest else {
        let looks = Looks { metadata: further(args.check_metadata), tags: further(args.check_tags) };
        return Ok(if args.full { Breadth::Full } else { Breadth::Differences(looks) });
    };
    let place = match Place::parse(place).map_err(Failure::usage)? {
        // The worker may be in another directory.
        Place::Local(path) => Place::Local(std::path::absolute(&path).unwrap_or(path)),
        stored @ Place::Inventory { .. } => stored,
    };
    let world = Aws::new(config).await?;
    let opened = Manifest::open(&world, &place, &config.source.bucket).await;
    opened.map_err(|fault| match matches!(fault.kind, FaultKind::Refused | FaultKind::Gone) {
        true => Failure::usage(format!("the list cannot be used: {}", fault.detail)),
        false => Failure::from(fault),
    })?;
    Ok(Breadth::Listed(place))
}

fn scope(config: &Config, args: &args::Sync) -> Result<Scope, Failure> {
    super::known_rule(config, args.rule.as_deref())?;
    let delete_markers = if args.delete_markers { DeleteMarkers::Brought } else { DeleteMarkers::LeftOut };
    Ok(Scope { rule: args.rule.as_deref().map(RuleId::new), prefix: args.prefix.clone(), delete_markers })
}

/// Does it in this process: a worker without a queue.
async fn by_ourselves(
    config: &Config,
    breadth: Breadth,
    scope: Scope,
    purse: Arc<Purse>,
) -> Result<(Value, Stopped), Failure> {
    let config = Config { queue: None, ..config.clone() };
    let worker = Worker::new(&config, LONGEST_POLL).await?;
    let sync = Arc::new(Sync::new(breadth, scope, purse, &worker));
    let told = async {
        tokio::select! {
            () = sync.carry_out(&worker) => {}
            never = progress::show(WORDS, || figures(&sync.report(&worker.ledger.totals()))) => match never {},
        }
    };
    let stopped = worker.work(told).await?;
    Ok((sync.report(&worker.ledger.totals()), stopped))
}

/// Waits for the sync that the worker does.
async fn by_worker(config: &Config, number: Option<&Value>) -> Result<Value, Failure> {
    let question = json!({"ask": "sync-progress", "sync": number});
    let seen = Mutex::new(Value::Null);
    let latest = || seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let done = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let answer = socket::ask(&config.ledger.path, &question).await?;
            let Some(report) = answer else {
                return Err(Failure::stopped("the worker that did the sync has stopped; run the sync again to go on"));
            };
            if report.get("done").and_then(Value::as_bool) == Some(true) {
                return Ok(report);
            }
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = report;
        }
    };
    tokio::select! {
        report = done => report,
        never = progress::show(WORDS, || figures(&latest())) => match never {},
    }
}

/// What a report tells of the progress. How many objects there are is known once all are listed.
fn figures(report: &Value) -> Figures {
    let of = |name: &str| number(report, name);
    let done = ["copied", "already_equal", "superseded", "not_replicated", "unprovable"].iter().map(|name| of(name));
    let done: u64 = done.sum::<u64>() + of("failed");
    let all = report.get("listed_all").and_then(Value::as_bool) == Some(true);
    Figures {
        done,
        of: all.then(|| done.saturating_add(of("pending"))),
        bytes: of("bytes"),
        bytes_of: all.then(|| of("bytes").saturating_add(of("pending_bytes"))),
        failed: of("failed"),
    }
}

/// In the worker: begins a sync that was asked for over the socket.
pub(super) fn begin(worker: &Arc<Worker>, question: &Value) -> Result<Value, Failure> {
    let mut syncs = worker.syncs.asked.lock().unwrap_or_else(PoisonError::into_inner);
    if syncs.last.as_ref().is_some_and(|sync| sync.ended.get().is_none()) {
        return Err(Failure::usage("the worker does a sync already: wait for its end"));
    }
    let asked = |name: &str| question.get(name).and_then(Value::as_str);
    super::known_rule(&worker.config, asked("rule")).map_err(|failure| {
        Failure::usage(format!("{failure}, says the running worker: where the config has changed, restart it first"))
    })?;
    let brought = question.get("delete_markers").and_then(Value::as_bool) == Some(true);
    let scope = Scope {
        rule: asked("rule").map(RuleId::new),
        prefix: asked("prefix").unwrap_or_default().to_owned(),
        delete_markers: if brought { DeleteMarkers::Brought } else { DeleteMarkers::LeftOut },
    };
    let limit = question.get("max_spend").and_then(Value::as_f64);
    let purse = purse(&worker.config, asked("prices"), limit)?;
    let is_asked = |name: &str| question.get(name).and_then(Value::as_bool) == Some(true);
    let breadth = match asked("manifest") {
        Some(place) => Breadth::Listed(Place::parse(place).map_err(Failure::usage)?),
        None if is_asked("full") => Breadth::Full,
        None => {
            let (metadata, tags) = (further(is_asked("check_metadata")), further(is_asked("check_tags")));
            Breadth::Differences(Looks { metadata, tags })
        }
    };
    let sync = Arc::new(Sync::new(breadth, scope, purse, worker));
    let number = syncs.add(Arc::clone(&sync));
    let working = Arc::clone(worker);
    let mut tasks = worker.syncs.tasks.lock().unwrap_or_else(PoisonError::into_inner);
    while tasks.try_join_next().is_some() {}
    tasks.spawn_on(async move { sync.carry_out(&working).await }, &worker.runtime);
    Ok(json!({"begun": number}))
}

/// In the worker: how far a sync is.
pub(super) fn progress(worker: &Worker, question: &Value) -> Result<Value, Failure> {
    let syncs = worker.syncs.asked.lock().unwrap_or_else(PoisonError::into_inner);
    let sync = match (syncs.of(question.get("sync").and_then(Value::as_u64)), &syncs.last) {
        (Some(sync), _) => sync,
        (None, None) => return Err(Failure::usage("the worker has not been asked for a sync")),
        (None, Some(_)) => {
            return Err(Failure::usage("the worker has done other syncs since, and does not know this one any more"));
        }
    };
    Ok(sync.report(&worker.ledger.totals()))
}

fn number(report: &Value, name: &str) -> u64 {
    report.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn line(report: &Value) -> String {
    let figures = ["listed", "copied", "already_equal", "failed", "pending", "bytes"];
    let told: Vec<String> =
        figures.iter().map(|name| format!("{} {}", name.replace('_', " "), number(report, name))).collect();
    told.join(", ")
}

fn tell(report: &Value, args: &args::Sync) {
    if args.json {
        say(report);
        return;
    }
    let seconds = report.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    let spent = report.get("spent").and_then(Value::as_f64);
    let spent = spent.map_or_else(String::new, |spent| format!(", ${spent:.4} of requests and transfer"));
    say(format_args!("{} in {seconds:.1} s{spent}", line(report)));
    if number(report, "held") > 0 {
        say(format_args!("held by the brake: {} deletes; see `repl brake`", number(report, "held")));
    }
    if number(report, "bad_lines") > 0 {
        let bad_lines = number(report, "bad_lines");
        say(format_args!("{bad_lines} lines of the list could not be understood; the first:"));
        for bad in report.get("bad").and_then(Value::as_array).into_iter().flatten().take(TOLD_BAD_LINES) {
            let text = |name: &str| bad.get(name).and_then(Value::as_str).unwrap_or_default();
            say(format_args!("  {}:{}: {}", text("file"), number(bad, "line"), text("reason")));
        }
    }
    if let Some(failure) = report.get("failure").and_then(Value::as_str) {
        say(format_args!("not all of it could be done: {failure}"));
    }
}
