//! One timeline: a fixed epoch plus tokio's time, with a wall clock that may be set wrong.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use repl::model::object::Timestamp;
use repl::ports::Clock;
use tokio::time::Instant;

/// 2026-01-01T00:00:00Z.
pub(crate) const EPOCH: u64 = 1_767_225_600_000;

/// The wall clock of one machine.
#[derive(Debug)]
pub(crate) struct FakeClock {
    start: Instant,
    /// Milliseconds by which it is wrong.
    wrong: AtomicI64,
}

impl FakeClock {
    /// Right, as of now.
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, wrong: AtomicI64::new(0) }
    }

    /// Sets it wrong by so many milliseconds.
    pub(crate) fn set_wrong(&self, by: i64) {
        self.wrong.store(by, Ordering::Relaxed);
    }
}

/// The true time, as the stores keep it.
pub(crate) fn true_time(start: Instant) -> Timestamp {
    Timestamp(EPOCH + start.elapsed().as_millis() as u64)
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(true_time(self.start).0.saturating_add_signed(self.wrong.load(Ordering::Relaxed)))
    }
}

/// What every clock promises, whichever it is: milliseconds since 1970, on the timeline on which tokio waits.
pub(crate) async fn goes_with_tokios_time<C: Clock>(clock: &C) {
    let before = clock.now();
    assert!(before >= Timestamp(EPOCH), "{before:?} lies before this was written");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let passed = clock.now().since(before);
    // A system's clock may be slewed meanwhile.
    assert!(passed >= Duration::from_millis(40), "{passed:?}");
}
