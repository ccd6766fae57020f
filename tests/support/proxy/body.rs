//! Bodies on their way through the proxy, and what happens to them.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::BoxError;

/// How long a cut body waits before it breaks off, so that the bytes before the cut have left.
const BEFORE_THE_CUT: Duration = Duration::from_millis(30);

/// What happens to a body on its way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    None,
    /// Breaks off after so many bytes.
    Cut(u64),
    /// Flips the lowest bit of this byte.
    Flip(u64),
    /// Bytes a second.
    Slow(u64),
    /// Nothing moves after so many bytes.
    Stall(u64),
    /// Ends after so many bytes, as if that were all.
    End(u64),
}

/// A body that is changed while it streams.
pub(super) struct Altered {
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
    stalled: bool,
    ended: bool,
}

/// As much of a body's beginning is kept.
const OPENING: usize = 64;

impl Altered {
    pub(super) fn new(inner: Incoming, change: Change, counter: Arc<AtomicU64>) -> Self {
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
            stalled: false,
            ended: false,
        }
    }

    /// Keeps here how the body begins.
    pub(super) fn opening(self, kept: &Arc<OnceLock<Bytes>>) -> Self {
        Self { opening: Some(Arc::clone(kept)), ..self }
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
                up_to(&piece, at - start)
            }
            Change::Stall(at) if self.done > at => {
                self.stalled = true;
                up_to(&piece, at - start)
            }
            Change::End(at) if self.done > at => {
                self.ended = true;
                up_to(&piece, at - start)
            }
            Change::Cut(_) | Change::Stall(_) | Change::End(_) => piece,
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

fn up_to(piece: &Bytes, length: u64) -> Bytes {
    piece.slice(..usize::try_from(length).expect("a piece fits in memory"))
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
        if self.stalled {
            // Nobody is ever woken for what does not come.
            return Poll::Pending;
        }
        if self.ended {
            return Poll::Ready(None);
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
        !self.broken && !self.stalled && self.due.is_none() && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if matches!(self.change, Change::End(_)) { SizeHint::default() } else { self.inner.size_hint() }
    }
}
