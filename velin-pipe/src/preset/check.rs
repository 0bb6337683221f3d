//! Whether what a preset says makes sense together: [`File`] → [`Preset`].

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use toml::Spanned;
use velin_core::identity::PublicKey;

use super::diagnostic::{Diagnostic, Sources, Span};
use super::model::{
    Capture, CaptureSource, FormatWish, Playback, PlaybackSink, Preset, Receive, Send,
};
use super::schema::{self, CaptureKind, File, PlaybackKind, Profile};
use super::target;
use super::units::{Format, Rate, TimeSpan};

/// The version of the shape that this program reads.
pub const SCHEMA: i64 = 1;

/// Packet times that make sense; the element rounds within them.
const PACKET_TIMES: RangeInclusive<u64> = 250_000..=60_000_000;
/// Device buffers that make sense.
const BUFFERS: RangeInclusive<u64> = 500_000..=2_000_000_000;
/// Fixed playout delays that make sense.
const LATENCIES: RangeInclusive<u64> = 1_000_000..=10_000_000_000;
/// Output periods that make sense.
const PERIODS: RangeInclusive<u64> = 250_000..=100_000_000;

/// Turns a file into a preset; every finding if there is any.
pub fn check(file: File, sources: Arc<Sources>) -> Result<Preset, Vec<Diagnostic>> {
    let mut found = Findings { sources: Arc::clone(&sources), list: Vec::new() };

    let schema = *file.schema.get_ref();
    if schema != SCHEMA {
        let message = format!("schema {schema} is not known to this version");
        let help = format!("this version reads schema = {SCHEMA}");
        // Nothing below can be trusted to mean what it says.
        return Err(vec![Diagnostic::at(file.schema.span(), message).help(help)]);
    }
    found.shape(&file);

    let many = file.capture.len() > 1;
    let captures = found.captures(file.capture);
    let sends: Vec<_> = file.send.into_iter().map(|entry| found.send(entry, many)).collect();
    let receive = file.receive.map(|entry| found.receive(entry));
    let playbacks: Vec<_> = file.playback.into_iter().map(|entry| found.playback(entry)).collect();
    found.stream_owners(receive.as_ref(), &playbacks);

    if !found.list.is_empty() {
        return Err(found.list);
    }
    let sends = sends.into_iter().flatten().collect();
    let captures = captures.into_iter().flatten().collect();
    let playbacks = playbacks.into_iter().flatten().collect();
    Ok(Preset { description: file.description, captures, sends, receive, playbacks, sources })
}

struct Findings {
    sources: Arc<Sources>,
    list: Vec<Diagnostic>,
}

