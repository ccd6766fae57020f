//! The rest of deploy/: what the instance runs, its role and the policies of deploy/iam, security services, dashboards,
//! the Terraform example. All read from the files; nothing is deployed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use repl::model::object::RuleId;
use repl::watch::catalogue::{Metric, MetricSide};
use serde_json::{Value, json};
use support::templates::{Stack, file, list, statements, text};

const UNIT: &str = "systemd/repl.service";

/// The settings of the unit file, in order.
fn unit() -> Vec<(String, String)> {
    let text = text(UNIT);
    let settings = text.lines().filter_map(|line| line.split_once('='));
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_instance_runs_the_unit_of_this_repository() {
    assert_eq!(Stack::destination(&[]).written("/etc/systemd/system/repl.service"), text(UNIT));
}

/// The unit takes from the process everything that it does not need. `systemd-analyze security` grades the same.
#[test]
fn the_unit_is_hardened() {
    let unit = unit();
    let says = |name: &str, value: &str| assert!(unit.contains(&(name.to_owned(), value.to_owned())), "{name}={value}");
    for name in [
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateUsers",
        "ProtectClock",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectControlGroups",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "RemoveIPC",
    ] {
        says(name, "yes");
    }
    for (name, value) in [
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", ""),
        ("SystemCallFilter", "@system-service"),
        ("StateDirectory", "repl"),
        ("User", "repl"),
        ("Restart", "always"),
        ("StartLimitIntervalSec", "0"),
        ("RequiresMountsFor", "/var/lib/repl"),
    ] {
        says(name, value);
    }
    let names: Vec<&str> = unit.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"MemoryMax") && !names.contains(&"Environment"), "{names:?}");
    let command = &unit.iter().find(|(name, _)| name == "ExecStart").unwrap().1;
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let help = Command::new(env!("CARGO_BIN_EXE_repl")).args(&words).arg("--help").output().unwrap();
    assert!(help.status.success(), "the binary does not know {words:?}");
}

/// Where there is systemd, it reads the unit itself. Elsewhere the test above has to do.
#[test]
fn systemd_accepts_the_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let unit = place.path().join("repl.service");
    // It also wants the program to be there.
    std::fs::write(&unit, text(UNIT).replace("/usr/local/bin/repl", env!("CARGO_BIN_EXE_repl"))).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(!said.contains("repl.service"), "{said}");
}

/// Bash reads the script that the instance runs at first, and it is within the 16 KiB that EC2 takes.
#[test]
fn the_user_data_is_a_script() {
    for given in [
        &[][..],
        &[("Receipts", "false"), ("SubnetId", "subnet-1"), ("VpcId", "vpc-1"), ("AvailabilityZone", "eu-west-2b")],
    ] {
        let stack = Stack::destination(given);
        let script = stack.user_data();
        assert!(script.starts_with("#!/bin/bash\n") && script.len() < 16 * 1024);
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("user-data");
        std::fs::write(&path, script).unwrap();
        let read = Command::new("bash").arg("-n").arg(&path).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let order = [
            "set -euo pipefail",
            "attach-volume",
            "mount /var/lib/repl",
            "sha256sum --check",
            "mv /usr/local/bin/repl.new",
            "enable --now repl.service",
        ];
        let places: Vec<usize> =
            order.iter().map(|step| script.find(step).unwrap_or_else(|| panic!("no {step}"))).collect();
        assert!(places.is_sorted(), "{places:?}");
        assert!(!script.contains("${"), "something is left to fill in");
    }
}

/// One instance, replaced before another comes, with a ledger that stays.
#[test]
fn the_worker_is_one_and_its_ledger_outlives_it() {
    let stack = Stack::destination(&[]);
    let group = stack.at("Worker/Group");
    assert_eq!([&group["MinSize"], &group["MaxSize"], &group["DesiredCapacity"]], ["1"; 3]);
    let template = &stack.at("Worker/LaunchTemplate")["LaunchTemplateData"];
    assert_eq!(template["InstanceType"], "t4g.nano");
    assert_eq!(template["CreditSpecification"]["CpuCredits"], "standard");
    assert_eq!(template["MetadataOptions"]["HttpTokens"], "required");
    let ledger = stack.at("Worker/Ledger");
    assert_eq!((&ledger["Encrypted"], &ledger["VolumeType"]), (&json!(true), &json!("gp3")));
    assert_eq!(ledger["AvailabilityZone"], stack.at("Worker/Subnet")["AvailabilityZone"]);
    let firewall = stack.at("Worker/Firewall");
    assert!(firewall.get("SecurityGroupIngress").is_none());

    let own = [("SubnetId", "subnet-1"), ("VpcId", "vpc-1"), ("AvailabilityZone", "eu-west-2b")];
    let own = Stack::destination(&own);
    assert!(!own.has("Worker/Vpc") && !own.has("Worker/DefaultRoute"));
    assert_eq!(own.at("Worker/Group")["VPCZoneIdentifier"], json!(["subnet-1"]));
    assert_eq!(own.at("Worker/Ledger")["AvailabilityZone"], "eu-west-2b");
    assert_eq!(own.at("Worker/Firewall")["VpcId"], "vpc-1");
}

