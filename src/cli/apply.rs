//! `repl apply`: brings AWS to what the config wants, or takes away what it brought.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::aws::setup::Accounts;
use crate::aws::{Clients, Endpoint, HotPath};
use crate::config::{Config, Connection, LifecycleSide, Tier as Told};
use crate::desired::diff::{Leaf, leaves};
use crate::desired::{
    self, Action, Bucket, Change, EscalationSettings, Goal, Hears, LifecycleSettings, Outcome, Part, QueueSettings,
    Queues, Settings, SourceAlarms, Watcher,
};
use crate::model::fault::{Fault, Side};
use crate::ports::setup::{LifecycleRule, Place};
use crate::watch::alarms;

use super::args;
use super::progress::{complain, say};
use super::world::endpoint;
use super::{Exit, Failure, ask, monitor};

/// Longer values are cut in what is printed; `--json` has them whole.
const SHOWN: usize = 160;
/// As many lines for one change: more than any but a dashboard needs.
const MOST_LEAVES: usize = 40;

/// Applies or destroys as asked; the changes go to stdout.
pub(super) async fn apply(config: &Config, args: &args::Apply, verbose: u8) -> Result<Exit, Failure> {
    if args.part == args::Part::Notifications && config.queue.is_none() {
        return Err(Failure::usage(
            "there are no notifications without a queue: name one as [queue] url, and apply makes it if need be",
        ));
    }
    let changing = !args.dry_run;
    if args.destroy && changing && !args.yes && !ask::is_somebody_there() {
        return Err(Failure::usage(
            "there is no terminal to ask on whether to remove anything: look with --dry-run, then give --yes",
        ));
    }
    let estate = accounts(config).await?;
    let settings = settings(config);
    let queues = if args.queue { Queues::Go } else { Queues::Stay };
    let goal = if args.destroy { Goal::Gone(queues) } else { Goal::There };
    let parts = parts(args.part);
    let show = |change: &Change| {
        if !args.json {
            print_change(change, verbose > 0);
        }
    };
    let mut changes = tokio::select! {
        changes = desired::survey(&estate, &settings, &parts, goal, show) => changes,
        _ = tokio::signal::ctrl_c() => return Ok(interrupted("nothing was changed")),
    };
    let planned = changes.iter().filter(|change| change.outcome == Outcome::Planned).count();
    if changing && planned > 0 {
        if args.destroy && !args.yes && !confirmed(planned)? {
            complain("repl: nothing was removed");
            return Ok(Exit::Differs);
        }
        let told = |change: &Change| {
            if !args.json {
                print_outcome(change);
            }
        };
        tokio::select! {
            () = desired::carry_out(&estate, &mut changes, told) => {}
            _ = tokio::signal::ctrl_c() => {
                return Ok(interrupted("the change under way may be half done: run it again to go on"));
            }
        }
    }
    let count = |is: fn(&Outcome) -> bool| changes.iter().filter(|change| is(&change.outcome)).count();
    let applied = count(|outcome| *outcome == Outcome::Applied);
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    if args.json {
        let changes: Vec<Value> = changes.iter().map(told).collect();
        say(json!({"changes": changes, "applied": applied, "failed": failed, "skipped": skipped}));
    } else {
        let undone = if changing { String::new() } else { format!("{planned} to be changed (a dry run), ") };
        say(format_args!("{undone}{applied} changed, {failed} failed, {skipped} skipped, {} looked at", changes.len()));
    }
    Ok(if failed > 0 { Exit::Differs } else { Exit::Done })
}

fn interrupted(what: &str) -> Exit {
    complain(format_args!("repl: interrupted: {what}"));
    Exit::Interrupted
}

fn parts(part: args::Part) -> BTreeSet<Part> {
    let only = |part| BTreeSet::from([part]);
    match part {
        args::Part::Notifications => only(Part::Notifications),
        args::Part::Lifecycle => only(Part::Lifecycle),
        args::Part::Escalation => only(Part::Escalation),
        args::Part::Dashboards => only(Part::Dashboards),
        args::Part::All => BTreeSet::from(Part::ALL),
    }
}

fn confirmed(planned: usize) -> Result<bool, Failure> {
    let answer = ask::person(&format!("remove or change these {planned}? Only \"yes\" goes on: "))?;
    Ok(answer.as_deref() == Some("yes"))
}

// What is printed ------------------------------------------------------------------------------------------------------

