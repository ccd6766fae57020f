//! A target: everything that the worker will do there, done once on keys under `.repl/check/`.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Probes;
use super::finding::{Check, Finding, Outcome};
use super::side::{Bucket, SetUp, Standing};
use super::source::{Sample, Samples};
use crate::aws::s3::settings::Locking;
use crate::cli::fix::grant;
use crate::cli::known::Known;
use crate::cli::world::target_settings;
use crate::config::{Target, TransferMode};
use crate::engine::ServerSide;
use crate::model::digest::{Algorithm, Checksum, ChecksumType};
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{Attributes, ETag, Encryption, Key, Tags, VersionId, Versioning};
use crate::ports::{
    Completion, Condition, CopySource, Fetched, KeyService, NewObject, ObjectStore, Part, Payload, Pick, Read, Sealing,
    UploadRef, World, Written,
};

/// What a probe holds, with its CRC32.
pub(super) const CONTENT: &[u8] = b"repl check\n";
const CRC32: &str = "RcqyFQ==";
/// That of other bytes.
const WRONG_CRC32: &str = "AAAAAA==";
/// An `ETag` that no object has.
const NO_ETAG: &str = "00000000000000000000000000000000";
/// A whole object is copied as one part: beyond this the probe would cost more than it tells.
const COPIED: u64 = 5 << 20;

/// Whether a store holds to the conditions of a write; `None` where that was not found out.
type Holds = Option<bool>;

