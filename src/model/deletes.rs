//! How many deletes were brought to a target, and how many keys it has: what the brake measures (P11).

use std::collections::VecDeque;

use super::object::Timestamp;

/// What the brake judges one more delete by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletes {
    /// Deletes within the last hour, this one included.
    pub in_hour: u64,
    /// Keys that the target had when it was last counted; `None` where it never was.
    pub keys: Option<u64>,
}

/// A minute, in milliseconds: how finely an hour is counted.
const MINUTE: u64 = 60_000;
/// Minutes before the current one that count. With the current one they hold every hour whole, and up to a minute more.
const MINUTES: u64 = 60;

/// A count over the last hour. It never tells less than there was in the sixty minutes before, and nothing that is older
/// than sixty-one; its size does not depend on what is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    /// Minutes since 1970 and what was counted in each, ascending.
    minutes: VecDeque<(u64, u64)>,
}

impl Hour {
    /// The hour that these minutes make, ascending; `None` where they are not.
    #[must_use]
    pub fn of(minutes: Vec<(u64, u64)>) -> Option<Self> {
        let ascending = minutes.is_sorted_by(|(one, _), (other, _)| one < other);
        ascending.then(|| Self { minutes: minutes.into() })
    }

    /// Minutes since 1970 and what was counted in each, ascending.
    #[must_use]
    pub fn minutes(&self) -> &VecDeque<(u64, u64)> {
        &self.minutes
    }

    /// Counts one. A clock that was set back counts in the newest minute that it has seen.
    pub fn count(&mut self, now: Timestamp) {
        let minute = now.0 / MINUTE;
        self.minutes.retain(|(counted, _)| counted.saturating_add(MINUTES) >= minute);
        match self.minutes.back_mut() {
            Some((newest, count)) if *newest >= minute => *count = count.saturating_add(1),
            Some(_) | None => self.minutes.push_back((minute, 1)),
        }
    }

    /// What was counted in the last hour.
    #[must_use]
    pub fn sum(&self, now: Timestamp) -> u64 {
        let minute = now.0 / MINUTE;
        let recent = self.minutes.iter().filter(|(counted, _)| counted.saturating_add(MINUTES) >= minute);
        recent.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 60 * MINUTE;

    proptest! {
        #[test]
        fn an_hour_is_counted_whole_and_little_more(steps in proptest::collection::vec(0..400_000_u64, 1..300)) {
            let (mut hour, mut counted, mut now) = (Hour::default(), Vec::new(), 1_700_000_000_000);
            for step in steps {
                now += step;
                hour.count(Timestamp(now));
                counted.push(now);
                let within = |length: u64| counted.iter().filter(|then| now - **then < length).count() as u64;
                let sum = hour.sum(Timestamp(now));
                prop_assert!((within(HOUR)..=within(HOUR + MINUTE)).contains(&sum), "{sum}");
                prop_assert!(hour.minutes().len() <= 61, "bounded");
                prop_assert_eq!(&Hour::of(hour.minutes().iter().copied().collect()), &Some(hour.clone()));
            }
            prop_assert_eq!(hour.sum(Timestamp(now + HOUR + MINUTE)), 0, "all of it passes");
        }

        /// Whatever the clock does backwards, nothing counted is forgotten before its time.
        #[test]
        fn a_clock_set_back_forgets_nothing(back in proptest::collection::vec(0..7_200_000_u64, 1..50)) {
            let (mut hour, start) = (Hour::default(), 1_700_000_000_000_u64);
            hour.count(Timestamp(start));
            for (number, back) in (2..).zip(back) {
                hour.count(Timestamp(start - back));
                prop_assert_eq!(hour.sum(Timestamp(start - back)), number);
                prop_assert!(Hour::of(hour.minutes().iter().copied().collect()).is_some());
            }
        }
    }
}
