//! What S3 stores: keys, versions, attributes, and what a look at them can find.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::digest::Checksum;

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z, as persisted and compared everywhere.
///
/// S3's `Last-Modified` header has whole seconds while some listings carry milliseconds: compare those two with
/// [`Timestamp::same_second`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds from `earlier` to `self`; zero when `earlier` is later (clocks differ between machines).
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This time plus a duration, saturating.
    #[must_use]
    pub fn plus(self, wait: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This time cut to whole seconds, the grain of an HTTP date.
    #[must_use]
    pub fn whole_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// RFC 3339 in UTC, with milliseconds only where there are any: `2026-11-21T12:30:29Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        i64::try_from(self.0)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .map_or_else(|| format!("{}ms", self.0), |time| time.to_string())
    }

    /// Reads RFC 3339; `None` for anything else and for times before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self(u64::try_from(time.as_millisecond()).ok()?))
    }

    /// Whether both fall into one second, which is all that an HTTP date can tell.
    #[must_use]
    pub fn same_second(self, other: Self) -> bool {
        self.whole_seconds() == other.whole_seconds()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text as it is.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

text!(
    /// An object key, decoded: 1 to 1,024 bytes of UTF-8. Never the form-encoded spelling of an event.
    Key
);
text!(
    /// A version id. `null` names the one version of a bucket without versioning, and the version written before
    /// versioning was enabled or while it was suspended.
    VersionId
);
text!(
    /// An ETag without its quotes.
    ETag
);
text!(
    /// The id of a rule, as configured.
    RuleId
);
text!(
    /// The name of a target, as configured.
    TargetId
);
text!(
    /// The `sequencer` of an event: hex digits that order the changes of one key.
    Sequencer
);

impl VersionId {
    /// The null version.
    #[must_use]
    pub fn null() -> Self {
        Self::new("null")
    }

    /// No version in particular: a listing of current objects tells no ids, so whichever is current is meant.
    #[must_use]
    pub fn unnamed() -> Self {
        Self::new("")
    }

    /// Whether whichever version is current is meant.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        self.as_str().is_empty()
    }

    /// Whether this is the null version, whose content may change under the same id.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }
}

impl ETag {
    /// The number of parts that a multipart ETag (`…-N`) tells; `None` for a single-part one.
    #[must_use]
    pub fn parts(&self) -> Option<u32> {
        let (_, count) = self.as_str().rsplit_once('-')?;
        count.parse().ok()
    }
}

impl Sequencer {
    /// Orders two sequencers of one key: the shorter is padded with zeros on the right, case is ignored
    /// (aws-semantics 1.5). Later changes compare greater.
    #[must_use]
    pub fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let length = self.as_str().len().max(other.as_str().len());
        let padded = |text: &str| {
            let mut bytes = text.to_ascii_uppercase().into_bytes();
            bytes.resize(length, b'0');
            bytes
        };
        padded(self.as_str()).cmp(&padded(other.as_str()))
    }
}

/// Object tags: at most ten on S3.
pub type Tags = BTreeMap<String, String>;

/// Object Lock settings of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: Option<String>,
    /// Until when the version is retained.
    pub retain_until: Option<Timestamp>,
    /// `Some(true)` for a legal hold, `Some(false)` for an explicit `OFF`, `None` where nothing was told.
    pub legal_hold: Option<bool>,
}

impl Lock {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.mode.is_none() && self.retain_until.is_none() && self.legal_hold != Some(true)
    }
}

/// Everything a writer attaches to an object besides its bytes, tags and ACL (P6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without the transport's own `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, verbatim: S3 keeps any text.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// `x-amz-meta-*`, names in lower case without the prefix, values as S3 spells them (RFC 2047 left alone).
    pub metadata: BTreeMap<String, String>,
    /// `x-amz-storage-class`; `None` is `STANDARD`.
    pub storage_class: Option<String>,
    /// Object Lock.
    pub lock: Lock,
}

