use super::*;
use crate::damage::{self, cases, is_a_sentence};
use crate::model::digest::Algorithm;
use proptest::prelude::*;
use proptest::sample::Index;

fn receipt(number: u64) -> Receipt {
    Receipt {
        settled: Timestamp(1_795_000_000_000 + number * 1000),
        kind: [Kind::Write, Kind::DeleteMarker, Kind::Attributes][usize::try_from(number % 3).unwrap()],
        ending: if number.is_multiple_of(2) { Ending::Replicated } else { Ending::AlreadyEqual },
        rule: RuleId::new("critical"),
        target_id: TargetId::new("dr"),
        source: SourceSide {
            bucket: "acme-primary".to_owned(),
            key: Key::new(format!("critical/{number} \"ü\"\n.txt")),
            version: VersionId::new(format!("v{number}")),
            etag: Some(ETag::new("9e107d9d372bb6826bd81d3542a419d6")),
            checksum: number.is_multiple_of(2).then(|| Checksum {
                algorithm: Algorithm::Crc32c,
                kind: ChecksumType::FullObject,
                value: "yZRlqg==".to_owned(),
            }),
            size: Some(number),
            modified: Some(Timestamp(1_794_999_999_000)),
        },
        target: TargetSide {
            bucket: "acme-dr".to_owned(),
            key: Key::new("from-us/x"),
            version: Some(VersionId::new("t1")),
            etag: None,
        },
        verified: match number % 3 {
            0 => Verified::By(Means::Checksum),
            1 => Verified::NoBytes,
            _ => Verified::Unprovable("the source stores no checksum"),
        },
        lag: Duration::from_millis(1250),
    }
}

/// A chain in files of so many receipts each; every file is a list of lines with their line feeds.
fn written(files: &[u64]) -> Vec<Vec<Vec<u8>>> {
    let mut tip = Tip::genesis(chain_id("a test"));
    let mut number = 0;
    let mut all = Vec::new();
    for receipts in files {
        let mut lines = vec![tip.open(Timestamp(1_795_000_000_000))];
        for _ in 0..*receipts {
            lines.push(tip.receipt(&receipt(number)));
            number += 1;
        }
        lines.push(tip.close());
        all.push(lines);
    }
    all
}

fn checked(files: &[Vec<Vec<u8>>]) -> Checked {
    let named = files.iter().enumerate();
    check(named.map(|(number, lines)| Reader::read(format!("file {}", number + 1), lines.concat().as_slice())))
}

