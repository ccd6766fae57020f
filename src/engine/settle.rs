//! The end of a job: what is written down of it, and told.
//!
//! A job's way to the ledger costs as much as a request to S3, so those that end at about the same time go together
//! (`dispatch`). Until then its claim lives on: the key stays its own, and dropped, it is still to do.

use crate::audit::receipts::Receipt;
use crate::fail::{self, Point};
use crate::ledger::{Claim, Outcome, Settlement, Upload};
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::ports::{ObjectStore, UploadRef, World};

use super::replicate::{Finish, Onward};
use super::verify::Verdict;
use super::{Ack, Shared, receipts};

/// A job that has ended and is still to be settled.
#[derive(Debug)]
#[must_use = "dropped, the job is still to do"]
pub(super) struct Ended {
    claim: Claim,
    settlement: Settlement,
    receipts: Vec<Receipt>,
}

impl<W: World> Shared<W> {
    /// Makes a job ready to be settled. What nothing else tells, which replicas without a stamp it has made, is settled at
    /// once.
    pub(super) async fn end(&self, claim: Claim, finish: Finish) -> Result<Onward, Fault> {
        let job = claim.job();
        tracing::debug!(key = %job.key, version = %job.version, target = %job.target, outcome = ?finish.outcome, "settled");
        if let Verdict::Unprovable(reason) = finish.verdict {
            tracing::warn!(key = %job.key, version = %job.version, reason, "replicated, but equality cannot be proved");
        }
        self.end_orphan(&claim).await?;
        let now = self.now();
        let receipts = receipts::of(self, claim.job(), &finish, now);
        let settlement = Settlement {
            outcome: finish.outcome,
            applied: finish.applied,
            replicas: finish.replicas,
            bytes: finish.bytes,
            provable: matches!(finish.verdict, Verdict::Exact(_)),
            now,
        };
        let alone = !settlement.replicas.is_empty();
        let ended = Ended { claim, settlement, receipts };
        if alone {
            return self.settle(vec![ended]).await.map(|()| Onward::Free);
        }
        Ok(Onward::Ended(Box::new(ended)))
    }

    /// A job that ends while an upload of it is still open does not need it any more: the object is there by another
    /// way, or its version is gone. Left open, its parts would be billed until a lifecycle rule finds them.
    async fn end_orphan(&self, claim: &Claim) -> Result<(), Fault> {
        match self.ledger.upload(claim)? {
            Some(upload) => Box::pin(self.abort_orphan(claim, upload)).await,
            None => Ok(()),
        }
    }

    async fn abort_orphan(&self, claim: &Claim, upload: Upload) -> Result<(), Fault> {
        let Ok((store, _)) = self.target(&claim.job().target) else { return Ok(()) };
        let reference = UploadRef { key: &claim.job().target_key, id: &upload.id };
        match store.abort_upload(reference).await {
            Ok(()) => self.ledger.forget_upload(claim).await,
            Err(fault) => {
                tracing::warn!(key = %claim.job().target_key, upload = upload.id, %fault, "an upload that is not needed any more could not be aborted; it stays noted");
                Ok(())
            }
        }
    }

    /// Settles jobs, each of a key of its own, in one trip to the ledger; then tells of them.
    pub(super) async fn settle(&self, ended: Vec<Ended>) -> Result<(), Fault> {
        if ended.is_empty() {
            return Ok(());
        }
        let told: Vec<(Job, bool, u64)> = ended.iter().map(Ended::told).collect();
        let mut receipts = Vec::new();
        let mut ends = Vec::with_capacity(ended.len());
        for Ended { claim, settlement, receipts: left } in ended {
            receipts.extend(left);
            ends.push((vec![claim], settlement));
        }
        let settled = self.ledger.settle_all(ends).await?;
        fail::pass(Point::AfterSettle);
        for (settled, (job, replicated, bytes)) in settled.iter().zip(&told) {
            if *replicated {
                self.pulse.replicated(job, settled.lag, *bytes);
            }
            if self.settings.ack == Ack::Settled {
                self.held.settled(&settled.ids);
            }
        }
        self.leave_receipts(receipts).await;
        Ok(())
    }
}

impl Ended {
    /// What the figures are told once it is settled: the job, whether it brought anything, and bytes.
    fn told(&self) -> (Job, bool, u64) {
        let replicated = matches!(self.settlement.outcome, Outcome::Replicated);
        (self.claim.job().clone(), replicated, self.settlement.bytes)
    }
}
