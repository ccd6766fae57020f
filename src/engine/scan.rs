//! Backfill: lists the source in several ranges at once and admits every version in scope as a job, resumable.
//!
//! A page's jobs and the cursor behind it are admitted in one batch, so that a scan goes on where it was: what was
//! listed ahead is at worst listed again, and what was done already is found equal. The ledger's backlog is bounded:
//! listing waits while enough work is pending, and live changes go first (the ledger's order).

pub(super) mod cursor;
mod listing;
mod progress;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::audit::Further;
use crate::audit::range::{Hole, Item as _, Piece, Ranges, Span, Versions, patiently};
use crate::ledger::Admission;
use crate::model::fault::Fault;
use crate::model::job::{Change, ChangeKind, Origin};
use crate::model::object::{RuleId, VersionEntry, Versioning};
use crate::plan::route::{self, History, Rule};
use crate::ports::World;

use super::brake::Census;
use super::spending::{self, Affordable, Priced};
use super::{Phase, Shared};
use cursor::{Cursor, fingerprint};
use listing::Listing;
pub use progress::{BadLine, ScanProgress};

/// Listing waits while this many jobs are pending: enough to keep every transfer busy, few enough for a small disk.
const BACKLOG: u64 = 50_000;
/// How often a waiting scan looks again.
const LOOK: Duration = Duration::from_millis(100);
/// Failed ranges after which a scan is given up: they are kept in its cursor, which must stay small.
const FAILED_RANGES: usize = 256;

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

/// In which respects a comparison goes beyond bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    /// Headers, user metadata, Object Lock and encryption key.
    pub metadata: Further,
    /// Tags.
    pub tags: Further,
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

impl<W: World> super::Engine<W> {
    /// Lists the whole scope and admits every version in it. Returns when the listing is complete, or the engine has
    /// stopped. A fault means that some ranges could not be listed: all others are admitted, and the next scan of the
    /// same scope lists those that are left.
    pub async fn scan(&self, scope: &Scope, progress: &ScanProgress) -> Result<Scanned, Fault> {
        scan(&self.shared, scope, progress).await
    }

    /// To be called when all work of a scan is done: what it met is at the targets now, and the brake goes by it. Earlier
    /// the share would be one of keys that are still on their way. A fault of the ledger.
    pub async fn conclude(&self, scope: &Scope, progress: &ScanProgress) -> Result<(), Fault> {
        match progress.take_census() {
            Some(census) => self.shared.take_census(scope, census).await,
            None => Ok(()),
        }
    }
}

/// What is listed under a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Current objects: a thousand keys to a page, however many versions they have.
    Current,
    /// Every version and delete marker.
    All,
}

/// One scan under way.
struct Scan<'a, W: World> {
    shared: &'a Arc<Shared<W>>,
    scope: &'a Scope,
    progress: &'a ScanProgress,
    /// Under which its cursor is kept.
    name: String,
    rules: Vec<Rule>,
    versioning: Versioning,
    census: Mutex<Census>,
    /// The prefixes to list, and what of them.
    prefixes: Vec<(String, Depth)>,
}

