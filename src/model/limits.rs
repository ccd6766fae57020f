//! Limits on the transfer, as the config, a time window or an operator sets them.

use std::num::{NonZeroU32, NonZeroU64};

use super::object::Timestamp;
use super::window::Window;

/// How many transfers may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// Found by itself: it grows while it helps.
    Auto,
    /// This many.
    Fixed(NonZeroU32),
}

/// A bound that may be absent on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound<T> {
    /// None.
    Unlimited,
    /// No more than this.
    AtMost(T),
}

impl<T> Bound<T> {
    /// The bound, where there is one.
    pub fn at(self) -> Option<T> {
        match self {
            Self::Unlimited => None,
            Self::AtMost(most) => Some(most),
        }
    }
}

impl<T> From<Option<T>> for Bound<T> {
    fn from(most: Option<T>) -> Self {
        most.map_or(Self::Unlimited, Self::AtMost)
    }
}

/// What one of those who may set limits says; `None` where it says nothing of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes per second read from the source.
    pub bandwidth: Option<Bound<NonZeroU64>>,
    /// Requests per second to S3, both sides together.
    pub requests_per_second: Option<Bound<NonZeroU32>>,
    /// Transfers at once.
    pub concurrency: Option<Concurrency>,
}

impl Limits {
    /// What this says, and where it says nothing, what the other does.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            bandwidth: self.bandwidth.or(other.bandwidth),
            requests_per_second: self.requests_per_second.or(other.requests_per_second),
            concurrency: self.concurrency.or(other.concurrency),
        }
    }

    /// What is said of all three; what is not said is not limited.
    #[must_use]
    pub fn whole(
        bandwidth: Option<NonZeroU64>,
        requests_per_second: Option<NonZeroU32>,
        concurrency: Concurrency,
    ) -> Self {
        Self {
            bandwidth: Some(bandwidth.into()),
            requests_per_second: Some(requests_per_second.into()),
            concurrency: Some(concurrency),
        }
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}

/// Who set a limit that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setter {
    /// `repl limit`.
    Operator,
    /// A time window of the config, by its place there.
    Window(usize),
    /// The config.
    Config,
}

impl Setter {
    /// The word in a status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Window(_) => "window",
            Self::Config => "config",
        }
    }
}

/// The limits in force at one moment, and who set each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Bytes per second; `None` for no limit.
    pub bandwidth: (Option<NonZeroU64>, Setter),
    /// Requests per second; `None` for no limit.
    pub requests_per_second: (Option<NonZeroU32>, Setter),
    /// Transfers at once.
    pub concurrency: (Concurrency, Setter),
}

impl InForce {
    /// Of each limit, what the operator says; else the first window that holds and names it; else the config.
    #[must_use]
    pub fn of(operator: Limits, windows: &[Window], config: Limits, now: Timestamp) -> Self {
        let windows: Vec<(Limits, Setter)> = windows
            .iter()
            .enumerate()
            .filter(|(_, window)| window.holds(now))
            .map(|(nth, window)| (window.limits, Setter::Window(nth)))
            .collect();
        let said = || {
            let last = (config, Setter::Config);
            std::iter::once((operator, Setter::Operator)).chain(windows.iter().copied()).chain(std::iter::once(last))
        };
        let bandwidth = said().find_map(|(limits, by)| Some((limits.bandwidth?, by)));
        let requests = said().find_map(|(limits, by)| Some((limits.requests_per_second?, by)));
        let concurrency = said().find_map(|(limits, by)| Some((limits.concurrency?, by)));
        Self {
            bandwidth: bandwidth.map_or((None, Setter::Config), |(bound, by)| (bound.at(), by)),
            requests_per_second: requests.map_or((None, Setter::Config), |(bound, by)| (bound.at(), by)),
            concurrency: concurrency.unwrap_or((Concurrency::Auto, Setter::Config)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{Minute, Zone};
    use super::*;

    #[test]
    fn the_operator_comes_before_windows_and_those_before_the_config() {
        let rate = |bytes| Some(Bound::AtMost(NonZeroU64::new(bytes).unwrap()));
        let limits = |bytes| Limits { bandwidth: rate(bytes), ..Limits::default() };
        let window = |from: &str, limits| Window {
            from: Minute::parse(from).unwrap(),
            to: Minute::parse("24:00").unwrap(),
            days: [true; 7],
            zone: Zone::utc(),
            limits,
        };
        let four = Limits { concurrency: Some(Concurrency::Fixed(NonZeroU32::MIN)), ..Limits::default() };
        let windows = [window("12:00", four), window("06:00", limits(2)), window("00:00", limits(3))];
        let at = |operator, time: &str| {
            let now = Timestamp::parse_rfc3339(time).unwrap();
            let found = InForce::of(operator, &windows, Limits::whole(None, None, Concurrency::Auto), now);
            (found.bandwidth.0.map_or(0, NonZeroU64::get), found.bandwidth.1, found.concurrency.1)
        };
        let silent = Limits::default();
        assert_eq!(at(silent, "2026-11-20T13:00:00Z"), (2, Setter::Window(1), Setter::Window(0)));
        assert_eq!(at(silent, "2026-11-20T01:00:00Z"), (3, Setter::Window(2), Setter::Config));
        assert_eq!(at(limits(1), "2026-11-20T13:00:00Z"), (1, Setter::Operator, Setter::Window(0)));
        let free = Limits { bandwidth: Some(Bound::Unlimited), ..silent };
        assert_eq!(at(free, "2026-11-20T13:00:00Z"), (0, Setter::Operator, Setter::Window(0)));
    }
}
