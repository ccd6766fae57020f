//! What is asked at a terminal, and what comes of each answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::process::Command;
use std::time::Duration;

use repl::config;
use support::pair::{Pair, Setup};
use support::proxy::{Act, Proxy, Rule};
use support::servers::Server;
use support::terminal::Terminal;
use support::worker::{run_repl, work_off_with};

const PATIENCE: Duration = Duration::from_secs(120);

fn init(directory: &tempfile::TempDir, flags: &[&str]) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repl"));
    command.arg("init").args(flags).current_dir(directory.path());
    Terminal::start(command)
}

const QUESTIONS: [&str; 5] = [
    "The bucket to be replicated: ",
    "Its region, such as us-east-1: ",
    "The bucket to be kept equal to it: ",
    "Its region, such as eu-west-2: ",
    "The URL of the queue that S3 sends its events to (empty for none yet): ",
];

/// Everything is asked, an empty answer to what is needed once more, and the answers make a config that works.
#[tokio::test(flavor = "multi_thread")]
async fn init_asks_for_what_no_flag_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut terminal = init(&directory, &[]);
    terminal.answer(QUESTIONS[0], "\n").await;
    let url = "https://sqs.us-east-1.amazonaws.com/111122223333/repl-events";
    for (question, answer) in QUESTIONS.iter().zip(["  acme-primary ", "us-east-1", "acme-dr", "eu-west-2", url]) {
        terminal.answer(question, &format!("{answer}\n")).await;
    }
    let (code, stdout, shown) = terminal.end().await;
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{shown}");
    assert!(shown.ends_with("repl: wrote repl.toml; next: repl check --config repl.toml\n"), "{shown}");
    let text = std::fs::read_to_string(directory.path().join("repl.toml")).unwrap();
    let config = config::parse(&text, "repl.toml").unwrap();
    assert_eq!(
        (config.source.bucket.as_str(), config.source.connection.region.as_str()),
        ("acme-primary", "us-east-1")
    );
    let target = &config.targets[0];
    assert_eq!((target.bucket.as_str(), target.connection.region.as_str()), ("acme-dr", "eu-west-2"));
    assert_eq!(config.queue.unwrap().url, url);
}

/// What flags say is not asked, a queue may be left out, and onto stdout goes the config alone.
#[tokio::test(flavor = "multi_thread")]
async fn init_asks_only_for_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--source", "acme-primary", "--source-region", "us-east-1", "--target-region", "eu-west-2"];
    let mut terminal = init(&directory, &[&flags[..], &["--output", "-"]].concat());
    terminal.answer(QUESTIONS[2], "acme-dr\n").await;
    terminal.answer(QUESTIONS[4], "\n").await;
    let (code, stdout, shown) = terminal.end().await;
    assert_eq!(code, Some(0), "{shown}");
    let config = config::parse(&stdout, "stdout").unwrap();
    assert_eq!(config.targets[0].bucket, "acme-dr");
    assert!(config.queue.is_none());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a file was written as well");
}

/// Whoever ends the answers (Ctrl-D) is told, and nothing is written; an answer that cannot be used is told with its line.
#[tokio::test(flavor = "multi_thread")]
async fn init_tells_what_is_wrong_with_the_answers() {
    let directory = tempfile::tempdir().unwrap();
    let mut terminal = init(&directory, &[]);
    terminal.answer(QUESTIONS[0], "acme-primary\n").await;
    terminal.answer(QUESTIONS[1], "\u{4}").await;
    let (code, _, shown) = terminal.end().await;
    assert_eq!(code, Some(2));
    assert!(shown.contains("repl: the answers ended before all was asked\n"), "{shown}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "half a config was written");

    let mut terminal = init(&directory, &["--source", "a", "--source-region", "us-east-1", "--target", "b\"] #"]);
    terminal.answer(QUESTIONS[3], "eu-west-2\n").await;
    terminal.answer(QUESTIONS[4], "not a url\n").await;
    let (code, _, shown) = terminal.end().await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("repl: before it can be used, fill in or correct\n"), "{shown}");
    assert!(
        shown.contains("repl.toml:") && shown.contains("queue.url") && shown.contains("targets.dr.bucket"),
        "{shown}"
    );
}

/// A command for a pair, at a terminal.
fn at_terminal(pair: &Pair, args: &[&str]) -> Terminal {
    let access = pair.access();
    let mut command = Command::new(env!("CARGO_BIN_EXE_repl"));
    command.args(args).arg("--config").arg(&pair.config).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_ACCESS_KEY_ID", &access.access_key_id).env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key);
    Terminal::start(command)
}

/// What is parked is given up only on a clear yes.
#[tokio::test(flavor = "multi_thread")]
async fn drop_asks_first() {
    let target = Proxy::before(&Server::Ministack.access().endpoint);
    let setup = Setup::on(Server::Ministack, Server::Ministack);
    let pair = Setup { target_endpoint: Some(target.endpoint()), ..setup }.build().await;
    target.add(Rule::when(|seen| seen.method == "PUT", Act::error(403, "AccessDenied")));
    pair.source.put("denied/1", "1").await;
    pair.source.put("denied/2", "2").await;
    work_off_with(&pair, 1).await;
    let parked = async || run_repl(&pair, &["status", "--json"], PATIENCE).await.json()["failed"].as_u64().unwrap();
    let question =
        "everything that is parked under prefix \"denied/\" is given up for good, and not replicated. Go on? [y/N] ";
    for answer in ["\n", "n\n", "yess\n", "\u{4}"] {
        let mut terminal = at_terminal(&pair, &["failures", "drop", "--prefix", "denied/"]);
        terminal.answer(question, answer).await;
        let (code, stdout, shown) = terminal.end().await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{answer:?}: {shown}");
        assert!(shown.contains("nothing was dropped\n"), "{answer:?}: {shown}");
        assert_eq!(parked().await, 2, "{answer:?}");
    }
    let mut terminal = at_terminal(&pair, &["failures", "drop", "--key", "denied/1"]);
    terminal.answer("Go on? [y/N] ", "y\n").await;
    let (code, stdout, shown) = terminal.end().await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(stdout.starts_with("dropped 1 objects and 0 messages"), "{stdout}");
    assert_eq!(parked().await, 1);
    let mut terminal = at_terminal(&pair, &["failures", "drop", "--all"]);
    terminal.answer("Go on? [y/N] ", " YES \n").await;
    assert_eq!(terminal.end().await.0, Some(0));
    assert_eq!(parked().await, 0);
}

/// What `apply` made is removed only on a clear yes.
#[tokio::test(flavor = "multi_thread")]
async fn destroy_asks_first() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    run_repl(&pair, &["apply", "lifecycle"], PATIENCE).await.expect_code(0);
    let rules = async || {
        let told = pair.target.s3.get_bucket_lifecycle_configuration().bucket(&pair.target.name).send().await;
        told.map_or(0, |told| told.rules().len())
    };
    let made = rules().await;
    assert!(made > 0);
    let question = "Only \"yes\" goes on: ";
    for answer in ["y\n", "\n", "\u{4}"] {
        let mut terminal = at_terminal(&pair, &["apply", "lifecycle", "--destroy"]);
        terminal.answer(question, answer).await;
        let (_, stdout, shown) = terminal.end().await;
        assert_eq!(rules().await, made, "{answer:?}: {stdout}{shown}");
    }
    let mut terminal = at_terminal(&pair, &["apply", "lifecycle", "--destroy"]);
    terminal.answer(question, "yes\n").await;
    let (code, _, shown) = terminal.end().await;
    assert_eq!((code, rules().await), (Some(0), 0), "{shown}");
}
