//! One signed exchange with S3, without the SDK: a request in parts goes in, the head and the body of its answer come
//! out.
//!
//! The SDK spends several times more CPU on a small request than the request itself takes. Here is what the requests of
//! the hot path need of it and no more: place and credentials are the SDK's own (`origin`, `sign`), connections are
//! hyper's (`wire`). What the answers mean is told by the verbs, with the same words as for the SDK's.

mod origin;
mod sign;
mod verbs;
mod wire;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::{Bytes, BytesMut};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Uri};

use super::body::Outgoing;
use super::exchange::{Answer, Header};
use super::metering::Metering;
use super::{headers, listing};
use crate::aws::fault::{Refusal, Site, chain};
use crate::aws::{ATTEMPT, HICCUP_PAUSE};
use crate::model::fault::{Fault, FaultKind};
use crate::model::usage;
use origin::{Origin, Way};
use sign::{OF_NOTHING, Signer, UNSIGNED, Unsigned};
use wire::{Arriving, Choice, Lost, Pool};

pub(super) use verbs::Put;

/// Bytes of an error's document, or of a write's answer, that are looked at: S3's have some hundred.
const WORDS: usize = 64 << 10;
/// Codes that say that the credentials are not good any more, whatever their expiry says.
const WORN_OUT: [&str; 4] = ["ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired"];
const AGENT: HeaderValue = HeaderValue::from_static(concat!("repl/", env!("CARGO_PKG_VERSION")));

/// When a request that brought no answer is sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Always: it leaves nothing behind.
    Unanswered,
    /// Only if it went over a connection that had been used before, which the server may just have closed: sent twice, it
    /// has the effect of once.
    Reused,
    /// Never: sent twice, it might leave two versions behind. (Not a byte of it sent is another matter.)
    Never,
}

/// A request in parts.
struct Ask<'a> {
    /// As what it is billed.
    kind: usage::Request,
    method: Method,
    /// Empty for the bucket itself.
    key: &'a str,
    /// In the order of their names.
    query: Vec<(&'static str, Cow<'a, str>)>,
    headers: Vec<Header>,
    again: Again,
}

/// The head of an answer, with its body to come.
struct Reply {
    status: u16,
    headers: Headers,
    body: Arriving,
}

/// The way to one bucket.
#[derive(Debug)]
pub(super) struct Lean {
    origin: Origin,
    signer: Signer,
    pool: Arc<Pool>,
    metering: Option<Metering>,
}

impl Lean {
    /// `None` where the SDK's configuration asks for what only the SDK can do.
    pub(super) fn new(config: &SdkConfig, path_style: bool, bucket: &str) -> Option<Self> {
        let origin = Origin::of(config, path_style, bucket)?;
        let signer = Signer::new(config, origin.region.clone(), origin.service.clone())?;
        let pool = Pool::new(origin.server.clone())?;
        Some(Self { origin, signer, pool, metering: None })
    }

    /// Has its requests counted.
    pub(super) fn metered(self, metering: Option<Metering>) -> Self {
        Self { metering, ..self }
    }

    /// Sends a request and waits for the head of its answer, whatever that is. Only having none is a fault.
    async fn send(&self, ask: &Ask<'_>, body: Outgoing, site: Site) -> Result<Reply, Fault> {
        let spare = body.again();
        let lost = match self.attempt(Choice::Any, ask, body, site).await? {
            Ok(reply) => return Ok(reply),
            Err(lost) => lost,
        };
        let body = match ask.again {
            Again::Unanswered => spare,
            Again::Reused | Again::Never if lost.reused && lost.unsent.is_some() => lost.unsent,
            Again::Reused if lost.reused => spare,
            Again::Reused | Again::Never => None,
        };
        let Some(body) = body else { return Err(unanswered(lost.error.as_ref(), site)) };
        let choice = if is_too_large(lost.error.as_ref()) { Choice::Roomy } else { Choice::New };
        if !lost.reused && choice == Choice::New {
            tokio::time::sleep(HICCUP_PAUSE).await;
        }
        self.attempt(choice, ask, body, site).await?.map_err(|lost| unanswered(lost.error.as_ref(), site))
    }

    async fn attempt(
        &self,
        choice: Choice,
        ask: &Ask<'_>,
        body: Outgoing,
        site: Site,
    ) -> Result<Result<Reply, Lost>, Fault> {
        let exchange = async {
            let length = body.length();
            let request = self.request(ask, body, site).await?;
            if let Some(metering) = &self.metering {
                let class = ask.headers.iter().find(|(name, _)| name == "x-amz-storage-class");
                metering.sent(ask.kind, class.map(|(_, class)| class.as_str()), length);
            }
            Ok(self.pool.exchange(choice, request).await)
        };
        let exchanged = match ask.again {
            // What moves no body has its own time limit.
            Again::Unanswered => match tokio::time::timeout(ATTEMPT, exchange).await {
                Ok(exchanged) => exchanged?,
                Err(_) => {
                    let error = format!("no answer within {} s", ATTEMPT.as_secs()).into();
                    return Ok(Err(Lost { error, reused: false, unsent: None }));
                }
            },
            Again::Reused | Again::Never => exchange.await?,
        };
        let response = match exchanged {
            Ok(response) => response,
            Err(lost) => return Ok(Err(lost)),
        };
        let (head, body) = response.into_parts();
        let headers = Headers::try_from(head.headers)
            .map_err(|error| site.fault(FaultKind::Transient, format!("the answer's headers are broken: {error}")))?;
        if let Some(metering) = &self.metering {
            metering.answered(ask.kind, head.status.as_u16(), &headers);
        }
        Ok(Ok(Reply { status: head.status.as_u16(), headers, body }))
    }

