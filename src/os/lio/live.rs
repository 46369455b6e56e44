//! What is live in LIO: our backstores and our targets, and as much of others as stands in our way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read,
    net::SocketAddr,
    path::Path,
};

use super::ScsiTarget;
use crate::{
    os::{Error, Kind, Result},
    types::VolumeId,
};

/// Number of the first of our HBAs; that of a volume is this much above its id. Far above those that `targetcli` gives.
pub(super) const FIRST_HBA: i64 = 89_000_000;

/// What our backstores are called, before the volume's id.
pub(super) const STORE_PREFIX: &str = "vsnap-volume";

/// The alias of our targets, by which one is known that has another IQN than the one wanted.
pub(super) const ALIAS: &str = "vSnap";

/// Attributes of a target that we set, with their values.
pub(super) const TARGET_ATTRIBUTES: [(&str, &str); 6] = [
    ("attrib/generate_node_acls", "0"),
    ("attrib/demo_mode_discovery", "0"),
    ("attrib/tpg_enabled_sendtargets", "0"),
    ("attrib/cache_dynamic_acls", "0"),
    ("attrib/authentication", "1"),
    ("param/TargetAlias", ALIAS),
];

/// Attributes of an ACL that carry CHAP, in the order of [`Acl::auth`].
pub(super) const AUTH: [&str; 4] = ["auth/userid", "auth/password", "auth/userid_mutual", "auth/password_mutual"];

/// All that is ours.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    /// Backstores.
    pub stores: BTreeMap<VolumeId, Store>,
    /// Targets by IQN.
    pub targets: BTreeMap<String, Target>,
    /// Portals of targets of somebody else.
    pub others: BTreeSet<SocketAddr>,
}

/// The backstore of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Store {
    /// `iblock` or `fileio`.
    pub kind: String,
    /// Whether there is more than an HBA.
    pub made: bool,
    /// Whether it has been enabled.
    pub enabled: bool,
    /// What it was made of, as shown.
    pub shown: String,
    /// Serial number.
    pub serial: String,
    /// Size of a file in bytes.
    pub size: Option<u64>,
    /// `emulate_tpu`.
    pub unmap: String,
    /// `emulate_write_cache`.
    pub write_cache: String,
}

/// A target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// Whether there is its portal group 1.
    pub made: bool,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Whether it was read only as far as some units need it: attributes, port and portals are not known, and not to be
    /// changed.
    pub partial: bool,
    /// Values of [`TARGET_ATTRIBUTES`], as far as they can be read.
    pub attributes: Vec<Option<String>>,
    /// Whether the number of its port can be set, and what it is.
    pub port: Option<String>,
    /// Names of portals.
    pub portals: Vec<String>,
    /// LUNs with the links in them: name, and what they lead to below the root.
    pub luns: BTreeMap<String, Vec<(String, String)>>,
    /// ACLs.
    pub acls: BTreeMap<String, Acl>,
}

/// An ACL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Acl {
    /// Users and secrets.
    pub auth: [Hidden; 4],
    /// Whether CHAP is wanted: `1`, `0`, or `-1` for what the target says.
    pub authentication: String,
    /// Mapped LUNs with the links in them.
    pub luns: BTreeMap<String, Vec<(String, String)>>,
}

/// A text that is not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Hidden(..)")
    }
}

/// Folder of a volume's backstore below the root, and that of its HBA.
pub(super) fn store_folders(kind: &str, volume: VolumeId) -> (String, String) {
    let hba = format!("core/{kind}_{}", FIRST_HBA + volume.0);
    (format!("{hba}/{STORE_PREFIX}{volume}"), hba)
}

