//! Objects in parts: streamed or copied by the store, resumed after a crash, verified before they become visible.
//!
//! The upload id is on disk before the first part is sent. A part that an earlier run sent counts only if its hash is
//! known: from the ledger, or from the store's list of parts; otherwise it is sent again. The upload is completed only
//! when the parts' hashes come to what the source stores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;

use crate::fail::{self, Point};
use crate::ledger::{PartSizes, SentPart, Upload};
use crate::model::digest::{Algorithm, Checksum, ChecksumType, Means};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Found, Head, Lock, Tags};
use crate::model::stamp::Stamp;
use crate::plan::{decide, parts};
use crate::ports::{
    ByteStream, Completion, Condition, Fetched, ObjectStore, OpenUpload, Part, Payload, Pick, Read, UploadChecksum,
    UploadRef, World, Written,
};

use super::budget::{Mover, PIPE};
use super::digest::{self, Hashed};
use super::follow::lock_change;
use super::replicate::{At, Stop};
use super::transfer::{Carried, Sent, Shipment, copied};
use super::verify::{Expected, Verdict};
use super::{Phase, Shared};
use etags::Md5;

pub(super) mod etags;

/// Parts of one object under way at once at most; the budget may permit fewer.
const PARTS_AT_ONCE: usize = 16;
/// `x-amz-copy-source-range` is refused for sources up to this size (aws-semantics 3.3).
const RANGE_COPIED_ABOVE: u64 = 5 << 20;

/// One upload while it runs.
struct Running<'a> {
    head: &'a Head,
    id: String,
    sizes: Vec<u64>,
    /// What the store keeps as checksum, as it said itself.
    checksum: Option<UploadChecksum>,
    /// What the worker hashes with: the same where it can be.
    algorithm: Algorithm,
    /// Whether the parts' MD5s are wanted to compose the source's ETag: the worker's, or the target's.
    md5: bool,
    /// Whether a part is out whose MD5 shows whether the target tells those of the others.
    asking: AtomicBool,
    /// The turn that this object has for itself.
    own: Semaphore,
    mover: Mover,
}

/// A part at the store with the hash of its bytes, where that is known.
type Done = (Part, Option<Hashed>);

impl<W: World> Shared<W> {
    /// Brings an object in parts, moved by the worker or by the store.
    pub(super) async fn in_parts(
        self: &Arc<Self>,
        at: &At<'_, W>,
        mover: Mover,
        shipment: &Shipment<'_>,
        sizes: &[u64],
    ) -> Result<Carried, Stop> {
        let Shipment { head, tags, condition } = shipment;
        let (object, stamped) = self.new_object(at, head, tags.clone());
        let (running, known) = match self.resumed(at, mover, shipment).await? {
            Some(resumed) => resumed,
            None => {
                let asked = self.checksum_to_ask(head, mover, sizes);
                self.budget.request().await;
                let open = at.store.create_upload(&object, Some(asked)).await?;
                fail::pass(Point::AfterCreate);
                (self.opened(at, mover, shipment, (sizes, open)).await?, BTreeMap::new())
            }
        };
        let done = match self.send_all(at, &running, known).await {
            Ok(done) => done,
            // The upload is gone: aborted by a lifecycle rule, or completed by an attempt whose answer was lost.
            Err(Stop::Fault(fault)) if fault.kind == FaultKind::Gone && fault.side == Side::Target => {
                return self.upload_gone(at, head, fault).await;
            }
            Err(stop) => return Err(stop),
        };
        let done = match self.with_md5s(at, &running, done).await {
            Ok(done) => done,
            Err(fault) => return Err(self.unlike(at, &running, fault).await),
        };
        let whole = match verified(&running, &done) {
            Ok(whole) => whole,
            Err(fault) => return Err(self.give_up(at, &running, fault).await),
        };
        if whole.etag == EtagAgrees::No
            && let Err(fault) = self.read_again(at, &running, &done).await
        {
            return Err(self.unlike(at, &running, fault).await);
        }
        let written = match self.complete(at, &running, &done, (whole.checksum.clone(), condition)).await {
            Ok(Completed::Written(written)) => written,
            Ok(Completed::Carried(carried)) => return Ok(carried),
            Err(Stop::Fault(fault)) => return self.lost(at, head, stamped, fault).await,
            Err(stop) => return Err(stop),
        };
        self.ledger.forget_upload(at.claim).await?;
        let verdict = match whole.verdict {
            Verdict::Exact(means) => Verdict::Exact(means),
            Verdict::Unprovable(_) => self.compare(at, head, &written).await?,
        };
        let pick = match &written.version {
            Some(version) => Pick::Version(version.clone()),
            None => Pick::Current,
        };
        self.restore_tags(at, &object.tags, &pick).await?;
        self.restore_lock(at, &object.attributes.lock, &pick).await?;
        self.finish(at, (*head).clone(), Sent { object, written, verdict, stamped }).await
    }

