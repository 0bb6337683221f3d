//! Who is compared, and with which settings. `{A}` and `{B}` are the sender's and the receiver's address.

use std::process::Command;

use gst::prelude::*;

use super::align::Grain;
use super::signal::Band;

/// A program with its settings.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) band: Band,
    pub(crate) grain: Grain,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Two GStreamer pipelines, Velin's or others.
    Pipelines {
        send: String,
        receive: String,
        /// Frames that the sound card hands over at a time.
        chunk: u64,
        velin: bool,
    },
    /// PCM through a pipe, a server and a client.
    Snapcast { buffer_ms: u32, chunk_ms: u32 },
    /// Two JACK servers.
    JackTrip { period: u32, queue: u32, redundancy: u32 },
}

/// 2.5 ms.
const CHUNK: u64 = 120;
/// What every pipeline ends in: a sink that plays at the time that the pipeline says, like an ideal sound
/// card, and wants a buffer 1 ms before that. Its default of 20 ms is in the rows that say "default".
const SINK: &str = "audioconvert ! audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved \
                    ! appsink name=out sync=true processing-deadline=1000000";
const L16: &str = "media=audio,clock-rate=48000,encoding-name=L16,channels=2,payload=96";
/// AES-128 in counter mode: 16 bytes of key and 14 of salt, as hexadecimal digits.
const SRTP_KEY: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789ab";

impl Peer {
    /// Velin's elements with these properties.
    pub(crate) fn velin(name: &str, send: &str, receive: &str) -> Self {
        let send = format!("velinsink host={{B}} {send}");
        let receive = format!("velinsrc name=link {receive} ! {SINK}");
        Self::pipelines(name, send, receive, true)
    }

    /// What it hands out is recorded at that moment: the sink does not wait.
    pub(crate) fn handed_out(mut self) -> Self {
        if let Kind::Pipelines { receive, .. } = &mut self.kind {
            *receive = receive.replace("sync=true", "sync=false");
        }
        self
    }

    /// The card hands over so many frames at a time.
    pub(crate) fn in_chunks(mut self, frames: u64) -> Self {
        if let Kind::Pipelines { chunk, .. } = &mut self.kind {
            *chunk = frames;
        }
        self
    }

    /// With the sink as it is when nobody sets anything.
    pub(crate) fn with_default_sink(mut self) -> Self {
        if let Kind::Pipelines { receive, .. } = &mut self.kind {
            *receive = receive.replace(" processing-deadline=1000000", "");
        }
        self
    }

    /// L16 in the clear.
    pub(crate) fn l16(name: &str, buffer_ms: u32) -> Self {
        Self::pipelines(
            name,
            "audioconvert ! rtpL16pay pt=96 ! udpsink host={B} port=5004 sync=false async=false"
                .into(),
            format!(
                "udpsrc port=5004 caps=\"application/x-rtp,{L16}\" \
                 ! rtpjitterbuffer latency={buffer_ms} do-lost=true ! rtpL16depay ! {SINK}"
            ),
            false,
        )
    }

    /// The same encrypted, with a key that is known beforehand: there is no exchange.
    pub(crate) fn srtp(name: &str, buffer_ms: u32) -> Self {
        let ciphers = |rtp: &str, rtcp: &str, blank: &str| {
            let cipher = "aes-128-icm";
            let auth = "hmac-sha1-80";
            format!(
                "{rtp}-cipher={cipher}{blank}{rtp}-auth={auth}{blank}\
                 {rtcp}-cipher={cipher}{blank}{rtcp}-auth={auth}"
            )
        };
        Self::pipelines(
            name,
            format!(
                "audioconvert ! rtpL16pay pt=96 ssrc=1111 ! srtpenc key={SRTP_KEY} {} \
                 ! udpsink host={{B}} port=5004 sync=false async=false",
                ciphers("rtp", "rtcp", " ")
            ),
            format!(
                "udpsrc port=5004 caps=\"application/x-srtp,{L16},ssrc=(uint)1111,\
                 srtp-key=(buffer){SRTP_KEY},{}\" ! srtpdec \
                 ! rtpjitterbuffer latency={buffer_ms} do-lost=true ! rtpL16depay ! {SINK}",
                ciphers("srtp", "srtcp", ",")
            ),
            false,
        )
    }

    /// Opus over RTP, with concealment and, where `fec` is, what the encoder sends for repair.
    pub(crate) fn opus(name: &str, encoder: &str, buffer_ms: u32, fec: bool) -> Self {
        let peer = Self::pipelines(
            name,
            format!(
                "audioconvert ! opusenc {encoder} ! rtpopuspay pt=96 \
                 ! udpsink host={{B}} port=5004 sync=false async=false"
            ),
            format!(
                "udpsrc port=5004 caps=\"application/x-rtp,media=audio,clock-rate=48000,\
                 encoding-name=OPUS,payload=96\" ! rtpjitterbuffer latency={buffer_ms} do-lost=true \
                 ! rtpopusdepay ! opusdec plc=true use-inband-fec={fec} ! {SINK}"
            ),
            false,
        );
        peer.lossy()
    }

