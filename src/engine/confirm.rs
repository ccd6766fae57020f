//! A look after the write, where other workers may write the same key.

use std::sync::Arc;

use crate::ledger::Outcome;
use crate::model::fault::Fault;
use crate::model::job::Applied;
use crate::model::object::Found;
use crate::plan::decide;
use crate::plan::route::History;
use crate::ports::{ObjectStore, Pick, World};

use super::replicate::{At, Behind, Finish, ROUNDS, Stop, bring_latest, mark_latest, raced};
use super::{Ack, Shared, examine};

/// Where several workers share a queue (`Ack::Settled`): looks whether what was written is the source's newest. If it is,
/// nobody can have written anything newer before. If not, somebody may have, and have left the very ETag, or the very
/// absence, that our condition asked for (versions A, B, A): then what is newer has to be put on top once more.
pub(super) async fn confirmed<W: World>(
    shared: &Arc<Shared<W>>,
    at: At<'_, W>,
    finish: Finish,
    behind: Behind,
) -> Result<Finish, Stop> {
    let own = finish.applied.as_ref().is_some_and(|left| left.version == at.job().version);
    if shared.settings.ack == Ack::Admitted || (own && behind.content) {
        // What is newer and waits right behind is put on top in any case.
        return Ok(finish);
    }
    Box::pin(confirm(shared, at, finish)).await
}

async fn confirm<W: World>(shared: &Arc<Shared<W>>, at: At<'_, W>, finish: Finish) -> Result<Finish, Stop> {
    let (mut at, mut finish) = (at, finish);
    if !finish.replicas.is_empty() {
        // The look may fail, and nothing else tells what they are.
        shared.ledger.note_replicas(at.claim, &finish.replicas).await?;
    }
    for _ in 0..ROUNDS {
        if finish.outcome != Outcome::Replicated || is_newest(shared, &at, finish.applied.as_ref()).await? {
            return Ok(finish);
        }
        at.made.clone_from(&finish.applied);
        let again = match at.history {
            History::All => examine::examine(shared, &at).await?,
            History::Latest if at.rule.delete_markers && examine::source_is_deleted(shared, &at.job().key).await? => {
                mark_latest(shared, &at).await?
            }
            History::Latest => bring_latest(shared, &at).await?,
        };
        match again {
            Some(again) if again.outcome == Outcome::Replicated => {
                if !again.replicas.is_empty() {
                    shared.ledger.note_replicas(at.claim, &again.replicas).await?;
                }
                finish = finish.and(again);
            }
            Some(_nothing_newer_there) => return Ok(finish),
            None => {}
        }
    }
    Err(raced("confirm what is newest").into())
}

/// Whether the source has nothing newer than what was left at the target.
async fn is_newest<W: World>(shared: &Shared<W>, at: &At<'_, W>, left: Option<&Applied>) -> Result<bool, Fault> {
    let Some(left) = left else { return Ok(true) };
    shared.budget.request().await;
    Ok(match shared.world.source().head(&at.job().key, &Pick::Current).await? {
        Found::Object(head) => decide::holds(left, &head),
        // Some stores do not tell a marker on a HEAD.
        Found::DeleteMarker | Found::Missing => left.marker || !at.rule.delete_markers,
    })
}
