//! The walk over everything in scope: merge, judge what listings tell, look at the rest, tell in order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;

use super::compare::{Merge, Pair, Scope, scopes};
use super::judge::{self, Content};
use super::look::{Listings, Looker, Pairing};
use super::range::{Hole, Item, Page, Pages, Piece, Ranges, Versions, patiently};
use super::{Finding, Further, Listener, Seen, Settings, Told, Verdict, extra, history};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Key, KeyOrder, Listed, TargetId, VersionId};
use crate::plan::route::{self, Choice};
use crate::ports::{ListFrom, ObjectStore, Pick, World};

/// Findings under way or waiting for an earlier one, per look at once: what one slow look may hold up.
const WINDOW: usize = 8;
/// Entries of a store without S3's order that are sorted in memory: some 100 MiB.
const SORTABLE: usize = 300_000;

pub(super) type Looking<'a> = Pin<Box<dyn Future<Output = Option<Finding>> + Send + 'a>>;

/// Compares everything in scope of the settings and tells each outcome, in key order within each scope. Returns the
/// fault of the listener, which ends the walk; every other fault is told.
pub async fn walk<W: World>(world: &Arc<W>, settings: &Settings, listener: &mut impl Listener) -> Result<(), Fault> {
    for scope in scopes(&settings.rules, &settings.prefix, settings.only.as_ref()) {
        let Some(store) = world.target(&scope.target) else { continue };
        let mut looker = Looker::new(settings, world.source(), store, &scope.target);
        let source = Bucket { world: Arc::clone(world), target: None };
        let target = Bucket { world: Arc::clone(world), target: Some(scope.target.clone()) };
        let walked = match settings.versions {
            Further::Look => match merge(&scope, (&source, &target), Histories).await {
                Ok((_, merge)) => Ok(history::walk(&looker, &scope, merge, listener).await?),
                Err(broken) => Err(broken),
            },
            Further::Skip => match merge(&scope, (&source, &target), |bucket| bucket).await {
                Ok((listings, merge)) => {
                    looker.listings = listings;
                    Ok(walk_scope(&looker, &scope, merge, listener).await?)
                }
                Err(broken) => Err(broken),
            },
        };
        if let Err((side, fault)) = walked {
            let hole = Hole { after: None, upto: None, fault };
            listener.tell(Told::Hole { side, target: scope.target.clone(), hole }).await?;
        }
    }
    Ok(())
}

async fn walk_scope<W: World>(
    looker: &Looker<'_, W::Store>,
    scope: &Scope,
    mut merge: Merge<Bucket<W>>,
    listener: &mut impl Listener,
) -> Result<(), Fault> {
    let window = looker.settings.looks.saturating_mul(WINDOW).max(1);
    let mut under_way: FuturesOrdered<Looking<'_>> = FuturesOrdered::new();
    let mut ended = false;
    while !ended || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(found) = under_way.next(), if !under_way.is_empty() => {
                if let Some(finding) = found {
                    listener.tell(Told::Finding(Box::new(finding))).await?;
                }
            }
            pair = merge.next(), if !ended && under_way.len() < window => match pair {
                None => ended = true,
                Some(Pair::Hole(side, hole)) => listener.tell(Told::Hole { side, target: scope.target.clone(), hole }).await?,
                Some(pair) => match classify(looker, scope, pair) {
                    Some(Case::Told(finding)) if under_way.is_empty() => listener.tell(Told::Finding(finding)).await?,
                    Some(Case::Told(finding)) => under_way.push_back(Box::pin(std::future::ready(Some(*finding)))),
                    Some(Case::Look(looking)) => under_way.push_back(looking),
                    None => {}
                },
            },
        }
    }
    Ok(())
}

enum Case<'a> {
    Told(Box<Finding>),
    Look(Looking<'a>),
}

