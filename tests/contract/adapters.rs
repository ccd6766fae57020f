//! What only real adapters have: refusals by name, keys of KMS, events through a queue, roles.

use std::time::Duration;

use aws_sdk_s3::types::ObjectOwnership;
use repl::aws::kms::Kms;
use repl::aws::s3::S3Bucket;
use repl::aws::sqs::SqsQueue;
use repl::aws::{Clients, Endpoint, HotPath};
use repl::model::fault::{FaultKind, Side};
use repl::model::job::ChangeKind;
use repl::model::object::{Encryption, Key};
use repl::ports::{ChangeQueue, Condition, Content, Grant, KeyService, ObjectStore, Pick, Sealing};

use super::servers::{Server, Way, all_ways};
use super::store::{ODD, all, look, object, put, whole};
use super::support;

#[tokio::test]
async fn refusals_are_named() {
    for world in all_ways().await {
        let nowhere = S3Bucket::new(&world.config, &world.endpoint, format!("nowhere-{}", std::process::id()));
        let fault = nowhere.get(&Key::new("k"), all(Pick::Current)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
        // SeaweedFS makes the bucket for whom it lets.
        if world.server == Server::Weed {
            continue;
        }
        let fault = nowhere.put(&object("k"), whole("v"), None, &Condition::Any).await.unwrap_err();
        assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Refused, Some("NoSuchBucket")), "{fault}");
    }
    let closed = Endpoint {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        path_style: true,
        ..Endpoint::in_region("us-east-1", Side::Target)
    };
    let config = Clients::new().sdk_config(&closed).await.unwrap();
    let bucket = S3Bucket::new(&config, &closed, "b");
    let fault = bucket.head(&Key::new("k"), &Pick::Current).await.unwrap_err();
    assert_eq!((fault.kind, fault.side), (FaultKind::Transient, Side::Target), "{fault}");
}

#[tokio::test]
async fn kms_sealing_is_told_back_and_keys_can_be_proved() {
    let world = Way::new(Server::Ministack, HotPath::Lean).await;
    let raw = aws_sdk_kms::Client::new(&world.config);
    let key = raw.create_key().send().await.unwrap().key_metadata.unwrap();
    let arn = key.arn.unwrap();
    let kms = Kms::new(&world.config, &world.endpoint);
    let state = kms.describe(&arn).await.unwrap();
    assert_eq!((state.arn.as_str(), state.enabled, state.rotation), (arn.as_str(), true, Some(false)));
    raw.enable_key_rotation().key_id(&arn).send().await.unwrap();
    assert_eq!(kms.describe(&arn).await.unwrap().rotation, Some(true));
    kms.prove(&arn, "any-bucket").await.unwrap();
    raw.disable_key().key_id(&arn).send().await.unwrap();
    assert!(!kms.describe(&arn).await.unwrap().enabled);
    let fault = kms.prove(&arn, "any-bucket").await.unwrap_err();
    assert_eq!((fault.kind, fault.side), (FaultKind::KeyUnusable, Side::Keys), "{fault}");
    let missing = arn.replace(arn.rsplit('/').next().unwrap(), "00000000-0000-0000-0000-000000000000");
    assert_eq!(kms.describe(&missing).await.unwrap_err().kind, FaultKind::KeyUnusable);
    let elsewhere = arn.replace("us-east-1", "eu-west-2");
    assert_eq!(kms.describe(&elsewhere).await.unwrap_err().kind, FaultKind::KeyUnusable);

    raw.enable_key().key_id(&arn).send().await.unwrap();
    let bucket = world.make(true).await;
    let mut new = object("sealed");
    new.sealing = Sealing::Kms(arn.clone());
    let written = bucket.put(&new, whole("x"), None, &Condition::Any).await.unwrap();
    assert_eq!(written.encryption, Encryption::Kms(Some(arn.clone())));
    assert_eq!(look(&bucket, "sealed").await.encryption, Encryption::Kms(Some(arn)));
}

