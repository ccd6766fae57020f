//! How both buckets age, and whether they have versions.

use std::collections::{BTreeMap, BTreeSet};

use super::wish::{Want, Wish};
use super::{Bucket, Settings};
use crate::ports::setup::{Document, Kind, LifecycleRule, Place, Resource, Tiering};

/// The ids of the default rules (DESIGN 5.3): ours even where the config replaces them.
const DEFAULT_IDS: [&str; 2] = ["tiering", "abort-mpu"];
/// S3's names of the two archive tiers (aws-semantics 8.2).
const ARCHIVE: &str = "ARCHIVE_ACCESS";
const DEEP_ARCHIVE: &str = "DEEP_ARCHIVE_ACCESS";

/// How buckets are to age.
#[derive(Clone, Debug)]
pub struct LifecycleSettings {
    /// The buckets that it is about.
    pub places: Vec<Place>,
    /// The rules, by the ids of the config.
    pub rules: BTreeMap<String, LifecycleRule>,
    /// Days without access until archive and deep archive access; `None` to leave Intelligent-Tiering alone.
    pub tiering: Option<(u32, u32)>,
}

/// A look at the versioning of every bucket.
pub(super) fn versions(settings: &Settings) -> Vec<Wish> {
    let look = |bucket: &Bucket| {
        let resource = Resource::new(Kind::Versioning, bucket.place.clone(), &*bucket.bucket);
        Wish::new(resource, Want::Versions)
    };
    settings.buckets().map(look).collect()
}

pub(super) fn wishes(settings: &Settings) -> Vec<Wish> {
    let lifecycle = &settings.lifecycle;
    let rules: BTreeMap<String, LifecycleRule> =
        lifecycle.rules.iter().map(|(id, rule)| (format!("{}-{id}", settings.prefix), rule.clone())).collect();
    let mut wishes = Vec::new();
    for bucket in settings.buckets().filter(|bucket| lifecycle.places.contains(&bucket.place)) {
        wishes.push(aging(settings, bucket, rules.clone()));
        let Some((archive, deep)) = lifecycle.tiering else { continue };
        let tiers = BTreeMap::from([(ARCHIVE.to_owned(), archive), (DEEP_ARCHIVE.to_owned(), deep)]);
        let document = Tiering { enabled: true, filter: String::new(), tiers };
        let want = Want::Exact(Document::IntelligentTiering(document));
        wishes.push(Wish::new(tiering(settings, bucket), want));
    }
    wishes
}

/// What is to be gone, on every bucket: `apply_to` may have named more of them once.
pub(super) fn farewells(settings: &Settings) -> Vec<Wish> {
    let gone = || Want::Gone { made_by: Some(settings.prefix.clone()), sid: String::new() };
    settings
        .buckets()
        .flat_map(|bucket| [aging(settings, bucket, BTreeMap::new()), Wish::new(tiering(settings, bucket), gone())])
        .collect()
}

fn aging(settings: &Settings, bucket: &Bucket, rules: BTreeMap<String, LifecycleRule>) -> Wish {
    let ids = settings.lifecycle.rules.keys().map(String::as_str).chain(DEFAULT_IDS);
    let known: BTreeSet<String> = ids.map(|id| format!("{}-{id}", settings.prefix)).collect();
    let resource = Resource::new(Kind::Lifecycle, bucket.place.clone(), &*bucket.bucket);
    Wish::new(resource, Want::Lifecycle { rules, known, prefix: settings.prefix.clone() })
}

fn tiering(settings: &Settings, bucket: &Bucket) -> Resource {
    let name = format!("{}/{}-archive", bucket.bucket, settings.prefix);
    Resource::new(Kind::IntelligentTiering, bucket.place.clone(), name)
}
