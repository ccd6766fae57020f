//! The way of an event: bucket, queue, dead-letter queue.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::wish::{LONGEST_RETENTION, NotificationWish, QueueWish, Want, Wish};
use super::{Accounts, Settings};
use crate::ports::setup::{Document, Held, Kind, NOVEL_EVENTS, Notification, Place, Redrive, Resource};

/// All that the engine acts on (aws-semantics 1.4). Lifecycle expirations are not: each bucket has its own.
const EVENTS: [&str; 5] = [
    "s3:ObjectAcl:Put",
    "s3:ObjectCreated:*",
    "s3:ObjectRemoved:*",
    "s3:ObjectRestore:Completed",
    "s3:ObjectTagging:*",
];
/// S3 allows a bucket 100 configurations (aws-semantics 1.8): beyond a few the filters are not worth their number.
const MOST_FILTERS: usize = 10;

/// The queue, as far as the config names it.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Its URL.
    pub url: String,
    /// A customer's key to encrypt it under; `None` for SQS's own.
    pub kms_key: Option<String>,
    /// Receives until a message is given up into the dead-letter queue.
    pub max_receives: u32,
}

impl QueueSettings {
    /// Its name: the last part of the URL.
    #[must_use]
    pub fn name(&self) -> &str {
        self.url.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    /// The account that the URL names.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        let part = self.url.trim_end_matches('/').rsplit('/').nth(1)?;
        (part.len() == 12 && part.bytes().all(|byte| byte.is_ascii_digit())).then_some(part)
    }

    fn dead_letter_url(&self) -> String {
        format!("{}-dlq", self.url.trim_end_matches('/'))
    }

    pub(super) fn resource(&self) -> Resource {
        Resource::new(Kind::Queue, Place::Queue, self.url.trim_end_matches('/'))
    }

    fn dead_letters(&self) -> Resource {
        Resource::new(Kind::Queue, Place::Queue, self.dead_letter_url())
    }
}

/// What events need. `held` is what there is of the queue itself.
pub(super) fn wishes(settings: &Settings, accounts: &Accounts, held: &Held) -> Vec<Wish> {
    let resource = configuration(settings);
    let Some(queue) = &settings.queue else {
        let reason = "there is no [queue] in the config, and events need one".to_owned();
        return vec![Wish::new(resource, Want::Unavailable(reason))];
    };
    if let Some(reason) = deaf(settings, queue) {
        return vec![Wish::new(resource, Want::Impossible(reason))];
    }
    let arn = queue_arn(settings, queue, accounts, held);
    let dead_arn = format!("{arn}-dlq");
    let mut wishes = Vec::new();
    let elsewhere = matches!(held, Held::Present(Document::Queue(there))
        if there.redrive.as_ref().is_some_and(|redrive| redrive.dead_letter != dead_arn));
    let asked = |arn: String| QueueWish {
        arn,
        key: queue.kms_key.clone(),
        retention: None,
        redrive: None,
        statement: None,
        prefix: settings.prefix.clone(),
    };
    if !elsewhere {
        let dead = QueueWish { retention: Some(LONGEST_RETENTION), ..asked(dead_arn.clone()) };
        wishes.push(Wish::new(queue.dead_letters(), Want::Queue(dead)));
    }
    let statement = json!({
        "Sid": sid(settings),
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        // A bucket's ARN names no account, so that only both together keep a stranger's bucket of that name out.
        "Condition": {
            "ArnLike": {"aws:SourceArn": format!("arn:{}:s3:*:*:{}", settings.partition, settings.source.bucket)},
            "StringEquals": {"aws:SourceAccount": accounts.source},
        },
    });
    let redrive = Redrive { dead_letter: dead_arn, max_receives: queue.max_receives };
    let main = QueueWish { redrive: Some(redrive), statement: Some(statement), ..asked(arn.clone()) };
    let mut wish = Wish::new(queue.resource(), Want::Queue(main));
    if !elsewhere {
        wish = wish.needs([queue.dead_letters()]);
    }
    if queue.kms_key.is_some() {
        wish = wish.noting(
            "the policy of its key must let s3.amazonaws.com use kms:GenerateDataKey and kms:Decrypt, or no event arrives",
        );
    }
    wishes.push(wish);
    let told = Want::Notifications(NotificationWish {
        configurations: configurations(settings, queue, &arn),
        optional: NOVEL_EVENTS.map(str::to_owned).to_vec(),
        id: resource.id().to_owned(),
    });
    wishes.push(Wish::new(resource, told).needs([queue.resource()]));
    wishes
}

