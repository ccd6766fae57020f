//! How the program behaves towards people, pipes and service managers, and what it keeps to itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::disk::HangingDisk;
use support::objects::Multipart;
use support::pair::{Pair, Setup};
use support::proxy::{Proxy, Seen};
use support::servers::Server;
use support::web::serve_page;
use support::worker::{eventually, run_repl};

const REPL: &str = env!("CARGO_BIN_EXE_repl");
const PATIENCE: Duration = Duration::from_secs(120);

fn repl(args: &[&str]) -> Output {
    Command::new(REPL).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The names of all commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = text(&repl(&["--help"]).stdout);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    // A line that is indented further goes on with what a command does.
    let names = list.lines().filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.filter(|name| *name != "help").map(ToOwned::to_owned).collect();
    assert!(names.len() >= 14, "{help}");
    names
}

#[test]
fn every_command_shows_examples() {
    for command in commands() {
        let help = repl(&[&command, "--help"]);
        let said = text(&help.stdout);
        let examples = said.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{command} shows none:\n{said}"));
        assert!(help.status.success() && examples.contains(&format!("repl {command}")), "{said}");
    }
}

#[test]
fn completions_and_manual_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&repl(&["completions", shell]).stdout);
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not complete {command}");
        }
        assert!(script.contains("until-idle"), "{shell} does not complete options");
    }
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("repl.bash");
    std::fs::write(&script, repl(&["completions", "bash"]).stdout).unwrap();
    let ask = format!(
        ". {}; COMP_WORDS=(repl sync --man); COMP_CWORD=2; _repl repl --man sync; echo \"${{COMPREPLY[*]}}\"",
        script.display()
    );
    let completed = Command::new("bash").args(["-c", &ask]).output().unwrap();
    assert_eq!(text(&completed.stdout).trim(), "--manifest", "{}", text(&completed.stderr));

    assert!(repl(&["man", "--dir", place.path().to_str().unwrap()]).status.success());
    for command in commands() {
        let page = std::fs::read_to_string(place.path().join(format!("repl-{command}.1"))).unwrap();
        assert!(page.contains(".TH repl") && page.contains("Examples:"), "{page}");
        assert_eq!(text(&repl(&["man", &command]).stdout), page, "one page alone is the same");
    }
    assert!(text(&repl(&["man"]).stdout).contains("repl\\-sync(1)"));
    let unknown = repl(&["man", "nope"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(text(&unknown.stderr), "repl: there is no command \"nope\": `repl --help` lists them\n");
}

const SMALL: &str = "[source]\nbucket = \"acme-primary\"\nregion = \"us-east-1\"\n[targets.dr]\nbucket = \"acme-dr\"\n\
                     region = \"eu-west-2\"\n[[rules]]\nid = \"all\"\ntarget = \"dr\"\n";

/// A place that every user may look into, with a config in it and the binary.
fn open_place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let ledger = place.path().join("ledger");
    std::fs::write(place.path().join("repl.toml"), format!("{SMALL}[ledger]\npath = {ledger:?}\n")).unwrap();
    place
}

/// One sentence on stderr: what could not be done, why, and what to do; nothing on stdout.
fn sentence(output: &Output, code: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(code), ""), "{said}");
    let sentence = said.strip_prefix("repl: ").and_then(|said| said.strip_suffix('\n'));
    let sentence = sentence.unwrap_or_else(|| panic!("{said:?}"));
    assert!(!sentence.contains('\n') && !sentence.contains("os error"), "{said}");
    sentence.to_owned()
}

#[test]
fn a_config_that_cannot_be_read_is_told_in_one_sentence_with_its_remedy() {
    let place = open_place();
    let at = |name: &str| place.path().join(name).display().to_string();
    std::fs::write(at("binary"), [0xff, 0xfe]).unwrap();
    for (file, remedy) in [
        (at("none.toml"), "there is no such file; name one that exists with --config FILE"),
        (at(""), "it is a directory; name the file in it"),
        (at("binary"), "it is not text in UTF-8; is it a config file?"),
    ] {
        let said = sentence(&repl(&["status", "--config", &file]), 2);
        assert_eq!(said, format!("could not read the config file {file}: {remedy}"));
    }
    let nowhere = Command::new(REPL).arg("status").current_dir(tempfile::tempdir().unwrap().path()).output().unwrap();
    assert!(
        sentence(&nowhere, 2).starts_with("there is no config file repl.toml or /etc/repl/repl.toml: name one with")
    );
}

