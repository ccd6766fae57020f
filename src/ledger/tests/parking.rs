//! Parked jobs: groups, probes, ways back (P9).

use super::*;

fn of(kind: FaultKind, code: &'static str) -> Fault {
    Fault { code: Some(code.into()), ..fault(kind) }
}

/// Admits jobs and parks all of them with one fault.
async fn parked(ledger: &Ledger, jobs: Vec<Job>, fault: &Fault, now: Timestamp) {
    ledger.admit(work(jobs)).await.unwrap();
    for mut lane in all(ledger, now).await {
        for claim in lane.take_all() {
            assert_eq!(claim.probes(), None);
            ledger.park(claim, fault, now).await.unwrap();
        }
    }
}

fn many(count: u64) -> Vec<Job> {
    (0..count).map(|n| job(&format!("k{n:04}"), "1", n)).collect()
}

#[tokio::test]
async fn parked_jobs_stand_in_groups_by_cause() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(3), &of(FaultKind::Denied, "AccessDenied"), at(10)).await;
    parked(&ledger, vec![job("x", "1", 9)], &of(FaultKind::Denied, "ExpiredToken"), at(20)).await;
    let other = Job { rule: RuleId::new("gold"), ..job("y", "1", 9) };
    parked(&ledger, vec![other], &of(FaultKind::Denied, "AccessDenied"), at(20)).await;
    let groups = ledger.groups().unwrap();
    assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [3, 1, 1]);
    let first = &groups[0];
    assert_eq!((first.kind, first.side, first.bytes), (FaultKind::Denied, Side::Target, 30));
    assert_eq!((first.oldest, first.example.as_str()), (at(0), "k0000"));
    assert_eq!((first.next_probe, first.probes), (at(40), 0));
    assert_eq!(first.cause, "denied (AccessDenied) at the target, target dr, rule all");
    assert_eq!((first.during.as_str(), first.fault.detail.as_str()), ("write object", "no"));
    assert_eq!(ledger.oldest_pending().unwrap(), None, "parked jobs are not pending ones");
    assert_eq!(ledger.next_due().unwrap(), Some(at(40)));
    let totals = ledger.totals();
    assert_eq!((totals.parked, totals.pending), (Count { operations: 5, bytes: 50 }, Count::default()));
    balanced(&totals);
}

#[tokio::test]
async fn a_parked_job_holds_up_nobody() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, vec![job("a", "1", 1)], &fault(FaultKind::Denied), at(10)).await;
    ledger.admit(work(vec![job("a", "2", 2)])).await.unwrap();
    assert_eq!(versions(&all(&ledger, at(11)).await[0]), ["2"]);
}

/// P1: told again while the same work is out, which may have read what was before, a parked job goes back and is not taken
/// for done with it.
#[tokio::test]
async fn a_parked_job_goes_back_though_the_same_work_is_out() {
    let ledger = on(&MemoryKv::new());
    let told = async || ledger.admit(work(vec![job("a", "1", 1)])).await.unwrap().ids[0];
    parked(&ledger, vec![job("a", "1", 1)], &fault(FaultKind::Denied), at(0)).await;
    let mut probing = all(&ledger, at(30)).await.remove(0);
    let probe = probing.next().unwrap();
    assert_ne!(told().await, probe.id(), "a probe may have read what was before");
    ledger.park(probe, &fault(FaultKind::Denied), at(31)).await.unwrap();
    drop(probing);
    let mut lane = all(&ledger, at(32)).await.remove(0);
    let claim = lane.next().unwrap();
    let third = told().await;
    assert_ne!(third, claim.id(), "so may this");
    ledger.settle(vec![claim], done(at(33))).await.unwrap();
    drop(lane);
    let again = all(&ledger, at(34)).await.remove(0).next().unwrap();
    assert_eq!((again.id(), again.probes()), (third, None));
    balanced(&ledger.totals());
}

