//! A sorted map whose entries lie packed in leaves, many entries to one value of the store, with the changes of one
//! batch held back until it is applied.
//!
//! *Why:* the store below spends about 60 bytes of memory and 100 bytes of disk on each entry of its own (measured,
//! sled 0.34: at most 16 entries to a page), so a million jobs with an entry for each index would need hundreds of
//! megabytes and seconds to open. Packed, they are a few tens of thousands of store entries.
//!
//! An entry lives in the last leaf whose bound (the leaf's key in the store) is not greater than the entry's key, or,
//! below all bounds, in the leaf whose bound is the bare table byte.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

use super::codec::{Decoder, Encoder, Read, Unreadable};
use super::kv::{Batch, Entry, Kv};
use super::layout::{Table, unreadable};
use crate::model::fault::Fault;

#[derive(Debug, Default)]
struct Leaf {
    entries: Vec<Entry>,
    bytes: usize,
    stored: bool,
    touched: bool,
}

/// Where a leaf that grew too large is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The appended entry starts a leaf of its own, so that what arrives in order is packed full.
    Append,
    /// In the middle.
    Halve,
}

/// The packed map, as the store holds it plus the changes made here.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    kv: &'a dyn Kv,
    leaves: BTreeMap<Vec<u8>, Leaf>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(kv: &'a dyn Kv) -> Self {
        Self { kv, leaves: BTreeMap::new() }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let mut found = None;
        self.visit_leaf(key, &mut |entries| {
            if let Ok(at) = search(entries, key) {
                found = entries.get(at).map(|(_, value)| value.clone());
            }
        })?;
        Ok(found)
    }

    /// Up to `limit` entries of `from..end` in order.
    pub(super) fn scan(&self, from: &[u8], end: &[u8], limit: usize) -> Result<Vec<Entry>, Fault> {
        let mut found = Vec::new();
        let mut bound = self.visit_leaf(from, &mut |entries| collect(entries, from, end, limit, &mut found))?;
        while found.len() < limit {
            let Some(next) = self.leaf_behind(&bound, end)? else { break };
            self.visit_bound(&next, &mut |entries| collect(entries, from, end, limit, &mut found))?;
            bound = next;
        }
        Ok(found)
    }

    /// The first entry that begins with `prefix`.
    pub(super) fn first(&self, prefix: &[u8]) -> Result<Option<Entry>, Fault> {
        Ok(self.scan(prefix, &behind(prefix), 1)?.pop())
    }

    /// All entries that begin with `prefix`, at most `limit`.
    pub(super) fn under(&self, prefix: &[u8], limit: usize) -> Result<Vec<Entry>, Fault> {
        self.scan(prefix, &behind(prefix), limit)
    }

    /// Sets a key.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Fault> {
        let limit = Table::leaf_bytes(&key);
        let bound = self.bound_of(&key)?;
        let leaf = self.load(&bound)?;
        leaf.touched = true;
        let mut cut = Cut::Halve;
        match search(&leaf.entries, &key) {
            Ok(at) => {
                if let Some((_, old)) = leaf.entries.get_mut(at) {
                    leaf.bytes = leaf.bytes + value.len() - old.len();
                    *old = value;
                }
            }
            Err(at) => {
                if at == leaf.entries.len() {
                    cut = Cut::Append;
                }
                leaf.bytes += weight(&key, &value);
                leaf.entries.insert(at, (key, value));
            }
        }
        if leaf.bytes > limit && leaf.entries.len() > 1 {
            self.split(&bound, cut);
        }
        Ok(())
    }

    /// Removes a key, which may be absent.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), Fault> {
        let bound = self.bound_of(key)?;
        let leaf = self.load(&bound)?;
        if let Ok(at) = search(&leaf.entries, key) {
            let (key, value) = leaf.entries.remove(at);
            leaf.bytes -= weight(&key, &value);
            leaf.touched = true;
        }
        Ok(())
    }

    /// Whether anything was changed.
    pub(super) fn is_touched(&self) -> bool {
        self.leaves.values().any(|leaf| leaf.touched)
    }

    /// The changes as one batch for the store.
    pub(super) fn into_batch(self) -> Batch {
        let mut batch = Vec::new();
        for (bound, leaf) in self.leaves {
            if !leaf.touched {
                continue;
            }
            if !leaf.entries.is_empty() {
                let value = encode_leaf(&bound, &leaf.entries);
                batch.push((bound, Some(value)));
            } else if leaf.stored {
                batch.push((bound, None));
            }
        }
        batch
    }

    fn split(&mut self, bound: &[u8], cut: Cut) {
        let Some(leaf) = self.leaves.get_mut(bound) else { return };
        let at = match cut {
            Cut::Append => leaf.entries.len().saturating_sub(1),
            Cut::Halve => leaf.entries.len() / 2,
        };
        let right = leaf.entries.split_off(at.max(1));
        let moved: usize = right.iter().map(|(key, value)| weight(key, value)).sum();
        leaf.bytes -= moved;
        if let Some((first, _)) = right.first() {
            let first = first.clone();
            self.leaves.insert(first, Leaf { entries: right, bytes: moved, stored: false, touched: true });
        }
    }

    /// The bound of the leaf in which `key` is or would be.
    fn bound_of(&self, key: &[u8]) -> Result<Vec<u8>, Fault> {
        let table = key.get(..1).unwrap_or_default();
        let held =
            self.leaves.range::<[u8], _>((Included(table), Included(key))).next_back().map(|(bound, _)| bound.clone());
        let stored = self.kv.floor(table, key)?.map(|(bound, _)| bound);
        Ok(held.max(stored).unwrap_or_else(|| table.to_vec()))
    }

    fn load(&mut self, bound: &[u8]) -> Result<&mut Leaf, Fault> {
        if !self.leaves.contains_key(bound) {
            let leaf = match self.kv.get(bound)? {
                Some(value) => {
                    let entries = decode_leaf(bound, &value).map_err(|why| unreadable("leaf", why))?;
                    let bytes = entries.iter().map(|(key, value)| weight(key, value)).sum();
                    Leaf { entries, bytes, stored: true, touched: false }
                }
                None => Leaf::default(),
            };
            self.leaves.insert(bound.to_vec(), leaf);
        }
        Ok(self.leaves.entry(bound.to_vec()).or_default())
    }

    fn visit_leaf(&self, key: &[u8], visit: &mut dyn FnMut(&[Entry])) -> Result<Vec<u8>, Fault> {
        let table = key.get(..1).unwrap_or_default();
        let held = self.leaves.range::<[u8], _>((Included(table), Included(key))).next_back();
        let stored = self.kv.floor(table, key)?;
        match (held, stored) {
            (Some((bound, leaf)), stored) if stored.as_ref().is_none_or(|(other, _)| other <= bound) => {
                visit(&leaf.entries);
                Ok(bound.clone())
            }
            (_, Some((bound, value))) => {
                visit(&decode_leaf(&bound, &value).map_err(|why| unreadable("leaf", why))?);
                Ok(bound)
            }
            (_, None) => Ok(table.to_vec()),
        }
    }

    fn visit_bound(&self, bound: &[u8], visit: &mut dyn FnMut(&[Entry])) -> Result<(), Fault> {
        if let Some(leaf) = self.leaves.get(bound) {
            visit(&leaf.entries);
        } else if let Some(value) = self.kv.get(bound)? {
            visit(&decode_leaf(bound, &value).map_err(|why| unreadable("leaf", why))?);
        }
        Ok(())
    }

    fn leaf_behind(&self, bound: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if bound >= end {
            return Ok(None);
        }
        let held = self.leaves.range::<[u8], _>((Excluded(bound), Excluded(end))).next().map(|(next, _)| next.clone());
        let stored = self.kv.next(bound, end)?.map(|(next, _)| next);
        Ok(match (held, stored) {
            (Some(held), Some(stored)) => Some(held.min(stored)),
            (held, stored) => held.or(stored),
        })
    }
}

