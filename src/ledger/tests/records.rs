//! Bytes on disk: golden records, round trips, damage.

use std::num::{NonZeroU32, NonZeroU64};

use proptest::prelude::*;

use super::*;
use crate::ledger::brake::BrakeRecord;
use crate::ledger::codec::Unreadable;
use crate::ledger::journal::{HappeningRecord, Margin};
use crate::ledger::kv::Kv;
use crate::ledger::layout::{Slot, Table, identity_hash, key_hash, lane_hash, merge_streams, order_bytes};
use crate::ledger::names::{NameKind, Names, Tally};
use crate::ledger::pages::{Kept, Pages, decode_leaf, encode_leaf};
use crate::ledger::record::{
    AppliedRecord, GroupRecord, LaneRecord, NoteRecord, Parked, Record, ReplicaRecord, Schedule, UploadRecord, Waiting,
};
use crate::model::deletes::Hour;
use crate::model::digest::{Algorithm, ChecksumType};
use crate::model::job::Applied;
use crate::model::limits::{Bound, Concurrency, Limits as Bounds};
use crate::ports::UploadChecksum;

pub(super) fn names() -> Names {
    let mut names = Names::default();
    names.enter(NameKind::Target, "dr", None);
    names.enter(NameKind::Rule, "all", None);
    names
}

fn waiting() -> Waiting {
    Waiting {
        id: 300,
        job: Job { target_key: Key::new("from-us/a"), ..sequenced("a", "v1", 1, "00FF") },
        attempts: 2,
        not_before: Timestamp(7),
        last_kind: Some(FaultKind::Throttled),
        fault: Some(KeptFault::of(&fault(FaultKind::Throttled))),
        cleared: false,
    }
}

fn lane() -> LaneRecord {
    LaneRecord {
        target: TargetId::new("dr"),
        target_key: Key::new("from-us/a"),
        schedule: Schedule::Due(Timestamp(7), Timestamp(5)),
        crowd: 9,
        crowd_events: 1,
        jobs: vec![waiting()],
    }
}

fn group() -> GroupRecord {
    GroupRecord {
        target: TargetId::new("dr"),
        rule: Some(RuleId::new("all")),
        fault: KeptFault { status: Some(403), ..KeptFault::of(&fault(FaultKind::Denied)) },
        count: 3,
        bytes: 30,
        next_probe: Timestamp(99),
        probes: 1,
        releasing: true,
        held: false,
    }
}

fn applied() -> AppliedRecord {
    AppliedRecord {
        target: TargetId::new("dr"),
        target_key: Key::new("a"),
        applied: Applied {
            version: VersionId::new("v1"),
            marker: false,
            source_etag: Some(ETag::new("aabb")),
            modified: Timestamp(5),
            sequencer: Some(Sequencer::new("00FF")),
            target_etag: None,
            target_version: Some(VersionId::new("t1")),
        },
    }
}

fn note() -> NoteRecord {
    NoteRecord {
        key: Key::new("a"),
        target: Some(TargetId::new("dr")),
        version: VersionId::null(),
        reason: "no".to_owned(),
        noted: Timestamp(5),
    }
}

fn replica() -> ReplicaRecord {
    ReplicaRecord {
        target: TargetId::new("dr"),
        target_key: Key::new("a"),
        replica: Replica {
            source_version: VersionId::new("v1"),
            source_etag: ETag::new("aabb"),
            modified: Timestamp(5),
            target_version: None,
            target_etag: ETag::new("ccdd-2"),
        },
    }
}

fn upload(part_sizes: PartSizes) -> UploadRecord {
    UploadRecord {
        target: TargetId::new("dr"),
        target_key: Key::new("a"),
        job: 4,
        upload: Upload {
            id: "u1".to_owned(),
            source_version: VersionId::new("v1"),
            source_etag: ETag::new("aabb"),
            part_sizes,
            checksum: Some(UploadChecksum { algorithm: Algorithm::Crc64Nvme, kind: ChecksumType::Composite }),
            opened: Timestamp(5),
            over: Some(ETag::new("eeff")),
        },
    }
}

