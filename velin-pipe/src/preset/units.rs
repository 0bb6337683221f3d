//! Quantities of a preset: every one carries its unit in the text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use velin_core::codec::SampleFormat;
use velin_core::units::SampleRate;

/// A length of time, written `"5ms"`, `"2.5ms"`, `"10s"`, `"1m"`, `"500us"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    /// A whole number of microseconds, rounded down.
    pub fn as_micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }

    /// A whole number of nanoseconds.
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl FromStr for TimeSpan {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let unit_at = trimmed.find(|c: char| c.is_ascii_alphabetic() || c == 'µ');
        let Some(unit_at) = unit_at else {
            return Err(if trimmed.parse::<f64>().is_ok() {
                QuantityError::NoUnit { found: trimmed.to_owned(), example: "5ms" }
            } else {
                QuantityError::NotATime { found: text.to_owned() }
            });
        };
        let (number, unit) = trimmed.split_at(unit_at);
        let nanos_per_unit = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" | "min" => 60e9,
            "h" => 3600e9,
            _ => return Err(QuantityError::UnknownUnit { unit: unit.to_owned() }),
        };
        let Ok(number) = number.trim().parse::<f64>() else {
            return Err(QuantityError::NotATime { found: text.to_owned() });
        };
        // A year is far beyond anything meant and far below what a Duration holds.
        if !(0.0..=3.2e16).contains(&(number * nanos_per_unit)) {
            return Err(QuantityError::NotATime { found: text.to_owned() });
        }
        Ok(Self(Duration::from_nanos((number * nanos_per_unit).round() as u64)))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.as_nanos();
        if nanos >= 1_000_000_000 {
            write!(f, "{}s", nanos as f64 / 1e9)
        } else if nanos >= 1_000_000 {
            write!(f, "{}ms", nanos as f64 / 1e6)
        } else {
            write!(f, "{}us", nanos as f64 / 1e3)
        }
    }
}

/// A gain: a factor `0.8`, a percentage `"80%"` or decibels `"-6dB"`; 0 to 10 times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain(pub f64);

impl Gain {
    /// What GStreamer's `volume` takes, and enough for any microphone.
    pub const MAX: f64 = 10.0;

    /// The gain as is.
    pub const UNITY: Self = Self(1.0);

    fn from_factor(factor: f64, found: &str) -> Result<Self, QuantityError> {
        if (0.0..=Self::MAX).contains(&factor) {
            Ok(Self(factor))
        } else {
            Err(QuantityError::GainRange { found: found.to_owned() })
        }
    }
}

impl FromStr for Gain {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let lower = trimmed.to_ascii_lowercase();
        let factor = if let Some(db) = lower.strip_suffix("db") {
            db.trim().parse::<f64>().ok().map(|db| 10f64.powf(db / 20.0))
        } else if let Some(percent) = lower.strip_suffix('%') {
            percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0)
        } else {
            None
        };
        match factor {
            Some(factor) => Self::from_factor(factor, trimmed),
            None => Err(QuantityError::NotAGain { found: text.to_owned() }),
        }
    }
}

/// A sample rate: `48000`, `"48kHz"` or `"44100Hz"`; 8 to 192 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub SampleRate);

impl Rate {
    fn from_hz(hz: f64, found: &str) -> Result<Self, QuantityError> {
        let whole = hz.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&hz);
        let rate = if whole { SampleRate::new(hz as u32) } else { None };
        rate.map(Self).ok_or_else(|| QuantityError::RateRange { found: found.to_owned() })
    }
}

impl FromStr for Rate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_ascii_lowercase();
        let hz = if let Some(kilo) = lower.strip_suffix("khz") {
            // Tenths of a kilohertz are exact only after rounding: 44.1 × 1000 is 44100.00000000001.
            kilo.trim().parse::<f64>().ok().map(|kilo| (kilo * 1e3).round())
        } else if let Some(hz) = lower.strip_suffix("hz") {
            hz.trim().parse::<f64>().ok()
        } else {
            None
        };
        match hz {
            Some(hz) => Self::from_hz(hz, text),
            None => Err(QuantityError::NotARate { found: text.to_owned() }),
        }
    }
}