/// The smallest key that is greater than every key beginning with `prefix`.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![u8::MAX; prefix.len() + 1]
}

fn search(entries: &[Entry], key: &[u8]) -> Result<usize, usize> {
    entries.binary_search_by(|(other, _)| other.as_slice().cmp(key))
}

fn collect(entries: &[Entry], from: &[u8], end: &[u8], limit: usize, found: &mut Vec<Entry>) {
    let start = search(entries, from).unwrap_or_else(|at| at);
    for (key, value) in entries.iter().skip(start) {
        if key.as_slice() >= end || found.len() >= limit {
            return;
        }
        found.push((key.clone(), value.clone()));
    }
}

/// What an entry costs, near enough to steer by: shared prefixes are not counted out.
fn weight(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + 3
}

pub(super) fn encode_leaf(bound: &[u8], entries: &[Entry]) -> Vec<u8> {
    let mut out = Encoder::record();
    out.number(entries.len() as u64);
    let mut before = bound;
    for (key, value) in entries {
        let shared = before.iter().zip(key).take_while(|(one, other)| one == other).count();
        out.number(shared as u64);
        out.bytes(key.get(shared..).unwrap_or_default());
        out.bytes(value);
        before = key;
    }
    out.finish()
}

pub(super) fn decode_leaf(bound: &[u8], value: &[u8]) -> Read<Vec<Entry>> {
    let mut from = Decoder::record(value)?;
    let mut before = bound.to_vec();
    let entries = from.list(|from| {
        let shared = from.length()?;
        let mut key =
            before.get(..shared).ok_or(Unreadable("a key refers to more than the one before it has"))?.to_vec();
        key.extend_from_slice(from.bytes()?);
        before.clone_from(&key);
        Ok((key, from.bytes()?.to_vec()))
    })?;
    from.end()?;
    Ok(entries)
}
