//! The source, read only: listings, an object, its tags, and the keys that its objects are encrypted under.

use std::collections::BTreeMap;

use super::Probes;
use super::finding::{Check, Finding};
use super::side::{Bucket, SetUp};
use crate::aws::kms::Kms;
use crate::cli::world::endpoint;
use crate::model::fault::{FaultKind, Side};
use crate::model::object::{Encryption, Found, Head, Key, Versioning};
use crate::ports::{Fetched, KeyService, ListFrom, ObjectStore, Pick, Read};

/// Prefixes of rules that are listed: permissions may be bound to them.
const PREFIXES: usize = 10;
/// Objects of each prefix whose headers are looked at, to find one of every key.
const LOOKS: u16 = 20;

/// One object of the source that a rule brings.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) key: Key,
    pub(super) head: Head,
}

/// What there is to be read.
#[derive(Debug, Default)]
pub(super) struct Samples {
    all: Vec<Sample>,
}

impl Samples {
    /// The smallest that has bytes.
    pub(super) fn smallest(&self) -> Option<&Sample> {
        let readable = self.all.iter().filter(|sample| sample.head.size > 0);
        readable.min_by_key(|sample| sample.head.size)
    }

    /// One for each KMS key.
    fn by_key(&self) -> BTreeMap<&str, &Sample> {
        let keyed = self.all.iter().filter_map(|sample| match &sample.head.encryption {
            Encryption::Kms(Some(key)) | Encryption::Dsse(Some(key)) => Some((key.as_str(), sample)),
            _ => None,
        });
        keyed.collect()
    }
}

fn pick(sample: &Sample, set_up: &SetUp) -> Pick {
    match set_up.versioning {
        Some(Versioning::Off) => Pick::Current,
        Some(Versioning::Enabled | Versioning::Suspended) | None => Pick::Version(sample.head.version.clone()),
    }
}

impl Probes<'_> {
    /// Everything that is read of the source, and what was found there to read.
    pub(super) async fn reading(&self, bucket: &Bucket<'_>, set_up: &SetUp) -> (Vec<Check>, Samples) {
        let side = bucket.side;
        let (mut rows, mut samples) = (Vec::new(), Samples::default());
        let (objects, versions) = tokio::join!(
            Check::of("list", side, self.list(bucket, &mut samples)),
            Check::of("list-versions", side, self.list_versions(bucket)),
        );
        rows.extend([objects, versions]);
        let (read, tags) = tokio::join!(
            Check::of("read", side, read(bucket, set_up, samples.all.first())),
            Check::of("tags", side, tags(bucket, set_up, samples.all.first())),
        );
        rows.extend([read, tags]);
        rows.extend(self.decrypt(bucket, set_up, &samples).await);
        (rows, samples)
    }

    fn prefixes(&self) -> Vec<&str> {
        let mut prefixes: Vec<&str> =
            self.config.rules.iter().filter(|rule| rule.enabled).map(|rule| rule.prefix.as_str()).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes.truncate(PREFIXES);
        prefixes
    }

    async fn list(&self, bucket: &Bucket<'_>, samples: &mut Samples) -> Finding {
        let place = bucket.place;
        let mut seen = 0;
        for prefix in self.prefixes() {
            let page = match bucket.store.list_objects(prefix, &ListFrom::Start, Some(LOOKS)).await {
                Ok(page) => page,
                Err(fault) => return place.failed(&fault, &["s3:ListBucket"], &place.arn()),
            };
            seen += page.entries.len();
            let looks = page.entries.iter().map(async |listed| {
                let found = bucket.store.head(&listed.key, &Pick::Current).await.ok()?;
                let Found::Object(head) = found else { return None };
                Some(Sample { key: listed.key.clone(), head: *head })
            });
            samples.all.extend(futures_util::future::join_all(looks).await.into_iter().flatten());
        }
        Finding::pass(match seen {
            0 => "allowed; there is no object yet in the scope of any rule".to_owned(),
            seen => format!("allowed; looked at {seen} objects in the scope of the rules"),
        })
    }

    async fn list_versions(&self, bucket: &Bucket<'_>) -> Finding {
        let place = bucket.place;
        for prefix in self.prefixes() {
            if let Err(fault) = bucket.store.list_versions(prefix, None).await {
                return place.failed(&fault, &["s3:ListBucketVersions"], &place.arn());
            }
        }
        Finding::pass("allowed")
    }

    /// One row for each KMS key: those that objects were found under, and those that rules name.
    async fn decrypt(&self, bucket: &Bucket<'_>, set_up: &SetUp, samples: &Samples) -> Vec<Check> {
        let found = samples.by_key();
        let mut rows = Vec::new();
        for (arn, sample) in &found {
            rows.push(Check::of(&format!("decrypt {arn}"), bucket.side, decrypt(bucket, set_up, arn, sample)).await);
        }
        let mut named: Vec<&str> =
            self.config.rules.iter().flat_map(|rule| rule.kms_map.keys()).map(String::as_str).collect();
        named.sort_unstable();
        named.dedup();
        for arn in named.into_iter().filter(|arn| !found.contains_key(arn)) {
            rows.push(Check::of(&format!("decrypt {arn}"), bucket.side, self.source_key(bucket, arn)).await);
        }
        rows
    }

    /// A key that a rule names and that no object was found under: all that can be told is its state.
    async fn source_key(&self, bucket: &Bucket<'_>, arn: &str) -> Finding {
        let connection = bucket.place.connection;
        let place = endpoint(connection, Side::Keys, crate::aws::HotPath::Sdk);
        let described = async { Kms::new(&self.clients.sdk_config(&place).await?, &place).describe(arn).await };
        match described.await {
            Ok(state) if !state.enabled => Finding::fail(
                format!("the source key {arn} is disabled: nothing under it can be read"),
                format!("enable it: aws kms enable-key --region {} --key-id {arn}", connection.region),
            ),
            Ok(_) => Finding::skipped("it is enabled; no object under it was found that could be read"),
            Err(fault) if fault.kind == FaultKind::KeyUnusable => Finding::fail(
                fault.to_string(),
                "correct the key in kms_map of the rule: it must be one of the source's",
            ),
            Err(fault) => Finding::skipped(format!("no object under it was found, and its state is not told: {fault}")),
        }
    }
}

