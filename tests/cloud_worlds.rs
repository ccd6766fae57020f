//! Broken worlds, and the sentence that each command has for them. Those of `repl check` stand in cloud_check.rs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use aws_sdk_s3::types::NotificationConfiguration;
use serde_json::Value;
use support::compare::compare;
use support::pair::{Pair, Setup, bucket_table};
use support::proxy::{Act, Proxy, Rule};
use support::servers::Server;
use support::worker::{Output, eventually, spawn_repl, spawn_repl_into, work_off_with};

const PATIENCE: Duration = Duration::from_secs(120);

fn setup() -> Setup {
    Setup::on(Server::Ministack, Server::Ministack).more("[transfer]\nmode = \"stream\"\n")
}

async fn command(pair: &Pair, args: &[&str]) -> Output {
    let said = ["command.out", "command.err"].map(|name| pair.directory.path().join(name));
    spawn_repl_into(pair, args, said).end(PATIENCE).await
}

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

/// A target that answers everything so.
async fn target_answers(act: Act) -> (Pair, Proxy) {
    let target = Proxy::before(&Server::Ministack.access().endpoint);
    let pair = Setup { target_endpoint: Some(target.endpoint()), ..setup() }.build().await;
    target.add(Rule::when(|_| true, act));
    pair.source.put("k", "content").await;
    (pair, target)
}

/// The cause in the status, and what it is and what mends it in `failures` and `why`.
async fn told_everywhere(pair: &Pair, cause: &str, sentences: &[&str]) {
    says(pair, &["status"], 0, &[&format!("1 objects: {cause}")]).await;
    says(pair, &["failures"], 0, &[&[cause][..], sentences].concat()).await;
    let object = format!("s3://{}/k", pair.source.name);
    says(pair, &["why", &object], 0, &[&["target dr, rule all: parked"][..], sentences].concat()).await;
}

/// Once the world is mended, what was parked goes on.
async fn mended(pair: &Pair) {
    says(pair, &["failures", "retry", "--all"], 0, &["1 objects are tried again when a worker runs"]).await;
    work_off_with(pair, 0).await;
    assert_eq!(compare(pair).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_target_in_another_region() {
    let body = "<Error><Code>PermanentRedirect</Code><Message>The bucket is elsewhere.</Message></Error>".to_owned();
    let headers = vec![("x-amz-bucket-region", "eu-west-1".to_owned()), ("content-type", "application/xml".to_owned())];
    let (pair, target) = target_answers(Act::Answer { status: 301, headers, body }).await;
    work_off_with(&pair, 1).await;
    let fault = "PermanentRedirect: The bucket is elsewhere. (the bucket lives in region eu-west-1)";
    let fix = "is in another region: set region = \"eu-west-1\" in [targets.dr] and restart";
    told_everywhere(&pair, "refused (PermanentRedirect) at the target, target dr, rule all", &[fault, fix]).await;
    target.clear();
    mended(&pair).await;
}

#[tokio::test]
async fn a_clock_that_is_off() {
    let (pair, target) = target_answers(Act::error(403, "RequestTimeTooSkewed")).await;
    work_off_with(&pair, 1).await;
    let fix = "set the clock of this machine: it is more than 15 minutes off";
    told_everywhere(&pair, "denied (RequestTimeTooSkewed) at the target, target dr, rule all", &[fix]).await;
    target.clear();
    mended(&pair).await;
}

#[tokio::test]
async fn a_bucket_whose_replication_cannot_be_read() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let pair = setup().build().await;
    let (bucket, endpoint) = (pair.source.name.as_str(), proxy.endpoint());
    let place = pair.directory.path().join("new.toml");
    let headers = vec![("x-amz-bucket-region", "eu-west-1".to_owned())];
    let moved = Act::Answer { status: 301, headers, body: String::new() };
    let needs =
        format!("; it needs s3:GetReplicationConfiguration and s3:GetBucketLocation on arn:aws:s3:::{bucket}, in");
    for (act, sentence) in [
        (Act::error(403, "AccessDenied"), needs.as_str()),
        (Act::error(403, "RequestTimeTooSkewed"), "; set the clock of this machine (timedatectl set-ntp true)"),
        (Act::error(403, "InvalidAccessKeyId"), "; give valid credentials for the source: in the environment"),
        (Act::error(404, "NoSuchBucket"), "; name a bucket that exists with --from-bucket"),
        (moved, "(the bucket lives in region eu-west-1); say --source-region eu-west-1"),
    ] {
        proxy.clear();
        proxy.add(Rule::when(|_| true, act));
        let output = place.to_str().unwrap();
        let mut init = Command::new(env!("CARGO_BIN_EXE_repl"));
        init.args(["init", "--from-bucket", bucket, "--source-endpoint", &endpoint, "--output", output]);
        init.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").stdin(Stdio::null());
        let told = init.output().unwrap();
        let said = String::from_utf8(told.stderr).unwrap();
        let begins = format!("repl: the replication of bucket {bucket:?} could not be read: could not read ");
        assert!(said.starts_with(&begins) && said.contains(sentence), "{sentence}: {said}");
        assert_eq!((told.status.code(), said.lines().count(), place.exists()), (Some(3), 1, false), "{said}");
    }
}

#[tokio::test]
async fn a_bucket_without_notifications() {
    let pair = setup().more("[canary]\nevery = \"5s\"\n").build().await;
    let nothing = NotificationConfiguration::builder().build();
    let put = pair.source.s3.put_bucket_notification_configuration().bucket(&pair.source.name);
    put.notification_configuration(nothing).send().await.unwrap();
    pair.source.put("k", "content").await;
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the canary does not arrive", PATIENCE, async || {
        asked(&pair, &["status"]).await["canary"]["fault"].is_string()
    })
    .await;
    let fault =
        "was not at target dr within 10 s: see `repl status` for the queue and `repl check` for what its event needs";
    says(&pair, &["status"], 0, &["canary fault  the canary of ", fault]).await;
    let object = format!("s3://{}/k", pair.source.name);
    let why = [
        "target dr, rule all: missing",
        "at the target nothing is there, and nothing is pending",
        "nothing, unless another event comes: `repl sync --prefix KEY` brings what events missed",
        "events: none that the ledger remembers",
    ];
    says(&pair, &["why", &object], 0, &why).await;
    says(&pair, &["check", "--wait", "1s"], 1, &["has no notification that goes to ", "repl apply notifications"])
        .await;
    worker.terminate(PATIENCE).await.expect_code(0);
    // What is recommended does it.
    command(&pair, &["sync", "--prefix", "k"]).await.expect_code(0);
    says(&pair, &["why", &object], 0, &["nothing: both sides agree"]).await;
}

