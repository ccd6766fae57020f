//! Both sides, version by version and attribute by attribute: one line per difference.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use futures_util::StreamExt as _;
use md5::{Digest as _, Md5};
use quick_xml::events::Event as XmlEvent;

use super::pair::{Bucket, Expected, History, Markers, Pair};
use super::servers::Server;

/// The stamp's own metadata (DESIGN 3.1), which the source does not have.
const STAMP: [&str; 4] = ["repl-source-version", "repl-source-etag", "repl-source-modified", "repl-origin"];

/// Stands for a delete marker in a [`Bucket::story`].
pub(crate) const MARKER: &str = "†";
/// Versions compared at once.
const AT_ONCE: usize = 16;
/// What a store may keep of an object's bytes.
const CHECKSUMS: [&str; 5] =
    ["checksum CRC32", "checksum CRC32C", "checksum CRC64NVME", "checksum SHA1", "checksum SHA256"];

/// One line of a version listing; within a key the newest comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) latest: bool,
    pub(crate) marker: bool,
}

/// Every difference between source and target, where the target is to be like the source in all.
pub(crate) async fn compare(pair: &Pair) -> Vec<String> {
    compare_as(pair, &Expected::default()).await
}

/// Every difference between the target and what it is expected to be. Empty if there is none.
pub(crate) async fn compare_as(pair: &Pair, expected: &Expected) -> Vec<String> {
    let wanted = by_key(list(&pair.source).await.into_iter().filter(|version| is_wanted(version, expected)));
    let mut there = by_key(list(&pair.target).await);
    let mut differences = Vec::new();
    let mut looks = Vec::new();
    for (key, versions) in wanted {
        let target_key = format!("{}{key}", expected.target_prefix);
        let copies = there.remove(&target_key).unwrap_or_default();
        if shape(&versions) != shape(&copies) {
            let (want, got) = (shape(&versions), shape(&copies));
            differences.push(format!("{key}: source has {want:?}, target has {got:?} (newest first)"));
            continue;
        }
        let count = versions.len();
        for (number, (version, copy)) in versions.into_iter().zip(copies).enumerate().filter(|(_, (v, _))| !v.marker) {
            looks.push((format!("{key} version {number} of {count} ({})", version.id), version, copy));
        }
    }
    let mut looks = futures_util::stream::iter(looks)
        .map(async |(place, version, copy)| {
            let (source, target) = (look(&pair.source, &version).await, look(&pair.target, &copy).await);
            let lines = source.differences(&target, expected);
            lines.into_iter().map(|line| format!("{place}: {line}")).collect::<Vec<_>>()
        })
        .buffered(AT_ONCE);
    while let Some(lines) = looks.next().await {
        differences.extend(lines);
    }
    differences.extend(there.into_keys().map(|key| format!("{key}: only at the target")));
    differences
}

impl Bucket {
    /// What became of one key, oldest first: the text of each version, and [`MARKER`] for a delete marker.
    pub(crate) async fn story(&self, key: &str) -> Vec<String> {
        let mut story = Vec::new();
        for version in list(self).await.into_iter().rev().filter(|version| version.key == key) {
            if version.marker {
                story.push(MARKER.to_owned());
                continue;
            }
            let got = self.s3.get_object().bucket(&self.name).key(key).version_id(&version.id).send().await.unwrap();
            let body = got.body.collect().await.unwrap().into_bytes();
            story.push(String::from_utf8_lossy(&body).into_owned());
        }
        story
    }

    /// Every key that has an object or a marker, once.
    pub(crate) async fn keys(&self) -> Vec<String> {
        by_key(list(self).await).into_keys().collect()
    }
}

fn is_wanted(version: &Version, expected: &Expected) -> bool {
    (expected.history == History::All || version.latest) && (expected.markers == Markers::Replicated || !version.marker)
}

fn by_key(versions: impl IntoIterator<Item = Version>) -> BTreeMap<String, Vec<Version>> {
    let mut keys = BTreeMap::<String, Vec<Version>>::new();
    for version in versions {
        keys.entry(version.key.clone()).or_default().push(version);
    }
    keys
}

fn shape(versions: &[Version]) -> Vec<&'static str> {
    versions.iter().map(|version| if version.marker { "marker" } else { "object" }).collect()
}

