//! The lean client by itself, against a small server that keeps connections as told: which requests are sent again, what
//! is signed, and what odd answers come to.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use bytes::Bytes;
use repl::aws::s3::S3Bucket;
use repl::aws::{Clients, Endpoint, HotPath};
use repl::model::digest::{Algorithm, Checksum, ChecksumType};
use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::{Attributes, ETag, Found, Key, Tags, VersionId};
use repl::ports::{
    ByteStream, Condition, Fetched, ListFrom, NewObject, ObjectStore, Payload, Pick, Read, Sealing, UploadRef, Written,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const FACTS: &str = "Last-Modified: Sat, 21 Nov 2026 12:30:29 GMT\r\nETag: \"e\"\r\n";

/// What the server does with one connection, request by request; then it closes it.
#[derive(Clone, Debug)]
enum Step {
    /// Reads a request and answers.
    Answer(String),
    /// Reads the head of a request and answers at once, without its body.
    AnswerHead(String),
    /// Reads a request and closes without a word.
    HangUp,
}

struct Server {
    bucket: S3Bucket,
    /// The connection's number and the head of each request.
    asked: Arc<Mutex<Vec<(usize, String)>>>,
    /// How many connections were closed.
    closed: Arc<AtomicU32>,
    _server: JoinSet<()>,
}

impl Server {
    async fn new(connections: &[&[Step]]) -> Self {
        Self::for_client(HotPath::Lean, connections).await
    }

    async fn for_client(client: HotPath, connections: &[&[Step]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, closed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU32::new(0)));
        let scripts: Vec<Vec<Step>> = connections.iter().map(|steps| steps.to_vec()).collect();
        let (seen, ended) = (Arc::clone(&asked), Arc::clone(&closed));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut open = JoinSet::new();
            for (number, steps) in scripts.into_iter().enumerate() {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, ended) = (Arc::clone(&seen), Arc::clone(&ended));
                open.spawn(async move {
                    converse(stream, number, steps, &seen).await;
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
            while open.join_next().await.is_some() {}
        });
        let endpoint = Endpoint {
            endpoint: Some(url),
            path_style: true,
            client,
            expected_bucket_owner: Some("111122223333".to_owned()),
            ..Endpoint::in_region("us-east-1", Side::Target)
        };
        let config = Clients::new().sdk_config(&endpoint).await.unwrap();
        let keys = SharedCredentialsProvider::new(Numbered::default());
        let config = config.to_builder().credentials_provider(keys).build();
        Self { bucket: S3Bucket::new(&config, &endpoint, "b"), asked, closed, _server: server }
    }

    fn asked(&self) -> Vec<(usize, String)> {
        self.asked.lock().unwrap().clone()
    }

    /// On which connection each request came.
    fn connections(&self) -> Vec<usize> {
        self.asked().iter().map(|(connection, _)| *connection).collect()
    }

    /// Waits until so many connections are closed, and this machine knows.
    async fn closes(&self, count: u32) {
        while self.closed.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn converse(mut stream: TcpStream, number: usize, steps: Vec<Step>, seen: &Mutex<Vec<(usize, String)>>) {
    for step in steps {
        let whole = !matches!(step, Step::AnswerHead(_));
        let Some(head) = request(&mut stream, whole).await else { return };
        seen.lock().unwrap().push((number, head));
        match step {
            Step::Answer(text) | Step::AnswerHead(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Step::HangUp => return,
        }
    }
}

/// The head of one request; its body is read and dropped, if it is waited for. `None` if the client has gone.
async fn request(stream: &mut TcpStream, whole: bool) -> Option<String> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).unwrap();
            let length = header(&head, "content-length").map_or(0, |length| length.parse::<usize>().unwrap());
            if !whole || read.len() >= end + 4 + length {
                return Some(head);
            }
        }
        let mut piece = [0_u8; 4096];
        let count = stream.read(&mut piece).await.unwrap_or(0);
        if count == 0 {
            return None;
        }
        read.extend_from_slice(&piece[..count]);
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (told, value) = line.split_once(": ")?;
        told.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn answer(status: &str, headers: &str, body: &str) -> Step {
    Step::Answer(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()))
}

fn found() -> Step {
    answer("200 OK", FACTS, "bytes")
}

fn written() -> Step {
    answer("200 OK", "ETag: \"e\"\r\n", "")
}

/// Credentials with a session token, other ones every time.
#[derive(Debug, Default)]
struct Numbered(AtomicU32);

impl ProvideCredentials for Numbered {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let id = format!("id{}", self.0.fetch_add(1, Ordering::Relaxed));
        future::ProvideCredentials::ready(Ok(Credentials::new(id, "secret", Some("to/k+en=".to_owned()), None, "test")))
    }
}

