//! What the machine has: asked once, before planning.

use std::collections::BTreeMap;
use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use gst::prelude::*;
use gstvelin::link::store::{TrustFileError, trust_file};
use velin_core::identity::WallTime;

use super::packages;
use crate::error::Error;
use crate::plan::{Device, DeviceClass, SoundSystem, Surroundings, TrustedPeer};
use crate::preset::model::{CaptureSource, PlaybackSink, Preset};

/// What can be known without opening a device.
///
/// # Errors
/// The trust file cannot be used.
pub fn surroundings_without_devices() -> Result<Surroundings, Error> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    Ok(Surroundings {
        sound: if cfg!(windows) { SoundSystem::Wasapi } else { SoundSystem::Pulse },
        devices: Vec::new(),
        monitor_override: set("VELIN_LINUX_MONITOR"),
        mic_override: set("VELIN_LINUX_MIC_SOURCE"),
        peers: trusted_peers()?,
    })
}

/// What `preset` needs to know: devices are only looked at if it uses any.
///
/// # Errors
/// The preset needs a device and there is none at all, or the trust file cannot be used.
pub fn surroundings(preset: &Preset) -> Result<Surroundings, Error> {
    let mut surroundings = surroundings_without_devices()?;
    let use_ = DeviceUse::of(preset);
    if cfg!(windows) || !(use_.captures || use_.plays) {
        return Ok(surroundings);
    }
    if !opens("pulsesink") {
        // ALSA and JACK may still be there, without names and monitors.
        surroundings.sound = SoundSystem::Auto;
        if use_.plays && !finds_device("autoaudiosink", "fakesink") {
            return Err(no_device(
                "playback",
                "output",
                "playback=[{kind=\"file\",path=\"received.wav\"}]",
            ));
        }
        if use_.captures && !finds_device("autoaudiosrc", "audiotestsrc") {
            return Err(no_device("capture", "input", "capture=[{kind=\"test\"}]"));
        }
        return Ok(surroundings);
    }
    if use_.names {
        surroundings.devices = devices();
    }
    Ok(surroundings)
}

/// What a preset does with devices.
struct DeviceUse {
    captures: bool,
    plays: bool,
    /// Whether it calls one by its name.
    names: bool,
}

impl DeviceUse {
    fn of(preset: &Preset) -> Self {
        let mut use_ = Self { captures: false, plays: false, names: false };
        for capture in &preset.captures {
            let named = match &capture.source {
                CaptureSource::System { device } | CaptureSource::Mic { device } => {
                    device.is_some()
                }
                CaptureSource::Device { .. } => true,
                _ => continue,
            };
            use_.captures = true;
            use_.names |= named;
        }
        for playback in &preset.playbacks {
            if let PlaybackSink::Device { device, .. } = &playback.sink {
                use_.plays = true;
                use_.names |= device.is_some();
            }
        }
        use_
    }
}

/// Whether an element of this factory reaches its device.
fn opens(factory: &str) -> bool {
    let Ok(element) = gst::ElementFactory::make(factory).build() else { return false };
    let opened = element.set_state(gst::State::Ready).is_ok();
    // Nothing was started, so nothing can go wrong on the way back.
    let _ = element.set_state(gst::State::Null);
    opened
}

/// Whether GStreamer finds any device by itself; where there is none it puts a `stand_in` there.
fn finds_device(factory: &str, stand_in: &str) -> bool {
    let Ok(element) = gst::ElementFactory::make(factory).build() else { return false };
    let found = element.set_state(gst::State::Ready).is_ok()
        && element.downcast_ref::<gst::Bin>().is_some_and(|bin| {
            bin.children()
                .iter()
                .any(|child| child.factory().is_some_and(|factory| factory.name() != stand_in))
        });
    let _ = element.set_state(gst::State::Null);
    found
}

fn no_device(element: &str, what: &str, instead: &str) -> Error {
    let help = if gst::ElementFactory::find("pulsesink").is_none() {
        packages::advice("pulsesink")
    } else {
        format!("start PipeWire or PulseAudio, or do without: --set '{instead}'")
    };
    let message = format!("there is no sound {what}: no sound server answers");
    Error::Unavailable { element: element.to_owned(), message, help }
}

fn devices() -> Vec<Device> {
    let monitor = gst::DeviceMonitor::new();
    let classes = [("Audio/Source", DeviceClass::Source), ("Audio/Sink", DeviceClass::Sink)];
    for (name, _) in classes {
        monitor.add_filter(Some(name), None);
    }
    if monitor.start().is_err() {
        return Vec::new();
    }
    let found = monitor.devices();
    monitor.stop();
    found
        .iter()
        .filter_map(|device| {
            let id = device
                .find_property("internal-name")
                .and_then(|_| device.property::<Option<String>>("internal-name"))?;
            let (_, class) = classes.into_iter().find(|(name, _)| device.has_classes(name))?;
            Some(Device { id, label: device.display_name().to_string(), class })
        })
        .collect()
}

/// The peers of the trust file that may be called, by name.
fn trusted_peers() -> Result<BTreeMap<String, TrustedPeer>, TrustFileError> {
    let book = match trust_file::load(None) {
        Ok(book) => book,
        // Without a home there are no names; the element says what it misses itself.
        Err(TrustFileError::NoHome(_)) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    // A clock before 1970 was never set; nothing has run out then.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = WallTime::from_unix(since_epoch.as_secs());
    let valid = book.peers().iter().filter(|peer| !peer.is_expired(now));
    Ok(valid
        .filter_map(|peer| {
            let name = peer.name.as_ref()?.to_string();
            Some((name, TrustedPeer { recipient: peer.key.recipient(), host: peer.host.clone() }))
        })
        .collect())
}
