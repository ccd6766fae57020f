//! `repl sync --manifest`: the objects of a list get there, whatever the list is like, and nothing else happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::io::Write as _;
use std::time::Duration;

use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use support::compare::{compare, list};
use support::pair::{Pair, Setup};
use support::servers::Server;
use support::worker::{Output, eventually, run_repl, spawn_repl};

const PATIENCE: Duration = Duration::from_secs(120);
const ODD: [&str; 6] = ["plain", "a +b/100%", "comma, \"quoted\"", "line\nbreak", "é/\u{1F600}", "tab\tand more"];

fn encoded(key: &str) -> String {
    let spell = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'/' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    key.bytes().map(spell).collect()
}

fn numbers(output: &Output, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| output.json()[*name].as_u64().unwrap()).collect()
}

async fn sync(pair: &Pair, place: &str, more: &[&str]) -> Output {
    let args: Vec<&str> = ["sync", "--json", "--manifest", place].iter().chain(more).copied().collect();
    run_repl(pair, &args, PATIENCE).await
}

/// Writes a list beside the config.
fn written(pair: &Pair, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = pair.directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn packed(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

/// An S3 Inventory of the source, in the target's bucket, as S3 would leave it there.
async fn inventory(pair: &Pair, schema: &str, files: &[Vec<u8>]) -> String {
    let prefix = "lists/acme/daily";
    let mut told = Vec::new();
    for (nth, file) in files.iter().enumerate() {
        let key = format!("{prefix}/data/{nth}.csv.gz");
        let md5: String = Md5::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
        pair.source.put(&key, file.clone()).await;
        told.push(json!({"key": key, "size": file.len(), "MD5checksum": md5}));
    }
    let manifest = json!({
        "sourceBucket": pair.source.name, "destinationBucket": format!("arn:aws:s3:::{}", pair.source.name),
        "version": "2016-11-30", "creationTimestamp": "1514944800000", "fileFormat": "CSV", "fileSchema": schema,
        "files": told,
    });
    store_manifest(pair, &manifest).await
}

async fn store_manifest(pair: &Pair, manifest: &Value) -> String {
    let key = "lists/acme/daily/2026-11-21T01-00Z/manifest.json";
    pair.source.put(key, manifest.to_string()).await;
    format!("s3://{}/{key}", pair.source.name)
}

/// The versions of the source as lines of an Inventory, objects and markers, in the listing's order.
async fn lines_of_versions(pair: &Pair) -> Vec<String> {
    let bucket = &pair.source.name;
    let line = |version: support::compare::Version| {
        let (key, marker) = (encoded(&version.key), version.marker);
        format!("\"{}\",\"{marker}\",\"{bucket}\",\"{key}\",\"STANDARD\",\"{}\"\n", version.latest, version.id)
    };
    list(&pair.source).await.into_iter().map(line).collect()
}

const SCHEMA: &str = "IsLatest, IsDeleteMarker, Bucket, Key, StorageClass, VersionId";

/// P2, P4, P12: odd keys come, bad lines are told with their place, what is gone is superseded, and only what is listed
/// comes.
async fn a_plain_list_is_brought(server: Server) {
    let pair = Setup::on(server, server).build().await;
    for key in ODD {
        pair.source.put(key, format!("content of {key}")).await;
    }
    pair.source.put("not listed", "stays").await;
    let bucket = pair.source.name.clone();
    let mut text = "bucket,key\n".to_owned();
    for key in ODD {
        text.push_str(&format!("{bucket},{}\r\n", encoded(key)));
    }
    text.push_str(&format!("other,plain\n\n{bucket},gone\n{bucket},100%\n{bucket},a,b,c\n"));
    let report = sync(&pair, &written(&pair, "list.csv", &text), &[]).await.expect_code(1);
    assert_eq!(numbers(&report, &["listed", "copied", "superseded", "failed", "bad_lines"]), [7, 6, 1, 0, 3]);
    let bad = report.json()["bad"].clone();
    let told: Vec<(u64, &str)> = bad
        .as_array()
        .unwrap()
        .iter()
        .map(|bad| (bad["line"].as_u64().unwrap(), bad["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(told.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [8, 11, 12], "{bad}");
    assert!(told[0].1.contains("bucket \"other\"") && told[1].1.contains("URL-encoded"), "{bad}");
    assert!(bad[0]["file"].as_str().unwrap().ends_with("list.csv"), "{bad}");
    let there = pair.target.keys().await;
    assert_eq!(there.len(), ODD.len(), "{there:?}");
    pair.source.delete("not listed").await;
    let again = sync(&pair, &written(&pair, "list.csv.gz", packed(&text)), &[]).await.expect_code(1);
    assert_eq!(numbers(&again, &["copied", "already_equal", "bad_lines"]), [0, 6, 3], "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_list_is_brought_on_ministack() {
    a_plain_list_is_brought(Server::Ministack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_list_is_brought_on_seaweedfs() {
    a_plain_list_is_brought(Server::Seaweedfs).await;
}

/// P3: whole histories, listed newest first, come oldest first and no version twice; delete markers are passed over.
#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_of_versions_is_brought_in_order() {
    let pair =
        Setup::on(Server::Ministack, Server::Ministack).rule("prefix = \"data/\"\ndelete_markers = true").build().await;
    for key in 0..12 {
        for version in 0..4 {
            pair.source.put(&format!("data/{key} +é"), format!("{key} {version}")).await;
        }
    }
    pair.source.delete("data/3 +é").await;
    let lines = lines_of_versions(&pair).await;
    let (one, other) = lines.split_at(20);
    let place = inventory(&pair, SCHEMA, &[packed(&one.concat()), packed(&other.concat())]).await;
    let report = sync(&pair, &place, &[]).await.expect_code(0);
    assert_eq!(numbers(&report, &["listed", "copied", "failed", "bad_lines"]), [49, 48, 0, 0]);
    assert!(list(&pair.target).await.iter().all(|version| !version.marker), "nothing is deleted");
    for key in 0..12 {
        let expected: Vec<String> = (0..4).map(|version| format!("{key} {version}")).collect();
        assert_eq!(pair.target.story(&format!("data/{key} +é")).await, expected);
    }
    let again = sync(&pair, &place, &[]).await.expect_code(0);
    assert_eq!(numbers(&again, &["copied", "failed"]), [0, 0]);
}

/// With history = "latest" a list of versions brings each key once.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_of_an_inventory_where_the_rule_says_so() {
    let setup = Setup::on(Server::Seaweedfs, Server::Seaweedfs).rule("prefix = \"data/\"\nhistory = \"latest\"");
    let pair = setup.build().await;
    for version in 0..3 {
        pair.source.put("data/k", format!("{version}")).await;
    }
    let place = inventory(&pair, SCHEMA, &[packed(&lines_of_versions(&pair).await.concat())]).await;
    let report = sync(&pair, &place, &[]).await.expect_code(0);
    assert_eq!(numbers(&report, &["listed", "copied", "superseded"]), [3, 1, 0]);
    assert_eq!(pair.target.story("data/k").await, ["2"]);
}

/// A damaged file is named and the others go on; mended, the same command reads it alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_named_and_the_rest_is_brought() {
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).rule("prefix = \"k\"").build().await;
    for key in ["k1", "k2", "k3"] {
        pair.source.put(key, key).await;
    }
    let file = |key: &str| packed(&format!("{},{key}\n", pair.source.name));
    let place = inventory(&pair, "Bucket, Key", &[file("k1"), file("k2"), file("k3")]).await;
    pair.source.put("lists/acme/daily/data/1.csv.gz", file("k9")).await;
    let report = sync(&pair, &place, &[]).await.expect_code(1);
    assert_eq!(numbers(&report, &["listed", "copied"]), [2, 2]);
    let failure = report.json()["failure"].as_str().unwrap().to_owned();
    assert!(failure.contains("data/1.csv.gz") && failure.contains("MD5"), "{failure}");
    pair.source.put("lists/acme/daily/data/1.csv.gz", file("k2")).await;
    let mended = sync(&pair, &place, &[]).await.expect_code(0);
    assert_eq!(numbers(&mended, &["listed", "copied"]), [1, 1]);
    assert_eq!(pair.target.keys().await, ["k1", "k2", "k3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_no_use_is_refused_at_once() {
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).build().await;
    let manifest = |bucket: &str, format: &str| {
        json!({"sourceBucket": bucket, "destinationBucket": "arn:aws:s3:::lists", "fileFormat": format,
            "fileSchema": "Bucket, Key", "files": []})
    };
    let own = pair.source.name.clone();
    for (manifest, told) in [
        (manifest("another", "CSV"), "it lists bucket \"another\""),
        (manifest(&own, "Parquet"), "only CSV can be read"),
        (manifest(&own, "ORC"), "only CSV can be read"),
        (json!({"files": []}), "no manifest of an S3 Inventory"),
    ] {
        let place = store_manifest(&pair, &manifest).await;
        let refused = sync(&pair, &place, &[]).await.expect_code(2);
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
    let missing = format!("s3://{own}/nowhere/manifest.json");
    assert!(sync(&pair, &missing, &[]).await.expect_code(2).stderr.contains("it is not there"));
    assert!(sync(&pair, "/nowhere/list.csv", &[]).await.expect_code(2).stderr.contains("/nowhere/list.csv"));
    sync(&pair, "list.csv", &["--delete-markers"]).await.expect_code(2);
}

/// P1, P2: killed in the middle of a list and gone on, every object comes once; then a worker does the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_list_goes_on_where_it_was() {
    let setup =
        Setup::on(Server::Seaweedfs, Server::Seaweedfs).more("[transfer]\nconcurrency = 2\nrequests_per_second = 60\n");
    let mut pair = setup.build().await;
    let mut text = String::new();
    for key in 0..120 {
        pair.source.put(&format!("k{key:04}"), format!("content of {key}")).await;
        text.push_str(&format!("{},k{key:04}\n", pair.source.name));
    }
    text.push_str("nonsense\n");
    let place = written(&pair, "list.csv", &text);
    let mut first = spawn_repl(&pair, &["sync", "--manifest", &place]);
    eventually("a third is there", PATIENCE, async || list(&pair.target).await.len() > 40).await;
    first.kill().await;
    pair.setup.more = String::new();
    pair.write_config();
    let rest = sync(&pair, &place, &[]).await.expect_code(1);
    assert_eq!(numbers(&rest, &["failed", "bad_lines"]), [0, 1], "the bad line is still told");
    assert_eq!(compare(&pair).await, Vec::<String>::new(), "every object once");
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the worker listens", PATIENCE, async || pair.ledger.join("repl.sock").exists()).await;
    let by_worker = sync(&pair, &place, &[]).await.expect_code(1);
    assert_eq!(numbers(&by_worker, &["listed", "already_equal", "bad_lines"]), [120, 120, 1]);
    worker.terminate(PATIENCE).await.expect_code(0);
}
