use super::*;
use crate::aws::s3::objects;
use crate::damage::{cases, corpus, damaged, is_a_sentence};
use crate::model::fault::Side;
use crate::model::object::ETag;
use proptest::prelude::*;

fn site() -> Site {
    Site::new(Side::Source, "list versions")
}

const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Name>b</Name><Prefix>a</Prefix><KeyMarker/><MaxKeys>4</MaxKeys><EncodingType>url</EncodingType>
  <IsTruncated>true</IsTruncated><NextKeyMarker>a%2Bz+1</NextKeyMarker><NextVersionIdMarker>v0</NextVersionIdMarker>
  <DeleteMarker><Key>a+b%2Bc%25%C3%A9%0A</Key><VersionId>m2</VersionId><IsLatest>true</IsLatest>
    <LastModified>2026-11-21T12:30:29.000Z</LastModified><Owner><ID>o</ID></Owner></DeleteMarker>
  <Version><Key>a+b%2Bc%25%C3%A9%0A</Key><VersionId>v2</VersionId><IsLatest>false</IsLatest>
    <LastModified>2026-11-21T12:30:29.000Z</LastModified><ETag>&quot;e&#45;2&quot;</ETag><Size>17</Size>
    <StorageClass>STANDARD</StorageClass><Owner><ID>o</ID><DisplayName>Key</DisplayName></Owner></Version>
  <DeleteMarker><Key>a+b%2Bc%25%C3%A9%0A</Key><VersionId>m1</VersionId><IsLatest>false</IsLatest>
    <LastModified>2026-11-21T12:30:29.000Z</LastModified></DeleteMarker>
  <Version><Key>az</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>
    <LastModified>2026-11-21T12:30:28.000Z</LastModified><ETag><![CDATA["f"]]></ETag><Size>0</Size></Version>
  <CommonPrefixes><Prefix>x/</Prefix></CommonPrefixes>
</ListVersionsResult>"#;

#[test]
fn the_order_of_the_document_is_kept() {
    let page = read(PAGE.as_bytes(), site()).unwrap();
    let told: Vec<_> =
        page.entries.iter().map(|entry| (entry.version.as_str(), entry.latest, entry.object.clone())).collect();
    assert_eq!(
        told,
        [
            ("m2", true, None),
            ("v2", false, Some((ETag::new("e-2"), 17))),
            ("m1", false, None),
            ("null", true, Some((ETag::new("f"), 0))),
        ]
    );
    assert_eq!(page.entries[0].key.as_str(), "a b+c%é\n");
    assert_eq!(page.entries[3].modified, Timestamp::parse_rfc3339("2026-11-21T12:30:28Z").unwrap());
    assert_eq!(page.next, Some((Key::new("a+z 1"), VersionId::new("v0"))));
}

#[test]
fn a_key_is_decoded_only_where_the_store_says_it_is_encoded() {
    let plain = PAGE.replace("<EncodingType>url</EncodingType>", "").replace("%0A", "&amp;&lt;");
    let page = read(plain.as_bytes(), site()).unwrap();
    assert_eq!(page.entries[0].key.as_str(), "a+b%2Bc%25%C3%A9&<");
}

#[test]
fn every_cut_of_a_page_is_a_transient_fault() {
    let end = PAGE.rfind("</ListVersionsResult>").unwrap();
    for cut in (0..end).step_by(7).chain([end]) {
        let fault = read(&PAGE.as_bytes()[..cut], site()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Transient, "{cut}: {fault}");
    }
}

#[test]
fn an_empty_bucket_has_an_empty_page() {
    let page = read(b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>", site()).unwrap();
    assert!(page.entries.is_empty() && page.next.is_none());
}

#[test]
fn another_document_is_no_empty_page() {
    for other in ["ListBucketResult", "Error", "html"] {
        let fault = read(PAGE.replace("ListVersionsResult", other).as_bytes(), site()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Transient, "{other}: {fault}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (from, to, word) in [
        ("<Size>17</Size>", "", "Size"),
        ("<ETag>&quot;e&#45;2&quot;</ETag>", "", "ETag"),
        ("<NextKeyMarker>a%2Bz+1</NextKeyMarker>", "", "not where"),
        ("<Key>az</Key>", "<Key>%FF</Key>", "UTF-8"),
        ("<LastModified>2026-11-21T12:30:28.000Z</LastModified>", "", "LastModified"),
        ("<Key>az</Key>", "<Key>&bogus;</Key>", "bogus"),
    ] {
        assert!(PAGE.contains(from));
        let fault = read(PAGE.replace(from, to).as_bytes(), site()).unwrap_err();
        assert!(fault.detail.contains(word), "{fault}");
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn hostile_listings_are_answered(xml in damaged(corpus("listing"))) {
        match read(&xml, site()) {
            Ok(page) => prop_assert!(page.entries.len() <= MOST),
            Err(fault) => is_a_sentence(&fault.to_string())?,
        }
        match objects::read(&xml) {
            Ok((entries, _)) => prop_assert!(entries.len() <= MOST),
            Err(reason) => is_a_sentence(&reason)?,
        }
    }
}

/// P10: what a store sends as one page of a listing takes no more memory than a page may.
#[test]
fn hostile_listings_stay_small() {
    let document = |root: &str, piece: &str| format!("<{root}>{}</{root}>", piece.repeat((1 << 20) / piece.len()));
    for (root, piece) in [
        ("ListVersionsResult", "<Version/>"),
        ("ListVersionsResult", "<DeleteMarker></DeleteMarker>"),
        ("ListBucketResult", "<Contents/>"),
    ] {
        let xml = document(root, piece);
        let detail = read(xml.as_bytes(), site()).unwrap_err().detail;
        let other = objects::read(xml.as_bytes()).unwrap_err();
        let told = if root == "ListBucketResult" { &other } else { &detail };
        assert!(told.contains("more entries than"), "{detail} and {other}");
    }
    let deep = "<a>".repeat(1 << 18);
    assert!(read(deep.as_bytes(), site()).unwrap_err().detail.contains("too deep"));
}
