//! Reads each section of a file: which keys there are, of which kind, and their defaults.
//!
//! What is missing or refused is replaced by something empty, so that reading goes on and finds all that is wrong; the
//! file as a whole is then refused.

use std::path::PathBuf;
use std::time::Duration;

use super::file::Section;
use super::kinds::{
    ACCOUNT, Address, BANDWIDTH, BUCKET, CONCURRENCY, COUNT, DURATION, EMAIL, HOST, KEY_PREFIX, KMS_ARN, LISTEN,
    NAME_PREFIX, NAMESPACE, PATH, PERIODS, PORT, PRIORITY, RECEIVES, REGION, REMINDER, REQUEST_RATE, ROLE_ARN, RULE_ID,
    SECRET, SHARE, SIZE, SWITCH, TAG_NAME, TAG_VALUE, TEXT, TOPIC_ARN, URL, is_word,
};
use super::settings::{
    Ack, Brake, Canary, Concurrency, Config, Connection, Escalation, Ledger, Lifecycle, LifecycleSide, Monitoring,
    Queue, Receipts, Secret, Share, Sla, Smtp, Source, Target, Tier, Transfer, TransferClient, TransferMode, Web,
    Webhook,
};
use crate::model::object::{RuleId, TargetId};
use crate::plan::route::{History, Rule};
use crate::watch::alarms::Thresholds;

mod lifecycle;
mod windows;

const MINUTE: Duration = Duration::from_secs(60);

/// The defaults of DESIGN 2.2 and 5.2 that are more than a switch or an empty text.
mod default {
    use super::{Duration, MINUTE};

    pub(super) const LEDGER: &str = "/var/lib/repl";
    pub(super) const DELETES_PER_HOUR: u64 = 1000;
    pub(super) const DELETES_PERCENT: u8 = 5;
    pub(super) const MEMORY: u64 = 48 << 20;
    pub(super) const SLA: Duration = MINUTE.saturating_mul(15);
    pub(super) const LATENCY_WARNING: Duration = MINUTE.saturating_mul(30);
    pub(super) const LATENCY_CRITICAL: Duration = MINUTE.saturating_mul(60);
    /// Often enough for each shift to hear of it, seldom enough to be read.
    pub(super) const REMINDER: Duration = MINUTE.saturating_mul(240);
    pub(super) const PENDING_OPERATIONS: u64 = 100;
    pub(super) const BYTES_PENDING: u64 = 1 << 30;
    pub(super) const ERRORS_4XX: u64 = 10;
    pub(super) const ERRORS_5XX: u64 = 5;
    pub(super) const KMS_FAILURES: u64 = 5;
    pub(super) const SIZE_GROWTH: u64 = 1 << 40;
    pub(super) const SILENT_PERIODS: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(2);
    /// A message that a worker could not take in five times is not taken in the sixth time.
    pub(super) const MAX_RECEIVES: u32 = 5;
    /// The port that RFC 6409 gives to mail submission.
    pub(super) const SMTP_PORT: u16 = 587;
}

/// All sections.
pub(super) fn config(file: &mut Section<'_>) -> Config {
    let source = file.section("source", |section| Source {
        bucket: section.need("bucket", &BUCKET).unwrap_or_default(),
        connection: bucket_connection(section),
    });
    let queue = file.optional("queue", |section| Some(queue(section, &source.connection.region)));
    let targets = file.named("targets", target);
    if targets.is_empty() && !file.is_refused("targets") {
        file.refuse("targets", "there is no target, accepted is at least one section such as [targets.dr]");
    }
    let rules = file.list("rules", rule).unwrap_or_default();
    if rules.is_empty() && !file.is_refused("rules") {
        file.refuse("rules", "there is no rule, accepted is at least one section [[rules]]");
    }
    let first = targets.first().map(|target| target.connection.clone()).unwrap_or_default();
    let sla = file.section("sla", |section| Sla { threshold: section.get_or("threshold", &DURATION, default::SLA) });
    let escalation = file.section("escalation", |section| escalation(section, sla.threshold));
    Config {
        queue,
        ledger: file.section("ledger", |section| Ledger {
            path: section.get("path", &PATH).unwrap_or_else(|| PathBuf::from(default::LEDGER)),
        }),
        brake: file.section("brake", brake),
        receipts: file.optional("receipts", |section| receipts(section, &first)),
        canary: file.optional("canary", |section| section.get("every", &DURATION).map(|every| Canary { every })),
        transfer: file.section("transfer", transfer),
        monitoring: file.section("monitoring", |section| monitoring(section, &first.region, escalation.period)),
        web: file.section("web", |section| Web {
            listen: section.get_or("listen", &LISTEN, Some(([127, 0, 0, 1], 9464).into())),
            hosts: section.values("hosts", &HOST).unwrap_or_default(),
            token: section.get("token", &SECRET),
        }),
        escalation,
        lifecycle: file.section("lifecycle", lifecycle),
        source,
        targets,
        rules,
        sla,
    }
}

