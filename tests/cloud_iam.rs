//! The policies of deploy/iam permit what the program asks for and nothing else: runs are recorded, each request is
//! mapped to the IAM actions that AWS wants for it, and these are compared with the policy.
//!
//! The mapping is the test's own, from the permission text of each API operation (aws-semantics 10). What no request
//! shows is derived from it: S3 uses the KMS keys in the name of whoever asks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ObjectCannedAcl, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode, ObjectOwnership, OwnershipControls, OwnershipControlsRule,
};
use support::objects::{Multipart, bytes};
use support::pair::{Bucket, Locking, Pair, Setup, Versions};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::Server;
use support::templates::{list, statements, text};
use support::tiers::{TIERS, Tiers, topic};
use support::worker::{eventually, run_repl, spawn_repl};

const PATIENCE: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;
/// Longer than the worker lets a message under work be without hiding it again, which is 20 s.
const LONG: Duration = Duration::from_secs(22);

/// `source s3:GetObject`: an action on one of our things.
type Permission = String;

/// What a policy permits.
fn permitted(name: &str) -> BTreeSet<Permission> {
    let document = serde_json::from_str(&text(&format!("iam/{name}"))).unwrap();
    let mut permitted = BTreeSet::new();
    for statement in statements(&document) {
        for resource in list(&statement["Resource"]) {
            let thing = thing(&resource);
            permitted.extend(list(&statement["Action"]).iter().map(|action| format!("{thing} {action}")));
        }
    }
    permitted
}

/// Which of our things a resource of a policy is.
fn thing(resource: &str) -> &'static str {
    let marks = [
        ("SOURCE_BUCKET", "source"),
        ("TARGET_BUCKET", "target"),
        ("RECEIPTS_BUCKET", "receipts"),
        ("SOURCE_KEY_ARN", "source"),
        ("TARGET_KEY_ARN", "target"),
        (":sqs:", "queue"),
        (":sns:", "topics"),
        ("*", "metrics"),
    ];
    let found = marks.iter().find(|(mark, _)| resource.contains(mark));
    found.map_or_else(|| panic!("whose is {resource}?"), |(_, thing)| thing)
}

/// A pair behind a proxy that sees everything, and the buckets as policies call them.
struct Recorded {
    pair: Pair,
    proxy: Proxy,
    receipts: Option<String>,
}

impl Recorded {
    async fn new(mut setup: Setup) -> Self {
        let proxy = Proxy::before(&Server::Ministack.access().endpoint);
        let way = Some(proxy.endpoint());
        setup.source_endpoint.clone_from(&way);
        setup.target_endpoint.clone_from(&way);
        setup.queue_endpoint = way;
        write!(setup.more, "[monitoring]\ninterval = \"1s\"\nendpoint = \"{}\"\n", proxy.endpoint()).unwrap();
        Self { pair: setup.build().await, proxy, receipts: None }
    }

    async fn run(&self, words: &[&str]) {
        // Some things are made to fail for a while; what counts is what was asked.
        let output = run_repl(&self.pair, words, PATIENCE).await;
        assert!(matches!(output.code, Some(0 | 1)), "{words:?}: {output:#?}");
    }

    /// Every permission that the requests so far need.
    fn needed(&self) -> BTreeSet<Permission> {
        self.proxy.seen().iter().flat_map(|seen| self.needs(seen)).collect()
    }

