//! Backfill: lists the source and admits every version in scope as a job, page by page, resumable.
//!
//! A page's jobs and the cursor behind it are admitted in one batch, so that a scan goes on where it was: a page is at
//! worst listed again, and what was done already is found equal. The ledger's backlog is bounded: listing waits while
//! enough work is pending, and live changes go first (the ledger's order).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::ledger::Admission;
use crate::model::fault::{Disposition, Fault};
use crate::model::job::{Change, ChangeKind, Origin};
use crate::model::object::{Key, RuleId, VersionEntry, VersionId, Versioning};
use crate::plan::route::{self, History, Rule};
use crate::ports::{ObjectStore, World};

use super::brake::Census;
use super::spending::{self, Affordable, Priced};
use super::{Phase, Shared};

/// Listing waits while this many jobs are pending: enough to keep every transfer busy, few enough for a small disk.
const BACKLOG: u64 = 50_000;
/// How often a waiting scan looks again.
const LOOK: Duration = Duration::from_millis(100);
/// How often a page is asked for again before the range is given up, visibly.
const PAGE_TRIES: u32 = 8;

/// Which part of the source is brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only this rule.
    pub rule: Option<RuleId>,
    /// Only keys that begin so.
    pub prefix: String,
    /// Whether delete markers that would hide what is visible at the target are made too; noncurrent ones take their
    /// place in the order where the rule says so, as they hide nothing.
    pub delete_markers: DeleteMarkers,
}

/// What a scan does with a key whose newest version is a delete marker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeleteMarkers {
    /// Leaves it out: a scan deletes nothing unless it is told to.
    #[default]
    LeftOut,
    /// Brings it where the rule says so.
    Brought,
}

/// How far a scan is: read by whoever shows its progress.
#[derive(Debug, Default)]
pub struct ScanProgress {
    listed: AtomicU64,
    equal: AtomicU64,
    unprovable: AtomicU64,
}

impl ScanProgress {
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

    pub(super) fn count(&self) {
        self.listed.fetch_add(1, Ordering::Relaxed);
    }

    /// Objects of which the comparison could tell neither.
    #[must_use]
    pub fn unprovable(&self) -> u64 {
        self.unprovable.load(Ordering::Relaxed)
    }

    pub(super) fn count_unprovable(&self) {
        self.unprovable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_equal(&self) {
        self.equal.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// All of it was listed and admitted.
    Complete,
    /// The engine stopped; the cursor says where to go on.
    Interrupted,
    /// The money is spent: [`Purse::dry`](super::spending::Purse::dry) says why.
    Spent,
}

/// Where a scan is: in the nth prefix, after that version of that key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    nth: usize,
    after: Option<(Key, VersionId)>,
}

impl Cursor {
    const START: Self = Self { nth: 0, after: None };

    /// `nth`, version id, key, each on its line; the key last, as it may contain anything.
    fn write(&self) -> Vec<u8> {
        match &self.after {
            Some((key, version)) => format!("{}\n{version}\n{key}", self.nth),
            None => format!("{}\n", self.nth),
        }
        .into_bytes()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (nth, rest) = text.split_once('\n')?;
        let after = rest.split_once('\n').map(|(version, key)| (Key::new(key), VersionId::new(version)));
        Some(Self { nth: nth.parse().ok()?, after })
    }
}

impl<W: World> super::Engine<W> {
    /// Lists the whole scope and admits every version in it. Returns when the listing is complete, or the engine has
    /// stopped. A fault means that a range could not be listed: what was listed before is admitted, and the next scan
    /// of the same scope goes on there.
    pub async fn scan(&self, scope: &Scope, progress: &ScanProgress) -> Result<Scanned, Fault> {
        scan(&self.shared, scope, progress).await
    }
}

/// One scan under way.
struct Scan<'a, W: World> {
    shared: &'a Shared<W>,
    scope: &'a Scope,
    progress: &'a ScanProgress,
    /// Under which its cursor is kept.
    name: String,
    rules: Vec<Rule>,
    versioning: Versioning,
    census: Mutex<Census>,
}

