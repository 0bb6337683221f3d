//! What `gst-inspect-1.0` shows, what properties and URIs take, and what touches the disk.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use gst::glib;
use gst::glib::translate::IntoGlib;
use gst::prelude::*;

use crate::support::{Device, FLOAT_STEREO, Receiver, init};

/// Writes the snapshot anew instead of comparing.
const UPDATE: &str = "VELIN_UPDATE_SNAPSHOTS";

fn make(name: &str) -> gst::Element {
    init();
    gst::ElementFactory::make(name).build().unwrap()
}

fn own_properties(element: &gst::Element) -> Vec<glib::ParamSpec> {
    let own = |p: &glib::ParamSpec| p.owner_type() == element.type_();
    let mut list: Vec<_> = element.list_properties().iter().filter(|p| own(p)).cloned().collect();
    list.sort_by(|a, b| a.name().cmp(b.name()));
    list
}

fn range(pspec: &glib::ParamSpec) -> String {
    if let Some(p) = pspec.downcast_ref::<glib::ParamSpecUInt>() {
        return format!(" {}..={}", p.minimum(), p.maximum());
    }
    if let Some(p) = pspec.downcast_ref::<glib::ParamSpecInt>() {
        return format!(" {}..={}", p.minimum(), p.maximum());
    }
    if let Some(p) = pspec.downcast_ref::<glib::ParamSpecUInt64>() {
        return format!(" {}..={}", p.minimum(), p.maximum());
    }
    let Some(p) = pspec.downcast_ref::<glib::ParamSpecEnum>() else { return String::new() };
    let values = p.enum_class().values().iter().map(|v| v.nick()).collect::<Vec<_>>();
    format!(" {}", values.join("|"))
}

fn flags(pspec: &glib::ParamSpec) -> String {
    let flags = pspec.flags();
    let known = [
        (glib::ParamFlags::READABLE, "readable"),
        (glib::ParamFlags::WRITABLE, "writable"),
        (glib::ParamFlags::CONSTRUCT, "construct"),
        (glib::ParamFlags::CONSTRUCT_ONLY, "construct-only"),
        (gst::PARAM_FLAG_CONTROLLABLE, "controllable"),
        (gst::PARAM_FLAG_MUTABLE_READY, "mutable-ready"),
        (gst::PARAM_FLAG_MUTABLE_PAUSED, "mutable-paused"),
        (gst::PARAM_FLAG_MUTABLE_PLAYING, "mutable-playing"),
    ];
    let names: Vec<_> = known.iter().filter(|(f, _)| flags.contains(*f)).map(|(_, n)| *n).collect();
    names.join(" ")
}

fn signals(element: &gst::Element) -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: the array is ours to free, its names live as long as the type, which is static.
    unsafe {
        let mut n = 0;
        let type_ = element.type_().into_glib();
        let ids = glib::gobject_ffi::g_signal_list_ids(type_, &mut n);
        for i in 0..n as usize {
            let name = glib::gobject_ffi::g_signal_name(*ids.add(i));
            names.push(std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned());
        }
        glib::ffi::g_free(ids.cast());
    }
    names.sort();
    names
}

/// All that an application can rely on, as text.
fn inspect(name: &str) -> String {
    let element = make(name);
    let factory = element.factory().unwrap();
    let mut text = format!("{name}: rank {:?}\n", factory.rank());
    for key in ["long-name", "klass", "description", "author"] {
        writeln!(text, "{key}: {}", factory.metadata(key).unwrap()).unwrap();
    }
    writeln!(text, "protocols: {:?}", factory.uri_protocols()).unwrap();
    for pad in element.pad_template_list() {
        let (direction, presence) = (pad.direction(), pad.presence());
        writeln!(text, "pad {} {direction:?} {presence:?}", pad.name_template()).unwrap();
        for structure in pad.caps().iter() {
            writeln!(text, "  {structure}").unwrap();
        }
    }
    for pspec in own_properties(&element) {
        let default = pspec.default_value();
        let default = match pspec.downcast_ref::<glib::ParamSpecBoxed>() {
            Some(_) => "none".into(),
            None => default.serialize().map_or_else(|_| "none".into(), |s| s.to_string()),
        };
        let (kind, range, flags) = (pspec.value_type(), range(&pspec), flags(&pspec));
        writeln!(text, "property {}: {kind}{range} = {default} [{flags}]", pspec.name()).unwrap();
        writeln!(text, "  {}", pspec.blurb().unwrap_or_default()).unwrap();
    }
    for signal in signals(&element) {
        writeln!(text, "signal {signal}").unwrap();
    }
    text
}