/// A connection to a bucket: the region must be told.
fn bucket_connection(section: &mut Section<'_>) -> Connection {
    let region = section.need("region", &REGION).unwrap_or_default();
    Connection {
        path_style: section.get_or("path_style", &SWITCH, false),
        expected_bucket_owner: section.get("expected_bucket_owner", &ACCOUNT),
        ..connection(section, region)
    }
}

/// A connection to anything but a bucket: the region has a default.
fn other_connection(section: &mut Section<'_>, default_region: &str) -> Connection {
    let region = section.get("region", &REGION).unwrap_or_else(|| default_region.to_owned());
    connection(section, region)
}

fn connection(section: &mut Section<'_>, region: String) -> Connection {
    Connection {
        region,
        endpoint: section.get("endpoint", &URL),
        path_style: false,
        profile: section.get("profile", &TEXT),
        role_arn: section.get("role_arn", &ROLE_ARN),
        external_id: section.get("external_id", &TEXT),
        expected_bucket_owner: None,
        allow_http: section.get_or("allow_http", &SWITCH, false),
    }
}

fn queue(section: &mut Section<'_>, source_region: &str) -> Queue {
    let url = section.need("url", &URL).unwrap_or_default();
    let ack = section.choose("ack", &[("admitted", Ack::Admitted), ("settled", Ack::Settled)], Ack::Admitted);
    let mut connection = other_connection(section, source_region);
    if connection.endpoint.is_none() {
        connection.endpoint = foreign_origin(&url);
    }
    let kms_key = section.get("kms_key", &KMS_ARN);
    let max_receives = section.get_or("max_receives", &RECEIVES, default::MAX_RECEIVES);
    Queue { url, ack, kms_key, max_receives, connection }
}

/// The endpoint that a queue's URL tells, where the queue is not one of AWS: asking AWS for it could only fail.
fn foreign_origin(url: &str) -> Option<String> {
    let address = Address::parse(url).ok()?;
    let amazon = [".amazonaws.com", ".amazonaws.com.cn"].iter().any(|domain| address.host.ends_with(domain));
    (!amazon).then(|| address.origin.to_owned())
}

fn target(name: &str, section: &mut Section<'_>) -> Target {
    if !is_word(name) {
        section
            .refuse_self("this is no name for a target, accepted are 1 to 64 letters, digits, hyphens and underscores");
    }
    Target {
        id: TargetId::new(name),
        bucket: section.need("bucket", &BUCKET).unwrap_or_default(),
        connection: bucket_connection(section),
    }
}

fn rule(section: &mut Section<'_>) -> Rule {
    Rule {
        id: RuleId::new(section.need("id", &RULE_ID).unwrap_or_default()),
        target: TargetId::new(section.need("target", &TEXT).unwrap_or_default()),
        priority: section.get_or("priority", &PRIORITY, 0),
        prefix: section.get("prefix", &KEY_PREFIX).unwrap_or_default(),
        tags: section.map("tags", &TAG_NAME, &TAG_VALUE),
        delete_markers: section.get_or("delete_markers", &SWITCH, false),
        enabled: section.choose("status", &[("enabled", true), ("disabled", false)], true),
        history: section.choose("history", &[("all", History::All), ("latest", History::Latest)], History::All),
        storage_class: section.get("storage_class", &TEXT),
        kms_key: section.get("kms_key", &KMS_ARN),
        kms_map: section.map("kms_map", &KMS_ARN, &KMS_ARN),
        owner_full_control: section.choose("owner", &[("target", true)], false),
        acl: section.get_or("acl", &SWITCH, false),
        target_prefix: section.get("target_prefix", &KEY_PREFIX).unwrap_or_default(),
        stamp: section.get_or("stamp", &SWITCH, true),
    }
}