/// A stream of given pieces.
struct Given(Vec<Bytes>);

impl futures_core::Stream for Given {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}

fn piped(bytes: usize) -> Payload {
    let stream = ByteStream::new(Given(vec![Bytes::from(vec![7; bytes / 4]); 4]));
    Payload::Piped { stream, length: bytes as u64, md5: None }
}

fn whole() -> Payload {
    Payload::Whole(Bytes::from_static(b"bytes"))
}

fn object(key: &str) -> NewObject {
    NewObject {
        key: Key::new(key),
        attributes: Attributes::default(),
        tags: Tags::new(),
        sealing: Sealing::BucketDefault,
        owner_full_control: false,
    }
}

async fn get(bucket: &S3Bucket) -> Result<String, Fault> {
    let read = Read { pick: Pick::Current, range: None, if_match: None };
    let Fetched::Object(mut got) = bucket.get(&Key::new("k"), read).await? else { panic!("nothing there") };
    let mut bytes = Vec::new();
    while let Some(piece) = got.body.next().await {
        bytes.extend(piece?);
    }
    Ok(String::from_utf8(bytes).unwrap())
}

async fn put(bucket: &S3Bucket, payload: Payload, condition: &Condition) -> Result<Written, Fault> {
    bucket.put(&object("k"), payload, None, condition).await
}

async fn part(bucket: &S3Bucket, payload: Payload) -> Result<repl::ports::Part, Fault> {
    bucket.upload_part(UploadRef { key: &Key::new("k"), id: "u" }, 1, payload, None).await
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let head = Step::Answer(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n{FACTS}\r\n"));
    let told_late = "<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>";
    let chunks: String =
        [&told_late[..20], &told_late[20..]].map(|text| format!("{:x}\r\n{text}\r\n", text.len())).concat();
    let chunked = format!("HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    let told = Step::Answer(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n".to_owned(),
    );
    let steps = [found(), written(), told, head, Step::Answer(chunked), found()];
    let server = Server::new(&[&steps]).await;
    assert_eq!(get(&server.bucket).await.unwrap(), "bytes");
    put(&server.bucket, whole(), &Condition::Any).await.unwrap();
    part(&server.bucket, piped(400_000)).await.unwrap();
    let Found::Object(looked) = server.bucket.head(&Key::new("k"), &Pick::Current).await.unwrap() else { panic!() };
    assert_eq!(looked.size, 1000);
    let fault = part(&server.bucket, whole()).await.unwrap_err();
    assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Gone, Some("NoSuchUpload")), "{fault}");
    assert_eq!(get(&server.bucket).await.unwrap(), "bytes");
    assert_eq!(server.connections(), [0; 6]);
}

#[tokio::test]
async fn a_body_that_is_not_read_takes_its_connection_with_it() {
    let long = answer("200 OK", FACTS, &"x".repeat(1 << 20));
    let server = Server::new(&[&[long], &[found()]]).await;
    let read = Read { pick: Pick::Current, range: None, if_match: None };
    let Fetched::Object(mut got) = server.bucket.get(&Key::new("k"), read).await.unwrap() else { panic!() };
    assert!(got.body.next().await.unwrap().is_ok());
    drop(got);
    assert_eq!(get(&server.bucket).await.unwrap(), "bytes");
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_rested_is_not_used() {
    let server = Server::new(&[&[found()], &[written()], &[written()]]).await;
    get(&server.bucket).await.unwrap();
    server.closes(1).await;
    put(&server.bucket, whole(), &Condition::Any).await.unwrap();
    server.closes(2).await;
    put(&server.bucket, piped(4000), &Condition::Any).await.unwrap();
    assert_eq!(server.connections(), [0, 1, 2]);
}

/// The server closes a used connection just as the next request comes: then none can say whether it was carried out.
#[tokio::test]
async fn what_met_a_closing_connection_is_sent_again_where_twice_is_as_good_as_once() {
    let closing = [found(), Step::HangUp];
    let absent = Condition::Absent;

    let server = Server::new(&[&closing, &[found()]]).await;
    get(&server.bucket).await.unwrap();
    get(&server.bucket).await.unwrap();
    assert_eq!(server.connections(), [0, 0, 1]);

    let server = Server::new(&[&closing, &[written()]]).await;
    get(&server.bucket).await.unwrap();
    put(&server.bucket, whole(), &absent).await.unwrap();
    assert_eq!(server.connections(), [0, 0, 1]);

    let server = Server::new(&[&closing, &[written()]]).await;
    get(&server.bucket).await.unwrap();
    part(&server.bucket, whole()).await.unwrap();
    assert_eq!(server.connections(), [0, 0, 1]);

    // It might leave a second version behind, also where it replaces the same bytes; or its bytes are gone.
    let matches = Condition::Matches(ETag::new("e"));
    for (payload, condition) in [(whole(), Condition::Any), (whole(), matches), (piped(4000), absent)] {
        let server = Server::new(&[&closing, &[written()]]).await;
        get(&server.bucket).await.unwrap();
        let fault = put(&server.bucket, payload, &condition).await.unwrap_err();
        assert_eq!((fault.kind, fault.status), (FaultKind::Transient, None), "{fault}");
        assert_eq!(server.connections(), [0, 0]);
    }
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_body_is_sent_is_read() {
    let refusal = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let head =
        format!("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{refusal}", refusal.len());
    let server = Server::new(&[&[Step::AnswerHead(head)], &[written()]]).await;
    let stalled = Payload::Piped {
        stream: ByteStream::new(Stalled(Some(Bytes::from_static(b"some")))),
        length: 1 << 20,
        md5: None,
    };
    let fault = put(&server.bucket, stalled, &Condition::Absent).await.unwrap_err();
    assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Denied, Some("AccessDenied")), "{fault}");
    put(&server.bucket, whole(), &Condition::Absent).await.unwrap();
    assert_eq!(server.connections(), [0, 1]);
}

