//! Accounts: members of group `vsnap`, and the tools that make and change them. Passwords go through standard input,
//! never through an argv.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::Path,
};

use nix::unistd;

use super::{
    Error, Kind, Result,
    command::{Command, Tool},
};
use crate::types::user::{FIRST_UID, GROUP, Password, User, UserName};

/// Files that any change of an account, password or group changes.
const ACCOUNT_FILES: [&str; 4] = ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"];
/// Accounts of the appliance have no home and can't log in: they are for the API, SMB and iSCSI only.
const NO_HOME: &str = "/nonexistent";
/// Their shell.
const NO_SHELL: &str = "/usr/sbin/nologin";
/// The group that they are in besides: sshd lets none of its members in, since an account without a shell could still
/// have connections led on to what only this machine can reach (`DenyGroups` in packaging/sshd_config.d).
const MADE_GROUP: &str = "vsnap-account";
/// Their comment: accounts of the system have the same home and shell, and no password either.
const COMMENT: &str = "vSnap account";

/// The accounts of the machine.
pub struct Users {
    getent: Tool,
    useradd: Tool,
    userdel: Tool,
    chpasswd: Tool,
    gpasswd: Tool,
    /// Samba is not a must.
    smbpasswd: Option<Tool>,
}

impl Users {
    /// Looks for the tools.
    pub fn new() -> Result<Self> {
        Ok(Users {
            getent: Tool::find("getent", "libc-bin")?,
            useradd: Tool::find("useradd", "passwd")?,
            userdel: Tool::find("userdel", "passwd")?,
            chpasswd: Tool::find("chpasswd", "passwd")?,
            gpasswd: Tool::find("gpasswd", "passwd")?,
            smbpasswd: Tool::find_optional("smbpasswd"),
        })
    }

    /// See [`super::Machine::users`].
    pub fn list(&self) -> Result<Vec<User>> {
        let group = group()?;
        let command = self.getent.command(["passwd"]);
        let action = command.to_string();
        let mut members: BTreeMap<(u32, String), User> = BTreeMap::new();
        let mut add = |user: User| members.insert((user.uid, user.name.clone()), user);
        for line in command.output(|_| Kind::Other)?.lines() {
            let user =
                parse(line).ok_or_else(|| Error::new(Kind::Other, action.clone(), format!("bad line {line:?}")))?;
            if user.gid == group.gid.as_raw() || group.mem.contains(&user.name) {
                add(user);
            }
        }
        // A directory service may know accounts that it does not list.
        for name in &group.mem {
            if let Some(user) = find(name)? {
                add(user);
            }
        }
        Ok(members.into_values().collect())
    }

    /// See [`super::Machine::find_user`].
    pub fn find(&self, name: &UserName) -> Result<Option<User>> {
        find(name.as_str())
    }

    /// See [`super::Machine::create_user`]. The account gets its password last: until then nobody can log in with it,
    /// and that is how an account is known that an interrupted creation left behind.
    pub fn create(&self, name: &UserName, password: &Password) -> Result<()> {
        group()?;
        if self.is_half_made(name)? {
            self.add_to(MADE_GROUP, name)?;
            self.grant(name)?;
            self.set_samba_password(name, password)?;
            return self.set_unix_password(name, password);
        }
        let flags = ["--no-create-home", "--home-dir", NO_HOME, "--shell", NO_SHELL, "--comment", COMMENT];
        let groups = format!("{GROUP},{MADE_GROUP}");
        self.useradd.command(flags).args(["--groups", &groups, name.as_str()]).output(classify)?;
        let passwords = self.set_samba_password(name, password).and_then(|()| self.set_unix_password(name, password));
        passwords.inspect_err(|_| {
            // The account is new, so nobody misses it.
            if let Err(error) = self.remove(name) {
                tracing::error!(user = %name, %error, "a half-made account could not be removed completely");
            }
        })
    }

    /// Whether this is an account as [`Users::create`] makes it that never had a password: `!` is what `useradd` writes
    /// for none; a password that was locked has more behind it.
    fn is_half_made(&self, name: &UserName) -> Result<bool> {
        if !entry(name.as_str())?.is_some_and(|account| is_as_we_make_it(&account)) {
            return Ok(false);
        }
        // Accounts of a directory service have no line there.
        let output = self.getent.command(["shadow", name.as_str()]).run()?;
        Ok(output.succeeded() && has_no_password(&output.text()))
    }

