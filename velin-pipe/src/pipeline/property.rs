//! Setting a planned property on an element: the element's own type decides what a value means.

use gst::glib::{self, ParamSpec, Value};
use gst::prelude::*;

use crate::plan::{Property, PropertyValue};
use crate::preset::diagnostic::{Diagnostic, Span, nearest};

/// Sets `property`; `entry` is where the element was asked for, for want of a better place.
pub(super) fn set(
    element: &gst::Element,
    property: &Property,
    entry: Option<&Span>,
) -> Result<(), Diagnostic> {
    let name = property.name.as_str();
    let factory = element.factory().map_or_else(String::new, |factory| factory.name().to_string());
    let at = |span: Option<&Span>, message: String| match span.or(entry) {
        Some(span) => Diagnostic::at(span.clone(), message),
        None => Diagnostic::whole(message),
    };
    let Some(pspec) = element.find_property(name) else {
        let message = format!("{factory} has no property `{name}`");
        let place = property.name_span.as_ref().or(property.span.as_ref());
        return Err(at(place, message).suggest(name, candidates(element, name)));
    };
    if !is_settable(&pspec) {
        let message = format!("the property `{name}` of {factory} cannot be set");
        return Err(at(property.name_span.as_ref(), message)
            .help(format!("gst-inspect-1.0 {factory} shows which ones can")));
    }
    match convert(&property.value, &pspec) {
        Ok(value) => {
            element.set_property_from_value(name, &value);
            Ok(())
        }
        Err(expected) => {
            let value = &property.value;
            let message = format!("{factory} cannot take `{value}` as its {name}");
            Err(at(property.span.as_ref(), message).help(expected))
        }
    }
}

fn is_settable(pspec: &ParamSpec) -> bool {
    let flags = pspec.flags();
    flags.contains(glib::ParamFlags::WRITABLE) && !flags.contains(glib::ParamFlags::CONSTRUCT_ONLY)
}

/// The properties that `wanted` may mean: all if one of them is close to it, else the element's
/// own ones, without those that any source or sink has.
fn candidates(element: &gst::Element, wanted: &str) -> Vec<&'static str> {
    let pspecs = element.list_properties();
    let all = pspecs.iter().filter(|pspec| is_settable(pspec));
    if nearest(wanted, all.clone().map(|pspec| pspec.name())).is_some() {
        return all.map(|pspec| pspec.name()).collect();
    }
    all.filter(|pspec| !pspec.owner_type().name().starts_with("GstBase"))
        .filter(|pspec| pspec.owner_type() != gst::Object::static_type())
        .map(|pspec| pspec.name())
        .collect()
}

/// The value in the property's own type, or what it would take.
fn convert(value: &PropertyValue, pspec: &ParamSpec) -> Result<Value, String> {
    let expected = || expected(pspec);
    let type_ = pspec.value_type();
    if type_ == String::static_type() {
        return Ok(value.to_string().to_value());
    }
    if let PropertyValue::List(items) = value {
        if type_ == Vec::<String>::static_type() {
            return Ok(items.to_value());
        }
        if type_ == gst::Array::static_type() {
            return Ok(gst::Array::new(items).to_value());
        }
    }
    // GStreamer would wrap a negative number around.
    let unsigned = pspec.is::<glib::ParamSpecUInt>() || pspec.is::<glib::ParamSpecUInt64>();
    if unsigned && matches!(value, PropertyValue::Int(..0)) {
        return Err(expected());
    }
    // GStreamer reads "1.0" as no integer and "1" as a float: what TOML calls a number fits both.
    let text = match value {
        PropertyValue::Float(number) if number.fract() == 0.0 => format!("{number:.0}"),
        other => other.to_string(),
    };
    let converted = Value::deserialize_with_pspec(&text, pspec).map_err(|_| expected())?;
    if in_range(&converted, pspec) { Ok(converted) } else { Err(expected()) }
}

/// Setting a number out of range would panic, so it is looked at before.
fn in_range(value: &Value, pspec: &ParamSpec) -> bool {
    macro_rules! check {
        ($($spec:ty => $number:ty),+ $(,)?) => {
            $(if let Some(spec) = pspec.downcast_ref::<$spec>() {
                return value
                    .get::<$number>()
                    .is_ok_and(|number| (spec.minimum()..=spec.maximum()).contains(&number));
            })+
        };
    }
    check!(
        glib::ParamSpecInt => i32,
        glib::ParamSpecUInt => u32,
        glib::ParamSpecInt64 => i64,
        glib::ParamSpecUInt64 => u64,
        glib::ParamSpecFloat => f32,
        glib::ParamSpecDouble => f64,
    );
    true
}

