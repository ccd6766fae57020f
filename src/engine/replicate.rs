//! One claim from facts to settlement.

use std::sync::Arc;

use crate::ledger::{Claim, Lane, Outcome, Replica};
use crate::model::digest::Means;
use crate::model::fault::{Disposition, Fault, FaultKind, Side};
use crate::model::job::{Applied, ChangeKind, Job, Origin};
use crate::model::object::{Found, Head, TargetId, Versioning};
use crate::model::stamp::Stamp;
use crate::plan::decide::{self, Clash, Opening, Overwriting};
use crate::plan::retry;
use crate::plan::route::{self, History, Rule};
use crate::ports::{Condition, ObjectStore, Pick, World, Written};

use super::confirm::confirmed;
use super::follow::Following;
use super::receipts::Brought;
use super::ruling::{self, KnownTags, Ruling};
use super::settle::Ended;
use super::transfer::{Carried, Judging, Landed, shown};
use super::verify::Verdict;
use super::{Conditions, Shared, TargetSettings, examine, follow, mend};

/// How often a lost race is decided again at once before the job waits its turn.
pub(super) const ROUNDS: usize = 6;

/// How a job ended well.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) outcome: Outcome,
    pub(super) applied: Option<Applied>,
    pub(super) replicas: Vec<Replica>,
    pub(super) bytes: u64,
    pub(super) verdict: Verdict,
    /// What receipts tell; empty where no more is known than the job itself says.
    pub(super) brought: Vec<Brought>,
}

impl Finish {
    /// This write and then one on top of it, as one: what neither could prove stays unproved.
    pub(super) fn and(self, later: Self) -> Self {
        let (mut replicas, mut brought) = (self.replicas, self.brought);
        replicas.extend(later.replicas);
        brought.extend(later.brought);
        let verdict = match later.verdict {
            Verdict::Exact(_) => self.verdict,
            Verdict::Unprovable(_) => later.verdict,
        };
        Self { bytes: self.bytes.saturating_add(later.bytes), replicas, verdict, brought, ..later }
    }

    /// Nothing had to be written.
    pub(super) fn without_write(outcome: Outcome) -> Self {
        Self {
            outcome,
            applied: None,
            replicas: Vec::new(),
            bytes: 0,
            verdict: Verdict::Exact(Means::Stamp),
            brought: Vec::new(),
        }
    }
}

/// Why a job did not end well.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something went wrong.
    Fault(Fault),
    /// The engine is stopping; what was done so far is written down.
    Interrupted,
    /// The brake holds the job: the ledger has it among those that wait for an operator.
    Held,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Everything that holds for one job while it is worked on.
pub(super) struct At<'a, W: World> {
    pub(super) claim: &'a Claim,
    pub(super) rule: &'a Rule,
    /// How much of the past can really be brought: all only where both sides keep versions.
    pub(super) history: History,
    /// Tags that a rule had to know already.
    pub(super) tags: Option<KnownTags>,
    pub(super) store: &'a W::Store,
    pub(super) target: &'a TargetSettings,
    pub(super) source_versioning: Versioning,
    pub(super) target_versioning: Versioning,
    /// What the ledger remembers of the target key; nothing for a job of a comparison, or one that found a foreign object:
    /// those are there to doubt it.
    pub(super) applied: Option<Applied>,
    /// What this very attempt has left at the target so far.
    pub(super) made: Option<Applied>,
}

impl<W: World> At<'_, W> {
    pub(super) fn job(&self) -> &Job {
        self.claim.job()
    }

    pub(super) fn overwriting(&self) -> Overwriting {
        match self.target_versioning {
            Versioning::Enabled => Overwriting::KeepsVersion,
            Versioning::Off | Versioning::Suspended => Overwriting::Destroys,
        }
    }
}

/// What waits behind a claim in its lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    /// Any change of the same key.
    pub(super) any: bool,
    /// A newer version or delete marker.
    pub(super) content: bool,
}

