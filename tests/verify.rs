//! `repl verify` against real servers: damage is done at the target, and all of it is named, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_smithy_types::date_time::Format;
use serde_json::Value;
use support::objects::{Multipart, bytes};
use support::pair::{Bucket, Pair, Setup};
use support::proxy::{Act, Proxy, Rule};
use support::servers::Server;
use support::worker::{Output, run_repl};

const PATIENCE: Duration = Duration::from_secs(120);

/// A source object to copy, with its version.
async fn replicate(pair: &Pair, key: &str) {
    let version = pair.source.s3.head_object().bucket(&pair.source.name).key(key).send().await.unwrap().version_id;
    replicate_version(pair, key, version, key).await;
}

/// Writes a stamped replica as the worker would, with the test's own hands.
async fn replicate_version(pair: &Pair, key: &str, version: Option<String>, target_key: &str) {
    let source = &pair.source;
    let got =
        source.s3.get_object().bucket(&source.name).key(key).set_version_id(version.clone()).send().await.unwrap();
    let tags = source.s3.get_object_tagging().bucket(&source.name).key(key).set_version_id(version.clone());
    let tags: Vec<String> = tags
        .send()
        .await
        .unwrap()
        .tag_set
        .iter()
        .map(|tag| format!("{}={}", support::pair::form_encoded(&tag.key), support::pair::form_encoded(&tag.value)))
        .collect();
    let modified = got.last_modified.unwrap().fmt(Format::DateTime).unwrap();
    let mut put = pair
        .target
        .s3
        .put_object()
        .bucket(&pair.target.name)
        .key(target_key)
        .set_content_type(got.content_type)
        .set_content_encoding(got.content_encoding)
        .set_content_language(got.content_language)
        .set_content_disposition(got.content_disposition)
        .set_cache_control(got.cache_control)
        .set_expires(got.expires_string.map(|text| DateTime::from_str(&text, Format::HttpDate).unwrap()))
        .metadata("repl-source-version", version.unwrap_or_else(|| "null".to_owned()))
        .metadata("repl-source-etag", got.e_tag.unwrap().trim_matches('"'))
        .metadata("repl-source-modified", modified)
        .metadata("repl-origin", &source.name)
        .body(ByteStream::from(got.body.collect().await.unwrap().into_bytes()));
    for (name, value) in got.metadata.unwrap_or_default() {
        put = put.metadata(name, value);
    }
    if !tags.is_empty() {
        put = put.tagging(tags.join("&"));
    }
    put.send().await.unwrap();
}

/// Overwrites an object at the target, keeping its metadata and so its stamp.
async fn damage(target: &Bucket, key: &str, body: Vec<u8>, more: &[(&str, &str)], tags: Option<&str>) {
    let head = target.s3.head_object().bucket(&target.name).key(key).send().await.unwrap();
    let mut put = target
        .s3
        .put_object()
        .bucket(&target.name)
        .key(key)
        .set_content_type(head.content_type)
        .set_content_encoding(head.content_encoding)
        .set_content_language(head.content_language)
        .set_content_disposition(head.content_disposition)
        .set_cache_control(head.cache_control)
        .set_expires(head.expires_string.map(|text| DateTime::from_str(&text, Format::HttpDate).unwrap()))
        .set_metadata(head.metadata)
        .set_tagging(tags.map(str::to_owned))
        .body(ByteStream::from(body));
    for (name, value) in more {
        put = put.metadata(*name, *value);
    }
    put.send().await.unwrap();
}

async fn verify(pair: &Pair, args: &[&str]) -> (Output, BTreeMap<String, String>) {
    let report = pair.directory.path().join("report.jsonl");
    let path = report.display().to_string();
    let all: Vec<&str> = ["verify", "--json", "--report", &path].into_iter().chain(args.iter().copied()).collect();
    let output = run_repl(pair, &all, PATIENCE).await;
    let text = std::fs::read_to_string(&report).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.first().unwrap()["kind"], "header", "{output:?}");
    assert_eq!(lines.last().unwrap()["kind"], "trailer", "{output:?}\n{text}");
    let objects = lines.iter().filter(|line| line["kind"] == "object");
    let named = objects.map(|line| {
        let verdict = format!("{} by {}", line["verdict"].as_str().unwrap(), line["by"].as_str().unwrap());
        // What changed within the second of the start is looked at again: which of both, the clock decides.
        let verdict = verdict.replace("missing by head", "missing by listing");
        (line["key"].as_str().unwrap().to_owned(), verdict)
    });
    (output, named.collect())
}

fn count(output: &Output, field: &str) -> u64 {
    output.json()[field].as_u64().unwrap_or_else(|| panic!("{field}: {output:?}"))
}

