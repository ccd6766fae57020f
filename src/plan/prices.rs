//! What usage costs: a price list applied to counts. What has no price is told, never guessed.

use std::collections::BTreeMap;

use crate::model::object::TargetId;
use crate::model::region;
use crate::model::usage::{Place, Request, STANDARD, Tier, Usage};

/// Prices of one kind at one place, with where they are from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    /// When they held: a year and month, or a day.
    pub date: String,
    /// Who says so.
    pub source: String,
    /// The names of those that nobody has checked.
    pub unverified: Vec<String>,
    /// Dollars by storage class, region or item.
    pub price: BTreeMap<String, f64>,
}

/// All that is known of one region, or of one store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlacePrices {
    /// Per GiB and month, by storage class.
    pub storage: Prices,
    /// Per 1,000 PUT, COPY, POST and LIST requests, by storage class.
    pub write: Prices,
    /// Per 1,000 GET and other requests, by storage class.
    pub read: Prices,
    /// Per GiB read, by storage class.
    pub retrieval: Prices,
    /// Per GiB that leaves: by region, `regions` for any other region, `internet` for elsewhere.
    pub transfer: Prices,
    /// Per 10,000 KMS requests: `requests`.
    pub keys: Prices,
}

/// A price table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PriceTable {
    /// By AWS region.
    pub regions: BTreeMap<String, PlacePrices>,
    /// By endpoint of an S3-compatible store.
    pub stores: BTreeMap<String, PlacePrices>,
}

/// Where a bucket is, as far as bills go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// In that region of AWS.
    Region(String),
    /// In the store behind that endpoint.
    Store(String),
}

impl Home {
    /// As a person reads it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Region(region) => format!("region {region}"),
            Self::Store(endpoint) => format!("store {endpoint}"),
        }
    }

    fn partition(&self) -> Option<&'static str> {
        match self {
            Self::Store(_) => None,
            Self::Region(region) => Some(region::partition(region)),
        }
    }
}

/// Whether something is paid once, or for as long as the objects lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Once.
    Once,
    /// Every month.
    Monthly,
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// `requests`, `transfer`, `retrieval`, `keys` or `storage`.
    pub item: &'static str,
    /// `source`, or the target's name.
    pub side: String,
    /// Where it is billed.
    pub place: String,
    /// Which requests or bytes.
    pub what: String,
    /// How many.
    pub quantity: u64,
    /// To how many of them the price belongs.
    pub unit: u64,
    /// Dollars for one unit; `None` where it is not known.
    pub price: Option<f64>,
    /// Whether somebody has checked the price.
    pub checked: Checked,
    /// Once or monthly.
    pub due: Due,
}

/// Whether somebody has checked a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Yes.
    Yes,
    /// No: it is told all the same, and told so.
    No,
}

impl Item {
    /// What it comes to; `None` where the price is not known.
    #[must_use]
    pub fn dollars(&self) -> Option<f64> {
        #[allow(
            clippy::cast_precision_loss,
            reason = "beyond 2^53 requests or bytes a double is exact enough for money"
        )]
        self.price.map(|price| price * (self.quantity as f64 / self.unit as f64))
    }

    /// What is missing, where a price is.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        self.price.is_none().then(|| format!("no price for {} {} in {}", self.item, self.what, self.place))
    }
}

/// What usage comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bill {
    /// Line by line.
    pub items: Vec<Item>,
}

impl Bill {
    /// Everything of one kind that has a price.
    #[must_use]
    pub fn total(&self, due: Due) -> f64 {
        // An empty sum of floats is -0.0.
        self.items.iter().filter(|item| item.due == due).filter_map(Item::dollars).fold(0.0, |sum, item| sum + item)
    }

    /// What has no price, each once.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        let mut unknown: Vec<String> = self.items.iter().filter_map(Item::unknown).collect();
        unknown.sort();
        unknown.dedup();
        unknown
    }

    /// What is due once, or what has no price.
    ///
    /// # Errors
    /// Everything that has no price.
    pub fn known(&self) -> Result<f64, Vec<String>> {
        let unknown: Vec<String> =
            self.items.iter().filter(|item| item.due == Due::Once).filter_map(Item::unknown).collect();
        if unknown.is_empty() { Ok(self.total(Due::Once)) } else { Err(unknown) }
    }
}

/// S3 and its bills count in binary gigabytes.
const GIB: u64 = 1 << 30;
/// Requests are priced by the thousand, uses of keys by ten thousand (aws-semantics 9).
const REQUESTS: u64 = 1000;
const KEY_USES: u64 = 10_000;
/// Classes that are billed for reading (S3's price page): where such a price is absent, it is not known.
const BILLED_READS: [&str; 5] = ["STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"];

/// A price table with the places of one configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Tariff {
    table: PriceTable,
    source: Home,
    targets: BTreeMap<TargetId, Home>,
}

