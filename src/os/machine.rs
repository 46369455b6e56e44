//! [`Linux`] is the real [`Machine`]: it puts together disks, accounts, PAM and interfaces, and knows the rest itself.

use std::{
    net::IpAddr,
    path::Path,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::unistd;

use super::{
    Authentication, Error, Kind, LabelOwner, Machine, Result, command::Tool, disks::Disks, file, network, pam, users,
    users::Users,
};
use crate::types::{
    Epoch,
    disk::{Disk, DiskUse},
    network::Interface,
    system::Versions,
    user::{Password, User, UserName},
};

/// Where the loaded ZFS module tells its version.
const ZFS_VERSION: &str = "/sys/module/zfs/version";

/// How long the answer of the resolver about our own name is used, also when there was none.
const NAME_TIME: Duration = Duration::from_secs(60);

/// The real machine.
pub struct Linux {
    disks: Disks,
    users: Users,
    getent: Tool,
    versions: OnceLock<Versions>,
    full_name: FullName,
}

impl Linux {
    /// Looks for all tools. `allow_loop_devices` is for trying the appliance without spare disks.
    pub fn new(allow_loop_devices: bool) -> Result<Self> {
        Ok(Linux {
            disks: Disks::new(allow_loop_devices)?,
            users: Users::new()?,
            getent: Tool::find("getent", "libc-bin")?,
            versions: OnceLock::new(),
            full_name: FullName::default(),
        })
    }

    fn read_versions(&self) -> Result<Versions> {
        let os = file::read(Path::new("/etc/os-release"))?.unwrap_or_default();
        let value = |key: &str| os_release(&os, key);
        Ok(Versions {
            os_name: value("NAME"),
            // Debian has its point release here ("13.7") and only "13" in VERSION_ID.
            os_version: value("DEBIAN_VERSION_FULL").or_else(|| value("VERSION_ID")),
            nfs: package_version(&["nfs-kernel-server", "nfs-utils"])?,
            samba: package_version(&["samba"])?,
            zfs: file::read(Path::new(ZFS_VERSION))?.map(|text| text.trim().to_owned()),
        })
    }

    /// The name with domain that the resolver has for `host`, as `hostname --fqdn` finds it.
    fn qualified(&self, host: &str) -> Option<String> {
        // The answer to "who am I" of a slow or dead name server is not worth more than this.
        let limit = super::command::Limit::Time(Duration::from_secs(10));
        let output = self.getent.command(["ahosts", host]).limit(limit).run().ok()?;
        canonical_name(&output.text(), host)
    }
}

/// The name with domain of this machine, as the resolver had it last.
#[derive(Default)]
struct FullName(Mutex<Option<Asked>>);

struct Asked {
    host: String,
    at: Instant,
    full: Option<String>,
}

impl FullName {
    /// The full name of `host`, which `ask` finds out. That takes long when a name server is dead, so it is asked once in a
    /// while, and nobody else waits for the answer meanwhile; nor does a dead one take away a name that was known.
    fn of(&self, host: &str, ask: impl FnOnce(&str) -> Option<String>) -> Option<String> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = {
            let mut last = lock();
            let full = match last.take_if(|asked| asked.host != host || asked.at.elapsed() >= NAME_TIME) {
                Some(asked) if asked.host == host => asked.full,
                _ => None,
            };
            if let Some(asked) = last.as_ref() {
                return asked.full.clone();
            }
            *last = Some(Asked { host: host.to_owned(), at: Instant::now(), full: full.clone() });
            full
        };
        let full = ask(host).or(known);
        *lock() = Some(Asked { host: host.to_owned(), at: Instant::now(), full: full.clone() });
        full
    }
}

impl Machine for Linux {
    fn disks(&self) -> Result<Vec<Disk>> {
        self.disks.list()
    }

    fn rescan_disks(&self) -> Result<()> {
        self.disks.rescan()
    }

    fn probe_disk(&self, path: &str) -> Result<DiskUse> {
        self.disks.probe(path)
    }

    fn release_disk(&self, path: &str, owner: &LabelOwner) -> Result<()> {
        self.disks.release(path, owner)
    }

    fn users(&self) -> Result<Vec<User>> {
        self.users.list()
    }

    fn find_user(&self, name: &UserName) -> Result<Option<User>> {
        self.users.find(name)
    }

    fn create_user(&self, name: &UserName, password: &Password) -> Result<()> {
        self.users.create(name, password)
    }

    fn set_password(&self, name: &UserName, password: &Password) -> Result<()> {
        self.users.set_password(name, password)
    }

    fn grant_user(&self, name: &UserName) -> Result<()> {
        self.users.grant(name)
    }

    fn revoke_user(&self, name: &UserName) -> Result<()> {
        self.users.revoke(name)
    }

    fn authenticate(&self, user: &str, password: &Password, remote: Option<IpAddr>) -> Result<Authentication> {
        pam::authenticate(user, password, remote)
    }

