//! The three tiers that are told of alarms: an inbox behind each one's topic.

use std::collections::BTreeMap;

use serde_json::Value;

use super::servers::Server;

/// The names of the tiers, the mildest first.
pub(crate) const TIERS: [&str; 3] = ["standard", "critical", "management"];

/// An SQS queue behind the topic of each tier: what it holds is what that tier was told.
pub(crate) struct Tiers {
    region: &'static str,
    inboxes: BTreeMap<&'static str, String>,
}

/// One message about an alarm.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// `NAME STATE`, without the prefix.
    pub(crate) what: String,
    /// The message in CloudWatch's shape.
    pub(crate) message: Value,
}

/// The ARN of a tier's topic.
pub(crate) fn topic(region: &str, prefix: &str, tier: &str) -> String {
    format!("arn:aws:sns:{region}:000000000000:{prefix}-{tier}")
}

impl Tiers {
    /// Makes the topics `PREFIX-TIER`, and listens.
    pub(crate) async fn make(region: &'static str, prefix: &str) -> Self {
        let sns = Server::Ministack.access().sns(region);
        for tier in TIERS {
            sns.create_topic().name(format!("{prefix}-{tier}")).send().await.unwrap();
        }
        Self::listen(region, prefix).await
    }

    /// Listens to the topics `PREFIX-TIER` from now on.
    pub(crate) async fn listen(region: &'static str, prefix: &str) -> Self {
        let access = Server::Ministack.access();
        let (sns, sqs) = (access.sns(region), access.sqs(region));
        let mut inboxes = BTreeMap::new();
        for tier in TIERS {
            let name = format!("inbox-{prefix}-{tier}");
            let url = sqs.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
            let inbox = format!("arn:aws:sqs:{region}:000000000000:{name}");
            let arn = topic(region, prefix, tier);
            sns.subscribe().topic_arn(arn).protocol("sqs").endpoint(inbox).send().await.unwrap();
            inboxes.insert(tier, url);
        }
        Self { region, inboxes }
    }

    /// What a tier was told since it was last asked, in order: alarm and state.
    pub(crate) async fn heard(&self, tier: &str) -> Vec<String> {
        self.messages(tier).await.into_iter().map(|told| told.what).collect()
    }

    /// The same with the whole messages.
    pub(crate) async fn messages(&self, tier: &str) -> Vec<Told> {
        let sqs = Server::Ministack.access().sqs(self.region);
        let url = &self.inboxes[tier];
        let mut messages = Vec::new();
        loop {
            let received = sqs.receive_message().queue_url(url).max_number_of_messages(10).send().await.unwrap();
            let some = received.messages.unwrap_or_default();
            if some.is_empty() {
                return messages;
            }
            for one in some {
                let outer: Value = serde_json::from_str(one.body().unwrap()).unwrap();
                let message: Value = serde_json::from_str(outer["Message"].as_str().unwrap()).unwrap();
                let (_, name) = message["AlarmName"].as_str().unwrap().split_once('-').unwrap();
                let what = format!("{name} {}", message["NewStateValue"].as_str().unwrap());
                messages.push(Told { what, message });
                let receipt = one.receipt_handle.unwrap();
                sqs.delete_message().queue_url(url).receipt_handle(receipt).send().await.unwrap();
            }
        }
    }
}