#[test]
fn what_inspection_shows_is_what_was_agreed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inspect.txt");
    let now = format!("{}\n{}", inspect("velinsink"), inspect("velinsrc"));
    if std::env::var_os(UPDATE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let agreed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(now, agreed, "if this change is meant, run the test with {UPDATE}=1");
}

/// Another value than the one it has.
fn other(pspec: &glib::ParamSpec) -> Option<glib::Value> {
    Some(match pspec.name() {
        "port" | "audio-port" => 50_123_u32.to_value(),
        "mtu" => 900_u32.to_value(),
        "latency" => 77_u32.to_value(),
        "qos-dscp" => 10_i32.to_value(),
        "packet-time" | "output-period" => 5_000_000_u64.to_value(),
        "auto-reconnect" => false.to_value(),
        "max-sessions" => 7_u32.to_value(),
        // Changed alone, it would change what the others may do.
        "mode" => return None,
        "carrier" => return nick(pspec, "tcp"),
        "mute" | "dtx" => true.to_value(),
        "codec" => return nick(pspec, "opus"),
        "bitrate" => 32_000_u32.to_value(),
        "audio-type" => return nick(pspec, "voice"),
        "bundle" => 3_u32.to_value(),
        "profile" => return nick(pspec, "fixed"),
        "drift" | "repair" => return nick(pspec, "off"),
        "on-peer-lost" => return nick(pspec, "eos"),
        // It changes the others.
        "uri" => return None,
        _ => "text".to_value(),
    })
}

fn nick(pspec: &glib::ParamSpec, nick: &str) -> Option<glib::Value> {
    pspec.downcast_ref::<glib::ParamSpecEnum>()?.enum_class().to_value_by_nick(nick)
}

fn text_of(value: &glib::Value) -> String {
    format!("{value:?}")
}

#[test]
fn every_property_takes_a_value_and_gives_it_back() {
    for name in ["velinsink", "velinsrc"] {
        let element = make(name);
        for pspec in own_properties(&element) {
            let before = text_of(&element.property_value(pspec.name()));
            if !pspec.flags().contains(glib::ParamFlags::WRITABLE) {
                continue;
            }
            let Some(value) = other(&pspec) else { continue };
            assert_ne!(before, text_of(&value), "{}", pspec.name());
            element.set_property_from_value(pspec.name(), &value);
            assert_eq!(text_of(&element.property_value(pspec.name())), text_of(&value));
        }
    }
}

/// Sets each property in `state`: what is marked as changeable there changes, the rest does not.
fn changes_as_its_flags_say(element: &gst::Element, state: gst::State) {
    for pspec in own_properties(element) {
        let Some(value) = other(&pspec) else { continue };
        if !pspec.flags().contains(glib::ParamFlags::WRITABLE) {
            continue;
        }
        let flags = pspec.flags();
        let in_ready = flags.contains(gst::PARAM_FLAG_MUTABLE_READY);
        let in_playing = flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING);
        let may = in_playing || (in_ready && state == gst::State::Ready);
        let before = element.property_value(pspec.name());
        element.set_property_from_value(pspec.name(), &value);
        let after = text_of(&element.property_value(pspec.name()));
        let expected = if may { text_of(&value) } else { text_of(&before) };
        assert_eq!(after, expected, "{} in {state:?}", pspec.name());
        if may {
            element.set_property_from_value(pspec.name(), &before);
        }
    }
}

#[test]
fn a_property_set_in_the_wrong_state_keeps_its_value() {
    let device = Device::new();
    let receiver = Receiver::build(&device, "", FLOAT_STEREO);
    for state in [gst::State::Ready, gst::State::Paused, gst::State::Playing] {
        receiver.line.set(state);
        changes_as_its_flags_say(&receiver.src, state);
    }
    let sender = crate::support::Sender::build(&device, receiver.port(), 500, "");
    for state in [gst::State::Ready, gst::State::Paused, gst::State::Playing] {
        sender.line.set(state);
        changes_as_its_flags_say(&sender.sink, state);
    }
    let handler = sender.sink.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    let before = handler.uri();
    let error = handler.set_uri("velin://elsewhere:1/").unwrap_err();
    assert!(error.matches(gst::URIError::BadState), "{error}");
    sender.sink.set_property("uri", "velin://elsewhere:1/");
    assert_eq!(handler.uri(), before);
    let handler = receiver.src.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    assert!(handler.set_uri("velin://127.0.0.1:1/").unwrap_err().matches(gst::URIError::BadState));
}

