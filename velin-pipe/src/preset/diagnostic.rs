//! What is wrong with a preset, where, and what to do: `file:line:column`, the line, a caret.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A place in [`Sources`]: bytes counted through all of its texts.
pub type Span = Range<usize>;

/// The texts that one preset was made from: the file, then each `--set`.
///
/// Spans count through all of them, so that a value knows where it came from whoever set it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    texts: Vec<SourceText>,
}

#[derive(Clone, Debug)]
struct SourceText {
    name: String,
    text: String,
    start: usize,
}

impl Sources {
    /// Appends a text; returns the offset at which its spans begin.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        // One byte apart, so that the end of one text is not the start of the next.
        let start = self.texts.last().map_or(0, |last| last.start + last.text.len() + 1);
        self.texts.push(SourceText { name: name.into(), text: text.into(), start });
        start
    }

    /// The file's own name, as the user gave it.
    pub fn name(&self) -> &str {
        self.texts.first().map_or("preset", |first| &first.name)
    }

    /// The key that stands before the value at `span` on its line; the value if it is elsewhere.
    pub fn key_before(&self, span: &Span, key: &str) -> Span {
        let before = self.source_of(span).and_then(|source| {
            let text = source.text.get(..span.start - source.start)?;
            let line_start = text.rfind('\n').map_or(0, |newline| newline + 1);
            let at = source.start + line_start + text[line_start..].rfind(key)?;
            Some(at..at + key.len())
        });
        before.unwrap_or_else(|| span.clone())
    }

    /// Where `span` begins and what its line says; `None` when no text holds it.
    pub fn locate(&self, span: &Span) -> Option<Location<'_>> {
        let source = self.source_of(span)?;
        let text = source.text.as_str();
        let mut at = span.start - source.start;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        // A span at the very end of a text points behind its last line.
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line_text = text[line_start..].split('\n').next().unwrap_or_default();
        let line_text = line_text.strip_suffix('\r').unwrap_or(line_text);
        let column = text[line_start..at].chars().count() + 1;
        let room = line_text.chars().count().saturating_sub(column - 1);
        let meant = text.get(at..at + span.len());
        let wanted = meant.map_or_else(|| span.len(), |part| part.chars().count());
        Some(Location {
            name: &source.name,
            line: text[..line_start].matches('\n').count() + 1,
            column,
            line_text,
            width: wanted.clamp(1, room.max(1)),
        })
    }

    fn source_of(&self, span: &Span) -> Option<&SourceText> {
        self.texts
            .iter()
            .rev()
            .find(|source| source.start <= span.start)
            .filter(|source| span.start <= source.start + source.text.len())
    }
}

/// A [`Span`] made readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// The file, or the `--set`.
    pub name: &'a str,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The whole line.
    pub line_text: &'a str,
    /// How many characters of the line are meant; at least one.
    pub width: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where, if it is anywhere in particular.
    pub span: Option<Span>,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Something wrong at `span`.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into(), help: None }
    }

    /// Something wrong with the preset as a whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { span: None, message: message.into(), help: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds "did you mean" when one of `known` is close to `found`, the list of them otherwise.
    #[must_use]
    pub fn suggest<'k>(self, found: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        match nearest(found, known.iter().copied()) {
            Some(best) => self.help(format!("did you mean `{best}`?")),
            None if known.is_empty() => self,
            None => self.help(format!("known here: {}", known.join(", "))),
        }
    }

    /// As [`suggest`](Self::suggest), with the list in any case.
    #[must_use]
    pub fn suggest_and_list<'k>(
        self,
        found: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        let all = known.join(", ");
        match nearest(found, known.iter().copied()) {
            Some(best) => self.help(format!("did you mean `{best}`? Known here: {all}")),
            None => self.help(format!("known here: {all}")),
        }
    }
}

/// All that is wrong with one preset.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    /// The texts that the spans point into.
    pub sources: Arc<Sources>,
    /// In the order of the file.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Puts the findings in the order of the file.
    pub fn new(sources: Arc<Sources>, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(usize::MAX, |s| s.start));
        Self { sources, list }
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found: Vec<_> = self.list.iter().map(|found| self.rendered(found)).collect();
        f.write_str(&without_secrets(&found.join("\n")))
    }
}

