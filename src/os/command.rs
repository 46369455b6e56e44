//! The only place that starts a process.
//!
//! A tool is found once, at start, by absolute path ([`Tool::find`]). A command is an argv, never a shell line; its
//! environment is cleared but for `LC_ALL=C.UTF-8` and a fixed `PATH`; it runs in a process group of its own, which
//! is killed when its time is up. A process that is stuck in the kernel does not hold up the caller: it is given to a
//! thread that reaps it when it ends.
//!
//! `LC_ALL=C.UTF-8`, because with plain `C` the JSON printer of OpenZFS 2.3 stops at the first non-ASCII character
//! and still exits with 0.

use std::{
    fmt,
    io::{Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use zeroize::Zeroizing;

use super::{Error, Kind, Result};

/// Where tools are looked for, and the `PATH` they get.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Time that most commands get. Tools that change pools wait for a transaction group or two, and those can take
/// tens of seconds on busy disks.
const USUAL_LIMIT: Duration = Duration::from_secs(120);
/// Largest output that is kept. `zpool status` of a pool with 500 disks is 300 KiB.
const MOST_OUTPUT: usize = 64 << 20;
/// Largest part of the error output that is kept.
const MOST_ERRORS: usize = 64 << 10;
/// How long a killed process gets to go, and an ended one's pipes to be closed.
const GRACE: Duration = Duration::from_secs(3);
/// How much of the output may wait to be taken, in pieces of up to 64 KiB; then the process has to wait.
const EVENTS: usize = 16;
/// How often a [`Limit::Stall`] looks for progress.
const LOOK: Duration = Duration::from_secs(5);

/// A program of the system, known to be there.
#[derive(Debug, Clone)]
pub struct Tool {
    path: PathBuf,
}

impl Tool {
    /// Looks for the program `name`. `Missing`, with the Debian package that has it, when it is not installed.
    pub fn find(name: &str, package: &str) -> Result<Self> {
        Self::find_optional(name).ok_or_else(|| {
            Error::new(
                Kind::Missing,
                format!("looking for the program {name}"),
                format!("it is in none of {}; install package {package}", FOLDERS.join(", ")),
            )
        })
    }

    /// Looks for a program that need not be there.
    pub fn find_optional(name: &str) -> Option<Self> {
        let candidates = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
        candidates.into_iter().find(|path| path.is_file()).map(|path| Tool { path })
    }

    /// A command of this tool with its first arguments.
    pub fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let command =
            Command { program: self.path.clone(), args: vec![], stdin: None, limit: Limit::Time(USUAL_LIMIT) };
        command.args(args)
    }
}

/// When a command is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After this time.
    Time(Duration),
    /// When nothing was printed and no disk of the machine has moved a byte for this time: for commands whose
    /// duration can't be known, such as an import that replays a log.
    Stall(Duration),
}

/// A command to be run: a program, its arguments, what it reads, how long it may take.
pub struct Command {
    program: PathBuf,
    args: Vec<String>,
    stdin: Option<Zeroizing<Vec<u8>>>,
    limit: Limit,
}

/// What a command that ended by itself left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, trimmed.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output as text.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }
}

/// The argv as a person would type it, without what it reads from standard input.
impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.program.file_name().unwrap_or(self.program.as_os_str());
        formatter.write_str(&name.to_string_lossy())?;
        for arg in &self.args {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
            if !arg.is_empty() && arg.chars().all(plain) {
                write!(formatter, " {arg}")?;
            } else {
                write!(formatter, " '{}'", arg.escape_debug())?;
            }
        }
        Ok(())
    }
}

