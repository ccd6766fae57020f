//! Whether a chain is whole: first each file by itself, then file after file.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _};

use serde::Deserialize;

use super::{FORMAT, GENESIS, LONGEST_LINE, MOST_BREAKS, Tip, sha256_hex};
use crate::model::words::shown;

/// The longest reason of a break, in characters: a line may hold anything.
const REASON: usize = 500;

/// Where a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The file's name as it was given.
    pub file: String,
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong there: one sentence.
    pub reason: String,
}

/// What every line says of its place.
#[derive(Debug, Deserialize)]
struct Link {
    chain: String,
    sequence: u64,
    prev: String,
    kind: String,
    format: Option<u32>,
    file: Option<u64>,
    count: Option<u64>,
}

/// Reads one file line by line; its memory is one line and the first of the breaks found.
#[derive(Debug)]
pub struct Reader {
    name: String,
    /// The last line read.
    tip: Option<Tip>,
    first: Option<Start>,
    closed: bool,
    line: u64,
    receipts: u64,
    lost: u64,
    breaks: Vec<Break>,
    /// Breaks beyond [`MOST_BREAKS`].
    further: u64,
}

/// Where a file takes the chain up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Start {
    sequence: u64,
    prev: String,
}

/// One file, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    name: String,
    start: Start,
    tip: Tip,
    lines: u64,
    receipts: u64,
    lost: u64,
}

impl Sheet {
    /// The last line.
    #[must_use]
    pub fn tip(&self) -> &Tip {
        &self.tip
    }
}

/// A chain as far as its files were there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// How many files it has.
    pub files: u64,
    /// The number of its first line that was there.
    pub first_sequence: u64,
    /// Its end.
    pub tip: Tip,
}

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Files read.
    pub files: u64,
    /// Lines read.
    pub lines: u64,
    /// Receipts among them.
    pub receipts: u64,
    /// Receipts that the writer says it could not write.
    pub lost: u64,
    /// The chains, by id.
    pub chains: Vec<Chained>,
    /// Everything that is wrong, by file and line.
    pub breaks: Vec<Break>,
}

impl Reader {
    /// Begins a file; `name` is only told again.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let breaks = Vec::new();
        Self { name, tip: None, first: None, closed: false, line: 0, receipts: 0, lost: 0, breaks, further: 0 }
    }

    /// Reads a whole file. A broken line does not end it: what follows is held against the line as it is. An error of
    /// the file itself (unreadable, bad gzip) ends it as a break there.
    #[must_use]
    pub fn read(name: impl Into<String>, mut lines: impl BufRead) -> (Option<Sheet>, Vec<Break>) {
        let mut reader = Self::new(name);
        let mut line = Vec::new();
        loop {
            match next_line(&mut lines, &mut line) {
                Ok(true) => reader.line(&line),
                Ok(false) => return reader.finish(),
                Err(error) => {
                    reader.line += 1;
                    reader.object(format!("cannot be read: {error}"));
                    return reader.finish();
                }
            }
        }
    }

    /// Takes the next line, with its line feed.
    pub fn line(&mut self, bytes: &[u8]) {
        self.line += 1;
        let Some(text) = bytes.strip_suffix(b"\n") else {
            return self.object("has no end: it was cut off".to_owned());
        };
        let link: Link = match serde_json::from_slice(text) {
            Ok(link) => link,
            Err(error) => return self.object(format!("is not a line of receipts: {error}")),
        };
        if self.closed {
            self.object("comes after the closing line".to_owned());
        }
        let tip = match self.tip.take() {
            None => self.opening(&link),
            Some(before) => self.following(before, &link, bytes),
        };
        match link.kind.as_str() {
            "close" => self.closed = true,
            "lost" => self.lost += link.count.unwrap_or(0),
            "open" => {}
            _ => self.receipts += 1,
        }
        self.tip = Some(Tip { sequence: link.sequence, hash: sha256_hex(text), chain: link.chain, ..tip });
    }

    /// How far the chain has come, if nothing was wrong so far.
    #[must_use]
    pub fn tip(&self) -> Option<&Tip> {
        self.tip.as_ref().filter(|_| self.breaks.is_empty())
    }

    /// Whether the closing line was read.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Ends the file. A file of which not one line can be read has no sheet.
    #[must_use]
    pub fn finish(mut self) -> (Option<Sheet>, Vec<Break>) {
        if !self.closed && self.breaks.last().is_none_or(|last| last.line < self.line || self.line == 0) {
            self.line += 1;
            self.object("is missing: the file has no closing line, so its end was removed or never written".to_owned());
            self.line -= 1;
        }
        if self.further > 0 {
            let reason = format!("is followed by {} further breaks, which are not told one by one", self.further);
            let line = self.breaks.last().map_or(self.line, |last| last.line);
            self.breaks.push(Break { file: self.name.clone(), line, reason });
        }
        let Self { name, tip, first, line, receipts, lost, breaks, .. } = self;
        let sheet = tip.zip(first).map(|(tip, start)| Sheet { name, start, tip, lines: line, receipts, lost });
        (sheet, breaks)
    }

    fn opening(&mut self, link: &Link) -> Tip {
        self.first = Some(Start { sequence: link.sequence, prev: link.prev.clone() });
        if link.kind != "open" {
            self.object("is no opening line: lines before it were removed".to_owned());
        } else if link.format != Some(FORMAT) {
            self.object(format!("is of a format that this version does not know; it knows {FORMAT}"));
        }
        Tip { file: link.file.unwrap_or(0), lines: 1, ..Tip::genesis(link.chain.clone()) }
    }

    fn following(&mut self, before: Tip, link: &Link, bytes: &[u8]) -> Tip {
        let expected = before.sequence.saturating_add(1);
        if link.chain != before.chain {
            self.object(format!("belongs to chain {:?}, the line before it to {:?}", link.chain, before.chain));
        } else if link.sequence > expected {
            let missing = link.sequence - expected;
            self.object(format!("has number {}: {missing} before it are missing", link.sequence));
        } else if link.sequence < expected {
            self.object(format!(
                "has number {} where {expected} is due: lines were swapped or repeated",
                link.sequence
            ));
        } else if link.prev != before.hash {
            self.object("does not carry the hash of the line before it: one of the two was changed".to_owned());
        } else if link.kind == "open" {
            self.object("is an opening line in the midst of a file".to_owned());
        } else if link.kind == "close" && self.breaks.is_empty() && before.clone().close() != bytes {
            self.object("is a closing line, but not the one that these lines have: it was changed".to_owned());
        }
        Tip { lines: before.lines.saturating_add(1), ..before }
    }

    fn object(&mut self, reason: String) {
        if self.breaks.len() < MOST_BREAKS {
            self.breaks.push(Break { file: self.name.clone(), line: self.line, reason: shown(&reason, REASON) });
        } else {
            self.further = self.further.saturating_add(1);
        }
    }
}