    fn remove(&self, name: &UserName) -> Result<()> {
        // If Samba is what failed, the account must go all the same.
        let forgotten = self.forget_at_samba(name);
        self.userdel.command([name.as_str()]).output(classify)?;
        forgotten
    }

    /// See [`super::Machine::set_password`].
    pub fn set_password(&self, name: &UserName, password: &Password) -> Result<()> {
        self.require(name)?;
        self.set_unix_password(name, password)?;
        self.set_samba_password(name, password)
    }

    fn set_unix_password(&self, name: &UserName, password: &Password) -> Result<()> {
        let line = format!("{name}:{}\n", password.expose()).into_bytes();
        self.chpasswd.command([]).stdin(line).output(classify).map(drop)
    }

    fn set_samba_password(&self, name: &UserName, password: &Password) -> Result<()> {
        let Some(smbpasswd) = &self.smbpasswd else { return Ok(()) };
        let twice = format!("{0}\n{0}\n", password.expose()).into_bytes();
        // -s: from standard input; -a: add it, or change it if it is there
        smbpasswd.command(["-s", "-a", name.as_str()]).stdin(twice).output(classify).map(drop)
    }

    /// See [`super::Machine::grant_user`].
    pub fn grant(&self, name: &UserName) -> Result<()> {
        group()?;
        self.require(name)?;
        self.add_to(GROUP, name)
    }

    fn add_to(&self, group: &str, name: &UserName) -> Result<()> {
        self.gpasswd.command(["-a", name.as_str(), group]).output(classify).map(drop)
    }

    /// See [`super::Machine::revoke_user`]. No error when it was no member. The group goes last, so that one who was put
    /// out by half is still a member and can be put out again.
    pub fn revoke(&self, name: &UserName) -> Result<()> {
        let group = group()?;
        let user = self.require(name)?;
        if user.gid == group.gid.as_raw() {
            return Err(Error::new(
                Kind::Denied,
                format!("taking {name} out of group {GROUP}"),
                format!("it is the account's primary group; give it another one with `usermod --gid <group> {name}`"),
            ));
        }
        self.forget_at_samba(name)?;
        if group.mem.iter().any(|member| member == name.as_str()) {
            self.gpasswd.command(["-d", name.as_str(), GROUP]).output(classify)?;
        }
        Ok(())
    }

    fn forget_at_samba(&self, name: &UserName) -> Result<()> {
        let Some(smbpasswd) = &self.smbpasswd else { return Ok(()) };
        let command: Command = smbpasswd.command(["-x", name.as_str()]);
        match command.output(classify) {
            Err(error) if error.kind != Kind::Missing => Err(error),
            _ => Ok(()),
        }
    }

    fn require(&self, name: &UserName) -> Result<User> {
        let missing = || Error::new(Kind::Missing, format!("looking for account {name}"), "there is no such account");
        find(name.as_str())?.ok_or_else(missing)
    }
}

/// Whether the account is in group `vsnap`, primary or supplementary.
pub fn is_member(user: &str) -> Result<bool> {
    let group = group()?;
    Ok(group.mem.iter().any(|member| member == user) || find(user)?.is_some_and(|user| user.gid == group.gid.as_raw()))
}

/// See [`super::Machine::accounts_version`]: inode, size and times of the account files, hashed.
pub fn accounts_version() -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for path in ACCOUNT_FILES {
        match std::fs::metadata(path) {
            Ok(file) => (file.ino(), file.size(), file.mtime(), file.mtime_nsec(), file.ctime_nsec()).hash(&mut hasher),
            // Some systems have no gshadow.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0u8.hash(&mut hasher),
            Err(error) => return Err(Error::io(format!("reading {path}"), &error)),
        }
    }
    Ok(hasher.finish())
}

fn group() -> Result<unistd::Group> {
    let action = || format!("looking for group {GROUP}");
    let missing =
        || Error::new(Kind::Other, action(), format!("it is missing; create it: `groupadd --system {GROUP}`"));
    let group = unistd::Group::from_name(GROUP).map_err(|error| Error::io(action(), &error.into()))?;
    group.ok_or_else(missing)
}

