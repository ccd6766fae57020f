//! What a sync would bring, told by the same comparison that it begins with: for plans, which do nothing.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;

use super::compare::{Merge, Pair, Scope, scopes};
use super::extra::BY_MARKER;
use super::history::{At, KEYS, kind};
use super::look::Looker;
use super::range::{Hole, Pages, Versions};
use super::walk::histories_of;
use super::{Finding, Seen, Settings, Told, Verdict, walk};
use crate::model::fault::{Fault, Side};
use crate::model::object::{Key, RuleId, TargetId, VersionEntry, Versioning};
use crate::plan::estimate::{Standing, Way};
use crate::plan::history::{self, Kind, Replica, oldest_first};
use crate::plan::route::{History, Rule};
use crate::ports::{ObjectStore, World};

/// Which sync is foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breadth {
    /// That of the differences between both listings.
    Differences,
    /// That of everything in scope, with its history where the rule says so.
    Full,
}

/// Whether delete markers that hide something at the target would be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Markers {
    /// Yes, where the rule says so.
    Brought,
    /// No.
    LeftOut,
}

/// One thing that a sync would meet.
#[derive(Clone, Debug)]
pub enum Foreseen {
    /// An object version: written, unless the target has it already.
    Object {
        /// The rule that brings it.
        rule: RuleId,
        /// Its key at the source.
        key: Key,
        /// What the source's listing tells of it.
        seen: Seen,
        /// What the target has.
        standing: Standing,
        /// How it would be brought; `None` where it is known to be equal without any request.
        way: Option<Way>,
    },
    /// A delete marker that would be made.
    Marker {
        /// The rule that brings it.
        rule: RuleId,
        /// How.
        way: Way,
    },
    /// An object of which neither equality nor a difference can be told; a sync leaves it alone.
    Unprovable,
    /// Something that could not be looked at: the plan is not whole.
    Obstacle(Fault),
    /// A part of a listing that failed: the plan is not whole.
    Hole {
        /// On which side.
        side: Side,
        /// For which target.
        target: TargetId,
        /// Which keys, and why.
        hole: Hole,
    },
    /// How much of the source was listed under a prefix, for one target: [`Breadth::Full`] only.
    Listed {
        /// The prefix.
        prefix: String,
        /// Versions and delete markers.
        entries: u64,
        /// Keys whose newest version is an object.
        current: u64,
    },
}

/// Walks everything in scope as a sync would, and tells what it would do. Reads only; faults are told.
pub async fn foresee<W: World>(
    world: &Arc<W>,
    settings: &Settings,
    (breadth, markers): (Breadth, Markers),
    tell: &mut (impl FnMut(Foreseen) + Send),
) {
    match breadth {
        Breadth::Differences => {
            let mut listener = |told| {
                from_comparison(told, markers).into_iter().for_each(&mut *tell);
                Ok(())
            };
            // The listener has no faults of its own.
            walk(world, settings, &mut listener).await.ok();
        }
        Breadth::Full => {
            for scope in scopes(&settings.rules, &settings.prefix, settings.only.as_ref()) {
                let Some(store) = world.target(&scope.target) else { continue };
                let looker = Looker::new(settings, world.source(), store, &scope.target);
                match histories_of(world, &scope).await {
                    Ok(merge) => histories(&looker, &scope, (merge, markers), tell).await,
                    Err((side, fault)) => {
                        let hole = Hole { after: None, upto: None, fault };
                        tell(Foreseen::Hole { side, target: scope.target.clone(), hole });
                    }
                }
            }
        }
    }
}

fn from_comparison(told: Told, markers: Markers) -> Option<Foreseen> {
    let finding = match told {
        Told::Hole { side, target, hole } => return Some(Foreseen::Hole { side, target, hole }),
        Told::Finding(finding) => *finding,
    };
    let Finding { rule, key, source, verdict, by, obstacle, .. } = finding;
    if let Some(fault) = obstacle {
        return Some(Foreseen::Obstacle(fault));
    }
    let object = |standing, way| {
        let (rule, seen) = rule.clone().zip(source.clone())?;
        Some(Foreseen::Object { rule, key: key.clone(), seen, standing, way })
    };
    match verdict {
        Verdict::Missing => object(Standing::Absent, Some(Way::Current)),
        Verdict::Different => object(Standing::Occupied, Some(Way::Current)),
        Verdict::Identical => object(Standing::Equal, None),
        Verdict::Unprovable => Some(Foreseen::Unprovable),
        Verdict::Extra if by == BY_MARKER && markers == Markers::Brought => {
            rule.clone().map(|rule| Foreseen::Marker { rule, way: Way::Current })
        }
        Verdict::Extra | Verdict::Kept => None,
    }
}

