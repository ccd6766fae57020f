//! Whole histories: every version that a rule brings, in its order (P3).

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesOrdered;

use super::compare::{Merge, Pair, Scope};
use super::judge::{self, Content};
use super::look::{Looker, Pairing};
use super::range::{Pages, Versions};
use super::walk::is_asked;
use super::{Finding, Further, Listener, Seen, Told, Verdict, extra};
use crate::model::fault::Fault;
use crate::model::object::{Found, Key, Listed, VersionEntry};
use crate::plan::history::{Kind, Replica, oldest_first};
use crate::plan::route::{History, Rule};
use crate::ports::{ObjectStore, Pick};

/// Keys whose histories are looked at at once.
pub(super) const KEYS: usize = 16;
/// Compares the histories of every key in a scope and tells each version's outcome, keys in order.
pub(super) async fn walk<S: ObjectStore, P: Pages<Item = Versions>>(
    looker: &Looker<'_, S>,
    scope: &Scope,
    mut merge: Merge<P>,
    listener: &mut impl Listener,
) -> Result<(), Fault> {
    let mut under_way = FuturesOrdered::new();
    let mut ended = false;
    while !ended || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(found) = under_way.next(), if !under_way.is_empty() => {
                let found: Vec<Finding> = found;
                for finding in found {
                    listener.tell(Told::Finding(Box::new(finding))).await?;
                }
            }
            pair = merge.next(), if !ended && under_way.len() < KEYS => match pair {
                Some(Pair::Source(source)) => under_way.push_back(judge(looker, scope, Some(source), None)),
                Some(Pair::Target(target)) => under_way.push_back(judge(looker, scope, None, Some(target))),
                Some(Pair::Both(source, target)) => under_way.push_back(judge(looker, scope, Some(source), Some(target))),
                Some(Pair::Hole(side, hole)) => listener.tell(Told::Hole { side, target: scope.target.clone(), hole }).await?,
                None => ended = true,
            },
        }
    }
    Ok(())
}

/// Every outcome of one key.
async fn judge<S: ObjectStore>(
    looker: &Looker<'_, S>,
    scope: &Scope,
    source: Option<Versions>,
    target: Option<Versions>,
) -> Vec<Finding> {
    let Some(Versions { key, entries }) = source else {
        let Some(Versions { key: target_key, entries }) = target else { return Vec::new() };
        let stranger = entries.first().and_then(|newest| listed(newest).zip(scope.at_source(&target_key)));
        return match stranger {
            Some((newest, key)) if looker.settings.sample.picks(&key) => {
                extra::judge(looker, scope, key, newest).await.into_iter().collect()
            }
            Some(_) | None => Vec::new(),
        };
    };
    if !looker.settings.sample.picks(&key) {
        return Vec::new();
    }
    let target_key = Key::new(scope.at_target(key.as_str()));
    let at = At { looker, scope, key, target_key };
    match at.judge(entries, target.map(|target| target.entries).unwrap_or_default()).await {
        Ok(findings) => findings,
        Err(fault) => vec![looker.failed(&at.pairing(None, None), None, fault)],
    }
}

fn listed(entry: &VersionEntry) -> Option<Listed> {
    let (etag, size) = entry.object.clone()?;
    let (key, modified) = (entry.key.clone(), entry.modified);
    Some(Listed { key, size, etag, modified, storage_class: entry.storage_class.clone(), checksum: None })
}

pub(super) fn kind(entry: &VersionEntry) -> Kind {
    if entry.object.is_some() { Kind::Object } else { Kind::Marker }
}

/// One key.
pub(super) struct At<'a, S> {
    pub(super) looker: &'a Looker<'a, S>,
    pub(super) scope: &'a Scope,
    pub(super) key: Key,
    pub(super) target_key: Key,
}

