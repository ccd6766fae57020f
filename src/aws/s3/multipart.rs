//! Multipart uploads, from Create to Complete or Abort.

use std::time::Duration;

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType as SdkChecksumType, CompletedMultipartUpload, CompletedPart};

use super::body::Outgoing;
use super::exchange::{Exchange, Header};
use super::write::{Sending, checksum_sent, md5_sent};
use super::{S3Bucket, conditions, headers, raced_where_gone, within};
use crate::aws::fault::Site;
use crate::model::digest::{Algorithm, Checksum};
use crate::model::fault::{Fault, FaultKind};
use crate::ports::{Completion, NewObject, OpenUpload, Part, Payload, UploadChecksum, UploadRef, Written};

/// "Complete could take several minutes" (API reference of CompleteMultipartUpload); a server-side copy of 5 GiB
/// between regions has no published time.
pub(super) const SLOW_ANSWER: Duration = Duration::from_secs(15 * 60);
/// For an answer that needs no work at the store.
const QUICK_ANSWER: Duration = Duration::from_secs(60);

/// The checksum that one of the SDK's types carries: they have the same fields, but nothing in common.
macro_rules! checksum_in {
    ($holder:expr, $algorithm:expr) => {
        match $algorithm {
            Algorithm::Crc32 => $holder.checksum_crc32.as_deref(),
            Algorithm::Crc32c => $holder.checksum_crc32_c.as_deref(),
            Algorithm::Crc64Nvme => $holder.checksum_crc64_nvme.as_deref(),
            Algorithm::Sha1 => $holder.checksum_sha1.as_deref(),
            Algorithm::Sha256 => $holder.checksum_sha256.as_deref(),
        }
    };
}
pub(super) use checksum_in;

/// S3's name of our algorithm.
pub(super) fn sdk_algorithm(algorithm: Algorithm) -> ChecksumAlgorithm {
    ChecksumAlgorithm::from(algorithm.name())
}

pub(super) fn part_number(number: u32, site: Site) -> Result<i32, Fault> {
    i32::try_from(number).map_err(|_| site.fault(FaultKind::Refused, format!("there is no part number {number}")))
}

fn completed_part(part: &Part, sent: Option<UploadChecksum>, site: Site) -> Result<CompletedPart, Fault> {
    let builder =
        CompletedPart::builder().part_number(part_number(part.number, site)?).e_tag(headers::quoted(&part.etag));
    let value = part.checksum.clone();
    let builder = match sent.map(|sent| sent.algorithm) {
        Some(Algorithm::Crc32) => builder.set_checksum_crc32(value),
        Some(Algorithm::Crc32c) => builder.set_checksum_crc32_c(value),
        Some(Algorithm::Crc64Nvme) => builder.set_checksum_crc64_nvme(value),
        Some(Algorithm::Sha1) => builder.set_checksum_sha1(value),
        Some(Algorithm::Sha256) => builder.set_checksum_sha256(value),
        None => builder,
    };
    Ok(builder.build())
}

fn held_part(part: &aws_sdk_s3::types::Part) -> Option<Part> {
    Some(Part {
        number: u32::try_from(part.part_number?).ok()?,
        etag: headers::etag(part.e_tag.as_deref()?),
        size: u64::try_from(part.size?).ok()?,
        checksum: headers::ALGORITHMS
            .into_iter()
            .find_map(|algorithm| checksum_in!(part, algorithm))
            .map(str::to_owned),
    })
}

