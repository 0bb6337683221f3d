//! Many: devices that come back, receivers of one sender, callers of one receiver. The two sides
//! are processes of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use gstvelin::link::store::identity_file;

use crate::child::Pipeline;
use crate::latency::Device;
use crate::stats::Values;

/// 320 bytes of samples every 20 ms, for sessions that only have to be there.
const LIGHT: &str = "audiotestsrc is-live=true samplesperbuffer=160 volume=0.005 \
    ! audio/x-raw,format=S16LE,rate=8000,channels=1,layout=interleaved";

/// 480 bytes every 2.5 ms: the default.
const MUSIC: &str = "audiotestsrc is-live=true samplesperbuffer=120 volume=0.2 \
    ! audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved";

/// 960 bytes every 10 ms.
const VOICE: &str = "audiotestsrc is-live=true samplesperbuffer=480 volume=0.005 \
    ! audio/x-raw,format=S16LE,rate=48000,channels=1,layout=interleaved";

/// After everybody has come.
const WARM: Duration = Duration::from_secs(2);

/// How long 128 known devices take to come back to a receiver that was killed.
pub(crate) fn comeback(short: bool) -> anyhow::Result<()> {
    const N: usize = 128;
    let rounds = if short { 2 } else { 10 };
    let crowd = Crowd::new(N)?;
    let receiver = |ports: &str| {
        Pipeline::play(&format!(
            "velinsrc name=link bind-address=127.0.0.1 {ports} {} \
             ! audio/x-raw,format=S16LE,rate=8000,channels=1 ! fakesink sync=false",
            crowd.here
        ))
    };
    let mut first = receiver("port=0 audio-port=0")?;
    let ports = format!("port={} audio-port={}", first.port, first.audio_port);
    let senders: String = crowd
        .devices
        .iter()
        .enumerate()
        .map(|(i, files)| {
            let name = if i == 0 { "name=link" } else { "" };
            format!(
                "{LIGHT} ! velinsink {name} link=s{i} stream-name=s{i} packet-time=20000000 \
                 host=127.0.0.1 port={} {files} ",
                first.port
            )
        })
        .collect();
    let _senders = Pipeline::play(&senders)?;
    first.wait_for(N)?;
    let mut first = Some(first);
    let mut back = || {
        std::thread::sleep(WARM);
        // The ports are free before the next one takes them.
        drop(first.take());
        let mut next = receiver(&ports)?;
        let ms = next.wait_for(N)?;
        first = Some(next);
        anyhow::Ok(ms as f32)
    };
    let fresh = back()?;
    let mut times = Values::with_capacity(rounds);
    for _ in 0..rounds {
        times.push(back()?);
    }
    let s = times.summary();
    println!("### Return\n");
    println!(
        "{N} known devices, each with a key of its own, stream to a receiver that is killed and \
         started again on its port: from its PLAYING until all {N} streams play. Once with the \
         senders' first attempts, 0.2 s apart, and {rounds} times with later ones, 0.7 s apart.\n"
    );
    println!("| first outage | later ones, median | max |\n|---|---|---|");
    println!("| {fresh:.0} ms | {:.0} ms | {:.0} ms |\n", s.median, s.max);
    Ok(())
}

/// What each receiver of a listening sender costs.
pub(crate) fn fan_out(short: bool) -> anyhow::Result<()> {
    let seconds = if short { 3 } else { 20 };
    println!("### Fan-out\n");
    println!(
        "One listening `velinsink`, S16LE stereo 48 kHz, 2.5 ms; every receiver has a session, keys \
         and a `velinsrc` of its own. Shares of a core over {seconds} s.\n"
    );
    println!("| receivers | sender | sender, per receiver | receiving, per receiver |");
    println!("|---|---|---|---|");
    for n in [1, 16, 64] {
        let device = Device::new()?;
        let mut sender = Pipeline::play(&format!(
            "{MUSIC} ! velinsink name=link mode=listener bind-address=127.0.0.1 port=0 \
             audio-port=0 {}",
            device.properties
        ))?;
        let receivers: String = (0..n)
            .map(|i| {
                let name = if i == 0 { "name=link" } else { "" };
                format!(
                    "velinsrc {name} link=r{i} mode=caller host=127.0.0.1 port={} {} \
                     ! audio/x-raw,format=F32LE,rate=48000,channels=2 ! fakesink sync=false ",
                    sender.port, device.properties
                )
            })
            .collect();
        let mut receivers = Pipeline::play(&receivers)?;
        sender.wait_for(n)?;
        let [sending, receiving] = shares([&mut sender, &mut receivers], seconds)?;
        let each = n as f64;
        println!("| {n} | {sending:.1} % | {:.2} % | {:.2} % |", sending / each, receiving / each);
    }
    println!();
    Ok(())
}

