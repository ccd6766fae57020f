//! A list of objects instead of a listing of the source: an S3 Inventory, or a CSV file (`bucket,key[,version]`).
//!
//! *Secret kept:* how such lists are spelled, read in constant memory, and gone on with after an interruption. *May
//! touch:* the ports, the ledger, one local file. *Must not know:* any SDK, the command line.
//!
//! A list is old when it is read, so each line is a hint like an event: what the source has now decides (P4), and what
//! it has no more is nothing to do. Nothing is ever deleted by a list, so its delete markers are passed over. A line
//! that cannot be understood is counted and told with its place, and stops nothing else (P12).

mod columns;
mod inventory;
mod lines;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::examine::versions_of;
use super::scan::cursor::{fingerprint, read_texts, write_texts};
use super::scan::{BadLine, ScanProgress, Scanned, Scope, change, in_scope, room};
use super::spending::{self, Affordable, Priced};
use super::{Phase, Shared};
use crate::audit::range::patiently;
use crate::ledger::Admission;
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::job::{Change, ChangeKind, Origin};
use crate::model::object::{Key, VersionEntry};
use crate::plan::route::{self, History, Rule};
use crate::ports::{Fetched, ObjectStore, Pick, Read, World};
use columns::{Columns, Row};
use inventory::Inventory;
use lines::{Bytewise, Line, Lines, Stored};

/// Lines whose jobs are admitted with one flush.
const BATCH: usize = 1000;
/// The same where money may run out: lines that were paid for in part are looked at again by the next sync.
const PAID_BATCH: usize = 50;
/// Lines of one key that are put in order together; more are rarer than rare, and come in order all the same.
const TOGETHER: usize = 10_000;
/// Keys whose versions are put in order at once.
const ORDERED: usize = 16;
const DURING: &str = "read a list of objects";

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The manifest of an S3 Inventory, in a bucket that the source's credentials may read.
    Inventory {
        /// The bucket.
        bucket: String,
        /// Its key, ending in `manifest.json`.
        key: Key,
    },
    /// A CSV file on this machine, plain or gzip.
    Local(PathBuf),
}

