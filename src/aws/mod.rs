//! Floor 3: adapters. The ports, spoken in AWS's own words.
//!
//! *Secret kept:* every SDK crate, HTTP, credentials, XML and JSON on the wire, and how a service's answer becomes a
//! [`Fault`]. *May touch:* `model`, `ports`, the network. *Must not know:* the ledger,
//! the engine, rules, the config file.
//!
//! Retries live elsewhere (DESIGN 6: one durable layer). Here only a request that may be repeated without effect is
//! sent once more, and only when no answer came at all: a `SlowDown` must be seen by the one who can slow down.

pub mod cloudwatch;
mod fault;
pub mod kms;
pub mod notification;
pub mod probe;
pub mod s3;
pub mod setup;
pub mod sns;
pub mod sqs;

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig};
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::model::fault::{Fault, FaultKind, Side};

/// To open a connection. The SDK's own default since its 2026 behaviour version; applies to every call.
const CONNECT: Duration = Duration::from_millis(3100);
/// One attempt of a call that moves no body and that may be repeated: well above S3's and KMS's slowest ordinary
/// answers, well below what an operator calls hung.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Before the second and last attempt after a connection hiccup.
const HICCUP_PAUSE: Duration = Duration::from_millis(100);
/// Idle connections are dropped before S3 drops them (seen after some 20 s in public reports), so that a request
/// seldom meets a connection that has just been closed.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// The one name of our sessions: each assumed-role session is a requester of its own to S3 Bucket Keys, so a changing
/// name would multiply KMS calls (aws-semantics 7.5).
const SESSION: &str = "repl";

/// Where a service is and as whom to speak to it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The region, `us-east-1`.
    pub region: String,
    /// The URL of an S3-compatible store or emulator; `None` for AWS.
    pub endpoint: Option<String>,
    /// Whether the bucket is named in the path instead of the host.
    pub path_style: bool,
    /// A profile of the shared AWS config files; `None` for the normal chain.
    pub profile: Option<String>,
    /// A role to assume with the credentials found.
    pub role_arn: Option<String>,
    /// The external id which that role's trust policy asks for.
    pub external_id: Option<String>,
    /// The account that must own the bucket; requests to a bucket of another owner are refused by S3.
    pub expected_bucket_owner: Option<String>,
    /// The side that faults of this endpoint are booked to.
    pub owner_side: Side,
    /// Who sends the requests that every object costs. Only S3 asks for it.
    pub client: HotPath,
}

/// Who sends the requests that every object costs (GET, HEAD, PUT, UploadPart, listings); the SDK sends all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HotPath {
    /// Our own client, for a third of the CPU; where the SDK's settings ask for what it cannot do, the SDK.
    #[default]
    Lean,
    /// The SDK.
    Sdk,
}

impl Endpoint {
    /// An endpoint on AWS in that region, with the normal credential chain.
    #[must_use]
    pub fn in_region(region: impl Into<String>, owner_side: Side) -> Self {
        Self {
            region: region.into(),
            endpoint: None,
            path_style: false,
            profile: None,
            role_arn: None,
            external_id: None,
            expected_bucket_owner: None,
            owner_side,
            client: HotPath::default(),
        }
    }
}

/// The one HTTP client that all SDK clients of a process share: one pool of connections, one set of trusted roots.
#[derive(Clone, Debug)]
pub struct Clients {
    http: SharedHttpClient,
}

impl Default for Clients {
    fn default() -> Self {
        Self::new()
    }
}

impl Clients {
    /// Makes the HTTP client: rustls with ring. Its connections belong to the runtime they are first used on.
    #[must_use]
    pub fn new() -> Self {
        let http = Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .pool_idle_timeout(POOL_IDLE)
            .build_https();
        Self { http }
    }

    /// The SDK settings of one endpoint. Credentials are looked up with the first request, not here. Faults as
    /// `Refused` where the endpoint is not a URL that can be spoken to.
    pub async fn sdk_config(&self, endpoint: &Endpoint) -> Result<SdkConfig, Fault> {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(self.http.clone())
            .region(Region::new(endpoint.region.clone()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // Checksums are carried and verified by the caller (P5): the SDK must neither add its own CRC32, which
            // would change the replica's algorithm, nor wrap a piped body into aws-chunked.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(url) = &endpoint.endpoint {
            loader = loader.endpoint_url(checked_url(url, endpoint.owner_side)?);
        }
        if let Some(profile) = &endpoint.profile {
            // A chain with that name would still prefer keys from the environment. What the profile itself asks for (a
            // role, SSO, the instance's own role) goes through our HTTP client: there is no other in this program.
            let settings = ProviderConfig::without_region()
                .with_region(Some(Region::new(endpoint.region.clone())))
                .with_http_client(self.http.clone());
            let named = ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&settings).build();
            loader = loader.profile_name(profile).credentials_provider(named);
        }
        let config = loader.load().await;
        let Some(role) = &endpoint.role_arn else { return Ok(config) };
        let mut provider = AssumeRoleProvider::builder(role)
            .session_name(SESSION)
            .region(Region::new(endpoint.region.clone()))
            .configure(&config);
        if let Some(id) = &endpoint.external_id {
            provider = provider.external_id(id);
        }
        let assumed = provider.build().await;
        Ok(config.to_builder().credentials_provider(SharedCredentialsProvider::new(assumed)).build())
    }
}

fn checked_url(url: &str, side: Side) -> Result<String, Fault> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    Err(Fault::new(
        FaultKind::Refused,
        side,
        "use the endpoint",
        format!("\"{url}\" is not a URL: write http://host:port or https://host"),
    ))
}

/// Settings for calls that may be repeated without effect: two attempts, the second only if no answer came.
fn twice() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(2).with_initial_backoff(HICCUP_PAUSE).with_max_backoff(HICCUP_PAUSE)
}

/// Time limits of calls that move no body, `longer` than [`ATTEMPT`] where the service itself waits that long.
fn patience(longer: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT.saturating_add(longer)).build()
}

/// The client of a service, for calls that move no body: two attempts where no answer came, and none after one.
macro_rules! client {
    ($sdk:ident, $config:expr) => {
        $sdk::Client::from_conf(
            $sdk::config::Builder::from($config)
                .retry_config($crate::aws::twice())
                .retry_classifier($crate::aws::UnansweredOnly)
                .timeout_config($crate::aws::patience(std::time::Duration::ZERO))
                .build(),
        )
    };
}
use client;

/// Forbids the SDK to repeat a request that was answered, whatever the answer says.
#[derive(Debug)]
struct UnansweredOnly;

impl ClassifyRetry for UnansweredOnly {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        if context.response().is_some() { RetryAction::RetryForbidden } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "unanswered only"
    }
}
