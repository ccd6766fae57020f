//! The real adapters against real servers over HTTP: what the ports promise, on the wire.
//!
//! The servers start by themselves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectOwnership, VersioningConfiguration};
use base64::Engine as _;
use bytes::Bytes;
use futures_core::Stream;
use repl::aws::kms::Kms;
use repl::aws::s3::S3Bucket;
use repl::aws::sqs::SqsQueue;
use repl::aws::{Clients, Endpoint, HotPath};
use repl::model::digest::{Algorithm, Checksum, ChecksumType};
use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::job::ChangeKind;
use repl::model::object::{
    Attributes, ETag, Encryption, Found, Head, Key, Lock, Tags, Timestamp, VersionId, Versioning,
};
use repl::ports::{
    ByteStream, ChangeQueue, Completion, Condition, Content, CopySource, Fetched, Grant, KeyService, NewObject,
    ObjectStore, Payload, Pick, Read, Sealing, UploadChecksum, UploadRef, Written,
};

const ODD: [&str; 6] = [
    "a+b c%2F?é",
    "plain/key.txt",
    "sp ace & amp=ersand#hash",
    "quote\"<xml>'",
    "日本語/ключ",
    "tilde~star*colon:comma,@",
];

#[derive(Clone, Copy, PartialEq)]
enum Server {
    Ministack,
    Weed,
}

struct World {
    server: Server,
    config: SdkConfig,
    endpoint: Endpoint,
    raw: aws_sdk_s3::Client,
}

impl World {
    async fn new(server: Server, client: HotPath) -> Self {
        let access = match server {
            Server::Ministack => support::servers::Server::Ministack.access(),
            Server::Weed => support::servers::Server::Seaweedfs.access(),
        };
        let url = Some(access.endpoint.clone());
        let endpoint =
            Endpoint { endpoint: url, path_style: true, client, ..Endpoint::in_region("us-east-1", Side::Source) };
        let keys = Credentials::new(&access.access_key_id, &access.secret_access_key, None, None, "test");
        let config = Clients::new().sdk_config(&endpoint).await.unwrap().into_builder();
        let config = config.credentials_provider(SharedCredentialsProvider::new(keys)).build();
        let raw =
            aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        Self { server, config, endpoint, raw }
    }

    async fn bucket(&self, versioned: bool) -> S3Bucket {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("adapters-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.raw.create_bucket().bucket(&name).send().await.unwrap();
        if versioned {
            let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
            self.raw.put_bucket_versioning().bucket(&name).versioning_configuration(on).send().await.unwrap();
        }
        S3Bucket::new(&self.config, &self.endpoint, name)
    }
}

/// Both servers by both clients.
async fn all_ways() -> Vec<World> {
    let mut worlds = Vec::new();
    for client in [HotPath::Lean, HotPath::Sdk] {
        for server in [Server::Ministack, Server::Weed] {
            worlds.push(World::new(server, client).await);
        }
    }
    worlds
}

fn object(key: &str) -> NewObject {
    NewObject {
        key: Key::new(key),
        attributes: Attributes { content_type: Some("text/plain".to_owned()), ..Attributes::default() },
        tags: Tags::new(),
        sealing: Sealing::BucketDefault,
        owner_full_control: false,
    }
}

fn whole(text: &str) -> Payload {
    Payload::Whole(Bytes::copy_from_slice(text.as_bytes()))
}

async fn put(bucket: &S3Bucket, key: &str, text: &str) -> Written {
    bucket.put(&object(key), whole(text), None, &Condition::Any).await.unwrap()
}

fn all(pick: Pick) -> Read {
    Read { pick, range: None, if_match: None }
}

async fn drain(mut body: ByteStream) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

async fn read(bucket: &S3Bucket, key: &str, read: Read) -> (Head, Vec<u8>) {
    match bucket.get(&Key::new(key), read).await.unwrap() {
        Fetched::Object(got) => (got.head, drain(got.body).await.unwrap()),
        other => panic!("{key}: {other:?}"),
    }
}

async fn look(bucket: &S3Bucket, key: &str) -> Head {
    match bucket.head(&Key::new(key), &Pick::Current).await.unwrap() {
        Found::Object(head) => *head,
        other => panic!("{key}: {other:?}"),
    }
}

fn checksum(algorithm: Algorithm, bytes: &[u8]) -> String {
    use sha1::Digest as _;
    let crc = |algorithm, width: usize| crc_fast::checksum(algorithm, bytes).to_be_bytes()[8 - width..].to_vec();
    let raw = match algorithm {
        Algorithm::Crc32 => crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc, 4),
        Algorithm::Crc32c => crc(crc_fast::CrcAlgorithm::Crc32Iscsi, 4),
        Algorithm::Crc64Nvme => crc(crc_fast::CrcAlgorithm::Crc64Nvme, 8),
        Algorithm::Sha1 => sha1::Sha1::digest(bytes).to_vec(),
        Algorithm::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
    };
    base64::engine::general_purpose::STANDARD.encode(raw)
}