/// One piece, and then nothing.
struct Stalled(Option<Bytes>);

impl futures_core::Stream for Stalled {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.take().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(piece))))
    }
}

#[tokio::test]
async fn redirects_are_told_and_not_followed() {
    for (status, code, kind) in [
        ("301 Moved Permanently", "PermanentRedirect", FaultKind::Refused),
        ("307 Temporary Redirect", "TemporaryRedirect", FaultKind::Refused),
    ] {
        let body = format!("<Error><Code>{code}</Code><Message>Use &lt;another&gt; endpoint.</Message></Error>");
        let headers = "x-amz-bucket-region: eu-west-2\r\nLocation: http://127.0.0.1:1/\r\n";
        for client in [HotPath::Lean, HotPath::Sdk] {
            let server = Server::for_client(client, &[&[answer(status, headers, &body)]]).await;
            let fault = put(&server.bucket, whole(), &Condition::Any).await.unwrap_err();
            assert_eq!((fault.kind, fault.code.as_deref()), (kind, Some(code)), "{client:?}");
            assert_eq!(fault.detail, "Use <another> endpoint. (the bucket lives in region eu-west-2)");
        }
    }
}

#[tokio::test]
async fn a_page_or_a_write_that_is_an_error_after_all_is_one() {
    let late = answer("200 OK", FACTS, "<Error><Code>InternalError</Code><Message>m</Message></Error>");
    let server = Server::new(&[&[late.clone(), late.clone(), late, found()]]).await;
    let faults = [
        server.bucket.list_objects("", &ListFrom::Start, None).await.unwrap_err(),
        put(&server.bucket, whole(), &Condition::Any).await.unwrap_err(),
        part(&server.bucket, piped(4000)).await.unwrap_err(),
    ];
    for fault in faults {
        assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Transient, Some("InternalError")), "{fault}");
    }
    assert_eq!(server.connections(), [0; 3]);
}

#[tokio::test]
async fn worn_out_credentials_are_asked_for_anew() {
    let expired = answer("400 Bad Request", "", "<Error><Code>ExpiredToken</Code><Message>m</Message></Error>");
    let server = Server::new(&[&[expired, written(), written()]]).await;
    let fault = put(&server.bucket, whole(), &Condition::Any).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Transient);
    put(&server.bucket, whole(), &Condition::Any).await.unwrap();
    put(&server.bucket, whole(), &Condition::Any).await.unwrap();
    let ids: Vec<bool> = ["id0/", "id1/", "id1/"]
        .iter()
        .zip(server.asked())
        .map(|(id, (_, head))| header(&head, "authorization").unwrap().contains(&format!("Credential={id}")))
        .collect();
    assert_eq!(ids, [true; 3]);
}

#[tokio::test]
async fn a_store_whose_clock_differs_is_believed() {
    let skewed = "<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>";
    let skewed = answer("403 Forbidden", "Date: Mon, 01 Jan 2035 00:00:05 GMT\r\n", skewed);
    let server = Server::new(&[&[skewed, written()]]).await;
    assert_eq!(put(&server.bucket, whole(), &Condition::Any).await.unwrap_err().kind, FaultKind::Denied);
    put(&server.bucket, whole(), &Condition::Any).await.unwrap();
    let asked = server.asked();
    assert!(header(&asked[1].1, "x-amz-date").unwrap().starts_with("20350101T0000"), "{asked:?}");
}

