//! Token buckets: how many connections that lead to nothing a source may make, and all together.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use velin_core::time::MonoTime;

/// What one source may spend on connections that never authenticate: 10/s, 20 at once.
const PER_SOURCE: Rate = Rate { interval: Duration::from_millis(100), burst: 20 };

/// What all sources that are not known may spend together: 50/s. At once it is enough for as many
/// devices as there can be sessions, which all come back when a listener starts again.
const GLOBAL: Rate = Rate { interval: Duration::from_millis(20), burst: 256 };

/// Tokens that stay in the global bucket for sources that have not called in vain lately.
const RESERVE: u32 = GLOBAL.burst / 2;

/// A source that called in vain is not fresh for so long.
const SUSPICION: Duration = Duration::from_secs(10);

/// An address where a trusted key authenticated is known for so long.
const MEMORY: Duration = Duration::from_secs(60 * 60);

/// Sources that are remembered, at most.
const MAX_STRANGERS: usize = 1024;

/// Known addresses, at most: twice as many as there can be sessions.
const MAX_KNOWN: usize = 512;

/// Who shares a bucket: an IPv4 address, or an IPv6 network of 64 bits, in which any device can
/// take as many addresses as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// This machine.
    Loopback,
    /// One address.
    V4(Ipv4Addr),
    /// The upper half of an address.
    V6(u64),
}

impl Source {
    /// The source of a connection from `address`. An IPv4 address in IPv6 form is the IPv4 one.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::V6(network(v6)),
        }
    }
}

fn network(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// One connection's token, and which buckets it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    address: IpAddr,
    source: Source,
    known: bool,
}

impl Pass {
    /// Where the connection came from.
    pub(super) fn source(&self) -> Source {
        self.source
    }
}

/// Which bucket is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// The source's own.
    Source,
    /// The one of all, for so long.
    Global(Duration),
}

/// All the buckets. Bounded, whoever calls.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    global: Bucket,
    strangers: HashMap<Source, Stranger>,
    known: HashMap<IpAddr, Known>,
}

#[derive(Debug)]
struct Stranger {
    bucket: Bucket,
    seen: MonoTime,
    /// Until then it is known to have called in vain.
    suspect_until: MonoTime,
}

#[derive(Debug)]
struct Known {
    bucket: Bucket,
    proved: MonoTime,
}

impl Buckets {
    /// Notes that `address` calls; gives whether it called in vain lately.
    pub(super) fn note(&mut self, now: MonoTime, address: IpAddr) -> bool {
        let source = Source::of(address);
        // Nobody outside this machine pays for what a program on it does.
        if source == Source::Loopback {
            return true;
        }
        if self.known_at(now, address) {
            return false;
        }
        if !self.strangers.contains_key(&source) && self.strangers.len() >= MAX_STRANGERS {
            let order = |s: &Stranger| (!s.bucket.is_full(now), s.suspect_until > now, s.seen);
            let first = self.strangers.iter().min_by_key(|(_, s)| order(s)).map(|(k, _)| *k);
            first.map(|first| self.strangers.remove(&first));
        }
        let fresh =
            || Stranger { bucket: Bucket::default(), seen: now, suspect_until: MonoTime::ZERO };
        let stranger = self.strangers.entry(source).or_insert_with(fresh);
        let suspect = stranger.suspect_until > now;
        stranger.seen = now;
        stranger.suspect_until = now + SUSPICION;
        suspect
    }

    /// A token for a connection from `address`.
    pub(super) fn take(
        &mut self,
        now: MonoTime,
        address: IpAddr,
        suspect: bool,
    ) -> Result<Pass, Lack> {
        let source = Source::of(address);
        if self.known_at(now, address)
            && let Some(known) = self.known.get_mut(&address)
        {
            known.bucket.take(now, PER_SOURCE, 0).map_err(|_| Lack::Source)?;
            return Ok(Pass { address, source, known: true });
        }
        let mut stranger = self.strangers.get_mut(&source);
        if let Some(stranger) = &mut stranger {
            stranger.bucket.take(now, PER_SOURCE, 0).map_err(|_| Lack::Source)?;
        }
        let reserve = if suspect { RESERVE } else { 0 };
        if let Err(wait) = self.global.take(now, GLOBAL, reserve) {
            if let Some(stranger) = stranger {
                stranger.bucket.give_back(PER_SOURCE);
            }
            return Err(Lack::Global(wait));
        }
        Ok(Pass { address, source, known: false })
    }

