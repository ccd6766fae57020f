//! What a service manager is told (sd_notify(3)): that the worker is ready, how it goes, that it still answers, and that
//! it ends. Without `NOTIFY_SOCKET` nobody is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::UnixDatagram;

use super::worker::Worker;
use super::world::SystemClock;
use crate::engine::Phase;
use crate::ports::Clock;

/// How often the status line is looked at, and the watchdog told at the least.
const LOOK: Duration = Duration::from_secs(5);
/// How long a manager that does not read is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells that the worker is ready, then from time to time how it goes, until it is dropped.
///
/// The watchdog hears of it only while the ledger's writer answers; that this is told at all, the runtime proves by it.
/// Three times in the watchdog's patience, so that one look that comes late does no harm.
pub(super) async fn attend(worker: &Worker) {
    tell(&[NotifyState::Ready]).await;
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
    let every = patience.map_or(LOOK, |patience| LOOK.min(patience / 3));
    let mut told = String::new();
    loop {
        let answered = tokio::time::timeout(every, worker.ledger.answers()).await;
        match answered {
            Ok(Ok(())) if patience.is_some() => tell(&[NotifyState::Watchdog]).await,
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::warn!(%fault, "the watchdog is not told: the ledger fails"),
            Err(_) => tracing::warn!("the watchdog is not told: the ledger does not answer"),
        }
        let status = status(worker);
        if status != told {
            tell(&[NotifyState::Status(&status)]).await;
            told = status;
        }
        tokio::time::sleep(every).await;
    }
}

/// Tells that the worker ends.
pub(super) async fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]).await;
}

fn status(worker: &Worker) -> String {
    let totals = worker.ledger.totals();
    let state = match *worker.phase.borrow() {
        Phase::Drain | Phase::Halt => "draining",
        Phase::Run => match worker.ledger.control() {
            Ok(control) if control.is_paused(SystemClock.now()) => "paused",
            Ok(_) => "running",
            Err(_) => "the ledger cannot be read",
        },
    };
    let (pending, parked, held) = (totals.pending.operations, totals.parked.operations, totals.held.operations);
    format!("{state}: {pending} to do, {parked} parked, {held} held")
}

/// As `sd_notify::notify`, which would hold up the whole runtime while a manager does not read.
async fn tell(states: &[NotifyState<'_>]) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    let sent = async { UnixDatagram::unbound()?.send_to(message.as_bytes(), &place).await };
    match tokio::time::timeout(PATIENCE, sent).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the service manager could not be told"),
        Err(_) => tracing::warn!("the service manager does not read what it is told"),
    }
}
