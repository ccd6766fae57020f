//! What a job has to show for itself: the facts of its receipts.

use crate::audit::receipts::{Ending, Kind, Receipt, SourceSide, TargetSide, Verified};
use crate::ledger::Outcome;
use crate::model::digest::{Checksum, Means};
use crate::model::job::{Applied, ChangeKind, Job};
use crate::model::object::{ETag, Head, Timestamp, VersionEntry, VersionId};
use crate::ports::World;

use super::super::Shared;
use super::super::replicate::Finish;
use super::super::transfer::Landed;
use super::super::verify::Verdict;

/// One version that a job brought, or found at the target. `None` is "not known".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Brought {
    kind: Kind,
    version: VersionId,
    etag: Option<ETag>,
    checksum: Option<Checksum>,
    size: Option<u64>,
    modified: Option<Timestamp>,
    target_version: Option<VersionId>,
    target_etag: Option<ETag>,
    verified: Verified,
}

impl Brought {
    /// What has just become visible.
    pub(in crate::engine) fn landed(landed: &Landed) -> Self {
        let verified = match landed.verdict {
            Verdict::Exact(means) => Verified::By(means),
            Verdict::Unprovable(reason) => Verified::Unprovable(reason),
        };
        let (version, etag) = (landed.written.version.clone(), Some(landed.written.etag.clone()));
        Self { target_version: version, target_etag: etag, ..Self::of_source(&landed.head, Kind::Write, verified) }
    }

    /// What was found equal by a look at both sides.
    pub(in crate::engine) fn found(source: &Head, replica: &Head, means: Means) -> Self {
        let (version, etag) = (Some(replica.version.clone()), Some(replica.etag.clone()));
        let verified = Verified::By(means);
        Self { target_version: version, target_etag: etag, ..Self::of_source(source, Kind::Write, verified) }
    }

    /// A version whose tags, ACL and lock were brought, or found equal.
    pub(in crate::engine) fn attributes(source: &Head, replica: &Head) -> Self {
        Self { kind: Kind::Attributes, ..Self::found(source, replica, Means::Stamp) }
    }

    /// What two listings show: the source's line and that of its replica, known as such by these means.
    pub(in crate::engine) fn listed(source: &VersionEntry, replica: &VersionEntry, means: Means) -> Self {
        let Some((etag, size)) = &source.object else {
            return Self::marker(&source.version, source.modified, Some(replica.version.clone()));
        };
        Self {
            kind: Kind::Write,
            version: source.version.clone(),
            etag: Some(etag.clone()),
            checksum: None,
            size: Some(*size),
            modified: Some(source.modified),
            target_version: Some(replica.version.clone()),
            target_etag: replica.object.as_ref().map(|(etag, _)| etag.clone()),
            verified: Verified::By(means),
        }
    }

    /// What the ledger remembers.
    pub(in crate::engine) fn remembered(applied: &Applied, size: Option<u64>) -> Self {
        let (kind, verified) = if applied.marker {
            (Kind::DeleteMarker, Verified::NoBytes)
        } else {
            (Kind::Write, Verified::By(Means::Ledger))
        };
        Self {
            kind,
            version: applied.version.clone(),
            etag: applied.source_etag.clone(),
            checksum: None,
            size,
            modified: Some(applied.modified),
            target_version: applied.target_version.clone(),
            target_etag: applied.target_etag.clone(),
            verified,
        }
    }

    /// A delete marker.
    pub(in crate::engine) fn marker(version: &VersionId, modified: Timestamp, target: Option<VersionId>) -> Self {
        Self {
            kind: Kind::DeleteMarker,
            version: version.clone(),
            etag: None,
            checksum: None,
            size: None,
            modified: Some(modified),
            target_version: target,
            target_etag: None,
            verified: Verified::NoBytes,
        }
    }

    /// The same with the source's headers, which have just been read.
    pub(in crate::engine) fn read(self, head: &Head) -> Self {
        let (kind, verified) = (self.kind, self.verified);
        let (target_version, target_etag) = (self.target_version, self.target_etag);
        Self { target_version, target_etag, ..Self::of_source(head, kind, verified) }
    }

    fn of_source(head: &Head, kind: Kind, verified: Verified) -> Self {
        Self {
            kind,
            version: head.version.clone(),
            etag: Some(head.etag.clone()),
            checksum: head.checksum.clone(),
            size: Some(head.size),
            modified: Some(head.modified),
            target_version: None,
            target_etag: None,
            verified,
        }
    }

    /// All that a job itself tells, where nothing more was looked at.
    fn of_job(job: &Job) -> Self {
        let kind = match job.kind {
            ChangeKind::Write | ChangeKind::Restored | ChangeKind::Mend => Kind::Write,
            ChangeKind::Attributes => Kind::Attributes,
            ChangeKind::DeleteMarker => return Self::marker(&job.version, job.changed, None),
        };
        let verified =
            Verified::Unprovable("a newer version is there already, so this one's replica was not looked at");
        Self {
            kind,
            version: job.version.clone(),
            etag: job.etag.clone(),
            checksum: None,
            size: job.size,
            modified: None,
            target_version: None,
            target_etag: None,
            verified,
        }
    }
}

/// The receipts of a job that ends so: none unless the target was changed or is equal.
pub(in crate::engine) fn of<W: World>(shared: &Shared<W>, job: &Job, finish: &Finish, now: Timestamp) -> Vec<Receipt> {
    let ending = match finish.outcome {
        Outcome::Replicated => Ending::Replicated,
        Outcome::AlreadyEqual => Ending::AlreadyEqual,
        Outcome::Superseded | Outcome::NotReplicated(_) | Outcome::Gone => return Vec::new(),
    };
    let Some(target) = shared.settings.targets.get(&job.target).filter(|_| shared.desk.is_some()) else {
        return Vec::new();
    };
    let lone = [Brought::of_job(job)];
    let brought: &[Brought] = if finish.brought.is_empty() { &lone } else { &finish.brought };
    let receipt = |brought: &Brought| Receipt {
        settled: now,
        kind: brought.kind,
        ending,
        rule: job.rule.clone(),
        target_id: job.target.clone(),
        source: SourceSide {
            bucket: shared.settings.source_bucket.clone(),
            key: job.key.clone(),
            version: brought.version.clone(),
            etag: brought.etag.clone(),
            checksum: brought.checksum.clone(),
            size: brought.size,
            modified: brought.modified,
        },
        target: TargetSide {
            bucket: target.bucket.clone(),
            key: job.target_key.clone(),
            version: brought.target_version.clone(),
            etag: brought.target_etag.clone(),
        },
        verified: brought.verified,
        lag: now.since(job.changed),
    };
    brought.iter().map(receipt).collect()
}
