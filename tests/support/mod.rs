//! What integration tests stand on: real servers, pairs of buckets on them, a proxy that breaks things on the way, and
//! the comparison of both sides. *Must not know:* how `repl` works inside; it is run as a binary.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and live in real time"
)]

pub(crate) mod aftermath;
pub(crate) mod browser;
pub(crate) mod compare;
pub(crate) mod disk;
pub(crate) mod events;
pub(crate) mod objects;
pub(crate) mod pair;
pub(crate) mod proxy;
pub(crate) mod servers;
pub(crate) mod templates;
pub(crate) mod terminal;
pub(crate) mod tiers;
pub(crate) mod web;
pub(crate) mod worker;
