//! One key's versions on both sides, side by side: the slow and certain way (P3, P4).

use std::sync::Arc;

use crate::ledger::Outcome;
use crate::model::digest::Means;
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::job::{Applied, ChangeKind, Job};
use crate::model::object::{ETag, Found, Key, VersionEntry, VersionId};
use crate::model::stamp::Stamp;
use crate::plan::history::{self, Kind, Replica};
use crate::ports::{Condition, ObjectStore, Pick, World};

use super::Shared;
use super::receipts::Brought;
use super::replicate::{At, Finish, Stop, landed_finish, recall_stamp, remembered};
use super::ruling;
use super::transfer::{Carried, Judging};

/// Every version and delete marker of exactly this key, newest first.
pub(super) async fn versions_of<W: World>(
    shared: &Shared<W>,
    store: &W::Store,
    key: &Key,
) -> Result<Vec<VersionEntry>, Fault> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        shared.budget.request().await;
        let page = store.list_versions(key.as_str(), after).await?;
        // Keys that merely begin like this one come after it.
        let passed = page.entries.iter().any(|entry| entry.key != *key);
        found.extend(page.entries.into_iter().filter(|entry| entry.key == *key));
        match page.next {
            Some(next) if !passed => after = Some(next),
            Some(_) | None => return Ok(found),
        }
    }
}

/// Whether the source's current version is a delete marker now. Some stores do not tell it on a HEAD.
pub(super) async fn source_is_deleted<W: World>(shared: &Shared<W>, key: &Key) -> Result<bool, Fault> {
    shared.budget.request().await;
    match shared.world.source().head(key, &Pick::Current).await? {
        Found::Object(_) => Ok(false),
        Found::DeleteMarker => Ok(true),
        Found::Missing => {
            let versions = versions_of(shared, shared.world.source(), key).await?;
            Ok(versions.first().is_some_and(|newest| newest.object.is_none()))
        }
    }
}

/// Ends a job whose version the source does not give, if the source's listing says so too. An object is never given up
/// on one answer alone: a store that lists a version and does not give it contradicts itself, and the job stays.
pub(super) async fn gone<W: World>(shared: &Shared<W>, job: &Job, pick: &Pick) -> Result<Finish, Stop> {
    let versions = versions_of(shared, shared.world.source(), &job.key).await?;
    let listed = match pick {
        Pick::Current => versions.first(),
        Pick::Version(version) => versions.iter().find(|entry| entry.version == *version),
    };
    match listed {
        None => Ok(Finish::without_write(Outcome::Gone)),
        Some(entry) if entry.object.is_none() => Ok(Finish::without_write(Outcome::Superseded)),
        Some(_) => {
            let detail = "the source lists the version but does not give it";
            Err(Fault::new(FaultKind::Transient, Side::Source, "read object", detail).into())
        }
    }
}

/// What the target holds of a key, told apart as far back as needed.
struct Told {
    /// Oldest first.
    replicas: Vec<Replica>,
    /// The ETag of the current object; `None` where there is none or a marker is on top.
    current: Option<ETag>,
    /// The newest entry, where it is a replica of a known version: its place in the source's history.
    tip: Option<(usize, VersionEntry)>,
    /// The replica of the version asked for, where it was met, and how it was known.
    own: Option<(VersionEntry, Means)>,
}

