//! `repl check` in a good world and in broken ones: for each the very sentence that a user sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::time::Duration;

use aws_sdk_s3::types::NotificationConfiguration;
use serde_json::Value;
use support::pair::{Bucket, Pair, Setup};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::worker::{Output, eventually, run_repl, spawn_repl, spawn_repl_into};

const PATIENCE: Duration = Duration::from_secs(120);

fn setup() -> Setup {
    Setup::on(Server::Ministack, Server::Ministack)
}

/// Runs `repl check`, beside a worker if there is one; its object.
async fn checked(pair: &Pair, flags: &[&str], code: i32) -> Value {
    let said = ["check.out", "check.err"].map(|name| pair.directory.path().join(name));
    let words = [&["check", "--json"], flags].concat();
    let output = spawn_repl_into(pair, &words, said).end(PATIENCE).await;
    let told = output.json();
    if !told["checks"].as_array().unwrap().iter().any(flushes_slowly) {
        output.expect_code(code);
    }
    let count =
        |outcome: &str| told["checks"].as_array().unwrap().iter().filter(|row| row["outcome"] == outcome).count();
    assert_eq!(told["passed"], count("pass"), "{told:#}");
    assert_eq!(told["failed"], count("fail"), "{told:#}");
    assert_eq!(told["skipped"], count("skipped"), "{told:#}");
    for row in told["checks"].as_array().unwrap() {
        assert!(row["seconds"].is_f64() && row["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
        assert!(row["outcome"] != "fail" || row["fix"].is_string(), "a failure says what mends it: {row}");
    }
    told
}

/// How long a flush takes is the affair of the machine that the test runs on, which may be busy.
fn flushes_slowly(row: &Value) -> bool {
    row["outcome"] == "fail" && row["reason"].as_str().is_some_and(|reason| reason.starts_with("a flush to disk in "))
}

/// The row of that name and side.
fn row<'a>(told: &'a Value, side: &str, name: &str) -> &'a Value {
    let rows = told["checks"].as_array().unwrap();
    let found = rows.iter().find(|row| row["side"] == side && row["name"].as_str().unwrap().starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} of {side} in {told:#}"))
}

fn outcome<'a>(told: &'a Value, side: &str, name: &str) -> &'a str {
    row(told, side, name)["outcome"].as_str().unwrap()
}

fn failures(told: &Value) -> Vec<String> {
    let rows = told["checks"].as_array().unwrap();
    let failed = rows.iter().filter(|row| row["outcome"] == "fail" && !flushes_slowly(row));
    failed.map(|row| format!("{} {}", row["side"].as_str().unwrap(), row["name"].as_str().unwrap())).collect()
}

/// Asserts that a probe failed with this sentence and this fix.
fn failed(told: &Value, side: &str, name: &str, sentence: &str, fix: &str) {
    let row = row(told, side, name);
    assert_eq!(row["outcome"], "fail", "{row:#}");
    assert!(row["reason"].as_str().unwrap().contains(sentence), "{row:#}\nsays not {sentence}");
    assert!(row["fix"].as_str().unwrap().contains(fix), "{row:#}\nmends not by {fix}");
}

