//! SMB shares through Samba.
//!
//! All that is ours stands in one file, which the administrator's `smb.conf` includes at its end by a line that is
//! added when the first share is made; the rest of `smb.conf` stays as it is. While there is no share, our file says
//! nothing. A share:
//!
//! | setting | reason |
//! |---|---|
//! | `valid users`, `force group` | users of the appliance, and each can change what another made |
//! | `server smb encrypt = desired`, `server signing = mandatory` | encrypted with every client that can (SMB 3), signed with the others |
//! | `durable handles` with `kernel oplocks`, `kernel share modes`, `posix locking` off | files stay open when a connection breaks; Samba keeps them only when nothing but Samba has them |
//! | `acl_xattr`, `streams_xattr` | ACLs and streams of Windows in extended attributes, beside the POSIX ACLs that Linux sees |
//! | `shadow_copy2` | snapshots as previous versions; it wants their times in names, which ours don't have, so it is led to a folder with a link of such a name to each |

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    Error, Kind, Result,
    command::Tool,
    exports::Applied,
    file,
    listen::{Listen, Listener, wait_for_zfs_share},
    nfs,
};
use crate::types::Epoch;

/// Our file.
const FILE: &str = "/etc/samba/vsnap.conf";
/// Where it listens, for `FILE` to include.
const LISTEN: &str = "/etc/samba/vsnap-listen.conf";
/// Where our file is looked at before it counts.
const CHECKED: &str = "/run/vsnap/smb.conf";
/// The administrator's file.
const MAIN: &str = "/etc/samba/smb.conf";
/// What is added to that.
const INCLUDE: &str = "include = /etc/samba/vsnap.conf";
/// The running server's process.
const PID: &str = "/run/samba/smbd.pid";
/// Links to snapshots.
const VERSIONS: &str = "/vsnap/.versions";
/// Who may use shares.
const GROUP: &str = "vsnap";

/// A filesystem that SMB clients may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbShare {
    /// Name of the share.
    pub name: String,
    /// Where it is mounted here.
    pub path: String,
    /// Nobody can write.
    pub read_only: bool,
    /// Its snapshots: when they were made, and their names below `.zfs/snapshot`.
    pub versions: Vec<(Epoch, String)>,
}

/// Samba.
pub struct Samba {
    testparm: Option<Tool>,
    smbcontrol: Option<Tool>,
    systemctl: Option<Tool>,
    /// Whether the server has been told to read its files since this process began: the one before may have ended
    /// between writing and telling.
    told: AtomicBool,
    listener: Listener,
}

impl Samba {
    /// Looks for its tools, which are needed only when something is shared.
    pub fn new() -> Result<Self> {
        Ok(Samba {
            testparm: Tool::find_optional("testparm"),
            smbcontrol: Tool::find_optional("smbcontrol"),
            systemctl: Tool::find_optional("systemctl"),
            told: AtomicBool::new(false),
            listener: Listener::new(LISTEN, 445, listen_lines),
        })
    }

    /// See [`super::Exports::apply_smb`].
    pub fn apply(&self, wanted: &[SmbShare], listen: &Listen) -> Result<Applied> {
        let before = file::read(Path::new(FILE))?;
        if wanted.is_empty() && before.is_none() {
            return Ok(Applied::default());
        }
        let before = before.unwrap_or_default();
        // Where a filesystem is not mounted there is a folder of another one, which is nobody's to write in.
        let mounted = nfs::mounted()?;
        let wanted: Vec<&SmbShare> = wanted.iter().filter(|share| mounted.contains(&share.path)).collect();
        let text = render(&wanted, listen);
        let mut applied = Applied::default();
        let (old, new) = (sections(&before), sections(&text));
        for share in &wanted {
            if set_versions(share)? {
                applied.changes.push(format!("previous versions of {} are others", share.name));
            }
            if !old.contains_key(share.name.as_str()) {
                open_to_users(share)?;
                applied.changes.push(format!("{} is shared as {}", share.path, share.name));
            }
        }
        let changes = |(name, section): &(&&str, &&str)| new.get(**name) != Some(*section);
        let ended: Vec<&str> = old.iter().filter(changes).map(|(name, _)| *name).collect();
        let restart = self.listener.prepare(listen, !wanted.is_empty())?;
        if before != text {
            self.check(&text)?;
            file::write(Path::new(FILE), text.as_bytes(), 0o644)?;
        }
        let included = include_ours()?;
        if included {
            applied.changes.push(format!("{MAIN} includes {FILE}"));
        }
        let is_told = self.told.load(Ordering::Relaxed);
        let is_running = is_running()?;
        if restart {
            if is_running || !wanted.is_empty() {
                self.restart()?;
            }
            applied.changes.push(self.listener.restarted(listen)?);
        } else if !is_running {
            if !wanted.is_empty() {
                self.start()?;
                applied.changes.push("the SMB server was not running and was started".to_owned());
            }
        } else if before != text || included || !is_told {
            self.tell(&["reload-config"])?;
            // What is open there stays so otherwise, and keeps the filesystem from being unmounted.
            for name in &ended {
                self.tell(&["close-share", name])?;
            }
        }
        self.told.store(true, Ordering::Relaxed);
        for name in ended {
            let what = if new.contains_key(name) { "is shared in another way" } else { "is shared no longer" };
            applied.changes.push(format!("{name} {what}"));
            if !new.contains_key(name) {
                file::remove_links(&Path::new(VERSIONS).join(name))?;
            }
        }
        Ok(applied)
    }