/// What became of a job, and whether those behind it, of the same key, may be worked on now.
#[derive(Debug)]
pub(super) enum Onward {
    /// It has ended and is still to be settled.
    Ended(Box<Ended>),
    /// It is settled, or parked and holds up nobody (P9).
    Free,
    /// It comes again soon: what is newer waits for it, or it would land out of order (P3).
    HeldUp,
}

/// Works on one claim to its end. An error means that it could not be written down.
pub(super) async fn work<W: World>(shared: &Arc<Shared<W>>, lane: &Lane, claim: Claim) -> Result<Onward, Fault> {
    let behind = Behind {
        any: lane.waiting().next().is_some(),
        content: lane.waiting().any(|job| job.kind != ChangeKind::Attributes),
    };
    match attempt(shared, &claim, behind).await {
        Ok(finish) => shared.end(claim, finish).await,
        Err(Stop::Held) => Ok(Onward::Free),
        Err(Stop::Interrupted) => Ok(Onward::HeldUp),
        Err(Stop::Fault(fault)) => Box::pin(handle(shared, claim, fault)).await,
    }
}

async fn handle<W: World>(shared: &Shared<W>, claim: Claim, fault: Fault) -> Result<Onward, Fault> {
    shared.pulse.fault(&fault);
    let mut disposition = fault.kind.disposition();
    let again = claim.last_fault() == Some(FaultKind::Corrupt);
    if fault.kind == FaultKind::Corrupt && again && claim.attempts() + 1 >= retry::CORRUPT_TRIES {
        disposition = Disposition::ParkAlone;
    }
    match disposition {
        Disposition::Retry | Disposition::DecideAgain => try_later(shared, claim, &fault).await,
        // Only the source can make a job pointless; what is missing at the target is there to be brought.
        Disposition::Drop if fault.side == Side::Source => match confirmed_gone(shared, claim.job()).await {
            Ok(finish) => shared.end(claim, finish).await,
            Err(Stop::Fault(fault)) => try_later(shared, claim, &fault).await,
            Err(Stop::Interrupted | Stop::Held) => Ok(Onward::HeldUp),
        },
        Disposition::Drop => try_later(shared, claim, &fault).await,
        Disposition::ParkGroup | Disposition::ParkAlone => {
            let job = claim.job();
            tracing::warn!(key = %job.key, version = %job.version, kind = fault.kind.name(), %fault, "parked");
            shared.ledger.park(claim, &fault, shared.now()).await.map(|()| Onward::Free)
        }
        Disposition::Halt => Err(fault),
    }
}

async fn try_later<W: World>(shared: &Shared<W>, claim: Claim, fault: &Fault) -> Result<Onward, Fault> {
    let (job, now) = (claim.job(), shared.now());
    let wait = shared.settings.retry.wait(fault.kind, claim.attempts(), (shared.settings.chance)());
    tracing::info!(key = %job.key, version = %job.version, %fault, wait_ms = wait.as_millis(), "will try again");
    shared.ledger.defer(claim, now.plus(wait), fault, now).await.map(|()| Onward::HeldUp)
}

async fn confirmed_gone<W: World>(shared: &Shared<W>, job: &Job) -> Result<Finish, Stop> {
    let pick = exactly(shared.source_versioning().await?, job);
    examine::gone(shared, job, &pick).await
}

