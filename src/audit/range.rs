//! A whole listing in key order, fetched in several ranges at once.
//!
//! The key space is a row of ranges, each from one key (exclusive) to the next range's start (inclusive), so that no key
//! can fall between two. It begins as one range; pages tell how keys go on, and ranges are cut off ahead of where the
//! reader is. How many is learnt: a range that turns out empty makes the row shorter, one with keys in it longer. Each
//! range looks only a few pages ahead, so memory does not depend on the number of keys.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;

use super::split::Guide;
use crate::meter;
use crate::model::fault::{Disposition, Fault, FaultKind, Side};
use crate::model::object::{Key, KeyOrder, Listed};
use crate::plan::retry::Policy;
use crate::ports::{ListFrom, ObjectPage};

/// Pages under way at once: S3 answers thousands of LISTs a second, one client's parsing is the limit long before.
const WIDEST: usize = 8;
/// Ranges in the row at most, pages that a range holds ready at most, and about how many pages a cut-off range gets:
/// together they bound memory to some 50 pages of a thousand keys a side.
const ROW: usize = 12;
const AHEAD: usize = 3;
const STRIDE: u32 = 4;
/// A page with fewer keys tells too little of how keys go on.
const TELLING: usize = 50;
/// Tries of one page: with the waits below about half a minute, after which an outage is not a hiccup.
pub(super) const TRIES: u32 = 7;
pub(super) const PATIENCE: Policy = Policy { first: Duration::from_millis(200), longest: Duration::from_secs(50) };

/// One side's listing under one prefix.
pub(super) trait Pages: Clone + Send + Sync + 'static {
    /// One page. Faults as `ObjectStore::list_objects`.
    fn page(&self, from: ListFrom) -> impl Future<Output = Result<ObjectPage, Fault>> + Send;
}

/// Keys from `after` (exclusive) to `upto` (inclusive) that could not be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The last key known before it; `None` for the start.
    pub after: Option<Key>,
    /// Its last key; `None` for the end.
    pub upto: Option<Key>,
    /// Why.
    pub fault: Fault,
}

impl Hole {
    /// Which keys, in words.
    #[must_use]
    pub fn bounds(&self) -> String {
        let from = self.after.as_ref().map_or_else(|| "from its start".to_owned(), |key| format!("after {key:?}"));
        let to = self.upto.as_ref().map_or_else(|| "its end".to_owned(), |key| format!("{key:?}"));
        format!("{from} to {to}")
    }

    /// Whether a key falls into it.
    #[must_use]
    pub(super) fn holds(&self, order: KeyOrder, key: &str) -> bool {
        self.after.as_ref().is_none_or(|after| order.compare(key, after.as_str()).is_gt())
            && self.upto.as_ref().is_none_or(|upto| order.compare(key, upto.as_str()).is_le())
    }
}

/// What comes next in a listing.
#[derive(Debug)]
pub(super) enum Piece {
    /// Keys in order, at least one.
    Keys(Vec<Listed>),
    /// A part of the key space that could not be listed.
    Hole(Hole),
}

#[derive(Debug)]
enum State {
    Idle,
    UnderWay,
    Done,
    Failed(Fault),
}

#[derive(Debug)]
struct Range {
    id: u64,
    /// Every key up to here has been listed.
    after: Option<Key>,
    from: ListFrom,
    upto: Option<Key>,
    ready: VecDeque<Vec<Listed>>,
    state: State,
    guide: Option<Guide>,
    untouched: bool,
}

