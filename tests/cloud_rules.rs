//! What rules say, on real servers, and what status tells of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use serde_json::{Value, json};
use support::compare::{MARKER, compare, compare_as, list};
use support::pair::{Bucket, Expected, Markers, Pair, Setup, TARGET_REGION, bucket_table};
use support::servers::Server;
use support::worker::{eventually, run_repl, spawn_repl, work_off, work_off_with};

const NOTHING: [String; 0] = [];
const PATIENCE: Duration = Duration::from_secs(60);

fn on_ministack() -> Setup {
    Setup::on(Server::Ministack, Server::Ministack)
}

impl Bucket {
    async fn put_tagged(&self, key: &str, body: &'static str, tags: &str) {
        let body = ByteStream::from_static(body.as_bytes());
        self.s3.put_object().bucket(&self.name).key(key).body(body).tagging(tags).send().await.unwrap();
    }

    async fn metadata(&self, key: &str) -> HashMap<String, String> {
        let head = self.s3.head_object().bucket(&self.name).key(key).send().await.unwrap();
        head.metadata.unwrap_or_default()
    }
}

/// Prefix, priority, disabled rules, `target_prefix`, `storage_class` and `delete_markers`.
#[tokio::test]
async fn prefix_and_priority_choose_the_rule() {
    let rules = r#"
[[rules]]
id = "logs"
target = "dr"
priority = 1
prefix = "logs/"
target_prefix = "from us/"
storage_class = "STANDARD_IA"
[[rules]]
id = "off"
target = "dr"
priority = 9
prefix = "logs/off/"
status = "disabled"
[[rules]]
id = "nowhere"
target = "dr"
priority = 2
prefix = "nowhere/"
status = "disabled"
[[rules]]
id = "low"
target = "dr"
priority = 3
prefix = "p/"
target_prefix = "low/"
delete_markers = true
[[rules]]
id = "high"
target = "dr"
priority = 5
prefix = "p/h/"
target_prefix = "high/"
"#;
    let pair = on_ministack().rule(rules).build().await;
    let expected = [
        // A disabled rule claims nothing: the next one does.
        ("from us/logs/a", vec!["1"]),
        ("from us/logs/off/a", vec!["1"]),
        ("high/p/h/a", vec!["1"]),
        ("low/p/a", vec!["1", MARKER]),
    ];
    for key in ["logs/a", "logs/off/a", "nowhere/a", "p/a", "p/h/a", "unclaimed", "log"] {
        pair.source.put(key, "1").await;
        pair.source.delete(key).await;
    }
    let events = pair.take_all_events(14).await;
    pair.tell(&events).await;
    let report = work_off(&pair).await;
    assert_eq!(pair.target.keys().await, expected.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    for (key, story) in &expected {
        assert_eq!(pair.target.story(key).await, *story, "{key}");
    }
    for version in list(&pair.target).await.iter().filter(|version| !version.marker) {
        let head = pair.target.s3.head_object().bucket(&pair.target.name).key(&version.key).version_id(&version.id);
        let class = head.send().await.unwrap().storage_class.map(|class| class.as_str().to_owned());
        let expected = version.key.starts_with("from us/").then(|| "STANDARD_IA".to_owned());
        assert_eq!(class.filter(|class| class != "STANDARD"), expected, "{}", version.key);
    }
    assert_eq!(report["replicated"]["operations"], 5, "{report:#}");
    let rule = |id: &str| report["rules"].as_array().unwrap().iter().find(|rule| rule["id"] == id).unwrap().clone();
    assert_eq!(rule("low")["replicated"]["operations"], 2);
    assert_eq!(rule("logs")["replicated"]["operations"], 2);
    assert_eq!(rule("nowhere")["status"], "disabled");
    let before = list(&pair.target).await;
    pair.tell(events.iter().rev()).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before);
}

