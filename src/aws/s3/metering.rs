//! What a bucket's requests use, as S3 bills it: every one that goes out, those that are sent again too.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::config_bag::ConfigBag;

use crate::meter;
use crate::model::usage::{Place, Request, STANDARD};

/// Counts the requests of one bucket: the SDK's as their interceptor.
#[derive(Clone, Debug)]
pub(super) struct Metering {
    place: Place,
}

/// The kind of an operation by the SDK's name for it.
fn kind(config: &ConfigBag) -> Option<Request> {
    Some(match config.load::<Metadata>()?.name() {
        "ListObjectsV2" | "ListObjectVersions" | "ListParts" => Request::List,
        "HeadObject" => Request::Head,
        "GetObject" => Request::Get,
        "PutObject" => Request::Put,
        "CopyObject" => Request::Copy,
        "CreateMultipartUpload" => Request::Create,
        "UploadPart" => Request::Part,
        "UploadPartCopy" => Request::PartCopy,
        "CompleteMultipartUpload" => Request::Complete,
        "DeleteObject" | "AbortMultipartUpload" => Request::Delete,
        name if name.starts_with("Get") => Request::GetAttributes,
        // What is not known is billed as the dearer kind.
        _ => Request::PutAttributes,
    })
}

fn class(headers: &Headers) -> Option<&str> {
    headers.get("x-amz-storage-class")
}

fn length(headers: &Headers) -> u64 {
    headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// Whether the answer tells of a KMS key that was used for this one request.
fn used_key(headers: &Headers) -> bool {
    let kms = headers.get("x-amz-server-side-encryption").is_some_and(|kind| kind.starts_with("aws:kms"));
    kms && headers.get("x-amz-server-side-encryption-bucket-key-enabled") != Some("true")
}

impl Metering {
    pub(super) fn of(place: Place) -> Self {
        Self { place }
    }

    /// A request goes out, with so many bytes, for an object of that class.
    pub(super) fn sent(&self, request: Request, class: Option<&str>, length: u64) {
        if matches!(request, Request::Get | Request::Head) {
            // Billed by the class of the object, which the answer tells.
            return;
        }
        meter::note(|usage| {
            usage.request(&self.place, request, class.unwrap_or(STANDARD), 1);
            if let (Request::Put | Request::Part, Place::Target(target)) = (request, &self.place) {
                usage.moves(target, length);
            }
        });
    }

    /// An answer has come, whatever it says.
    pub(super) fn answered(&self, request: Request, status: u16, headers: &Headers) {
        let class = class(headers).unwrap_or(STANDARD);
        meter::note(|usage| {
            if matches!(request, Request::Get | Request::Head) {
                usage.request(&self.place, request, class, 1);
            }
            if request == Request::Get && (200..300).contains(&status) {
                usage.reads(class, length(headers));
            }
            // A HEAD tells of the key and does not use it.
            if request != Request::Head && used_key(headers) {
                usage.uses_key(&self.place, 1);
            }
        });
    }
}

impl Intercept for Metering {
    fn name(&self) -> &'static str {
        "repl metering"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(request) = kind(config) else { return Ok(()) };
        let headers = context.request().headers();
        self.sent(request, class(headers), length(headers));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(request) = kind(config) else { return Ok(()) };
        let answer = context.response();
        self.answered(request, answer.status().as_u16(), answer.headers());
        Ok(())
    }
}