impl Place {
    /// Reads `s3://bucket/path/manifest.json` or the path of a file; otherwise what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(stored) = text.strip_prefix("s3://") else {
            return match text.ends_with(".json") || text.is_empty() {
                true => Err(format!(
                    "{text:?} is no CSV file: a manifest.json is read from its bucket, s3://BUCKET/PATH/manifest.json"
                )),
                false => Ok(Self::Local(PathBuf::from(text))),
            };
        };
        match stored.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && key.ends_with(".json") => {
                Ok(Self::Inventory { bucket: bucket.to_owned(), key: Key::new(key) })
            }
            _ => Err(format!("{text:?} is no manifest: s3://BUCKET/PATH/manifest.json of an S3 Inventory is expected")),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inventory { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::Local(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A list that can be read: it is there, of the source's bucket, and of a kind that is understood.
#[derive(Clone, Debug)]
pub struct Manifest {
    place: Place,
    /// Tells one content of this place from another.
    edition: String,
    /// `None` for a local file, which is its own list.
    inventory: Option<Inventory>,
}

impl Manifest {
    /// Looks at a list. Faults say in one sentence why it cannot be used: `Refused` where it is the list's own fault.
    pub async fn open<W: World>(world: &W, place: &Place, source_bucket: &str) -> Result<Self, Fault> {
        let opened = match place {
            Place::Local(path) => local(path).await.map(|edition| (edition, None)),
            Place::Inventory { bucket, key } => {
                let store = world.beside_source(bucket);
                stored(&store, key, source_bucket).await.map(|(edition, inventory)| (edition, Some(inventory)))
            }
        };
        let (edition, inventory) =
            opened.map_err(|fault| Fault { detail: format!("{place}: {}", fault.detail), ..fault })?;
        Ok(Self { place: place.clone(), edition, inventory })
    }

    fn files(&self) -> usize {
        self.inventory.as_ref().map_or(1, |inventory| inventory.files.len())
    }

    fn columns(&self) -> Columns {
        self.inventory.as_ref().map_or_else(Columns::plain, |inventory| inventory.columns.clone())
    }

    /// The name of a file as a person finds it.
    fn name(&self, nth: usize) -> String {
        match self.inventory.as_ref().and_then(|inventory| Some((&inventory.bucket, inventory.files.get(nth)?))) {
            Some((bucket, file)) => format!("s3://{bucket}/{}", file.key),
            None => self.place.to_string(),
        }
    }
}

/// The edition of a local file: its size and when it was written.
async fn local(path: &std::path::Path) -> Result<String, Fault> {
    let refused = |detail: String| Fault::new(FaultKind::Refused, Side::Local, DURING, detail);
    let file = lines::open(path).await?;
    let facts = file.metadata().await.map_err(|error| refused(error.to_string()))?;
    if !facts.is_file() {
        return Err(refused("it is not a file".to_owned()));
    }
    let written = facts.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    Ok(format!("{} {}", facts.len(), written.map_or(0, |since| since.as_millis())))
}

async fn stored<S: ObjectStore>(store: &S, key: &Key, source_bucket: &str) -> Result<(String, Inventory), Fault> {
    let refused = |detail: String| Fault::new(FaultKind::Refused, Side::Source, DURING, detail);
    let text = async || {
        let read = Read { pick: Pick::Current, range: None, if_match: None };
        let mut got = match store.get(key, read).await? {
            Fetched::Object(got) => got,
            Fetched::DeleteMarker | Fetched::Missing => return Err(refused("it is not there".to_owned())),
        };
        if got.head.size > inventory::LONGEST {
            return Err(refused(format!("{} bytes are too many for a manifest", got.head.size)));
        }
        let mut text = Vec::new();
        while let Some(piece) = got.body.next().await {
            text.extend_from_slice(&piece?);
        }
        Ok((got.head.etag, text))
    };
    let (etag, text) = patiently(text).await?;
    Ok((etag.as_str().to_owned(), inventory::read(&text, source_bucket).map_err(refused)?))
}

impl<W: World> super::Engine<W> {
    /// Admits every object of a list that is in scope. Returns when all of it is admitted, or the engine has stopped.
    /// A fault means that a file of it could not be read, or broke off: all else is admitted, and the next time with
    /// the same list goes on with what is left.
    pub async fn admit_listed(&self, place: &Place, scope: &Scope, progress: &ScanProgress) -> Result<Scanned, Fault> {
        let shared = &self.shared;
        shared.budget.request().await;
        let manifest = Manifest::open(&*shared.world, place, &shared.settings.source_bucket).await?;
        let rules = in_scope(&shared.settings.rules, scope);
        let rule = scope.rule.as_ref().map_or("", |rule| rule.as_str());
        let brought = fingerprint(&shared.settings, &rules);
        let name = format!("list {} {} {rule} {brought} {}", manifest.place, manifest.edition, scope.prefix);
        Listing { shared, scope, progress, manifest: &manifest, rules, name }.admit_all().await
    }
}

/// A file that could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken {
    file: usize,
    /// Its bad lines up to this one are counted already.
    told: u64,
}

/// Where a list is gone on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cursor {
    /// The file that is read, and how many of its lines are done.
    file: usize,
    line: u64,
    /// Bad lines up to this one are counted already: a key's lines may begin before them and end behind.
    told: u64,
    /// Files that could not be read.
    failed: Vec<Broken>,
    /// Bad lines so far.
    bad: u64,
    first_bad: Vec<BadLine>,
}

impl Cursor {
    fn write(&self) -> Vec<u8> {
        let numbers = [self.file as u64, self.line, self.told, self.bad, self.failed.len() as u64];
        let mut texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        texts.extend(self.failed.iter().flat_map(|broken| [broken.file.to_string(), broken.told.to_string()]));
        for bad in &self.first_bad {
            texts.extend([bad.file.clone(), bad.line.to_string(), bad.reason.clone()]);
        }
        write_texts(texts.iter().map(|text| Some(text.as_str())))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let texts: Vec<String> = read_texts(bytes)?.into_iter().collect::<Option<_>>()?;
        let mut texts = texts.into_iter();
        let file = texts.next()?.parse().ok()?;
        let (line, told) = (texts.next()?.parse().ok()?, texts.next()?.parse().ok()?);
        let (bad, count): (_, usize) = (texts.next()?.parse().ok()?, texts.next()?.parse().ok()?);
        let mut failed = Vec::new();
        for _ in 0..count {
            failed.push(Broken { file: texts.next()?.parse().ok()?, told: texts.next()?.parse().ok()? });
        }
        let mut first_bad = Vec::new();
        while let Some(file) = texts.next() {
            first_bad.push(BadLine { file, line: texts.next()?.parse().ok()?, reason: texts.next()? });
        }
        Some(Self { file, line, told, failed, bad, first_bad })
    }