fn brake(section: &mut Section<'_>) -> Brake {
    Brake {
        deletes_per_hour: section.get_or("deletes_per_hour", &COUNT, default::DELETES_PER_HOUR),
        share_of_keys: section.get_or("share_of_keys", &SHARE, Share::percent(default::DELETES_PERCENT)),
    }
}

/// Receipts; what the section leaves out of its connection is as at the first target, except who owns the bucket.
fn receipts(section: &mut Section<'_>, first: &Connection) -> Option<Receipts> {
    let bucket = section.get("bucket", &BUCKET);
    let prefix = section.get("prefix", &KEY_PREFIX).unwrap_or_else(|| "repl/".to_owned());
    let path_style = section.get("path_style", &SWITCH);
    let expected_bucket_owner = section.get("expected_bucket_owner", &ACCOUNT);
    let own = other_connection(section, &first.region);
    let assumed = if own.role_arn.is_some() { own.external_id } else { own.external_id.or(first.external_id.clone()) };
    let connection = Connection {
        endpoint: own.endpoint.or_else(|| first.endpoint.clone()),
        path_style: path_style.unwrap_or(first.path_style),
        profile: own.profile.or_else(|| first.profile.clone()),
        role_arn: own.role_arn.or_else(|| first.role_arn.clone()),
        external_id: assumed,
        expected_bucket_owner,
        allow_http: own.allow_http || first.allow_http,
        region: own.region,
    };
    bucket.map(|bucket| Receipts { bucket, prefix, connection })
}

fn transfer(section: &mut Section<'_>) -> Transfer {
    let modes =
        [("auto", TransferMode::Auto), ("stream", TransferMode::Stream), ("server-side", TransferMode::ServerSide)];
    Transfer {
        mode: section.choose("mode", &modes, TransferMode::Auto),
        memory: section.get_or("memory", &SIZE, default::MEMORY),
        concurrency: section.get_or("concurrency", &CONCURRENCY, Concurrency::Auto),
        bandwidth: section.get_or("bandwidth", &BANDWIDTH, None),
        requests_per_second: section.get_or("requests_per_second", &REQUEST_RATE, None),
        windows: section.list("windows", windows::window).unwrap_or_default(),
        client: section.choose(
            "client",
            &[("lean", TransferClient::Lean), ("sdk", TransferClient::Sdk)],
            TransferClient::Lean,
        ),
    }
}

fn monitoring(section: &mut Section<'_>, first_region: &str, period: Duration) -> Monitoring {
    Monitoring {
        connection: other_connection(section, first_region),
        namespace: section.get("namespace", &NAMESPACE).unwrap_or_else(|| "Repl".to_owned()),
        interval: section.get_or("interval", &DURATION, MINUTE.min(period)),
        cloudwatch: section.get_or("cloudwatch", &SWITCH, true),
    }
}

fn escalation(section: &mut Section<'_>, sla: Duration) -> Escalation {
    Escalation {
        prefix: section.get("prefix", &NAME_PREFIX).unwrap_or_else(|| "repl".to_owned()),
        standard: section.optional("standard", tier),
        critical: section.optional("critical", tier),
        management: section.optional("management", tier),
        kms_key: section.get("kms_key", &KMS_ARN),
        forwarding_role_arn: section.get("forwarding_role_arn", &ROLE_ARN),
        webhook: section.optional("webhook", webhook),
        smtp: section.optional("smtp", smtp),
        period: section.get_or("period", &DURATION, MINUTE),
        reminder: section.get_or("reminder", &REMINDER, Some(default::REMINDER)),
        thresholds: section.section("thresholds", |section| thresholds(section, sla)),
    }
}

