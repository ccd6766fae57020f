//! A world small enough to see through: buckets in memory that answer as long as they are let.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;

use crate::engine::digest::{Hashed, Hasher, WithMd5, composed_etag};
use crate::model::digest::{Algorithm, Checksum};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{
    Attributes, ETag, Encryption, Found, Head, Key, KeyOrder, Listed, Lock, Tags, TargetId, Timestamp, VersionId,
    Versioning,
};
use crate::plan::parts;
use crate::ports::{
    ByteStream, ChangeQueue, Clock, Completion, Condition, CopySource, Delivery, Fetched, Got, Grant, KeyService,
    KeyState, ListFrom, NewObject, ObjectPage, ObjectStore, OpenUpload, Part, Payload, Pick, QueueDepth, Read,
    UploadChecksum, UploadRef, VersionPage, World, Written,
};

/// Keys of one page of a listing.
const PAGE: usize = 3;

/// One bucket without versions, one queue or one key service, as it is used. Clones are the same one.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Store(Arc<Shelf>);

#[derive(Debug)]
struct Shelf {
    objects: Mutex<BTreeMap<Key, Bytes>>,
    /// How those were cut that came in parts, and the ETag that they have therefore.
    cuts: Mutex<BTreeMap<Key, (Vec<u64>, String)>>,
    /// Parts of uploads, by key and number.
    sent: Mutex<BTreeMap<(Key, u32), Bytes>>,
    /// Whether ETags of parts are not their MD5s, as under a key of KMS.
    opaque: AtomicBool,
    reads: AtomicUsize,
    calls: AtomicUsize,
    /// Questions for the bucket's versioning.
    asked: AtomicUsize,
    /// Whether looks at objects wait for ever, and how many do.
    mute: AtomicBool,
    looks: AtomicUsize,
    /// Calls beyond so many wait.
    answered: watch::Sender<usize>,
    /// What a queue still has to hand out, and what was acknowledged.
    messages: Mutex<Vec<Delivery<u32>>>,
    acknowledged: Mutex<Vec<u32>>,
}

impl Default for Store {
    fn default() -> Self {
        Self(Arc::new(Shelf {
            objects: Mutex::default(),
            cuts: Mutex::default(),
            sent: Mutex::default(),
            opaque: AtomicBool::default(),
            reads: AtomicUsize::default(),
            calls: AtomicUsize::default(),
            asked: AtomicUsize::default(),
            mute: AtomicBool::default(),
            looks: AtomicUsize::default(),
            answered: watch::channel(usize::MAX).0,
            messages: Mutex::default(),
            acknowledged: Mutex::default(),
        }))
    }
}

/// A range of a body that is in memory.
fn within(first: u64, last: u64) -> std::ops::RangeInclusive<usize> {
    usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()
}

impl Store {
    pub(in crate::engine) fn with(keys: impl IntoIterator<Item = String>) -> Self {
        let store = Self::default();
        keys.into_iter().for_each(|key| store.write(&key, Bytes::from_static(b"x")));
        store
    }

    pub(in crate::engine) fn write(&self, key: &str, bytes: Bytes) {
        self.0.objects.lock().unwrap().insert(Key::new(key), bytes);
    }

    /// An object that was written in parts of these lengths; its ETag.
    pub(in crate::engine) fn write_parts(&self, key: &str, bytes: Bytes, cuts: &[u64]) -> ETag {
        let part = |(first, last): (u64, u64)| hashed(&bytes[within(first, last)]);
        let etag = composed_etag(&parts::ranges(cuts).map(part).collect::<Vec<_>>()).unwrap();
        self.0.cuts.lock().unwrap().insert(Key::new(key), (cuts.to_vec(), etag.clone()));
        self.write(key, bytes);
        ETag::new(etag)
    }

    pub(in crate::engine) fn read(&self, key: &str) -> Option<Bytes> {
        self.0.objects.lock().unwrap().get(&Key::new(key)).cloned()
    }

