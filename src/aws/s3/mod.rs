//! One bucket of one store, as [`ObjectStore`].

mod body;
mod copy;
mod exchange;
mod headers;
mod lean;
mod listing;
mod metering;
mod multipart;
mod objects;
mod read;
pub mod replication;
pub mod settings;
mod write;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::time::Instant;

use metering::Metering;

use super::fault::Site;
use super::{CONNECT, Endpoint, HotPath, UnansweredOnly, patience, twice};
use crate::model::digest::{Algorithm, Checksum};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Found, Head, Key, Lock, Tags, VersionId, Versioning};
use crate::model::usage::Place;
use crate::ports::{
    Completion, Condition, CopySource, Fetched, Grant, ListFrom, NewObject, ObjectPage, ObjectStore, OpenUpload, Part,
    Payload, Pick, Read, UploadChecksum, UploadRef, VersionPage, Written,
};
use lean::Lean;

/// How long "never versioned" is believed: versioning can be switched on at any time, but never off for good.
const UNVERSIONED_BELIEVED: Duration = Duration::from_secs(60);

/// One bucket.
pub struct S3Bucket {
    /// For requests that may be repeated without effect: they are, once, if no answer comes.
    safe: Client,
    /// For requests that leave something behind: sent once, so that an unknown outcome stays the caller's to look at.
    once: Client,
    /// The hot path around the SDK; `None` where the SDK is to do all, or alone can.
    lean: Option<Lean>,
    bucket: String,
    owner: Option<String>,
    side: Side,
    versioning: Mutex<Option<(Versioning, Instant)>>,
    /// Whether the store was seen to answer a range of a named version with the whole of it.
    loses_ranges: AtomicBool,
}

impl fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Bucket({}, {})", self.bucket, self.side.name())
    }
}

impl S3Bucket {
    /// The bucket of that name behind an endpoint. Nothing is sent yet.
    #[must_use]
    pub fn new(config: &SdkConfig, endpoint: &Endpoint, bucket: impl Into<String>) -> Self {
        Self::on(config, endpoint, bucket.into(), None)
    }

    /// As [`S3Bucket::new`], its requests counted for that place by whatever meter the work is under.
    #[must_use]
    pub fn metered(config: &SdkConfig, endpoint: &Endpoint, bucket: impl Into<String>, place: Place) -> Self {
        Self::on(config, endpoint, bucket.into(), Some(Metering::of(place)))
    }

    fn on(config: &SdkConfig, endpoint: &Endpoint, bucket: String, metering: Option<Metering>) -> Self {
        let builder = || {
            let builder = Builder::from(config).force_path_style(endpoint.path_style);
            match &metering {
                Some(metering) => builder.interceptor(metering.clone()),
                None => builder,
            }
        };
        let safe = builder()
            .retry_config(twice())
            .retry_classifier(UnansweredOnly)
            .timeout_config(patience(Duration::ZERO))
            .build();
        // Writes carry their own time limits: by size, or by whether bytes still move.
        let once = builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
            .build();
        let lean = match endpoint.client {
            HotPath::Lean => Lean::new(config, endpoint.path_style, &bucket).map(|lean| lean.metered(metering.clone())),
            HotPath::Sdk => None,
        };
        if lean.is_none() && endpoint.client == HotPath::Lean {
            tracing::info!(bucket, "this bucket needs more than the lean client can do: the SDK sends everything");
        }
        Self {
            lean,
            safe: Client::from_conf(safe),
            once: Client::from_conf(once),
            bucket,
            owner: endpoint.expected_bucket_owner.clone(),
            side: endpoint.owner_side,
            versioning: Mutex::new(None),
            loses_ranges: AtomicBool::new(false),
        }
    }

    /// Another bucket behind the same endpoint, with the same credentials; who owns it is not checked.
    #[must_use]
    pub fn beside(&self, bucket: &str) -> Self {
        Self {
            // A few large reads: nothing is gained by another way to the server.
            lean: None,
            safe: self.safe.clone(),
            once: self.once.clone(),
            bucket: bucket.to_owned(),
            owner: None,
            side: self.side,
            versioning: Mutex::new(None),
            loses_ranges: AtomicBool::new(false),
        }
    }

    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.bucket
    }

    fn site(&self, during: &'static str) -> Site {
        Site::new(self.side, during)
    }

    fn believed_versioning(&self) -> Option<Versioning> {
        let known = self.versioning.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some((Versioning::Off, seen)) if seen.elapsed() > UNVERSIONED_BELIEVED => None,
            Some((state, _)) => Some(state),
            None => None,
        }
    }

    fn learn_versioning(&self, state: Versioning) {
        *self.versioning.lock().unwrap_or_else(PoisonError::into_inner) = Some((state, Instant::now()));
    }

    /// The version id to send: none for the current one, and none for the null version of a bucket without versions,
    /// because stores that have no versions refuse the parameter.
    async fn version_id(&self, pick: &Pick) -> Result<Option<String>, Fault> {
        let Pick::Version(version) = pick else { return Ok(None) };
        if !version.is_null() {
            return Ok(Some(version.as_str().to_owned()));
        }
        let state = match self.believed_versioning() {
            Some(state) => state,
            // Who may not read the setting sends the id: on AWS that is right in every bucket.
            None => match Box::pin(self.versioning()).await {
                Ok(state) => state,
                Err(fault) if fault.kind == FaultKind::Denied => Versioning::Enabled,
                Err(fault) => return Err(fault),
            },
        };
        Ok((state != Versioning::Off).then(|| version.as_str().to_owned()))
    }
}

