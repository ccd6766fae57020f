//! Floor 2: what we ask of the world, on one page.
//!
//! Adapters (`aws/`) and the stateful fakes (`tests/support`) implement these traits; the engine knows nothing else
//! of either. Every method returns a [`Fault`] whose kind says what to do. Every future is `Send`; dropping one leaves
//! the outcome unknown: a read changed nothing, a write may or may not have happened and must be looked at.

pub mod setup;
mod sinks;

pub use sinks::{Alert, AlertSink, Datum, Dimension, MetricSink, Tier};

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;

use crate::model::digest::{Algorithm, Checksum, ChecksumType};
use crate::model::fault::Fault;
use crate::model::job::Change;
use crate::model::object::{
    Attributes, ETag, Encryption, Found, Head, Key, KeyOrder, Listed, Lock, Tags, Timestamp, VersionEntry, VersionId,
    Versioning,
};

/// The pieces of a body as they arrive. A truncated or broken body ends in an `Err`, never in a quiet end.
pub struct ByteStream(Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send + Sync>>);

impl ByteStream {
    /// Wraps a stream of pieces.
    pub fn new(pieces: impl Stream<Item = Result<Bytes, Fault>> + Send + Sync + 'static) -> Self {
        Self(Box::pin(pieces))
    }

    /// The next piece; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        std::future::poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, Fault>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

/// Which version of a key to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Whatever is current now.
    Current,
    /// Exactly that one.
    Version(VersionId),
}

/// A GET.
#[derive(Clone, Debug)]
pub struct Read {
    /// Which version.
    pub pick: Pick,
    /// First and last byte, both inclusive; `None` for the whole object.
    pub range: Option<(u64, u64)>,
    /// Fail as `Raced` unless the ETag is this one.
    pub if_match: Option<ETag>,
}

/// What a GET brings: headers and the body asked for. An adapter whose server ignores a range skips to it.
#[derive(Debug)]
pub struct Got {
    /// The headers; `size` is the whole object's.
    pub head: Head,
    /// The bytes of the range, or all.
    pub body: ByteStream,
}

/// What a GET finds.
#[derive(Debug)]
pub enum Fetched {
    /// An object.
    Object(Box<Got>),
    /// A delete marker.
    DeleteMarker,
    /// Nothing.
    Missing,
}

/// Under which state of the target key a write may happen; otherwise it fails as `Raced`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No object is current (`If-None-Match: *`; a current delete marker counts as none).
    Absent,
    /// The current object has this ETag (`If-Match`).
    Matches(ETag),
    /// Always.
    Any,
}

/// How the written object is to be encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// As the target bucket's default says.
    BucketDefault,
    /// SSE-KMS under this full key ARN, Bucket Key asked for.
    Kms(String),
    /// DSSE-KMS under this full key ARN.
    Dsse(String),
}

/// Everything of a new object but its bytes.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// The target key.
    pub key: Key,
    /// Headers, metadata (stamp included), class and lock.
    pub attributes: Attributes,
    /// Tags; empty for none.
    pub tags: Tags,
    /// Encryption.
    pub sealing: Sealing,
    /// Whether to send `bucket-owner-full-control`.
    pub owner_full_control: bool,
}

/// The bytes of a write. Both forms tell their length beforehand.
#[derive(Debug)]
pub enum Payload {
    /// All in memory: the adapter may send it again after a connection hiccup.
    Whole(Bytes),
    /// Piped through: sent once. An `Err` piece must break the request off, so that nothing becomes visible.
    Piped {
        /// The pieces.
        stream: ByteStream,
        /// Their total length in bytes.
        length: u64,
        /// MD5 of all of them in base64, where it is known beforehand: the store refuses other bytes as `Corrupt`.
        md5: Option<String>,
    },
}

impl Payload {
    /// Length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Piped { length, .. } => *length,
        }
    }
}

/// What the store answers to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The new object's ETag.
    pub etag: ETag,
    /// Its version id, where the bucket has versions.
    pub version: Option<VersionId>,
    /// How it was encrypted (P7).
    pub encryption: Encryption,
    /// The checksum the store computed or checked, where it told.
    pub checksum: Option<Checksum>,
}

