//! What GStreamer is to build, as plain data: [`Preset`] → [`Plan`].
//!
//! A plan knows names, not objects: factories, properties and links are text and numbers. That
//! makes it testable without sound, printable, and the same for the same preset every time.

mod build;
mod capture;
mod launch_line;
mod link;
mod playback;
mod surroundings;

use std::fmt;

use crate::preset::diagnostic::{Diagnostics, Span};
use crate::preset::model::Preset;

pub use surroundings::{Device, DeviceClass, SoundSystem, Surroundings, TrustedPeer};

/// Everything that one preset runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Each has its own clock; receivers first, so that a listener is there before its caller.
    pub pipelines: Vec<PipelinePlan>,
}

impl Plan {
    /// Plans `preset` for a machine with these `surroundings`.
    ///
    /// # Errors
    /// Names in the preset that mean nothing here: devices, peers without an address, extra
    /// properties that would undo what the preset says in words.
    pub fn new(preset: &Preset, surroundings: &Surroundings) -> Result<Self, Diagnostics> {
        build::plan(preset, surroundings)
            .map_err(|found| Diagnostics::new(preset.sources.clone(), found))
    }

    /// The plan as arguments for `gst-launch-1.0`, one pipeline after the other.
    ///
    /// All of it runs in one pipeline there, on one clock.
    pub fn to_launch_line(&self) -> String {
        let lines: Vec<_> = self.pipelines.iter().map(PipelinePlan::to_launch_line).collect();
        lines.join(" \\\n  ")
    }
}

/// Which way the audio of a pipeline goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From this machine.
    Send,
    /// To this machine.
    Receive,
}

/// One pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelinePlan {
    /// Unique in the plan.
    pub name: String,
    /// Which way the audio goes.
    pub direction: Direction,
    /// Whether the source starts again at its end.
    pub looped: bool,
    /// In the order of the flow.
    pub nodes: Vec<Node>,
    /// Which node feeds which, by name.
    pub links: Vec<Link>,
}

impl PipelinePlan {
    fn new(name: String, direction: Direction) -> Self {
        Self { name, direction, looped: false, nodes: Vec::new(), links: Vec::new() }
    }

    /// Adds `node` behind the last one.
    fn chain(&mut self, node: Node) {
        if let Some(last) = self.nodes.last() {
            self.links.push(Link { from: last.name.clone(), to: node.name.clone() });
        }
        self.nodes.push(node);
    }

    /// Adds `node` behind the one called `from`.
    fn branch(&mut self, from: &str, node: Node) {
        self.links.push(Link { from: from.to_owned(), to: node.name.clone() });
        self.nodes.push(node);
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The pipeline as arguments for `gst-launch-1.0`.
    pub fn to_launch_line(&self) -> String {
        launch_line::of(self)
    }
}

/// One node feeds another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The name of the node that gives.
    pub from: String,
    /// The name of the node that takes.
    pub to: String,
}

/// One element, or a whole fragment that acts as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique in the plan, and the same every time: logs and graphs can be filtered by it.
    pub name: String,
    /// What it is made of.
    pub make: Make,
    /// Set in this order, before any state change.
    pub properties: Vec<Property>,
    /// The preset entry that asked for it.
    pub span: Option<Span>,
}

impl Node {
    fn new(name: impl Into<String>, factory: &str) -> Self {
        let make = Make::Factory(factory.to_owned());
        Self { name: name.into(), make, properties: Vec::new(), span: None }
    }

    fn at(mut self, span: &Span) -> Self {
        self.span = Some(span.clone());
        self
    }

    /// A property that the planner chose.
    fn with(mut self, name: &str, value: impl Into<PropertyValue>) -> Self {
        self.set(name, value.into(), None);
        self
    }

    /// A property that the preset chose, at `span`.
    fn set(&mut self, name: &str, value: impl Into<PropertyValue>, span: Option<Span>) {
        self.properties.retain(|property| property.name != name);
        let value = value.into();
        self.properties.push(Property { name: name.to_owned(), value, span, name_span: None });
    }

    /// The factory's name; `None` for a fragment.
    pub fn factory(&self) -> Option<&str> {
        match &self.make {
            Make::Factory(factory) => Some(factory),
            Make::Fragment { .. } => None,
        }
    }
}

/// What a node is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Make {
    /// An element of this factory.
    Factory(String),
    /// Text for GStreamer's own parser.
    Fragment {
        /// The text.
        text: String,
        /// Where it was written.
        span: Span,
    },
}

/// One property of an element.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: PropertyValue,
    /// Where the value was written, if the preset chose it.
    pub span: Option<Span>,
    /// Where the name was written, if the preset chose it.
    pub name_span: Option<Span>,
}

/// A value as the planner knows it; the element's own type is found when it is set.
#[derive(Clone, Debug, PartialEq)]
pub enum PropertyValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text: strings, enums by their nick, caps, anything that GStreamer can read from text.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

impl fmt::Display for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::List(values) => f.write_str(&values.join(",")),
        }
    }
}

impl From<bool> for PropertyValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for PropertyValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for PropertyValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for PropertyValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for PropertyValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