impl Diagnostics {
    fn rendered(&self, diagnostic: &Diagnostic) -> String {
        let Diagnostic { span, message, help } = diagnostic;
        let Some(location) = span.as_ref().and_then(|span| self.sources.locate(span)) else {
            let help = help.as_ref().map(|help| format!("\n  = {help}")).unwrap_or_default();
            return format!("{}: error: {message}{help}", self.sources.name());
        };
        let Location { name, line, column, line_text, width } = location;
        let margin = " ".repeat(line.to_string().len());
        // Tabs stay tabs, so that the caret stands under what it means.
        let before = line_text.chars().take(column - 1);
        let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let caret = "^".repeat(width);
        let help = help.as_ref().map(|help| format!("\n{margin} = {help}")).unwrap_or_default();
        format!(
            "{name}:{line}:{column}: error: {message}\n\
             {margin} |\n{line} | {line_text}\n{margin} | {indent}{caret}{help}"
        )
    }
}

/// `text` with every secret key in it made unreadable: a line of a preset may hold one that was
/// pasted in place of a recipient.
fn without_secrets(text: &str) -> String {
    const MARK: &str = "age-secret-key-";
    let lower = text.to_ascii_lowercase();
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = lower[at..].find(MARK) {
        let secret = at + found + MARK.len();
        clean.push_str(&text[at..secret]);
        let length = text[secret..]
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap_or(text.len() - secret);
        clean.push_str(&"*".repeat(length));
        at = secret + length;
    }
    clean.push_str(&text[at..]);
    clean
}

/// The one of `known` that `found` was most likely meant to be.
pub fn nearest<'k>(found: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let found = found.to_ascii_lowercase();
    // A third of the letters may be wrong: more is another word.
    let allowed = (found.chars().count().max(3) / 3).min(3);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&found, &name.to_ascii_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, span: Span) -> String {
        let mut sources = Sources::default();
        sources.add("p.toml", text);
        let diagnostic = Diagnostic::at(span, "wrong").help("do this");
        Diagnostics::new(Arc::new(sources), vec![diagnostic]).to_string()
    }

    #[test]
    fn a_finding_shows_place_line_caret_and_next_step() {
        let text = "schema = 1\nkind = \"sytem\"\n";
        assert_eq!(
            rendered(text, 18..25),
            "p.toml:2:8: error: wrong\n  |\n2 | kind = \"sytem\"\n  |        ^^^^^^^\n  = do this"
        );
    }

    #[test]
    fn columns_count_characters_and_tabs_keep_the_caret_in_place() {
        let text = "\tname = \"ä\" # x";
        let at = text.find('#').unwrap();
        assert_eq!(
            rendered(text, at..at + 1),
            format!(
                "p.toml:1:13: error: wrong\n  |\n1 | {text}\n  | \t{}^\n  = do this",
                " ".repeat(11)
            )
        );
    }

    #[test]
    fn the_end_of_the_file_and_windows_line_ends_are_places_too() {
        assert!(rendered("a = [", 5..5).starts_with("p.toml:1:6: error: wrong\n  |\n1 | a = [\n"));
        assert!(rendered("a = 1\r\nb", 7..8).contains("\n2 | b\n"));
        assert!(rendered("a = 1\r\nb", 0..7).contains("1 | a = 1\n  | ^^^^^\n"));
    }

    #[test]
    fn every_text_keeps_its_own_name_and_lines() {
        let mut sources = Sources::default();
        sources.add("p.toml", "a = 1\n");
        let start = sources.add("--set", "b=2");
        let place = sources.locate(&(start + 2..start + 3)).unwrap();
        assert_eq!((place.name, place.line, place.column, place.width), ("--set", 1, 3, 1));
        assert_eq!(sources.locate(&(start + 9..start + 10)), None);
    }

    #[test]
    fn a_secret_key_in_the_wrong_place_is_not_repeated() {
        let text = "peer = \"AGE-SECRET-KEY-1QQQQ\" # and age-secret-key-pq-1ab";
        let shown = rendered(text, 7..29);
        assert!(shown.contains("peer = \"AGE-SECRET-KEY-*****\" # and age-secret-key-******\n"));
        assert!(!shown.contains("1QQQQ") && !shown.contains("1ab"), "{shown}");
    }

    #[test]
    fn a_suggestion_is_near_or_not_made() {
        let known = ["system", "mic", "device"];
        assert_eq!(nearest("sytem", known), Some("system"));
        assert_eq!(nearest("Mic", known), Some("mic"));
        assert_eq!(nearest("mci", known), Some("mic"));
        assert_eq!(nearest("speaker", known), None);
    }
}
