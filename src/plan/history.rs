//! The order of a key's versions on both sides, and what must be written so that the target's ends up right (P3).

use crate::model::object::{VersionEntry, VersionId};

/// One version at the target, oldest first, as far as it could be told which source version it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replica {
    /// The replica of the source version at this place of the source's history.
    Of(usize),
    /// A delete marker: it carries no stamp, so its place tells what it stands for.
    Marker,
    /// Somebody else's, or of a version that the source no longer has.
    Unknown,
}

/// Whether a place in the source's history is a version or a delete marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An object version.
    Object,
    /// A delete marker.
    Marker,
}

/// The source's history of one key, oldest first, from a listing that is newest first.
#[must_use]
pub fn oldest_first(listing: Vec<VersionEntry>) -> Vec<VersionEntry> {
    let mut history = listing;
    history.reverse();
    history
}

/// The place of a version in a history.
#[must_use]
pub fn place(history: &[VersionEntry], version: &VersionId) -> Option<usize> {
    history.iter().position(|entry| entry.version == *version)
}

/// Which source version each replica is, markers included: a marker stands for the first source marker after its
/// predecessor that comes before its successor.
fn placed(source: &[Kind], target: &[Replica]) -> Vec<Option<usize>> {
    let mut next = 0;
    let mut places = Vec::with_capacity(target.len());
    for (position, replica) in target.iter().enumerate() {
        let place = match replica {
            Replica::Of(place) => Some(*place),
            Replica::Unknown => None,
            Replica::Marker => {
                let end = target
                    .iter()
                    .skip(position)
                    .find_map(|later| match later {
                        Replica::Of(place) if *place >= next => Some(*place),
                        Replica::Of(_) | Replica::Marker | Replica::Unknown => None,
                    })
                    .unwrap_or(source.len());
                (next..end).find(|place| source.get(*place) == Some(&Kind::Marker))
            }
        };
        if let Some(place) = place {
            next = place + 1;
        }
        places.push(place);
    }
    places
}

/// The source's last marker, where nothing at the target is newer and some marker there may be it: its place does not
/// tell, as it may have come before what is older. On top of a late version it is made once more, as nothing that was
/// hidden may become visible; where it was not there yet, it only comes sooner.
fn perhaps(source: &[Kind], target: &[Replica], places: &[Option<usize>]) -> Option<usize> {
    let last = source.iter().rposition(|kind| *kind == Kind::Marker)?;
    let newest = places.iter().flatten().max();
    (target.contains(&Replica::Marker) && newest.is_none_or(|newest| *newest < last)).then_some(last)
}

/// What must be appended at the target, in this order, so that the version at `wanted` is there, in its place: empty
/// when it is already. A late version is written and then all of its newer siblings that the target has; a late delete
/// marker whose successors were applied is left out (P4).
#[must_use]
pub fn missing(source: &[Kind], target: &[Replica], wanted: usize) -> Vec<usize> {
    let places = placed(source, target);
    let mut append = behind(source, &places, wanted);
    let top = match append.last() {
        Some(last) => source.get(*last) == Some(&Kind::Object),
        None => matches!(target.last(), Some(Replica::Of(_))),
    };
    if top && source.get(wanted) == Some(&Kind::Object) {
        append.extend(perhaps(source, target, &places).filter(|last| *last > wanted));
    }
    append
}

/// What brings the version at `wanted` to its place, as far as the places of all others are certain.
fn behind(source: &[Kind], places: &[Option<usize>], wanted: usize) -> Vec<usize> {
    let mut newer: Vec<usize> = places.iter().flatten().copied().filter(|place| *place > wanted).collect();
    newer.sort_unstable();
    newer.dedup();
    // Its last place tells: another worker may have put it, or something else, on top of what is newer.
    if let Some(position) = places.iter().rposition(|place| *place == Some(wanted)) {
        let rest = unmatched(&newer, places.get(position + 1..).unwrap_or_default());
        let (newest, top) = (places.iter().flatten().max(), places.iter().rev().flatten().next());
        return match top {
            Some(top) if rest.is_empty() && newest > Some(top) => behind(source, places, *top),
            Some(_) | None => rest.to_vec(),
        };
    }
    if newer.is_empty() {
        return vec![wanted];
    }
    match source.get(wanted) {
        Some(Kind::Object) => std::iter::once(wanted).chain(newer).collect(),
        Some(Kind::Marker) | None => Vec::new(),
    }
}

