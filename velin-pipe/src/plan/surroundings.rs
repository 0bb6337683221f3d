//! What a plan needs to know about the machine, found out beforehand.

use std::collections::BTreeMap;

use toml::Spanned;
use velin_core::identity::PeerHost;

use crate::preset::diagnostic::Diagnostic;

/// What a plan needs to know about the machine.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Which sound system there is.
    pub sound: SoundSystem,
    /// The devices, where somebody could be asked.
    pub devices: Vec<Device>,
    /// `VELIN_LINUX_MONITOR`: the source to use for `kind = "system"`, whatever the preset says.
    pub monitor_override: Option<String>,
    /// `VELIN_LINUX_MIC_SOURCE`: the source to use for `kind = "mic"`, whatever the preset says.
    pub mic_override: Option<String>,
    /// Trusted peers by name.
    pub peers: BTreeMap<String, TrustedPeer>,
}

/// A sound system that captures and plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SoundSystem {
    /// PulseAudio, or PipeWire in its place.
    #[default]
    Pulse,
    /// Windows.
    Wasapi,
    /// None of them: GStreamer picks what works.
    Auto,
}

/// A peer out of the trust file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedPeer {
    /// Its key, `age1…`.
    pub recipient: String,
    /// Where it is found, if that was stored.
    pub host: Option<PeerHost>,
}

/// What a device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceClass {
    /// It records.
    Source,
    /// It plays.
    Sink,
}

/// A sound device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What the sound system calls it.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// What it does.
    pub class: DeviceClass,
}

impl Surroundings {
    /// The sound system's name of the device that people call `wanted`.
    ///
    /// Where no device is known at all, the name is taken as it is: the sound system decides.
    pub(super) fn device(
        &self,
        wanted: &Spanned<String>,
        class: DeviceClass,
    ) -> Result<String, Diagnostic> {
        let name = wanted.get_ref();
        if self.sound == SoundSystem::Auto {
            let message = format!("`{name}` cannot be chosen without a sound server");
            return Err(Diagnostic::at(wanted.span(), message)
                .help("start PulseAudio or PipeWire, or remove `device`"));
        }
        let all = || self.devices.iter().filter(|device| device.class == class);
        if all().next().is_none() || all().any(|device| device.id == *name) {
            return Ok(name.clone());
        }
        let labelled: Vec<_> = all().filter(|device| device.label == *name).collect();
        match labelled[..] {
            [device] => Ok(device.id.clone()),
            [] => Err(Diagnostic::at(wanted.span(), format!("there is no device `{name}`"))
                .suggest_and_list(name, all().flat_map(|d| [d.label.as_str(), d.id.as_str()]))),
            _ => {
                let ids: Vec<_> = labelled.iter().map(|device| device.id.as_str()).collect();
                Err(Diagnostic::at(wanted.span(), format!("several devices are called `{name}`"))
                    .help(format!("name one of {}", ids.join(", "))))
            }
        }
    }
}
