//! One bucket as S3 keeps it: versions, delete markers, the null version, conditions, tags, ACLs, locks.
//!
//! Everything happens at once and at a given time; waiting and failing are the store's ([`super::store`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use repl::model::digest::{Algorithm, Checksum};
use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::{
    Attributes, ETag, Encryption, Head, Key, KeyOrder, Listed, Lock, Tags, Timestamp, VersionEntry, VersionId,
    Versioning,
};
use repl::ports::{Condition, Grant, ListFrom, NewObject, ObjectPage, Pick, Sealing, VersionPage, Written};

use super::digests;
use super::uploads::Opened;

/// S3's page of versions and of objects.
const PAGE: usize = 1000;

/// One object version's content.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    pub(crate) etag: ETag,
    pub(crate) attributes: Attributes,
    pub(crate) tags: Tags,
    pub(crate) grants: Vec<Grant>,
    pub(crate) encryption: Encryption,
    pub(crate) checksum: Option<Checksum>,
    /// The sizes of its parts, where it was written in parts.
    pub(crate) parts: Option<Vec<u64>>,
    /// Whether an archived object has been restored.
    pub(crate) restored: bool,
}

impl Object {
    /// Whether its bytes must be restored before they can be read.
    pub(crate) fn is_archived(&self) -> bool {
        matches!(self.attributes.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE")) && !self.restored
    }
}

/// One line of a key's history.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) version: VersionId,
    /// Its place among all versions: a multipart object takes that of its initiation.
    pub(crate) order: u64,
    pub(crate) modified: Timestamp,
    /// `None` for a delete marker.
    pub(crate) object: Option<Object>,
}

/// What a look at a key finds.
pub(crate) enum Look<'b> {
    Object(&'b Stored, &'b Object),
    Marker,
    Missing,
}

/// The bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) side: Side,
    pub(crate) versioning: Versioning,
    /// The versions of each key, oldest first.
    pub(crate) keys: BTreeMap<Key, Vec<Stored>>,
    /// Every version that ever was, permanently deleted ones too.
    pub(crate) ever: Vec<(Key, Stored)>,
    pub(crate) uploads: BTreeMap<String, Opened>,
    pub(super) next: u64,
    /// How many versions and markers were written, replaced ones included.
    pub(crate) writes: u64,
    /// The KMS keys of its region, each with whether it is enabled.
    pub(crate) sealing_keys: Arc<Mutex<BTreeMap<String, bool>>>,
}

/// Everything of a version that a writer gives, for the bucket to put in its place.
pub(super) struct Draft {
    pub(super) key: Key,
    pub(super) order: u64,
    pub(super) modified: Timestamp,
    pub(super) object: Object,
}

impl Bucket {
    pub(crate) fn new(name: &str, side: Side, versioning: Versioning) -> Self {
        Self {
            name: name.to_owned(),
            side,
            versioning,
            keys: BTreeMap::new(),
            ever: Vec::new(),
            uploads: BTreeMap::new(),
            next: 1,
            writes: 0,
            sealing_keys: Arc::default(),
        }
    }

    pub(super) fn order(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The place in the order that an event of now tells.
    pub(crate) fn order_of_event(&mut self) -> u64 {
        self.order()
    }

    pub(super) fn fault(&self, kind: FaultKind, status: u16, detail: impl Into<String>) -> Fault {
        Fault { status: Some(status), ..Fault::new(kind, self.side, "ask the bucket", detail) }
    }

    /// The current version or delete marker.
    pub(crate) fn current(&self, key: &Key) -> Option<&Stored> {
        self.keys.get(key)?.last()
    }

    pub(crate) fn look(&self, key: &Key, pick: &Pick) -> Look<'_> {
        let found = match pick {
            Pick::Current => self.current(key),
            Pick::Version(version) => {
                self.keys.get(key).and_then(|all| all.iter().find(|stored| stored.version == *version))
            }
        };
        match found {
            None => Look::Missing,
            Some(stored) => stored.object.as_ref().map_or(Look::Marker, |object| Look::Object(stored, object)),
        }
    }

