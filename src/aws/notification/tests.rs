use super::*;
use crate::damage::{cases, corpus, damaged_text, is_a_sentence};
use crate::model::job::ChangeKind;
use proptest::prelude::*;
use serde_json::json;

const RECEIVED: Timestamp = Timestamp(7_000);

fn read_value(value: &Value) -> Content {
    read(&value.to_string(), "b", RECEIVED)
}

fn record(name: &str, object: Value) -> Value {
    json!({
        "eventVersion": "2.6", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": "2026-11-21T12:30:29.123Z",
        "eventName": name, "s3": {"bucket": {"name": "b"}, "object": object}, "glacierEventData": {}
    })
}

fn records(list: &[Value]) -> Value {
    json!({ "Records": list })
}

fn sns(inner: &Value) -> Value {
    json!({"Type": "Notification", "MessageId": "m", "TopicArn": "t", "Subject": "Amazon S3 Notification",
           "Message": inner.to_string(), "Timestamp": "2026-11-21T12:30:30Z", "SignatureVersion": "1"})
}

fn only(content: Content) -> Change {
    match content {
        Content::Changes { mut changes, ignored, unreadable }
            if changes.len() == 1 && ignored.is_empty() && unreadable.is_empty() =>
        {
            changes.remove(0)
        }
        other => panic!("{other:?}"),
    }
}

fn reason(content: Content) -> String {
    match content {
        Content::Unreadable(reason) => reason,
        other @ Content::Changes { .. } => panic!("{other:?}"),
    }
}

fn put(key: &str) -> Value {
    record("ObjectCreated:Put", json!({"key": key, "size": 5, "eTag": "e", "versionId": "v1", "sequencer": "00AB"}))
}

#[test]
fn the_direct_and_the_wrapped_forms_say_the_same() {
    let direct = records(&[put("red+flower.jpg")]);
    let change = only(read_value(&direct));
    assert_eq!(
        change,
        Change {
            bucket: "b".to_owned(),
            key: Key::new("red flower.jpg"),
            kind: ChangeKind::Write,
            version: VersionId::new("v1"),
            sequencer: Some(Sequencer::new("00AB")),
            etag: Some(ETag::new("e")),
            size: Some(5),
            changed: Timestamp::parse_rfc3339("2026-11-21T12:30:29.123Z").unwrap(),
            origin: Origin::Event,
        }
    );
    assert_eq!(only(read_value(&sns(&direct))), change);
    assert_eq!(only(read_value(&sns(&sns(&direct)))), change);
    let deep = sns(&sns(&sns(&sns(&direct))));
    assert!(reason(read_value(&deep)).contains("wrapped by SNS more than 3 times"));
}

#[test]
fn test_messages_ask_for_nothing_wrapped_or_not() {
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-21T12:30:29Z", "Bucket": "b",
                      "RequestId": "r", "HostId": "h"});
    let nothing = Content::Changes { changes: Vec::new(), ignored: Vec::new(), unreadable: Vec::new() };
    assert_eq!(read_value(&test), nothing);
    assert_eq!(read_value(&sns(&test)), nothing);
}

#[test]
fn event_bridge_has_other_names_and_plain_keys() {
    let event = |kind: &str, extra: Value| {
        let mut detail = json!({"version": "0", "bucket": {"name": "b"},
            "object": {"key": "a+b%2F c", "size": 4, "etag": "e", "version-id": "v", "sequencer": "617f08299329d189"}});
        for (name, value) in extra.as_object().unwrap() {
            detail[name] = value.clone();
        }
        json!({"version": "0", "source": "aws.s3", "detail-type": kind, "time": "2026-11-21T12:30:29Z", "detail": detail})
    };
    let change = only(read_value(&event("Object Created", json!({"reason": "PutObject"}))));
    assert_eq!((change.key.as_str(), change.version.as_str()), ("a+b%2F c", "v"));
    assert_eq!(change.sequencer, Some(Sequencer::new("617f08299329d189")));
    assert_eq!(change.changed, Timestamp::parse_rfc3339("2026-11-21T12:30:29Z").unwrap());
    let deleted = |reason: &str, kind: &str| {
        read_value(&event("Object Deleted", json!({"reason": reason, "deletion-type": kind})))
    };
    assert_eq!(only(deleted("DeleteObject", "Delete Marker Created")).kind, ChangeKind::DeleteMarker);
    for (content, word) in [
        (deleted("DeleteObject", "Permanently Deleted"), "permanent delete"),
        (deleted("Lifecycle Expiration", "Delete Marker Created"), "lifecycle"),
        (deleted("Lifecycle Expiration", "Permanently Deleted"), "lifecycle"),
        (read_value(&event("Object Storage Class Changed", json!({}))), "storage class"),
        (read_value(&event("Object Restore Initiated", json!({}))), "restore"),
    ] {
        let Content::Changes { changes, ignored, unreadable } = content else { panic!("{word}") };
        assert!(changes.is_empty() && unreadable.is_empty() && ignored[0].reason.contains(word), "{ignored:?}");
    }
    assert_eq!(only(read_value(&event("Object Restore Completed", json!({})))).kind, ChangeKind::Restored);
    for name in ["Object Tags Added", "Object Tags Deleted", "Object ACL Updated"] {
        assert_eq!(only(read_value(&event(name, json!({})))).kind, ChangeKind::Attributes);
    }
    assert!(reason(read_value(&event("Object Folded", json!({})))).contains("Object Folded"));
}

