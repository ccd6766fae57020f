//! `repl apply` against the local cloud: what it makes is read back with other clients than its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_cloudwatch::types::AlarmType;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, Event, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
    NotificationConfiguration, QueueConfiguration,
};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use support::pair::{Bucket, Pair, SOURCE_REGION, Setup, TARGET_REGION};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::{Access, Server};
use support::worker::{Output, run_repl, work_off};

const PATIENCE: Duration = Duration::from_secs(180);
const EMAILS: &str = "standard = { emails = [\"ops@example.com\"] }\ncritical = { emails = [\"oncall@example.com\"] }\n\
                      management = { emails = [\"boss@example.com\"] }\n";

fn cloud() -> &'static Access {
    Server::Ministack.access()
}

/// A prefix that no other test has, of which none begins another.
fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("p{}x", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The tables of the config that alarms need.
fn escalation(prefix: &str, monitoring: &str, tiers: &str) -> String {
    format!("[monitoring]\nendpoint = \"{monitoring}\"\n[escalation]\nprefix = \"{prefix}\"\n{tiers}")
}

/// A pair that nothing has been set up for: no queue, no notifications.
async fn bare(prefix: &str, setup: Setup) -> Pair {
    let mut pair = setup.build().await;
    pair.queue_url = format!("{}/000000000000/{prefix}-events", cloud().endpoint);
    pair.write_config();
    notify(&pair.source, None).await;
    pair
}

async fn plain(prefix: &str) -> Pair {
    let setup = Setup::on(Server::Ministack, Server::Ministack);
    bare(prefix, setup.more(&escalation(prefix, &cloud().endpoint, EMAILS))).await
}

async fn notify(bucket: &Bucket, only: Option<QueueConfiguration>) {
    let all = NotificationConfiguration::builder().set_queue_configurations(only.map(|one| vec![one])).build();
    let request = bucket.s3.put_bucket_notification_configuration().bucket(&bucket.name);
    request.notification_configuration(all).send().await.unwrap();
}

async fn apply(pair: &Pair, args: &[&str]) -> Output {
    run_repl(pair, &[&["apply"], args].concat(), PATIENCE).await
}

async fn applied(pair: &Pair, args: &[&str]) -> Value {
    apply(pair, &[args, &["--json"]].concat()).await.expect_code(0).json()
}

fn changes<'r>(report: &'r Value, kind: &str) -> Vec<&'r Value> {
    report["changes"].as_array().unwrap().iter().filter(|change| change["kind"] == kind).collect()
}

fn actions(report: &Value) -> BTreeSet<&str> {
    report["changes"].as_array().unwrap().iter().map(|change| change["action"].as_str().unwrap()).collect()
}

// The world, as other clients see it -----------------------------------------------------------------------------------

