//! A bucket's settings: versioning, notifications, lifecycle, tiering, request metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketVersioningStatus, Event, ExpirationStatus,
    FilterRule, FilterRuleName, IntelligentTieringAccessTier, IntelligentTieringConfiguration,
    IntelligentTieringStatus, LifecycleExpiration, LifecycleRule as S3Rule, LifecycleRuleFilter, MetricsConfiguration,
    NoncurrentVersionExpiration, NotificationConfiguration, NotificationConfigurationFilter, QueueConfiguration,
    S3KeyFilter, Tiering as S3Tiering, Transition, TransitionStorageClass,
};

use super::{Endpoint, Site, unless_absent};
use crate::aws::{UnansweredOnly, patience, twice};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::ports::setup::{
    Document, Held, Lifecycle, LifecycleRule, NOVEL_EVENTS, Notification, Notifications, RequestMetrics, Tiering,
    Versioned,
};

/// The settings of one side's bucket.
pub(super) struct BucketSettings {
    client: Client,
    owner: Option<String>,
    side: Side,
}

/// What a configuration that is not there is called.
const NO_CONFIGURATION: [&str; 1] = ["NoSuchConfiguration"];

impl BucketSettings {
    pub(super) fn new(config: &SdkConfig, endpoint: &Endpoint) -> Self {
        let config = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(endpoint.path_style)
            .retry_config(twice())
            .retry_classifier(UnansweredOnly)
            .timeout_config(patience(Duration::ZERO))
            .build();
        let owner = endpoint.expected_bucket_owner.clone();
        Self { client: Client::from_conf(config), owner, side: endpoint.owner_side }
    }

    fn site(&self, during: &'static str) -> Site {
        Site::new(self.side, during)
    }

