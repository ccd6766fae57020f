//! Who writes the source: every change is made, and told to the queue, perhaps late, twice or never.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use repl::model::digest::{Algorithm, ChecksumType};
use repl::model::job::{Change, ChangeKind, Origin};
use repl::model::object::{Attributes, ETag, Key, Lock, Sequencer, Tags, Timestamp, VersionId, Versioning};
use repl::ports::{Completion, Condition, Content, Grant, NewObject, Pick, Sealing, UploadChecksum, UploadRef};
use tokio::time::Instant;

use super::scenario::{ARCHIVES, Scenario};
use super::world::bucket::{Bucket, Object, own_grants};
use super::world::clock::true_time;
use super::world::dice::Dice;
use super::world::queue::FakeQueue;

/// The author, and what is known of what it did.
pub(super) struct Author {
    pub(super) bucket: Arc<Mutex<Bucket>>,
    pub(super) queue: FakeQueue,
    pub(super) dice: Dice,
    pub(super) scenario: Scenario,
    pub(super) start: Instant,
    pub(super) left: u64,
    /// Whether an object leaves no room for a stamp.
    pub(super) unstamped: bool,
    /// Whether an event was lost.
    pub(super) lost: bool,
    /// Keys of which a version was deleted for good.
    pub(super) purged: BTreeSet<Key>,
    /// Messages sent that nobody can understand.
    pub(super) garbage: u64,
    /// Multipart uploads that wait for their completion.
    open: Vec<(Key, String, u64)>,
    /// What was done, for people.
    pub(super) diary: Vec<String>,
}

impl Author {
    pub(super) fn new(scenario: &Scenario, bucket: &Arc<Mutex<Bucket>>, queue: &FakeQueue, start: Instant) -> Self {
        Self {
            bucket: Arc::clone(bucket),
            queue: queue.clone(),
            dice: Dice::new(scenario.seed, "author"),
            scenario: scenario.clone(),
            start,
            left: scenario.changes,
            unstamped: scenario.rules().iter().any(|rule| !rule.stamp),
            lost: false,
            purged: BTreeSet::new(),
            garbage: 0,
            open: Vec::new(),
            diary: Vec::new(),
        }
    }

