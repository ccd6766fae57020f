//! What was foreseen, summed up: constant in memory, however many objects there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::audit::Seen;
use crate::audit::foresee::Foreseen;
use crate::cli::progress::Figures;
use crate::engine::scan::Depth;
use crate::model::object::{Key, RuleId, TargetId};
use crate::model::usage::{Place, Request, STANDARD, Usage, shortest_days, smallest_billed};
use crate::plan::estimate::{self, Bringing, Keys, ServerSide, Standing, Way};
use crate::plan::prices::{Checked, Due, Item, Tariff};
use crate::plan::route::Rule;

/// Who moves large objects to each target.
pub(in crate::cli) type Movers = BTreeMap<TargetId, ServerSide>;

/// Classes that must be restored before they can be read: a sync parks such objects.
const ARCHIVED: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];
/// Failed ranges and looks that are named.
const NAMED: usize = 20;
/// Entries of one page of a listing (aws-semantics: ListObjectsV2, ListObjectVersions).
const PAGE: u64 = 1000;

/// How fast a sync is taken to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub(super) bytes_per_second: u64,
    pub(super) objects_per_second: Option<f64>,
    pub(super) from: &'static str,
}

/// What a few objects told of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sampled {
    pub(super) looked: u64,
    pub(super) encrypted: u64,
}

