//! What the log held when it was last flushed, in a small file beside it: by it a log is known from which something was
//! cut off since, or an older copy of it. sled 0.34 takes a shorter log for one that a crash has cut, and opens it
//! without a word.
//!
//! Written after each flush and never flushed itself: it may be older than the log, and is then only less strict.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The file's name.
const NAME: &str = "flushed";
/// Under this name it is made, so that it is never there in part.
const UNFINISHED: &str = "flushed.new";

/// A state of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Batches that it holds.
    pub(super) batches: u64,
    /// Its length in bytes.
    pub(super) length: u64,
}

impl Mark {
    /// Of one length always, so that it is written in place.
    fn line(self) -> String {
        format!("{:020} {:020}\n", self.batches, self.length)
    }

    fn read(text: &str) -> Option<Self> {
        let (batches, length) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self { batches: batches.parse().ok()?, length: length.parse().ok()? })
    }
}

/// The open file, with what it says.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    said: Mutex<Mark>,
}

/// What was said of a log before it was opened. `None` where nobody has said anything yet.
pub(super) fn said(directory: &Path) -> io::Result<Option<Mark>> {
    match std::fs::read_to_string(directory.join(NAME)) {
        Ok(text) => Mark::read(&text).map(Some).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("its file {NAME:?} is not as repl writes it"))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Witness {
    /// Opens the file, or makes it, with what is so now. The directory's entry is for the caller to flush.
    pub(super) fn open(directory: &Path, now: Mark) -> io::Result<Self> {
        let place = directory.join(NAME);
        if !place.exists() {
            let unfinished = directory.join(UNFINISHED);
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(now.line().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &place)?;
        }
        let witness = Self { file: OpenOptions::new().write(true).open(&place)?, said: Mutex::new(Mark::default()) };
        witness.say(now)?;
        Ok(witness)
    }

    /// What it says.
    pub(super) fn said(&self) -> Mark {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something else from now on.
    pub(super) fn say(&self, now: Mark) -> io::Result<()> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != now {
            self.file.write_all_at(now.line().as_bytes(), 0)?;
            *said = now;
        }
        Ok(())
    }
}
