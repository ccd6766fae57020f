//! What only `repl check` asks: who we are, whether metrics are taken, whether a topic is there.

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::types::{MetricDatum, StandardUnit};

use super::fault::Site;
use super::{Endpoint, client};
use crate::model::fault::Fault;

/// As whom a side is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account, where told.
    pub account: Option<String>,
    /// The ARN of the user or of the assumed role's session, where told.
    pub arn: Option<String>,
}

/// Who the credentials of an endpoint belong to. STS asks for no permission, so `Denied` means bad credentials.
pub async fn caller(config: &SdkConfig, endpoint: &Endpoint) -> Result<Caller, Fault> {
    let site = Site::new(endpoint.owner_side, "learn who we are");
    let client: aws_sdk_sts::Client = client!(aws_sdk_sts, config);
    let answer = client.get_caller_identity().send().await.map_err(|error| site.explain(&error))?;
    Ok(Caller { account: answer.account, arn: answer.arn })
}

/// Sends one value of a metric that nothing else sends, so that no alarm takes it for a sign of life.
pub async fn prove_metrics(
    config: &SdkConfig,
    endpoint: &Endpoint,
    namespace: &str,
    metric: &str,
) -> Result<(), Fault> {
    let site = Site::new(endpoint.owner_side, "send metrics");
    let client = client!(aws_sdk_cloudwatch, config);
    let datum = MetricDatum::builder().metric_name(metric).unit(StandardUnit::Count).value(1.0).build();
    let sent = client.put_metric_data().namespace(namespace).metric_data(datum).send().await;
    sent.map(drop).map_err(|error| site.explain(&error))
}

/// Whether a topic is there. `Gone` or `Refused` where not, `Denied` where it may not be asked.
pub async fn topic(config: &SdkConfig, endpoint: &Endpoint, arn: &str) -> Result<(), Fault> {
    let site = Site::new(endpoint.owner_side, "look at topic");
    let client = client!(aws_sdk_sns, config);
    client.get_topic_attributes().topic_arn(arn).send().await.map(drop).map_err(|error| site.explain(&error))
}
