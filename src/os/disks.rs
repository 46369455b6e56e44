//! Disks: which there are, what they are called, and what is on them.
//!
//! Lists come from `lsblk`, that is from udev's database, and from the links in `/dev/disk`; they are cheap and a
//! moment old. Before a disk is used or cleared, `claim.rs` looks at the disk itself.

mod claim;
mod label;
mod links;

use std::{path::Path, time::Duration};

use serde::Deserialize;

use self::links::Links;
use super::{
    Error, Kind, Result,
    command::{Limit, Tool},
    file,
};
use crate::types::disk::{Disk, DiskUse};

/// GPT type of the partition that ZFS makes on a whole disk.
const ZFS_PARTITION: &str = "6a898cc3-1dd2-11b2-99a6-080020736631";
/// How long udev gets to see new disks.
const SETTLE_SECONDS: u64 = 60;
/// What `lsblk` is asked for. NAME makes it print a tree.
const COLUMNS: &str = "NAME,KNAME,TYPE,SIZE,RO,PHY-SEC,TRAN,VENDOR,MODEL,FSTYPE,PTTYPE,PARTLABEL,PARTTYPE,MOUNTPOINTS";

/// The disks of the machine.
pub struct Disks {
    lsblk: Tool,
    blkid: Tool,
    udevadm: Tool,
    wipefs: Tool,
    blockdev: Tool,
    zpool: Tool,
    allow_loop_devices: bool,
}

impl Disks {
    /// Looks for the tools. Loop devices count as disks when the configuration says so.
    pub fn new(allow_loop_devices: bool) -> Result<Self> {
        Ok(Disks {
            lsblk: Tool::find("lsblk", "util-linux")?,
            blkid: Tool::find("blkid", "util-linux")?,
            udevadm: Tool::find("udevadm", "udev")?,
            wipefs: Tool::find("wipefs", "util-linux")?,
            blockdev: Tool::find("blockdev", "util-linux")?,
            zpool: Tool::find("zpool", "zfsutils-linux")?,
            allow_loop_devices,
        })
    }

    /// See [`super::Machine::disks`]. Disks of imported pools are [`DiskUse::Signature`] `zfs_member` here: only ZFS
    /// knows which pools are imported.
    pub fn list(&self) -> Result<Vec<Disk>> {
        let command = self.lsblk.command(["--json", "--bytes", "--output", COLUMNS]);
        let action = command.to_string();
        let nodes = read(&action, &command.output(|_| Kind::Other)?)?;
        Ok(disks(&nodes, &Links::read()?, self.allow_loop_devices))
    }

    /// What `lsblk` says of one device.
    fn listed(&self, device: &str) -> Result<DiskUse> {
        let command = self.lsblk.command(["--json", "--bytes", "--output", COLUMNS, device]);
        let action = command.to_string();
        Ok(read(&action, &command.output(|_| Kind::Other)?)?.first().map_or(DiskUse::Unused, Node::used))
    }

    /// See [`super::Machine::rescan_disks`]. A host adapter or disk that refuses does not keep the others from being
    /// asked.
    pub fn rescan(&self) -> Result<()> {
        let instruct = |folder: &str, instruction: &str, value: &str| {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path().join(instruction);
                if !path.exists() {
                    continue;
                }
                if let Err(error) = file::instruct(&path, value) {
                    tracing::warn!(%error, "a rescan was refused");
                }
            }
        };
        instruct("/sys/class/scsi_host", "scan", "- - -");
        instruct("/sys/class/nvme", "rescan_controller", "1");
        // Disks that are there already may have grown.
        instruct("/sys/class/scsi_disk", "device/rescan", "1");
        // And udev may have missed that somebody wrote to them. Only hardware has this file: no zvol, no loop device.
        for name in file::names(Path::new("/sys/block"))? {
            let disk = Path::new("/sys/block").join(name);
            if disk.join("device").exists()
                && let Err(error) = file::instruct(&disk.join("uevent"), "change")
            {
                tracing::warn!(%error, "udev could not be told to look at a disk");
            }
        }
        self.settle()
    }

    fn settle(&self) -> Result<()> {
        let limit = Limit::Time(Duration::from_secs(SETTLE_SECONDS + 5));
        let settle = self.udevadm.command(["settle", &format!("--timeout={SETTLE_SECONDS}")]).limit(limit);
        settle.output(|_| Kind::TimedOut).map(drop)
    }
}

#[derive(Deserialize)]
struct Listing {
    blockdevices: Vec<Node>,
}

