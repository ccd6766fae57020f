//! The small seam to the disk: an ordered map of bytes that changes by whole batches.
//!
//! *Secret kept:* which store holds the bytes (sled). Everything above speaks of [`Kv`] only, so that tests can put a
//! store with two images, live and durable, in its place.

mod held;
#[cfg(test)]
pub(super) mod memory;
mod segments;
mod witness;

use std::any::Any;
use std::fmt;
use std::fs::{DirBuilder, DirEntry, File, Permissions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use crate::fail::{self, Point};
use crate::model::fault::{Fault, FaultKind, Side};
use held::Held;
use witness::Witness;

/// Changes that become visible, and durable, all together or not at all; `None` removes the key.
pub(super) type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// One entry: key and value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// An ordered map of bytes. Every fault is of kind `Ledger`.
pub(super) trait Kv: Send + Sync + fmt::Debug + 'static {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;
    /// The last entry within `from..=upto`.
    fn floor(&self, from: &[u8], upto: &[u8]) -> Result<Option<Entry>, Fault>;
    /// The first entry behind `after` and before `end`, both exclusive.
    fn next(&self, after: &[u8], end: &[u8]) -> Result<Option<Entry>, Fault>;
    /// Applies a batch: visible at once, durable with the next flush. After a crash either all of it is there or
    /// nothing, and never without the batches before it.
    fn apply(&self, batch: Batch) -> Result<(), Fault>;
    /// Makes everything applied durable.
    fn flush(&self) -> Result<(), Fault>;
    /// Bytes on disk.
    fn size_on_disk(&self) -> Result<u64, Fault>;
}

/// Bytes of pages that sled keeps in memory. Measured: with 16 MiB the process stays under 96 MiB with a million
/// pending jobs.
const CACHE_BYTES: u64 = 16 << 20;

/// Bytes of one piece of sled's log, in which it collects its garbage. Fixed when a ledger is made. Measured with
/// 200,000 pending jobs: 512 KiB took 590 bytes of disk for a job, 4 MiB take 380; 8 MiB cost memory and gain nothing.
const SEGMENT_BYTES: usize = 4 << 20;

/// How sled lays its log out, and how much of it may be ahead of the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) segment_bytes: usize,
    /// Bytes of changes after which a flush comes by itself.
    pub(super) unflushed_bytes: u64,
}

impl Shape {
    /// sled writes over a segment once all of its pages stand in later ones that are full, and it has handed those to
    /// the disk; it does not wait for them to be durable. A loss of power could then take both (measured: see
    /// `tests/power`). Two segments are filled before one is written over, so a flush for each sixteenth of one, which
    /// sled's own rewriting makes a few times that, comes well before.
    pub(super) const fn of_segments(segment_bytes: usize) -> Self {
        Self { segment_bytes, unflushed_bytes: segment_bytes as u64 / 16 }
    }
}

/// sled's log, within its directory.
const LOG: &str = "db";

/// Where the number of the last batch stands, below all tables.
const BATCHES: [u8; 1] = [0];

/// The real store: one sled tree, so that one batch can touch records of every kind.
pub(super) struct SledKv {
    db: sled::Db,
    /// The log once more: sled 0.34 ends its writes with `sync_file_range`, which writes neither the file's size nor
    /// the disk's own cache, and so promises nothing about a loss of power (sync_file_range(2)).
    log: File,
    witness: Witness,
    shape: Shape,
    /// The number of the last batch. Held by whoever writes.
    batches: Mutex<u64>,
    /// What was changed since the last flush: sled gets it with the next.
    held: RwLock<Held>,
}

impl SledKv {
    /// Opens or creates the store in `directory`, which is made with mode 0700; its files get 0600. A log that lacks
    /// what was flushed is refused.
    pub(super) fn open(directory: &Path) -> Result<Self, Fault> {
        Self::shaped(directory, Shape::of_segments(SEGMENT_BYTES))
    }

