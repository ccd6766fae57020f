//! One line of a list of objects.

use csv::ReaderBuilder;
use percent_encoding::percent_decode_str;

use crate::model::object::{ETag, Key, Timestamp, VersionId};
use crate::model::words::shown;
use crate::plan::route::MAX_KEY_BYTES;

/// The longest reason why a line or a manifest is of no use, in characters.
pub(super) const REASON: usize = 300;

/// What each column of a list tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Where the columns that are read stand.
    bucket: usize,
    key: usize,
    version: Option<usize>,
    latest: Option<usize>,
    marker: Option<usize>,
    size: Option<usize>,
    modified: Option<usize>,
    etag: Option<usize>,
    /// The fewest and the most fields of a line.
    fields: (usize, usize),
    /// What an empty version means.
    unversioned: VersionId,
}

/// One object version of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Key,
    /// Unnamed where the list does not tell versions.
    pub(super) version: VersionId,
    /// Whether it is a delete marker; `None` where the list does not tell.
    pub(super) marker: Option<bool>,
    /// Whether it was current when the list was made; `None` where the list does not tell.
    pub(super) latest: Option<bool>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<Timestamp>,
    pub(super) etag: Option<ETag>,
}

impl Columns {
    /// By the `fileSchema` of an Inventory; otherwise what it lacks.
    pub(super) fn named(schema: &str) -> Result<Self, String> {
        let names: Vec<&str> = schema.split(',').map(str::trim).collect();
        let place = |name: &str| names.iter().position(|known| known.eq_ignore_ascii_case(name));
        let needed = |name: &str| place(name).ok_or_else(|| format!("its fileSchema {schema:?} has no column {name}"));
        Ok(Self {
            bucket: needed("Bucket")?,
            key: needed("Key")?,
            version: place("VersionId"),
            latest: place("IsLatest"),
            marker: place("IsDeleteMarker"),
            size: place("Size"),
            modified: place("LastModifiedDate"),
            etag: place("ETag"),
            fields: (names.len(), names.len()),
            // S3 leaves the id of the null version out.
            unversioned: VersionId::null(),
        })
    }

    /// Of a list as S3 Batch Operations takes it: `bucket,key[,version]`.
    pub(super) fn plain() -> Self {
        Self {
            bucket: 0,
            key: 1,
            version: Some(2),
            latest: None,
            marker: None,
            size: None,
            modified: None,
            etag: None,
            fields: (2, 3),
            unversioned: VersionId::unnamed(),
        }
    }

    /// Whether a line only names the columns of a plain list.
    pub(super) fn is_title(line: &[u8], bucket: &str) -> bool {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        let mut fields = line.trim().split(',').map(|field| field.trim().trim_matches('"'));
        bucket != "bucket" && fields.next() == Some("bucket") && fields.next() == Some("key")
    }

    /// Reads one line of a list of that bucket; otherwise why it cannot be.
    pub(super) fn read(&self, line: &[u8], bucket: &str) -> Result<Row, String> {
        self.row(line, bucket).map_err(|reason| shown(&reason, REASON))
    }

    fn row(&self, line: &[u8], bucket: &str) -> Result<Row, String> {
        let mut fields = csv::StringRecord::new();
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(256).from_reader(line);
        // A quote that is never closed would pass: the end of the line closes it.
        let open = line.iter().filter(|byte| **byte == b'"').count() % 2 > 0;
        match reader.read_record(&mut fields) {
            Ok(true) if !open && reader.position().byte() >= line.len() as u64 => {}
            Ok(_) => return Err("it is not one line of CSV".to_owned()),
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                return Err("it is not UTF-8".to_owned());
            }
            Err(error) => return Err(format!("it is not CSV: {error}")),
        }
        let (fewest, most) = self.fields;
        if !(fewest..=most).contains(&fields.len()) {
            let expected = if fewest == most { format!("{fewest}") } else { format!("{fewest} or {most}") };
            return Err(format!("it has {} fields, {expected} were expected", fields.len()));
        }
        let field = |place: usize| fields.get(place).map(str::trim).unwrap_or_default();
        let told = |place: Option<usize>| place.map(field).filter(|text| !text.is_empty());
        if field(self.bucket) != bucket {
            return Err(format!("it is of bucket {:?}, and the source is {bucket:?}", field(self.bucket)));
        }
        let unversioned = || self.version.map_or_else(VersionId::unnamed, |_| self.unversioned.clone());
        Ok(Row {
            // Not trimmed: a key may begin or end with anything.
            key: key(fields.get(self.key).unwrap_or_default())?,
            version: told(self.version).map_or_else(unversioned, VersionId::new),
            marker: told(self.marker).map(|text| flag("IsDeleteMarker", text)).transpose()?,
            latest: told(self.latest).map(|text| flag("IsLatest", text)).transpose()?,
            size: told(self.size).map(|text| text.parse().map_err(|_| format!("{text:?} is no size"))).transpose()?,
            modified: told(self.modified)
                .map(|text| Timestamp::parse_rfc3339(text).ok_or_else(|| format!("{text:?} is no date")))
                .transpose()?,
            etag: told(self.etag).map(|text| ETag::new(text.trim_matches('"'))),
        })
    }
}

fn flag(name: &str, text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{name} is {text:?}, neither true nor false")),
    }
}