/// Reads it all, or with `only` no more than has to do with what is in that: of a target that is enabled nothing else.
/// `iqn` is that of the wanted target.
pub(super) fn read(root: &Path, iqn: Option<&str>, only: Option<&ScsiTarget>) -> Result<Live> {
    let mut live = Live::default();
    for hba in hbas(root, only)? {
        let Some((kind, volume)) = our_hba(&hba) else { continue };
        let folder = root.join(store_folders(&kind, volume).0);
        live.stores.insert(volume, read_store(kind, &folder)?);
    }
    let group_of = |name: &str| root.join("iscsi").join(name).join("tpgt_1");
    if let (Some(iqn), Some(only)) = (iqn, only)
        && is_enabled(&group_of(iqn))?
    {
        let target = Target { made: true, enabled: true, partial: true, ..Target::default() };
        live.targets.insert(iqn.to_owned(), with_units(target, root, &group_of(iqn), Some(only))?);
        return Ok(live);
    }
    for name in folders(&root.join("iscsi"))?.into_iter().filter(|name| name != "discovery_auth") {
        let group = group_of(&name);
        let alias = value(&group.join("param/TargetAlias"))?;
        if Some(name.as_str()) == iqn || only.is_none() && alias.as_deref() == Some(ALIAS) {
            live.targets.insert(name, read_target(root, &group, only)?);
        } else if alias.as_deref() != Some(ALIAS) {
            for group in folders(&root.join("iscsi").join(&name))? {
                let portals = folders(&root.join("iscsi").join(&name).join(group).join("np"))?;
                live.others.extend(portals.iter().filter_map(|portal| portal.parse::<SocketAddr>().ok()));
            }
        }
    }
    Ok(live)
}

fn is_enabled(group: &Path) -> Result<bool> {
    Ok(value(&group.join("enable"))?.as_deref() == Some("1"))
}

fn hbas(root: &Path, only: Option<&ScsiTarget>) -> Result<Vec<String>> {
    let Some(only) = only else { return folders(&root.join("core")) };
    let numbers = only.units.iter().map(|unit| FIRST_HBA + unit.volume.0);
    let names = numbers.flat_map(|number| ["iblock", "fileio"].map(|kind| format!("{kind}_{number}")));
    existing(&root.join("core"), names)
}

/// Those of these names that are there.
fn existing(folder: &Path, names: impl Iterator<Item = String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names {
        if is_there(&folder.join(&name))? {
            found.push(name);
        }
    }
    Ok(found)
}

fn our_hba(name: &str) -> Option<(String, VolumeId)> {
    let (kind, number) = name.split_once('_')?;
    let id = number.parse::<i64>().ok()? - FIRST_HBA;
    (id > 0 && (kind == "iblock" || kind == "fileio")).then(|| (kind.to_owned(), VolumeId(id)))
}

fn read_store(kind: String, folder: &Path) -> Result<Store> {
    let text = |name: &str| Ok::<_, Error>(value(&folder.join(name))?.unwrap_or_default());
    if !is_there(folder)? {
        return Ok(Store { kind, ..Store::default() });
    }
    let serial = text("wwn/vpd_unit_serial")?;
    let info = text("info")?;
    let size = info.split_once("Size: ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    Ok(Store {
        kind,
        made: true,
        enabled: text("enable")? == "1",
        shown: text("udev_path")?,
        serial: serial.strip_prefix("T10 VPD Unit Serial Number: ").unwrap_or(&serial).to_owned(),
        size,
        unmap: text("attrib/emulate_tpu")?,
        write_cache: text("attrib/emulate_write_cache")?,
    })
}

fn read_target(root: &Path, group: &Path, only: Option<&ScsiTarget>) -> Result<Target> {
    if !is_there(group)? {
        return Ok(Target::default());
    }
    let target = Target {
        made: true,
        enabled: is_enabled(group)?,
        attributes: TARGET_ATTRIBUTES.iter().map(|(name, _)| value(&group.join(name))).collect::<Result<_>>()?,
        port: value(&group.join("rtpi"))?,
        portals: folders(&group.join("np"))?,
        ..Target::default()
    };
    with_units(target, root, group, only)
}

