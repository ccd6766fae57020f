//! `repl run`: the worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{self, Config};
use crate::engine::budget::{Concurrency, Limits};
use crate::engine::{Ack, Engine, Mode, Phase, Settings};
use crate::ledger::Ledger;
use crate::model::fault::Fault;
use crate::plan::retry;
use crate::ports::{ChangeQueue, World};
use crate::watch::pulse::Pulse;

use super::status::Report;
use super::world::{Aws, target_settings};
use super::{Exit, Failure, args, socket};

/// How long a drain may take before what is under way is dropped; it stays to be done.
const DRAIN: Duration = Duration::from_secs(30);
/// Receive calls that wait at the queue at once: two keep a batch coming while another is written to disk.
const RECEIVERS: usize = 2;
/// How often `--until-idle` looks.
const IDLE_LOOK: Duration = Duration::from_millis(200);

/// What the socket and the signals need to know of the running worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) config: Config,
    pub(super) world: Arc<Aws>,
    pub(super) ledger: Ledger,
    pub(super) pulse: Arc<Pulse>,
    pub(super) engine: Engine<Aws>,
    pub(super) phase: watch::Receiver<Phase>,
}

/// Runs until it is told to stop, or until there has been nothing to do for as long as was asked.
pub(super) async fn run(config: &Config, args: &args::Run) -> Result<Exit, Failure> {
    if config.queue.is_none() {
        return Err(Failure::usage(
            "`repl run` needs a [queue] with its url in the config: there is nothing to listen to",
        ));
    }
    let ledger = Ledger::open(&config.ledger.path)?;
    let world = Arc::new(Aws::new(config).await?);
    let pulse = Arc::new(Pulse::default());
    let (phase, watched) = watch::channel(Phase::Run);
    let settings = settings(config, args.until_idle);
    let engine = Engine::new(Arc::clone(&world), ledger.clone(), settings, Arc::clone(&pulse), watched.clone());
    let worker = Arc::new(Worker { config: config.clone(), world, ledger, pulse, engine, phase: watched });
    let mut tasks = JoinSet::new();
    tasks.spawn(socket::serve(socket::bind(&config.ledger.path)?, Arc::clone(&worker)));
    tracing::info!(
        source = config.source.bucket,
        targets = config.targets.len(),
        rules = config.rules.len(),
        "running"
    );
    let stopped = supervise(&worker, &phase, args.until_idle).await;
    tasks.shutdown().await;
    socket::remove(&config.ledger.path);
    let report = Report::of_worker(&worker).await?;
    if args.json {
        println!("{}", report.json());
    }
    match stopped? {
        Stopped::Interrupted => Ok(Exit::Interrupted),
        Stopped::Terminated => Ok(Exit::Done),
        Stopped::Idle if report.differs() => Ok(Exit::Differs),
        Stopped::Idle => Ok(Exit::Done),
    }
}

#[derive(Clone, Copy)]
enum Stopped {
    Idle,
    Interrupted,
    Terminated,
}

/// Runs the engine and moves its phase on: first signal, or idleness → Drain; second signal, or the deadline → Halt.
async fn supervise(
    worker: &Worker,
    phase: &watch::Sender<Phase>,
    until_idle: Option<Duration>,
) -> Result<Stopped, Failure> {
    let mut interrupts = listen(SignalKind::interrupt())?;
    let mut terminations = listen(SignalKind::terminate())?;
    let mut running = std::pin::pin!(worker.engine.run());
    let stopped = tokio::select! {
        ended = &mut running => return ended.map(|()| Stopped::Terminated).map_err(ledger_lost),
        _ = interrupts.recv() => Stopped::Interrupted,
        _ = terminations.recv() => Stopped::Terminated,
        () = idle(worker, until_idle) => Stopped::Idle,
    };
    tracing::info!("draining: what is under way is finished, nothing new is begun");
    phase.send_replace(Phase::Drain);
    tokio::select! {
        ended = &mut running => return ended.map(|()| stopped).map_err(ledger_lost),
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
        () = tokio::time::sleep(DRAIN) => {}
    }
    tracing::warn!("halting: what is under way is dropped and stays to be done");
    phase.send_replace(Phase::Halt);
    running.await.map(|()| stopped).map_err(ledger_lost)
}

fn ledger_lost(fault: Fault) -> Failure {
    Failure::stopped(format!(
        "stopped, and nothing was acknowledged since: {fault}; free the disk or mend it, then start again"
    ))
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::stopped(format!("could not listen for signals: {error}")))
}

/// Returns once queue and ledger have been empty for as long as asked; never, where nothing was asked.
async fn idle(worker: &Worker, asked: Option<Duration>) {
    let Some(asked) = asked else { return std::future::pending().await };
    let mut empty_since: Option<Instant> = None;
    loop {
        if is_empty(worker).await {
            let since = *empty_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= asked {
                return;
            }
        } else {
            empty_since = None;
        }
        tokio::time::sleep(IDLE_LOOK.min(asked / 2 + Duration::from_millis(1))).await;
    }
}

/// Nothing to do in the ledger, and nothing in the queue: also nothing in flight there, as a message that a killed
/// worker was handed comes again.
async fn is_empty(worker: &Worker) -> bool {
    let totals = worker.ledger.totals();
    if totals.pending.operations > 0 || totals.in_flight > 0 {
        return false;
    }
    let Some(queue) = worker.world.queue() else { return true };
    match queue.depth().await {
        Ok(depth) => {
            worker.pulse.queue_depth(depth);
            depth.visible == 0 && depth.in_flight == 0
        }
        Err(fault) => {
            worker.pulse.queue_failed(&fault);
            false
        }
    }
}

fn settings(config: &Config, until_idle: Option<Duration>) -> Settings {
    let transfer = &config.transfer;
    let limits = Limits {
        memory: transfer.memory,
        concurrency: match transfer.concurrency {
            config::Concurrency::Auto => Concurrency::Auto,
            config::Concurrency::Fixed(count) => Concurrency::Fixed(usize::try_from(count.get()).unwrap_or(usize::MAX)),
        },
        bandwidth: transfer.bandwidth.map(std::num::NonZeroU64::get),
        requests_per_second: transfer.requests_per_second.map(std::num::NonZeroU32::get),
    };
    let longest = Duration::from_secs(20);
    Settings {
        source_bucket: config.source.bucket.clone(),
        rules: config.rules.clone(),
        targets: target_settings(config),
        mode: match transfer.mode {
            config::TransferMode::Auto => Mode::Auto,
            config::TransferMode::Stream => Mode::Stream,
            config::TransferMode::ServerSide => Mode::ServerSide,
        },
        limits,
        retry: retry::Policy::default(),
        ack: match config.queue.as_ref().map(|queue| queue.ack) {
            Some(config::Ack::Settled) => Ack::Settled,
            Some(config::Ack::Admitted) | None => Ack::Admitted,
        },
        receivers: RECEIVERS,
        // A run that shall end when idle must not sit in a wait longer than that.
        long_poll: until_idle.map_or(longest, |idle| idle.clamp(Duration::from_secs(1), longest)),
        gauge_every: Duration::from_secs(15),
    }
}
