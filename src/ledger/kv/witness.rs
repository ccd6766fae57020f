//! How many batches the log held when it was last flushed, in a small file beside it: by it a log is known from which
//! something was cut off since, or an older copy of it. sled 0.34 takes a shorter log for one that a crash has cut, and opens it
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

/// Of the number, always, so that it is written in place. A first version wrote the log's length behind it.
const DIGITS: usize = 20;

fn line(batches: u64) -> String {
    format!("{batches:0DIGITS$}\n")
}

/// The open file, with what it says.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    said: Mutex<u64>,
}

/// What was said of a log before it was opened. `None` where nobody has said anything yet.
pub(super) fn said(directory: &Path) -> io::Result<Option<u64>> {
    match std::fs::read_to_string(directory.join(NAME)) {
        Ok(text) => text.get(..DIGITS).and_then(|said| said.parse().ok()).map(Some).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("its file {NAME:?} is not as repl writes it"))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Witness {
    /// Opens the file, or makes it, with what is so now. The directory's entry is for the caller to flush.
    pub(super) fn open(directory: &Path, now: u64) -> io::Result<Self> {
        let place = directory.join(NAME);
        if !place.exists() {
            let unfinished = directory.join(UNFINISHED);
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(line(now).as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &place)?;
        }
        let witness = Self { file: OpenOptions::new().write(true).open(&place)?, said: Mutex::new(0) };
        witness.say(now)?;
        Ok(witness)
    }

    /// Says something else from now on.
    pub(super) fn say(&self, now: u64) -> io::Result<()> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != now {
            self.file.write_all_at(line(now).as_bytes(), 0)?;
            *said = now;
        }
        Ok(())
    }
}