async fn attempt<W: World>(shared: &Arc<Shared<W>>, claim: &Claim, behind: Behind) -> Result<Finish, Stop> {
    let job = claim.job();
    let (rule, tags) = match ruling::ruled(shared, job).await? {
        Ruling::Rule(rule, tags) => (rule, tags.map(|tags| KnownTags::of_job(job, tags))),
        Ruling::Nothing(reason) => return Ok(Finish::without_write(Outcome::NotReplicated(reason))),
    };
    if rule.target_key(&job.key) != job.target_key {
        return Box::pin(ruling::redirect(shared, claim, rule)).await;
    }
    if job.target_key.as_str().len() > route::MAX_KEY_BYTES {
        let detail = format!("the target key would have {} bytes, S3 permits 1,024", job.target_key.as_str().len());
        return Err(Fault::new(FaultKind::Ineligible, Side::Target, "name the replica", detail).into());
    }
    let (store, target) = shared.target(&job.target)?;
    let source_versioning = shared.source_versioning().await?;
    let target_versioning = shared.target_versioning(&job.target, store).await?;
    let versions_on_both = source_versioning != Versioning::Off && target_versioning == Versioning::Enabled;
    let named = !job.version.is_unnamed();
    let history = if versions_on_both && named { rule.history } else { History::Latest };
    if history == History::Latest && behind.content && job.kind != ChangeKind::Attributes {
        // Only the newest is kept, and a newer one waits right behind.
        return Ok(Finish::without_write(Outcome::Superseded));
    }
    // Where an object stood in the way an operator may have taken away what is remembered, as the fault asks for.
    let remembers = job.origin == Origin::Event && claim.last_fault() != Some(FaultKind::Foreign);
    let applied = if remembers { shared.ledger.applied(&job.target, &job.target_key)? } else { None };
    let at =
        At { claim, rule, history, tags, store, target, source_versioning, target_versioning, applied, made: None };
    match job.kind {
        ChangeKind::Write | ChangeKind::Restored => {
            let finish = bring(shared, &at, behind.any).await?;
            confirmed(shared, at, finish, behind).await
        }
        // Apart, here and below: what few jobs come to must not make the task of each one larger.
        ChangeKind::DeleteMarker => {
            let finish = Box::pin(bring_marker(shared, &at)).await?;
            confirmed(shared, at, finish, behind).await
        }
        ChangeKind::Attributes => Box::pin(follow::follow(shared, &at, Following::Change)).await,
        ChangeKind::Mend => Box::pin(mend::mend(shared, &at)).await,
    }
}

/// How to name a job's version to the source: a bucket without versioning has only a current one.
pub(super) fn exactly(versioning: Versioning, job: &Job) -> Pick {
    match versioning {
        Versioning::Enabled | Versioning::Suspended if !job.version.is_unnamed() => Pick::Version(job.version.clone()),
        Versioning::Off | Versioning::Enabled | Versioning::Suspended => Pick::Current,
    }
}

/// Brings an object version with everything that belongs to it.
async fn bring<W: World>(shared: &Arc<Shared<W>>, at: &At<'_, W>, newer_waiting: bool) -> Result<Finish, Stop> {
    let opening = decide::open(at.job(), at.history, at.applied.as_ref(), newer_waiting);
    if opening == Opening::Known {
        return Ok(known(at));
    }
    let finish = bring_bytes(shared, at, opening).await?;
    if finish.outcome == Outcome::AlreadyEqual
        && let Some(following) = unfinished(at)
    {
        let followed = Box::pin(follow::follow(shared, at, following)).await?;
        if followed.outcome == Outcome::Replicated {
            return Ok(Finish { outcome: Outcome::Replicated, ..finish });
        }
    }
    Ok(finish)
}

/// The ledger remembers that exactly this was applied.
fn known<W: World>(at: &At<'_, W>) -> Finish {
    let brought = at.applied.iter().map(|applied| Brought::remembered(applied, at.job().size)).collect();
    Finish { brought, ..Finish::without_write(Outcome::AlreadyEqual) }
}

fn equal_already(brought: Brought) -> Finish {
    Finish { brought: vec![brought], ..Finish::without_write(Outcome::AlreadyEqual) }
}

/// What an earlier attempt may have left to do, if it made the object visible and then broke off before its ACL, or the
/// tags that a store lost, were brought. An event without an ETag does not tell of parts: the object does. And a null
/// version may have been written again with the same bytes and other tags.
fn unfinished<W: World>(at: &At<'_, W>) -> Option<Following> {
    if at.rule.acl || at.claim.attempts() > 0 || at.job().version.is_null() {
        return Some(Following::Change);
    }
    let may_have_parts = at.job().etag.as_ref().is_none_or(|etag| etag.parts().is_some());
    may_have_parts.then_some(Following::LostWithParts)
}