#[test]
fn every_event_name_has_its_meaning() {
    let kind = |kind| Some(Meaning::Of(kind));
    let ignored = |reason| Some(Meaning::Ignored(reason));
    let rows = [
        ("ObjectCreated:Put", kind(ChangeKind::Write)),
        ("ObjectCreated:Post", kind(ChangeKind::Write)),
        ("ObjectCreated:Copy", kind(ChangeKind::Write)),
        ("ObjectCreated:CompleteMultipartUpload", kind(ChangeKind::Write)),
        ("ObjectRemoved:DeleteMarkerCreated", kind(ChangeKind::DeleteMarker)),
        ("ObjectRemoved:Delete", ignored(PERMANENT_DELETE)),
        ("LifecycleExpiration:Delete", ignored(LIFECYCLE)),
        ("LifecycleExpiration:DeleteMarkerCreated", ignored(LIFECYCLE)),
        ("LifecycleTransition", ignored(TRANSITION)),
        ("IntelligentTiering", ignored(TRANSITION)),
        ("ObjectRestore:Post", ignored(RESTORE)),
        ("ObjectRestore:Delete", ignored(RESTORE)),
        ("ObjectRestore:Completed", kind(ChangeKind::Restored)),
        ("Replication:OperationFailedReplication", ignored(REPLICATION)),
        ("ReducedRedundancyLostObject", ignored(REDUCED_REDUNDANCY)),
        ("ObjectTagging:Put", kind(ChangeKind::Attributes)),
        ("ObjectTagging:Delete", kind(ChangeKind::Attributes)),
        ("ObjectAcl:Put", kind(ChangeKind::Attributes)),
        ("ObjectRetention:Put", kind(ChangeKind::Attributes)),
        ("ObjectAnnotation:Put", ignored(ANNOTATION)),
        ("ObjectFolded:Twice", None),
        ("", None),
    ];
    for (name, expected) in rows {
        assert_eq!(meaning(name), expected, "{name}");
    }
    let with_prefix = read_value(&records(&[record("s3:ObjectCreated:Put", json!({"key": "k"}))]));
    assert_eq!(only(with_prefix).kind, ChangeKind::Write);
}

#[test]
fn only_bucket_key_and_name_are_needed() {
    let bare = json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]});
    let change = only(read_value(&bare));
    assert_eq!((change.version, change.changed), (VersionId::null(), RECEIVED));
    assert_eq!((change.sequencer, change.etag, change.size), (None, None, None));
    let odd =
        record("ObjectCreated:Put", json!({"key": "k", "versionId": "null", "sequencer": "not hex", "size": "5"}));
    let change = only(read_value(&records(&[odd])));
    assert_eq!((change.version, change.sequencer, change.size), (VersionId::null(), None, None));
    for missing in ["/eventName", "/s3/bucket", "/s3/object/key"] {
        let mut record = put("k");
        let (parent, name) = missing.rsplit_once('/').unwrap();
        record.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        assert!(reason(read_value(&records(&[record]))).contains("without"), "{missing}");
    }
}

