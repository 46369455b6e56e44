//! The last look at a disk before it is used, and clearing it afterwards: past udev's database and every cache.

use std::{
    fs::File,
    io::ErrorKind,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Disks, ZFS_PARTITION, label::Labels};
use crate::{
    os::{Error, Kind, LabelOwner, Result, file},
    types::disk::DiskUse,
};

/// How long udev may have a partition open that is to go, and the time between two tries.
const LOOKED_AT: Duration = Duration::from_secs(15);
const LOOK_WAIT: Duration = Duration::from_millis(100);

/// What `blkid` finds on a device itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    /// `TYPE` of a file system, RAID member, ...
    signature: Option<String>,
    /// `PTTYPE` of a partition table.
    table: Option<String>,
    /// `PART_ENTRY_TYPE`, when the device is a partition.
    partition_type: Option<String>,
    /// `PART_ENTRY_NAME`, when the device is a partition.
    partition_name: Option<String>,
}

impl Content {
    /// From the output of `blkid -p -o export`.
    fn read(text: &str) -> Self {
        let value = |key: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
        };
        Content {
            signature: value("TYPE"),
            table: value("PTTYPE"),
            partition_type: value("PART_ENTRY_TYPE"),
            partition_name: value("PART_ENTRY_NAME"),
        }
    }
}

/// A disk that is there now.
struct Device {
    node: String,
    sysfs: PathBuf,
}