    /// The upload that an earlier attempt left open for this very version, if nothing has been written to the key
    /// since: a multipart object is as old as its initiation, so an older upload would end up in the wrong place.
    async fn resumed<'h>(
        &self,
        at: &At<'_, W>,
        mover: Mover,
        shipment: &Shipment<'h>,
    ) -> Result<Option<(Running<'h>, BTreeMap<u32, Done>)>, Stop> {
        let Shipment { head, condition, .. } = *shipment;
        let Some(upload) = self.ledger.upload(at.claim)? else { return Ok(None) };
        let reference = UploadRef { key: &at.job().target_key, id: &upload.id };
        if upload.source_etag != head.etag || upload.source_version != head.version || upload.over != over(condition) {
            at.store.abort_upload(reference).await?;
            self.ledger.forget_upload(at.claim).await?;
            return Ok(None);
        }
        self.budget.request().await;
        let listed = match at.store.list_parts(reference).await {
            Ok(listed) => listed,
            Err(fault) if fault.kind == FaultKind::Gone => {
                self.ledger.forget_upload(at.claim).await?;
                return Ok(None);
            }
            Err(fault) => return Err(fault.into()),
        };
        let sent = self.ledger.sent_parts(at.claim)?;
        let running = running(head, mover, upload.id.clone(), upload.part_sizes.to_vec(), upload.checksum);
        let known = known_parts(&running, listed, &sent);
        tracing::info!(key = %at.job().key, upload = upload.id, parts = known.len(), of = running.sizes.len(), "resuming");
        Ok(Some((running, known)))
    }

    /// Writes an upload down, before the first part is sent.
    async fn opened<'h>(
        &self,
        at: &At<'_, W>,
        mover: Mover,
        shipment: &Shipment<'h>,
        (sizes, open): (&[u64], OpenUpload),
    ) -> Result<Running<'h>, Stop> {
        let head = shipment.head;
        let upload = Upload {
            id: open.id.clone(),
            source_version: head.version.clone(),
            source_etag: head.etag.clone(),
            part_sizes: PartSizes::of(sizes),
            checksum: open.checksum,
            opened: self.now(),
            over: over(shipment.condition),
        };
        self.ledger.note_upload(at.claim, &upload).await?;
        Ok(running(head, mover, open.id, sizes.to_vec(), open.checksum))
    }

    /// The source's own kind of checksum where the parts can carry it, else CRC64NVME over the whole object. A
    /// composite one needs each part's checksum before the part is sent, so the part must fit into memory. A copy asks too,
    /// though it may compare with nothing: SeaweedFS, not asked, refers to the chunks that it has in place of reading them,
    /// and makes ETags of parts from those, which no source's ETag is composed of.
    fn checksum_to_ask(&self, head: &Head, mover: Mover, sizes: &[u64]) -> UploadChecksum {
        let usual = UploadChecksum { algorithm: Algorithm::Crc64Nvme, kind: ChecksumType::FullObject };
        let Some(stored) = &head.checksum else { return usual };
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let same_parts = head.etag.parts().is_some_and(|count| count as usize == sizes.len());
        match stored.kind {
            ChecksumType::FullObject if stored.algorithm.full_object_multipart() => {
                UploadChecksum { algorithm: stored.algorithm, kind: ChecksumType::FullObject }
            }
            ChecksumType::Composite
                if same_parts && (mover == Mover::Store || largest <= self.budget.largest_piece()) =>
            {
                UploadChecksum { algorithm: stored.algorithm, kind: ChecksumType::Composite }
            }
            ChecksumType::FullObject | ChecksumType::Composite => usual,
        }
    }

    /// Sends every part that is not there yet. On a fault, or when the engine stops, parts under way are finished and
    /// written down first: they need not be sent again.
    async fn send_all(
        self: &Arc<Self>,
        at: &At<'_, W>,
        running: &Running<'_>,
        mut done: BTreeMap<u32, Done>,
    ) -> Result<BTreeMap<u32, Done>, Stop> {
        let ranges: Vec<(u32, (u64, u64))> = (1_u32..).zip(parts::ranges(&running.sizes)).collect();
        let failed = AtomicBool::new(false);
        let stopping = || failed.load(Ordering::Relaxed) || self.phase() != Phase::Run;
        let todo = ranges.into_iter().filter(|(number, _)| !done.contains_key(number)).collect::<Vec<_>>();
        let sends = stream::iter(todo)
            .take_while(|_| std::future::ready(!stopping()))
            .map(|(number, range)| async move {
                let _turn = self.budget.turn(running.mover, &running.own).await.ok_or_else(engine_stopped)?;
                if stopping() { Ok(None) } else { self.send(at, running, number, range).await.map(Some) }
            })
            .buffer_unordered(PARTS_AT_ONCE);
        let mut sends = std::pin::pin!(sends);
        let mut first_fault = None;
        while let Some(sent) = sends.next().await {
            match sent {
                Ok(None) => {}
                Ok(Some((part, hashed))) => {
                    done.insert(part.number, (part, hashed));
                }
                Err(fault) => {
                    failed.store(true, Ordering::Relaxed);
                    first_fault = first_fault.or(Some(fault));
                }
            }
        }
        if let Some(fault) = first_fault {
            return Err(fault.into());
        }
        if done.len() < running.sizes.len() { Err(Stop::Interrupted) } else { Ok(done) }
    }

    async fn send(&self, at: &At<'_, W>, running: &Running<'_>, number: u32, range: (u64, u64)) -> Result<Done, Fault> {
        let (part, hashed) = match running.mover {
            Mover::Store => self.copy_one(at, running, number, range).await?,
            Mover::Worker => {
                let (part, hashed) = self.stream_one(at, running, number, range).await?;
                (part, Some(hashed))
            }
        };
        fail::pass(Point::AfterPart);
        // What the store has copied, and nothing is compared with, its own list of parts tells as well.
        let kept = running.mover == Mover::Worker || running.head.checksum.is_some();
        if let Some(hashed) = hashed.as_ref().filter(|_| kept) {
            let sent = SentPart {
                number,
                etag: part.etag.clone(),
                size: hashed.length(),
                checksum: hashed.checksum().value,
                md5: hashed.md5_base64(),
            };
            self.ledger.note_part(at.claim, &sent).await?;
        }
        Ok((part, hashed))
    }

    async fn stream_one(
        &self,
        at: &At<'_, W>,
        running: &Running<'_>,
        number: u32,
        range: (u64, u64),
    ) -> Result<(Part, Hashed), Fault> {
        let length = range.1.saturating_sub(range.0) + 1;
        let composite = running.checksum.is_some_and(|checksum| checksum.kind == ChecksumType::Composite);
        let keeps = running.checksum.is_some_and(|checksum| checksum.algorithm == running.algorithm);
        let digest = self.wants_digests(at, running.head);
        let fits = if digest { keeps && length <= self.budget.largest_piece() } else { length <= PIPE };
        let whole = composite || fits;
        let piece = if whole { length } else { PIPE };
        let _memory = self.budget.memory_for_large(piece).await.ok_or_else(engine_stopped)?;
        let md5 = if digest && !whole {
            // Nobody has told the digest of a part, and it is too large to be kept: it is read twice.
            let body = self.read_part(at, running, range).await?;
            self.hash(body, running.algorithm, length).await?.md5_base64()
        } else {
            None
        };
        let body = self.read_part(at, running, range).await?;
        let upload = UploadRef { key: &at.job().target_key, id: &running.id };
        let whose = self.whose_md5(at, running);
        let expected = match whose {
            Md5::Computed => Expected::part_with_md5(running.algorithm),
            Md5::Unwanted | Md5::Told | Md5::Awaited => Expected::part(running.algorithm),
        };
        self.budget.request().await;
        let (part, hashed) = if whole {
            let (bytes, hashed) = self.collect(body, &expected, length).await?;
            let checksum = keeps.then(|| hashed.checksum());
            (at.store.upload_part(upload, number, Payload::Whole(bytes), checksum.as_ref()).await?, hashed)
        } else {
            let (stream, hashed) = self.tap(body, &expected, length);
            let bare = md5.is_none();
            let sent = at.store.upload_part(upload, number, Payload::Piped { stream, length, md5 }, None).await;
            match (sent, hashed.await) {
                (Ok(part), Ok(Ok(hashed))) => (part, hashed),
                (_, Ok(Err(fault))) => return Err(fault),
                (Err(fault), _) if bare => return Err(self.without_digest(at, fault)),
                (Err(fault), _) => return Err(fault),
                (Ok(_), Err(_)) => return Err(disagrees(number)),
            }
        };
        let stored =
            part.checksum.as_ref().filter(|_| running.checksum.is_some_and(|c| c.algorithm == running.algorithm));
        if stored.is_some_and(|stored| *stored != hashed.checksum().value) {
            return Err(disagrees(number));
        }
        Ok(self.learn_md5(at, whose, (part, hashed)))
    }

    async fn read_part(&self, at: &At<'_, W>, running: &Running<'_>, range: (u64, u64)) -> Result<ByteStream, Fault> {
        self.budget.request().await;
        let read =
            Read { pick: self.pinned(at, running.head), range: Some(range), if_match: Some(running.head.etag.clone()) };
        match self.world.source().get(&at.job().key, read).await? {
            Fetched::Object(got) => Ok(got.body),
            Fetched::DeleteMarker | Fetched::Missing => Err(source_gone()),
        }
    }

    async fn copy_one(
        &self,
        at: &At<'_, W>,
        running: &Running<'_>,
        number: u32,
        range: (u64, u64),
    ) -> Result<Done, Fault> {
        let upload = UploadRef { key: &at.job().target_key, id: &running.id };
        let source = self.copy_source(at, running.head);
        let range_to_send = (running.head.size > RANGE_COPIED_ABOVE).then_some(range);
        self.budget.request().await;
        let length = range.1.saturating_sub(range.0) + 1;
        copied(at, running.head, length);
        let part = at.store.copy_part(upload, number, &source, range_to_send).await?;
        let hashed = part.checksum.as_ref().and_then(|text| Hashed::recalled(running.algorithm, text, length));
        Ok((part, hashed))
    }

    async fn complete(
        &self,
        at: &At<'_, W>,
        running: &Running<'_>,
        done: &BTreeMap<u32, Done>,
        (checksum, condition): (Option<Checksum>, &Condition),
    ) -> Result<Completed, Stop> {
        let parts = done.values().map(|(part, hashed)| filled(running, part, hashed.as_ref())).collect();
        let (size, sent, condition) = (running.head.size, running.checksum, condition.clone());
        let completion = Completion { parts, size, checksum, sent, condition };
        self.budget.request().await;
        let upload = UploadRef { key: &at.job().target_key, id: &running.id };
        fail::pass(Point::BeforeComplete);
        match at.store.complete_upload(upload, &completion).await {
            Ok(written) => {
                fail::pass(Point::AfterComplete);
                Ok(Completed::Written(written))
            }
            Err(fault) if fault.kind == FaultKind::Raced => {
                // The key has moved on, so this upload's initiation lies in the wrong place of the order now.
                at.store.abort_upload(upload).await?;
                self.ledger.forget_upload(at.claim).await?;
                Ok(Completed::Carried(Carried::Raced))
            }
            Err(fault) if fault.kind == FaultKind::Gone => {
                self.upload_gone(at, running.head, fault).await.map(Completed::Carried)
            }
            // It may have happened all the same: the next attempt finds the upload gone and looks.
            Err(fault) if matches!(fault.kind, FaultKind::Transient | FaultKind::Throttled) => Err(fault.into()),
            Err(fault) => Err(self.give_up(at, running, fault).await),
        }
    }

    /// What is left of an upload when looking at its bytes again has failed, or has shown that they are others.
    async fn unlike(&self, at: &At<'_, W>, running: &Running<'_>, fault: Fault) -> Stop {
        if fault.kind == FaultKind::Corrupt { self.give_up(at, running, fault).await } else { fault.into() }
    }

    /// Ends an upload that cannot become right.
    async fn give_up(&self, at: &At<'_, W>, running: &Running<'_>, fault: Fault) -> Stop {
        let upload = UploadRef { key: &at.job().target_key, id: &running.id };
        // The abort may fail too: the upload then stays in the ledger, and the next attempt aborts it.
        let aborted = match at.store.abort_upload(upload).await {
            Ok(()) => self.ledger.forget_upload(at.claim).await,
            Err(also) => Err(also),
        };
        if let Err(also) = aborted {
            tracing::warn!(key = %at.job().key, %also, "the upload could not be ended yet");
        }
        fault.into()
    }

    /// There is no such upload: either it was completed and the answer was lost, or it is really gone. Looking tells.
    async fn upload_gone(&self, at: &At<'_, W>, head: &Head, fault: Fault) -> Result<Carried, Stop> {
        self.budget.request().await;
        let found = at.store.head(&at.job().target_key, &Pick::Current).await?;
        self.ledger.forget_upload(at.claim).await?;
        if let Found::Object(found) = found
            && Stamp::read(&found.attributes.metadata)
                .is_some_and(|stamp| stamp.names(&head.version, &head.etag, head.modified))
            && decide::same_bytes(head, &found) != Some(false)
        {
            return Ok(Carried::Examine);
        }
        let detail = format!("the upload was ended by somebody else ({fault}): it starts again");
        Err(Fault::new(FaultKind::Transient, Side::Target, "finish the upload", detail).into())
    }

    /// Some stores lose the tags of multipart uploads: look, and put them back.
    async fn restore_tags(&self, at: &At<'_, W>, tags: &Tags, pick: &Pick) -> Result<(), Stop> {
        if tags.is_empty() {
            return Ok(());
        }
        self.budget.request().await;
        if at.store.tags(&at.job().target_key, pick).await? != *tags {
            self.budget.request().await;
            at.store.put_tags(&at.job().target_key, pick, tags).await?;
        }
        Ok(())
    }

    /// The same for retention and legal hold: an object that only looks protected is worse than a request more.
    async fn restore_lock(&self, at: &At<'_, W>, lock: &Lock, pick: &Pick) -> Result<(), Stop> {
        if lock.is_none() {
            return Ok(());
        }
        self.budget.request().await;
        let Found::Object(found) = at.store.head(&at.job().target_key, pick).await? else { return Ok(()) };
        let change = lock_change(lock, &found.attributes.lock, self.now());
        if change != Lock::default() {
            self.budget.request().await;
            at.store.put_lock(&at.job().target_key, pick, &change).await?;
        }
        Ok(())
    }
}

