//! What every object store promises, whichever it is.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_core::Stream;
use repl::model::digest::{Algorithm, Checksum, ChecksumType};
use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::{Attributes, ETag, Found, Head, Key, Lock, Tags, Timestamp, VersionId, Versioning};
use repl::ports::{
    ByteStream, Completion, Condition, CopySource, Fetched, NewObject, ObjectStore, Payload, Pick, Read, Sealing,
    UploadChecksum, UploadRef, Written,
};

use super::{Gap, Subject};

pub(crate) const ODD: [&str; 6] = [
    "a+b c%2F?é",
    "plain/key.txt",
    "sp ace & amp=ersand#hash",
    "quote\"<xml>'",
    "日本語/ключ",
    "tilde~star*colon:comma,@",
];

const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

pub(crate) fn object(key: &str) -> NewObject {
    NewObject {
        key: Key::new(key),
        attributes: Attributes { content_type: Some("text/plain".to_owned()), ..Attributes::default() },
        tags: Tags::new(),
        sealing: Sealing::BucketDefault,
        owner_full_control: false,
    }
}

pub(crate) fn whole(text: &str) -> Payload {
    Payload::Whole(Bytes::copy_from_slice(text.as_bytes()))
}

pub(crate) async fn put(bucket: &impl ObjectStore, key: &str, text: &str) -> Written {
    bucket.put(&object(key), whole(text), None, &Condition::Any).await.unwrap()
}

pub(crate) fn all(pick: Pick) -> Read {
    Read { pick, range: None, if_match: None }
}

async fn drain(mut body: ByteStream) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

async fn read(bucket: &impl ObjectStore, key: &str, read: Read) -> (Head, Vec<u8>) {
    match bucket.get(&Key::new(key), read).await.unwrap() {
        Fetched::Object(got) => (got.head, drain(got.body).await.unwrap()),
        other => panic!("{key}: {other:?}"),
    }
}

