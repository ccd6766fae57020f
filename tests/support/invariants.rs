//! What must hold of two buckets when everything has ended. Numbered as in `lib.rs`' sources; written once.
//!
//! - I1 every acknowledged change is at the target or still in the ledger: at rest, I3 says so of each version
//! - I2 no target object whose bytes are not exactly some source version
//! - I3 at rest the newest at the source is the newest at the target; with the whole history every version in order
//! - I4 `Exact` implies equal digests: nothing was unprovable, and I2
//! - I5 one write of a target key at a time (the store's own check)
//! - I6 bytes in flight are zero at rest · I7 no upload with parts that the ledger does not know
//! - I8 every job ends · I9 a second run writes nothing · I10 all of it after any crash and restart
//! - I11 admitted = ended + parked + held + pending
//!
//! They hold of each target for itself, by the rules that lead there; for versions that are archived and not restored they
//! hold of everything else.

use std::collections::{BTreeMap, BTreeSet};

use repl::model::object::{Encryption, Key, Lock, Tags, Timestamp, Versioning};
use repl::model::stamp::Stamp;
use repl::plan::route::{History, Rule};

use super::world::bucket::{Bucket, Object, Stored};

/// What was promised.
pub(crate) struct Promise {
    /// The rules of this target.
    pub(crate) rules: Vec<Rule>,
    /// Keys with a version that cannot be read before it is restored.
    pub(crate) frozen: BTreeSet<Key>,
    /// Keys of which a version was deleted for good: such deletes are not replicated, so what is newest may differ.
    pub(crate) purged: BTreeSet<Key>,
    /// Whether tags, lock and ACL of versions that are not current must agree too.
    pub(crate) tags_of_old: bool,
    pub(crate) now: Timestamp,
    pub(crate) workers: u64,
    /// Whether changes were told in their order, each once: then nothing is written twice at all.
    pub(crate) in_order: bool,
    /// Whether each replica can be told to be of its version: else equal bytes count for every version that has them.
    pub(crate) told_apart: bool,
    /// Whether old versions must stand in their places, or merely somewhere.
    pub(crate) in_place: bool,
}

/// One line about a version.
pub(crate) fn line((key, stored): &(Key, Stored)) -> String {
    let key: String = key.as_str().chars().take(24).collect();
    match &stored.object {
        None => format!("{key:?} {} marker", stored.version),
        Some(object) => {
            let of = Stamp::read(&object.attributes.metadata).map(|stamp| stamp.version);
            format!(
                "{key:?} {} {} bytes {} of {of:?} {:?}",
                stored.version,
                object.bytes.len(),
                object.etag,
                object.tags
            )
        }
    }
}

impl Promise {
    /// The rule that holds for a version with these tags: of those that match the one with the highest priority.
    fn rule(&self, key: &Key, tags: &Tags) -> Option<&Rule> {
        let tagged = |rule: &Rule| rule.tags.iter().all(|tag| tags.iter().any(|theirs| theirs == tag));
        let matching = self.rules.iter().filter(|rule| rule.enabled && key.as_str().starts_with(&rule.prefix));
        matching.filter(|rule| tagged(rule)).max_by_key(|rule| rule.priority)
    }

    /// Where versions of a key may lead, each with how much of the past is brought there by all rules that lead there.
    fn places(&self, key: &Key) -> BTreeMap<Key, History> {
        let mut places = BTreeMap::new();
        for rule in self.rules.iter().filter(|rule| rule.enabled && key.as_str().starts_with(&rule.prefix)) {
            let history = places.entry(rule.target_key(key)).or_insert(rule.history);
            if rule.history == History::Latest {
                *history = History::Latest;
            }
        }
        places
    }

    /// The rule that holds for what is current, and where that is to be: a marker's is that of what it hides.
    fn rule_of_newest(&self, key: &Key, versions: &[Stored]) -> Option<(&Rule, Key)> {
        let newest = versions.iter().rev().find_map(|stored| stored.object.as_ref());
        let rule = self.rule(key, newest.map_or(&Tags::new(), |object| &object.tags))?;
        Some((rule, rule.target_key(key)))
    }
}

