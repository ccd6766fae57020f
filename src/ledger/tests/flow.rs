//! Admission, order, claims, settlement.

use proptest::prelude::*;

use super::*;
use crate::model::job::Applied;
use crate::ports::Ignored;

fn applied(version: &str) -> Applied {
    Applied {
        version: VersionId::new(version),
        marker: false,
        source_etag: Some(ETag::new("aa")),
        modified: at(1),
        sequencer: None,
        target_etag: Some(ETag::new("bb")),
        target_version: Some(VersionId::new("t1")),
    }
}

#[tokio::test]
async fn admit_claim_settle() {
    let ledger = on(&MemoryKv::new());
    let admitted = ledger.admit(work(vec![job("a", "1", 5), job("b", "1", 3)])).await.unwrap();
    assert_eq!(admitted.new, 2);
    assert_eq!(ledger.oldest_pending().unwrap(), Some(at(3)));
    let mut lanes = all(&ledger, at(10)).await;
    assert_eq!(keys(&lanes), ["b", "a"], "the oldest change goes first");
    assert!(all(&ledger, at(10)).await.is_empty(), "both keys are busy");
    let claims = lanes[0].take_all();
    assert_eq!(claims[0].id(), admitted.ids[1]);
    assert_eq!(ledger.totals().in_flight, 1);
    let settled = ledger.settle(claims, done(at(10))).await.unwrap();
    assert_eq!((settled.ids, settled.lag), (vec![admitted.ids[1]], Duration::from_secs(7)));
    drop(lanes);
    let totals = ledger.totals();
    assert_eq!((totals.in_flight, totals.pending.operations, totals.pending.bytes), (0, 1, 10));
    assert_eq!(totals.replicated, Count { operations: 1, bytes: 10 });
    balanced(&totals);
    assert_eq!(ledger.oldest_pending().unwrap(), Some(at(5)));
}

#[tokio::test]
async fn what_failed_or_outlived_a_worker_may_have_been_done_before() {
    let kv = MemoryKv::new();
    let ledger = on(&kv);
    ledger.admit(work(vec![job("a", "1", 1), job("b", "1", 2)])).await.unwrap();
    let mut lanes = all(&ledger, at(5)).await;
    let claims: Vec<Claim> = lanes.iter_mut().filter_map(Iterator::next).collect();
    assert!(claims.iter().all(|claim| !claim.may_repeat()));
    for claim in claims {
        ledger.defer(claim, at(6), &fault(FaultKind::Transient), at(5)).await.unwrap();
    }
    drop(lanes);
    assert!(all(&ledger, at(7)).await[0].next().unwrap().may_repeat());
    ledger.admit(work(vec![job("c", "1", 3)])).await.unwrap();
    drop(ledger);

    let ledger = on(&kv);
    ledger.admit(work(vec![job("d", "1", 4)])).await.unwrap();
    let mut lanes = all(&ledger, at(7)).await;
    let told: Vec<bool> = lanes.iter_mut().map(|lane| lane.next().unwrap().may_repeat()).collect();
    assert_eq!((keys(&lanes).join(""), told), ("abcd".to_owned(), vec![true, true, true, false]));
}

#[tokio::test]
async fn the_same_work_is_one_job() {
    let ledger = on(&MemoryKv::new());
    let first = ledger.admit(work(vec![job("a", "1", 5), job("a", "1", 5)])).await.unwrap();
    assert_eq!((first.new, first.ids[0]), (1, first.ids[1]));
    let again = ledger.admit(work(vec![job("a", "1", 6), job("a", "2", 6)])).await.unwrap();
    assert_eq!((again.new, again.ids[0]), (1, first.ids[0]));
    assert_ne!(again.ids[1], first.ids[0]);
    // The null version's content may change under one id.
    let null = |etag: &str| Job { etag: Some(ETag::new(etag)), ..job("n", "null", 1) };
    let nulls = ledger.admit(work(vec![null("aa"), null("bb"), null("aa")])).await.unwrap();
    assert_eq!(nulls.new, 2);
    balanced(&ledger.totals());
}

