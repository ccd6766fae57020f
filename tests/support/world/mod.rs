//! A world in memory: two buckets, a queue, a key service and a clock that behave as the ports say, on tokio's time.
//!
//! They are models with a state, not recorders of calls. `tests/contract.rs` proves that they behave as real servers do;
//! the simulation runs the whole engine on them. *Must not know:* the engine, the ledger.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking"
)]

pub(crate) mod bucket;
pub(crate) mod clock;
pub(crate) mod dice;
pub(crate) mod digests;
pub(crate) mod keys;
pub(crate) mod queue;
pub(crate) mod sinks;
pub(crate) mod store;
pub(crate) mod uploads;
pub(crate) mod weather;