impl Probes<'_> {
    /// All rows of one target, and what was learnt of its endpoint.
    pub(super) async fn writing(&self, target: &Target, bucket: &Bucket<'_>, set_up: &SetUp) -> (Vec<Check>, Known) {
        let side = bucket.side;
        let mut known = Known::of(target, self.now());
        if self.read_only {
            let skipped = |name| Check::at_once(name, side, Finding::skipped("it writes, and --read-only was given"));
            return (["write", "read", "tag", "multipart"].map(skipped).to_vec(), known);
        }
        let mut written = None;
        let mut rows = vec![Check::of("write", side, self.write(bucket, &mut written)).await];
        rows.extend(self.keys(target, bucket).await);
        let Some(written) = written else {
            let skipped = |name| Check::at_once(name, side, Finding::skipped("nothing could be written, see write"));
            rows.extend(["read", "tag", "multipart", "conditional-put", "server-side-copy"].map(skipped));
            return (rows, known);
        };
        rows.push(Check::of("read", side, self.read_back(bucket)).await);
        rows.push(Check::of("tag", side, self.tag(bucket)).await);
        rows.push(Check::of("checksums", side, self.checksums(bucket, &written, &mut known.checksums)).await);
        rows.push(Check::of("conditional-put", side, self.conditional_put(bucket, &mut known.conditional_put)).await);
        rows.push(Check::of("multipart", side, self.multipart(bucket, &mut known.conditional_complete)).await);
        let conditional = conditional("the end of a multipart upload", known.conditional_complete);
        rows.push(Check::at_once("conditional-complete", side, conditional));
        let copy = self.conditional_copy(bucket, &written, set_up, &mut known.conditional_copy);
        rows.push(Check::of("conditional-copy", side, copy).await);
        if self.config.rules.iter().any(|rule| rule.target == target.id && rule.delete_markers) {
            rows.push(Check::of("delete-marker", side, self.delete(bucket, set_up)).await);
        }
        (rows, known)
    }

    /// What follows from both sides' set-up together.
    pub(super) fn agreement(&self, target: &Target, bucket: &Bucket<'_>, both: [&SetUp; 2]) -> Vec<Check> {
        let [source, there] = both;
        let mut rows = Vec::new();
        let locked = source.locking.is_some_and(|locking| locking != Locking::Off);
        if locked && there.locking == Some(Locking::Off) {
            let (ours, name) = (&self.config.source.bucket, bucket.place.bucket);
            rows.push(Check::at_once(
                "locks-follow",
                bucket.side,
                Finding::fail(
                    format!(
                        "source bucket {ours:?} has Object Lock and {name:?} has not: locked objects will be refused"
                    ),
                    format!(
                        "aws s3api put-object-lock-configuration --bucket {name} --object-lock-configuration \
                         ObjectLockEnabled=Enabled"
                    ),
                ),
            ));
        }
        let enforced = there.ownership.as_deref() == Some("BucketOwnerEnforced");
        for rule in self.config.rules.iter().filter(|rule| rule.target == target.id && rule.acl && enforced) {
            rows.push(Check::at_once(
                "acls-follow",
                bucket.side,
                Finding::fail(
                    format!("rule {:?} copies ACL grants, but bucket {:?} has ACLs off", rule.id, bucket.place.bucket),
                    "set acl = false in the rule, or the bucket's object ownership to BucketOwnerPreferred",
                ),
            ));
        }
        rows
    }

    /// Nothing can be learnt of a target that cannot be reached.
    pub(super) async fn target(
        &self,
        target: &Target,
        samples: &Samples,
        source: Option<&SetUp>,
    ) -> (Vec<Check>, Known) {
        let side = format!("target {}", target.id);
        let section = format!("[targets.{}]", target.id);
        let mut known = Known::of(target, self.now());
        let Some(store) = self.world.target(&target.id) else { return (Vec::new(), known) };
        let bucket = Bucket::target(&side, &section, target, store);
        let (mut rows, standing) = self.ground(&bucket).await;
        let Standing::Reached(set_up) = standing else { return (rows, known) };
        let (listed, versions) = tokio::join!(
            Check::of("list", &side, list(&bucket)),
            Check::of("list-versions", &side, list_versions(&bucket)),
        );
        rows.extend([listed, versions]);
        let written;
        (written, known) = self.writing(target, &bucket, &set_up).await;
        let writes = written.iter().any(|row| row.name == "write" && row.finding.outcome == Outcome::Pass);
        rows.extend(written);
        if writes {
            let copy = self.server_side(target, &bucket, samples.smallest(), &mut known.server_side);
            rows.push(Check::of("server-side-copy", &side, copy).await);
        }
        if let Some(source) = source {
            rows.extend(self.agreement(target, &bucket, [source, &set_up]));
        }
        (rows, known)
    }

    fn new_object(&self, name: &str, sealing: Sealing) -> NewObject {
        let content_type = Some("text/plain".to_owned());
        NewObject {
            key: self.key(name),
            attributes: Attributes { content_type, ..Attributes::default() },
            tags: Tags::new(),
            sealing,
            owner_full_control: false,
        }
    }

    async fn put(&self, bucket: &Bucket<'_>, object: &NewObject, crc: &str, on: &Condition) -> Result<Written, Fault> {
        let checksum = Checksum { algorithm: Algorithm::Crc32, kind: ChecksumType::FullObject, value: crc.to_owned() };
        self.note_writing(bucket, &object.key);
        bucket.store.put(object, Payload::Whole(Bytes::from_static(CONTENT)), Some(&checksum), on).await
    }

    async fn write(&self, bucket: &Bucket<'_>, written: &mut Option<Written>) -> Finding {
        let place = bucket.place;
        let object = self.new_object("probe", Sealing::BucketDefault);
        match self.put(bucket, &object, CRC32, &Condition::Any).await {
            Ok(answer) => {
                let finding = Finding::pass(format!("wrote {:?}", object.key));
                *written = Some(answer);
                finding
            }
            Err(fault) => place.failed(&fault, &["s3:PutObject"], &place.objects()),
        }
    }

    async fn read_back(&self, bucket: &Bucket<'_>) -> Finding {
        let place = bucket.place;
        let read = Read { pick: Pick::Current, range: None, if_match: None };
        match bucket.store.get(&self.key("probe"), read).await {
            Ok(Fetched::Object(mut got)) => {
                let mut bytes = Vec::new();
                while let Some(Ok(piece)) = got.body.next().await {
                    bytes.extend_from_slice(&piece);
                }
                if bytes == CONTENT {
                    return Finding::pass("read what was written");
                }
                Finding::fail("the store returned other bytes than were written", "mend the store: it loses content")
            }
            Ok(Fetched::Missing | Fetched::DeleteMarker) => Finding::fail(
                "what was written a moment ago is not there",
                "use a store that shows a write at once, as S3 does",
            ),
            Err(fault) => place.failed(&fault, &["s3:GetObject", "s3:GetObjectVersion"], &place.objects()),
        }
    }

    async fn tag(&self, bucket: &Bucket<'_>) -> Finding {
        let place = bucket.place;
        let tags = Tags::from([("repl".to_owned(), "check".to_owned())]);
        let mut object = self.new_object("tagged", Sealing::BucketDefault);
        object.tags.clone_from(&tags);
        if let Err(fault) = self.put(bucket, &object, CRC32, &Condition::Any).await {
            return place.failed(&fault, &["s3:PutObjectTagging"], &place.objects());
        }
        if let Err(fault) = bucket.store.put_tags(&object.key, &Pick::Current, &tags).await {
            return place.failed(&fault, &["s3:PutObjectTagging", "s3:PutObjectVersionTagging"], &place.objects());
        }
        match bucket.store.tags(&object.key, &Pick::Current).await {
            Ok(found) if found == tags => Finding::pass("written with an object, changed, and read"),
            Ok(_) => Finding::fail("the store took tags and does not return them", "use a store that keeps tags"),
            Err(fault) => {
                place.failed(&fault, &["s3:GetObjectTagging", "s3:GetObjectVersionTagging"], &place.objects())
            }
        }
    }

    async fn checksums(&self, bucket: &Bucket<'_>, written: &Written, checked: &mut Holds) -> Finding {
        let object = self.new_object("wrong", Sealing::BucketDefault);
        let refused = self.put(bucket, &object, WRONG_CRC32, &Condition::Any).await.is_err();
        *checked = Some(refused);
        let kept = written.checksum.as_ref().is_some_and(|checksum| checksum.value == CRC32);
        match (refused, kept) {
            (true, true) => Finding::pass("the store refuses wrong bytes, and keeps the checksum"),
            (true, false) => Finding::pass("the store refuses wrong bytes, but does not tell the checksum it keeps"),
            (false, _) => Finding::skipped(
                "the store takes bytes that differ from their checksum: what its ETag tells is believed, all else counts as \
                 unprovable",
            ),
        }
    }

    async fn conditional_put(&self, bucket: &Bucket<'_>, holds: &mut Holds) -> Finding {
        let object = self.new_object("probe", Sealing::BucketDefault);
        for condition in [Condition::Absent, Condition::Matches(ETag::new(NO_ETAG))] {
            let answer = self.put(bucket, &object, CRC32, &condition).await;
            if let Some(finding) = self.condition_kept(bucket, answer.map(drop), holds) {
                return finding;
            }
        }
        conditional("PUT", *holds)
    }

    /// Notes whether a condition that does not hold was kept; a finding where that cannot be told.
    fn condition_kept(&self, bucket: &Bucket<'_>, answer: Result<(), Fault>, holds: &mut Holds) -> Option<Finding> {
        match answer {
            Ok(()) => *holds = Some(false),
            Err(fault) if fault.kind == FaultKind::Raced => *holds = Some(holds.unwrap_or(true)),
            Err(fault) if fault.status == Some(501) || fault.code.as_deref() == Some("NotImplemented") => {
                *holds = Some(false);
            }
            Err(fault) => {
                let place = bucket.place;
                return Some(place.failed(&fault, &["s3:PutObject", "s3:GetObject"], &place.objects()));
            }
        }
        None
    }

    async fn multipart(&self, bucket: &Bucket<'_>, holds: &mut Holds) -> Finding {
        let place = bucket.place;
        let failed = |fault: Fault| match fault.during {
            "list parts" => place.failed(&fault, &["s3:ListMultipartUploadParts"], &place.objects()),
            "abort upload" => place.failed(&fault, &["s3:AbortMultipartUpload"], &place.objects()),
            _ => place.failed(&fault, &["s3:PutObject"], &place.objects()),
        };
        match self.upload(bucket, holds).await {
            Ok(()) => Finding::pass("opened, sent a part, listed it, completed, and aborted another"),
            Err(fault) => failed(fault),
        }
    }

    async fn upload(&self, bucket: &Bucket<'_>, holds: &mut Holds) -> Result<(), Fault> {
        let object = self.new_object("probe", Sealing::BucketDefault);
        self.note_writing(bucket, &object.key);
        let aborted = bucket.store.create_upload(&object, None).await?;
        bucket.store.abort_upload(UploadRef { key: &object.key, id: &aborted.id }).await?;
        for condition in [Condition::Absent, Condition::Matches(ETag::new(NO_ETAG)), Condition::Any] {
            let open = bucket.store.create_upload(&object, None).await?;
            let upload = UploadRef { key: &object.key, id: &open.id };
            let part = bucket.store.upload_part(upload, 1, Payload::Whole(Bytes::from_static(CONTENT)), None).await?;
            bucket.store.list_parts(upload).await?;
            let ended = bucket.store.complete_upload(upload, &completion(part, condition.clone())).await;
            match (ended, condition) {
                (Ok(_), Condition::Any) => {}
                (Err(fault), Condition::Any) => return Err(fault),
                (ended, Condition::Absent | Condition::Matches(_)) => {
                    if ended.is_err() {
                        bucket.store.abort_upload(upload).await?;
                    }
                    if self.condition_kept(bucket, ended.map(drop), holds).is_some() {
                        *holds = None;
                    }
                }
            }
        }
        Ok(())
    }

    async fn conditional_copy(
        &self,
        bucket: &Bucket<'_>,
        written: &Written,
        set_up: &SetUp,
        holds: &mut Holds,
    ) -> Finding {
        let source = CopySource {
            bucket: bucket.place.bucket.to_owned(),
            key: self.key("probe"),
            version: written.version.clone().unwrap_or_else(VersionId::null),
            etag: written.etag.clone(),
            versioned: written.version.is_some() && set_up.versioning != Some(Versioning::Off),
            owner: bucket.place.connection.expected_bucket_owner.clone(),
        };
        let object = self.new_object("tagged", Sealing::BucketDefault);
        self.note_writing(bucket, &object.key);
        for condition in [Condition::Absent, Condition::Matches(ETag::new(NO_ETAG))] {
            let answer = bucket.store.copy(&object, &source, None, &condition).await;
            if let Some(finding) = self.condition_kept(bucket, answer.map(drop), holds) {
                return finding.dispensable("copies are looked at afterwards instead");
            }
        }
        conditional("CopyObject", *holds)
    }

    async fn delete(&self, bucket: &Bucket<'_>, set_up: &SetUp) -> Finding {
        let place = bucket.place;
        match bucket.store.delete(&self.key("tagged"), &Condition::Any).await {
            Ok(Some(_)) => Finding::pass("made one"),
            Ok(None) if set_up.versioning == Some(Versioning::Enabled) => Finding::fail(
                "the bucket has versions, but a DELETE made no delete marker",
                "use a store whose versioning is S3's, or set delete_markers = false",
            ),
            Ok(None) => Finding::pass("deleted; without versions there are no markers"),
            Err(fault) => place.failed(&fault, &["s3:DeleteObject"], &place.objects()),
        }
    }

    /// One row for each key that a rule names for this target.
    async fn keys(&self, target: &Target, bucket: &Bucket<'_>) -> Vec<Check> {
        let rules = self.config.rules.iter().filter(|rule| rule.target == target.id);
        let named: BTreeSet<&str> =
            rules.flat_map(|rule| rule.kms_map.values().chain(&rule.kms_key)).map(String::as_str).collect();
        let mut rows = Vec::new();
        for (nth, arn) in named.into_iter().enumerate() {
            let probe = self.encrypt(target, bucket, arn, nth);
            rows.push(Check::of(&format!("encrypt {arn}"), bucket.side, probe).await);
        }
        rows
    }

    /// Writes under a key, sees that it was that one, and reads it back. S3 uses the key in our name, with the bucket's
    /// ARN as its context; the key service itself may not be asked at all, but where it may, its word is the clearer.
    async fn encrypt(&self, target: &Target, bucket: &Bucket<'_>, arn: &str, nth: usize) -> Finding {
        let place = bucket.place;
        let statement = place.key_statement(&["kms:GenerateDataKey", "kms:Decrypt"], arn);
        let allow = grant(&statement, "the key's policy");
        if let Some(keys) = self.world.keys(&target.id) {
            match keys.describe(arn).await {
                Ok(state) if !state.enabled => {
                    let region = &target.connection.region;
                    return Finding::fail(
                        format!("the target key {arn} is disabled: nothing can be written under it"),
                        format!("enable it: aws kms enable-key --region {region} --key-id {arn}"),
                    );
                }
                Err(fault) if fault.kind == FaultKind::KeyUnusable => {
                    let fix = format!("correct kms_key or kms_map: it must be a key of {}", target.connection.region);
                    return Finding::fail(fault.to_string(), fix);
                }
                Ok(_) | Err(_) => {}
            }
        }
        let object = self.new_object(&format!("sealed-{nth}"), Sealing::Kms(arn.to_owned()));
        let written = match self.put(bucket, &object, CRC32, &Condition::Any).await {
            Ok(written) => written,
            Err(fault) if matches!(fault.kind, FaultKind::Denied | FaultKind::KeyUnusable) => {
                return Finding::fail(fault.to_string(), allow);
            }
            Err(fault) => return place.failed(&fault, &["s3:PutObject"], &place.objects()),
        };
        match &written.encryption {
            Encryption::Kms(Some(used)) if used == arn => {}
            other => {
                return Finding::fail(
                    format!("asked for {arn}, the store encrypted otherwise: {other:?}"),
                    "use a store that encrypts under the key it is given, or take kms_key out of the rule",
                );
            }
        }
        let read = Read { pick: Pick::Current, range: None, if_match: None };
        match bucket.store.get(&object.key, read).await {
            Ok(_) => Finding::pass("wrote under it and read it back"),
            Err(fault) => Finding::fail(fault.to_string(), allow),
        }
    }

    /// Whether the store copies by itself from the source: one part of an upload that never becomes an object.
    async fn server_side(
        &self,
        target: &Target,
        bucket: &Bucket<'_>,
        sample: Option<&Sample>,
        works: &mut Holds,
    ) -> Finding {
        let mode = self.config.transfer.mode;
        let settings = target_settings(self.config);
        let possible = settings.get(&target.id).is_some_and(|one| one.server_side == ServerSide::Possible);
        if mode == TransferMode::Stream {
            return Finding::skipped("[transfer] mode says that everything is streamed");
        }
        if !possible && mode == TransferMode::Auto {
            return Finding::skipped("the sides are not one store under one identity: everything is streamed");
        }
        let Some(sample) = sample.filter(|sample| sample.head.size <= COPIED) else {
            return Finding::skipped("there is no object of up to 5 MiB at the source to try it with");
        };
        match self.copy_part(bucket, sample).await {
            Ok(()) => {
                *works = Some(true);
                Finding::pass(format!("the store copied {:?} into an upload, which was aborted", sample.key))
            }
            Err(fault) if matches!(fault.kind, FaultKind::Denied | FaultKind::Refused | FaultKind::KeyUnusable) => {
                *works = Some(false);
                let place = bucket.place;
                let source = format!("arn:{}:s3:::{}/*", place.connection.partition(), self.config.source.bucket);
                let actions = ["s3:GetObject", "s3:GetObjectVersion"];
                let finding = place.failed(&fault, &actions, &source);
                if mode == TransferMode::ServerSide { finding } else { finding.dispensable("everything is streamed") }
            }
            Err(fault) => bucket.place.failed(&fault, &["s3:PutObject"], &bucket.place.objects()),
        }
    }

    async fn copy_part(&self, bucket: &Bucket<'_>, sample: &Sample) -> Result<(), Fault> {
        let object = self.new_object("copied", Sealing::BucketDefault);
        let source = CopySource {
            bucket: self.config.source.bucket.clone(),
            key: sample.key.clone(),
            version: sample.head.version.clone(),
            etag: sample.head.etag.clone(),
            versioned: !sample.head.version.is_null(),
            owner: self.config.source.connection.expected_bucket_owner.clone(),
        };
        let open = bucket.store.create_upload(&object, None).await?;
        let upload = UploadRef { key: &object.key, id: &open.id };
        let copied = bucket.store.copy_part(upload, 1, &source, None).await;
        let aborted = bucket.store.abort_upload(upload).await;
        copied.map(drop).and(aborted)
    }
}

