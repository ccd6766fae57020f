//! Receipts against real servers: they arrive in their bucket, and their chain shows whether any is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::compare::list;
use support::objects::Multipart;
use support::pair::{Bucket, Pair, Setup};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::worker::{Output, eventually, run_repl, spawn_repl};

const PATIENCE: Duration = Duration::from_secs(120);

/// A pair whose receipts go into the target's own bucket: no rule reads there.
async fn pair_with_receipts(server: Server) -> Pair {
    let mut pair = Setup::on(server, server).build().await;
    pair.setup.more = format!("[receipts]\nbucket = \"{}\"\nprefix = \"receipts/\"\n", pair.target.name);
    pair.write_config();
    pair
}

async fn sync(pair: &Pair) -> Output {
    run_repl(pair, &["sync", "--full", "--json"], PATIENCE).await
}

/// Every receipt file in the bucket, as `aws s3 sync` would bring it.
async fn download(bucket: &Bucket, into: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for version in list(bucket).await.into_iter().filter(|version| version.key.starts_with("receipts/")) {
        assert!(version.key.starts_with("receipts/dt=20") && version.key.ends_with(".jsonl.gz"), "{}", version.key);
        let object = bucket.s3.get_object().bucket(&bucket.name).key(&version.key).send().await.unwrap();
        let path = into.join(&version.key);
        assert!(!path.exists(), "no receipt file has two versions: {}", version.key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, object.body.collect().await.unwrap().into_bytes()).unwrap();
        found.push(path);
    }
    found
}

/// The lines of a downloaded file, unpacked.
fn lines(path: &Path) -> Vec<String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// All receipts of these files, without opening and closing lines.
fn receipts(files: &[PathBuf]) -> Vec<Value> {
    let all = files.iter().flat_map(|file| lines(file)).map(|line| serde_json::from_str::<Value>(&line).unwrap());
    all.filter(|line| !["open", "close"].contains(&line["kind"].as_str().unwrap())).collect()
}

async fn check(pair: &Pair, dir: &Path) -> Output {
    run_repl(pair, &["verify", "--json", "--receipts", dir.to_str().unwrap()], PATIENCE).await
}

fn spooled(pair: &Pair) -> Vec<String> {
    let names = std::fs::read_dir(pair.ledger.join("receipts")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".jsonl")).collect()
}

/// Every version and marker leaves one line that names both sides as they are, over two runs one chain.
async fn receipts_arrive_and_their_chain_is_whole(server: Server) {
    let pair = pair_with_receipts(server).await;
    for key in 0..10 {
        pair.source.put(&format!("docs/{key} ü+%"), format!("content of {key}")).await;
    }
    pair.source.put("docs/0 ü+%", "a second version").await;
    pair.source.put_multipart("large", 7, &Multipart::of(&[5 << 20, 1 << 20])).await;
    sync(&pair).await.expect_code(0);
    assert_eq!(spooled(&pair), Vec::<String>::new(), "all uploaded at the end");
    let home = tempfile::tempdir().unwrap();
    let first = receipts(&download(&pair.target, home.path()).await);
    assert_eq!(first.len(), 12, "{first:#?}");

    let replicas = list(&pair.target).await;
    let replicas: BTreeSet<(&str, &str)> =
        replicas.iter().map(|version| (version.key.as_str(), version.id.as_str())).collect();
    for source in list(&pair.source).await {
        let of: Vec<_> = first
            .iter()
            .filter(|line| line["source"]["key"] == *source.key && line["source"]["version"] == *source.id)
            .collect();
        let [line] = of.as_slice() else { panic!("{source:?} has {of:#?}") };
        let target = (line["target"]["key"].as_str().unwrap(), line["target"]["version"].as_str().unwrap());
        assert!(replicas.contains(&target), "{line:#}");
        assert_eq!((&line["kind"], &line["outcome"]), (&"write".into(), &"replicated".into()));
        assert_eq!((&line["rule"], &line["target"]["name"]), (&"all".into(), &"dr".into()));
        assert_eq!(line["source"]["bucket"], *pair.source.name);
        assert!(["checksum", "md5", "parts"].contains(&line["verified"]["means"].as_str().unwrap()), "{line:#}");
        assert!(line["source"]["size"].as_u64().unwrap() > 0 && line["lag_seconds"].as_f64().unwrap() >= 0.0);
    }

    pair.source.put("later", "of the second run").await;
    sync(&pair).await.expect_code(0);
    let home = tempfile::tempdir().unwrap();
    let files = download(&pair.target, home.path()).await;
    assert_eq!(files.len(), 2);
    let report = check(&pair, home.path()).await.expect_code(0).json();
    assert_eq!((&report["breaks"], &report["lost"]), (&serde_json::json!([]), &0.into()), "{report:#}");
    assert_eq!(report["chains"].as_array().unwrap().len(), 1, "{report:#}");
    let again = receipts(&files);
    let later = again.iter().filter(|line| line["source"]["key"] == "later").count();
    assert_eq!((later, report["receipts"].as_u64().unwrap()), (1, again.len() as u64));
    a_removed_line_shows(&pair, home.path(), &files[0]).await;
    std::fs::remove_file(&files[0]).unwrap();
    check(&pair, home.path()).await.expect_code(1);
}

