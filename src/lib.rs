//! `repl` keeps a second S3 bucket, in another region, account or store, equal to a first one, and proves it.
//!
//! # The house
//!
//! ```text
//! main ─▶ cli ─▶ config                          floor 7–5   people, files, signals
//! engine   web        desired                    floor 4      the moving parts │ the page │ what AWS is to be like
//! audit   watch   aws   alert                    floor 3      comparison, receipts │ what is measured │ adapters
//! ledger  plan  ports  meter                     floor 2      truth on disk │ pure decisions │ what we ask │ what is used
//! model  fail                                    floor 1      words and laws of the domain │ where tests have it die
//! ```
//!
//! Arrows go down only; `tests/house.rs` reads the imports and fails on a broken one. `engine` never names `aws`;
//! nobody names `cli` or `config` but `cli` and `main`.
//!
//! # One way through
//!
//! ```text
//! SQS body ──aws::notification──▶ Change ──plan::route──▶ Job ──ledger.admit (one fsync)──▶ Admitted ⇒ delete from SQS
//! listing ──audit::range──▶ engine::{scan, reconcile}, list ──▶ engine::manifest ──▶ Change ──▶ Job ──▶ Admitted
//! ledger.claim ▶ Claim ──engine::replicate──▶ plan::decide ──engine::transfer──▶ Landed ──ledger.settle──▶ Settled
//! Settled ──engine::receipts──▶ spool on disk ──▶ receipts' bucket
//! ```
//!
//! Each name is a type that consumes the one before. A decision is never stored: facts age. `plan` is pure, total and
//! idempotent, so crashes, retries, duplicates and disorder all become "decide again". Dropping a `Claim` means "still
//! to do".
//!
//! # Promises
//!
//! P1 nothing acknowledged is lost · P2 once in effect · P3 order · P4 the bucket is the truth · P5 verified before
//! done · P6 everything comes along · P7 right key · P8 unknown is said · P9 failures park, they do not block ·
//! P10 bounded · P11 no mass delete by accident · P12 bad input is answered. Tests name the promise that they try to break.
//!
//! # Glossary
//!
//! *Change*: what an event tells. *Job*: one change for one target. *Claim*: the right to work on a job. *Lane*: the
//! exclusive right to one target key. *Stamp*: provenance in a replica's user metadata. *Parked*: waiting for its cause
//! to be mended. *Held*: a delete that waits for an operator to release the brake. *Quarantine*: messages that cannot be understood. *Settled*: done, one way or another.

pub mod alert;
pub mod audit;
pub mod aws;
pub mod cli;
pub mod config;
pub mod desired;
pub mod engine;
pub mod fail;
pub mod ledger;
pub mod meter;
pub mod model;
pub mod plan;
pub mod ports;
pub mod watch;
pub mod web;

// The simulation needs the ledger's own double, which nobody outside the crate can reach.
#[cfg(test)]
extern crate self as repl;
#[cfg(test)]
#[path = "../tests/sim/mod.rs"]
mod sim;
