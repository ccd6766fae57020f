//! Laws of wishes: what is wished is reached in one step, and others' parts are never touched.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::ports::setup::{Actions, EventTarget, Kind, Measure, Place, Query, Statistic, Versioned};

fn wish(want: Want) -> Wish {
    Wish::new(Resource::new(Kind::Queue, Place::Queue, "x"), want)
}

fn settled(want: &Want, held: &Held) -> Judged {
    let first = judge(&wish(want.clone()), held);
    let there = first.after.clone().map_or(Held::Absent, Held::Present);
    let second = judge(&wish(want.clone()), &there);
    assert_eq!(second.before, second.after, "from {held:?}");
    assert_eq!(second.before, first.after);
    first
}

fn statement(sid: &str, bucket: &str) -> Value {
    json!({"Sid": sid, "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": bucket})
}

fn queue_wish() -> QueueWish {
    QueueWish {
        arn: "arn:q".to_owned(),
        key: None,
        retention: None,
        redrive: Some(Redrive { dead_letter: "arn:dlq".to_owned(), max_receives: 5 }),
        statement: Some(statement("ours", "b")),
        prefix: "repl".to_owned(),
    }
}

prop_compose! {
    fn encryption()(which in 0..4, key in "[a-z]{1,4}") -> QueueEncryption {
        match which {
            0 => QueueEncryption::None,
            1 => QueueEncryption::Managed,
            2 => QueueEncryption::Key(format!("arn:aws:kms:r:1:key/{key}")),
            _ => QueueEncryption::Key(key),
        }
    }
}

prop_compose! {
    fn queue()(
        encryption in encryption(), retention in 60_u32..1_209_600, redrive in prop::option::of(("arn:[a-z]{1,3}", 1_u32..20)),
        sids in prop::collection::vec("[a-z]{1,4}|ours", 0..3), ours in any::<bool>(),
    ) -> Queue {
        let mut policy = Value::Null;
        for sid in sids {
            policy = policy::with_statement(&policy, &statement(&sid, "c"));
        }
        Queue {
            arn: "arn:q".to_owned(), encryption, retention_seconds: retention, policy, messages: Some(0),
            redrive: redrive.map(|(dead_letter, max_receives)| Redrive { dead_letter, max_receives }),
            made_by: ours.then(|| "repl".to_owned()),
        }
    }
}

/// Events outlive an outage of two weeks where the queue is ours, and a queue that was there keeps its own time.
#[test]
fn a_new_queue_keeps_what_arrives_for_fourteen_days() {
    let kept = |held: &Held| match settled(&Want::Queue(queue_wish()), held).after {
        Some(Document::Queue(queue)) => queue.retention_seconds,
        other => panic!("{other:?}"),
    };
    assert_eq!(kept(&Held::Absent), 14 * 24 * 60 * 60);
    let there = Queue { arn: "arn:q".to_owned(), retention_seconds: 1000, ..Queue::default() };
    assert_eq!(kept(&Held::Present(Document::Queue(there))), 1000);
}