/// What a pair of listing entries means; `None` where nobody asked.
fn classify<'a, S: ObjectStore>(looker: &'a Looker<'a, S>, scope: &'a Scope, pair: Pair<Listed>) -> Option<Case<'a>> {
    let (source, target) = match pair {
        Pair::Hole(..) => return None,
        Pair::Target(target) => {
            let key = scope.at_source(&target.key).filter(|key| looker.settings.sample.picks(key))?;
            return Some(Case::Look(Box::pin(extra::judge(looker, scope, key, target))));
        }
        Pair::Source(source) => (source, None),
        Pair::Both(source, target) => (source, Some(target)),
    };
    let settings = looker.settings;
    if !settings.sample.picks(&source.key) {
        return None;
    }
    match route::choose(&settings.rules, looker.target, &source.key, None) {
        Choice::Nothing(_) => None,
        Choice::Rule(rule) => {
            if !is_asked(settings, scope, rule) {
                return None;
            }
            let pairing = pairing(scope, &source, target.as_ref());
            let doubtful = is_doubtful(looker, &source, target.as_ref());
            match from_listings(settings, &source, target.as_ref()) {
                Some((verdict, proof)) if !doubtful || verdict == Verdict::Identical => {
                    Some(Case::Told(Box::new(looker.finding(&pairing, Some(rule), verdict, proof))))
                }
                Some(_) | None => Some(Case::Look(Box::pin(looker.compare(pairing, rule)))),
            }
        }
        Choice::NeedsTags => Some(Case::Look(Box::pin(with_tags(looker, scope, source, target)))),
    }
}

/// Compares an object whose rule depends on its tags.
async fn with_tags<S: ObjectStore>(
    looker: &Looker<'_, S>,
    scope: &Scope,
    source: Listed,
    target: Option<Listed>,
) -> Option<Finding> {
    let pairing = pairing(scope, &source, target.as_ref());
    let rule = match looker.rule(&source.key, &Pick::Current).await {
        Ok(rule) => rule.filter(|rule| is_asked(looker.settings, scope, rule))?,
        Err(fault) => return Some(looker.failed(&pairing, None, fault)),
    };
    let doubtful = is_doubtful(looker, &source, target.as_ref());
    match from_listings(looker.settings, &source, target.as_ref()) {
        Some((verdict, proof)) if !doubtful || verdict == Verdict::Identical => {
            Some(looker.finding(&pairing, Some(rule), verdict, proof))
        }
        Some(_) | None => looker.compare(pairing, rule).await,
    }
}

/// Whether a rule is one that was asked for, and brings its objects into this scope.
pub(super) fn is_asked(settings: &Settings, scope: &Scope, rule: &route::Rule) -> bool {
    rule.target_prefix == scope.target_prefix && settings.only.as_ref().is_none_or(|only| rule.id == *only)
}

fn pairing(scope: &Scope, source: &Listed, target: Option<&Listed>) -> Pairing {
    Pairing {
        key: source.key.clone(),
        target_key: Key::new(scope.at_target(source.key.as_str())),
        source_pick: Pick::Current,
        target_pick: Pick::Current,
        source: Some(Seen::from(source)),
        replica: target.map(Seen::from),
    }
}

/// Whether a difference of listings must be looked at before it is believed. Two listings are not of one moment: what
/// changed since the comparison began may differ only for that.
fn is_doubtful<S: ObjectStore>(looker: &Looker<'_, S>, source: &Listed, target: Option<&Listed>) -> bool {
    let since = looker.settings.started.whole_seconds();
    let changed = [Some(source), target].into_iter().flatten().any(|entry| entry.modified.whole_seconds() >= since);
    changed || (target.is_none() && looker.listings == Listings::Hint)
}

