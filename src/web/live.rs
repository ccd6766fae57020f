//! The live stream of server-sent events: the status each second, one look for all listeners.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Site, Worker};
use crate::ports::Clock;

/// Listeners at once; each holds a connection.
const LISTENERS: usize = 16;
/// How often the status is told.
const EVERY: Duration = Duration::from_secs(1);
/// A look this young is told again instead of looking anew.
const SHARED: Duration = Duration::from_millis(900);
/// After this long without an event a comment shows that the line holds.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What the listeners share.
#[derive(Debug)]
pub(super) struct Live {
    places: Arc<Semaphore>,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(LISTENERS)), last: Mutex::default() }
    }
}

/// A listener's place, and when it is told next.
struct Listening<W, C> {
    site: Arc<Site<W, C>>,
    next: Instant,
    _place: OwnedSemaphorePermit,
}

/// The stream for one more listener; `None` when all places are taken.
pub(super) fn listen<W: Worker, C: Clock>(site: Arc<Site<W, C>>) -> Option<Response> {
    let place = Arc::clone(&site.live.places).try_acquire_owned().ok()?;
    let listening = Listening { site, next: Instant::now(), _place: place };
    let events = stream::unfold(listening, |mut listening| async move {
        tokio::time::sleep_until(listening.next).await;
        // A listener that reads slowly is told the newest, not what it has missed: so nothing piles up.
        listening.next = Instant::now() + EVERY;
        let event = listening.site.current().await;
        Some((Ok::<Event, Infallible>(event), listening))
    });
    let comments = KeepAlive::new().interval(HEARTBEAT).text("still here");
    Some(Sse::new(events).keep_alive(comments).into_response())
}

impl<W: Worker, C: Clock> Site<W, C> {
    /// The status of this second as an event: `status`, or `fault` where it cannot be told.
    async fn current(&self) -> Event {
        let mut last = self.live.last.lock().await;
        if let Some((_, text)) = last.as_ref().filter(|(taken, _)| taken.elapsed() < SHARED) {
            return Event::default().event("status").data(text);
        }
        match self.worker.answer(json!({"ask": "status"})).await {
            Ok(status) => {
                let text: Arc<str> = status.to_string().into();
                *last = Some((Instant::now(), Arc::clone(&text)));
                Event::default().event("status").data(text)
            }
            Err(refusal) => Event::default().event("fault").data(json!({"error": refusal.sentence}).to_string()),
        }
    }
}