    /// Up to which of a file's lines the bad ones are counted already.
    fn told_of(&mut self, nth: usize) -> Option<&mut u64> {
        if nth == self.file {
            return Some(&mut self.told);
        }
        self.failed.iter_mut().find(|broken| broken.file == nth).map(|broken| &mut broken.told)
    }
}

/// How the reading of one file ended.
enum Ended {
    Whole,
    Interrupted,
    Spent,
    Failed(Fault),
}

/// One list under way.
struct Listing<'a, W: World> {
    shared: &'a Arc<Shared<W>>,
    scope: &'a Scope,
    progress: &'a ScanProgress,
    manifest: &'a Manifest,
    rules: Vec<Rule>,
    /// Under which its cursor is kept.
    name: String,
}

impl<W: World> Listing<'_, W> {
    async fn admit_all(&self) -> Result<Scanned, Fault> {
        let mut cursor = match self.shared.ledger.cursor(&self.name)?.as_deref().and_then(Cursor::read) {
            Some(cursor) => {
                tracing::info!(file = cursor.file, line = cursor.line, "the list is gone on with where it was");
                self.progress.recall_bad_lines(cursor.bad, cursor.first_bad.clone());
                cursor
            }
            None => Cursor::default(),
        };
        let mut first: Option<Fault> = None;
        let failed_before = cursor.failed.clone();
        while cursor.file < self.manifest.files() {
            match self.file(cursor.file, &mut cursor).await? {
                Ended::Whole => {}
                Ended::Interrupted => return Ok(Scanned::Interrupted),
                Ended::Spent => return Ok(Scanned::Spent),
                Ended::Failed(fault) => {
                    cursor.failed.push(Broken { file: cursor.file, told: cursor.told });
                    first.get_or_insert(fault);
                }
            }
            (cursor.file, cursor.line, cursor.told) = (cursor.file + 1, 0, 0);
        }
        for Broken { file: nth, .. } in failed_before {
            match self.file(nth, &mut cursor).await? {
                Ended::Whole => cursor.failed.retain(|broken| broken.file != nth),
                Ended::Interrupted => return Ok(Scanned::Interrupted),
                Ended::Spent => return Ok(Scanned::Spent),
                Ended::Failed(fault) => drop(first.get_or_insert(fault)),
            }
        }
        (cursor.bad, cursor.first_bad) = self.progress.bad_lines();
        let left = (!cursor.failed.is_empty()).then(|| cursor.write());
        self.shared.ledger.set_cursor(&self.name, left).await?;
        let Some(fault) = first else { return Ok(Scanned::Complete) };
        match cursor.failed.len().saturating_sub(1) {
            0 => Err(fault),
            others => Err(Fault {
                detail: format!("{}; and {others} more files, which the log names", fault.detail),
                ..fault
            }),
        }
    }

    /// Admits what one file lists. Its own fault is told; one of the ledger ends all.
    async fn file(&self, nth: usize, cursor: &mut Cursor) -> Result<Ended, Fault> {
        match self.whole_file(nth, cursor).await {
            Ok(Scanned::Complete) => Ok(Ended::Whole),
            Ok(Scanned::Interrupted) => Ok(Ended::Interrupted),
            Ok(Scanned::Spent) => Ok(Ended::Spent),
            Err(fault) if fault.kind == FaultKind::Ledger => Err(fault),
            Err(fault) => {
                let name = self.manifest.name(nth);
                tracing::error!(%fault, file = name, "this file of the list could not be read");
                let detail = format!(
                    "{name}: {}; what is behind it was not looked at: mend it and run the sync again",
                    fault.detail
                );
                Ok(Ended::Failed(Fault { detail, ..fault }))
            }
        }
    }

    async fn whole_file(&self, nth: usize, cursor: &mut Cursor) -> Result<Scanned, Fault> {
        match &self.manifest.inventory {
            None => {
                let Place::Local(path) = &self.manifest.place else { return Ok(Scanned::Complete) };
                self.lines(nth, Lines::<W::Store>::new(Bytewise::Local(lines::open(path).await?)), cursor).await
            }
            Some(inventory) => {
                let Some(file) = inventory.files.get(nth) else { return Ok(Scanned::Complete) };
                let store = self.shared.world.beside_source(&inventory.bucket);
                let mut stored = Stored::open(&store, &self.shared.budget, &file.key).await?;
                tokio::select! {
                    checked = stored.check(&file.md5) => checked?,
                    () = self.shared.stopped() => return Ok(Scanned::Interrupted),
                }
                self.lines(nth, Lines::new(Bytewise::Stored(stored)), cursor).await
            }
        }
    }

    async fn lines<S: ObjectStore>(
        &self,
        nth: usize,
        mut lines: Lines<'_, S>,
        cursor: &mut Cursor,
    ) -> Result<Scanned, Fault> {
        let columns = self.manifest.columns();
        let done = if nth == cursor.file { cursor.line } else { 0 };
        let mut batch = Batch::default();
        let paid = self.shared.purse().is_some_and(|purse| purse.limit().is_some());
        let most = if paid { PAID_BATCH } else { BATCH };
        loop {
            let next = tokio::select! {
                next = lines.next() => next?,
                () = self.shared.stopped() => return Ok(Scanned::Interrupted),
            };
            let Some((number, line)) = next else { break };
            if number <= done {
                continue;
            }
            match self.row(&columns, number, &line) {
                Ok(Some(row)) => batch.add(row, number),
                Ok(None) => batch.read = number,
                Err(reason) => {
                    batch.read = number;
                    if let Some(told) = cursor.told_of(nth).filter(|told| number > **told) {
                        *told = number;
                        let file = self.manifest.name(nth);
                        self.progress.count_bad_line(BadLine { file, line: number, reason });
                    }
                }
            }
            if batch.is_full(most) {
                match self.admit(nth, &mut batch, cursor).await? {
                    Scanned::Complete => {}
                    ended @ (Scanned::Interrupted | Scanned::Spent) => return Ok(ended),
                }
            }
        }
        batch.end();
        self.admit(nth, &mut batch, cursor).await
    }

    /// What a line says; nothing for an empty one.
    fn row(&self, columns: &Columns, number: u64, line: &Line) -> Result<Option<Row>, String> {
        let bucket = &self.shared.settings.source_bucket;
        let Line::Whole(line) = line else { return Err("it is longer than any line of a list can be".to_owned()) };
        let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(line);
        let title = number == 1 && self.manifest.inventory.is_none() && Columns::is_title(line, bucket);
        if line.trim_ascii().is_empty() || title {
            return Ok(None);
        }
        columns.read(line, bucket).map(Some)
    }

    /// Admits whole keys, and the cursor behind them.
    async fn admit(&self, nth: usize, batch: &mut Batch, cursor: &mut Cursor) -> Result<Scanned, Fault> {
        let (groups, done) = batch.take();
        let wanted = groups.into_iter().filter_map(|group| self.wanted(group));
        let mut changes = stream::iter(wanted).map(|group| self.ordered(group)).buffered(ORDERED);
        // A list does not tell of storage classes.
        let mut jobs: Vec<Priced> = Vec::new();
        while let Some(changes) = changes.next().await {
            for change in changes? {
                jobs.extend(route::route(&self.rules, &change).jobs.into_iter().map(|job| (job, None)));
            }
        }
        if !room(self.shared).await {
            return Ok(Scanned::Interrupted);
        }
        if spending::afford(self.shared, &jobs) == Affordable::NotAtOnce {
            let admitted = spending::admit(self.shared, &std::mem::take(&mut jobs)).await;
            if spending::is_dry(self.shared) {
                return Ok(Scanned::Spent);
            }
            // No fault of the file's: one that stops does not wait for money.
            if self.shared.phase() != Phase::Run {
                return Ok(Scanned::Interrupted);
            }
            admitted?;
        }
        if nth == cursor.file {
            cursor.line = done;
        }
        (cursor.bad, cursor.first_bad) = self.progress.bad_lines();
        let jobs = jobs.into_iter().map(|(job, _)| job).collect();
        let cursor = Some((self.name.clone(), cursor.write()));
        let admission = Admission { jobs, cursor, now: self.shared.now(), ..Default::default() };
        spending::admit_paid(self.shared, admission).await?;
        Ok(Scanned::Complete)
    }

    /// The rows of one key that are in scope and bring something; `None` where none does.
    fn wanted(&self, mut group: Vec<Row>) -> Option<Vec<Row>> {
        let key = group.first()?.key.clone();
        if !key.as_str().starts_with(&self.scope.prefix) {
            return None;
        }
        let claims = |rule: &&Rule| key.as_str().starts_with(&rule.prefix);
        self.rules.iter().find(claims)?;
        let all = self.rules.iter().filter(claims).any(|rule| rule.history == History::All);
        group.iter().for_each(|_| self.progress.count());
        group.retain(|row| row.marker != Some(true) && (all || row.latest != Some(false)));
        (!group.is_empty()).then_some(group)
    }

    /// The changes that the rows of one key ask for, oldest first. Where versions are several, a list does not tell
    /// their order for certain, and a plain one not even which are delete markers: the source does.
    async fn ordered(&self, group: Vec<Row>) -> Result<Vec<Change>, Fault> {
        let bucket = &self.shared.settings.source_bucket;
        let several = group.iter().filter(|row| !row.version.is_unnamed()).count() > 1;
        if !several {
            return Ok(group.iter().map(|row| self.hint(row)).collect());
        }
        let Some(first) = group.first() else { return Ok(Vec::new()) };
        let listed = patiently(|| versions_of(self.shared, self.shared.world.source(), &first.key)).await?;
        let found = |row: &Row| listed.iter().find(|entry| entry.version == row.version);
        // What is gone by now goes first: it settles as such.
        let mut changes: Vec<Change> =
            group.iter().filter(|row| found(row).is_none()).map(|row| self.hint(row)).collect();
        let asked = |entry: &&VersionEntry| group.iter().any(|row| row.version == entry.version);
        let objects = listed.iter().rev().filter(asked).filter(|entry| entry.object.is_some());
        changes.extend(objects.map(|entry| change(bucket, entry)));
        Ok(changes)
    }

    fn hint(&self, row: &Row) -> Change {
        Change {
            bucket: self.shared.settings.source_bucket.clone(),
            key: row.key.clone(),
            kind: ChangeKind::Write,
            version: row.version.clone(),
            sequencer: None,
            etag: row.etag.clone(),
            size: row.size,
            changed: row.modified.unwrap_or_else(|| self.shared.now()),
            origin: Origin::Scan,
        }
    }
}