/// The target with its LUNs and ACLs, or those in `only`.
fn with_units(mut target: Target, root: &Path, group: &Path, only: Option<&ScsiTarget>) -> Result<Target> {
    let (luns, acls) = (group.join("lun"), group.join("acls"));
    let names = match only {
        Some(only) => existing(&luns, only.units.iter().map(|unit| format!("lun_{}", unit.volume)))?,
        None => folders(&luns)?,
    };
    for lun in names {
        let links = links(root, &luns.join(&lun))?;
        target.luns.insert(lun, links);
    }
    match only {
        Some(only) => {
            for initiator in &only.initiators {
                let folder = acls.join(initiator.iqn.as_str());
                if is_there(&folder)? {
                    let luns = existing(&folder, initiator.luns.keys().map(|number| format!("lun_{number}")))?;
                    target.acls.insert(initiator.iqn.to_string(), read_acl(root, &folder, luns)?);
                }
            }
        }
        None => {
            for name in folders(&acls)? {
                let folder = acls.join(&name);
                let luns = folders(&folder)?.into_iter().filter(|name| name.starts_with("lun_")).collect();
                target.acls.insert(name, read_acl(root, &folder, luns)?);
            }
        }
    }
    Ok(target)
}

fn read_acl(root: &Path, folder: &Path, luns: Vec<String>) -> Result<Acl> {
    let mut acl =
        Acl { authentication: value(&folder.join("attrib/authentication"))?.unwrap_or_default(), ..Acl::default() };
    for (kept, file) in acl.auth.iter_mut().zip(AUTH) {
        *kept = Hidden(value(&folder.join(file))?.unwrap_or_default());
    }
    for lun in luns {
        let links = links(root, &folder.join(&lun))?;
        acl.luns.insert(lun, links);
    }
    Ok(acl)
}

fn failed(what: &Path, error: &std::io::Error) -> Error {
    Error::io(format!("reading {}", what.display()), error)
}

fn is_there(folder: &Path) -> Result<bool> {
    folder.try_exists().map_err(|error| failed(folder, &error))
}

/// Names of the folders in a folder, in order; none when it is not there.
fn folders(folder: &Path) -> Result<Vec<String>> {
    entries(folder, |kind| kind.is_dir())
}

fn entries(folder: &Path, wanted: impl Fn(fs::FileType) -> bool) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        if wanted(entry.file_type().map_err(|error| failed(folder, &error))?) {
            let name = entry.file_name().into_string();
            names.push(name.map_err(|_| Error::new(Kind::Other, "reading configfs", "a name is no UTF-8"))?);
        }
    }
    names.sort();
    Ok(names)
}

/// Links in a folder: name, and where they lead to, below the root of the target.
fn links(root: &Path, folder: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for name in entries(folder, |kind| kind.is_symlink())? {
        let path = folder.join(&name);
        let target = fs::read_link(&path).map_err(|error| failed(&path, &error))?;
        found.push((name, below(root, &target)));
    }
    Ok(found)
}

/// configfs shows links as `../../../target/core/...`, counted from its own root.
fn below(root: &Path, link: &Path) -> String {
    let top = root.file_name().unwrap_or_default();
    let below: std::path::PathBuf = link.components().skip_while(|part| part.as_os_str() != top).skip(1).collect();
    below.to_string_lossy().into_owned()
}

/// What a file of configfs says, without the line end; `None` when there is none.
pub(super) fn value(path: &Path) -> Result<Option<String>> {
    // The kernel gives all of it at once, and never more (`SIMPLE_ATTR_SIZE`).
    let mut text = [0; 4096];
    match File::open(path).and_then(|mut file| file.read(&mut text)) {
        Ok(length) => {
            let text = str::from_utf8(&text[..length]).map_err(|error| failed(path, &std::io::Error::other(error)))?;
            Ok(Some(text.trim_end_matches(['\n', '\0']).to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_told_from_others() {
        assert_eq!(our_hba("iblock_89000007"), Some(("iblock".to_owned(), VolumeId(7))));
        for other in ["iblock_0", "iblock_89000000", "pscsi_89000001", "alua", "rd_mcp_89000001", "iblock_x"] {
            assert_eq!(our_hba(other), None, "{other}");
        }
        let link = Path::new("../../../../../../../target/iscsi/iqn.2017-08.x:y/tpgt_1/lun/lun_1");
        let root = Path::new("/sys/kernel/config/target");
        assert_eq!(below(root, link), "iscsi/iqn.2017-08.x:y/tpgt_1/lun/lun_1");
    }
}
