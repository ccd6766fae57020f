//! The proxy that other tests trust, tested by itself: each act must really happen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic, and live in real time"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use support::proxy::{Act, Framing, Moment, Proxy, Rule, start_echo};

/// Sends a request by hand and reads until the connection ends: head and body as they come off the wire.
fn ask(endpoint: &str, method: &str, target: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(endpoint.trim_start_matches("http://")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: bucket.example:1234\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    // A server that breaks the request off may have closed already.
    drop(socket.write_all(body));
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer));
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let body = answer.split_off(end);
    (String::from_utf8(answer).unwrap(), body)
}

#[test]
fn what_no_rule_claims_passes_unchanged_and_is_remembered() {
    let proxy = Proxy::before(&start_echo());
    let (head, body) = ask(&proxy.endpoint(), "PUT", "/b/a%20b?partNumber=3&uploads", b"hello");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(String::from_utf8(body).unwrap(), "PUT /b/a%20b?partNumber=3&uploads host=bucket.example:1234\nhello");
    let seen = proxy.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method.as_str(), seen[0].plain_path().as_str()), ("PUT", "/b/a b"));
    assert_eq!(seen[0].query.get("partNumber").map(String::as_str), Some("3"));
    assert!(seen[0].asks("uploads") && !seen[0].asks("uploadId"));
    assert_eq!(seen[0].header("host"), "bucket.example:1234");
    assert_eq!((seen[0].status, seen[0].sent.load(Ordering::Relaxed)), (Some(200), 5));
}

#[test]
fn a_rule_acts_on_the_matches_it_names_and_no_others() {
    let proxy = Proxy::before(&start_echo());
    proxy.add(Rule::when(|seen| seen.method == "PUT", Act::error(503, "SlowDown")).after(1).times(2));
    let statuses: Vec<bool> = ["PUT", "GET", "PUT", "PUT", "PUT"]
        .iter()
        .map(|method| ask(&proxy.endpoint(), method, "/b/k", b"").0.starts_with("HTTP/1.1 503"))
        .collect();
    assert_eq!(statuses, [false, false, true, true, false]);
    let refused = proxy.seen().into_iter().filter(|seen| seen.status == Some(503)).count();
    assert_eq!((refused, proxy.count(|seen| seen.method == "PUT")), (2, 4));
    proxy.clear();
    proxy.forget();
    assert!(proxy.seen().is_empty());
}

#[test]
fn a_cut_response_ends_early() {
    let proxy = Proxy::before(&start_echo());
    proxy.add(Rule::when(|_| true, Act::CutResponse(1000)));
    let (head, body) = ask(&proxy.endpoint(), "PUT", "/b/k", &vec![7; 200_000]);
    assert!(head.contains("content-length: 2000"), "the length promised stays: {head}");
    assert_eq!(body.len(), 1000);
}

#[test]
fn a_cut_request_reaches_the_server_in_part_and_has_no_answer() {
    let proxy = Proxy::before(&start_echo());
    proxy.add(Rule::when(|_| true, Act::CutRequest(1000)));
    let (head, _) = ask(&proxy.endpoint(), "PUT", "/b/k", &vec![7; 200_000]);
    assert_eq!(head, "");
    assert_eq!(proxy.seen()[0].sent.load(Ordering::Relaxed), 1000);
    assert_eq!(proxy.seen()[0].status, None);
}

#[test]
fn flipped_bits_arrive_flipped_and_only_they() {
    let proxy = Proxy::before(&start_echo());
    proxy.add(Rule::when(|seen| seen.method == "PUT", Act::FlipRequest(3)));
    let sent = vec![7_u8; 100_000];
    let (_, echoed) = ask(&proxy.endpoint(), "PUT", "/b/k", &sent);
    let returned = &echoed[echoed.len() - sent.len()..];
    let changed: Vec<usize> = (0..sent.len()).filter(|&at| returned[at] != sent[at]).collect();
    assert_eq!((changed, returned[3]), (vec![3], 6));
    proxy.add(Rule::when(|seen| seen.method == "GET", Act::FlipResponse(0)));
    assert_eq!(ask(&proxy.endpoint(), "GET", "/", b"").1[0], b'G' ^ 1);
}

