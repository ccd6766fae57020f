use super::*;
use crate::model::digest::{Algorithm, Checksum};
use crate::model::object::{ETag, Key, Timestamp, VersionId};
use std::collections::BTreeMap;

const MD5: &str = "5d41402abc4b2a76b9719d911017c592";
const OTHER: &str = "7d793037a0760186574b0282f2f435e7";

fn head(etag: &str) -> Head {
    Head {
        version: VersionId::new("v1"),
        etag: ETag::new(etag),
        size: 5,
        modified: Timestamp(1_000_000),
        attributes: Attributes::default(),
        encryption: Encryption::S3,
        checksum: None,
        tag_count: None,
    }
}

fn summed(etag: &str, kind: ChecksumType, value: &str) -> Head {
    let checksum = Checksum { algorithm: Algorithm::Crc64Nvme, kind, value: value.to_owned() };
    Head { checksum: Some(checksum), ..head(etag) }
}

fn under_kms(head: Head) -> Head {
    Head { encryption: Encryption::Kms(Some("arn:k".to_owned())), ..head }
}

fn stamped(mut head: Head, source: &Head, origin: &str) -> Head {
    assert!(Stamp::of(source, origin).write(&mut head.attributes.metadata));
    head
}

fn verdict(source: &Head, target: &Head) -> (&'static str, &'static str) {
    match by_heads(source, target, "src") {
        Content::Same(by, _) => ("same", by),
        Content::Differs(by, _) => ("differs", by),
        Content::ByParts(_) => ("parts", ""),
        Content::Unknown(_) => ("unknown", ""),
    }
}

#[test]
fn what_heads_prove() {
    use ChecksumType::{Composite, FullObject};
    let source = head(MD5);
    assert_eq!(verdict(&source, &head(MD5)), ("same", "etag"));
    assert_eq!(verdict(&source, &head(OTHER)), ("differs", "etag"));
    assert_eq!(verdict(&source, &Head { size: 6, ..head(MD5) }), ("differs", "size"));
    assert_eq!(verdict(&source, &under_kms(head(OTHER))), ("unknown", ""));
    assert_eq!(verdict(&head("aa-2"), &head("bb-2")), ("parts", ""));
    assert_eq!(verdict(&head("aa-2"), &head("bb-3")), ("unknown", ""));
    let one = summed(MD5, FullObject, "AAAA");
    assert_eq!(verdict(&one, &under_kms(summed(OTHER, FullObject, "AAAA"))), ("same", "checksum"));
    assert_eq!(verdict(&one, &under_kms(summed(OTHER, FullObject, "BBBB"))), ("differs", "checksum"));
    assert_eq!(verdict(&summed("a-2", Composite, "A-2"), &summed("b-2", Composite, "B-2")), ("parts", ""));
}

#[test]
fn a_stamp_is_believed_only_where_nothing_speaks_against_it() {
    let source = head(MD5);
    let replica = stamped(under_kms(head(OTHER)), &source, "src");
    assert_eq!(verdict(&source, &replica), ("same", "stamp"));
    let overwritten = Head { encryption: Encryption::S3, ..replica.clone() };
    assert_eq!(verdict(&source, &overwritten), ("differs", "etag"), "same size, stamp kept, other bytes");
    let full = ChecksumType::FullObject;
    let summed_source = summed(MD5, full, "AAAA");
    let broken = stamped(under_kms(summed(OTHER, full, "BBBB")), &summed_source, "src");
    assert_eq!(verdict(&summed_source, &broken), ("differs", "checksum"));
    let old = stamped(under_kms(head(OTHER)), &Head { version: VersionId::new("v0"), ..head(MD5) }, "src");
    assert_eq!(verdict(&source, &old), ("differs", "stamp"));
    let elsewhere = stamped(under_kms(head(OTHER)), &source, "another-bucket");
    assert_eq!(verdict(&source, &elsewhere), ("unknown", ""));
}

#[test]
fn what_listings_prove() {
    let entry = |etag: &str, size| Listed {
        key: Key::new("k"),
        size,
        etag: ETag::new(etag),
        modified: Timestamp(0),
        storage_class: None,
        checksum: None,
    };
    assert!(matches!(by_listing(&entry(MD5, 5), &entry(MD5, 5)), Content::Same("etag", _)));
    assert!(matches!(by_listing(&entry(MD5, 5), &entry(MD5, 6)), Content::Differs("size", _)));
    assert!(matches!(by_listing(&entry(MD5, 5), &entry(OTHER, 5)), Content::Unknown(_)), "may be KMS");
}

#[test]
fn names_of_differences_and_no_values() {
    let tags = |pairs: &[(&str, &str)]| -> Tags {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let found = maps_differ(
        "tag",
        &tags(&[("a", "1"), ("b", "secret"), ("c", "3")]),
        &tags(&[("a", "1"), ("b", "x"), ("d", "4")]),
    );
    assert_eq!(
        found,
        ["tag \"b\" has another value", "tag \"c\" is not at the target", "tag \"d\" is only at the target"]
    );
    assert_eq!(BTreeMap::<String, String>::new(), tags(&[]));
}