/// Everything that is broken, one line each.
pub(crate) fn broken(source: &Bucket, target: &Bucket, promise: &Promise) -> Vec<String> {
    let mut found = foreign_bytes(source, target, promise);
    let keys: BTreeSet<&Key> = source.ever.iter().map(|(key, _)| key).collect();
    for key in keys {
        if promise.frozen.contains(key) {
            continue;
        }
        if !promise.purged.contains(key) {
            found.extend(newest(source, target, promise, key));
        }
        for (there, history) in promise.places(key) {
            if keeps_all(source, target, history) {
                found.extend(whole_history(source, target, promise, (key, &there)));
            }
        }
    }
    found
}

fn keeps_all(source: &Bucket, target: &Bucket, history: History) -> bool {
    history == History::All && source.versioning != Versioning::Off && target.versioning == Versioning::Enabled
}

/// Whether the bytes and all that belongs to a version for good are the same.
fn same_content(source: &Object, target: &Object) -> bool {
    let bare = |object: &Object| {
        let mut attributes = object.attributes.clone();
        Stamp::strip(&mut attributes.metadata);
        attributes.lock = Lock::default();
        attributes.storage_class = None;
        attributes
    };
    source.bytes == target.bytes && bare(source) == bare(target)
}

/// Whether a replica is sealed and stored as its rule says (P7).
fn as_ruled(rule: &Rule, source: &Object, target: &Object) -> bool {
    let class = rule.storage_class.as_ref().or(source.attributes.storage_class.as_ref());
    let key = match &rule.kms_key {
        Some(arn) => target.encryption == Encryption::Kms(Some(arn.clone())),
        None => target.encryption == Encryption::S3,
    };
    key && class == target.attributes.storage_class.as_ref()
}

/// Whether what may change of a version is the same (P6).
fn same_belongings(promise: &Promise, rule: &Rule, source: &Object, target: &Object) -> bool {
    let (left, right) = (&source.attributes.lock, &target.attributes.lock);
    let held = left.legal_hold.unwrap_or(false) == right.legal_hold.unwrap_or(false);
    let kept = left.retain_until.is_none_or(|until| {
        let same = right.retain_until.is_some_and(|other| until.same_second(other)) && left.mode == right.mode;
        until <= promise.now || same
    });
    let sorted = |object: &Object| {
        let mut grants = object.grants.clone();
        grants.sort();
        grants
    };
    let grants = !rule.acl || sorted(source) == sorted(target);
    source.tags == target.tags && held && kept && grants
}

fn foreign_bytes(source: &Bucket, target: &Bucket, promise: &Promise) -> Vec<String> {
    let mut found = Vec::new();
    for (key, stored) in &target.ever {
        let Some(object) = &stored.object else { continue };
        let is_of = |(of, version): &&(Key, Stored)| {
            let same = version.object.as_ref().filter(|of| same_content(of, object));
            same.and_then(|same| promise.rule(of, &same.tags)).is_some_and(|rule| rule.target_key(of) == *key)
        };
        if !source.ever.iter().any(|version| is_of(&version)) {
            found.push(format!("I2: {} is no source version", line(&(key.clone(), stored.clone()))));
        }
    }
    found
}

/// I3 for the newest version.
fn newest(source: &Bucket, target: &Bucket, promise: &Promise, key: &Key) -> Option<String> {
    let versions = source.keys.get(key)?;
    // No rule asks for what it is: then nothing is said of the key.
    let (rule, there) = promise.rule_of_newest(key, versions)?;
    let (left, right) = (versions.last()?, target.current(&there));
    let visible = right.and_then(|stored| stored.object.as_ref());
    let right_so = match &left.object {
        // Without markers the newest object stays visible.
        None => !rule.delete_markers || visible.is_none(),
        Some(object) => visible.is_some_and(|replica| {
            same_content(object, replica)
                && same_belongings(promise, rule, object, replica)
                && as_ruled(rule, object, replica)
        }),
    };
    let told = |key: &Key, stored: &Stored| line(&(key.clone(), stored.clone()));
    (!right_so).then(|| {
        let right = right.map(|stored| told(&there, stored));
        format!("I3: newest of {key:?}: source {:?}, target {right:?}", told(key, left))
    })
}

