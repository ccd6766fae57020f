//! What nobody may ever read, and what the program says of files that others may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::browser::Browser;
use support::pair::{Pair, Setup};
use support::proxy::{Act, Proxy, Rule};
use support::servers::Server;
use support::web::{Page, serve_page};
use support::worker::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const REPL: &str = env!("CARGO_BIN_EXE_repl");
const PATIENCE: Duration = Duration::from_secs(120);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn for_pair(pair: &Pair, args: &[&str]) -> Command {
    let access = pair.access();
    let mut command = Command::new(REPL);
    command.args(args).arg("--config").arg(&pair.config).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_ACCESS_KEY_ID", &access.access_key_id).env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key);
    command
}

/// Every file below a place.
fn files(place: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if std::fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// What nobody may ever read: secret key, session token, token of the page, secret of the webhook, password of the mail.
const SECRETS: [&str; 5] = [
    "DISTINCTIVE+secret/access-key",
    "DISTINCTIVE-session-token",
    "DISTINCTIVE-web",
    "DISTINCTIVE-hook",
    "DISTINCTIVE-mail",
];
/// Parts of a signed request.
const SIGNED: [&str; 4] = ["AWS4-HMAC-SHA256", "signature=", "x-amz-security-token", "authorization: aws"];

fn grep(place: &str, bytes: &[u8]) {
    let text = text(bytes).to_lowercase();
    for secret in SECRETS.iter().chain(&SIGNED) {
        if let Some(at) = text.find(&secret.to_lowercase()) {
            let start = text[..at].char_indices().rev().nth(300).map_or(0, |(start, _)| start);
            panic!("{place} tells {secret}: …{}", &text[start..at]);
        }
    }
}

async fn asked(socket: &Path, question: &str) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(format!("{question}\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

/// Everything that the page and the paths beside it tell, with a right token and wrong ones.
async fn browsed(page: &Page, pair: &Pair) {
    let right = format!("Bearer {}", SECRETS[2]);
    let why = "/api/why?key=denied";
    for path in [
        "/",
        "/style.css",
        "/app.js",
        "/charts.js",
        "/panels.js",
        "/format.js",
        "/icon.svg",
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/status",
        "/api/setup",
        "/api/history",
        "/api/recent",
        "/api/failures",
        why,
        "/nothing",
    ] {
        for headers in [&[][..], &[("Authorization", right.as_str())], &[("Host", "evil.example")]] {
            let answer = page.get(path, headers).await;
            grep(&format!("{path} with {headers:?}"), format!("{}\n{}", answer.headers, answer.body).as_bytes());
        }
    }
    for path in ["/api/pause", "/api/resume", "/api/failures/retry", "/api/brake/release"] {
        for (token, body) in [("Bearer wrong", "{}"), (&right, "{\"odd\": 1}"), (&right, "{}")] {
            let headers = [("Authorization", token), ("Content-Type", "application/json")];
            let answer = page.post(path, &headers, body).await;
            grep(&format!("{path} {body}"), format!("{}\n{}", answer.headers, answer.body).as_bytes());
        }
    }
    let mut events = page.connect().await;
    let host = events.peer_addr().unwrap();
    events.write_all(format!("GET /api/events HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    while text(&heard).matches("event: status").count() < 2 {
        let length = events.read(&mut piece).await.unwrap();
        assert!(length > 0, "the stream ended: {}", text(&heard));
        heard.extend_from_slice(&piece[..length]);
    }
    grep("/api/events", &heard);
    let browser = Browser::open(&page.url("/")).await;
    browser.shows("#failures", "denied (AccessDenied)").await;
    browser.shows("#route", &pair.source.name).await;
    grep("the page as shown", browser.run("return document.documentElement.outerHTML").await.to_string().as_bytes());
}

/// A whole life at the highest verbosity, with failures of every kind.
#[tokio::test]
async fn no_secret_is_ever_told() {
    let target = Proxy::before(&Server::Ministack.access().endpoint);
    let [_, _, web, hook, mail] = SECRETS;
    let mut setup = Setup::on(Server::Ministack, Server::Ministack);
    setup.target_endpoint = Some(target.endpoint());
    let setup = setup.more(&format!(
            "[transfer]\nmode = \"stream\"\n[escalation]\n\
             standard = {{ emails = [\"a@example.com\"] }}\nperiod = \"10s\"\n\
             webhook = {{ url = \"http://127.0.0.1:9/\", secret = \"{hook}\" }}\n\
             smtp = {{ host = \"127.0.0.1\", port = 9, from = \"r@example.com\", user = \"r\", password = \"{mail}\" }}\n"
        ));
    let (setup, page) = serve_page(setup, &format!("token = \"{web}\"\n"));
    let pair = setup.build().await;
    target
        .add(Rule::when(|seen| seen.method == "PUT" && seen.path.contains("denied"), Act::error(403, "AccessDenied")));
    pair.source.put("k", "v").await;
    pair.source.put("denied", "v").await;
    pair.put_message("{\"Records\": 1}").await;
    let secretly = |args: &[&str], log: Option<&str>| {
        let mut command = for_pair(&pair, args);
        command.env("AWS_SECRET_ACCESS_KEY", SECRETS[0]).env("AWS_SESSION_TOKEN", SECRETS[1]).stdin(Stdio::null());
        if let Some(log) = log {
            command.env("REPL_LOG", log).env("RUST_LOG", log);
        }
        command
    };
    let object = format!("s3://{}/denied", pair.source.name);
    let life: [&[&str]; 7] = [
        &["run", "--until-idle=1s", "--json"],
        &["sync", "--full"],
        &["apply", "--dry-run"],
        &["failures"],
        &["why", &object],
        &["verify"],
        &["status"],
    ];
    let mut said = String::new();
    for log in [None, Some("trace")] {
        for args in life {
            let output = secretly(&[args, &["-vvv"]].concat(), log).output().unwrap();
            grep(&format!("stdout of {args:?}"), &output.stdout);
            grep(&format!("stderr of {args:?} with {log:?}"), &output.stderr);
            said.push_str(&text(&output.stderr));
        }
    }
    let status = secretly(&["status", "--json"], None).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["failed"], &status["quarantined"]), (&1.into(), &1.into()), "it did not fail as it should");
    assert!(said.contains("DEBUG") || said.contains("TRACE"), "it was not verbose: {said}");
    assert!(target.count(|seen| seen.header("x-amz-security-token") == SECRETS[1]) > 3, "{said}");

    let mut told = secretly(&["run", "-vvv", "--log-format", "json"], None);
    told.stderr(std::fs::File::create(pair.directory.path().join("stderr")).unwrap());
    let mut worker = tokio::process::Command::from(told).kill_on_drop(true).spawn().unwrap();
    let socket = pair.ledger.join("repl.sock");
    eventually("it listens", PATIENCE, async || UnixStream::connect(&socket).await.is_ok()).await;
    for question in ["status", "brake", "limit", "failures", "ping", "nonsense"] {
        let answer = asked(&socket, &format!("{{\"ask\":\"{question}\"}}")).await;
        assert!(!answer.is_empty());
        grep(&format!("the answer to {question}"), &answer);
    }
    browsed(&page, &pair).await;
    let pid = worker.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    worker.wait().await.unwrap();
    let stderr = std::fs::read_to_string(pair.directory.path().join("stderr")).unwrap();
    grep("the log as JSON", stderr.as_bytes());
    for line in stderr.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(event["level"].is_string() && event["timestamp"].is_string(), "{line}");
    }
    assert!(stderr.lines().count() > 1, "{stderr}");
    for path in files(&pair.ledger) {
        grep(&path.display().to_string(), &std::fs::read(&path).unwrap());
    }
}

/// A secret in a file that every user of the machine may read is used, and warned of once at the start; one that only its
/// owner may read is not mentioned. Neither is ever printed.
#[tokio::test]
async fn files_of_secrets_that_others_may_read_are_warned_of() {
    let mut pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let secret = |name: &str, content: &str, mode: u32| {
        let path = pair.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let (token, hook) = (secret("token", SECRETS[2], 0o644), secret("hook", SECRETS[3], 0o602));
    let mail = secret("mail", SECRETS[4], 0o640);
    pair.setup.more = format!(
        "[web]\nlisten = \"127.0.0.1:0\"\ntoken = \"file:{token}\"\n[escalation]\nstandard = {{ emails = [\"a@example.com\"] }}\n\
         webhook = {{ url = \"http://127.0.0.1:9/\", secret = \"file:{hook}\" }}\n\
         smtp = {{ host = \"127.0.0.1\", port = 9, from = \"r@example.com\", user = \"r\", password = \"file:{mail}\" }}\n"
    );
    pair.write_config();
    let run = || {
        let output = for_pair(&pair, &["run", "--until-idle=1s"]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        grep("the log", said.as_bytes());
        said.lines().filter(|line| line.contains("this secret")).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let warned = run();
    assert_eq!(warned.len(), 2, "{warned:#?}");
    for (line, file) in warned.iter().zip([&hook, &token]) {
        assert!(line.contains("WARN"), "{line}");
        assert!(line.contains("every user of this machine may read or change this secret: chmod 600 it"), "{line}");
        assert!(line.contains(file), "{line} is not about {file}");
    }
    for file in [&token, &hook] {
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    }
    assert_eq!(run(), Vec::<String>::new());

    std::fs::remove_file(&token).unwrap();
    let output = for_pair(&pair, &["run", "--until-idle=1s"]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("could not read the secret in {token}: ")), "{said}");
}