/// What each caller of a listening receiver costs.
pub(crate) fn callers(short: bool) -> anyhow::Result<()> {
    let seconds = if short { 3 } else { 20 };
    println!("### Callers\n");
    println!(
        "One listening `velinsrc`; every caller has a session, keys and a `velinsink` of its own \
         and sends S16LE mono 48 kHz, 10 ms. Shares of a core over {seconds} s.\n"
    );
    println!("| callers | receiver | per caller | sending, per caller | receiver's memory |");
    println!("|---|---|---|---|---|");
    for n in [1, 16, 128] {
        let device = Device::new()?;
        let mut receiver = Pipeline::play(&format!(
            "velinsrc name=link bind-address=127.0.0.1 port=0 audio-port=0 {} \
             ! audio/x-raw,format=F32LE,rate=48000,channels=2 ! fakesink sync=false",
            device.properties
        ))?;
        let senders: String = (0..n)
            .map(|i| {
                let name = if i == 0 { "name=link" } else { "" };
                format!(
                    "{VOICE} ! velinsink {name} link=s{i} stream-name=s{i} packet-time=10000000 \
                     host=127.0.0.1 port={} {} ",
                    receiver.port, device.properties
                )
            })
            .collect();
        let mut senders = Pipeline::play(&senders)?;
        receiver.wait_for(n)?;
        let [receiving, sending] = shares([&mut receiver, &mut senders], seconds)?;
        let each = n as f64;
        println!(
            "| {n} | {receiving:.1} % | {:.2} % | {:.2} % | {:.1} MiB |",
            receiving / each,
            sending / each,
            receiver.memory()? as f64 / 1024.0
        );
    }
    println!();
    Ok(())
}

/// Which share of a core each process uses, in per cent.
fn shares(processes: [&mut Pipeline; 2], seconds: u64) -> anyhow::Result<[f64; 2]> {
    std::thread::sleep(WARM);
    let [one, other] = processes;
    let before = [one.cpu()?, other.cpu()?];
    std::thread::sleep(Duration::from_secs(seconds));
    let used = [one.cpu()? - before[0], other.cpu()? - before[1]];
    Ok(used.map(|used| used as f64 / (seconds * 1_000_000_000) as f64 * 100.0))
}

/// A device and others that it trusts, and that trust it; as properties of elements.
struct Crowd {
    here: String,
    devices: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Crowd {
    fn new(n: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let own = identity_file::load_or_create(Some(&path("here.txt")))?.public().recipient();
        let mut trusted = String::new();
        let mut devices = Vec::new();
        let trust_here = path("trust-here.txt");
        for i in 0..n {
            let identity = path(&format!("{i}.txt"));
            let key = identity_file::load_or_create(Some(&identity))?.public();
            trusted += &(key.recipient() + "\n");
            devices.push(files(&identity, &trust_here));
        }
        let trust = path("trust.txt");
        for (path, text) in [(&trust, trusted), (&trust_here, own + "\n")] {
            fs::write(path, text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(Self { here: files(&path("here.txt"), &trust), devices, _folder: folder })
    }
}

fn files(identity: &std::path::Path, trust: &std::path::Path) -> String {
    format!("identity-file={} trust-file={}", identity.display(), trust.display())
}
