/**
 * SECTION:element-velinsink
 *
 * Sends audio to a `velinsrc`, encrypted, at the lowest latency the network allows. The element
 * calls the receiver at `host`, proves who it is with the device's key, and offers its input as a
 * stream. Live input leaves the moment it arrives; other input is paced by the clock. While no
 * receiver is connected the audio is dropped and counted: a capture is never blocked.
 *
 * Several sinks that call the same receiver share one link, each with a stream of its own.
 *
 * With `mode=listener` it waits for callers instead, any number of them, and gives its stream to
 * each that asks for it and may: they need `capture-from-me` in the trust file. A receiver that is
 * slow or gone does not touch the others.
 *
 * Two machines must trust each other once: run `velin-pipe identity show` on each and
 * `velin-pipe trust add age1… --name NAME` on the other. On one machine, over 127.0.0.1, nothing
 * is needed.
 *
 * |[
 * gst-launch-1.0 audiotestsrc is-live=true ! velinsink host=127.0.0.1
 * gst-launch-1.0 pulsesrc device=@DEFAULT_MONITOR@ ! velinsink host=192.168.1.5
 * gst-launch-1.0 filesrc location=song.wav ! wavparse ! velinsink host=living-room
 * gst-launch-1.0 pulsesrc ! velinsink mode=listener stream-name=mic
 * gst-launch-1.0 pulsesrc ! audioconvert ! audioresample ! velinsink host=192.168.1.5 codec=opus
 * ]|
 *
 * With `codec=opus` the input is mono or stereo at 48 kHz, which the sink's caps say, so that
 * `audioconvert ! audioresample` before it do what is needed. The bit rate is constant, and goes down
 * by steps to 32 kbit/s while a receiver loses more than a twentieth of the packets.
 *
 * ## Messages
 *
 * PROGRESS messages with the code `connect` tell how the connection fares. Element messages:
 * `velin/peer-connected`, `velin/peer-lost`, `velin/stalled`, `velin/recovered`, each with
 * the fields `peer` (the receiver's `age1…`), `fingerprint`, `name` and `address`, and
 * `velin/route-changed` also with `route` (`udp`, `tcp`, or `held` while the peer is silent) and
 * `reason`; `velin/stream-stopped`, with `reason`, when the receiver takes the stream no more but
 * keeps the connection. A listener posts `velin/listening` and `velin/caller-refused` as
 * `velinsrc` does.
 *
 * Since: 0.1
 */
#[allow(rustdoc::broken_intra_doc_links)] // The notation of GStreamer's documentation tool.
mod coder;
mod imp;
mod packetizer;
mod parcel;
mod report;
mod settings;

use gst::glib;
use gst::prelude::*;

pub use settings::{AudioType, Codec};

glib::wrapper! {
    /// The `velinsink` element.
    pub struct VelinSink(ObjectSubclass<imp::VelinSink>)
        @extends gst_base::BaseSink, gst::Element, gst::Object,
        @implements gst::URIHandler;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "velinsink", gst::Rank::NONE, VelinSink::static_type())
}
