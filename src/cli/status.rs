//! `repl status`: what is going on, and how sure that is (P8).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Config;
use crate::engine::{Phase, receipts};
use crate::ledger::{Control, Group, Ledger, Totals};
use crate::model::object::Timestamp;
use crate::ports::{Clock, Tier, World};
use crate::watch::alarms::{State, definitions};
use crate::watch::figures::{FRESH, Figures, OldestPending};
use crate::watch::pulse::Snapshot;

use super::progress::say;
use super::reach::{Absent, Reached, reach, silence};
use super::worker::{Worker, receipts_directory};
use super::world::SystemClock;
use super::{Exit, Failure, args, brake, limit, monitor};

/// Why nothing is known of the oldest change that is missing at the target.
const UNWATCHED: &str = "no worker runs, so nobody knows what the queue holds";

/// The state of things at one moment, as the documented JSON object.
#[derive(Debug)]
pub(super) struct Report(Value);

impl Report {
    /// Of a running worker.
    pub(super) fn of_worker(worker: &Worker) -> Result<Self, Failure> {
        let phase = *worker.phase.borrow();
        let state = |paused| match phase {
            Phase::Run if paused => "paused",
            Phase::Run => "running",
            Phase::Drain | Phase::Halt => "draining",
        };
        let mut report = Self::with_figures(worker, state)?;
        if let Some(fields) = report.0.as_object_mut() {
            fields.insert("pid".to_owned(), json!(std::process::id()));
        }
        Ok(report)
    }

    /// Of a worker that has come to its end.
    pub(super) fn at_the_end(worker: &Worker) -> Result<Self, Failure> {
        Self::with_figures(worker, |_paused| "stopped")
    }

    fn with_figures(worker: &Worker, state: impl FnOnce(bool) -> &'static str) -> Result<Self, Failure> {
        let now = worker.world.clock().now();
        let control = worker.ledger.control()?;
        let snapshot = worker.pulse.snapshot();
        let oldest = Some(Figures::take(&worker.ledger, &snapshot, worker.observer.settings(), now)?.oldest);
        let (config, ledger) = (&worker.config, &worker.ledger);
        let facts = Facts { config, ledger, control, snapshot: Some(&snapshot), oldest, now };
        let mut report = facts.report(state(control.is_paused(now)))?;
        if let Some(fields) = report.as_object_mut() {
            fields.insert("limits".to_owned(), limit::of_worker(worker)?);
            fields.insert("bytes_in_flight".to_owned(), json!(worker.engine.bytes_in_flight()));
        }
        Ok(Self(report))
    }

    /// Of a ledger that nobody works on.
    fn of_ledger(config: &Config, ledger: &Ledger) -> Result<Self, Failure> {
        let now = SystemClock.now();
        let control = ledger.control()?;
        let mut report = Facts { config, ledger, control, snapshot: None, oldest: None, now }.report("stopped")?;
        if let Some(fields) = report.as_object_mut() {
            fields.insert("limits".to_owned(), limit::of_ledger(config, ledger)?);
        }
        Ok(Self(report))
    }

    /// When nothing can be known.
    fn unknown(config: &Config) -> Self {
        let rules: Vec<Value> = config.rules.iter().map(|rule| rule_report(rule, None)).collect();
        Self(json!({
            "state": "unknown",
            "caught_up": null,
            "pending": {"operations": null, "bytes": null, "oldest_age_seconds": null},
            "failed": null,
            "brake": brake::unknown(),
            "replicated": {"operations": null, "bytes": null},
            "latency_seconds": {"p50": null, "p99": null, "max": null},
            "queue": {"visible": null, "in_flight": null, "dead_letters": null, "seen_empty": null, "fault": null},
            "rules": rules,
            "paused": null,
            "paused_until": null,
            "already_equal": null,
            "superseded": null,
            "not_replicated": null,
            "quarantined": null,
            "turned_away": null,
            "groups": null,
            "unstamped": null,
            "unprovable": null,
            "receipts": null,
            "canary": null,
            "rpo": {"seconds": null, "doubt": UNWATCHED},
            "metrics": null,
            "alarms": null,
            "alerts": null,
            "faults": null,
            "ledger_bytes": null,
            "limits": null,
            "bytes_in_flight": null,
            "as_of": SystemClock.now().rfc3339(),
            "pid": null,
        }))
    }

