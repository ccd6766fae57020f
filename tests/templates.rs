//! The templates of deploy/cloudformation against the definitions that the program itself uses: one truth, two ways.
//!
//! Everything here is read from the resolved templates; tests/cloud_templates.rs deploys them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use repl::config::{Config, parse};
use repl::watch::alarms::{self, Alarm, Definitions, Place, Signal, Tier, definitions};
use serde_json::{Value, json};
use support::templates::{Stack, list, statements, tool};

const SOURCE: &str = "repl-source-111122223333-us-east-1";
const TARGET: &str = "repl-destination-111122223333-eu-west-2";
const CONFIG: &str = "/etc/repl/repl.toml";

/// Every parameter that changes an alarm, with another value than its default.
const OTHERS: [(&str, &str); 14] = [
    ("Prefix", "acme"),
    ("Period", "120"),
    ("Namespace", "Acme/Repl"),
    ("ReplicationFailureThreshold", "1"),
    ("ReplicationLatencyWarningThreshold", "600"),
    ("ReplicationLatencyCriticalThreshold", "1200"),
    ("LatencyExceedsSlaThreshold", "300"),
    ("PendingOperationsThreshold", "7"),
    ("BytesPendingThreshold", "4096"),
    ("TargetErrors4xxThreshold", "11"),
    ("SourceErrors4xxThreshold", "12"),
    ("SourceErrors5xxThreshold", "6"),
    ("KmsTargetFailuresThreshold", "8"),
    ("WorkerSilentPeriods", "5"),
];

