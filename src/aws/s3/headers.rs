//! Between S3's headers and our own words, both ways.

use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::exchange::Header;
use crate::aws::fault::Site;
use crate::model::digest::{Algorithm, Checksum, ChecksumType};
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{Attributes, ETag, Encryption, Head, Lock, Timestamp, VersionId};
use crate::ports::{NewObject, Sealing, UploadChecksum, Written};

const METADATA: &str = "x-amz-meta-";

/// What RFC 3986 calls unreserved stays; everything else is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// In a path, the separators stay too.
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// The algorithms in the order in which a checksum is looked for.
pub(super) const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Crc64Nvme, Algorithm::Crc32c, Algorithm::Crc32, Algorithm::Sha256, Algorithm::Sha1];

/// A name or value of a query, percent-encoded.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A key as part of a path, percent-encoded.
pub(super) fn encode_path(key: &str) -> String {
    utf8_percent_encode(key, ENCODED_IN_PATH).to_string()
}

/// The header that carries a checksum.
pub(super) fn checksum_header(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Crc32 => "x-amz-checksum-crc32",
        Algorithm::Crc32c => "x-amz-checksum-crc32c",
        Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        Algorithm::Sha1 => "x-amz-checksum-sha1",
        Algorithm::Sha256 => "x-amz-checksum-sha256",
    }
}

/// S3's name of a checksum type.
pub(super) fn type_name(kind: ChecksumType) -> &'static str {
    match kind {
        ChecksumType::FullObject => "FULL_OBJECT",
        ChecksumType::Composite => "COMPOSITE",
    }
}

/// The algorithm of that name, in any case; `None` for one that we cannot compute.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    ALGORITHMS.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
}

/// The checksum type of that name.
pub(super) fn checksum_type(name: &str) -> Option<ChecksumType> {
    [ChecksumType::FullObject, ChecksumType::Composite]
        .into_iter()
        .find(|kind| type_name(*kind).eq_ignore_ascii_case(name))
}

/// A checksum as told. `-N` ends a composite one, whatever type is told beside it: some stores call all their checksums
/// full.
pub(super) fn checksum_told(algorithm: Algorithm, kind: Option<&str>, value: &str) -> Checksum {
    let kind = if value.contains('-') {
        ChecksumType::Composite
    } else {
        kind.and_then(checksum_type).unwrap_or(ChecksumType::FullObject)
    };
    Checksum { algorithm, kind, value: value.to_owned() }
}

/// The checksum that an answer's headers carry.
pub(super) fn checksum(headers: &Headers) -> Option<Checksum> {
    let kind = headers.get("x-amz-checksum-type");
    ALGORITHMS.into_iter().find_map(|algorithm| {
        let value = headers.get(checksum_header(algorithm))?;
        Some(checksum_told(algorithm, kind, value))
    })
}

/// What an answer to CreateMultipartUpload says about checksums.
pub(super) fn upload_checksum(headers: &Headers) -> Option<UploadChecksum> {
    let algorithm = algorithm(headers.get("x-amz-checksum-algorithm")?)?;
    // Without a type it is the API's default: CRC64NVME is always over the full object, the others are composite
    // (aws-semantics 4.2).
    let default = if algorithm == Algorithm::Crc64Nvme { ChecksumType::FullObject } else { ChecksumType::Composite };
    let kind = headers.get("x-amz-checksum-type").and_then(checksum_type).unwrap_or(default);
    Some(UploadChecksum { algorithm, kind })
}

/// An ETag without its quotes.
pub(super) fn etag(text: &str) -> ETag {
    ETag::new(text.trim().trim_start_matches("W/").trim_matches('"'))
}

/// An ETag as a condition spells it.
pub(super) fn quoted(etag: &ETag) -> String {
    format!("\"{}\"", etag.as_str())
}

/// First and last byte as a `Range` header spells them.
pub(super) fn range((first, last): (u64, u64)) -> String {
    format!("bytes={first}-{last}")
}