    /// The object itself.
    pub(super) fn value(self) -> Value {
        self.0
    }

    /// As one line.
    pub(super) fn json(&self) -> String {
        self.0.to_string()
    }

    /// Whether something failed, is held by the brake or was given up by the queue, and is recorded.
    pub(super) fn differs(&self) -> bool {
        ["/failed", "/quarantined", "/brake/held", "/queue/dead_letters"]
            .iter()
            .any(|place| self.0.pointer(place).and_then(Value::as_u64).unwrap_or(0) > 0)
    }
}

struct Facts<'a> {
    config: &'a Config,
    ledger: &'a Ledger,
    control: Control,
    snapshot: Option<&'a Snapshot>,
    oldest: Option<OldestPending>,
    now: Timestamp,
}

impl Facts<'_> {
    /// `null` where none is sent, or nobody sends it now.
    fn canary(&self) -> Value {
        let sent = self.snapshot.filter(|_| self.config.canary.is_some());
        sent.map_or(Value::Null, |snapshot| {
            let view = snapshot.canary.clone().unwrap_or_default();
            json!({
                "last_seen": view.last_seen.map(Timestamp::rfc3339),
                "latency_seconds": view.latency.map(seconds),
                "fault": view.fault,
            })
        })
    }

    fn report(&self, state: &str) -> Result<Value, Failure> {
        let totals = self.ledger.totals();
        let oldest = self.ledger.oldest_pending()?.map(|oldest| self.now.since(oldest).as_secs_f64());
        let queue = self.snapshot.map(|snapshot| &snapshot.queue);
        let caught_up = self.caught_up(&totals);
        // Nothing pending is age zero only while the queue is known to hold nothing either.
        let oldest = oldest.or_else(|| (caught_up == Some(true)).then_some(0.0));
        let latency = |share: f64| self.snapshot.and_then(|snapshot| snapshot.latency.quantile(share)).map(seconds);
        let depth = queue.and_then(|queue| queue.depth);
        let rules: Vec<Value> = self.config.rules.iter().map(|rule| rule_report(rule, Some(&totals))).collect();
        Ok(json!({
            "state": state,
            "caught_up": caught_up,
            "pending": {
                "operations": totals.pending.operations,
                "bytes": totals.pending.bytes,
                "oldest_age_seconds": oldest,
            },
            "failed": totals.parked.operations,
            "brake": brake::report(self.ledger, self.now)?,
            "replicated": {"operations": totals.replicated.operations, "bytes": totals.replicated.bytes},
            "latency_seconds": {
                "p50": latency(0.5),
                "p99": latency(0.99),
                "max": self.snapshot.and_then(|snapshot| snapshot.latency.max()).map(seconds),
            },
            "queue": {
                "visible": depth.map(|depth| depth.visible),
                "in_flight": depth.map(|depth| depth.in_flight),
                "dead_letters": queue.and_then(|queue| queue.dead_letters),
                "seen_empty": queue.and_then(|queue| queue.seen_empty).map(Timestamp::rfc3339),
                "fault": queue.and_then(|queue| queue.fault.as_ref()).map(ToString::to_string),
            },
            "rules": rules,
            "paused": self.control.is_paused(self.now),
            "paused_until": self.control.pause_ends(self.now).map(Timestamp::rfc3339),
            "already_equal": totals.already_equal,
            "superseded": totals.superseded,
            "not_replicated": totals.not_replicated,
            "quarantined": totals.quarantined,
            "turned_away": totals.turned_away,
            "groups": self.groups()?,
            "unstamped": totals.unstamped,
            "unprovable": totals.unprovable,
            "receipts": self.receipts(),
            "rpo": {
                "seconds": self.oldest.as_ref().map(|oldest| seconds(oldest.age)),
                "doubt": self.oldest.as_ref().map_or(Some(UNWATCHED), |oldest| oldest.doubt.as_deref()),
            },
            "metrics": self.metrics(),
            "alarms": self.alarms(),
            "alerts": self.alerts(),
            "canary": self.canary(),
            "faults": self.faults(),
            "ledger_bytes": self.ledger.size_on_disk()?,
            "limits": null,
            "bytes_in_flight": null,
            "as_of": self.now.rfc3339(),
            "pid": null,
        }))
    }

    /// `Some(true)` only when the queue was seen empty a moment ago and nothing is left; `None` when the queue is not
    /// known (P8).
    fn caught_up(&self, totals: &Totals) -> Option<bool> {
        if totals.pending.operations > 0 || totals.parked.operations > 0 || totals.held.operations > 0 {
            return Some(false);
        }
        let queue = &self.snapshot?.queue;
        // What was given up may tell of a change that nobody has taken in.
        if queue.fault.is_some() || queue.gave_up.is_some() {
            return None;
        }
        // A time in the future means that the clock was set back: then nothing is known to be fresh.
        let fresh = |time: Timestamp| time <= self.now && self.now.since(time) <= FRESH;
        match (queue.seen_empty, queue.depth) {
            (_, Some(depth)) if depth.visible > 0 => Some(false),
            (Some(seen), Some(_)) if fresh(seen) => Some(true),
            (Some(_) | None, Some(_) | None) => None,
        }
    }

    /// What has become of the receipts since the worker started, or where a stopped one left the chain; `null` where
    /// none are written.
    fn receipts(&self) -> Value {
        if self.config.receipts.is_none() {
            return Value::Null;
        }
        let Some(view) = self.snapshot.and_then(|snapshot| snapshot.receipts.as_ref()) else {
            let left = receipts::left_behind(&receipts_directory(self.config));
            let (sequence, hash) = left.map(|tip| (tip.sequence, tip.hash)).unzip();
            return json!({"written": null, "lost": null, "uploaded": null, "files_waiting": null,
                "sequence": sequence, "hash": hash, "fault": null});
        };
        json!({
            "written": view.written,
            "lost": view.lost,
            "uploaded": view.uploaded,
            "files_waiting": view.waiting,
            "sequence": view.head.as_ref().map(|(sequence, _)| sequence),
            "hash": view.head.as_ref().map(|(_, hash)| hash),
            "fault": view.spool_fault.as_ref().or(view.upload_fault.as_ref()),
        })
    }

    /// The groups of parked jobs, in short.
    fn groups(&self) -> Result<Value, Failure> {
        let short =
            |group: &Group| json!({"id": group.id.0, "cause": group.cause, "count": group.count, "bytes": group.bytes});
        Ok(Value::Array(self.ledger.groups()?.iter().map(short).collect()))
    }

    /// How the metrics fare that are sent; `null` where none are, or no worker runs.
    fn metrics(&self) -> Value {
        let Some(view) = self.snapshot.and_then(|snapshot| snapshot.metrics.as_ref()) else { return Value::Null };
        let last_sent = view.last_sent.map(Timestamp::rfc3339);
        json!({"last_sent": last_sent, "missed": view.missed, "fault": view.fault})
    }

    /// Where the alarms are that the worker evaluates itself; `null` where CloudWatch does, or no worker runs.
    fn alarms(&self) -> Value {
        let Some(view) = self.snapshot.and_then(|snapshot| snapshot.alarms.as_ref()) else { return Value::Null };
        let known = definitions(&monitor::definitions(self.config));
        let alarms = known.alarms.iter().map(|alarm| (&alarm.name, alarm.tier));
        let composites = known.composites.iter().map(|composite| (&composite.name, composite.tier));
        let tiers: BTreeMap<&String, Tier> = alarms.chain(composites).collect();
        let alarms = view.standings.iter().map(|(name, standing)| {
            let (state, since) = (standing.state.name(), standing.since.rfc3339());
            let tier = tiers.get(name).map(|tier| tier.name());
            json!({"name": name, "tier": tier, "state": state, "since": since, "reason": standing.reason})
        });
        Value::Array(alarms.collect())
    }

    /// What became of the messages about those alarms.
    fn alerts(&self) -> Value {
        let Some(view) = self.snapshot.and_then(|snapshot| snapshot.alarms.as_ref()) else { return Value::Null };
        let faults = view.faults.iter().map(|(way, fault)| json!({"way": way, "fault": fault}));
        json!({
            "delivered": view.delivered,
            "waiting": view.waiting,
            "lost": view.lost,
            "faults": faults.collect::<Vec<Value>>(),
        })
    }

    fn faults(&self) -> Value {
        let Some(snapshot) = self.snapshot else { return Value::Null };
        let faults = snapshot
            .faults
            .iter()
            .map(|((kind, side), count)| json!({"kind": kind.name(), "side": side.name(), "count": count}));
        Value::Array(faults.collect())
    }
}

