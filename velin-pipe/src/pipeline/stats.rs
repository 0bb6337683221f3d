//! What is measured: levels for the live line, the elements' statistics for both ends.

use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use serde_json::{Map, Value, json};

/// The elements whose statistics are of interest.
const LINK_ELEMENTS: [&str; 2] = ["velinsink", "velinsrc"];

/// Every `velinsink` and `velinsrc` of `pipeline` with its statistics.
pub(super) fn of(pipeline: &gst::Pipeline) -> Vec<(gst::Element, gst::Structure)> {
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

/// Whether `element` is one end of the link.
pub(super) fn is_link(element: &gst::Element) -> bool {
    element.factory().is_some_and(|factory| LINK_ELEMENTS.contains(&factory.name().as_str()))
}

/// Whether every `velinsink` of `pipeline` has somebody who takes its stream.
pub(super) fn all_streaming(pipeline: &gst::Pipeline) -> bool {
    of(pipeline).iter().all(|(_, stats)| is_streaming(stats) != Some(false))
}

/// The frames per second that `element` puts out, once it is known.
pub(super) fn output_rate(element: &gst::Element) -> Option<u64> {
    let caps = element.static_pad("src")?.current_caps()?;
    u64::try_from(caps.structure(0)?.get::<i32>("rate").ok()?).ok()
}

/// The figures of the live line. What no element tells is left out of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    delay_us: Option<u64>,
    sent: Option<u64>,
    dropped: Option<u64>,
    received: Option<Duration>,
    repaired: Option<Duration>,
    concealed: Option<Duration>,
    peers: Option<u64>,
}

impl Figures {
    /// The figures of one pipeline, from the statistics of its elements and the rates that they
    /// put out: all of them talk to different peers.
    pub(super) fn of<'s>(
        elements: impl IntoIterator<Item = (&'s gst::StructureRef, Option<u64>)>,
    ) -> Self {
        let mut figures = Self::default();
        for (stats, rate) in elements {
            // A sender has one peer or none.
            let peers = number(stats, "peers").or_else(|| is_streaming(stats).map(u64::from));
            figures.peers = sum(figures.peers, peers);
            let time = |name: &str| {
                let seconds = number(stats, name)? as f64 / rate.filter(|rate| *rate > 0)? as f64;
                Duration::try_from_secs_f64(seconds).ok()
            };
            figures = figures.and(Self {
                delay_us: number(stats, "delay-us").or_else(|| number(stats, "target-us")),
                sent: number(stats, "packets-sent"),
                dropped: number(stats, "packets-dropped"),
                received: time("received"),
                repaired: time("repaired"),
                concealed: time("concealed"),
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
            dropped: sum(self.dropped, other.dropped),
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
        for (name, packets) in [("sent", self.sent), ("dropped", self.dropped)] {
            if let Some(packets) = packets {
                parts.push(format!("{name} {packets} packets"));
            }
        }
        let times = [
            ("received", self.received),
            ("repaired", self.repaired),
            ("concealed", self.concealed),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                parts.push(format!("{name} {}", readable(time)));
            }
        }
        if let Some(peers) = self.peers {
            parts.push(format!("peers {peers}"));
        }
        parts.join("  ")
    }
}

/// `0 ms`, `2.5 ms`, `12.3 s`, `3 min 07 s`, `2 h 05 min`.
fn readable(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.is_zero() => "0 ms".to_owned(),
        0 => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Whether somebody takes the stream of the `velinsink` with these statistics; `None` for others.
fn is_streaming(stats: &gst::StructureRef) -> Option<bool> {
    stats.get::<&str>("session-state").ok().map(|state| state == "streaming")
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

fn sum<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
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
            .field("received", 38_400u64)
            .field("concealed", 120u64)
            .field("drift-ppm", 12.5f64)
            .field("streams", gst::List::new([stream]))
            .build()
    }

    #[test]
    fn the_live_line_says_what_is_known_and_nothing_else() {
        assert_eq!(Figures::default().line(None), "level      – dB");
        let stats = stats();
        let one = Figures::of([(stats.as_ref(), Some(48_000)), (stats.as_ref(), Some(48_000))]);
        assert_eq!(
            one.line(Some(-18.25)),
            "level  -18.2 dB  delay 9.8 ms  received 1.6 s  concealed 5.0 ms  peers 4"
        );
        // A second pipeline on the same link plays more frames of the same peers.
        assert_eq!(
            one.and(one).line(Some(f64::NEG_INFINITY)),
            "level   -inf dB  delay 9.8 ms  received 3.2 s  concealed 10.0 ms  peers 4"
        );
        // Before the format is known nothing can have been received.
        assert_eq!(
            Figures::of([(stats.as_ref(), None)]).line(None),
            "level      – dB  delay 9.8 ms  peers 2"
        );
    }

    #[test]
    fn a_sender_has_a_peer_while_its_stream_is_taken() {
        gst::init().unwrap();
        for (state, line) in [
            ("streaming", "level      – dB  sent 9 packets  dropped 0 packets  peers 1"),
            ("disconnected", "level      – dB  sent 9 packets  dropped 0 packets  peers 0"),
        ] {
            let stats = gst::Structure::builder("application/x-velin-sink-stats")
                .field("session-state", state)
                .field("packets-sent", 9u64)
                .field("packets-dropped", 0u64)
                .build();
            assert_eq!(Figures::of([(stats.as_ref(), None)]).line(None), line);
        }
    }

    #[test]
    fn times_are_as_coarse_as_they_are_long() {
        for (millis, text) in [
            (0, "0 ms"),
            (2, "2.0 ms"),
            (12_345, "12.3 s"),
            (187_000, "3 min 07 s"),
            (7_500_000, "2 h 05 min"),
        ] {
            assert_eq!(readable(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn statistics_become_json_with_all_that_is_inside() {
        assert_eq!(
            json(&stats()),
            json!({
                "peers": 2, "delay-us": 9800, "received": 38_400, "concealed": 120, "drift-ppm": 12.5,
                "streams": [{ "name": "desktop" }],
            })
        );
    }
}
