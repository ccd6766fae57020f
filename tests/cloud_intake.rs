//! What comes in from the queue, on real servers: every form of message, bad ones among good ones, duplicates, many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::time::Duration;

use aws_sdk_s3::types::Tag;
use futures_util::StreamExt as _;
use repl::ledger::{Ledger, Quarantined};
use serde_json::{Value, json};
use support::compare::{MARKER, compare, list};
use support::events::{Told, by_event_bridge, in_one_message, test_event, wrapped_by_sns};
use support::objects::{Multipart, bytes};
use support::pair::{Pair, SOURCE_REGION, Setup, form_encoded};
use support::servers::Server;
use support::worker::{eventually, spawn_repl, work_off, work_off_with};

const NOTHING: [String; 0] = [];

async fn on_ministack() -> Pair {
    Setup::on(Server::Ministack, Server::Ministack).build().await
}

fn quarantined(pair: &Pair) -> Vec<Quarantined> {
    Ledger::open(&pair.ledger).unwrap().quarantined(1000).unwrap()
}

/// The same event with a change made to its one record.
fn changed(told: &Told, change: impl FnOnce(&mut Value)) -> String {
    let mut document = told.document();
    change(&mut document["Records"][0]);
    document.to_string()
}

/// P12: every form in which an event can reach a queue leads to the object, one message as good as the other.
#[tokio::test]
async fn every_form_of_message_is_understood() {
    let pair = on_ministack().await;
    let keys = ["direct", "wrapped", "wrapped twice", "bus", "bus/ü+ %2B", "first", "second", "third", "gone by bus"];
    for key in keys {
        pair.source.put(key, key).await;
    }
    pair.source.delete("gone by bus").await;
    let events = pair.take_all_events(keys.len() + 1).await;
    let of = |key: &str| events.iter().find(|told| told.key == form_encoded(key)).unwrap().clone();
    let marker = events.iter().find(|told| told.name == "ObjectRemoved:DeleteMarkerCreated").unwrap();
    let bodies = [
        of("direct").body,
        wrapped_by_sns(&of("wrapped").body),
        wrapped_by_sns(&wrapped_by_sns(&of("wrapped twice").body)),
        by_event_bridge(&of("bus"), "bus"),
        by_event_bridge(&of("bus/ü+ %2B"), "bus/ü+ %2B"),
        in_one_message(&[of("third"), of("first"), of("second")]),
        by_event_bridge(&of("gone by bus"), "gone by bus"),
        wrapped_by_sns(&by_event_bridge(marker, "gone by bus")),
        test_event(&pair.source.name),
        wrapped_by_sns(&test_event(&pair.source.name)),
        json!({ "Records": [] }).to_string(),
    ];
    pair.post(bodies.iter().map(String::as_str)).await;
    let report = work_off(&pair).await;
    assert_eq!(compare(&pair).await, NOTHING);
    assert_eq!((&report["quarantined"], &report["failed"]), (&json!(0), &json!(0)), "{report:#}");
    assert_eq!(report["replicated"]["operations"], keys.len() + 1);
}

/// P12: what a real topic hands on, wrapped and raw.
#[tokio::test]
async fn events_come_through_a_topic() {
    let pair = on_ministack().await;
    let sns = Server::Ministack.access().sns(SOURCE_REGION);
    let arn = format!("arn:aws:sqs:{SOURCE_REGION}:000000000000:{}", pair.queue_url.rsplit('/').next().unwrap());
    for raw in ["true", "false"] {
        let key = format!("raw {raw} a+b");
        pair.source.put(&key, raw).await;
        let events = pair.take_all_events(1).await;
        let topic = sns.create_topic().name(format!("{}-{raw}", pair.source.name)).send().await.unwrap();
        let topic = topic.topic_arn.unwrap();
        let subscription = sns.subscribe().topic_arn(&topic).protocol("sqs").endpoint(&arn);
        subscription.attributes("RawMessageDelivery", raw).send().await.unwrap();
        sns.publish().topic_arn(&topic).message(&events[0].body).send().await.unwrap();
        eventually("the topic hands it on", Duration::from_secs(20), async || pair.queue_depth().await == 1).await;
        work_off(&pair).await;
        assert_eq!(pair.target.story(&key).await, [raw]);
    }
    assert_eq!(compare(&pair).await, NOTHING);
}

