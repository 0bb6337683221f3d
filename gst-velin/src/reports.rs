//! What the link's events become on the bus, for both elements.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use velin_core::identity::PublicKey;
use velin_core::session::Ended;
use velin_core::wire::CloseReason;

use crate::link::{LinkEvent, PeerInfo};
use crate::link_options::Mode;
use crate::messages::{about_peer, caller_refusal, post, progress, refusal, route_name, seconds};

/// What anybody on the network can cause is told at most this often.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);

/// Whether an element sends or plays: GStreamer has different error codes for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

impl Side {
    /// What is at the other end.
    fn peer(self) -> &'static str {
        match self {
            Self::Sender => "receiver",
            Self::Receiver => "sender",
        }
    }

    fn open_error(self) -> gst::ResourceError {
        match self {
            Self::Sender => gst::ResourceError::OpenWrite,
            Self::Receiver => gst::ResourceError::OpenRead,
        }
    }

    fn error(self) -> gst::ResourceError {
        match self {
            Self::Sender => gst::ResourceError::Write,
            Self::Receiver => gst::ResourceError::Read,
        }
    }
}

/// Tells one element's users about its link.
pub(crate) struct Reporter {
    side: Side,
    mode: Mode,
    /// This device's key.
    own: PublicKey,
    /// One warning per outage, not per attempt.
    warned: AtomicBool,
    /// Noise from anywhere must not hide a device that its owner waits for.
    strangers: Pace,
    noise: Pace,
    trust: Pace,
}

impl Reporter {
    pub(crate) fn new(side: Side, mode: Mode, own: PublicKey) -> Self {
        Self {
            side,
            mode,
            own,
            warned: AtomicBool::new(false),
            strangers: Pace::default(),
            noise: Pace::default(),
            trust: Pace::default(),
        }
    }

    /// Posts what `event` means to the users of `element`.
    pub(crate) fn report(&self, element: &gst::Element, event: LinkEvent) {
        match event {
            LinkEvent::Connecting { to } => {
                let kind = if self.warned.load(Ordering::Relaxed) {
                    gst::ProgressType::Continue
                } else {
                    gst::ProgressType::Start
                };
                progress(element, kind, &format!("Connecting to {to}"));
            }
            LinkEvent::ConnectFailed { error, retry_in } => {
                self.failed(element, &error.to_string(), &error.to_string(), retry_in);
            }
            LinkEvent::Connected(peer) => {
                self.warned.store(false, Ordering::Relaxed);
                if self.mode == Mode::Caller {
                    let text = format!("Connected to {}", peer.address);
                    progress(element, gst::ProgressType::Complete, &text);
                }
                post(element, about_peer("peer-connected", &peer).build());
            }
            LinkEvent::Carried { peer, route, why } => {
                let structure = about_peer("route-changed", &peer)
                    .field("route", route_name(route))
                    .field("reason", why.as_str());
                post(element, structure.build());
            }
            LinkEvent::Stalled(peer) => post(element, about_peer("stalled", &peer).build()),
            LinkEvent::Recovered(peer, silence) => {
                let ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
                post(element, about_peer("recovered", &peer).field("silence-ms", ms).build());
            }
            LinkEvent::Left { peer, ended } => lost(element, &peer, &ended),
            LinkEvent::Lost { peer, ended, retry_in } => {
                lost(element, &peer, &ended);
                let what = self.side.peer();
                let text = format!("The {what} at {} is gone: {ended}", peer.address);
                self.failed(element, &ended.to_string(), &text, retry_in);
            }
            LinkEvent::Refused { ended, to, expired } => {
                let text = match expired {
                    Some(expired) => format!("The device at {to} is not trusted: {expired}"),
                    None => refusal(&ended, &self.own, &to, self.side),
                };
                progress(element, gst::ProgressType::Error, &text);
                gst::element_error!(
                    element,
                    gst::ResourceError::NotAuthorized,
                    ("{}", text),
                    ["{ended}"]
                );
            }
            LinkEvent::CallerRefused { address, ended, expired } => {
                let pace = match ended {
                    Ended::UnknownPeer(_) => &self.strangers,
                    _ => &self.noise,
                };
                if pace.allows() {
                    let text = expired.map_or_else(|| caller_refusal(&ended), |e| e.to_string());
                    caller_refused(element, address, &ended, &text);
                }
            }
            LinkEvent::StreamRefused { peer, reason } => {
                self.stream_refused(element, &peer, reason)
            }
            LinkEvent::StreamTaken { peer, name } => {
                let structure = about_peer("stream-taken", &peer).field("stream", name.to_string());
                post(element, structure.build());
            }
            LinkEvent::NothingToPlay(peer) => gst::element_warning!(
                element,
                gst::ResourceError::NotFound,
                (
                    "The sender at {} has no stream for this element yet: start velinsink \
                     mode=listener there, or let streams= name another",
                    peer.address
                )
            ),
            LinkEvent::TrustUnreadable(text) if self.trust.allows() => gst::element_warning!(
                element,
                gst::ResourceError::Read,
                ("{}", text),
                ["the trust read before stays in force"]
            ),
            LinkEvent::Streaming(_) | LinkEvent::TrustUnreadable(_) => {}
        }
    }