/// The checksum under which a multipart upload runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadChecksum {
    /// The algorithm of every part.
    pub algorithm: Algorithm,
    /// How the parts' checksums make the object's.
    pub kind: ChecksumType,
}

/// A multipart upload that the store has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    /// Its id.
    pub id: String,
    /// What the store says it will keep: may differ from what was asked. `None` where it said nothing.
    pub checksum: Option<UploadChecksum>,
}

/// One part as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// 1 to 10,000.
    pub number: u32,
    /// The part's ETag.
    pub etag: ETag,
    /// Length in bytes.
    pub size: u64,
    /// Base64 checksum of the part in the upload's algorithm, where the store told it.
    pub checksum: Option<String>,
}

/// The end of a multipart upload.
#[derive(Clone, Debug)]
pub struct Completion {
    /// All parts, ascending.
    pub parts: Vec<Part>,
    /// Length of the whole object (`x-amz-mp-object-size`).
    pub size: u64,
    /// The checksum that the whole object must have, for the store to check before the object becomes visible.
    pub checksum: Option<Checksum>,
    /// The checksum under which the parts were sent.
    pub sent: Option<UploadChecksum>,
    /// Under which state of the key.
    pub condition: Condition,
}

/// Which source version a server-side copy reads.
#[derive(Clone, Debug)]
pub struct CopySource {
    /// The source bucket.
    pub bucket: String,
    /// The source key, not encoded: the adapter encodes it.
    pub key: Key,
    /// The version; the null one of a bucket without versioning is not sent.
    pub version: VersionId,
    /// Sent as `x-amz-copy-source-if-match` with every request.
    pub etag: ETag,
    /// Whether the source bucket has versions, so that even `null` is sent as an id.
    pub versioned: bool,
    /// The account that must own the source bucket (`x-amz-source-expected-bucket-owner`).
    pub owner: Option<String>,
}

/// One page of a version listing.
#[derive(Clone, Debug, Default)]
pub struct VersionPage {
    /// In the listing's own order.
    pub entries: Vec<VersionEntry>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<(Key, VersionId)>,
    /// The order of this store's listings.
    pub order: KeyOrder,
}

/// Where a page of an object listing starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFrom {
    /// At the first key.
    Start,
    /// After this key, whether it exists or not.
    After(Key),
    /// Where an earlier page said that it goes on.
    Token(String),
}

/// One page of an object listing.
#[derive(Clone, Debug, Default)]
pub struct ObjectPage {
    /// In the listing's own order; a store may return fewer than asked for, even none, and still go on.
    pub entries: Vec<Listed>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<ListFrom>,
    /// The order of this store's listings.
    pub order: KeyOrder,
}

/// One grant of an ACL, as S3's headers spell a grantee (`id="…"`, `uri="…"`, `emailAddress="…"`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// `FULL_CONTROL`, `READ`, `READ_ACP` or `WRITE_ACP`.
    pub permission: String,
    /// The grantee.
    pub grantee: String,
}

