//! The simulation: the whole engine, with the real ledger on a disk in memory, in a world in memory, on tokio's paused
//! time, under a plan of faults drawn from a seed. Afterwards everything that was promised must hold
//! (`tests/support/invariants.rs`).
//!
//! One seed is one run, always the same: `REPL_SIM_SEED=4711 cargo test --lib sim::seeds -- --nocapture` replays one,
//! with its log; `REPL_SIM_SEEDS=20000` asks for that many, `REPL_SIM_FROM` tells where they begin.
#![allow(dead_code, reason = "the world has more than one user")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "tests fail by panicking, and are told by the environment"
)]

mod author;
mod evidence;
#[path = "../support/invariants.rs"]
mod invariants;
mod log;
mod machine;
mod operator;
mod run;
mod scenario;
mod seeds;
mod site;
// Tests beside the code have use for it too.
#[path = "../support/world/mod.rs"]
pub(crate) mod world;
