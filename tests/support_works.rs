//! What cloud tests stand on, tested by itself: the servers answer, and the comparison sees every kind of difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use support::aftermath::{Entry, too_many};
use support::compare::{compare, compare_as, list};
use support::objects::{Multipart, bytes};
use support::pair::{Bucket, Expected, History, Markers, Pair, Setup};
use support::servers::Server;
use support::worker::{peak_rss, run_repl};

/// The same small object on both sides, with this change to the target's.
async fn differing(
    pair: &Pair,
    key: &str,
    change: impl FnOnce(
        aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder,
    ) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder,
) -> Vec<String> {
    let put = |bucket: &Bucket| {
        bucket
            .s3
            .put_object()
            .bucket(&bucket.name)
            .key(key)
            .body(ByteStream::from_static(b"hello"))
            .content_type("text/plain")
            .metadata("colour", "blue")
            .tagging("class=gold")
    };
    put(&pair.source).send().await.unwrap();
    change(put(&pair.target).metadata("repl-origin", "stamp")).send().await.unwrap();
    let found = compare(pair).await;
    for bucket in [&pair.source, &pair.target] {
        for version in list(bucket).await {
            bucket.delete_version(&version.key, &version.id).await;
        }
    }
    found
}

async fn comparison_sees(server: Server) {
    let pair = Setup::on(server, server).build().await;
    assert_eq!(differing(&pair, "same", |put| put).await, Vec::<String>::new());
    for (word, found) in [
        ("body MD5", differing(&pair, "k", |put| put.body(ByteStream::from_static(b"hellO"))).await),
        ("Content-Type", differing(&pair, "k", |put| put.content_type("text/html")).await),
        ("Cache-Control", differing(&pair, "k", |put| put.cache_control("no-store")).await),
        (
            "Expires",
            differing(&pair, "k", |put| put.expires(aws_smithy_types::DateTime::from_secs(2_000_000_000))).await,
        ),
        ("metadata colour", differing(&pair, "k", |put| put.metadata("colour", "red")).await),
        ("tag class", differing(&pair, "k", |put| put.tagging("class=silver")).await),
        ("storage class", differing(&pair, "k", |put| put.storage_class(StorageClass::StandardIa)).await),
        ("checksum SHA256", differing(&pair, "k", |put| put.checksum_algorithm("SHA256".into())).await),
    ] {
        assert!(found.iter().any(|line| line.contains(word)), "{word} is not among {found:?}");
    }
}

#[tokio::test]
async fn the_comparison_sees_each_kind_of_difference_on_ministack() {
    comparison_sees(Server::Ministack).await;
}

#[tokio::test]
async fn the_comparison_sees_each_kind_of_difference_on_seaweedfs() {
    comparison_sees(Server::Seaweedfs).await;
}

#[tokio::test]
async fn the_comparison_sees_versions_markers_parts_and_keys() {
    const MIB: usize = 1 << 20;
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let (source, target) = (&pair.source, &pair.target);
    source.put("twice", "1").await;
    source.put("twice", "2").await;
    target.put("twice", "2").await;
    source.put("marked", "1").await;
    source.delete("marked").await;
    target.put("marked", "1").await;
    target.put("extra", "1").await;
    source.put_multipart("parts", 1, &Multipart::of(&[5 * MIB, 10])).await;
    let body = [bytes(2, 5 * MIB), bytes(3, 10)].concat();
    target.put("parts", body).await;
    let found = compare(&pair).await;
    for line in [
        "twice: source has [\"object\", \"object\"], target has [\"object\"]",
        "marked: source has [\"marker\", \"object\"], target has [\"object\"]",
        "extra: only at the target",
        "parts differ: ETag",
    ] {
        assert!(found.iter().any(|difference| difference.contains(line)), "{line} is not among {found:?}");
    }
    let latest = Expected { history: History::Latest, markers: Markers::LeftOut, ..Expected::default() };
    let left = compare_as(&pair, &latest).await;
    assert!(!left.iter().any(|line| line.starts_with("twice")), "{left:?}");
    let keyed = Expected { key: Some(pair.target_key.clone()), ..latest };
    let unkeyed = compare_as(&pair, &keyed).await;
    assert!(
        unkeyed.iter().any(|line| line.starts_with("twice") && line.contains("encryption should be")),
        "{unkeyed:?}"
    );
    let put = target.s3.put_object().bucket(&target.name).key("twice").body(ByteStream::from_static(b"2"));
    put.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(&pair.target_key).send().await.unwrap();
    let again = compare_as(&pair, &Expected { history: History::Latest, ..keyed }).await;
    assert!(
        !again.iter().any(|line| line.contains("encryption should be") && line.starts_with("twice version 0")),
        "{again:?}"
    );
}

