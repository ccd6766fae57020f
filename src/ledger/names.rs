//! Numbers for the few texts that every record would repeat, and the totals with the counters that give numbers out.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use super::codec::{Decoder, Encoder, Read, Unreadable};
use super::record::Record;
use super::words::{Control, Count, Limiting, Quarantined, RuleTotals, Totals};
use crate::model::limits::{Bound, Concurrency, Limits};
use crate::model::object::{RuleId, TargetId, Timestamp};

/// Targets, rules and key prefixes by number, in the order they were first seen. Bounded by the configurations that
/// this ledger has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    targets: Vec<TargetId>,
    rules: Vec<RuleId>,
    prefixes: Vec<(TargetId, String)>,
}

/// A name's kind, as in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum NameKind {
    Target = 1,
    Rule = 2,
    Prefix = 3,
}

fn position<T>(list: &[T], is_it: impl Fn(&T) -> bool) -> Option<u64> {
    list.iter().position(is_it).map(|at| at as u64)
}

fn at<T: Clone>(list: &[T], number: u64) -> Option<T> {
    list.get(usize::try_from(number).ok()?).cloned()
}

impl Names {
    pub(super) fn target(&self, number: u64) -> Option<TargetId> {
        at(&self.targets, number)
    }

    pub(super) fn rule(&self, number: u64) -> Option<RuleId> {
        at(&self.rules, number)
    }

    /// The number of a target that was entered before; a number out of range, which no reader accepts, for another.
    pub(super) fn target_number(&self, target: &TargetId) -> u64 {
        self.known_target(target).unwrap_or(u64::MAX)
    }

    /// As [`Self::target_number`].
    pub(super) fn rule_number(&self, rule: &RuleId) -> u64 {
        self.known_rule(rule).unwrap_or(u64::MAX)
    }

    pub(super) fn known_target(&self, target: &TargetId) -> Option<u64> {
        position(&self.targets, |known| known == target)
    }

    pub(super) fn known_rule(&self, rule: &RuleId) -> Option<u64> {
        position(&self.rules, |known| known == rule)
    }

    pub(super) fn knows_prefix(&self, target: &TargetId, prefix: &str) -> bool {
        self.prefixes.iter().any(|(known, text)| known == target && text == prefix)
    }

    /// Where a source key can be at the targets: each target with each prefix it was ever given.
    pub(super) fn prefixes(&self) -> &[(TargetId, String)] {
        &self.prefixes
    }

    /// Enters a name and gives its number within its kind. `owner` is the target of a prefix.
    pub(super) fn enter(&mut self, kind: NameKind, text: &str, owner: Option<&TargetId>) -> u64 {
        let count = match kind {
            NameKind::Target => {
                self.targets.push(TargetId::new(text));
                self.targets.len()
            }
            NameKind::Rule => {
                self.rules.push(RuleId::new(text));
                self.rules.len()
            }
            NameKind::Prefix => {
                self.prefixes.extend(owner.map(|target| (target.clone(), text.to_owned())));
                self.prefixes.len()
            }
        };
        count.saturating_sub(1) as u64
    }
}

/// The totals and the counters, in one record that every batch writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) totals: Totals,
    pub(super) next_job: u64,
    pub(super) next_lane: u64,
    pub(super) next_group: u32,
    pub(super) next_mark: u64,
    pub(super) next_quarantine: u64,
    /// Entries in the memory of applied states.
    pub(super) applied: u64,
    /// Notes kept.
    pub(super) notes: u64,
}

fn write_count(out: &mut Encoder, count: Count) {
    out.number(count.operations);
    out.number(count.bytes);
}

fn read_count(from: &mut Decoder<'_>) -> Read<Count> {
    Ok(Count { operations: from.number()?, bytes: from.number()? })
}

impl Record for Tally {
    const NAME: &'static str = "totals";

    fn write(&self, out: &mut Encoder, _names: &Names) {
        let totals = &self.totals;
        out.number(totals.admitted);
        for count in [totals.pending, totals.parked, totals.replicated] {
            write_count(out, count);
        }
        for number in [
            totals.already_equal,
            totals.superseded,
            totals.not_replicated,
            totals.gone,
            totals.dropped,
            totals.quarantined,
            totals.unstamped,
            totals.unprovable,
            self.next_job,
            self.next_lane,
            u64::from(self.next_group),
            self.next_mark,
            self.next_quarantine,
            self.applied,
            self.notes,
        ] {
            out.number(number);
        }
        out.number(totals.by_rule.len() as u64);
        for (rule, counts) in &totals.by_rule {
            out.text(rule.as_str());
            for count in [counts.pending, counts.parked, counts.replicated] {
                write_count(out, count);
            }
        }
    }

