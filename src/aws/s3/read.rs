//! Looking: GET, HEAD, part sizes, tags, ACL, listings, versioning.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::Ordering;

use aws_sdk_s3::types::{BucketVersioningStatus, EncodingType, ObjectAttributes, Type};
use aws_smithy_runtime_api::http::Headers;
use bytes::Bytes;
use http_body::Body;
use tokio::task::JoinSet;

use super::S3Bucket;
use super::body::{Pieces, Window};
use super::exchange::{Answer, Exchange, Header};
use super::objects::order;
use super::{headers, listing};
use crate::aws::fault::{Refusal, Site, refusal};
use crate::meter;
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{Found, Head, Key, Tags, VersionId, Versioning};
use crate::ports::{Fetched, Got, Grant, Pick, Read, VersionPage};

/// Asks for the stored checksum. Sent as a plain header: through the SDK's own setting, the SDK would compute the
/// checksum of every body a second time.
pub(super) fn checksum_mode() -> Header {
    ("x-amz-checksum-mode".into(), "ENABLED".to_owned())
}

/// S3's page size for versions and for parts (aws-semantics 3.1).
const PAGE: i32 = 1000;
/// HEADs of single parts under way at once.
const PART_HEADS: usize = 8;

/// What the answer to a HEAD says.
pub(super) enum Looked {
    /// Something is there: its headers.
    Answered(Headers),
    /// Nothing is there.
    Absent(Absence),
    /// No such luck; without a body it hardly says why.
    Refused(Fault),
}

/// What an error says about the thing looked for.
pub(super) enum Absence {
    DeleteMarker,
    Missing,
}

impl From<Absence> for Fetched {
    fn from(absence: Absence) -> Self {
        match absence {
            Absence::DeleteMarker => Self::DeleteMarker,
            Absence::Missing => Self::Missing,
        }
    }
}

/// Whether an answer says that nothing, or a delete marker, is there (aws-semantics 6 and 11).
pub(super) fn absence(refusal: &Refusal<'_>) -> Option<Absence> {
    match (refusal.status, refusal.code) {
        (405, _) => Some(Absence::DeleteMarker),
        (404, Some("NoSuchBucket")) => None,
        (404, _) if refusal.headers.get("x-amz-delete-marker") == Some("true") => Some(Absence::DeleteMarker),
        (404, None | Some("NoSuchKey" | "NoSuchVersion" | "NotFound")) => Some(Absence::Missing),
        _ => None,
    }
}

/// Which bytes of an answer's body were asked for, and whether the answer can be used at all.
fn window(answer: &Answer, head: &Head, range: Option<(u64, u64)>, site: Site) -> Result<Window, Fault> {
    let Some((first, last)) = range else { return Ok(Window { skip: 0, take: head.size }) };
    let end = head.size.min(last.saturating_add(1));
    let take = end.saturating_sub(first);
    if answer.status != 206 {
        return Ok(Window { skip: first, take });
    }
    let told = answer.headers.get("content-range").unwrap_or_default();
    if told.trim().starts_with(&format!("bytes {first}-")) {
        return Ok(Window { skip: 0, take });
    }
    let detail = format!("asked for bytes {first}-{last}, the store answered with \"{told}\"");
    Err(site.fault(FaultKind::Corrupt, detail))
}

impl S3Bucket {
    pub(super) async fn get_object(&self, key: &Key, read: Read) -> Result<Fetched, Fault> {
        if let Some(current) = self.around_lost_ranges(&read)
            && let Ok(Fetched::Object(got)) = self.get_as_told(key, current).await
            && Pick::Version(got.head.version.clone()) == read.pick
        {
            return Ok(Fetched::Object(got));
        }
        self.get_as_told(key, read).await
    }

    /// Some stores forget the range where a version is named, so that each part of a large object would cost all of it.
    /// Once one was seen to, a part is asked of the current version, and taken if that is the version meant.
    fn around_lost_ranges(&self, read: &Read) -> Option<Read> {
        let named = matches!(read.pick, Pick::Version(_));
        let lost = named && read.range.is_some() && self.loses_ranges.load(Ordering::Relaxed);
        lost.then(|| Read { pick: Pick::Current, ..read.clone() })
    }

    async fn get_as_told(&self, key: &Key, read: Read) -> Result<Fetched, Fault> {
        let version = self.version_id(&read.pick).await?;
        if let Some(lean) = &self.lean {
            return self.get_lean(lean, key, version, &read).await;
        }
        Box::pin(self.get_by_sdk(key, version, &read)).await
    }