/// What the instance of this stack is told.
fn config(stack: &Stack) -> Config {
    parse(&stack.written(CONFIG), CONFIG).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The alarms that a worker with this config defines.
fn defined(config: &Config) -> Definitions {
    definitions(&alarms::Settings {
        prefix: config.escalation.prefix.clone(),
        namespace: config.monitoring.namespace.clone(),
        source_bucket: config.source.bucket.clone(),
        period: config.escalation.period,
        thresholds: config.escalation.thresholds,
        canary: None,
    })
}

/// The same with every number as a float: 1, 1.0 and `Number` parameters are one.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap()),
        Value::Array(values) => values.iter().map(plain).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

fn topic(prefix: &str, region: &str, tier: Tier) -> String {
    format!("arn:aws:sns:{region}:111122223333:{prefix}-{}", tier.name())
}

/// An alarm as PutMetricAlarm and CloudFormation spell it.
fn spelled(alarm: &Alarm, topic: &str) -> Value {
    let series = |series: &alarms::Series| {
        let dimensions: Vec<Value> =
            series.dimensions.iter().map(|one| json!({"Name": one.name, "Value": one.value})).collect();
        json!({"Namespace": series.namespace, "MetricName": series.metric, "Dimensions": dimensions})
    };
    let mut properties = match &alarm.signal {
        Signal::Series(one) => {
            let mut properties = series(one);
            properties["Statistic"] = json!(one.statistic.name());
            properties["Period"] = json!(alarm.period.as_secs());
            properties
        }
        Signal::Math { inputs, id, expression, label } => {
            let stat = |one: &alarms::Series| json!({"Metric": series(one), "Stat": one.statistic.name(), "Period": alarm.period.as_secs()});
            let mut queries: Vec<Value> = inputs
                .iter()
                .map(|(id, one)| json!({"Id": id, "ReturnData": false, "MetricStat": stat(one)}))
                .collect();
            queries.push(json!({"Id": id, "Expression": expression, "Label": label, "ReturnData": true}));
            json!({ "Metrics": queries })
        }
    };
    let more = json!({
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "EvaluationPeriods": alarm.evaluation_periods,
        "DatapointsToAlarm": alarm.datapoints_to_alarm,
        "ComparisonOperator": alarm.comparison.name(),
        "Threshold": alarm.threshold,
        "TreatMissingData": alarm.missing.name(),
        "AlarmActions": [topic],
        "OKActions": [topic],
    });
    properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    plain(&properties)
}

/// The alarms of both stacks are those that the worker's config defines, each with its tier's topic in its own region.
fn the_alarms_are_those_defined(source: &Stack, destination: &Stack) {
    let config = config(destination);
    let prefix = &config.escalation.prefix;
    let definitions = defined(&config);
    for (stack, place, region) in
        [(source, Place::SourceRegion, "us-east-1"), (destination, Place::MonitoringRegion, "eu-west-2")]
    {
        let wanted: Vec<Value> = definitions
            .alarms
            .iter()
            .filter(|alarm| alarm.place == place)
            .map(|alarm| spelled(alarm, &topic(prefix, region, alarm.tier)))
            .collect();
        let made = stack.of("AWS::CloudWatch::Alarm");
        assert_eq!(made.len(), wanted.len(), "alarms in {region}");
        for wanted in wanted {
            let made = made.iter().find(|made| made["AlarmName"] == wanted["AlarmName"]);
            assert_eq!(made.map(|made| plain(made)), Some(wanted));
        }
    }
    let made = destination.of("AWS::CloudWatch::CompositeAlarm");
    assert_eq!(made.len(), definitions.composites.len());
    for composite in &definitions.composites {
        let topic = topic(prefix, "eu-west-2", composite.tier);
        let wanted = json!({
            "AlarmName": composite.name,
            "AlarmDescription": composite.description,
            "AlarmRule": composite.rule.to_string(),
            "AlarmActions": [topic],
            "OKActions": [topic],
        });
        assert_eq!(made.iter().find(|made| made["AlarmName"] == composite.name), Some(&&wanted));
    }
}

#[test]
fn every_template_passes_the_linter() {
    let output = tool(&["lint"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn alarms_and_composites_are_those_of_the_worker() {
    the_alarms_are_those_defined(&Stack::source(&[]), &Stack::destination(&[]));
}

#[test]
fn every_threshold_is_a_parameter() {
    let storage = [("SourceObjectCountThreshold", "9"), ("SourceSizeGrowthThreshold", "123456789012")];
    let source = [&storage[..], &[("Prefix", "acme")]].concat();
    let destination = [&storage[..], &OTHERS, &[("KmsSourceThrottlesThreshold", "3")]].concat();
    let (source, destination) = (Stack::source(&source), Stack::destination(&destination));
    the_alarms_are_those_defined(&source, &destination);
    let (given, default) = (config(&destination), config(&Stack::destination(&[])));
    let spelled = |config: &Config| format!("{:#?}", config.escalation.thresholds);
    let (given, default) = (spelled(&given), spelled(&default));
    let same: Vec<&str> =
        given.lines().zip(default.lines()).filter(|(one, other)| one == other).map(|(one, _)| one).collect();
    assert!(same.iter().all(|line| !line.contains(": ") || line.ends_with('(')), "not a parameter: {same:?}");
}

/// Without parameters the templates mean what a config without settings means.
#[test]
fn defaults_are_those_of_the_config() {
    let told = config(&Stack::destination(&[]));
    let least = format!(
        "[source]\nbucket = \"{SOURCE}\"\nregion = \"us-east-1\"\n[targets.dr]\nbucket = \"{TARGET}\"\n\
         region = \"eu-west-2\"\n[[rules]]\nid = \"everything\"\ntarget = \"dr\"\n"
    );
    let least = parse(&least, "least").unwrap();
    assert_eq!(told.escalation.thresholds, least.escalation.thresholds);
    assert_eq!((&told.escalation.prefix, told.escalation.period), (&least.escalation.prefix, least.escalation.period));
    assert_eq!((told.monitoring, told.sla), (least.monitoring, least.sla));
    assert_eq!((&told.source.bucket, &told.targets[0].bucket), (&least.source.bucket, &least.targets[0].bucket));
    let rule = repl::plan::route::Rule { kms_key: told.rules[0].kms_key.clone(), ..least.rules[0].clone() };
    assert_eq!(told.rules, [rule]);
    assert_eq!(told.ledger, least.ledger);
}

/// What stack and config say of one thing is one.
#[test]
fn the_instance_is_told_of_what_the_stacks_make() {
    let changed = [("Prefix", "acme"), ("DeleteMarkers", "true"), ("History", "latest"), ("RuleId", "gold")];
    for given in [&[][..], &changed] {
        let source = Stack::source(&given[..given.len().min(1)]);
        let stack = Stack::destination(given);
        let config = config(&stack);
        assert_eq!(config.source.bucket, source.at("Bucket/Bucket")["BucketName"]);
        assert_eq!(config.targets[0].bucket, stack.at("Buckets/Bucket")["BucketName"]);
        assert_eq!(config.receipts.unwrap().bucket, stack.at("Buckets/ReceiptsBucket")["BucketName"]);
        let queue = source.at("Events/Queue")["QueueName"].as_str().unwrap();
        assert_eq!(config.queue.unwrap().url, format!("https://sqs.us-east-1.amazonaws.com/111122223333/{queue}"));
        let key = &stack.at("Buckets/Bucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]
            ["KMSMasterKeyID"];
        assert_eq!(config.rules[0].kms_key.as_deref(), key.as_str());
        for (tier, named) in
            Tier::ALL.iter().zip([config.escalation.standard, config.escalation.critical, config.escalation.management])
        {
            let arn = topic(&config.escalation.prefix, "eu-west-2", *tier);
            assert_eq!(named, Some(repl::config::Tier::Topic(arn)));
        }
    }
    let none = Stack::destination(&[("Receipts", "false")]);
    assert_eq!(config(&none).receipts, None);
    assert!(!none.has("Buckets/ReceiptsBucket"));
}

#[test]
fn each_tier_has_its_topic_and_its_readers() {
    let emails = [("StandardEmails", "a@example.com,b@example.com"), ("CriticalEmails", "c@example.com")];
    let (source, destination) = (Stack::source(&emails[..1]), Stack::destination(&emails));
    for (stack, region, tiers) in [(&source, "us-east-1", &Tier::ALL[..1]), (&destination, "eu-west-2", &Tier::ALL[..])]
    {
        let names: Vec<String> = tiers.iter().map(|tier| format!("repl-{}", tier.name())).collect();
        let topics = stack.of("AWS::SNS::Topic");
        assert_eq!(topics.iter().map(|topic| topic["TopicName"].as_str().unwrap()).collect::<Vec<_>>(), names);
        let policies = stack.of("AWS::SNS::TopicPolicy");
        for tier in tiers {
            let arn = topic("repl", region, *tier);
            let policy = policies.iter().find(|policy| policy["Topics"] == json!([arn])).expect("a policy");
            let allowed: Vec<Value> =
                statements(&policy["PolicyDocument"]).into_iter().filter(|one| one["Effect"] == "Allow").collect();
            let wanted = json!([{
                "Sid": "repl-cloudwatch",
                "Effect": "Allow",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": arn,
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": "111122223333"},
                    "ArnLike": {"aws:SourceArn": format!("arn:aws:cloudwatch:{region}:111122223333:alarm:*")},
                },
            }]);
            assert_eq!(Value::from(allowed), wanted);
        }
    }
    let readers = |stack: &Stack| {
        let mut readers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for subscription in stack.of("AWS::SNS::Subscription") {
            assert_eq!(subscription["Protocol"], "email");
            let [topic, reader] = ["TopicArn", "Endpoint"].map(|name| subscription[name].as_str().unwrap().to_owned());
            readers.entry(topic).or_default().push(reader);
        }
        readers
    };
    let two = vec!["a@example.com".to_owned(), "b@example.com".to_owned()];
    assert_eq!(readers(&source), BTreeMap::from([(topic("repl", "us-east-1", Tier::Standard), two.clone())]));
    let critical = (topic("repl", "eu-west-2", Tier::Critical), vec!["c@example.com".to_owned()]);
    let standard = (topic("repl", "eu-west-2", Tier::Standard), two);
    assert_eq!(readers(&destination), BTreeMap::from([standard, critical]));
    assert_eq!(readers(&Stack::destination(&[])), BTreeMap::new());
}

/// Lifecycle and tiering of both buckets are the config's defaults under the prefix.
#[test]
fn both_buckets_age_as_the_config_says() {
    let stack = Stack::destination(&[]);
    let lifecycle = config(&stack).lifecycle;
    let wanted: Vec<Value> = lifecycle
        .rules
        .iter()
        .map(|rule| {
            assert_eq!(rule.expire_days, None);
            let mut wanted = json!({"Id": format!("repl-{}", rule.id), "Status": "Enabled", "Prefix": rule.prefix});
            if !rule.transitions.is_empty() {
                let steps = rule.transitions.iter();
                let steps =
                    steps.map(|step| json!({"StorageClass": step.storage_class, "TransitionInDays": step.days}));
                wanted["Transitions"] = steps.collect();
            }
            if let Some(days) = rule.noncurrent_expire_days {
                wanted["NoncurrentVersionExpiration"] = json!({"NoncurrentDays": days});
            }
            if let Some(days) = rule.abort_multipart_days {
                wanted["AbortIncompleteMultipartUpload"] = json!({"DaysAfterInitiation": days});
            }
            wanted
        })
        .collect();
    assert_eq!(wanted.len(), 2);
    let tiering = lifecycle.intelligent_tiering.unwrap();
    let tiering = json!([{"Id": "repl-archive", "Status": "Enabled", "Tierings": [
        {"AccessTier": "ARCHIVE_ACCESS", "Days": tiering.archive_days},
        {"AccessTier": "DEEP_ARCHIVE_ACCESS", "Days": tiering.deep_archive_days},
    ]}]);
    for bucket in [Stack::source(&[]).at("Bucket/Bucket"), stack.at("Buckets/Bucket")] {
        assert_eq!(bucket["LifecycleConfiguration"]["Rules"], Value::from(wanted.clone()));
        assert_eq!(bucket["IntelligentTieringConfigurations"], tiering);
    }
}

/// Every bucket that either stack makes: versions, encryption, nothing public, TLS only, and never deleted with a stack.
#[test]
fn every_bucket_is_closed() {
    let key = |stack: &Stack| stack.at("Buckets/Bucket")["BucketEncryption"].clone();
    let (source, destination) = (Stack::source(&[]), Stack::destination(&[]));
    assert_eq!(key(&destination)["ServerSideEncryptionConfiguration"][0]["BucketKeyEnabled"], true);
    let mut seen = 0;
    for stack in [&source, &destination] {
        for bucket in stack.of("AWS::S3::Bucket") {
            seen += 1;
            let name = bucket["BucketName"].as_str().unwrap();
            assert_eq!(bucket["VersioningConfiguration"]["Status"], "Enabled", "{name}");
            let all = json!({"BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true});
            assert_eq!(bucket["PublicAccessBlockConfiguration"], all, "{name}");
            assert!(bucket["BucketEncryption"].is_object(), "{name}");
            let policies = stack.of("AWS::S3::BucketPolicy");
            let policy = policies.iter().find(|policy| policy["Bucket"] == name).unwrap_or_else(|| panic!("{name}"));
            let denied = json!({
                "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
                "Resource": [format!("arn:aws:s3:::{name}"), format!("arn:aws:s3:::{name}/*")],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            });
            assert!(statements(&policy["PolicyDocument"]).contains(&denied), "{name}");
        }
        for kind in ["AWS::S3::Bucket", "AWS::S3::BucketPolicy"] {
            assert!(stack.deletion_of(kind).iter().all(|policy| policy == "Retain"), "{kind}");
        }
    }
    assert_eq!(seen, 5, "source, target, receipts and two of trails");
    assert_eq!(destination.deletion_of("AWS::EC2::Volume"), ["Snapshot"]);
}

/// Who may use a key: the bucket's users by way of S3 and for this bucket only, and the worker for what its role asks.
#[test]
fn keys_rotate_and_serve_their_bucket_only() {
    let (source, destination) = (Stack::source(&[]), Stack::destination(&[]));
    let role = destination.at("Worker/Role");
    for (stack, bucket) in [(&source, SOURCE), (&destination, TARGET)] {
        let key = stack.at("Keys/BucketKey");
        assert_eq!(key["EnableKeyRotation"], true);
        let arn = format!("arn:aws:s3:::{bucket}");
        let context = json!({"kms:EncryptionContext:aws:s3:arn": [arn, format!("{arn}/*")]});
        let mut workers = BTreeSet::new();
        for statement in statements(&key["KeyPolicy"]) {
            let actions = list(&statement["Action"]);
            assert!(actions.iter().all(|action| !action.contains('*')), "{actions:?}");
            let using: Vec<_> = actions.iter().filter(|action| is_use_of_key(action)).cloned().collect();
            if using.is_empty() {
                continue;
            }
            assert_eq!(using, actions, "users administer nothing");
            assert_eq!(statement["Condition"]["StringLike"], context, "{bucket}");
            let worker = json!({"aws:PrincipalArn": "arn:aws:iam::111122223333:role/repl-worker"});
            if statement["Condition"]["ArnEquals"] == worker {
                workers.extend(using);
            } else {
                let region = if bucket == SOURCE { "us-east-1" } else { "eu-west-2" };
                let via = json!({"kms:ViaService": format!("s3.{region}.amazonaws.com")});
                assert_eq!(statement["Condition"]["StringEquals"], via);
            }
        }
        let asked: BTreeSet<String> = statements(&role["Policies"][0]["PolicyDocument"])
            .iter()
            .filter(|statement| {
                statement["Sid"].as_str().unwrap().contains(if bucket == SOURCE { "Source" } else { "Target" })
            })
            .flat_map(|statement| list(&statement["Action"]))
            .filter(|action| is_use_of_key(action))
            .collect();
        assert_eq!(workers, asked, "what the key permits the worker is what its role asks");
        assert_eq!(stack.deletion_of("AWS::KMS::Key")[0], "Retain");

        let topics = statements(&stack.at("Keys/TopicKey")["KeyPolicy"]);
        let users: Vec<&Value> =
            topics.iter().filter(|one| list(&one["Action"]).iter().any(|action| is_use_of_key(action))).collect();
        let [user] = users.as_slice() else { panic!("{users:?}") };
        assert_eq!(user["Principal"], json!({"Service": "cloudwatch.amazonaws.com"}));
        assert_eq!(list(&user["Action"]), ["kms:Decrypt", "kms:GenerateDataKey*"]);
    }
    let open = Stack::destination(&[("EncryptTopics", "false")]);
    assert!(!open.has("Keys/TopicKey"));
    assert!(open.of("AWS::SNS::Topic").iter().all(|topic| topic.get("KmsMasterKeyId").is_none()));
    assert!(destination.of("AWS::SNS::Topic").iter().all(|topic| topic["KmsMasterKeyId"].is_string()));
}

fn is_use_of_key(action: &str) -> bool {
    ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncrypt"]
        .iter()
        .any(|use_of| action.starts_with(use_of))
}

/// S3 may send to the queue for this bucket of this account, and is told of all that the worker acts on.
#[test]
fn events_reach_the_queue() {
    let stack = Stack::source(&[]);
    let (queue, dead) = (stack.at("Events/Queue"), stack.at("Events/DeadLetters"));
    let arn = |queue: &Value| format!("arn:aws:sqs:us-east-1:111122223333:{}", queue["QueueName"].as_str().unwrap());
    assert_eq!((&queue["QueueName"], &dead["QueueName"]), (&json!("repl-events"), &json!("repl-events-dlq")));
    assert_eq!(queue["RedrivePolicy"]["deadLetterTargetArn"], arn(dead));
    let receives = config(&Stack::destination(&[])).queue.unwrap().max_receives;
    assert_eq!(queue["RedrivePolicy"]["maxReceiveCount"], receives);
    assert_eq!(
        (&queue["MessageRetentionPeriod"], &dead["MessageRetentionPeriod"]),
        (&json!(1_209_600), &json!(1_209_600))
    );
    let allowed = json!({
        "Sid": "repl-s3-events",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn(queue),
        "Condition": {
            "ArnLike": {"aws:SourceArn": format!("arn:aws:s3:*:*:{SOURCE}")},
            "StringEquals": {"aws:SourceAccount": "111122223333"},
        },
    });
    let policy = statements(&stack.at("Events/QueuePolicy")["PolicyDocument"]);
    assert_eq!(policy.iter().filter(|one| one["Effect"] == "Allow").collect::<Vec<_>>(), [&allowed]);
    let configurations = &stack.at("Bucket/Bucket")["NotificationConfiguration"]["QueueConfigurations"];
    let events: BTreeSet<&str> =
        configurations.as_array().unwrap().iter().map(|one| one["Event"].as_str().unwrap()).collect();
    let wanted = [
        "ObjectAcl:Put",
        "ObjectCreated:*",
        "ObjectRemoved:*",
        "ObjectRestore:Completed",
        "ObjectRetention:Put",
        "ObjectTagging:*",
    ];
    assert_eq!(events, wanted.map(|event| format!("s3:{event}")).iter().map(String::as_str).collect());
    assert!(configurations.as_array().unwrap().iter().all(|one| one["Queue"] == arn(queue)));
}