/// The user that [`nobody`] is.
const NOBODY: u32 = 65534;

/// The same as another user than the one who owns everything.
fn nobody(place: &Path, command: &Command) -> Command {
    let binary = place.join("repl");
    if !binary.exists() {
        std::fs::copy(REPL, &binary).unwrap();
    }
    let mut other = Command::new("setpriv");
    other.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    other.arg(binary).args(command.get_args());
    other.envs(command.get_envs().map(|(name, value)| (name, value.unwrap())));
    other
}

/// Runs the program as that user; `None` where this one may not do so.
fn as_nobody(place: &Path, args: &[&str]) -> Option<Output> {
    let output = nobody(place, Command::new(REPL).args(args)).output().ok()?;
    (!text(&output.stderr).contains("setpriv:")).then_some(output)
}

#[test]
fn another_users_config_and_ledger_are_told_as_such() {
    let place = open_place();
    let config = place.path().join("repl.toml");
    let of = |command: &'static str| [command, "--config", config.to_str().unwrap()].map(ToOwned::to_owned);
    let args = of("pause");
    assert!(repl(&[&args[0], &args[1], &args[2]]).status.success(), "makes the ledger");
    let args = of("status");
    let args = [args[0].as_str(), &args[1], &args[2]];
    let Some(output) = as_nobody(place.path(), &args) else { return };
    let said = sentence(&output, 3);
    assert!(said.ends_with("it belongs to another user; ask as that user"), "{said}");
    std::fs::set_permissions(&config, PermissionsExt::from_mode(0o600)).unwrap();
    let said = sentence(&as_nobody(place.path(), &args).unwrap(), 2);
    assert!(
        said.ends_with("this user may not read it; run as the user that it belongs to, or give that right"),
        "{said}"
    );
}

/// What root does beside another user's worker, or tries with the ledger that it left, does not shut that user out.
#[tokio::test]
async fn root_leaves_a_ledger_to_its_user() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let place = pair.directory.path();
    std::fs::set_permissions(place, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(&pair.ledger).unwrap();
    if chown(&pair.ledger, Some(NOBODY), Some(NOBODY)).is_err() || as_nobody(place, &["--help"]).is_none() {
        return eprintln!("SKIPPED: only root can be two users");
    }
    pair.source.put("k", "v").await;
    let works = || {
        let output = nobody(place, &for_pair(&pair, &["run", "--until-idle=1s"])).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    works();
    for args in [&["status"][..], &["pause"], &["failures"], &["sync"], &["run", "--until-idle=1s"]] {
        let said = sentence(&for_pair(&pair, args).output().unwrap(), 3);
        let ledger = pair.ledger.display();
        assert_eq!(
            said,
            format!("could not open the ledger {ledger}: it belongs to user {NOBODY}; run this as that user")
        );
    }
    let checks = || {
        let checked = text(&for_pair(&pair, &["check"]).output().unwrap().stdout);
        // How long a flush takes is the affair of a machine that may be busy.
        let fails = |line: &str| line.starts_with("fail ") && !line.contains("a flush to disk in");
        assert!(checked.contains(" passed, ") && !checked.lines().any(fails), "{checked}");
        let kept = files(&pair.ledger);
        assert!(kept.iter().any(|(path, _)| path.ends_with("endpoints.json")), "{kept:?}");
        for (path, mode) in kept {
            assert_eq!(std::fs::symlink_metadata(&path).unwrap().uid(), NOBODY, "{path:?}");
            assert_eq!(mode & 0o077, 0, "{path:?}");
        }
    };
    checks();
    works();
    let passing = pair.ledger.join(".repl-check-1");
    std::fs::write(&passing, "").unwrap();
    std::fs::set_permissions(&passing, PermissionsExt::from_mode(0o600)).unwrap();
    works();
    std::fs::remove_file(passing).unwrap();
    let mut running = nobody(place, &for_pair(&pair, &["run"]));
    running.stdout(Stdio::null()).stderr(Stdio::null());
    let mut worker = tokio::process::Command::from(running).kill_on_drop(true).spawn().unwrap();
    eventually("it answers root", PATIENCE, async || {
        for_pair(&pair, &["status", "--json"]).output().unwrap().status.success()
    })
    .await;
    checks();
    let pid = worker.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert!(worker.wait().await.unwrap().success());
    works();
}

/// As `repl … | head -0`: stdout is a pipe that nobody reads.
fn into_a_closed_pipe(mut command: Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), text(&output.stderr))
}