    /// As [`Self::open`], in another shape.
    pub(super) fn shaped(directory: &Path, shape: Shape) -> Result<Self, Fault> {
        private_directory(directory).map_err(|error| {
            ledger_fault(
                "open the ledger",
                format!("{}: {error}; make it a directory we may write", directory.display()),
            )
        })?;
        let said = witness::said(directory).map_err(|error| damaged(directory, error))?.unwrap_or_default();
        not_cut(directory, shape)?;
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            // Its own timed flush would swallow a failed fsync, and the kernel tells of each failure only once.
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace)
            .segment_size(shape.segment_bytes);
        // sled panics over some damage, and every panic in here is one over its files.
        let db = catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|panic| damaged(directory, told(panic.as_ref())))?
            .map_err(|error| open_fault(directory, &error))?;
        let batches = number(&db).map_err(|error| damaged(directory, error))?;
        whole(said, batches).map_err(|reason| damaged(directory, reason))?;
        restrict_files(directory).map_err(|error| {
            ledger_fault(
                "open the ledger",
                format!("{}: its files cannot be made private: {error}", directory.display()),
            )
        })?;
        let (log, witness) = durable(directory, batches).map_err(|error| {
            let detail = format!("{}: its log cannot be made durable: {error}; check the disk", directory.display());
            ledger_fault("open the ledger", detail)
        })?;
        Ok(Self { db, log, witness, shape, batches: batches.into(), held: RwLock::default() })
    }

    /// Whether there is a store, by the file that holds sled's log.
    pub(super) fn is_at(directory: &Path) -> bool {
        directory.join(LOG).exists()
    }
}

#[cfg(test)]
impl SledKv {
    /// The file that a flush ends with.
    pub(super) fn log(&self) -> &File {
        &self.log
    }

    /// Bytes of changes that a loss of power takes.
    pub(super) fn unflushed(&self) -> u64 {
        self.held().bytes()
    }

    /// The first half of a flush: what was changed is on its way to the disk, which need not have it yet.
    pub(super) fn half_flush(&self) {
        let batches = self.turn();
        self.hand_over(*batches).unwrap();
        self.db.flush().unwrap();
    }
}

impl SledKv {
    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, u64> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives sled what was changed, as one batch. Readers see it here until they see it there.
    fn hand_over(&self, batches: u64) -> Result<(), Fault> {
        let held = self.held();
        if held.is_empty() {
            return Ok(());
        }
        let mut changes = sled::Batch::default();
        changes.insert(&BATCHES, &batches.to_be_bytes());
        for (key, value) in held.changes() {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        self.db.apply_batch(changes).map_err(|error| write_fault(&error))?;
        drop(held);
        self.held.write().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    fn flush_as(&self, batches: u64) -> Result<(), Fault> {
        let failed = |error| write_fault(&sled::Error::Io(error));
        self.hand_over(batches)?;
        self.db.flush().map_err(|error| write_fault(&error))?;
        fail::pass(Point::WithinFlush);
        self.log.sync_data().map_err(failed)?;
        self.witness.say(batches).map_err(failed)
    }
}

impl fmt::Debug for SledKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledKv")
    }
}

impl Kv for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(changed) = self.held().get(key) {
            return Ok(changed.map(<[u8]>::to_vec));
        }
        Ok(self.db.get(key).map_err(|error| read_fault(&error))?.map(|value| value.to_vec()))
    }

    fn floor(&self, from: &[u8], upto: &[u8]) -> Result<Option<Entry>, Fault> {
        self.held().floor(from, upto, &|from, upto| {
            let mut within = self.db.range::<&[u8], (Bound<&[u8]>, Bound<&[u8]>)>((from, upto));
            within.next_back().transpose().map(owned).map_err(|error| read_fault(&error))
        })
    }

    fn next(&self, after: &[u8], end: &[u8]) -> Result<Option<Entry>, Fault> {
        if after >= end {
            return Ok(None);
        }
        self.held().next(after, end, &|after, end| {
            let mut within = self.db.range::<&[u8], (Bound<&[u8]>, Bound<&[u8]>)>((after, end));
            within.next().transpose().map(owned).map_err(|error| read_fault(&error))
        })
    }

    fn apply(&self, batch: Batch) -> Result<(), Fault> {
        let mut batches = self.turn();
        *batches = batches.saturating_add(1);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.take_in(batch);
        let much = held.bytes() >= self.shape.unflushed_bytes;
        drop(held);
        if much { self.flush_as(*batches) } else { Ok(()) }
    }

    fn flush(&self) -> Result<(), Fault> {
        let batches = self.turn();
        self.flush_as(*batches)
    }

    fn size_on_disk(&self) -> Result<u64, Fault> {
        self.db.size_on_disk().map_err(|error| read_fault(&error))
    }
}

/// A fault of kind `Ledger` on this machine.
pub(super) fn ledger_fault(during: &'static str, detail: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Ledger, Side::Local, during, detail)
}

fn owned(entry: Option<(sled::IVec, sled::IVec)>) -> Option<Entry> {
    entry.map(|(key, value)| (key.to_vec(), value.to_vec()))
}

fn read_fault(error: &sled::Error) -> Fault {
    let cure = "check the disk under it; if the files are damaged, move them aside and run `repl sync --full`";
    ledger_fault("read the ledger", format!("{error}; {cure}"))
}

