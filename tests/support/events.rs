//! Messages on the queue: taken off, put back in another order, and wrapped as other senders wrap them.

use std::cmp::Ordering;
use std::time::Duration;

use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::compare::list;
use super::pair::{Pair, event};
use super::worker::eventually;

/// SQS's limit for one batch call.
const BATCH: usize = 10;
/// Batch calls at once.
const AT_ONCE: usize = 8;

/// One message that tells of one change, as S3 sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) body: String,
    pub(crate) name: String,
    /// As the event spells it: form-encoded.
    pub(crate) key: String,
    pub(crate) version: Option<String>,
    sequencer: String,
}

impl Told {
    fn read(body: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(body).ok()?;
        let record = document.get("Records")?.get(0)?;
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            body: body.to_owned(),
            name: text("/eventName")?,
            key: text("/s3/object/key")?,
            version: text("/s3/object/versionId"),
            sequencer: text("/s3/object/sequencer").unwrap_or_default(),
        })
    }

    /// The message as a document, to be changed.
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn by_order_of_source(one: &Self, other: &Self) -> Ordering {
        (&one.key, &one.sequencer).cmp(&(&other.key, &other.sequencer))
    }
}

impl Pair {
    /// Takes every message off the queue: those of one key stand together, oldest change first. Test messages of S3
    /// are dropped.
    pub(crate) async fn take_events(&self) -> Vec<Told> {
        let mut taken = Vec::new();
        while self.queue_depth().await > 0 {
            let rounds = futures_util::stream::iter(0..AT_ONCE).map(|_| self.take_ten()).buffer_unordered(AT_ONCE);
            taken.extend(rounds.collect::<Vec<_>>().await.concat());
        }
        let mut told: Vec<Told> = taken.iter().filter_map(|body| Told::read(body)).collect();
        told.sort_by(Told::by_order_of_source);
        told
    }

    /// Waits until as many changes as that were told, then takes them.
    pub(crate) async fn take_all_events(&self, changes: usize) -> Vec<Told> {
        let mut told = Vec::new();
        eventually("all changes are told", Duration::from_secs(60), async || {
            told.extend(self.take_events().await);
            told.len() >= changes
        })
        .await;
        assert_eq!(told.len(), changes, "{told:#?}");
        told.sort_by(Told::by_order_of_source);
        told
    }

    async fn take_ten(&self) -> Vec<String> {
        let request = self.sqs.receive_message().queue_url(&self.queue_url).max_number_of_messages(10);
        let messages = request.send().await.unwrap().messages.unwrap_or_default();
        if messages.is_empty() {
            return Vec::new();
        }
        let entry = |(number, receipt): (usize, &str)| {
            DeleteMessageBatchRequestEntry::builder().id(number.to_string()).receipt_handle(receipt).build().unwrap()
        };
        let receipts = messages.iter().filter_map(|message| message.receipt_handle()).enumerate().map(entry);
        let request = self.sqs.delete_message_batch().queue_url(&self.queue_url).set_entries(Some(receipts.collect()));
        assert_eq!(request.send().await.unwrap().failed, []);
        messages.into_iter().filter_map(|message| message.body).collect()
    }

    /// Puts these messages on the queue, in this order.
    pub(crate) async fn post<'b>(&self, bodies: impl IntoIterator<Item = &'b str>) {
        let bodies: Vec<&str> = bodies.into_iter().collect();
        for ten in bodies.chunks(BATCH) {
            let entry = |(number, body): (usize, &&str)| {
                let entry = SendMessageBatchRequestEntry::builder();
                entry.id(number.to_string()).message_body(*body).build().unwrap()
            };
            let entries = ten.iter().enumerate().map(entry).collect();
            let request = self.sqs.send_message_batch().queue_url(&self.queue_url).set_entries(Some(entries));
            assert_eq!(request.send().await.unwrap().failed, []);
        }
    }

    /// Puts these events on the queue, in this order.
    pub(crate) async fn tell<'t>(&self, events: impl IntoIterator<Item = &'t Told>) {
        self.post(events.into_iter().map(|told| told.body.as_str())).await;
    }

    /// Tells of every version that the source has, oldest first: for sources that tell of nothing by themselves.
    pub(crate) async fn tell_of_all(&self) {
        let mut versions = list(&self.source).await;
        versions.reverse();
        let bodies: Vec<String> = versions
            .iter()
            .map(|version| {
                let name = if version.marker { "ObjectRemoved:DeleteMarkerCreated" } else { "ObjectCreated:Put" };
                event(&self.source, name, &version.key, Some(&version.id))
            })
            .collect();
        self.post(bodies.iter().map(String::as_str)).await;
    }
}

/// One message with the records of many.
pub(crate) fn in_one_message(events: &[Told]) -> String {
    let records: Vec<Value> = events.iter().map(|told| told.document()["Records"][0].clone()).collect();
    json!({ "Records": records }).to_string()
}

/// A message as SNS wraps it for a queue that did not ask for raw messages.
pub(crate) fn wrapped_by_sns(body: &str) -> String {
    json!({
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:us-east-1:000000000000:changes",
        "Subject": "Amazon S3 Notification",
        "Message": body,
        "Timestamp": "2026-11-21T12:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLEw6JRN",
        "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
        "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe"
    })
    .to_string()
}

/// The same change as EventBridge tells it: other names, and the key as it is.
pub(crate) fn by_event_bridge(told: &Told, key: &str) -> String {
    let record = &told.document()["Records"][0];
    let object = &record["s3"]["object"];
    let (name, more) = match told.name.as_str() {
        "ObjectRemoved:DeleteMarkerCreated" => {
            ("Object Deleted", json!({ "reason": "DeleteObject", "deletion-type": "Delete Marker Created" }))
        }
        _ => ("Object Created", json!({ "reason": "PutObject" })),
    };
    let mut detail = json!({
        "version": "0",
        "bucket": { "name": record["s3"]["bucket"]["name"] },
        "object": {
            "key": key,
            "size": object["size"],
            "etag": object["eTag"],
            "version-id": object["versionId"],
            "sequencer": object["sequencer"],
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
    });
    detail.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": name,
        "source": "aws.s3",
        "account": "111122223333",
        "time": record["eventTime"],
        "region": "us-east-1",
        "resources": [record["s3"]["bucket"]["arn"]],
        "detail": detail,
    })
    .to_string()
}

/// What S3 sends when a notification is set up.
pub(crate) fn test_event(bucket: &str) -> String {
    json!({
        "Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2014-10-13T15:57:02.089Z", "Bucket": bucket,
        "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE"
    })
    .to_string()
}
