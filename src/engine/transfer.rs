//! Carrying one object version: what is read, how it is checked, how it is written (P5, P6, P7).
//!
//! Bytes are checked before they become visible: a small object is hashed in memory before its PUT; a piped one keeps
//! its last piece back until the hash over all of it agrees, so that a wrong body ends as a broken request.

use std::sync::Arc;

use crate::fail::{self, Point};
use crate::ledger::Replica;
use crate::meter;
use crate::model::digest::{Algorithm, Means};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::job::Origin;
use crate::model::object::{Encryption, Found, Head, Tags, VersionId, Versioning};
use crate::model::stamp::Stamp;
use crate::model::usage::STANDARD;
use crate::plan::decide::{self, Overwriting, Reading};
use crate::plan::parts::{self, Layout, SourceLayout, WORTH_COPYING};
use crate::ports::{
    Condition, CopySource, Fetched, Got, NewObject, ObjectStore, Payload, Pick, Read, Sealing, World, Written,
};

use super::budget::{Memory, Mover, PIPE};
use super::receipts::Brought;
use super::replicate::{At, Stop};
use super::ruling::Bringing;
use super::verify::{Expected, Verdict, by_etag, check_sealing, unread};
use super::{Checksums, Mode, Proven, ServerSide, Shared};

/// A version that is visible at the target.
#[derive(Debug)]
pub(super) struct Landed {
    /// The source version.
    pub(super) head: Head,
    /// The store's answer.
    pub(super) written: Written,
    pub(super) verdict: Verdict,
    /// Whether the replica carries the stamp.
    pub(super) stamped: bool,
}

impl Landed {
    /// What the ledger keeps of a replica that carries no stamp.
    pub(super) fn replica(&self) -> Option<Replica> {
        (!self.stamped).then(|| Replica {
            source_version: self.head.version.clone(),
            source_etag: self.head.etag.clone(),
            modified: self.head.modified,
            target_version: self.written.version.clone(),
            target_etag: self.written.etag.clone(),
        })
    }
}

/// What came of carrying a version.
#[derive(Debug)]
pub(super) enum Carried {
    /// It is visible at the target.
    Landed(Box<Landed>),
    /// The target has it already.
    AlreadyEqual(Box<Brought>),
    /// Its place in the order is not certain.
    Examine,
    /// The target is not in the state that the condition asks for.
    Raced,
    /// The source has a delete marker there.
    DeleteMarker,
    /// The source has nothing there.
    Missing,
    /// It is not to be replicated: why.
    NotReplicated(String),
}

/// Whether what is read must still be judged against what was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judging {
    /// Yes.
    ByMemory,
    /// No: both sides were looked at just now.
    AsTold,
}

impl<W: World> Shared<W> {
    /// Reads a version and writes it under a condition.
    pub(super) async fn carry(
        self: &Arc<Self>,
        at: &At<'_, W>,
        pick: &Pick,
        condition: &Condition,
        judging: Judging,
    ) -> Result<Carried, Stop> {
        let pick = self.named(at, pick);
        if self.begins_with_get(at) {
            let _memory = self.memory(at.job().size).await?;
            self.budget.request().await;
            let read = Read { pick: pick.clone(), range: None, if_match: None };
            let got = match self.world.source().get(&at.job().key, read).await? {
                Fetched::Object(got) => *got,
                Fetched::DeleteMarker => return Ok(Carried::DeleteMarker),
                Fetched::Missing => return Ok(Carried::Missing),
            };
            if let Some(verdict) = self.gate(at, &pick, &got.head, judging) {
                return Ok(verdict);
            }
            let bringing = self.bringing(at, &got.head).await?;
            let at = match &bringing {
                Bringing::AsTheJob => at,
                Bringing::AsItself(itself) => itself,
                Bringing::Not(reason) => return Ok(Carried::NotReplicated(reason.clone())),
            };
            if pipes(&got.head) && !self.hashes_first(at, &got.head) {
                if judging == Judging::ByMemory
                    && holds_twice(at, &got.head, condition)
                    && let Some(verdict) = self.look_first(at, &got.head, condition).await?
                {
                    return Ok(verdict);
                }
                self.key_usable(at, &got.head).await?;
                let tags = self.tags_of(at, &got.head, Some(0)).await?;
                return self.put(at, got, (tags, None), condition).await;
            }
            // Larger than the event said, made of parts, or to be read twice: its body is dropped here, unread.
        }
        // Apart: the lane of every small object would have to have room for all that a large one needs.
        Box::pin(self.carry_large(at, &pick, condition, judging)).await
    }

