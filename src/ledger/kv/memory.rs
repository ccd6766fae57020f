//! A store with two images: what is visible, and what a power loss leaves. For tests only.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Batch, Entry, Kv, ledger_fault};
use crate::model::fault::Fault;

type Image = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct Images {
    live: Image,
    durable: Image,
    unflushed: Vec<Batch>,
    applies: usize,
    flushes: usize,
    fail_apply: Option<usize>,
    fail_flush: Option<usize>,
}

/// The double of [`super::SledKv`]. Clones share their images.
#[derive(Clone, Debug, Default)]
pub(in crate::ledger) struct MemoryKv(Arc<Mutex<Images>>);

impl MemoryKv {
    pub(in crate::ledger) fn new() -> Self {
        Self::default()
    }

    fn images(&self) -> MutexGuard<'_, Images> {
        self.0.lock().unwrap()
    }

    /// From the n-th apply on (counted from 1), every apply and flush fails.
    pub(in crate::ledger) fn fail_from_apply(&self, n: usize) {
        self.images().fail_apply = Some(n);
    }

    /// From the n-th flush on (counted from 1), every flush and apply fails: the power is gone.
    pub(in crate::ledger) fn fail_from_flush(&self, n: usize) {
        self.images().fail_flush = Some(n);
    }

    pub(in crate::ledger) fn applies(&self) -> usize {
        self.images().applies
    }

    pub(in crate::ledger) fn flushes(&self) -> usize {
        self.images().flushes
    }

    pub(in crate::ledger) fn unflushed(&self) -> usize {
        self.images().unflushed.len()
    }

    /// What a machine finds after a power loss that let the first `kept` unflushed batches reach the disk. A torn
    /// batch counts as not written.
    pub(in crate::ledger) fn after_crash(&self, kept: usize) -> Self {
        let images = self.images();
        let mut durable = images.durable.clone();
        for batch in images.unflushed.iter().take(kept) {
            change(&mut durable, batch);
        }
        Self(Arc::new(Mutex::new(Images { live: durable.clone(), durable, ..Images::default() })))
    }

    /// Replaces one stored value, to see what a reader makes of damage.
    pub(in crate::ledger) fn overwrite(&self, key: &[u8], value: &[u8]) {
        let mut images = self.images();
        images.live.insert(key.to_vec(), value.to_vec());
        images.durable.insert(key.to_vec(), value.to_vec());
    }

    pub(in crate::ledger) fn entries(&self) -> usize {
        self.images().live.len()
    }
}

fn change(image: &mut Image, batch: &Batch) {
    for (key, value) in batch {
        match value {
            Some(value) => image.insert(key.clone(), value.clone()),
            None => image.remove(key),
        };
    }
}

impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.images().live.get(key).cloned())
    }

    fn floor(&self, from: &[u8], upto: &[u8]) -> Result<Option<Entry>, Fault> {
        let images = self.images();
        let mut range = images.live.range::<[u8], _>((Included(from), Included(upto)));
        Ok(range.next_back().map(|(key, value)| (key.clone(), value.clone())))
    }

    fn next(&self, after: &[u8], end: &[u8]) -> Result<Option<Entry>, Fault> {
        if after >= end {
            return Ok(None);
        }
        let images = self.images();
        let mut range = images.live.range::<[u8], _>((Excluded(after), Excluded(end)));
        Ok(range.next().map(|(key, value)| (key.clone(), value.clone())))
    }

    fn apply(&self, batch: Batch) -> Result<(), Fault> {
        let mut images = self.images();
        let powered = images.fail_flush.is_none_or(|n| images.flushes < n);
        images.applies += 1;
        if !powered || images.fail_apply.is_some_and(|n| images.applies >= n) {
            return Err(ledger_fault("write the ledger", "the disk is gone"));
        }
        change(&mut images.live, &batch);
        images.unflushed.push(batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), Fault> {
        let mut images = self.images();
        images.flushes += 1;
        let broken = images.fail_apply.is_some_and(|n| images.applies >= n);
        if broken || images.fail_flush.is_some_and(|n| images.flushes >= n) {
            return Err(ledger_fault("write the ledger", "the disk is gone"));
        }
        let Images { durable, unflushed, .. } = &mut *images;
        for batch in unflushed.drain(..) {
            change(durable, &batch);
        }
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, Fault> {
        let images = self.images();
        Ok(images.durable.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum())
    }
}
