//! One key, or one version of it, on every side: which rule holds, what is there, and how it differs.

use std::time::Duration;

use super::Verdict;
use super::judge::{self, Content};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Found, Head, Key, RuleId, Tags, TargetId, VersionEntry, VersionId};
use crate::model::stamp::Stamp;
use crate::plan::route::{self, Choice, Rule};
use crate::ports::{ObjectStore, Pick, World};

/// How long one look may take: somebody waits for the answer, and "not known" is one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Versions of the target key that are looked through for the replica of a named version, newest first.
const REPLICAS: usize = 100;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// All rules, disabled ones too.
    pub rules: &'a [Rule],
    /// The source bucket, as stamps name it.
    pub source_bucket: &'a str,
    /// The source key.
    pub key: &'a Key,
    /// The version; `None` for the current one.
    pub version: Option<&'a VersionId>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Explained {
    /// At the source.
    pub source: Result<Found, Fault>,
    /// For each target that any rule names, in the order of the rules.
    pub targets: Vec<AtTarget>,
}

/// One target.
#[derive(Clone, Debug)]
pub struct AtTarget {
    /// Which.
    pub target: TargetId,
    /// The rule that holds.
    pub ruling: Ruling,
    /// The key there; the source's own where no rule holds.
    pub target_key: Key,
    /// What is there.
    pub found: Result<Found, Fault>,
    /// Source and target against one another.
    pub comparison: Comparison,
}

/// Which rule holds for a key at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// This one.
    Rule(RuleId),
    /// This one, and it leaves the delete marker that is current at the source where it is: why.
    Leaves(RuleId, String),
    /// None: why.
    None(String),
    /// Not known: why.
    Unknown(String),
}

/// What both sides prove together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The verdict; `None` where one side could not be seen.
    pub verdict: Option<Verdict>,
    /// How that is known, as a person reads it.
    pub evidence: String,
    /// Each respect in which they differ; values of metadata are not told.
    pub differences: Vec<String>,
}

/// Looks at all of it. Never fails: what cannot be seen says why.
pub async fn explain<W: World>(world: &W, question: Question<'_>) -> Explained {
    let pick = question.version.map_or(Pick::Current, |version| Pick::Version(version.clone()));
    let source = soon(Side::Source, world.source().head(question.key, &pick)).await;
    let tags = tags(world, question, &source).await;
    let mut targets = Vec::new();
    for target in route::targets(question.rules) {
        targets.push(at_target(world, question, target, &source, &tags).await);
    }
    Explained { source, targets }
}

