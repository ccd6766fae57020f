//! Parses, starts logging, calls `cli`, and turns the answer into an exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use repl::cli::{self, Args, LogFormat, Stderr};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    #[cfg(feature = "fail-points")]
    if std::env::var_os("REPL_FAIL_POINT").is_some_and(|point| !repl::fail::arm(&point.to_string_lossy())) {
        return ExitCode::from(2);
    }
    let args = Args::from_command_line();
    // Our own lines at the level asked for; the SDK's and the HTTP client's only when something is wrong.
    let filter = format!("warn,repl={}", args.log_level());
    let filter = EnvFilter::try_from_env("REPL_LOG").unwrap_or_else(|_| EnvFilter::new(filter));
    // Whatever is asked for: what SDK and HTTP client tell in detail holds whole requests, with signatures and tokens.
    let discreet = filter_fn(|event| event.target().starts_with("repl") || *event.level() <= LevelFilter::INFO);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr).log_internal_errors(false);
    match args.log_format() {
        LogFormat::Text => log.with_ansi(has_colours()).finish().with(discreet).init(),
        LogFormat::Json => log.json().flatten_event(true).finish().with(discreet).init(),
    }
    cli::main(&args)
}

/// Only on a terminal, and unless <https://no-color.org> says otherwise.
fn has_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty())
}
