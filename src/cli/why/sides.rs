//! What stands on each side, as JSON.

use serde_json::{Value, json};

use crate::audit::explain::AtTarget;
use crate::config::Config;
use crate::model::digest::ChecksumType;
use crate::model::fault::Fault;
use crate::model::object::{Encryption, Found, Head, Key, Timestamp};
use crate::model::stamp::Stamp;

/// The source's side.
pub(super) fn source(config: &Config, key: &Key, found: &Result<Found, Fault>) -> Value {
    let mut side = side(&config.source.bucket, key, found);
    if let Some(fields) = side.as_object_mut() {
        fields.insert("region".to_owned(), json!(config.source.connection.region));
    }
    side
}

/// A target's side, compared with the source.
pub(super) fn target(config: &Config, at: &AtTarget) -> Value {
    let target = config.target(&at.target);
    let mut side = side(target.map_or("", |target| &target.bucket), &at.target_key, &at.found);
    if let Some(fields) = side.as_object_mut() {
        fields.insert("region".to_owned(), json!(target.map(|target| &target.connection.region)));
        fields.insert("name".to_owned(), json!(at.target.as_str()));
        fields.insert("verdict".to_owned(), json!(at.comparison.verdict.map(|verdict| verdict.name())));
        fields.insert("evidence".to_owned(), json!(at.comparison.evidence));
        fields.insert("differences".to_owned(), json!(at.comparison.differences));
    }
    side
}

/// One side; every field is there, `null` where it is not known or there is none.
fn side(bucket: &str, key: &Key, found: &Result<Found, Fault>) -> Value {
    let (kind, head, fault) = match found {
        Ok(Found::Object(head)) => (Some("object"), Some(head.as_ref()), None),
        Ok(Found::DeleteMarker) => (Some("delete-marker"), None, None),
        Ok(Found::Missing) => (Some("missing"), None, None),
        Err(fault) => (None, None, Some(fault.to_string())),
    };
    let of_head = |field: &dyn Fn(&Head) -> Value| head.map_or(Value::Null, field);
    json!({
        "bucket": bucket,
        "key": key.as_str(),
        "kind": kind,
        "version": of_head(&|head| json!(head.version.as_str())),
        "etag": of_head(&|head| json!(head.etag.as_str())),
        "size": of_head(&|head| json!(head.size)),
        "modified": of_head(&|head| json!(head.modified.rfc3339())),
        "storage_class": of_head(&|head| json!(head.attributes.storage_class.as_deref().unwrap_or("STANDARD"))),
        "encryption": of_head(&|head| encryption(&head.encryption)),
        "checksum": of_head(&checksum),
        "content_type": of_head(&|head| json!(head.attributes.content_type)),
        "metadata": of_head(&|head| json!(head.attributes.metadata.keys().collect::<Vec<_>>())),
        "retain_until": of_head(&|head| json!(head.attributes.lock.retain_until.map(Timestamp::rfc3339))),
        "legal_hold": of_head(&|head| json!(head.attributes.lock.legal_hold)),
        "stamp": of_head(&stamp),
        "fault": fault,
    })
}

fn encryption(encryption: &Encryption) -> Value {
    let (kind, key) = match encryption {
        Encryption::Untold => (None, None),
        Encryption::S3 => (Some("SSE-S3"), None),
        Encryption::Kms(key) => (Some("SSE-KMS"), key.as_ref()),
        Encryption::Dsse(key) => (Some("DSSE-KMS"), key.as_ref()),
        Encryption::Customer => (Some("SSE-C"), None),
    };
    json!({"kind": kind, "key": key})
}

fn checksum(head: &Head) -> Value {
    let Some(checksum) = &head.checksum else { return Value::Null };
    let kind = match checksum.kind {
        ChecksumType::FullObject => "FULL_OBJECT",
        ChecksumType::Composite => "COMPOSITE",
    };
    json!({"algorithm": checksum.algorithm.name(), "type": kind, "value": checksum.value})
}

fn stamp(head: &Head) -> Value {
    let Some(stamp) = Stamp::read(&head.attributes.metadata) else { return Value::Null };
    json!({"version": stamp.version.as_str(), "etag": stamp.etag.as_str(), "modified": stamp.modified.rfc3339(),
        "origin": stamp.origin})
}