enum Completed {
    Written(Written),
    Carried(Carried),
}

fn running(head: &Head, mover: Mover, id: String, sizes: Vec<u64>, checksum: Option<UploadChecksum>) -> Running<'_> {
    let same_parts = head.etag.parts().is_some_and(|count| count as usize == sizes.len());
    let composed = head.checksum.as_ref().filter(|stored| stored.kind == ChecksumType::Composite && same_parts);
    let stored = head.checksum.as_ref().filter(|stored| stored.kind == ChecksumType::FullObject).or(composed);
    // Hash with what can be compared with the source; where the source has nothing, with what the store keeps.
    let algorithm = stored
        .map(|stored| stored.algorithm)
        .filter(|algorithm| algorithm.full_object_multipart() || composed.is_some())
        .or(checksum.map(|checksum| checksum.algorithm))
        .unwrap_or(Algorithm::Crc64Nvme);
    let md5 = stored.is_none() && same_parts && decide::plain(&head.encryption) && mover == Mover::Worker;
    let (asking, own) = (AtomicBool::new(false), Semaphore::new(1));
    Running { head, id, sizes, checksum, algorithm, md5, asking, own, mover }
}

/// The parts of an earlier run whose hashes are known and that the store still holds as they were sent.
fn known_parts(running: &Running<'_>, listed: Vec<Part>, sent: &[SentPart]) -> BTreeMap<u32, Done> {
    let told = running.checksum.is_some_and(|checksum| checksum.algorithm == running.algorithm);
    let mut known = BTreeMap::new();
    for part in listed {
        let Some(size) = (part.number as usize).checked_sub(1).and_then(|place| running.sizes.get(place)) else {
            continue;
        };
        if part.size != *size {
            continue;
        }
        let ours = sent.iter().find(|sent| sent.number == part.number && sent.etag == part.etag);
        let text = ours.map(|sent| &sent.checksum).or(part.checksum.as_ref().filter(|_| told));
        let hashed = text.and_then(|text| Hashed::recalled(running.algorithm, text, *size));
        let hashed = hashed.map(|hashed| hashed.with_md5(ours.and_then(|sent| sent.md5.as_deref())));
        let usable = match running.mover {
            // The store copied it from the pinned version: it is right whether its hash is told or not.
            Mover::Store => true,
            // Whose MD5 was left open then has it from the target, or is read once more (`with_md5s`).
            Mover::Worker => hashed.is_some(),
        };
        if usable {
            known.insert(part.number, (part, hashed));
        }
    }
    known
}

