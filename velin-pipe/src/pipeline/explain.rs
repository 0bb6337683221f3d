//! An element's error in the launcher's words: what happened and what to do next.

use gst::glib;
use gst::prelude::*;

use super::stats;
use crate::error::Error;

/// What kind of place an element is: the same error means different things there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Device,
    File,
    Link,
    Other,
}

/// The launcher's error for one that `source` posted.
pub(super) fn error(
    source: Option<&gst::Object>,
    error: &glib::Error,
    debug: Option<&str>,
) -> Error {
    let element = source.map_or_else(|| "pipeline".to_owned(), |source| source.name().to_string());
    let factory = source
        .and_then(|source| source.downcast_ref::<gst::Element>())
        .and_then(ElementExt::factory)
        .map_or_else(String::new, |factory| factory.name().to_string());
    classify(element, &factory, error, debug.unwrap_or_default())
}

/// The line for a warning that `source` posted.
pub(super) fn warning(
    source: Option<&gst::Object>,
    error: &glib::Error,
    debug: Option<&str>,
) -> String {
    let name = source.map_or_else(String::new, |source| format!("{}: ", source.name()));
    let is_ours =
        source.and_then(|source| source.downcast_ref::<gst::Element>()).is_some_and(stats::is_link);
    // Behind file and function, our own elements say what they do about it.
    let then = debug.filter(|_| is_ours).and_then(|debug| debug.lines().nth(1)).unwrap_or_default();
    let then = if then.is_empty() { String::new() } else { format!(" ({then})") };
    format!("warning: {name}{}{then}", error.message())
}

fn classify(element: String, factory: &str, error: &glib::Error, debug: &str) -> Error {
    let place = place(factory);
    let message = error.message().to_owned();
    let resource = error.kind::<gst::ResourceError>();
    if place == Place::Link {
        return link_error(element, resource, &message);
    }
    // A device that is not there shows itself only by not agreeing on a format.
    let no_device = message.contains("No such entity");
    let no_format = error.kind::<gst::CoreError>() == Some(gst::CoreError::Negotiation)
        || debug.contains("not-negotiated");
    let help = match place {
        Place::Device if no_format || no_device => {
            "check the device's name: `pactl list short sources` and `pactl list short sinks` print them"
        }
        Place::Device => "is PulseAudio or PipeWire running? `pactl info` shows it",
        Place::File => "check the path and its permissions",
        Place::Link | Place::Other if no_format => {
            "these formats do not fit: remove rate, channels or format, or check the fragment"
        }
        Place::Link | Place::Other => "GST_DEBUG=3 shows what happened before that",
    }
    .to_owned();
    let message = first_line(&message);
    let is_absent = matches!(
        resource,
        Some(
            gst::ResourceError::NotFound
                | gst::ResourceError::Busy
                | gst::ResourceError::OpenRead
                | gst::ResourceError::OpenWrite
                | gst::ResourceError::OpenReadWrite
                | gst::ResourceError::Settings
        )
    );
    if is_absent || (place == Place::Device && (no_format || no_device)) {
        Error::Unavailable { element, message, help }
    } else {
        Error::Pipeline { element, message, help }
    }
}

/// An error of our own elements: its text already says what to do.
fn link_error(element: String, resource: Option<gst::ResourceError>, text: &str) -> Error {
    // Their only files are the identity and the trust file.
    let is_file = resource == Some(gst::ResourceError::OpenRead);
    let (message, help) = match split_advice(text) {
        Some((message, help)) => (message, help),
        None if is_file => (text, "correct that file, or let VELIN_CONFIG_DIR name another folder"),
        None => (text, "GST_DEBUG=velin*:5 shows what the link did before that"),
    };
    let (message, help) = (first_line(message), help.to_owned());
    match resource {
        Some(gst::ResourceError::NotAuthorized) => Error::Refused { element, message, help },
        Some(gst::ResourceError::OpenRead | gst::ResourceError::Settings) => {
            Error::Configuration { element, message, help }
        }
        // A port that is taken, or a peer that is not there or not there any more.
        Some(
            gst::ResourceError::Busy
            | gst::ResourceError::NotFound
            | gst::ResourceError::OpenWrite
            | gst::ResourceError::Read
            | gst::ResourceError::Write,
        ) => Error::Unavailable { element, message, help },
        _ => Error::Pipeline { element, message, help },
    }
}

/// What happened, and what to do about it: the next line, sentence or half sentence.
fn split_advice(text: &str) -> Option<(&str, &str)> {
    let split = |separator: &str| {
        let (message, advice) = text.split_once(separator)?;
        Some((message.trim(), advice.trim())).filter(|(_, advice)| !advice.is_empty())
    };
    let earliest = [". ", "; "].into_iter().filter_map(|s| Some((text.find(s)?, s))).min();
    split("\n").or_else(|| split(earliest?.1))
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

fn place(factory: &str) -> Place {
    match factory {
        "velinsink" | "velinsrc" => Place::Link,
        "filesrc" | "filesink" | "decodebin" | "wavparse" | "wavenc" => Place::File,
        name if ["pulse", "pipewire", "alsa", "jack", "wasapi", "autoaudio"]
            .iter()
            .any(|system| name.starts_with(system)) =>
        {
            Place::Device
        }
        _ => Place::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(factory: &str, error: glib::Error, debug: &str) -> (u8, String) {
        let error = classify("x".to_owned(), factory, &error, debug);
        (error.exit_code(), error.to_string())
    }

    #[test]
    fn each_place_has_its_own_advice_and_exit_code() {
        let dead = glib::Error::new(gst::ResourceError::OpenRead, "Failed to connect");
        let (code, text) = classified("pulsesrc", dead, "");
        assert!(code == 69 && text.contains("pactl info"), "{text}");

        let unknown = glib::Error::new(gst::StreamError::Failed, "Internal data stream error.");
        let (code, text) = classified("pulsesrc", unknown, "reason not-negotiated (-4)");
        assert!(code == 69 && text.contains("pactl list"), "{text}");

        let broken = glib::Error::new(gst::StreamError::Decode, "bad data");
        let (code, text) = classified("flacdec", broken, "");
        assert!(code == 1 && text.contains("GST_DEBUG=3"), "{text}");

        let gone = glib::Error::new(gst::ResourceError::NotFound, "no such file");
        assert_eq!(classified("filesrc", gone, "").0, 69);
    }

    #[test]
    fn our_own_elements_say_what_to_do_next_and_their_errors_keep_apart() {
        use gst::ResourceError as R;
        for (kind, code, text, said) in [
            (
                R::NotAuthorized,
                77,
                "This device does not trust it. If it is yours, run: velin-pipe trust add age1x",
                "x: This device does not trust it\nIf it is yours, run: velin-pipe trust add age1x",
            ),
            (
                R::Busy,
                69,
                "port 1 is in use; choose another",
                "x: port 1 is in use\nchoose another",
            ),
            (R::OpenWrite, 69, "nobody at 10.0.0.1:4; wait", "x: nobody at 10.0.0.1:4\nwait"),
            (R::Read, 69, "gone\nwait", "x: gone\nwait"),
            (R::OpenRead, 78, "no home; make one. Now", "x: no home\nmake one. Now"),
            (
                R::Failed,
                1,
                "strange",
                "x: strange\nGST_DEBUG=velin*:5 shows what the link did before that",
            ),
        ] {
            let error = glib::Error::new(kind, text);
            assert_eq!(classified("velinsink", error, ""), (code, said.to_owned()));
        }
    }
}
