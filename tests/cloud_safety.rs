//! A source that is empty, gone, denied, or listed only in part never deletes anything at the target: not with
//! `--delete-markers` either. What was not listed is named, and the exit code tells.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::time::Duration;

use support::compare::{Version, list};
use support::pair::{Pair, Setup};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::worker::{Output, run_repl};

const PATIENCE: Duration = Duration::from_secs(400);
/// A sync of each kind; the last two would bring deletes.
const SYNCS: [&[&str]; 4] =
    [&["sync"], &["sync", "--full"], &["sync", "--delete-markers"], &["sync", "--full", "--delete-markers"]];

/// Both sides equal, `keys` objects each, the source reached through a proxy.
async fn equal(server: Server, keys: usize) -> (Pair, Proxy, Vec<Version>) {
    let proxy = Proxy::before(&server.access().endpoint);
    let source_endpoint = Some(proxy.endpoint());
    let pair = Setup { source_endpoint, ..Setup::on(server, server) }.build().await;
    let mut writers = tokio::task::JoinSet::new();
    for key in 0..keys {
        if writers.len() >= 16 {
            writers.join_next().await;
        }
        let bucket = pair.source.clone();
        writers.spawn(async move { bucket.put(&format!("k{key:05}"), "content").await });
    }
    writers.join_all().await;
    run_repl(&pair, &["sync"], PATIENCE).await.expect_code(0);
    let there = list(&pair.target).await;
    assert_eq!(there.len(), keys);
    (pair, proxy, there)
}

async fn sync(pair: &Pair, args: &[&str]) -> Output {
    run_repl(pair, &[args, &["--json"]].concat(), PATIENCE).await
}

fn failure(output: &Output) -> String {
    output.json()["failure"].as_str().unwrap_or_default().to_owned()
}

fn lists(seen: &Seen) -> bool {
    seen.method == "GET" && (seen.asks("list-type") || seen.asks("versions"))
}

fn goes_on(seen: &Seen) -> bool {
    lists(seen) && (seen.asks("continuation-token") || seen.asks("start-after") || seen.asks("key-marker"))
}

#[tokio::test]
async fn an_empty_source_deletes_nothing() {
    for server in [Server::Ministack, Server::Seaweedfs] {
        let (mut pair, _proxy, there) = equal(server, 12).await;
        pair.source = pair.another_target().await;
        pair.write_config();
        for args in SYNCS {
            let output = sync(&pair, args).await.expect_code(0);
            assert_eq!(output.json()["copied"], 0, "{output:?}");
            assert_eq!(list(&pair.target).await, there, "{args:?}");
        }
    }
}

/// The versions are gone for good, and with them every marker: that is never replicated.
#[tokio::test]
async fn a_source_that_was_emptied_for_good_deletes_nothing() {
    let (pair, _proxy, there) = equal(Server::Seaweedfs, 12).await;
    for version in list(&pair.source).await {
        pair.source.delete_version(&version.key, &version.id).await;
    }
    for args in SYNCS {
        sync(&pair, args).await.expect_code(0);
        assert_eq!(list(&pair.target).await, there, "{args:?}");
    }
}

#[tokio::test]
async fn a_source_that_may_not_be_listed_deletes_nothing() {
    let (pair, proxy, there) = equal(Server::Ministack, 12).await;
    proxy.add(Rule::when(lists, Act::error(403, "AccessDenied")));
    for args in SYNCS {
        let output = sync(&pair, args).await.expect_code(1);
        let said = failure(&output);
        assert!(said.contains("AccessDenied") && said.contains("at the source"), "{said}");
        assert!(
            said.contains("from its start to its end") || said.contains("prefix \"\""),
            "the range is named: {said}"
        );
        assert_eq!(list(&pair.target).await, there, "{args:?}");
    }
}

#[tokio::test]
async fn a_source_bucket_that_is_gone_deletes_nothing() {
    let (mut pair, _proxy, there) = equal(Server::Ministack, 12).await;
    pair.source.name.push_str("-gone");
    pair.write_config();
    for args in SYNCS {
        let output = sync(&pair, args).await.expect_code(1);
        assert!(failure(&output).contains("NoSuchBucket"), "{output:?}");
        assert_eq!(list(&pair.target).await, there, "{args:?}");
    }
}