/// Whether conditions hold, as the operator should know it.
fn conditional(what: &str, holds: Holds) -> Finding {
    match holds {
        Some(true) => Finding::pass(format!("{what} holds to If-None-Match and If-Match")),
        Some(false) => Finding::skipped(format!(
            "the store ignores If-None-Match or If-Match on {what}: the target is looked at before each write, and only \
             one worker may write there"
        )),
        None => Finding::skipped(format!("what {what} does with conditions could not be found out")),
    }
}

fn completion(part: Part, condition: Condition) -> Completion {
    Completion { size: CONTENT.len() as u64, parts: vec![part], checksum: None, sent: None, condition }
}

async fn list(bucket: &Bucket<'_>) -> Finding {
    let place = bucket.place;
    match bucket.store.list_objects("", &crate::ports::ListFrom::Start, Some(1)).await {
        Ok(_) => Finding::pass("allowed"),
        Err(fault) => place.failed(&fault, &["s3:ListBucket"], &place.arn()),
    }
}

async fn list_versions(bucket: &Bucket<'_>) -> Finding {
    let place = bucket.place;
    match bucket.store.list_versions(".repl/", None).await {
        Ok(_) => Finding::pass("allowed"),
        Err(fault) => place.failed(&fault, &["s3:ListBucketVersions"], &place.arn()),
    }
}

/// The key of a probe.
pub(super) fn probe_key(nonce: &str, name: &str) -> Key {
    Key::new(format!("{}{nonce}/{name}", crate::model::reserved::PROBES))
}
