//! Multipart uploads that nobody goes on with: their parts would be billed until a lifecycle rule finds them.

use std::sync::Arc;

use crate::ledger::Ledger;
use crate::model::fault::{Fault, FaultKind, Side};
use crate::ports::{ObjectStore, UploadRef, World};

use super::Shared;

/// What became of uploads that were not needed any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Aborted at their target, and forgotten.
    pub aborted: u64,
    /// Those that could not be aborted: they stay noted, and the next start of a worker tries again.
    pub faults: Vec<Fault>,
}

/// Aborts every open upload that no unfinished job needs. A fault is one of the ledger. If dropped, some are aborted
/// and not forgotten yet; aborting them again is no fault.
pub async fn end_all<W: World>(world: &W, ledger: &Ledger) -> Result<Ended, Fault> {
    let mut ended = Ended::default();
    for (target, key, upload) in ledger.orphans()? {
        let aborted = match world.target(&target) {
            Some(store) => store.abort_upload(UploadRef { key: &key, id: &upload.id }).await,
            None => {
                let detail = format!("target {target:?} is not configured any more");
                Err(Fault::new(FaultKind::Refused, Side::Local, "abort upload", detail))
            }
        };
        match aborted {
            Ok(()) => {
                ledger.forget_upload_of(&target, &key, &upload.id).await?;
                ended.aborted += 1;
            }
            Err(fault) => {
                tracing::warn!(%key, upload = upload.id, %fault, "an upload that nobody needs stays open; the next start tries again");
                ended.faults.push(fault);
            }
        }
    }
    Ok(ended)
}

/// At the start: what was dropped while no worker ran, or just before it died. What is left when the engine stops, the
/// next start ends.
pub(super) async fn end_those_left<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    shared.open().await;
    tokio::select! {
        biased;
        () = shared.stopped() => Ok(()),
        ended = end_all(shared.world.as_ref(), &shared.ledger) => ended.map(drop),
    }
}
