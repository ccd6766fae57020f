//! The one place where an SDK's error becomes a [`Fault`]: the table of aws-semantics 11.

use std::borrow::Cow;
use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::words::shown;

/// The most that is told of a service's own words, and of its code, in characters: who answers may say anything.
const DETAIL: usize = 450;
const CODE: usize = 80;

/// An answer that is not what was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a Headers,
    /// The service's error code, where it told one.
    pub(super) code: Option<&'a str>,
    /// The service's own words.
    pub(super) message: Option<&'a str>,
}

/// The answer behind an SDK's error; `None` where none came.
pub(super) fn refusal<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Refusal<'_>> {
    let response = error.raw_response()?;
    let (code, message) = match error {
        SdkError::ServiceError(service) => (service.err().code(), service.err().message()),
        _ => (None, None),
    };
    Some(Refusal { status: response.status().as_u16(), headers: response.headers(), code, message })
}

/// Whose call it was, and what it was for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub(super) side: Side,
    pub(super) during: &'static str,
}

impl Site {
    pub(super) fn new(side: Side, during: &'static str) -> Self {
        Self { side, during }
    }

    /// A fault that no service spoke.
    pub(super) fn fault(self, kind: FaultKind, detail: impl Into<String>) -> Fault {
        Fault::new(kind, self.side, self.during, shown(&detail.into(), DETAIL))
    }

    /// The fault that an SDK error means.
    pub(super) fn explain<E>(self, error: &SdkError<E, HttpResponse>) -> Fault
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match refusal(error) {
            Some(refusal) => self.refused(&refusal, || chain(error)),
            None => self.unanswered(error),
        }
    }

    /// The fault that an answer means; `unread` says what is wrong with one that says nothing by itself.
    pub(super) fn refused(self, refusal: &Refusal<'_>, unread: impl FnOnce() -> String) -> Fault {
        let Refusal { status, headers, code, message } = *refusal;
        let mut detail = match (message, code) {
            (Some(message), _) if !message.trim().is_empty() => message.trim().to_owned(),
            (_, Some(_)) => "the service gave no further reason".to_owned(),
            (_, None) if (200..300).contains(&status) => format!("the answer could not be read: {}", unread()),
            (_, None) => "the service gave no reason".to_owned(),
        };
        if let Some(region) = headers.get("x-amz-bucket-region")
            && (status == 301 || status == 307 || status == 400)
        {
            detail = format!("{detail} (the bucket lives in region {region})");
        }
        Fault {
            kind: classify(self.side, Some(status), code, &detail),
            side: self.side,
            during: self.during,
            code: code.map(|code| Cow::Owned(shown(code, CODE))),
            status: Some(status),
            detail: shown(&detail, DETAIL),
        }
    }

    /// The fault of having no credentials.
    pub(super) fn without_credentials(self, error: &CredentialsError, text: &str) -> Fault {
        self.fault(credentials_kind(error, text), format!("no usable credentials: {text}"))
    }

    fn unanswered<E>(self, error: &SdkError<E, HttpResponse>) -> Fault
    where
        E: Error + 'static,
    {
        let text = chain(error);
        if let Some(credentials) = find::<CredentialsError>(error) {
            return self.without_credentials(credentials, &text);
        }
        // A request that could not even be built will not be built better next time; everything else that happened
        // without an answer (time-out, refused or broken connection, name lookup) may pass.
        let kind = match error {
            SdkError::ConstructionFailure(_) => FaultKind::Refused,
            _ => FaultKind::Transient,
        };
        self.fault(kind, text)
    }
}

/// Whether the credentials are wrong, or only cannot be had right now (STS busy, metadata service slow).
fn credentials_kind(error: &CredentialsError, text: &str) -> FaultKind {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => FaultKind::Denied,
        _ if ["AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch"]
            .iter()
            .any(|code| text.contains(code)) =>
        {
            FaultKind::Denied
        }
        _ => FaultKind::Transient,
    }
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<T>() {
            return Some(found);
        }
        next = current.source();
    }
    None
}

/// An error and its causes as one line; the last cause is the one that tells most.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if words.last() != Some(&text) {
            words.push(text);
        }
        next = cause.source();
    }
    words.join(": ")
}

/// What kind of fault an answer means: the code decides where it is known, else the status.
pub(super) fn classify(side: Side, status: Option<u16>, code: Option<&str>, message: &str) -> FaultKind {
    code.and_then(|code| by_code(side, code, message)).unwrap_or_else(|| by_status(status, code, message))
}