    /// How many bodies were read.
    pub(in crate::engine) fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }

    /// From now on the ETags of parts are not their MD5s.
    pub(in crate::engine) fn seal(&self) {
        self.0.opaque.store(true, Ordering::SeqCst);
    }

    fn part(&self, number: u32, bytes: &[u8]) -> Part {
        let md5 = hashed(bytes).md5_hex().unwrap();
        let etag = if self.0.opaque.load(Ordering::SeqCst) { md5.chars().rev().collect() } else { md5 };
        Part { number, etag: ETag::new(etag), size: bytes.len() as u64, checksum: None }
    }

    /// From now on every call beyond the first `calls` of its life waits until more are let through.
    pub(in crate::engine) fn answer(&self, calls: usize) {
        self.0.answered.send_replace(calls);
    }

    /// From now on it tells nothing of what an object is without reading it, as everything begins that is large.
    pub(in crate::engine) fn tell_no_heads(&self) {
        self.0.mute.store(true, Ordering::SeqCst);
    }

    /// How many wait for that.
    pub(in crate::engine) fn looks(&self) -> usize {
        self.0.looks.load(Ordering::SeqCst)
    }

    /// How often it was asked.
    pub(in crate::engine) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// How often it was asked whether it keeps versions.
    pub(in crate::engine) fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    pub(in crate::engine) fn deliver(&self, message: Delivery<u32>) {
        self.0.messages.lock().unwrap().push(message);
    }

    pub(in crate::engine) fn acknowledged(&self) -> Vec<u32> {
        self.0.acknowledged.lock().unwrap().clone()
    }

    async fn turn(&self) {
        let nth = self.0.calls.fetch_add(1, Ordering::SeqCst);
        self.0.answered.subscribe().wait_for(|answered| nth < *answered).await.unwrap();
    }

    fn head_of(&self, key: &Key) -> Option<(Head, Bytes)> {
        let bytes = self.0.objects.lock().unwrap().get(key)?.clone();
        let cut = self.0.cuts.lock().unwrap().get(key).map(|(_, etag)| etag.clone());
        let etag = cut.unwrap_or_else(|| format!("e{}", bytes.len()));
        let head = Head {
            version: VersionId::null(),
            etag: ETag::new(etag),
            size: bytes.len() as u64,
            modified: Timestamp(0),
            attributes: Attributes::default(),
            encryption: Encryption::Untold,
            checksum: None,
            tag_count: None,
        };
        Some((head, bytes))
    }
}

fn hashed(bytes: &[u8]) -> Hashed {
    let mut hasher = Hasher::new(Algorithm::Crc64Nvme, WithMd5::Yes);
    hasher.update(bytes);
    hasher.finish()
}

fn nobody() -> Fault {
    Fault::new(FaultKind::Refused, Side::Local, "play a store", "that is not asked for here")
}

macro_rules! unasked {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $out:ty;)*) => {
        $(async fn $name(&self, $($argument: $kind),*) -> Result<$out, Fault> { Err(nobody()) })*
    };
}

/// Length of the pieces of a body.
pub(in crate::engine) const PIECE: usize = 64 << 10;

impl ObjectStore for Store {
    async fn get(&self, key: &Key, read: Read) -> Result<Fetched, Fault> {
        self.turn().await;
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let Some((head, bytes)) = self.head_of(key) else { return Ok(Fetched::Missing) };
        let bytes = read.range.map_or(bytes.clone(), |(first, last)| bytes.slice(within(first, last)));
        let pieces: Vec<_> = bytes.chunks(PIECE).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(Fetched::Object(Box::new(Got { head, body: ByteStream::new(stream::iter(pieces)) })))
    }

    async fn head(&self, key: &Key, _pick: &Pick) -> Result<Found, Fault> {
        if self.0.mute.load(Ordering::SeqCst) {
            self.0.looks.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        self.turn().await;
        Ok(self.head_of(key).map_or(Found::Missing, |(head, _)| Found::Object(Box::new(head))))
    }

    async fn list_objects(&self, prefix: &str, from: &ListFrom, _most: Option<u16>) -> Result<ObjectPage, Fault> {
        self.turn().await;
        let objects = self.0.objects.lock().unwrap();
        let after = match from {
            ListFrom::Start => None,
            ListFrom::After(key) => Some(key.clone()),
            ListFrom::Token(token) => Some(Key::new(token)),
        };
        let listed = objects.iter().filter(|(key, _)| key.as_str().starts_with(prefix));
        let listed = listed.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
        let listed = listed.map(|(key, bytes)| Listed {
            key: key.clone(),
            size: bytes.len() as u64,
            etag: ETag::new(format!("e{}", bytes.len())),
            modified: Timestamp(0),
            storage_class: None,
            checksum: None,
        });
        let mut entries: Vec<Listed> = listed.take(PAGE + 1).collect();
        let more = entries.len() > PAGE;
        entries.truncate(PAGE);
        let next = entries.last().filter(|_| more).map(|last| ListFrom::After(last.key.clone()));
        Ok(ObjectPage { entries, next, order: KeyOrder::default() })
    }

    async fn tags(&self, _key: &Key, _pick: &Pick) -> Result<Tags, Fault> {
        self.turn().await;
        Ok(Tags::new())
    }

    async fn versioning(&self) -> Result<Versioning, Fault> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(Versioning::Off)
    }

    async fn abort_upload(&self, _upload: UploadRef<'_>) -> Result<(), Fault> {
        self.turn().await;
        Ok(())
    }

    async fn part_sizes(&self, key: &Key, _head: &Head) -> Result<Option<Vec<u64>>, Fault> {
        Ok(self.0.cuts.lock().unwrap().get(key).map(|(cuts, _)| cuts.clone()))
    }

    async fn create_upload(&self, object: &NewObject, _: Option<UploadChecksum>) -> Result<OpenUpload, Fault> {
        Ok(OpenUpload { id: format!("of {}", object.key), checksum: None })
    }

