//! What no single value can tell: rules against targets, keys against regions, sides against each other.
//!
//! A check that needs a value which was missing or refused stays silent: that value's own error says enough.

use std::collections::BTreeSet;
use std::time::Duration;

use super::errors::unknown;
use super::file::{File, join};
use super::kinds::{Address, Arn, DAY, is_aws_region};
use super::settings::{Config, Connection, Target, Tier};
use super::units::{show_duration, show_size};
use crate::plan::route::{Rule, overlap};

mod lifecycle;

/// S3's least part but the last is 5 MiB (aws-semantics 3.1); parts are 8 MiB, and one must fit twice.
const LEAST_MEMORY: u64 = 16 << 20;
/// S3 takes at most ten tags for an object, so a rule with more could never match (aws-semantics 3.1).
const MOST_TAGS: usize = 10;
/// S3 allows a key 1,024 bytes (aws-semantics 3.1).
const LONGEST_KEY: usize = 1024;
/// Native replication takes so many for a bucket (PutBucketReplication). Each is held against all others here, and every
/// event against all.
const MOST_RULES: usize = 1000;
/// The storage classes that S3 knows in PutObject; directory buckets and Outposts have their own and are no targets.
pub(super) const STORAGE_CLASSES: [&str; 8] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
];

/// Every check.
pub(super) fn all(file: &File<'_>, config: &Config) {
    connections(file, config);
    queue(file, config);
    set_up_keys(file, config);
    targets(file, config);
    if config.rules.len() > MOST_RULES {
        let found = config.rules.len();
        file.refuse("rules", format!("{found} are too many, accepted are {MOST_RULES}, as native replication takes"));
    }
    for (nth, rule) in config.rules.iter().enumerate().take(MOST_RULES) {
        rule_alone(file, nth, rule);
        rule_against_sides(file, config, nth, rule);
        rule_against_rules(file, config, nth, rule);
    }
    bounds(file, config);
    escalation(file, config);
    lifecycle::all(file, &config.lifecycle);
}

fn connections(file: &File<'_>, config: &Config) {
    connection(file, "source", &config.source.connection);
    for target in &config.targets {
        connection(file, &join("targets", target.id.as_str()), &target.connection);
    }
    if let Some(queue) = &config.queue {
        connection(file, "queue", &queue.connection);
    }
    if let Some(receipts) = &config.receipts {
        connection(file, "receipts", &receipts.connection);
    }
    connection(file, "monitoring", &config.monitoring.connection);
}

fn connection(file: &File<'_>, path: &str, connection: &Connection) {
    let Connection { region, endpoint, role_arn, external_id, allow_http, .. } = connection;
    let address = endpoint.as_deref().and_then(|endpoint| Address::parse(endpoint).ok());
    if let Some(address) = address {
        if !address.path.is_empty() {
            file.refuse(&join(path, "endpoint"), "it has a path, accepted is scheme, host and port only");
        }
        if address.is_exposed() && !allow_http {
            file.refuse(
                &join(path, "endpoint"),
                "plain HTTP would cross the network in the clear, accepted is https:// or, with allow_http = true, this",
            );
        }
    } else if !region.is_empty() && !is_aws_region(region) && file.holds(&join(path, "region")) {
        let region_path = join(path, "region");
        file.refuse(
            &region_path,
            format!("{region:?} is no region of AWS, accepted is one such as \"eu-west-2\", or any with an endpoint"),
        );
    }
    if external_id.is_some() && role_arn.is_none() {
        file.refuse(&join(path, "external_id"), "it is of no use alone, accepted is external_id with a role_arn");
    }
}

fn queue(file: &File<'_>, config: &Config) {
    let Some(queue) = &config.queue else { return };
    let Ok(address) = Address::parse(&queue.url) else { return };
    if address.path.trim_matches('/').is_empty() {
        file.refuse(
            "queue.url",
            "it names no queue, accepted is a URL such as \"https://sqs.us-east-1.amazonaws.com/111122223333/repl-events\"",
        );
    }
    let told = address.host.strip_prefix("sqs.").and_then(|rest| rest.split('.').next()).filter(|r| is_aws_region(r));
    let region = &queue.connection.region;
    if let Some(told) = told
        && !region.is_empty()
        && told != region
        && queue.connection.endpoint.is_none()
    {
        file.refuse(
            "queue.region",
            format!("it is {region:?} but queue.url is in {told:?}, accepted is region = {told:?}"),
        );
    }
}

/// Queues and topics are encrypted under keys of their own region.
fn set_up_keys(file: &File<'_>, config: &Config) {
    if let Some((queue, key)) = config.queue.as_ref().and_then(|queue| Some((queue, queue.kms_key.as_ref()?))) {
        key_region(file, "queue.kms_key", key, ("the queue", &queue.connection));
    }
    if let Some(key) = &config.escalation.kms_key {
        key_region(file, "escalation.kms_key", key, ("the topics", &config.monitoring.connection));
    }
}

