//! The run loop, with hand-made plans: what ends, what is finished, what fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use velin_pipe::error::Error;
use velin_pipe::pipeline::{self, RunOptions};
use velin_pipe::plan::{Direction, Link, Make, Node, PipelinePlan, Plan, Property, PropertyValue};
use velin_pipe::preset::diagnostic::Sources;

fn node(pipeline: &str, factory: &str, properties: &[(&str, &str)]) -> Node {
    let property = |(name, value): &(&str, &str)| Property {
        name: (*name).to_owned(),
        value: PropertyValue::Text((*value).to_owned()),
        span: None,
        name_span: None,
    };
    Node {
        name: format!("{pipeline}-{factory}"),
        make: Make::Factory(factory.to_owned()),
        properties: properties.iter().map(property).collect(),
        span: None,
    }
}

/// A chain of `nodes`: factory and properties.
fn chain(name: &str, direction: Direction, nodes: &[(&str, &[(&str, &str)])]) -> PipelinePlan {
    let nodes: Vec<_> =
        nodes.iter().map(|(factory, properties)| node(name, factory, properties)).collect();
    let links = nodes
        .windows(2)
        .map(|pair| Link { from: pair[0].name.clone(), to: pair[1].name.clone() })
        .collect();
    PipelinePlan { name: name.to_owned(), direction, looped: false, nodes, links }
}

fn run(pipelines: Vec<PipelinePlan>, options: &RunOptions) -> Result<(), Error> {
    pipeline::init().unwrap();
    pipeline::run(&Plan { pipelines }, &Arc::new(Sources::default()), options)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The seconds of audio that a WAV file's header promises, which must be the ones that it holds.
fn wav_seconds(path: &Path) -> f64 {
    let bytes = fs::read(path).unwrap();
    let rate = u32::from_le_bytes(bytes[28..32].try_into().unwrap());
    let data = bytes.windows(4).position(|window| window == b"data").unwrap();
    let promised = u32::from_le_bytes(bytes[data + 4..data + 8].try_into().unwrap());
    assert!(promised as usize <= bytes.len() - data - 8, "the header promises too much");
    assert!(promised > 0, "the header was never finished");
    f64::from(promised) / f64::from(rate)
}

fn tone(buffers: &str) -> Vec<(&str, &str)> {
    vec![("is-live", "true"), ("samplesperbuffer", "441"), ("num-buffers", buffers)]
}

fn write_tone(path: &Path) {
    let nodes: &[(&str, &[(&str, &str)])] = &[
        ("audiotestsrc", &[("num-buffers", "20"), ("samplesperbuffer", "441")]),
        ("wavenc", &[]),
        ("filesink", &[("location", text(path))]),
    ];
    run(vec![chain("tone", Direction::Send, nodes)], &RunOptions::default()).unwrap();
}

#[test]
fn a_source_that_ends_ends_the_run_and_the_summary_tells() {
    let dir = tempfile::tempdir().unwrap();
    let (wav, stats) = (dir.path().join("out.wav"), dir.path().join("stats.json"));
    let source = tone("20");
    let nodes: &[(&str, &[(&str, &str)])] = &[
        ("audiotestsrc", &source),
        ("level", &[("interval", "50000000")]),
        ("wavenc", &[]),
        ("filesink", &[("location", text(&wav))]),
    ];
    let options = RunOptions { stats_json: Some(stats.clone()), ..RunOptions::default() };
    run(vec![chain("capture0", Direction::Send, nodes)], &options).unwrap();

    assert!((wav_seconds(&wav) - 0.2).abs() < 1e-6);
    let summary: Value = serde_json::from_slice(&fs::read(&stats).unwrap()).unwrap();
    assert_eq!(summary["exit-code"], 0);
    assert_eq!(summary["errors"], Value::Array(vec![]));
    assert_eq!(summary["pipelines"][0]["name"], "capture0");
    assert_eq!(summary["pipelines"][0]["clock"], "GstSystemClock");
    assert!(summary["duration-seconds"].as_f64().unwrap() >= 0.15);
}

#[test]
fn a_duration_ends_what_would_never_end_and_finishes_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let wav = dir.path().join("out.wav");
    let source = tone("-1");
    let nodes: &[(&str, &[(&str, &str)])] =
        &[("audiotestsrc", &source), ("wavenc", &[]), ("filesink", &[("location", text(&wav))])];
    let options =
        RunOptions { duration: Some(Duration::from_millis(300)), ..RunOptions::default() };
    let started = Instant::now();
    run(vec![chain("playback0", Direction::Receive, nodes)], &options).unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(wav_seconds(&wav) >= 0.2);
}

