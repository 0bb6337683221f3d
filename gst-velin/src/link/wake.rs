//! When the machine has slept: its clocks jump, and every link wants to know at once.

use std::sync::LazyLock;

use tokio::sync::watch;

static JUMPS: LazyLock<watch::Sender<u64>> = LazyLock::new(|| {
    let (jumps, _) = watch::channel(0);
    let told = jumps.clone();
    // Without the runtime there is no link that could want to know.
    if let Ok(runtime) = super::runtime::handle() {
        runtime.spawn(platform::notice(move || told.send_modify(|n| *n += 1)));
    }
    jumps
});

/// Waits for jumps of the clock.
pub(crate) struct Watch(watch::Receiver<u64>);

/// From now on.
pub(crate) fn watch() -> Watch {
    Watch(JUMPS.subscribe())
}

impl Watch {
    /// The clock has jumped: the machine slept, or somebody set it.
    pub(crate) async fn jumped(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// Far beyond the life of any process.
    const NEVER: i64 = 1 << 40;

    /// Calls `told` whenever the time of day jumps, which it does at every wake-up of the machine.
    /// The kernel cancels a timer on the time of day then (timerfd_create(2),
    /// `TFD_TIMER_CANCEL_ON_SET`): nothing has to look at clocks from time to time.
    pub(super) async fn notice(told: impl Fn()) {
        let Ok(timer) = timer() else { return };
        // SAFETY: an `OwnedFd` stays the same open descriptor until it is dropped, with `AsyncFd`.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        let Ok(timer) = timer else { return };
        loop {
            if arm(timer.get_ref()).is_err() {
                return;
            }
            let Ok(mut ready) = timer.readable().await else { return };
            let mut count = [0; 8];
            match rustix::io::read(timer.get_ref(), &mut count) {
                Err(rustix::io::Errno::CANCELED) => told(),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    fn timer() -> rustix::io::Result<OwnedFd> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        timerfd_create(TimerfdClockId::Realtime, flags)
    }

    fn arm(timer: &OwnedFd) -> rustix::io::Result<()> {
        let never = Timespec { tv_sec: NEVER, tv_nsec: 0 };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: zero, it_value: never };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(timer, flags, &spec).map(|_| ())
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    /// Sessions notice by themselves that their timers came late.
    pub(super) async fn notice(_: impl Fn()) {
        std::future::pending::<()>().await;
    }
}
