//! Who hears of what: topics, alarms, and the forwarding of alarms to the source's region.

use std::collections::BTreeMap;

use serde_json::json;

use super::wish::{TopicWish, Want, Wish};
use super::{Accounts, Settings};
use crate::model::fault::Fault;
use crate::ports::setup::{
    self, Actions, Document, EventRule, EventTarget, Kind, Measure, Place, Query, Resource, Role,
};
use crate::watch::alarms::{self, Alarm, AlarmId, Composite, Definitions, Series, Signal, Tier};

/// IAM's and EventBridge's limit for a name.
const LONGEST_NAME: usize = 64;
/// The id of our target within the rule.
const TARGET: &str = "source-region";

/// Alarms and who hears of them.
#[derive(Clone, Debug)]
pub struct EscalationSettings {
    /// Where our own metrics and their alarms are.
    pub region: String,
    /// Who evaluates the alarms.
    pub watcher: Watcher,
    /// Who hears in each tier.
    pub tiers: BTreeMap<Tier, Hears>,
    /// The key that topics are encrypted under; `None` for none.
    pub kms_key: Option<String>,
    /// A role that may send events to the source's region; `None` to make one.
    pub forwarding_role: Option<String>,
    /// Where the alarms on the source bucket's own metrics go.
    pub source_alarms: SourceAlarms,
    /// Every alarm and composite.
    pub definitions: Definitions,
    /// What was promised, for the dashboards: seconds.
    pub sla_seconds: u64,
    /// The namespace of our own metrics.
    pub namespace: String,
    /// One evaluation period, in seconds.
    pub period_seconds: u64,
}

impl EscalationSettings {
    /// Whether there is a topic to make.
    pub(super) fn has_topics(&self) -> bool {
        self.tiers.values().any(|hears| matches!(hears, Hears::Emails(_)))
    }
}

/// Who evaluates the alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// CloudWatch.
    CloudWatch,
    /// The worker itself; topics are made for those it writes to.
    Worker,
}

/// Who hears in one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hears {
    /// These addresses, by a topic of ours.
    Emails(Vec<String>),
    /// Whoever is subscribed to this topic, by ARN, which is not touched.
    Topic(String),
    /// Nobody yet: a topic of ours without subscriptions.
    Nobody,
}

/// Where the alarms on the source bucket's own metrics go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAlarms {
    /// In the monitoring region, which is the source's too, in one account.
    Together,
    /// In the source's region or account, with a topic of their own.
    Apart,
    /// Nowhere: why.
    Nowhere(String),
}

pub(super) fn wishes(settings: &Settings, accounts: &Accounts) -> Vec<Wish> {
    let mut wishes = topics(settings, accounts);
    if settings.escalation.watcher == Watcher::Worker {
        let first = Resource::new(Kind::Alarm, Place::Monitoring, format!("{}-*", settings.prefix));
        let reason = "monitoring.cloudwatch is false: the worker evaluates the alarms itself; alarms that were made \
                      before stay until `repl apply escalation --destroy`, after which apply makes again what is wanted";
        wishes.push(Wish::new(first, Want::Unavailable(reason.to_owned())));
        return wishes;
    }
    wishes.extend(settings.escalation.definitions.alarms.iter().map(|alarm| self::alarm(settings, accounts, alarm)));
    let composites = &settings.escalation.definitions.composites;
    wishes.extend(composites.iter().map(|composite| self::composite(settings, accounts, composite)));
    wishes.extend(retired(settings).map(|alarm| gone(settings, alarm)));
    wishes.extend(forwarding(settings, accounts));
    wishes
}

/// Alarms that other settings would have, and these have not: what they made is no more wanted.
fn retired(settings: &Settings) -> impl Iterator<Item = Resource> {
    let Definitions { alarms, composites } = &settings.escalation.definitions;
    let is_wanted = |id| alarms.iter().any(|alarm| alarm.id == id) || composites.iter().any(|one| one.id == id);
    let names = AlarmId::ALL.into_iter().filter(move |id| !is_wanted(*id)).map(|id| id.full_name(&settings.prefix));
    names.map(|name| Resource::new(Kind::Alarm, Place::Monitoring, name))
}

fn gone(settings: &Settings, resource: Resource) -> Wish {
    Wish::new(resource, Want::Gone { made_by: Some(settings.prefix.clone()), sid: sid(settings) })
}