#[tokio::test]
async fn the_same_work_again_while_claimed_is_a_new_job_but_only_one() {
    let ledger = on(&MemoryKv::new());
    let first = ledger.admit(work(vec![job("a", "1", 5)])).await.unwrap();
    let mut lane = all(&ledger, at(9)).await.remove(0);
    let second = ledger.admit(work(vec![job("a", "1", 5)])).await.unwrap();
    let third = ledger.admit(work(vec![job("a", "1", 5)])).await.unwrap();
    assert_ne!(second.ids, first.ids, "the claimed one may have read an older state");
    assert_eq!(second.ids, third.ids);
    ledger.settle(lane.take_all(), done(at(9))).await.unwrap();
    assert!(all(&ledger, at(9)).await.is_empty(), "the lane still lives");
    drop(lane);
    assert_eq!(all(&ledger, at(9)).await[0].next().unwrap().id(), second.ids[0]);
    balanced(&ledger.totals());
}

#[tokio::test]
async fn live_work_goes_before_scans_and_an_event_makes_a_scan_job_live() {
    let ledger = on(&MemoryKv::new());
    let jobs = vec![scanned("s1", "1", 1), scanned("s2", "1", 2), job("e", "1", 9)];
    let admitted = ledger.admit(work(jobs)).await.unwrap();
    let again = ledger.admit(work(vec![sequenced("s2", "1", 2, "0A")])).await.unwrap();
    assert_eq!((again.new, again.ids[0]), (0, admitted.ids[1]));
    let lanes = all(&ledger, at(10)).await;
    assert_eq!(keys(&lanes), ["s2", "e", "s1"]);
    let job = lanes[0].waiting().next().unwrap().clone();
    assert_eq!((job.origin, job.sequencer), (Origin::Event, Some(Sequencer::new("0A"))));
}

#[tokio::test]
async fn a_lane_comes_in_source_order() {
    let ledger = on(&MemoryKv::new());
    // By sequencer where both have one, also against the times and with different lengths; else by time.
    let jobs = vec![
        sequenced("k", "c", 7, "0C"),
        sequenced("k", "a", 9, "0a00"),
        sequenced("k", "b", 8, "0A1"),
        job("k", "old", 1),
        job("k", "late", 20),
        sequenced("k", "d", 10, "0D"),
    ];
    ledger.admit(work(jobs)).await.unwrap();
    let lanes = all(&ledger, at(30)).await;
    assert_eq!(versions(&lanes[0]), ["old", "a", "b", "c", "d", "late"]);
}

#[tokio::test]
async fn a_deferred_first_job_holds_up_its_key() {
    let ledger = on(&MemoryKv::new());
    ledger.admit(work(vec![job("a", "1", 1), job("a", "2", 2), job("b", "1", 3)])).await.unwrap();
    let mut lanes = all(&ledger, at(5)).await;
    let claim = lanes[0].next().unwrap();
    ledger.defer(claim, at(50), &fault(FaultKind::Throttled), at(5)).await.unwrap();
    drop(lanes);
    assert_eq!(ledger.next_due().unwrap(), Some(at(50)));
    assert_eq!(ledger.oldest_pending().unwrap(), Some(at(1)), "deferred work is pending work");
    let lanes = all(&ledger, at(49)).await;
    assert_eq!(keys(&lanes), ["b"]);
    drop(lanes);
    let story = ledger.story(&Key::new("a")).unwrap();
    assert_eq!((story.jobs[0].standing, story.jobs[0].attempts), (Standing::Deferred(at(50)), 1));
    assert_eq!(story.jobs[0].fault.as_ref().unwrap().to_string(), fault(FaultKind::Throttled).to_string());
    let mut lanes = all(&ledger, at(50)).await;
    assert_eq!(versions(&lanes[0]), ["1", "2"]);
    let claim = lanes[0].next().unwrap();
    assert_eq!((claim.attempts(), claim.last_fault()), (1, Some(FaultKind::Throttled)));
    assert_eq!(ledger.next_due().unwrap(), None);
}

