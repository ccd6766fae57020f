//! Making the replica of a current version right in every respect, where a comparison found it wrong in one (P6, P7).
//!
//! What a store lets one change of a version is changed: tags, lock, ACL. Headers, user metadata and the encryption key
//! belong to a version for good, so there it is written anew.

use std::sync::Arc;

use crate::model::fault::Fault;
use crate::model::object::{Found, Head};
use crate::model::stamp::Stamp;
use crate::plan::decide::{same_attributes, same_bytes};
use crate::ports::{Condition, ObjectStore, Pick, World};

use super::Shared;
use super::follow::{align, pinned};
use super::replicate::{At, Finish, ROUNDS, Stop, bring_latest, landed_finish, raced, recall_stamp};
use super::transfer::{Carried, Judging, sealing};
use super::verify::check_sealing;

/// Looks at both sides and mends what differs.
pub(super) async fn mend<W: World>(shared: &Arc<Shared<W>>, at: &At<'_, W>) -> Result<Finish, Stop> {
    for _ in 0..ROUNDS {
        if let Some(finish) = mend_once(shared, at).await? {
            return Ok(finish);
        }
    }
    Err(raced("mend the replica").into())
}

/// `None` when a side changed meanwhile.
async fn mend_once<W: World>(shared: &Arc<Shared<W>>, at: &At<'_, W>) -> Result<Option<Finish>, Stop> {
    let (Some(source), Some(replica)) = both(shared, at).await? else {
        // Nothing is there to be mended, or to be mended by: what is missing is brought, or is nothing to do.
        return bring_latest(shared, at).await;
    };
    if is_right(at, &source, &replica) {
        let (pick, replica_pick) = (shared.pinned(at, &source), pinned(at, &replica));
        return Ok(Some(align(shared, at, (&source, &pick), (&replica, &replica_pick)).await?));
    }
    let condition = Condition::Matches(replica.etag.clone());
    match shared.carry(at, &Pick::Current, &condition, Judging::AsTold).await? {
        Carried::Landed(landed) => Ok(Some(landed_finish(shared, at, *landed))),
        Carried::AlreadyEqual(_) | Carried::Examine | Carried::Raced => Ok(None),
        // The next look tells what that means.
        Carried::Missing | Carried::DeleteMarker | Carried::NotReplicated(_) => bring_latest(shared, at).await,
    }
}

/// The current objects of both sides, where there are any.
async fn both<W: World>(shared: &Shared<W>, at: &At<'_, W>) -> Result<(Option<Head>, Option<Head>), Fault> {
    let job = at.job();
    let object = |found| match found {
        Found::Object(head) => Some(*head),
        Found::DeleteMarker | Found::Missing => None,
    };
    shared.budget.request().await;
    let source = object(shared.world.source().head(&job.key, &Pick::Current).await?);
    shared.budget.request().await;
    let mut replica = object(at.store.head(&job.target_key, &Pick::Current).await?);
    if let Some(replica) = &mut replica {
        recall_stamp(shared, &job.target, job, replica)?;
    }
    Ok((source, replica))
}

/// Whether bytes, headers, user metadata and key are as they should be.
fn is_right<W: World>(at: &At<'_, W>, source: &Head, replica: &Head) -> bool {
    let stamped = Stamp::read(&replica.attributes.metadata)
        .is_some_and(|stamp| stamp.names(&source.version, &source.etag, source.modified));
    let bytes = same_bytes(source, replica).unwrap_or(stamped);
    bytes && same_attributes(source, replica) && check_sealing(&sealing(at, source), &replica.encryption).is_ok()
}
