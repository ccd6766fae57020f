//! Config files as an operator meets them: the commented example, and what each mistake is answered with.

use repl::config::{Config, Errors, parse};

const EXAMPLE: &str = include_str!("../config/repl.toml");

/// A comment that holds a key or a table header, not prose.
fn is_setting(comment: &str) -> bool {
    comment.starts_with("[[")
        || comment.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn uncommented(marks: &[&str]) -> (String, usize) {
    let mut count = 0;
    let mut lines = Vec::new();
    for line in EXAMPLE.lines() {
        let setting = marks.iter().find_map(|mark| line.strip_prefix(mark).filter(|rest| is_setting(rest)));
        count += usize::from(setting.is_some());
        lines.push(setting.unwrap_or(line));
    }
    (lines.join("\n"), count)
}

fn parsed(text: &str) -> Result<Config, Errors> {
    parse(text, "config/repl.toml")
}

#[test]
fn the_example_shows_the_defaults() {
    let (text, count) = uncommented(&["# "]);
    assert!(count > 60, "only {count} defaults were found");
    assert_eq!(parsed(&text).unwrap(), parsed(EXAMPLE).unwrap());
}

#[test]
fn every_key_of_the_example_is_legal() {
    let (text, count) = uncommented(&["# ", "# e.g. "]);
    assert!(count > 90, "only {count} keys were found");
    assert_ne!(parsed(&text).unwrap(), parsed(EXAMPLE).unwrap());
}

/// An unknown key far from all others is told the accepted ones; each of them must stand in the example.
#[test]
fn the_example_leaves_no_key_out() {
    let (text, _) = uncommented(&["# ", "# e.g. "]);
    let mut broken = String::from("qqqqqqqqqqqqqqqqqqqqqqqqqqqq = 1\n");
    for line in text.lines() {
        broken.push_str(line);
        broken.push('\n');
        if line.starts_with('[') {
            broken.push_str("qqqqqqqqqqqqqqqqqqqqqqqqqqqq = 1\n");
        }
    }
    let broken = broken.replace(" = { ", " = { qqqqqqqqqqqqqqqqqqqqqqqqqqqq = 1, ");
    let errors = parse(&broken, "repl.toml").unwrap_err();
    let mut seen = 0;
    for problem in errors.problems() {
        let Some((_, accepted)) = problem.message.split_once("accepted are ") else {
            panic!("{}: {}", problem.key, problem.message);
        };
        for key in accepted.split(", ").map(|key| key.trim_matches('"')) {
            seen += 1;
            let shown = text.contains(&format!("{key} = "))
                || text.contains(&format!("[{key}"))
                || text.contains(&format!(".{key}]"));
            assert!(shown, "{key} of {} is not in the example", problem.key);
        }
    }
    assert!(seen > 100, "only {seen} keys were told");
}

/// The outside contract's own example, as other programs are written against it, must be accepted as it stands.
#[test]
fn the_contracts_example_is_accepted() {
    let config = repl::config::parse(include_str!("contract.toml"), "contract.toml").unwrap();
    let rule = &config.rules[0];
    assert!(rule.delete_markers && !rule.tags.is_empty() && rule.owner_full_control);
    assert_eq!((rule.id.as_str(), rule.target_prefix.as_str()), ("critical", "from-us/"));
    assert_eq!(config.transfer.memory, 48 << 20);
}