/// All that there may be, composites before their children: also what CloudWatch evaluated before the worker did.
pub(super) fn farewells(settings: &Settings) -> Vec<Wish> {
    let definitions = &settings.escalation.definitions;
    let composites = definitions.composites.iter().rev();
    let mut resources: Vec<Resource> = composites
        .map(|composite| Resource::new(Kind::CompositeAlarm, Place::Monitoring, &*composite.name))
        .chain(definitions.alarms.iter().map(|alarm| {
            let place = alarm_place(settings, alarm).unwrap_or(Place::Monitoring);
            Resource::new(Kind::Alarm, place, &*alarm.name)
        }))
        .chain(retired(settings))
        .collect();
    resources.extend(Tier::ALL.map(|tier| topic_resource(settings, Place::Monitoring, tier)));
    if settings.escalation.source_alarms == SourceAlarms::Apart {
        resources.push(topic_resource(settings, Place::SourceMonitoring, Tier::Standard));
    }
    let mut wishes: Vec<Wish> = resources.into_iter().map(|resource| gone(settings, resource)).collect();
    if is_forwarded(settings) {
        let [rule, role] = [Kind::EventRule, Kind::Role].map(|kind| forwarding_resource(settings, kind));
        wishes.push(gone(settings, rule.clone()));
        // Without its role a rule that stays would forward nothing, and say so to nobody.
        let ours = settings.escalation.forwarding_role.is_none();
        wishes.extend(ours.then(|| gone(settings, role).needs([rule])));
    }
    wishes
}

/// Where the worker evaluates the alarms there may be no account to look into. Then there is nothing to take back, unless
/// the config has topics made there.
pub(super) fn unseen(settings: &Settings, kind: Kind, fault: &Fault) -> Wish {
    let all = Resource::new(kind, Place::Monitoring, format!("{}-*", settings.prefix));
    let reason = format!("whether anything is left in the monitoring region could not be seen: {fault}");
    Wish::new(all, if settings.escalation.has_topics() { Want::Impossible(reason) } else { Want::Unavailable(reason) })
}

fn sid(settings: &Settings) -> String {
    format!("{}-cloudwatch", settings.prefix)
}

// Topics ---------------------------------------------------------------------------------------------------------------

fn topics(settings: &Settings, accounts: &Accounts) -> Vec<Wish> {
    let escalation = &settings.escalation;
    let mut wishes = Vec::new();
    for tier in Tier::ALL {
        let emails = match (escalation.tiers.get(&tier), escalation.watcher) {
            (Some(Hears::Topic(_)), _) => continue,
            (Some(Hears::Emails(emails)), _) => emails.clone(),
            (Some(Hears::Nobody) | None, Watcher::CloudWatch) => Vec::new(),
            (Some(Hears::Nobody) | None, Watcher::Worker) => continue,
        };
        wishes.push(topic(settings, accounts, topic_resource(settings, Place::Monitoring, tier), emails));
    }
    if escalation.source_alarms == SourceAlarms::Apart && escalation.watcher == Watcher::CloudWatch {
        let emails = match escalation.tiers.get(&Tier::Standard) {
            Some(Hears::Emails(emails)) => emails.clone(),
            Some(Hears::Topic(_) | Hears::Nobody) | None => Vec::new(),
        };
        let resource = topic_resource(settings, Place::SourceMonitoring, Tier::Standard);
        wishes.push(topic(settings, accounts, resource, emails));
    }
    wishes
}

fn topic(settings: &Settings, accounts: &Accounts, resource: Resource, emails: Vec<String>) -> Wish {
    let account = account(accounts, &resource.place);
    let region = settings.region(&resource.place);
    let partition = settings.partition;
    // A key is of one region; the topic in the other one goes without.
    let key = settings.escalation.kms_key.clone().filter(|key| key.split(':').nth(3).is_none_or(|of| of == region));
    let statement = json!({
        "Sid": sid(settings),
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": topic_arn(settings, accounts, &resource),
        "Condition": {
            "ArnLike": {"aws:SourceArn": format!("arn:{partition}:cloudwatch:{region}:{account}:alarm:*")},
            "StringEquals": {"aws:SourceAccount": account},
        },
    });
    let has_key = key.is_some();
    let want = TopicWish { key, statement, emails, prefix: settings.prefix.clone() };
    let wish = Wish::new(resource, Want::Topic(want));
    if has_key {
        return wish.noting(
            "the policy of its key must let cloudwatch.amazonaws.com use kms:Decrypt and kms:GenerateDataKey*, or \
             CloudWatch drops the message without a word",
        );
    }
    wish
}

