use super::*;
use crate::plan::route::History;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn rule() -> Rule {
    Rule {
        id: "r".into(),
        target: "t".into(),
        priority: 0,
        prefix: String::new(),
        tags: BTreeMap::new(),
        delete_markers: true,
        enabled: true,
        history: History::Latest,
        storage_class: None,
        kms_key: None,
        kms_map: BTreeMap::new(),
        owner_full_control: false,
        acl: false,
        target_prefix: String::new(),
        stamp: true,
    }
}

fn bringing(rule: &Rule, size: u64) -> Bringing<'_> {
    Bringing {
        size,
        etag: None,
        class: None,
        rule,
        standing: Standing::Absent,
        way: Way::Current,
        server_side: ServerSide::Never,
        source_key: Keys::Unused,
        target_key: Keys::Unused,
    }
}

/// Requests by kind, zeros left out, and bytes that go to the target.
fn used(bringing: &Bringing<'_>) -> (Vec<(&'static str, u64)>, u64) {
    let mut usage = Usage::default();
    bringing.count(&mut usage);
    let requests = Request::ALL.into_iter().map(|kind| (kind.name(), usage.of(kind))).filter(|(_, count)| *count > 0);
    (requests.collect(), usage.moved.values().sum())
}

#[test]
fn the_ways_of_the_engine() {
    let rule = rule();
    let small = bringing(&rule, 7);
    assert_eq!(used(&small), (vec![("get", 1), ("put", 1)], 7), "the cheap common case");
    let occupied = Bringing { standing: Standing::Occupied, ..small };
    assert_eq!(used(&occupied), (vec![("head", 2), ("get", 2), ("put", 2)], 14), "the first PUT loses its condition");
    let equal = Bringing { standing: Standing::Equal, ..small };
    assert_eq!(used(&equal), (vec![("head", 2), ("get", 1), ("put", 1)], 7));
    let older = Bringing { way: Way::Older, ..small };
    assert_eq!(used(&older), (vec![("list", 2), ("get", 1), ("put", 1)], 7));
    let hidden = Bringing { way: Way::Older, standing: Standing::Hidden, ..small };
    assert_eq!(used(&hidden), (vec![("list", 2), ("get", 1), ("put", 1)], 7));
    let newest = Bringing { way: Way::Newest, standing: Standing::Occupied, ..small };
    assert_eq!(used(&newest), (vec![("list", 2), ("head", 1), ("get", 2), ("put", 2)], 14));
}

#[test]
fn large_objects_and_parts() {
    let rule = rule();
    let large = bringing(&rule, 100 << 20);
    let whole = (vec![("head", 2), ("get", 2), ("get_attributes", 1), ("put", 1)], 100 << 20);
    assert_eq!(used(&large), whole, "one part, as at the source: the ETag stays comparable");
    let copied = Bringing { server_side: ServerSide::Large, ..large };
    assert_eq!(used(&copied).0, [("head", 2), ("get", 1), ("get_attributes", 1), ("copy", 1)]);
    let etag = ETag::new("9b2cf535f27731c974343645a3985328-13");
    let parts = Bringing { etag: Some(&etag), ..large };
    let expected = [
        ("head", 2),
        ("get", 14),
        ("get_attributes", 2),
        ("create_upload", 1),
        ("upload_part", 13),
        ("complete_upload", 1),
    ];
    assert_eq!(used(&parts), (expected.to_vec(), 100 << 20));
    let copied = Bringing { server_side: ServerSide::Large, ..parts };
    assert_eq!(used(&copied).0[3..], [("create_upload", 1), ("copy_part", 13), ("complete_upload", 1)]);
    let keyed = Rule { kms_key: Some("arn".to_owned()), ..rule.clone() };
    assert!(
        used(&bringing(&keyed, 100 << 20)).0.contains(&("upload_part", 7)),
        "nobody can compare: sixteen MiB parts"
    );
    let copied = Bringing { server_side: ServerSide::Large, ..bringing(&keyed, 5 << 30) };
    assert!(used(&copied).0.contains(&("copy", 1)), "the store copies in one request what was written in one");
}

#[test]
fn classes_keys_and_acls_are_counted_where_they_are_billed() {
    let rule = Rule { storage_class: Some("STANDARD_IA".to_owned()), acl: true, ..rule() };
    let etag = ETag::new("9b2cf535f27731c974343645a3985328-2");
    let keyed = Bringing {
        class: Some("ONEZONE_IA"),
        etag: Some(&etag),
        source_key: Keys::EachRequest,
        target_key: Keys::EachRequest,
        ..bringing(&rule, 10 << 20)
    };
    let mut usage = Usage::default();
    keyed.count(&mut usage);
    let of = |place: Place, request, class: &str| usage.requests.get(&(place, request, class.to_owned())).copied();
    assert_eq!(of(Place::Source, Request::Get, "ONEZONE_IA"), Some(2));
    assert_eq!(of(Place::Target("t".into()), Request::Part, "STANDARD_IA"), Some(2));
    assert_eq!(of(Place::Target("t".into()), Request::PutAttributes, "STANDARD"), Some(1));
    assert_eq!(usage.key_uses.values().copied().collect::<Vec<_>>(), [2, 3], "each GET; the upload and each part");
    assert_eq!(usage.read.get("ONEZONE_IA"), Some(&(10 << 20)));
    let tiny = bringing(&rule, 1);
    let mut usage = Usage::default();
    tiny.count(&mut usage);
    assert_eq!(usage.stored.values().map(|stored| (stored.bytes, stored.billed)).collect::<Vec<_>>(), [(1, 128 << 10)]);
}

proptest! {
    /// What is set aside for an object covers every way that it may take.
    #[test]
    fn the_ceiling_is_never_passed(size in 0u64..1 << 42, count in proptest::option::of(1u32..10_000), standing in 0usize..4, way in 0usize..3, side in 0usize..3) {
        let rule = Rule { acl: true, ..rule() };
        let etag = count.map(|count| ETag::new(format!("e-{count}")));
        let way = [Way::Current, Way::Newest, Way::Older][way];
        let standing = [Standing::Absent, Standing::Hidden, Standing::Occupied, Standing::Equal][standing];
        let server_side = [ServerSide::Never, ServerSide::Large, ServerSide::Always][side];
        let bringing = Bringing { etag: etag.as_ref(), standing, way, server_side, ..bringing(&rule, size) };
        let most = ceiling(&bringing);
        let mut usage = Usage::default();
        bringing.count(&mut usage);
        for kind in Request::ALL {
            prop_assert!(usage.of(kind) <= most.of(kind), "{:?}: {} > {}", kind, usage.of(kind), most.of(kind));
        }
        prop_assert!(usage.moved.values().sum::<u64>() <= most.moved.values().sum::<u64>());
    }
}
