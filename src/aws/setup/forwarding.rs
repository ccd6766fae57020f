//! EventBridge rules on the default bus, and the roles under which they send.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_eventbridge::types::{RuleState, Tag, Target};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{Endpoint, MADE_BY, Site, client, unless_absent};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::ports::setup::{Document, EventRule, EventTarget, Held, Role};

/// What EventBridge answers where there is no such rule.
const NO_RULE: [&str; 1] = ["ResourceNotFoundException"];
/// What IAM answers where there is no such role or policy, in the words of its protocol and of its model.
const NO_ROLE: [&str; 2] = ["NoSuchEntity", "NoSuchEntityException"];
/// The one policy in the role.
const POLICY: &str = "forward";

/// Rules of one region and roles of its account.
pub(super) struct Forwarding {
    events: aws_sdk_eventbridge::Client,
    iam: aws_sdk_iam::Client,
    side: Side,
    prefix: String,
}

impl Forwarding {
    pub(super) fn new(config: &SdkConfig, endpoint: &Endpoint, prefix: &str) -> Self {
        Self {
            events: client!(aws_sdk_eventbridge, config),
            iam: client!(aws_sdk_iam, config),
            side: endpoint.owner_side,
            prefix: prefix.to_owned(),
        }
    }

    fn site(&self, during: &'static str) -> Site {
        Site::new(self.side, during)
    }

    // Rules ------------------------------------------------------------------------------------------------------------

    pub(super) async fn read_rule(&self, name: &str) -> Result<Held, Fault> {
        let site = self.site("read the event rule");
        let answer = self.events.describe_rule().name(name).send().await;
        let Some(rule) = unless_absent(answer.map_err(|error| site.explain(&error)), &NO_RULE)? else {
            return Ok(Held::Absent);
        };
        let targets = self.targets(name).await?.into_iter().map(|target| {
            let role = target.role_arn.unwrap_or_default();
            (target.id, EventTarget { arn: target.arn, role })
        });
        Ok(Held::Present(Document::EventRule(EventRule {
            description: rule.description().unwrap_or_default().to_owned(),
            enabled: rule.state() == Some(&RuleState::Enabled),
            pattern: super::json(rule.event_pattern().unwrap_or_default(), site)?,
            targets: targets.collect(),
        })))
    }

