//! Two sorted listings side by side, in constant memory.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::VecDeque;

use super::range::{Hole, Item, Pages, Piece, Ranges};
use crate::model::fault::Side;
use crate::model::object::{Key, KeyOrder, RuleId, TargetId};
use crate::plan::route::{self, Rule};

/// A part of the key space that rules bring to one target under one rewrite of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Where to.
    pub target: TargetId,
    /// Put before each source key.
    pub target_prefix: String,
    /// Source keys begin so.
    pub prefix: String,
}

impl Scope {
    /// The key that a source key has at the target.
    #[must_use]
    pub fn at_target<'k>(&self, key: &'k str) -> Cow<'k, str> {
        if self.target_prefix.is_empty() {
            Cow::Borrowed(key)
        } else {
            Cow::Owned(format!("{}{key}", self.target_prefix))
        }
    }

    /// The source key that a target key belongs to.
    #[must_use]
    pub fn at_source(&self, target_key: &Key) -> Option<Key> {
        if self.target_prefix.is_empty() {
            return Some(target_key.clone());
        }
        target_key.as_str().strip_prefix(&self.target_prefix).map(Key::new)
    }

    /// The rules that claim a source key here by prefix.
    pub fn claiming<'r>(&self, rules: &'r [Rule], key: &Key) -> impl Iterator<Item = &'r Rule> {
        let claims = move |rule: &&Rule| {
            rule.enabled
                && rule.target == self.target
                && rule.target_prefix == self.target_prefix
                && key.as_str().starts_with(&rule.prefix)
        };
        rules.iter().filter(claims).collect::<Vec<_>>().into_iter()
    }
}

/// What has to be listed: for each target and rewrite of keys the prefixes of its enabled rules, none within another.
#[must_use]
pub fn scopes(rules: &[Rule], wanted: &str, only: Option<&RuleId>) -> Vec<Scope> {
    let mut found: Vec<Scope> = Vec::new();
    let enabled = || rules.iter().filter(|rule| rule.enabled && only.is_none_or(|only| rule.id == *only));
    for target in route::targets(rules) {
        for rule in enabled().filter(|rule| rule.target == *target) {
            let prefix = match (rule.prefix.starts_with(wanted), wanted.starts_with(&rule.prefix)) {
                (true, _) => rule.prefix.clone(),
                (false, true) => wanted.to_owned(),
                (false, false) => continue,
            };
            let scope = Scope { target: target.clone(), target_prefix: rule.target_prefix.clone(), prefix };
            let alike = |other: &Scope| other.target == scope.target && other.target_prefix == scope.target_prefix;
            if found.iter().any(|other| alike(other) && scope.prefix.starts_with(&other.prefix)) {
                continue;
            }
            found.retain(|other| !(alike(other) && other.prefix.starts_with(&scope.prefix)));
            found.push(scope);
        }
    }
    found
}

/// What stands next on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of the source alone.
    Source,
    /// A key of the target alone.
    Target,
    /// One key on both sides.
    Both,
    /// Nothing on either.
    End,
}

/// Which side is behind, from the next key of each, the source's as it is spelled at the target.
#[must_use]
pub fn step(order: KeyOrder, source: Option<&str>, target: Option<&str>) -> Step {
    match (source, target) {
        (None, None) => Step::End,
        (Some(_), None) => Step::Source,
        (None, Some(_)) => Step::Target,
        (Some(source), Some(target)) => match order.compare(source, target) {
            Ordering::Less => Step::Source,
            Ordering::Greater => Step::Target,
            Ordering::Equal => Step::Both,
        },
    }
}

/// What the merge brings.
#[derive(Debug)]
pub(super) enum Pair<I> {
    /// At the source alone.
    Source(I),
    /// At the target alone.
    Target(I),
    /// On both sides.
    Both(I, I),
    /// A part that could not be listed; one-sided keys in it are not told.
    Hole(Side, Hole),
}

/// The merge of both listings of one scope.
#[derive(Debug)]
pub(super) struct Merge<P: Pages> {
    scope: Scope,
    order: KeyOrder,
    source: Feed<P>,
    target: Feed<P>,
    untold: VecDeque<(Side, Hole)>,
}

#[derive(Debug)]
struct Feed<P: Pages> {
    side: Side,
    ranges: Ranges<P>,
    keys: std::vec::IntoIter<P::Item>,
    next: Option<P::Item>,
    holes: Vec<Hole>,
    fresh: usize,
    ended: bool,
}

impl<P: Pages> Feed<P> {
    fn new(side: Side, ranges: Ranges<P>) -> Self {
        Self { side, ranges, keys: Vec::new().into_iter(), next: None, holes: Vec::new(), fresh: 0, ended: false }
    }

    async fn fill(&mut self) {
        while self.next.is_none() && !self.ended {
            self.next = self.keys.next();
            if self.next.is_none() {
                match self.ranges.next().await {
                    Some(Piece::Keys(keys)) => self.keys = keys.into_iter(),
                    Some(Piece::Hole(_, hole)) => {
                        self.holes.push(hole);
                        self.fresh += 1;
                    }
                    None => self.ended = true,
                }
            }
        }
    }

    fn news(&mut self) -> Vec<(Side, Hole)> {
        let fresh = std::mem::take(&mut self.fresh);
        let from = self.holes.len().saturating_sub(fresh);
        self.holes.iter().skip(from).map(|hole| (self.side, hole.clone())).collect()
    }

    fn has_hole_at(&self, order: KeyOrder, key: &str) -> bool {
        self.holes.iter().any(|hole| hole.holds(order, key))
    }
}

impl<P: Pages> Merge<P> {
    pub(super) fn new(scope: Scope, order: KeyOrder, source: Ranges<P>, target: Ranges<P>) -> Self {
        let (source, target) = (Feed::new(Side::Source, source), Feed::new(Side::Target, target));
        Self { scope, order, source, target, untold: VecDeque::new() }
    }

    /// The next pair in key order; `None` after the last. If dropped, nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Pair<P::Item>> {
        loop {
            tokio::join!(self.source.fill(), self.target.fill());
            self.untold.extend(self.source.news());
            self.untold.extend(self.target.news());
            if let Some((side, hole)) = self.untold.pop_front() {
                return Some(Pair::Hole(side, hole));
            }
            let source = self.source.next.as_ref().map(|entry| self.scope.at_target(entry.key().as_str()));
            let target = self.target.next.as_ref().map(|entry| entry.key().as_str());
            match step(self.order, source.as_deref(), target) {
                Step::End => return None,
                Step::Both => return Some(Pair::Both(self.source.next.take()?, self.target.next.take()?)),
                Step::Source => {
                    let known = !source.is_some_and(|key| self.target.has_hole_at(self.order, &key));
                    let entry = self.source.next.take()?;
                    if known {
                        return Some(Pair::Source(entry));
                    }
                }
                Step::Target => {
                    let entry = self.target.next.take()?;
                    let key = self.scope.at_source(entry.key());
                    if !key.is_some_and(|key| self.source.has_hole_at(self.order, key.as_str())) {
                        return Some(Pair::Target(entry));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
