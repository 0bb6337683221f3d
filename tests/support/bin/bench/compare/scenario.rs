//! What is compared: the paths, who goes over each, and for how long.

use super::impair::Impairment;
use super::peers::{Peer, velin_has_opus};

/// A path and a source's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Wired,
    Loss5,
    Loss10,
    Bursts,
    Outages,
    Jitter,
    Fast,
    Slow,
}

impl Scenario {
    pub(crate) const ALL: [Self; 8] = [
        Self::Wired,
        Self::Loss5,
        Self::Loss10,
        Self::Bursts,
        Self::Outages,
        Self::Jitter,
        Self::Fast,
        Self::Slow,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Wired => "Wired",
            Self::Loss5 => "5 % random loss",
            Self::Loss10 => "10 % random loss",
            Self::Bursts => "Bursts: Gilbert–Elliott, 5 %, mean of 3 packets",
            Self::Outages => "Outages of 20 ms (mean) once a second",
            Self::Jitter => "Jitter of 0 to 20 ms",
            Self::Fast => "Sender’s clock 500 ppm fast",
            Self::Slow => "Sender’s clock 500 ppm slow",
        }
    }

    pub(crate) fn impairment(self) -> Impairment {
        let none = Impairment::default();
        match self {
            Self::Wired | Self::Fast | Self::Slow => none,
            Self::Loss5 => Impairment { loss: 0.05, ..none },
            Self::Loss10 => Impairment { loss: 0.10, ..none },
            Self::Bursts => Impairment { bursts: Some((0.05, 3.0)), ..none },
            Self::Outages => Impairment { outages: Some((1_000.0, 20.0)), ..none },
            Self::Jitter => Impairment { jitter_ms: 20.0, ..none },
        }
    }

    /// How fast the source's clock runs.
    pub(crate) fn ppm(self) -> f64 {
        match self {
            Self::Fast => 500.0,
            Self::Slow => -500.0,
            _ => 0.0,
        }
    }

    /// Whether the source's clock is not the receiver's.
    pub(crate) fn drifts(self) -> bool {
        self.ppm() != 0.0
    }

    /// The share of packets that are lost at random, where that is what the scenario is about.
    pub(crate) fn random_loss(self) -> Option<f64> {
        matches!(self, Self::Wired | Self::Loss5 | Self::Loss10).then(|| self.impairment().loss)
    }

    /// Seconds before the window and of it.
    pub(crate) fn seconds(self, short: bool) -> (u64, u64) {
        match (self, short) {
            (Self::Wired, false) => (10, 10),
            (Self::Wired, true) => (3, 3),
            (Self::Fast | Self::Slow, false) => (3, 30),
            (Self::Fast | Self::Slow, true) => (1, 8),
            (_, false) => (4, 8),
            (_, true) => (2, 4),
        }
    }

    /// Who is measured here.
    pub(crate) fn peers(self, short: bool) -> Vec<Peer> {
        let opus = velin_has_opus();
        let low = "profile=low";
        match self {
            Self::Wired => {
                let one_ms = |name| {
                    let peer = Peer::velin(
                        name,
                        "packet-time=1000000 repair=off",
                        "profile=low repair=off",
                    );
                    peer.in_chunks(48)
                };
                let mut peers = vec![
                    Peer::velin("Velin, default", "", ""),
                    Peer::velin("Velin, profile=low", "", low),
                    one_ms("Velin, profile=low repair=off, 1 ms packets"),
                    Peer::srtp("SRTP, jitter buffer 5 ms", 5),
                    Peer::l16("RTP L16 in the clear, jitter buffer 5 ms", 5),
                    Peer::srt("SRT, latency 10 ms", 10),
                    Peer::snapcast("Snapcast PCM, buffer 100 ms", 100, 10),
                    Peer::jacktrip("JackTrip in the clear, 128 frames, queue 4", 128, 4, 1),
                    Peer::opus(
                        "RTP Opus in the clear, 2.5 ms frames, jitter buffer 5 ms",
                        "bitrate=128000 frame-size=2.5 audio-type=restricted-lowdelay",
                        5,
                        false,
                    ),
                ];
                if opus {
                    let send = "codec=opus bitrate=128000 packet-time=2500000";
                    peers.push(Peer::velin("Velin Opus, 2.5 ms frames", send, "").lossy());
                    let name = "Velin Opus, 2.5 ms frames, profile=low";
                    peers.push(Peer::velin(name, send, low).lossy());
                }
                if !short {
                    let handed = "as handed out";
                    peers.extend([
                        Peer::velin(&format!("Velin, default, {handed}"), "", "").handed_out(),
                        Peer::velin(&format!("Velin, profile=low, {handed}"), "", low).handed_out(),
                        one_ms("Velin, profile=low repair=off, 1 ms packets, as handed out")
                            .handed_out(),
                        Peer::srtp("SRTP, jitter buffer 2 ms", 2),
                        Peer::srtp("SRTP, default", 200).with_default_sink(),
                        Peer::jacktrip("JackTrip in the clear, 64 frames, queue 2", 64, 2, 1),
                    ]);
                }
                peers
            }
            Self::Fast | Self::Slow => {
                let mut peers = vec![
                    Peer::velin("Velin, default", "", ""),
                    Peer::srtp("SRTP, jitter buffer 20 ms", 20),
                ];
                if !short {
                    peers.push(Peer::snapcast("Snapcast PCM, buffer 100 ms", 100, 10));
                }
                peers
            }
            _ => {
                let mut peers = vec![
                    Peer::velin("Velin, default", "", ""),
                    Peer::srtp("SRTP, jitter buffer 20 ms", 20),
                    Peer::srt("SRT, latency 50 ms", 50),
                ];
                if !short {
                    peers.extend([
                        Peer::snapcast("Snapcast PCM, buffer 100 ms", 100, 10),
                        Peer::jacktrip(
                            "JackTrip in the clear, 128 frames, redundancy 2",
                            128,
                            4,
                            2,
                        ),
                    ]);
                }
                let voice = "bitrate=32000 frame-size=20 audio-type=voice";
                let fec = "inband-fec=true packet-loss-percentage=20";
                let name = "RTP Opus in the clear, 32 kbit/s, 20 ms, FEC, jitter buffer 50 ms";
                peers.push(Peer::opus(name, &format!("{voice} {fec}"), 50, true));
                if opus {
                    let send = "codec=opus bitrate=32000 packet-time=20000000";
                    peers.push(Peer::velin("Velin Opus, 32 kbit/s, 20 ms", send, "").lossy());
                }
                peers
            }
        }
    }

    /// Left out of a short run.
    pub(crate) fn is_short(self) -> bool {
        matches!(self, Self::Wired | Self::Loss5 | Self::Jitter | Self::Fast)
    }
}
