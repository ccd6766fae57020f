//! Metrics to CloudWatch, as [`MetricSink`].

use std::fmt;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::Builder;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};
use aws_smithy_types::DateTime;
use aws_smithy_types::retry::RetryConfig;

use super::fault::Site;
use super::{Endpoint, patience};
use crate::model::fault::{Fault, Side};
use crate::model::object::Timestamp;
use crate::ports::{Datum, MetricSink};

/// Metrics of one PutMetricData at most (aws-semantics 7.3). Each has at most 150 values here and three dimensions:
/// far below the limit of 1 MB, which counts the body as the SDK gzips it.
const METRICS: usize = 1000;

/// How fine CloudWatch keeps time (aws-semantics 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Minutes.
    Standard,
    /// Seconds: what alarms with a period of 10, 20 or 30 s need.
    High,
}

/// CloudWatch in one region, one namespace of it.
pub struct CloudWatch {
    client: Client,
    namespace: String,
    resolution: Resolution,
    side: Side,
}

impl fmt::Debug for CloudWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloudWatch({})", self.namespace)
    }
}

impl CloudWatch {
    /// The namespace behind that endpoint. Nothing is sent yet.
    #[must_use]
    pub fn new(config: &SdkConfig, endpoint: &Endpoint, namespace: impl Into<String>, resolution: Resolution) -> Self {
        // Sent once: CloudWatch counts twice what it is sent twice. What fails goes with the next interval.
        let config = Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(patience(Duration::ZERO))
            .build();
        Self { client: Client::from_conf(config), namespace: namespace.into(), resolution, side: endpoint.owner_side }
    }

    fn datum(&self, at: DateTime, datum: &Datum) -> MetricDatum {
        let dimensions = datum
            .dimensions
            .iter()
            .map(|dimension| Dimension::builder().name(dimension.name).value(&dimension.value).build())
            .collect();
        #[allow(clippy::cast_precision_loss, reason = "the API has doubles for counts")]
        let counts = datum.values.iter().map(|(_, count)| *count as f64).collect();
        MetricDatum::builder()
            .metric_name(datum.name)
            .set_dimensions(Some(dimensions))
            .timestamp(at)
            .unit(StandardUnit::from(datum.unit))
            .set_values(Some(datum.values.iter().map(|(value, _)| *value).collect()))
            .set_counts(Some(counts))
            .storage_resolution(match self.resolution {
                Resolution::Standard => 60,
                Resolution::High => 1,
            })
            .build()
    }
}

impl MetricSink for CloudWatch {
    async fn send(&self, at: Timestamp, data: &[Datum]) -> Result<(), Fault> {
        let site = Site::new(self.side, "send metrics");
        let at = DateTime::from_millis(i64::try_from(at.0).unwrap_or(i64::MAX));
        for some in data.chunks(METRICS) {
            let data = some.iter().map(|datum| self.datum(at, datum)).collect();
            let request = self.client.put_metric_data().namespace(&self.namespace).set_metric_data(Some(data));
            request.send().await.map_err(|error| site.explain(&error))?;
        }
        Ok(())
    }
}
