//! Reconcile: lists both sides and admits what differs. What the listings already prove equal costs no request.

use std::sync::Arc;

use crate::audit::sample::Sample;
use crate::audit::{self, Finding, Further, Listener, Told, Verdict};
use crate::ledger::Admission;
use crate::model::fault::Fault;
use crate::model::job::{Change, ChangeKind, Origin};
use crate::model::object::VersionId;
use crate::plan::route;
use crate::ports::World;

use super::paced::Paced;
use super::scan::{DeleteMarkers, Looks, ScanProgress, Scanned, Scope, room};
use super::{Phase, Shared};

/// Differences admitted with one flush.
const BATCH: usize = 256;
/// Looks at single objects under way at once, where the listings do not tell.
const LOOKS: usize = 16;

impl<W: World> super::Engine<W> {
    /// Compares the current objects of both sides and admits what is missing or different. Returns when the comparison
    /// is complete, or the engine has stopped. A fault means that some keys could not be compared: what was found is
    /// admitted all the same.
    pub async fn reconcile(&self, scope: &Scope, looks: Looks, progress: &ScanProgress) -> Result<Scanned, Fault> {
        let shared = &self.shared;
        let settings = audit::Settings {
            rules: shared.settings.rules.clone(),
            source_bucket: shared.settings.source_bucket.clone(),
            prefix: scope.prefix.clone(),
            only: scope.rule.clone(),
            sample: Sample::all(0),
            bytes: Further::Skip,
            metadata: looks.metadata,
            tags: looks.tags,
            versions: Further::Skip,
            looks: LOOKS,
            started: shared.now(),
        };
        let further = [looks.metadata, looks.tags].contains(&Further::Look);
        let differing = if further { ChangeKind::Mend } else { ChangeKind::Write };
        let mut admitting = Admitting { shared, scope, progress, differing, batch: Vec::new(), hole: None };
        let paced = Paced::new(Arc::clone(&shared.world), Arc::clone(&shared.budget), shared.settings.targets.keys());
        let paced = Arc::new(paced);
        let walked = tokio::select! {
            walked = audit::walk(&paced, &settings, &mut admitting) => walked,
            () = shared.stopped() => return Ok(Scanned::Interrupted),
        };
        if shared.phase() != Phase::Run {
            return Ok(Scanned::Interrupted);
        }
        walked?;
        admitting.flush().await?;
        match admitting.hole {
            Some(fault) => Err(fault),
            None => Ok(Scanned::Complete),
        }
    }
}

struct Admitting<'a, W: World> {
    shared: &'a Arc<Shared<W>>,
    scope: &'a Scope,
    progress: &'a ScanProgress,
    /// What a difference asks for: a look beyond bytes may have found it.
    differing: ChangeKind,
    batch: Vec<Change>,
    /// The first part that could not be compared.
    hole: Option<Fault>,
}

impl<W: World> Listener for Admitting<'_, W> {
    async fn tell(&mut self, told: Told) -> Result<(), Fault> {
        match told {
            Told::Hole { hole, .. } => {
                tracing::error!(fault = %hole.fault, after = ?hole.after, upto = ?hole.upto, "these keys were not compared");
                self.hole.get_or_insert(hole.fault);
            }
            Told::Finding(finding) => self.take(*finding).await?,
        }
        Ok(())
    }
}

impl<W: World> Admitting<'_, W> {
    async fn take(&mut self, finding: Finding) -> Result<(), Fault> {
        self.progress.count();
        if let Some(fault) = &finding.obstacle {
            tracing::warn!(key = %finding.key, %fault, "the object could not be compared");
            self.hole.get_or_insert(fault.clone());
        }
        match finding.verdict {
            Verdict::Identical => self.progress.count_equal(),
            Verdict::Missing => self.batch.push(self.change(&finding, ChangeKind::Write)),
            Verdict::Different => self.batch.push(self.change(&finding, self.differing)),
            // Counted and told; copying it again at every sync would not end.
            Verdict::Unprovable => self.progress.count_unprovable(),
            // At the target alone. Only a delete marker at the source takes it away, and only where asked.
            Verdict::Extra | Verdict::Kept => {
                if self.scope.delete_markers == DeleteMarkers::Brought {
                    self.batch.push(self.change(&finding, ChangeKind::DeleteMarker));
                }
            }
        }
        if self.batch.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    /// A listing of current objects tells no version ids: whichever is current when the job runs is meant, and a delete
    /// marker is made only if the source's current version is one then (P4).
    fn change(&self, finding: &Finding, kind: ChangeKind) -> Change {
        let seen = finding.source.as_ref();
        Change {
            bucket: self.shared.settings.source_bucket.clone(),
            key: finding.key.clone(),
            kind,
            version: VersionId::unnamed(),
            sequencer: None,
            etag: seen.and_then(|seen| seen.etag.clone()),
            size: seen.and_then(|seen| seen.size),
            changed: seen.map_or_else(|| self.shared.now(), |seen| seen.modified),
            origin: Origin::Scan,
        }
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        if !room(self.shared).await {
            return Ok(());
        }
        let mut admission = Admission { now: self.shared.now(), ..Default::default() };
        for change in self.batch.drain(..) {
            admission.jobs.extend(route::route(&self.shared.settings.rules, &change).jobs);
        }
        let _admitted = self.shared.ledger.admit(admission).await?;
        self.shared.work.notify_one();
        Ok(())
    }
}