fn named(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, verdict)| ((*key).to_owned(), (*verdict).to_owned())).collect()
}

/// Keys that sort differently by bytes, by directories and by encoded spelling.
const KEYS: [&str; 12] =
    ["a-x", "a/b", "a.txt", "a b", "a+b", "a/c/d", "a/c-d", "per%cent", "ünï/cödé ☃", "z", "zz/1", "zz-1"];

async fn equal_pair(pair: &Pair) {
    for (seed, key) in (1..).zip(KEYS) {
        pair.source.put(key, bytes(seed, 300)).await;
        replicate(pair, key).await;
    }
    for key in ["missing", "short", "other bytes", "tags", "metadata"] {
        pair.source.put_adorned(key, bytes(77, 500)).await;
        replicate(pair, key).await;
    }
}

async fn seeded_damage(source: Server, target: Server) {
    let pair = Setup::on(source, target).build().await;
    equal_pair(&pair).await;
    let (output, found) = verify(&pair, &["--check-metadata", "--check-tags"]).await;
    assert_eq!((output.code, found), (Some(0), BTreeMap::new()), "equal sides: {output:?}");
    assert_eq!(count(&output, "identical"), 17, "{output:?}");
    assert_eq!((count(&output, "extra"), count(&output, "unprovable")), (0, 0));

    let at = &pair.target;
    at.delete("missing").await;
    let tags = Some("class=gold&odd%20name=a%2Bb%3D");
    damage(at, "short", bytes(77, 499), &[], tags).await;
    damage(at, "other bytes", bytes(78, 500), &[], tags).await;
    damage(at, "metadata", bytes(77, 500), &[("colour", "red")], tags).await;
    at.tag("tags", None, &[("class", "silver"), ("odd name", "a+b=")]).await;
    at.put("extra", bytes(5, 5)).await;

    let (output, found) = verify(&pair, &[]).await;
    let plain = [("missing", "missing by listing"), ("short", "different by size"), ("extra", "extra by source")];
    let differing = found.get("other bytes").cloned().unwrap_or_default();
    assert!(["different by etag", "different by checksum"].contains(&&*differing), "{found:?}");
    let mut expected = named(&plain);
    expected.insert("other bytes".to_owned(), differing.clone());
    assert_eq!(found, expected, "by listings and heads: {output:?}");
    assert_eq!(output.code, Some(1));

    let (output, found) = verify(&pair, &["--check-metadata", "--check-tags", "--deep"]).await;
    expected.extend(named(&[
        ("other bytes", "different by bytes"),
        ("tags", "different by tags"),
        ("metadata", "different by metadata"),
    ]));
    assert_eq!(found, expected, "{output:?}");
    let counts =
        ["compared", "identical", "missing", "different", "extra", "unprovable"].map(|name| count(&output, name));
    assert_eq!(counts, [17, 12, 1, 4, 1, 0], "{output:?}");
    assert_eq!(output.json()["incomplete"], false);
}

#[tokio::test]
async fn seeded_damage_is_named_and_nothing_else_on_ministack() {
    seeded_damage(Server::Ministack, Server::Ministack).await;
}

#[tokio::test]
async fn seeded_damage_is_named_and_nothing_else_on_seaweedfs() {
    seeded_damage(Server::Seaweedfs, Server::Seaweedfs).await;
}

#[tokio::test]
async fn stores_that_list_in_different_orders_are_compared() {
    let pair = Setup::on(Server::Ministack, Server::Seaweedfs).build().await;
    equal_pair(&pair).await;
    let (output, found) = verify(&pair, &[]).await;
    assert_eq!((output.code, found), (Some(0), BTreeMap::new()), "{output:?}");
    pair.target.delete("a/c-d").await;
    let (output, found) = verify(&pair, &["--versions"]).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a/c-d"], "{output:?}");
    assert_eq!(output.code, Some(1));
}

