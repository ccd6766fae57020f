//! Sweeps: many parked jobs on their way back, or away, some at a time.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::book::Book;
use super::layout::{Slot, Table};
use super::record::{GroupRecord, Parked};
use super::words::{Ended, JobId, Release};
use crate::model::fault::Fault;
use crate::model::object::{Key, Timestamp};

/// Parked jobs moved in one batch.
pub(super) const CHUNK: usize = 200;

/// What a sweep does with the parked jobs it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweeping {
    /// Back among the pending ones.
    Release,
    /// Away, with a note.
    Drop(Timestamp),
}

/// Hears how many jobs a sweep moved.
pub(super) type Swept = oneshot::Sender<Result<u64, Fault>>;

/// A walk over groups of parked jobs, some at a time, so that no batch grows with a group.
#[derive(Debug)]
pub(super) struct Sweep {
    groups: VecDeque<u32>,
    prefix: Option<String>,
    sweeping: Sweeping,
    position: Vec<u8>,
    moved: u64,
    answer: Option<Swept>,
}

impl Sweep {
    /// The release of a group, asked for before a restart or by a probe.
    pub(super) fn resumed(group: u32) -> Self {
        Self {
            groups: VecDeque::from([group]),
            prefix: None,
            sweeping: Sweeping::Release,
            position: Vec::new(),
            moved: 0,
            answer: None,
        }
    }

    /// The release of whole groups.
    pub(super) fn release_of(groups: Vec<u32>, answer: Swept) -> Self {
        Self { groups: groups.into(), answer: Some(answer), ..Self::resumed(u32::MAX) }
    }

    /// Tells whoever waits for it.
    pub(super) fn finish(&mut self, result: Result<(), Fault>) {
        if let Some(answer) = self.answer.take() {
            // Whoever asked may have gone; the work is done all the same.
            drop(answer.send(result.map(|()| self.moved)));
        }
    }
}

impl Book<'_> {
    /// Starts what an operator asked for; `answer` hears how many jobs it moved.
    pub(super) fn start_sweep(&mut self, which: &Release, sweeping: Sweeping, answer: Swept) -> Result<(), Fault> {
        let (mut groups, prefix) = match which {
            Release::Group(id) => (VecDeque::from([id.0]), None),
            Release::All => (self.state.groups.keys().copied().collect::<VecDeque<u32>>(), None),
            Release::Prefix(prefix) => (self.state.groups.keys().copied().collect(), Some(prefix.clone())),
            Release::Key(key) => {
                let moved = self.sweep_key(key, sweeping)?;
                let sweep = Sweep { moved, answer: Some(answer), ..Sweep::resumed(u32::MAX) };
                self.state.sweeps.push_back(sweep);
                return Ok(());
            }
        };
        groups.retain(|id| self.state.groups.get(id).is_none_or(|group| !group.held));
        if prefix.is_none() && sweeping == Sweeping::Release {
            for id in &groups {
                self.begin_release(*id)?;
            }
        }
        self.state.sweeps.push_back(Sweep {
            groups,
            prefix,
            sweeping,
            position: Vec::new(),
            moved: 0,
            answer: Some(answer),
        });
        Ok(())
    }

    fn sweep_key(&mut self, key: &Key, sweeping: Sweeping) -> Result<u64, Fault> {
        let mut moved = 0;
        for (target, target_key) in self.view.places(key) {
            for (id, parked) in self.view.parked_of(&target, &target_key, usize::MAX)? {
                if parked.waiting.job.key == *key && !self.holds(id) {
                    self.sweep_member(id, parked, sweeping)?;
                    self.forget_if_empty(id)?;
                    moved += 1;
                }
            }
        }
        Ok(moved)
    }

    fn sweep_member(&mut self, id: u32, parked: Parked, sweeping: Sweeping) -> Result<(), Fault> {
        match sweeping {
            Sweeping::Release => self.release_member(id, parked),
            Sweeping::Drop(now) => {
                let cause = self.state.groups.get(&id).map(GroupRecord::cause).unwrap_or_default();
                self.remove_member(id, &parked)?;
                self.state.tally.totals.dropped += 1;
                self.state.ended.push(Ended { id: JobId(parked.waiting.id), into: None });
                let reason = format!("dropped by an operator while parked: {cause}");
                self.note_reason(&parked.waiting.job, &reason, now)
            }
        }
    }

    /// Moves the next few jobs of a sweep; says whether there are more.
    pub(super) fn advance_sweep(&mut self, sweep: &mut Sweep) -> Result<bool, Fault> {
        let Some(id) = sweep.groups.front().copied() else { return Ok(false) };
        let start = Table::Parked.key().group(id).end();
        let end = Table::Parked.key().group(id.saturating_add(1)).end();
        let entries = self.view.pages.scan(&sweep.position.clone().max(start), &end, CHUNK)?;
        if entries.is_empty() {
            if sweep.prefix.is_none() && sweep.sweeping == Sweeping::Release {
                self.end_release(id)?;
            }
            sweep.groups.pop_front();
            sweep.position = Vec::new();
            return Ok(!sweep.groups.is_empty());
        }
        for (key, value) in entries {
            let parked: Parked = self.view.decode(&value)?;
            sweep.position = Slot::after(key);
            let wanted = sweep.prefix.as_ref().is_none_or(|prefix| parked.waiting.job.key.as_str().starts_with(prefix));
            if wanted {
                self.sweep_member(id, parked, sweep.sweeping)?;
                sweep.moved += 1;
            }
        }
        self.forget_if_empty(id)?;
        Ok(true)
    }

    /// A group that was released is empty now, unless a job came back into it meanwhile.
    fn end_release(&mut self, id: u32) -> Result<(), Fault> {
        if let Some(group) = self.state.groups.get_mut(&id) {
            group.releasing = false;
            self.save_group(id)?;
        }
        self.forget_if_empty(id)
    }
}
