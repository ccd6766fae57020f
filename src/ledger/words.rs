//! What goes into the ledger and what comes out, in the words of its callers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::job::{Applied, ChangeKind, Job};
use crate::model::limits::Limits;
use crate::model::object::{ETag, Key, RuleId, Sequencer, TargetId, Timestamp, VersionId};
use crate::ports::{Ignored, UploadChecksum};

/// The number of one job, given at its admission and kept until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(super) u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of one group of parked jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything that one group of messages, or one page of a listing, brings: on disk all together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Work to do.
    pub jobs: Vec<Job>,
    /// Messages that could not be understood.
    pub quarantined: Vec<Quarantined>,
    /// Messages of the quarantine that this brings: they leave it.
    pub understood: Vec<u64>,
    /// Records that ask for nothing, with the reason.
    pub ignored: Vec<Ignored>,
    /// The name of a scan and how far it is now.
    pub cursor: Option<(String, Vec<u8>)>,
    /// The time.
    pub now: Timestamp,
}

/// What became of an admission. It is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The job of each admitted one, in the same order; work already pending keeps its number.
    pub ids: Vec<JobId>,
    /// How many of them are new.
    pub new: u64,
    /// The queue's ids of messages for which the quarantine has no room: they are not on disk and may not be
    /// acknowledged.
    pub turned_away: Vec<String>,
    /// Those of `ids` that the brake holds already: nothing follows on them before it is released.
    pub held: Vec<JobId>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target was changed.
    Replicated,
    /// The target was equal already.
    AlreadyEqual,
    /// A newer change made it needless.
    Superseded,
    /// No rule asks for it: the reason, kept for `repl why`.
    NotReplicated(String),
    /// The source has it no more.
    Gone,
}

/// The end of one or more jobs of one key.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// How they ended.
    pub outcome: Outcome,
    /// What is at the target now.
    pub applied: Option<Applied>,
    /// The mappings of replicas that carry no stamp: several where a late version brought its newer siblings.
    pub replicas: Vec<Replica>,
    /// Bytes of object content brought over.
    pub bytes: u64,
    /// Whether the replica could be compared with its source (P5).
    pub provable: bool,
    /// The time.
    pub now: Timestamp,
}

/// What became of a settlement: applied, and durable with the next flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The jobs settled.
    pub ids: Vec<JobId>,
    /// Time from the first one's change at the source to now.
    pub lag: Duration,
}

/// Which source version a replica without a stamp holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The source version.
    pub source_version: VersionId,
    /// Its ETag.
    pub source_etag: ETag,
    /// Its `Last-Modified`.
    pub modified: Timestamp,
    /// The target's version, where it has versions.
    pub target_version: Option<VersionId>,
    /// The target's ETag.
    pub target_etag: ETag,
}

/// The sizes of an upload's parts, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartSizes {
    /// All alike but the last.
    Uniform {
        /// Size of every part but the last.
        size: u64,
        /// How many parts there are, the last one included.
        count: u32,
        /// Size of the last part.
        last: u64,
    },
    /// Each as told.
    Explicit(Vec<u64>),
}

impl PartSizes {
    /// The compact form of a list.
    #[must_use]
    pub fn of(sizes: &[u64]) -> Self {
        let uniform = sizes.split_last().and_then(|(last, rest)| {
            let size = rest.first().copied().unwrap_or(*last);
            let count = u32::try_from(sizes.len()).ok()?;
            rest.iter().all(|other| *other == size).then_some(Self::Uniform { size, count, last: *last })
        });
        uniform.unwrap_or_else(|| Self::Explicit(sizes.to_vec()))
    }

    /// The sizes one by one.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u64> {
        match self {
            Self::Uniform { size, count, last } => {
                let before = usize::try_from(count.saturating_sub(1)).unwrap_or(0);
                let mut sizes = vec![*size; before];
                sizes.extend((*count > 0).then_some(*last));
                sizes
            }
            Self::Explicit(sizes) => sizes.clone(),
        }
    }
}

/// A multipart upload that is open at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its id at the target.
    pub id: String,
    /// The source version whose bytes it takes.
    pub source_version: VersionId,
    /// That version's ETag.
    pub source_etag: ETag,
    /// The parts it is made of.
    pub part_sizes: PartSizes,
    /// The checksum under which it runs.
    pub checksum: Option<UploadChecksum>,
    /// When it was opened.
    pub opened: Timestamp,
    /// The ETag of the object that was current at the target then: a multipart object is as old as its initiation, so
    /// the upload may only go on while nothing else has been written there.
    pub over: Option<ETag>,
}

