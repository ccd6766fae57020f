//! `repl limit`: other limits for a running worker, remembered until they are reset.

use std::num::{NonZeroU32, NonZeroU64};

use serde_json::{Value, json};

use crate::config::{Config, units};
use crate::ledger::{Ledger, Limiting};
use crate::model::limits::{Bound, Concurrency, InForce, Limits};
use crate::model::object::Timestamp;
use crate::ports::Clock;

use super::control::moment;
use super::progress::say;
use super::reach::{Absent, Reached, reach, silence};
use super::worker::Worker;
use super::world::SystemClock;
use super::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct Limit {
    /// bandwidth=20MiB/s, requests_per_second=100 or concurrency=16; "unlimited" and "auto" as in the config
    #[arg(value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Ends by itself then, all of what was set: a time as RFC 3339 writes it, or a duration from now
    #[arg(long, value_name = "T", value_parser = moment, requires = "settings")]
    until: Option<Timestamp>,
    /// Forgets first what was set before: windows and config decide again
    #[arg(long)]
    reset: bool,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Carries the command out; with nothing to set it tells what is in force.
pub(super) async fn limit(config: &Config, args: &Limit) -> Result<Exit, Failure> {
    read(args.settings.iter().map(String::as_str))?;
    let until = args.until.map(Timestamp::rfc3339);
    let question = json!({"ask": "limit", "settings": args.settings, "until": until, "reset": args.reset});
    let changes = args.reset || !args.settings.is_empty();
    let absent = if changes { Absent::Made } else { Absent::Left };
    let answer = match reach(config, &question, absent).await? {
        Reached::Worker(answer) => answer,
        Reached::Ledger(ledger) => {
            if let Some(limiting) = asked(ledger.limiting()?, &question)? {
                ledger.set_limiting(&limiting).await?;
            }
            of_ledger(config, &ledger)?
        }
        Reached::Nothing => in_force_json(&in_force(config, &Limiting::default()), None),
        Reached::Silence => return Err(silence()),
    };
    if args.json {
        say(&answer);
    } else {
        say(text(&answer));
    }
    Ok(Exit::Done)
}

/// In the worker.
pub(super) async fn answer(worker: &Worker, question: &Value) -> Result<Value, Failure> {
    if let Some(limiting) = asked(worker.ledger.limiting()?, question)? {
        worker.engine.set_limiting(limiting).await?;
    }
    of_worker(worker)
}

/// What is in force in a running worker.
pub(super) fn of_worker(worker: &Worker) -> Result<Value, Failure> {
    Ok(in_force_json(&worker.engine.limits(), until(&worker.ledger.limiting()?)))
}

/// What would be in force if a worker ran.
pub(super) fn of_ledger(config: &Config, ledger: &Ledger) -> Result<Value, Failure> {
    let limiting = ledger.limiting()?;
    Ok(in_force_json(&in_force(config, &limiting), until(&limiting)))
}

fn in_force(config: &Config, limiting: &Limiting) -> InForce {
    let (transfer, now) = (&config.transfer, SystemClock.now());
    let base = Limits::whole(transfer.bandwidth, transfer.requests_per_second, transfer.concurrency);
    InForce::of(limiting.at(now), &transfer.windows, base, now)
}

fn until(limiting: &Limiting) -> Option<Timestamp> {
    let now = SystemClock.now();
    limiting.until.filter(|_| !limiting.at(now).is_silent())
}

/// What the operator's limits are after a question; `None` where it changes nothing.
fn asked(before: Limiting, question: &Value) -> Result<Option<Limiting>, Failure> {
    let reset = question.get("reset").and_then(Value::as_bool) == Some(true);
    let settings = question.get("settings").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    if !reset && settings.is_empty() {
        return Ok(None);
    }
    let kept = if reset { Limits::default() } else { before.at(SystemClock.now()) };
    let limits = read(settings.iter().filter_map(Value::as_str))?.or(kept);
    let until = question.get("until").and_then(Value::as_str).and_then(Timestamp::parse_rfc3339);
    Ok(Some(Limiting { limits, until }))
}

/// Settings as typed. All that is wrong with them is told at once.
fn read<'s>(settings: impl Iterator<Item = &'s str>) -> Result<Limits, Failure> {
    let (mut limits, mut wrong) = (Limits::default(), Vec::new());
    for setting in settings {
        if let Err(reason) = read_one(setting, &mut limits) {
            wrong.push(reason);
        }
    }
    if wrong.is_empty() { Ok(limits) } else { Err(Failure::usage(wrong.join("; "))) }
}

fn read_one(setting: &str, limits: &mut Limits) -> Result<(), String> {
    let Some((name, value)) = setting.split_once('=') else {
        return Err(format!("{setting:?} sets nothing, accepted is one such as bandwidth=20MiB/s"));
    };
    match name {
        "bandwidth" => {
            let accepted = "\"unlimited\" or a rate such as 20MiB/s";
            let bytes = if value == "unlimited" { None } else { Some(rate(value, accepted)?) };
            limits.bandwidth = Some(Bound::from(bytes));
        }
        "requests_per_second" => {
            let accepted = "\"unlimited\" or a number, 1 or more";
            let requests = if value == "unlimited" { None } else { Some(count(name, value, accepted)?) };
            limits.requests_per_second = Some(Bound::from(requests));
        }
        "concurrency" => {
            let accepted = "\"auto\" or a number, 1 or more";
            let fixed = || count(name, value, accepted).map(Concurrency::Fixed);
            limits.concurrency = Some(if value == "auto" { Concurrency::Auto } else { fixed()? });
        }
        other => {
            return Err(format!(
                "there is no limit {other:?}, accepted are bandwidth, requests_per_second and concurrency"
            ));
        }
    }
    Ok(())
}

