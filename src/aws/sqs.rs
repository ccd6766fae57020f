//! One SQS queue of S3 events, as [`ChangeQueue`].

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageSystemAttributeName, QueueAttributeName,
};

use super::fault::Site;
use super::{Endpoint, UnansweredOnly, notification, patience, twice};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::Timestamp;
use crate::ports::{ChangeQueue, Delivery, QueueDepth};

/// SQS's limit for every batch call and for one receive (aws-semantics 7.2).
const BATCH: usize = 10;
/// The longest wait of a long poll.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// The longest visibility, counted from the receive; beyond it SQS answers with an error.
const LONGEST_VISIBILITY: Duration = Duration::from_secs(12 * 60 * 60);

/// One queue.
pub struct SqsQueue {
    client: Client,
    url: String,
    source_bucket: String,
    side: Side,
}

impl fmt::Debug for SqsQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqsQueue({})", self.url)
    }
}

/// What deletes one message: valid for the last receive of it only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Receipt(String);

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Long and meaningless to people; its end tells two of them apart.
        let from = self.0.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
        write!(f, "Receipt(…{})", self.0.get(from..).unwrap_or_default())
    }
}

impl SqsQueue {
    /// The queue at that URL, which tells of changes of that bucket. Nothing is sent yet.
    #[must_use]
    pub fn new(
        config: &SdkConfig,
        endpoint: &Endpoint,
        url: impl Into<String>,
        source_bucket: impl Into<String>,
    ) -> Self {
        let config = Builder::from(config)
            .retry_config(twice())
            .retry_classifier(UnansweredOnly)
            .timeout_config(patience(LONGEST_WAIT))
            .build();
        Self {
            client: Client::from_conf(config),
            url: url.into(),
            source_bucket: source_bucket.into(),
            side: endpoint.owner_side,
        }
    }

    fn site(&self, during: &'static str) -> Site {
        Site::new(self.side, during)
    }

    fn delivery(&self, message: Message) -> Option<Delivery<Receipt>> {
        let sent = message
            .attributes
            .as_ref()
            .and_then(|attributes| attributes.get(&MessageSystemAttributeName::SentTimestamp))
            .and_then(|millis| millis.parse().ok())
            .map(Timestamp)
            .unwrap_or_default();
        let body = message.body.unwrap_or_default();
        let content = notification::read(&body, &self.source_bucket, sent);
        let receipt = Receipt(message.receipt_handle?);
        Some(Delivery { receipt, id: message.message_id.unwrap_or_default(), body, content })
    }

    /// Attributes of a queue, by name.
    async fn attributes<const N: usize>(
        &self,
        url: &str,
        names: [QueueAttributeName; N],
        site: &Site,
    ) -> Result<HashMap<QueueAttributeName, String>, Fault> {
        let request = self.client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
        let output = request.send().await.map_err(|error| site.explain(&error))?;
        Ok(output.attributes.unwrap_or_default())
    }

    async fn delete_ten(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        let site = self.site("delete messages");
        let entries = receipts
            .iter()
            .enumerate()
            .map(|(index, receipt)| {
                DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(&receipt.0).build()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| site.fault(FaultKind::Refused, error.to_string()))?;
        let request = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries));
        let output = request.send().await.map_err(|error| site.explain(&error))?;
        Ok(refused(receipts, &output.failed))
    }

    async fn hide_ten(&self, receipts: &[Receipt], seconds: i32) -> Result<Vec<Receipt>, Fault> {
        let site = self.site("hide messages");
        let entries = receipts
            .iter()
            .enumerate()
            .map(|(index, receipt)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(&receipt.0)
                    .visibility_timeout(seconds)
                    .build()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| site.fault(FaultKind::Refused, error.to_string()))?;
        let request = self.client.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries));
        let output = request.send().await.map_err(|error| site.explain(&error))?;
        Ok(refused(receipts, &output.failed))
    }
}

/// The receipts that a batch call names as failed: it answers 200 all the same.
fn refused(receipts: &[Receipt], failed: &[BatchResultErrorEntry]) -> Vec<Receipt> {
    failed.iter().filter_map(|entry| receipts.get(entry.id.parse::<usize>().ok()?)).cloned().collect()
}

/// What several batch calls leave: a failed call counts as all of its receipts refused, unless every call failed.
#[derive(Default)]
struct Batches {
    refused: Vec<Receipt>,
    answered: bool,
    fault: Option<Fault>,
}

impl Batches {
    fn add(&mut self, ten: &[Receipt], outcome: Result<Vec<Receipt>, Fault>) {
        match outcome {
            Ok(refused) => {
                self.answered = true;
                self.refused.extend(refused);
            }
            Err(fault) => {
                self.refused.extend_from_slice(ten);
                self.fault = Some(fault);
            }
        }
    }

    fn outcome(self) -> Result<Vec<Receipt>, Fault> {
        match self.fault {
            Some(fault) if !self.answered => Err(fault),
            Some(_) | None => Ok(self.refused),
        }
    }
}

