//! Stable names of disks: the links that udev makes in `/dev/disk`.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use crate::{
    os::{Error, Result},
    types::disk::DiskUuid,
};

const BY_ID: &str = "/dev/disk/by-id/";
const BY_PATH: &str = "/dev/disk/by-path/";

/// Kinds of link, the best first. `scsi-3` is the NAA identity that the disk's maker gave it; the others contain at
/// least a serial number. Links of device mapper and RAID don't name disks and are not in the list.
const KINDS: [&str; 13] = [
    "by-id/scsi-3",
    "by-id/scsi-",
    "by-id/nvme-eui.",
    "by-id/nvme-",
    "by-id/ata-",
    "by-id/virtio-",
    "by-id/wwn-",
    "by-id/usb-",
    "by-id/mmc-",
    "by-path/pci-",
    "by-path/acpi-",
    "by-path/platform-",
    "by-path/virtio-",
];

/// What a disk is called for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StableName {
    /// Its identity.
    pub uuid: DiskUuid,
    /// Its link, or its device node when it has none.
    pub path: String,
}

/// The links of all block devices.
pub(super) struct Links {
    /// Paths of links by kernel name, the best first.
    by_device: HashMap<String, Vec<String>>,
}

impl Links {
    /// Reads `/dev/disk/by-id` and `/dev/disk/by-path`.
    pub(super) fn read() -> Result<Self> {
        let mut links = Vec::new();
        for folder in [BY_ID, BY_PATH] {
            let entries = match std::fs::read_dir(folder) {
                Ok(entries) => entries,
                // udev makes the folder with the first link.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io(format!("reading {folder}"), &error)),
            };
            for entry in entries.flatten() {
                // A link that goes away meanwhile belongs to a disk that goes away.
                let Ok(target) = std::fs::read_link(entry.path()) else { continue };
                if let (Some(device), Some(path)) = (file_name(&target), entry.path().to_str()) {
                    links.push((path.to_owned(), device));
                }
            }
        }
        Ok(Self::new(links))
    }

    /// From pairs of a link's path and the kernel name of the device that it leads to.
    pub(super) fn new(links: Vec<(String, String)>) -> Self {
        let mut ranked: BTreeMap<(usize, usize, String), String> = BTreeMap::new();
        for (path, device) in links {
            if let Some(rank) = rank(&path) {
                ranked.insert((rank, path.len(), path), device);
            }
        }
        let mut by_device: HashMap<String, Vec<String>> = HashMap::new();
        for ((_, _, path), device) in ranked {
            by_device.entry(device).or_default().push(path);
        }
        Links { by_device }
    }

    /// The stable name of the disk that the kernel calls `device` now; of one without links that name itself.
    pub(super) fn name(&self, device: &str) -> StableName {
        let links = self.by_device.get(device).map_or(&[][..], Vec::as_slice);
        let named = links.iter().find_map(|path| {
            let uuid = DiskUuid::new("uuid", identity(path)).ok()?;
            Some(StableName { uuid, path: path.clone() })
        });
        named.unwrap_or_else(|| StableName {
            // Kernel names are letters, digits, - and !, so the check can't fail; "unnamed" is not reached.
            uuid: DiskUuid::new("uuid", device)
                .or_else(|_| DiskUuid::new("uuid", "unnamed"))
                .unwrap_or_else(|invalid| unreachable!("{invalid}")),
            path: format!("/dev/{device}"),
        })
    }
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

fn rank(path: &str) -> Option<usize> {
    let below = path.strip_prefix("/dev/disk/")?;
    KINDS.iter().position(|kind| below.starts_with(kind))
}

/// The link's name without the bus that it begins with: `scsi-35000c5...` is `35000c5...`.
fn identity(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split_once('-').map_or(name, |(_bus, identity)| identity)
}

/// Two disks with the same identity (cheap USB bridges) get their by-id or by-path names whole, which differ.
pub(super) fn make_unique(mut names: Vec<StableName>) -> Vec<StableName> {
    let mut count: HashMap<DiskUuid, usize> = HashMap::new();
    for name in &names {
        *count.entry(name.uuid.clone()).or_default() += 1;
    }
    for name in names.iter_mut().filter(|name| count[&name.uuid] > 1) {
        let whole = name.path.rsplit('/').next().unwrap_or(&name.path);
        if let Ok(uuid) = DiskUuid::new("uuid", whole) {
            name.uuid = uuid;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn name(links: &[&str]) -> (String, String) {
        let links = links.iter().map(|link| (format!("/dev/disk/{link}"), "sda".to_owned())).collect();
        let name = Links::new(links).name("sda");
        (name.uuid.to_string(), name.path)
    }

    #[rstest]
    #[case(&["by-id/wwn-0x5000c5", "by-id/scsi-35000c5", "by-path/pci-0-scsi-0:0:1:0"], "35000c5", "by-id/scsi-35000c5")]
    #[case(&["by-id/ata-WDC_X_123", "by-id/wwn-0x5000c5"], "WDC_X_123", "by-id/ata-WDC_X_123")]
    #[case(&["by-id/ata-X", "by-id/scsi-0ATA_X", "by-id/scsi-SATA_X", "by-id/scsi-35"], "35", "by-id/scsi-35")]
    #[case(&["by-id/scsi-0QEMU_QEMU_HARDDISK_7"], "0QEMU_QEMU_HARDDISK_7", "by-id/scsi-0QEMU_QEMU_HARDDISK_7")]
    #[case(&["by-id/nvme-SAMSUNG_1", "by-id/nvme-SAMSUNG_1_1", "by-id/nvme-eui.0025"], "eui.0025", "by-id/nvme-eui.0025")]
    #[case(&["by-id/nvme-SAMSUNG_1_1", "by-id/nvme-SAMSUNG_1"], "SAMSUNG_1", "by-id/nvme-SAMSUNG_1")]
    #[case(&["by-id/virtio-disk7"], "disk7", "by-id/virtio-disk7")]
    #[case(&["by-path/virtio-pci-0000:00:03.0", "by-path/pci-0000:00:03.0"], "0000:00:03.0", "by-path/pci-0000:00:03.0")]
    #[case(&["by-id/dm-name-vg-lv", "by-id/lvm-pv-uuid-x", "by-id/md-name-a:0"], "sda", "/dev/sda")]
    fn the_best_link_names_a_disk(#[case] links: &[&str], #[case] uuid: &str, #[case] path: &str) {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/dev/disk/{path}") };
        assert_eq!(name(links), (uuid.to_owned(), path));
    }

    #[test]
    fn equal_identities_are_told_apart() {
        let links = Links::new(vec![
            ("/dev/disk/by-id/usb-BRIDGE_0".into(), "sda".into()),
            ("/dev/disk/by-id/ata-BRIDGE_0".into(), "sdb".into()),
            ("/dev/disk/by-id/ata-OTHER".into(), "sdc".into()),
        ]);
        let names = make_unique(["sda", "sdb", "sdc"].map(|device| links.name(device)).into());
        let uuids: Vec<_> = names.iter().map(|name| name.uuid.as_str()).collect();
        assert_eq!(uuids, ["usb-BRIDGE_0", "ata-BRIDGE_0", "OTHER"]);
    }
}
