//! Multipart uploads of a bucket.

use std::collections::BTreeMap;

use bytes::Bytes;
use repl::model::digest::{Algorithm, Checksum, ChecksumType};
use repl::model::fault::{Fault, FaultKind};
use repl::model::object::{Encryption, Timestamp};
use repl::ports::{Completion, NewObject, OpenUpload, Part, UploadChecksum, UploadRef, Written};

use super::bucket::{Bucket, Draft, Object, encryption, own_grants};
use super::digests;

/// S3 refuses smaller parts but for the last one (aws-semantics 3.1).
const MIN_PART: usize = 5 << 20;

/// One open upload.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) object: NewObject,
    pub(crate) order: u64,
    pub(crate) initiated: Timestamp,
    pub(crate) checksum: UploadChecksum,
    pub(crate) parts: BTreeMap<u32, Bytes>,
}

impl Opened {
    fn part(&self, number: u32) -> Part {
        let bytes = &self.parts[&number];
        Part {
            number,
            etag: digests::etag(bytes),
            size: bytes.len() as u64,
            checksum: Some(digests::value(self.checksum.algorithm, bytes)),
        }
    }
}

impl Bucket {
    pub(crate) fn create_upload(
        &mut self,
        object: &NewObject,
        checksum: Option<UploadChecksum>,
        now: Timestamp,
    ) -> Result<OpenUpload, Fault> {
        self.permitted(object, now)?;
        let usual = UploadChecksum { algorithm: Algorithm::Crc64Nvme, kind: ChecksumType::FullObject };
        let checksum = checksum.unwrap_or(usual);
        if checksum.kind == ChecksumType::FullObject && !checksum.algorithm.full_object_multipart() {
            return Err(self.fault(FaultKind::Refused, 400, "that checksum cannot be one of a whole object"));
        }
        let order = self.order();
        let id = format!("upload-{order}");
        let parts = BTreeMap::new();
        self.uploads.insert(id.clone(), Opened { object: object.clone(), order, initiated: now, checksum, parts });
        Ok(OpenUpload { id, checksum: Some(checksum) })
    }

    fn upload(&self, upload: UploadRef<'_>) -> Result<&Opened, Fault> {
        let found = self.uploads.get(upload.id).filter(|opened| opened.object.key == *upload.key);
        found.ok_or_else(|| Fault {
            code: Some("NoSuchUpload".into()),
            ..self.fault(FaultKind::Gone, 404, "there is no such upload")
        })
    }

    pub(crate) fn upload_part(
        &mut self,
        upload: UploadRef<'_>,
        number: u32,
        bytes: Bytes,
        checksum: Option<&Checksum>,
    ) -> Result<Part, Fault> {
        self.upload(upload)?;
        if checksum.is_some_and(|checksum| checksum.value != digests::value(checksum.algorithm, &bytes)) {
            return Err(self.fault(FaultKind::Corrupt, 400, "BadDigest"));
        }
        let opened = self.uploads.get_mut(upload.id).unwrap();
        opened.parts.insert(number, bytes);
        Ok(opened.part(number))
    }

    pub(crate) fn list_parts(&self, upload: UploadRef<'_>) -> Result<Vec<Part>, Fault> {
        let opened = self.upload(upload)?;
        Ok(opened.parts.keys().map(|number| opened.part(*number)).collect())
    }

    pub(crate) fn abort_upload(&mut self, upload: UploadRef<'_>) {
        self.uploads.remove(upload.id);
    }

    pub(crate) fn complete_upload(&mut self, upload: UploadRef<'_>, completion: &Completion) -> Result<Written, Fault> {
        let opened = self.upload(upload)?.clone();
        let parts = self.chosen(&opened, completion)?;
        let slices: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
        let bytes = Bytes::from(slices.concat());
        if bytes.len() as u64 != completion.size {
            return Err(self.fault(FaultKind::Corrupt, 400, "the parts do not come to x-amz-mp-object-size"));
        }
        let stored = match opened.checksum.kind {
            ChecksumType::FullObject => digests::full(opened.checksum.algorithm, &bytes),
            ChecksumType::Composite => digests::composite(opened.checksum.algorithm, &slices),
        };
        if completion.checksum.as_ref().is_some_and(|checksum| *checksum != stored) {
            return Err(self.fault(FaultKind::Corrupt, 400, "BadDigest"));
        }
        self.holds(upload.key, &completion.condition)?;
        self.uploads.remove(upload.id);
        let sealed = encryption(&opened.object.sealing);
        let etag = digests::etag_of_parts(&match sealed {
            Encryption::S3 => slices,
            _ => slices.iter().map(|_| b"sealed".as_slice()).collect(),
        });
        let object = Object {
            etag,
            attributes: opened.object.attributes,
            tags: opened.object.tags,
            grants: own_grants(),
            encryption: sealed,
            checksum: Some(stored),
            parts: Some(parts.iter().map(|part| part.len() as u64).collect()),
            bytes,
            restored: false,
        };
        let key = upload.key.clone();
        Ok(self.place(Draft { key, order: opened.order, modified: opened.initiated, object }))
    }

    /// The bytes of the parts that a completion names, if it names them rightly.
    fn chosen(&self, opened: &Opened, completion: &Completion) -> Result<Vec<Bytes>, Fault> {
        let mut chosen = Vec::new();
        for (place, part) in completion.parts.iter().enumerate() {
            let Some(bytes) = opened.parts.get(&part.number) else {
                return Err(self.fault(FaultKind::Corrupt, 400, "InvalidPart"));
            };
            if digests::etag(bytes) != part.etag || part.number as usize != place + 1 {
                return Err(self.fault(FaultKind::Corrupt, 400, "InvalidPart"));
            }
            if opened.checksum.kind == ChecksumType::Composite
                && part.checksum.as_deref() != Some(&digests::value(opened.checksum.algorithm, bytes))
            {
                return Err(self.fault(
                    FaultKind::Refused,
                    400,
                    "each part of a composite checksum is to be named with its own",
                ));
            }
            if place + 1 < completion.parts.len() && bytes.len() < MIN_PART {
                return Err(self.fault(FaultKind::Refused, 400, "EntityTooSmall"));
            }
            chosen.push(bytes.clone());
        }
        if chosen.is_empty() { Err(self.fault(FaultKind::Refused, 400, "MalformedXML: no parts")) } else { Ok(chosen) }
    }
}