async fn scan<W: World>(shared: &Arc<Shared<W>>, scope: &Scope, progress: &ScanProgress) -> Result<Scanned, Fault> {
    let rules = in_scope(&shared.settings.rules, scope);
    let asked = async || shared.source_versioning().await.inspect_err(|fault| shared.pulse.fault(fault));
    let versioning = tokio::select! {
        versioning = patiently(asked) => versioning?,
        () = shared.stopped() => return Ok(Scanned::Interrupted),
    };
    let prefixes = listed(&rules, scope, versioning);
    let rule = scope.rule.as_ref().map_or("", RuleId::as_str);
    let name = format!("ranges {:?} {rule} {}", scope.delete_markers, scope.prefix);
    let scan = Scan { shared, scope, progress, name, rules, versioning, prefixes, census: Mutex::default() };
    if let Some(cursor) = scan.cursor()? {
        tracing::info!(ranges = cursor.left.len(), first = ?cursor.left.first(), "the scan goes on where it was");
        return scan.list(cursor.left).await;
    }
    let scanned = scan.list(scan.prefixes.iter().map(|(prefix, _)| Span::whole(prefix)).collect()).await?;
    if scanned == Scanned::Complete {
        // A scan that goes on where another was has not met every key.
        progress.keep_census(scan.census.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    Ok(scanned)
}

/// What a scan lists: each prefix once, however many rules and targets there are.
#[must_use]
pub fn listed(rules: &[Rule], scope: &Scope, versioning: Versioning) -> Vec<(String, Depth)> {
    let rules = in_scope(rules, scope);
    let prefixes = prefixes(&rules, &scope.prefix).into_iter();
    prefixes.map(|prefix| depth(prefix, &rules, (scope, versioning))).collect()
}

/// What must be listed under a prefix, so that every rule gets what it brings.
fn depth(prefix: String, rules: &[Rule], (scope, versioning): (&Scope, Versioning)) -> (String, Depth) {
    let brought = scope.delete_markers == DeleteMarkers::Brought;
    let versions = |rule: &&Rule| rule.history == History::All || (brought && rule.delete_markers);
    let here = |rule: &&Rule| rule.prefix.starts_with(&prefix) || prefix.starts_with(&rule.prefix);
    let all = versioning != Versioning::Off && rules.iter().filter(versions).any(|rule| here(&rule));
    let depth = if all { Depth::All } else { Depth::Current };
    (prefix, depth)
}

impl<W: World> Scan<'_, W> {
    /// Where an earlier scan of the same scope was, unless it listed something else.
    fn cursor(&self) -> Result<Option<Cursor>, Fault> {
        let kept = self.shared.ledger.cursor(&self.name)?;
        Ok(kept.and_then(|kept| Cursor::read(&kept)).filter(|cursor| cursor.of == self.subject()))
    }

    /// What this scan lists, as its cursor remembers it.
    fn subject(&self) -> Vec<String> {
        let listed = self.prefixes.iter().map(|(prefix, depth)| format!("{depth:?} {prefix}"));
        listed.chain([fingerprint(&self.shared.settings, &self.rules)]).collect()
    }

    /// Lists these parts and admits what they hold.
    async fn list(&self, spans: Vec<Span>) -> Result<Scanned, Fault> {
        let prefixes = Arc::from(self.prefixes.as_slice());
        let mut ranges = Ranges::over(Listing { shared: Arc::clone(self.shared), prefixes }, spans);
        let mut failed = Failed::default();
        while failed.spans.len() < FAILED_RANGES {
            let piece = tokio::select! {
                piece = ranges.next() => piece,
                () = self.shared.stopped() => return Ok(Scanned::Interrupted),
            };
            match piece {
                None => break,
                Some(Piece::Hole(prefix, hole)) => failed.add(prefix, hole),
                Some(Piece::Keys(keys)) => {
                    let listed: usize = keys.iter().map(Versions::count).sum();
                    self.progress.count_listed(listed);
                    if !room(self.shared).await {
                        return Ok(Scanned::Interrupted);
                    }
                    let left = failed.spans.iter().cloned().chain(ranges.left()).collect();
                    if !self.admit(&keys, left).await? {
                        let spent = spending::is_dry(self.shared);
                        return Ok(if spent { Scanned::Spent } else { Scanned::Interrupted });
                    }
                }
            }
        }
        let left: Vec<Span> = failed.spans.iter().cloned().chain(ranges.left()).collect();
        let cursor = (!left.is_empty()).then(|| Cursor { of: self.subject(), left }.write());
        self.shared.ledger.set_cursor(&self.name, cursor).await?;
        failed.into_outcome()
    }

    /// Admits the jobs of whole keys together with what is left to list behind them; false when there is no money for
    /// all of them: the cursor then stands behind the last that there was money for.
    async fn admit(&self, keys: &[Versions], left: Vec<Span>) -> Result<bool, Fault> {
        let jobs = self.jobs(keys);
        if spending::afford(self.shared, &jobs) == Affordable::NotAtOnce {
            if let Some((first, rest, between)) = self.halves(keys) {
                let between = std::iter::once(between).chain(left.iter().cloned()).collect();
                return Ok(Box::pin(self.admit(first, between)).await? && Box::pin(self.admit(rest, left)).await?);
            }
            if !spending::afford_later(self.shared, &jobs).await {
                return Ok(false);
            }
        }
        for of_key in jobs.chunk_by(|(one, _), (other, _)| one.key == other.key) {
            self.census.lock().unwrap_or_else(PoisonError::into_inner).take_in(of_key.iter().map(|(job, _)| job));
        }
        let cursor = Some((self.name.clone(), Cursor { of: self.subject(), left }.write()));
        let jobs = jobs.into_iter().map(|(job, _)| job).collect();
        let admission = Admission { jobs, now: self.shared.now(), cursor, ..Default::default() };
        spending::admit_paid(self.shared, admission).await?;
        Ok(true)
    }

    /// Two halves of these keys, and the second as a part of the key space; `None` of a single one.
    fn halves<'k>(&self, keys: &'k [Versions]) -> Option<(&'k [Versions], &'k [Versions], Span)> {
        let (first, rest) = keys.split_at(keys.len() / 2);
        let (before, last) = (first.last()?.key(), rest.last()?.key());
        let (prefix, _) = self.prefixes.iter().find(|(prefix, _)| last.as_str().starts_with(prefix))?;
        let span = Span { prefix: Arc::from(prefix.as_str()), after: Some(before.clone()), upto: Some(last.clone()) };
        Some((first, rest, span))
    }

    /// The jobs of whole keys, each with its object's class.
    fn jobs(&self, keys: &[Versions]) -> Vec<Priced> {
        let mut jobs = Vec::new();
        for history in keys {
            let (bucket, how) = (&self.shared.settings.source_bucket, (self.scope, self.versioning));
            for (change, class) in changes(bucket, &self.rules, &history.entries, how) {
                jobs.extend(route::route(&self.rules, &change).jobs.into_iter().map(|job| (job, class.clone())));
            }
        }
        jobs
    }
}