impl Range {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Idle | State::UnderWay)
    }

    fn within(&self, order: KeyOrder, key: &Key) -> bool {
        self.upto.as_ref().is_none_or(|upto| order.compare(key.as_str(), upto.as_str()).is_le())
    }

    /// Takes a page over, as far as it lies in this range.
    fn take(&mut self, order: KeyOrder, page: ObjectPage) {
        let mut entries = page.entries;
        let last = entries.last().map(|entry| entry.key.clone());
        entries.truncate(entries.partition_point(|entry| self.within(order, &entry.key)));
        if !entries.is_empty() {
            self.ready.push_back(entries);
        }
        let beyond =
            |last: &Key| self.upto.as_ref().is_some_and(|upto| order.compare(last.as_str(), upto.as_str()).is_ge());
        match page.next {
            Some(next) if !last.as_ref().is_some_and(beyond) => {
                self.after = last.or(self.after.take());
                self.from = next;
                self.state = State::Idle;
            }
            Some(_) | None => self.state = State::Done,
        }
    }
}

/// The listing.
#[derive(Debug)]
pub(super) struct Ranges<P> {
    pages: P,
    order: KeyOrder,
    row: VecDeque<Range>,
    under_way: JoinSet<(u64, Result<ObjectPage, Fault>)>,
    width: usize,
    next_id: u64,
}

impl<P: Pages> Ranges<P> {
    /// Of all keys; nothing is asked yet.
    pub(super) fn new(pages: P, order: KeyOrder) -> Self {
        let mut ranges = Self { pages, order, row: VecDeque::new(), under_way: JoinSet::new(), width: 2, next_id: 0 };
        let whole = ranges.range(None, None, None);
        ranges.row.push_back(whole);
        ranges
    }

    /// Of keys that are known already, in order.
    pub(super) fn listed(pages: P, order: KeyOrder, keys: Vec<Listed>) -> Self {
        let mut ranges = Self::new(pages, order);
        if let Some(whole) = ranges.row.front_mut() {
            whole.state = State::Done;
            whole.ready.extend((!keys.is_empty()).then_some(keys));
        }
        ranges
    }

    fn range(&mut self, after: Option<Key>, upto: Option<Key>, guide: Option<Guide>) -> Range {
        self.next_id += 1;
        let from = after.clone().map_or(ListFrom::Start, ListFrom::After);
        Range {
            id: self.next_id,
            after,
            from,
            upto,
            ready: VecDeque::new(),
            state: State::Idle,
            guide,
            untouched: true,
        }
    }

