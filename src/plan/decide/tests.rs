use super::*;
use crate::model::digest::{Algorithm, Checksum, ChecksumType};
use crate::model::job::ChangeKind;
use crate::model::object::{Attributes, ETag, Timestamp, VersionId};

const PLAIN: &str = "5d41402abc4b2a76b9719d911017c592";

fn job(version: &str, sequencer: Option<&str>) -> Job {
    Job {
        target: "t".into(),
        rule: "r".into(),
        key: "k".into(),
        target_key: "k".into(),
        kind: ChangeKind::Write,
        version: VersionId::new(version),
        sequencer: sequencer.map(Sequencer::new),
        etag: Some(PLAIN.into()),
        size: Some(5),
        changed: Timestamp(1),
        origin: Origin::Event,
    }
}

fn applied(version: &str, sequencer: Option<&str>, modified: u64) -> Applied {
    Applied {
        version: VersionId::new(version),
        marker: false,
        source_etag: Some(PLAIN.into()),
        modified: Timestamp(modified),
        sequencer: sequencer.map(Sequencer::new),
        target_etag: Some("there".into()),
        target_version: Some("tv".into()),
    }
}

fn head(version: &str, etag: &str, modified: u64) -> Head {
    Head {
        version: VersionId::new(version),
        etag: ETag::new(etag),
        size: 5,
        modified: Timestamp(modified),
        attributes: Attributes::default(),
        encryption: Encryption::Untold,
        checksum: None,
        tag_count: None,
    }
}

fn stamped(head: &Head, by: &Head, origin: &str) -> Head {
    let mut stamped = head.clone();
    Stamp::of(by, origin).put(&mut stamped.attributes.metadata);
    stamped
}

#[test]
fn a_duplicate_costs_nothing() {
    let memory = applied("v1", Some("01"), 0);
    assert_eq!(open(&job("v1", Some("01")), History::All, Some(&memory), false), Opening::Known);
    assert_eq!(open(&job("v1", None), History::Latest, Some(&memory), true), Opening::Known);
    let null = applied("null", Some("01"), 0);
    assert_eq!(open(&job("null", Some("01")), History::Latest, Some(&null), false), Opening::Known);
    assert_ne!(
        open(&job("null", Some("02")), History::Latest, Some(&null), false),
        Opening::Known,
        "overwritten since"
    );
    assert_ne!(
        open(&job("null", None), History::Latest, Some(&null), false),
        Opening::Known,
        "it may be another content"
    );
}

#[test]
fn the_first_version_is_read_as_current_and_a_follower_by_its_id() {
    let current = Opening::Read { pick: Pick::Current, condition: Condition::Absent };
    assert_eq!(open(&job("v1", Some("01")), History::All, None, false), current);
    assert_eq!(
        open(&job("v1", Some("01")), History::All, None, true),
        Opening::Examine,
        "newer ones wait: not current"
    );
    let memory = applied("v1", Some("01"), 0);
    let condition = Condition::Matches("there".into());
    let follower = Opening::Read { pick: Pick::Version("v2".into()), condition };
    assert_eq!(
        open(&job("v2", Some("0100")), History::All, Some(&memory), true),
        Opening::Examine,
        "equal when padded"
    );
    assert_eq!(open(&job("v2", Some("0101")), History::All, Some(&memory), true), follower);
    assert_eq!(open(&job("v0", Some("00")), History::All, Some(&memory), false), Opening::Examine, "late");
    assert_eq!(open(&job("v2", None), History::All, Some(&memory), false), Opening::Examine, "order not told");
    let marker = Applied { marker: true, target_etag: None, ..memory };
    assert_eq!(
        open(&job("v2", Some("02")), History::All, Some(&marker), false),
        Opening::Examine,
        "another worker's marker may stand there"
    );
}

#[test]
fn only_what_is_certainly_newer_goes_on_top() {
    let (all, pinned) = (History::All, Pick::Version("v2".into()));
    let same_bytes = applied("v1", Some("01"), 5_000);
    let memory = Applied { source_etag: Some("other".into()), ..same_bytes.clone() };
    let newer = job("v2", Some("02"));
    assert_eq!(
        judge(&newer, all, &pinned, &head("v2", PLAIN, 6_000), Some(&same_bytes)),
        Reading::Examine,
        "no condition tells them apart"
    );
    let multipart = format!("{PLAIN}-3");
    let judged = |modified, etag: &str| judge(&newer, all, &pinned, &head("v2", etag, modified), Some(&memory));
    assert_eq!(judged(6_000, PLAIN), Reading::Write);
    assert_eq!(judged(5_999, PLAIN), Reading::Write, "same second: the sequencer tells");
    assert_eq!(judged(4_000, PLAIN), Reading::Examine);
    assert_eq!(judged(5_000, &multipart), Reading::Examine, "a multipart object is as old as its initiation");
    assert_eq!(judged(6_000, &multipart), Reading::Write);
    assert_eq!(judge(&newer, all, &Pick::Current, &head("v3", PLAIN, 9_000), None), Reading::Examine);
    assert_eq!(judge(&newer, all, &Pick::Current, &head("v2", PLAIN, 9_000), None), Reading::Write);
    assert_eq!(
        judge(&newer, History::Latest, &Pick::Current, &head("v1", PLAIN, 5_000), Some(&same_bytes)),
        Reading::AlreadyEqual
    );
    let null = applied("null", None, 5_000);
    let rewritten = head("null", "other", 5_000);
    assert_eq!(judge(&job("null", None), History::Latest, &Pick::Current, &rewritten, Some(&null)), Reading::Write);
}

