//! Parked jobs: groups by cause, probes, and the ways back (P9).

use std::collections::VecDeque;
use std::time::Duration;

use super::book::{Book, View};
use super::claim::{Claim, Lane, Probe};
use super::lanes::Follows;
use super::layout::{Fields, Table, identity_hash, lane_hash};
use super::record::{GroupRecord, Parked, Waiting};
use super::sweep::{CHUNK, Sweep};
use super::words::{Count, Group, GroupId, KeptFault, Next, Outcome};
use crate::model::fault::{Disposition, Fault, FaultKind};
use crate::model::job::Job;
use crate::model::object::{Key, RuleId, TargetId, Timestamp};

/// First wait and longest wait before a probe of a group: a permission comes back within minutes of its repair.
const GROUP_PROBE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15 * 60));
/// The same for jobs that stand alone: a restore takes minutes to hours (aws-semantics), the rest an operator.
const ALONE_PROBE: (Duration, Duration) = (Duration::from_secs(15 * 60), Duration::from_secs(6 * 3600));
/// Members of a group that are tried for a probe when the keys of the first are busy.
const CANDIDATES: usize = 16;
/// The wait before the next probe after so many failed.
fn probe_wait((first, longest): (Duration, Duration), failed: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(failed.min(31)).unwrap_or(u32::MAX)).min(longest)
}

/// What makes parked jobs one group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cause<'a> {
    fault: &'a KeptFault,
    target: &'a TargetId,
    rule: Option<&'a RuleId>,
}

impl GroupRecord {
    /// Whether a job with this cause belongs here. Groups on their way back take no more.
    fn takes(&self, cause: &Cause<'_>) -> bool {
        !self.releasing
            && !self.held
            && self.fault.kind == cause.fault.kind
            && self.target == *cause.target
            && self.rule.as_ref() == cause.rule
            && (self.rule.is_none() || (self.fault.side == cause.fault.side && self.fault.code == cause.fault.code))
    }

    /// The cause in words.
    pub(super) fn cause(&self) -> String {
        let code = self.fault.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
        let rule = self.rule.as_ref().map(|rule| format!(", rule {rule}")).unwrap_or_default();
        format!("{}{code} at the {}, target {}{rule}", self.fault.kind.name(), self.fault.side.name(), self.target)
    }
}

fn parked_key(group: u32, waiting: &Waiting) -> Vec<u8> {
    Table::Parked.key().group(group).time(waiting.job.changed).id(waiting.id).end()
}

fn parked_due_key(group: u32, at: Timestamp, id: u64) -> Vec<u8> {
    Table::ParkedDue.key().group(group).time(at).id(id).end()
}

fn by_name_key(waiting: &Waiting) -> Vec<u8> {
    let hash = lane_hash(&waiting.job.target, &waiting.job.target_key);
    Table::ParkedByName.key().long(hash).group(identity_hash(&waiting.job)).id(waiting.id).end()
}

/// A parked job with the group it is in.
type Member = (u32, Parked);