async fn scan<W: World>(shared: &Shared<W>, scope: &Scope, progress: &ScanProgress) -> Result<Scanned, Fault> {
    let rules = in_scope(&shared.settings.rules, scope);
    let prefixes = prefixes(&rules, &scope.prefix);
    let rule = scope.rule.as_ref().map_or("", RuleId::as_str);
    let name = format!("full {:?} {rule} {}", scope.delete_markers, scope.prefix);
    let mut cursor = shared.ledger.cursor(&name)?.as_deref().and_then(Cursor::read).unwrap_or(Cursor::START);
    if cursor != Cursor::START {
        tracing::info!(after = ?cursor.after, "the scan goes on where it was");
    }
    shared.learn_versioning().await;
    let Some(versioning) = source_versioning(shared).await? else { return Ok(Scanned::Interrupted) };
    let whole = cursor == Cursor::START;
    let scan = Scan { shared, scope, progress, name, rules, versioning, census: Mutex::default() };
    while let Some(prefix) = prefixes.get(cursor.nth) {
        match scan.list(prefix, &cursor).await? {
            Scanned::Complete => cursor = Cursor { nth: cursor.nth + 1, after: None },
            Scanned::Interrupted => return Ok(Scanned::Interrupted),
            Scanned::Spent => return Ok(Scanned::Spent),
        }
    }
    shared.ledger.set_cursor(&scan.name, None).await?;
    if whole {
        // A scan that goes on where another was has not met every key.
        shared.take_census(scope, scan.census.into_inner().unwrap_or_else(PoisonError::into_inner)).await?;
    }
    Ok(Scanned::Complete)
}

impl<W: World> Scan<'_, W> {
    /// Lists one prefix from the cursor on and admits what it holds.
    async fn list(&self, prefix: &str, start: &Cursor) -> Result<Scanned, Fault> {
        let mut cursor = start.clone();
        let mut after = start.after.clone();
        // The last key of a page, of which more may follow on the next.
        let mut carried: Vec<VersionEntry> = Vec::new();
        loop {
            if !room(self.shared).await {
                return Ok(Scanned::Interrupted);
            }
            let Some(page) = listed_page(self.shared, prefix, after).await? else { return Ok(Scanned::Interrupted) };
            self.progress.listed.fetch_add(page.entries.len() as u64, Ordering::Relaxed);
            carried.extend(page.entries);
            let done = page.next.is_none();
            let complete = if done { std::mem::take(&mut carried) } else { complete_keys(&mut carried) };
            if done {
                cursor = Cursor { nth: start.nth + 1, after: None };
            } else if let Some(last) = complete.last() {
                cursor.after = Some((last.key.clone(), last.version.clone()));
            }
            if !self.admit(&complete, (start.nth, &cursor)).await? {
                let spent = spending::is_dry(self.shared);
                return Ok(if spent { Scanned::Spent } else { Scanned::Interrupted });
            }
            if done {
                return Ok(Scanned::Complete);
            }
            after = page.next;
        }
    }

    /// Admits the jobs of whole keys together with the cursor behind them; false when there is no money for all of
    /// them: the cursor then stands behind the last that there was money for.
    async fn admit(&self, entries: &[VersionEntry], (nth, cursor): (usize, &Cursor)) -> Result<bool, Fault> {
        let jobs = self.jobs(entries);
        if spending::afford(self.shared, &jobs) == Affordable::NotAtOnce {
            if let Some((first, rest)) = halves(entries)
                && let Some(last) = first.last()
            {
                let between = Cursor { nth, after: Some((last.key.clone(), last.version.clone())) };
                return Ok(Box::pin(self.admit(first, (nth, &between))).await?
                    && Box::pin(self.admit(rest, (nth, cursor))).await?);
            }
            if !spending::afford_later(self.shared, &jobs).await {
                return Ok(false);
            }
        }
        for of_key in jobs.chunk_by(|(one, _), (other, _)| one.key == other.key) {
            self.census.lock().unwrap_or_else(PoisonError::into_inner).take_in(of_key.iter().map(|(job, _)| job));
        }
        let cursor = Some((self.name.clone(), cursor.write()));
        let jobs = jobs.into_iter().map(|(job, _)| job).collect();
        let admission = Admission { jobs, now: self.shared.now(), cursor, ..Default::default() };
        let _admitted = self.shared.ledger.admit(admission).await?;
        self.shared.work.notify_one();
        Ok(true)
    }

    /// The jobs of whole keys, each with its object's class.
    fn jobs(&self, entries: &[VersionEntry]) -> Vec<Priced> {
        let mut jobs = Vec::new();
        for history in entries.chunk_by(|one, other| one.key == other.key) {
            let changes =
                changes(&self.shared.settings.source_bucket, &self.rules, history, (self.scope, self.versioning));
            for change in &changes {
                let entry = history.iter().find(|entry| entry.version == change.version);
                let class = entry.and_then(|entry| entry.storage_class.clone());
                jobs.extend(route::route(&self.rules, change).jobs.into_iter().map(|job| (job, class.clone())));
            }
        }
        jobs
    }
}

