//! What a queue message says: every form in which S3 events reach a queue (aws-semantics 1). Pure.

use percent_encoding::percent_decode;
use serde_json::Value;

use crate::model::job::{Change, ChangeKind, Origin};
use crate::model::object::{ETag, Key, Sequencer, Timestamp, VersionId};
use crate::model::words::shown;
use crate::ports::{Content, Ignored};

/// SQS's own limit for one message (aws-semantics 7.2); nothing larger can come from it.
const LARGEST_BODY: usize = 1024 * 1024;
/// An SNS topic wraps once; one that feeds another topic, twice. Deeper is not an event but an attack or a loop.
const DEEPEST_WRAPPING: usize = 3;
/// Values of one message: each takes a hundred bytes of memory and more. S3 writes some thirty for a record of some
/// eight hundred bytes, so that even a full message has fewer.
const MOST_VALUES: usize = 65_536;
/// Records that cannot be understood of which the reason is told; the others are counted.
const TOLD: usize = 3;
/// The longest reason, and what one of several may have of it, in characters.
const REASON: usize = 500;
const ONE_OF_SEVERAL: usize = 150;
/// The longest key of S3, bytes of UTF-8.
const LONGEST_KEY: usize = 1024;

/// Reads a message body. `received` stands in where the event tells no time.
///
/// Never fails: what cannot be understood is an answer, with the reason. A message of which only a part can be
/// understood gives both.
#[must_use]
pub fn read(body: &str, source_bucket: &str, received: Timestamp) -> Content {
    if body.len() > LARGEST_BODY {
        let reason = format!("the message has {} bytes, more than the {LARGEST_BODY} a queue can hold", body.len());
        return Content::Unreadable(reason);
    }
    if body.bytes().filter(|byte| *byte == b',').count() >= MOST_VALUES {
        return Content::Unreadable(format!("the message has more than {MOST_VALUES} values: no S3 event has"));
    }
    let reader = Reader { source_bucket, received };
    reader.envelope(body, 0).unwrap_or_else(|reason| Content::Unreadable(shown(&reason, REASON)))
}

/// What one record asks for.
enum Asked {
    Change(Box<Change>),
    Nothing(Ignored),
}

/// What an event name means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Of(ChangeKind),
    Ignored(&'static str),
}

struct Reader<'a> {
    source_bucket: &'a str,
    received: Timestamp,
}

/// The fields of one record, wherever its form keeps them.
struct Fields<'a> {
    bucket: &'a str,
    key: Result<String, String>,
    version: Option<&'a str>,
    sequencer: Option<&'a str>,
    etag: Option<&'a str>,
    size: Option<u64>,
    time: Option<&'a str>,
    meaning: Meaning,
}

