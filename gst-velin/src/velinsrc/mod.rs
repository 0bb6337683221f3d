/**
 * SECTION:element-velinsrc
 *
 * Receives audio from any number of `velinsink`s, and plays all of it, mixed, in time with the
 * pipeline's clock. The element listens; only devices in the trust file may play. Reordering,
 * gaps and jitter are dealt with inside, at the moment the output needs samples. Without senders
 * it plays silence. The output has the format that downstream asks for, else F32LE, 48 kHz, stereo.
 *
 * With `mode=caller` it calls a `velinsink mode=listener` at `host` and asks for its streams; the
 * other device must trust this one with `capture-from-me`.
 *
 * Several elements of one process share a link: those that listen on the same `port`, those that
 * call the same `host` and `port`, or those with the same `link`. Each plays, on its own clock, the
 * streams that its `streams` names; a stream that two of them want belongs to the one that came
 * first, and the other posts `velin/stream-taken`. Settings of a shared link that differ are an
 * error.
 *
 * Each stream is a child of the element (`GstChildProxy`), called like the stream, with `volume`,
 * `mute`, `pan`, `solo` and, to read, `stream`, `peer`, `uuid` and `stats`. All of the first four can
 * be set while the stream plays, and changes are heard without a click. What a handler of
 * `child-added` sets holds from the first sample; it runs on a thread of the network and must not
 * wait. A stream that ends and comes back, from the same sender under the same name, sounds as it was
 * set before. While any stream of the element is soloed, those that are not are silent. Full scale is
 * kept by a limiter, which touches nothing below it; `stats` say what it does (`limiter-gain`,
 * `limited`). Channels are mapped as by `audioconvert`.
 *
 * |[
 * gst-launch-1.0 velinsrc ! audioconvert ! autoaudiosink
 * gst-launch-1.0 velinsrc ! audioconvert ! wavenc ! filesink location=received.wav
 * gst-launch-1.0 velinsrc mode=caller host=192.168.1.5 streams=mic ! audioconvert ! autoaudiosink
 * gst-launch-1.0 velinsrc laptop::volume=0.5 laptop::pan=-0.3 ! audioconvert ! autoaudiosink
 * gst-launch-1.0 velinsrc drift=off ! audio/x-raw,format=S16LE,rate=44100,channels=2 ! fakesink
 * ]|
 *
 * ## Messages
 *
 * Element messages: `velin/peer-connected`, `velin/peer-lost`, `velin/stalled`,
 * `velin/recovered`, `velin/route-changed`, `velin/stream-added`, `velin/stream-removed`,
 * `velin/stream-taken`, `velin/stream-stopped`, each with the fields `peer` (the sender's
 * `age1…`), `fingerprint`, `name` and `address`; those about a stream also with `stream`, added and
 * removed ones with `uuid`, a changed route with `route` (`udp`, `tcp`, or `held` while the
 * peer is silent) and `reason`; `velin/caller-refused` with `address`, `reason` and, for a device that is not trusted,
 * `peer`: at most one in ten seconds; `velin/not-exact` with `reason`; `velin/listening` with
 * `port` and `audio-port`; `velin/clock-not-device` with `clock` and `sink`, once. A caller posts PROGRESS messages with the code `connect`, too.
 *
 * Since: 0.1
 */
#[allow(rustdoc::broken_intra_doc_links)] // The notation of GStreamer's documentation tool.
mod child;
mod device_clock;
mod imp;
mod memory;
mod receiver;
mod report;
mod settings;
mod small_buffers;
mod starvation;
mod stats;
mod streaming;
mod timing;

use gst::glib;
use gst::prelude::*;

pub use child::Stream;
pub use settings::{Drift, OnPeerLost, Profile};

glib::wrapper! {
    /// The `velinsrc` element.
    pub struct VelinSrc(ObjectSubclass<imp::VelinSrc>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object,
        @implements gst::URIHandler, gst::ChildProxy;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "velinsrc", gst::Rank::NONE, VelinSrc::static_type())
}
