//! A sorted map whose entries lie packed in leaves, many entries to one value of the store, with the changes of one
//! batch held back until it is applied.
//!
//! *Why:* the store below spends about 60 bytes of memory and 100 bytes of disk on each entry of its own (measured,
//! sled 0.34: at most 16 entries to a page), so a million jobs with an entry for each index would need hundreds of
//! megabytes and seconds to open. Packed, they are a few tens of thousands of store entries.
//!
//! An entry lives in the last leaf whose bound (the leaf's key in the store) is not greater than the entry's key, or,
//! below all bounds, in the leaf whose bound is the bare table byte.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

use super::codec::{Decoder, Encoder, Read, Unreadable};
use super::kv::{Batch, Entry, Kv};
use super::layout::{Table, unreadable};
use crate::model::fault::Fault;

/// One leaf, out of the store or new.
#[derive(Debug)]
struct Leaf {
    entries: Vec<Entry>,
    bytes: usize,
    /// The bound of the next leaf, or the end of the table: keys below it belong here, and the store need not be asked.
    upper: Vec<u8>,
    stored: bool,
    touched: bool,
}

impl Leaf {
    /// Cuts this leaf in two; tells the bound of the second.
    fn split(&mut self, cut: Cut) -> Option<(Vec<u8>, Self)> {
        let at = match cut {
            Cut::Append => self.entries.len().saturating_sub(1),
            Cut::Halve => self.entries.len() / 2,
        };
        let entries = self.entries.split_off(at.max(1));
        let (bound, _) = entries.first()?;
        let bound = bound.clone();
        let bytes: usize = entries.iter().map(|(key, value)| weight(key, value)).sum();
        self.bytes -= bytes;
        let upper = std::mem::replace(&mut self.upper, bound.clone());
        Some((bound, Self { entries, bytes, upper, stored: false, touched: true }))
    }
}

type Leaves = BTreeMap<Vec<u8>, Leaf>;

/// Where a leaf that grew too large is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The appended entry starts a leaf of its own, so that what arrives in order is packed full.
    Append,
    /// In the middle.
    Halve,
}

/// Bytes of leaves that the writer keeps from one batch to the next. In memory they take a few times that.
const KEPT: usize = 256 << 10;

/// Leaves as they are in the store, which nobody but their keeper changes.
#[derive(Debug, Default)]
pub(super) struct Kept(Leaves);

/// The packed map, as the store holds it plus the changes made here. What was looked into is kept until the end: what is
/// read is mostly written next, and neighbours lie together.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    kv: &'a dyn Kv,
    leaves: RefCell<Leaves>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(kv: &'a dyn Kv) -> Self {
        Self::knowing(kv, Kept::default())
    }

    /// For the one who writes: with what the batch before has left.
    pub(super) fn knowing(kv: &'a dyn Kv, Kept(leaves): Kept) -> Self {
        Self { kv, leaves: RefCell::new(leaves) }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let mut leaves = self.leaves.borrow_mut();
        let (_, leaf) = hold(self.kv, &mut leaves, key)?;
        let found = search(&leaf.entries, key).ok().and_then(|at| leaf.entries.get(at));
        Ok(found.map(|(_, value)| value.clone()))
    }

    /// Up to `limit` entries of `from..end` in order. Of the leaves behind the first one only those that were changed
    /// are kept in memory.
    pub(super) fn scan(&self, from: &[u8], end: &[u8], limit: usize) -> Result<Vec<Entry>, Fault> {
        let mut found = Vec::new();
        let mut leaves = self.leaves.borrow_mut();
        let (_, leaf) = hold(self.kv, &mut leaves, from)?;
        collect(&leaf.entries, from, end, limit, &mut found);
        let mut next = leaf.upper.clone();
        // Behind the last leaf of the table is the next table, and `end` is no further than that.
        while found.len() < limit && next.as_slice() < end {
            if let Some(leaf) = leaves.get(&next) {
                collect(&leaf.entries, from, end, limit, &mut found);
                next = leaf.upper.clone();
                continue;
            }
            if let Some(value) = self.kv.get(&next)? {
                let entries = decode_leaf(&next, &value).map_err(|why| unreadable("leaf", why))?;
                collect(&entries, from, end, limit, &mut found);
            }
            next = upper(self.kv, &next)?;
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
        let leaves = self.leaves.get_mut();
        let (_, leaf) = hold(self.kv, leaves, &key)?;
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
            let right = leaf.split(cut);
            leaves.extend(right);
        }
        Ok(())
    }

    /// Removes a key, which may be absent.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), Fault> {
        let (_, leaf) = hold(self.kv, self.leaves.get_mut(), key)?;
        if let Ok(at) = search(&leaf.entries, key) {
            let (key, value) = leaf.entries.remove(at);
            leaf.bytes -= weight(&key, &value);
            leaf.touched = true;
        }
        Ok(())
    }

    /// Whether anything was changed.
    pub(super) fn is_touched(&self) -> bool {
        self.leaves.borrow().values().any(|leaf| leaf.touched)
    }

    /// The changes as one batch for the store, and what may be kept for the next one once that is applied.
    pub(super) fn into_batch(self) -> (Batch, Kept) {
        let mut leaves = self.leaves.into_inner();
        let (mut batch, mut emptied, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (bound, leaf) in &mut leaves {
            bytes += leaf.bytes;
            if !std::mem::take(&mut leaf.touched) {
                continue;
            }
            if !leaf.entries.is_empty() {
                batch.push((bound.clone(), Some(encode_leaf(bound, &leaf.entries))));
                leaf.stored = true;
                continue;
            }
            if leaf.stored {
                batch.push((bound.clone(), None));
            }
            emptied.push(bound.clone());
        }
        if bytes > KEPT {
            return (batch, Kept::default());
        }
        emptied.iter().for_each(|bound| forget(&mut leaves, bound));
        (batch, Kept(leaves))
    }
}

