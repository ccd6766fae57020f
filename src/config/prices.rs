//! The price table: a file like a config file, read with the same care.

use std::collections::BTreeMap;

use toml_edit::Value;

use super::errors::Errors;
use super::file::{File, Kind, Section, describe};
use super::kinds::{Address, TEXT, is_aws_region};
use crate::plan::prices::{PlacePrices, PriceTable, Prices};

/// The table that is compiled in: the one in `config/`.
const BUILT_IN: &str = include_str!("../../config/prices.toml");

/// Storage classes of S3 by their names in its API.
const CLASSES: [&str; 10] = [
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY",
    "EXPRESS_ONEZONE",
    "OUTPOSTS",
];

const DOLLARS: Kind<f64> = Kind {
    accepted: "a number of dollars, 0 or more, such as 0.023",
    read: |value| {
        #[allow(clippy::cast_precision_loss, reason = "no price is near 2^53")]
        let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        let number = number.ok_or_else(|| format!("it is {}", describe(value)))?;
        if number.is_finite() && number >= 0.0 { Ok(number) } else { Err(format!("{number} is no price")) }
    },
};
const CLASS: Kind<String> =
    Kind { accepted: "a storage class such as \"STANDARD_IA\"", read: |value| named(value, is_class) };
const DESTINATION: Kind<String> = Kind {
    accepted: "\"internet\", \"regions\" or a region such as \"us-east-2\"",
    read: |value| named(value, |name| ["internet", "regions"].contains(&name) || is_aws_region(name)),
};
const KEY_ITEM: Kind<String> = Kind { accepted: "\"requests\"", read: |value| named(value, |name| name == "requests") };

fn named(value: &Value, known: fn(&str) -> bool) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("it is {}", describe(value)))?;
    if known(text) { Ok(text.to_owned()) } else { Err(format!("{text:?} is not known here")) }
}

fn is_class(name: &str) -> bool {
    CLASSES.contains(&name)
}

/// Reads the text of a price table; `file` is its name, as errors shall show it.
///
/// # Errors
/// Everything that is wrong with it, in the order of its lines.
pub fn parse_prices(text: &str, file: &str) -> Result<PriceTable, Errors> {
    let file = File::parse(text, file)?;
    let table = file.read(|whole| {
        let regions = whole.named("regions", |name, section| {
            if !is_aws_region(name) {
                section.refuse_self(format!("{name:?} is not a region of AWS; a store belongs under \"stores\""));
            }
            (name.to_owned(), place(section))
        });
        let stores = whole.named("stores", |endpoint, section| {
            if let Err(reason) = Address::parse(endpoint) {
                section.refuse_self(format!("{reason}, accepted is the store's endpoint as in the config file"));
            }
            (endpoint.trim_end_matches('/').to_owned(), place(section))
        });
        PriceTable { regions: regions.into_iter().collect(), stores: stores.into_iter().collect() }
    });
    file.finish(table)
}

/// The table that the program was built with.
///
/// # Errors
/// None, as a test reads it.
pub fn built_in_prices() -> Result<PriceTable, Errors> {
    parse_prices(BUILT_IN, "config/prices.toml, as built in")
}

fn place(section: &mut Section<'_>) -> PlacePrices {
    PlacePrices {
        storage: prices(section, "storage", &CLASS),
        write: prices(section, "write", &CLASS),
        read: prices(section, "read", &CLASS),
        retrieval: prices(section, "retrieval", &CLASS),
        transfer: prices(section, "transfer", &DESTINATION),
        keys: prices(section, "keys", &KEY_ITEM),
    }
}

/// One kind of price; none at all where the table is absent.
fn prices(section: &mut Section<'_>, key: &'static str, name: &Kind<String>) -> Prices {
    let read = section.optional(key, |section| {
        let price: BTreeMap<String, f64> = section.map("price", name, &DOLLARS);
        let unverified = section.values("unverified", name).unwrap_or_default();
        for doubted in &unverified {
            if !price.contains_key(doubted) {
                section.refuse("unverified", format!("there is no price of {doubted:?} here"));
            }
        }
        let (date, source) = (section.need("date", &TEXT), section.need("source", &TEXT));
        Some(Prices { date: date?, source: source?, unverified, price })
    });
    read.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_whole() {
        let table = built_in_prices().unwrap();
        let virginia = &table.regions["us-east-1"];
        let london = &table.regions["eu-west-2"];
        let of = |prices: &Prices, name: &str| prices.price.get(name).copied();
        assert_eq!(of(&virginia.write, "STANDARD").zip(of(&london.write, "STANDARD")), Some((0.005, 0.0053)));
        assert_eq!(of(&virginia.read, "STANDARD").zip(of(&london.read, "STANDARD")), Some((0.0004, 0.00042)));
        assert_eq!(of(&virginia.transfer, "us-east-2").zip(of(&london.transfer, "regions")), Some((0.01, 0.02)));
        assert_eq!(of(&london.storage, "STANDARD_IA"), None, "what nobody knows is absent");
        for (region, prices) in &table.regions {
            let kinds =
                [&prices.storage, &prices.write, &prices.read, &prices.retrieval, &prices.transfer, &prices.keys];
            let told = kinds.into_iter().filter(|prices| !prices.price.is_empty());
            assert!(told.clone().count() > 0, "{region}");
            for prices in told {
                assert!(prices.date.starts_with("20") && !prices.source.is_empty(), "{region}");
            }
        }
    }

    #[test]
    fn mistakes_are_told_with_line_and_key() {
        let text = "[regions.us-east-1.write]\ndate = \"2026-01\"\nsource = \"bill\"\nprice = { STANDRAD = 0.005 }\n\
                    [regions.us-east-1.read]\ndate = \"2026-01\"\nprice = { STANDARD = \"cheap\" }\n\
                    [regions.mars.transfer]\ndate = \"d\"\nsource = \"s\"\nprice = { internet = -1.0 }\n\
                    [stores.\"minio\".raed]\n";
        let told = parse_prices(text, "prices.toml").unwrap_err().to_string();
        for expected in [
            "prices.toml:4: regions.us-east-1.write.price.STANDRAD: the name is refused: \"STANDRAD\" is not known here",
            "prices.toml:5: regions.us-east-1.read.source: it is missing",
            "prices.toml:7: regions.us-east-1.read.price.STANDARD: it is a text, accepted is a number of dollars",
            "regions.mars: \"mars\" is not a region of AWS",
            "prices.toml:11: regions.mars.transfer.price.internet: -1 is no price",
            "stores.minio: it begins with neither",
            "stores.minio.raed: unknown key, did you mean \"read\"?",
        ] {
            assert!(told.contains(expected), "{expected}\nis not in\n{told}");
        }
    }

    #[test]
    fn a_store_has_its_own_prices() {
        let text = "[stores.\"http://127.0.0.1:9000/\".read]\ndate = \"2026-11\"\nsource = \"our own\"\nprice = { STANDARD = 1 }\nunverified = [\"STANDARD\"]\n";
        let table = parse_prices(text, "prices.toml").unwrap();
        let read = &table.stores["http://127.0.0.1:9000"].read;
        assert_eq!((read.price["STANDARD"], read.unverified.len()), (1.0, 1));
    }
}