    async fn get_by_sdk(&self, key: &Key, version: Option<String>, read: &Read) -> Result<Fetched, Fault> {
        let site = self.site("read object");
        // A range's checksum would not be the object's.
        let exchange = match read.range {
            None => Exchange::adding(vec![checksum_mode()]),
            Some(_) => Exchange::listening(),
        };
        let sent = self
            .safe
            .get_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(version)
            .set_range(read.range.map(headers::range))
            .set_if_match(read.if_match.as_ref().map(headers::quoted))
            .set_expected_bucket_owner(self.owner.clone())
            .customize()
            .interceptor(exchange.clone())
            .send()
            .await;
        match sent {
            Ok(output) => self.fetched(&exchange.answer(site)?, output.body.into_inner(), read),
            Err(error) => match refusal(&error).as_ref().and_then(absence) {
                Some(absence) => Ok(absence.into()),
                None => Err(site.explain(&error)),
            },
        }
    }

    /// What a good answer to a GET brings.
    pub(super) fn fetched<B>(&self, answer: &Answer, body: B, read: &Read) -> Result<Fetched, Fault>
    where
        B: Body<Data = Bytes, Error: Display> + Send + Sync + Unpin + 'static,
    {
        let site = self.site("read object");
        let mut head = headers::head(&answer.headers, site)?;
        if read.range.is_some() {
            head.checksum = None;
            if answer.status != 206 && matches!(read.pick, Pick::Version(_)) {
                self.loses_ranges.store(true, Ordering::Relaxed);
            }
        }
        let window = window(answer, &head, read.range, site)?;
        Ok(Fetched::Object(Box::new(Got { head, body: Pieces::stream(body, window, site) })))
    }

    pub(super) async fn head_object(&self, key: &Key, pick: &Pick) -> Result<Found, Fault> {
        let site = self.site("look at object");
        let version = self.version_id(pick).await?;
        let looked = match &self.lean {
            Some(lean) => self.head_lean(lean, key, version).await?,
            None => Box::pin(self.head_by_sdk(key, version)).await?,
        };
        match looked {
            Looked::Answered(headers) => Ok(Found::Object(Box::new(headers::head(&headers, site)?))),
            Looked::Absent(Absence::DeleteMarker) => Ok(Found::DeleteMarker),
            Looked::Absent(Absence::Missing) => self.ask_whether_missing(key, pick).await,
            Looked::Refused(fault) => Err(self.ask_why(key, pick, fault).await),
        }
    }

    async fn head_by_sdk(&self, key: &Key, version: Option<String>) -> Result<Looked, Fault> {
        let site = self.site("look at object");
        let exchange = Exchange::adding(vec![checksum_mode()]);
        let sent = self
            .safe
            .head_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(version)
            .set_expected_bucket_owner(self.owner.clone())
            .customize()
            .interceptor(exchange.clone())
            .send()
            .await;
        match sent {
            Ok(_) => Ok(Looked::Answered(exchange.answer(site)?.headers)),
            Err(error) => Ok(match refusal(&error).as_ref().and_then(absence) {
                Some(absence) => Looked::Absent(absence),
                None => Looked::Refused(site.explain(&error)),
            }),
        }
    }

    /// To a HEAD a missing bucket looks like a missing key: the GET's body tells them apart, and a bucket that is gone
    /// is no reason to call its objects gone.
    async fn ask_whether_missing(&self, key: &Key, pick: &Pick) -> Result<Found, Fault> {
        let probe = Read { pick: pick.clone(), range: Some((0, 0)), if_match: None };
        match Box::pin(self.get_object(key, probe)).await? {
            Fetched::Missing => Ok(Found::Missing),
            Fetched::DeleteMarker => Ok(Found::DeleteMarker),
            Fetched::Object(_) => {
                Err(self.site("look at object").fault(FaultKind::Transient, "it came to be while it was looked at"))
            }
        }
    }

    /// The answer to a HEAD has no body, so a refused one does not say why: a GET of one byte does
    /// (aws-semantics 11).
    async fn ask_why(&self, key: &Key, pick: &Pick, bare: Fault) -> Fault {
        if !matches!(bare.status, Some(400 | 403)) {
            return bare;
        }
        let probe = Read { pick: pick.clone(), range: Some((0, 0)), if_match: None };
        match Box::pin(self.get_object(key, probe)).await {
            Err(told) => Fault { during: bare.during, ..told },
            Ok(_) => bare,
        }
    }

