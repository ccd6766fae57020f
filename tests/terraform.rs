//! The Terraform example says of every alarm what the program's own definitions say, and tells the instance the same.
//!
//! Its files are parsed, not applied: expressions are compared as they are written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use repl::config::{Config, parse};
use repl::watch::alarms::{Definitions, Settings, Signal, definitions};
use serde_json::{Map, Value};
use support::templates::{file, text, told};

/// One file, parsed.
fn hcl(name: &str) -> Value {
    told(&["hcl", file(&format!("terraform/{name}")).to_str().unwrap()])
}

/// All blocks of a kind, such as every `locals`, as one map.
fn blocks(parsed: &Value, kind: &str) -> Map<String, Value> {
    let blocks = parsed[kind].as_array().unwrap_or_else(|| panic!("no {kind}"));
    blocks.iter().flat_map(|block| block.as_object().unwrap().clone()).collect()
}

/// A block of a resource, by type and name.
fn resource(parsed: &Value, kind: &str, name: &str) -> Value {
    let found = parsed["resource"].as_array().unwrap().iter().find_map(|block| block[kind].get(name).cloned());
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn thresholds() -> Map<String, Value> {
    blocks(&hcl("variables.tf"), "variable")["thresholds"]["default"].as_object().unwrap().clone()
}

/// The config that the instance gets with default variables.
fn config() -> Config {
    let mut text = text("terraform/repl.toml.tftpl");
    for (name, value) in thresholds() {
        text = text.replace(&format!("${{thresholds[\"{name}\"]}}"), &value.to_string());
    }
    for tier in ["standard", "critical", "management"] {
        let arn = format!("arn:aws:sns:eu-west-2:111122223333:repl-{tier}");
        text = text.replace(&format!("${{topics[\"{tier}\"]}}"), &arn);
    }
    for (name, value) in [
        ("source_bucket", "acme-primary"),
        ("source_region", "us-east-1"),
        ("target_bucket", "acme-dr"),
        ("target_region", "eu-west-2"),
        ("target_key_arn", "arn:aws:kms:eu-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
        ("account", "111122223333"),
        ("queue_url", "https://sqs.us-east-1.amazonaws.com/111122223333/repl-events"),
        ("forwarding_role_arn", "arn:aws:iam::111122223333:role/repl-alarm-forwarding"),
        ("rule_id", "everything"),
        ("delete_markers", "false"),
        ("namespace", "Repl"),
        ("prefix", "repl"),
        ("period", "60"),
    ] {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    parse(&text, "repl.toml.tftpl").unwrap_or_else(|errors| panic!("{errors}"))
}

fn defined(config: &Config) -> Definitions {
    definitions(&Settings {
        prefix: config.escalation.prefix.clone(),
        namespace: config.monitoring.namespace.clone(),
        source_bucket: config.source.bucket.clone(),
        period: config.escalation.period,
        thresholds: config.escalation.thresholds,
        canary: None,
    })
}

#[test]
fn every_file_parses() {
    let mut parsed = 0;
    for entry in std::fs::read_dir(file("terraform")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".tf") {
            assert!(hcl(&name).is_object());
            parsed += 1;
        }
    }
    assert_eq!(parsed, 5);
}

#[test]
fn the_instance_is_told_the_default_thresholds() {
    let least = "[source]\nbucket = \"acme-primary\"\nregion = \"us-east-1\"\n[targets.dr]\nbucket = \"acme-dr\"\n\
                 region = \"eu-west-2\"\n[[rules]]\nid = \"everything\"\ntarget = \"dr\"\n";
    let least = parse(least, "least").unwrap();
    assert_eq!(config().escalation.thresholds, least.escalation.thresholds);
    assert_eq!(config().monitoring, least.monitoring);
}

/// The list of alarms, value by value.
#[test]
fn alarms_are_those_of_the_worker() {
    let parsed = hcl("alarms.tf");
    let locals = blocks(&parsed, "locals");
    let listed = locals["alarms"].as_object().unwrap();
    let mut own = BTreeSet::new();
    for alarm in defined(&config()).alarms {
        let name = alarm.id.name();
        let Signal::Series(series) = alarm.signal else { continue };
        if series.namespace != "Repl" {
            continue;
        }
        own.insert(name.to_owned());
        let listed = &listed[name];
        assert_eq!(listed["metric"], series.metric, "{name}");
        assert_eq!(listed["statistic"], series.statistic.name(), "{name}");
        assert_eq!(listed["missing"], alarm.missing.name(), "{name}");
        let side = series.dimensions.iter().find(|one| one.name == "Side").map(|one| one.value.as_str());
        assert_eq!(listed["side"].as_str(), side, "{name}");
        assert_eq!(series.dimensions.len(), 1 + usize::from(side.is_some()), "{name}");
        let periods = listed["periods"].as_u64().or_else(|| thresholds()[name].as_u64()).unwrap();
        assert_eq!(periods, u64::from(alarm.evaluation_periods), "{name}");
        assert_eq!(alarm.datapoints_to_alarm, alarm.evaluation_periods, "{name}");
        let below = name == "WorkerSilent";
        assert_eq!(alarm.comparison.name(), if below { "LessThanThreshold" } else { "GreaterThanThreshold" }, "{name}");
        let threshold = if below { Some(1.0) } else { thresholds()[name].as_f64() };
        assert_eq!(threshold, Some(alarm.threshold), "{name}");
    }
    assert_eq!(listed.keys().cloned().collect::<BTreeSet<_>>(), own);
}

#[test]
fn composites_and_daily_alarms_are_those_of_the_worker() {
    let parsed = hcl("alarms.tf");
    let locals = blocks(&parsed, "locals");
    let definitions = defined(&config());
    for composite in &definitions.composites[..2] {
        let listed = &locals["composites"][composite.id.name()];
        let named = |name: &Value| format!("ALARM(\"repl-{}\")", name.as_str().unwrap());
        let children: Vec<String> = listed["children"].as_array().unwrap().iter().map(named).collect();
        assert_eq!(children.join(listed["join"].as_str().unwrap()), composite.rule.to_string());
        assert_eq!(listed["tier"], composite.tier.name());
    }
    assert_eq!(locals["composites"].as_object().unwrap().len(), 2);
    let escalation = resource(&parsed, "aws_cloudwatch_composite_alarm", "escalation");
    let rule = escalation["alarm_rule"].as_str().unwrap();
    assert!(rule.contains("\" AND \"") && rule.contains("\"SystemHealth\", \"InfrastructureHealth\""), "{rule}");
    assert_eq!(
        definitions.composites[2].rule.to_string(),
        "ALARM(\"repl-SystemHealth\") AND ALARM(\"repl-InfrastructureHealth\")"
    );
    for alarm in &definitions.alarms {
        match &alarm.signal {
            Signal::Math { inputs, .. } => {
                let types: Vec<&str> = inputs.iter().map(|(_, one)| one.dimensions[1].value.as_str()).collect();
                assert_eq!(locals["storage_types"], Value::from(types));
            }
            Signal::Series(series) if series.namespace == "AWS/S3" => {
                let daily = resource(&parsed, "aws_cloudwatch_metric_alarm", "object_count");
                assert_eq!(daily["metric_name"], series.metric);
                assert_eq!(daily["statistic"], series.statistic.name());
                assert_eq!(daily["comparison_operator"], alarm.comparison.name());
                assert_eq!(daily["treat_missing_data"], alarm.missing.name());
            }
            Signal::Series(_) => {}
        }
    }
}

/// Terraform fails on a template that asks for what it is not given.
#[test]
fn every_placeholder_of_the_config_is_given() {
    let template = text("terraform/repl.toml.tftpl");
    let asked = template.split("${").skip(1).map(|rest| rest.split_once(['}', '[']).unwrap().0);
    let asked: BTreeSet<&str> = asked.collect();
    let main = text("terraform/main.tf");
    let (_, given) = main.split_once("repl.toml.tftpl\", {\n").unwrap();
    let given = given.split_once("\n  })").unwrap().0;
    let given: BTreeSet<&str> = given.lines().filter_map(|line| Some(line.split_once('=')?.0.trim())).collect();
    assert_eq!(asked, given);
}

/// Whoever is woken reads the same, whoever set the alarm up.
#[test]
fn descriptions_are_those_of_the_worker() {
    let parsed = hcl("alarms.tf");
    let config = config();
    let Definitions { alarms, composites } = defined(&config);
    let said = alarms.into_iter().map(|alarm| (alarm.id.name(), alarm.description));
    let said = said.chain(composites.into_iter().map(|composite| (composite.id.name(), composite.description)));
    let listed = &blocks(&parsed, "locals")["descriptions"];
    let listed = listed.as_object().unwrap().iter();
    let listed: BTreeMap<&str, String> =
        listed.map(|(name, text)| (&**name, text.as_str().unwrap().replace("%s", &config.source.bucket))).collect();
    assert_eq!(listed, said.collect());
    for (kind, name, id) in [
        ("aws_cloudwatch_metric_alarm", "own", "each.key"),
        ("aws_cloudwatch_metric_alarm", "object_count", "\"SourceObjectCount\""),
        ("aws_cloudwatch_metric_alarm", "size_growth", "\"SourceSizeGrowth\""),
        ("aws_cloudwatch_composite_alarm", "health", "each.key"),
        ("aws_cloudwatch_composite_alarm", "escalation", "\"Escalation\""),
    ] {
        let described = resource(&parsed, kind, name)["alarm_description"].as_str().unwrap().to_owned();
        assert_eq!(described, format!("${{format(local.descriptions[{id}], var.source_bucket)}}"), "{name}");
    }
}

/// The queue hears what `apply` asks for, and only our rule may take the role that forwards.
#[test]
fn events_and_trust_are_those_of_apply() {
    let notification = resource(&hcl("buckets.tf"), "aws_s3_bucket_notification", "events").to_string();
    for event in [
        "ObjectAcl:Put",
        "ObjectCreated:*",
        "ObjectRemoved:*",
        "ObjectRestore:Completed",
        "ObjectRetention:Put",
        "ObjectTagging:*",
    ] {
        assert!(notification.contains(&format!("s3:{event}")), "{event} in {notification}");
    }
    let role = resource(&hcl("alarms.tf"), "aws_iam_role", "forwarding")["assume_role_policy"].to_string();
    assert!(role.contains("ArnEquals") && role.contains("aws_cloudwatch_event_rule.forwarding.arn"), "{role}");
}

/// The role's policies are the files of deploy/iam, whose placeholders are all given.
#[test]
fn every_placeholder_of_the_policies_is_given() {
    let given = blocks(&hcl("main.tf"), "locals");
    let given: BTreeSet<&str> = given["placeholders"].as_object().unwrap().keys().map(String::as_str).collect();
    let worker = text("terraform/worker.tf");
    for name in ["worker-server-side.json", "add-delete-markers.json"] {
        assert!(worker.contains(&format!("/../iam/{name}\", local.placeholders)")), "{name}");
        let policy = text(&format!("iam/{name}"));
        let asked: BTreeSet<&str> = policy.split("${").skip(1).map(|rest| rest.split_once('}').unwrap().0).collect();
        assert!(asked.is_subset(&given), "{name}: {asked:?}");
    }
}
