//! Power losses: pass one counts the flushes and batches of a script, pass two cuts the power at every one of them,
//! lets every number of unflushed batches reach the disk, and looks at what a restart finds (P1, P2, P3, I5, I10, I11).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use super::*;

/// What the outside world knows: what was promised, what was asked for.
#[derive(Debug, Default)]
pub(super) struct World {
    /// The keys of jobs whose admission was answered.
    acknowledged: BTreeMap<JobId, String>,
    /// Jobs that were asked to end.
    ended: BTreeSet<JobId>,
    /// Uploads whose note was answered.
    uploads: BTreeSet<String>,
    parked: BTreeSet<JobId>,
    /// Where each fact is written down at once, for those who come after this process.
    testament: Option<std::fs::File>,
}

/// One thing that the world learns.
enum Fact {
    Acknowledged(JobId, String),
    Ended(JobId),
    Upload(String),
    Parked(JobId),
    /// All that was parked comes back.
    Returned,
}

impl World {
    /// A world whose facts are written down in this file.
    pub(super) fn leaving(testament: std::fs::File) -> Self {
        Self { testament: Some(testament), ..Self::default() }
    }

    /// The world as a file has it.
    pub(super) fn left(testament: &str) -> Self {
        let mut world = Self::default();
        let id = |text: &str| JobId(text.parse().unwrap());
        for line in testament.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            world.learn(match *words.as_slice() {
                ["acknowledged", number, key] => Fact::Acknowledged(id(number), key.to_owned()),
                ["ended", number] => Fact::Ended(id(number)),
                ["upload", name] => Fact::Upload(name.to_owned()),
                ["parked", number] => Fact::Parked(id(number)),
                ["returned"] => Fact::Returned,
                ref other => panic!("{other:?}"),
            });
        }
        world
    }

    /// Goes on, and writes its facts down from now on.
    pub(super) fn continues(&mut self, testament: std::fs::File) {
        self.testament = Some(testament);
    }

    pub(super) fn acknowledge(&mut self, id: JobId) {
        self.learn(Fact::Acknowledged(id, String::from("-")));
    }

    pub(super) fn end(&mut self, id: JobId) {
        self.learn(Fact::Ended(id));
    }

    /// Every job that was acknowledged and not asked to end is among these.
    pub(super) fn all_there(&self, there: &BTreeSet<JobId>) {
        let due = self.acknowledged.keys().filter(|id| !self.ended.contains(id));
        let lost: Vec<&JobId> = due.filter(|id| !there.contains(id)).collect();
        assert!(lost.is_empty(), "{} acknowledged jobs are lost: {lost:?}", lost.len());
    }

    fn learn(&mut self, fact: Fact) {
        if let Some(testament) = &mut self.testament {
            let line = match &fact {
                Fact::Acknowledged(id, key) => format!("acknowledged {id} {key}\n"),
                Fact::Ended(id) => format!("ended {id}\n"),
                Fact::Upload(name) => format!("upload {name}\n"),
                Fact::Parked(id) => format!("parked {id}\n"),
                Fact::Returned => "returned\n".to_owned(),
            };
            testament.write_all(line.as_bytes()).unwrap();
        }
        match fact {
            Fact::Acknowledged(id, key) => drop(self.acknowledged.insert(id, key)),
            Fact::Ended(id) => drop(self.ended.insert(id)),
            Fact::Upload(name) => drop(self.uploads.insert(name)),
            Fact::Parked(id) => drop(self.parked.insert(id)),
            Fact::Returned => self.parked.clear(),
        }
    }
}

fn upload(id: &str) -> Upload {
    Upload {
        id: id.to_owned(),
        source_version: VersionId::new("1"),
        source_etag: ETag::new("aa"),
        part_sizes: PartSizes::of(&[5, 5, 1]),
        checksum: None,
        opened: at(1),
        over: None,
    }
}

/// A little of everything. Ends early, and quietly, when the power goes.
pub(super) async fn script(ledger: &Ledger, world: &mut World) -> Result<(), Fault> {
    for round in 0..4_u64 {
        let now = at(1_000 + round * 100);
        let mut jobs: Vec<Job> = (0..4).map(|n| job(&format!("r{round}k{n}"), "1", round * 10 + n)).collect();
        jobs.extend((0..7).map(|n| sequenced("hot", &format!("v{round}.{n}"), round * 10 + n, &format!("{round}{n}"))));
        let cursor = Some(("scan".to_owned(), vec![u8::try_from(round).unwrap()]));
        let admitted = ledger.admit(Admission { cursor, ..work(jobs.clone()) }).await?;
        for (id, job) in admitted.ids.into_iter().zip(jobs) {
            world.learn(Fact::Acknowledged(id, job.key.to_string()));
        }
        for mut lane in ledger.claim(now, 4).await? {
            let claim = lane.next().unwrap();
            let id = claim.id();
            match id.0 % 4 {
                0 => {
                    ledger.note_upload(&claim, &upload(&format!("u{}", id.0))).await?;
                    world.learn(Fact::Upload(format!("u{}", id.0)));
                    ledger.defer(claim, now.plus(Duration::from_secs(50)), &fault(FaultKind::Transient), now).await?;
                }
                1 => {
                    ledger.park(claim, &fault(FaultKind::Denied), now).await?;
                    world.learn(Fact::Parked(id));
                }
                _ => {
                    world.learn(Fact::Ended(id));
                    ledger.settle(vec![claim], done(now)).await?;
                }
            }
        }
    }
    // A probe passes, and its group comes back in pieces.
    for mut lane in ledger.claim(at(5_000), 1).await? {
        let claims = lane.take_all();
        claims.iter().for_each(|claim| world.learn(Fact::Ended(claim.id())));
        world.learn(Fact::Returned);
        ledger.settle(claims, done(at(5_000))).await?;
    }
    ledger.flush().await?;
    ledger.release(&Release::All).await?;
    Ok(())
}

