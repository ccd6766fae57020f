//! The brake on mass deletes: whether one more delete may go to a target (P11).

use std::fmt;

use crate::model::deletes::Deletes;

/// A million: shares are counted in its parts.
const MILLION: u128 = 1_000_000;
/// So many deletes are never held for their share: among a few keys every delete is a great one.
const HANDFUL: u64 = 10;

/// What may be deleted at one target within an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// So many.
    pub per_hour: u64,
    /// And no greater share of its keys, in millionths; but for a handful.
    pub share: u32,
}

/// The bound that one more delete would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The rate.
    Rate {
        /// The deletes within an hour, this one included.
        deletes: u64,
        /// What is permitted.
        bound: u64,
    },
    /// The share of the keys.
    Share {
        /// The deletes within an hour, this one included.
        deletes: u64,
        /// What is permitted.
        bound: u64,
        /// The keys that the target had when it was last counted.
        keys: u64,
    },
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate { deletes, bound } => {
                write!(f, "{deletes} deletes within an hour, [brake] deletes_per_hour permits {bound}")
            }
            Self::Share { deletes, bound, keys } => {
                write!(f, "{deletes} deletes within an hour among {keys} keys, [brake] share_of_keys permits {bound}")
            }
        }
    }
}

/// The bound that these deletes pass; `None` when they stay within both. While the number of keys is not known, or was
/// zero when it was counted, so that all that is there came since, only the rate can tell.
#[must_use]
pub fn excess(bounds: &Bounds, seen: Deletes) -> Option<Excess> {
    let deletes = seen.in_hour;
    if deletes > bounds.per_hour {
        return Some(Excess::Rate { deletes, bound: bounds.per_hour });
    }
    let keys = seen.keys.filter(|keys| *keys > 0)?;
    let share = u128::from(keys).saturating_mul(bounds.share.into()) / MILLION;
    let bound = u64::try_from(share).unwrap_or(u64::MAX).max(HANDFUL);
    (deletes > bound).then_some(Excess::Share { deletes, bound, keys })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERCENT: u32 = 10_000;

    fn seen(in_hour: u64, keys: Option<u64>) -> Deletes {
        Deletes { in_hour, keys }
    }

    #[test]
    fn each_bound_holds_by_itself() {
        let bounds = Bounds { per_hour: 1000, share: 5 * PERCENT };
        assert_eq!(excess(&bounds, seen(1000, None)), None);
        assert_eq!(excess(&bounds, seen(1001, None)), Some(Excess::Rate { deletes: 1001, bound: 1000 }));
        assert_eq!(excess(&bounds, seen(50, Some(1000))), None);
        assert_eq!(excess(&bounds, seen(51, Some(1000))), Some(Excess::Share { deletes: 51, bound: 50, keys: 1000 }));
        assert_eq!(excess(&bounds, seen(10, Some(20))), None, "a handful");
        assert_eq!(excess(&bounds, seen(11, Some(20))), Some(Excess::Share { deletes: 11, bound: 10, keys: 20 }));
        assert_eq!(excess(&bounds, seen(51, Some(0))), None, "what is there came since");
        let none = Bounds { per_hour: 0, ..bounds };
        assert_eq!(excess(&none, seen(1, None)), Some(Excess::Rate { deletes: 1, bound: 0 }));
    }

    #[test]
    fn the_reason_is_a_sentence_with_numbers() {
        let share = Excess::Share { deletes: 6, bound: 5, keys: 100 };
        assert_eq!(share.to_string(), "6 deletes within an hour among 100 keys, [brake] share_of_keys permits 5");
        let rate = Excess::Rate { deletes: 1001, bound: 1000 };
        assert_eq!(rate.to_string(), "1001 deletes within an hour, [brake] deletes_per_hour permits 1000");
    }

    proptest! {
        /// What stays within both bounds goes, what passes one does not, and never is more let through for more deletes.
        #[test]
        fn neither_bound_is_passed(
            (per_hour, share) in (0..3_000_u64, 0..=1_000_000_u32),
            in_hour in 1..4_000_u64,
            keys in proptest::option::of(prop_oneof![0..5_000_u64, Just(u64::MAX)]),
        ) {
            let bounds = Bounds { per_hour, share };
            let told = excess(&bounds, seen(in_hour, keys));
            if told.is_none() {
                prop_assert!(in_hour <= per_hour);
                if let Some(keys) = keys.filter(|keys| *keys > 0) {
                    let within = u128::from(in_hour) * 1_000_000 <= u128::from(keys) * u128::from(share);
                    prop_assert!(within || in_hour <= HANDFUL);
                }
                prop_assert_eq!(excess(&bounds, seen(in_hour - 1, keys)), None);
                prop_assert_eq!(excess(&bounds, seen(in_hour, None)), None, "the share only ever holds more");
            } else {
                prop_assert!(excess(&bounds, seen(in_hour + 1, keys)).is_some());
                prop_assert!(keys.is_some() || in_hour > per_hour, "unknown keys hold nothing");
            }
        }
    }
}