// Policies -------------------------------------------------------------------------------------------------------------

/// What the placeholders of deploy/iam stand for in the stacks with default parameters.
fn placeholders() -> BTreeMap<&'static str, &'static str> {
    let key = "arn:aws:kms:eu-west-2:111122223333:key/repl-destination-Keys-BucketKey";
    BTreeMap::from([
        ("PARTITION", "aws"),
        ("PREFIX", "repl"),
        ("NAMESPACE", "Repl"),
        ("SOURCE_BUCKET", "repl-source-111122223333-us-east-1"),
        ("SOURCE_REGION", "us-east-1"),
        ("SOURCE_ACCOUNT", "111122223333"),
        ("SOURCE_KEY_ARN", support::templates::NEEDED[0].1),
        ("TARGET_BUCKET", "repl-destination-111122223333-eu-west-2"),
        ("TARGET_REGION", "eu-west-2"),
        ("TARGET_ACCOUNT", "111122223333"),
        ("TARGET_KEY_ARN", key),
        ("RECEIPTS_BUCKET", "repl-receipts-111122223333-eu-west-2"),
        ("RECEIPTS_PREFIX", "repl/"),
    ])
}

/// A policy of deploy/iam with its placeholders filled in, as `envsubst` does.
fn policy(name: &str) -> Vec<Value> {
    let mut filled = text(&format!("iam/{name}"));
    for (placeholder, value) in placeholders() {
        filled = filled.replace(&format!("${{{placeholder}}}"), value);
    }
    statements(&serde_json::from_str(&filled).unwrap())
}

/// The same whether one action or resource stands alone or in a list.
fn normal(statement: &Value) -> Value {
    let mut statement = statement.clone();
    for name in ["Action", "Resource"] {
        statement[name] = json!(list(&statement[name]));
    }
    statement
}

#[test]
fn the_role_is_what_the_policies_say() {
    let role = |given: &[(&str, &str)]| {
        let stack = Stack::destination(given);
        let mut policies = BTreeMap::new();
        for policy in stack.at("Worker/Role")["Policies"].as_array().unwrap() {
            let statements: Vec<Value> = statements(&policy["PolicyDocument"]).iter().map(normal).collect();
            policies.insert(policy["PolicyName"].as_str().unwrap().to_owned(), statements);
        }
        policies
    };
    let full = role(&[("DeleteMarkers", "true")]);
    for (name, file) in [
        ("replicate", "worker-server-side.json"),
        ("delete-markers", "add-delete-markers.json"),
        ("receipts", "add-receipts.json"),
    ] {
        assert_eq!(full[name], policy(file).iter().map(normal).collect::<Vec<_>>(), "{name}");
    }
    let names = |policies: &BTreeMap<String, Vec<Value>>| policies.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&full), ["delete-markers", "instance", "receipts", "replicate", "session-manager"]);
    let least = role(&[("Receipts", "false"), ("SessionManager", "false")]);
    assert_eq!(names(&least), ["instance", "replicate"]);
}

