//! ListObjectVersions, read from the document itself.
//!
//! The SDK sorts versions and delete markers into two lists, and with that loses their order within one second
//! (aws-semantics 6). The document has them in order.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

use super::headers;
use crate::aws::fault::Site;
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{ETag, Key, Timestamp, VersionEntry, VersionId};
use crate::model::words::shown;
use crate::ports::VersionPage;

/// Reads one page.
pub(super) fn read(xml: &[u8], site: Site) -> Result<VersionPage, Fault> {
    // S3 may answer 200 with an incomplete document: that passes, so it must not read as a refusal (aws-semantics 3.6).
    let unreadable = |detail: String| format!("the listing could not be read: {}", shown(&detail, REASON));
    parse(xml).map_err(|detail| site.fault(FaultKind::Transient, unreadable(detail)))
}

/// One `<Version>` or `<DeleteMarker>`, as far as it has been read.
#[derive(Default)]
struct Row {
    marker: bool,
    key: Option<String>,
    version: Option<String>,
    latest: bool,
    modified: Option<Timestamp>,
    etag: Option<ETag>,
    size: Option<u64>,
    class: Option<String>,
}

#[derive(Default)]
struct Page {
    rows: Vec<Row>,
    encoded: bool,
    truncated: bool,
    next_key: Option<String>,
    next_version: Option<String>,
    too_many: bool,
    root: bool,
}

fn parse(xml: &[u8]) -> Result<VersionPage, String> {
    let mut page = Page::default();
    let mut row = Row::default();
    elements(xml, |path, text| match path {
        [_, b"EncodingType"] => page.encoded = text == "url",
        [_, b"IsTruncated"] => page.truncated = text == "true",
        [_, b"NextKeyMarker"] => page.next_key = Some(text.to_owned()),
        [_, b"NextVersionIdMarker"] => page.next_version = Some(text.to_owned()),
        [_, b"Version" | b"DeleteMarker", b"Key"] => row.key = Some(text.to_owned()),
        [_, b"Version" | b"DeleteMarker", b"VersionId"] => row.version = Some(text.to_owned()),
        [_, b"Version" | b"DeleteMarker", b"IsLatest"] => row.latest = text == "true",
        [_, b"Version" | b"DeleteMarker", b"LastModified"] => row.modified = Timestamp::parse_rfc3339(text),
        [_, b"Version", b"ETag"] => row.etag = Some(headers::etag(text)),
        [_, b"Version", b"StorageClass"] => row.class = headers::storage_class(text),
        [_, b"Version", b"Size"] => row.size = text.parse().ok(),
        [_, kind @ (b"Version" | b"DeleteMarker")] => {
            let marker = *kind == b"DeleteMarker";
            let row = Row { marker, ..std::mem::take(&mut row) };
            page.too_many = page.rows.len() >= MOST;
            if !page.too_many {
                page.rows.push(row);
            }
        }
        [root] => page.root = *root == b"ListVersionsResult",
        _ => {}
    })?;
    if page.too_many {
        return Err(format!("it has more entries than {MOST}"));
    }
    // Any other document would read as a page without versions, and what is not listed counts as gone.
    if page.root { finish(page) } else { Err("it is no listing".to_owned()) }
}

/// Entries of one page at most: S3 sends a thousand, whatever is asked for (API reference, `MaxKeys`); some stores more.
pub(super) const MOST: usize = 10_000;

/// The longest reason why a document cannot be read, in characters.
pub(super) const REASON: usize = 400;
/// How deep elements may lie at all: S3's own lie at six.
const DEEPEST: usize = 32;

/// How deep the elements lie that anybody asks for.
const DEPTH: usize = 3;

/// Tells the path and the text of every element down to [`DEPTH`], when it ends. A document that breaks off is an error.
pub(super) fn elements(xml: &[u8], mut tell: impl FnMut(&[&[u8]], &str)) -> Result<(), String> {
    let mut reader = Reader::from_reader(xml);
    reader.config_mut().expand_empty_elements = true;
    let mut names: [Vec<u8>; DEPTH] = Default::default();
    let (mut depth, mut whole) = (0_usize, false);
    let mut text = String::new();
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(tag) => {
                if let Some(name) = names.get_mut(depth) {
                    name.clear();
                    name.extend_from_slice(tag.local_name().as_ref());
                }
                depth += 1;
                if depth > DEEPEST {
                    return Err("its elements lie too deep".to_owned());
                }
                text.clear();
            }
            Event::Text(piece) => text.push_str(&piece.decode().map_err(|error| error.to_string())?),
            Event::CData(piece) => text.push_str(&piece.decode().map_err(|error| error.to_string())?),
            Event::GeneralRef(entity) => push_entity(&mut text, &entity)?,
            Event::End(_) => {
                let path = names.each_ref().map(Vec::as_slice);
                if let Some(path) = path.get(..depth) {
                    tell(path, &text);
                }
                text.clear();
                depth = depth.saturating_sub(1);
                whole = depth == 0;
            }
            Event::Eof if whole => return Ok(()),
            Event::Eof => return Err("it ends in the middle".to_owned()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn push_entity(text: &mut String, entity: &BytesRef<'_>) -> Result<(), String> {
    if let Some(character) = entity.resolve_char_ref().map_err(|error| error.to_string())? {
        text.push(character);
        return Ok(());
    }
    let name = entity.decode().map_err(|error| error.to_string())?;
    let known =
        quick_xml::escape::resolve_predefined_entity(&name).ok_or_else(|| format!("unknown entity &{name};"))?;
    text.push_str(known);
    Ok(())
}

fn finish(page: Page) -> Result<VersionPage, String> {
    let encoded = page.encoded;
    let next = match (page.truncated, page.next_key) {
        (false, _) => None,
        (true, Some(key)) => {
            Some((Key::new(decode(&key, encoded)?), VersionId::new(page.next_version.unwrap_or_default())))
        }
        (true, None) => return Err("it says that it goes on, but not where".to_owned()),
    };
    let entries = page.rows.into_iter().map(|row| entry(row, encoded)).collect::<Result<_, String>>()?;
    Ok(VersionPage { entries, next, ..VersionPage::default() })
}

fn entry(row: Row, encoded: bool) -> Result<VersionEntry, String> {
    let spelled = row.key.ok_or("an entry has no Key")?;
    let key = decode(&spelled, encoded)?;
    let lacks = |field: &str| format!("the entry of \"{key}\" has no readable {field}");
    let modified = row.modified.ok_or_else(|| lacks("LastModified"))?;
    let object = if row.marker {
        None
    } else {
        let size = row.size.ok_or_else(|| lacks("Size"))?;
        Some((row.etag.ok_or_else(|| lacks("ETag"))?, size))
    };
    let version = row.version.filter(|id| !id.is_empty()).map_or_else(VersionId::null, VersionId::new);
    let (latest, storage_class) = (row.latest, row.class);
    Ok(VersionEntry { key: Key::new(&key), version, latest, modified, object, storage_class })
}

/// `encoding-type=url` is form encoding: a space comes as `+`, a plus as `%2B`.
pub(super) fn decode(text: &str, encoded: bool) -> Result<Cow<'_, str>, String> {
    if !encoded || !text.bytes().any(|byte| byte == b'+' || byte == b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Ok(Cow::Owned(decoded.into_owned())),
        Err(_) => Err(format!("the key \"{text}\" is not UTF-8")),
    }
}

#[cfg(test)]
#[path = "listing/tests.rs"]
mod tests;
