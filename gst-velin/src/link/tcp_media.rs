//! Media on its way into the TCP connection, while UDP does not answer: a short queue that drops
//! the oldest, so that what is sent is never stale.

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;

/// Packets kept: 60 ms at 2.5 ms each. Longer packets are older, but fewer of them fit a
/// connection that is too slow anyway.
const CAPACITY: usize = 24;

/// The queue between a streaming thread and the connection's task.
#[derive(Debug)]
pub(crate) struct TcpMedia {
    queue: ArrayQueue<Vec<u8>>,
    wake: Notify,
}

impl TcpMedia {
    pub(crate) fn new() -> Self {
        Self { queue: ArrayQueue::new(CAPACITY), wake: Notify::new() }
    }

    /// Queues a packet; `false` if an older one had to go.
    pub(crate) fn push(&self, packet: &[u8]) -> bool {
        let dropped = self.queue.force_push(packet.to_vec());
        self.wake.notify_one();
        dropped.is_none()
    }

    pub(crate) fn pop(&self) -> Option<Vec<u8>> {
        self.queue.pop()
    }

    pub(crate) async fn pushed(&self) {
        self.wake.notified().await;
    }
}