#[tokio::test]
async fn one_probe_at_a_time_waits_longer_after_each_failure() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(3), &fault(FaultKind::Denied), at(0)).await;
    let mut now = 30;
    assert!(all(&ledger, at(now - 1)).await.is_empty());
    for wait in [60, 120, 240, 480, 900, 900] {
        let mut lanes = all(&ledger, at(now)).await;
        assert_eq!(lanes.len(), 1);
        let group = ledger.groups().unwrap()[0].id;
        let claim = lanes[0].next().unwrap();
        assert_eq!(claim.probes(), Some(group));
        assert!(all(&ledger, at(now)).await.is_empty(), "one probe at a time");
        assert_eq!(ledger.next_due().unwrap(), None, "nothing to wait for while the probe is out");
        ledger.park(claim, &fault(FaultKind::Denied), at(now)).await.unwrap();
        drop(lanes);
        now += wait;
        assert_eq!(ledger.next_due().unwrap(), Some(at(now)));
        assert_eq!(ledger.groups().unwrap().len(), 1);
        assert!(all(&ledger, at(now - 1)).await.is_empty());
    }
    assert_eq!((ledger.groups().unwrap()[0].probes, ledger.totals().parked.operations), (6, 3));
    balanced(&ledger.totals());
}

#[tokio::test]
async fn a_lone_member_keeps_its_group_and_its_wait() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(1), &fault(FaultKind::Denied), at(0)).await;
    let group = ledger.groups().unwrap()[0].id;
    let claim = all(&ledger, at(30)).await[0].next().unwrap();
    ledger.park(claim, &fault(FaultKind::Denied), at(30)).await.unwrap();
    let after = &ledger.groups().unwrap()[0];
    assert_eq!((after.id, after.probes, after.next_probe), (group, 1, at(90)));
}

#[tokio::test]
async fn a_probe_that_passes_brings_the_group_back() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(500), &fault(FaultKind::KeyUnusable), at(1_000)).await;
    let mut lane = all(&ledger, at(1_030)).await.remove(0);
    ledger.settle(lane.take_all(), done(at(1_030))).await.unwrap();
    drop(lane);
    // The rest comes back some at a time; until then there is something due at once.
    arrived(&ledger).await;
    assert_eq!((ledger.groups().unwrap().len(), ledger.next_due().unwrap()), (0, None));
    let mut lanes = all(&ledger, at(1_030)).await;
    assert_eq!(lanes.len(), 499);
    let claim = lanes[0].next().unwrap();
    assert_eq!((claim.probes(), claim.last_fault()), (None, Some(FaultKind::KeyUnusable)));
    balanced(&ledger.totals());
}

#[tokio::test]
async fn a_probe_whose_object_is_gone_proves_nothing() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(3), &fault(FaultKind::Denied), at(0)).await;
    let claims = all(&ledger, at(30)).await[0].take_all();
    ledger.settle(claims, ended(Outcome::Gone, at(30))).await.unwrap();
    assert_eq!(ledger.totals().parked.operations, 2);
    let mut lanes = all(&ledger, at(30)).await;
    assert_eq!((lanes.len(), lanes[0].next().unwrap().job().key.as_str()), (1, "k0001"));
    balanced(&ledger.totals());
}

#[tokio::test]
async fn a_deferred_or_dropped_probe_comes_again() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(2), &fault(FaultKind::Denied), at(0)).await;
    let claim = all(&ledger, at(30)).await[0].next().unwrap();
    ledger.defer(claim, at(77), &fault(FaultKind::Throttled), at(30)).await.unwrap();
    let group = ledger.groups().unwrap().remove(0);
    assert_eq!((group.count, group.next_probe, group.probes), (2, at(77), 0));
    drop(all(&ledger, at(77)).await);
    assert_eq!(all(&ledger, at(77)).await.len(), 1);
    balanced(&ledger.totals());
}

#[tokio::test]
async fn a_probe_with_another_fault_changes_its_group() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(2), &fault(FaultKind::Denied), at(0)).await;
    let claim = all(&ledger, at(30)).await[0].next().unwrap();
    ledger.park(claim, &fault(FaultKind::KeyUnusable), at(30)).await.unwrap();
    let counts: Vec<_> = ledger.groups().unwrap().iter().map(|g| (g.kind, g.count, g.next_probe)).collect();
    assert_eq!(counts, [(FaultKind::Denied, 1, at(90)), (FaultKind::KeyUnusable, 1, at(60))]);
}

