//! `[receive]` and one `[[playback]]` → a pipeline from `velinsrc` to an output.

use super::build::{caps, extra_properties};
use super::surroundings::{DeviceClass, SoundSystem, Surroundings};
use super::{Direction, Node, PipelinePlan, link};
use crate::preset::diagnostic::Diagnostic;
use crate::preset::model::{Playback, PlaybackSink, Receive};
use crate::preset::units::Gain;

/// What an output holds, in µs, where the preset says nothing; PulseAudio's own 200 ms never stand.
const PLAYBACK_BUFFER_US: i64 = 40_000;
/// How much is written at a time, in µs.
const PLAYBACK_LATENCY_US: i64 = 10_000;

pub(super) fn pipeline(
    index: usize,
    playback: &Playback,
    receive: &Receive,
    surroundings: &Surroundings,
) -> Result<PipelinePlan, Diagnostic> {
    let name = format!("playback{index}");
    let mut plan = PipelinePlan::new(name.clone(), Direction::Receive);
    plan.chain(link::source(&name, receive, playback));
    if let Some(caps) = caps(&receive.wish) {
        plan.chain(Node::new(format!("{name}-caps"), "capsfilter").with("caps", caps));
    }
    let packed_24 =
        receive.wish.format.as_ref().is_some_and(|format| format.get_ref().0.name() == "S24LE");
    // As when sending: a meter is not worth a conversion.
    if !packed_24 {
        plan.chain(link::level(&name));
    }
    let volume = playback.volume.as_ref().filter(|volume| *volume.get_ref() != Gain::UNITY);
    if volume.is_some() || playback.mute.is_some() {
        let mut node = Node::new(format!("{name}-volume"), "volume").at(&playback.span);
        if let Some(volume) = volume {
            node.set("volume", volume.get_ref().0, Some(volume.span()));
        }
        if let Some(mute) = &playback.mute {
            node.set("mute", *mute.get_ref(), Some(mute.span()));
        }
        plan.chain(node);
    }
    sink(&mut plan, &name, playback, surroundings)?;
    Ok(plan)
}

fn sink(
    plan: &mut PipelinePlan,
    name: &str,
    playback: &Playback,
    surroundings: &Surroundings,
) -> Result<(), Diagnostic> {
    let sink_name = format!("{name}-sink");
    let mut node = match &playback.sink {
        PlaybackSink::Device { device, buffer } => {
            plan.chain(Node::new(format!("{name}-convert"), "audioconvert"));
            plan.chain(Node::new(format!("{name}-resample"), "audioresample"));
            let mut node = match surroundings.sound {
                SoundSystem::Pulse => {
                    Node::new(sink_name, "pulsesink").with("client-name", "Velin")
                }
                SoundSystem::Wasapi => {
                    Node::new(sink_name, "wasapi2sink").with("low-latency", true)
                }
                SoundSystem::Auto => Node::new(sink_name, "autoaudiosink"),
            };
            if surroundings.sound != SoundSystem::Auto {
                let (time, latency) = match buffer {
                    Some(buffer) => {
                        let micros = buffer.get_ref().as_micros();
                        (micros, (micros / 4).max(1))
                    }
                    None => (PLAYBACK_BUFFER_US, PLAYBACK_LATENCY_US),
                };
                let span = buffer.as_ref().map(toml::Spanned::span);
                node.set("buffer-time", time, span.clone());
                node.set("latency-time", latency, span);
                // The output's clock runs the pipeline; BaseSink's 20 ms deadline would be latency.
                node = node.with("provide-clock", true).with("processing-deadline", 0);
            }
            if let Some(device) = device {
                let id = surroundings.device(device, DeviceClass::Sink)?;
                node.set("device", id, Some(device.span()));
            }
            node
        }
        PlaybackSink::File { path } => {
            plan.chain(Node::new(format!("{name}-convert"), "audioconvert"));
            plan.chain(Node::new(format!("{name}-encode"), "wavenc"));
            let mut node = Node::new(sink_name, "filesink");
            node.set("location", path.get_ref().display().to_string(), Some(path.span()));
            node.with("processing-deadline", 0)
        }
        PlaybackSink::None => {
            Node::new(sink_name, "fakesink").with("sync", true).with("processing-deadline", 0)
        }
    };
    extra_properties(&mut node, &playback.properties);
    plan.chain(node.at(&playback.span));
    Ok(())
}