    async fn carry_large(
        self: &Arc<Self>,
        at: &At<'_, W>,
        pick: &Pick,
        condition: &Condition,
        judging: Judging,
    ) -> Result<Carried, Stop> {
        let key = &at.job().key;
        self.budget.request().await;
        let head = match self.world.source().head(key, pick).await? {
            Found::Object(head) => *head,
            Found::DeleteMarker => return Ok(Carried::DeleteMarker),
            Found::Missing => return Ok(Carried::Missing),
        };
        if let Some(verdict) = self.gate(at, pick, &head, judging) {
            return Ok(verdict);
        }
        let bringing = self.bringing(at, &head).await?;
        let at = match &bringing {
            Bringing::AsTheJob => at,
            Bringing::AsItself(itself) => itself,
            Bringing::Not(reason) => return Ok(Carried::NotReplicated(reason.clone())),
        };
        self.key_usable(at, &head).await?;
        // Bytes this many are worth one look beforehand: a condition that fails only at the end costs all of them.
        if judging == Judging::ByMemory
            && let Some(verdict) = self.look_first(at, &head, condition).await?
        {
            return Ok(verdict);
        }
        let tags = self.tags_of(at, &head, None).await?;
        let source = self.source_layout(at, &head).await?;
        let shipment = Shipment { head: &head, tags, condition };
        if self.copies_server_side(at, &head) {
            match self.copy(at, &shipment, &parts::copied(head.size, &source)).await {
                Ok(carried) => {
                    self.prove(&at.job().target, Proven::Works);
                    return Ok(carried);
                }
                Err(Stop::Fault(fault)) if self.may_stream_instead(at, &fault) => {
                    tracing::info!(target = %at.job().target, %fault, "server-side copy does not work here: streaming");
                    self.prove(&at.job().target, Proven::Fails);
                }
                Err(stop) => return Err(stop),
            }
        }
        match parts::layout(head.size, &source) {
            Layout::Single => self.pipe(at, shipment).await,
            Layout::Parts(sizes) => self.in_parts(at, Mover::Worker, &shipment, &sizes).await,
            Layout::TooLarge => Err(too_large(&head).into()),
        }
    }

    /// A version is named by its id only to a bucket that has ids.
    fn named(&self, at: &At<'_, W>, pick: &Pick) -> Pick {
        if at.source_versioning == Versioning::Off { Pick::Current } else { pick.clone() }
    }

    fn begins_with_get(&self, at: &At<'_, W>) -> bool {
        let job = at.job();
        self.settings.mode != Mode::ServerSide
            && job.size.is_none_or(|size| size < WORTH_COPYING)
            && job.etag.as_ref().is_none_or(|etag| etag.parts().is_none())
    }

    async fn memory(&self, size: Option<u64>) -> Result<Memory, Fault> {
        self.budget.memory(size.unwrap_or(PIPE).min(PIPE)).await.ok_or_else(stopped)
    }

    /// Everything that keeps a version from being written, told from its headers.
    fn gate(&self, at: &At<'_, W>, pick: &Pick, head: &Head, judging: Judging) -> Option<Carried> {
        if decide::is_echo(head, &at.target.bucket, at.job().origin) {
            let reason = format!("it is itself a replica of an object in {:?}, made by repl", at.target.bucket);
            return Some(Carried::NotReplicated(reason));
        }
        match judging {
            Judging::AsTold => None,
            Judging::ByMemory => match decide::judge(at.job(), at.history, pick, head, at.applied.as_ref()) {
                Reading::Write => None,
                Reading::AlreadyEqual => {
                    let known = at.applied.as_ref().map(|applied| Brought::remembered(applied, None).read(head));
                    known.map(|known| Carried::AlreadyEqual(Box::new(known)))
                }
                Reading::Examine => Some(Carried::Examine),
            },
        }
    }

