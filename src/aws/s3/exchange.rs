//! What the SDK's typed inputs and outputs cannot carry: headers added verbatim before signing, and the answer's own
//! headers and bytes.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;

use crate::aws::fault::Site;
use crate::model::fault::{Fault, FaultKind};

/// A header of a request: name in lower case, value verbatim.
pub(super) type Header = (Cow<'static, str>, String);

/// The answer to one request.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Headers,
    /// The body, for operations whose answer is read into memory.
    pub(super) body: Option<Bytes>,
}

/// An interceptor for one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange {
    add: Arc<[Header]>,
    without_content_type: bool,
    answer: Arc<Mutex<Option<Answer>>>,
}

impl Exchange {
    /// Only listens.
    pub(super) fn listening() -> Self {
        Self::default()
    }

    /// Adds headers. They are signed with the rest.
    pub(super) fn adding(headers: Vec<Header>) -> Self {
        Self { add: headers.into(), ..Self::default() }
    }

    /// Adds the headers of a new object. Where it has no `Content-Type`, the SDK's own one is taken out.
    pub(super) fn creating(headers: Vec<Header>) -> Self {
        let without_content_type = !headers.iter().any(|(name, _)| name == "content-type");
        Self { add: headers.into(), without_content_type, ..Self::default() }
    }

    /// The answer, once the request has succeeded.
    pub(super) fn answer(&self, site: Site) -> Result<Answer, Fault> {
        let taken = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| site.fault(FaultKind::Transient, "the answer was lost inside the client"))
    }
}

impl Intercept for Exchange {
    fn name(&self) -> &'static str {
        "repl exchange"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        if self.without_content_type {
            headers.remove("content-type");
        }
        for (name, value) in self.add.iter() {
            headers.try_insert(name.clone(), value.clone())?;
        }
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.body().bytes().map(Bytes::copy_from_slice),
        };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        Ok(())
    }
}
