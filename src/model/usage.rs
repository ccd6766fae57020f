//! What a piece of work uses that a store bills: requests, bytes that leave a region, key uses, stored bytes.

use std::collections::BTreeMap;

use super::object::TargetId;

/// Whose side something is billed at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The source bucket's.
    Source,
    /// That target bucket's.
    Target(TargetId),
}

/// A kind of request to S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    /// A page of objects, versions or parts.
    List,
    /// `HeadObject`.
    Head,
    /// `GetObject`, whole or a range.
    Get,
    /// Tags, ACL, attributes, or a bucket's setting.
    GetAttributes,
    /// `PutObject`.
    Put,
    /// `CopyObject`.
    Copy,
    /// `CreateMultipartUpload`.
    Create,
    /// `UploadPart`.
    Part,
    /// `UploadPartCopy`.
    PartCopy,
    /// `CompleteMultipartUpload`.
    Complete,
    /// Tags, ACL, retention or legal hold of an object.
    PutAttributes,
    /// `DeleteObject`, or the end of an upload.
    Delete,
}

/// Which price list a request is billed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// "PUT, COPY, POST, LIST".
    Write,
    /// "GET and all others".
    Read,
    /// DELETE and CANCEL.
    Free,
}

impl Request {
    /// All of them, for tables.
    pub const ALL: [Self; 12] = [
        Self::List,
        Self::Head,
        Self::Get,
        Self::GetAttributes,
        Self::Put,
        Self::Copy,
        Self::Create,
        Self::Part,
        Self::PartCopy,
        Self::Complete,
        Self::PutAttributes,
        Self::Delete,
    ];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Head => "head",
            Self::Get => "get",
            Self::GetAttributes => "get_attributes",
            Self::Put => "put",
            Self::Copy => "copy",
            Self::Create => "create_upload",
            Self::Part => "upload_part",
            Self::PartCopy => "copy_part",
            Self::Complete => "complete_upload",
            Self::PutAttributes => "put_attributes",
            Self::Delete => "delete",
        }
    }

    /// How it is billed (S3's price page: "PUT, COPY, POST, LIST", "GET, SELECT, and all other requests"; DELETE and
    /// CANCEL are free).
    #[must_use]
    pub fn tier(self) -> Tier {
        match self {
            Self::List
            | Self::Put
            | Self::Copy
            | Self::Create
            | Self::Part
            | Self::PartCopy
            | Self::Complete
            | Self::PutAttributes => Tier::Write,
            Self::Head | Self::Get | Self::GetAttributes => Tier::Read,
            Self::Delete => Tier::Free,
        }
    }
}

/// The class of an object for which none is told.
pub const STANDARD: &str = "STANDARD";

/// Objects that come to lie at a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that are billed: classes with a minimum object size bill at least that.
    pub billed: u64,
}

/// Everything used so far. Its size depends on the number of kinds, classes and targets, never on that of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests by side, kind and the storage class that they are billed for.
    pub requests: BTreeMap<(Place, Request, String), u64>,
    /// Bytes that went from the source to a target.
    pub moved: BTreeMap<TargetId, u64>,
    /// Bytes read from source objects, by storage class.
    pub read: BTreeMap<String, u64>,
    /// Uses of a KMS key without a Bucket Key, by side.
    pub key_uses: BTreeMap<Place, u64>,
    /// What comes to lie at targets, by storage class.
    pub stored: BTreeMap<(TargetId, String), Stored>,
}

impl Usage {
    /// Counts requests.
    pub fn request(&mut self, place: &Place, request: Request, class: &str, count: u64) {
        if count > 0 {
            add(&mut self.requests, (place.clone(), request, class.to_owned()), count);
        }
    }

    /// Counts bytes that go to a target.
    pub fn moves(&mut self, target: &TargetId, bytes: u64) {
        add(&mut self.moved, target.clone(), bytes);
    }

    /// Counts bytes read from source objects of a class.
    pub fn reads(&mut self, class: &str, bytes: u64) {
        add(&mut self.read, class.to_owned(), bytes);
    }

    /// Counts uses of a key.
    pub fn uses_key(&mut self, place: &Place, count: u64) {
        if count > 0 {
            add(&mut self.key_uses, place.clone(), count);
        }
    }

    /// Counts an object that comes to lie at a target.
    pub fn stores(&mut self, target: &TargetId, class: &str, bytes: u64) {
        let stored = self.stored.entry((target.clone(), class.to_owned())).or_default();
        stored.objects = stored.objects.saturating_add(1);
        stored.bytes = stored.bytes.saturating_add(bytes);
        stored.billed = stored.billed.saturating_add(bytes.max(smallest_billed(class)));
    }

    /// Takes all of another in.
    pub fn merge(&mut self, other: &Self) {
        for ((place, request, class), count) in &other.requests {
            self.request(place, *request, class, *count);
        }
        for (target, bytes) in &other.moved {
            self.moves(target, *bytes);
        }
        for (class, bytes) in &other.read {
            self.reads(class, *bytes);
        }
        for (place, count) in &other.key_uses {
            self.uses_key(place, *count);
        }
        for (key, more) in &other.stored {
            let stored = self.stored.entry(key.clone()).or_default();
            stored.objects = stored.objects.saturating_add(more.objects);
            stored.bytes = stored.bytes.saturating_add(more.bytes);
            stored.billed = stored.billed.saturating_add(more.billed);
        }
    }

    /// Requests of one kind, both sides and all classes together.
    #[must_use]
    pub fn of(&self, wanted: Request) -> u64 {
        self.requests
            .iter()
            .filter(|((_, request, _), _)| *request == wanted)
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, more: u64) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(more);
}

/// The bytes that an object of a class is billed for at least (S3's price page: 128 KB for the infrequent-access
/// classes and Glacier Instant Retrieval, 40 KB of index on top for the archive classes, left out here).
#[must_use]
pub fn smallest_billed(class: &str) -> u64 {
    match class {
        "STANDARD_IA" | "ONEZONE_IA" | "GLACIER_IR" => 128 << 10,
        _ => 0,
    }
}

/// The days that an object of a class is billed for at least (aws-semantics 8.1; S3's price page for Glacier Instant
/// Retrieval); `None` where there is no such minimum.
#[must_use]
pub fn shortest_days(class: &str) -> Option<u32> {
    match class {
        "STANDARD_IA" | "ONEZONE_IA" => Some(30),
        "GLACIER_IR" | "GLACIER" => Some(90),
        "DEEP_ARCHIVE" => Some(180),
        _ => None,
    }
}