/// Whatever a bucket holds under our own prefix: versions, markers, uploads.
async fn left(bucket: &Bucket) -> Vec<String> {
    let versions = bucket.s3.list_object_versions().bucket(&bucket.name).prefix(".repl/").send().await.unwrap();
    let objects = versions.versions().iter().map(|one| one.key().unwrap().to_owned());
    let markers = versions.delete_markers().iter().map(|one| format!("marker {}", one.key().unwrap()));
    let uploads = bucket.s3.list_multipart_uploads().bucket(&bucket.name).send().await.unwrap();
    let uploads = uploads.uploads().iter().map(|one| format!("upload {}", one.key().unwrap()));
    objects.chain(markers).chain(uploads).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_world_passes_and_nothing_is_left() {
    let pair = setup().rule("delete_markers = true\nkms_key = \"{target_key}\"").build().await;
    pair.source.put("a/sample", "content").await;
    let told = checked(&pair, &[], 0).await;
    assert_eq!(failures(&told), Vec::<String>::new());
    for (side, name) in [
        ("source", "credentials"),
        ("source", "bucket"),
        ("source", "list"),
        ("source", "list-versions"),
        ("source", "read"),
        ("source", "tags"),
        ("target dr", "credentials"),
        ("target dr", "write"),
        ("target dr", "read"),
        ("target dr", "tag"),
        ("target dr", "multipart"),
        ("target dr", "delete-marker"),
        ("target dr", "encrypt arn:"),
        ("target dr", "clean-up"),
        ("source", "clean-up"),
        ("queue", "queue"),
        ("queue", "notification"),
        ("local", "ledger-disk"),
        ("local", "rules"),
    ] {
        let row = row(&told, side, name);
        assert!(row["outcome"] == "pass" || flushes_slowly(row), "{row:#}");
    }
    assert_eq!(left(&pair.source).await, Vec::<String>::new());
    assert_eq!(left(&pair.target).await, Vec::<String>::new());
}

/// What the proxy saw written to a bucket.
fn writes(proxy: &Proxy, bucket: &str) -> usize {
    let path = format!("/{bucket}");
    proxy.count(|seen| seen.path.starts_with(&path) && ["PUT", "POST", "DELETE"].contains(&seen.method.as_str()))
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_writes_nothing_anywhere() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let way = proxy.endpoint();
    let setup = Setup { source_endpoint: Some(way.clone()), target_endpoint: Some(way.clone()), ..setup() };
    let pair = setup.more(&format!("[monitoring]\nendpoint = \"{}\"\n", way)).build().await;
    pair.source.put("a", "content").await;
    let told = checked(&pair, &["--read-only"], 0).await;
    assert_eq!(writes(&proxy, &pair.target.name) + writes(&proxy, &pair.source.name), 0);
    assert!(!proxy.seen().iter().any(|seen| seen.path.contains("PutMetricData")));
    let why = "it writes one object to the source, and --read-only was given";
    assert_eq!(row(&told, "queue", "notification")["reason"], why);
    assert_eq!(outcome(&told, "target dr", "write"), "skipped");
    assert_eq!(outcome(&told, "target dr", "list"), "pass");
    let disk = row(&told, "local", "ledger-disk");
    assert!(disk["reason"].as_str().unwrap().ends_with("was not tried, as --read-only was given"), "{disk:#}");
    assert!(!pair.ledger.exists(), "no ledger is made");
    let status = run_repl(&pair, &["status", "--json"], PATIENCE).await.expect_code(0).json();
    assert_eq!(status["state"], "unknown", "P8: nobody has looked yet");
    std::fs::create_dir_all(&pair.ledger).unwrap();
    std::fs::write(pair.ledger.join("endpoints.json"), "as it was").unwrap();
    checked(&pair, &["--read-only"], 0).await;
    let status = run_repl(&pair, &["status", "--json"], PATIENCE).await.expect_code(0).json();
    assert_eq!(status["state"], "unknown", "a directory is no ledger yet, and none is made by looking");
    let kept = std::fs::read_dir(&pair.ledger).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(kept, ["endpoints.json"]);
    assert_eq!(std::fs::read_to_string(pair.ledger.join("endpoints.json")).unwrap(), "as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_told_with_the_very_statement() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let setup = Setup { target_endpoint: Some(proxy.endpoint()), source_endpoint: Some(proxy.endpoint()), ..setup() };
    let pair = setup.build().await;
    pair.source.put("a", "content").await;
    let (source, target) = (format!("/{}", pair.source.name), format!("/{}", pair.target.name));
    let to_source = source.clone();
    proxy.add(Rule::when(move |seen| seen.path.starts_with(&to_source) && seen.asks("versions"), denied()));
    let to_source = source.clone();
    proxy.add(Rule::when(move |seen| seen.path.starts_with(&to_source) && seen.asks("tagging"), denied()));
    proxy.add(Rule::when(move |seen| seen.path.starts_with(&source) && seen.method == "PUT", denied()));
    let to_target = target.clone();
    proxy.add(Rule::when(move |seen| seen.path.starts_with(&to_target) && seen.asks("uploads"), denied()));
    proxy.add(Rule::when(move |seen| seen.path.starts_with(&target) && seen.method == "DELETE", denied()));
    let told = checked(&pair, &[], 1).await;
    let (source, target) = (&pair.source.name, &pair.target.name);
    failed(
        &told,
        "source",
        "list-versions",
        "could not list versions at the source: AccessDenied: as the test says",
        &format!(r#"{{"Effect":"Allow","Action":"s3:ListBucketVersions","Resource":"arn:aws:s3:::{source}"}}"#),
    );
    failed(
        &told,
        "source",
        "tags",
        "could not read tags at the source: AccessDenied: as the test says",
        &format!(
            r#"{{"Effect":"Allow","Action":["s3:GetObjectTagging","s3:GetObjectVersionTagging"],"Resource":"arn:aws:s3:::{source}/*"}}"#
        ),
    );
    failed(
        &told,
        "target dr",
        "multipart",
        "AccessDenied: as the test says",
        &format!(r#"{{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::{target}/*"}}"#),
    );
    failed(
        &told,
        "target dr",
        "delete-marker",
        "could not delete object at the target: AccessDenied: as the test says",
        &format!(r#"{{"Effect":"Allow","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::{target}/*"}}"#),
    );
    // Not to write at the source is no failure: the worker does not need it.
    let event = row(&told, "queue", "notification");
    assert_eq!(event["outcome"], "skipped", "{event:#}");
    assert!(event["reason"].as_str().unwrap().contains("so no event could be waited for"), "{event:#}");
    let swept = row(&told, "target dr", "clean-up");
    assert_eq!(swept["outcome"], "skipped", "{swept:#}");
    assert!(swept["fix"].as_str().unwrap().contains("s3:DeleteObjectVersion"), "{swept:#}");
}

fn denied() -> Act {
    Act::error(403, "AccessDenied")
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_keys_of_both_sides_are_told() {
    let rule = "kms_map = { \"{source_key}\" = \"{target_key}\" }";
    let pair = setup().rule(rule).build().await;
    pair.kms(pair.target.region).disable_key().key_id(&pair.target_key).send().await.unwrap();
    let told = checked(&pair, &["--read-only"], 0).await;
    assert_eq!(outcome(&told, "source", "decrypt arn:"), "skipped", "enabled, but nothing lies under it");
    let told = checked(&pair, &[], 1).await;
    let name = format!("encrypt {}", pair.target_key);
    let sentence = format!("the target key {} is disabled: nothing can be written under it", pair.target_key);
    failed(&told, "target dr", &name, &sentence, "enable it: aws kms enable-key --region eu-west-2 --key-id arn:");
    pair.kms(pair.source.region).disable_key().key_id(&pair.source_key).send().await.unwrap();
    let told = checked(&pair, &["--read-only"], 1).await;
    let sentence = format!("the source key {} is disabled: nothing under it can be read", pair.source_key);
    failed(&told, "source", "decrypt arn:", &sentence, "aws kms enable-key --region us-east-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_notification_and_a_queue_that_is_gone_are_told() {
    let pair = setup().build().await;
    pair.source
        .s3
        .put_bucket_notification_configuration()
        .bucket(&pair.source.name)
        .notification_configuration(NotificationConfiguration::builder().build())
        .send()
        .await
        .unwrap();
    pair.put_message("somebody else's").await;
    let told = checked(&pair, &["--wait", "3s"], 1).await;
    let sentence = format!(
        "no event of a new object came within 3 s: bucket {:?} has no notification that goes to {}",
        pair.source.name, pair.queue_url
    );
    failed(&told, "queue", "notification", &sentence, "repl apply notifications");
    let visible = async || {
        let received =
            pair.sqs.receive_message().queue_url(&pair.queue_url).max_number_of_messages(10).send().await.unwrap();
        received.messages().iter().any(|message| message.body() == Some("somebody else's"))
    };
    assert!(visible().await, "what is not ours is left where it was, and visible");

    pair.sqs.delete_queue().queue_url(&pair.queue_url).send().await.unwrap();
    let told = checked(&pair, &[], 1).await;
    let sentence = format!("there is no queue {}", pair.queue_url);
    failed(&told, "queue", "queue", &sentence, "repl apply notifications makes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_region_missing_bucket_and_wrong_clock_are_told() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let pair = Setup { target_endpoint: Some(proxy.endpoint()), ..setup() }.build().await;
    let moved =
        |status: u16, headers: Vec<(&'static str, String)>| Act::Answer { status, headers, body: String::new() };
    let path = format!("/{}", pair.target.name);
    let looks = move |seen: &Seen| seen.method == "HEAD" && seen.path.trim_end_matches('/') == path;
    let region = vec![("x-amz-bucket-region", "eu-west-1".to_owned())];
    proxy.add(Rule::when(looks.clone(), moved(301, region)).times(1));
    let told = checked(&pair, &["--read-only"], 1).await;
    failed(
        &told,
        "target dr",
        "bucket",
        "(the bucket lives in region eu-west-1)",
        "set region = \"eu-west-1\" under [targets.dr] in the config",
    );
    proxy.clear();
    proxy.add(Rule::when(looks.clone(), moved(404, Vec::new())));
    let told = checked(&pair, &["--read-only"], 1).await;
    let fix = format!("create bucket {:?}, or correct bucket under [targets.dr] in the config", pair.target.name);
    failed(&told, "target dr", "bucket", "could not look at bucket at the target", &fix);
    proxy.clear();
    let date = vec![("date", "Sat, 01 Jan 2022 00:00:00 GMT".to_owned())];
    proxy.add(Rule::when(looks, moved(200, date)));
    let told = checked(&pair, &["--read-only"], 1).await;
    let fix = "set the clock of this machine (timedatectl set-ntp true)";
    failed(&told, "target dr", "clock", "s ahead of the store's: S3 refuses requests from 900 s on", fix);
    proxy.clear();
    proxy.add(Rule::when(|_| true, Act::error(403, "RequestTimeTooSkewed")));
    let told = checked(&pair, &["--read-only"], 1).await;
    failed(&told, "target dr", "list", "RequestTimeTooSkewed", "set the clock of this machine");
}

/// The running worker takes the event: it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_running_worker_the_worker_is_asked() {
    let pair = setup().build().await;
    pair.source.put("a", "content").await;
    let mut worker = spawn_repl(&pair, &["run"]);
    let socket = pair.ledger.join("repl.sock");
    eventually("the worker answers", PATIENCE, async || socket.exists()).await;
    let told = checked(&pair, &[], 0).await;
    assert_eq!(outcome(&told, "queue", "notification"), "pass");
    assert_eq!(left(&pair.source).await, Vec::<String>::new());
    assert_eq!(left(&pair.target).await, Vec::<String>::new(), "no probe is replicated");
    worker.terminate(PATIENCE).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_it_leaves_nothing() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let pair = Setup { target_endpoint: Some(proxy.endpoint()), ..setup() }.build().await;
    proxy.add(Rule::when(|seen| seen.method == "PUT" && seen.asks("tagging"), Act::Delay(Duration::from_secs(15))));
    let mut check = spawn_repl(&pair, &["check"]);
    eventually("a probe hangs", PATIENCE, async || proxy.count(|seen| seen.asks("tagging")) > 0).await;
    check.signal("INT").await;
    let ended = check.end(PATIENCE).await.expect_code(130);
    assert!(ended.stderr.contains("repl: interrupted: nothing of it is left"), "{}", ended.stderr);
    assert_eq!(left(&pair.target).await, Vec::<String>::new());
    assert_eq!(left(&pair.source).await, Vec::<String>::new());
}

/// Who may not remove versions has no probe left in sight, and no marker on a key that holds none. Without a listing
/// what was written is hidden all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_erased_is_hidden() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let way = || Some(proxy.endpoint());
    let more = "[[rules]]\nid = \"one\"\ntarget = \"dr\"\nprefix = \"one/\"\nkms_key = \"{target_key}\"\n\
                [[rules]]\nid = \"two\"\ntarget = \"dr\"\nprefix = \"two/\"\nkms_key = \"{second_key}\"\n";
    let mut pair = Setup { source_endpoint: way(), target_endpoint: way(), ..setup() }.build().await;
    let second = pair.kms(pair.target.region).create_key().send().await.unwrap().key_metadata.unwrap();
    pair.setup.rule = more.replace("{second_key}", &second.arn.unwrap());
    pair.write_config();
    pair.source.put("a", "content").await;
    proxy.add(Rule::when(|seen| seen.method == "DELETE" && seen.asks("versionId"), denied()));
    for listed in [true, false] {
        if !listed {
            let lists = |seen: &Seen| seen.query.get("prefix").is_some_and(|prefix| prefix.starts_with(".repl/check/"));
            proxy.add(Rule::when(lists, denied()));
        }
        let told = checked(&pair, &[], 0).await;
        for (side, bucket) in [("target dr", &pair.target), ("source", &pair.source)] {
            let swept = row(&told, side, "clean-up");
            assert_eq!(swept["outcome"], "skipped", "{swept:#}");
            assert!(swept["reason"].as_str().unwrap().contains(", behind delete markers: "), "{swept:#}");
            let seen = bucket.s3.list_objects_v2().bucket(&bucket.name).prefix(".repl/").send().await.unwrap();
            assert_eq!(seen.key_count(), Some(0), "{:?}", seen.contents());
        }
        let all = left(&pair.target).await;
        assert!(all.iter().any(|key| key.ends_with("/sealed-1")), "{all:?}");
        for marker in all.iter().filter_map(|one| one.strip_prefix("marker ")).filter(|_| listed) {
            assert!(all.iter().any(|one| one == marker), "a marker hides nothing: {all:?}");
        }
        let events = left(&pair.source).await;
        assert!(events.iter().all(|one| one.ends_with("/event")), "{events:?}");
    }
}

/// A store that ignores conditions is looked at before each write from then on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_learnt_is_used_by_the_next_worker() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let pair = Setup { target_endpoint: Some(proxy.endpoint()), ..setup() }.build().await;
    std::fs::create_dir_all(&pair.ledger).unwrap();
    let conditional = |seen: &Seen| !seen.header("if-none-match").is_empty() || !seen.header("if-match").is_empty();
    let answer = Act::Answer { status: 200, headers: vec![("etag", "\"0\"".to_owned())], body: String::new() };
    proxy.add(Rule::when(move |seen| seen.method == "PUT" && conditional(seen), answer));
    let told = checked(&pair, &[], 0).await;
    let row = row(&told, "target dr", "conditional-put");
    assert_eq!(row["outcome"], "skipped", "{row:#}");
    assert!(row["reason"].as_str().unwrap().contains("the target is looked at before each write"), "{row:#}");
    proxy.clear();
    proxy.forget();
    pair.source.put("a", "content").await;
    run_repl(&pair, &["run", "--until-idle=1s"], PATIENCE).await.expect_code(0);
    let (bucket, key) = (format!("/{}", pair.target.name), format!("/{}/a", pair.target.name));
    let seen = proxy.seen();
    let put = seen.iter().position(|seen| seen.path == key && seen.method == "PUT").unwrap();
    let looks = |seen: &Seen| {
        seen.path == key && seen.method == "HEAD"
            || seen.path.trim_end_matches('/') == bucket && (seen.asks("versions") || seen.asks("list-type"))
    };
    assert!(
        seen[..put].iter().any(looks),
        "looked at first: {:?}",
        seen[..put].iter().map(|s| (&s.method, &s.path, &s.query)).collect::<Vec<_>>()
    );
}

/// A store that takes bytes with a wrong checksum proves nothing by one: where its ETag does not tell the bytes, as under
/// a key, they count as unprovable (P5).
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_checksums_is_not_believed() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let rules = "[[rules]]\nid = \"plain\"\ntarget = \"dr\"\nprefix = \"plain/\"\n\
                 [[rules]]\nid = \"sealed\"\ntarget = \"dr\"\nprefix = \"sealed/\"\nkms_key = \"{target_key}\"\n";
    let pair = Setup { target_endpoint: Some(proxy.endpoint()), ..setup() }.rule(rules).build().await;
    let brought = async |key: &str| {
        pair.source.put(key, "content").await;
        let told = run_repl(&pair, &["run", "--until-idle=1s", "--json"], PATIENCE).await.expect_code(0).json();
        told["unprovable"].as_u64().unwrap()
    };
    assert_eq!((brought("plain/1").await, brought("sealed/1").await), (0, 0));
    let answer = Act::Answer { status: 200, headers: vec![("etag", "\"0\"".to_owned())], body: String::new() };
    proxy.add(Rule::when(|seen| seen.method == "PUT" && seen.path.ends_with("/wrong"), answer));
    let told = checked(&pair, &[], 0).await;
    let row = row(&told, "target dr", "checksums");
    assert_eq!(row["outcome"], "skipped", "{row:#}");
    assert!(row["reason"].as_str().unwrap().contains("differ from their checksum"), "{row:#}");
    assert_eq!((brought("plain/2").await, brought("sealed/2").await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_read_a_table() {
    let pair = setup().build().await;
    let Output { stdout, .. } = run_repl(&pair, &["check", "--read-only"], PATIENCE).await.expect_code(0);
    assert!(stdout.lines().any(|line| line.starts_with("pass") && line.contains("versioning")), "{stdout}");
    let last = stdout.lines().last().unwrap();
    assert!(last.ends_with("skipped") && last.contains(" passed, 0 failed, "), "{last}");
}

/// A disk without room: a small one of its own, which only root can mount.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told() {
    let pair = setup().build().await;
    std::fs::create_dir_all(&pair.ledger).unwrap();
    let mounted = tokio::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "repl-test"])
        .arg(&pair.ledger)
        .status()
        .await;
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a small tmpfs cannot be mounted here, so that no full disk was seen");
        return;
    }
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_repl"))
        .args(["check", "--json", "--config"])
        .arg(&pair.config)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .output()
        .await;
    let unmounted = tokio::process::Command::new("umount").arg(&pair.ledger).status().await.unwrap();
    assert!(unmounted.success());
    let told: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let sentence = format!("the disk of the ledger in {} is full", pair.ledger.display());
    failed(&told, "local", "ledger-disk", &sentence, "free at least 64 MiB there");
}

/// Real policies: a user who may do almost nothing, by ministack's own reading of IAM.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_permissions_is_told_which_are_missing() {
    let pair = Setup::on(Server::MinistackAuth, Server::MinistackAuth).build().await;
    pair.source.put("a", "content").await;
    let iam = pair.access().iam();
    let name = format!("reader-{}", pair.source.name);
    iam.create_user().user_name(&name).send().await.unwrap();
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Action": ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions",
            "s3:GetBucketVersioning"], "Resource": "*"}]});
    let put = iam.put_user_policy().user_name(&name).policy_name("reads").policy_document(policy.to_string());
    put.send().await.unwrap();
    let key = iam.create_access_key().user_name(&name).send().await.unwrap().access_key.unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_repl"))
        .args(["check", "--json", "--wait", "2s", "--config"])
        .arg(&pair.config)
        .env("AWS_ACCESS_KEY_ID", key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let us = row(&told, "source", "credentials");
    assert!(us["outcome"] == "pass" && us["reason"].as_str().unwrap().contains(&name), "{us:#}");
    assert_eq!(outcome(&told, "source", "list"), "pass");
    assert_eq!(outcome(&told, "source", "read"), "pass");
    let target = &pair.target.name;
    failed(
        &told,
        "target dr",
        "write",
        "could not write object at the target: AccessDenied",
        &format!(r#"{{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::{target}/*"}}"#),
    );
    failed(
        &told,
        "queue",
        "queue",
        "AccessDenied",
        r#""Action":"sqs:GetQueueAttributes","Resource":"arn:aws:sqs:us-east-1:"#,
    );
}

/// CloudWatch takes a metric; a topic that is there, one that is not, and one that may not be looked at.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_topics_are_proved() {
    let sns = Proxy::before(&Server::Ministack.access().endpoint);
    let topics = Server::Ministack.access().sns("eu-west-2");
    let mut pair = setup().build().await;
    let there = format!("{}-there", pair.source.name);
    let there = topics.create_topic().name(there).send().await.unwrap().topic_arn.unwrap();
    let gone = there.replace("-there", "-gone");
    pair.setup.more = format!(
        "[monitoring]\nendpoint = \"{}\"\n[escalation]\nstandard = {{ topic_arn = \"{there}\" }}\n\
         critical = {{ topic_arn = \"{gone}\" }}\n",
        sns.endpoint()
    );
    pair.write_config();
    let told = checked(&pair, &[], 1).await;
    assert_eq!(failures(&told), ["monitoring topic-critical"]);
    assert_eq!(row(&told, "monitoring", "metrics")["reason"], "sent CheckProbe to Repl in eu-west-2");
    assert_eq!(row(&told, "monitoring", "topic-standard")["reason"], format!("{there} is there"));
    let fix = "create it, correct topic_arn under [escalation], or give emails instead: apply then makes a topic";
    failed(&told, "monitoring", "topic-critical", &format!("there is no topic {gone}"), fix);

    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AuthorizationError</Code><Message>no</Message></Error></ErrorResponse>";
    let answer =
        Act::Answer { status: 403, headers: vec![("content-type", "text/xml".to_owned())], body: body.to_owned() };
    sns.add(Rule::when(|seen| seen.header("authorization").contains("/sns/"), answer));
    let told = checked(&pair, &[], 0).await;
    let unseen = row(&told, "monitoring", "topic-standard");
    let sentence = format!("{there} may not be looked at, and only CloudWatch needs to publish to it: no");
    assert_eq!((&unseen["outcome"], &unseen["reason"]), (&"skipped".into(), &sentence.into()), "{unseen:#}");

    // How CloudWatch names an error beside its CBOR.
    let headers = vec![("x-amzn-query-error", "AccessDenied;Sender".to_owned())];
    let answer = Act::Answer { status: 403, headers, body: String::new() };
    sns.add(Rule::when(|seen| seen.path.ends_with("/PutMetricData"), answer));
    let told = checked(&pair, &[], 1).await;
    let fix = r#"add to the policy of the worker's role: {"Effect":"Allow","Action":"cloudwatch:PutMetricData","Resource":"*","Condition":{"StringEquals":{"cloudwatch:namespace":"Repl"}}}"#;
    failed(&told, "monitoring", "metrics", "could not send metrics for monitoring: HTTP 403", fix);

    pair.setup.more = pair.setup.more.replace(&sns.endpoint(), "http://127.0.0.1:9");
    pair.write_config();
    let told = checked(&pair, &[], 1).await;
    let fix = "see that CloudWatch and SNS of that region can be reached from this machine, or set cloudwatch = false";
    failed(&told, "monitoring", "metrics", "could not send metrics", fix);
}

