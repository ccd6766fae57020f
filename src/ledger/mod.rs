//! Floor 2: durable truth. What has to be done, what is being done, what was done.
//!
//! *Secret kept:* bytes on disk, indexes, flushes, group commit, who holds which key. *May touch:* the disk, through
//! `kv` alone; one thread of its own. *Must not know:* the engine, S3, the clock (time is an argument), chance.
//!
//! # What it promises
//! - **P1** [`Ledger::admit`] returns only when its jobs, quarantined messages and cursor are flushed, all in one
//!   batch. After a failed flush nothing is ever acknowledged again: every write is refused until the next start.
//! - **P2, P3** The same work admitted twice is one job. At most one [`Lane`] of a target key lives at a time (I5); its
//!   jobs come in source order, and a deferred first job holds up the others of its key.
//! - **P9** A parked job holds up nobody. Groups are probed, and go back together, also over a crash.
//! - **P10** The quarantine is bounded: what it turns away is not admitted. Memory does not grow with the backlog:
//!   records are packed many to an entry of the store (`pages`), totals are kept in the same batches and never
//!   recounted. The room of jobs that ended is used again; sled gives it back to the file system only bit by bit as it
//!   writes on (one segment for each that it fills).
//!
//! # What is flushed before what (DESIGN 4.4)
//! Flushed, down to the disk's own cache, before the answer: `admit`, `park`, `pass_delete`, `release_held`,
//! `note_upload`, `note_part`, `note_replicas`, `set_control`, `set_limiting`, `release`, `drop_parked`,
//! `drop_quarantined`, and a `settle` that tells of replicas. Applied only: `claim`, every other `settle`, `defer`,
//! `forget_upload`, `forget_upload_of`, `set_cursor`, `keep_sample`, `note_keys`; they are in memory until the next flush,
//! and lost when the process dies before it they are done again. The engine flushes once in each interval of its metrics,
//! and the store by itself before sled could write over what the disk still needs (`kv`), so that no more than that is.
//! Batches reach the disk in their order, so a state after a crash is one that was there before it. A store that lacks
//! what was flushed is refused.
//!
//! # Inside
//! ```text
//! Ledger ─▶ writer (thread, group commit) ─▶ book (lanes · parked · journal · …) ─▶ pages ─▶ kv (sled)
//!        └▶ reads, directly ────────────────▶ view ──────────────────────────▶ pages ─▶ kv
//! ```

mod book;
mod brake;
mod claim;
mod codec;
#[cfg(test)]
pub(crate) mod double;
mod history;
mod journal;
mod kv;
mod lanes;
mod layout;
mod names;
mod pages;
mod parked;
mod quarantine;
mod recent;
mod record;
mod sweep;
#[cfg(test)]
mod tests;
mod words;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

pub use claim::{Claim, Lane};
pub use history::{LatencySample, MINUTE, Sample};
pub use words::{
    Admission, Admitted, Brake, Chapter, Control, Count, Ended, Group, GroupId, Happened, Happening, JobId, KeptFault,
    Limiting, Next, Note, Outcome, PartSizes, Passage, Quarantined, Release, Replica, RuleTotals, SentPart, Settled,
    Settlement, Standing, Story, Totals, Upload,
};

use crate::model::deletes::Deletes;
use crate::model::fault::Fault;
use crate::model::job::Applied;
use crate::model::object::{Key, TargetId, Timestamp};
use book::Limits;
use kv::{Kv, SledKv, ledger_fault};
use sweep::{Sweeping, Swept};
use writer::{Durability, Writer};

/// A handle on the ledger; clones share it. When the last one goes, what was asked before is done and flushed.
///
/// Every fault is of kind `Ledger`. Dropping the future of a write leaves open whether it is done; lanes and claims in
/// it are given back.
#[derive(Clone, Debug)]
pub struct Ledger {
    writer: Arc<Writer>,
}

impl Ledger {
    /// Opens the ledger in a directory, or makes a new one there (mode 0700). Blocks for disk reads: the ledger
    /// itself reads a handful of records, but sled replays what was logged since the last opening (measured: 0.25 s
    /// for 75 MB). Fails when another process has it open, and when a record's version is unknown.
    pub fn open(directory: &Path) -> Result<Self, Fault> {
        Self::on(Arc::new(SledKv::open(directory)?), Limits::default())
    }

