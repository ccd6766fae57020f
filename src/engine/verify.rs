//! What proves that bytes are right (P5), and that they lie under the right key (P7).
//!
//! A body is hashed as it passes; its last piece is kept back until the hash over all of it agrees.

use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::model::digest::{Algorithm, Checksum, ChecksumType, Means};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Encryption, Found, Head, VersionId, Versioning};
use crate::plan::decide;
use crate::ports::{ByteStream, ObjectStore, Pick, Sealing, World, Written};

use super::Shared;
use super::budget::Budget;
use super::digest::{self, Hashed, Hasher, WithMd5};
use super::replicate::At;

/// Whether equality was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Checksums or MD5s over all bytes agree.
    Exact(Means),
    /// Nothing comparable is known: why.
    Unprovable(&'static str),
}

impl<W: World> Shared<W> {
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
            Some(true) => Ok(Verdict::Exact(decide::means(head, &replica))),
            Some(false) => {
                let detail =
                    format!("the copy has {} bytes and other checksums than the source's {}", replica.size, head.size);
                Err(Fault::new(FaultKind::Corrupt, Side::Target, "verify the copy", detail))
            }
            None => Ok(Verdict::Unprovable("the source stores no checksum that the copy's can be compared with")),
        }
    }

    /// Reads a small body into memory and checks it.
    pub(super) async fn collect(
        &self,
        mut body: ByteStream,
        expected: &Expected,
        size: u64,
    ) -> Result<(Bytes, Hashed), Fault> {
        let mut hasher = expected.hasher();
        let mut whole = Pieces { length: usize::try_from(size).unwrap_or_default(), ..Pieces::default() };
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

    /// Reads a body for nothing but its hashes, MD5 among them.
    pub(super) async fn hash(&self, body: ByteStream, algorithm: Algorithm, size: u64) -> Result<Hashed, Fault> {
        let (mut stream, hashed) = self.tap(body, &Expected::part_with_md5(algorithm), size);
        while let Some(piece) = stream.next().await {
            piece?;
        }
        hashed.await.map_err(|_| unread())?
    }

    /// Whether the target takes bytes only with a digest sent ahead of them: S3 does so of what comes under Object Lock
    /// (aws-semantics 4.2), and of everything where the bucket has a default retention, which only its refusal tells.
    pub(super) fn wants_digests(&self, at: &At<'_, W>, head: &Head) -> bool {
        let told = || self.digests.lock().unwrap_or_else(PoisonError::into_inner).contains(&at.job().target);
        !head.attributes.lock.is_none() || told()
    }

    /// What a refusal of bytes without a digest may mean: the first time, that they are to be sent again with one.
    pub(super) fn without_digest(&self, at: &At<'_, W>, fault: Fault) -> Fault {
        let about_the_request = fault.kind == FaultKind::Refused && fault.code.as_deref() == Some("InvalidRequest");
        if !about_the_request
            || !self.digests.lock().unwrap_or_else(PoisonError::into_inner).insert(at.job().target.clone())
        {
            return fault;
        }
        let detail = format!("{}: from now on it is sent digests of the bytes", fault.detail);
        Fault { kind: FaultKind::Transient, detail, ..fault }
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

    /// Whether the source tells a digest of all bytes.
    pub(super) fn is_told(&self) -> bool {
        self.checksum.is_some() || self.md5.is_some()
    }

    /// Of a part, of which nothing is known but its length.
    pub(super) fn part(algorithm: Algorithm) -> Self {
        Self { algorithm, checksum: None, md5: None }
    }

    /// Of a part whose MD5 is wanted to compose an ETag.
    pub(super) fn part_with_md5(algorithm: Algorithm) -> Self {
        Self { md5: Some(String::new()), ..Self::part(algorithm) }
    }

    /// The MD5 that the bytes must have, as a request spells it, where the source's ETag tells it.
    pub(super) fn md5_base64(&self) -> Option<String> {
        self.md5.as_deref().and_then(digest::base64_of_hex)
    }

    pub(super) fn hasher(&self) -> Hasher {
        Hasher::new(self.algorithm, if self.md5.is_some() { WithMd5::Yes } else { WithMd5::No })
    }

    pub(super) fn check(&self, hashed: &Hashed, size: u64) -> Result<(), Fault> {
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

    pub(super) fn verdict(&self, hashed: &Hashed, written: &Written) -> Result<Verdict, Fault> {
        if let Some(stored) = &written.checksum
            && stored.kind == ChecksumType::FullObject
            && stored.algorithm == self.algorithm
            && *stored != hashed.checksum()
        {
            let detail = "the target stored other bytes than were sent: its checksum differs";
            return Err(Fault::new(FaultKind::Corrupt, Side::Target, "verify the replica", detail));
        }
        if self.checksum.is_some() {
            Ok(Verdict::Exact(Means::Checksum))
        } else if self.md5.is_some() {
            Ok(Verdict::Exact(Means::Md5))
        } else {
            Ok(Verdict::Unprovable("the source stores no checksum and its ETag is not an MD5 of the bytes"))
        }
    }
}

/// What is left of a verdict where the target's store takes bytes that differ from their checksum: what its ETag tells,
/// which it makes from the bytes that it has.
pub(super) fn by_etag(verdict: Verdict, head: &Head, written: &Written) -> Verdict {
    match verdict {
        Verdict::Exact(Means::Checksum | Means::Md5) => {}
        Verdict::Exact(Means::Parts | Means::Stamp | Means::Ledger) | Verdict::Unprovable(_) => return verdict,
    }
    let source = Head { checksum: None, ..head.clone() };
    let replica = Head { etag: written.etag.clone(), encryption: written.encryption.clone(), ..source.clone() };
    if decide::same_bytes(&source, &replica) == Some(true) {
        return Verdict::Exact(decide::means(&source, &replica));
    }
    Verdict::Unprovable(
        "the target's store takes bytes that differ from their checksum, and its ETag does not tell them",
    )
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
    /// As announced: room is made once.
    length: usize,
    first: Option<Bytes>,
    rest: BytesMut,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        match &self.first {
            None => self.first = Some(piece),
            Some(first) => {
                if self.rest.is_empty() {
                    self.rest.reserve(self.length);
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

/// P7: what the store says it used must be what the rule says.
pub(super) fn check_sealing(asked: &Sealing, used: &Encryption) -> Result<(), Fault> {
    let right = match (asked, used) {
        (Sealing::BucketDefault, _) => true,
        (Sealing::Kms(asked), Encryption::Kms(Some(key))) | (Sealing::Dsse(asked), Encryption::Dsse(Some(key))) => {
            asked == key || asked.ends_with(&format!("/{key}"))
        }
        (Sealing::Kms(_) | Sealing::Dsse(_), _) => false,
    };
    if right {
        return Ok(());
    }
    let detail = format!("asked for {asked:?}, the store answered {used:?}: check the bucket's encryption settings");
    Err(Fault::new(FaultKind::KeyUnusable, Side::Target, "encrypt under the rule's key", detail))
}

pub(super) fn unread() -> Fault {
    let detail = "the target says it stored the object before all of it was sent";
    Fault::new(FaultKind::Corrupt, Side::Target, "write the object", detail)
}

pub(super) fn vanished() -> Fault {
    let detail = "the replica cannot be found right after it was written";
    Fault::new(FaultKind::Transient, Side::Target, "look at the replica", detail)
}
