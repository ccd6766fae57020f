//! Time windows for limits, by the wall clock of a place.
//!
//! Only what the clock on the wall shows counts: a window from 02:30 on the night when clocks jump from 02:00 to 03:00
//! begins at 03:00, and one from 02:00 to 03:00 on the night when that hour comes twice holds for both.

use std::fmt;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use super::limits::Limits;
use super::object::Timestamp;

/// The days of the week as the config names them, Monday first.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTES_OF_A_DAY: u16 = 24 * 60;

/// A place's time, by its name in the time zone database.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of that name (`Europe/London`, `UTC`); `None` where the database has none. The database of the system
    /// is asked first, then the one that is built in.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("unnamed"))
    }
}

/// A time of day in minutes, 0 to 1440: the last is the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(u16);

impl Minute {
    /// The beginning of the day.
    pub const MIDNIGHT: Self = Self(0);

    /// Reads `HH:MM`, up to `24:00`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(hours) || !digits(minutes) {
            return None;
        }
        let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
        let minute = hours.checked_mul(60)?.checked_add(minutes)?;
        (minutes < 60 && minute <= MINUTES_OF_A_DAY).then_some(Self(minute))
    }
}

/// Limits for a part of some days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Begins then.
    pub from: Minute,
    /// Ends before then: on the next day where that is not later than `from`.
    pub to: Minute,
    /// On which days it begins, Monday first.
    pub days: [bool; 7],
    /// Whose clock.
    pub zone: Zone,
    /// What holds meanwhile.
    pub limits: Limits,
}

impl Window {
    /// Whether the window holds at that time.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        let millis = i64::try_from(now.0).unwrap_or(i64::MAX);
        let Ok(instant) = jiff::Timestamp::from_millisecond(millis) else { return false };
        let wall = instant.to_zoned(self.zone.0.clone());
        let hour = u16::try_from(wall.hour()).unwrap_or(0);
        let minute = Minute(hour * 60 + u16::try_from(wall.minute()).unwrap_or(0));
        let today = self.begins_on(wall.weekday());
        if self.from < self.to {
            return today && self.from <= minute && minute < self.to;
        }
        (today && self.from <= minute) || (self.begins_on(wall.weekday().previous()) && minute < self.to)
    }

    fn begins_on(&self, day: Weekday) -> bool {
        let nth = usize::try_from(day.to_monday_zero_offset()).unwrap_or(0);
        self.days.get(nth).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, to: &str, days: &[&str], zone: &str) -> Window {
        Window {
            from: Minute::parse(from).unwrap(),
            to: Minute::parse(to).unwrap(),
            days: DAYS.map(|day| days.contains(&day)),
            zone: Zone::named(zone).unwrap(),
            limits: Limits::default(),
        }
    }

    fn holds(window: &Window, time: &str) -> bool {
        window.holds(Timestamp::parse_rfc3339(time).unwrap())
    }

    #[test]
    fn times_of_day_are_read() {
        for (text, minute) in [("00:00", 0), ("08:30", 510), ("23:59", 1439), ("24:00", 1440)] {
            assert_eq!(Minute::parse(text), Some(Minute(minute)), "{text}");
        }
        for odd in ["", "8:00", "24:01", "12:60", "12", "12:0", "+1:00", "99:99", "12:00:00"] {
            assert_eq!(Minute::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_window_holds_from_its_first_minute_to_before_its_last() {
        let office = window("08:00", "18:00", &["mon", "fri"], "UTC");
        // 2026-11-20 is a Friday.
        for (time, expected) in [
            ("2026-11-20T07:59:59Z", false),
            ("2026-11-20T08:00:00Z", true),
            ("2026-11-20T17:59:59Z", true),
            ("2026-11-20T18:00:00Z", false),
            ("2026-11-21T12:00:00Z", false),
            ("2026-11-23T12:00:00Z", true),
        ] {
            assert_eq!(holds(&office, time), expected, "{time}");
        }
        assert!(holds(&window("00:00", "24:00", &["fri"], "UTC"), "2026-11-20T23:59:59Z"));
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = window("22:00", "06:00", &["fri"], "UTC");
        for (time, expected) in [
            ("2026-11-20T05:00:00Z", false),
            ("2026-11-20T22:00:00Z", true),
            ("2026-11-21T05:59:59Z", true),
            ("2026-11-21T06:00:00Z", false),
            ("2026-11-21T22:00:00Z", false),
        ] {
            assert_eq!(holds(&night, time), expected, "{time}");
        }
        let whole = window("09:00", "09:00", &["fri"], "UTC");
        assert!(holds(&whole, "2026-11-21T08:59:00Z") && !holds(&whole, "2026-11-21T09:00:00Z"));
    }

    #[test]
    fn the_clock_on_the_wall_decides_when_clocks_change() {
        // London: 2026-03-29 01:00 becomes 02:00; 2026-10-25 02:00 becomes 01:00. Both are Sundays.
        let hour = window("01:00", "02:00", &["sun"], "Europe/London");
        assert!(
            !holds(&hour, "2026-03-29T00:59:59Z") && !holds(&hour, "2026-03-29T01:00:00Z"),
            "an hour that never is"
        );
        assert!(holds(&hour, "2026-10-25T00:30:00Z") && holds(&hour, "2026-10-25T01:30:00Z"), "an hour that is twice");
        let late = window("01:30", "04:00", &["sun"], "Europe/London");
        assert!(!holds(&late, "2026-03-29T00:59:00Z") && holds(&late, "2026-03-29T01:00:00Z"), "it begins at the jump");
        let office = window("08:00", "18:00", &["mon"], "Europe/London");
        assert!(holds(&office, "2026-07-06T07:00:00Z"), "summer time");
        assert!(!holds(&office, "2026-01-05T07:00:00Z"), "winter time");
        assert_eq!(Zone::named("Europe/Lundon"), None);
    }
}