/// Compares both histories and appends what is missing. `None` when the target changed meanwhile.
pub(super) async fn examine<W: World>(shared: &Arc<Shared<W>>, at: &At<'_, W>) -> Result<Option<Finish>, Stop> {
    let job = at.job();
    let listing = versions_of(shared, shared.world.source(), &job.key).await?;
    let source = history::oldest_first(listing);
    let source = ruling::without_unwanted_markers(shared, at, source).await?;
    let Some(wanted) = history::place(&source, &job.version) else {
        return Ok(Some(Finish::without_write(Outcome::Gone)));
    };
    let is_marker = source.get(wanted).is_some_and(|entry| entry.object.is_none());
    if is_marker != (job.kind == ChangeKind::DeleteMarker) {
        // The null version was replaced by the other kind since: its own event tells of that.
        return Ok(Some(Finish::without_write(Outcome::Superseded)));
    }
    let told = tell_apart(shared, at, &source, wanted).await?;
    let kinds: Vec<Kind> =
        source.iter().map(|entry| if entry.object.is_some() { Kind::Object } else { Kind::Marker }).collect();
    let mut missing = history::missing(&kinds, &told.replicas, wanted);
    if missing.is_empty() && is_marker && job.version.is_null() && wanted + 1 == source.len() && told.current.is_some()
    {
        // One null marker after another: what stands at the target was made for an earlier one, as something is visible.
        missing.push(wanted);
    }
    if missing.is_empty() {
        return Ok(Some(nothing_missing(at, &source, &told, wanted)));
    }
    let last = missing.last().copied().unwrap_or(wanted);
    let newer = source.get(last + 1..).unwrap_or_default();
    if kinds.get(last) == Some(&Kind::Marker) && told.current.is_some() && !shared.is_followed(at, newer).await? {
        // Before the first step: a history is not left half appended.
        shared.may_hide(at).await?;
    }
    append(shared, at, &source, missing, told.current).await
}

fn nothing_missing<W: World>(at: &At<'_, W>, source: &[VersionEntry], told: &Told, wanted: usize) -> Finish {
    let there = told.tip.as_ref().is_some_and(|(place, _)| *place >= wanted);
    let outcome =
        if there || at.job().kind != ChangeKind::DeleteMarker { Outcome::AlreadyEqual } else { Outcome::Superseded };
    let applied = told.tip.as_ref().and_then(|(place, replica)| {
        let newest = source.get(*place)?;
        Some(Applied {
            version: newest.version.clone(),
            marker: newest.object.is_none(),
            source_etag: newest.object.as_ref().map(|(etag, _)| etag.clone()),
            modified: newest.modified,
            sequencer: if *place == wanted { at.job().sequencer.clone() } else { None },
            target_etag: replica.object.as_ref().map(|(etag, _)| etag.clone()),
            target_version: Some(replica.version.clone()),
        })
    });
    let brought = match (source.get(wanted), &told.own) {
        (Some(version), Some((replica, means))) => vec![Brought::listed(version, replica, *means)],
        (Some(_) | None, Some(_) | None) => Vec::new(),
    };
    Finish { applied, brought, ..Finish::without_write(outcome) }
}

/// Tells the target's versions apart, newest first, until older ones cannot matter.
async fn tell_apart<W: World>(
    shared: &Shared<W>,
    at: &At<'_, W>,
    source: &[VersionEntry],
    wanted: usize,
) -> Result<Told, Stop> {
    let entries = versions_of(shared, at.store, &at.job().target_key).await?;
    let current = entries.first().and_then(|entry| entry.object.as_ref()).map(|(etag, _)| etag.clone());
    // Also for a comparison: the id of a version that we made is no matter of doubt.
    let memory = match &at.made {
        Some(made) => Some(made.clone()),
        None => shared.ledger.applied(&at.job().target, &at.job().target_key)?,
    };
    let mut replicas = Vec::new();
    let (mut tip, mut own) = (None, None);
    let mut below = source.len();
    for (position, entry) in entries.iter().enumerate() {
        let (replica, means) = match &entry.object {
            None => (marker_of(memory.as_ref(), source, entry), Means::Stamp),
            Some(_) => replica_of(shared, at, (source, below), entry).await?,
        };
        if let Replica::Of(place) = replica {
            below = place;
        }
        if replica == Replica::Of(wanted) && entry.object.is_some() && own.is_none() {
            own = Some((entry.clone(), means));
        }
        if let (0, Replica::Of(place)) = (position, replica) {
            tip = Some((place, entry.clone()));
        }
        replicas.push(replica);
        if history::settles(replica, wanted) {
            break;
        }
    }
    replicas.reverse();
    Ok(Told { replicas, current, tip, own })
}

