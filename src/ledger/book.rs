//! One logical step: what is read, what is changed, and the state that goes along.
//!
//! A [`View`] reads. A [`Book`] is the writer's: it collects the changes of a group of requests, each seeing those
//! before it, to be applied as one batch. When anything fails the whole book is thrown away and the ledger with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::brake::{BrakeRecord, recount_held};
use super::claim::Live;
use super::codec::{Decoder, Encoder, VERSION};
use super::journal::Margin;
use super::kv::{Batch, Kv};
use super::layout::{Fields, Table, unreadable};
use super::names::{NameKind, Names, Tally};
use super::pages::{Kept, Pages};
use super::record::{GroupRecord, Record};
use super::sweep::Sweep;
use super::words::{Ended, RuleTotals};
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::model::object::{Key, TargetId};

/// How many things are remembered at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Keys whose last applied state is remembered. 65,536 of them take about 10 MB on disk and cover the overwrites
    /// of a day at one new key a second.
    pub(super) applied: u64,
    /// Reasons kept for `repl why`, over all keys.
    pub(super) notes: u64,
    /// Happenings kept for `repl why`, over all keys: about 2 MB, the last hours of a busy worker.
    pub(super) happenings: u64,
    /// Messages in the quarantine.
    pub(super) messages: u64,
    /// Bytes of those.
    pub(super) message_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { applied: 65_536, notes: 16_384, happenings: 16_384, messages: 10_000, message_bytes: 64 << 20 }
    }
}

/// The format of the ledger as a whole.
const FORMAT: u8 = 1;

/// What the writer keeps in memory: counters, names and causes; nothing for each job.
#[derive(Debug)]
pub(super) struct State {
    pub(super) names: Arc<RwLock<Names>>,
    pub(super) tally: Tally,
    pub(super) margin: Margin,
    saved: Margin,
    /// Whether the store tells its format yet.
    formatted: bool,
    pub(super) groups: BTreeMap<u32, GroupRecord>,
    pub(super) brakes: BTreeMap<TargetId, BrakeRecord>,
    pub(super) live: Arc<Live>,
    pub(super) sweeps: VecDeque<Sweep>,
    /// Jobs that end with this batch and without a settlement.
    pub(super) ended: Vec<Ended>,
    pub(super) limits: Limits,
    /// Whether there were uploads when the ledger was opened.
    pub(super) uploads: bool,
    /// What the batch before has looked into.
    kept: Kept,
}

impl State {
    /// Reads what a ledger holds; an empty store is a new ledger. Reads a handful of records, however many jobs wait.
    pub(super) fn load(kv: &dyn Kv, limits: Limits) -> Result<Self, Fault> {
        let names = Arc::new(RwLock::new(Names::default()));
        let view = View::new(kv, &names);
        let formatted = is_formatted(&view)?;
        for (key, text) in view.pages.under(&Table::Name.all(), usize::MAX)? {
            enter_stored(&names, &key, &text)?;
        }
        let mut tally = view.record::<Tally>(&Table::Tally.all())?.unwrap_or_default();
        let margin = view.record::<Margin>(&Table::Margin.all())?.unwrap_or_default();
        tally.totals.quarantined_bytes = margin.quarantine_bytes;
        let mut groups = BTreeMap::new();
        for (key, value) in view.pages.under(&Table::Group.all(), usize::MAX)? {
            let group = view.decode::<GroupRecord>(&value)?;
            if group.held {
                recount_held(&mut tally, &group);
            }
            groups.insert(Fields::of(&key).group()?, group);
        }
        let brakes = view.brake_records()?.into_iter().map(|brake| (brake.target.clone(), brake)).collect();
        let sweeps = groups.iter().filter(|(_, group)| group.releasing).map(|(id, _)| Sweep::resumed(*id)).collect();
        let uploads = view.pages.first(&Table::Upload.all())?.is_some();
        let live = Arc::new(Live::beginning_with(tally.next_job));
        let (saved, ended, kept) = (margin, Vec::new(), Kept::default());
        Ok(Self { names, tally, margin, saved, formatted, groups, brakes, live, sweeps, ended, limits, uploads, kept })
    }
}

/// Whether the store tells its format: a new one does not. An unknown one is refused.
fn is_formatted(view: &View<'_>) -> Result<bool, Fault> {
    match view.pages.get(&Table::Format.all())?.as_deref() {
        None => Ok(false),
        Some([FORMAT]) => Ok(true),
        Some(_other) => Err(unreadable("format", super::codec::Unreadable("its version is not known to this program"))),
    }
}

fn enter_stored(names: &RwLock<Names>, key: &[u8], value: &[u8]) -> Result<(), Fault> {
    let kind = Fields::of(key).byte()?;
    let fail = |why| unreadable("name", why);
    let mut from = Decoder::record(value).map_err(fail)?;
    let mut names = names.write().unwrap_or_else(PoisonError::into_inner);
    if kind == NameKind::Target as u8 {
        names.enter(NameKind::Target, from.text().map_err(fail)?, None);
    } else if kind == NameKind::Rule as u8 {
        names.enter(NameKind::Rule, from.text().map_err(fail)?, None);
    } else if kind == NameKind::Prefix as u8 {
        let owner = TargetId::new(from.text().map_err(fail)?);
        names.enter(NameKind::Prefix, from.text().map_err(fail)?, Some(&owner));
    } else {
        return Err(fail(super::codec::Unreadable("its kind is unknown")));
    }
    from.end().map_err(fail)
}

