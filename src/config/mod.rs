//! Floor 6: what the operator wrote, and what was meant by it.
//!
//! *Secret kept:* TOML, units, defaults, and how an error of a config file is told. *May touch:* the text it is given;
//! no file, no environment. *Must not know:* any SDK, the engine. No room but `cli` and `main` ever sees a [`Config`].
//!
//! A file goes through two forms: as typed (every key with its place), and as meant ([`Config`]). All that is wrong
//! with it is told at once ([`Errors`]).

mod check;
mod errors;
mod file;
mod kinds;
mod sections;
mod settings;
pub mod units;

#[cfg(test)]
mod tests;

pub use errors::{Errors, Problem};
pub use settings::{
    Ack, Brake, Canary, Concurrency, Config, Connection, Escalation, IntelligentTiering, Ledger, Lifecycle,
    LifecycleRule, LifecycleSide, Monitoring, Queue, Receipts, Secret, Share, Sla, Smtp, Source, Target, Tier,
    Transfer, TransferMode, Transition, Web, Webhook,
};

/// Reads the text of a config file; `file` is its name, as errors shall show it.
///
/// # Errors
/// Everything that is wrong with the file, in the order of its lines. Text that is not TOML has one error only.
pub fn parse(text: &str, file: &str) -> Result<Config, Errors> {
    let file = file::File::parse(text, file)?;
    let config = file.read(sections::config);
    check::all(&file, &config);
    file.finish(config)
}