    /// Changes something, perhaps of this key.
    pub(super) fn act(&mut self, of: Option<&Key>) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let keys = self.scenario.keys.clone();
        let key = of.cloned().unwrap_or_else(|| Key::new(self.dice.pick(&keys)));
        if self.scenario.archived > 0 && !self.scenario.frozen && self.dice.per_mille(100) {
            return self.thaw_one();
        }
        match self.dice.below(100) {
            0..60 if self.scenario.tells_repeats() && self.dice.per_mille(self.scenario.repeats) => {
                self.write_again(&key)
            }
            0..60 => self.write(&key),
            60..65 => self.complete(),
            65..80 => self.delete(&key),
            80..84 if self.scenario.purges => self.purge(&key),
            84..92 => self.tag(&key),
            92..95 => self.lock(&key),
            95..97 => self.grant(&key),
            _ => self.babble(),
        }
    }

    fn now(&self) -> Timestamp {
        true_time(self.start)
    }

    fn new_object(&mut self, key: &Key) -> NewObject {
        let mut attributes = Attributes { content_type: Some("text/plain".to_owned()), ..Attributes::default() };
        if self.dice.per_mille(300) {
            attributes.metadata.insert("author".to_owned(), format!("note {}", self.dice.below(100)));
        }
        if self.scenario.workers == 1 && self.dice.per_mille(50) {
            // No room for a stamp beside it.
            self.unstamped = true;
            attributes.metadata.insert("long".to_owned(), "m".repeat(1990));
        }
        let mut tags = Tags::new();
        if self.dice.per_mille(200) {
            tags.insert("class".to_owned(), self.dice.pick(&["gold", "tin"]).to_owned());
        }
        if self.scenario.archived > 0 && self.dice.per_mille(self.scenario.archived) {
            attributes.storage_class = Some(self.dice.pick(&ARCHIVES).to_owned());
        }
        NewObject { key: key.clone(), attributes, tags, sealing: Sealing::BucketDefault, owner_full_control: false }
    }

    fn write(&mut self, key: &Key) {
        let object = self.new_object(key);
        if let Some(bodies) = self.scenario.bodies {
            let body = vec![self.dice.below(bodies) as u8; 100];
            return self.put(&object, Bytes::from(body));
        }
        if self.scenario.large && self.dice.per_mille(250) {
            return self.write_parts(object);
        }
        let size = self.dice.pick(&[0, 1, 100, 4_000, 300_000, 600_000]);
        let fill = self.dice.below(256) as u8;
        let mut bytes = vec![fill; size];
        bytes.truncate(bytes.len().saturating_sub(self.dice.below(3) as usize));
        if !self.scenario.tells_repeats() {
            // Conditions on ETags cannot tell versions of equal bytes apart: between workers that is a limit of S3.
            bytes.extend_from_slice(&self.left.to_be_bytes());
        }
        self.put(&object, Bytes::from(bytes));
    }

    /// The same bytes once more: another version with the same ETag.
    fn write_again(&mut self, key: &Key) {
        let object = self.new_object(key);
        let bytes =
            self.bucket.lock().unwrap().current(key).and_then(|stored| Some(stored.object.as_ref()?.bytes.clone()));
        self.put(&object, bytes.unwrap_or_default());
    }

    fn put(&mut self, object: &NewObject, bytes: Bytes) {
        let (now, size) = (self.now(), bytes.len() as u64);
        let (written, order) = {
            let mut bucket = self.bucket.lock().unwrap();
            let written = bucket.put(object, bytes, (None, &Condition::Any), now).unwrap();
            let order = bucket.current(&object.key).unwrap().order;
            if self.dice.per_mille(100) {
                // As objects from before December 2024.
                bucket.object_mut(&object.key, &Pick::Current).unwrap().checksum = None;
            }
            (written, order)
        };
        let version = written.version.unwrap_or_else(VersionId::null);
        self.note(format!("put {:?} {version} of {size} bytes, {}", object.key, written.etag));
        self.tell(ChangeKind::Write, &object.key, version, Some((order, written.etag, size)));
    }

    /// A multipart upload, completed at once or when something else has been written.
    fn write_parts(&mut self, object: NewObject) {
        let (now, key) = (self.now(), object.key.clone());
        let fill = self.dice.below(256) as u8;
        // Another size each time: no two have the same bytes.
        let tail = self.dice.between(1, 500) as usize * 100 + self.left as usize;
        let sizes = if self.dice.per_mille(500) { vec![tail] } else { vec![5 << 20, tail] };
        let checksum = self.dice.pick(&[
            None,
            Some(UploadChecksum { algorithm: Algorithm::Sha256, kind: ChecksumType::Composite }),
            Some(UploadChecksum { algorithm: Algorithm::Crc32, kind: ChecksumType::FullObject }),
        ]);
        let id = {
            let mut bucket = self.bucket.lock().unwrap();
            let open = bucket.create_upload(&object, checksum, now).unwrap();
            let upload = UploadRef { key: &key, id: &open.id };
            for (number, size) in (1..).zip(&sizes) {
                bucket.upload_part(upload, number, vec![fill.wrapping_add(number as u8); *size].into(), None).unwrap();
            }
            open.id
        };
        let size = sizes.iter().sum::<usize>() as u64;
        self.note(format!("begin {id} of {key:?}, {} parts, {size} bytes", sizes.len()));
        self.open.push((key, id, size));
        if self.dice.per_mille(600) {
            self.complete();
        }
    }

    fn complete(&mut self) {
        let Some((key, id, size)) = self.open.pop() else { return };
        let untold = self.dice.per_mille(200);
        let (written, order) = {
            let mut bucket = self.bucket.lock().unwrap();
            let upload = UploadRef { key: &key, id: &id };
            let parts = bucket.list_parts(upload).unwrap();
            let completion = Completion { parts, size, checksum: None, sent: None, condition: Condition::Any };
            let written = bucket.complete_upload(upload, &completion).unwrap();
            let order = bucket.order_of_event();
            let pick = written.version.clone().map_or(Pick::Current, Pick::Version);
            if untold {
                bucket.object_mut(&key, &pick).unwrap().checksum = None;
            }
            (written, order)
        };
        let version = written.version.unwrap_or_else(VersionId::null);
        self.note(format!("complete {id} as {version} of {key:?}, {}", written.etag));
        self.tell(ChangeKind::Write, &key, version, Some((order, written.etag, size)));
    }

    fn delete(&mut self, key: &Key) {
        let now = self.now();
        let (made, order) = {
            let mut bucket = self.bucket.lock().unwrap();
            let made = bucket.delete(key, &Condition::Any, now).unwrap();
            (made, bucket.order_of_event())
        };
        self.note(format!("delete {key:?}: {made:?}"));
        match made {
            Some(marker) => self.tell(ChangeKind::DeleteMarker, key, marker, Some((order, ETag::new(""), 0))),
            // A bucket without versions: the object is gone, and that is never replicated.
            None => drop(self.purged.insert(key.clone())),
        }
    }

    fn purge(&mut self, key: &Key) {
        let version = {
            let bucket = self.bucket.lock().unwrap();
            let Some(all) = bucket.keys.get(key) else { return };
            all[self.dice.below(all.len() as u64) as usize].version.clone()
        };
        self.bucket.lock().unwrap().delete_version(key, &version);
        self.purged.insert(key.clone());
        self.note(format!("purge {key:?} {version}"));
    }

    /// Some version of a key that is an object.
    fn some_version(&mut self, key: &Key) -> Option<VersionId> {
        let bucket = self.bucket.lock().unwrap();
        let all = bucket.keys.get(key)?;
        let stored = &all[self.dice.below(all.len() as u64) as usize];
        stored.object.as_ref().map(|_| stored.version.clone())
    }

    fn tag(&mut self, key: &Key) {
        let Some(version) = self.some_version(key) else { return };
        let mut tags = Tags::from([("class".to_owned(), self.dice.pick(&["gold", "tin", "lead"]).to_owned())]);
        if self.scenario.asks_for_tags() {
            // Which rule holds was decided when the version came; what it would be now says nothing about that.
            let class = tags.remove("class").unwrap_or_default();
            tags.append(&mut self.bucket.lock().unwrap().tags(key, &Pick::Version(version.clone())).unwrap());
            tags.insert("note".to_owned(), class);
        }
        self.bucket.lock().unwrap().put_tags(key, &Pick::Version(version.clone()), &tags).unwrap();
        self.note(format!("tag {key:?} {version} {tags:?}"));
        self.tell(ChangeKind::Attributes, key, version, None);
    }

    /// Locks are only ever made longer.
    fn lock(&mut self, key: &Key) {
        if self.scenario.source == Versioning::Off || !self.scenario.targets_keep_versions() {
            return;
        }
        let Some(version) = self.some_version(key) else { return };
        let now = self.now();
        let until = Some(now.plus(Duration::from_secs(40 * 24 * 3600)));
        let lock = match self.dice.below(3) {
            0 => Lock { legal_hold: Some(true), ..Lock::default() },
            1 => Lock { legal_hold: Some(false), ..Lock::default() },
            _ => Lock { mode: Some("GOVERNANCE".to_owned()), retain_until: until, legal_hold: None },
        };
        self.bucket.lock().unwrap().put_lock(key, &Pick::Version(version.clone()), &lock, now).unwrap();
        self.note(format!("lock {key:?} {version} {lock:?}"));
        self.tell(ChangeKind::Attributes, key, version, None);
    }

    fn grant(&mut self, key: &Key) {
        let Some(version) = self.some_version(key) else { return };
        let mut grants = own_grants();
        if self.dice.per_mille(700) {
            grants.push(Grant { permission: "READ".to_owned(), grantee: "id=\"friend\"".to_owned() });
        }
        self.bucket.lock().unwrap().put_acl(key, &Pick::Version(version.clone()), &grants).unwrap();
        self.note(format!("grant {key:?} {version} {}", grants.len()));
        self.tell(ChangeKind::Attributes, key, version, None);
    }

    /// Versions that must be restored before they can be read.
    pub(super) fn archived(&self) -> Vec<(Key, VersionId)> {
        let bucket = self.bucket.lock().unwrap();
        let all = bucket.keys.iter().flat_map(|(key, all)| all.iter().map(move |stored| (key, stored)));
        let archived = all.filter(|(_, stored)| stored.object.as_ref().is_some_and(Object::is_archived));
        archived.map(|(key, stored)| (key.clone(), stored.version.clone())).collect()
    }

    fn thaw_one(&mut self) {
        let archived = self.archived();
        if !archived.is_empty() {
            let (key, version) = self.dice.pick(&archived);
            self.thaw(&key, version);
        }
    }

    /// Restores all that is archived.
    pub(super) fn thaw_all(&mut self) {
        for (key, version) in self.archived() {
            self.thaw(&key, version);
        }
    }

    fn thaw(&mut self, key: &Key, version: VersionId) {
        self.bucket.lock().unwrap().object_mut(key, &Pick::Version(version.clone())).unwrap().restored = true;
        self.note(format!("restore {key:?} {version}"));
        self.tell(ChangeKind::Restored, key, version, None);
    }

    /// A message that nobody can understand.
    fn babble(&mut self) {
        self.garbage += 1;
        self.note("babble".to_owned());
        self.queue.send(Content::Unreadable("it is no JSON".to_owned()), Duration::ZERO);
    }

    fn note(&mut self, what: String) {
        let at = self.start.elapsed().as_secs_f64();
        tracing::debug!("AUTHOR {what}");
        self.diary.push(format!("{at:.3} {}", what.replace(super::log::LONG, "k…")));
    }

    fn tell(&mut self, kind: ChangeKind, key: &Key, version: VersionId, what: Option<(u64, ETag, u64)>) {
        let (name, versioning) = {
            let bucket = self.bucket.lock().unwrap();
            (bucket.name.clone(), bucket.versioning)
        };
        let (order, etag, size) = match what {
            Some((order, etag, size)) => (Some(order), Some(etag), Some(size)),
            None => (None, None, None),
        };
        let object = kind == ChangeKind::Write;
        let change = Change {
            bucket: name,
            key: key.clone(),
            kind,
            version: if versioning == Versioning::Off { VersionId::null() } else { version },
            sequencer: order.map(|order| Sequencer::new(format!("{order:016X}"))),
            etag: etag.filter(|_| object),
            size: size.filter(|_| object),
            changed: self.now(),
            origin: Origin::Event,
        };
        if self.dice.per_mille(self.scenario.lost) {
            self.lost = true;
            self.note(format!("the event of {} is lost", change.version));
            return;
        }
        let content = Content::Changes { changes: vec![change], ignored: Vec::new(), unreadable: Vec::new() };
        for _ in 0..1 + u64::from(self.dice.per_mille(self.scenario.twice)) {
            let late = self.dice.per_mille(self.scenario.late);
            let after = if late {
                self.dice.below(60_000)
            } else {
                self.dice.below(if self.scenario.ordered { 1 } else { 50 })
            };
            self.queue.send(content.clone(), Duration::from_millis(after));
        }
    }
}
