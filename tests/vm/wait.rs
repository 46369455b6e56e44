//! Waiting for what an appliance does by itself.

use std::time::{Duration, Instant};

/// At most so long from one question to the next.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How much longer a wait may take than it does on an idle machine. Two appliances whose processors are emulated may
/// share two real ones with a build: a wait is there to find what hangs, not what is slow. Where the time itself is a
/// promise, a test measures it.
const PATIENCE: u32 = 5;

/// When to give up on what takes `seconds` at most on an idle machine.
pub fn deadline(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds) * PATIENCE
}

/// Asks again and again, until it is so. What takes longer than `seconds` is told, and what takes longer than
/// [`deadline`] allows fails the test.
#[track_caller]
pub fn wait_until(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let (began, deadline) = (Instant::now(), deadline(seconds));
    let mut asked = began;
    while !condition() {
        let waited = began.elapsed().as_secs();
        assert!(Instant::now() < deadline, "waited {waited} s and it did not come to pass: {what}");
        // To answer is work, too: who asks without a pause keeps an emulated processor from what is waited for.
        std::thread::sleep((asked.elapsed() * 2).clamp(Duration::from_millis(100), LONGEST_PAUSE));
        asked = Instant::now();
    }
    let waited = began.elapsed().as_secs();
    if waited > seconds {
        println!("waited {waited} s, not {seconds} as on an idle machine: {what}");
    }
}

/// A command that tells, when a test has failed, what the daemon and its programs are at and what the daemon said.
pub const WHO_WAITS: &str = "for p in $(pgrep -x 'vsnapd|zpool|zfs|wipefs|udevadm|ssh|sshd-session|vsnap-link'); do \
     echo \"== $p $(tr '\\0' ' ' </proc/$p/cmdline) ($(cat /proc/$p/wchan))\"; \
     cat /proc/$p/task/*/stack; ls -l /proc/$p/fd | grep -o '[0-9]* -> .*'; done 2>/dev/null; \
     ss -tn state established '( sport = :22 or dport = :22 )'; journalctl -u vsnapd -n 80 --no-pager";