#[tokio::test]
async fn a_real_event_comes_through_the_queue() {
    use aws_sdk_s3::types::{NotificationConfiguration, QueueConfiguration};
    let world = Way::new(Server::Ministack, HotPath::Lean).await;
    let bucket = world.make(true).await;
    let raw = aws_sdk_sqs::Client::new(&world.config);
    let name = format!("events-{}", std::process::id());
    let url = raw.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
    let arn = format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    let to = QueueConfiguration::builder()
        .queue_arn(arn)
        .events("s3:ObjectCreated:*".into())
        .events("s3:ObjectRemoved:*".into())
        .build()
        .unwrap();
    let config = NotificationConfiguration::builder().queue_configurations(to).build();
    world
        .raw
        .put_bucket_notification_configuration()
        .bucket(bucket.name())
        .notification_configuration(config)
        .send()
        .await
        .unwrap();
    let queue = SqsQueue::new(&world.config, &world.endpoint, &url, bucket.name());
    let mut expected = Vec::new();
    for key in ODD {
        let version = put(&bucket, key, key).await.version.unwrap();
        expected.push((ChangeKind::Write, Key::new(key), version));
    }
    let marker = bucket.delete(&Key::new(ODD[0]), &Condition::Any).await.unwrap().unwrap();
    expected.push((ChangeKind::DeleteMarker, Key::new(ODD[0]), marker));
    for n in 0..12 {
        raw.send_message().queue_url(&url).message_body(format!("not json {n}")).send().await.unwrap();
    }
    let (mut changes, mut unreadable, mut receipts) = (Vec::new(), 0, Vec::new());
    for _ in 0..20 {
        for delivery in queue.receive(Duration::from_secs(1)).await.unwrap() {
            receipts.push(delivery.receipt);
            match delivery.content {
                Content::Changes { changes: some, .. } => {
                    changes.extend(some.into_iter().map(|change| {
                        assert!(change.sequencer.is_some());
                        (change.kind, change.key, change.version)
                    }));
                }
                Content::Unreadable(reason) => {
                    assert!(reason.contains("JSON"), "{reason}");
                    unreadable += 1;
                }
            }
        }
        if changes.len() == expected.len() && unreadable == 12 {
            break;
        }
    }
    changes.sort();
    expected.sort();
    assert_eq!(changes, expected);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, receipts.len() as u64));
    assert_eq!(queue.extend(receipts.clone(), Duration::from_secs(60)).await.unwrap(), []);
    assert_eq!(queue.acknowledge(receipts).await.unwrap(), []);
    assert_eq!(queue.depth().await.unwrap().in_flight, 0);
    let nowhere = SqsQueue::new(&world.config, &world.endpoint, url.replace("events", "nowhere"), "b");
    let fault = nowhere.receive(Duration::ZERO).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
}

/// Keys for the role's first call come from the environment, as on a real machine; a test cannot change its own, so it
/// runs itself again with them set.
#[test]
fn a_role_is_assumed_before_the_first_request() {
    let access = support::servers::Server::Ministack.access();
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "adapters::role_from_environment"])
        .env("AWS_ACCESS_KEY_ID", &access.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "run by the test above, with keys in the environment"]
async fn role_from_environment() {
    let world = Way::new(Server::Ministack, HotPath::Lean).await;
    let as_role = Endpoint {
        role_arn: Some("arn:aws:iam::000000000000:role/replicator".to_owned()),
        external_id: Some("agreed".to_owned()),
        ..world.endpoint.clone()
    };
    let name = world.make(true).await.name().to_owned();
    let config = Clients::new().sdk_config(&as_role).await.unwrap();
    let bucket = S3Bucket::new(&config, &as_role, name);
    put(&bucket, "by-role", "x").await;
    use aws_credential_types::provider::ProvideCredentials as _;
    let keys = config.credentials_provider().unwrap().provide_credentials().await.unwrap();
    assert!(keys.session_token().is_some(), "the role's keys, not the caller's");
}

#[tokio::test]
async fn an_acl_can_be_set_and_taken_back() {
    let world = Way::new(Server::Ministack, HotPath::Lean).await;
    let name = format!("granted-{}", std::process::id());
    let create = world.raw.create_bucket().bucket(&name).object_ownership(ObjectOwnership::BucketOwnerPreferred);
    create.send().await.unwrap();
    let bucket = S3Bucket::new(&world.config, &world.endpoint, name);
    let key = Key::new("granted");
    bucket.put(&object("granted"), whole("x"), None, &Condition::Any).await.unwrap();
    let owners = bucket.acl(&key, &Pick::Current).await.unwrap();
    assert!(matches!(&owners[..], [one] if one.permission == "FULL_CONTROL" && one.grantee.starts_with("id=\"")));
    let everybody = "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"".to_owned();
    let read = Grant { permission: "READ".to_owned(), grantee: everybody };
    let granted = [owners.clone(), vec![read]].concat();
    bucket.put_acl(&key, &Pick::Current, &granted).await.unwrap();
    let told = bucket.acl(&key, &Pick::Current).await.unwrap();
    assert!(told.len() == 2 && granted.iter().all(|grant| told.contains(grant)), "{told:?}");
    bucket.put_acl(&key, &Pick::Current, &[]).await.unwrap();
    assert_eq!(bucket.acl(&key, &Pick::Current).await.unwrap(), owners);
}
