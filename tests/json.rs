//! What `--json` prints: names and types of all fields, as programs rely on them, held to tests/json.shapes and to README.
//!
//! A field may be added. With `REPL_WRITE_SHAPES=1` the file is written anew; what went or changed its type breaks others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use support::pair::Setup;
use support::proxy::{Act, Proxy, Rule};
use support::servers::Server;
use support::worker::{Worker, eventually, run_repl, spawn_repl, spawn_repl_into};

const SHAPES: &str = "tests/json.shapes";
const README: &str = include_str!("../README.md");
const PATIENCE: Duration = Duration::from_secs(120);

/// Objects that are keyed by what they are about, not by fixed names.
const KEYED: [&str; 5] = ["faults", "metadata", "tags", "set_by", "before"];

/// Each path of an object with the types seen there: `pending.bytes` is a number. `[]` stands for any item of a list.
fn shape(path: &str, value: &Value, into: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            items.iter().for_each(|item| shape(&format!("{path}[]"), item, into));
            "list"
        }
        Value::Object(fields) => {
            let name = path.rsplit('.').next().unwrap();
            if !KEYED.contains(&name) && name != "after" {
                fields.iter().for_each(|(name, field)| shape(&format!("{path}.{name}"), field, into));
            }
            "object"
        }
    };
    into.entry(path.to_owned()).or_default().insert(kind);
}

async fn answered(worker: &mut Worker) {
    eventually("it answers", PATIENCE, async || worker.runs() && worker.stderr().contains("running")).await;
}

/// All objects in two worlds: one with failures of every kind, stopped and running, and one where nothing ever ran.
async fn shapes() -> BTreeMap<String, BTreeSet<&'static str>> {
    let target = Proxy::before(&Server::Ministack.access().endpoint);
    let mut setup = Setup::on(Server::Ministack, Server::Ministack);
    setup.target_endpoint = Some(target.endpoint());
    let pair = setup.more("[transfer]\nmode = \"stream\"\n").build().await;
    let object = format!("s3://{}/denied", pair.source.name);
    let commands: [(&str, &[&str]); 12] = [
        ("plan", &["plan"]),
        ("sync", &["sync", "--dry-run", "--full"]),
        ("verify", &["verify"]),
        ("status", &["status"]),
        ("failures", &["failures"]),
        ("why", &["why", &object]),
        ("brake", &["brake"]),
        ("brake-release", &["brake", "release"]),
        ("limit", &["limit"]),
        ("apply", &["apply", "--dry-run"]),
        ("pause", &["pause"]),
        ("resume", &["resume"]),
    ];
    let mut found = BTreeMap::new();
    let ask = async |found: &mut BTreeMap<_, _>| {
        for (name, args) in commands {
            let said = ["asked.out", "asked.err"].map(|name| pair.directory.path().join(name));
            let name = if args.contains(&"--dry-run") && name == "sync" { "plan" } else { name };
            shape(name, &spawn_repl_into(&pair, &[args, &["--json"]].concat(), said).end(PATIENCE).await.json(), found);
        }
    };
    ask(&mut found).await;
    target
        .add(Rule::when(|seen| seen.method == "PUT" && seen.path.contains("denied"), Act::error(403, "AccessDenied")));
    for key in ["a", "b", "denied"] {
        pair.source.put(key, "v").await;
    }
    pair.put_message("{\"Records\": 1}").await;
    let ended = run_repl(&pair, &["run", "--until-idle=1s", "--json"], PATIENCE).await.expect_code(1).json();
    shape("run", &ended, &mut found);
    let synced = run_repl(&pair, &["sync", "--json"], PATIENCE).await.json();
    shape("sync", &synced, &mut found);
    ask(&mut found).await;
    let mut worker = spawn_repl(&pair, &["run"]);
    answered(&mut worker).await;
    ask(&mut found).await;
    let retried = run_repl_beside(&pair, &["failures", "retry", "--all", "--json"]).await;
    shape("failures-retry", &retried, &mut found);
    let dropped = run_repl_beside(&pair, &["failures", "drop", "--all", "--yes", "--json"]).await;
    shape("failures-drop", &dropped, &mut found);
    let drained = run_repl_beside(&pair, &["drain", "--json"]).await;
    shape("drain", &drained, &mut found);
    worker.end(PATIENCE).await;
    found
}

async fn run_repl_beside(pair: &support::pair::Pair, args: &[&str]) -> Value {
    let said = ["beside.out", "beside.err"].map(|name| pair.directory.path().join(name));
    spawn_repl_into(pair, args, said).end(PATIENCE).await.json()
}

/// The types of what is known.
fn known<'k>(kinds: &BTreeSet<&'k str>) -> BTreeSet<&'k str> {
    kinds.iter().copied().filter(|kind| *kind != "null").collect()
}

/// What stands in code spans of README: that is where fields are named.
fn documented() -> BTreeSet<String> {
    let spans = README.split('`').skip(1).step_by(2);
    let words = spans.flat_map(|span| span.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words.map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn fields_and_types_stay_and_are_documented() {
    let found = shapes().await;
    let line = |(path, kinds): (&String, &BTreeSet<&str>)| {
        format!("{path}: {}", kinds.iter().copied().collect::<Vec<_>>().join(" | "))
    };
    let lines: Vec<String> = found.iter().map(line).collect();
    if std::env::var_os("REPL_WRITE_SHAPES").is_some() {
        std::fs::write(SHAPES, lines.join("\n") + "\n").unwrap();
    }
    let kept = std::fs::read_to_string(SHAPES).unwrap();
    let kept: BTreeMap<&str, BTreeSet<&str>> = kept
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(path, kinds)| (path, kinds.split(" | ").collect()))
        .collect();
    let mut wrong = Vec::new();
    for (path, kinds) in &kept {
        match found.get(*path) {
            None => wrong.push(format!("{path} is gone")),
            // `null` is "not known", which anything may be at one time and not at another.
            Some(now) if kinds.len() > kinds.contains("null").into() && !known(now).is_subset(&known(kinds)) => {
                wrong.push(format!("{path} was {kinds:?} and is {now:?}"));
            }
            Some(_) => {}
        }
    }
    let new = found.keys().filter(|path| !kept.contains_key(path.as_str()));
    wrong.extend(new.map(|path| format!("{path} is new: write {SHAPES} anew")));
    let documented = documented();
    for path in found.keys() {
        let field = path.rsplit('.').next().unwrap().trim_end_matches("[]");
        if path.contains('.') && !documented.contains(field) {
            wrong.push(format!("README does not name {path}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
