//! What issue-size buckets do on SeaweedFS: backfilled through kills, compared for the price of the listings, damaged and
//! told. Small by default; whole with `REPL_TEST_OBJECTS=100000 REPL_TEST_HISTORIES=300 cargo test --test cloud_scale --
//! --nocapture`, which prints rates and memory too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic, and are sized by the environment"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use support::compare::{Version, compare, list};
use support::objects::bytes;
use support::pair::{Bucket, Pair, Setup};
use support::proxy::{Proxy, Seen};
use support::servers::Server;
use support::worker::{Output, Worker, eventually, run_repl, spawn_repl, spawn_repl_into};

/// For the whole size on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Writers at once.
const AT_ONCE: usize = 24;
/// Keys of one page of a listing.
const PAGE: usize = 1000;

fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Nine in ten in one flat prefix, the rest in a tree four levels deep.
fn keys(count: usize) -> Vec<String> {
    let key = |number: usize| {
        if number.is_multiple_of(10) {
            format!("deep/{}/{}/{}/{number}", number % 7, number % 11, number % 13)
        } else {
            format!("flat/object-{number:09}")
        }
    };
    (0..count).map(key).collect()
}

async fn write(bucket: &Bucket, keys: &[String]) {
    let mut writers = tokio::task::JoinSet::new();
    for (seed, key) in (0..).zip(keys) {
        if writers.len() >= AT_ONCE {
            writers.join_next().await.unwrap().unwrap();
        }
        let (bucket, key) = (bucket.clone(), key.clone());
        writers.spawn(async move { bucket.put(&key, bytes(seed, 64)).await });
    }
    writers.join_all().await;
}

/// How much the sync that runs has brought, since its ledger was made.
async fn brought(pair: &Pair) -> u64 {
    let said = ["status.out", "status.err"].map(|name| pair.directory.path().join(name));
    let status = spawn_repl_into(pair, &["status", "--json"], said).end(PATIENCE).await.expect_code(0).json();
    status["replicated"]["operations"].as_u64().unwrap_or(0)
}

/// Backfills until so much is there, then kills it.
async fn backfill_until(pair: &Pair, wanted: u64) -> u64 {
    let mut worker = spawn_repl(pair, &["sync", "--full"]);
    running(&worker).await;
    eventually("so much is there", PATIENCE, async || brought(pair).await >= wanted).await;
    assert!(worker.runs(), "it is not done yet");
    let peak = worker.peak_rss();
    worker.kill().await;
    peak
}

/// Before its socket is there a status would open the ledger itself.
async fn running(worker: &Worker) {
    eventually("it runs", PATIENCE, async || worker.stderr().contains("running")).await;
}

fn number(output: &Output, field: &str) -> u64 {
    output.json()[field].as_u64().unwrap_or_else(|| panic!("{field}: {output:?}"))
}

fn print_rate(what: &str, output: &Output, objects: usize) {
    let seconds = output.json()["seconds"].as_f64().unwrap();
    #[allow(clippy::cast_precision_loss, reason = "a figure to be read")]
    let rate = objects as f64 / seconds.max(0.001);
    eprintln!("{what}: {objects} objects in {seconds:.1} s, {rate:.0}/s, {} KiB at most", output.peak_rss >> 10);
}

/// The evidence lines of a verify: verdict by key.
async fn verify(pair: &Pair, args: &[&str]) -> (Output, BTreeMap<String, String>) {
    let report = pair.directory.path().join("report.jsonl");
    let path = report.display().to_string();
    let output = run_repl(pair, &[&["verify", "--json", "--report", &path], args].concat(), PATIENCE).await;
    let text = std::fs::read_to_string(&report).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let objects = lines.filter(|line| line["kind"] == "object");
    let verdict = |line: &Value| line["verdict"].as_str().unwrap().to_owned();
    (output, objects.map(|line| (line["key"].as_str().unwrap().to_owned(), verdict(&line))).collect())
}

fn lists(seen: &Seen) -> bool {
    seen.method == "GET" && seen.asks("list-type")
}

/// What a comparison of this many equal keys may ask of one side.
fn price(keys: usize) -> usize {
    // A listing in several ranges ends each with a page that is not full; the order of keys and the versioning state are
    // asked for first.
    keys.div_ceil(PAGE) * 5 / 4 + 20
}

