//! What people and machines are told of an alarm: JSON in the shape of CloudWatch's own message, and the same in words.

use serde_json::{Value, json};

use super::evaluate::{Evaluator, Notice, Occasion};
use super::{Alarm, AlarmId, Composite, Settings, Signal, Standing, State, Tier};
use crate::model::object::Timestamp;
use crate::ports::{Alert, Dimension};

/// SNS takes a subject below 100 characters (aws-semantics 7.4).
const SUBJECT: usize = 99;

/// The message of a notice, made at `now`; `region` is where monitoring lives.
#[must_use]
pub fn alert(
    notice: &Notice,
    evaluator: &Evaluator,
    settings: &Settings,
    region: &str,
    now: Timestamp,
) -> Option<Alert> {
    let definitions = evaluator.definitions();
    let alarm = definitions.alarms.iter().find(|alarm| alarm.id == notice.id);
    let composite = definitions.composites.iter().find(|composite| composite.id == notice.id);
    let (tier, description, what) = match (alarm, composite) {
        (Some(alarm), _) => (alarm.tier, &alarm.description, trigger(alarm)),
        (None, Some(composite)) => (composite.tier, &composite.description, rule(composite)),
        (None, None) => return None,
    };
    let mut message = json!({
        "AlarmName": notice.id.full_name(&settings.prefix),
        "AlarmDescription": description,
        "AWSAccountId": null,
        "NewStateValue": notice.standing.state.name(),
        "NewStateReason": notice.standing.reason,
        "StateChangeTime": notice.standing.since.rfc3339(),
        "Region": region,
        "AlarmArn": null,
        "OldStateValue": notice.before.name(),
        "Tier": tier.name(),
        "Occasion": occasion(notice.occasion),
        "SourceBucket": settings.source_bucket,
        "SentAt": now.rfc3339(),
    });
    if let (Some(fields), Value::Object(what)) = (message.as_object_mut(), what) {
        fields.extend(what);
    }
    Some(Alert {
        tier,
        subject: subject(notice, settings),
        text: text(notice, settings, (tier, description), now),
        json: message.to_string(),
    })
}

fn occasion(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::Transition => "transition",
        Occasion::Reminder => "reminder",
    }
}

fn trigger(alarm: &Alarm) -> Value {
    let mut trigger = json!({
        "Period": alarm.period.as_secs(),
        "EvaluationPeriods": alarm.evaluation_periods,
        "DatapointsToAlarm": alarm.datapoints_to_alarm,
        "ComparisonOperator": alarm.comparison.name(),
        "Threshold": alarm.threshold,
        "TreatMissingData": alarm.missing.name(),
    });
    let more = match &alarm.signal {
        Signal::Series(series) => json!({
            "MetricName": series.metric,
            "Namespace": series.namespace,
            "StatisticType": "Statistic",
            "Statistic": series.statistic.name().to_uppercase(),
            "Unit": null,
            "Dimensions": series.dimensions.iter().map(dimension).collect::<Vec<Value>>(),
        }),
        Signal::Math { expression, label, .. } => json!({"Expression": expression, "Label": label}),
    };
    if let (Some(fields), Value::Object(more)) = (trigger.as_object_mut(), more) {
        fields.extend(more);
    }
    json!({ "Trigger": trigger })
}

fn dimension(dimension: &Dimension) -> Value {
    json!({"value": dimension.value, "name": dimension.name})
}

fn rule(composite: &Composite) -> Value {
    let children: Vec<&str> = composite.rule.children().into_iter().map(AlarmId::name).collect();
    json!({"AlarmRule": composite.rule.to_string(), "TriggeringChildren": children})
}

fn subject(notice: &Notice, settings: &Settings) -> String {
    let still = match notice.occasion {
        Occasion::Transition => "",
        Occasion::Reminder => "still ",
    };
    let name = notice.id.full_name(&settings.prefix);
    let said = format!("{still}{}: {name} ({})", notice.standing.state.name(), settings.source_bucket);
    said.chars().map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' }).take(SUBJECT).collect()
}

fn text(notice: &Notice, settings: &Settings, (tier, description): (Tier, &str), now: Timestamp) -> String {
    let Standing { state, since, reason } = &notice.standing;
    let opening = match (state, notice.occasion) {
        (State::Alarm, Occasion::Transition) => description.to_owned(),
        (State::Alarm, Occasion::Reminder) => format!("Still so, since {}: {description}", since.rfc3339()),
        (State::Ok | State::InsufficientData, _) => {
            "It is over: the values are within the threshold again. Nothing more to do.".to_owned()
        }
    };
    format!(
        "{opening}\n\nAlarm:   {}\nState:   {} (before: {})\nSince:   {}\nReason:  {reason}\nBucket:  {}\nTier:    {}\n\
         Sent:    {} by the worker itself\n",
        notice.id.full_name(&settings.prefix),
        state.name(),
        notice.before.name(),
        since.rfc3339(),
        settings.source_bucket,
        tier.name(),
        now.rfc3339(),
    )
}

#[cfg(test)]
mod tests;
