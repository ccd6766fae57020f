//! A bucket as the engine reaches it: requests take time, may fail, and may be carried out without an answer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use repl::model::digest::{Algorithm, Checksum};
use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::{Found, Head, Key, Lock, Tags, Timestamp, VersionId, Versioning};
use repl::ports::{
    ByteStream, Completion, Condition, CopySource, Fetched, Got, Grant, ListFrom, NewObject, ObjectPage, ObjectStore,
    OpenUpload, Part, Payload, Pick, Read, UploadChecksum, UploadRef, VersionPage, Written,
};
use tokio::time::Instant;

use super::bucket::{Bucket, Look, head};
use super::clock::true_time;
use super::digests;
use super::weather::{Fate, Fuse, Place, TIMEOUT, Verb, Weather};

/// A body comes in pieces of this size.
const PIECE: usize = 256 << 10;

/// One client's way to a bucket.
#[derive(Clone, Debug)]
pub(crate) struct FakeStore {
    pub(crate) bucket: Arc<Mutex<Bucket>>,
    /// From where server-side copies are read.
    pub(crate) copies_from: Option<Arc<Mutex<Bucket>>>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) fuse: Arc<Fuse>,
    pub(crate) start: Instant,
    /// Keys that this client writes now: it must never write one twice at a time (I5).
    pub(crate) writing: Arc<Mutex<BTreeSet<Key>>>,
}

/// One write under way.
struct Writing {
    keys: Arc<Mutex<BTreeSet<Key>>>,
    key: Key,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.keys.lock().unwrap().remove(&self.key);
    }
}

impl FakeStore {
    /// A way on which nothing goes wrong.
    pub(crate) fn clear(bucket: Bucket) -> Self {
        use super::{dice::Dice, weather::Forecast};
        Self {
            bucket: Arc::new(Mutex::new(bucket)),
            copies_from: None,
            weather: Arc::new(Weather::new(Dice::new(0, "clear"), Forecast::CLEAR)),
            fuse: Arc::default(),
            start: Instant::now(),
            writing: Arc::default(),
        }
    }

    fn now(&self) -> Timestamp {
        true_time(self.start)
    }

    fn side(&self) -> Side {
        self.bucket.lock().unwrap().side
    }

    fn place(&self) -> Place {
        let bucket = self.bucket.lock().unwrap();
        Place { side: bucket.side, bucket: bucket.name.clone() }
    }

    /// One request from its sending to its answer.
    async fn ask<T>(
        &self,
        verb: Verb,
        key: Option<&Key>,
        act: impl FnOnce(&mut Bucket, Timestamp) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.fuse.step().await;
        self.weather.way().await;
        let fate = self.weather.fate(&self.place(), verb, key);
        self.carry_out(fate, act).await
    }

    async fn carry_out<T>(
        &self,
        fate: Fate,
        act: impl FnOnce(&mut Bucket, Timestamp) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if let Fate::Before(fault) = fate {
            return Err(self.late(fault).await);
        }
        let now = self.now();
        let done = act(&mut self.bucket.lock().unwrap(), now);
        self.fuse.step().await;
        self.weather.way().await;
        match fate {
            Fate::After(fault) if done.is_ok() => Err(self.late(fault).await),
            _ => done,
        }
    }

    /// A fault, when its client notices it.
    async fn late(&self, fault: Fault) -> Fault {
        if fault.status.is_none() {
            tokio::time::sleep(TIMEOUT).await;
        } else {
            self.weather.way().await;
        }
        fault
    }

    /// Notes a write that changes what is current, for as long as it is under way.
    fn begin_write(&self, key: &Key) -> Writing {
        let new = self.writing.lock().unwrap().insert(key.clone());
        assert!(new, "I5: two writes of {key:?} under way at once by one worker");
        Writing { keys: Arc::clone(&self.writing), key: key.clone() }
    }

    /// The bytes of a payload as they arrive at the store.
    async fn arrive(&self, payload: Payload, fate: &Fate) -> Result<Bytes, Fault> {
        let length = payload.length();
        let (bytes, md5) = match payload {
            Payload::Whole(bytes) => (bytes, None),
            Payload::Piped { mut stream, md5, .. } => {
                let mut whole = Vec::new();
                while let Some(piece) = stream.next().await {
                    // The client breaks its request off.
                    whole.extend_from_slice(&piece.map_err(|fault| Fault { side: self.side(), ..fault })?);
                    self.fuse.step().await;
                }
                (Bytes::from(whole), md5)
            }
        };
        if bytes.len() as u64 != length {
            let detail = format!("IncompleteBody: {} bytes where {length} were announced", bytes.len());
            return Err(Fault::new(FaultKind::Transient, self.side(), "take a body", detail));
        }
        let bytes = if *fate == Fate::Corrupted { self.flipped(&bytes) } else { bytes };
        if md5.is_some_and(|md5| md5 != digests::md5_base64(&bytes)) {
            return Err(Fault::new(FaultKind::Corrupt, self.side(), "take a body", "BadDigest"));
        }
        Ok(bytes)
    }