impl Findings {
    fn add(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Capture needs send, playback needs receive, and something must happen at all.
    fn shape(&mut self, file: &File) {
        match (file.capture.first(), file.send.first(), &file.receive, file.playback.first()) {
            (None, None, None, None) => {
                let message = "the preset neither sends nor receives";
                self.add(Diagnostic::whole(message).help(
                    "add [[capture]] and [[send]] to send, or [receive] and [[playback]] to play",
                ));
            }
            (capture, send, receive, playback) => {
                if let (Some(capture), None) = (capture, send) {
                    let message = "what is captured goes nowhere";
                    self.add(Diagnostic::at(header(capture), message).help(
                        "add [[send]] with to = \"HOST\", for example to = \"192.168.1.20\"",
                    ));
                }
                if let (None, Some(send)) = (capture, send) {
                    let message = "there is nothing to send";
                    self.add(
                        Diagnostic::at(header(send), message)
                            .help("add [[capture]] with a kind, for example kind = \"system\""),
                    );
                }
                if let (Some(receive), None) = (receive, playback) {
                    let message = "what is received is heard nowhere";
                    self.add(
                        Diagnostic::at(header(receive), message)
                            .help("add [[playback]]: the default output needs no keys"),
                    );
                }
                if let (None, Some(playback)) = (receive, playback) {
                    let message = "there is nothing to play";
                    self.add(
                        Diagnostic::at(header(playback), message)
                            .help("add [receive]: it listens on port 49000 and needs no keys"),
                    );
                }
            }
        }
    }

    fn captures(&mut self, entries: Vec<Spanned<schema::Capture>>) -> Vec<Option<Capture>> {
        let mut names = BTreeSet::new();
        let mut captures = Vec::new();
        for entry in entries {
            let capture = self.capture(entry);
            if let Some(capture) = &capture {
                let name = capture.name.get_ref();
                if !names.insert(name.clone()) {
                    let message = format!("two streams are called `{name}`");
                    self.add(
                        Diagnostic::at(capture.name.span(), message)
                            .help("give each capture a name of its own: name = \"…\""),
                    );
                }
            }
            captures.push(capture);
        }
        captures
    }

    fn capture(&mut self, entry: Spanned<schema::Capture>) -> Option<Capture> {
        let span = header(&entry);
        let entry = entry.into_inner();
        let kind = *entry.kind.get_ref();
        self.foreign_keys(&entry);

        let source = match kind {
            CaptureKind::System => CaptureSource::System { device: named(entry.device) },
            CaptureKind::Mic => CaptureSource::Mic { device: named(entry.device) },
            CaptureKind::Device => {
                let Some(device) = entry.device else {
                    let message = "kind \"device\" needs a device";
                    self.add(
                        Diagnostic::at(entry.kind.span(), message)
                            .help("add device = \"NAME\" (`pactl list short sources` prints them)"),
                    );
                    return None;
                };
                CaptureSource::Device { device }
            }
            CaptureKind::Test => {
                if let Some(frequency) = &entry.frequency {
                    self.range(frequency, 1.0..=20_000.0, "a frequency", "hertz");
                }
                CaptureSource::Test {
                    wave: entry.wave.map(Spanned::into_inner).unwrap_or_default(),
                    frequency: entry.frequency,
                }
            }
            CaptureKind::File => {
                let Some(path) = entry.path else {
                    let message = "kind \"file\" needs a path";
                    self.add(
                        Diagnostic::at(entry.kind.span(), message)
                            .help("add path = \"FILE\", for example path = \"music.flac\""),
                    );
                    return None;
                };
                CaptureSource::File {
                    path,
                    looped: entry.looped.is_some_and(|looped| *looped.get_ref()),
                }
            }
            CaptureKind::Launch => {
                let Some(fragment) = entry.launch else {
                    let message = "kind \"launch\" needs a fragment";
                    self.add(Diagnostic::at(entry.kind.span(), message).help(
                        "add launch = \"ELEMENT ! …\", ending in an element that makes audio",
                    ));
                    return None;
                };
                if fragment.get_ref().trim().is_empty() {
                    let message = "the fragment is empty";
                    self.add(Diagnostic::at(fragment.span(), message).help(
                        "write what gst-launch-1.0 would take, for example \"audiotestsrc is-live=true\"",
                    ));
                    return None;
                }
                CaptureSource::Launch { fragment }
            }
        };
        let name = entry
            .name
            .unwrap_or_else(|| Spanned::new(entry.kind.span(), default_name(kind).to_owned()));
        self.stream_name(&name);
        self.time_range(entry.buffer.as_ref(), BUFFERS, "a buffer");
        Some(Capture {
            source,
            name,
            volume: entry.volume,
            mute: entry.mute,
            wish: self.wish(entry.rate, entry.channels, entry.format),
            buffer: entry.buffer,
            properties: entry.properties,
            span,
        })
    }

    /// Keys that another kind of capture understands and this one does not.
    fn foreign_keys(&mut self, entry: &schema::Capture) {
        use CaptureKind::{Device, File, Launch, Mic, System, Test};
        let kind = *entry.kind.get_ref();
        let keys: [(&str, Option<Span>, &[CaptureKind]); 7] = [
            ("device", entry.device.as_ref().map(Spanned::span), &[System, Mic, Device]),
            ("wave", entry.wave.as_ref().map(Spanned::span), &[Test]),
            ("frequency", entry.frequency.as_ref().map(Spanned::span), &[Test]),
            ("path", entry.path.as_ref().map(Spanned::span), &[File]),
            ("loop", entry.looped.as_ref().map(Spanned::span), &[File]),
            ("launch", entry.launch.as_ref().map(Spanned::span), &[Launch]),
            ("buffer", entry.buffer.as_ref().map(Spanned::span), &[System, Mic, Device, Test]),
        ];
        for (key, span, kinds) in keys {
            if let Some(span) = span.filter(|_| !kinds.contains(&kind)) {
                self.foreign_key(span, key, kind.name(), kinds.iter().map(|kind| kind.name()));
            }
        }
    }

    fn foreign_key<'k>(
        &mut self,
        span: Span,
        key: &str,
        kind: &str,
        kinds: impl Iterator<Item = &'k str>,
    ) {
        let kinds: Vec<_> = kinds.map(|kind| format!("\"{kind}\"")).collect();
        let message = format!("kind \"{kind}\" has no key `{key}`");
        let help = format!("`{key}` belongs to kind {}; remove it here", kinds.join(", "));
        let span = self.sources.key_before(&span, key);
        self.add(Diagnostic::at(span, message).help(help));
    }