/// The object's own tags decide, and for a delete marker those of the version that it hides.
#[tokio::test]
async fn tags_choose_the_rule() {
    let rules = r#"
[[rules]]
id = "gold"
target = "dr"
priority = 3
tags = { class = "gold", "team name" = "a+b" }
target_prefix = "gold/"
delete_markers = true
[[rules]]
id = "only tagged"
target = "dr"
priority = 2
prefix = "t/"
tags = { class = "silver" }
[[rules]]
id = "rest"
target = "dr"
priority = 1
prefix = "r/"
"#;
    // ministack does not tell the tags of what is under a delete marker.
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).rule(rules).build().await;
    let gold = "team%20name=a%2Bb&class=gold&more=x";
    for (key, tags) in [
        ("r/gold", gold),
        ("r/half", "class=gold"),
        ("r/plain", ""),
        ("t/silver", "class=silver"),
        ("t/gold", gold),
        ("t/bronze", "class=bronze"),
        ("u/plain", ""),
    ] {
        pair.source.put_tagged(key, "1", tags).await;
        pair.source.delete(key).await;
    }
    // The newest version's tags say nothing of an older one.
    pair.source.put_tagged("r/changing", "1", gold).await;
    pair.source.put_tagged("r/changing", "2", "").await;
    pair.source.delete("r/changing").await;
    pair.tell_of_all().await;
    let events = pair.take_all_events(17).await;
    pair.tell(&events).await;
    work_off(&pair).await;
    let expected = [
        ("gold/r/changing", vec!["1"]),
        ("gold/r/gold", vec!["1", MARKER]),
        ("gold/t/gold", vec!["1", MARKER]),
        ("r/changing", vec!["2"]),
        ("r/half", vec!["1"]),
        ("r/plain", vec!["1"]),
        ("t/silver", vec!["1"]),
    ];
    assert_eq!(pair.target.keys().await, expected.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    for (key, story) in &expected {
        assert_eq!(pair.target.story(key).await, *story, "{key}");
    }
    let before = list(&pair.target).await;
    pair.tell(events.iter().rev()).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before);
}

/// For different targets all matching rules apply.
#[tokio::test]
async fn one_change_goes_to_several_targets() {
    let mut pair = on_ministack().build().await;
    let second = pair.another_target().await;
    let mut table = String::new();
    bucket_table(&mut table, "targets.two", &second, &second.server.access().endpoint);
    pair.setup.more = table;
    pair.setup.rule = r#"
[[rules]]
id = "first"
target = "dr"
delete_markers = true
[[rules]]
id = "second"
target = "two"
priority = 1
storage_class = "STANDARD_IA"
[[rules]]
id = "second, more"
target = "two"
priority = 2
prefix = "all/odd/"
target_prefix = "odd/"
"#
    .to_owned();
    pair.write_config();
    pair.write_every_kind("all/").await;
    let events = pair.take_all_events(18).await;
    pair.tell(&events).await;
    work_off(&pair).await;
    assert_eq!(compare(&pair).await, NOTHING);
    let mut other = pair.another_worker();
    other.target = second;
    let expected =
        Expected { storage_class: Some("STANDARD_IA".to_owned()), markers: Markers::LeftOut, ..Expected::default() };
    let found = compare_as(&other, &expected).await;
    let (odd, rest): (Vec<&String>, Vec<&String>) = found.iter().partition(|line| line.contains("all/odd/"));
    assert_eq!(rest, Vec::<&String>::new());
    assert_eq!(odd.len(), 10, "five keys that are elsewhere: {odd:#?}");
    assert_eq!(other.target.keys().await.iter().filter(|key| key.starts_with("odd/all/odd/")).count(), 5);
    let before = (list(&pair.target).await, list(&other.target).await);
    std::fs::remove_dir_all(&pair.ledger).unwrap();
    pair.tell(events.iter().rev()).await;
    work_off(&pair).await;
    assert_eq!((list(&pair.target).await, list(&other.target).await), before);
}

/// P2, 3.1: what a replica carries, and how it goes where it carries nothing.
#[tokio::test]
async fn stamps_are_there_where_they_are_wanted_and_fit() {
    const STAMP: [&str; 4] = ["repl-source-version", "repl-source-etag", "repl-source-modified", "repl-origin"];
    let rules = r#"
[[rules]]
id = "bare"
target = "dr"
priority = 2
prefix = "bare/"
stamp = false
delete_markers = true
[[rules]]
id = "rest"
target = "dr"
priority = 1
delete_markers = true
"#;
    let pair = on_ministack().rule(rules).build().await;
    let version = pair.source.put("stamped", "1").await.unwrap();
    pair.source.put("bare/k", "a").await;
    pair.source.put("bare/k", "b").await;
    pair.source.delete("bare/k").await;
    pair.source.put("bare/k", "c").await;
    // 2,048 bytes of names and values in all: not one more fits.
    let body = ByteStream::from_static(b"full");
    let request = pair.source.s3.put_object().bucket(&pair.source.name).key("full").body(body);
    request.metadata("colour", "blue").metadata("long", "v".repeat(2048 - 14)).send().await.unwrap();
    let events = pair.take_all_events(6).await;
    let bare: Vec<_> = events.iter().filter(|told| told.key.starts_with("bare")).collect();
    // The first of them is told last, so that its newer siblings are written again.
    pair.tell(events.iter().filter(|told| told != &bare[0])).await;
    work_off(&pair).await;
    pair.tell([bare[0]]).await;
    let report = work_off(&pair).await;
    assert_eq!(pair.target.story("bare/k").await, ["b", MARKER, "c", "a", "b", MARKER, "c"]);
    assert_eq!(report["unstamped"], 6, "five versions of the bare key and the full one: {report:#}");
    let stamp = pair.target.metadata("stamped").await;
    assert_eq!(stamp.len(), 4, "{stamp:?}");
    assert_eq!((&stamp[STAMP[0]], &stamp[STAMP[3]]), (&version, &pair.source.name));
    assert_eq!(pair.target.metadata("bare/k").await, HashMap::new());
    assert_eq!(pair.target.metadata("full").await, pair.source.metadata("full").await);
    let before = list(&pair.target).await;
    pair.tell(&events).await;
    pair.tell(events.iter().rev()).await;
    let again = work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before, "the ledger knows what they are");
    assert_eq!(again["unstamped"], 6);
}

