//! What goes through a link: texts with their length before them, and streams, which are moved and not copied.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SpliceFFlags, fcntl, splice, tee},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{pipe, read, write},
};
use rustix::io::ioctl_fionread;

use super::{Error, Kind, Result};

/// How often one that waits looks whether it is to stop.
const LOOK: u16 = 100;
/// What a pipe holds at most: the kernel's limit for all but root.
const PIPE_BYTES: i32 = 1 << 20;
/// A reader of a gigabyte a second has not used up half of such a pipe after the shortest; the longest one bounds how late
/// the writer is heard of.
const SHORTEST_NAP: Duration = Duration::from_micros(100);
const LONGEST_NAP: Duration = Duration::from_millis(10);

/// Whether the wait is to end.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// Fails when there is to be no more waiting.
fn go_on(action: &str, deadline: Option<Instant>, stop: Stop<'_>) -> Result<()> {
    if stop() {
        return Err(Error::new(Kind::Other, action, "it was told to stop"));
    }
    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        return Err(Error::new(Kind::TimedOut, action, "nothing came in time"));
    }
    Ok(())
}

/// Waits until something can be done with `fd`, at most until `deadline`.
fn wait(fd: BorrowedFd<'_>, what: PollFlags, action: &str, deadline: Option<Instant>, stop: Stop<'_>) -> Result<()> {
    loop {
        go_on(action, deadline, stop)?;
        match poll(&mut [PollFd::new(fd, what)], PollTimeout::from(LOOK)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(Error::io(action, &error.into())),
        }
    }
}

/// Writes a text. `TimedOut` when it is not taken within `limit`.
pub fn write_text(to: impl AsFd, text: &[u8], limit: Duration, stop: Stop<'_>) -> Result<()> {
    let action = "writing to the link";
    let deadline = Some(Instant::now() + limit);
    let long = || Error::new(Kind::Other, action, "the text is too long");
    let length = u32::try_from(text.len()).map_err(|_| long())?;
    let all = [&length.to_be_bytes()[..], text].concat();
    let mut rest = &all[..];
    while !rest.is_empty() {
        wait(to.as_fd(), PollFlags::POLLOUT, action, deadline, stop)?;
        // No more than what a pipe takes at once when it is ready.
        let piece = &rest[..rest.len().min(nix::libc::PIPE_BUF)];
        match write(to.as_fd(), piece) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(Error::io(action, &error.into())),
        }
    }
    Ok(())
}

/// Reads a text of at most `most` bytes, and not one byte that comes after it; `None` when the other side has closed
/// the link before it. `TimedOut` when it does not come within `limit`.
pub fn read_text(from: impl AsFd, most: usize, limit: Option<Duration>, stop: Stop<'_>) -> Result<Option<Vec<u8>>> {
    let action = "reading from the link";
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut length = [0; 4];
    match fill(from.as_fd(), &mut length, action, deadline, stop)? {
        0 => return Ok(None),
        4 => {}
        _ => return Err(Error::new(Kind::Other, action, "it ended within a text")),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        return Err(Error::new(Kind::Denied, action, format!("a text of {length} bytes is longer than {most}")));
    }
    let mut text = vec![0; length];
    if fill(from.as_fd(), &mut text, action, deadline, stop)? < length {
        return Err(Error::new(Kind::Other, action, "it ended within a text"));
    }
    Ok(Some(text))
}

fn fill(
    from: BorrowedFd<'_>,
    buffer: &mut [u8],
    action: &str,
    deadline: Option<Instant>,
    stop: Stop<'_>,
) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        wait(from, PollFlags::POLLIN, action, deadline, stop)?;
        match read(from, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(Error::io(action, &error.into())),
        }
    }
    Ok(filled)
}