/// Brings the version itself, if the target does not have it.
async fn bring_bytes<W: World>(shared: &Arc<Shared<W>>, at: &At<'_, W>, opening: Opening) -> Result<Finish, Stop> {
    match opening {
        // A condition that nobody keeps protects nothing: both sides are looked at instead.
        Opening::Read { .. } if at.target.conditions == Conditions::Ignored => {}
        Opening::Read { pick, condition } => match shared.carry(at, &pick, &condition, Judging::ByMemory).await? {
            Carried::Landed(landed) => return Ok(landed_finish(shared, at, *landed)),
            Carried::AlreadyEqual(brought) => return Ok(equal_already(*brought)),
            Carried::NotReplicated(reason) => return Ok(Finish::without_write(Outcome::NotReplicated(reason))),
            Carried::Missing if at.history == History::Latest || pick != Pick::Current => {
                return Box::pin(examine::gone(shared, at.job(), &pick)).await;
            }
            Carried::DeleteMarker if at.history == History::Latest => {
                return Ok(Finish::without_write(Outcome::Superseded));
            }
            Carried::Examine | Carried::Raced | Carried::Missing | Carried::DeleteMarker => {}
        },
        Opening::Known | Opening::Examine => {}
    }
    Box::pin(bring_looked_at(shared, at)).await
}

/// Brings the version having looked at both sides, again where the target changes meanwhile.
async fn bring_looked_at<W: World>(shared: &Arc<Shared<W>>, at: &At<'_, W>) -> Result<Finish, Stop> {
    for _ in 0..ROUNDS {
        let finish = match at.history {
            History::All => examine::examine(shared, at).await?,
            History::Latest => bring_latest(shared, at).await?,
        };
        if let Some(finish) = finish {
            return Ok(finish);
        }
    }
    Err(raced("bring the version").into())
}

pub(super) fn raced(during: &'static str) -> Fault {
    Fault::new(
        FaultKind::Raced,
        Side::Target,
        during,
        "the target changed under every look: somebody else writes this key",
    )
}

/// Brings the newest version, having looked at both sides. `None` when the target changed meanwhile.
pub(super) async fn bring_latest<W: World>(shared: &Arc<Shared<W>>, at: &At<'_, W>) -> Result<Option<Finish>, Stop> {
    let job = at.job();
    shared.budget.request().await;
    let source = match shared.world.source().head(&job.key, &Pick::Current).await? {
        Found::Object(head) => head,
        Found::DeleteMarker => return Ok(Some(Finish::without_write(Outcome::Superseded))),
        Found::Missing => return examine::gone(shared, job, &Pick::Current).await.map(Some),
    };
    shared.budget.request().await;
    let mut target = at.store.head(&job.target_key, &Pick::Current).await?;
    if let Found::Object(head) = &mut target {
        let told = Stamp::read(&head.attributes.metadata).is_some();
        recall_stamp(shared, &job.target, job, head)?;
        if !told && at.claim.attempts() > 0 && !decide::same_attributes(&source, head) {
            disown(&source, head);
        }
    }
    let origin = if at.claim.last_fault() == Some(FaultKind::Corrupt) { Origin::Scan } else { job.origin };
    match decide::clash(&source, &target, origin, at.overwriting()) {
        Clash::AlreadyEqual => Ok(Some(already_equal(at, &source, &target))),
        Clash::Foreign => Err(foreign(at).into()),
        Clash::Write(condition) => match shared.carry(at, &Pick::Current, &condition, Judging::AsTold).await? {
            Carried::Landed(landed) => Ok(Some(landed_finish(shared, at, *landed))),
            Carried::AlreadyEqual(_) => Ok(Some(already_equal(at, &source, &target))),
            Carried::NotReplicated(reason) => Ok(Some(Finish::without_write(Outcome::NotReplicated(reason)))),
            Carried::Examine | Carried::Raced | Carried::Missing | Carried::DeleteMarker => Ok(None),
        },
    }
}