/// Rows that are admitted together, those of one key in one group.
#[derive(Debug, Default)]
struct Batch {
    groups: Vec<Vec<Row>>,
    rows: usize,
    /// The last line behind which no group goes on.
    done: u64,
    /// The last line that was read.
    read: u64,
    /// How many groups are whole.
    whole: usize,
}

impl Batch {
    fn add(&mut self, row: Row, number: u64) {
        let goes_on = self
            .groups
            .last()
            .is_some_and(|group| group.len() < TOGETHER && group.first().is_some_and(|first| first.key == row.key));
        if let (true, Some(group)) = (goes_on, self.groups.last_mut()) {
            group.push(row);
        } else {
            self.end();
            self.groups.push(vec![row]);
        }
        self.rows += 1;
        self.read = number;
    }

    /// What was read so far is whole.
    fn end(&mut self) {
        self.whole = self.groups.len();
        self.done = self.read;
    }

    fn is_full(&self, most: usize) -> bool {
        (self.rows >= most && self.whole > 0) || (self.groups.is_empty() && self.read >= self.done + most as u64)
    }

    /// The whole groups, and the last line of them.
    fn take(&mut self) -> (Vec<Vec<Row>>, u64) {
        if self.groups.is_empty() {
            self.done = self.read;
        }
        let rest = self.groups.split_off(self.whole);
        let whole = std::mem::replace(&mut self.groups, rest);
        self.rows = self.groups.iter().map(Vec::len).sum();
        self.whole = 0;
        (whole, self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places() {
        let stored = |bucket: &str, key: &str| Place::Inventory { bucket: bucket.to_owned(), key: Key::new(key) };
        assert_eq!(Place::parse("s3://b/p/q/manifest.json"), Ok(stored("b", "p/q/manifest.json")));
        assert_eq!(Place::parse("list.csv.gz"), Ok(Place::Local("list.csv.gz".into())));
        for wrong in ["s3://b", "s3:///manifest.json", "s3://b/list.csv", "manifest.json", ""] {
            assert!(Place::parse(wrong).unwrap_err().contains("s3://BUCKET/PATH/manifest.json"), "{wrong}");
        }
    }

    use crate::engine::spending::Purse;
    use crate::engine::tests::world::{Small, Store};
    use crate::engine::tests::{Bench, job, rule, soon, until};
    use crate::model::job::Job;
    use crate::plan::prices::{Home, PlacePrices, PriceTable, Prices, Tariff};
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// With so many dollars, where a thousand PUTs cost one.
    fn purse(dollars: f64) -> Arc<Purse> {
        let free = || Prices { price: BTreeMap::from([("STANDARD".to_owned(), 0.0)]), ..Prices::default() };
        let write = Prices { price: BTreeMap::from([("STANDARD".to_owned(), 1.0)]), ..Prices::default() };
        let here = PlacePrices { write, read: free(), ..PlacePrices::default() };
        let table = PriceTable { stores: BTreeMap::from([("here".to_owned(), here)]), regions: BTreeMap::default() };
        let here = Home::Store("here".to_owned());
        let tariff = Tariff::new(table, here.clone(), BTreeMap::from([("t".into(), here)]));
        let movers = BTreeMap::from([("t".into(), crate::plan::estimate::ServerSide::Never)]);
        Purse::new(tariff, movers, Some(0.032 + dollars))
    }

    /// A list that waits for money is no damaged file, and goes on behind what was paid for (but for the key that was last
    /// then, which may go on); with other rules, from its start.
    #[tokio::test]
    async fn a_list_that_waits_for_money_is_interrupted_and_goes_on() {
        for (rules, listed) in [(vec![rule("r", "t")], 71), (vec![rule("r", "t"), rule("s", "u")], 120)] {
            let directory = tempfile::tempdir().unwrap();
            let place = Place::Local(directory.path().join("list.csv"));
            let lines: String = (0..120).map(|n| format!("b,k{n:03}\n")).collect();
            std::fs::write(directory.path().join("list.csv"), lines).unwrap();
            let mut bench = Bench::new(vec![rule("r", "t")]);
            let world = Small::new(Store::default());
            let (engine, progress, scope) = (bench.engine(&world), ScanProgress::default(), Scope::default());
            let unsized_job = Job { size: None, ..job("k", Origin::Scan) };
            let most = purse(0.0).cost(&bench.settings.rules, &unsized_job, None).unwrap();
            engine.pay_with(Some(purse(most * 55.5)));
            let draining = async {
                until(|| bench.ledger.totals().pending.operations >= 50).await;
                // The next lines wait by then.
                tokio::time::sleep(Duration::from_millis(300)).await;
                bench.phase.send_replace(Phase::Drain);
            };
            let admitting = engine.admit_listed(&place, &scope, &progress);
            let (admitted, ()) = soon(async { tokio::join!(admitting, draining) }).await;
            assert_eq!(admitted, Ok(Scanned::Interrupted));
            bench.phase.send_replace(Phase::Run);
            bench.settings = Bench::new(rules).settings;
            let progress = ScanProgress::default();
            let admitted = soon(bench.engine(&world).admit_listed(&place, &scope, &progress)).await;
            assert_eq!((admitted, progress.listed()), (Ok(Scanned::Complete), listed));
        }
    }

    /// A file that broke off is read again; its bad lines are the same ones.
    #[tokio::test]
    async fn bad_lines_of_a_file_that_fails_again_count_once() {
        use std::io::Write as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list.csv.gz");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        for n in 0..5_000 {
            let bucket = if n % 10 == 0 { "other" } else { "b" };
            writeln!(packed, "{bucket},k{n:060}").unwrap();
        }
        let packed = packed.finish().unwrap();
        std::fs::write(&path, &packed[..packed.len() * 9 / 10]).unwrap();
        let bench = Bench::new(vec![rule("r", "t")]);
        let engine = bench.engine(&Small::new(Store::default()));
        let mut bad_lines = Vec::new();
        for _ in 0..3 {
            let progress = ScanProgress::default();
            let admitted =
                soon(engine.admit_listed(&Place::Local(path.clone()), &Scope::default(), &progress)).await.unwrap_err();
            assert!(admitted.detail.contains("list.csv.gz"), "{admitted}");
            bad_lines.push(progress.bad_lines().0);
        }
        assert!(bad_lines[0] > 200 && bad_lines.iter().all(|count| *count == bad_lines[0]), "{bad_lines:?}");
    }

    /// Every file that could not be read is counted, though one is named.
    #[tokio::test]
    async fn all_damaged_files_are_told() {
        let source = Store::default();
        let file = |name: &str| format!(r#"{{"key": "{name}", "size": 9, "MD5checksum": "{}"}}"#, "0".repeat(32));
        let files = ["1.csv", "2.csv", "3.csv"].map(file).join(", ");
        let text = format!(
            r#"{{"sourceBucket": "b", "destinationBucket": "arn:aws:s3:::lists", "fileFormat": "CSV",
                "fileSchema": "Bucket, Key", "files": [{files}]}}"#
        );
        source.write("manifest.json", text.into());
        for name in ["1.csv", "2.csv", "3.csv"] {
            source.write(name, format!("\"b\",\"{name}\"\n").into());
        }
        let bench = Bench::new(vec![rule("r", "t")]);
        let engine = bench.engine(&Small::new(source));
        let place = Place::parse("s3://lists/manifest.json").unwrap();
        for _ in 0..2 {
            let admitted = soon(engine.admit_listed(&place, &Scope::default(), &ScanProgress::default())).await;
            let told = admitted.unwrap_err().detail;
            assert!(
                told.contains("s3://lists/1.csv") && told.ends_with("; and 2 more files, which the log names"),
                "{told}"
            );
        }
    }