fn targets(file: &File<'_>, config: &Config) {
    for (nth, target) in config.targets.iter().enumerate() {
        let twin = config.targets.iter().take(nth).find(|earlier| is_same_bucket(earlier, target));
        if let Some(twin) = twin {
            file.refuse(
                &join(&join("targets", target.id.as_str()), "bucket"),
                format!(
                    "it is the bucket of target {:?} too, accepted is one target per bucket, which may have many rules",
                    twin.id.as_str()
                ),
            );
        }
    }
}

fn is_same_bucket(one: &Target, other: &Target) -> bool {
    !one.bucket.is_empty() && one.bucket == other.bucket && one.connection.same_store(&other.connection)
}

fn rule_path(nth: usize, key: &str) -> String {
    join(&format!("rules[{nth}]"), key)
}

fn rule_alone(file: &File<'_>, nth: usize, rule: &Rule) {
    if rule.tags.len() > MOST_TAGS {
        let count = rule.tags.len();
        file.refuse(
            &rule_path(nth, "tags"),
            format!("there are {count}, accepted are at most 10, as S3 has for an object"),
        );
    }
    let length = rule.target_prefix.len() + rule.prefix.len();
    if length > LONGEST_KEY {
        file.refuse(
            &rule_path(nth, "target_prefix"),
            format!("with the rule's prefix it has {length} bytes, accepted are at most 1024, as S3 has for a key"),
        );
    }
}

fn rule_against_sides(file: &File<'_>, config: &Config, nth: usize, rule: &Rule) {
    let Some(target) = config.target(&rule.target) else {
        let known: Vec<&str> = config.targets.iter().map(|target| target.id.as_str()).collect();
        if !rule.target.as_str().is_empty() && !known.is_empty() {
            file.refuse(&rule_path(nth, "target"), unknown("target", rule.target.as_str(), &known));
        }
        return;
    };
    if let Some(key) = &rule.kms_key {
        key_region(file, &rule_path(nth, "kms_key"), key, ("the target", &target.connection));
    }
    for (source_key, target_key) in &rule.kms_map {
        let path = join(&rule_path(nth, "kms_map"), source_key);
        if config.source.connection.endpoint.is_none() {
            key_region(file, &path, source_key, ("the source", &config.source.connection));
        }
        key_region(file, &path, target_key, ("the target", &target.connection));
    }
    if let Some(class) = &rule.storage_class
        && target.connection.endpoint.is_none()
        && !STORAGE_CLASSES.contains(&class.as_str())
    {
        file.refuse(&rule_path(nth, "storage_class"), unknown("value", class, &STORAGE_CLASSES));
    }
    if rule.enabled && is_source(config, target) {
        loops(file, config, nth, rule);
    }
}

/// A KMS endpoint knows only keys of its own region (aws-semantics 7.5).
fn key_region(file: &File<'_>, path: &str, key: &str, (side, connection): (&str, &Connection)) {
    let Some(arn) = Arn::parse(key) else { return };
    let region = &connection.region;
    if !region.is_empty() && arn.region != region {
        let found = arn.region;
        file.refuse(
            path,
            format!("the key {key:?} is in {found:?} but {side} in {region:?}, accepted is a key in {region:?}"),
        );
    }
}

fn is_source(config: &Config, target: &Target) -> bool {
    let source = &config.source;
    !source.bucket.is_empty() && source.bucket == target.bucket && source.connection.same_store(&target.connection)
}

/// A rule that writes into the source bucket must write where no such rule reads, or its replicas are replicated again.
fn loops(file: &File<'_>, config: &Config, nth: usize, rule: &Rule) {
    let written = format!("{}{}", rule.target_prefix, rule.prefix);
    let reads_it =
        |other: &&Rule| other.enabled && config.target(&other.target).is_some_and(|target| is_source(config, target));
    let claims = config.rules.iter().filter(reads_it).find(|other| overlap(&written, &other.prefix));
    if let Some(other) = claims {
        file.refuse(
            &rule_path(nth, "target"),
            format!(
                "it is the source bucket itself, and what this rule writes under {written:?} rule {:?} would replicate \
                 again without end, accepted is another bucket, or a prefix and target_prefix that keep them apart",
                other.id.as_str()
            ),
        );
    }
}

