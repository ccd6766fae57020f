//! Alerts to SNS topics, one for each tier, as [`AlertSink`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sns::Client;
use aws_sdk_sns::config::Builder;
use aws_smithy_types::retry::RetryConfig;

use super::fault::Site;
use super::{Endpoint, patience};
use crate::model::fault::{Fault, Side};
use crate::ports::{Alert, AlertSink, Tier};

/// The topics of the tiers.
pub struct Topics {
    client: Client,
    arns: BTreeMap<Tier, String>,
    side: Side,
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topics({:?})", self.arns)
    }
}

impl Topics {
    /// Topics by ARN. Nothing is sent yet.
    #[must_use]
    pub fn new(config: &SdkConfig, endpoint: &Endpoint, arns: BTreeMap<Tier, String>) -> Self {
        // Whoever delivers tries again by itself, and more slowly.
        let config = Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(patience(Duration::ZERO))
            .build();
        Self { client: Client::from_conf(config), arns, side: endpoint.owner_side }
    }
}

impl AlertSink for Topics {
    fn name(&self) -> &'static str {
        "sns"
    }

    fn reaches(&self, tier: Tier) -> bool {
        self.arns.contains_key(&tier)
    }

    /// Publishes the JSON, as CloudWatch does, so that what reads its messages reads these.
    async fn deliver(&self, alert: &Alert) -> Result<(), Fault> {
        let site = Site::new(self.side, "publish an alert");
        let Some(arn) = self.arns.get(&alert.tier) else { return Ok(()) };
        let request = self.client.publish().topic_arn(arn).subject(&alert.subject).message(&alert.json);
        request.send().await.map_err(|error| site.explain(&error))?;
        Ok(())
    }
}