#[test]
fn a_uri_makes_an_element_and_comes_back_from_it() {
    init();
    let text = "velin://[fe80::1]:5000/my%20mic?mtu=1000&qos-dscp=-1&packet-time=5000000";
    let sink = gst::Element::make_from_uri(gst::URIType::Sink, text, None).unwrap();
    assert_eq!(sink.factory().unwrap().name(), "velinsink");
    assert_eq!(sink.property::<String>("host"), "fe80::1");
    assert_eq!(sink.property::<u32>("port"), 5000);
    assert_eq!(sink.property::<String>("stream-name"), "my mic");
    assert_eq!(sink.property::<u32>("mtu"), 1000);
    let handler = sink.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    assert_eq!(handler.uri().unwrap(), text);
    assert_eq!(sink.property::<String>("uri"), text);

    let text = "velin://127.0.0.1:0/?audio-port=0&latency=40&drift=off";
    let src = gst::Element::make_from_uri(gst::URIType::Src, text, None).unwrap();
    assert_eq!(src.property::<String>("bind-address"), "127.0.0.1");
    assert_eq!(src.property::<u32>("port"), 0);
    assert_eq!(src.property::<u32>("latency"), 40);
    assert_eq!(src.property::<String>("uri"), text);

    let handler = src.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    for bad in ["velin://h:99999/", "velin://user:pass@h/", "velin://h/a/b", "velin:///?drift=x"] {
        assert!(handler.set_uri(bad).unwrap_err().matches(gst::URIError::BadUri), "{bad}");
        assert_eq!(handler.uri().unwrap(), text);
    }
    assert!(handler.set_uri("http://h/").is_err());
}

#[test]
fn a_key_that_the_uri_does_not_know_is_a_warning() {
    init();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let list = told.clone();
    let function = gst::log::add_log_function(move |category, level, _, _, _, _, message| {
        if category.name().starts_with("velin") && level == gst::DebugLevel::Warning {
            let text = message.get().map(|t| t.to_string()).unwrap_or_default();
            list.lock().unwrap().push(text);
        }
    });
    for (name, uri) in
        [("velinsink", "velin://h/?colour=red&mtu=900"), ("velinsrc", "velin:///?colour=red")]
    {
        let element = make(name);
        // The category is made when it is first used.
        element.set_property("qos-dscp", 0);
        gst::DebugCategory::get(name).unwrap().set_threshold(gst::DebugLevel::Warning);
        element.set_property("uri", uri);
        let told = told.lock().unwrap().join("\n");
        assert!(told.contains("colour"), "{told}");
    }
    gst::log::remove_log_function(function);
}

const NO_DISK: &str = "VELIN_TEST_NO_DISK";

#[test]
fn neither_inspection_nor_properties_nor_ready_touch_the_disk() {
    let Some(home) = std::env::var_os(NO_DISK) else {
        let home = tempfile::tempdir().unwrap();
        let name = "properties::neither_inspection_nor_properties_nor_ready_touch_the_disk";
        let output = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(NO_DISK, home.path())
            .env("VELIN_CONFIG_DIR", home.path().join("velin"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    };
    let made = || std::fs::read_dir(&home).unwrap().count();
    for name in ["velinsink", "velinsrc"] {
        let element = make(name);
        if name == "velinsrc" {
            element.set_property("port", 0_u32);
            element.set_property("audio-port", 0_u32);
        }
        for state in [gst::State::Null, gst::State::Ready] {
            element.set_state(state).unwrap();
            for pspec in element.list_properties().iter() {
                if pspec.flags().contains(glib::ParamFlags::READABLE) {
                    element.property_value(pspec.name());
                }
            }
            inspect(name);
            assert_eq!(made(), 0, "{name} in {state:?}");
        }
        // The test could see it: from here on the identity is needed.
        let _ = element.set_state(gst::State::Paused);
        assert_eq!(made(), 1);
        element.set_state(gst::State::Null).unwrap();
        std::fs::remove_dir_all(Path::new(&home).join("velin")).unwrap();
    }
}