/// A sample format by GStreamer's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(pub SampleFormat);

impl FromStr for Format {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        SampleFormat::from_name(text)
            .map(Self)
            .ok_or_else(|| QuantityError::UnknownFormat { found: text.to_owned() })
    }
}

/// The DSCP that packets are marked with: a name or a number, −1 leaves them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dscp(pub i32);

impl Dscp {
    /// The names that presets and URIs know, with their values (RFC 8325 explains the choice of
    /// `voip`; the others are RFC 2474 and RFC 1349 marks that home routers still honour).
    pub const NAMES: [(&'static str, i32); 5] =
        [("voip", 46), ("cs5", 40), ("lowdelay", 4), ("throughput", 2), ("besteffort", 0)];

    fn from_number(number: i64) -> Result<Self, QuantityError> {
        match i32::try_from(number) {
            Ok(number @ -1..=63) => Ok(Self(number)),
            _ => Err(QuantityError::UnknownQos { found: number.to_string() }),
        }
    }
}

impl FromStr for Dscp {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::NAMES
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| Self(value))
            .ok_or_else(|| QuantityError::UnknownQos { found: text.to_owned() })
    }
}

/// Why a quantity cannot be used. The text after the line break says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantityError {
    /// A number without its unit.
    #[error("`{found}` has no unit\nwrite the unit, for example \"{example}\"")]
    NoUnit {
        /// What stood there.
        found: String,
        /// A value that would be right.
        example: &'static str,
    },
    /// Not a time at all.
    #[error(
        "`{found}` is not a length of time\nwrite a number and a unit: \"5ms\", \"2.5ms\", \"10s\""
    )]
    NotATime {
        /// What stood there.
        found: String,
    },
    /// A unit nobody knows.
    #[error("unknown unit `{unit}`\nunits of time are ns, us, ms, s, m and h")]
    UnknownUnit {
        /// What stood there.
        unit: String,
    },
    /// Not a gain at all.
    #[error(
        "`{found}` is not a gain\nwrite a factor (0.8), a percentage (\"80%\") or decibels (\"-6dB\")"
    )]
    NotAGain {
        /// What stood there.
        found: String,
    },
    /// A gain below silence or above ten times.
    #[error("a gain of `{found}` is out of range\nuse 0 to 10, 0% to 1000%, or up to 20dB")]
    GainRange {
        /// What stood there.
        found: String,
    },
    /// Not a sample rate at all.
    #[error("`{found}` is not a sample rate\nwrite 48000, \"48kHz\" or \"44.1kHz\"")]
    NotARate {
        /// What stood there.
        found: String,
    },
    /// A rate that no stream carries.
    #[error("a sample rate of `{found}` is out of range\nuse 8 kHz to 192 kHz, for example 48000")]
    RateRange {
        /// What stood there.
        found: String,
    },
    /// A sample format that no stream carries.
    #[error("unknown sample format `{found}`\nformats are S16LE, S24LE and F32LE")]
    UnknownFormat {
        /// What stood there.
        found: String,
    },
    /// A class of service nobody knows.
    #[error(
        "unknown class of service `{found}`\nuse voip, cs5, lowdelay, throughput, besteffort or a DSCP from 0 to 63 (-1 leaves packets unmarked)"
    )]
    UnknownQos {
        /// What stood there.
        found: String,
    },
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Times;
        impl Visitor<'_> for Times {
            type Value = TimeSpan;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"5ms\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<TimeSpan, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<TimeSpan, E> {
                Err(E::custom(QuantityError::NoUnit { found: number.to_string(), example: "5ms" }))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<TimeSpan, E> {
                Err(E::custom(QuantityError::NoUnit { found: number.to_string(), example: "5ms" }))
            }
        }
        deserializer.deserialize_any(Times)
    }
}