/// How an object is encrypted, as headers tell.
pub(super) fn encryption(headers: &Headers) -> Encryption {
    if headers.contains_key("x-amz-server-side-encryption-customer-algorithm") {
        return Encryption::Customer;
    }
    let key = || headers.get("x-amz-server-side-encryption-aws-kms-key-id").map(str::to_owned);
    match headers.get("x-amz-server-side-encryption") {
        Some("AES256") => Encryption::S3,
        Some("aws:kms") => Encryption::Kms(key()),
        Some("aws:kms:dsse") => Encryption::Dsse(key()),
        Some(_) | None => Encryption::Untold,
    }
}

/// Length in bytes of the whole object: behind the slash of `Content-Range`, else `Content-Length`.
pub(super) fn whole_length(headers: &Headers) -> Option<u64> {
    match headers.get("content-range") {
        Some(range) => range.rsplit_once('/')?.1.trim().parse().ok(),
        None => content_length(headers),
    }
}

/// Length in bytes of the body.
pub(super) fn content_length(headers: &Headers) -> Option<u64> {
    headers.get("content-length")?.trim().parse().ok()
}

/// The facts of an object version that the headers of a HEAD or GET tell.
pub(super) fn head(headers: &Headers, site: Site) -> Result<Head, Fault> {
    let missing = |name: &str| site.fault(FaultKind::Refused, format!("the store's answer has no readable {name}"));
    let modified = headers.get("last-modified").and_then(http_date).ok_or_else(|| missing("Last-Modified"))?;
    Ok(Head {
        version: version(headers).unwrap_or_else(VersionId::null),
        etag: headers.get("etag").map(etag).ok_or_else(|| missing("ETag"))?,
        size: whole_length(headers).ok_or_else(|| missing("Content-Length"))?,
        modified,
        attributes: attributes(headers, site)?,
        encryption: encryption(headers),
        checksum: checksum(headers),
        tag_count: headers.get("x-amz-tagging-count").and_then(|count| count.trim().parse().ok()),
    })
}

/// The version id, where told.
pub(super) fn version(headers: &Headers) -> Option<VersionId> {
    headers.get("x-amz-version-id").filter(|id| !id.is_empty()).map(VersionId::new)
}

fn http_date(text: &str) -> Option<Timestamp> {
    let time = DateTime::from_str(text, Format::HttpDate).ok()?;
    u64::try_from(time.to_millis().ok()?).ok().map(Timestamp)
}

/// The storage class told, where it is not the usual one; some stores tell an empty one.
pub(super) fn storage_class(text: &str) -> Option<String> {
    (text != "STANDARD" && !text.is_empty()).then(|| text.to_owned())
}

fn attributes(headers: &Headers, site: Site) -> Result<Attributes, Fault> {
    let text = |name: &str| headers.get(name).map(str::to_owned);
    Ok(Attributes {
        content_type: text("content-type"),
        content_encoding: headers.get("content-encoding").and_then(without_chunking),
        content_language: text("content-language"),
        content_disposition: text("content-disposition"),
        cache_control: text("cache-control"),
        expires: text("expires"),
        website_redirect: text("x-amz-website-redirect-location"),
        metadata: metadata(headers, site)?,
        storage_class: headers.get("x-amz-storage-class").and_then(storage_class),
        lock: Lock {
            mode: text("x-amz-object-lock-mode"),
            retain_until: headers.get("x-amz-object-lock-retain-until-date").and_then(Timestamp::parse_rfc3339),
            legal_hold: headers.get("x-amz-object-lock-legal-hold").map(|state| state == "ON"),
        },
    })
}

