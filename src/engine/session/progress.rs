//! How far a session has come, in memory: written down only when an attempt ends.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::types::partner::Address;

/// The rate is that of the last few seconds.
const WINDOW: Duration = Duration::from_secs(10);

/// Counters of a session at work.
#[derive(Default)]
pub(super) struct Progress {
    sent: AtomicU64,
    stream: Mutex<Option<Stream>>,
    message: Mutex<Option<String>>,
    address: Mutex<Option<Address>>,
    start: Mutex<Option<(Kept, Instant)>>,
}

/// How far the replica is: its newest snapshot, and of the interrupted stream that it keeps the guid and the bytes.
pub(super) type Kept = (Option<u64>, Option<(u64, u64)>);

/// The stream that is being sent.
struct Stream {
    /// About as many bytes as it has.
    total: u64,
    /// Of it.
    sent: u64,
    /// A moment and the bytes until then: the rate is since the older one.
    marks: [(Instant, u64); 2],
}

impl Progress {
    /// Bytes since the last time that they were taken.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The same, to be written down elsewhere.
    pub fn take_sent(&self) -> u64 {
        *self.stream() = None;
        self.sent.swap(0, Ordering::Relaxed)
    }

    /// Where the partner was reached.
    pub fn reached(&self, address: Address) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Where it was reached last.
    pub fn address(&self) -> Option<Address> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An attempt begins where the replica is.
    pub fn begins_at(&self, kept: Kept) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = Some((kept, Instant::now()));
    }

    /// Where and when the last attempt began that got so far.
    pub fn start(&self) -> Option<(Kept, Instant)> {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream of about `total` bytes begins.
    pub fn begin(&self, total: u64) {
        let now = Instant::now();
        *self.stream() = Some(Stream { total, sent: 0, marks: [(now, 0); 2] });
        self.say(None);
    }

    /// So many more went.
    pub fn add(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(stream) = &mut *self.stream() {
            stream.sent += bytes as u64;
            if stream.marks[1].0.elapsed() > WINDOW {
                stream.marks = [stream.marks[1], (Instant::now(), stream.sent)];
            }
        }
    }

    /// Something else than the progress of a stream is to be told.
    pub fn say(&self, message: Option<String>) {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }

    /// What is to be told, or `42 %, 12.3 MB/s, 3 min left`.
    pub fn message(&self) -> Option<String> {
        let said = self.message.lock().unwrap_or_else(PoisonError::into_inner).clone();
        said.or_else(|| self.stream().as_ref().map(|stream| describe(stream, Instant::now())))
    }

    fn stream(&self) -> std::sync::MutexGuard<'_, Option<Stream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(stream: &Stream, now: Instant) -> String {
    let (since, before) = stream.marks[0];
    let seconds = now.saturating_duration_since(since).as_secs_f64().max(0.001);
    let rate = (stream.sent - before) as f64 / seconds;
    // The estimate may be a little short.
    let percent = stream.sent.saturating_mul(100).checked_div(stream.total).unwrap_or(0).min(99);
    let left = stream.total.saturating_sub(stream.sent) as f64 / rate.max(1.0);
    format!("{percent} %, {}/s, {} left", bytes(rate), duration(left))
}

/// Decimal units, as networks have them.
pub(super) fn bytes(count: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count;
    for unit in units {
        if value < 1000.0 || unit == "TB" {
            return if unit == "B" { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    String::new()
}

fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5400.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 360_000_000.0 => format!("{:.0} h", seconds / 3600.0),
        _ => "a long time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_words() {
        let now = Instant::now();
        let stream = |total, sent, seconds| Stream {
            total,
            sent,
            marks: [(now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now), 0), (now, 0)],
        };
        assert_eq!(describe(&stream(1000, 420, 10), now), "42 %, 42 B/s, 14 s left");
        assert_eq!(describe(&stream(4_000_000_000, 123_000_000, 10), now), "3 %, 12.3 MB/s, 5 min left");
        assert_eq!(describe(&stream(1000, 1200, 10), now), "99 %, 120 B/s, 0 s left");
        assert!(describe(&stream(1 << 60, 0, 10), now).ends_with("a long time left"));
    }
}