impl S3Bucket {
    pub(super) async fn open_upload(
        &self,
        object: &NewObject,
        checksum: Option<UploadChecksum>,
    ) -> Result<OpenUpload, Fault> {
        let site = self.site("open upload");
        let exchange = Exchange::creating(headers::of_new_object(object, site)?);
        let request = self
            .once
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(object.key.as_str())
            .set_checksum_algorithm(checksum.map(|asked| sdk_algorithm(asked.algorithm)))
            .set_checksum_type(checksum.map(|asked| SdkChecksumType::from(headers::type_name(asked.kind))))
            .set_expected_bucket_owner(self.owner.clone())
            .customize()
            .interceptor(exchange.clone());
        let send = async { request.send().await.map_err(|error| site.explain(&error)) };
        let output = within(QUICK_ANSWER, site, send).await?;
        let id = output.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| site.fault(FaultKind::Transient, "the store opened an upload without an id"))?;
        Ok(OpenUpload { id, checksum: headers::upload_checksum(&exchange.answer(site)?.headers) })
    }

    pub(super) async fn send_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        payload: Payload,
        checksum: Option<&Checksum>,
    ) -> Result<Part, Fault> {
        let Payload::Whole(bytes) = payload else {
            return self.send_part_once(upload, number, payload, checksum).await;
        };
        let first = self.send_part_once(upload, number, Payload::Whole(bytes.clone()), checksum).await;
        match first {
            // No answer at all: a part may be sent again without effect, and most such hiccups are of one connection.
            Err(fault) if fault.kind == FaultKind::Transient && fault.status.is_none() => {
                self.send_part_once(upload, number, Payload::Whole(bytes), checksum).await
            }
            outcome => outcome,
        }
    }

    async fn send_part_once(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        payload: Payload,
        checksum: Option<&Checksum>,
    ) -> Result<Part, Fault> {
        let site = self.site("write part");
        let size = payload.length();
        let sent: Vec<Header> = checksum_sent(checksum).into_iter().chain(md5_sent(&payload)).collect();
        let sending = Sending::new(payload, site).await?;
        let headers = match &self.lean {
            Some(lean) => sending.send(site, |body| self.part_lean(lean, (upload, number), sent, body)).await?,
            None => {
                let exchange = Exchange::adding(sent);
                let listener = exchange.clone();
                sending.send(site, |body| self.part_by_sdk(upload, number, listener, body)).await?;
                exchange.answer(site)?.headers
            }
        };
        let etag =
            headers.get("etag").ok_or_else(|| site.fault(FaultKind::Transient, "the store's answer has no ETag"))?;
        let told = headers::checksum(&headers).map(|told| told.value);
        let checksum = told.or_else(|| checksum.map(|sent| sent.value.clone()));
        Ok(Part { number, etag: headers::etag(etag), size, checksum })
    }

    async fn part_by_sdk(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        exchange: Exchange,
        body: Outgoing,
    ) -> Result<(), Fault> {
        let site = self.site("write part");
        let length =
            i64::try_from(body.length()).map_err(|_| site.fault(FaultKind::Refused, "the part is too large"))?;
        self.once
            .upload_part()
            .bucket(&self.bucket)
            .key(upload.key.as_str())
            .upload_id(upload.id)
            .part_number(part_number(number, site)?)
            .content_length(length)
            .set_expected_bucket_owner(self.owner.clone())
            .body(body.into())
            .customize()
            .interceptor(exchange)
            .disable_payload_signing()
            .send()
            .await
            .map_err(|error| site.explain(&error))?;
        Ok(())
    }

    pub(super) async fn parts_held(&self, upload: UploadRef<'_>) -> Result<Vec<Part>, Fault> {
        let site = self.site("list parts");
        let mut parts: Vec<Part> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .safe
                .list_parts()
                .bucket(&self.bucket)
                .key(upload.key.as_str())
                .upload_id(upload.id)
                .set_part_number_marker(after.take())
                .set_expected_bucket_owner(self.owner.clone())
                .send()
                .await
                .map_err(|error| site.explain(&error))?;
            let before = parts.len();
            for part in page.parts() {
                let unreadable = || site.fault(FaultKind::Transient, "the store lists a part without number or ETag");
                parts.push(held_part(part).ok_or_else(unreadable)?);
            }
            match page.next_part_number_marker {
                Some(next) if page.is_truncated == Some(true) && parts.len() > before => after = Some(next),
                _ => break,
            }
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    /// The size of one part as the store holds it.
    pub(super) async fn size_held(&self, upload: UploadRef<'_>, number: u32) -> Result<u64, Fault> {
        let site = self.site("list parts");
        let page = self
            .safe
            .list_parts()
            .bucket(&self.bucket)
            .key(upload.key.as_str())
            .upload_id(upload.id)
            .part_number_marker(number.saturating_sub(1).to_string())
            .max_parts(1)
            .set_expected_bucket_owner(self.owner.clone())
            .send()
            .await
            .map_err(|error| site.explain(&error))?;
        let held = page.parts().iter().filter_map(held_part).find(|part| part.number == number);
        let missing = || site.fault(FaultKind::Transient, format!("part {number} is not listed after it was copied"));
        held.map(|part| part.size).ok_or_else(missing)
    }

    pub(super) async fn complete(&self, upload: UploadRef<'_>, completion: &Completion) -> Result<Written, Fault> {
        let site = self.site("complete upload");
        let parts = completion
            .parts
            .iter()
            .map(|part| completed_part(part, completion.sent, site))
            .collect::<Result<Vec<_>, Fault>>()?;
        let exchange = Exchange::adding(checksum_sent(completion.checksum.as_ref()).into_iter().collect());
        let (if_none_match, if_match) = conditions(&completion.condition);
        let request = self
            .once
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(upload.key.as_str())
            .upload_id(upload.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .set_checksum_type(completion.sent.map(|sent| SdkChecksumType::from(headers::type_name(sent.kind))))
            .set_mpu_object_size(i64::try_from(completion.size).ok())
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .set_expected_bucket_owner(self.owner.clone())
            .customize()
            .interceptor(exchange.clone());
        let send = async {
            request.send().await.map_err(|error| raced_where_gone(site.explain(&error), &completion.condition))
        };
        let output = within(SLOW_ANSWER, site, send).await?;
        let mut written = headers::written(&exchange.answer(site)?.headers, output.e_tag.as_deref(), site)?;
        let kind = output.checksum_type.as_ref().map(SdkChecksumType::as_str);
        if let Some(told) = headers::ALGORITHMS
            .into_iter()
            .find_map(|algorithm| Some(headers::checksum_told(algorithm, kind, checksum_in!(output, algorithm)?)))
        {
            written.checksum = Some(told);
        }
        Ok(written)
    }

    pub(super) async fn abort(&self, upload: UploadRef<'_>) -> Result<(), Fault> {
        let site = self.site("abort upload");
        let sent = self
            .safe
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(upload.key.as_str())
            .upload_id(upload.id)
            .set_expected_bucket_owner(self.owner.clone())
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => match site.explain(&error) {
                fault if fault.kind == FaultKind::Gone => Ok(()),
                fault => Err(fault),
            },
        }
    }
}
