//! The queue: whether it is there, whether S3 may send to it, and whether an event really arrives.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use bytes::Bytes;

use super::Probes;
use super::finding::{Check, Finding, Outcome};
use super::side::Bucket;
use super::target::CONTENT;
use crate::aws::setup::Accounts;
use crate::aws::sqs::{Receipt, SqsQueue};
use crate::cli::fix::{Place, credentials, grant, statement};
use crate::cli::socket;
use crate::config::Queue;
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{Attributes, Key, Tags};
use crate::ports::setup::{Document, Estate, Held, Kind, Notifications, Place as Where, Queue as QueueFacts, Resource};
use crate::ports::{ChangeQueue, Condition, Content, Delivery, NewObject, ObjectStore, Payload, Sealing, World};

const SIDE: &str = "queue";
/// How long one look for the event waits.
const LOOK: Duration = Duration::from_secs(2);
/// Beyond the wait for the event, for the calls around it.
const AROUND: Duration = Duration::from_secs(30);

/// What is known of the queue before an event is waited for.
#[derive(Debug, Default)]
pub(super) struct Facts {
    queue: Option<QueueFacts>,
    notifications: Option<Notifications>,
}

impl Probes<'_> {
    /// All rows of the queue.
    pub(super) async fn queue(&self, source: &Bucket<'_>) -> Vec<Check> {
        let Some(queue) = &self.config.queue else {
            let why = "there is no [queue] in the config: only `repl run` needs one";
            return vec![Check::at_once("queue", SIDE, Finding::skipped(why))];
        };
        let estate = match self.estate(queue).await {
            Ok(estate) => estate,
            Err(fault) => return vec![Check::at_once("queue", SIDE, no_queue(queue, &fault))],
        };
        let mut facts = Facts::default();
        let readable = Check::of("queue", SIDE, readable(&estate, queue, &mut facts)).await;
        let lost = readable.failed();
        let mut rows = vec![readable];
        if lost {
            return rows;
        }
        let noted = self.notifications(&estate, source, &mut facts);
        rows.push(Check::of("queue-notification", "source", noted).await);
        let arrival =
            Check::within(self.wait + AROUND, "notification", SIDE, self.arrival(queue, source, &facts)).await;
        let arrived = arrival.finding.outcome == Outcome::Pass;
        rows.push(Check::at_once("queue-policy", SIDE, self.policy(queue, &facts, arrived)));
        rows.push(arrival);
        rows.push(Check::of("dead-letters", SIDE, self.dead_letters(queue, &facts)).await);
        rows
    }

    /// What the queue has given up: each message may be the only word of a change.
    async fn dead_letters(&self, queue: &Queue, facts: &Facts) -> Finding {
        let Some(messages) = self.world.queue() else { return Finding::skipped("there is no queue") };
        let redrive = facts.queue.as_ref().and_then(|there| there.redrive.as_ref());
        let arn = redrive.map_or("", |redrive| redrive.dead_letter.as_str());
        match messages.dead_letters().await {
            Ok(None) => Finding::pass("the queue gives no message up, but hands it out until it expires"),
            Ok(Some(0)) => Finding::pass(format!("{arn} is empty")),
            Ok(Some(count)) => Finding::fail(
                format!(
                    "the queue has given {count} messages up into {arn}: changes in them may be missing at the target"
                ),
                format!(
                    "aws sqs start-message-move-task --source-arn {arn}   (gives them back to the queue; or run `repl \
                     sync --full`, which finds what is missing, and purge them)"
                ),
            ),
            Err(fault) if fault.kind == FaultKind::Denied && credentials(&fault, "[queue]").is_none() => Finding::fail(
                format!("what the queue has given up is not known: {fault}"),
                grant(&statement(&["sqs:GetQueueAttributes"], arn), "the dead-letter queue's policy"),
            ),
            Err(fault) => no_queue(queue, &fault),
        }
    }

    async fn estate(&self, queue: &Queue) -> Result<Accounts, Fault> {
        let mut estate = Accounts::of(&*self.config.escalation.prefix);
        let sdk = crate::aws::HotPath::Sdk;
        let place = crate::cli::world::endpoint(&queue.connection, crate::model::fault::Side::Queue, sdk);
        estate.add_queues(&self.clients.sdk_config(&place).await?, &place);
        let source = &self.config.source.connection;
        let place = crate::cli::world::endpoint(source, crate::model::fault::Side::Source, sdk);
        estate.add_bucket(Where::Source, &self.clients.sdk_config(&place).await?, &place);
        Ok(estate)
    }

    /// What the source bucket itself says about its events: advice only, as events may come by SNS or EventBridge.
    async fn notifications(&self, estate: &Accounts, source: &Bucket<'_>, facts: &mut Facts) -> Finding {
        let place = source.place;
        let resource = Resource::new(Kind::Notification, Where::Source, place.bucket);
        match estate.read(&resource).await {
            Ok(Held::Present(Document::Notification(all))) => {
                let arn = facts.queue.as_ref().map(|queue| queue.arn.clone()).unwrap_or_default();
                let count = all.configurations.values().filter(|one| one.destination == arn).count();
                let others = all.configurations.len().saturating_sub(count);
                facts.notifications = Some(all);
                Finding::pass(format!("{count} of the bucket's notifications go to this queue, {others} elsewhere"))
            }
            Ok(_) => {
                facts.notifications = Some(Notifications::default());
                Finding::pass("the bucket has no notifications")
            }
            Err(fault) => Finding::skipped(format!("the bucket's notifications may not be read: {fault}")),
        }
    }

    /// Writes an object at the source and waits for its event.
    async fn arrival(&self, queue: &Queue, source: &Bucket<'_>, facts: &Facts) -> Finding {
        let Some(messages) = self.world.queue() else { return Finding::skipped("there is no queue") };
        if self.read_only {
            return Finding::skipped("it writes one object to the source, and --read-only was given");
        }
        let place = source.place;
        let key = self.key("event");
        let object = NewObject {
            key: key.clone(),
            attributes: Attributes::default(),
            tags: Tags::new(),
            sealing: Sealing::BucketDefault,
            owner_full_control: false,
        };
        let payload = Payload::Whole(Bytes::from_static(CONTENT));
        self.note_writing(source, &key);
        if let Err(fault) = source.store.put(&object, payload, None, &Condition::Any).await {
            let finding = place.failed(&fault, &["s3:PutObject", "s3:DeleteObjectVersion"], &place.own());
            if self.config.canary.is_some() {
                return finding;
            }
            return match receiving(messages).await {
                Ok(()) => finding.dispensable("so no event could be waited for; the queue can be received from"),
                Err(fault) => not_received(queue, facts, &fault),
            };
        }
        match self.await_event(messages, &key).await {
            Ok(Some(reason)) => Finding::pass(reason),
            Ok(None) => self.silent(queue, source, facts),
            Err(fault) => not_received(queue, facts, &fault),
        }
    }

    /// How the event was seen; `None` where it did not come in time.
    async fn await_event(&self, messages: &SqsQueue, key: &Key) -> Result<Option<String>, Fault> {
        let began = Instant::now();
        let mut guests = Guests::default();
        let outcome = loop {
            let seconds = began.elapsed().as_secs_f64();
            if self.worker_knows(key).await {
                break Ok(Some(format!("the running worker received the event of a new object within {seconds:.1} s")));
            }
            match messages.receive(LOOK).await {
                Ok(deliveries) => match guests.look(messages, deliveries, key).await {
                    Ok(true) => break Ok(Some(format!("the event of a new object came after {seconds:.1} s"))),
                    Ok(false) => {}
                    Err(fault) => break Err(fault),
                },
                Err(fault) => break Err(fault),
            }
            if began.elapsed() >= self.wait {
                break Ok(None);
            }
        };
        guests.let_go(messages).await;
        outcome
    }

    /// Whether a worker on this ledger has taken the event in.
    async fn worker_knows(&self, key: &Key) -> bool {
        let question = json!({"ask": "why", "key": key.as_str(), "version": null});
        let answer = socket::ask(&self.config.ledger.path, &question).await.ok().flatten();
        let events = answer.as_ref().and_then(|answer| answer.get("events")).and_then(Value::as_array);
        events.is_some_and(|events| !events.is_empty())
    }

    /// Why no event came, as far as it can be told.
    fn silent(&self, queue: &Queue, source: &Bucket<'_>, facts: &Facts) -> Finding {
        let bucket = source.place.bucket;
        let seconds = self.wait.as_secs();
        let arn = facts.queue.as_ref().map_or("", |queue| queue.arn.as_str());
        let told = facts.notifications.as_ref().map(|all| {
            let mut ours = all.configurations.values().filter(|one| one.destination == arn);
            ours.next().is_some()
        });
        let why = match told {
            Some(false) => format!("bucket {bucket:?} has no notification that goes to {}", queue.url),
            Some(true) => format!(
                "bucket {bucket:?} has a notification that goes to {}, but its filter or the queue's policy keeps this \
                 event out, or another worker took it",
                queue.url
            ),
            None => "what the bucket notifies of may not be read".to_owned(),
        };
        Finding::fail(
            format!("no event of a new object came within {seconds} s: {why}"),
            "repl apply notifications   (shows what it would change with --dry-run)",
        )
    }

    /// Whether S3 may send to the queue. An event that came is the better proof.
    fn policy(&self, queue: &Queue, facts: &Facts, arrived: bool) -> Finding {
        let Some(there) = &facts.queue else { return Finding::skipped("the queue's policy could not be read") };
        let source = &self.config.source;
        let partition = source.connection.partition();
        let account = source.connection.expected_bucket_owner.as_deref();
        let account = account.or_else(|| there.arn.split(':').nth(4)).unwrap_or("ACCOUNT");
        let wanted = json!({
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": there.arn,
            "Condition": {
                "ArnLike": {"aws:SourceArn": format!("arn:{partition}:s3:*:*:{}", source.bucket)},
                "StringEquals": {"aws:SourceAccount": account},
            },
        });
        let fix = format!("put into the policy of the queue, or have `repl apply notifications` do it: {wanted}");
        match judge_policy(&there.policy, &source.bucket) {
            Verdict::Right => Finding::pass("S3 may send for this bucket of this account only"),
            Verdict::Relayed(service) => Finding::pass(format!("{service} may send to it")),
            Verdict::Open => Finding::pass(
                "S3 may send, but the statement names no aws:SourceAccount: a bucket of this name in a stranger's \
                 account could send too, should this one ever be deleted",
            )
            .with_fix(fix),
            Verdict::Closed if arrived => {
                Finding::pass("no statement lets S3 send, and the event came all the same: the store asks for none")
            }
            Verdict::Closed if queue.connection.endpoint.is_some() => {
                Finding::skipped("no statement lets S3 send to the queue; whether this store asks for one is not known")
                    .with_fix(fix)
            }
            Verdict::Closed => Finding::fail(
                format!("the policy of {} does not let S3 send events of {}", queue.url, source.bucket),
                fix,
            ),
        }
    }
}

