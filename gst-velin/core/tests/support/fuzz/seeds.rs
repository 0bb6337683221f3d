//! What the fuzzer starts from: real packets, messages and files, and lists of actions.

use velin_core::codec::opus::{AudioType, Encoded, OpusEncoder, OpusFrameSize, OpusSettings};
use velin_core::entropy::Entropy;
use velin_core::handshake::packets::{Carriage, HandshakePacket, Init, Retry, SessionIndex, Vers};
use velin_core::handshake::retry::Token;
use velin_core::identity::{Grants, Identity, Name, TrustBook, TrustedPeer, Via, WallTime};
use velin_core::session::nonce_guard::isolated;
use velin_core::units::{BitRate, Channels};
use velin_core::wire::{
    Accept, CloseCode, CloseReason, FormatOffer, Hello, Hex, Intent, MAX_PACKET, Message, Report,
    StreamAnswer, StreamDirection, StreamKind, StreamOffer, StreamUuid, UdpEndpoint,
    encode_control, frame_packet, put_close, put_ctrl, put_path_challenge, put_path_response,
    put_ping, put_pong,
};

use crate::support::ms;
use crate::support::pair::{Caller, Carrier, Listener, Setup, Wire, format};
use crate::support::rng::Rng;

/// The seeds of `target`.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "control_json" => control_json(),
        "frames_post_auth" => frames_post_auth(),
        "host" => texts(&[
            "desk.local:49000",
            "192.0.2.7:1",
            "[fe80::1%eth0]:49000",
            "::1",
            "2026-11-20T08:40:00Z",
            "2027-01-01 00:00:00.5+02:00",
            "play-to-me, capture-from-me,join-group",
        ]),
        "identity_text" => identity_text(),
        "name" => {
            texts(&["living-room", "Ku\u{308}che", "🎧 desk", "\"a\\u00e9\"", "غرفة", "a\u{202e}b"])
        }
        "opus_blocks" => opus_blocks(),
        "packet_pre_auth" => packet_pre_auth(),
        "playout_ops" => lists(&[
            // One stream at the output's rate: packets and periods in turn, then a gap.
            &[0, 2, 0, 104, 5, 1, 0, 48, 0, 120, 5, 2, 0, 48, 0, 120, 3, 4, 9, 0, 48, 1, 224],
            // Another rate, a fixed delay, silence, the end.
            &[1, 1, 110, 94, 5, 1, 0, 28, 0, 200, 48, 4, 0, 36, 48, 4, 0],
        ]),
        "recipient" => recipient(),
        "session_pair" => lists(&[
            // Both open, a stream each way, audio, new keys, a new address, the end.
            &[
                1, 8, 40, 168, 0, 50, 8, 40, 32, 8, 20, 28, 2, 8, 100, 160, 8, 20, 120, 2, b'h',
                b'i',
            ],
            // A spoofed source, replays, an edited piece of TCP.
            &[2, 8, 40, 8, 50, 70, 1, 8, 60, 86, 9, 20, 1, 2, 114, 0, 30, 4, 8, 20],
            // From the first byte on through a bad network.
            &[3, 0, 12, 60, 80, 80, 80, 80, 0, 200, 40, 24, 30, 8, 200, 32, 178, 1, 8, 255],
            &[4, 40, 0, 200],
            // A victim's address, once, and then silence from there.
            &[5, 8, 8, 100, 70, 1, 8, 59, 16, 1, 8, 255],
        ]),
        "session_rogue" => session_rogue(),
        "tcp_deframer" => tcp_deframer(),
        "trace" => texts(&[
            "arrival_ns,media_ns\n1000000,0\n3517242,2500000\n6100000,5000000\n9000000,10000000\n",
            "\u{feff}# a pause, then another timeline\r\n 5 , 77000000 \r\n20000000,97000000\n\
             40000000,3000000000\n50000000,1\n60000000,20000001\n",
            "1,2\n3;4\n",
            "1,99999999999999999999\n",
        ]),
        "trust_toml" => trust_toml(),
        _ => panic!("no seeds for {target}"),
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The lists, and some that nobody wrote.
fn lists(lists: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(1);
    let random = (0..8).map(|i| {
        let mut bytes = vec![0; 20 << (i / 2)];
        rng.fill(&mut bytes);
        bytes
    });
    lists.iter().map(|list| list.to_vec()).chain(random).collect()
}

