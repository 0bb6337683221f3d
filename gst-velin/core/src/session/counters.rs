//! What is counted, and never acted upon.

/// Packets of one session by what became of them.
///
/// `forged` and everything after it are packets that moved no state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Control and path packets sealed. Media is counted by its sender.
    pub sent: u64,
    /// Packets opened.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
    /// Wrong key, direction, stream, epoch or content: the tag did not fit.
    pub forged: u64,
    /// Opened before, or too old to tell.
    pub replayed: u64,
    /// An epoch that is not in use.
    pub wrong_epoch: u64,
    /// A stream that is not there, or does not come this way: control only comes by TCP.
    pub unknown_stream: u64,
    /// Not a packet at all.
    pub malformed: u64,
    /// PINGs not answered because there were too many.
    pub unanswered_pings: u64,
    /// Addresses seen that did not answer a challenge.
    pub unproved_addresses: u64,
}

impl std::ops::AddAssign for SessionCounters {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.forged += other.forged;
        self.replayed += other.replayed;
        self.wrong_epoch += other.wrong_epoch;
        self.unknown_stream += other.unknown_stream;
        self.malformed += other.malformed;
        self.unanswered_pings += other.unanswered_pings;
        self.unproved_addresses += other.unproved_addresses;
    }
}
