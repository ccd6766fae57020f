//! How many transfers at once: a pure controller that finds the number by itself.

/// Fewest transfers at once.
const FEWEST: usize = 2;
/// Windows without growing after the service has asked for less, so that what is under way is answered first.
const CALM: u32 = 2;
/// Windows without growing after growing was of no use.
const REST: u32 = 10;
/// Of so many answers one may ask for less before that counts as a storm: S3 throttles by prefix, and says so now and then
/// while it splits one.
const STORM: u64 = 20;

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

/// The controller, as TCP's: it doubles while that is worth it, then grows by quarters while growing helps; it gives way when
/// the service asks for less, and is soon back at three quarters of what went well before.
#[derive(Clone, Debug)]
pub struct Pace {
    limit: usize,
    most: usize,
    /// Up to here it went well before the service asked for less: it comes back without asking what that brings.
    known: usize,
    /// Up to here it doubles.
    brisk: usize,
    best: f64,
    step: Step,
    resting: u32,
}

/// What the last window was an attempt at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, or nothing that has to prove itself.
    None,
    /// A quarter more than so many.
    Quarter(usize),
    /// Twice as many as this.
    Double(usize),
}

impl Pace {
    /// Starts at `start` transfers, never above `most`.
    #[must_use]
    pub fn new(start: usize, most: usize) -> Self {
        let most = most.max(FEWEST);
        let limit = start.clamp(FEWEST, most);
        Self { limit, most, known: FEWEST, brisk: most, best: 0.0, step: Step::None, resting: 0 }
    }

    /// The present limit.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes one window of equal length in and returns the new limit.
    pub fn observe(&mut self, window: Window) -> usize {
        if window.throttled > 0 {
            self.give_way(window);
        } else if self.resting > 0 {
            self.resting -= 1;
        } else if window.saturated {
            self.try_growing(rate(window));
        } else {
            self.step = Step::None;
        }
        self.limit
    }

    fn give_way(&mut self, window: Window) {
        // Only what a storm began with was good: what is left at its end is what was left of that.
        if self.resting == 0 {
            self.known = (self.limit - self.limit / 4).max(FEWEST);
            self.brisk = self.known;
        }
        let storm = window.throttled.saturating_mul(STORM) > window.finished;
        let less = if storm { self.limit / 2 } else { self.limit - self.limit / 8 };
        self.limit = less.max(FEWEST);
        self.best = 0.0;
        self.step = Step::None;
        self.resting = CALM;
    }

    fn try_growing(&mut self, rate: f64) {
        let disappointed = match self.step {
            Step::None => None,
            // Twice the requests under way for a little more is no gain: others wait for the same server.
            Step::Double(before) => (rate < self.best * 1.25).then_some(before),
            Step::Quarter(before) => (rate <= self.best * 1.05).then_some(before),
        };
        if let Some(before) = disappointed {
            self.limit = before;
            self.brisk = before;
            self.best *= 0.9;
            self.step = Step::None;
            self.resting = REST;
            return;
        }
        self.best = self.best.max(rate);
        let before = self.limit;
        if before < self.known {
            self.limit = before.saturating_mul(2).min(self.known);
            self.step = Step::None;
        } else if before < self.brisk {
            self.limit = before.saturating_mul(2).min(self.brisk);
            self.step = Step::Double(before);
        } else {
            self.limit = (before + (before / 4).max(1)).min(self.most);
            self.step = Step::Quarter(before);
        }
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

    /// A service that answers so many jobs a window at most, each slot five of them.
    fn answered(pace: &Pace, most: u64) -> Window {
        busy((pace.limit() as u64 * 5).min(most))
    }

    #[test]
    fn doubles_while_that_is_worth_it_then_grows_by_quarters() {
        let mut pace = Pace::new(8, 100);
        assert_eq!(pace.observe(busy(100)), 16);
        assert_eq!(pace.observe(busy(180)), 32);
        assert_eq!(pace.observe(busy(190)), 16, "no gain: back");
        for _ in 0..REST {
            assert_eq!(pace.observe(busy(180)), 16, "and rest");
        }
        assert_eq!(pace.observe(busy(180)), 20, "then by quarters");
        assert_eq!(pace.observe(busy(210)), 25);
        assert_eq!(pace.observe(busy(211)), 20, "no gain: back");
    }

    /// 80 ms away a slot does little: all of them are found within two seconds of half-second windows.
    #[test]
    fn a_long_way_is_filled_soon() {
        let mut pace = Pace::new(16, 128);
        for _ in 0..3 {
            pace.observe(answered(&pace.clone(), u64::MAX));
        }
        assert_eq!(pace.limit(), 128);
    }

    #[test]
    fn halves_in_a_storm_and_never_reaches_zero() {
        let mut pace = Pace::new(8, 100);
        let slow = Window { throttled: 3, ..busy(50) };
        assert_eq!(pace.observe(slow), 4);
        for _ in 0..10 {
            pace.observe(slow);
        }
        assert_eq!(pace.limit(), FEWEST);
    }

    /// A storm of ten seconds at full speed: three quarters of that are back within four seconds after it, and all of it
    /// soon after.
    #[test]
    fn what_a_storm_took_is_back_soon() {
        let mut pace = Pace::new(64, 128);
        for _ in 0..20 {
            pace.observe(Window { throttled: 40, ..busy(3) });
        }
        assert_eq!(pace.limit(), FEWEST);
        let mut windows = 0;
        while pace.limit() < 48 {
            pace.observe(answered(&pace.clone(), u64::MAX));
            windows += 1;
        }
        assert!(windows <= 8, "three quarters took {windows} windows");
        for _ in 0..5 {
            pace.observe(answered(&pace.clone(), u64::MAX));
        }
        assert!(pace.limit() >= 64, "and no less than before: {}", pace.limit());
    }

    /// One answer in a hundred that asks for less costs an eighth, and what is throttled at a limit is used near it.
    #[test]
    fn a_service_with_a_limit_is_used_near_it() {
        let mut pace = Pace::new(16, 128);
        assert_eq!(pace.observe(Window { throttled: 1, ..busy(100) }), 14);
        let (mut windows, mut sum) = (0, 0);
        for round in 0..400 {
            let asked = pace.limit() as u64 * 5;
            let throttled = asked.saturating_sub(200);
            pace.observe(Window { throttled, ..busy(asked - throttled) });
            if round >= 40 {
                (windows, sum) = (windows + 1, sum + pace.limit());
            }
        }
        let mean = sum / windows;
        assert!((28..=44).contains(&mean), "forty slots are what it takes: {mean} on average");
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
