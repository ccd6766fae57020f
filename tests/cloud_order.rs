//! Order and identity on real servers: versions told in any order, markers, null versions, several workers, other stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::types::BucketVersioningStatus;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::json;
use support::compare::{MARKER, Version, compare, list};
use support::events::{Told, in_one_message};
use support::objects::{Multipart, bytes};
use support::pair::{Bucket, Pair, Setup, Versions, event, form_encoded};
use support::servers::Server;
use support::worker::{eventually, run_repl, spawn_repl, work_off};

const NOTHING: [String; 0] = [];

async fn on_ministack() -> Pair {
    Setup::on(Server::Ministack, Server::Ministack).build().await
}

/// Two rules that differ in how much of the past they bring.
const BOTH_HISTORIES: &str = r#"
[[rules]]
id = "everything"
target = "dr"
prefix = "all/"
delete_markers = true
history = "all"
[[rules]]
id = "newest"
target = "dr"
prefix = "latest/"
delete_markers = true
history = "latest"
"#;

async fn with_both_histories() -> Pair {
    Setup::on(Server::Ministack, Server::Ministack).rule(BOTH_HISTORIES).build().await
}

/// Writes the story of one key: a text for each version, `†` for a marker.
async fn write(bucket: &Bucket, key: &str, story: &[&str]) {
    for step in story {
        if *step == MARKER {
            bucket.delete(key).await;
        } else {
            bucket.put(key, *step).await;
        }
    }
}

fn of_key<'t>(events: &'t [Told], key: &str) -> Vec<&'t Told> {
    events.iter().filter(|told| told.key == form_encoded(key)).collect()
}

/// What breaks P3 between two stories of one key, if anything does: the newest must be the same, and every object of the
/// source must stand at the target in order. Versions written again for a late one are no breach, nor is a left-out marker.
fn breach(source: &[String], target: &[String]) -> Option<String> {
    let mut rest = target.iter();
    let in_order = source.iter().filter(|step| *step != MARKER).all(|step| rest.any(|there| there == step));
    let problem = match (in_order, source.last() == target.last()) {
        (true, true) => return None,
        (false, _) => "not every version is there in order",
        (true, false) => "the newest differs",
    };
    Some(format!("{problem}: source {source:?}, target {target:?}"))
}

async fn breaches(pair: &Pair) -> Vec<String> {
    let mut found = Vec::new();
    for key in pair.source.keys().await {
        let (source, target) = (pair.source.story(&key).await, pair.target.story(&key).await);
        found.extend(breach(&source, &target).map(|problem| format!("{key}: {problem}")));
    }
    found
}

#[test]
fn a_breach_of_order_is_seen() {
    let story = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    for (source, target) in [("ABC", "ABC"), ("ABC", "CBCABC"), ("A†B", "AB"), ("A†", "†A†"), ("ABC", "CACBC")]
    {
        assert_eq!(breach(&story(source), &story(target)), None, "{source} {target}");
    }
    for (source, target) in [("ABC", "ACB"), ("ABC", "AC"), ("A†", "A"), ("ABC", "ABCB"), ("A", ""), ("AB", "BAB†")]
    {
        assert!(breach(&story(source), &story(target)).is_some(), "{source} {target}");
    }
}

/// Numbers that look random and are the same for the same seed.
struct Dice(std::vec::IntoIter<u8>);

impl Dice {
    fn of(seed: u64) -> Self {
        Self(bytes(seed, 1 << 14).into_iter())
    }

    fn below(&mut self, limit: usize) -> usize {
        let wide = usize::from(self.0.next().unwrap()) << 8 | usize::from(self.0.next().unwrap());
        wide % limit
    }

    fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
        items
    }
}

