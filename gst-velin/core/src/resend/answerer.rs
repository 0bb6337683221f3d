//! Which of the blocks that a receiver asks for are sent again, and how often.

use std::time::Duration;

use super::history::History;
use crate::playout::MAX_PAYLOAD;
use crate::session::{MEDIA_HEAD, MEDIA_OVERHEAD};
use crate::time::MonoTime;
use crate::units::BlockIndex;
use crate::wire::{AudioFlags, AudioHeader};

/// A block is sent again at most once in a round trip and this.
const PAUSE: Duration = Duration::from_millis(1);
/// Above this share of blocks asked for, each is sent twice.
const MUCH_LOSS: f64 = 0.02;
/// The share is that of about the last two seconds.
const MEMORY_S: f64 = 2.0;
/// Bytes of a datagram around a sealed packet: IPv6 and UDP headers would be 48, IPv4 and UDP 28.
const AROUND: usize = 28;

/// How much may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// 60 % of what the stream itself sends, averaged over a second.
    Lan,
    /// 25 %.
    Tunnel,
}

impl Budget {
    fn share(self) -> f64 {
        match self {
            Self::Lan => 0.60,
            Self::Tunnel => 0.25,
        }
    }
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerCounters {
    /// Requests that came.
    pub requests: u64,
    /// Blocks that were asked for, each time counted.
    pub asked: u64,
    /// Packets that were sent again.
    pub resent: u64,
    /// Blocks that are not kept any more, or never were sent.
    pub unknown: u64,
    /// Blocks that had been sent again a moment before.
    pub repeated: u64,
    /// Blocks that were not sent again because the budget was used up.
    pub refused: u64,
}

/// Answers the requests of one receiver of a stream. Whatever is asked, no more than the budget is
/// sent.
#[derive(Debug)]
pub struct Answerer {
    history: History,
    /// By the block's number modulo their count: which block, and when it was sent again.
    sent: Box<[(BlockIndex, Option<MonoTime>)]>,
    share: f64,
    /// Bytes that may be sent again now.
    tokens: f64,
    /// What the history said last.
    blocks: u64,
    bytes: u64,
    /// Of the recent blocks, how many there were and how many were asked for.
    recent: f64,
    asked: f64,
    counters: AnswerCounters,
    packet: Box<[u8]>,
}

impl Answerer {
    /// For one receiver. Allocates all it will ever need.
    pub fn new(history: History, budget: Budget) -> Self {
        let (blocks, bytes) = history.written();
        let mut answerer = Self {
            sent: vec![(BlockIndex(0), None); history.capacity()].into(),
            share: budget.share(),
            tokens: 0.0,
            blocks,
            bytes,
            recent: 0.0,
            asked: 0.0,
            counters: AnswerCounters::default(),
            packet: vec![0; MEDIA_OVERHEAD + MAX_PAYLOAD].into(),
            history,
        };
        answerer.tokens = answerer.most_tokens();
        answerer
    }

    /// Sends again what of `blocks` makes sense, through `send`: the block's header, and a buffer
    /// that holds so many bytes of payload at [`MEDIA_HEAD`] and room for sealing them in place.
    /// `rtt` is the session's. Never allocates.
    pub fn answer(
        &mut self,
        now: MonoTime,
        rtt: Duration,
        blocks: impl Iterator<Item = BlockIndex>,
        mut send: impl FnMut(&AudioHeader, usize, &mut [u8]),
    ) {
        self.refill();
        self.counters.requests += 1;
        // Jitter may bring two requests a round trip apart nearer to each other.
        let pause = rtt / 2 + PAUSE;
        for block in blocks {
            self.counters.asked += 1;
            let place = block.0 as usize % self.sent.len();
            let known = self.sent[place].0 == block;
            let before = self.sent[place].1.filter(|_| known);
            if before.is_some_and(|at| now.since(at) < pause) {
                self.counters.repeated += 1;
                continue;
            }
            if before.is_none() {
                self.asked += 1.0;
            }
            let copies = if self.asked > MUCH_LOSS * self.recent { 2 } else { 1 };
            for _ in 0..copies {
                let Some(found) = self.history.read(block, &mut self.packet[MEDIA_HEAD..]) else {
                    self.counters.unknown += 1;
                    self.asked -= f64::from(u8::from(before.is_none()));
                    break;
                };
                let (mut header, length) = found;
                let cost = (length + MEDIA_OVERHEAD + AROUND) as f64;
                if self.tokens < cost {
                    self.counters.refused += 1;
                    break;
                }
                self.tokens -= cost;
                self.sent[place] = (block, Some(now));
                self.counters.resent += 1;
                header.flags = header.flags.with(AudioFlags::RETRANSMISSION);
                send(&header, length, &mut self.packet);
            }
        }
    }

