//! [`Streams`] in the fake's world. A stream is a header and as many bytes as its content has, so that it can be cut
//! anywhere; what it carries is looked up by the number in its header.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    FakeOs, FakeSnapshot, World,
    content::Content,
    dataset_world::{fault, missing, split},
};
use crate::{
    os::{
        DatasetKind, Error, Kind, Result,
        process::{Process, Stream},
        stream::{BookmarkFacts, REPLICA, Receiving, Sending, Streams, TokenFacts},
    },
    types::{
        Epoch,
        names::{BookmarkName, DatasetName, SnapshotName},
    },
};

/// Bytes that every stream has at least.
const LEAST: u64 = 300_000;
/// What a header has: number, where the stream begins, its length.
const HEADER: usize = 24;
/// How often a process looks whether it is to end.
const LOOK: u16 = 5;

/// What streams carry, by the number in their header.
static CARGO: Mutex<BTreeMap<u64, Cargo>> = Mutex::new(BTreeMap::new());

/// What one stream carries.
#[derive(Debug, Clone)]
struct Cargo {
    name: String,
    guid: u64,
    base: Option<u64>,
    created: Epoch,
    kind: DatasetKind,
    content: Content,
    bytes: u64,
}

/// What an interrupted stream left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Number of its cargo.
    cargo: u64,
    /// Bytes that came.
    bytes: u64,
}

impl Partial {
    /// What another version of ZFS may have left.
    pub fn unknown() -> Self {
        Partial { cargo: u64::MAX, bytes: 1 }
    }
}

/// A bookmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeBookmark {
    /// What comes after the `#`.
    pub name: String,
    /// ZFS guid of its snapshot.
    pub guid: u64,
    /// Transaction group of its snapshot.
    pub transaction: u64,
    content: Content,
}

fn cargo() -> std::sync::MutexGuard<'static, BTreeMap<u64, Cargo>> {
    CARGO.lock().unwrap_or_else(PoisonError::into_inner)
}

fn token(partial: &Partial) -> String {
    format!("1-{:x}-{:x}", partial.cargo, partial.bytes)
}

fn read_token(text: &str) -> Option<(Cargo, Partial)> {
    let mut parts = text.split('-').skip(1).map(|part| u64::from_str_radix(part, 16).ok());
    let (number, bytes) = (parts.next()??, parts.next()??);
    Some((cargo().get(&number).cloned()?, Partial { cargo: number, bytes }))
}

fn required_token(text: &str) -> Result<(Cargo, Partial)> {
    read_token(text).ok_or_else(|| Error::new(Kind::Other, "zfs send -t", "cannot resume send: invalid token"))
}

/// What is to be sent, and from which byte on.
fn load(world: &World, sending: &Sending) -> Result<(Cargo, u64)> {
    let (snapshot, base) = match sending {
        Sending::Snapshot { snapshot, base, .. } => (snapshot, base),
        Sending::Rest { token, .. } => {
            let (found, partial) = required_token(token)?;
            let there = world.snapshot(&found.name).is_ok_and(|snapshot| snapshot.guid == found.guid);
            return if there { Ok((found, partial.bytes)) } else { Err(missing(&found.name)) };
        }
    };
    let found = world.snapshot(snapshot.as_str())?;
    let (guid, before) = match base.as_ref().map(|base| (base, base.as_str())) {
        None => (None, Content::default()),
        Some((crate::os::stream::Base::Snapshot(_), name)) => {
            let base = world.snapshot(name)?;
            (Some(base.guid), base.content.clone())
        }
        Some((_, name)) => {
            let (dataset, short) = name.split_once('#').unwrap_or((name, ""));
            let bookmarks = &world.dataset(dataset)?.bookmarks;
            let base = bookmarks.iter().find(|bookmark| bookmark.name == short).ok_or_else(|| missing(name))?;
            (Some(base.guid), base.content.clone())
        }
    };
    let loaded = Cargo {
        name: snapshot.as_str().to_owned(),
        guid: found.guid,
        base: guid,
        created: found.created,
        kind: found.kind,
        content: found.content.clone(),
        bytes: LEAST + found.content.written_since(&before),
    };
    Ok((loaded, 0))
}

