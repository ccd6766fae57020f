use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

use proptest::prelude::*;

use super::*;
use crate::model::object::{ETag, Timestamp, VersionId};
use crate::ports::ListFrom;

/// A bucket that pages as it likes: early, empty, by token or by key, and fails where it is told to.
#[derive(Clone, Debug)]
struct Bucket {
    keys: Arc<Vec<String>>,
    order: KeyOrder,
    whims: Arc<Vec<u8>>,
    asked: Arc<AtomicUsize>,
    most: usize,
    /// Pages that begin in here are refused.
    refuses: Option<(String, String)>,
}

fn listed(key: &str) -> Listed {
    Listed {
        key: Key::new(key),
        size: 1,
        etag: ETag::new("e"),
        modified: Timestamp(0),
        storage_class: None,
        checksum: None,
    }
}

impl Bucket {
    fn new(mut keys: Vec<String>, order: KeyOrder, whims: Vec<u8>, most: usize) -> Self {
        keys.sort_by(|one, other| order.compare(one, other));
        keys.dedup();
        let whims = Arc::new(if whims.is_empty() { vec![255] } else { whims });
        Self { keys: Arc::new(keys), order, whims, asked: Arc::default(), most, refuses: None }
    }

    fn place(&self, from: &ListFrom) -> usize {
        match from {
            ListFrom::Start => 0,
            ListFrom::After(key) => {
                let after = self.keys.partition_point(|known| self.order.compare(known, key.as_str()).is_le());
                let is_key = after.checked_sub(1).is_some_and(|place| self.keys[place] == key.as_str());
                let inside = format!("{}/", key.as_str());
                // As SeaweedFS: a directory whose bare name is given is left out, with all that is in it.
                let is_directory = self.order == KeyOrder::Paths && !is_key && !key.as_str().ends_with('/');
                let left_out = self.keys[after..].iter().take_while(|known| known.starts_with(&inside));
                after + if is_directory { left_out.count() } else { 0 }
            }
            ListFrom::Token(token) => token.split('/').next().unwrap().parse().unwrap(),
        }
    }
}

impl Pages for Bucket {
    type Item = Listed;
    type From = ListFrom;

    fn start(&self, after: Option<&Key>) -> ListFrom {
        after.cloned().map_or(ListFrom::Start, ListFrom::After)
    }

    async fn page(&self, _prefix: &str, from: ListFrom) -> Result<Page<Listed, ListFrom>, Fault> {
        let asked = self.asked.fetch_add(1, Atomic::Relaxed);
        let whim = self.whims[asked % self.whims.len()];
        for _ in 0..whim % 5 {
            tokio::task::yield_now().await;
        }
        let place = self.place(&from);
        if let (Some((first, last)), Some(key)) = (&self.refuses, self.keys.get(place))
            && (first..=last).contains(&key)
        {
            return Err(Fault::new(FaultKind::Denied, Side::Source, "list objects", "no"));
        }
        // A page may be empty and still go on, by a token that no other page gave.
        let most = if whim < 40 { 0 } else { 1 + usize::from(whim) % self.most };
        let end = self.keys.len().min(place + most);
        let entries: Vec<Listed> = self.keys[place..end].iter().map(|key| listed(key)).collect();
        let next = match entries.last() {
            _ if end == self.keys.len() => None,
            Some(last) if whim.is_multiple_of(2) => Some(ListFrom::After(last.key.clone())),
            _ => Some(ListFrom::Token(format!("{end}/{asked}"))),
        };
        Ok(Page { items: entries, next, order: self.order })
    }
}

