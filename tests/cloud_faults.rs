//! What breaks on the way: never a wrong byte visible, no version too many, equal in the end (P2, P5); what cannot work
//! is parked with its reason and stops nothing else (P9); and the bounds hold (P10).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic, and live in real time"
)]

mod support;

use std::time::{Duration, Instant};

use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use support::compare::{compare, compare_as, list};
use support::objects::{Multipart, bytes};
use support::pair::{Bucket, Expected, Pair, Setup, TARGET_REGION, Versions, event};
use support::proxy::{Act, Proxy, Rule, Seen, error_body};
use support::servers::Server;
use support::worker::{catch_up, eventually, run_repl, spawn_repl};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// More than any of these waits can need.
const PATIENCE: Duration = Duration::from_secs(120);

fn nothing() -> Vec<String> {
    Vec::new()
}

/// A pair that the binary reaches through a proxy on each side.
async fn between(setup: Setup) -> (Pair, Proxy, Proxy) {
    let source = Proxy::before(&setup.source.access().endpoint);
    let target = Proxy::before(&setup.target.access().endpoint);
    let (source_endpoint, target_endpoint) = (Some(source.endpoint()), Some(target.endpoint()));
    (Setup { source_endpoint, target_endpoint, ..setup }.build().await, source, target)
}

fn on(server: Server) -> Setup {
    Setup::on(server, server).more("[transfer]\nmode = \"stream\"\n")
}

/// A request for an object's bytes.
fn reads(key: &'static str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    move |seen| {
        let plain = !["tagging", "attributes", "acl", "versions"].iter().any(|other| seen.asks(other));
        seen.method == "GET" && plain && seen.plain_path().ends_with(&format!("/{key}"))
    }
}

/// A request that brings an object's bytes, whole or in parts.
fn writes(key: &'static str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    move |seen| {
        let plain = !["tagging", "acl", "retention", "legal-hold"].iter().any(|other| seen.asks(other));
        seen.method == "PUT" && plain && seen.plain_path().ends_with(&format!("/{key}"))
    }
}

fn completes(seen: &Seen) -> bool {
    seen.method == "POST" && seen.asks("uploadId")
}

fn begins(seen: &Seen) -> bool {
    seen.method == "POST" && seen.asks("uploads")
}

/// Small, piped and in parts; with a stored checksum and with nothing but an ETag.
const KEYS: [&str; 5] = ["small", "piped", "bare-small", "bare-piped", "in-parts"];

async fn write_each(source: &Bucket) {
    source.put_adorned("small", bytes(1, 4 * KIB)).await;
    source.put("piped", bytes(2, 2 * MIB)).await;
    put_bare(source, "bare-small", 4 * KIB).await;
    put_bare(source, "bare-piped", 2 * MIB).await;
    source.put_multipart("in-parts", 3, &Multipart::of(&[5 * MIB, 5 * MIB, 100])).await;
}

/// Without the checksum that the SDK adds by itself, as objects were written for years.
async fn put_bare(source: &Bucket, key: &str, length: usize) {
    let bare =
        aws_sdk_s3::config::Builder::new().request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    let put = source.s3.put_object().bucket(&source.name).key(key).body(ByteStream::from(bytes(9, length)));
    put.customize().config_override(bare).send().await.unwrap();
}

async fn assert_no_uploads(bucket: &Bucket) {
    let open = bucket.s3.list_multipart_uploads().bucket(&bucket.name).send().await.unwrap();
    assert_eq!(open.uploads().iter().map(|upload| upload.key()).collect::<Vec<_>>(), Vec::<Option<&str>>::new());
}

