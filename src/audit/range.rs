//! A whole listing in key order, fetched in several ranges at once.
//!
//! The key space is a row of ranges, each from one key (exclusive) to the next range's start (inclusive), so that no key
//! can fall between two. It begins as one range, or as those that an interrupted listing left; pages tell how keys go
//! on, and ranges are cut off ahead of where the reader is. How many is learnt: a range that turns out empty makes the
//! row shorter, one with keys in it longer. Each range looks only a few pages ahead, so memory does not depend on the
//! number of keys.
//!
//! What is listed may be torn between pages, as the versions of one key are: its pieces are put together, and a range
//! hands it out only when it is whole.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::split::Guide;
use crate::meter;
use crate::model::fault::{Disposition, Fault, FaultKind, Side};
use crate::model::object::{Key, KeyOrder, Listed, VersionEntry};
use crate::plan::retry::Policy;

/// Pages under way at once, and ranges of the row that are worked on: S3 answers thousands of LISTs a second, one client's
/// parsing is the limit long before.
const WIDEST: usize = 5;
/// About how many pages a cut-off range gets, and how many a range holds ready at most: as many, or the reader would wait
/// for the rest of each range. Together with the above they bound memory to some 25 pages of a thousand keys a side.
const STRIDE: u32 = 4;
const AHEAD: usize = STRIDE as usize;
/// Fewer keys tell too little of how keys go on.
const TELLING: usize = 50;
/// Tries of one page: with the waits below about half a minute, after which an outage is not a hiccup.
pub(super) const TRIES: u32 = 7;
pub(super) const PATIENCE: Policy = Policy { first: Duration::from_millis(200), longest: Duration::from_secs(50) };

/// What a listing tells of one key.
pub trait Item: Debug + Send + 'static {
    /// Whether one key's entries may be spread over several pages.
    const MAY_BE_TORN: bool;
    /// The key.
    fn key(&self) -> &Key;
    /// How many entries of a listing it takes.
    fn count(&self) -> usize;
    /// Takes in what came later of the same key.
    fn absorb(&mut self, later: Self);
}

impl Item for Listed {
    const MAY_BE_TORN: bool = false;

    fn key(&self) -> &Key {
        &self.key
    }

    fn count(&self) -> usize {
        1
    }

    fn absorb(&mut self, _later: Self) {}
}

/// All versions and delete markers of one key, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The key.
    pub key: Key,
    /// In the listing's own order; at least one.
    pub entries: Vec<VersionEntry>,
}

impl Item for Versions {
    const MAY_BE_TORN: bool = true;

    fn key(&self) -> &Key {
        &self.key
    }

    fn count(&self) -> usize {
        self.entries.len()
    }

    fn absorb(&mut self, later: Self) {
        self.entries.extend(later.entries);
    }
}

impl Versions {
    /// A page's entries by key.
    #[must_use]
    pub fn grouped(entries: Vec<VersionEntry>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for entry in entries {
            match groups.last_mut() {
                Some(group) if group.key == entry.key => group.entries.push(entry),
                Some(_) | None => groups.push(Self { key: entry.key.clone(), entries: vec![entry] }),
            }
        }
        groups
    }
}

/// One page.
#[derive(Clone, Debug)]
pub struct Page<I, F> {
    /// In the listing's own order; a store may return fewer than asked for, even none, and still go on.
    pub items: Vec<I>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<F>,
    /// The order of this store's listings.
    pub order: KeyOrder,
}

/// One side's listing.
pub trait Pages: Clone + Send + Sync + 'static {
    /// What it lists.
    type Item: Item;
    /// Where a page starts.
    type From: Clone + Debug + PartialEq + Send + Sync;
    /// The start of all keys after this one, whether it exists or not; of all keys for `None`.
    fn start(&self, after: Option<&Key>) -> Self::From;
    /// One page of what is under a prefix. Faults as those of the store's listing.
    fn page(
        &self,
        prefix: &str,
        from: Self::From,
    ) -> impl Future<Output = Result<Page<Self::Item, Self::From>, Fault>> + Send;
}

