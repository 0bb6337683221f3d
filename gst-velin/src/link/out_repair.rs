//! What one receiver of a stream of ours asks for and tells, and what it gets.

use std::sync::atomic::{AtomicU32, Ordering};
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
}

impl OutRepair {
    /// Without a history nothing is sent again.
    pub(crate) fn new(history: Option<History>) -> Self {
        let answerer = history.clone().map(|history| Answerer::new(history, Budget::Lan));
        Self {
            history,
            answerer: Mutex::new(answerer),
            report: Mutex::default(),
            copies: AtomicU32::new(0),
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
        *lock(&self.report) = Some(*report);
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
