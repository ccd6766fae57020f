//! Topics with their policies, subscriptions and tags.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_sns::Client;
use aws_sdk_sns::types::Tag;

use super::{Endpoint, MADE_BY, Site, client, unless_absent};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::region;
use crate::ports::setup::{Confirmation, Document, Held, Topic};

/// What SNS answers where there is no such topic, in the words of its protocol and of its model.
const NO_TOPIC: [&str; 2] = ["NotFound", "NotFoundException"];
/// In the place of a subscription's ARN until the link in the mail is opened.
const PENDING: &str = "PendingConfirmation";

/// The topics of one region.
pub(super) struct Topics {
    client: Client,
    side: Side,
    region: String,
    prefix: String,
}

impl Topics {
    pub(super) fn new(config: &SdkConfig, endpoint: &Endpoint, prefix: &str) -> Self {
        let (region, prefix) = (endpoint.region.clone(), prefix.to_owned());
        Self { client: client!(aws_sdk_sns, config), side: endpoint.owner_side, region, prefix }
    }

    fn site(&self, during: &'static str) -> Site {
        Site::new(self.side, during)
    }

    fn arn(&self, name: &str, account: &str) -> String {
        format!("arn:{}:sns:{}:{account}:{name}", region::partition(&self.region), self.region)
    }

    pub(super) async fn read(&self, name: &str, account: &str) -> Result<Held, Fault> {
        let site = self.site("read the topic");
        let arn = self.arn(name, account);
        let answer = self.client.get_topic_attributes().topic_arn(&arn).send().await;
        let Some(answer) = unless_absent(answer.map_err(|error| site.explain(&error)), &NO_TOPIC)? else {
            return Ok(Held::Absent);
        };
        let attributes = answer.attributes.unwrap_or_default();
        let text = |name: &str| attributes.get(name).map_or("", String::as_str);
        let (emails, others_hear) = self.subscribers(&arn).await?;
        // Without the right to read tags it is nobody's of ours, which is the careful answer.
        let tags = self.client.list_tags_for_resource().resource_arn(&arn).send().await.ok();
        let mut tags = tags.and_then(|answer| answer.tags).unwrap_or_default().into_iter();
        Ok(Held::Present(Document::Topic(Topic {
            kms_key: Some(text("KmsMasterKeyId")).filter(|key| !key.is_empty()).map(str::to_owned),
            policy: super::json(text("Policy"), site)?,
            emails,
            others_hear,
            made_by: tags.find(|tag| tag.key() == MADE_BY).map(|tag| tag.value),
        })))
    }

    async fn subscribers(&self, arn: &str) -> Result<(BTreeMap<String, Confirmation>, bool), Fault> {
        let site = self.site("read the subscriptions");
        let mut pages = self.client.list_subscriptions_by_topic().topic_arn(arn).into_paginator().send();
        let (mut emails, mut others_hear) = (BTreeMap::new(), false);
        while let Some(page) = pages.next().await {
            for one in page.map_err(|error| site.explain(&error))?.subscriptions() {
                let state = match one.subscription_arn() {
                    Some(PENDING) => Confirmation::Pending,
                    Some("Deleted") | None => continue,
                    Some(_) => Confirmation::Confirmed,
                };
                match (one.protocol(), one.endpoint()) {
                    (Some("email" | "email-json"), Some(address)) => {
                        emails.insert(address.to_owned(), state);
                    }
                    _ => others_hear = true,
                }
            }
        }
        Ok((emails, others_hear))
    }

    /// Makes the topic or changes what differs, and subscribes who is missing. An address that is refused keeps no
    /// other one out.
    pub(super) async fn write(
        &self,
        name: &str,
        account: &str,
        before: Option<&Topic>,
        after: &Topic,
    ) -> Result<(), Fault> {
        let arn = self.arn(name, account);
        match before {
            None => self.create(name, after).await?,
            Some(before) => {
                if before.kms_key != after.kms_key {
                    self.set(&arn, "KmsMasterKeyId", after.kms_key.as_deref().unwrap_or_default()).await?;
                }
                if before.policy != after.policy {
                    self.set(&arn, "Policy", &after.policy.to_string()).await?;
                }
            }
        }
        let mut refused: Option<Fault> = None;
        let there = before.map(|topic| &topic.emails);
        for email in after.emails.keys().filter(|email| !there.is_some_and(|there| there.contains_key(*email))) {
            let site = self.site("subscribe an address");
            let request = self.client.subscribe().topic_arn(&arn).protocol("email").endpoint(email);
            if let Err(error) = request.send().await {
                let mut fault = site.explain(&error);
                fault.detail = format!("{email}: {}", fault.detail);
                refused = Some(fault);
            }
        }
        refused.map_or(Ok(()), Err)
    }

    async fn create(&self, name: &str, wanted: &Topic) -> Result<(), Fault> {
        let site = self.site("make the topic");
        let tag = Tag::builder().key(MADE_BY).value(&self.prefix).build();
        let tag = tag.map_err(|error| site.fault(FaultKind::Refused, error.to_string()))?;
        let mut request = self.client.create_topic().name(name).tags(tag);
        request = request.attributes("Policy", wanted.policy.to_string());
        if let Some(key) = &wanted.kms_key {
            request = request.attributes("KmsMasterKeyId", key);
        }
        request.send().await.map(drop).map_err(|error| site.explain(&error))
    }

    async fn set(&self, arn: &str, attribute: &str, value: &str) -> Result<(), Fault> {
        let site = self.site("change the topic");
        let request = self.client.set_topic_attributes().topic_arn(arn).attribute_name(attribute);
        request.attribute_value(value).send().await.map(drop).map_err(|error| site.explain(&error))
    }

    /// Deletes the topic with all of its subscriptions.
    pub(super) async fn delete(&self, name: &str, account: &str) -> Result<(), Fault> {
        let site = self.site("delete the topic");
        let answer = self.client.delete_topic().topic_arn(self.arn(name, account)).send().await;
        unless_absent(answer.map_err(|error| site.explain(&error)), &NO_TOPIC).map(drop)
    }
}