/// Which source marker a marker at the target is: certain only of the one that is remembered, as markers carry no stamp. A
/// null version of the source may have become an object since.
fn marker_of(remembered: Option<&Applied>, source: &[VersionEntry], entry: &VersionEntry) -> Replica {
    let made = remembered.filter(|applied| applied.marker && !entry.version.is_null());
    let made = made.filter(|applied| applied.target_version.as_ref() == Some(&entry.version));
    let place = made.and_then(|applied| history::place(source, &applied.version));
    let still = place.filter(|place| source.get(*place).is_some_and(|entry| entry.object.is_none()));
    still.map_or(Replica::Marker, Replica::Of)
}

/// Which source version a target version is: by what is remembered, by its stamp, or by its being the same bytes. Where
/// several versions have those, it is the newest one `below` what its successor is of: so a history of which nothing is
/// remembered is taken to be in order, and nothing in it is brought once more.
async fn replica_of<W: World>(
    shared: &Shared<W>,
    at: &At<'_, W>,
    (source, below): (&[VersionEntry], usize),
    entry: &VersionEntry,
) -> Result<(Replica, Means), Stop> {
    let job = at.job();
    let unknown = (Replica::Unknown, Means::Stamp);
    if let Some(applied) = &at.applied
        && applied.target_version.as_ref() == Some(&entry.version)
        && !applied.version.is_null()
    {
        let place = history::place(source, &applied.version);
        return Ok(place.map_or(unknown, |place| (Replica::Of(place), Means::Ledger)));
    }
    shared.budget.request().await;
    let mut head = match at.store.head(&job.target_key, &Pick::Version(entry.version.clone())).await? {
        Found::Object(head) => head,
        Found::DeleteMarker | Found::Missing => return Ok(unknown),
    };
    recall_stamp(shared, &job.target, job, &mut head)?;
    let stamp = Stamp::read(&head.attributes.metadata);
    let means = match stamp {
        Some(_) => Means::Stamp,
        None if head.etag.parts().is_some() => Means::Parts,
        None => Means::Md5,
    };
    let place = match stamp {
        Some(stamp) => source.iter().position(|version| {
            version.object.as_ref().is_some_and(|(etag, _)| stamp.names(&version.version, etag, version.modified))
        }),
        // Brought by another tool: the same only where ETag and size leave no doubt.
        None if crate::plan::decide::plain(&head.encryption) => {
            let same = |version: &VersionEntry| version.object.as_ref() == entry.object.as_ref();
            let in_order = source.get(..below).and_then(|older| older.iter().rposition(same));
            in_order.or_else(|| source.iter().rposition(same))
        }
        None => None,
    };
    Ok(place.map_or(unknown, |place| (Replica::Of(place), means)))
}

/// Appends versions and markers, each on top of the one before. `None` when a side changed meanwhile.
async fn append<W: World>(
    shared: &Arc<Shared<W>>,
    at: &At<'_, W>,
    source: &[VersionEntry],
    missing: Vec<usize>,
    current: Option<ETag>,
) -> Result<Option<Finish>, Stop> {
    let mut top = current;
    let mut finish: Option<Finish> = None;
    for place in missing {
        let Some(entry) = source.get(place) else { return Ok(None) };
        let condition = top.clone().map_or(Condition::Absent, Condition::Matches);
        let step = match &entry.object {
            None => mark(shared, at, entry, &condition).await?,
            Some(_) => copy(shared, at, entry, &condition).await?,
        };
        match step {
            Step::Done(step) => {
                if !step.replicas.is_empty() {
                    shared.ledger.note_replicas(at.claim, &step.replicas).await?;
                }
                top = step.applied.as_ref().and_then(|applied| applied.target_etag.clone());
                finish = Some(match finish.take() {
                    Some(before) => before.and(*step),
                    None => *step,
                });
            }
            Step::Not(reason) => return Ok(Some(Finish::without_write(Outcome::NotReplicated(reason)))),
            Step::Again => return Ok(None),
        }
    }
    Ok(finish)
}

