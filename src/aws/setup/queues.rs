//! Queues with their policies and tags.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use super::{Endpoint, MADE_BY, Site, client, unless_absent};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::ports::setup::{Document, Held, Queue, QueueEncryption, Redrive};

/// Both spellings of "there is no such queue": of the JSON protocol and of the older one.
const NO_QUEUE: [&str; 2] = ["QueueDoesNotExist", "NonExistentQueue"];

/// The queues of one region.
pub(super) struct Queues {
    client: Client,
    side: Side,
    prefix: String,
}

type Attributes = HashMap<QueueAttributeName, String>;

impl Queues {
    pub(super) fn new(config: &SdkConfig, endpoint: &Endpoint, prefix: &str) -> Self {
        Self { client: client!(aws_sdk_sqs, config), side: endpoint.owner_side, prefix: prefix.to_owned() }
    }

    pub(super) async fn read(&self, url: &str) -> Result<Held, Fault> {
        let site = Site::new(self.side, "read the queue");
        let request = self.client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
        let answer = request.send().await.map_err(|error| site.explain(&error));
        let Some(answer) = unless_absent(answer, &NO_QUEUE)? else { return Ok(Held::Absent) };
        let attributes = answer.attributes.unwrap_or_default();
        // Without the right to read tags it is nobody's of ours, which is the careful answer.
        let tags = self.client.list_queue_tags().queue_url(url).send().await.ok().and_then(|answer| answer.tags);
        let made_by = tags.and_then(|mut tags| tags.remove(MADE_BY));
        read_attributes(&attributes, made_by, site).map(|queue| Held::Present(Document::Queue(queue)))
    }

    /// Makes the queue that the URL names; `account` is ours, and must be the URL's.
    pub(super) async fn create(&self, url: &str, wanted: &Queue, account: &str) -> Result<(), Fault> {
        let site = Site::new(self.side, "make the queue");
        let mut parts = url.rsplit('/');
        let name = parts.next().unwrap_or_default();
        let named = parts.next().filter(|part| part.len() == 12 && part.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(other) = named.filter(|named| *named != account) {
            let detail =
                format!("{url} is of account {other}, but the credentials are of {account}: use that account's");
            return Err(site.fault(FaultKind::Refused, detail));
        }
        let mut attributes = changed(&Queue::default(), wanted);
        attributes.insert(QueueAttributeName::MessageRetentionPeriod, wanted.retention_seconds.to_string());
        let request = self.client.create_queue().queue_name(name).set_attributes(Some(attributes));
        let request = request.tags(MADE_BY, &self.prefix);
        request.send().await.map(drop).map_err(|error| site.explain(&error))
    }

    pub(super) async fn change(&self, url: &str, before: &Queue, after: &Queue) -> Result<(), Fault> {
        let site = Site::new(self.side, "change the queue");
        let request = self.client.set_queue_attributes().queue_url(url);
        let request = request.set_attributes(Some(changed(before, after)));
        request.send().await.map(drop).map_err(|error| site.explain(&error))
    }

    pub(super) async fn delete(&self, url: &str) -> Result<(), Fault> {
        let site = Site::new(self.side, "delete the queue");
        let answer = self.client.delete_queue().queue_url(url).send().await.map_err(|error| site.explain(&error));
        unless_absent(answer, &NO_QUEUE).map(drop)
    }
}

/// The attributes that differ.
fn changed(before: &Queue, after: &Queue) -> Attributes {
    let mut attributes = Attributes::new();
    if before.encryption != after.encryption {
        match &after.encryption {
            QueueEncryption::Key(key) => attributes.insert(QueueAttributeName::KmsMasterKeyId, key.clone()),
            QueueEncryption::Managed => attributes.insert(QueueAttributeName::SqsManagedSseEnabled, "true".to_owned()),
            QueueEncryption::None => attributes.insert(QueueAttributeName::SqsManagedSseEnabled, "false".to_owned()),
        };
    }
    if before.retention_seconds != after.retention_seconds {
        attributes.insert(QueueAttributeName::MessageRetentionPeriod, after.retention_seconds.to_string());
    }
    if before.redrive != after.redrive {
        let text = after.redrive.as_ref().map_or_else(String::new, |redrive| {
            json!({"deadLetterTargetArn": redrive.dead_letter, "maxReceiveCount": redrive.max_receives}).to_string()
        });
        attributes.insert(QueueAttributeName::RedrivePolicy, text);
    }
    if before.policy != after.policy {
        let text = if after.policy.is_null() { String::new() } else { after.policy.to_string() };
        attributes.insert(QueueAttributeName::Policy, text);
    }
    attributes
}

fn read_attributes(attributes: &Attributes, made_by: Option<String>, site: Site) -> Result<Queue, Fault> {
    let text = |name: &QueueAttributeName| attributes.get(name).map_or("", String::as_str);
    let number = |name: &QueueAttributeName| text(name).parse::<u64>().ok();
    let encryption = match text(&QueueAttributeName::KmsMasterKeyId) {
        "" if text(&QueueAttributeName::SqsManagedSseEnabled) == "true" => QueueEncryption::Managed,
        "" => QueueEncryption::None,
        key => QueueEncryption::Key(key.to_owned()),
    };
    let redrive = super::json(text(&QueueAttributeName::RedrivePolicy), site)?;
    let redrive = redrive.get("deadLetterTargetArn").and_then(Value::as_str).map(|arn| Redrive {
        dead_letter: arn.to_owned(),
        // A number, or one in quotes: both are written in the wild.
        max_receives: redrive
            .get("maxReceiveCount")
            .and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok()))
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or_default(),
    });
    let waiting = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let messages = waiting.iter().map(number).try_fold(0_u64, |sum, count| Some(sum.saturating_add(count?)));
    Ok(Queue {
        arn: text(&QueueAttributeName::QueueArn).to_owned(),
        encryption,
        retention_seconds: number(&QueueAttributeName::MessageRetentionPeriod)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or_default(),
        redrive,
        policy: super::json(text(&QueueAttributeName::Policy), site)?,
        made_by,
        messages,
    })
}
