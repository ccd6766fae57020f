//! `repl plan`, `sync --dry-run` and `sync --max-spend` against real servers: what is foreseen is what happens, and
//! what may be spent is all that is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::compare::{compare, list};
use support::objects::Multipart;
use support::pair::{Pair, Setup, bucket_table};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::worker::{Output, eventually, run_repl, spawn_repl};

const PATIENCE: Duration = Duration::from_secs(120);

async fn run(pair: &Pair, args: &[&str]) -> Output {
    run_repl(pair, args, PATIENCE).await
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number at {path} in {report:#}"))
}

/// A pair whose requests are seen on both sides.
async fn watched(setup: Setup) -> (Pair, Proxy, Proxy) {
    let (source, target) = (setup.source, setup.target);
    let (source, target) = (Proxy::before(&source.access().endpoint), Proxy::before(&target.access().endpoint));
    let setup = Setup { source_endpoint: Some(source.endpoint()), target_endpoint: Some(target.endpoint()), ..setup };
    (setup.build().await, source, target)
}

/// Every file of a directory with its bytes; nothing where there is none.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// What was written in the second in which a comparison begins is looked at more closely: by the plan, and no more by the
/// sync behind it.
async fn until_listings_are_of_the_past() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

/// What a plan and the sync behind it must agree on, by kind of request too.
fn assert_as_foreseen(plan: &Value, sync: &Value) {
    let markers = number(plan, "/delete_markers");
    assert_eq!(number(plan, "/objects") + markers, number(sync, "/copied"), "{plan:#}\n{sync:#}");
    assert_eq!(number(plan, "/bytes"), number(sync, "/bytes"));
    assert_eq!(number(plan, "/already_equal"), number(sync, "/already_equal"));
    assert_eq!(plan["requests"], sync["requests"], "{plan:#}\n{sync:#}");
}

/// Missing, changed, equal, empty, in parts, and under odd keys: the plan tells what the sync then does, request by
/// request, and the proxies saw as many.
async fn a_plan_comes_true(server: Server) {
    let (pair, source, target) = watched(Setup::on(server, server)).await;
    for key in 0..12 {
        pair.source.put(&format!("equal/{key}"), format!("content of {key}")).await;
    }
    run(&pair, &["sync"]).await.expect_code(0);
    for key in ["new/a +%&", "new/ünï/ö", "new/…"] {
        pair.source.put(key, "some bytes").await;
    }
    pair.source.put("new/empty", "").await;
    pair.source.put("new/middling", vec![7; 700 << 10]).await;
    pair.source.put_multipart("new/parts", 5, &Multipart::of(&[5 << 20, 5 << 20, 77])).await;
    pair.source.put("equal/3", "changed, and longer than before").await;
    until_listings_are_of_the_past().await;
    let plan = run(&pair, &["plan", "--json"]).await.expect_code(0).json();
    assert_eq!(number(&plan, "/objects"), 7, "{plan:#}");
    let dry = run(&pair, &["sync", "--dry-run", "--json"]).await.expect_code(0).json();
    let bare = |report: &Value| {
        let mut report = report.clone();
        report.as_object_mut().unwrap().remove("seconds_to_plan");
        report
    };
    assert_eq!(bare(&plan), bare(&dry), "one and the same");
    source.forget();
    target.forget();
    let sync = run(&pair, &["sync", "--json"]).await.expect_code(0).json();
    assert_as_foreseen(&plan, &sync);
    let seen = source.count(|_| true) + target.count(|_| true);
    assert_eq!(number(&sync, "/requests/total"), seen as u64, "every request is counted");
    let after = run(&pair, &["plan", "--json"]).await.expect_code(0).json();
    assert_eq!((number(&after, "/objects"), number(&after, "/requests/put")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_comes_true_on_seaweedfs() {
    a_plan_comes_true(Server::Seaweedfs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_comes_true_on_ministack() {
    a_plan_comes_true(Server::Ministack).await;
}

/// A backfill with histories: versions and markers are counted, those that are there already too.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_a_backfill_comes_true() {
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).rule("delete_markers = true").build().await;
    for key in 0..6 {
        let name = format!("history/{key:03} +%");
        for version in 0..4 {
            pair.source.put(&name, format!("{key} {version}")).await;
            if (key + version) % 3 == 0 {
                pair.source.delete(&name).await;
            }
        }
    }
    let flags = ["--full", "--delete-markers", "--json"];
    let plan = run(&pair, &[&["plan"], &flags[..]].concat()).await.expect_code(0).json();
    let versions = list(&pair.source).await;
    let markers = versions.iter().filter(|version| version.marker).count();
    let expected = (versions.len() - markers, markers);
    assert_eq!((number(&plan, "/objects"), number(&plan, "/delete_markers")), (expected.0 as u64, expected.1 as u64));
    let sync = run(&pair, &[&["sync"], &flags[..]].concat()).await.expect_code(0).json();
    assert_as_foreseen(&plan, &sync);
    pair.source.put("history/000 +%", "one more").await;
    let plan = run(&pair, &[&["plan"], &flags[..]].concat()).await.expect_code(0).json();
    assert_eq!((number(&plan, "/objects"), number(&plan, "/delete_markers")), (1, 0));
    let sync = run(&pair, &[&["sync"], &flags[..]].concat()).await.expect_code(0).json();
    assert_eq!((number(&sync, "/copied"), number(&sync, "/bytes")), (1, number(&plan, "/bytes")));
    assert_eq!(compare(&pair).await, Vec::<String>::new());
}

/// Two targets, the newest versions alone; and again when there is nothing left to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_for_two_targets_comes_true() {
    let mut pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).build().await;
    let second = pair.another_target().await;
    bucket_table(&mut pair.setup.more, "targets.two", &second, &second.server.access().endpoint);
    let rule =
        |id: &str, target: &str| format!("[[rules]]\nid = \"{id}\"\ntarget = \"{target}\"\nhistory = \"latest\"\n");
    pair.setup.rule = rule("first", "dr") + &rule("second", "two");
    pair.write_config();
    for breadth in [&["--full", "--json"][..], &["--json"]] {
        for key in 0..5 {
            for version in 0..3 {
                pair.source.put(&format!("k{key}"), format!("{key} {version} {}", breadth.len())).await;
            }
        }
        until_listings_are_of_the_past().await;
        for copied in [10, 0] {
            let plan = run(&pair, &[&["plan"], breadth].concat()).await.expect_code(0).json();
            let sync = run(&pair, &[&["sync"], breadth].concat()).await.expect_code(0).json();
            assert_eq!(number(&sync, "/copied"), copied);
            for kind in ["list", "get_attributes"] {
                let path = format!("/requests/{kind}");
                assert_eq!(number(&plan, &path), number(&sync, &path), "{breadth:?} {kind}: {plan:#}\n{sync:#}");
            }
            until_listings_are_of_the_past().await;
        }
    }
}

/// Neither makes a ledger, nor touches one that is there, nor writes to a bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_changes_nothing() {
    let (pair, source, target) = watched(Setup::on(Server::Seaweedfs, Server::Seaweedfs)).await;
    pair.source.put("one", "1").await;
    for command in [&["plan"][..], &["sync", "--dry-run", "--full"]] {
        run(&pair, command).await.expect_code(0);
        assert!(!pair.ledger.exists(), "{command:?}");
    }
    run(&pair, &["sync"]).await.expect_code(0);
    pair.source.put("two", "2").await;
    let (ledger, there) = (files(&pair.ledger), list(&pair.target).await.len());
    source.forget();
    target.forget();
    for command in [&["plan"][..], &["plan", "--full"], &["sync", "--dry-run"]] {
        run(&pair, command).await.expect_code(0);
    }
    assert_eq!(files(&pair.ledger), ledger);
    assert_eq!(list(&pair.target).await.len(), there);
    let writes = |proxy: &Proxy| proxy.count(|seen| !["GET", "HEAD"].contains(&seen.method.as_str()));
    assert_eq!((writes(&source), writes(&target)), (0, 0));
}

/// The documented object, with and without prices: what is not known is null and named, never zero.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_plan_tells() {
    let rule = "storage_class = \"STANDARD_IA\"\nkms_key = \"{target_key}\"";
    let mut pair = Setup::on(Server::Ministack, Server::Ministack).rule(rule).build().await;
    pair.source.put("a", "0123456789").await;
    let plan = run(&pair, &["plan", "--json"]).await.expect_code(0).json();
    for field in [
        "objects",
        "bytes",
        "delete_markers",
        "already_equal",
        "unprovable",
        "archived",
        "requests",
        "moved_bytes",
        "key_requests",
        "rate",
        "seconds",
        "dollars",
        "unknown",
        "notes",
        "incomplete",
        "failed",
        "full",
        "prices",
        "seconds_to_plan",
    ] {
        assert!(plan.get(field).is_some(), "{field} of {plan:#}");
    }
    assert_eq!((&plan["rate"], &plan["seconds"]), (&Value::Null, &Value::Null), "never made up");
    assert_eq!(plan["dollars"]["lower_bound"], true);
    assert!(plan["dollars"]["items"].as_array().unwrap().iter().all(|item| item["dollars"].is_null()));
    let endpoint = &Server::Ministack.access().endpoint;
    let unknown = format!("no price for requests put STANDARD_IA in store {endpoint}");
    assert!(plan["unknown"].as_array().unwrap().contains(&unknown.as_str().into()), "{plan:#}");
    let refused = run(&pair, &["sync", "--max-spend", "5"]).await.expect_code(2);
    assert!(refused.stderr.contains("it is not known what a sync costs here: no price for"), "{}", refused.stderr);

    let prices = write_prices(&pair, endpoint, (5.0, 0.4));
    let plan = run(&pair, &["plan", "--json", "--rate", "5B/s", "--prices", &prices]).await.expect_code(0).json();
    assert_eq!((&plan["seconds"], &plan["rate"]["from"]), (&2.0.into(), &"given".into()));
    assert_eq!(plan["dollars"]["lower_bound"], false, "{plan:#}");
    let put =
        plan["dollars"]["items"].as_array().unwrap().iter().find(|item| item["what"] == "put STANDARD_IA").unwrap();
    assert_eq!((&put["quantity"], &put["dollars"], &put["side"]), (&1.into(), &0.01.into(), &"dr".into()));
    assert_eq!(plan["key_requests"]["target"]["without_bucket_key"], 1);
    let notes = plan["notes"].to_string();
    assert!(notes.contains("at least 30 days") && notes.contains("smaller than 128 KiB"), "{notes}");
    let shown = run(&pair, &["plan", "--prices", &prices]).await.expect_code(0).stdout;
    assert!(shown.contains("to copy        1 objects, 10 bytes") && shown.contains("1 put STANDARD_IA, dr"), "{shown}");

    std::fs::write(&prices, "[regions.us-east-1.write]\nprice = { STANDRAD = 1 }\n").unwrap();
    let refused = run(&pair, &["plan", "--prices", &prices]).await.expect_code(2);
    assert!(refused.stderr.contains(":2: regions.us-east-1.write.price.STANDRAD"), "{}", refused.stderr);
    pair.setup.target_endpoint = Some("http://127.0.0.1:1".to_owned());
    pair.write_config();
    let blind = run(&pair, &["plan", "--json"]).await.expect_code(3).json();
    assert_eq!((&blind["incomplete"], blind["failed"].as_array().unwrap().len()), (&true.into(), 1), "{blind:#}");
}

