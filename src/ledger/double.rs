//! A ledger whose disk is a double and whose writer is a task of the caller's runtime. For tests only.

use std::sync::Arc;

use super::Ledger;
use super::book::Limits;
use super::kv::memory::MemoryKv;
use super::writer;

/// The disk under a ledger: what is written, and what of it a power loss would leave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(MemoryKv);

impl Disk {
    /// Opens the ledger on it. Its writer works while the second value is polled, which ends after the last handle.
    pub(crate) fn open(&self) -> (Ledger, impl Future<Output = ()> + Send + 'static) {
        let (writer, desk) = writer::prepare(Arc::new(self.0.clone()), Limits::default()).unwrap();
        (Ledger { writer: Arc::new(writer) }, desk.attend())
    }

    /// Lets so many more flushes pass; from then on it takes nothing more.
    pub(crate) fn fail_after(&self, flushes: usize) {
        self.0.fail_from_flush(self.0.flushes() + flushes + 1);
    }

    /// Never mind: it takes everything again.
    pub(crate) fn mend(&self) {
        self.0.fail_from_flush(usize::MAX);
    }

    /// Batches that are written and not flushed.
    pub(crate) fn unflushed(&self) -> usize {
        self.0.unflushed()
    }

    /// What is found after a power loss that let the first `kept` of those reach the disk.
    pub(crate) fn after_crash(&self, kept: usize) -> Self {
        Self(self.0.after_crash(kept))
    }
}
