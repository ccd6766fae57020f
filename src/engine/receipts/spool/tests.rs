use super::*;
use crate::audit::receipts::{self, Checked, Ending, Kind, SourceSide, TargetSide, Verified};
use crate::model::digest::Means;
use crate::model::object::{Key, RuleId, TargetId, VersionId};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const DAY: u64 = 86_400_000;
/// 2026-11-21T00:00:00Z.
const MIDNIGHT: u64 = 1_795_219_200_000;

fn receipt(number: u64, settled: u64) -> Receipt {
    Receipt {
        settled: Timestamp(settled),
        kind: Kind::Write,
        ending: Ending::Replicated,
        rule: RuleId::new("all"),
        target_id: TargetId::new("dr"),
        source: SourceSide {
            bucket: "a".to_owned(),
            key: Key::new(format!("key/{number}")),
            version: VersionId::null(),
            etag: None,
            checksum: None,
            size: None,
            modified: None,
        },
        target: TargetSide { bucket: "b".to_owned(), key: Key::new("k"), version: None, etag: None },
        verified: Verified::By(Means::Md5),
        lag: Duration::ZERO,
    }
}

fn group(numbers: std::ops::Range<u64>, settled: u64) -> VecDeque<Receipt> {
    numbers.map(|number| receipt(number, settled)).collect()
}

fn open(directory: &Path) -> Spool {
    Spool::open(directory, "seed").unwrap()
}

fn checked(directory: &Path) -> Checked {
    let files = waiting(directory, u64::MAX).unwrap();
    receipts::check(files.iter().map(|file| {
        let lines = BufReader::new(File::open(&file.path).unwrap());
        Reader::read(file.path.file_name().unwrap().to_string_lossy(), lines)
    }))
}

fn names(directory: &Path) -> Vec<String> {
    let files = waiting(directory, u64::MAX).unwrap();
    files.iter().map(|file| file.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_file_ends_with_its_day_and_nobody_else_may_read_it() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("receipts");
    let mut spool = open(&directory);
    assert_eq!(names(&directory), Vec::<String>::new(), "no file before there is a receipt");
    let mut late = group(0..3, MIDNIGHT + DAY - 1);
    late.extend(group(3..5, MIDNIGHT + DAY));
    spool.append(&mut late).unwrap();
    assert!(late.is_empty());
    assert_eq!(names(&directory), ["2026-11-21.1.jsonl", "2026-11-22.2.jsonl"]);
    assert_eq!(spool.closed_through(), 1);
    spool.end_day(Timestamp(MIDNIGHT + DAY + 5)).unwrap();
    assert_eq!(spool.closed_through(), 1, "its day is not over");
    spool.end_day(Timestamp(MIDNIGHT + 2 * DAY)).unwrap();
    assert_eq!(spool.closed_through(), 2, "also when nothing happens");
    assert_eq!((checked(&directory).breaks, checked(&directory).receipts), (vec![], 5));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("2026-11-21.1.jsonl"))), (0o700, 0o600));
}

#[test]
fn a_file_ends_with_its_size() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = open(home.path());
    spool.largest = 4000;
    spool.append(&mut group(0..100, MIDNIGHT)).unwrap();
    spool.close().unwrap();
    let files = waiting(home.path(), u64::MAX).unwrap();
    assert!(files.len() > 5, "{}", files.len());
    for file in &files {
        assert!(fs::metadata(&file.path).unwrap().len() < 5500, "a line and the closing line beyond, at most");
    }
    assert_eq!((checked(home.path()).breaks, checked(home.path()).receipts), (vec![], 100));
}