    async fn look_first(&self, at: &At<'_, W>, head: &Head, condition: &Condition) -> Result<Option<Carried>, Stop> {
        self.budget.request().await;
        let mut target = at.store.head(&at.job().target_key, &Pick::Current).await?;
        if let Found::Object(found) = &mut target {
            super::replicate::recall_stamp(self, &at.job().target, at.job(), found)?;
        }
        Ok(match (&target, condition) {
            (Found::Object(found), _)
                if Stamp::read(&found.attributes.metadata)
                    .is_some_and(|stamp| stamp.names(&head.version, &head.etag, head.modified))
                    && decide::same_bytes(head, found) != Some(false) =>
            {
                Some(Carried::AlreadyEqual(Box::new(Brought::found(head, found, shown(head, found)))))
            }
            (Found::Object(found), Condition::Matches(etag)) if found.etag == *etag && as_left(at, found) => None,
            (Found::Object(_), Condition::Any)
            | (Found::DeleteMarker | Found::Missing, Condition::Absent | Condition::Any) => None,
            (Found::Object(_), _) | (Found::DeleteMarker | Found::Missing, Condition::Matches(_)) => {
                Some(Carried::Raced)
            }
        })
    }

    /// The tags of a version: asked for only where there may be some. `untold` is what a missing count means.
    async fn tags_of(&self, at: &At<'_, W>, head: &Head, untold: Option<u32>) -> Result<Tags, Fault> {
        if let Some(tags) = at.tags.as_ref().and_then(|known| known.of(head)) {
            return Ok(tags.clone());
        }
        if head.tag_count.or(untold) == Some(0) {
            return Ok(Tags::new());
        }
        self.read_tags(at, head).await
    }

    /// The tags of a version, as the source has them now.
    pub(super) async fn read_tags(&self, at: &At<'_, W>, head: &Head) -> Result<Tags, Fault> {
        self.budget.request().await;
        match Box::pin(self.world.source().tags(&at.job().key, &self.pinned(at, head))).await {
            Err(fault) if fault.kind == FaultKind::Gone => Err(Box::pin(self.without_tags(at, head, fault)).await?),
            tags => tags,
        }
    }

    /// The store has no tags of a version that it has just shown: either the version was deleted since, or the store
    /// contradicts itself. Then it is parked: brought without its tags it would not be equal (P6).
    async fn without_tags(&self, at: &At<'_, W>, head: &Head, fault: Fault) -> Result<Fault, Fault> {
        self.budget.request().await;
        match self.world.source().head(&at.job().key, &self.pinned(at, head)).await? {
            // Without versions another object may have been put there since.
            Found::Object(now) if now.etag == head.etag && now.modified == head.modified => {
                let detail = format!("the version is there but its tags are not to be had: {}", fault.detail);
                Ok(Fault { kind: FaultKind::Refused, detail, ..fault })
            }
            Found::Object(_) | Found::DeleteMarker | Found::Missing => Ok(fault),
        }
    }

    /// Names exactly the version whose headers were seen.
    pub(super) fn pinned(&self, at: &At<'_, W>, head: &Head) -> Pick {
        self.named(at, &Pick::Version(head.version.clone()))
    }

    async fn source_layout(&self, at: &At<'_, W>, head: &Head) -> Result<SourceLayout, Fault> {
        if head.etag.parts().is_none() {
            return Ok(SourceLayout::Single { comparable: stays_comparable(at, head) });
        }
        self.budget.request().await;
        let told = self.world.source().part_sizes(&at.job().key, head).await?;
        Ok(told.map_or(SourceLayout::UntoldParts, SourceLayout::Parts))
    }

    fn copies_server_side(&self, at: &At<'_, W>, head: &Head) -> bool {
        match self.settings.mode {
            Mode::Stream => false,
            Mode::ServerSide => true,
            Mode::Auto => {
                at.target.server_side == ServerSide::Possible
                    && head.size >= WORTH_COPYING
                    && self.proven(&at.job().target) != Some(Proven::Fails)
            }
        }
    }

    /// Whether a refused server-side copy says something about the way and not about the object.
    fn may_stream_instead(&self, at: &At<'_, W>, fault: &Fault) -> bool {
        let refused = matches!(fault.kind, FaultKind::Denied | FaultKind::Refused | FaultKind::KeyUnusable);
        refused && self.settings.mode == Mode::Auto && self.proven(&at.job().target).is_none()
    }

