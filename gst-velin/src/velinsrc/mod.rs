/**
 * SECTION:element-velinsrc
 *
 * Receives audio from any number of `velinsink`s, and plays all of it, mixed, in time with the
 * pipeline's clock. The element listens; only devices in the trust file may play. Reordering,
 * gaps and jitter are dealt with inside, at the moment the output needs samples. Without senders
 * it plays silence. The output has the format that downstream asks for, else F32LE, 48 kHz, stereo.
 *
 * |[
 * gst-launch-1.0 velinsrc ! audioconvert ! autoaudiosink
 * gst-launch-1.0 velinsrc ! audioconvert ! wavenc ! filesink location=received.wav
 * gst-launch-1.0 velinsrc drift=off ! audio/x-raw,format=S16LE,rate=44100,channels=2 ! fakesink
 * ]|
 *
 * ## Messages
 *
 * Element messages: `velin/peer-connected`, `velin/peer-lost`, `velin/stalled`,
 * `velin/recovered`, `velin/stream-added`, `velin/stream-removed`, each with the fields `peer`
 * (the sender's `age1…`), `fingerprint`, `name` and `address`, the last two also `stream` and
 * `uuid`; `velin/caller-refused` with `address`, `reason` and, for a device that is not trusted,
 * `peer`: at most one in ten seconds; `velin/not-exact` with `reason`; `velin/listening` with
 * `port` and `audio-port`.
 *
 * Since: 0.1
 */
#[allow(rustdoc::broken_intra_doc_links)] // The notation of GStreamer's documentation tool.
mod imp;
mod receiver;
mod report;
mod settings;
mod stats;
mod timing;

use gst::glib;
use gst::prelude::*;

pub use settings::{Drift, OnPeerLost, Profile};

glib::wrapper! {
    /// The `velinsrc` element.
    pub struct VelinSrc(ObjectSubclass<imp::VelinSrc>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object,
        @implements gst::URIHandler;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "velinsrc", gst::Rank::NONE, VelinSrc::static_type())
}