/// Every version of a bucket, objects and markers, in the order of the listing document: keys ascending, newest first.
///
/// The SDK gives objects and markers as two lists, and times are too coarse to merge them: so the document is read.
pub(crate) async fn list(bucket: &Bucket) -> Vec<Version> {
    let mut found = Vec::new();
    let (mut key_marker, mut version_marker) = (None, None);
    loop {
        let document = Document::default();
        let page = bucket
            .s3
            .list_object_versions()
            .bucket(&bucket.name)
            .set_key_marker(key_marker)
            .set_version_id_marker(version_marker)
            .customize()
            .interceptor(document.clone())
            .send()
            .await
            .unwrap();
        found.extend(document.versions());
        if page.is_truncated != Some(true) {
            return found;
        }
        (key_marker, version_marker) = (page.next_key_marker, page.next_version_id_marker);
    }
}

/// Keeps the text of an answer while the SDK reads it.
#[derive(Clone, Debug, Default)]
struct Document(Arc<Mutex<String>>);

impl Intercept for Document {
    fn name(&self) -> &'static str {
        "keeps the document"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().ok_or("a body in memory")?;
        *self.0.lock().unwrap() = String::from_utf8_lossy(body).into_owned();
        Ok(())
    }
}

impl Document {
    fn versions(&self) -> Vec<Version> {
        let text = self.0.lock().unwrap();
        let mut reader = quick_xml::Reader::from_str(&text);
        let (mut found, mut fields, mut value) = (Vec::new(), BTreeMap::new(), String::new());
        loop {
            match reader.read_event().unwrap() {
                XmlEvent::Start(_) => value.clear(),
                XmlEvent::Text(text) => value.push_str(&text.decode().unwrap()),
                XmlEvent::GeneralRef(entity) => value.push_str(&resolved(&entity)),
                XmlEvent::End(end) => match end.name().as_ref() {
                    b"Version" => found.push(row(std::mem::take(&mut fields), false)),
                    b"DeleteMarker" => found.push(row(std::mem::take(&mut fields), true)),
                    name => {
                        fields.insert(String::from_utf8_lossy(name).into_owned(), std::mem::take(&mut value));
                    }
                },
                XmlEvent::Eof => return found,
                _ => {}
            }
        }
    }
}

fn resolved(entity: &quick_xml::events::BytesRef<'_>) -> String {
    if let Some(character) = entity.resolve_char_ref().unwrap() {
        return character.to_string();
    }
    let name = entity.decode().unwrap();
    quick_xml::escape::resolve_predefined_entity(&name).expect("a predefined entity").to_owned()
}

fn row(mut fields: BTreeMap<String, String>, marker: bool) -> Version {
    let latest = fields.get("IsLatest").is_some_and(|latest| latest == "true");
    let mut take = |name: &str| fields.remove(name).unwrap_or_default();
    Version { key: take("Key"), id: take("VersionId"), latest, marker }
}

/// All that can be seen of one version.
#[derive(Debug)]
struct Look {
    server: Server,
    attributes: BTreeMap<String, String>,
    etag: String,
    storage_class: String,
    encryption: Option<ServerSideEncryption>,
    kms_key: Option<String>,
}

async fn look(bucket: &Bucket, version: &Version) -> Look {
    let mut got = bucket
        .s3
        .get_object()
        .bucket(&bucket.name)
        .key(&version.key)
        .version_id(&version.id)
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    let (length, digest) = read(std::mem::take(&mut got.body)).await;
    let mut attributes = headers(&got);
    attributes.insert("length".to_owned(), length.to_string());
    attributes.insert("body MD5".to_owned(), digest);
    attributes.insert("number of tags".to_owned(), got.tag_count.unwrap_or_default().to_string());
    // S3 tells how many there are where there are any; the tests of this comparison show that the others do, too.
    if got.tag_count.is_some() {
        attributes.extend(tags(bucket, version).await);
    }
    Look {
        server: bucket.server,
        attributes,
        etag: got.e_tag.unwrap_or_default().trim_matches('"').to_owned(),
        storage_class: got.storage_class.map_or_else(|| "STANDARD".to_owned(), |class| class.to_string()),
        encryption: got.server_side_encryption,
        kms_key: got.ssekms_key_id,
    }
}

async fn read(mut body: aws_sdk_s3::primitives::ByteStream) -> (u64, String) {
    let (mut length, mut digest) = (0, Md5::new());
    while let Some(piece) = body.next().await {
        let piece = piece.unwrap();
        length += piece.len() as u64;
        digest.update(&piece);
    }
    let text = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    (length, text)
}

