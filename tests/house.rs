//! The house of DESIGN section 6, read from the source text: arrows between rooms, one home per crate, names, sizes.
//!
//! Each check returns what it objects to, one line each; a second test of each shows that it can object.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Lines of one function.
const FUNCTION_CAP: usize = 80;
/// Lines of one file, tests apart.
const FILE_CAP: usize = 600;

/// Rooms by floor; arrows go down only.
const FLOORS: [(&str, u8); 17] = [
    ("model", 1),
    ("fail", 1),
    ("ports", 2),
    ("plan", 2),
    ("ledger", 2),
    ("meter", 2),
    ("audit", 3),
    ("watch", 3),
    ("aws", 3),
    ("alert", 3),
    ("engine", 4),
    ("web", 4),
    ("desired", 4),
    ("config", 5),
    ("cli", 6),
    ("main", 7),
    ("lib", 7),
];

/// One file of src/.
struct File {
    /// Relative to src/, with `/`.
    path: String,
    /// As written.
    text: String,
    /// Without tests, comments and what is in quotes; line for line as written.
    code: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: without_tests(&plain(text)) }
    }

    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// How many `super` lead from this file's module to the crate's root.
    fn depth(&self) -> usize {
        let depth = self.path.split('/').count();
        if self.path.ends_with("/mod.rs") || ["main.rs", "lib.rs"].contains(&self.path.as_str()) {
            depth - 1
        } else {
            depth
        }
    }

    /// The file and the line of a place in its code.
    fn at(&self, place: usize) -> String {
        format!("src/{}:{}", self.path, self.code[..place].matches('\n').count() + 1)
    }
}

/// All of src/ but files of tests.
fn house() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut waiting = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                waiting.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
                let relative = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                files.push(File::new(&relative, &std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(files.len() > 5, "src/ was not found");
    files
}

// Reading Rust ---------------------------------------------------------------------------------------------------------

/// The text with comments and the contents of string and character literals blanked; every line stays a line.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (taken, keep) = literal(rest, out.chars().last()).unwrap_or((first.len_utf8(), true));
        let (piece, after) = rest.split_at(taken);
        if keep {
            out.push_str(piece);
        } else {
            out.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    out
}

/// The length in bytes of the comment or literal at the start of the text, and whether to keep it; `None` for others.
fn literal(text: &str, before: Option<char>) -> Option<(usize, bool)> {
    let word_goes_on = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return Some((text.find('\n').unwrap_or(text.len()), false));
    }
    if text.starts_with("/*") {
        return Some((text.find("*/").map_or(text.len(), |end| end + 2), false));
    }
    if text.starts_with('"') {
        return Some((quoted(text), false));
    }
    if text.starts_with('r') && !word_goes_on {
        let hashes = text[1..].chars().take_while(|c| *c == '#').count();
        if text[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            return Some((text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()), false));
        }
    }
    let mut after_quote = text.strip_prefix('\'')?.chars();
    let (first, second) = (after_quote.next()?, after_quote.next()?);
    if first == '\\' {
        return text[3..].find('\'').map(|end| (end + 4, false));
    }
    // A lifetime has no second quote.
    (second == '\'').then_some((2 + first.len_utf8(), false))
}

fn quoted(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The code with everything under `#[cfg(test)]` blanked.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let end = item_end(&out, start + "#[cfg(test)]".len());
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Where the item that begins here ends: after its braces, or after a `;` before any.
fn item_end(code: &str, start: usize) -> usize {
    match code[start..].find(['{', ';']) {
        None => code.len(),
        Some(at) if code.as_bytes()[start + at] == b';' => start + at + 1,
        Some(at) => closing(code, start + at) + 1,
    }
}

/// The place of the brace that closes the one at this place.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len().saturating_sub(1)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Every place where this word stands by itself.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let bytes = code.as_bytes();
        let free_before = at == 0 || !is_word(bytes[at - 1]);
        free_before && bytes.get(at + word.len()).is_none_or(|after| !is_word(*after))
    })
}

fn leading_word(text: &str) -> &str {
    &text[..text.bytes().position(|byte| !is_word(byte)).unwrap_or(text.len())]
}

