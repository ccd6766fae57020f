use super::*;
use crate::model::usage::shortest_days;
use proptest::prelude::*;

fn prices(price: &[(&str, f64)]) -> Prices {
    Prices { price: price.iter().map(|(name, price)| ((*name).to_owned(), *price)).collect(), ..Prices::default() }
}

fn virginia() -> PlacePrices {
    PlacePrices {
        storage: prices(&[("STANDARD", 0.023), ("STANDARD_IA", 0.0125)]),
        write: prices(&[("STANDARD", 0.005), ("STANDARD_IA", 0.01)]),
        read: prices(&[("STANDARD", 0.0004)]),
        retrieval: prices(&[("STANDARD_IA", 0.01)]),
        transfer: prices(&[("regions", 0.02), ("us-east-2", 0.01), ("internet", 0.09)]),
        keys: Prices { unverified: vec!["requests".to_owned()], ..prices(&[("requests", 0.03)]) },
    }
}

fn tariff(to: Home) -> Tariff {
    let regions = [("us-east-1", virginia()), ("us-west-2", virginia())];
    let regions = regions.into_iter().map(|(name, prices)| (name.to_owned(), prices)).collect();
    let stores = BTreeMap::from([("http://here".to_owned(), PlacePrices { read: prices(&[]), ..virginia() })]);
    let table = PriceTable { regions, stores };
    Tariff::new(table, Home::Region("us-east-1".to_owned()), BTreeMap::from([("dr".into(), to)]))
}

fn region(name: &str) -> Home {
    Home::Region(name.to_owned())
}

fn once(tariff: &Tariff, note: impl FnOnce(&mut Usage)) -> f64 {
    let mut usage = Usage::default();
    note(&mut usage);
    tariff.bill(&usage).known().unwrap()
}

fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 0.005, "{found} is not {expected}");
}

/// The worked example of aws-semantics 9: 1 TB a month of 1 MB objects from us-east-1 to us-west-2.
#[test]
fn a_terabyte_of_megabytes() {
    let (tariff, dr) = (tariff(region("us-west-2")), TargetId::from("dr"));
    let place = Place::Target(dr.clone());
    assert_near(once(&tariff, |usage| usage.moves(&dr, 1 << 40)), 20.48);
    assert_near(once(&tariff, |usage| usage.request(&place, Request::Copy, "STANDARD", 1 << 20)), 5.24);
    assert_near(
        once(&tariff, |usage| {
            usage.uses_key(&Place::Source, 1 << 20);
            usage.uses_key(&place, 1 << 20);
        }),
        6.29,
    );
}

#[test]
fn transfer_by_where_it_goes() {
    let moved = |to: Home| once(&tariff(to), |usage| usage.moves(&"dr".into(), 100 << 30));
    assert_near(moved(region("us-east-1")), 0.0);
    assert_near(moved(region("us-east-2")), 1.0);
    assert_near(moved(region("eu-west-2")), 2.0);
    assert_near(moved(region("cn-north-1")), 9.0);
    assert_near(moved(Home::Store("http://there".to_owned())), 9.0);
    let mut from_store = tariff(Home::Store("http://here".to_owned()));
    from_store.source = Home::Store("http://here".to_owned());
    assert_near(once(&from_store, |usage| usage.moves(&"dr".into(), 100 << 30)), 0.0);
    from_store.source = Home::Store("http://unheard-of".to_owned());
    let mut usage = Usage::default();
    usage.moves(&"dr".into(), 1);
    let bill = from_store.bill(&usage);
    assert_eq!(
        bill.unknown(),
        ["no price for transfer to the internet, for store http://here in store http://unheard-of"]
    );
}

#[test]
fn classes_have_their_own_prices_and_minimums() {
    let (tariff, dr) = (tariff(region("us-west-2")), TargetId::from("dr"));
    let place = Place::Target(dr.clone());
    assert_near(once(&tariff, |usage| usage.request(&place, Request::Put, "STANDARD_IA", 1000)), 0.01);
    assert_near(once(&tariff, |usage| usage.reads("STANDARD_IA", 10 << 30)), 0.10);
    assert_near(once(&tariff, |usage| usage.reads("STANDARD", 10 << 30)), 0.0);
    assert_near(once(&tariff, |usage| usage.request(&place, Request::Delete, "STANDARD", 1 << 40)), 0.0);
    // 8,192 objects of 1 KiB are billed as 8,192 of 128 KiB: a whole GiB.
    let mut usage = Usage::default();
    (0..8192).for_each(|_| usage.stores(&dr, "STANDARD_IA", 1 << 10));
    let monthly = tariff.bill(&usage).total(Due::Monthly);
    assert!((monthly - 0.0125).abs() < 1e-9, "{monthly}");
    assert_eq!(shortest_days("STANDARD_IA").zip(shortest_days("DEEP_ARCHIVE")), Some((30, 180)));
}

#[test]
fn what_has_no_price_is_told_and_not_guessed() {
    let tariff = tariff(region("eu-north-1"));
    let mut usage = Usage::default();
    usage.request(&Place::Target("dr".into()), Request::Put, "STANDARD", 5);
    usage.request(&Place::Source, Request::Get, "STANDARD_IA", 5);
    usage.request(&Place::Source, Request::Get, "STANDARD", 1000);
    usage.reads("GLACIER_IR", 7);
    let bill = tariff.bill(&usage);
    assert_eq!(
        bill.unknown(),
        [
            "no price for requests get STANDARD_IA in region us-east-1",
            "no price for requests put STANDARD in region eu-north-1",
            "no price for retrieval GLACIER_IR in region us-east-1",
        ]
    );
    assert_eq!(bill.known().unwrap_err().len(), 3);
    assert_near(bill.total(Due::Once) * 1000.0, 0.4);
    assert!(bill.items.iter().filter(|item| item.price.is_none()).all(|item| item.dollars().is_none()));
}

#[test]
fn unchecked_prices_are_marked() {
    let mut usage = Usage::default();
    usage.uses_key(&Place::Source, 1);
    usage.request(&Place::Source, Request::Get, "STANDARD", 1);
    let checked: Vec<_> =
        tariff(region("us-west-2")).bill(&usage).items.iter().map(|item| (item.item, item.checked)).collect();
    assert_eq!(checked, [("requests", Checked::Yes), ("keys", Checked::No)]);
}

proptest! {
    /// Two pieces of work together cost what they cost apart, whatever they are.
    #[test]
    fn bills_add_up(counts in proptest::collection::vec((0usize..12, 0u64..1 << 40, any::<bool>()), 0..20), cut in 0usize..20) {
        let tariff = tariff(region("us-west-2"));
        let used = |counts: &[(usize, u64, bool)]| {
            let mut usage = Usage::default();
            for (kind, count, source) in counts {
                let place = if *source { Place::Source } else { Place::Target("dr".into()) };
                usage.request(&place, Request::ALL[*kind], "STANDARD", *count);
                usage.moves(&"dr".into(), *count);
            }
            usage
        };
        let (one, other) = counts.split_at(cut.min(counts.len()));
        let (one, other) = (used(one), used(other));
        let mut both = one.clone();
        both.merge(&other);
        prop_assert_eq!(&both, &used(&counts));
        let apart = tariff.bill(&one).total(Due::Once) + tariff.bill(&other).total(Due::Once);
        let together = tariff.bill(&both).total(Due::Once);
        prop_assert!((apart - together).abs() <= together.abs() * 1e-12, "{} {}", apart, together);
        prop_assert!(together >= 0.0);
    }
}
