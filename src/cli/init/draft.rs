//! A starter config as text: commented, and such that it parses.

use std::fmt::Write as _;

use crate::config;
use crate::model::object::Tags;

/// Rounds of leaving out what the config does not accept: each takes out at least one line.
const ROUNDS: usize = 1000;

/// One bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bucket: String,
    /// `None` where it is not known: a line to be filled in.
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    /// The account that must own it.
    pub(super) owner: Option<String>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) target: String,
    pub(super) priority: Option<i32>,
    pub(super) prefix: String,
    pub(super) tags: Tags,
    pub(super) delete_markers: bool,
    pub(super) enabled: bool,
    pub(super) storage_class: Option<String>,
    pub(super) kms_key: Option<String>,
    pub(super) owner: bool,
    /// What has no equivalent, and what to know.
    pub(super) notes: Vec<String>,
}

/// All of a starter config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) source: Place,
    pub(super) queue: Option<String>,
    pub(super) targets: Vec<(String, Place)>,
    pub(super) rules: Vec<Rule>,
    /// The promise of Replication Time Control, in minutes.
    pub(super) sla: Option<i32>,
}

/// A text in TOML's quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            control if control.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(control))),
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

/// A remark as lines of comment: whatever it says stays behind the mark.
fn comment(text: &str) -> String {
    let safe: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    format!("# {safe}\n")
}

impl Draft {
    /// The text, and what of it was left out because the config does not accept it.
    pub(super) fn text(&self) -> (String, Vec<String>) {
        let mut text = self.written();
        let mut left_out = Vec::new();
        for _ in 0..ROUNDS {
            let Err(errors) = config::parse(&text, "repl.toml") else { break };
            let Some((line, reason)) = errors.problems().iter().find_map(|problem| {
                let line = text.lines().nth(problem.line.checked_sub(1)?)?;
                // What every rule and bucket needs cannot be left out.
                let needed = ["id =", "target =", "bucket =", "region =", "["];
                let optional = line.contains(" = ") && !needed.iter().any(|needed| line.starts_with(needed));
                optional.then(|| (problem.line, format!("{}: {}", problem.key, problem.message)))
            }) else {
                break;
            };
            text = without(&text, line, &reason);
            left_out.push(reason);
        }
        (text, left_out)
    }

    fn written(&self) -> String {
        let mut text = String::from(
            "# The configuration of repl; every other key is shown in config/repl.toml of its repository.\n\
             # Next: `repl check` proves it, `repl apply` sets up notifications and alarms, `repl sync --full` brings what\n\
             # is there already, and `repl run` what comes.\n\n\
             # The bucket that is replicated.\n[source]\n",
        );
        place(&mut text, &self.source);
        text.push_str("\n# Where S3 sends its events; `repl apply notifications` makes the queue if need be.\n");
        match &self.queue {
            Some(url) => writeln!(text, "[queue]\nurl = {}", quoted(url)).unwrap_or_default(),
            None => text.push_str("# [queue]\n# url = \"https://sqs.REGION.amazonaws.com/ACCOUNT/repl-events\"\n"),
        }
        for (id, there) in &self.targets {
            writeln!(text, "\n# Where to.\n[targets.{id}]").unwrap_or_default();
            place(&mut text, there);
        }
        for rule in &self.rules {
            text.push_str("\n# What is replicated.\n");
            rule_text(&mut text, rule);
        }
        if let Some(minutes) = self.sla {
            writeln!(text, "\n# The promise of Replication Time Control.\n[sla]\nthreshold = \"{minutes}m\"")
                .unwrap_or_default();
        }
        text.push_str(
            "\n# Durable state: needs a disk that survives a restart.\n[ledger]\n# path = \"/var/lib/repl\"\n\n\
             # Replicated deletes beyond either are held until `repl brake release`.\n[brake]\n\
             # deletes_per_hour = 1000\n# share_of_keys = \"5%\"\n",
        );
        text
    }
}

fn place(text: &mut String, place: &Place) {
    writeln!(text, "bucket = {}", quoted(&place.bucket)).unwrap_or_default();
    match &place.region {
        Some(region) => writeln!(text, "region = {}", quoted(region)).unwrap_or_default(),
        None => text.push_str("# region = \"\"   fill in: the bucket's region could not be looked up\n"),
    }
    if let Some(endpoint) = &place.endpoint {
        writeln!(text, "endpoint = {}\npath_style = true", quoted(endpoint)).unwrap_or_default();
    }
    if let Some(owner) = &place.owner {
        text.push_str("# Refuse to work on a bucket of anybody else.\n");
        writeln!(text, "expected_bucket_owner = {}", quoted(owner)).unwrap_or_default();
    }
}

