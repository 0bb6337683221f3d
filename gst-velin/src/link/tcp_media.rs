//! Media on its way into the TCP connection: for each stream a queue of bounded time that drops the
//! oldest, so that what is sent is never stale.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use velin_core::units::StreamId;

/// Audio of one stream that waits, at most.
const MAX_QUEUED: Duration = Duration::from_millis(60);

/// Packets of all streams that wait, at most, however short they say they are.
const MAX_PACKETS: usize = 1024;

/// Buffers that are kept: 60 ms of two streams with 1 ms each.
const MAX_FREE: usize = 128;

/// Bytes that fit any packet of media (an Ethernet frame), so that no buffer grows later.
const BUFFER: usize = 1536;

/// The queue between streaming threads and the connection's task.
///
/// Both hold its lock for as long as it takes to copy one packet or to move a pointer. Once as many
/// buffers exist as wait at a time, nothing is allocated any more.
#[derive(Debug, Default)]
pub(crate) struct TcpMedia {
    inner: Mutex<Inner>,
    dropped: AtomicU64,
    /// Bytes that TCP had taken and not sent when it was last given some.
    unsent: AtomicU64,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Packet>,
    /// How much of each stream waits; a stream of which nothing waits is not here.
    queued: Vec<(StreamId, Duration)>,
    free: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Packet {
    stream: StreamId,
    duration: Duration,
    bytes: Vec<u8>,
}

/// A packet that was taken out. Its buffer is used again when it is dropped.
#[derive(Debug)]
pub(crate) struct Popped<'a> {
    media: &'a TcpMedia,
    bytes: Vec<u8>,
}

impl TcpMedia {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Queues a packet that holds `duration` of `stream`; `false` if older ones had to go.
    pub(crate) fn push(&self, stream: StreamId, packet: &[u8], duration: Duration) -> bool {
        let dropped = self.lock().push(stream, packet, duration);
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        self.wake.notify_one();
        dropped == 0
    }

    /// Takes out the oldest packet of all.
    pub(crate) fn pop(&self) -> Option<Popped<'_>> {
        let packet = self.lock().remove(0)?;
        Some(Popped { media: self, bytes: packet.bytes })
    }

    /// Returns when there was a [`push`](Self::push) since the last time.
    pub(crate) async fn pushed(&self) {
        self.wake.notified().await;
    }

    /// How much waits of the stream of which most does.
    pub(crate) fn queued(&self) -> Duration {
        self.lock().queued.iter().map(|(_, queued)| *queued).max().unwrap_or_default()
    }

    /// TCP says how much it has not sent.
    pub(crate) fn set_unsent(&self, bytes: usize) {
        self.unsent.store(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that TCP had taken and not sent when it was last given some.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Packets that were never sent because younger ones came.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Gives how many had to go.
    fn push(&mut self, stream: StreamId, packet: &[u8], duration: Duration) -> u64 {
        let mut dropped = 0;
        while self.queued_of(stream) + duration > MAX_QUEUED {
            let Some(oldest) = self.queue.iter().position(|p| p.stream == stream) else { break };
            self.drop_at(oldest);
            dropped += 1;
        }
        if self.queue.len() >= MAX_PACKETS {
            self.drop_at(0);
            dropped += 1;
        }
        let mut bytes = self.free.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER));
        bytes.extend_from_slice(packet);
        self.queue.push_back(Packet { stream, duration, bytes });
        match self.queued.iter_mut().find(|(s, _)| *s == stream) {
            Some((_, queued)) => *queued += duration,
            None => self.queued.push((stream, duration)),
        }
        dropped
    }

    fn remove(&mut self, at: usize) -> Option<Packet> {
        let packet = self.queue.remove(at)?;
        if let Some(i) = self.queued.iter().position(|(s, _)| *s == packet.stream) {
            self.queued[i].1 = self.queued[i].1.saturating_sub(packet.duration);
            if self.queued[i].1.is_zero() {
                self.queued.swap_remove(i);
            }
        }
        Some(packet)
    }

    fn drop_at(&mut self, at: usize) {
        if let Some(packet) = self.remove(at) {
            self.recycle(packet.bytes);
        }
    }

    fn queued_of(&self, stream: StreamId) -> Duration {
        self.queued.iter().find(|(s, _)| *s == stream).map_or(Duration::ZERO, |(_, queued)| *queued)
    }

    fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.free.len() < MAX_FREE {
            bytes.clear();
            self.free.push(bytes);
        }
    }
}