#[test]
fn a_lost_answer_is_lost_after_the_server_did_the_work() {
    let proxy = Proxy::before(&start_echo());
    proxy.add(Rule::when(|_| true, Act::LoseAnswer).times(1));
    assert_eq!(ask(&proxy.endpoint(), "PUT", "/b/k", b"hello").0, "");
    assert_eq!(proxy.seen()[0].sent.load(Ordering::Relaxed), 5);
    proxy.add(Rule::when(|_| true, Act::AnswerAfter { status: 500, body: "no".into() }));
    let (head, body) = ask(&proxy.endpoint(), "PUT", "/b/k", b"hello");
    assert!(head.starts_with("HTTP/1.1 500"), "{head}");
    assert_eq!((body.as_slice(), proxy.seen()[1].sent.load(Ordering::Relaxed)), (b"no".as_slice(), 5));
}

#[test]
fn delays_and_throttles_take_their_time() {
    let proxy = Proxy::before(&start_echo());
    proxy.add(Rule::when(|seen| seen.path == "/delay", Act::Delay(Duration::from_millis(300))));
    proxy.add(Rule::when(|seen| seen.path == "/slow", Act::Throttle(1_000_000)));
    let timed = |target: &str, size: usize| {
        let start = Instant::now();
        let (_, body) = ask(&proxy.endpoint(), "PUT", target, &vec![1; size]);
        assert!(body.len() > size, "all of it arrives");
        start.elapsed()
    };
    assert!(timed("/fast", 10) < Duration::from_millis(300));
    assert!(timed("/delay", 10) >= Duration::from_millis(300));
    assert!(timed("/slow", 300_000) >= Duration::from_millis(500), "300 kB there and back at 1 MB/s");
}

#[test]
fn a_hang_up_reads_nothing_and_answers_nothing() {
    let proxy = Proxy::before(&start_echo());
    proxy.add(Rule::when(|_| true, Act::HangUp).times(2));
    // Every other connection is broken off with a reset.
    for _ in 0..2 {
        assert_eq!(ask(&proxy.endpoint(), "PUT", "/b/k", &[1; 1000]).0, "");
    }
    assert!(proxy.seen().iter().all(|seen| seen.status.is_none() && seen.sent.load(Ordering::Relaxed) == 0));
    assert!(ask(&proxy.endpoint(), "PUT", "/b/k", b"").0.starts_with("HTTP/1.1 200"));
}

#[test]
fn a_shortened_answer_has_no_length_and_ends_in_order() {
    let proxy = Proxy::before(&start_echo());
    proxy.add(Rule::when(|seen| seen.path == "/chunks", Act::Shorten(5, Framing::Chunked)));
    proxy.add(Rule::when(|seen| seen.path == "/closed", Act::Shorten(5, Framing::Closed)));
    proxy.add(Rule::when(|seen| seen.path == "/whole", Act::Shorten(u64::MAX, Framing::Closed)));
    let (head, body) = ask(&proxy.endpoint(), "GET", "/chunks", b"");
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    assert_eq!(body, b"5\r\nGET /\r\n0\r\n\r\n");
    let (head, body) = ask(&proxy.endpoint(), "GET", "/closed", b"");
    assert!(head.starts_with("HTTP/1.0 200") && !head.contains("content-length"), "{head}");
    assert_eq!(body, b"GET /");
    assert_eq!(ask(&proxy.endpoint(), "GET", "/whole", b"").1, b"GET /whole host=bucket.example:1234\n");
}

#[test]
fn a_stalled_connection_stays_open_and_silent() {
    let proxy = Proxy::before(&start_echo());
    for (path, moment, reached) in [
        ("/before", Moment::Before, 0),
        ("/up", Moment::InRequest(10), 10),
        ("/after", Moment::After, 1000),
        ("/down", Moment::InResponse(10), 1000),
    ] {
        proxy.add(Rule::when(move |seen| seen.path == path, Act::Stall(moment)));
        let mut socket = TcpStream::connect(proxy.endpoint().trim_start_matches("http://")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.write_all(format!("PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n").as_bytes()).unwrap();
        socket.write_all(&[7; 1000]).unwrap();
        let mut answer = Vec::new();
        let silent = socket.read_to_end(&mut answer).unwrap_err();
        assert_eq!(silent.kind(), std::io::ErrorKind::WouldBlock, "{path}: the connection was closed");
        let begun = answer.split(|byte| *byte == b'\n').next_back().unwrap_or_default().len();
        assert_eq!((answer.is_empty(), begun), (path != "/down", if path == "/down" { 10 } else { 0 }), "{path}");
        let seen = proxy.seen().pop().unwrap();
        assert_eq!((seen.path.as_str(), seen.sent.load(Ordering::Relaxed)), (path, reached));
    }
}
