//! The whole of it on accounts that live in memory.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::model::object::TargetId;
use crate::ports::setup::{
    Confirmation, Lifecycle, LifecycleRule, Notification, Notifications, QueueEncryption, Topic, Versioned,
};
use crate::watch::alarms::{self, Definitions, Thresholds, Tier};

/// Accounts in memory: a stateful model, with calls that fail as told.
#[derive(Default)]
struct Memory {
    things: Mutex<BTreeMap<Resource, Document>>,
    /// What fails, by a part of "verb kind name", how often, and as what.
    faults: Mutex<Vec<(&'static str, usize, FaultKind)>>,
    written: Mutex<Vec<String>>,
}

impl Memory {
    fn with(things: impl IntoIterator<Item = (Resource, Document)>) -> Self {
        Self { things: Mutex::new(things.into_iter().collect()), ..Self::default() }
    }

    fn failing(self, what: &'static str, times: usize, kind: FaultKind) -> Self {
        self.faults.lock().unwrap().push((what, times, kind));
        self
    }

    fn mended(&self) {
        self.faults.lock().unwrap().clear();
    }

    fn world(&self) -> BTreeMap<Resource, Document> {
        self.things.lock().unwrap().clone()
    }

    fn called(&self, call: &str) -> Result<(), Fault> {
        let mut faults = self.faults.lock().unwrap();
        match faults.iter_mut().find(|(what, times, _)| call.contains(what) && *times > 0) {
            Some((_, times, kind)) => {
                *times -= 1;
                Err(Fault::new(*kind, Side::Monitoring, "do it", "as the test says"))
            }
            None => Ok(()),
        }
    }
}

/// All configurations of a bucket are one thing in the store, whatever id they are asked for by.
fn stored(resource: &Resource) -> Resource {
    match resource.kind {
        Kind::Notification => {
            let bucket = resource.name.split('/').next().unwrap();
            Resource::new(Kind::Notification, resource.place.clone(), bucket)
        }
        _ => resource.clone(),
    }
}

fn replaced<T: Clone>(
    all: &BTreeMap<String, T>,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
) -> BTreeMap<String, T> {
    let mut all = all.clone();
    all.retain(|id, _| !old.contains_key(id));
    all.extend(new.clone());
    all
}

impl Estate for Memory {
    async fn account(&self, place: &Place) -> Result<String, Fault> {
        self.called(&format!("account {place:?}"))?;
        Ok("111122223333".to_owned())
    }

    async fn read(&self, resource: &Resource) -> Result<Held, Fault> {
        self.called(&format!("read {} {}", resource.kind.name(), resource.name))?;
        if resource.kind == Kind::Versioning {
            return Ok(Held::Present(Document::Versioning(Versioned { state: "enabled" })));
        }
        if resource.kind == Kind::IntelligentTiering && resource.name.contains("plain") {
            return Ok(Held::Unsupported("it is a plain store".to_owned()));
        }
        let found = self.things.lock().unwrap().get(&stored(resource)).cloned();
        Ok(found.map_or(Held::Absent, Held::Present))
    }

    async fn write(
        &self,
        resource: &Resource,
        before: Option<&Document>,
        after: &Document,
    ) -> Result<Vec<String>, Fault> {
        let call = format!("write {} {}", resource.kind.name(), resource.name);
        self.called(&call)?;
        self.written.lock().unwrap().push(call);
        let mut things = self.things.lock().unwrap();
        let held = things.get(&stored(resource)).cloned();
        let new = match (held, before, after) {
            (Some(Document::Notification(held)), before, Document::Notification(after)) => {
                let old = match before {
                    Some(Document::Notification(old)) => old.configurations.clone(),
                    _ => BTreeMap::new(),
                };
                let configurations = replaced(&held.configurations, &old, &after.configurations);
                Document::Notification(Notifications { configurations })
            }
            (Some(Document::Lifecycle(held)), before, Document::Lifecycle(after)) => {
                let old = match before {
                    Some(Document::Lifecycle(old)) => old.rules.clone(),
                    _ => BTreeMap::new(),
                };
                Document::Lifecycle(Lifecycle { rules: replaced(&held.rules, &old, &after.rules) })
            }
            (_, _, Document::Queue(after)) => Document::Queue(Queue { messages: Some(0), ..after.clone() }),
            (_, _, after) => after.clone(),
        };
        things.insert(stored(resource), new);
        Ok(Vec::new())
    }