proptest! {
    #[test]
    fn a_queue_is_as_wished_after_one_step(held in queue(), key in prop::option::of("[a-z]{1,4}"), retention in prop::option::of(60_u32..1_209_600)) {
        let wished = QueueWish { key, retention, ..queue_wish() };
        let first = settled(&Want::Queue(wished.clone()), &Held::Present(Document::Queue(held.clone())));
        let Some(Document::Queue(after)) = first.after else { panic!("a queue") };
        prop_assert!(after.encryption != QueueEncryption::None);
        prop_assert!(after.retention_seconds >= held.retention_seconds.max(wished.retention.unwrap_or(0)));
        prop_assert_eq!(&after.made_by, &held.made_by);
        prop_assert_eq!(policy::without_statement(&after.policy, "ours"), policy::without_statement(&held.policy, "ours"));
        if let Some(there) = held.redrive.filter(|there| there.dead_letter != "arn:dlq") {
            prop_assert_eq!(after.redrive, Some(there));
        }
    }

    #[test]
    fn a_topic_is_as_wished_after_one_step(
        emails in prop::collection::vec("[a-c]@x", 0..3), there in prop::collection::btree_map("[A-C]@x|[a-c]@x", any::<bool>(), 0..3),
        key in prop::option::of("[a-z]{1,4}"), held_key in prop::option::of("[a-z]{1,4}|alias/aws/sns"), ours in any::<bool>(),
    ) {
        let confirmation = |confirmed: bool| if confirmed { Confirmation::Confirmed } else { Confirmation::Pending };
        let held = Topic {
            kms_key: held_key, policy: json!({"Statement": [statement("theirs", "x")]}), others_hear: false,
            emails: there.iter().map(|(email, confirmed)| (email.clone(), confirmation(*confirmed))).collect(),
            made_by: ours.then(|| "repl".to_owned()),
        };
        let want = Want::Topic(TopicWish { key, statement: statement("ours", "t"), emails: emails.clone(), prefix: "repl".to_owned() });
        let first = settled(&want, &Held::Present(Document::Topic(held.clone())));
        let Some(Document::Topic(after)) = first.after else { panic!("a topic") };
        for (email, state) in &held.emails {
            prop_assert_eq!(after.emails.get(email), Some(state));
        }
        for email in emails {
            prop_assert!(after.emails.keys().any(|there| there.eq_ignore_ascii_case(&email)));
        }
        prop_assert_eq!(policy::without_statement(&after.policy, "ours"), held.policy);
    }

    #[test]
    fn lifecycle_rules_of_others_are_no_part_of_the_change(
        held in prop::collection::btree_map("repl-a|repl-b|repl-old|theirs", 1_u32..9, 0..4), wanted in prop::collection::btree_map("repl-a|repl-b", 1_u32..9, 0..2),
    ) {
        let rule = |days: &u32| LifecycleRule { enabled: true, expire_days: Some(*days), ..LifecycleRule::default() };
        let rules = |of: &BTreeMap<String, u32>| of.iter().map(|(id, days)| (id.clone(), rule(days))).collect::<BTreeMap<_, _>>();
        let known = BTreeSet::from(["repl-a".to_owned(), "repl-b".to_owned()]);
        let want = Want::Lifecycle { rules: rules(&wanted), known, prefix: "repl".to_owned() };
        let first = settled(&want, &Held::Present(Document::Lifecycle(Lifecycle { rules: rules(&held) })));
        for side in [&first.before, &first.after].into_iter().flatten() {
            let Document::Lifecycle(side) = side else { panic!("rules") };
            prop_assert!(side.rules.keys().all(|id| id == "repl-a" || id == "repl-b"));
        }
        prop_assert_eq!(held.contains_key("repl-old"), !first.notes.is_empty());
    }
}

// Notifications --------------------------------------------------------------------------------------------------------

