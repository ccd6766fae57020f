//! What a bucket is like, apart from its objects; and the removal of what `repl` itself put under `.repl/`.

use aws_sdk_s3::types::{ObjectLockEnabled, ServerSideEncryption};

use super::S3Bucket;
use super::exchange::Exchange;
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{Encryption, Key, Timestamp, VersionId};
use crate::model::reserved;
use crate::ports::Pick;

/// Where a bucket is, and what the server's clock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The region that the store names; `None` where it names none.
    pub region: Option<String>,
    /// The time in the answer's `Date` header; `None` where there was none.
    pub date: Option<Timestamp>,
}

/// Object Lock of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// None.
    Off,
    /// Objects may be locked.
    Enabled,
    /// Every new version is locked by default.
    ByDefault,
}

impl S3Bucket {
    /// Whether the bucket is there and may be looked at: `HeadBucket`.
    pub async fn sight(&self) -> Result<Sighting, Fault> {
        let site = self.site("look at bucket");
        let exchange = Exchange::listening();
        self.safe
            .head_bucket()
            .bucket(&self.bucket)
            .set_expected_bucket_owner(self.owner.clone())
            .customize()
            .interceptor(exchange.clone())
            .send()
            .await
            .map_err(|error| site.explain(&error))?;
        let headers = exchange.answer(site)?.headers;
        let date = headers.get("date").and_then(|date| {
            let date = aws_smithy_types::DateTime::from_str(date, aws_smithy_types::date_time::Format::HttpDate);
            u64::try_from(date.ok()?.to_millis().ok()?).ok().map(Timestamp)
        });
        Ok(Sighting { region: headers.get("x-amz-bucket-region").map(str::to_owned), date })
    }

    /// The region of the bucket by `GetBucketLocation`, which also names that of a bucket in another one.
    pub async fn location(&self) -> Result<String, Fault> {
        let site = self.site("read location");
        let answer = self.safe.get_bucket_location().bucket(&self.bucket).send().await;
        let answer = answer.map_err(|error| site.explain(&error))?;
        // aws-semantics 3: the first region has no constraint, and the oldest name of Ireland is EU.
        Ok(match answer.location_constraint.as_ref().map(aws_sdk_s3::types::BucketLocationConstraint::as_str) {
            None | Some("") => "us-east-1".to_owned(),
            Some("EU") => "eu-west-1".to_owned(),
            Some(region) => region.to_owned(),
        })
    }

    /// The encryption that a write gets which asks for none.
    pub async fn default_encryption(&self) -> Result<Encryption, Fault> {
        let site = self.site("read default encryption");
        let request = self.safe.get_bucket_encryption().bucket(&self.bucket);
        let answer = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        let answer = match answer.map_err(|error| site.explain(&error)) {
            Err(fault) if is(&fault, "ServerSideEncryptionConfigurationNotFoundError") => {
                return Ok(Encryption::Untold);
            }
            answer => answer?,
        };
        let rules = answer.server_side_encryption_configuration.map(|all| all.rules).unwrap_or_default();
        let default = rules.into_iter().find_map(|rule| rule.apply_server_side_encryption_by_default);
        Ok(match default {
            Some(default) if default.sse_algorithm == ServerSideEncryption::AwsKms => {
                Encryption::Kms(default.kms_master_key_id)
            }
            Some(default) if default.sse_algorithm == ServerSideEncryption::AwsKmsDsse => {
                Encryption::Dsse(default.kms_master_key_id)
            }
            Some(_) => Encryption::S3,
            None => Encryption::Untold,
        })
    }

    /// Whether objects can be locked there.
    pub async fn locking(&self) -> Result<Locking, Fault> {
        let site = self.site("read Object Lock");
        let request = self.safe.get_object_lock_configuration().bucket(&self.bucket);
        let answer = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        let answer = match answer.map_err(|error| site.explain(&error)) {
            Err(fault) if is(&fault, "ObjectLockConfigurationNotFoundError") => return Ok(Locking::Off),
            answer => answer?,
        };
        let Some(configuration) = answer.object_lock_configuration else { return Ok(Locking::Off) };
        let by_default = configuration.rule.and_then(|rule| rule.default_retention).is_some();
        Ok(match configuration.object_lock_enabled {
            Some(ObjectLockEnabled::Enabled) if by_default => Locking::ByDefault,
            Some(ObjectLockEnabled::Enabled) => Locking::Enabled,
            Some(_) | None => Locking::Off,
        })
    }

    /// The bucket's object ownership in S3's word; `None` where it was never set (the writer owns).
    pub async fn ownership(&self) -> Result<Option<String>, Fault> {
        let site = self.site("read ownership");
        let request = self.safe.get_bucket_ownership_controls().bucket(&self.bucket);
        let answer = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        let answer = match answer.map_err(|error| site.explain(&error)) {
            Err(fault) if is(&fault, "OwnershipControlsNotFoundError") => return Ok(None),
            answer => answer?,
        };
        let rules = answer.ownership_controls.map(|controls| controls.rules).unwrap_or_default();
        Ok(rules.first().map(|rule| rule.object_ownership.as_str().to_owned()))
    }

    /// Removes one version of a key for good, or of a bucket without versions the object. Only what `repl` itself put
    /// under `.repl/`: any other key is `Refused` unsent. If dropped, the version may be gone.
    pub async fn erase(&self, key: &Key, version: &VersionId) -> Result<(), Fault> {
        let site = self.site("remove own version");
        if !reserved::is_own(key) {
            return Err(site.fault(FaultKind::Refused, format!("{key:?} was not put there by repl")));
        }
        self.safe
            .delete_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(self.version_id(&Pick::Version(version.clone())).await?)
            .set_expected_bucket_owner(self.owner.clone())
            .send()
            .await
            .map(drop)
            .map_err(|error| site.explain(&error))
    }

    /// The multipart uploads that are open under a prefix: the first 1,000.
    pub async fn open_uploads(&self, prefix: &str) -> Result<Vec<(Key, String)>, Fault> {
        let site = self.site("list uploads");
        let request = self.safe.list_multipart_uploads().bucket(&self.bucket).prefix(prefix);
        let answer = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        let uploads = answer.map_err(|error| site.explain(&error))?.uploads.unwrap_or_default();
        Ok(uploads.into_iter().filter_map(|one| Some((Key::new(one.key?), one.upload_id?))).collect())
    }
}

fn is(fault: &Fault, code: &str) -> bool {
    fault.code.as_deref() == Some(code)
}
