//! The bucket's own replication, as S3 keeps it: what `repl init --from-bucket` translates.

use aws_sdk_s3::types::{
    DeleteMarkerReplicationStatus, ExistingObjectReplicationStatus, MetricsStatus, ReplicaModificationsStatus,
    ReplicationRule, ReplicationRuleStatus, ReplicationTimeStatus, SseKmsEncryptedObjectsStatus, Tag,
};

use super::S3Bucket;
use crate::model::fault::Fault;
use crate::model::object::Tags;

/// One rule of a `ReplicationConfiguration`, with what of it can be told in plain words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeRule {
    /// Its ID; S3 makes one where none was given.
    pub id: Option<String>,
    /// Its priority; older rules have none.
    pub priority: Option<i32>,
    /// Keys that begin so.
    pub prefix: String,
    /// All of these tags.
    pub tags: Tags,
    /// Of the older form without a `Filter`, which replicates delete markers without being told.
    pub older_form: bool,
    /// Whether it holds.
    pub enabled: bool,
    /// Delete markers, where the rule says so; `None` where it says nothing.
    pub delete_markers: Option<bool>,
    /// The destination bucket's name.
    pub bucket: String,
    /// The destination's account.
    pub account: Option<String>,
    /// The replica's storage class.
    pub storage_class: Option<String>,
    /// Whether replicas are handed to the destination's owner.
    pub owner_translation: bool,
    /// `ReplicaKmsKeyID`.
    pub kms_key: Option<String>,
    /// Replication Time Control, with its minutes.
    pub time_control: Option<i32>,
    /// Whether replication metrics are on.
    pub metrics: bool,
    /// `SseKmsEncryptedObjects`; `None` where it says nothing.
    pub encrypted_objects: Option<bool>,
    /// Whether changes made to replicas are replicated.
    pub replica_modifications: bool,
    /// Whether objects that were there before are replicated.
    pub existing_objects: bool,
}

impl S3Bucket {
    /// The bucket's `ReplicationConfiguration`; empty where it has none.
    pub async fn replication(&self) -> Result<Vec<NativeRule>, Fault> {
        let site = self.site("read replication configuration");
        let request = self.safe.get_bucket_replication().bucket(&self.bucket);
        let answer = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        match answer.map_err(|error| site.explain(&error)) {
            Err(fault) if fault.code.as_deref() == Some("ReplicationConfigurationNotFoundError") => Ok(Vec::new()),
            answer => {
                let rules = answer?.replication_configuration.map(|all| all.rules).unwrap_or_default();
                Ok(rules.into_iter().map(plain).collect())
            }
        }
    }
}

fn tags(list: impl IntoIterator<Item = Tag>) -> Tags {
    list.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

fn plain(rule: ReplicationRule) -> NativeRule {
    let mut told = NativeRule {
        older_form: rule.filter.is_none(),
        id: rule.id,
        priority: rule.priority,
        enabled: rule.status == ReplicationRuleStatus::Enabled,
        ..NativeRule::default()
    };
    #[allow(deprecated, reason = "rules of the older form are still in buckets")]
    if let Some(prefix) = rule.prefix {
        told.prefix = prefix;
    }
    if let Some(filter) = rule.filter {
        told.prefix = filter.prefix.unwrap_or(told.prefix);
        told.tags = tags(filter.tag);
        if let Some(and) = filter.and {
            told.prefix = and.prefix.unwrap_or(told.prefix);
            told.tags.extend(tags(and.tags.unwrap_or_default()));
        }
    }
    let markers = rule.delete_marker_replication.and_then(|markers| markers.status);
    told.delete_markers = markers.map(|status| status == DeleteMarkerReplicationStatus::Enabled);
    told.existing_objects =
        rule.existing_object_replication.is_some_and(|one| one.status == ExistingObjectReplicationStatus::Enabled);
    if let Some(criteria) = rule.source_selection_criteria {
        told.encrypted_objects =
            criteria.sse_kms_encrypted_objects.map(|one| one.status == SseKmsEncryptedObjectsStatus::Enabled);
        told.replica_modifications =
            criteria.replica_modifications.is_some_and(|one| one.status == ReplicaModificationsStatus::Enabled);
    }
    if let Some(there) = rule.destination {
        told.bucket = there.bucket.rsplit(':').next().unwrap_or_default().to_owned();
        told.account = there.account;
        told.storage_class = there.storage_class.map(|class| class.as_str().to_owned());
        told.owner_translation = there.access_control_translation.is_some();
        told.kms_key = there.encryption_configuration.and_then(|one| one.replica_kms_key_id);
        told.metrics = there.metrics.is_some_and(|metrics| metrics.status == MetricsStatus::Enabled);
        told.time_control = there
            .replication_time
            .filter(|time| time.status == ReplicationTimeStatus::Enabled)
            .map(|time| time.time.and_then(|time| time.minutes).unwrap_or(15));
    }
    told
}