fn for_pair(pair: &Pair, args: &[&str]) -> Command {
    let access = pair.access();
    let mut command = Command::new(REPL);
    command.args(args).arg("--config").arg(&pair.config).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_ACCESS_KEY_ID", &access.access_key_id).env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key);
    command
}

#[tokio::test]
async fn closed_pipes_are_silent() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    pair.source.put("k", "v").await;
    pair.put_message("not an event").await;
    let object = format!("s3://{}/k", pair.source.name);
    let template = pair.config.with_file_name("init.toml");
    let bucket = pair.source.name.as_str();
    let init = ["init", "--source", bucket, "--source-region", "us-east-1", "--target", "b", "--target-region", "x"];
    let ended: [(&[&str], i32); 24] = [
        (&["check", "--read-only"], 0),
        (&["check", "--read-only", "--json"], 0),
        (&[&init[..], &["--output", "-"]].concat(), 0),
        (&[&init[..], &["--output", template.to_str().unwrap()]].concat(), 0),
        (&["run", "--until-idle=1s", "--json"], 1),
        (&["sync", "--json"], 0),
        (&["sync"], 0),
        (&["verify"], 0),
        (&["verify", "--json"], 0),
        (&["plan"], 0),
        (&["plan", "--json"], 0),
        (&["apply", "--dry-run"], 0),
        (&["status"], 0),
        (&["status", "--json"], 0),
        (&["why", &object], 0),
        (&["failures"], 0),
        (&["failures", "show", "1"], 0),
        (&["failures", "retry", "--messages"], 1),
        (&["limit"], 0),
        (&["brake"], 0),
        (&["pause"], 0),
        (&["resume", "--json"], 0),
        (&["completions", "bash"], 0),
        (&["man"], 0),
    ];
    for (args, code) in ended {
        let (ended, said) = into_a_closed_pipe(for_pair(&pair, args));
        assert_eq!(ended, Some(code), "{args:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("pipe"), "{args:?}: {said}");
    }
    let mut unheard = Command::new(REPL);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    unheard.args(["status", "--config", "/nowhere"]).stderr(writer);
    assert_eq!(unheard.status().unwrap().code(), Some(2), "nobody hears what is wrong, but the code tells");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let lost = Command::new(REPL).arg("man").stdout(full).output().unwrap();
    assert!(text(&lost.stderr).contains("could not be written to stdout: No space left"), "{}", text(&lost.stderr));
}

/// `script` of util-linux gives the program a terminal; without it there is nothing to see.
#[tokio::test]
async fn colours_are_for_terminals_and_no_color_turns_them_off() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let line = format!("{REPL} run --until-idle=1s --config {}", pair.config.display());
    let on_a_terminal = |no_color: Option<&str>| {
        let mut command = for_pair(&pair, &[]);
        let environment: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.unwrap().to_owned())).collect();
        command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).envs(environment).env_remove("NO_COLOR");
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        command.stdin(Stdio::null()).output().ok().map(|output| text(&output.stdout))
    };
    let Some(coloured) = on_a_terminal(None) else { return };
    assert!(coloured.contains("running") && coloured.contains("\u{1b}["), "{coloured:?}");
    let plain = on_a_terminal(Some("1")).unwrap();
    assert!(plain.contains("running") && !plain.contains("\u{1b}["), "{plain:?}");
    let piped = for_pair(&pair, &["run", "--until-idle=1s"]).output().unwrap();
    assert!(!text(&piped.stderr).contains('\u{1b}'));
}