/// A part of the key space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its keys begin so.
    pub prefix: Arc<str>,
    /// They come after this one; `None` for the start.
    pub after: Option<Key>,
    /// This is the last of them; `None` for the end.
    pub upto: Option<Key>,
}

impl Span {
    /// Everything under a prefix.
    #[must_use]
    pub fn whole(prefix: &str) -> Self {
        Self { prefix: Arc::from(prefix), after: None, upto: None }
    }
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
pub enum Piece<I> {
    /// Keys in order, at least one.
    Keys(Vec<I>),
    /// A part of the key space that could not be listed, and under which prefix.
    Hole(Arc<str>, Hole),
}

#[derive(Debug)]
enum State {
    Idle,
    UnderWay,
    Done,
    Failed(Fault),
}

/// Where a range comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bounds {
    /// Its bounds were given.
    Given,
    /// It was cut off by a guess that no page has confirmed yet.
    Guessed,
    /// A page was seen.
    Seen,
}

#[derive(Debug)]
struct Range<P: Pages> {
    id: u64,
    prefix: Arc<str>,
    /// Every key up to here was handed out.
    told: Option<Key>,
    /// Every key up to here has been listed, whole.
    after: Option<Key>,
    from: P::From,
    upto: Option<Key>,
    ready: VecDeque<Vec<P::Item>>,
    /// The last key listed, of which more may follow.
    torn: Option<P::Item>,
    state: State,
    guide: Option<Guide>,
    /// Keys of the last pages, too few to tell how they go on, and how many pages those were.
    sample: (Vec<Key>, u32),
    bounds: Bounds,
}

impl<P: Pages> Range<P> {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Idle | State::UnderWay)
    }

    fn within(&self, order: KeyOrder, key: &Key) -> bool {
        self.upto.as_ref().is_none_or(|upto| order.compare(key.as_str(), upto.as_str()).is_le())
    }

    /// The last key of which anything was listed.
    fn reached(&self) -> Option<&Key> {
        self.torn.as_ref().map(Item::key).or(self.after.as_ref())
    }

    /// Takes a page over, as far as it lies in this range. Its items are in order, the torn one put together.
    fn take(&mut self, order: KeyOrder, mut items: Vec<P::Item>, next: Option<P::From>) {
        let last = items.last().map(|item| item.key().clone());
        let beyond = match (&last, &self.upto) {
            (Some(last), Some(upto)) => match order.compare(last.as_str(), upto.as_str()) {
                Ordering::Less => false,
                // More of it may follow.
                Ordering::Equal => !P::Item::MAY_BE_TORN,
                Ordering::Greater => true,
            },
            (Some(_) | None, _) => false,
        };
        items.truncate(items.partition_point(|item| self.within(order, item.key())));
        let next = next.filter(|_| !beyond);
        if next.is_some() && P::Item::MAY_BE_TORN {
            self.torn = items.pop();
        }
        if let Some(whole) = items.last() {
            self.after = Some(whole.key().clone());
            self.ready.push_back(items);
        }
        match next {
            Some(next) => {
                self.from = next;
                self.state = State::Idle;
            }
            None => self.state = State::Done,
        }
    }

    /// Learns from a page how keys go on.
    fn learn(&mut self, order: KeyOrder, items: &[P::Item]) {
        let (keys, pages) = &mut self.sample;
        keys.extend(items.iter().map(|item| item.key().clone()));
        keys.dedup();
        *pages += 1;
        if keys.len() >= TELLING {
            self.guide = Guide::of(order, keys.iter(), *pages);
            self.sample = (Vec::new(), 0);
        }
    }
}

/// A reply to one page's request.
type Reply<P> = Result<Page<<P as Pages>::Item, <P as Pages>::From>, Fault>;

/// The listing.
#[derive(Debug)]
pub struct Ranges<P: Pages> {
    pages: P,
    /// As the last page told: before the first one nothing is compared.
    order: KeyOrder,
    row: VecDeque<Range<P>>,
    under_way: JoinSet<(u64, Reply<P>)>,
    width: usize,
    next_id: u64,
}

