//! Floor 2: pure decisions. *Secret kept:* what follows from what. *May touch:* its arguments only: no async, no I/O,
//! no clock, no randomness. *Must not know:* the ledger, the SDKs, tokio.
//!
//! Facts age, so a decision is never stored: after a crash, a retry, a duplicate or a lost race one decides again.
//! Everything here is total and idempotent: deciding again after the decision was carried out comes to nothing.

pub mod brake;
pub mod decide;
pub mod estimate;
pub mod history;
pub mod pace;
pub mod parts;
pub mod prices;
pub mod retry;
pub mod route;