    async fn targets(&self, name: &str) -> Result<Vec<Target>, Fault> {
        let site = self.site("read the targets of the event rule");
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let request = self.events.list_targets_by_rule().rule(name).set_next_token(next);
            let answer = request.send().await.map_err(|error| site.explain(&error))?;
            found.extend(answer.targets.unwrap_or_default());
            next = answer.next_token;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    pub(super) async fn write_rule(&self, name: &str, wanted: &EventRule, is_new: bool) -> Result<(), Fault> {
        let site = self.site("write the event rule");
        let unwritable =
            |error: aws_smithy_types::error::operation::BuildError| site.fault(FaultKind::Refused, error.to_string());
        let tag = Tag::builder().key(MADE_BY).value(&self.prefix).build().map_err(unwritable)?;
        let request = self
            .events
            .put_rule()
            .name(name)
            .description(&wanted.description)
            .event_pattern(wanted.pattern.to_string())
            .state(if wanted.enabled { RuleState::Enabled } else { RuleState::Disabled })
            .set_tags(is_new.then(|| vec![tag]));
        request.send().await.map_err(|error| site.explain(&error))?;
        let there: BTreeMap<String, EventTarget> = self
            .targets(name)
            .await?
            .into_iter()
            .map(|target| (target.id, EventTarget { arn: target.arn, role: target.role_arn.unwrap_or_default() }))
            .collect();
        let missing = wanted.targets.iter().filter(|(id, target)| there.get(*id) != Some(target));
        let targets = missing
            .map(|(id, target)| Target::builder().id(id).arn(&target.arn).role_arn(&target.role).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(unwritable)?;
        if targets.is_empty() {
            return Ok(());
        }
        let answer = self.events.put_targets().rule(name).set_targets(Some(targets)).send().await;
        let refused = match answer {
            Ok(answer) => answer.failed_entries.unwrap_or_default().into_iter().next().map(|entry| {
                let code = entry.error_code.unwrap_or_default();
                site.fault(FaultKind::Refused, format!("{code}: {}", entry.error_message.unwrap_or_default()))
            }),
            Err(error) => Some(site.explain(&error)),
        };
        let Some(mut fault) = refused else { return Ok(()) };
        // A role that has just been made is seen everywhere after some seconds only.
        if fault.detail.contains("cannot be assumed") {
            fault.kind = FaultKind::Transient;
        }
        Err(fault)
    }

    pub(super) async fn delete_rule(&self, name: &str) -> Result<(), Fault> {
        let site = self.site("delete the event rule");
        let ids: Vec<String> = match unless_absent(self.targets(name).await, &NO_RULE)? {
            Some(targets) => targets.into_iter().map(|target| target.id).collect(),
            None => return Ok(()),
        };
        if !ids.is_empty() {
            let answer = self.events.remove_targets().rule(name).set_ids(Some(ids)).send().await;
            unless_absent(answer.map_err(|error| site.explain(&error)), &NO_RULE)?;
        }
        let answer = self.events.delete_rule().name(name).send().await;
        unless_absent(answer.map_err(|error| site.explain(&error)), &NO_RULE).map(drop)
    }

    // Roles ------------------------------------------------------------------------------------------------------------

    pub(super) async fn read_role(&self, name: &str) -> Result<Held, Fault> {
        let site = self.site("read the role");
        let answer = self.iam.get_role().role_name(name).send().await;
        let answer = unless_absent(answer.map_err(|error| site.explain(&error)), &NO_ROLE)?;
        let Some(role) = answer.and_then(|answer| answer.role) else { return Ok(Held::Absent) };
        let answer = self.iam.get_role_policy().role_name(name).policy_name(POLICY).send().await;
        let answer = unless_absent(answer.map_err(|error| site.explain(&error)), &NO_ROLE)?;
        let policy = match answer {
            Some(answer) => decoded(answer.policy_document(), site)?,
            None => Value::Null,
        };
        let made_by = role.tags().iter().find(|tag| tag.key() == MADE_BY).map(|tag| tag.value().to_owned());
        let trust = decoded(role.assume_role_policy_document().unwrap_or_default(), site)?;
        Ok(Held::Present(Document::Role(Role { trust, policy, made_by })))
    }

    pub(super) async fn write_role(&self, name: &str, wanted: &Role, is_new: bool) -> Result<(), Fault> {
        let site = self.site("write the role");
        let trust = wanted.trust.to_string();
        if is_new {
            let tag = aws_sdk_iam::types::Tag::builder().key(MADE_BY).value(&self.prefix).build();
            let tag = tag.map_err(|error| site.fault(FaultKind::Refused, error.to_string()))?;
            let request = self.iam.create_role().role_name(name).assume_role_policy_document(trust).tags(tag);
            let request = request.description("Lets EventBridge forward alarms: made by repl apply");
            let answer = request.send().await.map_err(|error| site.explain(&error));
            // A try before this one may have come so far.
            unless_absent(answer, &["EntityAlreadyExists", "EntityAlreadyExistsException"])?;
        } else {
            let request = self.iam.update_assume_role_policy().role_name(name).policy_document(trust);
            request.send().await.map_err(|error| site.explain(&error))?;
        }
        let request = self.iam.put_role_policy().role_name(name).policy_name(POLICY);
        let request = request.policy_document(wanted.policy.to_string());
        request.send().await.map(drop).map_err(|error| site.explain(&error))
    }

    pub(super) async fn delete_role(&self, name: &str) -> Result<(), Fault> {
        let site = self.site("delete the role");
        let answer = self.iam.delete_role_policy().role_name(name).policy_name(POLICY).send().await;
        unless_absent(answer.map_err(|error| site.explain(&error)), &NO_ROLE)?;
        let answer = self.iam.delete_role().role_name(name).send().await;
        unless_absent(answer.map_err(|error| site.explain(&error)), &NO_ROLE).map(drop)
    }
}

/// IAM returns documents percent-encoded; one that is not so decodes to itself.
fn decoded(document: &str, site: Site) -> Result<Value, Fault> {
    super::json(&percent_decode_str(document).decode_utf8_lossy(), site)
}
