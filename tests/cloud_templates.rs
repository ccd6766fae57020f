//! Both stacks really deployed to ministack's CloudFormation, and the program run as the instance would run it.
//!
//! What that CloudFormation does not know (composites, metric math, the ledger's volume, security services) is left out
//! there and checked from the templates themselves (tests/templates.rs, tests/deploy.rs).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use repl::config::{Config, parse};
use repl::watch::alarms::{Place, Settings, Signal, definitions};
use serde_json::{Value, json};
use support::servers::{Access, Server};
use support::templates::{NEEDED, assigned, told};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program with the instance's config; what it prints.
async fn repl(cloud: &Access, file: &Path, words: &[&str]) -> Value {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_repl"));
    command
        .args(words)
        .arg("--config")
        .arg(file)
        .env("AWS_ACCESS_KEY_ID", &cloud.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &cloud.secret_access_key)
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A deployed stack, as templates.py tells of it.
fn deploy(cloud: &Access, stack: &str, given: &[String]) -> Value {
    let words: Vec<&str> =
        ["deploy", &cloud.endpoint, stack].into_iter().chain(given.iter().map(String::as_str)).collect();
    let made = told(&words);
    assert_eq!(made["status"], "CREATE_COMPLETE", "{:#}", made["failures"]);
    assert_eq!(made["failures"], json!([]));
    made
}

fn left_out(stack: &Value) -> BTreeSet<&str> {
    stack["left_out"].as_array().unwrap().iter().map(|place| place.as_str().unwrap()).collect()
}

/// The config that the instance writes, led to the emulator.
fn config_of_instance(destination: &Value, cloud: &Access, ledger: &Path) -> String {
    let script = destination["user_data"].as_str().expect("a launch template");
    let (_, from) = script.split_once("cat > /etc/repl/repl.toml <<'END'\n").unwrap();
    let mut text = from.split_once("\nEND\n").unwrap().0.to_owned();
    let endpoint = format!("endpoint = \"{}\"\n", cloud.endpoint);
    for (table, path_style) in
        [("[source]", true), ("[queue]", false), ("[targets.dr]", true), ("[monitoring]", false), ("[receipts]", true)]
    {
        let style = if path_style { "path_style = true\n" } else { "" };
        assert!(text.contains(&format!("{table}\n")), "{table}");
        text = text.replace(&format!("{table}\n"), &format!("{table}\n{endpoint}{style}"));
    }
    text + &format!("\n[ledger]\npath = {ledger:?}\n[web]\nlisten = \"off\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stacks_deploy_and_the_worker_replicates_between_them() {
    let cloud = Server::Ministack.access();
    let source = deploy(cloud, "source", &assigned(&[("StandardEmails", "a@example.com,b@example.com")]));
    let services = ["Security/Detector", "Security/Session", "Security/Hub", "Security/Trail"];
    assert_eq!(
        left_out(&source),
        BTreeSet::from(["Monitoring/SourceSizeGrowth"]).union(&services.into()).copied().collect()
    );

    let mut needed = NEEDED;
    needed[0].1 = source["outputs"]["SourceKeyArn"].as_str().unwrap();
    let given =
        [assigned(&needed), assigned(&[("CriticalEmails", "c@example.com"), ("DeleteMarkers", "true")])].concat();
    let destination = deploy(cloud, "destination", &given);
    let composites =
        ["Escalation/SystemHealth", "Escalation/InfrastructureHealth", "Escalation/Escalation", "Worker/Ledger"];
    assert_eq!(left_out(&destination), services.iter().chain(&composites).copied().collect());

    let place = tempfile::tempdir().unwrap();
    let (file, ledger) = (place.path().join("repl.toml"), place.path().join("ledger"));
    let text = config_of_instance(&destination, cloud, &ledger);
    let config = parse(&text, "repl.toml").unwrap_or_else(|errors| panic!("{errors}"));
    std::fs::write(&file, text).unwrap();

    the_alarms_are_there(cloud, &config).await;
    the_topics_have_their_readers(cloud).await;
    the_queue_belongs_to_the_bucket(cloud, &config).await;
    apply_would_change_nothing_more(cloud, &config, &file).await;
    the_worker_replicates(cloud, &config, &file).await;
}

/// CloudWatch has each alarm that the instance's config defines, but for the one of metric math.
async fn the_alarms_are_there(cloud: &Access, config: &Config) {
    let defined = definitions(&Settings {
        prefix: config.escalation.prefix.clone(),
        namespace: config.monitoring.namespace.clone(),
        source_bucket: config.source.bucket.clone(),
        period: config.escalation.period,
        thresholds: config.escalation.thresholds,
        canary: None,
    });
    let mut found = 0;
    for alarm in defined.alarms {
        let Signal::Series(series) = &alarm.signal else { continue };
        let region = if alarm.place == Place::SourceRegion { "us-east-1" } else { "eu-west-2" };
        let told = cloud.cloudwatch(region).describe_alarms().alarm_names(&alarm.name).send().await.unwrap();
        let [there] = told.metric_alarms() else { panic!("{} in {region}: {told:?}", alarm.name) };
        assert_eq!(there.metric_name(), Some(series.metric), "{}", alarm.name);
        assert_eq!(there.threshold(), Some(alarm.threshold), "{}", alarm.name);
        assert_eq!(there.evaluation_periods(), i32::try_from(alarm.evaluation_periods).ok(), "{}", alarm.name);
        assert_eq!(there.treat_missing_data(), Some(alarm.missing.name()), "{}", alarm.name);
        assert_eq!(there.alarm_actions(), [format!("arn:aws:sns:{region}:000000000000:repl-standard")]);
        found += 1;
    }
    assert_eq!(found, 13);
}

async fn the_topics_have_their_readers(cloud: &Access) {
    for (region, name, readers) in [
        ("us-east-1", "standard", &["a@example.com", "b@example.com"][..]),
        ("eu-west-2", "standard", &[]),
        ("eu-west-2", "critical", &["c@example.com"]),
        ("eu-west-2", "management", &[]),
    ] {
        let topic = format!("arn:aws:sns:{region}:000000000000:repl-{name}");
        let told = cloud.sns(region).list_subscriptions_by_topic().topic_arn(&topic).send().await.unwrap();
        let found: BTreeSet<&str> = told.subscriptions().iter().filter_map(|one| one.endpoint()).collect();
        assert_eq!(found, readers.iter().copied().collect(), "{topic}");
    }
}

async fn the_queue_belongs_to_the_bucket(cloud: &Access, config: &Config) {
    let sqs = cloud.sqs("us-east-1");
    let url = sqs.get_queue_url().queue_name("repl-events").send().await.unwrap().queue_url.unwrap();
    let told =
        sqs.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::All).send().await.unwrap();
    let told = told.attributes.unwrap();
    let policy: Value = serde_json::from_str(&told[&QueueAttributeName::Policy]).unwrap();
    let bucket = format!("arn:aws:s3:*:*:{}", config.source.bucket);
    assert_eq!(policy["Statement"][0]["Condition"]["ArnLike"]["aws:SourceArn"], bucket);
    assert_eq!(policy["Statement"][0]["Condition"]["StringEquals"]["aws:SourceAccount"], "000000000000");
    assert!(told[&QueueAttributeName::RedrivePolicy].contains("repl-events-dlq"));
    let notification = cloud.s3("us-east-1").get_bucket_notification_configuration().bucket(&config.source.bucket);
    let told = notification.send().await.unwrap();
    assert_eq!(told.queue_configurations().len(), 6, "{told:?}");
}

/// `repl apply` with the instance's config finds nothing to change but what this CloudFormation leaves out or drops: one
/// truth, two ways.
async fn apply_would_change_nothing_more(cloud: &Access, config: &Config, file: &Path) {
    let report = repl(cloud, file, &["apply", "all", "--dry-run", "--json"]).await;
    let mut changed = BTreeSet::new();
    let mut equal = BTreeSet::new();
    let mut failed = BTreeSet::new();
    for change in report["changes"].as_array().unwrap() {
        let [kind, name] = ["kind", "name"].map(|field| change[field].as_str().unwrap());
        let (action, outcome) = (&change["action"], &change["outcome"]);
        if action != "none" {
            changed.insert(format!("{kind} {name}"));
        } else if outcome == "equal" {
            equal.insert(kind);
        } else if outcome == "failed" {
            failed.insert(format!("{kind} {name}"));
        }
    }
    let (source, target) = (&config.source.bucket, &config.targets[0].bucket);
    let gaps = [
        format!("lifecycle {source}"),
        format!("lifecycle {target}"),
        "alarm repl-SourceSizeGrowth".to_owned(),
        "composite-alarm repl-SystemHealth".to_owned(),
        "composite-alarm repl-InfrastructureHealth".to_owned(),
        "composite-alarm repl-Escalation".to_owned(),
    ];
    assert_eq!(changed, BTreeSet::from(gaps), "{report:#}");
    let found = ["alarm", "dashboard", "event-rule", "notification", "queue", "topic", "versioning"];
    assert_eq!(equal, BTreeSet::from(found), "{report:#}");
    assert_eq!(failed, BTreeSet::new(), "{report:#}");
}

/// What is written to the one bucket arrives in the other, with a receipt.
async fn the_worker_replicates(cloud: &Access, config: &Config, file: &Path) {
    let (source, target) = (cloud.s3("us-east-1"), cloud.s3("eu-west-2"));
    let (from, to) = (&config.source.bucket, &config.targets[0].bucket);
    for key in ["a b+c.txt", "gone"] {
        source.put_object().bucket(from).key(key).body(key.as_bytes().to_vec().into()).send().await.unwrap();
    }
    source.delete_object().bucket(from).key("gone").send().await.unwrap();
    let report = repl(cloud, file, &["run", "--until-idle=1s", "--json"]).await;
    assert_eq!(report["replicated"]["operations"], 3, "{report:#}");
    let told = target.get_object().bucket(to).key("a b+c.txt").send().await.unwrap();
    assert_eq!(told.body.collect().await.unwrap().into_bytes(), "a b+c.txt");
    let told = target.list_object_versions().bucket(to).prefix("gone").send().await.unwrap();
    assert_eq!((told.versions().len(), told.delete_markers().len()), (1, 1));
    let receipts = config.receipts.as_ref().unwrap();
    let told = target.list_objects_v2().bucket(&receipts.bucket).prefix("repl/dt=").send().await.unwrap();
    assert_eq!(told.contents().len(), 1, "receipts are uploaded at the end");
}