/// The verdict, where the listings alone tell it.
fn from_listings(
    settings: &Settings,
    source: &Listed,
    target: Option<&Listed>,
) -> Option<(Verdict, (&'static str, String))> {
    let Some(target) = target else {
        return Some((Verdict::Missing, ("listing", "it is not in the target's listing".to_owned())));
    };
    let closer = [settings.bytes, settings.metadata, settings.tags].contains(&Further::Look);
    match judge::by_listing(source, target) {
        Content::Differs(by, detail) => Some((Verdict::Different, (by, detail))),
        Content::Same(by, detail) if !closer => Some((Verdict::Identical, (by, detail))),
        Content::Same(..) | Content::ByParts(_) | Content::Unknown(_) => None,
    }
}

/// One bucket of the world.
#[derive(Debug)]
struct Bucket<W> {
    world: Arc<W>,
    target: Option<TargetId>,
}

impl<W> Clone for Bucket<W> {
    fn clone(&self) -> Self {
        Self { world: Arc::clone(&self.world), target: self.target.clone() }
    }
}

impl<W: World> Bucket<W> {
    fn store(&self) -> Result<&W::Store, Fault> {
        let store = match &self.target {
            None => Some(self.world.source()),
            Some(target) => self.world.target(target),
        };
        store.ok_or_else(|| Fault::new(FaultKind::Refused, Side::Local, "list objects", "there is no such target"))
    }

    /// In which order this store lists what is under a prefix.
    async fn order(&self, prefix: &str) -> Result<KeyOrder, Fault> {
        let first = || async { self.store()?.list_objects(prefix, &ListFrom::Start, Some(1)).await };
        Ok(patiently(first).await?.order)
    }
}

impl<W: World> Pages for Bucket<W> {
    type Item = Listed;
    type From = ListFrom;

    fn start(&self, after: Option<&Key>) -> ListFrom {
        after.cloned().map_or(ListFrom::Start, ListFrom::After)
    }

    async fn page(&self, prefix: &str, from: ListFrom) -> Result<Page<Listed, ListFrom>, Fault> {
        let page = self.store()?.list_objects(prefix, &from, None).await?;
        Ok(Page { items: page.entries, next: page.next, order: page.order })
    }
}

/// The versions of one bucket, key by key.
#[derive(Debug)]
pub(super) struct Histories<W>(Bucket<W>);

impl<W> Clone for Histories<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: World> Pages for Histories<W> {
    type Item = Versions;
    type From = Option<(Key, VersionId)>;

    fn start(&self, after: Option<&Key>) -> Self::From {
        after.map(|after| (after.clone(), VersionId::unnamed()))
    }

    async fn page(&self, prefix: &str, from: Self::From) -> Result<Page<Versions, Self::From>, Fault> {
        let page = self.0.store()?.list_versions(prefix, from).await?;
        Ok(Page { items: Versions::grouped(page.entries), next: page.next.map(Some), order: page.order })
    }
}

/// Both version listings of a scope, key by key.
pub(super) async fn histories_of<W: World>(
    world: &Arc<W>,
    scope: &Scope,
) -> Result<Merge<Histories<W>>, (Side, Fault)> {
    let source = Bucket { world: Arc::clone(world), target: None };
    let target = Bucket { world: Arc::clone(world), target: Some(scope.target.clone()) };
    Ok(merge(scope, (&source, &target), Histories).await?.1)
}

/// Both listings of a scope in one order.
async fn merge<W: World, P: Pages>(
    scope: &Scope,
    (source, target): (&Bucket<W>, &Bucket<W>),
    listing: impl Fn(Bucket<W>) -> P,
) -> Result<(Listings, Merge<P>), (Side, Fault)> {
    let there = scope.at_target(&scope.prefix);
    let (one, other) = tokio::join!(source.order(&scope.prefix), target.order(&there));
    let one = one.map_err(|fault| (Side::Source, fault))?;
    let other = other.map_err(|fault| (Side::Target, fault))?;
    let order = if one == other { one } else { KeyOrder::Bytes };
    let begin = async |bucket: &Bucket<W>, prefix: &str, own| {
        in_order(Ranges::new(listing(bucket.clone()), prefix), own, order).await
    };
    let source = begin(source, &scope.prefix, one).await.map_err(|fault| (Side::Source, fault))?;
    let target = begin(target, &there, other).await.map_err(|fault| (Side::Target, fault))?;
    let believed = one == KeyOrder::Bytes && other == KeyOrder::Bytes;
    let listings = if believed { Listings::Proof } else { Listings::Hint };
    Ok((listings, Merge::new(scope.clone(), order, source, target)))
}

/// A listing in the order wanted: streamed where the store keeps it, else sorted in memory.
async fn in_order<P: Pages>(mut listing: Ranges<P>, own: KeyOrder, wanted: KeyOrder) -> Result<Ranges<P>, Fault> {
    if own == wanted {
        return Ok(listing);
    }
    let (mut all, mut entries) = (Vec::new(), 0);
    while let Some(piece) = listing.next().await {
        match piece {
            Piece::Keys(keys) => {
                entries += keys.iter().map(Item::count).sum::<usize>();
                all.extend(keys);
            }
            Piece::Hole(_, hole) => return Err(hole.fault),
        }
        if entries > SORTABLE {
            let detail = format!(
                "the two stores list keys in different orders, and more than {SORTABLE} entries are not sorted in memory: compare prefix by prefix"
            );
            return Err(Fault::new(FaultKind::Refused, Side::Local, "list objects", detail));
        }
    }
    all.sort_by(|one, other| wanted.compare(one.key().as_str(), other.key().as_str()));
    Ok(listing.known(all))
}
