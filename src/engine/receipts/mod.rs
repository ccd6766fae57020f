//! Receipts of settled jobs: handed in by the lanes, written to a spool on disk by one task, uploaded by another.
//!
//! *Secret kept:* when receipts reach the disk and the bucket. *May touch:* the spool directory, the receipts' bucket,
//! the Clock. *Must not know:* how lines are spelled and chained (`audit::receipts`).
//!
//! A settlement is not flushed before its receipt or the other way round. After a crash between the two a job may run
//! again and leave a second receipt ("already-equal"), or a receipt that was not on disk yet may be missing while its
//! settlement was. A receipt is evidence that a version is at the target; that one is missing proves nothing.

mod facts;
mod spool;
mod upload;

pub(super) use facts::{Brought, of};

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::audit::receipts::{Receipt, Tip};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::ports::World;

use super::{Phase, Shared};
use spool::Spool;

/// Receipts between the lanes and the disk: about 1 KiB each, so 2 MiB at most.
const IN_HAND: usize = 2048;
/// Receipts of one write and sync.
const GROUP: usize = 256;
/// How long a lane waits for room while the disk keeps up at all; then its receipt is lost, told and counted.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Between tries to write a spool that cannot be written.
const SPOOL_RETRY: Duration = Duration::from_secs(2);
/// How often the end of the day is looked for.
const DAY_LOOK: Duration = Duration::from_secs(30);
/// How long the worker's end may wait for the last uploads; the next start does what is left.
const LAST_UPLOADS: Duration = Duration::from_secs(10);

/// Where receipts are kept and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The spool on the local disk.
    pub directory: PathBuf,
    /// The bucket's name, for messages.
    pub bucket: String,
    /// Put before every key there.
    pub prefix: String,
}

/// The chain's end as a worker that runs no more has left it: the last closed file's. `None` where there is none, or
/// where it cannot be read.
#[must_use]
pub fn left_behind(directory: &Path) -> Option<Tip> {
    spool::read_head(directory).ok().flatten()
}

/// Where lanes hand receipts in.
#[derive(Debug)]
pub(super) struct Desk {
    sender: mpsc::Sender<Receipt>,
    receiver: Mutex<Option<mpsc::Receiver<Receipt>>>,
    /// Whether the spool could not be written at the last try: then nobody waits for it.
    failing: AtomicBool,
    /// Lost and not written down yet.
    lost: AtomicU64,
}

impl Default for Desk {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(IN_HAND);
        let receiver = Mutex::new(Some(receiver));
        Self { sender, receiver, failing: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }
}

impl Desk {
    /// Hands receipts in; waits at most [`LONGEST_WAIT`] in all. If dropped, some are not handed in.
    async fn hand_in(&self, receipts: Vec<Receipt>) -> u64 {
        let deadline = tokio::time::Instant::now() + LONGEST_WAIT;
        let mut lost = 0;
        for receipt in receipts {
            match self.sender.try_send(receipt) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(receipt)) if !self.failing.load(Ordering::Acquire) => {
                    let sent = tokio::time::timeout_at(deadline, self.sender.send(receipt)).await;
                    lost += u64::from(!matches!(sent, Ok(Ok(()))));
                }
                Err(mpsc::error::TrySendError::Full(_) | mpsc::error::TrySendError::Closed(_)) => lost += 1,
            }
        }
        self.lost.fetch_add(lost, Ordering::AcqRel);
        lost
    }
}

impl<W: World> Shared<W> {
    /// Hands in the receipts of a settled job.
    pub(super) async fn leave_receipts(&self, receipts: Vec<Receipt>) {
        let Some(desk) = &self.desk else { return };
        let lost = desk.hand_in(receipts).await;
        if lost > 0 {
            let mut all = 0;
            self.pulse.receipts(|view| {
                view.lost += lost;
                all = view.lost;
            });
            tracing::error!(lost = all, "receipts: the spool does not take them in; jobs are settled without");
        }
    }
}

/// The tasks behind the desk, while the engine runs.
#[derive(Debug)]
pub(super) struct Writing {
    tasks: JoinSet<()>,
    ended: watch::Sender<bool>,
}