#[test]
fn a_receipt_is_spelled_so() {
    let mut tip = Tip::genesis("00c0ffee".to_owned());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(
        text(tip.open(Timestamp(1_795_000_000_000))),
        "{\"chain\":\"00c0ffee\",\"sequence\":1,\"prev\":\"0000000000000000000000000000000000000000000000000000000000000000\",\
         \"kind\":\"open\",\"format\":1,\"file\":1,\"time\":\"2026-11-18T11:06:40Z\"}\n"
    );
    let opened = tip.hash.clone();
    assert_eq!(
        text(tip.receipt(&receipt(0))),
        format!(
            "{{\"chain\":\"00c0ffee\",\"sequence\":2,\"prev\":\"{opened}\",\"kind\":\"write\",\
             \"time\":\"2026-11-18T11:06:40Z\",\"outcome\":\"replicated\",\"rule\":\"critical\",\
             \"source\":{{\"bucket\":\"acme-primary\",\"key\":\"critical/0 \\\"ü\\\"\\n.txt\",\"version\":\"v0\",\
             \"etag\":\"9e107d9d372bb6826bd81d3542a419d6\",\"size\":0,\"modified\":\"2026-11-18T11:06:39Z\",\
             \"checksum\":{{\"algorithm\":\"CRC32C\",\"type\":\"FULL_OBJECT\",\"value\":\"yZRlqg==\"}}}},\
             \"target\":{{\"name\":\"dr\",\"bucket\":\"acme-dr\",\"key\":\"from-us/x\",\"version\":\"t1\",\"etag\":null}},\
             \"verified\":{{\"means\":\"checksum\",\"reason\":null}},\"lag_seconds\":1.25}}\n"
        )
    );
    // The hash is what `printf %s LINE | sha256sum` gives, so that anyone can check without repl.
    assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn a_whole_chain_passes_in_any_order_and_with_copies() {
    let mut files = written(&[3, 0, 5]);
    files.reverse();
    files.push(files[0].clone());
    let checked = checked(&files);
    assert_eq!(checked.breaks, []);
    assert_eq!((checked.files, checked.receipts, checked.lost), (4, 13, 0));
    assert_eq!((checked.chains.len(), checked.chains[0].files, checked.chains[0].tip.sequence), (1, 3, 14));
}

#[test]
fn two_chains_side_by_side_do_not_mix() {
    let mut files = written(&[2, 2]);
    let mut tip = Tip::genesis(chain_id("another"));
    files.push(vec![tip.open(Timestamp(0)), tip.lost(3, Timestamp(0)), tip.close()]);
    let checked = checked(&files);
    assert_eq!((checked.breaks.as_slice(), checked.chains.len(), checked.lost), (&[] as &[Break], 2, 3));
}

#[test]
fn a_break_is_named_by_file_and_line() {
    let at = |files: &[Vec<Vec<u8>>]| {
        let breaks = checked(files).breaks;
        breaks.into_iter().map(|found| (found.file, found.line)).collect::<Vec<_>>()
    };
    let named = |file: &str, line: u64| vec![(file.to_owned(), line)];
    let mut removed = written(&[5, 5]);
    removed[1].remove(2);
    assert_eq!(at(&removed), named("file 2", 3));
    let mut last_removed = written(&[5, 5]);
    last_removed[1].pop();
    assert_eq!(at(&last_removed), named("file 2", 7));
    let mut first_removed = written(&[5, 5]);
    first_removed[1].remove(0);
    assert!(
        at(&first_removed).iter().all(|found| *found == ("file 2".to_owned(), 1)) && !at(&first_removed).is_empty()
    );
    let mut changed = written(&[5, 5]);
    let line = String::from_utf8(changed[0][3].clone()).unwrap().replace("acme-dr", "acme-xx");
    changed[0][3] = line.into_bytes();
    assert_eq!(at(&changed), named("file 1", 5));
    let mut file_removed = written(&[1, 1, 1]);
    file_removed.remove(1);
    assert_eq!(at(&file_removed), named("file 2", 1));
    assert_eq!(at(&written(&[1, 1])[1..]), named("file 1", 1), "the beginning is missing");
}

#[test]
fn a_forged_second_file_of_one_number_is_seen() {
    let mut tip = Tip::genesis(chain_id("a test"));
    let fork = vec![tip.open(Timestamp(5)), tip.receipt(&receipt(77)), tip.close()];
    let mut files = written(&[1]);
    files.push(fork);
    assert!(checked(&files).breaks[0].reason.contains("one of the two is forged"));
}

#[test]
fn packed_files_read_as_they_were_and_damage_shows() {
    let lines = written(&[40])[0].concat();
    let packed = pack(lines.as_slice()).unwrap();
    assert!(packed.len() < lines.len());
    assert_eq!(packed, pack(lines.as_slice()).unwrap(), "the same lines, the same bytes");
    let read = |packed: &[u8]| check([Reader::read("x.gz", unpack(packed))]);
    assert_eq!(read(&packed).breaks, []);
    for place in [12, packed.len() / 2, packed.len() - 5] {
        let mut damaged = packed.clone();
        damaged[place] ^= 0x10;
        assert!(!read(&damaged).breaks.is_empty(), "byte {place}");
        assert!(!read(&packed[..place]).breaks.is_empty(), "cut at {place}");
    }
}

#[test]
fn a_line_without_end_is_refused_and_not_kept_in_memory() {
    let mut bytes = written(&[1])[0][0].clone();
    bytes.extend(std::iter::repeat_n(b'x', LONGEST_LINE * 3));
    let (_, breaks) = Reader::read("x", bytes.as_slice());
    assert!(breaks[0].reason.contains("more than"), "{breaks:?}");
}

/// One way to damage a chain.
#[derive(Clone, Debug)]
enum Damage {
    Remove(Index),
    Repeat(Index),
    Swap(Index, Index),
    Change(Index, Index, u8),
    Cut(Index),
    RemoveFile(Index),
    SwapFiles,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<Index>().prop_map(Damage::Remove),
        any::<Index>().prop_map(Damage::Repeat),
        any::<(Index, Index)>().prop_map(|(one, other)| Damage::Swap(one, other)),
        (any::<Index>(), any::<Index>(), 1..=u8::MAX).prop_map(|(line, byte, bits)| Damage::Change(line, byte, bits)),
        any::<Index>().prop_map(Damage::Cut),
        any::<Index>().prop_map(Damage::RemoveFile),
        Just(Damage::SwapFiles),
    ]
}

