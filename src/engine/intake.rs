//! From the queue to the ledger: on disk first, acknowledged after (P1).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::fail::{self, Point};
use crate::ledger::{Admission, Ended, JobId, Ledger, Quarantined};
use crate::model::fault::Fault;
use crate::model::object::Timestamp;
use crate::plan::route::{self, Rule};
use crate::ports::{ChangeQueue, Content, Delivery, World};

use super::{Ack, Phase, Shared};

/// Between tries while the queue cannot be reached.
const QUEUE_RETRY: Duration = Duration::from_secs(5);
/// How long a receive that is under way when the engine stops or is paused may still bring its answer. The queue does not notice at
/// once that nobody listens any more: what it hands out then is hidden for nothing until its visibility ends.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// With `Ack::Settled`: messages are hidden for this long from now, over and over.
const HIDDEN_FOR: Duration = Duration::from_secs(120);
const EXTEND_EVERY: Duration = Duration::from_secs(20);
/// How often a delete that the queue refused is tried again before the message is left to come back.
const DELETE_TRIES: usize = 3;

type Receipt<W> = <<W as World>::Queue as ChangeQueue>::Receipt;

/// Receives until the phase ends. Returns an error only when the ledger can no longer be trusted.
pub(super) async fn receive<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    let Some(queue) = shared.world.queue() else { return Ok(()) };
    while shared.phase() == Phase::Run {
        shared.open().await;
        let turn = shared.intake.polling.lock().await;
        if !shared.may_begin() {
            continue;
        }
        let mut receiving = std::pin::pin!(queue.receive(shared.settings.long_poll));
        let received = tokio::select! {
            received = &mut receiving => Some(received),
            () = shared.closed() => None,
        };
        let Some(received) = received else {
            if let Ok(Ok(late)) = tokio::time::timeout(LAST_ANSWER, receiving).await {
                give_back(queue, late).await;
            }
            continue;
        };
        match received {
            Ok(deliveries) => {
                shared.pulse.queue_answered(shared.now(), deliveries.len());
                if !deliveries.is_empty() {
                    let in_hand = shared.intake.in_hand.read().await;
                    drop(turn);
                    let done = take_in(&shared, deliveries).await?;
                    drop(in_hand);
                    fail::pass(Point::AfterAdmit);
                    shared.work.notify_one();
                    acknowledge(&shared, queue, done).await;
                }
            }
            Err(fault) => {
                tracing::warn!(%fault, "the queue cannot be read; trying again");
                shared.pulse.queue_failed(&fault);
                shared.sleep(QUEUE_RETRY).await;
            }
        }
    }
    Ok(())
}

/// Makes messages that came too late visible again at once: nobody here takes them in any more.
async fn give_back<Q: ChangeQueue>(queue: &Q, late: Vec<Delivery<Q::Receipt>>) {
    let receipts: Vec<_> = late.into_iter().map(|delivery| delivery.receipt).collect();
    if !receipts.is_empty()
        && let Err(fault) = queue.extend(receipts, Duration::ZERO).await
    {
        tracing::info!(%fault, "messages could not be given back; they come again when their visibility ends");
    }
}

/// Keeps the queue's own order of batches: one receiver polls at a time, while others admit and acknowledge, and nothing
/// is claimed while a batch is in hand. Otherwise a key's second version, admitted a moment before its first, would be
/// written first and then once more behind the late one.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Held while polling.
    polling: tokio::sync::Mutex<()>,
    /// Read by each receiver from receipt to admission; written by the dispatcher for the moment of a claim.
    pub(super) in_hand: tokio::sync::RwLock<()>,
}

/// Admits a batch; returns what can be acknowledged now.
async fn take_in<W: World>(
    shared: &Arc<Shared<W>>,
    deliveries: Vec<Delivery<Receipt<W>>>,
) -> Result<Vec<Receipt<W>>, Fault> {
    let mut admission = Admission { now: shared.now(), ..Default::default() };
    // Per delivery: its receipt, its id and how many jobs it led to.
    let mut receipts = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let before = admission.jobs.len();
        let (receipt, message) = (delivery.receipt.clone(), delivery.id.clone());
        sort(shared, delivery, &mut admission);
        receipts.push((receipt, message, admission.jobs.len() - before));
    }
    let admitted = shared.ledger.admit(admission).await?;
    if !admitted.turned_away.is_empty() {
        let messages = admitted.turned_away.join(", ");
        tracing::error!(
            messages,
            "the quarantine is full: messages that cannot be understood stay in the queue, which gives them to its \
             dead-letter queue; see to `repl failures`"
        );
    }
    let mut ids = admitted.ids.into_iter();
    let mut done = Vec::with_capacity(receipts.len());
    for (receipt, message, jobs) in receipts {
        let ids: Vec<JobId> = ids.by_ref().take(jobs).collect();
        if admitted.turned_away.contains(&message) {
            continue;
        }
        if shared.settings.ack == Ack::Settled && !ids.is_empty() {
            shared.held.hold(receipt, &ids);
        } else {
            done.push(receipt);
        }
    }
    Ok(done)
}

