//! Writers: objects of every kind, as users of S3 make them.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, ServerSideEncryption, StorageClass, Tag,
    Tagging,
};

use super::compare::list;
use super::pair::{Bucket, Pair};
use super::servers::Server;

/// Bytes that look random and are the same for the same seed.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    // xorshift64*: good enough that no two pieces of a body are alike.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        out.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(length);
    out
}

/// How a multipart object is made.
#[derive(Clone, Debug)]
pub(crate) struct Multipart {
    /// Length of each part in bytes.
    pub(crate) parts: Vec<usize>,
    /// `None` for the server's own choice.
    pub(crate) checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    pub(crate) metadata: Vec<(&'static str, &'static str)>,
    /// In the form of the `x-amz-tagging` header.
    pub(crate) tags: Option<String>,
    /// ARN of a KMS key.
    pub(crate) key: Option<String>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) dress: Dress,
}

/// Whether an object carries every header that S3 keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dress {
    Plain,
    /// All of [`Bucket::put_adorned`] but the tags, which ministack loses from multipart uploads.
    Full,
}

impl Multipart {
    /// Parts of these lengths and nothing else.
    pub(crate) fn of(parts: &[usize]) -> Self {
        let parts = parts.to_vec();
        Self {
            parts,
            checksum: None,
            metadata: Vec::new(),
            tags: None,
            key: None,
            content_type: None,
            dress: Dress::Plain,
        }
    }
}

impl Bucket {
    /// Writes a small object; its version.
    pub(crate) async fn put(&self, key: &str, body: impl Into<Vec<u8>>) -> Option<String> {
        let body = ByteStream::from(body.into());
        self.s3.put_object().bucket(&self.name).key(key).body(body).send().await.unwrap().version_id
    }

    /// Writes an object with every header, metadata, tags and a checksum; its version.
    pub(crate) async fn put_adorned(&self, key: &str, body: impl Into<Vec<u8>>) -> Option<String> {
        self.s3
            .put_object()
            .bucket(&self.name)
            .key(key)
            .body(ByteStream::from(body.into()))
            .content_type("text/x-adorned; charset=utf-8")
            .content_encoding("identity")
            .content_language("en-GB, cy")
            .content_disposition("attachment; filename=\"a b.txt\"")
            .cache_control("max-age=60, private")
            .expires(DateTime::from_secs(2_016_806_400))
            .metadata("colour", "blue")
            .metadata("x-long", "v".repeat(500))
            .tagging("class=gold&odd%20name=a%2Bb%3D")
            .storage_class(StorageClass::StandardIa)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .send()
            .await
            .unwrap()
            .version_id
    }

    /// Writes a multipart object of the bytes of this seed; its version.
    pub(crate) async fn put_multipart(&self, key: &str, seed: u64, how: &Multipart) -> Option<String> {
        let upload = self.create_upload(key, how).await;
        self.finish_upload(key, &upload, seed, how).await
    }