async fn soon<T>(side: Side, look: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = |_| Fault::new(FaultKind::Transient, side, "look at object", format!("no answer within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, look).await.map_err(late).flatten()
}

/// The tags that choose the rule, where one asks for them; `Ok(None)` where there is no object that could have any.
async fn tags<W: World>(
    world: &W,
    question: Question<'_>,
    source: &Result<Found, Fault>,
) -> Result<Option<Tags>, Fault> {
    let Question { rules, key, .. } = question;
    let asked = |target: &&TargetId| route::choose(rules, target, key, None) == Choice::NeedsTags;
    if !route::targets(rules).iter().any(asked) {
        return Ok(None);
    }
    match source {
        Ok(Found::Object(head)) => {
            let pick = question.version.map_or(Pick::Current, |_| Pick::Version(head.version.clone()));
            soon(Side::Source, world.source().tags(key, &pick)).await.map(Some)
        }
        Ok(Found::DeleteMarker | Found::Missing) => Ok(None),
        Err(fault) => Err(fault.clone()),
    }
}

async fn at_target<W: World>(
    world: &W,
    question: Question<'_>,
    target: &TargetId,
    source: &Result<Found, Fault>,
    tags: &Result<Option<Tags>, Fault>,
) -> AtTarget {
    let choice = match tags {
        Ok(tags) => route::choose(question.rules, target, question.key, tags.as_ref()),
        Err(_) => route::choose(question.rules, target, question.key, None),
    };
    let (rule, ruling) = ruling(choice, tags, source);
    let target_key = rule.map_or_else(|| question.key.clone(), |rule| rule.target_key(question.key));
    let found = match world.target(target) {
        Some(store) => soon(Side::Target, replica(store, question, source, &target_key)).await,
        None => Err(Fault::new(FaultKind::Refused, Side::Local, "find the target", "it is not configured")),
    };
    let comparison = compare(question.source_bucket, rule, source, &found);
    AtTarget { target: target.clone(), ruling, target_key, found, comparison }
}

fn ruling<'r>(
    choice: Choice<'r>,
    tags: &Result<Option<Tags>, Fault>,
    source: &Result<Found, Fault>,
) -> (Option<&'r Rule>, Ruling) {
    match (choice, tags) {
        (Choice::Rule(rule), _) if matches!(source, Ok(Found::DeleteMarker)) && !rule.delete_markers => {
            (Some(rule), Ruling::Leaves(rule.id.clone(), route::no_markers(rule)))
        }
        (Choice::Rule(rule), _) => (Some(rule), Ruling::Rule(rule.id.clone())),
        (Choice::Nothing(reason), _) => (None, Ruling::None(reason)),
        (Choice::NeedsTags, Err(fault)) => {
            (None, Ruling::Unknown(format!("the rules ask for the object's tags, which cannot be read: {fault}")))
        }
        (Choice::NeedsTags, Ok(_)) => {
            (None, Ruling::Unknown("the rules ask for the object's tags, and there is no object".to_owned()))
        }
    }
}

/// What the target has: for the current version what is current there, for an older one the replica whose stamp names it.
async fn replica<S: ObjectStore>(
    store: &S,
    question: Question<'_>,
    source: &Result<Found, Fault>,
    target_key: &Key,
) -> Result<Found, Fault> {
    let current = store.head(target_key, &Pick::Current).await?;
    let Some(version) = question.version else { return Ok(current) };
    if let Found::Object(head) = &current
        && is_replica_of(head, question.source_bucket, version, source)
    {
        return Ok(current);
    }
    let page = store.list_versions(target_key.as_str(), None).await?;
    let candidates = page.entries.iter().filter(|entry| entry.key == *target_key && entry.object.is_some());
    for VersionEntry { version: candidate, .. } in candidates.take(REPLICAS) {
        let found = store.head(target_key, &Pick::Version(candidate.clone())).await?;
        if let Found::Object(head) = &found
            && is_replica_of(head, question.source_bucket, version, source)
        {
            return Ok(found);
        }
    }
    Ok(Found::Missing)
}

fn is_replica_of(head: &Head, bucket: &str, version: &VersionId, source: &Result<Found, Fault>) -> bool {
    match Stamp::read(&head.attributes.metadata).filter(|stamp| stamp.origin == bucket) {
        Some(stamp) => stamp.version == *version,
        // A replica without a stamp is known by its bytes.
        None => matches!(source, Ok(Found::Object(source)) if source.etag == head.etag && source.size == head.size),
    }
}

fn compare(
    bucket: &str,
    rule: Option<&Rule>,
    source: &Result<Found, Fault>,
    found: &Result<Found, Fault>,
) -> Comparison {
    let told = |verdict, evidence: &str| Comparison { verdict, evidence: evidence.to_owned(), differences: Vec::new() };
    let (source, target) = match (source, found) {
        (Ok(source), Ok(target)) => (source, target),
        (Err(fault), _) | (_, Err(fault)) => return told(None, &fault.to_string()),
    };
    match (source, target) {
        (Found::Object(source), Found::Object(target)) => compare_heads(bucket, rule, source, target),
        (Found::Object(_), Found::DeleteMarker) => {
            told(Some(Verdict::Missing), "at the target a delete marker is current")
        }
        (Found::Object(_), Found::Missing) => told(Some(Verdict::Missing), "at the target nothing is there"),
        (Found::DeleteMarker, Found::DeleteMarker | Found::Missing)
        | (Found::Missing, Found::Missing | Found::DeleteMarker) => {
            told(Some(Verdict::Identical), "on neither side an object is current")
        }
        (Found::DeleteMarker, Found::Object(_)) => {
            told(Some(Verdict::Extra), "at the source a delete marker is current, at the target the object still is")
        }
        (Found::Missing, Found::Object(_)) => told(Some(Verdict::Extra), "it is at the target alone"),
    }
}

fn compare_heads(bucket: &str, rule: Option<&Rule>, source: &Head, target: &Head) -> Comparison {
    let mut differences = rule.map(|rule| judge::metadata(source, target, rule)).unwrap_or_default();
    let (verdict, evidence) = match judge::by_heads(source, target, bucket) {
        Content::Same(_, evidence) if differences.is_empty() => (Verdict::Identical, evidence),
        Content::Same(_, evidence) => (Verdict::Different, format!("{evidence}, but not all that belongs to it")),
        Content::Differs(_, evidence) => {
            differences.insert(0, evidence.clone());
            (Verdict::Different, evidence)
        }
        Content::ByParts(evidence) => match judge::by_stamp(source, target, bucket) {
            Content::Same(_, evidence) if differences.is_empty() => (Verdict::Identical, evidence),
            Content::Same(..) | Content::Differs(..) | Content::ByParts(_) | Content::Unknown(_) => {
                (Verdict::Unprovable, evidence)
            }
        },
        Content::Unknown(evidence) => (Verdict::Unprovable, evidence),
    };
    Comparison { verdict: Some(verdict), evidence, differences }
}