fn full(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
    Checksum { algorithm, kind: ChecksumType::FullObject, value: checksum(algorithm, bytes) }
}

const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

/// A stream of given pieces.
struct Given(VecDeque<Result<Bytes, Fault>>);

impl Stream for Given {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

fn piped(pieces: Vec<Result<Bytes, Fault>>, length: u64) -> Payload {
    Payload::Piped { stream: ByteStream::new(Given(pieces.into())), length, md5: None }
}

#[tokio::test]
async fn odd_keys_survive_every_call() {
    for world in all_ways().await {
        let bucket = world.bucket(true).await;
        for key in ODD {
            let written = put(&bucket, key, key).await;
            assert!(written.version.is_some(), "{key}");
            let (head, bytes) = read(&bucket, key, all(Pick::Version(written.version.clone().unwrap()))).await;
            assert_eq!((bytes.as_slice(), head.etag), (key.as_bytes(), written.etag), "{key}");
            let page = bucket.list_versions(key, None).await.unwrap();
            assert_eq!(page.entries.len(), 1, "{key}: {page:?}");
            assert_eq!(page.entries[0].key, Key::new(key));
        }
        let page = bucket.list_versions("", None).await.unwrap();
        let listed: Vec<&str> = page.entries.iter().map(|entry| entry.key.as_str()).collect();
        let mut sorted = ODD.to_vec();
        sorted.sort_unstable();
        if world.server == Server::Ministack {
            assert_eq!(listed, sorted);
        } else {
            assert_eq!(listed.len(), sorted.len(), "{listed:?}");
        }
    }
}

#[tokio::test]
async fn everything_attached_to_an_object_comes_back() {
    for world in all_ways().await {
        let bucket = world.bucket(true).await;
        let mut new = object("attributes");
        new.attributes = Attributes {
            content_type: Some("text/html; charset=utf-8".to_owned()),
            content_encoding: Some("gzip".to_owned()),
            content_language: Some("de-DE".to_owned()),
            content_disposition: Some("attachment; filename=\"a b.txt\"".to_owned()),
            cache_control: Some("max-age=60,  no-transform".to_owned()),
            expires: Some("Thu, 01 Dec 2044 16:00:00 GMT".to_owned()),
            website_redirect: (world.server == Server::Ministack).then(|| "/elsewhere".to_owned()),
            metadata: BTreeMap::from([
                ("plain".to_owned(), "value with  two spaces".to_owned()),
                ("rfc2047".to_owned(), "=?UTF-8?B?w6k=?=".to_owned()),
            ]),
            storage_class: Some("STANDARD_IA".to_owned()),
            lock: Lock::default(),
        };
        new.tags = Tags::from([("k ey+1".to_owned(), "v=al&ue/é".to_owned()), ("empty".to_owned(), String::new())]);
        let sum = full(Algorithm::Sha256, b"hello");
        bucket.put(&new, whole("hello"), Some(&sum), &Condition::Absent).await.unwrap();
        let (from_get, bytes) = read(&bucket, "attributes", all(Pick::Current)).await;
        assert_eq!(bytes, b"hello");
        let from_head = look(&bucket, "attributes").await;
        for head in [&from_get, &from_head] {
            assert_eq!(head.attributes, new.attributes);
            assert_eq!((head.size, head.checksum.as_ref()), (5, Some(&sum)));
        }
        assert_eq!(bucket.tags(&new.key, &Pick::Current).await.unwrap(), new.tags);
        let other = Tags::from([("only".to_owned(), "one".to_owned())]);
        bucket.put_tags(&new.key, &Pick::Version(from_head.version.clone()), &other).await.unwrap();
        assert_eq!(bucket.tags(&new.key, &Pick::Current).await.unwrap(), other);
        bucket.put_tags(&new.key, &Pick::Current, &Tags::new()).await.unwrap();
        assert_eq!(bucket.tags(&new.key, &Pick::Current).await.unwrap(), Tags::new());
    }
}

#[tokio::test]
async fn metadata_of_raw_utf8_is_signed_and_survives() {
    for world in all_ways().await {
        let bucket = world.bucket(false).await;
        let mut new = object("raw");
        new.attributes.metadata.insert("raw".to_owned(), "grüße 日本".to_owned());
        bucket.put(&new, whole("x"), None, &Condition::Any).await.unwrap();
        assert_eq!(look(&bucket, "raw").await.attributes.metadata["raw"], "grüße 日本");
    }
}

#[tokio::test]
async fn conditions_are_kept() {
    for world in all_ways().await {
        let bucket = world.bucket(true).await;
        let key = Key::new("once");
        let first = bucket.put(&object("once"), whole("1"), None, &Condition::Absent).await.unwrap();
        let raced = bucket.put(&object("once"), whole("2"), None, &Condition::Absent).await.unwrap_err();
        assert_eq!((raced.kind, raced.status), (FaultKind::Raced, Some(412)), "{raced}");
        let matched = Condition::Matches(first.etag.clone());
        let second = bucket.put(&object("once"), whole("2"), None, &matched).await.unwrap();
        let stale = bucket.put(&object("once"), whole("3"), None, &matched).await.unwrap_err();
        assert_eq!(stale.kind, FaultKind::Raced, "{stale}");
        let absent = bucket.put(&object("never"), whole("3"), None, &matched).await.unwrap_err();
        assert_eq!(absent.kind, FaultKind::Raced, "{absent}");
        let read = Read { pick: Pick::Current, range: None, if_match: Some(first.etag) };
        assert_eq!(bucket.get(&key, read).await.unwrap_err().kind, FaultKind::Raced);
        assert!(bucket.delete(&key, &Condition::Any).await.unwrap().is_some());
        bucket.put(&object("once"), whole("4"), None, &Condition::Absent).await.unwrap();
        assert_ne!(look(&bucket, "once").await.etag, second.etag);
    }
}

#[tokio::test]
async fn versions_and_markers_are_listed_in_order_within_one_second() {
    for world in all_ways().await {
        let bucket = world.bucket(true).await;
        assert_eq!(bucket.versioning().await.unwrap(), Versioning::Enabled);
        let key = Key::new("k +1");
        let first = put(&bucket, "k +1", "1").await.version.unwrap();
        let marker = bucket.delete(&key, &Condition::Any).await.unwrap().unwrap();
        let second = put(&bucket, "k +1", "22").await.version.unwrap();
        let last = bucket.delete(&key, &Condition::Any).await.unwrap().unwrap();
        put(&bucket, "k +2", "other").await;
        let page = bucket.list_versions("k +1", None).await.unwrap();
        let listed: Vec<(&VersionId, Option<u64>, bool)> = page
            .entries
            .iter()
            .map(|entry| (&entry.version, entry.object.as_ref().map(|(_, size)| *size), entry.latest))
            .collect();
        let expected =
            [(&last, None, true), (&second, Some(2), false), (&marker, None, false), (&first, Some(1), false)];
        assert_eq!(listed, expected);
        let rest = bucket.list_versions("k +1", Some((key.clone(), second.clone()))).await.unwrap();
        let rest: Vec<&VersionId> = rest.entries.iter().map(|entry| &entry.version).collect();
        assert_eq!(rest, [&marker, &first]);

        // SeaweedFS answers a bare 404: there only the listing tells a marker.
        if world.server == Server::Ministack {
            assert_eq!(bucket.head(&key, &Pick::Current).await.unwrap(), Found::DeleteMarker);
            assert!(matches!(bucket.get(&key, all(Pick::Current)).await.unwrap(), Fetched::DeleteMarker));
        }
        assert!(!matches!(bucket.head(&key, &Pick::Current).await.unwrap(), Found::Object(_)));
        let named = bucket.head(&key, &Pick::Version(marker.clone())).await.unwrap();
        assert!(matches!(named, Found::DeleteMarker | Found::Missing), "{named:?}");
        let named = bucket.get(&key, all(Pick::Version(marker))).await.unwrap();
        assert!(matches!(named, Fetched::DeleteMarker | Fetched::Missing), "{named:?}");
        assert_eq!(bucket.head(&Key::new("nothing"), &Pick::Current).await.unwrap(), Found::Missing);
        assert!(matches!(bucket.get(&Key::new("nothing"), all(Pick::Current)).await.unwrap(), Fetched::Missing));
        let gone = bucket.tags(&Key::new("nothing"), &Pick::Current).await.unwrap_err();
        assert_eq!(gone.kind, FaultKind::Gone, "{gone}");
    }
}

#[tokio::test]
async fn the_null_version_of_a_bucket_without_versions_can_be_read() {
    for world in all_ways().await {
        let bucket = world.bucket(false).await;
        assert_eq!(put(&bucket, "k", "v").await.version.filter(|id| !id.is_null()), None);
        let (head, bytes) = read(&bucket, "k", all(Pick::Version(VersionId::null()))).await;
        assert_eq!((head.version, bytes.as_slice()), (VersionId::null(), b"v".as_slice()));
        let page = bucket.list_versions("k", None).await.unwrap();
        assert_eq!(page.entries[0].version, VersionId::null());
        assert_eq!(bucket.delete(&Key::new("k"), &Condition::Any).await.unwrap(), None);
        assert_eq!(bucket.head(&Key::new("k"), &Pick::Current).await.unwrap(), Found::Missing);
    }
}

#[tokio::test]
async fn a_range_is_exact_even_where_the_server_ignores_it() {
    for world in all_ways().await {
        let bucket = world.bucket(true).await;
        let text: String = (0..5000).map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
        let version = put(&bucket, "range", &text).await.version.unwrap();
        for pick in [Pick::Current, Pick::Version(version)] {
            for (first, last) in [(0, 0), (10, 19), (4990, 4999), (4990, 9999)] {
                let asked = Read { pick: pick.clone(), range: Some((first, last)), if_match: None };
                let (head, bytes) = read(&bucket, "range", asked).await;
                assert_eq!(head.size, 5000);
                let end = usize::try_from(last + 1).unwrap().min(5000);
                assert_eq!(bytes, text.as_bytes()[usize::try_from(first).unwrap()..end]);
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_checksum_is_refused_and_a_right_one_kept() {
    for world in all_ways().await {
        let bucket = world.bucket(true).await;
        for algorithm in ALGORITHMS {
            let key = format!("sum-{}", algorithm.name());
            let wrong = full(algorithm, b"other");
            let refused = bucket.put(&object(&key), whole("bytes"), Some(&wrong), &Condition::Any).await.unwrap_err();
            assert_eq!(refused.kind, FaultKind::Corrupt, "{refused}");
            assert_eq!(bucket.head(&Key::new(&key), &Pick::Current).await.unwrap(), Found::Missing);
            let right = full(algorithm, b"bytes");
            let pieces = vec![Ok(Bytes::from_static(b"by")), Ok(Bytes::from_static(b"tes"))];
            bucket.put(&object(&key), piped(pieces, 5), Some(&right), &Condition::Any).await.unwrap();
            assert_eq!(look(&bucket, &key).await.checksum, Some(right));
        }
    }
}

#[tokio::test]
async fn a_piped_body_arrives_whole_or_not_at_all() {
    for world in all_ways().await {
        let bucket = world.bucket(true).await;
        let piece = Bytes::from(vec![7_u8; 256 * 1024]);
        let broken = || Err(Fault::new(FaultKind::Corrupt, Side::Source, "read object", "planted"));
        let mut pieces: Vec<Result<Bytes, Fault>> = vec![Ok(piece.clone()); 12];
        let length = 12 * 256 * 1024;
        bucket.put(&object("piped"), piped(pieces.clone(), length), None, &Condition::Any).await.unwrap();
        let (head, bytes) = read(&bucket, "piped", all(Pick::Current)).await;
        assert_eq!((head.size, bytes.len() as u64), (length, length));
        assert_eq!(head.attributes.content_encoding, None);

        // Half way, and after the very last byte.
        for (at, key) in [(6, "half"), (12, "end")] {
            let mut failing = pieces.clone();
            failing.insert(at, broken());
            let fault = bucket.put(&object(key), piped(failing, length), None, &Condition::Any).await.unwrap_err();
            assert_eq!((fault.kind, fault.detail.as_str()), (FaultKind::Corrupt, "planted"));
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(bucket.head(&Key::new(key), &Pick::Current).await.unwrap(), Found::Missing, "{key}");
        }
        pieces.pop();
        let short = bucket.put(&object("short"), piped(pieces, length), None, &Condition::Any).await.unwrap_err();
        assert_eq!(short.kind, FaultKind::Transient, "{short}");
        assert_eq!(bucket.head(&Key::new("short"), &Pick::Current).await.unwrap(), Found::Missing);
        let empty = bucket.put(&object("empty"), piped(vec![broken()], 0), None, &Condition::Any).await.unwrap_err();
        assert_eq!(empty.detail, "planted");
        bucket.put(&object("empty"), piped(vec![], 0), None, &Condition::Any).await.unwrap();
        assert_eq!(read(&bucket, "empty", all(Pick::Current)).await.1, b"");
    }
}

async fn multipart(
    bucket: &S3Bucket,
    new: &NewObject,
    asked: Option<UploadChecksum>,
    parts: &[Bytes],
) -> Result<Written, Fault> {
    let open = bucket.create_upload(new, asked).await?;
    let upload = UploadRef { key: &new.key, id: &open.id };
    let mut sent = Vec::new();
    for (index, bytes) in parts.iter().enumerate() {
        let number = u32::try_from(index).unwrap() + 1;
        let sum = asked.map(|asked| full(asked.algorithm, bytes));
        let payload = if index == 0 {
            Payload::Whole(bytes.clone())
        } else {
            piped(bytes.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect(), bytes.len() as u64)
        };
        sent.push(bucket.upload_part(upload, number, payload, sum.as_ref()).await?);
    }
    let held = bucket.list_parts(upload).await?;
    assert_eq!(
        held.iter().map(|part| (part.number, &part.etag, part.size)).collect::<Vec<_>>(),
        sent.iter().map(|part| (part.number, &part.etag, part.size)).collect::<Vec<_>>()
    );
    let size = parts.iter().map(|part| part.len() as u64).sum();
    let completion = Completion { parts: sent, size, checksum: None, sent: asked, condition: Condition::Absent };
    bucket.complete_upload(upload, &completion).await
}

#[tokio::test]
async fn multipart_keeps_attributes_parts_and_checksums() {
    for world in all_ways().await {
        let bucket = world.bucket(true).await;
        let parts = [Bytes::from(vec![1_u8; 6 << 20]), Bytes::from(vec![2_u8; 5 << 20]), Bytes::from(vec![3_u8; 17])];
        let whole: Vec<u8> = parts.concat();
        let mut asked = vec![None];
        for algorithm in ALGORITHMS {
            let composite = UploadChecksum { algorithm, kind: ChecksumType::Composite };
            let full = UploadChecksum { algorithm, kind: ChecksumType::FullObject };
            if algorithm != Algorithm::Crc64Nvme {
                asked.push(Some(composite));
            }
            // ministack refuses right full-object checksums of multipart uploads.
            if algorithm.full_object_multipart() && world.server == Server::Weed {
                asked.push(Some(full));
            }
        }
        for (index, asked) in asked.into_iter().enumerate() {
            let mut new = object(&format!("multi part+{index}"));
            new.attributes.metadata.insert("kept".to_owned(), "yes".to_owned());
            let written =
                multipart(&bucket, &new, asked, &parts).await.unwrap_or_else(|fault| panic!("{asked:?}: {fault}"));
            assert_eq!(written.etag.parts(), Some(3), "{written:?}");
            let (head, bytes) = read(&bucket, new.key.as_str(), all(Pick::Current)).await;
            assert!(bytes == whole, "{asked:?}");
            assert_eq!(head.etag, written.etag);
            assert_eq!(head.attributes.metadata, new.attributes.metadata);
            assert_eq!(head.attributes.content_type, new.attributes.content_type);
            if let Some(asked) = asked {
                let told = head.checksum.clone().unwrap_or_else(|| panic!("{asked:?}: no checksum"));
                assert_eq!((told.algorithm, told.kind), (asked.algorithm, asked.kind));
                if asked.kind == ChecksumType::FullObject {
                    assert_eq!(told.value, checksum(asked.algorithm, &whole));
                }
            }
            let sizes = bucket.part_sizes(&new.key, &head).await.unwrap();
            let expected: Vec<u64> = parts.iter().map(|part| part.len() as u64).collect();
            if world.server == Server::Weed || asked.is_some() {
                assert_eq!(sizes, Some(expected), "{asked:?}");
            } else {
                assert!(sizes.is_none() || sizes == Some(expected));
            }
        }
        let again = multipart(&bucket, &object("multi part+0"), None, &parts).await.unwrap_err();
        assert_eq!(again.kind, FaultKind::Raced, "{again}");
    }
}

#[tokio::test]
async fn an_unknown_upload_is_gone_and_may_be_aborted() {
    for world in all_ways().await {
        let bucket = world.bucket(true).await;
        let new = object("upload");
        let open = bucket.create_upload(&new, None).await.unwrap();
        let upload = UploadRef { key: &new.key, id: &open.id };
        bucket.upload_part(upload, 1, whole("part"), None).await.unwrap();
        bucket.abort_upload(upload).await.unwrap();
        bucket.abort_upload(upload).await.unwrap();
        let gone = bucket.upload_part(upload, 2, whole("part"), None).await.unwrap_err();
        assert_eq!(gone.kind, FaultKind::Gone, "{gone}");
        let gone = bucket.list_parts(upload).await.unwrap_err();
        assert_eq!(gone.kind, FaultKind::Gone, "{gone}");
        let part = repl::ports::Part { number: 1, etag: ETag::new("0"), size: 4, checksum: None };
        let completion =
            Completion { parts: vec![part], size: 4, checksum: None, sent: None, condition: Condition::Any };
        let gone = bucket.complete_upload(upload, &completion).await.unwrap_err();
        assert_eq!(gone.kind, FaultKind::Gone, "{gone}");
    }
}

#[tokio::test]
async fn server_side_copies_take_odd_keys_and_everything_resent() {
    for world in all_ways().await {
        let source = world.bucket(true).await;
        let target = world.bucket(true).await;
        for key in ODD {
            let older = put(&source, key, "older").await;
            put(&source, key, "newer").await;
            let from = CopySource {
                bucket: source.name().to_owned(),
                key: Key::new(key),
                version: older.version.clone().unwrap(),
                etag: older.etag.clone(),
                versioned: true,
                owner: None,
            };
            let mut new = object(key);
            new.attributes.cache_control = Some("no-store".to_owned());
            new.attributes.metadata.insert("resent".to_owned(), "yes".to_owned());
            new.tags = Tags::from([("t".to_owned(), "1".to_owned())]);
            target
                .copy(&new, &from, Some(Algorithm::Sha256), &Condition::Any)
                .await
                .unwrap_or_else(|f| panic!("{key}: {f}"));
            let (head, bytes) = read(&target, key, all(Pick::Current)).await;
            assert_eq!(bytes, b"older", "{key}");
            assert_eq!(head.attributes, new.attributes, "{key}");
            assert_eq!(target.tags(&new.key, &Pick::Current).await.unwrap(), new.tags);

            let other = CopySource { etag: ETag::new("00000000000000000000000000000000"), ..from.clone() };
            let raced = target.copy(&new, &other, None, &Condition::Any).await.unwrap_err();
            assert_eq!(raced.kind, FaultKind::Raced, "{key}: {raced}");

            let open = target.create_upload(&object("parts"), None).await.unwrap();
            let upload = UploadRef { key: &Key::new("parts"), id: &open.id };
            let part = target.copy_part(upload, 1, &from, None).await.unwrap_or_else(|f| panic!("{key}: {f}"));
            assert_eq!(part.size, 5);
            let completion =
                Completion { parts: vec![part], size: 5, checksum: None, sent: None, condition: Condition::Any };
            target.complete_upload(upload, &completion).await.unwrap();
            assert_eq!(read(&target, "parts", all(Pick::Current)).await.1, b"older");
        }
    }
}

#[tokio::test]
async fn a_lock_can_be_set() {
    let world = World::new(Server::Ministack, HotPath::Lean).await;
    let name = format!("locked-{}", std::process::id());
    world.raw.create_bucket().bucket(&name).object_lock_enabled_for_bucket(true).send().await.unwrap();
    let bucket = S3Bucket::new(&world.config, &world.endpoint, name);
    let mut new = object("locked");
    let until = Timestamp::parse_rfc3339("2044-01-01T00:00:00Z").unwrap();
    new.attributes.lock =
        Lock { mode: Some("GOVERNANCE".to_owned()), retain_until: Some(until), legal_hold: Some(true) };
    let sum = full(Algorithm::Crc64Nvme, b"x");
    let version = bucket.put(&new, whole("x"), Some(&sum), &Condition::Any).await.unwrap().version.unwrap();
    assert_eq!(look(&bucket, "locked").await.attributes.lock, new.attributes.lock);
    let later = Timestamp::parse_rfc3339("2045-01-01T00:00:00Z").unwrap();
    let lock = Lock { retain_until: Some(later), legal_hold: Some(false), ..new.attributes.lock.clone() };
    bucket.put_lock(&new.key, &Pick::Version(version), &lock).await.unwrap();
    assert_eq!(look(&bucket, "locked").await.attributes.lock, lock);
}

#[tokio::test]
async fn an_acl_can_be_set_and_taken_back() {
    let world = World::new(Server::Ministack, HotPath::Lean).await;
    let name = format!("granted-{}", std::process::id());
    let create = world.raw.create_bucket().bucket(&name).object_ownership(ObjectOwnership::BucketOwnerPreferred);
    create.send().await.unwrap();
    let bucket = S3Bucket::new(&world.config, &world.endpoint, name);
    let key = Key::new("granted");
    bucket.put(&object("granted"), whole("x"), None, &Condition::Any).await.unwrap();
    let owners = bucket.acl(&key, &Pick::Current).await.unwrap();
    assert!(matches!(&owners[..], [one] if one.permission == "FULL_CONTROL" && one.grantee.starts_with("id=\"")));
    let everybody = "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"".to_owned();
    let read = Grant { permission: "READ".to_owned(), grantee: everybody };
    let granted = [owners.clone(), vec![read]].concat();
    bucket.put_acl(&key, &Pick::Current, &granted).await.unwrap();
    let told = bucket.acl(&key, &Pick::Current).await.unwrap();
    assert!(told.len() == 2 && granted.iter().all(|grant| told.contains(grant)), "{told:?}");
    bucket.put_acl(&key, &Pick::Current, &[]).await.unwrap();
    assert_eq!(bucket.acl(&key, &Pick::Current).await.unwrap(), owners);
}

#[tokio::test]
async fn refusals_are_named() {
    for world in all_ways().await {
        let nowhere = S3Bucket::new(&world.config, &world.endpoint, format!("nowhere-{}", std::process::id()));
        let fault = nowhere.get(&Key::new("k"), all(Pick::Current)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
        // SeaweedFS makes the bucket for whom it lets.
        if world.server == Server::Weed {
            continue;
        }
        let fault = nowhere.put(&object("k"), whole("v"), None, &Condition::Any).await.unwrap_err();
        assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Refused, Some("NoSuchBucket")), "{fault}");
    }
    let closed = Endpoint {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        path_style: true,
        ..Endpoint::in_region("us-east-1", Side::Target)
    };
    let config = Clients::new().sdk_config(&closed).await.unwrap();
    let bucket = S3Bucket::new(&config, &closed, "b");
    let fault = bucket.head(&Key::new("k"), &Pick::Current).await.unwrap_err();
    assert_eq!((fault.kind, fault.side), (FaultKind::Transient, Side::Target), "{fault}");
}

#[tokio::test]
async fn kms_sealing_is_told_back_and_keys_can_be_proved() {
    let world = World::new(Server::Ministack, HotPath::Lean).await;
    let raw = aws_sdk_kms::Client::new(&world.config);
    let key = raw.create_key().send().await.unwrap().key_metadata.unwrap();
    let arn = key.arn.unwrap();
    let kms = Kms::new(&world.config, &world.endpoint);
    let state = kms.describe(&arn).await.unwrap();
    assert_eq!((state.arn.as_str(), state.enabled, state.rotation), (arn.as_str(), true, Some(false)));
    raw.enable_key_rotation().key_id(&arn).send().await.unwrap();
    assert_eq!(kms.describe(&arn).await.unwrap().rotation, Some(true));
    kms.prove(&arn, "any-bucket").await.unwrap();
    raw.disable_key().key_id(&arn).send().await.unwrap();
    assert!(!kms.describe(&arn).await.unwrap().enabled);
    let fault = kms.prove(&arn, "any-bucket").await.unwrap_err();
    assert_eq!((fault.kind, fault.side), (FaultKind::KeyUnusable, Side::Keys), "{fault}");
    let missing = arn.replace(arn.rsplit('/').next().unwrap(), "00000000-0000-0000-0000-000000000000");
    assert_eq!(kms.describe(&missing).await.unwrap_err().kind, FaultKind::KeyUnusable);
    let elsewhere = arn.replace("us-east-1", "eu-west-2");
    assert_eq!(kms.describe(&elsewhere).await.unwrap_err().kind, FaultKind::KeyUnusable);

    raw.enable_key().key_id(&arn).send().await.unwrap();
    let bucket = world.bucket(true).await;
    let mut new = object("sealed");
    new.sealing = Sealing::Kms(arn.clone());
    let written = bucket.put(&new, whole("x"), None, &Condition::Any).await.unwrap();
    assert_eq!(written.encryption, Encryption::Kms(Some(arn.clone())));
    assert_eq!(look(&bucket, "sealed").await.encryption, Encryption::Kms(Some(arn)));
}

#[tokio::test]
async fn a_real_event_comes_through_the_queue() {
    use aws_sdk_s3::types::{NotificationConfiguration, QueueConfiguration};
    let world = World::new(Server::Ministack, HotPath::Lean).await;
    let bucket = world.bucket(true).await;
    let raw = aws_sdk_sqs::Client::new(&world.config);
    let name = format!("events-{}", std::process::id());
    let url = raw.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
    let arn = format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    let to = QueueConfiguration::builder()
        .queue_arn(arn)
        .events("s3:ObjectCreated:*".into())
        .events("s3:ObjectRemoved:*".into())
        .build()
        .unwrap();
    let config = NotificationConfiguration::builder().queue_configurations(to).build();
    world
        .raw
        .put_bucket_notification_configuration()
        .bucket(bucket.name())
        .notification_configuration(config)
        .send()
        .await
        .unwrap();
    let queue = SqsQueue::new(&world.config, &world.endpoint, &url, bucket.name());
    let mut expected = Vec::new();
    for key in ODD {
        let version = put(&bucket, key, key).await.version.unwrap();
        expected.push((ChangeKind::Write, Key::new(key), version));
    }
    let marker = bucket.delete(&Key::new(ODD[0]), &Condition::Any).await.unwrap().unwrap();
    expected.push((ChangeKind::DeleteMarker, Key::new(ODD[0]), marker));
    for n in 0..12 {
        raw.send_message().queue_url(&url).message_body(format!("not json {n}")).send().await.unwrap();
    }
    let (mut changes, mut unreadable, mut receipts) = (Vec::new(), 0, Vec::new());
    for _ in 0..20 {
        for delivery in queue.receive(Duration::from_secs(1)).await.unwrap() {
            receipts.push(delivery.receipt);
            match delivery.content {
                Content::Changes { changes: some, .. } => {
                    changes.extend(some.into_iter().map(|change| {
                        assert!(change.sequencer.is_some());
                        (change.kind, change.key, change.version)
                    }));
                }
                Content::Unreadable(reason) => {
                    assert!(reason.contains("JSON"), "{reason}");
                    unreadable += 1;
                }
            }
        }
        if changes.len() == expected.len() && unreadable == 12 {
            break;
        }
    }
    changes.sort();
    expected.sort();
    assert_eq!(changes, expected);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, receipts.len() as u64));
    assert_eq!(queue.extend(receipts.clone(), Duration::from_secs(60)).await.unwrap(), []);
    assert_eq!(queue.acknowledge(receipts).await.unwrap(), []);
    assert_eq!(queue.depth().await.unwrap().in_flight, 0);
    let nowhere = SqsQueue::new(&world.config, &world.endpoint, url.replace("events", "nowhere"), "b");
    let fault = nowhere.receive(Duration::ZERO).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
}

/// Keys for the role's first call come from the environment, as on a real machine; a test cannot change its own, so it
/// runs itself again with them set.
#[test]
fn a_role_is_assumed_before_the_first_request() {
    let access = support::servers::Server::Ministack.access();
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "role_from_environment"])
        .env("AWS_ACCESS_KEY_ID", &access.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "run by the test above, with keys in the environment"]
async fn role_from_environment() {
    let world = World::new(Server::Ministack, HotPath::Lean).await;
    let as_role = Endpoint {
        role_arn: Some("arn:aws:iam::000000000000:role/replicator".to_owned()),
        external_id: Some("agreed".to_owned()),
        ..world.endpoint.clone()
    };
    let name = world.bucket(true).await.name().to_owned();
    let config = Clients::new().sdk_config(&as_role).await.unwrap();
    let bucket = S3Bucket::new(&config, &as_role, name);
    put(&bucket, "by-role", "x").await;
    use aws_credential_types::provider::ProvideCredentials as _;
    let keys = config.credentials_provider().unwrap().provide_credentials().await.unwrap();
    assert!(keys.session_token().is_some(), "the role's keys, not the caller's");
}