impl View<'_> {
    pub(super) fn group(&self, id: u32) -> Result<Option<GroupRecord>, Fault> {
        self.record(&Table::Group.key().group(id).end())
    }

    fn members_under(&self, prefix: Vec<u8>, limit: usize) -> Result<Vec<Member>, Fault> {
        let mut members = Vec::new();
        for (key, place) in self.pages.under(&prefix, limit)? {
            let mut fields = Fields::of(&key);
            fields.long()?;
            fields.group()?;
            let id = fields.id()?;
            let record = Table::Parked.key().raw(&place).id(id).end();
            let group = Fields::of(&record).group()?;
            if let Some(parked) = self.record::<Parked>(&record)? {
                members.push((group, parked));
            }
        }
        Ok(members)
    }

    /// The parked jobs of one target key, at most `limit`.
    pub(super) fn parked_of(&self, target: &TargetId, target_key: &Key, limit: usize) -> Result<Vec<Member>, Fault> {
        let hash = lane_hash(target, target_key);
        let mut members = self.members_under(Table::ParkedByName.key().long(hash).end(), limit)?;
        members
            .retain(|(_, parked)| parked.waiting.job.target == *target && parked.waiting.job.target_key == *target_key);
        Ok(members)
    }

    fn oldest_member(&self, group: u32) -> Result<Option<Parked>, Fault> {
        let first = self.pages.first(&Table::Parked.key().group(group).end())?;
        first.map(|(_, value)| self.decode(&value)).transpose()
    }

    fn next_probe(&self, id: u32, group: &GroupRecord) -> Result<Timestamp, Fault> {
        if group.rule.is_some() {
            return Ok(group.next_probe);
        }
        let Some((key, _)) = self.pages.first(&Table::ParkedDue.key().group(id).end())? else {
            return Ok(group.next_probe);
        };
        let mut fields = Fields::of(&key);
        fields.group()?;
        fields.time()
    }

    /// Every group as its readers know it.
    pub(super) fn groups(&self) -> Result<Vec<Group>, Fault> {
        let mut groups = Vec::new();
        for (key, value) in self.pages.under(&Table::Group.all(), usize::MAX)? {
            let id = Fields::of(&key).group()?;
            let group = self.decode::<GroupRecord>(&value)?;
            if group.held {
                continue;
            }
            let Some(oldest) = self.oldest_member(id)? else { continue };
            groups.push(Group {
                id: GroupId(id),
                kind: group.fault.kind,
                side: group.fault.side,
                cause: group.cause(),
                fault: group.fault.to_fault(),
                during: group.fault.during.clone(),
                next_probe: self.next_probe(id, &group)?,
                target: group.target,
                rule: group.rule,
                count: group.count,
                bytes: group.bytes,
                oldest: oldest.waiting.job.changed,
                example: oldest.waiting.job.key,
                probes: group.probes,
            });
        }
        Ok(groups)
    }

    /// When the next probe of a group that is not probed now may go out; at once while a group is on its way back.
    pub(super) fn next_due_probe(&self, is_probing: impl Fn(u32) -> bool) -> Result<Option<Timestamp>, Fault> {
        let mut earliest: Option<Timestamp> = None;
        for (key, value) in self.pages.under(&Table::Group.all(), usize::MAX)? {
            let id = Fields::of(&key).group()?;
            let group = self.decode::<GroupRecord>(&value)?;
            let at = match (group.releasing, group.held || is_probing(id)) {
                (true, _) => Timestamp(0),
                (false, true) => continue,
                (false, false) => self.next_probe(id, &group)?,
            };
            earliest = Some(earliest.map_or(at, |other| other.min(at)));
        }
        Ok(earliest)
    }
}