/// Everything that is there under a prefix and on the pair's buckets, as text by name.
async fn world(pair: &Pair, prefix: &str) -> BTreeMap<String, String> {
    let mut world = BTreeMap::new();
    for bucket in [&pair.source, &pair.target] {
        let request = bucket.s3.get_bucket_notification_configuration().bucket(&bucket.name);
        let queues = request.send().await.unwrap().queue_configurations.unwrap_or_default();
        world.insert(format!("notifications {}", bucket.name), format!("{queues:?}"));
        let rules = bucket.s3.get_bucket_lifecycle_configuration().bucket(&bucket.name).send().await;
        world.insert(format!("lifecycle {}", bucket.name), format!("{:?}", rules.ok().and_then(|answer| answer.rules)));
        let versions = bucket.s3.get_bucket_versioning().bucket(&bucket.name).send().await.unwrap();
        world.insert(format!("versioning {}", bucket.name), format!("{:?}", versions.status));
    }
    let queues = pair.sqs.list_queues().queue_name_prefix(prefix).send().await.unwrap().queue_urls.unwrap_or_default();
    for url in queues {
        let mut attributes: Vec<String> = queue(pair, &url).await.iter().map(|pair| format!("{pair:?}")).collect();
        attributes.retain(|text| !text.contains("Approximate") && !text.contains("LastModified"));
        attributes.sort();
        world.insert(format!("queue {url}"), attributes.join(" "));
    }
    for region in [SOURCE_REGION, TARGET_REGION] {
        let sns = cloud().sns(region);
        for topic in sns.list_topics().send().await.unwrap().topics() {
            let arn = topic.topic_arn().unwrap();
            if arn.rsplit(':').next().unwrap().starts_with(prefix) {
                let hearers = subscribers(&sns, arn).await;
                let attributes = sns.get_topic_attributes().topic_arn(arn).send().await.unwrap().attributes.unwrap();
                world.insert(format!("topic {arn}"), format!("{hearers:?} {:?}", attributes.get("Policy")));
            }
        }
        let answer = cloud()
            .cloudwatch(region)
            .describe_alarms()
            .alarm_name_prefix(prefix)
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .send()
            .await
            .unwrap();
        for alarm in answer.metric_alarms() {
            let what = (alarm.threshold(), alarm.metric_name(), alarm.evaluation_periods(), alarm.alarm_actions());
            world.insert(format!("alarm {region} {}", alarm.alarm_name().unwrap()), format!("{what:?}"));
        }
        for alarm in answer.composite_alarms() {
            let what = (alarm.alarm_rule(), alarm.alarm_actions());
            world.insert(format!("composite {region} {}", alarm.alarm_name().unwrap()), format!("{what:?}"));
        }
        let events = cloud().events(region);
        for rule in events.list_rules().name_prefix(prefix).send().await.unwrap().rules() {
            let name = rule.name().unwrap();
            let targets = events.list_targets_by_rule().rule(name).send().await.unwrap().targets.unwrap_or_default();
            let targets: Vec<_> = targets.iter().map(|target| (target.id(), target.arn(), target.role_arn())).collect();
            world.insert(format!("rule {region} {name}"), format!("{:?} {targets:?}", rule.event_pattern()));
        }
    }
    for role in cloud().iam().list_roles().send().await.unwrap().roles() {
        if role.role_name().starts_with(prefix) {
            world.insert(format!("role {}", role.role_name()), format!("{:?}", role.assume_role_policy_document()));
        }
    }
    // ministack's list of dashboards cannot be read by this SDK: asked for by name.
    for name in ["primary", "regional"].map(|view| format!("{prefix}-{view}")) {
        let asked = cloud().cloudwatch(TARGET_REGION).get_dashboard().dashboard_name(&name).send().await;
        if let Ok(found) = asked {
            world.insert(format!("dashboard {name}"), found.dashboard_body.unwrap());
        }
    }
    world
}

fn kinds(world: &BTreeMap<String, String>, kind: &str) -> Vec<String> {
    world.keys().filter(|name| name.starts_with(kind)).cloned().collect()
}

async fn queue(pair: &Pair, url: &str) -> BTreeMap<String, String> {
    let request = pair.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
    let attributes = request.send().await.unwrap().attributes.unwrap();
    attributes.into_iter().map(|(name, value)| (name.as_str().to_owned(), value)).collect()
}

async fn subscribers(sns: &aws_sdk_sns::Client, arn: &str) -> BTreeSet<(String, String)> {
    let answer = sns.list_subscriptions_by_topic().topic_arn(arn).send().await.unwrap();
    let pair = |one: &aws_sdk_sns::types::Subscription| {
        (one.protocol().unwrap_or_default().to_owned(), one.endpoint().unwrap_or_default().to_owned())
    };
    answer.subscriptions().iter().map(pair).collect()
}