/// Messages of others that were received in passing. Each is made visible again at once; one that comes a second time
/// is held until the end, so that no look drives it towards the dead-letter queue.
#[derive(Default)]
struct Guests {
    seen: BTreeSet<String>,
    held: Vec<Receipt>,
}

impl Guests {
    /// Whether our event is among them; it alone is deleted.
    async fn look(&mut self, messages: &SqsQueue, came: Vec<Delivery<Receipt>>, key: &Key) -> Result<bool, Fault> {
        let (mut found, mut again) = (Vec::new(), Vec::new());
        for delivery in came {
            if is_only(&delivery.content, key) {
                found.push(delivery.receipt);
            } else if self.seen.insert(delivery.id) {
                again.push(delivery.receipt);
            } else {
                self.held.push(delivery.receipt);
            }
        }
        if !again.is_empty() {
            messages.extend(again, Duration::ZERO).await?;
        }
        let ours = !found.is_empty();
        if ours {
            messages.acknowledge(found).await?;
        }
        Ok(ours)
    }

    async fn let_go(self, messages: &SqsQueue) {
        if !self.held.is_empty() {
            // They come again by themselves when their visibility ends.
            messages.extend(self.held, Duration::ZERO).await.ok();
        }
    }
}

/// Whether a message tells of this key and of nothing else.
fn is_only(content: &Content, key: &Key) -> bool {
    match content {
        Content::Changes { changes, ignored, unreadable } => {
            let ours = changes.iter().filter(|change| change.key == *key).count()
                + ignored.iter().filter(|record| record.key.as_ref() == Some(key)).count();
            ours > 0 && ours == changes.len() + ignored.len() && unreadable.is_empty()
        }
        Content::Unreadable(_) => false,
    }
}

