//! What a service manager is told (sd_notify(3)): that the worker is ready, how it goes, that it still answers, and that
//! it ends. Without `NOTIFY_SOCKET` nobody is told.

use std::time::Duration;

use sd_notify::NotifyState;

use super::worker::Worker;
use super::world::SystemClock;
use crate::engine::Phase;
use crate::ports::Clock;

/// How often the status line is looked at, and the watchdog told at the least.
const LOOK: Duration = Duration::from_secs(5);

/// Tells that the worker is ready, then from time to time how it goes, until it is dropped.
///
/// The watchdog hears of it only while the ledger's writer answers; that this is told at all, the runtime proves by it.
/// Three times in the watchdog's patience, so that one look that comes late does no harm.
pub(super) async fn attend(worker: &Worker) {
    tell(&[NotifyState::Ready]);
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
    let every = patience.map_or(LOOK, |patience| LOOK.min(patience / 3));
    let mut told = String::new();
    loop {
        let answered = tokio::time::timeout(every, worker.ledger.answers()).await;
        match answered {
            Ok(Ok(())) if patience.is_some() => tell(&[NotifyState::Watchdog]),
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::warn!(%fault, "the watchdog is not told: the ledger fails"),
            Err(_) => tracing::warn!("the watchdog is not told: the ledger does not answer"),
        }
        let status = status(worker);
        if status != told {
            tell(&[NotifyState::Status(&status)]);
            told = status;
        }
        tokio::time::sleep(every).await;
    }
}

/// Tells that the worker ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
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

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
