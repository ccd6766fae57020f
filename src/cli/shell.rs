//! What the shell and `man` are to know of the command line, made from the same definitions that parse it.

use clap::CommandFactory as _;

use super::progress::say;
use super::{Args, Exit, Failure, args};

const NAME: &str = "repl";

/// Prints the completions for one shell.
pub(super) fn completions(asked: &args::Completions) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(asked.shell, &mut Args::command(), NAME, &mut script);
    say(String::from_utf8_lossy(&script));
    Exit::Done
}

/// Prints one page of the manual, or writes all of them.
pub(super) fn man(asked: &args::Man) -> Result<Exit, Failure> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    if let Some(place) = &asked.dir {
        let failed = |error| Failure::stopped(format!("could not write the manual into {}: {error}", place.display()));
        clap_mangen::generate_to(command, place).map_err(failed)?;
        return Ok(Exit::Done);
    }
    let page = match &asked.page {
        None => command,
        Some(name) => command
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| Failure::usage(format!("there is no command {name:?}: `repl --help` lists them")))?,
    };
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(page).render(&mut text);
    rendered.map_err(|error| Failure::stopped(format!("could not make the page: {error}")))?;
    say(String::from_utf8_lossy(&text));
    Ok(Exit::Done)
}
