//! Floor 3: what is measured. *Secret kept:* how samples become percentiles and ages. *May touch:* memory and its
//! arguments. *Must not know:* any SDK, the engine, who reads the figures.

pub mod pulse;
