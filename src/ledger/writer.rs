//! The one writer: a thread that turns waiting requests into batches.
//!
//! It takes what is waiting, lets each request change the book, applies the book as one batch, flushes once if any
//! request of the group needs that (group commit), and only then answers. After a failed apply or flush, or a record
//! that cannot be understood, nothing is written any more: what is on disk is no longer known, so nothing may be
//! acknowledged until the process has started again.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::book::{Book, Limits, State, View};
use super::claim::Live;
use super::kv::{Kv, ledger_fault};
use super::names::Names;
use super::words::{Ended, Totals};
use crate::model::fault::Fault;

/// Requests that may wait for the writer; more wait in their callers. Enough for every receiver and worker of one
/// process to have one waiting.
const QUEUE: usize = 256;
/// Weight of the requests taken into one batch: one for each job of an admission and for each other request. sled
/// keeps every page version of a batch in memory until the batch is applied.
const GROUP: usize = 512;

/// Whether a request may be answered before it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Applied is enough: a crash repeats the work.
    Applied,
    /// Only when flushed.
    Flushed,
}

/// Tells a request's caller that the batch is applied. Dropped, it tells that it is not.
type Reply = Box<dyn FnOnce() + Send>;
type Work = Box<dyn FnOnce(&mut Book<'_>) -> Result<Reply, Fault> + Send>;

struct Request {
    durability: Durability,
    weight: usize,
    work: Work,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("durability", &self.durability).field("weight", &self.weight).finish()
    }
}

/// What readers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) kv: Arc<dyn Kv>,
    /// Held for writing while a batch is applied, so that a reader of several entries sees one state.
    image: RwLock<()>,
    names: Arc<RwLock<Names>>,
    totals: Mutex<Totals>,
    /// Why nothing is written any more.
    broken: Mutex<Option<Fault>>,
    /// Jobs that ended without a settlement; `None` while nobody wants to know.
    ended: Mutex<Option<Vec<Ended>>>,
    pub(super) live: Arc<Live>,
    /// Whether an upload was ever noted, as far as this opening knows: most work needs none, and need not look for one.
    pub(super) uploads: AtomicBool,
}

impl Shared {
    /// Reads one state of the ledger.
    pub(super) fn read<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let _image = self.image.read().unwrap_or_else(PoisonError::into_inner);
        read(&View::new(self.kv.as_ref(), &self.names))
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        totals.in_flight = self.live.in_flight();
        totals
    }

    pub(super) fn ended(&self) -> MutexGuard<'_, Option<Vec<Ended>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> Option<Fault> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn break_off(&self, fault: Fault) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
}

/// The writer's handle: dropping it ends the thread, after what was asked before is done and flushed.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer has been printed by its own thread; its callers saw their answers go missing.
            drop(thread.join());
        }
    }
}

/// Reads the state and starts the writer.
pub(super) fn start(kv: Arc<dyn Kv>, limits: Limits) -> Result<Writer, Fault> {
    let (mut writer, desk) = prepare(kv, limits)?;
    let thread = std::thread::Builder::new()
        .name("ledger".to_owned())
        .spawn(move || desk.work())
        .map_err(|error: io::Error| ledger_fault("start the ledger's writer", error.to_string()))?;
    writer.thread = Some(thread);
    Ok(writer)
}

/// Reads the state: the handle and the desk behind it, at which nobody works yet.
pub(super) fn prepare(kv: Arc<dyn Kv>, limits: Limits) -> Result<(Writer, Desk), Fault> {
    let state = State::load(kv.as_ref(), limits)?;
    let shared = Arc::new(Shared {
        kv,
        image: RwLock::new(()),
        names: Arc::clone(&state.names),
        totals: Mutex::new(state.tally.totals.clone()),
        broken: Mutex::new(None),
        ended: Mutex::new(None),
        live: Arc::clone(&state.live),
        uploads: AtomicBool::new(state.uploads),
    });
    let (requests, waiting) = mpsc::channel(QUEUE);
    let desk = Desk { shared: Arc::clone(&shared), state, waiting };
    Ok((Writer { shared, requests: Some(requests), thread: None }, desk))
}

impl Writer {
    /// What readers see.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Has `work` done in the next batch. If dropped, the work may or may not be done; what it took is given back.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        weight: usize,
        work: impl FnOnce(&mut Book<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let gone = || ledger_fault("write the ledger", "its writer has ended; start repl again");
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |book| match work(book) {
            // A caller that went away does not change what was done.
            Ok(done) => Ok(Box::new(move || drop(answer.send(Ok(done))))),
            Err(fault) => {
                drop(answer.send(Err(fault.clone())));
                Err(fault)
            }
        });
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(Request { durability, weight, work }).await.map_err(|_closed| gone())?;
        answered.await.map_err(|_dropped| self.shared.broken().unwrap_or_else(gone))?
    }
}