/// I3 for the whole history, and P2: no version too many but those that a late one brought along.
fn whole_history(source: &Bucket, target: &Bucket, promise: &Promise, (key, there): (&Key, &Key)) -> Vec<String> {
    let mut found = Vec::new();
    let is_wanted =
        |object: &Object| promise.rule(key, &object.tags).is_some_and(|rule| rule.target_key(key) == *there);
    let wanted = source.keys.get(key).into_iter().flatten();
    let wanted: Vec<&Stored> = wanted.filter(|stored| stored.object.as_ref().is_some_and(is_wanted)).collect();
    let replicas: Vec<&Stored> = target.keys.get(there).into_iter().flatten().filter(|s| s.object.is_some()).collect();
    if !promise.told_apart || !promise.in_place {
        let mut lost =
            wanted.iter().filter(|version| !replicas.iter().any(|replica| is_replica(promise, key, version, replica)));
        found.extend(lost.next().map(|lost| format!("I3: {} is not there", line(&(key.clone(), (*lost).clone())))));
        return found;
    }
    let mut rest = wanted.as_slice();
    for replica in &replicas {
        if let Some((first, others)) = rest.split_first()
            && is_replica(promise, key, first, replica)
        {
            rest = others;
        }
    }
    if let Some(missing) = rest.first() {
        let all: Vec<String> = replicas.iter().map(|s| line(&(there.clone(), (*s).clone()))).collect();
        let missing = line(&(key.clone(), (*missing).clone()));
        found.push(format!("I3: {missing} is not at the target in its place: {all:#?}"));
    }
    // Two workers that insert late versions at the same time begin again and again, each behind the other.
    let stamped = promise.rules.iter().all(|rule| rule.stamp);
    if stamped && source.versioning == Versioning::Enabled && promise.workers == 1 {
        found.extend(too_many(source, &replicas, key, promise.in_order));
    }
    found
}

fn is_replica(promise: &Promise, key: &Key, version: &Stored, replica: &Stored) -> bool {
    let (Some(object), Some(copy)) = (&version.object, &replica.object) else { return false };
    let Some(rule) = promise.rule(key, &object.tags) else { return false };
    let stamp = Stamp::read(&copy.attributes.metadata);
    let named = stamp.is_none_or(|stamp| stamp.names(&version.version, &object.etag, version.modified));
    let belongings = !promise.tags_of_old || same_belongings(promise, rule, object, copy);
    named && belongings && same_content(object, copy) && as_ruled(rule, object, copy)
}

/// P2: a version is there a second time only if, between both, one older than it came for the first time.
fn too_many(source: &Bucket, replicas: &[&Stored], key: &Key, in_order: bool) -> Vec<String> {
    let places: Vec<Option<u64>> = replicas
        .iter()
        .map(|replica| {
            let stamp = Stamp::read(&replica.object.as_ref()?.attributes.metadata)?;
            let of = source.ever.iter().find(|(of, stored)| of == key && stored.version == stamp.version)?;
            Some(of.1.order)
        })
        .collect();
    if places.contains(&None) {
        // Replicas without a stamp do not tell what they are of.
        return Vec::new();
    }
    let mut found = Vec::new();
    if in_order && !places.is_sorted_by(|one, other| one < other) {
        found.push(format!("P3: {key:?} was told of in order and written out of it: {places:?}"));
    }
    for (at, place) in places.iter().enumerate() {
        let Some(place) = place else { continue };
        let Some(before) = places[..at].iter().rposition(|other| other == &Some(*place)) else { continue };
        let late = (before + 1..at).any(|between| {
            places[between].is_some_and(|older| older < *place && !places[..between].contains(&Some(older)))
        });
        if !late {
            found.push(format!("P2: {key:?} has a version too many: {places:?} at {at}"));
        }
    }
    found
}
