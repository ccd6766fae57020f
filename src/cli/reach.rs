//! Who can answer for a ledger: the worker that has it open, or whoever opens what it left.

use std::time::Duration;

use serde_json::Value;

use crate::config::Config;
use crate::ledger::Ledger;
use crate::model::fault::FaultKind;

use super::{Failure, beside, socket};

/// How often, and how long apart, worker and ledger are looked at while neither can be asked: a worker that starts has
/// the ledger before it has its socket, and one that ends has it for a moment longer.
const LOOKS: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What was found.
pub(super) enum Reached {
    /// A worker, and what it answered.
    Worker(Value),
    /// The ledger that nobody works on.
    Ledger(Ledger),
    /// Neither: no worker ever ran with this config.
    Nothing,
    /// Somebody has the ledger open and does not answer.
    Silence,
}

/// What a command may do where there is no ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Nothing: it only looks.
    Left,
    /// Make one: what it says is to be remembered.
    Made,
}

/// Asks the running worker, else opens its ledger.
pub(super) async fn reach(config: &Config, question: &Value, absent: Absent) -> Result<Reached, Failure> {
    let place = &config.ledger.path;
    for _ in 0..LOOKS {
        if let Some(answer) = socket::ask(place, question).await? {
            return Ok(Reached::Worker(answer));
        }
        if absent == Absent::Left && !Ledger::is_at(place) {
            return Ok(Reached::Nothing);
        }
        beside::ours(place)?;
        match Ledger::open(place) {
            Ok(ledger) => return Ok(Reached::Ledger(ledger)),
            Err(fault) if fault.kind == FaultKind::Transient => tokio::time::sleep(LOOK_AGAIN).await,
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(Reached::Silence)
}

/// What is said of a ledger that is held in silence.
pub(super) fn silence() -> Failure {
    Failure::stopped("a process has the ledger open but does not answer on its socket: look at its log")
}
