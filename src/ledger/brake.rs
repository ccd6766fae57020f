//! The brake on mass deletes (P11): what it counts, that it holds, what it holds, and the way back.
//!
//! What may go is decided elsewhere. Here the count of each delete reaches the disk before the delete is sent, and a
//! held one stays a job, in a group of parked jobs that no probe and no release of failures touches.

use super::book::{Book, View};
use super::codec::{Decoder, Encoder, Read, Unreadable};
use super::lanes::LANE_JOBS;
use super::layout::{Table, lane_hash};
use super::names::{NameKind, Names, Tally};
use super::record::{GroupRecord, LaneRecord, Record, Waiting, read_target};
use super::sweep::{Sweep, Swept};
use super::words::{Brake, Count, KeptFault, Passage};
use crate::model::deletes::{Deletes, Hour};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::job::{ChangeKind, Job};
use crate::model::object::{TargetId, Timestamp};

/// The brake of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrakeRecord {
    pub(super) target: TargetId,
    /// Deletes that went since the last release.
    pub(super) hour: Hour,
    /// The keys at the target when they were last counted, and when that was.
    pub(super) keys: Option<(u64, Timestamp)>,
    /// Since when deletes are held, and why.
    pub(super) tripped: Option<(Timestamp, String)>,
}

impl BrakeRecord {
    fn new(target: &TargetId) -> Self {
        Self { target: target.clone(), hour: Hour::default(), keys: None, tripped: None }
    }
}

impl View<'_> {
    pub(super) fn brake_records(&self) -> Result<Vec<BrakeRecord>, Fault> {
        let stored = self.pages.under(&Table::Brake.all(), usize::MAX)?;
        stored.into_iter().map(|(_, value)| self.decode(&value)).collect()
    }

    /// The brakes of all targets that have counted anything.
    pub(super) fn brakes(&self, now: Timestamp) -> Result<Vec<Brake>, Fault> {
        let mut brakes = Vec::new();
        for BrakeRecord { target, hour, keys, tripped } in self.brake_records()? {
            brakes.push(Brake { target, tripped, held: 0, in_hour: hour.sum(now), keys });
        }
        for (_, value) in self.pages.under(&Table::Group.all(), usize::MAX)? {
            let group = self.decode::<GroupRecord>(&value)?;
            if let Some(brake) = brakes.iter_mut().find(|brake| group.held && brake.target == group.target) {
                brake.held += group.count;
            }
        }
        Ok(brakes)
    }
}

/// Totals are stored without what is held: each such group is of one rule and tells it exactly.
pub(super) fn recount_held(tally: &mut Tally, group: &GroupRecord) {
    let totals = &mut tally.totals;
    let rule = group.rule.clone().map(|rule| totals.by_rule.entry(rule).or_default());
    for held in [Some(&mut totals.held), rule.map(|rule| &mut rule.held)].into_iter().flatten() {
        held.operations = held.operations.saturating_add(group.count);
        held.bytes = held.bytes.saturating_add(group.bytes);
    }
}