/// A block device as `lsblk` has it.
#[derive(Deserialize)]
struct Node {
    kname: String,
    #[serde(rename = "type")]
    kind: String,
    size: u64,
    ro: bool,
    #[serde(rename = "phy-sec")]
    sector_bytes: u32,
    tran: Option<String>,
    vendor: Option<String>,
    model: Option<String>,
    fstype: Option<String>,
    pttype: Option<String>,
    partlabel: Option<String>,
    parttype: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Node>,
}

fn read(action: &str, json: &str) -> Result<Vec<Node>> {
    let listing: Listing = serde_json::from_str(json)
        .map_err(|error| Error::new(Kind::Other, action, format!("its output can't be read: {error}")))?;
    Ok(listing.blockdevices)
}

/// The whole disks among `nodes`, in the order of `lsblk`.
fn disks(nodes: &[Node], links: &Links, allow_loop_devices: bool) -> Vec<Disk> {
    let candidates: Vec<&Node> = nodes.iter().filter(|node| node.is_disk(allow_loop_devices)).collect();
    let names = candidates.iter().map(|node| links.name(&node.kname));
    let names = links::make_unique(names.collect());
    let disk = |(node, name): (&&Node, links::StableName)| Disk {
        uuid: name.uuid,
        name: format!("/dev/{}", node.kname),
        path: name.path,
        bytes: node.size,
        sector_bytes: node.sector_bytes,
        bus: node.bus().to_owned(),
        vendor: trimmed(node.vendor.as_deref()),
        model: trimmed(node.model.as_deref()),
        used: node.used(),
    };
    candidates.iter().zip(names).map(disk).collect()
}

fn trimmed(text: Option<&str>) -> String {
    text.unwrap_or_default().trim().to_owned()
}

impl Node {
    /// zvols, RAM disks and device-mapper nodes call themselves disks as well. An empty card reader has size 0.
    fn is_disk(&self, allow_loop_devices: bool) -> bool {
        let made_by_software =
            ["zd", "zram", "ram", "dm-", "md", "fd"].iter().any(|prefix| self.kname.starts_with(prefix));
        let kind = self.kind == "disk" || allow_loop_devices && self.kind == "loop";
        kind && self.size > 0 && !made_by_software
    }

    fn bus(&self) -> &'static str {
        match self.tran.as_deref() {
            Some("nvme") => "NVME",
            Some("sata" | "ata") => "ATA",
            Some("usb") => "USB",
            Some("virtio") => "VIRTIO",
            Some("mmc") => "MMC",
            _ if self.kind == "loop" => "LOOP",
            _ if self.kname.starts_with("nvme") => "NVME",
            _ if self.kname.starts_with("vd") => "VIRTIO",
            // sas, fc, iscsi, spi, and drivers that don't say
            _ => "SCSI",
        }
    }

    /// This node and all below it.
    fn all(&self) -> Vec<&Node> {
        std::iter::once(self).chain(self.children.iter().flat_map(Node::all)).collect()
    }

    /// What it is used for.
    fn used(&self) -> DiskUse {
        let mounts: Vec<&str> =
            self.all().iter().flat_map(|node| node.mountpoints.iter().flatten().map(String::as_str)).collect();
        if mounts.iter().any(|mount| is_of_system(mount)) {
            return DiskUse::Busy("system".to_owned());
        }
        if mounts.contains(&"[SWAP]") {
            return DiskUse::Busy("swap".to_owned());
        }
        if !mounts.is_empty() {
            return DiskUse::Busy("mounted".to_owned());
        }
        if let Some(signature) = &self.fstype {
            return DiskUse::Signature(signature.clone());
        }
        let (partitions, holders): (Vec<&Node>, Vec<&Node>) = self.children.iter().partition(|c| c.kind == "part");
        if let Some(holder) = holders.first() {
            return DiskUse::Busy(holder.kind.clone());
        }
        if self.pttype.is_some() || !partitions.is_empty() {
            return content(&partitions);
        }
        if self.ro {
            return DiskUse::Busy("read-only".to_owned());
        }
        DiskUse::Unused
    }

    /// Whether it is the partition that ZFS makes on a whole disk, even if it is empty by now.
    fn is_made_by_zfs(&self) -> bool {
        self.parttype.as_deref() == Some(ZFS_PARTITION)
            && self.partlabel.as_deref().is_some_and(|name| name.starts_with("zfs-"))
    }
}

/// What a partitioned disk holds: the one kind of content there is, or else just partitions.
fn content(partitions: &[&Node]) -> DiskUse {
    let mut kinds: Vec<&str> = partitions.iter().filter_map(|part| part.fstype.as_deref()).collect();
    if kinds.is_empty() && partitions.iter().any(|part| part.is_made_by_zfs()) {
        kinds.push("zfs_member");
    }
    kinds.sort_unstable();
    kinds.dedup();
    match kinds[..] {
        [kind] => DiskUse::Signature(kind.to_owned()),
        _ => DiskUse::Partitioned,
    }
}