/// Two halves of these entries, each of whole keys; `None` where they are of one key.
fn halves(entries: &[VersionEntry]) -> Option<(&[VersionEntry], &[VersionEntry])> {
    let middle = entries.get(entries.len() / 2)?;
    let cut = entries.iter().position(|entry| entry.key == middle.key).filter(|cut| *cut > 0);
    let cut = cut.or_else(|| entries.iter().rposition(|entry| entry.key == middle.key).map(|last| last + 1))?;
    (cut < entries.len()).then(|| entries.split_at(cut))
}

/// The enabled rules that a scope takes in.
fn in_scope(rules: &[Rule], scope: &Scope) -> Vec<Rule> {
    let asked = |rule: &&Rule| scope.rule.as_ref().is_none_or(|id| *id == rule.id);
    rules.iter().filter(|rule| rule.enabled).filter(asked).cloned().collect()
}

/// The prefixes to list, none of them within another: every key in scope is listed once.
fn prefixes(rules: &[Rule], asked: &str) -> Vec<String> {
    let mut all: Vec<&str> = Vec::new();
    for rule in rules {
        // The longer of the two, where one begins with the other; otherwise they have no key in common.
        if rule.prefix.starts_with(asked) {
            all.push(&rule.prefix);
        } else if asked.starts_with(&rule.prefix) {
            all.push(asked);
        }
    }
    all.sort_unstable();
    all.dedup();
    let mut kept: Vec<String> = Vec::new();
    for prefix in all {
        if !kept.last().is_some_and(|before| prefix.starts_with(before.as_str())) {
            kept.push(prefix.to_owned());
        }
    }
    kept
}

/// Takes the entries of all keys but the last out: of that one more may follow on the next page.
fn complete_keys(carried: &mut Vec<VersionEntry>) -> Vec<VersionEntry> {
    let Some(last) = carried.last().map(|entry| entry.key.clone()) else { return Vec::new() };
    let cut = carried.iter().position(|entry| entry.key == last).unwrap_or(carried.len());
    let rest = carried.split_off(cut);
    std::mem::replace(carried, rest)
}

/// Waits until the backlog is small enough and nobody holds work back; false when the engine stops.
pub(super) async fn room<W: World>(shared: &Shared<W>) -> bool {
    shared.open().await;
    while shared.ledger.totals().pending.operations >= BACKLOG && shared.phase() == Phase::Run {
        shared.sleep(LOOK).await;
    }
    shared.phase() == Phase::Run
}

