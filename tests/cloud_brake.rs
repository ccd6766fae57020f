//! P11 on real servers: deletes beyond a rate or a share are held, through restarts, until an operator lets them go; and
//! nothing else is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::compare::{compare, list};
use support::pair::{Bucket, Pair, Setup, Versions};
use support::servers::Server;
use support::worker::{Output, Worker, eventually, run_repl, spawn_repl, spawn_repl_into};

const PATIENCE: Duration = Duration::from_secs(120);
const NOTHING: [String; 0] = [];

fn braked(per_hour: u64) -> Setup {
    Setup::on(Server::Ministack, Server::Ministack).more(&format!("[brake]\ndeletes_per_hour = {per_hour}\n"))
}

/// A command beside whatever runs.
async fn beside(pair: &Pair, args: &[&str]) -> Output {
    let said = ["beside.out", "beside.err"].map(|name| pair.directory.path().join(name));
    spawn_repl_into(pair, args, said).end(PATIENCE).await
}

async fn work_off(pair: &Pair, code: i32) -> Output {
    run_repl(pair, &["run", "--until-idle=1s", "--json"], PATIENCE).await.expect_code(code)
}

async fn brake(pair: &Pair) -> Value {
    beside(pair, &["brake", "--json"]).await.expect_code(0).json()
}

/// Until its socket answers: a command that finds nobody there opens the ledger itself, and would keep it from a worker.
async fn listens(worker: &Worker) {
    eventually("the worker listens", PATIENCE, async || worker.stderr().contains("running")).await;
}

async fn markers(bucket: &Bucket) -> usize {
    list(bucket).await.iter().filter(|version| version.marker).count()
}

async fn put_all(bucket: &Bucket, prefix: &str, keys: usize) {
    for key in 0..keys {
        bucket.put(&format!("{prefix}{key:03}"), "content").await;
    }
}

async fn delete_all(bucket: &Bucket, prefix: &str, keys: usize) {
    for key in 0..keys {
        bucket.delete(&format!("{prefix}{key:03}")).await;
    }
}

#[tokio::test]
async fn deletes_beyond_the_rate_are_held_and_nothing_else_is() {
    let pair = braked(5).build().await;
    put_all(&pair.source, "k", 12).await;
    work_off(&pair, 0).await;
    assert_eq!(brake(&pair).await["state"], "free");
    delete_all(&pair.source, "k", 12).await;
    put_all(&pair.source, "other", 3).await;
    let held = work_off(&pair, 1).await;
    assert_eq!(markers(&pair.target).await, 5);
    assert!(list(&pair.target).await.iter().any(|version| version.key == "other002"), "writes go on");
    let report = held.json();
    let told = &report["brake"];
    let reason = "6 deletes within an hour, [brake] deletes_per_hour permits 5";
    assert_eq!([&told["state"], &told["target"], &told["held"]], [&json!("held"), &json!("dr"), &json!(7)], "{told}");
    assert_eq!((told["reason"].as_str(), told["since"].is_string()), (Some(reason), true), "{told}");
    assert_eq!(
        [&report["failed"], &report["caught_up"], &report["pending"]["operations"]],
        [&json!(0), &json!(false), &json!(0)]
    );
    assert_eq!(held.stderr.matches("the brake holds").count(), 1, "told once: {}", held.stderr);
    assert!(held.stderr.contains("WARN") && held.stderr.contains(reason), "{}", held.stderr);

    let again = work_off(&pair, 1).await;
    assert_eq!(
        [&again.json()["brake"]["held"], &again.json()["brake"]["since"]],
        [&json!(7), &told["since"]],
        "remembered"
    );
    assert_eq!(markers(&pair.target).await, 5);
    let status = beside(&pair, &["status"]).await.expect_code(0).stdout;
    assert!(status.contains("held, 7 deletes wait since") && status.contains(reason), "{status}");

    let unknown = beside(&pair, &["brake", "release", "--target", "nobody"]).await.expect_code(2);
    assert!(unknown.stderr.contains("there is no target \"nobody\"; there are dr"), "{}", unknown.stderr);
    let released = beside(&pair, &["brake", "release", "--target", "dr"]).await.expect_code(0);
    assert!(released.stdout.contains("released      7 deletes"), "{}", released.stdout);
    assert!(released.stderr.contains("INFO") && released.stderr.contains("released=7"), "{}", released.stderr);
    let free = work_off(&pair, 0).await.json();
    assert_eq!([&free["brake"]["state"], &free["brake"]["held"]], [&json!("free"), &json!(0)]);
    assert_eq!(compare(&pair).await, NOTHING);
}

