//! Keeps docs/coverage.md and docs/licences.md honest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many rows each group has; they are numbered from 01 without a hole.
const GROUPS: [(&str, usize); 12] = [
    ("CAP", 20),
    ("TRA", 29),
    ("SEC", 15),
    ("DIS", 7),
    ("REC", 14),
    ("RES", 13),
    ("BAN", 6),
    ("OBS", 9),
    ("CFG", 9),
    ("CLI", 10),
    ("GUI", 10),
    ("PKG", 9),
];

#[test]
fn every_feature_has_exactly_one_row() {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows() {
        *counted.entry(row.id).or_default() += 1;
    }
    let expected: BTreeMap<String, usize> = GROUPS
        .iter()
        .flat_map(|(group, last)| (1..=*last).map(move |n| (format!("{group}-{n:02}"), 1)))
        .collect();
    assert_eq!(counted, expected);
}

#[test]
fn every_state_is_a_known_one_and_says_what_it_must() {
    for Row { id, state, shown_by } in rows() {
        let said = shown_by != "–";
        match state.as_str() {
            "done" => assert!(
                names(&shown_by).iter().any(|name| is_test(name) || name.contains("test")),
                "{id} is done, but names no test that shows it"
            ),
            "part" | "refused" => assert!(said, "{id} is {state}, but does not say why"),
            "in work" | "planned" => {}
            _ => panic!("{id}: unknown state {state:?}"),
        }
    }
}

#[test]
fn every_file_and_every_test_that_is_named_exists() {
    let tests = tests_of_the_tree();
    for Row { id, shown_by, .. } in rows() {
        for name in names(&shown_by) {
            if is_test(&name) {
                assert!(tests.contains(&name), "{id}: there is no test `{name}`");
            } else if name.contains('/') {
                assert!(root().join(&name).exists(), "{id}: there is no file `{name}`");
            }
        }
    }
}

#[test]
fn every_dependency_has_an_accepted_licence() {
    let output = Command::new(root().join("scripts/licences.sh")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_attack_names_the_test_that_shows_its_answer_or_says_not_yet() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let (_, section) = page.split_once("\n## Attacks").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let tests = tests_of_the_tree();
    let mut attacks = 0;
    for line in section.lines().filter(|line| line.starts_with('|')).skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [attack, answer, shown_by] = cells[..] else { panic!("{line}: three cells") };
        assert!(!answer.is_empty(), "{attack}");
        let named = names(shown_by).iter().filter(|name| tests.contains(*name)).count();
        assert!(named > 0 || shown_by == "not yet", "{attack}: {shown_by}");
        attacks += 1;
    }
    assert!(attacks > 30, "{attacks}");
}

struct Row {
    id: String,
    state: String,
    shown_by: String,
}

fn rows() -> Vec<Row> {
    let page = fs::read_to_string(root().join("docs/coverage.md")).unwrap();
    page.lines().filter_map(row).collect()
}

/// A table line that begins with an id such as `CAP-01`.
fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
    let id = cells[0];
    let is_id = id.len() == 6
        && id[..3].bytes().all(|b| b.is_ascii_uppercase())
        && id.as_bytes()[3] == b'-'
        && id[4..].bytes().all(|b| b.is_ascii_digit());
    if !is_id {
        return None;
    }
    assert_eq!(cells.len(), 6, "{id}: a row has five cells");
    Some(Row { id: id.into(), state: cells[3].into(), shown_by: cells[4].into() })
}

/// What stands in backticks.
fn names(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Tests are named like sentences: at least three words.
fn is_test(name: &str) -> bool {
    name.matches('_').count() >= 2 && !name.contains(['/', '.', '-'])
}

/// The names of all functions that carry a `#[test]` attribute (also one with a prefix or arguments).
fn tests_of_the_tree() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<PathBuf> =
        ["gst-velin", "velin-pipe", "tests", "examples"].map(|f| root().join(f)).into();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let mut marked = false;
            for line in source.lines().map(str::trim) {
                if line.starts_with("#[test]")
                    || line.contains("::test]")
                    || line.contains("::test(")
                {
                    marked = true;
                } else if let Some((before, after)) = line.split_once("fn ")
                    && matches!(before, "" | "async ")
                {
                    // proptest's functions have arguments and their attribute inside the macro.
                    if marked {
                        found.extend(after.split(['(', '<']).next().map(str::to_owned));
                    }
                    marked = false;
                }
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