/// One bucket of one store. `Throttled`, `Transient` and `Denied` can come from every method and are not named again.
pub trait ObjectStore: Send + Sync + 'static {
    /// Reads an object, or a range of it. `Archived` when it must be restored first; `Raced` when `if_match` does not
    /// hold; `KeyUnusable` when its KMS key does not decrypt; `Ineligible` for SSE-C.
    fn get(&self, key: &Key, read: Read) -> impl Future<Output = Result<Fetched, Fault>> + Send;

    /// Reads the headers alone. Faults as `get`.
    fn head(&self, key: &Key, pick: &Pick) -> impl Future<Output = Result<Found, Fault>> + Send;

    /// The sizes in bytes of a multipart object's parts, in order; `None` where the store does not tell them all.
    fn part_sizes(&self, key: &Key, head: &Head) -> impl Future<Output = Result<Option<Vec<u64>>, Fault>> + Send;

    /// The tags of a version. `Gone` where there is no such version.
    fn tags(&self, key: &Key, pick: &Pick) -> impl Future<Output = Result<Tags, Fault>> + Send;

    /// The grants of a version's ACL.
    fn acl(&self, key: &Key, pick: &Pick) -> impl Future<Output = Result<Vec<Grant>, Fault>> + Send;

    /// A page of current objects under a prefix: at most `most`, 1,000 where that is `None`.
    fn list_objects(
        &self,
        prefix: &str,
        from: &ListFrom,
        most: Option<u16>,
    ) -> impl Future<Output = Result<ObjectPage, Fault>> + Send;

    /// A page of versions and delete markers under a prefix, from `after` (exclusive) or the start, at most 1,000. After
    /// an unnamed version of a key come the keys behind it.
    fn list_versions(
        &self,
        prefix: &str,
        after: Option<(Key, VersionId)>,
    ) -> impl Future<Output = Result<VersionPage, Fault>> + Send;

    /// The bucket's versioning state.
    fn versioning(&self) -> impl Future<Output = Result<Versioning, Fault>> + Send;

    /// Writes an object in one request. With a `checksum` (full-object) the store refuses other bytes as `Corrupt`.
    /// If the future is dropped, or fails as `Transient`, the object may have been written.
    fn put(
        &self,
        object: &NewObject,
        payload: Payload,
        checksum: Option<&Checksum>,
        condition: &Condition,
    ) -> impl Future<Output = Result<Written, Fault>> + Send;

    /// Opens a multipart upload. If dropped, an upload may be left open at the store.
    fn create_upload(
        &self,
        object: &NewObject,
        checksum: Option<UploadChecksum>,
    ) -> impl Future<Output = Result<OpenUpload, Fault>> + Send;

    /// Sends one part. `Gone` when there is no such upload (any more).
    fn upload_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        payload: Payload,
        checksum: Option<&Checksum>,
    ) -> impl Future<Output = Result<Part, Fault>> + Send;

    /// Has the store copy one part from a source object: first and last byte inclusive, or the whole object.
    fn copy_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        source: &CopySource,
        range: Option<(u64, u64)>,
    ) -> impl Future<Output = Result<Part, Fault>> + Send;

    /// All parts that the store holds of an upload, ascending. `Gone` when there is no such upload.
    fn list_parts(&self, upload: UploadRef<'_>) -> impl Future<Output = Result<Vec<Part>, Fault>> + Send;

    /// Makes the object of an upload visible. `Raced` when the condition does not hold, with status 409 where the
    /// upload must be started again; `Gone` when there is no such upload, also after it has been completed already;
    /// `Corrupt` when checksum or size disagree. If dropped, look at the key before anything else.
    fn complete_upload(
        &self,
        upload: UploadRef<'_>,
        completion: &Completion,
    ) -> impl Future<Output = Result<Written, Fault>> + Send;

    /// Ends an upload without an object. An unknown upload is no fault.
    fn abort_upload(&self, upload: UploadRef<'_>) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Has the store copy a whole object of at most 5 GiB. `algorithm` is the checksum asked of the copy.
    fn copy(
        &self,
        object: &NewObject,
        source: &CopySource,
        algorithm: Option<Algorithm>,
        condition: &Condition,
    ) -> impl Future<Output = Result<Written, Fault>> + Send;

    /// Replaces the tags of a version.
    fn put_tags(&self, key: &Key, pick: &Pick, tags: &Tags) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Replaces the ACL of a version.
    fn put_acl(&self, key: &Key, pick: &Pick, grants: &[Grant]) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Sets retention and legal hold of a version to what `lock` says; what is `None` there is left alone.
    fn put_lock(&self, key: &Key, pick: &Pick, lock: &Lock) -> impl Future<Output = Result<(), Fault>> + Send;

    /// A DELETE without version id: in a versioned bucket it makes a delete marker, whose id is returned.
    fn delete(&self, key: &Key, condition: &Condition)
    -> impl Future<Output = Result<Option<VersionId>, Fault>> + Send;
}

/// Names one multipart upload.
#[derive(Clone, Copy, Debug)]
pub struct UploadRef<'a> {
    /// The target key.
    pub key: &'a Key,
    /// The upload id.
    pub id: &'a str,
}

