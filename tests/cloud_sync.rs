//! `repl sync` against real servers: what exists already gets there, once, in order, and after every interruption.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::time::Duration;

use support::compare::{compare, list};
use support::pair::{Pair, Setup};
use support::servers::Server;
use support::worker::{Output, eventually, run_repl, spawn_repl, spawn_repl_into};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(120);

async fn sync(pair: &Pair, more: &[&str]) -> Output {
    let args: Vec<&str> = ["sync", "--full", "--json"].iter().chain(more).copied().collect();
    run_repl(pair, &args, PATIENCE).await
}

fn numbers(output: &Output, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| output.json()[*name].as_u64().unwrap()).collect()
}

/// Versions with markers between, the newest an object for every other key.
async fn write_histories(pair: &Pair, keys: usize) {
    for key in 0..keys {
        let name = format!("history/{key:03} +%");
        for version in 0..5 {
            pair.source.put(&name, format!("{key} {version}")).await;
            if (key + version) % 3 == 0 {
                pair.source.delete(&name).await;
            }
        }
        if key % 2 == 0 {
            pair.source.put(&name, "newest").await;
        }
    }
}

/// P2, P3: histories with delete markers in place; a second backfill changes nothing.
async fn histories_are_backfilled(server: Server) {
    let pair = Setup::on(server, server).rule("delete_markers = true").build().await;
    write_histories(&pair, 12).await;
    let first = sync(&pair, &["--delete-markers"]).await.expect_code(0);
    assert_eq!(compare(&pair).await, Vec::<String>::new(), "{}", first.stderr);
    let versions = list(&pair.source).await.len() as u64;
    assert_eq!(numbers(&first, &["listed", "copied", "failed"]), [versions, versions, 0]);
    let again = sync(&pair, &["--delete-markers"]).await.expect_code(0);
    assert_eq!(numbers(&again, &["listed", "copied", "failed"]), [versions, 0, 0], "{}", again.stderr);
    std::fs::remove_dir_all(&pair.ledger).unwrap();
    let rebuilt = sync(&pair, &["--delete-markers"]).await.expect_code(0);
    assert_eq!(numbers(&rebuilt, &["copied", "failed"]), [0, 0], "the stamps alone tell: {}", rebuilt.stderr);
    assert_eq!(compare(&pair).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_are_backfilled_on_ministack() {
    histories_are_backfilled(Server::Ministack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_are_backfilled_on_seaweedfs() {
    histories_are_backfilled(Server::Seaweedfs).await;
}

/// A sync hides nothing at the target unless it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_deletes_nothing_unless_told() {
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).rule("delete_markers = true").build().await;
    pair.source.put("kept", "content").await;
    sync(&pair, &[]).await.expect_code(0);
    pair.source.delete("kept").await;
    sync(&pair, &[]).await.expect_code(0);
    assert!(list(&pair.target).await.iter().all(|version| !version.marker));
    sync(&pair, &["--delete-markers"]).await.expect_code(0);
    assert_eq!(compare(&pair).await, Vec::<String>::new());
}

/// P1, P2: killed in the middle and finished, no object is written twice beyond those in flight.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_goes_on_where_it_was() {
    let setup =
        Setup::on(Server::Seaweedfs, Server::Seaweedfs).more("[transfer]\nconcurrency = 2\nrequests_per_second = 60\n");
    let mut pair = setup.build().await;
    for key in 0..150 {
        pair.source.put(&format!("flat{key:04}"), format!("content of {key}")).await;
    }
    let mut first = spawn_repl(&pair, &["sync", "--full"]);
    eventually("a third is there", PATIENCE, async || list(&pair.target).await.len() > 50).await;
    first.kill().await;
    pair.setup.more = String::new();
    pair.write_config();
    sync(&pair, &[]).await.expect_code(0);
    assert_eq!(compare(&pair).await, Vec::<String>::new(), "every object once");
}

/// A sync beside a running worker is done by the worker; live changes and backfill end up together.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_does_the_sync() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    for key in 0..20 {
        pair.source.put(&format!("old/{key}"), "before the worker").await;
    }
    let before = pair.queue_depth().await;
    for _ in 0..before {
        let received =
            pair.sqs.receive_message().queue_url(&pair.queue_url).max_number_of_messages(10).send().await.unwrap();
        for message in received.messages.unwrap_or_default() {
            let receipt = message.receipt_handle.unwrap();
            pair.sqs.delete_message().queue_url(&pair.queue_url).receipt_handle(receipt).send().await.unwrap();
        }
    }
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the worker listens", PATIENCE, async || pair.ledger.join("repl.sock").exists()).await;
    pair.source.put("live", "while the worker runs").await;
    let report = sync(&pair, &[]).await.expect_code(0);
    assert_eq!(numbers(&report, &["listed", "failed"]), [21, 0]);
    eventually("all is there", PATIENCE, async || list(&pair.target).await.len() >= 21).await;
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(compare(&pair).await, Vec::<String>::new());
}

