//! What there is under which path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refusal, RefusalFault, Site, Worker, guard, live, page};
use crate::model::fault::Fault;
use crate::model::words::shown;
use crate::ports::Clock;
use crate::watch::figures::{FRESH, Intake};
use crate::watch::prometheus;

/// The longest body of a request.
const LONGEST_BODY: usize = 16 << 10;
/// The longest reason of a refusal, in characters: what was asked may stand in it.
const SENTENCE: usize = 500;
/// How long an answer may take: a release of many parked jobs takes longest, and goes on by itself.
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);
/// How long the ledger may take to say that it can be written.
const LEDGER_WITHIN: Duration = Duration::from_secs(5);

type Here<W, C> = State<Arc<Site<W, C>>>;

/// All paths, for connections that come in at `here`.
pub(super) fn routes<W: Worker, C: Clock>(site: Arc<Site<W, C>>, here: SocketAddr) -> Router {
    let changing = Router::new()
        .route("/api/pause", post(pause::<W, C>))
        .route("/api/resume", post(resume::<W, C>))
        .route("/api/failures/retry", post(retry::<W, C>))
        .route("/api/brake/release", post(release_brake::<W, C>))
        .route_layer(from_fn_with_state(Arc::clone(&site), authorized::<W, C>));
    let reading = Router::new()
        .route("/", get(page::index))
        .route("/style.css", get(page::style))
        .route("/app.js", get(page::app))
        .route("/charts.js", get(page::charts))
        .route("/panels.js", get(page::panels))
        .route("/format.js", get(page::format))
        .route("/icon.svg", get(page::icon))
        .route("/metrics", get(metrics::<W, C>))
        .route("/healthz", get(health::<W, C>))
        .route("/readyz", get(readiness::<W, C>))
        .route("/api/status", get(status::<W, C>))
        .route("/api/setup", get(setup::<W, C>))
        .route("/api/history", get(history::<W, C>))
        .route("/api/recent", get(recent::<W, C>))
        .route("/api/failures", get(failures::<W, C>))
        .route("/api/why", get(why::<W, C>))
        .route("/api/events", get(events::<W, C>));
    let guarded = Arc::clone(&site);
    reading
        .merge(changing)
        .method_not_allowed_fallback(async || denied(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method"))
        .fallback(async || denied(StatusCode::NOT_FOUND, "there is nothing under this path: / is the page"))
        .with_state(site)
        .layer(from_fn(move |request: Request, next: Next| {
            let site = Arc::clone(&guarded);
            async move { answer(&site, here, request, next).await }
        }))
}

/// Around every answer: who asks, how long it may take, and what every answer says to a browser.
async fn answer<W: Worker, C: Clock>(site: &Site<W, C>, here: SocketAddr, request: Request, next: Next) -> Response {
    let asked = (request.method(), request.uri());
    let mut response = match guard::admit(asked, request.headers(), here, &site.settings.hosts) {
        Err((status, sentence)) => denied(status, &sentence),
        Ok(()) => tokio::time::timeout(ANSWERED_WITHIN, next.run(request))
            .await
            .unwrap_or_else(|_| denied(StatusCode::GATEWAY_TIMEOUT, "the answer took too long; ask again")),
    };
    guard::secure(response.headers_mut());
    response
}

/// Before every change: the token.
async fn authorized<W: Worker, C: Clock>(State(site): Here<W, C>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    match guard::authorize(request.headers(), site.settings.token.as_ref()) {
        Ok(()) => next.run(request).await,
        Err((status, sentence)) => {
            tracing::warn!(path = request.uri().path(), sentence, "a change was refused");
            let mut response = denied(status, &sentence);
            if status == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

fn denied(status: StatusCode, sentence: &str) -> Response {
    (status, Json(json!({"error": shown(sentence, SENTENCE)}))).into_response()
}

fn told(answer: Result<Value, Refusal>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(Refusal { fault: RefusalFault::Question, sentence }) => denied(StatusCode::BAD_REQUEST, &sentence),
        Err(Refusal { fault: RefusalFault::Worker, sentence }) => denied(StatusCode::SERVICE_UNAVAILABLE, &sentence),
    }
}

fn read(answer: Result<Value, Fault>) -> Response {
    told(answer.map_err(|fault| Refusal { fault: RefusalFault::Worker, sentence: fault.to_string() }))
}

// Reading --------------------------------------------------------------------------------------------------------------

async fn metrics<W: Worker, C: Clock>(State(site): Here<W, C>) -> Response {
    match site.figures() {
        Ok(figures) => {
            let text = prometheus::text(&figures, &site.settings.figures);
            ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response()
        }
        Err(fault) => denied(StatusCode::SERVICE_UNAVAILABLE, &fault.to_string()),
    }
}

async fn status<W: Worker, C: Clock>(State(site): Here<W, C>) -> Response {
    told(site.worker.answer(json!({"ask": "status"})).await)
}

async fn setup<W: Worker, C: Clock>(State(site): Here<W, C>) -> Response {
    let mut setup = site.settings.setup.clone();
    if let Some(fields) = setup.as_object_mut() {
        fields.insert("writable".to_owned(), json!(site.settings.token.is_some()));
    }
    Json(setup).into_response()
}

async fn history<W: Worker, C: Clock>(State(site): Here<W, C>) -> Response {
    read(site.history())
}

async fn recent<W: Worker, C: Clock>(State(site): Here<W, C>) -> Response {
    read(site.recent())
}

async fn failures<W: Worker, C: Clock>(State(site): Here<W, C>) -> Response {
    told(site.worker.answer(json!({"ask": "failures"})).await)
}

#[derive(Debug, Deserialize)]
struct Asked {
    key: Option<String>,
    version: Option<String>,
}

async fn why<W: Worker, C: Clock>(State(site): Here<W, C>, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let Ok(Query(Asked { key: Some(key), version })) = asked else {
        return denied(
            StatusCode::BAD_REQUEST,
            "name the source key: /api/why?key=KEY, and &version=ID if one is meant",
        );
    };
    let version = version.filter(|version| !version.is_empty());
    match site.stories.try_acquire() {
        Ok(_place) => told(site.worker.answer(json!({"ask": "why", "key": key, "version": version})).await),
        Err(_) => {
            denied(StatusCode::SERVICE_UNAVAILABLE, "several stories are being told already; ask again in a moment")
        }
    }
}

async fn events<W: Worker, C: Clock>(State(site): Here<W, C>) -> Response {
    let full = || denied(StatusCode::SERVICE_UNAVAILABLE, "as many listen already as may; ask /api/status instead");
    live::listen(site).unwrap_or_else(full)
}

// Health ---------------------------------------------------------------------------------------------------------------

/// One thing that has to be so, and why it is not.
fn check(name: &str, reason: Option<String>) -> Value {
    json!({"name": name, "ok": reason.is_none(), "reason": reason})
}

/// `200` where all checks hold, `503` where one does not; the body says which and why.
fn verdict(checks: Vec<Value>) -> Response {
    let ok = checks.iter().all(|check| check.get("ok") == Some(&Value::Bool(true)));
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ok": ok, "checks": checks}))).into_response()
}

async fn ledger_check<W: Worker, C: Clock>(site: &Site<W, C>) -> Value {
    let reason = match tokio::time::timeout(LEDGER_WITHIN, site.ledger.flush()).await {
        Ok(Ok(())) => None,
        Ok(Err(fault)) => Some(fault.to_string()),
        Err(_) => {
            Some(format!("the ledger could not be flushed within {} s: look at the disk", LEDGER_WITHIN.as_secs()))
        }
    };
    check("ledger", reason)
}

/// The process lives, and its ledger can be written.
async fn health<W: Worker, C: Clock>(State(site): Here<W, C>) -> Response {
    verdict(vec![ledger_check(&site).await])
}

/// It also takes work: it is not draining, and the queue was read within the last minute, unless there is none or an
/// operator has paused the worker.
async fn readiness<W: Worker, C: Clock>(State(site): Here<W, C>) -> Response {
    let ledger = ledger_check(&site).await;
    let (state, intake) = match site.worker.answer(json!({"ask": "status"})).await {
        Err(refusal) => (Some(refusal.sentence), Some("not known".to_owned())),
        Ok(status) => match status.get("state").and_then(Value::as_str) {
            Some("running") => (None, unread(&site)),
            Some("paused") => (None, None),
            other => {
                (Some(format!("the worker is {}: it takes nothing new", other.unwrap_or("in no known state"))), None)
            }
        },
    };
    verdict(vec![ledger, check("worker", state), check("queue", intake)])
}

/// Why the queue does not count as read.
fn unread<W: Worker, C: Clock>(site: &Site<W, C>) -> Option<String> {
    if site.settings.figures.queue == Intake::Scans {
        return None;
    }
    let (queue, now) = (site.pulse.snapshot().queue, site.clock.now());
    if let Some(fault) = &queue.fault {
        return Some(fault.to_string());
    }
    match queue.reached {
        None => Some("the queue has not been reached yet".to_owned()),
        Some(reached) if now.since(reached) > FRESH => {
            Some(format!("the queue was last reached at {}, more than {} s ago", reached.rfc3339(), FRESH.as_secs()))
        }
        Some(_) => None,
    }
}

// Changing -------------------------------------------------------------------------------------------------------------

/// The JSON object of a body; an empty body is an empty object.
async fn body(headers: &HeaderMap, body: Body) -> Result<Value, guard::Denied> {
    let too_long =
        |_| (StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {LONGEST_BODY} bytes, or broke off"));
    let bytes = to_bytes(body, LONGEST_BODY).await.map_err(too_long)?;
    if bytes.is_empty() {
        return Ok(json!({}));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body has to be application/json".to_owned()));
    }
    let value = serde_json::from_slice::<Value>(&bytes);
    value.ok().filter(Value::is_object).ok_or((StatusCode::BAD_REQUEST, "the body is not a JSON object".to_owned()))
}

/// Has the worker do what a body asks for, under `ask` and with the fields that it knows; others are refused.
async fn change<W: Worker, C: Clock>(
    site: &Site<W, C>,
    request: Request,
    mut question: Value,
    known: &[&str],
) -> Response {
    let (parts, text) = request.into_parts();
    let asked = match body(&parts.headers, text).await {
        Ok(asked) => asked,
        Err((status, sentence)) => return denied(status, &sentence),
    };
    if let (Value::Object(asked), Some(fields)) = (asked, question.as_object_mut()) {
        for (name, value) in asked {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
                return denied(StatusCode::BAD_REQUEST, &format!("{name:?} says nothing here; known is {known}"));
            }
            fields.insert(name, value);
        }
    }
    told(site.worker.answer(question).await)
}

async fn pause<W: Worker, C: Clock>(State(site): Here<W, C>, request: Request) -> Response {
    change(&site, request, json!({"ask": "control", "paused": true}), &["until"]).await
}

async fn resume<W: Worker, C: Clock>(State(site): Here<W, C>, request: Request) -> Response {
    change(&site, request, json!({"ask": "control", "paused": false}), &[]).await
}

async fn retry<W: Worker, C: Clock>(State(site): Here<W, C>, request: Request) -> Response {
    let known = ["group", "key", "prefix", "message", "messages", "all"];
    change(&site, request, json!({"ask": "failures-retry"}), &known).await
}

async fn release_brake<W: Worker, C: Clock>(State(site): Here<W, C>, request: Request) -> Response {
    change(&site, request, json!({"ask": "brake-release"}), &["target"]).await
}