/// The first `count` bytes of what comes through a pipe, which stay in it (`tee(2)`); fewer when it ends before.
/// `TimedOut` when they do not come within `limit`.
pub fn peek(from: impl AsFd, count: usize, limit: Duration) -> Result<Vec<u8>> {
    let action = "looking at a stream";
    let failure = |error: Errno| Error::io(action, &error.into());
    let deadline = Instant::now() + limit;
    loop {
        wait(from.as_fd(), PollFlags::POLLIN, action, Some(deadline), &|| false)?;
        // Asked before looking: what an end was written before is there then.
        let mut end = [PollFd::new(from.as_fd(), PollFlags::empty())];
        let has_ended = poll(&mut end, PollTimeout::ZERO).map_err(failure)? > 0;
        let (reading, writing) = pipe().map_err(failure)?;
        let there = tee(from.as_fd(), &writing, count, SpliceFFlags::SPLICE_F_NONBLOCK).map_err(failure)?;
        if there >= count || has_ended {
            let mut bytes = vec![0; there];
            let came = if there > 0 { read(&reading, &mut bytes).map_err(failure)? } else { 0 };
            bytes.truncate(came);
            return Ok(bytes);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes a pipe as large as it may be, so that fewer calls move more. One that stays small is only slower.
pub fn widen(pipe: impl AsFd) {
    if let Err(error) = fcntl(pipe.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)) {
        tracing::debug!(%error, "a pipe keeps its size");
    }
}

/// Moves a stream from one pipe into another (`splice(2)`), in pieces as large as can be: a reader that takes a little at a
/// time, as ssh does, finds a pipe that stays filled without one wake-up here, and one of the writer, for each bit.
pub struct Pump<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    /// Bytes in `to` that keep its reader busy for a while.
    enough: u64,
    /// How long the reader is left alone with them: so long that it has not used them up then.
    nap: Duration,
}

impl<'a> Pump<'a> {
    /// Both are pipes, of the size that they shall have.
    pub fn new(from: &'a impl AsFd, to: &'a impl AsFd) -> Self {
        let (from, to) = (from.as_fd(), to.as_fd());
        // Of one that does not tell its size it is not known when it has enough, so it gets more at once.
        let size = fcntl(to, FcntlArg::F_GETPIPE_SZ).ok().and_then(|size| u64::try_from(size).ok());
        Pump { from, to, enough: size.map_or(u64::MAX, |size| size / 2), nap: SHORTEST_NAP }
    }

    /// Moves up to `most` bytes, and tells how many; 0 when there are no more. `TimedOut` when nothing comes, or nothing of
    /// it is taken, for `patience`.
    pub fn pass(&mut self, most: usize, patience: Duration, stop: Stop<'_>) -> Result<usize> {
        let deadline = || Instant::now() + patience;
        wait(self.from, PollFlags::POLLIN, "reading a stream", Some(deadline()), stop)?;
        self.leave_alone(patience, stop)?;
        let deadline = Some(deadline());
        loop {
            wait(self.to, PollFlags::POLLOUT, "sending a stream", deadline, stop)?;
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
            match splice(self.from, None, self.to, None, most, flags) {
                Ok(count) => return Ok(count),
                Err(Errno::EINTR) => {}
                // It may have no room for what is there in one piece yet.
                Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(Error::io("sending a stream", &error.into())),
            }
        }
    }

    /// Waits while the reader has enough, unless it takes nothing of it for `patience`.
    fn leave_alone(&mut self, patience: Duration, stop: Stop<'_>) -> Result<()> {
        let unread = || ioctl_fionread(self.to).map_err(|error| Error::io("sending a stream", &error.into()));
        let (mut before, mut deadline) = (unread()?, Instant::now() + patience);
        while before > self.enough {
            // A reader that has gone never takes what is there.
            let mut gone = [PollFd::new(self.to, PollFlags::empty())];
            if poll(&mut gone, PollTimeout::ZERO).is_ok_and(|count| count > 0) {
                return Ok(());
            }
            go_on("sending a stream", Some(deadline), stop)?;
            std::thread::sleep(self.nap);
            let left = unread()?;
            if left < before {
                deadline = Instant::now() + patience;
            }
            self.nap = match left {
                left if left > self.enough => (self.nap * 2).min(LONGEST_NAP),
                left if left < self.enough / 2 => (self.nap / 2).max(SHORTEST_NAP),
                _ => self.nap,
            };
            before = left;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Stop<'static> = &|| false;
    const LIMIT: Duration = Duration::from_secs(5);
    const SOON: Option<Duration> = Some(LIMIT);

    #[test]
    fn texts_come_as_they_went() {
        let (reading, writing) = nix::unistd::pipe().unwrap();
        let long = vec![7; 100_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                write_text(&writing, b"{}", LIMIT, NEVER).unwrap();
                write_text(&writing, &long, LIMIT, NEVER).unwrap();
                drop(writing);
            });
            assert_eq!(read_text(&reading, 10, SOON, NEVER).unwrap().unwrap(), b"{}");
            assert_eq!(read_text(&reading, 100_000, SOON, NEVER).unwrap().unwrap(), long);
            assert_eq!(read_text(&reading, 10, SOON, NEVER).unwrap(), None);
        });
    }

    #[test]
    fn what_is_too_long_or_too_short_or_late_is_an_error() {
        let (reading, writing) = nix::unistd::pipe().unwrap();
        write_text(&writing, &[0; 11], LIMIT, NEVER).unwrap();
        assert_eq!(read_text(&reading, 10, SOON, NEVER).unwrap_err().kind, Kind::Denied);
        let (reading, writing) = nix::unistd::pipe().unwrap();
        assert_eq!(read_text(&reading, 10, Some(Duration::ZERO), NEVER).unwrap_err().kind, Kind::TimedOut);
        assert!(read_text(&reading, 10, SOON, &|| true).is_err());
        // More than the pipe holds.
        let error = write_text(&writing, &[0; 1 << 20], Duration::from_millis(200), NEVER).unwrap_err();
        assert_eq!(error.kind, Kind::TimedOut);
        let (reading, writing) = nix::unistd::pipe().unwrap();
        write(&writing, &[0, 0, 0, 9, 1]).unwrap();
        drop(writing);
        assert_eq!(read_text(&reading, 10, SOON, NEVER).unwrap_err().kind, Kind::Other);
    }

    #[test]
    fn the_beginning_of_a_stream_is_seen_and_stays() {
        let (reading, writing) = nix::unistd::pipe().unwrap();
        let limit = Duration::from_secs(5);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for piece in [&b"beg"[..], b"inn", b"ing and more"] {
                    std::thread::sleep(Duration::from_millis(20));
                    write(&writing, piece).unwrap();
                }
            });
            assert_eq!(peek(&reading, 9, limit).unwrap(), b"beginning");
        });
        assert_eq!(peek(&reading, 9, limit).unwrap(), b"beginning");
        assert_eq!(peek(&reading, 99, Duration::from_millis(50)).unwrap_err().kind, Kind::TimedOut);
        drop(writing);
        assert_eq!(peek(&reading, 99, limit).unwrap(), b"beginning and more");
        let mut all = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(reading), &mut all).unwrap();
        assert_eq!(all, "beginning and more");
        let (reading, writing) = nix::unistd::pipe().unwrap();
        drop(writing);
        assert_eq!(peek(&reading, 9, limit).unwrap(), b"");
    }

    #[test]
    fn streams_are_moved_whole() {
        let ((reading, writing), (taking, giving)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::io::Write::write_all(&mut std::fs::File::from(writing), &bytes).unwrap();
            });
            let reader = scope.spawn(|| {
                let mut all = Vec::new();
                std::io::Read::read_to_end(&mut std::fs::File::from(taking), &mut all).unwrap();
                all
            });
            widen(&giving);
            let (mut moved, mut pump) = (0, Pump::new(&reading, &giving));
            loop {
                match pump.pass(1 << 20, Duration::from_secs(20), NEVER).unwrap() {
                    0 => break,
                    count => moved += count,
                }
            }
            drop(giving);
            assert_eq!((moved, reader.join().unwrap()), (bytes.len(), bytes.clone()));
        });
    }

    #[test]
    fn a_reader_that_takes_a_little_at_a_time_gets_much_at_once() {
        const BYTES: usize = 16 << 20;
        const LITTLE: usize = 32 << 10;
        let ((reading, writing), (taking, giving)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
        widen(&writing);
        widen(&giving);
        std::thread::scope(|scope| {
            scope.spawn(|| std::io::Write::write_all(&mut std::fs::File::from(writing), &vec![1; BYTES]).unwrap());
            scope.spawn(|| {
                let (mut from, mut piece) = (std::fs::File::from(taking), vec![0; LITTLE]);
                while std::io::Read::read(&mut from, &mut piece).unwrap() > 0 {
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
            let (mut pieces, mut pump) = (0, Pump::new(&reading, &giving));
            while pump.pass(1 << 20, Duration::from_secs(20), NEVER).unwrap() > 0 {
                pieces += 1;
            }
            drop(giving);
            assert!(pieces < BYTES / LITTLE / 4, "{pieces} pieces");
        });
    }

    #[test]
    fn a_reader_that_is_slow_is_waited_for() {
        let ((reading, writing), (taking, giving)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
        widen(&writing);
        widen(&giving);
        let patience = Duration::from_millis(500);
        std::thread::scope(|scope| {
            // It ends when nobody can read it any longer.
            scope
                .spawn(|| std::io::Write::write_all(&mut std::fs::File::from(writing), &vec![0; 4 << 20]).unwrap_err());
            scope.spawn(|| {
                let (mut from, mut piece) = (std::fs::File::from(taking), [0; 4 << 10]);
                while std::io::Read::read(&mut from, &mut piece).unwrap() > 0 {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            // Half of the pipe takes it 2.5 s.
            let (began, mut pump) = (Instant::now(), Pump::new(&reading, &giving));
            while began.elapsed() < patience * 2 {
                assert!(pump.pass(1 << 20, patience, NEVER).unwrap() > 0);
            }
            drop((reading, giving));
        });
    }

    #[test]
    fn a_stream_that_stands_still_ends() {
        let ((reading, writing), (_taking, giving)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
        std::thread::scope(|scope| {
            // More than both pipes hold; it ends when nobody can read it any longer.
            scope.spawn(|| std::io::Write::write_all(&mut std::fs::File::from(writing), &[0; 1 << 20]).unwrap_err());
            let mut pump = Pump::new(&reading, &giving);
            let error = loop {
                if let Err(error) = pump.pass(1 << 20, Duration::from_millis(300), NEVER) {
                    break error;
                }
            };
            assert_eq!((error.kind, &*error.action), (Kind::TimedOut, "sending a stream"));
            drop(reading);
        });
        let ((reading, _writing), (_taking, giving)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
        let error = Pump::new(&reading, &giving).pass(1, Duration::from_millis(100), NEVER).unwrap_err();
        assert_eq!((error.kind, &*error.action), (Kind::TimedOut, "reading a stream"));
    }
}