fn by_code(side: Side, code: &str, message: &str) -> Option<FaultKind> {
    if side == Side::Keys
        && let Some(kind) = by_kms_code(code)
    {
        return Some(kind);
    }
    Some(match code {
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "ProvisionedThroughputExceededException"
        | "BandwidthLimitExceeded"
        | "LimitExceededException"
        | "PriorRequestNotComplete"
        | "EC2ThrottledException"
        | "OverLimit"
        | "KmsThrottled" => FaultKind::Throttled,
        "InternalError"
        | "InternalFailure"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "TokenRefreshRequired"
        | "IncompleteBody" => FaultKind::Transient,
        "PreconditionFailed" | "ConditionalRequestConflict" | "OperationAborted" => FaultKind::Raced,
        "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" | "NotFound" => FaultKind::Gone,
        "AccessDenied" | "AccessDeniedException" | "Forbidden" => denial(message),
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "NotSignedUp"
        | "InvalidToken"
        | "InvalidSecurity"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "IncompleteSignature"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken" => FaultKind::Denied,
        "InvalidObjectState" | "ObjectNotInActiveTierError" => FaultKind::Archived,
        "EntityTooLarge" | "MetadataTooLarge" | "KeyTooLongError" => FaultKind::Ineligible,
        "BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" | "InvalidPart" => {
            FaultKind::Corrupt
        }
        "InvalidRequest" | "InvalidArgument" => by_request_message(message),
        other => return by_kms_prefix(other),
    })
}

/// Codes of the key service itself, where the general reading would be wrong.
fn by_kms_code(code: &str) -> Option<FaultKind> {
    match code {
        "KMSInternalException" | "DependencyTimeoutException" | "KeyUnavailableException" => Some(FaultKind::Transient),
        // Not being allowed to ask about a key says nothing of what S3 may do with it on our behalf.
        "AccessDeniedException" | "AccessDenied" => Some(FaultKind::Denied),
        "NotFoundException"
        | "DisabledException"
        | "KMSInvalidStateException"
        | "InvalidArnException"
        | "InvalidKeyUsageException" => Some(FaultKind::KeyUnusable),
        _ => None,
    }
}

/// KMS faults that S3 (`KMS.DisabledException`) and SQS (`KmsDisabled`) pass on. The exact set is not published
/// (aws-semantics 12.6), so the prefix decides.
fn by_kms_prefix(code: &str) -> Option<FaultKind> {
    let rest = code.strip_prefix("KMS.").or_else(|| code.strip_prefix("Kms"))?;
    if ["Throttl", "LimitExceeded", "TooManyRequests"].iter().any(|word| rest.contains(word)) {
        Some(FaultKind::Throttled)
    } else if ["Internal", "DependencyTimeout", "KeyUnavailable"].iter().any(|word| rest.contains(word)) {
        Some(FaultKind::Transient)
    } else {
        Some(FaultKind::KeyUnusable)
    }
}

/// S3 answers `AccessDenied` for its own refusals and for those of KMS alike: only the words tell which.
fn denial(message: &str) -> FaultKind {
    let speaks_of_kms = match message.split_once("perform: ") {
        Some((_, action)) => action.starts_with("kms:"),
        None => message.contains("KMS") || message.contains("kms:"),
    };
    if speaks_of_kms { FaultKind::KeyUnusable } else { FaultKind::Denied }
}

/// `InvalidRequest` and `InvalidArgument` are codes of many meanings.
fn by_request_message(message: &str) -> FaultKind {
    let has = |words: &str| message.contains(words);
    if has("stored using a form of Server Side Encryption") {
        FaultKind::Ineligible
    } else if has("delete marker") {
        FaultKind::Gone
    } else if has("mp-object-size") {
        FaultKind::Corrupt
    } else if has("KMS") {
        FaultKind::KeyUnusable
    } else {
        FaultKind::Refused
    }
}

fn by_status(status: Option<u16>, code: Option<&str>, message: &str) -> FaultKind {
    match status {
        None => FaultKind::Transient,
        Some(429 | 503) => FaultKind::Throttled,
        Some(412) => FaultKind::Raced,
        Some(409) if code.is_none() => FaultKind::Raced,
        Some(404) if code.is_none() => FaultKind::Gone,
        Some(401 | 403) => denial(message),
        Some(501) => FaultKind::Refused,
        // A 2xx that reads as an error is an error in its body, or an answer cut short (aws-semantics 3.6).
        Some(200..=299 | 408 | 500..) => FaultKind::Transient,
        Some(_) => FaultKind::Refused,
    }
}

#[cfg(test)]
#[path = "fault/tests.rs"]
mod tests;
