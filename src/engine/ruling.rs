//! Which rule holds for a version, where rules ask for tags.
//!
//! A job is there for one version, and its work may bring others: the newest, where only that is kept, or those that come
//! once more behind a late one. Each is brought with its own tags, by the rule that these choose.

use std::collections::BTreeMap;

use crate::ledger::{Claim, Outcome};
use crate::model::fault::{Fault, FaultKind};
use crate::model::job::{ChangeKind, Job};
use crate::model::object::{ETag, Head, Tags, VersionEntry, VersionId};
use crate::plan::route::{self, Choice, History, Rule};
use crate::ports::{ObjectStore, Pick, World};

use super::replicate::{At, Finish, Stop, exactly};
use super::{Ack, Shared, examine};

/// What holds for a job.
pub(super) enum Ruling<'r> {
    /// That rule; with the object's tags where they had to be read.
    Rule(&'r Rule, Option<Tags>),
    /// None: why.
    Nothing(String),
}

/// The rule that holds for a job, with the object's tags read where a rule asks for them.
pub(super) async fn ruled<'r, W: World>(shared: &'r Shared<W>, job: &Job) -> Result<Ruling<'r>, Fault> {
    let rules = &shared.settings.rules;
    let (choice, tags) = match route::choose(rules, &job.target, &job.key, None) {
        Choice::NeedsTags => {
            let tags = Box::pin(tags_for_choice(shared, job)).await?;
            (route::choose(rules, &job.target, &job.key, Some(&tags)), Some(tags))
        }
        choice => (choice, None),
    };
    Ok(match choice {
        Choice::Rule(rule) if job.kind == ChangeKind::DeleteMarker && !rule.delete_markers => {
            Ruling::Nothing(route::no_markers(rule))
        }
        Choice::Rule(rule) => Ruling::Rule(rule, tags),
        Choice::Nothing(reason) => Ruling::Nothing(reason),
        Choice::NeedsTags => Ruling::Nothing("the object's tags are not known".to_owned()),
    })
}

/// The tags that choose the rule. A delete marker has none of its own: the version that it hides speaks for it.
async fn tags_for_choice<W: World>(shared: &Shared<W>, job: &Job) -> Result<Tags, Fault> {
    let source = shared.world.source();
    let pick = if job.kind == ChangeKind::DeleteMarker {
        let versions = examine::versions_of(shared, source, &job.key).await?;
        let mut older = versions.into_iter().skip_while(|entry| entry.version != job.version);
        match older.find(|entry| entry.object.is_some()) {
            Some(hidden) => Pick::Version(hidden.version),
            None => return Ok(Tags::new()),
        }
    } else {
        exactly(shared.source_versioning().await?, job)
    };
    shared.budget.request().await;
    source.tags(&job.key, &pick).await
}

/// The object's tags chose another rule than its prefix did, and that one names another target key: the work goes
/// there as a job of its own, under that key's own order.
pub(super) async fn redirect<W: World>(shared: &Shared<W>, claim: &Claim, rule: &Rule) -> Result<Finish, Stop> {
    let job = claim.job();
    let moved = Job { rule: rule.id.clone(), target_key: rule.target_key(&job.key), ..job.clone() };
    let admission = crate::ledger::Admission { jobs: vec![moved], now: shared.now(), ..Default::default() };
    let admitted = shared.ledger.admit(admission).await?;
    if shared.settings.ack == Ack::Settled {
        admitted.ids.iter().for_each(|moved| shared.held.moved(claim.id(), *moved));
    }
    shared.work.notify_one();
    let reason = format!("goes to another key by rule {:?}, which its tags choose", rule.id);
    Ok(Finish::without_write(Outcome::NotReplicated(reason)))
}

/// What holds for a version that is about to be brought.
pub(super) enum Bringing<'a, W: World> {
    /// What holds for the job.
    AsTheJob,
    /// Its own tags, and the rule that they choose.
    AsItself(Box<At<'a, W>>),
    /// No rule brings it here: why.
    Not(String),
}

