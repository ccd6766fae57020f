//! Reconcile: lists both sides and admits what differs. What the listings already prove equal costs no request.

use std::sync::Arc;

use crate::audit::sample::Sample;
use crate::audit::{self, Finding, Further, Listener, Told, Verdict};
use crate::model::fault::Fault;
use crate::model::job::{Change, ChangeKind, Origin};
use crate::model::object::VersionId;
use crate::plan::route;
use crate::ports::World;

use super::brake::Census;
use super::paced::Paced;
use super::scan::{DeleteMarkers, Looks, ScanProgress, Scanned, Scope, room};
use super::spending::{self, Priced};
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
        let (hole, holes, census) = (None, 0, Census::default());
        let mut admitting = Admitting { shared, scope, progress, differing, batch: Vec::new(), hole, holes, census };
        let paced = Paced::new(Arc::clone(&shared.world), Arc::clone(&shared.budget), shared.settings.targets.keys());
        let paced = Arc::new(paced);
        let walked = tokio::select! {
            walked = audit::walk(&paced, &settings, &mut admitting) => walked,
            () = shared.stopped() => return Ok(Scanned::Interrupted),
        };
        if shared.phase() != Phase::Run {
            return Ok(Scanned::Interrupted);
        }
        let whole = match walked {
            Ok(()) => admitting.flush().await,
            Err(fault) => Err(fault),
        };
        if spending::is_dry(shared) {
            return Ok(Scanned::Spent);
        }
        whole?;
        match admitting.hole {
            Some(fault) if admitting.holes > 1 => {
                let detail = format!("{}; and {} more, see the log", fault.detail, admitting.holes - 1);
                Err(Fault { detail, ..fault })
            }
            Some(fault) => Err(fault),
            None => {
                shared.take_census(scope, admitting.census).await?;
                Ok(Scanned::Complete)
            }
        }
    }
}

struct Admitting<'a, W: World> {
    shared: &'a Arc<Shared<W>>,
    scope: &'a Scope,
    progress: &'a ScanProgress,
    /// What a difference asks for: a look beyond bytes may have found it.
    differing: ChangeKind,
    /// Changes with their objects' classes.
    batch: Vec<(Change, Option<String>)>,
    /// The first part that could not be compared, and how many there are.
    hole: Option<Fault>,
    holes: u64,
    census: Census,
}

impl<W: World> Listener for Admitting<'_, W> {
    async fn tell(&mut self, told: Told) -> Result<(), Fault> {
        self.shared.open().await;
        match told {
            Told::Hole { side, target, hole } => {
                let range = format!("the {} listing for target {target}, {}", side.name(), hole.bounds());
                self.leave_out(&range, hole.fault);
            }
            Told::Finding(finding) => self.take(*finding).await?,
        }
        Ok(())
    }
}

impl<W: World> Admitting<'_, W> {
    /// Something could not be compared: told at once, and in the end.
    fn leave_out(&mut self, what: &str, fault: Fault) {
        tracing::error!(%fault, "{what} was not compared");
        self.holes += 1;
        let detail = format!("{}; {what} was not compared, run the sync again", fault.detail);
        self.hole.get_or_insert(Fault { detail, ..fault });
    }

    async fn take(&mut self, finding: Finding) -> Result<(), Fault> {
        self.progress.count();
        self.census.count(&finding.target);
        if let Some(fault) = &finding.obstacle {
            self.leave_out(&format!("the object {:?}", finding.key.as_str()), fault.clone());
        }
        match finding.verdict {
            Verdict::Identical => self.progress.count_equal(),
            Verdict::Missing => self.push(&finding, ChangeKind::Write),
            Verdict::Different => self.push(&finding, self.differing),
            // Counted and told; copying it again at every sync would not end.
            Verdict::Unprovable => self.progress.count_unprovable(),
            // At the target alone. Only a delete marker at the source takes it away, and only where asked.
            Verdict::Extra | Verdict::Kept => {
                if self.scope.delete_markers == DeleteMarkers::Brought {
                    self.push(&finding, ChangeKind::DeleteMarker);
                }
            }
        }
        if self.batch.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    fn push(&mut self, finding: &Finding, kind: ChangeKind) {
        let class = finding.source.as_ref().and_then(|seen| seen.storage_class.clone());
        self.batch.push((self.change(finding, kind), class));
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
        let rules = &self.shared.settings.rules;
        let routed = |(change, class): (Change, Option<String>)| {
            route::route(rules, &change).jobs.into_iter().map(move |job| (job, class.clone()))
        };
        let jobs: Vec<Priced> = self.batch.drain(..).flat_map(routed).collect();
        spending::admit(self.shared, &jobs).await
    }
}