fn expected(pspec: &ParamSpec) -> String {
    macro_rules! range {
        ($what:literal, $($spec:ty),+) => {
            $(if let Some(spec) = pspec.downcast_ref::<$spec>() {
                return format!(concat!($what, " from {} to {}"), spec.minimum(), spec.maximum());
            })+
        };
    }
    range!("write a whole number", glib::ParamSpecInt, glib::ParamSpecUInt);
    range!("write a whole number", glib::ParamSpecInt64, glib::ParamSpecUInt64);
    range!("write a number", glib::ParamSpecFloat, glib::ParamSpecDouble);
    if pspec.value_type() == bool::static_type() {
        return "write true or false".to_owned();
    }
    if let Some(class) = glib::EnumClass::with_type(pspec.value_type()) {
        let nicks: Vec<_> = class.values().iter().map(|value| value.nick().to_owned()).collect();
        return format!("write one of {}", nicks.join(", "));
    }
    format!("write a value of the type {}", pspec.value_type().name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(factory: &str, name: &str, value: PropertyValue) -> Option<(String, String)> {
        gst::init().unwrap();
        let element = gst::ElementFactory::make(factory).build().unwrap();
        let property =
            Property { name: name.to_owned(), value, span: Some(0..1), name_span: Some(2..3) };
        let error = set(&element, &property, None).err()?;
        Some((error.message, error.help.unwrap_or_default()))
    }

    #[test]
    fn values_become_what_the_element_asks_for() {
        let text = |text: &str| PropertyValue::Text(text.to_owned());
        for (factory, name, value) in [
            ("queue", "max-size-time", PropertyValue::Int(5)),
            ("queue", "leaky", text("downstream")),
            ("volume", "volume", PropertyValue::Float(2.0)),
            ("volume", "volume", PropertyValue::Int(1)),
            ("volume", "mute", PropertyValue::Bool(true)),
            ("filesrc", "location", text("it's \"x\".wav")),
            ("capsfilter", "caps", text("audio/x-raw,rate=48000")),
        ] {
            assert_eq!(refused(factory, name, value.clone()), None, "{name} {value}");
        }
    }

    #[test]
    fn quotes_in_text_reach_the_element_as_they_are() {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("filesrc").build().unwrap();
        let value = PropertyValue::Text("\"a b\".wav".to_owned());
        let property = Property { name: "location".to_owned(), value, span: None, name_span: None };
        set(&element, &property, None).unwrap();
        assert_eq!(element.property::<String>("location"), "\"a b\".wav");
    }

    #[test]
    fn what_an_element_cannot_take_is_refused_with_what_it_can() {
        let (message, help) = refused("volume", "volume", PropertyValue::Float(11.0)).unwrap();
        assert_eq!(message, "volume cannot take `11` as its volume");
        assert_eq!(help, "write a number from 0 to 10");
        let (_, help) = refused("volume", "mute", PropertyValue::Text("loud".into())).unwrap();
        assert_eq!(help, "write true or false");
        let (_, help) = refused("queue", "leaky", PropertyValue::Text("yes".into())).unwrap();
        assert_eq!(help, "write one of no, upstream, downstream");
        let (_, help) = refused("queue", "max-size-time", PropertyValue::Int(-1)).unwrap();
        assert_eq!(help, "write a whole number from 0 to 18446744073709551615");
    }

    #[test]
    fn a_property_that_is_not_there_is_named_with_its_neighbour() {
        let (message, help) = refused("queue", "max-size-tiem", PropertyValue::Int(1)).unwrap();
        assert_eq!(message, "queue has no property `max-size-tiem`");
        assert_eq!(help, "did you mean `max-size-time`?");
        let (message, _) = refused("queue", "current-level-time", PropertyValue::Int(1)).unwrap();
        assert_eq!(message, "the property `current-level-time` of queue cannot be set");
    }

    #[test]
    fn a_property_far_from_any_other_is_answered_with_all_of_them() {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("fakesink").build().unwrap();
        let value = PropertyValue::Text("tunnel".into());
        let name = "carrier".to_owned();
        let planned = Property { name, value, span: Some(4..5), name_span: None };
        let error = set(&element, &planned, None).unwrap_err();
        assert_eq!(error.span, Some(4..5));
        let help = error.help.unwrap();
        assert!(help.starts_with("known here: ") && help.contains("num-buffers"), "{help}");
        assert!(!help.contains("max-lateness"), "every sink has it: {help}");
    }
}