fn tier(section: &mut Section<'_>) -> Option<Tier> {
    let emails = section.values("emails", &EMAIL);
    let topic = section.get("topic_arn", &TOPIC_ARN);
    match (section.has("emails"), section.has("topic_arn")) {
        (true, true) => section.refuse_self("it has both emails and topic_arn, accepted is one of them"),
        (false, false) => section
            .refuse_self("nobody would hear, accepted is emails = [\"ops@example.com\"] or topic_arn = \"arn:…\""),
        (true, false) if section.is_empty_list("emails") => {
            section.refuse("emails", "it holds no address, accepted is a list such as [\"ops@example.com\"]");
        }
        (true, false) | (false, true) => {}
    }
    topic.map(Tier::Topic).or(emails.map(Tier::Emails))
}

fn webhook(section: &mut Section<'_>) -> Option<Webhook> {
    let url = section.need("url", &URL);
    let secret = section.need("secret", &SECRET);
    let allow_http = section.get_or("allow_http", &SWITCH, false);
    Some(Webhook { url: url?, secret: secret?, allow_http })
}

fn smtp(section: &mut Section<'_>) -> Option<Smtp> {
    let host = section.need("host", &TEXT);
    let port = section.get_or("port", &PORT, default::SMTP_PORT);
    let from = section.need("from", &EMAIL);
    let (user, password) = (section.get("user", &TEXT), section.get("password", &SECRET));
    let login = login(section, user, password);
    Some(Smtp { host: host?, port, from: from?, login })
}

fn login(section: &Section<'_>, user: Option<String>, password: Option<Secret>) -> Option<(String, Secret)> {
    if section.has("user") != section.has("password") {
        section.refuse_self("user and password go together, accepted are both or neither");
    }
    user.zip(password)
}

fn thresholds(section: &mut Section<'_>, sla: Duration) -> Thresholds {
    let mut duration = |alarm, default| section.get_or(alarm, &DURATION, default);
    let warning = duration("ReplicationLatencyWarning", default::LATENCY_WARNING);
    let critical = duration("ReplicationLatencyCritical", default::LATENCY_CRITICAL);
    let exceeds_sla = duration("LatencyExceedsSla", sla);
    let mut size = |alarm, default| section.get_or(alarm, &SIZE, default);
    let bytes_pending = size("BytesPending", default::BYTES_PENDING);
    let source_size_growth = size("SourceSizeGrowth", default::SIZE_GROWTH);
    let mut count = |alarm, default| section.get_or(alarm, &COUNT, default);
    Thresholds {
        replication_failure: count("ReplicationFailure", 0),
        replication_latency_warning: warning,
        replication_latency_critical: critical,
        latency_exceeds_sla: exceeds_sla,
        pending_operations: count("PendingOperations", default::PENDING_OPERATIONS),
        bytes_pending,
        target_errors_4xx: count("TargetErrors4xx", default::ERRORS_4XX),
        source_errors_4xx: count("SourceErrors4xx", default::ERRORS_4XX),
        source_errors_5xx: count("SourceErrors5xx", default::ERRORS_5XX),
        kms_target_failures: count("KmsTargetFailures", default::KMS_FAILURES),
        kms_source_throttles: count("KmsSourceThrottles", 0),
        source_object_count: count("SourceObjectCount", 0),
        source_size_growth,
        worker_silent: section.get_or("WorkerSilent", &PERIODS, default::SILENT_PERIODS),
    }
}

fn lifecycle(section: &mut Section<'_>) -> Lifecycle {
    let sides = section.values("apply_to", &lifecycle::SIDE);
    let mut apply_to = sides.unwrap_or_else(|| vec![LifecycleSide::Source, LifecycleSide::Target]);
    apply_to.dedup();
    Lifecycle {
        apply_to,
        intelligent_tiering: lifecycle::intelligent_tiering(section),
        rules: section.list("rules", lifecycle::rule).unwrap_or_else(lifecycle::default_rules),
    }
}
