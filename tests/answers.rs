//! Answers that no emulator gives, from a small scripted server: what the adapters make of them, and how often they ask.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use bytes::Bytes;
use repl::aws::s3::S3Bucket;
use repl::aws::{Clients, Endpoint, HotPath};
use repl::model::digest::{Algorithm, ChecksumType};
use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::{Attributes, ETag, Found, Key, KeyOrder, Tags, VersionId};
use repl::ports::{
    Completion, Condition, CopySource, Fetched, ListFrom, NewObject, ObjectStore, Part, Payload, Pick, Read, Sealing,
    UploadRef,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const HEADERS: &str = "Last-Modified: Sat, 21 Nov 2026 12:30:29 GMT\r\nETag: \"e\"\r\n";

/// Each of these tests once by each client; what only the SDK sends is tested once.
macro_rules! by_each_client {
    ($($test:ident)*) => {
        mod lean {
            $(#[tokio::test] async fn $test() { super::$test(super::HotPath::Lean).await })*
        }
        mod sdk {
            $(#[tokio::test] async fn $test() { super::$test(super::HotPath::Sdk).await })*
        }
    };
}

by_each_client! {
    an_answered_request_is_never_repeated
    an_unanswered_look_is_repeated_once_an_unanswered_write_never
    a_refused_head_asks_a_get_for_the_reason
    delete_markers_are_told_from_nothing
    a_store_that_loses_ranges_is_asked_another_way
    a_body_cut_short_is_a_fault
    conditions_that_do_not_hold_are_raced
    a_put_says_its_length_and_is_not_chunked
    missing_credentials_are_named_as_such
    a_page_of_objects_is_read_whole
    a_page_of_objects_that_breaks_off_is_no_short_page
    a_page_of_versions_is_asked_for_as_s3_wants_it
}

/// A server that gives its answers in order, one per connection; an empty one hangs up without a word.
struct Scripted {
    bucket: S3Bucket,
    asked: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Scripted {
    async fn new(client: HotPath, answers: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answers) = (Arc::clone(&asked), answers.to_vec());
        let mut server = JoinSet::new();
        server.spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = request(&mut stream).await;
                seen.lock().unwrap().push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.ok();
            }
        });
        let endpoint = Endpoint {
            endpoint: Some(url),
            path_style: true,
            client,
            ..Endpoint::in_region("us-east-1", Side::Target)
        };
        let config = Clients::new().sdk_config(&endpoint).await.unwrap();
        let keys = Credentials::new("id", "secret", None, None, "scripted");
        let config = config.to_builder().credentials_provider(SharedCredentialsProvider::new(keys)).build();
        Self { bucket: S3Bucket::new(&config, &endpoint, "b"), asked, _server: server }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The head of one request; its body is read and dropped.
async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let mut piece = [0_u8; 4096];
        let count = stream.read(&mut piece).await.unwrap();
        read.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let head = text[..end].to_lowercase();
            let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
                rest.lines().next().and_then(|line| line.trim().parse::<usize>().ok()).unwrap_or_default()
            });
            if read.len() >= end + 4 + length {
                return head;
            }
        }
        assert!(count > 0, "the request was cut");
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn error(status: &str, code: &str, message: &str) -> String {
    answer(status, "", &format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}

fn object() -> NewObject {
    NewObject {
        key: Key::new("k"),
        attributes: Attributes::default(),
        tags: Tags::new(),
        sealing: Sealing::BucketDefault,
        owner_full_control: false,
    }
}

fn source() -> CopySource {
    CopySource {
        bucket: "from".to_owned(),
        key: Key::new("a+b c"),
        version: VersionId::new("v1"),
        etag: ETag::new("e"),
        versioned: true,
        owner: Some("111122223333".to_owned()),
    }
}

fn whole() -> Payload {
    Payload::Whole(Bytes::from_static(b"x"))
}

fn current() -> Read {
    Read { pick: Pick::Current, range: None, if_match: None }
}

async fn put_fault(client: HotPath, answers: &[String]) -> (Fault, usize) {
    let server = Scripted::new(client, answers).await;
    let fault = server.bucket.put(&object(), whole(), None, &Condition::Any).await.unwrap_err();
    (fault, server.asked().len())
}

async fn an_answered_request_is_never_repeated(client: HotPath) {
    let busy = error("503 Slow Down", "SlowDown", "Please reduce your request rate.");
    let server = Scripted::new(client, &[busy.clone(), busy.clone()]).await;
    let fault = tokio::time::timeout(Duration::from_secs(5), server.bucket.get(&Key::new("k"), current()))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!((fault.kind, fault.status, fault.code.as_deref()), (FaultKind::Throttled, Some(503), Some("SlowDown")));
    assert_eq!(fault.to_string(), "could not read object at the target: SlowDown: Please reduce your request rate.");
    assert_eq!(server.asked().len(), 1);
    assert_eq!(put_fault(client, &[busy.clone(), busy]).await.1, 1);
}

async fn an_unanswered_look_is_repeated_once_an_unanswered_write_never(client: HotPath) {
    let found = answer("200 OK", HEADERS, "");
    let server = Scripted::new(client, &[String::new(), found]).await;
    let got = server.bucket.get(&Key::new("k"), current()).await.unwrap();
    assert!(matches!(got, Fetched::Object(_)));
    assert_eq!(server.asked().len(), 2);

    let (fault, asked) = put_fault(client, &[String::new(), answer("200 OK", "ETag: \"e\"\r\n", "")]).await;
    assert_eq!((fault.kind, fault.status, asked), (FaultKind::Transient, None, 1));
    let server = Scripted::new(client, &[String::new(), answer("204 No Content", "", "")]).await;
    let fault = server.bucket.delete(&Key::new("k"), &Condition::Any).await.unwrap_err();
    assert_eq!((fault.kind, server.asked().len()), (FaultKind::Transient, 1));
}

#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let late = error("200 OK", "InternalError", "We encountered an internal error.");
    let server = Scripted::new(HotPath::Lean, std::slice::from_ref(&late)).await;
    let fault = server.bucket.copy(&object(), &source(), None, &Condition::Any).await.unwrap_err();
    assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Transient, Some("InternalError")));
    let upload = UploadRef { key: &Key::new("k"), id: "u" };
    let server = Scripted::new(HotPath::Lean, &[error("200 OK", "SlowDown", "Slow.")]).await;
    let fault = server.bucket.copy_part(upload, 1, &source(), Some((0, 9))).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Throttled);
    let server = Scripted::new(HotPath::Lean, &[late]).await;
    let part = Part { number: 1, etag: ETag::new("e"), size: 1, checksum: None };
    let completion = Completion { parts: vec![part], size: 1, checksum: None, sent: None, condition: Condition::Any };
    let fault = server.bucket.complete_upload(upload, &completion).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Transient);
}

