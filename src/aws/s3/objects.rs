//! ListObjectsV2: the current objects of a bucket, read from the document itself.

use std::borrow::Cow;

use aws_sdk_s3::types::EncodingType;
use aws_smithy_runtime_api::http::Headers;

use super::S3Bucket;
use super::exchange::{Answer, Exchange};
use super::{headers, listing};
use crate::model::digest::{Algorithm, ChecksumType};
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{ETag, Key, KeyOrder, Listed, Timestamp};
use crate::ports::{ListFrom, ObjectPage};

/// S3's page size, also when more is asked for (aws-semantics 3.1).
const PAGE: u16 = 1000;

/// Which page.
struct Asked<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    token: Option<&'a str>,
    most: u16,
}

impl<'a> Asked<'a> {
    fn query(&self) -> Vec<(&'static str, Cow<'a, str>)> {
        let mut query = Vec::with_capacity(6);
        query.extend(self.token.map(|token| ("continuation-token", token.into())));
        query.push(("encoding-type", "url".into()));
        query.push(("list-type", "2".into()));
        query.push(("max-keys", self.most.to_string().into()));
        query.push(("prefix", self.prefix.into()));
        query.extend(self.after.map(|after| ("start-after", after.into())));
        query
    }
}

impl S3Bucket {
    pub(super) async fn object_page(
        &self,
        prefix: &str,
        from: &ListFrom,
        most: Option<u16>,
    ) -> Result<ObjectPage, Fault> {
        let (after, token) = match from {
            ListFrom::Start => (None, None),
            ListFrom::After(key) => (Some(key.as_str()), None),
            ListFrom::Token(token) => (None, Some(token.as_str())),
        };
        let asked = Asked { prefix, after, token, most: most.unwrap_or(PAGE) };
        let answer = match &self.lean {
            Some(lean) => self.list_lean(lean, asked.query(), self.site("list objects")).await?,
            None => Box::pin(self.list_by_sdk(&asked)).await?,
        };
        // S3 may answer 200 with an incomplete document: that passes, so it must not read as a refusal.
        let (entries, next) = read(answer.body.as_deref().unwrap_or_default()).map_err(|detail| {
            let detail = format!("the listing could not be read: {detail}");
            self.site("list objects").fault(FaultKind::Transient, detail)
        })?;
        Ok(ObjectPage { entries, next, order: order(&answer.headers) })
    }

    async fn list_by_sdk(&self, asked: &Asked<'_>) -> Result<Answer, Fault> {
        let site = self.site("list objects");
        let exchange = Exchange::listening();
        self.safe
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(asked.prefix)
            .encoding_type(EncodingType::Url)
            .max_keys(i32::from(asked.most))
            .set_start_after(asked.after.map(str::to_owned))
            .set_continuation_token(asked.token.map(str::to_owned))
            .set_expected_bucket_owner(self.owner.clone())
            .customize()
            .interceptor(exchange.clone())
            .send()
            .await
            .map_err(|error| site.explain(&error))?;
        exchange.answer(site)
    }
}

/// SeaweedFS keeps objects as files and lists them so; everybody else keeps to S3's order (measured on 4.48).
pub(super) fn order(headers: &Headers) -> KeyOrder {
    let server = headers.get("server").unwrap_or_default();
    if server.starts_with("SeaweedFS") { KeyOrder::Paths } else { KeyOrder::Bytes }
}

/// One `<Contents>`, as far as it has been read. Its key stays as it is spelled: how, the document may tell later.
#[derive(Default)]
struct Row {
    key: Option<String>,
    modified: Option<Timestamp>,
    etag: Option<ETag>,
    size: Option<u64>,
    storage_class: Option<String>,
    algorithm: Option<Algorithm>,
    kind: Option<ChecksumType>,
}

#[derive(Default)]
struct Page {
    rows: Vec<Row>,
    encoded: bool,
    truncated: Option<bool>,
    token: Option<String>,
    root: bool,
}

fn read(xml: &[u8]) -> Result<(Vec<Listed>, Option<ListFrom>), String> {
    let mut page = Page::default();
    let mut row = Row::default();
    listing::elements(xml, |path, text| match path {
        [_, b"Contents", field] => match *field {
            b"Key" => row.key = Some(text.to_owned()),
            b"LastModified" => row.modified = Timestamp::parse_rfc3339(text),
            b"ETag" => row.etag = Some(headers::etag(text)),
            b"Size" => row.size = text.parse().ok(),
            b"StorageClass" => row.storage_class = headers::storage_class(text),
            b"ChecksumAlgorithm" => row.algorithm = row.algorithm.or_else(|| headers::algorithm(text)),
            b"ChecksumType" => row.kind = headers::checksum_type(text),
            _ => {}
        },
        [_, b"Contents"] => page.rows.push(std::mem::take(&mut row)),
        [_, b"EncodingType"] => page.encoded = text == "url",
        [_, b"IsTruncated"] => page.truncated = Some(text == "true"),
        [_, b"NextContinuationToken"] => page.token = Some(text.to_owned()),
        [root] => page.root = *root == b"ListBucketResult",
        _ => {}
    })?;
    if !page.root {
        return Err("it is no listing".to_owned());
    }
    let encoded = page.encoded;
    let entries = page.rows.into_iter().map(|row| entry(row, encoded)).collect::<Result<Vec<_>, _>>()?;
    let next = match (page.truncated, page.token, entries.last()) {
        // Also where a store names the way on and forgets to say that there is one.
        (Some(true) | None, Some(token), _) => Some(ListFrom::Token(token)),
        (Some(true), None, Some(last)) => Some(ListFrom::After(last.key.clone())),
        (Some(true), None, None) => return Err("it says that it goes on, but not where".to_owned()),
        (Some(false), _, _) | (None, None, _) => None,
    };
    Ok((entries, next))
}

fn entry(row: Row, encoded: bool) -> Result<Listed, String> {
    let spelled = row.key.ok_or("an entry has no Key")?;
    let key = listing::decode(&spelled, encoded)?;
    let lacks = |field: &str| format!("the entry of \"{key}\" has no readable {field}");
    Ok(Listed {
        size: row.size.ok_or_else(|| lacks("Size"))?,
        etag: row.etag.ok_or_else(|| lacks("ETag"))?,
        modified: row.modified.ok_or_else(|| lacks("LastModified"))?,
        storage_class: row.storage_class,
        checksum: row.algorithm.zip(row.kind),
        key: Key::new(&key),
    })
}
