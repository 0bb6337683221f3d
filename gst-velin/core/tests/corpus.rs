//! Every file the fuzzer ever found worth keeping, through the fuzzer's own targets, on stable.
//!
//! `scripts/fuzz.sh` looks for new ones. The seeds it starts from are made here; with
//! `VELIN_WRITE_SEEDS=1` they are written into the corpus.

#[path = "support/mod.rs"]
mod support;
#[path = "support/fuzz/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use targets::{TARGETS, seeds};

/// Beyond this it belongs into a store of its own, not into the repository.
const MAX_FILES: usize = 60;
const MAX_BYTES: u64 = 300 * 1024;

#[test]
fn every_file_of_the_corpus_passes() {
    let mut work = Vec::new();
    for (name, run) in TARGETS {
        let files = files(&fuzz().join("corpus").join(name));
        assert!(!files.is_empty(), "fuzz/corpus/{name} is empty; run scripts/fuzz.sh");
        work.extend(files.into_iter().map(|file| (run, file)));
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((run, file)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = Name(file);
                    run(&fs::read(file).unwrap());
                    std::mem::forget(name);
                }
            });
        }
    });
}

#[test]
fn every_seed_passes() {
    for (name, run) in TARGETS {
        for (i, seed) in seeds::of(name).iter().enumerate() {
            run(seed);
            if std::env::var_os("VELIN_WRITE_SEEDS").is_some() {
                let folder = fuzz().join("corpus").join(name);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("seed-{i:02}")), seed).unwrap();
            }
        }
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_nothing_else_does() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "fuzz/Cargo.toml: no {name}");
    }
    for folder in ["corpus", "fuzz_targets"] {
        let found: BTreeSet<_> = fs::read_dir(fuzz().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(found, targets, "fuzz/{folder}");
    }
}

#[test]
fn the_corpus_is_small() {
    let mut bytes = 0;
    for (name, _) in TARGETS {
        let files = files(&fuzz().join("corpus").join(name));
        assert!(files.len() <= MAX_FILES, "{name}: {} files", files.len());
        bytes += files.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    }
    assert!(bytes <= MAX_BYTES, "{bytes} bytes");
}

/// Names the file whose target panics.
struct Name<'a>(&'a Path);

impl Drop for Name<'_> {
    fn drop(&mut self) {
        eprintln!("it was {}", self.0.display());
    }
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