    /// Whether a ledger was ever made there.
    #[must_use]
    pub fn is_at(directory: &Path) -> bool {
        SledKv::is_at(directory)
    }

    fn on(kv: Arc<dyn Kv>, limits: Limits) -> Result<Self, Fault> {
        Ok(Self { writer: Arc::new(writer::start(kv, limits)?) })
    }

    /// Admits work, quarantine, reasons and a cursor, all or nothing; returns when they are on disk (P1).
    pub async fn admit(&self, admission: Admission) -> Result<Admitted, Fault> {
        let weight = admission.jobs.len().max(1);
        self.writer.write(Durability::Flushed, weight, move |book| book.admit(admission)).await
    }

    /// Hands out up to `most` lanes that may be worked on at `now`: probes that are due, then live changes, then those
    /// of scans, the oldest change first.
    pub async fn claim(&self, now: Timestamp, most: usize) -> Result<Vec<Lane>, Fault> {
        self.writer.write(Durability::Applied, most.max(1), move |book| book.claim(now, most)).await
    }

    /// Ends the jobs of claims of one lane, in source order; the last one's state is what `settlement` tells. The
    /// bytes count for the last one. Flushed where it tells of replicas, as nothing else may know those: their objects
    /// need not carry a stamp. Else not flushed: lost in a crash, the jobs run again and find the target equal.
    pub async fn settle(&self, claims: Vec<Claim>, settlement: Settlement) -> Result<Settled, Fault> {
        let mut settled = self.settle_all(vec![(claims, settlement)]).await?;
        settled.pop().ok_or_else(|| ledger_fault("settle jobs", "it does not tell what became of them"))
    }