impl Tariff {
    /// Puts them together.
    #[must_use]
    pub fn new(table: PriceTable, source: Home, targets: BTreeMap<TargetId, Home>) -> Self {
        Self { table, source, targets }
    }

    /// The bill for usage. Nothing used, no line.
    #[must_use]
    pub fn bill(&self, usage: &Usage) -> Bill {
        let mut items = Vec::new();
        for ((place, request, class), count) in &usage.requests {
            items.extend(self.requests(place, *request, class, *count));
        }
        for (target, bytes) in &usage.moved {
            items.extend(self.transfer(target, *bytes));
        }
        for (class, bytes) in &usage.read {
            items.extend(self.retrieval(class, *bytes));
        }
        for (place, count) in &usage.key_uses {
            let prices = self.prices(place).map(|prices| &prices.keys);
            let line = Line { item: "keys", what: "requests".to_owned(), quantity: *count, unit: KEY_USES };
            items.push(self.line(place, line, (prices, "requests"), Due::Once));
        }
        for ((target, class), stored) in &usage.stored {
            let place = Place::Target(target.clone());
            let prices = self.prices(&place).map(|prices| &prices.storage);
            let line = Line { item: "storage", what: class.clone(), quantity: stored.billed, unit: GIB };
            items.push(self.line(&place, line, (prices, class), Due::Monthly));
        }
        items.retain(|item: &Item| item.quantity > 0);
        Bill { items }
    }

    fn home(&self, place: &Place) -> Option<&Home> {
        match place {
            Place::Source => Some(&self.source),
            Place::Target(target) => self.targets.get(target),
        }
    }

    fn prices(&self, place: &Place) -> Option<&PlacePrices> {
        match self.home(place)? {
            Home::Region(region) => self.table.regions.get(region),
            Home::Store(endpoint) => self.table.stores.get(endpoint),
        }
    }

    fn line(&self, place: &Place, line: Line, (prices, name): (Option<&Prices>, &str), due: Due) -> Item {
        let side = match place {
            Place::Source => "source".to_owned(),
            Place::Target(target) => target.to_string(),
        };
        let checked = match prices {
            Some(prices) if prices.unverified.iter().any(|unverified| unverified == name) => Checked::No,
            Some(_) | None => Checked::Yes,
        };
        Item {
            item: line.item,
            side,
            place: self.home(place).map_or_else(|| "an unknown place".to_owned(), Home::name),
            what: line.what,
            quantity: line.quantity,
            unit: line.unit,
            price: prices.and_then(|prices| prices.price.get(name).copied()),
            checked,
            due,
        }
    }

    fn requests(&self, place: &Place, request: Request, class: &str, count: u64) -> Option<Item> {
        let prices = self.prices(place);
        let prices = match request.tier() {
            Tier::Write => prices.map(|prices| &prices.write),
            Tier::Read => prices.map(|prices| &prices.read),
            Tier::Free => return None,
        };
        // A listing is of no class.
        let class = if request == Request::List { STANDARD } else { class };
        let what = format!("{} {class}", request.name());
        let line = Line { item: "requests", what, quantity: count, unit: REQUESTS };
        Some(self.line(place, line, (prices, class), Due::Once))
    }

    /// Bytes that leave the source: nothing within one region or one store.
    fn transfer(&self, target: &TargetId, bytes: u64) -> Option<Item> {
        let to = self.targets.get(target)?;
        if *to == self.source {
            return None;
        }
        let prices = self.prices(&Place::Source).map(|prices| &prices.transfer);
        let named = |name: &str| prices.is_some_and(|prices| prices.price.contains_key(name));
        let name =
            match (&self.source, to) {
                (Home::Region(_), Home::Region(region)) if self.source.partition() == to.partition() => {
                    if named(region) { region } else { "regions" }
                }
                (Home::Region(_) | Home::Store(_), Home::Region(_) | Home::Store(_)) => "internet",
            };
        let what = match name {
            "internet" => format!("to the internet, for {}", to.name()),
            _ => format!("to {}", to.name()),
        };
        let line = Line { item: "transfer", what, quantity: bytes, unit: GIB };
        Some(self.line(&Place::Source, line, (prices, name), Due::Once))
    }

    fn retrieval(&self, class: &str, bytes: u64) -> Option<Item> {
        let prices = self.prices(&Place::Source).map(|prices| &prices.retrieval);
        let priced = prices.is_some_and(|prices| prices.price.contains_key(class));
        if !priced && !BILLED_READS.contains(&class) {
            return None;
        }
        let line = Line { item: "retrieval", what: class.to_owned(), quantity: bytes, unit: GIB };
        Some(self.line(&Place::Source, line, (prices, class), Due::Once))
    }
}

/// The part of a line that its kind knows.
struct Line {
    item: &'static str,
    what: String,
    quantity: u64,
    unit: u64,
}

#[cfg(test)]
mod tests;
