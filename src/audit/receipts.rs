//! Receipts: what was brought, line by line, each line bound to the one before.
//!
//! A file holds JSON lines: an opening line, one line per version that a settled job brought or found at the target,
//! and a closing line. Every line carries `prev`, the SHA-256 (hex) of the line before without its line feed; the
//! opening line carries that of the file before. The closing line holds nothing that the lines before it do not
//! determine, so that the very last line of a file cannot be changed unseen either. Removing the newest files leaves a
//! shorter, whole chain: only its head, as `repl status` tells it, shows that.
//!
//! The chain has no key: it shows that a copy was altered, not that the writer told the truth.

mod check;
mod pack;

pub use check::{Break, Chained, Checked, Reader, Sheet, check};
pub use pack::{pack, unpack};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::digest::{Checksum, ChecksumType, Means};
use crate::model::object::{ETag, Key, RuleId, TargetId, Timestamp, VersionId};

/// The version of this spelling; a reader refuses any other.
pub const FORMAT: u32 = 1;
/// `prev` of a chain's first line.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The longest line that is read, in bytes: two keys of 1,024 bytes, six bytes each when escaped, and ample room.
pub const LONGEST_LINE: usize = 64 << 10;

/// Breaks of one file that are told one by one: what breaks more often is another file altogether.
pub const MOST_BREAKS: usize = 1000;

/// What a receipt is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A version.
    Write,
    /// A delete marker.
    DeleteMarker,
    /// Tags, ACL, retention or legal hold of a version.
    Attributes,
}

/// Whether the target was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was.
    Replicated,
    /// It was equal already.
    AlreadyEqual,
}

/// How sure it is that both sides are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Shown by these means.
    By(Means),
    /// Not to be shown: why.
    Unprovable(&'static str),
    /// A delete marker has no bytes to compare.
    NoBytes,
}

/// The source's side of a receipt; `None` is "not known".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSide {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: Key,
    /// The version.
    pub version: VersionId,
    /// Its `ETag`.
    pub etag: Option<ETag>,
    /// The checksum that the source stores.
    pub checksum: Option<Checksum>,
    /// Its length in bytes.
    pub size: Option<u64>,
    /// Its `Last-Modified`.
    pub modified: Option<Timestamp>,
}

/// The target's side of a receipt; `None` is "not known".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSide {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: Key,
    /// The version, where the bucket has versions.
    pub version: Option<VersionId>,
    /// Its `ETag`.
    pub etag: Option<ETag>,
}

/// One version that a settled job brought, or found at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When the job was settled.
    pub settled: Timestamp,
    /// What it is about.
    pub kind: Kind,
    /// Whether the target was changed.
    pub ending: Ending,
    /// The rule.
    pub rule: RuleId,
    /// The target's name.
    pub target_id: TargetId,
    /// From where.
    pub source: SourceSide,
    /// To where.
    pub target: TargetSide,
    /// How sure it is.
    pub verified: Verified,
    /// From the change at the source to the settlement.
    pub lag: Duration,
}

/// A place in a chain: after which line the next one comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// The chain's id: one for the life of a ledger.
    pub chain: String,
    /// The number of the last line; lines count from 1 through the whole chain.
    pub sequence: u64,
    /// The SHA-256 of the last line, hex.
    pub hash: String,
    /// The number of the file that holds it; files count from 1.
    pub file: u64,
    /// How many lines of that file there are.
    pub lines: u64,
}

impl Tip {
    /// Where a new chain begins.
    #[must_use]
    pub fn genesis(chain: String) -> Self {
        Self { chain, sequence: 0, hash: GENESIS.to_owned(), file: 0, lines: 0 }
    }

    /// The first line of the next file, line feed included; this is then the tip.
    #[must_use]
    pub fn open(&mut self, at: Timestamp) -> Vec<u8> {
        self.file += 1;
        self.lines = 0;
        let file = self.file;
        self.append("open", Rest::Open { format: FORMAT, file, time: at.rfc3339() })
    }

    /// The line of a receipt, line feed included; this is then the tip.
    #[must_use]
    pub fn receipt(&mut self, receipt: &Receipt) -> Vec<u8> {
        let kind = match receipt.kind {
            Kind::Write => "write",
            Kind::DeleteMarker => "delete-marker",
            Kind::Attributes => "attributes",
        };
        self.append(kind, Rest::Receipt(Box::new(ReceiptText::of(receipt))))
    }