    /// RTP packets in SRT messages, encrypted.
    pub(crate) fn srt(name: &str, latency_ms: u32) -> Self {
        let link = format!("latency={latency_ms} passphrase=correct-horse pbkeylen=16");
        Self::pipelines(
            name,
            format!(
                "audioconvert ! rtpL16pay pt=96 mtu=1316 ! srtsink uri=srt://{{B}}:7001?mode=caller \
                 {link} sync=false async=false wait-for-connection=true"
            ),
            format!(
                "srtsrc uri=srt://{{B}}:7001?mode=listener {link} ! application/x-rtp,{L16} \
                 ! rtpjitterbuffer latency=5 ! rtpL16depay ! {SINK}"
            ),
            false,
        )
    }

    pub(crate) fn snapcast(name: &str, buffer_ms: u32, chunk_ms: u32) -> Self {
        Self::new(name, Kind::Snapcast { buffer_ms, chunk_ms })
    }

    pub(crate) fn jacktrip(name: &str, period: u32, queue: u32, redundancy: u32) -> Self {
        Self::new(name, Kind::JackTrip { period, queue, redundancy })
    }

    /// What comes out is like what went in, but not the same.
    pub(crate) fn lossy(mut self) -> Self {
        (self.band, self.grain) = (Band::Voice, Grain::LOSSY);
        self
    }

    fn pipelines(name: &str, send: String, receive: String, velin: bool) -> Self {
        Self::new(name, Kind::Pipelines { send, receive, chunk: CHUNK, velin })
    }

    fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind, band: Band::Wide, grain: Grain::PCM }
    }

    /// Whether it is here, or what to install.
    pub(crate) fn available(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Pipelines { send, receive, .. } => {
                let elements = [send, receive].into_iter().flat_map(|line| line.split('!'));
                let names = elements.filter_map(|e| e.split_whitespace().next());
                names.filter(|n| !n.contains('/')).try_for_each(element)
            }
            Kind::Snapcast { .. } => program("snapserver", "snapserver")
                .and_then(|()| program("snapclient", "snapclient")),
            Kind::JackTrip { .. } => {
                program("jackd", "jackd2").and_then(|()| program("jacktrip", "jacktrip"))
            }
        }
    }
}

/// Whether this build of Velin has Opus.
pub(crate) fn velin_has_opus() -> bool {
    let Ok(sink) = gst::ElementFactory::make("velinsink").build() else { return false };
    let codec = sink.find_property("codec").map(|p| p.value_type());
    let class = codec.and_then(gst::glib::EnumClass::with_type);
    class.is_some_and(|class| class.value_by_nick("opus").is_some())
}

fn element(name: &str) -> Result<(), String> {
    if gst::ElementFactory::find(name).is_some() {
        return Ok(());
    }
    let bad = ["srtpenc", "srtpdec", "srtsink", "srtsrc", "opusparse"].contains(&name);
    let set = if bad {
        "bad"
    } else if name.starts_with("opus") {
        "base"
    } else {
        "good"
    };
    Err(format!("no element {name}: gstreamer1.0-plugins-{set}"))
}

fn program(name: &str, package: &str) -> Result<(), String> {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
    match found {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(format!("no {name}: package {package}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_changes_only_what_it_says() {
        let plain = Peer::velin("Velin", "packet-time=1000000", "profile=low");
        let Kind::Pipelines { receive, chunk, .. } = plain.clone().in_chunks(48).handed_out().kind
        else {
            panic!("Velin is a pipeline")
        };
        assert!(receive.contains("sync=false") && receive.contains("processing-deadline=1000000"));
        assert_eq!(chunk, 48);
        let Kind::Pipelines { receive, .. } = plain.with_default_sink().kind else { panic!() };
        assert!(receive.contains("sync=true") && !receive.contains("processing-deadline"));
    }

    #[test]
    fn srtp_has_the_same_ciphers_at_both_ends() {
        let Kind::Pipelines { send, receive, .. } = Peer::srtp("SRTP", 5).kind else { panic!() };
        assert!(
            send.contains("rtp-cipher=aes-128-icm rtp-auth=hmac-sha1-80 rtcp-cipher="),
            "{send}"
        );
        assert!(
            receive.contains(",srtp-cipher=aes-128-icm,srtp-auth=hmac-sha1-80,srtcp-"),
            "{receive}"
        );
        assert_eq!(SRTP_KEY.len(), 60);
    }
}
