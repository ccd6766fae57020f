//! Bodies in both directions: what a GET delivers, and what a piped PUT sends.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_types::byte_stream::ByteStream as SdkStream;
use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::aws::fault::Site;
use crate::model::fault::{Fault, FaultKind};
use crate::ports::ByteStream;

/// A body that delivers nothing for this long is given up: S3 itself closes a silent connection after some 20 s.
const SILENCE: Duration = Duration::from_secs(60);
/// A piped upload of which the other side takes nothing for this long is given up. Longer than [`SILENCE`], so that
/// a source that has gone silent is named as the culprit, and not the target that waits for it.
const STALL: Duration = Duration::from_secs(90);
/// How long the answer may take once the whole body is handed over.
const ANSWER: Duration = Duration::from_secs(300);

/// Which bytes of a body were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Bytes to drop first: a server that ignored the range sends them.
    pub(super) skip: u64,
    /// Bytes to hand out then.
    pub(super) take: u64,
}

/// The pieces of a GET's body: exactly the window, or a fault.
pub(super) struct Pieces<B> {
    body: B,
    window: Window,
    site: Site,
    silence: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl<B> Pieces<B>
where
    B: Body<Data = Bytes, Error: Display> + Send + Sync + Unpin + 'static,
{
    /// The stream of that window.
    pub(super) fn stream(body: B, window: Window, site: Site) -> ByteStream {
        ByteStream::new(Self { body, window, site, silence: None, ended: window.take == 0 })
    }
}

impl<B> Pieces<B> {
    fn end(&mut self, detail: String) -> Poll<Option<Result<Bytes, Fault>>> {
        self.ended = true;
        Poll::Ready(Some(Err(self.site.fault(FaultKind::Transient, detail))))
    }

    /// Cuts a piece to the window; `None` when nothing of it belongs there.
    fn cut(&mut self, mut piece: Bytes) -> Option<Bytes> {
        let length = piece.len() as u64;
        let skipped = self.window.skip.min(length);
        self.window.skip -= skipped;
        let kept = self.window.take.min(length - skipped);
        self.window.take -= kept;
        self.ended = self.window.take == 0;
        let from = usize::try_from(skipped).ok()?;
        let to = usize::try_from(skipped + kept).ok()?;
        piece.truncate(to);
        let piece = piece.slice(from..);
        (!piece.is_empty()).then_some(piece)
    }
}

impl<B: Body<Data = Bytes, Error: Display> + Unpin> Stream for Pieces<B> {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while !this.ended {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.silence = None;
                    let Ok(piece) = frame.into_data() else { continue };
                    if let Some(piece) = this.cut(piece) {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return this.end(format!("the body broke off: {error}")),
                Poll::Ready(None) => {
                    let missing = this.window.skip.saturating_add(this.window.take);
                    return this.end(format!("the body ended {missing} bytes short of its length"));
                }
                Poll::Pending => {
                    // Armed only while we wait: a reader that is slow itself must not count as a silent sender.
                    let silence = this.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
                    ready!(silence.as_mut().poll(context));
                    return this.end(format!("the body delivered nothing for {} s", SILENCE.as_secs()));
                }
            }
        }
        Poll::Ready(None)
    }
}

/// What a piped upload leaves behind for the one who sent it.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    handed_over: Arc<AtomicU64>,
    failed: Arc<Mutex<Option<Fault>>>,
}

impl Progress {
    fn fail(&self, fault: Fault) -> Broken {
        let text = fault.to_string();
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        Broken(text)
    }

    /// The fault of the body itself, which the HTTP client only knows as "the body failed".
    pub(super) fn fault(&self) -> Option<Fault> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits for `send`, as long as bytes keep moving.
    pub(super) async fn watch<T>(
        &self,
        site: Site,
        length: u64,
        send: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let mut send = std::pin::pin!(send);
        let mut before = 0;
        let mut moved_at = Instant::now();
        loop {
            if let Ok(outcome) = tokio::time::timeout(STALL, &mut send).await {
                return outcome.map_err(|fault| self.fault().unwrap_or(fault));
            }
            let now = self.handed_over.load(Ordering::Relaxed);
            let patience = if now == length { ANSWER } else { STALL };
            if now != before {
                (before, moved_at) = (now, Instant::now());
            } else if moved_at.elapsed() >= patience {
                let waited = moved_at.elapsed().as_secs();
                let detail = format!("nothing moved for {waited} s after {now} of {length} bytes");
                return Err(self.fault().unwrap_or_else(|| site.fault(FaultKind::Transient, detail)));
            }
        }
    }
}

/// Tells the HTTP client to break the request off. The fault itself waits in [`Progress`].
#[derive(Debug)]
pub(super) struct Broken(String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// The body of a piped upload: its length known, its last piece held back until the stream has ended cleanly.
///
/// An HTTP client sends a body of known length and asks no further. An `Err` after the last byte (a checksum that
/// does not agree) would then come too late, and a wrong object would be visible.
pub(super) struct Piped {
    stream: ByteStream,
    length: u64,
    taken: u64,
    last: Option<Bytes>,
    progress: Progress,
    site: Site,
}

impl Piped {
    /// A body of `length` bytes, more than none.
    pub(super) fn new(stream: ByteStream, length: u64, progress: Progress, site: Site) -> Self {
        Self { stream, length, taken: 0, last: None, progress, site }
    }

    fn broken(&self, kind: FaultKind, detail: String) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Poll::Ready(Some(Err(self.progress.fail(self.site.fault(kind, detail)))))
    }

    fn hand_over(&self, piece: Bytes) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.progress.handed_over.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Piped {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        loop {
            match ready!(Pin::new(&mut this.stream).poll_next(context)) {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    this.taken = this.taken.saturating_add(piece.len() as u64);
                    if this.taken > this.length {
                        let detail = format!("the body is longer than the {} bytes announced", this.length);
                        return this.broken(FaultKind::Corrupt, detail);
                    }
                    if this.taken < this.length {
                        return this.hand_over(piece);
                    }
                    this.last = Some(piece);
                }
                Some(Err(fault)) => return Poll::Ready(Some(Err(this.progress.fail(fault)))),
                None => {
                    if let Some(last) = this.last.take() {
                        return this.hand_over(last);
                    }
                    if this.taken == this.length {
                        return Poll::Ready(None);
                    }
                    let detail = format!("the body ended after {} of {} bytes", this.taken, this.length);
                    return this.broken(FaultKind::Transient, detail);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.progress.handed_over.load(Ordering::Relaxed) >= self.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length.saturating_sub(self.progress.handed_over.load(Ordering::Relaxed)))
    }
}

/// The body of a request.
pub(super) enum Outgoing {
    /// From memory, possibly empty.
    Whole(Bytes),
    /// Piped through.
    Piped(Box<Piped>),
}

impl Outgoing {
    /// No body.
    pub(super) fn nothing() -> Self {
        Self::Whole(Bytes::new())
    }

    /// Its length in bytes, before any of it is sent.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Piped(piped) => piped.length,
        }
    }

    /// The same body once more, where it is still there.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Piped(_) => None,
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Piped(piped) => Pin::new(&mut **piped).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Piped(piped) => piped.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Piped(piped) => piped.size_hint(),
        }
    }
}

impl From<Outgoing> for SdkStream {
    fn from(body: Outgoing) -> Self {
        match body {
            Outgoing::Whole(bytes) => Self::from(bytes),
            Outgoing::Piped(piped) => Self::from_body_1_x(*piped),
        }
    }
}

#[cfg(test)]
#[path = "body/tests.rs"]
mod tests;
