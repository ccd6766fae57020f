//! A programmable HTTP/1.1 reverse proxy between the binary and a server: it does what a test says to the requests that
//! the test picks, passes all others on as they are, and remembers every one.
//!
//! Bodies are streamed, never held. `Host` and all other headers go through unchanged, so signatures stay valid.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use body::{Altered, Change};

mod body;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One request as it came in, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// The path as sent, still percent-encoded.
    pub(crate) path: String,
    /// Decoded; a parameter without a value has an empty one.
    pub(crate) query: BTreeMap<String, String>,
    /// Names in lower case.
    pub(crate) headers: HeaderMap,
    /// The status answered; `None` while under way or when the connection was broken off.
    pub(crate) status: Option<u16>,
    /// How the body that went to the server began.
    opening: Arc<OnceLock<Bytes>>,
    /// Body bytes that went to the server.
    pub(crate) sent: Arc<AtomicU64>,
    /// Body bytes that came back.
    pub(crate) received: Arc<AtomicU64>,
}

impl Seen {
    fn of(request: &Request<Incoming>) -> Self {
        Self {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: parameters(request.uri().query().unwrap_or_default()),
            headers: request.headers().clone(),
            status: None,
            opening: Arc::default(),
            sent: Arc::default(),
            received: Arc::default(),
        }
    }

    /// The decoded path.
    pub(crate) fn plain_path(&self) -> String {
        percent_decode_str(&self.path).decode_utf8_lossy().into_owned()
    }

    /// What a service that takes forms is asked to do: `Publish`.
    pub(crate) fn action(&self) -> Option<String> {
        let opening = std::str::from_utf8(self.opening.get()?).ok()?;
        Some(opening.strip_prefix("Action=")?.split('&').next()?.to_owned())
    }

    /// Whether the query has this parameter.
    pub(crate) fn asks(&self, parameter: &str) -> bool {
        self.query.contains_key(parameter)
    }

    /// A header's text, empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

/// What the proxy does to a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Passes it on.
    Pass,
    /// Answers by itself; the server never sees the request.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// Passes it on after this long.
    Delay(Duration),
    /// Passes it on with both bodies slowed to this many bytes a second.
    Throttle(u64),
    /// Breaks the request off towards the server after so many body bytes, then the connection.
    CutRequest(u64),
    /// Breaks the response off after so many body bytes.
    CutResponse(u64),
    /// Flips the lowest bit of this byte of the request's body, counted from 0.
    FlipRequest(u64),
    /// Flips the lowest bit of this byte of the response's body, counted from 0.
    FlipResponse(u64),
    /// Lets the server do it all, then breaks the connection off without an answer.
    LoseAnswer,
    /// Breaks the connection off before a byte of the request's body is read; the server never sees the request.
    HangUp,
    /// Not a byte moves any more from this moment on, and the connection stays open.
    Stall(Moment),
    /// Answers with so many bytes of the body and no length before them, and ends as if that were all.
    Shorten(u64, Framing),
    /// Passes it on, and takes away every header of the answer that begins so.
    HideHeaders(&'static str),
    /// Lets the server do it all, then answers something else.
    AnswerAfter { status: u16, body: String },
    /// Keeps documents in the server's place: PUT keeps the body, GET gives it back or answers 404 with this code,
    /// DELETE forgets it.
    Keep(&'static str),
}

/// When a connection falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the server sees the request.
    Before,
    /// After so many bytes of the request's body.
    InRequest(u64),
    /// Once the server has done it all.
    After,
    /// After so many bytes of the response's body.
    InResponse(u64),
}

/// How a body of unknown length tells its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// With a last chunk of no bytes.
    Chunked,
    /// By the end of the connection, as in HTTP/1.0.
    Closed,
}

impl Act {
    /// An S3 error of this status and code.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let headers = vec![("content-type", "application/xml".to_owned())];
        Self::Answer { status, headers, body: error_body(code) }
    }
}

