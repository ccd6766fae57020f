//! A worker: ledger, engine, socket and signals, from start to the last flush. `run` and `sync` differ only in what
//! they wait for.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::config::{self, Config};
use crate::engine::budget::Limits;
use crate::engine::{self, Ack, Engine, Mode, Phase, Settings};
use crate::ledger::Ledger;
use crate::model::fault::{Fault, FaultKind};
use crate::plan::brake::Bounds;
use crate::plan::retry;
use crate::watch::pulse::Pulse;
use crate::web;

use super::monitor::{self, Watch};
use super::socket::{self, Serving};
use super::sync::Syncs;
use super::world::{Aws, learnt_settings};
use super::{Failure, beside, page, systemd};

/// How long a drain may take before what is under way is dropped; it stays to be done.
pub(super) const DRAIN: Duration = Duration::from_secs(30);
/// Receive calls that wait at the queue at once: two keep a batch coming while another is written to disk.
const RECEIVERS: usize = 2;
/// The longest wait for a message that SQS permits (aws-semantics 7.2).
pub(super) const LONGEST_POLL: Duration = Duration::from_secs(20);

/// How long a ledger may be held by another process before that is told: one that ends lets go of it a moment later,
/// and a command that only looks holds it for a moment.
const HELD: Duration = Duration::from_secs(3);
const HELD_LOOK: Duration = Duration::from_millis(100);

/// Opens the ledger, waiting a moment for a process that lets go of it.
async fn open_ledger(place: &Path) -> Result<Ledger, Fault> {
    let deadline = tokio::time::Instant::now() + HELD;
    loop {
        match Ledger::open(place) {
            Err(fault) if fault.kind == FaultKind::Transient && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(HELD_LOOK).await;
            }
            opened => return opened,
        }
    }
}

/// Everything that runs, for those who ask and those who stop it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) config: Config,
    pub(super) world: Arc<Aws>,
    pub(super) ledger: Ledger,
    pub(super) pulse: Arc<Pulse>,
    pub(super) engine: Engine<Aws>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) observer: Watch,
    pub(super) syncs: Syncs,
    phases: watch::Sender<Phase>,
    /// Where its own tasks run, whoever asks for them.
    pub(super) runtime: Handle,
}

/// Why a worker stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// What it waited for has come.
    Done,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// `repl drain`.
    Drained,
}

impl Worker {
    /// Opens the ledger and puts everything together; nothing moves yet.
    pub(super) async fn new(config: &Config, long_poll: Duration) -> Result<Arc<Self>, Failure> {
        beside::ours(&config.ledger.path)?;
        let ledger = open_ledger(&config.ledger.path).await?;
        let world = Arc::new(Aws::new(config).await?);
        let pulse = Arc::new(Pulse::default());
        let observer = monitor::watch(config, &ledger, &pulse).await?;
        let (phases, phase) = watch::channel(Phase::Run);
        let settings = settings(config, long_poll);
        let engine = Engine::new(Arc::clone(&world), ledger.clone(), settings, Arc::clone(&pulse), phase.clone());
        let (config, syncs) = (config.clone(), Syncs::default());
        let runtime = Handle::current();
        Ok(Arc::new(Self { config, world, ledger, pulse, engine, phase, observer, syncs, phases, runtime }))
    }

    /// Works until `done` comes, a signal, or the end of the ledger; then drains. The socket answers to the end.
    pub(super) async fn work(self: &Arc<Self>, done: impl Future<Output = ()>) -> Result<Stopped, Failure> {
        // Before anybody is told that the worker is ready: whoever ends it then has it drain.
        let signals = Signals::listen()?;
        let mut tasks = JoinSet::new();
        let (listener, site) = page::open(self).await?.unzip();
        let serving = Serving::begin(socket::bind(&self.config.ledger.path)?, Arc::clone(self))?;
        if let (Some(listener), Some(site)) = (listener, &site) {
            tasks.spawn(web::Listener::serve(listener, Arc::clone(site)));
        }
        let attended = Arc::clone(self);
        tasks.spawn(async move { systemd::attend(&attended).await });
        let config = &self.config;
        let (targets, rules) = (config.targets.len(), config.rules.len());
        tracing::info!(source = config.source.bucket, targets, rules, "running");
        // The watch outlives the engine by a moment: its last interval tells how the engine ended.
        let (stop, stopping) = oneshot::channel();
        let (end, ending) = oneshot::channel();
        let supervised = async {
            let stopped = self.supervise(done, signals).await;
            drop((stop, end));
            stopped
        };
        let watching = async {
            if let Err(fault) = self.observer.run(stopping).await {
                tracing::error!(%fault, "metrics and alarms are not watched any more");
            }
        };
        let sampling = async {
            if let Some(site) = site
                && let Err(fault) = web::keep_history(site, ending).await
            {
                tracing::error!(%fault, "the course of the figures is not kept any more");
            }
        };
        let (stopped, (), ()) = tokio::join!(supervised, watching, sampling);
        tasks.shutdown().await;
        serving.end().await;
        socket::remove(&self.config.ledger.path);
        stopped
    }