/// Ranges that could not be listed.
#[derive(Debug, Default)]
struct Failed {
    spans: Vec<Span>,
    /// The first one's fault, which names it.
    first: Option<Fault>,
}

impl Failed {
    fn add(&mut self, prefix: Arc<str>, hole: Hole) {
        let bounds = hole.bounds();
        let Hole { after, upto, fault } = hole;
        let span = Span { prefix, after, upto };
        tracing::error!(%fault, prefix = %span.prefix, after = ?span.after, upto = ?span.upto, "this range could not be listed");
        self.first.get_or_insert_with(|| Fault {
            detail: format!("prefix {:?}, {bounds}: {}", span.prefix, fault.detail),
            ..fault
        });
        // Ranges that fail one after another are one: an outage must not make the cursor grow.
        match self.spans.last_mut() {
            Some(before) if before.prefix == span.prefix && before.upto.is_some() && before.upto == span.after => {
                before.upto = span.upto;
            }
            Some(_) | None => self.spans.push(span),
        }
    }

    fn into_outcome(self) -> Result<Scanned, Fault> {
        let Some(fault) = self.first else { return Ok(Scanned::Complete) };
        let others = match self.spans.len().saturating_sub(1) {
            0 => String::new(),
            others => format!(" (and {others} more ranges, which the log names)"),
        };
        let detail = format!("{}; this range was not scanned{others}: run the sync again", fault.detail);
        Err(Fault { detail, ..fault })
    }
}

