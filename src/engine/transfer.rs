//! Carrying one object version: what is read, how it is checked, how it is written (P5, P6, P7).
//!
//! Bytes are checked before they become visible: a small object is hashed in memory before its PUT; a piped one keeps
//! its last piece back until the hash over all of it agrees, so that a wrong body ends as a broken request.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use tokio::sync::oneshot;

use crate::ledger::Replica;
use crate::model::digest::{Algorithm, Checksum, ChecksumType};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Encryption, Found, Head, Tags, VersionId, Versioning};
use crate::model::stamp::Stamp;
use crate::plan::decide::{self, Reading};
use crate::plan::parts::{self, Layout, SourceLayout};
use crate::ports::{
    ByteStream, Condition, CopySource, Fetched, Got, NewObject, ObjectStore, Payload, Pick, Read, Sealing, World,
    Written,
};

use super::budget::{Budget, Memory, PIPE};
use super::digest::{Hashed, Hasher, WithMd5};
use super::multipart::Mover;
use super::replicate::{At, Stop};
use super::{Mode, Proven, ServerSide, Shared};

/// From this size on the store copies by itself where it can: below it a copy costs as many requests as a stream, and
/// the stream's bytes are verified.
const WORTH_COPYING: u64 = 16 << 20;

/// Whether equality was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Checksums or MD5s over all bytes agree.
    Exact,
    /// Nothing comparable is known: why.
    Unprovable(&'static str),
}

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
    AlreadyEqual,
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
            if pipes(&got.head) {
                self.key_usable(at, &got.head).await?;
                let tags = self.tags_of(at, &got.head, Some(0)).await?;
                return self.put(at, got, tags, condition).await;
            }
            // Larger than the event said, or made of parts: its body is dropped here, unread.
        }
        self.carry_large(at, &pick, condition, judging).await
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
        self.key_usable(at, &head).await?;
        // Bytes this many are worth one look beforehand: a condition that fails only at the end costs all of them.
        if judging == Judging::ByMemory
            && let Some(verdict) = self.look_first(at, &head, condition).await?
        {
            return Ok(verdict);
        }
        let tags = self.tags_of(at, &head, None).await?;
        let layout = self.layout(at, &head).await?;
        let shipment = Shipment { head: &head, tags, condition };
        if self.copies_server_side(at, &head) {
            match self.copy(at, &shipment, &layout).await {
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
        match layout {
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
                Reading::AlreadyEqual => Some(Carried::AlreadyEqual),
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
                Some(Carried::AlreadyEqual)
            }
            (Found::Object(found), Condition::Matches(etag)) if found.etag == *etag => None,
            (Found::Object(_), Condition::Any)
            | (Found::DeleteMarker | Found::Missing, Condition::Absent | Condition::Any) => None,
            (Found::Object(_), _) | (Found::DeleteMarker | Found::Missing, Condition::Matches(_)) => {
                Some(Carried::Raced)
            }
        })
    }

    /// The tags of a version: asked for only where there may be some. `untold` is what a missing count means.
    async fn tags_of(&self, at: &At<'_, W>, head: &Head, untold: Option<u32>) -> Result<Tags, Fault> {
        if let Some(tags) = &at.tags {
            return Ok(tags.clone());
        }
        if head.tag_count.or(untold) == Some(0) {
            return Ok(Tags::new());
        }
        self.budget.request().await;
        self.world.source().tags(&at.job().key, &self.pinned(at, head)).await
    }

    /// Names exactly the version whose headers were seen.
    pub(super) fn pinned(&self, at: &At<'_, W>, head: &Head) -> Pick {
        self.named(at, &Pick::Version(head.version.clone()))
    }

    async fn layout(&self, at: &At<'_, W>, head: &Head) -> Result<Layout, Fault> {
        let known = if head.etag.parts().is_some() {
            self.budget.request().await;
            match self.world.source().part_sizes(&at.job().key, head).await? {
                Some(sizes) => SourceLayout::Parts(sizes),
                None => SourceLayout::UntoldParts,
            }
        } else {
            SourceLayout::Single { comparable: stays_comparable(at, head) }
        };
        Ok(parts::layout(head.size, &known))
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
    async fn put(&self, at: &At<'_, W>, got: Got, tags: Tags, condition: &Condition) -> Result<Carried, Stop> {
        let Got { head, body } = got;
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
            let payload = Payload::Piped { stream, length: head.size };
            let written = at.store.put(&object, payload, expected.checksum.as_ref(), condition).await;
            match (written, hashed.await) {
                (written, Ok(Ok(hashed))) => (written, hashed),
                // The body's own fault says more than the broken request that it caused.
                (Err(_), Ok(Err(fault))) => return Err(fault.into()),
                (Err(fault), Err(_)) => return lost(fault),
                (Ok(_), _) => return Err(unread().into()),
            }
        };
        let written = match written {
            Ok(written) => written,
            Err(fault) => return lost(fault),
        };
        let verdict = expected.verdict(&hashed, &written)?;
        self.finish(at, head, Sent { object, written, verdict, stamped }).await
    }

    /// Reads a version from its start and pipes it into one PUT.
    async fn pipe(&self, at: &At<'_, W>, shipment: Shipment<'_>) -> Result<Carried, Stop> {
        let Shipment { head, tags, condition } = shipment;
        let _memory = self.memory(Some(head.size)).await?;
        self.budget.request().await;
        let read = Read { pick: self.pinned(at, head), range: None, if_match: Some(head.etag.clone()) };
        match self.world.source().get(&at.job().key, read).await? {
            Fetched::Object(got) => self.put(at, *got, tags, condition).await,
            Fetched::DeleteMarker => Ok(Carried::DeleteMarker),
            Fetched::Missing => Ok(Carried::Missing),
        }
    }

    /// Has the store copy.
    async fn copy(self: &Arc<Self>, at: &At<'_, W>, shipment: &Shipment<'_>, layout: &Layout) -> Result<Carried, Stop> {
        let head = shipment.head;
        match layout {
            Layout::Parts(sizes) => self.in_parts(at, Mover::Store, shipment, sizes).await,
            Layout::TooLarge => Err(too_large(head).into()),
            Layout::Single => {
                let (object, stamped) = self.new_object(at, head, shipment.tags.clone());
                let algorithm = Expected::of(head).algorithm;
                self.budget.request().await;
                let source = self.copy_source(at, head);
                match at.store.copy(&object, &source, Some(algorithm), shipment.condition).await {
                    Ok(written) => {
                        let verdict = self.compare(at, head, &written).await?;
                        self.finish(at, head.clone(), Sent { object, written, verdict, stamped }).await
                    }
                    Err(fault) => lost(fault),
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
        }
    }

    /// Compares what the store says it wrote with what the source holds: from the answer, else by a look.
    pub(super) async fn compare(&self, at: &At<'_, W>, head: &Head, written: &Written) -> Result<Verdict, Fault> {
        let mut replica = Head {
            version: written.version.clone().unwrap_or_else(VersionId::null),
            etag: written.etag.clone(),
            checksum: written.checksum.clone(),
            encryption: written.encryption.clone(),
            ..head.clone()
        };
        let mut same = decide::same_bytes(head, &replica);
        if same != Some(true) {
            self.budget.request().await;
            let pick = match &written.version {
                Some(version) if at.target_versioning != Versioning::Off => Pick::Version(version.clone()),
                Some(_) | None => Pick::Current,
            };
            match at.store.head(&at.job().target_key, &pick).await? {
                Found::Object(found) => replica = *found,
                Found::DeleteMarker | Found::Missing => return Err(vanished()),
            }
            same = decide::same_bytes(head, &replica);
        }
        match same {
            Some(true) => Ok(Verdict::Exact),
            Some(false) => {
                let detail =
                    format!("the copy has {} bytes and other checksums than the source's {}", replica.size, head.size);
                Err(Fault::new(FaultKind::Corrupt, Side::Target, "verify the copy", detail))
            }
            None => Ok(Verdict::Unprovable("the source stores no checksum that the copy's can be compared with")),
        }
    }

    /// The last steps after a write: the key must be the right one, and the ACL follows where asked.
    pub(super) async fn finish(&self, at: &At<'_, W>, head: Head, sent: Sent) -> Result<Carried, Stop> {
        check_sealing(&sent.object.sealing, &sent.written)?;
        if at.rule.acl {
            self.budget.request().await;
            let grants = self.world.source().acl(&at.job().key, &self.pinned(at, &head)).await?;
            self.budget.request().await;
            let pick = match &sent.written.version {
                Some(version) => Pick::Version(version.clone()),
                None => Pick::Current,
            };
            at.store.put_acl(&at.job().target_key, &pick, &grants).await?;
        }
        let Sent { written, verdict, stamped, .. } = sent;
        Ok(Carried::Landed(Box::new(Landed { head, written, verdict, stamped })))
    }

    /// Makes a delete marker.
    pub(super) async fn mark(&self, at: &At<'_, W>, condition: &Condition) -> Result<Option<VersionId>, Fault> {
        self.budget.request().await;
        at.store.delete(&at.job().target_key, condition).await
    }

    /// One line for what has become visible.
    pub(super) fn note_landed(&self, at: &At<'_, W>, landed: &Landed) {
        let job = at.job();
        let lag = self.now().since(job.changed);
        tracing::info!(key = %job.key, version = %landed.head.version, target = %job.target, bytes = landed.head.size,
            lag_ms = lag.as_millis(), "replicated");
    }

    /// Reads a small body into memory and checks it.
    pub(super) async fn collect(
        &self,
        mut body: ByteStream,
        expected: &Expected,
        size: u64,
    ) -> Result<(Bytes, Hashed), Fault> {
        let mut hasher = expected.hasher();
        let mut whole = Pieces::default();
        while let Some(piece) = body.next().await {
            let piece = piece?;
            self.budget.bandwidth(piece.len()).await;
            hasher.update(&piece);
            whole.push(piece);
        }
        let hashed = hasher.finish();
        expected.check(&hashed, size)?;
        Ok((whole.join(), hashed))
    }

    /// Lets a body pass, hashes it, and keeps its last piece back until the hash agrees. The second value tells the
    /// hash when the body has passed, or why it broke.
    pub(super) fn tap(
        &self,
        body: ByteStream,
        expected: &Expected,
        size: u64,
    ) -> (ByteStream, oneshot::Receiver<Result<Hashed, Fault>>) {
        let (told, hashed) = oneshot::channel();
        let tap = Tap {
            body,
            budget: Arc::clone(&self.budget),
            hasher: Some(expected.hasher()),
            held: None,
            told: Some(told),
            expected: expected.clone(),
            size,
        };
        let stream = futures_util::stream::unfold(tap, |mut tap| async move {
            let piece = tap.next().await?;
            Some((piece, tap))
        });
        (ByteStream::new(stream), hashed)
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

/// What the bytes of a body must come to.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// The algorithm to hash with: the source's own, so that the target keeps the same.
    pub(super) algorithm: Algorithm,
    /// The source's checksum over the whole object, where it stores one.
    pub(super) checksum: Option<Checksum>,
    /// The source's ETag, where it is an MD5 of the plain bytes and there is no checksum.
    md5: Option<String>,
}

impl Expected {
    pub(super) fn of(head: &Head) -> Self {
        let checksum = head.checksum.clone().filter(|checksum| checksum.kind == ChecksumType::FullObject);
        let comparable = decide::plain(&head.encryption) && head.etag.parts().is_none() && is_md5(head.etag.as_str());
        let md5 = (checksum.is_none() && comparable).then(|| head.etag.as_str().to_owned());
        let algorithm = checksum.as_ref().map_or(Algorithm::Crc64Nvme, |checksum| checksum.algorithm);
        Self { algorithm, checksum, md5 }
    }

    /// Of a part, of which nothing is known but its length.
    pub(super) fn part(algorithm: Algorithm) -> Self {
        Self { algorithm, checksum: None, md5: None }
    }

    /// Of a part whose MD5 is wanted to compose an ETag.
    pub(super) fn part_with_md5(algorithm: Algorithm) -> Self {
        Self { md5: Some(String::new()), ..Self::part(algorithm) }
    }

    pub(super) fn hasher(&self) -> Hasher {
        Hasher::new(self.algorithm, if self.md5.is_some() { WithMd5::Yes } else { WithMd5::No })
    }

    fn check(&self, hashed: &Hashed, size: u64) -> Result<(), Fault> {
        if hashed.length() != size {
            let detail = format!("{} bytes came where {size} were announced", hashed.length());
            return Err(Fault::new(FaultKind::Transient, Side::Source, "read the object", detail));
        }
        if self.checksum.as_ref().is_some_and(|checksum| *checksum != hashed.checksum()) {
            return Err(corrupt("the bytes that came do not have the checksum that the source stores"));
        }
        if self.md5.as_ref().is_some_and(|md5| !md5.is_empty() && hashed.md5_hex().as_ref() != Some(md5)) {
            return Err(corrupt("the bytes that came do not have the MD5 that the source's ETag tells"));
        }
        Ok(())
    }

    fn verdict(&self, hashed: &Hashed, written: &Written) -> Result<Verdict, Fault> {
        if let Some(stored) = &written.checksum
            && stored.kind == ChecksumType::FullObject
            && stored.algorithm == self.algorithm
            && *stored != hashed.checksum()
        {
            let detail = "the target stored other bytes than were sent: its checksum differs";
            return Err(Fault::new(FaultKind::Corrupt, Side::Target, "verify the replica", detail));
        }
        if self.checksum.is_some() || self.md5.is_some() {
            Ok(Verdict::Exact)
        } else {
            Ok(Verdict::Unprovable("the source stores no checksum and its ETag is not an MD5 of the bytes"))
        }
    }
}

fn corrupt(detail: &str) -> Fault {
    Fault::new(FaultKind::Corrupt, Side::Source, "read the object", detail)
}

fn is_md5(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

struct Tap {
    body: ByteStream,
    budget: Arc<Budget>,
    hasher: Option<Hasher>,
    held: Option<Bytes>,
    told: Option<oneshot::Sender<Result<Hashed, Fault>>>,
    expected: Expected,
    size: u64,
}

impl Tap {
    async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        loop {
            self.hasher.as_ref()?;
            match self.body.next().await {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    self.budget.bandwidth(piece.len()).await;
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&piece);
                    }
                    if let Some(before) = self.held.replace(piece) {
                        return Some(Ok(before));
                    }
                }
                Some(Err(fault)) => return Some(self.end(Err(fault))),
                None => {
                    let hashed = self.hasher.take()?.finish();
                    let checked = self.expected.check(&hashed, self.size).map(|()| hashed);
                    let held = self.held.take();
                    return match self.end(checked) {
                        Ok(_) => held.map(Ok),
                        Err(fault) => Some(Err(fault)),
                    };
                }
            }
        }
    }

    fn end(&mut self, result: Result<Hashed, Fault>) -> Result<Bytes, Fault> {
        self.hasher = None;
        let outcome = result.as_ref().map(|_| Bytes::new()).map_err(Fault::clone);
        if let Some(told) = self.told.take() {
            // Nobody waits any more when the write was given up.
            drop(told.send(result));
        }
        outcome
    }
}

