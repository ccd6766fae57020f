//! Server-side copies: the bytes never come here.

use aws_sdk_s3::types::{AnnotationDirective, MetadataDirective, TaggingDirective};

use super::exchange::{Answer, Exchange};
use super::multipart::{SLOW_ANSWER, checksum_in, part_number, sdk_algorithm};
use super::{S3Bucket, conditions, headers, raced_where_gone, within};
use crate::aws::fault::Site;
use crate::model::digest::Algorithm;
use crate::model::fault::{Fault, FaultKind};
use crate::ports::{Condition, CopySource, NewObject, Part, UploadRef, Written};

/// `bucket/key?versionId=id`, percent-encoded by us: the SDK sends it as it is (aws-semantics 3.4).
fn spelled(source: &CopySource) -> String {
    let place = format!("{}/{}", source.bucket, headers::encode_path(source.key.as_str()));
    if source.version.is_null() && !source.versioned {
        return place;
    }
    format!("{place}?versionId={}", headers::encode(source.version.as_str()))
}

/// The store must have read the version it was told to read.
fn check_version(source: &CopySource, answer: &Answer, site: Site) -> Result<(), Fault> {
    let told = answer.headers.get("x-amz-copy-source-version-id");
    match told {
        Some(told) if source.versioned && told != source.version.as_str() => {
            let detail = format!("the store copied version {told} instead of {}", source.version);
            Err(site.fault(FaultKind::Corrupt, detail))
        }
        Some(_) | None => Ok(()),
    }
}

impl S3Bucket {
    pub(super) async fn copy_whole(
        &self,
        object: &NewObject,
        source: &CopySource,
        algorithm: Option<Algorithm>,
        condition: &Condition,
    ) -> Result<Written, Fault> {
        let site = self.site("copy object");
        let exchange = Exchange::creating(headers::of_new_object(object, site)?);
        let (if_none_match, if_match) = conditions(condition);
        let request = self
            .once
            .copy_object()
            .bucket(&self.bucket)
            .key(object.key.as_str())
            .copy_source(spelled(source))
            .copy_source_if_match(headers::quoted(&source.etag))
            .metadata_directive(MetadataDirective::Replace)
            .tagging_directive(TaggingDirective::Replace)
            // S3 would copy them unasked, under permissions of their own (aws-semantics 10.3); they are not carried.
            .annotation_directive(AnnotationDirective::Exclude)
            .set_checksum_algorithm(algorithm.map(sdk_algorithm))
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .set_expected_bucket_owner(self.owner.clone())
            .set_expected_source_bucket_owner(source.owner.clone())
            .customize()
            .interceptor(exchange.clone());
        let send = async { request.send().await.map_err(|error| raced_where_gone(site.explain(&error), condition)) };
        let output = within(SLOW_ANSWER, site, send).await?;
        let answer = exchange.answer(site)?;
        check_version(source, &answer, site)?;
        let result = output.copy_object_result;
        let tag = result.as_ref().and_then(|result| result.e_tag.as_deref());
        let mut written = headers::written(&answer.headers, tag, site)?;
        if let Some(result) = &result {
            let kind = result.checksum_type.as_ref().map(aws_sdk_s3::types::ChecksumType::as_str);
            written.checksum = headers::ALGORITHMS
                .into_iter()
                .find_map(|algorithm| Some(headers::checksum_told(algorithm, kind, checksum_in!(result, algorithm)?)));
        }
        Ok(written)
    }

    pub(super) async fn copy_one_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        source: &CopySource,
        range: Option<(u64, u64)>,
    ) -> Result<Part, Fault> {
        let site = self.site("copy part");
        let exchange = Exchange::listening();
        let request = self
            .once
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(upload.key.as_str())
            .upload_id(upload.id)
            .part_number(part_number(number, site)?)
            .copy_source(spelled(source))
            .set_copy_source_range(range.map(|(first, last)| format!("bytes={first}-{last}")))
            .copy_source_if_match(headers::quoted(&source.etag))
            .set_expected_bucket_owner(self.owner.clone())
            .set_expected_source_bucket_owner(source.owner.clone())
            .customize()
            .interceptor(exchange.clone());
        let send = async { request.send().await.map_err(|error| site.explain(&error)) };
        let output = within(SLOW_ANSWER, site, send).await?;
        check_version(source, &exchange.answer(site)?, site)?;
        let result = output.copy_part_result;
        let told = result.as_ref().and_then(|result| Some((result, result.e_tag.as_deref()?)));
        let Some((result, tag)) = told else {
            return Err(site.fault(FaultKind::Transient, "the store's answer has no ETag"));
        };
        let checksum = headers::ALGORITHMS.into_iter().find_map(|algorithm| checksum_in!(result, algorithm));
        // The answer does not say how many bytes a copy without range has brought.
        let size = match range {
            Some((first, last)) => last.saturating_sub(first).saturating_add(1),
            None => self.size_held(upload, number).await?,
        };
        Ok(Part { number, etag: headers::etag(tag), size, checksum: checksum.map(str::to_owned) })
    }
}
