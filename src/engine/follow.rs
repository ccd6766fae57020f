//! Later changes of tags, ACL, retention and legal hold follow to the replica of the version that they belong to (P6).

use std::sync::Arc;

use crate::ledger::Outcome;
use crate::model::fault::Fault;
use crate::model::job::ChangeKind;
use crate::model::object::{Found, Head, Lock, Timestamp, Versioning};
use crate::model::stamp::Stamp;
use crate::ports::{ObjectStore, Pick, World};

use super::Shared;
use super::examine::{gone, versions_of};
use super::receipts::Brought;
use super::replicate::{At, Finish, Stop, exactly, recall_stamp};
use super::transfer::sealing;
use super::verify::check_sealing;

/// Whose attributes are brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Following {
    /// Any replica's: they were changed later.
    Change,
    /// Only those that a store may have lost while it put parts together.
    LostWithParts,
}

/// Brings the attributes of a version's replica up to date.
pub(super) async fn follow<W: World>(
    shared: &Arc<Shared<W>>,
    at: &At<'_, W>,
    following: Following,
) -> Result<Finish, Stop> {
    let job = at.job();
    let pick = exactly(at.source_versioning, job);
    shared.budget.request().await;
    let source = match shared.world.source().head(&job.key, &pick).await? {
        Found::Object(head) => *head,
        Found::DeleteMarker | Found::Missing => return gone(shared, job, &pick).await,
    };
    if following == Following::LostWithParts && source.etag.parts().is_none() {
        return Ok(Finish::without_write(Outcome::AlreadyEqual));
    }
    let Some((replica_pick, replica)) = find_replica(shared, at, &source).await? else {
        let reason = "that version is not at the target: it was written before the rule, or is parked".to_owned();
        return Ok(Finish::without_write(Outcome::NotReplicated(reason)));
    };
    if job.kind != ChangeKind::Attributes && at.claim.attempts() > 0 {
        // An earlier attempt may have found it under the wrong key: that it is there does not make it right (P7).
        check_sealing(&sealing(at, &source), &replica.encryption)?;
    }
    Ok(align(shared, at, (&source, &pick), (&replica, &replica_pick)).await?)
}

/// Makes a replica's tags, lock and ACL those of its source version.
pub(super) async fn align<W: World>(
    shared: &Shared<W>,
    at: &At<'_, W>,
    (source, pick): (&Head, &Pick),
    (replica, replica_pick): (&Head, &Pick),
) -> Result<Finish, Fault> {
    let mut changed = follow_tags(shared, at, (source, pick), replica_pick).await?;
    changed |= follow_lock(shared, at, (source, replica), replica_pick).await?;
    if at.rule.acl {
        changed |= follow_acl(shared, at, pick, replica_pick).await?;
    }
    let outcome = if changed { Outcome::Replicated } else { Outcome::AlreadyEqual };
    Ok(Finish { brought: vec![Brought::attributes(source, replica)], ..Finish::without_write(outcome) })
}

async fn follow_tags<W: World>(
    shared: &Shared<W>,
    at: &At<'_, W>,
    (source, from): (&Head, &Pick),
    to: &Pick,
) -> Result<bool, Fault> {
    let job = at.job();
    let wanted = match at.tags.as_ref().and_then(|known| known.of(source)) {
        Some(tags) => tags.clone(),
        None => {
            shared.budget.request().await;
            shared.world.source().tags(&job.key, from).await?
        }
    };
    shared.budget.request().await;
    if at.store.tags(&job.target_key, to).await? == wanted {
        return Ok(false);
    }
    shared.budget.request().await;
    at.store.put_tags(&job.target_key, to, &wanted).await?;
    Ok(true)
}

async fn follow_acl<W: World>(shared: &Shared<W>, at: &At<'_, W>, from: &Pick, to: &Pick) -> Result<bool, Fault> {
    let job = at.job();
    shared.budget.request().await;
    let mut wanted = shared.world.source().acl(&job.key, from).await?;
    shared.budget.request().await;
    let mut there = at.store.acl(&job.target_key, to).await?;
    wanted.sort();
    there.sort();
    if wanted == there {
        return Ok(false);
    }
    shared.budget.request().await;
    at.store.put_acl(&job.target_key, to, &wanted).await?;
    Ok(true)
}

