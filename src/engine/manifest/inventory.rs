//! The manifest of an S3 Inventory: which files, and what their columns are.

use serde::Deserialize;

use super::columns::{Columns, REASON};
use crate::model::object::Key;
use crate::model::words::shown;

/// The longest manifest: one of ten thousand files takes some 2 MB, and all of it is held in memory.
pub(super) const LONGEST: u64 = 16 << 20;

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inventory {
    /// The bucket that holds the files.
    pub(super) bucket: String,
    /// What each line tells.
    pub(super) columns: Columns,
    /// Its files, in order.
    pub(super) files: Vec<File>,
}

/// One file of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) key: Key,
    /// Hexadecimal, lower case.
    pub(super) md5: String,
}

/// As S3 writes it (user guide, "Locating your inventory list").
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    source_bucket: String,
    destination_bucket: String,
    file_format: String,
    #[serde(default)]
    file_schema: String,
    files: Vec<WrittenFile>,
}

#[derive(Deserialize)]
struct WrittenFile {
    key: String,
    #[serde(rename = "MD5checksum")]
    md5: String,
}

/// Reads a manifest of that source bucket; otherwise one sentence on why it is of no use.
pub(super) fn read(text: &[u8], source_bucket: &str) -> Result<Inventory, String> {
    parse(text, source_bucket).map_err(|reason| shown(&reason, REASON))
}

fn parse(text: &[u8], source_bucket: &str) -> Result<Inventory, String> {
    let written: Written =
        serde_json::from_slice(text).map_err(|error| format!("it is no manifest of an S3 Inventory: {error}"))?;
    if written.source_bucket != source_bucket {
        return Err(format!("it lists bucket {:?}, and the source is {source_bucket:?}", written.source_bucket));
    }
    if !written.file_format.eq_ignore_ascii_case("CSV") {
        let format = &written.file_format;
        return Err(format!("its files are {format}, and only CSV can be read: set the inventory's format to CSV"));
    }
    let columns = Columns::named(&written.file_schema)?;
    let bucket = written.destination_bucket;
    // As an ARN: arn:aws:s3:::bucket.
    let bucket = bucket.rsplit(':').next().map(str::to_owned).filter(|name| !name.is_empty()).unwrap_or(bucket);
    let files = written.files.into_iter().map(|file| file_of(&file)).collect::<Result<_, _>>()?;
    Ok(Inventory { bucket, columns, files })
}

fn file_of(written: &WrittenFile) -> Result<File, String> {
    let md5 = written.md5.to_ascii_lowercase();
    if written.key.is_empty() || md5.len() != 32 || !md5.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("its file {:?} has no MD5checksum to be checked by", written.key));
    }
    Ok(File { key: Key::new(&written.key), md5 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::{cases, corpus, damaged, is_a_sentence};
    use proptest::prelude::*;

    fn manifest(from: &str, to: &str) -> Result<Inventory, String> {
        let text = r#"{"sourceBucket": "acme", "destinationBucket": "arn:aws:s3:::acme-lists", "version": "2016-11-30",
            "creationTimestamp": "1514944800000", "fileFormat": "CSV", "fileSchema": "Bucket, Key, Size",
            "files": [{"key": "l/data/1.csv.gz", "size": 99, "MD5checksum": "F11166069F1990ABEB9C97ACE9CDFABC"}]}"#;
        assert!(text.contains(from), "{from}");
        read(text.replace(from, to).as_bytes(), "acme")
    }

    #[test]
    fn a_manifest_names_its_files() {
        let inventory = manifest("acme", "acme").unwrap();
        let md5 = "f11166069f1990abeb9c97ace9cdfabc".to_owned();
        assert_eq!(inventory.bucket, "acme-lists");
        assert_eq!(inventory.files, [File { key: "l/data/1.csv.gz".into(), md5 }]);
        assert_eq!(manifest("arn:aws:s3:::acme-lists", "acme-lists").unwrap().bucket, "acme-lists");
    }

    #[test]
    fn what_is_of_no_use_is_told() {
        for (from, to, told) in [
            (
                r#""sourceBucket": "acme""#,
                r#""sourceBucket": "other""#,
                "it lists bucket \"other\", and the source is \"acme\"",
            ),
            (r#""CSV""#, r#""Parquet""#, "only CSV can be read"),
            (r#""CSV""#, r#""ORC""#, "its files are ORC"),
            ("Bucket, Key", "Bucket, Name", "no column Key"),
            ("F11166069F1990ABEB9C97ACE9CDFABC", "", "no MD5checksum"),
            (r#""files""#, r#""filez""#, "missing field `files`"),
        ] {
            let reason = manifest(from, to).unwrap_err();
            assert!(reason.contains(told), "{reason}");
        }
    }

    proptest! {
        #![proptest_config(cases(1000))]

        #[test]
        fn hostile_manifests_are_answered(text in damaged(corpus("inventory"))) {
            match read(&text, "acme") {
                Err(reason) => is_a_sentence(&reason)?,
                Ok(inventory) => prop_assert!(inventory.files.iter().all(|file| !file.key.as_str().is_empty())),
            }
        }
    }
}
