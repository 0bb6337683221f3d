//! Finding and reading presets.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

use super::check;
use super::diagnostic::{Diagnostic, Diagnostics, Sources, nearest};
use super::model::Preset;
use super::overrides;
use super::schema;
use super::{Lookup, variables};

/// No preset is longer; a wrong file would only slow the error down.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no preset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Neither a file nor a name in the search path.
    #[error(
        "there is no preset `{name}`{}\ngive a path, or a name from {}",
        suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default(),
        searched.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotFound {
        /// As given.
        name: String,
        /// A preset whose name is close.
        suggestion: Option<String>,
        /// The folders that were looked in.
        searched: Vec<PathBuf>,
    },
    /// It is there but cannot be read.
    #[error("cannot read the preset {}: {source}\ncheck the path and its permissions", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Too long to be one.
    #[error("{} is too long to be a preset\na preset is a TOML file of at most 1 MiB", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// It says something wrong.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

/// Reads the preset that `reference` (a path or a name) means, with every `--set` in `sets`.
pub fn load(reference: &str, sets: &[String]) -> Result<Preset, LoadError> {
    let path = find(reference, &search_path(&|name| env::var(name).ok()))?;
    let text = read(&path)?;
    let lookup = |name: &str| env::var(name).ok();
    Ok(parse(&path.display().to_string(), &text, sets, &lookup)?)
}

/// Reads a preset from `text`; `name` is what errors call it. No I/O.
pub fn parse(
    name: &str,
    text: &str,
    sets: &[String],
    lookup: Lookup<'_>,
) -> Result<Preset, Diagnostics> {
    let mut sources = Sources::default();
    sources.add(name, text);
    let starts: Vec<_> = sets.iter().map(|set| sources.add(format!("--set {set}"), set)).collect();
    let sources = Arc::new(sources);
    let refuse = |list| Diagnostics::new(Arc::clone(&sources), list);

    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // One mistake often makes the parser stumble again right behind it.
        let first = errors.into_iter().take(1).map(from_toml).collect();
        return Err(refuse(first));
    }
    let table_span = table.span();
    let mut table = table.into_inner();
    let mut found = Vec::new();
    for (set, start) in sets.iter().zip(&starts) {
        if let Err(diagnostic) = overrides::apply(&mut table, set, *start) {
            found.push(diagnostic);
        }
    }
    variables::substitute(&mut table, lookup, &mut found);
    if !found.is_empty() {
        return Err(refuse(found));
    }
    let deserializer = toml::Deserializer::from(Spanned::new(table_span, table));
    let file =
        schema::File::deserialize(deserializer).map_err(|error| refuse(vec![from_toml(error)]))?;
    check::check(file, Arc::clone(&sources)).map_err(refuse)
}

/// The folders in which a preset's name is looked up, first one first.
pub fn search_path(lookup: Lookup<'_>) -> Vec<PathBuf> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = if cfg!(windows) {
        set("APPDATA").map(|dir| dir.join("velin"))
    } else {
        set("XDG_CONFIG_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".config")))
            .map(|dir| dir.join("velin"))
    };
    let shared = if cfg!(windows) {
        set("ProgramData").map(|dir| vec![dir.join("velin")]).unwrap_or_default()
    } else {
        vec![PathBuf::from("/etc/velin"), PathBuf::from("/usr/share/velin")]
    };
    set("VELIN_CONFIG_DIR")
        .into_iter()
        .chain(own)
        .chain(shared)
        .map(|dir| dir.join("presets"))
        .collect()
}

fn find(reference: &str, dirs: &[PathBuf]) -> Result<PathBuf, LoadError> {
    let path = Path::new(reference);
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let is_name = !reference.is_empty()
        && !reference.ends_with(".toml")
        && path.file_name().is_some_and(|name| name == reference);
    if is_name {
        let candidates = dirs.iter().map(|dir| dir.join(format!("{reference}.toml")));
        if let Some(found) = candidates.into_iter().find(|candidate| candidate.is_file()) {
            return Ok(found);
        }
    } else if path.exists() {
        let source = io::Error::other("it is not a file");
        return Err(LoadError::Read { path: path.to_owned(), source });
    }
    let known = names(dirs);
    Err(LoadError::NotFound {
        name: reference.to_owned(),
        suggestion: nearest(reference, known.iter().map(String::as_str)).map(str::to_owned),
        searched: dirs.to_vec(),
    })
}

