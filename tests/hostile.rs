//! Bytes that nobody should send, to everything that listens or asks: one clear sentence, no panic, bounded memory (P10,
//! P12). Readers of files and documents are tested beside themselves: `cargo test --lib hostile`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic, and live in real time"
)]

#[path = "support/damage.rs"]
#[allow(dead_code, reason = "the crate's own tests use the rest")]
mod damage;
mod support;

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use damage::{cases, corpus, damaged, is_a_sentence};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use repl::aws::s3::S3Bucket;
use repl::aws::{Clients, Endpoint, HotPath};
use repl::model::fault::{Fault, Side};
use repl::model::object::{Attributes, Key, Tags};
use repl::ports::{Condition, Fetched, NewObject, ObjectStore, Payload, Pick, Read, Sealing};
use serde_json::Value;
use support::pair::Setup;
use support::servers::Server;
use support::web::serve_page;
use support::worker::{Worker, eventually, spawn_repl};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// More than any of these waits can need.
const PATIENCE: Duration = Duration::from_secs(60);
/// What DESIGN promises, measured as in the tests of large objects.
const MEMORY: u64 = 96 << 20;

/// Runs a body over damaged samples; fails with the smallest case that it found.
fn over(usual: u32, samples: &str, test: impl Fn(Vec<u8>) -> TestCaseResult) {
    TestRunner::new(cases(usual)).run(&damaged(corpus(samples)), test).unwrap_or_else(|failed| panic!("{failed}"));
}

// Answers --------------------------------------------------------------------------------------------------------------

/// A server that gives every caller the same bytes, and hangs up.
async fn parrot(answer: Arc<Mutex<Vec<u8>>>, listener: tokio::net::TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = answer.lock().unwrap().clone();
        // All that these tests send fits into one piece.
        let mut asked = [0_u8; 16 << 10];
        drop(stream.read(&mut asked).await);
        drop(stream.write_all(&answer).await);
        drop(stream.shutdown().await);
    }
}

async fn bucket_at(url: String, client: HotPath) -> S3Bucket {
    let endpoint =
        Endpoint { endpoint: Some(url), path_style: true, client, ..Endpoint::in_region("us-east-1", Side::Target) };
    let config = Clients::new().sdk_config(&endpoint).await.unwrap();
    let keys = Credentials::new("id", "secret", None, None, "tests");
    let config = config.to_builder().credentials_provider(SharedCredentialsProvider::new(keys)).build();
    S3Bucket::new(&config, &endpoint, "b")
}

/// Asks in one of the ways that the hot path knows.
async fn ask(bucket: &S3Bucket, way: usize) -> Result<(), Fault> {
    let key = Key::new("k");
    let range = (way == 1).then_some((2, 5));
    match way {
        0 | 1 => {
            let read = Read { pick: Pick::Current, range, if_match: None };
            let Fetched::Object(mut got) = bucket.get(&key, read).await? else { return Ok(()) };
            // A range that reaches beyond the object ends with it.
            let size = got.head.size;
            let promised = range.map_or(size, |(first, last)| size.min(last + 1) - size.min(first));
            let mut told = 0;
            while let Some(piece) = got.body.next().await {
                told += piece?.len() as u64;
            }
            assert_eq!(told, promised, "a body that ends well is whole");
            Ok(())
        }
        2 => bucket.head(&key, &Pick::Current).await.map(drop),
        3 => {
            let object = NewObject {
                key,
                attributes: Attributes::default(),
                tags: Tags::new(),
                sealing: Sealing::BucketDefault,
                owner_full_control: false,
            };
            bucket.put(&object, Payload::Whole(Bytes::from_static(b"x")), None, &Condition::Absent).await.map(drop)
        }
        _ => bucket.list_versions("", None).await.map(drop),
    }
}

fn answers_are_survived(client: HotPath) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = Arc::new(Mutex::new(Vec::new()));
    let bucket = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(parrot(Arc::clone(&answer), listener));
        bucket_at(url, client).await
    });
    let way = std::cell::Cell::new(0);
    over(300, "answer", |bytes| {
        *answer.lock().unwrap() = bytes;
        way.set((way.get() + 1) % 5);
        let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(&bucket, way.get())).await });
        match asked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => is_a_sentence(&fault.to_string()),
            Err(_) => Err(TestCaseError::fail("neither an answer nor a fault")),
        }
    });
}