/// Dollars for a thousand PUTs (twice that for STANDARD_IA), and for a thousand GETs.
fn write_prices(pair: &Pair, endpoint: &str, (write, read): (f64, f64)) -> String {
    let path = pair.directory.path().join("prices.toml");
    let mut text = String::new();
    for (kind, price) in [
        ("write", format!("STANDARD = {write:?}, STANDARD_IA = {:?}", write * 2.0)),
        ("read", format!("STANDARD = {read:?}")),
        ("storage", "STANDARD = 0.023, STANDARD_IA = 0.0125".to_owned()),
        ("transfer", "internet = 0.09".to_owned()),
        ("keys", "requests = 0.03".to_owned()),
    ] {
        text += &format!(
            "[stores.\"{endpoint}\".{kind}]\ndate = \"2026-11\"\nsource = \"this test\"\nprice = {{ {price} }}\n"
        );
    }
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// On a terminal there is a bar, and it goes; elsewhere not a trace of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_bar_on_a_terminal_and_only_there() {
    let slow = "[transfer]\nconcurrency = 1\nrequests_per_second = 20\n";
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).more(slow).build().await;
    for key in 0..20 {
        pair.source.put(&format!("k{key:02}"), "content").await;
    }
    for command in ["sync", "verify --deep", "plan"] {
        // `script` runs it on a pseudo-terminal, where stdout and stderr are one.
        let shown = on_a_terminal(&pair, command).await;
        assert!(shown.contains("\u{1b}["), "no bar is drawn by {command}: {shown:?}");
        let work = command.split(' ').next().unwrap();
        assert!(shown.contains(&format!("{work} ")) && shown.contains("objects/s"), "{command}: {shown:?}");
        let rest = shown.rsplit_once("\u{1b}[2K").map_or("", |(_, rest)| rest);
        assert!(!rest.contains("objects/s"), "the bar of {command} stays: {shown:?}");
        let elsewhere = run(&pair, &command.split(' ').collect::<Vec<_>>()).await.expect_code(0);
        let said = elsewhere.stdout + &elsewhere.stderr;
        assert!(!said.contains('\u{1b}') && !said.contains('\r') && !said.contains("objects/s"), "{command}: {said:?}");
    }
}