/// What both clients send for the same calls: the same lines, and the lean one signs all that it says.
#[tokio::test]
async fn requests_are_spelled_as_by_the_sdk() {
    let keys = [
        "a+b c%2F?é",
        "//leading//slashes/",
        "../up/./and/..",
        "日本語/ключ",
        "quote\"<xml>'&=#;:@,$!*()[]{}|\\^`~",
        "tab\tnew\nline\u{1}",
        "%",
        ".",
    ];
    let part = answer("206 Partial Content", &format!("{FACTS}Content-Range: bytes 1-2/5\r\n"), "yt");
    let mut lines = Vec::new();
    for client in [HotPath::Lean, HotPath::Sdk] {
        let steps: Vec<Step> = keys.iter().flat_map(|_| [part.clone(), written(), written()]).collect();
        let each: Vec<Vec<Step>> = if client == HotPath::Lean { vec![steps] } else { vec![steps.clone(); 3] };
        let server = Server::for_client(client, &each.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
        for key in keys {
            let read = Read { pick: Pick::Version(VersionId::new(" v+/=%é")), range: Some((1, 2)), if_match: None };
            let Fetched::Object(mut got) = server.bucket.get(&Key::new(key), read).await.unwrap() else { panic!() };
            while let Some(piece) = got.body.next().await {
                piece.unwrap();
            }
            let sum =
                Checksum { algorithm: Algorithm::Crc32, kind: ChecksumType::FullObject, value: "AAAAAA==".to_owned() };
            let mut new = object(key);
            new.attributes.metadata.insert("two".to_owned(), " spaces  in   between ".to_owned());
            server.bucket.put(&new, whole(), Some(&sum), &Condition::Absent).await.unwrap();
            let upload = UploadRef { key: &new.key, id: "u+/ =" };
            server.bucket.upload_part(upload, 7, whole(), None).await.unwrap();
        }
        lines.push(server.asked().into_iter().map(|(_, head)| essence(&head, client)).collect::<Vec<_>>());
    }
    assert_eq!(lines[0].len(), keys.len() * 3);
    for (lean, sdk) in lines[0].iter().zip(&lines[1]) {
        assert_eq!(lean, sdk);
    }
}

/// The request line without the SDK's own parameter, and the headers that both must send.
fn essence(head: &str, client: HotPath) -> (String, Vec<Option<String>>) {
    let line = head.lines().next().unwrap();
    let (line, query) =
        line.trim_end_matches(" HTTP/1.1").split_once('?').unwrap_or((line.trim_end_matches(" HTTP/1.1"), ""));
    let mut query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("x-id=")).collect();
    query.sort_unstable();
    if client == HotPath::Lean {
        assert!(header(head, "user-agent").unwrap().starts_with("repl/"), "the lean client was not used: {head}");
        let signed =
            header(head, "authorization").unwrap().split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
        let mut sent: Vec<String> =
            head.lines().skip(1).map(|line| line.split(':').next().unwrap().to_lowercase()).collect();
        sent.retain(|name| !["authorization", "user-agent"].contains(&name.as_str()));
        sent.sort();
        assert_eq!(signed, sent.join(";"));
    }
    let names = [
        "host",
        "range",
        "if-none-match",
        "content-length",
        "x-amz-checksum-crc32",
        "x-amz-checksum-mode",
        "x-amz-content-sha256",
        "x-amz-expected-bucket-owner",
        "x-amz-meta-two",
        "x-amz-security-token",
    ];
    let mut values: Vec<Option<String>> = names.iter().map(|name| header(head, name).map(str::to_owned)).collect();
    // Each server listens on a port of its own.
    values[0] = values[0].take().map(|host| host.split(':').next().unwrap().to_owned());
    (format!("{line}?{}", query.join("&")), values)
}

#[tokio::test]
async fn many_headers_are_read_and_too_many_are_told() {
    let many = |count: usize| {
        let metadata: String = (0..count).map(|number| format!("x-amz-meta-{number}: v\r\n")).collect();
        answer("200 OK", &format!("{FACTS}{metadata}"), "bytes")
    };
    // Once on a connection that takes as many as are usual, once on one that takes more.
    let server = Server::new(&[&[many(300)], &[many(300)], &[many(600)], &[many(600)]]).await;
    let Found::Object(looked) = server.bucket.head(&Key::new("k"), &Pick::Current).await.unwrap() else { panic!() };
    assert_eq!(looked.attributes.metadata.len(), 300);
    server.closes(2).await;
    assert_eq!(get(&server.bucket).await.unwrap_err().kind, FaultKind::Ineligible);
}