/// What an earlier attempt may have sent has the source's attributes: equal bytes with others are somebody else's.
fn disown(source: &Head, target: &mut Head) {
    let stamp = Stamp::read(&target.attributes.metadata);
    if stamp.is_some_and(|stamp| stamp.names(&source.version, &source.etag, source.modified)) {
        Stamp::strip(&mut target.attributes.metadata);
    }
}

fn foreign<W: World>(at: &At<'_, W>) -> Fault {
    let detail = format!(
        "{:?} in bucket {:?} was not written by repl and the bucket keeps no versions, so overwriting would destroy it: \
         enable versioning there, or remove it, then retry",
        at.job().target_key,
        at.target.bucket
    );
    Fault::new(FaultKind::Foreign, Side::Target, "replace the object", detail)
}

/// Gives a replica that carries no stamp the one that the ledger kept for it.
pub(super) fn recall_stamp<W: World>(
    shared: &Shared<W>,
    target: &TargetId,
    job: &Job,
    head: &mut Head,
) -> Result<(), Fault> {
    if Stamp::read(&head.attributes.metadata).is_some() {
        return Ok(());
    }
    let replicas = shared.ledger.replicas(target, &job.target_key)?;
    let known = replicas.iter().find(|replica| {
        replica.target_etag == head.etag
            && replica.target_version.as_ref().is_none_or(|version| *version == head.version)
    });
    if let Some(replica) = known {
        let origin = shared.settings.source_bucket.clone();
        let (version, etag) = (replica.source_version.clone(), replica.source_etag.clone());
        // In memory only: that it would not fit S3's limit is why it stands in the ledger.
        Stamp { version, etag, modified: replica.modified, origin }.put(&mut head.attributes.metadata);
    }
    Ok(())
}

fn already_equal<W: World>(at: &At<'_, W>, source: &Head, target: &Found) -> Finish {
    let applied = match target {
        Found::Object(target) => Some(Applied {
            version: source.version.clone(),
            marker: false,
            source_etag: Some(source.etag.clone()),
            modified: source.modified,
            sequencer: sequencer_of(at.job(), source),
            target_etag: Some(target.etag.clone()),
            target_version: Some(target.version.clone()),
        }),
        Found::DeleteMarker | Found::Missing => None,
    };
    let brought = match target {
        Found::Object(target) => vec![Brought::found(source, target, shown(source, target))],
        Found::DeleteMarker | Found::Missing => Vec::new(),
    };
    Finish { applied, brought, ..Finish::without_write(Outcome::AlreadyEqual) }
}

fn sequencer_of(job: &Job, head: &Head) -> Option<crate::model::object::Sequencer> {
    let same = job.version == head.version && job.etag.as_ref().is_none_or(|etag| *etag == head.etag);
    if same { job.sequencer.clone() } else { None }
}

/// What is remembered after a write.
pub(super) fn remembered(job: &Job, head: &Head, written: &Written) -> Applied {
    Applied {
        version: head.version.clone(),
        marker: false,
        source_etag: Some(head.etag.clone()),
        modified: head.modified,
        sequencer: sequencer_of(job, head),
        target_etag: Some(written.etag.clone()),
        target_version: written.version.clone(),
    }
}

pub(super) fn landed_finish<W: World>(shared: &Shared<W>, at: &At<'_, W>, landed: Landed) -> Finish {
    let applied = remembered(at.job(), &landed.head, &landed.written);
    shared.note_landed(at, &landed);
    let brought = vec![Brought::landed(&landed)];
    Finish {
        brought,
        outcome: Outcome::Replicated,
        replicas: landed.replica().into_iter().collect(),
        bytes: landed.head.size,
        verdict: landed.verdict,
        applied: Some(applied),
    }
}

