//! Floor 4: the moving parts. *Secret kept:* how many things happen at once, and in which order they end. *May touch:*
//! the ports, the ledger, tokio, the Clock. *Must not know:* any SDK, `config`, `cli`.
//!
//! One way through (DESIGN 4.1): `intake` admits what the queue tells, `dispatch` claims what is due, `replicate`
//! decides, `transfer` and `multipart` move bytes, and `settle` writes down what came of it. Phases only go forward:
//! Run → Drain (finish what is under way) → Halt (drop it: a dropped claim means "still to do").
//!
//! Invariants kept here: I2 nothing unverified becomes visible · I5 one live claim per target key (the ledger's lanes)
//! · I6 bytes in flight stay within the budget and return to zero · I8 every job ends settled or parked.

mod brake;
pub mod budget;
mod confirm;
mod digest;
mod dispatch;
mod examine;
mod follow;
mod gate;
mod governing;
pub mod intake;
mod keys;
pub mod manifest;
mod mend;
mod multipart;
pub mod observe;
pub mod orphans;
pub mod paced;
pub mod receipts;
mod reconcile;
mod replicate;
mod ruling;
pub mod scan;
mod settle;
pub mod spending;
#[cfg(test)]
mod tests;
mod transfer;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::ledger::Ledger;
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{TargetId, Versioning};
use crate::model::window::Window;
use crate::plan::brake::Bounds;
use crate::plan::retry;
use crate::plan::route::Rule;
use crate::ports::{Clock, ObjectStore, World};
use crate::watch::pulse::Pulse;

use budget::{Budget, Limits};
use spending::Purse;

/// Where the engine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// At work.
    Run,
    /// Takes nothing new; what is under way is finished.
    Drain,
    /// Drops what is under way.
    Halt,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Small objects through the worker, large ones by the store where that works.
    Auto,
    /// Always through the worker.
    Stream,
    /// Always by the store.
    ServerSide,
}

/// Whether one identity can read the source and write a target, as far as the configuration tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerSide {
    /// Both sides are one store with one identity.
    Possible,
    /// They are not.
    Impossible,
}

/// Whether a target's store holds to `If-None-Match` and `If-Match` of a write, as far as it was found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conditions {
    /// It does: who writes without having looked is told when the target is not as remembered.
    #[default]
    Held,
    /// It ignores them: the target is looked at before each write.
    Ignored,
}

/// Whether a target's store refuses bytes that differ from their checksum, as far as it was found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// It does: what it took with a checksum is what was sent.
    #[default]
    Held,
    /// It takes any bytes, so that no checksum of its proves anything: its `ETag` does where it tells the bytes.
    Ignored,
}

/// When a message is deleted from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Once its work is on disk.
    Admitted,
    /// Once its work is done: the instance and its disk may vanish.
    Settled,
}

/// One target, as the engine needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSettings {
    /// The bucket's name.
    pub bucket: String,
    /// Whether the store may copy by itself.
    pub server_side: ServerSide,
    /// Whether its store holds to the conditions of a write.
    pub conditions: Conditions,
    /// Whether its store holds to checksums.
    pub checksums: Checksums,
}

/// What the engine is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source bucket's name.
    pub source_bucket: String,
    /// The account that must own it, where configured.
    pub source_owner: Option<String>,
    /// All rules.
    pub rules: Vec<Rule>,
    /// All targets.
    pub targets: BTreeMap<TargetId, TargetSettings>,
    /// How bytes travel.
    pub mode: Mode,
    /// The bounds.
    pub limits: Limits,
    /// Other bounds at certain times.
    pub windows: Vec<Window>,
    /// The durable retry layer.
    pub retry: retry::Policy,
    /// The dice for its jitter: another number from 0 to 1 at each call.
    pub chance: fn() -> f64,
    /// How many deletes may go to a target within an hour.
    pub brake: Bounds,
    /// When messages are deleted.
    pub ack: Ack,
    /// How many receive calls wait at the queue at once.
    pub receivers: usize,
    /// How long one receive waits for a message; SQS permits 20 s.
    pub long_poll: Duration,
    /// How often the queue is asked for its depth.
    pub gauge_every: Duration,
    /// Where receipts are kept until they are in their bucket; `None` where none are written.
    pub receipts: Option<receipts::Settings>,
}