async fn follow_lock<W: World>(
    shared: &Shared<W>,
    at: &At<'_, W>,
    (source, replica): (&Head, &Head),
    to: &Pick,
) -> Result<bool, Fault> {
    let change = lock_change(&source.attributes.lock, &replica.attributes.lock, shared.now());
    if change == Lock::default() {
        return Ok(false);
    }
    shared.budget.request().await;
    at.store.put_lock(&at.job().target_key, to, &change).await?;
    Ok(true)
}

/// What must be set at the replica: a retention that has passed is not brought, as S3 refuses its date.
pub(super) fn lock_change(source: &Lock, replica: &Lock, now: Timestamp) -> Lock {
    let mut change = Lock::default();
    let current = source.retain_until.is_some_and(|until| until > now);
    if current && (source.mode != replica.mode || !same_instant(source.retain_until, replica.retain_until)) {
        change.mode.clone_from(&source.mode);
        change.retain_until = source.retain_until;
    }
    if source.legal_hold.unwrap_or(false) != replica.legal_hold.unwrap_or(false) {
        change.legal_hold = Some(source.legal_hold.unwrap_or(false));
    }
    change
}

fn same_instant(one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.same_second(other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The replica of a source version: what was applied last, what is current, or an older version of the target key.
async fn find_replica<W: World>(
    shared: &Shared<W>,
    at: &At<'_, W>,
    source: &Head,
) -> Result<Option<(Pick, Head)>, Fault> {
    let job = at.job();
    shared.budget.request().await;
    if let Found::Object(mut head) = at.store.head(&job.target_key, &Pick::Current).await? {
        recall_stamp(shared, &job.target, job, &mut head)?;
        if is_replica(&head, source) {
            return Ok(Some((pinned(at, &head), *head)));
        }
    }
    if at.target_versioning == Versioning::Off {
        return Ok(None);
    }
    for entry in versions_of(shared, at.store, &job.target_key).await? {
        if entry.object.is_none() {
            continue;
        }
        let pick = Pick::Version(entry.version);
        shared.budget.request().await;
        if let Found::Object(mut head) = at.store.head(&job.target_key, &pick).await? {
            recall_stamp(shared, &job.target, job, &mut head)?;
            if is_replica(&head, source) {
                return Ok(Some((pick, *head)));
            }
        }
    }
    Ok(None)
}

/// Names exactly the target version whose headers were seen.
pub(super) fn pinned<W: World>(at: &At<'_, W>, head: &Head) -> Pick {
    if at.target_versioning == Versioning::Off { Pick::Current } else { Pick::Version(head.version.clone()) }
}

fn is_replica(head: &Head, source: &Head) -> bool {
    Stamp::read(&head.attributes.metadata)
        .is_some_and(|stamp| stamp.names(&source.version, &source.etag, source.modified))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(mode: Option<&str>, until: Option<u64>, hold: Option<bool>) -> Lock {
        Lock { mode: mode.map(str::to_owned), retain_until: until.map(Timestamp), legal_hold: hold }
    }

    #[test]
    fn only_what_differs_and_is_still_in_force_is_set() {
        let now = Timestamp(10_000);
        let governed = lock(Some("GOVERNANCE"), Some(20_000), None);
        assert_eq!(lock_change(&governed, &governed, now), Lock::default());
        assert_eq!(lock_change(&governed, &Lock::default(), now), governed);
        assert_eq!(lock_change(&governed, &Lock::default(), Timestamp(20_000)), Lock::default(), "expired");
        let held = lock(None, None, Some(true));
        assert_eq!(lock_change(&held, &Lock::default(), now), held);
        assert_eq!(lock_change(&Lock::default(), &held, now), lock(None, None, Some(false)));
        let longer = lock(Some("GOVERNANCE"), Some(30_000), None);
        assert_eq!(lock_change(&longer, &governed, now), longer);
    }
}