fn notification(destination: &str, events: &[&str], prefix: &str) -> Notification {
    Notification {
        destination: destination.to_owned(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        prefix: prefix.to_owned(),
        suffix: String::new(),
    }
}

fn notified(configurations: &[(&str, Notification)]) -> Held {
    let configurations = configurations.iter().map(|(id, one)| ((*id).to_owned(), one.clone())).collect();
    Held::Present(Document::Notification(Notifications { configurations }))
}

fn told() -> Want {
    let ours = notification("arn:q", &["s3:ObjectCreated:*", "s3:ObjectTagging:*"], "");
    Want::Notifications(NotificationWish {
        configurations: BTreeMap::from([("repl-q".to_owned(), ours)]),
        optional: vec!["s3:New".to_owned()],
        id: "repl-q".to_owned(),
    })
}

#[test]
fn notifications_are_asked_for_beside_those_of_others() {
    let theirs = ("theirs", notification("arn:lambda", &["s3:ObjectRestore:Post"], ""));
    let first = settled(&told(), &notified(std::slice::from_ref(&theirs)));
    assert_eq!(first.before, None);
    let full = notification("arn:q", &["s3:New", "s3:ObjectCreated:*", "s3:ObjectTagging:*"], "");
    assert_eq!(first.after.map(Held::Present), Some(notified(&[("repl-q", full)])));
}

#[test]
fn a_store_that_does_not_know_an_optional_event_is_equal_without_it() {
    let held = notified(&[("repl-q", notification("arn:q", &["s3:ObjectCreated:*", "s3:ObjectTagging:*"], ""))]);
    let judged = judge(&wish(told()), &held);
    assert_eq!(judged.before, judged.after);
    let lacking = notified(&[("repl-q", notification("arn:q", &["s3:ObjectCreated:*"], ""))]);
    let judged = judge(&wish(told()), &lacking);
    assert_ne!(judged.before, judged.after);
}

#[test]
fn what_is_left_of_several_filters_is_taken_away() {
    let old = notification("arn:q", &["s3:ObjectCreated:*"], "b/");
    let judged =
        settled(&told(), &notified(&[("repl-q-2", old.clone()), ("repl-q-x", notification("arn:z", &[], ""))]));
    assert_eq!(judged.before.map(Held::Present), Some(notified(&[("repl-q-2", old)])));
    let Some(Document::Notification(after)) = judged.after else { panic!("ours") };
    assert_eq!(after.configurations.keys().collect::<Vec<_>>(), ["repl-q"]);
}

#[test]
fn another_way_of_the_same_events_is_told_or_stands_in_the_way() {
    let same = notification("arn:q", &["s3:ObjectCreated:*", "s3:ObjectTagging:Put", "s3:ObjectTagging:*"], "");
    let judged = judge(&wish(told()), &notified(&[("by-hand", same)]));
    assert_eq!((judged.before, judged.after, judged.obstacle), (None, None, None));
    assert!(judged.notes[0].contains("by-hand"), "{:?}", judged.notes);
    // CloudFormation makes one for each event.
    let each = [("c1", "s3:ObjectCreated:*"), ("c2", "s3:ObjectTagging:*"), ("c3", "s3:ObjectRemoved:*")];
    let each = each.map(|(id, event)| (id, notification("arn:q", &[event], "")));
    let judged = judge(&wish(told()), &notified(&each));
    assert_eq!((judged.before, judged.after, judged.obstacle), (None, None, None));
    assert!(judged.notes[0].contains("by configuration c1, c2:") && judged.notes.len() == 1, "{:?}", judged.notes);
    for gap in [0, 1] {
        let mut lacking = each.to_vec();
        lacking.remove(gap);
        assert_ne!(judge(&wish(told()), &notified(&lacking)).obstacle, None, "without {}", each[gap].0);
    }
    let mut narrow = each.clone();
    narrow[1].1.suffix = ".jpg".to_owned();
    assert_ne!(judge(&wish(told()), &notified(&narrow)).obstacle, None);
    let other = notification("arn:elsewhere", &["s3:ObjectCreated:Put"], "a/");
    let judged = judge(&wish(told()), &notified(&[("theirs", other)]));
    let Some(Obstacle::Fail(reason)) = judged.obstacle else { panic!("a clash") };
    assert!(reason.contains("theirs") && reason.contains("arn:elsewhere"), "{reason}");
}

// The rest -------------------------------------------------------------------------------------------------------------

fn alarm(measure: Option<Measure>, threshold: f64) -> Alarm {
    Alarm {
        description: String::new(),
        measure,
        evaluation_periods: 1,
        datapoints: 1,
        threshold,
        comparison: "GreaterThanThreshold".to_owned(),
        missing: "missing".to_owned(),
        actions: Actions::default(),
    }
}

#[test]
fn what_a_service_does_not_tell_of_an_alarm_is_not_compared() {
    let series = Statistic {
        namespace: "Repl".to_owned(),
        metric: "m".to_owned(),
        dimensions: BTreeMap::new(),
        statistic: "Sum".to_owned(),
        period: 60,
    };
    let wanted = alarm(Some(Measure::Metric(series.clone())), 1.0);
    let differs = |held: Alarm| {
        let want = Want::Exact(Document::Alarm(wanted.clone()));
        let judged = judge(&wish(want), &Held::Present(Document::Alarm(held)));
        assert!(judged.after == judged.before || judged.after == Some(Document::Alarm(wanted.clone())));
        judged.after != judged.before
    };
    assert!(!differs(wanted.clone()));
    assert!(!differs(alarm(None, 1.0)));
    assert!(differs(alarm(None, 2.0)), "the threshold is told, and differs");
    let math = BTreeMap::from([("m".to_owned(), Query::Metric(series))]);
    assert!(differs(alarm(Some(Measure::Math(math)), 1.0)));
}

#[test]
fn other_targets_of_the_rule_stay() {
    let target = |arn: &str| EventTarget { arn: arn.to_owned(), role: String::new() };
    let rule = |targets: &[(&str, EventTarget)]| EventRule {
        description: String::new(),
        enabled: true,
        pattern: json!({}),
        targets: targets.iter().map(|(id, target)| ((*id).to_owned(), target.clone())).collect(),
    };
    let want = Want::Exact(Document::EventRule(rule(&[("ours", target("a"))])));
    let held = Held::Present(Document::EventRule(rule(&[("ours", target("old")), ("theirs", target("b"))])));
    let first = settled(&want, &held);
    let both = rule(&[("ours", target("a")), ("theirs", target("b"))]);
    assert_eq!(first.after, Some(Document::EventRule(both)));
}

#[test]
fn a_role_of_somebody_else_is_not_taken_over() {
    let role = |made_by: Option<&str>| Role {
        trust: json!({"Statement": [{"Effect": "Allow"}]}),
        policy: json!({}),
        made_by: made_by.map(str::to_owned),
    };
    let want = Want::Exact(Document::Role(role(Some("repl"))));
    let judged = judge(&wish(want.clone()), &Held::Present(Document::Role(role(None))));
    assert!(matches!(judged.obstacle, Some(Obstacle::Fail(_))));
    let respelt = Role { trust: json!({"Statement": {"Effect": "Allow"}}), ..role(Some("repl")) };
    let judged = judge(&wish(want), &Held::Present(Document::Role(respelt)));
    assert_eq!(judged.before, judged.after);
}

#[test]
fn only_what_this_set_up_made_goes() {
    let gone = |made_by: Option<&str>| Want::Gone { made_by: made_by.map(str::to_owned), sid: "ours".to_owned() };
    let there = |made_by: Option<&str>, messages| {
        let policy = policy::with_statement(&json!({"Statement": [statement("theirs", "x")]}), &statement("ours", "b"));
        Held::Present(Document::Queue(Queue {
            policy,
            made_by: made_by.map(str::to_owned),
            messages,
            ..Queue::default()
        }))
    };
    let after = |want: Want, held: &Held| match judge(&wish(want), held).after {
        Some(Document::Queue(queue)) => Some(queue.policy),
        _ => None,
    };
    let only_theirs = Some(json!({"Statement": [statement("theirs", "x")]}));
    assert_eq!(after(gone(Some("repl")), &there(Some("repl"), Some(0))), None);
    assert_eq!(after(gone(Some("repl")), &there(None, Some(0))), only_theirs);
    assert_eq!(after(gone(Some("repl")), &there(Some("repl-eu"), Some(0))), only_theirs);
    assert_eq!(after(gone(None), &there(None, Some(0))), only_theirs);
    for messages in [Some(1), None] {
        let judged = judge(&wish(gone(Some("repl"))), &there(Some("repl"), messages));
        assert_eq!(judged.before, judged.after);
        assert_eq!(judged.notes.len(), 1);
    }
}

#[test]
fn versioning_is_told_and_left() {
    for (state, notes) in [("enabled", 0), ("suspended", 1), ("off", 1)] {
        let judged = judge(&wish(Want::Versions), &Held::Present(Document::Versioning(Versioned { state })));
        assert_eq!(judged.before, judged.after);
        assert_eq!(judged.notes.len(), notes);
    }
}
