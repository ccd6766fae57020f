//! Operating it: what an operator types, and the very sentences that come back, in good worlds and in broken ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use repl::ledger::{Admission, Ledger, Quarantined};
use repl::model::object::Timestamp;
use serde_json::{Value, json};
use support::compare::{compare, list};
use support::objects::Multipart;
use support::pair::{Pair, Setup};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::worker::{Output, Worker, eventually, spawn_repl, spawn_repl_into, work_off, work_off_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(120);
const NOTHING: [String; 0] = [];

fn setup() -> Setup {
    Setup::on(Server::Ministack, Server::Ministack).more("[transfer]\nmode = \"stream\"\n")
}

/// A pair whose target and queue are reached through proxies.
async fn between(setup: Setup) -> (Pair, Proxy, Proxy) {
    let target = Proxy::before(&setup.target.access().endpoint);
    let queue = Proxy::before(&Server::Ministack.access().endpoint);
    let (target_endpoint, queue_endpoint) = (Some(target.endpoint()), Some(queue.endpoint()));
    (Setup { target_endpoint, queue_endpoint, ..setup }.build().await, target, queue)
}

/// Runs a command to its end, beside a worker if there is one.
async fn command(pair: &Pair, args: &[&str]) -> Output {
    let said = ["command.out", "command.err"].map(|name| pair.directory.path().join(name));
    spawn_repl_into(pair, args, said).end(PATIENCE).await
}

/// Runs a command with `--json`; its object.
async fn asked(pair: &Pair, args: &[&str]) -> Value {
    command(pair, &[args, &["--json"]].concat()).await.json()
}

/// Asserts the exit code, and that stdout and stderr together say each of these.
async fn says(pair: &Pair, args: &[&str], code: i32, sentences: &[&str]) {
    let output = command(pair, args).await.expect_code(code);
    let said = format!("{}{}", output.stdout, output.stderr);
    for sentence in sentences {
        assert!(said.contains(sentence), "{args:?} does not say {sentence:?} but:\n{said}");
    }
}

async fn started(pair: &Pair) -> Worker {
    let worker = spawn_repl(pair, &["run"]);
    eventually("the worker answers", PATIENCE, async || {
        let state = asked(pair, &["status"]).await["state"].clone();
        state == "running" || state == "paused"
    })
    .await;
    worker
}

fn receives(seen: &Seen) -> bool {
    seen.header("x-amz-target") == "AmazonSQS.ReceiveMessage"
}

fn writes(prefix: &'static str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    move |seen| seen.method == "PUT" && seen.plain_path().contains(&format!("/{prefix}"))
}

/// A paused worker polls nothing and begins nothing, over a kill too; resumed, it goes on; drained, it ends with 0.
#[tokio::test]
async fn a_pause_holds_over_a_restart_and_a_drained_worker_goes_on_when_started_again() {
    let (pair, _target, queue) = between(setup()).await;
    let mut worker = started(&pair).await;
    says(
        &pair,
        &["pause"],
        0,
        &["paused until `repl resume`: nothing is polled or begun, and what is under way is finished"],
    )
    .await;
    // A poll that was under way is broken off at once and given 2 s for its last answer: from the next look on it is over.
    eventually("the last poll is over", PATIENCE, async || {
        let before = queue.count(receives);
        asked(&pair, &["status"]).await;
        queue.count(receives) == before
    })
    .await;
    let status = asked(&pair, &["status"]).await;
    assert_eq!(
        (&status["state"], &status["paused"], &status["paused_until"]),
        (&json!("paused"), &json!(true), &Value::Null)
    );
    says(&pair, &["status"], 0, &["state         paused", "paused until  `repl resume`"]).await;

    worker.kill().await;
    queue.forget();
    let mut worker = started(&pair).await;
    // S3's test message may be there still, or again.
    let before = pair.queue_depth().await;
    pair.source.put("k", "k").await;
    eventually("the message waits", PATIENCE, async || pair.queue_depth().await > before).await;
    for _ in 0..3 {
        let status = asked(&pair, &["status"]).await;
        assert_eq!((&status["state"], &status["pending"]["operations"]), (&json!("paused"), &json!(0)));
    }
    assert_eq!((queue.count(receives), list(&pair.target).await.len()), (0, 0), "it polled or began");

    says(&pair, &["resume"], 0, &["resumed"]).await;
    eventually("it arrives", PATIENCE, async || list(&pair.target).await.len() == 1).await;
    says(&pair, &["drain"], 0, &["drained: what was under way is done, and the worker has ended"]).await;
    worker.end(PATIENCE).await.expect_code(0);
    says(&pair, &["drain"], 0, &["no worker runs on this ledger: there is nothing to drain"]).await;
    pair.source.put("l", "l").await;
    let mut worker = started(&pair).await;
    eventually("it goes on", PATIENCE, async || list(&pair.target).await.len() == 2).await;
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(compare(&pair).await, NOTHING);
}

/// Without a worker a pause is remembered for the next; one with an end is over by itself; mistakes are told.
#[tokio::test]
async fn a_pause_works_without_a_worker_and_ends_by_itself() {
    let pair = setup().build().await;
    says(&pair, &["pause", "--until", "2020-01-01T00:00:00Z"], 2, &["2020-01-01T00:00:00Z is not in the future"]).await;
    says(&pair, &["pause", "--until", "tomorrow"], 2, &["such as 2026-11-21T18:00:00Z, or a duration, such as 2h30m"])
        .await;
    let answer = asked(&pair, &["pause", "--until", "2999-01-01T00:00:00+01:00"]).await;
    assert_eq!(answer, json!({"state": "paused", "paused_until": "2998-12-31T23:00:00Z", "worker": false}));
    pair.source.put("k", "k").await;
    let mut worker = started(&pair).await;
    let status = asked(&pair, &["status"]).await;
    assert_eq!((&status["state"], &status["paused_until"]), (&json!("paused"), &json!("2998-12-31T23:00:00Z")));
    says(&pair, &["why", &format!("s3://{}/k", pair.source.name)], 0, &["work is paused now"]).await;
    says(&pair, &["pause", "--until", "1s"], 0, &["paused until 20"]).await;
    eventually("the pause ends by itself", PATIENCE, async || list(&pair.target).await.len() == 1).await;
    assert_eq!(asked(&pair, &["status"]).await["state"], "running");
    worker.terminate(PATIENCE).await.expect_code(0);
    let report = asked(&pair, &["run", "--until-idle=1s"]).await;
    assert_eq!(report["state"], "stopped", "the worker is gone when its last report is read");
    assert_eq!(asked(&pair, &["resume"]).await, json!({"state": "running", "paused_until": null, "worker": false}));
}

/// P9: a permission that lacks is told with the statement that grants it; retried by hand it goes on at once.
#[tokio::test]
async fn what_is_denied_is_told_with_its_fix_and_retried() {
    let (pair, target, _queue) = between(setup()).await;
    says(&pair, &["failures"], 0, &["nothing is parked and nothing is quarantined"]).await;
    says(&pair, &["failures", "retry", "--all"], 2, &["there is no ledger in", "no worker ever ran with this config"])
        .await;
    target.add(Rule::when(writes("denied/"), Act::error(403, "AccessDenied")));
    for key in ["denied/1", "denied/ü +%2B", "fine"] {
        pair.source.put(key, "12345").await;
    }
    work_off_with(&pair, 1).await;

    let failures = asked(&pair, &["failures"]).await;
    let group = &failures["groups"][0];
    let names: Vec<&str> = group.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names[..9], ["id", "cause", "fault", "kind", "count", "bytes", "oldest_age_seconds", "example", "fix"]);
    assert_eq!((&group["count"], &group["bytes"], &group["example"]), (&json!(2), &json!(10), &json!("denied/1")));
    assert_eq!(group["cause"], "denied (AccessDenied) at the target, target dr, rule all");
    assert_eq!(group["fault"], "could not write object at the target: AccessDenied: as the test says");
    let statement = format!("s3:PutObjectLegalHold on arn:aws:s3:::{}/*", pair.target.name);
    assert!(group["fix"].as_str().unwrap().contains(&statement), "{group}");
    assert!(group["oldest_age_seconds"].is_number() && group["next_probe_seconds"].is_number(), "{group}");
    assert_eq!(failures["quarantined"], json!([]));
    let id = group["id"].to_string();
    says(&pair, &["failures"], 0, &[&format!("`repl failures retry --group {id}` tries at once"), &statement]).await;
    says(&pair, &["status"], 0, &["2 objects: denied (AccessDenied) at the target"]).await;

    let object = format!("s3://{}/denied/ü +%2B", pair.source.name);
    let story = asked(&pair, &["why", &object]).await;
    assert_eq!((&story["state"], &story["rule"]), (&json!("parked"), &json!("all")), "{story:#}");
    assert_eq!(story["reason"], "could not write object at the target: AccessDenied: as the test says");
    assert!(story["next"].as_str().unwrap().contains(&statement), "{story:#}");
    assert_eq!(story["attempts"][0]["code"], "AccessDenied");
    assert_eq!(story["attempts"][0]["next"], format!("parked in group {id}"));
    assert_eq!(story["events"][0]["kind"], "write");
    assert_eq!((&story["source"]["kind"], &story["target"]["kind"]), (&json!("object"), &json!("missing")));

    says(&pair, &["failures", "retry", "--group", "99"], 1, &["nothing is parked in group 99"]).await;
    says(&pair, &["failures", "retry", "--key", "denied/1"], 0, &["1 objects are tried again when a worker runs"])
        .await;
    let mut worker = started(&pair).await;
    eventually("it is parked again", PATIENCE, async || asked(&pair, &["status"]).await["failed"] == 2).await;
    target.clear();
    says(&pair, &["failures", "retry", "--prefix", "denied/"], 0, &["2 objects are tried again now"]).await;
    eventually("all is there", PATIENCE, async || list(&pair.target).await.len() == 3).await;
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(compare(&pair).await, NOTHING);
}

