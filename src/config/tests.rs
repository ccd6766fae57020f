//! Every refusal by its whole sentence, every default by its value, and the laws of reading.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

mod hostile;

use proptest::prelude::*;

use super::*;
use crate::model::limits::Bound;
use crate::model::object::TargetId;
use crate::model::window::Zone;
use crate::plan::route::History;

const LEAST: &str = r#"[source]
bucket = "acme-primary"
region = "us-east-1"
[targets.dr]
bucket = "acme-dr"
region = "eu-west-2"
[[rules]]
id = "one"
target = "dr"
"#;

/// What is said of the least config with more lines after it; the first of them is line 10, within the rule.
fn said(more: &str) -> String {
    parse(&format!("{LEAST}{more}\n"), "repl.toml").unwrap_err().to_string()
}

fn meant(more: &str) -> Config {
    parse(&format!("{LEAST}{more}\n"), "repl.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// What is said of the least config with one text in it replaced.
fn said_of(from: &str, to: &str) -> String {
    assert!(LEAST.contains(from));
    parse(&LEAST.replace(from, to), "repl.toml").unwrap_err().to_string()
}

/// Found by damaged text in which one block stood 2,500 times: each was held against each, and all pairs were told.
#[test]
fn a_config_of_many_mistakes_is_answered_briefly() {
    let rule = "[[rules]]\nid = \"one\"\ntarget = \"dr\"\n";
    let few = said(&rule.repeat(3));
    assert_eq!(few.lines().count(), 6, "of each pair the first is told, by id and by priority: {few}");
    let many = said(&rule.repeat(2_500));
    assert!(many.contains("rules: 2501 are too many, accepted are 1000, as native replication takes"), "{many}");
    let unknown: String = (0..2_000).map(|n| format!("key{n} = 1\n")).collect();
    let said = said(&unknown);
    assert_eq!(said.lines().count(), 501);
    assert!(said.ends_with(": 1500 more problems are not shown; mend these first"), "{said}");
}

#[test]
fn the_least_config_has_the_documented_defaults() {
    let config = meant("");
    let rule = &config.rules[0];
    assert_eq!((rule.priority, rule.prefix.as_str(), rule.target_prefix.as_str()), (0, "", ""));
    assert_eq!((rule.enabled, rule.stamp, rule.delete_markers, rule.acl), (true, true, false, false));
    assert_eq!((rule.history, rule.owner_full_control), (History::All, false));
    assert_eq!(config.queue, None);
    assert_eq!(config.ledger.path, PathBuf::from("/var/lib/repl"));
    assert_eq!((config.brake.deletes_per_hour, config.brake.share_of_keys), (1000, Share::percent(5)));
    assert_eq!((config.receipts, config.canary), (None, None));
    assert_eq!((config.transfer.mode, config.transfer.memory), (TransferMode::Auto, 48 << 20));
    assert_eq!((config.transfer.concurrency, config.transfer.bandwidth), (Concurrency::Auto, None));
    assert_eq!(config.sla.threshold, Duration::from_secs(900));
    assert_eq!(config.monitoring.connection.region, "eu-west-2");
    assert_eq!((config.monitoring.namespace.as_str(), config.monitoring.cloudwatch), ("Repl", true));
    assert_eq!(config.web.listen.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9464"));
    assert_eq!(config.escalation.reminder, Some(Duration::from_secs(4 * 3600)));
    let thresholds = config.escalation.thresholds;
    assert_eq!(thresholds.replication_latency_warning, Duration::from_secs(1800));
    assert_eq!(thresholds.replication_latency_critical, Duration::from_secs(3600));
    assert_eq!(thresholds.latency_exceeds_sla, Duration::from_secs(900));
    assert_eq!((thresholds.pending_operations, thresholds.bytes_pending), (100, 1 << 30));
    assert_eq!((thresholds.source_size_growth, thresholds.worker_silent.get()), (1 << 40, 3));
    assert_eq!(config.lifecycle.apply_to, [LifecycleSide::Source, LifecycleSide::Target]);
    let days: Vec<u32> = config.lifecycle.rules[0].transitions.iter().map(|step| step.days).collect();
    assert_eq!(days, [30, 90, 365]);
}

#[test]
fn what_is_written_is_meant() {
    let config = meant(
        r#"
tags = { class = "gold" }
status = "disabled"
history = "latest"
owner = "target"
kms_map = { "arn:aws:kms:us-east-1:111122223333:key/a" = "arn:aws:kms:eu-west-2:111122223333:key/b" }
target_prefix = "from-us/"
[queue]
url = "http://127.0.0.1:5555/000000000000/events"
ack = "settled"
[sla]
threshold = "1h30m"
[transfer]
mode = "server-side"
concurrency = 7
bandwidth = "20MiB/s"
requests_per_second = 300
[web]
listen = "off"
token = "file:/etc/repl/token"
[receipts]
bucket = "acme-receipts"
[escalation]
standard = { emails = ["ops@example.com"] }
management = { topic_arn = "arn:aws:sns:eu-west-2:111122223333:execs" }
"#,
    );
    let rule = &config.rules[0];
    assert_eq!((rule.enabled, rule.history, rule.owner_full_control), (false, History::Latest, true));
    assert_eq!(rule.tags["class"], "gold");
    assert_eq!(rule.kms_map.len(), 1);
    let queue = config.queue.clone().unwrap();
    assert_eq!(queue.ack, Ack::Settled);
    assert_eq!(queue.connection.endpoint.as_deref(), Some("http://127.0.0.1:5555"));
    assert_eq!(queue.connection.region, "us-east-1");
    assert_eq!(config.escalation.thresholds.latency_exceeds_sla, Duration::from_secs(5400));
    assert_eq!(config.transfer.mode, TransferMode::ServerSide);
    assert_eq!(config.transfer.concurrency, Concurrency::Fixed(NonZeroU32::new(7).unwrap()));
    assert_eq!(config.transfer.bandwidth, NonZeroU64::new(20 << 20));
    assert_eq!(config.transfer.requests_per_second, NonZeroU32::new(300));
    assert_eq!(config.web.listen, None);
    assert_eq!(config.web.token, Some(Secret::File(PathBuf::from("/etc/repl/token"))));
    assert_eq!(config.receipts.clone().unwrap().connection, config.targets[0].connection);
    assert_eq!(config.escalation.standard, Some(Tier::Emails(vec!["ops@example.com".to_owned()])));
    assert!(config.target(&TargetId::new("dr")).is_some());
}

#[test]
fn one_mistake_in_the_rule_is_one_sentence() {
    for (line, sentence) in [
        ("histroy = \"all\"", "rules[0].histroy: unknown key, did you mean \"history\"?"),
        (
            "history = \"newest\"",
            "rules[0].history: unknown value, the nearest known is \"latest\", accepted are \"all\", \"latest\"",
        ),
        ("status = \"enabeld\"", "rules[0].status: unknown value, did you mean \"enabled\"?"),
        ("status = true", "rules[0].status: it is true or false, accepted is \"enabled\" or \"disabled\""),
        ("priority = \"1\"", "rules[0].priority: it is a text, accepted is a whole number"),
        ("stamp = 1", "rules[0].stamp: it is a number, accepted is true or false"),
        ("storage_class = \"STANDARD_AI\"", "rules[0].storage_class: unknown value, did you mean \"STANDARD_IA\"?"),
        ("tags = \"gold\"", "rules[0].tags: it is a text, accepted is a table"),
        ("tags = { class = 1 }", "rules[0].tags.class: it is a number, accepted is a tag value of at most 256 letters"),
        (
            "tags = { a1=\"\",a2=\"\",a3=\"\",a4=\"\",a5=\"\",a6=\"\",a7=\"\",a8=\"\",a9=\"\",b1=\"\",b2=\"\" }",
            "rules[0].tags: there are 11, accepted are at most 10, as S3 has for an object",
        ),
        (
            "kms_key = \"alias/replica\"",
            "rules[0].kms_key: \"alias/replica\" is an alias, and an alias or bare id resolves in the account and region of the caller, accepted is a key's full ARN such as \"arn:aws:kms:eu-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\"",
        ),
        (
            "kms_key = \"1234abcd\"",
            "rules[0].kms_key: \"1234abcd\" is not a full key ARN, and an alias or bare id resolves in the account and region of the caller, accepted is",
        ),
        (
            "kms_key = \"arn:aws:kms:eu-west-2:111122223333:alias/x\"",
            "is an alias, which can be pointed at another key and resolves in the account of the caller, accepted is",
        ),
        (
            "kms_key = \"arn:aws:kms:eu-west-2:1111:key/x\"",
            "rules[0].kms_key: \"arn:aws:kms:eu-west-2:1111:key/x\" is not the ARN of a KMS key, accepted is",
        ),
        (
            "kms_key = \"arn:aws:kms:us-east-1:111122223333:key/x\"",
            "rules[0].kms_key: the key \"arn:aws:kms:us-east-1:111122223333:key/x\" is in \"us-east-1\" but the target in \"eu-west-2\", accepted is a key in \"eu-west-2\"",
        ),
        (
            "kms_map = { \"arn:aws:kms:us-east-1:111122223333:key/a\" = \"arn:aws:kms:us-east-1:111122223333:key/b\" }",
            "is in \"us-east-1\" but the target in \"eu-west-2\"",
        ),
        (
            "kms_map = { \"arn:aws:kms:eu-west-1:111122223333:key/a\" = \"arn:aws:kms:eu-west-2:111122223333:key/b\" }",
            "is in \"eu-west-1\" but the source in \"us-east-1\"",
        ),
        (
            "kms_map = { a = \"arn:aws:kms:eu-west-2:111122223333:key/b\" }",
            "rules[0].kms_map.a: the name is refused: \"a\" is not a full key ARN",
        ),
    ] {
        let said = said(line);
        assert!(said.contains(sentence), "{line}\n{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("repl.toml:1"), "{said}");
    }
}

#[test]
fn one_mistake_in_another_section_is_one_sentence() {
    for (line, sentence) in [
        (
            "[sla]\nthreshold = 15",
            "11: sla.threshold: 15 has no unit, accepted is a duration such as \"15m\", \"500ms\" or \"1h30m\" (units d, h, m, s, ms)",
        ),
        ("[sla]\nthreshold = \"15\"", "sla.threshold: \"15\" has no unit, accepted is a duration"),
        ("[sla]\nthreshold = \"0s\"", "sla.threshold: \"0s\" is too short, accepted is \"1s\" or more"),
        ("[transfer]\nmemory = 48", "transfer.memory: 48 has no unit, accepted is a size such as \"48MiB\""),
        (
            "[transfer]\nmemory = \"15MiB\"",
            "transfer.memory: \"15MiB\" does not hold one part twice, accepted is \"16MiB\" or more",
        ),
        (
            "[transfer]\nconcurrency = 0",
            "transfer.concurrency: 0 would let nothing through, accepted is \"auto\" or a number, 1 or more",
        ),
        ("[transfer]\nconcurrency = \"many\"", "transfer.concurrency: \"many\" is no number, accepted is \"auto\""),
        (
            "[transfer]\nbandwidth = \"20MiB\"",
            "transfer.bandwidth: \"20MiB\" does not end in \"/s\", accepted is \"unlimited\" or a rate such as \"20MiB/s\"",
        ),
        ("[transfer]\nbandwidth = \"0B/s\"", "transfer.bandwidth: \"0B/s\" would let nothing through"),
        (
            "[queue]\nurl = \"https://sqs.us-east-1.amazonaws.com/111122223333/q\"\nmax_receives = 0",
            "queue.max_receives: 0 is out of range, accepted is a number from 1 to 1000",
        ),
        (
            "[queue]\nurl = \"https://sqs.us-east-1.amazonaws.com/111122223333/q\"\nkms_key = \"arn:aws:kms:eu-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\"",
            "is in \"eu-west-2\" but the queue in \"us-east-1\"",
        ),
        (
            "[escalation]\nkms_key = \"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\"",
            "is in \"us-east-1\" but the topics in \"eu-west-2\"",
        ),
        (
            "[escalation]\nforwarding_role_arn = \"repl\"",
            "escalation.forwarding_role_arn: \"repl\" is not the ARN of a role",
        ),
        ("[transfer]\nmode = \"server_side\"", "transfer.mode: unknown value, did you mean \"server-side\"?"),
        (
            "[brake]\nshare_of_keys = 5",
            "brake.share_of_keys: 5 has no unit, accepted is a percentage such as \"5%\" or \"0.5%\"",
        ),
        (
            "[brake]\ndeletes_per_hour = -1",
            "brake.deletes_per_hour: -1 is negative, accepted is a whole number, 0 or more",
        ),
        (
            "[web]\nlisten = \"localhost:80\"",
            "web.listen: \"localhost:80\" is not an IP address and port, accepted is \"off\" or",
        ),
        ("[web]\ntoken = \"file:\"", "web.token: there is no path after \"file:\", accepted is"),
        ("[queue]", "10: queue.url: it is missing, accepted is an http:// or https:// address"),
        (
            "[queue]\nurl = \"https://sqs.us-east-1.amazonaws.com\"",
            "queue.url: it names no queue, accepted is a URL such as",
        ),
        (
            "[queue]\nurl = \"https://sqs.us-west-2.amazonaws.com/1/q\"",
            "queue.region: it is \"us-east-1\" but queue.url is in \"us-west-2\", accepted is region = \"us-west-2\"",
        ),
        (
            "[queue]\nurl = \"http://mq.example.com/1/q\"",
            "queue.endpoint: plain HTTP would cross the network in the clear",
        ),
        (
            "[queue]\nurl = \"http://127.0.0.1:1/1/q\"\nack = \"done\"",
            "12: queue.ack: unknown value, the nearest known is",
        ),
        (
            "[monitoring]\nnamespace = \"AWS/S3\"",
            "monitoring.namespace: \"AWS/S3\" is not a namespace for our own metrics",
        ),
        ("[monitoring]\ninterval = \"10ms\"", "monitoring.interval: \"10ms\" is too short, accepted is \"1s\" or more"),
        ("[canary]\nevery = \"0s\"", "canary.every: \"0s\" is too short"),
        ("[ledger]\npath = \"\"", "ledger.path: it is empty, accepted is a directory such as \"/var/lib/repl\""),
        (
            "[escalation]\ncritical = { emails = [\"a@b.c\"], topic_arn = \"arn:aws:sns:eu-west-2:111122223333:t\" }",
            "escalation.critical: it has both emails and topic_arn, accepted is one of them",
        ),
        ("[escalation]\ncritical = {}", "escalation.critical: nobody would hear, accepted is emails ="),
        (
            "[escalation]\ncritical = { emails = [] }",
            "escalation.critical.emails: it holds no address, accepted is a list such as",
        ),
        (
            "[escalation]\ncritical = { emails = [\"a@b.c\",\n\"nobody\"] }",
            "12: escalation.critical.emails[1]: \"nobody\" is not an e-mail address, accepted is",
        ),
        (
            "[escalation]\ncritical = { email = [\"a@b.c\"], topic_arn = \"arn:aws:sns:eu-west-2:111122223333:t\" }",
            "escalation.critical.email: unknown key, did you mean \"emails\"?",
        ),
        (
            "[escalation]\ncritical = { topic_arn = \"arn:aws:sns:us-east-1:111122223333:t\" }",
            "escalation.critical.topic_arn: the topic is in \"us-east-1\" but alarms live in monitoring.region \"eu-west-2\"",
        ),
        (
            "[escalation]\ncritical = { topic_arn = \"execs\" }",
            "escalation.critical.topic_arn: \"execs\" is not the ARN of a topic",
        ),
        (
            "[escalation]\nperiod = \"45s\"",
            "escalation.period: \"45s\" is no period of CloudWatch, accepted is \"10s\", \"20s\", \"30s\" or whole minutes",
        ),
        (
            "[escalation]\nwebhook = { url = \"http://hooks.example.com\", secret = \"s\" }",
            "escalation.webhook.url: plain HTTP would cross",
        ),
        (
            "[escalation]\nsmtp = { host = \"h\", from = \"a@b.c\", user = \"u\" }",
            "escalation.smtp: user and password go together, accepted are both or neither",
        ),
        (
            "[monitoring]\ninterval = \"2m\"",
            "monitoring.interval: \"2m\" would leave evaluation periods of \"1m\" without data, accepted is at most",
        ),
        ("[escalation]\nreminder = \"4\"", "escalation.reminder: \"4\" has no unit, accepted is \"off\" or a duration"),
        ("[escalation]\nreminder = \"5s\"", "escalation.reminder: \"5s\" is too short, accepted is \"1m\" or more"),
        (
            "[escalation.thresholds]\nPendingOperation = 1",
            "escalation.thresholds.PendingOperation: unknown key, did you mean \"PendingOperations\"?",
        ),
        (
            "[escalation.thresholds]\nPendingOperations = \"1\"",
            "escalation.thresholds.PendingOperations: it is a text, accepted is a whole number, 0 or more",
        ),
        (
            "[escalation.thresholds]\nBytesPending = \"30m\"",
            "escalation.thresholds.BytesPending: \"30m\" has the unknown unit \"m\", accepted is a size",
        ),
        (
            "[escalation.thresholds]\nReplicationLatencyWarning = \"1GiB\"",
            "escalation.thresholds.ReplicationLatencyWarning: \"1GiB\" has the unknown unit \"GiB\", accepted is a duration",
        ),
        (
            "[escalation.thresholds]\nWorkerSilent = 2000",
            "escalation.thresholds.WorkerSilent: 2000 periods of \"1m\" are too long for CloudWatch, accepted is up to \"1d\" in all",
        ),
        (
            "[lifecycle]\napply_to = [\"sauce\"]",
            "lifecycle.apply_to[0]: \"sauce\" is no side, accepted is \"source\" or \"target\"",
        ),
        (
            "[lifecycle]\nintelligent_tiering = { archive_after = \"30d\" }",
            "lifecycle.intelligent_tiering.archive_after: 30 days are refused by S3, accepted is \"90d\" to \"730d\"",
        ),
        ("[[lifecycle.rules]]\nid = \"x\"", "lifecycle.rules[0]: it does nothing, accepted is at least one of"),
        (
            "[[lifecycle.rules]]\nid = \"x\"\nexpire_after = \"36h\"",
            "lifecycle.rules[0].expire_after: \"36h\" is not a number of whole days, accepted is a duration of whole days such as \"30d\"",
        ),
        (
            "[[lifecycle.rules]]\nid = \"x\"\ntransitions = [{ after = \"7d\", storage_class = \"STANDARD_IA\" }]",
            "lifecycle.rules[0].transitions[0].after: S3 moves to STANDARD_IA no earlier, accepted is \"30d\" or more",
        ),
        (
            "[[lifecycle.rules]]\nid = \"x\"\ntransitions = [{ after = \"30d\", storage_class = \"STANDARD_IA\" }, { after = \"40d\", storage_class = \"GLACIER\" }]",
            "transitions[1].after: it is too soon after the step before, accepted is \"60d\" or more",
        ),
        (
            "[[lifecycle.rules]]\nid = \"x\"\ntransitions = [{ after = \"30d\", storage_class = \"GLACIER\" }, { after = \"90d\", storage_class = \"STANDARD_IA\" }]",
            "transitions[1].storage_class: S3 moves nothing from GLACIER to STANDARD_IA, accepted is a colder class",
        ),
        (
            "[[lifecycle.rules]]\nid = \"x\"\nexpire_after = \"1d\"\n[[lifecycle.rules]]\nid = \"x\"\nexpire_after = \"1d\"",
            "14: lifecycle.rules[1].id: \"x\" is the id of another rule too",
        ),
        (
            "[targets.b]\nbucket = \"acme-dr\"\nregion = \"eu-west-1\"",
            "11: targets.b.bucket: it is the bucket of target \"dr\" too, accepted is one target per bucket",
        ),
        (
            "[targets.\"a b\"]\nbucket = \"acme-two\"\nregion = \"eu-west-1\"",
            "10: targets.\"a b\": this is no name for a target, accepted are 1 to 64 letters",
        ),
        ("[mointoring]", "10: mointoring: unknown key, did you mean \"monitoring\"?"),
    ] {
        let said = said(line);
        assert!(said.contains(sentence), "{line}\n{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn one_mistake_in_the_sides_is_one_sentence() {
    for (from, to, sentence) in [
        (
            "bucket = \"acme-primary\"\n",
            "",
            "repl.toml:1: source.bucket: it is missing, accepted is a bucket name of 3 to 63",
        ),
        (
            "region = \"us-east-1\"\n",
            "",
            "repl.toml:1: source.region: it is missing, accepted is a region such as \"eu-west-2\"",
        ),
        ("region = \"eu-west-2\"\n", "", "repl.toml:4: targets.dr.region: it is missing, accepted is a region"),
        (
            "acme-dr",
            "Acme-dr",
            "repl.toml:5: targets.dr.bucket: \"Acme-dr\" is not a legal bucket name, accepted is a bucket name",
        ),
        ("acme-dr", "ab", "targets.dr.bucket: \"ab\" has 2 letters"),
        ("acme-dr", "10.0.0.1", "targets.dr.bucket: \"10.0.0.1\" looks like an IP address"),
        ("acme-dr", "acme..dr", "targets.dr.bucket: \"acme..dr\" is not a legal bucket name"),
        ("acme-dr", "acme--x-s3", "targets.dr.bucket: \"acme--x-s3\" is reserved by S3"),
        ("acme-dr", "s3://acme-dr", "targets.dr.bucket: \"s3://acme-dr\" is not a bare bucket name"),
        (
            "us-east-1",
            "virginia",
            "source.region: \"virginia\" is no region of AWS, accepted is one such as \"eu-west-2\", or any with an endpoint",
        ),
        (
            "region = \"us-east-1\"",
            "regoin = \"us-east-1\"\nregion = \"us-east-1\"",
            "repl.toml:3: source.regoin: unknown key, did you mean \"region\"?",
        ),
        (
            "[targets.dr]",
            "endpoint = \"http://10.0.0.1:9000\"\n[targets.dr]",
            "repl.toml:4: source.endpoint: plain HTTP would cross the network in the clear, accepted is https:// or, with allow_http = true, this",
        ),
        (
            "[targets.dr]",
            "endpoint = \"ftp://host\"\n[targets.dr]",
            "source.endpoint: it begins with neither \"http://\" nor \"https://\", accepted is",
        ),
        (
            "[targets.dr]",
            "endpoint = \"https://host:99999\"\n[targets.dr]",
            "source.endpoint: its port is not a number from 1 to 65535",
        ),
        (
            "[targets.dr]",
            "endpoint = \"https://host/bucket\"\n[targets.dr]",
            "source.endpoint: it has a path, accepted is scheme, host and port only",
        ),
        (
            "[targets.dr]",
            "external_id = \"x\"\n[targets.dr]",
            "source.external_id: it is of no use alone, accepted is external_id with a role_arn",
        ),
        (
            "[targets.dr]",
            "role_arn = \"repl\"\n[targets.dr]",
            "source.role_arn: \"repl\" is not the ARN of a role, accepted is a role's full ARN",
        ),
        (
            "[targets.dr]",
            "expected_bucket_owner = \"1\"\n[targets.dr]",
            "source.expected_bucket_owner: \"1\" is not an account id, accepted is an account id of 12 digits, in quotes",
        ),
        ("target = \"dr\"", "target = \"rd\"", "repl.toml:9: rules[0].target: unknown target, did you mean \"dr\"?"),
        ("id = \"one\"\n", "", "repl.toml:7: rules[0].id: it is missing, accepted is 1 to 255 printable ASCII letters"),
        (
            "[[rules]]\nid = \"one\"\ntarget = \"dr\"\n",
            "",
            "repl.toml:1: rules: there is no rule, accepted is at least one section [[rules]]",
        ),
        (
            "acme-dr",
            "acme-primary",
            "repl.toml:9: rules[0].target: it is the source bucket itself, and what this rule writes under \"\" rule \"one\" would replicate again without end, accepted is another bucket",
        ),
    ] {
        let said = said_of(from, to);
        assert!(said.contains(sentence), "{to}\n{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn plain_http_is_for_this_machine_or_allowed() {
    for endpoint in ["http://127.0.0.1:5555", "http://localhost:9000", "http://[::1]:80", "https://s3.example.com/"] {
        let text = LEAST.replace("[targets.dr]", &format!("endpoint = \"{endpoint}\"\n[targets.dr]"));
        assert!(parse(&text, "f").is_ok(), "{endpoint}");
    }
    let open = "endpoint = \"http://10.0.0.1:9000\"\nallow_http = true\n[targets.dr]";
    assert!(parse(&LEAST.replace("[targets.dr]", open), "f").is_ok());
}

#[test]
fn rules_are_rivals_only_where_both_could_claim_one_object() {
    let second = |lines: &str| {
        format!("prefix = \"a/\"\ntags = {{ t = \"1\" }}\n[[rules]]\nid = \"two\"\ntarget = \"dr\"\n{lines}")
    };
    let rival = said(&second("prefix = \"a/b/\""));
    assert!(rival.contains("rules[1].priority: it is 0 as in rules[0], which has the same target and can claim the same keys, accepted is a priority of its own"), "{rival}");
    for apart in ["prefix = \"b/\"", "priority = 1", "status = \"disabled\"", "tags = { t = \"2\" }"] {
        meant(&second(apart));
    }
    let twin = said("[[rules]]\nid = \"one\"\ntarget = \"dr\"\npriority = 1");
    assert!(
        twin.ends_with("repl.toml:11: rules[1].id: \"one\" is the id of rules[0] too, accepted is an id of its own"),
        "{twin}"
    );
}

#[test]
fn a_bucket_may_be_its_own_target_where_prefixes_keep_them_apart() {
    let text = LEAST.replace("acme-dr", "acme-primary");
    let apart = format!("{text}prefix = \"live/\"\ntarget_prefix = \"copy/\"\n");
    assert!(parse(&apart, "f").is_ok());
    let chained =
        format!("{apart}[[rules]]\nid = \"two\"\ntarget = \"dr\"\nprefix = \"copy/\"\ntarget_prefix = \"more/\"\n");
    let said = parse(&chained, "f").unwrap_err().to_string();
    assert!(said.contains("rules[0].target") && said.contains("rule \"two\""), "{said}");
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_lines() {
    let text = LEAST.replace("acme-primary", "X").replace("\"eu-west-2\"", "7").replace("target =", "traget =");
    let errors = parse(&format!("{text}[sla]\nthreshold = 15\n"), "dir/repl.toml").unwrap_err();
    let lines: Vec<usize> = errors.problems().iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 6, 7, 9, 11], "{errors}");
    assert!(errors.to_string().lines().all(|line| line.starts_with("dir/repl.toml:")));
}

#[test]
fn an_empty_file_is_told_all_that_it_needs() {
    let said = parse("", "f").unwrap_err().to_string();
    for key in ["source.bucket", "source.region", "targets", "rules"] {
        assert!(said.contains(&format!("f:1: {key}: ")), "{said}");
    }
}

#[test]
fn text_that_is_not_toml_has_a_line_and_a_column() {
    let said = parse("[source]\nbucket = oops\n", "f").unwrap_err().to_string();
    assert!(said.starts_with("f:2:10: this is not TOML: "), "{said}");
    assert_eq!(said.lines().count(), 1);
}

#[test]
fn a_secret_is_shown_nowhere() {
    let config = meant("[web]\ntoken = \"hunter2\"");
    assert!(!format!("{config:?}").contains("hunter2"));
    for wrong in ["[web]\ntoken = [\"hunter2\"]", "[web]\ntokn = \"hunter2\"", "[escalation]\nwebhook = \"hunter2\""] {
        assert!(!said(wrong).contains("hunter2"), "{wrong}");
    }
}

#[test]
fn identity_and_store_are_compared_apart_from_the_region() {
    let side = |region: &str| Connection { region: region.to_owned(), ..Connection::default() };
    assert!(side("us-east-1").same_identity(&side("eu-west-2")));
    assert!(!side("us-east-1").same_identity(&Connection { profile: Some("p".to_owned()), ..side("us-east-1") }));
    assert!(side("us-east-1").same_store(&side("eu-west-2")));
    assert!(!side("us-east-1").same_store(&side("cn-north-1")));
    assert!(
        !side("us-east-1").same_store(&Connection { endpoint: Some("http://[::1]".to_owned()), ..side("us-east-1") })
    );
}

proptest! {
    #[test]
    fn an_unknown_key_anywhere_is_named(key in "[a-z]{1,12}x9") {
        for section in ["queue", "sla", "web", "escalation", "escalation.thresholds", "transfer"] {
            let text = format!("{LEAST}[{section}]\n{key} = 1\n");
            let said = parse(&text, "f").unwrap_err().to_string();
            let told = format!("{}.{}: unknown key, ", section, key);
            prop_assert!(said.contains(&told), "{}", said);
        }
    }
}

#[test]
fn windows_are_read_and_their_mistakes_told() {
    let office = "[[transfer.windows]]\nfrom = \"08:00\"\nto = \"18:00\"\n";
    let config =
        meant(&format!("[transfer]\nbandwidth = \"1MiB/s\"\n{office}bandwidth = \"unlimited\"\nconcurrency = 4"));
    let window = &config.transfer.windows[0];
    assert_eq!((window.days, &window.zone), ([true; 7], &Zone::utc()));
    assert_eq!(window.limits.bandwidth, Some(Bound::Unlimited), "said, and not left out");
    assert_eq!(window.limits.requests_per_second, None);
    let weekend =
        meant(&format!("{office}days = [\"sun\", \"sat\"]\nzone = \"Europe/London\"\nconcurrency = \"auto\""));
    assert_eq!(weekend.transfer.windows[0].days, [false, false, false, false, false, true, true]);
    for (more, sentence) in [
        ("", "transfer.windows[0]: it limits nothing, accepted is bandwidth, requests_per_second or concurrency"),
        (
            "concurrency = 1\ndays = [\"monday\"]",
            "transfer.windows[0].days[0]: \"monday\" is no day, accepted is \"mon\"",
        ),
        ("concurrency = 1\ndays = []", "transfer.windows[0].days: it holds no day, accepted is a list such as"),
        ("concurrency = 1\nzone = \"Europe/Lundon\"", "transfer.windows[0].zone: \"Europe/Lundon\" is no time zone"),
        ("concurrency = 0", "transfer.windows[0].concurrency: 0 would let nothing through"),
        ("concurency = 1", "transfer.windows[0].concurency: unknown key, did you mean \"concurrency\"?"),
    ] {
        let told = said(&format!("{office}{more}"));
        assert!(told.contains(sentence), "{told}");
    }
    let told = said("[[transfer.windows]]\nfrom = \"8\"\nconcurrency = 1");
    assert!(
        told.contains("windows[0].from: \"8\" is no time of day, accepted is a time of day from \"00:00\""),
        "{told}"
    );
    assert!(told.contains("windows[0].to: it is missing, accepted is a time of day"), "{told}");
}
