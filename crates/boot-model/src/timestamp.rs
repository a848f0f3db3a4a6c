use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;

const MILLIS_PER_DAY: u64 = 86_400_000;
/// The end of the year 9999, so that every timestamp has a four-digit year.
const MAX_MILLIS: u64 = 253_402_300_799_999;

/// A moment in UTC, to the millisecond, written as RFC 3339: `2026-11-20T14:03:00.250Z`. No clock is read here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// The text is no timestamp.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no date: write it as 2026-11-20T14:03:00Z (UTC)")]
pub struct InvalidTimestamp(String);

impl Timestamp {
    /// The moment so many milliseconds after 1970 began. Beyond the year 9999 it stays at that year's end.
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(if millis > MAX_MILLIS { MAX_MILLIS } else { millis })
    }

    /// Milliseconds since 1970 began.
    pub const fn unix_millis(self) -> u64 {
        self.0
    }

    /// The day alone: `2026-11-20`.
    pub fn date(self) -> String {
        let (year, month, day) = civil(self.0 / MILLIS_PER_DAY);
        format!("{year:04}-{month:02}-{day:02}")
    }
}

/// Year, month and day of a day counted from 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`, for days from 1970 on).
const fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as u64;
    (year, month, day)
}

/// The reverse of [`civil`]; `None` for a day that no calendar has.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted_year = year - (month <= 2) as u64;
    let year_of_era = shifted_year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (shifted_year / 400 * 146_097 + day_of_era).checked_sub(719_468)?;
    (civil(days) == (year, month, day)).then_some(days)
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        parse(text).ok_or_else(|| InvalidTimestamp(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !separators.iter().all(|(at, byte)| text.as_bytes().get(*at) == Some(byte)) {
        return None;
    }
    let millis = match text.get(19..)? {
        "Z" => 0,
        fraction if fraction.len() == 5 && fraction.starts_with('.') && fraction.ends_with('Z') => number(20, 23)?,
        _ => return None,
    };
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    Some(Timestamp(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + millis))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = self.0 % MILLIS_PER_DAY;
        let (hour, minute, second) = (within / 3_600_000, within / 60_000 % 60, within / 1_000 % 60);
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}", self.date())?;
        match within % 1_000 {
            0 => f.write_str("Z"),
            millis => write!(f, ".{millis:03}Z"),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-11-23T02:35:07.250Z", 1_795_401_307_250),
            ("9999-12-31T23:59:59.999Z", MAX_MILLIS),
        ] {
            assert_eq!(text.parse(), Ok(Timestamp(millis)), "{text}");
            assert_eq!(Timestamp(millis).to_string(), text);
        }
        assert_eq!(Timestamp::from_unix_millis(u64::MAX), Timestamp(MAX_MILLIS));
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        for day in 0..146_097 {
            let (year, month, dom) = civil(day);
            assert_eq!(days(year, month, dom), Some(day));
        }
    }

    #[test]
    fn refuses_days_and_hours_that_are_none() {
        for bad in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+01:00",
            "1969-12-31T00:00:00Z",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.25Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
}
