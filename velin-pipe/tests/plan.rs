//! What presets are planned to be: the launch lines, word by word.

use velin_pipe::plan::{Device, DeviceClass, Plan, SoundSystem, Surroundings, TrustedPeer};
use velin_pipe::preset::load;

fn planned_in(surroundings: &Surroundings, text: &str) -> Result<Plan, String> {
    let text = format!("schema = 1\n{text}");
    let preset = load::parse("p.toml", &text, &[], &|_| None).map_err(|found| found.to_string())?;
    Plan::new(&preset, surroundings).map_err(|found| found.to_string())
}

/// One line for every pipeline.
fn lines(text: &str) -> Vec<String> {
    let plan = planned_in(&Surroundings::default(), text).unwrap();
    plan.pipelines.iter().map(|pipeline| pipeline.to_launch_line()).collect()
}

const TO: &str = "[[send]]\nto = \"kitchen\"\n";
/// Some device's key.
const RECIPIENT: &str = "age1vjcsrvwshedgwp9aq78e39gqrlqrar5lj530rzxaz2xes3k5s3nqxdc696";
const TEST: &str = "[[capture]]\nkind = \"test\"\n";

#[test]
fn the_desktop_is_captured_from_the_default_monitor_with_small_buffers() {
    assert_eq!(
        lines(&format!("[[capture]]\nkind = \"system\"\n{TO}")),
        ["pulsesrc name=capture0-source client-name=Velin provide-clock=true buffer-time=20000 \
          latency-time=5000 device=@DEFAULT_MONITOR@ \
          ! queue name=capture0-queue max-size-time=100000000 max-size-buffers=200 \
          max-size-bytes=0 leaky=downstream \
          ! audioconvert name=capture0-convert ! audioresample name=capture0-resample \
          ! capsfilter name=capture0-caps caps=audio/x-raw,format=S16LE,rate=48000,channels=2 \
          ! level name=capture0-level interval=100000000 post-messages=true \
          ! velinsink name=capture0-send0 host=kitchen stream-name=desktop processing-deadline=0"]
    );
}

#[test]
fn every_word_of_a_sender_reaches_its_property() {
    let peer = RECIPIENT;
    let line = &lines(&format!(
        "[[capture]]\nkind = \"mic\"\nname = \"My voice\"\ndevice = \"yeti\"\nvolume = \"200%\"\n\
         mute = true\nrate = \"44.1kHz\"\nchannels = 1\nformat = \"F32LE\"\nbuffer = \"10ms\"\n\
         [[send]]\nto = \"[fe80::1%eth0]:5000\"\naudio-port = 5001\nbind = \"10.0.0.1\"\n\
         carrier = \"tunnel\"\ncodec = \"pcm\"\npacket-time = \"5ms\"\nqos = \"voip\"\n\
         peer = \"{peer}\"\n\
         properties = {{ repair = \"off\", mtu = 1400 }}\n",
    ))[0];
    for words in [
        "buffer-time=40000 latency-time=10000 device=yeti !",
        "caps=audio/x-raw,format=F32LE,rate=44100,channels=1 !",
        "volume name=capture0-volume volume=2 !",
        "velinsink name=capture0-send0 host=fe80::1%eth0 port=5000 audio-port=5001 \
         bind-address=10.0.0.1 carrier=tunnel peer=age1",
        " 'stream-name=\"My voice\"' codec=pcm packet-time=5000000 qos-dscp=46 mute=true \
         processing-deadline=0 mtu=1400 repair=off",
    ] {
        assert!(line.contains(words), "no {words:?} in\n{line}");
    }
}

#[test]
fn a_test_needs_no_hardware_and_no_queue() {
    assert_eq!(
        lines(&format!("{TEST}wave = \"noise\"\nformat = \"S24LE\"\nbuffer = \"10ms\"\n{TO}")),
        ["audiotestsrc name=capture0-source is-live=true wave=white-noise volume=0.25 \
          samplesperbuffer=480 ! audioconvert name=capture0-convert \
          ! audioresample name=capture0-resample \
          ! capsfilter name=capture0-caps caps=audio/x-raw,format=S24LE,rate=48000,channels=2 \
          ! velinsink name=capture0-send0 host=kitchen stream-name=test processing-deadline=0"]
    );
}

#[test]
fn a_file_keeps_its_format() {
    let plan = planned_in(
        &Surroundings::default(),
        &format!("[[capture]]\nkind = \"file\"\npath = \"a b.wav\"\nloop = true\n{TO}"),
    )
    .unwrap();
    assert!(plan.pipelines[0].looped);
    assert!(plan.pipelines[0].node("capture0-caps").is_none());
    assert!(plan.to_launch_line().starts_with(
        "filesrc name=capture0-source 'location=\"a b.wav\"' ! wavparse name=capture0-decode ! "
    ));
    let line = &lines(&format!("[[capture]]\nkind = \"file\"\npath = \"a.flac\"\n{TO}"))[0];
    assert!(line.contains(" ! decodebin name=capture0-decode ! "), "{line}");
}

