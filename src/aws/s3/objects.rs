//! ListObjectsV2: the current objects of a bucket.

use aws_sdk_s3::types::{EncodingType, Object};
use aws_smithy_runtime_api::http::Headers;

use super::S3Bucket;
use super::exchange::Exchange;
use super::{headers, listing};
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{Key, KeyOrder, Listed, Timestamp};
use crate::ports::{ListFrom, ObjectPage};

/// S3's page size, also when more is asked for (aws-semantics 3.1).
const PAGE: u16 = 1000;

impl S3Bucket {
    pub(super) async fn object_page(
        &self,
        prefix: &str,
        from: &ListFrom,
        most: Option<u16>,
    ) -> Result<ObjectPage, Fault> {
        let site = self.site("list objects");
        let exchange = Exchange::listening();
        let (after, token) = match from {
            ListFrom::Start => (None, None),
            ListFrom::After(key) => (Some(key.as_str().to_owned()), None),
            ListFrom::Token(token) => (None, Some(token.clone())),
        };
        let page = self
            .safe
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .encoding_type(EncodingType::Url)
            .max_keys(i32::from(most.unwrap_or(PAGE)))
            .set_start_after(after)
            .set_continuation_token(token)
            .set_expected_bucket_owner(self.owner.clone())
            .customize()
            .interceptor(exchange.clone())
            .send()
            .await
            .map_err(|error| site.explain(&error))?;
        let answer = exchange.answer(site)?;
        // The SDK takes a document that breaks off for a short one: a listing would end early without a word.
        if !answer.body.is_some_and(|body| body.trim_ascii_end().ends_with(b"ListBucketResult>")) {
            return Err(site.fault(FaultKind::Transient, "the listing could not be read: it ends in the middle"));
        }
        let encoded = page.encoding_type == Some(EncodingType::Url);
        // S3 may answer 200 with an incomplete document: that passes, so it must not read as a refusal.
        let unreadable = |detail| site.fault(FaultKind::Transient, format!("the listing could not be read: {detail}"));
        let contents = page.contents.unwrap_or_default();
        let entries =
            contents.into_iter().map(|row| entry(row, encoded)).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        let next = match (page.is_truncated, page.next_continuation_token, entries.last()) {
            (Some(true), Some(token), _) => Some(ListFrom::Token(token)),
            (Some(true), None, Some(last)) => Some(ListFrom::After(last.key.clone())),
            (Some(true), None, None) => return Err(unreadable("it says that it goes on, but not where".to_owned())),
            (Some(false) | None, _, _) => None,
        };
        Ok(ObjectPage { entries, next, order: order(&answer.headers) })
    }
}

/// SeaweedFS keeps objects as files and lists them so; everybody else keeps to S3's order (measured on 4.48).
pub(super) fn order(headers: &Headers) -> KeyOrder {
    let server = headers.get("server").unwrap_or_default();
    if server.starts_with("SeaweedFS") { KeyOrder::Paths } else { KeyOrder::Bytes }
}

fn entry(row: Object, encoded: bool) -> Result<Listed, String> {
    let key = listing::decode(&row.key.ok_or("an entry has no Key")?, encoded)?;
    let lacks = |field: &str| format!("the entry of \"{key}\" has no readable {field}");
    let modified = row.last_modified.and_then(|time| u64::try_from(time.to_millis().ok()?).ok());
    let algorithm =
        row.checksum_algorithm.unwrap_or_default().iter().find_map(|name| headers::algorithm(name.as_str()));
    let kind = row.checksum_type.and_then(|kind| headers::checksum_type(kind.as_str()));
    Ok(Listed {
        size: row.size.and_then(|size| u64::try_from(size).ok()).ok_or_else(|| lacks("Size"))?,
        etag: headers::etag(&row.e_tag.ok_or_else(|| lacks("ETag"))?),
        modified: Timestamp(modified.ok_or_else(|| lacks("LastModified"))?),
        storage_class: row.storage_class.map(|class| class.as_str().to_owned()),
        checksum: algorithm.zip(kind),
        key: Key::new(&key),
    })
}
