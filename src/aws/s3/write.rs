//! Changing single objects: PUT, DELETE, tags, ACL, lock.

use std::time::Duration;

use aws_sdk_s3::types::{
    ObjectCannedAcl, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockRetention, ObjectLockRetentionMode, Tag,
    Tagging,
};
use aws_smithy_types::DateTime;
use bytes::Bytes;

use super::body::{Outgoing, Piped, Progress};
use super::exchange::{Exchange, Header};
use super::lean::Put;
use super::read::gone_where_marker;
use super::{S3Bucket, conditions, headers, raced_where_gone, within};
use crate::aws::fault::Site;
use crate::model::digest::{Checksum, ChecksumType};
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{Key, Lock, Tags, VersionId};
use crate::ports::{Condition, Grant, NewObject, Payload, Pick, Written};

/// For a small answer; added to the time that the bytes may take.
const ANSWER: Duration = Duration::from_secs(60);
/// The slowest link on which a body from memory is still waited for, bytes per second.
const SLOWEST: u64 = 64 * 1024;

/// A request body that is ready to be sent, and how long to wait for the answer.
pub(super) enum Sending {
    /// From memory, within a time limit.
    Whole(Bytes, Duration),
    /// Piped, as long as bytes move.
    Piped(Piped, Progress, u64),
}

impl Sending {
    /// Prepares a payload. An empty pipe is read to its end first: no byte of it would ever be asked for, so its
    /// fault would go unseen.
    pub(super) async fn new(payload: Payload, site: Site) -> Result<Self, Fault> {
        match payload {
            Payload::Whole(bytes) => Ok(Self::whole(bytes)),
            Payload::Piped { mut stream, length: 0, .. } => {
                while let Some(piece) = stream.next().await {
                    if !piece?.is_empty() {
                        return Err(site.fault(FaultKind::Corrupt, "the body is longer than the 0 bytes announced"));
                    }
                }
                Ok(Self::whole(Bytes::new()))
            }
            Payload::Piped { stream, length, .. } => {
                let progress = Progress::default();
                Ok(Self::Piped(Piped::new(stream, length, progress.clone(), site), progress, length))
            }
        }
    }

    fn whole(bytes: Bytes) -> Self {
        let limit = ANSWER.saturating_add(Duration::from_secs(bytes.len() as u64 / SLOWEST));
        Self::Whole(bytes, limit)
    }

    /// Sends the body and waits for the answer as long as is reasonable.
    pub(super) async fn send<T, F: Future<Output = Result<T, Fault>>>(
        self,
        site: Site,
        send: impl FnOnce(Outgoing) -> F,
    ) -> Result<T, Fault> {
        match self {
            Self::Whole(bytes, limit) => within(limit, site, send(Outgoing::Whole(bytes))).await,
            Self::Piped(body, progress, length) => {
                progress.watch(site, length, send(Outgoing::Piped(Box::new(body)))).await
            }
        }
    }
}

/// The header of a checksum sent along; only a full one can be checked against the bytes of one request.
pub(super) fn checksum_sent(checksum: Option<&Checksum>) -> Option<Header> {
    let checksum = checksum.filter(|checksum| checksum.kind == ChecksumType::FullObject)?;
    Some((headers::checksum_header(checksum.algorithm).into(), checksum.value.clone()))
}

/// The header of an MD5 that is known beforehand.
pub(super) fn md5_sent(payload: &Payload) -> Option<Header> {
    match payload {
        Payload::Piped { md5, .. } => md5.clone().map(|md5| ("content-md5".into(), md5)),
        Payload::Whole(_) => None,
    }
}

impl S3Bucket {
    pub(super) async fn put_object(
        &self,
        object: &NewObject,
        payload: Payload,
        checksum: Option<&Checksum>,
        condition: &Condition,
    ) -> Result<Written, Fault> {
        let site = self.site("write object");
        let mut sent = headers::of_new_object(object, site)?;
        sent.extend(checksum_sent(checksum));
        sent.extend(md5_sent(&payload));
        let sending = Sending::new(payload, site).await?;
        let headers = match &self.lean {
            Some(lean) => {
                let put = Put { key: &object.key, sent, condition };
                sending.send(site, |body| self.put_lean(lean, put, body, site)).await?
            }
            None => {
                let exchange = Exchange::creating(sent);
                let listener = exchange.clone();
                Box::pin(sending.send(site, |body| self.put_by_sdk(&object.key, listener, body, condition))).await?;
                exchange.answer(site)?.headers
            }
        };
        headers::written(&headers, None, site)
    }