/// What events missed, and what was damaged, is found and mended; what is equal costs nothing.
async fn differences_are_mended(server: Server) {
    let pair = Setup::on(server, server).build().await;
    for key in 0..20 {
        pair.source.put(&format!("k{key:02}"), format!("content of {key}")).await;
    }
    let differences = async || run_repl(&pair, &["sync", "--json"], PATIENCE).await.expect_code(0);
    assert_eq!(numbers(&differences().await, &["listed", "copied", "failed"]), [20, 20, 0]);
    assert_eq!(compare(&pair).await, Vec::<String>::new());
    assert_eq!(numbers(&differences().await, &["listed", "copied", "already_equal"]), [20, 0, 20]);
    pair.target.delete("k03").await;
    pair.target.put("k04", "CONTENT of 4").await;
    pair.target.put("k05", "short").await;
    pair.target.put("stranger", "stays").await;
    assert_eq!(numbers(&differences().await, &["listed", "copied", "failed"]), [21, 3, 0]);
    for key in ["k03", "k04", "k05"] {
        let read = async |bucket: &support::pair::Bucket| {
            let got = bucket.s3.get_object().bucket(&bucket.name).key(key).send().await.unwrap();
            got.body.collect().await.unwrap().into_bytes()
        };
        assert_eq!(read(&pair.source).await, read(&pair.target).await, "{key}");
    }
    assert!(list(&pair.target).await.iter().any(|version| version.key == "stranger" && !version.marker));
    assert_eq!(numbers(&differences().await, &["copied", "failed"]), [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_mended_on_ministack() {
    differences_are_mended(Server::Ministack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_mended_on_seaweedfs() {
    differences_are_mended(Server::Seaweedfs).await;
}

/// P6: what is beside the bytes is brought in line where asked: tags on the version that is there, all else by writing
/// it anew; what is in line costs nothing, and unasked nothing is touched.
async fn what_is_beside_the_bytes_is_mended(server: Server) {
    let pair = Setup::on(server, server).build().await;
    for key in ["tagged", "retagged", "bare", "right"] {
        pair.source.put_adorned(key, format!("content of {key}")).await;
    }
    run_repl(&pair, &["sync"], PATIENCE).await.expect_code(0);
    pair.target.tag("tagged", None, &[("class", "lead"), ("more", "x")]).await;
    pair.source.tag("retagged", None, &[("class", "silver")]).await;
    // Somebody copied the bytes over and lost all else, the stamp too.
    pair.target.put("bare", "content of bare").await;
    let before = list(&pair.target).await.len();
    let synced = async |more: &[&str]| {
        let args: Vec<&str> = ["sync", "--json"].iter().chain(more).copied().collect();
        numbers(&run_repl(&pair, &args, PATIENCE).await.expect_code(0), &["copied", "already_equal", "failed"])
    };
    assert_eq!(synced(&[]).await, [0, 4, 0]);
    assert_eq!(synced(&["--check-tags"]).await[0], 3, "two by their tags, and the bare one, which has none");
    assert_eq!(list(&pair.target).await.len(), before + 1, "tags are put on the versions that are there");
    assert_eq!(synced(&["--check-metadata", "--check-tags"]).await, [0, 4, 0]);
    pair.target.put("bare", "content of bare").await;
    assert_eq!(synced(&["--check-metadata"]).await, [1, 3, 0]);
    let verified = run_repl(&pair, &["verify", "--json", "--check-metadata", "--check-tags"], PATIENCE).await;
    assert_eq!(numbers(&verified.expect_code(0), &["identical", "different"]), [4, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beside_the_bytes_is_mended_on_ministack() {
    what_is_beside_the_bytes_is_mended(Server::Ministack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beside_the_bytes_is_mended_on_seaweedfs() {
    what_is_beside_the_bytes_is_mended(Server::Seaweedfs).await;
}

/// Who asked for a sync is told how that one ended, also when another was begun before it was asked about again.
#[tokio::test(flavor = "multi_thread")]
async fn each_sync_of_a_worker_is_told_from_the_next() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    for (prefix, keys) in [("a/", 3), ("b/", 2)] {
        for key in 0..keys {
            pair.source.put(&format!("{prefix}{key}"), "content").await;
        }
    }
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the worker listens", PATIENCE, async || pair.ledger.join("repl.sock").exists()).await;
    let progress = async |number: u64| asked(&pair, &format!(r#"{{"ask":"sync-progress","sync":{number}}}"#)).await;
    let mut ends = Vec::new();
    for (number, prefix) in [(1, "a/"), (2, "b/"), (3, "")] {
        let begun = asked(&pair, &format!(r#"{{"ask":"sync","full":true,"prefix":"{prefix}"}}"#)).await;
        assert_eq!(begun["answer"]["begun"], number, "{begun}");
        eventually("it has ended", PATIENCE, async || progress(number).await["answer"]["done"] == true).await;
        if number > 1 {
            assert_eq!(progress(number - 1).await, ends[ends.len() - 1], "what came later is not counted");
        }
        ends.push(progress(number).await);
    }
    let listed: Vec<_> = ends.iter().map(|end| end["answer"]["listed"].as_u64().unwrap()).collect();
    assert_eq!(listed, [3, 2, 5]);
    let forgotten = progress(1).await;
    assert!(forgotten["error"].as_str().unwrap().contains("does not know this one any more"), "{forgotten}");
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// A rule that brings nothing: unknown, disabled, or unknown to the worker that was started with another config. None of
/// these is a success.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_would_bring_nothing_is_refused() {
    let rules = "[[rules]]\nid = \"on\"\ntarget = \"dr\"\nprefix = \"on/\"\n\
                 [[rules]]\nid = \"off\"\ntarget = \"dr\"\nprefix = \"off/\"\nstatus = \"disabled\"\n";
    let mut pair = Setup::on(Server::Ministack, Server::Ministack).rule(rules).build().await;
    pair.source.put("new/k", "content").await;
    let refused = async |pair: &Pair, args: &[&str], sentence: &str| {
        let said = ["refused.out", "refused.err"].map(|name| pair.directory.path().join(name));
        let output = spawn_repl_into(pair, args, said).end(PATIENCE).await.expect_code(2);
        assert!(output.stderr.contains(sentence), "{args:?}: {}", output.stderr);
    };
    let unknown = "there is no rule \"new\"; there are on, off";
    let disabled = "rule \"off\" is disabled: enable it in the config, or name another";
    for args in [&["sync", "--rule"][..], &["sync", "--full", "--rule"], &["verify", "--rule"], &["plan", "--rule"]] {
        refused(&pair, &[args, &["new"]].concat(), unknown).await;
        refused(&pair, &[args, &["off"]].concat(), disabled).await;
    }
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the worker listens", PATIENCE, async || pair.ledger.join("repl.sock").exists()).await;
    pair.setup.rule = format!("{rules}[[rules]]\nid = \"new\"\ntarget = \"dr\"\nprefix = \"new/\"\n");
    pair.setup.rule = pair.setup.rule.replace("disabled", "enabled");
    pair.write_config();
    let restart = ", says the running worker: where the config has changed, restart it first";
    refused(&pair, &["sync", "--rule", "new"], &format!("{unknown}{restart}")).await;
    refused(&pair, &["sync", "--rule", "off"], &format!("{disabled}{restart}")).await;
    let answer = asked(&pair, r#"{"ask":"brake-release","target":"nobody"}"#).await;
    assert_eq!(answer["error"], "there is no target \"nobody\"; there are dr", "{answer}");
    worker.terminate(PATIENCE).await.expect_code(0);
    let synced = run_repl(&pair, &["sync", "--rule", "new", "--json"], PATIENCE).await.expect_code(0);
    assert_eq!(numbers(&synced, &["listed", "copied"]), [1, 1]);
}

/// What the worker answers to a question on its socket.
async fn asked(pair: &Pair, question: &str) -> serde_json::Value {
    let mut stream = UnixStream::connect(pair.ledger.join("repl.sock")).await.unwrap();
    stream.write_all(format!("{question}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    serde_json::from_str(&answer).unwrap()
}