    fn accounts_version(&self) -> Result<u64> {
        users::accounts_version()
    }

    fn interfaces(&self) -> Result<Vec<Interface>> {
        network::interfaces()
    }

    fn versions(&self) -> Result<Versions> {
        if let Some(versions) = self.versions.get() {
            return Ok(versions.clone());
        }
        let versions = self.read_versions()?;
        Ok(self.versions.get_or_init(|| versions).clone())
    }

    fn host_names(&self) -> Result<(String, String)> {
        let name = unistd::gethostname().map_err(|error| Error::io("gethostname", &error.into()))?;
        let name = name.to_string_lossy().into_owned();
        let short = name.split('.').next().unwrap_or(&name).to_owned();
        let full = if name.contains('.') {
            name
        } else {
            self.full_name.of(&name, |host| self.qualified(host)).unwrap_or(name)
        };
        Ok((short, full))
    }

    fn memory_bytes(&self) -> Result<u64> {
        let text = file::read_required("/proc/meminfo")?;
        memory(&text).ok_or_else(|| Error::new(Kind::Other, "reading /proc/meminfo", "it has no MemTotal"))
    }

    fn now(&self) -> Epoch {
        // A clock before 1970 is as good as none.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        Epoch(i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}

/// `KEY=value` of os-release, whose values may be in quotes.
fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// `MemTotal` in bytes.
fn memory(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The canonical name in the output of `getent ahosts`, if it has a domain: `10.0.0.1 STREAM host.example.org`.
fn canonical_name(ahosts: &str, host: &str) -> Option<String> {
    let mut names = ahosts.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
    names.find(|name| name.strip_prefix(host).is_some_and(|rest| rest.starts_with('.'))).map(str::to_owned)
}

/// Version of the first of these packages that is installed, asked of dpkg or rpm.
fn package_version(names: &[&str]) -> Result<Option<String>> {
    let (tool, query): (Tool, &[&str]) = match (Tool::find_optional("dpkg-query"), Tool::find_optional("rpm")) {
        (Some(dpkg), _) => (dpkg, &["-W", "-f", "${db:Status-Abbrev} ${Version}\n"]),
        (None, Some(rpm)) => (rpm, &["-q", "--queryformat", "ii %{VERSION}-%{RELEASE}\n"]),
        (None, None) => return Ok(None),
    };
    for name in names {
        let output = tool.command(query.iter().copied().chain([*name])).run()?;
        // A package that is not known ends it with 1; one that was removed has another status than "ii".
        let text = output.text();
        let version = text.lines().find_map(|line| line.strip_prefix("ii")).map(|rest| rest.trim().to_owned());
        if output.succeeded() && version.is_some() {
            return Ok(version);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values() {
        let text =
            "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID='13'\nID=debian\nX=\n";
        assert_eq!(os_release(text, "NAME").as_deref(), Some("Debian GNU/Linux"));
        assert_eq!(os_release(text, "VERSION_ID").as_deref(), Some("13"));
        assert_eq!(os_release(text, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release(text, "X"), None);
        assert_eq!(os_release(text, "VERSION"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(memory("MemTotal:        2018916 kB\nMemFree: 1 kB\n"), Some(2_018_916 * 1024));
        assert_eq!(memory("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_resolver_is_asked_once_in_a_while() {
        let name = FullName::default();
        let never = |_: &str| -> Option<String> { panic!("asked again") };
        // No answer is one, too.
        assert_eq!(name.of("a", |_| None), None);
        assert_eq!(name.of("a", never), None);
        let age = || name.0.lock().unwrap().as_mut().unwrap().at -= NAME_TIME;
        age();
        assert_eq!(name.of("a", |_| Some("a.example.org".to_owned())).as_deref(), Some("a.example.org"));
        assert_eq!(name.of("a", never).as_deref(), Some("a.example.org"));
        // A name server that died takes nothing away, and who comes while it is asked does not wait.
        age();
        let found = name.of("a", |_| {
            assert_eq!(name.of("a", never).as_deref(), Some("a.example.org"));
            None
        });
        assert_eq!(found.as_deref(), Some("a.example.org"));
        // Another name is another question.
        assert_eq!(name.of("b", |_| None), None);
        assert_eq!(name.of("b", never), None);
    }

    #[test]
    fn the_canonical_name_needs_a_domain() {
        let text = "10.0.0.1        STREAM vsnap-a.example.org\n10.0.0.1        DGRAM  \n";
        assert_eq!(canonical_name(text, "vsnap-a").as_deref(), Some("vsnap-a.example.org"));
        assert_eq!(canonical_name("127.0.1.1 STREAM vsnap-a\n", "vsnap-a"), None);
        assert_eq!(canonical_name("127.0.1.1 STREAM localhost.localdomain\n", "vsnap-a"), None);
        assert_eq!(canonical_name("", "vsnap-a"), None);
    }
}
