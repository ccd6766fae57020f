//! Pending jobs by target key: lanes, their order and their schedule.
//!
//! A lane's record carries its first few jobs itself: nearly every key has one. The jobs beyond (the crowd) have
//! records of their own in source order, and indexes by identity and by age, so that a key with a hundred thousand
//! jobs costs no more for each than a key with one.

use std::time::Duration;

use super::book::{Book, View};
use super::claim::{CLASSES, Claim, Lane};
use super::kv::ledger_fault;
use super::layout::{Fields, SEQUENCED, Table, UNSEQUENCED, identity_hash, lane_hash, merge_streams, order_bytes};
use super::record::{LaneRecord, Schedule, Waiting};
use super::words::{Admission, Admitted, Ended, JobId, KeptFault, Next, Outcome, Settled, Settlement};
use crate::model::fault::Fault;
use crate::model::job::{ChangeKind, Job, Origin};
use crate::model::object::{Key, TargetId, Timestamp};

/// Jobs kept in the lane's own record.
const INLINE: usize = 4;
/// Jobs that a claimed lane carries at most.
pub(super) const LANE_JOBS: usize = 1_000;
/// Waiting lanes whose time has come that one claim puts back, so that no batch grows beyond measure.
const PROMOTED: usize = 256;
/// Entries of an index read at a time.
const STRIDE: usize = 64;

/// Lanes that wait for another try, of which it is looked up whether an event asked for them.
const DEFERRED_LOOKED_AT: usize = 256;
/// The class of lanes that an event has asked for.
const LIVE: u8 = 0;

/// Whether an event has asked for the lane.
fn is_live(lane: &LaneRecord) -> bool {
    lane.crowd_events > 0 || lane.jobs.iter().any(|waiting| waiting.job.origin == Origin::Event)
}

/// What comes of an admitted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// It is, or will be, handed out.
    Work,
    /// The brake holds it.
    Nothing,
}

/// A lane with its number.
pub(super) type Numbered = (u64, LaneRecord);