    /// Everything that the replica is to be but its bytes; whether it will carry the stamp.
    pub(super) fn new_object(&self, at: &At<'_, W>, head: &Head, tags: Tags) -> (NewObject, bool) {
        let mut attributes = head.attributes.clone();
        if let Some(class) = &at.rule.storage_class {
            attributes.storage_class = Some(class.clone());
        }
        if attributes.lock.retain_until.is_some_and(|until| until <= self.now()) {
            // S3 refuses a date that has passed; it protects nothing any more.
            attributes.lock.mode = None;
            attributes.lock.retain_until = None;
        }
        Stamp::strip(&mut attributes.metadata);
        let mut stamp = Stamp::of(head, &self.settings.source_bucket);
        if let Some(earlier) = Stamp::read(&head.attributes.metadata) {
            // Along a chain or ring of buckets the first origin stays, so that a ring ends where it began.
            stamp.origin = earlier.origin;
        }
        let stamped = at.rule.stamp && stamp.write(&mut attributes.metadata);
        let object = NewObject {
            key: at.job().target_key.clone(),
            attributes,
            tags,
            sealing: sealing(at, head),
            owner_full_control: at.rule.owner_full_control,
        };
        (object, stamped)
    }

    /// Writes what a GET has brought.
    async fn put(
        &self,
        at: &At<'_, W>,
        got: Got,
        (tags, md5): (Tags, Option<String>),
        condition: &Condition,
    ) -> Result<Carried, Stop> {
        let Got { head, body } = got;
        fail::pass(Point::AfterGet);
        let (object, stamped) = self.new_object(at, &head, tags);
        let expected = Expected::of(&head);
        let (written, hashed) = if head.size <= PIPE {
            let (bytes, hashed) = self.collect(body, &expected, head.size).await?;
            let checksum = hashed.checksum();
            self.budget.request().await;
            (at.store.put(&object, Payload::Whole(bytes), Some(&checksum), condition).await, hashed)
        } else {
            let (stream, hashed) = self.tap(body, &expected, head.size);
            self.budget.request().await;
            let md5 = expected.md5_base64().or(md5);
            let bare = md5.is_none() && expected.checksum.is_none();
            let payload = Payload::Piped { stream, length: head.size, md5 };
            let written = at.store.put(&object, payload, expected.checksum.as_ref(), condition).await;
            let written = written.map_err(|fault| if bare { self.without_digest(at, fault) } else { fault });
            match (written, hashed.await) {
                (written, Ok(Ok(hashed))) => (written, hashed),
                // The body's own fault says more than the broken request that it caused.
                (Err(_), Ok(Err(fault))) => return Err(fault.into()),
                (Err(fault), Err(_)) => return Box::pin(self.lost(at, &head, stamped, fault)).await,
                (Ok(_), _) => return Err(unread().into()),
            }
        };
        let written = match written {
            Ok(written) => written,
            Err(fault) => return Box::pin(self.lost(at, &head, stamped, fault)).await,
        };
        let verdict = expected.verdict(&hashed, &written)?;
        self.finish(at, head, Sent { object, written, verdict, stamped }).await
    }

    /// Reads a version from its start and pipes it into one PUT.
    async fn pipe(&self, at: &At<'_, W>, shipment: Shipment<'_>) -> Result<Carried, Stop> {
        let Shipment { head, tags, condition } = shipment;
        let _memory = self.memory(Some(head.size)).await?;
        let mut md5 = None;
        if self.hashes_first(at, head)
            && let Fetched::Object(got) = self.read_whole(at, head).await?
        {
            md5 = self.hash(got.body, Algorithm::Crc64Nvme, head.size).await?.md5_base64();
        }
        match self.read_whole(at, head).await? {
            Fetched::Object(got) => self.put(at, *got, (tags, md5), condition).await,
            Fetched::DeleteMarker => Ok(Carried::DeleteMarker),
            Fetched::Missing => Ok(Carried::Missing),
        }
    }

    async fn read_whole(&self, at: &At<'_, W>, head: &Head) -> Result<Fetched, Fault> {
        self.budget.request().await;
        let read = Read { pick: self.pinned(at, head), range: None, if_match: Some(head.etag.clone()) };
        self.world.source().get(&at.job().key, read).await
    }

    /// Whether a body that is piped must be read once beforehand, for its digest: the target wants one ahead of the
    /// bytes, and the source tells none. Keeping it in memory instead would be bounded by that.
    fn hashes_first(&self, at: &At<'_, W>, head: &Head) -> bool {
        head.size > PIPE && !Expected::of(head).is_told() && self.wants_digests(at, head)
    }

