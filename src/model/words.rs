//! What others said, as people can read it.

/// What is shown of the middle that was left out.
const LEFT_OUT: &str = " … ";

/// A text in one line of at most so many characters, as a terminal shows it: control characters are spelled out, and of
/// a longer text the beginning and the end are left.
#[must_use]
pub fn shown(text: &str, most: usize) -> String {
    let plain = !text.chars().any(char::is_control);
    if plain && text.len() <= most {
        return text.to_owned();
    }
    let count = text.chars().count();
    if count <= most {
        let whole: String = text.chars().flat_map(spell).collect();
        if whole.chars().count() <= most {
            return whole;
        }
    }
    let room = most.saturating_sub(LEFT_OUT.chars().count());
    let (head, tail) = (room - room / 3, room / 3);
    let begin: String = text.chars().take(head).flat_map(spell).take(head).collect();
    let end: Vec<char> = text.chars().skip(count.saturating_sub(tail)).flat_map(spell).collect();
    let end: String = end.iter().skip(end.len().saturating_sub(tail)).collect();
    format!("{begin}{LEFT_OUT}{end}")
}

fn spell(letter: char) -> impl Iterator<Item = char> {
    let control = letter.is_control();
    let plain = (!control).then_some(letter);
    plain.into_iter().chain(letter.escape_default().filter(move |_| control))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_short_and_plain_stays() {
        assert_eq!(shown("the key \"é\" is odd", 40), "the key \"é\" is odd");
        assert_eq!(shown("a\nb\u{1b}[2J", 40), "a\\nb\\u{1b}[2J");
        assert_eq!(shown("0123456789abcdefghij", 12), "012345 … hij");
    }

    proptest! {
        #[test]
        fn all_is_shown_within_bounds(text in "(\\PC|[\\x00-\\x1f\\x7f]){0,60}", most in 6_usize..50) {
            let told = shown(&text, most);
            prop_assert!(told.chars().count() <= most && !told.chars().any(char::is_control), "{}", told);
            prop_assert_eq!(told.is_empty(), text.is_empty());
        }
    }
}