// The checks -----------------------------------------------------------------------------------------------------------

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// Whether code in one room may name the other.
fn may_name(room: &str, other: &str) -> bool {
    let (Some(own), Some(named)) = (floor(room), floor(other)) else { return false };
    match (room, other) {
        ("main" | "lib", _) => true,
        (_, "cli" | "config") => room == "cli",
        ("engine", "aws") => false,
        ("plan" | "ledger", "ports") => true,
        _ => room == other || named < own,
    }
}

/// The rooms that a file names, with the places.
fn rooms_named(file: &File) -> Vec<(usize, String)> {
    let code = &file.code;
    let rooted = ["crate", "repl"].iter().flat_map(|root| words(code, root).map(|at| (at, at + root.len())));
    let upward = words(code, "super").filter(|at| !code[..*at].trim_end().ends_with("super::")).filter_map(|at| {
        let steps = code[at..].split("::").take_while(|step| step.trim() == "super").count();
        let end = at + steps * "super::".len();
        (steps == file.depth()).then_some((at, end - 2))
    });
    let mut named = Vec::new();
    for (at, end) in rooted.chain(upward) {
        let Some(path) = code[end..].strip_prefix("::") else { continue };
        match path.strip_prefix('{') {
            None => named.push((at, leading_word(path).to_owned())),
            Some(group) => named.extend(top_of_group(group).into_iter().map(|name| (at, name))),
        }
    }
    named
}

/// The first word of each member of a `{…}` group of imports, the text beginning behind its brace.
fn top_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut names) = (1_usize, 0, Vec::new());
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (byte == b',' && depth == 1) {
            names.push(leading_word(group[start..at].trim()).to_owned());
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn broken_arrows(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        if floor(file.room()).is_none() {
            found.push(format!("src/{}: {} is no room of the house", file.path, file.room()));
        }
        let broken = rooms_named(file).into_iter().filter(|(_, room)| !may_name(file.room(), room));
        found.extend(broken.map(|(at, room)| format!("{}: {} may not name {room}", file.at(at), file.room())));
    }
    found
}

