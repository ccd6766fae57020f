//! What operators see and move: the journal, the quarantine, orphaned uploads, limits.

use super::*;
use crate::model::limits::{Bound, Concurrency, Limits as Bounds};
use std::num::{NonZeroU32, NonZeroU64};

fn small(kv: &MemoryKv) -> Ledger {
    let limits = Limits { happenings: 4, messages: 3, message_bytes: 100, ..Limits::default() };
    Ledger::on(Arc::new(kv.clone()), limits).unwrap()
}

fn message(id: &str, body: &str) -> Quarantined {
    Quarantined { id: 0, message_id: id.into(), reason: "r".into(), received: at(1), body: body.into() }
}

fn messages(messages: Vec<Quarantined>) -> Admission {
    Admission { quarantined: messages, now: at(1), ..Admission::default() }
}

fn told(ledger: &Ledger, key: &str) -> Vec<(Timestamp, &'static str)> {
    let name = |happening: Happening| {
        let what = match happening.what {
            Happened::Told { .. } => "told",
            Happened::Failed { next: Next::Retry(_), .. } => "retried",
            Happened::Failed { next: Next::Parked(_), .. } => "parked",
            Happened::Ended { outcome: Outcome::Replicated } => "replicated",
            Happened::Ended { .. } => "ended",
        };
        (happening.at, what)
    };
    ledger.story(&Key::new(key)).unwrap().happenings.into_iter().map(name).collect()
}

#[tokio::test]
async fn what_happens_to_a_key_is_told_with_its_times_also_after_a_crash() {
    let kv = MemoryKv::new();
    let ledger = on(&kv);
    ledger.admit(Admission { now: at(1), ..work(vec![sequenced("a", "1", 0, "0A")]) }).await.unwrap();
    ledger.admit(Admission { now: at(2), ..work(vec![sequenced("a", "1", 0, "0A")]) }).await.unwrap();
    let claim = all(&ledger, at(3)).await[0].next().unwrap();
    ledger.defer(claim, at(5), &fault(FaultKind::Transient), at(3)).await.unwrap();
    let claim = all(&ledger, at(5)).await[0].next().unwrap();
    ledger.park(claim, &fault(FaultKind::Denied), at(6)).await.unwrap();
    let claims = all(&ledger, at(36)).await[0].take_all();
    ledger.settle(claims, done(at(37))).await.unwrap();
    ledger.flush().await.unwrap();
    let expected = [(at(1), "told"), (at(2), "told"), (at(3), "retried"), (at(6), "parked"), (at(37), "replicated")];
    assert_eq!(told(&ledger, "a"), expected);
    let ledger = on(&kv.after_crash(0));
    assert_eq!(told(&ledger, "a"), expected);
    assert_eq!(told(&ledger, "b"), []);
    let happenings = ledger.story(&Key::new("a")).unwrap().happenings;
    let Happened::Failed { fault, next } = &happenings[2].what else { panic!("{happenings:?}") };
    assert_eq!(
        (fault.to_string().as_str(), *next),
        ("could not write object at the target: AccessDenied: no", Next::Retry(at(5)))
    );
    let Happened::Told { sequencer, .. } = &happenings[0].what else { panic!("{happenings:?}") };
    assert_eq!(sequencer.as_ref().map(Sequencer::as_str), Some("0A"));
}

#[tokio::test]
async fn the_journal_is_a_ring_and_a_backfill_does_not_fill_it() {
    let kv = MemoryKv::new();
    let ledger = small(&kv);
    for n in 0..7 {
        let key = format!("k{n}");
        ledger.admit(Admission { now: at(n), ..work(vec![job(&key, "1", n)]) }).await.unwrap();
    }
    let remembered = |ledger: &Ledger| (0..7).map(|n| told(ledger, &format!("k{n}")).len()).collect::<Vec<_>>();
    assert_eq!(remembered(&ledger), [0, 0, 0, 1, 1, 1, 1]);
    ledger.admit(work((0..50).map(|n| scanned(&format!("s{n}"), "1", n)).collect())).await.unwrap();
    ledger.flush().await.unwrap();
    assert_eq!(remembered(&ledger), [0, 0, 0, 1, 1, 1, 1]);
    let ledger = small(&kv.after_crash(0));
    ledger.admit(Admission { now: at(9), ..work(vec![job("k0", "2", 9)]) }).await.unwrap();
    assert_eq!(remembered(&ledger), [1, 0, 0, 0, 1, 1, 1], "numbers go on over a restart");
}