/// P2, P3: many keys, each with a history of its own within seconds, all told in disorder over several messages.
#[tokio::test]
async fn versions_told_in_disorder_end_in_order() {
    let pair = on_ministack().await;
    let mut dice = Dice::of(2026);
    let mut changes = 0;
    for key in 0..16 {
        let steps = 1 + dice.below(6);
        for step in 0..steps {
            let key = format!("key {key}");
            // ministack tells nothing of a second marker on top of a first.
            if step % 2 == 1 && dice.below(3) == 0 {
                pair.source.delete(&key).await;
            } else {
                pair.source.put(&key, format!("{step}")).await;
            }
        }
        changes += steps;
    }
    let events = pair.take_all_events(changes).await;
    for round in 0..2 {
        pair.tell(&dice.shuffled(events.clone())).await;
        work_off(&pair).await;
        assert_eq!(breaches(&pair).await, NOTHING, "round {round}");
    }
    let before = list(&pair.target).await;
    std::fs::remove_dir_all(&pair.ledger).unwrap();
    pair.tell(&dice.shuffled(events.clone())).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before, "told again to a worker that remembers nothing");
}

/// P3: what arrives together is put in order before anything is written.
#[tokio::test]
async fn one_message_backwards_needs_no_insertion() {
    let pair = on_ministack().await;
    let stories: [&[&str]; 3] = [&["1", "2", "3"], &["1", MARKER, "2"], &["1", "2", MARKER]];
    let mut changes = 0;
    for (number, story) in stories.iter().enumerate() {
        write(&pair.source, &format!("k{number}"), story).await;
        changes += story.len();
    }
    let mut events = pair.take_all_events(changes).await;
    events.reverse();
    pair.post([in_one_message(&events).as_str()]).await;
    work_off(&pair).await;
    assert_eq!(compare(&pair).await, NOTHING);
}

enum Memory {
    Kept,
    Lost,
}

/// P3, P4: the newest is told first, and every older one only when all that was told before has been done.
async fn newest_first(memory: Memory) {
    let pair = on_ministack().await;
    let stories: BTreeMap<&str, (&[&str], &[&str])> = BTreeMap::from([
        // Source, and what the target goes through: a late version is followed by its newer siblings.
        ("abc", (&["a", "b", "c"][..], &["c", "b", "c", "a", "b", "c"][..])),
        ("late marker", (&["a", MARKER, "b"], &["b", "a", "b"])),
        ("marker on top", (&["a", MARKER], &[MARKER, "a", MARKER])),
        ("deleted", (&["a", "b", MARKER], &[MARKER, "b", MARKER, "a", "b", MARKER])),
    ]);
    let mut changes = 0;
    for (key, (story, _)) in &stories {
        write(&pair.source, key, story).await;
        changes += story.len();
    }
    let events = pair.take_all_events(changes).await;
    for round in 1..=3 {
        let newest = stories.keys().filter_map(|key| of_key(&events, key).into_iter().rev().nth(round - 1));
        pair.tell(newest).await;
        work_off(&pair).await;
        if matches!(memory, Memory::Lost) {
            std::fs::remove_dir_all(&pair.ledger).unwrap();
        }
    }
    for (key, (source, expected)) in &stories {
        assert_eq!(pair.source.story(key).await, *source);
        assert_eq!(pair.target.story(key).await, *expected, "{key}");
    }
    assert_eq!(breaches(&pair).await, NOTHING);
    let before = list(&pair.target).await;
    pair.tell(events.iter().rev()).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before);
}

#[tokio::test]
async fn newest_first_with_the_ledger() {
    newest_first(Memory::Kept).await;
}

#[tokio::test]
async fn newest_first_with_a_ledger_lost_each_time() {
    newest_first(Memory::Lost).await;
}

/// P3, P4: a version in the middle comes late, among markers that are in place.
#[tokio::test]
async fn a_version_in_the_middle_comes_late() {
    let pair = on_ministack().await;
    write(&pair.source, "k", &["a", MARKER, "b", MARKER, "c"]).await;
    write(&pair.source, "end", &["a", "b", MARKER]).await;
    let events = pair.take_all_events(8).await;
    let (k, end) = (of_key(&events, "k"), of_key(&events, "end"));
    pair.tell([k[0], k[1], k[3], k[4], end[0], end[2]]).await;
    work_off(&pair).await;
    // The second marker stands directly on the first: S3 permits that, and both exist at the source.
    assert_eq!(pair.target.story("k").await, ["a", MARKER, MARKER, "c"]);
    assert_eq!(pair.target.story("end").await, ["a", MARKER]);
    pair.tell([k[2], end[1]]).await;
    work_off(&pair).await;
    assert_eq!(pair.target.story("k").await, ["a", MARKER, MARKER, "c", "b", MARKER, "c"]);
    assert_eq!(pair.target.story("end").await, ["a", MARKER, "b", MARKER]);
    assert_eq!(breaches(&pair).await, NOTHING);
}