/// Where a crate may be named: rooms, or single files.
const HOMES: [(&str, &[&str]); 28] = [
    ("sled", &["ledger/kv.rs"]),
    ("governor", &["engine/budget.rs"]),
    ("clap", &["cli", "main"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli/shell.rs"]),
    ("sd_notify", &["cli/systemd.rs"]),
    ("indicatif", &["cli/progress.rs"]),
    ("tracing_subscriber", &["cli", "main"]),
    ("toml_edit", &["config"]),
    ("quick_xml", &["aws"]),
    ("aws_config", &["aws"]),
    ("jiff", &["model/object.rs", "model/window.rs"]),
    ("axum", &["web"]),
    ("subtle", &["web/guard.rs"]),
    ("tokio_io_timeout", &["web/server.rs"]),
    // The server of the page, and the client of the hot path: one a floor above the other.
    ("hyper", &["aws", "web/server.rs"]),
    ("hyper_util", &["aws", "web/server.rs"]),
    ("hyper_rustls", &["aws"]),
    ("rustls", &["aws"]),
    ("rustix", &["cli/beside.rs", "cli/check/machine.rs"]),
    ("csv", &["engine/manifest/columns.rs"]),
    // Files of receipts, and files of lists of objects: the rooms are a floor apart.
    ("flate2", &["audit/receipts/pack.rs", "engine/manifest/lines.rs"]),
    // Object bytes as they pass, the chain of receipts, and signatures: the rooms have nothing else in common.
    ("ring", &["aws/s3/lean/sign.rs"]),
    ("sha2", &["engine/digest.rs", "audit/receipts.rs", "alert/webhook.rs"]),
    ("hmac", &["alert/webhook.rs"]),
    ("reqwest", &["alert/webhook.rs"]),
    ("lettre", &["alert/mail.rs"]),
    ("prometheus_client", &["watch/prometheus.rs"]),
];
/// Crates that live in one file, whichever.
const SINGLE: [&str; 3] = ["md5", "sha1", "crc_fast"];

/// The external crates that a file names as the start of a path.
fn crates_named(file: &File) -> BTreeSet<String> {
    let code = &file.code;
    let mut named = BTreeSet::new();
    let heads = code.match_indices("::").map(|(at, _)| {
        let start = code[..at].bytes().rposition(|byte| !is_word(byte)).map_or(0, |before| before + 1);
        (start, &code[start..at])
    });
    let imports = words(code, "use").map(|at| (at + 4, leading_word(code.get(at + 4..).unwrap_or_default())));
    for (start, name) in heads.chain(imports) {
        if !name.is_empty() && !code[..start].ends_with("::") {
            named.insert(name.to_owned());
        }
    }
    named
}

fn homeless_crates(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let mut single = BTreeMap::<&str, Vec<&str>>::new();
    for file in files {
        for name in crates_named(file) {
            let homes = HOMES.iter().find(|(krate, _)| *krate == name).map(|(_, homes)| *homes);
            let homes = homes.or_else(|| name.starts_with("aws_").then_some(&["aws"] as &[&str]));
            if homes.is_some_and(|homes| !homes.contains(&file.room()) && !homes.contains(&file.path.as_str())) {
                found.push(format!("src/{}: {name} does not live here", file.path));
            }
            if let Some(krate) = SINGLE.iter().find(|krate| **krate == name) {
                single.entry(krate).or_default().push(&file.path);
            }
        }
    }
    let spread = single.into_iter().filter(|(_, paths)| paths.len() > 1);
    found.extend(spread.map(|(name, paths)| format!("{name} lives in one file, not in {}", paths.join(" and "))));
    found
}

/// Words that say nothing, wherever they stand in a name.
const EMPTY_WORDS: [&str; 11] =
    ["util", "utils", "helper", "helpers", "common", "misc", "manager", "processor", "handler", "service", "base"];
/// The port of KMS is named after its kind of thing in AWS.
const ALLOWED_NAMES: [&str; 1] = ["KeyService"];

fn says_nothing(name: &str) -> bool {
    if ALLOWED_NAMES.contains(&name) {
        return false;
    }
    let snake = snake(name);
    snake.split('_').any(|word| EMPTY_WORDS.contains(&word))
        || ["data", "info", "context", "ctx"].contains(&snake.as_str())
        || snake.starts_with("do_")
        || snake.starts_with("process_")
}

/// `CamelCase` as `camel_case`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn banned_names(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let parts = file.path.trim_end_matches(".rs").split('/').filter(|part| says_nothing(part));
        found.extend(parts.map(|part| format!("src/{}: {part} says nothing", file.path)));
        for keyword in ["fn", "struct", "enum", "trait", "type", "mod"] {
            for at in words(&file.code, keyword) {
                let name = leading_word(file.code[at + keyword.len()..].trim_start());
                // The name of an associated type is its trait's, and that may be another crate's.
                let associated =
                    keyword == "type" && file.code[..at].ends_with(' ') && !file.code[..at].ends_with("pub ");
                if says_nothing(name) && !associated {
                    found.push(format!("{}: {keyword} {name} says nothing", file.at(at)));
                }
            }
        }
    }
    found
}

fn too_long(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let lines = file.code.trim_end().lines().count();
        if lines > FILE_CAP {
            found.push(format!("src/{}: {lines} lines, at most {FILE_CAP}", file.path));
        }
        for at in words(&file.code, "fn") {
            let lines = file.code[at..item_end(&file.code, at)].lines().count();
            if lines > FUNCTION_CAP {
                found.push(format!("{}: a function of {lines} lines, at most {FUNCTION_CAP}", file.at(at)));
            }
        }
    }
    found
}

fn silent_rooms(files: &[File]) -> Vec<String> {
    let rooms = files.iter().filter(|file| file.path.ends_with("mod.rs") || !file.path.contains('/'));
    let silent = rooms.filter(|file| !file.text.starts_with("//!"));
    silent.map(|file| format!("src/{}: must open with //! and say what the room is for", file.path)).collect()
}

fn loose_ends(files: &[File]) -> Vec<String> {
    let banned = ["unbounded_channel", "tokio::spawn", "task::spawn(", "unbounded("];
    found_in(files, &banned, "nothing unbounded, every task joined")
}

