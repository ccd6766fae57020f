use std::collections::BTreeMap;

use super::*;
use crate::model::fault::Side;
use crate::model::object::Tags;
use proptest::prelude::*;

fn site() -> Site {
    Site::new(Side::Source, "look at object")
}

fn answer(pairs: &[(&'static str, &'static str)]) -> Headers {
    let mut headers = Headers::new();
    let always = [
        ("last-modified", "Sat, 21 Nov 2026 12:30:29 GMT"),
        ("etag", "\"0cc175b9c0f1b6a831c399e269772661\""),
        ("content-length", "17"),
    ];
    for (name, value) in always.iter().chain(pairs) {
        headers.append(*name, *value);
    }
    headers
}

fn new_object() -> NewObject {
    NewObject {
        key: crate::model::object::Key::new("k"),
        attributes: Attributes::default(),
        tags: Tags::new(),
        sealing: Sealing::BucketDefault,
        owner_full_control: false,
    }
}

#[test]
fn a_bare_answer_is_the_null_version_with_nothing_attached() {
    let head = head(&answer(&[]), site()).unwrap();
    assert_eq!((head.version, head.size), (VersionId::null(), 17));
    assert_eq!(head.etag.as_str(), "0cc175b9c0f1b6a831c399e269772661");
    assert_eq!(head.modified, Timestamp::parse_rfc3339("2026-11-21T12:30:29Z").unwrap());
    assert_eq!(head.attributes, Attributes::default());
    assert_eq!((head.encryption, head.checksum, head.tag_count), (Encryption::Untold, None, None));
}

#[test]
fn an_answer_without_its_facts_is_refused() {
    for name in ["last-modified", "etag", "content-length"] {
        let mut headers = answer(&[]);
        headers.remove(name);
        let fault = head(&headers, site()).unwrap_err();
        assert!(fault.detail.to_lowercase().contains(name), "{fault}");
    }
}

#[test]
fn the_size_is_the_whole_objects_also_of_a_range() {
    assert_eq!(head(&answer(&[("content-range", "bytes 0-16/5000")]), site()).unwrap().size, 5000);
    assert!(head(&answer(&[("content-range", "bytes 0-16/*")]), site()).is_err());
}

#[test]
fn the_transports_own_encoding_is_not_the_objects() {
    for (told, meant) in [
        ("gzip", Some("gzip")),
        ("aws-chunked", None),
        ("gzip,aws-chunked", Some("gzip")),
        ("AWS-Chunked, gzip", Some("gzip")),
        ("gzip, br", Some("gzip, br")),
        ("aws-chunked,", None),
    ] {
        assert_eq!(without_chunking(told).as_deref(), meant, "{told}");
    }
}

#[test]
fn encryption_is_read_as_told() {
    let key = "arn:aws:kms:eu-west-2:1:key/k";
    let of = |pairs: &[(&'static str, &'static str)]| encryption(&answer(pairs));
    let kms = ("x-amz-server-side-encryption-aws-kms-key-id", key);
    assert_eq!(of(&[("x-amz-server-side-encryption", "AES256")]), Encryption::S3);
    assert_eq!(of(&[("x-amz-server-side-encryption", "aws:kms"), kms]), Encryption::Kms(Some(key.to_owned())));
    assert_eq!(of(&[("x-amz-server-side-encryption", "aws:kms:dsse"), kms]), Encryption::Dsse(Some(key.to_owned())));
    assert_eq!(of(&[("x-amz-server-side-encryption-customer-algorithm", "AES256")]), Encryption::Customer);
}

#[test]
fn a_checksum_is_composite_where_told_or_shown() {
    let of = |pairs: &[(&'static str, &'static str)]| checksum(&answer(pairs)).unwrap();
    let shown = of(&[("x-amz-checksum-sha256", "abc=-3")]);
    assert_eq!((shown.algorithm, shown.kind), (Algorithm::Sha256, ChecksumType::Composite));
    let told = of(&[("x-amz-checksum-crc32c", "abc="), ("x-amz-checksum-type", "FULL_OBJECT")]);
    assert_eq!((told.algorithm, told.kind, told.value.as_str()), (Algorithm::Crc32c, ChecksumType::FullObject, "abc="));
    assert_eq!(of(&[("x-amz-checksum-sha1", "abc=")]).kind, ChecksumType::FullObject);
    assert_eq!(checksum(&answer(&[("x-amz-checksum-xxhash64", "abc=")])), None);
}