async fn a_removed_line_shows(pair: &Pair, home: &Path, file: &Path) {
    let (packed, mut kept) = (std::fs::read(file).unwrap(), lines(file));
    kept.remove(4);
    let shortened = file.with_extension("");
    std::fs::write(&shortened, kept.join("\n") + "\n").unwrap();
    std::fs::remove_file(file).unwrap();
    let report = check(pair, home).await.expect_code(1).json();
    let found = &report["breaks"][0];
    assert!(file.ends_with(format!("{}.gz", found["file"].as_str().unwrap())), "{report:#}");
    assert_eq!(found["line"], 5, "{report:#}");
    std::fs::remove_file(shortened).unwrap();
    std::fs::write(file, packed).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_arrive_and_their_chain_is_whole_on_seaweedfs() {
    receipts_arrive_and_their_chain_is_whole(Server::Seaweedfs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_arrive_and_their_chain_is_whole_on_ministack() {
    receipts_arrive_and_their_chain_is_whole(Server::Ministack).await;
}

/// Killed in the middle, the next start closes and uploads what was left, and the chain goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_leaves_receipts_that_the_next_start_uploads() {
    let mut pair = pair_with_receipts(Server::Seaweedfs).await;
    for key in 0..150 {
        pair.source.put(&format!("flat{key:04}"), format!("content of {key}")).await;
    }
    let quick = pair.setup.more.clone();
    pair.setup.more += "[transfer]\nconcurrency = 2\nrequests_per_second = 60\n";
    pair.write_config();
    for there in [30, 80] {
        let mut worker = spawn_repl(&pair, &["sync", "--full"]);
        eventually("some are there", PATIENCE, async || list(&pair.target).await.len() > there).await;
        worker.kill().await;
        assert_eq!(spooled(&pair).len(), 1);
    }
    pair.setup.more = quick;
    pair.write_config();
    sync(&pair).await.expect_code(0);
    assert_eq!(spooled(&pair), Vec::<String>::new());
    let home = tempfile::tempdir().unwrap();
    let files = download(&pair.target, home.path()).await;
    assert_eq!(files.len(), 3);
    let report = check(&pair, home.path()).await.expect_code(0).json();
    assert_eq!(report["chains"].as_array().unwrap().len(), 1, "{report:#}");
    let keys: BTreeSet<String> =
        receipts(&files).iter().map(|line| line["source"]["key"].as_str().unwrap().to_owned()).collect();
    // Settled on disk and killed before the receipt was: at most what was settled during one slow sync, at each kill.
    assert!(keys.len() >= 150 - 2 * 10, "{} of 150", keys.len());
}

/// Delete markers, later tags and repeated events leave their lines; a worker tells the chain's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_writes_receipts_of_every_kind() {
    let pair = pair_with_receipts(Server::Ministack).await;
    pair.source.put("deleted", "content").await;
    let tagged = pair.source.put("tagged", "content").await;
    run_repl(&pair, &["run", "--until-idle=1s"], PATIENCE).await.expect_code(0);
    pair.source.delete("deleted").await;
    pair.source.tag("tagged", None, &[("class", "gold")]).await;
    // This server sends no event for tags.
    pair.put_event("ObjectTagging:Put", "tagged", tagged.as_deref()).await;
    let report = run_repl(&pair, &["run", "--until-idle=1s", "--json"], PATIENCE).await.expect_code(0).json();
    let home = tempfile::tempdir().unwrap();
    let files = download(&pair.target, home.path()).await;
    let told = |line: &Value| {
        let text = |at: &str| line.pointer(at).and_then(Value::as_str).unwrap_or("-").to_owned();
        (text("/source/key"), text("/kind"), text("/verified/means"))
    };
    let all: Vec<_> = receipts(&files).iter().map(told).collect();
    let line = |key: &str, kind: &str, means: &str| (key.to_owned(), kind.to_owned(), means.to_owned());
    assert!(all.contains(&line("deleted", "delete-marker", "-")), "{all:#?}");
    assert!(all.contains(&line("tagged", "attributes", "stamp")), "{all:#?}");
    assert_eq!(all.len(), 4, "{all:#?}");
    let checked = check(&pair, home.path()).await.expect_code(0).json();
    assert_eq!(checked["chains"][0]["last_hash"], report["receipts"]["hash"], "{checked:#} {report:#}");
    assert_eq!(report["receipts"]["lost"], 0);
    let stopped = run_repl(&pair, &["status", "--json"], PATIENCE).await.expect_code(0).json();
    assert_eq!(stopped["receipts"]["hash"], report["receipts"]["hash"], "also when the worker is gone");
}

/// An upload whose answer is lost is not made twice, and a bucket that cannot be written holds nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_is_made_again_and_never_twice() {
    let mut pair = pair_with_receipts(Server::Seaweedfs).await;
    let proxy = Proxy::before(&Server::Seaweedfs.access().endpoint);
    let uploads = |seen: &Seen| seen.method == "PUT" && seen.plain_path().contains("/receipts/dt=");
    pair.setup.more += &format!("endpoint = \"{}\"\n", proxy.endpoint());
    pair.write_config();
    pair.source.put("one", "content").await;
    proxy.add(Rule::when(uploads, Act::error(503, "SlowDown")));
    sync(&pair).await.expect_code(0);
    assert_eq!(spooled(&pair).len(), 1, "it waits on the disk");
    proxy.clear();
    proxy.add(Rule::when(uploads, Act::LoseAnswer).times(1));
    sync(&pair).await.expect_code(0);
    assert_eq!(spooled(&pair), Vec::<String>::new());
    let home = tempfile::tempdir().unwrap();
    let files = download(&pair.target, home.path()).await;
    check(&pair, home.path()).await.expect_code(0);
    assert!(!receipts(&files).is_empty());
}

/// A spool that cannot be written is told and counted, and replication goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_cannot_be_written_does_not_stop_replication() {
    let pair = pair_with_receipts(Server::Ministack).await;
    std::fs::create_dir_all(&pair.ledger).unwrap();
    std::fs::write(pair.ledger.join("receipts"), "a file where the directory should be").unwrap();
    pair.source.put("one", "content").await;
    let output = run_repl(&pair, &["run", "--until-idle=1s", "--json"], PATIENCE).await.expect_code(0);
    assert_eq!(list(&pair.target).await.len(), 1);
    let told = &output.json()["receipts"];
    assert_eq!((&told["written"], &told["lost"]), (&0.into(), &1.into()), "{told:#}");
    assert!(told["fault"].is_string() && output.stderr.contains("the spool cannot be written"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_receipts_is_not_whole() {
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).build().await;
    let home = tempfile::tempdir().unwrap();
    check(&pair, home.path()).await.expect_code(1);
    check(&pair, &home.path().join("nowhere")).await.expect_code(2);
}
