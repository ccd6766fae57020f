//! Parses, starts logging, calls `cli`, and turns the answer into an exit code.

use std::process::ExitCode;

use repl::cli::{self, Args, Stderr};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::from_command_line();
    // Our own lines at the level asked for; the SDK's and the HTTP client's only when something is wrong.
    let filter = format!("warn,repl={}", args.log_level());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("REPL_LOG").unwrap_or_else(|_| EnvFilter::new(filter)))
        .with_writer(|| Stderr)
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    cli::main(&args)
}
