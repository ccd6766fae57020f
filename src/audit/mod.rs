//! Floor 3: comparing both sides, read-only, and the lasting evidence of what was brought.
//!
//! *Secret kept:* how two listings are walked side by side at any size, what counts as proof of equality, and how
//! receipts are spelled and chained. *May touch:* `model`, `plan`, `ports`: reads only, never a write. *Must not know:*
//! the ledger (a worker may have it open), the engine, the SDKs, files and terminals.
//!
//! The format of receipts and the check of their chain live here too, in [`receipts`]; who writes and uploads them is
//! the engine's affair.
//!
//! Memory does not depend on the number of keys: listings are streamed, looks at single objects are bounded, bodies
//! are compared piece by piece. What could not be listed or looked at is said, never left out in silence (P8).

pub mod compare;
mod content;
pub mod explain;
mod extra;
pub mod foresee;
mod history;
mod judge;
mod look;
pub mod range;
pub mod receipts;
pub mod report;
pub mod sample;
mod split;
mod walk;

use std::future::Future;

use crate::model::fault::{Fault, Side};
use crate::model::object::{ETag, Head, Key, Listed, RuleId, TargetId, Timestamp, VersionEntry, VersionId};
use crate::plan::route::Rule;

pub use walk::walk;

/// What one comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Proven equal.
    Identical,
    /// At the source and not at the target.
    Missing,
    /// On both sides and not equal.
    Different,
    /// At the target and not at the source, and nothing says that it belongs there.
    Extra,
    /// Gone or replaced at the source, and rightly still at the target: the rule, or P4, leaves it there.
    Kept,
    /// Neither equality nor a difference could be proven.
    Unprovable,
}

impl Verdict {
    /// All of them, for tables.
    pub const ALL: [Self; 6] =
        [Self::Identical, Self::Missing, Self::Different, Self::Extra, Self::Kept, Self::Unprovable];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Missing => "missing",
            Self::Different => "different",
            Self::Extra => "extra",
            Self::Kept => "kept",
            Self::Unprovable => "unprovable",
        }
    }
}

/// Whether a comparison goes further in some respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Further {
    /// Yes.
    Look,
    /// No.
    Skip,
}

/// What is compared, and how closely.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All rules, disabled ones too.
    pub rules: Vec<Rule>,
    /// The source bucket, as stamps name it.
    pub source_bucket: String,
    /// Only source keys that begin so; empty for all.
    pub prefix: String,
    /// Only objects for which this rule holds.
    pub only: Option<RuleId>,
    /// Which keys.
    pub sample: sample::Sample,
    /// Whether the bytes of both sides are read.
    pub bytes: Further,
    /// Whether headers, user metadata, lock and key are compared.
    pub metadata: Further,
    /// Whether tags are compared.
    pub tags: Further,
    /// Whether all versions are compared, where the rule brings them.
    pub versions: Further,
    /// Looks at single objects under way at once; at least one.
    pub looks: usize,
    /// When this comparison began: what changed since is looked at again before it is called a difference.
    pub started: Timestamp,
}

/// What was seen of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its version, where known: listings of current objects do not tell.
    pub version: Option<VersionId>,
    /// Its ETag; `None` for a delete marker.
    pub etag: Option<ETag>,
    /// Its length in bytes; `None` for a delete marker.
    pub size: Option<u64>,
    /// When it was stored.
    pub modified: Timestamp,
    /// Its storage class; `None` is `STANDARD`.
    pub storage_class: Option<String>,
}

impl From<&Listed> for Seen {
    fn from(listed: &Listed) -> Self {
        Self {
            version: None,
            etag: Some(listed.etag.clone()),
            size: Some(listed.size),
            modified: listed.modified,
            storage_class: listed.storage_class.clone(),
        }
    }
}

impl From<&Head> for Seen {
    fn from(head: &Head) -> Self {
        let version = Some(head.version.clone());
        let storage_class = head.attributes.storage_class.clone();
        Self { version, etag: Some(head.etag.clone()), size: Some(head.size), modified: head.modified, storage_class }
    }
}

impl From<&VersionEntry> for Seen {
    fn from(entry: &VersionEntry) -> Self {
        let (etag, size) = entry.object.clone().unzip();
        let storage_class = entry.storage_class.clone();
        Self { version: Some(entry.version.clone()), etag, size, modified: entry.modified, storage_class }
    }
}

/// The outcome for one object, or one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// At which target.
    pub target: TargetId,
    /// The rule that holds, where it was told.
    pub rule: Option<RuleId>,
    /// The source key.
    pub key: Key,
    /// The key at the target.
    pub target_key: Key,
    /// What was seen at the source.
    pub source: Option<Seen>,
    /// What was seen at the target.
    pub replica: Option<Seen>,
    /// The verdict.
    pub verdict: Verdict,
    /// What proves it, in one word: `etag`, `size`, `checksum`, `stamp`, `bytes`, `metadata`, `tags`, `listing`, …
    pub by: &'static str,
    /// What proves it, as a person reads it.
    pub evidence: String,
    /// The fault that stood in the way, where it is a state of the world and not of this object: the comparison is
    /// incomplete then.
    pub obstacle: Option<Fault>,
}

/// What a comparison tells as it goes, in key order within each scope.
#[derive(Clone, Debug)]
pub enum Told {
    /// One outcome.
    Finding(Box<Finding>),
    /// A part of one listing failed: the keys in it were not compared.
    Hole {
        /// On which side.
        side: Side,
        /// For which target.
        target: TargetId,
        /// Which keys, and why.
        hole: range::Hole,
    },
}

/// Who is told. A walk waits for its listener, so that one who admits work can hold it back.
pub trait Listener: Send {
    /// Takes one outcome; a fault ends the walk.
    fn tell(&mut self, told: Told) -> impl Future<Output = Result<(), Fault>> + Send;
}

impl<F: FnMut(Told) -> Result<(), Fault> + Send> Listener for F {
    async fn tell(&mut self, told: Told) -> Result<(), Fault> {
        self(told)
    }
}