    /// The content of a version, to be changed as its owner may.
    pub(crate) fn object_mut(&mut self, key: &Key, pick: &Pick) -> Result<&mut Object, Fault> {
        self.stored_mut(key, pick)
    }

    fn stored_mut(&mut self, key: &Key, pick: &Pick) -> Result<&mut Object, Fault> {
        let gone = self.fault(FaultKind::Gone, 404, "there is no such version");
        let all = self.keys.get_mut(key).ok_or_else(|| gone.clone())?;
        let found = match pick {
            Pick::Current => all.last_mut(),
            Pick::Version(version) => all.iter_mut().find(|stored| stored.version == *version),
        };
        found.and_then(|stored| stored.object.as_mut()).ok_or(gone)
    }

    pub(crate) fn holds(&self, key: &Key, condition: &Condition) -> Result<(), Fault> {
        let current = self.current(key).and_then(|stored| stored.object.as_ref());
        let holds = match condition {
            Condition::Any => true,
            Condition::Absent => current.is_none(),
            Condition::Matches(etag) => current.is_some_and(|object| object.etag == *etag),
        };
        let detail = "at least one of the preconditions did not hold";
        if holds { Ok(()) } else { Err(self.fault(FaultKind::Raced, 412, detail)) }
    }

    /// What S3 refuses of any new object.
    pub(super) fn permitted(&self, object: &NewObject, now: Timestamp) -> Result<(), Fault> {
        let metadata: usize = object.attributes.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if metadata > 2048 {
            return Err(self.fault(FaultKind::Ineligible, 400, "MetadataTooLarge"));
        }
        if object.key.as_str().len() > 1024 {
            return Err(self.fault(FaultKind::Ineligible, 400, "KeyTooLongError"));
        }
        if let Sealing::Kms(arn) | Sealing::Dsse(arn) = &object.sealing
            && self.sealing_keys.lock().unwrap().get(arn) != Some(&true)
        {
            return Err(self.fault(FaultKind::KeyUnusable, 400, "KMS.DisabledException"));
        }
        let lock = &object.attributes.lock;
        if object.tags.len() > 10 || lock.retain_until.is_some_and(|until| until <= now) {
            return Err(self.fault(
                FaultKind::Refused,
                400,
                "InvalidArgument: more than ten tags, or a date in the past",
            ));
        }
        Ok(())
    }

    /// A PUT. With a checksum the bytes must have it.
    pub(crate) fn put(
        &mut self,
        object: &NewObject,
        bytes: Bytes,
        (checksum, condition): (Option<&Checksum>, &Condition),
        now: Timestamp,
    ) -> Result<Written, Fault> {
        self.permitted(object, now)?;
        self.holds(&object.key, condition)?;
        let algorithm = checksum.map_or(Algorithm::Crc64Nvme, |checksum| checksum.algorithm);
        let computed = digests::full(algorithm, &bytes);
        if checksum.is_some_and(|checksum| *checksum != computed) {
            return Err(self.fault(FaultKind::Corrupt, 400, "BadDigest"));
        }
        let order = self.order();
        let object = self.sealed(object, bytes, computed, order);
        Ok(self.place(Draft { order, modified: now, ..object }))
    }

    fn sealed(&self, object: &NewObject, bytes: Bytes, checksum: Checksum, order: u64) -> Draft {
        let encryption = encryption(&object.sealing);
        let etag = match &encryption {
            Encryption::S3 => digests::etag(&bytes),
            _ => digests::etag(format!("sealed {order}").as_bytes()),
        };
        let content = Object {
            bytes,
            etag,
            attributes: object.attributes.clone(),
            tags: object.tags.clone(),
            grants: own_grants(),
            encryption,
            checksum: Some(checksum),
            parts: None,
            restored: false,
        };
        Draft { key: object.key.clone(), order, modified: Timestamp(0), object: content }
    }

