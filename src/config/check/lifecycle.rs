//! The limits that S3 puts on lifecycle rules (aws-semantics 8.1 and 8.2).

use super::super::file::{File, join};
use super::super::settings::{Lifecycle, LifecycleRule, Transition};
use super::{STORAGE_CLASSES, repeated, unknown};

/// Storage classes from frequent to rare: a transition goes down only.
const WATERFALL: [&str; 6] =
    ["STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"];
/// Days that an object must be old before it goes to an infrequent class, and then stay there.
const INFREQUENT_DAYS: u32 = 30;
/// Least and most days of the two archive tiers.
const ARCHIVE: (u32, u32) = (90, 730);
const DEEP_ARCHIVE: (u32, u32) = (180, 730);

pub(super) fn all(file: &File<'_>, lifecycle: &Lifecycle) {
    for (nth, id) in repeated(lifecycle.rules.iter().map(|rule| rule.id.as_str())) {
        file.refuse(&path(nth, "id"), format!("{id:?} is the id of another rule too, accepted is an id of its own"));
    }
    for (nth, rule) in lifecycle.rules.iter().enumerate() {
        let refused = ["expire_after", "noncurrent_expire_after", "abort_multipart_after"];
        if is_idle(rule) && !refused.iter().any(|key| file.holds(&path(nth, key))) {
            file.refuse(
                &format!("lifecycle.rules[{nth}]"),
                "it does nothing, accepted is at least one of transitions, expire_after, noncurrent_expire_after and \
                 abort_multipart_after",
            );
        }
        transitions(file, nth, &rule.transitions);
    }
    let Some(tiering) = lifecycle.intelligent_tiering else { return };
    let limits = [
        ("archive_after", tiering.archive_days, ARCHIVE),
        ("deep_archive_after", tiering.deep_archive_days, DEEP_ARCHIVE),
    ];
    for (key, days, (least, most)) in limits {
        if !(least..=most).contains(&days) {
            file.refuse(
                &join("lifecycle.intelligent_tiering", key),
                format!("{days} days are refused by S3, accepted is \"{least}d\" to \"{most}d\""),
            );
        }
    }
}

fn path(nth: usize, key: &str) -> String {
    format!("lifecycle.rules[{nth}].{key}")
}

fn is_idle(rule: &LifecycleRule) -> bool {
    let LifecycleRule { id: _, prefix: _, transitions, expire_days, noncurrent_expire_days, abort_multipart_days } =
        rule;
    transitions.is_empty() && (expire_days, noncurrent_expire_days, abort_multipart_days) == (&None, &None, &None)
}

fn transitions(file: &File<'_>, nth: usize, steps: &[Transition]) {
    let mut last: Option<(usize, &Transition)> = None;
    for (step_nth, step) in steps.iter().enumerate() {
        let at = |key: &str| format!("lifecycle.rules[{nth}].transitions[{step_nth}].{key}");
        let class = step.storage_class.as_str();
        let Some(depth) = WATERFALL.iter().position(|known| *known == class) else {
            let message = if STORAGE_CLASSES.contains(&class) {
                format!("S3 moves nothing to {class}, accepted are {}", WATERFALL.join(", "))
            } else {
                unknown("value", class, &WATERFALL)
            };
            if !class.is_empty() {
                file.refuse(&at("storage_class"), message);
            }
            continue;
        };
        if is_infrequent(class) && (1..INFREQUENT_DAYS).contains(&step.days) {
            file.refuse(&at("after"), format!("S3 moves to {class} no earlier, accepted is \"30d\" or more"));
        }
        if let Some((earlier_depth, earlier)) = last {
            follows(file, &at, (earlier_depth, earlier), (depth, step));
        }
        last = Some((depth, step));
    }
}

fn follows(
    file: &File<'_>,
    at: &impl Fn(&str) -> String,
    (earlier_depth, earlier): (usize, &Transition),
    (depth, step): (usize, &Transition),
) {
    if depth <= earlier_depth {
        let (from, to) = (&earlier.storage_class, &step.storage_class);
        file.refuse(&at("storage_class"), format!("S3 moves nothing from {from} to {to}, accepted is a colder class"));
    }
    let rest = if is_infrequent(&earlier.storage_class) { INFREQUENT_DAYS } else { 1 };
    let least = earlier.days.saturating_add(rest);
    if step.days > 0 && earlier.days > 0 && step.days < least {
        file.refuse(&at("after"), format!("it is too soon after the step before, accepted is \"{least}d\" or more"));
    }
}

fn is_infrequent(class: &str) -> bool {
    matches!(class, "STANDARD_IA" | "ONEZONE_IA")
}