fn entry(name: &str) -> Result<Option<unistd::User>> {
    let found = unistd::User::from_name(name);
    found.map_err(|error| Error::io(format!("looking for account {name}"), &error.into()))
}

fn find(name: &str) -> Result<Option<User>> {
    Ok(entry(name)?.map(|user| User { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
}

/// A line of `getent passwd`: `name:password:uid:gid:...`.
fn parse(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(User { name, uid, gid })
}

/// Whether an account is one that [`Users::create`] made, and not one of the system, to be taken over by nobody.
fn is_as_we_make_it(account: &unistd::User) -> bool {
    account.uid.as_raw() >= FIRST_UID
        && account.gecos.as_bytes() == COMMENT.as_bytes()
        && account.dir == Path::new(NO_HOME)
        && account.shell == Path::new(NO_SHELL)
}

/// Whether a line of `getent shadow` is of an account that never had a password.
fn has_no_password(line: &str) -> bool {
    let hash = line.split(':').nth(1);
    hash.is_some_and(|hash| !hash.is_empty() && hash.chars().all(|c| c == '!'))
}

/// What the account tools say, in the words of shadow 4.17 and Samba 4.22.
fn classify(stderr: &str) -> Kind {
    const TEXTS: &[(&str, Kind)] = &[
        ("already exists", Kind::Exists),
        ("group ", Kind::Other),
        ("does not exist", Kind::Missing),
        ("Failed to find entry for user", Kind::Missing),
        ("Permission denied", Kind::Denied),
        ("cannot lock", Kind::Busy),
    ];
    let exists = stderr.contains("exists - if you want to add this user to that group");
    let found = TEXTS.iter().find(|(text, _)| stderr.contains(text));
    if exists { Kind::Exists } else { found.map_or(Kind::Other, |(_, kind)| *kind) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn lines_of_passwd() {
        let user = User { name: "vsuser".into(), uid: 1000, gid: 1001 };
        assert_eq!(parse("vsuser:x:1000:1001:,,,:/nonexistent:/usr/sbin/nologin"), Some(user));
        for bad in ["", "vsuser", "vsuser:x:one:1001", "vsuser:x:1000"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn accounts_without_a_password() {
        assert!(has_no_password("vsuser:!:20000:0:99999:7:::"));
        for other in
            ["vsuser:!$y$j9T$x$y:20000:0:99999:7:::", "vsuser:$y$j9T$x$y:20000::::::", "vsuser:*:2:", "vsuser::2:", ""]
        {
            assert!(!has_no_password(other), "{other}");
        }
    }

    #[test]
    fn accounts_of_the_system_are_not_taken_for_half_made_ones() {
        let account = |uid: u32, comment: &str| unistd::User {
            name: "messagebus".to_owned(),
            passwd: c"x".to_owned(),
            uid: uid.into(),
            gid: uid.into(),
            gecos: std::ffi::CString::new(comment).unwrap(),
            dir: NO_HOME.into(),
            shell: NO_SHELL.into(),
        };
        assert!(is_as_we_make_it(&account(1000, COMMENT)));
        for (uid, comment) in [(101, ""), (101, COMMENT), (1000, ""), (65534, "nobody")] {
            assert!(!is_as_we_make_it(&account(uid, comment)), "{uid} {comment}");
        }
        let login = unistd::User { shell: "/bin/bash".into(), ..account(1000, COMMENT) };
        assert!(!is_as_we_make_it(&login));
    }

    #[rstest]
    #[case("useradd: user 'vsuser' already exists", Kind::Exists)]
    #[case("useradd: group vsuser exists - if you want to add this user to that group, use -g.", Kind::Exists)]
    #[case("useradd: group 'vsnap' does not exist", Kind::Other)]
    #[case("gpasswd: user 'nobody2' does not exist", Kind::Missing)]
    #[case("Failed to find entry for user nobody2.", Kind::Missing)]
    #[case("useradd: cannot lock /etc/passwd; try again later.", Kind::Busy)]
    #[case("something else", Kind::Other)]
    fn texts_of_the_account_tools(#[case] text: &str, #[case] kind: Kind) {
        assert_eq!(classify(text), kind);
    }

    #[test]
    fn the_version_is_stable_while_nothing_changes() {
        assert_eq!(accounts_version().unwrap(), accounts_version().unwrap());
    }
}