#[test]
fn good_records_are_not_lost_beside_bad_ones() {
    let mut foreign = put("k");
    foreign["s3"]["bucket"]["name"] = json!("stranger");
    let content = read_value(&records(&[
        put("one"),
        foreign.clone(),
        record("ObjectRemoved:Delete", json!({"key": "k"})),
        json!(17),
        put("two"),
    ]));
    let Content::Changes { changes, ignored, unreadable } = content else { panic!() };
    assert_eq!(changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((ignored.len(), unreadable.len()), (1, 2));
    let alone = reason(read_value(&records(&[foreign])));
    assert!(alone.contains("\"stranger\"") && alone.contains("\"b\""), "{alone}");
}

#[test]
fn bad_bodies_get_a_precise_reason() {
    let version = |version: Value| {
        let mut record = put("k");
        record["eventVersion"] = version;
        read_value(&records(&[record]))
    };
    assert_eq!(only(version(json!("2.99"))).kind, ChangeKind::Write);
    for (content, word) in [
        (read("", "b", RECEIVED), "not JSON"),
        (read("[1]", "b", RECEIVED), "no S3 event"),
        (read("\"text\"", "b", RECEIVED), "no S3 event"),
        (read("{\"Records\": 1}", "b", RECEIVED), "not a list"),
        (read(&"[".repeat(100_000), "b", RECEIVED), "not JSON"),
        (read(&" ".repeat(LARGEST_BODY + 1), "b", RECEIVED), "1048577 bytes"),
        (version(json!("3.0")), "not 2.x"),
        (version(json!("20.1")), "not 2.x"),
        (version(json!(2)), "not 2.x"),
        (read_value(&records(&[put("a%2")])), "two hex digits"),
        (read_value(&records(&[put("a%zz")])), "two hex digits"),
        (read_value(&records(&[put("%")])), "two hex digits"),
        (read_value(&records(&[put("%FF")])), "UTF-8"),
        (read_value(&records(&[put("")])), "0 bytes"),
        (read_value(&records(&[put(&"k".repeat(1025))])), "1025 bytes"),
        (read_value(&json!({"Type": "SubscriptionConfirmation", "SubscribeURL": "u"})), "SubscribeURL"),
        (read_value(&json!({"Type": "Notification"})), "Message"),
        (read_value(&json!({"source": "aws.ec2", "detail-type": "x", "detail": {}})), "no S3 event"),
        (read_value(&json!({"Records": [{"eventSource": "aws:sns", "Sns": {}}]})), "aws:sns"),
    ] {
        let reason = reason(content);
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn keys_are_decoded_once() {
    for (raw, key) in [
        ("a+b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%252Bb", "a%2Bb"),
        ("%C3%A9/%E6%97%A5", "é/日"),
        ("plain/key.txt", "plain/key.txt"),
        ("%2525", "%25"),
    ] {
        assert_eq!(only(read_value(&records(&[put(raw)]))).key.as_str(), key, "{raw}");
    }
}

/// As `application/x-www-form-urlencoded` has it, written apart from the decoder.
fn form_encoded(key: &str) -> String {
    let mut raw = String::new();
    for byte in key.bytes() {
        match byte {
            b' ' => raw.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' | b'/' => raw.push(char::from(byte)),
            _ => raw.push_str(&format!("%{byte:02X}")),
        }
    }
    raw
}

proptest! {
    #[test]
    fn any_key_survives_the_way_through_an_event(key in "\\PC{1,100}|[ -~]{1,200}") {
        let change = only(read_value(&records(&[put(&form_encoded(&key))])));
        prop_assert_eq!(change.key.as_str(), key);
    }
}

fn answered(content: &Content) -> Result<(), TestCaseError> {
    match content {
        Content::Unreadable(reason) => is_a_sentence(reason),
        Content::Changes { changes, unreadable, .. } => {
            prop_assert!(changes.iter().all(|change| (1..=1024).contains(&change.key.as_str().len())));
            unreadable.iter().try_for_each(|reason| is_a_sentence(reason))
        }
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn hostile_bodies_are_answered(body in damaged_text(corpus("notification")), wrap in 0_u8..5) {
        let wrapped = (0..wrap).fold(body, |body, _| json!({"Type": "Notification", "Message": body}).to_string());
        answered(&read(&wrapped, "b", RECEIVED))?;
    }

    #[test]
    fn no_body_is_a_panic(body in "\\PC{0,200}") {
        prop_assert!(matches!(read(&body, "b", RECEIVED), Content::Unreadable(_)));
    }
}

/// P10, P12: a message as large as a queue can hold, of nothing but nonsense, is answered in one sentence and takes no
/// more than a few of itself.
#[test]
fn hostile_bodies_stay_small() {
    let full = |piece: &str| piece.repeat((LARGEST_BODY - 1000) / piece.len());
    let listed = |piece: &str| format!("{{\"Records\":[{}0]}}", full(&format!("{piece},")));
    let bodies = [
        listed("{}"),
        listed("0"),
        listed(r#"{"eventName":"x"}"#),
        listed(r#"{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"c"},"object":{"key":"k"}}}"#),
        format!("{{\"x\":[{}0]}}", full("0,")),
        format!("{{\"x\":{}", full("[")),
        format!("{{{}\"a\":0}}", full("\"\":0,")),
        records(&[put(&full("%"))]).to_string(),
        records(&[put(&full("a"))]).to_string(),
        records(&[record(&full("a"), json!({"key": "k"}))]).to_string(),
        json!({"source": "aws.s3", "detail-type": full("a"), "detail": {}}).to_string(),
    ];
    for body in &bodies {
        assert!(body.len() <= LARGEST_BODY);
        let content = read(body, "b", RECEIVED);
        answered(&content).unwrap();
        assert!(format!("{content:?}").len() < 64 << 10, "{}", &body[..60]);
    }
}
