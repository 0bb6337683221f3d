//! Calendar time, for the dates in a trust file and nothing else.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use toml::value::{Datetime, Offset};

const DAY: i64 = 86_400;

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds (POSIX).
///
/// The years 1970 to 9999. Nothing in the protocol depends on it: a wrong wall clock only makes
/// `expires` come early or late.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

/// A text that is no RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a time is written like 2027-01-01T00:00:00Z (RFC 3339, years 1970 to 9999)")]
pub struct WallTimeError;

impl WallTime {
    /// The epoch.
    pub const EPOCH: Self = Self(0);

    /// 9999-12-31T23:59:59Z, the last that RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799);

    /// `seconds` after the epoch, at most [`WallTime::MAX`].
    pub const fn from_unix(seconds: u64) -> Self {
        if seconds > Self::MAX.0 { Self::MAX } else { Self(seconds) }
    }

    /// Seconds since the epoch.
    pub const fn as_unix(self) -> u64 {
        self.0
    }

    /// A TOML time with date, time and offset; fractions of a second are cut.
    pub(super) fn from_datetime(datetime: &Datetime) -> Result<Self, WallTimeError> {
        let Datetime { date: Some(date), time: Some(time), offset: Some(offset) } = *datetime
        else {
            return Err(WallTimeError);
        };
        let days = days_from_civil(i64::from(date.year), date.month.into(), date.day.into());
        let of_day = i64::from(time.hour) * 3600
            + i64::from(time.minute) * 60
            // RFC 3339 allows second 60; POSIX has no leap seconds.
            + i64::from(time.second.unwrap_or(0).min(59));
        let east = match offset {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes) * 60,
        };
        match u64::try_from(days * DAY + of_day - east) {
            Ok(seconds) if seconds <= Self::MAX.0 => Ok(Self(seconds)),
            _ => Err(WallTimeError),
        }
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self::from_unix(self.0.saturating_add(rhs.as_secs()))
    }
}

impl FromStr for WallTime {
    type Err = WallTimeError;

    fn from_str(text: &str) -> Result<Self, WallTimeError> {
        Self::from_datetime(&text.parse().map_err(|_| WallTimeError)?)
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, of_day) = (self.0 as i64 / DAY, self.0 % DAY as u64);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years begin in March here, so that
/// the leap day is their last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 153 days in each five months from March; 719_468 days from 0000-03-01 to the epoch.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date that lies `days` after 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let year = (1970 + days / 366..)
        .take_while(|&year| days_from_civil(year, 1, 1) <= days)
        .last()
        .unwrap_or(1970);
    let month = (1..=12).rev().find(|&m| days_from_civil(year, m, 1) <= days).unwrap_or(1);
    (year, month, days - days_from_civil(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_dates_agree_with_posix() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-11-20T08:40:00Z", 1_795_164_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(text.parse::<WallTime>().unwrap().as_unix(), seconds, "{text}");
            assert_eq!(WallTime::from_unix(seconds).to_string(), text);
        }
    }

    #[test]
    fn offsets_and_fractions_are_understood() {
        let noon = "2027-01-01T12:00:00Z".parse::<WallTime>().unwrap();
        for text in
            ["2027-01-01T14:00:00+02:00", "2027-01-01T04:30:00.75-07:30", "2027-01-01t12:00:00z"]
        {
            assert_eq!(text.parse(), Ok(noon), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "tomorrow",
            "2027-01-01",
            "12:00:00",
            "2027-01-01T00:00:00",
            "2027-02-30T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2027-01-01T24:00:00Z",
        ] {
            assert_eq!(text.parse::<WallTime>(), Err(WallTimeError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_survives_the_round_trip(seconds in 0..=WallTime::MAX.0) {
            let time = WallTime::from_unix(seconds);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn no_text_panics(text in "(?s).{0,40}|[0-9TZ:.+-]{0,40}") {
            let _ = text.parse::<WallTime>();
        }
    }
}
