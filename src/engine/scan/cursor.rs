//! Where a scan is, as the ledger keeps it.

use std::str;

use crate::audit::range::Span;
use crate::engine::Settings;
use crate::engine::digest::Hashed;
use crate::model::digest::Algorithm;
use crate::model::object::Key;
use crate::plan::route::{History, Rule};

/// What of a scan is left to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// What the scan lists in all: a cursor of another listing says nothing.
    pub(super) of: Vec<String>,
    /// What is left of it.
    pub(super) left: Vec<Span>,
}

impl Cursor {
    /// How many texts and which, then three for each span.
    pub(super) fn write(&self) -> Vec<u8> {
        let count = self.of.len().to_string();
        let spans = self.left.iter().flat_map(|span| {
            [Some(&*span.prefix), span.after.as_ref().map(Key::as_str), span.upto.as_ref().map(Key::as_str)]
        });
        write_texts(
            std::iter::once(Some(count.as_str())).chain(self.of.iter().map(|text| Some(text.as_str()))).chain(spans),
        )
    }

    /// `None` for anything else than what [`Self::write`] writes: then the scan begins anew.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut texts = read_texts(bytes)?.into_iter();
        let count: usize = texts.next()??.parse().ok()?;
        let of = (0..count).map(|_| texts.next()?).collect::<Option<_>>()?;
        let mut left = Vec::new();
        while let Some(prefix) = texts.next() {
            let (prefix, after, upto) = (prefix?.into(), texts.next()?.map(Key::new), texts.next()?.map(Key::new));
            left.push(Span { prefix, after, upto });
        }
        Some(Self { of, left })
    }
}

/// What these rules bring, and where to, in a few letters: where a listing of other rules was says nothing, as what they
/// bring may lie before it. How replicas are written does not count: a scan leaves those that are there as they are.
pub(in crate::engine) fn fingerprint(settings: &Settings, rules: &[Rule]) -> String {
    let mut texts = vec![Some(settings.source_bucket.clone())];
    for rule in rules {
        let Rule { id, target, priority, prefix, tags, delete_markers, enabled, history, target_prefix, .. } = rule;
        let bucket = settings.targets.get(target).map_or("", |target| &target.bucket);
        let history = match history {
            History::All => "all",
            History::Latest => "latest",
        };
        let named = [id.as_str(), target.as_str(), bucket, prefix, target_prefix, history].map(str::to_owned);
        texts.extend(named.map(Some));
        texts.extend([priority.to_string(), delete_markers.to_string(), enabled.to_string()].map(Some));
        texts.extend(tags.iter().flat_map(|(name, value)| [Some(name.clone()), Some(value.clone())]));
        texts.push(None);
    }
    let spelled = write_texts(texts.iter().map(Option::as_deref));
    Hashed::of(Algorithm::Sha256, &spelled).checksum().value
}

/// Each text as its length in bytes, a colon and itself, as keys may contain anything; what is not given is `-`.
pub(in crate::engine) fn write_texts<'t>(texts: impl Iterator<Item = Option<&'t str>>) -> Vec<u8> {
    let mut out = String::new();
    for text in texts {
        match text {
            Some(text) => {
                out.push_str(&text.len().to_string());
                out.push(':');
                out.push_str(text);
            }
            None => out.push('-'),
        }
    }
    out.into_bytes()
}

/// What [`write_texts`] wrote; `None` for anything else.
pub(in crate::engine) fn read_texts(bytes: &[u8]) -> Option<Vec<Option<String>>> {
    let mut rest = str::from_utf8(bytes).ok()?;
    let mut texts = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('-') {
            texts.push(None);
            rest = after;
            continue;
        }
        let (length, after) = rest.split_once(':')?;
        let (text, after) = after.split_at_checked(length.parse().ok()?)?;
        texts.push(Some(text.to_owned()));
        rest = after;
    }
    Some(texts)
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
