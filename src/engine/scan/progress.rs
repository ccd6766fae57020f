//! How far a scan is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::engine::brake::Census;

/// How far a scan is: read by whoever shows its progress.
#[derive(Debug, Default)]
pub struct ScanProgress {
    listed: AtomicU64,
    equal: AtomicU64,
    unprovable: AtomicU64,
    bad: Mutex<(u64, Vec<BadLine>)>,
    /// What a whole scan met, until its work is done.
    census: Mutex<Option<Census>>,
}

/// A line of a list of objects that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Of which file.
    pub file: String,
    /// Counted from 1.
    pub line: u64,
    /// Why: one sentence about the line.
    pub reason: String,
}

/// Bad lines that are kept with their reasons; of the others the number.
const KEPT_BAD_LINES: usize = 100;

impl ScanProgress {
    /// How many lines of a list could not be understood, and the first of them.
    #[must_use]
    pub fn bad_lines(&self) -> (u64, Vec<BadLine>) {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::engine) fn count_bad_line(&self, bad: BadLine) {
        let mut all = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        all.0 += 1;
        if all.1.len() < KEPT_BAD_LINES {
            tracing::warn!(file = bad.file, line = bad.line, reason = bad.reason, "a line of the list is left out");
            all.1.push(bad);
        }
    }

    /// Those of an earlier part of the same list.
    pub(in crate::engine) fn recall_bad_lines(&self, count: u64, first: Vec<BadLine>) {
        *self.bad.lock().unwrap_or_else(PoisonError::into_inner) = (count, first);
    }

    /// Versions and delete markers listed so far.
    #[must_use]
    pub fn listed(&self) -> u64 {
        self.listed.load(Ordering::Relaxed)
    }

    /// Objects that the comparison found equal, without a job.
    #[must_use]
    pub fn equal(&self) -> u64 {
        self.equal.load(Ordering::Relaxed)
    }

    pub(in crate::engine) fn count(&self) {
        self.listed.fetch_add(1, Ordering::Relaxed);
    }

    /// Objects of which the comparison could tell neither.
    #[must_use]
    pub fn unprovable(&self) -> u64 {
        self.unprovable.load(Ordering::Relaxed)
    }

    pub(in crate::engine) fn count_unprovable(&self) {
        self.unprovable.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::engine) fn count_equal(&self) {
        self.equal.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_listed(&self, entries: usize) {
        self.listed.fetch_add(entries as u64, Ordering::Relaxed);
    }

    pub(super) fn keep_census(&self, census: Census) {
        *self.census.lock().unwrap_or_else(PoisonError::into_inner) = Some(census);
    }

    pub(super) fn take_census(&self) -> Option<Census> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
