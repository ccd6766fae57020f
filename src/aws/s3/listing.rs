//! ListObjectVersions, read from the document itself.
//!
//! The SDK sorts versions and delete markers into two lists, and with that loses their order within one second
//! (aws-semantics 6). The document has them in order.

use percent_encoding::percent_decode_str;
use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

use super::headers;
use crate::aws::fault::Site;
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::{Key, Timestamp, VersionEntry, VersionId};
use crate::ports::VersionPage;

/// Reads one page.
pub(super) fn read(xml: &[u8], site: Site) -> Result<VersionPage, Fault> {
    // S3 may answer 200 with an incomplete document: that passes, so it must not read as a refusal (aws-semantics 3.6).
    parse(xml).map_err(|detail| site.fault(FaultKind::Transient, format!("the listing could not be read: {detail}")))
}

/// One `<Version>` or `<DeleteMarker>`, as far as it has been read.
#[derive(Default)]
struct Row {
    marker: bool,
    key: Option<String>,
    version: Option<String>,
    latest: bool,
    modified: Option<String>,
    etag: Option<String>,
    size: Option<String>,
}

#[derive(Default)]
struct Page {
    rows: Vec<Row>,
    encoded: bool,
    truncated: bool,
    next_key: Option<String>,
    next_version: Option<String>,
}

fn parse(xml: &[u8]) -> Result<VersionPage, String> {
    let mut reader = Reader::from_reader(xml);
    let mut page = Page::default();
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut whole = false;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(tag) => {
                let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                if path.len() == 1 && (name == "Version" || name == "DeleteMarker") {
                    page.rows.push(Row { marker: name == "DeleteMarker", ..Row::default() });
                }
                path.push(name);
                text.clear();
            }
            Event::Text(piece) => text.push_str(&piece.decode().map_err(|error| error.to_string())?),
            Event::CData(piece) => text.push_str(&piece.decode().map_err(|error| error.to_string())?),
            Event::GeneralRef(entity) => text.push_str(&entity_text(&entity)?),
            Event::End(_) => {
                note(&mut page, &path, &mut text);
                path.pop();
                whole = path.is_empty();
            }
            Event::Eof if whole => return finish(page),
            Event::Eof => return Err("it ends in the middle".to_owned()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn entity_text(entity: &BytesRef<'_>) -> Result<String, String> {
    if let Some(character) = entity.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character.to_string());
    }
    let name = entity.decode().map_err(|error| error.to_string())?;
    quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned).ok_or(format!("unknown entity &{name};"))
}

/// Keeps the text of the element that ends here.
fn note(page: &mut Page, path: &[String], text: &mut String) {
    let told = std::mem::take(text);
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    match names.as_slice() {
        [_, "EncodingType"] => page.encoded = told == "url",
        [_, "IsTruncated"] => page.truncated = told == "true",
        [_, "NextKeyMarker"] => page.next_key = Some(told),
        [_, "NextVersionIdMarker"] => page.next_version = Some(told),
        [_, "Version" | "DeleteMarker", field] => {
            let Some(row) = page.rows.last_mut() else { return };
            match *field {
                "Key" => row.key = Some(told),
                "VersionId" => row.version = Some(told),
                "IsLatest" => row.latest = told == "true",
                "LastModified" => row.modified = Some(told),
                "ETag" => row.etag = Some(told),
                "Size" => row.size = Some(told),
                _ => {}
            }
        }
        _ => {}
    }
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
    let key = decode(&row.key.ok_or("an entry has no Key")?, encoded)?;
    let lacks = |field: &str| format!("the entry of \"{key}\" has no readable {field}");
    let modified = row.modified.as_deref().and_then(Timestamp::parse_rfc3339).ok_or_else(|| lacks("LastModified"))?;
    let object = if row.marker {
        None
    } else {
        let size = row.size.and_then(|size| size.parse().ok()).ok_or_else(|| lacks("Size"))?;
        Some((headers::etag(&row.etag.ok_or_else(|| lacks("ETag"))?), size))
    };
    let version = row.version.filter(|id| !id.is_empty()).map_or_else(VersionId::null, VersionId::new);
    Ok(VersionEntry { key: Key::new(&key), version, latest: row.latest, modified, object })
}

/// `encoding-type=url` is form encoding: a space comes as `+`, a plus as `%2B`.
pub(super) fn decode(text: &str, encoded: bool) -> Result<String, String> {
    if !encoded {
        return Ok(text.to_owned());
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| format!("the key \"{text}\" is not UTF-8"))
}

#[cfg(test)]
#[path = "listing/tests.rs"]
mod tests;