/// What must come along word for word.
fn headers(got: &GetObjectOutput) -> BTreeMap<String, String> {
    let told = [
        ("Content-Type", got.content_type().map(str::to_owned)),
        ("Content-Encoding", got.content_encoding().map(str::to_owned)),
        ("Content-Language", got.content_language().map(str::to_owned)),
        ("Content-Disposition", got.content_disposition().map(str::to_owned)),
        ("Cache-Control", got.cache_control().map(str::to_owned)),
        ("Expires", got.expires_string().map(str::to_owned)),
        ("website redirect", got.website_redirect_location().map(str::to_owned)),
        ("checksum CRC32", got.checksum_crc32().map(str::to_owned)),
        ("checksum CRC32C", got.checksum_crc32_c().map(str::to_owned)),
        ("checksum CRC64NVME", got.checksum_crc64_nvme().map(str::to_owned)),
        ("checksum SHA1", got.checksum_sha1().map(str::to_owned)),
        ("checksum SHA256", got.checksum_sha256().map(str::to_owned)),
        ("checksum type", got.checksum_type().map(|kind| kind.as_str().to_owned())),
        ("lock mode", got.object_lock_mode().map(|mode| mode.as_str().to_owned())),
        ("retain until", got.object_lock_retain_until_date().map(|until| until.secs().to_string())),
        ("legal hold", got.object_lock_legal_hold_status().map(|status| status.as_str().to_owned())),
    ];
    let metadata = got.metadata().into_iter().flatten().filter(|(name, _)| !STAMP.contains(&name.as_str()));
    told.into_iter()
        .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)))
        .chain(metadata.map(|(name, value)| (format!("metadata {name}"), value.clone())))
        .collect()
}

/// The tags; none where ministack has none to tell, for a version under a delete marker. Their number is compared anyway.
async fn tags(bucket: &Bucket, version: &Version) -> Vec<(String, String)> {
    let request = bucket.s3.get_object_tagging().bucket(&bucket.name).key(&version.key).version_id(&version.id);
    let set = match request.send().await {
        Ok(answer) => answer.tag_set,
        Err(refusal) if refusal.code() == Some("NoSuchKey") && bucket.server != Server::Seaweedfs => Vec::new(),
        Err(failure) => panic!("tags of {version:?}: {failure:?}"),
    };
    set.into_iter().map(|tag| (format!("tag {}", tag.key), tag.value)).collect()
}

impl Look {
    fn differences(&self, target: &Self, expected: &Expected) -> Vec<String> {
        let mut lines = Vec::new();
        let names =
            self.attributes.keys().chain(target.attributes.keys().filter(|n| !self.attributes.contains_key(*n)));
        // Of one and the same checksum, different servers tell different types, or none.
        let untold = |name: &str| name == "checksum type" && self.server != target.server;
        for name in names.filter(|name| !untold(name)) {
            let (want, got) = (self.attributes.get(name), target.attributes.get(name));
            if want != got && !self.is_gained(name, target) {
                lines.push(format!("{name} is {want:?} at the source, {got:?} at the target"));
            }
        }
        let class = expected.storage_class.as_ref().unwrap_or(&self.storage_class);
        if *class != target.storage_class {
            lines.push(format!("storage class should be {class}, is {}", target.storage_class));
        }
        lines.extend(self.etag_difference(target));
        if let Some(key) = &expected.key {
            let (encryption, kms_key) = (&target.encryption, &target.kms_key);
            if *encryption != Some(ServerSideEncryption::AwsKms) || kms_key.as_ref() != Some(key) {
                lines.push(format!("encryption should be aws:kms under {key}, is {encryption:?} under {kms_key:?}"));
            }
        }
        lines
    }

    /// Whether the target only tells more than a source that stores no checksum, or does not tell its type. S3 itself
    /// adds one to every object; these servers do not.
    fn is_gained(&self, name: &str, target: &Self) -> bool {
        if name == "checksum type" {
            return !(self.attributes.contains_key(name) && target.attributes.contains_key(name));
        }
        name.starts_with("checksum ") && !self.attributes.keys().any(|other| CHECKSUMS.contains(&other.as_str()))
    }

    /// The number of parts always compares; the ETag itself only where neither side is under KMS.
    fn etag_difference(&self, target: &Self) -> Option<String> {
        let parts = |look: &Self| look.etag.split_once('-').map(|(_, count)| count.to_owned());
        if parts(self) != parts(target) {
            return Some(format!("parts differ: ETag {} at the source, {} at the target", self.etag, target.etag));
        }
        let plain = |look: &Self| look.kms_key.is_none();
        (plain(self) && plain(target) && self.etag != target.etag)
            .then(|| format!("ETag is {} at the source, {} at the target", self.etag, target.etag))
    }
}
