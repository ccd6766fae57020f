//! How an object is cut into parts.

/// A multipart upload has at most this many parts (aws-semantics 3.1).
pub const MAX_PARTS: u64 = 10_000;
/// A part other than the last has at least this many bytes (aws-semantics 3.1).
pub const MIN_PART: u64 = 5 << 20;
/// A part, a single PUT and a `CopyObject` carry at most this many bytes (aws-semantics 3.1).
pub const MAX_PART: u64 = 5 << 30;
/// The largest object: 10,000 parts of 5 GiB, 48.8 TiB (aws-semantics 3.1).
pub const MAX_OBJECT: u64 = MAX_PARTS * MAX_PART;
/// Our own parts where the source has none to keep: few enough requests, small enough to send again.
const USUAL_PART: u64 = 16 << 20;
/// From this size on an object whose ETag nobody can compare is sent in parts, to resume after a break and to use
/// more than one connection. S3's guide says "consider multipart at 100 MB" (aws-semantics 3.6).
const WORTH_PARTS: u64 = 64 << 20;
/// From this size on the store copies by itself where it can: below it a copy costs as many requests as a stream, and
/// the stream's bytes are verified.
pub const WORTH_COPYING: u64 = 16 << 20;
const MIB: u64 = 1 << 20;

/// How an object's bytes are laid out at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One request: the ETag stays one of a single part.
    Single,
    /// A multipart upload with these part sizes, in order.
    Parts(Vec<u64>),
    /// Larger than S3 stores.
    TooLarge,
}

/// What is known of the source's own layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceLayout {
    /// Written in one request.
    Single {
        /// Whether ETag or checksum only stay comparable if the replica is one part too.
        comparable: bool,
    },
    /// Written in parts of these sizes.
    Parts(Vec<u64>),
    /// Written in parts that the store does not tell.
    UntoldParts,
}

/// Lays an object of `size` bytes out, keeping the source's part boundaries wherever S3 permits it, so that ETags and
/// composite checksums stay comparable.
#[must_use]
pub fn layout(size: u64, source: &SourceLayout) -> Layout {
    if size > MAX_OBJECT {
        return Layout::TooLarge;
    }
    match source {
        SourceLayout::Parts(sizes) if permitted(size, sizes) => Layout::Parts(sizes.clone()),
        SourceLayout::Single { comparable: true } if size <= MAX_PART => Layout::Single,
        SourceLayout::Single { .. } | SourceLayout::UntoldParts | SourceLayout::Parts(_) if size < WORTH_PARTS => {
            Layout::Single
        }
        SourceLayout::Single { .. } | SourceLayout::UntoldParts | SourceLayout::Parts(_) => {
            Layout::Parts(even(size, part_size(size)))
        }
    }
}

/// The same where the store copies: what was written in one request is copied in one, up to the 5 GiB that one carries, as
/// nothing has to be resumed through this machine and one request is the least that a copy costs.
#[must_use]
pub fn copied(size: u64, source: &SourceLayout) -> Layout {
    match source {
        SourceLayout::Single { .. } if size <= MAX_PART => Layout::Single,
        SourceLayout::Single { .. } | SourceLayout::Parts(_) | SourceLayout::UntoldParts => layout(size, source),
    }
}

/// Part size for an object of `size` bytes: `max(16 MiB, size / 10,000 rounded up to whole MiB)`.
#[must_use]
pub fn part_size(size: u64) -> u64 {
    USUAL_PART.max(size.div_ceil(MAX_PARTS).div_ceil(MIB).saturating_mul(MIB)).min(MAX_PART)
}

/// First and last byte of each part, both inclusive.
pub fn ranges(sizes: &[u64]) -> impl Iterator<Item = (u64, u64)> + '_ {
    sizes.iter().scan(0_u64, |start, size| {
        let first = *start;
        *start = first.saturating_add(*size);
        Some((first, start.saturating_sub(1)))
    })
}

