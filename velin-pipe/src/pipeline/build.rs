//! A plan in GStreamer's own objects. Nothing is opened or started here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use gst::prelude::*;

use super::{packages, property};
use crate::plan::{Direction, Make, Node, PipelinePlan, Plan};
use crate::preset::diagnostic::{Diagnostic, Diagnostics, Sources};

/// One pipeline, ready to be started.
#[derive(Debug)]
pub struct Built {
    /// Its name in the plan.
    pub name: String,
    /// Which way the audio goes.
    pub direction: Direction,
    /// Whether the source starts again at its end.
    pub looped: bool,
    /// The pipeline.
    pub pipeline: gst::Pipeline,
}

/// Why a plan cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Elements that are not installed.
    #[error("{}", .factories.iter().map(|factory| missing_text(factory)).collect::<Vec<_>>().join("\n"))]
    Missing {
        /// Their factories' names.
        factories: BTreeSet<String>,
    },
    /// Property values or fragments that elements refuse.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
    /// Two elements that do not fit together.
    #[error("{from} cannot feed {to}\ncheck the fragment or the `properties` of this entry")]
    Link {
        /// The one that gives.
        from: String,
        /// The one that takes.
        to: String,
    },
}

/// Builds every pipeline of `plan`; `sources` is what its spans point into.
///
/// # Errors
/// All missing elements, or all refused values, at once.
pub fn build(plan: &Plan, sources: &Arc<Sources>) -> Result<Vec<Built>, BuildError> {
    let mut builder = Builder::default();
    let built: Vec<_> = plan.pipelines.iter().map(|pipeline| builder.pipeline(pipeline)).collect();
    if !builder.missing.is_empty() {
        return Err(BuildError::Missing { factories: builder.missing });
    }
    if !builder.found.is_empty() {
        return Err(Diagnostics::new(Arc::clone(sources), builder.found).into());
    }
    built.into_iter().collect()
}

#[derive(Default)]
struct Builder {
    missing: BTreeSet<String>,
    found: Vec<Diagnostic>,
}

impl Builder {
    fn pipeline(&mut self, plan: &PipelinePlan) -> Result<Built, BuildError> {
        let pipeline = gst::Pipeline::with_name(&plan.name);
        let mut elements = HashMap::new();
        for node in &plan.nodes {
            // What is missing or wrong is remembered; the rest is still looked at.
            if let Some(element) = self.element(node)
                && pipeline.add(&element).is_ok()
            {
                elements.insert(node.name.as_str(), element);
            }
        }
        for link in &plan.links {
            let ends = (elements.get(link.from.as_str()), elements.get(link.to.as_str()));
            let (Some(from), Some(to)) = ends else { continue };
            connect(from, to)
                .map_err(|_| BuildError::Link { from: link.from.clone(), to: link.to.clone() })?;
        }
        let PipelinePlan { name, direction, looped, .. } = plan;
        Ok(Built { name: name.clone(), direction: *direction, looped: *looped, pipeline })
    }

    fn element(&mut self, node: &Node) -> Option<gst::Element> {
        let element = match &node.make {
            Make::Factory(factory) => {
                let made = gst::ElementFactory::make(factory).name(&node.name).build();
                let Ok(element) = made else {
                    self.missing.insert(factory.clone());
                    return None;
                };
                element
            }
            Make::Fragment { text, .. } => self.fragment(node, text)?,
        };
        for planned in &node.properties {
            if let Err(diagnostic) = property::set(&element, planned, node.span.as_ref()) {
                self.found.push(diagnostic);
            }
        }
        Some(element)
    }

    fn fragment(&mut self, node: &Node, text: &str) -> Option<gst::Element> {
        let Make::Fragment { span, .. } = &node.make else { return None };
        let mut context = gst::ParseContext::new();
        let parsed = gst::parse::bin_from_description_with_name_full(
            text,
            true,
            &node.name,
            Some(&mut context),
            gst::ParseFlags::FATAL_ERRORS,
        );
        // The parser also lists elements that are there but refused a property.
        let mut missing = context.missing_elements();
        missing.retain(|factory| gst::ElementFactory::find(factory).is_none());
        if !missing.is_empty() {
            self.missing.extend(missing);
            return None;
        }
        match parsed {
            Ok(element) if element.static_pad("src").is_some() => Some(element),
            Ok(_) => {
                let message = "the fragment does not end in audio";
                self.found.push(Diagnostic::at(span.clone(), message).help(
                    "leave the last element unlinked, as in \"audiotestsrc is-live=true ! audioconvert\"",
                ));
                None
            }
            Err(error) => {
                let message = format!("GStreamer cannot read the fragment: {}", error.message());
                self.found.push(
                    Diagnostic::at(span.clone(), message)
                        .help("try it with gst-launch-1.0 and `! fakesink` behind it"),
                );
                None
            }
        }
    }
}