    async fn remove(&self, resource: &Resource, before: &Document) -> Result<(), Fault> {
        let call = format!("remove {} {}", resource.kind.name(), resource.name);
        self.called(&call)?;
        self.written.lock().unwrap().push(call);
        let mut things = self.things.lock().unwrap();
        let left = match (things.get(&stored(resource)), before) {
            (Some(Document::Notification(held)), Document::Notification(old)) => {
                let configurations = replaced(&held.configurations, &old.configurations, &BTreeMap::new());
                (!configurations.is_empty()).then_some(Document::Notification(Notifications { configurations }))
            }
            (Some(Document::Lifecycle(held)), Document::Lifecycle(old)) => {
                let rules = replaced(&held.rules, &old.rules, &BTreeMap::new());
                (!rules.is_empty()).then_some(Document::Lifecycle(Lifecycle { rules }))
            }
            _ => None,
        };
        match left {
            Some(left) => things.insert(stored(resource), left),
            None => things.remove(&stored(resource)),
        };
        Ok(())
    }
}

fn thresholds() -> Thresholds {
    Thresholds {
        replication_failure: 0,
        replication_latency_warning: Duration::from_secs(1800),
        replication_latency_critical: Duration::from_secs(3600),
        latency_exceeds_sla: Duration::from_secs(900),
        pending_operations: 100,
        bytes_pending: 1 << 30,
        target_errors_4xx: 10,
        source_errors_4xx: 10,
        source_errors_5xx: 5,
        kms_target_failures: 5,
        kms_source_throttles: 0,
        source_object_count: 0,
        source_size_growth: 1 << 40,
        worker_silent: NonZeroU32::new(3).unwrap(),
    }
}

fn dr() -> Place {
    Place::Target(TargetId::new("dr"))
}

fn definitions(prefix: &str, source: &str, canary: Option<Duration>) -> Definitions {
    alarms::definitions(&alarms::Settings {
        prefix: prefix.to_owned(),
        namespace: "Repl".to_owned(),
        source_bucket: source.to_owned(),
        period: Duration::from_secs(60),
        thresholds: thresholds(),
        canary,
    })
}

/// A pair from us-east-1 to eu-west-2 under a prefix, with a bucket and a queue of its own and one target for all.
pub(super) fn settings(prefix: &str) -> Settings {
    let bucket = |place, name: &str, region: &str| Bucket {
        place,
        bucket: name.to_owned(),
        region: region.to_owned(),
        measured: true,
    };
    let source = format!("{prefix}-src");
    let definitions = definitions(prefix, &source, None);
    let rule = LifecycleRule { enabled: true, expire_days: Some(9), ..LifecycleRule::default() };
    Settings {
        prefix: prefix.to_owned(),
        partition: "aws",
        source: bucket(Place::Source, &source, "us-east-1"),
        source_owner: None,
        targets: vec![bucket(dr(), "dst", "eu-west-2")],
        queue_region: "us-east-1".to_owned(),
        queue: Some(QueueSettings {
            url: format!("https://sqs.us-east-1.amazonaws.com/111122223333/{prefix}-events"),
            kms_key: None,
            max_receives: 5,
        }),
        rule_prefixes: vec!["a/".to_owned(), "b/".to_owned()],
        rules: vec![(RuleId::new("a"), "dst".to_owned()), (RuleId::new("b"), "dst".to_owned())],
        lifecycle: LifecycleSettings {
            places: vec![Place::Source, dr()],
            rules: BTreeMap::from([("tiering".to_owned(), rule)]),
            tiering: Some((90, 180)),
        },
        escalation: EscalationSettings {
            region: "eu-west-2".to_owned(),
            watcher: Watcher::CloudWatch,
            tiers: BTreeMap::from([
                (Tier::Standard, Hears::Emails(vec!["ops@example.com".to_owned()])),
                (Tier::Critical, Hears::Nobody),
                (Tier::Management, Hears::Topic("arn:aws:sns:eu-west-2:111122223333:execs".to_owned())),
            ]),
            kms_key: None,
            forwarding_role: None,
            source_alarms: SourceAlarms::Apart,
            definitions,
            sla_seconds: 900,
            namespace: "Repl".to_owned(),
            period_seconds: 60,
        },
    }
}

fn all() -> BTreeSet<Part> {
    BTreeSet::from(Part::ALL)
}

async fn survey_of(estate: &Memory, settings: &Settings, goal: Goal) -> Vec<Change> {
    survey(estate, settings, &all(), goal, |_| ()).await
}

async fn applied(estate: &Memory, settings: &Settings, goal: Goal) -> Vec<Change> {
    let mut changes = survey_of(estate, settings, goal).await;
    carry_out(estate, &mut changes, |_| ()).await;
    changes
}

fn named<'c>(changes: &'c [Change], kind: &str, name: &str) -> &'c Change {
    let found = changes.iter().find(|change| change.kind() == kind && change.name() == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} among {changes:#?}"))
}