    /// Sends the parts of an upload and completes it; its version.
    pub(crate) async fn finish_upload(&self, key: &str, upload: &str, seed: u64, how: &Multipart) -> Option<String> {
        let mut parts = Vec::new();
        for (number, length) in (1..).zip(&how.parts) {
            let answer = self
                .s3
                .upload_part()
                .bucket(&self.name)
                .key(key)
                .upload_id(upload)
                .part_number(number)
                .set_checksum_algorithm(how.checksum.as_ref().map(|(algorithm, _)| algorithm.clone()))
                .body(ByteStream::from(bytes(seed.wrapping_add(number.unsigned_abs().into()), *length)))
                .send()
                .await
                .unwrap();
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(answer.e_tag)
                    .set_checksum_crc32(answer.checksum_crc32)
                    .set_checksum_crc32_c(answer.checksum_crc32_c)
                    .set_checksum_crc64_nvme(answer.checksum_crc64_nvme)
                    .set_checksum_sha1(answer.checksum_sha1)
                    .set_checksum_sha256(answer.checksum_sha256)
                    .build(),
            );
        }
        self.s3
            .complete_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload)
            .set_checksum_type(how.checksum.as_ref().map(|(_, kind)| kind.clone()))
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .send()
            .await
            .unwrap()
            .version_id
    }

    /// Initiates an upload; its id.
    pub(crate) async fn create_upload(&self, key: &str, how: &Multipart) -> String {
        let mut request = self.s3.create_multipart_upload().bucket(&self.name).key(key);
        for (name, value) in &how.metadata {
            request = request.metadata(*name, *value);
        }
        if how.dress == Dress::Full {
            request = request
                .content_type("text/x-adorned; charset=utf-8")
                .content_encoding("identity")
                .content_language("en-GB, cy")
                .content_disposition("attachment; filename=\"a b.txt\"")
                .cache_control("max-age=60, private")
                .expires(DateTime::from_secs(2_016_806_400))
                .metadata("x-long", "v".repeat(500))
                .storage_class(StorageClass::StandardIa);
        }
        if let Some((algorithm, kind)) = how.checksum.clone() {
            request = request.checksum_algorithm(algorithm).checksum_type(kind);
        }
        if let Some(arn) = &how.key {
            request = request.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(arn);
        }
        if let Some(kind) = how.content_type {
            request = request.content_type(kind);
        }
        let request = request.set_tagging(how.tags.clone());
        request.send().await.unwrap().upload_id.unwrap()
    }

    /// Deletes the key; in a bucket with versions this makes a delete marker, whose version this is.
    pub(crate) async fn delete(&self, key: &str) -> Option<String> {
        self.s3.delete_object().bucket(&self.name).key(key).send().await.unwrap().version_id
    }

    /// Removes one version for good.
    pub(crate) async fn delete_version(&self, key: &str, version: &str) {
        self.s3.delete_object().bucket(&self.name).key(key).version_id(version).send().await.unwrap();
    }

    /// Replaces the tags of a version, or of the current one.
    pub(crate) async fn tag(&self, key: &str, version: Option<&str>, tags: &[(&str, &str)]) {
        let set = tags.iter().map(|(name, value)| Tag::builder().key(*name).value(*value).build().unwrap()).collect();
        self.s3
            .put_object_tagging()
            .bucket(&self.name)
            .key(key)
            .set_version_id(version.map(str::to_owned))
            .tagging(Tagging::builder().set_tag_set(Some(set)).build().unwrap())
            .send()
            .await
            .unwrap();
    }
}

impl Pair {
    /// Announces every version of the source, oldest first, where its server announces nothing by itself.
    pub(crate) async fn announce(&self) {
        if self.source.server != Server::Seaweedfs {
            return;
        }
        for version in list(&self.source).await.iter().rev() {
            let name = if version.marker { "ObjectRemoved:DeleteMarkerCreated" } else { "ObjectCreated:Put" };
            self.put_event(name, &version.key, Some(&version.id)).await;
        }
    }

    /// Writes objects of every kind under a prefix, all changes of one key one after the other.
    pub(crate) async fn write_every_kind(&self, prefix: &str) {
        const MIB: usize = 1 << 20;
        let source = &self.source;
        source.put(&format!("{prefix}empty"), Vec::new()).await;
        source.put(&format!("{prefix}small"), bytes(1, 4096)).await;
        source.put_adorned(&format!("{prefix}adorned"), bytes(2, 100)).await;
        for seed in 10..13 {
            source.put(&format!("{prefix}overwritten"), bytes(seed, 1000)).await;
        }
        source.put(&format!("{prefix}deleted"), bytes(4, 10)).await;
        source.delete(&format!("{prefix}deleted")).await;
        source.put(&format!("{prefix}back again"), bytes(5, 10)).await;
        source.delete(&format!("{prefix}back again")).await;
        source.put(&format!("{prefix}back again"), bytes(6, 11)).await;
        // SeaweedFS takes a backslash for a slash, and cannot then read back what ends with it.
        let keeps_all = [self.setup.source, self.setup.target].iter().all(|server| *server != Server::Seaweedfs);
        let quotes = if keeps_all { "quote'\"<>\\" } else { "quote'\"<>" };
        for key in ["sp ace+plus", "per%cent%2B", "ünï/cödé ☃", "q?a=b&c#d", quotes] {
            source.put(&format!("{prefix}odd/{key}"), bytes(7, 33)).await;
        }
        let mut adorned = Multipart::of(&[5 * MIB, 6 * MIB, 100]);
        adorned.metadata = vec![("colour", "blue"), ("made-by", "parts")];
        adorned.content_type = Some("application/x-parts");
        adorned.checksum = Some((ChecksumAlgorithm::Sha256, ChecksumType::Composite));
        source.put_multipart(&format!("{prefix}parts"), 20, &adorned).await;
        source.put_multipart(&format!("{prefix}one part"), 30, &Multipart::of(&[1234])).await;
    }
}