/// What panics where the other end of a pipe is closed.
fn prints(files: &[File]) -> Vec<String> {
    found_in(
        files,
        &["print!(", "println!(", "eprint!(", "eprintln!("],
        "say and complain of cli::progress bear a closed pipe",
    )
}

fn impure(files: &[File]) -> Vec<String> {
    let pure: Vec<&File> = files.iter().filter(|file| ["model", "plan"].contains(&file.room())).collect();
    let banned = [
        "async",
        "await",
        "tokio",
        "tracing",
        "SystemTime",
        "Instant",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "std::io",
        "rand",
    ];
    found_in(pure, &banned, "model and plan are pure")
}

/// Every place of these words.
fn found_in<'a>(files: impl IntoIterator<Item = &'a File>, banned: &[&str], why: &str) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for word in banned {
            let places = file.code.match_indices(word).map(|(at, _)| at).filter(|&at| {
                let bytes = file.code.as_bytes();
                let goes_on = |byte: Option<&u8>| byte.is_some_and(|byte| is_word(*byte));
                let open_end = word.ends_with('(');
                !goes_on(at.checked_sub(1).and_then(|before| bytes.get(before)))
                    && (open_end || !goes_on(bytes.get(at + word.len())))
            });
            found.extend(places.map(|at| format!("{}: {word}: {why}", file.at(at))));
        }
    }
    found
}

/// Enums whose every value must be named wherever one decides by them.
const CLOSED: [&str; 2] = ["FaultKind::", "Disposition::"];

fn catch_alls(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for at in words(&file.code, "match") {
            let Some(open) = file.code[at..].find('{').map(|brace| at + brace) else { continue };
            let patterns = patterns(&file.code[open + 1..closing(&file.code, open)]);
            let closed = patterns.iter().any(|pattern| CLOSED.iter().any(|name| pattern.contains(name)));
            let catches_all = |pattern: &String| *pattern == "_" || pattern.starts_with("_ if ");
            if closed && patterns.iter().any(catches_all) {
                found.push(format!("{}: `_ =>` in a match on a closed enum", file.at(at)));
            }
        }
    }
    found
}

/// The patterns of a match, its body given.
fn patterns(body: &str) -> Vec<String> {
    let (mut found, mut depth, mut start, mut in_pattern) = (Vec::new(), 0_i32, 0, true);
    let bytes = body.as_bytes();
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth != 0 {
            continue;
        }
        if in_pattern && body[at..].starts_with("=>") {
            found.push(body[start..at].trim().trim_start_matches(',').trim().to_owned());
            (in_pattern, start) = (false, at + 2);
        } else if !in_pattern {
            let block_ends = byte == b'}' && body[start..].trim_start().starts_with('{');
            if block_ends || bytes[at] == b',' {
                (in_pattern, start) = (true, at + 1);
            }
        }
    }
    found
}

// The tests ------------------------------------------------------------------------------------------------------------

