use super::*;
use crate::plan::route::History;
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
