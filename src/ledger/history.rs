//! The course of the figures: one sample a minute for a day, for the charts of the page.

use super::book::{Book, View};
use super::codec::{Decoder, Encoder, Read};
use super::layout::{Fields, Slot, Table};
use super::names::Names;
use super::pages::behind;
use super::record::Record;
use crate::model::fault::Fault;
use crate::model::object::Timestamp;

/// The length of one sample's interval in milliseconds.
pub const MINUTE: u64 = 60_000;
/// Samples kept: a day of them, about 80 KB.
const KEPT: u64 = 24 * 60;

/// What one minute came to. Latencies are those of changes that an event told and that arrived in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Changes that arrived, and milliseconds from each one's making to its arrival; zeros where none did.
    pub latency: LatencySample,
    /// Changes that waited at its end.
    pub pending: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Changes that were parked at its end.
    pub failed: u64,
    /// Milliseconds that the RPO clock showed at its end.
    pub oldest: u64,
    /// Changes brought over in it, from events and from scans.
    pub replicated: u64,
    /// Their bytes.
    pub replicated_bytes: u64,
    /// Errors of S3 and KMS in it, throttling apart.
    pub errors: u64,
    /// Answers in it that asked for fewer requests.
    pub throttles: u64,
}

/// The latencies of one minute, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySample {
    /// How many.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Sample {
    /// Both parts of a minute in which a worker ended and another began: counts add up, levels are the later ones, and of
    /// percentiles, which cannot be joined, the worse one is kept.
    #[must_use]
    fn followed_by(self, later: Self) -> Self {
        let (one, other) = (self.latency, later.latency);
        Self {
            latency: LatencySample {
                count: one.count.saturating_add(other.count),
                p50: one.p50.max(other.p50),
                p99: one.p99.max(other.p99),
                max: one.max.max(other.max),
            },
            replicated: self.replicated.saturating_add(later.replicated),
            replicated_bytes: self.replicated_bytes.saturating_add(later.replicated_bytes),
            errors: self.errors.saturating_add(later.errors),
            throttles: self.throttles.saturating_add(later.throttles),
            ..later
        }
    }
}

fn place(minute: u64) -> Vec<u8> {
    Table::History.key().long(minute).end()
}

impl View<'_> {
    /// The samples kept, the oldest first, each with the beginning of its minute.
    pub(super) fn history(&self) -> Result<Vec<(Timestamp, Sample)>, Fault> {
        let mut found = Vec::new();
        for (key, value) in self.pages.under(&Table::History.all(), usize::MAX)? {
            let minute = Fields::of(&key).long()?;
            found.push((Timestamp(minute.saturating_mul(MINUTE)), self.decode(&value)?));
        }
        Ok(found)
    }
}

impl Book<'_> {
    /// Keeps the sample of the minute that `at` lies in, and forgets those of more than a day before.
    pub(super) fn keep_sample(&mut self, at: Timestamp, sample: Sample) -> Result<(), Fault> {
        let minute = at.0 / MINUTE;
        let before: Option<Sample> = self.view.record(&place(minute))?;
        self.put(place(minute), &before.map_or(sample, |before| before.followed_by(sample)))?;
        let oldest = place(minute.saturating_sub(KEPT - 1));
        for (key, _) in self.view.pages.scan(&Table::History.all(), &oldest, usize::MAX)? {
            self.view.pages.remove(&key)?;
        }
        // A clock that was ahead leaves samples of a time to come: they would stand on every chart until it comes.
        let ahead = Slot::after(place(minute));
        for (key, _) in self.view.pages.scan(&ahead, &behind(&Table::History.all()), usize::MAX)? {
            self.view.pages.remove(&key)?;
        }
        Ok(())
    }
}

impl Record for Sample {
    const NAME: &'static str = "sample";

    fn write(&self, out: &mut Encoder, _names: &Names) {
        let LatencySample { count, p50, p99, max } = self.latency;
        let Self { latency: _, pending, pending_bytes, failed, oldest, .. } = *self;
        let Self { replicated, replicated_bytes, errors, throttles, .. } = *self;
        for number in [count, p50, p99, max, pending, pending_bytes, failed, oldest] {
            out.number(number);
        }
        for number in [replicated, replicated_bytes, errors, throttles] {
            out.number(number);
        }
    }

    fn read(from: &mut Decoder<'_>, _names: &Names) -> Read<Self> {
        let latency =
            LatencySample { count: from.number()?, p50: from.number()?, p99: from.number()?, max: from.number()? };
        Ok(Self {
            latency,
            pending: from.number()?,
            pending_bytes: from.number()?,
            failed: from.number()?,
            oldest: from.number()?,
            replicated: from.number()?,
            replicated_bytes: from.number()?,
            errors: from.number()?,
            throttles: from.number()?,
        })
    }
}
