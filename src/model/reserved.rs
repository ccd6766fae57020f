//! The keys that `repl` writes for itself, in the users' own buckets.

use super::object::Key;

/// All of them begin so.
const OWN: &str = ".repl/";
/// The probes of `repl check`: never replicated, as they are gone a moment later.
pub const PROBES: &str = ".repl/check/";
/// The canary: written at the source, and replicated as any other object.
pub const CANARY: &str = ".repl/canary";

/// Whether a key is one that `repl` writes for itself, at the source or, behind a rule's prefix, at a target.
#[must_use]
pub fn is_own(key: &Key) -> bool {
    let key = key.as_str();
    key.starts_with(OWN) || key.ends_with(CANARY)
}

/// Whether a key is a probe of `repl check`.
#[must_use]
pub fn is_probe(key: &Key) -> bool {
    key.as_str().starts_with(PROBES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_keys_are_ours() {
        for own in [".repl/canary", ".repl/check/1/probe", "from-us/.repl/canary"] {
            assert!(is_own(&Key::new(own)), "{own}");
        }
        for other in ["", "canary", "a/.repl/check/1", "repl/canary", ".repl", ".replica/x", "a/.repl/canary/b"] {
            assert!(!is_own(&Key::new(other)), "{other}");
        }
        assert!(is_probe(&Key::new(".repl/check/1/probe")));
        assert!(!is_probe(&Key::new(".repl/canary")) && !is_probe(&Key::new("a/.repl/check/1")));
    }
}
