use super::*;
use crate::audit::receipts::pack;
use crate::damage::{cases, corpus, damaged, is_a_sentence};
use proptest::prelude::*;

/// The lines of a file on disk. No store is asked for.
async fn read(text: &[u8]) -> Result<Vec<(u64, Line)>, Fault> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("list");
    std::fs::write(&path, text).unwrap();
    let mut lines = Lines::<crate::aws::s3::S3Bucket>::new(Bytewise::Local(open(&path).await.unwrap()));
    let mut found = Vec::new();
    while let Some(line) = lines.next().await? {
        assert!(lines.text.capacity() < 40 << 20, "memory is bounded");
        found.push(line);
    }
    Ok(found)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Packed or not, every line comes with its number.
    #[test]
    fn lines_come_as_they_are(lengths in proptest::collection::vec(0usize..12_000, 0..9), last in any::<bool>()) {
        let lines: Vec<Vec<u8>> = lengths.iter().zip(b'a'..).map(|(length, letter)| vec![letter; *length]).collect();
        let mut text = lines.join(&b'\n');
        if last && !lines.is_empty() {
            text.push(b'\n');
        }
        let mut expected = lines;
        if !last && expected.last().is_some_and(Vec::is_empty) {
            expected.pop();
        }
        let expected: Vec<_> = expected.into_iter().zip(1..).map(|(line, number)| (number, Line::Whole(line))).collect();
        prop_assert_eq!(&run(read(&text)).unwrap(), &expected);
        prop_assert_eq!(&run(read(&pack(&*text).unwrap())).unwrap(), &expected);
    }
}

#[test]
fn a_line_too_long_is_passed_over_and_not_kept_in_memory() {
    let text = [b"one\n".to_vec(), vec![b'x'; 60 << 20], b"\nthree".to_vec()].concat();
    let whole = |text: &str| Line::Whole(text.into());
    let expected = [(1, whole("one")), (2, Line::TooLong), (3, whole("three"))];
    assert_eq!(run(read(&text)).unwrap(), expected);
    assert_eq!(run(read(&pack(&*text).unwrap())).unwrap(), expected, "60 MB packed in 60 KB");
    assert_eq!(run(read(&vec![b'x'; LONGEST + 1])).unwrap(), [(1, Line::TooLong)]);
}

#[test]
fn a_packed_file_that_breaks_off_is_damaged() {
    let packed = pack("acme,key\n".repeat(5_000).as_bytes()).unwrap();
    for length in [packed.len() - 1, packed.len() - 9, packed.len() / 2, 5] {
        assert_eq!(run(read(&packed[..length])).unwrap_err().kind, FaultKind::Corrupt, "{length} bytes");
    }
    let mut damaged = packed;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    assert_eq!(run(read(&damaged)).unwrap_err().kind, FaultKind::Corrupt);
}

proptest! {
    #![proptest_config(cases(300))]

    /// Packed and damaged, or damaged and packed: lines, or one sentence; in bounded memory either way.
    #[test]
    fn hostile_packing_is_answered(text in damaged(corpus("list")), packed in damaged(vec![
        pack(b"acme,key\n".repeat(50).as_slice()).unwrap(),
        pack(vec![0; 3 << 20].as_slice()).unwrap(),
        [pack(b"acme,a\n".as_slice()).unwrap(), pack(b"acme,b".as_slice()).unwrap()].concat(),
    ])) {
        for file in [pack(text.as_slice()).unwrap(), packed] {
            if let Err(fault) = run(read(&file)) {
                is_a_sentence(&fault.detail)?;
            }
        }
    }
}