/// One page, asked for again while the fault may pass; `None` when the engine stops meanwhile.
async fn listed_page<W: World>(
    shared: &Shared<W>,
    prefix: &str,
    after: Option<(Key, VersionId)>,
) -> Result<Option<crate::ports::VersionPage>, Fault> {
    let mut tries = 0;
    loop {
        shared.budget.request().await;
        let fault = match shared.world.source().list_versions(prefix, after.clone()).await {
            Ok(page) => return Ok(Some(page)),
            Err(fault) => fault,
        };
        let from = after.as_ref().map_or_else(String::new, |(key, _)| format!(" after {key:?}"));
        let detail =
            format!("prefix {prefix:?}{from}: {}; this range was not scanned, run the sync again", fault.detail);
        if !outlasted(shared, Fault { detail, ..fault }, &mut tries).await? {
            return Ok(None);
        }
    }
}

/// The source's versioning state; `None` when the engine stops meanwhile.
async fn source_versioning<W: World>(shared: &Shared<W>) -> Result<Option<Versioning>, Fault> {
    let mut tries = 0;
    loop {
        match shared.source_versioning().await {
            Ok(versioning) => return Ok(Some(versioning)),
            Err(fault) => {
                if !outlasted(shared, fault, &mut tries).await? {
                    return Ok(None);
                }
            }
        }
    }
}

/// Waits for a fault to pass: true to ask again, false when the engine stops; the fault itself when it will not pass.
async fn outlasted<W: World>(shared: &Shared<W>, fault: Fault, tries: &mut u32) -> Result<bool, Fault> {
    shared.pulse.fault(&fault);
    *tries += 1;
    if fault.kind.disposition() != Disposition::Retry || *tries >= PAGE_TRIES {
        return Err(fault);
    }
    tracing::warn!(%fault, tries, "the source could not be read; trying again");
    shared.sleep(shared.settings.retry.wait(fault.kind, *tries, 1.0)).await;
    Ok(shared.phase() == Phase::Run)
}

/// What one key's listing (newest first) asks for, oldest first.
fn changes(
    bucket: &str,
    rules: &[Rule],
    history: &[VersionEntry],
    (scope, versioning): (&Scope, Versioning),
) -> Vec<Change> {
    let Some(newest) = history.first() else { return Vec::new() };
    let claims = |rule: &&Rule| newest.key.as_str().starts_with(&rule.prefix);
    let all = versioning != Versioning::Off && rules.iter().filter(claims).any(|rule| rule.history == History::All);
    let wanted = if all { history } else { history.get(..1).unwrap_or_default() };
    let hides = |entry: &VersionEntry| entry.object.is_none() && entry.version == newest.version;
    wanted
        .iter()
        .rev()
        .filter(|entry| scope.delete_markers == DeleteMarkers::Brought || !hides(entry))
        .map(|entry| change(bucket, entry))
        .collect()
}