/// Keys are URL-encoded as in forms: a space comes as `+` or `%20`, a plus as `%2B`.
fn key(text: &str) -> Result<Key, String> {
    let escapes = text.split('%').skip(1);
    let whole = |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !escapes.into_iter().all(whole) {
        return Err(format!("its key {text:?} is not URL-encoded: a percent sign is written %25"));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| format!("its key {text:?} is not UTF-8"))?;
    match decoded.len() {
        0 => Err("its key is empty".to_owned()),
        1..=MAX_KEY_BYTES => Ok(Key::new(decoded)),
        bytes => Err(format!("its key has {bytes} bytes, S3 permits {MAX_KEY_BYTES}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::{cases, corpus, damaged, is_a_sentence};
    use proptest::prelude::*;

    fn plain(line: &str) -> Result<Row, String> {
        Columns::plain().read(line.as_bytes(), "acme")
    }

    #[test]
    fn plain_lists() {
        let row = plain("acme,photos/a%2Bb+c%20d.jpg\r").unwrap();
        assert_eq!((row.key.as_str(), row.version.is_unnamed()), ("photos/a+b c d.jpg", true));
        assert_eq!(plain("\"acme\",\"k,\"\"1\"\"\",3sL4").unwrap().key.as_str(), "k,\"1\"");
        assert_eq!(plain("acme,k,3sL4").unwrap().version.as_str(), "3sL4");
        assert!(plain("acme,k,").unwrap().version.is_unnamed());
        assert!(plain("acme,k,null").unwrap().version.is_null());
        assert!(Columns::is_title(b"Bucket, Key,VersionId", "acme") && !Columns::is_title(b"acme,key", "acme"));
        assert!(!Columns::is_title(b"bucket,key", "bucket"));
    }

    #[test]
    fn columns_of_an_inventory_stand_in_any_order() {
        let columns = Columns::named(
            "ETag, Key, IsLatest, StorageClass, Bucket, Size, VersionId, LastModifiedDate, IsDeleteMarker",
        )
        .unwrap();
        let row = |line: &str| columns.read(line.as_bytes(), "acme");
        let told =
            row(r#""9e10","a%2Fb","true","STANDARD","acme","17","","2026-11-21T14:03:05.000Z","false""#).unwrap();
        assert_eq!(
            (told.key.as_str(), told.size, told.latest, told.marker),
            ("a/b", Some(17), Some(true), Some(false))
        );
        assert!(told.version.is_null(), "the null version has no id there");
        assert_eq!(told.modified.unwrap().rfc3339(), "2026-11-21T14:03:05Z");
        let marker = row(r#""","k","false","","acme","","v9","2026-11-21T14:03:05.000Z","true""#).unwrap();
        assert_eq!((marker.size, marker.marker, marker.etag), (None, Some(true), None));
        assert!(Columns::named("Bucket, Key").unwrap().read(b"acme,k", "acme").unwrap().version.is_unnamed());
    }

    #[test]
    fn a_bad_line_is_told_why() {
        for (line, told) in [
            ("acme", "it has 1 fields, 2 or 3 were expected"),
            ("acme,k,v,w", "it has 4 fields"),
            ("other,k", "it is of bucket \"other\", and the source is \"acme\""),
            ("acme,", "its key is empty"),
            ("acme,100%", "not URL-encoded"),
            ("acme,100%zz", "not URL-encoded"),
            ("acme,%ff", "not UTF-8"),
            ("acme,\"open", "not one line of CSV"),
        ] {
            let reason = plain(line).map(|row| row.key).unwrap_err();
            assert!(reason.contains(told), "{line}: {reason}");
        }
        assert!(plain(&format!("acme,{}", "k".repeat(1025))).unwrap_err().contains("1025 bytes"));
        assert!(Columns::plain().read(b"acme,\xff", "acme").unwrap_err().contains("not UTF-8"));
        let sized = Columns::named("Bucket,Key,Size,LastModifiedDate,IsLatest").unwrap();
        for (line, told) in [("acme,k,-1,,", "no size"), ("acme,k,1,soon,", "no date"), ("acme,k,1,,maybe", "neither")]
        {
            assert!(sized.read(line.as_bytes(), "acme").unwrap_err().contains(told), "{line}");
        }
    }

    proptest! {
        #[test]
        fn every_key_survives_its_encoding(key in "\\PC{1,60}|[ +%,\"\\r\\n\\x00-\\x1f]{1,20}") {
            let encoded: String = key.bytes().map(|byte| match byte {
                b'a'..=b'z' | b'/' | b'-' => char::from(byte).to_string(),
                b' ' => "+".to_owned(),
                byte => format!("%{byte:02X}"),
            }).collect();
            let row = plain(&format!("\"acme\",\"{encoded}\",\"v1\""));
            prop_assert_eq!(row.map(|row| row.key), Ok(Key::new(key)));
        }
    }

    proptest! {
        #![proptest_config(cases(2000))]

        #[test]
        fn hostile_lines_are_answered(text in damaged(corpus("list"))) {
            let inventory = Columns::named("Bucket,Key,VersionId,IsLatest,IsDeleteMarker,Size,LastModifiedDate,ETag");
            for columns in [Columns::plain(), inventory.unwrap()] {
                for line in text.split(|byte| *byte == b'\n').take(30) {
                    match columns.read(line, "acme") {
                        Ok(row) => prop_assert!((1..=1024).contains(&row.key.as_str().len())),
                        Err(reason) => is_a_sentence(&reason)?,
                    }
                }
            }
        }
    }
}