/// P7, P9: a disabled key is told with its ARN and what to do; enabled again and retried, all of it goes on.
#[tokio::test]
async fn a_disabled_key_is_told_with_its_fix() {
    let pair = setup().rule("kms_key = \"{target_key}\"").build().await;
    let kms = pair.kms(pair.target.region);
    kms.disable_key().key_id(&pair.target_key).send().await.unwrap();
    pair.source.put("sealed", "s").await;
    work_off_with(&pair, 1).await;
    let key = &pair.target_key;
    let fault = format!("could not use the target key at the target: {key} is not enabled: enable it");
    let fix =
        format!("see that {key} exists in the target's region, is enabled, and allows the worker kms:GenerateDataKey");
    says(&pair, &["failures"], 0, &["key-unusable at the target, target dr, rule all", &fault, &fix]).await;
    let story = asked(&pair, &["why", &format!("s3://{}/sealed", pair.source.name)]).await;
    assert_eq!(
        (&story["state"], &story["attempts"][0]["kind"]),
        (&json!("parked"), &json!("key-unusable")),
        "{story:#}"
    );
    kms.enable_key().key_id(&pair.target_key).send().await.unwrap();
    let mut worker = started(&pair).await;
    says(&pair, &["failures", "retry", "--all"], 0, &["1 objects are tried again now"]).await;
    eventually("it arrives", PATIENCE, async || list(&pair.target).await.len() == 1).await;
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// Dropping asks, is noted for `why`, and ends the upload that nobody will go on with.
#[tokio::test]
async fn what_is_dropped_leaves_no_open_upload() {
    let (pair, target, _queue) = between(setup()).await;
    let second_part = |seen: &Seen| seen.query.get("partNumber").is_some_and(|number| number == "2");
    target.add(Rule::when(second_part, Act::error(403, "AccessDenied")));
    for key in ["one", "two"] {
        pair.source.put_multipart(key, 1, &Multipart::of(&[5 * MIB, 100])).await;
    }
    work_off_with(&pair, 1).await;
    let open = async || {
        let listed = pair.target.s3.list_multipart_uploads().bucket(&pair.target.name).send().await.unwrap();
        listed.uploads().len()
    };
    assert_eq!(open().await, 2, "the test opened no uploads");
    says(&pair, &["failures", "drop", "--all"], 2, &["nothing was dropped", "add --yes if that is meant"]).await;
    says(&pair, &["failures", "drop"], 2, &["--group <ID>"]).await;
    let dropped = asked(&pair, &["failures", "drop", "--key", "one", "--yes"]).await;
    assert_eq!(
        dropped,
        json!({"dropped": 1, "messages_dropped": 0, "uploads_aborted": 1, "faults": [], "worker": false})
    );
    assert_eq!(open().await, 1);

    // One that cannot be aborted stays noted, and the next start of a worker ends it.
    target.add(Rule::when(|seen| seen.method == "DELETE", Act::error(403, "AccessDenied")));
    let told = "an upload stays open, and the next start of a worker tries again: could not abort upload at the target";
    says(&pair, &["failures", "drop", "--all", "--yes"], 1, &["dropped 1 objects and 0 messages", told]).await;
    assert_eq!(open().await, 1);
    target.clear();
    let mut worker = started(&pair).await;
    eventually("the orphan is ended", PATIENCE, async || open().await == 0).await;
    worker.terminate(PATIENCE).await.expect_code(0);

    let story = asked(&pair, &["why", &format!("s3://{}/one", pair.source.name)]).await;
    assert_eq!(story["state"], "missing", "{story:#}");
    assert!(story["reason"].as_str().unwrap().contains("dropped by an operator while parked: denied"), "{story:#}");
    assert!(
        story["next"].as_str().unwrap().contains("`repl sync --prefix KEY` brings what events missed"),
        "{story:#}"
    );
}

/// P12: quarantined messages are shown whole, read again by this version, or dropped.
#[tokio::test]
async fn quarantined_messages_are_shown_read_again_and_dropped() {
    let pair = setup().build().await;
    let odd = format!("{{\"escape\": \"\u{9b}2J\", \"filler\": \"{}\"}}", "x".repeat(5000));
    pair.put_message(&odd).await;
    pair.put_message("not JSON").await;
    work_off_with(&pair, 1).await;
    let failures = asked(&pair, &["failures"]).await;
    let messages = failures["quarantined"].as_array().unwrap();
    let names: Vec<&str> = messages[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["id", "reason", "received", "body", "body_bytes", "message_id"]);
    let number = messages.iter().find(|message| message["body"] != "not JSON").unwrap()["id"].to_string();
    let other = messages.iter().find(|message| message["body"] == "not JSON").unwrap()["id"].to_string();
    assert_eq!(asked(&pair, &["failures", "show", &number]).await["body"], odd);
    let shown = command(&pair, &["failures", "show", &number]).await.expect_code(0).stdout;
    assert!(!shown.contains('\u{9b}') && shown.contains("escape"), "it could steer a terminal: {shown:?}");
    says(&pair, &["failures", "show", "99"], 2, &["there is no message 99 in the quarantine"]).await;
    let stays = format!("message {other} stays: the message is not JSON");
    says(&pair, &["failures", "retry", "--message", &other], 1, &[&stays]).await;

    // A message that an earlier version did not understand and this one does.
    pair.source.put("late", "late").await;
    let told = pair.take_all_events(1).await;
    let ledger = Ledger::open(&pair.ledger).unwrap();
    let message = Quarantined {
        id: 0,
        message_id: "m".to_owned(),
        reason: "unknown event".to_owned(),
        received: Timestamp(1),
        body: told[0].body.clone(),
    };
    ledger.admit(Admission { quarantined: vec![message], ..Admission::default() }).await.unwrap();
    drop(ledger);
    let mut worker = started(&pair).await;
    says(&pair, &["failures", "retry", "--messages"], 1, &["1 messages were understood", &stays]).await;
    eventually("it arrives", PATIENCE, async || list(&pair.target).await.len() == 1).await;
    says(&pair, &["failures", "drop", "--messages", "--yes"], 0, &["dropped 0 objects and 2 messages"]).await;
    assert_eq!(asked(&pair, &["failures"]).await["quarantined_total"], 0);
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(work_off(&pair).await["quarantined"], 0);
}

/// P8, P12: a queue that is gone is told, and is no reason to be believed caught up; the worker goes on asking.
#[tokio::test]
async fn a_queue_that_is_gone_is_told() {
    let pair = setup().build().await;
    let mut worker = started(&pair).await;
    pair.sqs.delete_queue().queue_url(&pair.queue_url).send().await.unwrap();
    eventually("the fault is told", PATIENCE, async || asked(&pair, &["status"]).await["queue"]["fault"].is_string())
        .await;
    let status = asked(&pair, &["status"]).await;
    assert_eq!((&status["state"], &status["caught_up"]), (&json!("running"), &Value::Null), "{status:#}");
    says(&pair, &["status"], 0, &["queue fault   could not re", "at the queue: "]).await;
    says(&pair, &["drain"], 0, &["drained"]).await;
    worker.end(PATIENCE).await.expect_code(0);
}

/// P1, P8: a message that was handed out too often lies where no worker looks, so it is told until it has come back.
#[tokio::test]
async fn what_the_queue_gave_up_is_told_until_it_is_back() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    pair.source.put("k", "v").await;
    let lost = pair.take_all_events(1).await.remove(0);
    pair.sqs.send_message().queue_url(&pair.dead_letter_url).message_body(&lost.body).send().await.unwrap();

    let ended = command(&pair, &["run", "--until-idle=1s"]).await.expect_code(1);
    assert!(ended.stderr.contains("has given messages up into its dead-letter queue"), "{}", ended.stderr);
    let checked = asked(&pair, &["check", "--read-only"]).await;
    let row = checked["checks"].as_array().unwrap().iter().find(|row| row["name"] == "dead-letters").unwrap();
    assert_eq!(row["outcome"], "fail", "{row}");
    assert!(row["fix"].as_str().unwrap().contains("start-message-move-task --source-arn arn:aws:sqs:"), "{row}");

    let mut worker = started(&pair).await;
    eventually("it knows of the dead letter", PATIENCE, async || {
        asked(&pair, &["status"]).await["queue"]["dead_letters"] == 1
    })
    .await;
    let status = asked(&pair, &["status"]).await;
    assert_eq!(status["caught_up"], Value::Null, "{status}");
    let doubt = status["rpo"]["doubt"].as_str().unwrap();
    assert!(doubt.contains("the dead-letter queue holds 1 message"), "{doubt}");
    says(&pair, &["status"], 0, &["dead letters  1: changes in them may be missing"]).await;

    // Given back, as a redrive does it.
    pair.sqs.purge_queue().queue_url(&pair.dead_letter_url).send().await.unwrap();
    pair.put_message(&lost.body).await;
    says(&pair, &["drain"], 0, &["drained"]).await;
    worker.end(PATIENCE).await.expect_code(0);
    command(&pair, &["run", "--until-idle=1s"]).await.expect_code(0);
    assert_eq!(compare(&pair).await, NOTHING);
}

