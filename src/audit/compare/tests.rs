use super::*;
use crate::audit::range::Page;
use crate::model::fault::Fault;
use crate::model::object::{ETag, Listed, Timestamp};
use crate::plan::route::History;
use crate::ports::ListFrom;
use std::collections::BTreeMap;

fn rule(id: &str, prefix: &str, target_prefix: &str) -> Rule {
    Rule {
        id: id.into(),
        target: "dr".into(),
        priority: 1,
        prefix: prefix.to_owned(),
        tags: BTreeMap::new(),
        delete_markers: false,
        enabled: true,
        history: History::All,
        storage_class: None,
        kms_key: None,
        kms_map: BTreeMap::new(),
        owner_full_control: false,
        acl: false,
        target_prefix: target_prefix.to_owned(),
        stamp: true,
    }
}

fn prefixes(rules: &[Rule], wanted: &str, only: Option<&str>) -> Vec<(String, String)> {
    let only = only.map(RuleId::new);
    scopes(rules, wanted, only.as_ref()).into_iter().map(|scope| (scope.target_prefix, scope.prefix)).collect()
}

fn pair(target_prefix: &str, prefix: &str) -> (String, String) {
    (target_prefix.to_owned(), prefix.to_owned())
}

#[test]
fn nothing_is_listed_twice_and_nothing_forgotten() {
    let rules = [rule("a", "logs/app/", ""), rule("b", "logs/", ""), rule("c", "img/", ""), rule("d", "img/", "us/")];
    assert_eq!(prefixes(&rules, "", None), [pair("", "logs/"), pair("", "img/"), pair("us/", "img/")]);
    assert_eq!(prefixes(&rules, "logs/app/x", None), [pair("", "logs/app/x")]);
    assert_eq!(prefixes(&rules, "", Some("a")), [pair("", "logs/app/")]);
    assert_eq!(prefixes(&rules, "docs/", None), []);
    let disabled = [Rule { enabled: false, ..rule("a", "", "") }];
    assert_eq!(prefixes(&disabled, "", None), []);
}

#[test]
fn one_step_at_a_time() {
    let bytes = KeyOrder::Bytes;
    assert_eq!(step(bytes, None, None), Step::End);
    assert_eq!(step(bytes, Some("a"), None), Step::Source);
    assert_eq!(step(bytes, None, Some("a")), Step::Target);
    assert_eq!(step(bytes, Some("a"), Some("a")), Step::Both);
    assert_eq!(step(bytes, Some("a-b"), Some("a/b")), Step::Source);
    assert_eq!(step(KeyOrder::Paths, Some("a-b"), Some("a/b")), Step::Target);
    assert_eq!(step(bytes, Some("\u{ffee}"), Some("\u{1F600}")), Step::Source, "UTF-8, not UTF-16");
}

#[test]
fn keys_are_rewritten_there_and_back() {
    let scope = scopes(&[rule("a", "logs/", "us/")], "", None).remove(0);
    assert_eq!(scope.at_target("logs/1"), "us/logs/1");
    assert_eq!(scope.at_source(&Key::new("us/logs/1")), Some(Key::new("logs/1")));
    assert_eq!(scope.at_source(&Key::new("eu/logs/1")), None);
}

/// A bucket of numbered keys that are made when they are listed: every `gap`th is missing.
#[derive(Clone, Debug)]
struct Numbered {
    keys: u64,
    gap: u64,
}

/// A quarter flat, the rest in a tree; ascending with the number.
fn numbered(number: u64) -> String {
    if number % 4_000_000 < 1_000_000 {
        format!("a/{:04}/object-{number:09}", number / 4_000_000)
    } else {
        format!("a/{:04}/p/{:06}/{:03}/object-{number:09}", number / 4_000_000, number / 1000, number / 100 % 10)
    }
}

impl Pages for Numbered {
    type Item = Listed;
    type From = ListFrom;

    fn start(&self, after: Option<&Key>) -> ListFrom {
        after.cloned().map_or(ListFrom::Start, ListFrom::After)
    }

    async fn page(&self, _prefix: &str, from: ListFrom) -> Result<Page<Listed, ListFrom>, Fault> {
        tokio::task::yield_now().await;
        let first = match &from {
            ListFrom::Start => 0,
            ListFrom::Token(token) => token.parse().unwrap(),
            ListFrom::After(key) => {
                let (mut low, mut high) = (0, self.keys);
                while low < high {
                    let middle = u64::midpoint(low, high);
                    if numbered(middle).as_str() <= key.as_str() { low = middle + 1 } else { high = middle }
                }
                low
            }
        };
        let mut numbers = (first..self.keys).filter(|number| number % self.gap != self.gap - 1);
        let items: Vec<Listed> = numbers.by_ref().take(1000).map(|number| listed(&numbered(number))).collect();
        let next = numbers.next().map(|next| ListFrom::Token(next.to_string()));
        Ok(Page { items, next, order: KeyOrder::Bytes })
    }
}

fn listed(key: &str) -> Listed {
    Listed {
        key: Key::new(key),
        size: 1,
        etag: ETag::new("d41d8cd98f00b204e9800998ecf8427e"),
        modified: Timestamp(0),
        storage_class: Some("STANDARD".to_owned()),
        checksum: None,
    }
}

/// Compares both sides; counts of keys at the source alone, the target alone, and on both.
fn merged(keys: u64) -> [u64; 3] {
    let scope = scopes(&[rule("a", "", "")], "", None).remove(0);
    let side = |gap| Ranges::new(Numbered { keys, gap }, "");
    let mut merge = Merge::new(scope, KeyOrder::Bytes, side(1_000), side(777));
    let mut counts = [0; 3];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        while let Some(pair) = merge.next().await {
            match pair {
                Pair::Source(_) => counts[0] += 1,
                Pair::Target(_) => counts[1] += 1,
                Pair::Both(..) => counts[2] += 1,
                Pair::Hole(side, hole) => panic!("{side:?} {hole:?}"),
            }
        }
    });
    counts
}

fn expected(keys: u64) -> [u64; 3] {
    let (source, target, both) = (keys / 1_000, keys / 777, keys / 777_000);
    [target - both, source - both, keys - source - target + both]
}

/// The most memory this process ever had resident, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn many_keys_are_merged() {
    assert_eq!(merged(100_000), expected(100_000));
}

/// P10: run it alone, `cargo test --lib ten_million -- --ignored --nocapture`: the bound is one of the whole process.
#[test]
#[ignore = "minutes; measures the memory of the process"]
#[allow(clippy::disallowed_methods, reason = "a measurement")]
fn ten_million_keys_are_merged_in_little_memory() {
    const KEYS: u64 = 10_000_000;
    let began = std::time::Instant::now();
    assert_eq!(merged(KEYS), expected(KEYS));
    let (seconds, peak) = (began.elapsed().as_secs_f64(), peak_kib());
    eprintln!("{KEYS} keys on each side in {seconds:.0} s, {peak} KiB at most");
    assert!(peak < 96 << 10, "{peak} KiB");
}