    fn flipped(&self, bytes: &Bytes) -> Bytes {
        let mut copy = bytes.to_vec();
        if !copy.is_empty() {
            let at = self.weather.roll(|dice| dice.below(copy.len() as u64)) as usize;
            copy[at] ^= 1;
        }
        copy.into()
    }

    /// A body on its way to the client.
    fn body(&self, bytes: Bytes, fate: &Fate) -> ByteStream {
        let bytes = if *fate == Fate::Corrupted { self.flipped(&bytes) } else { bytes };
        let broken = matches!(fate, Fate::Truncated | Fate::Stalled);
        let end =
            if broken { self.weather.roll(|dice| dice.below(bytes.len() as u64 + 1)) as usize } else { bytes.len() };
        let stalls = *fate == Fate::Stalled;
        let (store, side) = (self.clone(), self.side());
        ByteStream::new(futures_util::stream::unfold((bytes.slice(..end), false), move |(mut rest, over)| {
            let store = store.clone();
            async move {
                if over || (rest.is_empty() && !broken) {
                    return None;
                }
                store.weather.way().await;
                if rest.is_empty() {
                    if stalls {
                        tokio::time::sleep(TIMEOUT).await;
                    }
                    let fault = Fault::new(FaultKind::Transient, side, "read the body", "it broke off");
                    return Some((Err(fault), (rest, true)));
                }
                let piece = rest.split_to(rest.len().min(PIECE));
                Some((Ok(piece), (rest, false)))
            }
        }))
    }

    /// The bytes that a server-side copy reads.
    fn copied(&self, source: &CopySource, range: Option<(u64, u64)>) -> Result<Bytes, Fault> {
        let refused = |kind, detail: &str| Fault::new(kind, Side::Target, "copy", detail);
        let from = self.copies_from.as_ref().ok_or_else(|| refused(FaultKind::Denied, "AccessDenied"))?;
        let from = from.lock().unwrap();
        assert_eq!(source.bucket, from.name);
        let pick = if source.versioned { Pick::Version(source.version.clone()) } else { Pick::Current };
        let object = from.object(&source.key, &pick).map_err(|fault| Fault { side: Side::Source, ..fault })?;
        if object.etag != source.etag {
            return Err(refused(FaultKind::Raced, "the source has another ETag"));
        }
        from.readable(object).map_err(|fault| Fault { side: Side::Source, ..fault })?;
        let (first, last) = range.unwrap_or((0, (object.bytes.len() as u64).saturating_sub(1)));
        Ok(if object.bytes.is_empty() { Bytes::new() } else { object.bytes.slice(first as usize..=last as usize) })
    }
}

impl ObjectStore for FakeStore {
    async fn get(&self, key: &Key, read: Read) -> Result<Fetched, Fault> {
        self.fuse.step().await;
        self.weather.way().await;
        let fate = self.weather.fate(&self.place(), Verb::Get, Some(key));
        let found = self
            .carry_out(fate.clone(), |bucket, _| {
                Ok(match bucket.look(key, &read.pick) {
                    Look::Missing => None,
                    Look::Marker => Some(None),
                    Look::Object(stored, object) => {
                        if read.if_match.as_ref().is_some_and(|etag| *etag != object.etag) {
                            return Err(bucket.fault(FaultKind::Raced, 412, "the ETag is another"));
                        }
                        bucket.readable(object)?;
                        let count = u32::try_from(object.tags.len()).unwrap();
                        let mut head = head(stored, object, (count > 0).then_some(count));
                        let bytes = match read.range {
                            None => object.bytes.clone(),
                            Some((first, last)) => {
                                head.checksum = None;
                                let end = object.bytes.len().min(last as usize + 1);
                                object.bytes.slice((first as usize).min(end)..end)
                            }
                        };
                        Some(Some((head, bytes)))
                    }
                })
            })
            .await?;
        Ok(match found {
            None => Fetched::Missing,
            Some(None) => Fetched::DeleteMarker,
            Some(Some((head, bytes))) => Fetched::Object(Box::new(Got { head, body: self.body(bytes, &fate) })),
        })
    }

    async fn head(&self, key: &Key, pick: &Pick) -> Result<Found, Fault> {
        self.ask(Verb::Head, Some(key), |bucket, _| {
            Ok(match bucket.look(key, pick) {
                Look::Missing => Found::Missing,
                Look::Marker => Found::DeleteMarker,
                Look::Object(stored, object) => Found::Object(Box::new(head(stored, object, None))),
            })
        })
        .await
    }

    async fn part_sizes(&self, key: &Key, head: &Head) -> Result<Option<Vec<u64>>, Fault> {
        self.ask(Verb::PartSizes, Some(key), |bucket, _| {
            let pick = match bucket.versioning {
                Versioning::Off => Pick::Current,
                Versioning::Enabled | Versioning::Suspended => Pick::Version(head.version.clone()),
            };
            Ok(bucket.object(key, &pick).ok().and_then(|object| object.parts.clone()))
        })
        .await
    }

    async fn tags(&self, key: &Key, pick: &Pick) -> Result<Tags, Fault> {
        self.ask(Verb::ReadTags, Some(key), |bucket, _| bucket.tags(key, pick)).await
    }