    async fn upload_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        payload: Payload,
        _checksum: Option<&Checksum>,
    ) -> Result<Part, Fault> {
        let bytes = match payload {
            Payload::Whole(bytes) => bytes,
            Payload::Piped { mut stream, .. } => {
                let mut all = Vec::new();
                while let Some(piece) = stream.next().await {
                    all.extend_from_slice(&piece?);
                    // Others move meanwhile.
                    tokio::task::yield_now().await;
                }
                Bytes::from(all)
            }
        };
        let part = self.part(number, &bytes);
        self.0.sent.lock().unwrap().insert((upload.key.clone(), number), bytes);
        Ok(part)
    }

    async fn complete_upload(&self, upload: UploadRef<'_>, completion: &Completion) -> Result<Written, Fault> {
        let mut whole = Vec::new();
        for part in &completion.parts {
            let sent = self.0.sent.lock().unwrap().remove(&(upload.key.clone(), part.number)).unwrap();
            assert_eq!(part.etag, self.part(part.number, &sent).etag, "it is named as it was answered");
            whole.extend_from_slice(&sent);
        }
        self.write(upload.key.as_str(), Bytes::from(whole));
        let etag = ETag::new(format!("whole-{}", completion.parts.len()));
        Ok(Written { etag, version: None, encryption: Encryption::Untold, checksum: None })
    }

    unasked! {
        acl(_0: &Key, _1: &Pick) -> Vec<Grant>;
        list_versions(_0: &str, _1: Option<(Key, VersionId)>) -> VersionPage;
        put(_0: &NewObject, _1: Payload, _2: Option<&Checksum>, _3: &Condition) -> Written;
        copy_part(_0: UploadRef<'_>, _1: u32, _2: &CopySource, _3: Option<(u64, u64)>) -> Part;
        list_parts(_0: UploadRef<'_>) -> Vec<Part>;
        copy(_0: &NewObject, _1: &CopySource, _2: Option<Algorithm>, _3: &Condition) -> Written;
        put_tags(_0: &Key, _1: &Pick, _2: &Tags) -> ();
        put_acl(_0: &Key, _1: &Pick, _2: &[Grant]) -> ();
        put_lock(_0: &Key, _1: &Pick, _2: &Lock) -> ();
        delete(_0: &Key, _1: &Condition) -> Option<VersionId>;
    }
}

impl ChangeQueue for Store {
    type Receipt = u32;

    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery<u32>>, Fault> {
        let messages = std::mem::take(&mut *self.0.messages.lock().unwrap());
        if messages.is_empty() {
            tokio::time::sleep(wait).await;
        }
        Ok(messages)
    }

    async fn acknowledge(&self, receipts: Vec<u32>) -> Result<Vec<u32>, Fault> {
        self.0.acknowledged.lock().unwrap().extend(receipts);
        Ok(Vec::new())
    }

    async fn extend(&self, _receipts: Vec<u32>, _visibility: Duration) -> Result<Vec<u32>, Fault> {
        Ok(Vec::new())
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        Ok(QueueDepth { visible: 0, in_flight: 0 })
    }
}

impl KeyService for Store {
    async fn describe(&self, arn: &str) -> Result<KeyState, Fault> {
        self.turn().await;
        Ok(KeyState { arn: arn.to_owned(), enabled: true, rotation: None })
    }

    async fn prove(&self, _arn: &str, _bucket: &str) -> Result<(), Fault> {
        self.turn().await;
        Ok(())
    }
}

/// Goes with tokio's time.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Watch(tokio::time::Instant);

impl Clock for Watch {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_262_400_000).plus(self.0.elapsed())
    }
}

/// A source, one store for all targets, and what else there may be.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Small {
    pub(in crate::engine) source: Store,
    pub(in crate::engine) target: Store,
    pub(in crate::engine) queue: Option<Store>,
    pub(in crate::engine) keys: Option<Store>,
    pub(in crate::engine) clock: Watch,
}

impl Small {
    pub(in crate::engine) fn new(source: Store) -> Self {
        let clock = Watch(tokio::time::Instant::now());
        Self { source, target: Store::default(), queue: None, keys: None, clock }
    }
}

impl World for Small {
    type Store = Store;
    type Queue = Store;
    type Keys = Store;
    type Clock = Watch;

    fn source(&self) -> &Store {
        &self.source
    }

    fn beside_source(&self, _bucket: &str) -> Store {
        self.source.clone()
    }

    fn target(&self, _id: &TargetId) -> Option<&Store> {
        Some(&self.target)
    }

    fn queue(&self) -> Option<&Store> {
        self.queue.as_ref()
    }

    fn keys(&self, _id: &TargetId) -> Option<&Store> {
        self.keys.as_ref()
    }

    fn clock(&self) -> &Watch {
        &self.clock
    }
}