    fn send(&mut self, entry: Spanned<schema::Send>, many_captures: bool) -> Option<Send> {
        let span = header(&entry);
        let entry = entry.into_inner();
        self.time_range(entry.packet_time.as_ref(), PACKET_TIMES, "a packet time");
        self.recipient(entry.peer.as_ref());
        let audio_port = self.port(entry.audio_port, 0);
        if let Some(stream) = &entry.stream {
            self.stream_name(stream);
            if many_captures {
                let message = "one name cannot serve several captures";
                self.add(
                    Diagnostic::at(stream.span(), message)
                        .help("remove `stream` and give each [[capture]] a name"),
                );
            }
        }
        let to = match target::parse(entry.to.get_ref()) {
            Ok(to) => to,
            Err((message, help)) => {
                self.add(Diagnostic::at(entry.to.span(), message).help(help));
                return None;
            }
        };
        Some(Send {
            to,
            to_span: entry.to.span(),
            codec: entry.codec,
            packet_time: entry.packet_time,
            peer: entry.peer,
            qos: entry.qos,
            carrier: entry.carrier,
            audio_port,
            bind: entry.bind,
            stream: entry.stream,
            properties: entry.properties,
            span,
        })
    }

    fn receive(&mut self, entry: Spanned<schema::Receive>) -> Receive {
        let span = header(&entry);
        let entry = entry.into_inner();
        self.recipient(entry.peer.as_ref());
        self.time_range(entry.latency.as_ref(), LATENCIES, "a latency");
        self.time_range(entry.output_period.as_ref(), PERIODS, "an output period");
        self.stream_patterns(entry.streams.as_ref());
        match (&entry.latency, &entry.profile) {
            (Some(latency), Some(profile)) if *profile.get_ref() != Profile::Fixed => {
                let name = profile.get_ref().name();
                let message = format!("profile \"{name}\" chooses the latency itself");
                self.add(
                    Diagnostic::at(latency.span(), message)
                        .help("remove `latency`, or say profile = \"fixed\""),
                );
            }
            (None, Some(profile)) if *profile.get_ref() == Profile::Fixed => {
                let message = "profile \"fixed\" needs a latency";
                self.add(
                    Diagnostic::at(profile.span(), message)
                        .help("add latency = \"20ms\" to [receive]"),
                );
            }
            _ => {}
        }
        // The property counts whole milliseconds.
        if let Some(latency) = &entry.latency
            && latency.get_ref().as_nanos() % 1_000_000 != 0
        {
            let message = "a fixed latency is a whole number of milliseconds";
            self.add(
                Diagnostic::at(latency.span(), message).help("round it, for example \"20ms\""),
            );
        }
        Receive {
            port: self.port(entry.port, 0),
            audio_port: self.port(entry.audio_port, 0),
            bind: entry.bind,
            peer: entry.peer,
            carrier: entry.carrier,
            qos: entry.qos,
            latency: entry.latency,
            profile: entry.profile,
            drift: entry.drift,
            streams: entry.streams,
            output_period: entry.output_period,
            on_peer_lost: entry.on_peer_lost,
            wish: self.wish(entry.rate, entry.channels, entry.format),
            properties: entry.properties,
            span,
        }
    }

    fn playback(&mut self, entry: Spanned<schema::Playback>) -> Option<Playback> {
        use PlaybackKind::{Device, File};
        let span = header(&entry);
        let entry = entry.into_inner();
        let kind = entry.kind.as_ref().map(|kind| *kind.get_ref()).unwrap_or_default();
        let keys: [(&str, Option<Span>, PlaybackKind); 3] = [
            ("device", entry.device.as_ref().map(Spanned::span), Device),
            ("buffer", entry.buffer.as_ref().map(Spanned::span), Device),
            ("path", entry.path.as_ref().map(Spanned::span), File),
        ];
        for (key, key_span, owner) in keys {
            if let Some(key_span) = key_span.filter(|_| owner != kind) {
                self.foreign_key(key_span, key, kind.name(), [owner.name()].into_iter());
            }
        }
        self.stream_patterns(entry.streams.as_ref());
        self.time_range(entry.buffer.as_ref(), BUFFERS, "a buffer");
        let sink = match kind {
            Device => PlaybackSink::Device { device: named(entry.device), buffer: entry.buffer },
            File => {
                let Some(path) = entry.path else {
                    let at = entry.kind.as_ref().map_or(span, Spanned::span);
                    self.add(
                        Diagnostic::at(at, "kind \"file\" needs a path")
                            .help("add path = \"received.wav\"; the file is replaced"),
                    );
                    return None;
                };
                PlaybackSink::File { path }
            }
            PlaybackKind::None => PlaybackSink::None,
        };
        Some(Playback {
            sink,
            streams: entry.streams,
            volume: entry.volume,
            mute: entry.mute,
            properties: entry.properties,
            span,
        })
    }