#[tokio::test]
async fn a_copy_of_another_version_is_corrupt() {
    let body = "<CopyObjectResult><ETag>\"n\"</ETag><ChecksumSHA256>sum=</ChecksumSHA256></CopyObjectResult>";
    let of = |version: &str| answer("200 OK", &format!("x-amz-copy-source-version-id: {version}\r\n"), body);
    let server = Scripted::new(HotPath::Lean, &[of("v1")]).await;
    let written = server.bucket.copy(&object(), &source(), None, &Condition::Any).await.unwrap();
    assert_eq!((written.etag.as_str(), written.checksum.unwrap().value.as_str()), ("n", "sum="));
    let asked = server.asked().remove(0);
    for header in [
        "x-amz-copy-source: from/a%2bb%20c?versionid=v1",
        "x-amz-copy-source-if-match: \"e\"",
        "x-amz-source-expected-bucket-owner: 111122223333",
        "x-amz-metadata-directive: replace",
        "x-amz-tagging-directive: replace",
        "x-amz-object-annotation-directive: exclude",
    ] {
        assert!(asked.contains(header), "{asked}");
    }
    let server = Scripted::new(HotPath::Lean, &[of("v2")]).await;
    let fault = server.bucket.copy(&object(), &source(), None, &Condition::Any).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Corrupt);
}