    /// See [`super::Exports::apply_versions`]. A share that Samba does not have yet, or whose filesystem is not mounted,
    /// gets its links from [`Samba::apply`].
    pub fn apply_versions(&self, share: &SmbShare) -> Result<()> {
        let folder = Path::new(VERSIONS).join(&share.name);
        let action = || format!("looking for {}", folder.display());
        if folder.try_exists().map_err(|error| Error::io(action(), &error))? {
            set_versions(share)?;
        }
        Ok(())
    }

    /// Samba reads the file as it would for itself; a file that it does not understand is never put in its place.
    fn check(&self, text: &str) -> Result<()> {
        let testparm = self.testparm.as_ref().ok_or_else(|| missing("testparm", "samba-common-bin"))?;
        file::write(Path::new(CHECKED), text.as_bytes(), 0o600)?;
        let command = testparm.command(["-s", "--suppress-prompt", CHECKED]);
        let action = command.to_string();
        let output = command.run()?;
        file::remove(Path::new(CHECKED))?;
        let complaint = output.stderr.lines().find(|line| line.contains("nknown parameter") || line.contains("ERROR"));
        match complaint {
            Some(complaint) => Err(Error::new(Kind::Other, action, complaint)),
            None if output.succeeded() => Ok(()),
            None => Err(output.failure(action, |_| Kind::Other)),
        }
    }

    fn tell(&self, message: &[&str]) -> Result<()> {
        let smbcontrol = self.smbcontrol.as_ref().ok_or_else(|| missing("smbcontrol", "samba-common-bin"))?;
        let command = smbcontrol.command(["smbd"]).args(message.iter().copied());
        command.output(|_| Kind::Other).map(drop)
    }

    fn start(&self) -> Result<()> {
        self.systemctl(&["start", unit()])
    }

    fn restart(&self) -> Result<()> {
        self.systemctl(&["restart", unit()])?;
        // It waits for an address of IPv4 when it has none, and nobody has to wait for it.
        self.systemctl(&["try-restart", "--no-block", "nmbd.service", "nmb.service"])
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<()> {
        let systemctl = self.systemctl.as_ref().ok_or_else(|| missing("systemctl", "systemd"))?;
        systemctl.command(arguments.iter().copied()).output(|_| Kind::Other)?;
        wait_for_zfs_share(systemctl)
    }
}

/// Debian's name, and that of others.
fn unit() -> &'static str {
    if Path::new("/usr/lib/systemd/system/smbd.service").exists() { "smbd.service" } else { "smb.service" }
}

fn missing(tool: &str, package: &str) -> Error {
    Error::new(Kind::Missing, format!("looking for the program {tool}"), format!("install package {package}"))
}

fn is_running() -> Result<bool> {
    let Some(pid) = file::read(Path::new(PID))? else { return Ok(false) };
    let name = file::read(Path::new(&format!("/proc/{}/comm", pid.trim())))?;
    Ok(name.is_some_and(|name| name.trim() == "smbd"))
}

/// Adds our line to the administrator's file, unless it is there; tells whether it was added.
fn include_ours() -> Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let path = Path::new(MAIN);
    let text = file::read(path)?.unwrap_or_default();
    if text.lines().any(|line| line.trim() == INCLUDE) {
        return Ok(false);
    }
    let mode = std::fs::metadata(path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let text = format!("{text}{gap}\n# Shares of the vSnap appliance.\n{INCLUDE}\n");
    file::write(path, text.as_bytes(), mode)?;
    Ok(true)
}

/// The root of a filesystem that was never shared by SMB is root's; members of the group are to write there.
fn open_to_users(share: &SmbShare) -> Result<()> {
    let group =
        nix::unistd::Group::from_name(GROUP).map_err(|error| Error::io("looking for the group", &error.into()))?;
    let group = group.ok_or_else(|| Error::new(Kind::Missing, "looking for the group vsnap", "there is none"))?;
    file::open_to_group(Path::new(&share.path), group.gid)
}