/// The enabled rules that a scope takes in.
pub(super) fn in_scope(rules: &[Rule], scope: &Scope) -> Vec<Rule> {
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

/// Waits until the backlog is small enough and nobody holds work back; false when the engine stops.
pub(super) async fn room<W: World>(shared: &Shared<W>) -> bool {
    shared.open().await;
    while shared.ledger.totals().pending.operations >= BACKLOG && shared.phase() == Phase::Run {
        shared.sleep(LOOK).await;
    }
    shared.phase() == Phase::Run
}

/// What one key's listing (newest first) asks for, oldest first, with the classes of the objects.
fn changes(
    bucket: &str,
    rules: &[Rule],
    history: &[VersionEntry],
    (scope, versioning): (&Scope, Versioning),
) -> Vec<(Change, Option<String>)> {
    let Some(newest) = history.first() else { return Vec::new() };
    let claims = |rule: &&Rule| newest.key.as_str().starts_with(&rule.prefix);
    let all = versioning != Versioning::Off && rules.iter().filter(claims).any(|rule| rule.history == History::All);
    let wanted = if all { history } else { history.get(..1).unwrap_or_default() };
    let hides = |entry: &VersionEntry| entry.object.is_none() && entry.version == newest.version;
    wanted
        .iter()
        .rev()
        .filter(|entry| scope.delete_markers == DeleteMarkers::Brought || !hides(entry))
        .map(|entry| (change(bucket, entry), entry.storage_class.clone()))
        .collect()
}

pub(super) fn change(bucket: &str, entry: &VersionEntry) -> Change {
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
    use crate::model::fault::{FaultKind, Side};
    use crate::model::object::Key;
    use crate::model::object::{ETag, Timestamp};
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
            changes.iter().map(|(change, _)| change.version.as_str().to_owned()).collect::<Vec<_>>()
        };
        let all = || rule("a", "", History::All);
        assert_eq!(listed(all(), DeleteMarkers::LeftOut, Versioning::Enabled), ["v0", "d1", "v2"]);
        assert_eq!(listed(all(), DeleteMarkers::Brought, Versioning::Enabled), ["v0", "d1", "v2", "d3"]);
        let latest = rule("l", "", History::Latest);
        assert_eq!(listed(latest.clone(), DeleteMarkers::LeftOut, Versioning::Enabled), Vec::<String>::new());
        assert_eq!(listed(latest, DeleteMarkers::Brought, Versioning::Enabled), ["d3"]);
    }

    #[test]
    fn versions_are_listed_only_where_a_rule_brings_them() {
        let listed = |rules: &[Rule], delete_markers, versioning| {
            let scope = Scope { delete_markers, ..Scope::default() };
            let depths = prefixes(rules, "").into_iter().map(|prefix| depth(prefix, rules, (&scope, versioning)));
            depths.map(|(_, depth)| depth).collect::<Vec<_>>()
        };
        let both = [rule("a", "a/", History::All), rule("l", "l/", History::Latest)];
        let (out, brought) = (DeleteMarkers::LeftOut, DeleteMarkers::Brought);
        assert_eq!(listed(&both, out, Versioning::Enabled), [Depth::All, Depth::Current]);
        assert_eq!(listed(&both, brought, Versioning::Enabled), [Depth::All, Depth::All], "to find the markers");
        assert_eq!(listed(&both, brought, Versioning::Off), [Depth::Current, Depth::Current]);
        let nested = [rule("l", "", History::Latest), rule("a", "deep/down/", History::All)];
        assert_eq!(listed(&nested, out, Versioning::Suspended), [Depth::All]);
    }

    /// A cursor is one of these rules: what another rule brings lies before it too.
    #[tokio::test]
    async fn a_scan_begins_anew_where_the_rules_are_others() {
        use crate::engine::tests::world::{Small, Store};
        use crate::engine::tests::{Bench, rule, soon, until};
        let same = || rule("r", "t");
        let others = [
            (vec![same()], "where it was"),
            (vec![same(), rule("s", "u")], "another target"),
            (vec![Rule { tags: BTreeMap::from([("a".to_owned(), "b".to_owned())]), ..same() }], "tags"),
            (vec![Rule { target_prefix: "p/".to_owned(), ..same() }], "other target keys"),
            (vec![rule("r", "u")], "to elsewhere"),
            (vec![Rule { enabled: false, ..same() }, rule("s", "t")], "another rule"),
            (vec![Rule { kms_key: Some("arn:aws:kms:r:1:key/k".to_owned()), ..same() }], "where it was"),
        ];
        for (rules, how) in others {
            let mut bench = Bench::new(vec![same()]);
            let world = Small::new(Store::with((0..9).map(|n| format!("k{n}"))));
            world.source.answer(1);
            let (engine, progress) = (bench.engine(&world), ScanProgress::default());
            let scope = Scope::default();
            let draining = async {
                // A page's last key may go on behind it.
                until(|| bench.ledger.totals().pending.operations == 2).await;
                bench.phase.send_replace(Phase::Drain);
            };
            let (scanned, ()) = soon(async { tokio::join!(engine.scan(&scope, &progress), draining) }).await;
            assert_eq!(scanned, Ok(Scanned::Interrupted));
            world.source.answer(usize::MAX);
            bench.phase.send_replace(Phase::Run);
            bench.settings = Bench::new(rules).settings;
            let progress = ScanProgress::default();
            assert_eq!(soon(bench.engine(&world).scan(&scope, &progress)).await, Ok(Scanned::Complete));
            assert_eq!(progress.listed(), if how == "where it was" { 7 } else { 9 }, "{how}");
        }
    }

    #[test]
    fn ranges_that_fail_in_a_row_are_one_and_the_first_is_named() {
        let mut failed = Failed::default();
        let fault = || Fault::new(FaultKind::Denied, Side::Source, "list versions", "no");
        let key = |text: &str| Some(Key::new(text));
        failed.add("p/".into(), Hole { after: None, upto: key("p/b"), fault: fault() });
        failed.add("p/".into(), Hole { after: key("p/b"), upto: key("p/c"), fault: fault() });
        failed.add("p/".into(), Hole { after: key("p/d"), upto: None, fault: fault() });
        let span = |after, upto| Span { prefix: "p/".into(), after, upto };
        assert_eq!(failed.spans, [span(None, key("p/c")), span(key("p/d"), None)]);
        let told = failed.into_outcome().unwrap_err().detail;
        assert!(told.starts_with("prefix \"p/\", from its start to \"p/b\": no; "), "{told}");
        assert!(told.contains("and 1 more"), "{told}");
    }
}