#[tokio::test]
async fn a_queue_that_may_not_be_read() {
    let queue = Proxy::before(&Server::Ministack.access().endpoint);
    let pair = Setup { queue_endpoint: Some(queue.endpoint()), ..setup() }.build().await;
    let body = r#"{"__type":"com.amazonaws.sqs#AccessDeniedException","message":"no"}"#.to_owned();
    let headers = vec![("content-type", "application/x-amz-json-1.0".to_owned())];
    queue.add(Rule::when(|_| true, Act::Answer { status: 403, headers, body }));
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("it is told", PATIENCE, async || asked(&pair, &["status"]).await["queue"]["fault"].is_string()).await;
    let fault = "at the queue: AccessDeniedException: no; `repl check` tells what mends it";
    says(&pair, &["status"], 0, &["caught up     unknown", "queue fault   could not re", fault]).await;
    assert!(worker.stderr().contains("the queue cannot be read; trying again"), "{}", worker.stderr());
    queue.clear();
    eventually("it is read", PATIENCE, async || asked(&pair, &["status"]).await["queue"]["fault"].is_null()).await;
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// A small disk that is full: nothing is lost, nothing is made up, and each command says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    let pair = setup().build().await;
    pair.hide_briefly().await;
    std::fs::create_dir_all(&pair.ledger).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "repl-test"]).arg(&pair.ledger).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: a small tmpfs cannot be mounted here, so that no full disk was seen");
    }
    let _mounted = Mounted(pair.ledger.clone());
    let mut worker = spawn_repl(&pair, &["run"]);
    pair.source.put("k", "content").await;
    eventually("it works", PATIENCE, async || asked(&pair, &["status"]).await["replicated"]["operations"] == 1).await;
    // More than there is room for: what fits is written.
    let filler = pair.ledger.join("filler");
    drop(std::fs::write(&filler, vec![1; 16 << 20]));
    for number in 0..200 {
        pair.source.put(&format!("late/{number}"), "content").await;
    }
    let ended = worker.end(PATIENCE).await.expect_code(3);
    // The fault itself, or that nothing is taken since.
    for part in [
        "repl: stopped, and nothing was acknowledged since: could not write the ledger on this machine: ",
        "its disk is full",
        "; free the disk or mend it, then start again",
    ] {
        let last = ended.stderr.lines().last().unwrap();
        assert!(last.contains(part), "{part:?}: {}", ended.stderr);
    }

    let ledger = pair.ledger.display();
    let sentence =
        format!("repl: could not open the ledger on this machine: {ledger}: its disk is full; free some of it first\n");
    let object = format!("s3://{}/k", pair.source.name);
    for args in [
        &["status"][..],
        &["why", &object],
        &["failures"],
        &["failures", "retry", "--all"],
        &["brake"],
        &["limit", "concurrency=3"],
        &["pause"],
        &["resume"],
        &["sync"],
        &["run", "--until-idle=1s"],
    ] {
        let said = command(&pair, args).await.expect_code(3);
        assert_eq!((said.stdout.as_str(), &said.stderr), ("", &sentence), "{args:?}");
    }
    std::fs::remove_file(filler).unwrap();
    work_off_with(&pair, 0).await;
    assert_eq!(compare(&pair).await, Vec::<String>::new());
}

