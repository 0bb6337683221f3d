//! The host's monotonic clock, as the core wants it.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use velin_core::identity::WallTime;
use velin_core::time::MonoTime;

/// The epoch of every [`MonoTime`] in this process.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now.
pub fn now() -> MonoTime {
    MonoTime::from_nanos(u64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// The instant of `time`, for timers.
pub(crate) fn instant(time: MonoTime) -> Instant {
    *EPOCH + Duration::from_nanos(time.as_nanos())
}

/// The time of day. Only trust entries with an expiry look at it.
pub(crate) fn wall() -> WallTime {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    WallTime::from_unix(seconds)
}