    pub(super) async fn versioning(&self, bucket: &str) -> Result<Held, Fault> {
        let site = self.site("read the versioning");
        let request = self.client.get_bucket_versioning().bucket(bucket).set_expected_bucket_owner(self.owner.clone());
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return missing(site.explain(&error), "versioning"),
        };
        let state = match answer.status {
            Some(BucketVersioningStatus::Enabled) => "enabled",
            Some(BucketVersioningStatus::Suspended) => "suspended",
            _ => "off",
        };
        Ok(Held::Present(Document::Versioning(Versioned { state })))
    }

    // Notifications ----------------------------------------------------------------------------------------------------

    async fn raw_notifications(&self, bucket: &str) -> Result<NotificationConfiguration, Fault> {
        let request = self.client.get_bucket_notification_configuration().bucket(bucket);
        let site = self.site("read the event notifications");
        let request = request.set_expected_bucket_owner(self.owner.clone());
        let answer = request.send().await.map_err(|error| site.explain(&error))?;
        Ok(NotificationConfiguration::builder()
            .set_topic_configurations(answer.topic_configurations)
            .set_queue_configurations(answer.queue_configurations)
            .set_lambda_function_configurations(answer.lambda_function_configurations)
            .set_event_bridge_configuration(answer.event_bridge_configuration)
            .build())
    }

    pub(super) async fn notifications(&self, bucket: &str) -> Result<Held, Fault> {
        let raw = match self.raw_notifications(bucket).await {
            Ok(raw) => raw,
            Err(fault) => return missing(fault, "event notifications"),
        };
        let mut configurations = BTreeMap::new();
        for one in raw.queue_configurations() {
            add(&mut configurations, one.id(), one.queue_arn(), (one.events(), one.filter()));
        }
        for one in raw.topic_configurations() {
            add(&mut configurations, one.id(), one.topic_arn(), (one.events(), one.filter()));
        }
        for one in raw.lambda_function_configurations() {
            add(&mut configurations, one.id(), one.lambda_function_arn(), (one.events(), one.filter()));
        }
        Ok(Held::Present(Document::Notification(Notifications { configurations })))
    }

    /// Puts ours in the place of ours; S3 takes all or none, so what others wrote goes along as it is.
    pub(super) async fn put_notifications(
        &self,
        bucket: &str,
        before: Option<&Notifications>,
        after: &Notifications,
    ) -> Result<Vec<String>, Fault> {
        match self.replace_notifications(bucket, before, after).await {
            Err(fault) if fault.status == Some(400) && fault.kind == FaultKind::Refused && is_novel(after) => {
                let mut known = after.clone();
                for configuration in known.configurations.values_mut() {
                    configuration.events.retain(|event| !NOVEL_EVENTS.contains(&event.as_str()));
                }
                self.replace_notifications(bucket, before, &known).await?;
                let novel = NOVEL_EVENTS.join(", ");
                Ok(vec![format!("the store does not tell of {novel}: such changes are found by repl sync")])
            }
            outcome => outcome.map(|()| Vec::new()),
        }
    }

    async fn replace_notifications(
        &self,
        bucket: &str,
        before: Option<&Notifications>,
        after: &Notifications,
    ) -> Result<(), Fault> {
        let mut raw = self.raw_notifications(bucket).await?;
        let ours: BTreeSet<&String> =
            before.into_iter().chain([after]).flat_map(|side| side.configurations.keys()).collect();
        let is_ours = |id: Option<&str>| id.is_some_and(|id| ours.iter().any(|known| *known == id));
        let mut queues = raw.queue_configurations.take().unwrap_or_default();
        queues.retain(|configuration| !is_ours(configuration.id()));
        let site = self.site("write the event notifications");
        for (id, wanted) in &after.configurations {
            queues.push(queue_configuration(id, wanted, site)?);
        }
        raw.queue_configurations = Some(queues);
        let request = self
            .client
            .put_bucket_notification_configuration()
            .bucket(bucket)
            .set_expected_bucket_owner(self.owner.clone())
            .notification_configuration(raw);
        let Err(error) = request.send().await else { return Ok(()) };
        let mut fault = site.explain(&error);
        // S3 sends a test message first, and a policy that has just been set may take a minute to be seen.
        if fault.detail.contains("nable to validate the following destination") {
            fault.kind = FaultKind::Transient;
        }
        Err(fault)
    }

    // Lifecycle --------------------------------------------------------------------------------------------------------

    pub(super) async fn lifecycle(&self, bucket: &str) -> Result<Held, Fault> {
        let (rules, _) = match self.raw_lifecycle(bucket).await {
            Ok(raw) => raw,
            Err(fault) => return missing(fault, "lifecycle rules"),
        };
        let rules = rules.iter().map(|rule| (rule.id().unwrap_or_default().to_owned(), read_rule(rule))).collect();
        Ok(Held::Present(Document::Lifecycle(Lifecycle { rules })))
    }

    /// All rules, and the least size of objects that are moved: S3 replaces that with the rules.
    async fn raw_lifecycle(
        &self,
        bucket: &str,
    ) -> Result<(Vec<S3Rule>, Option<aws_sdk_s3::types::TransitionDefaultMinimumObjectSize>), Fault> {
        let site = self.site("read the lifecycle rules");
        let request = self.client.get_bucket_lifecycle_configuration().bucket(bucket);
        let answer = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        let answer = answer.map_err(|error| site.explain(&error));
        Ok(unless_absent(answer, &["NoSuchLifecycleConfiguration"])?.map_or((Vec::new(), None), |answer| {
            (answer.rules.unwrap_or_default(), answer.transition_default_minimum_object_size)
        }))
    }

    pub(super) async fn put_lifecycle(
        &self,
        bucket: &str,
        before: Option<&Lifecycle>,
        after: &Lifecycle,
    ) -> Result<(), Fault> {
        let site = self.site("write the lifecycle rules");
        let (mut rules, least) = self.raw_lifecycle(bucket).await?;
        let ours: BTreeSet<&String> = before.into_iter().chain([after]).flat_map(|side| side.rules.keys()).collect();
        rules.retain(|rule| !rule.id().is_some_and(|id| ours.iter().any(|known| *known == id)));
        for (id, wanted) in &after.rules {
            rules.push(written_rule(id, wanted).map_err(|reason| site.fault(FaultKind::Refused, reason))?);
        }
        if rules.is_empty() {
            let request = self.client.delete_bucket_lifecycle().bucket(bucket);
            let gone = request.set_expected_bucket_owner(self.owner.clone()).send().await;
            return gone.map(drop).map_err(|error| site.explain(&error));
        }
        let configuration = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build();
        let configuration = configuration.map_err(|error| site.fault(FaultKind::Refused, error.to_string()))?;
        let request = self
            .client
            .put_bucket_lifecycle_configuration()
            .bucket(bucket)
            .set_expected_bucket_owner(self.owner.clone())
            .set_transition_default_minimum_object_size(least)
            .lifecycle_configuration(configuration);
        request.send().await.map(drop).map_err(|error| site.explain(&error))
    }

    // Intelligent-Tiering ----------------------------------------------------------------------------------------------

    pub(super) async fn tiering(&self, bucket: &str, id: &str) -> Result<Held, Fault> {
        const WHAT: &str = "Intelligent-Tiering configurations";
        let site = self.site("read the Intelligent-Tiering configuration");
        let request = self.client.get_bucket_intelligent_tiering_configuration().bucket(bucket).id(id);
        let answer = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        let answer = match unless_absent(answer.map_err(|error| site.explain(&error)), &NO_CONFIGURATION) {
            Ok(None) => return Ok(Held::Absent),
            Ok(Some(answer)) => answer.intelligent_tiering_configuration,
            Err(fault) => return missing(fault, WHAT),
        };
        let Some(found) = answer.filter(|found| found.id() == id) else { return Ok(without(WHAT)) };
        let filter = found.filter().map(|filter| match (filter.prefix(), filter.tag(), filter.and()) {
            (Some(prefix), None, None) => prefix.to_owned(),
            (None, None, None) => String::new(),
            _ => format!("{filter:?}"),
        });
        let tiers = found
            .tierings()
            .iter()
            .map(|step| (step.access_tier().as_str().to_owned(), u32::try_from(step.days()).unwrap_or_default()));
        Ok(Held::Present(Document::IntelligentTiering(Tiering {
            enabled: *found.status() == IntelligentTieringStatus::Enabled,
            filter: filter.unwrap_or_default(),
            tiers: tiers.collect(),
        })))
    }

    pub(super) async fn put_tiering(&self, bucket: &str, id: &str, wanted: &Tiering) -> Result<(), Fault> {
        let site = self.site("write the Intelligent-Tiering configuration");
        let unwritable =
            |error: aws_smithy_types::error::operation::BuildError| site.fault(FaultKind::Refused, error.to_string());
        let mut configuration =
            IntelligentTieringConfiguration::builder().id(id).status(IntelligentTieringStatus::Enabled);
        for (tier, days) in &wanted.tiers {
            let step = S3Tiering::builder()
                .access_tier(IntelligentTieringAccessTier::from(tier.as_str()))
                .days(whole(*days))
                .build();
            configuration = configuration.tierings(step.map_err(unwritable)?);
        }
        let request = self
            .client
            .put_bucket_intelligent_tiering_configuration()
            .bucket(bucket)
            .id(id)
            .set_expected_bucket_owner(self.owner.clone())
            .intelligent_tiering_configuration(configuration.build().map_err(unwritable)?);
        request.send().await.map(drop).map_err(|error| site.explain(&error))
    }

    pub(super) async fn delete_tiering(&self, bucket: &str, id: &str) -> Result<(), Fault> {
        let site = self.site("delete the Intelligent-Tiering configuration");
        let request = self.client.delete_bucket_intelligent_tiering_configuration().bucket(bucket).id(id);
        let gone = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        unless_absent(gone.map_err(|error| site.explain(&error)), &NO_CONFIGURATION).map(drop)
    }

    // Request metrics --------------------------------------------------------------------------------------------------

    pub(super) async fn request_metrics(&self, bucket: &str, id: &str) -> Result<Held, Fault> {
        const WHAT: &str = "request metrics";
        let site = self.site("read the request metrics");
        let request = self.client.get_bucket_metrics_configuration().bucket(bucket).id(id);
        let answer = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        let answer = match unless_absent(answer.map_err(|error| site.explain(&error)), &NO_CONFIGURATION) {
            Ok(None) => return Ok(Held::Absent),
            Ok(Some(answer)) => answer.metrics_configuration,
            Err(fault) => return missing(fault, WHAT),
        };
        let Some(found) = answer.filter(|found| found.id() == id) else { return Ok(without(WHAT)) };
        let filter = found.filter().map(|filter| format!("{filter:?}")).unwrap_or_default();
        Ok(Held::Present(Document::RequestMetrics(RequestMetrics { filter })))
    }

    pub(super) async fn put_request_metrics(&self, bucket: &str, id: &str) -> Result<(), Fault> {
        let site = self.site("write the request metrics");
        let configuration = MetricsConfiguration::builder().id(id).build();
        let configuration = configuration.map_err(|error| site.fault(FaultKind::Refused, error.to_string()))?;
        let request = self
            .client
            .put_bucket_metrics_configuration()
            .bucket(bucket)
            .id(id)
            .set_expected_bucket_owner(self.owner.clone())
            .metrics_configuration(configuration);
        request.send().await.map(drop).map_err(|error| site.explain(&error))
    }

    pub(super) async fn delete_request_metrics(&self, bucket: &str, id: &str) -> Result<(), Fault> {
        let site = self.site("delete the request metrics");
        let request = self.client.delete_bucket_metrics_configuration().bucket(bucket).id(id);
        let gone = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        unless_absent(gone.map_err(|error| site.explain(&error)), &NO_CONFIGURATION).map(drop)
    }
}