/// Killed with -9 while it holds, the next worker holds on; released through its socket, what was held goes at once.
#[tokio::test]
async fn a_kill_does_not_release_the_brake_nor_reset_its_hour() {
    let pair = braked(4).build().await;
    pair.hide_briefly().await;
    put_all(&pair.source, "k", 10).await;
    work_off(&pair, 0).await;
    delete_all(&pair.source, "k", 3).await;
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("three are gone", PATIENCE, async || markers(&pair.target).await == 3).await;
    worker.kill().await;
    for key in 3..10 {
        pair.source.delete(&format!("k{key:03}")).await;
    }
    let mut worker = spawn_repl(&pair, &["run"]);
    listens(&worker).await;
    eventually("the rest is held", PATIENCE, async || brake(&pair).await["held"] == 6).await;
    worker.kill().await;
    let counted = brake(&pair).await;
    assert_eq!([&counted["state"], &counted["held"]], [&json!("held"), &json!(6)], "{counted}");
    assert_eq!(counted["targets"][0]["deletes_in_hour"], 4, "{counted}");

    let mut worker = spawn_repl(&pair, &["run"]);
    listens(&worker).await;
    pair.source.put("meanwhile", "1").await;
    eventually("writes go on", PATIENCE, async || list(&pair.target).await.iter().any(|v| v.key == "meanwhile")).await;
    let released = beside(&pair, &["brake", "release", "--json"]).await.expect_code(0).json();
    assert_eq!([&released["released"], &released["state"]], [&json!(6), &json!("free")], "{released}");
    eventually("all are gone", PATIENCE, async || markers(&pair.target).await == 10).await;
    let ended = worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(compare(&pair).await, NOTHING);
    assert!(ended.stderr.contains("the brake is released by an operator"), "{}", ended.stderr);
}

const BOTH_HISTORIES: &str = r#"
[[rules]]
id = "everything"
target = "dr"
prefix = "all/"
delete_markers = true
[[rules]]
id = "newest"
target = "dr"
prefix = "latest/"
delete_markers = true
history = "latest"
"#;

/// P3: a write on top of a held delete goes at once, and their order holds.
#[tokio::test]
async fn a_write_after_a_held_delete_keeps_its_order() {
    let pair = braked(0).rule(BOTH_HISTORIES).build().await;
    for key in ["all/k", "all/gone", "latest/k", "latest/gone"] {
        pair.source.put(key, "1").await;
    }
    work_off(&pair, 0).await;
    for key in ["all/k", "all/gone", "latest/k", "latest/gone"] {
        pair.source.delete(key).await;
    }
    assert_eq!(work_off(&pair, 1).await.json()["brake"]["held"], 4);
    assert_eq!(markers(&pair.target).await, 0);
    pair.source.put("all/k", "2").await;
    pair.source.put("latest/k", "2").await;
    assert_eq!(work_off(&pair, 1).await.json()["brake"]["held"], 2, "what was written again is deleted no more");
    assert_eq!(pair.target.story("all/k").await, ["1", "†", "2"]);
    assert_eq!(pair.target.story("latest/k").await.last().unwrap(), "2");
    for key in ["all/gone", "latest/gone"] {
        assert_eq!(pair.target.story(key).await, ["1"], "{key}");
    }
    beside(&pair, &["brake", "release"]).await.expect_code(0);
    work_off(&pair, 0).await;
    assert_eq!(pair.target.story("latest/k").await.last().unwrap(), "2", "no late delete hides it");
    assert_eq!(pair.target.story("all/k").await, ["1", "†", "2"]);
    for key in ["all/gone", "latest/gone"] {
        assert_eq!(pair.target.story(key).await, ["1", "†"], "{key}");
    }
}

/// P4: what was undeleted at the source before the release is not deleted by it.
#[tokio::test]
async fn what_is_mended_at_the_source_stays_at_the_target() {
    let pair = braked(0).build().await;
    put_all(&pair.source, "k", 3).await;
    work_off(&pair, 0).await;
    let mut undone = Vec::new();
    for key in ["k000", "k001", "k002"] {
        undone.push((key, pair.source.delete(key).await.unwrap()));
    }
    assert_eq!(work_off(&pair, 1).await.json()["brake"]["held"], 3);
    for (key, marker) in &undone[..2] {
        pair.source.delete_version(key, marker).await;
    }
    beside(&pair, &["brake", "release"]).await.expect_code(0);
    work_off(&pair, 0).await;
    assert_eq!(compare(&pair).await, NOTHING);
    assert_eq!(markers(&pair.target).await, 1);
}