fn rate(value: &str, accepted: &str) -> Result<NonZeroU64, String> {
    let bytes = units::parse_rate(value).map_err(|reason| format!("bandwidth: {reason}, accepted is {accepted}"))?;
    NonZeroU64::new(bytes)
        .ok_or_else(|| format!("bandwidth: {value:?} would let nothing through; `repl pause` does that"))
}

fn count(name: &str, value: &str, accepted: &str) -> Result<NonZeroU32, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} is refused, accepted is {accepted}"))
}

/// The limits as the config spells them, and who set each.
fn in_force_json(limits: &InForce, until: Option<Timestamp>) -> Value {
    let InForce { bandwidth, requests_per_second, concurrency } = limits;
    let unlimited = || json!("unlimited");
    json!({
        "bandwidth": bandwidth.0.map_or_else(unlimited, |bytes| json!(format!("{}/s", units::show_size(bytes.get())))),
        "requests_per_second": requests_per_second.0.map_or_else(unlimited, |requests| json!(requests.get())),
        "concurrency": match concurrency.0 {
            Concurrency::Auto => json!("auto"),
            Concurrency::Fixed(count) => json!(count.get()),
        },
        "set_by": {
            "bandwidth": bandwidth.1.name(),
            "requests_per_second": requests_per_second.1.name(),
            "concurrency": concurrency.1.name(),
        },
        "until": until.map(Timestamp::rfc3339),
    })
}

/// One line each.
fn text(limits: &Value) -> String {
    let mut out = String::new();
    for name in ["bandwidth", "requests_per_second", "concurrency"] {
        let by = limits.pointer(&format!("/set_by/{name}")).and_then(Value::as_str).unwrap_or_default();
        let by = match (by, limits.get("until").and_then(Value::as_str)) {
            ("operator", Some(until)) => format!("by the operator, until {until}"),
            ("operator", None) => "by the operator, until `repl limit --reset`".to_owned(),
            ("window", _) => "by a window of the config".to_owned(),
            _ => "by the config".to_owned(),
        };
        out.push_str(&format!("{name:<20} {:<12} {by}\n", shown(limits, name)));
    }
    out
}

/// One limit as the config spells it.
pub(super) fn shown(limits: &Value, name: &str) -> String {
    match limits.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: &[&str]) -> String {
        read(settings.iter().copied()).map_err(|failure| failure.to_string()).unwrap_err()
    }

    #[test]
    fn limits_are_read_and_all_mistakes_told() {
        let read = |settings: &[&str]| read(settings.iter().copied()).map_err(|failure| failure.to_string());
        let all = read(&["bandwidth=20MiB/s", "requests_per_second=100", "concurrency=16"]).unwrap();
        assert_eq!(all.bandwidth, Some(Bound::AtMost(NonZeroU64::new(20 << 20).unwrap())));
        assert_eq!(all.requests_per_second, Some(Bound::AtMost(NonZeroU32::new(100).unwrap())));
        assert_eq!(all.concurrency, Some(Concurrency::Fixed(NonZeroU32::new(16).unwrap())));
        let free = read(&["bandwidth=unlimited", "concurrency=auto"]).unwrap();
        assert_eq!((free.bandwidth, free.concurrency), (Some(Bound::Unlimited), Some(Concurrency::Auto)));
        assert_eq!(free.requests_per_second, None);
        for (setting, reason) in [
            ("bandwidth", "\"bandwidth\" sets nothing"),
            ("bandwidth=20", "does not end in \"/s\""),
            ("bandwidth=0B/s", "would let nothing through"),
            ("requests_per_second=0", "\"0\" is refused"),
            ("concurrency=-1", "\"-1\" is refused"),
            ("memory=1GiB", "there is no limit \"memory\""),
        ] {
            assert!(refused(&[setting]).contains(reason), "{setting}: {}", refused(&[setting]));
        }
        assert!(refused(&["a=1", "b=2"]).contains("; "), "{}", refused(&["a=1", "b=2"]));
    }

    #[test]
    fn what_is_set_is_added_to_what_was_until_it_is_reset() {
        let set = |before, settings: &[&str], reset: bool| {
            let question = json!({"settings": settings, "reset": reset});
            asked(before, &question).map_err(|failure| failure.to_string()).unwrap()
        };
        let first = set(Limiting::default(), &["bandwidth=1MiB/s"], false).unwrap();
        let second = set(first, &["concurrency=2"], false).unwrap();
        assert!(second.limits.bandwidth.is_some() && second.limits.concurrency.is_some());
        assert_eq!(set(second, &[], false), None, "a look changes nothing");
        let third = set(second, &["requests_per_second=5"], true).unwrap();
        assert!(third.limits.bandwidth.is_none() && third.limits.requests_per_second.is_some());
        assert!(set(third, &[], true).unwrap().limits.is_silent());
        let over = Limiting { until: Some(Timestamp(1)), ..second };
        let fourth = set(over, &["concurrency=3"], false).unwrap();
        assert!(fourth.limits.bandwidth.is_none(), "what is over is not taken up again");
    }
}
