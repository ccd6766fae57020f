//! What a loss of power, or a clumsy hand, leaves of the real store's files.
//!
//! A disk keeps what it had at the last finished `fdatasync`; of what was written since it keeps what it happens to
//! have, page by page, and of a file's new length all or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;

use super::*;

/// What reaches the disk as one.
const PAGE: usize = 4096;

/// All files of a directory.
#[derive(Clone, Debug, Default)]
struct Image(BTreeMap<PathBuf, Vec<u8>>);

impl Image {
    fn of(directory: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut waiting = vec![directory.to_owned()];
        while let Some(place) = waiting.pop() {
            for entry in std::fs::read_dir(place).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path);
                } else {
                    files.insert(path.strip_prefix(directory).unwrap().to_owned(), std::fs::read(&path).unwrap());
                }
            }
        }
        Self(files)
    }

    fn log(&self) -> &[u8] {
        &self.0[Path::new("db")]
    }

    fn with_log(&self, log: Vec<u8>) -> Self {
        let mut files = self.0.clone();
        files.insert(PathBuf::from("db"), log);
        Self(files)
    }

    fn without(&self, name: &str) -> Self {
        let mut files = self.0.clone();
        files.retain(|path, _| !path.starts_with(name));
        Self(files)
    }

    fn write(&self) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in &self.0 {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        root
    }
}

/// The real store, with its files as they were when last they were durable.
#[derive(Debug)]
struct WatchedKv {
    sled: SledKv,
    directory: PathBuf,
    durable: Mutex<Image>,
}

impl WatchedKv {
    fn keep(&self) {
        *self.durable.lock().unwrap() = Image::of(&self.directory);
    }
}

impl Kv for WatchedKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.sled.get(key)
    }

    fn floor(&self, from: &[u8], upto: &[u8]) -> Result<Option<kv::Entry>, Fault> {
        self.sled.floor(from, upto)
    }

    fn next(&self, after: &[u8], end: &[u8]) -> Result<Option<kv::Entry>, Fault> {
        self.sled.next(after, end)
    }

    fn apply(&self, batch: kv::Batch) -> Result<(), Fault> {
        self.sled.apply(batch)?;
        // It may have flushed by itself.
        if self.sled.unflushed() == 0 {
            self.keep();
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Fault> {
        self.sled.flush()?;
        self.keep();
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, Fault> {
        self.sled.size_on_disk()
    }
}

/// What the disk kept of that which was written after its last flush.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Nothing,
    Everything,
    /// What was written over, and nothing of what made the file longer.
    WithinOldEnd,
    /// The same, and the longer file is full of zeros there.
    ZeroesBehindOldEnd,
    /// Some pages, by chance.
    Some(u64),
    /// All pages but one.
    AllButOne(u64),
}

impl Kept {
    fn of(self, durable: &Image, now: &Image) -> Image {
        let (old, new) = (durable.log(), now.log());
        let short = old.len().min(new.len());
        // Where the file became shorter, its old end is still there.
        let shortened = old.get(short..).unwrap_or_default();
        let log = match self {
            Self::Nothing => old.to_vec(),
            Self::Everything => new.to_vec(),
            Self::WithinOldEnd => [&new[..short], shortened].concat(),
            Self::ZeroesBehindOldEnd => {
                let mut log = [&new[..short], shortened].concat();
                log.resize(old.len().max(new.len()), 0);
                log
            }
            Self::Some(seed) => {
                let mut dice = Dice(seed);
                let mut log = if dice.throw(2) == 0 { old.to_vec() } else { [&new[..short], shortened].concat() };
                log.resize(if dice.throw(2) == 0 { old.len() } else { new.len().max(old.len()) }, 0);
                mixed(log, old, new, |_| dice.throw(2) == 0)
            }
            Self::AllButOne(seed) => {
                let changed: Vec<usize> =
                    (0..new.len().div_ceil(PAGE)).filter(|page| at_page(old, *page) != at_page(new, *page)).collect();
                let lost = changed.get(usize::try_from(Dice(seed).throw(changed.len() as u64)).unwrap()).copied();
                let mut log = new.to_vec();
                log.resize(old.len().max(new.len()), 0);
                mixed(log, old, new, |page| Some(page) != lost)
            }
        };
        durable.with_log(log)
    }
}

fn at_page(file: &[u8], page: usize) -> &[u8] {
    let end = file.len().min((page + 1) * PAGE);
    file.get(page * PAGE..end).unwrap_or_default()
}

/// A file of this length, each page as it was or as it is.
fn mixed(mut log: Vec<u8>, old: &[u8], new: &[u8], mut is_new: impl FnMut(usize) -> bool) -> Vec<u8> {
    for page in 0..log.len().div_ceil(PAGE) {
        let from = at_page(if is_new(page) { new } else { old }, page).to_vec();
        let start = page * PAGE;
        let end = log.len().min(start + from.len());
        log[start..end].copy_from_slice(&from[..end - start]);
    }
    log
}

/// xorshift64*: the same seed throws the same.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn throw(&mut self, sides: u64) -> u64 {
        let mut state = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0 = state;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides.max(1)
    }
}

