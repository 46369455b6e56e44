//! `vsnap disk`: disks of the appliance, and the ways in which a command may name one.

use std::path::Path;

use clap::Subcommand;
use serde_json::Value;

use super::{
    Session,
    client::{Client, action},
    failure::{Failure, Result},
    human, json,
    output::print,
    progress::Progress,
    table::{self, Column::*},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap disk show                       all disks and what they are used as
  vsnap disk show --unused              those that can go into a pool
  vsnap disk rescan                     look for added and removed disks

Where a command takes disks, name them by uuid, by device (/dev/sdb) or by link (/dev/disk/by-id/...), with commas \
between them. Devices can change places at a reboot; the uuid stays.";

/// Bytes in the unit of member `size`.
const SECTOR_BYTES: i128 = 512;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show all disks, or some
    Show {
        /// Only disks that can go into a pool
        #[arg(long, conflicts_with = "used_as")]
        unused: bool,
        /// Only disks that are used as this: unused, vsnap_pool, partitioned, or a type such as ext4
        #[arg(long, value_name = "WORD", alias = "used_as")]
        used_as: Option<String>,
    },
    /// Look for added and removed disks
    Rescan,
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        let (client, output) = (&session.client, session.output);
        match self {
            Verb::Show { unused, used_as } => {
                let list = match used_as.or_else(|| unused.then(|| "unused".to_owned())) {
                    Some(word) => client.find("/api/disk", &[("used_as", &word)])?,
                    None => client.get("/api/disk")?,
                };
                output.show(&list, disks_text)
            }
            Verb::Rescan => {
                let progress = Progress::spinner("Looking for disks");
                let answer = client.post("/api/disk", &action("rescan"))?;
                drop(progress);
                if output.is_json() {
                    return output.show(&answer, |_| String::new());
                }
                print(&disks_text(&client.get("/api/disk")?))
            }
        }
    }
}

fn disks_text(list: &Value) -> String {
    let row = |disk: &Value| {
        let size = json::number(disk, "size").map_or_else(|| "-".to_owned(), |it| human::size(it * SECTOR_BYTES));
        let text = |member| json::text(disk, member);
        vec![text("name"), text("uuid"), size, text("type"), text("vendor"), text("model"), text("used_as")]
    };
    table::list(
        &[Text("NAME"), Text("UUID"), Number("SIZE"), Text("TYPE"), Text("VENDOR"), Text("MODEL"), Text("USED AS")],
        json::items(list, "disks").iter().map(row),
        "There are no such disks. After adding some, call `vsnap disk rescan`.",
    )
}

/// The disks that can go into a pool.
pub(super) fn unused(client: &Client) -> Result<Vec<Value>> {
    let list = client.find("/api/disk", &[("used_as", "unused")])?;
    Ok(json::items(&list, "disks").to_vec())
}

/// The disks of the appliance, for finding those that a command names.
pub(super) struct Disks {
    known: Vec<Value>,
    local: bool,
}

impl Disks {
    /// Asks the appliance for all of them.
    pub(super) fn load(client: &Client) -> Result<Self> {
        Ok(Disks { known: json::items(&client.get("/api/disk")?, "disks").to_vec(), local: client.is_local() })
    }

    /// The uuid of a disk that must be there.
    pub(super) fn present(&self, named: &str) -> Result<String> {
        self.find(named).ok_or_else(|| {
            Failure::local(format!("the appliance has no disk {named}; `vsnap disk show` lists those it has"))
        })
    }

    /// The uuids of disks that must be there.
    pub(super) fn all_present(&self, named: &[String]) -> Result<Vec<String>> {
        named.iter().map(|disk| self.present(disk)).collect()
    }

    /// The uuid of a disk that may be gone, which a pool still knows: then the appliance has to say.
    pub(super) fn perhaps_gone(&self, named: &str) -> Result<String> {
        match self.find(named).or_else(|| id_in_link(named)) {
            Some(uuid) => Ok(uuid),
            None if named.contains('/') => self.present(named),
            None => Ok(named.to_owned()),
        }
    }

    fn find(&self, named: &str) -> Option<String> {
        let is = |member: &'static str, wanted: &str| {
            let wanted = wanted.to_owned();
            self.known.iter().find(move |disk| disk[member] == wanted).map(|disk| json::text(disk, "uuid"))
        };
        let uuid = |text: &str| is("uuid", text).or_else(|| is("uuid", &format!("3{text}")));
        uuid(named)
            .or_else(|| is("name", named))
            .or_else(|| is("name", &format!("/dev/{named}")))
            .or_else(|| uuid(&id_in_link(named)?))
            .or_else(|| is("name", &self.target_of(named)?))
    }

    /// Where a link points to, when it is a link of this machine.
    fn target_of(&self, named: &str) -> Option<String> {
        let link = Path::new(named);
        if !self.local || !link.starts_with("/dev") {
            return None;
        }
        link.canonicalize().ok()?.to_str().map(str::to_owned)
    }
}

/// The uuid in the name of a link such as `/dev/disk/by-id/scsi-36000c29...` or `wwn-0x6000c29...`.
fn id_in_link(path: &str) -> Option<String> {
    let name = path.strip_prefix("/dev/disk/by-id/")?;
    match name.strip_prefix("wwn-0x") {
        Some(hex) => Some(format!("3{hex}")),
        None => name.split_once('-').map(|(_, id)| id.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn disks() -> Disks {
        let known = vec![
            json!({ "uuid": "36000c29a", "name": "/dev/sdb", "size": "4194304" }),
            json!({ "uuid": "QEMU_HARDDISK_disk-1", "name": "/dev/sdc", "size": "4194304" }),
        ];
        Disks { known, local: false }
    }

    #[test]
    fn a_disk_has_many_names() {
        let names = [
            "36000c29a",
            "6000c29a",
            "/dev/sdb",
            "sdb",
            "/dev/disk/by-id/scsi-36000c29a",
            "/dev/disk/by-id/wwn-0x6000c29a",
        ];
        for name in names {
            assert_eq!(disks().present(name).unwrap(), "36000c29a", "{name}");
        }
        let by_serial = "/dev/disk/by-id/ata-QEMU_HARDDISK_disk-1";
        assert_eq!(disks().present(by_serial).unwrap(), "QEMU_HARDDISK_disk-1");
    }

    #[test]
    fn a_disk_that_is_gone_is_left_to_the_appliance() {
        assert!(disks().present("35000c500").is_err());
        assert_eq!(disks().perhaps_gone("35000c500").unwrap(), "35000c500");
        assert_eq!(disks().perhaps_gone("/dev/disk/by-id/scsi-35000c500").unwrap(), "35000c500");
        assert!(disks().perhaps_gone("/dev/sdz").is_err());
    }

    #[test]
    fn disks_are_listed_with_their_size() {
        let list = json!({ "disks": [{ "uuid": "36000c29a", "name": "/dev/sdb", "size": "4194304", "type": "SCSI",
            "vendor": "VMware", "model": "Virtual disk", "used_as": "unused" }] });
        let expected = "NAME      UUID          SIZE  TYPE  VENDOR  MODEL         USED AS\n\
                        /dev/sdb  36000c29a  2.0 GiB  SCSI  VMware  Virtual disk  unused";
        assert_eq!(disks_text(&list), expected);
    }
}
