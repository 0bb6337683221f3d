//! What is measured: levels for the live line, the elements' statistics for both ends.

use gst::glib;
use gst::prelude::*;
use serde_json::{Map, Value, json};

/// The elements whose statistics are of interest.
const LINK_ELEMENTS: [&str; 2] = ["velinsink", "velinsrc"];

/// Every `velinsink` and `velinsrc` of `pipeline` with its statistics.
pub(super) fn of(pipeline: &gst::Pipeline) -> Vec<(gst::Element, gst::Structure)> {
    let is_link = |element: &gst::Element| {
        element.factory().is_some_and(|factory| LINK_ELEMENTS.contains(&factory.name().as_str()))
    };
    pipeline
        .iterate_recurse()
        .into_iter()
        .flatten()
        .filter(is_link)
        .filter(|element| element.find_property("stats").is_some())
        .filter_map(|element| {
            let stats = element.property::<Option<gst::Structure>>("stats")?;
            Some((element, stats))
        })
        .collect()
}

/// The figures of the live line. What no element tells is left out of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    delay_us: Option<u64>,
    sent: Option<u64>,
    received: Option<u64>,
    repaired: Option<u64>,
    concealed: Option<u64>,
    peers: Option<u64>,
}

impl Figures {
    /// The figures of one pipeline, from the statistics of its elements: all of them talk to
    /// different peers.
    pub(super) fn of<'s>(elements: impl IntoIterator<Item = &'s gst::StructureRef>) -> Self {
        let mut figures = Self::default();
        for stats in elements {
            figures.peers = sum(figures.peers, number(stats, "peers"));
            figures = figures.and(Self {
                delay_us: number(stats, "delay-us").or_else(|| number(stats, "target-us")),
                sent: number(stats, "packets-sent"),
                received: number(stats, "received"),
                repaired: number(stats, "repaired"),
                concealed: number(stats, "concealed"),
                peers: None,
            });
        }
        figures
    }

    /// Two pipelines together. They share their links, so peers do not add up; of several delays
    /// the longest is what is waited for.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            delay_us: self.delay_us.max(other.delay_us),
            sent: sum(self.sent, other.sent),
            received: sum(self.received, other.received),
            repaired: sum(self.repaired, other.repaired),
            concealed: sum(self.concealed, other.concealed),
            peers: self.peers.max(other.peers),
        }
    }

    /// The live line, with the loudest `level_db` of the last moment.
    pub(super) fn line(&self, level_db: Option<f64>) -> String {
        let mut parts = vec![match level_db {
            Some(db) if db > -100.0 => format!("level {db:6.1} dB"),
            Some(_) => "level   -inf dB".to_owned(),
            None => "level      – dB".to_owned(),
        }];
        if let Some(delay) = self.delay_us {
            parts.push(format!("delay {:.1} ms", delay as f64 / 1000.0));
        }
        let counts = [
            ("sent", self.sent),
            ("received", self.received),
            ("repaired", self.repaired),
            ("concealed", self.concealed),
        ];
        for (name, value) in counts {
            if let Some(value) = value {
                parts.push(format!("{name} {value}"));
            }
        }
        if let Some(peers) = self.peers {
            parts.push(format!("peers {peers}"));
        }
        parts.join("  ")
    }
}

/// The loudest channel of a `level` message, in dB; `None` for any other message.
pub(super) fn level_db(message: &gst::StructureRef) -> Option<f64> {
    if message.name() != "level" {
        return None;
    }
    let rms = message.get::<glib::ValueArray>("rms").ok()?;
    rms.iter()
        .filter_map(|value| value.get::<f64>().ok())
        .fold(None, |loudest, db| Some(loudest.map_or(db, |loudest: f64| loudest.max(db))))
}

/// A structure as JSON, with all that is inside it.
pub(super) fn json(structure: &gst::StructureRef) -> Value {
    let fields = structure.iter().map(|(name, value)| (name.to_string(), json_value(value)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn json_value(value: &glib::Value) -> Value {
    macro_rules! plain {
        ($($type:ty),+) => {
            $(if let Ok(value) = value.get::<$type>() {
                return json!(value);
            })+
        };
    }
    plain!(bool, u64, i64, u32, i32, f64, f32, Option<String>);
    if let Ok(structure) = value.get::<gst::Structure>() {
        return json(&structure);
    }
    if let Ok(list) = value.get::<gst::List>() {
        return list.iter().map(|value| json_value(value)).collect();
    }
    if let Ok(array) = value.get::<gst::Array>() {
        return array.iter().map(|value| json_value(value)).collect();
    }
    value.serialize().map_or(Value::Null, |text| json!(text.as_str()))
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    }
}

fn number(stats: &gst::StructureRef, name: &str) -> Option<u64> {
    let value = stats.value(name).ok()?;
    value
        .get::<u64>()
        .ok()
        .or_else(|| value.get::<u32>().ok().map(u64::from))
        .or_else(|| value.get::<i64>().ok().and_then(|value| u64::try_from(value).ok()))
        .or_else(|| value.get::<i32>().ok().and_then(|value| u64::try_from(value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> gst::Structure {
        gst::init().unwrap();
        let stream = gst::Structure::builder("stream").field("name", "desktop").build();
        gst::Structure::builder("application/x-velin-src-stats")
            .field("peers", 2u32)
            .field("delay-us", 9_800u64)
            .field("received", 480u64)
            .field("concealed", 1u64)
            .field("drift-ppm", 12.5f64)
            .field("streams", gst::List::new([stream]))
            .build()
    }

    #[test]
    fn the_live_line_says_what_is_known_and_nothing_else() {
        assert_eq!(Figures::default().line(None), "level      – dB");
        let stats = stats();
        let one = Figures::of([stats.as_ref(), stats.as_ref()]);
        assert_eq!(
            one.line(Some(-18.25)),
            "level  -18.2 dB  delay 9.8 ms  received 960  concealed 2  peers 4"
        );
        // A second pipeline on the same link plays more frames of the same peers.
        assert_eq!(
            one.and(one).line(Some(f64::NEG_INFINITY)),
            "level   -inf dB  delay 9.8 ms  received 1920  concealed 4  peers 4"
        );
    }

    #[test]
    fn statistics_become_json_with_all_that_is_inside() {
        assert_eq!(
            json(&stats()),
            json!({
                "peers": 2, "delay-us": 9800, "received": 480, "concealed": 1, "drift-ppm": 12.5,
                "streams": [{ "name": "desktop" }],
            })
        );
    }
}