#[allow(clippy::disallowed_methods, reason = "sizes are the runner's to choose")]
pub(super) fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

/// Segments so small that sled writes over many in a run of seconds; `REPL_POWER_UNFLUSHED` lets more of it be ahead of
/// the disk than the ledger does.
fn shape() -> Shape {
    let usual = Shape::of_segments(usize::try_from(asked("REPL_POWER_SEGMENT", 256 << 10)).unwrap());
    Shape { unflushed_bytes: asked("REPL_POWER_UNFLUSHED", usual.unflushed_bytes), ..usual }
}

fn open(directory: &Path) -> Result<Ledger, Fault> {
    Ledger::on(Arc::new(SledKv::shaped(directory, shape())?), Limits::default())
}

/// What is wrong with what a loss of power left. All jobs of `due` were admitted and not asked to end.
async fn wrong(image: &Image, due: &BTreeSet<JobId>) -> Option<String> {
    let root = image.write();
    let ledger = match open(root.path()) {
        Ok(ledger) => ledger,
        Err(fault) => return Some(format!("not opened: {fault}")),
    };
    balanced(&ledger.totals());
    let mut lanes = match ledger.claim(at(1_000_000), 100_000).await {
        Ok(lanes) => lanes,
        Err(fault) => return Some(format!("not readable: {fault}")),
    };
    let there: BTreeSet<JobId> = lanes.iter_mut().flat_map(Lane::take_all).map(|claim| claim.id()).collect();
    let lost = due.difference(&there).count();
    (lost > 0).then(|| format!("{lost} of {} jobs are lost", due.len()))
}