/// A store that does not have the thing at all says so in one of several ways.
fn missing(fault: Fault, what: &str) -> Result<Held, Fault> {
    let says_so = fault.status == Some(501)
        || fault.code.as_deref().is_some_and(|code| ["NotImplemented", "MethodNotAllowed"].contains(&code));
    // Or it takes the question for another one and answers that.
    let answers_another =
        fault.status.is_some_and(|status| (200..300).contains(&status)) && fault.detail.contains("root");
    if says_so {
        return Ok(Held::Unsupported(format!("the store has no {what}: it answers {}", fault.detail)));
    }
    if answers_another { Ok(without(what)) } else { Err(fault) }
}

fn without(what: &str) -> Held {
    Held::Unsupported(format!("the store has no {what}: asked for one, it answers something else"))
}

fn add(
    configurations: &mut BTreeMap<String, Notification>,
    id: Option<&str>,
    destination: &str,
    (events, filter): (&[Event], Option<&NotificationConfigurationFilter>),
) {
    let mut events: Vec<String> = events.iter().map(|event| event.as_str().to_owned()).collect();
    events.sort();
    let rules = filter.and_then(NotificationConfigurationFilter::key).map(S3KeyFilter::filter_rules);
    // S3 spells the names in upper or lower case, as they were written.
    let named = |name: &str| {
        let mut rules = rules.unwrap_or_default().iter();
        let rule = rules.find(|rule| rule.name().is_some_and(|found| found.as_str().eq_ignore_ascii_case(name)));
        rule.and_then(FilterRule::value).unwrap_or_default().to_owned()
    };
    let notification =
        Notification { destination: destination.to_owned(), events, prefix: named("prefix"), suffix: named("suffix") };
    // S3 gives an id to each that has none; a store that does not must not hide one behind another.
    let id = id.map_or_else(|| format!("(without an id, {})", configurations.len() + 1), str::to_owned);
    configurations.insert(id, notification);
}