/// The thread's own.
#[derive(Debug)]
pub(super) struct Desk {
    shared: Arc<Shared>,
    state: State,
    waiting: mpsc::Receiver<Request>,
}

impl Desk {
    fn work(mut self) {
        loop {
            let first = if self.is_idle() { self.waiting.blocking_recv() } else { None };
            if !self.turn(first) {
                break;
            }
        }
        self.close();
    }

    /// The thread's work as a task of the caller's runtime, so that a test has one timeline and nothing beside it.
    #[cfg(test)]
    pub(super) async fn attend(mut self) {
        loop {
            let first = if self.is_idle() { self.waiting.recv().await } else { None };
            if !self.turn(first) {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.close();
    }

    /// Whether there is nothing to do before the next request comes.
    fn is_idle(&self) -> bool {
        self.state.sweeps.is_empty() || self.shared.broken().is_some()
    }

    /// Serves the request that was waited for, with all others that are there; false when nobody can ask any more.
    fn turn(&mut self, first: Option<Request>) -> bool {
        let Some(group) = self.take_group(first) else { return false };
        self.serve(group);
        self.sweep();
        true
    }

    fn close(self) {
        if self.shared.broken().is_none()
            && let Err(fault) = self.shared.kv.flush()
        {
            tracing::debug!(%fault, "last flush of the ledger failed; what was not flushed is done again");
        }
    }

    /// What is there to be served. `None` when nobody can ask any more.
    fn take_group(&mut self, first: Option<Request>) -> Option<Vec<Request>> {
        let mut group = Vec::from_iter(first);
        let mut weight: usize = group.iter().map(|request| request.weight).sum();
        while weight < GROUP {
            match self.waiting.try_recv() {
                Ok(request) => {
                    weight += request.weight;
                    group.push(request);
                }
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) if group.is_empty() => return None,
                Err(mpsc::error::TryRecvError::Disconnected) => break,
            }
        }
        Some(group)
    }

    fn serve(&mut self, group: Vec<Request>) {
        let flushed = group.iter().any(|request| request.durability == Durability::Flushed);
        let durability = if flushed { Durability::Flushed } else { Durability::Applied };
        let mut works = group.into_iter().map(|request| request.work);
        let mut replies: Vec<Reply> = Vec::new();
        let result = self.batch(durability, |book| {
            for work in works.by_ref() {
                replies.push(work(book)?);
            }
            Ok(())
        });
        // With a fault, replies and works are dropped here, after the fault was noted: their callers find it there.
        if result.is_ok() {
            for reply in replies {
                reply();
            }
        }
    }

    /// One batch: all of the work or, with a fault, an end of all writing.
    fn batch<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&mut Book<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if let Some(fault) = self.shared.broken() {
            return Err(fault);
        }
        self.try_batch(durability, work).inspect_err(|fault| {
            tracing::debug!(%fault, "the ledger takes no more writes");
            let detail = format!("it takes no more writes since a fault ({})", fault.detail);
            self.shared.break_off(ledger_fault("write the ledger", detail));
        })
    }

    fn try_batch<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&mut Book<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let shared = Arc::clone(&self.shared);
        let names = Arc::clone(&self.state.names);
        let mut book = Book::new(shared.kv.as_ref(), &names, &mut self.state);
        let done = work(&mut book)?;
        let batch = book.into_batch()?;
        if !batch.is_empty() {
            let _image = shared.image.write().unwrap_or_else(PoisonError::into_inner);
            shared.kv.apply(batch)?;
        }
        if durability == Durability::Flushed {
            shared.kv.flush()?;
        }
        shared.totals.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.state.tally.totals);
        let ended = std::mem::take(&mut self.state.ended);
        if let Some(told) = shared.ended().as_mut() {
            told.extend(ended);
        }
        Ok(done)
    }

    /// Goes on with the first sweep for one batch, so that requests never wait longer than that.
    fn sweep(&mut self) {
        let Some(mut sweep) = self.state.sweeps.pop_front() else { return };
        let more = self.batch(Durability::Applied, |book| book.advance_sweep(&mut sweep));
        match more {
            Ok(true) => self.state.sweeps.push_front(sweep),
            Ok(false) => {
                let flushed = self.batch(Durability::Flushed, |_book| Ok(()));
                sweep.finish(flushed);
            }
            Err(fault) => sweep.finish(Err(fault)),
        }
    }
}
