//! What happened last, for the list of recent objects.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Site, Worker};
use crate::ledger::{Happened, Happening, Next, Outcome};
use crate::model::fault::Fault;
use crate::model::object::{Key, Timestamp};
use crate::ports::Clock;

/// Happenings looked at, and ends and failures told of them.
const LOOKED_AT: usize = 600;
const TOLD: usize = 50;

impl<W: Worker, C: Clock> Site<W, C> {
    /// The last ends and failures, the newest first, with the time from the change where the event that told of it is
    /// remembered. Objects of a scan are there only where something went wrong.
    pub(super) fn recent(&self) -> Result<Value, Fault> {
        let happenings = self.ledger.latest(LOOKED_AT)?;
        let identity =
            |key: &Key, happening: &Happening| (key.clone(), happening.version.clone(), happening.target.clone());
        let mut changed: HashMap<_, Timestamp> = HashMap::new();
        for (key, happening) in &happenings {
            if let Happened::Told { changed: at, .. } = &happening.what {
                changed.entry(identity(key, happening)).or_insert(*at);
            }
        }
        let mut recent = Vec::new();
        for (key, happening) in &happenings {
            let (outcome, reason, next) = match &happening.what {
                Happened::Told { .. } => continue,
                Happened::Failed { fault, next } => ("failed", Some(fault.to_string()), Some(next)),
                Happened::Ended { outcome } => (named(outcome), reason(outcome), None),
            };
            let took = changed.get(&identity(key, happening)).map(|changed| happening.at.since(*changed).as_secs_f64());
            recent.push(json!({
                "at": happening.at.rfc3339(),
                "key": key.as_str(),
                "version": happening.version.as_str(),
                "target": happening.target.as_str(),
                "outcome": outcome,
                "reason": reason,
                "lag_seconds": took,
                "parked_in": next.and_then(parked_in),
                "retry_at": next.and_then(retry_at),
            }));
            if recent.len() == TOLD {
                break;
            }
        }
        Ok(json!({"recent": recent, "as_of": self.clock.now().rfc3339()}))
    }
}

fn parked_in(next: &Next) -> Option<u32> {
    match next {
        Next::Parked(group) => Some(group.0),
        Next::Retry(_) => None,
    }
}

fn retry_at(next: &Next) -> Option<String> {
    match next {
        Next::Retry(at) => Some(at.rfc3339()),
        Next::Parked(_) => None,
    }
}

/// The words of `repl why`.
fn named(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Replicated => "replicated",
        Outcome::AlreadyEqual => "already-equal",
        Outcome::Superseded => "superseded",
        Outcome::NotReplicated(_) => "not-replicated",
        Outcome::Gone => "gone",
    }
}

fn reason(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::NotReplicated(reason) => Some(reason.clone()),
        Outcome::Replicated | Outcome::AlreadyEqual | Outcome::Superseded | Outcome::Gone => None,
    }
}