fn told(change: &Change) -> Value {
    let reason = match &change.outcome {
        Outcome::Failed(reason) | Outcome::Skipped(reason) => Some(reason),
        Outcome::Equal | Outcome::Planned | Outcome::Applied => None,
    };
    json!({
        "kind": change.kind(),
        "name": change.name(),
        "region": change.region,
        "action": change.action.name(),
        "before": change.before(),
        "after": change.after(),
        "outcome": change.outcome.name(),
        "reason": reason,
        "notes": change.notes,
    })
}

fn title(change: &Change) -> String {
    format!("{} {} ({})", change.kind(), change.name(), change.region)
}

fn print_change(change: &Change, with_equal: bool) {
    let sign = match change.action {
        Action::Create => '+',
        Action::Update => '~',
        Action::Delete => '-',
        Action::None => '=',
    };
    match &change.outcome {
        Outcome::Equal if !with_equal && change.notes.is_empty() => return,
        Outcome::Failed(reason) => say(format_args!("! {}: {reason}", title(change))),
        Outcome::Skipped(reason) => say(format_args!("? {}: skipped, {reason}", title(change))),
        Outcome::Equal | Outcome::Planned | Outcome::Applied => say(format_args!("{sign} {}", title(change))),
    }
    if change.action != Action::Delete {
        let leaves = leaves(&change.before(), &change.after());
        for leaf in leaves.iter().take(MOST_LEAVES) {
            say(format_args!("    {}", line(leaf)));
        }
        if let Some(more) = leaves.len().checked_sub(MOST_LEAVES).filter(|more| *more > 0) {
            say(format_args!("    … and {more} more: --json has all"));
        }
    }
    for note in &change.notes {
        say(format_args!("    note: {note}"));
    }
}

