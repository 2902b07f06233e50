//! How much failure a worker is allowed: the restart budget and the backoff between retries. Pure; the time is given.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::sync::Instant;

/// How many failures of its handler a worker survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// One restart in the worker's life.
    #[default]
    Once,
    /// `max_restarts` in a window of `within_ms` milliseconds. The window opens at a failure, has a fixed length, and the
    /// first failure after its end opens a new one.
    Bounded {
        /// 0: none.
        max_restarts: u32,
        /// At least 1.
        within_ms: u64,
    },
}

impl RestartPolicy {
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            RestartPolicy::Bounded { within_ms: 0, .. } => Err(Error::InvalidArgument {
                what: "the window of the restart policy",
                value: "0 ms".to_owned(),
                remedy: "give at least 1 ms",
            }),
            _ => Ok(()),
        }
    }
}

/// Restarts used up so far.
#[derive(Debug)]
pub(crate) struct Budget {
    policy: RestartPolicy,
    /// In the window, with [`RestartPolicy::Once`] in the worker's life.
    used: u32,
    window_start: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(policy: RestartPolicy) -> Budget {
        Budget { policy, used: 0, window_start: None }
    }

    /// A failure at `now`: `true` when a restart is allowed, and then used up.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        let allowed = match self.policy {
            RestartPolicy::Once => 1,
            RestartPolicy::Bounded { max_restarts, within_ms } => {
                self.open_window(now, Duration::from_millis(within_ms));
                max_restarts
            }
        };
        let is_left = self.used < allowed;
        self.used += u32::from(is_left);
        is_left
    }

    fn open_window(&mut self, now: Instant, within: Duration) {
        let is_open = self.window_start.is_some_and(|start| now.saturating_duration_since(start) < within);
        if !is_open {
            self.window_start = Some(now);
            self.used = 0;
        }
    }

    pub(crate) fn used(&self) -> u32 {
        self.used
    }
}

/// The wait before retry number `retry` (from 1): `first_ms`, doubled each time, at most `most_ms`.
pub(crate) fn backoff(first_ms: u64, most_ms: u64, retry: u32) -> Duration {
    let doublings = retry.saturating_sub(1).min(63);
    Duration::from_millis(first_ms.saturating_mul(1 << doublings).min(most_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_is_once_in_a_life() {
        let start = Instant::now();
        let mut budget = Budget::new(RestartPolicy::Once);
        assert!(budget.spend(start));
        assert!(!budget.spend(start + Duration::from_secs(1_000_000)));
        assert_eq!(budget.used(), 1);
    }

    #[test]
    fn a_window_is_fixed_and_starts_anew_after_its_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut budget = Budget::new(RestartPolicy::Bounded { max_restarts: 2, within_ms: 100 });
        assert!(budget.spend(at(0)));
        assert!(budget.spend(at(99)));
        assert!(!budget.spend(at(99)));
        assert!(budget.spend(at(100)), "the window that opened at 0 is over");
        assert!(budget.spend(at(150)));
        assert!(!budget.spend(at(199)), "it does not slide: this one opened at 100");
        assert!(budget.spend(at(200)));
    }

    #[test]
    fn no_restarts_means_none() {
        let mut budget = Budget::new(RestartPolicy::Bounded { max_restarts: 0, within_ms: 1 });
        assert!(!budget.spend(Instant::now()));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_window_of_no_length_is_refused() {
        assert!(RestartPolicy::Bounded { max_restarts: 1, within_ms: 0 }.check().is_err());
        assert!(RestartPolicy::Bounded { max_restarts: 1, within_ms: 1 }.check().is_ok());
        assert!(RestartPolicy::Once.check().is_ok());
    }

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        let ms = |retry| backoff(10, 75, retry).as_millis();
        assert_eq!([ms(1), ms(2), ms(3), ms(4), ms(5)], [10, 20, 40, 75, 75]);
        assert_eq!(backoff(u64::MAX, 7, u32::MAX), Duration::from_millis(7));
        assert_eq!(backoff(0, 7, 3), Duration::ZERO);
    }
}