/// How a sync finds what it has to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finding<'a> {
    /// By the comparison that the plan has just made, which used this.
    Comparing(&'a Usage),
    /// By listing these prefixes of the source.
    Scanning(&'a [(String, Depth)]),
}

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    objects: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.objects = self.objects.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The sum.
#[derive(Debug)]
pub(super) struct Forecast {
    rules: BTreeMap<RuleId, Rule>,
    movers: Movers,
    usage: Usage,
    /// Entries and current objects of the source under each prefix that was listed.
    listed: BTreeMap<String, (u64, u64)>,
    to_copy: Count,
    archived: Count,
    markers: u64,
    equal: u64,
    unprovable: u64,
    /// Objects below the size that their class is billed for at least.
    undersized: u64,
    /// What could not be listed or looked at, the first few by name.
    troubles: Vec<String>,
    trouble_count: u64,
    /// Targets for which there is something to do or to look at.
    busy: BTreeSet<TargetId>,
    /// Every 2^n-th object to be copied: listings do not tell of encryption.
    picked: Vec<Key>,
    sampled: Sampled,
    /// Uses of target keys, were no Bucket Key asked for.
    target_key_uses: u64,
}

impl Forecast {
    pub(super) fn new(rules: Vec<Rule>, movers: Movers) -> Self {
        Self {
            rules: rules.into_iter().map(|rule| (rule.id.clone(), rule)).collect(),
            movers,
            usage: Usage::default(),
            listed: BTreeMap::new(),
            to_copy: Count::default(),
            archived: Count::default(),
            markers: 0,
            equal: 0,
            unprovable: 0,
            undersized: 0,
            troubles: Vec::new(),
            trouble_count: 0,
            busy: BTreeSet::new(),
            picked: Vec::new(),
            sampled: Sampled::default(),
            target_key_uses: 0,
        }
    }

    /// Takes one thing in.
    pub(super) fn take(&mut self, foreseen: Foreseen) {
        match foreseen {
            Foreseen::Object { standing: Standing::Equal, way: None, .. } => self.equal += 1,
            Foreseen::Object { rule, key, seen, standing, way } => {
                self.object(&rule, key, &seen, (standing, way.unwrap_or(Way::Current)));
            }
            Foreseen::Marker { rule, way } => {
                self.markers += 1;
                if let Some(rule) = self.rules.get(&rule) {
                    self.busy.insert(rule.target.clone());
                    estimate::count_marker(&mut self.usage, rule, way);
                }
            }
            Foreseen::Unprovable => self.unprovable += 1,
            Foreseen::Obstacle(fault) => self.trouble(fault.to_string()),
            Foreseen::Hole { side, target, hole } => {
                self.trouble(format!("{} listing for target {target}, {}: {}", side.name(), hole.bounds(), hole.fault));
            }
            Foreseen::Listed { prefix, entries, current } => drop(self.listed.insert(prefix, (entries, current))),
        }
    }

    fn trouble(&mut self, what: String) {
        self.trouble_count += 1;
        if self.troubles.len() < NAMED {
            self.troubles.push(what);
        }
    }

    fn object(&mut self, rule: &RuleId, key: Key, seen: &Seen, (standing, way): (Standing, Way)) {
        let Some(rule) = self.rules.get(rule) else { return };
        self.busy.insert(rule.target.clone());
        let (size, class) = (seen.size.unwrap_or(0), seen.storage_class.as_deref());
        if class.is_some_and(|class| ARCHIVED.contains(&class)) {
            // It is asked for, and refused.
            self.archived.add(size);
            self.usage.request(&Place::Source, Request::Get, class.unwrap_or(STANDARD), 1);
            return;
        }
        let keyed = rule.kms_key.is_some() || !rule.kms_map.is_empty();
        let bringing = Bringing {
            size,
            etag: seen.etag.as_ref(),
            class,
            rule,
            standing,
            way,
            server_side: self.movers.get(&rule.target).copied().unwrap_or(ServerSide::Never),
            source_key: Keys::EachRequest,
            target_key: if keyed { Keys::EachRequest } else { Keys::Unused },
        };
        bringing.count(&mut self.usage);
        if standing == Standing::Equal {
            self.equal += 1;
            return;
        }
        let target_class = rule.storage_class.as_deref().or(class).unwrap_or(STANDARD);
        self.undersized += u64::from(size < smallest_billed(target_class));
        self.to_copy.add(size);
        if self.to_copy.objects.is_power_of_two() {
            self.picked.push(key);
        }
    }

    /// The objects to be looked at before [`Self::add_keys`]: some twenty for a million.
    pub(super) fn picked(&self) -> &[Key] {
        &self.picked
    }

    /// Adds what the sync will use to find what it has to do.
    pub(super) fn add_finding(&mut self, finding: Finding<'_>) {
        // A listing of versions asks the source whether it keeps them; the first job of each bucket asks that bucket.
        let asks_source = match finding {
            Finding::Comparing(looked) => {
                for ((place, request, class), count) in &looked.requests {
                    self.usage.request(place, *request, class, *count);
                }
                !self.busy.is_empty()
            }
            Finding::Scanning(prefixes) => {
                for (prefix, depth) in prefixes {
                    let (entries, current) = self.listed.get(prefix).copied().unwrap_or_default();
                    let found = match depth {
                        Depth::All => entries,
                        Depth::Current => current,
                    };
                    self.usage.request(&Place::Source, Request::List, STANDARD, found.div_ceil(PAGE).max(1));
                }
                true
            }
        };
        let source = asks_source.then_some(Place::Source);
        for place in self.busy.iter().cloned().map(Place::Target).chain(source) {
            self.usage.request(&place, Request::GetAttributes, STANDARD, 1);
        }
    }

    /// Corrects the uses of keys by what the sample told. Target keys are used with a Bucket Key, which a rule's key is
    /// always asked for: about one use every few minutes, not one for each object.
    pub(super) fn add_keys(&mut self, sampled: Sampled) {
        self.sampled = sampled;
        let source = self.usage.key_uses.remove(&Place::Source).unwrap_or(0);
        self.target_key_uses = std::mem::take(&mut self.usage.key_uses).values().sum();
        if sampled.looked > 0 {
            let uses = u128::from(source) * u128::from(sampled.encrypted);
            let uses = u64::try_from(uses.div_ceil(u128::from(sampled.looked))).unwrap_or(u64::MAX);
            self.usage.uses_key(&Place::Source, uses);
        }
    }

    /// Whether everything in scope could be looked at.
    pub(super) fn is_whole(&self) -> bool {
        self.trouble_count == 0
    }

    /// For the progress: all that was compared, and the bytes found to be copied.
    pub(super) fn figures(&self) -> Figures {
        let done = self.to_copy.objects + self.archived.objects + self.equal + self.unprovable;
        Figures {
            done,
            of: None,
            bytes: self.to_copy.bytes,
            bytes_of: None,
            failed: self.unprovable + self.trouble_count,
        }
    }

    /// The documented object.
    pub(super) fn report(&self, tariff: &Tariff, rate: Option<&Rate>) -> Value {
        let bill = tariff.bill(&self.usage);
        let unknown = bill.unknown();
        json!({
            "objects": self.to_copy.objects,
            "bytes": self.to_copy.bytes,
            "delete_markers": self.markers,
            "already_equal": self.equal,
            "unprovable": self.unprovable,
            "archived": {"objects": self.archived.objects, "bytes": self.archived.bytes},
            "requests": requests(&self.usage),
            "moved_bytes": self.usage.moved.values().sum::<u64>(),
            "key_requests": {
                "source": {
                    "sampled": self.sampled.looked,
                    "encrypted": self.sampled.encrypted,
                    "without_bucket_key": self.usage.key_uses.get(&Place::Source).copied().unwrap_or(0),
                },
                "target": {"without_bucket_key": self.target_key_uses, "with_bucket_key": 0},
            },
            "rate": rate.map(|rate| json!({
                "bytes_per_second": rate.bytes_per_second,
                "objects_per_second": rate.objects_per_second,
                "from": rate.from,
            })),
            "seconds": rate.and_then(|rate| self.seconds(rate)),
            "dollars": {
                "items": bill.items.iter().map(line).collect::<Vec<_>>(),
                "total": bill.total(Due::Once),
                "lower_bound": !unknown.is_empty() || !self.is_whole(),
                "monthly": bill.total(Due::Monthly),
            },
            "unknown": unknown,
            "notes": self.notes(),
            "incomplete": !self.is_whole(),
            "failed": self.troubles,
        })
    }

    /// How long it takes; `None` where the rate does not tell.
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    fn seconds(&self, rate: &Rate) -> Option<f64> {
        let take =
            |count: u64, rate: f64| if count == 0 { Some(0.0) } else { (rate > 0.0).then(|| count as f64 / rate) };
        let bytes = take(self.to_copy.bytes, rate.bytes_per_second as f64)?;
        let objects = rate.objects_per_second.map_or(Some(0.0), |rate| take(self.to_copy.objects, rate))?;
        Some(bytes.max(objects))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "transfer is that from the source's region to the target's: a worker that runs elsewhere pays its own way on top"
                .to_owned(),
            "objects with tags take one request more each, which listings do not tell of".to_owned(),
        ];
        if self.usage.key_uses.contains_key(&Place::Source) {
            let Sampled { looked, encrypted } = self.sampled;
            notes.push(format!(
                "uses of the source's KMS keys are counted from {looked} objects looked at, of which {encrypted} were encrypted so; with Bucket Keys they are close to none"
            ));
        }
        if self.usage.moved.keys().any(|target| !self.is_keyed(target)) {
            notes.push(
                "the default encryption of a target bucket is not known here: its KMS requests are not counted"
                    .to_owned(),
            );
        }
        for (target, class) in self.usage.stored.keys() {
            if let Some(days) = shortest_days(class) {
                notes.push(format!("{class} at {target} is billed for at least {days} days, also where it is deleted or replaced sooner"));
            }
        }
        if self.undersized > 0 {
            notes.push(format!(
                "{} objects are smaller than 128 KiB, for which their class is billed at least",
                self.undersized
            ));
        }
        if self.archived.objects > 0 {
            notes.push("archived objects must be restored before they can be read: a sync parks them".to_owned());
        }
        notes
    }

    fn is_keyed(&self, target: &TargetId) -> bool {
        self.rules.values().filter(|rule| rule.target == *target).all(|rule| rule.kms_key.is_some())
    }
}