/// Breaks every object in every way, works the queue off and compares.
async fn survives(server: Server, side: impl Fn(&Pair, &Proxy, &Proxy, &'static str)) {
    let (pair, source, target) = between(on(server)).await;
    write_each(&pair.source).await;
    pair.announce().await;
    for key in KEYS {
        side(&pair, &source, &target, key);
    }
    let output = catch_up(&pair).await;
    assert_eq!(compare(&pair).await, nothing(), "{output:#?}");
    assert_no_uploads(&pair.target).await;
    let output = output.expect_code(0);
    assert_ne!(output.json()["faults"], serde_json::json!([]), "the test broke nothing");
}

/// P5: bits flipped, bodies cut and connections lost between source and worker.
async fn a_broken_source_is_survived(server: Server) {
    survives(server, |_, source, _, key| {
        let first = move |seen: &Seen| {
            let range = seen.header("range");
            reads(key)(seen) && (range.is_empty() || range.starts_with("bytes=0-"))
        };
        source.add(Rule::when(first, Act::FlipResponse(100)).times(1));
        source.add(Rule::when(first, Act::CutResponse(50)).times(1));
        source.add(Rule::when(first, Act::CutResponse(3 * KIB as u64)).times(1));
        source.add(Rule::when(reads(key), Act::error(503, "SlowDown")).times(1));
    })
    .await;
}

#[tokio::test]
async fn a_broken_source_is_survived_on_ministack() {
    a_broken_source_is_survived(Server::Ministack).await;
}

#[tokio::test]
async fn a_broken_source_is_survived_on_seaweedfs() {
    a_broken_source_is_survived(Server::Seaweedfs).await;
}

/// P2, P5: bits flipped and bodies cut between worker and target.
async fn a_broken_way_to_the_target_is_survived(server: Server) {
    survives(server, |_, _, target, key| {
        target.add(Rule::when(writes(key), Act::FlipRequest(100)).times(1));
        target.add(Rule::when(writes(key), Act::CutRequest(1000)).times(1));
        target.add(Rule::when(writes(key), Act::error(500, "InternalError")).times(1));
    })
    .await;
}

#[tokio::test]
async fn a_broken_way_to_the_target_is_survived_on_ministack() {
    a_broken_way_to_the_target_is_survived(Server::Ministack).await;
}

#[tokio::test]
async fn a_broken_way_to_the_target_is_survived_on_seaweedfs() {
    a_broken_way_to_the_target_is_survived(Server::Seaweedfs).await;
}

/// P2: the target has done it, but its answer is lost, or says something else.
async fn lost_answers_make_no_second_version(server: Server) {
    survives(server, |_, _, target, key| {
        target.add(Rule::when(writes(key), Act::LoseAnswer).times(1));
        let liar = Act::AnswerAfter { status: 500, body: error_body("InternalError") };
        target.add(Rule::when(writes(key), liar).times(1));
        if key == "in-parts" {
            target.add(Rule::when(begins, Act::error(503, "SlowDown")).times(1));
            let refused = Act::Answer {
                status: 200,
                headers: vec![("content-type", "application/xml".to_owned())],
                body: error_body("InternalError"),
            };
            target.add(Rule::when(completes, refused).times(1));
            target.add(Rule::when(completes, Act::LoseAnswer).times(1));
        }
    })
    .await;
}

#[tokio::test]
async fn lost_answers_make_no_second_version_on_ministack() {
    lost_answers_make_no_second_version(Server::Ministack).await;
}

#[tokio::test]
async fn lost_answers_make_no_second_version_on_seaweedfs() {
    lost_answers_make_no_second_version(Server::Seaweedfs).await;
}

/// P2: an object is written over with its own bytes, as a change of its metadata does. The replica's ETag stays as it was,
/// so the condition of a write whose answer is lost would hold once more; under KMS the source's ETag does not tell it.
async fn the_same_bytes_again_are_one_version(encryption: ServerSideEncryption) {
    let (pair, _source, target) = between(on(Server::Ministack)).await;
    let liar = Act::AnswerAfter { status: 500, body: error_body("InternalError") };
    for (key, length, act) in
        [("lost", 4 * KIB, Act::LoseAnswer), ("piped", 2 * MIB, Act::LoseAnswer), ("refused", 4 * KIB, liar)]
    {
        for colour in ["blue", "red"] {
            let put = pair.source.s3.put_object().bucket(&pair.source.name).key(key).metadata("colour", colour);
            let put = put.body(ByteStream::from(bytes(1, length))).server_side_encryption(encryption.clone());
            let key = (encryption == ServerSideEncryption::AwsKms).then(|| pair.source_key.clone());
            put.set_ssekms_key_id(key).send().await.unwrap();
        }
        target.add(Rule::when(writes(key), act).after(1).times(1));
    }
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
    for key in ["lost", "piped", "refused"] {
        assert_eq!(target.count(writes(key)), 2, "{key}");
    }
}

#[tokio::test]
async fn the_same_bytes_again_are_one_version_where_an_etag_tells_them() {
    the_same_bytes_again_are_one_version(ServerSideEncryption::Aes256).await;
}

#[tokio::test]
async fn the_same_bytes_again_are_one_version_where_no_etag_tells_them() {
    the_same_bytes_again_are_one_version(ServerSideEncryption::AwsKms).await;
}

/// P2: Complete answers 200 with an error in its body, though it was done; and there is no stamp to tell by.
#[tokio::test]
async fn an_error_in_the_body_of_a_good_status_is_looked_into() {
    for rule in ["delete_markers = true", "stamp = false"] {
        let (pair, _source, target) = between(on(Server::Ministack).rule(rule)).await;
        write_each(&pair.source).await;
        let lie = Act::AnswerAfter { status: 200, body: error_body("InternalError") };
        target.add(Rule::when(completes, lie).times(1));
        for key in KEYS {
            target.add(Rule::when(writes(key), Act::LoseAnswer).times(1));
        }
        catch_up(&pair).await.expect_code(0);
        assert_eq!(compare(&pair).await, nothing(), "{rule}");
        assert_no_uploads(&pair.target).await;
    }
}

/// P2, P5: the store copies by itself, and its answers go wrong.
#[tokio::test]
async fn copies_by_the_store_survive_lost_answers_too() {
    let setup = Setup::on(Server::Ministack, Server::Ministack).more("[transfer]\nmode = \"server-side\"\n");
    let (pair, _source, target) = between(setup).await;
    pair.source.put_adorned("small", bytes(1, 10)).await;
    pair.source.put_multipart("in-parts", 3, &Multipart::of(&[5 * MIB, 100])).await;
    let refused = |status| Act::Answer {
        status,
        headers: vec![("content-type", "application/xml".to_owned())],
        body: error_body("InternalError"),
    };
    for key in ["small", "in-parts"] {
        target.add(Rule::when(writes(key), refused(200)).times(1));
        target
            .add(Rule::when(writes(key), Act::AnswerAfter { status: 200, body: error_body("InternalError") }).times(1));
    }
    target.add(Rule::when(completes, Act::LoseAnswer).times(1));
    catch_up(&pair).await.expect_code(0);
    let mut found = compare(&pair).await;
    // ministack's UploadPartCopy computes no checksum.
    found.retain(|line| !line.contains(": checksum "));
    assert_eq!(found, nothing());
    assert_no_uploads(&pair.target).await;
}

/// P9: both sides ask for fewer requests for a while; nothing is parked, nothing lost.
#[tokio::test]
async fn a_storm_of_slow_downs_passes() {
    let (pair, source, target) = between(on(Server::Ministack)).await;
    for number in 0..30 {
        pair.source.put(&format!("k{number}"), bytes(number, 100)).await;
    }
    source.add(Rule::when(|seen| seen.method == "GET", Act::error(503, "SlowDown")).times(40));
    target.add(Rule::when(|seen| seen.method == "PUT", Act::error(503, "SlowDown")).times(40));
    let output = catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
    assert_eq!(output.json()["failed"], 0);
}

/// DESIGN 4.2: a small new object costs one GET and one PUT; its event told again costs nothing (P2).
async fn a_small_object_costs_two_requests(server: Server) {
    let (pair, source, target) = between(on(server)).await;
    let mut worker = spawn_repl(&pair, &["run"]);
    let first = pair.source.put("warm up", "1").await;
    pair.announce().await;
    arrived(&pair, 1).await;
    source.forget();
    target.forget();

    let version = pair.source.put("counted", bytes(1, 4 * KIB)).await.unwrap();
    let told = event(&pair.source, "ObjectCreated:Put", "counted", Some(&version));
    if server == Server::Seaweedfs {
        pair.put_message(&told).await;
    }
    arrived(&pair, 2).await;
    settled(&pair).await;
    assert_eq!((asked(&source), asked(&target)), (vec!["GET".to_owned()], vec!["PUT".to_owned()]));

    pair.put_message(&told).await;
    if server == Server::Seaweedfs {
        pair.put_message(&told).await;
    }
    pair.put_event("ObjectCreated:Put", "warm up", first.as_deref()).await;
    settled(&pair).await;
    let told_again = if server == Server::Seaweedfs { 1 } else { asked(&source).len() };
    assert_eq!((asked(&source).len(), asked(&target)), (told_again, vec!["PUT".to_owned()]));
    assert_eq!(list(&pair.target).await.len(), 2);
    worker.terminate(PATIENCE).await.expect_code(0);
}

fn asked(proxy: &Proxy) -> Vec<String> {
    proxy.seen().into_iter().map(|seen| seen.method).collect()
}

/// Waits until the target has so many versions.
async fn arrived(pair: &Pair, versions: usize) {
    eventually("the objects arrive", PATIENCE, async || list(&pair.target).await.len() >= versions).await;
}

/// Waits until the queue is empty and the running worker has nothing to do.
async fn settled(pair: &Pair) {
    eventually("the queue is worked off", PATIENCE, async || {
        pair.queue_depth().await == 0 && status(pair).await["pending"]["operations"] == 0
    })
    .await;
}

/// What `repl status --json` says while the worker runs.
async fn status(pair: &Pair) -> serde_json::Value {
    let said = ["status.out", "status.err"].map(|name| pair.directory.path().join(name));
    support::worker::spawn_repl_into(pair, &["status", "--json"], said).end(PATIENCE).await.json()
}

#[tokio::test]
async fn a_small_object_costs_two_requests_on_ministack() {
    a_small_object_costs_two_requests(Server::Ministack).await;
}

#[tokio::test]
async fn a_small_object_costs_two_requests_on_seaweedfs() {
    a_small_object_costs_two_requests(Server::Seaweedfs).await;
}

/// P9: a target that refuses parks what goes there, stops nothing else, and all of it goes on once permission is back.
#[tokio::test]
async fn what_is_denied_waits_for_permission_and_stops_nothing_else() {
    let rules = "[[rules]]\nid = \"denied\"\ntarget = \"dr\"\nprefix = \"denied/\"\n\n\
                 [[rules]]\nid = \"open\"\ntarget = \"dr\"\nprefix = \"open/\"\n";
    let (pair, _source, target) = between(on(Server::Ministack).rule(rules)).await;
    target.add(Rule::when(
        |seen| seen.method == "PUT" && seen.path.contains("/denied/"),
        Act::error(403, "AccessDenied"),
    ));
    for number in 0..12 {
        pair.source.put(&format!("denied/{number}"), "d").await;
        pair.source.put(&format!("open/{number}"), "o").await;
    }
    let output = catch_up(&pair).await.expect_code(1);
    let report = output.json();
    assert_eq!((&report["failed"], &report["pending"]["operations"]), (&12.into(), &0.into()));
    assert!(output.stderr.contains("kind=\"denied\"") && output.stderr.contains("AccessDenied"), "{}", output.stderr);
    let there = list(&pair.target).await;
    assert_eq!(there.iter().filter(|version| version.key.starts_with("open/")).count(), 12);
    assert_eq!(there.len(), 12);

    target.clear();
    target.forget();
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the group is released", PATIENCE, async || list(&pair.target).await.len() == 24).await;
    settled(&pair).await;
    assert_eq!(status(&pair).await["failed"], 0);
    assert_eq!(target.count(|seen| seen.method == "PUT"), 12, "no object was sent twice");
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
}

/// P7, P9: a disabled key parks what it would seal before a byte moves; enabled again, all of it goes on.
#[tokio::test]
async fn a_disabled_key_parks_and_an_enabled_one_releases() {
    let rules = "[[rules]]\nid = \"sealed\"\ntarget = \"dr\"\nprefix = \"sealed/\"\nkms_key = \"{target_key}\"\n\n\
                 [[rules]]\nid = \"plain\"\ntarget = \"dr\"\nprefix = \"plain/\"\n";
    let (pair, _source, target) = between(on(Server::Ministack).rule(rules)).await;
    let kms = pair.kms(TARGET_REGION);
    kms.disable_key().key_id(&pair.target_key).send().await.unwrap();
    for number in 0..5 {
        pair.source.put(&format!("sealed/{number}"), "s").await;
    }
    pair.source.put("plain/1", "p").await;
    let output = catch_up(&pair).await.expect_code(1);
    assert_eq!(output.json()["failed"], 5);
    assert!(output.stderr.contains("kind=\"key-unusable\""), "{}", output.stderr);
    assert_eq!(target.count(|seen| seen.method == "PUT" && seen.path.contains("/sealed/")), 0);
    assert_eq!(list(&pair.target).await.len(), 1);

    kms.enable_key().key_id(&pair.target_key).send().await.unwrap();
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the group is released", PATIENCE, async || list(&pair.target).await.len() == 6).await;
    worker.terminate(PATIENCE).await.expect_code(0);
    pair.source.delete_version("plain/1", &list(&pair.source).await[0].id).await;
    pair.target.delete_version("plain/1", &list(&pair.target).await[0].id).await;
    let expected = Expected { key: Some(pair.target_key.clone()), ..Expected::default() };
    assert_eq!(compare_as(&pair, &expected).await, nothing());
}

/// P7: a store that says it sealed the object under another key, or under none, is not believed to have done its job.
#[tokio::test]
async fn an_answer_with_the_wrong_key_is_parked() {
    for (number, encryption) in (1..).zip([Some("aws:kms"), Some("AES256"), None]) {
        let (pair, _source, target) = between(on(Server::Ministack).rule("kms_key = \"{target_key}\"")).await;
        pair.source.put("k", "sealed").await;
        let mut headers = vec![("etag", "\"00000000000000000000000000000000\"".to_owned())];
        if let Some(name) = encryption {
            headers.push(("x-amz-server-side-encryption", name.to_owned()));
            let other = pair.target_key.replace("key/", "key/not-");
            headers.push(("x-amz-server-side-encryption-aws-kms-key-id", other));
        }
        target.add(Rule::when(writes("k"), Act::Answer { status: 200, headers, body: String::new() }));
        let output = catch_up(&pair).await.expect_code(1);
        assert!(output.stderr.contains("kind=\"key-unusable\""), "{number}: {}", output.stderr);
    }
}

/// P7: an object that lies under the wrong key stays parked, though a probe finds it there.
#[tokio::test]
async fn what_lies_under_the_wrong_key_is_not_taken_for_equal() {
    let (pair, _source, target) = between(on(Server::Ministack).rule("kms_key = \"{target_key}\"")).await;
    pair.source.put("k", "sealed").await;
    target.add(Rule::when(|_| true, Act::HideHeaders("x-amz-server-side-encryption")));
    let mut worker = spawn_repl(&pair, &["run"]);
    let parked = |text: &str| text.lines().filter(|line| line.contains("kind=\"key-unusable\"")).count();
    eventually("the probe finds it as before", PATIENCE, async || parked(&worker.stderr()) >= 2).await;
    settled(&pair).await;
    assert_eq!(status(&pair).await["failed"], 1);
    assert_eq!(list(&pair.target).await.len(), 1);
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// P9: SSE-C sources and archived ones are parked with that reason; others go on.
#[tokio::test]
async fn what_cannot_be_read_is_parked_with_its_reason() {
    let (pair, source, _target) = between(on(Server::Ministack)).await;
    for key in ["customer", "archived", "fine"] {
        pair.source.put(key, "k").await;
    }
    let customer = "<Error><Code>InvalidRequest</Code><Message>The object was stored using a form of Server Side \
                    Encryption. The correct parameters must be provided to retrieve the object.</Message></Error>";
    let refuse = |status, body: &str| Act::Answer { status, headers: Vec::new(), body: body.to_owned() };
    source.add(Rule::when(reads("customer"), refuse(400, customer)));
    source.add(Rule::when(reads("archived"), refuse(403, &error_body("InvalidObjectState"))));
    let output = catch_up(&pair).await.expect_code(1);
    assert_eq!(output.json()["failed"], 2);
    for (key, kind) in [("customer", "ineligible"), ("archived", "archived")] {
        let line = output.stderr.lines().find(|line| line.contains("parked") && line.contains(&format!("key={key}")));
        assert!(line.is_some_and(|line| line.contains(&format!("kind=\"{kind}\""))), "{key}: {}", output.stderr);
    }
    assert_eq!(list(&pair.target).await.iter().map(|version| version.key.as_str()).collect::<Vec<_>>(), ["fine"]);
}

/// P9: an object that somebody else wrote into a target without versions is not destroyed.
#[tokio::test]
async fn a_strangers_object_is_not_overwritten_where_no_version_would_keep_it() {
    for server in [Server::Ministack, Server::Seaweedfs] {
        let pair = Setup { target_versions: Versions::Off, ..on(server) }.build().await;
        pair.target.put("theirs", "precious").await;
        pair.source.put("theirs", "ours").await;
        pair.source.put("ours", "1").await;
        pair.source.put("ours", "2").await;
        pair.announce().await;
        let output = catch_up(&pair).await.expect_code(1);
        assert_eq!(output.json()["failed"], 1);
        assert!(output.stderr.contains("kind=\"foreign\""), "{}", output.stderr);
        for (key, body) in [("theirs", "precious"), ("ours", "2")] {
            let got = pair.target.s3.get_object().bucket(&pair.target.name).key(key).send().await.unwrap();
            assert_eq!(got.body.collect().await.unwrap().to_vec(), body.as_bytes(), "{key}");
        }
    }
}

/// P1, P4: a version is gone only when the source's listing says so too. An answer that denies what is listed, on the
/// short way and again while both histories are examined, costs a retry and not the object.
#[tokio::test]
async fn what_is_listed_is_not_given_up_on_one_answer() {
    let (pair, source, _target) = between(on(Server::Ministack)).await;
    pair.source.put("k", "first").await;
    pair.source.put("k", "second").await;
    pair.source.put("once", "only").await;
    let denied = |seen: &Seen| seen.method == "GET" && (seen.path.ends_with("/k") || seen.path.ends_with("/once"));
    let missing = Act::error(404, "NoSuchKey");
    source.add(Rule::when(denied, missing).times(5));
    catch_up(&pair).await.expect_code(0);
    assert!(source.count(denied) > 5, "the answers were not given up on");
    assert_eq!(compare(&pair).await, nothing());
}

/// P10: no more bytes and requests a second than the config says.
#[tokio::test]
async fn limits_of_bandwidth_and_requests_hold() {
    let limits = "[transfer]\nmode = \"stream\"\nbandwidth = \"4MiB/s\"\n";
    let pair = on(Server::Ministack).more(limits).build().await;
    for number in 0..10 {
        pair.source.put(&format!("k{number}"), bytes(number, 2 * MIB)).await;
    }
    let start = Instant::now();
    catch_up(&pair).await.expect_code(0);
    assert!(start.elapsed() >= Duration::from_secs(3), "20 MiB at 4 MiB/s took {:?}", start.elapsed());

    let (pair, source, target) =
        between(on(Server::Ministack).more("[transfer]\nmode = \"stream\"\nrequests_per_second = 10\n")).await;
    for number in 0..25 {
        pair.source.put(&format!("k{number}"), "k").await;
    }
    let start = Instant::now();
    catch_up(&pair).await.expect_code(0);
    let requests = source.seen().len() + target.seen().len();
    assert!(requests >= 50 && start.elapsed() >= Duration::from_secs(4), "{requests} took {:?}", start.elapsed());
}

/// P6, P10: a large object with metadata, tags and a key, within the memory that DESIGN promises.
async fn a_large_object_fits_into_little_memory(server: Server, way: &str, parts: usize) {
    let rule = if server == Server::Ministack { "kms_key = \"{target_key}\"" } else { "" };
    let pair = Setup::on(server, server).rule(rule).more(&format!("[transfer]\nmode = \"{way}\"\n")).build().await;
    let large = Multipart {
        metadata: vec![("colour", "blue")],
        tags: (server == Server::Seaweedfs).then(|| "class=gold".to_owned()),
        ..Multipart::of(&vec![30 * MIB; parts])
    };
    pair.source.put_multipart("large", 1, &large).await;
    pair.announce().await;
    if server == Server::Ministack {
        pair.source.tag("large", None, &[("class", "gold")]).await;
    }
    let output = run_repl(&pair, &["run", "--until-idle=1s", "--json"], 3 * PATIENCE).await.expect_code(0);
    assert!(output.peak_rss < 96 << 20, "{} MiB resident", output.peak_rss >> 20);
    let key = (server == Server::Ministack).then(|| pair.target_key.clone());
    let mut found = compare_as(&pair, &Expected { key, ..Expected::default() }).await;
    // ministack's UploadPartCopy computes no checksum.
    found.retain(|line| !(way == "server-side" && server == Server::Ministack && line.contains(": checksum ")));
    assert_eq!(found, nothing());
    assert_no_uploads(&pair.target).await;
}

#[tokio::test]
async fn a_large_object_streams_within_its_memory() {
    a_large_object_fits_into_little_memory(Server::Seaweedfs, "stream", 10).await;
}

#[tokio::test]
async fn a_large_object_is_copied_by_the_store_within_little_memory() {
    a_large_object_fits_into_little_memory(Server::Ministack, "server-side", 10).await;
}

#[tokio::test]
#[ignore = "600 MiB take a minute or more"]
async fn six_hundred_mebibytes_fit_into_little_memory() {
    for server in [Server::Seaweedfs, Server::Ministack] {
        for way in ["stream", "server-side"] {
            a_large_object_fits_into_little_memory(server, way, 20).await;
        }
    }
}
