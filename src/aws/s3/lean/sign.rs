//! Signature Version 4 of one request. The `aws-sigv4` crate derives the keys and computes the signature; here is only
//! the canonical spelling, which for S3 is the request as it is sent.
//!
//! Credentials come from the SDK's provider and are kept until shortly before they expire; the key is derived once a day.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::sign::v4::generate_signing_key;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use ring::{digest, hmac as mac};

/// How long before their end credentials are replaced, how long ones without an end are kept, and how long their source
/// may take: all three as the SDK's own cache of identities has them.
const BEFORE_EXPIRY: Duration = Duration::from_secs(10);
const WITHOUT_EXPIRY: Duration = Duration::from_secs(15 * 60);
const LOADING: Duration = Duration::from_secs(5);

const DAY: u64 = 24 * 60 * 60;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What a signature says about the body.
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// SHA-256 of nothing.
pub(super) const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// SHA-256 in hex, as a signature says it about a signed body.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.extend([byte >> 4, byte & 15].into_iter().filter_map(|digit| char::from_digit(digit.into(), 16)));
    }
    text
}

/// A request before it is signed, in the spelling in which it is sent.
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    /// Percent-encoded once.
    pub(super) path: &'a str,
    /// Sorted and percent-encoded; without its question mark.
    pub(super) query: &'a str,
    /// All that are to be signed, `host` among them.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// [`UNSIGNED`] or the body's [`hash`].
    pub(super) payload: &'a str,
}

/// Credentials with what can be computed from them once a day.
struct Identity {
    credentials: Credentials,
    /// When others must be asked for.
    until: SystemTime,
    /// Days since 1970 that the key is for.
    day: u64,
    /// That day, `20261121`.
    date: String,
    /// `date/region/service/aws4_request`.
    scope: String,
    key: mac::Key,
}

/// Signs the requests for one bucket.
pub(super) struct Signer {
    provider: SharedCredentialsProvider,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    region: String,
    service: String,
    known: Mutex<Option<Arc<Identity>>>,
    /// Seconds by which the store's clock was found to be ahead of this machine's.
    ahead: AtomicI64,
    /// Held by the one who asks for credentials, so that the others wait for the same answer: why there were none, too.
    asking: tokio::sync::Mutex<Option<Arc<CredentialsError>>>,
    /// How often there were none.
    failures: AtomicU64,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({}, {})", self.region, self.service)
    }
}

impl Signer {
    /// `None` where the SDK was given neither credentials nor a clock.
    pub(super) fn new(config: &SdkConfig, region: String, service: String) -> Option<Self> {
        let time = config.time_source()?;
        Some(Self {
            provider: config.credentials_provider()?,
            clock: Box::new(move || time.now()),
            region,
            service,
            known: Mutex::new(None),
            ahead: AtomicI64::new(0),
            asking: tokio::sync::Mutex::default(),
            failures: AtomicU64::new(0),
        })
    }

    /// The headers of a request with those that sign it.
    pub(super) async fn sign(
        &self,
        request: Unsigned<'_>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Arc<CredentialsError>> {
        let seconds = self.now().saturating_add_signed(self.ahead.load(Ordering::Relaxed));
        let identity = self.identity(UNIX_EPOCH + Duration::from_secs(seconds), seconds / DAY).await?;
        let time = format!("{}T{}Z", identity.date, time_of_day(seconds % DAY));
        let mut headers = request.headers;
        let unusable =
            |_| Arc::new(CredentialsError::invalid_configuration("the credentials do not fit into HTTP headers"));
        headers.push((HeaderName::from_static("x-amz-date"), HeaderValue::try_from(&time).map_err(unusable)?));
        let payload = HeaderValue::try_from(request.payload).map_err(unusable)?;
        headers.push((HeaderName::from_static("x-amz-content-sha256"), payload));
        if let Some(token) = identity.credentials.session_token() {
            let mut token = HeaderValue::try_from(token).map_err(unusable)?;
            token.set_sensitive(true);
            headers.push((HeaderName::from_static("x-amz-security-token"), token));
        }
        headers.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let names = signed_names(&headers);
        let canonical = canonical(request.method, [request.path, request.query], &headers, [&names, request.payload]);
        let hashed = hash(&canonical);
        let to_sign = format!("{ALGORITHM}\n{time}\n{}\n{hashed}", identity.scope);
        let signature = hex(mac::sign(&identity.key, to_sign.as_bytes()).as_ref());
        let id = identity.credentials.access_key_id();
        let spoken =
            format!("{ALGORITHM} Credential={id}/{}, SignedHeaders={names}, Signature={signature}", identity.scope);
        headers.push((AUTHORIZATION, HeaderValue::try_from(spoken).map_err(unusable)?));
        Ok(headers)
    }

