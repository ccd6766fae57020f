//! `repl sync --full` in several ranges at once: nothing falls between them, over kills and failures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::compare::list;
use support::pair::{Bucket, Pair, Setup};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::worker::{Output, eventually, run_repl, spawn_repl};

const PATIENCE: Duration = Duration::from_secs(300);

fn is_listing(seen: &Seen) -> bool {
    seen.asks("versions") || seen.query.get("list-type").is_some_and(|kind| kind == "2")
}

/// A listing that begins at a key of its own, and not where a page before it ended.
fn is_cut_off(seen: &Seen) -> bool {
    seen.asks("start-after") || (seen.asks("key-marker") && !seen.asks("version-id-marker"))
}

/// A first page of neighbours, and behind it fewer keys wide apart and a tree, so that a store's pages of a thousand make
/// several ranges of few objects.
async fn write_many(bucket: &Bucket, apart: usize, deep: usize) {
    let keys = (0..1000)
        .chain((1..=apart).map(|n| 1000 + 25 * n))
        .map(|n| format!("flat/{n:06}"))
        .chain((0..deep).map(|n| format!("tree/{:02}/{:02}/{n:05}", n % 20, n / 20 % 20)));
    let mut writers = tokio::task::JoinSet::new();
    for (nth, key) in keys.enumerate() {
        if writers.len() >= 24 {
            writers.join_next().await;
        }
        let bucket = bucket.clone();
        writers.spawn(async move {
            for version in 0..=usize::from(nth > 1000 && nth.is_multiple_of(7)) {
                bucket.put(&key, format!("{nth} {version}")).await;
            }
        });
    }
    writers.join_all().await;
}

/// How many versions each key has.
async fn shape(bucket: &Bucket) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::new();
    for version in list(bucket).await {
        *keys.entry(version.key).or_default() += 1;
    }
    keys
}

async fn full(pair: &Pair) -> Output {
    run_repl(pair, &["sync", "--full", "--json"], PATIENCE).await
}

fn number(output: &Output, name: &str) -> u64 {
    output.json()[name].as_u64().unwrap()
}

/// P1, P2: killed again and again while ranges are being listed, and finished: nothing is missing, nothing twice, and
/// what was listed is not listed again.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_killed_between_its_ranges_loses_nothing() {
    let proxy = Proxy::before(&Server::Seaweedfs.access().endpoint);
    let mut setup = Setup::on(Server::Seaweedfs, Server::Seaweedfs);
    setup.source_endpoint = Some(proxy.endpoint());
    let pair = setup.build().await;
    write_many(&pair.source, 300, 150).await;
    let wanted = shape(&pair.source).await;
    let versions: usize = wanted.values().sum();
    // One range is listed besides the first page, then the listing hangs: it is not complete at either kill.
    let hangs = Act::Delay(2 * PATIENCE);
    proxy.add(Rule::when(|seen| is_listing(seen) && is_cut_off(seen), hangs).after(1));
    for share in [12, 4] {
        let mut first = spawn_repl(&pair, &["sync", "--full"]);
        eventually("some of it is there", PATIENCE, async || list(&pair.target).await.len() > versions / share).await;
        first.kill().await;
    }
    proxy.clear();
    let rest = full(&pair).await.expect_code(0);
    assert!(number(&rest, "listed") < versions as u64 * 9 / 10, "not from the start: {}", rest.stdout);
    assert_eq!(shape(&pair.target).await, wanted);
    assert!(proxy.count(|seen| is_listing(seen) && is_cut_off(seen)) > 3, "in ranges");
    let again = full(&pair).await.expect_code(0);
    assert_eq!((number(&again, "listed"), number(&again, "copied")), (versions as u64, 0));
}

/// A range that cannot be listed is named, the others are brought, and the next sync lists that range alone.
async fn a_failed_range_is_named_and_listed_again(history: &str) {
    let proxy = Proxy::before(&Server::Seaweedfs.access().endpoint);
    let mut setup = Setup::on(Server::Seaweedfs, Server::Seaweedfs).rule(&format!("history = \"{history}\""));
    setup.source_endpoint = Some(proxy.endpoint());
    let pair = setup.build().await;
    write_many(&pair.source, 350, 0).await;
    let keys = shape(&pair.source).await.len();
    let hole = |seen: &Seen| {
        let from = seen.query.get("start-after").or_else(|| seen.query.get("key-marker"));
        is_listing(seen) && from.is_some_and(|key| key.as_str() > "flat/002")
    };
    proxy.add(Rule::when(hole, Act::error(403, "AccessDenied")).times(1));
    let first = full(&pair).await.expect_code(1);
    let failure = first.json()["failure"].as_str().unwrap().to_owned();
    assert!(failure.contains("prefix \"\", after \"flat/00") && failure.contains("was not scanned"), "{failure}");
    let there = shape(&pair.target).await;
    assert!(there.len() < keys && there.len() > keys / 3, "{} of {keys}", there.len());
    assert!(there.keys().any(|key| key.as_str() > "flat/005"), "what is behind the hole is brought");
    proxy.clear();
    let second = full(&pair).await.expect_code(0);
    assert!(number(&second, "listed") < keys as u64 * 2 / 3, "that range alone: {}", second.stdout);
    assert_eq!(shape(&pair.target).await.len(), keys);
    assert_eq!(number(&full(&pair).await.expect_code(0), "copied"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_range_of_versions_is_named_and_listed_again() {
    a_failed_range_is_named_and_listed_again("all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_range_of_current_objects_is_named_and_listed_again() {
    a_failed_range_is_named_and_listed_again("latest").await;
}

/// With history = "latest" current objects are listed, not their pasts.
#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_not_listed_where_nobody_wants_it() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let mut setup = Setup::on(Server::Ministack, Server::Ministack).rule("history = \"latest\"\ndelete_markers = true");
    setup.source_endpoint = Some(proxy.endpoint());
    let pair = setup.build().await;
    for version in 0..5 {
        pair.source.put("k", format!("{version}")).await;
        pair.source.put("gone", format!("{version}")).await;
    }
    let first = full(&pair).await.expect_code(0);
    assert_eq!((number(&first, "listed"), number(&first, "copied")), (2, 2));
    pair.source.delete("gone").await;
    assert_eq!(number(&full(&pair).await.expect_code(0), "listed"), 1);
    assert_eq!(proxy.count(|seen| seen.asks("versions")), 0);
    run_repl(&pair, &["sync", "--full", "--delete-markers"], PATIENCE).await.expect_code(0);
    assert_eq!(pair.target.story("gone").await, ["4", "†"]);
}
