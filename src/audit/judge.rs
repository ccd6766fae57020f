//! What two looks at an object prove. Pure.

use crate::model::digest::ChecksumType;
use crate::model::object::{Attributes, Encryption, Head, Listed, Tags};
use crate::model::stamp::Stamp;
use crate::plan::decide::plain;
use crate::plan::route::Rule;

/// What is known of an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Equal, by what, and how so.
    Same(&'static str, String),
    /// Not equal.
    Differs(&'static str, String),
    /// Digests over parts differ: not equal if the parts lie alike, else it says nothing.
    ByParts(String),
    /// Nothing comparable: why.
    Unknown(String),
}

/// What the listings alone prove. Equal sizes and equal ETags do: an ETag is an MD5 (of parts' MD5s), or under KMS a
/// random value that no other object has. Different ETags prove nothing, as a listing does not tell of encryption.
pub(super) fn by_listing(source: &Listed, target: &Listed) -> Content {
    if source.size != target.size {
        return sizes_differ(source.size, target.size);
    }
    if source.etag == target.etag {
        return Content::Same("etag", format!("{} bytes, ETag {}", source.size, source.etag));
    }
    Content::Unknown("listings do not tell".to_owned())
}

fn sizes_differ(source: u64, target: u64) -> Content {
    Content::Differs("size", format!("{source} bytes at the source, {target} at the target"))
}

/// What both heads prove. A stamp is believed only where there is nothing to doubt it with.
pub(super) fn by_heads(source: &Head, target: &Head, bucket: &str) -> Content {
    if source.size != target.size {
        return sizes_differ(source.size, target.size);
    }
    if let (Some(one), Some(other)) = (&source.checksum, &target.checksum)
        && one.algorithm == other.algorithm
        && one.kind == other.kind
    {
        let name = one.algorithm.name();
        if one.value == other.value {
            return Content::Same("checksum", format!("{} bytes, {name} {}", source.size, one.value));
        }
        let detail = format!("{name} is {} at the source, {} at the target", one.value, other.value);
        return match one.kind {
            ChecksumType::FullObject => Content::Differs("checksum", detail),
            ChecksumType::Composite => Content::ByParts(detail),
        };
    }
    if source.etag == target.etag {
        return Content::Same("etag", format!("{} bytes, ETag {}", source.size, source.etag));
    }
    if plain(&source.encryption) && plain(&target.encryption) && source.etag.parts() == target.etag.parts() {
        let detail = format!("ETag is {} at the source, {} at the target", source.etag, target.etag);
        return match source.etag.parts() {
            None => Content::Differs("etag", detail),
            Some(_) => Content::ByParts(detail),
        };
    }
    by_stamp(source, target, bucket)
}

/// What the stamp says, where nothing else can be compared.
pub(super) fn by_stamp(source: &Head, target: &Head, bucket: &str) -> Content {
    let incomparable =
        "no checksum of one kind on both sides, and the ETags do not compare (encryption or part layout)";
    match Stamp::read(&target.attributes.metadata).filter(|stamp| stamp.origin == bucket) {
        None => Content::Unknown(format!("{incomparable}; `--deep` reads the bytes")),
        Some(stamp) if stamp.etag == source.etag && stamp.names(&source.version, &source.etag, source.modified) => {
            Content::Same(
                "stamp",
                format!("the replica's stamp names version {} of the source; {incomparable}", stamp.version),
            )
        }
        Some(stamp) => Content::Differs(
            "stamp",
            format!("the replica is of source version {}, the source is at {}", stamp.version, source.version),
        ),
    }
}

/// The respects in which headers, user metadata, lock or key differ from what the rule says; empty for none. The
/// storage class is left to lifecycle rules, which may move it on either side.
pub(super) fn metadata(source: &Head, target: &Head, rule: &Rule) -> Vec<String> {
    let (one, other) = (&source.attributes, &target.attributes);
    let mut found: Vec<String> = headers(one)
        .into_iter()
        .zip(headers(other))
        .filter(|((_, one), (_, other))| one != other)
        .map(|((name, one), (_, other))| {
            format!("{name} is {} at the source, {} at the target", told(one), told(other))
        })
        .collect();
    let (mut ours, mut theirs) = (one.metadata.clone(), other.metadata.clone());
    Stamp::strip(&mut ours);
    Stamp::strip(&mut theirs);
    found.extend(maps_differ("metadata", &ours, &theirs));
    if !one.lock.is_none() && one.lock != other.lock {
        found.push("Object Lock differs".to_owned());
    }
    let key = match &source.encryption {
        Encryption::Kms(key) | Encryption::Dsse(key) => key.as_deref(),
        Encryption::Untold | Encryption::S3 | Encryption::Customer => None,
    };
    if let Some(wanted) = rule.kms_key_for(key) {
        let used = match &target.encryption {
            Encryption::Kms(key) | Encryption::Dsse(key) => key.as_deref(),
            Encryption::Untold | Encryption::S3 | Encryption::Customer => None,
        };
        if used != Some(wanted) {
            found.push(format!("KMS key should be {wanted}, is {}", used.unwrap_or("none")));
        }
    }
    found
}

fn headers(attributes: &Attributes) -> [(&'static str, Option<&String>); 7] {
    [
        ("Content-Type", attributes.content_type.as_ref()),
        ("Content-Encoding", attributes.content_encoding.as_ref()),
        ("Content-Language", attributes.content_language.as_ref()),
        ("Content-Disposition", attributes.content_disposition.as_ref()),
        ("Cache-Control", attributes.cache_control.as_ref()),
        ("Expires", attributes.expires.as_ref()),
        ("website redirect", attributes.website_redirect.as_ref()),
    ]
}

fn told(value: Option<&String>) -> String {
    value.map_or_else(|| "not set".to_owned(), |value| format!("{value:?}"))
}

/// The names under which two maps differ: values may be confidential, so a report names no value.
pub(super) fn maps_differ(what: &str, source: &Tags, target: &Tags) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = source.keys().chain(target.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| match (source.get(name), target.get(name)) {
            (Some(one), Some(other)) if one == other => None,
            (Some(_), Some(_)) => Some(format!("{what} {name:?} has another value")),
            (Some(_), None) => Some(format!("{what} {name:?} is not at the target")),
            (None, _) => Some(format!("{what} {name:?} is only at the target")),
        })
        .collect()
}

#[cfg(test)]
mod tests;
