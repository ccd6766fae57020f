//! How many transfers at once: a pure controller that finds the number by itself.

/// Fewest transfers at once.
const FEWEST: usize = 2;

/// What happened since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Jobs finished.
    pub finished: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Answers that asked for fewer requests.
    pub throttled: u64,
    /// Whether all slots were taken at some moment: otherwise more slots could not have helped.
    pub saturated: bool,
}

/// The controller: grows while growing helps, halves when the service asks for less.
#[derive(Clone, Debug)]
pub struct Pace {
    limit: usize,
    most: usize,
    best: f64,
    grew: bool,
    resting: u32,
}

impl Pace {
    /// Starts at `start` transfers, never above `most`.
    #[must_use]
    pub fn new(start: usize, most: usize) -> Self {
        let most = most.max(FEWEST);
        Self { limit: start.clamp(FEWEST, most), most, best: 0.0, grew: false, resting: 0 }
    }

    /// The present limit.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes one window of equal length in and returns the new limit.
    pub fn observe(&mut self, window: Window) -> usize {
        if window.throttled > 0 {
            self.limit = (self.limit / 2).max(FEWEST);
            self.best = 0.0;
            self.grew = false;
            self.resting = 5;
        } else if self.resting > 0 {
            self.resting -= 1;
        } else if window.saturated {
            self.try_growing(rate(window));
        } else {
            self.grew = false;
        }
        self.limit
    }

    fn try_growing(&mut self, rate: f64) {
        let helped = rate > self.best * 1.05;
        if self.grew && !helped {
            self.limit = (self.limit - self.limit / 5).max(FEWEST);
            self.grew = false;
            self.resting = 10;
            self.best *= 0.9;
            return;
        }
        self.best = self.best.max(rate);
        self.limit = (self.limit + (self.limit / 4).max(1)).min(self.most);
        self.grew = true;
    }
}

/// One figure for small and large objects: a job weighs as much as 64 KiB.
fn rate(window: Window) -> f64 {
    let weight = window.finished.saturating_mul(64 << 10).saturating_add(window.bytes);
    // Precision beyond 2^52 does not matter for a comparison of rates.
    #[allow(clippy::cast_precision_loss, reason = "only compared with another rate")]
    let weight = weight as f64;
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(finished: u64) -> Window {
        Window { finished, bytes: 0, throttled: 0, saturated: true }
    }

    #[test]
    fn grows_while_it_helps_and_rests_when_it_does_not() {
        let mut pace = Pace::new(8, 100);
        assert_eq!(pace.observe(busy(100)), 10);
        assert_eq!(pace.observe(busy(120)), 12);
        assert_eq!(pace.observe(busy(121)), 10, "no gain: step back");
        assert_eq!(pace.observe(busy(121)), 10, "and rest");
    }

    #[test]
    fn halves_on_throttling_and_never_reaches_zero() {
        let mut pace = Pace::new(8, 100);
        let slow = Window { throttled: 3, ..busy(50) };
        assert_eq!(pace.observe(slow), 4);
        for _ in 0..10 {
            pace.observe(slow);
        }
        assert_eq!(pace.limit(), FEWEST);
        for _ in 0..40 {
            let finished = pace.limit() as u64 * 10;
            pace.observe(busy(finished));
        }
        assert!(pace.limit() > FEWEST, "grows again once nobody complains");
    }

    #[test]
    fn idle_does_not_grow_and_the_ceiling_holds() {
        let mut pace = Pace::new(8, 16);
        assert_eq!(pace.observe(Window { saturated: false, ..busy(5) }), 8);
        for round in 1..20 {
            pace.observe(busy(round * round * 100));
        }
        assert_eq!(pace.limit(), 16);
    }
}