impl Book<'_> {
    /// Whether a group is one of deletes that the brake holds.
    pub(super) fn holds(&self, group: u32) -> bool {
        self.state.groups.get(&group).is_some_and(|group| group.held)
    }

    /// Counts a member of a group in or out: what is held has not failed.
    pub(super) fn count_member(&mut self, id: u32, job: &Job, change: fn(&mut Count, u64)) {
        let held = self.holds(id);
        let totals = &mut self.state.tally.totals;
        let rule = totals.by_rule.entry(job.rule.clone()).or_default();
        let counts = if held { [&mut totals.held, &mut rule.held] } else { [&mut totals.parked, &mut rule.parked] };
        counts.into_iter().for_each(|count| change(count, job.size.unwrap_or(0)));
    }

    fn brake(&mut self, target: &TargetId) -> &mut BrakeRecord {
        self.state.brakes.entry(target.clone()).or_insert_with(|| BrakeRecord::new(target))
    }

    fn save_brake(&mut self, target: &TargetId) -> Result<(), Fault> {
        let known = self.view.names().known_target(target);
        let number = match known {
            Some(number) => number,
            None => self.enter_name(NameKind::Target, target.as_str(), None)?,
        };
        let record = self.brake(target).clone();
        self.put(Table::Brake.key().id(number).end(), &record)
    }

    /// Judges the delete of a claim, once: counts it, or moves its job to those that are held.
    pub(super) fn pass_delete(
        &mut self,
        claim: &Waiting,
        now: Timestamp,
        judge: impl FnOnce(Deletes) -> Option<String>,
    ) -> Result<Passage, Fault> {
        let target = &claim.job.target;
        let parked = self.find_parked(claim)?;
        let pending = self.find_pending(claim)?;
        let cleared = match (&pending, &parked) {
            (Some((_, waiting)), _) => waiting.cleared,
            (None, Some((_, parked))) => parked.waiting.cleared,
            // Dropped by an operator while it was out: then it is not to be done.
            (None, None) => return Ok(Passage::Held),
        };
        if cleared {
            return Ok(Passage::Free);
        }
        if let Some(((id, lane), _)) = &pending
            && self.is_overtaken(*id, lane)?
        {
            return Ok(Passage::Overtaken);
        }
        let brake = self.brake(target);
        let mut passage = Passage::Held;
        if brake.tripped.is_none() {
            let seen = Deletes { in_hour: brake.hour.sum(now) + 1, keys: brake.keys.map(|(keys, _)| keys) };
            passage = judge(seen).map_or(Passage::Free, Passage::Tripped);
            match &passage {
                Passage::Tripped(reason) => brake.tripped = Some((now, reason.clone())),
                Passage::Free | Passage::Held | Passage::Overtaken => brake.hour.count(now),
            }
            self.save_brake(target)?;
        }
        match (&passage, pending, parked) {
            (Passage::Free, Some(((id, mut lane), waiting)), _) => {
                self.update_in(id, &mut lane, Waiting { cleared: true, ..waiting })?;
                self.save_lane(id, lane)?;
            }
            (Passage::Free, None, Some((id, mut parked))) => {
                parked.waiting.cleared = true;
                self.put_parked(id, &parked)?;
            }
            (Passage::Held | Passage::Tripped(_), Some(_), _) => {
                if let Some(waiting) = self.take_pending(claim)? {
                    self.hold(waiting, now)?;
                }
            }
            (Passage::Held | Passage::Tripped(_), None, Some((old, parked))) => {
                self.remove_member(old, &parked)?;
                self.forget_if_empty(old)?;
                self.hold(parked.waiting, now)?;
            }
            (Passage::Overtaken, _, _) | (_, None, None) => {}
        }
        Ok(passage)
    }

    /// Whether a write has come to a lane since it was claimed: held now, the delete would come behind it one day.
    fn is_overtaken(&self, id: u64, lane: &LaneRecord) -> Result<bool, Fault> {
        let Some(holder) = self.state.live.holder(lane_hash(&lane.target, &lane.target_key)) else { return Ok(false) };
        let waiting = self.view.source_order(id, lane, LANE_JOBS)?;
        Ok(waiting.iter().any(|other| other.id >= holder.fence && other.job.kind == ChangeKind::Write))
    }

    fn hold(&mut self, waiting: Waiting, now: Timestamp) -> Result<(), Fault> {
        let job = &waiting.job;
        let same = |group: &GroupRecord| {
            group.held && !group.releasing && group.target == job.target && group.rule.as_ref() == Some(&job.rule)
        };
        let known = self.state.groups.iter().find(|(_, group)| same(group)).map(|(id, _)| *id);
        let id = match known {
            Some(id) => id,
            None => {
                let reason = self.brake(&job.target).tripped.clone().map(|(_, reason)| reason).unwrap_or_default();
                let detail = format!("held by the brake: {reason}; `repl brake release` lets it go");
                let fault = Fault::new(FaultKind::Refused, Side::Local, "bring the delete marker", detail);
                self.new_group(GroupRecord {
                    target: job.target.clone(),
                    rule: Some(job.rule.clone()),
                    fault: KeptFault::of(&fault),
                    count: 0,
                    bytes: 0,
                    next_probe: now,
                    probes: 0,
                    releasing: false,
                    held: true,
                })?
            }
        };
        self.add_member(id, waiting, 0, now)
    }

    /// A write comes to a key whose delete is held: the delete goes back before it, so that their order holds (P3). It
    /// hides nothing any more, and where only the newest is kept, it is superseded.
    pub(super) fn unhold_before(&mut self, job: &Job) -> Result<(), Fault> {
        if job.kind != ChangeKind::Write || !self.state.groups.values().any(|group| group.held) {
            return Ok(());
        }
        for (id, parked) in self.view.parked_of(&job.target, &job.target_key, usize::MAX)? {
            if self.holds(id) {
                self.release_member(id, parked)?;
                self.forget_if_empty(id)?;
            }
        }
        Ok(())
    }

    /// Lets go what the brake of these targets holds, and begins their counts anew.
    pub(super) fn start_release_of_held(&mut self, target: Option<&TargetId>, answer: Swept) -> Result<(), Fault> {
        let asked = |other: &TargetId| target.is_none_or(|target| target == other);
        let tripped = self.state.brakes.values().filter(|brake| brake.tripped.is_some() && asked(&brake.target));
        let targets: Vec<TargetId> = tripped.map(|brake| brake.target.clone()).collect();
        for target in &targets {
            let brake = self.brake(target);
            (brake.tripped, brake.hour) = (None, Hour::default());
            self.save_brake(target)?;
        }
        let held = self.state.groups.iter().filter(|(_, group)| group.held && asked(&group.target));
        let groups: Vec<u32> = held.map(|(id, _)| *id).collect();
        for id in &groups {
            self.begin_release(*id)?;
        }
        self.state.sweeps.push_back(Sweep::release_of(groups, answer));
        Ok(())
    }

    /// Notes how many keys a target has.
    pub(super) fn note_keys(&mut self, target: &TargetId, keys: u64, now: Timestamp) -> Result<(), Fault> {
        self.brake(target).keys = Some((keys, now));
        self.save_brake(target)
    }
}

impl Record for BrakeRecord {
    const NAME: &'static str = "brake";

    fn write(&self, out: &mut Encoder, names: &Names) {
        out.number(names.target_number(&self.target));
        out.number(self.hour.minutes().len() as u64);
        for (minute, count) in self.hour.minutes() {
            out.number(*minute);
            out.number(*count);
        }
        out.option(self.keys, |out, (keys, counted)| {
            out.number(keys);
            out.number(counted.0);
        });
        out.option(self.tripped.as_ref(), |out, (since, reason)| {
            out.number(since.0);
            out.text(reason);
        });
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        Ok(Self {
            target: read_target(from, names)?,
            hour: Hour::of(from.list(|from| Ok((from.number()?, from.number()?)))?)
                .ok_or(Unreadable("its minutes are out of order"))?,
            keys: from.option(|from| Ok((from.number()?, Timestamp(from.number()?))))?,
            tripped: from.option(|from| Ok((Timestamp(from.number()?), from.text()?.to_owned())))?,
        })
    }
}