/// Bounds a request that has no time limit of its own.
async fn within<T>(limit: Duration, site: Site, send: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(limit, send).await {
        Ok(outcome) => outcome,
        Err(_) => Err(site.fault(FaultKind::Transient, format!("no answer within {} s", limit.as_secs()))),
    }
}

/// `If-None-Match` and `If-Match` of a condition.
fn conditions(condition: &Condition) -> (Option<String>, Option<String>) {
    match condition {
        Condition::Absent => (Some("*".to_owned()), None),
        Condition::Matches(etag) => (None, Some(headers::quoted(etag))),
        Condition::Any => (None, None),
    }
}

/// `If-Match` on a key that has gone, or whose current version is a delete marker, is answered with 404
/// (aws-semantics 5): the condition did not hold. A missing upload is told by its own code and stays `Gone`.
fn raced_where_gone(mut fault: Fault, condition: &Condition) -> Fault {
    let matched = matches!(condition, Condition::Matches(_));
    if matched && fault.kind == FaultKind::Gone && fault.code.as_deref() != Some("NoSuchUpload") {
        fault.kind = FaultKind::Raced;
    }
    fault
}

impl ObjectStore for S3Bucket {
    async fn get(&self, key: &Key, read: Read) -> Result<Fetched, Fault> {
        self.get_object(key, read).await
    }

    async fn head(&self, key: &Key, pick: &Pick) -> Result<Found, Fault> {
        self.head_object(key, pick).await
    }

    async fn part_sizes(&self, key: &Key, head: &Head) -> Result<Option<Vec<u64>>, Fault> {
        self.sizes_of_parts(key, head).await
    }

    async fn tags(&self, key: &Key, pick: &Pick) -> Result<Tags, Fault> {
        self.get_tags(key, pick).await
    }

    async fn acl(&self, key: &Key, pick: &Pick) -> Result<Vec<Grant>, Fault> {
        self.get_acl(key, pick).await
    }

    async fn list_objects(&self, prefix: &str, from: &ListFrom, most: Option<u16>) -> Result<ObjectPage, Fault> {
        self.object_page(prefix, from, most).await
    }

    async fn list_versions(&self, prefix: &str, after: Option<(Key, VersionId)>) -> Result<VersionPage, Fault> {
        self.list_page(prefix, after).await
    }

    async fn versioning(&self) -> Result<Versioning, Fault> {
        let state = self.get_versioning().await?;
        self.learn_versioning(state);
        Ok(state)
    }

    async fn put(
        &self,
        object: &NewObject,
        payload: Payload,
        checksum: Option<&Checksum>,
        condition: &Condition,
    ) -> Result<Written, Fault> {
        self.put_object(object, payload, checksum, condition).await
    }

    async fn create_upload(&self, object: &NewObject, checksum: Option<UploadChecksum>) -> Result<OpenUpload, Fault> {
        self.open_upload(object, checksum).await
    }

    async fn upload_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        payload: Payload,
        checksum: Option<&Checksum>,
    ) -> Result<Part, Fault> {
        self.send_part(upload, number, payload, checksum).await
    }

    async fn copy_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        source: &CopySource,
        range: Option<(u64, u64)>,
    ) -> Result<Part, Fault> {
        self.copy_one_part(upload, number, source, range).await
    }

    async fn list_parts(&self, upload: UploadRef<'_>) -> Result<Vec<Part>, Fault> {
        self.parts_held(upload).await
    }

    async fn complete_upload(&self, upload: UploadRef<'_>, completion: &Completion) -> Result<Written, Fault> {
        self.complete(upload, completion).await
    }

    async fn abort_upload(&self, upload: UploadRef<'_>) -> Result<(), Fault> {
        self.abort(upload).await
    }

    async fn copy(
        &self,
        object: &NewObject,
        source: &CopySource,
        algorithm: Option<Algorithm>,
        condition: &Condition,
    ) -> Result<Written, Fault> {
        self.copy_whole(object, source, algorithm, condition).await
    }

    async fn put_tags(&self, key: &Key, pick: &Pick, tags: &Tags) -> Result<(), Fault> {
        self.replace_tags(key, pick, tags).await
    }

    async fn put_acl(&self, key: &Key, pick: &Pick, grants: &[Grant]) -> Result<(), Fault> {
        self.replace_acl(key, pick, grants).await
    }

    async fn put_lock(&self, key: &Key, pick: &Pick, lock: &Lock) -> Result<(), Fault> {
        self.set_lock(key, pick, lock).await
    }

    async fn delete(&self, key: &Key, condition: &Condition) -> Result<Option<VersionId>, Fault> {
        self.delete_current(key, condition).await
    }
}
