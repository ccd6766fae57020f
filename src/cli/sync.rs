//! `repl sync`: brings what exists already. Done by the worker that has the ledger open, where one runs; else by this
//! process, which then is the worker for as long as it takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Config;
use crate::engine::scan::{DeleteMarkers, ScanProgress, Scanned, Scope};
use crate::ledger::Totals;
use crate::model::object::RuleId;

use super::worker::{LONGEST_POLL, Stopped, Worker};
use super::{Exit, Failure, args, socket};

/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How often a line tells the progress where there is no terminal (DESIGN 2.1).
const TELL: Duration = Duration::from_secs(10);

/// The syncs that a worker has been asked for: one at a time.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    current: Mutex<Option<Arc<Sync>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// What a sync looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breadth {
    /// Both listings; only what differs becomes work.
    Differences,
    /// Every object in scope, with its history.
    Full,
}

/// One sync, under way or ended.
#[derive(Debug)]
struct Sync {
    breadth: Breadth,
    scope: Scope,
    progress: ScanProgress,
    before: Totals,
    started: Instant,
    /// Whether nothing of it is left to do.
    done: AtomicBool,
    /// Why it could not be done whole.
    failure: Mutex<Option<String>>,
}

impl Sync {
    fn new(breadth: Breadth, scope: Scope, worker: &Worker) -> Self {
        let before = worker.ledger.totals();
        let (progress, started) = (ScanProgress::default(), Instant::now());
        Self { breadth, scope, progress, before, started, done: AtomicBool::new(false), failure: Mutex::new(None) }
    }

