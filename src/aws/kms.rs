//! The KMS of one region, as [`KeyService`].

use aws_config::SdkConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::types::DataKeySpec;
use std::fmt;

use super::fault::Site;
use super::{Endpoint, client};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::ports::{KeyService, KeyState};

/// The key service behind one endpoint. Its faults are booked to [`Side::Keys`].
pub struct Kms {
    client: Client,
    region: String,
}

impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kms({})", self.region)
    }
}

impl Kms {
    /// The key service of the endpoint's region. Nothing is sent yet.
    #[must_use]
    pub fn new(config: &SdkConfig, endpoint: &Endpoint) -> Self {
        Self { client: client!(aws_sdk_kms, config), region: endpoint.region.clone() }
    }

    /// `None` where it could not be read, for whatever reason: rotation is advice, not a condition.
    async fn rotation(&self, arn: &str) -> Option<bool> {
        let output = self.client.get_key_rotation_status().key_id(arn).send().await.ok()?;
        Some(output.key_rotation_enabled)
    }
}

/// The region in a key ARN (`arn:aws:kms:REGION:…`); `None` for anything else.
fn region_of(arn: &str) -> Option<&str> {
    let mut fields = arn.split(':');
    match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some("arn"), Some(_), Some("kms"), Some(region)) => Some(region),
        _ => None,
    }
}

impl KeyService for Kms {
    async fn describe(&self, arn: &str) -> Result<KeyState, Fault> {
        let site = Site::new(Side::Keys, "look at key");
        if let Some(region) = region_of(arn).filter(|region| *region != self.region) {
            let detail = format!("{arn} is a key of {region}, but the bucket's keys must be in {}", self.region);
            return Err(site.fault(FaultKind::KeyUnusable, detail));
        }
        let output = self.client.describe_key().key_id(arn).send().await.map_err(|error| site.explain(&error))?;
        let Some(key) = output.key_metadata else {
            return Err(site.fault(FaultKind::Transient, format!("the service said nothing of {arn}")));
        };
        let enabled = key.enabled;
        let full = key.arn.unwrap_or_else(|| arn.to_owned());
        let rotation = self.rotation(&full).await;
        Ok(KeyState { arn: full, enabled, rotation })
    }

    async fn prove(&self, arn: &str, bucket: &str) -> Result<(), Fault> {
        let site = Site::new(Side::Keys, "make a data key");
        // The context that S3 itself sends with a Bucket Key, so that a key policy bound to it is proved as well
        // (aws-semantics 7.5). The data key is thrown away with the answer.
        self.client
            .generate_data_key()
            .key_id(arn)
            .key_spec(DataKeySpec::Aes256)
            .encryption_context("aws:s3:arn", format!("arn:{}:s3:::{bucket}", partition(arn)))
            .send()
            .await
            .map_err(|error| site.explain(&error))?;
        Ok(())
    }
}

/// The partition in an ARN: `aws`, `aws-cn`, `aws-us-gov`.
fn partition(arn: &str) -> &str {
    arn.split(':').nth(1).unwrap_or("aws")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_and_partition_are_read_from_the_arn() {
        let arn = "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/1234abcd";
        assert_eq!(region_of(arn), Some("us-gov-west-1"));
        assert_eq!(partition(arn), "aws-us-gov");
        assert_eq!(region_of("alias/mine"), None);
        assert_eq!(region_of("arn:aws:s3:::bucket"), None);
        assert_eq!(partition("alias/mine"), "aws");
    }
}
