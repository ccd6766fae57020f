//! Who may read the replica: ACL grants where a rule asks for them, and the bucket owner's right to what was written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::time::Duration;

use aws_sdk_s3::types::{ObjectCannedAcl, ObjectOwnership, OwnershipControls, OwnershipControlsRule, Permission};
use support::compare::compare;
use support::pair::{Bucket, Pair, Setup};
use support::proxy::{Act, Proxy, Rule};
use support::servers::Server;
use support::worker::run_repl;

const PATIENCE: Duration = Duration::from_secs(60);

async fn work_off(pair: &Pair) {
    run_repl(pair, &["run", "--until-idle=1s"], PATIENCE).await.expect_code(0);
}

/// ACLs are off for new buckets, as on AWS now.
async fn with_acls(bucket: &Bucket) {
    let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::ObjectWriter).build().unwrap();
    let controls = OwnershipControls::builder().rules(rule).build().unwrap();
    bucket.s3.put_bucket_ownership_controls().bucket(&bucket.name).ownership_controls(controls).send().await.unwrap();
}

async fn everybody_may_read(bucket: &Bucket, key: &str) -> bool {
    let acl = bucket.s3.get_object_acl().bucket(&bucket.name).key(key).send().await.unwrap();
    acl.grants().iter().any(|grant| {
        let group = grant.grantee().and_then(|grantee| grantee.uri()).unwrap_or_default();
        group.ends_with("/AllUsers") && grant.permission() == Some(&Permission::Read)
    })
}

async fn grant(bucket: &Bucket, key: &str, acl: ObjectCannedAcl) {
    bucket.s3.put_object_acl().bucket(&bucket.name).key(key).acl(acl).send().await.unwrap();
}

/// P6: grants come along where the rule says so, also when the store fails after the object is visible, and later
/// changes of them follow.
#[tokio::test(flavor = "multi_thread")]
async fn grants_come_along_and_follow() {
    let mut setup = Setup::on(Server::Ministack, Server::Ministack).rule("acl = true");
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    setup.target_endpoint = Some(proxy.endpoint());
    let pair = setup.build().await;
    with_acls(&pair.source).await;
    with_acls(&pair.target).await;
    let version = pair.source.put("open", "content").await;
    pair.source.put("closed", "content").await;
    grant(&pair.source, "open", ObjectCannedAcl::PublicRead).await;
    // The object is there, its ACL is not: the next attempt finds it equal and must not leave it so.
    let writes_acl = |seen: &support::proxy::Seen| seen.method == "PUT" && seen.asks("acl");
    proxy.add(Rule::when(writes_acl, Act::error(503, "SlowDown")).times(1));
    work_off(&pair).await;
    assert!(proxy.count(writes_acl) > 1, "the refused ACL was sent again");
    assert_eq!(compare(&pair).await, Vec::<String>::new());
    assert!(everybody_may_read(&pair.target, "open").await);
    assert!(!everybody_may_read(&pair.target, "closed").await);

    grant(&pair.source, "open", ObjectCannedAcl::Private).await;
    pair.put_event("ObjectAcl:Put", "open", version.as_deref()).await;
    work_off(&pair).await;
    assert!(!everybody_may_read(&pair.target, "open").await);
    assert_eq!(compare(&pair).await, Vec::<String>::new(), "no new version for it");
}

/// Without `acl` grants stay behind; with `owner = "target"` every way of writing hands the replica over.
#[tokio::test(flavor = "multi_thread")]
async fn the_target_bucket_owns_what_is_written() {
    for mode in ["stream", "server-side"] {
        let mut setup = Setup::on(Server::Ministack, Server::Ministack)
            .rule("owner = \"target\"")
            .more(&format!("[transfer]\nmode = \"{mode}\"\n"));
        let proxy = Proxy::before(&Server::Ministack.access().endpoint);
        setup.target_endpoint = Some(proxy.endpoint());
        if mode == "server-side" {
            // One store under one endpoint, or the config itself rules the copy out.
            setup.source_endpoint = Some(proxy.endpoint());
        }
        let pair = setup.build().await;
        pair.source.put("small", "content").await;
        pair.source.put_multipart("parts", 1, &support::objects::Multipart::of(&[5 << 20, 100])).await;
        proxy.forget();
        work_off(&pair).await;
        assert_eq!(compare(&pair).await, Vec::<String>::new(), "{mode}");
        let target = format!("/{}/", pair.target.name);
        let creating: Vec<String> = proxy
            .seen()
            .iter()
            .filter(|seen| seen.path.starts_with(&target) && !seen.asks("partNumber"))
            .filter(|seen| (seen.method == "PUT" && !seen.asks("acl") && !seen.asks("tagging")) || seen.asks("uploads"))
            .map(|seen| seen.header("x-amz-acl").to_owned())
            .collect();
        assert_eq!(creating, ["bucket-owner-full-control"; 2], "{mode}");
    }
}

/// A profile that the config names is whose keys are used, also where the environment has others.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_profile_comes_before_the_environment() {
    let pair = Setup::on(Server::Seaweedfs, Server::Seaweedfs).build().await;
    pair.source.put("k", "content").await;
    let config = std::fs::read_to_string(&pair.config).unwrap();
    let named = config.replace("path_style = true", "path_style = true\nprofile = \"backup\"");
    assert_eq!(named.matches("profile = ").count(), 2, "{config}");
    std::fs::write(&pair.config, named).unwrap();
    let access = Server::Seaweedfs.access();
    let (id, secret) = (&access.access_key_id, &access.secret_access_key);
    let profiles = pair.directory.path().join("credentials");
    std::fs::write(&profiles, format!("[backup]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"))
        .unwrap();
    let ran = tokio::process::Command::new(env!("CARGO_BIN_EXE_repl"))
        .args(["sync", "--json", "--config"])
        .arg(&pair.config)
        .env("AWS_SHARED_CREDENTIALS_FILE", &profiles)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "somebody")
        .env("AWS_SECRET_ACCESS_KEY", "else")
        .output()
        .await
        .unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(compare(&pair).await, Vec::<String>::new());
}