/// P3, P4: with only the newest kept, what is current at the source now decides, whatever is told.
#[tokio::test]
async fn only_the_newest_is_brought_where_the_rule_says_so() {
    let pair = with_both_histories().await;
    let stories: [(&str, &[&str], &[&str]); 4] = [
        ("latest/abc", &["a", "b", "c"], &["c"]),
        ("latest/back", &["a", MARKER, "b"], &["b"]),
        ("latest/gone", &["a", MARKER], &[]),
        ("all/abc", &["a", "b", MARKER, "c"], &["a", "b", MARKER, "c"]),
    ];
    for (key, story, _) in &stories {
        write(&pair.source, key, story).await;
    }
    let events = pair.take_all_events(12).await;
    pair.tell(&events).await;
    work_off(&pair).await;
    for (key, _, expected) in &stories {
        assert_eq!(pair.target.story(key).await, *expected, "{key}");
    }
    // Step by step, each is the newest when it is told.
    for step in ["1", "2", MARKER, "3", MARKER] {
        write(&pair.source, "latest/steps", &[step]).await;
        write(&pair.source, "latest/abc", &[step]).await;
        work_off(&pair).await;
    }
    assert_eq!(pair.target.story("latest/steps").await, ["1", "2", MARKER, "3", MARKER]);
    assert_eq!(pair.target.story("latest/abc").await, ["c", "1", "2", MARKER, "3", MARKER]);
    let before = list(&pair.target).await;
    pair.tell(events.iter().rev()).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before);
}

/// P4: an event tells of a delete marker that the source does not have any more, or that has been written over.
#[tokio::test]
async fn a_marker_whose_object_reappeared_is_not_made() {
    let pair = with_both_histories().await;
    let keys = ["all/undeleted", "latest/undeleted", "latest/written over"];
    for key in keys {
        pair.source.put(key, "a").await;
    }
    work_off(&pair).await;
    for key in keys {
        let marker = pair.source.delete(key).await.unwrap();
        if key.ends_with("undeleted") {
            pair.source.delete_version(key, &marker).await;
        } else {
            pair.source.put(key, "b").await;
        }
    }
    let markers: Vec<Told> = pair.take_all_events(6).await;
    let markers = markers.iter().filter(|told| told.name == "ObjectRemoved:DeleteMarkerCreated");
    pair.tell(markers).await;
    let report = work_off(&pair).await;
    assert_eq!(
        report["superseded"].as_u64().unwrap() + report["not_replicated"].as_u64().unwrap_or(0),
        2,
        "{report:#}"
    );
    for key in keys {
        assert_eq!(pair.target.story(key).await, ["a"], "{key}");
    }
}

/// P4: versions that were removed for good stay at the target; and what is gone before it was told is not missed.
#[tokio::test]
async fn permanent_deletes_are_never_replicated() {
    let pair = with_both_histories().await;
    for key in ["all/k", "latest/k"] {
        let first = pair.source.put(key, "a").await.unwrap();
        work_off(&pair).await;
        let second = pair.source.put(key, "b").await.unwrap();
        work_off(&pair).await;
        for version in [first, second] {
            pair.source.delete_version(key, &version).await;
        }
    }
    let gone = pair.source.put("all/gone", "a").await.unwrap();
    pair.source.put("all/gone", "b").await;
    pair.source.delete_version("all/gone", &gone).await;
    let events = pair.take_all_events(5).await;
    assert_eq!(events.iter().filter(|told| told.name == "ObjectRemoved:Delete").count(), 3);
    pair.tell(&events).await;
    let report = work_off(&pair).await;
    assert_eq!((&report["quarantined"], &report["failed"]), (&json!(0), &json!(0)));
    for key in ["all/k", "latest/k"] {
        assert_eq!(pair.source.story(key).await, NOTHING);
        assert_eq!(pair.target.story(key).await, ["a", "b"], "{key}");
    }
    assert_eq!(pair.target.story("all/gone").await, ["b"]);
}