/// The XML of an S3 error.
pub(crate) fn error_body(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>as the test says</Message></Error>"
    )
}

type Condition = dyn Fn(&Seen) -> bool + Send + Sync;
type Weather = dyn FnMut(&Seen) -> Act + Send;

/// Which requests, and what happens to them. Of several rules the first that applies acts.
pub(crate) struct Rule {
    condition: Box<Condition>,
    act: Act,
    skip: u64,
    times: u64,
    matched: u64,
}

impl Rule {
    /// Does this to every request that meets the condition.
    pub(crate) fn when(condition: impl Fn(&Seen) -> bool + Send + Sync + 'static, act: Act) -> Self {
        Self { condition: Box::new(condition), act, skip: 0, times: u64::MAX, matched: 0 }
    }

    /// Leaves the first so many matches alone.
    pub(crate) fn after(mut self, matches: u64) -> Self {
        self.skip = matches;
        self
    }

    /// Acts so often and no more.
    pub(crate) fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    fn claims(&mut self, seen: &Seen) -> bool {
        if !(self.condition)(seen) {
            return false;
        }
        self.matched += 1;
        self.matched > self.skip && self.matched - self.skip <= self.times
    }
}

#[derive(Default)]
struct Book {
    rules: Vec<Rule>,
    /// What happens to requests that no rule claims.
    weather: Option<Box<Weather>>,
    seen: Vec<Seen>,
    crowd: Arc<Crowd>,
    /// By path and query.
    kept: BTreeMap<String, Bytes>,
}