    /// Forgets the credentials: the store says that they are not good any more.
    pub(super) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// From now on goes by the store's clock: it says that ours is too far off, and what time it has.
    pub(super) fn set_clock(&self, there: DateTime) {
        let ahead = i64::try_from(self.now()).map_or(0, |here| there.secs().saturating_sub(here));
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    fn known(&self) -> Option<Arc<Identity>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn identity(&self, now: SystemTime, day: u64) -> Result<Arc<Identity>, Arc<CredentialsError>> {
        let good = |known: &Arc<Identity>| known.day == day && now < known.until;
        if let Some(known) = self.known().filter(good) {
            return Ok(known);
        }
        let failures = self.failures.load(Ordering::Relaxed);
        let mut asking = self.asking.lock().await;
        let known = self.known();
        if let Some(known) = known.as_ref().filter(|known| good(known)) {
            return Ok(Arc::clone(known));
        }
        let credentials = match known {
            Some(known) if now < known.until => known.credentials.clone(),
            Some(_) | None => self.ask(&mut asking, failures).await?,
        };
        let fresh = Arc::new(self.derive(credentials, now, day).map_err(Arc::new)?);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Asks for credentials, unless the one who asked while we waited was told that there are none: each asking for
    /// itself, a hundred requests would wait one after the other for a service that is down.
    async fn ask(
        &self,
        last: &mut Option<Arc<CredentialsError>>,
        failures: u64,
    ) -> Result<Credentials, Arc<CredentialsError>> {
        if let Some(failed) = last
            && self.failures.load(Ordering::Relaxed) != failures
        {
            return Err(Arc::clone(failed));
        }
        self.load().await.map_err(|error| {
            let failed = Arc::new(error);
            *last = Some(Arc::clone(&failed));
            self.failures.fetch_add(1, Ordering::Relaxed);
            failed
        })
    }

    async fn load(&self) -> Result<Credentials, CredentialsError> {
        match tokio::time::timeout(LOADING, self.provider.provide_credentials()).await {
            Ok(loaded) => loaded,
            Err(_) => Err(CredentialsError::provider_timed_out(LOADING)),
        }
    }

    fn derive(&self, credentials: Credentials, now: SystemTime, day: u64) -> Result<Identity, CredentialsError> {
        let text = DateTime::from(now).fmt(Format::DateTime).map_err(CredentialsError::unhandled)?;
        let date: String = text.chars().take_while(|c| *c != 'T').filter(|c| *c != '-').collect();
        let until = match credentials.expiry() {
            Some(expiry) => expiry.checked_sub(BEFORE_EXPIRY).unwrap_or(expiry),
            None => now + WITHOUT_EXPIRY,
        };
        let key = generate_signing_key(credentials.secret_access_key(), now, &self.region, &self.service);
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let key = mac::Key::new(mac::HMAC_SHA256, key.as_ref());
        Ok(Identity { key, credentials, until, day, date, scope })
    }
}

/// `153648` of seconds since midnight.
fn time_of_day(seconds: u64) -> String {
    format!("{:02}{:02}{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn signed_names(headers: &[(HeaderName, HeaderValue)]) -> String {
    let mut names = String::with_capacity(headers.len() * 24);
    for (name, _) in headers {
        if !names.is_empty() {
            names.push(';');
        }
        names.push_str(name.as_str());
    }
    names
}

/// The canonical request of the SigV4 specification, for sorted headers of which each name is there once.
fn canonical(
    method: &str,
    [path, query]: [&str; 2],
    headers: &[(HeaderName, HeaderValue)],
    [names, payload]: [&str; 2],
) -> Vec<u8> {
    let mut text = Vec::with_capacity(1024);
    for line in [method, path, query] {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.push(b':');
        push_trimmed(&mut text, value.as_bytes());
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(names.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(payload.as_bytes());
    text
}

/// Without spaces at both ends, and with one where there are several.
fn push_trimmed(text: &mut Vec<u8>, value: &[u8]) {
    let first = value.iter().position(|byte| *byte != b' ').unwrap_or(value.len());
    let last = value.iter().rposition(|byte| *byte != b' ').map_or(first, |last| last + 1);
    let mut after_space = false;
    for byte in value.get(first..last).unwrap_or_default() {
        if *byte != b' ' || !after_space {
            text.push(*byte);
        }
        after_space = *byte == b' ';
    }
}

#[cfg(test)]
#[path = "sign/tests.rs"]
mod tests;