impl<P: Pages> Ranges<P> {
    /// Of everything under a prefix; nothing is asked yet.
    pub(super) fn new(pages: P, prefix: &str) -> Self {
        Self::over(pages, vec![Span::whole(prefix)])
    }

    /// Of these parts of the key space, in this order; nothing is asked yet.
    pub fn over(pages: P, spans: Vec<Span>) -> Self {
        let order = KeyOrder::default();
        let mut ranges = Self { pages, order, row: VecDeque::new(), under_way: JoinSet::new(), width: 2, next_id: 0 };
        for span in spans {
            let range = ranges.range(span, None, Bounds::Given);
            ranges.row.push_back(range);
        }
        ranges
    }

    /// The same listing, of keys that are known already, in that order.
    pub(super) fn known(self, keys: Vec<P::Item>) -> Self {
        let mut ranges = Self::new(self.pages, "");
        if let Some(whole) = ranges.row.front_mut() {
            whole.state = State::Done;
            whole.ready.extend((!keys.is_empty()).then_some(keys));
        }
        ranges
    }

    fn range(&mut self, span: Span, guide: Option<Guide>, bounds: Bounds) -> Range<P> {
        self.next_id += 1;
        let Span { prefix, after, upto } = span;
        Range {
            id: self.next_id,
            prefix,
            told: after.clone(),
            from: self.pages.start(after.as_ref()),
            after,
            upto,
            ready: VecDeque::new(),
            torn: None,
            state: State::Idle,
            guide,
            sample: (Vec::new(), 0),
            bounds,
        }
    }

    /// What has not been handed out yet: a listing of these parts goes on where this one is.
    #[must_use]
    pub fn left(&self) -> Vec<Span> {
        let mut left: Vec<Span> = Vec::new();
        for range in &self.row {
            match left.last_mut() {
                // Cut off from the one before.
                Some(span) if span.prefix == range.prefix && span.upto.is_some() && span.upto == range.told => {
                    span.upto.clone_from(&range.upto);
                }
                Some(_) | None => left.push(Span {
                    prefix: Arc::clone(&range.prefix),
                    after: range.told.clone(),
                    upto: range.upto.clone(),
                }),
            }
        }
        left
    }

