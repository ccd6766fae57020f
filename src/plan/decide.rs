//! What to do about one job, from the facts at hand.
//!
//! The common case needs no facts beforehand: read the source and write under a condition that only holds if the
//! target is what we think it is (DESIGN 4.2). Everything else is decided from both buckets as they are.

use crate::model::digest::Means;
use crate::model::job::{Applied, Job, Origin};
use crate::model::object::{Encryption, Found, Head, Sequencer};
use crate::model::stamp::Stamp;
use crate::ports::{Condition, Pick};

use super::route::History;

/// How a job begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The ledger remembers that exactly this was applied: nothing to do, and nothing to ask.
    Known,
    /// Read that version and write it under that condition.
    Read {
        /// Which version.
        pick: Pick,
        /// Under which state of the target.
        condition: Condition,
    },
    /// Look at the key's versions on both sides first.
    Examine,
}

/// Begins a job that writes. `newer_waiting` tells whether changes of the same key wait behind this one.
#[must_use]
pub fn open(job: &Job, history: History, applied: Option<&Applied>, newer_waiting: bool) -> Opening {
    let condition = applied.map_or(Condition::Absent, tip);
    if applied.is_some_and(|applied| is_applied(job, applied)) && job.origin == Origin::Event {
        return Opening::Known;
    }
    match (history, applied) {
        (History::Latest, _) => Opening::Read { pick: Pick::Current, condition },
        // "Nothing is visible" does not tell one delete marker from another: a remembered one needs a look.
        (History::All, Some(applied)) if applied.marker => Opening::Examine,
        (History::All, Some(applied)) if later(job.sequencer.as_ref(), applied.sequencer.as_ref()) => {
            Opening::Read { pick: Pick::Version(job.version.clone()), condition }
        }
        // Read as current, the version proves by itself that it is the newest: it may go on top of whatever is there.
        (History::All, None) if !newer_waiting => Opening::Read { pick: Pick::Current, condition },
        (History::All, _) => Opening::Examine,
    }
}

/// What the source's answer means for a job that was opened with a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Write it.
    Write,
    /// The target has it already.
    AlreadyEqual,
    /// The order is not certain: look at both sides.
    Examine,
}

/// Judges what was read. Under `History::All` a version goes on top only when it is certain to be newer than what was
/// applied last. A multipart object is as old as its initiation while its event tells of its completion, so there the
/// sequencer proves nothing and `Last-Modified` must be strictly later (aws-semantics 6).
#[must_use]
pub fn judge(job: &Job, history: History, pick: &Pick, head: &Head, applied: Option<&Applied>) -> Reading {
    if applied.is_some_and(|applied| holds(applied, head) && !written_again(job, applied)) {
        return Reading::AlreadyEqual;
    }
    if applied.is_some_and(|applied| applied.source_etag.as_ref() == Some(&head.etag)) {
        // The condition on the target's ETag would hold for the one version as for the other, should the answer to an
        // earlier attempt have been lost.
        return Reading::Examine;
    }
    if history == History::Latest {
        return Reading::Write;
    }
    if *pick == Pick::Current {
        return if head.version == job.version { Reading::Write } else { Reading::Examine };
    }
    let Some(applied) = applied else { return Reading::Examine };
    let sequencers_tell = head.etag.parts().is_none()
        && applied.source_etag.as_ref().is_none_or(|etag| etag.parts().is_none())
        && later(job.sequencer.as_ref(), applied.sequencer.as_ref());
    let second = head.modified.whole_seconds();
    let before = applied.modified.whole_seconds();
    if second > before || (second == before && sequencers_tell) { Reading::Write } else { Reading::Examine }
}

/// What a write that lost its condition finds at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clash {
    /// The target holds this very version, or the same bytes and attributes.
    AlreadyEqual,
    /// Write again, under this condition.
    Write(Condition),
    /// Somebody else's object that would be lost.
    Foreign,
}

/// How the target treats what is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwriting {
    /// It stays as a noncurrent version.
    KeepsVersion,
    /// It is gone.
    Destroys,
}