fn line(leaf: &Leaf) -> String {
    let Leaf { path, before, after } = leaf;
    match (before.as_ref().map(short), after.as_ref().map(short)) {
        (Some(before), Some(after)) => format!("{path}: {before} -> {after}"),
        (None, Some(after)) => format!("{path}: {after}"),
        (Some(before), None) => format!("{path}: {before} -> nothing"),
        (None, None) => path.clone(),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

fn print_outcome(change: &Change) {
    match &change.outcome {
        Outcome::Applied => say(format_args!("done: {} {}", change.action.name(), title(change))),
        Outcome::Failed(reason) => say(format_args!("FAILED: {} {}: {reason}", change.action.name(), title(change))),
        Outcome::Equal | Outcome::Planned | Outcome::Skipped(_) => return,
    }
    // Those that the survey knew have been printed with it.
    for note in change.notes.iter().skip(change.surveyed_notes) {
        say(format_args!("    note: {note}"));
    }
}

// From the config ------------------------------------------------------------------------------------------------------

fn settings(config: &Config) -> Settings {
    let Config { source, queue, targets, rules, escalation, monitoring, .. } = config;
    let bucket = |place, name: &String, connection: &Connection| Bucket {
        place,
        bucket: name.clone(),
        region: connection.region.clone(),
        measured: connection.endpoint.is_none() || monitoring.connection.endpoint.is_some(),
    };
    let enabled: Vec<_> = rules.iter().filter(|rule| rule.enabled).collect();
    let writes_to = |rule: &&crate::plan::route::Rule| {
        let target = config.target(&rule.target)?;
        Some((rule.id.clone(), target.bucket.clone()))
    };
    Settings {
        prefix: escalation.prefix.clone(),
        partition: source.connection.partition(),
        source: bucket(Place::Source, &source.bucket, &source.connection),
        source_owner: source.connection.expected_bucket_owner.clone(),
        targets: targets
            .iter()
            .map(|target| bucket(Place::Target(target.id.clone()), &target.bucket, &target.connection))
            .collect(),
        queue_region: queue.as_ref().map_or(&source.connection.region, |queue| &queue.connection.region).clone(),
        queue: queue.as_ref().map(|queue| QueueSettings {
            url: queue.url.clone(),
            kms_key: queue.kms_key.clone(),
            max_receives: queue.max_receives,
        }),
        rule_prefixes: enabled.iter().map(|rule| rule.prefix.clone()).collect(),
        rules: enabled.iter().filter_map(writes_to).collect(),
        lifecycle: lifecycle(config),
        escalation: escalation_settings(config),
    }
}

fn lifecycle(config: &Config) -> LifecycleSettings {
    let lifecycle = &config.lifecycle;
    let rule = |rule: &crate::config::LifecycleRule| LifecycleRule {
        enabled: true,
        prefix: rule.prefix.clone(),
        transitions: rule.transitions.iter().map(|step| (step.days, step.storage_class.clone())).collect(),
        expire_days: rule.expire_days,
        noncurrent_expire_days: rule.noncurrent_expire_days,
        abort_multipart_days: rule.abort_multipart_days,
        further: None,
    };
    let places = lifecycle.apply_to.iter().flat_map(|side| match side {
        LifecycleSide::Source => vec![Place::Source],
        LifecycleSide::Target => config.targets.iter().map(|target| Place::Target(target.id.clone())).collect(),
    });
    LifecycleSettings {
        places: places.collect(),
        rules: lifecycle.rules.iter().map(|one| (one.id.clone(), rule(one))).collect(),
        tiering: lifecycle.intelligent_tiering.map(|tiering| (tiering.archive_days, tiering.deep_archive_days)),
    }
}

fn escalation_settings(config: &Config) -> EscalationSettings {
    let escalation = &config.escalation;
    let hears = |told: Option<&Told>| match told {
        Some(Told::Emails(emails)) => Hears::Emails(emails.clone()),
        Some(Told::Topic(arn)) => Hears::Topic(arn.clone()),
        None => Hears::Nobody,
    };
    EscalationSettings {
        region: config.monitoring.connection.region.clone(),
        watcher: if config.monitoring.cloudwatch { Watcher::CloudWatch } else { Watcher::Worker },
        tiers: escalation.tiers().into_iter().map(|(tier, told)| (tier, hears(told))).collect(),
        kms_key: escalation.kms_key.clone(),
        forwarding_role: escalation.forwarding_role_arn.clone(),
        source_alarms: source_alarms(config),
        definitions: alarms::definitions(&monitor::definitions(config)),
        sla_seconds: config.sla.threshold.as_secs(),
        namespace: config.monitoring.namespace.clone(),
        period_seconds: escalation.period.as_secs(),
    }
}

fn source_alarms(config: &Config) -> SourceAlarms {
    let (source, monitoring) = (&config.source.connection, &config.monitoring.connection);
    if source.endpoint.is_some() && monitoring.endpoint.is_none() {
        let reason = "CloudWatch has no metrics of the source: it is no bucket of AWS";
        SourceAlarms::Nowhere(reason.to_owned())
    } else if source.region == monitoring.region && source.same_identity(monitoring) {
        SourceAlarms::Together
    } else {
        SourceAlarms::Apart
    }
}

/// CloudWatch and SNS in the source's region, as whoever reads the source. An emulator's one endpoint has all services.
fn source_monitoring(config: &Config) -> Connection {
    let source = &config.source.connection;
    let endpoint = source.endpoint.as_ref().and(config.monitoring.connection.endpoint.clone());
    Connection { endpoint, ..source.clone() }
}

/// A connection to every account. Nothing is sent yet.
async fn accounts(config: &Config) -> Result<Accounts, Fault> {
    let clients = Clients::new();
    let connect = async |connection: &Connection, side: Side| -> Result<(_, Endpoint), Fault> {
        let endpoint = endpoint(connection, side, HotPath::Sdk);
        Ok((clients.sdk_config(&endpoint).await?, endpoint))
    };
    let mut accounts = Accounts::of(&*config.escalation.prefix);
    let (sdk, place) = connect(&config.source.connection, Side::Source).await?;
    accounts.add_bucket(Place::Source, &sdk, &place);
    for target in &config.targets {
        let (sdk, place) = connect(&target.connection, Side::Target).await?;
        accounts.add_bucket(Place::Target(target.id.clone()), &sdk, &place);
    }
    let mut source_identity = config.source.connection.clone();
    if let Some(queue) = &config.queue {
        let (sdk, place) = connect(&queue.connection, Side::Queue).await?;
        accounts.add_queues(&sdk, &place);
        accounts.add_identity(Place::Queue, &sdk, &place);
        // A store of its own seldom has STS; where its events go to there is one.
        if source_identity.endpoint.is_some() {
            source_identity.endpoint.clone_from(&queue.connection.endpoint);
        }
    }
    let (sdk, place) = connect(&source_identity, Side::Source).await?;
    accounts.add_identity(Place::Source, &sdk, &place);
    for (place, connection) in [
        (Place::Monitoring, config.monitoring.connection.clone()),
        (Place::SourceMonitoring, source_monitoring(config)),
    ] {
        let (sdk, endpoint) = connect(&connection, Side::Monitoring).await?;
        accounts.add_identity(place.clone(), &sdk, &endpoint);
        accounts.add_services(place, &sdk, &endpoint);
    }
    Ok(accounts)
}
