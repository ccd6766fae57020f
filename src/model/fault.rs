//! What can go wrong, as a closed vocabulary with a verdict attached.
//!
//! A [`FaultKind`] is metric label, log field and retry key alike.

use std::borrow::Cow;
use std::fmt;

/// Everything that can go wrong with one call or one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// The service asks for fewer requests (503 `SlowDown`, KMS throttling).
    Throttled,
    /// Time-outs, resets, 5xx, truncated bodies, expired credentials: may pass by itself.
    Transient,
    /// A condition of a write did not hold (412), or another write was under way (409): look again and decide again.
    Raced,
    /// What was asked for is not there (any more): key, version, upload.
    Gone,
    /// Not permitted: policy, credentials, bucket owner.
    Denied,
    /// The KMS key is disabled, missing, in the wrong region or not permitted.
    KeyUnusable,
    /// The object is archived and must be restored before it can be read.
    Archived,
    /// The object cannot be replicated as it is (SSE-C, too large for the target).
    Ineligible,
    /// The target key holds an object that `repl` did not write and that an overwrite would destroy.
    Foreign,
    /// Bytes or checksums do not agree.
    Corrupt,
    /// The service rejects the request as such: no such bucket, wrong region, unsupported, malformed.
    Refused,
    /// The ledger cannot be written or read: nothing may be acknowledged any more.
    Ledger,
}

/// What to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try later, with jitter, for as long as it takes.
    Retry,
    /// Gather the facts again and decide again, at once.
    DecideAgain,
    /// The work has lost its object: settle it so.
    Drop,
    /// Park with all others of the same cause, until a probe passes.
    ParkGroup,
    /// Park this one; others of the same kind say nothing about it.
    ParkAlone,
    /// Stop the process: nothing may be acknowledged.
    Halt,
}

impl FaultKind {
    /// All kinds, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::Throttled,
        Self::Transient,
        Self::Raced,
        Self::Gone,
        Self::Denied,
        Self::KeyUnusable,
        Self::Archived,
        Self::Ineligible,
        Self::Foreign,
        Self::Corrupt,
        Self::Refused,
        Self::Ledger,
    ];

    /// The verdict: the one table that everybody obeys.
    #[must_use]
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Throttled | Self::Transient | Self::Corrupt => Disposition::Retry,
            Self::Raced => Disposition::DecideAgain,
            Self::Gone => Disposition::Drop,
            Self::Denied | Self::KeyUnusable | Self::Refused => Disposition::ParkGroup,
            Self::Archived | Self::Ineligible | Self::Foreign => Disposition::ParkAlone,
            Self::Ledger => Disposition::Halt,
        }
    }

    /// The name in logs, metrics, status and on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Raced => "raced",
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::KeyUnusable => "key-unusable",
            Self::Archived => "archived",
            Self::Ineligible => "ineligible",
            Self::Foreign => "foreign",
            Self::Corrupt => "corrupt",
            Self::Refused => "refused",
            Self::Ledger => "ledger",
        }
    }
}

/// On which side a fault arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The source bucket.
    Source,
    /// The target bucket.
    Target,
    /// The queue.
    Queue,
    /// The key service.
    Keys,
    /// Metrics and alarms.
    Monitoring,
    /// This machine.
    Local,
}

impl Side {
    /// The name in logs, status and on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Queue => "queue",
            Self::Keys => "keys",
            Self::Monitoring => "monitoring",
            Self::Local => "local",
        }
    }
}

impl Side {
    /// Where that is, in a sentence.
    #[must_use]
    pub fn place(self) -> &'static str {
        match self {
            Self::Source => "at the source",
            Self::Target => "at the target",
            Self::Queue => "at the queue",
            Self::Keys => "at the key service",
            Self::Monitoring => "for monitoring",
            Self::Local => "on this machine",
        }
    }
}

/// One thing that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing.
    pub kind: FaultKind,
    /// Where.
    pub side: Side,
    /// What was being done, as a verb phrase: "write object", "list versions".
    pub during: &'static str,
    /// The service's error code, where it gave one (`SlowDown`, `KMS.DisabledException`).
    pub code: Option<Cow<'static, str>>,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// The service's own words, or what was found: one sentence, no secrets.
    pub detail: String,
}

impl Fault {
    /// A fault without code or status.
    pub fn new(kind: FaultKind, side: Side, during: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, side, during, code: None, status: None, detail: detail.into() }
    }
}

impl fmt::Display for Fault {
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

impl std::error::Error for Fault {}
