//! Everything comes along (P6), under the right key (P7), however the bytes travel: the binary against real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode,
    ObjectLockRetention, ObjectLockRetentionMode, ServerSideEncryption,
};
use support::compare::{compare, compare_as, list};
use support::objects::{Dress, Multipart, bytes};
use support::pair::{Bucket, Expected, Locking, Pair, Setup};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::worker::catch_up;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// 2100-01-01: a retention that no test outlives.
const FAR: i64 = 4_102_444_800;

fn nothing() -> Vec<String> {
    Vec::new()
}

fn mode(name: &str) -> String {
    format!("[transfer]\nmode = \"{name}\"\n")
}

/// A key of exactly 1,024 bytes, the most that S3 permits, in folders that any file system can hold.
fn longest_key() -> String {
    let mut key = "ünïcödé/".to_owned();
    while key.len() < 1024 {
        let next = (1024 - key.len()).min(200);
        key.push_str(&"k".repeat(next - 1));
        key.push(if key.len() < 1023 { '/' } else { 'k' });
    }
    assert_eq!(key.len(), 1024);
    key
}

/// Objects written in one request, each odd in its own way.
async fn write_singles(source: &Bucket) {
    source.put_adorned("adorned", bytes(1, 1000)).await;
    source.put_adorned("adorned and empty", Vec::new()).await;
    source.put_adorned("adorned and piped", bytes(2, 700 * KIB)).await;
    source.put("one byte", "1").await;
    source.put(&longest_key(), "long").await;
    for (seed, length) in (10..).zip([512 * KIB - 1, 512 * KIB, 512 * KIB + 1]) {
        source.put(&format!("size/{length}"), bytes(seed, length)).await;
    }
    let put = |key: &str| source.s3.put_object().bucket(&source.name).key(key).body(ByteStream::from_static(b"odd"));
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        put(&format!("checksum/{algorithm}")).checksum_algorithm(algorithm).send().await.unwrap();
    }
    put("metadata/rfc 2047").metadata("subject", "=?UTF-8?B?ZsO8ciBTaWU=?=").send().await.unwrap();
    // With the stamp it would pass S3's 2 KB; alone it just fits.
    put("metadata/full").metadata("full", "m".repeat(2040)).send().await.unwrap();
    let tags = "sp%20ace=a%20%2B%20-%20%3D%20._%3A/%40&%2B-%3D._%3A/%40=&unic%C3%B6de=%C3%BC%E5%90%8D";
    put("tag/odd").tagging(tags).send().await.unwrap();
    let ten: Vec<String> = (0..10).map(|number| format!("{number}{}={}", "k".repeat(127), "v".repeat(256))).collect();
    put("tag/ten of full length").tagging(ten.join("&")).send().await.unwrap();
    if source.server == Server::Ministack {
        put("redirect").website_redirect_location("/elsewhere.html").send().await.unwrap();
    }
}

/// Objects written in parts.
async fn write_multiparts(source: &Bucket) {
    let mut kinds = vec![
        (ChecksumAlgorithm::Crc32, ChecksumType::Composite),
        (ChecksumAlgorithm::Crc32C, ChecksumType::Composite),
        (ChecksumAlgorithm::Sha1, ChecksumType::Composite),
        (ChecksumAlgorithm::Sha256, ChecksumType::Composite),
    ];
    if source.server == Server::Seaweedfs {
        // ministack refuses correct checksums over the full object.
        kinds.push((ChecksumAlgorithm::Crc32, ChecksumType::FullObject));
        kinds.push((ChecksumAlgorithm::Crc32C, ChecksumType::FullObject));
        kinds.push((ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject));
    }
    for (seed, checksum) in (50..).zip(kinds) {
        let key = format!("parts/{}/{}", checksum.0, checksum.1);
        let how = Multipart { checksum: Some(checksum), ..Multipart::of(&[5 * MIB, 100]) };
        source.put_multipart(&key, seed, &how).await;
    }
    let adorned = Multipart { dress: Dress::Full, ..Multipart::of(&[5 * MIB, 6 * MIB, 1]) };
    source.put_multipart("parts/adorned", 60, &adorned).await;
    source.tag("parts/adorned", None, &[("class", "gold"), ("odd name", "a+b=")]).await;
    source.put_multipart("parts/only one", 61, &Multipart { dress: Dress::Full, ..Multipart::of(&[1234]) }).await;
}

