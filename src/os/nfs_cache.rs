//! What the kernel's NFS server remembers of exports and file handles. Each entry keeps its filesystem from being
//! unmounted, so a filesystem that is to go has to be forgotten first, by a flush.
//!
//! A flush takes the second that it happens in. One that comes in the same second is booked for the next second, the one
//! after that for the second after that, and until the last booked second is over nothing is cleaned at all. Every run of
//! `exportfs` is such a flush: a burst of them would keep filesystems from being unmounted for as many seconds as there
//! were runs. Hence the turn: nobody of ours flushes while somebody waits for the kernel to forget, and a run waits while
//! too many seconds are booked.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Error, Kind, Result, file, nfs::mounted};

/// Ends what clients have open in a filesystem.
const UNLOCK: &str = "/proc/fs/nfsd/unlock_filesystem";
/// Exports and file handles.
const CACHES: [&str; 2] = ["/proc/net/rpc/nfsd.export", "/proc/net/rpc/nfsd.fh"];
/// How long the kernel may take to forget an export: what may be booked, and what others book meanwhile by `zfs clone`.
const FORGETTING: Duration = Duration::from_secs(30);
/// Seconds that may be booked when `exportfs` is run.
const BOOKED: u64 = 5;

/// Whose turn it is to flush.
static TURN: Mutex<()> = Mutex::new(());

/// The turn to run `exportfs`.
pub(super) fn flush_turn() -> Result<MutexGuard<'static, ()>> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if Path::new(UNLOCK).exists() {
        let deadline = Instant::now() + FORGETTING;
        while last_flush(CACHES[0])? > now() + BOOKED && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(turn)
}

/// The second that the last flush was booked for.
fn last_flush(cache: &str) -> Result<u64> {
    Ok(file::read_required(&format!("{cache}/flush"))?.trim().parse().unwrap_or(0))
}

/// Whether a place is one of these paths or below one.
fn is_inside(place: &str, paths: &[&str]) -> bool {
    paths.iter().any(|path| place.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Ends what NFS clients have open in filesystems that are mounted at `paths` and makes the kernel forget them: what
/// it remembers keeps them from being unmounted. Those that are still exported are found again when a client asks.
pub(super) fn release(paths: &[&str]) -> Result<()> {
    if !Path::new(UNLOCK).exists() {
        return Ok(());
    }
    for place in mounted()?.iter().filter(|place| is_inside(place, paths)) {
        match file::instruct(Path::new(UNLOCK), &format!("{place}\n")) {
            // What is not mounted is not open.
            Err(error) if !matches!(error.kind, Kind::Missing | Kind::Other) => return Err(error),
            _ => {}
        }
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let deadline = Instant::now() + FORGETTING;
    loop {
        let mut held = false;
        for cache in CACHES {
            if !remembers(cache, paths)? {
                continue;
            }
            held = true;
            // One that comes too early cleans nothing, so it waits for the time of the last one to be over.
            if last_flush(cache)? < now() {
                file::instruct(Path::new(&format!("{cache}/flush")), "1\n")?;
            }
        }
        if !held {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let detail = format!("it still remembers them after {} s", FORGETTING.as_secs());
            return Err(Error::new(Kind::TimedOut, format!("ending exports of {}", paths.join(", ")), detail));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

fn remembers(cache: &str, paths: &[&str]) -> Result<bool> {
    let content = file::read(Path::new(&format!("{cache}/content")))?.unwrap_or_default();
    Ok(content.split_ascii_whitespace().any(|word| is_inside(word, paths)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_below_are_told_from_those_with_a_longer_name() {
        let inside = |place| is_inside(place, &["/vsnap/vpool1/fs1", "/vsnap/vpool1/fs3"]);
        assert!(inside("/vsnap/vpool1/fs1") && inside("/vsnap/vpool1/fs3/.zfs/snapshot/snap2"));
        assert!(!inside("/vsnap/vpool1/fs12") && !inside("/vsnap/vpool1") && !inside("-"));
    }
}
