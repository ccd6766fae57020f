//! A programmable HTTP/1.1 reverse proxy between the binary and a server: it does what a test says to the requests that
//! the test picks, passes all others on as they are, and remembers every one.
//!
//! Bodies are streamed, never held. `Host` and all other headers go through unchanged, so signatures stay valid.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a cut body waits before it breaks off, so that the bytes before the cut have left.
const BEFORE_THE_CUT: Duration = Duration::from_millis(30);

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
    /// Passes it on, and takes away every header of the answer that begins so.
    HideHeaders(&'static str),
    /// Lets the server do it all, then answers something else.
    AnswerAfter { status: u16, body: String },
    /// Keeps documents in the server's place: PUT keeps the body, GET gives it back or answers 404 with this code,
    /// DELETE forgets it.
    Keep(&'static str),
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
    seen: Vec<Seen>,
    /// By path and query.
    kept: BTreeMap<String, Bytes>,
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

    /// Forgets all rules: from now on everything passes.
    pub(crate) fn clear(&self) {
        lock(&self.book).rules.clear();
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
    loop {
        tokio::select! {
            Ok((socket, _)) = listener.accept() => {
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

type Answered = Response<Either<Altered, Full<Bytes>>>;

/// One request through the proxy; an `Err` breaks the client's connection off.
async fn forward(request: Request<Incoming>, upstream: &str, book: &Mutex<Book>) -> Result<Answered, BoxError> {
    let seen = Seen::of(&request);
    let (sent, received, opening) =
        (Arc::clone(&seen.sent), Arc::clone(&seen.received), Some(Arc::clone(&seen.opening)));
    let (act, number) = {
        let mut book = lock(book);
        let act = book.rules.iter_mut().find_map(|rule| rule.claims(&seen).then(|| rule.act.clone()));
        book.seen.push(seen);
        (act.unwrap_or(Act::Pass), book.seen.len() - 1)
    };
    let (request_change, response_change) = changes(&act);
    let outgoing = request.map(|body| Altered { opening, ..Altered::new(body, request_change, sent) });
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
            return Err("the answer is lost, as the test says".into());
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
        | Act::FlipResponse(_) => {
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
        Act::Pass
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

/// What happens to a body on its way.
#[derive(Clone, Copy, Debug)]
enum Change {
    None,
    /// Breaks off after so many bytes.
    Cut(u64),
    /// Flips the lowest bit of this byte.
    Flip(u64),
    /// Bytes a second.
    Slow(u64),
}

/// A body that is changed while it streams.
struct Altered {
    inner: Incoming,
    change: Change,
    done: u64,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
    /// What a slowed body has read and not passed on yet.
    held: Bytes,
    /// What leaves as soon as the wait is over.
    due: Option<Bytes>,
    counter: Arc<AtomicU64>,
    opening: Option<Arc<OnceLock<Bytes>>>,
    broken: bool,
}

/// As much of a body's beginning is kept.
const OPENING: usize = 64;

impl Altered {
    fn new(inner: Incoming, change: Change, counter: Arc<AtomicU64>) -> Self {
        Self {
            inner,
            change,
            done: 0,
            wait: None,
            held: Bytes::new(),
            due: None,
            counter,
            opening: None,
            broken: false,
        }
    }

    /// The piece as it goes on.
    fn alter(&mut self, piece: Bytes) -> Bytes {
        if let Some(opening) = self.opening.take() {
            opening.get_or_init(|| Bytes::copy_from_slice(&piece[..piece.len().min(OPENING)]));
        }
        let start = self.done;
        let length = piece.len() as u64;
        self.done += length;
        match self.change {
            Change::None => piece,
            Change::Cut(at) if self.done > at => {
                self.broken = true;
                self.wait = Some(Box::pin(tokio::time::sleep(BEFORE_THE_CUT)));
                piece.slice(..usize::try_from(at - start).expect("a piece fits in memory"))
            }
            Change::Cut(_) => piece,
            Change::Flip(at) if (start..self.done).contains(&at) => {
                let mut bytes = piece.to_vec();
                bytes[usize::try_from(at - start).expect("a piece fits in memory")] ^= 1;
                Bytes::from(bytes)
            }
            Change::Flip(_) => piece,
            Change::Slow(rate) => {
                self.held = piece;
                self.charge(rate);
                Bytes::new()
            }
        }
    }

    /// Makes the next twentieth of a second's bytes wait for their time.
    fn charge(&mut self, rate: u64) {
        let most = usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1);
        let next = self.held.split_to(most.min(self.held.len()));
        let pause = Duration::from_micros(next.len() as u64 * 1_000_000 / rate.max(1));
        self.wait = Some(Box::pin(tokio::time::sleep(pause)));
        self.due = Some(next);
    }
}

impl Body for Altered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        if let Some(due) = self.due.take() {
            if let (Change::Slow(rate), false) = (self.change, self.held.is_empty()) {
                self.charge(rate);
            }
            self.counter.fetch_add(due.len() as u64, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(due))));
        }
        if self.broken {
            return Poll::Ready(Some(Err("cut, as the test says".into())));
        }
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(broken)) => return Poll::Ready(Some(Err(broken.into()))),
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_data() {
            Err(trailers) => trailers,
            Ok(piece) => {
                let piece = self.alter(piece);
                if self.due.is_some() {
                    return self.poll_frame(context);
                }
                self.counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Frame::data(piece)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        // A cut that falls on the very end must still be noticed by whoever reads.
        !self.broken && self.due.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
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