fn recorded() -> Vec<Wire> {
    isolated(|| {
        let mut pair = Setup::seeded(0xF0).build();
        pair.record();
        pair.run_until_open();
        let _ = pair.play(Caller, ms(10));
        pair.run_for(ms(100));
        let now = pair.now;
        pair.session(Listener).rekey(now);
        pair.run_for(ms(50));
        pair.session(Caller).close(CloseCode::SHUTDOWN, "done");
        pair.run_for(ms(50));
        pair.recorded()
    })
}

fn packet_pre_auth() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for packet in recorded().iter().flat_map(Wire::packets) {
        if let Ok(handshake) = HandshakePacket::decode(&packet, Carriage::Stream) {
            let mut padded = Vec::new();
            handshake.encode(Carriage::Datagram, &mut padded).expect("it fits");
            seeds.push(padded);
            seeds.push(packet);
        } else if seeds.len() < 9 {
            seeds.push(packet);
        }
    }
    let initiator = SessionIndex::new(1).expect("not zero");
    let token = Token([7; 32]);
    let init = Init { initiator, mac1: None, token: Some(token), message: [9; 32] };
    for packet in [
        HandshakePacket::Init(init),
        HandshakePacket::Retry(Retry { initiator, token }),
        HandshakePacket::Vers(Vers { initiator, versions: &[1, 2] }),
    ] {
        let mut bytes = Vec::new();
        packet.encode(Carriage::Stream, &mut bytes).expect("it fits");
        seeds.push(bytes);
    }
    seeds
}

fn frames_post_auth() -> Vec<Vec<u8>> {
    const CONTROL: u8 = 0;
    const PATH: u8 = 1;
    const MEDIA: u8 = 2;
    let with = |stream: u8, put: &dyn Fn(&mut Vec<u8>)| {
        let mut seed = vec![stream];
        put(&mut seed);
        seed
    };
    vec![
        with(PATH, &|out| put_ping(7, 1 << 40, out)),
        with(PATH, &|out| put_pong(7, 1, 2, 3, out)),
        with(PATH, &|out| {
            put_path_challenge(42, out);
            put_path_response(43, out);
        }),
        with(CONTROL, &|out| put_ctrl(0, b"\0\x11{\"t\":\"path-lost\"}", out)),
        with(CONTROL, &|out| put_close(&CloseReason::new(CloseCode::OK, "goodbye"), out)),
        with(CONTROL, &|out| out.extend([&[0x0B, 1][..], &[0; 10], &[1; 12]].concat())),
        with(MEDIA, &|out| {
            out.extend([1, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8, 1, 2, 3, 4])
        }),
        with(MEDIA, &|out| out.extend([1, 2, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8, 0, 48])),
        with(MEDIA, &|out| out.extend([2, 1, 0, 2, 0, 0, 0, 9, 4, 1, 0, 0, 5, 6])),
        with(MEDIA, &|out| out.extend([3, 1, 0, 0, 0, 0, 0, 1, 0, 3])),
        with(MEDIA, &|out| {
            out.extend(Report { lost: 3, late: 4, drift_ppb: -5, ..Report::default() }.encode())
        }),
        with(MEDIA, &|out| out.extend([&[7][..], &[1; 27]].concat())),
        with(MEDIA, &|out| out.extend([0x41, 0, 0, 2, 9, 9, 0, 0, 0])),
    ]
}