/// `aws-chunked` is how bytes once came to the store, not how they are stored; some stores keep it.
fn without_chunking(encoding: &str) -> Option<String> {
    if !encoding.to_ascii_lowercase().contains("aws-chunked") {
        return Some(encoding.to_owned());
    }
    let kept: Vec<&str> = encoding
        .split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty() && !token.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

fn metadata(headers: &Headers, site: Site) -> Result<std::collections::BTreeMap<String, String>, Fault> {
    if let Some(missing) = headers.get("x-amz-missing-meta").filter(|count| *count != "0") {
        let detail =
            format!("{missing} entries of its user metadata cannot be read over HTTP, so a copy would lose them");
        return Err(site.fault(FaultKind::Ineligible, detail));
    }
    let mut metadata = std::collections::BTreeMap::<String, String>::new();
    for (name, value) in headers.iter_bytes() {
        let Some(name) = name.strip_prefix(METADATA) else { continue };
        let Ok(value) = std::str::from_utf8(value) else {
            let detail = format!("its user metadata entry \"{name}\" is not UTF-8");
            return Err(site.fault(FaultKind::Ineligible, detail));
        };
        let entry = metadata.entry(name.to_owned()).or_default();
        // S3 joins entries of one name with a comma.
        if !entry.is_empty() {
            entry.push(',');
        }
        entry.push_str(value);
    }
    Ok(metadata)
}

/// What the headers of an answer to a write tell. `etag` where the answer's body tells it.
pub(super) fn written(headers: &Headers, told: Option<&str>, site: Site) -> Result<Written, Fault> {
    let Some(tag) = told.or_else(|| headers.get("etag")) else {
        return Err(site.fault(FaultKind::Transient, "the store's answer to the write has no ETag"));
    };
    Ok(Written {
        etag: etag(tag),
        version: version(headers),
        encryption: encryption(headers),
        checksum: checksum(headers),
    })
}

/// All headers that make a new object what it is, the same for PutObject, CreateMultipartUpload and CopyObject.
pub(super) fn of_new_object(object: &NewObject, site: Site) -> Result<Vec<Header>, Fault> {
    let attributes = &object.attributes;
    let lock = &attributes.lock;
    let mut headers: Vec<Header> = [
        ("content-type", attributes.content_type.clone()),
        ("content-encoding", attributes.content_encoding.clone()),
        ("content-language", attributes.content_language.clone()),
        ("content-disposition", attributes.content_disposition.clone()),
        ("cache-control", attributes.cache_control.clone()),
        ("expires", attributes.expires.clone()),
        ("x-amz-website-redirect-location", attributes.website_redirect.clone()),
        ("x-amz-storage-class", attributes.storage_class.clone()),
        ("x-amz-object-lock-mode", lock.mode.clone()),
        ("x-amz-object-lock-retain-until-date", lock.retain_until.map(Timestamp::rfc3339)),
        // An explicit OFF is what every new object has; sent to a bucket without Object Lock it would be refused.
        ("x-amz-object-lock-legal-hold", (lock.legal_hold == Some(true)).then(|| "ON".to_owned())),
        ("x-amz-tagging", tagging(object)),
        ("x-amz-acl", object.owner_full_control.then(|| "bucket-owner-full-control".to_owned())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.into(), value?)))
    .collect();
    headers.extend(sealing(&object.sealing));
    headers.extend(attributes.metadata.iter().map(|(name, value)| (format!("{METADATA}{name}").into(), value.clone())));
    match headers.iter().find(|(name, value)| !sendable(name, value)) {
        None => Ok(headers),
        Some((name, _)) => {
            let detail = format!("its attribute \"{name}\" has a name or value that no HTTP header can carry");
            Err(site.fault(FaultKind::Ineligible, detail))
        }
    }
}

fn tagging(object: &NewObject) -> Option<String> {
    let pairs: Vec<String> =
        object.tags.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

fn sealing(sealing: &Sealing) -> Vec<Header> {
    let (kind, key, bucket_key) = match sealing {
        Sealing::BucketDefault => return Vec::new(),
        Sealing::Kms(key) => ("aws:kms", key, true),
        // Bucket Keys do not exist for double-layer encryption.
        Sealing::Dsse(key) => ("aws:kms:dsse", key, false),
    };
    let mut headers = vec![
        ("x-amz-server-side-encryption".into(), kind.to_owned()),
        ("x-amz-server-side-encryption-aws-kms-key-id".into(), key.clone()),
    ];
    if bucket_key {
        headers.push(("x-amz-server-side-encryption-bucket-key-enabled".into(), "true".to_owned()));
    }
    headers
}

/// Whether HTTP can carry this header: the name a token, the value without control characters.
fn sendable(name: &str, value: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty()
        && name.bytes().all(token)
        && value.bytes().all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f))
}

#[cfg(test)]
#[path = "headers/tests.rs"]
mod tests;
