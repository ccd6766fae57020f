//! The socket: who is let in, how many at once, for how long.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::{Site, Worker, routes};
use crate::ports::Clock;

/// Connections at once: each holds a file descriptor and some ten KiB.
const CONNECTIONS: usize = 64;
/// How long a caller may take to say what it wants, or to say something again.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a caller may read nothing of what it is sent; the kernel's own buffers come on top.
const STALLED: Duration = Duration::from_secs(15);
/// The most bytes of a request's head.
const LONGEST_HEAD: usize = 16 << 10;
/// The most headers of a request: browsers send some twenty.
const MOST_HEADERS: usize = 64;
/// After a connection could not be taken, as when file descriptors run out.
const BREATH: Duration = Duration::from_millis(100);

/// A bound port.
#[derive(Debug)]
pub struct Listener(TcpListener);

/// Binds the port.
///
/// # Errors
/// The system's, such as that the port is in use.
pub async fn bind(address: SocketAddr) -> io::Result<Listener> {
    TcpListener::bind(address).await.map(Listener)
}

impl Listener {
    /// Where it listens: the port that the system chose where 0 was asked for.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves until it is dropped, and then breaks off all answers.
    pub async fn serve<W: Worker, C: Clock>(self, site: Arc<Site<W, C>>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match self.0.accept().await {
                Ok((stream, _)) => {
                    let site = Arc::clone(&site);
                    connections.spawn(async move {
                        converse(stream, site).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the page could not be asked for");
                    tokio::time::sleep(BREATH).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn converse<W: Worker, C: Clock>(stream: TcpStream, site: Arc<Site<W, C>>) {
    let Ok(here) = stream.local_addr() else { return };
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALLED));
    let service = TowerToHyperService::new(routes::routes(site, here));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a caller of the page went away or said nothing that can be understood");
    }
}