    /// The connection proved that it has a trusted key: it cost nothing, and its address is known
    /// from now on.
    pub(super) fn give_back(&mut self, now: MonoTime, pass: Pass) {
        if !pass.known {
            self.global.give_back(GLOBAL);
            if let Some(stranger) = self.strangers.get_mut(&pass.source) {
                stranger.bucket.give_back(PER_SOURCE);
                stranger.suspect_until = MonoTime::ZERO;
            }
        }
        if pass.source == Source::Loopback {
            return;
        }
        if let Some(known) = self.known.get_mut(&pass.address) {
            known.proved = now;
            if pass.known {
                known.bucket.give_back(PER_SOURCE);
            }
            return;
        }
        if self.known.len() >= MAX_KNOWN {
            let first = self.known.iter().min_by_key(|(_, k)| k.proved).map(|(k, _)| *k);
            first.map(|first| self.known.remove(&first));
        }
        self.known.insert(pass.address, Known { bucket: Bucket::default(), proved: now });
    }

    fn known_at(&self, now: MonoTime, address: IpAddr) -> bool {
        self.known.get(&address).is_some_and(|known| now.since(known.proved) < MEMORY)
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.strangers.len(), self.known.len())
    }
}

/// How fast a bucket fills, and how much fits.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Time for one token.
    interval: Duration,
    /// Tokens in a full bucket.
    burst: u32,
}

/// A token bucket as the time at which it will be full again (the virtual scheduling algorithm of
/// ITU-T I.371, annex A). A new one is full.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: MonoTime,
}

impl Bucket {
    /// Takes a token if that leaves at least `reserve` of them, else says when it would.
    fn take(&mut self, now: MonoTime, rate: Rate, reserve: u32) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + rate.interval;
        let missing = full_at.since(now);
        let most = rate.interval * (rate.burst - reserve);
        if missing > most {
            return Err(missing - most);
        }
        self.full_at = full_at;
        Ok(())
    }

    fn give_back(&mut self, rate: Rate) {
        self.full_at = self.full_at - rate.interval;
    }

    fn is_full(&self, now: MonoTime) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        for _ in 0..20 {
            bucket.take(at(1000), PER_SOURCE, 0).unwrap();
        }
        assert_eq!(bucket.take(at(1000), PER_SOURCE, 0), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(at(1060), PER_SOURCE, 0), Err(Duration::from_millis(40)));
        bucket.take(at(1100), PER_SOURCE, 0).unwrap();
        assert!(bucket.take(at(1100), PER_SOURCE, 0).is_err());
        assert!(!bucket.is_full(at(3099)) && bucket.is_full(at(3100)));
    }

    #[test]
    fn what_is_given_back_can_be_taken_at_once_but_never_overflows() {
        let mut bucket = Bucket::default();
        for _ in 0..20 {
            bucket.take(at(1000), PER_SOURCE, 0).unwrap();
        }
        bucket.give_back(PER_SOURCE);
        bucket.take(at(1000), PER_SOURCE, 0).unwrap();
        assert!(bucket.take(at(1000), PER_SOURCE, 0).is_err());
        for _ in 0..100 {
            bucket.give_back(PER_SOURCE);
        }
        let taken = (0..100).filter(|_| bucket.take(at(9000), PER_SOURCE, 0).is_ok()).count();
        assert_eq!(taken, 20);
    }

    #[test]
    fn a_reserve_is_for_others() {
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, reserve| {
            (0..1000).filter(|_| bucket.take(at(0), GLOBAL, reserve).is_ok()).count()
        };
        assert_eq!(taken(&mut bucket, RESERVE), 128);
        assert_eq!(taken(&mut bucket, 0), 128);
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_so_is_an_ipv4_address_in_either_form() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(local), Source::Loopback, "{local}");
        }
    }

    #[test]
    fn memory_is_bounded_and_who_has_proved_a_key_is_not_forgotten_for_strangers() {
        let mut buckets = Buckets::default();
        let friend: IpAddr = "10.0.0.1".parse().unwrap();
        buckets.note(at(0), friend);
        let pass = buckets.take(at(0), friend, false).unwrap();
        buckets.give_back(at(0), pass);
        for n in 0..5000u32 {
            let stranger = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n));
            buckets.note(at(1), stranger);
            let _ = buckets.take(at(1), stranger, false);
        }
        assert_eq!(buckets.sizes(), (MAX_STRANGERS, 1));
        assert!(buckets.known_at(at(1), friend));
        for n in 0..1000u32 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0x0c00_0000 + n));
            let pass = Pass { address, source: Source::of(address), known: false };
            buckets.give_back(at(2), pass);
        }
        assert_eq!(buckets.sizes().1, MAX_KNOWN);
    }

    #[test]
    fn a_full_table_forgets_first_whose_bucket_is_full() {
        let mut buckets = Buckets::default();
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n));
        let spender = address(0);
        buckets.note(at(0), spender);
        while buckets.take(at(0), spender, false).is_ok() {}
        for n in 1..1024 {
            buckets.note(at(u64::from(n)), address(n));
        }
        buckets.note(at(1024), address(2000));
        assert!(buckets.strangers.contains_key(&Source::of(spender)));
        assert!(!buckets.strangers.contains_key(&Source::of(address(1))));
    }
}