fn control_json() -> Vec<Vec<u8>> {
    let name = Name::new("Küche").expect("a name");
    let hello = Hello {
        versions: vec![1],
        intent: Intent::Stream,
        agent: Name::new("velin/0.1.0").ok(),
        name: Some(name.clone()),
        udp: Some(UdpEndpoint { port: 49001, mtu: 1200 }),
        critical: Vec::new(),
    };
    let messages = messages(name);
    let whole: Vec<u8> = messages.iter().flat_map(encode_control).collect();
    let mut seeds = vec![[&[0][..], &hello.encode()].concat(), [&[7][..], &whole].concat()];
    seeds.extend(messages.iter().map(|message| [&[1][..], &message.encode()].concat()));
    seeds.extend(
        [
            r#"{"t":"accept","versions":[1],"critical":["x"],"more":{"a":[1,2]}}"#,
            r#"{"t":"stream-add","id":1,"dir":"recv","name":"x","uuid":"00","kind":"other","formats":[{"c":"opus","rate":48000}]}"#,
            r#"{"t":"later","a":[[[[[[1]]]]]],"b":"\u00e9\\\""}"#,
        ]
        .map(|json| [&[1][..], json.as_bytes()].concat()),
    );
    seeds
}

fn messages(name: Name) -> Vec<Message> {
    let accept = Accept {
        versions: vec![1],
        agent: None,
        name: Some(name.clone()),
        udp: Some(UdpEndpoint { port: 49001, mtu: 1200 }),
        streams: vec![StreamAnswer { id: 1, format: 0 }],
        critical: Vec::new(),
    };
    let offer = StreamOffer {
        ask: None,
        id: 1,
        dir: StreamDirection::Send,
        name,
        uuid: StreamUuid(Hex([7; 16])),
        kind: StreamKind::Playback,
        formats: vec![
            FormatOffer::of(&format()),
            FormatOffer::Opus { rate: 48_000, ch: 2, kbps: 128, frames: 240, skip: 120 },
            FormatOffer::Unknown,
        ],
    };
    vec![
        Message::Accept(accept),
        Message::PathLost,
        Message::Rekey { epoch: 1, public: Hex([9; 32]) },
        Message::RekeyAck { epoch: 1, public: Hex([8; 32]) },
        Message::StreamAdd(offer),
        Message::StreamOk(StreamAnswer { id: 1, format: 0 }),
        Message::StreamRemove { id: 1, code: 0x120 },
    ]
}

/// A tone through the encoder, with a block missing, one of silence, and one that says it twice.
fn opus_blocks() -> Vec<Vec<u8>> {
    let seed = |shape: u8, audio_type, bits| {
        let size = OpusFrameSize::ALL[usize::from(shape & 7)];
        let channels = if shape & 8 == 0 { Channels::MONO } else { Channels::STEREO };
        let bit_rate = BitRate::new(bits).expect("a bit rate");
        let settings = OpusSettings { channels, size, bit_rate, audio_type, dtx: true };
        let mut encoder = OpusEncoder::new(settings).expect("libopus");
        encoder.set_loss(0.1).expect("libopus");
        let mut bytes = vec![shape];
        let mut payload = vec![0; encoder.format().block_bytes()];
        let samples = size.frames() as usize * channels.get();
        for block in 0..14_u8 {
            let tone = |i| 0.3 * ((usize::from(block) * samples + i) as f32 * 0.05).sin();
            let mut audio: Vec<f32> = (0..samples).map(tone).collect();
            let encoded = encoder.encode(&mut audio, &mut payload).expect("libopus");
            let (Encoded::Sound(n) | Encoded::Pause(n)) = encoded;
            match block {
                5 => bytes.push(0),
                9 => bytes.extend([1, 0]),
                _ => {
                    bytes.extend([0x0F, (n >> 8) as u8, n as u8]);
                    bytes.extend_from_slice(&payload[..n]);
                }
            }
        }
        bytes
    };
    vec![
        seed(0, AudioType::RestrictedLowDelay, 128_000),
        seed(9, AudioType::Generic, 96_000),
        seed(3, AudioType::Voice, 24_000),
        seed(13, AudioType::Voice, 16_000),
    ]
}

