//! What one dataset or snapshot is, and all snapshots of a dataset or datasets below it, by the ioctls that `zfs list` is
//! made of (`ZFS_IOC_OBJSET_STATS`, `ZFS_IOC_SNAPSHOT_LIST_NEXT` and `ZFS_IOC_DATASET_LIST_NEXT`). A channel program tells
//! the same; but it opens the dataset anew for each property, and ZFS writes each one that runs into the pool's history,
//! so that reading would write to the disks. And user properties of it, by those that `zfs set` and `zfs inherit` are made
//! of.
//!
//! libzfs_core does not have these ioctls. Their numbers and the beginning of their argument, which is all that is used
//! here, have been the same since OpenZFS 0.8 (`sys/fs/zfs.h`, `sys/zfs_ioctl.h`).

use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::stat::Mode,
};
use nvpair::{NvData, NvList, NvListRef};

use super::{
    OpenZfs,
    program::{Record, escape},
    property,
};
use crate::os::{Error, Kind, Result, nvlist};

/// `('Z' << 8) + 0x12`.
const OBJSET_STATS: nix::libc::Ioctl = 0x5a12;
const DATASET_LIST_NEXT: nix::libc::Ioctl = 0x5a14;
const SNAPSHOT_LIST_NEXT: nix::libc::Ioctl = 0x5a15;
const SET_PROP: nix::libc::Ioctl = 0x5a16;
const INHERIT_PROP: nix::libc::Ioctl = 0x5a2b;
/// `zfs_cmd_t`: its name, then where a list for it is and how large that is, where its answer goes and how large that may
/// be, two more words of 8 bytes, and a text; and, behind that one, another text and three words, the place in a list. The
/// rest is zero. It is some 13 KiB large; a module that knows a larger one finds zeros there as well.
const NAME_BYTES: usize = 4096;
const LIST: usize = NAME_BYTES;
const LIST_BYTES: usize = NAME_BYTES + 8;
const ANSWER: usize = NAME_BYTES + 16;
const ANSWER_BYTES: usize = NAME_BYTES + 24;
const TEXT: usize = NAME_BYTES + 48;
const PLACE: usize = TEXT + 8192 + 256 + 24;
const COMMAND_BYTES: usize = 32 << 10;
/// Enough for a dataset with some user properties. When it is not, the kernel says how much it takes.
const USUAL_ANSWER: usize = 32 << 10;
/// What stands for "no" in options.
const OFF: [(&str, u64, &str); 3] = [
    ("compression", property::COMPRESS_OFF, "off"),
    ("dedup", property::CHECKSUM_OFF, "off"),
    ("sync", property::SYNC_DISABLED, "disabled"),
];
/// `DMU_OST_ZFS` and `DMU_OST_ZVOL`.
const TYPES: [(u64, &str); 2] = [(2, "filesystem"), (3, "volume")];

/// The device of the kernel module.
pub(super) struct Device(OwnedFd);