/// Dice from the one source of chance that the standard library has.
#[must_use]
pub fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let dice = RandomState::new().build_hasher().finish() >> 11;
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    let share = dice as f64 / (1_u64 << 53) as f64;
    share
}

/// How long a bucket's versioning state is believed.
const VERSIONING_BELIEVED: Duration = Duration::from_secs(300);

/// What was answered last, and when. Held by the one who asks.
type Told<T> = tokio::sync::Mutex<Option<(tokio::time::Instant, Result<T, Fault>)>>;

/// What all parts of the engine share.
#[derive(Debug)]
struct Shared<W: World> {
    world: Arc<W>,
    ledger: Ledger,
    settings: Settings,
    budget: Arc<Budget>,
    pulse: Arc<Pulse>,
    phase: watch::Receiver<Phase>,
    /// What an operator holds back.
    gate: gate::Gate,
    /// The limits in force.
    governing: governing::Governing,
    /// Rung when there may be something to claim.
    work: Notify,
    versioning: Mutex<BTreeMap<Option<TargetId>, Arc<Told<Versioning>>>>,
    server_side: Mutex<BTreeMap<TargetId, Proven>>,
    /// Targets that have refused bytes without a digest sent ahead of them.
    digests: Mutex<BTreeSet<TargetId>>,
    /// What targets were seen to make the ETag of a part.
    part_etags: Mutex<BTreeMap<TargetId, multipart::etags::PartEtag>>,
    keys: keys::Proofs,
    intake: intake::Order,
    /// Messages held until their work is settled (`Ack::Settled`).
    held: intake::Held<W>,
    /// Where receipts are handed in, where any are written.
    desk: Option<receipts::Desk>,
    /// What the sync under way pays with; `None` where none has begun.
    purse: Mutex<Option<Arc<Purse>>>,
}

/// What attempts have shown of server-side copying to one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proven {
    Works,
    Fails,
}

/// The engine: create it, share it with whoever reports on it, run it.
#[derive(Debug)]
pub struct Engine<W: World> {
    shared: Arc<Shared<W>>,
}