    /// What became of the requests so far.
    pub fn counters(&self) -> AnswerCounters {
        self.counters
    }

    /// The stream's own bytes are what the budget is a share of.
    fn refill(&mut self) {
        let (blocks, bytes) = self.history.written();
        let more = blocks.saturating_sub(self.blocks) as f64;
        let payload = bytes.saturating_sub(self.bytes) as f64;
        (self.blocks, self.bytes) = (blocks, bytes);
        let own = payload + more * (MEDIA_OVERHEAD + AROUND) as f64;
        self.tokens = (self.tokens + self.share * own).min(self.most_tokens());
        let kept = (-more * self.history.block_duration().as_secs_f64() / MEMORY_S).exp();
        self.recent =
            (self.recent * kept + more).max(1.0 / self.history.block_duration().as_secs_f64());
        self.asked *= kept;
    }

    /// A second's worth.
    fn most_tokens(&self) -> f64 {
        let packet = (self.history.block_bytes() + MEDIA_OVERHEAD + AROUND) as f64;
        self.share * packet / self.history.block_duration().as_secs_f64().max(1e-5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resend::{HistoryWriter, history};
    use crate::units::FrameIndex;

    const BLOCK: Duration = Duration::from_micros(2_500);
    const RTT: Duration = Duration::from_millis(2);

    fn ms(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    fn written(n: u32) -> (HistoryWriter, Answerer) {
        let (mut writer, history) = history(480, BLOCK);
        (0..n).for_each(|i| write(&mut writer, i));
        (writer, Answerer::new(history, Budget::Lan))
    }

    fn write(writer: &mut HistoryWriter, i: u32) {
        let ts = FrameIndex(u64::from(i) * 120);
        let header = AudioHeader { flags: AudioFlags::NONE, block: BlockIndex(i), ts };
        writer.push(&header, &[i as u8; 480]);
    }

    fn ask(answerer: &mut Answerer, now: MonoTime, blocks: &[u32]) -> Vec<u32> {
        let mut out = Vec::new();
        answerer.answer(now, RTT, blocks.iter().copied().map(BlockIndex), |h, n, packet| {
            assert!(h.flags.contains(AudioFlags::RETRANSMISSION));
            assert_eq!(n, 480);
            assert!(packet[MEDIA_HEAD..MEDIA_HEAD + n].iter().all(|b| *b == h.block.0 as u8));
            out.push(h.block.0);
        });
        out
    }

    #[test]
    fn a_block_is_sent_again_once_in_a_round_trip() {
        let (_writer, mut a) = written(100);
        assert_eq!(ask(&mut a, ms(0), &[40, 41, 100, 5_000]), [40, 41]);
        assert!(ask(&mut a, ms(1), &[40]).is_empty());
        assert_eq!(ask(&mut a, ms(3), &[40]), [40]);
        let c = a.counters();
        assert_eq!((c.requests, c.asked, c.resent, c.unknown, c.repeated), (3, 6, 3, 2, 1));
    }

    #[test]
    fn where_much_is_asked_for_it_goes_twice() {
        let (mut writer, mut a) = written(0);
        let mut sent = 0;
        for i in 0..4_000 {
            write(&mut writer, i);
            if i % 20 == 0 {
                sent = ask(&mut a, ms(u64::from(i) * 5 / 2), &[i]).len();
            }
        }
        assert_eq!(sent, 2);
        for i in 4_000..12_000 {
            write(&mut writer, i);
            if i % 200 == 0 {
                sent = ask(&mut a, ms(u64::from(i) * 5 / 2), &[i]).len();
            }
        }
        assert_eq!(sent, 1);
    }

    #[test]
    fn a_hostile_receiver_gets_no_more_than_the_budget() {
        for (budget, share) in [(Budget::Lan, 0.60), (Budget::Tunnel, 0.25)] {
            let (mut writer, history) = history(480, BLOCK);
            let mut a = Answerer::new(history, budget);
            let mut resent = 0;
            // Ten seconds in which all that is kept is asked for after each block.
            for i in 0..4_000_u32 {
                write(&mut writer, i);
                let all: Vec<_> = (i.saturating_sub(300)..i + 300).collect();
                let now = MonoTime::from_nanos(u64::from(i) * 2_500_000);
                resent += ask(&mut a, now, &all).len();
            }
            let most = share * 4_400.0;
            assert!((0.9 * most..=1.0 * most + 1.0).contains(&(resent as f64)), "{resent}");
            assert!(a.counters().refused > 100_000);
        }
    }

    #[test]
    fn a_stream_that_pauses_is_not_sent_for_ever() {
        let (_writer, mut a) = written(200);
        let all: Vec<_> = (0..200).collect();
        let resent: usize = (0..1_000).map(|i| ask(&mut a, ms(i * 100), &all).len()).sum();
        assert!(resent <= 240, "{resent}");
    }
}