fn write_fault(error: &sled::Error) -> Fault {
    match full(error) {
        Some(full) => ledger_fault("write the ledger", full),
        None => ledger_fault("write the ledger", format!("{error}; check the disk under it and its free space")),
    }
}

/// The number of the last batch that is there.
fn number(db: &sled::Db) -> Result<u64, sled::Error> {
    Ok(db.get(BATCHES)?.map_or(0, |bytes| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))))
}

/// How a log comes to hold less than it did.
const CUT_OFF: &str = "something was cut off, or this is an older copy, or one that was made while a worker ran";

/// Refuses a log that lacks the end of a segment that was whole. One that is not there yet lacks nothing.
fn not_cut(directory: &Path, shape: Shape) -> Result<(), Fault> {
    let cut = match File::open(directory.join(LOG)) {
        Ok(log) => segments::cut_within(&log, shape.segment_bytes as u64),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    match cut {
        Ok(None) => Ok(()),
        Ok(Some(offset)) => {
            Err(damaged(directory, format!("its log lacks the end of what begins at byte {offset}: {CUT_OFF}")))
        }
        Err(error) => {
            Err(ledger_fault("open the ledger", format!("{}: {error}; check the disk under it", directory.display())))
        }
    }
}

/// Whether a log holds what was flushed.
fn whole(said: u64, batches: u64) -> Result<(), String> {
    if batches < said {
        return Err(format!("it holds {batches} batches where {said} were flushed: {CUT_OFF}"));
    }
    Ok(())
}

/// What a panic says.
fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("sled cannot read it").to_owned()
}

fn damaged(directory: &Path, reason: impl fmt::Display) -> Fault {
    let detail = format!(
        "{}: it is damaged: {reason}; move this directory aside and run `repl sync --full`, which finds from the \
         buckets alone what is to be done",
        directory.display()
    );
    ledger_fault("open the ledger", detail)
}

/// sled 0.34 tells a held lock as an I/O error of kind `Other` whose text begins so (config.rs, `try_lock`).
fn open_fault(directory: &Path, error: &sled::Error) -> Fault {
    let text = error.to_string();
    if text.contains("could not acquire lock") {
        let detail = format!(
            "{}: another repl process has this ledger open; ask it through its socket, or stop it first",
            directory.display()
        );
        // Not the ledger's own fault: it passes when the other process ends, which may be this very moment.
        return Fault::new(FaultKind::Transient, Side::Local, "open the ledger", detail);
    }
    if let Some(full) = full(error) {
        return ledger_fault("open the ledger", format!("{}: {full}; free some of it first", directory.display()));
    }
    match error {
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) | sled::Error::Unsupported(_) => {
            damaged(directory, text)
        }
        // An end that comes too early, or bytes that make no sense: not the system's word, but sled's own.
        sled::Error::Io(error) if error.raw_os_error().is_none() => damaged(directory, text),
        sled::Error::CollectionNotFound(_) | sled::Error::Io(_) => {
            ledger_fault("open the ledger", format!("{}: {text}; check the disk under it", directory.display()))
        }
    }
}

/// Said in plain words, as this is what a ledger fails of most.
fn full(error: &sled::Error) -> Option<&'static str> {
    match error {
        sled::Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull => Some("its disk is full"),
            io::ErrorKind::QuotaExceeded => Some("its user's share of the disk is used up"),
            _ => None,
        },
        _ => None,
    }
}

fn private_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    std::fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// The log and its witness, with their entries in the directory on disk.
fn durable(directory: &Path, batches: u64) -> io::Result<(File, Witness)> {
    let log = File::open(directory.join(LOG))?;
    let witness = Witness::open(directory, batches)?;
    File::open(directory)?.sync_all()?;
    Ok((log, witness))
}

fn restrict_files(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        // sled keeps snapshots and large values beside its log and replaces them while it runs: what comes later
        // is shielded by the directory's own mode.
        if kind.is_file() {
            restrict(&entry, 0o600)?;
        } else if kind.is_dir() {
            restrict(&entry, 0o700)?;
        }
    }
    Ok(())
}

/// Changes nothing that is as it should be: `repl check` makes and removes files here at any time, perhaps as root.
fn restrict(entry: &DirEntry, mode: u32) -> io::Result<()> {
    let restricted = entry.metadata().and_then(|there| match there.permissions().mode() & 0o777 == mode {
        true => Ok(()),
        false => std::fs::set_permissions(entry.path(), Permissions::from_mode(mode)),
    });
    match restricted {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        restricted => restricted,
    }
}