/// P2, P5, P6: every attribute of every object, in one part and in many; and a second telling changes nothing.
async fn everything_comes_along(source: Server, target: Server, way: &str) {
    let pair = Setup::on(source, target).more(&mode(way)).build().await;
    write_singles(&pair.source).await;
    write_multiparts(&pair.source).await;
    if way == "auto" {
        // Where the ways part.
        for (seed, length) in (20..).zip([16 * MIB - 1, 16 * MIB, 16 * MIB + 1]) {
            pair.source.put(&format!("size/{length}"), bytes(seed, length)).await;
        }
    }
    pair.announce().await;
    catch_up(&pair).await.expect_code(0);
    let mut found = compare(&pair).await;
    if target == Server::Ministack && (source == Server::Seaweedfs || way == "server-side") {
        // ministack's UploadPartCopy computes no checksum, and what it stores of parts it takes for composite at one
        // place and for full at another.
        found.retain(|line| !(line.starts_with("parts/") && line.contains(": checksum ")));
    }
    assert_eq!(found, nothing());
    assert_no_uploads(&pair.target).await;
    let before = list(&pair.target).await;
    for version in list(&pair.source).await {
        pair.put_event("ObjectCreated:Put", &version.key, Some(&version.id)).await;
    }
    catch_up(&pair).await.expect_code(0);
    assert_eq!(list(&pair.target).await, before, "told again, nothing changes");
}

async fn assert_no_uploads(bucket: &Bucket) {
    let open = bucket.s3.list_multipart_uploads().bucket(&bucket.name).send().await.unwrap();
    assert_eq!(open.uploads().iter().map(|upload| upload.key()).collect::<Vec<_>>(), Vec::<Option<&str>>::new());
}

#[tokio::test]
async fn everything_comes_along_streamed_on_ministack() {
    everything_comes_along(Server::Ministack, Server::Ministack, "stream").await;
}

/// `stream` by the AWS SDK's client instead of our own.
const STREAM_BY_SDK: &str = "stream\"\nclient = \"sdk";

#[tokio::test]
async fn everything_comes_along_streamed_by_the_sdk() {
    everything_comes_along(Server::Ministack, Server::Ministack, STREAM_BY_SDK).await;
    everything_comes_along(Server::Seaweedfs, Server::Seaweedfs, STREAM_BY_SDK).await;
}

#[tokio::test]
async fn everything_comes_along_server_side_on_ministack() {
    everything_comes_along(Server::Ministack, Server::Ministack, "server-side").await;
}

#[tokio::test]
async fn everything_comes_along_by_itself_on_ministack() {
    everything_comes_along(Server::Ministack, Server::Ministack, "auto").await;
}

#[tokio::test]
async fn everything_comes_along_streamed_on_seaweedfs() {
    everything_comes_along(Server::Seaweedfs, Server::Seaweedfs, "stream").await;
}

#[tokio::test]
async fn everything_comes_along_server_side_on_seaweedfs() {
    everything_comes_along(Server::Seaweedfs, Server::Seaweedfs, "server-side").await;
}

#[tokio::test]
async fn everything_comes_along_by_itself_on_seaweedfs() {
    everything_comes_along(Server::Seaweedfs, Server::Seaweedfs, "auto").await;
}

#[tokio::test]
async fn everything_comes_along_from_one_store_to_another() {
    everything_comes_along(Server::Seaweedfs, Server::Ministack, "auto").await;
}

/// P6: retention and legal hold, in one part and in many.
async fn locks_come_along(server: Server, way: &str) {
    let setup = Setup { locking: Locking::Enabled, ..Setup::on(server, server).more(&mode(way)) };
    let pair = setup.build().await;
    let source = &pair.source;
    let put = |key: &str| source.s3.put_object().bucket(&source.name).key(key).body(ByteStream::from_static(b"kept"));
    let until = DateTime::from_secs(FAR);
    put("governed")
        .object_lock_mode(ObjectLockMode::Governance)
        .object_lock_retain_until_date(until)
        .checksum_algorithm(ChecksumAlgorithm::Crc32)
        .send()
        .await
        .unwrap();
    put("held")
        .object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On)
        .checksum_algorithm(ChecksumAlgorithm::Crc32)
        .send()
        .await
        .unwrap();
    source.put_multipart("parts", 3, &Multipart::of(&[5 * MIB, 10])).await;
    lock(source, "parts", until).await;
    pair.announce().await;
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());

    // And a later change follows, told by an event that S3 sends for another one.
    let version = source.put("later", "free at first").await;
    pair.put_event("ObjectCreated:Put", "later", version.as_deref()).await;
    catch_up(&pair).await.expect_code(0);
    lock(source, "later", until).await;
    assert_ne!(compare(&pair).await, nothing());
    pair.put_event("ObjectTagging:Put", "later", version.as_deref()).await;
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
}