#[tokio::test]
async fn versions_under_a_delete_marker_are_compared_too() {
    for server in [Server::Ministack, Server::Seaweedfs] {
        let pair = Setup::on(server, server).build().await;
        for bucket in [&pair.source, &pair.target] {
            bucket.put_adorned("gone", "same").await;
            bucket.put("gone", if bucket.name == pair.source.name { "ours" } else { "theirs" }).await;
            bucket.delete("gone").await;
        }
        let found = compare(&pair).await;
        assert!(!found.is_empty() && found.iter().all(|line| line.starts_with("gone version 1 of 3")), "{found:?}");
    }
}

#[tokio::test]
async fn objects_of_every_kind_can_be_written_and_are_announced() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    // The test message that S3 sends when a notification is set up.
    let before = pair.queue_depth().await;
    pair.write_every_kind("all/").await;
    let versions = list(&pair.source).await;
    assert_eq!(versions.len(), 18);
    assert_eq!(versions.iter().filter(|version| version.marker).count(), 2);
    assert_eq!(pair.queue_depth().await - before, 18);
    let order: Vec<bool> = versions.iter().filter(|v| v.key == "all/back again").map(|v| v.marker).collect();
    assert_eq!(order, [false, true, false]);
    let found = compare(&pair).await;
    assert_eq!(found.len(), 13, "every key is missing at the target: {found:?}");
}

#[tokio::test]
async fn seaweedfs_takes_objects_of_every_kind() {
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).build().await;
    pair.write_every_kind("all/").await;
    assert_eq!(list(&pair.source).await.len(), 18);
    pair.put_event("ObjectCreated:Put", "all/sp ace", None).await;
    assert_eq!((pair.queue_depth().await, pair.dead_letters().await), (1, 0));
}

#[tokio::test]
async fn the_binary_runs_and_memory_is_read() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).more("[transfer]\nmode = \"stream\"\n").build().await;
    run_repl(&pair, &["--help"], std::time::Duration::from_secs(20)).await.expect_code(0);
    let text = std::fs::read_to_string(&pair.config).unwrap();
    assert!(text.contains("mode = \"stream\"") && text.contains(&pair.queue_url), "{text}");
    let peak = peak_rss(std::process::id()).unwrap();
    assert!((1 << 20..1 << 33).contains(&peak), "{peak} bytes");
    assert_eq!(peak_rss(u32::MAX), None);
}

#[test]
fn only_a_late_version_excuses_one_too_many() {
    let entries =
        |text: &str| -> Vec<Entry> { text.split(' ').map(|word| (word != "-").then(|| word.to_owned())).collect() };
    let judged = |wanted: &str, there: &str| too_many(&entries(wanted), &entries(there));
    assert_eq!(judged("a b c", "a b c"), Ok(0));
    assert_eq!(judged("a b c", "a c b c"), Ok(1));
    assert_eq!(judged("a - c", "c a - c"), Ok(1));
    assert_eq!(judged("a -", "- a -"), Ok(1));
    for broken in ["a", "a b c c", "a a b c", "a b c b", "b a c", "a b x c", "a b c a b c"] {
        assert!(judged("a b c", broken).is_err(), "{broken}");
    }
    assert_eq!(judged("a - c", "a c"), Ok(1), "a marker that came after its successor is left out");
    assert_eq!(judged("a - c", "c a c"), Ok(2));
    for broken in ["a", "a -", "c a", "- c"] {
        assert!(judged("a - c", broken).is_err(), "{broken}");
    }
    assert!(judged("a -", "a").is_err(), "the newest is always due");
    assert!(judged("a", "a a").is_err());
    assert!(judged("a -", "a - -").is_err());
}
