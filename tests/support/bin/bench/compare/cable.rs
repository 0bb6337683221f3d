//! A cable between two machines that loses and delays what an [`Impairment`] says: a process that
//! carries Ethernet frames between two TAP devices. IPv4 suffers; ARP passes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Opcode, Setter, ioctl};

use super::impair::{Fate, Impairment};
use crate::timer::now;

/// Frames and bytes that went into the cable, in each direction, and the frames that it lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) lost: u64,
}

/// What runs in the cable's process: makes the devices `names`, says "ready", and then obeys
/// "impair SPECIFICATION" and "count", which it answers with three numbers per direction.
pub(crate) fn run(names: [&str; 2]) -> anyhow::Result<()> {
    let taps = [tap(names[0])?, tap(names[1])?];
    println!("ready");
    let mut cable = Cable {
        taps,
        fates: [0, 1].map(|d| Fate::new(Impairment::default(), d)),
        counts: [Count::default(); 2],
        waiting: BinaryHeap::new(),
        carried: 0,
    };
    let mut commands = Vec::new();
    loop {
        cable.wait()?;
        for direction in [0, 1] {
            cable.take(direction);
        }
        cable.deliver();
        if !cable.obey(&mut commands)? {
            return Ok(());
        }
    }
}

struct Cable {
    taps: [OwnedFd; 2],
    fates: [Fate; 2],
    counts: [Count; 2],
    waiting: BinaryHeap<Reverse<Frame>>,
    carried: u64,
}

/// A frame in the cable: when it is due, its number, its direction, itself.
type Frame = (u64, u64, usize, Vec<u8>);

/// Frames that are taken in one go.
const BATCH: usize = 64;

impl Cable {
    /// Until there is something to do.
    fn wait(&self) -> anyhow::Result<()> {
        let input = std::io::stdin();
        let mut events = [
            PollFd::new(&self.taps[0], PollFlags::IN),
            PollFd::new(&self.taps[1], PollFlags::IN),
            PollFd::new(&input, PollFlags::IN),
        ];
        let left = self.waiting.peek().map(|Reverse((due, ..))| due.saturating_sub(now()));
        let left = left.map(|ns| Timespec {
            tv_sec: (ns / 1_000_000_000) as i64,
            tv_nsec: (ns % 1_000_000_000) as i64,
        });
        match poll(&mut events, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn take(&mut self, direction: usize) {
        let mut buffer = [0; 2_048];
        for _ in 0..BATCH {
            let Ok(length) = rustix::io::read(&self.taps[direction], &mut buffer) else { return };
            let frame = &buffer[..length];
            let count = &mut self.counts[direction];
            if frame.get(12..14) != Some(&[8, 0]) {
                // Not IPv4.
                let _ = rustix::io::write(&self.taps[1 - direction], frame);
                continue;
            }
            count.frames += 1;
            count.bytes += length as u64;
            match self.fates[direction].decide(now()) {
                Some(due) => {
                    self.carried += 1;
                    self.waiting.push(Reverse((due, self.carried, direction, frame.to_vec())));
                }
                None => count.lost += 1,
            }
        }
    }

    fn deliver(&mut self) {
        while self.waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now()) {
            if let Some(Reverse((.., direction, frame))) = self.waiting.pop() {
                // A full queue loses frames here as in any cable.
                let _ = rustix::io::write(&self.taps[1 - direction], &frame);
            }
        }
    }

    /// False when there is nobody any more who could say something.
    fn obey(&mut self, text: &mut Vec<u8>) -> anyhow::Result<bool> {
        let input = std::io::stdin();
        let mut event = [PollFd::new(&input, PollFlags::IN)];
        if poll(&mut event, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
            return Ok(true);
        }
        let mut buffer = [0; 256];
        let length = rustix::io::read(input.as_fd(), &mut buffer)?;
        text.extend(&buffer[..length]);
        while let Some(end) = text.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            match String::from_utf8_lossy(&line).trim().split_once(' ') {
                Some(("impair", what)) => {
                    let impairment: Impairment = what.parse()?;
                    self.fates = [1, 2].map(|seed| Fate::new(impairment, seed));
                    println!("done");
                }
                Some(_) => bail!("no such command"),
                None => {
                    let numbers =
                        self.counts.map(|c| format!("{} {} {}", c.frames, c.bytes, c.lost));
                    println!("{}", numbers.join(" "));
                }
            }
            std::io::stdout().flush()?;
        }
        Ok(length > 0)
    }
}

/// From Linux' if_tun.h: `_IOW('T', 202, int)`, a device for Ethernet frames without a header of its own.
const TUNSETIFF: Opcode = 0x4004_54ca;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
/// `struct ifreq`: 16 bytes of name, then the flags.
const IFREQ: usize = 40;

fn tap(name: &str) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/net/tun", flags, Mode::empty()).context("/dev/net/tun")?;
    let mut request = [0_u8; IFREQ];
    request.get_mut(..name.len()).context("a short name")?.copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TAP | IFF_NO_PI).to_le_bytes());
    // SAFETY: the kernel reads an ifreq of this size and writes back the name.
    unsafe { ioctl(&device, Setter::<TUNSETIFF, _>::new(request)) }.context("TUNSETIFF")?;
    Ok(device)
}