    /// The permissions that one request needs.
    fn needs(&self, seen: &Seen) -> Vec<Permission> {
        let called = seen.header("x-amz-target");
        if let Some(action) = called.strip_prefix("AmazonSQS.") {
            return vec![format!("queue sqs:{}", action.trim_end_matches("Batch"))];
        }
        if let Some(action) = called.strip_prefix("TrentService.") {
            return vec![format!("target kms:{action}")];
        }
        if let Some(action) = seen.action() {
            // Whoever has an identity may ask for it.
            return if action == "GetCallerIdentity" { Vec::new() } else { vec![format!("topics sns:{action}")] };
        }
        let path = seen.plain_path();
        if let Some((_, action)) = path.split_once("/operation/") {
            return vec![format!("metrics cloudwatch:{action}")];
        }
        let (bucket, key) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        let thing = self.bucket(bucket);
        let mut needs: Vec<Permission> =
            s3_actions(seen, key.is_empty()).iter().map(|action| format!("{thing} {action}")).collect();
        let copied = seen.header("x-amz-copy-source");
        if !copied.is_empty() {
            let from = self.bucket(copied.split('/').next().unwrap());
            let read = if copied.contains("?versionId=") { "s3:GetObjectVersion" } else { "s3:GetObject" };
            needs.extend([format!("{from} {read}"), format!("{from} kms:Decrypt")]);
        }
        let reads = needs.iter().any(|need| need.ends_with(" s3:GetObject") || need.ends_with(" s3:GetObjectVersion"));
        if reads && seen.method != "PUT" && self.pair.setup.locking == Locking::Enabled {
            // S3 leaves the headers of a lock out for whoever may not see them, without a word.
            needs.extend(["s3:GetObjectLegalHold", "s3:GetObjectRetention"].map(|action| format!("{thing} {action}")));
        }
        needs.extend(key_uses(seen, &needs).iter().map(|action| format!("{thing} {action}")));
        needs
    }

    fn bucket(&self, name: &str) -> &'static str {
        if Some(name) == self.receipts.as_deref() {
            "receipts"
        } else if name == self.pair.source.name {
            "source"
        } else if name == self.pair.target.name {
            "target"
        } else {
            panic!("whose is {name}?")
        }
    }
}

/// The S3 actions that one request needs on its own bucket.
fn s3_actions(seen: &Seen, of_bucket: bool) -> Vec<&'static str> {
    let version = seen.asks("versionId");
    let of = |plain, versioned| if version { versioned } else { plain };
    let mut actions = match (seen.method.as_str(), of_bucket) {
        ("HEAD", true) => vec!["s3:ListBucket"],
        ("GET", true) if seen.asks("encryption") => vec!["s3:GetEncryptionConfiguration"],
        ("GET", true) if seen.asks("notification") => vec!["s3:GetBucketNotification"],
        ("GET", true) if seen.asks("object-lock") => vec!["s3:GetBucketObjectLockConfiguration"],
        ("GET", true) if seen.asks("ownershipControls") => vec!["s3:GetBucketOwnershipControls"],
        ("GET", true) if seen.asks("uploads") => vec!["s3:ListBucketMultipartUploads"],
        ("GET", true) if seen.asks("versioning") => vec!["s3:GetBucketVersioning"],
        ("GET", true) if seen.asks("versions") => vec!["s3:ListBucketVersions"],
        ("GET", true) if seen.asks("list-type") => vec!["s3:ListBucket"],
        ("GET", false) if seen.asks("tagging") => vec![of("s3:GetObjectTagging", "s3:GetObjectVersionTagging")],
        ("GET", false) if seen.asks("acl") => vec![of("s3:GetObjectAcl", "s3:GetObjectVersionAcl")],
        ("GET", false) if seen.asks("attributes") => vec![
            of("s3:GetObject", "s3:GetObjectVersion"),
            of("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"),
        ],
        ("GET", false) if seen.asks("uploadId") => vec!["s3:ListMultipartUploadParts"],
        ("GET" | "HEAD", false) => vec![of("s3:GetObject", "s3:GetObjectVersion")],
        ("PUT", false) if seen.asks("tagging") => vec![of("s3:PutObjectTagging", "s3:PutObjectVersionTagging")],
        ("PUT", false) if seen.asks("acl") => vec![of("s3:PutObjectAcl", "s3:PutObjectVersionAcl")],
        ("PUT", false) if seen.asks("retention") => vec!["s3:PutObjectRetention"],
        ("PUT", false) if seen.asks("legal-hold") => vec!["s3:PutObjectLegalHold"],
        ("PUT" | "POST", false) => vec!["s3:PutObject"],
        ("DELETE", false) if seen.asks("uploadId") => vec!["s3:AbortMultipartUpload"],
        ("DELETE", false) => vec![of("s3:DeleteObject", "s3:DeleteObjectVersion")],
        _ => panic!("no permission is known for {seen:#?}"),
    };
    for (header, action) in [
        ("x-amz-tagging", "s3:PutObjectTagging"),
        ("x-amz-object-lock-mode", "s3:PutObjectRetention"),
        ("x-amz-object-lock-legal-hold", "s3:PutObjectLegalHold"),
        ("x-amz-acl", "s3:PutObjectAcl"),
        ("x-amz-grant-read", "s3:PutObjectAcl"),
        ("x-amz-grant-full-control", "s3:PutObjectAcl"),
        // A write on condition reads what is there.
        ("if-match", "s3:GetObject"),
    ] {
        if seen.method != "GET" && seen.method != "HEAD" && !seen.header(header).is_empty() {
            actions.push(action);
        }
    }
    // Without the right to list, S3 says 403 of a key that is not there.
    if !of_bucket && matches!(seen.method.as_str(), "GET" | "HEAD") {
        actions.push("s3:ListBucket");
    }
    actions
}