#[test]
fn when_everything_is_sent_the_receiver_is_ended_too() {
    let source = tone("20");
    let sender: &[(&str, &[(&str, &str)])] =
        &[("audiotestsrc", &source), ("fakesink", &[("sync", "true")])];
    let endless = tone("-1");
    let receiver: &[(&str, &[(&str, &str)])] =
        &[("audiotestsrc", &endless), ("fakesink", &[("sync", "true")])];
    let pipelines = vec![
        chain("playback0", Direction::Receive, receiver),
        chain("capture0", Direction::Send, sender),
    ];
    run(pipelines, &RunOptions::default()).unwrap();
}

#[test]
fn an_error_names_the_element_and_the_other_pipelines_finish_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let (wav, stats) = (dir.path().join("out.wav"), dir.path().join("stats.json"));
    let endless = tone("-1");
    let receiver: &[(&str, &[(&str, &str)])] =
        &[("audiotestsrc", &endless), ("wavenc", &[]), ("filesink", &[("location", text(&wav))])];
    // It fails by itself after a third of a second of audio.
    let source = tone("-1");
    let failing: &[(&str, &[(&str, &str)])] =
        &[("audiotestsrc", &source), ("identity", &[("error-after", "30")]), ("fakesink", &[])];
    let options = RunOptions { stats_json: Some(stats.clone()), ..RunOptions::default() };
    let pipelines = vec![
        chain("playback0", Direction::Receive, receiver),
        chain("capture0", Direction::Send, failing),
    ];
    let error = run(pipelines, &options).unwrap_err();

    assert!(error.to_string().starts_with("capture0-identity: "), "{error}");
    assert_eq!(error.exit_code(), 1);
    assert!(wav_seconds(&wav) >= 0.1);
    let summary: Value = serde_json::from_slice(&fs::read(&stats).unwrap()).unwrap();
    assert_eq!(summary["exit-code"], 1);
    assert!(summary["errors"][0].as_str().unwrap().starts_with("capture0-identity"));
}

#[test]
fn a_pipeline_that_cannot_start_says_why() {
    let nodes: &[(&str, &[(&str, &str)])] =
        &[("filesrc", &[("location", "/nosuch.wav")]), ("wavparse", &[]), ("fakesink", &[])];
    let error = run(vec![chain("capture0", Direction::Send, nodes)], &RunOptions::default());
    let error = error.unwrap_err();
    assert!(error.to_string().starts_with("capture0-filesrc: Resource not found."), "{error}");
    assert_eq!(error.exit_code(), 69);
}

#[test]
fn a_looped_file_begins_again_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let short: PathBuf = dir.path().join("short.wav");
    let long = dir.path().join("long.wav");
    write_tone(&short);
    let nodes: &[(&str, &[(&str, &str)])] = &[
        ("filesrc", &[("location", text(&short))]),
        ("wavparse", &[]),
        // The file's format, so that its bytes can be counted.
        ("filesink", &[("location", text(&long)), ("sync", "true")]),
    ];
    let mut looped = chain("capture0", Direction::Send, nodes);
    looped.looped = true;
    let options = RunOptions { duration: Some(Duration::from_secs(1)), ..RunOptions::default() };
    let started = Instant::now();
    run(vec![looped], &options).unwrap();
    assert!(started.elapsed() < Duration::from_millis(1800), "{:?}", started.elapsed());
    let (once, all) = (fs::metadata(&short).unwrap().len(), fs::metadata(&long).unwrap().len());
    assert!(all > 3 * once, "{all} bytes from {once}");
}

#[test]
fn a_summary_that_cannot_be_written_is_an_error_of_its_own() {
    let source = tone("2");
    let nodes: &[(&str, &[(&str, &str)])] = &[("audiotestsrc", &source), ("fakesink", &[])];
    let options =
        RunOptions { stats_json: Some("/nosuch/stats.json".into()), ..RunOptions::default() };
    let error = run(vec![chain("capture0", Direction::Send, nodes)], &options).unwrap_err();
    assert!(error.to_string().starts_with("cannot write /nosuch/stats.json"), "{error}");
    assert_eq!(error.exit_code(), 74);
}

#[test]
fn a_stuck_element_does_not_keep_the_program() {
    let endless = tone("-1");
    // Deaf for six seconds, to the end of the stream and to any state change.
    let nodes: &[(&str, &[(&str, &str)])] = &[
        ("audiotestsrc", &endless),
        ("identity", &[("sleep-time", "6000000")]),
        ("fakesink", &[]),
    ];
    let options =
        RunOptions { duration: Some(Duration::from_millis(200)), ..RunOptions::default() };
    let started = Instant::now();
    run(vec![chain("capture0", Direction::Send, nodes)], &options).unwrap();
    assert!(started.elapsed() < Duration::from_millis(5000), "{:?}", started.elapsed());
}