/// What a command draws on a pseudo-terminal.
async fn on_a_terminal(pair: &Pair, command: &str) -> String {
    let access = pair.access();
    let line = format!("{} {command} --config {}", env!("CARGO_BIN_EXE_repl"), pair.config.display());
    let output = tokio::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("AWS_ACCESS_KEY_ID", &access.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    shown
}

/// Whoever closes the pipe has read enough: no complaint, and the work's own exit code.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_fault() {
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).build().await;
    pair.source.put("one", "1").await;
    let access = pair.access();
    for command in ["plan", "sync", "verify", "plan --json"] {
        let repl = format!("{} {command} --config {}", env!("CARGO_BIN_EXE_repl"), pair.config.display());
        let output = tokio::process::Command::new("bash")
            .args(["-c", &format!("{{ {repl}; echo \"exit $?\" >&2; }} | true")])
            .env("AWS_ACCESS_KEY_ID", &access.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("exit 0") && !said.contains("panicked"), "{command}: {said}");
    }
}

/// P2: each run stops before its limit is passed, says so, and the next goes on; nothing is copied twice.
async fn money_runs_out_and_comes_again(breadth: &[&str]) {
    const OBJECTS: u64 = 40;
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).build().await;
    for key in 0..OBJECTS {
        pair.source.put(&format!("k{key:03}"), format!("content of {key}")).await;
    }
    // A cent a PUT; a page of a listing costs as much.
    let prices = write_prices(&pair, &Server::Seaweedfs.access().endpoint, (10.0, 0.0));
    let flags = ["--json", "--prices", &prices, "--max-spend", "$0.75"];
    let (mut copied, mut runs) = (0, 0);
    loop {
        let report = run(&pair, &[&["sync"], breadth, &flags].concat()).await;
        let told = report.json();
        let spent = told["spent"].as_f64().unwrap();
        assert!(spent <= 0.75, "{told:#}");
        copied += number(&told, "/copied");
        runs += 1;
        if report.code == Some(0) {
            break;
        }
        assert_eq!((report.code, number(&told, "/pending")), (Some(1), 0), "{report:#?}");
        let failure = told["failure"].as_str().unwrap();
        assert!(failure.contains("before more than $0.75 would be spent") && failure.contains("is left"), "{failure}");
        assert!(number(&told, "/copied") > 0, "it gets on: {report:#?}");
        assert!(told["left"].as_f64().unwrap() < 0.75, "{told:#}");
    }
    assert!(runs > 1, "the limit was never reached");
    assert_eq!(copied, OBJECTS, "each once");
    assert_eq!(list(&pair.target).await.len() as u64, OBJECTS);
    assert_eq!(compare(&pair).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn money_runs_out_in_a_sync() {
    money_runs_out_and_comes_again(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_runs_out_in_a_backfill() {
    money_runs_out_and_comes_again(&["--full"]).await;
}

/// What a killed sync had admitted is paid for as well: beyond the limit it waits, for the next sync.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_sync_left_is_paid_for_too() {
    let slow = "[transfer]\nconcurrency = 1\nrequests_per_second = 20\n";
    let mut pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).more(slow).build().await;
    for key in 0..40 {
        pair.source.put(&format!("k{key:03}"), format!("content of {key}")).await;
    }
    let mut killed = spawn_repl(&pair, &["sync", "--full"]);
    eventually("it has begun", PATIENCE, async || list(&pair.target).await.len() > 2).await;
    killed.kill().await;
    pair.setup.more = String::new();
    pair.write_config();
    let before = list(&pair.target).await.len();
    let prices = write_prices(&pair, &Server::Seaweedfs.access().endpoint, (10.0, 0.0));
    let flags = ["sync", "--full", "--json", "--prices", &prices, "--max-spend", "0.5"];
    let report = run(&pair, &flags).await.expect_code(1).json();
    assert!(report["spent"].as_f64().unwrap() <= 0.5 && number(&report, "/pending") > 0, "{report:#}");
    assert!(list(&pair.target).await.len() < 40 && list(&pair.target).await.len() >= before, "{report:#}");
    let rest = run(&pair, &["sync", "--full", "--json"]).await.expect_code(0).json();
    assert_eq!(number(&rest, "/pending"), 0);
    assert_eq!(compare(&pair).await, Vec::<String>::new(), "each once");
}

/// Also where the worker does the sync; live changes are neither counted nor held up.
#[tokio::test(flavor = "multi_thread")]
async fn a_workers_sync_keeps_to_the_limit_and_live_changes_do_not_count() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    for key in 0..20 {
        pair.source.put(&format!("old/{key:02}"), "before the worker").await;
    }
    // As if they had been there before the bucket told of changes.
    pair.sqs.purge_queue().queue_url(&pair.queue_url).send().await.unwrap();
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the worker listens", PATIENCE, async || pair.ledger.join("repl.sock").exists()).await;
    let prices = write_prices(&pair, &Server::Ministack.access().endpoint, (10.0, 0.0));
    let first = run(&pair, &["sync", "--json", "--prices", &prices, "--max-spend", "0.6"]).await.expect_code(1).json();
    assert!(first["spent"].as_f64().unwrap() <= 0.6 && number(&first, "/copied") > 0, "{first:#}");
    for key in 0..30 {
        pair.source.put(&format!("live/{key:02}"), "live").await;
    }
    eventually("live changes arrive", PATIENCE, async || {
        list(&pair.target).await.iter().filter(|version| version.key.starts_with("live/")).count() == 30
    })
    .await;
    let second = run(&pair, &["sync", "--json"]).await.expect_code(0).json();
    // What a worker copies meanwhile counts as copied too; what the syncs paid for is theirs alone.
    assert_eq!(number(&first, "/requests/put") + number(&second, "/requests/put"), 20, "{first:#}\n{second:#}");
    assert_eq!(second["max_spend"], Value::Null);
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(compare(&pair).await, Vec::<String>::new());
}