/// What must hold after any restart.
pub(super) async fn check(ledger: &Ledger, world: &World, case: &str) {
    // A release under way at the crash goes on by itself.
    arrived(ledger).await;
    let totals = ledger.totals();
    balanced(&totals);
    let mut there = BTreeSet::new();
    let told: BTreeSet<&String> = world.acknowledged.values().collect();
    for key in told {
        let story = ledger.story(&Key::new(key.as_str())).unwrap();
        there.extend(story.jobs.iter().map(|chapter| chapter.id));
    }
    for id in world.acknowledged.keys() {
        assert!(there.contains(id) || world.ended.contains(id), "{case}: acknowledged job {id} is lost");
    }
    for id in &world.parked {
        assert!(there.contains(id), "{case}: parked job {id} is lost");
    }
    let uploads: BTreeSet<String> = ledger.uploads().unwrap().into_iter().map(|(_, _, upload)| upload.id).collect();
    assert!(uploads.is_superset(&world.uploads), "{case}: {uploads:?}");
    if let Some(cursor) = ledger.cursor("scan").unwrap() {
        let rounds = u64::from(cursor[0]) + 1;
        assert!(totals.admitted >= rounds * 11, "{case}: the cursor is ahead of its jobs");
    }
    // The rest is worked off: one lane of a key at a time, in order, until nothing is left.
    ledger.release(&Release::All).await.unwrap();
    let mut last: BTreeMap<Key, Sequencer> = BTreeMap::new();
    while ledger.totals().pending.operations > 0 {
        let mut lanes = all(ledger, at(9_000)).await;
        assert!(!lanes.is_empty(), "{case}: pending work that nobody can claim: {:?}", ledger.totals());
        let distinct: BTreeSet<&Key> = lanes.iter().map(Lane::target_key).collect();
        assert_eq!(distinct.len(), lanes.len(), "{case}: two lanes of one key");
        for lane in &mut lanes {
            let claims = lane.take_all();
            for claim in &claims {
                if let Some(sequencer) = claim.job().sequencer.clone() {
                    let before = last.insert(claim.job().key.clone(), sequencer.clone());
                    assert!(before.is_none_or(|before| before.compare(&sequencer).is_lt()), "{case}: out of order");
                }
            }
            ledger.settle(claims, done(at(9_000))).await.unwrap();
        }
    }
    balanced(&ledger.totals());
    assert_eq!((ledger.totals().parked, ledger.oldest_pending().unwrap()), (Count::default(), None), "{case}");
}

/// How a run of the script loses its power.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Flush(usize),
    Apply(usize),
}

async fn crash(cut: Cut) {
    let kv = MemoryKv::new();
    match cut {
        Cut::Flush(n) => kv.fail_from_flush(n),
        Cut::Apply(n) => kv.fail_from_apply(n),
    }
    let ledger = on(&kv);
    let mut world = World::default();
    let result = script(&ledger, &mut world).await;
    assert!(result.is_err_and(|fault| fault.kind == FaultKind::Ledger), "{cut:?} cut nothing off");
    drop(ledger);
    for kept in 0..=kv.unflushed() {
        check(&on(&kv.after_crash(kept)), &world, &format!("{cut:?}, {kept} unflushed batches kept")).await;
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_whenever_the_power_goes() {
    let kv = MemoryKv::new();
    let ledger = on(&kv);
    let mut world = World::default();
    script(&ledger, &mut world).await.unwrap();
    let (flushes, applies) = (kv.flushes(), kv.applies());
    check(&on(&kv.after_crash(0)), &world, "no cut").await;
    assert!(flushes > 10 && applies > 20, "the script does something: {flushes} flushes, {applies} batches");
    // The release at the end takes as many batches as it happens to take: leave these two out.
    for n in 1..flushes - 1 {
        crash(Cut::Flush(n)).await;
    }
    for n in 1..applies - 2 {
        crash(Cut::Apply(n)).await;
    }
}

#[tokio::test]
async fn a_release_goes_on_after_a_crash_half_way() {
    const JOBS: u64 = 700;
    let prepared = MemoryKv::new();
    let ledger = on(&prepared);
    ledger.admit(work((0..JOBS).map(|n| job(&format!("k{n:03}"), "1", n)).collect())).await.unwrap();
    for mut lane in all(&ledger, at(1_000)).await {
        ledger.park(lane.next().unwrap(), &fault(FaultKind::Denied), at(1_000)).await.unwrap();
    }
    drop(ledger);
    // Batch 1 marks the group, 2 to 5 move its jobs: each in turn is the last one that is written.
    for last in 1..=5 {
        let kv = prepared.after_crash(0);
        let ledger = on(&kv);
        kv.fail_from_apply(last + 1);
        let released = ledger.release(&Release::All).await;
        assert_eq!(released.is_err(), last < 5, "{last}: {released:?}");
        drop(ledger);
        let kv = kv.after_crash(usize::MAX);
        let ledger = on(&kv);
        arrived(&ledger).await;
        assert_eq!((ledger.totals().pending.operations, ledger.groups().unwrap().len()), (JOBS, 0), "after {last}");
        assert_eq!(all(&ledger, at(2_000)).await.len(), usize::try_from(JOBS).unwrap());
        balanced(&ledger.totals());
    }
}
