//! The section `[lifecycle]`: rules that replace those of DESIGN 5.3.

use super::super::file::{Kind, Section};
use super::super::kinds::{DAYS, KEY_PREFIX, TEXT};
use super::super::settings::{IntelligentTiering, LifecycleRule, LifecycleSide, Transition};

/// DESIGN 5.3.
const DEFAULT_TIERING: IntelligentTiering = IntelligentTiering { archive_days: 90, deep_archive_days: 180 };

pub(super) const SIDE: Kind<LifecycleSide> = Kind {
    accepted: "\"source\" or \"target\"",
    read: |value| match value.as_str() {
        Some("source") => Ok(LifecycleSide::Source),
        Some("target") => Ok(LifecycleSide::Target),
        Some(other) => Err(format!("{other:?} is no side")),
        None => Err("it is no text".to_owned()),
    },
};

const OFF: Kind<()> = Kind {
    accepted: "\"off\" or a table such as { archive_after = \"90d\", deep_archive_after = \"180d\" }",
    read: |value| match value.as_str() {
        Some("off") => Ok(()),
        Some(other) => Err(format!("{other:?} is neither")),
        None => Err("it is neither".to_owned()),
    },
};

/// The rules of DESIGN 5.3, in two rules because only one of them could be narrowed by a filter.
pub(super) fn default_rules() -> Vec<LifecycleRule> {
    let step = |days, class: &str| Transition { days, storage_class: class.to_owned() };
    let empty = LifecycleRule {
        id: String::new(),
        prefix: String::new(),
        transitions: Vec::new(),
        expire_days: None,
        noncurrent_expire_days: None,
        abort_multipart_days: None,
    };
    vec![
        LifecycleRule {
            id: "tiering".to_owned(),
            transitions: vec![step(30, "STANDARD_IA"), step(90, "GLACIER"), step(365, "DEEP_ARCHIVE")],
            noncurrent_expire_days: Some(730),
            ..empty.clone()
        },
        LifecycleRule { id: "abort-mpu".to_owned(), abort_multipart_days: Some(7), ..empty },
    ]
}

pub(super) fn rule(section: &mut Section<'_>) -> LifecycleRule {
    LifecycleRule {
        id: section.need("id", &TEXT).unwrap_or_default(),
        prefix: section.get("prefix", &KEY_PREFIX).unwrap_or_default(),
        transitions: section.list("transitions", transition).unwrap_or_default(),
        expire_days: section.get("expire_after", &DAYS),
        noncurrent_expire_days: section.get("noncurrent_expire_after", &DAYS),
        abort_multipart_days: section.get("abort_multipart_after", &DAYS),
    }
}

fn transition(section: &mut Section<'_>) -> Transition {
    Transition {
        days: section.need("after", &DAYS).unwrap_or_default(),
        storage_class: section.need("storage_class", &TEXT).unwrap_or_default(),
    }
}

/// A table, or the text `off`.
pub(super) fn intelligent_tiering(section: &mut Section<'_>) -> Option<IntelligentTiering> {
    if section.is_table("intelligent_tiering") {
        return section.optional("intelligent_tiering", |section| {
            Some(IntelligentTiering {
                archive_days: section.get_or("archive_after", &DAYS, DEFAULT_TIERING.archive_days),
                deep_archive_days: section.get_or("deep_archive_after", &DAYS, DEFAULT_TIERING.deep_archive_days),
            })
        });
    }
    match section.get("intelligent_tiering", &OFF) {
        Some(()) => None,
        None => Some(DEFAULT_TIERING),
    }
}
