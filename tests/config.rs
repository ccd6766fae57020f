//! Config files as an operator meets them: the commented example, and what each mistake is answered with.

use repl::config::{Config, Errors, parse};
use repl::watch::alarms::{Alarm, Comparison, Composite, MissingData, Settings, Signal, definitions};

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

/// The README tells every alarm with what the config has by default, line for line.
#[test]
fn the_readme_has_every_alarm() {
    let config = parsed(EXAMPLE).unwrap();
    let defined = definitions(&Settings {
        prefix: "P".to_owned(),
        namespace: config.monitoring.namespace,
        source_bucket: "b".to_owned(),
        period: config.escalation.period,
        thresholds: config.escalation.thresholds,
        canary: None,
    });
    let lines: Vec<String> =
        defined.alarms.iter().map(alarm_line).chain(defined.composites.iter().map(composite_line)).collect();
    let readme = include_str!("../README.md");
    let table = readme.lines().skip_while(|line| !line.starts_with("| alarm | when ")).skip(2);
    let found: Vec<&str> = table.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(found, lines);
}

fn alarm_line(alarm: &Alarm) -> String {
    let what = match &alarm.signal {
        Signal::Series(series) => {
            let side = series.dimensions.iter().find(|dimension| dimension.name == "Side");
            let side = side.map(|side| format!(" ({})", side.value)).unwrap_or_default();
            format!("{} of `{}`{side}", series.statistic.name(), series.metric)
        }
        Signal::Math { label, .. } => (*label).to_owned(),
    };
    let compared = match alarm.comparison {
        Comparison::GreaterThan => ">",
        Comparison::LessThan => "<",
        Comparison::LessThanOrEqual => "≤",
    };
    let missing = match alarm.missing {
        MissingData::Missing => "not known",
        MissingData::Ignore => "stays as it is",
        MissingData::Breaching => "fires",
        MissingData::NotBreaching => "is over",
    };
    assert_eq!(alarm.datapoints_to_alarm, alarm.evaluation_periods, "every period must breach");
    let (id, threshold, tier) = (alarm.id.name(), alarm.threshold, alarm.tier.name());
    let periods = match alarm.period.as_secs() {
        86_400 => "a day".to_owned(),
        _ => alarm.evaluation_periods.to_string(),
    };
    format!("| `{id}` | {what} {compared} {threshold} | {periods} | {missing} | {tier} |")
}

fn composite_line(composite: &Composite) -> String {
    let rule = composite.rule.to_string().replace("ALARM(\"P-", "").replace("\")", "");
    format!("| **`{}`** | {rule} | | | **{}** |", composite.id.name(), composite.tier.name())
}