/// What a process does.
type Work = Box<dyn FnOnce() -> Result<()> + Send>;

/// Something that a thread does, or that its waiting does.
struct FakeProcess {
    killed: Arc<AtomicBool>,
    work: Mutex<Option<Work>>,
    ended: OnceLock<Result<()>>,
}

impl FakeProcess {
    fn new(killed: Arc<AtomicBool>, work: impl FnOnce() -> Result<()> + Send + 'static) -> Arc<Self> {
        Arc::new(FakeProcess { killed, work: Mutex::new(Some(Box::new(work))), ended: OnceLock::new() })
    }
}

impl Process for FakeProcess {
    fn wait(&self) -> Result<()> {
        if let Some(result) = self.ended.get() {
            return result.clone();
        }
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let killed = || Err(Error::new(Kind::Other, "a process", "a signal ended it"));
        let result = work.map_or_else(killed, |work| work());
        self.ended.get_or_init(|| result).clone()
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }
}

/// Reads until `buffer` is full, the other side ends, or the process is to end; tells how much came.
fn read_some(input: &mut std::fs::File, buffer: &mut [u8], killed: &AtomicBool) -> usize {
    let mut filled = 0;
    while filled < buffer.len() && !killed.load(Ordering::Relaxed) {
        let mut waiting = [PollFd::new(std::os::fd::AsFd::as_fd(input), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(LOOK)) {
            Ok(0) => continue,
            Ok(_) => {}
            Err(_) => break,
        }
        match input.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    filled
}

fn send(output: OwnedFd, number: u64, begin: u64, end: u64) -> Result<()> {
    let mut output = std::fs::File::from(output);
    let mut write = || -> std::io::Result<()> {
        let header = [number, begin, end].map(u64::to_be_bytes).concat();
        output.write_all(&header)?;
        let piece = vec![0; 16 << 10];
        let mut left = end - begin;
        while left > 0 {
            let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            output.write_all(&piece[..count])?;
            left -= count as u64;
        }
        Ok(())
    };
    write().map_err(|error| Error::io("zfs send", &error))
}

impl World {
    /// The laws of `zfs receive`: a stream builds on the newest snapshot, of a dataset that was not changed since.
    fn require_receivable(&self, receiving: &Receiving, cargo: &Cargo, resumed: bool) -> Result<()> {
        let name = receiving.snapshot.dataset().as_str();
        let dataset = self.dataset(name)?;
        self.open_pool(name)?.require_space(name)?;
        let newest = dataset.snapshots.last();
        let refuse = |detail: &str| Err(fault(Kind::Other, name, detail));
        if dataset.partial.is_some() && !resumed {
            return refuse("destination contains partially-complete state from zfs receive -s");
        }
        match (cargo.base, newest) {
            (None, None) if receiving.whole => Ok(()),
            (None, _) => refuse("destination exists; must specify -F to overwrite it"),
            (Some(_), None) => refuse("destination has no snapshots"),
            (Some(base), Some(newest)) if base != newest.guid => {
                refuse("most recent snapshot does not match incremental source")
            }
            (_, Some(newest)) if newest.content != dataset.content => {
                refuse("destination has been modified since most recent snapshot")
            }
            _ => Ok(()),
        }
    }

    fn take_in(&mut self, receiving: &Receiving, number: u64, (cargo, bytes): (&Cargo, u64)) -> Result<()> {
        let name = receiving.snapshot.dataset().as_str().to_owned();
        let transaction = self.next_transaction();
        let dataset = self.dataset_mut(&name)?;
        if bytes < cargo.bytes {
            dataset.partial = Some(Partial { cargo: number, bytes });
            return Err(fault(Kind::Other, &name, "checksum mismatch or incomplete stream"));
        }
        dataset.partial = None;
        dataset.content = cargo.content.clone();
        if !dataset.is_filesystem() {
            dataset.kind = cargo.kind;
        }
        dataset.snapshots.push(FakeSnapshot {
            name: split(receiving.snapshot.as_str()).1.to_owned(),
            guid: cargo.guid,
            created: cargo.created,
            transaction,
            mark: None,
            notes: BTreeMap::new(),
            holds: std::collections::BTreeSet::new(),
            kind: cargo.kind,
            content: cargo.content.clone(),
        });
        Ok(())
    }
}

impl FakeOs {
    fn run_receive(&self, receiving: &Receiving, input: OwnedFd, killed: &AtomicBool) -> Result<()> {
        let mut input = std::fs::File::from(input);
        let mut header = [0; HEADER];
        let short = || Error::new(Kind::Other, "zfs receive", "invalid stream (incomplete)");
        if read_some(&mut input, &mut header, killed) < HEADER {
            return Err(short());
        }
        let number = |at: usize| header[at..at + 8].iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        let (cargo_number, begin, end) = (number(0), number(8), number(16));
        let cargo = cargo().get(&cargo_number).cloned().ok_or_else(short)?;
        let name = receiving.snapshot.dataset().as_str();
        {
            let world = self.world();
            let partial = world.dataset(name)?.partial.clone();
            let resumed = begin > 0;
            if resumed && partial != Some(Partial { cargo: cargo_number, bytes: begin }) {
                return Err(fault(Kind::Other, name, "the token does not fit what was received"));
            }
            world.require_receivable(receiving, &cargo, resumed)?;
        }
        let (mut came, mut piece) = (begin, vec![0; 16 << 10]);
        while came < end {
            let wanted = piece.len().min(usize::try_from(end - came).unwrap_or(usize::MAX));
            let count = read_some(&mut input, &mut piece[..wanted], killed);
            came += count as u64;
            if count < wanted {
                break;
            }
        }
        self.effect("take_in", |world| world.take_in(receiving, cargo_number, (&cargo, came)))
    }
}

impl Streams for FakeOs {
    fn bookmarks(&self, dataset: &DatasetName) -> Result<Vec<BookmarkFacts>> {
        self.check_refusal("bookmarks")?;
        let world = self.world();
        let facts = |bookmark: &FakeBookmark| BookmarkFacts {
            name: format!("{dataset}#{}", bookmark.name),
            guid: bookmark.guid,
            transaction: bookmark.transaction,
        };
        let mut bookmarks: Vec<_> = world.dataset(dataset.as_str())?.bookmarks.iter().map(facts).collect();
        bookmarks.sort_by_key(|bookmark| bookmark.transaction);
        Ok(bookmarks)
    }

    fn bookmark(&self, snapshot: &SnapshotName, name: &BookmarkName) -> Result<()> {
        self.effect("bookmark", |world| {
            let found = world.snapshot(snapshot.as_str())?.clone();
            let short = name.as_str().split_once('#').map_or("", |(_, short)| short).to_owned();
            let bookmarks = &mut world.dataset_mut(snapshot.dataset().as_str())?.bookmarks;
            if bookmarks.iter().all(|bookmark| bookmark.name != short) {
                let FakeSnapshot { guid, transaction, content, .. } = found;
                bookmarks.push(FakeBookmark { name: short, guid, transaction, content });
            }
            Ok(())
        })
    }

    fn destroy_bookmark(&self, name: &BookmarkName) -> Result<()> {
        self.effect("destroy_bookmark", |world| {
            let (dataset, short) = name.as_str().split_once('#').unwrap_or((name.as_str(), ""));
            match world.dataset_mut(dataset) {
                Ok(dataset) => dataset.bookmarks.retain(|bookmark| bookmark.name != short),
                Err(error) if error.kind == Kind::Missing => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })
    }

    fn receive_token(&self, dataset: &DatasetName) -> Result<Option<String>> {
        self.check_refusal("receive_token")?;
        Ok(self.world().dataset(dataset.as_str())?.partial.as_ref().map(token))
    }

    fn read_token(&self, token: &str) -> Result<Option<TokenFacts>> {
        self.check_refusal("read_token")?;
        let facts = |(cargo, partial): (Cargo, Partial)| TokenFacts {
            name: cargo.name,
            guid: cargo.guid,
            base: cargo.base,
            bytes: partial.bytes,
        };
        Ok(read_token(token).map(facts))
    }

    fn discard_receive(&self, dataset: &DatasetName) -> Result<()> {
        self.effect("discard_receive", |world| {
            world.dataset_mut(dataset.as_str())?.partial = None;
            Ok(())
        })
    }

    fn stream_size(&self, sending: &Sending) -> Result<u64> {
        self.check_refusal("stream_size")?;
        load(&self.world(), sending).map(|(cargo, begin)| cargo.bytes - begin)
    }

    fn send(&self, sending: &Sending) -> Result<Stream> {
        self.check_refusal("send")?;
        let (loaded, begin) = load(&self.world(), sending)?;
        let end = loaded.bytes;
        let number = match sending {
            Sending::Rest { token, .. } => required_token(token)?.1.cargo,
            Sending::Snapshot { .. } => {
                let mut all = cargo();
                let number = all.keys().next_back().map_or(1, |last| last + 1);
                all.insert(number, loaded);
                number
            }
        };
        let (reading, writing) = nix::unistd::pipe().map_err(|error| Error::io("pipe", &error.into()))?;
        // Ends when nobody reads any longer.
        let thread = std::thread::spawn(move || send(writing, number, begin, end));
        let join = move || thread.join().unwrap_or_else(|_| Err(Error::new(Kind::Other, "zfs send", "it panicked")));
        Ok(Stream { output: reading, process: FakeProcess::new(Arc::default(), join) })
    }

    fn receive(&self, receiving: &Receiving, input: OwnedFd) -> Result<Arc<dyn Process>> {
        self.check_refusal("receive")?;
        let gone = || Error::new(Kind::Other, "zfs receive", "the machine is gone");
        let (this, receiving) = (self.this.upgrade().ok_or_else(gone)?, receiving.clone());
        let killed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&killed);
        Ok(FakeProcess::new(killed, move || this.run_receive(&receiving, input, &flag)))
    }

    fn is_encrypted(&self, dataset: &DatasetName) -> Result<bool> {
        // Encryption is for the tests on the real system.
        self.world().dataset(dataset.as_str()).map(|_| false)
    }

    fn sync(&self, dataset: &DatasetName) -> Result<()> {
        self.world().dataset(dataset.as_str()).map(drop)
    }

    fn is_blank(&self, dataset: &DatasetName) -> Result<bool> {
        let world = self.world();
        let dataset = world.dataset(dataset.as_str())?;
        Ok(dataset.is_filesystem() && dataset.snapshots.is_empty() && dataset.content == Content::default())
    }

    fn set_replica(&self, dataset: &DatasetName, replica: bool) -> Result<()> {
        self.effect("set_replica", |world| {
            let dataset = world.dataset_mut(dataset.as_str())?;
            if replica && dataset.busy {
                return Err(fault(Kind::Busy, "a replica", "dataset is busy"));
            }
            dataset.replica = replica;
            match replica {
                true => drop(dataset.notes.insert(REPLICA.to_owned(), "yes".to_owned())),
                false => drop(dataset.notes.remove(REPLICA)),
            }
            dataset.mounted = !replica;
            Ok(())
        })
    }
}

/// A process that comes to this end.
pub(super) fn ended(result: Result<()>) -> Arc<dyn Process> {
    FakeProcess::new(Arc::default(), || result)
}