/// READY only once the socket answers; WATCHDOG again and again; STOPPING before the end.
#[tokio::test]
async fn a_service_manager_is_told_when_the_worker_is_ready_alive_and_ending() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let place = pair.directory.path().join("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = for_pair(&pair, &["run"]);
    command.env("NOTIFY_SOCKET", &place).env("WATCHDOG_USEC", "300000").stdout(Stdio::null()).stderr(Stdio::null());
    let mut worker = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
    let told = || {
        let mut message = [0_u8; 4096];
        let length = manager.recv(&mut message).unwrap();
        text(&message[..length])
    };
    assert_eq!(told(), "READY=1\n");
    let status = for_pair(&pair, &["status", "--json"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["state"], "running", "ready means that it answers");
    let mut seen = Vec::new();
    while seen.iter().filter(|line| *line == "WATCHDOG=1\n").count() < 3 {
        seen.push(told());
    }
    assert!(seen.contains(&"STATUS=running: 0 to do, 0 parked, 0 held\n".to_owned()), "{seen:?}");
    let pid = worker.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    while !told().contains("STOPPING=1\n") {}
    assert!(worker.wait().await.unwrap().success());
}

/// A disk that hangs: the ledger's writer does not answer, so the watchdog is told nothing, and /healthz and /readyz say why;
/// once it goes on, all of them do.
#[tokio::test]
async fn while_the_disk_hangs_the_watchdog_is_silent_and_health_is_bad() {
    let (setup, page) = serve_page(Setup::on(Server::Ministack, Server::Ministack), "");
    let pair = setup.build().await;
    let disk = HangingDisk::new(pair.directory.path());
    let place = pair.directory.path().join("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let stderr = pair.directory.path().join("stderr");
    let mut command = for_pair(&pair, &["run"]);
    command.env("NOTIFY_SOCKET", &place).env("WATCHDOG_USEC", "300000").envs(disk.environment());
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&stderr).unwrap());
    let mut worker = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
    let told = || {
        let mut message = [0_u8; 4096];
        manager.recv(&mut message).ok().map(|length| text(&message[..length]))
    };
    let watchdog = || {
        let heard = std::iter::from_fn(told).take(20).any(|message| message == "WATCHDOG=1\n");
        assert!(heard, "it does not say that it lives");
    };
    watchdog();
    assert_eq!(page.get("/healthz", &[]).await.status, 200);

    disk.hang();
    let health = page.get("/healthz", &[]).await;
    assert_eq!(health.status, 503, "{}", health.body);
    assert!(health.body.contains("the ledger could not be flushed within 5 s: look at the disk"), "{}", health.body);
    assert_eq!(page.get("/readyz", &[]).await.status, 503);
    let silences = || {
        let said = std::fs::read_to_string(&stderr).unwrap();
        said.matches("the watchdog is not told: the ledger does not answer").count()
    };
    eventually("it says that it is silent", PATIENCE, async || silences() > 0).await;
    manager.set_nonblocking(true).unwrap();
    while told().is_some() {}
    let before = silences();
    eventually("many looks go by", PATIENCE, async || silences() >= before + 5).await;
    assert_eq!(std::iter::from_fn(told).filter(|message| message == "WATCHDOG=1\n").count(), 0);

    disk.go_on();
    manager.set_nonblocking(false).unwrap();
    watchdog();
    eventually("it is well again", PATIENCE, async || page.get("/readyz", &[]).await.status == 200).await;
    assert_eq!(page.get("/healthz", &[]).await.status, 200);
    let pid = worker.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert!(worker.wait().await.unwrap().success());
}

/// A worker that is ready has ears for whoever ends it: told at that very moment, it drains.
#[tokio::test]
async fn a_worker_that_is_ready_can_be_ended() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    for attempt in 0..10 {
        let place = pair.directory.path().join(format!("notify-{attempt}"));
        let manager = UnixDatagram::bind(&place).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = for_pair(&pair, &["run"]);
        command.env("NOTIFY_SOCKET", &place).stdout(Stdio::null()).stderr(Stdio::null());
        let mut worker = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let pid = worker.id().unwrap().to_string();
        let mut message = [0_u8; 4096];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(text(&message[..length]), "READY=1\n");
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        let ended = worker.wait().await.unwrap();
        assert_eq!(ended.code(), Some(0), "{ended}");
    }
}

/// Every file below a place, with its mode.
fn files(place: &Path) -> Vec<(std::path::PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap();
        found.push((path.clone(), kind.permissions().mode() & 0o777));
        if kind.is_dir() {
            found.extend(files(&path));
        }
    }
    found
}

