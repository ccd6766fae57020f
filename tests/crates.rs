//! What is linked in: licences, banned crates, sources and duplicates of Cargo.lock, as .deny.toml says. Advisories are
//! `cargo deny`'s alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

const RULES: &str = include_str!("../.deny.toml");

/// The strings of a list of .deny.toml.
fn list(name: &str) -> Vec<&'static str> {
    let start = RULES.split(&format!("\n{name} = [")).nth(1).unwrap_or_else(|| panic!("no {name}"));
    start.split(']').next().unwrap().split('"').skip(1).step_by(2).collect()
}

/// Every crate of Cargo.lock.
fn packages() -> Vec<Value> {
    let cargo = |args: &[&str]| {
        Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
    };
    let args = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let mut told = cargo(&args);
    if !told.status.success() {
        // A build fetches only what this platform needs; the lock file names the crates of all.
        cargo(&["fetch", "--locked"]);
        told = cargo(&args);
    }
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let mut told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let Value::Array(packages) = told["packages"].take() else { panic!("no packages") };
    assert!(packages.len() > 100);
    packages
}

/// Whether a licence expression can be met by what is allowed: `OR` by one side, `AND` by both.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|all| all.split(" OR ").any(|one| allowed.contains(&one.trim())))
}

#[test]
fn a_licence_that_is_not_allowed_is_seen() {
    let allowed = ["MIT", "ISC", "Apache-2.0"];
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Unlicense", "Apache-2.0 AND ISC", "(MIT OR GPL-2.0) AND ISC"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "", "MIT AND GPL-3.0", "Apache-2.0 WITH LLVM-exception"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn licences_sources_and_bans_hold() {
    let (allowed, banned, known_twice) = (list("allow"), list("deny"), list("skip"));
    let mut wrong = Vec::new();
    let mut versions = BTreeMap::<String, usize>::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap().to_owned();
        let licence = package["license"].as_str().unwrap_or_default();
        let excepted = RULES.contains(&format!("{{ allow = [{licence:?}], crate = {name:?} }}"));
        if !is_allowed(licence, &allowed) && !excepted {
            wrong.push(format!("{name}: licence {licence:?}"));
        }
        let source = package["source"].as_str();
        if name != "repl" && source != Some("registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{name} comes from {source:?}"));
        }
        if banned.contains(&name.as_str()) {
            wrong.push(format!("{name} is banned"));
        }
        *versions.entry(name).or_default() += 1;
    }
    let twice = versions.iter().filter(|(name, count)| **count > 1 && !known_twice.contains(&name.as_str()));
    wrong.extend(twice.map(|(name, count)| format!("{name} is there {count} times")));
    let once = known_twice.iter().filter(|name| versions.get(**name).is_none_or(|count| *count < 2));
    wrong.extend(once.map(|name| format!("{name} is there once: take it from the skips")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}