fn is_novel(after: &Notifications) -> bool {
    let mut events = after.configurations.values().flat_map(|configuration| &configuration.events);
    events.any(|event| NOVEL_EVENTS.contains(&event.as_str()))
}

fn queue_configuration(id: &str, wanted: &Notification, site: Site) -> Result<QueueConfiguration, Fault> {
    let filter = (!wanted.prefix.is_empty()).then(|| {
        let rule = FilterRule::builder().name(FilterRuleName::Prefix).value(&wanted.prefix).build();
        NotificationConfigurationFilter::builder().key(S3KeyFilter::builder().filter_rules(rule).build()).build()
    });
    QueueConfiguration::builder()
        .id(id)
        .queue_arn(&wanted.destination)
        .set_events(Some(wanted.events.iter().map(|event| Event::from(event.as_str())).collect()))
        .set_filter(filter)
        .build()
        .map_err(|error| site.fault(FaultKind::Refused, error.to_string()))
}

fn whole(days: u32) -> i32 {
    i32::try_from(days).unwrap_or(i32::MAX)
}

fn days(days: Option<i32>) -> Option<u32> {
    days.and_then(|days| u32::try_from(days).ok())
}

#[allow(deprecated, reason = "rules of others may still carry the prefix of the first version of the API")]
fn read_rule(rule: &S3Rule) -> LifecycleRule {
    let filter = rule.filter();
    let mut further = Vec::new();
    let mut seen = |name: &str, there: bool| {
        if there {
            further.push(name.to_owned())
        }
    };
    seen(
        "filter by tag or size",
        filter.is_some_and(|filter| {
            filter.tag().is_some()
                || filter.and().is_some()
                || filter.object_size_greater_than().is_some()
                || filter.object_size_less_than().is_some()
        }),
    );
    seen("transitions of noncurrent versions", !rule.noncurrent_version_transitions().is_empty());
    let newer = rule.noncurrent_version_expiration().and_then(NoncurrentVersionExpiration::newer_noncurrent_versions);
    seen("newer noncurrent versions kept", newer.is_some());
    let expiration = rule.expiration();
    seen("expiration by date", expiration.is_some_and(|expiration| expiration.date().is_some()));
    let markers = expiration.and_then(LifecycleExpiration::expired_object_delete_marker);
    seen("expiration of delete markers", markers == Some(true));
    seen("transitions by date", rule.transitions().iter().any(|step| step.date().is_some()));
    let mut transitions: Vec<(u32, String)> = rule
        .transitions()
        .iter()
        .filter_map(|step| Some((days(step.days())?, step.storage_class()?.as_str().to_owned())))
        .collect();
    transitions.sort();
    LifecycleRule {
        enabled: *rule.status() == ExpirationStatus::Enabled,
        prefix: filter.and_then(LifecycleRuleFilter::prefix).or(rule.prefix()).unwrap_or_default().to_owned(),
        transitions,
        expire_days: days(expiration.and_then(LifecycleExpiration::days)),
        noncurrent_expire_days: days(
            rule.noncurrent_version_expiration().and_then(NoncurrentVersionExpiration::noncurrent_days),
        ),
        abort_multipart_days: days(
            rule.abort_incomplete_multipart_upload().and_then(AbortIncompleteMultipartUpload::days_after_initiation),
        ),
        further: (!further.is_empty()).then(|| further.join(", ")),
    }
}