/// What S3 asks of the bucket's key for this request; receipts are under S3's own key.
fn key_uses(seen: &Seen, needs: &[Permission]) -> Vec<&'static str> {
    if needs.iter().any(|need| need.starts_with("receipts ")) {
        return Vec::new();
    }
    let has = |action: &str| needs.iter().any(|need| need.ends_with(action));
    let mut uses = Vec::new();
    if has(" s3:PutObject") {
        uses.push("kms:GenerateDataKey");
        // Parts are written under one data key, which each of them decrypts.
        uses.extend((seen.asks("uploads") || seen.asks("uploadId")).then_some("kms:Decrypt"));
    } else if has(" s3:GetObject") || has(" s3:GetObjectVersion") {
        uses.push("kms:Decrypt");
    }
    uses
}

/// Objects of every kind, changes of them, uploads that are interrupted or given up.
async fn write_everything(recorded: &Recorded) {
    let pair = &recorded.pair;
    let source = &pair.source;
    source.put("small", bytes(1, 100)).await;
    let tagged = source.put_adorned("adorned", bytes(2, 100)).await;
    for key in ["resumed", "given up", "parts"] {
        let mut parts = Multipart::of(&[5 * MIB, 100]);
        parts.tags = Some("class=gold".to_owned());
        source.put_multipart(key, 3, &parts).await;
    }
    let completes = |key: &'static str| {
        move |seen: &Seen| seen.method == "POST" && seen.asks("uploadId") && seen.plain_path().ends_with(key)
    };
    recorded.proxy.add(Rule::when(completes("resumed"), Act::error(503, "SlowDown")).times(1));
    recorded.proxy.add(Rule::when(completes("given up"), Act::error(400, "InvalidPart")).times(1));
    // Longer than a message is hidden at first, so that it has to be hidden again.
    let slow = |seen: &Seen| seen.method == "PUT" && seen.plain_path().ends_with("-dst/small");
    recorded.proxy.add(Rule::when(slow, Act::Delay(LONG)).times(1));
    recorded.run(&["run", "--until-idle=1s"]).await;
    // What changes without a new version.
    source.tag("adorned", tagged.as_deref(), &[("class", "silver")]).await;
    pair.put_event("ObjectTagging:Put", "adorned", tagged.as_deref()).await;
    // What somebody did at the target is found, and what is there is known again.
    source.put("small", bytes(9, 101)).await;
    recorded.run(&["run", "--until-idle=1s"]).await;
    recorded.run(&["sync", "--full"]).await;
    recorded.run(&["verify", "--deep", "--versions", "--check-metadata", "--check-tags"]).await;
    // The same bytes in other parts, as somebody else's copy would have them: only the parts can tell.
    pair.target.put_multipart("parts", 3, &Multipart::of(&[5 * MIB + 50, 50])).await;
    recorded.run(&["verify"]).await;
}

