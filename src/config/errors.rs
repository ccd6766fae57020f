//! What is wrong with a config file: everything at once, each with its place, one sentence each.

use std::fmt;

use crate::model::words::shown;

/// What is shown of a key and of what is wrong with it, in characters: a file may hold anything.
const KEY: usize = 150;
const MESSAGE: usize = 400;

/// One thing wrong with a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The path of the key, such as `rules[1].prefix` (lists count from 0); empty where the file is not TOML at all.
    pub key: String,
    /// What is wrong and what would be accepted. Never holds the value of a secret.
    pub message: String,
}

/// Everything wrong with a config file, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    file: String,
    problems: Vec<Problem>,
}

impl Errors {
    pub(super) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        for problem in &mut problems {
            problem.key = shown(&problem.key, KEY);
            problem.message = shown(&problem.message, MESSAGE);
        }
        problems.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        problems.dedup();
        Self { file: file.to_owned(), problems }
    }

    /// The problems, in the order of their lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Errors {
    /// One line per problem: `repl.toml:14: rules[1].histroy: unknown key, did you mean "history"?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, Problem { line, column, key, message }) in self.problems.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            if key.is_empty() {
                write!(f, "{}:{line}:{column}: {message}", self.file)?;
            } else {
                write!(f, "{}:{line}: {key}: {message}", self.file)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// What to say of an unknown name: the nearest known one, and all of them where the nearest is not near.
pub(super) fn unknown(kind: &str, name: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|candidate| distance(name, candidate));
    let Some(nearest) = nearest else { return format!("unknown {kind}, none is accepted here") };
    if distance(name, nearest) <= (nearest.chars().count() / 3).max(2) {
        return format!("unknown {kind}, did you mean {nearest:?}?");
    }
    let accepted = known.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    format!("unknown {kind}, the nearest known is {nearest:?}, accepted are {accepted}")
}

/// Edits between two names (insert, delete, replace, swap of neighbours), letter case ignored. A name of more than
/// 64 letters is far from everything, so that a garbage file costs no time.
fn distance(left: &str, right: &str) -> usize {
    if left.len() > 64 {
        return usize::MAX;
    }
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let at = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&above, column).saturating_add(usize::from(letter != other));
            let mut least = replaced.min(at(&above, column + 1) + 1).min(at(&current, column) + 1);
            let swapped =
                row > 0 && column > 0 && left.get(row - 1) == Some(other) && right.get(column - 1) == Some(letter);
            if swapped {
                least = least.min(at(&before, column - 1).saturating_add(1));
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edits_are_counted() {
        for (left, right, edits) in [
            ("histroy", "history", 1),
            ("", "abc", 3),
            ("abc", "", 3),
            ("regoin", "region", 1),
            ("Prefix", "prefix", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), edits, "{left} {right}");
        }
    }

    #[test]
    fn the_nearest_is_always_named() {
        assert_eq!(unknown("key", "bukcet", &["region", "bucket"]), "unknown key, did you mean \"bucket\"?");
        assert_eq!(
            unknown("key", "zzzzzzzzzz", &["region", "bucket"]),
            "unknown key, the nearest known is \"region\", accepted are \"region\", \"bucket\""
        );
    }

    proptest! {
        #[test]
        fn distance_is_a_measure(left in "[a-d_]{0,7}", right in "[a-d_]{0,7}") {
            prop_assert_eq!(distance(&left, &right), distance(&right, &left));
            prop_assert_eq!(distance(&left, &right) == 0, left == right);
            prop_assert!(distance(&left, &right) <= left.len().max(right.len()));
        }
    }
}