/// Receives once, and gives back what came.
async fn receiving(messages: &SqsQueue) -> Result<(), Fault> {
    let came = messages.receive(Duration::ZERO).await?;
    let receipts: Vec<Receipt> = came.into_iter().map(|delivery| delivery.receipt).collect();
    if receipts.is_empty() { Ok(()) } else { messages.extend(receipts, Duration::ZERO).await.map(drop) }
}

async fn readable(estate: &Accounts, queue: &Queue, facts: &mut Facts) -> Finding {
    match estate.read(&Resource::new(Kind::Queue, Where::Queue, &*queue.url)).await {
        Ok(Held::Present(Document::Queue(there))) => {
            let waiting = there.messages.map_or_else(|| "an unknown number of".to_owned(), |count| count.to_string());
            let dead = if there.redrive.is_some() { "" } else { "; it has no dead-letter queue" };
            let finding = Finding::pass(format!("readable, {waiting} messages in it{dead}"));
            facts.queue = Some(there);
            finding
        }
        Ok(_) => gone(queue),
        Err(fault) => no_queue(queue, &fault),
    }
}

fn gone(queue: &Queue) -> Finding {
    Finding::fail(
        format!("there is no queue {}", queue.url),
        "repl apply notifications makes it; or correct url or region under [queue] in the config",
    )
}