    async fn acl(&self, key: &Key, pick: &Pick) -> Result<Vec<Grant>, Fault> {
        self.ask(Verb::ReadAcl, Some(key), |bucket, _| bucket.acl(key, pick)).await
    }

    async fn list_objects(&self, prefix: &str, from: &ListFrom, most: Option<u16>) -> Result<ObjectPage, Fault> {
        let most = most.map_or(usize::MAX, usize::from);
        self.ask(Verb::List, None, |bucket, _| Ok(bucket.list_objects(prefix, from, most))).await
    }

    async fn list_versions(&self, prefix: &str, after: Option<(Key, VersionId)>) -> Result<VersionPage, Fault> {
        self.ask(Verb::List, None, |bucket, _| Ok(bucket.list_versions(prefix, after.as_ref(), usize::MAX))).await
    }

    async fn versioning(&self) -> Result<Versioning, Fault> {
        self.ask(Verb::Versioning, None, |bucket, _| Ok(bucket.versioning)).await
    }

    async fn put(
        &self,
        object: &NewObject,
        payload: Payload,
        checksum: Option<&Checksum>,
        condition: &Condition,
    ) -> Result<Written, Fault> {
        let _writing = self.begin_write(&object.key);
        self.fuse.step().await;
        self.weather.way().await;
        let fate = self.weather.fate(&self.place(), Verb::Put, Some(&object.key));
        let bytes = self.arrive(payload, &fate).await?;
        self.carry_out(fate, |bucket, now| bucket.put(object, bytes, (checksum, condition), now)).await
    }

    async fn create_upload(&self, object: &NewObject, checksum: Option<UploadChecksum>) -> Result<OpenUpload, Fault> {
        let _writing = self.begin_write(&object.key);
        let create = |bucket: &mut Bucket, now| bucket.create_upload(object, checksum, now);
        self.ask(Verb::CreateUpload, Some(&object.key), create).await
    }

    async fn upload_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        payload: Payload,
        checksum: Option<&Checksum>,
    ) -> Result<Part, Fault> {
        self.fuse.step().await;
        self.weather.way().await;
        let fate = self.weather.fate(&self.place(), Verb::UploadPart, Some(upload.key));
        let bytes = self.arrive(payload, &fate).await?;
        self.carry_out(fate, |bucket, _| bucket.upload_part(upload, number, bytes, checksum)).await
    }

    async fn copy_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        source: &CopySource,
        range: Option<(u64, u64)>,
    ) -> Result<Part, Fault> {
        let copied = |bucket: &mut Bucket, _| bucket.upload_part(upload, number, self.copied(source, range)?, None);
        self.ask(Verb::CopyPart, Some(upload.key), copied).await
    }

    async fn list_parts(&self, upload: UploadRef<'_>) -> Result<Vec<Part>, Fault> {
        self.ask(Verb::ListParts, Some(upload.key), |bucket, _| bucket.list_parts(upload)).await
    }

    async fn complete_upload(&self, upload: UploadRef<'_>, completion: &Completion) -> Result<Written, Fault> {
        let _writing = self.begin_write(upload.key);
        self.ask(Verb::Complete, Some(upload.key), |bucket, _| bucket.complete_upload(upload, completion)).await
    }

    async fn abort_upload(&self, upload: UploadRef<'_>) -> Result<(), Fault> {
        let abort = |bucket: &mut Bucket, _| {
            bucket.abort_upload(upload);
            Ok(())
        };
        self.ask(Verb::Abort, Some(upload.key), abort).await
    }

    async fn copy(
        &self,
        object: &NewObject,
        source: &CopySource,
        algorithm: Option<Algorithm>,
        condition: &Condition,
    ) -> Result<Written, Fault> {
        let _writing = self.begin_write(&object.key);
        let copied = |bucket: &mut Bucket, now| {
            let bytes = self.copied(source, None)?;
            let checksum = algorithm.map(|algorithm| digests::full(algorithm, &bytes));
            bucket.put(object, bytes, (checksum.as_ref(), condition), now)
        };
        self.ask(Verb::Copy, Some(&object.key), copied).await
    }

    async fn put_tags(&self, key: &Key, pick: &Pick, tags: &Tags) -> Result<(), Fault> {
        self.ask(Verb::PutTags, Some(key), |bucket, _| bucket.put_tags(key, pick, tags)).await
    }

    async fn put_acl(&self, key: &Key, pick: &Pick, grants: &[Grant]) -> Result<(), Fault> {
        self.ask(Verb::PutAcl, Some(key), |bucket, _| bucket.put_acl(key, pick, grants)).await
    }

    async fn put_lock(&self, key: &Key, pick: &Pick, lock: &Lock) -> Result<(), Fault> {
        self.ask(Verb::PutLock, Some(key), |bucket, now| bucket.put_lock(key, pick, lock, now)).await
    }

    async fn delete(&self, key: &Key, condition: &Condition) -> Result<Option<VersionId>, Fault> {
        let _writing = self.begin_write(key);
        self.ask(Verb::Delete, Some(key), |bucket, now| bucket.delete(key, condition, now)).await
    }
}
