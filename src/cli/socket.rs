//! The worker's socket: how other commands ask the process that has the ledger open.
//!
//! One line of JSON is the question (`{"ask":"status"}`), one line the answer. The socket lies beside the ledger, mode
//! 0600 in a directory of mode 0700, and answers its own user and root only.

use std::collections::VecDeque;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::model::words::shown;

use super::status::Report;
use super::worker::Worker;
use super::{Exit, Failure, brake, control, failures, limit, sync, why};

/// The longest question: anything longer is not one of ours.
const LONGEST_QUESTION: u64 = 64 << 10;
/// The longest reason of a refusal, in characters: what was asked may stand in it.
const REASON: usize = 500;
/// How long the worker waits for a caller to ask, and again to read.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a caller waits: most answers take milliseconds, but some look at objects or move many parked jobs.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
/// Callers served at once: each holds a file descriptor and a few KiB.
const CALLERS: usize = 128;
/// After this long without a word a caller's place may be given to another; ours ask as soon as they are connected.
const SILENCE: Duration = Duration::from_millis(500);
/// How often a place is looked for while all are taken.
const LOOK: Duration = Duration::from_millis(5);
/// How often a worker that breaks off is asked.
const TRIES: u32 = 20;
/// The longest path of a unix socket on Linux (`sun_path`, one byte for its end).
const LONGEST_PATH: usize = 107;

/// Where a worker is asked.
#[derive(Debug)]
pub(super) struct Socket {
    listener: StdListener,
    /// The worker's own user.
    owner: u32,
}

fn place(ledger: &Path) -> PathBuf {
    ledger.join("repl.sock")
}

/// Binds the socket of a ledger that this process has open; one left by a killed worker is replaced.
pub(super) fn bind(ledger: &Path) -> Result<Socket, Failure> {
    let path = place(ledger);
    if path.as_os_str().len() > LONGEST_PATH {
        let detail = format!("a socket's path has at most {LONGEST_PATH} bytes: choose a shorter [ledger] path");
        return Err(Failure::usage(format!("could not make the socket {}: {detail}", path.display())));
    }
    remove(ledger);
    let failed =
        |error: std::io::Error| Failure::stopped(format!("could not make the socket {}: {error}", path.display()));
    let listener = StdListener::bind(&path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let owner = std::fs::metadata(&path).map_err(failed)?.uid();
    Ok(Socket { listener, owner })
}

/// Takes the socket away; that it is gone already is no fault.
pub(super) fn remove(ledger: &Path) {
    if let Err(error) = std::fs::remove_file(place(ledger))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "could not remove the old socket");
    }
}