fn tally() -> Tally {
    let mut tally =
        Tally { next_job: 1, next_lane: 2, next_group: 3, next_mark: 4, next_quarantine: 5, ..Tally::default() };
    (tally.applied, tally.notes) = (6, 7);
    let count = |operations: u64| Count { operations, bytes: operations * 10 };
    tally.totals = Totals {
        admitted: 9,
        pending: count(1),
        parked: count(2),
        held: Count::default(),
        replicated: count(3),
        already_equal: 4,
        superseded: 5,
        not_replicated: 6,
        gone: 7,
        dropped: 8,
        quarantined: 9,
        quarantined_bytes: 0,
        turned_away: 0,
        unstamped: 10,
        unprovable: 11,
        in_flight: 0,
        by_rule: [(RuleId::new("all"), RuleTotals { pending: count(1), ..RuleTotals::default() })].into(),
    };
    tally
}

fn quarantined() -> Quarantined {
    Quarantined { id: 0, message_id: "m".into(), reason: "r".into(), received: Timestamp(5), body: "{".into() }
}

/// One record of each kind, as it lies on the disk.
pub(super) fn samples() -> Vec<Vec<u8>> {
    let names = names();
    let told =
        Happened::Told { kind: ChangeKind::Write, sequencer: Some(Sequencer::new("00FF")), changed: Timestamp(6) };
    let (key, target, version) = (Key::new("a"), TargetId::new("dr"), VersionId::new("v1"));
    let happening = Happening { target: target.clone(), version, at: Timestamp(5), what: told };
    let hour = Hour::of(vec![(28_333_333, 5), (28_333_335, 1)]).unwrap();
    let tripped = Some((Timestamp(7), "r".to_owned()));
    let part = SentPart { number: 3, etag: ETag::new("aabb"), size: 9, checksum: "CRC=".to_owned(), md5: None };
    vec![
        lane().encode(&names),
        waiting().encode(&names),
        Parked { waiting: waiting(), probes: 3, next_probe: Timestamp(8) }.encode(&names),
        group().encode(&names),
        applied().encode(&names),
        note().encode(&names),
        replica().encode(&names),
        upload(PartSizes::of(&[8, 8, 5])).encode(&names),
        upload(PartSizes::of(&[8, 7, 5])).encode(&names),
        tally().encode(&names),
        quarantined().encode(&names),
        part.encode(&names),
        BrakeRecord { target, hour, keys: Some((9, Timestamp(5))), tripped }.encode(&names),
        HappeningRecord { key, happening }.encode(&names),
        encode_leaf(b"\x10ab", &[(b"\x10abc".to_vec(), b"one".to_vec()), (b"\x10abd".to_vec(), Vec::new())]),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Golden bytes, and that they read back as what they were, whole only, and in the known version only.
fn holds<R: Record + PartialEq + std::fmt::Debug>(record: &R, golden: &str) {
    let names = names();
    let bytes = record.encode(&names);
    assert_eq!(hex(&bytes), golden, "{}", R::NAME);
    assert_eq!(&R::decode(&bytes, &names).unwrap(), record);
    for length in 0..bytes.len() {
        assert!(R::decode(&bytes[..length], &names).is_err(), "{} cut to {length} bytes was read", R::NAME);
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(R::decode(&longer, &names), Err(Unreadable("bytes are left over at its end")));
    let mut newer = bytes;
    newer[0] = 2;
    assert_eq!(R::decode(&newer, &names), Err(Unreadable("its version is not known to this program")));
}

#[test]
fn golden_records() {
    holds(
        &lane(),
        "01000966726f6d2d75732f61020705090101ac027800080876311200ff8101d41d8cd98f00b204e9800998ecf8427e0ae8d795ffbc310f02070101020c7772697465206f626a656374010c41636365737344656e69656400026e6f",
    );
    holds(
        &waiting(),
        "01000966726f6d2d75732f61ac027800080876311200ff8101d41d8cd98f00b204e9800998ecf8427e0ae8d795ffbc310f02070101020c7772697465206f626a656374010c41636365737344656e69656400026e6f",
    );
    holds(
        &Parked { waiting: waiting(), probes: 3, next_probe: Timestamp(8) },
        "01000966726f6d2d75732f61ac027800080876311200ff8101d41d8cd98f00b204e9800998ecf8427e0ae8d795ffbc310f02070101020c7772697465206f626a656374010c41636365737344656e69656400026e6f0308",
    );
    holds(&group(), "0100010005020c7772697465206f626a656374010c41636365737344656e696564019303026e6f031e630101");
    holds(&applied(), "01000161087631000111aabb05011200ff0001087431");
    holds(&note(), "0101610100106e756c6c026e6f05");
    holds(&replica(), "0100016108763111aabb050018636364642d32");
    holds(&upload(PartSizes::of(&[8, 8, 5])), "010001610402753108763111aabb00080305010301050111eeff");
    holds(&upload(PartSizes::of(&[8, 7, 5])), "010001610402753108763111aabb0103080705010301050111eeff");
    let part = SentPart { number: 3, etag: ETag::new("aabb"), size: 9, checksum: "CRC=".to_owned(), md5: None };
    holds(&part, "010311aabb09044352433d00");
    holds(&tally(), "0109010a0214031e0405060708090a0b010203040506070103616c6c010a00000000");
    holds(&quarantined(), "01016d017205017b");
    let hour = Hour::of(vec![(28_333_333, 5), (28_333_335, 1)]).unwrap();
    let brake = BrakeRecord {
        target: TargetId::new("dr"),
        hour,
        keys: Some((9, Timestamp(5))),
        tripped: Some((Timestamp(7), "r".to_owned())),
    };
    holds(&brake, "01000295aac10d0597aac10d0101090501070172");
    let held = GroupRecord { releasing: false, held: true, ..group() };
    holds(&held, "0100010005020c7772697465206f626a656374010c41636365737344656e696564019303026e6f031e630102");
    holds(
        &Waiting { cleared: true, ..waiting() },
        "01000966726f6d2d75732f61ac027800080876311200ff8101d41d8cd98f00b204e9800998ecf8427e0ae8d795ffbc311f02070101020c7772697465206f626a656374010c41636365737344656e69656400026e6f",
    );
    holds(&Control { paused: true, paused_until: Some(Timestamp(300)) }, "010101ac02");
}

#[test]
fn golden_records_of_operating() {
    holds(&Margin { happenings: 1, quarantine_bytes: 300 }, "0101ac02");
    holds(&Limiting::default(), "0100000000");
    let limits = Bounds {
        bandwidth: NonZeroU64::new(5).map(Bound::AtMost),
        requests_per_second: Some(Bound::Unlimited),
        concurrency: NonZeroU32::new(2).map(Concurrency::Fixed),
    };
    holds(&Limiting { limits, until: Some(Timestamp(7)) }, "0101010501000102 0107".replace(' ', "").as_str());
    let happened = |what| {
        let (target, version) = (TargetId::new("dr"), VersionId::new("v1"));
        HappeningRecord { key: Key::new("a"), happening: Happening { target, version, at: Timestamp(5), what } }
    };
    let told = Happened::Told {
        kind: ChangeKind::DeleteMarker,
        sequencer: Some(Sequencer::new("00FF")),
        changed: Timestamp(6),
    };
    holds(&happened(told), "01016100087631050101011200ff06");
    let mended = Happened::Told { kind: ChangeKind::Mend, sequencer: None, changed: Timestamp(6) };
    holds(&happened(mended), "010161000876310501800006");
    let failed = |next| Happened::Failed { fault: KeptFault::of(&fault(FaultKind::Denied)), next };
    let start =
        "010161000876310502 05020c7772697465206f626a656374010c41636365737344656e69656400026e6f".replace(' ', "");
    holds(&happened(failed(Next::Retry(Timestamp(9)))), &format!("{start}0009"));
    holds(&happened(failed(Next::Parked(GroupId(3)))), &format!("{start}0103"));
    let ends = [
        (Outcome::Replicated, "01"),
        (Outcome::AlreadyEqual, "02"),
        (Outcome::Superseded, "03"),
        (Outcome::NotReplicated("r".to_owned()), "040172"),
        (Outcome::Gone, "05"),
    ];
    for (outcome, code) in ends {
        holds(&happened(Happened::Ended { outcome }), &format!("010161000876310503{code}"));
    }
}

#[test]
fn golden_leaf() {
    let entries = vec![(b"\x10abc".to_vec(), b"one".to_vec()), (b"\x10abd".to_vec(), Vec::new())];
    let bytes = encode_leaf(b"\x10ab", &entries);
    assert_eq!(hex(&bytes), "0102030163036f6e6503016400");
    assert_eq!(decode_leaf(b"\x10ab", &bytes).unwrap(), entries);
    for length in 0..bytes.len() {
        assert!(decode_leaf(b"\x10ab", &bytes[..length]).is_err());
    }
}

/// Hashes are part of keys on disk.
#[test]
fn golden_hashes() {
    assert_eq!(lane_hash(&TargetId::new("dr"), &Key::new("a")), 0xf5ab9764cd6614b5);
    assert_eq!(key_hash(&Key::new("a")), 0x56678dc879947c86);
    assert_eq!(identity_hash(&job("a", "1", 1)), 0x41809f1b);
    assert_ne!(lane_hash(&TargetId::new("dr"), &Key::new("a")), lane_hash(&TargetId::new("d"), &Key::new("ra")));
}

#[tokio::test]
async fn damage_and_unknown_versions_are_refused_not_guessed() {
    let kv = MemoryKv::new();
    on(&kv).admit(work(vec![job("a", "1", 1)])).await.unwrap();
    let opened = |kv: &MemoryKv| Ledger::on(Arc::new(kv.clone()), Limits::default());
    assert!(opened(&kv).is_ok());
    let format = Table::Format.all();
    let newer = kv.after_crash(0);
    newer.overwrite(&format, &encode_leaf(&format, &[(format.clone(), vec![2])]));
    let refused = opened(&newer).unwrap_err();
    assert!(refused.detail.contains("a format record cannot be understood: its version is not known"), "{refused}");
    let damaged = kv.after_crash(0);
    let (key, mut value) = damaged.floor(&Table::Lane.all(), &[Table::Lane as u8, 0xff]).unwrap().unwrap();
    value.pop();
    damaged.overwrite(&key, &value);
    let ledger = opened(&damaged).unwrap();
    let refused = ledger.claim(at(9), 1).await.unwrap_err();
    assert!(refused.detail.contains("it ends too early"), "{refused}");
    assert!(ledger.flush().await.unwrap_err().detail.contains("no more writes"));
}

#[test]
fn part_sizes_are_compact_and_exact() {
    assert_eq!(PartSizes::of(&[8, 8, 5]), PartSizes::Uniform { size: 8, count: 3, last: 5 });
    assert_eq!(PartSizes::of(&[8, 5, 8]), PartSizes::Explicit(vec![8, 5, 8]));
    for sizes in [vec![], vec![3], vec![8, 8], vec![8, 8, 9], vec![1, 2, 3]] {
        assert_eq!(PartSizes::of(&sizes).to_vec(), sizes);
    }
}

#[test]
fn a_kept_fault_is_cut_at_a_letter() {
    let long = Fault { detail: "ä".repeat(400), ..fault(FaultKind::Denied) };
    assert_eq!(KeptFault::of(&long).detail, "ä".repeat(256));
}

fn any_waiting() -> impl Strategy<Value = Waiting> {
    let text = "[a-zA-Z0-9/+ é]{1,40}";
    let hexes = prop_oneof!["([0-9a-f]{2}){1,16}", "([0-9A-F]{2}){1,9}", "[0-9a-f]{1,15}(-[0-9]{1,4})?"];
    let told = (any::<u64>(), proptest::option::of(any::<u64>()), 0..5_usize, any::<bool>());
    (text, text, proptest::option::of(hexes.clone()), proptest::option::of(hexes), told, any::<(u32, u64, u64)>())
        .prop_map(|(key, version, sequencer, etag, (changed, size, kind, scan), (attempts, not_before, id))| Waiting {
            id,
            job: Job {
                kind: [
                    ChangeKind::Write,
                    ChangeKind::DeleteMarker,
                    ChangeKind::Attributes,
                    ChangeKind::Restored,
                    ChangeKind::Mend,
                ][kind],
                target_key: Key::new(if scan { format!("p/{key}") } else { version.clone() }),
                sequencer: sequencer.map(Sequencer::new),
                etag: etag.map(ETag::new),
                size,
                changed: Timestamp(changed),
                origin: if scan { Origin::Scan } else { Origin::Event },
                ..job(&key, &version, 0)
            },
            attempts,
            not_before: Timestamp(not_before),
            last_kind: FaultKind::ALL.get(kind * 4).copied(),
            fault: scan.then(|| KeptFault::of(&fault(FaultKind::Denied))),
            cleared: kind == 1,
        })
}

fn reads_back<R: Record + PartialEq + std::fmt::Debug>(record: &R) -> Result<(), TestCaseError> {
    let names = names();
    let bytes = record.encode(&names);
    prop_assert_eq!(&R::decode(&bytes, &names).unwrap(), record);
    for length in 0..bytes.len() {
        prop_assert!(R::decode(&bytes[..length], &names).is_err());
    }
    Ok(())
}

fn hex_digits() -> impl Strategy<Value = String> {
    "[0-9a-fA-F]{0,12}"
}

proptest! {
    #[test]
    fn every_job_reads_back_and_no_part_of_it_does(waiting in any_waiting(), probes in any::<u32>()) {
        reads_back(&waiting)?;
        reads_back(&Parked { waiting, probes, next_probe: Timestamp(u64::from(probes)) })?;
    }

    /// Keys on disk are in the order of [`Sequencer::compare`].
    #[test]
    fn order_bytes_order_like_sequencers(one in hex_digits(), other in hex_digits()) {
        let bytes = |text: &str| order_bytes(&sequenced("k", "v", 1, text), 0);
        prop_assert_eq!(bytes(&one).cmp(&bytes(&other)), Sequencer::new(&one).compare(&Sequencer::new(&other)));
    }

    #[test]
    fn merging_keeps_both_orders(left in proptest::collection::vec(0..99_u64, 0..9), right in proptest::collection::vec(0..99_u64, 0..9)) {
        let tag = |side: char, list: &[u64]| list.iter().map(|n| (side, *n)).collect::<Vec<_>>();
        let merged = merge_streams(tag('l', &left), tag('r', &right), |(_, n)| (Timestamp(*n), 0));
        for (side, list) in [('l', &left), ('r', &right)] {
            let kept: Vec<u64> = merged.iter().filter(|(s, _)| *s == side).map(|(_, n)| *n).collect();
            prop_assert_eq!(&kept, list);
        }
    }

    /// The packed map against a plain one, over many batches.
    #[test]
    fn pages_are_a_sorted_map(batches in proptest::collection::vec(proptest::collection::vec((0..400_u16, proptest::option::of(0..60_usize)), 1..60), 1..12)) {
        let kv = MemoryKv::new();
        let mut model = std::collections::BTreeMap::new();
        let mut kept = Kept::default();
        for batch in batches {
            let mut pages = Pages::knowing(&kv, kept);
            for (number, value) in batch {
                // Two tables, so that neither strays into the other's leaves.
                let table = if number % 2 == 0 { Table::Crowd } else { Table::LaneByName };
                let key = table.key().id(u64::from(number)).raw(b"suffix").end();
                match value {
                    Some(length) => {
                        pages.put(key.clone(), vec![7; length]).unwrap();
                        model.insert(key, vec![7; length]);
                    }
                    None => {
                        pages.remove(&key).unwrap();
                        model.remove(&key);
                    }
                }
            }
            for pages in [&pages, &Pages::new(&kv)] {
                if pages.is_touched() {
                    check_pages(pages, &model);
                }
            }
            let (changes, known) = pages.into_batch();
            kv.apply(changes).unwrap();
            check_pages(&Pages::new(&kv), &model);
            let pages = Pages::knowing(&kv, known);
            check_pages(&pages, &model);
            let (changes, known) = pages.into_batch();
            prop_assert!(changes.is_empty(), "nothing was changed");
            kept = known;
        }
    }
}

fn check_pages(pages: &Pages<'_>, model: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>) {
    for table in [Table::Crowd, Table::LaneByName] {
        let end = vec![table as u8 + 1];
        let expected: Vec<_> = model.range(table.all()..end.clone()).map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(pages.under(&table.all(), usize::MAX).unwrap(), expected);
        assert_eq!(pages.under(&table.all(), 3).unwrap(), expected[..expected.len().min(3)]);
        assert_eq!(pages.first(&table.all()).unwrap().as_ref(), expected.first());
        for (key, value) in expected.iter().step_by(5) {
            assert_eq!(pages.get(key).unwrap().as_ref(), Some(value));
            assert_eq!(
                pages.scan(&Slot::after(key.clone()), &end, 1).unwrap().first(),
                expected.iter().find(|(k, _)| k > key)
            );
        }
    }
}
