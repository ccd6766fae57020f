//! Which object is meant.

use percent_encoding::percent_decode_str;

use crate::audit::explain::Question;
use crate::config::Config;
use crate::model::object::{Key, VersionId};

use super::Failure;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Why {
    /// s3://BUCKET/KEY[?versionId=ID]: of the source bucket, or of a target's. The key is taken as it stands
    #[arg(value_name = "s3://B/K")]
    object: String,
    /// The version; all of the address is the key then
    #[arg(long, value_name = "ID", conflicts_with = "literal")]
    version_id: Option<String>,
    /// All of the address is the key, also a ?versionId= in it
    #[arg(long)]
    literal: bool,
    /// The key is percent-encoded, as in a URL: %2B stands for +, and + for itself
    #[arg(long)]
    encoded: bool,
    /// One JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// A source key and, where one is meant, its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) key: Key,
    pub(super) version: Option<VersionId>,
}

impl Named {
    /// What both sides are asked.
    pub(super) fn question<'a>(&'a self, config: &'a Config) -> Question<'a> {
        let (rules, source_bucket) = (&*config.rules, config.source.bucket.as_str());
        Question { rules, source_bucket, key: &self.key, version: self.version.as_ref() }
    }
}

impl Why {
    /// What is meant, at the source.
    pub(super) fn named(&self, config: &Config) -> Result<Named, Failure> {
        let rest = self.object.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
        let Some((bucket, rest)) = rest.filter(|(_, key)| !key.is_empty()) else {
            let example = config.source.bucket.as_str();
            return Err(Failure::usage(format!(
                "{:?} names no object: accepted is one such as s3://{example}/folder/file, with ?versionId=ID behind it \
                 where one version is meant",
                self.object
            )));
        };
        let (key, version) = match &self.version_id {
            Some(version) => (rest, Some(version.as_str())),
            None if self.literal => (rest, None),
            None => split_version(rest),
        };
        let key = if self.encoded { decoded(key)? } else { key.to_owned() };
        let version = version.map(VersionId::new);
        if bucket == config.source.bucket {
            return Ok(Named { key: Key::new(key), version });
        }
        if version.is_some() {
            let source = &config.source.bucket;
            return Err(Failure::usage(format!("a version is named by its id in the source bucket {source:?}")));
        }
        at_source(config, bucket, &key).map(|key| Named { key, version })
    }
}

/// A key and the version behind its last `?versionId=`.
fn split_version(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once("?versionId=") {
        Some((key, version)) if !key.is_empty() && !version.is_empty() && !version.contains(['/', '?', '&']) => {
            (key, Some(version))
        }
        Some(_) | None => (text, None),
    }
}

fn decoded(key: &str) -> Result<String, Failure> {
    let decoded = percent_decode_str(key).decode_utf8();
    let failed = |_| Failure::usage(format!("{key:?} does not decode to UTF-8, which every key is"));
    decoded.map(std::borrow::Cow::into_owned).map_err(failed)
}

/// The source key of a replica.
fn at_source(config: &Config, bucket: &str, key: &str) -> Result<Key, Failure> {
    let of_bucket =
        |rule: &&crate::plan::route::Rule| config.target(&rule.target).is_some_and(|target| target.bucket == bucket);
    let mut rules = config.rules.iter().filter(of_bucket).peekable();
    if rules.peek().is_none() {
        let mut known = vec![config.source.bucket.as_str()];
        known.extend(config.targets.iter().map(|target| target.bucket.as_str()));
        return Err(Failure::usage(format!("bucket {bucket:?} is not in the config, which has {}", known.join(", "))));
    }
    let original = rules.find_map(|rule| {
        let original = key.strip_prefix(rule.target_prefix.as_str())?;
        (!original.is_empty() && original.starts_with(rule.prefix.as_str())).then(|| Key::new(original))
    });
    let unruled = || Failure::usage(format!("no rule writes {key:?} into bucket {bucket:?}"));
    original.ok_or_else(unruled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_at_the_end_is_one() {
        for (text, key, version) in [
            ("a", "a", None),
            ("a?versionId=v1", "a", Some("v1")),
            ("a?versionId=null", "a", Some("null")),
            ("a?versionId=x/b", "a?versionId=x/b", None),
            ("a?versionId=", "a?versionId=", None),
            ("?versionId=v1", "?versionId=v1", None),
            ("a?versionId=x?versionId=v1", "a?versionId=x", Some("v1")),
            ("a?b=c", "a?b=c", None),
            ("ä + %2B", "ä + %2B", None),
        ] {
            assert_eq!(split_version(text), (key, version), "{text}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_once() {
        assert_eq!(decoded("a%20b+c%252B%C3%A4").ok().as_deref(), Some("a b+c%2Bä"));
        assert!(decoded("%FF").is_err());
    }
}