/// Both version listings, key by key, several keys at once.
async fn histories<S: ObjectStore, P: Pages<Item = Versions>>(
    looker: &Looker<'_, S>,
    scope: &Scope,
    (mut merge, markers): (Merge<P>, Markers),
    tell: &mut (impl FnMut(Foreseen) + Send),
) {
    let (source, target) = tokio::join!(looker.source.versioning(), looker.store.versioning());
    let versions = match (source, target) {
        (Ok(Versioning::Off), Ok(_)) => Kept::OnOneSide,
        (Ok(_), Ok(Versioning::Enabled)) => Kept::OnBoth,
        (Ok(_), Ok(Versioning::Off | Versioning::Suspended)) => Kept::OnOneSide,
        (Err(fault), _) | (_, Err(fault)) => return tell(Foreseen::Obstacle(fault)),
    };
    let mut under_way = FuturesOrdered::new();
    let (mut ended, mut entries, mut current) = (false, 0, 0);
    let mut count = |source: &Versions| {
        entries += source.entries.len() as u64;
        current += u64::from(source.entries.first().is_some_and(|newest| newest.object.is_some()));
    };
    while !ended || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(found) = under_way.next(), if !under_way.is_empty() => {
                let found: Vec<Foreseen> = found;
                found.into_iter().for_each(&mut *tell);
            }
            pair = merge.next(), if !ended && under_way.len() < KEYS => match pair {
                Some(Pair::Source(source)) => {
                    count(&source);
                    under_way.push_back(of_key(looker, scope, (source, None), (versions, markers)));
                }
                Some(Pair::Both(source, target)) => {
                    count(&source);
                    under_way.push_back(of_key(looker, scope, (source, Some(target)), (versions, markers)));
                }
                // A backfill does not look at it.
                Some(Pair::Target(_)) => {}
                Some(Pair::Hole(side, hole)) => tell(Foreseen::Hole { side, target: scope.target.clone(), hole }),
                None => ended = true,
            },
        }
    }
    tell(Foreseen::Listed { prefix: scope.prefix.clone(), entries, current });
}

/// Whether the target's versions can be compared with the source's at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    OnBoth,
    OnOneSide,
}

/// All that a backfill would do about one key.
async fn of_key<S: ObjectStore>(
    looker: &Looker<'_, S>,
    scope: &Scope,
    (Versions { key, entries: source }, target): (Versions, Option<Versions>),
    (versions, markers): (Kept, Markers),
) -> Vec<Foreseen> {
    let target_key = Key::new(scope.at_target(key.as_str()));
    let at = At { looker, scope, key, target_key };
    let hidden = match source.first() {
        Some(newest) if newest.object.is_none() && markers == Markers::LeftOut => Some(newest.version.clone()),
        Some(_) | None => None,
    };
    let mut target = oldest_first(target.map(|target| target.entries).unwrap_or_default());
    let looked = async {
        let newest = source.first().cloned();
        let Some((rule, mut wanted)) = at.in_scope(oldest_first(source)).await? else { return Ok(Vec::new()) };
        wanted.retain(|entry| hidden.as_ref() != Some(&entry.version));
        let latest = rule.history == History::Latest || versions == Kept::OnOneSide;
        if latest {
            // Only what is newest of all counts: behind a delete marker that stays away there is nothing to bring.
            wanted.retain(|entry| newest.as_ref().is_some_and(|newest| newest.version == entry.version));
            target = target.split_off(target.len().saturating_sub(1));
        }
        let told = at.tell_apart(&wanted, &target).await?;
        let replicas: Vec<Replica> = told.into_iter().map(|(replica, _)| replica).collect();
        Ok(of_history(&at.key, rule, &wanted, (replicas, latest)))
    };
    looked.await.unwrap_or_else(|fault: Fault| vec![Foreseen::Obstacle(fault)])
}

