//! Who works on what: the part of the ledger that lives in memory only, bounded by the number of live lanes.
//!
//! *Secret kept:* how a target key stays exclusive (I5). A key is busy from the claim of its lane until the lane and
//! every claim taken from it are gone, whatever became of them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::Waiting;
use super::words::{GroupId, JobId};
use crate::model::fault::FaultKind;
use crate::model::job::Job;
use crate::model::object::{Key, TargetId};

/// Live jobs go before those of a scan.
pub(super) const CLASSES: [u8; 2] = [0, 1];

/// A parked job that is out to find out whether its cause is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// The group that has only one probe at a time; `None` where each job is probed for itself.
    pub(super) group: Option<u32>,
    pub(super) job: u64,
}

/// One busy target key.
#[derive(Debug, Default)]
struct Busy {
    /// Jobs below this number may have been read by the holder.
    fence: u64,
    /// The parked job that is out as a probe.
    probe: Option<Probe>,
    /// Entries of `Ready` that cannot be claimed before this key is free, by lane number.
    ready: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Claimed {
    busy: HashMap<u64, Busy>,
    lanes: HashSet<u64>,
    probing: HashSet<u32>,
    /// For each class: every entry of `Ready` below belongs to a busy key.
    positions: [Vec<u8>; CLASSES.len()],
    /// For each class: the lowest entry freed or added since the last look began.
    freed: [Option<Vec<u8>>; CLASSES.len()],
}

impl Claimed {
    fn lower(&mut self, class: u8, key: &[u8]) {
        if let Some(position) = self.positions.get_mut(usize::from(class))
            && key < position.as_slice()
        {
            *position = key.to_vec();
        }
        if let Some(freed) = self.freed.get_mut(usize::from(class))
            && freed.as_deref().is_none_or(|other| key < other)
        {
            *freed = Some(key.to_vec());
        }
    }
}

/// Everything that is claimed now.
#[derive(Debug, Default)]
pub(super) struct Live {
    claimed: Mutex<Claimed>,
    in_flight: AtomicU64,
    /// Jobs below this number were there when the ledger was opened.
    first: u64,
}

/// What admission must know of a busy key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) fence: u64,
    pub(super) probe: Option<u64>,
}

impl Live {
    /// Nothing is claimed yet; jobs from `first` on are of this opening.
    pub(super) fn beginning_with(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    fn claimed(&self) -> MutexGuard<'_, Claimed> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims that are out now.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn holder(&self, hash: u64) -> Option<Holder> {
        let claimed = self.claimed();
        let busy = claimed.busy.get(&hash)?;
        Some(Holder { fence: busy.fence, probe: busy.probe.map(|probe| probe.job) })
    }

    pub(super) fn is_probing(&self, group: u32) -> bool {
        self.claimed().probing.contains(&group)
    }

    /// Begins a look for work of a class: where to start, empty for its start.
    pub(super) fn begin_look(&self, class: u8) -> Vec<u8> {
        let mut claimed = self.claimed();
        if let Some(freed) = claimed.freed.get_mut(usize::from(class)) {
            *freed = None;
        }
        claimed.positions.get(usize::from(class)).cloned().unwrap_or_default()
    }

    /// Ends a look: everything of the class below `key` is busy, but for what was freed meanwhile.
    pub(super) fn end_look(&self, class: u8, key: Vec<u8>) {
        let mut claimed = self.claimed();
        let freed = claimed.freed.get_mut(usize::from(class)).and_then(Option::take);
        if let Some(position) = claimed.positions.get_mut(usize::from(class)) {
            *position = freed.map_or(key.clone(), |freed| freed.min(key));
        }
    }

    /// Whether this lane is known to be busy.
    pub(super) fn is_busy_lane(&self, lane: u64) -> bool {
        self.claimed().lanes.contains(&lane)
    }

    /// A lane was entered in `Ready`, or (`None`) is there no longer.
    pub(super) fn scheduled(&self, hash: u64, lane: u64, ready: Option<(u8, Vec<u8>)>) {
        let mut claimed = self.claimed();
        let Some(busy) = claimed.busy.get_mut(&hash) else {
            if let Some((class, key)) = ready {
                claimed.lower(class, &key);
            }
            return;
        };
        match ready {
            Some((_, key)) => {
                busy.ready.insert(lane, key);
                claimed.lanes.insert(lane);
            }
            None => {
                busy.ready.remove(&lane);
                claimed.lanes.remove(&lane);
            }
        }
    }

