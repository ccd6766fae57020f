//! Floor 7: the face. One file per command; the only room, with `main`, that knows everybody.
//!
//! *Secret kept:* how a command line becomes settings, and an outcome an exit code. *May touch:* files, terminal,
//! signals, environment. *Must not know:* how anything is done.

mod apply;
mod args;
mod ask;
mod beside;
mod brake;
mod canary;
mod check;
mod control;
mod failures;
mod fix;
mod init;
mod known;
mod limit;
mod measured;
mod monitor;
mod page;
mod plan;
mod progress;
mod reach;
mod receipts;
mod remedy;
mod run;
mod shell;
mod socket;
mod status;
mod sync;
mod systemd;
mod tariff;
mod verify;
mod why;
mod worker;
mod world;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::audit::Further;
use crate::config::{self, Config};
use crate::model::fault::Fault;

use args::Command;
pub use args::{Args, LogFormat};
pub use progress::Stderr;

/// How a command ended (DESIGN 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Ran, but something differs or failed and is recorded.
    Differs,
    /// Bad usage or bad config.
    Usage,
    /// Had to stop: disk, credentials, ledger.
    Stopped,
    /// Interrupted.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Differs => 1,
            Exit::Usage => 2,
            Exit::Stopped => 3,
            Exit::Interrupted => 130,
        })
    }
}

/// Why a command could not be carried out, as a person reads it, with the exit code that belongs to it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    fn stopped(message: impl Into<String>) -> Self {
        Self { exit: Exit::Stopped, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::stopped(fault.to_string())
    }
}

/// Carries a command line out.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let ended = runtime().and_then(|runtime| runtime.block_on(carry_out(args)));
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            progress::complain(format_args!("repl: {failure}"));
            failure.exit.into()
        }
    }
}

/// One worker for two cores, the other half being the ledger's and the kernel's: measured on two cores, a second worker
/// costs a third more CPU per small object in wake-ups alone, and brings nothing for large ones.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).max(1))
        .enable_all()
        .build()
        .map_err(|error| Failure::stopped(format!("could not start: {error}")))
}

async fn carry_out(args: &Args) -> Result<Exit, Failure> {
    let config = || load(args.config.as_deref());
    match &args.command {
        // These need no config: whoever checks receipts has been given files.
        Command::Completions(asked) => Ok(shell::completions(asked)),
        Command::Man(asked) => shell::man(asked),
        Command::Verify(args::Verify { receipts: Some(receipts), json, .. }) => receipts::check(receipts, *json),
        Command::Init(init) => init::init(init).await,
        Command::Run(run) => run::run(&config()?, run).await,
        Command::Sync(sync) if sync.dry_run => plan::plan(&config()?, &args::Plan::from(sync)).await,
        Command::Sync(sync) => sync::sync(&config()?, sync).await,
        Command::Plan(plan) => plan::plan(&config()?, plan).await,
        Command::Verify(verify) => verify::verify(&config()?, verify).await,
        Command::Apply(apply) => apply::apply(&config()?, apply, args.verbose).await,
        Command::Status(status) => status::status(&config()?, status).await,
        Command::Brake(brake) => brake::brake(&config()?, brake).await,
        Command::Check(check) => check::check(&config()?, check).await,
        Command::Why(why) => why::why(&config()?, why).await,
        Command::Failures(failures) => failures::failures(&config()?, failures).await,
        Command::Limit(limit) => limit::limit(&config()?, limit).await,
        Command::Pause(pause) => control::pause(&config()?, pause).await,
        Command::Resume(resume) => control::resume(&config()?, resume).await,
        Command::Drain(drain) => control::drain(&config()?, drain).await,
    }
}

/// Refuses a rule's id that the config does not have, or has disabled: what is asked of it would come to nothing.
fn known_rule(config: &Config, asked: Option<&str>) -> Result<(), Failure> {
    let Some(id) = asked else { return Ok(()) };
    match config.rules.iter().find(|rule| rule.id.as_str() == id) {
        Some(rule) if rule.enabled => Ok(()),
        Some(_) => Err(Failure::usage(format!("rule {id:?} is disabled: enable it in the config, or name another"))),
        None => {
            let known: Vec<&str> = config.rules.iter().map(|rule| rule.id.as_str()).collect();
            Err(Failure::usage(format!("there is no rule {id:?}; there are {}", known.join(", "))))
        }
    }
}

/// Whether a flag asks to look further.
fn further(asked: bool) -> Further {
    if asked { Further::Look } else { Further::Skip }
}

/// Where the config is looked for when none is named (DESIGN 2.1).
const USUAL_PLACES: [&str; 2] = ["repl.toml", "/etc/repl/repl.toml"];

fn load(named: Option<&Path>) -> Result<Config, Failure> {
    let usual = || USUAL_PLACES.iter().map(PathBuf::from).find(|place| place.exists());
    let Some(path) = named.map(Path::to_path_buf).or_else(usual) else {
        let places = USUAL_PLACES.join(" or ");
        return Err(Failure::usage(format!(
            "there is no config file {places}: name one with --config FILE, or start from the commented config/repl.toml"
        )));
    };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&name, &error))?;
    config::parse(&text, &name).map_err(|errors| Failure::usage(format!("the config file has errors\n{errors}")))
}

/// A config file that cannot be read, with what to do about it.
fn unreadable(name: &str, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; name one that exists with --config FILE".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "this user may not read it; run as the user that it belongs to, or give that right".to_owned()
        }
        io::ErrorKind::IsADirectory => "it is a directory; name the file in it".to_owned(),
        io::ErrorKind::InvalidData => "it is not text in UTF-8; is it a config file?".to_owned(),
        _ => format!("{error}; check the disk under it"),
    };
    Failure::usage(format!("could not read the config file {name}: {remedy}"))
}
