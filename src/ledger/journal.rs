//! What happened to keys of late, for `repl why`: a ring of happenings in the order in which they came.
//!
//! Live changes are told from their event to their end; of a scan's jobs only what went wrong and what became of it, so
//! that a backfill does not push the day's history out. Written in the batches of the work itself, never flushed for
//! its own sake.

use super::book::{Book, View};
use super::codec::{Decoder, Encoder, Read, Unreadable};
use super::layout::{Fields, Table, key_hash};
use super::names::Names;
use super::pages::behind;
use super::record::{Record, change_code, read_change, read_fault, read_target, write_fault};
use super::words::{GroupId, Happened, Happening, KeptFault, Next, Outcome};
use crate::model::fault::Fault;
use crate::model::job::{Job, Origin};
use crate::model::object::{Key, Sequencer, Timestamp, VersionId};

/// Happenings of one key that a story tells: the last ones.
const TOLD: usize = 200;

/// A happening as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HappeningRecord {
    pub(super) key: Key,
    pub(super) happening: Happening,
}

/// What the writer counts beside the tally: how many happenings there ever were, and the bytes of the quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Margin {
    pub(super) happenings: u64,
    pub(super) quarantine_bytes: u64,
}

impl View<'_> {
    /// The last happenings of a key, the oldest first.
    pub(super) fn happenings(&self, key: &Key) -> Result<Vec<Happening>, Fault> {
        let hash = key_hash(key);
        let mut found = Vec::new();
        for (place, value) in self.pages.under(&Table::Journal.all(), usize::MAX)? {
            let mut fields = Fields::of(&place);
            fields.id()?;
            if fields.long()? == hash {
                let record = self.decode::<HappeningRecord>(&value)?;
                if record.key == *key {
                    found.push(record.happening);
                }
            }
        }
        Ok(found.split_off(found.len().saturating_sub(TOLD)))
    }

    /// The last happenings of all keys, the newest first.
    pub(super) fn latest(&self, most: usize) -> Result<Vec<(Key, Happening)>, Fault> {
        let next = self.record::<Margin>(&Table::Margin.all())?.unwrap_or_default().happenings;
        let from = Table::Journal.key().id(next.saturating_sub(most as u64)).end();
        let mut found = Vec::new();
        for (_, value) in self.pages.scan(&from, &behind(&Table::Journal.all()), most)? {
            let HappeningRecord { key, happening } = self.decode(&value)?;
            found.push((key, happening));
        }
        found.reverse();
        Ok(found)
    }
}

impl Book<'_> {
    /// An event, or its repetition, was admitted.
    pub(super) fn tell_event(&mut self, job: &Job, now: Timestamp) -> Result<(), Fault> {
        let what = Happened::Told { kind: job.kind, sequencer: job.sequencer.clone(), changed: job.changed };
        if job.origin == Origin::Event { self.happened(job, now, what) } else { Ok(()) }
    }

    /// An attempt failed.
    pub(super) fn tell_failure(
        &mut self,
        job: &Job,
        (fault, now): (&KeptFault, Timestamp),
        next: Next,
    ) -> Result<(), Fault> {
        self.happened(job, now, Happened::Failed { fault: fault.clone(), next })
    }

    /// A job ended.
    pub(super) fn tell_end(
        &mut self,
        (job, attempts): (&Job, u32),
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<(), Fault> {
        if job.origin == Origin::Scan && attempts == 0 {
            return Ok(());
        }
        self.happened(job, now, Happened::Ended { outcome: outcome.clone() })
    }

    fn happened(&mut self, job: &Job, at: Timestamp, what: Happened) -> Result<(), Fault> {
        self.enter_names(job)?;
        let number = self.state.margin.happenings;
        self.state.margin.happenings += 1;
        let happening = Happening { target: job.target.clone(), version: job.version.clone(), at, what };
        let record = HappeningRecord { key: job.key.clone(), happening };
        self.put(Table::Journal.key().id(number).long(key_hash(&job.key)).end(), &record)?;
        while let Some((oldest, _)) = self.view.pages.first(&Table::Journal.all())? {
            let first = Fields::of(&oldest).id()?;
            if self.state.margin.happenings.saturating_sub(first) <= self.state.limits.happenings {
                break;
            }
            self.view.pages.remove(&oldest)?;
        }
        Ok(())
    }
}

