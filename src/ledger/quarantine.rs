//! The quarantine: messages that could not be understood, kept as evidence until an operator has seen to them (P12).
//!
//! It is bounded (P10). What does not fit is turned away: it is not on disk, so it may not be acknowledged, and stays in
//! the queue, which hands it on to its dead-letter queue (P1).

use super::book::{Book, View};
use super::layout::{Fields, Table};
use super::words::Quarantined;
use crate::model::fault::Fault;

fn place(id: u64) -> Vec<u8> {
    Table::Quarantine.key().id(id).end()
}

fn weight(message: &Quarantined) -> u64 {
    (message.message_id.len() + message.reason.len() + message.body.len()) as u64
}

impl View<'_> {
    pub(super) fn quarantined(&self, most: usize) -> Result<Vec<Quarantined>, Fault> {
        let mut messages = Vec::new();
        for (key, value) in self.pages.under(&Table::Quarantine.all(), most)? {
            messages.push(Quarantined { id: Fields::of(&key).id()?, ..self.decode(&value)? });
        }
        Ok(messages)
    }

    pub(super) fn quarantined_message(&self, id: u64) -> Result<Option<Quarantined>, Fault> {
        let found = self.record::<Quarantined>(&place(id))?;
        Ok(found.map(|message| Quarantined { id, ..message }))
    }
}

impl Book<'_> {
    /// Keeps a message; says whether there was room for it.
    pub(super) fn quarantine(&mut self, message: &Quarantined) -> Result<bool, Fault> {
        let bytes = self.state.margin.quarantine_bytes.saturating_add(weight(message));
        let limits = self.state.limits;
        if self.state.tally.totals.quarantined >= limits.messages || bytes > limits.message_bytes {
            self.state.tally.totals.turned_away += 1;
            return Ok(false);
        }
        let id = self.state.tally.next_quarantine.max(1);
        self.state.tally.next_quarantine = id + 1;
        self.state.tally.totals.quarantined += 1;
        self.count_quarantine(bytes);
        self.put(place(id), message)?;
        Ok(true)
    }

    /// Takes messages out that were seen to; says how many there were.
    pub(super) fn leave_quarantine(&mut self, ids: &[u64]) -> Result<u64, Fault> {
        let mut gone = 0;
        for id in ids {
            let Some(message) = self.view.quarantined_message(*id)? else { continue };
            self.view.pages.remove(&place(*id))?;
            let totals = &mut self.state.tally.totals;
            totals.quarantined = totals.quarantined.saturating_sub(1);
            self.count_quarantine(self.state.margin.quarantine_bytes.saturating_sub(weight(&message)));
            gone += 1;
        }
        Ok(gone)
    }

    fn count_quarantine(&mut self, bytes: u64) {
        self.state.margin.quarantine_bytes = bytes;
        self.state.tally.totals.quarantined_bytes = bytes;
    }
}
