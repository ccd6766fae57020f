//! Which rule claims a key, and what a rule says. The vocabulary of native ReplicationConfiguration.

use std::collections::BTreeMap;

use crate::model::object::{RuleId, Tags, TargetId};

/// How much of an object's past a rule brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Every version, in source order.
    All,
    /// Only the newest.
    Latest,
}

/// One replication rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// Where to.
    pub target: TargetId,
    /// For one target the highest matching priority wins.
    pub priority: i64,
    /// The keys it claims begin so; empty for all.
    pub prefix: String,
    /// The object must have all of these tags; empty for any.
    pub tags: Tags,
    /// Whether delete markers are replicated.
    pub delete_markers: bool,
    /// A disabled rule claims nothing.
    pub enabled: bool,
    /// All versions or the newest.
    pub history: History,
    /// The replica's storage class; `None` for the source object's.
    pub storage_class: Option<String>,
    /// The replica's KMS key by full ARN; `None` for the target bucket's own encryption.
    pub kms_key: Option<String>,
    /// One target key per source key (full ARNs); looked up before `kms_key`.
    pub kms_map: BTreeMap<String, String>,
    /// Whether to hand the replica to the target bucket's owner.
    pub owner_full_control: bool,
    /// Whether to copy ACL grants.
    pub acl: bool,
    /// Put before the source key to make the target key; empty for the same key.
    pub target_prefix: String,
    /// Whether replicas carry the stamp.
    pub stamp: bool,
}
