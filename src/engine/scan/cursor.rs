//! Where a scan is, as the ledger keeps it.

use std::str;

use crate::audit::range::Span;
use crate::model::object::Key;

/// What of a scan is left to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// What the scan lists in all: a cursor of another listing says nothing.
    pub(super) of: Vec<String>,
    /// What is left of it.
    pub(super) left: Vec<Span>,
}

impl Cursor {
    /// How many texts and which, then three for each span. A text is its length in bytes, a colon and itself, as keys
    /// may contain anything; what is not given is `-`.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = format!("{}:", self.of.len());
        self.of.iter().for_each(|text| put(&mut out, Some(text)));
        for span in &self.left {
            put(&mut out, Some(&span.prefix));
            put(&mut out, span.after.as_ref().map(Key::as_str));
            put(&mut out, span.upto.as_ref().map(Key::as_str));
        }
        out.into_bytes()
    }

    /// `None` for anything else than what [`Self::write`] writes: then the scan begins anew.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (count, mut rest) = str::from_utf8(bytes).ok()?.split_once(':')?;
        let mut cursor = Self { of: Vec::new(), left: Vec::new() };
        for _ in 0..count.parse().ok()? {
            cursor.of.push(take(&mut rest)??.to_owned());
        }
        while !rest.is_empty() {
            let prefix = take(&mut rest)??.into();
            let (after, upto) = (take(&mut rest)?.map(Key::new), take(&mut rest)?.map(Key::new));
            cursor.left.push(Span { prefix, after, upto });
        }
        Some(cursor)
    }
}

fn put(out: &mut String, text: Option<&str>) {
    match text {
        Some(text) => {
            out.push_str(&text.len().to_string());
            out.push(':');
            out.push_str(text);
        }
        None => out.push('-'),
    }
}

fn take<'t>(rest: &mut &'t str) -> Option<Option<&'t str>> {
    if let Some(after) = rest.strip_prefix('-') {
        *rest = after;
        return Some(None);
    }
    let (length, after) = rest.split_once(':')?;
    let (text, after) = after.split_at_checked(length.parse().ok()?)?;
    *rest = after;
    Some(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Option<Key>> {
        proptest::option::of("[\\PC\\n:\\-0-9]{0,20}").prop_map(|text| text.map(Key::new))
    }

    proptest! {
        #[test]
        fn cursors_survive_any_key(
            of in proptest::collection::vec("[\\PC\\n:\\-0-9]{0,9}", 0..4),
            spans in proptest::collection::vec(("[\\PC:\\-]{0,9}", key(), key()), 0..5),
        ) {
            let left = spans.into_iter().map(|(prefix, after, upto)| Span { prefix: prefix.into(), after, upto });
            let cursor = Cursor { of, left: left.collect() };
            prop_assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
        }

        #[test]
        fn nothing_else_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            if let Some(cursor) = Cursor::read(&bytes) {
                prop_assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
            }
        }
    }
}