    fn row(key: &str) -> Row {
        let columns = Columns::plain();
        columns.read(format!("b,{key}").as_bytes(), "b").unwrap()
    }

    proptest! {
        /// Whatever the batches are, every row is taken once and in order, no key of up to ten rows in two batches, and
        /// going on behind the line told never leaves a row out.
        #[test]
        fn batches_hold_whole_keys(keys in proptest::collection::vec(0u8..20, 0..60), full in proptest::collection::vec(any::<bool>(), 60)) {
            let (mut batch, mut taken) = (Batch::default(), Vec::new());
            for (nth, key) in keys.iter().enumerate() {
                batch.add(row(&format!("k{key}")), nth as u64 + 1);
                if full[nth] {
                    let (groups, done) = batch.take();
                    taken.extend(groups);
                    let told: usize = taken.iter().map(Vec::len).sum();
                    prop_assert_eq!(told as u64, done);
                }
            }
            batch.end();
            taken.extend(batch.take().0);
            prop_assert!(taken.windows(2).all(|pair| pair[0][0].key != pair[1][0].key));
            let told: Vec<String> = taken.iter().flatten().map(|row| row.key.as_str().to_owned()).collect();
            prop_assert_eq!(told, keys.iter().map(|key| format!("k{key}")).collect::<Vec<_>>());
        }

        #[test]
        fn cursors_come_back(file in 0usize..9, line in any::<u64>(), failed in proptest::collection::vec((0usize..99, any::<u64>()), 0..4), reason in "[\\PC\\n:-]{0,20}") {
            let first_bad = vec![BadLine { file: "s3://b/f:1".to_owned(), line, reason }];
            let failed = failed.into_iter().map(|(file, told)| Broken { file, told }).collect();
            let cursor = Cursor { file, line, told: line / 2, failed, bad: 7, first_bad };
            prop_assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
        }
    }
}