    /// A stream is heard in one place: two playbacks may not ask for the same ones.
    fn stream_owners(&mut self, receive: Option<&Receive>, playbacks: &[Option<Playback>]) {
        let everything = vec!["*".to_owned()];
        let default = receive
            .and_then(|receive| receive.streams.as_ref())
            .map_or(&everything, Spanned::get_ref);
        let mut taken: Vec<&Vec<String>> = Vec::new();
        for playback in playbacks.iter().flatten() {
            let (streams, span) = match &playback.streams {
                Some(streams) => (streams.get_ref(), streams.span()),
                None => (default, playback.span.clone()),
            };
            if taken.contains(&streams) {
                let message = "another [[playback]] already plays these streams";
                self.add(Diagnostic::at(span, message).help(
                    "a stream is played in one place: say which, for example streams = [\"laptop\"] \
                     here and streams = [\"*\", \"!laptop\"] there",
                ));
            }
            taken.push(streams);
        }
    }

    fn wish(
        &mut self,
        rate: Option<Spanned<Rate>>,
        channels: Option<Spanned<i64>>,
        format: Option<Spanned<Format>>,
    ) -> FormatWish {
        let channels = channels.and_then(|channels| match channels.get_ref() {
            1..=8 => Some(Spanned::new(channels.span(), *channels.get_ref() as u8)),
            count => {
                let message = format!("{count} channels cannot be carried");
                self.add(Diagnostic::at(channels.span(), message).help("use 1 to 8"));
                None
            }
        });
        FormatWish { rate, channels, format }
    }

    fn port(&mut self, port: Option<Spanned<i64>>, lowest: i64) -> Option<Spanned<u16>> {
        let port = port?;
        let number = *port.get_ref();
        match u16::try_from(number) {
            Ok(value) if number >= lowest => Some(Spanned::new(port.span(), value)),
            _ => {
                let message = format!("{number} is not a port");
                let help = if lowest == 0 {
                    "use 1 to 65535, or 0 for any free one; Velin's own are 49000 and 49001"
                } else {
                    "use 1 to 65535; Velin's own are 49000 and 49001"
                };
                self.add(Diagnostic::at(port.span(), message).help(help));
                None
            }
        }
    }

    fn recipient(&mut self, peer: Option<&Spanned<String>>) {
        let Some(peer) = peer else { return };
        if let Err(error) = peer.get_ref().parse::<PublicKey>() {
            let message = "this is not a device's key";
            self.add(Diagnostic::at(peer.span(), message).help(error.to_string()));
        }
    }

    fn stream_name(&mut self, name: &Spanned<String>) {
        let text = name.get_ref();
        if text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
            self.add(
                Diagnostic::at(name.span(), "this cannot be a stream's name")
                    .help("use 1 to 64 bytes of ordinary text"),
            );
        }
    }

    fn stream_patterns(&mut self, streams: Option<&Spanned<Vec<String>>>) {
        let Some(streams) = streams else { return };
        if streams.get_ref().is_empty() {
            self.add(
                Diagnostic::at(streams.span(), "an empty list would play nothing")
                    .help("remove `streams` to play everything, or name some"),
            );
        }
        for pattern in streams.get_ref() {
            if pattern.is_empty() || pattern == "!" || pattern.contains(',') {
                let message = format!("`{pattern}` names no stream");
                self.add(
                    Diagnostic::at(streams.span(), message)
                        .help("write names, \"*\" for all, or \"!name\" for all but that one"),
                );
            }
        }
    }

    fn time_range(
        &mut self,
        time: Option<&Spanned<TimeSpan>>,
        range: RangeInclusive<u64>,
        what: &str,
    ) {
        let Some(time) = time else { return };
        if range.contains(&time.get_ref().as_nanos()) {
            return;
        }
        let [low, high] = [*range.start(), *range.end()]
            .map(|nanos| TimeSpan(std::time::Duration::from_nanos(nanos)));
        let message = format!("{what} of {} is out of range", time.get_ref());
        self.add(Diagnostic::at(time.span(), message).help(format!("use {low} to {high}")));
    }

    fn range(&mut self, value: &Spanned<f64>, range: RangeInclusive<f64>, what: &str, unit: &str) {
        if !range.contains(value.get_ref()) {
            let message = format!("{what} of {} {unit} is out of range", value.get_ref());
            let help = format!("use {} to {} {unit}", range.start(), range.end());
            self.add(Diagnostic::at(value.span(), message).help(help));
        }
    }
}

/// The span of an entry's `[[header]]`, on whose line the caret goes.
fn header<T>(entry: &Spanned<T>) -> Span {
    entry.span()
}

/// `"default"` and nothing at all mean the same device.
fn named(device: Option<Spanned<String>>) -> Option<Spanned<String>> {
    device.filter(|device| device.get_ref() != "default")
}

fn default_name(kind: CaptureKind) -> &'static str {
    match kind {
        CaptureKind::System => "desktop",
        CaptureKind::Mic => "microphone",
        CaptureKind::Device => "input",
        CaptureKind::Test => "test",
        CaptureKind::File => "file",
        CaptureKind::Launch => "launch",
    }
}
