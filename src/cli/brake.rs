//! `repl brake`: whether deletes go or are held (P11), and the release. Done by the worker that has the ledger open,
//! where one runs; else in the ledger that it left.

use serde_json::{Value, json};

use crate::config::Config;
use crate::ledger::{Brake, Ledger};
use crate::model::object::{TargetId, Timestamp};
use crate::ports::{Clock, World};

use super::progress::say;
use super::reach::{Absent, Reached, reach, silence};
use super::worker::Worker;
use super::world::SystemClock;
use super::{Exit, Failure, args};

/// Carries the command out.
pub(super) async fn brake(config: &Config, args: &args::Brake) -> Result<Exit, Failure> {
    let report = match &args.action {
        None => show(config).await?,
        Some(args::BrakeAction::Release(release)) => let_go(config, release.target.as_deref()).await?,
    };
    if args.json || matches!(&args.action, Some(args::BrakeAction::Release(release)) if release.json) {
        say(&report);
    } else {
        say(text(&report));
    }
    Ok(Exit::Done)
}

async fn show(config: &Config) -> Result<Value, Failure> {
    match reach(config, &json!({"ask": "brake"}), Absent::Left).await? {
        Reached::Worker(report) => Ok(report),
        Reached::Ledger(ledger) => report(&ledger, SystemClock.now()),
        Reached::Nothing => Ok(unknown()),
        Reached::Silence => Err(silence()),
    }
}

async fn let_go(config: &Config, target: Option<&str>) -> Result<Value, Failure> {
    let known = known_target(config, target)?;
    let question = json!({"ask": "brake-release", "target": target});
    match reach(config, &question, Absent::Left).await? {
        Reached::Worker(report) => Ok(report),
        Reached::Ledger(ledger) => release_in(&ledger, known, SystemClock.now()).await,
        Reached::Nothing => Ok(with_released(unknown(), 0)),
        Reached::Silence => Err(silence()),
    }
}

/// Refuses a target's name that the config does not have.
fn known_target(config: &Config, asked: Option<&str>) -> Result<Option<TargetId>, Failure> {
    let Some(target) = asked else { return Ok(None) };
    if config.targets.iter().any(|known| known.id.as_str() == target) {
        return Ok(Some(TargetId::new(target)));
    }
    let known: Vec<&str> = config.targets.iter().map(|target| target.id.as_str()).collect();
    Err(Failure::usage(format!("there is no target {target:?}; there are {}", known.join(", "))))
}

/// In the worker: what the brake does.
pub(super) fn of_worker(worker: &Worker) -> Result<Value, Failure> {
    report(&worker.ledger, worker.world.clock().now())
}

/// In the worker: releases it.
pub(super) async fn release(worker: &Worker, question: &Value) -> Result<Value, Failure> {
    let target = known_target(&worker.config, question.get("target").and_then(Value::as_str))?;
    let now = worker.world.clock().now();
    let report = release_in(&worker.ledger, target, now).await?;
    worker.engine.wake();
    Ok(report)
}

async fn release_in(ledger: &Ledger, target: Option<TargetId>, now: Timestamp) -> Result<Value, Failure> {
    let tripped = ledger.brakes(now)?.into_iter().filter(|brake| brake.tripped.is_some());
    let asked: Vec<Brake> =
        tripped.filter(|brake| target.as_ref().is_none_or(|target| brake.target == *target)).collect();
    let released = ledger.release_held(target.as_ref()).await?;
    for brake in asked {
        let (since, reason) = brake.tripped.unwrap_or_default();
        tracing::info!(target = %brake.target, released = brake.held, since = since.rfc3339(), reason,
            "the brake is released by an operator: what it held goes, and a new count begins");
    }
    Ok(with_released(report(ledger, now)?, released))
}

fn with_released(mut report: Value, released: u64) -> Value {
    if let Some(fields) = report.as_object_mut() {
        fields.insert("released".to_owned(), json!(released));
    }
    report
}

/// The documented object, also a part of `repl status`.
pub(super) fn report(ledger: &Ledger, now: Timestamp) -> Result<Value, Failure> {
    let brakes = ledger.brakes(now)?;
    let mut tripped: Vec<&Brake> = brakes.iter().filter(|brake| brake.tripped.is_some()).collect();
    tripped.sort_by_key(|brake| brake.tripped.as_ref().map(|(since, _)| *since));
    let first = tripped.first();
    let why = first.and_then(|brake| brake.tripped.as_ref());
    Ok(json!({
        "state": state(first.is_some()),
        "target": first.map(|brake| brake.target.as_str()),
        "held": brakes.iter().map(|brake| brake.held).sum::<u64>(),
        "since": why.map(|(since, _)| since.rfc3339()),
        "reason": why.map(|(_, reason)| reason),
        "targets": brakes.iter().map(of_target).collect::<Vec<_>>(),
    }))
}

fn of_target(brake: &Brake) -> Value {
    json!({
        "target": brake.target.as_str(),
        "state": state(brake.tripped.is_some()),
        "held": brake.held,
        "since": brake.tripped.as_ref().map(|(since, _)| since.rfc3339()),
        "reason": brake.tripped.as_ref().map(|(_, reason)| reason),
        "deletes_in_hour": brake.in_hour,
        "keys": brake.keys.map(|(keys, _)| keys),
        "keys_counted": brake.keys.map(|(_, counted)| counted.rfc3339()),
    })
}

fn state(tripped: bool) -> &'static str {
    if tripped { "held" } else { "free" }
}

/// When nothing can be known.
pub(super) fn unknown() -> Value {
    json!({"state": null, "target": null, "held": null, "since": null, "reason": null, "targets": null})
}

/// The same for a person.
pub(super) fn text(report: &Value) -> String {
    let mut text = String::new();
    if let Some(released) = report.get("released").and_then(Value::as_u64) {
        text.push_str(&format!("released      {released} deletes\n"));
    }
    let targets = report.get("targets").and_then(Value::as_array);
    for target in targets.into_iter().flatten() {
        let told = |name: &str| target.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| target.get(name).and_then(Value::as_u64).map(|number| number.to_string());
        let unknown = || "unknown".to_owned();
        text.push_str(&format!("brake         {}: {}", told("target"), told("state")));
        if told("state") == "held" {
            let held = number("held").unwrap_or_else(unknown);
            text.push_str(&format!(", {held} deletes wait since {}: {}", told("since"), told("reason")));
        }
        let (deletes, keys) =
            (number("deletes_in_hour").unwrap_or_else(unknown), number("keys").unwrap_or_else(unknown));
        text.push_str(&format!("; {deletes} went within an hour, keys known: {keys}\n"));
    }
    match targets {
        None => text.push_str("brake         unknown: there is no ledger yet\n"),
        Some(targets) if targets.is_empty() => text.push_str("brake         free: no delete was brought yet\n"),
        Some(_) => {}
    }
    text
}