#[tokio::test]
async fn an_older_job_goes_before_a_deferred_one_and_a_lane_ends_at_a_deferred_job() {
    let ledger = on(&MemoryKv::new());
    ledger.admit(work(vec![job("a", "2", 2), job("a", "3", 3)])).await.unwrap();
    let mut lanes = all(&ledger, at(5)).await;
    let claim = lanes[0].next().unwrap();
    ledger.defer(claim, at(50), &fault(FaultKind::Transient), at(5)).await.unwrap();
    drop(lanes);
    ledger.admit(work(vec![job("a", "1", 1)])).await.unwrap();
    let lanes = all(&ledger, at(6)).await;
    assert_eq!(versions(&lanes[0]), ["1"]);
}

#[tokio::test]
async fn a_key_is_free_only_when_lane_and_claims_are_gone() {
    let ledger = on(&MemoryKv::new());
    ledger.admit(work(vec![job("a", "1", 1), job("a", "2", 2)])).await.unwrap();
    let mut lane = all(&ledger, at(5)).await.remove(0);
    let claim = lane.next().unwrap();
    drop(lane);
    assert!(all(&ledger, at(5)).await.is_empty(), "a claim is out");
    drop(claim);
    assert_eq!(versions(&all(&ledger, at(5)).await[0]), ["1", "2"]);
}

#[tokio::test]
async fn a_lane_freed_behind_the_place_of_looking_is_found_again() {
    let ledger = on(&MemoryKv::new());
    ledger.admit(work((0..200).map(|n| job(&format!("k{n:03}"), "1", n)).collect())).await.unwrap();
    let mut first = ledger.claim(at(999), 100).await.unwrap();
    let second = ledger.claim(at(999), 50).await.unwrap();
    assert_eq!((keys(&first)[0].as_str(), keys(&second)[0].as_str()), ("k000", "k100"));
    drop(first.remove(7));
    assert_eq!(keys(&ledger.claim(at(999), 2).await.unwrap()), ["k007", "k150"]);
    drop((first, second));
    assert_eq!(all(&ledger, at(999)).await.len(), 200);
}

#[test]
fn a_lane_freed_during_a_look_is_not_passed_over() {
    let live = Arc::new(crate::ledger::claim::Live::default());
    let hold = live.hold(7, 0, None).unwrap();
    assert!(live.hold(7, 0, None).is_none(), "one holder of a key");
    live.scheduled(7, 1, Some((0, vec![18, 0, 5])));
    live.begin_look(0);
    drop(hold);
    live.end_look(0, vec![18, 0, 9]);
    assert_eq!(live.begin_look(0), [18, 0, 5]);
}

#[tokio::test]
async fn a_crowded_key_is_worked_off_in_order() {
    let ledger = on(&MemoryKv::new());
    let jobs: Vec<Job> = (0..2_500).rev().map(|n| sequenced("hot", &format!("v{n}"), n, &format!("{n:08X}"))).collect();
    for chunk in jobs.chunks(500) {
        ledger.admit(work(chunk.to_vec())).await.unwrap();
    }
    assert_eq!(ledger.admit(work(jobs[..500].to_vec())).await.unwrap().new, 0, "the crowd is known by identity");
    let mut next = 0;
    while let Some(mut lane) = all(&ledger, at(9_999)).await.pop() {
        assert_eq!(ledger.oldest_pending().unwrap(), Some(at(next)));
        assert!(lane.waiting().count() <= 1_000);
        let claims = lane.take_all();
        for claim in &claims {
            assert_eq!(claim.job().version.as_str(), format!("v{next}"));
            next += 1;
        }
        ledger.settle(claims, ended(Outcome::Superseded, at(9_999))).await.unwrap();
    }
    assert_eq!((next, ledger.totals().superseded, ledger.oldest_pending().unwrap()), (2_500, 2_500, None));
    balanced(&ledger.totals());
}