    /// Has the store copy.
    async fn copy(self: &Arc<Self>, at: &At<'_, W>, shipment: &Shipment<'_>, layout: &Layout) -> Result<Carried, Stop> {
        let head = shipment.head;
        match layout {
            Layout::Parts(sizes) => self.in_parts(at, Mover::Store, shipment, sizes).await,
            Layout::TooLarge => Err(too_large(head).into()),
            Layout::Single => {
                let (object, stamped) = self.new_object(at, head, shipment.tags.clone());
                // What the source does not tell can be compared with nothing.
                let algorithm = head.checksum.is_some().then(|| Expected::of(head).algorithm);
                self.budget.request().await;
                let source = self.copy_source(at, head);
                copied(at, head, head.size);
                match at.store.copy(&object, &source, algorithm, shipment.condition).await {
                    Ok(written) => {
                        let verdict = self.compare(at, head, &written).await?;
                        self.finish(at, head.clone(), Sent { object, written, verdict, stamped }).await
                    }
                    Err(fault) => Box::pin(self.lost(at, head, stamped, fault)).await,
                }
            }
        }
    }

    pub(super) fn copy_source(&self, at: &At<'_, W>, head: &Head) -> CopySource {
        CopySource {
            bucket: self.settings.source_bucket.clone(),
            key: at.job().key.clone(),
            version: head.version.clone(),
            etag: head.etag.clone(),
            versioned: at.source_versioning != Versioning::Off,
            owner: self.settings.source_owner.clone(),
        }
    }

    /// The last steps after a write: the key must be the right one, and the ACL follows where asked.
    pub(super) async fn finish(&self, at: &At<'_, W>, head: Head, sent: Sent) -> Result<Carried, Stop> {
        fail::pass(Point::AfterPut);
        check_sealing(&sent.object.sealing, &sent.written.encryption)?;
        let Sent { written, verdict, stamped, .. } = sent;
        let verdict = match at.target.checksums {
            Checksums::Held => verdict,
            Checksums::Ignored => by_etag(verdict, &head, &written),
        };
        let landed = Landed { head, written, verdict, stamped };
        if at.rule.acl {
            if let Some(replica) = landed.replica() {
                // The ACL may not be to be had any more, and nothing else tells what this object is.
                self.ledger.note_replicas(at.claim, &[replica]).await?;
            }
            Box::pin(self.bring_acl(at, &landed.head, &landed.written)).await?;
        }
        Ok(Carried::Landed(Box::new(landed)))
    }

    /// A write that did not succeed: it lost its condition, or failed. Where only its answer may have been lost, where
    /// nothing at the object will tell that it is ours, and where it could not be overwritten therefore, the ledger
    /// remembers what was sent: by its ETag it is known again.
    pub(super) async fn lost(&self, at: &At<'_, W>, head: &Head, stamped: bool, fault: Fault) -> Result<Carried, Stop> {
        if fault.kind == FaultKind::Raced {
            return Ok(Carried::Raced);
        }
        let may_be_there = fault.kind == FaultKind::Transient && !stamped;
        if may_be_there && at.overwriting() == Overwriting::Destroys && decide::plain(&head.encryption) {
            let sent = Replica {
                source_version: head.version.clone(),
                source_etag: head.etag.clone(),
                modified: head.modified,
                target_version: None,
                target_etag: head.etag.clone(),
            };
            self.ledger.note_replicas(at.claim, &[sent]).await?;
        }
        Err(fault.into())
    }

    async fn bring_acl(&self, at: &At<'_, W>, head: &Head, written: &Written) -> Result<(), Fault> {
        self.budget.request().await;
        let grants = self.world.source().acl(&at.job().key, &self.pinned(at, head)).await?;
        self.budget.request().await;
        let pick = match &written.version {
            Some(version) => Pick::Version(version.clone()),
            None => Pick::Current,
        };
        at.store.put_acl(&at.job().target_key, &pick, &grants).await
    }

    /// Makes a delete marker.
    pub(super) async fn mark(&self, at: &At<'_, W>, condition: &Condition) -> Result<Option<VersionId>, Fault> {
        self.budget.request().await;
        let marked = at.store.delete(&at.job().target_key, condition).await?;
        fail::pass(Point::AfterMarker);
        Ok(marked)
    }