/// Why S3 could not send to the queue, whatever its policy says (aws-semantics 1.5).
fn deaf(settings: &Settings, queue: &QueueSettings) -> Option<String> {
    let name = queue.name();
    if name.to_ascii_lowercase().ends_with(".fifo") {
        return Some(format!("S3 sends no events to a FIFO queue, and {name} is one: name a standard queue"));
    }
    let (here, there) = (&settings.source.region, settings.region(&Place::Queue));
    (here != there).then(|| {
        format!(
            "S3 sends events to queues of the bucket's own region {here} only, and {name} is in {there}: name a queue \
             of {here}, or feed this one by a topic or EventBridge and apply the other parts"
        )
    })
}

/// What is to be gone: the notifications, our statement in the queue's policy, and the queues where that was asked.
pub(super) fn farewells(settings: &Settings, queues: super::Queues) -> Vec<Wish> {
    let Some(queue) = &settings.queue else { return Vec::new() };
    let resource = configuration(settings);
    let none = NotificationWish { configurations: BTreeMap::new(), optional: Vec::new(), id: resource.id().to_owned() };
    let made_by = match queues {
        super::Queues::Stay => None,
        super::Queues::Go => Some(settings.prefix.clone()),
    };
    let gone = Want::Gone { made_by, sid: sid(settings) };
    let mut wishes = vec![
        Wish::new(resource.clone(), Want::Notifications(none)),
        Wish::new(queue.resource(), gone.clone()).needs([resource]),
    ];
    if queues == super::Queues::Go {
        wishes.push(Wish::new(queue.dead_letters(), gone).needs([queue.resource()]));
    }
    wishes
}

fn configuration(settings: &Settings) -> Resource {
    let queue = settings.queue.as_ref().map_or("", QueueSettings::name);
    let name = format!("{}/{}-{queue}", settings.source.bucket, settings.prefix);
    Resource::new(Kind::Notification, Place::Source, name)
}

fn sid(settings: &Settings) -> String {
    format!("{}-s3-events", settings.prefix)
}

fn queue_arn(settings: &Settings, queue: &QueueSettings, accounts: &Accounts, held: &Held) -> String {
    match held {
        Held::Present(Document::Queue(there)) if !there.arn.is_empty() => there.arn.clone(),
        Held::Present(_) | Held::Absent | Held::Unsupported(_) => {
            let account = queue.account().unwrap_or(&accounts.queue);
            format!("arn:{}:sqs:{}:{account}:{}", settings.partition, settings.region(&Place::Queue), queue.name())
        }
    }
}

fn configurations(settings: &Settings, queue: &QueueSettings, arn: &str) -> BTreeMap<String, Notification> {
    let id = format!("{}-{}", settings.prefix, queue.name());
    let mut events: Vec<String> = EVENTS.map(str::to_owned).to_vec();
    events.sort();
    filters(&settings.rule_prefixes)
        .into_iter()
        .enumerate()
        .map(|(nth, prefix)| {
            let id = if nth == 0 { id.clone() } else { format!("{id}-{}", nth + 1) };
            let (destination, suffix) = (arn.to_owned(), String::new());
            (id, Notification { destination, events: events.clone(), prefix, suffix })
        })
        .collect()
}

/// The prefixes to filter by: together they hold all that the rules are about, and no two of them a key in common,
/// which S3 would refuse. One empty prefix is no filter.
///
/// S3 wants letters that are not plain encoded in a filter; a filter that ends before the first of them needs no
/// encoding and lets through a little more.
fn filters(rule_prefixes: &[String]) -> Vec<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    let plain: BTreeSet<&str> = rule_prefixes
        .iter()
        .map(|prefix| prefix.split_once(|c| !is_plain(c)).map_or(prefix.as_str(), |(start, _)| start))
        .collect();
    let outermost: Vec<String> = plain
        .iter()
        .filter(|prefix| !plain.iter().any(|other| other != *prefix && prefix.starts_with(other)))
        .map(|prefix| (*prefix).to_owned())
        .collect();
    if outermost.is_empty() || outermost.len() > MOST_FILTERS { vec![String::new()] } else { outermost }
}