impl<S: ObjectStore> At<'_, S> {
    fn pairing(&self, source: Option<&VersionEntry>, replica: Option<&VersionEntry>) -> Pairing {
        let pick =
            |entry: Option<&VersionEntry>| entry.map_or(Pick::Current, |entry| Pick::Version(entry.version.clone()));
        Pairing {
            key: self.key.clone(),
            target_key: self.target_key.clone(),
            source_pick: pick(source),
            target_pick: pick(replica),
            source: source.map(Seen::from),
            replica: replica.map(Seen::from),
        }
    }

    /// Both histories newest first.
    async fn judge(&self, source: Vec<VersionEntry>, target: Vec<VersionEntry>) -> Result<Vec<Finding>, Fault> {
        let newest_is_marker = source.first().is_some_and(|entry| entry.object.is_none());
        let Some((rule, mut wanted)) = self.in_scope(oldest_first(source)).await? else { return Ok(Vec::new()) };
        if rule.history == History::Latest {
            wanted = wanted.split_off(wanted.len().saturating_sub(1));
            if newest_is_marker && !rule.delete_markers {
                return Ok(Vec::new());
            }
        }
        let mut target = oldest_first(target);
        if rule.history == History::Latest {
            target = target.split_off(target.len().saturating_sub(1));
        }
        let told = self.tell_apart(&wanted, &target).await?;
        let mut findings = self.versions(rule, &wanted, &target, &told).await;
        findings.extend(self.strangers(rule, &target, &told));
        findings.extend(self.order(rule, &wanted, &target, &told));
        Ok(findings)
    }

    /// The versions that rules in scope bring, oldest first, and the newest one's rule; `None` where none does.
    pub(super) async fn in_scope(
        &self,
        versions: Vec<VersionEntry>,
    ) -> Result<Option<(&Rule, Vec<VersionEntry>)>, Fault> {
        let mut newest = None;
        let mut wanted = Vec::new();
        for entry in versions {
            if entry.object.is_none() {
                wanted.push(entry);
                continue;
            }
            let rule = self.looker.rule(&self.key, &Pick::Version(entry.version.clone())).await?;
            if let Some(rule) = rule.filter(|rule| is_asked(self.looker.settings, self.scope, rule)) {
                newest = Some(rule);
                wanted.push(entry);
            }
        }
        Ok(newest.map(|rule| {
            wanted.retain(|entry| entry.object.is_some() || rule.delete_markers);
            (rule, wanted)
        }))
    }

    /// Which source version each target version is, by stamp, else by equal ETag and size; and whether it is ours.
    pub(super) async fn tell_apart(
        &self,
        source: &[VersionEntry],
        target: &[VersionEntry],
    ) -> Result<Vec<(Replica, Ours)>, Fault> {
        let looks = target.iter().map(|entry| async move {
            if entry.object.is_none() {
                return Ok((Replica::Marker, Ours::Yes));
            }
            let pick = Pick::Version(entry.version.clone());
            let Found::Object(head) = self.looker.head(self.looker.store, &self.target_key, &pick).await? else {
                return Ok((Replica::Unknown, Ours::Yes));
            };
            let Some(stamp) = self.looker.stamp(&head) else {
                let place = source.iter().position(|version| version.object == entry.object);
                return Ok((place.map_or(Replica::Unknown, Replica::Of), Ours::No));
            };
            let place = source.iter().position(|version| {
                version.object.as_ref().is_some_and(|(etag, _)| stamp.names(&version.version, etag, version.modified))
            });
            Ok((place.map_or(Replica::Unknown, Replica::Of), Ours::Yes))
        });
        join_all(looks).await.into_iter().collect()
    }

    /// One finding for each version that should be there.
    async fn versions(
        &self,
        rule: &Rule,
        source: &[VersionEntry],
        target: &[VersionEntry],
        told: &[(Replica, Ours)],
    ) -> Vec<Finding> {
        let closer = [self.looker.settings.bytes, self.looker.settings.metadata, self.looker.settings.tags];
        let looks = source.iter().enumerate().filter_map(|(place, version)| {
            let ours = listed(version)?;
            let found = told.iter().rposition(|(replica, _)| *replica == Replica::Of(place));
            let replica = found.and_then(|at| target.get(at));
            let pairing = self.pairing(Some(version), replica);
            Some(async move {
                let Some(theirs) = replica.and_then(listed) else {
                    let evidence = ("history", "no version at the target is a replica of this one".to_owned());
                    return Some(self.looker.finding(&pairing, Some(rule), Verdict::Missing, evidence));
                };
                match judge::by_listing(&ours, &theirs) {
                    Content::Same(by, detail) if !closer.contains(&Further::Look) => {
                        Some(self.looker.finding(&pairing, Some(rule), Verdict::Identical, (by, detail)))
                    }
                    Content::Same(..) | Content::Differs(..) | Content::ByParts(_) | Content::Unknown(_) => {
                        self.looker.compare(pairing, rule).await
                    }
                }
            })
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    /// Target versions that are of no source version.
    fn strangers(&self, rule: &Rule, target: &[VersionEntry], told: &[(Replica, Ours)]) -> Vec<Finding> {
        let unknown = target.iter().zip(told).filter(|(_, (replica, _))| *replica == Replica::Unknown);
        unknown
            .map(|(entry, (_, ours))| {
                let (verdict, evidence) = match ours {
                    Ours::Yes => (Verdict::Kept, "a replica of a version that the source has no more"),
                    Ours::No => (Verdict::Extra, "no source version is like it, and it has no stamp"),
                };
                let pairing = self.pairing(None, Some(entry));
                self.looker.finding(&pairing, Some(rule), verdict, ("history", evidence.to_owned()))
            })
            .collect()
    }

    /// What is wrong with the order, where something is.
    fn order(
        &self,
        rule: &Rule,
        source: &[VersionEntry],
        target: &[VersionEntry],
        told: &[(Replica, Ours)],
    ) -> Option<Finding> {
        let kinds: Vec<Kind> = source.iter().map(kind).collect();
        let replicas: Vec<Replica> = told.iter().map(|(replica, _)| *replica).collect();
        let (verdict, evidence) = ordered(&kinds, &replicas)?;
        let pairing = self.pairing(source.last(), target.last());
        Some(self.looker.finding(&pairing, Some(rule), verdict, ("order", evidence.to_owned())))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    Yes,
    No,
}

/// What is wrong with the order of a history at the target, both oldest first. Repetitions are not: a late version comes
/// with its newer siblings again (P3). Objects that are not there at all are told elsewhere.
fn ordered(source: &[Kind], target: &[Replica]) -> Option<(Verdict, &'static str)> {
    let there = |place: usize| target.contains(&Replica::Of(place));
    let expected = |with_markers: bool| {
        source
            .iter()
            .enumerate()
            .filter(move |(place, kind)| match kind {
                Kind::Object => there(*place),
                Kind::Marker => with_markers,
            })
            .map(|(place, kind)| match kind {
                Kind::Object => Replica::Of(place),
                Kind::Marker => Replica::Marker,
            })
            .collect::<Vec<_>>()
    };
    if !is_within(&expected(false), target) {
        return Some((Verdict::Different, "the versions are there, but not in the source's order"));
    }
    match (source.last(), target.last()) {
        (Some(Kind::Marker), newest) if newest != Some(&Replica::Marker) && !target.is_empty() => {
            return Some((Verdict::Missing, "the source's newest is a delete marker, the target's is not"));
        }
        (Some(Kind::Object), newest) if there(source.len() - 1) && newest != Some(&Replica::Of(source.len() - 1)) => {
            return Some((Verdict::Different, "the source's newest version is at the target, but not its newest"));
        }
        _ => {}
    }
    (!is_within(&expected(true), target) && !target.is_empty()).then_some((
        Verdict::Unprovable,
        "a delete marker between versions is not at the target: it may have come late, and is left out then",
    ))
}

/// Whether these stand in that order in the whole, others between.
fn is_within(these: &[Replica], whole: &[Replica]) -> bool {
    let mut rest = whole.iter();
    these.iter().all(|wanted| rest.any(|found| found == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{Marker, Object};
    use Replica::{Of, Unknown};

    #[test]
    fn the_order_of_histories() {
        let verdict = |source: &[Kind], target: &[Replica]| ordered(source, target).map(|(verdict, _)| verdict);
        assert_eq!(verdict(&[Object, Marker, Object], &[Of(0), Replica::Marker, Of(2)]), None);
        assert_eq!(verdict(&[Object, Object], &[Of(1), Of(0), Of(1)]), None, "a late version, inserted");
        assert_eq!(verdict(&[Object, Object], &[Of(1), Of(0)]), Some(Verdict::Different));
        assert_eq!(verdict(&[Object, Object, Object], &[Of(1), Of(0), Of(2)]), Some(Verdict::Different));
        assert_eq!(verdict(&[Object, Object], &[Of(0), Of(1), Of(0)]), Some(Verdict::Different), "an old one on top");
        assert_eq!(verdict(&[Object, Object], &[Of(0), Of(1), Unknown]), Some(Verdict::Different), "a stranger on top");
        assert_eq!(verdict(&[Object, Marker], &[Of(0)]), Some(Verdict::Missing));
        assert_eq!(
            verdict(&[Object, Object], &[Of(0), Replica::Marker]),
            None,
            "the missing version is told elsewhere"
        );
        assert_eq!(verdict(&[Object, Marker, Object], &[Of(0), Of(2)]), Some(Verdict::Unprovable));
        assert_eq!(verdict(&[Object, Object], &[]), None, "missing versions are told one by one");
    }
}