    pub(super) async fn sizes_of_parts(&self, key: &Key, head: &Head) -> Result<Option<Vec<u64>>, Fault> {
        let Some(count) = head.etag.parts() else { return Ok(None) };
        if count == 1 {
            return Ok(Some(vec![head.size]));
        }
        let fits = |sizes: &Vec<u64>| {
            u32::try_from(sizes.len()) == Ok(count)
                && sizes.iter().try_fold(0_u64, |sum, size| sum.checked_add(*size)) == Some(head.size)
        };
        let pick = Pick::Version(head.version.clone());
        for attempt in [Told::ByAttributes, Told::ByHeads] {
            let sizes = match attempt {
                Told::ByAttributes => self.sizes_by_attributes(key, &pick).await,
                Told::ByHeads => self.sizes_by_heads(key, &pick, count, head.size).await,
            };
            match sizes {
                Ok(Some(sizes)) if fits(&sizes) => return Ok(Some(sizes)),
                Ok(_) => {}
                Err(fault) if unsupported(fault.kind) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    /// S3 lists the parts only of objects that have a checksum per part.
    async fn sizes_by_attributes(&self, key: &Key, pick: &Pick) -> Result<Option<Vec<u64>>, Fault> {
        let site = self.site("read object attributes");
        let version = self.version_id(pick).await?;
        let mut sizes = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let output = self
                .safe
                .get_object_attributes()
                .bucket(&self.bucket)
                .key(key.as_str())
                .set_version_id(version.clone())
                .object_attributes(ObjectAttributes::ObjectParts)
                .max_parts(PAGE)
                .set_part_number_marker(after.take())
                .set_expected_bucket_owner(self.owner.clone())
                .send()
                .await
                .map_err(|error| site.explain(&error))?;
            let Some(page) = output.object_parts else { return Ok(None) };
            let before = sizes.len();
            sizes.extend(page.parts().iter().filter_map(|part| u64::try_from(part.size?).ok()));
            match page.next_part_number_marker {
                Some(next) if page.is_truncated == Some(true) && sizes.len() > before => after = Some(next),
                _ => return Ok((!sizes.is_empty()).then_some(sizes)),
            }
        }
    }

    /// Asks for single parts: the first and the last tell all where the parts between are of one size.
    async fn sizes_by_heads(&self, key: &Key, pick: &Pick, count: u32, size: u64) -> Result<Option<Vec<u64>>, Fault> {
        let version = self.version_id(pick).await?;
        let Some(first) = self.part_length(key, version.clone(), 1, count).await? else { return Ok(None) };
        let Some(last) = self.part_length(key, version.clone(), count, count).await? else { return Ok(None) };
        let equal = u64::from(count.saturating_sub(1));
        if first.checked_mul(equal).and_then(|sum| sum.checked_add(last)) == Some(size) {
            let mut sizes = vec![first; usize::try_from(equal).unwrap_or_default()];
            sizes.push(last);
            return Ok(Some(sizes));
        }
        let mut sizes = BTreeMap::from([(1, first), (count, last)]);
        let mut numbers = 2..count;
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < PART_HEADS
                && let Some(number) = numbers.next()
            {
                let request = self.part_request(key, version.clone(), number);
                let site = self.site("look at part");
                under_way.spawn(meter::carried(async move { (number, part_answer(request, count, site).await) }));
            }
            match under_way.join_next().await {
                None => return Ok(Some(sizes.into_values().collect())),
                Some(Ok((number, Ok(Some(length))))) => sizes.insert(number, length),
                Some(Ok((_, Ok(None)))) => return Ok(None),
                Some(Ok((_, Err(fault)))) => return Err(fault),
                Some(Err(error)) => {
                    return Err(self.site("look at part").fault(FaultKind::Transient, error.to_string()));
                }
            };
        }
    }

    async fn part_length(
        &self,
        key: &Key,
        version: Option<String>,
        number: u32,
        of: u32,
    ) -> Result<Option<u64>, Fault> {
        part_answer(self.part_request(key, version, number), of, self.site("look at part")).await
    }

    fn part_request(&self, key: &Key, version: Option<String>, number: u32) -> PartRequest {
        self.safe
            .head_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(version)
            .set_part_number(i32::try_from(number).ok())
            .set_expected_bucket_owner(self.owner.clone())
    }

    pub(super) async fn get_tags(&self, key: &Key, pick: &Pick) -> Result<Tags, Fault> {
        let site = self.site("read tags");
        let output = self
            .safe
            .get_object_tagging()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(self.version_id(pick).await?)
            .set_expected_bucket_owner(self.owner.clone())
            .send()
            .await
            .map_err(|error| gone_where_marker(site.explain(&error)))?;
        Ok(output.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }

    pub(super) async fn get_acl(&self, key: &Key, pick: &Pick) -> Result<Vec<Grant>, Fault> {
        let site = self.site("read ACL");
        let output = self
            .safe
            .get_object_acl()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(self.version_id(pick).await?)
            .set_expected_bucket_owner(self.owner.clone())
            .send()
            .await
            .map_err(|error| gone_where_marker(site.explain(&error)))?;
        let mut grants = Vec::new();
        for grant in output.grants.unwrap_or_default() {
            let (Some(grantee), Some(permission)) = (grant.grantee, grant.permission) else { continue };
            let spelled = match grantee.r#type {
                Type::CanonicalUser => grantee.id.map(|id| format!("id=\"{id}\"")),
                Type::Group => grantee.uri.map(|uri| format!("uri=\"{uri}\"")),
                Type::AmazonCustomerByEmail => grantee.email_address.map(|email| format!("emailAddress=\"{email}\"")),
                _ => None,
            };
            let Some(grantee) = spelled else {
                return Err(site.fault(FaultKind::Ineligible, "its ACL has a grantee of a kind that cannot be copied"));
            };
            grants.push(Grant { permission: permission.as_str().to_owned(), grantee });
        }
        Ok(grants)
    }

    pub(super) async fn list_page(&self, prefix: &str, after: Option<(Key, VersionId)>) -> Result<VersionPage, Fault> {
        let site = self.site("list versions");
        let (key, version) = after.unzip();
        let version = version.filter(|id| !id.as_str().is_empty());
        let answer = match &self.lean {
            Some(lean) => {
                let mut query = Vec::with_capacity(6);
                query.push(("encoding-type", "url".into()));
                query.extend(key.as_ref().map(|key| ("key-marker", key.as_str().into())));
                query.push(("max-keys", PAGE.to_string().into()));
                query.push(("prefix", prefix.into()));
                query.extend(version.as_ref().map(|id| ("version-id-marker", id.as_str().into())));
                query.push(("versions", "".into()));
                self.list_lean(lean, query, site).await?
            }
            None => Box::pin(self.versions_by_sdk(prefix, (key, version))).await?,
        };
        let page = listing::read(&answer.body.unwrap_or_default(), site)?;
        Ok(VersionPage { order: order(&answer.headers), ..page })
    }

    async fn versions_by_sdk(
        &self,
        prefix: &str,
        (key, version): (Option<Key>, Option<VersionId>),
    ) -> Result<Answer, Fault> {
        let site = self.site("list versions");
        let exchange = Exchange::listening();
        self.safe
            .list_object_versions()
            .bucket(&self.bucket)
            .prefix(prefix)
            .encoding_type(EncodingType::Url)
            .max_keys(PAGE)
            .set_key_marker(key.map(|key| key.as_str().to_owned()))
            .set_version_id_marker(version.map(|id| id.as_str().to_owned()))
            .set_expected_bucket_owner(self.owner.clone())
            .customize()
            .interceptor(exchange.clone())
            .send()
            .await
            .map_err(|error| site.explain(&error))?;
        exchange.answer(site)
    }

    pub(super) async fn get_versioning(&self) -> Result<Versioning, Fault> {
        let site = self.site("read versioning");
        let output = self
            .safe
            .get_bucket_versioning()
            .bucket(&self.bucket)
            .set_expected_bucket_owner(self.owner.clone())
            .send()
            .await
            .map_err(|error| site.explain(&error))?;
        match output.status {
            None => Ok(Versioning::Off),
            Some(BucketVersioningStatus::Enabled) => Ok(Versioning::Enabled),
            Some(BucketVersioningStatus::Suspended) => Ok(Versioning::Suspended),
            Some(other) => {
                Err(site.fault(FaultKind::Refused, format!("unknown versioning state \"{}\"", other.as_str())))
            }
        }
    }
}

/// The two ways in which a store may tell part sizes.
enum Told {
    ByAttributes,
    ByHeads,
}

type PartRequest = aws_sdk_s3::operation::head_object::builders::HeadObjectFluentBuilder;

/// The length of one part; `None` where the store does not know parts, or tells another number of them.
async fn part_answer(request: PartRequest, count: u32, site: Site) -> Result<Option<u64>, Fault> {
    let exchange = Exchange::listening();
    request.customize().interceptor(exchange.clone()).send().await.map_err(|error| site.explain(&error))?;
    let answer = exchange.answer(site)?;
    let told = answer.headers.get("x-amz-mp-parts-count").and_then(|told| told.trim().parse::<u32>().ok());
    Ok(if told == Some(count) { headers::content_length(&answer.headers) } else { None })
}

/// Whether a fault only says that a store cannot, or will not, tell.
fn unsupported(kind: FaultKind) -> bool {
    match kind {
        FaultKind::Denied | FaultKind::Refused | FaultKind::Gone | FaultKind::Ineligible => true,
        FaultKind::Throttled
        | FaultKind::Transient
        | FaultKind::Raced
        | FaultKind::KeyUnusable
        | FaultKind::Archived
        | FaultKind::Foreign
        | FaultKind::Corrupt
        | FaultKind::Ledger => false,
    }
}

/// A delete marker has neither tags nor ACL nor lock: what was asked for is not there.
pub(super) fn gone_where_marker(mut fault: Fault) -> Fault {
    if fault.status == Some(405) {
        fault.kind = FaultKind::Gone;
    }
    fault
}
