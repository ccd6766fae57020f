//! The page in a real browser, and the endpoints beside it, served by the binary against real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use serde_json::{Value, json};
use support::browser::{Answer, Browser};
use support::compare::list;
use support::pair::{Pair, Setup};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::web::{Page, serve_page};
use support::worker::{Worker, eventually, run_repl, spawn_repl, spawn_repl_into};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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

/// Retrying a group and releasing the brake from the page: nothing without the token, nothing that was not meant.
#[tokio::test]
async fn the_page_retries_what_is_parked_and_releases_the_brake() {
    let target = Proxy::before(&Server::Ministack.access().endpoint);
    let setup = Setup { target_endpoint: Some(target.endpoint()), ..ours() }.more("[brake]\ndeletes_per_hour = 3\n");
    target.add(Rule::when(
        |seen| seen.method == "PUT" && seen.plain_path().contains("/denied/"),
        Act::error(403, "AccessDenied"),
    ));
    let (pair, mut worker, page) = running(setup, Some(TOKEN)).await;
    let keys = ["1", "2", "3", "4", "5"];
    for key in keys.iter().chain(&["denied/<b>1</b>"]) {
        put(&pair, key, 100).await;
    }
    replicated(&page, 5).await;
    for key in keys {
        pair.source.s3.delete_object().bucket(&pair.source.name).key(key).send().await.unwrap();
    }
    let browser = Browser::open(&page.url("/")).await;
    browser.shows("#failures", "Brake of target dr").await;
    eventually("two deletes are held", PATIENCE, async || page.json("/api/status").await["brake"]["held"] == 2).await;
    browser.shows("#failures", "2 deletes").await;
    browser.shows("#failures", "denied (AccessDenied) at the target, target dr, rule all").await;
    assert_eq!(browser.run("return document.querySelectorAll('#failures .group b').length").await, 0, "keys stay text");
    let fix = format!("s3:PutObjectLegalHold on arn:aws:s3:::{}/*", pair.target.name);
    let told = browser.run("return document.querySelector('#failures .fix').textContent").await;
    assert!(told.as_str().unwrap().contains(&fix), "{told}");
    browser.shows("#because", "It waits until its cause is mended, see below. 2 deletes are held.").await;
    for (name, width, height) in [("page-failures", 1280, 2200), ("page-failures-phone", 390, 4200)] {
        browser.resize(width, height).await;
        browser.keep(name).await;
    }
    browser.resize(1280, 900).await;

    let group = page.json("/api/failures").await["groups"][0]["id"].to_string();
    let retry = format!("button[aria-label='Try group {group} again now']");
    browser.press(&retry).await;
    browser.shows("#said", "This needs the token of [web]").await;
    browser.write("#token", TOKEN).await;
    target.clear();
    browser.press(&retry).await;
    browser.shows("#said", &format!("1 object of group {group} tried again now.")).await;
    replicated(&page, 6).await;
    eventually("nothing is parked", PATIENCE, async || page.json("/api/status").await["failed"] == 0).await;

    let release = "button[aria-label='Release the brake of dr']";
    browser.press(release).await;
    browser.confirm(Answer::No).await;
    assert_eq!(page.json("/api/status").await["brake"]["held"], 2, "what was not meant was done");
    browser.press(release).await;
    browser.confirm(Answer::Yes).await;
    browser.shows("#said", "2 deletes let go.").await;
    eventually("all deletes arrive", PATIENCE, async || {
        let status = page.json("/api/status").await;
        status["brake"]["state"] == "free" && status["pending"]["operations"] == 0
    })
    .await;
    let seen = list(&pair.target).await;
    assert_eq!(keys.map(|key| seen.iter().filter(|one| one.key == key && one.marker).count()), [1; 5]);
    browser.shows("#failures", "Nothing is parked").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// P10: so many callers at once and no more. Who asks nothing, or reads nothing of what was asked for, is dropped, and then
/// whoever waited is answered; replication does not notice any of it.
#[tokio::test]
async fn callers_are_bounded_and_who_stalls_is_dropped() {
    const PLACES: usize = 64;
    const STALLED: usize = 8;
    const ASKED: usize = 1000;
    let (pair, mut worker, page) = running(ours(), None).await;
    eventually("nobody asks", PATIENCE, async || page.callers() <= 1).await;
    let mut callers = Vec::new();
    for number in 0..PLACES + 16 {
        let mut caller = page.connect().await;
        if number < STALLED {
            let request = format!("GET /style.css HTTP/1.1\r\nHost: {}\r\n\r\n", caller.peer_addr().unwrap());
            // What the worker does not read any more cannot be said either.
            let asked = request.repeat(ASKED);
            drop(tokio::time::timeout(Duration::from_secs(1), caller.write_all(asked.as_bytes())).await);
        }
        callers.push(caller);
    }
    eventually("all places are taken", PATIENCE, async || page.callers() == PLACES).await;
    put(&pair, "meanwhile", 10).await;
    eventually("it arrives", PATIENCE, async || list(&pair.target).await.len() == 1).await;
    assert_eq!(page.callers(), PLACES);
    // All who hold the places are dropped in time, and then those are answered who wait behind them.
    let answer = page.get("/healthz", &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let length = page.get("/style.css", &[]).await.body.len();
    callers.truncate(PLACES);
    eventually("all who stalled are dropped", PATIENCE, async || page.callers() <= 1).await;
    for (number, mut caller) in callers.into_iter().enumerate() {
        let mut left = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, caller.read_to_end(&mut left)).await;
        assert!(ended.is_ok(), "caller {number} is held still");
        let whole = if number < STALLED { length * ASKED / 2 } else { 1000 };
        assert!(left.len() < whole, "caller {number} was sent {} bytes", left.len());
    }
    worker.terminate(PATIENCE).await.expect_code(0);
}

/// The check of this name in what `/healthz` or `/readyz` answers with this status.
async fn checked(page: &Page, (path, status): (&str, u16), name: &str) -> Option<Value> {
    let answer = page.get(path, &[]).await;
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(told["ok"], answer.status == 200, "{told}");
    let checks = told["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap().clone();
    (answer.status == status).then_some(check)
}

/// A worker that lives and takes no work says so to whoever distributes it: the queue is gone, or it drains.
#[tokio::test]
async fn a_worker_that_takes_no_work_is_not_ready_but_healthy() {
    let target = Proxy::before(&Server::Ministack.access().endpoint);
    let setup = Setup { target_endpoint: Some(target.endpoint()), ..ours() };
    let (pair, mut worker, page) = running(setup, None).await;
    eventually("it is ready", PATIENCE, async || page.get("/readyz", &[]).await.status == 200).await;
    run_repl_beside(&pair, &["pause"]).await;
    assert_eq!(page.get("/readyz", &[]).await.status, 200, "paused is what an operator wants");
    run_repl_beside(&pair, &["resume"]).await;

    let slow = |seen: &Seen| seen.method == "PUT" && seen.path.ends_with("/slow");
    target.add(Rule::when(slow, Act::Delay(Duration::from_secs(600))));
    put(&pair, "slow", 10).await;
    eventually("it is under way", PATIENCE, async || target.count(slow) > 0).await;
    pair.sqs.delete_queue().queue_url(&pair.queue_url).send().await.unwrap();
    let mut queue = None;
    eventually("it is not ready", PATIENCE, async || {
        queue = checked(&page, ("/readyz", 503), "queue").await;
        queue.is_some()
    })
    .await;
    let reason = queue.unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("at the queue: ") && reason.contains("NonExistentQueue"), "{reason}");
    assert_eq!(page.get("/healthz", &[]).await.status, 200);

    let said = ["drain.out", "drain.err"].map(|name| pair.directory.path().join(name));
    let _draining = spawn_repl_into(&pair, &["drain"], said);
    eventually("it drains", PATIENCE, async || {
        checked(&page, ("/readyz", 503), "worker")
            .await
            .is_some_and(|check| check["reason"] == "the worker is draining: it takes nothing new")
    })
    .await;
    assert_eq!(page.get("/healthz", &[]).await.status, 200);
    worker.kill().await;
}

async fn run_repl_beside(pair: &Pair, args: &[&str]) {
    let said = ["beside.out", "beside.err"].map(|name| pair.directory.path().join(name));
    spawn_repl_into(pair, args, said).end(PATIENCE).await.expect_code(0);
}