/// One part that the target has taken, with what its bytes come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentPart {
    /// 1 to 10,000.
    pub number: u32,
    /// The part's ETag at the target.
    pub etag: ETag,
    /// Its length in bytes.
    pub size: u64,
    /// Its checksum, in base64, in the algorithm of the upload's worker.
    pub checksum: String,
    /// Its MD5 in base64, where it was taken.
    pub md5: Option<String>,
}

/// The end of a job that nobody settled: the ledger itself found that it is not to be done any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The job.
    pub id: JobId,
    /// The job that does its work now; `None` where an operator dropped it.
    pub into: Option<JobId>,
}

/// A number of operations and their bytes, as far as told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Operations.
    pub operations: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Count {
    pub(super) fn add(&mut self, bytes: u64) {
        self.operations = self.operations.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.operations = self.operations.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The totals of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTotals {
    /// Ready, claimed or deferred.
    pub pending: Count,
    /// Parked.
    pub parked: Count,
    /// Held by the brake.
    pub held: Count,
    /// Brought over since the ledger was made.
    pub replicated: Count,
}

/// What the ledger holds and has seen since it was made. `admitted` is the sum of `pending`, `parked`, `held`,
/// `replicated`, `already_equal`, `superseded`, `not_replicated`, `gone` and `dropped` operations, at every moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Jobs ever admitted as new.
    pub admitted: u64,
    /// Ready, claimed or deferred.
    pub pending: Count,
    /// Parked.
    pub parked: Count,
    /// Held by the brake.
    pub held: Count,
    /// Claims that are out now; not kept over a restart.
    pub in_flight: u64,
    /// Brought over.
    pub replicated: Count,
    /// Found equal.
    pub already_equal: u64,
    /// Made needless by newer changes.
    pub superseded: u64,
    /// Asked for by no rule.
    pub not_replicated: u64,
    /// No more at the source.
    pub gone: u64,
    /// Parked and dropped by an operator.
    pub dropped: u64,
    /// Messages in the quarantine.
    pub quarantined: u64,
    /// Their bytes.
    pub quarantined_bytes: u64,
    /// Messages left in the queue because the quarantine is full, each time they came; not kept over a restart.
    pub turned_away: u64,
    /// Replicas whose mapping lives here only.
    pub unstamped: u64,
    /// Replicas that could not be compared with their source.
    pub unprovable: u64,
    /// The same by rule.
    pub by_rule: BTreeMap<RuleId, RuleTotals>,
}

/// A fault as it was kept: like [`Fault`], with its own text of what was being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFault {
    /// What kind of thing went wrong.
    pub kind: FaultKind,
    /// Where.
    pub side: Side,
    /// What was being done.
    pub during: String,
    /// The service's error code.
    pub code: Option<String>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The service's own words, cut to 512 bytes.
    pub detail: String,
}

/// A service's own words are kept to this length: enough for the sentence, not for an HTML page.
const DETAIL_BYTES: usize = 512;

impl KeptFault {
    pub(super) fn of(fault: &Fault) -> Self {
        let mut end = fault.detail.len().min(DETAIL_BYTES);
        while !fault.detail.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            kind: fault.kind,
            side: fault.side,
            during: fault.during.to_owned(),
            code: fault.code.as_ref().map(|code| code.clone().into_owned()),
            status: fault.status,
            detail: fault.detail.get(..end).unwrap_or_default().to_owned(),
        }
    }

    pub(super) fn to_fault(&self) -> Fault {
        Fault {
            kind: self.kind,
            side: self.side,
            during: "do a parked job",
            code: self.code.clone().map(Into::into),
            status: self.status,
            detail: self.detail.clone(),
        }
    }
}

impl fmt::Display for KeptFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {} {}: ", self.during, self.side.place())?;
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        } else if let Some(status) = self.status {
            write!(f, "HTTP {status}: ")?;
        }
        f.write_str(&self.detail)
    }
}

/// Parked jobs of one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    /// The kind of fault.
    pub kind: FaultKind,
    /// Where it arose.
    pub side: Side,
    /// What makes the group one, for people: kind, code, target and rule.
    pub cause: String,
    /// The last fault; its `during` is general, the exact one is in `during`.
    pub fault: Fault,
    /// What was being done when it arose.
    pub during: String,
    /// The target of its jobs.
    pub target: TargetId,
    /// The rule of its jobs; `None` where jobs of several rules stand together.
    pub rule: Option<RuleId>,
    /// Jobs in it.
    pub count: u64,
    /// Their bytes, as far as told.
    pub bytes: u64,
    /// The oldest change in it.
    pub oldest: Timestamp,
    /// The source key of that change.
    pub example: Key,
    /// When the next probe may go out.
    pub next_probe: Timestamp,
    /// Probes that failed so far.
    pub probes: u32,
}