/// How many requests wait for an answer, and how many ever did at once.
#[derive(Debug, Default)]
struct Crowd {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Crowd {
    fn enter(self: &Arc<Self>) -> Waiting {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }
}

/// One of the crowd.
struct Waiting(Arc<Crowd>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The proxy; it runs on a thread of its own and ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1 before the server at this endpoint (`http://host:port`).
    pub(crate) fn before(endpoint: &str) -> Self {
        let upstream = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let book = Arc::new(Mutex::new(Book::default()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("a bound address");
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&book);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = serve(listener, upstream, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, book, stop: Some(stop), thread: Some(thread) }
    }

    /// Where clients connect to.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule behind those that are there.
    pub(crate) fn add(&self, rule: Rule) {
        lock(&self.book).rules.push(rule);
    }

    /// Asks this about every request that no rule claims.
    pub(crate) fn set_weather(&self, weather: impl FnMut(&Seen) -> Act + Send + 'static) {
        lock(&self.book).weather = Some(Box::new(weather));
    }

    /// Forgets all rules and the weather: from now on everything passes.
    pub(crate) fn clear(&self) {
        let mut book = lock(&self.book);
        book.rules.clear();
        book.weather = None;
    }

    /// How many requests waited for an answer at once, at most since this was last asked.
    pub(crate) fn most_at_once(&self) -> usize {
        let crowd = Arc::clone(&lock(&self.book).crowd);
        crowd.most.swap(crowd.now.load(Ordering::Relaxed), Ordering::Relaxed)
    }

    /// Every request so far, in the order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.book).seen.clone()
    }

    /// What is kept under a path that holds this text; `None` where nothing is.
    pub(crate) fn kept(&self, part: &str) -> Option<String> {
        let book = lock(&self.book);
        let (_, body) = book.kept.iter().find(|(place, _)| place.contains(part))?;
        Some(String::from_utf8_lossy(body).into_owned())
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        lock(&self.book).seen.clear();
    }

    /// How many requests so far meet the condition.
    pub(crate) fn count(&self, condition: impl Fn(&Seen) -> bool) -> usize {
        lock(&self.book).seen.iter().filter(|seen| condition(seen)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the proxy's thread panicked");
        }
    }
}

fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, upstream: String, book: Arc<Mutex<Book>>) {
    let mut connections = JoinSet::new();
    let mut abrupt = false;
    loop {
        tokio::select! {
            Ok((socket, _)) = listener.accept() => {
                // Of the connections that are broken off, every other ends with a reset instead of an orderly end.
                abrupt = !abrupt;
                if abrupt {
                    socket.set_zero_linger().expect("a socket that can be reset");
                }
                let (upstream, book) = (upstream.clone(), Arc::clone(&book));
                connections.spawn(async move {
                    let service = service_fn(|request| forward(request, &upstream, &book));
                    let served = hyper::server::conn::http1::Builder::new();
                    // A connection broken off is what many tests ask for.
                    drop(served.serve_connection(TokioIo::new(socket), service).await);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn broken_off(what: &str) -> BoxError {
    format!("{what}, as the test says").into()
}

type Answered = Response<Either<Altered, Full<Bytes>>>;

/// One request through the proxy; an `Err` breaks the client's connection off.
async fn forward(request: Request<Incoming>, upstream: &str, book: &Mutex<Book>) -> Result<Answered, BoxError> {
    let seen = Seen::of(&request);
    let (sent, received, opening) = (Arc::clone(&seen.sent), Arc::clone(&seen.received), Arc::clone(&seen.opening));
    let (act, number, _waiting) = {
        let mut book = lock(book);
        let ruled = book.rules.iter_mut().find_map(|rule| rule.claims(&seen).then(|| rule.act.clone()));
        let act = ruled.or_else(|| book.weather.as_mut().map(|weather| weather(&seen)));
        book.seen.push(seen);
        (act.unwrap_or(Act::Pass), book.seen.len() - 1, book.crowd.enter())
    };
    let (request_change, response_change) = changes(&act);
    let outgoing = request.map(|body| Altered::new(body, request_change, sent).opening(&opening));
    let answered = match act {
        Act::Answer { status, headers, body } => {
            // The client is to have sent its whole request, as with a server that reads before it answers.
            drain(outgoing.into_body()).await?;
            made_up(status, &headers, body)?
        }
        Act::Delay(wait) => {
            tokio::time::sleep(wait).await;
            pass(outgoing, upstream).await?.map(|body| Either::Left(Altered::new(body, response_change, received)))
        }
        Act::LoseAnswer => {
            drain(pass(outgoing, upstream).await?.into_body()).await?;
            return Err(broken_off("the answer is lost"));
        }
        Act::HangUp => return Err(broken_off("nobody listens")),
        Act::Stall(Moment::Before) => std::future::pending().await,
        Act::Stall(Moment::After) => {
            drain(pass(outgoing, upstream).await?.into_body()).await?;
            std::future::pending().await
        }
        Act::Shorten(_, framing) => {
            let mut answer = pass(outgoing, upstream).await?;
            answer.headers_mut().remove(CONTENT_LENGTH);
            answer.headers_mut().remove(TRANSFER_ENCODING);
            *answer.version_mut() = match framing {
                Framing::Chunked => Version::HTTP_11,
                Framing::Closed => Version::HTTP_10,
            };
            answer.map(|body| Either::Left(Altered::new(body, response_change, received)))
        }
        Act::Keep(code) => keep(outgoing, code, book).await?,
        Act::AnswerAfter { status, body } => {
            drain(pass(outgoing, upstream).await?.into_body()).await?;
            made_up(status, &[("content-type", "application/xml".to_owned())], body)?
        }
        Act::HideHeaders(prefix) => {
            let mut answer = pass(outgoing, upstream).await?;
            let hidden: Vec<_> =
                answer.headers().keys().filter(|name| name.as_str().starts_with(prefix)).cloned().collect();
            for name in hidden {
                answer.headers_mut().remove(name);
            }
            answer.map(|body| Either::Left(Altered::new(body, response_change, received)))
        }
        Act::Pass
        | Act::Throttle(_)
        | Act::CutRequest(_)
        | Act::CutResponse(_)
        | Act::FlipRequest(_)
        | Act::FlipResponse(_)
        | Act::Stall(Moment::InRequest(_) | Moment::InResponse(_)) => {
            pass(outgoing, upstream).await?.map(|body| Either::Left(Altered::new(body, response_change, received)))
        }
    };
    if let Some(seen) = lock(book).seen.get_mut(number) {
        seen.status = Some(answered.status().as_u16());
    }
    Ok(answered)
}

/// What an act does to the bodies of request and response.
fn changes(act: &Act) -> (Change, Change) {
    match *act {
        Act::Throttle(rate) => (Change::Slow(rate), Change::Slow(rate)),
        Act::CutRequest(at) => (Change::Cut(at), Change::None),
        Act::CutResponse(at) => (Change::None, Change::Cut(at)),
        Act::FlipRequest(at) => (Change::Flip(at), Change::None),
        Act::FlipResponse(at) => (Change::None, Change::Flip(at)),
        Act::Stall(Moment::InRequest(at)) => (Change::Stall(at), Change::None),
        Act::Stall(Moment::InResponse(at)) => (Change::None, Change::Stall(at)),
        Act::Shorten(at, _) => (Change::None, Change::End(at)),
        Act::Stall(Moment::Before | Moment::After)
        | Act::HangUp
        | Act::Pass
        | Act::Answer { .. }
        | Act::Delay(_)
        | Act::HideHeaders(_)
        | Act::LoseAnswer
        | Act::Keep(_)
        | Act::AnswerAfter { .. } => (Change::None, Change::None),
    }
}

/// Sends a request to the server on a connection of its own.
async fn pass(request: Request<Altered>, upstream: &str) -> Result<Response<Incoming>, BoxError> {
    let socket = TcpStream::connect(upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await?;
    // The connection lives on until the response's body has been read.
    driver.detach_all();
    Ok(response)
}

async fn drain(mut body: impl Body<Data = Bytes, Error = impl Into<BoxError>> + Unpin) -> Result<(), BoxError> {
    while let Some(frame) = body.frame().await {
        frame.map_err(Into::into)?;
    }
    Ok(())
}

async fn keep(request: Request<Altered>, code: &str, book: &Mutex<Book>) -> Result<Answered, BoxError> {
    // The SDK says in the query what it calls the operation.
    let query = request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.starts_with("x-id="));
    let place = format!("{}?{}", request.uri().path(), query.collect::<Vec<_>>().join("&"));
    let method = request.method().clone();
    let body = request.into_body().collect().await?.to_bytes();
    let xml = [("content-type", "application/xml".to_owned())];
    let mut book = lock(book);
    match method.as_str() {
        "PUT" => {
            book.kept.insert(place, body);
            made_up(200, &[], String::new())
        }
        "DELETE" => {
            book.kept.remove(&place);
            made_up(204, &[], String::new())
        }
        _ => match book.kept.get(&place) {
            Some(body) => made_up(200, &xml, String::from_utf8_lossy(body).into_owned()),
            None => made_up(404, &xml, error_body(code)),
        },
    }
}

fn made_up(status: u16, headers: &[(&'static str, String)], body: String) -> Result<Answered, BoxError> {
    let mut response = Response::builder().status(StatusCode::from_u16(status)?);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    Ok(response.body(Either::Right(Full::new(Bytes::from(body))))?)
}

/// A plain server for the proxy's own tests: answers each request with its method, path and body.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let head = format!(
        "{} {} host={}\n",
        request.method(),
        request.uri(),
        request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("-")
    );
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Ok(Response::new(Full::new([head.as_bytes(), &body].concat().into())))
}

/// Starts [`echo`] on a free port; it ends with the test's process.
pub(crate) fn start_echo() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a listener that does not block");
    let address = listener.local_addr().expect("a bound address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(echo));
                connections.spawn(connection);
            }
        });
    });
    format!("http://{address}")
}
