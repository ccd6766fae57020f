//! The unit of work: one change of one source key, to be brought to one target.

use super::object::{ETag, Key, RuleId, Sequencer, TargetId, Timestamp, VersionId};

/// What changed at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// A version was written.
    Write,
    /// A delete marker was made.
    DeleteMarker,
    /// Tags, ACL or retention of an existing version changed.
    Attributes,
    /// An archived version was restored and can be read now.
    Restored,
    /// Nothing: a comparison found the replica of the current version unlike it, perhaps only in what is beside bytes.
    Mend,
}

/// Who says that something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An event of the queue: a hint from outside.
    Event,
    /// A comparison of both sides that an operator asked for.
    Scan,
}

/// One change, as an event or a listing tells it. A hint: the bucket decides (P4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The source bucket.
    pub bucket: String,
    /// The decoded key.
    pub key: Key,
    /// What happened.
    pub kind: ChangeKind,
    /// Which version; null where none was named.
    pub version: VersionId,
    /// The order among changes of this key, where told.
    pub sequencer: Option<Sequencer>,
    /// The ETag, where told.
    pub etag: Option<ETag>,
    /// The size in bytes, where told.
    pub size: Option<u64>,
    /// When it happened at the source.
    pub changed: Timestamp,
    /// Who says so.
    pub origin: Origin,
}

/// One change to be brought to one target. Its identity is target, source key, version and kind: admitted twice, it
/// is one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Where to.
    pub target: TargetId,
    /// The rule that claims it by prefix; a rule with tags decides again when the object's tags are known.
    pub rule: RuleId,
    /// The source key.
    pub key: Key,
    /// The key at the target.
    pub target_key: Key,
    /// What happened.
    pub kind: ChangeKind,
    /// Which version.
    pub version: VersionId,
    /// The order among changes of this key, where told.
    pub sequencer: Option<Sequencer>,
    /// The ETag, where told.
    pub etag: Option<ETag>,
    /// The size in bytes, where told.
    pub size: Option<u64>,
    /// When it happened at the source.
    pub changed: Timestamp,
    /// Who says so.
    pub origin: Origin,
}

impl Job {
    /// Whether both describe the same work. A null version's content may change under one id, so there the ETag and
    /// the sequencer belong to the identity too.
    #[must_use]
    pub fn same_work(&self, other: &Self) -> bool {
        self.target == other.target
            && self.key == other.key
            && self.target_key == other.target_key
            && self.kind == other.kind
            && self.version == other.version
            && (!self.version.is_null() || (self.etag == other.etag && self.sequencer == other.sequencer))
    }
}

/// What `repl` last applied to one target key: the memory behind the two-request path (DESIGN 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The source version.
    pub version: VersionId,
    /// Whether it was a delete marker.
    pub marker: bool,
    /// The source's ETag; `None` for a marker.
    pub source_etag: Option<ETag>,
    /// The source's `Last-Modified`.
    pub modified: Timestamp,
    /// The sequencer of the change that led to it, where told.
    pub sequencer: Option<Sequencer>,
    /// The target's ETag afterwards; `None` for a marker.
    pub target_etag: Option<ETag>,
    /// The target's version id afterwards, where it has versions.
    pub target_version: Option<VersionId>,
}