impl Reader<'_> {
    fn envelope(&self, body: &str, depth: usize) -> Result<Content, String> {
        let document: Value =
            serde_json::from_str(body).map_err(|error| format!("the message is not JSON: {error}"))?;
        if let Some(records) = document.get("Records") {
            let records = records.as_array().ok_or("\"Records\" is not a list")?;
            return Ok(gather(records.iter().map(|record| self.record(record))));
        }
        if text(&document, "/Event") == Some("s3:TestEvent") {
            return Ok(gather(std::iter::empty()));
        }
        match text(&document, "/Type") {
            Some("Notification") => {
                if depth == DEEPEST_WRAPPING {
                    return Err(format!("the message is wrapped by SNS more than {DEEPEST_WRAPPING} times"));
                }
                let inner = text(&document, "/Message").ok_or("an SNS notification without a \"Message\" text")?;
                return self.envelope(inner, depth + 1);
            }
            Some("SubscriptionConfirmation") => {
                return Err("an SNS topic asks to confirm its subscription: open its SubscribeURL".to_owned());
            }
            Some(_) | None => {}
        }
        if text(&document, "/source") == Some("aws.s3") {
            return Ok(gather(std::iter::once(self.event_bridge(&document))));
        }
        Err("the message is no S3 event: no Records, no SNS notification, no EventBridge event of aws.s3".to_owned())
    }

    /// One entry of `Records`.
    fn record(&self, record: &Value) -> Result<Asked, String> {
        if let Some(source) = text(record, "/eventSource")
            && source.rsplit(':').next() != Some("s3")
        {
            return Err(format!("a record of \"{source}\" is not an S3 event"));
        }
        check_version(record.get("eventVersion"))?;
        let name = text(record, "/eventName").ok_or("a record without eventName")?;
        let name = name.strip_prefix("s3:").unwrap_or(name);
        let object = record.pointer("/s3/object").ok_or_else(|| format!("a record of {name} without s3.object"))?;
        self.ask(Fields {
            bucket: text(record, "/s3/bucket/name").ok_or_else(|| format!("a record of {name} without a bucket"))?,
            key: match text(object, "/key") {
                Some(key) => form_decoded(key),
                None => Err(format!("a record of {name} without a key")),
            },
            version: text(object, "/versionId"),
            sequencer: text(object, "/sequencer"),
            etag: text(object, "/eTag"),
            size: object.get("size").and_then(Value::as_u64),
            time: text(record, "/eventTime"),
            meaning: meaning(name).ok_or_else(|| format!("unknown event \"{name}\""))?,
        })
    }

    /// An event that came through EventBridge: other names, and a key that is not encoded.
    fn event_bridge(&self, event: &Value) -> Result<Asked, String> {
        let name = text(event, "/detail-type").ok_or("an EventBridge event without detail-type")?;
        let detail = event.get("detail").ok_or_else(|| format!("an EventBridge event \"{name}\" without detail"))?;
        let lacks = |what: &str| format!("an EventBridge event \"{name}\" without {what}");
        self.ask(Fields {
            bucket: text(detail, "/bucket/name").ok_or_else(|| lacks("a bucket"))?,
            key: text(detail, "/object/key").map(str::to_owned).ok_or_else(|| lacks("a key")),
            version: text(detail, "/object/version-id"),
            sequencer: text(detail, "/object/sequencer"),
            etag: text(detail, "/object/etag"),
            size: detail.pointer("/object/size").and_then(Value::as_u64),
            time: text(event, "/time"),
            meaning: event_bridge_meaning(name, text(detail, "/reason"), text(detail, "/deletion-type"))
                .ok_or_else(|| format!("unknown EventBridge event \"{name}\""))?,
        })
    }

    fn ask(&self, fields: Fields<'_>) -> Result<Asked, String> {
        if fields.bucket != self.source_bucket {
            let (got, want) = (fields.bucket, self.source_bucket);
            return Err(format!("the event is of bucket \"{got}\", but the source is \"{want}\""));
        }
        let key = fields.key?;
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(format!("a key of {} bytes: S3 keys have 1 to {LONGEST_KEY}", key.len()));
        }
        let key = Key::new(key);
        let version = fields.version.filter(|id| !id.is_empty()).map_or_else(VersionId::null, VersionId::new);
        let kind = match fields.meaning {
            Meaning::Of(kind) => kind,
            Meaning::Ignored(reason) => {
                return Ok(Asked::Nothing(Ignored { key: Some(key), version, reason: reason.to_owned() }));
            }
        };
        let hexadecimal = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        Ok(Asked::Change(Box::new(Change {
            bucket: fields.bucket.to_owned(),
            key,
            kind,
            version,
            // Anything but hex digits would not compare as a sequencer.
            sequencer: fields.sequencer.filter(hexadecimal).map(Sequencer::new),
            etag: fields.etag.map(|tag| tag.trim_matches('"')).filter(|tag| !tag.is_empty()).map(ETag::new),
            size: fields.size,
            changed: fields.time.and_then(Timestamp::parse_rfc3339).unwrap_or(self.received),
            origin: Origin::Event,
        })))
    }
}