async fn a_refused_head_asks_a_get_for_the_reason(client: HotPath) {
    for (bare, told, kind) in [
        (
            "400 Bad Request",
            (
                "400 Bad Request",
                "InvalidRequest",
                "The object was stored using a form of Server Side Encryption. The correct parameters must be provided.",
            ),
            FaultKind::Ineligible,
        ),
        (
            "403 Forbidden",
            ("403 Forbidden", "AccessDenied", "User: u is not authorized to perform: kms:Decrypt on resource: arn"),
            FaultKind::KeyUnusable,
        ),
        ("403 Forbidden", ("403 Forbidden", "AccessDenied", "Access Denied"), FaultKind::Denied),
        ("400 Bad Request", ("400 Bad Request", "KMS.DisabledException", "arn is disabled."), FaultKind::KeyUnusable),
    ] {
        let head = format!("HTTP/1.1 {bare}\r\nConnection: close\r\n\r\n");
        let server = Scripted::new(client, &[head, error(told.0, told.1, told.2)]).await;
        let fault = server.bucket.head(&Key::new("k"), &Pick::Current).await.unwrap_err();
        assert_eq!((fault.kind, fault.code.as_deref()), (kind, Some(told.1)), "{fault}");
        assert!(server.asked()[1].contains("range: bytes=0-0"));
    }
}

async fn delete_markers_are_told_from_nothing(client: HotPath) {
    let look = async |status: &str, headers: &str, more: &[String]| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
        let server = Scripted::new(client, &[&[head], more].concat()).await;
        server.bucket.head(&Key::new("k"), &Pick::Version(VersionId::new("v"))).await
    };
    let missing = [error("404 Not Found", "NoSuchKey", "The specified key does not exist.")];
    assert_eq!(look("404 Not Found", "", &missing).await.unwrap(), Found::Missing);
    let marked = "x-amz-delete-marker: true\r\n";
    assert_eq!(look("404 Not Found", marked, &[]).await.unwrap(), Found::DeleteMarker);
    assert_eq!(look("405 Method Not Allowed", marked, &[]).await.unwrap(), Found::DeleteMarker);
    // A HEAD cannot tell a missing bucket from a missing key; an object is not gone because its bucket is.
    let no_bucket = [error("404 Not Found", "NoSuchBucket", "The specified bucket does not exist")];
    assert_eq!(look("404 Not Found", "", &no_bucket).await.unwrap_err().kind, FaultKind::Refused);
}