fn one(path: &str, text: &str) -> Vec<File> {
    vec![File::new(path, text)]
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn arrows_go_down_only() {
    assert_none(&broken_arrows(&house()));
}

#[test]
fn a_broken_arrow_is_seen() {
    let broken = |path, text| broken_arrows(&one(path, text)).len();
    assert_eq!(broken("model/job.rs", "use crate::ports::Read;"), 1);
    assert_eq!(broken("model/job.rs", "use super::object::Key; fn f() -> super::super::plan::Rule { }"), 1);
    assert_eq!(broken("model/mod.rs", "use super::ports::Read;"), 1);
    assert_eq!(broken("engine/mod.rs", "use crate::{model::job, aws::s3};"), 1);
    assert_eq!(broken("engine/scan/page.rs", "use super::super::super::aws::s3;"), 1);
    assert_eq!(broken("aws/mod.rs", "fn f(c: &crate::config::Config) {}"), 1);
    assert_eq!(broken("desired/mod.rs", "use crate::engine::Phase;"), 1);
    assert_eq!(broken("attic.rs", "fn f() {}"), 1);
    assert_eq!(broken("plan/route.rs", "use crate::ports::Sealing; use crate::model::job; use crate::plan::parts;"), 0);
    assert_eq!(broken("ledger/mod.rs", "use crate::ports::Clock; use super::plan::retry;"), 1);
    assert_eq!(broken("cli/run.rs", "use crate::{config::Config, engine, aws};"), 0);
    assert_eq!(broken("main.rs", "use repl::cli;"), 0);
    assert_eq!(
        broken(
            "model/job.rs",
            "// crate::aws is not code, nor is \"crate::aws\"\n#[cfg(test)]\nmod tests { use crate::aws; }"
        ),
        0
    );
}

#[test]
fn every_crate_has_one_home() {
    assert_none(&homeless_crates(&house()));
}

#[test]
fn a_crate_away_from_home_is_seen() {
    let homeless = |path, text| homeless_crates(&one(path, text)).len();
    assert_eq!(homeless("engine/mod.rs", "use aws_sdk_s3::Client;"), 1);
    assert_eq!(homeless("ledger/mod.rs", "fn f() -> sled::Db { sled::open() }"), 1);
    assert_eq!(homeless("ledger/kv.rs", "use sled;"), 0);
    assert_eq!(homeless("watch/mod.rs", "use jiff::Timestamp;"), 1);
    assert_eq!(homeless("aws/s3.rs", "use aws_smithy_types::Blob; use quick_xml::Reader;"), 0);
    assert_eq!(homeless("ports.rs", "use crate::clap::Thing;"), 0);
    let spread = [File::new("engine/digest.rs", "use md5::Md5;"), File::new("aws/s3.rs", "fn f() { md5::Md5::new() }")];
    assert_eq!(homeless_crates(&spread).len(), 1);
}

#[test]
fn names_say_something() {
    assert_none(&banned_names(&house()));
}

#[test]
fn an_empty_name_is_seen() {
    let empty = |path, text| banned_names(&one(path, text)).len();
    assert_eq!(empty("plan/utils.rs", ""), 1);
    assert_eq!(
        empty("plan/x.rs", "fn process_part() {} struct JobManager; enum Data {} fn do_it() {} mod helpers;"),
        5
    );
    assert_eq!(empty("aws/s3.rs", "type Data = u8;\nimpl Body for X {\n    type Data = Bytes;\n}"), 1);
    assert_eq!(empty("ports.rs", "trait KeyService {} fn base64() {} fn processed() {} struct Database;"), 0);
}

#[test]
fn functions_and_files_fit_the_eye() {
    assert_none(&too_long(&house()));
}

#[test]
fn what_is_too_long_is_seen() {
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    assert_eq!(too_long(&one("plan/x.rs", &function(80))).len(), 0);
    assert_eq!(too_long(&one("plan/x.rs", &function(81))).len(), 1);
    assert_eq!(too_long(&one("plan/x.rs", &"const A: u8 = 1;\n".repeat(601))).len(), 1);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(700));
    assert_eq!(too_long(&one("plan/x.rs", &tests)).len(), 0);
}

#[test]
fn every_room_says_what_it_is_for() {
    assert_none(&silent_rooms(&house()));
}

#[test]
fn a_silent_room_is_seen() {
    assert_eq!(silent_rooms(&one("plan/mod.rs", "pub mod route;")).len(), 1);
    assert_eq!(silent_rooms(&one("ports.rs", "use std::fmt;")).len(), 1);
    assert_eq!(silent_rooms(&one("plan/mod.rs", "//! Floor 2.")).len(), 0);
}

#[test]
fn nothing_is_unbounded_and_every_task_is_joined() {
    assert_none(&loose_ends(&house()));
}

#[test]
fn a_loose_end_is_seen() {
    assert_eq!(loose_ends(&one("engine/x.rs", "fn f() { tokio::spawn(g()); mpsc::unbounded_channel(); }")).len(), 2);
    assert_eq!(loose_ends(&one("engine/x.rs", "fn f() { tasks.spawn(g()); task::spawn_blocking(h); }")).len(), 0);
}

#[test]
fn a_closed_pipe_ends_nothing() {
    assert_none(&prints(&house()));
}

#[test]
fn a_print_is_seen() {
    assert_eq!(prints(&one("cli/x.rs", "fn f() { print!(); eprintln!(); write!(out); say(); }")).len(), 2);
}

#[test]
fn model_and_plan_are_pure() {
    assert_none(&impure(&house()));
}