/// Every policy file: least privilege in form, and described in README.
#[test]
fn policies_name_their_actions_and_resources() {
    let guide = text("README.md");
    let mut seen = 0;
    for entry in std::fs::read_dir(file("iam")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        seen += 1;
        assert!(guide.contains(&format!("`{name}`")), "deploy/README.md says nothing of {name}");
        let document: Value = serde_json::from_str(&text(&format!("iam/{name}"))).unwrap();
        let mut ids = BTreeSet::new();
        for statement in statements(&document) {
            let id = statement["Sid"].as_str().unwrap().to_owned();
            assert!(guide.contains(&format!("`{id}`")), "deploy/README.md says nothing of {id} in {name}");
            assert_eq!(statement["Effect"], "Allow", "{name}");
            let actions = list(&statement["Action"]);
            assert!(actions.iter().all(|action| !action.contains('*')), "{name}: {actions:?}");
            assert!(actions.is_sorted(), "{name}: {actions:?}");
            let everything = list(&statement["Resource"]).contains(&"*".to_owned());
            let bounded = statement.get("Condition").is_some() || statement.get("Principal").is_some();
            assert!(!everything || bounded || NO_RESOURCES.contains(&id.as_str()), "{name}: {id} is for everything");
            assert!(ids.insert(id.clone()), "{name} has two statements {id}");
        }
    }
    assert!(seen > 10, "only {seen} policies");
}

/// Statements of actions that IAM can bind to no resource.
const NO_RESOURCES: [&str; 1] = ["CompositeAlarms"];

// The rest of the stacks -----------------------------------------------------------------------------------------------

#[test]
fn security_services_are_there_and_each_can_be_left_out() {
    let services = [
        ("GuardDuty", "AWS::GuardDuty::Detector"),
        ("Macie", "AWS::Macie::Session"),
        ("CloudTrail", "AWS::CloudTrail::Trail"),
        ("SecurityHub", "AWS::SecurityHub::Hub"),
    ];
    for (stack, bucket) in [
        (Stack::source as fn(&[(&str, &str)]) -> Stack, "repl-source-111122223333-us-east-1"),
        (Stack::destination, "repl-destination-111122223333-eu-west-2"),
    ] {
        let all = stack(&[]);
        let detector = all.at("Security/Detector");
        assert_eq!(detector["Features"], json!([{"Name": "S3_DATA_EVENTS", "Status": "ENABLED"}]));
        assert_eq!(all.at("Security/Session")["Status"], "ENABLED");
        let selectors = all.at("Security/Trail")["AdvancedEventSelectors"].as_array().unwrap();
        let fields = |selector: &Value| selector["FieldSelectors"].clone();
        let objects = json!([
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
            {"Field": "resources.ARN", "StartsWith": [format!("arn:aws:s3:::{bucket}/")]},
        ]);
        let management = json!([{"Field": "eventCategory", "Equals": ["Management"]}]);
        assert_eq!(selectors.iter().map(fields).collect::<Vec<_>>(), [objects, management]);
        for (parameter, kind) in services {
            let without = stack(&[(parameter, "false")]);
            for (_, other) in services {
                assert_eq!(without.of(other).len(), usize::from(other != kind), "{other} without {parameter}");
            }
        }
    }
}

/// Changes of alarms go to the source region and are received there, by the region that they keep.
#[test]
fn alarm_changes_are_forwarded_and_received() {
    let (source, destination) = (Stack::source(&[]), Stack::destination(&[]));
    let rule = destination.at("Forwarding/Rule");
    let bus = "arn:aws:events:us-east-1:111122223333:event-bus/default";
    assert_eq!(rule["Name"], "repl-alarm-forwarding");
    assert_eq!(rule["Targets"][0]["Arn"], bus);
    let alarms = json!([{"prefix": "arn:aws:cloudwatch:eu-west-2:111122223333:alarm:repl-"}]);
    for pattern in [&rule["EventPattern"], &source.at("Receiving/Rule")["EventPattern"]] {
        assert_eq!(pattern["source"], json!(["aws.cloudwatch"]));
        assert_eq!(pattern["detail-type"], json!(["CloudWatch Alarm State Change"]));
        assert_eq!(pattern["resources"], alarms);
    }
    assert_eq!(source.at("Receiving/Rule")["EventPattern"]["region"], json!(["eu-west-2"]));
    let role = destination.at("Forwarding/Role");
    let [put] = statements(&role["Policies"][0]["PolicyDocument"]).try_into().unwrap();
    assert_eq!((&put["Action"], &put["Resource"]), (&json!("events:PutEvents"), &json!(bus)));
}

