//! Whether sled's log ends within a segment that was whole once, as it does where something was cut off.
//!
//! sled 0.34 trusts each segment that lies before the newest ones, and opens a log whose end is missing without a word.
//! The log's length alone says nothing: sled gives whole segments back by itself and goes on behind the new end, so that
//! a good log may be shorter than it was by any number of bytes. But each segment begins with where it stands in the
//! history, and how far the history was written by then (`SegmentHeader` in sled's pagecache/logger.rs).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// `SEG_HEADER_LEN`: a checksum of 4 bytes, then two positions of 8.
const HEADER_BYTES: usize = 20;
/// What a position is mixed with, so that zeros are none.
const MIXED_WITH: u64 = 0x7FFF_FFFF_FFFF_FFFF;

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Where its first byte stands in the history, a multiple of a segment's size.
    starts: u64,
    /// Up to where the history was written when this segment was begun.
    written: u64,
}

impl Head {
    /// The head at `offset`. `None` where no segment was begun, or its bytes make no sense.
    fn read(bytes: &[u8; HEADER_BYTES], offset: u64, segment_bytes: u64) -> Option<Self> {
        let position = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok())?;
            Some(u64::from_le_bytes(bytes) ^ MIXED_WITH)
        };
        let head = Self { starts: position(4)?, written: position(12)? };
        let sound = head.starts.is_multiple_of(segment_bytes) && head.starts >= offset && head.written <= head.starts;
        sound.then_some(head)
    }
}

/// The offset of the log's last segment, if that is there in part only although the history went on behind it.
pub(super) fn cut_within(log: &File, segment_bytes: u64) -> io::Result<Option<u64>> {
    let length = log.metadata()?.len();
    if length.is_multiple_of(segment_bytes) {
        return Ok(None);
    }
    let mut written = 0;
    let mut last = None;
    for offset in (0..length).step_by(usize::try_from(segment_bytes).unwrap_or(usize::MAX)) {
        let mut bytes = [0; HEADER_BYTES];
        last = match log.read_exact_at(&mut bytes, offset) {
            Ok(()) => Head::read(&bytes, offset, segment_bytes).map(|head| (offset, head)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        written = last.map_or(written, |(_, head)| head.written.max(written));
    }
    // sled looks for a torn end from the segment that holds this position on, and leaves off there by itself.
    let torn_from = written / segment_bytes * segment_bytes;
    Ok(last.filter(|(_, head)| head.starts < torn_from).map(|(offset, _)| offset))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SEGMENT: u64 = 512;

    /// A log of segments that begin and were begun so, in units of segments, and its last one of so many bytes.
    fn log(heads: &[(u64, u64)], last: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for (index, (starts, written)) in heads.iter().enumerate() {
            let mut segment = vec![0; 4];
            segment.extend(((starts * SEGMENT) ^ MIXED_WITH).to_le_bytes());
            segment.extend(((written * SEGMENT) ^ MIXED_WITH).to_le_bytes());
            segment.resize(if index + 1 == heads.len() { last } else { 512 }, 7);
            file.write_all(&segment).unwrap();
        }
        file
    }

    fn cut(heads: &[(u64, u64)], last: usize) -> Option<u64> {
        cut_within(&log(heads, last), SEGMENT).unwrap()
    }

    #[test]
    fn a_segment_that_was_whole_is_missed_where_it_ends_too_early() {
        assert_eq!(cut(&[(0, 0), (5, 4), (2, 1)], 511), Some(1024), "written over since: its successor is before it");
        assert_eq!(cut(&[(0, 0), (5, 4), (2, 1)], 20), Some(1024), "nothing but its head is left");
    }

    #[test]
    fn the_end_that_is_being_written_is_none() {
        assert_eq!(cut(&[(0, 0), (1, 0), (2, 1)], 300), None);
        assert_eq!(cut(&[(4, 3), (2, 1), (5, 4)], 300), None, "sled has given room back, and goes on behind its end");
        assert_eq!(cut(&[(6, 4), (2, 1), (5, 3)], 300), None, "the next one was begun before this one was written");
        assert_eq!(cut(&[(0, 0), (5, 4), (2, 1)], 512), None, "whole");
        assert_eq!(cut(&[(0, 0), (5, 4), (2, 1)], 19), None, "not begun");
        assert_eq!(cut(&[], 0), None);
    }

    #[test]
    fn bytes_that_make_no_sense_are_no_head() {
        let mut file = log(&[(0, 0), (5, 4)], 512);
        file.write_all(&[0; 300]).unwrap();
        assert_eq!(cut_within(&file, SEGMENT).unwrap(), None, "zeros, as sled fills what is free with");
    }
}