/// A number that a queue must tell.
fn counted(told: &HashMap<QueueAttributeName, String>, name: &QueueAttributeName, site: &Site) -> Result<u64, Fault> {
    let value = told.get(name).and_then(|value| value.parse().ok());
    value.ok_or_else(|| site.fault(FaultKind::Refused, format!("the queue does not tell {}", name.as_str())))
}

/// Where a queue's dead letters are. They must be in its own account and region (aws-semantics 7.2), so only the name
/// differs. `None` where the policy names none.
fn dead_letter_url(url: &str, redrive_policy: &str) -> Option<String> {
    let policy: serde_json::Value = serde_json::from_str(redrive_policy).ok()?;
    let (_, name) = policy.get("deadLetterTargetArn")?.as_str()?.rsplit_once(':')?;
    let (place, _) = url.trim_end_matches('/').rsplit_once('/')?;
    Some(format!("{place}/{name}"))
}

impl ChangeQueue for SqsQueue {
    type Receipt = Receipt;

    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery<Receipt>>, Fault> {
        let site = self.site("receive messages");
        let seconds = i32::try_from(wait.min(LONGEST_WAIT).as_secs()).unwrap_or_default();
        let output = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(BATCH).unwrap_or(1))
            .wait_time_seconds(seconds)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send()
            .await
            .map_err(|error| site.explain(&error))?;
        Ok(output.messages.unwrap_or_default().into_iter().filter_map(|message| self.delivery(message)).collect())
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<Vec<Receipt>, Fault> {
        let mut batches = Batches::default();
        for ten in receipts.chunks(BATCH) {
            batches.add(ten, self.delete_ten(ten).await);
        }
        batches.outcome()
    }

    async fn extend(&self, receipts: Vec<Receipt>, visibility: Duration) -> Result<Vec<Receipt>, Fault> {
        let seconds = i32::try_from(visibility.min(LONGEST_VISIBILITY).as_secs()).unwrap_or_default();
        let mut batches = Batches::default();
        for ten in receipts.chunks(BATCH) {
            batches.add(ten, self.hide_ten(ten, seconds).await);
        }
        batches.outcome()
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        use QueueAttributeName::{ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible};
        let site = self.site("read queue depth");
        let names = [ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible];
        let told = self.attributes(&self.url, names, &site).await?;
        Ok(QueueDepth {
            visible: counted(&told, &ApproximateNumberOfMessages, &site)?,
            in_flight: counted(&told, &ApproximateNumberOfMessagesNotVisible, &site)?,
        })
    }

    async fn dead_letters(&self) -> Result<Option<u64>, Fault> {
        let site = self.site("read the dead-letter queue");
        let told = self.attributes(&self.url, [QueueAttributeName::RedrivePolicy], &site).await?;
        let policy = told.get(&QueueAttributeName::RedrivePolicy).map(String::as_str);
        let Some(url) = policy.and_then(|policy| dead_letter_url(&self.url, policy)) else { return Ok(None) };
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let told = self.attributes(&url, [name.clone()], &site).await?;
        counted(&told, &name, &site).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(name: &str) -> Receipt {
        Receipt(name.to_owned())
    }

    #[test]
    fn dead_letters_are_beside_their_queue() {
        let url = "https://sqs.eu-west-2.amazonaws.com/111122223333/repl-events";
        let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-2:111122223333:lost","maxReceiveCount":"5"}"#;
        let there = Some("https://sqs.eu-west-2.amazonaws.com/111122223333/lost".to_owned());
        assert_eq!(dead_letter_url(url, policy), there);
        assert_eq!(dead_letter_url(&format!("{url}/"), policy), there);
        for none in ["", "{}", "no JSON"] {
            assert_eq!(dead_letter_url(url, none), None, "{none}");
        }
    }

    #[test]
    fn only_the_named_entries_of_a_batch_are_refused() {
        let receipts = [receipt("a"), receipt("b"), receipt("c")];
        let failed = |id: &str| {
            BatchResultErrorEntry::builder().id(id).code("ReceiptHandleIsInvalid").sender_fault(true).build().unwrap()
        };
        assert_eq!(refused(&receipts, &[]), []);
        assert_eq!(refused(&receipts, &[failed("2"), failed("0"), failed("7")]), [receipt("c"), receipt("a")]);
    }

    #[test]
    fn a_failed_call_is_a_fault_only_where_no_call_was_answered() {
        let fault = Fault::new(FaultKind::Transient, Side::Queue, "delete messages", "reset");
        let mut all_failed = Batches::default();
        all_failed.add(&[receipt("a")], Err(fault.clone()));
        assert_eq!(all_failed.outcome(), Err(fault.clone()));
        let mut some = Batches::default();
        some.add(&[receipt("a")], Err(fault));
        some.add(&[receipt("b"), receipt("c")], Ok(vec![receipt("c")]));
        assert_eq!(some.outcome(), Ok(vec![receipt("a"), receipt("c")]));
    }
}