/// A limited backfill whose jobs events tell of too, before they are done, ends: they are live changes then, and their money
/// comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_limited_backfill_of_what_events_tell_too_ends() {
    let both = Proxy::before(&Server::Ministack.access().endpoint);
    let mut setup = Setup::on(Server::Ministack, Server::Ministack).more("[transfer]\nconcurrency = 1\n");
    (setup.source_endpoint, setup.target_endpoint) = (Some(both.endpoint()), Some(both.endpoint()));
    let pair = setup.build().await;
    let is_put = |seen: &Seen| seen.method == "PUT";
    // Meanwhile the others for which money is set aside wait, and events tell of them.
    both.add(Rule::when(is_put, Act::Delay(Duration::from_secs(5))).times(1));
    for key in 0..12 {
        pair.source.put(&format!("k{key:02}"), "listed, and told by an event").await;
    }
    pair.sqs.purge_queue().queue_url(&pair.queue_url).send().await.unwrap();
    let mut worker = spawn_repl(&pair, &["run"]);
    eventually("the worker listens", PATIENCE, async || pair.ledger.join("repl.sock").exists()).await;
    let prices = write_prices(&pair, &both.endpoint(), (10.0, 0.0));
    let limited = ["sync", "--full", "--json", "--prices", &prices, "--max-spend", "0.7"];
    let told = async {
        eventually("it has begun", PATIENCE, async || both.count(is_put) > 0).await;
        for version in list(&pair.source).await {
            pair.put_event("ObjectCreated:Put", &version.key, Some(&version.id)).await;
        }
    };
    let (report, ()) = tokio::join!(run(&pair, &limited), told);
    let report = report.json();
    assert!(report["done"] == true && report["spent"].as_f64().unwrap() <= 0.7, "{report:#}");
    eventually("all arrive", PATIENCE, async || list(&pair.target).await.len() == 12).await;
    worker.terminate(PATIENCE).await.expect_code(0);
    assert_eq!(compare(&pair).await, Vec::<String>::new());
}
