//! Limits on the transfer, as the config, a time window or an operator sets them.

use std::num::{NonZeroU32, NonZeroU64};

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

    /// Whether nothing is said.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}