/// The listing says that nothing is there; each object says that it is.
#[tokio::test]
async fn a_listing_that_forgets_everything_deletes_nothing() {
    let (pair, proxy, there) = equal(Server::Ministack, 12).await;
    let empty = |next: &str| {
        let body = format!("<ListBucketResult><KeyCount>0</KeyCount>{next}</ListBucketResult>");
        Act::Answer { status: 200, headers: vec![("content-type", "application/xml".to_owned())], body }
    };
    proxy.add(Rule::when(|seen| seen.asks("list-type"), empty("<IsTruncated>false</IsTruncated>")));
    for args in [SYNCS[0], SYNCS[2]] {
        sync(&pair, args).await.expect_code(0);
        assert_eq!(list(&pair.target).await, there, "{args:?}");
    }
    // And where the objects may not be looked at either, nobody knows: that is said.
    proxy.add(Rule::when(|seen| seen.method == "HEAD", Act::error(403, "AccessDenied")));
    let output = sync(&pair, SYNCS[2]).await.expect_code(1);
    let said = failure(&output);
    assert!(said.contains("the object \"k000") && said.contains("and 11 more"), "{said}");
    assert_eq!(list(&pair.target).await, there);
}

/// One way in which the second page of the source's listing fails, and what the answer must say of it.
async fn broken_off(pair: &Pair, act: Act, says: &str) {
    let proxy = Proxy::before(&pair.setup.source.access().endpoint);
    proxy.add(Rule::when(|seen| goes_on(seen) && seen.asks("list-type"), act));
    let mut pair = pair.another_worker();
    pair.setup.source_endpoint = Some(proxy.endpoint());
    pair.write_config();
    let output = sync(&pair, SYNCS[2]).await.expect_code(1);
    let said = failure(&output);
    assert!(said.contains(says), "{said}");
    assert!(said.contains("after \"k00999\"") && said.contains("was not compared"), "the range is named: {said}");
    let report = output.json();
    let compared = report["already_equal"].as_u64().unwrap();
    assert!((1..1100).contains(&compared), "the rest was compared: {report}");
    proxy.clear();
    let whole = sync(&pair, SYNCS[2]).await.expect_code(0).json();
    assert_eq!((&whole["already_equal"], &whole["copied"]), (&1100.into(), &0.into()), "{whole}");
}

/// A connection that breaks in a page, a source that only errs, a page that says that it goes on but not where, and one that
/// ends in the middle: each is asked again for half a minute, so all four at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_breaks_off_deletes_nothing() {
    let (pair, _proxy, there) = equal(Server::Seaweedfs, 1100).await;
    let page = |end: &str| {
        let body = format!("<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>{end}");
        Act::Answer { status: 200, headers: vec![("content-type", "application/xml".to_owned())], body }
    };
    tokio::join!(
        broken_off(&pair, Act::CutResponse(300), "could not list objects at the source"),
        broken_off(&pair, Act::error(500, "InternalError"), "InternalError"),
        broken_off(&pair, page("true</IsTruncated></ListBucketResult>"), "it says that it goes on, but not where"),
        broken_off(&pair, page("false</IsTruncated>"), "it ends in the middle"),
    );
    assert_eq!(list(&pair.target).await, there);
}

/// Where the way on is forgotten behind some keys, the listing goes on behind the last of them, and misses none.
#[tokio::test]
async fn a_forgotten_token_loses_no_key() {
    let (pair, proxy, there) = equal(Server::Ministack, 12).await;
    let head = pair.source.s3.head_object().bucket(&pair.source.name).key("k00000").send().await.unwrap();
    let entry = format!(
        "<Contents><Key>k00000</Key><Size>7</Size><ETag>{}</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>",
        head.e_tag.unwrap().replace('"', "&quot;")
    );
    let body = format!("<ListBucketResult><IsTruncated>true</IsTruncated>{entry}</ListBucketResult>");
    let headers = vec![("content-type", "application/xml".to_owned())];
    proxy.add(Rule::when(|seen| lists(seen) && !goes_on(seen), Act::Answer { status: 200, headers, body }));
    let report = sync(&pair, SYNCS[2]).await.expect_code(0).json();
    assert_eq!((&report["listed"], &report["already_equal"]), (&12.into(), &12.into()), "{report}");
    assert_eq!(list(&pair.target).await, there);
}