    /// The next keys, or the next hole; `None` after the last. If dropped, nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        loop {
            while let Some(Ok((id, reply))) = self.under_way.try_join_next() {
                self.integrate(id, reply);
            }
            self.schedule();
            let front = self.row.front_mut()?;
            if let Some(keys) = front.ready.pop_front() {
                return Some(Piece::Keys(keys));
            }
            if !front.is_open() {
                let ended = self.row.pop_front()?;
                if let State::Failed(fault) = ended.state {
                    return Some(Piece::Hole(Hole { after: ended.after, upto: ended.upto, fault }));
                }
                continue;
            }
            match self.under_way.join_next().await {
                Some(Ok((id, reply))) => self.integrate(id, reply),
                Some(Err(error)) => self.fail_all(&error.to_string()),
                None => self.fail_all("nobody was asked"),
            }
        }
    }

    /// Starts what may be started, front first, and cuts ranges off while there is something to gain.
    fn schedule(&mut self) {
        while self.under_way.len() < self.width {
            let waiting =
                self.row.iter_mut().find(|range| matches!(range.state, State::Idle) && range.ready.len() < AHEAD);
            if let Some(range) = waiting {
                range.state = State::UnderWay;
                let (id, from, pages) = (range.id, range.from.clone(), self.pages.clone());
                self.under_way.spawn(meter::carried(async move { (id, fetch(&pages, from).await) }));
            } else if self.row.len() >= ROW || !self.cut() {
                return;
            }
        }
    }

    /// Cuts the first range in two that is expected to be long; whether there was one.
    fn cut(&mut self) -> bool {
        let order = self.order;
        let found = self.row.iter().enumerate().find_map(|(at, range)| {
            let guide = range.guide.as_ref().filter(|_| range.is_open())?;
            let cut = guide.cut(STRIDE)?;
            let after = range.after.as_ref().is_none_or(|after| order.compare(cut.as_str(), after.as_str()).is_gt());
            let before = range.upto.as_ref().is_none_or(|upto| order.compare(cut.as_str(), upto.as_str()).is_lt());
            (after && before).then(|| (at, cut, guide.further(STRIDE)))
        });
        let Some((at, cut, guide)) = found else { return false };
        let Some(range) = self.row.get_mut(at) else { return false };
        let upto = range.upto.replace(cut.clone());
        let rest = self.range(Some(cut), upto, Some(guide));
        self.row.insert(at + 1, rest);
        true
    }

    fn integrate(&mut self, id: u64, reply: Result<ObjectPage, Fault>) {
        let order = self.order;
        let Some(at) = self.row.iter().position(|range| range.id == id) else { return };
        let Some(range) = self.row.get_mut(at) else { return };
        let page = match reply.and_then(|page| getting_on(page, &range.from)) {
            Ok(page) => in_order(page, order, range.after.as_ref()),
            Err(fault) => Err(fault),
        };
        let page = match page {
            Ok(page) => page,
            Err(fault) => {
                range.state = State::Failed(fault);
                return;
            }
        };
        let found = page.entries.first().is_some_and(|entry| range.within(order, &entry.key));
        if std::mem::take(&mut range.untouched) {
            self.width = if found { (self.width + 1).min(WIDEST) } else { (self.width / 2).max(2) };
        }
        if page.entries.len() >= TELLING {
            let keys: Vec<&Key> = page.entries.iter().map(|entry| &entry.key).collect();
            range.guide = Guide::of(order, keys.into_iter());
        }
        range.take(order, page);
    }

    fn fail_all(&mut self, why: &str) {
        for range in self.row.iter_mut().filter(|range| range.is_open()) {
            let detail = format!("listing broke off inside repl: {why}");
            range.state = State::Failed(Fault::new(FaultKind::Transient, Side::Local, "list objects", detail));
        }
        self.under_way.abort_all();
    }
}

/// A page whose keys are in order and all after what was listed before: a store that keeps another order would make
/// differences that are none.
fn in_order(mut page: ObjectPage, order: KeyOrder, after: Option<&Key>) -> Result<ObjectPage, Fault> {
    if order == KeyOrder::Paths {
        // SeaweedFS sorts within a page by the encoded spelling (measured on 4.48).
        page.entries.sort_by(|one, other| order.compare(one.key.as_str(), other.key.as_str()));
    }
    let mut before = after;
    for entry in &page.entries {
        if before.is_some_and(|before| order.compare(before.as_str(), entry.key.as_str()) != Ordering::Less) {
            let detail = format!("the store lists {:?} after {before:?}: its order cannot be compared with", entry.key);
            return Err(Fault::new(FaultKind::Refused, Side::Local, "list objects", detail));
        }
        before = Some(&entry.key);
    }
    Ok(page)
}

/// An empty page may go on, but not from where it was itself: that would be for ever.
fn getting_on(page: ObjectPage, from: &ListFrom) -> Result<ObjectPage, Fault> {
    if page.entries.is_empty() && page.next.as_ref() == Some(from) {
        let detail = format!("the store goes on from {from:?} to the same place");
        return Err(Fault::new(FaultKind::Refused, Side::Local, "list objects", detail));
    }
    Ok(page)
}

/// One page, with patience for what passes by itself.
async fn fetch<P: Pages>(pages: &P, from: ListFrom) -> Result<ObjectPage, Fault> {
    patiently(|| pages.page(from.clone())).await
}

/// Asks again, for about half a minute, where the fault may pass by itself.
pub(super) async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut attempt = 0;
    loop {
        match ask().await {
            Err(fault) if fault.kind.disposition() == Disposition::Retry && attempt + 1 < TRIES => {
                tokio::time::sleep(PATIENCE.wait(fault.kind, attempt, 0.5)).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests;
