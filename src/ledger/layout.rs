//! Where things lie: one byte of table, then key fields in big-endian order, so that byte order is the order wanted.

use std::cmp::Ordering;

use super::codec::Unreadable;
use super::kv::ledger_fault;
use crate::model::fault::Fault;
use crate::model::job::{ChangeKind, Job};
use crate::model::object::{Key, Sequencer, TargetId, Timestamp, VersionId};

/// The tables of the ledger. A number is never given twice, also when a table goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    /// The format of the whole ledger.
    Format = 0x01,
    /// Totals and counters.
    Tally = 0x02,
    /// Pause and its end.
    Control = 0x03,
    /// Scan cursors by name.
    Cursor = 0x04,
    /// Limits that an operator has set.
    Limiting = 0x08,
    /// Targets, rules and key prefixes by number.
    Name = 0x05,
    /// The brake of each target, by the target's number.
    Brake = 0x06,
    /// Pending jobs of one target key, by lane number: the first few in the record itself.
    Lane = 0x10,
    /// Hash of target and target key, then lane number.
    LaneByName = 0x11,
    /// Lanes that can be claimed: class, changed, lane number.
    Ready = 0x12,
    /// Lanes that wait for a time: that time, lane number.
    Due = 0x13,
    /// The oldest change of each waiting lane: changed, lane number.
    Age = 0x14,
    /// Further jobs of a lane, in source order.
    Crowd = 0x15,
    /// Further jobs of a lane, by identity.
    CrowdSame = 0x16,
    /// Further jobs of a lane, by age.
    CrowdAge = 0x17,
    /// Parked jobs: group, changed, job.
    Parked = 0x20,
    /// Hash of target and target key, then job.
    ParkedByName = 0x21,
    /// Parked jobs that are probed each for itself: group, time, job.
    ParkedDue = 0x22,
    /// Groups of parked jobs.
    Group = 0x23,
    /// What was last applied: hash of target and target key, mark.
    Applied = 0x30,
    /// The same by age: mark.
    AppliedAge = 0x31,
    /// Why something was not replicated: hash of the source key, mark.
    Note = 0x32,
    /// The same by age: mark.
    NoteAge = 0x33,
    /// Unstamped replicas: hash of target and target key, hash of the version, mark.
    Replica = 0x34,
    /// Open multipart uploads: hash of target and target key, mark.
    Upload = 0x35,
    /// Messages that could not be understood.
    Quarantine = 0x36,
    /// Parts sent: as the upload's key, then the part's number.
    Part = 0x37,
    /// What happened of late: number, hash of the source key.
    Journal = 0x40,
    /// One sample of the figures a minute: minute.
    History = 0x42,
    /// Counters beside the tally.
    Margin = 0x41,
}

impl Table {
    /// Bytes at which a leaf is split. Leaves written in order may be larger; those hit at random are rewritten for
    /// each entry and stay small. Measured together with the store's segment size (`kv`), 200,000 jobs of different
    /// keys: 2,048 and 1,024 bytes took 1,020 bytes of disk for a job, 1,024 and 256 take 380.
    pub(super) fn leaf_bytes(key: &[u8]) -> usize {
        match key.first() {
            Some(first) if *first == Self::LaneByName as u8 || *first == Self::ParkedByName as u8 => 256,
            Some(_) | None => 1024,
        }
    }

    /// A key of this table, to be filled.
    pub(super) fn key(self) -> Slot {
        Slot(vec![self as u8])
    }

    /// The prefix of all keys of this table.
    pub(super) fn all(self) -> Vec<u8> {
        vec![self as u8]
    }
}

/// Builds a key.
#[derive(Clone, Debug)]
pub(super) struct Slot(Vec<u8>);

impl Slot {
    pub(super) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn group(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn long(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn time(self, value: Timestamp) -> Self {
        self.long(value.0)
    }

    /// A number given out by a counter: six bytes, which last 400 years at 20,000 a second.
    pub(super) fn id(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes().into_iter().skip(2));
        self
    }

    pub(super) fn raw(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn end(self) -> Vec<u8> {
        self.0
    }

    /// The smallest key behind another.
    pub(super) fn after(mut key: Vec<u8>) -> Vec<u8> {
        key.push(0);
        key
    }
}

/// Reads a key's fields back.
#[derive(Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields behind the table byte.
    pub(super) fn of(key: &'a [u8]) -> Self {
        Self(key.get(1..).unwrap_or_default())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| unreadable("key", Unreadable("it ends too early")))?;
        self.0 = rest;
        Ok(taken)
    }

