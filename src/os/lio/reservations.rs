//! Persistent reservations that outlive a reboot. The kernel writes those that an initiator asked to be kept to a file
//! of their unit, but reads none: after a reboot they have to be told to it before anyone can reach the unit.

use std::{collections::BTreeMap, path::Path};

use super::{ScsiUnit, live};
use crate::{
    os::{Error, Kind, Result, file},
    types::VolumeId,
};

/// Where reservations may have been kept before the last reboot: `targetcli` moves that folder, and so does whoever
/// makes `/etc/target`.
const FORMER: [&str; 3] = ["/var/target/pr", "/etc/target/pr", "/etc/rtslib-fb-target/pr"];

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// Where the kernel keeps it, or did.
    pub folders: Vec<String>,
    /// Registrations of each unit that is to be made, as the kernel wants to be told them.
    pub registrations: BTreeMap<VolumeId, Vec<String>>,
}

/// Where the kernel keeps reservations. It does not make that folder.
pub(super) fn folder(root: &Path) -> Result<String> {
    let path = root.join("dbroot");
    match live::value(&path)? {
        Some(folder) if folder.starts_with('/') => Ok(format!("{folder}/pr")),
        found => Err(Error::new(Kind::Other, format!("reading {}", path.display()), format!("it says {found:?}"))),
    }
}

/// The file of a unit.
pub(super) fn path(folder: &str, serial: &str) -> String {
    format!("{folder}/aptpl_{serial}")
}

/// The newest of those files.
fn newest(folders: &[String], serial: &str) -> Result<Option<String>> {
    let mut newest = None;
    for path in folders.iter().map(|folder| path(folder, serial)) {
        match std::fs::metadata(&path).and_then(|facts| facts.modified()) {
            Ok(time) => newest = newest.max(Some((time, path))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(format!("looking at {path}"), &error)),
        }
    }
    match newest {
        Some((_, path)) => file::read(Path::new(&path)),
        None => Ok(None),
    }
}

/// What was kept of units that have no backstore.
pub(super) fn saved(root: &Path, units: &[ScsiUnit], live: &live::Live) -> Result<Saved> {
    let mut folders = vec![folder(root)?];
    folders.extend(FORMER.into_iter().map(str::to_owned));
    let mut saved = Saved { folders, ..Saved::default() };
    for unit in units.iter().filter(|unit| !live.stores.get(&unit.volume).is_some_and(|store| store.enabled)) {
        if let Some(text) = newest(&saved.folders, &unit.serial)? {
            saved.registrations.insert(unit.volume, registrations(&text));
        }
    }
    Ok(saved)
}

/// The registrations in a file of the kernel, one line each.
fn registrations(text: &str) -> Vec<String> {
    let (mut all, mut one) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if line.starts_with("PR_REG_START") {
            one.clear();
        } else if line.starts_with("PR_REG_END") {
            all.push(one.join(","));
        } else if let Some((key, value)) = line.split_once('=') {
            one.push(format!("{key}={}", readable(key, value)));
        }
    }
    all
}

/// The kernel writes these two in hexadecimal with leading zeros, which it reads as octal.
fn readable(key: &str, value: &str) -> String {
    match (key, u8::from_str_radix(value, 16)) {
        ("res_type" | "res_scope", Ok(number)) => number.to_string(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_file_becomes_lines() {
        // As Linux 6.12 wrote it.
        let text = "PR_REG_START: 0\ninitiator_fabric=iSCSI\ninitiator_node=iqn.test:a\n\
                    initiator_sid=00023d000002\nsa_res_key=11256099\nres_holder=1\nres_type=08\nres_scope=00\n\
                    res_all_tg_pt=0\nmapped_lun=0\ntarget_fabric=iSCSI\ntarget_node=iqn.2017-08.x:y\ntpgt=1\n\
                    port_rtpi=1\ntarget_lun=1\nPR_REG_END: 0\n ";
        assert_eq!(
            registrations(text),
            ["initiator_fabric=iSCSI,initiator_node=iqn.test:a,initiator_sid=00023d000002,sa_res_key=11256099,\
              res_holder=1,res_type=8,res_scope=0,res_all_tg_pt=0,mapped_lun=0,target_fabric=iSCSI,\
              target_node=iqn.2017-08.x:y,tpgt=1,port_rtpi=1,target_lun=1"]
        );
        assert_eq!(registrations("No Registrations or Reservations"), Vec::<String>::new());
    }
}
