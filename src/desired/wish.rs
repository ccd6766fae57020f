//! One wish against what is there: what is to become of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::notifications::clash;
use crate::model::policy;
use crate::ports::setup::{
    Alarm, Confirmation, Document, EventRule, Held, Lifecycle, LifecycleRule, Notification, Notifications, Queue,
    QueueEncryption, Redrive, Resource, Role, Topic,
};

/// One thing that is to be so.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// Which.
    pub(super) resource: Resource,
    /// How.
    pub(super) want: Want,
    /// What has to be there before; where that failed, this is not tried.
    pub(super) needs: Vec<Resource>,
    /// What it is of little use without; where that failed, this is said.
    pub(super) serves: Vec<Resource>,
    /// What is to be said with a change.
    pub(super) notes: Vec<String>,
}

impl Wish {
    pub(super) fn new(resource: Resource, want: Want) -> Self {
        Self { resource, want, needs: Vec::new(), serves: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn needs(mut self, resources: impl IntoIterator<Item = Resource>) -> Self {
        self.needs.extend(resources);
        self
    }

    pub(super) fn serves(mut self, resources: impl IntoIterator<Item = Resource>) -> Self {
        self.serves.extend(resources);
        self
    }

    pub(super) fn noting(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// How a thing is to be.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// Exactly so, for things that are ours alone.
    Exact(Document),
    /// A queue of which we ask only this.
    Queue(QueueWish),
    /// A topic of which we ask only this.
    Topic(TopicWish),
    /// These event notifications besides those of others.
    Notifications(NotificationWish),
    /// These lifecycle rules besides those of others; `known` are all ids that are ours.
    Lifecycle { rules: BTreeMap<String, LifecycleRule>, known: BTreeSet<String>, prefix: String },
    /// Only looked at: versioning is never switched on silently.
    Versions,
    /// Not there, where the set-up of this prefix made it, as far as a service tells that; else its policy without the
    /// statement of that Sid.
    Gone { made_by: Option<String>, sid: String },
    /// Cannot be had here: why.
    Unavailable(String),
    /// Cannot be done as it stands: why.
    Impossible(String),
}

/// What is asked of a queue.
#[derive(Clone, Debug)]
pub(super) struct QueueWish {
    pub(super) arn: String,
    /// A customer's key; `None` for any encryption at all.
    pub(super) key: Option<String>,
    /// At least so long, in seconds, also where it is there already; `None` for as it is, and SQS's longest where it is new.
    pub(super) retention: Option<u32>,
    pub(super) redrive: Option<Redrive>,
    pub(super) statement: Option<Value>,
    pub(super) prefix: String,
}

/// What is asked of a topic.
#[derive(Clone, Debug)]
pub(super) struct TopicWish {
    pub(super) key: Option<String>,
    pub(super) statement: Value,
    pub(super) emails: Vec<String>,
    pub(super) prefix: String,
}

/// What is asked of a bucket's notifications.
#[derive(Clone, Debug)]
pub(super) struct NotificationWish {
    /// By id; without those events that a store may not know.
    pub(super) configurations: BTreeMap<String, Notification>,
    /// Asked for where the store knows them, and not missed where it does not.
    pub(super) optional: Vec<String>,
    /// The id of ours; with `-2` and so on where there are several.
    pub(super) id: String,
}

/// What follows from a wish and what is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    /// Our part of what is there.
    pub(super) before: Option<Document>,
    /// Our part as it will be.
    pub(super) after: Option<Document>,
    /// Whether it cannot be had: skipped, or failed.
    pub(super) obstacle: Option<Obstacle>,
    /// What is to be said.
    pub(super) notes: Vec<String>,
}

/// Why nothing is done although it is wished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The store has no such thing.
    Skip(String),
    /// Something stands in the way that a person must move.
    Fail(String),
}

/// SQS's longest, fourteen days (aws-semantics 7.2): so long may a worker be away. A dead letter keeps the time at which
/// it was first sent: one that was given up on its last day is kept for a day more, and no queue could keep it longer.
pub(super) const LONGEST_RETENTION: u32 = 14 * 24 * 60 * 60;
/// The keys of AWS's own that no policy can open to other services (aws-semantics 1.8 and 7.3).
const CLOSED_KEYS: [&str; 2] = ["alias/aws/sqs", "alias/aws/sns"];

/// What is to be done about a wish.
pub(super) fn judge(wish: &Wish, held: &Held) -> Judged {
    let mut judged = match held {
        Held::Unsupported(reason) => Judged::without(Obstacle::Skip(reason.clone())),
        Held::Absent => compared(&wish.want, None),
        Held::Present(document) => compared(&wish.want, Some(document)),
    };
    // What goes with a change is not repeated for what is already so.
    if judged.before != judged.after {
        judged.notes.extend(wish.notes.iter().cloned());
    }
    judged
}

impl Judged {
    fn of(before: Option<Document>, after: Option<Document>) -> Self {
        Self { before, after, obstacle: None, notes: Vec::new() }
    }

