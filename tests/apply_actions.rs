//! Which actions of AWS `repl apply` calls: read from its adapters, as a run on an emulator would miss what that does not
//! know; written down here for whoever grants them; and permitted by deploy/iam/setup.json, no more and no fewer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Every operation that src/aws/setup calls, with the permissions that it needs. Making something with tags wants the right
/// to tag.
const SETUP_ACTIONS: [(&str, &[&str]); 44] = [
    ("create_queue", &["sqs:CreateQueue", "sqs:TagQueue"]),
    ("create_role", &["iam:CreateRole", "iam:TagRole"]),
    ("create_topic", &["sns:CreateTopic", "sns:TagResource"]),
    ("delete_alarms", &["cloudwatch:DeleteAlarms"]),
    ("delete_bucket_intelligent_tiering_configuration", &["s3:PutIntelligentTieringConfiguration"]),
    ("delete_bucket_lifecycle", &["s3:PutLifecycleConfiguration"]),
    ("delete_bucket_metrics_configuration", &["s3:PutMetricsConfiguration"]),
    ("delete_dashboards", &["cloudwatch:DeleteDashboards"]),
    ("delete_queue", &["sqs:DeleteQueue"]),
    ("delete_role", &["iam:DeleteRole"]),
    ("delete_role_policy", &["iam:DeleteRolePolicy"]),
    ("delete_rule", &["events:DeleteRule"]),
    ("delete_topic", &["sns:DeleteTopic"]),
    ("describe_alarms", &["cloudwatch:DescribeAlarms"]),
    ("describe_rule", &["events:DescribeRule"]),
    ("get_bucket_intelligent_tiering_configuration", &["s3:GetIntelligentTieringConfiguration"]),
    ("get_bucket_lifecycle_configuration", &["s3:GetLifecycleConfiguration"]),
    ("get_bucket_metrics_configuration", &["s3:GetMetricsConfiguration"]),
    ("get_bucket_notification_configuration", &["s3:GetBucketNotification"]),
    ("get_bucket_versioning", &["s3:GetBucketVersioning"]),
    ("get_dashboard", &["cloudwatch:GetDashboard"]),
    ("get_queue_attributes", &["sqs:GetQueueAttributes"]),
    ("get_role", &["iam:GetRole"]),
    ("get_role_policy", &["iam:GetRolePolicy"]),
    ("get_topic_attributes", &["sns:GetTopicAttributes"]),
    ("list_queue_tags", &["sqs:ListQueueTags"]),
    ("list_subscriptions_by_topic", &["sns:ListSubscriptionsByTopic"]),
    ("list_tags_for_resource", &["sns:ListTagsForResource"]),
    ("list_targets_by_rule", &["events:ListTargetsByRule"]),
    ("put_bucket_intelligent_tiering_configuration", &["s3:PutIntelligentTieringConfiguration"]),
    ("put_bucket_lifecycle_configuration", &["s3:PutLifecycleConfiguration"]),
    ("put_bucket_metrics_configuration", &["s3:PutMetricsConfiguration"]),
    ("put_bucket_notification_configuration", &["s3:PutBucketNotification"]),
    ("put_composite_alarm", &["cloudwatch:PutCompositeAlarm", "cloudwatch:TagResource"]),
    ("put_dashboard", &["cloudwatch:PutDashboard"]),
    ("put_metric_alarm", &["cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"]),
    ("put_role_policy", &["iam:PutRolePolicy"]),
    ("put_rule", &["events:PutRule", "events:TagResource"]),
    ("put_targets", &["events:PutTargets", "iam:PassRole"]),
    ("remove_targets", &["events:RemoveTargets"]),
    ("set_queue_attributes", &["sqs:SetQueueAttributes"]),
    ("set_topic_attributes", &["sns:SetTopicAttributes"]),
    ("subscribe", &["sns:Subscribe"]),
    ("update_assume_role_policy", &["iam:UpdateAssumeRolePolicy"]),
];

/// The fields of the adapters that are clients.
const CLIENTS: [&str; 3] = ["client", "events", "iam"];

/// The operations that a text calls on a client.
fn operations(text: &str) -> BTreeSet<String> {
    let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let calls = CLIENTS.iter().flat_map(|client| dense.split(&format!("self.{client}.")).skip(1).collect::<Vec<_>>());
    calls.filter_map(|rest| rest.split_once("()")).map(|(name, _)| name.to_owned()).collect()
}

/// The fields of a text that hold a client: `events: aws_sdk_eventbridge::Client,`.
fn clients(text: &str) -> BTreeSet<String> {
    let fields = text.lines().filter_map(|line| line.trim().strip_suffix("Client,")?.split_once(": "));
    fields.map(|(name, _)| name.rsplit(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn every_operation_of_the_adapters_is_written_down_with_its_permissions() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/aws/setup");
    let (mut called, mut held) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(room).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        called.extend(operations(&text));
        held.extend(clients(&text));
    }
    assert_eq!(held, CLIENTS.map(str::to_owned).into(), "calls through another client would not be seen");
    let told: BTreeSet<String> = SETUP_ACTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(called, told);
    for (name, permissions) in SETUP_ACTIONS {
        assert!(!permissions.is_empty() && permissions.iter().all(|one| one.split_once(':').is_some()), "{name}");
    }
}

#[test]
fn the_setup_role_may_do_just_that() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/iam/setup.json");
    let policy: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let permitted: BTreeSet<&str> = statements
        .iter()
        .flat_map(|one| one["Action"].as_array().unwrap())
        .map(|action| action.as_str().unwrap())
        .collect();
    let needed: BTreeSet<&str> =
        SETUP_ACTIONS.iter().flat_map(|(_, permissions)| permissions.iter().copied()).collect();
    assert_eq!(permitted, needed);
}

#[test]
fn an_operation_is_seen_however_it_is_broken_into_lines() {
    let text = "self\n    .client\n    .put_rule()\n    .name(x); self.iam.get_role().send(); one.events().len()";
    assert_eq!(operations(text), BTreeSet::from(["put_rule".to_owned(), "get_role".to_owned()]));
}