/// A store that forgets the range where a version is named must not send a large object whole for every part of it.
async fn a_store_that_loses_ranges_is_asked_another_way(client: HotPath) {
    let whole = answer(
        "200 OK",
        "ETag: \"e\"\r\nLast-Modified: Sat, 21 Nov 2026 12:00:00 GMT\r\nx-amz-version-id: v1\r\n",
        "abcdef",
    );
    let part = |version: &str| {
        let headers = format!(
            "ETag: \"e\"\r\nLast-Modified: Sat, 21 Nov 2026 12:00:00 GMT\r\nx-amz-version-id: {version}\r\nContent-Range: bytes 4-5/6\r\n"
        );
        answer("206 Partial Content", &headers, "ef")
    };
    let server = Scripted::new(client, &[whole.clone(), part("v1"), part("v2"), whole]).await;
    let read = async |first, last| {
        let read = Read {
            pick: Pick::Version(VersionId::new("v1")),
            range: Some((first, last)),
            if_match: Some(ETag::new("e")),
        };
        let Fetched::Object(mut got) = server.bucket.get(&Key::new("k"), read).await.unwrap() else { panic!() };
        let mut bytes = Vec::new();
        while let Some(piece) = got.body.next().await {
            bytes.extend(piece.unwrap());
        }
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(read(2, 3).await, "cd", "skipped to, from the whole");
    assert_eq!(read(4, 5).await, "ef");
    assert_eq!(read(4, 5).await, "ef", "the current version is another one by now: asked by its id again");
    let named: Vec<bool> = server.asked().iter().map(|asked| asked.contains("versionid=v1")).collect();
    assert_eq!(named, [true, false, false, true]);
}

async fn a_body_cut_short_is_a_fault(client: HotPath) {
    let cut = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n{HEADERS}\r\nabc");
    let server = Scripted::new(client, &[cut]).await;
    let Fetched::Object(mut got) = server.bucket.get(&Key::new("k"), current()).await.unwrap() else { panic!() };
    assert_eq!(got.head.size, 10);
    assert_eq!(got.body.next().await.unwrap().unwrap(), "abc");
    assert_eq!(got.body.next().await.unwrap().unwrap_err().kind, FaultKind::Transient);
    assert!(got.body.next().await.is_none());
}

async fn conditions_that_do_not_hold_are_raced(client: HotPath) {
    let matches = Condition::Matches(ETag::new("e"));
    for (status, code, condition, kind) in [
        ("412 Precondition Failed", "PreconditionFailed", &Condition::Absent, FaultKind::Raced),
        ("409 Conflict", "ConditionalRequestConflict", &Condition::Absent, FaultKind::Raced),
        ("404 Not Found", "NoSuchKey", &matches, FaultKind::Raced),
        ("404 Not Found", "NoSuchUpload", &matches, FaultKind::Gone),
        ("404 Not Found", "NoSuchBucket", &matches, FaultKind::Refused),
    ] {
        let server = Scripted::new(client, &[error(status, code, "m")]).await;
        let fault = server.bucket.put(&object(), whole(), None, condition).await.unwrap_err();
        assert_eq!(fault.kind, kind, "{code}");
        assert_eq!(fault.status.map(|status| status.to_string()).unwrap(), status[..3]);
    }
}

async fn a_put_says_its_length_and_is_not_chunked(client: HotPath) {
    let server = Scripted::new(client, &[answer("200 OK", "ETag: \"e\"\r\nx-amz-version-id: v9\r\n", "")]).await;
    let pieces = Payload::Piped {
        stream: repl::ports::ByteStream::new(Once(Some(Bytes::from_static(b"hello")))),
        length: 5,
        md5: None,
    };
    let written = server.bucket.put(&object(), pieces, None, &Condition::Absent).await.unwrap();
    assert_eq!(written.version, Some(VersionId::new("v9")));
    let asked = server.asked().remove(0);
    for header in ["content-length: 5", "x-amz-content-sha256: unsigned-payload", "if-none-match: *"] {
        assert!(asked.contains(header), "{asked}");
    }
    for header in ["aws-chunked", "x-amz-trailer", "x-amz-checksum", "x-amz-sdk-checksum", "content-type"] {
        assert!(!asked.contains(header), "{asked}");
    }
}

struct Once(Option<Bytes>);

impl futures_core::Stream for Once {
    type Item = Result<Bytes, Fault>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take().map(Ok))
    }
}

async fn missing_credentials_are_named_as_such(client: HotPath) {
    let endpoint = Endpoint {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        path_style: true,
        client,
        ..Endpoint::in_region("us-east-1", Side::Source)
    };
    let config = Clients::new().sdk_config(&endpoint).await.unwrap();
    for (error, kind) in [
        (CredentialsError::not_loaded("nothing configured"), FaultKind::Denied),
        (CredentialsError::provider_error("AccessDenied: not allowed to assume role"), FaultKind::Denied),
        (CredentialsError::provider_error("the metadata service is busy"), FaultKind::Transient),
    ] {
        let failing = Failing(Mutex::new(Some(error)));
        let config = config.to_builder().credentials_provider(SharedCredentialsProvider::new(failing)).build();
        let bucket = S3Bucket::new(&config, &endpoint, "b");
        let fault = bucket.put(&object(), whole(), None, &Condition::Any).await.unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.detail.contains("credentials"), "{fault}");
    }
    let wrong = Endpoint { endpoint: Some("127.0.0.1:9000".to_owned()), ..endpoint };
    let fault = Clients::new().sdk_config(&wrong).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.detail.contains("is not a URL"), "{fault}");
}