impl Deref for Popped<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Popped<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.media.lock().recycle(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ONE: StreamId = StreamId(1);
    const TWO: StreamId = StreamId(2);

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    fn all(media: &TcpMedia) -> Vec<u8> {
        std::iter::from_fn(|| media.pop().map(|p| p[0])).collect()
    }

    #[test]
    fn sixty_milliseconds_wait_however_long_packets_are() {
        for (packet, fit) in [(1_000, 60), (2_500, 24), (20_000, 3), (60_000, 1)] {
            let media = TcpMedia::new();
            for n in 0..100 {
                assert_eq!(media.push(ONE, &[n], micros(packet)), usize::from(n) < fit);
            }
            assert_eq!(media.queued(), Duration::from_millis(60));
            assert_eq!(media.dropped(), 100 - fit as u64);
            let last: Vec<u8> = (100 - fit as u8..100).collect();
            assert_eq!(all(&media), last);
            assert_eq!(media.queued(), Duration::ZERO);
        }
    }

    #[test]
    fn a_packet_longer_than_the_queue_waits_alone() {
        let media = TcpMedia::new();
        assert!(media.push(ONE, &[1], micros(2_500)));
        assert!(!media.push(ONE, &[2], micros(120_000)));
        assert!(!media.push(ONE, &[3], micros(2_500)));
        assert_eq!(all(&media), [3]);
    }

    #[test]
    fn one_stream_takes_nothing_from_another() {
        let media = TcpMedia::new();
        media.push(TWO, &[200], micros(20_000));
        for n in 0..50 {
            media.push(ONE, &[n], micros(20_000));
            assert!(media.queue_lengths().0 <= 4);
        }
        assert_eq!(all(&media), [200, 47, 48, 49], "in the order they came");
    }

    #[test]
    fn packets_without_duration_are_bounded_too() {
        let media = TcpMedia::new();
        for n in 0..5000u16 {
            media.push(ONE, &n.to_be_bytes(), Duration::ZERO);
        }
        assert_eq!(media.queue_lengths(), (1024, 0));
        assert_eq!(media.dropped(), 5000 - 1024);
    }

    #[test]
    fn buffers_are_used_again() {
        let media = TcpMedia::new();
        let mut buffers = HashSet::new();
        for round in 0..200 {
            for n in 0..24 {
                media.push(ONE, &[round; 1400], micros(2_500));
                assert!(media.queue_lengths().0 <= 24, "{n}");
            }
            // Every other round is too slow and has packets dropped.
            for _ in 0..if round % 2 == 0 { 24 } else { 7 } {
                if let Some(packet) = media.pop() {
                    buffers.insert(packet.as_ptr());
                    assert_eq!(packet.len(), 1400);
                }
            }
        }
        assert!(buffers.len() <= 25, "{} buffers", buffers.len());
    }

    #[tokio::test]
    async fn a_push_wakes_who_waits_and_none_is_lost() {
        let media = TcpMedia::new();
        media.push(ONE, &[1], micros(2_500));
        media.pushed().await;
        let waits = async {
            media.pushed().await;
            media.pop().map(|p| p.to_vec())
        };
        let (popped, _) = tokio::join!(waits, async {
            all(&media);
            media.push(ONE, &[2], micros(2_500))
        });
        assert_eq!(popped, Some(vec![2]));
    }

    impl TcpMedia {
        /// Packets and free buffers.
        fn queue_lengths(&self) -> (usize, usize) {
            let inner = self.lock();
            (inner.queue.len(), inner.free.len())
        }
    }
}