/// What the worker writes is for its own user only, whatever the umask.
#[tokio::test]
async fn what_is_kept_on_disk_is_private_under_a_lax_umask() {
    let mut pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let receipts = format!("[receipts]\nbucket = \"{}\"\nprefix = \"receipts/\"\n", pair.target.name);
    pair.setup.more = receipts;
    pair.write_config();
    pair.source.put("k", "v").await;
    let plain = for_pair(&pair, &["run"]);
    let mut lax = Command::new("bash");
    lax.args(["-c", "umask 000; exec \"$0\" \"$@\"", REPL]).args(plain.get_args());
    lax.envs(plain.get_envs().map(|(name, value)| (name, value.unwrap())));
    lax.stdout(Stdio::null()).stderr(Stdio::null());
    let mut worker = tokio::process::Command::from(lax).kill_on_drop(true).spawn().unwrap();
    let private = |path: &Path, mode: u32| mode == if path.is_dir() { 0o700 } else { 0o600 };
    eventually("a receipt is written", PATIENCE, async || {
        pair.ledger.join("receipts").is_dir() && !files(&pair.ledger.join("receipts")).is_empty()
    })
    .await;
    let kept = files(&pair.ledger);
    assert!(kept.iter().any(|(path, _)| path.ends_with("repl.sock")), "{kept:?}");
    assert!(kept.iter().all(|(path, mode)| private(path, *mode)), "{kept:?}");
    assert_eq!(std::fs::metadata(&pair.ledger).unwrap().permissions().mode() & 0o777, 0o700);
    let pid = worker.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    worker.wait().await.unwrap();
    let kept = files(&pair.ledger);
    assert!(kept.iter().all(|(path, mode)| private(path, *mode)), "{kept:?}");
}

/// The account that the config expects goes with every request to S3, whichever client sends it.
async fn the_owner_is_expected(client: &str) {
    const OWNER: &str = "000000000000";
    let endpoint = &Server::Ministack.access().endpoint;
    let (source, target) = (Proxy::before(endpoint), Proxy::before(endpoint));
    let mut setup = Setup::on(Server::Ministack, Server::Ministack);
    (setup.source_endpoint, setup.target_endpoint) = (Some(source.endpoint()), Some(target.endpoint()));
    let pair = setup.build().await;
    let expecting = ["[source]\n", "[targets.dr]\n"].iter().fold(pair.config_text(), |text, table| {
        assert!(text.contains(table), "{text}");
        text.replace(table, &format!("{table}expected_bucket_owner = \"{OWNER}\"\n"))
    });
    std::fs::write(&pair.config, format!("{expecting}\n[transfer]\nmode = \"stream\"\nclient = \"{client}\"\n"))
        .unwrap();
    for key in ["a", "b+ü"] {
        pair.source.put(key, "one").await;
        pair.source.put(key, "two").await;
    }
    pair.source.put_multipart("large", 1, &Multipart::of(&[5 << 20, 10])).await;
    for args in [
        &["sync", "--full"][..],
        &["verify", "--deep", "--check-metadata", "--check-tags", "--versions"],
        &["run", "--until-idle=1s"],
        &["apply", "lifecycle"],
        &["apply", "notifications", "--dry-run"],
    ] {
        run_repl(&pair, args, PATIENCE).await.expect_code(0);
    }
    let to_s3 = |seen: &Seen| seen.header("authorization").contains("/s3/aws4_request");
    let seen: Vec<_> = [&source, &target].iter().flat_map(|side| side.seen()).filter(to_s3).collect();
    let methods = |method: &str| seen.iter().filter(|seen| seen.method == method).count();
    assert!(methods("GET") > 5 && methods("PUT") > 5 && methods("POST") > 1, "{}", seen.len());
    for request in seen {
        assert_eq!(request.header("x-amz-expected-bucket-owner"), OWNER, "{} {:?}", request.method, request.query);
    }
}

#[tokio::test]
async fn the_lean_client_says_which_owner_it_expects() {
    the_owner_is_expected("lean").await;
}

#[tokio::test]
async fn the_sdk_client_says_which_owner_it_expects() {
    the_owner_is_expected("sdk").await;
}