/// A link to each snapshot, with the time that it was made as its name. Of two of one second the later one is shown.
/// Tells whether they changed.
fn set_versions(share: &SmbShare) -> Result<bool> {
    let link = |(time, name): &(Epoch, String)| {
        let time = Timestamp::from_second(time.0).ok()?.to_zoned(TimeZone::UTC);
        let target = format!("{}/.zfs/snapshot/{name}", share.path);
        Some((time.strftime("@GMT-%Y.%m.%d-%H.%M.%S").to_string(), target))
    };
    let links: BTreeMap<String, String> = share.versions.iter().filter_map(link).collect();
    file::set_links(&Path::new(VERSIONS).join(&share.name), &links)
}

/// The file that says where it listens.
fn listen_lines(addresses: &[String]) -> String {
    format!(
        "# Made by vsnapd: the addresses of interfaces that have smb.\nbind interfaces only = yes\ninterfaces = {}\n",
        addresses.join(" ")
    )
}

/// The file.
fn render(wanted: &[&SmbShare], listen: &Listen) -> String {
    let mut text = "# Made by vsnapd from its catalog. What is written here by hand is lost.\n".to_owned();
    if wanted.is_empty() {
        return text;
    }
    text.push_str(
        "[global]\n    map to guest = never\n    restrict anonymous = 2\n    server min protocol = SMB2_10\n    \
         server smb encrypt = desired\n    server signing = mandatory\n    server multi channel support = yes\n",
    );
    if *listen != Listen::Everywhere {
        text.push_str(&format!("    include = {LISTEN}\n"));
    }
    for share in wanted {
        let SmbShare { name, path, .. } = share;
        let read_only = if share.read_only { "yes" } else { "no" };
        text.push_str(&format!(
            "[{name}]\n    path = {path}\n    read only = {read_only}\n    guest ok = no\n    valid users = @{GROUP}\n    \
             force group = {GROUP}\n    force create mode = 0660\n    force directory mode = 0770\n    \
             ea support = yes\n    store dos attributes = yes\n    map archive = no\n    durable handles = yes\n    \
             kernel oplocks = no\n    kernel share modes = no\n    posix locking = no\n    \
             vfs objects = shadow_copy2 acl_xattr streams_xattr\n    shadow:snapdir = {VERSIONS}/{name}\n    \
             shadow:format = @GMT-%Y.%m.%d-%H.%M.%S\n    shadow:localtime = no\n    shadow:sort = desc\n"
        ));
    }
    text
}

/// Shares in our file, by name.
fn sections(text: &str) -> BTreeMap<&str, &str> {
    let mut sections = BTreeMap::new();
    for part in text.split("\n[").skip(1) {
        if let Some((name, section)) = part.split_once("]\n")
            && name != "global"
        {
            sections.insert(name, section.trim_end());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(name: &str, read_only: bool) -> SmbShare {
        SmbShare { name: name.to_owned(), path: format!("/vsnap/{name}"), read_only, versions: vec![] }
    }

    #[test]
    fn the_file_has_a_section_for_each_share() {
        assert_eq!(render(&[], &Listen::Everywhere).lines().count(), 1, "without shares nothing is changed");
        let text = render(&[&share("vpool1_fs1", false), &share("vpool1_fs2", true)], &Listen::Everywhere);
        let sections = sections(&text);
        assert_eq!(sections.keys().copied().collect::<Vec<_>>(), ["vpool1_fs1", "vpool1_fs2"]);
        assert!(sections["vpool1_fs1"].starts_with("    path = /vsnap/vpool1_fs1\n    read only = no\n"), "{text}");
        assert!(sections["vpool1_fs2"].contains("read only = yes"));
        for line in ["[global]", "    map to guest = never", "    server signing = mandatory"] {
            assert!(text.lines().any(|other| other == line), "{line}");
        }
    }

    #[test]
    fn where_it_listens_is_included_when_an_interface_lacks_it() {
        let includes = |listen| render(&[&share("a", false)], &listen).contains(LISTEN);
        assert!(!includes(Listen::Everywhere) && includes(Listen::NotOn([].into())));
        let lines = listen_lines(&["127.0.0.1".to_owned(), "2001:db8::1".to_owned()]);
        assert!(lines.ends_with("\nbind interfaces only = yes\ninterfaces = 127.0.0.1 2001:db8::1\n"), "{lines}");
    }

    #[test]
    fn a_change_of_one_share_is_no_change_of_another() {
        let (before, after) = (
            render(&[&share("a", false), &share("b", false), &share("c", false)], &Listen::Everywhere),
            render(&[&share("a", false), &share("c", true), &share("d", false)], &Listen::NotOn([].into())),
        );
        let (old, new) = (sections(&before), sections(&after));
        let ended: Vec<_> = old.iter().filter(|(name, section)| new.get(**name) != Some(*section)).collect();
        assert_eq!(ended.iter().map(|(name, _)| **name).collect::<Vec<_>>(), ["b", "c"]);
    }
}
