//! Connections: opened, used for one exchange at a time, and kept for the next.
//!
//! Nothing runs in the background: whoever waits for an answer, or for a piece of its body, moves the connection on. So
//! an exchange costs no task, no wake-up of another thread, and dropping it closes the connection.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::service::Service;
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::body::Outgoing;
use crate::aws::{CONNECT, POOL_IDLE};

/// What hyper reads ahead at most, and with that the largest head that is understood: a megabyte then takes four reads,
/// and a stream stays within the engine's reckoning of one.
const BUFFER: usize = 256 << 10;
/// Headers of one answer where hyper's usual hundred are not enough: S3's own and the most entries of user metadata that
/// are likely within their 2 KB. Not usual, as hyper makes room for all of them on the heap at each answer: 28 KiB.
const HEADERS: usize = 512;
/// Connections kept for the next request: as many as the engine ever uses at once.
const KEPT: usize = 128;

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// An exchange that brought no answer.
pub(super) struct Lost {
    /// What happened.
    pub(super) error: Box<dyn std::error::Error + Send + Sync>,
    /// Whether the connection had been used before: then the server may just have closed it.
    pub(super) reused: bool,
    /// The body, if not a byte of the request was sent.
    pub(super) unsent: Option<Outgoing>,
}

/// One connection.
struct Wire {
    sender: SendRequest<Outgoing>,
    connection: Box<Connection<Stream, Outgoing>>,
    rested: Instant,
}

impl Wire {
    /// Moves bytes; ready when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Pin::new(&mut *self.connection).poll(context)
    }

    /// Whether it is open and has nothing under way. A connection that the server has closed tells so here.
    fn rests(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop())).is_pending() && self.sender.is_ready()
    }
}

/// The connections to one server.
pub(super) struct Pool {
    server: Uri,
    connector: TowerToHyperService<HttpsConnector<HttpConnector>>,
    resting: Mutex<Vec<Wire>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.server)
    }
}

/// Which connection to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// One that rests, if there is one.
    Any,
    /// A new one.
    New,
    /// A new one that takes answers with more headers than usual.
    Roomy,
}

impl Pool {
    /// No connection is opened yet. `None` where the machine has no trusted certificates to read.
    pub(super) fn new(server: Uri) -> Option<Arc<Self>> {
        let connector = TowerToHyperService::new(connector()?);
        Some(Arc::new(Self { server, connector, resting: Mutex::new(Vec::new()) }))
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        choice: Choice,
        request: Request<Outgoing>,
    ) -> Result<Response<Arriving>, Lost> {
        let resting = if choice == Choice::Any { self.take() } else { None };
        let reused = resting.is_some();
        let mut wire = match resting {
            Some(wire) => wire,
            None => match self.open(choice).await {
                Ok(wire) => wire,
                Err(error) => return Err(Lost { error, reused, unsent: Some(request.into_body()) }),
            },
        };
        let Wire { sender, connection, .. } = &mut wire;
        let mut answer = std::pin::pin!(sender.try_send_request(request));
        let mut ended = false;
        let answered = std::future::poll_fn(|context| {
            ended = ended || Pin::new(&mut **connection).poll(context).is_ready();
            match answer.as_mut().poll(context) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending if ended => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        match answered.await {
            Some(Ok(response)) => Ok(response.map(|body| Arriving::new(body, wire, Arc::clone(self)))),
            Some(Err(mut failed)) => {
                let unsent = failed.take_message().map(Request::into_body);
                Err(Lost { error: failed.into_error().into(), reused, unsent })
            }
            None => Err(Lost { error: "the connection was closed".into(), reused, unsent: None }),
        }
    }

    async fn open(&self, choice: Choice) -> Result<Wire, Box<dyn std::error::Error + Send + Sync>> {
        let opening = async {
            let stream = self.connector.call(self.server.clone()).await?;
            let mut builder = Builder::new();
            builder.max_buf_size(BUFFER);
            if choice == Choice::Roomy {
                builder.max_headers(HEADERS);
            }
            Ok(builder.handshake(stream).await?)
        };
        match tokio::time::timeout(CONNECT, opening).await {
            Ok(Ok((sender, connection))) => {
                Ok(Wire { sender, connection: Box::new(connection), rested: Instant::now() })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(format!("no connection within {} ms", CONNECT.as_millis()).into()),
        }
    }

    /// The connection used last: the others may then grow old and go.
    fn take(&self) -> Option<Wire> {
        loop {
            let mut wire = self.resting.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if wire.rested.elapsed() < POOL_IDLE && wire.rests() {
                return Some(wire);
            }
        }
    }

    fn keep(&self, mut wire: Wire) {
        if !wire.rests() {
            return;
        }
        let now = Instant::now();
        wire.rested = now;
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        // They lie in the order in which they came to rest.
        let old = resting.partition_point(|other| now.duration_since(other.rested) >= POOL_IDLE);
        drop(resting.drain(..old));
        if resting.len() < KEPT {
            resting.push(wire);
        }
    }
}

/// One set of trusted roots for the whole process, read when the first bucket is named.
fn connector() -> Option<HttpsConnector<HttpConnector>> {
    static CONNECTOR: OnceLock<Option<HttpsConnector<HttpConnector>>> = OnceLock::new();
    let built = CONNECTOR.get_or_init(|| {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(rustls::crypto::ring::default_provider());
        Some(tls.ok()?.https_or_http().enable_http1().wrap_connector(http))
    });
    built.clone()
}

/// The body of an answer. Read to its end it gives its connection back; dropped before, it closes it.
pub(super) struct Arriving {
    body: Incoming,
    wire: Option<Wire>,
    pool: Arc<Pool>,
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arriving({:?})", self.pool)
    }
}

impl Arriving {
    fn new(body: Incoming, wire: Wire, pool: Arc<Pool>) -> Self {
        let mut arriving = Self { body, wire: Some(wire), pool };
        arriving.rest_at_end();
        arriving
    }

    /// The next piece; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<hyper::Result<Bytes>> {
        loop {
            match std::future::poll_fn(|context| Pin::new(&mut *self).poll_frame(context)).await? {
                Ok(frame) => {
                    if let Ok(piece) = frame.into_data() {
                        return Some(Ok(piece));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn rest_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(wire) = self.wire.take()
        {
            self.pool.keep(wire);
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let mut moved = false;
        loop {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.rest_at_end();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => {
                    this.wire = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    if let Some(wire) = this.wire.take() {
                        this.pool.keep(wire);
                    }
                    return Poll::Ready(None);
                }
                Poll::Pending if moved && this.wire.is_some() => return Poll::Pending,
                Poll::Pending => {
                    let Some(wire) = &mut this.wire else { return Poll::Ready(None) };
                    moved = true;
                    match wire.poll(context) {
                        Poll::Pending => {}
                        // What it still brought, and an end that cuts the body short, come through the body itself.
                        Poll::Ready(Ok(())) => this.wire = None,
                        Poll::Ready(Err(error)) => {
                            this.wire = None;
                            return Poll::Ready(Some(Err(error)));
                        }
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