/// What lies under a key at the source can be read, or the statement that lacks is told; the same for writing at the target.
#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_keys_is_proved_on_both_sides() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let way = || Some(proxy.endpoint());
    let setup = Setup { source_endpoint: way(), target_endpoint: way(), ..setup() };
    let pair = setup.rule("kms_key = \"{target_key}\"").build().await;
    let sealed = pair.source.s3.put_object().bucket(&pair.source.name).key("sealed").body(b"content".to_vec().into());
    let sealed = sealed.server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms);
    sealed.ssekms_key_id(&pair.source_key).send().await.unwrap();
    let told = checked(&pair, &[], 0).await;
    let (decrypt, encrypt) = (format!("decrypt {}", pair.source_key), format!("encrypt {}", pair.target_key));
    assert_eq!(row(&told, "source", &decrypt)["outcome"], "pass");
    assert_eq!(row(&told, "source", &decrypt)["reason"], "read \"sealed\", which is encrypted under it");
    assert_eq!(outcome(&told, "target dr", &encrypt), "pass");

    // S3 answers so for a key's refusal: the words alone tell it from its own.
    let refuses = |action: &str, arn: &str| {
        let message = format!(
            "User: arn:aws:iam::111122223333:user/repl is not authorized to perform: {action} on resource: {arn}"
        );
        let body = format!("<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>");
        Act::Answer { status: 403, headers: vec![("content-type", "application/xml".to_owned())], body }
    };
    let reads = |seen: &Seen| seen.method == "GET" && seen.path.ends_with("/sealed");
    proxy.add(Rule::when(reads, refuses("kms:Decrypt", &pair.source_key)));
    let seals = |seen: &Seen| !seen.header("x-amz-server-side-encryption-aws-kms-key-id").is_empty();
    proxy.add(Rule::when(seals, refuses("kms:GenerateDataKey", &pair.target_key)));
    let told = checked(&pair, &[], 1).await;
    let statement = |actions: &str, arn: &str| format!(r#"{{"Effect":"Allow","Action":{actions},"Resource":"{arn}"}}"#);
    let fix = statement("\"kms:Decrypt\"", &pair.source_key);
    failed(&told, "source", &decrypt, "is not authorized to perform: kms:Decrypt on resource", &fix);
    assert_eq!(row(&told, "source", "read")["reason"], "the key is the matter, see decrypt");
    let fix = statement("[\"kms:GenerateDataKey\",\"kms:Decrypt\"]", &pair.target_key);
    failed(&told, "target dr", &encrypt, "is not authorized to perform: kms:GenerateDataKey on resource", &fix);
}
