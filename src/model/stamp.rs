//! The stamp: provenance that each replica carries in its user metadata (DESIGN 3.1).

use std::collections::BTreeMap;

use super::object::{ETag, Head, Timestamp, VersionId};

const VERSION: &str = "repl-source-version";
const ETAG: &str = "repl-source-etag";
const MODIFIED: &str = "repl-source-modified";
const ORIGIN: &str = "repl-origin";

/// S3 counts the UTF-8 bytes of all user metadata names and values, 2 KB in all (aws-semantics 3.1).
pub const USER_METADATA_LIMIT: usize = 2048;

/// Which source version a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The source version id.
    pub version: VersionId,
    /// The source ETag.
    pub etag: ETag,
    /// The source's `Last-Modified`, whole seconds.
    pub modified: Timestamp,
    /// The source bucket.
    pub origin: String,
}

impl Stamp {
    /// The stamp of a source version.
    #[must_use]
    pub fn of(head: &Head, origin: &str) -> Self {
        Self {
            version: head.version.clone(),
            etag: head.etag.clone(),
            modified: Timestamp(head.modified.whole_seconds() * 1000),
            origin: origin.to_owned(),
        }
    }

    /// Reads the stamp from user metadata; `None` where it is absent or not whole.
    #[must_use]
    pub fn read(metadata: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            version: VersionId::new(metadata.get(VERSION)?),
            etag: ETag::new(metadata.get(ETAG)?),
            modified: Timestamp::parse_rfc3339(metadata.get(MODIFIED)?)?,
            origin: metadata.get(ORIGIN)?.clone(),
        })
    }

    /// Writes the stamp into user metadata if all of it then still fits S3's limit; says whether it did.
    pub fn write(&self, metadata: &mut BTreeMap<String, String>) -> bool {
        let mut stamped = metadata.clone();
        self.put(&mut stamped);
        let size: usize = stamped.iter().map(|(name, value)| name.len() + value.len()).sum();
        let fits = size <= USER_METADATA_LIMIT;
        if fits {
            *metadata = stamped;
        }
        fits
    }

    /// Puts the stamp into metadata without asking whether it fits.
    pub fn put(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert(VERSION.to_owned(), self.version.as_str().to_owned());
        metadata.insert(ETAG.to_owned(), self.etag.as_str().to_owned());
        metadata.insert(MODIFIED.to_owned(), self.modified.rfc3339());
        metadata.insert(ORIGIN.to_owned(), self.origin.clone());
    }

    /// Takes every stamp entry out, to compare what the user wrote.
    pub fn strip(metadata: &mut BTreeMap<String, String>) {
        for name in [VERSION, ETAG, MODIFIED, ORIGIN] {
            metadata.remove(name);
        }
    }

    /// Whether a replica with this stamp holds exactly that source version: for the null version, whose content may
    /// change under one id, ETag and time must agree too.
    #[must_use]
    pub fn names(&self, version: &VersionId, etag: &ETag, modified: Timestamp) -> bool {
        self.version == *version && (!version.is_null() || (self.etag == *etag && self.modified.same_second(modified)))
    }
}
