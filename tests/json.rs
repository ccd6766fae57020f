//! What `--json` prints: names and types of all fields, as programs rely on them, held to tests/json.shapes and to README.
//!
//! A field may be added. With `REPL_WRITE_SHAPES=1` the file is written anew; what went or changed its type breaks others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use support::compare::list;
use support::pair::{Pair, Setup};
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

/// What was seen of all commands.
#[derive(Default)]
struct Shapes {
    types: BTreeMap<String, BTreeSet<&'static str>>,
    /// The fields of each command's object itself, which are the same in every world.
    fields: BTreeMap<String, BTreeSet<String>>,
    wrong: Vec<String>,
}

impl Shapes {
    fn note(&mut self, command: &str, told: &Value) {
        shape(command, told, &mut self.types);
        let fields: BTreeSet<String> = told.as_object().unwrap().keys().cloned().collect();
        let first = self.fields.entry(command.to_owned()).or_insert_with(|| fields.clone());
        for field in first.symmetric_difference(&fields) {
            self.wrong.push(format!("{command}.{field} is there in one world and not in another"));
        }
    }
}

async fn answered(worker: &mut Worker) {
    eventually("it answers", PATIENCE, async || worker.runs() && worker.stderr().contains("running")).await;
}

/// All objects in three worlds: where nothing ever ran, and with failures of every kind, stopped and running.
async fn shapes() -> Shapes {
    let target = Proxy::before(&Server::Ministack.access().endpoint);
    let mut setup = Setup::on(Server::Ministack, Server::Ministack);
    setup.target_endpoint = Some(target.endpoint());
    let mut pair = setup.build().await;
    pair.setup.more =
        format!("[transfer]\nmode = \"stream\"\n[receipts]\nbucket = \"{}\"\nprefix = \"r/\"\n", pair.target.name);
    pair.write_config();
    let object = format!("s3://{}/denied", pair.source.name);
    let commands: [(&str, &[&str]); 13] = [
        ("plan", &["plan"]),
        ("plan", &["sync", "--dry-run", "--full"]),
        ("check", &["check", "--read-only"]),
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
    let mut found = Shapes::default();
    let ask = async |found: &mut Shapes| {
        for (name, args) in commands {
            found.note(name, &told(&pair, args).await);
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
    found.note("run", &ended);
    found.note("verify-receipts", &told(&pair, &["verify", "--receipts", &receipts(&pair).await]).await);
    found.note("sync", &told(&pair, &["sync"]).await);
    ask(&mut found).await;
    let mut worker = spawn_repl(&pair, &["run"]);
    answered(&mut worker).await;
    ask(&mut found).await;
    for (name, args) in [
        ("sync", &["sync"][..]),
        ("failures-show", &["failures", "show", "1"]),
        ("failures-retry", &["failures", "retry", "--all"]),
        ("failures-drop", &["failures", "drop", "--all", "--yes"]),
        ("drain", &["drain"]),
    ] {
        found.note(name, &told(&pair, args).await);
    }
    worker.end(PATIENCE).await;
    found
}

/// A directory of the receipts in the target, and of one that is damaged.
async fn receipts(pair: &Pair) -> String {
    let place = pair.directory.path().join("receipts");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("damaged.jsonl"), "no receipt\n").unwrap();
    let uploaded = list(&pair.target).await.into_iter().filter(|version| version.key.starts_with("r/"));
    for (nth, version) in uploaded.enumerate() {
        let got = pair.target.s3.get_object().bucket(&pair.target.name).key(&version.key).send().await.unwrap();
        std::fs::write(place.join(format!("{nth}.jsonl.gz")), got.body.collect().await.unwrap().into_bytes()).unwrap();
    }
    place.display().to_string()
}

/// What a command tells, beside a worker if there is one.
async fn told(pair: &Pair, args: &[&str]) -> Value {
    let said = ["told.out", "told.err"].map(|name| pair.directory.path().join(name));
    spawn_repl_into(pair, &[args, &["--json"]].concat(), said).end(PATIENCE).await.json()
}

/// Faults of the last minute or so: whether there are any when the status is asked for depends on how fast the machine is.
const OF_THE_MOMENT: &str = "status.faults[]";

/// The types of what is known.
fn known<'k>(kinds: &BTreeSet<&'k str>) -> BTreeSet<&'k str> {
    kinds.iter().copied().filter(|kind| *kind != "null").collect()
}

/// Where README names the fields of a command's object: in the paragraphs that say so.
fn places(command: &str) -> &'static [&'static str] {
    match command {
        "status" | "run" => &["`repl status --json`", "of the status"],
        "plan" => &["`repl plan --json`"],
        // Its requests are told in the words of the plan.
        "sync" => &["`repl sync --json`", "`repl plan --json`"],
        "verify" => &["`repl verify --json`"],
        "verify-receipts" => &["`repl verify --receipts DIR --json`"],
        "check" => &["`repl check --json`"],
        "failures" | "failures-show" => &["`repl failures --json`"],
        "why" => &["`repl why s3"],
        "brake" | "brake-release" => &["`repl brake --json`"],
        "limit" => &["limits {bandwidth"],
        "apply" => &["`repl apply --json`"],
        "pause" | "resume" | "drain" | "failures-retry" | "failures-drop" => &["`pause` and `resume` with `--json`"],
        other => panic!("where does README tell of {other}?"),
    }
}

/// What stands in code spans of those paragraphs.
fn documented(command: &str) -> BTreeSet<&str> {
    let tells = |paragraph: &&str| places(command).iter().any(|place| paragraph.contains(place));
    let paragraphs: Vec<&str> = README.split("\n\n").filter(tells).collect();
    assert!(!paragraphs.is_empty(), "README does not tell of {command}");
    let spans = paragraphs.into_iter().flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    spans.flat_map(|span| span.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')).collect()
}

#[tokio::test]
async fn fields_and_types_stay_and_are_documented() {
    let Shapes { types: found, mut wrong, .. } = shapes().await;
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
    for (path, kinds) in &kept {
        match found.get(*path) {
            None if path.starts_with(OF_THE_MOMENT) => {}
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
    for path in found.keys() {
        let (command, field) = (path.split('.').next().unwrap(), path.rsplit('.').next().unwrap());
        if path.contains('.') && !documented(command).contains(field.trim_end_matches("[]")) {
            wrong.push(format!("README does not name {path} where it tells of that command"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
