//! How fast, how large: `bench/ledger` runs it. `REPL_BENCH_JOBS` sets the number of jobs; the profile matters, so say
//! it with the numbers.

use super::*;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("0");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A job as S3 would tell it: key of 45 bytes, 32 bytes of version id, MD5, sequencer.
pub(super) fn realistic(n: u64) -> Job {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let key = format!("photos/2026/11/{:02}/{mixed:016x}-{n:08}.jpg", n % 31);
    Job {
        sequencer: Some(Sequencer::new(format!("0067{n:014X}"))),
        etag: Some(ETag::new(format!("{mixed:016x}{mixed:016x}"))),
        ..job(&key, &format!("{mixed:016x}.{:015x}", mixed >> 3), n / 50)
    }
}

#[allow(clippy::disallowed_methods, reason = "a measurement needs the real clock")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

/// Bytes for each job and entries of the store, by table: what a store without overhead would take.
fn packed(ledger: &Ledger, count: u64) -> std::collections::BTreeMap<u8, (u64, u64)> {
    let mut tables = std::collections::BTreeMap::new();
    let mut after = vec![0];
    while let Some((key, value)) = ledger.writer.shared().kv.next(&after, &[0xff]).unwrap() {
        let table: &mut (u64, u64) = tables.entry(key[0]).or_default();
        table.0 += (key.len() + value.len()) as u64;
        table.1 += 1;
        after = key;
    }
    tables.values_mut().for_each(|(bytes, _)| *bytes /= count);
    tables
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods, reason = "the size is the runner's to choose")]
async fn ledger_bench() {
    let count: u64 = std::env::var("REPL_BENCH_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let start = clock();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..32 {
        let ledger = ledger.clone();
        callers.spawn(async move {
            for n in (caller..count / 10).step_by(32) {
                ledger.admit(work((n * 10..n * 10 + 10).map(realistic).collect())).await.unwrap();
            }
        });
    }
    while let Some(joined) = callers.join_next().await {
        joined.unwrap();
    }
    let rate =
        |n: u64, since: std::time::Instant| n * 1_000 / u64::try_from(since.elapsed().as_millis()).unwrap().max(1);
    println!("admit  {} jobs/s, RSS {} KiB", rate(count, start), resident_kib());
    println!("disk   {} bytes/job pending", ledger.size_on_disk().unwrap() / count);
    println!("packed {:?}", packed(&ledger, count));
    drop(ledger);
    let start = clock();
    let ledger = Ledger::open(directory.path()).unwrap();
    println!("open   {:?}, RSS {} KiB", start.elapsed(), resident_kib());
    drop(ledger);
    let start = clock();
    let ledger = Ledger::open(directory.path()).unwrap();
    println!("again  {:?}, RSS {} KiB", start.elapsed(), resident_kib());
    assert_eq!(ledger.totals().pending.operations, count);
    for (upto, what) in [(count / 2, "half done"), (count, "all done")] {
        let (start, before) = (clock(), ledger.totals().pending.operations);
        settle_until(&ledger, count - upto).await;
        ledger.flush().await.unwrap();
        let settled = before - ledger.totals().pending.operations;
        println!("settle {} jobs/s, RSS {} KiB", rate(settled, start), resident_kib());
        println!("disk   {} KiB, {what}", ledger.size_on_disk().unwrap() / 1024);
    }
}

async fn settle_until(ledger: &Ledger, left: u64) {
    while ledger.totals().pending.operations > left {
        let mut callers = tokio::task::JoinSet::new();
        for mut lane in ledger.claim(at(1_000_000), 64).await.unwrap() {
            let ledger = ledger.clone();
            callers.spawn(async move { ledger.settle(lane.take_all(), done(at(1))).await.unwrap() });
        }
        while let Some(joined) = callers.join_next().await {
            joined.unwrap();
        }
    }
}