/// Limits change at once, are told with who set them, and hold over a restart until they are reset.
#[tokio::test]
async fn limits_change_while_the_worker_runs() {
    let windows = "[[transfer.windows]]\nfrom = \"00:00\"\nto = \"24:00\"\nrequests_per_second = 500\n";
    let pair = setup().more(&format!("[transfer]\nmode = \"stream\"\nbandwidth = \"1KiB/s\"\n{windows}")).build().await;
    let told = asked(&pair, &["limit"]).await;
    let names: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["bandwidth", "requests_per_second", "concurrency", "set_by", "until"]);
    assert_eq!((&told["bandwidth"], &told["requests_per_second"]), (&json!("1KiB/s"), &json!(500)));
    assert_eq!(
        told["set_by"],
        json!({"bandwidth": "config", "requests_per_second": "window", "concurrency": "config"})
    );
    says(
        &pair,
        &["limit", "bandwidth=fast", "memory=1"],
        2,
        &["bandwidth: \"fast\" does not end in \"/s\"", "there is no limit \"memory\""],
    )
    .await;

    // 2 MiB at 1 KiB/s would take half an hour.
    pair.source.put("large", vec![7; 2 * MIB]).await;
    let mut worker = started(&pair).await;
    eventually("it is under way", PATIENCE, async || asked(&pair, &["status"]).await["pending"]["operations"] == 1)
        .await;
    assert_eq!(list(&pair.target).await.len(), 0);
    says(
        &pair,
        &["limit", "bandwidth=unlimited", "concurrency=3"],
        0,
        &["unlimited", "by the operator, until `repl limit --reset`"],
    )
    .await;
    eventually("it is there", PATIENCE, async || list(&pair.target).await.len() == 1).await;
    assert_eq!(asked(&pair, &["status"]).await["limits"]["concurrency"], 3);
    worker.kill().await;

    let mut worker = started(&pair).await;
    let limits = asked(&pair, &["status"]).await["limits"].clone();
    assert_eq!((&limits["bandwidth"], &limits["set_by"]["bandwidth"]), (&json!("unlimited"), &json!("operator")));
    says(&pair, &["limit", "--reset"], 0, &["1KiB/s", "by the config", "by a window of the config"]).await;
    assert_eq!(asked(&pair, &["limit"]).await["concurrency"], "auto");
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// P1, P10: what the quarantine has no room for stays in the queue, and is told.
#[tokio::test]
async fn a_full_quarantine_leaves_messages_in_the_queue() {
    let pair = setup().build().await;
    let ledger = Ledger::open(&pair.ledger).unwrap();
    let large = Quarantined {
        id: 0,
        message_id: "m".to_owned(),
        reason: "r".to_owned(),
        received: Timestamp(1),
        body: "x".repeat(MIB - 2),
    };
    let quarantined = std::iter::repeat_n(large, 65).collect();
    ledger.admit(Admission { quarantined, ..Admission::default() }).await.unwrap();
    let kept = ledger.totals().quarantined;
    assert_eq!(kept, 64, "64 MiB in all");
    drop(ledger);
    pair.put_message(&"y".repeat(100_000)).await;
    pair.put_message("small and odd").await;
    pair.source.put("fine", "f").await;
    let mut worker = started(&pair).await;
    eventually("it is turned away", PATIENCE, async || {
        asked(&pair, &["failures"]).await["turned_away"].as_u64() > Some(0)
    })
    .await;
    eventually("others go on", PATIENCE, async || list(&pair.target).await.len() == 1).await;
    says(&pair, &["failures"], 0, &["the quarantine is full", "dead-letter queue; retry or drop what is here"]).await;
    says(&pair, &["status"], 0, &["quarantine    full: messages stay in the queue"]).await;
    assert!(worker.stderr().contains("the quarantine is full"), "{}", worker.stderr());
    worker.terminate(PATIENCE).await.expect_code(0);
    assert!(pair.queue_depth().await + pair.dead_letters().await >= 1, "a message was lost");
}