#[test]
fn hostile_answers_are_survived_by_the_lean_client() {
    answers_are_survived(HotPath::Lean);
}

#[test]
fn hostile_answers_are_survived_by_the_sdk() {
    answers_are_survived(HotPath::Sdk);
}

// Questions ------------------------------------------------------------------------------------------------------------

/// Sends it all, says that there is no more, and reads until the other side ends.
fn exchange<S: std::io::Read + std::io::Write>(mut stream: S, sent: &[u8], end: impl Fn(&S)) -> Vec<u8> {
    // Whoever has read enough may close before all is sent.
    drop(stream.write_all(sent));
    end(&stream);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    answer
}

fn put_to(socket: &PathBuf, question: &[u8]) -> Vec<u8> {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(stream, question, |stream| drop(stream.shutdown(std::net::Shutdown::Write)))
}

fn is_one_answer(answer: &[u8]) -> TestCaseResult {
    let text = std::str::from_utf8(answer).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert!(text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
    let told: Value = serde_json::from_str(text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
    match (told.get("answer"), told["error"].as_str()) {
        (Some(_), None) => Ok(()),
        (None, Some(reason)) => is_a_sentence(reason),
        _ => Err(TestCaseError::fail(text.to_owned())),
    }
}

fn assert_well(worker: &mut Worker) {
    assert!(worker.runs(), "the worker has ended: {}", worker.stderr());
    assert!(worker.peak_rss() < MEMORY, "{} MiB resident", worker.peak_rss() >> 20);
    assert!(!worker.stderr().contains("panicked"), "{}", worker.stderr());
}

/// Garbage, half questions, huge lines, bytes that are no text: each gets one line of JSON, and the next caller his.
#[tokio::test]
async fn hostile_questions_get_one_answer_each() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let mut worker = spawn_repl(&pair, &["run"]);
    let socket = pair.ledger.join("repl.sock");
    eventually("the worker answers", PATIENCE, async || socket.exists()).await;
    let place = socket.clone();
    tokio::task::spawn_blocking(move || {
        over(300, "question", |question| is_one_answer(&put_to(&place, &question)));
        for question in [vec![b'['; 1 << 20], vec![b'"'; 65 << 10], vec![0; 1 << 20], b"{\"ask\":\"status\"}".to_vec()]
        {
            is_one_answer(&put_to(&place, &question)).unwrap();
        }
        let unknown = format!("{{\"ask\":\"{}\"}}\n", "\\u001b[2J".repeat(5000));
        is_one_answer(&put_to(&place, unknown.as_bytes())).unwrap();
    })
    .await
    .unwrap();
    let pinged: Value = serde_json::from_slice(&put_to(&socket, b"{\"ask\":\"ping\"}\n")).unwrap();
    assert_eq!(pinged["answer"]["pid"], worker.pid());
    assert_well(&mut worker);
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// Requests to the page: an HTTP answer or none, a reason in every refusal, and the next caller is served.
#[tokio::test]
async fn hostile_requests_get_an_answer_or_none() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "hunter2").unwrap();
    let (setup, page) = serve_page(
        Setup::on(Server::Ministack, Server::Ministack),
        &format!("token = \"file:{}\"\n", token.path().display()),
    );
    let pair = setup.build().await;
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the page answers", PATIENCE, async || page.try_get("/healthz").await.is_some()).await;
    let address = page.url("").trim_start_matches("http://").to_owned();
    tokio::task::spawn_blocking(move || {
        over(300, "request", |request| {
            let stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let answer = exchange(stream, &request, |stream| drop(stream.shutdown(std::net::Shutdown::Write)));
            is_http(&answer)
        });
    })
    .await
    .unwrap();
    assert_eq!(page.get("/metrics", &[]).await.status, 200);
    assert_well(&mut worker);
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// One or more answers, none of them a failure of ours; whatever is refused by us is refused with a sentence.
fn is_http(answer: &[u8]) -> TestCaseResult {
    if answer.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(answer);
    prop_assert!(text.starts_with("HTTP/1.1 "), "{text:?}");
    prop_assert!(!text.starts_with("HTTP/1.1 500"), "{text:?}");
    if let Some((_, body)) = text.split_once("\r\n\r\n")
        && let Some(line) = body.lines().next().filter(|line| line.starts_with("{\"error\""))
        && let Ok(told) = serde_json::from_str::<Value>(line)
    {
        is_a_sentence(told["error"].as_str().unwrap_or_default())?;
    }
    Ok(())
}