    /// Lists and admits, then waits until the ledger has nothing pending.
    async fn carry_out(&self, worker: &Worker) {
        let scanned = match self.breadth {
            Breadth::Full => worker.engine.scan(&self.scope, &self.progress).await,
            Breadth::Differences => worker.engine.reconcile(&self.scope, &self.progress).await,
        };
        match scanned {
            Ok(Scanned::Complete) => {}
            Ok(Scanned::Interrupted) => {
                self.fail("interrupted; the next sync of the same scope goes on where this one was".to_owned());
            }
            Err(fault) => self.fail(fault.to_string()),
        }
        loop {
            let totals = worker.ledger.totals();
            if totals.pending.operations == 0 && totals.in_flight == 0 {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.done.store(true, Ordering::Release);
    }

    fn fail(&self, reason: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    fn report(&self, totals: &Totals) -> Value {
        json!({
            "listed": self.progress.listed(),
            "copied": totals.replicated.operations.saturating_sub(self.before.replicated.operations),
            "already_equal": self.progress.equal() + totals.already_equal.saturating_sub(self.before.already_equal),
            "failed": totals.parked.operations,
            "bytes": totals.replicated.bytes.saturating_sub(self.before.replicated.bytes),
            "seconds": self.started.elapsed().as_secs_f64(),
            "pending": totals.pending.operations,
            "superseded": totals.superseded.saturating_sub(self.before.superseded),
            "not_replicated": totals.not_replicated.saturating_sub(self.before.not_replicated),
            "unprovable": self.progress.unprovable() + totals.unprovable.saturating_sub(self.before.unprovable),
            "done": self.done.load(Ordering::Acquire),
            "failure": self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }
}

/// Carries the command out.
pub(super) async fn sync(config: &Config, args: &args::Sync) -> Result<Exit, Failure> {
    let scope = scope(config, args)?;
    let question = json!({
        "ask": "sync",
        "full": args.full,
        "rule": scope.rule.as_ref().map(RuleId::as_str),
        "prefix": scope.prefix,
        "delete_markers": scope.delete_markers == DeleteMarkers::Brought,
    });
    let (report, stopped) = match socket::ask(&config.ledger.path, &question).await? {
        Some(_) => (by_worker(config).await?, Stopped::Done),
        None => by_ourselves(config, breadth(args.full), scope).await?,
    };
    tell(&report, args);
    Ok(match stopped {
        Stopped::Interrupted | Stopped::Terminated | Stopped::Drained => Exit::Interrupted,
        Stopped::Done if number(&report, "failed") > 0 || report.get("failure").is_some_and(Value::is_string) => {
            Exit::Differs
        }
        Stopped::Done => Exit::Done,
    })
}

fn breadth(full: bool) -> Breadth {
    if full { Breadth::Full } else { Breadth::Differences }
}

fn scope(config: &Config, args: &args::Sync) -> Result<Scope, Failure> {
    if let Some(id) = &args.rule
        && !config.rules.iter().any(|rule| rule.id.as_str() == id)
    {
        let known: Vec<&str> = config.rules.iter().map(|rule| rule.id.as_str()).collect();
        return Err(Failure::usage(format!("there is no rule {id:?}; there are {}", known.join(", "))));
    }
    let delete_markers = if args.delete_markers { DeleteMarkers::Brought } else { DeleteMarkers::LeftOut };
    Ok(Scope { rule: args.rule.as_deref().map(RuleId::new), prefix: args.prefix.clone(), delete_markers })
}

/// Does it in this process: a worker without a queue.
async fn by_ourselves(config: &Config, breadth: Breadth, scope: Scope) -> Result<(Value, Stopped), Failure> {
    let config = Config { queue: None, ..config.clone() };
    let worker = Worker::new(&config, LONGEST_POLL).await?;
    let sync = Arc::new(Sync::new(breadth, scope, &worker));
    let told = async {
        tokio::join!(sync.carry_out(&worker), progress_lines(&sync, &worker));
    };
    let stopped = worker.work(told).await?;
    Ok((sync.report(&worker.ledger.totals()), stopped))
}

async fn progress_lines(sync: &Sync, worker: &Worker) {
    let mut told = Instant::now();
    while !sync.done.load(Ordering::Acquire) {
        tokio::time::sleep(LOOK).await;
        if told.elapsed() >= TELL {
            told = Instant::now();
            tracing::info!("{}", line(&sync.report(&worker.ledger.totals())));
        }
    }
}

/// Waits for the sync that the worker does.
async fn by_worker(config: &Config) -> Result<Value, Failure> {
    let mut told = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let answer = socket::ask(&config.ledger.path, &json!({"ask": "sync-progress"})).await?;
        let Some(report) = answer else {
            return Err(Failure::stopped("the worker that did the sync has stopped; run the sync again to go on"));
        };
        if report.get("done").and_then(Value::as_bool) == Some(true) {
            return Ok(report);
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            tracing::info!("{}", line(&report));
        }
    }
}

/// In the worker: begins a sync that was asked for over the socket.
pub(super) fn begin(worker: &Arc<Worker>, question: &Value) -> Result<Value, Failure> {
    let mut current = worker.syncs.current.lock().unwrap_or_else(PoisonError::into_inner);
    if current.as_ref().is_some_and(|sync| !sync.done.load(Ordering::Acquire)) {
        return Err(Failure::usage("the worker does a sync already: wait for its end"));
    }
    let asked = |name: &str| question.get(name).and_then(Value::as_str);
    let brought = question.get("delete_markers").and_then(Value::as_bool) == Some(true);
    let scope = Scope {
        rule: asked("rule").map(RuleId::new),
        prefix: asked("prefix").unwrap_or_default().to_owned(),
        delete_markers: if brought { DeleteMarkers::Brought } else { DeleteMarkers::LeftOut },
    };
    let full = question.get("full").and_then(Value::as_bool) == Some(true);
    let sync = Arc::new(Sync::new(breadth(full), scope, worker));
    *current = Some(Arc::clone(&sync));
    let working = Arc::clone(worker);
    let mut tasks = worker.syncs.tasks.lock().unwrap_or_else(PoisonError::into_inner);
    tasks.spawn_on(async move { sync.carry_out(&working).await }, &worker.runtime);
    Ok(json!({"begun": true}))
}

/// In the worker: how far the sync is.
pub(super) fn progress(worker: &Worker) -> Result<Value, Failure> {
    let current = worker.syncs.current.lock().unwrap_or_else(PoisonError::into_inner);
    let sync = current.as_ref().ok_or_else(|| Failure::usage("the worker has not been asked for a sync"))?;
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
        println!("{report}");
        return;
    }
    println!("{} in {:.1} s", line(report), report.get("seconds").and_then(Value::as_f64).unwrap_or_default());
    if let Some(failure) = report.get("failure").and_then(Value::as_str) {
        println!("not all of it could be done: {failure}");
    }
}