/// Does it; `false` where the damage leaves everything as it was, or is one that no chain can show.
fn damaged(files: &mut Vec<Vec<Vec<u8>>>, damage: &Damage) -> bool {
    let places: Vec<(usize, usize)> =
        files.iter().enumerate().flat_map(|(file, lines)| (0..lines.len()).map(move |line| (file, line))).collect();
    let place = |index: &Index| places[index.index(places.len())];
    match damage {
        Damage::Remove(at) => {
            let (file, line) = place(at);
            files[file].remove(line);
        }
        Damage::Repeat(at) => {
            let (file, line) = place(at);
            let copy = files[file][line].clone();
            files[file].insert(line, copy);
        }
        Damage::Swap(one, other) => {
            let (one, other) = (place(one), place(other));
            let line = files[other.0][other.1].clone();
            files[other.0][other.1] = std::mem::replace(&mut files[one.0][one.1], line);
            return one != other;
        }
        Damage::Change(at, byte, bits) => {
            let (file, line) = place(at);
            let bytes = &mut files[file][line];
            let byte = byte.index(bytes.len());
            bytes[byte] ^= bits;
        }
        Damage::Cut(at) => {
            let whole = files.last().unwrap().concat();
            let kept = &whole[..at.index(whole.len())];
            *files.last_mut().unwrap() = vec![kept.to_vec()];
        }
        Damage::RemoveFile(at) => {
            // The newest files can go unseen: only the head that the worker tells shows that.
            let Some(older) = files.len().checked_sub(1).filter(|older| *older > 0) else { return false };
            files.remove(at.index(older));
        }
        Damage::SwapFiles => {
            // Whole files in another order are the same chain; lines of one file put in another's place are not.
            if files.len() < 2 {
                return false;
            }
            let head = files[0][0].clone();
            files[0][0] = std::mem::replace(&mut files[1][0], head);
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// The law of the chain: whole files pass, and any removed, repeated, swapped, changed or cut line is found.
    #[test]
    fn any_damage_is_found(sizes in prop::collection::vec(0_u64..5, 1..4), damage in damage()) {
        let mut files = written(&sizes);
        prop_assert_eq!(checked(&files).breaks, vec![]);
        if damaged(&mut files, &damage) {
            prop_assert!(!checked(&files).breaks.is_empty(), "{:?} went unseen", damage);
        }
    }

    /// A reader that stops anywhere and a writer that goes on from its tip make one chain.
    #[test]
    fn a_chain_goes_on_from_any_line(size in 0_u64..6, stop in any::<Index>()) {
        let mut lines = written(&[size]).remove(0);
        lines.pop();
        lines.truncate(stop.index(lines.len()) + 1);
        let mut reader = Reader::new("first");
        lines.iter().for_each(|line| reader.line(line));
        let mut tip = reader.tip().unwrap().clone();
        lines.push(tip.close());
        let second = vec![tip.open(Timestamp(1)), tip.receipt(&receipt(9)), tip.close()];
        prop_assert_eq!(checked(&[lines, second]).breaks, vec![]);
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn hostile_files_are_answered(text in damage::damaged(written(&[2, 3]).into_iter().map(|lines| lines.concat()).collect())) {
        for file in [text.clone(), pack(text.as_slice()).unwrap()] {
            let plain = Reader::read("plain", file.as_slice());
            let unpacked = Reader::read("packed", unpack(file.as_slice()));
            for found in check([plain, unpacked]).breaks {
                is_a_sentence(&found.reason)?;
            }
        }
    }
}

/// P10: a small file that unpacks to nothing but broken lines is told with some of them.
#[test]
fn hostile_files_stay_small() {
    let bomb = pack(b"\n".repeat(4 << 20).as_slice()).unwrap();
    assert!(bomb.len() < 64 << 10);
    let checked = check([Reader::read("bomb", unpack(bomb.as_slice()))]);
    assert!((1..=MOST_BREAKS + 2).contains(&checked.breaks.len()), "{}", checked.breaks.len());
    assert!(checked.breaks.iter().any(|found| found.reason.contains("further")), "{:?}", checked.breaks.last());
}