/// Found by the simulation: without versions the same bytes written again within a second look like the first ones.
#[test]
fn a_null_version_written_again_with_the_same_bytes_is_another() {
    let memory = applied("null", Some("01"), 5_000);
    let judged = |sequencer| {
        judge(&job("null", sequencer), History::Latest, &Pick::Current, &head("null", PLAIN, 5_400), Some(&memory))
    };
    assert_eq!(judged(Some("02")), Reading::Examine);
    assert_eq!(judged(Some("01")), Reading::AlreadyEqual);
    assert_eq!(judged(None), Reading::AlreadyEqual);
    let source = head("null", PLAIN, 5_000);
    let replica = stamped(&source, &source, "b");
    let mut other = replica.clone();
    other.attributes.cache_control = Some("no-store".to_owned());
    let met = |target: Head| clash(&source, &Found::Object(Box::new(target)), Origin::Event, Overwriting::Destroys);
    assert_eq!(met(replica), Clash::AlreadyEqual);
    assert_eq!(met(other), Clash::Write(Condition::Matches(PLAIN.into())));
}

#[test]
fn a_clash_is_settled_by_the_stamp_then_by_the_bytes() {
    let source = head("v2", PLAIN, 5_000);
    let on = |target: &Head, origin, overwriting| {
        clash(&source, &Found::Object(Box::new(target.clone())), origin, overwriting)
    };
    let replica = stamped(&head("tv", "opaque", 9_000), &source, "b");
    assert_eq!(on(&replica, Origin::Event, Overwriting::Destroys), Clash::AlreadyEqual);
    let older = stamped(&head("tv", "opaque", 9_000), &head("v1", PLAIN, 1_000), "b");
    assert_eq!(on(&older, Origin::Event, Overwriting::Destroys), Clash::Write(Condition::Matches("opaque".into())));
    let unstamped = head("x", "ffffffffffffffffffffffffffffffff", 9_000);
    assert_eq!(on(&unstamped, Origin::Event, Overwriting::Destroys), Clash::Foreign);
    assert!(matches!(on(&unstamped, Origin::Event, Overwriting::KeepsVersion), Clash::Write(_)));
    assert!(matches!(on(&unstamped, Origin::Scan, Overwriting::Destroys), Clash::Write(_)), "an operator asked");
    assert_eq!(on(&head("x", PLAIN, 9_000), Origin::Event, Overwriting::Destroys), Clash::AlreadyEqual, "same bytes");
    assert_eq!(clash(&source, &Found::Missing, Origin::Event, Overwriting::Destroys), Clash::Write(Condition::Absent));
    let of_another = stamped(&source, &head("v1", PLAIN, 1_000), "b");
    assert!(
        matches!(on(&of_another, Origin::Event, Overwriting::KeepsVersion), Clash::Write(_)),
        "its tags may differ"
    );
    assert_eq!(on(&of_another, Origin::Scan, Overwriting::KeepsVersion), Clash::AlreadyEqual);
    let damaged = stamped(&head("tv", "ffffffffffffffffffffffffffffffff", 9_000), &source, "b");
    assert_eq!(on(&damaged, Origin::Event, Overwriting::Destroys), Clash::AlreadyEqual);
    assert!(
        matches!(on(&damaged, Origin::Scan, Overwriting::Destroys), Clash::Write(_)),
        "a comparison doubts the stamp"
    );
}

#[test]
fn etags_prove_nothing_across_kms_or_part_layouts() {
    let one = head("v", PLAIN, 0);
    let kms = Head { encryption: Encryption::Kms(None), ..one.clone() };
    assert_eq!(same_bytes(&one, &one), Some(true));
    assert_eq!(same_bytes(&one, &kms), None);
    assert_eq!(same_bytes(&one, &Head { size: 6, ..kms.clone() }), Some(false));
    let parts = Head { etag: format!("{PLAIN}-2").as_str().into(), ..one.clone() };
    assert_eq!(same_bytes(&one, &parts), None);
    let other_parts = Head { etag: "ffffffffffffffffffffffffffffffff-2".into(), ..one.clone() };
    assert_eq!(same_bytes(&parts, &other_parts), None, "perhaps only other boundaries");
    let sum = |value: &str, kind| Some(Checksum { algorithm: Algorithm::Crc64Nvme, kind, value: value.to_owned() });
    let with = |head: &Head, checksum| Head { checksum, ..head.clone() };
    let full = ChecksumType::FullObject;
    assert_eq!(same_bytes(&with(&one, sum("A", full)), &with(&kms, sum("A", full))), Some(true));
    assert_eq!(same_bytes(&with(&one, sum("A", full)), &with(&kms, sum("B", full))), Some(false));
    assert_eq!(same_bytes(&with(&one, sum("A", full)), &with(&kms, sum("B-2", ChecksumType::Composite))), None);
}

#[test]
fn a_replica_of_the_target_does_not_travel_back() {
    let echo = stamped(&head("v", PLAIN, 0), &head("w", PLAIN, 0), "target-bucket");
    assert!(is_echo(&echo, "target-bucket", Origin::Event));
    assert!(!is_echo(&echo, "third-bucket", Origin::Event));
    assert!(!is_echo(&echo, "target-bucket", Origin::Scan), "failing back is asked for");
}
