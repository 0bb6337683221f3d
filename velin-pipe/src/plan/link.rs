//! `velinsink` and `velinsrc` with the properties that a preset's words mean.

use toml::Spanned;

use super::build::extra_properties;
use super::surroundings::Surroundings;
use super::{Node, PropertyValue};
use crate::preset::diagnostic::{Diagnostic, Span};
use crate::preset::model::{Capture, Playback, Receive, Send, Target};
use crate::preset::schema::{Carrier, Codec, Drift, OnPeerLost, Profile};
use crate::preset::units::{Dscp, TimeSpan};

/// How often levels are measured, in ns: ten times a second, for a live line that moves.
const LEVEL_INTERVAL_NS: i64 = 100_000_000;

/// The meter of one pipeline.
pub(super) fn level(name: &str) -> Node {
    Node::new(format!("{name}-level"), "level")
        .with("interval", LEVEL_INTERVAL_NS)
        .with("post-messages", true)
}

/// The `velinsink` that takes `capture` to the target `number`.
pub(super) fn sink(
    name: &str,
    number: usize,
    capture: &Capture,
    send: &Send,
    surroundings: &Surroundings,
) -> Result<Node, Diagnostic> {
    let mut node = Node::new(format!("{name}-send{number}"), "velinsink").at(&send.span);
    target(&mut node, send, surroundings)?;
    chosen(&mut node, "audio-port", send.audio_port.as_ref(), |port| i64::from(*port));
    chosen(&mut node, "bind-address", send.bind.as_ref(), String::clone);
    chosen(&mut node, "carrier", send.carrier.as_ref(), |carrier: &Carrier| carrier.name());
    chosen(&mut node, "peer", send.peer.as_ref(), String::clone);
    let stream = send.stream.as_ref().unwrap_or(&capture.name);
    node.set("stream-name", stream.get_ref().clone(), Some(stream.span()));
    chosen(&mut node, "codec", send.codec.as_ref(), |codec| match codec {
        Codec::Pcm => "pcm",
        Codec::Opus => "opus",
    });
    chosen(&mut node, "packet-time", send.packet_time.as_ref(), nanoseconds);
    chosen(&mut node, "qos-dscp", send.qos.as_ref(), |qos: &Dscp| i64::from(qos.0));
    // Muted packets keep flowing: the link stays warm and the stream stays in its place.
    chosen(&mut node, "mute", capture.mute.as_ref(), |mute| *mute);
    node = node.with("processing-deadline", 0);
    extra_properties(&mut node, &send.properties);
    Ok(node)
}

/// The `velinsrc` that feeds one playback.
pub(super) fn source(name: &str, receive: &Receive, playback: &Playback) -> Node {
    let mut node = Node::new(format!("{name}-receive"), "velinsrc").at(&receive.span);
    chosen(&mut node, "port", receive.port.as_ref(), |port| i64::from(*port));
    chosen(&mut node, "audio-port", receive.audio_port.as_ref(), |port| i64::from(*port));
    chosen(&mut node, "bind-address", receive.bind.as_ref(), String::clone);
    chosen(&mut node, "carrier", receive.carrier.as_ref(), |carrier: &Carrier| carrier.name());
    chosen(&mut node, "peer", receive.peer.as_ref(), String::clone);
    chosen(&mut node, "qos-dscp", receive.qos.as_ref(), |qos: &Dscp| i64::from(qos.0));
    let streams = playback.streams.as_ref().or(receive.streams.as_ref());
    chosen(&mut node, "streams", streams, |streams| PropertyValue::List(streams.clone()));
    chosen(&mut node, "profile", receive.profile.as_ref(), |profile: &Profile| profile.name());
    if let Some(latency) = &receive.latency {
        // A latency in a preset means exactly that one.
        node.set("profile", Profile::Fixed.name(), Some(latency.span()));
        let millis = latency.get_ref().as_micros() / 1000;
        node.set("latency", millis, Some(latency.span()));
    }
    chosen(&mut node, "drift", receive.drift.as_ref(), |drift: &Drift| drift.name());
    chosen(&mut node, "output-period", receive.output_period.as_ref(), nanoseconds);
    chosen(&mut node, "on-peer-lost", receive.on_peer_lost.as_ref(), |lost: &OnPeerLost| {
        lost.name()
    });
    extra_properties(&mut node, &receive.properties);
    node
}

fn target(node: &mut Node, send: &Send, surroundings: &Surroundings) -> Result<(), Diagnostic> {
    let span = &send.to_span;
    let (host, port) = match &send.to {
        Target::Uri(uri) => {
            node.set("uri", uri.clone(), Some(span.clone()));
            return Ok(());
        }
        Target::Host { host, port } => (host, *port),
    };
    let Some(peer) = surroundings.peers.get(host) else {
        set_host(node, host, port, span);
        return Ok(());
    };
    let Some(stored) = &peer.host else {
        let message = format!("`{host}` is trusted, but where it is was not stored");
        return Err(Diagnostic::at(span.clone(), message).help(format!(
            "store it: velin-pipe trust add {} --name {host} --host ADDRESS",
            peer.recipient
        )));
    };
    set_host(node, stored.host(), port.or_else(|| stored.port()), span);
    // The name was chosen for its key, so nobody else may answer at its address.
    if send.peer.is_none() {
        node.set("peer", peer.recipient.clone(), Some(span.clone()));
    }
    Ok(())
}

fn set_host(node: &mut Node, host: &str, port: Option<u16>, span: &Span) {
    node.set("host", host, Some(span.clone()));
    if let Some(port) = port {
        node.set("port", i64::from(port), Some(span.clone()));
    }
}

fn nanoseconds(time: &TimeSpan) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn chosen<T, V: Into<PropertyValue>>(
    node: &mut Node,
    name: &str,
    value: Option<&Spanned<T>>,
    convert: impl Fn(&T) -> V,
) {
    if let Some(value) = value {
        node.set(name, convert(value.get_ref()), Some(value.span()));
    }
}