/// Makes a delete marker, if the source still says so (P4).
async fn bring_marker<W: World>(shared: &Arc<Shared<W>>, at: &At<'_, W>) -> Result<Finish, Stop> {
    let job = at.job();
    let known = at.applied.as_ref().is_some_and(|applied| applied.marker && applied.version == job.version);
    if known && !job.version.is_null() {
        return Ok(self::known(at));
    }
    for _ in 0..ROUNDS {
        let finish = match at.history {
            History::All => examine::examine(shared, at).await?,
            History::Latest => mark_latest(shared, at).await?,
        };
        if let Some(finish) = finish {
            return Ok(finish);
        }
    }
    Err(raced("make the delete marker").into())
}

/// With only the newest kept: the marker is made only if the source's current version is one now.
pub(super) async fn mark_latest<W: World>(shared: &Arc<Shared<W>>, at: &At<'_, W>) -> Result<Option<Finish>, Stop> {
    let job = at.job();
    if !examine::source_is_deleted(shared, &job.key).await? {
        return Ok(Some(Finish::without_write(Outcome::Superseded)));
    }
    shared.budget.request().await;
    let etag = match at.store.head(&job.target_key, &Pick::Current).await? {
        Found::Object(head) => head.etag,
        Found::DeleteMarker | Found::Missing => return Ok(Some(Finish::without_write(Outcome::AlreadyEqual))),
    };
    let Some(marker) = marker_for(shared, job).await? else { return Ok(None) };
    shared.may_hide(at).await?;
    match shared.mark(at, &Condition::Matches(etag)).await {
        Ok(target_version) => Ok(Some(marked(Applied { target_version, ..marker }))),
        Err(fault) if fault.kind == FaultKind::Raced => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

/// The marker that a job makes: its own or, where what it brought has been deleted since, the newest. `None` when the source's
/// newest is none any more.
async fn marker_for<W: World>(shared: &Shared<W>, job: &Job) -> Result<Option<Applied>, Fault> {
    let (version, modified, sequencer) = if job.kind == ChangeKind::DeleteMarker {
        (job.version.clone(), job.changed, job.sequencer.clone())
    } else {
        let versions = examine::versions_of(shared, shared.world.source(), &job.key).await?;
        match versions.into_iter().next().filter(|newest| newest.object.is_none()) {
            Some(newest) => (newest.version, newest.modified, None),
            None => return Ok(None),
        }
    };
    let (source_etag, target_etag, target_version) = (None, None, None);
    Ok(Some(Applied { version, marker: true, source_etag, modified, sequencer, target_etag, target_version }))
}

fn marked(applied: Applied) -> Finish {
    let brought = vec![Brought::remembered(&applied, None)];
    Finish { applied: Some(applied), brought, ..Finish::without_write(Outcome::Replicated) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::object::{Timestamp, VersionId};

    fn write(version: &str, bytes: u64, verdict: Verdict) -> Finish {
        let brought = vec![Brought::marker(&VersionId::new(version), Timestamp(0), None)];
        Finish { bytes, verdict, brought, ..Finish::without_write(Outcome::Replicated) }
    }

    #[test]
    fn writes_on_top_of_one_another_keep_every_receipt_and_every_doubt() {
        let (exact, doubtful) = (Verdict::Exact(Means::Checksum), Verdict::Unprovable("no checksum"));
        for (first, second) in [(doubtful, exact), (exact, doubtful)] {
            let (older, newer) = (write("1", 3, first), write("2", 4, second));
            let expected = [older.brought.clone(), newer.brought.clone()].concat();
            let both = older.and(newer);
            assert_eq!((both.bytes, both.verdict, both.brought), (7, doubtful, expected));
        }
        assert_eq!(write("1", 0, exact).and(write("2", 0, exact)).verdict, exact);
    }
}