    async fn request(&self, ask: &Ask<'_>, body: Outgoing, site: Site) -> Result<Request<Outgoing>, Fault> {
        let unsendable =
            |error: &dyn std::fmt::Display| site.fault(FaultKind::Ineligible, format!("HTTP cannot carry it: {error}"));
        let path = format!("{}/{}", self.origin.path, headers::encode_path(ask.key));
        let query = spelled(&ask.query);
        let mut named = Vec::with_capacity(ask.headers.len() + 8);
        named.push((HOST, self.origin.host.clone()));
        for (name, value) in &ask.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unsendable(&error))?;
            named.push((name, HeaderValue::try_from(value).map_err(|error| unsendable(&error))?));
        }
        let payload = self.payload(ask, &body);
        let signing =
            Unsigned { method: ask.method.as_str(), path: &path, query: &query, headers: named, payload: &payload };
        let signed =
            self.signer.sign(signing).await.map_err(|error| site.without_credentials(&error, &chain(&error)))?;
        let place = if query.is_empty() { path } else { format!("{path}?{query}") };
        let mut request = Request::new(body);
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = Uri::try_from(place).map_err(|error| unsendable(&error))?;
        *request.headers_mut() = HeaderMap::with_capacity(signed.len() + 1);
        request.headers_mut().extend(signed);
        request.headers_mut().insert(USER_AGENT, AGENT);
        Ok(request)
    }

    /// What the signature says of the body. Where nobody on the way can change it, nothing: TLS does that for less. On
    /// an open way a body in memory is signed; of a piped one the checksum in its signed headers is all that S3 checks.
    fn payload(&self, ask: &Ask<'_>, body: &Outgoing) -> Cow<'static, str> {
        match (body, self.origin.way) {
            _ if ask.method == Method::GET || ask.method == Method::HEAD => Cow::Borrowed(OF_NOTHING),
            (Outgoing::Whole(bytes), Way::Open) => Cow::Owned(sign::hash(bytes)),
            (Outgoing::Whole(_) | Outgoing::Piped(_), Way::Guarded) | (Outgoing::Piped(_), Way::Open) => {
                Cow::Borrowed(UNSIGNED)
            }
        }
    }

    /// What an answer that is not what was asked for says.
    async fn refused(&self, reply: Reply) -> Refused {
        let Reply { status, headers, body } = reply;
        let words = tokio::time::timeout(ATTEMPT, gathered(body, WORDS)).await;
        let words = words.ok().and_then(Result::ok).unwrap_or_default();
        let (code, message) = error_told(&words);
        match code.as_deref() {
            Some(code) if WORN_OUT.contains(&code) => self.signer.forget(),
            Some("RequestTimeTooSkewed") => {
                let there = headers.get("date").and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
                there.into_iter().for_each(|there| self.signer.set_clock(there));
            }
            Some(_) | None => {}
        }
        Refused { status, headers, code, message }
    }
}

/// An answer that is not what was asked for, read to its end.
struct Refused {
    status: u16,
    headers: Headers,
    code: Option<String>,
    message: Option<String>,
}

impl Refused {
    fn refusal(&self) -> Refusal<'_> {
        let (code, message) = (self.code.as_deref(), self.message.as_deref());
        Refusal { status: self.status, headers: &self.headers, code, message }
    }

    fn fault(&self, site: Site) -> Fault {
        site.refused(&self.refusal(), || "it is neither what was asked for nor an error".to_owned())
    }
}

impl Reply {
    fn succeeded(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Head and body, the body read into memory: at most so many bytes.
    async fn whole(self, most: usize, site: Site) -> Result<Answer, Fault> {
        let Self { status, headers, body } = self;
        match gathered(body, most).await {
            Ok(bytes) => Ok(Answer { status, headers, body: Some(bytes) }),
            Err(detail) => Err(site.fault(FaultKind::Transient, detail)),
        }
    }
}

/// A body in memory.
async fn gathered(mut body: Arriving, most: usize) -> Result<Bytes, String> {
    let mut all = BytesMut::new();
    let mut first = Bytes::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| format!("the answer broke off: {}", chain(&error)))?;
        if all.len() + first.len() + piece.len() > most {
            return Err(format!("the answer is longer than {most} bytes"));
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&piece);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Code and message of an `<Error>` document, as far as it can be read; nothing of anything else.
fn error_told(xml: &[u8]) -> (Option<String>, Option<String>) {
    let (mut code, mut message) = (None, None);
    let read = listing::elements(xml, |path, text| match path {
        [b"Error", b"Code"] => code = Some(text.to_owned()),
        [b"Error", b"Message"] => message = Some(text.to_owned()),
        _ => {}
    });
    if let Err(detail) = read {
        tracing::debug!(detail, "an error's document could not be read to its end");
    }
    (code.filter(|code| !code.is_empty()), message)
}

fn unanswered(error: &(dyn std::error::Error + Send + Sync + 'static), site: Site) -> Fault {
    let kind = if is_too_large(error) { FaultKind::Ineligible } else { FaultKind::Transient };
    site.fault(kind, chain(error))
}

/// Whether the answer had more headers, or longer ones, than its connection takes.
fn is_too_large(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large)
}

/// `name=value&…`, percent-encoded.
fn spelled(query: &[(&'static str, Cow<'_, str>)]) -> String {
    let mut text = String::new();
    for (name, value) in query {
        let between = if text.is_empty() { "" } else { "&" };
        // Writing to a String does not fail.
        write!(text, "{between}{name}={}", headers::encode(value)).ok();
    }
    text
}

/// The header that tells a body's length: an empty body would not tell it by itself.
fn length(bytes: u64) -> Header {
    (CONTENT_LENGTH.as_str().to_owned().into(), bytes.to_string())
}
