//! The whole of a preset, entry by entry.

use super::surroundings::Surroundings;
use super::{Node, Plan, Property, PropertyValue, capture, playback};
use crate::preset::diagnostic::Diagnostic;
use crate::preset::model::{FormatWish, Preset};
use crate::preset::schema::Properties;

pub(super) fn plan(preset: &Preset, surroundings: &Surroundings) -> Result<Plan, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let mut pipelines = Vec::new();
    if let Some(receive) = &preset.receive {
        for (index, entry) in preset.playbacks.iter().enumerate() {
            match playback::pipeline(index, entry, receive, surroundings) {
                Ok(pipeline) => pipelines.push(pipeline),
                Err(diagnostic) => found.push(diagnostic),
            }
        }
    }
    for (index, entry) in preset.captures.iter().enumerate() {
        match capture::pipeline(index, entry, &preset.sends, surroundings) {
            Ok(pipeline) => pipelines.push(pipeline),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    if found.is_empty() { Ok(Plan { pipelines }) } else { Err(found) }
}

/// Adds what the preset's `properties` say; they have the last word on the element.
pub(super) fn extra_properties(node: &mut Node, properties: &Properties) {
    for (name, value) in properties {
        node.properties.retain(|property| property.name != *name.get_ref());
        node.properties.push(Property {
            name: name.get_ref().clone(),
            value: from_toml(value.get_ref()),
            span: Some(value.span()),
            name_span: Some(name.span()),
        });
    }
}

/// The caps for a wish; `None` when anything goes.
pub(super) fn caps(wish: &FormatWish) -> Option<String> {
    if wish.rate.is_none() && wish.channels.is_none() && wish.format.is_none() {
        return None;
    }
    let mut caps = "audio/x-raw".to_owned();
    if let Some(format) = &wish.format {
        caps += &format!(",format={}", format.get_ref().0.name());
    }
    if let Some(rate) = &wish.rate {
        caps += &format!(",rate={}", rate.get_ref().0.hz());
    }
    if let Some(channels) = &wish.channels {
        caps += &format!(",channels={}", channels.get_ref());
    }
    Some(caps)
}

fn from_toml(value: &toml::Value) -> PropertyValue {
    match value {
        toml::Value::Boolean(value) => PropertyValue::Bool(*value),
        toml::Value::Integer(value) => PropertyValue::Int(*value),
        toml::Value::Float(value) => PropertyValue::Float(*value),
        toml::Value::String(value) => PropertyValue::Text(value.clone()),
        toml::Value::Datetime(value) => PropertyValue::Text(value.to_string()),
        toml::Value::Array(values) => {
            PropertyValue::List(values.iter().map(|value| from_toml(value).to_string()).collect())
        }
        toml::Value::Table(fields) => PropertyValue::Text(structure(fields)),
    }
}

/// A table as GStreamer writes a structure: `props,media.role=(string)"music"`.
fn structure(fields: &toml::Table) -> String {
    let mut text = "props".to_owned();
    for (name, value) in fields {
        text += &match value {
            toml::Value::String(value) => {
                format!(",{name}=(string)\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
            }
            other => format!(",{name}={}", from_toml(other)),
        };
    }
    text
}