/// One message of the queue.
#[derive(Clone, Debug)]
pub struct Delivery<R> {
    /// What deletes it.
    pub receipt: R,
    /// The message id, for logs and quarantine.
    pub id: String,
    /// The body as it came.
    pub body: String,
    /// What the body says.
    pub content: Content,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Changes to look at, possibly none (a test message, an event that asks for nothing).
    Changes {
        /// What to look at.
        changes: Vec<Change>,
        /// Records that ask for nothing, each with the reason why.
        ignored: Vec<Ignored>,
        /// Records that cannot be understood, each with the reason why: the message belongs in the quarantine too.
        unreadable: Vec<String>,
    },
    /// Nothing of it can be understood: the reason.
    Unreadable(String),
}

/// A record that asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The key it is about, where it names one.
    pub key: Option<Key>,
    /// The version it is about.
    pub version: VersionId,
    /// Why nothing follows from it: one sentence.
    pub reason: String,
}

/// How full the queue is, as it tells itself: approximate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that can be received.
    pub visible: u64,
    /// Messages received by somebody and not deleted yet.
    pub in_flight: u64,
}

/// The queue of change notifications.
pub trait ChangeQueue: Send + Sync + 'static {
    /// What deletes one delivery.
    type Receipt: Clone + Send + Sync + fmt::Debug + 'static;

    /// Waits up to `wait` (at most 20 s) for up to ten messages. Empty is an answer. If dropped, messages may have
    /// been handed out: they come again when their visibility ends.
    fn receive(&self, wait: Duration) -> impl Future<Output = Result<Vec<Delivery<Self::Receipt>>, Fault>> + Send;

    /// Deletes messages, ten to a call; returns those that the queue did not delete. Those come again.
    fn acknowledge(
        &self,
        receipts: Vec<Self::Receipt>,
    ) -> impl Future<Output = Result<Vec<Self::Receipt>, Fault>> + Send;

    /// Hides messages for `visibility` more from now (at most 12 h from receive); returns those refused.
    fn extend(
        &self,
        receipts: Vec<Self::Receipt>,
        visibility: Duration,
    ) -> impl Future<Output = Result<Vec<Self::Receipt>, Fault>> + Send;

    /// How full it is.
    fn depth(&self) -> impl Future<Output = Result<QueueDepth, Fault>> + Send;

    /// How many messages it has given up, approximately: each was received too often and never deleted, and may tell of
    /// a change that nobody has taken in. `None` where it gives none up, but hands them out until they expire.
    fn dead_letters(&self) -> impl Future<Output = Result<Option<u64>, Fault>> + Send {
        std::future::ready(Ok(None))
    }
}

/// What the key service tells of one KMS key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Its full ARN.
    pub arn: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Whether yearly rotation is on; `None` where it could not be read.
    pub rotation: Option<bool>,
}

/// The KMS of one region.
pub trait KeyService: Send + Sync + 'static {
    /// Looks at a key. `KeyUnusable` when it does not exist here.
    fn describe(&self, arn: &str) -> impl Future<Output = Result<KeyState, Fault>> + Send;

    /// Proves that we may use the key, by having it make a data key. `KeyUnusable` when not.
    fn prove(&self, arn: &str, bucket: &str) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// The wall clock. Waiting uses tokio's time; both are one timeline in tests.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// All that the engine asks of the world.
pub trait World: Send + Sync + 'static {
    /// Both buckets' kind.
    type Store: ObjectStore;
    /// The queue's kind.
    type Queue: ChangeQueue;
    /// The key services' kind.
    type Keys: KeyService;
    /// The clock's kind.
    type Clock: Clock;

    /// The source bucket.
    fn source(&self) -> &Self::Store;
    /// Another bucket at the source's endpoint, reached with the source's credentials.
    fn beside_source(&self, bucket: &str) -> Self::Store;
    /// The target of that name; every configured target has one.
    fn target(&self, id: &crate::model::object::TargetId) -> Option<&Self::Store>;
    /// The queue, where one is configured.
    fn queue(&self) -> Option<&Self::Queue>;
    /// The KMS that holds that target's keys; `None` where the target's store has none.
    fn keys(&self, id: &crate::model::object::TargetId) -> Option<&Self::Keys>;
    /// The bucket that receipts go to; `None` where none are kept.
    fn receipts(&self) -> Option<&Self::Store> {
        None
    }
    /// The clock.
    fn clock(&self) -> &Self::Clock;
}