/// P2, P3: a suspended source writes and overwrites null versions, whose content changes under one id.
#[tokio::test]
async fn null_versions_of_a_suspended_source() {
    let pair = on_ministack().await;
    let source = &pair.source;
    for key in ["told at the end", "told each time", "null marker"] {
        source.put(key, "v1").await;
    }
    work_off(&pair).await;
    source.set_versioning(BucketVersioningStatus::Suspended).await;
    source.put("told each time", "n1").await;
    source.put("null marker", "n1").await;
    work_off(&pair).await;
    source.put("told at the end", "n1").await;
    source.put("told at the end", "n2").await;
    source.put("told each time", "n2").await;
    source.delete("null marker").await;
    let mut events = pair.take_all_events(4).await;
    source.set_versioning(BucketVersioningStatus::Enabled).await;
    source.put("told at the end", "v3").await;
    events.extend(pair.take_all_events(1).await);
    pair.tell(&events).await;
    work_off(&pair).await;
    assert_eq!(source.story("told at the end").await, ["v1", "n2", "v3"]);
    assert_eq!(pair.target.story("told at the end").await, ["v1", "n2", "v3"]);
    assert_eq!(pair.target.story("told each time").await, ["v1", "n1", "n2"]);
    assert_eq!(source.story("null marker").await, ["v1", MARKER]);
    assert_eq!(pair.target.story("null marker").await, ["v1", "n1", MARKER]);
    let before = list(&pair.target).await;
    pair.tell(events.iter().rev()).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before);
    std::fs::remove_dir_all(&pair.ledger).unwrap();
    pair.tell(&events).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before, "told again to a worker that remembers nothing");
}

/// P2, P3, P4: a bucket without versions has only what is there now.
#[tokio::test]
async fn buckets_without_versions() {
    let unversioned = |source, target| {
        let mut setup = Setup::on(Server::Ministack, Server::Ministack);
        (setup.source_versions, setup.target_versions) = (source, target);
        setup
    };
    for (source, target) in
        [(Versions::Off, Versions::Enabled), (Versions::Off, Versions::Off), (Versions::Enabled, Versions::Off)]
    {
        let pair = unversioned(source, target).build().await;
        pair.source.put("k", "a").await;
        pair.source.put("k", "b").await;
        pair.source.put("other", "x").await;
        work_off(&pair).await;
        assert_eq!(pair.target.story("k").await, ["b"]);
        pair.source.put("k", "c").await;
        pair.source.delete("other").await;
        let events = pair.take_all_events(2).await;
        pair.tell(events.iter().rev()).await;
        work_off(&pair).await;
        let expected: &[&str] = if target == Versions::Off { &["c"] } else { &["b", "c"] };
        assert_eq!(pair.target.story("k").await, expected, "{source:?} {target:?}");
        let other: &[&str] = match (source, target) {
            // Without versions a delete leaves no marker: it is a permanent one, which never travels.
            (Versions::Off, _) => &["x"],
            (Versions::Enabled, Versions::Off) => &[],
            (Versions::Enabled, Versions::Enabled) => &["x", MARKER],
        };
        assert_eq!(pair.target.story("other").await, other, "{source:?} {target:?}");
        let before = list(&pair.target).await;
        std::fs::remove_dir_all(&pair.ledger).unwrap();
        pair.tell(&events).await;
        work_off(&pair).await;
        assert_eq!(list(&pair.target).await, before, "{source:?} {target:?}");
    }
}