/// P12: keys whose spelling in an event, in a request and in a listing all differ arrive under the same name.
#[tokio::test]
async fn odd_keys_keep_their_names() {
    let pair = on_ministack().await;
    let mut keys: Vec<String> = [
        "a b",
        "a+b",
        "a%2Bb",
        "a%20b",
        "100%",
        "ünï/cödé ☃ 日本",
        "q?x=1&y#z",
        "'\"<>&\\{}^`|[]~",
        "semi;colon:at@",
        "a//b",
        "trailing/",
        " leading",
        "new\nline",
        "tab\tstop",
        "é",
        "e\u{301}",
        "=",
        "$!*()",
        "...",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push(format!("{}{}", "é".repeat(510), "long"));
    assert_eq!(keys.last().unwrap().len(), 1024);
    for key in &keys {
        pair.source.put(key, key.as_bytes()).await;
    }
    let there = pair.source.keys().await.len();
    assert_eq!(there, keys.len(), "the server keeps them apart");
    let report = work_off(&pair).await;
    assert_eq!(report["quarantined"], 0, "{report:#}");
    assert_eq!(compare(&pair).await, NOTHING);
}

/// P4, P12: an event is a hint, so what it does not tell is found out.
#[tokio::test]
async fn fields_may_be_missing() {
    let pair = on_ministack().await;
    let keys = ["etag and size", "sequencer", "time", "form", "nulls", "wrong size", "wrong etag"];
    for key in keys {
        pair.source.put(key, key).await;
    }
    let events = pair.take_all_events(keys.len()).await;
    let of = |key: &str| events.iter().find(|told| told.key == form_encoded(key)).unwrap();
    let without = |pointer: &'static str, names: &'static [&'static str]| {
        move |record: &mut Value| {
            for name in names {
                record.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(*name).unwrap();
            }
        }
    };
    let bodies = [
        changed(of("etag and size"), without("/s3/object", &["eTag", "size"])),
        changed(of("sequencer"), without("/s3/object", &["sequencer"])),
        changed(of("time"), without("", &["eventTime"])),
        changed(of("form"), without("", &["eventVersion", "eventSource", "awsRegion"])),
        changed(of("nulls"), |record| {
            for name in ["eTag", "size", "sequencer"] {
                record["s3"]["object"][name] = Value::Null;
            }
            record["eventTime"] = Value::Null;
        }),
        changed(of("wrong size"), |record| record["s3"]["object"]["size"] = json!(1_u64 << 40)),
        changed(of("wrong etag"), |record| {
            record["s3"]["object"]["eTag"] = json!("d41d8cd98f00b204e9800998ecf8427e-3")
        }),
    ];
    pair.post(bodies.iter().map(String::as_str)).await;
    let report = work_off(&pair).await;
    assert_eq!(report["quarantined"], 0, "{report:#}");
    assert_eq!(compare(&pair).await, NOTHING);
}

/// P12, P9: what cannot be understood is kept with its body and the reason, leaves the queue, and stops nothing else.
#[tokio::test]
async fn bad_messages_are_kept_and_good_work_goes_on() {
    let pair = on_ministack().await;
    for key in ["before", "half", "after", "elsewhere", "future", "bad key"] {
        pair.source.put(key, key).await;
    }
    let events = pair.take_all_events(6).await;
    let of = |key: &str| events.iter().find(|told| told.key == form_encoded(key)).unwrap();
    let half = {
        let mut document = of("half").document();
        let mut broken = document["Records"][0].clone();
        broken["s3"]["object"].as_object_mut().unwrap().remove("key");
        document["Records"].as_array_mut().unwrap().insert(0, broken);
        document.to_string()
    };
    let bad = [
        ("\u{fffd} not JSON at all {".to_owned(), "not JSON"),
        ("[]".to_owned(), "no S3 event"),
        ("\"text\"".to_owned(), "no S3 event"),
        ("{\"Records\": 7}".to_owned(), "not a list"),
        ("{\"Records\": [null, {}]}".to_owned(), "without eventName"),
        ("{\"hello\": \"world\"}".to_owned(), "no S3 event"),
        (wrapped_by_sns("not JSON either"), "not JSON"),
        (half.clone(), "without a key"),
        (changed(of("elsewhere"), |record| record["s3"]["bucket"]["name"] = json!("another-bucket")), "another-bucket"),
        (changed(of("future"), |record| record["eventVersion"] = json!("3.0")), "3.0"),
        (
            changed(of("future"), |record| record["eventName"] = json!("ObjectCreated"))
                .replace("ObjectCreated", "ObjectDreamt:Put"),
            "ObjectDreamt",
        ),
        (changed(of("bad key"), |record| record["s3"]["object"]["key"] = json!("%ff%fe")), "UTF-8"),
        (changed(of("bad key"), |record| record["s3"]["object"]["key"] = json!("100%")), "two hex digits"),
        (changed(of("bad key"), |record| record["s3"]["object"]["key"] = json!("")), "0 bytes"),
        (changed(of("bad key"), |record| record["s3"]["object"]["key"] = json!("k".repeat(1025))), "1025 bytes"),
        ("{".repeat(100_000), "not JSON"),
    ];
    pair.post([of("before").body.as_str()]).await;
    for (body, _) in &bad {
        pair.put_message(body).await;
    }
    pair.post([of("after").body.as_str()]).await;
    let report = work_off_with(&pair, 1).await;
    assert_eq!(report["quarantined"], bad.len(), "{report:#}");
    assert_eq!((pair.queue_depth().await, pair.dead_letters().await), (0, 0), "all have left the queue");
    assert_eq!(pair.target.keys().await, ["after", "before", "half"], "the good half of a message too");
    let kept = quarantined(&pair);
    assert_eq!(kept.len(), bad.len());
    for (body, reason) in &bad {
        let found: Vec<&Quarantined> = kept.iter().filter(|message| message.body == *body).collect();
        assert_eq!(found.len(), 1, "the raw body of: {body:.200}");
        assert!(found[0].reason.contains(reason), "{:?} does not tell {reason:?}", found[0].reason);
        assert!(!found[0].message_id.is_empty() && found[0].received.0 > 0);
    }
}

/// P12: a flood of garbage larger than any batch does not delay the work behind it for ever, nor stop the worker.
#[tokio::test]
async fn a_running_worker_survives_a_flood_of_garbage() {
    let pair = on_ministack().await;
    let garbage: Vec<String> = (0..300).map(|number| format!("garbage {number}")).collect();
    let mut worker = spawn_repl(&pair, &["run"]);
    pair.post(garbage.iter().map(String::as_str)).await;
    pair.source.put("good", "good").await;
    eventually("the good one arrives", Duration::from_secs(60), async || {
        pair.target.story("good").await == ["good"] && pair.queue_depth().await == 0
    })
    .await;
    worker.terminate(Duration::from_secs(40)).await.expect_code(0);
    let mut kept: Vec<String> = quarantined(&pair).into_iter().map(|message| message.body).collect();
    kept.sort();
    let mut sent = garbage;
    sent.sort();
    assert_eq!(kept, sent);
}

/// P2: all that was ever told, told again in any number and order, changes nothing at the target.
#[tokio::test]
async fn duplicates_change_nothing() {
    let pair = on_ministack().await;
    pair.write_every_kind("all/").await;
    let events = pair.take_all_events(18).await;
    // Twice in one go, too: the second may be received while the first is worked on.
    pair.tell(events.iter().chain(&events)).await;
    work_off(&pair).await;
    assert_eq!(compare(&pair).await, NOTHING);
    let before = list(&pair.target).await;
    pair.tell(events.iter().rev()).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before, "with what the ledger remembers");
    std::fs::remove_dir_all(&pair.ledger).unwrap();
    pair.tell(events.iter().rev().chain(&events)).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before, "and without");
}