fn topic_resource(settings: &Settings, place: Place, tier: Tier) -> Resource {
    Resource::new(Kind::Topic, place, format!("{}-{}", settings.prefix, tier.name()))
}

fn topic_arn(settings: &Settings, accounts: &Accounts, topic: &Resource) -> String {
    let (region, account) = (settings.region(&topic.place), account(accounts, &topic.place));
    format!("arn:{}:sns:{region}:{account}:{}", settings.partition, topic.name)
}

fn account<'a>(accounts: &'a Accounts, place: &Place) -> &'a str {
    match place {
        Place::Source | Place::Target(_) => &accounts.source,
        Place::Queue => &accounts.queue,
        Place::Monitoring => &accounts.monitoring,
        Place::SourceMonitoring => &accounts.source_monitoring,
    }
}

// Alarms ---------------------------------------------------------------------------------------------------------------

/// Who hears of a tier at a place: the ARN, and the topic if it is one of ours.
fn ears(settings: &Settings, accounts: &Accounts, place: &Place, tier: Tier) -> (Actions, Option<Resource>) {
    let existing = match (place, settings.escalation.tiers.get(&tier)) {
        (Place::Monitoring, Some(Hears::Topic(arn))) => Some(arn.clone()),
        _ => None,
    };
    let ours = existing.is_none().then(|| topic_resource(settings, place.clone(), tier));
    let arn = existing.or_else(|| ours.as_ref().map(|topic| topic_arn(settings, accounts, topic)));
    let hears: Vec<String> = arn.into_iter().collect();
    // Whoever was woken is told when it is over.
    let actions = Actions { enabled: true, alarm: hears.clone(), ok: hears, insufficient: Vec::new() };
    (actions, ours)
}

fn alarm_place(settings: &Settings, alarm: &Alarm) -> Result<Place, String> {
    match (alarm.place, &settings.escalation.source_alarms) {
        (alarms::Place::MonitoringRegion, _) | (alarms::Place::SourceRegion, SourceAlarms::Together) => {
            Ok(Place::Monitoring)
        }
        (alarms::Place::SourceRegion, SourceAlarms::Apart) => Ok(Place::SourceMonitoring),
        (alarms::Place::SourceRegion, SourceAlarms::Nowhere(reason)) => Err(reason.clone()),
    }
}

fn alarm(settings: &Settings, accounts: &Accounts, alarm: &Alarm) -> Wish {
    let place = match alarm_place(settings, alarm) {
        Ok(place) => place,
        Err(reason) => {
            let resource = Resource::new(Kind::Alarm, Place::Monitoring, &*alarm.name);
            return Wish::new(resource, Want::Unavailable(reason));
        }
    };
    let (actions, topic) = ears(settings, accounts, &place, alarm.tier);
    let period = u32::try_from(alarm.period.as_secs()).unwrap_or(u32::MAX);
    let statistic = |series: &Series| setup::Statistic {
        namespace: series.namespace.clone(),
        metric: series.metric.to_owned(),
        dimensions: series.dimensions.iter().map(|one| (one.name.to_owned(), one.value.clone())).collect(),
        statistic: series.statistic.name().to_owned(),
        period,
    };
    let measure = match &alarm.signal {
        Signal::Series(series) => Measure::Metric(statistic(series)),
        Signal::Math { inputs, id, expression, label } => {
            let mut queries: BTreeMap<String, Query> =
                inputs.iter().map(|(id, series)| (id.clone(), Query::Metric(statistic(series)))).collect();
            queries.insert(
                (*id).to_owned(),
                Query::Expression { expression: expression.clone(), label: (*label).to_owned() },
            );
            Measure::Math(queries)
        }
    };
    let document = setup::Alarm {
        description: alarm.description.clone(),
        measure: Some(measure),
        evaluation_periods: alarm.evaluation_periods,
        datapoints: alarm.datapoints_to_alarm,
        threshold: alarm.threshold,
        comparison: alarm.comparison.name().to_owned(),
        missing: alarm.missing.name().to_owned(),
        actions,
    };
    let resource = Resource::new(Kind::Alarm, place, &*alarm.name);
    Wish::new(resource, Want::Exact(Document::Alarm(document))).serves(topic)
}

