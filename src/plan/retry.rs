//! When to try again: the one durable retry layer.

use std::time::Duration;

use crate::model::fault::FaultKind;

/// How long to wait between tries of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Before the second try.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
}

impl Default for Policy {
    /// One second, doubling up to five minutes: a short hiccup costs seconds, a long outage one request per job and
    /// five minutes.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(300) }
    }
}

/// How often a job may meet corrupt bytes before it is parked with that reason: three reads in a row that disagree
/// with the checksum are not the network's noise.
pub const CORRUPT_TRIES: u32 = 3;

impl Policy {
    /// The wait before try `attempts + 1`, with full jitter: `chance` (0 to 1) is the caller's dice, so that many
    /// jobs that failed together do not come back together.
    #[must_use]
    pub fn wait(&self, kind: FaultKind, attempts: u32, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(attempts.min(20)).unwrap_or(u32::MAX));
        let longest = if kind == FaultKind::Throttled { self.longest / 5 } else { self.longest };
        let ceiling = doubled.min(longest);
        ceiling.div_f64(2.0) + ceiling.div_f64(2.0).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        let policy = Policy::default();
        assert_eq!(policy.wait(FaultKind::Transient, 0, 1.0), Duration::from_secs(1));
        assert_eq!(policy.wait(FaultKind::Transient, 0, 0.0), Duration::from_millis(500));
        assert_eq!(policy.wait(FaultKind::Transient, 3, 1.0), Duration::from_secs(8));
        assert_eq!(policy.wait(FaultKind::Transient, u32::MAX, 1.0), Duration::from_secs(300));
        assert_eq!(policy.wait(FaultKind::Throttled, u32::MAX, 1.0), Duration::from_secs(60));
    }
}