/// A mount that goes with the test.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status());
    }
}

/// Two targets, of which one refuses: each has its own state, reason and next step, and the fields beside are the first's.
#[tokio::test]
async fn one_of_two_targets_refuses() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let mut pair = setup().build().await;
    let second = pair.another_target().await;
    let mut table = String::new();
    bucket_table(&mut table, "targets.two", &second, &proxy.endpoint());
    pair.setup.more.push_str(&table);
    pair.setup.rule = "[[rules]]\nid = \"first\"\ntarget = \"dr\"\n[[rules]]\nid = \"second\"\ntarget = \"two\"\n\
                       prefix = \"k\"\ntarget_prefix = \"from-us/\"\n"
        .to_owned();
    pair.write_config();
    proxy.add(Rule::when(|seen| seen.method == "PUT", Act::error(403, "AccessDenied")));
    pair.source.put("k", "content").await;
    pair.source.put("other", "content").await;
    work_off_with(&pair, 1).await;
    let object = format!("s3://{}/k", pair.source.name);
    let story = asked(&pair, &["why", &object]).await;
    let targets = story["targets"].as_array().unwrap();
    let told = |field: &str| targets.iter().map(|each| each[field].as_str().unwrap_or("-")).collect::<Vec<_>>();
    assert_eq!(told("name"), ["dr", "two"]);
    assert_eq!((told("state"), told("rule")), (vec!["replicated", "parked"], vec!["first", "second"]));
    assert_eq!(targets[1]["target"]["key"], "from-us/k");
    assert_eq!(targets[1]["reason"], "could not write object at the target: AccessDenied: as the test says");
    let statement = format!("s3:PutObjectLegalHold on arn:aws:s3:::{}/*", second.name);
    assert!(targets[1]["next"].as_str().unwrap().contains(&statement), "{story:#}");
    for field in ["rule", "state", "reason", "next"] {
        assert_eq!(story[field], targets[0][field], "{field} is the first target's");
    }
    let ends = story["attempts"].as_array().unwrap().iter();
    let mut ends: Vec<_> =
        ends.map(|each| (each["target"].as_str().unwrap(), each["outcome"].as_str().unwrap())).collect();
    ends.sort_unstable();
    assert_eq!(ends, [("dr", "replicated"), ("two", "failed")]);
    says(&pair, &["why", &object], 0, &["target dr, rule first: replicated", "target two, rule second: parked"]).await;

    let other = asked(&pair, &["why", &format!("s3://{}/other", pair.source.name)]).await;
    assert_eq!((&other["state"], &other["rule"]), (&"replicated".into(), &"first".into()), "{other:#}");
    assert_eq!(other["targets"][1]["no_rule"], "no rule has a prefix that the key begins with", "{other:#}");
    // A replica is asked for by its own name, whichever target has it.
    let replica = format!("s3://{}/from-us/k", second.name);
    assert_eq!(asked(&pair, &["why", &replica]).await["key"], "k");
    proxy.clear();
    says(&pair, &["failures", "retry", "--all"], 0, &["1 objects are tried again when a worker runs"]).await;
    work_off_with(&pair, 0).await;
    let story = asked(&pair, &["why", &object]).await;
    let states: Vec<&Value> = story["targets"].as_array().unwrap().iter().map(|each| &each["state"]).collect();
    assert_eq!(states, ["replicated", "replicated"], "{story:#}");
}