impl<W: World> Clone for Engine<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<W: World> Engine<W> {
    /// Puts an engine together; nothing moves before [`Engine::run`].
    #[must_use]
    pub fn new(
        world: Arc<W>,
        ledger: Ledger,
        settings: Settings,
        pulse: Arc<Pulse>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let budget = Arc::new(Budget::new(&settings.limits));
        let governing = governing::Governing::new(&settings.limits, settings.windows.clone());
        let desk = settings.receipts.as_ref().map(|_| receipts::Desk::default());
        let shared = Shared {
            world,
            ledger,
            settings,
            budget,
            pulse,
            phase,
            gate: gate::Gate::default(),
            governing,
            work: Notify::new(),
            versioning: Mutex::default(),
            server_side: Mutex::default(),
            digests: Mutex::default(),
            part_etags: Mutex::default(),
            keys: keys::Proofs::default(),
            intake: intake::Order::default(),
            held: intake::Held::default(),
            desk,
            purse: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs until the phase has become `Drain` and everything under way has ended, or `Halt`. An error means that the
    /// ledger can no longer be trusted: nothing has been acknowledged since.
    pub async fn run(&self) -> Result<(), Fault> {
        self.shared.gate.follow(self.shared.ledger.control()?);
        self.shared.recall_limits()?;
        let mut tasks = JoinSet::new();
        if self.shared.world.queue().is_some() {
            for _ in 0..self.shared.settings.receivers.max(1) {
                tasks.spawn(intake::receive(Arc::clone(&self.shared)));
            }
            tasks.spawn(intake::gauge(Arc::clone(&self.shared)));
            if self.shared.settings.ack == Ack::Settled {
                self.shared.ledger.watch_ends();
                tasks.spawn(intake::hold(Arc::clone(&self.shared)));
            }
        }
        let receipts = receipts::Writing::begin(&self.shared);
        tasks.spawn(keys::prove_all(Arc::clone(&self.shared)));
        tasks.spawn(governing::follow_windows(Arc::clone(&self.shared)));
        tasks.spawn(orphans::end_those_left(Arc::clone(&self.shared)));
        tasks.spawn(dispatch::dispatch(Arc::clone(&self.shared)));
        let ended = join_all(tasks).await;
        if ended.is_ok() {
            intake::acknowledge_settled(&self.shared).await;
        }
        receipts.end().await;
        let flushed = self.shared.ledger.flush().await;
        ended.and(flushed)
    }

    /// From now on jobs of comparisons are counted and paid for with this; `None`: they are neither.
    pub fn pay_with(&self, purse: Option<Arc<Purse>>) {
        *self.shared.purse.lock().unwrap_or_else(PoisonError::into_inner) = purse;
    }

    /// Bytes of objects in memory now.
    #[must_use]
    pub fn bytes_in_flight(&self) -> u64 {
        self.shared.budget.in_flight()
    }

    /// Tells the dispatcher that the ledger has something new: released failures, a resumed worker.
    pub fn wake(&self) {
        self.shared.work.notify_one();
    }
}

/// Waits for all of them; the first fault ends the others, and is told.
async fn join_all(mut tasks: JoinSet<Result<(), Fault>>) -> Result<(), Fault> {
    let mut ended = Ok(());
    while let Some(joined) = tasks.join_next().await {
        let result = joined.unwrap_or_else(|error| Err(task_died(&error)));
        if let (Err(fault), Ok(())) = (result, &ended) {
            tracing::error!(%fault, "stopping: nothing may be acknowledged any more");
            tasks.abort_all();
            ended = Err(fault);
        }
    }
    ended
}

fn task_died(error: &tokio::task::JoinError) -> Fault {
    Fault::new(FaultKind::Ledger, Side::Local, "keep a task of the engine running", error.to_string())
}

impl<W: World> Shared<W> {
    fn now(&self) -> crate::model::object::Timestamp {
        self.world.clock().now()
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn purse(&self) -> Option<Arc<Purse>> {
        self.purse.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for `wait`, or until the engine stops running: no wait is deaf to the phase.
    async fn sleep(&self, wait: Duration) {
        let mut phase = self.phase.clone();
        let stopped = phase.wait_for(|phase| *phase != Phase::Run);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopped => {}
        }
    }

    /// Returns when the engine takes nothing new any more.
    async fn stopped(&self) {
        let mut phase = self.phase.clone();
        // A phase that nobody can set any more is the end too.
        let _ended = phase.wait_for(|phase| *phase != Phase::Run).await;
    }

    fn target(&self, id: &TargetId) -> Result<(&W::Store, &TargetSettings), Fault> {
        self.world.target(id).zip(self.settings.targets.get(id)).ok_or_else(|| {
            let detail = format!("target {id:?} is not configured any more: put it back, or drop these jobs");
            Fault::new(FaultKind::Refused, Side::Local, "find the target", detail)
        })
    }

    /// The source bucket's versioning state, asked again now and then.
    async fn source_versioning(&self) -> Result<Versioning, Fault> {
        self.versioning_of(None, self.world.source()).await
    }

    /// A target bucket's versioning state.
    async fn target_versioning(&self, id: &TargetId, store: &W::Store) -> Result<Versioning, Fault> {
        self.versioning_of(Some(id.clone()), store).await
    }

    /// One asks, and those who come meanwhile wait for the same answer, also where it is a fault: lanes begin many at once.
    async fn versioning_of(&self, side: Option<TargetId>, store: &W::Store) -> Result<Versioning, Fault> {
        let came = tokio::time::Instant::now();
        let told = Arc::clone(self.versioning.lock().unwrap_or_else(PoisonError::into_inner).entry(side).or_default());
        let mut told = told.lock().await;
        if let Some((when, told)) = &*told
            && (told.is_ok() && when.elapsed() < VERSIONING_BELIEVED || *when > came)
        {
            return told.clone();
        }
        self.budget.request().await;
        let answer = Box::pin(store.versioning()).await;
        *told = Some((tokio::time::Instant::now(), answer.clone()));
        answer
    }

    fn proven(&self, target: &TargetId) -> Option<Proven> {
        self.server_side.lock().unwrap_or_else(PoisonError::into_inner).get(target).copied()
    }

    fn prove(&self, target: &TargetId, proven: Proven) {
        self.server_side.lock().unwrap_or_else(PoisonError::into_inner).insert(target.clone(), proven);
    }
}
