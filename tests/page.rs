//! The page in a real browser, and the endpoints beside it, served by the binary against real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use serde_json::{Value, json};
use support::browser::Browser;
use support::pair::{Pair, Setup};
use support::servers::Server;
use support::web::{Page, serve_page};
use support::worker::{Worker, eventually, run_repl, spawn_repl};

const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "s3cret-T0ken";
/// What a page that trusts keys would run, or show as bold.
const MARKUP: &str = "\"><img src=x onerror=\"document.title='owned'\"><b>bold</b>&amp; Zürich +.txt";

fn ours() -> Setup {
    Setup::on(Server::Ministack, Server::Ministack)
}

async fn put(pair: &Pair, key: &str, bytes: usize) {
    let body = ByteStream::from(vec![7; bytes]);
    pair.source.s3.put_object().bucket(&pair.source.name).key(key).body(body).send().await.unwrap();
}

async fn running(setup: Setup, token: Option<&str>) -> (Pair, Worker, Page) {
    let token = token.map(|token| format!("token = \"{token}\"\n")).unwrap_or_default();
    let (setup, page) = serve_page(setup, &token);
    let pair = setup.build().await;
    let worker = spawn_repl(&pair, &["run"]);
    eventually("the page answers", PATIENCE, async || page.try_get("/healthz").await.is_some()).await;
    (pair, worker, page)
}

async fn replicated(page: &Page, operations: u64) {
    eventually("the objects arrive", PATIENCE, async || {
        page.json("/api/status").await["replicated"]["operations"].as_u64().unwrap() >= operations
    })
    .await;
}

/// `/api/status` is the very object of `repl status --json`; the others answer too, and metrics are those of the catalogue.
#[tokio::test]
async fn the_endpoints_tell_what_the_command_tells() {
    let (pair, mut worker, page) = running(ours(), None).await;
    for key in ["a", MARKUP] {
        put(&pair, key, 1000).await;
    }
    replicated(&page, 2).await;
    let told = run_repl(&pair, &["status", "--json"], PATIENCE).await.expect_code(0).json();
    let status = page.json("/api/status").await;
    let names = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&status), names(&told));
    for field in ["replicated", "failed", "rules", "pid", "paused"] {
        assert_eq!(status[field], told[field], "{field}");
    }
    let metrics = page.get("/metrics", &[]).await;
    assert!(metrics.headers.contains("application/openmetrics-text"), "{}", metrics.headers);
    let counted = format!("repl_replicated_operations_total{{source_bucket=\"{}\"}} 2", pair.source.name);
    assert!(metrics.body.contains(&counted), "{}", metrics.body);
    let recent = page.json("/api/recent").await["recent"].clone();
    assert!(recent.as_array().unwrap().iter().any(|each| each["key"] == MARKUP && each["outcome"] == "replicated"));
    let asked = format!("/api/why?key={}", support::pair::form_encoded(MARKUP));
    let story = page.json(&asked).await;
    assert_eq!((&story["key"], &story["state"]), (&json!(MARKUP), &json!("replicated")), "{story}");
    eventually("the queue is read", PATIENCE, async || page.get("/readyz", &[]).await.status == 200).await;
    worker.terminate(PATIENCE).await.expect_code(0);
    // What the last minutes came to is kept over a restart.
    let mut again = spawn_repl(&pair, &["run"]);
    eventually("the page answers", PATIENCE, async || page.try_get("/healthz").await.is_some()).await;
    let samples = page.json("/api/history").await["samples"].clone();
    let sum = samples.as_array().unwrap().iter().map(|each| each["replicated"]["operations"].as_u64().unwrap());
    assert_eq!(sum.sum::<u64>(), 2, "{samples}");
    let metrics = page.get("/metrics", &[]).await.body;
    let counted = format!("repl_replicated_operations_total{{source_bucket=\"{}\"}} 0\n", pair.source.name);
    assert!(metrics.contains(&counted), "a counter begins anew with its process: {metrics}");
    again.terminate(PATIENCE).await.expect_code(0);
}

/// Nobody but who is meant: other names, other origins, no token, a wrong one, too much.
#[tokio::test]
async fn strangers_are_turned_away() {
    let (pair, _worker, page) = running(ours(), Some(TOKEN)).await;
    let get = async |headers: &[(&str, &str)]| page.get("/api/status", headers).await.status;
    assert_eq!(get(&[("Host", "evil.example")]).await, 403);
    assert_eq!(get(&[("Origin", "http://evil.example")]).await, 403);
    assert_eq!(get(&[("Sec-Fetch-Site", "cross-site")]).await, 403);
    let answer = page.get("/", &[]).await;
    for promise in ["default-src 'none'", "frame-ancestors 'none'", "nosniff", "no-store", "no-referrer"] {
        assert!(answer.headers.contains(promise), "{promise}: {}", answer.headers);
    }
    let right = format!("Bearer {TOKEN}");
    let authorized = ("Authorization", right.as_str());
    for (headers, body, status) in [
        (vec![], "", 401),
        (vec![("Authorization", "Bearer s3cret-T0kem")], "", 401),
        (vec![authorized, ("Origin", "http://evil.example")], "", 403),
        (vec![authorized], "{\"until\":\"30m\"}", 415),
        (vec![authorized, ("Content-Type", "application/json")], "{\"until\":\"yesterday\"}", 400),
        (vec![authorized, ("Content-Type", "application/json")], "{\"ask\":\"drain\"}", 400),
        (vec![authorized, ("Content-Type", "application/json")], "[]", 400),
        (
            vec![authorized, ("Content-Type", "application/json")],
            &format!("{{\"until\":{:?}}}", "x".repeat(20_000)),
            413,
        ),
    ] {
        let answer = page.post("/api/pause", &headers, body).await;
        assert_eq!(answer.status, status, "{headers:?} {body:.40}: {}", answer.body);
    }
    assert_eq!(page.json("/api/status").await["state"], "running");
    let paused = page.post("/api/pause", &[authorized], "").await;
    assert_eq!(paused.status, 200, "{}", paused.body);
    assert_eq!(page.json("/api/status").await["state"], "paused");
    assert_eq!(page.post("/api/resume", &[authorized], "").await.status, 200);
    assert_eq!(page.json("/api/status").await["state"], "running");
    let open = page.many_listeners(17).await;
    assert_eq!(open.iter().filter(|status| **status == 200).count(), 16, "{open:?}");
    drop(pair);
}