/// Puts the records of one message together. One that nothing of can be understood is unreadable as a whole.
fn gather(records: impl Iterator<Item = Result<Asked, String>>) -> Content {
    let (mut changes, mut ignored, mut unreadable, mut further) = (Vec::new(), Vec::new(), Vec::new(), 0_usize);
    for record in records {
        match record {
            Ok(Asked::Change(change)) => changes.push(*change),
            Ok(Asked::Nothing(reason)) => ignored.push(reason),
            Err(reason) if unreadable.len() < TOLD => unreadable.push(shown(&reason, ONE_OF_SEVERAL)),
            Err(_) => further += 1,
        }
    }
    if further > 0 {
        unreadable.push(format!("{further} further records cannot be understood either"));
    }
    if changes.is_empty() && ignored.is_empty() && !unreadable.is_empty() {
        return Content::Unreadable(unreadable.join("; "));
    }
    Content::Changes { changes, ignored, unreadable }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// Equality on the major number, any minor one: fields are only ever added (aws-semantics 1.3).
fn check_version(version: Option<&Value>) -> Result<(), String> {
    match version {
        None => Ok(()),
        Some(Value::String(version)) if version.split('.').next() == Some("2") => Ok(()),
        Some(version) => Err(format!("event version {version} is not 2.x")),
    }
}

/// Keys come form-encoded: `+` is a space, then percent-encoding, once (aws-semantics 1.7).
fn form_decoded(raw: &str) -> Result<String, String> {
    let spaced: Vec<u8> = raw.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    let mut rest = spaced.as_slice();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if !matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()) {
            return Err(format!("the key \"{raw}\" has a % that is not followed by two hex digits"));
        }
    }
    match percent_decode(&spaced).decode_utf8() {
        Ok(key) => Ok(key.into_owned()),
        Err(_) => Err(format!("the key \"{raw}\" does not decode to UTF-8")),
    }
}

const PERMANENT_DELETE: &str = "a permanent delete of a version is never replicated";
const LIFECYCLE: &str = "lifecycle deletes are not replicated, as native replication does not";
const TRANSITION: &str = "a change of storage class by lifecycle or tiering is each bucket's own";
const RESTORE: &str = "a restore that has begun or run out changes no object";
const REPLICATION: &str = "it tells about native replication, not about an object";
const REDUCED_REDUNDANCY: &str = "the source has lost the object: there is nothing to copy";
const ANNOTATION: &str = "annotations are not carried yet";

/// What an event name without its `s3:` means; `None` for one that is not known (aws-semantics 1.4).
fn meaning(name: &str) -> Option<Meaning> {
    let (group, action) = name.split_once(':').unwrap_or((name, ""));
    Some(match (group, action) {
        ("ObjectCreated", _) => Meaning::Of(ChangeKind::Write),
        ("ObjectRemoved", "DeleteMarkerCreated") => Meaning::Of(ChangeKind::DeleteMarker),
        ("ObjectRemoved", "Delete") => Meaning::Ignored(PERMANENT_DELETE),
        ("LifecycleExpiration", _) => Meaning::Ignored(LIFECYCLE),
        ("LifecycleTransition" | "IntelligentTiering", _) => Meaning::Ignored(TRANSITION),
        ("ObjectRestore", "Completed") => Meaning::Of(ChangeKind::Restored),
        ("ObjectRestore", "Post" | "Delete") => Meaning::Ignored(RESTORE),
        ("Replication", _) => Meaning::Ignored(REPLICATION),
        ("ReducedRedundancyLostObject", _) => Meaning::Ignored(REDUCED_REDUNDANCY),
        ("ObjectTagging", _) | ("ObjectAcl" | "ObjectRetention", "Put") => Meaning::Of(ChangeKind::Attributes),
        ("ObjectAnnotation", _) => Meaning::Ignored(ANNOTATION),
        _ => return None,
    })
}

/// What an EventBridge `detail-type` means; `None` for one that is not known (aws-semantics 1.6).
fn event_bridge_meaning(name: &str, reason: Option<&str>, deletion: Option<&str>) -> Option<Meaning> {
    Some(match name {
        "Object Created" => Meaning::Of(ChangeKind::Write),
        "Object Deleted" if reason == Some("Lifecycle Expiration") => Meaning::Ignored(LIFECYCLE),
        "Object Deleted" => match deletion {
            Some("Delete Marker Created") => Meaning::Of(ChangeKind::DeleteMarker),
            Some("Permanently Deleted") => Meaning::Ignored(PERMANENT_DELETE),
            Some(_) | None => return None,
        },
        "Object Restore Completed" => Meaning::Of(ChangeKind::Restored),
        "Object Restore Initiated" | "Object Restore Expired" => Meaning::Ignored(RESTORE),
        "Object Storage Class Changed" | "Object Access Tier Changed" => Meaning::Ignored(TRANSITION),
        "Object Tags Added" | "Object Tags Deleted" | "Object ACL Updated" => Meaning::Of(ChangeKind::Attributes),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