/// A backfill of histories deletes nothing at rest, so it is not braked, whatever markers lie between.
#[tokio::test]
async fn markers_with_newer_versions_are_no_deletes() {
    let pair = braked(0).build().await;
    for key in ["a", "b", "c"] {
        for version in ["1", "2", "3"] {
            pair.source.put(key, version).await;
            pair.source.delete(key).await;
        }
        pair.source.put(key, "newest").await;
    }
    let output = run_repl(&pair, &["sync", "--full", "--json"], PATIENCE).await.expect_code(0);
    assert_eq!(output.json()["held"], 0);
    assert_eq!(compare(&pair).await, NOTHING);
}

/// With rules by tags the newer version must be one that the rule brings: otherwise the marker does delete.
#[tokio::test]
async fn a_newer_version_that_stays_behind_does_not_excuse_a_delete() {
    let pair = braked(0).rule("delete_markers = true\ntags = { class = \"gold\" }").build().await;
    for key in ["replaced", "excused"] {
        pair.source.put(key, "1").await;
        pair.source.tag(key, None, &[("class", "gold")]).await;
    }
    run_repl(&pair, &["sync", "--full"], PATIENCE).await.expect_code(0);
    for key in ["replaced", "excused"] {
        pair.source.delete(key).await;
        pair.source.put(key, "2").await;
    }
    pair.source.tag("excused", None, &[("class", "gold")]).await;
    let output = run_repl(&pair, &["sync", "--full", "--delete-markers", "--json"], PATIENCE).await.expect_code(1);
    assert_eq!(output.json()["held"], 1, "{}", output.stderr);
    assert_eq!(pair.target.story("replaced").await, ["1"]);
    assert_eq!(pair.target.story("excused").await, ["1", "†", "2"]);
}

/// The share is one of the keys that a whole comparison met; before, only the rate holds.
async fn a_share_of_the_keys(versions: Versions) {
    let setup = Setup { target_versions: versions, ..Setup::on(Server::Seaweedfs, Server::Seaweedfs) };
    let pair = setup.more("[brake]\nshare_of_keys = \"30%\"\n").build().await;
    put_all(&pair.source, "k", 50).await;
    run_repl(&pair, &["sync", "--prefix", "k", "--json"], PATIENCE).await.expect_code(0);
    pair.source.put("early", "1").await;
    run_repl(&pair, &["sync", "--prefix", "early"], PATIENCE).await.expect_code(0);
    pair.source.delete("early").await;
    run_repl(&pair, &["sync", "--prefix", "early", "--delete-markers"], PATIENCE).await.expect_code(0);
    let unknown = brake(&pair).await;
    assert_eq!(unknown["targets"][0]["keys"], Value::Null, "a part tells nothing of the whole: {unknown}");
    run_repl(&pair, &["sync"], PATIENCE).await.expect_code(0);
    let known = brake(&pair).await;
    assert_eq!(
        [&known["targets"][0]["keys"], &known["targets"][0]["deletes_in_hour"]],
        [&json!(50), &json!(1)],
        "{known}"
    );

    delete_all(&pair.source, "k", 20).await;
    run_repl(&pair, &["sync"], PATIENCE).await.expect_code(0);
    let visible = async || list(&pair.target).await.iter().filter(|version| version.latest && !version.marker).count();
    assert_eq!(visible().await, 50, "nothing is deleted unless asked");
    let held = run_repl(&pair, &["sync", "--delete-markers", "--json"], PATIENCE).await.expect_code(1).json();
    assert_eq!([&held["held"], &held["copied"], &held["failed"]], [&json!(6), &json!(14), &json!(0)], "{held}");
    assert_eq!(visible().await, 36);
    let told = brake(&pair).await;
    let reason = "16 deletes within an hour among 50 keys, [brake] share_of_keys permits 15";
    assert_eq!(told["reason"], reason, "{told}");
    let again = run_repl(&pair, &["sync", "--delete-markers", "--json"], PATIENCE).await.expect_code(1).json();
    assert_eq!([&again["held"], &again["copied"]], [&json!(6), &json!(0)], "held once: {again}");
    beside(&pair, &["brake", "release"]).await.expect_code(0);
    run_repl(&pair, &["sync", "--delete-markers"], PATIENCE).await.expect_code(0);
    assert_eq!(visible().await, 30);
}

#[tokio::test]
async fn deletes_beyond_the_share_are_held() {
    a_share_of_the_keys(Versions::Enabled).await;
}

/// Where the target keeps no versions a delete is for good: all the more it asks the brake.
#[tokio::test]
async fn deletes_at_a_target_without_versions_are_held_too() {
    a_share_of_the_keys(Versions::Off).await;
}