fn rule_text(text: &mut String, rule: &Rule) {
    for note in &rule.notes {
        text.push_str(&comment(note));
    }
    writeln!(text, "[[rules]]\nid = {}\ntarget = {}", quoted(&rule.id), quoted(&rule.target)).unwrap_or_default();
    if let Some(priority) = rule.priority {
        writeln!(text, "priority = {priority}").unwrap_or_default();
    }
    if !rule.prefix.is_empty() {
        writeln!(text, "prefix = {}", quoted(&rule.prefix)).unwrap_or_default();
    }
    if !rule.tags.is_empty() {
        let tags: Vec<String> =
            rule.tags.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
        writeln!(text, "tags = {{ {} }}", tags.join(", ")).unwrap_or_default();
    }
    if rule.delete_markers {
        text.push_str("delete_markers = true\n");
    }
    if !rule.enabled {
        text.push_str("status = \"disabled\"\n");
    }
    for (key, value) in [("storage_class", &rule.storage_class), ("kms_key", &rule.kms_key)] {
        if let Some(value) = value {
            writeln!(text, "{key} = {}", quoted(value)).unwrap_or_default();
        }
    }
    if rule.owner {
        text.push_str("owner = \"target\"\n");
    }
}

/// The text with that line as a comment that tells why.
fn without(text: &str, line: usize, reason: &str) -> String {
    let lines = text.lines().enumerate().map(|(nth, written)| {
        if nth + 1 == line {
            format!("{}# {written}\n", comment(&format!("left out: {reason}")))
        } else {
            format!("{written}\n")
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draft(id: &str, prefix: &str, tags: Tags) -> Draft {
        let place = |bucket: &str, region: &str| Place {
            bucket: bucket.to_owned(),
            region: Some(region.to_owned()),
            ..Place::default()
        };
        Draft {
            source: place("acme-primary", "us-east-1"),
            queue: Some("https://sqs.us-east-1.amazonaws.com/111122223333/events".to_owned()),
            targets: vec![("dr".to_owned(), place("acme-dr", "eu-west-2"))],
            rules: vec![Rule {
                id: id.to_owned(),
                target: "dr".to_owned(),
                priority: Some(3),
                prefix: prefix.to_owned(),
                tags,
                delete_markers: false,
                enabled: true,
                storage_class: None,
                kms_key: None,
                owner: true,
                notes: vec!["hostile\n[[rules]]\nid = 1".to_owned()],
            }],
            sla: Some(15),
        }
    }

    proptest! {
        /// Whatever prefixes and tags hold, the text parses to exactly them.
        #[test]
        fn hostile_texts_come_back_as_they_were(
            prefix in "\\PC{0,40}|[\"\\\\\n\r\t\u{0}-\u{1f}\u{7f}\u{80}-\u{9f}#=\\[\\]{}']{0,40}",
            tags in proptest::collection::btree_map("[ -~\u{e9}\"\\\\\n#=]{1,20}", "[ -~\u{2028}\"\\\\\n]{0,20}", 0..4),
        ) {
            let tags: Tags = tags.into_iter().collect();
            let (text, left_out) = draft("a \"rule\" \\ #1", &prefix, tags.clone()).text();
            prop_assert_eq!(left_out, Vec::<String>::new());
            let config = config::parse(&text, "repl.toml").map_err(|errors| TestCaseError::fail(format!("{errors}\n{text}")))?;
            prop_assert_eq!(&config.rules.len(), &1);
            prop_assert_eq!(&config.rules[0].prefix, &prefix);
            prop_assert_eq!(&config.rules[0].tags, &tags);
            prop_assert_eq!(config.rules[0].id.as_str(), "a \"rule\" \\ #1");
        }
    }

    #[test]
    fn what_the_config_does_not_accept_is_left_out_with_the_reason() {
        let mut draft = draft("all", "", Tags::new());
        draft.rules[0].storage_class = Some("EXPRESS_ONEZONE".to_owned());
        draft.rules[0].kms_key = Some("alias/mine".to_owned());
        let (text, left_out) = draft.text();
        assert_eq!(left_out.len(), 2, "{left_out:?}");
        assert!(left_out[0].starts_with("rules[0].") && left_out[1].starts_with("rules[0]."), "{left_out:?}");
        assert!(
            text.contains("# kms_key = \"alias/mine\"\n") && text.contains("# left out: rules[0].kms_key: "),
            "{text}"
        );
        let config = config::parse(&text, "repl.toml").unwrap();
        assert_eq!((config.rules[0].storage_class.clone(), config.rules[0].kms_key.clone()), (None, None));
    }

    #[test]
    fn an_unknown_region_is_a_line_to_fill_in() {
        let mut draft = draft("all", "", Tags::new());
        draft.targets[0].1.region = None;
        let (text, _) = draft.text();
        assert!(text.contains("# region = \"\"   fill in"), "{text}");
        assert!(config::parse(&text, "repl.toml").is_err());
        let filled = text
            .replace("# region = \"\"   fill in: the bucket's region could not be looked up", "region = \"eu-west-2\"");
        assert!(config::parse(&filled, "repl.toml").is_ok(), "{filled}");
    }
}