#[test]
fn an_impurity_is_seen() {
    assert_eq!(impure(&one("plan/x.rs", "async fn f() { std::fs::read(p); SystemTime::now(); }")).len(), 3);
    assert_eq!(impure(&one("plan/x.rs", "// async\nfn asynchronous() { operand() }")).len(), 0);
    assert_eq!(impure(&one("engine/x.rs", "async fn f() {}")).len(), 0);
}

#[test]
fn closed_enums_are_matched_value_by_value() {
    assert_none(&catch_alls(&house()));
}

#[test]
fn a_catch_all_is_seen() {
    let seen = |text| catch_alls(&one("engine/x.rs", text)).len();
    assert_eq!(seen("fn f() { match kind { FaultKind::Gone => 1, _ => 2 } }"), 1);
    assert_eq!(seen("fn f() { match x.verdict() { Disposition::Halt => { g(); } _ => h(), } }"), 1);
    assert_eq!(
        seen(
            "fn f() { match status { 503 => FaultKind::Throttled, 404 => { FaultKind::Gone } _ => FaultKind::Refused } }"
        ),
        0
    );
    assert_eq!(
        seen("fn f() { match kind { FaultKind::Gone => match n { 1 => 2, _ => 3 }, FaultKind::Raced => 4 } }"),
        0
    );
}

/// The dependencies of a manifest that no row or sentence of the README names.
fn unexplained(manifest: &str, readme: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let (true, Some((name, _))) = (inside, line.split_once('=')) {
            let name = name.trim();
            if !readme.contains(&format!("| {name} |")) && !readme.contains(&format!("`{name}`")) {
                found.push(format!("README.md does not say why {name} is here"));
            }
        }
    }
    found
}

/// Rows of the README's table of crates whose rooms are not those that name the crate; shared ones may be anywhere.
fn misplaced(files: &[File], readme: &str) -> Vec<String> {
    let mut found = Vec::new();
    let table = readme.split("| crate | room | why |").nth(1).unwrap_or_default();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        // The one whose library has another name.
        let name = if cells[1] == "md-5" { "md5".to_owned() } else { cells[1].replace('-', "_") };
        let told: BTreeSet<&str> = cells[2].split(", ").collect();
        let rooms: BTreeSet<&str> =
            files.iter().filter(|file| crates_named(file).contains(&name)).map(File::room).collect();
        if told != BTreeSet::from(["shared"]) && told != rooms {
            found.push(format!("README.md: {} is said to live in {told:?} and lives in {rooms:?}", cells[1]));
        }
    }
    found
}

#[test]
fn the_readme_says_where_each_crate_lives() {
    assert_none(&misplaced(&house(), include_str!("../README.md")));
}

#[test]
fn a_misplaced_crate_is_seen() {
    let table = "| crate | room | why |\n|---|---|---|\n| md-5 | engine | x |\n| sled | ledger, plan | y |\n\n| z |";
    let files = [File::new("engine/x.rs", "use md5::Md5;"), File::new("ledger/kv.rs", "use sled::Db;")];
    assert_eq!(misplaced(&files, table).len(), 1);
}

#[test]
fn the_readme_says_why_each_crate_is_here() {
    assert_none(&unexplained(include_str!("../Cargo.toml"), include_str!("../README.md")));
}

#[test]
fn an_unexplained_crate_is_seen() {
    let manifest = "[package]\nname = 1\n[dependencies]\nsled = 1\nclap = 1\n[dev-dependencies]\nhyper = 1\n";
    assert_eq!(unexplained(manifest, "| sled | ledger |").len(), 2);
    assert_eq!(unexplained(manifest, "| sled | ledger |\n| clap | cli |\n`hyper`").len(), 0);
}

#[test]
fn code_is_told_from_comments_and_quotes() {
    let text =
        "let a = \"x // \\\" y\"; // z\nlet b = r#\"q \" q\"#; let c = '\"'; let d: &'static str = '\\''; /* e\n */ f";
    let code = plain(text);
    for gone in ["x", "y", "z", "q", "e\n"] {
        assert!(!code.contains(gone), "{gone} in {code}");
    }
    assert!(code.contains("'static") && code.ends_with('f'), "{code}");
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
}