/// P1, P2: a backfill killed at 30 % and 60 % brings every object once; the comparison afterwards costs the listings; damage
/// at the target is named, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_bucket_is_backfilled_compared_and_judged() {
    let count = size("REPL_TEST_OBJECTS", 2000);
    // Some ten seconds for all of it, so that it is not done before it is killed.
    let slowly = format!("[transfer]\nrequests_per_second = {}\n", count / 5);
    let mut pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).more(&slowly).build().await;
    let keys = keys(count);
    write(&pair.source, &keys).await;

    for percent in [30, 60] {
        let peak = backfill_until(&pair, (count * percent / 100) as u64).await;
        eprintln!("killed at {percent} %: {} KiB at most", peak >> 10);
    }
    pair.setup.more = String::new();
    pair.write_config();
    let finished = run_repl(&pair, &["sync", "--full", "--json"], PATIENCE).await.expect_code(0);
    print_rate("the rest", &finished, usize::try_from(number(&finished, "copied")).unwrap());
    let there = list(&pair.target).await;
    let distinct: BTreeSet<&str> = there.iter().map(|version| version.key.as_str()).collect();
    assert_eq!((there.len(), distinct.len()), (count, count), "every object once, none twice");

    let (source, target) =
        (Proxy::before(&Server::Seaweedfs.access().endpoint), Proxy::before(&Server::Seaweedfs.access().endpoint));
    (pair.setup.source_endpoint, pair.setup.target_endpoint) = (Some(source.endpoint()), Some(target.endpoint()));
    pair.write_config();
    let second = run_repl(&pair, &["sync", "--json"], PATIENCE).await.expect_code(0);
    print_rate("second sync", &second, count);
    assert_eq!((number(&second, "copied"), number(&second, "already_equal")), (0, count as u64));
    for (name, side) in [("source", &source), ("target", &target)] {
        let (pages, all) = (side.count(lists), side.count(|_| true));
        eprintln!("{name}: {pages} pages, {all} requests");
        assert!(pages >= count.div_ceil(PAGE) && all <= price(count), "{name}: {pages} pages of {all} requests");
    }
    (pair.setup.source_endpoint, pair.setup.target_endpoint) = (None, None);
    pair.write_config();

    let (equal, named) = verify(&pair, &[]).await;
    print_rate("verify", &equal, count);
    assert_eq!((equal.code, named), (Some(0), BTreeMap::new()));
    assert_eq!(number(&equal, "identical"), count as u64);
    let expected = damage(&pair, &keys).await;
    let (told, named) = verify(&pair, &[]).await;
    assert_eq!((told.code, &named), (Some(1), &expected), "{}", told.stdout);
    let mended = run_repl(&pair, &["sync", "--json"], PATIENCE).await.expect_code(0);
    assert_eq!(number(&mended, "copied"), 3);
    let left = BTreeMap::from([("flat/stranger".to_owned(), "extra".to_owned())]);
    assert_eq!(verify(&pair, &[]).await.1, left);

    // What listings do not tell is looked for under one prefix, at some requests for each object.
    pair.target.tag(&keys[10], None, &[("class", "lost")]).await;
    let deeply = ["--prefix", "deep/", "--check-tags", "--check-metadata", "--deep"];
    let (told, named) = verify(&pair, &deeply).await;
    print_rate("deep verify", &told, count / 10);
    assert_eq!(named, BTreeMap::from([(keys[10].clone(), "different".to_owned())]), "{}", told.stdout);
}

/// Damages some objects of the flat prefix; what is to be said of each.
async fn damage(pair: &Pair, keys: &[String]) -> BTreeMap<String, String> {
    let at = &pair.target;
    let [missing, truncated, other] =
        [keys.len() / 4 + 1, keys.len() / 2 + 1, keys.len() - 3].map(|place| &keys[place]);
    at.delete(missing).await;
    at.put(truncated, bytes(1, 63)).await;
    at.put(other, bytes(u64::MAX, 64)).await;
    at.put("flat/stranger", "nobody's").await;
    let said =
        [(missing.as_str(), "missing"), (truncated, "different"), (other, "different"), ("flat/stranger", "extra")];
    said.into_iter().map(|(key, verdict)| (key.to_owned(), verdict.to_owned())).collect()
}

/// P3: keys with ten versions each and markers between: whole and in order at the target, and `verify` says so.
#[tokio::test(flavor = "multi_thread")]
async fn histories_of_ten_versions_are_equal_after_a_backfill() {
    let count = size("REPL_TEST_HISTORIES", 40);
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).build().await;
    let mut writers = tokio::task::JoinSet::new();
    for key in 0..count {
        if writers.len() >= AT_ONCE {
            writers.join_next().await.unwrap().unwrap();
        }
        let bucket = pair.source.clone();
        writers.spawn(async move {
            let name = format!("history/{key:04}");
            for version in 0..10 {
                bucket.put(&name, bytes((key * 10 + version) as u64, 32)).await;
                if (key + version) % 4 == 0 {
                    bucket.delete(&name).await;
                }
            }
        });
    }
    writers.join_all().await;
    let versions: Vec<Version> = list(&pair.source).await;
    let first = run_repl(&pair, &["sync", "--full", "--delete-markers", "--json"], PATIENCE).await.expect_code(0);
    print_rate("backfill of histories", &first, versions.len());
    assert_eq!([number(&first, "listed"), number(&first, "copied")], [versions.len() as u64; 2]);
    let (equal, named) = verify(&pair, &["--versions"]).await;
    print_rate("verify --versions", &equal, versions.len());
    assert_eq!((equal.code, named), (Some(0), BTreeMap::new()), "{}", equal.stdout);
    assert_eq!(compare(&pair).await, Vec::<String>::new());
    // A history that lacks one version in the middle is told from one that does not.
    let middle =
        list(&pair.target).await.into_iter().filter(|version| version.key == "history/0003" && !version.marker);
    let middle = middle.skip(4).take(1).next().unwrap();
    pair.target.delete_version(&middle.key, &middle.id).await;
    let (told, named) = verify(&pair, &["--versions"]).await;
    assert_eq!(named.keys().collect::<Vec<_>>(), ["history/0003"], "{}", told.stdout);
    assert_eq!(told.code, Some(1));
}