/// What one message leads to: jobs, reasons why not, or the quarantine.
fn sort<W: World>(shared: &Shared<W>, delivery: Delivery<Receipt<W>>, admission: &mut Admission) {
    if let Some(reason) = take_apart(&shared.settings.rules, delivery.content, admission) {
        tracing::warn!(message = delivery.id, reason, "quarantined: the message cannot be understood");
        let (message_id, body) = (delivery.id, delivery.body);
        admission.quarantined.push(Quarantined { id: 0, message_id, reason, received: admission.now, body });
    }
}

/// Puts what can be understood of a message into an admission; gives the reason why the rest cannot.
fn take_apart(rules: &[Rule], content: Content, admission: &mut Admission) -> Option<String> {
    match content {
        Content::Changes { changes, ignored, unreadable } => {
            for change in changes {
                let routing = route::route(rules, &change);
                admission.jobs.extend(routing.jobs);
                admission.ignored.extend(routing.ignored);
            }
            admission.ignored.extend(ignored);
            (!unreadable.is_empty()).then(|| unreadable.join("; "))
        }
        Content::Unreadable(reason) => Some(reason),
    }
}

/// What became of a message of the quarantine that was read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// All of it is understood now: it has left the quarantine, and led to so many jobs.
    Understood(u64),
    /// It stays, for this reason.
    Still(String),
}

/// Takes a message of the quarantine in again, as `content` now understands it; returns when that is on disk. What was
/// taken in before is admitted once more and found done.
pub async fn redrive(
    ledger: &Ledger,
    rules: &[Rule],
    id: u64,
    content: Content,
    now: Timestamp,
) -> Result<Redriven, Fault> {
    let mut admission = Admission { now, ..Default::default() };
    let still = take_apart(rules, content, &mut admission);
    if still.is_none() {
        admission.understood.push(id);
    }
    let jobs = admission.jobs.len() as u64;
    let _admitted = ledger.admit(admission).await?;
    Ok(still.map_or(Redriven::Understood(jobs), Redriven::Still))
}

/// Deletes messages; one that will not be deleted comes again and is found done.
async fn acknowledge<W: World>(shared: &Shared<W>, queue: &W::Queue, receipts: Vec<Receipt<W>>) {
    let mut left = receipts;
    for _ in 0..DELETE_TRIES {
        if left.is_empty() {
            return;
        }
        match queue.acknowledge(left.clone()).await {
            Ok(refused) => left = refused,
            Err(fault) => {
                tracing::warn!(%fault, messages = left.len(), "messages could not be deleted; they will come again");
                shared.pulse.fault(&fault);
            }
        }
    }
}

/// Looks at the depth after which there is one at the dead letters too: what is given up waits for an operator anyway.
const DEPTHS_A_LOOK: usize = 4;

/// Asks the queue for its depth now and then, and for what it has given up.
pub(super) async fn gauge<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    let Some(queue) = shared.world.queue() else { return Ok(()) };
    for look in (0..DEPTHS_A_LOOK).cycle() {
        if shared.phase() != Phase::Run {
            break;
        }
        match queue.depth().await {
            Ok(depth) => shared.pulse.queue_depth(shared.now(), depth),
            Err(fault) => shared.pulse.queue_failed(&fault),
        }
        if look == 0 {
            look_at_dead_letters(&shared, queue).await;
        }
        shared.sleep(shared.settings.gauge_every).await;
    }
    Ok(())
}

/// A message that was given up may be the only word of a change, so it is told until somebody has seen to it.
async fn look_at_dead_letters<W: World>(shared: &Shared<W>, queue: &W::Queue) {
    let before = shared.pulse.snapshot().queue.dead_letters;
    let now = queue.dead_letters().await;
    match &now {
        Ok(Some(count)) if *count > before.unwrap_or_default() => tracing::error!(
            messages = count,
            "the queue has given messages up into its dead-letter queue: changes in them may be missing at the target; \
             give them back to the queue (aws sqs start-message-move-task), or run `repl sync --full` and purge them"
        ),
        Ok(_) => {}
        // Not to be permitted is no reason to stop, and `repl check` tells what permits it.
        Err(fault) => tracing::debug!(%fault, "what the queue has given up is not known"),
    }
    shared.pulse.queue_gave_up(shared.now(), now.ok().flatten());
}

/// Messages whose work is not done yet, with `Ack::Settled`.
pub(super) struct Held<W: World> {
    state: Mutex<State<W>>,
}

