//! Questions to whoever sits at the terminal.

use std::io::{IsTerminal as _, Write as _};

use super::Failure;
use super::progress::Stderr;

/// Whether there is somebody who could answer.
pub(super) fn is_somebody_there() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks on stderr, as stdout may be a file, and returns the answer without the spaces around it; `None` once there are no
/// answers any more.
pub(super) fn person(question: &str) -> Result<Option<String>, Failure> {
    let unasked = |error| Failure::usage(format!("could not ask on the terminal: {error}"));
    Stderr.write_all(question.as_bytes()).and_then(|()| Stderr.flush()).map_err(unasked)?;
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line).map_err(unasked)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}