fn rule_against_rules(file: &File<'_>, config: &Config, nth: usize, rule: &Rule) {
    if rule.id.as_str().is_empty() {
        return;
    }
    // The first one of each kind says enough: who mends that finds the next.
    let earlier = || config.rules.iter().enumerate().take(nth);
    if let Some((before, _)) = earlier().find(|(_, earlier)| earlier.id == rule.id) {
        let id = rule.id.as_str();
        file.refuse(
            &rule_path(nth, "id"),
            format!("{id:?} is the id of rules[{before}] too, accepted is an id of its own"),
        );
    }
    let rivals = |earlier: &Rule| {
        let same = earlier.enabled && rule.enabled && earlier.target == rule.target;
        same && earlier.priority == rule.priority && earlier.meets(rule)
    };
    if let Some((before, _)) = earlier().find(|(_, earlier)| rivals(earlier)) {
        file.refuse(
            &rule_path(nth, "priority"),
            format!(
                "it is {} as in rules[{before}], which has the same target and can claim the same keys, accepted is a \
                 priority of its own",
                rule.priority
            ),
        );
    }
}

fn bounds(file: &File<'_>, config: &Config) {
    let memory = config.transfer.memory;
    if memory < LEAST_MEMORY {
        file.refuse(
            "transfer.memory",
            format!("{:?} does not hold one part twice, accepted is \"16MiB\" or more", show_size(memory)),
        );
    }
    let second = Duration::from_secs(1);
    at_least(file, "monitoring.interval", config.monitoring.interval, second);
    at_least(file, "sla.threshold", config.sla.threshold, second);
    at_least(file, "canary.every", config.canary.map_or(second, |canary| canary.every), second);
}

fn at_least(file: &File<'_>, path: &str, found: Duration, least: Duration) {
    if found < least {
        let (found, least) = (show_duration(found), show_duration(least));
        file.refuse(path, format!("{found:?} is too short, accepted is {least:?} or more"));
    }
}

fn escalation(file: &File<'_>, config: &Config) {
    let escalation = &config.escalation;
    let region = &config.monitoring.connection.region;
    for (tier, hears) in escalation.tiers() {
        let Some(Tier::Topic(topic)) = hears else { continue };
        let found = Arn::parse(topic).map_or("", |arn| arn.region);
        if !region.is_empty() && found != region {
            file.refuse(
                &join(&join("escalation", tier.name()), "topic_arn"),
                format!(
                    "the topic is in {found:?} but alarms live in monitoring.region {region:?} and reach only topics \
                     there, accepted is a topic in {region:?}"
                ),
            );
        }
    }
    let webhook = escalation.webhook.as_ref().filter(|webhook| !webhook.allow_http);
    if webhook.is_some_and(|webhook| Address::parse(&webhook.url).is_ok_and(|address| address.is_exposed())) {
        file.refuse(
            "escalation.webhook.url",
            "plain HTTP would cross the network in the clear, accepted is https:// or, with allow_http = true, this",
        );
    }
    period(file, escalation.period, escalation.thresholds.worker_silent.get());
    let (interval, period) = (config.monitoring.interval, escalation.period);
    if interval > period {
        let (interval, period) = (show_duration(interval), show_duration(period));
        file.refuse(
            "monitoring.interval",
            format!(
                "{interval:?} would leave evaluation periods of {period:?} without data, accepted is at most \
                 escalation.period, {period:?}"
            ),
        );
    }
    at_least(file, "escalation.reminder", escalation.reminder.unwrap_or(escalation.period), escalation.period);
}

/// CloudWatch evaluates over 10, 20, 30 or whole minutes of seconds, and over a week at most, or a day where the period
/// is below an hour (aws-semantics 7.3).
fn period(file: &File<'_>, period: Duration, silent_periods: u32) {
    let seconds = period.as_secs();
    let whole = period.subsec_millis() == 0 && seconds > 0;
    let legal = whole && (matches!(seconds, 10 | 20 | 30) || seconds.is_multiple_of(60));
    let longest = if seconds < 3600 { DAY } else { DAY * 7 };
    let shown = show_duration(period);
    if !legal || period.saturating_mul(3) > longest {
        file.refuse(
            "escalation.period",
            format!("{shown:?} is no period of CloudWatch, accepted is \"10s\", \"20s\", \"30s\" or whole minutes up to \"2d8h\""),
        );
    } else if period.saturating_mul(silent_periods) > longest {
        let longest = show_duration(longest);
        file.refuse(
            "escalation.thresholds.WorkerSilent",
            format!("{silent_periods} periods of {shown:?} are too long for CloudWatch, accepted is up to {longest:?} in all"),
        );
    }
}

/// The names that occur twice, for lists whose elements have names.
pub(super) fn repeated<'n>(names: impl Iterator<Item = &'n str>) -> Vec<(usize, &'n str)> {
    let mut seen = BTreeSet::new();
    names.enumerate().filter(|(_, name)| !name.is_empty() && !seen.insert(*name)).collect()
}
