//! Until when a device is trusted, as people write and read it.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use velin_core::identity::WallTime;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// `30d`, `12h`, `2w`, `2027-01-01`, `2027-01-01T12:00:00Z` or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// So long from now on.
    In(Duration),
    /// At this time.
    At(WallTime),
    /// Not at all.
    Never,
}

/// Why a text does not say when trust ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExpiryError {
    /// Neither a span nor a date.
    #[error(
        "{found:?} is no time; write 30d, 12h or 2w from now, a date such as 2027-01-01 (UTC), or \
         never"
    )]
    Unknown {
        /// The text, cut to 40 characters.
        found: String,
    },
    /// A number alone.
    #[error("{found} has no unit; write {found}d for days or {found}h for hours")]
    NoUnit {
        /// The number.
        found: u32,
    },
    /// Not in the future.
    #[error("{at} is not in the future; `velin-pipe trust remove` ends trust now")]
    Past {
        /// The time, or the span.
        at: String,
    },
}

impl Expiry {
    /// The time it stands for. `None` is never.
    pub(super) fn resolve(self, now: WallTime) -> Result<Option<WallTime>, ExpiryError> {
        match self {
            Self::Never => Ok(None),
            Self::In(span) => Ok(Some(now + span)),
            Self::At(time) if time <= now => Err(ExpiryError::Past { at: time.to_string() }),
            Self::At(time) => Ok(Some(time)),
        }
    }

    /// After so many days.
    pub(super) fn days(days: u32) -> Self {
        Self::In(Duration::from_secs(u64::from(days) * DAY))
    }
}

impl FromStr for Expiry {
    type Err = ExpiryError;

    fn from_str(text: &str) -> Result<Self, ExpiryError> {
        let text = text.trim();
        if text == "never" {
            return Ok(Self::Never);
        }
        let time = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse());
        if let Ok(time) = time {
            return Ok(Self::At(time));
        }
        let unknown = || ExpiryError::Unknown { found: text.chars().take(40).collect() };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u32 = number.parse().map_err(|_| unknown())?;
        let unit = match unit.trim_start() {
            "h" => HOUR,
            "d" => DAY,
            "w" => WEEK,
            "" => return Err(ExpiryError::NoUnit { found: number }),
            _ => return Err(unknown()),
        };
        if number == 0 {
            return Err(ExpiryError::Past { at: text.to_owned() });
        }
        Ok(Self::In(Duration::from_secs(u64::from(number) * unit)))
    }
}

/// What is left, rounded down: `in 29 days`, `in 47 hours`, `expired`.
pub(super) fn remaining(expires: WallTime, now: WallTime) -> String {
    let Some(left) = expires.as_unix().checked_sub(now.as_unix()).filter(|left| *left > 0) else {
        return "expired".to_owned();
    };
    match left {
        0..MINUTE => "in less than a minute".to_owned(),
        MINUTE..120 => "in 1 minute".to_owned(),
        120..7200 => format!("in {} minutes", left / MINUTE),
        7200..172_800 => format!("in {} hours", left / HOUR),
        _ => format!("in {} days", left / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix(1_795_164_000);

    fn at(text: &str) -> Result<Option<String>, ExpiryError> {
        let time = text.parse::<Expiry>()?.resolve(NOW)?;
        Ok(time.map(|time| time.to_string()))
    }

    #[test]
    fn spans_and_dates_are_understood() {
        for (text, time) in [
            ("30d", "2026-12-20T08:40:00Z"),
            ("12h", "2026-11-20T20:40:00Z"),
            ("2 w", "2026-12-04T08:40:00Z"),
            ("2027-01-01", "2027-01-01T00:00:00Z"),
            ("2027-01-01T12:00:00+02:00", "2027-01-01T10:00:00Z"),
            ("4294967295d", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(at(text), Ok(Some(time.to_owned())), "{text}");
        }
        assert_eq!(at("never"), Ok(None));
        assert_eq!(Expiry::days(30), "30d".parse().unwrap());
    }

    #[test]
    fn everything_else_is_refused_with_what_to_write() {
        let error = |text: &str| at(text).unwrap_err().to_string();
        for text in ["", "d", "soon", "30x", "1.5d", "-1d", "2027-13-01", "99999999999d", "3m"] {
            assert!(error(text).contains("write 30d"), "{text}: {}", error(text));
        }
        assert!(error("30").contains("write 30d for days"));
        for text in ["0d", "2020-01-01", "2026-11-20T08:40:00Z"] {
            assert!(error(text).contains("trust remove"), "{text}: {}", error(text));
        }
        assert!(!error("\u{1b}[31m").contains('\u{1b}'));
    }

    #[test]
    fn what_is_left_is_told_in_units_that_matter() {
        for (seconds, text) in [
            (0, "expired"),
            (1, "in less than a minute"),
            (60, "in 1 minute"),
            (3 * HOUR / 2, "in 90 minutes"),
            (2 * HOUR, "in 2 hours"),
            (2 * DAY - 1, "in 47 hours"),
            (30 * DAY - 1, "in 29 days"),
            (30 * DAY, "in 30 days"),
        ] {
            assert_eq!(remaining(NOW + Duration::from_secs(seconds), NOW), text);
        }
        assert_eq!(remaining(WallTime::EPOCH, NOW), "expired");
    }
}