impl<'de> Deserialize<'de> for Gain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Gains;
        impl Visitor<'_> for Gains {
            type Value = Gain;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a gain such as 0.8 or \"-6dB\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Gain, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Gain, E> {
                Gain::from_factor(number as f64, &number.to_string()).map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Gain, E> {
                Gain::from_factor(number, &number.to_string()).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Gains)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rates;
        impl Visitor<'_> for Rates {
            type Value = Rate;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sample rate such as 48000 or \"48kHz\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Rate, E> {
                Rate::from_hz(number as f64, &number.to_string()).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Rates)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Dscp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Marks;
        impl Visitor<'_> for Marks {
            type Value = Dscp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a class of service such as \"voip\" or a DSCP such as 46")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Dscp, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Dscp, E> {
                Dscp::from_number(number).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_number_and_a_unit() {
        let ok = |text: &str| text.parse::<TimeSpan>().map(TimeSpan::as_nanos);
        assert_eq!(ok("5ms"), Ok(5_000_000));
        assert_eq!(ok("2.5ms"), Ok(2_500_000));
        assert_eq!(ok("10 s"), Ok(10_000_000_000));
        assert_eq!(ok("2m"), Ok(120_000_000_000));
        assert_eq!(ok("500us"), Ok(500_000));
        assert_eq!(ok("7µs"), Ok(7_000));
        assert!(matches!(ok("5"), Err(QuantityError::NoUnit { .. })));
        assert!(matches!(ok("5 parsecs"), Err(QuantityError::UnknownUnit { .. })));
        assert!(matches!(ok("-5ms"), Err(QuantityError::NotATime { .. })));
        assert!(matches!(ok("ms"), Err(QuantityError::NotATime { .. })));
        assert!(matches!(ok(""), Err(QuantityError::NotATime { .. })));
        assert!(matches!(ok("99999999999h"), Err(QuantityError::NotATime { .. })));
        assert!(matches!(ok("infs"), Err(QuantityError::UnknownUnit { .. })));
    }

    #[test]
    fn times_print_in_the_unit_that_reads_best() {
        assert_eq!(TimeSpan(Duration::from_micros(2500)).to_string(), "2.5ms");
        assert_eq!(TimeSpan(Duration::from_secs(10)).to_string(), "10s");
        assert_eq!(TimeSpan(Duration::from_micros(20)).to_string(), "20us");
    }

    #[test]
    fn gains_are_factors_percentages_or_decibels() {
        assert_eq!("80%".parse(), Ok(Gain(0.8)));
        assert_eq!("0dB".parse(), Ok(Gain(1.0)));
        let Ok(Gain(half)) = "-6.0206dB".parse() else { panic!("decibels parse") };
        assert!((half - 0.5).abs() < 1e-5);
        assert!(matches!("0.8".parse::<Gain>(), Err(QuantityError::NotAGain { .. })));
        assert!(matches!("40dB".parse::<Gain>(), Err(QuantityError::GainRange { .. })));
        assert!(matches!("NaN%".parse::<Gain>(), Err(QuantityError::GainRange { .. })));
    }

    #[test]
    fn rates_are_hertz_or_kilohertz_within_what_a_stream_carries() {
        let hz = |text: &str| text.parse::<Rate>().map(|rate| rate.0.hz());
        assert_eq!(hz("48kHz"), Ok(48_000));
        assert_eq!(hz("44.1kHz"), Ok(44_100));
        assert_eq!(hz("96000 Hz"), Ok(96_000));
        assert!(matches!(hz("48"), Err(QuantityError::NotARate { .. })));
        assert!(matches!(hz("1MHz"), Err(QuantityError::NotARate { .. })));
        assert!(matches!(hz("384kHz"), Err(QuantityError::RateRange { .. })));
    }

    #[test]
    fn classes_of_service_have_names() {
        assert_eq!("voip".parse(), Ok(Dscp(46)));
        assert_eq!("besteffort".parse(), Ok(Dscp(0)));
        assert!(matches!("fast".parse::<Dscp>(), Err(QuantityError::UnknownQos { .. })));
        assert!(matches!(Dscp::from_number(64), Err(QuantityError::UnknownQos { .. })));
        assert_eq!(Dscp::from_number(-1), Ok(Dscp(-1)));
    }
}
