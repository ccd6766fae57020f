//! The list `[[transfer.windows]]`: other limits at certain times.

use super::super::file::{Kind, Section};
use super::super::kinds::{BANDWIDTH, CONCURRENCY, REQUEST_RATE};
use crate::model::limits::{Bound, Limits};
use crate::model::window::{DAYS, Minute, Window, Zone};

const TIME: Kind<Minute> = Kind {
    accepted: "a time of day from \"00:00\" to \"24:00\"",
    read: |value| {
        let text = value.as_str().ok_or("it is no text")?;
        Minute::parse(text).ok_or_else(|| format!("{text:?} is no time of day"))
    },
};

const DAY: Kind<usize> = Kind {
    accepted: "\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\" or \"sun\"",
    read: |value| {
        let text = value.as_str().ok_or("it is no text")?;
        DAYS.iter().position(|day| *day == text).ok_or_else(|| format!("{text:?} is no day"))
    },
};

const ZONE: Kind<Zone> = Kind {
    accepted: "a name of the time zone database such as \"UTC\" or \"Europe/London\"",
    read: |value| {
        let text = value.as_str().ok_or("it is no text")?;
        Zone::named(text).ok_or_else(|| format!("{text:?} is no time zone"))
    },
};

pub(super) fn window(section: &mut Section<'_>) -> Window {
    let (from, to) = (section.need("from", &TIME), section.need("to", &TIME));
    let days = section.values("days", &DAY);
    if section.is_empty_list("days") {
        section.refuse("days", "it holds no day, accepted is a list such as [\"sat\", \"sun\"]");
    }
    let limits = Limits {
        bandwidth: section.get("bandwidth", &BANDWIDTH).map(Bound::from),
        requests_per_second: section.get("requests_per_second", &REQUEST_RATE).map(Bound::from),
        concurrency: section.get("concurrency", &CONCURRENCY),
    };
    if !["bandwidth", "requests_per_second", "concurrency"].iter().any(|name| section.has(name)) {
        section.refuse_self("it limits nothing, accepted is bandwidth, requests_per_second or concurrency");
    }
    let midnight = Minute::MIDNIGHT;
    Window {
        from: from.unwrap_or(midnight),
        to: to.unwrap_or(midnight),
        days: days.map_or([true; 7], |days| std::array::from_fn(|nth| days.contains(&nth))),
        zone: section.get("zone", &ZONE).unwrap_or_else(Zone::utc),
        limits,
    }
}