impl Device {
    /// The block device at `path`; `None` when there is none.
    fn find(path: &str) -> Result<Option<Self>> {
        let action = || format!("looking at {path}");
        let node = match Path::new(path).canonicalize() {
            Ok(node) => node,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(action(), &error)),
        };
        let metadata = std::fs::metadata(&node).map_err(|error| Error::io(action(), &error))?;
        let (Some(name), Some(text)) = (node.file_name(), node.to_str()) else {
            return Err(Error::new(Kind::Other, action(), "it has no usable name"));
        };
        let sysfs = Path::new("/sys/block").join(name);
        if !metadata.file_type().is_block_device() || !sysfs.exists() {
            return Err(Error::new(Kind::Denied, action(), "it is not a whole disk"));
        }
        Ok(Some(Device { node: text.to_owned(), sysfs }))
    }

    /// Claims the disk, which the kernel allows to one at a time: file systems, swap, RAID, LVM and ZFS hold such a
    /// claim on the disk or a partition of it. `None` when it is taken.
    fn claim(&self) -> Result<Option<File>> {
        match file::open_exclusively(Path::new(&self.node)) {
            Ok(claim) => Ok(Some(claim)),
            Err(error) if error.kind == Kind::Busy => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its partitions by number, with their device nodes, as the kernel has them.
    fn partitions(&self) -> Result<Vec<(u32, String)>> {
        let action = || format!("reading {}", self.sysfs.display());
        let mut partitions = Vec::new();
        for entry in std::fs::read_dir(&self.sysfs).map_err(|error| Error::io(action(), &error))? {
            let entry = entry.map_err(|error| Error::io(action(), &error))?;
            // Folders other than partitions (queue, power) have no such file, and files have nothing below them.
            let file = entry.path().join("partition");
            let Some(number) = (if file.is_file() { file::read(&file)? } else { None }) else { continue };
            let number = number.trim().parse().map_err(|_| Error::new(Kind::Other, action(), "no partition number"))?;
            partitions.push((number, format!("/dev/{}", entry.file_name().to_string_lossy())));
        }
        partitions.sort();
        Ok(partitions)
    }

    fn is_read_only(&self) -> Result<bool> {
        Ok(file::read(&self.sysfs.join("ro"))?.is_some_and(|text| text.trim() == "1"))
    }
}

impl Disks {
    /// See [`crate::os::Machine::probe_disk`].
    pub fn probe(&self, path: &str) -> Result<DiskUse> {
        let Some(device) = Device::find(path)? else {
            return Err(Error::new(Kind::Missing, format!("looking at {path}"), "there is no such disk"));
        };
        let Some(_claim) = device.claim()? else {
            return Ok(match self.listed(&device.node)? {
                DiskUse::Unused => DiskUse::Busy("claimed".to_owned()),
                used => used,
            });
        };
        if device.is_read_only()? {
            return Ok(DiskUse::Busy("read-only".to_owned()));
        }
        let content = match self.content(&device.node)? {
            Some(content) => content,
            None => return Ok(DiskUse::Signature("ambivalent".to_owned())),
        };
        if let Some(signature) = content.signature {
            return Ok(DiskUse::Signature(signature));
        }
        if content.table.is_some() || !device.partitions()?.is_empty() {
            return Ok(match self.listed(&device.node)? {
                DiskUse::Unused => DiskUse::Partitioned,
                used => used,
            });
        }
        // Labels that were written over in part: blkid does not see them any more, but ZFS would refuse the disk.
        if Labels::of(&device.node)?.found {
            return Ok(DiskUse::Signature("zfs_member".to_owned()));
        }
        Ok(DiskUse::Unused)
    }

    /// See [`crate::os::Machine::release_disk`]. A disk that someone has open is `Busy`.
    pub fn release(&self, path: &str, owner: &LabelOwner) -> Result<()> {
        let action = format!("clearing the label of {} from {path}", owner.name);
        let Some(device) = Device::find(path)? else { return Ok(()) };
        let Some(claim) = device.claim()? else {
            return Err(Error::new(Kind::Busy, action, "the disk is in use"));
        };
        let Some(cleared) = self.check_owner(&device, owner).map_err(|reason| match reason {
            Refusal::NotOwners(detail) => Error::new(Kind::Denied, action.clone(), detail),
            Refusal::Failed(error) => error,
        })?
        else {
            drop(claim);
            return self.look_again(&device);
        };
        // The tools claim the disk themselves, and refuse if someone else was quicker.
        drop(claim);
        for labelled in &cleared.labelled {
            self.zpool.command(["labelclear", "-f", labelled]).output(|_| Kind::Other)?;
        }
        for node in cleared.partitions.iter().chain([&device.node]) {
            self.wipefs.command(["--all", "--quiet", node]).output(|_| Kind::Other)?;
        }
        self.reread_partitions(&device.node)?;
        self.look_again(&device)?;
        match self.probe(path) {
            Ok(DiskUse::Unused) => Ok(()),
            Ok(used) => Err(Error::new(Kind::Other, action, format!("it still shows {used:?}"))),
            Err(error) if error.kind == Kind::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has udev look at a disk once more, also when nothing was to be cleared. Usually it does by itself when somebody has
    /// written to one, but it may have lost the watch that tells it ("Failed to add inotify watch" in its log), and lists
    /// would have the disk partitioned for ever.
    fn look_again(&self, device: &Device) -> Result<()> {
        file::instruct(&device.sysfs.join("uevent"), "change")?;
        self.settle()
    }

    /// Has the kernel forget the partitions of a table that is gone. It refuses while udev looks at one of them, as it does
    /// after every change.
    fn reread_partitions(&self, node: &str) -> Result<()> {
        let deadline = Instant::now() + LOOKED_AT;
        loop {
            let busy = |message: &str| if message.contains("busy") { Kind::Busy } else { Kind::Other };
            match self.blockdev.command(["--rereadpt", node]).output(busy) {
                Err(error) if error.kind == Kind::Busy && Instant::now() < deadline => {
                    self.settle()?;
                    std::thread::sleep(LOOK_WAIT);
                }
                result => return result.map(drop),
            }
        }
    }

    /// What is to be cleared from a disk so that nothing but labels of `owner` is lost; `None` when it is clean.
    fn check_owner(&self, device: &Device, owner: &LabelOwner) -> Result<Option<Clearing>, Refusal> {
        let content = self.content(&device.node)?.ok_or_else(|| refuse("it has several signatures"))?;
        let partitions = device.partitions()?;
        match (content.signature.as_deref(), content.table.as_deref()) {
            (None | Some("zfs_member"), None) if partitions.is_empty() => {
                let labels = Labels::of(&device.node)?;
                if !labels.found && content.signature.is_none() {
                    return Ok(None);
                }
                let labelled = self.check_labels(&labels, owner, &device.node)?;
                Ok(Some(Clearing { labelled, partitions: vec![] }))
            }
            (None, Some("gpt")) => {
                let mut clearing = Clearing::default();
                for (number, node) in partitions {
                    match number {
                        1 => clearing.labelled = self.check_partition(&node, owner)?,
                        // The small partition that ZFS makes at the end of a disk and never writes to.
                        9 if self.content(&node)?.is_some_and(|content| content.signature.is_none()) => {}
                        _ => return Err(refuse(&format!("it has a partition {number} that is not of ZFS"))),
                    }
                    clearing.partitions.push(node);
                }
                Ok(Some(clearing))
            }
            // No table, or only the protective half of a GPT: a clearing that was cut off, or the making of a table.
            (None, None | Some("PMBR")) => {
                let mut clearing = Clearing::default();
                for (_, node) in partitions {
                    clearing.labelled.extend(self.check_remains(&node, owner)?);
                    clearing.partitions.push(node);
                }
                Ok(Some(clearing))
            }
            (Some(signature), _) => Err(refuse(&format!("it holds {signature}"))),
            (None, Some(table)) => Err(refuse(&format!("it has partitions ({table})"))),
        }
    }

    /// Checks the partition that ZFS puts its data on.
    fn check_partition(&self, node: &str, owner: &LabelOwner) -> Result<Vec<String>, Refusal> {
        let content = self.content(node)?.ok_or_else(|| refuse("its partition has several signatures"))?;
        if let Some(signature) = content.signature.as_deref().filter(|signature| *signature != "zfs_member") {
            return Err(refuse(&format!("its partition holds {signature}")));
        }
        let labels = Labels::of(node)?;
        // Without a label it is the leftover of a create that was cut off, which has the name that ZFS gives.
        let by_zfs = content.partition_type.as_deref() == Some(ZFS_PARTITION)
            && content.partition_name.as_deref().is_some_and(|name| name.starts_with("zfs-"));
        if !labels.found && !by_zfs {
            return Err(refuse("its partition was not made by ZFS"));
        }
        self.check_labels(&labels, owner, node)
    }

    /// Checks a partition that the kernel still knows, of a table that is gone: empty, or with the owner's label.
    fn check_remains(&self, node: &str, owner: &LabelOwner) -> Result<Vec<String>, Refusal> {
        match self.content(node)?.map(|content| content.signature) {
            Some(None) => self.check_labels(&Labels::of(node)?, owner, node),
            Some(Some(signature)) if signature == "zfs_member" => self.check_labels(&Labels::of(node)?, owner, node),
            _ => Err(refuse("its partition holds something else")),
        }
    }

    fn check_labels(&self, labels: &Labels, owner: &LabelOwner, node: &str) -> Result<Vec<String>, Refusal> {
        match labels.contradiction(owner) {
            Some(contradiction) => Err(refuse(&contradiction)),
            None if labels.found => Ok(vec![node.to_owned()]),
            None => Ok(vec![]),
        }
    }

    /// What is on a device itself; `None` when there are several signatures that contradict each other.
    fn content(&self, node: &str) -> Result<Option<Content>> {
        let command = self.blkid.command(["-p", "-o", "export", node]);
        let action = command.to_string();
        let output = command.run()?;
        match output.code {
            Some(0) => Ok(Some(Content::read(&output.text()))),
            // "not found", also when the device can't be read; what it says on standard error tells them apart
            Some(2) if output.stderr.is_empty() => Ok(Some(Content::default())),
            Some(8) => Ok(None),
            _ => Err(output.failure(action, |_| Kind::Other)),
        }
    }
}

/// What [`Disks::release`] has to clear.
#[derive(Default)]
struct Clearing {
    /// Devices with a ZFS label.
    labelled: Vec<String>,
    /// All partitions.
    partitions: Vec<String>,
}

/// Why a disk is not cleared.
enum Refusal {
    NotOwners(String),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Failed(error)
    }
}

fn refuse(reason: &str) -> Refusal {
    Refusal::NotOwners(format!("{reason}; nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! sample {
        ($name:literal) => {
            Content::read(include_str!(concat!("../../../tests/fixtures/disks/blkid-", $name, ".txt")))
        };
    }

    #[test]
    fn what_blkid_finds() {
        assert_eq!(sample!("unused"), Content::default());
        let disk = sample!("zfs-disk");
        assert_eq!((disk.signature, disk.table.as_deref()), (None, Some("gpt")));
        let partition = sample!("zfs-partition");
        assert_eq!(partition.signature.as_deref(), Some("zfs_member"));
        assert_eq!(partition.partition_type.as_deref(), Some(ZFS_PARTITION));
        assert_eq!(partition.partition_name.as_deref(), Some("zfs-b66dc1f3393be2c2"));
        // A disk that was partitioned before it became swap still has the table's copy at its end.
        let swap = sample!("swap");
        assert_eq!((swap.signature.as_deref(), swap.table.as_deref()), (Some("swap"), Some("gpt")));
        assert_eq!(sample!("lvm").signature.as_deref(), Some("LVM2_member"));
    }

    #[test]
    fn a_disk_that_is_not_there() {
        assert!(Device::find("/dev/disk/by-id/no-such-disk").unwrap().is_none());
        assert_eq!(Device::find("/dev/null").err().map(|error| error.kind), Some(Kind::Denied));
        assert_eq!(Device::find("/etc/passwd").err().map(|error| error.kind), Some(Kind::Denied));
    }
}
