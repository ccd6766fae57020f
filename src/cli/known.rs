//! What `repl check` has learnt of each target's endpoint: kept in a file beside the ledger, so that it can be written
//! while a worker has that open, and read when one starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Target;
use crate::model::object::Timestamp;

use super::beside;

const NAME: &str = "endpoints.json";
/// Another form is not guessed at: as if nothing were known.
const FORMAT: u32 = 1;
/// Stores are upgraded and policies mended: older knowledge is none.
const BELIEVED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What one endpoint can do; `None` where it was not found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Where: another endpoint or bucket under the same name is another matter.
    endpoint: Option<String>,
    bucket: String,
    /// When, in milliseconds since 1970.
    learnt: u64,
    /// Whether a PUT holds to `If-None-Match` and `If-Match`.
    pub(super) conditional_put: Option<bool>,
    /// Whether the end of a multipart upload does.
    pub(super) conditional_complete: Option<bool>,
    /// Whether a CopyObject does.
    pub(super) conditional_copy: Option<bool>,
    /// Whether the store refuses bytes that differ from their checksum.
    pub(super) checksums: Option<bool>,
    /// Whether the store may copy from the source by itself.
    pub(super) server_side: Option<bool>,
}

impl Known {
    /// Nothing yet of this target.
    pub(super) fn of(target: &Target, now: Timestamp) -> Self {
        let endpoint = target.connection.endpoint.clone();
        Self { endpoint, bucket: target.bucket.clone(), learnt: now.0, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        [self.conditional_put, self.conditional_complete, self.conditional_copy, self.checksums, self.server_side]
            .iter()
            .all(Option::is_none)
    }

    fn is_about(&self, target: &Target) -> bool {
        self.endpoint == target.connection.endpoint && self.bucket == target.bucket
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    format: u32,
    targets: BTreeMap<String, Known>,
}

/// Remembers it, where there is a ledger: `false` where there is none yet. Where nothing was found out of a target, what
/// was known of it stays.
pub(super) fn write(ledger: &Path, learnt: BTreeMap<String, Known>) -> std::io::Result<bool> {
    if !ledger.exists() {
        return Ok(false);
    }
    let mut targets = file(ledger).unwrap_or_default().targets;
    targets.extend(learnt.into_iter().filter(|(_, known)| !known.is_empty()));
    let text = serde_json::to_vec(&File { format: FORMAT, targets }).map_err(std::io::Error::from)?;
    beside::write(ledger, NAME, &text)?;
    Ok(true)
}

fn file(ledger: &Path) -> Option<File> {
    let text = std::fs::read(ledger.join(NAME)).ok()?;
    serde_json::from_slice::<File>(&text).ok().filter(|file| file.format == FORMAT)
}

/// What is known of a target, unless it is too old or about another endpoint.
pub(super) fn read(ledger: &Path, target: &Target, now: Timestamp) -> Option<Known> {
    let known = file(ledger)?.targets.remove(target.id.as_str())?;
    let age = u128::from(now.0.saturating_sub(known.learnt));
    (known.is_about(target) && age <= BELIEVED.as_millis()).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Connection;
    use crate::model::object::TargetId;

    #[test]
    fn it_is_believed_for_a_while_and_of_one_endpoint() {
        let directory = tempfile::tempdir().unwrap();
        let target = Target { id: TargetId::new("dr"), bucket: "b".to_owned(), connection: Connection::default() };
        let now = Timestamp(1_000_000);
        let known = Known { server_side: Some(false), ..Known::of(&target, now) };
        let all = BTreeMap::from([("dr".to_owned(), known.clone())]);
        assert!(!write(&directory.path().join("absent"), all.clone()).unwrap(), "no ledger is made for it");
        assert_eq!(read(directory.path(), &target, now), None);
        assert!(write(directory.path(), all).unwrap());
        write(directory.path(), BTreeMap::from([("dr".to_owned(), Known::of(&target, now))])).unwrap();
        assert_eq!(read(directory.path(), &target, now), Some(known), "nothing new was found out");
        let elsewhere = Target { bucket: "c".to_owned(), ..target.clone() };
        assert_eq!(read(directory.path(), &elsewhere, now), None);
        let late = Timestamp(now.0 + 31 * 24 * 60 * 60 * 1000);
        assert_eq!(read(directory.path(), &target, late), None);
        std::fs::write(directory.path().join(NAME), r#"{"format":2,"targets":{}}"#).unwrap();
        assert_eq!(read(directory.path(), &target, now), None, "another form is not guessed at");
    }
}
