//! Many senders to one receiver: what it costs, and whether everything is played.

use std::time::Duration;

use super::result::Crowd;
use crate::child::Pipeline;
use crate::latency::Device;
use crate::timer::Hiccups;

/// 960 bytes every 5 ms.
const STEREO: &str = "audiotestsrc is-live=true samplesperbuffer=240 volume=0.005 \
    ! audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved";

/// After everybody has come: delays settle.
const WARM: Duration = Duration::from_secs(3);

/// `senders` in one process send to a receiver in another, for so many seconds.
pub(crate) fn measure(senders: usize, seconds: u64) -> anyhow::Result<Crowd> {
    let device = Device::new()?;
    let mut receiver = Pipeline::play(&format!(
        "velinsrc name=link bind-address=127.0.0.1 port=0 audio-port=0 {} \
         ! audio/x-raw,format=F32LE,rate=48000,channels=2 ! fakesink sync=false",
        device.properties
    ))?;
    let line: String = (0..senders)
        .map(|i| {
            let name = if i == 0 { "name=link" } else { "" };
            format!(
                "{STEREO} ! velinsink {name} link=s{i} stream-name=s{i} packet-time=5000000 \
                 host=127.0.0.1 port={} {} ",
                receiver.port, device.properties
            )
        })
        .collect();
    let mut crowd = Pipeline::play(&line)?;
    receiver.wait_for(senders)?;
    std::thread::sleep(WARM);
    let hiccups = Hiccups::start();
    let before = [receiver.cpu()?, crowd.cpu()?];
    let missing = receiver.not_as_sent()?;
    std::thread::sleep(Duration::from_secs(seconds));
    let [receiving, sending] = [receiver.cpu()? - before[0], crowd.cpu()? - before[1]]
        .map(|used| used as f64 / 1e9 / seconds as f64);
    Ok(Crowd {
        senders,
        seconds,
        receiver: receiving,
        sender: sending,
        missing_ms: (receiver.not_as_sent()? - missing) as f64 / 48.0,
        threads: receiver.threads()?,
        timer: hiccups.finish(),
    })
}