// All of it ------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn all_is_made_once_read_back_and_taken_away_again() {
    let prefix = prefix();
    let pair = plain(&prefix).await;
    let before = world(&pair, &prefix).await;

    let dry = applied(&pair, &["--dry-run"]).await;
    assert_eq!(world(&pair, &prefix).await, before, "a dry run changes nothing");
    assert_eq!((actions(&dry).contains("create"), dry["applied"].as_u64()), (true, Some(0)));

    let first = applied(&pair, &["all"]).await;
    assert_eq!(first["failed"], 0, "{first}");
    let made = world(&pair, &prefix).await;
    check_queue(&pair, &prefix).await;
    check_lifecycle(&pair, &prefix).await;
    assert_eq!(kinds(&made, "topic").len(), 4, "three tiers, and the standard one at the source");
    assert_eq!(kinds(&made, &format!("alarm {TARGET_REGION}")).len(), 12);
    assert_eq!(kinds(&made, &format!("alarm {SOURCE_REGION}")).len(), 2);
    assert_eq!(kinds(&made, &format!("composite {TARGET_REGION}")).len(), 3);
    let escalated = &made[&format!("composite {TARGET_REGION} {prefix}-Escalation")];
    assert!(escalated.contains("-management") && escalated.contains(" AND "), "{escalated}");
    let rule = &made[&format!("rule {TARGET_REGION} {prefix}-alarm-forwarding")];
    for part in ["aws.cloudwatch", &format!("alarm:{prefix}-"), &format!("events:{SOURCE_REGION}"), "role/"] {
        assert!(rule.contains(part), "{part} in {rule}");
    }
    assert!(made[&format!("role {prefix}-alarm-forwarding")].contains("events.amazonaws.com"));
    assert_eq!(kinds(&made, "dashboard").len(), 2);

    let second = applied(&pair, &[]).await;
    assert_eq!(actions(&second), BTreeSet::from(["none"]), "{second}");
    assert_eq!(second["applied"], 0);
    assert_eq!(world(&pair, &prefix).await, made);

    // S3's test message would keep the queue.
    pair.sqs.purge_queue().queue_url(&pair.queue_url).send().await.unwrap();
    applied(&pair, &["--destroy", "--yes", "--queue"]).await;
    assert_eq!(world(&pair, &prefix).await, before);
    let again = applied(&pair, &["--destroy", "--yes", "--queue"]).await;
    assert_eq!(actions(&again), BTreeSet::from(["none"]), "{again}");
}

async fn check_queue(pair: &Pair, prefix: &str) {
    let (main, dead) = (queue(pair, &pair.queue_url).await, queue(pair, &format!("{}-dlq", pair.queue_url)).await);
    assert_eq!((&*main["MessageRetentionPeriod"], &*dead["MessageRetentionPeriod"]), ("1209600", "1209600"));
    assert_eq!((&*main["SqsManagedSseEnabled"], &*dead["SqsManagedSseEnabled"]), ("true", "true"));
    let redrive: Value = serde_json::from_str(&main["RedrivePolicy"]).unwrap();
    assert_eq!(redrive["deadLetterTargetArn"].as_str(), Some(&*dead["QueueArn"]));
    assert_eq!(redrive["maxReceiveCount"].to_string().trim_matches('"'), "5");
    let policy: Value = serde_json::from_str(&main["Policy"]).unwrap();
    let condition = &policy["Statement"][0]["Condition"];
    assert_eq!(condition["StringEquals"]["aws:SourceAccount"], "000000000000");
    assert_eq!(condition["ArnLike"]["aws:SourceArn"], format!("arn:aws:s3:*:*:{}", pair.source.name));
    let request = pair.source.s3.get_bucket_notification_configuration().bucket(&pair.source.name);
    let queues = request.send().await.unwrap().queue_configurations.unwrap();
    assert_eq!(queues[0].id(), Some(&*format!("{prefix}-{prefix}-events")));
    assert_eq!(queues[0].queue_arn(), main["QueueArn"]);
    let events: BTreeSet<&str> = queues[0].events().iter().map(Event::as_str).collect();
    for event in ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*", "s3:ObjectAcl:Put"] {
        assert!(events.contains(event), "{event} in {events:?}");
    }
}

async fn check_lifecycle(pair: &Pair, prefix: &str) {
    for bucket in [&pair.source, &pair.target] {
        let answer = bucket.s3.get_bucket_lifecycle_configuration().bucket(&bucket.name).send().await.unwrap();
        let rule = |id: &str| answer.rules().iter().find(|rule| rule.id() == Some(&*format!("{prefix}-{id}"))).unwrap();
        let steps: Vec<_> = rule("tiering")
            .transitions()
            .iter()
            .map(|step| (step.days(), step.storage_class().unwrap().as_str()))
            .collect();
        assert_eq!(steps, [(Some(30), "STANDARD_IA"), (Some(90), "GLACIER"), (Some(365), "DEEP_ARCHIVE")]);
        let noncurrent = rule("tiering").noncurrent_version_expiration().unwrap();
        assert_eq!(noncurrent.noncurrent_days(), Some(730));
        let abort = rule("abort-mpu").abort_incomplete_multipart_upload().unwrap();
        assert_eq!(abort.days_after_initiation(), Some(7));
    }
}

