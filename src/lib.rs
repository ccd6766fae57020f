//! `repl` keeps a second S3 bucket, in another region, account or store, equal to a first one, and proves it.
pub mod ledger;
pub mod model;
pub mod plan;
pub mod ports;
