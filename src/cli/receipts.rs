//! The check of downloaded receipts: is the chain whole, and if not, where is it broken.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::audit::receipts::{self, Checked, Reader, unpack};

use super::progress::say;
use super::{Exit, Failure};

/// Checks every `.jsonl` and `.jsonl.gz` under a directory, files of several days and workers together. `Differs` when
/// a chain is broken, or when there is nothing to check.
pub(super) fn check(dir: &Path, json: bool) -> Result<Exit, Failure> {
    let mut files = Vec::new();
    find(dir, &mut files)?;
    files.sort();
    let checked = receipts::check(files.iter().map(|file| {
        let name = file.strip_prefix(dir).unwrap_or(file).display().to_string();
        match File::open(file) {
            Err(error) => Reader::read(name, Unreadable(Some(error))),
            Ok(opened) if file.extension().is_some_and(|extension| extension == "gz") => {
                Reader::read(name, unpack(opened))
            }
            Ok(opened) => Reader::read(name, BufReader::new(opened)),
        }
    }));
    if json {
        say(report(&checked));
    } else {
        say(text(&checked, dir));
    }
    let whole = checked.breaks.is_empty() && checked.files > 0;
    Ok(if whole { Exit::Done } else { Exit::Differs })
}

/// Every file of receipts under a directory. Links are not followed, so that a circle cannot hold the check up.
fn find(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |error| Failure::usage(format!("could not read the directory {}: {error}", dir.display()));
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() {
            find(&path, files)?;
        } else if name.ends_with(".jsonl") || name.ends_with(".jsonl.gz") {
            files.push(path);
        }
    }
    Ok(())
}

/// A file that cannot be opened reads as its error, so that it shows as a break of that file.
struct Unreadable(Option<std::io::Error>);

impl std::io::Read for Unreadable {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

impl std::io::BufRead for Unreadable {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.0.take().map_or(Ok(&[]), Err)
    }

    fn consume(&mut self, _: usize) {}
}

fn report(checked: &Checked) -> Value {
    let chains: Vec<Value> = checked
        .chains
        .iter()
        .map(|chain| {
            json!({
                "chain": chain.tip.chain,
                "files": chain.files,
                "first_sequence": chain.first_sequence,
                "last_sequence": chain.tip.sequence,
                "last_hash": chain.tip.hash,
            })
        })
        .collect();
    let breaks: Vec<Value> = checked
        .breaks
        .iter()
        .map(|found| json!({"file": found.file, "line": found.line, "reason": found.reason}))
        .collect();
    json!({
        "files": checked.files,
        "lines": checked.lines,
        "receipts": checked.receipts,
        "lost": checked.lost,
        "chains": chains,
        "breaks": breaks,
    })
}

fn text(checked: &Checked, dir: &Path) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut line = |told: String| {
        // Writing to a string cannot fail.
        writeln!(text, "{told}").ok();
    };
    for found in &checked.breaks {
        line(format!("BROKEN  {}: line {} {}", found.file, found.line, found.reason));
    }
    for chain in &checked.chains {
        let (first, last) = (chain.first_sequence, chain.tip.sequence);
        line(format!(
            "chain {}: {} files, lines {first} to {last}, ends with {}",
            chain.tip.chain, chain.files, chain.tip.hash
        ));
    }
    if checked.lost > 0 {
        line(format!("{} receipts could not be written when they were due, as the files say themselves", checked.lost));
    }
    let (files, receipts, breaks) = (checked.files, checked.receipts, checked.breaks.len());
    line(match (files, breaks) {
        (0, _) => format!("there are no receipts (*.jsonl, *.jsonl.gz) in {}: nothing was checked", dir.display()),
        (_, 0) => format!("whole: {receipts} receipts in {files} files; compare the end with `repl status --json`"),
        (_, _) => format!("not whole: {breaks} breaks in {files} files with {receipts} receipts"),
    });
    text
}