fn composite(settings: &Settings, accounts: &Accounts, composite: &Composite) -> Wish {
    let (actions, topic) = ears(settings, accounts, &Place::Monitoring, composite.tier);
    let definitions = &settings.escalation.definitions;
    let children = composite.rule.children();
    let alarms = definitions.alarms.iter().filter(|alarm| children.contains(&alarm.id));
    let alarms = alarms.map(|alarm| Resource::new(Kind::Alarm, Place::Monitoring, &*alarm.name));
    let composites = definitions.composites.iter().filter(|other| children.contains(&other.id));
    let composites = composites.map(|other| Resource::new(Kind::CompositeAlarm, Place::Monitoring, &*other.name));
    let document =
        setup::CompositeAlarm { description: composite.description.clone(), rule: composite.rule.to_string(), actions };
    let resource = Resource::new(Kind::CompositeAlarm, Place::Monitoring, &*composite.name);
    Wish::new(resource, Want::Exact(Document::CompositeAlarm(document))).needs(alarms.chain(composites)).serves(topic)
}

// Forwarding -----------------------------------------------------------------------------------------------------------

fn is_forwarded(settings: &Settings) -> bool {
    settings.escalation.region != settings.source.region
}

fn forwarding_resource(settings: &Settings, kind: Kind) -> Resource {
    Resource::new(kind, Place::Monitoring, format!("{}-alarm-forwarding", settings.prefix))
}

/// Changes of our alarms also arrive on the default bus of the source's region (aws-semantics 8.5). The pattern names
/// alarms of the monitoring region only: what arrived there cannot match the same rule of a set-up the other way round.
fn forwarding(settings: &Settings, accounts: &Accounts) -> Vec<Wish> {
    if !is_forwarded(settings) {
        return Vec::new();
    }
    let (rule, role) = (forwarding_resource(settings, Kind::EventRule), forwarding_resource(settings, Kind::Role));
    let name = &rule.name;
    if name.len() > LONGEST_NAME {
        let reason = format!(
            "{name} is longer than the {LONGEST_NAME} letters that EventBridge and IAM allow: shorten escalation.prefix"
        );
        return vec![Wish::new(rule, Want::Impossible(reason))];
    }
    let (partition, prefix, account) = (settings.partition, &settings.prefix, &accounts.monitoring);
    let (here, there) = (&settings.escalation.region, &settings.source.region);
    let bus = format!("arn:{partition}:events:{there}:{account}:event-bus/default");
    let rule_arn = format!("arn:{partition}:events:{here}:{account}:rule/{name}");
    let mut wishes = Vec::new();
    let role_arn = settings.escalation.forwarding_role.clone().unwrap_or_else(|| {
        let document = Role {
            trust: json!({"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": account},
                    "ArnEquals": {"aws:SourceArn": rule_arn},
                },
            }]}),
            policy: json!({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "events:PutEvents", "Resource": bus},
            ]}),
            made_by: Some(prefix.clone()),
        };
        wishes.push(Wish::new(role.clone(), Want::Exact(Document::Role(document))));
        format!("arn:{partition}:iam::{account}:role/{name}")
    });
    let document = EventRule {
        description: format!("Alarms of {prefix} to {there}"),
        enabled: true,
        pattern: json!({
            "source": ["aws.cloudwatch"],
            "detail-type": ["CloudWatch Alarm State Change"],
            "resources": [{"prefix": format!("arn:{partition}:cloudwatch:{here}:{account}:alarm:{prefix}-")}],
            "detail": {"state": {"value": ["ALARM", "OK"]}},
        }),
        targets: BTreeMap::from([(TARGET.to_owned(), EventTarget { arn: bus, role: role_arn })]),
    };
    let needed: Vec<Resource> = wishes.iter().map(|wish: &Wish| wish.resource.clone()).collect();
    wishes.push(Wish::new(rule, Want::Exact(Document::EventRule(document))).needs(needed));
    wishes
}
