//! From the queue to the ledger: on disk first, acknowledged after (P1).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ledger::{Admission, JobId, Quarantined};
use crate::model::fault::Fault;
use crate::plan::route;
use crate::ports::{ChangeQueue, Content, Delivery, World};

use super::{Ack, Phase, Shared};

/// Between tries while the queue cannot be reached.
const QUEUE_RETRY: Duration = Duration::from_secs(5);
/// How long a receive that is under way when the engine stops may still bring its answer. The queue does not notice at
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
    let mut phase = shared.phase.clone();
    while shared.phase() == Phase::Run {
        let turn = shared.intake.polling.lock().await;
        if shared.phase() != Phase::Run {
            return Ok(());
        }
        let mut receiving = std::pin::pin!(queue.receive(shared.settings.long_poll));
        let received = tokio::select! {
            received = &mut receiving => Some(received),
            _ = phase.wait_for(|phase| *phase != Phase::Run) => None,
        };
        let Some(received) = received else {
            if let Ok(Ok(late)) = tokio::time::timeout(LAST_ANSWER, receiving).await {
                give_back(queue, late).await;
            }
            return Ok(());
        };
        match received {
            Ok(deliveries) => {
                shared.pulse.queue_answered(shared.now(), deliveries.len());
                if !deliveries.is_empty() {
                    let in_hand = shared.intake.in_hand.read().await;
                    drop(turn);
                    let done = take_in(&shared, deliveries).await?;
                    drop(in_hand);
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
    // Per delivery: its receipt and how many jobs it led to.
    let mut receipts = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let before = admission.jobs.len();
        let receipt = delivery.receipt.clone();
        sort(shared, delivery, &mut admission);
        receipts.push((receipt, admission.jobs.len() - before));
    }
    let admitted = shared.ledger.admit(admission).await?;
    let mut ids = admitted.ids.into_iter();
    let mut done = Vec::with_capacity(receipts.len());
    for (receipt, jobs) in receipts {
        let ids: Vec<JobId> = ids.by_ref().take(jobs).collect();
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
    let mut unreadable = Vec::new();
    match delivery.content {
        Content::Changes { changes, ignored, unreadable: parts } => {
            for change in changes {
                let routing = route::route(&shared.settings.rules, &change);
                admission.jobs.extend(routing.jobs);
                admission.ignored.extend(routing.ignored);
            }
            admission.ignored.extend(ignored);
            unreadable.extend(parts);
        }
        Content::Unreadable(reason) => unreadable.push(reason),
    }
    if !unreadable.is_empty() {
        let reason = unreadable.join("; ");
        tracing::warn!(message = delivery.id, reason, "quarantined: the message cannot be understood");
        let (message_id, body) = (delivery.id, delivery.body);
        admission.quarantined.push(Quarantined { id: 0, message_id, reason, received: admission.now, body });
    }
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

/// Asks the queue for its depth now and then.
pub(super) async fn gauge<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    let Some(queue) = shared.world.queue() else { return Ok(()) };
    while shared.phase() == Phase::Run {
        match queue.depth().await {
            Ok(depth) => shared.pulse.queue_depth(shared.now(), depth),
            Err(fault) => shared.pulse.queue_failed(&fault),
        }
        shared.sleep(shared.settings.gauge_every).await;
    }
    Ok(())
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
}

/// How many of those are remembered. The race is one of milliseconds, so a few thousand outlive it by far.
const EARLY: usize = 4096;

struct Message<W: World> {
    receipt: Receipt<W>,
    left: std::sync::atomic::AtomicUsize,
}

impl<W: World> Default for Held<W> {
    fn default() -> Self {
        Self { state: Mutex::new(State { waiting: HashMap::new(), done: Vec::new(), early: BTreeSet::new() }) }
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
            let Some(messages) = self.waiting.remove(id) else {
                self.early.insert(*id);
                if self.early.len() > EARLY {
                    self.early.pop_first();
                }
                continue;
            };
            for message in messages {
                if message.left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                    self.done.push(message.receipt.clone());
                }
            }
        }
    }
}

impl<W: World> Held<W> {
    fn hold(&self, receipt: Receipt<W>, ids: &[JobId]) {
        let message = Arc::new(Message { receipt, left: ids.len().into() });
        self.with(|state| {
            for id in ids {
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

/// With `Ack::Settled`: one loop for all messages deletes those that are done and keeps the others hidden. It goes on
/// while the engine drains; what is not done then comes again elsewhere.
pub(super) async fn hold<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    let Some(queue) = shared.world.queue() else { return Ok(()) };
    let mut extended = tokio::time::Instant::now();
    loop {
        let running = shared.phase() == Phase::Run;
        acknowledge(&shared, queue, shared.held.take_done()).await;
        if !running {
            return Ok(());
        }
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
}