    fn big_endian(&mut self, length: usize) -> Result<u64, Fault> {
        Ok(self.take(length)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        self.big_endian(1).map(|value| u8::try_from(value).unwrap_or(u8::MAX))
    }

    pub(super) fn group(&mut self) -> Result<u32, Fault> {
        self.big_endian(4).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
    }

    pub(super) fn long(&mut self) -> Result<u64, Fault> {
        self.big_endian(8)
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, Fault> {
        self.long().map(Timestamp)
    }

    pub(super) fn id(&mut self) -> Result<u64, Fault> {
        self.big_endian(6)
    }
}

/// The fault of a record that cannot be understood.
pub(super) fn unreadable(what: &'static str, why: Unreadable) -> Fault {
    let Unreadable(why) = why;
    ledger_fault(
        "read the ledger",
        format!(
            "a {what} record cannot be understood: {why}; use the program version that wrote it, or move the ledger \
             aside and run `repl sync --full`"
        ),
    )
}

/// FNV-1a over the pieces with a separator between, then mixed so that all bits count. Part of the format: kept in
/// keys, so never to be changed. Equal hashes are told apart by the records behind them.
fn hash(pieces: &[&[u8]]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for piece in pieces {
        for byte in piece.iter().chain(&[0xff]) {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    state ^= state >> 33;
    state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^ state >> 33
}

/// The hash of a target key.
pub(super) fn lane_hash(target: &TargetId, target_key: &Key) -> u64 {
    hash(&[target.as_str().as_bytes(), target_key.as_str().as_bytes()])
}

/// The hash of a source key.
pub(super) fn key_hash(key: &Key) -> u64 {
    hash(&[key.as_str().as_bytes()])
}

/// The hash of a version id, four bytes.
pub(super) fn version_hash(version: &VersionId) -> u32 {
    u32::try_from(hash(&[version.as_str().as_bytes()]) >> 32).unwrap_or(0)
}

/// A hash of all that [`Job::same_work`] compares within one target key, four bytes.
pub(super) fn identity_hash(job: &Job) -> u32 {
    let kind: &[u8] = match job.kind {
        ChangeKind::Write => b"w",
        ChangeKind::DeleteMarker => b"d",
        ChangeKind::Attributes => b"a",
        ChangeKind::Restored => b"r",
        ChangeKind::Mend => b"m",
    };
    let mut pieces: Vec<&[u8]> = vec![job.key.as_str().as_bytes(), kind, job.version.as_str().as_bytes()];
    if job.version.is_null() {
        pieces.push(job.etag.as_ref().map_or(b"", |etag| etag.as_str().as_bytes()));
        pieces.push(job.sequencer.as_ref().map_or(b"", |sequencer| sequencer.as_str().as_bytes()));
    }
    u32::try_from(hash(&pieces) >> 32).unwrap_or(0)
}

/// Bytes that order the jobs of one key: those with a sequencer by it, those without by time; the streams are merged
/// by [`merge_streams`]. The number at the end makes them unique.
pub(super) fn order_bytes(job: &Job, id: u64) -> Vec<u8> {
    let slot = Slot(Vec::new());
    match &job.sequencer {
        Some(sequencer) => slot.byte(SEQUENCED).raw(&sequencer_bytes(sequencer)).byte(0).time(job.changed).id(id).end(),
        None => slot.byte(UNSEQUENCED).time(job.changed).id(id).end(),
    }
}

/// The stream of jobs that have a sequencer.
pub(super) const SEQUENCED: u8 = 0;
/// The stream of jobs that have none.
pub(super) const UNSEQUENCED: u8 = 1;

/// Comparing with zeros padded on the right is comparing with zeros at the right taken off.
fn sequencer_bytes(sequencer: &Sequencer) -> Vec<u8> {
    sequencer.as_str().trim_end_matches('0').to_ascii_uppercase().into_bytes()
}

/// Merges the two streams of a lane: the one whose first change is older goes first. Sequencer and time together are
/// no total order (three changes can go round in a circle), a merge of two ordered streams always is.
pub(super) fn merge_streams<T>(sequenced: Vec<T>, unsequenced: Vec<T>, age: impl Fn(&T) -> (Timestamp, u64)) -> Vec<T> {
    let mut merged = Vec::with_capacity(sequenced.len() + unsequenced.len());
    let (mut left, mut right) = (sequenced.into_iter().peekable(), unsequenced.into_iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some(one), Some(other)) => age(one).cmp(&age(other)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return merged,
        };
        merged.extend(if order.is_gt() { right.next() } else { left.next() });
    }
}