/// The configuration of others that hears of the same event of the same key, and how: S3 refuses such a pair.
pub(super) fn clash<'o>(
    wanted: &Notification,
    others: &'o BTreeMap<String, Notification>,
) -> Option<(&'o str, String)> {
    let nested = |one: &str, other: &str| one.starts_with(other) || other.starts_with(one);
    let ends_alike = |one: &str, other: &str| one.ends_with(other) || other.ends_with(one);
    others.iter().find_map(|(id, there)| {
        let same_keys = nested(&there.prefix, &wanted.prefix) && ends_alike(&there.suffix, &wanted.suffix);
        let group = |event: &str| event.trim_end_matches('*').to_owned();
        let shared =
            there.events.iter().find(|heard| wanted.events.iter().any(|event| nested(&group(heard), &group(event))));
        let shared = shared.filter(|_| same_keys)?;
        Some((id.as_str(), format!("sends {shared} to {}", there.destination)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filters_of(prefixes: &[&str]) -> Vec<String> {
        filters(&prefixes.iter().map(|prefix| (*prefix).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn filters_narrow_only_where_rules_are_apart() {
        assert_eq!(filters_of(&["a/", "b/"]), ["a/", "b/"]);
        assert_eq!(filters_of(&["a/", "a/b/", "c/"]), ["a/", "c/"]);
        assert_eq!(filters_of(&["a/", ""]), [""]);
        assert_eq!(filters_of(&[]), [""]);
        assert_eq!(filters_of(&["with space/", "wide/"]), ["wide/", "with"]);
        assert_eq!(filters_of(&["grün/", "gr"]), ["gr"]);
        assert_eq!(filters_of(&["+/"]), [""]);
    }

    proptest! {
        #[test]
        fn filters_hold_every_rule_and_never_overlap(prefixes in prop::collection::vec("[ab/+ é]{0,6}", 0..14)) {
            let found = filters(&prefixes);
            for prefix in &prefixes {
                prop_assert!(found.iter().any(|filter| prefix.starts_with(filter)), "{prefix:?} {found:?}");
            }
            for (nth, one) in found.iter().enumerate() {
                for other in &found[nth + 1..] {
                    prop_assert!(!one.starts_with(other) && !other.starts_with(one), "{found:?}");
                }
            }
        }
    }

    fn there(events: &[&str], prefix: &str, suffix: &str) -> Notification {
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        Notification { destination: "arn:x".to_owned(), events, prefix: prefix.to_owned(), suffix: suffix.to_owned() }
    }

    #[test]
    fn a_queue_that_s3_cannot_reach_is_told() {
        let told = |region: &str, name: &str| {
            let mut settings = super::super::tests::settings("repl");
            settings.queue_region = region.to_owned();
            let mut queue = settings.queue.clone().unwrap();
            queue.url = format!("https://sqs.{region}.amazonaws.com/111122223333/{name}");
            settings.queue = Some(queue);
            let wishes = wishes(&settings, &Accounts::default(), &Held::Absent);
            wishes.into_iter().find_map(|wish| match wish.want {
                Want::Impossible(reason) => Some(reason),
                _ => None,
            })
        };
        assert_eq!(told("us-east-1", "events"), None);
        assert!(told("us-east-1", "events.fifo").unwrap().contains("FIFO"));
        assert!(told("eu-west-2", "events").unwrap().contains("region us-east-1"));
    }

    #[test]
    fn a_clash_needs_the_same_event_of_the_same_key() {
        let ours = there(&["s3:ObjectCreated:*", "s3:ObjectTagging:*"], "a/", "");
        let seen = |events: &[&str], prefix: &str, suffix: &str| {
            clash(&ours, &BTreeMap::from([("other".to_owned(), there(events, prefix, suffix))])).is_some()
        };
        assert!(seen(&["s3:ObjectCreated:Put"], "", ""));
        assert!(seen(&["s3:ObjectCreated:*"], "a/b", ".jpg"));
        assert!(!seen(&["s3:ObjectCreated:*"], "b/", ""));
        assert!(!seen(&["s3:ObjectRemoved:*"], "a/", ""));
    }

    #[test]
    fn name_and_account_come_from_the_url() {
        let queue = |url: &str| QueueSettings { url: url.to_owned(), kms_key: None, max_receives: 5 };
        let amazon = queue("https://sqs.us-east-1.amazonaws.com/111122223333/repl-events/");
        assert_eq!((amazon.name(), amazon.account()), ("repl-events", Some("111122223333")));
        assert_eq!(amazon.dead_letter_url(), "https://sqs.us-east-1.amazonaws.com/111122223333/repl-events-dlq");
        let other = queue("http://localhost:9324/queue/events");
        assert_eq!((other.name(), other.account()), ("events", None));
    }
}