/// What a crash leaves: lengths that the open file may have had, all around the ends of lines.
#[test]
fn a_chain_goes_on_after_a_crash_at_any_byte() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = open(home.path());
    spool.append(&mut group(0..2, MIDNIGHT)).unwrap();
    spool.close().unwrap();
    spool.append(&mut group(2..5, MIDNIGHT)).unwrap();
    drop(spool);
    let first = fs::read(home.path().join("2026-11-21.1.jsonl")).unwrap();
    let second = fs::read(home.path().join("2026-11-21.2.jsonl")).unwrap();
    let head = fs::read(home.path().join(HEAD)).unwrap();
    let near_an_end = |length: usize| second.iter().enumerate().any(|(at, b)| *b == b'\n' && at.abs_diff(length) < 3);
    for length in (0..=second.len()).filter(|length| length.is_multiple_of(199) || near_an_end(*length)) {
        let after = tempfile::tempdir().unwrap();
        fs::write(after.path().join("2026-11-21.1.jsonl"), &first).unwrap();
        fs::write(after.path().join("2026-11-21.2.jsonl"), &second[..length]).unwrap();
        fs::write(after.path().join(HEAD), &head).unwrap();
        let mut spool = open(after.path());
        assert_eq!(spool.closed_through(), spool.tip().file);
        spool.append(&mut group(5..6, MIDNIGHT)).unwrap();
        spool.close().unwrap();
        let checked = checked(after.path());
        assert_eq!(checked.breaks, [], "after {length} bytes");
        let whole = second[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(checked.receipts, 3 + whole.saturating_sub(1), "after {length} bytes");
        let torn = fs::read(after.path().join("2026-11-21.2.torn")).unwrap_or_default();
        assert_eq!(torn.len(), length - second[..length].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
    }
}

#[test]
fn a_chain_goes_on_when_all_files_are_uploaded_and_gone() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = open(home.path());
    spool.append(&mut group(0..2, MIDNIGHT)).unwrap();
    spool.close().unwrap();
    let kept = fs::read(home.path().join("2026-11-21.1.jsonl")).unwrap();
    fs::remove_file(home.path().join("2026-11-21.1.jsonl")).unwrap();
    let mut spool = Spool::open(home.path(), "another seed").unwrap();
    spool.append(&mut group(2..3, MIDNIGHT)).unwrap();
    spool.close().unwrap();
    fs::write(home.path().join("2026-11-21.1.jsonl"), kept).unwrap();
    assert_eq!((checked(home.path()).breaks, checked(home.path()).chains.len()), (vec![], 1));
}

/// Killed after the closing line and before the head was written.
#[test]
fn a_head_that_is_behind_is_brought_up() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = open(home.path());
    spool.append(&mut group(0..2, MIDNIGHT)).unwrap();
    spool.close().unwrap();
    fs::remove_file(home.path().join(HEAD)).unwrap();
    let spool_again = open(home.path());
    assert_eq!(spool_again.tip(), spool.tip());
    assert_eq!(read_head(home.path()).unwrap().as_ref(), Some(spool.tip()));
    fs::write(home.path().join(HEAD), "{").unwrap();
    let refused = Spool::open(home.path(), "seed").unwrap_err().to_string();
    assert!(refused.contains("cannot be understood") && refused.contains("head.json"), "{refused}");
}

/// A write that fails, and one that leaves half a line behind, cost nothing once the disk works again.
#[test]
fn a_failed_write_is_as_if_it_had_not_been_tried() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = open(home.path());
    spool.append(&mut group(0..1, MIDNIGHT)).unwrap();
    let path = home.path().join("2026-11-21.1.jsonl");
    let writable = std::mem::replace(&mut spool.open.as_mut().unwrap().file, File::open(&path).unwrap());
    let mut left = group(1..4, MIDNIGHT);
    spool.append(&mut left).unwrap_err();
    assert_eq!(left.len(), 3);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"half").unwrap();
    spool.open.as_mut().unwrap().file = writable;
    spool.append(&mut left).unwrap();
    spool.note_lost(7, Timestamp(MIDNIGHT)).unwrap();
    spool.close().unwrap();
    let checked = checked(home.path());
    assert_eq!((checked.breaks, checked.receipts, checked.lost), (vec![], 4, 7));
}

/// While its end is not in the head, a closed file must stay: without both the chain would begin anew.
#[test]
fn a_file_stays_until_the_head_knows_its_end() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = open(home.path());
    spool.append(&mut group(0..2, MIDNIGHT)).unwrap();
    let in_the_way = home.path().join(format!("{HEAD}.new"));
    fs::create_dir(&in_the_way).unwrap();
    spool.close().unwrap_err();
    assert_eq!(spool.closed_through(), 0);
    let mut left = group(2..3, MIDNIGHT);
    spool.append(&mut left).unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    spool.append(&mut left).unwrap();
    assert_eq!(spool.closed_through(), 1);
    spool.close().unwrap();
    assert_eq!((checked(home.path()).breaks, checked(home.path()).receipts), (vec![], 3));
}

#[test]
fn other_files_are_left_alone() {
    let home = tempfile::tempdir().unwrap();
    for name in ["notes.txt", "x.jsonl", "2026-11-21.x.jsonl", "2026-11-21.1.torn"] {
        fs::write(home.path().join(name), "mine").unwrap();
    }
    open(home.path());
    assert_eq!(names(home.path()), Vec::<String>::new());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 4);
}
