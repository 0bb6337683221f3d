//! With `drift=off` and one stream, what comes out is what went in, bit for bit.

use gst::prelude::*;

use crate::support::{Device, Line, Receiver, undisturbed};

/// A frame that is like no other: a hash of its number, in every format's full width.
fn frame(format: &str, channels: u32, number: u64, out: &mut Vec<u8>) {
    for channel in 0..u64::from(channels) {
        let bits = hash(number * 8 + channel);
        match format {
            "S16LE" => out.extend_from_slice(&bits.to_le_bytes()[..2]),
            "S24LE" => out.extend_from_slice(&bits.to_le_bytes()[..3]),
            _ => {
                let sample = (bits as i32 >> 8) as f32 / 8_388_608.0;
                out.extend_from_slice(&sample.to_le_bytes());
            }
        }
    }
}

/// SplitMix64's finaliser.
fn hash(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Sends 1.3 s of hashed frames and compares all that follows the first frame heard, up to the end
/// of the first second. `false` if the machine did not keep up, and that was counted.
fn comes_out_as_it_went_in(format: &str, rate: u32, channels: u32) -> bool {
    let device = Device::new();
    let mask = if channels > 2 { ",channel-mask=(bitmask)0x0" } else { "" };
    let caps = format!(
        "audio/x-raw,format={format},rate={rate},channels={channels},layout=interleaved{mask}"
    );
    let receiver = Receiver::playing(
        &device,
        "bind-address=127.0.0.1 drift=off profile=fixed latency=400",
        &caps,
    );
    let sender = Line::parse(&format!(
        "appsrc name=in format=time caps=\"{caps}\" ! velinsink port={} {}",
        receiver.port(),
        device.files()
    ));
    let input = sender.element("in").downcast::<gst_app::AppSrc>().unwrap();
    sender.set(gst::State::Playing);

    let mut sent = Vec::new();
    let frames = u64::from(rate) * 13 / 10;
    let mut from = 0;
    while from < frames {
        // Never whole blocks of the link.
        let to = (from + 1000).min(frames);
        let start = sent.len();
        (from..to).for_each(|n| frame(format, channels, n, &mut sent));
        let mut buffer = gst::Buffer::from_slice(sent[start..].to_vec());
        let time = |n: u64| gst::ClockTime::from_nseconds(n * 1_000_000_000 / u64::from(rate));
        let fields = buffer.get_mut().unwrap();
        fields.set_pts(time(from));
        fields.set_duration(time(to) - time(from));
        input.push_buffer(buffer).unwrap();
        from = to;
    }
    input.end_of_stream().unwrap();

    let size = sent.len() / frames as usize;
    sent.truncate(rate as usize * size);
    let (first, heard) = receiver.tape.wait("the end of what was sent", |heard| {
        let sound = heard.iter().position(|b| *b != 0)? / size * size;
        let head = heard.get(sound..sound + 16 * size)?;
        let first = (0..sent.len()).step_by(size).find(|at| sent[*at..].starts_with(head));
        let Some(first) = first else {
            assert!(!receiver.was_undisturbed(), "{format} {rate} {channels}: altered at once");
            return Some((sent.len(), Vec::new()));
        };
        let expected = sent.len() - first;
        (heard.len() >= sound + expected).then(|| (first, heard[sound..sound + expected].to_vec()))
    });
    let undisturbed = receiver.was_undisturbed();
    let wrong = heard.chunks(size).zip(sent[first..].chunks(size)).position(|(a, b)| a != b);
    // Wine may take a second to connect, and what nobody takes is dropped.
    let late = cfg!(windows) && first >= sent.len() / 2;
    if late || !undisturbed {
        return false;
    }
    assert_eq!(wrong, None, "{format} {rate} Hz {channels} channels: first wrong frame");
    assert!(first < sent.len() / 2, "too little was heard: from {first} of {}", sent.len());
    receiver.messages().no_error();
    sender.messages.no_error();
    true
}

macro_rules! exact {
    ($($(#[$attribute:meta])* $name:ident: $format:literal $rate:literal;)*) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            for channels in [1, 2, 8] {
                undisturbed(|| comes_out_as_it_went_in($format, $rate, channels));
            }
        }
    )*};
}

exact! {
    s16_at_44_1_khz_is_exact: "S16LE" 44_100;
    s16_at_48_khz_is_exact: "S16LE" 48_000;
    #[cfg_attr(windows, ignore = "Wine asks a server for each datagram: too slow")]
    s16_at_96_khz_is_exact: "S16LE" 96_000;
    #[cfg_attr(windows, ignore = "Wine asks a server for each datagram: too slow")]
    s16_at_192_khz_is_exact: "S16LE" 192_000;
    s24_at_44_1_khz_is_exact: "S24LE" 44_100;
    s24_at_48_khz_is_exact: "S24LE" 48_000;
    #[cfg_attr(windows, ignore = "Wine asks a server for each datagram: too slow")]
    s24_at_96_khz_is_exact: "S24LE" 96_000;
    #[cfg_attr(windows, ignore = "Wine asks a server for each datagram: too slow")]
    s24_at_192_khz_is_exact: "S24LE" 192_000;
    f32_at_44_1_khz_is_exact: "F32LE" 44_100;
    f32_at_48_khz_is_exact: "F32LE" 48_000;
    #[cfg_attr(windows, ignore = "Wine asks a server for each datagram: too slow")]
    f32_at_96_khz_is_exact: "F32LE" 96_000;
    #[cfg_attr(windows, ignore = "Wine asks a server for each datagram: too slow")]
    f32_at_192_khz_is_exact: "F32LE" 192_000;
}
