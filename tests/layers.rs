//! The layers of docs/architecture.md, held: reads the manifests and the sources and fails when one
//! layer reaches for what belongs to another.
//!
//! Only production code counts: comments, strings, and test modules are left out.

use std::fs;
use std::path::{Path, PathBuf};

/// What code in some folder may not name, and why.
struct Rule {
    why: &'static str,
    /// The folder or file it holds for, from the root of the repository.
    within: &'static str,
    /// Folders and files inside it that are free.
    except: &'static [&'static str],
    /// Paths that may not be named, nor anything below them. A path of one segment also stands for
    /// that name anywhere in the code; `*` at the end of it for any ending.
    forbidden: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        why: "velin-core is sans-IO: time, entropy and bytes are arguments",
        within: "gst-velin/core/src",
        except: &[],
        forbidden: &[
            "gst",
            "gst_*",
            "gstreamer*",
            "glib",
            "tokio",
            "socket2",
            "rustix",
            "libc",
            "getrandom",
            "rand",
            "rand_core::OsRng",
            "OsRng",
            "std::fs",
            "std::thread",
            "std::env",
            "std::process",
            "std::os",
            "std::time::Instant::now",
            "Instant::now",
            "std::time::SystemTime::now",
            "SystemTime::now",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "println",
            "eprintln",
            "anyhow",
        ],
    },
    Rule {
        why: "in gst-velin only src/link/ does I/O",
        within: "gst-velin/src",
        except: &["gst-velin/src/link"],
        forbidden: &[
            "tokio",
            "socket2",
            "rustix::net",
            "rustix::fs",
            "rustix::event",
            "std::fs",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "age",
        ],
    },
    Rule {
        why: "in gst-velin only the element folders know GStreamer's base classes",
        within: "gst-velin/src",
        except: &["gst-velin/src/velinsink", "gst-velin/src/velinsrc"],
        forbidden: &["gst_base"],
    },
    Rule {
        why: "a preset is text and names, not GStreamer objects",
        within: "velin-pipe/src/preset",
        except: &[],
        forbidden: &["gst", "gst_*", "glib", "gstvelin"],
    },
    Rule {
        why: "a plan is data, not GStreamer objects",
        within: "velin-pipe/src/plan",
        except: &[],
        forbidden: &["gst", "gst_*", "glib", "gstvelin"],
    },
    Rule {
        why: "libraries have typed errors; anyhow is for velin-pipe's main",
        within: "gst-velin/src",
        except: &[],
        forbidden: &["anyhow"],
    },
    Rule {
        why: "libraries have typed errors; anyhow is for velin-pipe's main",
        within: "velin-pipe/src",
        except: &["velin-pipe/src/main.rs"],
        forbidden: &["anyhow"],
    },
];