/// Tags that were read to choose a rule, and of which version. A null version may have been written again since.
#[derive(Debug)]
pub(super) struct KnownTags {
    version: VersionId,
    etag: Option<ETag>,
    tags: Tags,
}

impl KnownTags {
    /// Those that were read for a job.
    pub(super) fn of_job(job: &Job, tags: Tags) -> Self {
        Self { version: job.version.clone(), etag: job.etag.clone(), tags }
    }

    /// The tags, if they are those of the version with these headers.
    pub(super) fn of(&self, head: &Head) -> Option<&Tags> {
        let same = self.version == head.version && (!head.version.is_null() || self.etag.as_ref() == Some(&head.etag));
        same.then_some(&self.tags)
    }
}

impl<W: World> Shared<W> {
    /// How the version with these headers is to be brought.
    pub(super) async fn bringing<'a>(&'a self, at: &At<'a, W>, head: &Head) -> Result<Bringing<'a, W>, Fault> {
        if at.tags.as_ref().is_none_or(|known| known.of(head).is_some()) {
            return Ok(Bringing::AsTheJob);
        }
        let job = at.job();
        let tags = Box::pin(self.read_tags(at, head)).await?;
        let rule = match route::choose(&self.settings.rules, &job.target, &job.key, Some(&tags)) {
            Choice::Rule(rule) if rule.target_key(&job.key) == job.target_key => rule,
            // It comes once more because it stands there: tagged since, it is not taken away again.
            Choice::Rule(_) | Choice::Nothing(_) | Choice::NeedsTags if at.history == History::All => at.rule,
            Choice::Rule(rule) => {
                return Ok(Bringing::Not(format!("the newest version goes to another key by rule {:?}", rule.id)));
            }
            Choice::Nothing(reason) => return Ok(Bringing::Not(reason)),
            Choice::NeedsTags => return Ok(Bringing::Not("the object's tags are not known".to_owned())),
        };
        Ok(Bringing::AsItself(Box::new(At {
            claim: at.claim,
            rule,
            history: at.history,
            tags: Some(KnownTags { version: head.version.clone(), etag: Some(head.etag.clone()), tags }),
            store: at.store,
            target: at.target,
            source_versioning: at.source_versioning,
            target_versioning: at.target_versioning,
            applied: at.applied.clone(),
            made: at.made.clone(),
        })))
    }
}

/// Takes the delete markers out of a history, the oldest first, that no rule brings: what a marker hides decides.
pub(super) async fn without_unwanted_markers<W: World>(
    shared: &Shared<W>,
    at: &At<'_, W>,
    history: Vec<VersionEntry>,
) -> Result<Vec<VersionEntry>, Fault> {
    let mut kept = Vec::with_capacity(history.len());
    let mut hidden = None;
    let mut ruled = BTreeMap::new();
    for entry in history {
        if entry.object.is_some() {
            hidden = Some(entry.version.clone());
            kept.push(entry);
            continue;
        }
        let wanted = match &hidden {
            Some(version) if at.tags.is_some() && entry.version != at.job().version => match ruled.get(version) {
                Some(wanted) => *wanted,
                None => {
                    let wanted = brings_marker(shared, at, &Pick::Version(version.clone())).await?;
                    ruled.insert(version.clone(), wanted);
                    wanted
                }
            },
            Some(_) | None => at.rule.delete_markers,
        };
        if wanted {
            kept.push(entry);
        }
    }
    Ok(kept)
}

/// Whether the rule of a hidden version brings the marker that hides it.
async fn brings_marker<W: World>(shared: &Shared<W>, at: &At<'_, W>, hidden: &Pick) -> Result<bool, Fault> {
    let job = at.job();
    shared.budget.request().await;
    let tags = match shared.world.source().tags(&job.key, hidden).await {
        // Deleted for good meanwhile: the next look does not list it.
        Err(fault) if fault.kind == FaultKind::Gone => return Ok(at.rule.delete_markers),
        tags => tags?,
    };
    let choice = route::choose(&shared.settings.rules, &job.target, &job.key, Some(&tags));
    Ok(matches!(choice, Choice::Rule(rule) if rule.delete_markers))
}
