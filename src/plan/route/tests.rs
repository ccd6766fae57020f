use super::*;
use crate::model::job::Origin;
use crate::model::object::{Timestamp, VersionId};

fn rule(id: &str, target: &str, priority: i64, prefix: &str) -> Rule {
    Rule {
        id: id.into(),
        target: target.into(),
        priority,
        prefix: prefix.to_owned(),
        tags: Tags::new(),
        delete_markers: false,
        enabled: true,
        history: History::All,
        storage_class: None,
        kms_key: None,
        kms_map: BTreeMap::new(),
        owner_full_control: false,
        acl: false,
        target_prefix: String::new(),
        stamp: true,
    }
}

fn tagged(rule: Rule, name: &str, value: &str) -> Rule {
    Rule { tags: Tags::from([(name.to_owned(), value.to_owned())]), ..rule }
}

fn change(key: &str, kind: ChangeKind) -> Change {
    Change {
        bucket: "b".to_owned(),
        key: key.into(),
        kind,
        version: VersionId::new("v1"),
        sequencer: None,
        etag: None,
        size: Some(1),
        changed: Timestamp(1),
        origin: Origin::Event,
    }
}

fn ids(routing: &Routing) -> Vec<&str> {
    routing.jobs.iter().map(|job| job.rule.as_str()).collect()
}

fn reason(routing: &Routing) -> &str {
    &routing.ignored[0].reason
}

#[test]
fn the_highest_priority_wins_per_target_and_other_targets_all_apply() {
    let rules = [rule("low", "t", 1, ""), rule("high", "t", 9, "a/"), rule("other", "u", 0, "a/")];
    assert_eq!(ids(&route(&rules, &change("a/k", ChangeKind::Write))), ["high", "other"]);
    assert_eq!(ids(&route(&rules, &change("b/k", ChangeKind::Write))), ["low"]);
}

#[test]
fn what_no_rule_claims_is_told_why() {
    let off = Rule { enabled: false, ..rule("off", "t", 5, "a/") };
    let rules = [off, rule("other", "t", 0, "b/")];
    assert_eq!(
        reason(&route(&rules, &change("a/k", ChangeKind::Write))),
        "rule \"off\" matches the key but is disabled"
    );
    assert_eq!(
        reason(&route(&rules, &change("c/k", ChangeKind::Write))),
        "no rule has a prefix that the key begins with"
    );
}

#[test]
fn delete_markers_go_only_where_a_rule_says_so() {
    let plain = [rule("plain", "t", 0, "")];
    assert_eq!(
        reason(&route(&plain, &change("k", ChangeKind::DeleteMarker))),
        "rule \"plain\" does not replicate delete markers"
    );
    let marking = Rule { delete_markers: true, ..rule("marking", "t", 0, "") };
    assert_eq!(ids(&route(std::slice::from_ref(&marking), &change("k", ChangeKind::DeleteMarker))), ["marking"]);
    // The tags of what it hides decide: until they are known, any of these rules may hold.
    let gold = tagged(rule("gold", "t", 9, ""), "class", "gold");
    assert_eq!(ids(&route(&[gold.clone(), marking.clone()], &change("k", ChangeKind::DeleteMarker))), ["gold"]);
    let marking_gold = Rule { delete_markers: true, ..gold };
    assert_eq!(ids(&route(&[marking_gold, plain[0].clone()], &change("k", ChangeKind::DeleteMarker))), ["gold"]);
    let below = Rule { priority: -1, ..marking };
    assert!(ids(&route(&[plain[0].clone(), below], &change("k", ChangeKind::DeleteMarker))).is_empty());
}

#[test]
fn tags_choose_when_they_are_known() {
    let rules = [tagged(rule("gold", "t", 9, ""), "class", "gold"), rule("rest", "t", 0, "a/")];
    let target = TargetId::new("t");
    let gold = Tags::from([("class".to_owned(), "gold".to_owned()), ("x".to_owned(), "y".to_owned())]);
    assert_eq!(choose(&rules, &target, &"a/k".into(), None), Choice::NeedsTags);
    assert_eq!(choose(&rules, &target, &"a/k".into(), Some(&gold)), Choice::Rule(&rules[0]));
    assert_eq!(choose(&rules, &target, &"a/k".into(), Some(&Tags::new())), Choice::Rule(&rules[1]));
    assert_eq!(
        choose(&rules, &target, &"b/k".into(), Some(&Tags::new())),
        Choice::Nothing("the object does not have the tags that its rules ask for".to_owned())
    );
}

#[test]
fn target_key_and_kms_key_follow_the_rule() {
    let mut rule = rule("r", "t", 0, "a/");
    rule.target_prefix = "from-us/".to_owned();
    rule.kms_key = Some("default".to_owned());
    rule.kms_map = BTreeMap::from([("source".to_owned(), "mapped".to_owned())]);
    assert_eq!(rule.target_key(&"a/k".into()).as_str(), "from-us/a/k");
    assert_eq!(rule.kms_key_for(Some("source")), Some("mapped"));
    assert_eq!(rule.kms_key_for(Some("unknown")), Some("default"));
    assert_eq!(rule.kms_key_for(None), Some("default"));
}
