//! How fast the last sync was: kept in a file beside the ledger, so that a plan can be made while a worker has it open.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::beside;

const NAME: &str = "measured.json";
/// Shorter syncs tell nothing.
const TELLING: Duration = Duration::from_secs(2);

/// What one sync came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
}

impl Measured {
    /// Bytes and objects a second.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate, never negative"
    )]
    pub(super) fn rates(&self) -> (u64, f64) {
        let seconds = self.seconds.max(TELLING.as_secs_f64());
        ((self.bytes as f64 / seconds) as u64, self.objects as f64 / seconds)
    }
}

/// Remembers it, if it was long enough to tell something. That it cannot be written is no fault of a sync.
pub(super) fn write(ledger: &Path, measured: &Measured) {
    if measured.objects == 0 || measured.seconds < TELLING.as_secs_f64() {
        return;
    }
    let written = serde_json::to_vec(measured).map_err(std::io::Error::from);
    let written = written.and_then(|text| beside::write(ledger, NAME, &text));
    if let Err(error) = written {
        tracing::debug!(%error, "the rate of this sync could not be kept");
    }
}

/// What the last sync came to, where that is known.
pub(super) fn read(ledger: &Path) -> Option<Measured> {
    let text = std::fs::read(ledger.join(NAME)).ok()?;
    serde_json::from_slice(&text).ok().filter(|measured: &Measured| measured.seconds.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tells_something_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()), None);
        let long = Measured { objects: 10, bytes: 1 << 20, seconds: 4.0 };
        for short in [Measured { seconds: 1.0, ..long }, Measured { objects: 0, ..long }] {
            write(directory.path(), &short);
            assert_eq!(read(directory.path()), None);
        }
        write(directory.path(), &long);
        assert_eq!(read(directory.path()).map(|kept| kept.rates()), Some((1 << 18, 2.5)));
        std::fs::write(directory.path().join(NAME), "{").unwrap();
        assert_eq!(read(directory.path()), None, "half a file is none");
    }
}
