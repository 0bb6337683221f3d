//! Time, waiting, and how late this machine wakes a thread that does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{Timespec, clock_gettime};

use crate::stats::{Summary, Values};

/// Nanoseconds on CLOCK_MONOTONIC, which is also GStreamer's system clock.
pub(crate) fn now() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds of processor time this process has used.
pub(crate) fn cpu() -> u64 {
    nanos(clock_gettime(ClockId::ProcessCPUTime))
}

/// Waits until `at` on CLOCK_MONOTONIC.
pub(crate) fn sleep_until(at: u64) {
    let at = Timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as i64 };
    while clock_nanosleep_absolute(ClockId::Monotonic, &at).is_err() {}
}

/// A thread that wakes every millisecond and notes how late.
pub(crate) struct Hiccups {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Values>,
}

impl Hiccups {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut late = Values::with_capacity(120_000);
            let mut due = now();
            while !stopped.load(Ordering::Relaxed) {
                due += 1_000_000;
                sleep_until(due);
                let woke = now();
                late.push(woke.saturating_sub(due) as f32 / 1e6);
                if woke > due + 1_000_000 {
                    due = woke;
                }
            }
            late
        });
        Self { stop, thread }
    }

    /// How late it was, in milliseconds.
    pub(crate) fn finish(self) -> Summary {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default().summary()
    }
}

fn nanos(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