/// A source of credentials that fails, once as told.
#[derive(Debug)]
struct Failing(Mutex<Option<CredentialsError>>);

impl ProvideCredentials for Failing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let error = self.0.lock().unwrap().take().unwrap_or_else(|| CredentialsError::not_loaded("asked twice"));
        future::ProvideCredentials::ready(Err(error))
    }
}

const LISTING: &str = "<?xml version=\"1.0\"?>\n<ListBucketResult><Name>b</Name><EncodingType>url</EncodingType>\
    <Contents><Key>a+b%2Bc%25%C3%A9</Key><LastModified>2026-11-21T12:30:29.000Z</LastModified><ETag>&quot;e-2&quot;</ETag>\
    <ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>17</Size>\
    <StorageClass>GLACIER</StorageClass></Contents>\
    <IsTruncated>true</IsTruncated></ListBucketResult>";

async fn a_page_of_objects_is_read_whole(client: HotPath) {
    let empty = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    let nowhere = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    let answers = [
        answer("200 OK", "Server: SeaweedFS 4.48\r\n", LISTING),
        answer("200 OK", "", empty),
        answer("200 OK", "", nowhere),
        answer("200 OK", "", &LISTING.replace("GLACIER", "")),
        answer("200 OK", "", &LISTING.replace("GLACIER", "STANDARD")),
    ];
    let scripted = Scripted::new(client, &answers).await;
    let page = scripted.bucket.list_objects("a", &ListFrom::After(Key::new("a b")), Some(7)).await.unwrap();
    let entry = &page.entries[0];
    assert_eq!((entry.key.as_str(), entry.size, entry.etag.as_str()), ("a b+c%é", 17, "e-2"));
    assert_eq!(entry.checksum, Some((Algorithm::Crc64Nvme, ChecksumType::FullObject)));
    assert_eq!(entry.storage_class.as_deref(), Some("GLACIER"));
    assert_eq!(page.next, Some(ListFrom::After(entry.key.clone())), "no token: it goes on after its last key");
    assert_eq!(page.order, KeyOrder::Paths);
    let page = scripted.bucket.list_objects("", &ListFrom::Token("t0".to_owned()), None).await.unwrap();
    assert_eq!(
        (page.entries.len(), page.next, page.order),
        (0, Some(ListFrom::Token("t".to_owned())), KeyOrder::Bytes)
    );
    let fault = scripted.bucket.list_objects("", &ListFrom::Start, None).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    for told in ["none", "the usual one"] {
        let page = scripted.bucket.list_objects("", &ListFrom::Start, None).await.unwrap();
        assert_eq!(page.entries[0].storage_class, None, "{told}");
    }
    let asked = scripted.asked();
    for part in ["list-type=2", "start-after=a%20b", "max-keys=7", "prefix=a", "encoding-type=url"] {
        assert!(asked[0].contains(part), "{part}: {}", asked[0]);
    }
    assert!(asked[1].contains("continuation-token=t0") && asked[1].contains("max-keys=1000"), "{}", asked[1]);
}

async fn a_page_of_objects_that_breaks_off_is_no_short_page(client: HotPath) {
    let end = LISTING.rfind("</ListBucketResult>").unwrap();
    let cuts: Vec<usize> = (0..end).step_by(23).chain([end]).collect();
    let answers: Vec<String> = cuts.iter().map(|cut| answer("200 OK", "", &LISTING[..*cut])).collect();
    let scripted = Scripted::new(client, &answers).await;
    for cut in cuts {
        let fault = scripted.bucket.list_objects("", &ListFrom::Start, None).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Transient, "cut at {cut}: {fault}");
    }
}