#[tokio::test]
async fn outcomes_are_counted_and_reasons_told() {
    let ledger = on(&MemoryKv::new());
    let names = ["equal", "superseded", "no", "gone"];
    ledger.admit(work((0..4).map(|n| job(names[n], "1", n as u64)).collect())).await.unwrap();
    let outcomes =
        [Outcome::AlreadyEqual, Outcome::Superseded, Outcome::NotReplicated("no tag class".into()), Outcome::Gone];
    for (mut lane, outcome) in all(&ledger, at(9)).await.into_iter().zip(outcomes) {
        let settlement = Settlement { provable: outcome != Outcome::Gone, ..ended(outcome, at(9)) };
        ledger.settle(lane.take_all(), settlement).await.unwrap();
    }
    let totals = ledger.totals();
    let counts = (totals.already_equal, totals.superseded, totals.not_replicated, totals.gone, totals.unprovable);
    assert_eq!(counts, (1, 1, 1, 1, 1));
    balanced(&totals);
    assert_eq!(ledger.story(&Key::new("no")).unwrap().notes[0].reason, "no tag class");
}

#[tokio::test]
async fn what_ends_together_is_one_batch() {
    let kv = MemoryKv::new();
    let ledger = on(&kv);
    let jobs: Vec<Job> = (0..20).map(|n| job(&format!("k{n}"), "1", n)).collect();
    let admitted = ledger.admit(work(jobs)).await.unwrap();
    let mut lanes = all(&ledger, at(99)).await;
    let ends = |lanes: &mut [Lane]| -> Vec<(Vec<Claim>, Settlement)> {
        let outcomes = [Outcome::Replicated, Outcome::AlreadyEqual];
        let outcomes = outcomes.into_iter().cycle();
        lanes.iter_mut().zip(outcomes).map(|(lane, outcome)| (lane.take_all(), ended(outcome, at(99)))).collect()
    };
    let mut all_at_once = ends(&mut lanes);
    let strays: Vec<Claim> = all_at_once.iter_mut().take(2).flat_map(|(claims, _)| std::mem::take(claims)).collect();
    all_at_once.push((strays, done(at(99))));
    ledger.settle_all(all_at_once).await.unwrap_err();
    assert_eq!(ledger.totals().pending.operations, 20, "one that is not right, and none is settled");
    drop(lanes);
    let mut lanes = all(&ledger, at(99)).await;
    let before = kv.applies();
    let settled = ledger.settle_all(ends(&mut lanes)).await.unwrap();
    assert_eq!(kv.applies() - before, 1, "one batch for all");
    let ids: Vec<JobId> = settled.iter().flat_map(|settled| settled.ids.clone()).collect();
    assert_eq!(ids, admitted.ids);
    assert_eq!(settled[3].lag, Duration::from_secs(96));
    let totals = ledger.totals();
    assert_eq!((totals.pending.operations, totals.replicated.operations, totals.already_equal), (0, 10, 10));
    balanced(&totals);
}

#[tokio::test]
async fn claims_of_different_keys_are_not_settled_together() {
    let ledger = on(&MemoryKv::new());
    ledger.admit(work(vec![job("a", "1", 1), job("b", "1", 2)])).await.unwrap();
    let claims = all(&ledger, at(9)).await.into_iter().flat_map(|mut lane| lane.take_all()).collect();
    let refused = ledger.settle(claims, done(at(9))).await.unwrap_err();
    assert!(refused.detail.contains("different keys"), "{refused}");
    assert_eq!(ledger.totals().pending.operations, 2);
    ledger.flush().await.unwrap();
}