/// The brake of one target (P11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brake {
    /// The target.
    pub target: TargetId,
    /// Since when its deletes are held, and why; `None` while they go.
    pub tripped: Option<(Timestamp, String)>,
    /// Deletes that are held.
    pub held: u64,
    /// Deletes that went within the last hour, since the last release.
    pub in_hour: u64,
    /// The keys that the target had when it was last counted, and when that was.
    pub keys: Option<(u64, Timestamp)>,
}

/// What the brake says to a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It may go; it is counted.
    Free,
    /// It is held, like others before it. Its job waits for an operator.
    Held,
    /// It is held as the first one, for this reason.
    Tripped(String),
    /// A write of its key has come since it was claimed: to be decided again, as it may hide nothing any more.
    Overtaken,
}

/// Which parked jobs. None of them takes in what the brake holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// Those of one group.
    Group(GroupId),
    /// Those of one source key.
    Key(Key),
    /// Those whose source key begins so.
    Prefix(String),
    /// All.
    All,
}

/// A message that could not be understood, kept as evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its number; 0 when it is admitted.
    pub id: u64,
    /// The queue's message id.
    pub message_id: String,
    /// Why it could not be understood.
    pub reason: String,
    /// When it was received.
    pub received: Timestamp,
    /// The body as it came.
    pub body: String,
}

/// What an operator asked of the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Whether work stands still.
    pub paused: bool,
    /// Until when; `None` until resumed.
    pub paused_until: Option<Timestamp>,
}

impl Control {
    /// Whether work stands still at that time: a pause with an end is over by itself.
    #[must_use]
    pub fn is_paused(&self, now: Timestamp) -> bool {
        self.paused && self.paused_until.is_none_or(|until| until > now)
    }

    /// When the pause that holds at that time is over by itself; `None` where none does, or only a resume ends it.
    #[must_use]
    pub fn pause_ends(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|_| self.is_paused(now))
    }
}

/// Where a job of a [`Story`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Claimed or about to be.
    Ready,
    /// Waiting until then.
    Deferred(Timestamp),
    /// In that group.
    Parked(GroupId),
    /// Held by the brake.
    Held,
}

/// One unfinished job of a [`Story`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// Its number.
    pub id: JobId,
    /// The job.
    pub job: Job,
    /// Where it stands.
    pub standing: Standing,
    /// Attempts that failed so far.
    pub attempts: u32,
    /// What went wrong last.
    pub fault: Option<KeptFault>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The target, where the reason is about one.
    pub target: Option<TargetId>,
    /// The version it is about.
    pub version: VersionId,
    /// The reason.
    pub reason: String,
    /// When it was noted.
    pub noted: Timestamp,
}

/// All that the ledger knows of one source key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// Unfinished jobs in source order, at most 1,000 for a target.
    pub jobs: Vec<Chapter>,
    /// What was last applied, by target and target key.
    pub applied: Vec<(TargetId, Key, Applied)>,
    /// What was not done and why, oldest first; old notes are forgotten.
    pub notes: Vec<Note>,
    /// What happened of late, oldest first; older happenings are forgotten.
    pub happenings: Vec<Happening>,
}

/// One thing that happened to a version of a key on its way to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// The target.
    pub target: TargetId,
    /// The source version.
    pub version: VersionId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happened,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// An event told of a change.
    Told {
        /// Of which kind.
        kind: ChangeKind,
        /// Its place in the order of the key's changes, where told.
        sequencer: Option<Sequencer>,
        /// When the change was made.
        changed: Timestamp,
    },
    /// An attempt failed.
    Failed {
        /// Why.
        fault: KeptFault,
        /// And what then.
        next: Next,
    },
    /// The work ended.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// What follows on a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, at that time.
    Retry(Timestamp),
    /// It waits in that group.
    Parked(GroupId),
}

/// Limits that an operator has set, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limiting {
    /// What was set.
    pub limits: Limits,
    /// Until when; `None` until reset.
    pub until: Option<Timestamp>,
}

impl Limiting {
    /// What of it holds at that time.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Limits {
        if self.until.is_none_or(|until| until > now) { self.limits } else { Limits::default() }
    }
}