    /// Takes a free key; `None` when it is busy.
    pub(super) fn hold(self: &Arc<Self>, hash: u64, fence: u64, probe: Option<Probe>) -> Option<Arc<Hold>> {
        let mut claimed = self.claimed();
        if claimed.busy.contains_key(&hash) {
            return None;
        }
        claimed.busy.insert(hash, Busy { fence, probe, ready: BTreeMap::new() });
        claimed.probing.extend(probe.and_then(|probe| probe.group));
        Some(Arc::new(Hold { live: Arc::clone(self), hash }))
    }
}

/// The exclusive right to one target key; given back when the last clone goes.
#[derive(Debug)]
pub(super) struct Hold {
    live: Arc<Live>,
    hash: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut claimed = self.live.claimed();
        let Some(busy) = claimed.busy.remove(&self.hash) else { return };
        if let Some(group) = busy.probe.and_then(|probe| probe.group) {
            claimed.probing.remove(&group);
        }
        for (lane, key) in busy.ready {
            claimed.lanes.remove(&lane);
            // The class is the first byte behind the table's.
            claimed.lower(key.get(1).copied().unwrap_or(0), &key);
        }
    }
}

/// The exclusive right to one key of one target, with the jobs that wait for it in source order, at most 1,000.
/// Dropping it gives the key and every job not settled back.
#[derive(Debug)]
#[must_use = "dropping a lane gives its jobs back"]
pub struct Lane {
    pub(super) target: TargetId,
    pub(super) target_key: Key,
    pub(super) jobs: VecDeque<Waiting>,
    pub(super) hold: Arc<Hold>,
    pub(super) probe: Option<GroupId>,
}

impl Lane {
    /// Where to.
    #[must_use]
    pub fn target(&self) -> &TargetId {
        &self.target
    }

    /// The key at the target.
    #[must_use]
    pub fn target_key(&self) -> &Key {
        &self.target_key
    }

    /// The jobs not taken yet, in source order.
    pub fn waiting(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().map(|waiting| &waiting.job)
    }

    /// Takes every job left, in source order.
    pub fn take_all(&mut self) -> Vec<Claim> {
        self.by_ref().collect()
    }
}

/// The jobs not taken yet, in source order, each as it is taken.
impl Iterator for Lane {
    type Item = Claim;

    fn next(&mut self) -> Option<Claim> {
        let waiting = self.jobs.pop_front()?;
        self.hold.live.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Claim { waiting, probe: self.probe, hold: Arc::clone(&self.hold) })
    }
}

/// The right, and the duty, to do one job. Dropped, the job is still to do; its key stays with the lane that it came
/// from until that lane and its other claims are gone too.
#[derive(Debug)]
#[must_use = "a dropped claim means: still to do"]
pub struct Claim {
    pub(super) waiting: Waiting,
    probe: Option<GroupId>,
    hold: Arc<Hold>,
}

impl Claim {
    /// The job's number.
    #[must_use]
    pub fn id(&self) -> JobId {
        JobId(self.waiting.id)
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.waiting.job
    }

    /// Attempts that failed before this one.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.waiting.attempts
    }

    /// Whether the job may have been done before, in part or whole: an attempt failed, or it is older than this opening
    /// of the ledger, and a worker that was killed leaves no word of what it had under way.
    #[must_use]
    pub fn may_repeat(&self) -> bool {
        self.waiting.attempts > 0 || self.waiting.id < self.hold.live.first
    }

    /// Why the last attempt failed.
    #[must_use]
    pub fn last_fault(&self) -> Option<FaultKind> {
        self.waiting.last_kind
    }

    /// The parked group that this claim was taken out of, to find out whether its cause is gone.
    #[must_use]
    pub fn probes(&self) -> Option<GroupId> {
        self.probe
    }

    /// What the claim is about, without the right to do it.
    pub(super) fn subject(&self) -> Waiting {
        self.waiting.clone()
    }

    pub(super) fn hash(&self) -> u64 {
        self.hold.hash
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.hold.live.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