async fn a_page_of_versions_is_asked_for_as_s3_wants_it(client: HotPath) {
    let page = "<ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><DeleteMarker>\
        <Key>a+b%2B</Key><VersionId>m</VersionId><IsLatest>true</IsLatest><LastModified>2026-11-21T12:30:29.000Z</LastModified>\
        </DeleteMarker></ListVersionsResult>";
    let answers = [
        answer("200 OK", "Server: SeaweedFS 4.48\r\n", page),
        answer("200 OK", "", page),
        answer("200 OK", "", LISTING),
        answer("200 OK", "", "<Error><Code>SlowDown</Code></Error>"),
    ];
    let scripted = Scripted::new(client, &answers).await;
    let list = async |after| scripted.bucket.list_versions("a b", after).await;
    let page = list(Some((Key::new("a+b/é"), VersionId::new("v+1")))).await.unwrap();
    assert_eq!((page.entries[0].key.as_str(), page.order), ("a b+", KeyOrder::Paths));
    assert_eq!(list(Some((Key::new("a"), VersionId::new("")))).await.unwrap().order, KeyOrder::Bytes);
    // A document of another kind lists no versions: it must not tell that there are none.
    assert_eq!(list(None).await.unwrap_err().kind, FaultKind::Transient);
    assert_eq!(list(None).await.unwrap_err().kind, FaultKind::Throttled);
    let lean = scripted.asked().iter().filter(|head| head.contains("user-agent: repl/")).count();
    assert_eq!(lean, if client == HotPath::Lean { 4 } else { 0 });
    let asked: Vec<Vec<String>> = scripted.asked().iter().map(|head| parameters(head)).collect();
    let all = ["encoding-type=url", "max-keys=1000", "prefix=a%20b", "versions"];
    let from = [all[0], "key-marker=a%2bb%2f%c3%a9", all[1], all[2], "version-id-marker=v%2b1", all[3]];
    assert_eq!(asked, [&from[..], &[all[0], "key-marker=a", all[1], all[2], all[3]], &all, &all]);
}

/// The null version has a name only where there are, or were, versions: other stores refuse it.
#[tokio::test]
async fn own_objects_are_erased_by_a_version_only_where_there_are_some() {
    for (state, named) in [("", false), ("<Status>Suspended</Status>", true), ("<Status>Enabled</Status>", true)] {
        let versioning = answer("200 OK", "", &format!("<VersioningConfiguration>{state}</VersioningConfiguration>"));
        let scripted = Scripted::new(HotPath::Lean, &[versioning, answer("204 No Content", "", "")]).await;
        scripted.bucket.erase(&Key::new(".repl/check/k"), &VersionId::null()).await.unwrap();
        let asked = scripted.asked();
        assert!(asked[0].starts_with("get ") && asked[1].starts_with("delete /b/.repl/check/k"), "{asked:?}");
        assert_eq!(asked[1].contains("versionid=null"), named, "{state}: {asked:?}");
    }
    let scripted = Scripted::new(HotPath::Lean, &[answer("204 No Content", "", "")]).await;
    let fault = scripted.bucket.erase(&Key::new("theirs"), &VersionId::null()).await.unwrap_err();
    assert_eq!((fault.kind, scripted.asked().len()), (FaultKind::Refused, 0));
}

/// What the request line asks, sorted; a name without a value ends with it.
fn parameters(head: &str) -> Vec<String> {
    let line = head.lines().next().unwrap().trim_end_matches(" http/1.1");
    let query = line.split_once('?').unwrap().1;
    let mut all: Vec<String> = query.split('&').map(|pair| pair.trim_end_matches('=').to_owned()).collect();
    all.sort();
    all
}