#[test]
fn a_fragment_stands_where_the_source_would() {
    let capture = "[[capture]]\nkind = \"launch\"\nlaunch = \"alsasrc device='hw:1' ! opusdec\"\n";
    let line = &lines(&format!("{capture}{TO}"))[0];
    assert!(line.starts_with(r"alsasrc 'device='\''hw:1'\''' ! opusdec ! queue name="), "{line}");
}

#[test]
fn several_captures_are_streams_of_their_own_and_several_targets_share_a_capture() {
    let two = "[[capture]]\nkind = \"mic\"\n[[capture]]\nkind = \"test\"\n\
               [[send]]\nto = \"kitchen\"\n[[send]]\nto = \"velin://den:1/?carrier=tcp\"\n";
    let lines = lines(two);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0]
            .contains("tee name=capture0-tee allow-not-linked=true ! queue name=capture0-queue0")
    );
    assert!(lines[0].contains(
        "host=kitchen stream-name=microphone processing-deadline=0 capture0-tee. ! queue"
    ));
    assert!(lines[1].contains(
        "velinsink name=capture1-send1 'uri=\"velin://den:1/?carrier=tcp\"' stream-name=test"
    ));
}

#[test]
fn a_receiver_plays_on_the_default_output_with_small_buffers() {
    assert_eq!(
        lines("[receive]\n[[playback]]\n"),
        ["velinsrc name=playback0-receive \
          ! level name=playback0-level interval=100000000 post-messages=true \
          ! audioconvert name=playback0-convert ! audioresample name=playback0-resample \
          ! pulsesink name=playback0-sink client-name=Velin buffer-time=40000 latency-time=10000 \
          provide-clock=true processing-deadline=0"]
    );
}

#[test]
fn every_word_of_a_receiver_reaches_its_property() {
    let lines = lines(
        "[receive]\nport = 0\naudio-port = 0\nbind = \"::1\"\ncarrier = \"lan\"\nqos = 10\n\
         latency = \"20ms\"\ndrift = \"off\"\nstreams = [\"*\", \"!laptop\"]\n\
         output-period = \"2.5ms\"\non-peer-lost = \"eos\"\nrate = 96000\nchannels = 8\n\
         format = \"S24LE\"\n\
         [[playback]]\nkind = \"file\"\npath = \"out.wav\"\nvolume = 0.5\n\
         [[playback]]\nkind = \"none\"\nstreams = [\"laptop\"]\n",
    );
    assert_eq!(
        lines,
        [
            "velinsrc name=playback0-receive port=0 audio-port=0 bind-address=::1 carrier=lan \
             qos-dscp=10 'streams=\"*,!laptop\"' profile=fixed latency=20 drift=off \
             output-period=2500000 on-peer-lost=eos \
             ! capsfilter name=playback0-caps caps=audio/x-raw,format=S24LE,rate=96000,channels=8 \
             ! volume name=playback0-volume volume=0.5 ! audioconvert name=playback0-convert \
             ! wavenc name=playback0-encode \
             ! filesink name=playback0-sink location=out.wav processing-deadline=0",
            "velinsrc name=playback1-receive port=0 audio-port=0 bind-address=::1 carrier=lan \
             qos-dscp=10 streams=laptop profile=fixed latency=20 drift=off \
             output-period=2500000 on-peer-lost=eos \
             ! capsfilter name=playback1-caps caps=audio/x-raw,format=S24LE,rate=96000,channels=8 \
             ! fakesink name=playback1-sink sync=true processing-deadline=0",
        ]
    );
}

#[test]
fn receivers_are_planned_before_senders() {
    let lines = lines(&format!("{TEST}{TO}[receive]\n[[playback]]\nkind = \"none\"\n"));
    assert!(lines[0].starts_with("velinsrc"), "{lines:?}");
    assert!(lines[1].starts_with("audiotestsrc"), "{lines:?}");
}

#[test]
fn extra_properties_have_the_last_word_on_their_element() {
    let line = &lines(
        "[receive]\n[[playback]]\nproperties = { buffer-time = 100000, \
         stream-properties = { \"media.role\" = \"music\" } }\n",
    )[0];
    assert!(!line.contains("buffer-time=40000"), "{line}");
    let words = r#"buffer-time=100000 'stream-properties="props,media.role=(string)\"music\""'"#;
    assert!(line.ends_with(words), "{line}");
}