impl Command {
    /// One more argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// What it reads from standard input, the way for secrets. It is wiped afterwards and never in an error.
    pub fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = Some(Zeroizing::new(bytes));
        self
    }

    /// Another limit than the usual two minutes.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end and gives its standard output; an exit status other than 0 is an error whose kind
    /// `classify` tells from the error output.
    pub fn output(self, classify: fn(&str) -> Kind) -> Result<String> {
        let action = self.to_string();
        let output = self.run()?;
        if output.succeeded() {
            return String::from_utf8(output.stdout)
                .map_err(|_| Error::new(Kind::Other, action, "its output is not UTF-8"));
        }
        Err(output.failure(action, classify))
    }

    /// Runs it to its end, whatever its exit status. `TimedOut` when its time is up, `Other` when it can't be started.
    pub fn run(self) -> Result<Output> {
        let action = self.to_string();
        let (mut stdout, mut lost) = (Vec::new(), false);
        let ended = self.follow(&mut |bytes| {
            lost |= stdout.len() + bytes.len() > MOST_OUTPUT;
            if !lost {
                stdout.extend_from_slice(bytes);
            }
            Ok(true)
        })?;
        let fault = |detail: String| Error::new(Kind::Other, action.clone(), detail);
        if lost {
            return Err(fault(format!("it printed more than {MOST_OUTPUT} bytes")));
        }
        let ended = ended.ok_or_else(|| fault("its output was not wanted".to_owned()))?;
        Ok(Output { code: ended.code, stdout, stderr: ended.stderr })
    }

    /// Runs it and gives away its standard output line by line while it prints, at the pace of `line`. When that says
    /// `false` or fails the process is ended and nothing more is asked of it; else errors are as in
    /// [`Command::output`].
    pub fn lines(self, classify: fn(&str) -> Kind, line: &mut dyn FnMut(&str) -> Result<bool>) -> Result<()> {
        let action = self.to_string();
        let mut lines = Lines { action: action.clone(), rest: Vec::new(), line };
        let Some(ended) = self.follow(&mut |bytes| lines.take(bytes))? else { return Ok(()) };
        let output = Output { code: ended.code, stdout: Vec::new(), stderr: ended.stderr };
        if !output.succeeded() {
            return Err(output.failure(action, classify));
        }
        lines.last()
    }

    /// Runs it and gives away what it prints piece by piece; `None` when `stdout` wanted no more.
    fn follow(self, stdout: &mut dyn FnMut(&[u8]) -> Result<bool>) -> Result<Option<Ended>> {
        let action = self.to_string();
        let began = Instant::now();
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = self.spawn(stdin, Stdio::piped()).map_err(|error| Error::io(action.clone(), &error))?;
        let pid = Pid::from_raw(child.id() as i32);
        let events = watch(&mut child, pid, self.stdin);
        let mut progress = Progress::new(self.limit);
        let mut gathered = Gathered::default();
        while !gathered.ended() {
            match events.recv_timeout(progress.wait(gathered.exited)) {
                Ok(Event::Out(bytes)) => match stdout(&bytes) {
                    Ok(true) => progress.moved(),
                    stop => {
                        end(child, pid, &events, &mut gathered);
                        return stop.map(|_| None);
                    }
                },
                Ok(event) => {
                    gathered.take(event);
                    progress.moved();
                }
                // A process that the tool left behind may hold its pipes open for ever.
                Err(RecvTimeoutError::Timeout) if gathered.exited.is_some() => break,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if progress.is_over() => {
                    end(child, pid, &events, &mut gathered);
                    let detail = format!("it was ended after {} s without coming to an end", began.elapsed().as_secs());
                    return Err(Error::new(Kind::TimedOut, action, detail));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        // The watching thread has seen it exit but left it to be reaped here, so its pid can't be another's by now.
        let status = child.wait().map_err(|error| Error::io(action.clone(), &error))?;
        tracing::trace!(command = %action, code = status.code(), duration_ms = began.elapsed().as_millis() as u64);
        gathered.output(action, status).map(Some)
    }

    /// Starts it and leaves it running, with what it reads and prints in the hands of the caller. Its end is
    /// [`Process::wait`]ed for there, without a limit.
    ///
    /// [`Process::wait`]: super::process::Process::wait
    pub fn start(self, stdin: Stdio, stdout: Stdio, classify: fn(&str) -> Kind) -> Result<super::process::Running> {
        let action = self.to_string();
        let child = self.spawn(stdin, stdout).map_err(|error| Error::io(action.clone(), &error))?;
        Ok(super::process::Running::new(action, child, classify))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
    fn spawn(&self, stdin: Stdio, stdout: Stdio) -> std::io::Result<Child> {
        std::process::Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", FOLDERS.join(":"))
            .current_dir("/")
            .process_group(0)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
    }
}

impl Output {
    /// This output, of `action`, as an error.
    pub fn failure(&self, action: impl Into<String>, classify: fn(&str) -> Kind) -> Error {
        let mut detail = self.stderr.clone();
        if detail.is_empty() {
            // Some tools complain on standard output.
            detail = self.text().trim().chars().take(1000).collect();
        }
        let kind = classify(&detail);
        if detail.is_empty() {
            detail = match self.code {
                Some(code) => format!("it exited with status {code} and said nothing"),
                None => "a signal ended it".to_owned(),
            };
        }
        Error::new(kind, action, detail)
    }
}

/// What a process that ended by itself left behind, beside its standard output.
struct Ended {
    code: Option<i32>,
    stderr: String,
}

/// Cuts output into lines.
struct Lines<'a> {
    action: String,
    rest: Vec<u8>,
    line: &'a mut dyn FnMut(&str) -> Result<bool>,
}

impl Lines<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        self.rest.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|&byte| byte == b'\n') {
            let text = utf8(&self.action, &self.rest[begin..begin + length])?;
            if !(self.line)(text)? {
                return Ok(false);
            }
            begin += length + 1;
        }
        self.rest.drain(..begin);
        Ok(true)
    }

    /// The last line, when no line feed ends it.
    fn last(&mut self) -> Result<()> {
        if !self.rest.is_empty() {
            (self.line)(utf8(&self.action, &self.rest)?)?;
        }
        Ok(())
    }
}