async fn lock(bucket: &Bucket, key: &str, until: DateTime) {
    let retention =
        ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Governance).retain_until_date(until).build();
    bucket.s3.put_object_retention().bucket(&bucket.name).key(key).retention(retention).send().await.unwrap();
    let hold = ObjectLockLegalHold::builder().status(ObjectLockLegalHoldStatus::On).build();
    bucket.s3.put_object_legal_hold().bucket(&bucket.name).key(key).legal_hold(hold).send().await.unwrap();
}

#[tokio::test]
async fn locks_come_along_on_ministack() {
    locks_come_along(Server::Ministack, "stream").await;
    locks_come_along(Server::Ministack, "server-side").await;
}

#[tokio::test]
async fn locks_come_along_on_seaweedfs() {
    locks_come_along(Server::Seaweedfs, "stream").await;
    locks_come_along(Server::Seaweedfs, "server-side").await;
}

/// P6: S3 takes bytes under Object Lock only with a digest sent ahead of them, in one request and in parts, and all bytes
/// where the bucket has a default retention. The sources here tell none, and memory does not hold the largest part.
async fn digests_are_sent_where_s3_wants_them(locked: bool) {
    let target = Proxy::before(&Server::Ministack.access().endpoint);
    let setup = Setup {
        locking: Locking::Enabled,
        target_endpoint: Some(target.endpoint()),
        ..Setup::on(Server::Ministack, Server::Ministack)
    };
    let pair = setup.more("[transfer]\nmode = \"stream\"\nmemory = \"16MiB\"\n").build().await;
    put_bare_and_sealed(&pair, "piped", 2 * MIB).await;
    pair.source.put_multipart("parts", 3, &Multipart::of(&[7 * MIB, 5 * MIB, 600 * KIB])).await;
    if locked {
        for key in ["piped", "parts"] {
            lock(&pair.source, key, DateTime::from_secs(FAR)).await;
        }
    }
    let bare = |seen: &Seen| {
        let digest = |name: &str| name == "content-md5" || name.starts_with("x-amz-checksum-");
        seen.method == "PUT"
            && !["tagging", "retention", "legal-hold"].iter().any(|other| seen.asks(other))
            && !seen.headers.keys().any(|name| digest(name.as_str()))
    };
    target.add(Rule::when(bare, Act::error(400, "InvalidRequest")));
    let report = catch_up(&pair).await.expect_code(0).json();
    assert_eq!(compare(&pair).await, nothing());
    assert_eq!((target.count(bare) > 0, report["failed"].as_u64()), (!locked, Some(0)));
}

/// Under KMS and without the checksum that the SDK adds by itself, as objects were written for years.
async fn put_bare_and_sealed(pair: &Pair, key: &str, length: usize) {
    let source = &pair.source;
    let put = source.s3.put_object().bucket(&source.name).key(key).body(ByteStream::from(bytes(9, length)));
    let put = put.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(&pair.source_key);
    let bare =
        aws_sdk_s3::config::Builder::new().request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    put.customize().config_override(bare).send().await.unwrap();
}

#[tokio::test]
async fn what_comes_under_object_lock_brings_its_digest() {
    digests_are_sent_where_s3_wants_them(true).await;
}

#[tokio::test]
async fn a_bucket_that_refuses_bytes_without_a_digest_gets_one() {
    digests_are_sent_where_s3_wants_them(false).await;
}

/// P5: the source tells no checksum, only an ETag made of its parts', and the target keeps none of what was sent. What it
/// says of the parts that it has is all that can be compared, and it shows a bit that was another on the way there: in a
/// part that the worker has hashed itself, and in one that only the target has.
#[tokio::test]
async fn a_part_that_the_target_has_otherwise_does_not_become_visible() {
    for number in ["1", "2", "7"] {
        let target = Proxy::before(&Server::Seaweedfs.access().endpoint);
        let setup =
            Setup { target_endpoint: Some(target.endpoint()), ..Setup::on(Server::Seaweedfs, Server::Seaweedfs) };
        let pair = setup.more(&mode("stream")).build().await;
        pair.source.put_multipart("parts", 3, &Multipart::of(&[5 * MIB; 8])).await;
        let sent = move |seen: &Seen| seen.method == "PUT" && seen.asks("partNumber");
        let broken = move |seen: &Seen| sent(seen) && seen.query["partNumber"] == number;
        target.add(Rule::when(broken, Act::FlipRequest(4 * MIB as u64)).times(1));
        target.add(Rule::when(|_| true, Act::HideHeaders("x-amz-checksum-")));
        pair.announce().await;
        let report = catch_up(&pair).await.expect_code(0).json();
        assert_eq!(compare(&pair).await, nothing());
        assert_eq!(report["failed"].as_u64(), Some(0));
        assert!(target.count(sent) > 8, "it is sent again");
    }
}

