//! The way from the sender's machine to the receiver's: two network namespaces and a cable that can be
//! made bad; without root the loopback, which cannot.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path as FilePath;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, anyhow};
use velin::net::{Namespaces, Side, available};
use velin::proc;

use super::cable::Count;
use super::impair::Impairment;
use super::process::Program;

/// The way.
pub(crate) enum Path {
    /// Two machines.
    Cable { net: Namespaces, cable: Box<Program> },
    /// One machine.
    Loopback,
}

impl Path {
    /// The best one that there is; says so when it is not the cable.
    pub(crate) fn new(folder: &FilePath) -> anyhow::Result<Self> {
        let possible = available().and_then(|()| match FilePath::new("/dev/net/tun").exists() {
            true => Ok(()),
            false => Err("no /dev/net/tun".to_owned()),
        });
        if let Err(reason) = possible {
            println!(
                "{reason}: over the loopback, and without anything that needs a bad network.\n"
            );
            return Ok(Self::Loopback);
        }
        let net = Namespaces::new().map_err(|e| anyhow!(e))?;
        // The cable that comes with them cannot be made bad.
        ip(&["-n", net.name(Side::A), "link", "delete", DEVICE])?;
        let names = ["a", "b"].map(|end| format!("vln{}{end}", std::process::id()));
        let arguments = ["cable", &names[0], &names[1]];
        let cable = Program::helper(&arguments, folder, |command| proc::urgent(&command))?;
        anyhow::ensure!(cable.hear()? == "ready");
        for (side, name) in [Side::A, Side::B].into_iter().zip(&names) {
            let netns = net.name(side);
            ip(&["link", "set", name, "netns", netns, "name", DEVICE])?;
            let address = format!("{}/24", side.ipv4());
            ip(&["-n", netns, "address", "add", &address, "dev", DEVICE])?;
            ip(&["-n", netns, "link", "set", DEVICE, "up"])?;
        }
        Ok(Self::Cable { net, cable: Box::new(cable) })
    }

    /// Whether it can be made bad.
    pub(crate) fn can_be_bad(&self) -> bool {
        matches!(self, Self::Cable { .. })
    }

    /// `command` on the machine at that side.
    pub(crate) fn place(&self, side: Side, command: Command) -> Command {
        match self {
            Self::Cable { net, .. } => net.exec(side, &command),
            Self::Loopback => command,
        }
    }

    pub(crate) fn address(&self, side: Side) -> IpAddr {
        match self {
            Self::Cable { .. } => side.ipv4(),
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// From now on the cable does this to each packet, from the same seeds every time.
    pub(crate) fn impair(&mut self, impairment: Impairment) -> anyhow::Result<()> {
        let Self::Cable { cable, .. } = self else { return Ok(()) };
        cable.say(&format!("impair {impairment}"))?;
        anyhow::ensure!(cable.hear()? == "done");
        Ok(())
    }

    /// What went into the cable so far, there and back.
    pub(crate) fn counts(&mut self) -> anyhow::Result<[Count; 2]> {
        let Self::Cable { cable, .. } = self else { return Ok([Count::default(); 2]) };
        cable.say("count")?;
        let numbers: Vec<u64> =
            cable.hear()?.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [a, b, c, d, e, f] = numbers[..].try_into().context("six numbers")?;
        Ok([Count { frames: a, bytes: b, lost: c }, Count { frames: d, bytes: e, lost: f }])
    }
}

/// The name of the cable's end in both namespaces.
const DEVICE: &str = "velin0";

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    proc::run(command, Duration::from_secs(10)).map_err(|e| anyhow!(e))
}