async fn all(bucket: &Bucket) -> (Vec<String>, Vec<Hole>) {
    let mut ranges = Ranges::new(bucket.clone(), "");
    let (mut keys, mut holes) = (Vec::new(), Vec::new());
    while let Some(piece) = ranges.next().await {
        let held: usize = ranges.row.iter().map(|range| range.ready.len()).sum();
        assert!(held <= WIDEST * (AHEAD + 1), "memory is bounded: {held} pages");
        match piece {
            Piece::Keys(page) => keys.extend(page.into_iter().map(|entry| entry.key.as_str().to_owned())),
            Piece::Hole(_, hole) => holes.push(hole),
        }
    }
    (keys, holes)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Keys as they hurt: prefixes of each other, separators, control characters, every plane of Unicode.
fn hostile() -> impl Strategy<Value = Vec<String>> {
    let key = prop_oneof![
        "[ab/]{1,6}",
        "[0-9]{1,4}",
        "logs/2026-11-[0-3][0-9]/[0-9a-f]{2}",
        proptest::collection::vec(
            prop_oneof![
                Just('a'),
                Just('/'),
                Just('-'),
                Just('.'),
                Just(' '),
                Just('\u{1}'),
                Just('\u{7f}'),
                Just('é'),
                Just('\u{ffee}'),
                Just('\u{1F600}'),
                Just('\u{10FFFF}'),
            ],
            1..6
        )
        .prop_map(|chars| chars.into_iter().collect::<String>()),
    ];
    proptest::collection::vec(key, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_key_comes_once_and_in_order(
        keys in hostile(),
        paths in any::<bool>(),
        whims in proptest::collection::vec(any::<u8>(), 1..60),
        most in prop_oneof![1usize..5, 60usize..120],
    ) {
        let whims: Vec<u8> = whims.into_iter().chain([200]).collect();
        let bucket = Bucket::new(keys, if paths { KeyOrder::Paths } else { KeyOrder::Bytes }, whims, most);
        let (found, holes) = run(all(&bucket));
        prop_assert!(holes.is_empty(), "{holes:?}");
        prop_assert_eq!(&found, &*bucket.keys);
    }

    /// With a part that is refused, every key is either told or in a hole that is named.
    #[test]
    fn a_failed_range_is_named_and_nothing_else_is_lost(
        keys in hostile(),
        (first, last) in ("[a-m/0-9]{0,3}", "[a-z/0-9]{0,3}"),
        whims in proptest::collection::vec(40u8.., 1..60),
    ) {
        let mut bucket = Bucket::new(keys, KeyOrder::Bytes, whims, 70);
        bucket.refuses = Some((first, last));
        let (found, holes) = run(all(&bucket));
        let order = KeyOrder::Bytes;
        let told = bucket.keys.iter().filter(|key| found.contains(key)).count();
        prop_assert_eq!(told, found.len(), "none twice");
        for key in bucket.keys.iter().filter(|key| !found.contains(key)) {
            prop_assert!(holes.iter().any(|hole| hole.holds(order, key)), "{key:?} is lost: {holes:?}");
        }
        for key in &found {
            prop_assert!(!holes.iter().any(|hole| hole.holds(order, key)), "{key:?} is told and called lost");
        }
    }
}

/// A tree whose directories are spelled as a guess at how its keys go on may be.
#[test]
fn no_directory_is_left_out_by_a_store_that_keeps_them() {
    for page in 60..120 {
        let tree = (0..900).map(|n| format!("deep/{}/{}/{n}", n % 7, n % 11)).collect();
        let bucket = Bucket::new(tree, KeyOrder::Paths, vec![199], page);
        let (found, holes) = run(all(&bucket));
        assert!(holes.is_empty(), "{holes:?}");
        assert_eq!((page, found.len()), (page, bucket.keys.len()));
    }
}

fn flat(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("flat/object-{n:09}")).collect()
}

/// The most pages that were under way at once, and how many there were in all.
async fn width(bucket: &Bucket) -> (usize, usize) {
    let mut ranges = Ranges::new(bucket.clone(), "");
    let (mut widest, mut told) = (0, Vec::new());
    while let Some(piece) = ranges.next().await {
        widest = widest.max(ranges.under_way.len());
        if let Piece::Keys(keys) = piece {
            told.extend(keys.into_iter().map(|entry| entry.key.as_str().to_owned()));
        }
    }
    // Ranges are cut at keys that exist, so that a bound belonging to neither side would show.
    assert!(told == *bucket.keys, "{} of {} keys", told.len(), bucket.keys.len());
    (widest, bucket.asked.load(Atomic::Relaxed))
}

#[test]
fn a_flat_bucket_is_listed_as_wide_as_a_deep_one() {
    let deep = (0..60_000).map(|n| format!("{:02}/{:02}/{:04}", n % 100, (n / 100) % 60, n)).collect();
    let hashes = (0..60_000_u64).map(|n| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    for keys in [flat(60_000), deep, hashes] {
        // Even pages of 232 keys.
        let bucket = Bucket { most: 1000, whims: Arc::new(vec![231]), ..Bucket::new(keys, KeyOrder::Bytes, vec![], 1) };
        let pages = bucket.keys.len().div_ceil(232);
        let (widest, asked) = run(width(&bucket));
        assert!(widest >= WIDEST - 2, "{widest} pages at once for {}", bucket.keys[0]);
        assert!(asked <= pages + pages / 4 + WIDEST, "{asked} requests for {pages} pages of {}", bucket.keys[0]);
    }
}

#[test]
fn a_store_that_lists_out_of_order_is_refused() {
    let mut bucket = Bucket::new(vec!["a/b".into(), "a-b".into()], KeyOrder::Paths, vec![255], 9);
    bucket.order = KeyOrder::Bytes;
    let (found, holes) = run(all(&bucket));
    assert!(found.is_empty());
    assert_eq!(holes.len(), 1);
    assert!(holes[0].fault.detail.contains("order"), "{holes:?}");
}

#[derive(Clone, Debug)]
struct Stuck;

impl Pages for Stuck {
    type Item = Listed;
    type From = ListFrom;

    fn start(&self, _after: Option<&Key>) -> ListFrom {
        ListFrom::Start
    }

    async fn page(&self, _prefix: &str, _from: ListFrom) -> Result<Page<Listed, ListFrom>, Fault> {
        Ok(Page { items: vec![], next: Some(ListFrom::Token("same".to_owned())), order: KeyOrder::Bytes })
    }
}

#[test]
fn a_store_that_goes_nowhere_is_refused() {
    let found = run(async { Ranges::new(Stuck, "").next().await });
    assert!(matches!(found, Some(Piece::Hole(_, hole)) if hole.fault.detail.contains("same place")));
}

#[derive(Clone, Debug)]
struct Hiccups(Arc<AtomicUsize>, usize);

impl Pages for Hiccups {
    type Item = Listed;
    type From = ListFrom;

    fn start(&self, _after: Option<&Key>) -> ListFrom {
        ListFrom::Start
    }

    async fn page(&self, _prefix: &str, _from: ListFrom) -> Result<Page<Listed, ListFrom>, Fault> {
        if self.0.fetch_add(1, Atomic::Relaxed) < self.1 {
            return Err(Fault::new(FaultKind::Throttled, Side::Source, "list objects", "slow down"));
        }
        Ok(Page { items: vec![listed("a")], next: None, order: KeyOrder::Bytes })
    }
}

#[test]
fn what_passes_by_itself_is_waited_for_but_not_for_ever() {
    let ask = |faults| run(async move { Ranges::new(Hiccups(Arc::default(), faults), "").next().await });
    assert!(matches!(ask(6), Some(Piece::Keys(keys)) if keys.len() == 1));
    assert!(matches!(ask(7), Some(Piece::Hole(..))));
}

/// A bucket with versions, whose pages end anywhere, also between the versions of one key.
#[derive(Clone, Debug)]
struct Histories {
    /// Each key with its versions, newest first, in order.
    entries: Arc<Vec<VersionEntry>>,
    whims: Arc<Vec<u8>>,
    asked: Arc<AtomicUsize>,
    most: usize,
    refuses: Option<(String, String)>,
}

impl Histories {
    fn new(keys: Vec<String>, counts: &[u8], whims: Vec<u8>, most: usize) -> Self {
        let bucket = Bucket::new(keys, KeyOrder::Bytes, whims, most);
        let mut entries = Vec::new();
        for (place, key) in bucket.keys.iter().enumerate() {
            for number in (0..=counts[place % counts.len()]).rev() {
                entries.push(VersionEntry {
                    key: Key::new(key),
                    version: VersionId::new(format!("{number:03}")),
                    latest: false,
                    modified: Timestamp(0),
                    object: (number % 3 > 0).then(|| (ETag::new("e"), 1)),
                    storage_class: None,
                });
            }
        }
        Self { entries: Arc::new(entries), whims: bucket.whims, asked: Arc::default(), most, refuses: None }
    }

    fn under(&self, prefixes: &[&str]) -> Vec<VersionEntry> {
        let within = |entry: &&VersionEntry| prefixes.iter().any(|prefix| entry.key.as_str().starts_with(prefix));
        self.entries.iter().filter(within).cloned().collect()
    }
}

impl Pages for Histories {
    type Item = Versions;
    type From = Option<(Key, VersionId)>;

    fn start(&self, after: Option<&Key>) -> Self::From {
        after.map(|after| (after.clone(), VersionId::unnamed()))
    }

    async fn page(&self, prefix: &str, from: Self::From) -> Result<Page<Versions, Self::From>, Fault> {
        let asked = self.asked.fetch_add(1, Atomic::Relaxed);
        let whim = self.whims[asked % self.whims.len()];
        for _ in 0..whim % 5 {
            tokio::task::yield_now().await;
        }
        let all = self.under(&[prefix]);
        let place = match &from {
            None => 0,
            // Some stores begin with the key itself.
            Some((key, version)) if version.is_unnamed() => {
                let inclusive = whim.is_multiple_of(3);
                all.partition_point(|entry| entry.key < *key || (entry.key == *key && !inclusive))
            }
            Some((key, version)) => all
                .iter()
                .position(|entry| entry.key == *key && entry.version == *version)
                .map_or(all.len(), |at| at + 1),
        };
        if let (Some((first, last)), Some(entry)) = (&self.refuses, all.get(place))
            && (first.as_str()..=last.as_str()).contains(&entry.key.as_str())
        {
            return Err(Fault::new(FaultKind::Denied, Side::Source, "list versions", "no"));
        }
        let end = all.len().min(place + 1 + usize::from(whim) % self.most);
        let page = all[place..end].to_vec();
        let next = page.last().filter(|_| end < all.len()).map(|last| Some((last.key.clone(), last.version.clone())));
        Ok(Page { items: Versions::grouped(page), next, order: KeyOrder::Bytes })
    }
}

/// What is handed out until so many pieces have come, and what is left then.
async fn some(bucket: &Histories, spans: Vec<Span>, pieces: usize) -> (Vec<Versions>, Vec<Span>, Vec<Span>) {
    let mut ranges = Ranges::over(bucket.clone(), spans);
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for _ in 0..pieces {
        match ranges.next().await {
            None => return (found, failed, Vec::new()),
            Some(Piece::Keys(keys)) => found.extend(keys),
            Some(Piece::Hole(prefix, hole)) => failed.push(Span { prefix, after: hole.after, upto: hole.upto }),
        }
    }
    (found, failed, ranges.left())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Broken off again and again, and gone on from what was left: every version comes once, in order, and no key is
    /// handed out in two pieces.
    #[test]
    fn histories_come_whole_and_once_over_every_interruption(
        keys in hostile(),
        counts in proptest::collection::vec(0u8..7, 1..9),
        whims in proptest::collection::vec(any::<u8>(), 1..60),
        most in prop_oneof![1usize..5, 60usize..120],
        breaks in proptest::collection::vec(1usize..40, 0..9),
    ) {
        let bucket = Histories::new(keys, &counts, whims, most);
        let prefixes = ["", "a", "a/", "logs/"];
        let asked = if breaks.len().is_multiple_of(2) { &prefixes[..1] } else { &prefixes[2..] };
        let mut left: Vec<Span> = asked.iter().map(|prefix| Span::whole(prefix)).collect();
        let mut found = Vec::new();
        for pieces in breaks.into_iter().chain([usize::MAX]) {
            let (keys, failed, rest) = run(some(&bucket, left, pieces));
            prop_assert!(failed.is_empty(), "{failed:?}");
            found.extend(keys);
            left = rest;
        }
        let told: Vec<&Key> = found.iter().map(|group| &group.key).collect();
        let distinct: std::collections::BTreeSet<&Key> = told.iter().copied().collect();
        prop_assert_eq!(told.len(), distinct.len(), "no key in two pieces");
        let entries: Vec<VersionEntry> = found.into_iter().flat_map(|group| group.entries).collect();
        prop_assert_eq!(entries, bucket.under(asked));
    }

    /// What a failed range holds is listed by whoever lists that range again, and nothing else is.
    #[test]
    fn a_failed_range_is_all_that_is_left(
        keys in hostile(),
        counts in proptest::collection::vec(0u8..7, 1..9),
        (first, last) in ("[a-m/0-9]{0,3}", "[a-z/0-9]{0,3}"),
        whims in proptest::collection::vec(any::<u8>(), 1..60),
    ) {
        let mut bucket = Histories::new(keys, &counts, whims, 70);
        bucket.refuses = Some((first, last));
        let (mut found, failed, left) = run(some(&bucket, vec![Span::whole("")], usize::MAX));
        prop_assert!(left.is_empty());
        bucket.refuses = None;
        found.extend(run(some(&bucket, failed, usize::MAX)).0);
        found.sort_by(|one, other| one.key.cmp(&other.key));
        let entries: Vec<VersionEntry> = found.into_iter().flat_map(|group| group.entries).collect();
        prop_assert_eq!(entries, (*bucket.entries).clone());
    }
}

#[test]
fn many_versions_and_many_prefixes_are_listed_at_once_too() {
    let widest = |bucket: Histories, spans: Vec<Span>| {
        run(async move {
            let mut ranges = Ranges::over(bucket, spans);
            let mut widest = 0;
            while ranges.next().await.is_some() {
                widest = widest.max(ranges.under_way.len());
                let held: usize = ranges.row.iter().map(|range| range.ready.len()).sum();
                assert!(held <= WIDEST * (AHEAD + 1), "memory is bounded: {held} pages");
            }
            widest
        })
    };
    // Pages of ten keys with ten versions each.
    let bucket = Histories::new(flat(6_000), &[9], vec![99], 100);
    assert!(widest(bucket, vec![Span::whole("")]) >= WIDEST - 2);
    let rules: Vec<String> = (0..500).map(|n| format!("rule-{n:03}/object")).collect();
    let spans = (0..500).map(|n| Span::whole(&format!("rule-{n:03}/"))).collect();
    assert!(widest(Histories::new(rules, &[0], vec![9], 10), spans) >= WIDEST - 2);
}