/// The names of all presets in `dirs`.
fn names(dirs: &[PathBuf]) -> Vec<String> {
    let entries = dirs.iter().filter_map(|dir| dir.read_dir().ok()).flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect()
}

fn read(path: &Path) -> Result<String, LoadError> {
    let fail = |source| LoadError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let mut bounded = File::open(path).map_err(fail)?.take(MAX_BYTES + 1);
    bounded.read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(LoadError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

/// The parser's error in our words, with a suggestion where it lists what it knows.
fn from_toml(error: toml::de::Error) -> Diagnostic {
    let message = error.message();
    let quoted: Vec<_> = message.split('`').skip(1).step_by(2).collect();
    let diagnostic = |text: String| match error.span() {
        Some(span) => Diagnostic::at(span, text),
        None => Diagnostic::whole(text),
    };
    if let (true, Some((found, known))) =
        (message.starts_with("unknown field"), quoted.split_first())
    {
        return diagnostic(format!("unknown key `{found}`")).suggest(found, known.iter().copied());
    }
    if let (true, Some((found, known))) =
        (message.starts_with("unknown variant"), quoted.split_first())
    {
        return diagnostic(format!("unknown value `{found}`"))
            .suggest(found, known.iter().copied());
    }
    if let (true, Some(field)) = (message.starts_with("missing field"), quoted.first()) {
        let help = match *field {
            "schema" => "add schema = 1 as the first line".to_owned(),
            "kind" => "add kind = \"…\" to this entry".to_owned(),
            "to" => "add to = \"HOST\" to this entry".to_owned(),
            field => format!("add {field} = …"),
        };
        return diagnostic(format!("the key `{field}` is missing")).help(help);
    }
    if let Some((message, help)) = message.split_once('\n') {
        return diagnostic(message.to_owned()).help(help);
    }
    if message.starts_with("invalid type") {
        return diagnostic(message.replacen("invalid type: ", "wrong type: ", 1))
            .help("write the value as its type asks: text in quotes, numbers and true/false bare");
    }
    diagnostic(message.to_owned())
        .help("this is not TOML: see https://toml.io for how values are written")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::preset::model::{CaptureSource, PlaybackSink, Target};

    const SENDER: &str =
        "schema = 1\n[[capture]]\nkind = \"test\"\n[[send]]\nto = \"${HOST:-kitchen}\"\n";

    fn parsed(text: &str, sets: &[&str]) -> Result<Preset, String> {
        let sets: Vec<_> = sets.iter().map(|&set| set.to_owned()).collect();
        parse("p.toml", text, &sets, &|_| None).map_err(|found| found.to_string())
    }

    #[test]
    fn a_small_sender_is_understood() {
        let preset = parsed(SENDER, &[]).unwrap();
        assert!(matches!(preset.captures[0].source, CaptureSource::Test { .. }));
        assert_eq!(preset.sends[0].to, Target::Host { host: "kitchen".into(), port: None });
    }

    #[test]
    fn an_override_has_the_last_word_on_any_value() {
        let sets = [
            "send.to=den:5000",
            "capture.0.volume=\"-6dB\"",
            "receive.port=0",
            "playback.0.kind=none",
        ];
        let preset = parsed(SENDER, &sets).unwrap();
        assert_eq!(preset.sends[0].to, Target::Host { host: "den".into(), port: Some(5000) });
        assert!(preset.captures[0].volume.is_some());
        assert!(matches!(preset.playbacks[0].sink, PlaybackSink::None));
        assert_eq!(
            preset.receive.and_then(|receive| receive.port).map(Spanned::into_inner),
            Some(0)
        );
    }

    #[test]
    fn a_whole_list_can_be_set() {
        let set = "playback=[{kind=\"file\", path=\"out.wav\"}]";
        let preset = parsed(SENDER, &["receive={}", set]).unwrap();
        assert!(matches!(preset.playbacks[0].sink, PlaybackSink::File { .. }));
    }

    #[test]
    fn an_override_is_named_when_it_is_wrong() {
        let found = parsed(SENDER, &["send.to=den", "capture.volume=80"]).unwrap_err();
        assert!(
            found.starts_with("--set capture.volume=80:1:16: error: a gain of `80`"),
            "{found}"
        );
        let found = parsed(SENDER, &["capture.vol=1"]).unwrap_err();
        assert!(found.starts_with("--set capture.vol=1:1:9: error: unknown key `vol`"), "{found}");
        let found = parsed(SENDER, &["capture.3.volume=1"]).unwrap_err();
        assert!(found.contains("there is no entry 3, only 1"), "{found}");
        let found = parsed(SENDER, &["volume"]).unwrap_err();
        assert!(found.contains("there is no `=`"), "{found}");
        let found = parsed(SENDER, &["playback=[{kind=\"nowhere\"}]", "receive={}"]).unwrap_err();
        assert!(found.contains(":1:17: error: unknown value `nowhere`"), "{found}");
    }

    #[test]
    fn names_are_found_in_the_first_folder_that_has_them() {
        let first = tempfile::tempdir().unwrap();
        let second = tempfile::tempdir().unwrap();
        fs::write(second.path().join("play.toml"), "schema = 1").unwrap();
        let dirs = [first.path().to_owned(), second.path().to_owned()];
        assert_eq!(find("play", &dirs).unwrap(), second.path().join("play.toml"));
        fs::write(first.path().join("play.toml"), "schema = 1").unwrap();
        assert_eq!(find("play", &dirs).unwrap(), first.path().join("play.toml"));
        let missing = find("paly", &dirs).unwrap_err().to_string();
        assert!(missing.contains("did you mean `play`?"), "{missing}");
        assert!(matches!(find("../play", &dirs), Err(LoadError::NotFound { .. })));
        let folder = first.path().join("x.toml");
        fs::create_dir(&folder).unwrap();
        assert!(matches!(find(folder.to_str().unwrap(), &dirs), Err(LoadError::Read { .. })));
    }

    #[test]
    #[cfg(windows)]
    fn the_search_path_follows_the_environment() {
        let dirs = search_path(&|name| Some(format!("/{name}")));
        let expected = ["/VELIN_CONFIG_DIR", "/APPDATA/velin", "/ProgramData/velin"];
        assert_eq!(dirs, expected.map(|dir| Path::new(dir).join("presets")));
        assert!(search_path(&|_| None).is_empty());
    }

    #[test]
    #[cfg(not(windows))]
    fn the_search_path_follows_the_environment() {
        let dirs = search_path(&|name| (name == "XDG_CONFIG_HOME").then(|| "/x".to_owned()));
        let expected = ["/x/velin/presets", "/etc/velin/presets", "/usr/share/velin/presets"];
        assert_eq!(dirs, expected.map(PathBuf::from));
        let dirs = search_path(&|name| (name == "HOME").then(|| "/h".to_owned()));
        assert_eq!(dirs[0], PathBuf::from("/h/.config/velin/presets"));
    }

    proptest::proptest! {
        /// A preset that covers most of the reader, damaged anywhere and overridden anyhow.
        #[test]
        fn no_text_makes_the_reader_panic(
            at in 0..400_usize,
            cut in 0..20_usize,
            put in "[ -~äß\n\t\"\\[\\]{}=.$]{0,8}",
            set in "[a-z0-9.]{0,12}=?[ -~ä]{0,12}",
        ) {
            let text = "schema = 1\n[[capture]]\nkind = \"system\"\nvolume = \"-6dB\"\n\
                        properties = { a = [1, \"ü\"], b.c = true }\n[[capture]]\n\
                        kind = \"file\"\npath = \"${X:-ä}.wav\"\n[[send]]\nto = \"[::1]:1\"\n\
                        qos = 46\n[receive]\nlatency = \"20ms\"\nstreams = [\"*\", \"!x\"]\n\
                        [[playback]]\nkind = \"none\"\n";
            let mut damaged: Vec<char> = text.chars().collect();
            let at = at.min(damaged.len());
            let end = (at + cut).min(damaged.len());
            damaged.splice(at..end, put.chars());
            let damaged: String = damaged.into_iter().collect();
            if let Err(found) = parse("p.toml", &damaged, &[set], &|_| None) {
                // Every finding says something and where the preset is.
                proptest::prop_assert!(found.to_string().contains(": error: "));
            }
        }
    }

    #[test]
    fn a_file_too_long_to_be_a_preset_is_not_parsed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.toml");
        fs::write(&path, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
        assert!(matches!(read(&path), Err(LoadError::TooLong { .. })));
    }
}
