//! Damaged records: every truncation, every flipped bit, foreign versions.

use proptest::prelude::*;

use super::records::{names, samples};
use super::*;
use crate::damage::{cases, damaged};
use crate::ledger::brake::BrakeRecord;
use crate::ledger::codec::Unreadable;
use crate::ledger::history::Sample;
use crate::ledger::journal::{HappeningRecord, Margin};
use crate::ledger::names::{Names, Tally};
use crate::ledger::pages::decode_leaf;
use crate::ledger::record::{
    AppliedRecord, GroupRecord, LaneRecord, NoteRecord, Parked, Record, ReplicaRecord, UploadRecord, Waiting,
};

/// What every reader says of these bytes; whatever one understands, it writes so that it reads back the same.
fn read_all(bytes: &[u8], names: &Names) -> Vec<Result<(), Unreadable>> {
    fn one<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8], names: &Names) -> Result<(), Unreadable> {
        let read = R::decode(bytes, names)?;
        assert_eq!(R::decode(&read.encode(names), names).as_ref(), Ok(&read));
        Ok(())
    }
    fn other<R: Record>(bytes: &[u8], names: &Names) -> Result<(), Unreadable> {
        R::decode(bytes, names).map(drop)
    }
    let upload = UploadRecord::decode(bytes, names);
    if let Ok(read) = &upload {
        assert!(read.upload.part_sizes.to_vec().len() <= 10_000, "more parts than S3 has");
    }
    vec![
        one::<Waiting>(bytes, names),
        one::<Parked>(bytes, names),
        one::<LaneRecord>(bytes, names),
        one::<GroupRecord>(bytes, names),
        one::<AppliedRecord>(bytes, names),
        one::<ReplicaRecord>(bytes, names),
        one::<UploadRecord>(bytes, names),
        other::<NoteRecord>(bytes, names),
        other::<Tally>(bytes, names),
        other::<Control>(bytes, names),
        other::<Limiting>(bytes, names),
        other::<Quarantined>(bytes, names),
        other::<SentPart>(bytes, names),
        other::<BrakeRecord>(bytes, names),
        other::<HappeningRecord>(bytes, names),
        other::<Margin>(bytes, names),
        other::<Sample>(bytes, names),
        decode_leaf(b"\x10ab", bytes).map(drop),
    ]
}

#[test]
fn hostile_records_every_bit_and_every_version() {
    let names = names();
    for sample in samples() {
        for at in 0..sample.len() {
            for bit in 0..8 {
                let mut bytes = sample.clone();
                bytes[at] ^= 1 << bit;
                read_all(&bytes, &names);
            }
            assert!(!read_all(&sample[..at], &names).is_empty());
        }
        for version in (0..=u8::MAX).filter(|version| *version != sample[0]) {
            let bytes = [&[version], &sample[1..]].concat();
            let read = read_all(&bytes, &names);
            assert!(read.iter().all(Result::is_err), "version {version} of {sample:?} was guessed");
        }
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn hostile_records_are_answered(bytes in damaged(samples())) {
        read_all(&bytes, &names());
    }
}

/// P10: a damaged count of parts is refused, not made room for.
#[test]
fn hostile_counts_make_no_room() {
    let names = names();
    let golden = |parts: &[u8]| {
        let (before, after) = (&b"\x01\x00\x01a\x04\x02u1\x08v1\x11\xaa\xbb\x00\x08"[..], &b"\x05\x00\x05\x00"[..]);
        [before, parts, after].concat()
    };
    assert!(UploadRecord::decode(&golden(&[3]), &names).is_ok());
    assert!(UploadRecord::decode(&golden(b"\x90\x4e"), &names).is_ok(), "ten thousand");
    let refused = UploadRecord::decode(&golden(b"\xff\xff\xff\xff\x0f"), &names);
    assert_eq!(refused.unwrap_err(), Unreadable("a count is too large"));
}
