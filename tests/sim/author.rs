//! Who writes the source: every change is made, and told to the queue, perhaps late, twice or never.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use repl::model::job::{Change, ChangeKind, Origin};
use repl::model::object::{Attributes, ETag, Key, Sequencer, Tags, Timestamp, VersionId, Versioning};
use repl::ports::{Completion, Condition, Content, NewObject, Pick, Sealing, UploadRef};
use tokio::time::Instant;

use super::scenario::Scenario;
use super::world::bucket::Bucket;
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
    /// What was done, for people.
    pub(super) diary: Vec<String>,
}

impl Author {
    /// Changes something, perhaps of this key.
    pub(super) fn act(&mut self, of: Option<&Key>) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let keys = self.scenario.keys.clone();
        let key = of.cloned().unwrap_or_else(|| Key::new(self.dice.pick(&keys)));
        match self.dice.below(100) {
            0..60 => self.write(&key),
            60..66 => self.write_again(&key),
            66..84 => self.delete(&key),
            84..90 if self.scenario.purges => self.purge(&key),
            _ => self.tag(&key),
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
        if self.dice.per_mille(50) {
            // No room for a stamp beside it.
            self.unstamped = true;
            attributes.metadata.insert("long".to_owned(), "m".repeat(1990));
        }
        let mut tags = Tags::new();
        if self.dice.per_mille(200) {
            tags.insert("class".to_owned(), self.dice.pick(&["gold", "tin"]).to_owned());
        }
        NewObject { key: key.clone(), attributes, tags, sealing: Sealing::BucketDefault, owner_full_control: false }
    }

    fn write(&mut self, key: &Key) {
        let object = self.new_object(key);
        if self.scenario.large && self.dice.per_mille(250) {
            return self.write_parts(object);
        }
        let size = self.dice.pick(&[0, 1, 100, 4_000, 300_000, 600_000]);
        let fill = self.dice.below(256) as u8;
        let mut bytes = vec![fill; size];
        bytes.truncate(bytes.len().saturating_sub(self.dice.below(3) as usize));
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
            (written, bucket.current(&object.key).unwrap().order)
        };
        let version = written.version.unwrap_or_else(VersionId::null);
        self.note(format!("put {:?} {version} of {size} bytes, {}", object.key, written.etag));
        self.tell(ChangeKind::Write, &object.key, version, Some((order, written.etag, size)));
    }

    fn write_parts(&mut self, object: NewObject) {
        let (now, key) = (self.now(), object.key.clone());
        let fill = self.dice.below(256) as u8;
        let tail = self.dice.between(1, 50_000) as usize;
        let sizes = if self.dice.per_mille(500) { vec![tail] } else { vec![5 << 20, tail] };
        let (written, order, size) = {
            let mut bucket = self.bucket.lock().unwrap();
            let open = bucket.create_upload(&object, None, now).unwrap();
            let upload = UploadRef { key: &key, id: &open.id };
            for (number, size) in (1..).zip(&sizes) {
                bucket.upload_part(upload, number, vec![fill.wrapping_add(number as u8); *size].into(), None).unwrap();
            }
            let parts = bucket.list_parts(upload).unwrap();
            let size = sizes.iter().sum::<usize>() as u64;
            let completion = Completion { parts, size, checksum: None, sent: open.checksum, condition: Condition::Any };
            let written = bucket.complete_upload(upload, &completion).unwrap();
            (written, bucket.order_of_event(), size)
        };
        let version = written.version.unwrap_or_else(VersionId::null);
        self.note(format!("put {key:?} {version} in {} parts, {}", sizes.len(), written.etag));
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

    fn tag(&mut self, key: &Key) {
        let version = {
            let bucket = self.bucket.lock().unwrap();
            let Some(all) = bucket.keys.get(key) else { return };
            let stored = &all[self.dice.below(all.len() as u64) as usize];
            if stored.object.is_none() {
                return;
            }
            stored.version.clone()
        };
        let tags = Tags::from([("class".to_owned(), self.dice.pick(&["gold", "tin", "lead"]).to_owned())]);
        self.bucket.lock().unwrap().put_tags(key, &Pick::Version(version.clone()), &tags).unwrap();
        self.note(format!("tag {key:?} {version} {tags:?}"));
        self.tell(ChangeKind::Attributes, key, version, None);
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
            let after = if late { self.dice.below(60_000) } else { self.dice.below(50) };
            self.queue.send(content.clone(), Duration::from_millis(after));
        }
    }
}
