//! Files that are no config, and nearly are.

use proptest::prelude::*;

use super::super::errors::Errors;
use super::super::prices::parse_prices;
use super::*;
use crate::damage::{cases, corpus, damaged_text, is_a_sentence};

/// Each problem in one line that says where.
fn answered<T>(read: Result<T, Errors>) -> Result<(), TestCaseError> {
    let Err(errors) = read else { return Ok(()) };
    prop_assert!(!errors.problems().is_empty());
    let said = errors.to_string();
    prop_assert_eq!(said.lines().count(), errors.problems().len());
    for line in said.lines() {
        is_a_sentence(line)?;
        prop_assert!(line.starts_with("f:"), "{}", line);
    }
    Ok(())
}

fn samples() -> Vec<Vec<u8>> {
    let example = include_str!("../../../config/repl.toml");
    let filled_in = example.replace("# e.g. ", "");
    [corpus("config"), vec![example.into(), filled_in.into()]].concat()
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn hostile_configs_are_answered(text in damaged_text(samples())) {
        answered(parse(&text, "f"))?;
    }

    #[test]
    fn hostile_price_tables_are_answered(text in damaged_text(corpus("prices"))) {
        answered(parse_prices(&text, "f"))?;
    }

    #[test]
    fn hostile_garbage_is_answered(text in "\\PC{0,80}|[\\[\\]{}=\"'.,#\\n a-z0-9_\\r\\t-]{0,120}") {
        answered(parse(&text, "f"))?;
    }
}
