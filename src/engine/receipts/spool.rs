//! The spool: receipt files on the local disk until they are in the bucket. Everything here blocks.
//!
//! A file grows by whole groups of lines, each on disk before it counts; `head.json` is the end of the newest closed
//! file, written before that file may be removed, so that the chain goes on when no file is left.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::audit::receipts::{LONGEST_LINE, Reader, Receipt, Tip, chain_id};
use crate::model::object::Timestamp;

/// A file is closed before it grows beyond this, in bytes: small enough to be packed in memory (about a quarter).
const LARGEST_FILE: u64 = 16 << 20;
const HEAD: &str = "head.json";

/// The one writer of a spool directory.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    tip: Tip,
    open: Option<Open>,
    /// The number of the file whose end `head.json` holds: files up to it may go.
    head: u64,
    largest: u64,
}

/// The file that grows.
#[derive(Debug)]
struct Open {
    file: File,
    day: String,
    /// What is on disk and counts; bytes beyond it are left from a write that failed.
    length: u64,
}

/// A closed file that waits for its upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) path: PathBuf,
    /// The UTC day on which it was opened, `2026-11-21`.
    pub(super) day: String,
    pub(super) number: u64,
}

impl Spool {
    /// Opens a spool and closes whatever an earlier run left open. A line that was not whole on disk is set aside in
    /// a file of its own, never thrown away. `seed` makes the id of a chain that begins here.
    pub(super) fn open(directory: &Path, seed: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let head = read_head(directory)?;
        let files = waiting(directory, u64::MAX)?;
        let tip = head.unwrap_or_else(|| Tip::genesis(chain_id(seed)));
        let head = tip.file;
        let mut spool = Self { directory: directory.to_owned(), tip, open: None, head, largest: LARGEST_FILE };
        for left in files.iter().filter(|left| left.number > spool.tip.file).collect::<Vec<_>>() {
            spool.take_up(left)?;
        }
        Ok(spool)
    }

    /// Goes on where a file ends that the head does not know of yet, and closes it.
    fn take_up(&mut self, left: &Waiting) -> io::Result<()> {
        let bytes = fs::read(&left.path)?;
        let mut reader = Reader::new(left.path.display().to_string());
        let (mut good, mut tip) = (0, None);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            reader.line(line);
            let Some(reached) = reader.tip().filter(|_| line.len() <= LONGEST_LINE) else { break };
            tip = Some(reached.clone());
            good += line.len();
        }
        let torn = bytes.get(good..).unwrap_or_default();
        if !torn.is_empty() {
            let aside = left.path.with_extension("torn");
            write_synced(&aside, torn)?;
            tracing::warn!(file = %left.path.display(), bytes = torn.len(), aside = %aside.display(),
                "receipts: the last lines were not whole on disk and are set aside");
        }
        let Some(tip) = tip else { return fs::remove_file(&left.path) };
        self.tip = tip;
        if reader.closed() && torn.is_empty() {
            return self.write_head();
        }
        let file = OpenOptions::new().append(true).open(&left.path)?;
        self.open = Some(Open { file, day: left.day.clone(), length: u64::try_from(good).unwrap_or(u64::MAX) });
        self.close()
    }

    /// Writes receipts to disk, oldest first, and takes out of the queue what is there. After an error the rest is
    /// still in the queue and the chain is as if it had not been tried.
    pub(super) fn append(&mut self, receipts: &mut VecDeque<Receipt>) -> io::Result<()> {
        while let Some(first) = receipts.front() {
            let now = first.settled;
            self.make_room(now)?;
            let room = self.largest.saturating_sub(self.open.as_ref().map_or(0, |open| open.length));
            let mut tip = self.tip.clone();
            let (mut bytes, mut taken) = (Vec::new(), 0);
            for receipt in receipts.iter() {
                if taken > 0 && (day(receipt.settled) > day(now) || bytes.len() as u64 >= room) {
                    break;
                }
                bytes.extend_from_slice(&tip.receipt(receipt));
                taken += 1;
            }
            self.write(&bytes, tip)?;
            receipts.drain(..taken);
        }
        Ok(())
    }

    /// Writes down how many receipts were lost.
    pub(super) fn note_lost(&mut self, count: u64, now: Timestamp) -> io::Result<()> {
        self.make_room(now)?;
        let mut tip = self.tip.clone();
        let bytes = tip.lost(count, now);
        self.write(&bytes, tip)
    }

    /// Closes the file when its day is over.
    pub(super) fn end_day(&mut self, now: Timestamp) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| day(now) > open.day) { self.close() } else { Ok(()) }
    }

    /// Closes the file that grows, if there is one.
    pub(super) fn close(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            let mut tip = self.tip.clone();
            let bytes = tip.close();
            self.write(&bytes, tip)?;
            self.open = None;
        }
        // Also where an earlier try closed the file and got no further.
        if self.head < self.tip.file { self.write_head() } else { Ok(()) }
    }

    /// Where the chain is.
    pub(super) fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The number of the newest closed file that the chain can do without.
    pub(super) fn closed_through(&self) -> u64 {
        self.head
    }

    /// A file that may take a line of this time.
    fn make_room(&mut self, now: Timestamp) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| day(now) <= open.day && open.length < self.largest) {
            return Ok(());
        }
        self.close()?;
        let day = day(now);
        let mut tip = self.tip.clone();
        let bytes = tip.open(now);
        let path = self.directory.join(format!("{day}.{}.jsonl", tip.file));
        // A file of that number without a line in it is left of an attempt that failed.
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        file.set_len(0)?;
        sync_directory(&self.directory)?;
        let mut open = Open { file, day, length: 0 };
        open.write(&bytes)?;
        self.tip = tip;
        self.open = Some(open);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], tip: Tip) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.write(bytes)?;
            self.tip = tip;
        }
        Ok(())
    }

    fn write_head(&mut self) -> io::Result<()> {
        let fresh = self.directory.join(format!("{HEAD}.new"));
        write_synced(&fresh, &serde_json::to_vec(&self.tip)?)?;
        fs::rename(&fresh, self.directory.join(HEAD))?;
        sync_directory(&self.directory)?;
        self.head = self.tip.file;
        Ok(())
    }
}

impl Open {
    /// Appends and syncs. What an earlier failed write left behind the end goes first.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.metadata()?.len() != self.length {
            self.file.set_len(self.length)?;
        }
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// The UTC day, `2026-11-21`.
pub(super) fn day(time: Timestamp) -> String {
    time.rfc3339().chars().take("2026-11-21".len()).collect()
}

/// The spool's files up to a number, oldest first.
pub(super) fn waiting(directory: &Path, through: u64) -> io::Result<Vec<Waiting>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jsonl"));
        let Some((day, number)) = name.and_then(|name| name.split_once('.')) else { continue };
        let Ok(number) = number.parse() else { continue };
        if number <= through {
            found.push(Waiting { day: day.to_owned(), number, path });
        }
    }
    found.sort_by_key(|file| file.number);
    Ok(found)
}

/// The last line's hash of a closed file.
pub(super) fn last_hash(path: &Path) -> io::Result<Option<String>> {
    let (sheet, _) = Reader::read("", BufReader::new(File::open(path)?));
    Ok(sheet.map(|sheet| sheet.tip().hash.clone()))
}

pub(super) fn read_head(directory: &Path) -> io::Result<Option<Tip>> {
    let path = directory.join(HEAD);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            io::Error::other(format!(
                "{} cannot be understood ({error}): restore it, or remove it to begin a new chain",
                path.display()
            ))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
