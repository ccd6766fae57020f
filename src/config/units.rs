//! Durations, sizes, rates and shares as people write them, each with its unit in the value.

use std::time::Duration;

use super::settings::Share;

/// Milliseconds per unit, largest first: the order in which a duration is written.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes per unit: IEC units are powers of 1024, SI units of 1000. Larger first where a size is shown.
const SIZE_UNITS: [(&str, u64); 12] = [
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads a duration such as `15m`, `500ms` or `1h30m`: whole numbers, larger units first, each unit once.
///
/// # Errors
/// The reason, as the first half of a sentence.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut total = 0_u64;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() || text.is_empty() {
        let (number, tail) = leading_number(rest, text)?;
        let (unit, next) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let millis = unit_of(&DURATION_UNITS, unit, text)?;
        if millis >= last_unit {
            return Err(format!("{text:?} does not go from larger to smaller units"));
        }
        total = number
            .checked_mul(millis)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("{text:?} is too long"))?;
        last_unit = millis;
        rest = next;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration so that [`parse_duration`] reads it back; what is below a millisecond is cut off.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in DURATION_UNITS {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a size in bytes such as `48MiB`, `1GiB` or `10MB`.
///
/// # Errors
/// The reason, as the first half of a sentence.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = leading_number(text, text)?;
    let bytes = unit_of(&SIZE_UNITS, unit, text)?;
    number.checked_mul(bytes).ok_or_else(|| format!("{text:?} is too large"))
}

/// Writes a size in the largest unit that keeps it whole, so that [`parse_size`] reads it back.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let whole = SIZE_UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Reads a rate in bytes per second such as `20MiB/s`.
///
/// # Errors
/// The reason, as the first half of a sentence.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let Some(size) = text.strip_suffix("/s") else {
        return Err(format!("{text:?} does not end in \"/s\""));
    };
    parse_size(size)
}

/// Reads a share such as `5%` or `0.25%`, at most `100%` and at most four decimals.
///
/// # Errors
/// The reason, as the first half of a sentence.
pub fn parse_share(text: &str) -> Result<Share, String> {
    let Some(number) = text.strip_suffix('%') else {
        return Err(format!("{text:?} has no \"%\""));
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 4 {
        return Err(format!("{text:?} is not a percentage of at most four decimals"));
    }
    let parts = format!("{whole}{decimals:0<4}").parse::<u32>().ok();
    parts.and_then(Share::from_parts_per_million).ok_or_else(|| format!("{text:?} is more than \"100%\""))
}

/// Reads an amount of dollars such as `5`, `5.00`, `$5` or `5usd`.
///
/// # Errors
/// The reason, as the first half of a sentence.
pub fn parse_dollars(text: &str) -> Result<f64, String> {
    let bare = text.strip_prefix('$').unwrap_or(text);
    let bare = if bare.len() == text.len() {
        ["usd", "USD"].iter().find_map(|unit| bare.strip_suffix(unit)).unwrap_or(bare).trim_end()
    } else {
        bare
    };
    let (whole, decimals) = bare.split_once('.').unwrap_or((bare, "0"));
    let digits = |part: &str| !part.is_empty() && part.len() <= 12 && part.bytes().all(|byte| byte.is_ascii_digit());
    match bare.parse() {
        Ok(dollars) if digits(whole) && digits(decimals) => Ok(dollars),
        Ok(_) | Err(_) => Err(format!("{text:?} is not an amount of dollars such as \"5.00\", \"$5\" or \"5usd\"")),
    }
}

/// The digits that `rest` begins with as a number, and what follows them; `text` is the whole, for the reason.
fn leading_number<'t>(rest: &'t str, text: &str) -> Result<(u64, &'t str), String> {
    let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    if digits.is_empty() {
        return Err(format!("{text:?} does not begin with a whole number"));
    }
    let number = digits.parse().map_err(|_| format!("{text:?} is too large a number"))?;
    Ok((number, tail))
}

fn unit_of(units: &[(&str, u64)], unit: &str, text: &str) -> Result<u64, String> {
    if unit.is_empty() {
        return Err(format!("{text:?} has no unit"));
    }
    let known = units.iter().find(|(name, _)| *name == unit);
    known.map(|(_, scale)| *scale).ok_or_else(|| format!("{text:?} has the unknown unit {unit:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in
            [("15m", 900_000), ("500ms", 500), ("1h30m", 5_400_000), ("30d", 2_592_000_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn durations_are_refused_with_a_reason() {
        for (text, reason) in [
            ("", "does not begin with a whole number"),
            ("15", "has no unit"),
            ("m15", "does not begin with a whole number"),
            ("-5s", "does not begin with a whole number"),
            ("1.5h", "unknown unit \".\""),
            ("15min", "unknown unit \"min\""),
            ("30m1h", "larger to smaller"),
            ("1m1m", "larger to smaller"),
            ("1h30", "has no unit"),
            ("999999999999999999999s", "too large a number"),
            ("18446744073709551615d", "too long"),
        ] {
            let refused = parse_duration(text).unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("48MiB", 48 << 20), ("1GiB", 1 << 30), ("10MB", 10_000_000), ("1kB", 1000), ("1KB", 1000), ("0B", 0)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_rates_and_shares_are_refused_with_a_reason() {
        for (refused, reason) in [
            (parse_size("48").unwrap_err(), "\"48\" has no unit"),
            (parse_size("48mib").unwrap_err(), "unknown unit \"mib\""),
            (parse_size("99999PiB").unwrap_err(), "too large"),
            (parse_rate("20MiB").unwrap_err(), "does not end in \"/s\""),
            (parse_rate("20/s").unwrap_err(), "has no unit"),
            (parse_share("5").unwrap_err(), "has no \"%\""),
            (parse_share("101%").unwrap_err(), "more than \"100%\""),
            (parse_share("100.0001%").unwrap_err(), "more than \"100%\""),
            (parse_share("1.23456%").unwrap_err(), "four decimals"),
            (parse_share(".5%").unwrap_err(), "not a percentage"),
            (parse_share("99999999999%").unwrap_err(), "more than \"100%\""),
        ] {
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn dollars_are_read() {
        for (text, dollars) in [("5", 5.0), ("5.00", 5.0), ("$5", 5.0), ("5usd", 5.0), ("0.25 USD", 0.25), ("0", 0.0)] {
            assert_eq!(parse_dollars(text), Ok(dollars), "{text}");
        }
        for text in ["", "$", "-5", "5eur", "$5usd", "1e3", ".5", "5.", "inf", "NaN", "1.2.3", "1,000"] {
            assert!(parse_dollars(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_in_millionths() {
        assert_eq!(parse_share("5%").unwrap().parts_per_million(), 50_000);
        assert_eq!(parse_share("100%").unwrap().parts_per_million(), 1_000_000);
        assert_eq!(parse_share("0.25%").unwrap().parts_per_million(), 2_500);
    }

    proptest! {
        #[test]
        fn a_duration_survives_the_round_trip(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_size_survives_the_round_trip(bytes: u64, zeros in 0_u32..50) {
            let bytes = (bytes >> zeros) << zeros;
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_a_unit_panic(text in "[0-9a-zA-Z.%/ é-]{0,12}|\\PC{0,8}") {
            let starts = text.starts_with(|c: char| c.is_ascii_digit());
            prop_assert!(starts || parse_duration(&text).is_err());
            prop_assert!(starts || parse_size(&text).is_err());
            prop_assert!(text.ends_with("/s") || parse_rate(&text).is_err());
            prop_assert!(text.ends_with('%') || parse_share(&text).is_err());
        }
    }
}