    /// Puts a version in its place of its key's history.
    pub(super) fn place(&mut self, draft: Draft) -> Written {
        let Draft { key, order, modified, object } = draft;
        let version = match self.versioning {
            Versioning::Enabled => VersionId::new(format!("v{:04}{}", order, self.name)),
            Versioning::Off | Versioning::Suspended => VersionId::null(),
        };
        let written = Written {
            etag: object.etag.clone(),
            version: (self.versioning != Versioning::Off).then(|| version.clone()),
            encryption: object.encryption.clone(),
            checksum: object.checksum.clone(),
        };
        self.insert(key, Stored { version, order, modified, object: Some(object) });
        written
    }

    fn insert(&mut self, key: Key, stored: Stored) {
        self.writes += 1;
        self.ever.push((key.clone(), stored.clone()));
        let all = self.keys.entry(key).or_default();
        if stored.version.is_null() {
            all.retain(|other| !other.version.is_null());
        }
        let at = all.partition_point(|other| other.order < stored.order);
        all.insert(at, stored);
    }

    /// A DELETE without a version.
    pub(crate) fn delete(
        &mut self,
        key: &Key,
        condition: &Condition,
        now: Timestamp,
    ) -> Result<Option<VersionId>, Fault> {
        self.holds(key, condition)?;
        let order = self.order();
        let version = match self.versioning {
            Versioning::Off => {
                self.writes += u64::from(self.keys.remove(key).is_some());
                return Ok(None);
            }
            Versioning::Enabled => VersionId::new(format!("d{:04}{}", order, self.name)),
            Versioning::Suspended => VersionId::null(),
        };
        self.insert(key.clone(), Stored { version: version.clone(), order, modified: now, object: None });
        Ok(Some(version))
    }

    /// Deletes one version for good.
    pub(crate) fn delete_version(&mut self, key: &Key, version: &VersionId) {
        if let Some(all) = self.keys.get_mut(key) {
            all.retain(|stored| stored.version != *version);
            if all.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    pub(crate) fn tags(&self, key: &Key, pick: &Pick) -> Result<Tags, Fault> {
        self.object(key, pick).map(|object| object.tags.clone())
    }

    pub(crate) fn acl(&self, key: &Key, pick: &Pick) -> Result<Vec<Grant>, Fault> {
        self.object(key, pick).map(|object| object.grants.clone())
    }

    /// What is answered to whoever wants an archived object's bytes.
    pub(super) fn readable(&self, object: &Object) -> Result<(), Fault> {
        let archived = || Fault {
            code: Some("InvalidObjectState".into()),
            ..self.fault(FaultKind::Archived, 403, "the operation is not valid for the object's storage class")
        };
        if object.is_archived() { Err(archived()) } else { Ok(()) }
    }

    pub(super) fn object(&self, key: &Key, pick: &Pick) -> Result<&Object, Fault> {
        match self.look(key, pick) {
            Look::Object(_, object) => Ok(object),
            Look::Marker | Look::Missing => Err(self.fault(FaultKind::Gone, 404, "there is no such version")),
        }
    }

    pub(crate) fn put_tags(&mut self, key: &Key, pick: &Pick, tags: &Tags) -> Result<(), Fault> {
        tags.clone_into(&mut self.stored_mut(key, pick)?.tags);
        Ok(())
    }

    pub(crate) fn put_acl(&mut self, key: &Key, pick: &Pick, grants: &[Grant]) -> Result<(), Fault> {
        grants.clone_into(&mut self.stored_mut(key, pick)?.grants);
        Ok(())
    }

    pub(crate) fn put_lock(&mut self, key: &Key, pick: &Pick, lock: &Lock, now: Timestamp) -> Result<(), Fault> {
        if lock.retain_until.is_some_and(|until| until <= now) {
            return Err(self.fault(FaultKind::Refused, 400, "the retain until date must be in the future"));
        }
        let held = &mut self.stored_mut(key, pick)?.attributes.lock;
        if lock.mode.is_some() {
            held.mode.clone_from(&lock.mode);
            held.retain_until = lock.retain_until;
        }
        held.legal_hold = lock.legal_hold.or(held.legal_hold);
        Ok(())
    }

    pub(crate) fn list_objects(&self, prefix: &str, from: &ListFrom, most: usize) -> ObjectPage {
        let after = match from {
            ListFrom::Start => None,
            ListFrom::After(key) => Some(key.clone()),
            ListFrom::Token(token) => Some(Key::new(token)),
        };
        let mut listed = self
            .keys
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix) && after.as_ref().is_none_or(|after| *key > after))
            .filter_map(|(key, all)| {
                let stored = all.last()?;
                let object = stored.object.as_ref()?;
                Some(Listed {
                    key: key.clone(),
                    size: object.bytes.len() as u64,
                    etag: object.etag.clone(),
                    modified: stored.modified,
                    storage_class: object.attributes.storage_class.clone(),
                    checksum: object.checksum.as_ref().map(|checksum| (checksum.algorithm, checksum.kind)),
                })
            });
        let most = most.min(PAGE);
        let entries: Vec<Listed> = listed.by_ref().take(most).collect();
        let more = listed.next().is_some();
        let last = entries.last().filter(|_| more);
        let next = last.map(|last| ListFrom::Token(last.key.as_str().to_owned()));
        ObjectPage { entries, next, order: KeyOrder::Bytes }
    }

