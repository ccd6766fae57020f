//! Floor 3: what is measured, and when that is alarming.
//!
//! *Secret kept:* how samples become percentiles and ages, what every metric is called, when an alarm fires. *May
//! touch:* memory and its arguments. *Must not know:* any SDK, the engine, who reads the figures or hears the alarms.

pub mod alarms;
pub mod catalogue;
pub mod pulse;