    /// There is no connection, now or for good.
    fn failed(&self, element: &gst::Element, short: &str, text: &str, retry_in: Option<Duration>) {
        // Whoever never was connected fails to open.
        let code = if short == text { self.side.open_error() } else { self.side.error() };
        let Some(wait) = retry_in else {
            progress(element, gst::ProgressType::Error, short);
            gst::element_error!(element, code, ("{}", text), ["auto-reconnect is off"]);
            return;
        };
        let again = format!("{short}. Trying again in {}", seconds(wait));
        let first = !self.warned.swap(true, Ordering::Relaxed);
        // Whoever waits for the end of what began, as gst-launch-1.0 does before it plays, has
        // waited long enough.
        let kind = if first { gst::ProgressType::Canceled } else { gst::ProgressType::Continue };
        progress(element, kind, &again);
        if first {
            gst::element_warning!(element, code, ("{}", text), ["trying again until it works"]);
        }
    }

    fn stream_refused(&self, element: &gst::Element, peer: &PeerInfo, reason: CloseReason) {
        use velin_core::wire::CloseCode;
        let stopped = |code: &CloseReason| {
            let structure = about_peer("stream-stopped", peer).field("reason", code.to_string());
            post(element, structure.build());
        };
        match reason.code {
            CloseCode::OK | CloseCode::SHUTDOWN | CloseCode::BUSY | CloseCode::STREAM_UNKNOWN => {
                stopped(&reason);
            }
            // One of many: the others go on.
            _ if self.mode == Mode::Listener => stopped(&reason),
            CloseCode::PERMISSION => {
                let ended = Ended::ByPeer(reason);
                let text = refusal(&ended, &self.own, &peer.address.to_string(), self.side);
                gst::element_error!(element, gst::ResourceError::NotAuthorized, ("{}", text));
            }
            CloseCode::CAPS => gst::element_error!(
                element,
                gst::StreamError::Format,
                (
                    "The receiver at {} cannot play this format: put audioconvert ! \
                     audioresample before velinsink and choose fewer channels or another rate",
                    peer.address
                )
            ),
            _ => gst::element_error!(
                element,
                self.side.error(),
                ("The {} at {} refused the stream: {}", self.side.peer(), peer.address, reason)
            ),
        }
    }
}

fn lost(element: &gst::Element, peer: &PeerInfo, ended: &Ended) {
    let structure = about_peer("peer-lost", peer).field("reason", ended.to_string());
    post(element, structure.build());
}

/// Posted and logged, never asked: nobody is prompted by a stranger.
fn caller_refused(
    element: &gst::Element,
    address: std::net::SocketAddr,
    ended: &Ended,
    text: &str,
) {
    let mut structure = gst::Structure::builder("velin/caller-refused")
        .field("address", address.to_string())
        .field("reason", text);
    if let Ended::UnknownPeer(key) = ended {
        structure = structure
            .field("peer", key.recipient())
            .field("fingerprint", key.fingerprint().to_string());
        gst::element_warning!(
            element,
            gst::ResourceError::NotAuthorized,
            ("At {}: {}", address, text)
        );
    }
    post(element, structure.build());
}

/// Lets something pass only now and then.
#[derive(Default)]
struct Pace(Mutex<Option<Instant>>);

impl Pace {
    fn allows(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|t| t.elapsed() < REFUSAL_INTERVAL) {
            return false;
        }
        *last = Some(Instant::now());
        true
    }
}