/// Forgets an empty leaf: the one before it, of the same table, reaches as far now.
fn forget(leaves: &mut Leaves, bound: &Vec<u8>) {
    let Some(Leaf { upper, .. }) = leaves.remove(bound) else { return };
    let table = bound.get(..1).unwrap_or_default();
    let before = leaves.range_mut::<[u8], _>((Included(table), Excluded(bound.as_slice()))).next_back();
    if let Some((_, before)) = before
        && before.upper == *bound
    {
        before.upper = upper;
    }
}

/// The leaf in which a key is or would be, with its bound.
fn hold<'l>(kv: &dyn Kv, leaves: &'l mut Leaves, key: &[u8]) -> Result<(&'l Vec<u8>, &'l mut Leaf), Fault> {
    let table = key.get(..1).unwrap_or_default();
    let known = leaves.range::<[u8], _>((Included(table), Included(key))).next_back();
    if known.is_none_or(|(_, leaf)| key >= leaf.upper.as_slice()) {
        let (bound, leaf) = load(kv, table, key)?;
        leaves.insert(bound, leaf);
    }
    let held = leaves.range_mut::<[u8], _>((Included(table), Included(key))).next_back();
    held.ok_or_else(|| unreadable("leaf", Unreadable("it is not where its keys belong")))
}

fn load(kv: &dyn Kv, table: &[u8], key: &[u8]) -> Result<(Vec<u8>, Leaf), Fault> {
    let stored = kv.floor(table, key)?;
    let (bound, entries, stored) = match stored {
        Some((bound, value)) => {
            let entries = decode_leaf(&bound, &value).map_err(|why| unreadable("leaf", why))?;
            (bound, entries, true)
        }
        None => (table.to_vec(), Vec::new(), false),
    };
    let bytes = entries.iter().map(|(key, value)| weight(key, value)).sum();
    let upper = upper(kv, &bound)?;
    Ok((bound, Leaf { entries, bytes, upper, stored, touched: false }))
}

/// The bound of the stored leaf behind this one, or the end of the table.
fn upper(kv: &dyn Kv, bound: &[u8]) -> Result<Vec<u8>, Fault> {
    let end = behind(bound.get(..1).unwrap_or_default());
    Ok(kv.next(bound, &end)?.map_or(end, |(next, _)| next))
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
    out.reserve(entries.iter().map(|(key, value)| weight(key, value)).sum());
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
    let length = from.length()?;
    // A leaf has some ten entries; a damaged length must not reserve memory.
    let mut entries: Vec<Entry> = Vec::with_capacity(length.min(16));
    for _ in 0..length {
        let shared = from.length()?;
        let before = entries.last().map_or(bound, |(key, _)| key.as_slice());
        let head = before.get(..shared).ok_or(Unreadable("a key refers to more than the one before it has"))?;
        let key = [head, from.bytes()?].concat();
        entries.push((key, from.bytes()?.to_vec()));
    }
    from.end()?;
    Ok(entries)
}