/// Hundreds of objects under one prefix and a tree, several pages each way; the sample is the same for the same seed.
#[tokio::test]
async fn pages_and_samples() {
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).rule("target_prefix = \"copy-\"").build().await;
    let write = |bucket: Bucket, prefix: &'static str| async move {
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..2500_u64 {
            let key = if number % 2 == 0 {
                format!("{prefix}flat/{number:06}")
            } else {
                format!("{prefix}t/{:03}/{number}", number % 97)
            };
            let bucket = bucket.clone();
            if writers.len() >= 16 {
                writers.join_next().await;
            }
            writers.spawn(async move { bucket.put(&key, number.to_le_bytes()).await });
        }
        writers.join_all().await;
    };
    tokio::join!(write(pair.source.clone(), ""), write(pair.target.clone(), "copy-"));
    for key in ["copy-flat/000000", "copy-t/002/1069", "copy-flat/002498"] {
        pair.target.delete(key).await;
    }
    pair.target.put("copy-t/050/x", "x").await;
    pair.target.put("outside", "nobody's").await;
    let (output, found) = verify(&pair, &[]).await;
    let expected = [
        ("flat/000000", "missing by listing"),
        ("flat/002498", "missing by listing"),
        ("t/002/1069", "missing by listing"),
        ("t/050/x", "extra by source"),
    ];
    assert_eq!(found, named(&expected), "{output:?}");
    assert_eq!((count(&output, "compared"), output.code), (2500, Some(1)));
    let sampled = |seed: &'static str| async {
        let (output, _) = verify(&pair, &["--sample", "10%", "--seed", seed, "--report-all"]).await;
        let text = std::fs::read_to_string(pair.directory.path().join("report.jsonl")).unwrap();
        let keys: Vec<String> =
            text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].to_string()).collect();
        assert!((150..350).contains(&count(&output, "compared")), "{output:?}");
        assert_eq!(output.json()["seed"], seed.parse::<u64>().unwrap());
        keys
    };
    let first = sampled("4").await;
    assert_eq!(first, sampled("4").await);
    assert_ne!(first, sampled("5").await);
}

#[tokio::test]
async fn what_the_rule_leaves_at_the_target_is_kept_and_not_extra() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).rule("delete_markers = false").build().await;
    for key in ["deleted", "purged", "there"] {
        let version = pair.source.put(key, key).await.unwrap();
        replicate(&pair, key).await;
        match key {
            "deleted" => drop(pair.source.delete(key).await),
            "purged" => pair.source.delete_version(key, &version).await,
            _ => {}
        }
    }
    let (output, found) = verify(&pair, &[]).await;
    assert_eq!(found, named(&[("deleted", "kept by source"), ("purged", "kept by source")]), "{output:?}");
    assert_eq!((output.code, count(&output, "kept"), count(&output, "extra")), (Some(0), 2, 0));
}

#[tokio::test]
async fn histories_are_compared_in_order() {
    for server in [Server::Ministack, Server::Seaweedfs] {
        let pair = Setup::on(server, server).build().await;
        for key in ["whole", "swapped", "lacks one", "stranger"] {
            let mut versions = Vec::new();
            for seed in 1..=3_u64 {
                versions.push(pair.source.put(key, bytes(seed, 64)).await);
            }
            let order: &[usize] = match key {
                "swapped" => &[1, 0, 2],
                "lacks one" => &[0, 2],
                _ => &[0, 1, 2],
            };
            for place in order {
                replicate_version(&pair, key, versions[*place].clone(), key).await;
            }
        }
        pair.target.put("stranger", "nobody's").await;
        pair.source.put("marked", "1").await;
        replicate(&pair, "marked").await;
        pair.source.delete("marked").await;
        pair.target.delete("marked").await;
        let (output, found) = verify(&pair, &["--versions"]).await;
        let mut keys: Vec<&str> = found.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["lacks one", "stranger", "swapped"], "{server:?} {found:?} {output:?}");
        assert_eq!(found["lacks one"], "missing by history");
        assert_eq!(found["swapped"], "different by order");
        assert_eq!(count(&output, "compared"), 13 + 2, "a version each, and an order for two: {output:?}");
        assert_eq!((count(&output, "extra"), output.code), (1, Some(1)));
    }
}

/// Same-size damage to a multipart object, and one copied with other parts.
#[tokio::test]
async fn multipart_objects() {
    const MIB: usize = 1 << 20;
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).build().await;
    let how = Multipart::of(&[5 * MIB, 6 * MIB, 100]);
    pair.source.put_multipart("same", 1, &how).await;
    pair.target.put_multipart("same", 1, &how).await;
    pair.source.put_multipart("damaged", 1, &how).await;
    pair.target.put_multipart("damaged", 2, &how).await;
    pair.source.put_multipart("other parts", 1, &how).await;
    let body: Vec<u8> =
        [(2, 5 * MIB), (3, 6 * MIB), (4, 100)].into_iter().flat_map(|(seed, length)| bytes(seed, length)).collect();
    pair.target.put("other parts", body).await;
    let (output, found) = verify(&pair, &["--report-all", "--deep"]).await;
    let expected =
        [("same", "identical by bytes"), ("damaged", "different by bytes"), ("other parts", "identical by bytes")];
    assert_eq!(found, named(&expected), "{output:?}");
    let (output, found) = verify(&pair, &[]).await;
    assert!(found["damaged"].starts_with("different by "), "{found:?} {output:?}");
    assert!(!found.contains_key("same"), "{found:?}");
    assert!(found.get("other parts").is_none_or(|verdict| verdict.starts_with("unprovable")), "{found:?}");
}