fn setup(rule: &str, mode: &str) -> Setup {
    let mut setup =
        Setup::on(Server::Ministack, Server::Ministack).rule(&format!("kms_key = \"{{target_key}}\"\n{rule}"));
    setup.queue = "ack = \"settled\"".to_owned();
    setup.more(&format!("[transfer]\nmode = \"{mode}\"\n"))
}

/// All that a rule of this mode needs, with buckets that have versions and with such that have none.
async fn needed_in(mode: &str) -> BTreeSet<Permission> {
    let mut needed = BTreeSet::new();
    for versions in [Versions::Enabled, Versions::Off] {
        let mut setup = setup("", mode);
        (setup.source_versions, setup.target_versions) = (versions, versions);
        let recorded = Recorded::new(setup).await;
        write_everything(&recorded).await;
        needed.extend(recorded.needed());
    }
    needed
}

/// Fails with what is permitted in vain and what is missing.
fn compare(permitted: &BTreeSet<Permission>, needed: &BTreeSet<Permission>, name: &str) {
    let in_vain: Vec<_> = permitted.difference(needed).collect();
    let missing: Vec<_> = needed.difference(permitted).collect();
    assert!(in_vain.is_empty() && missing.is_empty(), "{name}\npermitted in vain: {in_vain:#?}\nmissing: {missing:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streaming_needs_exactly_its_policy() {
    compare(&permitted("worker-streaming.json"), &needed_in("stream").await, "worker-streaming.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_side_copies_need_exactly_their_policy() {
    compare(&permitted("worker-server-side.json"), &needed_in("server-side").await, "worker-server-side.json");
}

/// What a feature needs beyond the base is exactly its policy.
fn compare_addition(recorded: &Recorded, name: &str) {
    let needed: BTreeSet<Permission> =
        recorded.needed().difference(&permitted("worker-streaming.json")).cloned().collect();
    compare(&permitted(name), &needed, name);
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_markers_need_exactly_their_addition() {
    let recorded = Recorded::new(setup("delete_markers = true", "stream")).await;
    recorded.pair.source.put("gone", bytes(1, 10)).await;
    recorded.pair.source.delete("gone").await;
    recorded.run(&["run", "--until-idle=1s"]).await;
    compare_addition(&recorded, "add-delete-markers.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_need_exactly_their_addition() {
    let mut needed = BTreeSet::new();
    for versions in [Versions::Enabled, Versions::Off] {
        let mut setup = setup("acl = true", "stream");
        (setup.source_versions, setup.target_versions) = (versions, versions);
        let recorded = Recorded::new(setup).await;
        let pair = &recorded.pair;
        for bucket in [&pair.source, &pair.target] {
            let rule =
                OwnershipControlsRule::builder().object_ownership(ObjectOwnership::ObjectWriter).build().unwrap();
            let controls = OwnershipControls::builder().rules(rule).build().unwrap();
            let put = bucket.s3.put_bucket_ownership_controls().bucket(&bucket.name);
            put.ownership_controls(controls).send().await.unwrap();
        }
        let version = pair.source.put("open", bytes(1, 10)).await;
        recorded.run(&["run", "--until-idle=1s"]).await;
        let grant = pair.source.s3.put_object_acl().bucket(&pair.source.name).key("open");
        grant.acl(ObjectCannedAcl::PublicRead).send().await.unwrap();
        pair.put_event("ObjectAcl:Put", "open", version.as_deref()).await;
        recorded.run(&["run", "--until-idle=1s"]).await;
        needed.extend(recorded.needed());
    }
    let beyond = needed.difference(&permitted("worker-streaming.json")).cloned().collect();
    compare(&permitted("add-acl.json"), &beyond, "add-acl.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_need_exactly_their_addition() {
    let recorded = Recorded::new(Setup { locking: Locking::Enabled, ..setup("", "stream") }).await;
    let source = &recorded.pair.source;
    let until = DateTime::from_secs(4_102_444_800);
    let version = source.put("free at first", bytes(1, 10)).await;
    let put = source.s3.put_object().bucket(&source.name).key("locked").body(bytes(2, 10).into());
    let put = put.object_lock_mode(ObjectLockMode::Governance).object_lock_retain_until_date(until);
    put.object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On)
        .checksum_algorithm(ChecksumAlgorithm::Crc32)
        .send()
        .await
        .unwrap();
    recorded.run(&["run", "--until-idle=1s"]).await;
    let retention = ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Governance).retain_until_date(until);
    let lock = source.s3.put_object_retention().bucket(&source.name).key("free at first");
    lock.retention(retention.build()).send().await.unwrap();
    recorded.pair.put_event("ObjectRetention:Put", "free at first", version.as_deref()).await;
    recorded.run(&["run", "--until-idle=1s"]).await;
    compare_addition(&recorded, "add-object-lock.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_need_exactly_their_addition() {
    let mut recorded = Recorded::new(setup("", "stream")).await;
    let receipts: Bucket = recorded.pair.another_target().await;
    let table = format!("\n[receipts]\nbucket = \"{}\"\n", receipts.name);
    recorded.pair.setup.more.push_str(&table);
    recorded.pair.write_config();
    recorded.receipts = Some(receipts.name);
    recorded.pair.source.put("one", bytes(1, 10)).await;
    recorded.run(&["run", "--until-idle=1s"]).await;
    recorded.run(&["sync", "--full"]).await;
    compare_addition(&recorded, "add-receipts.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_needs_exactly_its_addition() {
    let mut recorded = Recorded::new(setup("", "stream")).await;
    recorded.pair.setup.more.push_str("\n[canary]\nevery = \"1s\"\n");
    recorded.pair.write_config();
    let mut worker = spawn_repl(&recorded.pair, &["run"]);
    let permitted = permitted("add-canary.json");
    eventually("canaries are written and tidied", PATIENCE, async || permitted.is_subset(&recorded.needed())).await;
    worker.terminate(PATIENCE).await.expect_code(0);
    compare_addition(&recorded, "add-canary.json");
}

/// The tables that send the alarms of every tier to topics, and the inboxes behind them.
async fn telling(recorded: &mut Recorded, monitoring: &str) -> Tiers {
    let (region, prefix) = ("eu-west-2", recorded.pair.source.name.clone());
    let tiers = Tiers::make(region, &prefix).await;
    let topics = TIERS.map(|tier| format!("{tier} = {{ topic_arn = \"{}\" }}\n", topic(region, &prefix, tier)));
    let tables = format!("region = \"{region}\"\n{monitoring}[escalation]\nperiod = \"10s\"\n{}", topics.concat());
    recorded.pair.setup.more.push_str(&tables);
    recorded.pair.write_config();
    tiers
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_need_exactly_their_addition() {
    let mut recorded = Recorded::new(setup("", "stream")).await;
    let tiers = telling(&mut recorded, "cloudwatch = false\n").await;
    recorded.proxy.add(Rule::when(|seen| seen.plain_path().ends_with("/k"), Act::error(400, "KMS.DisabledException")));
    recorded.pair.source.put("k", bytes(1, 10)).await;
    let mut worker = spawn_repl(&recorded.pair, &["run"]);
    let mut heard = Vec::new();
    eventually("an alarm is told", PATIENCE, async || {
        heard.extend(tiers.heard("standard").await);
        !heard.is_empty()
    })
    .await;
    worker.terminate(PATIENCE).await.expect_code(0);
    compare_addition(&recorded, "add-alerts.json");
}

/// `repl check` also looks at the set-up of both sides, and has an event of its own come.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_needs_exactly_its_addition() {
    let mut recorded = Recorded::new(setup("", "stream")).await;
    telling(&mut recorded, "").await;
    recorded.pair.source.put_adorned("adorned", bytes(1, 10)).await;
    recorded.run(&["check"]).await;
    compare_addition(&recorded, "add-check.json");
}