impl Device {
    pub(super) fn open() -> nix::Result<Self> {
        open("/dev/zfs", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map(Device)
    }

    /// What the kernel answers about a dataset, snapshot or pool; `None` when it is not there, or its pool. `usual` is how
    /// many bytes the answer may have without being asked for again.
    pub(super) fn ask(&self, number: nix::libc::Ioctl, name: &str, usual: usize) -> std::io::Result<Option<NvList>> {
        match Reader::new(self, usual).read(number, name, &mut 0) {
            Ok((_, list)) => Ok(Some(list)),
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names and properties of all in one of the lists of a dataset, in no order; none when it is not there, or its pool.
    fn list(&self, number: nix::libc::Ioctl, name: &str) -> std::io::Result<Vec<(String, NvList)>> {
        let (mut reader, mut found, mut place) = (Reader::new(self, USUAL_ANSWER), Vec::new(), 0);
        loop {
            let before = place;
            match reader.read(number, name, &mut place) {
                Ok(one) => found.push(one),
                Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => return Ok(found),
                // It was destroyed at this moment; the next one is behind it.
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) && place > before => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Names of the datasets right below this one, in no order; none when it is not there, or its pool. The kernel tells no
    /// properties when there is no room for them, which is what takes most of its time otherwise.
    fn children(&self, name: &str) -> std::io::Result<Vec<String>> {
        let (mut found, mut place) = (Vec::new(), 0_u64);
        loop {
            let mut command = command(name)?;
            command[PLACE..PLACE + 8].copy_from_slice(&place.to_ne_bytes());
            match self.call(DATASET_LIST_NEXT, &mut command, &mut []) {
                Ok(()) => found.push(name_in(&command)),
                Err(Errno::ESRCH) => return Ok(found),
                Err(error) => return Err(error.into()),
            }
            place = word(&command, PLACE);
        }
    }

    /// Sets user properties, all in one transaction.
    fn set(&self, name: &str, notes: &BTreeMap<String, String>) -> std::io::Result<()> {
        let mut list = NvList::try_new_unique_names()?;
        for (note, value) in notes {
            list.insert(note.as_str(), value.as_str())?;
        }
        let mut packed = nvlist::pack(&list)?;
        let mut command = command(name)?;
        point(&mut command, LIST, LIST_BYTES, &packed);
        Ok(self.call(SET_PROP, &mut command, &mut packed)?)
    }

    /// Removes a user property.
    fn inherit(&self, name: &str, note: &str) -> std::io::Result<()> {
        let mut command = command(name)?;
        // With the zero that ends it: no property has so long a name.
        let place = command.get_mut(TEXT..TEXT + note.len()).ok_or(Errno::ENAMETOOLONG)?;
        place.copy_from_slice(note.as_bytes());
        Ok(self.call(INHERIT_PROP, &mut command, &mut [])?)
    }

    #[allow(unsafe_code, reason = "there is no other way to these ioctls")]
    fn call(&self, number: nix::libc::Ioctl, command: &mut [u8], _memory: &mut [u8]) -> nix::Result<()> {
        // SAFETY: `command` is larger than the zfs_cmd_t that the kernel reads and writes, and names no memory but
        // `_memory` with its size; both are borrowed until the call returns.
        Errno::result(unsafe { nix::libc::ioctl(self.0.as_raw_fd(), number, command.as_mut_ptr()) }).map(drop)
    }
}

/// Calls whose answers are lists, with the memory for them.
struct Reader<'a> {
    device: &'a Device,
    answer: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(device: &'a Device, usual: usize) -> Self {
        Reader { device, answer: vec![0; usual] }
    }

    /// The name that the kernel answers with, and the list. `place` is where in a list of many it looks, and afterwards
    /// where the next one is, also when this one is gone (`ENOENT`).
    fn read(&mut self, number: nix::libc::Ioctl, name: &str, place: &mut u64) -> std::io::Result<(String, NvList)> {
        loop {
            let mut command = command(name)?;
            command[PLACE..PLACE + 8].copy_from_slice(&place.to_ne_bytes());
            point(&mut command, ANSWER, ANSWER_BYTES, &self.answer);
            // The kernel writes into `answer` behind the compiler's back.
            let outcome = self.device.call(number, &mut command, &mut self.answer);
            let size = usize::try_from(word(&command, ANSWER_BYTES)).unwrap_or(usize::MAX);
            match outcome {
                Ok(()) => {
                    *place = word(&command, PLACE);
                    let list = nvlist::unpack(self.answer.get_mut(..size).unwrap_or(&mut []))?;
                    return Ok((name_in(&command), list));
                }
                Err(Errno::ENOMEM) if (self.answer.len()..16 << 20).contains(&size) => {
                    self.answer = vec![0; size * 2];
                }
                Err(error) => {
                    *place = word(&command, PLACE);
                    return Err(error.into());
                }
            }
        }
    }
}

fn word(command: &[u8], place: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&command[place..place + 8]);
    u64::from_ne_bytes(bytes)
}

/// The name that the kernel has put into a command.
fn name_in(command: &[u8]) -> String {
    let name = command[..NAME_BYTES].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// A command for this dataset or snapshot.
fn command(name: &str) -> nix::Result<Vec<u8>> {
    // With the zero that ends it.
    if name.len() >= NAME_BYTES {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut command = vec![0_u8; COMMAND_BYTES];
    command[..name.len()].copy_from_slice(name.as_bytes());
    Ok(command)
}

/// Tells the kernel where this memory is, and how much.
fn point(command: &mut [u8], place: usize, size: usize, memory: &[u8]) {
    command[place..place + 8].copy_from_slice(&(memory.as_ptr().expose_provenance() as u64).to_ne_bytes());
    command[size..size + 8].copy_from_slice(&(memory.len() as u64).to_ne_bytes());
}

/// A property's value.
pub(super) fn value_of(list: &NvListRef) -> Option<NvData<'_>> {
    Some(list.iter().find(|pair| pair.name() == c"value")?.data())
}

/// Whether a property was set on the dataset of this name itself.
fn is_local(list: &NvListRef, name: &str) -> bool {
    list.lookup_string("source").is_ok_and(|source| source.to_bytes() == name.as_bytes())
}

impl OpenZfs {
    /// What there is to know of a dataset or snapshot, in the words of the programs (`program.rs`); of a snapshot, how
    /// many holds it has (`userrefs`) in the place of these. `None` when it is not there, or its pool.
    pub(super) fn look(&self, name: &str) -> Result<Option<Record>> {
        let action = || format!("reading {name}");
        let properties =
            self.device.ask(OBJSET_STATS, name, USUAL_ANSWER).map_err(|error| Error::io(action(), &error))?;
        properties.map(|list| record(name, &list).ok_or_else(|| unreadable(name))).transpose()
    }

    /// The same of each snapshot of a dataset, in no order; none when it is not there, or its pool.
    pub(super) fn look_at_snapshots(&self, name: &str) -> Result<Vec<Record>> {
        self.look_at_list(SNAPSHOT_LIST_NEXT, name, || format!("reading the snapshots of {name}"))
    }

    /// The same of each dataset below this one, however deep, parents before their children; none when it is not there,
    /// or its pool.
    pub(super) fn look_below(&self, name: &str) -> Result<Vec<Record>> {
        let (mut found, mut parents) = (Vec::new(), vec![name.to_owned()]);
        while let Some(parent) = parents.pop() {
            let children =
                self.look_at_list(DATASET_LIST_NEXT, &parent, || format!("reading what is below {parent}"))?;
            // Nothing is below a zvol.
            let filesystems = children.iter().filter(|child| child.find("type") != Some("volume"));
            parents.extend(filesystems.map(|child| child.name.clone()));
            found.extend(children);
        }
        Ok(found)
    }

    /// Names of all datasets below this one, however deep; none when it is not there, or its pool.
    pub(super) fn names_below(&self, name: &str) -> Result<Vec<String>> {
        let (mut found, mut parents) = (Vec::new(), vec![name.to_owned()]);
        while let Some(parent) = parents.pop() {
            let action = || format!("reading what is below {parent}");
            let children = self.device.children(&parent).map_err(|error| Error::io(action(), &error))?;
            parents.extend(children.iter().cloned());
            found.extend(children);
        }
        Ok(found)
    }

    fn look_at_list(
        &self,
        number: nix::libc::Ioctl,
        name: &str,
        action: impl FnOnce() -> String,
    ) -> Result<Vec<Record>> {
        let list = self.device.list(number, name).map_err(|error| Error::io(action(), &error))?;
        list.iter().map(|(name, list)| record(name, list).ok_or_else(|| unreadable(name))).collect()
    }

    /// Sets user properties of a dataset or snapshot, all at one moment.
    pub(super) fn note(&self, name: &str, notes: &BTreeMap<String, String>) -> Result<()> {
        if notes.is_empty() {
            return Ok(());
        }
        self.device.set(name, notes).map_err(|error| Error::io(format!("setting properties of {name}"), &error))
    }

    /// Removes a user property of a dataset.
    pub(super) fn drop_note(&self, name: &str, note: &str) -> Result<()> {
        self.device.inherit(name, note).map_err(|error| Error::io(format!("removing {note} from {name}"), &error))
    }

    /// Tells what is not there from what can't be looked at: `Missing` unless the pool is imported.
    pub(super) fn require_pool(&self, pool: &str, action: impl FnOnce() -> String) -> Result<()> {
        match self.look(pool)? {
            Some(_) => Ok(()),
            None => Err(Error::new(Kind::Missing, action(), format!("the pool {pool} is not imported"))),
        }
    }
}

fn unreadable(name: &str) -> Error {
    Error::new(Kind::Other, format!("reading {name}"), "the kernel's answer can't be read")
}

fn record(name: &str, list: &NvListRef) -> Option<Record> {
    let mut fields = Vec::new();
    for pair in list {
        let key = pair.name().to_str().ok()?;
        let NvData::NvListRef(inner) = pair.data() else { continue };
        let Some(value) = value_of(inner) else { continue };
        match (key, value) {
            ("type", NvData::Uint64(number)) => {
                let word = TYPES.iter().find(|(known, _)| *known == number).map_or("other", |(_, word)| word);
                fields.push((key.to_owned(), word.to_owned()));
            }
            ("clones", NvData::NvListRef(clones)) => {
                let names = clones.iter().map(|clone| clone.name().to_string_lossy().into_owned());
                fields.extend(names.map(|clone| ("clone".to_owned(), escape(&clone))));
            }
            (key, NvData::Uint64(number)) => match OFF.iter().find(|(option, ..)| *option == key) {
                Some((_, off, word)) if is_local(inner, name) => {
                    fields.push((key.to_owned(), if number == *off { (*word).to_owned() } else { "on".to_owned() }));
                }
                // Inherited.
                Some(_) => {}
                None => fields.push((key.to_owned(), number.cast_signed().to_string())),
            },
            (key, NvData::Str(text)) if !key.starts_with(property::OURS) || is_local(inner, name) => {
                fields.push((key.to_owned(), escape(&text.to_string_lossy())));
            }
            _ => {}
        }
    }
    Some(Record::of(name, fields))
}

#[cfg(test)]
mod tests {
    use nvpair::NvEncode;

    use super::*;

    fn property(value: &dyn Fn(&mut NvListRef), source: Option<&str>) -> NvList {
        let mut list = NvList::new_unique_names();
        value(&mut list);
        if let Some(source) = source {
            list.insert("source", source).unwrap();
        }
        list
    }

    fn number(value: u32) -> impl Fn(&mut NvListRef) {
        // The crate writes no 64 bits; what is read of these is tested on the real system.
        move |list| value.insert_into("value", list).unwrap()
    }

    fn text(value: &str) -> impl Fn(&mut NvListRef) {
        move |list| list.insert("value", value).unwrap()
    }

    #[test]
    fn own_notes_are_told_from_inherited_ones() {
        let mut list = NvList::new_unique_names();
        let name = "vpool1/fs1@snap1";
        for (key, property) in [
            ("vsnap:id", property(&text("x%y"), Some(name))),
            ("vsnap:name", property(&text("parent's"), Some("vpool1/fs1"))),
            ("vsnap:got", property(&text("received"), Some("$recvd"))),
            ("origin", property(&text("vpool1/a@b"), None)),
            ("odd", property(&number(7), None)),
        ] {
            list.insert(key, &*property).unwrap();
        }
        let record = record(name, &list).unwrap();
        assert_eq!(record.notes().unwrap(), [("vsnap:id".to_owned(), "x%y".to_owned())].into());
        assert_eq!((record.find("origin"), record.find("odd")), (Some("vpool1/a@b"), None));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        assert!(nvlist::unpack(&mut []).is_err() && nvlist::unpack(&mut [0; 64]).is_err());
    }
}
