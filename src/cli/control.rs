//! `repl pause`, `repl resume`, `repl drain`: an operator's hand on the worker, remembered across restarts.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::{Config, units};
use crate::ledger::Control;
use crate::model::object::Timestamp;
use crate::ports::Clock;

use super::progress::say;
use super::reach::{Absent, Reached, reach, silence};
use super::worker::{DRAIN, Worker};
use super::world::SystemClock;
use super::{Exit, Failure, socket};

/// How often `drain` looks whether the worker has ended.
const LOOK: Duration = Duration::from_millis(100);
/// How long a drained worker may take after its own deadline for what is under way: the last flush and uploads.
const AFTER_DRAIN: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct Pause {
    /// Ends by itself then: a time as RFC 3339 writes it (2026-11-21T18:00:00Z), or a duration from now (2h30m)
    #[arg(long, value_name = "T", value_parser = moment)]
    until: Option<Timestamp>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Resume {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// A time to come, from RFC 3339 or from a duration.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    moment_after(text, SystemClock.now())
}

fn moment_after(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let moment = match (Timestamp::parse_rfc3339(text), units::parse_duration(text)) {
        (Some(moment), _) => moment,
        (None, Ok(wait)) => now.plus(wait),
        (None, Err(_)) => {
            return Err("accepted is a time with its zone, such as 2026-11-21T18:00:00Z, or a duration, such as 2h30m"
                .to_owned());
        }
    };
    if moment > now { Ok(moment) } else { Err(format!("{} is not in the future", moment.rfc3339())) }
}

pub(super) async fn pause(config: &Config, args: &Pause) -> Result<Exit, Failure> {
    set(config, Control { paused: true, paused_until: args.until }, args.json).await
}

pub(super) async fn resume(config: &Config, args: &Resume) -> Result<Exit, Failure> {
    set(config, Control::default(), args.json).await
}

async fn set(config: &Config, control: Control, json: bool) -> Result<Exit, Failure> {
    let until = control.paused_until.map(Timestamp::rfc3339);
    let question = json!({"ask": "control", "paused": control.paused, "until": until});
    let works = match reach(config, &question, Absent::Made).await? {
        Reached::Worker(_) => true,
        Reached::Ledger(ledger) => {
            ledger.set_control(&control).await?;
            false
        }
        Reached::Nothing | Reached::Silence => return Err(silence()),
    };
    if json {
        let state = if control.paused { "paused" } else { "running" };
        say(json!({"state": state, "paused_until": until, "worker": works}));
    } else {
        say(sentence(control.paused, until.as_deref(), works));
    }
    Ok(Exit::Done)
}

fn sentence(paused: bool, until: Option<&str>, works: bool) -> String {
    let until =
        until.map_or_else(|| "until `repl resume`".to_owned(), |until| format!("until {until} or `repl resume`"));
    match (paused, works) {
        (true, true) => format!("paused {until}: nothing is polled or begun, and what is under way is finished"),
        (true, false) => format!("paused {until}: no worker runs now, and one that starts begins nothing"),
        (false, true) => "resumed".to_owned(),
        (false, false) => "resumed: no worker runs now, and one that starts goes to work".to_owned(),
    }
}

/// In the worker: pauses or resumes.
pub(super) async fn answer(worker: &Worker, question: &Value) -> Result<Value, Failure> {
    let paused = question.get("paused").and_then(Value::as_bool);
    let paused = paused.ok_or_else(|| Failure::usage("the question does not say whether to pause"))?;
    let paused_until = match question.get("until") {
        None | Some(Value::Null) => None,
        Some(until) => {
            let until = until.as_str().ok_or_else(|| Failure::usage("the question's \"until\" is no text"))?;
            let exact = Timestamp::parse_rfc3339(until).map_or_else(|| moment(until), Ok);
            Some(exact.map_err(|accepted| Failure::usage(format!("\"until\" is {until:?}; {accepted}")))?)
        }
    };
    let control = Control { paused, paused_until };
    worker.engine.set_control(control).await?;
    let until = paused_until.map(Timestamp::rfc3339);
    tracing::info!(paused, until, "an operator has spoken");
    Ok(json!({"paused": paused, "paused_until": until}))
}

/// Has the running worker end, and waits for it.
pub(super) async fn drain(config: &Config, args: &Drain) -> Result<Exit, Failure> {
    let place = &config.ledger.path;
    let asked = socket::ask(place, &json!({"ask": "drain"})).await?;
    let Some(worker) = asked.as_ref().and_then(|answer| answer.get("pid")) else {
        tell_drained(args.json, false, "no worker runs on this ledger: there is nothing to drain");
        return Ok(Exit::Done);
    };
    let deadline = Instant::now() + DRAIN + AFTER_DRAIN;
    while Instant::now() < deadline {
        // One that breaks off while it answers has ended as well as one that does not answer any more.
        let there = socket::ask(place, &json!({"ask": "ping"})).await.unwrap_or(None);
        if there.as_ref().and_then(|answer| answer.get("pid")) != Some(worker) {
            tell_drained(args.json, true, "drained: what was under way is done, and the worker has ended");
            return Ok(Exit::Done);
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Failure::stopped("the worker was told to drain and still runs: look at its log"))
}

fn tell_drained(json: bool, worker: bool, sentence: &str) {
    if json {
        say(json!({"state": "stopped", "worker": worker}));
    } else {
        say(sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_duration_and_lies_ahead() {
        let now = Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap();
        let read = |text| moment_after(text, now).map(Timestamp::rfc3339);
        assert_eq!(read("2026-11-21T19:00:00+01:00"), Ok("2026-11-21T18:00:00Z".to_owned()));
        assert_eq!(read("2h30m"), Ok("2026-11-21T14:30:00Z".to_owned()));
        assert_eq!(read("2026-11-21T12:00:00Z"), Err("2026-11-21T12:00:00Z is not in the future".to_owned()));
        assert_eq!(read("0s"), Err("2026-11-21T12:00:00Z is not in the future".to_owned()));
        for odd in ["", "tomorrow", "2026-11-21", "18:00", "2026-11-21T18:00:00", "90"] {
            assert!(read(odd).unwrap_err().starts_with("accepted is a time with its zone"), "{odd}");
        }
    }
}
