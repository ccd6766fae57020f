//! Changes that sled has not been given yet.
//!
//! sled 0.34 seals its write buffer twice for each batch, and for each of the two wakes all of its seven threads, one of
//! which writes and calls `sync_file_range`: measured, that was a third of the CPU of a small object. Batches that
//! need not be durable are therefore joined here and handed over as one, which becomes durable with the flush that
//! follows. Their order is kept, and they still reach the disk all or not at all.

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included};

use super::{Batch, Entry};

/// What stands below: the last, or the first, entry between two bounds.
type Stored<'s, E> = &'s dyn Fn(Bound<&[u8]>, Bound<&[u8]>) -> Result<Option<Entry>, E>;

/// The latest change of each key; `None` removes it.
#[derive(Debug, Default)]
pub(super) struct Held {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: u64,
}

impl Held {
    /// Takes in a batch on top of those before it.
    pub(super) fn take_in(&mut self, batch: Batch) {
        for (key, value) in batch {
            let length = key.len();
            self.bytes += weight(length, value.as_ref());
            if let Some(before) = self.changes.insert(key, value) {
                self.bytes -= weight(length, before.as_ref());
            }
        }
    }

    /// Bytes of what is held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Every change, in the order of the keys.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The change of a key, if there is one.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.changes.get(key).map(Option::as_deref)
    }

    /// The last entry within `from..=upto`, changes on top of what is stored.
    pub(super) fn floor<E>(&self, from: &[u8], upto: &[u8], stored: Stored<'_, E>) -> Result<Option<Entry>, E> {
        let mut upto = Included(upto.to_vec());
        loop {
            let below = stored(Included(from), upto.as_ref().map(Vec::as_slice))?;
            let least = below.as_ref().map_or(from, |(key, _)| key.as_slice());
            let bounds = (Included(least), upto.as_ref().map(Vec::as_slice));
            let mut changed = self.changes.range::<[u8], _>(bounds).rev();
            if let Some((key, value)) = changed.find_map(|(key, value)| Some((key, value.as_ref()?))) {
                return Ok(Some((key.clone(), value.clone())));
            }
            match below {
                // Removed: what stands before it is next.
                Some((key, _)) if self.changes.contains_key(&key) => upto = Excluded(key),
                found => return Ok(found),
            }
        }
    }

    /// The first entry behind `after` and before `end`, changes on top of what is stored.
    pub(super) fn next<E>(&self, after: &[u8], end: &[u8], stored: Stored<'_, E>) -> Result<Option<Entry>, E> {
        let mut after = after.to_vec();
        loop {
            let above = stored(Excluded(&after), Excluded(end))?;
            let most = above.as_ref().map_or(Excluded(end), |(key, _)| Included(key.as_slice()));
            let mut changed = self.changes.range::<[u8], _>((Excluded(after.as_slice()), most));
            if let Some((key, value)) = changed.find_map(|(key, value)| Some((key, value.as_ref()?))) {
                return Ok(Some((key.clone(), value.clone())));
            }
            match above {
                Some((key, _)) if self.changes.contains_key(&key) => after = key,
                found => return Ok(found),
            }
        }
    }
}

fn weight(key: usize, value: Option<&Vec<u8>>) -> u64 {
    (key + value.map_or(0, Vec::len)) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0..3_u8, 1..3)
    }

    fn batch() -> impl Strategy<Value = Batch> {
        proptest::collection::vec((key(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4))), 0..8)
    }

    fn change(map: &mut Map, batch: &Batch) {
        for (key, value) in batch {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
    }

    fn owned((key, value): (&Vec<u8>, &Vec<u8>)) -> Entry {
        (key.clone(), value.clone())
    }

    proptest! {
        /// Changes on top of a store read like a store that has them, and are as many bytes as they say.
        #[test]
        fn what_is_held_reads_as_if_it_were_stored(
            below in batch(), above in proptest::collection::vec(batch(), 0..5), one in key(), other in key()
        ) {
            let (mut stored, mut held) = (Map::new(), Held::default());
            change(&mut stored, &below);
            let mut whole = stored.clone();
            for batch in above {
                change(&mut whole, &batch);
                held.take_in(batch);
            }
            let (from, upto) = if one <= other { (one, other) } else { (other, one) };
            let found = held.get(&from).map(|value| value.map(<[u8]>::to_vec));
            prop_assert_eq!(found.unwrap_or_else(|| stored.get(&from).cloned()), whole.get(&from).cloned());
            let last = |from: Bound<&[u8]>, upto: Bound<&[u8]>| Ok::<_, ()>(stored.range::<[u8], _>((from, upto)).next_back().map(owned));
            let floor = held.floor(&from, &upto, &last).unwrap();
            prop_assert_eq!(floor, whole.range(from.clone()..=upto.clone()).next_back().map(owned));
            if from < upto {
                let first = |after: Bound<&[u8]>, end: Bound<&[u8]>| Ok::<_, ()>(stored.range::<[u8], _>((after, end)).next().map(owned));
                let next = held.next(&from, &upto, &first).unwrap();
                let bounds = (Excluded(from.as_slice()), Excluded(upto.as_slice()));
                prop_assert_eq!(next, whole.range::<[u8], _>(bounds).next().map(owned));
            }
            let bytes: usize = held.changes().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum();
            prop_assert_eq!(held.bytes(), bytes as u64);
        }
    }
}