fn is_of_system(mount: &str) -> bool {
    let folders = ["/boot", "/usr", "/var", "/home"];
    mount == "/" || folders.iter().any(|folder| Path::new(mount).starts_with(folder))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ALL: &str = include_str!("../../tests/fixtures/disks/lsblk-all.json");
    const OWNERS: &str = include_str!("../../tests/fixtures/disks/lsblk-owners.json");

    fn listed(json: &str) -> Vec<Disk> {
        let nodes = read("lsblk", json).unwrap();
        let links = nodes.iter().map(|node| {
            let number = node.kname.bytes().last().unwrap();
            (format!("/dev/disk/by-id/scsi-35000c5000000{number:03}"), node.kname.clone())
        });
        disks(&nodes, &Links::new(links.collect()), false)
    }

    #[test]
    fn a_machine_with_a_pool() {
        let disks = listed(ALL);
        assert_eq!(disks.len(), 17);
        let used = |name: &str| disks.iter().find(|disk| disk.name == name).unwrap().used.clone();
        assert_eq!(used("/dev/sda"), DiskUse::Signature("zfs_member".into()));
        assert_eq!(used("/dev/sdf"), DiskUse::Unused);
        assert_eq!(used("/dev/vda"), DiskUse::Busy("system".into()));
        let first = &disks[0];
        assert_eq!(
            (first.bytes, first.sector_bytes, first.bus.as_str(), first.vendor.as_str(), first.model.as_str()),
            (2 << 30, 512, "SCSI", "QEMU", "QEMU HARDDISK")
        );
    }

    #[test]
    fn every_other_owner_is_seen() {
        let disks = listed(OWNERS);
        let words: Vec<(&str, String)> =
            disks.iter().map(|disk| (&disk.name[5..], disk.used.word(|_| false))).collect();
        let expected = [
            ("sda", "zfs_member"),
            ("sdb", "zfs_member"),
            ("sdc", "LVM2_member"),
            ("sdd", "linux_raid_member"),
            ("sde", "linux_raid_member"),
            ("sdf", "mounted"),
            ("sdg", "zfs_member"),
            ("sdh", "zfs_member"),
            ("sdi", "zfs_member"),
            ("sdj", "xfs"),
            ("sdk", "zfs_member"),
            ("sdm", "swap"),
            ("sdn", "vfat"),
            ("sdo", "zfs_member"),
            ("sdp", "unused"),
            ("sdq", "zfs_member"),
            ("vda", "system"),
        ];
        let expected: Vec<(&str, String)> = expected.map(|(name, word)| (name, word.to_owned())).into();
        assert_eq!(words, expected);
    }

    fn node(more: &str) -> Node {
        serde_json::from_str(&format!(
            r#"{{"kname":"sda","type":"disk","size":1000,"ro":false,"phy-sec":512,"tran":null,"vendor":null,"model":null,
            "fstype":null,"pttype":null,"partlabel":null,"parttype":null,"mountpoints":[null]{more}}}"#
        ))
        .unwrap()
    }

    fn part(members: &str) -> String {
        let part = r#"{"kname":"sda1","type":"part","size":9,"ro":false,"phy-sec":512,"mountpoints":[]"#;
        format!(r#","children":[{part}{members}}}]"#)
    }

    #[rstest]
    #[case("", "unused")]
    #[case(&part(""), "partitioned")]
    #[case(&part(r#","fstype":"ext4""#), "ext4")]
    #[case(&part(r#","partlabel":"zfs-1","parttype":"6a898cc3-1dd2-11b2-99a6-080020736631""#), "zfs_member")]
    #[case(&part(r#","partlabel":"zfs-1""#), "partitioned")]
    #[case(r#","children":[{"kname":"dm-0","type":"mpath","size":9,"ro":false,"phy-sec":512}]"#, "mpath")]
    fn other_disks(#[case] members: &str, #[case] word: &str) {
        assert_eq!(node(members).used().word(|_| false), word);
    }

    #[rstest]
    #[case("sda", "disk", true)]
    #[case("nvme0n1", "disk", true)]
    #[case("loop0", "loop", false)]
    #[case("sr0", "rom", false)]
    #[case("zd16", "disk", false)]
    #[case("zram0", "disk", false)]
    #[case("dm-1", "crypt", false)]
    fn candidates(#[case] kname: &str, #[case] kind: &str, #[case] is_disk: bool) {
        let node = Node { kname: kname.to_owned(), kind: kind.to_owned(), ..node("") };
        assert_eq!(node.is_disk(false), is_disk);
        assert_eq!(node.is_disk(true), is_disk || kind == "loop");
        assert!(!Node { size: 0, ..node }.is_disk(true));
    }
}
