//! Which rule claims a key, and what a rule says. The vocabulary of native ReplicationConfiguration.

use std::collections::BTreeMap;

use crate::model::job::{Change, ChangeKind, Job};
use crate::model::object::{Key, RuleId, Tags, TargetId};
use crate::model::reserved;
use crate::ports::Ignored;

/// How much of an object's past a rule brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Every version, in source order.
    All,
    /// Only the newest.
    Latest,
}

/// One replication rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// Where to.
    pub target: TargetId,
    /// For one target the highest matching priority wins.
    pub priority: i64,
    /// The keys it claims begin so; empty for all.
    pub prefix: String,
    /// The object must have all of these tags; empty for any.
    pub tags: Tags,
    /// Whether delete markers are replicated.
    pub delete_markers: bool,
    /// A disabled rule claims nothing.
    pub enabled: bool,
    /// All versions or the newest.
    pub history: History,
    /// The replica's storage class; `None` for the source object's.
    pub storage_class: Option<String>,
    /// The replica's KMS key by full ARN; `None` for the target bucket's own encryption.
    pub kms_key: Option<String>,
    /// One target key per source key (full ARNs); looked up before `kms_key`.
    pub kms_map: BTreeMap<String, String>,
    /// Whether to hand the replica to the target bucket's owner.
    pub owner_full_control: bool,
    /// Whether to copy ACL grants.
    pub acl: bool,
    /// Put before the source key to make the target key; empty for the same key.
    pub target_prefix: String,
    /// Whether replicas carry the stamp.
    pub stamp: bool,
}

/// S3 keys have at most 1,024 bytes (aws-semantics, S3 naming rules).
pub const MAX_KEY_BYTES: usize = 1024;

impl Rule {
    /// The key that a source key gets at the target.
    #[must_use]
    pub fn target_key(&self, key: &Key) -> Key {
        if self.target_prefix.is_empty() { key.clone() } else { Key::new(format!("{}{key}", self.target_prefix)) }
    }

    /// The target KMS key for an object that the source encrypts under `source_key`.
    #[must_use]
    pub fn kms_key_for(&self, source_key: Option<&str>) -> Option<&str> {
        source_key.and_then(|arn| self.kms_map.get(arn)).or(self.kms_key.as_ref()).map(String::as_str)
    }

    /// Whether there can be an object that both rules match, whatever their targets: prefixes overlap, and no tag must
    /// have two values at once.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let mut tags = self.tags.iter();
        overlap(&self.prefix, &other.prefix)
            && tags.all(|(name, value)| other.tags.get(name).is_none_or(|theirs| theirs == value))
    }

    fn claims(&self, target: &TargetId, key: &Key) -> bool {
        self.enabled && self.target == *target && key.as_str().starts_with(&self.prefix) && !reserved::is_probe(key)
    }

    fn wants(&self, tags: &Tags) -> bool {
        self.tags.iter().all(|(name, value)| tags.get(name) == Some(value))
    }
}

/// Whether there can be a key that begins with both.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Where one change leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// One job per target that a rule sends it to.
    pub jobs: Vec<Job>,
    /// Why it leads nowhere, where it does not.
    pub ignored: Vec<Ignored>,
}

/// Sends a change to every target whose rules claim it. Rules with tags claim by prefix here; [`choose`] decides again
/// when the object's tags are known.
#[must_use]
pub fn route(rules: &[Rule], change: &Change) -> Routing {
    let mut routing = Routing::default();
    for target in targets(rules) {
        let mut claiming = by_priority(rules, target, &change.key).peekable();
        let Some(first) = claiming.peek().copied() else { continue };
        if change.kind != ChangeKind::DeleteMarker || may_replicate_marker(claiming) {
            routing.jobs.push(job(first, change));
        } else {
            routing.ignored.push(ignored(change, no_markers(first)));
        }
    }
    if routing.jobs.is_empty() && routing.ignored.is_empty() {
        routing.ignored.push(ignored(change, unclaimed(rules, &change.key)));
    }
    routing
}

/// Whether a rule that may turn out to hold replicates delete markers: all those with tags, and the first without.
fn may_replicate_marker<'r>(claiming: impl Iterator<Item = &'r Rule>) -> bool {
    for rule in claiming {
        if rule.delete_markers {
            return true;
        }
        if rule.tags.is_empty() {
            return false;
        }
    }
    false
}

/// Why a rule does not bring a delete marker.
#[must_use]
pub fn no_markers(rule: &Rule) -> String {
    format!("rule {:?} does not replicate delete markers", rule.id)
}

/// Which rule holds for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<'r> {
    /// This one.
    Rule(&'r Rule),
    /// It depends on the object's tags.
    NeedsTags,
    /// None, and why.
    Nothing(String),
}

/// The rule that holds for a key at one target, given the object's tags where they are known.
#[must_use]
pub fn choose<'r>(rules: &'r [Rule], target: &TargetId, key: &Key, tags: Option<&Tags>) -> Choice<'r> {
    for rule in by_priority(rules, target, key) {
        if rule.tags.is_empty() {
            return Choice::Rule(rule);
        }
        match tags {
            None => return Choice::NeedsTags,
            Some(tags) if rule.wants(tags) => return Choice::Rule(rule),
            Some(_) => {}
        }
    }
    if tags.is_some() && by_priority(rules, target, key).next().is_some() {
        return Choice::Nothing("the object does not have the tags that its rules ask for".to_owned());
    }
    Choice::Nothing(unclaimed(rules, key))
}

/// The configured targets, each once, in the order of the rules.
pub fn targets(rules: &[Rule]) -> Vec<&TargetId> {
    let mut found: Vec<&TargetId> = Vec::new();
    for rule in rules {
        if !found.contains(&&rule.target) {
            found.push(&rule.target);
        }
    }
    found
}

fn by_priority<'r>(rules: &'r [Rule], target: &TargetId, key: &Key) -> impl Iterator<Item = &'r Rule> {
    let mut claiming: Vec<&Rule> = rules.iter().filter(|rule| rule.claims(target, key)).collect();
    claiming.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
    claiming.into_iter()
}

fn job(rule: &Rule, change: &Change) -> Job {
    Job {
        target: rule.target.clone(),
        rule: rule.id.clone(),
        key: change.key.clone(),
        target_key: rule.target_key(&change.key),
        kind: change.kind,
        version: change.version.clone(),
        sequencer: change.sequencer.clone(),
        etag: change.etag.clone(),
        size: change.size,
        changed: change.changed,
        origin: change.origin,
    }
}

fn ignored(change: &Change, reason: String) -> Ignored {
    Ignored { key: Some(change.key.clone()), version: change.version.clone(), reason }
}

fn unclaimed(rules: &[Rule], key: &Key) -> String {
    if reserved::is_probe(key) {
        return "it is a probe of `repl check`, which is not replicated".to_owned();
    }
    match rules.iter().find(|rule| !rule.enabled && key.as_str().starts_with(&rule.prefix)) {
        Some(rule) => format!("rule {:?} matches the key but is disabled", rule.id),
        None => "no rule has a prefix that the key begins with".to_owned(),
    }
}

#[cfg(test)]
mod tests;