/// P6: tags that change later follow to the replica of the version that they belong to, and make no new version.
async fn later_tags_follow(server: Server) {
    let pair = Setup::on(server, server).build().await;
    let source = &pair.source;
    let older = source.put_adorned("k", "1").await.unwrap();
    source.put("k", "2").await;
    source.put_multipart("parts", 5, &Multipart::of(&[5 * MIB, 10])).await;
    pair.announce().await;
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
    let before = list(&pair.target).await;

    source.tag("k", Some(&older), &[("class", "silver")]).await;
    source.tag("parts", None, &[("new", "sp ace+")]).await;
    assert_eq!(compare(&pair).await.len(), 5, "the test's own change is seen");
    let parts = list(source).await.into_iter().find(|version| version.key == "parts").unwrap().id;
    pair.put_event("ObjectTagging:Put", "k", Some(&older)).await;
    pair.put_event("ObjectTagging:Put", "parts", Some(&parts)).await;
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());

    source.tag("k", Some(&older), &[]).await;
    pair.put_event("ObjectTagging:Delete", "k", Some(&older)).await;
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
    assert_eq!(list(&pair.target).await, before);
}

#[tokio::test]
async fn later_tags_follow_on_ministack() {
    later_tags_follow(Server::Ministack).await;
}

#[tokio::test]
async fn later_tags_follow_on_seaweedfs() {
    later_tags_follow(Server::Seaweedfs).await;
}

/// The key that a target object is encrypted under.
async fn key_of(bucket: &Bucket, key: &str) -> Option<String> {
    let head = bucket.s3.head_object().bucket(&bucket.name).key(key).send().await.unwrap();
    assert_eq!(head.server_side_encryption == Some(ServerSideEncryption::AwsKms), head.ssekms_key_id.is_some());
    head.ssekms_key_id
}

/// P7: a rule's key seals every replica, whatever the source is sealed under.
#[tokio::test]
async fn the_rules_key_seals_every_replica() {
    for way in ["stream", "server-side"] {
        let setup = Setup::on(Server::Ministack, Server::Ministack).rule("kms_key = \"{target_key}\"");
        let pair = setup.more(&mode(way)).build().await;
        let sealed = Multipart { key: Some(pair.source_key.clone()), ..Multipart::of(&[5 * MIB, 9]) };
        pair.source.put_multipart("parts", 1, &sealed).await;
        pair.source.put_adorned("plain", bytes(2, 9)).await;
        put_sealed(&pair, "sealed", 700 * KIB).await;
        catch_up(&pair).await.expect_code(0);
        let expected = Expected { key: Some(pair.target_key.clone()), ..Expected::default() };
        assert_eq!(compare_as(&pair, &expected).await, nothing(), "{way}");
    }
}

async fn put_sealed(pair: &Pair, key: &str, length: usize) {
    let source = &pair.source;
    let put = source.s3.put_object().bucket(&source.name).key(key).body(ByteStream::from(bytes(3, length)));
    put.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(&pair.source_key).send().await.unwrap();
}

/// P7: one target key per source key; what is sealed under none of them is left to the bucket.
#[tokio::test]
async fn each_source_key_has_its_target_key() {
    let rule = "kms_map = { \"{source_key}\" = \"{target_key}\" }";
    let pair = Setup::on(Server::Ministack, Server::Ministack).rule(rule).build().await;
    put_sealed(&pair, "sealed", 9).await;
    pair.source.put("plain", "p").await;
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, nothing());
    assert_eq!(key_of(&pair.target, "sealed").await.as_ref(), Some(&pair.target_key));
    assert_eq!(key_of(&pair.target, "plain").await, None);
}

/// P6: a rule's storage class and prefix are the target's.
#[tokio::test]
async fn a_rules_storage_class_and_prefix_are_the_targets() {
    let rule = "storage_class = \"ONEZONE_IA\"\ntarget_prefix = \"from-us/\"\ndelete_markers = true";
    for way in ["stream", "server-side"] {
        let pair = Setup::on(Server::Ministack, Server::Ministack).rule(rule).more(&mode(way)).build().await;
        pair.source.put_adorned("adorned", "a").await;
        pair.source.put_multipart("parts", 1, &Multipart::of(&[5 * MIB, 9])).await;
        catch_up(&pair).await.expect_code(0);
        let expected = Expected {
            storage_class: Some("ONEZONE_IA".to_owned()),
            target_prefix: "from-us/".to_owned(),
            ..Expected::default()
        };
        assert_eq!(compare_as(&pair, &expected).await, nothing(), "{way}");
    }
}
