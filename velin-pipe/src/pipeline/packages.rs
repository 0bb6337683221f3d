//! Which Debian package holds an element.

/// What to install for the element called `factory`.
pub(super) fn advice(factory: &str) -> String {
    if matches!(factory, "velinsink" | "velinsrc") {
        return "this copy of velin-pipe lacks its own elements; build it again".to_owned();
    }
    match package(factory) {
        Some(package) => format!("install it: apt install {package}"),
        None => format!(
            "find its package: apt-file search or https://gstreamer.freedesktop.org ({factory})"
        ),
    }
}

fn package(factory: &str) -> Option<&'static str> {
    Some(match factory {
        "pulsesrc" | "pulsesink" => "gstreamer1.0-pulseaudio",
        "pipewiresrc" | "pipewiresink" => "gstreamer1.0-pipewire",
        "alsasrc" | "alsasink" => "gstreamer1.0-alsa",
        "jackaudiosrc" | "jackaudiosink" => "gstreamer1.0-jack",
        "capsfilter" | "fakesink" | "fakesrc" | "filesink" | "filesrc" | "identity" | "queue"
        | "tee" | "valve" => "libgstreamer1.0-0",
        "audioconvert" | "audiomixer" | "audiorate" | "audioresample" | "audiotestsrc"
        | "decodebin" | "opusdec" | "opusenc" | "uridecodebin" | "volume" | "vorbisdec" => {
            "gstreamer1.0-plugins-base"
        }
        "autoaudiosink" | "autoaudiosrc" | "equalizer-3bands" | "flacdec" | "flacenc"
        | "lamemp3enc" | "level" | "mpg123audiodec" | "rglimiter" | "rtpjitterbuffer"
        | "spectrum" | "udpsink" | "udpsrc" | "wavenc" | "wavparse" => "gstreamer1.0-plugins-good",
        "audiolatency" | "netsim" | "srtsink" | "srtsrc" | "webrtcdsp" | "webrtcechoprobe" => {
            "gstreamer1.0-plugins-bad"
        }
        _ => return None,
    })
}
