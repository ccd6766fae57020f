//! The verbs of the hot path, each one signed exchange.

use std::borrow::Cow;

use aws_smithy_runtime_api::http::Headers;
use hyper::Method;

use super::super::body::Outgoing;
use super::super::exchange::{Answer, Header};
use super::super::read::{Looked, absence, checksum_mode};
use super::super::{S3Bucket, conditions, headers, raced_where_gone, within};
use super::{Again, Ask, Lean, Reply, WORDS, length};
use crate::aws::ATTEMPT;
use crate::aws::fault::Site;
use crate::model::fault::Fault;
use crate::model::object::Key;
use crate::model::usage;
use crate::ports::{Condition, Fetched, Read, UploadRef};

/// The largest listing that is read: a thousand of the longest keys, each byte encoded as three, with all else that S3
/// tells of an object.
const DOCUMENT: usize = 16 << 20;

/// A PUT but for its body.
pub(in crate::aws::s3) struct Put<'a> {
    pub(in crate::aws::s3) key: &'a Key,
    /// What makes the object what it is.
    pub(in crate::aws::s3) sent: Vec<Header>,
    pub(in crate::aws::s3) condition: &'a Condition,
}

impl S3Bucket {
    pub(in crate::aws::s3) async fn get_lean(
        &self,
        lean: &Lean,
        key: &Key,
        version: Option<String>,
        read: &Read,
    ) -> Result<Fetched, Fault> {
        let site = self.site("read object");
        let mut asked = self.owner_expected();
        match read.range {
            Some(range) => asked.push(("range".into(), headers::range(range))),
            // A range's checksum would not be the object's.
            None => asked.push(checksum_mode()),
        }
        asked.extend(read.if_match.as_ref().map(|etag| ("if-match".into(), headers::quoted(etag))));
        let reply = lean.send(&looking(Method::GET, key, version, asked), Outgoing::nothing(), site).await?;
        if !reply.succeeded() {
            let refused = lean.refused(reply).await;
            return match absence(&refused.refusal()) {
                Some(absence) => Ok(absence.into()),
                None => Err(refused.fault(site)),
            };
        }
        let Reply { status, headers, body } = reply;
        self.fetched(&Answer { status, headers, body: None }, body, read)
    }

    pub(in crate::aws::s3) async fn head_lean(
        &self,
        lean: &Lean,
        key: &Key,
        version: Option<String>,
    ) -> Result<Looked, Fault> {
        let site = self.site("look at object");
        let mut asked = self.owner_expected();
        asked.push(checksum_mode());
        let reply = lean.send(&looking(Method::HEAD, key, version, asked), Outgoing::nothing(), site).await?;
        if reply.succeeded() {
            return Ok(Looked::Answered(reply.headers));
        }
        let refused = lean.refused(reply).await;
        Ok(match absence(&refused.refusal()) {
            Some(absence) => Looked::Absent(absence),
            None => Looked::Refused(refused.fault(site)),
        })
    }

    /// The headers of the answer to a PUT.
    pub(in crate::aws::s3) async fn put_lean(
        &self,
        lean: &Lean,
        put: Put<'_>,
        body: Outgoing,
        site: Site,
    ) -> Result<Headers, Fault> {
        let (if_none_match, if_match) = conditions(put.condition);
        let mut asked = self.owner_expected();
        asked.extend(put.sent);
        asked.extend(if_none_match.map(|value| ("if-none-match".into(), value)));
        asked.extend(if_match.map(|value| ("if-match".into(), value)));
        let again = match put.condition {
            // The condition would not hold a second time.
            Condition::Absent => Again::Reused,
            // The same bytes have the same ETag: on top of themselves they would be written twice.
            Condition::Matches(_) | Condition::Any => Again::Never,
        };
        let kind = usage::Request::Put;
        let ask = Ask { kind, method: Method::PUT, key: put.key.as_str(), query: Vec::new(), headers: asked, again };
        let written = self.write_lean(lean, ask, body, site).await;
        written.map_err(|fault| raced_where_gone(fault, put.condition))
    }

    /// The headers of the answer to a part.
    pub(in crate::aws::s3) async fn part_lean(
        &self,
        lean: &Lean,
        (upload, number): (UploadRef<'_>, u32),
        sent: Vec<Header>,
        body: Outgoing,
    ) -> Result<Headers, Fault> {
        let mut asked = self.owner_expected();
        asked.extend(sent);
        let ask = Ask {
            kind: usage::Request::Part,
            method: Method::PUT,
            key: upload.key.as_str(),
            query: vec![("partNumber", number.to_string().into()), ("uploadId", upload.id.into())],
            headers: asked,
            again: Again::Reused,
        };
        self.write_lean(lean, ask, body, self.site("write part")).await
    }

    /// One page of a listing, whose query comes in the order of its names.
    pub(in crate::aws::s3) async fn list_lean(
        &self,
        lean: &Lean,
        query: Vec<(&'static str, Cow<'_, str>)>,
        site: Site,
    ) -> Result<Answer, Fault> {
        let kind = usage::Request::List;
        let ask =
            Ask { kind, method: Method::GET, key: "", query, headers: self.owner_expected(), again: Again::Unanswered };
        let reply = lean.send(&ask, Outgoing::nothing(), site).await?;
        if !reply.succeeded() {
            return Err(lean.refused(reply).await.fault(site));
        }
        let answer = within(ATTEMPT, site, reply.whole(DOCUMENT, site)).await?;
        let (code, message) = match answer.body.as_deref() {
            // A listing has many lines; an error in its place has few.
            Some(body) if body.len() <= WORDS => super::error_told(body),
            Some(_) | None => (None, None),
        };
        if code.is_some() {
            return Err(super::Refused { status: answer.status, headers: answer.headers, code, message }.fault(site));
        }
        Ok(answer)
    }

    async fn write_lean(&self, lean: &Lean, mut ask: Ask<'_>, body: Outgoing, site: Site) -> Result<Headers, Fault> {
        ask.headers.push(length(body.length()));
        let reply = lean.send(&ask, body, site).await?;
        if !reply.succeeded() {
            return Err(lean.refused(reply).await.fault(site));
        }
        // Read to its end, so that the connection can be used again. The object is there, whatever becomes of it.
        let Reply { status, headers, body } = reply;
        let (code, message) = super::error_told(&super::gathered(body, WORDS).await.unwrap_or_default());
        if code.is_some() {
            return Err(super::Refused { status, headers, code, message }.fault(site));
        }
        Ok(headers)
    }

    fn owner_expected(&self) -> Vec<Header> {
        let mut headers = Vec::with_capacity(12);
        headers.extend(self.owner.iter().map(|owner| ("x-amz-expected-bucket-owner".into(), owner.clone())));
        headers
    }
}

fn looking(method: Method, key: &Key, version: Option<String>, headers: Vec<Header>) -> Ask<'_> {
    let query = version.map(|id| ("versionId", Cow::Owned(id))).into_iter().collect();
    let kind = if method == Method::HEAD { usage::Request::Head } else { usage::Request::Get };
    Ask { kind, method, key: key.as_str(), query, headers, again: Again::Unanswered }
}
