//! Where to cut a key space of which only a page has been seen.
//!
//! Keys are read as numbers over the characters that they are seen to use, so that a counter, a hash or a date goes on
//! evenly. A bad guess costs a request, never a key: a cut is only a bound between two listings, and ends with `/`.

use crate::model::object::{Key, KeyOrder};
use crate::plan::route::MAX_KEY_BYTES;

/// Keys of a page that are looked at to learn the characters in use: enough to see every digit.
const SAMPLED: usize = 64;
/// Characters of a key that count as its number.
const DIGITS: usize = 24;
/// Characters before the first difference that count too, as room for a carry.
const ROOM: usize = 6;

/// What one page tells of how keys go on.
#[derive(Clone, Debug)]
pub(super) struct Guide {
    order: KeyOrder,
    stem: String,
    alphabet: Vec<char>,
    last: Key,
    /// `last`, and how far one page goes, as numbers.
    at: u128,
    stride: u128,
    /// How many pages behind `last` the range begins that goes by this guide.
    ahead: u32,
}

impl Guide {
    /// From the keys of so many pages in a row, in order; `None` where they do not tell.
    pub(super) fn of<'k>(
        order: KeyOrder,
        keys: impl ExactSizeIterator<Item = &'k Key> + Clone,
        pages: u32,
    ) -> Option<Self> {
        let (first, last) = (keys.clone().next()?, keys.clone().last()?);
        let stem = stem(first.as_str(), last.as_str());
        let every = keys.len().div_ceil(SAMPLED).max(1);
        let mut alphabet: Vec<char> = keys
            .step_by(every)
            .chain([last])
            .filter_map(|key| key.as_str().strip_prefix(stem))
            .flat_map(str::chars)
            .collect();
        alphabet.sort_by(|one, other| by_order(order, *one, *other));
        alphabet.dedup();
        let mut guide = Self { order, stem: stem.to_owned(), alphabet, last: last.clone(), at: 0, stride: 0, ahead: 0 };
        guide.at = guide.number(last.as_str())?;
        let span = guide.at.checked_sub(guide.number(first.as_str())?)?;
        guide.stride = span.checked_div(u128::from(pages)).filter(|stride| *stride > 0)?;
        Some(guide)
    }

    /// The same guide, for the range that begins so many pages further on.
    pub(super) fn further(&self, pages: u32) -> Self {
        Self { ahead: self.ahead.saturating_add(pages), ..self.clone() }
    }

    /// A bound about so many pages after where the range begins; `None` where the keys are not expected to go that far.
    pub(super) fn cut(&self, pages: u32) -> Option<Key> {
        let pages = u128::from(self.ahead.saturating_add(pages));
        // Never a directory's bare name: a store that keeps directories takes that for done when asked what comes after
        // it, and leaves out all that is inside (SeaweedFS 4.48).
        let text = self.text(self.stride.checked_mul(pages)?.checked_add(self.at)?)? + "/";
        let later = self.order.compare(&text, self.last.as_str()).is_gt();
        (later && text.len() <= MAX_KEY_BYTES).then(|| Key::new(text))
    }

    fn radix(&self) -> u128 {
        self.alphabet.len() as u128 + 1
    }

    fn places(&self) -> usize {
        let mut room = u128::MAX >> 8;
        let mut places = 0;
        while places < DIGITS && room >= self.radix() {
            room /= self.radix();
            places += 1;
        }
        places
    }

    fn number(&self, key: &str) -> Option<u128> {
        let mut rest = key.strip_prefix(&self.stem)?.chars();
        (0..self.places()).try_fold(0_u128, |number, _| {
            let rank = match rest.next() {
                None => 0,
                Some(c) => self.alphabet.partition_point(|known| by_order(self.order, *known, c).is_lt()) + 1,
            };
            number.checked_mul(self.radix())?.checked_add((rank as u128).min(self.radix() - 1))
        })
    }

    fn text(&self, number: u128) -> Option<String> {
        let mut ranks = Vec::new();
        let mut rest = number;
        for _ in 0..self.places() {
            ranks.push(usize::try_from(rest % self.radix()).ok()?);
            rest /= self.radix();
        }
        if rest > 0 {
            return None;
        }
        let digits = ranks.iter().rev().map_while(|rank| self.alphabet.get(rank.checked_sub(1)?));
        Some(self.stem.chars().chain(digits.copied()).collect())
    }
}

/// What both keys begin with, less some room, but never into another directory.
fn stem<'k>(first: &'k str, last: &str) -> &'k str {
    let equal: usize =
        first.chars().zip(last.chars()).take_while(|(one, other)| one == other).map(|(c, _)| c.len_utf8()).sum();
    let common = first.get(..equal).unwrap_or_default();
    let directory = common.rfind('/').map_or(0, |slash| slash + 1);
    let cut = common.char_indices().rev().take(ROOM).last().map_or(0, |(at, _)| at);
    common.get(..cut.max(directory)).unwrap_or_default()
}

fn by_order(order: KeyOrder, one: char, other: char) -> std::cmp::Ordering {
    order.compare(one.encode_utf8(&mut [0; 4]), other.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: &[String]) -> Vec<Key> {
        texts.iter().map(Key::new).collect()
    }

    #[test]
    fn a_counter_goes_on_evenly() {
        let page = keys(&(0..1000).map(|n| format!("logs/obj-{n:09}")).collect::<Vec<_>>());
        let guide = Guide::of(KeyOrder::Bytes, page.iter(), 1).unwrap();
        let cut = guide.cut(4).unwrap();
        assert!(("logs/obj-000004000".."logs/obj-000006000").contains(&cut.as_str()), "{cut}");
        let next = guide.further(4).cut(4).unwrap();
        assert!(("logs/obj-000007500".."logs/obj-000011000").contains(&next.as_str()), "{next}");
    }

    #[test]
    fn hashes_are_cut_by_their_digits() {
        let page = keys(&(0..100_u32).map(|n| format!("{:08x}", n * 0x1000)).collect::<Vec<_>>());
        let cut = Guide::of(KeyOrder::Bytes, page.iter(), 1).unwrap().cut(2).unwrap();
        assert!(cut.as_str() > "00063000" && cut.as_str() < "00200000", "{cut}");
    }

    #[test]
    fn no_cut_where_nothing_follows_or_nothing_is_known() {
        assert!(Guide::of(KeyOrder::Bytes, [].iter(), 1).is_none());
        assert!(Guide::of(KeyOrder::Bytes, keys(&["a".to_owned()]).iter(), 1).is_none());
        let whole = keys(&["0".to_owned(), "9".to_owned()]);
        assert!(Guide::of(KeyOrder::Bytes, whole.iter(), 1).unwrap().cut(1).is_none());
    }
}