impl Writing {
    /// Starts them, where receipts are wanted.
    pub(super) fn begin<W: World>(shared: &Arc<Shared<W>>) -> Self {
        let mut tasks = JoinSet::new();
        let (ended, end) = watch::channel(false);
        let receiver =
            shared.desk.as_ref().and_then(|desk| desk.receiver.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let (Some(receiver), Some(settings)) = (receiver, &shared.settings.receipts) {
            shared.pulse.receipts(|_| {});
            let writer = Writer { shared: Arc::clone(shared), settings: Arc::new(settings.clone()), receiver, end };
            tasks.spawn(writer.write());
        }
        Self { tasks, ended }
    }

    /// Call when no lane runs any more: writes what is in hand, closes the file, and uploads for a bounded time.
    pub(super) async fn end(mut self) {
        self.ended.send_replace(true);
        while let Some(joined) = self.tasks.join_next().await {
            if let Err(error) = joined {
                tracing::error!(%error, "receipts: their task broke off; the next start goes on with what is on disk");
            }
        }
    }
}

/// The one task that writes the spool.
struct Writer<W: World> {
    shared: Arc<Shared<W>>,
    settings: Arc<Settings>,
    receiver: mpsc::Receiver<Receipt>,
    end: watch::Receiver<bool>,
}

/// The spool, as blocking work shares it with the task that waits for it.
type SharedSpool = Arc<Mutex<Spool>>;

impl<W: World> Writer<W> {
    async fn write(mut self) {
        let Some(spool) = self.open().await else { return self.give_up(self.receiver.len() as u64) };
        let (closed, seen) = watch::channel(0);
        self.tell(&spool, &closed);
        let mut uploads = JoinSet::new();
        uploads.spawn(upload::upload(Arc::clone(&self.shared), Arc::clone(&self.settings), seen));
        let mut in_hand = VecDeque::new();
        loop {
            let mut group = Vec::with_capacity(GROUP);
            let mut ended = self.end.clone();
            tokio::select! {
                taken = self.receiver.recv_many(&mut group, GROUP) => if taken == 0 { break },
                () = tokio::time::sleep(DAY_LOOK) => {}
                _ = ended.wait_for(|ended| *ended), if !self.receiver.is_closed() => self.receiver.close(),
            }
            in_hand.extend(group);
            let written = self.put_down(&spool, in_hand).await;
            self.tell(&spool, &closed);
            match written {
                Ok(()) => in_hand = VecDeque::new(),
                Err(left) => return self.give_up(left + self.receiver.len() as u64),
            }
        }
        if let Err(fault) = self.at(&spool, Spool::close).await {
            tracing::error!(%fault, "receipts: the file could not be closed; the next start does it");
        }
        self.tell(&spool, &closed);
        drop(closed);
        self.last_uploads(uploads).await;
    }

    /// Opens the spool; tries again until that works or the engine ends.
    async fn open(&self) -> Option<SharedSpool> {
        let seed = format!("{} {} {:?}", self.shared.settings.source_bucket, self.shared.now().0, dice());
        loop {
            let (directory, seed) = (self.settings.directory.clone(), seed.clone());
            match blocking("open the spool of receipts", move || Spool::open(&directory, &seed)).await {
                Ok(spool) => {
                    self.works();
                    return Some(Arc::new(Mutex::new(spool)));
                }
                Err(fault) => self.fails(&fault),
            }
            if !self.pause().await {
                return None;
            }
        }
    }

    /// Writes what is in hand; tries again until that works. When the engine ends first: how many were not written.
    async fn put_down(&self, spool: &SharedSpool, in_hand: VecDeque<Receipt>) -> Result<(), u64> {
        let desk = self.shared.desk.as_ref();
        let in_hand = Arc::new(Mutex::new(in_hand));
        loop {
            let lost = desk.map_or(0, |desk| desk.lost.swap(0, Ordering::AcqRel));
            let (now, receipts) = (self.shared.now(), Arc::clone(&in_hand));
            let before = count(&in_hand);
            let written = self
                .at(spool, move |spool| {
                    let mut receipts = receipts.lock().unwrap_or_else(PoisonError::into_inner);
                    spool.append(&mut receipts)?;
                    spool.end_day(now)?;
                    if lost > 0 { spool.note_lost(lost, now) } else { Ok(()) }
                })
                .await;
            let left = count(&in_hand);
            self.shared.pulse.receipts(|view| view.written += before.saturating_sub(left));
            let Err(fault) = written else {
                self.works();
                return Ok(());
            };
            // They are told in the chain as soon as it can be written again.
            if let Some(desk) = &self.shared.desk {
                desk.lost.fetch_add(lost, Ordering::AcqRel);
            }
            self.fails(&fault);
            if !self.pause().await {
                return Err(left);
            }
        }
    }

