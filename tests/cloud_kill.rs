//! The worker killed, stopped and starved: nothing lost, nothing twice, nothing orphaned (P1, P2, P10).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic, and live in real time"
)]

mod support;

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::aftermath::{assert_no_uploads, ledger_is_empty};
use support::compare::{compare, list};
use support::objects::{Multipart, bytes};
use support::pair::{Pair, Setup};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::worker::{catch_up, eventually, spawn_hardy_repl, spawn_repl};

const MIB: usize = 1 << 20;
/// More than any of these waits can need.
const PATIENCE: Duration = Duration::from_secs(120);
/// How fast a target takes bytes that is to be caught in the middle, in bytes a second.
const SLOW: u64 = 4 << 20;

fn nothing() -> Vec<String> {
    Vec::new()
}

async fn slowed(setup: Setup, way: &str) -> (Pair, Proxy) {
    let target = Proxy::before(&setup.target.access().endpoint);
    let target_endpoint = Some(target.endpoint());
    let setup = Setup { target_endpoint, ..setup.more(&format!("[transfer]\nmode = \"{way}\"\n")) };
    (setup.build().await, target)
}

fn is_part(seen: &Seen) -> bool {
    seen.method == "PUT" && seen.asks("partNumber")
}

fn begins(seen: &Seen) -> bool {
    seen.method == "POST" && seen.asks("uploads")
}

/// The numbers of the parts that the target has acknowledged.
fn parts_answered(target: &Proxy) -> Vec<String> {
    let done = |seen: &Seen| is_part(seen) && seen.status == Some(200);
    target.seen().into_iter().filter(done).map(|seen| seen.query["partNumber"].clone()).collect()
}

/// P1, P2: killed in the middle of a multipart copy, the next start goes on with the same upload and sends only what is
/// missing.
async fn a_killed_upload_goes_on(server: Server, way: &str) {
    const PARTS: usize = 12;
    let (pair, target) = slowed(Setup::on(server, server), way).await;
    pair.source.put_multipart("large", 7, &Multipart::of(&[5 * MIB; PARTS])).await;
    pair.announce().await;
    let is_late = |seen: &Seen| is_part(seen) && seen.query["partNumber"].parse::<usize>().unwrap() > PARTS / 2;
    target.add(Rule::when(is_late, Act::Delay(PATIENCE)));
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("half of the parts are there", PATIENCE, async || parts_answered(&target).len() >= PARTS / 2).await;
    // However many go at once, their answers have the time to reach the ledger.
    tokio::time::sleep(Duration::from_secs(1)).await;
    worker.kill().await;
    let before: BTreeSet<String> = parts_answered(&target).into_iter().collect();
    assert!(before.len() < PARTS, "the kill came too late");
    assert_eq!(target.count(begins), 1);

    target.clear();
    target.forget();
    catch_up(&pair).await.expect_code(0);
    assert_eq!(target.count(begins), 0, "the same upload goes on");
    let after: BTreeSet<String> = parts_answered(&target).into_iter().collect();
    // On a busy machine an answer may still be on its way to the ledger.
    let again: Vec<_> = before.intersection(&after).collect();
    assert!(again.len() <= 2 && after.len() < PARTS, "before {before:?}, after {after:?}");
    let mut found = compare(&pair).await;
    // ministack's UploadPartCopy computes no checksum.
    found.retain(|line| !(way == "server-side" && line.contains(": checksum ")));
    assert_eq!(found, nothing());
    assert_no_uploads(&pair.target).await;
    ledger_is_empty(&pair).await;
}

#[tokio::test]
async fn a_killed_stream_goes_on_on_ministack() {
    a_killed_upload_goes_on(Server::Ministack, "stream").await;
}

#[tokio::test]
async fn a_killed_stream_goes_on_on_seaweedfs() {
    a_killed_upload_goes_on(Server::Seaweedfs, "stream").await;
}

#[tokio::test]
async fn a_killed_server_side_copy_goes_on() {
    a_killed_upload_goes_on(Server::Ministack, "server-side").await;
}

/// A number below `limit`.
fn dice(limit: u64) -> u64 {
    RandomState::new().build_hasher().finish() % limit
}

/// P1, P2: killed again and again under load, at moments that nobody chose.
///
/// Every key is written once, but for some: of those a message that a killed worker was handed comes late, and P3 says
/// what happens then.
#[tokio::test]
async fn kills_at_random_moments_lose_nothing_and_double_nothing() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    pair.hide_briefly().await;
    for round in 0..5 {
        for number in 0..200 {
            pair.source.put(&format!("{round}/{number}"), bytes(round * 1000 + number, 500)).await;
        }
        for number in 0..5 {
            pair.source.put(&format!("again/{number}"), bytes(round, 600)).await;
        }
        let before = list(&pair.target).await.len();
        let mut worker = spawn_repl(&pair, &["run"]);
        // Not before it works at all, so that each round is killed in its work.
        eventually("it works", PATIENCE, async || list(&pair.target).await.len() > before).await;
        tokio::time::sleep(Duration::from_millis(dice(300))).await;
        worker.kill().await;
    }
    catch_up(&pair).await.expect_code(0);
    let mut found = compare(&pair).await;
    found.retain(|line| !line.starts_with("again/"));
    assert_eq!(found, nothing());
    for number in 0..5 {
        let key = format!("again/{number}");
        let got = pair.target.s3.get_object().bucket(&pair.target.name).key(&key).send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().to_vec(), bytes(4, 600), "the newest of {key}");
    }
    assert_no_uploads(&pair.target).await;
    ledger_is_empty(&pair).await;
}

