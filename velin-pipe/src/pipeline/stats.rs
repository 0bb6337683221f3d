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

/// The figures of the live line, added up over all elements. What an element does not tell is
/// left out of the line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    delay_us: Option<u64>,
    received: Option<u64>,
    repaired: Option<u64>,
    concealed: Option<u64>,
    peers: Option<u64>,
}

impl Figures {
    /// Adds one element's statistics.
    pub(super) fn add(&mut self, stats: &gst::StructureRef) {
        let sum = |total: &mut Option<u64>, name: &str| {
            if let Some(value) = number(stats, name) {
                *total = Some(total.unwrap_or(0).saturating_add(value));
            }
        };
        sum(&mut self.received, "received");
        sum(&mut self.repaired, "repaired");
        sum(&mut self.concealed, "concealed");
        sum(&mut self.peers, "peers");
        // Delays of several outputs do not add up: the longest one is what is waited for.
        let delay = number(stats, "delay-us").or_else(|| number(stats, "target-us"));
        self.delay_us = self.delay_us.max(delay);
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
        let frames = [
            ("received", self.received),
            ("repaired", self.repaired),
            ("concealed", self.concealed),
        ];
        for (name, value) in frames {
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
        let mut figures = Figures::default();
        assert_eq!(figures.line(None), "level      – dB");
        figures.add(&stats());
        figures.add(&stats());
        assert_eq!(
            figures.line(Some(-18.25)),
            "level  -18.2 dB  delay 9.8 ms  received 960  concealed 2  peers 4"
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