    fn same(document: Document) -> Self {
        Self::of(Some(document.clone()), Some(document))
    }

    /// It could not be read.
    pub(super) fn failed(reason: String) -> Self {
        Self::without(Obstacle::Fail(reason))
    }

    fn without(obstacle: Obstacle) -> Self {
        Self { before: None, after: None, obstacle: Some(obstacle), notes: Vec::new() }
    }

    fn noting(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }
}

fn compared(want: &Want, held: Option<&Document>) -> Judged {
    match want {
        Want::Exact(document) => exact(document, held),
        Want::Queue(wish) => queue(wish, held),
        Want::Topic(wish) => topic(wish, held),
        Want::Notifications(wish) => notifications(wish, held),
        Want::Lifecycle { rules, known, prefix } => lifecycle(rules, known, prefix, held),
        Want::Versions => versions(held),
        Want::Gone { made_by, sid } => gone(made_by.as_deref(), sid, held),
        Want::Unavailable(reason) => Judged::without(Obstacle::Skip(reason.clone())),
        Want::Impossible(reason) => Judged::without(Obstacle::Fail(reason.clone())),
    }
}

fn exact(wanted: &Document, held: Option<&Document>) -> Judged {
    let before = held.cloned();
    let after = match (wanted, held) {
        (Document::Alarm(wanted), Some(Document::Alarm(held))) => Document::Alarm(untold(wanted, held)),
        (Document::EventRule(wanted), Some(Document::EventRule(held))) => Document::EventRule(beside(wanted, held)),
        (Document::Role(wanted), Some(Document::Role(held))) => {
            if held.made_by != wanted.made_by {
                let reason = "a role of that name is there that this set-up did not make: give another \
                              escalation.prefix, or name a role as escalation.forwarding_role_arn";
                return Judged { before, ..Judged::without(Obstacle::Fail(reason.to_owned())) };
            }
            Document::Role(respelt(wanted, held))
        }
        _ => wanted.clone(),
    };
    Judged::of(before, Some(after))
}

/// What the service does not tell of an alarm cannot be compared.
fn untold(wanted: &Alarm, held: &Alarm) -> Alarm {
    let measure = if held.measure.is_none() { None } else { wanted.measure.clone() };
    if (Alarm { measure: measure.clone(), ..wanted.clone() }) == *held { held.clone() } else { wanted.clone() }
}

/// Other targets of the rule stay.
fn beside(wanted: &EventRule, held: &EventRule) -> EventRule {
    let mut targets = held.targets.clone();
    targets.extend(wanted.targets.clone());
    EventRule { targets, ..wanted.clone() }
}

fn respelt(wanted: &Role, held: &Role) -> Role {
    let kept = |wanted: &Value, held: &Value| if policy::same(wanted, held) { held.clone() } else { wanted.clone() };
    Role {
        trust: kept(&wanted.trust, &held.trust),
        policy: kept(&wanted.policy, &held.policy),
        made_by: wanted.made_by.clone(),
    }
}

fn queue(wish: &QueueWish, held: Option<&Document>) -> Judged {
    let Some(Document::Queue(held)) = held else {
        let new = Queue {
            arn: wish.arn.clone(),
            encryption: wish.key.clone().map_or(QueueEncryption::Managed, QueueEncryption::Key),
            retention_seconds: wish.retention.unwrap_or(LONGEST_RETENTION),
            redrive: wish.redrive.clone(),
            policy: wish.statement.as_ref().map_or(Value::Null, |ours| policy::with_statement(&Value::Null, ours)),
            made_by: Some(wish.prefix.clone()),
            messages: None,
        };
        return Judged::of(None, Some(Document::Queue(new)));
    };
    let mut after = held.clone();
    let mut notes = Vec::new();
    match (&wish.key, &held.encryption) {
        (Some(key), QueueEncryption::Key(there)) if same_key(key, there) => {}
        (Some(key), _) => after.encryption = QueueEncryption::Key(key.clone()),
        (None, QueueEncryption::None) => after.encryption = QueueEncryption::Managed,
        (None, QueueEncryption::Key(key)) if CLOSED_KEYS.contains(&key.as_str()) => notes.push(format!(
            "it is encrypted under {key}, which S3 cannot be allowed to use: events will not arrive; name a key of your \
             own as queue.kms_key, or set the queue to SSE-SQS"
        )),
        (None, QueueEncryption::Managed | QueueEncryption::Key(_)) => {}
    }
    if let Some(least) = wish.retention {
        after.retention_seconds = held.retention_seconds.max(least);
    }
    match (&wish.redrive, &held.redrive) {
        (Some(wanted), Some(there)) if there.dead_letter != wanted.dead_letter => {
            notes.push(format!("messages that cannot be read go to {} already: that stays", there.dead_letter));
        }
        (Some(wanted), _) => after.redrive = Some(wanted.clone()),
        (None, _) => {}
    }
    if let Some(ours) = &wish.statement {
        after.policy = policy::with_statement(&held.policy, ours);
    }
    Judged::of(Some(Document::Queue(held.clone())), Some(Document::Queue(after))).noting(notes)
}

fn topic(wish: &TopicWish, held: Option<&Document>) -> Judged {
    let fresh;
    let (before, held) = match held {
        Some(Document::Topic(held)) => (Some(Document::Topic(held.clone())), held),
        Some(_) | None => {
            fresh = Topic {
                kms_key: wish.key.clone(),
                policy: Value::Null,
                made_by: Some(wish.prefix.clone()),
                ..Topic::default()
            };
            (None, &fresh)
        }
    };
    let mut after = held.clone();
    let mut notes = Vec::new();
    let ours = held.made_by.as_deref() == Some(&wish.prefix);
    match (&wish.key, &held.kms_key) {
        (Some(key), Some(there)) if same_key(key, there) => {}
        (Some(key), _) => after.kms_key = Some(key.clone()),
        (None, Some(_)) if ours => after.kms_key = None,
        (None, Some(key)) if CLOSED_KEYS.contains(&key.as_str()) => notes.push(format!(
            "it is encrypted under {key}, which CloudWatch cannot be allowed to use: alarms will not arrive; take the \
             encryption away or use a key of your own"
        )),
        (None, _) => {}
    }
    after.policy = policy::with_statement(&held.policy, &wish.statement);
    for email in &wish.emails {
        if !held.emails.keys().any(|there| there.eq_ignore_ascii_case(email)) {
            after.emails.insert(email.clone(), Confirmation::Pending);
        }
    }
    let pending: Vec<&str> =
        after.emails.iter().filter(|(_, state)| **state == Confirmation::Pending).map(|(email, _)| &**email).collect();
    if !pending.is_empty() {
        notes.push(format!("hears nothing until the link in the mail is opened: {}", pending.join(", ")));
    }
    if after.emails.is_empty() && !held.others_hear {
        notes.push("nobody is subscribed: name emails for this tier under [escalation], or subscribe to it".to_owned());
    }
    Judged::of(before, Some(Document::Topic(after))).noting(notes)
}

/// A key may be named by its ARN or by its id alone.
fn same_key(one: &str, other: &str) -> bool {
    let id = |key: &str| key.rsplit_once("key/").map_or_else(|| key.to_owned(), |(_, id)| id.to_owned());
    one == other || id(one) == id(other)
}

fn notifications(wish: &NotificationWish, held: Option<&Document>) -> Judged {
    let empty = Notifications::default();
    let all = match held {
        Some(Document::Notification(all)) => all,
        Some(_) | None => &empty,
    };
    let is_ours = |id: &str| is_numbered(id, &wish.id) || wish.configurations.contains_key(id);
    let (ours, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all.configurations.iter().map(|(id, there)| (id.clone(), there.clone())).partition(|(id, _)| is_ours(id));
    let own = |configurations| Document::Notification(Notifications { configurations });
    let before = (!ours.is_empty()).then(|| own(ours.clone()));
    let covers = |there: &Notification, wanted: &Notification, event: &str| {
        there.destination == wanted.destination
            && there.suffix.is_empty()
            && wanted.prefix.starts_with(&there.prefix)
            && there.events.iter().any(|heard| hears(heard, event))
    };
    // Event by event: CloudFormation makes a configuration of each.
    let by_others = |wanted: &Notification| {
        let sends = |event: &String| others.iter().find(|(_, there)| covers(there, wanted, event)).map(|(id, _)| &**id);
        wanted.events.iter().map(sends).collect::<Option<BTreeSet<&str>>>()
    };
    let mut after = BTreeMap::new();
    let mut notes = Vec::new();
    for (id, wanted) in &wish.configurations {
        if let Some(senders) = by_others(wanted) {
            let senders = senders.into_iter().collect::<Vec<_>>().join(", ");
            notes.push(format!("these events go to the queue already, by configuration {senders}: that stays"));
            continue;
        }
        if let Some((other, reason)) = clash(wanted, &others) {
            let reason = format!(
                "S3 allows an event of a key to go to one place only, and configuration {other} {reason}: take that out \
                 of it, or have the events go to a topic that feeds both queues"
            );
            return Judged { before, ..Judged::without(Obstacle::Fail(reason)) };
        }
        let there = ours.get(id).filter(|there| is_enough(there, wanted, &wish.optional));
        let mut full = wanted.clone();
        full.events.extend(wish.optional.clone());
        full.events.sort();
        after.insert(id.clone(), there.cloned().unwrap_or(full));
    }
    let after = (!after.is_empty()).then(|| own(after));
    Judged::of(before, after).noting(notes)
}

/// `id`, or `id` with a number behind it.
fn is_numbered(text: &str, id: &str) -> bool {
    text.strip_prefix(id).is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Whether an event type stands for another: `s3:ObjectCreated:*` for `s3:ObjectCreated:Put`.
fn hears(heard: &str, event: &str) -> bool {
    heard == event || heard.strip_suffix('*').is_some_and(|group| event.starts_with(group))
}

fn is_enough(there: &Notification, wanted: &Notification, optional: &[String]) -> bool {
    let events: BTreeSet<&String> = there.events.iter().filter(|event| !optional.contains(event)).collect();
    let same =
        (&there.destination, &there.prefix, &there.suffix) == (&wanted.destination, &wanted.prefix, &wanted.suffix);
    same && events == wanted.events.iter().collect()
}

fn lifecycle(
    rules: &BTreeMap<String, LifecycleRule>,
    known: &BTreeSet<String>,
    prefix: &str,
    held: Option<&Document>,
) -> Judged {
    let empty = Lifecycle::default();
    let all = match held {
        Some(Document::Lifecycle(all)) => all,
        Some(_) | None => &empty,
    };
    let ours: BTreeMap<_, _> =
        all.rules.iter().filter(|(id, _)| known.contains(*id)).map(|(id, rule)| (id.clone(), rule.clone())).collect();
    let dashed = format!("{prefix}-");
    let alike: Vec<&str> =
        all.rules.keys().filter(|id| id.starts_with(&dashed) && !known.contains(*id)).map(String::as_str).collect();
    let document = |rules: BTreeMap<_, _>| (!rules.is_empty()).then_some(Document::Lifecycle(Lifecycle { rules }));
    let note = (!alike.is_empty()).then(|| {
        format!("left as it is, since another set-up may have made it: {}; delete what is not needed", alike.join(", "))
    });
    Judged::of(document(ours), document(rules.clone())).noting(note)
}

fn versions(held: Option<&Document>) -> Judged {
    let Some(Document::Versioning(versioned)) = held else {
        return Judged::without(Obstacle::Skip("the store does not tell whether the bucket has versions".to_owned()));
    };
    let note = (versioned.state != "enabled").then(|| {
        format!(
            "versioning is {}: an overwritten or deleted object is lost there, and racing changes may coalesce; switch \
             it on with aws s3api put-bucket-versioning",
            versioned.state
        )
    });
    Judged::same(Document::Versioning(versioned.clone())).noting(note)
}

fn gone(prefix: Option<&str>, sid: &str, held: Option<&Document>) -> Judged {
    let Some(document) = held else { return Judged::of(None, None) };
    let before = Some(document.clone());
    let stays = |note: &str| Judged::same(document.clone()).noting([note.to_owned()]);
    let is_ours = |made_by: &Option<String>| made_by.is_some() && made_by.as_deref() == prefix;
    match document {
        Document::Queue(queue) if is_ours(&queue.made_by) => match queue.messages {
            Some(0) => Judged::of(before, None),
            Some(count) => stays(&format!("it holds {count} messages: it stays until they are read or purged")),
            None => stays("it does not tell whether it is empty: it stays"),
        },
        Document::Queue(queue) => {
            let policy = policy::without_statement(&queue.policy, sid);
            Judged::of(before, Some(Document::Queue(Queue { policy, ..queue.clone() })))
        }
        Document::Topic(topic) if is_ours(&topic.made_by) => Judged::of(before, None),
        Document::Topic(topic) => {
            let policy = policy::without_statement(&topic.policy, sid);
            Judged::of(before, Some(Document::Topic(Topic { policy, ..topic.clone() })))
        }
        Document::Role(role) if !is_ours(&role.made_by) => stays("this set-up did not make it: it stays"),
        Document::Role(_)
        | Document::Notification(_)
        | Document::Lifecycle(_)
        | Document::IntelligentTiering(_)
        | Document::RequestMetrics(_)
        | Document::Alarm(_)
        | Document::CompositeAlarm(_)
        | Document::EventRule(_)
        | Document::Dashboard(_) => Judged::of(before, None),
        Document::Versioning(_) => Judged::same(document.clone()),
    }
}

#[cfg(test)]
#[path = "wish/tests.rs"]
mod tests;