fn utf8<'a>(action: &str, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| Error::new(Kind::Other, action, "its output is not UTF-8"))
}

/// What the threads that watch a process report.
enum Event {
    Out(Vec<u8>),
    Err(Vec<u8>),
    Closed,
    Exited,
}

/// Starts the threads that feed, read and wait for the process.
fn watch(child: &mut Child, pid: Pid, input: Option<Zeroizing<Vec<u8>>>) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::sync_channel(EVENTS);
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A tool that does not read all of it says why on its own; a broken pipe is no news.
        thread::spawn(move || drop(pipe.write_all(&input)));
    }
    if let Some(pipe) = child.stdout.take() {
        read(pipe, sender.clone(), Event::Out);
    }
    if let Some(pipe) = child.stderr.take() {
        read(pipe, sender.clone(), Event::Err);
    }
    thread::spawn(move || {
        // WNOWAIT: only look, so that the pid stays taken until the caller reaps it and a kill can't hit another.
        while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::Error::EINTR) {}
        drop(sender.send(Event::Exited));
    });
    receiver
}

fn read(mut pipe: impl Read + Send + 'static, sender: mpsc::SyncSender<Event>, event: fn(Vec<u8>) -> Event) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match pipe.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    if sender.send(event(buffer[..count].to_vec())).is_err() {
                        break;
                    }
                }
            }
        }
        drop(sender.send(Event::Closed));
    });
}

/// Kills the process group and reaps the process, at once or, when the kernel holds it, whenever it lets go.
fn end(mut child: Child, pid: Pid, events: &mpsc::Receiver<Event>, gathered: &mut Gathered) {
    // It may have ended by itself a moment ago.
    let _ = killpg(pid, Signal::SIGKILL);
    let until = Instant::now() + GRACE;
    while gathered.exited.is_none() {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(event) => gathered.take(event),
            Err(_) => break,
        }
    }
    if gathered.exited.is_some() {
        drop(child.wait());
    } else {
        thread::spawn(move || child.wait());
    }
}

/// What has come from a process so far, but for its standard output.
#[derive(Default)]
struct Gathered {
    stderr: Vec<u8>,
    closed: usize,
    exited: Option<Instant>,
}

impl Gathered {
    fn take(&mut self, event: Event) {
        match event {
            // Of a process that is being ended.
            Event::Out(_) => {}
            Event::Err(bytes) => {
                let room = MOST_ERRORS - self.stderr.len();
                self.stderr.extend(bytes.into_iter().take(room));
            }
            Event::Closed => self.closed += 1,
            Event::Exited => self.exited = Some(Instant::now()),
        }
    }

    fn ended(&self) -> bool {
        self.exited.is_some() && self.closed == 2
    }

    fn output(self, action: String, status: ExitStatus) -> Result<Ended> {
        if let Some(signal) = status.signal() {
            return Err(Error::new(Kind::Other, action, format!("signal {signal} ended it")));
        }
        let stderr = String::from_utf8_lossy(&self.stderr).trim().to_owned();
        Ok(Ended { code: status.code(), stderr })
    }
}

/// Tells when a [`Limit`] is reached.
struct Progress {
    limit: Limit,
    since: Instant,
    sectors: u64,
}

impl Progress {
    fn new(limit: Limit) -> Self {
        Progress { limit, since: Instant::now(), sectors: 0 }
    }

    /// How long to wait for the next event.
    fn wait(&self, exited: Option<Instant>) -> Duration {
        if let Some(exited) = exited {
            return GRACE.saturating_sub(exited.elapsed());
        }
        match self.limit {
            Limit::Time(limit) => limit.saturating_sub(self.since.elapsed()),
            Limit::Stall(limit) => LOOK.min(limit),
        }
    }

    /// Something was printed.
    fn moved(&mut self) {
        if matches!(self.limit, Limit::Stall(_)) {
            self.since = Instant::now();
        }
    }

    fn is_over(&mut self) -> bool {
        let (Limit::Time(limit) | Limit::Stall(limit)) = self.limit;
        if matches!(self.limit, Limit::Stall(_)) {
            let sectors = std::fs::read_to_string("/proc/diskstats").map_or(0, |text| sectors_moved(&text));
            if std::mem::replace(&mut self.sectors, sectors) != sectors {
                self.since = Instant::now();
            }
        }
        self.since.elapsed() >= limit
    }
}

/// Sectors read and written by all block devices, from `/proc/diskstats`.
fn sectors_moved(text: &str) -> u64 {
    let count = |line: &str| -> u64 {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        [5, 9].iter().filter_map(|&at| fields.get(at)?.parse::<u64>().ok()).fold(0, u64::wrapping_add)
    };
    text.lines().map(count).fold(0, u64::wrapping_add)
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