/// The socket at work, on a thread and a runtime of its own: what the worker has to do may keep its threads busy, and
/// who asks how it is going must not stand in that queue.
#[derive(Debug)]
pub(super) struct Serving {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Serving {
    /// Begins to answer.
    pub(super) fn begin(socket: Socket, worker: Arc<Worker>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::stopped(format!("could not serve the socket: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(socket, worker) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("socket".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { stop, thread })
    }

    /// Answers nobody any more; who is being answered is broken off.
    pub(super) async fn end(self) {
        drop(self.stop);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the socket's thread had died: nobody could ask this worker");
        }
    }
}

/// Answers until it is dropped. When all places are taken, callers that say nothing lose theirs.
async fn serve(socket: Socket, worker: Arc<Worker>) {
    let Socket { listener, owner } = socket;
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the socket cannot be served"),
    };
    let mut tasks = JoinSet::new();
    let mut callers = Callers::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while !callers.make_place() {
                    tokio::time::sleep(LOOK).await;
                }
                let has_asked = Arc::new(AtomicBool::new(false));
                let refusal = refuse(&stream, owner);
                let task = tasks.spawn(answer(stream, Arc::clone(&worker), refusal, Arc::clone(&has_asked)));
                callers.0.push_back(Caller { task, came: Instant::now(), has_asked });
            }
            Err(error) => {
                tracing::warn!(%error, "the socket could not be read");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

/// One who called, and is not done.
#[derive(Debug)]
struct Caller {
    task: AbortHandle,
    came: Instant,
    has_asked: Arc<AtomicBool>,
}

/// Who called, the first to come in front.
#[derive(Debug, Default)]
struct Callers(VecDeque<Caller>);

impl Callers {
    /// Whether there is a place, if need be that of one who has said nothing for a while.
    fn make_place(&mut self) -> bool {
        self.0.retain(|caller| !caller.task.is_finished());
        if self.0.len() < CALLERS {
            return true;
        }
        let is_silent = |caller: &Caller| !caller.has_asked.load(Ordering::Relaxed) && caller.came.elapsed() >= SILENCE;
        match self.0.iter().position(is_silent).and_then(|silent| self.0.remove(silent)) {
            Some(caller) => {
                caller.task.abort();
                true
            }
            None => false,
        }
    }
}

async fn answer(stream: UnixStream, worker: Arc<Worker>, refusal: Option<String>, has_asked: Arc<AtomicBool>) {
    let (reading, mut writing) = stream.into_split();
    let reply = match refusal {
        Some(reason) => json!({"error": reason}),
        None => match tokio::time::timeout(PATIENCE, question(reading)).await {
            Ok(Ok(question)) => {
                has_asked.store(true, Ordering::Relaxed);
                reply(&question, &worker).await
            }
            Ok(Err(error)) => return tracing::debug!(%error, "a caller went away"),
            Err(_) => return tracing::debug!("a caller said nothing"),
        },
    };
    match tokio::time::timeout(PATIENCE, writing.write_all(format!("{reply}\n").as_bytes())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a caller went away"),
        Err(_) => tracing::debug!("a caller does not read its answer"),
    }
}

/// Why a caller is not answered: only the worker's own user and root are. The mode of socket and directory keeps others
/// out already; this holds where somebody changed it.
fn refuse(stream: &UnixStream, owner: u32) -> Option<String> {
    match stream.peer_cred() {
        Ok(caller) if caller.uid() == owner || caller.uid() == 0 => None,
        Ok(caller) => Some(format!("the worker answers user {owner} and root, not user {}", caller.uid())),
        Err(error) => Some(format!("the worker could not see who asks: {error}")),
    }
}

/// The first line, or what there is of it.
async fn question(reading: OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut question = Vec::new();
    BufReader::new(reading.take(LONGEST_QUESTION)).read_until(b'\n', &mut question).await?;
    Ok(question)
}

async fn reply(question: &[u8], worker: &Arc<Worker>) -> Value {
    let answer = match serde_json::from_slice::<Value>(question) {
        Ok(question) => answer_to(&question, worker).await,
        Err(_) if question.len() as u64 >= LONGEST_QUESTION => {
            Err(Failure::usage(format!("the question has more than the {LONGEST_QUESTION} bytes that one may have")))
        }
        Err(error) => Err(Failure::usage(format!("the question is not JSON: {error}"))),
    };
    match answer {
        Ok(answer) => json!({"answer": answer}),
        Err(failure) => json!({"error": shown(&failure.to_string(), REASON), "usage": failure.exit == Exit::Usage}),
    }
}

/// What the worker answers, to its socket and to its page.
pub(super) async fn answer_to(question: &Value, worker: &Arc<Worker>) -> Result<Value, Failure> {
    match question.get("ask").and_then(Value::as_str) {
        Some("status") => Report::of_worker(worker).map(Report::value),
        Some("brake") => brake::of_worker(worker),
        Some("brake-release") => brake::release(worker, question).await,
        Some("ping") => Ok(json!({"pid": std::process::id()})),
        Some("sync") => sync::begin(worker, question),
        Some("sync-progress") => sync::progress(worker, question),
        Some("control") => control::answer(worker, question).await,
        Some("failures" | "failures-show" | "failures-retry" | "failures-drop") => {
            failures::answer(worker, question).await
        }
        Some("why") => why::answer(worker, question).await,
        Some("limit") => limit::answer(worker, question).await,
        Some("drain") => {
            worker.drain();
            Ok(json!({"pid": std::process::id()}))
        }
        Some(other) => {
            Err(Failure::usage(format!("the worker does not know the question {other:?}: are both of one version?")))
        }
        None => Err(Failure::usage("the question says nothing under \"ask\"")),
    }
}

/// Asks the worker that has this ledger open; `None` when there is none. A worker that breaks off without a word, as in
/// a crowd of callers or at its end, is asked again: every question may be asked twice.
pub(super) async fn ask(ledger: &Path, question: &Value) -> Result<Option<Value>, Failure> {
    let silent = || Failure::stopped("the worker does not answer on its socket: look at its log");
    for _ in 0..TRIES {
        let stream = match UnixStream::connect(place(ledger)).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let detail = "it belongs to another user; ask as that user";
                return Err(Failure::stopped(format!("could not ask the worker of {}: {detail}", ledger.display())));
            }
            Err(_) => return Ok(None),
        };
        let answer = tokio::time::timeout(ANSWERED_WITHIN, talk(stream, question)).await.map_err(|_| silent())?;
        match answer {
            Ok(answer) if !answer.is_empty() => return understood(&answer).ok_or_else(silent)?.map(Some),
            Ok(_) | Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
    Err(silent())
}

async fn talk(stream: UnixStream, question: &Value) -> std::io::Result<String> {
    let (reading, mut writing) = stream.into_split();
    writing.write_all(format!("{question}\n").as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(reading).read_line(&mut answer).await?;
    Ok(answer)
}

/// What an answer says; `None` where it is none of ours.
fn understood(answer: &str) -> Option<Result<Value, Failure>> {
    let mut answer: Value = serde_json::from_str(answer).ok()?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        let usage = answer.get("usage").and_then(Value::as_bool) == Some(true);
        return Some(Err(if usage { Failure::usage(error) } else { Failure::stopped(error) }));
    }
    answer.get_mut("answer").map(Value::take).map(Ok)
}