/// 3.1: two workers that replicate into each other's source come to rest.
#[tokio::test]
async fn two_ways_do_not_make_a_loop() {
    let there = on_ministack().build().await;
    let back = there.way_back().await;
    let (a, b) = (&there.source, &there.target);
    a.put("of a", "1").await;
    a.put("of a", "2").await;
    b.put("of b", "1").await;
    a.put("gone", "1").await;
    a.delete("gone").await;
    let rest = async || {
        for _ in 0..3 {
            work_off(&there).await;
            work_off(&back).await;
        }
        assert_eq!((there.queue_depth().await, back.queue_depth().await), (0, 0));
    };
    rest().await;
    for bucket in [a, b] {
        assert_eq!(bucket.story("of a").await, ["1", "2"]);
        assert_eq!(bucket.story("of b").await, ["1"]);
        assert_eq!(bucket.story("gone").await, ["1", MARKER]);
    }
    // Somebody writes over a replica, and somebody else deletes one.
    b.put("of a", "3, by b").await;
    a.delete("of b").await;
    rest().await;
    for bucket in [a, b] {
        assert_eq!(bucket.story("of a").await, ["1", "2", "3, by b"], "{}", bucket.name);
        assert_eq!(bucket.story("of b").await, ["1", MARKER], "{}", bucket.name);
    }
}

/// Every field that DESIGN 2.1 promises, known or not.
const FIELDS: [&str; 14] = [
    "/state",
    "/pending/operations",
    "/pending/bytes",
    "/pending/oldest_age_seconds",
    "/failed",
    "/replicated/operations",
    "/replicated/bytes",
    "/latency_seconds/p50",
    "/latency_seconds/p99",
    "/latency_seconds/max",
    "/queue/visible",
    "/queue/in_flight",
    "/rules/0/id",
    "/rules/0/replicated/operations",
];

/// The fields that are `null`; fails if one is absent.
fn unknown_fields(report: &Value) -> Vec<&'static str> {
    let value = |field: &str| report.pointer(field).unwrap_or_else(|| panic!("{field} is not in {report:#}"));
    FIELDS.into_iter().filter(|field| value(field).is_null()).collect()
}

async fn status(pair: &Pair) -> Value {
    let said = ["status.out", "status.err"].map(|name| pair.directory.path().join(name));
    let mut asking = support::worker::spawn_repl_into(pair, &["status", "--json"], said);
    asking.end(PATIENCE).await.expect_code(0).json()
}

/// P8: what is not known is `null`, and only that.
#[tokio::test]
async fn status_of_a_worker_running_stopped_and_never_started() {
    let pair = on_ministack().build().await;
    let never = status(&pair).await;
    assert_eq!(never["state"], "unknown");
    assert_eq!(unknown_fields(&never), [&FIELDS[1..12], &FIELDS[13..]].concat());
    assert!(!pair.ledger.exists(), "asking makes no ledger");

    pair.source.put("k", "12345").await;
    pair.source.put("l", "678").await;
    let report = work_off(&pair).await;
    assert_eq!(unknown_fields(&report), [""; 0]);
    let stopped = status(&pair).await;
    assert_eq!(stopped["state"], "stopped");
    let unknown = [FIELDS[3], FIELDS[7], FIELDS[8], FIELDS[9], FIELDS[10], FIELDS[11]];
    assert_eq!(unknown_fields(&stopped), unknown, "{stopped:#}");
    assert_eq!(stopped["caught_up"], Value::Null, "nobody looks at the queue");
    assert_eq!(stopped["replicated"], json!({"operations": 2, "bytes": 8}));

    let mut worker = spawn_repl(&pair, &["run"]);
    // Until the new worker has the ledger, "stopped" is the truth; the first report of its own is what is judged.
    let mut started = Value::Null;
    eventually("the worker runs", PATIENCE, async || {
        started = status(&pair).await;
        started["state"] == "running"
    })
    .await;
    assert_ne!(started["caught_up"], true, "no receive has come back empty yet: {started:#}");
    pair.source.put("m", "9").await;
    eventually("the third is counted", PATIENCE, async || status(&pair).await["replicated"]["operations"] == 3).await;
    let running = status(&pair).await;
    assert_eq!(running["state"], "running");
    assert!(running["latency_seconds"]["max"].as_f64().unwrap() > 0.0, "{running:#}");
    assert_eq!(running["pending"]["operations"], 0);
    let said = worker.terminate(PATIENCE).await.expect_code(0);
    assert!(said.stdout.is_empty(), "logs go to stderr: {}", said.stdout);
    assert_eq!(status(&pair).await["state"], "stopped");
    let people = run_repl(&pair, &["status"], PATIENCE).await.expect_code(0).stdout;
    assert!(people.contains("state         stopped") && people.contains("caught up     unknown"), "{people}");
}