#[tokio::test]
async fn applied_states_are_remembered_up_to_a_bound() {
    let kv = MemoryKv::new();
    let ledger = Ledger::on(Arc::new(kv.clone()), Limits { applied: 3, notes: 2, ..Limits::default() }).unwrap();
    for (n, key) in ["a", "b", "c", "a", "d"].into_iter().enumerate() {
        ledger.admit(work(vec![job(key, &n.to_string(), 1)])).await.unwrap();
        let claims = all(&ledger, at(9)).await[0].take_all();
        let settlement = Settlement { applied: Some(applied(&n.to_string())), ..done(at(9)) };
        ledger.settle(claims, settlement).await.unwrap();
    }
    let known =
        |key: &str| ledger.applied(&TargetId::new("dr"), &Key::new(key)).unwrap().map(|a| a.version.to_string());
    assert_eq!(["a", "b", "c", "d"].map(known), [Some("3".into()), None, Some("2".into()), Some("4".into())]);
    assert_eq!(ledger.story(&Key::new("a")).unwrap().applied.len(), 1);
}

#[tokio::test]
async fn what_comes_beside_jobs_is_kept() {
    let kv = MemoryKv::new();
    let ledger = on(&kv);
    let message =
        Quarantined { id: 0, message_id: "m-1".into(), reason: "not JSON".into(), received: at(1), body: "{".into() };
    let ignored = |key: &str, reason: &str| Ignored {
        key: Some(Key::new(key)),
        version: VersionId::new("1"),
        reason: reason.to_owned(),
    };
    let admission = Admission {
        quarantined: vec![message.clone(), message.clone()],
        ignored: vec![ignored("k", "a permanent delete"), ignored("k", "a permanent delete"), ignored("x", "other")],
        cursor: Some(("scan".into(), b"page 7".to_vec())),
        now: at(2),
        ..Admission::default()
    };
    ledger.admit(admission).await.unwrap();
    ledger.set_control(&Control { paused: true, paused_until: Some(at(99)) }).await.unwrap();
    let ledger = on(&kv.after_crash(0));
    let kept = ledger.quarantined(10).unwrap();
    assert_eq!(kept, [Quarantined { id: 1, ..message.clone() }, Quarantined { id: 2, ..message }]);
    assert_eq!(ledger.quarantined(1).unwrap().len(), 1);
    assert_eq!(ledger.totals().quarantined, 2);
    assert_eq!(ledger.cursor("scan").unwrap().as_deref(), Some(&b"page 7"[..]));
    assert_eq!(ledger.control().unwrap(), Control { paused: true, paused_until: Some(at(99)) });
    let notes = ledger.story(&Key::new("k")).unwrap().notes;
    assert_eq!(notes.len(), 1, "told again it is still one reason");
    ledger.set_cursor("scan", None).await.unwrap();
    assert_eq!(ledger.cursor("scan").unwrap(), None);
}

/// Found by the simulation: the second replica of a version took the place of the first, which nobody knew any more.
#[tokio::test]
async fn every_replica_of_a_version_written_twice_is_known() {
    let ledger = on(&MemoryKv::new());
    let replica = |target_version: &str| Replica {
        source_version: VersionId::new("1"),
        source_etag: ETag::new("aa"),
        modified: at(1),
        target_version: Some(VersionId::new(target_version)),
        target_etag: ETag::new("bb"),
    };
    ledger.admit(work(vec![job("a", "1", 1)])).await.unwrap();
    let claims = all(&ledger, at(9)).await[0].take_all();
    let settlement = Settlement { replicas: vec![replica("t1"), replica("t2")], ..done(at(9)) };
    ledger.settle(claims, settlement).await.unwrap();
    let known = ledger.replicas(&TargetId::new("dr"), &Key::new("a")).unwrap();
    assert_eq!(known, [replica("t1"), replica("t2")]);
}