fn written_rule(id: &str, wanted: &LifecycleRule) -> Result<S3Rule, String> {
    let status = if wanted.enabled { ExpirationStatus::Enabled } else { ExpirationStatus::Disabled };
    let transitions = wanted.transitions.iter().map(|(days, class)| {
        Transition::builder().days(whole(*days)).storage_class(TransitionStorageClass::from(class.as_str())).build()
    });
    S3Rule::builder()
        .id(id)
        .status(status)
        .filter(LifecycleRuleFilter::builder().prefix(&wanted.prefix).build())
        .set_transitions((!wanted.transitions.is_empty()).then(|| transitions.collect()))
        .set_expiration(wanted.expire_days.map(|days| LifecycleExpiration::builder().days(whole(days)).build()))
        .set_noncurrent_version_expiration(
            wanted
                .noncurrent_expire_days
                .map(|days| NoncurrentVersionExpiration::builder().noncurrent_days(whole(days)).build()),
        )
        .set_abort_incomplete_multipart_upload(
            wanted
                .abort_multipart_days
                .map(|days| AbortIncompleteMultipartUpload::builder().days_after_initiation(whole(days)).build()),
        )
        .build()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn rule()(
            enabled: bool, prefix in "[a-zé +/]{0,8}", steps in prop::collection::btree_set(1_u32..4000, 0..4),
            expire in prop::option::of(1_u32..4000), noncurrent in prop::option::of(1_u32..4000),
            abort in prop::option::of(1_u32..4000),
        ) -> LifecycleRule {
            let classes = ["STANDARD_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"];
            LifecycleRule {
                enabled, prefix, transitions: steps.into_iter().zip(classes.map(str::to_owned)).collect(),
                expire_days: expire, noncurrent_expire_days: noncurrent, abort_multipart_days: abort, further: None,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(wanted in rule()) {
            prop_assert_eq!(read_rule(&written_rule("repl-x", &wanted).unwrap()), wanted);
        }
    }

    #[test]
    fn what_others_wrote_besides_is_seen() {
        let plain = LifecycleRule { enabled: true, abort_multipart_days: Some(7), ..LifecycleRule::default() };
        let mut rule = written_rule("x", &plain).unwrap();
        rule.expiration = Some(LifecycleExpiration::builder().expired_object_delete_marker(true).build());
        assert_eq!(read_rule(&rule).further.as_deref(), Some("expiration of delete markers"));
    }

    #[test]
    fn a_store_without_the_thing_is_told_from_one_that_fails() {
        let site = Site::new(Side::Source, "read");
        let fault = |status: u16, code: Option<&'static str>, detail: &str| Fault {
            status: Some(status),
            code: code.map(Into::into),
            ..site.fault(FaultKind::Refused, detail)
        };
        assert!(matches!(missing(fault(501, Some("NotImplemented"), "no"), "x"), Ok(Held::Unsupported(_))));
        assert!(matches!(missing(fault(200, None, "invalid root element"), "x"), Ok(Held::Unsupported(_))));
        assert!(missing(fault(200, None, "unexpected end"), "x").is_err());
        assert!(missing(fault(403, Some("AccessDenied"), "no"), "x").is_err());
    }
}
