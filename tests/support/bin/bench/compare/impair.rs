//! What a bad network does to packets, decided packet by packet from a seed.

use std::fmt;
use std::str::FromStr;

use anyhow::Context;

use super::random::Random;

/// What is wrong with a path; each direction suffers alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Impairment {
    /// Share of packets that are lost, each by itself.
    pub(crate) loss: f64,
    /// Gilbert–Elliott: share of packets lost in bursts, and a burst's mean length in packets.
    pub(crate) bursts: Option<(f64, f64)>,
    /// Outages in time: mean milliseconds from one to the next, and their mean length.
    pub(crate) outages: Option<(f64, f64)>,
    /// Every packet is delayed by 0 … this many milliseconds, uniformly; the order is kept.
    pub(crate) jitter_ms: f64,
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss={},jitter={}", self.loss, self.jitter_ms)?;
        if let Some((share, length)) = self.bursts {
            write!(f, ",bursts={share}:{length}")?;
        }
        if let Some((every, length)) = self.outages {
            write!(f, ",outages={every}:{length}")?;
        }
        Ok(())
    }
}

impl FromStr for Impairment {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut impairment = Self::default();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').with_context(|| format!("no = in {part:?}"))?;
            let pair = || -> anyhow::Result<(f64, f64)> {
                let (a, b) = value.split_once(':').context("two numbers")?;
                Ok((a.parse()?, b.parse()?))
            };
            match key {
                "loss" => impairment.loss = value.parse()?,
                "jitter" => impairment.jitter_ms = value.parse()?,
                "bursts" => impairment.bursts = Some(pair()?),
                "outages" => impairment.outages = Some(pair()?),
                _ => anyhow::bail!("{key:?} is no impairment"),
            }
        }
        Ok(impairment)
    }
}

/// Decides one direction's packets.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    impairment: Impairment,
    random: Random,
    /// In a burst.
    bad: bool,
    /// In an outage, and when that changes.
    out: bool,
    until: Option<u64>,
    /// When the last packet left.
    last: u64,
}

impl Fate {
    pub(crate) fn new(impairment: Impairment, seed: u64) -> Self {
        let random = Random::new(seed);
        Self { impairment, random, bad: false, out: false, until: None, last: 0 }
    }

    /// When a packet that comes `now` (nanoseconds) is delivered; none when it is lost.
    pub(crate) fn decide(&mut self, now: u64) -> Option<u64> {
        let lost = [self.in_outage(now), self.in_burst(), self.by_chance()];
        if lost.contains(&true) {
            return None;
        }
        let wait = self.random.uniform() * self.impairment.jitter_ms * 1e6;
        self.last = self.last.max(now + wait as u64);
        Some(self.last)
    }

    fn by_chance(&mut self) -> bool {
        self.impairment.loss > 0.0 && self.random.uniform() < self.impairment.loss
    }

    fn in_burst(&mut self) -> bool {
        let Some((share, length)) = self.impairment.bursts else { return false };
        let leave = 1.0 / length;
        // So that in the long run the share of packets in the bad state is as wanted.
        let enter = leave * share / (1.0 - share);
        let change = if self.bad { leave } else { enter };
        self.bad ^= self.random.uniform() < change;
        self.bad
    }

    fn in_outage(&mut self, now: u64) -> bool {
        let Some((every, length)) = self.impairment.outages else { return false };
        let mut until = match self.until {
            Some(until) => until,
            None => now + (self.random.exponential(every - length) * 1e6) as u64,
        };
        while now >= until {
            self.out = !self.out;
            let mean = if self.out { length } else { every - length };
            until += (self.random.exponential(mean) * 1e6) as u64;
        }
        self.until = Some(until);
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 2_500_000;

    fn lost(impairment: Impairment, packets: u64) -> Vec<bool> {
        let mut fate = Fate::new(impairment, 7);
        (0..packets).map(|k| fate.decide(k * PACKET).is_none()).collect()
    }

    fn share(lost: &[bool]) -> f64 {
        lost.iter().filter(|l| **l).count() as f64 / lost.len() as f64
    }

    #[test]
    fn a_specification_survives_the_way_through_text() {
        let all = Impairment {
            loss: 0.05,
            bursts: Some((0.05, 3.0)),
            outages: Some((1000.0, 20.0)),
            jitter_ms: 20.0,
        };
        for one in [all, Impairment::default()] {
            assert_eq!(one.to_string().parse::<Impairment>().unwrap(), one);
        }
        assert!("los=1".parse::<Impairment>().is_err());
    }

    #[test]
    fn as_much_is_lost_as_was_asked_for_and_the_same_every_time() {
        let five = Impairment { loss: 0.05, ..Impairment::default() };
        let first = lost(five, 100_000);
        assert!((share(&first) - 0.05).abs() < 0.003, "{}", share(&first));
        assert_eq!(first, lost(five, 100_000));
        assert_eq!(share(&lost(Impairment::default(), 1000)), 0.0);
    }

    #[test]
    fn bursts_have_the_wanted_share_and_length() {
        let lost = lost(Impairment { bursts: Some((0.05, 3.0)), ..Impairment::default() }, 400_000);
        assert!((share(&lost) - 0.05).abs() < 0.005, "{}", share(&lost));
        let bursts = lost.windows(2).filter(|w| !w[0] && w[1]).count();
        let mean = lost.iter().filter(|l| **l).count() as f64 / bursts as f64;
        assert!((mean - 3.0).abs() < 0.2, "{mean}");
    }

    #[test]
    fn outages_take_their_share_of_the_time_whatever_the_packet_rate() {
        let outages = Impairment { outages: Some((1000.0, 20.0)), ..Impairment::default() };
        let lost = lost(outages, 2_000_000);
        assert!((share(&lost) - 0.02).abs() < 0.002, "{}", share(&lost));
    }

    #[test]
    fn jitter_delays_by_no_more_than_it_says_and_keeps_the_order() {
        let mut fate = Fate::new(Impairment { jitter_ms: 20.0, ..Impairment::default() }, 1);
        let mut last = 0;
        let mut most = 0;
        for now in (0..10_000).map(|k| k * PACKET) {
            let due = fate.decide(now).unwrap();
            assert!(due >= last && due >= now && due <= now + 20_000_000);
            most = most.max(due - now);
            last = due;
        }
        assert!(most > 19_000_000);
    }
}