    async fn put_by_sdk(
        &self,
        key: &Key,
        exchange: Exchange,
        body: Outgoing,
        condition: &Condition,
    ) -> Result<(), Fault> {
        let site = self.site("write object");
        let length = i64::try_from(body.length())
            .map_err(|_| site.fault(FaultKind::Ineligible, "it is larger than any store accepts"))?;
        let (if_none_match, if_match) = conditions(condition);
        self.once
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .content_length(length)
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .set_expected_bucket_owner(self.owner.clone())
            .body(body.into())
            .customize()
            .interceptor(exchange)
            .disable_payload_signing()
            .send()
            .await
            .map_err(|error| raced_where_gone(site.explain(&error), condition))?;
        Ok(())
    }

    pub(super) async fn delete_current(&self, key: &Key, condition: &Condition) -> Result<Option<VersionId>, Fault> {
        let site = self.site("delete object");
        let (if_none_match, if_match) = conditions(condition);
        if if_none_match.is_some() {
            return Err(site.fault(FaultKind::Refused, "S3 cannot make a delete depend on the key's absence"));
        }
        let request = self
            .once
            .delete_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_if_match(if_match)
            .set_expected_bucket_owner(self.owner.clone());
        let send = async { request.send().await.map_err(|error| raced_where_gone(site.explain(&error), condition)) };
        let output = within(ANSWER, site, send).await?;
        let marker = output.delete_marker == Some(true);
        Ok(output.version_id.filter(|id| marker && !id.is_empty()).map(VersionId::new))
    }

    pub(super) async fn replace_tags(&self, key: &Key, pick: &Pick, tags: &Tags) -> Result<(), Fault> {
        let site = self.site("write tags");
        let unusable = |error: aws_sdk_s3::error::BuildError| site.fault(FaultKind::Refused, error.to_string());
        let set = tags
            .iter()
            .map(|(name, value)| Tag::builder().key(name).value(value).build().map_err(unusable))
            .collect::<Result<Vec<_>, Fault>>()?;
        let tagging = Tagging::builder().set_tag_set(Some(set)).build().map_err(unusable)?;
        self.safe
            .put_object_tagging()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(self.version_id(pick).await?)
            .tagging(tagging)
            .set_expected_bucket_owner(self.owner.clone())
            .send()
            .await
            .map_err(|error| gone_where_marker(site.explain(&error)))?;
        Ok(())
    }

    pub(super) async fn replace_acl(&self, key: &Key, pick: &Pick, grants: &[Grant]) -> Result<(), Fault> {
        let site = self.site("write ACL");
        let to = |permission: &str| {
            let grantees: Vec<&str> = grants
                .iter()
                .filter(|grant| grant.permission == permission)
                .map(|grant| grant.grantee.as_str())
                .collect();
            (!grantees.is_empty()).then(|| grantees.join(", "))
        };
        self.safe
            .put_object_acl()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(self.version_id(pick).await?)
            // Without any grant header S3 would look for a document; "private" is the ACL without grants.
            .set_acl(grants.is_empty().then_some(ObjectCannedAcl::Private))
            .set_grant_full_control(to("FULL_CONTROL"))
            .set_grant_read(to("READ"))
            .set_grant_read_acp(to("READ_ACP"))
            .set_grant_write_acp(to("WRITE_ACP"))
            .set_expected_bucket_owner(self.owner.clone())
            .send()
            .await
            .map_err(|error| gone_where_marker(site.explain(&error)))?;
        Ok(())
    }

    pub(super) async fn set_lock(&self, key: &Key, pick: &Pick, lock: &Lock) -> Result<(), Fault> {
        let version = self.version_id(pick).await?;
        if let (Some(mode), Some(until)) = (&lock.mode, lock.retain_until) {
            let site = self.site("write retention");
            let until = i64::try_from(until.0)
                .map_err(|_| site.fault(FaultKind::Refused, "the retention date is beyond any calendar"))?;
            let retention = ObjectLockRetention::builder()
                .mode(ObjectLockRetentionMode::from(mode.as_str()))
                .retain_until_date(DateTime::from_millis(until))
                .build();
            self.safe
                .put_object_retention()
                .bucket(&self.bucket)
                .key(key.as_str())
                .set_version_id(version.clone())
                .retention(retention)
                .set_expected_bucket_owner(self.owner.clone())
                .send()
                .await
                .map_err(|error| gone_where_marker(site.explain(&error)))?;
        }
        let Some(on) = lock.legal_hold else { return Ok(()) };
        let site = self.site("write legal hold");
        let status = if on { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        self.safe
            .put_object_legal_hold()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(version)
            .legal_hold(ObjectLockLegalHold::builder().status(status).build())
            .set_expected_bucket_owner(self.owner.clone())
            .send()
            .await
            .map_err(|error| gone_where_marker(site.explain(&error)))?;
        Ok(())
    }
}
