//! How fast data may be sent: to one partner, and in all. Sessions take turns on a time line: each piece moves the time
//! at which the next one may go, so that any number of them share a limit, and another limit holds from the next piece on.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::types::SystemId;

/// What went by unused counts for this long.
const BURST: Duration = Duration::from_millis(200);
/// The largest piece is what goes in this time, so that the flow is even and a change is soon felt.
const PIECE: Duration = Duration::from_millis(100);

/// The time lines; that of `None` is for all partners.
#[derive(Default)]
pub(in crate::engine) struct Throttle {
    next: Mutex<HashMap<Option<SystemId>, Instant>>,
}

/// Limits in bytes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// To the partner.
    pub partner: Option<u64>,
    /// To all.
    pub overall: Option<u64>,
}

impl Limits {
    /// How large a piece may be, at most `most`.
    pub fn piece(&self, most: usize) -> usize {
        let slowest = self.partner.into_iter().chain(self.overall).min();
        let bytes = slowest.map_or(u64::MAX, |rate| (rate * PIECE.as_millis() as u64 / 1000).max(4096));
        most.min(usize::try_from(bytes).unwrap_or(usize::MAX))
    }
}

impl Throttle {
    /// Counts a piece, and tells how long to wait before the next one.
    pub(super) fn count(&self, partner: &SystemId, limits: Limits, bytes: usize) -> Duration {
        self.count_at(Instant::now(), partner, limits, bytes)
    }

    fn count_at(&self, now: Instant, partner: &SystemId, limits: Limits, bytes: usize) -> Duration {
        let mut lines = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wait = Duration::ZERO;
        for (key, rate) in [(Some(partner.clone()), limits.partner), (None, limits.overall)] {
            let Some(rate) = rate else {
                lines.remove(&key);
                continue;
            };
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let from = lines.get(&key).copied().unwrap_or(earliest).max(earliest);
            let until = from + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            lines.insert(key, until);
            wait = wait.max(until.saturating_duration_since(now));
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends for ten seconds as fast as it may; tells bytes a second.
    fn rate(limits: Limits, sessions: usize) -> u64 {
        let (throttle, partner) = (Throttle::default(), SystemId::random());
        let begin = Instant::now();
        let mut ready = vec![begin; sessions];
        let mut sent = 0;
        loop {
            let session = (0..sessions).min_by_key(|session| ready[*session]).unwrap();
            let now = ready[session];
            if now >= begin + Duration::from_secs(10) {
                return sent / 10;
            }
            let piece = limits.piece(1 << 20);
            sent += piece as u64;
            // Without any limit it would never end.
            let wait = throttle.count_at(now, &partner, limits, piece);
            ready[session] = now + wait.max(Duration::from_micros(1));
        }
    }

    #[test]
    fn sessions_share_a_limit() {
        for sessions in [1, 5] {
            for (partner, overall, expected) in [
                (Some(1 << 20), None, 1 << 20),
                (None, Some(100_000), 100_000),
                (Some(1 << 30), Some(1 << 22), 1 << 22),
            ] {
                let rate = rate(Limits { partner, overall }, sessions);
                assert!(rate.abs_diff(expected) < expected / 10, "{sessions}: {rate} instead of {expected}");
            }
        }
    }
}