impl Book<'_> {
    /// Parks the job of a claim under the cause of its fault.
    pub(super) fn park(&mut self, claim: &Claim, fault: &Fault, now: Timestamp) -> Result<(), Fault> {
        let kept = KeptFault::of(fault);
        if let Some(waiting) = self.take_pending(&claim.waiting)? {
            let group = self.group_for(&waiting.job, &kept, now)?;
            self.tell_failure(&waiting.job, (&kept, now), Next::Parked(GroupId(group)))?;
            return self.add_member(group, failed_again(waiting, &kept), 0, now);
        }
        let Some((old, parked)) = self.find_parked(&claim.waiting)? else { return Ok(()) };
        self.remove_member(old, &parked)?;
        let group = self.group_for(&parked.waiting.job, &kept, now)?;
        self.tell_failure(&parked.waiting.job, (&kept, now), Next::Parked(GroupId(group)))?;
        self.probe_failed(old, &kept, now)?;
        self.add_member(group, failed_again(parked.waiting, &kept), parked.probes.saturating_add(1), now)?;
        self.forget_if_empty(old)
    }

    /// The group of a cause, made where there is none.
    fn group_for(&mut self, job: &Job, fault: &KeptFault, now: Timestamp) -> Result<u32, Fault> {
        let rule = match fault.kind.disposition() {
            Disposition::ParkGroup => Some(&job.rule),
            Disposition::ParkAlone
            | Disposition::Retry
            | Disposition::DecideAgain
            | Disposition::Drop
            | Disposition::Halt => None,
        };
        let cause = Cause { fault, target: &job.target, rule };
        if let Some((id, _)) = self.state.groups.iter().find(|(_, group)| group.takes(&cause)) {
            return Ok(*id);
        }
        self.new_group(GroupRecord {
            target: job.target.clone(),
            rule: rule.cloned(),
            fault: fault.clone(),
            count: 0,
            bytes: 0,
            next_probe: now.plus(probe_wait(GROUP_PROBE, 0)),
            probes: 0,
            releasing: false,
            held: false,
        })
    }

    pub(super) fn new_group(&mut self, group: GroupRecord) -> Result<u32, Fault> {
        let id = self.state.tally.next_group;
        self.state.tally.next_group += 1;
        self.state.groups.insert(id, group);
        self.save_group(id)?;
        Ok(id)
    }

    pub(super) fn save_group(&mut self, id: u32) -> Result<(), Fault> {
        let Some(group) = self.state.groups.get(&id).cloned() else { return Ok(()) };
        self.put(Table::Group.key().group(id).end(), &group)
    }

    pub(super) fn forget_if_empty(&mut self, id: u32) -> Result<(), Fault> {
        if self.state.groups.get(&id).is_some_and(|group| group.count == 0) {
            self.state.groups.remove(&id);
            self.view.pages.remove(&Table::Group.key().group(id).end())?;
        }
        Ok(())
    }

    pub(super) fn add_member(&mut self, id: u32, waiting: Waiting, probes: u32, now: Timestamp) -> Result<(), Fault> {
        self.count_member(id, &waiting.job, Count::add);
        let bytes = waiting.job.size.unwrap_or(0);
        let Some(group) = self.state.groups.get_mut(&id) else { return Ok(()) };
        group.count += 1;
        group.bytes = group.bytes.saturating_add(bytes);
        let alone = group.rule.is_none();
        self.save_group(id)?;
        let next_probe = if alone { now.plus(probe_wait(ALONE_PROBE, probes)) } else { Timestamp(0) };
        let mut parked = Parked { waiting, probes, next_probe };
        if alone {
            self.view.pages.put(parked_due_key(id, next_probe, parked.waiting.id), changed_bytes(&parked.waiting))?;
        } else {
            // The group's own fault speaks for all of its members.
            parked.waiting.fault = None;
        }
        self.put_parked(id, &parked)
    }

    pub(super) fn put_parked(&mut self, id: u32, parked: &Parked) -> Result<(), Fault> {
        let key = parked_key(id, &parked.waiting);
        let place = place_of(id, &parked.waiting);
        self.put(key, parked)?;
        self.view.pages.put(by_name_key(&parked.waiting), place)
    }

    /// Takes a member out; the group's end is the caller's.
    pub(super) fn remove_member(&mut self, id: u32, parked: &Parked) -> Result<(), Fault> {
        self.count_member(id, &parked.waiting.job, Count::take);
        if let Some(group) = self.state.groups.get_mut(&id) {
            group.count = group.count.saturating_sub(1);
            group.bytes = group.bytes.saturating_sub(parked.waiting.job.size.unwrap_or(0));
        }
        self.save_group(id)?;
        self.view.pages.remove(&parked_key(id, &parked.waiting))?;
        self.view.pages.remove(&by_name_key(&parked.waiting))?;
        if parked.next_probe.0 > 0 {
            self.view.pages.remove(&parked_due_key(id, parked.next_probe, parked.waiting.id))?;
        }
        Ok(())
    }

    pub(super) fn find_parked(&self, claim: &Waiting) -> Result<Option<Member>, Fault> {
        Ok(self.view.members_under(by_name_key(claim), 1)?.pop())
    }

    fn probe_failed(&mut self, id: u32, fault: &KeptFault, now: Timestamp) -> Result<(), Fault> {
        if let Some(group) = self.state.groups.get_mut(&id) {
            group.probes = group.probes.saturating_add(1);
            group.next_probe = now.plus(probe_wait(GROUP_PROBE, group.probes));
            if group.fault.kind == fault.kind {
                group.fault = fault.clone();
            }
        }
        self.save_group(id)
    }

    /// A probe that was put off: it says nothing of the cause and comes again at that time.
    pub(super) fn defer_probe(&mut self, claim: &Claim, not_before: Timestamp) -> Result<(), Fault> {
        let Some((id, mut parked)) = self.find_parked(&claim.waiting)? else { return Ok(()) };
        parked.waiting.attempts = parked.waiting.attempts.saturating_add(1);
        if let Some(group) = self.state.groups.get_mut(&id)
            && group.rule.is_some()
        {
            group.next_probe = not_before;
            self.save_group(id)?;
            return self.put_parked(id, &parked);
        }
        self.move_probe(id, parked, not_before)
    }

    fn move_probe(&mut self, id: u32, mut parked: Parked, at: Timestamp) -> Result<(), Fault> {
        self.view.pages.remove(&parked_due_key(id, parked.next_probe, parked.waiting.id))?;
        parked.next_probe = at;
        self.view.pages.put(parked_due_key(id, at, parked.waiting.id), changed_bytes(&parked.waiting))?;
        self.put_parked(id, &parked)
    }

    /// Takes the job of a settled probe out of its group. An outcome that needed the target and the source proves
    /// that the cause is gone: the whole group goes back. Any other proves nothing: the next member is tried.
    pub(super) fn take_probe(&mut self, claim: &Claim, outcome: &Outcome) -> Result<bool, Fault> {
        let Some((id, parked)) = self.find_parked(&claim.waiting)? else { return Ok(false) };
        self.remove_member(id, &parked)?;
        let proven = match outcome {
            Outcome::Replicated | Outcome::AlreadyEqual => true,
            Outcome::Superseded | Outcome::NotReplicated(_) | Outcome::Gone => false,
        };
        if proven && self.state.groups.get(&id).is_some_and(|group| group.rule.is_some() && group.count > 0) {
            self.begin_release(id)?;
            self.state.sweeps.push_back(Sweep::resumed(id));
        }
        self.forget_if_empty(id)?;
        Ok(true)
    }

    pub(super) fn begin_release(&mut self, id: u32) -> Result<(), Fault> {
        if let Some(group) = self.state.groups.get_mut(&id) {
            group.releasing = true;
        }
        self.save_group(id)
    }

    /// Hands out probes that are due, at most `most`.
    pub(super) fn claim_probes(&mut self, now: Timestamp, most: usize, lanes: &mut Vec<Lane>) -> Result<(), Fault> {
        let groups: Vec<(u32, bool, Timestamp)> = self
            .state
            .groups
            .iter()
            .filter(|(_, group)| !group.releasing && !group.held)
            .map(|(id, group)| (*id, group.rule.is_none(), group.next_probe))
            .collect();
        for (id, alone, next_probe) in groups {
            if lanes.len() >= most {
                return Ok(());
            }
            if alone {
                self.claim_alone(id, now, most, lanes)?;
            } else if next_probe <= now && !self.state.live.is_probing(id) {
                for (_, value) in self.view.pages.under(&Table::Parked.key().group(id).end(), CANDIDATES)? {
                    if let Some(lane) = self.probe_lane(id, &self.view.decode(&value)?, Some(id)) {
                        lanes.push(lane);
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Each job that stands alone is probed for itself. While it is out its next time is a full wait away, so that a
    /// probe that is dropped comes again without being in the way until then.
    fn claim_alone(&mut self, id: u32, now: Timestamp, most: usize, lanes: &mut Vec<Lane>) -> Result<(), Fault> {
        let end = parked_due_key(id, Timestamp(now.0.saturating_add(1)), 0);
        for (key, _) in self.view.pages.scan(&Table::ParkedDue.key().group(id).end(), &end, CANDIDATES.max(most))? {
            if lanes.len() >= most {
                return Ok(());
            }
            let Some(parked) = self.due_member(id, &key)? else { continue };
            let lane = self.probe_lane(id, &parked, None);
            // A busy key is not looked at again and again either.
            let wait = if lane.is_some() { ALONE_PROBE.0 } else { GROUP_PROBE.0 };
            self.move_probe(id, parked, now.plus(wait))?;
            lanes.extend(lane);
        }
        Ok(())
    }

    fn due_member(&self, id: u32, key: &[u8]) -> Result<Option<Parked>, Fault> {
        let mut fields = Fields::of(key);
        fields.group()?;
        fields.time()?;
        let job = fields.id()?;
        let Some(changed) = self.view.pages.get(key)? else { return Ok(None) };
        self.view.record(&Table::Parked.key().group(id).raw(&changed).id(job).end())
    }

    fn probe_lane(&self, id: u32, parked: &Parked, probing: Option<u32>) -> Option<Lane> {
        let job = &parked.waiting.job;
        let hash = lane_hash(&job.target, &job.target_key);
        let probe = Probe { group: probing, job: parked.waiting.id };
        let hold = self.state.live.hold(hash, self.state.tally.next_job, Some(probe))?;
        Some(Lane {
            target: job.target.clone(),
            target_key: job.target_key.clone(),
            jobs: VecDeque::from([parked.waiting.clone()]),
            hold,
            probe: Some(GroupId(id)),
        })
    }

    /// The same work, parked before: a new event is a reason to try again. The job that is out as a probe stays: it
    /// may have read an older state.
    pub(super) fn release_same(
        &mut self,
        hash: u64,
        job: &Job,
        probe: Option<u64>,
    ) -> Result<Option<(u64, Follows)>, Fault> {
        let prefix = Table::ParkedByName.key().long(hash).group(identity_hash(job)).end();
        let members = self.view.members_under(prefix, usize::MAX)?;
        let same = |(_, parked): &Member| parked.waiting.job.same_work(job) && Some(parked.waiting.id) != probe;
        let Some((id, parked)) = members.into_iter().find(same) else { return Ok(None) };
        let number = parked.waiting.id;
        if self.holds(id) && !self.state.groups.get(&id).is_some_and(|group| group.releasing) {
            return Ok(Some((number, Follows::Nothing)));
        }
        self.release_member(id, parked)?;
        self.forget_if_empty(id)?;
        Ok(Some((number, Follows::Work)))
    }

    /// A restored object can be read: what was parked for being archived goes back.
    pub(super) fn release_archived(&mut self, hash: u64, job: &Job) -> Result<(), Fault> {
        let members = self.view.members_under(Table::ParkedByName.key().long(hash).end(), CHUNK)?;
        for (id, parked) in members {
            let archived = parked.waiting.last_kind == Some(FaultKind::Archived);
            if archived && parked.waiting.job.key == job.key && parked.waiting.job.target == job.target {
                self.release_member(id, parked)?;
                self.forget_if_empty(id)?;
            }
        }
        Ok(())
    }

    pub(super) fn release_member(&mut self, id: u32, mut parked: Parked) -> Result<(), Fault> {
        self.remove_member(id, &parked)?;
        match self.state.groups.get(&id) {
            Some(group) if group.held => parked.waiting.cleared |= group.releasing,
            group => parked.waiting.last_kind = Some(group.map_or(FaultKind::Transient, |group| group.fault.kind)),
        }
        self.revive(parked.waiting)
    }
}

/// Where a parked job lies: the part of its key that the number does not tell.
fn place_of(id: u32, waiting: &Waiting) -> Vec<u8> {
    let key = parked_key(id, waiting);
    key.get(1..13).unwrap_or_default().to_vec()
}

fn changed_bytes(waiting: &Waiting) -> Vec<u8> {
    waiting.job.changed.0.to_be_bytes().to_vec()
}

fn failed_again(mut waiting: Waiting, fault: &KeptFault) -> Waiting {
    waiting.attempts = waiting.attempts.saturating_add(1);
    waiting.not_before = Timestamp(0);
    waiting.last_kind = Some(fault.kind);
    waiting.fault = Some(fault.clone());
    waiting
}