/// How many keys the large run has.
const KEYS: usize = 2000;
const WRITERS: usize = 16;

/// Writes the changes of one key one after the other; how many there were.
async fn write_mixed(pair: &Pair, number: usize) -> usize {
    let source = &pair.source;
    let seed = u64::try_from(number).unwrap();
    let key = format!("mixed/{}/{number:04} ü+", number % 7);
    let body = |salt: u64| bytes(seed + 1_000_000 * salt, (number * 37) % 5000);
    match number % 20 {
        0 => {
            source.put(&key, body(1)).await;
            source.put(&key, body(2)).await;
            2
        }
        1 => {
            source.put(&key, body(1)).await;
            source.delete(&key).await;
            2
        }
        2 => {
            source.put(&key, body(1)).await;
            source.delete(&key).await;
            source.put(&key, body(2)).await;
            3
        }
        3 | 4 => {
            source.put_adorned(&key, body(1)).await;
            1
        }
        5 if number % 200 == 5 => {
            source.put_multipart(&key, seed, &Multipart::of(&[5 << 20, 1 << 10])).await;
            1
        }
        6 => {
            source.put(&key, Vec::new()).await;
            1
        }
        _ => {
            source.put(&key, body(1)).await;
            1
        }
    }
}

/// P1, P2, P3, P6: two thousand objects of all kinds through real notifications; all equal, no version too many. Then
/// the same messages again: nothing changes.
#[tokio::test]
async fn two_thousand_objects_arrive_once() {
    let pair = on_ministack().await;
    let writes = futures_util::stream::iter(0..KEYS).map(|number| write_mixed(&pair, number));
    let changes: usize = writes.buffer_unordered(WRITERS).collect::<Vec<_>>().await.into_iter().sum();
    let events = pair.take_all_events(changes).await;
    // The changes of one key in one message: told in several, they may be received in disorder, and inserting a late
    // one writes its newer siblings again (the exception of P2; tests of order look at it).
    let bodies: Vec<String> = events.chunk_by(|one, other| one.key == other.key).map(in_one_message).collect();
    pair.post(bodies.iter().map(String::as_str)).await;
    let report = work_off(&pair).await;
    assert_eq!(compare(&pair).await, NOTHING);
    assert_eq!(report["replicated"]["operations"], changes, "{report:#}");
    assert_eq!((&report["failed"], &report["pending"]["operations"]), (&json!(0), &json!(0)));
    let before = list(&pair.target).await;
    assert_eq!(before.len(), changes);
    pair.tell(&events).await;
    let again = work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before);
    assert_eq!(again["replicated"]["operations"], changes, "nothing more was replicated: {again:#}");
}

/// P6: an event without a new version (tags) finds the replica of the version that it names.
#[tokio::test]
async fn told_of_tags_the_replica_gets_them() {
    let pair = on_ministack().await;
    let first = pair.source.put("k", "1").await.unwrap();
    pair.source.put("k", "2").await;
    work_off(&pair).await;
    pair.source.tag("k", Some(&first), &[("class", "gold")]).await;
    pair.put_event("ObjectTagging:Put", "k", Some(&first)).await;
    work_off(&pair).await;
    assert_eq!(pair.target.story("k").await, ["1", "2"]);
    let replicas = list(&pair.target).await;
    let tags = async |version: &str| {
        let request = pair.target.s3.get_object_tagging().bucket(&pair.target.name).key("k").version_id(version);
        request.send().await.unwrap().tag_set
    };
    assert_eq!(tags(&replicas[1].id).await, [Tag::builder().key("class").value("gold").build().unwrap()]);
    assert_eq!(tags(&replicas[0].id).await, []);
    assert_eq!(compare(&pair).await, NOTHING);
    assert_ne!(pair.target.story("k").await.last().unwrap(), MARKER);
}
