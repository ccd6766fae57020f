//! The canary: it arrives and is timed; when it does not, status says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::pair::{Bucket, Pair, Setup};
use support::proxy::{Act, Proxy, Rule};
use support::servers::Server;
use support::worker::{eventually, spawn_repl, spawn_repl_into};

const PATIENCE: Duration = Duration::from_secs(60);

fn setup() -> Setup {
    Setup::on(Server::Ministack, Server::Ministack).more("[canary]\nevery = \"1s\"\n")
}

async fn canary(pair: &Pair) -> Value {
    let said = ["status.out", "status.err"].map(|name| pair.directory.path().join(name));
    spawn_repl_into(pair, &["status", "--json"], said).end(PATIENCE).await.expect_code(0).json()["canary"].clone()
}

async fn versions(bucket: &Bucket) -> usize {
    let all = bucket.s3.list_object_versions().bucket(&bucket.name).prefix(".repl/").send().await.unwrap();
    all.versions().len() + all.delete_markers().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_arrives_is_timed_and_leaves_no_heap_behind() {
    let pair = setup().build().await;
    let mut worker = spawn_repl(&pair, &["run"]);
    let mut first = Value::Null;
    eventually("the first arrives", PATIENCE, async || {
        first = canary(&pair).await;
        first["last_seen"].is_string()
    })
    .await;
    assert!(first["latency_seconds"].as_f64().unwrap() > 0.0 && first["fault"].is_null(), "{first}");
    let object = pair.target.s3.get_object().bucket(&pair.target.name).key(".repl/canary").send().await.unwrap();
    let text = object.body.collect().await.unwrap().into_bytes();
    assert!(text.starts_with(b"repl canary "), "{text:?}");
    // Three more rounds, and no more versions than those under way.
    for _ in 0..3 {
        let before = canary(&pair).await["last_seen"].clone();
        eventually("the next arrives", PATIENCE, async || canary(&pair).await["last_seen"] != before).await;
    }
    eventually("old versions go", PATIENCE, async || {
        versions(&pair.source).await <= 2 && versions(&pair.target).await <= 2
    })
    .await;
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(canary(&pair).await, Value::Null, "nobody sends it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_it_does_not_arrive_status_says_so_and_when_it_does_again_too() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let pair = Setup { target_endpoint: Some(proxy.endpoint()), ..setup() }.build().await;
    proxy.add(Rule::when(|seen| seen.method == "PUT", Act::error(503, "SlowDown")));
    let mut worker = spawn_repl(&pair, &["run"]);
    let mut told = Value::Null;
    eventually("it is missed", PATIENCE, async || {
        told = canary(&pair).await;
        told["fault"].is_string()
    })
    .await;
    let fault = told["fault"].as_str().unwrap();
    assert!(fault.contains("was not at target dr within 10 s: see `repl status`"), "{fault}");
    assert!(told["last_seen"].is_null() && told["latency_seconds"].is_null(), "never a made-up value: {told}");
    assert!(worker.stderr().contains("the canary did not arrive"), "{}", worker.stderr());
    proxy.clear();
    eventually("it arrives again", PATIENCE, async || {
        let told = canary(&pair).await;
        told["fault"].is_null() && told["last_seen"].is_string()
    })
    .await;
    worker.terminate(PATIENCE).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_rule_or_a_permission_it_says_what_it_needs() {
    let pair = setup().rule("prefix = \"only/\"").build().await;
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("it is told", PATIENCE, async || {
        canary(&pair).await["fault"]
            == "no rule brings \".repl/canary\" to any target: add a rule with prefix = \".repl/\""
    })
    .await;
    worker.terminate(PATIENCE).await.expect_code(0);

    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let pair = Setup { source_endpoint: Some(proxy.endpoint()), ..setup() }.build().await;
    proxy.add(Rule::when(|seen| seen.method == "PUT", Act::error(403, "AccessDenied")));
    let mut worker = spawn_repl(&pair, &["run"]);
    let needs = format!(
        r#"it needs {{"Effect":"Allow","Action":["s3:PutObject","s3:DeleteObjectVersion"],"Resource":"arn:aws:s3:::{}/.repl/*"}}"#,
        pair.source.name
    );
    eventually("it is told", PATIENCE, async || {
        canary(&pair).await["fault"].as_str().is_some_and(|fault| fault.ends_with(&needs))
    })
    .await;
    worker.terminate(PATIENCE).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_may_have_one_each() {
    let pair = setup().build().await;
    let other = pair.another_worker();
    let mut workers = [spawn_repl(&pair, &["run"]), spawn_repl(&other, &["run"])];
    for _ in 0..2 {
        for pair in [&pair, &other] {
            let before = canary(pair).await["last_seen"].clone();
            eventually("each arrives", PATIENCE, async || {
                let told = canary(pair).await;
                told["last_seen"].is_string() && told["last_seen"] != before && told["fault"].is_null()
            })
            .await;
        }
    }
    for worker in &mut workers {
        worker.terminate(PATIENCE).await.expect_code(0);
    }
}
