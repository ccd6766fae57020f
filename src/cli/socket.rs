//! The worker's socket: how other commands ask the process that has the ledger open.
//!
//! One line of JSON is the question (`{"ask":"status"}`), one line the answer. The socket lies beside the ledger, mode
//! 0600 in a directory of mode 0700.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::ledger::Ledger;
use crate::model::fault::FaultKind;

use super::status::Report;
use super::worker::Worker;
use super::{Failure, brake, sync};

/// The longest question: anything longer is not one of ours.
const LONGEST_QUESTION: u64 = 64 << 10;
/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);
/// Callers served at once.
const CALLERS: usize = 16;
/// The longest path of a unix socket on Linux (`sun_path`, one byte for its end).
const LONGEST_PATH: usize = 107;

fn place(ledger: &Path) -> PathBuf {
    ledger.join("repl.sock")
}

/// Binds the socket of a ledger that this process has open; one left by a killed worker is replaced.
pub(super) fn bind(ledger: &Path) -> Result<UnixListener, Failure> {
    let path = place(ledger);
    if path.as_os_str().len() > LONGEST_PATH {
        let detail = format!("a socket's path has at most {LONGEST_PATH} bytes: choose a shorter [ledger] path");
        return Err(Failure::usage(format!("could not make the socket {}: {detail}", path.display())));
    }
    remove(ledger);
    let failed =
        |error: std::io::Error| Failure::stopped(format!("could not make the socket {}: {error}", path.display()));
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Takes the socket away; that it is gone already is no fault.
pub(super) fn remove(ledger: &Path) {
    if let Err(error) = std::fs::remove_file(place(ledger))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "could not remove the old socket");
    }
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: UnixListener, worker: Arc<Worker>) {
    let mut callers = JoinSet::new();
    loop {
        while callers.len() >= CALLERS {
            callers.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                callers.spawn(answer(stream, Arc::clone(&worker)));
            }
            Err(error) => {
                tracing::warn!(%error, "the socket could not be read");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while callers.try_join_next().is_some() {}
    }
}

async fn answer(stream: UnixStream, worker: Arc<Worker>) {
    let talk = async {
        let (reading, mut writing) = stream.into_split();
        let mut question = Vec::new();
        BufReader::new(reading.take(LONGEST_QUESTION)).read_until(b'\n', &mut question).await?;
        let reply = reply(&question, &worker).await;
        writing.write_all(format!("{reply}\n").as_bytes()).await
    };
    match tokio::time::timeout(PATIENCE, talk).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a caller went away"),
        Err(_) => tracing::debug!("a caller said nothing"),
    }
}

async fn reply(question: &[u8], worker: &Arc<Worker>) -> Value {
    let Ok(question) = serde_json::from_slice::<Value>(question) else {
        return json!({"error": "not a question: one line of JSON like {\"ask\":\"status\"} was expected"});
    };
    let answer = match question.get("ask").and_then(Value::as_str) {
        Some("status") => Report::of_worker(worker).await.map(Report::value),
        Some("brake") => brake::of_worker(worker),
        Some("brake-release") => brake::release(worker, &question).await,
        Some("sync") => sync::begin(worker, &question),
        Some("sync-progress") => sync::progress(worker),
        Some(other) => {
            Err(Failure::usage(format!("the worker does not know the question {other:?}: are both of one version?")))
        }
        None => Err(Failure::usage("the question says nothing under \"ask\"")),
    };
    match answer {
        Ok(answer) => json!({"answer": answer}),
        Err(failure) => json!({"error": failure.to_string()}),
    }
}

/// Who could be asked.
#[derive(Debug)]
pub(super) enum Reached {
    /// The worker: its answer.
    Worker(Value),
    /// No worker, but the ledger that the last one left.
    Ledger(Ledger),
    /// There is no ledger yet.
    Nobody,
    /// Somebody has the ledger open and does not answer.
    Silent,
}

/// What to say of somebody who is silent.
pub(super) const SILENT: &str = "a process has the ledger open but does not answer on its socket: look at its log";

/// How often, and how long apart, worker and ledger are looked at while neither can be asked.
const LOOKS: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Asks the worker, or else opens the ledger. A worker that starts has the ledger before it has its socket, and one that
/// ends has it for a moment longer: between the two there is nobody to ask, so both are tried again for a while.
pub(super) async fn reach(place: &Path, question: &Value) -> Result<Reached, Failure> {
    for _ in 0..LOOKS {
        if let Some(answer) = ask(place, question).await? {
            return Ok(Reached::Worker(answer));
        }
        if !place.exists() {
            return Ok(Reached::Nobody);
        }
        match Ledger::open(place) {
            Ok(ledger) => return Ok(Reached::Ledger(ledger)),
            Err(fault) if fault.kind == FaultKind::Transient => tokio::time::sleep(LOOK_AGAIN).await,
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(Reached::Silent)
}

/// Asks the worker that has this ledger open; `None` when there is none.
pub(super) async fn ask(ledger: &Path, question: &Value) -> Result<Option<Value>, Failure> {
    let Ok(stream) = UnixStream::connect(place(ledger)).await else { return Ok(None) };
    let talk = async {
        let (reading, mut writing) = stream.into_split();
        writing.write_all(format!("{question}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(reading).read_line(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let silent = || Failure::stopped("the worker does not answer on its socket: look at its log");
    let answer = tokio::time::timeout(PATIENCE, talk).await.map_err(|_| silent())?;
    let answer = answer.map_err(|error| Failure::stopped(format!("the worker broke off: {error}")))?;
    let mut answer: Value = serde_json::from_str(&answer).map_err(|_| silent())?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        return Err(Failure::stopped(error));
    }
    Ok(Some(answer.get_mut("answer").map(Value::take).ok_or_else(silent)?))
}