impl View<'_> {
    pub(super) fn lane(&self, id: u64) -> Result<Option<LaneRecord>, Fault> {
        self.record(&Table::Lane.key().id(id).end())
    }

    /// The lane of a target key. Lanes of other keys under the same hash are passed over.
    pub(super) fn find_lane(&self, target: &TargetId, target_key: &Key) -> Result<Option<Numbered>, Fault> {
        let hash = lane_hash(target, target_key);
        for (key, _) in self.pages.under(&Table::LaneByName.key().long(hash).end(), usize::MAX)? {
            let mut fields = Fields::of(&key);
            fields.long()?;
            let id = fields.id()?;
            if let Some(lane) = self.lane(id)?
                && lane.target == *target
                && lane.target_key == *target_key
            {
                return Ok(Some((id, lane)));
            }
        }
        Ok(None)
    }

    /// The first jobs of a lane in source order.
    pub(super) fn source_order(&self, id: u64, lane: &LaneRecord, limit: usize) -> Result<Vec<Waiting>, Fault> {
        let stream = |number: u8| -> Result<Vec<Waiting>, Fault> {
            let belongs = |waiting: &&Waiting| waiting.job.sequencer.is_some() == (number == SEQUENCED);
            let mut jobs: Vec<Waiting> = lane.jobs.iter().filter(belongs).cloned().collect();
            if lane.crowd > 0 {
                for (_, value) in self.pages.under(&Table::Crowd.key().id(id).byte(number).end(), limit)? {
                    jobs.push(self.decode(&value)?);
                }
            }
            jobs.sort_by_cached_key(|waiting| order_bytes(&waiting.job, waiting.id));
            Ok(jobs)
        };
        let mut merged = merge_streams(stream(SEQUENCED)?, stream(UNSEQUENCED)?, |waiting: &Waiting| {
            (waiting.job.changed, waiting.id)
        });
        merged.truncate(limit);
        Ok(merged)
    }

    /// A pending job of that identity, with a number of at least `fence`.
    fn same_work(&self, id: u64, lane: &LaneRecord, job: &Job, fence: u64) -> Result<Option<Waiting>, Fault> {
        let same = |waiting: &Waiting| waiting.id >= fence && waiting.job.same_work(job);
        if let Some(found) = lane.jobs.iter().find(|waiting| same(waiting)) {
            return Ok(Some(found.clone()));
        }
        if lane.crowd == 0 {
            return Ok(None);
        }
        let prefix = Table::CrowdSame.key().id(id).group(identity_hash(job)).end();
        for (key, _) in self.pages.under(&prefix, usize::MAX)? {
            let order = key.get(prefix.len()..).unwrap_or_default();
            let waiting = self.record::<Waiting>(&Table::Crowd.key().id(id).raw(order).end())?;
            if let Some(waiting) = waiting.filter(same) {
                return Ok(Some(waiting));
            }
        }
        Ok(None)
    }

    fn oldest_change(&self, id: u64, lane: &LaneRecord) -> Result<Option<Timestamp>, Fault> {
        let own = lane.jobs.iter().map(|waiting| waiting.job.changed).min();
        if lane.crowd == 0 {
            return Ok(own);
        }
        let Some((key, _)) = self.pages.first(&Table::CrowdAge.key().id(id).end())? else { return Ok(own) };
        let mut fields = Fields::of(&key);
        fields.id()?;
        let crowd = fields.time()?;
        Ok(Some(own.map_or(crowd, |own| own.min(crowd))))
    }

    /// The oldest change among all pending jobs.
    pub(super) fn oldest_pending(&self) -> Result<Option<Timestamp>, Fault> {
        let mut oldest: Option<Timestamp> = None;
        let ready = CLASSES.map(|class| (Table::Ready.key().byte(class).end(), 1));
        for (prefix, skip) in ready.into_iter().chain([(Table::Age.all(), 0)]) {
            if let Some((key, _)) = self.pages.first(&prefix)? {
                let mut fields = Fields::of(&key);
                for _ in 0..skip {
                    fields.byte()?;
                }
                let changed = fields.time()?;
                oldest = Some(oldest.map_or(changed, |other| other.min(changed)));
            }
        }
        Ok(oldest)
    }

    /// The oldest change among pending jobs of lanes that an event has asked for. Of the lanes that wait for another
    /// try only the oldest are looked at.
    pub(super) fn oldest_live(&self) -> Result<Option<Timestamp>, Fault> {
        let mut oldest = None;
        let live = Table::Ready.key().byte(LIVE).end();
        if let Some((key, _)) = self.pages.first(&live)? {
            let mut fields = Fields::of(&key);
            fields.byte()?;
            oldest = Some(fields.time()?);
        }
        for (key, _) in self.pages.under(&Table::Age.all(), DEFERRED_LOOKED_AT)? {
            let mut fields = Fields::of(&key);
            let (changed, id) = (fields.time()?, fields.id()?);
            if oldest.is_some_and(|oldest| oldest <= changed) {
                break;
            }
            if self.lane(id)?.is_some_and(|lane| is_live(&lane)) {
                return Ok(Some(changed));
            }
        }
        Ok(oldest)
    }

    /// The earliest time for which a lane waits.
    pub(super) fn next_due_lane(&self) -> Result<Option<Timestamp>, Fault> {
        let Some((key, _)) = self.pages.first(&Table::Due.all())? else { return Ok(None) };
        Fields::of(&key).time().map(Some)
    }
}

fn ready_key(class: u8, changed: Timestamp, lane: u64) -> Vec<u8> {
    Table::Ready.key().byte(class).time(changed).id(lane).end()
}

/// The keys of one crowd job: its record, and its entries by identity and by age.
fn crowd_keys(lane: u64, waiting: &Waiting) -> [Vec<u8>; 3] {
    let order = order_bytes(&waiting.job, waiting.id);
    [
        Table::Crowd.key().id(lane).raw(&order).end(),
        Table::CrowdSame.key().id(lane).group(identity_hash(&waiting.job)).raw(&order).end(),
        Table::CrowdAge.key().id(lane).time(waiting.job.changed).id(waiting.id).end(),
    ]
}