// The socket -----------------------------------------------------------------------------------------------------------

/// Says this to the worker's socket and gives the answer, empty where the connection was broken off.
async fn answer_to(pair: &Pair, said: &[u8]) -> String {
    let mut stream = UnixStream::connect(pair.ledger.join("repl.sock")).await.unwrap();
    // The worker may close before all of it is said.
    drop(stream.write_all(said).await);
    drop(stream.shutdown().await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

/// Garbage is answered, callers that are mute, go away or do not read hold up nobody, strangers are refused.
#[tokio::test]
async fn the_socket_answers_whatever_others_do_to_it() {
    let pair = setup().build().await;
    let mut worker = started(&pair).await;
    for (said, answer) in [
        (&b"\xff\x00garbage\n"[..], "the question is not JSON"),
        (b"{\"ask\":\"sta", "the question is not JSON"),
        (b"", "the question is not JSON"),
        (b"[1]\n", "the question says nothing under"),
        (b"{\"ask\":\"everything\"}\n", "the worker does not know the question"),
        (b"{\"ask\":\"control\"}\n", "the question does not say whether to pause"),
        (b"{\"ask\":\"control\",\"paused\":true,\"until\":5}\n", "is no text"),
        (b"{\"ask\":\"failures-drop\"}\n", "the question does not say which failures are meant"),
        (b"{\"ask\":\"why\"}\n", "the question names no key"),
        (b"{\"ask\":\"limit\",\"settings\":[\"x=1\"]}\n", "there is no limit"),
    ] {
        let answered = answer_to(&pair, said).await;
        assert!(answered.contains(answer), "{} is answered with {answered:?}", said.escape_ascii());
    }
    let long = answer_to(&pair, &vec![b'x'; MIB]).await;
    assert!(long.is_empty() || long.contains("more than the 65536 bytes"), "{long:?}");

    let mut held = Vec::new();
    for number in 0..300 {
        let mut stream = UnixStream::connect(pair.ledger.join("repl.sock")).await.unwrap();
        if number % 3 == 0 {
            // Asks, and never reads.
            drop(stream.write_all(b"{\"ask\":\"status\"}\n").await);
        } else if number % 3 == 1 {
            drop(stream.write_all(b"{\"ask\":").await);
        }
        held.push(stream);
    }
    for _ in 0..5 {
        assert_eq!(asked(&pair, &["status"]).await["state"], "running");
    }
    let asking = (0..200).map(|_| answer_to(&pair, b"{\"ask\":\"ping\"}\n"));
    let answers = futures_util::future::join_all(asking).await;
    assert!(answers.iter().all(|answer| answer.contains("\"pid\"")), "a caller in the crowd was not answered");
    drop(held);
    assert_eq!(asked(&pair, &["status"]).await["state"], "running");

    let socket = pair.ledger.join("repl.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    if socket.metadata().unwrap().uid() == 0 {
        let directory = pair.directory.path();
        for open in [directory, &pair.ledger] {
            std::fs::set_permissions(open, Permissions::from_mode(0o755)).unwrap();
        }
        let refused = stranger(&pair).await;
        assert!(refused.contains("it belongs to another user; ask as that user"), "{refused}");
        std::fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
        let refused = stranger(&pair).await;
        assert!(refused.contains("the worker answers user 0 and root, not user 65534"), "{refused}");
    }
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// What `repl status` says to another user; it must end with 3.
async fn stranger(pair: &Pair) -> String {
    let mut command = tokio::process::Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", env!("CARGO_BIN_EXE_repl"), "status", "--config"]);
    let output = command.arg(&pair.config).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    said
}

// Why ------------------------------------------------------------------------------------------------------------------

/// Every field is there, for keys that were never seen too, without a ledger, and without a rule.
#[tokio::test]
async fn why_tells_of_keys_never_seen() {
    let rules = "[[rules]]\nid = \"off\"\ntarget = \"dr\"\nprefix = \"off/\"\nstatus = \"disabled\"\n\n\
                 [[rules]]\nid = \"on\"\ntarget = \"dr\"\nprefix = \"on/\"\ntarget_prefix = \"from-us/\"\n";
    let pair = setup().rule(rules).build().await;
    let bucket = pair.source.name.clone();
    let story = asked(&pair, &["why", &format!("s3://{bucket}/on/never")]).await;
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(&story),
        "key version rule state source target events attempts reason next targets paused paused_until as_of"
    );
    assert_eq!(
        names(&story["source"]),
        "bucket key kind version etag size modified storage_class encryption checksum content_type metadata \
         retain_until legal_hold stamp fault region"
    );
    assert_eq!((&story["state"], &story["rule"]), (&json!("gone"), &json!("on")));
    assert_eq!(story["reason"], "the source has no such object");
    assert_eq!((&story["events"], &story["attempts"]), (&json!([]), &json!([])));
    assert_eq!(story["target"]["key"], "from-us/on/never");
    for (key, reason) in [
        ("off/1", "rule \"off\" matches the key but is disabled"),
        ("elsewhere", "no rule has a prefix that the key begins with"),
    ] {
        let story = asked(&pair, &["why", &format!("s3://{bucket}/{key}")]).await;
        assert_eq!((&story["state"], &story["rule"]), (&json!("not-replicated"), &Value::Null));
        assert_eq!(story["reason"], reason);
    }
    assert!(!pair.ledger.exists(), "looking made a ledger");
    let target = format!("s3://{}/from-us/on/x", pair.target.name);
    assert_eq!(asked(&pair, &["why", &target]).await["key"], "on/x", "a replica is asked for by its own name");
    says(&pair, &["why", "s3://other-bucket/k"], 2, &["bucket \"other-bucket\" is not in the config, which has"]).await;
    says(&pair, &["why", "on/never"], 2, &["\"on/never\" names no object: accepted is one such as s3://"]).await;
    says(&pair, &["why", &format!("{target}?versionId=v")], 2, &["a version is named by its id in the source bucket"])
        .await;
    says(&pair, &["why", &format!("s3://{bucket}/on/never")], 0, &["target dr, rule on: gone", "events: none"]).await;
}

/// Whoever asks why while no worker runs does not keep one from starting, however long the sides take to answer.
#[tokio::test]
async fn why_does_not_hold_the_ledger_while_it_looks() {
    let (pair, target, _queue) = between(setup()).await;
    pair.source.put("slow", "content").await;
    command(&pair, &["run", "--until-idle=1s"]).await.expect_code(0);
    target.forget();
    target.add(Rule::when(|seen| seen.path.ends_with("/slow"), Act::Delay(PATIENCE)));
    let said = ["why.out", "why.err"].map(|name| pair.directory.path().join(name));
    let _asking = spawn_repl_into(&pair, &["why", &format!("s3://{}/slow", pair.source.name)], said);
    eventually("it looks", PATIENCE, async || target.count(|seen| seen.path.ends_with("/slow")) > 0).await;
    command(&pair, &["run", "--until-idle=1s"]).await.expect_code(0);
}

/// Odd keys, single versions, changes behind repl's back, and a source that cannot be seen.
#[tokio::test]
async fn why_tells_where_an_object_stands_and_what_comes_next() {
    let source = Proxy::before(&Server::Ministack.access().endpoint);
    let pair = Setup { source_endpoint: Some(source.endpoint()), ..setup() }.build().await;
    let odd = "ü +%2B \u{9b}&?versionId=x";
    let first = pair.source.put(odd, "one").await.unwrap();
    let second = pair.source.put(odd, "second").await.unwrap();
    pair.source.put("changed", "as it was").await;
    let mut worker = started(&pair).await;
    eventually("all is there", PATIENCE, async || list(&pair.target).await.len() == 3).await;
    let address = format!("s3://{}/{odd}", pair.source.name);
    let story = asked(&pair, &["why", "--literal", &address]).await;
    assert_eq!(
        (&story["state"], &story["next"]),
        (&json!("replicated"), &json!("nothing: both sides agree")),
        "{story:#}"
    );
    assert_eq!((&story["source"]["version"], &story["target"]["stamp"]["version"]), (&json!(second), &json!(second)));
    assert_eq!(story["target"]["differences"], json!([]));
    let outcomes: Vec<&str> =
        story["attempts"].as_array().unwrap().iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["replicated", "replicated"]);
    assert!(story["events"][0]["sequencer"].is_string() && story["events"][0]["at"].is_string(), "{story:#}");
    let older = asked(&pair, &["why", &format!("{address}?versionId={first}")]).await;
    assert_eq!((&older["state"], &older["source"]["size"]), (&json!("replicated"), &json!(3)), "{older:#}");
    assert_eq!(older["target"]["stamp"]["version"], json!(first));
    assert_eq!(older["events"].as_array().unwrap().len(), 1);
    let encoded = address.replace('%', "%25").replace('+', "%2B").replace('ü', "%C3%BC");
    assert_eq!(asked(&pair, &["why", "--encoded", "--literal", &encoded]).await["key"], odd);
    let shown = command(&pair, &["why", "--literal", &address]).await.expect_code(0).stdout;
    assert!(shown.contains("rule all: replicated") && !shown.contains('\u{9b}'), "{shown}");
    worker.terminate(PATIENCE).await.expect_code(0);

    pair.target.put("changed", "by somebody else").await;
    let changed = format!("s3://{}/changed", pair.source.name);
    let story = asked(&pair, &["why", &changed]).await;
    assert_eq!(story["state"], "different", "{story:#}");
    assert_eq!(story["target"]["differences"][0], "9 bytes at the source, 16 at the target");
    assert!(story["next"].as_str().unwrap().contains("`repl sync --prefix KEY` brings"), "{story:#}");
    says(&pair, &["why", &changed], 0, &["*size", "differs: 9 bytes at the source, 16 at the target"]).await;

    source.add(Rule::when(|seen| seen.method == "HEAD", Act::error(403, "AccessDenied")));
    let story = asked(&pair, &["why", &changed]).await;
    assert_eq!((&story["state"], &story["source"]["kind"]), (&json!("unknown"), &Value::Null), "{story:#}");
    assert!(story["reason"].as_str().unwrap().starts_with("could not look at object at the source: "), "{story:#}");
    assert_eq!(story["target"]["kind"], "object", "the other side is told all the same");
}