#[tokio::test]
async fn a_side_that_cannot_be_listed_is_named_and_the_exit_code_is_3() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    pair.source.put("a", "1").await;
    pair.target.s3.delete_bucket().bucket(&pair.target.name).send().await.unwrap();
    let (output, found) = verify(&pair, &[]).await;
    assert_eq!((output.code, found.len()), (Some(3), 0), "{output:?}");
    assert_eq!((output.json()["incomplete"].clone(), count(&output, "failed_ranges")), (Value::Bool(true), 1));
    run_repl(&pair, &["verify", "--rule", "none"], PATIENCE).await.expect_code(2);
    run_repl(&pair, &["verify", "--sample", "0%"], PATIENCE).await.expect_code(2);
}

/// Listings and looks that fail for a while are waited for; a page that never comes leaves a named hole, the rest is
/// compared all the same.
#[tokio::test]
async fn a_failed_range_is_named_and_the_rest_is_compared() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let mut setup = Setup::on(Server::Ministack, Server::Ministack);
    setup.target_endpoint = Some(proxy.endpoint());
    let pair = setup.build().await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..1200_u64 {
        for bucket in [pair.source.clone(), pair.target.clone()] {
            if writers.len() >= 16 {
                writers.join_next().await;
            }
            writers.spawn(async move { bucket.put(&format!("k/{number:06}"), number.to_le_bytes()).await });
        }
    }
    writers.join_all().await;
    pair.target.delete("k/000003").await;
    pair.target.delete("k/001199").await;
    let listing = |seen: &support::proxy::Seen| seen.query.get("list-type").is_some_and(|kind| kind == "2");
    proxy.add(Rule::when(listing, Act::error(503, "SlowDown")).times(2));
    let (output, found) = verify(&pair, &[]).await;
    let both = named(&[("k/000003", "missing by listing"), ("k/001199", "missing by listing")]);
    assert_eq!((output.code, found), (Some(1), both), "{output:?}");
    assert!(proxy.count(|seen| listing(seen) && seen.status == Some(503)) >= 2);

    let later = move |seen: &support::proxy::Seen| {
        listing(seen) && (seen.asks("continuation-token") || seen.asks("start-after"))
    };
    proxy.clear();
    proxy.add(Rule::when(later, Act::error(403, "AccessDenied")));
    let (output, found) = verify(&pair, &[]).await;
    assert_eq!(found, named(&[("k/000003", "missing by listing")]), "what the first page proves: {output:?}");
    assert_eq!(output.code, Some(3), "{output:?}");
    let report = output.json();
    assert_eq!(report["incomplete"], true);
    assert!(report["failed"][0].as_str().unwrap().contains("after \"k/"), "{report}");
    assert!((900..1200).contains(&count(&output, "compared")), "{report}");

    proxy.clear();
    let later = |seen: &support::proxy::Seen| seen.asks("versions") && seen.asks("key-marker");
    proxy.add(Rule::when(later, Act::error(403, "AccessDenied")));
    let (output, _) = verify(&pair, &["--versions"]).await;
    let report = output.json();
    assert_eq!((output.code, &report["incomplete"]), (Some(3), &Value::Bool(true)), "{output:?}");
    assert!(report["failed"][0].as_str().unwrap().contains("after \"k/"), "{report}");
    assert!((900..1200).contains(&count(&output, "compared")), "{report}");
}

/// A body that breaks off is taken up where it broke; the comparison reads each byte once.
#[tokio::test]
async fn a_broken_body_is_taken_up_again() {
    let proxy = Proxy::before(&Server::Seaweedfs.access().endpoint);
    let mut setup = Setup::on(Server::Seaweedfs, Server::Seaweedfs);
    setup.target_endpoint = Some(proxy.endpoint());
    let pair = setup.build().await;
    let body = bytes(9, 3 << 20);
    pair.source.put("large", body.clone()).await;
    let mut other = body.clone();
    *other.last_mut().unwrap() ^= 1;
    pair.target.put("large", other).await;
    proxy.add(
        Rule::when(|seen| seen.method == "GET" && seen.plain_path().ends_with("/large"), Act::CutResponse(1 << 20))
            .times(1),
    );
    let (output, found) = verify(&pair, &["--deep"]).await;
    assert_eq!(found, named(&[("large", "different by bytes")]), "{output:?}");
    let text = std::fs::read_to_string(pair.directory.path().join("report.jsonl")).unwrap();
    assert!(text.contains(&format!("offset {}", body.len() - 1)), "{text}");
    let ranged = proxy.count(|seen| seen.method == "GET" && seen.header("range").starts_with("bytes="));
    assert!(ranged >= 1, "it went on from where it broke");
}