/// Stopped under load for so long that the queue hands its messages out anew, and everything that it had asked for has
/// given up waiting: it goes on as if nothing had been (P1, P2).
async fn a_stop_under_load_changes_nothing(length: Duration) {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    pair.hide_briefly().await;
    for number in 0..300 {
        pair.source.put(&format!("before/{number}"), bytes(number, 700)).await;
    }
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("it works", PATIENCE, async || !list(&pair.target).await.is_empty()).await;
    worker.signal("STOP").await;
    let there = list(&pair.target).await.len();
    for number in 0..50 {
        pair.source.put(&format!("meanwhile/{number}"), bytes(number, 700)).await;
    }
    tokio::time::sleep(length).await;
    assert!(list(&pair.target).await.len() <= there + 64, "it stood still");
    worker.signal("CONT").await;
    eventually("all is there", PATIENCE, async || list(&pair.target).await.len() >= 350).await;
    eventually("nothing is left", PATIENCE, async || pair.queue_depth().await == 0).await;
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
    assert_no_uploads(&pair.target).await;
    ledger_is_empty(&pair).await;
}

#[tokio::test]
async fn a_short_stop_under_load_changes_nothing() {
    a_stop_under_load_changes_nothing(Duration::from_secs(8)).await;
}

#[tokio::test]
#[ignore = "a minute and more; the short one runs always"]
async fn a_stop_of_a_minute_under_load_changes_nothing() {
    a_stop_under_load_changes_nothing(Duration::from_secs(61)).await;
}

/// SIGTERM finishes what is under way and exits 0; nothing is left half done.
#[tokio::test]
async fn a_termination_drains() {
    let (pair, target) = slowed(Setup::on(Server::Ministack, Server::Ministack), "stream").await;
    pair.source.put("k", bytes(1, 3 * MIB)).await;
    target.add(Rule::when(|seen| seen.method == "PUT", Act::Throttle(SLOW)));
    let mut worker = spawn_repl(&pair, &["run"]);
    let under_way = |seen: &Seen| seen.method == "PUT" && seen.sent.load(Ordering::Relaxed) > 0;
    eventually("the object is on its way", PATIENCE, async || target.count(under_way) > 0).await;
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
    ledger_is_empty(&pair).await;
}

/// A second signal drops what is under way; it stays to be done, and the next start does it.
#[tokio::test]
async fn a_second_signal_halts_and_the_next_start_goes_on() {
    let (pair, target) = slowed(Setup::on(Server::Ministack, Server::Ministack), "stream").await;
    pair.source.put("k", bytes(1, 3 * MIB)).await;
    target.add(Rule::when(|seen| seen.method == "PUT", Act::Throttle(10 << 10)));
    let mut worker = spawn_repl(&pair, &["run"]);
    let under_way = |seen: &Seen| seen.method == "PUT" && seen.sent.load(Ordering::Relaxed) > 0;
    eventually("the object is on its way", PATIENCE, async || target.count(under_way) > 0).await;
    worker.signal("TERM").await;
    eventually("it drains", PATIENCE, async || worker.stderr().contains("draining")).await;
    // At ten KiB a second the drain alone would take five minutes: the second signal ends it.
    worker.terminate(Duration::from_secs(20)).await.expect_code(0);
    assert_eq!(list(&pair.target).await, Vec::new(), "nothing unfinished became visible");
    target.clear();
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
}

/// DESIGN 2.1: an interrupted worker says so with 130.
#[tokio::test]
async fn an_interrupt_exits_with_130() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    pair.source.put("k", "1").await;
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("it works", PATIENCE, async || list(&pair.target).await.len() == 1).await;
    worker.signal("INT").await;
    worker.end(PATIENCE).await.expect_code(130);
}

/// P1: a ledger that cannot be opened stops the worker before it takes a single message.
#[tokio::test]
async fn without_a_ledger_nothing_is_acknowledged() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    // A file where the directory should be: refused to root too.
    std::fs::write(&pair.ledger, "not a directory").unwrap();
    pair.source.put("k", "1").await;
    let waiting = pair.queue_depth().await;
    let output = catch_up(&pair).await.expect_code(3);
    assert!(!output.stderr.is_empty());
    assert_eq!((pair.queue_depth().await, list(&pair.target).await.len()), (waiting, 0));
}

/// P1: the disk is full in the middle of the work. The worker stops with 3, and whatever it has not written down is
/// still in the queue: the next start, with room again, brings everything.
#[tokio::test]
async fn a_full_disk_stops_the_worker_and_loses_nothing() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    pair.hide_briefly().await;
    // So that the ledger's log is longer than what the limit leaves to the other files.
    for number in 0..60 {
        pair.source.put(&format!("first/{number}"), "1").await;
    }
    catch_up(&pair).await.expect_code(0);
    let mut worker = spawn_hardy_repl(&pair, &["run"]);
    pair.source.put("second", "2").await;
    eventually("it works", PATIENCE, async || list(&pair.target).await.len() == 61 && pair.queue_depth().await == 0)
        .await;

    worker.fill_its_disk().await;
    for number in 0..30 {
        pair.source.put(&format!("late/{number}"), bytes(number, 300)).await;
    }
    let output = worker.end(PATIENCE).await.expect_code(3);
    assert!(output.stderr.contains("nothing was acknowledged since"), "{}", output.stderr);
    assert_eq!(pair.queue_depth().await, 30, "no message was deleted whose work is on no disk");
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
    ledger_is_empty(&pair).await;
}
