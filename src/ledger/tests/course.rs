//! The course of the figures: a ring of a day, kept over restarts, in records of a known version.

use super::*;
use crate::ledger::codec::Unreadable;
use crate::ledger::names::Names;
use crate::ledger::record::Record;
use crate::ledger::{LatencySample, MINUTE, Sample};

fn sample(replicated: u64, p50: u64) -> Sample {
    let latency = LatencySample { count: replicated, p50, p99: 2 * p50, max: 300 };
    Sample { latency, replicated, pending: 1, errors: 2, ..Sample::default() }
}

#[test]
fn a_sample_of_version_1_stays_readable_and_another_is_refused() {
    let names = Names::default();
    let bytes = sample(3, 5).encode(&names);
    assert_eq!(bytes, [1, 3, 5, 10, 0xac, 2, 1, 0, 0, 0, 3, 0, 2, 0]);
    assert_eq!(Sample::decode(&bytes, &names), Ok(sample(3, 5)));
    let mut unknown = bytes.clone();
    unknown[0] = 2;
    assert!(matches!(Sample::decode(&unknown, &names), Err(Unreadable(_))));
    assert!(matches!(Sample::decode(&bytes[..bytes.len() - 1], &names), Err(Unreadable(_))));
}

#[tokio::test]
async fn a_day_of_minutes_is_kept_and_parts_of_one_are_joined() {
    let disk = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(disk.path()).unwrap();
    let minute = |number: u64| Timestamp(number * MINUTE);
    for number in 10..12 {
        ledger.keep_sample(minute(number), sample(number, 1)).await.unwrap();
    }
    ledger.keep_sample(minute(11).plus(std::time::Duration::from_secs(59)), sample(4, 9)).await.unwrap();
    drop(ledger);
    let ledger = Ledger::open(disk.path()).unwrap();
    let joined = Sample { errors: 4, ..sample(15, 9) };
    assert_eq!(ledger.history().unwrap(), [(minute(10), sample(10, 1)), (minute(11), joined)]);
    ledger.keep_sample(minute(11 + 1439), sample(1, 1)).await.unwrap();
    let kept: Vec<Timestamp> = ledger.history().unwrap().into_iter().map(|(at, _)| at).collect();
    assert_eq!(kept, [minute(11), minute(11 + 1439)], "what is older than a day goes");
    ledger.keep_sample(minute(12), sample(1, 1)).await.unwrap();
    let kept: Vec<Timestamp> = ledger.history().unwrap().into_iter().map(|(at, _)| at).collect();
    assert_eq!(kept, [minute(11), minute(12)], "a clock that was ahead leaves nothing of the time to come");
}