fn change(bucket: &str, entry: &VersionEntry) -> Change {
    Change {
        bucket: bucket.to_owned(),
        key: entry.key.clone(),
        kind: if entry.object.is_some() { ChangeKind::Write } else { ChangeKind::DeleteMarker },
        version: entry.version.clone(),
        sequencer: None,
        etag: entry.object.as_ref().map(|(etag, _)| etag.clone()),
        size: entry.object.as_ref().map(|(_, size)| *size),
        changed: entry.modified,
        origin: Origin::Scan,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::object::{ETag, Timestamp};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn rule(id: &str, prefix: &str, history: History) -> Rule {
        Rule {
            id: id.into(),
            target: "t".into(),
            priority: 0,
            prefix: prefix.to_owned(),
            tags: BTreeMap::new(),
            delete_markers: true,
            enabled: true,
            history,
            storage_class: None,
            kms_key: None,
            kms_map: BTreeMap::new(),
            owner_full_control: false,
            acl: false,
            target_prefix: String::new(),
            stamp: true,
        }
    }

    fn entry(key: &str, version: &str, object: bool) -> VersionEntry {
        let object = object.then(|| (ETag::new("e"), 7));
        VersionEntry {
            key: key.into(),
            version: version.into(),
            latest: false,
            modified: Timestamp(0),
            object,
            storage_class: None,
        }
    }

    #[test]
    fn prefixes_do_not_overlap() {
        let rules = [rule("a", "a/", History::All), rule("b", "a/b/", History::All), rule("c", "c/", History::All)];
        assert_eq!(prefixes(&rules, ""), ["a/", "c/"]);
        assert_eq!(prefixes(&rules, "a/b/x"), ["a/b/x"]);
        assert_eq!(prefixes(&rules, "d/"), Vec::<String>::new());
        assert_eq!(prefixes(&[rule("all", "", History::All)], ""), [""]);
    }

    #[test]
    fn versions_come_oldest_first_and_the_newest_marker_only_when_asked() {
        let history =
            [entry("k", "d3", false), entry("k", "v2", true), entry("k", "d1", false), entry("k", "v0", true)];
        let listed = |rule: Rule, delete_markers, versioning| {
            let scope = Scope { delete_markers, ..Scope::default() };
            let changes = changes("b", &[rule], &history, (&scope, versioning));
            changes.iter().map(|change| change.version.as_str().to_owned()).collect::<Vec<_>>()
        };
        let all = || rule("a", "", History::All);
        assert_eq!(listed(all(), DeleteMarkers::LeftOut, Versioning::Enabled), ["v0", "d1", "v2"]);
        assert_eq!(listed(all(), DeleteMarkers::Brought, Versioning::Enabled), ["v0", "d1", "v2", "d3"]);
        let latest = rule("l", "", History::Latest);
        assert_eq!(listed(latest.clone(), DeleteMarkers::LeftOut, Versioning::Enabled), Vec::<String>::new());
        assert_eq!(listed(latest, DeleteMarkers::Brought, Versioning::Enabled), ["d3"]);
    }

    #[test]
    fn halves_tear_no_key() {
        let keys = |entries: &[VersionEntry]| entries.iter().map(|entry| entry.key.to_string()).collect::<String>();
        let split = |spelled: &str| {
            let entries: Vec<VersionEntry> = spelled.chars().map(|key| entry(&key.to_string(), "v", true)).collect();
            halves(&entries).map(|(first, rest)| (keys(first), keys(rest)))
        };
        let both = |first: &str, rest: &str| Some((first.to_owned(), rest.to_owned()));
        assert_eq!(split("abcd"), both("ab", "cd"));
        assert_eq!(split("abbb"), both("a", "bbb"));
        assert_eq!(split("aaab"), both("aaa", "b"));
        assert_eq!(split("ab"), both("a", "b"));
        assert_eq!((split("aaa"), split("a"), split("")), (None, None, None));
    }

    proptest! {
        /// Whatever the pages are cut like, every entry is handed on exactly once, and no key in two pieces.
        #[test]
        fn no_key_is_torn_between_pages(versions in proptest::collection::vec(1usize..6, 1..12), cuts in proptest::collection::vec(1usize..7, 40)) {
            let all: Vec<VersionEntry> = versions.iter().enumerate()
                .flat_map(|(key, count)| (0..*count).map(move |v| entry(&format!("k{key:03}"), &format!("{v}"), true)))
                .collect();
            let (mut rest, mut carried, mut seen) = (all.as_slice(), Vec::new(), Vec::new());
            for cut in cuts {
                let (page, later) = rest.split_at(cut.min(rest.len()));
                rest = later;
                carried.extend(page.to_vec());
                let complete = if rest.is_empty() { std::mem::take(&mut carried) } else { complete_keys(&mut carried) };
                let torn = complete.last().is_some_and(|last| rest.first().is_some_and(|next| next.key == last.key));
                prop_assert!(!torn);
                seen.extend(complete);
            }
            if rest.is_empty() {
                prop_assert_eq!(seen, all);
            }
        }

        #[test]
        fn cursors_survive_any_key(nth in 0usize..99, key in "[\\PC\\n]{1,40}", version in "[a-zA-Z0-9._-]{1,40}") {
            let cursor = Cursor { nth, after: Some((Key::new(key), VersionId::new(version))) };
            prop_assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
        }
    }
}