    pub(crate) fn list_versions(&self, prefix: &str, after: Option<&(Key, VersionId)>, most: usize) -> VersionPage {
        let mut lines = Vec::new();
        for (key, all) in self.keys.iter().filter(|(key, _)| key.as_str().starts_with(prefix)) {
            for (place, stored) in all.iter().rev().enumerate() {
                lines.push(entry(key, stored, place == 0));
            }
        }
        if let Some((key, version)) = after {
            let at = lines.iter().position(|line| line.key == *key && line.version == *version);
            let behind = lines.partition_point(|line| line.key <= *key);
            lines.drain(..at.map_or(behind, |at| at + 1));
        }
        let more = lines.len() > most.min(PAGE);
        lines.truncate(most.min(PAGE));
        let next = lines.last().filter(|_| more).map(|last| (last.key.clone(), last.version.clone()));
        VersionPage { entries: lines, next, order: KeyOrder::Bytes }
    }
}

/// The headers of a version; how many tags it has a GET tells, where there are any, and a HEAD never.
pub(crate) fn head(stored: &Stored, object: &Object, tag_count: Option<u32>) -> Head {
    Head {
        version: stored.version.clone(),
        etag: object.etag.clone(),
        size: object.bytes.len() as u64,
        modified: Timestamp(stored.modified.whole_seconds() * 1000),
        attributes: object.attributes.clone(),
        encryption: object.encryption.clone(),
        checksum: object.checksum.clone(),
        tag_count,
    }
}

fn entry(key: &Key, stored: &Stored, latest: bool) -> VersionEntry {
    let object = stored.object.as_ref();
    VersionEntry {
        key: key.clone(),
        version: stored.version.clone(),
        latest,
        modified: stored.modified,
        object: object.map(|object| (object.etag.clone(), object.bytes.len() as u64)),
        storage_class: object.and_then(|object| object.attributes.storage_class.clone()),
    }
}

pub(super) fn encryption(sealing: &Sealing) -> Encryption {
    match sealing {
        Sealing::BucketDefault => Encryption::S3,
        Sealing::Kms(arn) => Encryption::Kms(Some(arn.clone())),
        Sealing::Dsse(arn) => Encryption::Dsse(Some(arn.clone())),
    }
}

/// The ACL of an object that nobody was granted anything of.
pub(crate) fn own_grants() -> Vec<Grant> {
    vec![Grant { permission: "FULL_CONTROL".to_owned(), grantee: "id=\"owner\"".to_owned() }]
}