fn outcomes(changes: &[Change]) -> BTreeSet<&'static str> {
    changes.iter().map(|change| change.outcome.name()).collect()
}

/// What somebody else set up before.
fn inhabited() -> Vec<(Resource, Document)> {
    let theirs = Notification {
        destination: "arn:lambda".to_owned(),
        events: vec!["s3:ObjectRestore:Post".to_owned()],
        prefix: String::new(),
        suffix: String::new(),
    };
    let rule =
        LifecycleRule { enabled: true, expire_days: Some(1), prefix: "tmp/".to_owned(), ..LifecycleRule::default() };
    let statement = json!({"Statement": [{"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": "sqs:*"}]});
    let queue = Queue {
        arn: "arn:aws:sqs:us-east-1:111122223333:repl-events".to_owned(),
        encryption: QueueEncryption::Managed,
        retention_seconds: 1000,
        redrive: Some(crate::ports::setup::Redrive { dead_letter: "arn:theirs".to_owned(), max_receives: 3 }),
        policy: statement,
        made_by: None,
        messages: Some(0),
    };
    let topic = Topic {
        policy: json!({"Statement": [{"Sid": "theirs", "Effect": "Allow"}]}),
        emails: BTreeMap::from([("ops@example.com".to_owned(), Confirmation::Confirmed)]),
        ..Topic::default()
    };
    let url = "https://sqs.us-east-1.amazonaws.com/111122223333/repl-events";
    vec![
        (
            Resource::new(Kind::Notification, Place::Source, "repl-src"),
            Document::Notification(Notifications { configurations: BTreeMap::from([("theirs".to_owned(), theirs)]) }),
        ),
        (
            Resource::new(Kind::Lifecycle, dr(), "dst"),
            Document::Lifecycle(Lifecycle { rules: BTreeMap::from([("theirs".to_owned(), rule)]) }),
        ),
        (Resource::new(Kind::Queue, Place::Queue, url), Document::Queue(queue)),
        (Resource::new(Kind::Topic, Place::Monitoring, "repl-standard"), Document::Topic(topic)),
    ]
}