    /// The same for several lanes at once, each as [`Self::settle`] does; all or nothing.
    pub async fn settle_all(&self, ends: Vec<(Vec<Claim>, Settlement)>) -> Result<Vec<Settled>, Fault> {
        let of_one_key = |claims: &Vec<Claim>| {
            claims.windows(2).all(|pair| !matches!(pair, [one, other] if one.hash() != other.hash()))
        };
        if !ends.iter().all(|(claims, _)| of_one_key(claims)) {
            return Err(ledger_fault("settle jobs", "the claims are of different keys: settle each key for itself"));
        }
        let tells_of_replicas = ends.iter().any(|(_, settlement)| !settlement.replicas.is_empty());
        let durability = if tells_of_replicas { Durability::Flushed } else { Durability::Applied };
        let weight = ends.len().max(1);
        let work = move |book: &mut book::Book<'_>| {
            let settled: Result<Vec<Settled>, Fault> =
                ends.iter().map(|(claims, settlement)| book.settle(claims, settlement)).collect();
            Ok((settled?, ends))
        };
        self.writer.write(durability, weight, work).await.map(|(settled, _given_back)| settled)
    }

    /// Puts a job off until `not_before`, with one more failed attempt. It holds up its key until then. A probe goes
    /// back into its group and comes again at that time. Not flushed.
    pub async fn defer(&self, claim: Claim, not_before: Timestamp, fault: &Fault, now: Timestamp) -> Result<(), Fault> {
        let fault = fault.clone();
        let work = move |book: &mut book::Book<'_>| Ok((book.defer(&claim, not_before, (&fault, now))?, claim));
        self.writer.write(Durability::Applied, 1, work).await.map(|((), _given_back)| ())
    }

    /// Parks a job under the cause of its fault (P9); flushed. A probe that fails makes the next one wait longer.
    pub async fn park(&self, claim: Claim, fault: &Fault, now: Timestamp) -> Result<(), Fault> {
        let fault = fault.clone();
        let work = move |book: &mut book::Book<'_>| Ok((book.park(&claim, &fault, now)?, claim));
        self.writer.write(Durability::Flushed, 1, work).await.map(|((), _given_back)| ())
    }

    /// Notes an open upload; returns when that is on disk, so that no part is sent before. Noted again under the same
    /// upload id it replaces itself.
    pub async fn note_upload(&self, claim: &Claim, upload: &Upload) -> Result<(), Fault> {
        let (claim, upload) = (claim.subject(), upload.clone());
        self.writer.shared().uploads.store(true, Ordering::Relaxed);
        self.writer.write(Durability::Flushed, 1, move |book| book.note_upload(&claim, &upload)).await
    }

    /// The upload noted for the version of the claim's job, or else by this very job. Look at its source version and
    /// ETag before going on with it: the source may have moved on.
    pub fn upload(&self, claim: &Claim) -> Result<Option<Upload>, Fault> {
        let shared = self.writer.shared();
        if !shared.uploads.load(Ordering::Relaxed) {
            return Ok(None);
        }
        shared.read(|view| view.upload(&claim.waiting))
    }

    /// Notes a part of the claim's upload; returns when that is on disk, so that it is not sent again after a crash.
    pub async fn note_part(&self, claim: &Claim, part: &SentPart) -> Result<(), Fault> {
        let (claim, part) = (claim.subject(), part.clone());
        self.writer.write(Durability::Flushed, 1, move |book| book.note_part(&claim, &part)).await
    }

    /// The parts noted of the claim's upload, ascending.
    pub fn sent_parts(&self, claim: &Claim) -> Result<Vec<SentPart>, Fault> {
        self.writer.shared().read(|view| view.sent_parts(&claim.waiting))
    }

    /// Forgets the upload that [`Self::upload`] tells, after it was completed or aborted. Not flushed.
    pub async fn forget_upload(&self, claim: &Claim) -> Result<(), Fault> {
        let claim = claim.subject();
        self.writer.write(Durability::Applied, 1, move |book| book.forget_upload(&claim)).await
    }

    /// Remembers replicas without a stamp that the claim's job has made before it ends: it may break off, and nothing else
    /// tells what they are. Flushed: a process that dies leaves them behind.
    pub async fn note_replicas(&self, claim: &Claim, replicas: &[Replica]) -> Result<(), Fault> {
        let (job, replicas) = (claim.job().clone(), replicas.to_vec());
        let work = move |book: &mut book::Book<'_>| {
            replicas.iter().try_for_each(|replica| book.remember_replica(&job.target, &job.target_key, replica))
        };
        self.writer.write(Durability::Flushed, 1, work).await
    }

    /// All uploads noted and not forgotten. One whose job has ended is an orphan, to be aborted.
    pub fn uploads(&self) -> Result<Vec<(TargetId, Key, Upload)>, Fault> {
        self.writer.shared().read(|view| view.uploads())
    }

    /// Uploads that no unfinished job needs any more: their jobs ended or were dropped. To be aborted, then forgotten.
    pub fn orphans(&self) -> Result<Vec<(TargetId, Key, Upload)>, Fault> {
        self.writer.shared().read(|view| view.orphans())
    }

    /// Forgets an upload by its id. Not flushed.
    pub async fn forget_upload_of(&self, target: &TargetId, target_key: &Key, upload: &str) -> Result<(), Fault> {
        let (target, key, upload) = (target.clone(), target_key.clone(), upload.to_owned());
        self.writer.write(Durability::Applied, 1, move |book| book.forget_upload_of(&target, &key, &upload)).await
    }

    /// What was last applied to a target key. Only so many keys are remembered, those applied last: `None` says
    /// nothing about the target.
    pub fn applied(&self, target: &TargetId, target_key: &Key) -> Result<Option<Applied>, Fault> {
        self.writer.shared().read(|view| view.applied(target, target_key))
    }

    /// The source versions that unstamped replicas under a target key hold, the oldest first. Kept for ever.
    pub fn replicas(&self, target: &TargetId, target_key: &Key) -> Result<Vec<Replica>, Fault> {
        self.writer.shared().read(|view| view.replicas(target, target_key))
    }

    /// The earliest time at which a deferred job or a probe is due; it may lie in the past, and is 0 while parked jobs
    /// are on their way back. `None` when nothing waits for a time.
    pub fn next_due(&self) -> Result<Option<Timestamp>, Fault> {
        let live = &self.writer.shared().live;
        self.writer.shared().read(|view| {
            let lane = view.next_due_lane()?;
            let probe = view.next_due_probe(|group| live.is_probing(group))?;
            Ok(match (lane, probe) {
                (Some(lane), Some(probe)) => Some(lane.min(probe)),
                (lane, probe) => lane.or(probe),
            })
        })
    }

    /// What the ledger holds and has seen, as of the last batch.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.writer.shared().totals()
    }

    /// The oldest change among all jobs that are ready, claimed or deferred.
    pub fn oldest_pending(&self) -> Result<Option<Timestamp>, Fault> {
        self.writer.shared().read(|view| view.oldest_pending())
    }

    /// The oldest change among the same that an event told of, and no scan: of those that wait for another try only the
    /// oldest 256 keys are looked at.
    pub fn oldest_live(&self) -> Result<Option<Timestamp>, Fault> {
        self.writer.shared().read(|view| view.oldest_live())
    }

    /// The groups of parked jobs.
    pub fn groups(&self) -> Result<Vec<Group>, Fault> {
        self.writer.shared().read(|view| view.groups())
    }

    /// Puts parked jobs back among those that may be claimed; says how many. A release of whole groups goes on after
    /// a crash. Returns when done and flushed.
    pub async fn release(&self, which: &Release) -> Result<u64, Fault> {
        self.sweep(which, Sweeping::Release).await
    }

    /// Drops parked jobs for good, with a note for [`Self::story`]; says how many. Returns when done and flushed.
    pub async fn drop_parked(&self, which: &Release, now: Timestamp) -> Result<u64, Fault> {
        self.sweep(which, Sweeping::Drop(now)).await
    }

    /// From now on [`Self::take_ended`] tells of ends. Nothing is kept before, so that nobody has to ask.
    pub fn watch_ends(&self) {
        self.writer.shared().ended().get_or_insert_default();
    }

    /// The jobs that ended without a settlement since this was asked last, in that order: dropped by an operator, or
    /// parked and released while the same work was pending. Their ends are applied, not flushed: after a crash such a
    /// job may be there again.
    #[must_use]
    pub fn take_ended(&self) -> Vec<Ended> {
        self.writer.shared().ended().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Asks the brake for the delete that a claim is about to bring (P11), each claim's job once: `judge` is told what
    /// there was before and gives the reason to hold it. What may go is counted on disk before this returns; what is
    /// held is no longer the claim's to settle, as its job waits for [`Self::release_held`].
    pub async fn pass_delete(
        &self,
        claim: &Claim,
        now: Timestamp,
        judge: impl FnOnce(Deletes) -> Option<String> + Send + 'static,
    ) -> Result<Passage, Fault> {
        let claim = claim.subject();
        self.writer.write(Durability::Flushed, 1, move |book| book.pass_delete(&claim, now, judge)).await
    }

    /// The brakes of all targets that have counted a delete, or their keys.
    pub fn brakes(&self, now: Timestamp) -> Result<Vec<Brake>, Fault> {
        self.writer.shared().read(|view| view.brakes(now))
    }

    /// Releases the brakes that hold, of one target or of all, and begins their counts anew; says how many deletes go.
    /// They are not judged again. Goes on after a crash. Returns when done and flushed.
    pub async fn release_held(&self, target: Option<&TargetId>) -> Result<u64, Fault> {
        let target = target.cloned();
        self.swept(move |book, answer| book.start_release_of_held(target.as_ref(), answer)).await
    }

    /// Remembers how many keys a target has, as counted just now. Not flushed.
    pub async fn note_keys(&self, target: &TargetId, keys: u64, now: Timestamp) -> Result<(), Fault> {
        let target = target.clone();
        self.writer.write(Durability::Applied, 1, move |book| book.note_keys(&target, keys, now)).await
    }

    async fn sweep(&self, which: &Release, sweeping: Sweeping) -> Result<u64, Fault> {
        let which = which.clone();
        self.swept(move |book, answer| book.start_sweep(&which, sweeping, answer)).await
    }

    async fn swept(
        &self,
        begin: impl FnOnce(&mut book::Book<'_>, Swept) -> Result<(), Fault> + Send + 'static,
    ) -> Result<u64, Fault> {
        let (answer, answered) = oneshot::channel();
        self.writer.write(Durability::Flushed, 1, move |book| begin(book, answer)).await?;
        answered.await.map_err(|_dropped| ledger_fault("move parked jobs", "the ledger's writer has ended"))?
    }

    /// Messages that could not be understood, the oldest first.
    pub fn quarantined(&self, most: usize) -> Result<Vec<Quarantined>, Fault> {
        self.writer.shared().read(|view| view.quarantined(most))
    }

    /// One of them, whole.
    pub fn quarantined_message(&self, id: u64) -> Result<Option<Quarantined>, Fault> {
        self.writer.shared().read(|view| view.quarantined_message(id))
    }

    /// Drops messages of the quarantine for good; says how many there were. Returns when that is on disk.
    pub async fn drop_quarantined(&self, ids: Vec<u64>) -> Result<u64, Fault> {
        self.writer.write(Durability::Flushed, ids.len().max(1), move |book| book.leave_quarantine(&ids)).await
    }

    /// All that is known of a source key.
    pub fn story(&self, key: &Key) -> Result<Story, Fault> {
        self.writer.shared().read(|view| view.story(key))
    }

    /// What happened last, over all keys, the newest first: at most `most`.
    pub fn latest(&self, most: usize) -> Result<Vec<(Key, Happening)>, Fault> {
        self.writer.shared().read(|view| view.latest(most))
    }

    /// The samples of the last day, the oldest first, each with the beginning of its minute.
    pub fn history(&self) -> Result<Vec<(Timestamp, Sample)>, Fault> {
        self.writer.shared().read(|view| view.history())
    }

    /// Keeps the sample of the minute that `at` lies in; what was kept of that minute before is joined with it. Samples
    /// of more than a day before are forgotten. Not flushed.
    pub async fn keep_sample(&self, at: Timestamp, sample: Sample) -> Result<(), Fault> {
        self.writer.write(Durability::Applied, 1, move |book| book.keep_sample(at, sample)).await
    }

    /// What an operator asked for last.
    pub fn control(&self) -> Result<Control, Fault> {
        self.writer.shared().read(|view| view.control())
    }

    /// Remembers what an operator asks for; flushed.
    pub async fn set_control(&self, control: &Control) -> Result<(), Fault> {
        let control = *control;
        self.writer.write(Durability::Flushed, 1, move |book| book.set_control(control)).await
    }

    /// The limits that an operator has set.
    pub fn limiting(&self) -> Result<Limiting, Fault> {
        self.writer.shared().read(|view| view.limiting())
    }

    /// Remembers limits that an operator sets; flushed.
    pub async fn set_limiting(&self, limiting: &Limiting) -> Result<(), Fault> {
        let limiting = *limiting;
        self.writer.write(Durability::Flushed, 1, move |book| book.set_limiting(limiting)).await
    }

    /// How far the scan of that name was; written with an [`Admission`] or by [`Self::set_cursor`].
    pub fn cursor(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.writer.shared().read(|view| view.cursor(name))
    }

    /// Sets a cursor by itself (`None` forgets it), for a page without work. Not flushed.
    pub async fn set_cursor(&self, name: &str, cursor: Option<Vec<u8>>) -> Result<(), Fault> {
        let name = name.to_owned();
        let work = move |book: &mut book::Book<'_>| match cursor {
            Some(cursor) => book.set_cursor(&name, &cursor),
            None => book.forget_cursor(&name),
        };
        self.writer.write(Durability::Applied, 1, work).await
    }

    /// Returns when the writer has come to this request: it lives, and does not hang. Nothing is flushed.
    pub async fn answers(&self) -> Result<(), Fault> {
        self.writer.write(Durability::Applied, 1, |_book| Ok(())).await
    }

    /// Returns when everything asked for before is on disk.
    pub async fn flush(&self) -> Result<(), Fault> {
        self.writer.write(Durability::Flushed, 1, |_book| Ok(())).await
    }

    /// Bytes on disk.
    pub fn size_on_disk(&self) -> Result<u64, Fault> {
        self.writer.shared().kv.size_on_disk()
    }
}