/// Links two elements; where the first has no output yet, as soon as it has one for audio.
fn connect(from: &gst::Element, to: &gst::Element) -> Result<(), gst::glib::BoolError> {
    let comes_later = from.static_pad("src").is_none()
        && from
            .pad_template_list()
            .iter()
            .any(|template| template.presence() == gst::PadPresence::Sometimes);
    if !comes_later {
        return from.link(to);
    }
    let to = to.downgrade();
    from.connect_pad_added(move |_, pad| {
        let Some(sink) = to.upgrade().and_then(|to| to.static_pad("sink")) else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let is_audio = caps.structure(0).is_some_and(|caps| caps.name().starts_with("audio/"));
        // The first audio track; pictures in a music file have no place to go.
        if is_audio && !sink.is_linked() {
            let _ = pad.link(&sink);
        }
    });
    Ok(())
}

fn missing_text(factory: &str) -> String {
    format!("there is no element `{factory}`\n{}", packages::advice(factory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Surroundings;
    use crate::preset::load;

    /// Plans a preset, keeps only what exists without a network, and builds it.
    fn built(capture: &str) -> Result<Vec<Built>, BuildError> {
        gst::init().unwrap();
        let text = format!("schema = 1\n[[capture]]\n{capture}\n[[send]]\nto = \"localhost\"\n");
        let preset = load::parse("p.toml", &text, &[], &|_| None).unwrap();
        let mut plan = Plan::new(&preset, &Surroundings::default()).unwrap();
        for pipeline in &mut plan.pipelines {
            pipeline.nodes.retain(|node| node.factory() != Some("velinsink"));
        }
        build(&plan, &preset.sources)
    }

    #[test]
    fn a_planned_chain_is_built_and_linked_under_its_names() {
        let built = built("kind = \"test\"\nvolume = \"-6dB\"").unwrap();
        let volume = built[0].pipeline.by_name("capture0-volume").unwrap();
        assert!((volume.property::<f64>("volume") - 0.501).abs() < 1e-3);
        let level = built[0].pipeline.by_name("capture0-level").unwrap();
        assert!(level.static_pad("sink").unwrap().is_linked());
    }

    #[test]
    fn a_missing_element_names_the_package() {
        let error = built("kind = \"launch\"\nlaunch = \"nosuchsrc ! audioconvert\"").unwrap_err();
        assert!(error.to_string().starts_with("there is no element `nosuchsrc`\n"), "{error}");
        assert_eq!(packages::advice("wavenc"), "install it: apt install gstreamer1.0-plugins-good");
    }

    #[test]
    fn a_value_that_an_element_refuses_points_at_the_preset() {
        let error = built("kind = \"test\"\nproperties = { freq = -5 }").unwrap_err();
        assert_eq!(
            error.to_string(),
            "p.toml:4:23: error: audiotestsrc cannot take `-5` as its freq\n  |\n\
             4 | properties = { freq = -5 }\n  |                       ^^\n  \
             = write a number from 0 to 1073741823.5"
        );
        let error = built("kind = \"test\"\nproperties = { frek = 5 }").unwrap_err();
        assert!(error.to_string().starts_with("p.toml:4:16: error: audiotestsrc has no property"));
        assert!(error.to_string().ends_with("= did you mean `freq`?"), "{error}");
    }

    #[test]
    fn a_fragment_must_be_readable_and_end_in_audio() {
        let error = built("kind = \"launch\"\nlaunch = \"audiotestsrc wave=loud\"").unwrap_err();
        assert!(
            error.to_string().starts_with("p.toml:4:10: error: GStreamer cannot read"),
            "{error}"
        );
        let error = built("kind = \"launch\"\nlaunch = \"audiotestsrc ! fakesink\"").unwrap_err();
        assert!(error.to_string().contains("does not end in audio"), "{error}");
        assert!(built("kind = \"launch\"\nlaunch = \"audiotestsrc ! audioconvert\"").is_ok());
    }
}