fn rule_report(rule: &crate::plan::route::Rule, totals: Option<&Totals>) -> Value {
    let of_rule = totals.map(|totals| totals.by_rule.get(&rule.id).cloned().unwrap_or_default());
    json!({
        "id": rule.id.as_str(),
        "target": rule.target.as_str(),
        "status": if rule.enabled { "enabled" } else { "disabled" },
        "pending": {
            "operations": of_rule.as_ref().map(|of| of.pending.operations),
            "bytes": of_rule.as_ref().map(|of| of.pending.bytes),
        },
        "failed": of_rule.as_ref().map(|of| of.parked.operations),
        "held": of_rule.as_ref().map(|of| of.held.operations),
        "replicated": {
            "operations": of_rule.as_ref().map(|of| of.replicated.operations),
            "bytes": of_rule.as_ref().map(|of| of.replicated.bytes),
        },
    })
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Reports from the running worker, else from the ledger that it left, else that nothing is known.
pub(super) async fn status(config: &Config, args: &args::Status) -> Result<Exit, Failure> {
    let report = look(config).await?;
    if args.json {
        say(report.json());
    } else {
        say(table(&report.0));
    }
    Ok(Exit::Done)
}

async fn look(config: &Config) -> Result<Report, Failure> {
    match reach(config, &json!({"ask": "status"}), Absent::Left).await? {
        Reached::Worker(answer) => Ok(Report(answer)),
        Reached::Ledger(ledger) => Report::of_ledger(config, &ledger),
        Reached::Nothing => Ok(Report::unknown(config)),
        Reached::Silence => {
            tracing::warn!("{}", silence());
            Ok(Report::unknown(config))
        }
    }
}

/// What an operator has set, or has to see to.
fn operator_lines(report: &Value) -> String {
    let mut text = String::new();
    if report.get("paused").and_then(Value::as_bool) == Some(true) {
        let until = report.get("paused_until").and_then(Value::as_str).unwrap_or("`repl resume`");
        text.push_str(&format!("paused until  {until}\n"));
    }
    if let Some(limits) = report.get("limits").filter(|limits| limits.is_object()) {
        let [bandwidth, requests, concurrency] =
            ["bandwidth", "requests_per_second", "concurrency"].map(|name| limit::shown(limits, name));
        text.push_str(&format!(
            "limits        bandwidth {bandwidth}, requests per second {requests}, concurrency {concurrency}\n"
        ));
    }
    for group in report.get("groups").and_then(Value::as_array).into_iter().flatten() {
        let number = |name: &str| group.get(name).and_then(Value::as_u64).unwrap_or(0);
        let cause = group.get("cause").and_then(Value::as_str).unwrap_or_default();
        text.push_str(&format!("group {:<7} {} objects: {cause}\n", number("id"), number("count")));
    }
    if report.get("turned_away").and_then(Value::as_u64).unwrap_or(0) > 0 {
        text.push_str("quarantine    full: messages stay in the queue, see `repl failures`\n");
    }
    text
}

/// How late the target may be, and what the watch over the worker has to say.
fn watch_lines(report: &Value) -> String {
    let words =
        |value: &Value, place: &str| value.pointer(place).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let number = |place: &str| report.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let list = |place: &str| report.pointer(place).and_then(Value::as_array).into_iter().flatten();
    let rpo = report.pointer("/rpo/seconds").and_then(Value::as_f64);
    let mut text = match (rpo, report.pointer("/rpo/doubt").and_then(Value::as_str)) {
        (None, None) => "rpo           unknown\n".to_owned(),
        (None, Some(doubt)) => format!("rpo           unknown: {doubt}\n"),
        (Some(seconds), None) => format!("rpo           {seconds:.3} s\n"),
        (Some(seconds), Some(doubt)) => format!("rpo           {seconds:.3} s, not exactly: {doubt}\n"),
    };
    if let Some(fault) = report.pointer("/metrics/fault").and_then(Value::as_str) {
        let last = report.pointer("/metrics/last_sent").and_then(Value::as_str).unwrap_or("never");
        let missed = number("/metrics/missed");
        text.push_str(&format!("metrics fault {fault} ({missed} intervals missed, last taken: {last})\n"));
    }
    if report.get("alarms").is_some_and(Value::is_array) {
        let states = [State::Ok, State::Alarm, State::InsufficientData].map(State::name);
        let counts = states.map(|state| {
            let so_many = list("/alarms").filter(|alarm| alarm.get("state").and_then(Value::as_str) == Some(state));
            format!("{} {state}", so_many.count())
        });
        text.push_str(&format!("alarms        {}\n", counts.join(", ")));
    }
    for alarm in list("/alarms").filter(|alarm| words(alarm, "/state") == State::Alarm.name()) {
        let [name, since, reason] = ["/name", "/since", "/reason"].map(|place| words(alarm, place));
        text.push_str(&format!("alarm         {name} since {since}: {reason}\n"));
    }
    if number("/alerts/waiting") + number("/alerts/lost") > 0 {
        let (waiting, lost) = (number("/alerts/waiting"), number("/alerts/lost"));
        text.push_str(&format!("alerts        {waiting} wait to be delivered, {lost} given up\n"));
    }
    for fault in list("/alerts/faults") {
        text.push_str(&format!("alert fault   {}: {}\n", words(fault, "/way"), words(fault, "/fault")));
    }
    text
}

/// The same for a person.
fn table(report: &Value) -> String {
    let told = |path: &str| match report.pointer(path) {
        None | Some(Value::Null) => "unknown".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.3} s", number.as_f64().unwrap_or_default())
        }
        Some(other) => other.to_string(),
    };
    let caught_up = match report.get("caught_up").and_then(Value::as_bool) {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    let mut text = format!(
        "state         {}\ncaught up     {caught_up}\npending       {} operations, {} bytes, oldest {}\nfailed        {}\n\
         replicated    {} operations, {} bytes\nlatency       p50 {}, p99 {}, max {}\nqueue         {} visible, {} in flight\n",
        told("/state"),
        told("/pending/operations"),
        told("/pending/bytes"),
        told("/pending/oldest_age_seconds"),
        told("/failed"),
        told("/replicated/operations"),
        told("/replicated/bytes"),
        told("/latency_seconds/p50"),
        told("/latency_seconds/p99"),
        told("/latency_seconds/max"),
        told("/queue/visible"),
        told("/queue/in_flight"),
    );
    text.push_str(&watch_lines(report));
    text.push_str(&operator_lines(report));
    for (name, label) in [("quarantined", "quarantined"), ("unprovable", "unprovable"), ("unstamped", "unstamped")] {
        if report.get(name).and_then(Value::as_u64).unwrap_or(0) > 0 {
            text.push_str(&format!("{label:<13} {}\n", told(&format!("/{name}"))));
        }
    }
    if report.pointer("/brake/state").and_then(Value::as_str) == Some("held") {
        text.push_str(&brake::text(report.get("brake").unwrap_or(&Value::Null)));
    }
    if report.get("receipts").is_some_and(Value::is_object) {
        text.push_str(&format!(
            "receipts      {} written, {} lost, {} files wait for their upload\n",
            told("/receipts/written"),
            told("/receipts/lost"),
            told("/receipts/files_waiting"),
        ));
    }
    if let Some(fault) = report.pointer("/receipts/fault").and_then(Value::as_str) {
        text.push_str(&format!("receipt fault {fault}\n"));
    }
    if report.get("canary").is_some_and(Value::is_object) {
        let (seen, latency) = (told("/canary/last_seen"), told("/canary/latency_seconds"));
        text.push_str(&format!("canary        last seen {seen}, after {latency}\n"));
    }
    if let Some(fault) = report.pointer("/canary/fault").and_then(Value::as_str) {
        text.push_str(&format!("canary fault  {fault}\n"));
    }
    if let Some(fault) = report.pointer("/queue/fault").and_then(Value::as_str) {
        text.push_str(&format!("queue fault   {fault}; `repl check` tells what mends it\n"));
    }
    if let Some(count) = report.pointer("/queue/dead_letters").and_then(Value::as_u64).filter(|count| *count > 0) {
        text.push_str(&format!(
            "dead letters  {count}: changes in them may be missing; `repl check` tells what to do\n"
        ));
    }
    for (place, rule) in report.get("rules").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let id = rule.get("id").and_then(Value::as_str).unwrap_or_default();
        text.push_str(&format!(
            "rule          {id}: {} pending, {} failed, {} replicated\n",
            told(&format!("/rules/{place}/pending/operations")),
            told(&format!("/rules/{place}/failed")),
            told(&format!("/rules/{place}/replicated/operations")),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is well takes one line, what is not is told with its reason.
    #[test]
    fn a_person_is_told_how_late_the_target_is_and_what_alarms() {
        let alarm =
            |name: &str, state: &str| json!({"name": name, "state": state, "since": "T", "reason": "too many."});
        let report = json!({
            "rpo": {"seconds": 65.0, "doubt": "the queue was last seen through at T"},
            "metrics": {"last_sent": "T", "missed": 3, "fault": "it was refused"},
            "alarms": [alarm("r-A", "OK"), alarm("r-B", "ALARM"), alarm("r-C", "INSUFFICIENT_DATA")],
            "alerts": {"delivered": 1, "waiting": 2, "lost": 0, "faults": [{"way": "webhook", "fault": "no answer"}]},
        });
        assert_eq!(
            watch_lines(&report),
            "rpo           65.000 s, not exactly: the queue was last seen through at T\n\
             metrics fault it was refused (3 intervals missed, last taken: T)\n\
             alarms        1 OK, 1 ALARM, 1 INSUFFICIENT_DATA\n\
             alarm         r-B since T: too many.\n\
             alerts        2 wait to be delivered, 0 given up\n\
             alert fault   webhook: no answer\n"
        );
        let well =
            json!({"rpo": {"seconds": 0.0, "doubt": null}, "metrics": {"last_sent": "T", "missed": 0, "fault": null}});
        assert_eq!(watch_lines(&well), "rpo           0.000 s\n");
    }

    #[test]
    fn a_canary_is_told_with_one_unit() {
        let report = json!({"canary": {"last_seen": "T", "latency_seconds": 2.12, "fault": null}});
        assert!(table(&report).contains("canary        last seen T, after 2.120 s\n"), "{}", table(&report));
        let unseen = json!({"canary": {"last_seen": null, "latency_seconds": null, "fault": "it did not come"}});
        let text = table(&unseen);
        assert!(text.contains("last seen unknown, after unknown\ncanary fault  it did not come\n"), "{text}");
    }
}