#[tokio::test]
async fn jobs_that_stand_alone_are_probed_each_in_its_time() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, vec![job("a", "1", 1)], &of(FaultKind::Archived, "InvalidObjectState"), at(0)).await;
    parked(&ledger, vec![job("b", "1", 1)], &of(FaultKind::Archived, "Other"), at(60)).await;
    assert_eq!(ledger.groups().unwrap().len(), 1, "shown as one whatever the code");
    assert_eq!(ledger.next_due().unwrap(), Some(at(900)));
    let mut lanes = all(&ledger, at(900)).await;
    assert_eq!(keys(&lanes), ["a"]);
    ledger.park(lanes[0].next().unwrap(), &fault(FaultKind::Archived), at(900)).await.unwrap();
    drop(lanes);
    assert_eq!(ledger.next_due().unwrap(), Some(at(960)), "b waits for its own time");
    let mut lanes = all(&ledger, at(960)).await;
    ledger.settle(lanes[0].take_all(), done(at(960))).await.unwrap();
    drop(lanes);
    assert_eq!(ledger.totals().parked.operations, 1, "one that passes says nothing about the others");
    assert_eq!(ledger.next_due().unwrap(), Some(at(900 + 1_800)));
    let mut now = 900 + 1_800;
    for wait in [3_600, 7_200, 14_400, 21_600, 21_600] {
        let claim = all(&ledger, at(now)).await[0].next().unwrap();
        ledger.park(claim, &fault(FaultKind::Archived), at(now)).await.unwrap();
        now += wait;
        assert_eq!(ledger.next_due().unwrap(), Some(at(now)));
    }
    balanced(&ledger.totals());
}

#[tokio::test]
async fn probes_take_no_more_than_a_quarter() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(40), &fault(FaultKind::Foreign), at(0)).await;
    ledger.admit(work((0..40).map(|n| job(&format!("new{n}"), "1", n)).collect())).await.unwrap();
    let lanes = ledger.claim(at(900), 8).await.unwrap();
    let probes = lanes.into_iter().flat_map(|mut lane| lane.take_all()).filter(|claim| claim.probes().is_some());
    assert_eq!(probes.count(), 2);
}

#[tokio::test]
async fn a_new_event_releases_the_same_work() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, vec![job("a", "1", 1), job("b", "1", 1)], &fault(FaultKind::Denied), at(0)).await;
    let again = ledger.admit(work(vec![job("a", "1", 1)])).await.unwrap();
    assert_eq!(again.new, 0);
    let mut lanes = all(&ledger, at(1)).await;
    assert_eq!((keys(&lanes), lanes[0].next().unwrap().id()), (vec!["a".to_owned()], again.ids[0]));
    assert_eq!(ledger.totals().parked.operations, 1);
    balanced(&ledger.totals());
}

#[tokio::test]
async fn a_new_event_for_a_probe_that_is_out_is_a_new_job() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, vec![job("a", "1", 1)], &fault(FaultKind::Denied), at(0)).await;
    let mut lane = all(&ledger, at(30)).await.remove(0);
    let again = ledger.admit(work(vec![job("a", "1", 1)])).await.unwrap();
    assert_eq!(again.new, 1, "the probe may have read an older state");
    let claim = lane.next().unwrap();
    ledger.park(claim, &fault(FaultKind::Denied), at(30)).await.unwrap();
    drop(lane);
    assert_eq!(ledger.release(&Release::All).await.unwrap(), 1);
    assert_eq!(ledger.totals().superseded, 1, "both are the same work once nobody is at it");
    balanced(&ledger.totals());
    assert_eq!(all(&ledger, at(31)).await[0].take_all().len(), 1);
}

/// With `ack = "settled"` a message waits for its job: every end has to be told, also those that nobody settles.
#[tokio::test]
async fn ends_within_the_ledger_are_told() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(2), &fault(FaultKind::Denied), at(0)).await;
    assert_eq!(ledger.drop_parked(&Release::Key(Key::new("k0000")), at(1)).await.unwrap(), 1);
    assert_eq!(ledger.take_ended(), [], "nobody asked yet, so nothing is kept");
    ledger.watch_ends();
    assert_eq!(ledger.drop_parked(&Release::All, at(2)).await.unwrap(), 1);
    let told = ledger.take_ended();
    assert_eq!(told.iter().map(|ended| ended.into).collect::<Vec<_>>(), [None]);
    assert_eq!(ledger.take_ended(), [], "each once");

    parked(&ledger, vec![job("a", "1", 1)], &fault(FaultKind::Denied), at(0)).await;
    let mut lane = all(&ledger, at(30)).await.remove(0);
    let into = ledger.admit(work(vec![job("a", "1", 1)])).await.unwrap().ids[0];
    let probe = lane.next().unwrap();
    let id = probe.id();
    ledger.park(probe, &fault(FaultKind::Denied), at(30)).await.unwrap();
    drop(lane);
    assert_eq!(ledger.release(&Release::All).await.unwrap(), 1);
    assert_eq!(ledger.take_ended(), [Ended { id, into: Some(into) }], "the same work waits already");
}