/// How the stored object is encrypted, as the store tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Nothing told.
    #[default]
    Untold,
    /// SSE-S3 (`AES256`).
    S3,
    /// SSE-KMS (`aws:kms`) with the key's id or ARN, where told.
    Kms(Option<String>),
    /// Double-layer SSE-KMS (`aws:kms:dsse`).
    Dsse(Option<String>),
    /// SSE-C: the key is with the client.
    Customer,
}

/// What HEAD, or the headers of a GET, tell of one object version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The version; null where the bucket has no versioning.
    pub version: VersionId,
    /// The ETag.
    pub etag: ETag,
    /// Length of the whole object in bytes, also when a range was read.
    pub size: u64,
    /// `Last-Modified`, whole seconds.
    pub modified: Timestamp,
    /// Headers, metadata, class and lock.
    pub attributes: Attributes,
    /// Encryption at rest.
    pub encryption: Encryption,
    /// The stored checksum, where there is one and it was asked for.
    pub checksum: Option<Checksum>,
    /// `x-amz-tagging-count`; `None` where not told, which on a GET means none and on a HEAD nothing at all.
    pub tag_count: Option<u32>,
}

/// What a look at one key or version finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An object.
    Object(Box<Head>),
    /// A delete marker: the current version is one, or the version asked for is one.
    DeleteMarker,
    /// Nothing under that key or version.
    Missing,
}

/// One line of a version listing, in the listing's own order: keys ascending, newest version first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEntry {
    /// The key.
    pub key: Key,
    /// The version id.
    pub version: VersionId,
    /// Whether this is the current version of the key.
    pub latest: bool,
    /// When it was stored (for a multipart object: when its upload was initiated).
    pub modified: Timestamp,
    /// ETag and size; `None` for a delete marker.
    pub object: Option<(ETag, u64)>,
    /// The storage class; `None` is `STANDARD`.
    pub storage_class: Option<String>,
}

/// A bucket's versioning state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// Never enabled.
    Off,
    /// On.
    Enabled,
    /// Enabled once, then suspended: writes go to the null version.
    Suspended,
}

/// The order in which a store lists its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyOrder {
    /// By the bytes of their UTF-8, as S3 does.
    #[default]
    Bytes,
    /// Directory by directory, as stores on top of a file system do: as by bytes, but `/` comes before all else.
    Paths,
}

impl KeyOrder {
    /// Which of two keys is listed first.
    #[must_use]
    pub fn compare(self, one: &str, other: &str) -> std::cmp::Ordering {
        match self {
            Self::Bytes => one.cmp(other),
            Self::Paths => {
                let equal = one.bytes().zip(other.bytes()).take_while(|(left, right)| left == right).count();
                let (one, other) = (one.as_bytes().get(equal..), other.as_bytes().get(equal..));
                let first = |rest: Option<&[u8]>| rest.and_then(<[u8]>::first).copied().map(Self::path_rank);
                first(one).cmp(&first(other))
            }
        }
    }

    fn path_rank(byte: u8) -> u16 {
        if byte == b'/' { 0 } else { u16::from(byte) + 1 }
    }
}

/// One line of an object listing: the current version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// The ETag; whether it is made from the plain bytes, a listing does not tell.
    pub etag: ETag,
    /// When it was stored.
    pub modified: Timestamp,
    /// The storage class; `None` is `STANDARD`.
    pub storage_class: Option<String>,
    /// Algorithm and kind of the stored checksum, where told: never its value.
    pub checksum: Option<(super::digest::Algorithm, super::digest::ChecksumType)>,
}

#[cfg(test)]
mod tests {
    use super::KeyOrder;
    use proptest::prelude::*;

    proptest! {
        /// By directories is by bytes, with `/` before everything.
        #[test]
        fn orders_of_keys(one in "[a/.é\\-]{0,6}", other in "[a/.é\\-]{0,6}") {
            prop_assert_eq!(KeyOrder::Bytes.compare(&one, &other), one.as_bytes().cmp(other.as_bytes()));
            let ranked = |key: &str| key.replace('/', "\0").into_bytes();
            prop_assert_eq!(KeyOrder::Paths.compare(&one, &other), ranked(&one).cmp(&ranked(&other)));
        }
    }
}