/// Decides between the source's current version and what is current at the target.
#[must_use]
pub fn clash(source: &Head, target: &Found, origin: Origin, overwriting: Overwriting) -> Clash {
    let Found::Object(target) = target else { return Clash::Write(Condition::Absent) };
    let stamped = Stamp::read(&target.attributes.metadata)
        .is_some_and(|stamp| stamp.names(&source.version, &source.etag, source.modified));
    // A null version written again within one second, with the same bytes, is stamped alike.
    let stamped = stamped && (!source.version.is_null() || same_attributes(source, target));
    let same = same_bytes(source, target);
    // A stamp is enough to believe an event was carried out; a comparison is there to doubt it.
    let believed = stamped && (origin == Origin::Event || same != Some(false));
    let ours = Stamp::read(&target.attributes.metadata).is_some();
    // The replica of another version may have other tags, whatever its bytes: what an event tells of is brought.
    let is_another = ours && !stamped && origin == Origin::Event;
    if believed || (same == Some(true) && same_attributes(source, target) && !is_another) {
        return Clash::AlreadyEqual;
    }
    if ours || overwriting == Overwriting::KeepsVersion || origin == Origin::Scan {
        Clash::Write(Condition::Matches(target.etag.clone()))
    } else {
        Clash::Foreign
    }
}

/// Whether two objects hold the same bytes: `None` where nothing comparable is known. ETags are compared only where
/// both are MD5s of the plain bytes: never across KMS, and across part layouts only when both have parts.
#[must_use]
pub fn same_bytes(one: &Head, other: &Head) -> Option<bool> {
    if one.size != other.size {
        return Some(false);
    }
    if let (Some(left), Some(right)) = (&one.checksum, &other.checksum)
        && left.algorithm == right.algorithm
        && left.kind == right.kind
    {
        return Some(left.value == right.value);
    }
    if plain(&one.encryption) && plain(&other.encryption) && one.etag.parts() == other.etag.parts() {
        // Equal composed ETags prove equality; different ones may only tell of other part boundaries.
        let equal = one.etag == other.etag;
        return if equal || one.etag.parts().is_none() { Some(equal) } else { None };
    }
    None
}

/// By what two objects were found to hold the same bytes, where [`same_bytes`] says that they do.
#[must_use]
pub fn means(one: &Head, other: &Head) -> Means {
    match (&one.checksum, &other.checksum) {
        (Some(left), Some(right)) if left.algorithm == right.algorithm && left.kind == right.kind => Means::Checksum,
        (Some(_) | None, Some(_) | None) if one.etag.parts().is_some() => Means::Parts,
        (Some(_) | None, Some(_) | None) => Means::Md5,
    }
}

/// Whether an ETag under this encryption is made from the plain bytes (aws-semantics 4.1).
#[must_use]
pub fn plain(encryption: &Encryption) -> bool {
    match encryption {
        Encryption::Untold | Encryption::S3 => true,
        Encryption::Kms(_) | Encryption::Dsse(_) | Encryption::Customer => false,
    }
}

/// Whether headers and user metadata agree, the stamp left aside. Storage class, lock and ACL are the rule's matter.
#[must_use]
pub fn same_attributes(source: &Head, target: &Head) -> bool {
    let bare = |head: &Head| {
        let mut attributes = head.attributes.clone();
        attributes.storage_class = None;
        attributes.lock = crate::model::object::Lock::default();
        Stamp::strip(&mut attributes.metadata);
        attributes
    };
    bare(source) == bare(target)
}

/// Whether an object is our own replica of something in the target bucket, which must not travel back (two-way set-ups).
#[must_use]
pub fn is_echo(source: &Head, target_bucket: &str, origin: Origin) -> bool {
    origin == Origin::Event
        && Stamp::read(&source.attributes.metadata).is_some_and(|stamp| stamp.origin == target_bucket)
}

/// The condition under which the target is still what we left there.
fn tip(applied: &Applied) -> Condition {
    match &applied.target_etag {
        Some(etag) if !applied.marker => Condition::Matches(etag.clone()),
        _ => Condition::Absent,
    }
}

fn is_applied(job: &Job, applied: &Applied) -> bool {
    job.version == applied.version
        && (!job.version.is_null()
            || (job.sequencer.is_some() && job.sequencer == applied.sequencer && job.etag == applied.source_etag))
}

/// Whether a null version was written once more: within one second and with the same bytes nothing else tells.
fn written_again(job: &Job, applied: &Applied) -> bool {
    job.version.is_null() && later(job.sequencer.as_ref(), applied.sequencer.as_ref())
}

/// Whether what was applied is this version.
#[must_use]
pub fn holds(applied: &Applied, head: &Head) -> bool {
    !applied.marker
        && applied.version == head.version
        && (!head.version.is_null()
            || (applied.source_etag.as_ref() == Some(&head.etag) && applied.modified.same_second(head.modified)))
}

fn later(one: Option<&Sequencer>, other: Option<&Sequencer>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.compare(other).is_gt(),
        (None, _) | (_, None) => false,
    }
}

#[cfg(test)]
mod tests;