fn arn_of(queue: &Queue) -> String {
    let mut parts = queue.url.trim_end_matches('/').rsplit('/');
    let (name, account) = (parts.next().unwrap_or("QUEUE"), parts.next().unwrap_or("ACCOUNT"));
    format!("arn:{}:sqs:{}:{account}:{name}", queue.connection.partition(), queue.connection.region)
}

fn no_queue(queue: &Queue, fault: &Fault) -> Finding {
    if let Some(fix) = credentials(fault, "[queue]") {
        return Finding::fail(fault.to_string(), fix);
    }
    let place = Place { section: "[queue]", bucket: "", connection: &queue.connection };
    if fault.kind == FaultKind::Denied {
        let fix = grant(&statement(&["sqs:GetQueueAttributes"], &arn_of(queue)), "the queue's policy");
        return Finding::fail(fault.to_string(), fix);
    }
    place.failed(fault, &["sqs:GetQueueAttributes"], &arn_of(queue))
}

fn not_received(queue: &Queue, facts: &Facts, fault: &Fault) -> Finding {
    let arn = facts.queue.as_ref().map_or_else(|| arn_of(queue), |there| there.arn.clone());
    let actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"];
    let is_gone = |code: &str| code.contains("QueueDoesNotExist") || code.contains("NonExistent");
    if fault.code.as_deref().is_some_and(is_gone) {
        return gone(queue);
    }
    if fault.kind == FaultKind::Denied && credentials(fault, "[queue]").is_none() {
        return Finding::fail(fault.to_string(), grant(&statement(&actions, &arn), "the queue's policy"));
    }
    no_queue(queue, fault)
}

