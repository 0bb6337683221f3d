//! The program itself, from outside: what it runs, how it ends.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use support::{Home, SOON, text};

#[test]
fn what_is_missing_has_its_own_exit_code() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "nosuch"]).0, Some(66));
    let preset = home.write(
        "p.toml",
        "schema = 1\n[[capture]]\nkind = \"file\"\npath = \"/nosuch.wav\"\n\
         [[send]]\nto = \"127.0.0.1\"\n",
    );
    let (code, said) = home.run(&["run", text(&preset)]);
    assert_eq!(code, Some(66), "{said}");
    assert!(said.starts_with("there is no file /nosuch.wav\ncheck `path`"), "{said}");
}

#[test]
fn a_damaged_trust_file_is_named_and_nothing_runs() {
    let home = Home::new();
    fs::create_dir(home.config()).unwrap();
    fs::write(home.config().join("trust.toml"), "nonsense").unwrap();
    let (code, said) = home.run(&["check", text(&home.loopback())]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("trust.toml"), "{said}");
}

#[test]
fn version_names_the_copy_of_the_elements_that_is_used() {
    let (code, said) = Home::new().run(&["version"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("GStreamer 1."), "{said}");
    assert!(said.contains("\nelements: "), "{said}");
}

#[test]
fn every_shipped_preset_is_right() {
    let presets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../presets");
    let mut count = 0;
    for entry in fs::read_dir(presets).unwrap() {
        let path = entry.unwrap().path();
        let (code, said) = Home::new().run(&["check", text(&path)]);
        assert_eq!(code, Some(0), "{said}");
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
fn a_run_ends_when_its_time_is_up_and_leaves_a_summary() {
    let home = Home::new();
    let stats = home.path("stats.json");
    let preset = home.loopback();
    let arguments = ["run", text(&preset), "--duration", "1500ms", "--stats-json", text(&stats)];
    let (code, said) = home.run(&arguments);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("loopback\n"), "{said}");
    assert!(!said.contains('\x1b'), "control characters without a terminal: {said}");
    let summary: Value = serde_json::from_slice(&fs::read(&stats).unwrap()).unwrap();
    assert_eq!(summary["errors"], Value::Array(vec![]), "{summary}");
    let elements = summary["elements"].as_array().unwrap();
    assert_eq!(elements[0]["factory"], "velinsrc");
    assert_eq!(elements[1]["factory"], "velinsink");
    let (received, sent) = (&elements[0]["stats"], &elements[1]["stats"]);
    assert!(received["received"].as_u64().unwrap() > 24_000, "{summary}");
    assert_eq!(received["streams"][0]["name"], "test");
    assert!(sent["packets-sent"].as_u64().unwrap() > 100, "{summary}");
}

#[test]
fn what_happens_is_told_in_words_and_figures() {
    let home = Home::new();
    let preset = home.loopback();
    let arguments = ["run", text(&preset), "--duration", "1500ms", "--status", "100ms"];
    let (code, said) = home.run(&arguments);
    assert_eq!(code, Some(0), "{said}");
    for words in [
        &format!("\nlistening: TCP port {}, UDP port ", home.address().port()),
        &format!("\nConnecting to {}\n", home.address()),
        "\npeer connected: age1…",
        "\nstream added: test from age1…",
        "\ncapture0: playing on GstSystemClock, pipeline latency ",
        "\nlevel ",
        " ms  received ",
        "  repaired 0 ms  concealed ",
        "  peers 1\n",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    assert_eq!(said.matches("Connecting to").count(), 1, "{said}");
}

#[test]
fn a_signal_ends_a_run_cleanly_within_two_seconds() {
    for name in ["-INT", "-TERM"] {
        let home = Home::new();
        let stats = home.path("stats.json");
        let preset = home.loopback();
        let mut run = home.start(&["run", text(&preset), "--stats-json", text(&stats)]);
        run.wait_for("peer connected");
        run.signal(name);
        assert_eq!(run.ends_within(Duration::from_secs(3)), Some(0), "{name}: {}", run.said());
        assert!(stats.exists(), "{name}");
    }
}

#[test]
fn what_was_received_is_a_finished_wav_file_after_a_signal() {
    let home = Home::new();
    let wav = home.path("received.wav");
    let preset = home.loopback();
    let playback = format!("playback=[{{kind=\"file\", path=\"{}\"}}]", text(&wav));
    let mut run = home.start(&["run", text(&preset), "--set", &playback]);
    // The file grows as soon as something plays.
    let grown = || fs::metadata(&wav).is_ok_and(|file| file.len() > 100_000);
    assert!(support::wait_until(SOON, grown), "{}", run.said());
    run.signal("-INT");
    assert_eq!(run.ends_within(Duration::from_secs(3)), Some(0), "{}", run.said());
    let bytes = fs::read(&wav).unwrap();
    let riff = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
    assert_eq!(riff as usize + 8, bytes.len(), "the header was not finished");
}

#[test]
fn a_file_begins_when_its_receiver_takes_it_and_nothing_of_it_is_lost() {
    let (here, there) = (Home::new(), Home::new());
    here.trusts(&there);
    there.trusts(&here);
    let song = here.path("song.wav");
    support::write_tone(&song, 48_000);
    let (stats, heard) = (here.path("stats.json"), there.path("heard.wav"));
    let receiver = there.write(
        "receive.toml",
        &format!(
            "schema = 1\n[receive]\nbind = \"127.0.0.1\"\nport = 0\naudio-port = 0\n\
             on-peer-lost = \"eos\"\n[[playback]]\nkind = \"file\"\npath = {heard:?}\n"
        ),
    );
    let mut receiver = there.start(&["run", text(&receiver)]);
    let sender = here.write(
        "send.toml",
        &format!(
            "schema = 1\n[[capture]]\nkind = \"file\"\npath = {song:?}\n\
             [[send]]\nto = \"127.0.0.1:{}\"\n",
            receiver.port()
        ),
    );
    let (code, said) = here.run(&["run", text(&sender), "--stats-json", text(&stats)]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(receiver.ends_within(SOON), Some(0), "{}", receiver.said());
    let summary: Value = serde_json::from_slice(&fs::read(&stats).unwrap()).unwrap();
    let sent = &summary["elements"][0]["stats"];
    assert_eq!(sent["packets-dropped"], 0, "{summary}");
    assert_eq!(sent["frames"], 48_000, "{summary}");
    assert!(receiver.said().contains("\nplayback0: playing on "), "{}", receiver.said());
    assert!(receiver.said().contains("\npeer left: peer (age1…"), "{}", receiver.said());
}

#[test]
fn a_file_that_nobody_takes_is_played_nevertheless() {
    let home = Home::new();
    let song = home.path("song.wav");
    support::write_tone(&song, 9_600);
    let preset = home.write(
        "send.toml",
        &format!(
            "schema = 1\n[[capture]]\nkind = \"file\"\npath = {song:?}\n\
             [[send]]\nto = \"127.0.0.1:9\"\n"
        ),
    );
    let (code, said) = home.run(&["run", text(&preset)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\ncapture0: nobody takes it yet; it begins nevertheless\n"), "{said}");
}

#[test]
fn a_value_that_velinsink_refuses_points_at_the_preset() {
    let home = Home::new();
    let preset = home.loopback();
    let set = "send.0.properties={ packet-tiem = 1 }";
    let (code, said) = home.run(&["check", text(&preset), "--set", set]);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains(":1:21: error: velinsink has no property `packet-tiem`"), "{said}");
    assert!(said.contains("did you mean `packet-time`?"), "{said}");
}

#[test]
fn words_of_the_schema_that_the_elements_do_not_know_yet_are_pointed_at() {
    let home = Home::new();
    let preset = home.write(
        "later.toml",
        "schema = 1\n[receive]\nstreams = [\"*\"]\ncarrier = \"tunnel\"\n\
         [[playback]]\nkind = \"none\"\n",
    );
    let (code, said) = home.run(&["check", text(&preset)]);
    assert_eq!(code, Some(65), "{said}");
    for words in [
        "later.toml:4:11: error: velinsrc cannot take `tunnel` as its carrier",
        "= write one of auto, lan, tcp",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
}

#[test]
fn what_will_not_end_is_cut_off_after_two_seconds_and_a_second_signal_cuts_it_off_at_once() {
    // A closed valve lets no end through; without a meter nobody knows that nothing came.
    let stuck = "schema = 1\n[[capture]]\nkind = \"launch\"\nformat = \"S24LE\"\n\
                 launch = \"audiotestsrc is-live=true ! valve drop=true\"\n\
                 [[send]]\nto = \"127.0.0.1:9\"\n";
    let home = Home::new();
    let preset = home.write("stuck.toml", stuck);
    for (signals, limit, code) in [(1, 3500, 0), (2, 1500, 130)] {
        let mut run = home.start(&["run", text(&preset)]);
        run.wait_for("stuck.toml");
        // Long enough for the pipeline to be past its start.
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..signals {
            run.signal("-INT");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(run.ends_within(Duration::from_millis(limit)), Some(code), "{}", run.said());
    }
}
