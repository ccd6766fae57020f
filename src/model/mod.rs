//! Floor 1: the words and laws of the domain.
//!
//! *Secret kept:* how keys, versions, sequencers, digests and stamps compare. *May touch:* nothing but its arguments, and
//! (`window`) the time zones of the system.
//! *Must not know:* any SDK, the ledger, the clock. Every type here is plain data that any other room may hold.

pub mod deletes;
pub mod digest;
pub mod fault;
pub mod job;
pub mod limits;
pub mod object;
pub mod policy;
pub mod region;
pub mod reserved;
pub mod stamp;
pub mod usage;
pub mod window;
pub mod words;
