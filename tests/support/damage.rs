//! Valid inputs, damaged: what a reader of foreign bytes must answer and survive (P12).
//!
//! The samples of a reader lie in `tests/corpus/READER/`, with everything that ever broke it. Each is read as it is, and
//! then damaged in ways that real damage and real malice take. `REPL_FUZZ_CASES=100000 cargo test --lib hostile` tries
//! more cases than a usual run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and are told by the environment"
)]

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseResult;

/// What a damaged input has at most, in bytes: enough to be far beyond what anything means.
const LARGEST: usize = 64 << 10;
/// The longest that one sentence about a damaged input may be, in characters.
const SENTENCE: usize = 600;

/// Pieces that mean something to one of the readers, or nearly do.
const PIECES: &[&[u8]] = &[
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"<",
    b">",
    b"&",
    b";",
    b",",
    b":",
    b"=",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b"%",
    b"%zz",
    b"%ff",
    b"%00",
    b"+",
    b"#",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"0x10",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"99999999999999999999999999999999",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"\\u0000",
    b"\\ud800",
    b"\\u001b",
    b"&#0;",
    b"&#x110000;",
    b"&lol;",
    b"]]>",
    b"<![CDATA[",
    b"<!--",
    b"<?xml",
    b"</",
    b"<!DOCTYPE x [<!ENTITY lol \"lol\">]>",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"1970-01-01T00:00:00Z",
    b"9999-12-31T23:59:60Z",
    b"\x1f\x8b\x08\x00",
    b"../",
    b"//",
    b"{\"a\":",
    b"[[",
    b"\"\"\"",
];

/// One way in which bytes suffer. Places and lengths are drawn as parts of the whole.
#[derive(Clone, Debug)]
enum Wound {
    Flip(Index, u8),
    Cut(Index, Index),
    CutOff(Index),
    /// A stretch of at most so many bytes, so many times more: depth and length.
    Repeat(Index, usize, usize),
    Insert(Index, Vec<u8>),
    Piece(Index, Index),
    /// Over what stands there.
    Overwrite(Index, Index),
    /// A stretch moves to another place.
    Move(Index, Index, usize),
    /// The next number becomes another one.
    Number(Index, u64),
}

fn wound() -> impl Strategy<Value = Wound> {
    let place = any::<Index>;
    prop_oneof![
        3 => (place(), 0..8_u8).prop_map(|(at, bit)| Wound::Flip(at, bit)),
        2 => (place(), place()).prop_map(|(from, to)| Wound::Cut(from, to)),
        1 => place().prop_map(Wound::CutOff),
        1 => (place(), 1..40_usize, 1..2000_usize).prop_map(|(at, length, times)| Wound::Repeat(at, length, times)),
        2 => (place(), 1..200_usize, 1..4_usize).prop_map(|(at, length, times)| Wound::Repeat(at, length, times)),
        2 => (place(), proptest::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Wound::Insert(at, bytes)),
        5 => (place(), place()).prop_map(|(at, piece)| Wound::Piece(at, piece)),
        4 => (place(), place()).prop_map(|(at, piece)| Wound::Overwrite(at, piece)),
        2 => (place(), place(), 1..60_usize).prop_map(|(from, to, length)| Wound::Move(from, to, length)),
        3 => (place(), prop_oneof![any::<u64>(), 0..3_u64, Just(u64::MAX)]).prop_map(|(at, to)| Wound::Number(at, to)),
    ]
}

impl Wound {
    fn strike(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let place = |index: &Index| index.index(length + 1);
        match self {
            Self::Flip(at, bit) => {
                if let Some(byte) = bytes.get_mut(place(at)) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Cut(from, to) => {
                let (from, to) = (place(from).min(place(to)), place(from).max(place(to)));
                // Mostly a little, so that the rest still means something.
                drop(bytes.drain(from..to.min(from + 1 + (to - from) % 48).min(length)));
            }
            Self::CutOff(at) => bytes.truncate(place(at)),
            Self::Repeat(at, most, times) => {
                let at = place(at);
                let stretch = bytes[at..(at + most).min(length)].to_vec();
                let times = (*times).min(LARGEST / stretch.len().max(1));
                drop(bytes.splice(at..at, stretch.repeat(times)));
            }
            Self::Insert(at, new) => drop(bytes.splice(place(at)..place(at), new.iter().copied())),
            Self::Piece(at, piece) => {
                let new = PIECES[piece.index(PIECES.len())];
                drop(bytes.splice(place(at)..place(at), new.iter().copied()));
            }
            Self::Overwrite(at, piece) => {
                let new = PIECES[piece.index(PIECES.len())];
                let end = (place(at) + new.len()).min(length);
                drop(bytes.splice(place(at)..end, new.iter().copied()));
            }
            Self::Move(from, to, most) => {
                let from = place(from);
                let stretch: Vec<u8> = bytes.drain(from..(from + most).min(length)).collect();
                let to = to.index(bytes.len() + 1);
                drop(bytes.splice(to..to, stretch));
            }
            Self::Number(at, to) => {
                let from = place(at);
                let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|skip| from + skip) else {
                    return;
                };
                let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                drop(bytes.splice(start..start + digits, to.to_string().into_bytes()));
            }
        }
        bytes.truncate(2 * LARGEST);
    }
}

/// One of the samples with some damage to it; now and then none.
pub(crate) fn damaged(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    assert!(!samples.is_empty(), "nothing to damage");
    (proptest::sample::select(samples), proptest::collection::vec(wound(), 0..7)).prop_map(|(mut bytes, wounds)| {
        wounds.iter().for_each(|wound| wound.strike(&mut bytes));
        bytes
    })
}

/// The same as text, as readers get it that are handed UTF-8.
pub(crate) fn damaged_text(samples: Vec<Vec<u8>>) -> impl Strategy<Value = String> {
    damaged(samples).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The samples of a reader.
pub(crate) fn corpus(reader: &str) -> Vec<Vec<u8>> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(reader);
    let mut files: Vec<_> =
        std::fs::read_dir(&place).expect("a corpus of this name").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// So many cases, or as many as `REPL_FUZZ_CASES` asks for. What fails is printed smaller, and kept as a file of the
/// corpus by whoever mends it.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("REPL_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() }
}

/// Whether a text is one sentence for people: something, in one line that a terminal shows as it is, and no longer than
/// anyone reads.
pub(crate) fn is_a_sentence(text: &str) -> TestCaseResult {
    prop_assert!(!text.trim().is_empty(), "nothing is said");
    let shown: String = text.chars().take(SENTENCE).collect();
    prop_assert!(text.chars().count() <= SENTENCE, "{} characters: {:?}", text.chars().count(), shown);
    prop_assert!(!text.chars().any(char::is_control), "control characters: {:?}", shown);
    Ok(())
}