enum Step {
    Done(Box<Finish>),
    Not(String),
    /// One of the sides is not as it was listed: both are to be looked at again.
    Again,
}

async fn copy<W: World>(
    shared: &Arc<Shared<W>>,
    at: &At<'_, W>,
    entry: &VersionEntry,
    condition: &Condition,
) -> Result<Step, Stop> {
    let pick = Pick::Version(entry.version.clone());
    Ok(match shared.carry(at, &pick, condition, Judging::AsTold).await? {
        Carried::Landed(landed) => {
            let applied = remembered(at.job(), &landed.head, &landed.written);
            let finish = landed_finish(shared, at, *landed);
            Step::Done(Box::new(Finish { applied: Some(applied), ..finish }))
        }
        // What the source listed a moment ago and does not give now is gone only if the next listing says so too.
        Carried::AlreadyEqual(_) | Carried::Examine | Carried::Raced => Step::Again,
        Carried::DeleteMarker | Carried::Missing => Step::Again,
        Carried::NotReplicated(reason) => Step::Not(reason),
    })
}

async fn mark<W: World>(
    shared: &Shared<W>,
    at: &At<'_, W>,
    entry: &VersionEntry,
    condition: &Condition,
) -> Result<Step, Stop> {
    // DELETE knows no "if absent": on top of nothing or of a marker it goes unconditionally.
    let condition = match condition {
        Condition::Absent => &Condition::Any,
        Condition::Matches(_) | Condition::Any => condition,
    };
    match shared.mark(at, condition).await {
        Ok(target_version) => Ok(Step::Done(Box::new(marked_as(at, entry, target_version)))),
        Err(fault) if fault.kind == FaultKind::Raced => Ok(Step::Again),
        Err(fault) => Err(fault.into()),
    }
}

fn marked_as<W: World>(at: &At<'_, W>, entry: &VersionEntry, target_version: Option<VersionId>) -> Finish {
    let own = entry.version == at.job().version;
    let applied = Applied {
        version: entry.version.clone(),
        marker: true,
        source_etag: None,
        modified: entry.modified,
        sequencer: if own { at.job().sequencer.clone() } else { None },
        target_etag: None,
        target_version,
    };
    let brought = vec![Brought::remembered(&applied, None)];
    Finish { applied: Some(applied), brought, ..Finish::without_write(Outcome::Replicated) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::object::Timestamp;

    fn marker(version: &str) -> VersionEntry {
        let (key, version) = (Key::new("k"), VersionId::new(version));
        VersionEntry { key, version, modified: Timestamp(1), latest: false, object: None, storage_class: None }
    }

    /// Between two markers of the source only the id at the target tells which one that is; another worker may have made it.
    #[test]
    fn only_the_marker_that_is_remembered_is_known() {
        let source = [marker("s1"), marker("s2")];
        let remembered = Applied {
            version: VersionId::new("s2"),
            marker: true,
            source_etag: None,
            modified: Timestamp(1),
            sequencer: None,
            target_etag: None,
            target_version: Some(VersionId::new("t2")),
        };
        assert_eq!(marker_of(Some(&remembered), &source, &marker("t2")), Replica::Of(1));
        assert_eq!(marker_of(Some(&remembered), &source, &marker("t9")), Replica::Marker, "another's");
        assert_eq!(marker_of(None, &source, &marker("t2")), Replica::Marker);
        let null = Applied { target_version: Some(VersionId::new("null")), ..remembered.clone() };
        assert_eq!(marker_of(Some(&null), &source, &marker("null")), Replica::Marker, "an id that is used again");
        assert_eq!(
            marker_of(Some(&remembered), &source[..1], &marker("t2")),
            Replica::Marker,
            "the source has it no more"
        );
        let was_null = Applied { version: VersionId::new("null"), ..remembered };
        let object = VersionEntry { object: Some((ETag::new("e"), 1)), ..marker("null") };
        assert_eq!(marker_of(Some(&was_null), &[object], &marker("t2")), Replica::Marker, "it is an object now");
    }
}