/// Reads the ledger.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) pages: Pages<'a>,
    names: &'a RwLock<Names>,
}

impl<'a> View<'a> {
    pub(super) fn new(kv: &'a dyn Kv, names: &'a RwLock<Names>) -> Self {
        Self { pages: Pages::new(kv), names }
    }

    fn knowing(kv: &'a dyn Kv, names: &'a RwLock<Names>, kept: Kept) -> Self {
        Self { pages: Pages::knowing(kv, kept), names }
    }

    pub(super) fn names(&self) -> RwLockReadGuard<'a, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn decode<R: Record>(&self, bytes: &[u8]) -> Result<R, Fault> {
        R::decode(bytes, &self.names()).map_err(|why| unreadable(R::NAME, why))
    }

    pub(super) fn record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, Fault> {
        self.pages.get(key)?.map(|bytes| self.decode(&bytes)).transpose()
    }

    /// Where a source key is, or would be, at each target that the ledger has seen.
    pub(super) fn places(&self, key: &Key) -> Vec<(TargetId, Key)> {
        let names = self.names();
        let prefixed = |(target, prefix): &(TargetId, String)| {
            (target.clone(), if prefix.is_empty() { key.clone() } else { Key::new(format!("{prefix}{key}")) })
        };
        names.prefixes().iter().map(prefixed).collect()
    }
}

/// The writer's book.
#[derive(Debug)]
pub(super) struct Book<'a> {
    pub(super) view: View<'a>,
    pub(super) state: &'a mut State,
}

impl<'a> Book<'a> {
    pub(super) fn new(kv: &'a dyn Kv, names: &'a RwLock<Names>, state: &'a mut State) -> Self {
        let kept = std::mem::take(&mut state.kept);
        Self { view: View::knowing(kv, names, kept), state }
    }

    /// Everything changed so far as one batch, totals included; empty when nothing was.
    pub(super) fn into_batch(self) -> Result<Batch, Fault> {
        let Self { mut view, state } = self;
        if !view.pages.is_touched() {
            let (nothing, kept) = view.pages.into_batch();
            state.kept = kept;
            return Ok(nothing);
        }
        let names = view.names();
        view.pages.put(Table::Tally.all(), state.tally.encode(&names))?;
        if !std::mem::replace(&mut state.formatted, true) {
            view.pages.put(Table::Format.all(), vec![FORMAT])?;
        }
        if state.margin != state.saved {
            view.pages.put(Table::Margin.all(), state.margin.encode(&names))?;
            state.saved = state.margin;
        }
        let (batch, kept) = view.pages.into_batch();
        state.kept = kept;
        Ok(batch)
    }

    pub(super) fn put<R: Record>(&mut self, key: Vec<u8>, record: &R) -> Result<(), Fault> {
        let bytes = record.encode(&self.view.names());
        self.view.pages.put(key, bytes)
    }

    /// Enters the names that a job's records will refer to.
    pub(super) fn enter_names(&mut self, job: &Job) -> Result<(), Fault> {
        let prefix = job.target_key.as_str().strip_suffix(job.key.as_str());
        let (target, rule, route) = {
            let names = self.view.names();
            (
                names.known_target(&job.target).is_none(),
                names.known_rule(&job.rule).is_none(),
                prefix.filter(|prefix| !names.knows_prefix(&job.target, prefix)),
            )
        };
        if target {
            self.enter_name(NameKind::Target, job.target.as_str(), None)?;
        }
        if rule {
            self.enter_name(NameKind::Rule, job.rule.as_str(), None)?;
        }
        if let Some(prefix) = route {
            self.enter_name(NameKind::Prefix, prefix, Some(&job.target))?;
        }
        Ok(())
    }

    pub(super) fn enter_name(&mut self, kind: NameKind, text: &str, owner: Option<&TargetId>) -> Result<u64, Fault> {
        let number = self.view.names.write().unwrap_or_else(PoisonError::into_inner).enter(kind, text, owner);
        let mut out = Encoder::record();
        debug_assert_eq!(VERSION, 1, "the readers of names know this version");
        if let Some(owner) = owner {
            out.text(owner.as_str());
        }
        out.text(text);
        self.view.pages.put(Table::Name.key().byte(kind as u8).id(number).end(), out.finish())?;
        Ok(number)
    }

    pub(super) fn next_mark(&mut self) -> u64 {
        let mark = self.state.tally.next_mark;
        self.state.tally.next_mark += 1;
        mark
    }

    pub(super) fn rule_totals(&mut self, job: &Job) -> &mut RuleTotals {
        self.state.tally.totals.by_rule.entry(job.rule.clone()).or_default()
    }

    pub(super) fn count_pending(&mut self, job: &Job) {
        let bytes = job.size.unwrap_or(0);
        self.state.tally.totals.pending.add(bytes);
        self.rule_totals(job).pending.add(bytes);
    }

    pub(super) fn uncount_pending(&mut self, job: &Job) {
        let bytes = job.size.unwrap_or(0);
        self.state.tally.totals.pending.take(bytes);
        self.rule_totals(job).pending.take(bytes);
    }
}
