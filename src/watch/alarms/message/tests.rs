use super::*;
use crate::watch::alarms::evaluate::Remembered;
use crate::watch::alarms::tests::settings;
use std::collections::BTreeMap;

fn notice(id: AlarmId, before: State, state: State, occasion: Occasion) -> Notice {
    let standing = Standing { state, since: Timestamp(1_795_262_400_000), reason: "Datapoints: 3.".to_owned() };
    Notice { id, occasion, before, standing }
}

fn made(notice: &Notice, settings: &Settings) -> Alert {
    let evaluator = Evaluator::new(settings, None, BTreeMap::<AlarmId, Remembered>::new(), Timestamp(0));
    alert(notice, &evaluator, settings, "eu-west-2", Timestamp(1_795_262_401_000)).unwrap()
}

#[test]
fn the_message_has_the_shape_of_cloudwatchs() {
    let raised = notice(AlarmId::ReplicationFailure, State::Ok, State::Alarm, Occasion::Transition);
    let alert = made(&raised, &settings());
    let message: Value = serde_json::from_str(&alert.json).unwrap();
    for (path, expected) in [
        ("/AlarmName", json!("repl-ReplicationFailure")),
        ("/NewStateValue", json!("ALARM")),
        ("/OldStateValue", json!("OK")),
        ("/NewStateReason", json!("Datapoints: 3.")),
        ("/StateChangeTime", json!("2026-11-21T12:00:00Z")),
        ("/SentAt", json!("2026-11-21T12:00:01Z")),
        ("/Region", json!("eu-west-2")),
        ("/Tier", json!("standard")),
        ("/Trigger/MetricName", json!("OperationsFailedReplication")),
        ("/Trigger/Namespace", json!("Repl")),
        ("/Trigger/Statistic", json!("MAXIMUM")),
        ("/Trigger/Dimensions/0/name", json!("SourceBucket")),
        ("/Trigger/Threshold", json!(0.0)),
        ("/Trigger/EvaluationPeriods", json!(2)),
        ("/Trigger/TreatMissingData", json!("ignore")),
    ] {
        assert_eq!(message.pointer(path), Some(&expected), "{path} of {message:#}");
    }
    assert_eq!(alert.subject, "ALARM: repl-ReplicationFailure (acme-primary)");
    assert!(alert.text.contains("repl failures") && alert.text.contains("2026-11-21T12:00:00Z"), "{}", alert.text);
}

#[test]
fn a_composite_tells_its_rule_and_its_tier() {
    let raised = notice(AlarmId::Escalation, State::Ok, State::Alarm, Occasion::Reminder);
    let alert = made(&raised, &settings());
    let message: Value = serde_json::from_str(&alert.json).unwrap();
    assert_eq!(alert.tier, Tier::Management);
    assert_eq!(message["AlarmRule"], "ALARM(\"repl-SystemHealth\") AND ALARM(\"repl-InfrastructureHealth\")");
    assert_eq!(message["Occasion"], "reminder");
    assert!(alert.subject.starts_with("still ALARM: ") && alert.text.starts_with("Still so, since "), "{alert:?}");
}

/// SNS refuses other subjects (aws-semantics 7.4), whatever the names.
#[test]
fn a_subject_is_short_and_plain() {
    let long = Settings { prefix: "p".repeat(80), source_bucket: "bücket\nX".to_owned(), ..settings() };
    let over = notice(AlarmId::ReplicationLatencyCritical, State::Alarm, State::Ok, Occasion::Transition);
    let alert = made(&over, &long);
    assert!(alert.subject.len() < 100 && alert.subject.bytes().all(|byte| (32..127).contains(&byte)), "{alert:?}");
    assert!(alert.text.starts_with("It is over"), "{}", alert.text);
}