#[tokio::test]
async fn a_full_quarantine_turns_away_and_takes_again_once_there_is_room() {
    let kv = MemoryKv::new();
    let ledger = small(&kv);
    let admitted = ledger.admit(messages(["a", "b", "c", "d"].map(|id| message(id, "{")).to_vec())).await.unwrap();
    assert_eq!(admitted.turned_away, ["d"]);
    let totals = ledger.totals();
    assert_eq!((totals.quarantined, totals.quarantined_bytes, totals.turned_away), (3, 9, 1));
    assert_eq!(ledger.quarantined_message(2).unwrap().unwrap().message_id, "b");
    assert_eq!(ledger.quarantined_message(4).unwrap(), None);
    assert_eq!(ledger.drop_quarantined(vec![2, 2, 99]).await.unwrap(), 1);
    let ledger = small(&kv.after_crash(0));
    assert_eq!((ledger.totals().quarantined, ledger.totals().quarantined_bytes), (2, 6), "counted over a restart");
    let large = message("large", &"x".repeat(100));
    assert_eq!(ledger.admit(messages(vec![large])).await.unwrap().turned_away, ["large"]);
    let understood = Admission { understood: vec![1], ..work(vec![job("a", "1", 1)]) };
    assert_eq!(ledger.admit(understood).await.unwrap().new, 1);
    let left: Vec<String> = ledger.quarantined(9).unwrap().into_iter().map(|message| message.message_id).collect();
    assert_eq!(left, ["c"]);
    assert_eq!(ledger.admit(messages(vec![message("d", "{"), message("e", "{")])).await.unwrap().turned_away.len(), 0);
}

#[tokio::test]
async fn an_upload_is_an_orphan_once_no_job_needs_it() {
    let ledger = on(&MemoryKv::new());
    let upload = |version: &str| Upload {
        id: format!("u{version}"),
        source_version: VersionId::new(version),
        source_etag: ETag::new("aa"),
        part_sizes: PartSizes::of(&[5, 5]),
        checksum: None,
        opened: at(1),
        over: None,
    };
    ledger.admit(work(vec![job("a", "1", 1), job("b", "1", 1), job("c", "1", 1)])).await.unwrap();
    let mut lanes = all(&ledger, at(2)).await;
    for (lane, kind) in lanes.iter_mut().zip([FaultKind::Denied, FaultKind::Transient, FaultKind::Denied]) {
        let claim = lane.next().unwrap();
        ledger.note_upload(&claim, &upload("1")).await.unwrap();
        match kind {
            FaultKind::Transient => ledger.defer(claim, at(9), &fault(kind), at(2)).await.unwrap(),
            _ => ledger.park(claim, &fault(kind), at(2)).await.unwrap(),
        }
    }
    drop(lanes);
    let orphans = |ledger: &Ledger| {
        ledger.orphans().unwrap().into_iter().map(|(_, key, upload)| (key.to_string(), upload.id)).collect::<Vec<_>>()
    };
    assert_eq!(orphans(&ledger), [], "parked and waiting jobs need theirs");
    ledger.drop_parked(&Release::Key(Key::new("a")), at(3)).await.unwrap();
    assert_eq!(orphans(&ledger), [("a".to_owned(), "u1".to_owned())]);
    ledger.forget_upload_of(&TargetId::new("dr"), &Key::new("a"), "u1").await.unwrap();
    assert_eq!(orphans(&ledger), []);
    assert_eq!(ledger.uploads().unwrap().len(), 2);
}

#[tokio::test]
async fn limits_of_an_operator_are_remembered_until_they_end() {
    let kv = MemoryKv::new();
    let ledger = on(&kv);
    assert_eq!(ledger.limiting().unwrap(), Limiting::default());
    let limits = Bounds {
        bandwidth: Some(Bound::AtMost(NonZeroU64::MIN)),
        requests_per_second: Some(Bound::Unlimited),
        concurrency: Some(Concurrency::Fixed(NonZeroU32::MIN)),
    };
    let limiting = Limiting { limits, until: Some(at(5)) };
    ledger.set_limiting(&limiting).await.unwrap();
    let kept = on(&kv.after_crash(0)).limiting().unwrap();
    assert_eq!((kept, kept.at(at(4)), kept.at(at(5))), (limiting, limits, Bounds::default()));
}