fn even(size: u64, part: u64) -> Vec<u64> {
    let whole = size / part;
    let mut sizes: Vec<u64> = (0..whole).map(|_| part).collect();
    if !size.is_multiple_of(part) {
        sizes.push(size % part);
    }
    sizes
}

fn permitted(size: u64, sizes: &[u64]) -> bool {
    let Some((last, others)) = sizes.split_last() else { return false };
    sizes.len() as u64 <= MAX_PARTS
        && others.iter().all(|part| (MIN_PART..=MAX_PART).contains(part))
        && (1..=MAX_PART).contains(last)
        && sizes.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part)) == Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_at_the_edges() {
        let single = SourceLayout::Single { comparable: true };
        let opaque = SourceLayout::Single { comparable: false };
        assert_eq!(layout(0, &single), Layout::Single);
        assert_eq!(layout(0, &SourceLayout::UntoldParts), Layout::Single);
        assert_eq!(layout(MAX_PART, &single), Layout::Single);
        assert!(matches!(layout(MAX_PART + 1, &single), Layout::Parts(_)));
        assert_eq!(layout(WORTH_PARTS - 1, &opaque), Layout::Single);
        assert_eq!(layout(WORTH_PARTS, &opaque), Layout::Parts(vec![USUAL_PART; 4]));
        assert_eq!(layout(MAX_OBJECT, &opaque), Layout::Parts(vec![MAX_PART; 10_000]));
        assert_eq!(layout(MAX_OBJECT + 1, &opaque), Layout::TooLarge);
        assert_eq!(part_size(5 << 40), 525 << 20);
    }

    #[test]
    fn a_store_copies_in_one_request_what_was_written_in_one() {
        let parts = SourceLayout::Parts(vec![MAX_PART, 1]);
        for comparable in [true, false] {
            let single = SourceLayout::Single { comparable };
            assert_eq!(copied(0, &single), Layout::Single);
            assert_eq!(copied(MAX_PART, &single), Layout::Single);
            assert_eq!(copied(MAX_PART + 1, &single), Layout::Parts(even(MAX_PART + 1, USUAL_PART)));
            assert_eq!(copied(MAX_OBJECT + 1, &single), Layout::TooLarge);
        }
        assert_eq!(copied(MAX_PART + 1, &parts), Layout::Parts(vec![MAX_PART, 1]), "boundaries stay (P6)");
        assert_eq!(copied(WORTH_PARTS, &SourceLayout::UntoldParts), Layout::Parts(vec![USUAL_PART; 4]));
    }

    #[test]
    fn source_boundaries_stay_where_s3_permits_them() {
        let kept = vec![MIN_PART, 7 << 20, 3];
        assert_eq!(layout(kept.iter().sum(), &SourceLayout::Parts(kept.clone())), Layout::Parts(kept));
        let small_middle = vec![MIN_PART, 1, MIN_PART];
        assert_eq!(layout(small_middle.iter().sum(), &SourceLayout::Parts(small_middle)), Layout::Single);
        assert_eq!(
            layout(99, &SourceLayout::Parts(vec![100])),
            Layout::Single,
            "parts that do not sum up are not kept"
        );
        assert_eq!(
            layout(100, &SourceLayout::Parts(vec![100])),
            Layout::Parts(vec![100]),
            "one part is still a multipart object"
        );
    }

    proptest! {
        #[test]
        fn parts_cover_the_object_exactly_and_obey_s3(size in 0..=MAX_OBJECT, comparable: bool) {
            if let Layout::Parts(sizes) = layout(size, &SourceLayout::Single { comparable }) {
                prop_assert!(permitted(size, &sizes));
                let mut next = 0;
                for (first, last) in ranges(&sizes) {
                    prop_assert_eq!(first, next);
                    next = last + 1;
                }
                prop_assert_eq!(next, size);
            } else {
                prop_assert!(size <= MAX_PART);
            }
        }
    }
}
