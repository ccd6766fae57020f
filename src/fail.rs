//! Floor 1: named moments that leave something half done, at which a build for tests dies as under `kill -9`.
//!
//! *Purpose:* crash tests that do not depend on luck (`tests/cloud_rounds.rs`). *Secret kept:* how a process is told to
//! die, and where. *Must not know:* anything else. Without the feature `fail-points`, which no release has,
//! [`pass`] is empty and nothing can be armed.

/// A moment at which a crash leaves something half done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Jobs are on disk, their messages still in the queue.
    AfterAdmit,
    /// The source has answered with a body, of which nothing is sent yet.
    AfterGet,
    /// A replica is visible, and nothing is written down of it.
    AfterPut,
    /// A delete marker is visible, and nothing is written down of it.
    AfterMarker,
    /// A job has ended, perhaps not on disk.
    AfterSettle,
    /// An upload is open, and not noted.
    AfterCreate,
    /// A part is at the store, and not noted.
    AfterPart,
    /// All parts are there, and the upload is open.
    BeforeComplete,
    /// The upload is completed, and noted as open.
    AfterComplete,
    /// sled has written, and the disk has not been asked to keep it.
    WithinFlush,
    /// A page of a listing is on disk as jobs.
    AfterPage,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AfterAdmit,
        Self::AfterGet,
        Self::AfterPut,
        Self::AfterMarker,
        Self::AfterSettle,
        Self::AfterCreate,
        Self::AfterPart,
        Self::BeforeComplete,
        Self::AfterComplete,
        Self::WithinFlush,
        Self::AfterPage,
    ];

    /// Its name in the environment.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfterAdmit => "after-admit",
            Self::AfterGet => "after-get",
            Self::AfterPut => "after-put",
            Self::AfterMarker => "after-marker",
            Self::AfterSettle => "after-settle",
            Self::AfterCreate => "after-create",
            Self::AfterPart => "after-part",
            Self::BeforeComplete => "before-complete",
            Self::AfterComplete => "after-complete",
            Self::WithinFlush => "within-flush",
            Self::AfterPage => "after-page",
        }
    }
}

/// Passes a point, and dies there if that is its time.
#[cfg(not(feature = "fail-points"))]
#[inline]
pub const fn pass(_point: Point) {}

/// Where to die, and how often that is passed before.
#[cfg(feature = "fail-points")]
static ARMED: std::sync::OnceLock<(Point, std::sync::atomic::AtomicU32)> = std::sync::OnceLock::new();

/// Arms one point: `NAME:N` dies when it is passed for the N-th time, counted from 1. False if that is no such text.
#[cfg(feature = "fail-points")]
#[must_use]
pub fn arm(text: &str) -> bool {
    let Some((name, count)) = text.split_once(':') else { return false };
    let point = Point::ALL.into_iter().find(|point| point.name() == name);
    match (point, count.parse::<u32>()) {
        (Some(point), Ok(count)) if count > 0 => ARMED.set((point, count.into())).is_ok(),
        _other => false,
    }
}

/// Passes a point, and dies there if that is its time.
#[cfg(feature = "fail-points")]
pub fn pass(point: Point) {
    if let Some((armed, left)) = ARMED.get()
        && *armed == point
        && left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1
    {
        // No destructor, no flush, no last word: as under SIGKILL.
        std::process::abort();
    }
}