/// The rest of `newer` that does not stand in `places`, in order.
fn unmatched<'n>(newer: &'n [usize], places: &[Option<usize>]) -> &'n [usize] {
    let mut rest = newer;
    for place in places.iter().flatten() {
        if let Some((first, others)) = rest.split_first()
            && first == place
        {
            rest = others;
        }
    }
    rest
}

/// How far back the target must be told apart: older replicas than the first one (from the newest) that precedes
/// `wanted` cannot change the answer of [`missing`].
#[must_use]
pub fn settles(replica: Replica, wanted: usize) -> bool {
    matches!(replica, Replica::Of(place) if place < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{Marker, Object};
    use Replica::Of;
    use proptest::prelude::*;

    /// Two workers and versions with one ETag: the condition of an older write held on top of the newer one.
    #[test]
    fn a_version_written_on_top_of_a_newer_one_is_followed_by_it_again() {
        assert_eq!(missing(&[Object, Object, Object], &[Of(0), Of(1), Of(2), Of(1)], 1), [2]);
        assert_eq!(missing(&[Object, Marker, Object], &[Of(0), Replica::Marker, Of(2), Of(1)], 1), [2]);
        assert_eq!(missing(&[Object, Object, Object], &[Of(0), Of(1), Of(2), Of(1), Of(2)], 1), [0_usize; 0]);
        assert_eq!(missing(&[Object, Object, Object], &[Of(0), Of(1), Of(2), Of(1)], 2), [2], "its own event comes");
        assert_eq!(missing(&[Object, Object, Object], &[Of(0), Of(1), Of(2), Of(1)], 0), [2], "or an older one");
    }

    #[test]
    fn in_order_appends_one() {
        assert_eq!(missing(&[Object, Object], &[Of(0)], 1), [1]);
        assert_eq!(missing(&[Object], &[], 0), [0]);
        assert_eq!(missing(&[Object, Marker], &[Of(0)], 1), [1]);
    }

    #[test]
    fn what_is_there_is_not_written_again() {
        assert!(missing(&[Object, Object], &[Of(0), Of(1)], 0).is_empty());
        assert!(missing(&[Object, Marker, Object], &[Of(0), Replica::Marker, Of(2)], 1).is_empty());
        assert!(
            missing(&[Object, Object, Marker], &[Of(0), Replica::Marker], 2).is_empty(),
            "an unreplicated version between"
        );
    }

    #[test]
    fn a_late_version_comes_with_its_newer_siblings() {
        assert_eq!(missing(&[Object, Object, Marker, Object], &[Of(1), Replica::Marker, Of(3)], 0), [0, 1, 2, 3]);
        assert_eq!(missing(&[Object, Object, Object], &[Of(0), Of(2)], 1), [1, 2]);
    }

    #[test]
    fn a_broken_insertion_is_finished_and_not_begun_again() {
        let source = [Object, Object, Marker, Object];
        assert_eq!(missing(&source, &[Of(1), Replica::Marker, Of(3), Of(0), Of(1)], 0), [2, 3]);
    }

    #[test]
    fn a_late_marker_is_left_out() {
        assert!(missing(&[Object, Marker, Object], &[Of(0), Of(2)], 1).is_empty());
    }

    #[test]
    fn two_markers_in_a_row_are_two() {
        assert_eq!(missing(&[Object, Marker, Marker], &[Of(0), Replica::Marker], 2), [2]);
        assert!(missing(&[Object, Marker, Marker], &[Of(0), Replica::Marker, Replica::Marker], 2).is_empty());
    }

    #[test]
    fn a_marker_after_an_unreplicated_successor_is_nobodys() {
        assert_eq!(missing(&[Object, Object, Object, Marker], &[Of(0), Replica::Marker, Of(2)], 3), [3]);
    }

    #[test]
    fn foreign_versions_neither_help_nor_hurt() {
        assert_eq!(missing(&[Object, Object], &[Replica::Unknown, Of(0), Replica::Unknown], 1), [1]);
        assert!(missing(&[Object, Object], &[Of(0), Replica::Unknown, Of(1)], 1).is_empty());
    }

    /// Found by the simulation: the write came after the marker, and the power went between the two.
    #[test]
    fn an_insertion_that_broke_off_before_its_marker_is_finished() {
        assert_eq!(missing(&[Object, Marker], &[Replica::Marker, Of(0)], 0), [1]);
        assert_eq!(missing(&[Object, Object, Marker], &[Of(0), Replica::Marker, Of(1)], 1), [2]);
        assert_eq!(missing(&[Object, Marker], &[Replica::Marker, Of(0)], 1), [1], "that one is not in its place");
        assert!(missing(&[Object, Marker], &[Replica::Marker, Of(0), Replica::Marker], 0).is_empty());
    }

    #[test]
    fn a_late_version_does_not_come_on_top_of_a_marker_that_may_be_newer() {
        assert_eq!(missing(&[Marker, Object, Marker], &[Replica::Marker], 1), [1, 2]);
        assert!(
            missing(&[Object, Marker, Marker, Object], &[Of(0), Replica::Marker, Of(3)], 0).is_empty(),
            "the second marker was left out: what is newer stands on top"
        );
    }

    fn applied(source: &[Kind], target: &[Replica], appended: &[usize]) -> Vec<Replica> {
        let mut after = target.to_vec();
        after.extend(appended.iter().map(|place| match source[*place] {
            Object => Of(*place),
            Marker => Replica::Marker,
        }));
        after
    }

    proptest! {
        /// A job that breaks off is the next of its key: decided again it is finished, and once more a version comes to
        /// nothing. Then the newest is the newest, though no job is ever looked at again.
        #[test]
        fn a_job_that_broke_off_is_finished_by_itself(
            kinds in proptest::collection::vec(prop_oneof![2 => Just(Object), 1 => Just(Marker)], 1..7),
            order in Just((0..7_usize).collect::<Vec<_>>()).prop_shuffle(),
            cuts in proptest::collection::vec(0usize..4, 7),
        ) {
            let mut target: Vec<Replica> = Vec::new();
            for (job, cut) in order.iter().filter(|job| **job < kinds.len()).zip(&cuts) {
                let append = missing(&kinds, &target, *job);
                let done = append.len().saturating_sub(*cut);
                target = applied(&kinds, &target, &append[..done]);
                let append = missing(&kinds, &target, *job);
                target = applied(&kinds, &target, &append);
                // Of two markers in a row the first may have been left out: then the other is told from it only once both are there.
                let again = missing(&kinds, &target, *job);
                prop_assert!(again.is_empty() || kinds[*job] == Marker, "{} again: {:?}", job, target);
            }
            match kinds.last() {
                Some(Object) => prop_assert_eq!(target.last(), Some(&Of(kinds.len() - 1))),
                Some(Marker) => prop_assert_eq!(target.last(), Some(&Replica::Marker), "{:?}", target),
                None => {}
            }
        }

        /// Jobs in any order, with crashes in the middle of an insertion: afterwards the newest applied object is the
        /// newest at the target, and every object is there in order.
        #[test]
        fn any_order_ends_right(
            kinds in proptest::collection::vec(prop_oneof![3 => Just(Object), 1 => Just(Marker)], 1..7),
            order in proptest::collection::vec(0usize..7, 0..14),
            cuts in proptest::collection::vec(0usize..4, 14),
        ) {
            let mut target: Vec<Replica> = Vec::new();
            let all = (0..kinds.len()).collect::<Vec<_>>();
            for (job, cut) in order.iter().zip(&cuts) {
                let Some(job) = all.get(*job) else { continue };
                let append = missing(&kinds, &target, *job);
                let done = append.len().saturating_sub(*cut);
                target = applied(&kinds, &target, &append[..done]);
            }
            // Every job is decided again, in any order: here newest last, twice.
            for job in all.iter().chain(&all) {
                let append = missing(&kinds, &target, *job);
                target = applied(&kinds, &target, &append);
            }
            let objects: Vec<usize> = all.iter().copied().filter(|place| kinds[*place] == Object).collect();
            let mut rest = &objects[..];
            for replica in &target {
                if let (Of(place), Some((first, others))) = (replica, rest.split_first()) && place == first {
                    rest = others;
                }
            }
            prop_assert!(rest.is_empty(), "objects {:?} are not in order in {:?}", objects, target);
            match kinds.last() {
                Some(Object) => prop_assert_eq!(target.last(), Some(&Of(kinds.len() - 1))),
                Some(Marker) => prop_assert_eq!(target.last(), Some(&Replica::Marker)),
                None => {}
            }
        }
    }
}