    fn read(from: &mut Decoder<'_>, _names: &Names) -> Read<Self> {
        let mut totals = Totals {
            admitted: from.number()?,
            pending: read_count(from)?,
            parked: read_count(from)?,
            replicated: read_count(from)?,
            already_equal: from.number()?,
            superseded: from.number()?,
            not_replicated: from.number()?,
            gone: from.number()?,
            dropped: from.number()?,
            quarantined: from.number()?,
            unstamped: from.number()?,
            unprovable: from.number()?,
            ..Totals::default()
        };
        let mut tally = Self {
            totals: Totals::default(),
            next_job: from.number()?,
            next_lane: from.number()?,
            next_group: from.small()?,
            next_mark: from.number()?,
            next_quarantine: from.number()?,
            applied: from.number()?,
            notes: from.number()?,
        };
        let rules = from.list(|from| {
            let rule = RuleId::new(from.text()?);
            let counts = RuleTotals {
                pending: read_count(from)?,
                parked: read_count(from)?,
                replicated: read_count(from)?,
                ..RuleTotals::default()
            };
            Ok((rule, counts))
        })?;
        totals.by_rule = rules.into_iter().collect::<BTreeMap<_, _>>();
        tally.totals = totals;
        Ok(tally)
    }
}

impl Record for Control {
    const NAME: &'static str = "control";

    fn write(&self, out: &mut Encoder, _names: &Names) {
        out.byte(u8::from(self.paused));
        out.option(self.paused_until, |out, until| out.number(until.0));
    }

    fn read(from: &mut Decoder<'_>, _names: &Names) -> Read<Self> {
        Ok(Self { paused: from.flag()?, paused_until: from.option(Decoder::number)?.map(Timestamp) })
    }
}

impl Record for Limiting {
    const NAME: &'static str = "limits";

    fn write(&self, out: &mut Encoder, _names: &Names) {
        out.option(self.limits.bandwidth, |out, bound| out.option(bound.at(), |out, bytes| out.number(bytes.get())));
        out.option(self.limits.requests_per_second, |out, bound| {
            out.option(bound.at(), |out, requests| out.number(u64::from(requests.get())));
        });
        out.option(self.limits.concurrency, |out, concurrency| match concurrency {
            Concurrency::Auto => out.number(0),
            Concurrency::Fixed(count) => out.number(u64::from(count.get())),
        });
        out.option(self.until, |out, until| out.number(until.0));
    }

    fn read(from: &mut Decoder<'_>, _names: &Names) -> Read<Self> {
        let zero = || Unreadable("a limit is zero");
        let bytes = |from: &mut Decoder<'_>| NonZeroU64::new(from.number()?).ok_or_else(zero);
        let requests = |from: &mut Decoder<'_>| NonZeroU32::new(from.small()?).ok_or_else(zero);
        let limits = Limits {
            bandwidth: from.option(|from| Ok(Bound::from(from.option(bytes)?)))?,
            requests_per_second: from.option(|from| Ok(Bound::from(from.option(requests)?)))?,
            concurrency: from
                .option(|from| Ok(NonZeroU32::new(from.small()?).map_or(Concurrency::Auto, Concurrency::Fixed)))?,
        };
        Ok(Self { limits, until: from.option(Decoder::number)?.map(Timestamp) })
    }
}

impl Record for Quarantined {
    const NAME: &'static str = "quarantined message";

    fn write(&self, out: &mut Encoder, _names: &Names) {
        out.text(&self.message_id);
        out.text(&self.reason);
        out.number(self.received.0);
        out.text(&self.body);
    }

    fn read(from: &mut Decoder<'_>, _names: &Names) -> Read<Self> {
        Ok(Self {
            id: 0,
            message_id: from.text()?.to_owned(),
            reason: from.text()?.to_owned(),
            received: Timestamp(from.number()?),
            body: from.text()?.to_owned(),
        })
    }
}
