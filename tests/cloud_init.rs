//! `repl init`: from flags, and from a bucket's own replication on a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::path::Path;
use std::process::Stdio;

use aws_sdk_s3::types::{
    AccessControlTranslation, DeleteMarkerReplication, DeleteMarkerReplicationStatus, Destination,
    EncryptionConfiguration, OwnerOverride, ReplicationConfiguration, ReplicationRule, ReplicationRuleAndOperator,
    ReplicationRuleFilter, ReplicationRuleStatus, SourceSelectionCriteria, SseKmsEncryptedObjects,
    SseKmsEncryptedObjectsStatus, StorageClass, Tag,
};
use repl::config;
use support::pair::Setup;
use support::servers::Server;
use tokio::process::Command;

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn init(directory: &Path, words: &[&str]) -> Said {
    let access = Server::Ministack.access();
    let ended = Command::new(env!("CARGO_BIN_EXE_repl"))
        .arg("init")
        .args(words)
        .current_dir(directory)
        .env("AWS_ACCESS_KEY_ID", &access.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: ended.status.code(), stdout: text(ended.stdout), stderr: text(ended.stderr) }
}

const FLAGS: [&str; 8] =
    ["--source", "acme-primary", "--source-region", "us-east-1", "--target", "acme-dr", "--target-region", "eu-west-2"];

#[tokio::test(flavor = "multi_thread")]
async fn flags_make_a_config_that_parses_and_nothing_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let said = init(directory.path(), &FLAGS).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stderr, "repl: wrote repl.toml; next: repl check --config repl.toml\n");
    let place = directory.path().join("repl.toml");
    let text = std::fs::read_to_string(&place).unwrap();
    let config = config::parse(&text, "repl.toml").unwrap();
    assert_eq!((config.source.bucket.as_str(), config.targets[0].bucket.as_str()), ("acme-primary", "acme-dr"));
    assert_eq!(config.targets[0].connection.region, "eu-west-2");

    std::fs::write(&place, "mine").unwrap();
    let said = init(directory.path(), &FLAGS).await;
    assert_eq!(said.code, Some(2));
    assert_eq!(said.stderr, "repl: repl.toml is there already: name another with --output, or say --force\n");
    assert_eq!(std::fs::read_to_string(&place).unwrap(), "mine");
    assert_eq!(init(directory.path(), &[&FLAGS[..], &["--force"]].concat()).await.code, Some(0));
    assert_eq!(std::fs::read_to_string(&place).unwrap(), text);

    let said = init(directory.path(), &[&FLAGS[..6], &["--output", "-"]].concat()).await;
    assert_eq!(said.code, Some(2), "{}", said.stdout);
    assert!(said.stderr.contains("there is no terminal to ask on: give --target-region"), "{}", said.stderr);
}

fn rule(id: &str, bucket: &str) -> aws_sdk_s3::types::builders::ReplicationRuleBuilder {
    let markers = DeleteMarkerReplication::builder().status(DeleteMarkerReplicationStatus::Enabled).build();
    let there = Destination::builder().bucket(format!("arn:aws:s3:::{bucket}")).build().unwrap();
    ReplicationRule::builder()
        .id(id)
        .status(ReplicationRuleStatus::Enabled)
        .delete_marker_replication(markers)
        .destination(there)
}

#[tokio::test(flavor = "multi_thread")]
async fn native_replication_is_translated() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let other = pair.another_target().await;
    let tag = |name: &str, value: &str| Tag::builder().key(name).value(value).build().unwrap();
    let and = ReplicationRuleAndOperator::builder().prefix("a \"b\"\\/").tags(tag("class", "gold")).tags(tag("x", "y"));
    let sealed = Destination::builder()
        .bucket(format!("arn:aws:s3:::{}", other.name))
        .account("111122223333")
        .storage_class(StorageClass::StandardIa)
        .access_control_translation(
            AccessControlTranslation::builder().owner(OwnerOverride::Destination).build().unwrap(),
        )
        .encryption_configuration(EncryptionConfiguration::builder().replica_kms_key_id(&pair.target_key).build())
        .build()
        .unwrap();
    let encrypted = SseKmsEncryptedObjects::builder().status(SseKmsEncryptedObjectsStatus::Enabled).build().unwrap();
    let rules = [
        rule("logs", &pair.target.name).priority(1).filter(ReplicationRuleFilter::builder().prefix("logs/").build()),
        rule("gold", &other.name)
            .priority(2)
            .filter(ReplicationRuleFilter::builder().and(and.build()).build())
            .source_selection_criteria(SourceSelectionCriteria::builder().sse_kms_encrypted_objects(encrypted).build())
            .destination(sealed),
        rule("gone", "no-such-bucket-anywhere")
            .priority(3)
            .filter(ReplicationRuleFilter::builder().prefix("g/").build()),
    ];
    let rules = rules.into_iter().map(|rule| rule.build().unwrap()).collect();
    let all = ReplicationConfiguration::builder().role("arn:aws:iam::111122223333:role/r").set_rules(Some(rules));
    let put = pair.source.s3.put_bucket_replication().bucket(&pair.source.name);
    put.replication_configuration(all.build().unwrap()).send().await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let endpoint = &Server::Ministack.access().endpoint;
    let words = ["--from-bucket", &pair.source.name, "--source-endpoint", endpoint, "--output", "-"];
    let said = init(directory.path(), &words).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let fill = "the region of destination \"no-such-bucket-anywhere\" is to be filled in";
    assert!(said.stderr.contains(fill), "{}", said.stderr);
    assert!(said.stderr.contains("rule \"logs\": native leaves objects under SSE-KMS out"), "{}", said.stderr);
    let text = said
        .stdout
        .replace("# region = \"\"   fill in: the bucket's region could not be looked up", "region = \"eu-west-2\"");
    assert_ne!(text, said.stdout, "a line to fill in");
    assert!(text.contains("# native leaves objects under SSE-KMS out"), "{text}");
    let config = config::parse(&text, "repl.toml").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(config.source.connection.region, "us-east-1");
    let targets: Vec<&str> = config.targets.iter().map(|target| target.bucket.as_str()).collect();
    assert_eq!(targets.len(), 3, "{targets:?}");
    let [logs, gold, _] = &config.rules[..] else { panic!("{text}") };
    assert_eq!((logs.prefix.as_str(), logs.priority, logs.delete_markers), ("logs/", 1, true));
    assert_eq!(config.target(&logs.target).unwrap().connection.region, "eu-west-2");
    assert_eq!((gold.prefix.as_str(), gold.tags.len(), gold.delete_markers), ("a \"b\"\\/", 2, false));
    assert_eq!(gold.kms_key.as_deref(), Some(pair.target_key.as_str()));
    assert_eq!((gold.storage_class.as_deref(), gold.owner_full_control), (Some("STANDARD_IA"), true));
    let owner = config.target(&gold.target).unwrap().connection.expected_bucket_owner.clone();
    assert_eq!(owner.as_deref(), Some("111122223333"));

    let words = ["--from-bucket", &pair.target.name, "--source-endpoint", endpoint, "--output", "-"];
    let said = init(directory.path(), &words).await;
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("has no replication of its own"), "{}", said.stderr);
}