/// What apply has set up carries an event to the worker, and an alarm to whoever is subscribed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_works() {
    let prefix = prefix();
    let pair = plain(&prefix).await;
    applied(&pair, &[]).await;
    pair.source.put("a key", "content").await;
    let report = work_off(&pair).await;
    assert_eq!(report["replicated"]["operations"], 1, "{report}");

    let sns = cloud().sns(TARGET_REGION);
    let sqs = cloud().sqs(TARGET_REGION);
    let inbox = sqs.create_queue().queue_name(format!("inbox-{prefix}")).send().await.unwrap().queue_url.unwrap();
    let arn = format!("arn:aws:sqs:{TARGET_REGION}:000000000000:inbox-{prefix}");
    let topic = format!("arn:aws:sns:{TARGET_REGION}:000000000000:{prefix}-standard");
    sns.subscribe().topic_arn(&topic).protocol("sqs").endpoint(arn).send().await.unwrap();
    let value = aws_sdk_cloudwatch::types::MetricDatum::builder()
        .metric_name("OperationsPendingReplication")
        .dimensions(
            aws_sdk_cloudwatch::types::Dimension::builder().name("SourceBucket").value(&pair.source.name).build(),
        )
        .value(1e6)
        .build();
    cloud().cloudwatch(TARGET_REGION).put_metric_data().namespace("Repl").metric_data(value).send().await.unwrap();
    let mut bodies = String::new();
    support::worker::eventually("the alarm's message", PATIENCE, async || {
        let answer = sqs.receive_message().queue_url(&inbox).max_number_of_messages(10).send().await.unwrap();
        bodies.extend(answer.messages.unwrap_or_default().into_iter().filter_map(|message| message.body));
        bodies.contains(&format!("{prefix}-PendingOperations"))
    })
    .await;
    // The subscription is somebody else's: it stays.
    let again = applied(&pair, &["escalation"]).await;
    assert_eq!(actions(&again), BTreeSet::from(["none"]), "{again}");
    assert!(subscribers(&sns, &topic).await.iter().any(|(protocol, _)| protocol == "sqs"));
}

// What is there already ------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn what_others_set_up_stays() {
    let prefix = prefix();
    let pair = plain(&prefix).await;
    let make = |name: &str| pair.sqs.create_queue().queue_name(format!("{prefix}-{name}"));
    let theirs = make("theirs").send().await.unwrap().queue_url.unwrap();
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Sid": "theirs", "Effect": "Allow",
        "Principal": {"AWS": "*"}, "Action": "sqs:ReceiveMessage", "Resource": "*"}]});
    make("events").attributes(QueueAttributeName::Policy, policy.to_string()).send().await.unwrap();
    let events = ["s3:ObjectRestore:Post"].map(Event::from).to_vec();
    let arn = queue(&pair, &theirs).await["QueueArn"].clone();
    let other = QueueConfiguration::builder().id("theirs").queue_arn(arn).set_events(Some(events)).build().unwrap();
    notify(&pair.source, Some(other)).await;
    let rule = LifecycleRule::builder()
        .id("theirs")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("tmp/").build())
        .expiration(LifecycleExpiration::builder().days(3).build())
        .build()
        .unwrap();
    let rules = BucketLifecycleConfiguration::builder().rules(rule).build().unwrap();
    let request = pair.target.s3.put_bucket_lifecycle_configuration().bucket(&pair.target.name);
    request.lifecycle_configuration(rules).send().await.unwrap();
    let before = world(&pair, &prefix).await;

    applied(&pair, &[]).await;
    let made = world(&pair, &prefix).await;
    for (name, part) in [
        (format!("notifications {}", pair.source.name), "\"theirs\""),
        (format!("lifecycle {}", pair.target.name), "\"theirs\""),
        (format!("queue {}", pair.queue_url), "ReceiveMessage"),
    ] {
        assert!(made[&name].contains(part), "{part} in {}", made[&name]);
        assert!(made[&name].contains(&prefix), "ours in {}", made[&name]);
    }
    assert_eq!(actions(&applied(&pair, &[]).await), BTreeSet::from(["none"]));

    applied(&pair, &["--destroy", "--yes", "--queue"]).await;
    let left = world(&pair, &prefix).await;
    for name in [format!("notifications {}", pair.source.name), format!("lifecycle {}", pair.target.name)] {
        assert_eq!(left[&name], before[&name]);
    }
    let policy = &queue(&pair, &pair.queue_url).await["Policy"];
    assert!(policy.contains("theirs") && !policy.contains("s3.amazonaws.com"), "{policy}");
}