#[tokio::test]
async fn a_second_time_there_is_nothing_to_do_and_taken_back_nothing_is_left() {
    for (world, queues) in [(Vec::new(), Queues::Go), (inhabited(), Queues::Go), (inhabited(), Queues::Stay)] {
        let estate = Memory::with(world);
        let before = estate.world();
        let settings = settings("repl");
        let first = applied(&estate, &settings, Goal::There).await;
        assert!(!outcomes(&first).contains("failed"), "{first:#?}");
        assert!(first.iter().filter(|change| change.outcome == Outcome::Applied).count() > 20);
        let second = survey_of(&estate, &settings, Goal::There).await;
        assert_eq!(outcomes(&second), BTreeSet::from(["equal"]), "{second:#?}");
        for resource in before.keys() {
            assert!(estate.world().contains_key(resource), "{resource:?}");
        }
        let last = applied(&estate, &settings, Goal::Gone(queues)).await;
        assert!(!outcomes(&last).contains("failed"), "{last:#?}");
        assert_eq!(estate.world(), before);
        let again = survey_of(&estate, &settings, Goal::Gone(queues)).await;
        assert_eq!(outcomes(&again), BTreeSet::from(["equal"]), "{again:#?}");
    }
}

#[tokio::test]
async fn a_survey_writes_nothing() {
    let estate = Memory::with(inhabited());
    let before = estate.world();
    let changes = survey_of(&estate, &settings("repl"), Goal::There).await;
    assert!(outcomes(&changes).contains("planned"));
    assert_eq!((estate.world(), estate.written.lock().unwrap().len()), (before, 0));
}

/// One prefix begins the other, and both pairs share a target: neither takes anything of the other for its own.
#[tokio::test]
async fn a_pair_beside_another_is_left_whole() {
    let (one, other) = (settings("repl"), settings("repl-eu"));
    for (goes, stays) in [(&one, &other), (&other, &one)] {
        let estate = Memory::default();
        applied(&estate, stays, Goal::There).await;
        let alone = estate.world();
        applied(&estate, goes, Goal::There).await;
        assert_eq!(outcomes(&survey_of(&estate, stays, Goal::There).await), BTreeSet::from(["equal"]));
        applied(&estate, goes, Goal::Gone(Queues::Go)).await;
        let left = estate.world();
        let shared = Resource::new(Kind::RequestMetrics, dr(), "dst/EntireBucket");
        for (resource, document) in alone.iter().filter(|(resource, _)| **resource != shared) {
            assert_eq!(left.get(resource), Some(document), "{resource:?}");
        }
        assert!(left.keys().all(|resource| alone.contains_key(resource)), "{left:#?}");
    }
}

#[tokio::test]
async fn one_that_fails_fails_only_what_needs_it() {
    let estate = Memory::default()
        .failing("write topic repl-standard", 9, FaultKind::Denied)
        .failing("write alarm repl-WorkerSilent", 9, FaultKind::Denied)
        .failing("write queue", 9, FaultKind::Denied)
        .failing("write role", 9, FaultKind::Denied);
    let settings = settings("repl");
    let changes = applied(&estate, &settings, Goal::There).await;
    let reason = |kind, name| match &named(&changes, kind, name).outcome {
        Outcome::Failed(reason) => reason.clone(),
        other => panic!("{kind} {name}: {other:?}"),
    };
    assert!(reason("topic", "repl-standard").contains("as the test says"));
    assert!(reason("queue", "repl-events").contains("repl-events-dlq failed"));
    assert!(reason("notification", "repl-src/repl-repl-events").contains("not tried"));
    assert!(reason("composite-alarm", "repl-SystemHealth").contains("repl-WorkerSilent failed"));
    assert!(reason("composite-alarm", "repl-Escalation").contains("repl-SystemHealth failed"));
    assert!(reason("event-rule", "repl-alarm-forwarding").contains("not tried"));
    let alarm = named(&changes, "alarm", "repl-PendingOperations");
    assert_eq!(alarm.outcome, Outcome::Applied);
    assert!(alarm.notes[0].contains("nobody hears it by topic repl-standard"), "{:?}", alarm.notes);
    assert_eq!(named(&changes, "composite-alarm", "repl-InfrastructureHealth").outcome, Outcome::Applied);
    assert_eq!(named(&changes, "dashboard", "repl-primary").outcome, Outcome::Applied);
    estate.mended();
    applied(&estate, &settings, Goal::There).await;
    assert_eq!(outcomes(&survey_of(&estate, &settings, Goal::There).await), BTreeSet::from(["equal"]));
}

