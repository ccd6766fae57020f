//! Floor 3: comparing both sides, and the evidence of it.
//!
//! *Secret kept:* how receipts are spelled and chained. *May touch:* its arguments. *Must not know:* any SDK, the
//! engine, the clock, where files lie.

pub mod receipts;