/// P3: a multipart object is told of when it is completed, and stands in the order where its store puts it.
#[tokio::test]
async fn an_upload_begun_before_and_completed_after_a_small_object() {
    let how = Multipart::of(&[5 << 20, 10]);
    for server in [Server::Ministack, Server::Seaweedfs] {
        let pair = Setup::on(server, server).build().await;
        let source = &pair.source;
        for key in ["told in order", "told backwards", "one by one"] {
            let upload = source.create_upload(key, &how).await;
            source.put(key, "small").await;
            source.finish_upload(key, &upload, 7, &how).await;
        }
        let mut events =
            if server == Server::Ministack { pair.take_all_events(6).await } else { told_by_test(&pair).await };
        let first = events.iter().position(|told| told.key == "one+by+one").unwrap();
        let [small, large] = [events.remove(first), events.remove(first)];
        events[2..].reverse();
        pair.tell([&large]).await;
        pair.tell(&events).await;
        work_off(&pair).await;
        pair.tell([&small]).await;
        work_off(&pair).await;
        let shapes = async |bucket: &Bucket| {
            let mut sizes = BTreeMap::<String, Vec<i64>>::new();
            for version in list(bucket).await.iter().rev() {
                let head = bucket.s3.head_object().bucket(&bucket.name).key(&version.key).version_id(&version.id);
                sizes.entry(version.key.clone()).or_default().push(head.send().await.unwrap().content_length.unwrap());
            }
            sizes
        };
        let (want, got) = (shapes(source).await, shapes(&pair.target).await);
        for (key, versions) in &want {
            assert!(got[key].ends_with(versions), "{server:?} {key}: source {versions:?}, target {:?}", got[key]);
        }
    }
}

/// Events for every version, oldest first, for a source that tells of nothing.
async fn told_by_test(pair: &Pair) -> Vec<Told> {
    pair.tell_of_all().await;
    pair.take_events().await
}

/// P2, P3: two workers with a ledger each compete for one queue; the store is the arbiter.
#[tokio::test]
async fn two_workers_share_one_queue() {
    let pair = on_ministack().await;
    let mut dice = Dice::of(7);
    let mut changes = 0;
    for key in 0..60 {
        let story: &[&str] = match key % 6 {
            0 => &["a", "b", "c"],
            1 => &["a", MARKER, "b"],
            _ => &["a"],
        };
        write(&pair.source, &format!("key {key:02}"), story).await;
        changes += story.len();
    }
    let events = pair.take_all_events(changes).await;
    // Each twice, in disorder: so that both workers hear of every key.
    pair.tell(&dice.shuffled([events.clone(), events.clone()].concat())).await;
    let other = pair.another_worker();
    let patience = Duration::from_secs(120);
    let arguments = ["run", "--until-idle=1s", "--json"];
    let (one, two) = tokio::join!(run_repl(&pair, &arguments, patience), run_repl(&other, &arguments, patience));
    let done =
        |output: support::worker::Output| output.expect_code(0).json()["replicated"]["operations"].as_u64().unwrap();
    let (one, two) = (done(one), done(two));
    assert!(one > 0 && two > 0, "both worked: {one}, {two}");
    assert_eq!(breaches(&pair).await, NOTHING);
    let copies = list(&pair.target).await;
    for key in (0..60).filter(|key| key % 6 > 1).map(|key| format!("key {key:02}")) {
        let there: Vec<&Version> = copies.iter().filter(|version| version.key == key).collect();
        assert_eq!(there.len(), 1, "{key} was written once");
    }
    pair.tell(&events).await;
    work_off(&other).await;
    assert_eq!(list(&pair.target).await, copies, "at rest nothing changes");
}