/// Long work without a flush of its own, cut in its midst again and again: what is wrong afterwards.
async fn losses() -> Vec<String> {
    let (count, cuts, seeds) =
        (asked("REPL_POWER_JOBS", 3_000), asked("REPL_POWER_CUTS", 4), asked("REPL_POWER_SEEDS", 3));
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("ledger");
    let sled = SledKv::shaped(&directory, shape()).unwrap();
    let kv = Arc::new(WatchedKv { sled, directory: directory.clone(), durable: Mutex::default() });
    let ledger = Ledger::on(Arc::<WatchedKv>::clone(&kv), Limits::default()).unwrap();
    let mut due = BTreeSet::new();
    for batch in 0..count / 100 {
        let jobs = (batch * 100..batch * 100 + 100).map(bench::realistic).collect();
        due.extend(ledger.admit(work(jobs)).await.unwrap().ids);
    }
    let mut found = Vec::new();
    let mut written_over = 0;
    for cut in 0..cuts {
        let left = count - count * (cut + 1) / (cuts + 1);
        while ledger.totals().pending.operations > left {
            for mut lane in ledger.claim(at(1_000_000), 16).await.unwrap() {
                let claims = lane.take_all();
                due.retain(|id| !claims.iter().any(|claim| claim.id() == *id));
                ledger.settle(claims, done(at(1_000_000))).await.unwrap();
            }
        }
        kv.sled.half_flush();
        let (durable, now) = (kv.durable.lock().unwrap().clone(), Image::of(&directory));
        let ahead =
            (0..now.log().len() / PAGE).filter(|page| at_page(durable.log(), *page) != at_page(now.log(), *page));
        written_over += ahead.count();
        let fixed = [Kept::Nothing, Kept::Everything, Kept::WithinOldEnd, Kept::ZeroesBehindOldEnd];
        let by_chance =
            (0..seeds).flat_map(|seed| [Kept::Some(cut * 1_000 + seed), Kept::AllButOne(cut * 1_000 + seed)]);
        for kept in fixed.into_iter().chain(by_chance) {
            let wrong = wrong(&kept.of(&durable, &now), &due).await;
            found.extend(wrong.map(|wrong| format!("cut {cut}, {kept:?}: {wrong}")));
        }
    }
    println!("{written_over} pages ahead of the disk at {cuts} cuts, {} losses: {found:#?}", found.len());
    found
}

/// P1: whatever the disk kept of what was not flushed, everything that was flushed is there.
#[tokio::test]
async fn nothing_flushed_is_lost_whatever_else_the_disk_kept() {
    assert_eq!(losses().await, Vec::<String>::new());
}

/// A ledger of some size, closed, with the jobs that are in it.
async fn closed() -> (Image, BTreeSet<JobId>) {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("ledger");
    let ledger = open(&directory).unwrap();
    let mut due = BTreeSet::new();
    for batch in 0..10 {
        let jobs = (batch * 100..batch * 100 + 100).map(bench::realistic).collect();
        due.extend(ledger.admit(work(jobs)).await.unwrap().ids);
    }
    for mut lane in ledger.claim(at(1_000_000), 300).await.unwrap() {
        let claims = lane.take_all();
        due.retain(|id| !claims.iter().any(|claim| claim.id() == *id));
        ledger.settle(claims, done(at(1_000_000))).await.unwrap();
    }
    drop(ledger);
    (Image::of(&directory), due)
}

/// A log from which something was cut off is refused with what to do, and never opened as if nothing were missing.
#[tokio::test]
async fn a_ledger_that_was_cut_off_is_refused() {
    let (image, due) = closed().await;
    assert_eq!(wrong(&image, &due).await, None, "whole it is whole");
    let length = image.log().len();
    let mut refused = 0;
    for sixteenth in 0..16 {
        for odd in [0, 1, PAGE] {
            let cut = image.with_log(image.log()[..(length * sixteenth / 16 + odd).min(length - 1)].to_vec());
            match wrong(&cut, &due).await {
                // What sled had not filled yet may be missed by nobody.
                None => {}
                Some(wrong) => {
                    assert!(wrong.contains("move this directory aside and run `repl sync --full`"), "{wrong}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 30, "{refused} of 48");
    let gone = wrong(&image.without("db"), &due).await.unwrap();
    assert!(gone.contains("move this directory aside"), "{gone}");
}

/// An older copy of the log under the marks of a newer one, as a copy of a running worker's directory has it.
#[tokio::test]
async fn an_older_log_is_refused() {
    let (image, due) = closed().await;
    let root = image.write();
    let ledger = open(root.path()).unwrap();
    ledger.admit(work(vec![job("later", "1", 1)])).await.unwrap();
    drop(ledger);
    let torn = Image::of(root.path()).with_log(image.log().to_vec()).without("snap");
    let refused = wrong(&torn, &due).await.unwrap();
    assert!(refused.contains("it is damaged") && refused.contains("a worker ran"), "{refused}");
}