fn session_rogue() -> Vec<Vec<u8>> {
    let mut path = Vec::new();
    put_ping(1, 2, &mut path);
    put_path_challenge(3, &mut path);
    let seed = |actions: &[&[u8]]| [&[0][..], &actions.concat()].concat();
    let json = |json: &str| [&[2, json.len() as u8][..], json.as_bytes()].concat();
    let sent = |op: u8, stream: u8, frames: &[u8]| {
        [&[op, stream, frames.len() as u8][..], frames].concat()
    };
    let audio = [1, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8, 1, 2];
    vec![
        seed(&[&[0, 9], &sent(14, 100, &path), &sent(20, 100, &path)]),
        seed(&[
            &[6, 0, 1, 0, 120],
            &[0, 9],
            &sent(20, 141, &audio),
            &sent(14, 141, &audio),
            &[9, 0, 1, 0, 0],
        ]),
        seed(&[
            &[26],
            &[10, 0, 2, 0],
            &[27],
            &sent(14, 142, &Report::default().encode()),
            &[29, 0, 2],
        ]),
        seed(&[&[25], &[43, 1, 9], &[1, 200], &[13], &[11, 1, 7]]),
        seed(&[&json(r#"{"t":"later","a":{"b":[1]}}"#), &json(r#"{"t":"accept","versions":[1]}"#)]),
        [&[35][..], br#"{"versions":[1,2],"intent":"stream"}"#, &[1, 50]].concat(),
    ]
    .into_iter()
    .chain(lists(&[]))
    .collect()
}

fn tcp_deframer() -> Vec<Vec<u8>> {
    let mut connection = Vec::new();
    for wire in recorded().iter().filter(|w| w.carrier == Carrier::Tcp && w.to == Listener) {
        connection.extend_from_slice(&wire.bytes);
    }
    connection.truncate(1500);
    let mut long = Vec::new();
    frame_packet(&[5; 4096], &mut long);
    frame_packet(&[6; MAX_PACKET - 12_000], &mut long);
    vec![
        [&[0][..], &connection].concat(),
        [&[7, 1, 2, 50][..], &connection].concat(),
        [&[3, 200][..], &long].concat(),
        [&[2, 3][..], &[0, 1, 9, 0, 2, 8, 8, 0, 0]].concat(),
        vec![0, 0x10, 1, 5],
        vec![1, 0x40, 0x11, 5],
    ]
}

fn identity_text() -> Vec<Vec<u8>> {
    let identity = Identity::from_secret([3; 32]);
    let text = identity.to_secret_text();
    let file =
        format!("# created: 2026\n# public key: {}\n{}\n", identity.public().recipient(), *text);
    let mut seeds = texts(&[
        &text,
        &file,
        &format!("\n{}\r\n", *text),
        &format!("{}\n{}", *text, *text),
        &text.replace('Q', "P"),
        "AGE-PLUGIN-YUBIKEY-1QQQQ",
        "AGE-SECRET-KEY-PQ-1QQQQ",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ]);
    seeds.push([0xF7; 32].to_vec());
    seeds
}

fn recipient() -> Vec<Vec<u8>> {
    let key = Identity::from_secret([3; 32]).public();
    let text = key.recipient();
    let mut seeds = texts(&[
        &text,
        &text.to_uppercase(),
        &text.replace('q', "p"),
        "age1pq1qq",
        "ssh-ed25519 AA",
    ]);
    seeds.extend([key.0.to_vec(), [0; 32].to_vec()]);
    seeds
}

fn trust_toml() -> Vec<Vec<u8>> {
    let key = |seed| Identity::from_secret([seed; 32]).public();
    let mut book = TrustBook::default();
    for (seed, name) in [(1, Some("living-room")), (2, None)] {
        let peer = TrustedPeer {
            key: key(seed),
            name: name.and_then(|name| Name::new(name).ok()),
            may: Grants::PLAY_TO_ME,
            via: Via::File,
            added: name.map(|_| WallTime::from_unix(1_800_000_000)),
            host: name.and_then(|_| "[::1]:49000".parse().ok()),
            expires: name.map(|_| WallTime::from_unix(1_900_000_000)),
        };
        book.add(peer).expect("a new peer");
    }
    let (one, two) = (key(1).recipient(), key(2).recipient());
    texts(&[
        &book.to_toml(),
        &format!("# devices\n{one}\n\n  {two}\r\n"),
        &format!("{one}\n{one}\n"),
        &format!(
            "version = 1\n[[peer]]\nrecipient = '{one}'\nmay = []\nadded = 2026-11-20T08:40:00Z\n"
        ),
        &format!(
            "version = 1\npeer = [{{ recipient = \"{two}\", may = [\"join-group\"], via = \"sas\" }}]"
        ),
        "version = 2\n",
    ])
}