/// Each widget shows what there is: metrics of the catalogue with the dimensions they have, alarms that are made.
#[test]
fn dashboards_show_what_there_is() {
    let (source, stack) = (Stack::source(&[]), Stack::destination(&[]));
    let made: BTreeSet<String> = [&source, &stack]
        .iter()
        .flat_map(|stack| [stack.of("AWS::CloudWatch::Alarm"), stack.of("AWS::CloudWatch::CompositeAlarm")].concat())
        .map(|alarm| alarm["AlarmName"].as_str().unwrap().to_owned())
        .collect();
    let mut shown = BTreeSet::new();
    let dashboards = stack.of("AWS::CloudWatch::Dashboard");
    assert_eq!(
        dashboards.iter().map(|one| one["DashboardName"].as_str().unwrap()).collect::<Vec<_>>(),
        ["repl-primary", "repl-regional"]
    );
    for dashboard in dashboards {
        let body: Value = serde_json::from_str(dashboard["DashboardBody"].as_str().unwrap()).unwrap();
        for widget in body["widgets"].as_array().unwrap() {
            let properties = &widget["properties"];
            for alarm in properties["alarms"].as_array().into_iter().flatten() {
                let name = alarm.as_str().unwrap().rsplit(':').next().unwrap();
                assert!(made.contains(name), "there is no alarm {name}");
            }
            for line in properties["metrics"].as_array().into_iter().flatten() {
                let words: Vec<&str> = line.as_array().unwrap().iter().filter_map(Value::as_str).collect();
                if words.first() == Some(&"Repl") {
                    shown.insert(words[1].to_owned());
                    is_a_series(&words);
                }
            }
        }
    }
    // The stack sends no canary.
    let sent = |metric: &Metric| !matches!(metric, Metric::CanaryLatency | Metric::CanaryFailed);
    let known: BTreeSet<String> =
        Metric::ALL.iter().filter(|metric| sent(metric)).map(|metric| metric.name().to_owned()).collect();
    assert_eq!(shown, known, "every metric is shown");
}

/// Whether the worker sends a series with this name and these dimensions.
fn is_a_series(words: &[&str]) {
    use repl::watch::catalogue::{Scope, of_rule, of_side, of_source};
    let source = "repl-source-111122223333-us-east-1";
    let metric =
        Metric::ALL.into_iter().find(|metric| metric.name() == words[1]).unwrap_or_else(|| panic!("{words:?}"));
    let sent = match metric.scope() {
        Scope::Sides => MetricSide::ALL.map(|side| of_side(source, side)).to_vec(),
        Scope::Whole => vec![of_source(source)],
        Scope::Rules => vec![
            of_source(source),
            of_rule(source, "repl-destination-111122223333-eu-west-2", &RuleId::new("everything")),
        ],
    };
    let spelled = |dimensions: &Vec<repl::watch::catalogue::Dimension>| {
        dimensions.iter().flat_map(|one| [one.name.to_owned(), one.value.clone()]).collect::<Vec<_>>()
    };
    assert!(sent.iter().map(spelled).any(|sent| sent == words[2..]), "{words:?}");
}

/// What the other account permits is what the worker's own policy asks of that account: an action needs both.
#[test]
fn both_accounts_permit_the_same() {
    for (worker, kinds, file) in [
        ("worker-streaming.json", ["ReadTarget", "WriteTarget", "ListTarget"], "cross-account-target-bucket.json"),
        ("worker-streaming.json", ["TargetKey", "ProveTargetKey", "LookAtTargetKey"], "cross-account-target-key.json"),
        ("worker-server-side.json", ["ReadSource", "ListSource", ""], "cross-account-source-bucket.json"),
        ("worker-server-side.json", ["SourceKey", "", ""], "cross-account-source-key.json"),
        ("worker-server-side.json", ["Queue", "", ""], "cross-account-source-queue.json"),
    ] {
        let own = policy(worker);
        let wanted: BTreeMap<String, Value> = own
            .iter()
            .filter(|one| kinds.contains(&one["Sid"].as_str().unwrap()))
            .map(|one| (one["Sid"].as_str().unwrap().to_owned(), json!([one["Action"], one["Condition"]])))
            .collect();
        let theirs: BTreeMap<String, Value> = policy(file)
            .iter()
            .map(|one| {
                assert_eq!(one["Principal"], json!({"AWS": "${WORKER_ROLE_ARN}"}), "{file}");
                (one["Sid"].as_str().unwrap().to_owned(), json!([one["Action"], one["Condition"]]))
            })
            .collect();
        assert_eq!(theirs, wanted, "{file}");
    }
}
