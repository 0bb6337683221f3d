//! An element's error in the launcher's words: what happened and what to do next.

use gst::glib;
use gst::prelude::*;

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

fn classify(element: String, factory: &str, error: &glib::Error, debug: &str) -> Error {
    let place = place(factory);
    let message = error.message().to_owned();
    let resource = error.kind::<gst::ResourceError>();
    if resource == Some(gst::ResourceError::NotAuthorized) {
        let help = own_advice(&message)
            .unwrap_or("trust it with: velin-pipe trust add age1… --name NAME")
            .to_owned();
        return Error::Refused { element, message: first_line(&message), help };
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
        Place::Link => own_advice(&message)
            .unwrap_or("GST_DEBUG=velin*:5 shows what the link did before that"),
        Place::Other if no_format => {
            "these formats do not fit: remove rate, channels or format, or check the fragment"
        }
        Place::Other => "GST_DEBUG=3 shows what happened before that",
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

/// Our own elements say what to do on the message's second line.
fn own_advice(message: &str) -> Option<&str> {
    message.split_once('\n').map(|(_, advice)| advice.trim()).filter(|advice| !advice.is_empty())
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
        let refused = glib::Error::new(gst::ResourceError::NotAuthorized, "not trusted\ndo this");
        assert_eq!(
            classified("velinsink", refused, ""),
            (77, "x: not trusted\ndo this".to_owned())
        );

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
}
