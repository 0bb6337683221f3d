//! One received stream as GStreamer sees it: a child of `velinsrc`, whose place in the mix can be
//! turned while it plays.

use std::sync::{Arc, LazyLock, OnceLock};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use velin_core::playout::{StreamControls, StreamCounters};

use super::receiver::Entry;
use super::stats;
use crate::link::StreamKey;

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct Stream {
        pub(super) inner: OnceLock<Inner>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Stream {
        const NAME: &'static str = "GstVelinStream";
        type Type = super::Stream;
        type ParentType = gst::Object;
    }

    impl ObjectImpl for Stream {
        fn properties() -> &'static [glib::ParamSpec] {
            static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
                vec![
                    glib::ParamSpecString::builder("stream")
                        .nick("Stream")
                        .blurb("What its sender calls the stream")
                        .read_only()
                        .build(),
                    glib::ParamSpecString::builder("peer")
                        .nick("Peer")
                        .blurb("The device that sends it, as age1…")
                        .read_only()
                        .build(),
                    glib::ParamSpecString::builder("uuid")
                        .nick("UUID")
                        .blurb("The stream's identity while its timeline goes on")
                        .read_only()
                        .build(),
                    glib::ParamSpecDouble::builder("volume")
                        .nick("Volume")
                        .blurb("Linear volume; changes are heard without a click")
                        .minimum(0.0)
                        .maximum(f64::from(StreamControls::MAX_VOLUME))
                        .default_value(1.0)
                        .mutable_playing()
                        .build(),
                    glib::ParamSpecBoolean::builder("mute")
                        .nick("Mute")
                        .blurb("Play silence in the stream's place")
                        .mutable_playing()
                        .build(),
                    glib::ParamSpecDouble::builder("pan")
                        .nick("Pan")
                        .blurb(
                            "Place between left (-1) and right (1): balance of a stereo stream, \
                             constant power for mono; nothing if the output has no left and right",
                        )
                        .minimum(-1.0)
                        .maximum(1.0)
                        .default_value(0.0)
                        .mutable_playing()
                        .build(),
                    glib::ParamSpecBoolean::builder("solo")
                        .nick("Solo")
                        .blurb("Only this stream, and others set so, are heard")
                        .mutable_playing()
                        .build(),
                    glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                        .nick("Statistics")
                        .blurb("What was received, repaired and concealed, and the playout delay")
                        .read_only()
                        .build(),
                ]
            });
            &PROPERTIES
        }

        fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
            let Some(inner) = self.inner.get() else { return };
            match pspec.name() {
                "volume" => {
                    if let Ok(volume) = value.get::<f64>() {
                        inner.controls.set_volume(volume as f32);
                    }
                }
                "mute" => {
                    if let Ok(mute) = value.get() {
                        inner.controls.set_mute(mute);
                    }
                }
                "pan" => {
                    if let Ok(pan) = value.get::<f64>() {
                        inner.controls.set_pan(pan as f32);
                    }
                }
                "solo" => {
                    if let Ok(solo) = value.get() {
                        inner.controls.set_solo(solo);
                    }
                }
                _ => {}
            }
        }

        fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
            // Only made by `Stream::new`, which fills it in.
            let Some(inner) = self.inner.get() else { return pspec.default_value().clone() };
            match pspec.name() {
                "stream" => inner.stream.to_value(),
                "peer" => inner.key.peer.recipient().to_value(),
                "uuid" => String::from(inner.key.uuid.0).to_value(),
                "volume" => f64::from(inner.controls.volume()).to_value(),
                "mute" => inner.controls.mute().to_value(),
                "pan" => f64::from(inner.controls.pan()).to_value(),
                "solo" => inner.controls.solo().to_value(),
                "stats" => stats::of_child(&inner.counters.snapshot()).to_value(),
                _ => pspec.default_value().clone(),
            }
        }
    }

    impl GstObjectImpl for Stream {}
}

glib::wrapper! {
    /// A received stream: a child of `velinsrc`.
    pub struct Stream(ObjectSubclass<imp::Stream>) @extends gst::Object;
}

#[derive(Debug)]
struct Inner {
    key: StreamKey,
    stream: String,
    counters: Arc<StreamCounters>,
    controls: Arc<StreamControls>,
}

impl Stream {
    /// The stream behind `key`; `name` is unique among its siblings.
    pub(super) fn new(
        name: &str,
        key: StreamKey,
        stream: &str,
        counters: Arc<StreamCounters>,
        controls: Arc<StreamControls>,
    ) -> Self {
        let this: Self = glib::Object::builder().property("name", name).build();
        let inner = Inner { key, stream: stream.to_owned(), counters, controls };
        // It is new: nobody has filled it in.
        let _ = this.imp().inner.set(inner);
        this
    }

    pub(super) fn controls(&self) -> Option<&StreamControls> {
        self.imp().inner.get().map(|inner| &*inner.controls)
    }
}

/// `stream`, or `stream-2` and so on where that is taken. Without `::`, which would part the
/// child's name from its property.
pub(super) fn unique_name<'a>(
    stream: &str,
    taken: impl Iterator<Item = &'a Entry> + Clone,
) -> String {
    let whole = stream.replace("::", "--");
    let stream = whole.as_str();
    let free = |name: &str| taken.clone().all(|entry| entry.child.name() != name);
    if free(stream) {
        return stream.to_owned();
    }
    let mut n = 2;
    loop {
        let name = format!("{stream}-{n}");
        if free(&name) {
            return name;
        }
        n += 1;
    }
}