#[tokio::test]
async fn replicas_without_a_stamp_are_mapped_for_ever() {
    let kv = MemoryKv::new();
    let ledger = on(&kv);
    let replica = |version: &str, etag: &str| Replica {
        source_version: VersionId::new(version),
        source_etag: ETag::new(etag),
        modified: at(version.parse().unwrap()),
        target_version: Some(VersionId::new("t")),
        target_etag: ETag::new("bb"),
    };
    for (n, version) in ["1", "2", "1"].into_iter().enumerate() {
        ledger.admit(work(vec![job("a", &format!("j{n}"), 1)])).await.unwrap();
        let claims = all(&ledger, at(9)).await[0].take_all();
        let settlement = Settlement { replicas: vec![replica(version, &n.to_string())], ..done(at(9)) };
        ledger.settle(claims, settlement).await.unwrap();
    }
    // Nothing else knows them: what the job wrote would be taken for a stranger's.
    let ledger = on(&kv.after_crash(0));
    let known = ledger.replicas(&TargetId::new("dr"), &Key::new("a")).unwrap();
    assert_eq!(known.iter().map(|replica| replica.source_etag.as_str()).collect::<Vec<_>>(), ["2", "1"]);
    assert_eq!(ledger.totals().unstamped, 2);
    assert!(ledger.replicas(&TargetId::new("other"), &Key::new("a")).unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_is_on_disk_before_its_note_returns_and_survives_deferral() {
    let kv = MemoryKv::new();
    let ledger = on(&kv);
    let upload = |id: &str, version: &str| Upload {
        id: id.into(),
        source_version: VersionId::new(version),
        source_etag: ETag::new("aa-3"),
        part_sizes: PartSizes::of(&[8, 8, 5]),
        checksum: None,
        opened: at(3),
        over: None,
    };
    ledger.admit(work(vec![job("a", "1", 1), job("a", "2", 2)])).await.unwrap();
    let mut lane = all(&ledger, at(5)).await.remove(0);
    let (first, second) = (lane.next().unwrap(), lane.next().unwrap());
    ledger.note_upload(&first, &upload("u1", "1")).await.unwrap();
    assert_eq!(kv.unflushed(), 0);
    ledger.note_upload(&second, &upload("u2", "2")).await.unwrap();
    ledger.defer(first, at(6), &fault(FaultKind::Transient), at(5)).await.unwrap();
    drop((lane, second, ledger));
    let ledger = on(&kv.after_crash(99));
    let mut lane = all(&ledger, at(7)).await.remove(0);
    let (first, second) = (lane.next().unwrap(), lane.next().unwrap());
    assert_eq!(ledger.upload(&first).unwrap(), Some(upload("u1", "1")));
    assert_eq!(ledger.upload(&second).unwrap(), Some(upload("u2", "2")));
    ledger.forget_upload(&first).await.unwrap();
    assert_eq!(ledger.upload(&first).unwrap(), None);
    // A job may find a newer current version than its own: its upload is known by the job then.
    ledger.note_upload(&first, &upload("u3", "9")).await.unwrap();
    assert_eq!(ledger.upload(&first).unwrap().unwrap().id, "u3");
    ledger.forget_upload_of(&TargetId::new("dr"), &Key::new("a"), "u3").await.unwrap();
    assert_eq!(ledger.uploads().unwrap(), [(TargetId::new("dr"), Key::new("a"), upload("u2", "2"))]);
}

#[tokio::test]
async fn after_a_failed_flush_nothing_is_acknowledged() {
    for after in [0, 1] {
        let kv = MemoryKv::new();
        let ledger = on(&kv);
        ledger.admit(work(vec![job("a", "1", 1)])).await.unwrap();
        let mut lane = all(&ledger, at(5)).await.remove(0);
        if after == 0 {
            kv.fail_from_flush(kv.flushes() + 1);
        } else {
            kv.fail_from_apply(kv.applies() + 1);
        }
        let refused = ledger.admit(work(vec![job("b", "1", 1)])).await.unwrap_err();
        assert_eq!(refused.kind, FaultKind::Ledger);
        assert!(refused.detail.contains("the disk is gone"), "{refused}");
        for result in [
            ledger.admit(work(vec![job("c", "1", 1)])).await.map(drop),
            ledger.settle(lane.take_all(), done(at(9))).await.map(drop),
            ledger.claim(at(9), 9).await.map(drop),
            ledger.release(&Release::All).await.map(drop),
            ledger.flush().await,
        ] {
            assert!(result.unwrap_err().detail.contains("no more writes"));
        }
        assert_eq!(ledger.totals().pending.operations, 1);
    }
}

#[tokio::test]
async fn hash_neighbours_are_told_apart() {
    // Same target key at two targets, and a key that is a prefix of another: separate lanes.
    let ledger = on(&MemoryKv::new());
    let other = Job { target: TargetId::new("dr2"), ..job("a", "1", 1) };
    let prefixed = Job { target_key: Key::new("from/a"), ..job("a", "1", 1) };
    let odd = Job { target_key: Key::new("elsewhere"), ..job("a", "1", 1) };
    ledger.admit(work(vec![job("a", "1", 1), other, prefixed.clone(), odd.clone()])).await.unwrap();
    let lanes = all(&ledger, at(2)).await;
    assert_eq!(lanes.len(), 4);
    assert_eq!(lanes[2].waiting().next(), Some(&prefixed));
    assert_eq!(lanes[3].waiting().next(), Some(&odd));
    assert_eq!(ledger.story(&Key::new("a")).unwrap().jobs.len(), 3, "found through the prefixes known");
}

fn any_job() -> impl Strategy<Value = Job> {
    (0..3_u8, 0..4_u8, 0..20_u64, proptest::option::of(0..20_u8), any::<bool>()).prop_map(
        |(key, version, changed, sequencer, live)| Job {
            sequencer: sequencer.map(|sequencer| Sequencer::new(format!("{sequencer:02X}"))),
            origin: if live { Origin::Event } else { Origin::Scan },
            ..job(&format!("k{key}"), &format!("v{version}"), changed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is admitted, claimed and ended in whatever order: the sums agree, order holds, and all of it ends.
    #[test]
    fn totals_always_balance(steps in proptest::collection::vec((any_job(), 0..6_u8), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let kv = MemoryKv::new();
            let ledger = Ledger::on(Arc::new(kv.clone()), Limits { happenings: 0, ..Limits::default() }).unwrap();
            let mut now = 100;
            // An event first, whatever follows: jobs of a scan that end at once leave no margin of the journal.
            ledger.admit(work(vec![job("k0", "v0", 0)])).await.unwrap();
            for (job, step) in steps {
                now += 1;
                ledger.admit(work(vec![job])).await.unwrap();
                for mut lane in ledger.claim(at(now), 2).await.unwrap() {
                    let Some(claim) = lane.next() else { continue };
                    match step {
                        0 => ledger.defer(claim, at(now + 5), &fault(FaultKind::Transient), at(now)).await.unwrap(),
                        1 => ledger.park(claim, &fault(FaultKind::Denied), at(now)).await.unwrap(),
                        2 => ledger.park(claim, &fault(FaultKind::Archived), at(now)).await.unwrap(),
                        3 => drop(claim),
                        _ => drop(ledger.settle(vec![claim], done(at(now))).await.unwrap()),
                    }
                }
                balanced(&ledger.totals());
            }
            ledger.release(&Release::All).await.unwrap();
            balanced(&ledger.totals());
            assert_eq!(ledger.totals().parked, Count::default());
            let mut rounds = 0;
            while ledger.totals().pending.operations > 0 {
                rounds += 1;
                assert!(rounds < 100, "{:?}", ledger.totals());
                for mut lane in all(&ledger, at(now + 1_000)).await {
                    ledger.settle(lane.take_all(), done(at(now))).await.unwrap();
                }
            }
            balanced(&ledger.totals());
            assert_eq!(ledger.oldest_pending().unwrap(), None);
            assert_eq!(ledger.next_due().unwrap(), None);
            let (format, names, tally, margin) = (1, 1, 1, 1);
            assert_eq!(kv.entries(), format + names + tally + margin, "nothing is left of jobs that ended");
        });
    }
}