/// P1: with `ack = "settled"` the queue keeps a message until its work is done, so that a worker may vanish with its disk.
#[tokio::test]
async fn messages_outlive_a_worker_that_vanishes_with_its_disk() {
    let mut setup = Setup::on(Server::Ministack, Server::Ministack);
    setup.queue = "ack = \"settled\"".to_owned();
    // Nobody listens there.
    setup.target_endpoint = Some("http://127.0.0.1:9".to_owned());
    let mut pair = setup.build().await;
    let short = pair
        .sqs
        .set_queue_attributes()
        .queue_url(&pair.queue_url)
        .attributes(QueueAttributeName::VisibilityTimeout, "3");
    short.send().await.unwrap();
    pair.take_events().await;
    for number in 0..25 {
        pair.source.put(&format!("k{number}"), "a").await;
    }
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the work is taken in", Duration::from_secs(60), async || {
        let status = run_repl(&pair, &["status", "--json"], Duration::from_secs(60)).await.json();
        status["pending"]["operations"] == 25
    })
    .await;
    assert_eq!(pair.queue_depth().await, 25, "not one is acknowledged");
    worker.kill().await;
    std::fs::remove_dir_all(&pair.ledger).unwrap();
    pair.setup.target_endpoint = None;
    pair.write_config();
    work_off(&pair).await;
    assert_eq!((pair.queue_depth().await, pair.dead_letters().await), (0, 0));
    assert_eq!(compare(&pair).await, NOTHING);
}

/// P2, P3, P6: every kind of object from one store to another, told in order, in disorder, and again.
async fn between_stores(source: Server, target: Server) {
    let pair = Setup::on(source, target).build().await;
    pair.write_every_kind("all/").await;
    let mut events =
        if source == Server::Seaweedfs { told_by_test(&pair).await } else { pair.take_all_events(18).await };
    pair.tell(&events).await;
    work_off(&pair).await;
    assert_eq!(compare(&pair).await, NOTHING);
    let before = list(&pair.target).await;
    std::fs::remove_dir_all(&pair.ledger).unwrap();
    pair.tell(&Dice::of(11).shuffled(events.clone())).await;
    work_off(&pair).await;
    assert_eq!(list(&pair.target).await, before, "told again in disorder to a worker that remembers nothing");
    write(&pair.source, "late", &["a", "b", MARKER, "c"]).await;
    events = if source == Server::Seaweedfs {
        told_by_test(&pair).await.into_iter().filter(|told| told.key == "late").collect()
    } else {
        pair.take_all_events(4).await
    };
    pair.tell(&events[1..]).await;
    work_off(&pair).await;
    pair.tell(&events[..1]).await;
    work_off(&pair).await;
    assert_eq!(pair.target.story("late").await, ["b", MARKER, "c", "a", "b", MARKER, "c"]);
}

#[tokio::test]
async fn from_seaweedfs_to_ministack() {
    between_stores(Server::Seaweedfs, Server::Ministack).await;
}

#[tokio::test]
async fn from_ministack_to_seaweedfs() {
    between_stores(Server::Ministack, Server::Seaweedfs).await;
}

#[tokio::test]
async fn from_seaweedfs_to_seaweedfs() {
    between_stores(Server::Seaweedfs, Server::Seaweedfs).await;
}

/// P4: an event of a version that never was, or of a key that is not there, does no harm.
#[tokio::test]
async fn events_that_tell_lies_do_no_harm() {
    let pair = on_ministack().await;
    pair.source.put("k", "a").await;
    work_off(&pair).await;
    for (name, key, version) in [
        ("ObjectCreated:Put", "k", Some("00000000-0000-0000-0000-000000000000")),
        ("ObjectCreated:Put", "nobody", Some("00000000-0000-0000-0000-000000000000")),
        ("ObjectCreated:Put", "nobody", None),
        ("ObjectRemoved:DeleteMarkerCreated", "k", Some("00000000-0000-0000-0000-000000000000")),
        ("ObjectRemoved:DeleteMarkerCreated", "k", None),
        ("ObjectRemoved:DeleteMarkerCreated", "nobody", None),
        ("ObjectRemoved:Delete", "k", None),
        ("LifecycleExpiration:Delete", "k", None),
        ("LifecycleExpiration:DeleteMarkerCreated", "k", Some("x")),
    ] {
        pair.post([event(&pair.source, name, key, version).as_str()]).await;
    }
    work_off(&pair).await;
    assert_eq!(compare(&pair).await, NOTHING);
}
