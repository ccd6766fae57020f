//! The brake on mass deletes (P11): where a delete asks whether it may go, and how the keys of a target are counted.

use std::collections::BTreeMap;

use crate::ledger::Passage;
use crate::model::fault::Fault;
use crate::model::job::{ChangeKind, Job};
use crate::model::object::{TargetId, VersionEntry};
use crate::plan::brake::excess;
use crate::plan::route::{self, Choice};
use crate::ports::{ObjectStore, Pick, World};

use super::Shared;
use super::replicate::{At, Stop, raced};
use super::scan::Scope;

impl<W: World> Shared<W> {
    /// Asks for one delete that would hide what is visible at the target. To be asked last, right before it is made:
    /// it counts.
    pub(super) async fn may_hide(&self, at: &At<'_, W>) -> Result<(), Stop> {
        let (job, bounds) = (at.job(), self.settings.brake);
        let judge = move |seen| excess(&bounds, seen).map(|excess| excess.to_string());
        match self.ledger.pass_delete(at.claim, self.now(), judge).await? {
            Passage::Free => Ok(()),
            Passage::Overtaken => Err(raced("bring the delete marker").into()),
            Passage::Tripped(reason) => {
                tracing::warn!(target = %job.target, key = %job.key, reason,
                    "the brake holds: no delete goes to this target until `repl brake release`");
                Err(Stop::Held)
            }
            Passage::Held => {
                tracing::debug!(key = %job.key, version = %job.version, target = %job.target, "held by the brake");
                Err(Stop::Held)
            }
        }
    }

    /// Whether the rule brings one of these source versions: a delete marker before it then hides nothing for long.
    pub(super) async fn is_followed(&self, at: &At<'_, W>, newer: &[VersionEntry]) -> Result<bool, Fault> {
        let Some(next) = newer.iter().rfind(|entry| entry.object.is_some()) else { return Ok(false) };
        if at.rule.tags.is_empty() {
            return Ok(true);
        }
        let job = at.job();
        self.budget.request().await;
        let tags = self.world.source().tags(&job.key, &Pick::Version(next.version.clone())).await?;
        let choice = route::choose(&self.settings.rules, &job.target, &job.key, Some(&tags));
        Ok(matches!(choice, Choice::Rule(rule) if rule.target_key(&job.key) == job.target_key))
    }

    /// Remembers how many keys a comparison met for each target, if it met all: a part tells nothing of the whole.
    pub(super) async fn take_census(&self, scope: &Scope, census: Census) -> Result<(), Fault> {
        if scope.rule.is_some() || !scope.prefix.is_empty() {
            return Ok(());
        }
        for target in self.settings.targets.keys() {
            let keys = census.0.get(target).copied().unwrap_or(0);
            self.ledger.note_keys(target, keys, self.now()).await?;
        }
        Ok(())
    }
}

/// Keys by target, as a comparison meets them.
#[derive(Debug, Default)]
pub(super) struct Census(BTreeMap<TargetId, u64>);

impl Census {
    /// Counts one key.
    pub(super) fn count(&mut self, target: &TargetId) {
        match self.0.get_mut(target) {
            Some(keys) => *keys = keys.saturating_add(1),
            None => drop(self.0.insert(target.clone(), 1)),
        }
    }

    /// Counts one key by all of its jobs, oldest first, where the last one leaves it visible.
    pub(super) fn take_in<'j>(&mut self, jobs: impl Iterator<Item = &'j Job>) {
        let newest: BTreeMap<&TargetId, ChangeKind> = jobs.map(|job| (&job.target, job.kind)).collect();
        for (target, kind) in newest {
            if kind == ChangeKind::Write {
                self.count(target);
            }
        }
    }
}