#[tokio::test]
async fn a_restored_object_releases_what_was_archived() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, vec![job("a", "1", 1)], &fault(FaultKind::Archived), at(0)).await;
    parked(&ledger, vec![job("a", "2", 2)], &fault(FaultKind::Denied), at(0)).await;
    let restored = Job { kind: ChangeKind::Restored, ..job("a", "1", 9) };
    ledger.admit(work(vec![restored])).await.unwrap();
    let lanes = all(&ledger, at(10)).await;
    assert_eq!(versions(&lanes[0]), ["1", "1"]);
    assert_eq!(ledger.groups().unwrap().iter().map(|group| group.kind).collect::<Vec<_>>(), [FaultKind::Denied]);
    balanced(&ledger.totals());
}

#[tokio::test]
async fn operators_release_and_drop_what_they_name() {
    let ledger = on(&MemoryKv::new());
    let jobs = (0..600).map(|n| job(&format!("{}/{n:03}", if n % 2 == 0 { "even" } else { "odd" }), "1", n)).collect();
    parked(&ledger, jobs, &fault(FaultKind::Denied), at(1_000)).await;
    let one = Release::Key(Key::new("even/004"));
    assert_eq!(ledger.release(&one).await.unwrap(), 1);
    assert_eq!(ledger.release(&one).await.unwrap(), 0);
    assert_eq!(keys(&all(&ledger, at(1_001)).await), ["even/004"]);
    assert_eq!(ledger.release(&Release::Prefix("odd/0".into())).await.unwrap(), 50);
    assert_eq!(ledger.drop_parked(&Release::Prefix("odd/".into()), at(1_003)).await.unwrap(), 250);
    assert_eq!(ledger.drop_parked(&Release::Key(Key::new("even/006")), at(1_003)).await.unwrap(), 1);
    let notes = ledger.story(&Key::new("odd/101")).unwrap().notes;
    assert!(notes[0].reason.contains("dropped by an operator while parked: denied"), "{notes:?}");
    assert_eq!(ledger.groups().unwrap()[0].count, 298);
    let group = ledger.groups().unwrap()[0].id;
    assert_eq!(ledger.release(&Release::Group(GroupId(99))).await.unwrap(), 0);
    assert_eq!(ledger.release(&Release::Group(group)).await.unwrap(), 298);
    assert_eq!(ledger.release(&Release::All).await.unwrap(), 0);
    let totals = ledger.totals();
    assert_eq!((totals.dropped, totals.parked, totals.pending.operations), (251, Count::default(), 349));
    balanced(&totals);
}

#[tokio::test]
async fn a_job_dropped_while_its_probe_is_out_is_counted_once() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, many(1), &fault(FaultKind::Denied), at(0)).await;
    let claims = all(&ledger, at(30)).await[0].take_all();
    assert_eq!(ledger.drop_parked(&Release::All, at(31)).await.unwrap(), 1);
    ledger.settle(claims, done(at(32))).await.unwrap();
    let totals = ledger.totals();
    assert_eq!((totals.dropped, totals.replicated.operations), (1, 0));
    balanced(&totals);
}

#[tokio::test]
async fn a_story_tells_what_is_parked() {
    let ledger = on(&MemoryKv::new());
    parked(&ledger, vec![job("a", "1", 1)], &fault(FaultKind::Denied), at(0)).await;
    ledger.admit(work(vec![job("a", "2", 2)])).await.unwrap();
    let story = ledger.story(&Key::new("a")).unwrap();
    let group = ledger.groups().unwrap()[0].id;
    let told: Vec<_> = story.jobs.iter().map(|c| (c.job.version.as_str(), c.standing, c.attempts)).collect();
    assert_eq!(told, [("2", Standing::Ready, 0), ("1", Standing::Parked(group), 1)]);
    assert_eq!(story.jobs[1].fault.as_ref().unwrap().code.as_deref(), Some("AccessDenied"));
}
