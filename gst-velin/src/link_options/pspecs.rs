//! The link properties as GStreamer shows them.

use gst::glib;
use gst::prelude::*;

use super::{LinkOptions, MAX_SESSIONS, Mode};
use crate::options::{MAX_MTU, MIN_MTU};

impl LinkOptions {
    /// The properties, for an element that is `mode` by default.
    pub(crate) fn pspecs(mode: Mode) -> Vec<glib::ParamSpec> {
        let d = Self::new(mode);
        // A listener has taken what these say on its way to READY.
        let ready = mode == Mode::Caller;
        vec![
            glib::ParamSpecEnum::builder_with_default("mode", d.mode)
                .nick("Mode")
                .blurb("Whether the element connects to host or waits for callers")
                .build(),
            until_ready(
                glib::ParamSpecString::builder("host")
                    .nick("Host")
                    .blurb("Name or address to call, with mode=caller")
                    .default_value(d.host.as_str()),
                ready,
            )
            .build(),
            until_ready(
                glib::ParamSpecUInt::builder("port")
                    .nick("Port")
                    .blurb("TCP port to call, or to listen on (0 = any)")
                    .maximum(65_535)
                    .default_value(d.port.into()),
                ready,
            )
            .build(),
            until_ready(
                glib::ParamSpecUInt::builder("audio-port")
                    .nick("Audio port")
                    .blurb(
                        "UDP port of this machine for audio (0 = any; unset: any, 49001 to listen)",
                    )
                    .maximum(65_535)
                    .default_value(d.audio_port().into()),
                ready,
            )
            .build(),
            until_ready(
                glib::ParamSpecString::builder("bind-address")
                    .nick("Bind address")
                    .blurb("IP address of this machine to use (unset = all)"),
                ready,
            )
            .build(),
            until_ready(
                glib::ParamSpecEnum::builder_with_default("carrier", d.carrier)
                    .nick("Carrier")
                    .blurb("How packets travel"),
                ready,
            )
            .build(),
            until_ready(
                glib::ParamSpecString::builder("link")
                    .nick("Link")
                    .blurb("Name of the link, to share it or not (unset: shared by host and port)"),
                ready,
            )
            .build(),
            until_ready(
                glib::ParamSpecString::builder("peer").nick("Peer").blurb(
                    "The only device that may be there, as age1… (unset = any in the trust file)",
                ),
                ready,
            )
            .build(),
            glib::ParamSpecString::builder("identity-file")
                .nick("Identity file")
                .blurb("File of this device's key, made on first use (unset = the user's)")
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("trust-file")
                .nick("Trust file")
                .blurb("trust.toml or age recipients file of trusted devices (unset = the user's)")
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("allow")
                .nick("Allow")
                .blurb("Addresses and networks that callers may come from (unset = all)")
                .build(),
            glib::ParamSpecUInt::builder("max-sessions")
                .nick("Max sessions")
                .blurb("Callers at a time, with mode=listener")
                .minimum(1)
                .maximum(MAX_SESSIONS)
                .default_value(d.max_sessions)
                .build(),
            until_ready(
                glib::ParamSpecBoolean::builder("auto-reconnect")
                    .nick("Auto reconnect")
                    .blurb("Try again when the connection fails or ends, with mode=caller")
                    .default_value(d.auto_reconnect),
                ready,
            )
            .build(),
            until_ready(
                glib::ParamSpecUInt::builder("mtu")
                    .nick("MTU")
                    .blurb("Largest UDP payload in bytes")
                    .minimum(MIN_MTU)
                    .maximum(MAX_MTU)
                    .default_value(d.mtu),
                ready,
            )
            .build(),
            until_ready(
                glib::ParamSpecInt::builder("qos-dscp")
                    .nick("QoS DSCP")
                    .blurb("DSCP value of all packets (-1 = unmarked)")
                    .minimum(-1)
                    .maximum(63)
                    .default_value(d.qos_dscp),
                ready,
            )
            .build(),
        ]
    }
}

/// Marks a property as changeable in READY, or not.
fn until_ready<'a, B: GstParamSpecBuilderExt<'a>>(builder: B, ready: bool) -> B {
    if ready { builder.mutable_ready() } else { builder }
}