#[test]
fn a_trusted_name_becomes_its_address_and_its_key() {
    let mut surroundings = Surroundings::default();
    let trusted = |host: Option<&str>| TrustedPeer {
        recipient: "age1key".to_owned(),
        host: host.map(|host| host.parse().unwrap()),
    };
    surroundings.peers.insert("kitchen".to_owned(), trusted(Some("10.0.0.7:5000")));
    surroundings.peers.insert("den".to_owned(), trusted(None));

    let plan = planned_in(&surroundings, &format!("{TEST}{TO}")).unwrap();
    assert!(plan.to_launch_line().contains("host=10.0.0.7 port=5000 peer=age1key stream-name"));

    let found = planned_in(&surroundings, &format!("{TEST}[[send]]\nto = \"den\"\n")).unwrap_err();
    assert!(found.starts_with("p.toml:5:6: error: `den` is trusted, but"), "{found}");
    assert!(found.ends_with("velin-pipe trust add age1key --name den --host ADDRESS"), "{found}");
}

#[test]
fn devices_go_by_the_names_that_people_see() {
    let device =
        |id: &str, label: &str, class| Device { id: id.to_owned(), label: label.to_owned(), class };
    let surroundings = Surroundings {
        devices: vec![
            device("alsa_output.usb", "Big speakers", DeviceClass::Sink),
            device("alsa_input.usb", "Yeti", DeviceClass::Source),
            device("out1", "Twin", DeviceClass::Sink),
            device("out2", "Twin", DeviceClass::Sink),
        ],
        ..Surroundings::default()
    };
    let playback = |device: &str| {
        planned_in(&surroundings, &format!("[receive]\n[[playback]]\ndevice = \"{device}\"\n"))
            .map(|plan| plan.to_launch_line())
    };
    assert!(playback("Big speakers").unwrap().ends_with(" device=alsa_output.usb"));
    assert!(playback("out1").unwrap().ends_with(" device=out1"));
    let found = playback("Big speaker").unwrap_err();
    assert!(found.starts_with("p.toml:4:10: error: there is no device `Big speaker`"), "{found}");
    let help = "= did you mean `Big speakers`? Known here: Big speakers, alsa_output.usb, Twin, out1, \
                Twin, out2";
    assert!(found.ends_with(help), "{found}");
    assert!(playback("Twin").unwrap_err().ends_with("name one of out1, out2"));

    let system = format!("[[capture]]\nkind = \"system\"\ndevice = \"Big speakers\"\n{TO}");
    let line = planned_in(&surroundings, &system).unwrap().to_launch_line();
    assert!(line.contains(" device=alsa_output.usb.monitor "), "{line}");
}

#[test]
fn the_environment_chooses_a_source_before_the_preset_does() {
    let surroundings = Surroundings {
        monitor_override: Some("other.monitor".to_owned()),
        mic_override: Some("headset".to_owned()),
        ..Surroundings::default()
    };
    let captures = "[[capture]]\nkind = \"system\"\ndevice = \"a\"\n\
                    [[capture]]\nkind = \"mic\"\ndevice = \"b\"\n\
                    [[capture]]\nkind = \"device\"\ndevice = \"c\"\n";
    let plan = planned_in(&surroundings, &format!("{captures}{TO}")).unwrap();
    let lines: Vec<_> = plan.pipelines.iter().map(|p| p.to_launch_line()).collect();
    assert!(lines[0].contains(" device=other.monitor "), "{}", lines[0]);
    assert!(lines[1].contains(" device=headset "), "{}", lines[1]);
    assert!(lines[2].contains(" device=c "), "{}", lines[2]);
}

#[test]
fn other_sound_systems_have_their_own_elements() {
    let text = format!("[[capture]]\nkind = \"system\"\n{TO}[receive]\n[[playback]]\n");
    let windows = Surroundings { sound: SoundSystem::Wasapi, ..Surroundings::default() };
    let line = planned_in(&windows, &text).unwrap().to_launch_line();
    assert!(line.contains("wasapi2src name=capture0-source low-latency=true loopback=true"));
    assert!(line.contains("wasapi2sink name=playback0-sink low-latency=true buffer-time=40000"));

    let none = Surroundings { sound: SoundSystem::Auto, ..Surroundings::default() };
    let found = planned_in(&none, &text).unwrap_err();
    assert!(found.contains("cannot be captured without a sound server"), "{found}");
    let named = format!("[[capture]]\nkind = \"mic\"\ndevice = \"Yeti\"\n{TO}");
    let found = planned_in(&none, &named).unwrap_err();
    assert!(found.starts_with("p.toml:4:10: error: `Yeti` cannot be chosen"), "{found}");
    let line = planned_in(&none, "[receive]\n[[playback]]\n").unwrap().to_launch_line();
    assert!(line.ends_with("! autoaudiosink name=playback0-sink"), "{line}");
}

#[test]
fn the_same_preset_is_planned_the_same_way_every_time() {
    let text = format!("{TEST}{TO}[receive]\n[[playback]]\n");
    let plan = || planned_in(&Surroundings::default(), &text).unwrap();
    assert_eq!(plan(), plan());
}