const TOLD_CODE: u8 = 1;
const FAILED_CODE: u8 = 2;
const ENDED_CODE: u8 = 3;

impl Record for HappeningRecord {
    const NAME: &'static str = "happening";

    fn write(&self, out: &mut Encoder, names: &Names) {
        let Happening { target, version, at, what } = &self.happening;
        out.text(self.key.as_str());
        out.number(names.target_number(target));
        out.packed(version.as_str());
        out.number(at.0);
        match what {
            Happened::Told { kind, sequencer, changed } => {
                out.byte(TOLD_CODE);
                out.byte(change_code(*kind));
                out.option(sequencer.as_ref(), |out, sequencer| out.packed(sequencer.as_str()));
                out.number(changed.0);
            }
            Happened::Failed { fault, next } => {
                out.byte(FAILED_CODE);
                write_fault(out, fault);
                match next {
                    Next::Retry(at) => {
                        out.byte(0);
                        out.number(at.0);
                    }
                    Next::Parked(group) => {
                        out.byte(1);
                        out.number(u64::from(group.0));
                    }
                }
            }
            Happened::Ended { outcome } => {
                out.byte(ENDED_CODE);
                write_outcome(out, outcome);
            }
        }
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        let key = Key::new(from.text()?);
        let target = read_target(from, names)?;
        let version = VersionId::new(from.packed()?);
        let at = Timestamp(from.number()?);
        let what = match from.byte()? {
            TOLD_CODE => Happened::Told {
                kind: read_change(from.byte()?)?,
                sequencer: from.option(Decoder::packed)?.map(Sequencer::new),
                changed: Timestamp(from.number()?),
            },
            FAILED_CODE => Happened::Failed {
                fault: read_fault(from)?,
                next: match from.byte()? {
                    0 => Next::Retry(Timestamp(from.number()?)),
                    1 => Next::Parked(GroupId(from.small()?)),
                    _other => return Err(Unreadable("what came next is unknown")),
                },
            },
            ENDED_CODE => Happened::Ended { outcome: read_outcome(from)? },
            _other => return Err(Unreadable("its kind of happening is unknown")),
        };
        Ok(Self { key, happening: Happening { target, version, at, what } })
    }
}

fn write_outcome(out: &mut Encoder, outcome: &Outcome) {
    match outcome {
        Outcome::Replicated => out.byte(1),
        Outcome::AlreadyEqual => out.byte(2),
        Outcome::Superseded => out.byte(3),
        Outcome::NotReplicated(reason) => {
            out.byte(4);
            out.text(reason);
        }
        Outcome::Gone => out.byte(5),
    }
}

fn read_outcome(from: &mut Decoder<'_>) -> Read<Outcome> {
    Ok(match from.byte()? {
        1 => Outcome::Replicated,
        2 => Outcome::AlreadyEqual,
        3 => Outcome::Superseded,
        4 => Outcome::NotReplicated(from.text()?.to_owned()),
        5 => Outcome::Gone,
        _other => return Err(Unreadable("its outcome is unknown")),
    })
}

impl Record for Margin {
    const NAME: &'static str = "margin";

    fn write(&self, out: &mut Encoder, _names: &Names) {
        out.number(self.happenings);
        out.number(self.quarantine_bytes);
    }

    fn read(from: &mut Decoder<'_>, _names: &Names) -> Read<Self> {
        Ok(Self { happenings: from.number()?, quarantine_bytes: from.number()? })
    }
}