    /// One line for what has become visible; of a scan only where details are asked for: a backfill has a line for each
    /// of its millions of objects, and writing them costs more than reading the object.
    pub(super) fn note_landed(&self, at: &At<'_, W>, landed: &Landed) {
        let job = at.job();
        let (version, bytes) = (&landed.head.version, landed.head.size);
        match job.origin {
            Origin::Event => {
                let lag_ms = self.now().since(job.changed).as_millis();
                tracing::info!(key = %job.key, %version, target = %job.target, bytes, lag_ms, "replicated");
            }
            Origin::Scan => tracing::debug!(key = %job.key, %version, target = %job.target, bytes, "replicated"),
        }
    }
}

/// One version on its way: what it is, its tags, and under which state of the target it may land.
#[derive(Debug)]
pub(super) struct Shipment<'a> {
    pub(super) head: &'a Head,
    pub(super) tags: Tags,
    pub(super) condition: &'a Condition,
}

/// What was sent, before the last checks.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) object: NewObject,
    pub(super) written: Written,
    pub(super) verdict: Verdict,
    pub(super) stamped: bool,
}

/// Counts bytes that the store moves by itself: no body tells of them.
pub(super) fn copied<W: World>(at: &At<'_, W>, head: &Head, bytes: u64) {
    meter::note(|usage| {
        usage.moves(&at.job().target, bytes);
        usage.reads(head.attributes.storage_class.as_deref().unwrap_or(STANDARD), bytes);
    });
}

/// Whether a write under this condition might be accepted twice, and leave a version too many (P2): the same bytes on top
/// of themselves, as after a change of metadata, have the ETag that the condition asks for. A source ETag made from the
/// plain bytes tells when; one that is not tells nothing, and there only what may have been sent before costs a look,
/// so that the common case stays two requests.
fn holds_twice<W: World>(at: &At<'_, W>, head: &Head, condition: &Condition) -> bool {
    match condition {
        Condition::Matches(etag) if decide::plain(&head.encryption) => head.etag == *etag,
        Condition::Matches(_) => at.claim.may_repeat(),
        Condition::Absent | Condition::Any => false,
    }
}

/// Whether what lies at the target may be the very version that was left there. Some stores name no version.
fn as_left<W: World>(at: &At<'_, W>, found: &Head) -> bool {
    let left = at.applied.as_ref().and_then(|applied| applied.target_version.as_ref());
    found.version.is_null() || left.is_none_or(|left| *left == found.version)
}

/// By what a replica that carries the source version's stamp is known: its bytes, where they can be compared.
pub(super) fn shown(source: &Head, replica: &Head) -> Means {
    if decide::same_bytes(source, replica) == Some(true) { decide::means(source, replica) } else { Means::Stamp }
}

/// Whether one GET piped into one PUT is the way: a single part of modest size.
fn pipes(head: &Head) -> bool {
    head.etag.parts().is_none() && head.size < WORTH_COPYING
}

/// Whether a replica in one part keeps something comparable that parts would lose: a plain MD5 ETag on both sides, or a
/// checksum that does not combine from parts.
fn stays_comparable<W: World>(at: &At<'_, W>, head: &Head) -> bool {
    let etags = decide::plain(&head.encryption) && sealing(at, head) == Sealing::BucketDefault;
    let whole_only = head.checksum.as_ref().is_some_and(|checksum| !checksum.algorithm.full_object_multipart());
    etags || whole_only
}

pub(super) fn sealing<W: World>(at: &At<'_, W>, head: &Head) -> Sealing {
    let source_key = match &head.encryption {
        Encryption::Kms(key) | Encryption::Dsse(key) => key.as_deref(),
        Encryption::Untold | Encryption::S3 | Encryption::Customer => None,
    };
    match (at.rule.kms_key_for(source_key), &head.encryption) {
        (None, _) => Sealing::BucketDefault,
        (Some(key), Encryption::Dsse(_)) => Sealing::Dsse(key.to_owned()),
        (Some(key), _) => Sealing::Kms(key.to_owned()),
    }
}

fn too_large(head: &Head) -> Fault {
    let detail = format!("{} bytes are more than the 48.8 TiB that S3 stores", head.size);
    Fault::new(FaultKind::Ineligible, Side::Target, "lay out the object", detail)
}

fn stopped() -> Fault {
    Fault::new(FaultKind::Transient, Side::Local, "wait for memory", "the engine is stopping")
}