/// Requests by kind, all kinds, and their sum.
pub(in crate::cli) fn requests(usage: &Usage) -> Value {
    let mut fields = Map::new();
    for kind in Request::ALL {
        fields.insert(kind.name().to_owned(), json!(usage.of(kind)));
    }
    fields.insert("total".to_owned(), json!(Request::ALL.map(|kind| usage.of(kind)).iter().sum::<u64>()));
    Value::Object(fields)
}

fn line(item: &Item) -> Value {
    json!({
        "item": item.item,
        "side": item.side,
        "place": item.place,
        "what": item.what,
        "quantity": item.quantity,
        "unit": item.unit,
        "price": item.price,
        "unverified": item.checked == Checked::No,
        "dollars": item.dollars(),
        "due": match item.due {
            Due::Once => "once",
            Due::Monthly => "monthly",
        },
    })
}

/// The same for a person.
pub(super) fn table(report: &Value) -> String {
    let number = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let texts = |path: &str| {
        let list = report.pointer(path).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut text = String::new();
    let mut row = |name: &str, told: String| writeln!(text, "{name:<14} {told}").unwrap_or_default();
    row("to copy", format!("{} objects, {} bytes", number("/objects"), number("/bytes")));
    row("markers", format!("{} to be made", number("/delete_markers")));
    row("equal", format!("{} objects", number("/already_equal")));
    if number("/unprovable") > 0 {
        row("not provable", format!("{} objects, left alone", number("/unprovable")));
    }
    if number("/archived/objects") > 0 {
        row("archived", format!("{} objects, {} bytes", number("/archived/objects"), number("/archived/bytes")));
    }
    let kinds = Request::ALL.map(Request::name).map(|kind| (kind, number(&format!("/requests/{kind}"))));
    let kinds: Vec<String> =
        kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{kind} {count}")).collect();
    row("requests", format!("{} ({})", number("/requests/total"), kinds.join(", ")));
    let seconds = report.get("seconds").and_then(Value::as_f64);
    row("time", seconds.map_or_else(|| "not known: give a --rate".to_owned(), |seconds| format!("{seconds:.0} s")));
    for item in report.pointer("/dollars/items").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        let amount = item.get("dollars").map_or_else(String::new, super::dollars);
        let due = if of("due") == "monthly" { " a month" } else { "" };
        let doubt = if item.get("unverified") == Some(&Value::Bool(true)) { ", price not verified" } else { "" };
        let quantity = item.get("quantity").and_then(Value::as_u64).unwrap_or(0);
        let counted = match of("item") {
            "requests" => format!("{quantity} {}", of("what")),
            "keys" => format!("{quantity} uses of KMS keys"),
            bytes => format!("{bytes} {}, {quantity} bytes", of("what")),
        };
        row("", format!("{amount}{due}: {counted}, {} ({}{doubt})", of("side"), of("place")));
    }
    let bound = if report.pointer("/dollars/lower_bound") == Some(&Value::Bool(true)) { "at least " } else { "" };
    let of = |path: &str| report.pointer(path).map_or_else(String::new, super::dollars);
    row("cost", format!("{bound}{} once, {bound}{} a month for storage", of("/dollars/total"), of("/dollars/monthly")));
    for (name, path) in [("not known", "/unknown"), ("note", "/notes"), ("not seen", "/failed")] {
        for told in texts(path) {
            row(name, told);
        }
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::range::Hole;
    use crate::model::fault::{Fault, FaultKind, Side};

    fn forecast() -> Forecast {
        let movers = ["one", "two"].map(|target| (TargetId::new(target), ServerSide::Never));
        Forecast::new(Vec::new(), movers.into())
    }

    /// However many targets there are, a backfill lists the source once, and its past only where that is wanted; it asks
    /// the source whether it keeps versions also where there is nothing to copy.
    #[test]
    fn a_backfill_lists_each_prefix_once() {
        for (depth, pages) in [(Depth::All, 3), (Depth::Current, 1)] {
            let mut forecast = forecast();
            for _target in 0..2 {
                forecast.take(Foreseen::Listed { prefix: "a/".to_owned(), entries: 2_001, current: 1_000 });
            }
            forecast.add_finding(Finding::Scanning(&[("a/".to_owned(), depth), ("empty/".to_owned(), depth)]));
            assert_eq!(forecast.usage.of(Request::List), pages + 1);
            assert_eq!(forecast.usage.of(Request::GetAttributes), 1);
        }
    }

    #[test]
    fn a_comparison_uses_what_the_plan_used() {
        let (mut forecast, mut looked) = (forecast(), Usage::default());
        looked.request(&Place::Target("one".into()), Request::List, STANDARD, 7);
        forecast.add_finding(Finding::Comparing(&looked));
        assert_eq!((forecast.usage.of(Request::List), forecast.usage.of(Request::GetAttributes)), (7, 0));
    }

    #[test]
    fn a_bucket_with_nothing_to_do_is_not_asked_about_its_versions() {
        let mut forecast = forecast();
        forecast.busy.insert("one".into());
        forecast.add_finding(Finding::Comparing(&Usage::default()));
        assert_eq!(forecast.usage.of(Request::GetAttributes), 2, "the source and that target");
    }

    #[test]
    fn a_hole_is_told_with_both_of_its_ends() {
        let mut forecast = forecast();
        let fault = Fault::new(FaultKind::Denied, Side::Source, "list objects", "no");
        let hole = Hole { after: Some("b".into()), upto: Some("c".into()), fault };
        forecast.take(Foreseen::Hole { side: Side::Source, target: "one".into(), hole });
        assert!(forecast.troubles[0].contains("target one, after \"b\" to \"c\": "), "{:?}", forecast.troubles);
    }
}