/// A port that is taken ends the worker at its start, with the reason.
#[tokio::test]
async fn a_taken_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let pair = ours().more(&format!("[web]\nlisten = \"{address}\"\n")).build().await;
    let said = run_repl(&pair, &["run"], PATIENCE).await.expect_code(3).stderr;
    assert!(
        said.contains(&format!("could not serve the page on {address}")) && said.contains("[web] listen"),
        "{said}"
    );
}

/// What the page shows is what `/api/status` says; it follows without a reload; keys stay text; without a token nothing can
/// be changed from it.
#[tokio::test]
async fn the_page_shows_the_state_and_follows_it() {
    let (pair, mut worker, page) = running(ours(), None).await;
    put(&pair, "first", 10).await;
    replicated(&page, 1).await;
    let browser = Browser::open(&page.url("/")).await;
    browser.shows("#live[data-live=yes]", "live").await;
    browser.marks("#replicated", "1").await;
    browser.run("window.here = 'still here'").await;
    put(&pair, MARKUP, 2048).await;
    browser.marks("#replicated", "2").await;
    assert_eq!(browser.run("return window.here").await, "still here", "it was not loaded anew");
    let status = page.json("/api/status").await;
    for (place, field) in
        [("#pending", "/pending/operations"), ("#failed", "/failed"), ("#replicated-note", "/replicated/bytes")]
    {
        browser.marks(place, &status.pointer(field).unwrap().to_string()).await;
    }
    let keys = "return [...document.querySelectorAll('#recent .key')].map(each => each.textContent)";
    eventually("the key is listed as it is", PATIENCE, async || {
        browser.run(keys).await.as_array().unwrap().contains(&json!(MARKUP))
    })
    .await;
    let ask =
        "document.querySelector('#why-key').value = arguments[0]; document.querySelector('#why-form').requestSubmit()";
    browser.run_with(ask, MARKUP).await;
    browser.shows("#story", "both sides agree").await;
    assert_eq!(browser.run("return document.querySelectorAll('#recent img, #recent b, #story img').length").await, 0);
    assert_ne!(browser.run("return document.title").await, "owned");
    assert_eq!(browser.run("return document.querySelectorAll('button#pause').length").await, 0);
    browser.shows("#operate", "no token").await;
    let fits = "return document.documentElement.scrollWidth <= innerWidth";
    for (name, width, height) in [("page-wide", 1280, 900), ("page-phone", 390, 844), ("page-narrow", 320, 640)] {
        browser.resize(width, height).await;
        if width < 500 {
            browser.darken().await;
        }
        browser.keep(name).await;
        assert_eq!(browser.run(fits).await, true, "{name} is wider than its window");
    }
    worker.kill().await;
    browser.shows("#live-text", "not live since").await;
    browser.shows("#headline", "Not known").await;
    let mut again = spawn_repl(&pair, &["run"]);
    browser.shows("#live[data-live=yes]", "live").await;
    // What was settled right before a kill may be done again, and then counts as equal: the worker says what it knows.
    let status = page.json("/api/status").await;
    browser.marks("#replicated", &status["replicated"]["operations"].to_string()).await;
    assert_eq!(browser.run("return window.here").await, "still here", "it came back by itself");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    again.terminate(PATIENCE).await.expect_code(0);
}

/// Pausing from the page: refused with a wrong token, done with the right one, and seen without a reload.
#[tokio::test]
async fn the_page_pauses_with_a_token_only() {
    let (_pair, mut worker, page) = running(ours(), Some(TOKEN)).await;
    let browser = Browser::open(&page.url("/")).await;
    browser.shows("#operate", "Pause").await;
    browser.write("#token", "wrong").await;
    browser.press("#pause").await;
    browser.shows("#said", "Not done").await;
    assert_eq!(page.json("/api/status").await["state"], "running");
    browser.write("#token", TOKEN).await;
    browser.press("#pause").await;
    browser.shows("#headline", "Paused").await;
    assert_eq!(page.json("/api/status").await["state"], "paused");
    browser.keep("page-paused").await;
    browser.press("#resume").await;
    eventually("it runs again", PATIENCE, async || page.json("/api/status").await["state"] == "running").await;
    browser.shows("#said", "Resumed").await;
    worker.terminate(PATIENCE).await.expect_code(0);
}