struct Whole {
    verdict: Verdict,
    /// For the store to check before the object becomes visible.
    checksum: Option<Checksum>,
    etag: EtagAgrees,
}

/// Whether the parts' MD5s compose the source's ETag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EtagAgrees {
    /// They do, or something better was compared, or there is nothing to compare.
    Yes,
    No,
}

/// Whether the parts come to what the source stores: an `Err` before anything is visible.
fn verified(running: &Running<'_>, done: &BTreeMap<u32, Done>) -> Result<Whole, Fault> {
    let hashes: Option<Vec<Hashed>> = done.values().map(|(_, hashed)| hashed.clone()).collect();
    let unknown = Verdict::Unprovable("the source stores no checksum that parts can be compared with");
    let keeps = |checksum: &Checksum| {
        running.checksum == Some(UploadChecksum { algorithm: checksum.algorithm, kind: checksum.kind })
    };
    let Some(hashes) = hashes else {
        let checksum =
            running.head.checksum.clone().filter(|stored| stored.kind == ChecksumType::FullObject && keeps(stored));
        return Ok(Whole { verdict: unknown, checksum, etag: EtagAgrees::Yes });
    };
    let full = digest::combined(&hashes);
    let composite = digest::composite(&hashes);
    let stored = running.head.checksum.as_ref();
    let alike = |ours: &&Checksum| stored.is_some_and(|it| it.algorithm == ours.algorithm && it.kind == ours.kind);
    let ours = [&full, &composite].into_iter().flatten().find(alike);
    let mut etag_agrees = EtagAgrees::Yes;
    let verdict = match (stored, ours) {
        (Some(stored), Some(ours)) if stored == ours => Verdict::Exact(Means::Checksum),
        (Some(_), Some(_)) => return Err(mismatch("checksum")),
        (Some(_), None) | (None, _) if running.md5 => match digest::composed_etag(&hashes) {
            Some(etag) if etag == running.head.etag.as_str() => Verdict::Exact(Means::Parts),
            // `None`: a part's ETag was told in place of its MD5, and is none.
            Some(_) | None => {
                etag_agrees = EtagAgrees::No;
                unknown
            }
        },
        (Some(_), None) | (None, _) => unknown,
    };
    Ok(Whole { verdict, checksum: full.filter(keeps), etag: etag_agrees })
}

