//! The real store, in a directory of its own.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// sled lets go of its lock a moment after the last handle (sled issue 1289).
fn reopen(directory: &Path) -> Ledger {
    for _ in 0..200 {
        match Ledger::open(directory) {
            Ok(ledger) => return ledger,
            Err(fault) if fault.detail.contains("another repl process") => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(fault) => panic!("{fault}"),
        }
    }
    panic!("the lock is still held after two seconds");
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("new/ledger");
    let ledger = Ledger::open(&directory).unwrap();
    let jobs = (0..300).map(|n| job(&format!("k{n:03}"), "1", n)).collect();
    let admitted = ledger.admit(work(jobs)).await.unwrap();
    let mut lanes = ledger.claim(at(999), 3).await.unwrap();
    ledger.settle(lanes[0].take_all(), done(at(999))).await.unwrap();
    let claim = lanes[1].next().unwrap();
    ledger.defer(claim, at(2_000), &fault(FaultKind::Throttled), at(999)).await.unwrap();
    let claim = lanes[2].next().unwrap();
    ledger.park(claim, &fault(FaultKind::Denied), at(999)).await.unwrap();
    drop(lanes);
    let totals = ledger.totals();
    drop(ledger);

    let ledger = reopen(&directory);
    assert_eq!(ledger.totals(), totals);
    assert_eq!(ledger.next_due().unwrap(), Some(at(999 + 30)));
    assert_eq!(ledger.oldest_pending().unwrap(), Some(at(1)));
    let mut lanes = all(&ledger, at(1_000)).await;
    assert_eq!(lanes.len(), 297);
    assert_eq!(lanes[0].next().unwrap().id(), admitted.ids[3]);
    assert!(ledger.size_on_disk().unwrap() > 0);
    let again = ledger.admit(work(vec![job("fresh", "1", 1)])).await.unwrap();
    assert!(again.ids[0] > admitted.ids[299], "numbers are never given twice");
}

#[tokio::test]
async fn a_second_process_is_told_where_to_ask() {
    let root = tempfile::tempdir().unwrap();
    let _first = Ledger::open(root.path()).unwrap();
    let refused = Ledger::open(root.path()).unwrap_err();
    assert_eq!(refused.kind, FaultKind::Transient, "it passes when the other process ends");
    assert!(
        refused.detail.contains("another repl process has this ledger open; ask it through its socket"),
        "{refused}"
    );
}

#[tokio::test]
async fn nobody_else_may_read_it() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("ledger");
    let ledger = Ledger::open(&directory).unwrap();
    ledger.admit(work(vec![job("a", "1", 1)])).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("db")), 0o600);
}

/// sled's own flush leaves the disk's cache and the file's size to chance, so the log is synced beside it: that must be
/// the very file which sled writes to.
#[test]
fn the_log_that_is_synced_is_sleds() {
    let root = tempfile::tempdir().unwrap();
    let kv = SledKv::open(root.path()).unwrap();
    let before = kv.log().metadata().unwrap().len();
    let entry = |n: u32| (n.to_be_bytes().to_vec(), Some(vec![7; 1 << 16]));
    kv.apply((0..100).map(entry).collect()).unwrap();
    kv.flush().unwrap();
    assert!(kv.log().metadata().unwrap().len() > before, "sled writes elsewhere");
}

#[test]
fn a_place_that_cannot_be_a_ledger_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let refused = Ledger::open(&file).unwrap_err();
    assert!(refused.to_string().contains("could not open the ledger on this machine"), "{refused}");
}