impl Book<'_> {
    /// Admits jobs, quarantine, reasons and cursor as one.
    pub(super) fn admit(&mut self, admission: Admission) -> Result<Admitted, Fault> {
        let Admission { jobs, quarantined, understood, ignored, cursor, now } = admission;
        let before = self.state.tally.totals.admitted;
        let (mut ids, mut held) = (Vec::with_capacity(jobs.len()), Vec::new());
        for job in jobs {
            let (id, follows) = self.admit_job(job, now)?;
            ids.push(id);
            held.extend((follows == Follows::Nothing).then_some(id));
        }
        let mut turned_away = Vec::new();
        for message in quarantined {
            if !self.quarantine(&message)? {
                turned_away.push(message.message_id);
            }
        }
        self.leave_quarantine(&understood)?;
        for record in ignored {
            self.note_ignored(record, now)?;
        }
        if let Some((name, cursor)) = cursor {
            self.set_cursor(&name, &cursor)?;
        }
        Ok(Admitted { ids, new: self.state.tally.totals.admitted - before, turned_away, held })
    }

    fn admit_job(&mut self, job: Job, now: Timestamp) -> Result<(JobId, Follows), Fault> {
        self.enter_names(&job)?;
        self.tell_event(&job, now)?;
        let hash = lane_hash(&job.target, &job.target_key);
        let holder = self.state.live.holder(hash);
        if job.kind == ChangeKind::Restored {
            self.release_archived(hash, &job)?;
        }
        self.unhold_before(&job)?;
        let lane = self.view.find_lane(&job.target, &job.target_key)?;
        if let Some((id, lane)) = &lane
            && let Some(same) = self.view.same_work(*id, lane, &job, holder.map_or(0, |holder| holder.fence))?
        {
            self.merge(*id, lane.clone(), &same, &job)?;
            return Ok((JobId(same.id), Follows::Work));
        }
        if let Some((id, follows)) = self.release_same(hash, &job, holder.and_then(|holder| holder.probe))? {
            return Ok((JobId(id), follows));
        }
        let id = self.state.tally.next_job;
        self.state.tally.next_job += 1;
        self.state.tally.totals.admitted += 1;
        let waiting =
            Waiting { id, job, attempts: 0, not_before: Timestamp(0), last_kind: None, fault: None, cleared: false };
        self.insert_pending(lane, waiting)?;
        Ok((JobId(id), Follows::Work))
    }

    /// What a second telling of the same work adds: a live one makes a scan's job live.
    fn merge(&mut self, id: u64, mut lane: LaneRecord, known: &Waiting, job: &Job) -> Result<(), Fault> {
        let mut merged = known.clone();
        merged.job.rule = job.rule.clone();
        merged.job.sequencer = merged.job.sequencer.or_else(|| job.sequencer.clone());
        merged.job.etag = merged.job.etag.or_else(|| job.etag.clone());
        merged.job.size = merged.job.size.or(job.size);
        merged.job.changed = merged.job.changed.min(job.changed);
        if job.origin == Origin::Event {
            merged.job.origin = Origin::Event;
        }
        if merged == *known {
            return Ok(());
        }
        self.remove_from(id, &mut lane, known)?;
        self.insert_into(id, &mut lane, merged)?;
        self.save_lane(id, lane)
    }

    /// Puts a job into its lane, which is made where there is none.
    pub(super) fn insert_pending(&mut self, lane: Option<Numbered>, waiting: Waiting) -> Result<(), Fault> {
        let (id, mut lane) = match lane {
            Some(found) => found,
            None => self.new_lane(&waiting.job)?,
        };
        self.insert_into(id, &mut lane, waiting)?;
        self.save_lane(id, lane)
    }

    fn new_lane(&mut self, job: &Job) -> Result<Numbered, Fault> {
        let id = self.state.tally.next_lane;
        self.state.tally.next_lane += 1;
        let hash = lane_hash(&job.target, &job.target_key);
        self.view.pages.put(Table::LaneByName.key().long(hash).id(id).end(), Vec::new())?;
        let lane = LaneRecord {
            target: job.target.clone(),
            target_key: job.target_key.clone(),
            schedule: Schedule::Nowhere,
            crowd: 0,
            crowd_events: 0,
            jobs: Vec::new(),
        };
        Ok((id, lane))
    }

    fn insert_into(&mut self, id: u64, lane: &mut LaneRecord, waiting: Waiting) -> Result<(), Fault> {
        self.count_pending(&waiting.job);
        if lane.jobs.len() < INLINE {
            lane.jobs.push(waiting);
            return Ok(());
        }
        lane.crowd += 1;
        lane.crowd_events += u64::from(waiting.job.origin == Origin::Event);
        let [record, same, age] = crowd_keys(id, &waiting);
        self.put(record, &waiting)?;
        self.view.pages.put(same, Vec::new())?;
        self.view.pages.put(age, Vec::new())
    }

    fn remove_from(&mut self, id: u64, lane: &mut LaneRecord, waiting: &Waiting) -> Result<(), Fault> {
        self.uncount_pending(&waiting.job);
        if let Some(at) = lane.jobs.iter().position(|other| other.id == waiting.id) {
            lane.jobs.remove(at);
            return Ok(());
        }
        lane.crowd = lane.crowd.saturating_sub(1);
        lane.crowd_events = lane.crowd_events.saturating_sub(u64::from(waiting.job.origin == Origin::Event));
        for key in crowd_keys(id, waiting) {
            self.view.pages.remove(&key)?;
        }
        Ok(())
    }

    /// The pending job of a claim as the ledger has it now.
    pub(super) fn find_pending(&self, claim: &Waiting) -> Result<Option<(Numbered, Waiting)>, Fault> {
        let job = &claim.job;
        let Some((id, lane)) = self.view.find_lane(&job.target, &job.target_key)? else { return Ok(None) };
        let number = claim.id;
        let found = match lane.jobs.iter().find(|waiting| waiting.id == number) {
            Some(own) => Some(own.clone()),
            None => {
                let [record, _, _] = crowd_keys(id, claim);
                self.view.record::<Waiting>(&record)?
            }
        };
        Ok(found.map(|waiting| ((id, lane), waiting)))
    }

    /// Takes the job of a claim out of its lane; `None` when it is not pending (any more).
    pub(super) fn take_pending(&mut self, claim: &Waiting) -> Result<Option<Waiting>, Fault> {
        let Some(((id, mut lane), waiting)) = self.find_pending(claim)? else { return Ok(None) };
        self.remove_from(id, &mut lane, &waiting)?;
        self.save_lane(id, lane)?;
        Ok(Some(waiting))
    }

    /// Writes a lane, or removes it when it is empty, and enters it in the indexes where it belongs now.
    pub(super) fn save_lane(&mut self, id: u64, mut lane: LaneRecord) -> Result<(), Fault> {
        let hash = lane_hash(&lane.target, &lane.target_key);
        let schedule = self.schedule(id, &lane)?;
        if schedule != lane.schedule {
            self.leave_indexes(id, lane.schedule)?;
            self.enter_indexes(id, schedule)?;
            lane.schedule = schedule;
            let ready = match schedule {
                Schedule::Ready(class, changed) => Some((class, ready_key(class, changed, id))),
                Schedule::Due(..) | Schedule::Nowhere => None,
            };
            self.state.live.scheduled(hash, id, ready);
        }
        let key = Table::Lane.key().id(id).end();
        if lane.jobs.is_empty() && lane.crowd == 0 {
            self.view.pages.remove(&key)?;
            return self.view.pages.remove(&Table::LaneByName.key().long(hash).id(id).end());
        }
        self.put(key, &lane)
    }

    fn schedule(&self, id: u64, lane: &LaneRecord) -> Result<Schedule, Fault> {
        let first = self.view.source_order(id, lane, 1)?.pop();
        let (Some(first), Some(oldest)) = (first, self.view.oldest_change(id, lane)?) else {
            return Ok(Schedule::Nowhere);
        };
        if first.not_before.0 > 0 {
            return Ok(Schedule::Due(first.not_before, oldest));
        }
        Ok(Schedule::Ready(u8::from(!is_live(lane)), oldest))
    }

    fn enter_indexes(&mut self, id: u64, schedule: Schedule) -> Result<(), Fault> {
        match schedule {
            Schedule::Nowhere => Ok(()),
            Schedule::Ready(class, changed) => self.view.pages.put(ready_key(class, changed, id), Vec::new()),
            Schedule::Due(at, oldest) => {
                self.view.pages.put(Table::Due.key().time(at).id(id).end(), Vec::new())?;
                self.view.pages.put(Table::Age.key().time(oldest).id(id).end(), Vec::new())
            }
        }
    }

    fn leave_indexes(&mut self, id: u64, schedule: Schedule) -> Result<(), Fault> {
        match schedule {
            Schedule::Nowhere => Ok(()),
            Schedule::Ready(class, changed) => self.view.pages.remove(&ready_key(class, changed, id)),
            Schedule::Due(at, oldest) => {
                self.view.pages.remove(&Table::Due.key().time(at).id(id).end())?;
                self.view.pages.remove(&Table::Age.key().time(oldest).id(id).end())
            }
        }
    }

    /// Hands out up to `most` lanes: probes that are due take at most a quarter, then live work, then scans.
    pub(super) fn claim(&mut self, now: Timestamp, most: usize) -> Result<Vec<Lane>, Fault> {
        self.promote(now)?;
        let mut lanes = Vec::new();
        self.claim_probes(now, most.div_ceil(4), &mut lanes)?;
        for class in CLASSES {
            self.claim_class(class, now, most, &mut lanes)?;
        }
        Ok(lanes)
    }

    fn promote(&mut self, now: Timestamp) -> Result<(), Fault> {
        let end = Table::Due.key().long(now.0.saturating_add(1)).end();
        for (key, _) in self.view.pages.scan(&Table::Due.all(), &end, PROMOTED)? {
            let mut fields = Fields::of(&key);
            fields.time()?;
            let id = fields.id()?;
            let Some(mut lane) = self.view.lane(id)? else { continue };
            if let Some(mut first) = self.view.source_order(id, &lane, 1)?.pop() {
                first.not_before = Timestamp(0);
                self.update_in(id, &mut lane, first)?;
            }
            self.save_lane(id, lane)?;
        }
        Ok(())
    }

    /// Replaces a pending job by itself with other attempts, time or fault.
    pub(super) fn update_in(&mut self, id: u64, lane: &mut LaneRecord, waiting: Waiting) -> Result<(), Fault> {
        if let Some(own) = lane.jobs.iter_mut().find(|own| own.id == waiting.id) {
            *own = waiting;
            return Ok(());
        }
        let [record, _, _] = crowd_keys(id, &waiting);
        self.put(record, &waiting)
    }

    fn claim_class(&mut self, class: u8, now: Timestamp, most: usize, lanes: &mut Vec<Lane>) -> Result<(), Fault> {
        let end = Table::Ready.key().byte(class + 1).end();
        let start = Table::Ready.key().byte(class).end();
        let mut position = self.state.live.begin_look(class).max(start);
        while lanes.len() < most {
            let entries = self.view.pages.scan(&position, &end, STRIDE)?;
            let last_stride = entries.len() < STRIDE;
            for (key, _) in entries {
                if lanes.len() == most {
                    break;
                }
                position.clone_from(&key);
                position.push(0);
                lanes.extend(self.claim_entry(&key, now)?);
            }
            if last_stride {
                break;
            }
        }
        self.state.live.end_look(class, position);
        Ok(())
    }

    fn claim_entry(&mut self, key: &[u8], now: Timestamp) -> Result<Option<Lane>, Fault> {
        let mut fields = Fields::of(key);
        let class = fields.byte()?;
        fields.time()?;
        let id = fields.id()?;
        if self.state.live.is_busy_lane(id) {
            return Ok(None);
        }
        let Some(lane) = self.view.lane(id)? else {
            return Err(ledger_fault("read the ledger", format!("lane {id} is indexed but missing: it is damaged")));
        };
        let hash = lane_hash(&lane.target, &lane.target_key);
        let hold = self.state.live.hold(hash, self.state.tally.next_job, None);
        // Whether taken now or busy under the same hash: when the holder goes, this entry must be found again.
        self.state.live.scheduled(hash, id, Some((class, key.to_vec())));
        let Some(hold) = hold else { return Ok(None) };
        let mut jobs = self.view.source_order(id, &lane, LANE_JOBS)?;
        let behind = jobs.iter().skip(1).position(|waiting| waiting.not_before > now);
        jobs.truncate(behind.map_or(jobs.len(), |at| at + 1));
        Ok(Some(Lane { target: lane.target, target_key: lane.target_key, jobs: jobs.into(), hold, probe: None }))
    }

    /// Puts a job off. A probe goes back into its group without a verdict on the cause.
    pub(super) fn defer(
        &mut self,
        claim: &Claim,
        not_before: Timestamp,
        (fault, now): (&Fault, Timestamp),
    ) -> Result<(), Fault> {
        let fault = KeptFault::of(fault);
        self.tell_failure(claim.job(), (&fault, now), Next::Retry(not_before))?;
        let Some(((id, mut lane), mut waiting)) = self.find_pending(&claim.waiting)? else {
            return self.defer_probe(claim, not_before);
        };
        waiting.attempts = waiting.attempts.saturating_add(1);
        waiting.not_before = not_before;
        waiting.last_kind = Some(fault.kind);
        waiting.fault = Some(fault);
        self.update_in(id, &mut lane, waiting)?;
        self.save_lane(id, lane)
    }

    /// Ends jobs.
    pub(super) fn settle(&mut self, claims: &[Claim], settlement: &Settlement) -> Result<Settled, Fault> {
        let mut bytes = settlement.bytes;
        for claim in claims.iter().rev() {
            self.settle_one(claim, settlement, bytes)?;
            bytes = 0;
        }
        if let Some(claim) = claims.last() {
            let job = claim.job();
            self.enter_names(job)?;
            if let Some(applied) = &settlement.applied {
                self.remember_applied(&job.target, &job.target_key, applied)?;
            }
            if settlement.replicas.last().is_some_and(|replica| replica.target_version.is_none()) {
                self.forget_replaced(&job.target, &job.target_key)?;
            }
            for replica in &settlement.replicas {
                self.remember_replica(&job.target, &job.target_key, replica)?;
            }
            let totals = &mut self.state.tally.totals;
            totals.unprovable += u64::from(!settlement.provable);
        }
        let lag = claims.first().map_or(Duration::ZERO, |claim| settlement.now.since(claim.job().changed));
        Ok(Settled { ids: claims.iter().map(Claim::id).collect(), lag })
    }

    fn settle_one(&mut self, claim: &Claim, settlement: &Settlement, bytes: u64) -> Result<(), Fault> {
        if self.take_pending(&claim.waiting)?.is_none() && !self.take_probe(claim, &settlement.outcome)? {
            // Dropped by an operator while it was out: counted then.
            return Ok(());
        }
        self.tell_end((claim.job(), claim.attempts()), &settlement.outcome, settlement.now)?;
        let totals = &mut self.state.tally.totals;
        match &settlement.outcome {
            Outcome::Replicated => {
                totals.replicated.add(bytes);
                self.rule_totals(claim.job()).replicated.add(bytes);
            }
            Outcome::AlreadyEqual => totals.already_equal += 1,
            Outcome::Superseded => totals.superseded += 1,
            Outcome::Gone => totals.gone += 1,
            Outcome::NotReplicated(reason) => {
                totals.not_replicated += 1;
                self.note_reason(claim.job(), reason, settlement.now)?;
            }
        }
        Ok(())
    }

    /// Puts a parked job back among the pending ones; the same work already there makes it needless, unless that is out:
    /// it may have read what was before.
    pub(super) fn revive(&mut self, mut waiting: Waiting) -> Result<(), Fault> {
        waiting.not_before = Timestamp(0);
        let holder = self.state.live.holder(lane_hash(&waiting.job.target, &waiting.job.target_key));
        let fence = holder.map_or(0, |holder| holder.fence);
        let lane = self.view.find_lane(&waiting.job.target, &waiting.job.target_key)?;
        if let Some((id, lane)) = &lane
            && let Some(same) = self.view.same_work(*id, lane, &waiting.job, fence)?
        {
            self.state.tally.totals.superseded += 1;
            self.state.ended.push(Ended { id: JobId(waiting.id), into: Some(JobId(same.id)) });
            return Ok(());
        }
        self.insert_pending(lane, waiting)
    }
}
