//! Floor 2: pure decisions. *Secret kept:* what follows from what. *May touch:* its arguments only: no async, no I/O,
//! no clock, no randomness. *Must not know:* the ledger, the SDKs, tokio.

pub mod route;