    async fn at(
        &self,
        spool: &SharedSpool,
        work: impl FnOnce(&mut Spool) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Fault> {
        let spool = Arc::clone(spool);
        let locked = move || work(&mut spool.lock().unwrap_or_else(PoisonError::into_inner));
        blocking("write the spool of receipts", locked).await
    }

    /// Tells the uploader which files are closed, and everybody where the chain is.
    fn tell(&self, spool: &SharedSpool, closed: &watch::Sender<u64>) {
        let spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
        let (through, tip) = (spool.closed_through(), spool.tip());
        self.shared.pulse.receipts(|view| view.head = Some((tip.sequence, tip.hash.clone())));
        closed.send_if_modified(|seen| std::mem::replace(seen, through) != through);
    }

    fn works(&self) {
        if let Some(desk) = &self.shared.desk {
            desk.failing.store(false, Ordering::Release);
        }
        self.shared.pulse.receipts(|view| view.spool_fault = None);
    }

    fn fails(&self, fault: &Fault) {
        if let Some(desk) = &self.shared.desk {
            desk.failing.store(true, Ordering::Release);
        }
        tracing::error!(%fault, directory = %self.settings.directory.display(),
            "receipts: the spool cannot be written; replication goes on, and receipts are lost once memory for them is full");
        self.shared.pulse.receipts(|view| view.spool_fault = Some(fault.to_string()));
    }

    /// Waits before the next try; `false` when the engine has ended.
    async fn pause(&self) -> bool {
        let mut end = self.end.clone();
        tokio::select! {
            () = tokio::time::sleep(SPOOL_RETRY) => true,
            _ = end.wait_for(|ended| *ended) => false,
        }
    }

    fn give_up(&self, left: u64) {
        if left > 0 {
            self.shared.pulse.receipts(|view| view.lost += left);
            tracing::error!(lost = left, "receipts: the worker ends and the spool cannot be written: these are lost");
        }
    }

    async fn last_uploads(&self, mut uploads: JoinSet<()>) {
        let mut phase = self.shared.phase.clone();
        let all = async { while uploads.join_next().await.is_some() {} };
        tokio::select! {
            () = all => return,
            () = tokio::time::sleep(LAST_UPLOADS) => {}
            _ = phase.wait_for(|phase| *phase == Phase::Halt) => {}
        }
        tracing::warn!(directory = %self.settings.directory.display(),
            "receipts: not all files could be uploaded in time; they stay on the disk and the next start uploads them");
        uploads.shutdown().await;
    }
}

fn count(receipts: &Mutex<VecDeque<Receipt>>) -> u64 {
    receipts.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
}

/// Something that two workers that start in one millisecond do not share.
fn dice() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Runs work that blocks on the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(
    during: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    let fault = |detail: String| Fault::new(FaultKind::Transient, Side::Local, during, detail);
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| fault(error.to_string())),
        Err(died) => Err(fault(died.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::receipts::{Ending, Kind, SourceSide, TargetSide, Verified};
    use crate::model::object::{Key, RuleId, TargetId, Timestamp, VersionId};

    fn receipts(count: usize) -> Vec<Receipt> {
        let (bucket, key) = (String::new(), Key::new("k"));
        let receipt = Receipt {
            settled: Timestamp(0),
            kind: Kind::Write,
            ending: Ending::Replicated,
            rule: RuleId::new("all"),
            target_id: TargetId::new("dr"),
            source: SourceSide {
                bucket: bucket.clone(),
                key: key.clone(),
                version: VersionId::null(),
                etag: None,
                checksum: None,
                size: None,
                modified: None,
            },
            target: TargetSide { bucket, key, version: None, etag: None },
            verified: Verified::NoBytes,
            lag: Duration::ZERO,
        };
        vec![receipt; count]
    }

    /// P10: what waits for the disk is bounded, and so is the time that a lane waits.
    #[tokio::test(start_paused = true)]
    async fn a_lane_waits_no_longer_than_the_bound() {
        let desk = Desk::default();
        let begun = tokio::time::Instant::now();
        assert_eq!(desk.hand_in(receipts(IN_HAND)).await, 0);
        assert_eq!(begun.elapsed(), Duration::ZERO, "while there is room nobody waits");
        assert_eq!(desk.hand_in(receipts(5)).await, 5);
        let waited = begun.elapsed();
        assert!(waited >= LONGEST_WAIT && waited < LONGEST_WAIT * 2, "{waited:?}");
        desk.failing.store(true, Ordering::Release);
        assert_eq!(desk.hand_in(receipts(5)).await, 5);
        assert_eq!(begun.elapsed(), waited, "a disk that is known not to work is not waited for");
        assert_eq!(desk.lost.load(Ordering::Acquire), 10, "all are told in the chain later");
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_comes_in_time_is_used() {
        let desk = Desk::default();
        let mut receiver = desk.receiver.lock().unwrap().take().unwrap();
        desk.hand_in(receipts(IN_HAND)).await;
        let (lost, ()) = tokio::join!(desk.hand_in(receipts(3)), async {
            tokio::time::sleep(LONGEST_WAIT / 2).await;
            receiver.recv_many(&mut Vec::new(), 3).await;
        });
        assert_eq!(lost, 0);
    }
}