/// A part as `CompleteMultipartUpload` wants it: a composite upload lists every part's checksum.
fn filled(running: &Running<'_>, part: &Part, hashed: Option<&Hashed>) -> Part {
    let ours = hashed.filter(|_| running.checksum.is_some_and(|checksum| checksum.algorithm == running.algorithm));
    let checksum = part.checksum.clone().or(ours.map(|hashed| hashed.checksum().value));
    Part { checksum, ..part.clone() }
}

fn over(condition: &Condition) -> Option<crate::model::object::ETag> {
    match condition {
        Condition::Matches(etag) => Some(etag.clone()),
        Condition::Absent | Condition::Any => None,
    }
}

fn mismatch(what: &str) -> Fault {
    let detail = format!("the parts' {what} does not come to the one that the source stores");
    Fault::new(FaultKind::Corrupt, Side::Source, "read the object in parts", detail)
}

fn disagrees(number: u32) -> Fault {
    let detail = format!("the store's checksum of part {number} is not that of the bytes sent");
    Fault::new(FaultKind::Corrupt, Side::Target, "send a part", detail)
}

fn source_gone() -> Fault {
    let detail = "the version was deleted while it was read";
    Fault::new(FaultKind::Gone, Side::Source, "read a part", detail)
}

fn engine_stopped() -> Fault {
    Fault::new(FaultKind::Transient, Side::Local, "wait for memory", "the engine is stopping")
}
