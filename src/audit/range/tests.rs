use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

use proptest::prelude::*;

use super::*;
use crate::model::object::{ETag, Timestamp};

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
            ListFrom::After(key) => self.keys.partition_point(|known| self.order.compare(known, key.as_str()).is_le()),
            ListFrom::Token(token) => token.split('/').next().unwrap().parse().unwrap(),
        }
    }
}

impl Pages for Bucket {
    async fn page(&self, from: ListFrom) -> Result<ObjectPage, Fault> {
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
        Ok(ObjectPage { entries, next, order: self.order })
    }
}

async fn all(bucket: &Bucket) -> (Vec<String>, Vec<Hole>) {
    let mut ranges = Ranges::new(bucket.clone(), bucket.order);
    let (mut keys, mut holes) = (Vec::new(), Vec::new());
    while let Some(piece) = ranges.next().await {
        let held: usize = ranges.row.iter().map(|range| range.ready.len()).sum();
        assert!(held <= ROW * (AHEAD + 1), "memory is bounded: {held} pages");
        match piece {
            Piece::Keys(page) => keys.extend(page.into_iter().map(|entry| entry.key.as_str().to_owned())),
            Piece::Hole(hole) => holes.push(hole),
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

fn flat(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("flat/object-{n:09}")).collect()
}

/// The most pages that were under way at once, and how many there were in all.
async fn width(bucket: &Bucket) -> (usize, usize) {
    let mut ranges = Ranges::new(bucket.clone(), bucket.order);
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
        assert!(asked <= pages + pages / 4 + ROW, "{asked} requests for {pages} pages of {}", bucket.keys[0]);
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
    async fn page(&self, _from: ListFrom) -> Result<ObjectPage, Fault> {
        Ok(ObjectPage { next: Some(ListFrom::Token("same".to_owned())), ..ObjectPage::default() })
    }
}

#[test]
fn a_store_that_goes_nowhere_is_refused() {
    let found = run(async { Ranges::new(Stuck, KeyOrder::Bytes).next().await });
    assert!(matches!(found, Some(Piece::Hole(hole)) if hole.fault.detail.contains("same place")));
}

#[derive(Clone, Debug)]
struct Hiccups(Arc<AtomicUsize>, usize);

impl Pages for Hiccups {
    async fn page(&self, _from: ListFrom) -> Result<ObjectPage, Fault> {
        if self.0.fetch_add(1, Atomic::Relaxed) < self.1 {
            return Err(Fault::new(FaultKind::Throttled, Side::Source, "list objects", "slow down"));
        }
        Ok(ObjectPage { entries: vec![listed("a")], ..ObjectPage::default() })
    }
}

#[test]
fn what_passes_by_itself_is_waited_for_but_not_for_ever() {
    let ask = |faults| run(async move { Ranges::new(Hiccups(Arc::default(), faults), KeyOrder::Bytes).next().await });
    assert!(matches!(ask(6), Some(Piece::Keys(keys)) if keys.len() == 1));
    assert!(matches!(ask(7), Some(Piece::Hole(_))));
}