/// The next line with its line feed; `false` at the end.
pub(super) fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let most = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
    let read = lines.by_ref().take(most).read_until(b'\n', line)?;
    if read == LONGEST_LINE && line.last() != Some(&b'\n') {
        return Err(io::Error::other(format!("the line has more than {LONGEST_LINE} bytes")));
    }
    Ok(read > 0)
}

/// Puts read files together and checks the chain from file to file. Files may come in any order; a file that is there
/// twice with the same lines counts once.
#[must_use]
pub fn check(files: impl IntoIterator<Item = (Option<Sheet>, Vec<Break>)>) -> Checked {
    let mut checked = Checked::default();
    let mut chains: BTreeMap<String, Vec<Sheet>> = BTreeMap::new();
    for (sheet, breaks) in files {
        checked.files += 1;
        checked.breaks.extend(breaks);
        if let Some(sheet) = sheet {
            checked.lines += sheet.lines;
            checked.receipts += sheet.receipts;
            checked.lost += sheet.lost;
            chains.entry(sheet.tip.chain.clone()).or_default().push(sheet);
        }
    }
    for (_, mut sheets) in chains {
        sheets.sort_by(|one, other| (one.start.sequence, &one.name).cmp(&(other.start.sequence, &other.name)));
        checked.chains.extend(join(&sheets, &mut checked.breaks));
    }
    checked.breaks.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    checked
}

fn join(sheets: &[Sheet], breaks: &mut Vec<Break>) -> Option<Chained> {
    let first = sheets.first()?;
    let mut object = |sheet: &Sheet, reason: String| breaks.push(Break { file: sheet.name.clone(), line: 1, reason });
    if (first.start.sequence, first.start.prev.as_str()) != (1, GENESIS) {
        let number = first.start.sequence;
        object(first, format!("has number {number}: the files of the chain before it are missing"));
    }
    let mut before = first;
    let mut files = 1;
    for sheet in sheets.iter().skip(1) {
        if (&sheet.start, &sheet.tip) == (&before.start, &before.tip) {
            continue;
        }
        let (number, due) = (sheet.start.sequence, before.tip.sequence.saturating_add(1));
        if number > due {
            let missing = number - due;
            object(sheet, format!("has number {number}: {missing} lines after {} are missing", before.name));
        } else if number < due {
            object(sheet, format!("has number {number}, which {} goes beyond: one of the two is forged", before.name));
        } else if sheet.start.prev != before.tip.hash {
            object(sheet, format!("does not carry the hash of the last line of {}: one was changed", before.name));
        }
        before = if sheet.tip.sequence < before.tip.sequence { before } else { sheet };
        files += 1;
    }
    Some(Chained { files, first_sequence: first.start.sequence, tip: before.tip.clone() })
}
