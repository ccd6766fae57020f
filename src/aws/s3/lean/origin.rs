//! Where the requests for one bucket go and what they are signed for, told by the SDK's own rules.

use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use aws_config::SdkConfig;
use aws_sdk_s3::config::endpoint::{DefaultResolver, Endpoint, Params, ResolveEndpoint};
use aws_types::service_config::ServiceConfigKey;
use hyper::Uri;
use hyper::header::HeaderValue;

/// The one way of signing that is spoken here.
const SIGV4: &str = "sigv4";

/// Whether somebody on the way could change a body unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// TLS, or this very machine.
    Guarded,
    /// Plain HTTP to another machine.
    Open,
}

/// The place of one bucket.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Scheme, host and port.
    pub(super) server: Uri,
    /// The `Host` header: without the scheme's own port.
    pub(super) host: HeaderValue,
    /// What comes before `/key` in every path: nothing, or `/bucket`. Percent-encoded.
    pub(super) path: String,
    /// The region that signatures name.
    pub(super) region: String,
    /// The service that signatures name.
    pub(super) service: String,
    pub(super) way: Way,
}

impl Origin {
    /// The place that the SDK itself would use. `None` where that asks for more than a SigV4 signature: access points
    /// of many regions, directory buckets, header of its own, an explicit preference.
    pub(super) fn of(config: &SdkConfig, path_style: bool, bucket: &str) -> Option<Self> {
        if config.auth_scheme_preference().is_some() {
            return None;
        }
        let params = Params::builder()
            .set_region(config.region().map(ToString::to_string))
            .set_use_fips(config.use_fips())
            .set_use_dual_stack(config.use_dual_stack())
            .set_endpoint(endpoint_url(config))
            .force_path_style(path_style)
            .bucket(bucket)
            .build()
            .ok()?;
        let resolver = DefaultResolver::new();
        // The rules are computed, not asked for: the answer is there at once.
        let resolved = pin!(resolver.resolve_endpoint(&params)).poll(&mut Context::from_waker(Waker::noop()));
        match resolved {
            Poll::Ready(Ok(endpoint)) => Self::told(&endpoint),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }

    fn told(endpoint: &Endpoint) -> Option<Self> {
        let scheme = endpoint.auth_schemes().first().filter(|scheme| scheme.name() == SIGV4)?;
        let property = |name: &str| scheme.get(name)?.as_string().map(str::to_owned);
        if endpoint.headers().next().is_some() {
            return None;
        }
        let url: Uri = endpoint.url().parse().ok()?;
        let (name, port) = (url.host()?, url.port_u16());
        let (usual, tls) = match url.scheme_str()? {
            "https" => (443, true),
            "http" => (80, false),
            _ => return None,
        };
        let host = match port.filter(|port| *port != usual) {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        Some(Self {
            host: HeaderValue::try_from(host).ok()?,
            path: url.path().trim_end_matches('/').to_owned(),
            region: property("signingRegion")?,
            service: property("signingName")?,
            way: if tls || is_loopback(name) { Way::Guarded } else { Way::Open },
            server: url,
        })
    }
}

/// As the SDK's S3 client reads it: what the program said, else what is set for S3 alone, else for all services.
fn endpoint_url(config: &SdkConfig) -> Option<String> {
    let general = || config.endpoint_url().map(str::to_owned);
    if config.get_origin("endpoint_url").is_client_config() {
        return general();
    }
    let key = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = key.ok().and_then(|key| config.service_config()?.load_config(key));
    own.or_else(general)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[path = "origin/tests.rs"]
mod tests;