    /// Has the worker end once what is under way is done.
    pub(super) fn drain(&self) {
        self.phases.send_replace(Phase::Drain);
    }

    /// Runs the engine and moves its phase on: first signal, or `done` → Drain; second signal, or the deadline → Halt.
    async fn supervise(&self, done: impl Future<Output = ()>, mut signals: Signals) -> Result<Stopped, Failure> {
        let mut running = std::pin::pin!(self.engine.run());
        let mut phase = self.phase.clone();
        let stopped = tokio::select! {
            ended = &mut running => {
                systemd::stopping().await;
                return ended.map(|()| Stopped::Drained).map_err(ledger_lost);
            }
            stopped = signals.next() => stopped,
            () = done => Stopped::Done,
            _ = phase.wait_for(|phase| *phase != Phase::Run) => Stopped::Drained,
        };
        systemd::stopping().await;
        tracing::info!("draining: what is under way is finished, nothing new is begun");
        self.phases.send_replace(Phase::Drain);
        tokio::select! {
            ended = &mut running => return ended.map(|()| stopped).map_err(ledger_lost),
            _ = signals.next() => {}
            () = tokio::time::sleep(DRAIN) => {}
        }
        tracing::warn!("halting: what is under way is dropped and stays to be done");
        self.phases.send_replace(Phase::Halt);
        running.await.map(|()| stopped).map_err(ledger_lost)
    }
}

fn ledger_lost(fault: Fault) -> Failure {
    Failure::stopped(format!(
        "stopped, and nothing was acknowledged since: {fault}; free the disk or mend it, then start again"
    ))
}

/// The signals that end a command, from when this is made: none that comes later is lost.
#[derive(Debug)]
pub(super) struct Signals {
    interrupts: Signal,
    terminations: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::stopped(format!("could not listen for signals: {error}")));
        let (interrupts, terminations) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupts, terminations })
    }

    /// The next of them. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Stopped {
        tokio::select! {
            _ = self.interrupts.recv() => Stopped::Interrupted,
            _ = self.terminations.recv() => Stopped::Terminated,
        }
    }
}

/// Where receipts wait for their upload.
pub(super) fn receipts_directory(config: &Config) -> std::path::PathBuf {
    config.ledger.path.join("receipts")
}

/// The bounds of `[transfer]`.
pub(super) fn limits(transfer: &config::Transfer) -> Limits {
    Limits {
        memory: transfer.memory,
        concurrency: transfer.concurrency,
        bandwidth: transfer.bandwidth.map(std::num::NonZeroU64::get),
        requests_per_second: transfer.requests_per_second.map(std::num::NonZeroU32::get),
    }
}

fn settings(config: &Config, long_poll: Duration) -> Settings {
    Settings {
        source_bucket: config.source.bucket.clone(),
        source_owner: config.source.connection.expected_bucket_owner.clone(),
        rules: config.rules.clone(),
        targets: learnt_settings(config),
        mode: match config.transfer.mode {
            config::TransferMode::Auto => Mode::Auto,
            config::TransferMode::Stream => Mode::Stream,
            config::TransferMode::ServerSide => Mode::ServerSide,
        },
        limits: limits(&config.transfer),
        windows: config.transfer.windows.clone(),
        retry: retry::Policy::default(),
        chance: engine::chance,
        brake: Bounds {
            per_hour: config.brake.deletes_per_hour,
            share: config.brake.share_of_keys.parts_per_million(),
        },
        ack: match config.queue.as_ref().map(|queue| queue.ack) {
            Some(config::Ack::Settled) => Ack::Settled,
            Some(config::Ack::Admitted) | None => Ack::Admitted,
        },
        receivers: RECEIVERS,
        long_poll,
        gauge_every: Duration::from_secs(15),
        receipts: config.receipts.as_ref().map(|receipts| engine::receipts::Settings {
            directory: receipts_directory(config),
            bucket: receipts.bucket.clone(),
            prefix: receipts.prefix.clone(),
        }),
    }
}
