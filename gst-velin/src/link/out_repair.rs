//! What one receiver of a stream of ours asks for and tells, and what it gets.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use velin_core::resend::{AnswerCounters, Answerer, Budget, History};
use velin_core::time::MonoTime;
use velin_core::units::BlockIndex;
use velin_core::wire::{AudioHeader, Copies, Report};

/// Repair of one stream for one receiver.
#[derive(Debug)]
pub(crate) struct OutRepair {
    history: Option<History>,
    /// The receive thread answers; others look at its counters now and then.
    answerer: Mutex<Option<Answerer>>,
    report: Mutex<Option<Report>>,
    /// The longest distance of the copies it wants.
    copies: AtomicU32,
    /// Reports so far, above the blocks lost on the way in a thousand between the last two.
    loss: AtomicU64,
}

/// Bits of the thousandths below the number of reports.
const LOSS_BITS: u32 = 16;

impl OutRepair {
    /// Without a history nothing is sent again.
    pub(crate) fn new(history: Option<History>) -> Self {
        let answerer = history.clone().map(|history| Answerer::new(history, Budget::Lan));
        Self {
            history,
            answerer: Mutex::new(answerer),
            report: Mutex::default(),
            copies: AtomicU32::new(0),
            loss: AtomicU64::new(0),
        }
    }

    /// Sends again what of `blocks` makes sense.
    pub(crate) fn answer(
        &self,
        now: MonoTime,
        rtt: Duration,
        blocks: impl Iterator<Item = BlockIndex>,
        send: impl FnMut(&AudioHeader, usize, &mut [u8]),
    ) {
        if let Some(answerer) = &mut *lock(&self.answerer) {
            answerer.answer(now, rtt, blocks, send);
        }
    }

    /// What became of its requests.
    pub(crate) fn counters(&self) -> AnswerCounters {
        lock(&self.answerer).as_ref().map(Answerer::counters).unwrap_or_default()
    }

    /// What it told last.
    pub(crate) fn report(&self) -> Option<Report> {
        *lock(&self.report)
    }

    pub(crate) fn set_report(&self, report: &Report) {
        let before = lock(&self.report).replace(*report).unwrap_or_default();
        let lost = |r: &Report| {
            // What came again was lost, too.
            r.lost.wrapping_add(r.by_retransmit).wrapping_add(r.by_redundancy)
        };
        let blocks = report.highest.0.wrapping_sub(before.highest.0);
        // What was given up for lost may still come: then there are less.
        let lost = lost(report).wrapping_sub(lost(&before)).cast_signed().max(0);
        let permille = match blocks {
            1..0x8000_0000 => 1_000 * u64::from(lost.cast_unsigned()) / u64::from(blocks),
            // The stream pauses, or was begun anew.
            _ => 0,
        };
        let count = (self.loss.load(Ordering::Relaxed) >> LOSS_BITS) + 1;
        self.loss.store(count << LOSS_BITS | permille.min(1_000), Ordering::Relaxed);
    }

    /// How many reports have come, and which share of the blocks was lost between the last two.
    pub(crate) fn loss(&self) -> (u32, f64) {
        let loss = self.loss.load(Ordering::Relaxed);
        let permille = loss & ((1 << LOSS_BITS) - 1);
        ((loss >> LOSS_BITS) as u32, permille as f64 / 1_000.0)
    }

    /// The copies it wants, where there is a history to take them from.
    pub(crate) fn copies(&self) -> Option<(Copies, &History)> {
        let longest = self.copies.load(Ordering::Relaxed);
        let all = [Copies::Next, Copies::Second, Copies::SecondAndFourth];
        let copies = all.into_iter().find(|copies| copies.longest() == longest)?;
        Some((copies, self.history.as_ref()?))
    }

    pub(crate) fn set_copies(&self, copies: Copies) {
        self.copies.store(copies.longest(), Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_what_did_not_come_in_its_first_packet_since_the_last_report() {
        let repair = OutRepair::new(None);
        assert_eq!(repair.loss(), (0, 0.0));
        let tell = |highest, lost, by_retransmit, by_redundancy| {
            repair.set_report(&Report {
                highest: BlockIndex(highest),
                lost,
                by_retransmit,
                by_redundancy,
                ..Report::default()
            });
            repair.loss()
        };
        assert_eq!(tell(100, 1, 2, 3), (1, 0.06));
        assert_eq!(tell(200, 1, 12, 3), (2, 0.1));
        assert_eq!(tell(300, 1, 12, 3), (3, 0.0));
        // One of the lost has come, late, and the stream stands still.
        assert_eq!(tell(300, 0, 12, 3), (4, 0.0));
        assert_eq!(tell(310, 200, 12, 3), (5, 1.0));
        // Numbers that begin anew.
        assert_eq!(tell(10, 0, 0, 0), (6, 0.0));
    }
}