#[test]
fn no_layer_reaches_for_what_belongs_to_another() {
    let mut violations = Vec::new();
    for rule in RULES {
        for file in sources(&root().join(rule.within)) {
            let name = relative(&file);
            if rule.except.iter().any(|free| name.starts_with(free)) {
                continue;
            }
            for found in rule.broken_by(&fs::read_to_string(&file).unwrap()) {
                violations.push(format!("{name}: names `{found}`, but {}", rule.why));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    let manifest = manifest("gst-velin/core/Cargo.toml");
    let forbidden = ["gst", "glib", "tokio", "socket2", "rustix", "getrandom", "rand", "libc"];
    for table in dependency_tables(&manifest) {
        for (name, value) in table {
            let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(name);
            let bad = forbidden.iter().any(|f| package == *f || package.starts_with("gstreamer"));
            assert!(!bad && !name.starts_with("gst"), "velin-core depends on {name}");
        }
    }
}

#[test]
fn dependencies_point_downwards_only() {
    for (crate_folder, above) in [
        ("gst-velin/core", &["gst-velin", "velin-pipe", "velin"][..]),
        ("gst-velin", &["velin-pipe", "velin"][..]),
    ] {
        let manifest = manifest(&format!("{crate_folder}/Cargo.toml"));
        for table in dependency_tables(&manifest) {
            for name in table.keys() {
                assert!(!above.contains(&name.as_str()), "{crate_folder} depends on {name}");
            }
        }
    }
}

#[test]
fn the_core_forbids_unsafe_code() {
    let lib = fs::read_to_string(root().join("gst-velin/core/src/lib.rs")).unwrap();
    assert!(lib.contains("#![forbid(unsafe_code)]"));
}

/// Not a failure, but a list to read with `--no-capture`: a file this long asks to be split.
#[test]
fn long_files_are_listed() {
    const LONG: usize = 700;
    for folder in ["gst-velin/src", "gst-velin/core/src", "velin-pipe/src", "tests"] {
        for file in sources(&root().join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > LONG {
                eprintln!("{}: {lines} lines", relative(&file));
            }
        }
    }
}

#[test]
fn the_rules_find_what_they_look_for() {
    let rule = Rule {
        why: "",
        within: "",
        except: &[],
        forbidden: &["tokio", "gst_*", "std::fs", "Instant::now", "UdpSocket"],
    };
    let breaks = |source: &str| rule.broken_by(source).len();

    assert_eq!(breaks("use tokio::net::TcpStream;"), 1);
    assert_eq!(breaks("use std::{fmt, fs::{self, File}};"), 1);
    assert_eq!(breaks("fn f() { std::fs::read(p) }"), 1);
    assert_eq!(breaks("fn f(now: Instant) { let t = Instant::now(); }"), 1);
    assert_eq!(breaks("use std::net::{IpAddr, UdpSocket as Socket};"), 1);
    assert_eq!(breaks("pub use gst_base::prelude::*;"), 1);
    assert_eq!(breaks("fn f() { gst_audio::AudioInfo::new() }"), 1);

    assert_eq!(breaks("// use tokio::net\n/* std::fs::read /* nested */ */"), 0);
    assert_eq!(breaks(r##"const A: &str = "tokio \" UdpSocket"; const B: &str = r#"tokio"#;"##), 0);
    assert_eq!(breaks("use std::fmt; use crate::fs; fn tokio_like(instant: Instant) {}"), 0);
    assert_eq!(breaks("fn a<'tokio>(x: &'tokio str) -> char { '\"' }"), 0);
    assert_eq!(breaks("fn f() -> impl Sized + use<> { a::b(); }"), 0);
    assert_eq!(breaks("fn f() {}\n#[cfg(test)]\nmod tests { use tokio::net; }"), 0);
}

impl Rule {
    fn broken_by<'a>(&'a self, source: &str) -> Vec<&'a str> {
        let code = code_of(source);
        let named = paths_in(&code);
        self.forbidden
            .iter()
            .copied()
            .filter(|f| named.iter().any(|path| Self::names(path, f)))
            .collect()
    }

    /// Whether `path`, as written or as a `use` spells it out, names `forbidden`.
    fn names(path: &[String], forbidden: &str) -> bool {
        let wanted: Vec<&str> = forbidden.split("::").collect();
        match wanted.as_slice() {
            [word] => path.iter().any(|segment| match word.strip_suffix('*') {
                Some(beginning) => segment.starts_with(beginning),
                None => segment == word,
            }),
            _ => path.windows(wanted.len()).any(|part| part == wanted),
        }
    }
}

/// Every path in the code, `use` trees spelled out: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths_in(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let tokens = tokens(code);
    let mut at = 0;
    while at < tokens.len() {
        // `impl Trait + use<T>` names what a type captures, not a path.
        let captures = tokens.get(at + 1).is_some_and(|t| t == "<");
        if tokens[at] == "use" && !captures {
            at = use_tree(&tokens, at + 1, &[], &mut paths);
        } else if is_name(&tokens[at]) {
            let mut path = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|t| t == "::")
                && tokens.get(at + 2).is_some_and(|t| is_name(t))
            {
                path.push(tokens[at + 2].clone());
                at += 2;
            }
            paths.push(path);
            at += 1;
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads one `use` tree that begins at `at`; returns where it ends.
fn use_tree(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t != "}") {
                    at = use_tree(tokens, at, &path, paths);
                    if tokens.get(at).is_some_and(|t| t == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            // The new name of `as` is nobody's business.
            "as" => at += 1,
            name if is_name(name) => path.push(name.to_owned()),
            _ => {}
        }
        at += 1;
    }
    paths.push(path);
    at
}

fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The source without comments, strings, character literals, lifetimes, and its test module.
fn code_of(source: &str) -> String {
    let production = source
        .match_indices("#[cfg(test)]")
        .find(|(at, mark)| {
            let after = source[at + mark.len()..].trim_start();
            after.starts_with("mod ") && after.lines().next().is_some_and(|l| l.contains('{'))
        })
        .map_or(source, |(at, _)| &source[..at]);

    let mut code = String::with_capacity(production.len());
    let mut rest = production;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            string(rest)
        } else if let Some(length) = raw_string(rest, code.chars().last()) {
            length
        } else if first == '\'' {
            quote(rest)
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = true;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return None;
    }
    let start = text.len() - after.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// A character literal, or a lifetime with its name.
fn quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((second, _))) => {
            let from = second + 1;
            text[from..].find('\'').map_or(text.len(), |at| from + at + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => text[1..]
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(text.len(), |at| at + 1),
    }
}

/// All Rust files below a folder (or the file itself), without those that hold only tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") && !stem.ends_with("tests") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn dependency_tables(manifest: &toml::Table) -> Vec<&toml::Table> {
    let mut places = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        places.extend(targets.values().filter_map(toml::Value::as_table));
    }
    places
        .into_iter()
        .flat_map(|place| ["dependencies", "build-dependencies"].map(|name| place.get(name)))
        .filter_map(|table| table?.as_table())
        .collect()
}

fn manifest(path: &str) -> toml::Table {
    fs::read_to_string(root().join(path)).unwrap().parse().unwrap()
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