/// Pieces of a small body; one piece, the usual case, is not copied.
#[derive(Default)]
struct Pieces {
    first: Option<Bytes>,
    rest: BytesMut,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        match &self.first {
            None => self.first = Some(piece),
            Some(first) => {
                if self.rest.is_empty() {
                    self.rest.extend_from_slice(first);
                }
                self.rest.extend_from_slice(&piece);
            }
        }
    }

    fn join(self) -> Bytes {
        if self.rest.is_empty() { self.first.unwrap_or_default() } else { self.rest.freeze() }
    }
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

/// P7: what the store says it used must be what the rule says.
fn check_sealing(asked: &Sealing, written: &Written) -> Result<(), Fault> {
    let right = match (asked, &written.encryption) {
        (Sealing::BucketDefault, _) => true,
        (Sealing::Kms(asked), Encryption::Kms(Some(used))) | (Sealing::Dsse(asked), Encryption::Dsse(Some(used))) => {
            asked == used || asked.ends_with(&format!("/{used}"))
        }
        (Sealing::Kms(_) | Sealing::Dsse(_), _) => false,
    };
    if right {
        return Ok(());
    }
    let detail = format!(
        "asked for {asked:?}, the store answered {:?}: check the bucket's encryption settings",
        written.encryption
    );
    Err(Fault::new(FaultKind::KeyUnusable, Side::Target, "encrypt under the rule's key", detail))
}

/// A write that did not succeed: lost its condition, or failed.
pub(super) fn lost(fault: Fault) -> Result<Carried, Stop> {
    if fault.kind == FaultKind::Raced { Ok(Carried::Raced) } else { Err(fault.into()) }
}

fn too_large(head: &Head) -> Fault {
    let detail = format!("{} bytes are more than the 48.8 TiB that S3 stores", head.size);
    Fault::new(FaultKind::Ineligible, Side::Target, "lay out the object", detail)
}

fn unread() -> Fault {
    let detail = "the target says it stored the object before all of it was sent";
    Fault::new(FaultKind::Corrupt, Side::Target, "write the object", detail)
}

pub(super) fn vanished() -> Fault {
    let detail = "the replica cannot be found right after it was written";
    Fault::new(FaultKind::Transient, Side::Target, "look at the replica", detail)
}

fn stopped() -> Fault {
    Fault::new(FaultKind::Transient, Side::Local, "wait for memory", "the engine is stopping")
}