#[test]
fn metadata_that_http_cannot_tell_is_not_lost_quietly() {
    let fault = head(&answer(&[("x-amz-missing-meta", "2")]), site()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Ineligible);
    assert!(head(&answer(&[("x-amz-missing-meta", "0")]), site()).is_ok());
    let joined = head(&answer(&[("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")]), site()).unwrap();
    assert_eq!(joined.attributes.metadata["a"], "1,2");
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut object = new_object();
    object.attributes = Attributes {
        content_type: Some("text/html; charset=utf-8".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        content_language: Some("de".to_owned()),
        content_disposition: Some("attachment".to_owned()),
        cache_control: Some("no-store".to_owned()),
        expires: Some("whenever".to_owned()),
        website_redirect: Some("/x".to_owned()),
        metadata: BTreeMap::from([("a".to_owned(), "=?UTF-8?B?w6k=?=".to_owned()), ("ü".to_owned(), String::new())]),
        storage_class: Some("STANDARD_IA".to_owned()),
        lock: Lock {
            mode: Some("COMPLIANCE".to_owned()),
            retain_until: Timestamp::parse_rfc3339("2044-01-01T00:00:00.123Z"),
            legal_hold: Some(true),
        },
    };
    let fault = of_new_object(&object, site()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Ineligible);
    assert!(fault.detail.contains("x-amz-meta-ü"), "{fault}");
    object.attributes.metadata.remove("ü");
    let mut headers = answer(&[]);
    for (name, value) in of_new_object(&object, site()).unwrap() {
        headers.insert(name, value);
    }
    assert_eq!(head(&headers, site()).unwrap().attributes, object.attributes);
}

#[test]
fn an_object_with_nothing_attached_sends_nothing() {
    let mut object = new_object();
    assert_eq!(of_new_object(&object, site()).unwrap(), []);
    object.attributes.lock.legal_hold = Some(false);
    assert_eq!(of_new_object(&object, site()).unwrap(), []);
    object.owner_full_control = true;
    let acl = ("x-amz-acl".into(), "bucket-owner-full-control".to_owned());
    assert_eq!(of_new_object(&object, site()).unwrap(), [acl]);
}

#[test]
fn a_key_is_always_sent_in_full_and_a_bucket_key_asked_for() {
    let mut object = new_object();
    object.sealing = Sealing::Kms("arn:k".to_owned());
    let names: Vec<_> = of_new_object(&object, site()).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    object.sealing = Sealing::Dsse("arn:k".to_owned());
    let headers = of_new_object(&object, site()).unwrap();
    assert_eq!(headers[0].1, "aws:kms:dsse");
    assert_eq!(headers.len(), 2);
}

#[test]
fn tags_are_a_query() {
    let mut object = new_object();
    object.tags = Tags::from([("a b".to_owned(), "c&d=é+".to_owned()), ("e".to_owned(), String::new())]);
    let headers = of_new_object(&object, site()).unwrap();
    assert_eq!(headers, [("x-amz-tagging".into(), "a%20b=c%26d%3D%C3%A9%2B&e=".to_owned())]);
}

#[test]
fn a_line_break_cannot_be_smuggled_into_a_request() {
    for value in ["a\r\nx-amz-acl: public-read", "nul\0", "\u{7f}"] {
        let mut object = new_object();
        object.attributes.cache_control = Some(value.to_owned());
        assert_eq!(of_new_object(&object, site()).unwrap_err().kind, FaultKind::Ineligible);
    }
}

proptest! {
    #[test]
    fn a_path_is_ascii_and_decodes_to_the_key(key in "\\PC{0,80}|[ -~]{0,80}") {
        let path = encode_path(&key);
        prop_assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte)));
        prop_assert_eq!(percent_encoding::percent_decode_str(&path).decode_utf8().unwrap(), key);
    }
}