/// What a queue's policy lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// S3, bound to the bucket and its account.
    Right,
    /// S3, but not bound to an account.
    Open,
    /// A service that may relay S3's events.
    Relayed(&'static str),
    /// Nobody that we know to bring events.
    Closed,
}

fn judge_policy(policy: &Value, bucket: &str) -> Verdict {
    let statements = match policy.get("Statement") {
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    let mut verdict = Verdict::Closed;
    for statement in statements.iter().filter(|one| one.get("Effect").and_then(Value::as_str) == Some("Allow")) {
        if !sends(statement) {
            continue;
        }
        let text = statement.get("Principal").map(Value::to_string).unwrap_or_default();
        if text.contains("s3.amazonaws.com") || text == "\"*\"" || text.contains("\"*\"") {
            match conditions(statement, bucket) {
                (true, true) => return Verdict::Right,
                (true, false) => verdict = Verdict::Open,
                (false, _) => {}
            }
        } else if verdict == Verdict::Closed && text.contains("sns.amazonaws.com") {
            verdict = Verdict::Relayed("SNS");
        } else if verdict == Verdict::Closed && text.contains("events.amazonaws.com") {
            verdict = Verdict::Relayed("EventBridge");
        }
    }
    verdict
}

fn sends(statement: &Value) -> bool {
    let actions = match statement.get("Action") {
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    let mut actions = actions.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase);
    actions.any(|action| ["*", "sqs:*", "sqs:send*", "sqs:sendmessage"].contains(&action.as_str()))
}

/// Whether the conditions admit this bucket, and whether they bind it to an account.
fn conditions(statement: &Value, bucket: &str) -> (bool, bool) {
    let (mut admits, mut bound) = (true, false);
    let operators = statement.get("Condition").and_then(Value::as_object);
    for (name, value) in operators.into_iter().flatten().filter_map(|(_, keys)| keys.as_object()).flatten() {
        let text = value.to_string();
        match name.to_ascii_lowercase().as_str() {
            "aws:sourcearn" => {
                let ends = |pattern: &str| text.contains(&format!(":{pattern}\""));
                admits = ends(bucket) || ends("*") || text == "\"*\"";
            }
            "aws:sourceaccount" => bound = true,
            _ => {}
        }
    }
    (admits, bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(condition: &Value, principal: &Value) -> Value {
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal,
            "Action": "SQS:SendMessage", "Resource": "arn:q", "Condition": condition}]})
    }

    #[test]
    fn a_policy_is_right_only_with_bucket_and_account() {
        let s3 = json!({"Service": "s3.amazonaws.com"});
        let arn = json!({"ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:acme"}});
        let both =
            json!({"ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:acme"}, "StringEquals": {"aws:SourceAccount": "1"}});
        assert_eq!(judge_policy(&policy(&both, &s3), "acme"), Verdict::Right);
        assert_eq!(judge_policy(&policy(&arn, &s3), "acme"), Verdict::Open);
        assert_eq!(judge_policy(&policy(&both, &s3), "cme"), Verdict::Closed, "another bucket");
        assert_eq!(judge_policy(&policy(&both, &s3), "acme2"), Verdict::Closed, "another bucket");
        assert_eq!(judge_policy(&Value::Null, "acme"), Verdict::Closed);
        let sns = json!({"Service": "sns.amazonaws.com"});
        assert_eq!(judge_policy(&policy(&json!({}), &sns), "acme"), Verdict::Relayed("SNS"));
        let other = json!({"AWS": "arn:aws:iam::1:root"});
        assert_eq!(judge_policy(&policy(&json!({}), &other), "acme"), Verdict::Closed);
    }
}