    /// A line that says how many receipts could not be written, line feed included; this is then the tip.
    #[must_use]
    pub fn lost(&mut self, count: u64, at: Timestamp) -> Vec<u8> {
        self.append("lost", Rest::Lost { count, time: at.rfc3339() })
    }

    /// The last line of a file, line feed included; this is then the tip.
    #[must_use]
    pub fn close(&mut self) -> Vec<u8> {
        let (file, lines) = (self.file, self.lines);
        self.append("close", Rest::Close { file, lines })
    }

    fn append(&mut self, kind: &'static str, rest: Rest) -> Vec<u8> {
        let line = Line { chain: &self.chain, sequence: self.sequence + 1, prev: &self.hash, kind, rest };
        // Nothing in a line can fail to be spelled: all its keys are text and all its numbers are whole or finite.
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        self.sequence += 1;
        self.lines += 1;
        self.hash = sha256_hex(&bytes);
        bytes.push(b'\n');
        bytes
    }
}

/// The id of a new chain, from anything that no other chain was begun with.
#[must_use]
pub fn chain_id(seed: &str) -> String {
    let mut id = sha256_hex(seed.as_bytes());
    id.truncate(16);
    id
}

fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[derive(Serialize)]
struct Line<'a> {
    chain: &'a str,
    sequence: u64,
    prev: &'a str,
    kind: &'static str,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rest {
    Open { format: u32, file: u64, time: String },
    Receipt(Box<ReceiptText>),
    Lost { count: u64, time: String },
    Close { file: u64, lines: u64 },
}

#[derive(Serialize)]
struct ReceiptText {
    time: String,
    outcome: &'static str,
    rule: String,
    source: SourceText,
    target: TargetText,
    verified: Option<VerifiedText>,
    lag_seconds: f64,
}

#[derive(Serialize)]
struct SourceText {
    bucket: String,
    key: String,
    version: String,
    etag: Option<String>,
    size: Option<u64>,
    modified: Option<String>,
    checksum: Option<ChecksumText>,
}

#[derive(Serialize)]
struct ChecksumText {
    algorithm: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    value: String,
}

#[derive(Serialize)]
struct TargetText {
    name: String,
    bucket: String,
    key: String,
    version: Option<String>,
    etag: Option<String>,
}

#[derive(Serialize)]
struct VerifiedText {
    means: &'static str,
    reason: Option<&'static str>,
}

impl ReceiptText {
    fn of(receipt: &Receipt) -> Self {
        let (source, target) = (&receipt.source, &receipt.target);
        Self {
            time: receipt.settled.rfc3339(),
            outcome: match receipt.ending {
                Ending::Replicated => "replicated",
                Ending::AlreadyEqual => "already-equal",
            },
            rule: receipt.rule.as_str().to_owned(),
            source: SourceText {
                bucket: source.bucket.clone(),
                key: source.key.as_str().to_owned(),
                version: source.version.as_str().to_owned(),
                etag: source.etag.as_ref().map(|etag| etag.as_str().to_owned()),
                size: source.size,
                modified: source.modified.map(Timestamp::rfc3339),
                checksum: source.checksum.as_ref().map(ChecksumText::of),
            },
            target: TargetText {
                name: receipt.target_id.as_str().to_owned(),
                bucket: target.bucket.clone(),
                key: target.key.as_str().to_owned(),
                version: target.version.as_ref().map(|version| version.as_str().to_owned()),
                etag: target.etag.as_ref().map(|etag| etag.as_str().to_owned()),
            },
            verified: match receipt.verified {
                Verified::By(means) => Some(VerifiedText { means: means.name(), reason: None }),
                Verified::Unprovable(reason) => Some(VerifiedText { means: "unprovable", reason: Some(reason) }),
                Verified::NoBytes => None,
            },
            lag_seconds: receipt.lag.as_secs_f64(),
        }
    }
}

impl ChecksumText {
    fn of(checksum: &Checksum) -> Self {
        let kind = match checksum.kind {
            ChecksumType::FullObject => "FULL_OBJECT",
            ChecksumType::Composite => "COMPOSITE",
        };
        Self { algorithm: checksum.algorithm.name(), kind, value: checksum.value.clone() }
    }
}

#[cfg(test)]
mod tests;