/// One prefix begins the other, and both pairs write to one target bucket.
#[tokio::test(flavor = "multi_thread")]
async fn pairs_live_side_by_side() {
    let prefix = prefix();
    let one = plain(&prefix).await;
    let longer = format!("{prefix}-eu");
    let mut other = plain(&longer).await;
    other.target = one.target.clone();
    other.write_config();
    applied(&other, &[]).await;
    let alone = world(&other, &longer).await;
    applied(&one, &[]).await;
    assert_eq!(actions(&applied(&other, &[]).await), BTreeSet::from(["none"]));
    one.sqs.purge_queue().queue_url(&one.queue_url).send().await.unwrap();
    applied(&one, &["--destroy", "--yes", "--queue"]).await;
    assert_eq!(world(&other, &longer).await, alone);
    assert_eq!(actions(&applied(&other, &[]).await), BTreeSet::from(["none"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_config_is_an_update_with_before_and_after() {
    let prefix = prefix();
    let mut pair = plain(&prefix).await;
    applied(&pair, &[]).await;
    pair.setup.more.push_str("[escalation.thresholds]\nPendingOperations = 7\n[[lifecycle.rules]]\nid = \"tiering\"\nexpire_after = \"99d\"\n");
    pair.write_config();
    let report = applied(&pair, &[]).await;
    let updated: Vec<&Value> =
        report["changes"].as_array().unwrap().iter().filter(|change| change["action"] != "none").collect();
    let names: Vec<&str> = updated.iter().map(|change| change["name"].as_str().unwrap()).collect();
    assert_eq!(names, [&*pair.source.name, &*pair.target.name, &*format!("{prefix}-PendingOperations")]);
    assert!(updated.iter().all(|change| change["action"] == "update" && change["outcome"] == "applied"), "{updated:?}");
    assert_eq!((&updated[2]["before"]["threshold"], &updated[2]["after"]["threshold"]), (&json!(100.0), &json!(7.0)));
    // The default rule that the config does not have any more was ours.
    let rules = updated[0]["after"]["rules"].as_object().unwrap();
    assert_eq!(rules.keys().collect::<Vec<_>>(), [&format!("{prefix}-tiering")]);
    let said = apply(&pair, &["--dry-run", "-v"]).await.expect_code(0).stdout;
    assert!(said.contains("= alarm") && !said.contains("\n~ "), "{said}");
}

// Failures -------------------------------------------------------------------------------------------------------------

/// Which service a request is signed for.
fn is_for(seen: &Seen, service: &str) -> bool {
    seen.header("authorization").contains(&format!("/{service}/aws4_request"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_said_and_the_rest_goes_on() {
    let prefix = prefix();
    let proxy = Proxy::before(&cloud().endpoint);
    let setup = Setup::on(Server::Ministack, Server::Ministack);
    let pair = bare(&prefix, setup.more(&escalation(&prefix, &proxy.endpoint(), EMAILS))).await;
    let refused = "<ErrorResponse><Error><Type>Sender</Type><Code>AuthorizationError</Code>\
                   <Message>as the test says</Message></Error></ErrorResponse>";
    let refusal = Act::Answer { status: 403, headers: vec![("content-type", "text/xml".into())], body: refused.into() };
    proxy.add(Rule::when(|seen| is_for(seen, "sns"), refusal));
    let dashboard = |seen: &Seen| seen.path.ends_with("/PutDashboard");
    proxy.add(Rule::when(dashboard, Act::error(403, "AccessDenied")).times(1));
    let report = apply(&pair, &["--json"]).await.expect_code(1).json();
    for topic in changes(&report, "topic") {
        assert_eq!(topic["outcome"], "failed", "{topic}");
        assert!(topic["reason"].as_str().unwrap().contains("AuthorizationError"), "{topic}");
    }
    for alarm in changes(&report, "alarm").into_iter().chain(changes(&report, "composite-alarm")) {
        assert_eq!(alarm["outcome"], "applied", "{alarm}");
        assert!(alarm["notes"].to_string().contains("nobody hears it"), "{alarm}");
    }
    let outcomes: Vec<&Value> = changes(&report, "dashboard").iter().map(|change| &change["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "applied"]);
    assert_eq!(changes(&report, "notification")[0]["outcome"], "applied");
    assert_eq!(report["failed"], 5);

    proxy.clear();
    let mended = applied(&pair, &[]).await;
    assert_eq!(mended["applied"], 5, "four topics and a dashboard: {mended}");
    assert_eq!(actions(&applied(&pair, &[]).await), BTreeSet::from(["none"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_cannot_be_made_leaves_the_bucket_alone() {
    let prefix = prefix();
    let proxy = Proxy::before(&cloud().endpoint);
    let mut setup = Setup::on(Server::Ministack, Server::Ministack);
    setup.queue_endpoint = Some(proxy.endpoint());
    let pair = bare(&prefix, setup.more(&escalation(&prefix, &cloud().endpoint, EMAILS))).await;
    let creates = |seen: &Seen| seen.header("x-amz-target").ends_with(".CreateQueue");
    proxy.add(Rule::when(creates, Act::error(403, "AccessDenied")));
    let before = world(&pair, &prefix).await;
    let report = apply(&pair, &["notifications", "--json"]).await.expect_code(1).json();
    assert!(changes(&report, "notification")[0]["reason"].as_str().unwrap().contains("not tried"), "{report}");
    assert_eq!(world(&pair, &prefix).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_a_thing_is_skipped_and_told() {
    let prefix = prefix();
    let proxy = Proxy::before(&cloud().endpoint);
    let mut setup = Setup::on(Server::Ministack, Server::Ministack);
    setup.source_endpoint = Some(proxy.endpoint());
    let pair = bare(&prefix, setup.more(&escalation(&prefix, &cloud().endpoint, EMAILS))).await;
    let lacks = |seen: &Seen| seen.asks("notification") || seen.asks("lifecycle") || seen.asks("versioning");
    proxy.add(Rule::when(lacks, Act::error(501, "NotImplemented")));
    let report = applied(&pair, &[]).await;
    for kind in ["notification", "lifecycle", "versioning", "intelligent-tiering", "request-metrics"] {
        let change = changes(&report, kind)[0];
        assert_eq!((&change["outcome"], &change["action"]), (&json!("skipped"), &json!("none")), "{change}");
        assert!(change["reason"].as_str().unwrap().contains("the store"), "{change}");
    }
    assert_eq!(report["failed"], 0);
}

/// ministack has neither Intelligent-Tiering nor request metrics: the proxy keeps these documents in its place.
#[tokio::test(flavor = "multi_thread")]
async fn tiering_and_request_metrics_are_written_read_and_deleted() {
    let prefix = prefix();
    let proxy = Proxy::before(&cloud().endpoint);
    let mut setup = Setup::on(Server::Ministack, Server::Ministack);
    setup.source_endpoint = Some(proxy.endpoint());
    setup.target_endpoint = Some(proxy.endpoint());
    let pair = bare(&prefix, setup.more(&escalation(&prefix, &cloud().endpoint, EMAILS))).await;
    let keeps = |seen: &Seen| seen.asks("intelligent-tiering") || seen.asks("metrics");
    proxy.add(Rule::when(keeps, Act::Keep("NoSuchConfiguration")));
    let report = applied(&pair, &[]).await;
    assert_eq!(report["skipped"], 0, "{report}");
    for bucket in [&pair.source.name, &pair.target.name] {
        let tiering = proxy.kept(&format!("/{bucket}/?intelligent-tiering")).unwrap();
        for part in
            ["<Id>", &format!("{prefix}-archive"), "<Status>Enabled</Status>", "<Days>90</Days>", "DEEP_ARCHIVE_ACCESS"]
        {
            assert!(tiering.contains(part), "{part} in {tiering}");
        }
        let metrics = proxy.kept(&format!("/{bucket}/?metrics")).unwrap();
        assert!(metrics.contains("<Id>EntireBucket</Id>"), "{metrics}");
    }
    assert_eq!(actions(&applied(&pair, &[]).await), BTreeSet::from(["none"]));
    applied(&pair, &["--destroy", "--yes"]).await;
    assert_eq!((proxy.kept("intelligent-tiering"), proxy.kept("metrics")), (None, None));
}

// The face -------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn only_the_part_asked_for_is_touched() {
    let prefix = prefix();
    let pair = plain(&prefix).await;
    let kinds_of = |report: &Value| -> BTreeSet<String> {
        let all = report["changes"].as_array().unwrap().iter();
        all.map(|change| change["kind"].as_str().unwrap().to_owned()).collect()
    };
    let parts: [(&str, &[&str]); 4] = [
        ("notifications", &["notification", "queue", "versioning"]),
        ("lifecycle", &["intelligent-tiering", "lifecycle", "versioning"]),
        ("escalation", &["alarm", "composite-alarm", "event-rule", "role", "topic"]),
        ("dashboards", &["dashboard", "request-metrics"]),
    ];
    for (part, kinds) in parts {
        let report = applied(&pair, &[part]).await;
        assert_eq!(kinds_of(&report), kinds.iter().map(|kind| (*kind).to_owned()).collect(), "{part}");
    }
    assert_eq!(actions(&applied(&pair, &["all"]).await), BTreeSet::from(["none"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_without_a_yes() {
    let prefix = prefix();
    let pair = plain(&prefix).await;
    applied(&pair, &["lifecycle"]).await;
    let made = world(&pair, &prefix).await;
    let refused = apply(&pair, &["--destroy"]).await.expect_code(2);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    let dry = applied(&pair, &["--destroy", "--dry-run"]).await;
    assert!(actions(&dry).contains("delete"), "{dry}");
    assert_eq!(world(&pair, &prefix).await, made);
}

/// Without a queue there is nothing to be notified of; the rest is applied.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_queue_the_rest_is_applied() {
    let prefix = prefix();
    let pair = plain(&prefix).await;
    let text = pair.config_text();
    let (start, rest) = text.split_once("[queue]").unwrap();
    let (_, rest) = rest.split_once("\n[").unwrap();
    std::fs::write(&pair.config, format!("{start}[{rest}")).unwrap();
    apply(&pair, &["notifications"]).await.expect_code(2);
    let report = applied(&pair, &[]).await;
    assert_eq!(changes(&report, "notification")[0]["outcome"], "skipped", "{report}");
    assert!(!changes(&report, "dashboard").is_empty());
}

/// What an earlier config had made, and the present one has no more: the alarm of a canary, and all that CloudWatch
/// evaluated before the worker did.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_config_has_no_more_goes() {
    let prefix = prefix();
    let mut pair = plain(&prefix).await;
    let tables = pair.setup.more.clone();
    pair.setup.more.push_str("[canary]\nevery = \"60s\"\n");
    pair.write_config();
    let before = world(&pair, &prefix).await;
    applied(&pair, &["escalation"]).await;
    let canary = format!("{prefix}-CanaryFailed");
    assert!(format!("{:?}", world(&pair, &prefix).await).contains(&canary));
    pair.setup.more.clone_from(&tables);
    pair.write_config();
    let report = applied(&pair, &["escalation"]).await;
    let changed: Vec<&Value> =
        report["changes"].as_array().unwrap().iter().filter(|change| change["action"] != "none").collect();
    let [gone] = changed[..] else { panic!("{changed:?}") };
    assert_eq!(
        (&gone["name"], &gone["action"], &gone["outcome"]),
        (&json!(canary), &json!("delete"), &json!("applied"))
    );
    assert!(!format!("{:?}", world(&pair, &prefix).await).contains(&canary));
    pair.setup.more = tables.replace("[monitoring]\n", "[monitoring]\ncloudwatch = false\n");
    pair.write_config();
    let report = applied(&pair, &["escalation"]).await;
    let [skipped] = changes(&report, "alarm")[..] else { panic!("{report:#}") };
    assert!(skipped["reason"].as_str().unwrap().contains("`repl apply escalation --destroy`"), "{skipped}");
    applied(&pair, &["escalation", "--destroy", "--yes"]).await;
    assert_eq!(world(&pair, &prefix).await, before);
}