#[tokio::test]
async fn what_cannot_be_read_is_failed_and_the_rest_goes_on() {
    let estate = Memory::default().failing("read lifecycle dst", 9, FaultKind::Denied).failing(
        "account Monitoring",
        9,
        FaultKind::Denied,
    );
    let changes = applied(&estate, &settings("repl"), Goal::There).await;
    assert!(matches!(named(&changes, "lifecycle", "dst").outcome, Outcome::Failed(_)));
    assert!(matches!(named(&changes, "topic", "repl-standard").outcome, Outcome::Failed(_)));
    assert_eq!(named(&changes, "lifecycle", "repl-src").outcome, Outcome::Applied);
    assert_eq!(named(&changes, "queue", "repl-events").outcome, Outcome::Applied);
    let escalated = estate.written.lock().unwrap().iter().filter(|call| call.contains("alarm")).count();
    assert_eq!(escalated, 0, "no alarm of an unknown account");
}

/// A queue that cannot be read gets no dead-letter queue made for it.
#[tokio::test]
async fn a_queue_that_cannot_be_read_is_left_alone() {
    let estate = Memory::default().failing("read queue", 9, FaultKind::Denied);
    let changes = applied(&estate, &settings("repl"), Goal::There).await;
    assert!(matches!(named(&changes, "notification", "repl-src/repl-repl-events").outcome, Outcome::Failed(_)));
    let queues = estate.world().into_keys().filter(|resource| resource.kind == Kind::Queue).count();
    assert_eq!(queues, 0);
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_the_rest_is_not() {
    let estate = Memory::default()
        .failing("write notification", 3, FaultKind::Transient)
        .failing("read topic repl-critical", 2, FaultKind::Throttled)
        .failing("write dashboard", 1, FaultKind::Denied);
    let changes = applied(&estate, &settings("repl"), Goal::There).await;
    assert_eq!(named(&changes, "notification", "repl-src/repl-repl-events").outcome, Outcome::Applied);
    assert_eq!(named(&changes, "topic", "repl-critical").outcome, Outcome::Applied);
    assert!(matches!(named(&changes, "dashboard", "repl-primary").outcome, Outcome::Failed(_)));
}

#[tokio::test]
async fn a_store_without_a_thing_is_skipped_with_the_reason() {
    let mut settings = settings("repl");
    settings.source.bucket = "plain".to_owned();
    let changes = applied(&Memory::default(), &settings, Goal::There).await;
    let reason = Outcome::Skipped("it is a plain store".to_owned());
    assert_eq!(named(&changes, "intelligent-tiering", "plain/repl-archive").outcome, reason);
    assert!(!outcomes(&changes).contains("failed"));
}

#[tokio::test]
async fn in_one_region_nothing_is_forwarded_and_no_second_topic_is_made() {
    let mut settings = settings("repl");
    settings.escalation.region = "us-east-1".to_owned();
    settings.escalation.source_alarms = SourceAlarms::Together;
    let changes = survey_of(&Memory::default(), &settings, Goal::There).await;
    assert!(!changes.iter().any(|change| ["event-rule", "role"].contains(&change.kind())));
    assert_eq!(changes.iter().filter(|change| change.name() == "repl-standard").count(), 1);
    assert_eq!(named(&changes, "alarm", "repl-SourceSizeGrowth").region, "us-east-1");
}

#[tokio::test]
async fn without_cloudwatch_only_the_workers_topics_are_made() {
    let mut settings = settings("repl");
    settings.escalation.watcher = Watcher::Worker;
    let estate = Memory::default();
    applied(&estate, &settings, Goal::There).await;
    let made: Vec<Resource> = estate.world().into_keys().filter(|resource| resource.kind >= Kind::Topic).collect();
    assert_eq!(made, [Resource::new(Kind::Topic, Place::Monitoring, "repl-standard")]);
}

/// Without data it would stay as it is: in ALARM for good.
#[tokio::test]
async fn the_alarm_of_a_canary_goes_with_the_canary() {
    let (without, mut with) = (settings("repl"), settings("repl"));
    with.escalation.definitions = definitions("repl", "repl-src", Some(Duration::from_secs(60)));
    let alarm = Resource::new(Kind::Alarm, Place::Monitoring, "repl-CanaryFailed");
    let estate = Memory::default();
    applied(&estate, &with, Goal::There).await;
    assert!(estate.world().contains_key(&alarm));
    let changes = applied(&estate, &without, Goal::There).await;
    let gone: Vec<&str> =
        changes.iter().filter(|change| change.outcome == Outcome::Applied).map(Change::name).collect();
    assert!(gone.contains(&"repl-CanaryFailed") && !estate.world().contains_key(&alarm), "{gone:?}");
    let again = survey_of(&estate, &without, Goal::There).await;
    assert_eq!(outcomes(&again), BTreeSet::from(["equal"]));
    assert!(!again.iter().any(|change| change.name() == "repl-CanaryFailed"), "there is nothing to tell of it");
    applied(&estate, &with, Goal::There).await;
    applied(&estate, &without, Goal::Gone(Queues::Go)).await;
    assert_eq!(estate.world(), BTreeMap::new());
}

/// `WorkerSilent` would page for ever, with nobody to send a heartbeat.
#[tokio::test]
async fn what_watched_before_the_worker_did_goes_with_the_rest() {
    let (before, mut after) = (settings("repl"), settings("repl"));
    after.escalation.watcher = Watcher::Worker;
    let estate = Memory::default();
    applied(&estate, &before, Goal::There).await;
    let changes = applied(&estate, &after, Goal::There).await;
    let Outcome::Skipped(reason) = &named(&changes, "alarm", "repl-*").outcome else { panic!("{changes:#?}") };
    assert!(reason.contains("repl apply escalation --destroy"), "{reason}");
    applied(&estate, &after, Goal::Gone(Queues::Go)).await;
    let shared = |resource: &Resource| resource.kind == Kind::RequestMetrics;
    assert!(estate.world().keys().all(shared), "{:#?}", estate.world());
}

/// Where there is no CloudWatch there may be no account: that fails nothing, unless something was made there.
#[tokio::test]
async fn where_no_account_is_there_is_nothing_to_take_back() {
    let mut settings = settings("repl");
    settings.escalation.watcher = Watcher::Worker;
    for (hears, outcome) in [(Hears::Nobody, "skipped"), (Hears::Emails(vec!["ops@example.com".to_owned()]), "failed")]
    {
        settings.escalation.tiers.insert(Tier::Standard, hears);
        let estate = Memory::default()
            .failing("account Monitoring", 9, FaultKind::Denied)
            .failing("read alarm", 99, FaultKind::Denied)
            .failing("read topic", 99, FaultKind::Denied);
        let changes = survey_of(&estate, &settings, Goal::Gone(Queues::Stay)).await;
        for kind in ["alarm", "dashboard"] {
            assert_eq!(named(&changes, kind, "repl-*").outcome.name(), outcome, "{changes:#?}");
        }
        let others = changes.iter().filter(|change| change.name() != "repl-*").map(|change| change.outcome.name());
        assert_eq!(others.collect::<BTreeSet<_>>(), BTreeSet::from(["equal"]), "{changes:#?}");
    }
}

#[tokio::test]
async fn a_prefix_too_long_for_a_role_is_told_before_anything_is_tried() {
    let settings = settings(&"p".repeat(50));
    let changes = applied(&Memory::default(), &settings, Goal::There).await;
    let rule = changes.iter().find(|change| change.kind() == "event-rule").unwrap();
    assert!(matches!(&rule.outcome, Outcome::Failed(reason) if reason.contains("shorten escalation.prefix")));
}

/// A queue that holds messages stays, and so does what takes its dead letters.
#[tokio::test]
async fn a_queue_with_messages_stays_with_its_dead_letters() {
    let (estate, settings) = (Memory::default(), settings("repl"));
    applied(&estate, &settings, Goal::There).await;
    for document in estate.things.lock().unwrap().values_mut() {
        if let Document::Queue(queue) = document {
            queue.messages = Some(u64::from(!queue.arn.ends_with("-dlq")));
        }
    }
    let changes = applied(&estate, &settings, Goal::Gone(Queues::Go)).await;
    for name in ["repl-events", "repl-events-dlq"] {
        let change = named(&changes, "queue", name);
        assert_eq!((change.outcome.clone(), change.notes.len()), (Outcome::Equal, 1), "{change:?}");
    }
}

/// Between the look and the "yes" of whoever is asked, messages may come.
#[tokio::test]
async fn a_queue_that_fills_while_somebody_is_asked_stays() {
    let (estate, settings) = (Memory::default(), settings("repl"));
    applied(&estate, &settings, Goal::There).await;
    let mut changes = survey_of(&estate, &settings, Goal::Gone(Queues::Go)).await;
    for document in estate.things.lock().unwrap().values_mut() {
        if let Document::Queue(queue) = document {
            queue.messages = (!queue.arn.ends_with("-dlq")).then_some(1);
        }
    }
    carry_out(&estate, &mut changes, |_| ()).await;
    let Outcome::Failed(reason) = &named(&changes, "queue", "repl-events").outcome else { panic!("{changes:#?}") };
    assert!(reason.contains("messages have come since"), "{reason}");
    assert!(matches!(named(&changes, "queue", "repl-events-dlq").outcome, Outcome::Failed(_)));
    let left = estate.world().into_keys().filter(|resource| resource.kind == Kind::Queue).count();
    assert_eq!(left, 2);
}

/// A rule whose role is gone forwards nothing, without a word.
#[tokio::test]
async fn the_role_stays_while_its_rule_does() {
    let (estate, settings) = (Memory::default(), settings("repl"));
    applied(&estate, &settings, Goal::There).await;
    let estate = estate.failing("remove event-rule", 9, FaultKind::Denied);
    let changes = applied(&estate, &settings, Goal::Gone(Queues::Stay)).await;
    let role = named(&changes, "role", "repl-alarm-forwarding");
    assert!(matches!(&role.outcome, Outcome::Failed(reason) if reason.contains("event-rule")), "{role:?}");
    assert!(estate.world().keys().any(|resource| resource.kind == Kind::Role));
}

/// Every metric of the catalogue is on the primary dashboard, and each widget names a region.
#[test]
fn the_dashboards_leave_no_metric_out() {
    use crate::watch::catalogue::Metric;
    let settings = settings("repl");
    let accounts = Accounts { monitoring: "111122223333".to_owned(), ..Accounts::default() };
    let bodies: Vec<String> = dashboards::wishes(&settings, &accounts)
        .into_iter()
        .filter_map(|wish| match wish.want {
            Want::Exact(Document::Dashboard(dashboard)) => Some(dashboard.body.to_string()),
            _ => None,
        })
        .collect();
    let [primary, regional] = <[String; 2]>::try_from(bodies).unwrap();
    for metric in Metric::ALL {
        // There is no canary in these settings.
        let sent = !matches!(metric, Metric::CanaryLatency | Metric::CanaryFailed);
        assert_eq!(primary.contains(&format!("\"{}\"", metric.name())), sent, "{}", metric.name());
    }
    assert!(primary.contains("repl-src") && primary.contains("StorageType") && primary.contains("5xxErrors"));
    assert!(!regional.contains("Heartbeat") && regional.contains("BucketName=\\\"dst\\\""), "{regional}");
    let body: Value = serde_json::from_str(&primary).unwrap();
    for widget in body["widgets"].as_array().unwrap() {
        let place = (widget["x"].as_u64().unwrap(), widget["width"].as_u64().unwrap());
        assert!(place.0 + place.1 <= 24);
        let properties = &widget["properties"];
        assert!(properties["region"].is_string() || properties["alarms"].is_array(), "{widget}");
    }
}
