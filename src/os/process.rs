//! Processes that run beside their caller, with a stream of bytes going into or out of them.

use std::{
    io::Read,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::Child,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::JoinHandle,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

use super::{Error, Kind, Result, command::Output};

/// Largest part of the error output that is kept.
const MOST_ERRORS: u64 = 64 << 10;

/// Something at work outside, to be waited for or ended by any thread.
pub trait Process: Send + Sync {
    /// Waits for its end. An error says why it did not come to a good one; it is the same each time.
    fn wait(&self) -> Result<()>;
    /// Ends it now. Nothing happens when it has ended.
    fn kill(&self);
}

/// A process with the bytes that it gives.
pub struct Stream {
    /// Where they can be read; at its end, [`Process::wait`] tells whether that was all of them.
    pub output: OwnedFd,
    /// Who gives them.
    pub process: Arc<dyn Process>,
}

/// A process of the system.
pub struct Running {
    action: String,
    pid: Pid,
    /// `None` once it is reaped, when its pid may be another's.
    child: Mutex<Option<Child>>,
    stderr: Mutex<Option<JoinHandle<String>>>,
    classify: fn(&str) -> Kind,
    ended: OnceLock<Result<()>>,
}

impl Running {
    pub(super) fn new(action: String, mut child: Child, classify: fn(&str) -> Kind) -> Self {
        let stderr = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                // What can't be read is not worth more than no text.
                let _ = stderr.take(MOST_ERRORS).read_to_end(&mut text);
                String::from_utf8_lossy(&text).trim().to_owned()
            })
        });
        Running {
            action,
            pid: Pid::from_raw(child.id().cast_signed()),
            child: Mutex::new(Some(child)),
            stderr: Mutex::new(stderr),
            classify,
            ended: OnceLock::new(),
        }
    }

    /// The ends of its pipes that are ours, for the one who asks first.
    pub(super) fn pipes(&self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(child) = child.as_mut() else { return (None, None) };
        (child.stdin.take().map(OwnedFd::from), child.stdout.take().map(OwnedFd::from))
    }

    fn reap(&self) -> Result<()> {
        // Seen, but not reaped: until then the pid is its own, and may be killed.
        while let Err(nix::Error::EINTR) = waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {}
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = slot.take() else { return Ok(()) };
        let status = child.wait().map_err(|error| Error::io(self.action.clone(), &error))?;
        drop(slot);
        if status.success() {
            return Ok(());
        }
        let reader = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stderr = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
        let code = status.code().filter(|_| status.signal().is_none());
        Err(Output { code, stdout: Vec::new(), stderr }.failure(self.action.clone(), self.classify))
    }
}

impl Process for Running {
    fn wait(&self) -> Result<()> {
        self.ended.get_or_init(|| self.reap()).clone()
    }

    fn kill(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.is_some() {
            // It leads a group of its own, so what it has started goes, too. Ended but not reaped is no error.
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // In the kernel it may take its time to end.
            std::thread::spawn(move || child.wait());
        }
    }
}