struct State<W: World> {
    waiting: HashMap<JobId, Vec<Arc<Message<W>>>>,
    done: Vec<Receipt<W>>,
    /// Jobs that were done before their message was held: the dispatcher may be faster than the receiver.
    early: BTreeSet<JobId>,
    /// Jobs whose work another one has taken over, for the same reason.
    moved: BTreeMap<JobId, JobId>,
}

/// How many of each are remembered. The race is one of milliseconds, so a few thousand outlive it by far.
const EARLY: usize = 4096;

struct Message<W: World> {
    receipt: Receipt<W>,
    left: std::sync::atomic::AtomicUsize,
}

impl<W: World> Default for Held<W> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: HashMap::new(),
                done: Vec::new(),
                early: BTreeSet::new(),
                moved: BTreeMap::new(),
            }),
        }
    }
}

impl<W: World> std::fmt::Debug for Held<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl<W: World> State<W> {
    fn settle(&mut self, ids: &[JobId]) {
        for id in ids {
            // Also where a message was waiting: another delivery of the same work may be about to be held.
            self.early.insert(*id);
            if self.early.len() > EARLY {
                self.early.pop_first();
            }
            for message in self.waiting.remove(id).unwrap_or_default() {
                if message.left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                    self.done.push(message.receipt.clone());
                }
            }
        }
    }

    fn follow(&mut self, id: JobId, into: JobId) {
        self.moved.insert(id, into);
        if self.moved.len() > EARLY {
            self.moved.pop_first();
        }
        if let Some(followed) = self.waiting.remove(&id) {
            self.waiting.entry(into).or_default().extend(followed);
        }
        if self.early.remove(&into) {
            self.settle(&[into]);
        }
    }

    /// The job that does the work of this one now.
    fn current(&self, id: JobId) -> JobId {
        let mut current = id;
        while let Some(into) = self.moved.get(&current) {
            current = *into;
        }
        current
    }
}

impl<W: World> Held<W> {
    fn hold(&self, receipt: Receipt<W>, ids: &[JobId]) {
        let message = Arc::new(Message { receipt, left: ids.len().into() });
        self.with(|state| {
            let ids: Vec<JobId> = ids.iter().map(|id| state.current(*id)).collect();
            for id in &ids {
                state.waiting.entry(*id).or_default().push(Arc::clone(&message));
            }
            let early: Vec<JobId> = ids.iter().copied().filter(|id| state.early.remove(id)).collect();
            state.settle(&early);
        });
    }

    /// Jobs are done: a message whose last one this was can be deleted.
    pub(super) fn settled(&self, ids: &[JobId]) {
        self.with(|state| {
            state.settle(ids);
        });
    }

    /// From now on a job's work is another one's: its messages wait for that.
    pub(super) fn moved(&self, id: JobId, into: JobId) {
        self.with(|state| state.follow(id, into));
    }

    /// Jobs that the ledger ended by itself.
    fn ended(&self, ended: Vec<Ended>) {
        self.with(|state| {
            for Ended { id, into } in ended {
                match into {
                    Some(into) => state.follow(id, into),
                    None => state.settle(&[id]),
                }
            }
        });
    }

    fn take_done(&self) -> Vec<Receipt<W>> {
        self.with(|state| std::mem::take(&mut state.done))
    }

    fn receipts(&self) -> Vec<Receipt<W>> {
        self.with(|state| {
            let mut seen = std::collections::HashSet::new();
            let messages = state.waiting.values().flatten();
            messages.filter(|m| seen.insert(Arc::as_ptr(m))).map(|m| m.receipt.clone()).collect()
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut State<W>) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Deletes the messages whose work is done.
pub(super) async fn acknowledge_settled<W: World>(shared: &Shared<W>) {
    if let Some(queue) = shared.world.queue() {
        shared.held.ended(shared.ledger.take_ended());
        acknowledge(shared, queue, shared.held.take_done()).await;
    }
}

/// With `Ack::Settled`: one loop for all messages deletes those that are done and keeps the others hidden, until the engine
/// stops. What is done during the drain is deleted at its end; what is not done then comes again elsewhere.
pub(super) async fn hold<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    let Some(queue) = shared.world.queue() else { return Ok(()) };
    let mut extended = tokio::time::Instant::now();
    while shared.phase() == Phase::Run {
        acknowledge_settled(&shared).await;
        if extended.elapsed() >= EXTEND_EVERY {
            extended = tokio::time::Instant::now();
            let receipts = shared.held.receipts();
            if !receipts.is_empty()
                && let Err(fault) = queue.extend(receipts, HIDDEN_FOR).await
            {
                tracing::warn!(%fault, "messages under work could not be kept hidden; others may do the same work");
            }
        }
        shared.sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
