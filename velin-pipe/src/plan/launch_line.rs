//! A pipeline as arguments for `gst-launch-1.0`, quoted for the shell.

use super::{Make, Node, PipelinePlan, PropertyValue};

/// Chains follow each other; where a node is fed by other than its predecessor, the feeding one is
/// named first, as gst-launch wants it.
pub(super) fn of(plan: &PipelinePlan) -> String {
    let mut line = String::new();
    let mut previous: Option<&str> = None;
    for node in &plan.nodes {
        let feeder = plan.links.iter().find(|link| link.to == node.name);
        match feeder {
            Some(link) if previous == Some(link.from.as_str()) => line += " ! ",
            Some(link) => line += &format!(" {}. ! ", link.from),
            None if line.is_empty() => {}
            None => line.push(' '),
        }
        line += &described(node);
        previous = Some(&node.name);
    }
    line
}

fn described(node: &Node) -> String {
    match &node.make {
        // Its own text again, cut into words: in a shell only quotes keep a word together.
        Make::Fragment { text, .. } => {
            let words: Vec<_> =
                text.split_whitespace().map(|word| shell(word.to_owned())).collect();
            words.join(" ")
        }
        Make::Factory(factory) => {
            let mut words = vec![factory.clone(), format!("name={}", node.name)];
            for property in &node.properties {
                words.push(shell(format!("{}={}", property.name, quoted(&property.value))));
            }
            words.join(" ")
        }
    }
}

/// As gst-launch reads a value: in quotes when it is more than one plain word.
fn quoted(value: &PropertyValue) -> String {
    let text = value.to_string();
    let plain = !text.is_empty()
        && text.chars().all(|c| c.is_alphanumeric() || "_-.,:/=@*+()%".contains(c));
    if plain {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// As the shell reads a word.
fn shell(word: String) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "_-.,:/=@+%!".contains(c));
    // A lone `!` is the link itself and safe; elsewhere history expansion might see it.
    if plain && (word == "!" || !word.contains('!')) {
        return word;
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Direction;

    #[test]
    fn values_are_quoted_for_both_readers() {
        let mut plan = PipelinePlan::new("p".to_owned(), Direction::Send);
        plan.chain(Node::new("a", "filesrc").with("location", "it's a \"song\".wav"));
        plan.chain(Node::new("b", "capsfilter").with("caps", "audio/x-raw,rate=48000"));
        assert_eq!(
            of(&plan),
            r#"filesrc name=a 'location="it'\''s a \"song\".wav"' ! capsfilter name=b caps=audio/x-raw,rate=48000"#
        );
    }

    #[test]
    fn branches_start_at_the_node_that_feeds_them() {
        let mut plan = PipelinePlan::new("p".to_owned(), Direction::Send);
        plan.chain(Node::new("a", "audiotestsrc"));
        plan.chain(Node::new("t", "tee"));
        plan.branch("t", Node::new("q0", "queue"));
        plan.chain(Node::new("s0", "fakesink"));
        plan.branch("t", Node::new("q1", "queue"));
        plan.chain(Node::new("s1", "fakesink"));
        assert_eq!(
            of(&plan),
            "audiotestsrc name=a ! tee name=t ! queue name=q0 ! fakesink name=s0 \
             t. ! queue name=q1 ! fakesink name=s1"
        );
    }
}