/// Reads one byte of a version. Without any object a key that is not there is asked for: who may not read is told
/// "denied" for it, and who may "there is none".
async fn read(bucket: &Bucket<'_>, set_up: &SetUp, sample: Option<&Sample>) -> Finding {
    let place = bucket.place;
    let absent = Key::new(".repl/check/absent");
    let (key, pick, range) = match sample {
        Some(sample) => (&sample.key, pick(sample, set_up), (sample.head.size > 0).then_some((0, 0))),
        None => (&absent, Pick::Current, None),
    };
    match bucket.store.get(key, Read { pick, range, if_match: None }).await {
        Ok(Fetched::Object(_)) => Finding::pass(format!("read {key:?}")),
        Ok(Fetched::Missing | Fetched::DeleteMarker) => Finding::pass("allowed; there was no object to read"),
        Err(fault) if fault.kind == FaultKind::Archived => Finding::pass(format!("{key:?} is archived, and so unread")),
        Err(fault) if fault.kind == FaultKind::KeyUnusable => Finding::skipped("the key is the matter, see decrypt"),
        Err(fault) => place.failed(&fault, &["s3:GetObject", "s3:GetObjectVersion"], &place.objects()),
    }
}

async fn tags(bucket: &Bucket<'_>, set_up: &SetUp, sample: Option<&Sample>) -> Finding {
    let place = bucket.place;
    let Some(sample) = sample else { return Finding::skipped("there is no object whose tags could be read") };
    match bucket.store.tags(&sample.key, &pick(sample, set_up)).await {
        Ok(tags) => Finding::pass(format!("read the {} tags of {:?}", tags.len(), sample.key)),
        Err(fault) => place.failed(&fault, &["s3:GetObjectTagging", "s3:GetObjectVersionTagging"], &place.objects()),
    }
}

async fn decrypt(bucket: &Bucket<'_>, set_up: &SetUp, arn: &str, sample: &Sample) -> Finding {
    let read = Read { pick: pick(sample, set_up), range: (sample.head.size > 0).then_some((0, 0)), if_match: None };
    match bucket.store.get(&sample.key, read).await {
        Ok(_) => Finding::pass(format!("read {:?}, which is encrypted under it", sample.key)),
        Err(fault) => {
            let statement = bucket.place.key_statement(&["kms:Decrypt"], arn);
            let fix =
                format!("see that the key is enabled, and {}", crate::cli::fix::grant(&statement, "the key's policy"));
            Finding::fail(fault.to_string(), fix)
        }
    }
}