    /// The next keys, or the next hole; `None` after the last. If dropped, nothing is lost.
    pub async fn next(&mut self) -> Option<Piece<P::Item>> {
        loop {
            while let Some(Ok((id, reply))) = self.under_way.try_join_next() {
                self.integrate(id, reply);
            }
            self.schedule();
            let front = self.row.front_mut()?;
            if let Some(keys) = front.ready.pop_front() {
                front.told = keys.last().map(|item| item.key().clone()).or(front.told.take());
                return Some(Piece::Keys(keys));
            }
            if !front.is_open() {
                let ended = self.row.pop_front()?;
                if let State::Failed(fault) = ended.state {
                    return Some(Piece::Hole(ended.prefix, Hole { after: ended.after, upto: ended.upto, fault }));
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
            let waiting = self
                .row
                .iter_mut()
                .take(WIDEST)
                .find(|range| matches!(range.state, State::Idle) && range.ready.len() < AHEAD);
            if let Some(range) = waiting {
                range.state = State::UnderWay;
                let (id, prefix, from) = (range.id, Arc::clone(&range.prefix), range.from.clone());
                let pages = self.pages.clone();
                let asked = async move { (id, patiently(|| pages.page(&prefix, from.clone())).await) };
                self.under_way.spawn(meter::carried(asked));
            } else if self.row.len() >= WIDEST || !self.cut() {
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
            let after = range.reached().is_none_or(|after| order.compare(cut.as_str(), after.as_str()).is_gt());
            let before = range.upto.as_ref().is_none_or(|upto| order.compare(cut.as_str(), upto.as_str()).is_lt());
            (after && before).then(|| (at, cut, guide.further(STRIDE)))
        });
        let Some((at, cut, guide)) = found else { return false };
        let Some(range) = self.row.get_mut(at) else { return false };
        let upto = range.upto.replace(cut.clone());
        let rest = Span { prefix: Arc::clone(&range.prefix), after: Some(cut), upto };
        let rest = self.range(rest, Some(guide), Bounds::Guessed);
        self.row.insert(at + 1, rest);
        true
    }

    fn integrate(&mut self, id: u64, reply: Reply<P>) {
        self.order = reply.as_ref().map_or(self.order, |page| page.order);
        let order = self.order;
        let Some(at) = self.row.iter().position(|range| range.id == id) else { return };
        let Some(range) = self.row.get_mut(at) else { return };
        let page = reply.and_then(|page| getting_on(page, &range.from));
        let ordered = page.and_then(|page| {
            let torn = range.torn.take();
            Ok((in_order(page.items, order, torn, range.after.as_ref())?, page.next))
        });
        let (items, next) = match ordered {
            Ok(page) => page,
            Err(fault) => {
                range.state = State::Failed(fault);
                return;
            }
        };
        let found = items.first().is_some_and(|item| range.within(order, item.key()));
        match std::mem::replace(&mut range.bounds, Bounds::Seen) {
            Bounds::Given | Bounds::Guessed if found => self.width = (self.width + 1).min(WIDEST),
            Bounds::Guessed => self.width = (self.width / 2).max(2),
            Bounds::Given | Bounds::Seen => {}
        }
        range.learn(order, &items);
        range.take(order, items, next);
    }

    fn fail_all(&mut self, why: &str) {
        for range in self.row.iter_mut().filter(|range| range.is_open()) {
            let detail = format!("listing broke off inside repl: {why}");
            range.state = State::Failed(Fault::new(FaultKind::Transient, Side::Local, "list objects", detail));
        }
        self.under_way.abort_all();
    }
}

/// A page whose keys are in order and all after what was listed before, with what an earlier page had of its first: a
/// store that keeps another order would make differences that are none.
fn in_order<I: Item>(
    mut items: Vec<I>,
    order: KeyOrder,
    torn: Option<I>,
    after: Option<&Key>,
) -> Result<Vec<I>, Fault> {
    if order == KeyOrder::Paths {
        // SeaweedFS sorts within a page by the encoded spelling (measured on 4.48); what belongs together keeps its order.
        items.sort_by(|one, other| order.compare(one.key().as_str(), other.key().as_str()));
    }
    let mut whole: Vec<I> = Vec::with_capacity(items.len() + 1);
    for item in torn.into_iter().chain(items) {
        match whole.last_mut() {
            Some(before) if I::MAY_BE_TORN && before.key() == item.key() => before.absorb(item),
            Some(before) if order.compare(before.key().as_str(), item.key().as_str()).is_ge() => {
                return Err(disorder(before.key(), item.key()));
            }
            // Some stores begin with the key after which they were asked to begin.
            None if after.is_some_and(|after| after == item.key()) => {}
            None if after.is_some_and(|after| order.compare(after.as_str(), item.key().as_str()).is_gt()) => {
                return Err(disorder(after.unwrap_or(item.key()), item.key()));
            }
            Some(_) | None => whole.push(item),
        }
    }
    Ok(whole)
}

fn disorder(before: &Key, key: &Key) -> Fault {
    let detail = format!("the store lists {key:?} after {before:?}: its order cannot be compared with");
    Fault::new(FaultKind::Refused, Side::Local, "list objects", detail)
}

/// An empty page may go on, but not from where it was itself: that would be for ever.
fn getting_on<I, F: PartialEq + Debug>(page: Page<I, F>, from: &F) -> Result<Page<I, F>, Fault> {
    if page.items.is_empty() && page.next.as_ref() == Some(from) {
        let detail = format!("the store goes on from {from:?} to the same place");
        return Err(Fault::new(FaultKind::Refused, Side::Local, "list objects", detail));
    }
    Ok(page)
}

/// Asks again, for about half a minute, where the fault may pass by itself.
pub async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Fault>
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
