//! Clocks and randomness of the operating system.
//!
//! The wall clock may jump; the store makes stored time never decrease. Waiting and backoff use [`monotonic_ns`].

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch by the system's wall clock; negative before it.
#[inline]
pub fn wall_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => {
            (since.as_secs() as i64).saturating_mul(1_000_000).saturating_add(i64::from(since.subsec_micros()))
        }
        Err(error) => i64::try_from(error.duration().as_micros()).map_or(i64::MIN, |before| -before),
    }
}

/// Nanoseconds on a clock that never steps; only differences mean anything.
#[inline]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to. The call cannot fail: the clock exists on every supported system.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}

/// Where a store takes the time of its events from. Cheap to clone.
#[derive(Clone, Default)]
pub enum WallClock {
    /// [`wall_us`].
    #[default]
    System,
    /// A function of the caller's, in microseconds since the Unix epoch.
    Custom(Arc<dyn Fn() -> i64 + Send + Sync>),
}

impl WallClock {
    /// A clock of the caller's.
    pub fn custom(now_us: impl Fn() -> i64 + Send + Sync + 'static) -> WallClock {
        WallClock::Custom(Arc::new(now_us))
    }

    /// Microseconds since the Unix epoch.
    #[inline]
    pub fn now_us(&self) -> i64 {
        match self {
            WallClock::System => wall_us(),
            WallClock::Custom(now_us) => now_us(),
        }
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            WallClock::System => "System",
            WallClock::Custom(_) => "Custom",
        })
    }
}

#[cfg(test)]
thread_local! {
    /// What this thread gets for random bytes: for runs that are to be the same each time.
    pub(crate) static RANDOM_BYTE: std::cell::Cell<Option<u8>> = const { std::cell::Cell::new(None) };
}

/// Random bytes of the operating system's generator.
///
/// # Panics
/// When the system has no generator: neither getrandom(2) nor `/dev/urandom`.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    #[cfg(test)]
    if let Some(byte) = RANDOM_BYTE.get() {
        return [byte; N];
    }
    let mut bytes = [0; N];
    if cfg!(shuttle) {
        // A schedule that is tried again meets the same store.
        return bytes;
    }
    if !fill_from_getrandom(&mut bytes) {
        fill_from_device(&mut bytes).expect("the system has no source of random bytes");
    }
    bytes
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn fill_from_getrandom(bytes: &mut [u8]) -> bool {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: `rest` is writable for its whole length.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            Err(_) if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn fill_from_getrandom(_bytes: &mut [u8]) -> bool {
    false
}

fn fill_from_device(bytes: &mut [u8]) -> std::io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_counts_microseconds_since_1970() {
        let now = wall_us();
        assert!(now > 1_700_000_000_000_000 && now < 10_000_000_000_000_000, "{now}");
        assert!((WallClock::default().now_us() - now).abs() < 60_000_000);
    }

    #[test]
    fn a_custom_clock_is_asked() {
        assert_eq!(WallClock::custom(|| -5).now_us(), -5);
    }

    #[test]
    fn the_monotonic_clock_moves_on() {
        let before = monotonic_ns();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(monotonic_ns() - before >= 2_000_000);
    }

    #[test]
    fn random_bytes_differ_from_both_sources() {
        assert_ne!(random_bytes::<16>(), random_bytes::<16>());
        assert_eq!(random_bytes::<0>(), []);
        let mut bytes = [0; 32];
        fill_from_device(&mut bytes).unwrap();
        assert_ne!(bytes, [0; 32]);
    }
}
