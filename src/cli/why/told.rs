//! The story for a person.

use serde_json::Value;

use crate::cli::failures::printable;

/// Lines of events and of attempts that are told: the last ones.
const LINES: usize = 20;

/// All of it.
pub(super) fn text(story: &Value) -> String {
    let mut out = format!("{:?}\n", of(story, "key"));
    let source = story.get("source").cloned().unwrap_or_default();
    for target in list(story, "targets") {
        let (name, rule) = (of(target, "name"), of(target, "rule"));
        let ruled = if rule.is_empty() { "no rule".to_owned() } else { format!("rule {rule}") };
        out.push_str(&format!("target {name}, {ruled}: {}\n", of(target, "state")));
        for (label, field) in [("why", "reason"), ("no rule", "no_rule"), ("next", "next")] {
            let told = of(target, field);
            let said_before = field == "no_rule" && told == of(target, "reason");
            if !told.is_empty() && !said_before {
                out.push_str(&format!("  {label:<8} {}\n", printable(told)));
            }
        }
        side_by_side(&mut out, &source, target.get("target").unwrap_or(&Value::Null));
    }
    section(&mut out, "events", list(story, "events"), event);
    section(&mut out, "attempts", list(story, "attempts"), attempt);
    out
}

fn of<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Both heads, field by field; `*` marks what differs.
fn side_by_side(out: &mut String, source: &Value, target: &Value) {
    out.push_str(&format!("  {:<16} {:<40} {}\n", "", "source", "target"));
    let fields = [
        "bucket",
        "key",
        "kind",
        "version",
        "etag",
        "size",
        "modified",
        "storage_class",
        "encryption",
        "checksum",
        "content_type",
        "retain_until",
        "legal_hold",
        "fault",
    ];
    for field in fields {
        let (one, other) = (cell(source.get(field)), cell(target.get(field)));
        if one == "-" && other == "-" {
            continue;
        }
        // Version and time of a replica are its own.
        let own = ["bucket", "version", "modified"].contains(&field);
        let mark = if one == other || own { ' ' } else { '*' };
        out.push_str(&format!(" {mark}{field:<16} {one:<40} {other}\n"));
    }
    for difference in list(target, "differences").iter().filter_map(Value::as_str) {
        out.push_str(&format!("  differs: {}\n", printable(difference)));
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => printable(text).replace('\n', "\u{fffd}"),
        Some(Value::Object(fields)) => {
            let told: Vec<String> =
                fields.values().filter(|field| !field.is_null()).map(|field| cell(Some(field))).collect();
            if told.is_empty() { "-".to_owned() } else { told.join(" ") }
        }
        Some(other) => other.to_string(),
    }
}

fn section(out: &mut String, name: &str, lines: &[Value], line: impl Fn(&Value) -> String) {
    if lines.is_empty() {
        out.push_str(&format!("{name}: none that the ledger remembers\n"));
        return;
    }
    out.push_str(&format!("{name}:\n"));
    if lines.len() > LINES {
        out.push_str(&format!("  {} older ones: see --json\n", lines.len() - LINES));
    }
    for one in lines.iter().skip(lines.len().saturating_sub(LINES)) {
        out.push_str(&format!("  {}\n", printable(&line(one)).replace('\n', " ")));
    }
}

fn event(event: &Value) -> String {
    let mut told = format!("{}  {}", or_dash(of(event, "at")), of(event, "kind"));
    for (label, field) in
        [("version", "version"), ("for", "target"), ("sequencer", "sequencer"), ("changed", "changed")]
    {
        if !of(event, field).is_empty() {
            told.push_str(&format!(", {label} {}", of(event, field)));
        }
    }
    if !of(event, "reason").is_empty() {
        told.push_str(&format!(": {}", of(event, "reason")));
    }
    told
}

fn attempt(attempt: &Value) -> String {
    let mut told =
        format!("{}  {}, version {}", or_dash(of(attempt, "at")), of(attempt, "outcome"), of(attempt, "version"));
    for (label, field) in [(": ", "fault"), ("; ", "next")] {
        if !of(attempt, field).is_empty() {
            told.push_str(&format!("{label}{}", of(attempt, field)));
        }
    }
    told
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