pub(crate) async fn look(bucket: &impl ObjectStore, key: &str) -> Head {
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

pub(crate) fn full(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
    Checksum { algorithm, kind: ChecksumType::FullObject, value: checksum(algorithm, bytes) }
}

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

async fn multipart(
    bucket: &impl ObjectStore,
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

pub(crate) async fn odd_keys_survive_every_call<S: Subject>(world: &S) {
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
    if world.has(Gap::ListsByPaths) {
        assert_eq!(listed.len(), sorted.len(), "{listed:?}");
    } else {
        assert_eq!(listed, sorted);
    }
}

pub(crate) async fn everything_attached_to_an_object_comes_back<S: Subject>(world: &S) {
    let bucket = world.bucket(true).await;
    let mut new = object("attributes");
    new.attributes = Attributes {
        content_type: Some("text/html; charset=utf-8".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        content_language: Some("de-DE".to_owned()),
        content_disposition: Some("attachment; filename=\"a b.txt\"".to_owned()),
        cache_control: Some("max-age=60,  no-transform".to_owned()),
        expires: Some("Thu, 01 Dec 2044 16:00:00 GMT".to_owned()),
        website_redirect: (!world.has(Gap::NoWebsiteRedirect)).then(|| "/elsewhere".to_owned()),
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

pub(crate) async fn metadata_of_raw_utf8_is_signed_and_survives<S: Subject>(world: &S) {
    let bucket = world.bucket(false).await;
    let mut new = object("raw");
    new.attributes.metadata.insert("raw".to_owned(), "grüße 日本".to_owned());
    bucket.put(&new, whole("x"), None, &Condition::Any).await.unwrap();
    assert_eq!(look(&bucket, "raw").await.attributes.metadata["raw"], "grüße 日本");
}

pub(crate) async fn conditions_are_kept<S: Subject>(world: &S) {
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

pub(crate) async fn versions_and_markers_are_listed_in_order_within_one_second<S: Subject>(world: &S) {
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
    let expected = [(&last, None, true), (&second, Some(2), false), (&marker, None, false), (&first, Some(1), false)];
    assert_eq!(listed, expected);
    let rest = bucket.list_versions("k +1", Some((key.clone(), second.clone()))).await.unwrap();
    let rest: Vec<&VersionId> = rest.entries.iter().map(|entry| &entry.version).collect();
    assert_eq!(rest, [&marker, &first]);

    if !world.has(Gap::MarkersLookMissing) {
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

pub(crate) async fn the_null_version_of_a_bucket_without_versions_can_be_read<S: Subject>(world: &S) {
    let bucket = world.bucket(false).await;
    assert_eq!(put(&bucket, "k", "v").await.version.filter(|id| !id.is_null()), None);
    let (head, bytes) = read(&bucket, "k", all(Pick::Version(VersionId::null()))).await;
    assert_eq!((head.version, bytes.as_slice()), (VersionId::null(), b"v".as_slice()));
    let page = bucket.list_versions("k", None).await.unwrap();
    assert_eq!(page.entries[0].version, VersionId::null());
    assert_eq!(bucket.delete(&Key::new("k"), &Condition::Any).await.unwrap(), None);
    assert_eq!(bucket.head(&Key::new("k"), &Pick::Current).await.unwrap(), Found::Missing);
}

pub(crate) async fn a_range_is_exact_even_where_the_server_ignores_it<S: Subject>(world: &S) {
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

pub(crate) async fn a_wrong_checksum_is_refused_and_a_right_one_kept<S: Subject>(world: &S) {
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

pub(crate) async fn a_piped_body_arrives_whole_or_not_at_all<S: Subject>(world: &S) {
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

pub(crate) async fn multipart_keeps_attributes_parts_and_checksums<S: Subject>(world: &S) {
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
        if algorithm.full_object_multipart() && !world.has(Gap::RefusesFullObjectOfParts) {
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
        if asked.is_some() || !world.has(Gap::TellsPartsByChecksum) {
            assert_eq!(sizes, Some(expected), "{asked:?}");
        } else {
            assert!(sizes.is_none() || sizes == Some(expected));
        }
    }
    let again = multipart(&bucket, &object("multi part+0"), None, &parts).await.unwrap_err();
    assert_eq!(again.kind, FaultKind::Raced, "{again}");
}

pub(crate) async fn an_unknown_upload_is_gone_and_may_be_aborted<S: Subject>(world: &S) {
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
    let completion = Completion { parts: vec![part], size: 4, checksum: None, sent: None, condition: Condition::Any };
    let gone = bucket.complete_upload(upload, &completion).await.unwrap_err();
    assert_eq!(gone.kind, FaultKind::Gone, "{gone}");
}

pub(crate) async fn server_side_copies_take_odd_keys_and_everything_resent<S: Subject>(world: &S) {
    let source = world.bucket(true).await;
    let target = world.bucket(true).await;
    for key in ODD {
        let older = put(&source, key, "older").await;
        put(&source, key, "newer").await;
        let from = CopySource {
            bucket: world.name(&source),
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

pub(crate) async fn lock_and_acl_can_be_set<S: Subject>(world: &S) {
    let Some(bucket) = world.lockable().await else { return };
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
    let grants = bucket.acl(&new.key, &Pick::Current).await.unwrap();
    assert!(
        grants.iter().any(|grant| grant.permission == "FULL_CONTROL" && grant.grantee.starts_with("id=\"")),
        "{grants:?}"
    );
}

/// The bytes of an archived object wait for a restore; everything else of it is told, and its key can be written.
pub(crate) async fn an_archived_object_is_told_and_not_read<S: Subject>(world: &S) {
    let bucket = world.bucket(true).await;
    let target = world.bucket(true).await;
    for class in ["GLACIER", "DEEP_ARCHIVE"] {
        let mut new = object(class);
        new.attributes.storage_class = Some(class.to_owned());
        new.tags = Tags::from([("kept".to_owned(), "cold".to_owned())]);
        let version = bucket.put(&new, whole("cold"), None, &Condition::Absent).await.unwrap().version.unwrap();
        let head = look(&bucket, class).await;
        assert_eq!((head.size, head.attributes.storage_class.as_deref()), (4, Some(class)));
        assert_eq!(bucket.tags(&new.key, &Pick::Current).await.unwrap(), new.tags);
        let page = bucket.list_versions(class, None).await.unwrap();
        assert_eq!(page.entries[0].storage_class.as_deref(), Some(class));
        if !world.has(Gap::ReadsArchives) {
            for pick in [Pick::Current, Pick::Version(version.clone())] {
                let fault = bucket.get(&new.key, all(pick)).await.unwrap_err();
                assert_eq!(fault.kind, FaultKind::Archived, "{fault}");
            }
            let part = Read { pick: Pick::Current, range: Some((0, 1)), if_match: None };
            assert_eq!(bucket.get(&new.key, part).await.unwrap_err().kind, FaultKind::Archived);
        }
        if !world.has(Gap::CopiesArchives) {
            let from = CopySource {
                bucket: world.name(&bucket),
                key: new.key.clone(),
                version: version.clone(),
                etag: head.etag.clone(),
                versioned: true,
                owner: None,
            };
            let fault = target.copy(&object(class), &from, None, &Condition::Any).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Archived, "{fault}");
        }
        let over = bucket.put(&object(class), whole("warm"), None, &Condition::Matches(head.etag)).await.unwrap();
        let (head, bytes) = read(&bucket, class, all(Pick::Current)).await;
        assert_eq!((head.etag, bytes.as_slice()), (over.etag, b"warm".as_slice()));
    }
}