/// P8: a worker that cannot reach its queue does not say that it is caught up, nor how much is waiting there.
#[tokio::test]
async fn status_without_a_queue_is_unknown() {
    let mut setup = on_ministack();
    setup.queue_endpoint = Some("http://127.0.0.1:9".to_owned());
    let pair = setup.build().await;
    let _worker = spawn_repl(&pair, &["run"]);
    eventually("the fault is told", PATIENCE, async || !status(&pair).await["queue"]["fault"].is_null()).await;
    let report = status(&pair).await;
    assert_eq!(report["state"], "running");
    assert_eq!(report["caught_up"], Value::Null);
    for field in [FIELDS[3], FIELDS[10], FIELDS[11]] {
        assert!(unknown_fields(&report).contains(&field), "{field} cannot be known: {report:#}");
    }
}

/// P8, P9: what waits while the target is away is counted, with its age.
#[tokio::test]
async fn status_counts_what_waits() {
    let mut setup = on_ministack();
    setup.target_endpoint = Some("http://127.0.0.1:9".to_owned());
    let mut pair = setup.build().await;
    for key in ["a", "b", "c"] {
        pair.source.put(key, "12345").await;
    }
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("three wait", PATIENCE, async || status(&pair).await["pending"]["operations"] == 3).await;
    let report = status(&pair).await;
    assert_eq!(report["pending"]["bytes"], 15);
    assert!(report["pending"]["oldest_age_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!((&report["caught_up"], &report["failed"]), (&json!(false), &json!(0)), "{report:#}");
    assert_eq!(report["rules"][0]["pending"], json!({"operations": 3, "bytes": 15}));
    worker.kill().await;
    let report = status(&pair).await;
    assert_eq!((&report["state"], &report["pending"]["operations"]), (&json!("stopped"), &json!(3)));
    pair.setup.target_endpoint = None;
    pair.write_config();
    work_off(&pair).await;
    assert_eq!(compare(&pair).await, NOTHING);
}

/// P9: a key that cannot be used parks the objects of its rule, and those only; the run says so with exit code 1.
#[tokio::test]
async fn a_run_with_something_parked_ends_with_one() {
    let rules = r#"
[[rules]]
id = "sealed"
target = "dr"
priority = 2
prefix = "sealed/"
kms_key = "{target_key}"
[[rules]]
id = "rest"
target = "dr"
priority = 1
"#;
    let pair = on_ministack().rule(rules).build().await;
    pair.kms(TARGET_REGION).disable_key().key_id(&pair.target_key).send().await.unwrap();
    for key in ["sealed/a", "sealed/b", "c"] {
        pair.source.put(key, "1").await;
    }
    let report = work_off_with(&pair, 1).await;
    assert_eq!(report["failed"], 2, "{report:#}");
    assert_eq!(pair.target.keys().await, ["c"]);
    assert_eq!(pair.queue_depth().await, 0, "a parked object blocks no queue");
    let report = status(&pair).await;
    assert_eq!((&report["failed"], &report["rules"][0]["failed"]), (&json!(2), &json!(2)));
    assert_eq!(report["caught_up"], false);
}

/// Exit codes of mistakes: 2 where the config or its use is wrong.
#[tokio::test]
async fn mistakes_end_with_two() {
    let mut pair = on_ministack().build().await;
    let text = pair.config_text();
    let queueless: String = {
        let (before, after) = text.split_once("[queue]").unwrap();
        format!("{before}{}", &after[after.find("[targets.dr]").unwrap()..])
    };
    std::fs::write(&pair.config, queueless).unwrap();
    let said = run_repl(&pair, &["run"], PATIENCE).await.expect_code(2);
    assert!(said.stderr.contains("[queue]"), "{}", said.stderr);
    pair.setup.rule = "colour = \"blue\"".to_owned();
    pair.write_config();
    let said = run_repl(&pair, &["status", "--json"], PATIENCE).await.expect_code(2);
    assert!(said.stderr.contains("colour") && said.stdout.is_empty(), "{}", said.stderr);
    pair.config = pair.directory.path().join("nowhere.toml");
    run_repl(&pair, &["status"], PATIENCE).await.expect_code(2);
}