/// Version by version, oldest first, each on top of what those before it leave.
fn of_history(
    key: &Key,
    rule: &Rule,
    wanted: &[VersionEntry],
    (mut replicas, latest): (Vec<Replica>, bool),
) -> Vec<Foreseen> {
    let kinds: Vec<Kind> = wanted.iter().map(kind).collect();
    let way_of = |place: usize| match (latest, place + 1 == wanted.len()) {
        (true, _) => Way::Current,
        (false, true) => Way::Newest,
        (false, false) => Way::Older,
    };
    let is_marker = |replica: &Replica| match replica {
        Replica::Marker => true,
        Replica::Of(place) => kinds.get(*place) == Some(&Kind::Marker),
        Replica::Unknown => false,
    };
    let mut found = Vec::new();
    let object = |place: usize, standing| {
        let seen = wanted.get(place).filter(|entry| entry.object.is_some()).map(Seen::from)?;
        let way = Some(way_of(place));
        Some(Foreseen::Object { rule: rule.id.clone(), key: key.clone(), seen, standing, way })
    };
    for place in 0..wanted.len() {
        let missing = history::missing(&kinds, &replicas, place);
        if missing.is_empty() {
            found.extend(object(place, Standing::Equal));
        }
        for written in missing {
            let standing = match replicas.last() {
                None => Standing::Absent,
                Some(last) if is_marker(last) && replicas.iter().all(is_marker) => Standing::Absent,
                Some(last) if is_marker(last) => Standing::Hidden,
                Some(_) => Standing::Occupied,
            };
            match kinds.get(written) {
                Some(Kind::Object) => {
                    found.extend(object(written, standing));
                    replicas.push(Replica::Of(written));
                }
                Some(Kind::Marker) => {
                    found.push(Foreseen::Marker { rule: rule.id.clone(), way: way_of(written) });
                    // As the ledger remembers it.
                    replicas.push(Replica::Of(written));
                }
                None => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::object::{ETag, Timestamp};
    use crate::plan::route::Rule;
    use Replica::Of;
    use std::collections::BTreeMap;

    fn rule() -> Rule {
        Rule {
            id: "r".into(),
            target: "t".into(),
            priority: 0,
            prefix: String::new(),
            tags: BTreeMap::new(),
            delete_markers: true,
            enabled: true,
            history: History::All,
            storage_class: None,
            kms_key: None,
            kms_map: BTreeMap::new(),
            owner_full_control: false,
            acl: false,
            target_prefix: String::new(),
            stamp: true,
        }
    }

    /// `o` is an object, `m` a delete marker, oldest first.
    fn history(spelled: &str) -> Vec<VersionEntry> {
        let entry = |(place, kind)| VersionEntry {
            key: "k".into(),
            version: format!("v{place}").as_str().into(),
            latest: false,
            modified: Timestamp(0),
            object: (kind == 'o').then(|| (ETag::new("e"), 1)),
            storage_class: None,
        };
        spelled.chars().enumerate().map(entry).collect()
    }

    fn told(spelled: &str, replicas: &[Replica]) -> Vec<&'static str> {
        let found = of_history(&"k".into(), &rule(), &history(spelled), (replicas.to_vec(), false));
        let name = |one: &Foreseen| match one {
            Foreseen::Object { standing: Standing::Absent, way: Some(Way::Newest), .. } => "new on top",
            Foreseen::Object { standing: Standing::Absent, .. } => "new",
            Foreseen::Object { standing: Standing::Hidden, way: Some(Way::Newest), .. } => "hidden on top",
            Foreseen::Object { standing: Standing::Hidden, .. } => "hidden",
            Foreseen::Object { standing: Standing::Occupied, way: Some(Way::Newest), .. } => "over on top",
            Foreseen::Object { standing: Standing::Occupied, .. } => "over",
            Foreseen::Object { standing: Standing::Equal, .. } => "equal",
            Foreseen::Marker { .. } => "marker",
            Foreseen::Unprovable | Foreseen::Obstacle(_) | Foreseen::Hole { .. } | Foreseen::Listed { .. } => "trouble",
        };
        found.iter().map(name).collect()
    }

    #[test]
    fn versions_and_markers_in_their_order() {
        assert_eq!(told("o", &[]), ["new on top"]);
        assert_eq!(told("oo", &[]), ["new", "over on top"]);
        assert_eq!(told("omoo", &[]), ["new", "marker", "hidden", "over on top"], "nothing is current behind a marker");
        assert_eq!(told("oo", &[Of(0), Of(1)]), ["equal", "equal"]);
        assert_eq!(told("ooo", &[Of(0)]), ["equal", "over", "over on top"]);
        assert_eq!(told("om", &[Of(0), Replica::Marker]), ["equal"]);
        assert_eq!(told("oo", &[Of(1)]), ["over", "over on top", "equal"], "a late version and its newer sibling");
        assert_eq!(told("o", &[Replica::Unknown]), ["over on top"]);
    }
}
