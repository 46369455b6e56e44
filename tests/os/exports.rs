//! NFS exports and SMB shares.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use vsnap::{
    os::{Applied, listen::Listen, nfs::NfsExport, samba::SmbShare},
    types::{Epoch, share::AllowedHosts},
};

use crate::system::{System, filesystem};

const EVERYWHERE: &Listen = &Listen::Everywhere;

/// Runs a test while the daemon of the appliance, which would take away what the test exports, does not run.
pub fn without_daemon(test: impl FnOnce()) {
    struct Daemon(System);

    impl Drop for Daemon {
        fn drop(&mut self) {
            if self.0.is_real() {
                self.0.run(&["systemctl", "start", "vsnapd"]);
            }
        }
    }

    let daemon = Daemon(System::new());
    if daemon.0.is_real() {
        daemon.0.run(&["systemctl", "stop", "vsnapd"]);
    }
    test();
}

/// Runs a test with a small pool and without the daemon. Afterwards nothing of it is exported.
pub fn alone(test: impl FnOnce(&System)) {
    without_daemon(|| with_small_pool_exported(test));
}

fn with_small_pool_exported(test: impl FnOnce(&System)) {
    System::with_small_pool(|system| {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(system)));
        let ended = [
            system.exports.apply_nfs(&[], EVERYWHERE),
            system.exports.apply_smb(&[], EVERYWHERE),
            system.exports.apply_iscsi(None),
        ];
        if let Err(payload) = result {
            std::panic::resume_unwind(payload);
        }
        ended.into_iter().for_each(|applied| drop(applied.unwrap()));
    });
}

/// What somebody else has configured on the real system: it is made, and then it stays, until it is removed with
/// `remove`. Each is a line for the shell.
pub struct Stranger<'a> {
    pub system: &'a System,
    pub make: &'a str,
    pub stays: &'a str,
    pub remove: &'a str,
}

impl Stranger<'_> {
    pub fn outlives(self, test: impl FnOnce()) {
        let shell = |line: &str| {
            if self.system.is_real() {
                self.system.run(&["sh", "-ec", line]);
            }
        };
        shell(self.make);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            test();
            shell(self.stays);
        }));
        shell(self.remove);
        if let Err(payload) = result {
            std::panic::resume_unwind(payload);
        }
    }
}

/// The first time something has to be done, the second time nothing.
#[track_caller]
pub fn changes_once(mut apply: impl FnMut() -> vsnap::os::Result<Applied>) {
    assert_ne!(apply().unwrap(), Applied::default(), "nothing was done");
    assert_eq!(apply().unwrap(), Applied::default(), "it was done again");
}

fn export(number: i64, hosts: &[&str]) -> NfsExport {
    let hosts = AllowedHosts::new(hosts).unwrap();
    NfsExport { path: filesystem(number).mountpoint(), hosts, read_only: false, snapshots_visible: false }
}

/// The exports of a path as clients get them, on the real system.
#[track_caller]
fn check_exported(system: &System, number: i64, expected: &[&str]) {
    if !system.is_real() {
        return;
    }
    let table = std::fs::read_to_string("/var/lib/nfs/etab").unwrap();
    let path = filesystem(number).mountpoint();
    let mut live: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix(&path)?.strip_prefix('\t')?.split_once(','))
        .map(|(start, _)| start)
        .collect();
    live.sort_unstable();
    assert_eq!(live, expected, "{table}");
}

#[test]
fn nfs_exports_are_what_is_wanted_and_no_others() {
    alone(|system| {
        let make = "mkdir -p /srv/theirs; exportfs -i -o ro,no_subtree_check 10.9.9.9:/srv/theirs";
        let stays = "grep -q '^/srv/theirs.10.9.9.9(ro' /var/lib/nfs/etab";
        let remove = "exportfs -u 10.9.9.9:/srv/theirs; rmdir /srv/theirs";
        Stranger { system, make, stays, remove }.outlives(|| {
            let apply = |wanted: &[NfsExport]| system.exports.apply_nfs(wanted, EVERYWHERE);
            [1, 3].into_iter().for_each(|number| drop(system.make_filesystem(number)));
            assert_eq!(apply(&[]).unwrap(), Applied::default(), "nothing to begin with");
            let one = export(1, &["10.0.0.0/8", "2001:db8::1"]);
            changes_once(|| apply(std::slice::from_ref(&one)));
            check_exported(system, 1, &["10.0.0.0/8(rw", "2001:db8::1(rw"]);
            // Beside it another one, and one whose filesystem is not here.
            let all = [one.clone(), export(3, &["all"]), export(99, &["all"])];
            changes_once(|| apply(&all));
            check_exported(system, 3, &["*(rw"]);
            check_exported(system, 99, &[]);
            let narrow = [NfsExport { read_only: true, ..export(1, &["10.0.0.0/8"]) }, export(3, &["all"])];
            changes_once(|| apply(&narrow));
            check_exported(system, 1, &["10.0.0.0/8(ro"]);
            changes_once(|| apply(&narrow[1..]));
            check_exported(system, 1, &[]);
            changes_once(|| apply(&[]));
            check_exported(system, 3, &[]);
            [1, 3].into_iter().for_each(|number| system.zfs.unmount_dataset(&filesystem(number)).unwrap());
        });
    });
}

fn share(number: i64, versions: &[(i64, &str)]) -> SmbShare {
    SmbShare {
        name: format!("contract{number}"),
        path: filesystem(number).mountpoint(),
        read_only: false,
        versions: versions.iter().map(|(time, name)| (Epoch(*time), (*name).to_owned())).collect(),
    }
}

/// The shares of ours that Samba knows, on the real system.
#[track_caller]
fn check_shared(system: &System, expected: &[&str]) {
    if !system.is_real() {
        return;
    }
    let known = std::process::Command::new("testparm").args(["-s", "--suppress-prompt"]).output().unwrap();
    let known = String::from_utf8(known.stdout).unwrap();
    let ours: Vec<&str> = known.lines().filter(|line| line.starts_with("[contract")).collect();
    assert_eq!(ours, expected);
}

/// The previous versions of a share, on the real system: names of links, and of the snapshots that they lead to.
#[track_caller]
fn check_versions(system: &System, number: i64, expected: &[(&str, &str)]) {
    if !system.is_real() {
        return;
    }
    let mut found: Vec<(String, PathBuf)> = std::fs::read_dir(format!("/vsnap/.versions/contract{number}"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_link(entry.path()).unwrap()))
        .collect();
    found.sort();
    let snapshots = format!("{}/.zfs/snapshot", filesystem(number).mountpoint());
    let expected: Vec<(String, PathBuf)> =
        expected.iter().map(|(link, name)| ((*link).to_owned(), Path::new(&snapshots).join(name))).collect();
    assert_eq!(found, expected);
}

#[test]
fn smb_shares_are_what_is_wanted_and_no_others() {
    alone(|system| {
        let make = "mkdir -p /srv/theirs; cp -p /etc/samba/smb.conf /root/smb.conf; \
                    printf '\n[theirs]\n  path = /srv/theirs\n' >> /etc/samba/smb.conf; smbcontrol smbd reload-config";
        let stays = "testparm -s --suppress-prompt 2>/dev/null | grep -q '^\\[theirs'";
        let remove = "mv /root/smb.conf /etc/samba/smb.conf; rmdir /srv/theirs; smbcontrol smbd reload-config";
        Stranger { system, make, stays, remove }.outlives(|| {
            let apply = |wanted: &[SmbShare]| system.exports.apply_smb(wanted, EVERYWHERE);
            [1, 3].into_iter().for_each(|number| drop(system.make_filesystem(number)));
            apply(&[]).unwrap();
            assert_eq!(apply(&[]).unwrap(), Applied::default(), "nothing to begin with");
            changes_once(|| apply(&[share(1, &[])]));
            check_shared(system, &["[contract1]"]);
            // Beside it another one, and one whose filesystem is not here.
            changes_once(|| apply(&[share(1, &[]), share(3, &[]), share(99, &[])]));
            check_shared(system, &["[contract1]", "[contract3]"]);
            changes_once(|| apply(&[share(1, &[]), share(3, &[(1_800_000_000, "snap7")])]));
            check_versions(system, 3, &[("@GMT-2027.01.15-08.00.00", "snap7")]);
            // Those of one share alone; of one that is not there yet it is too early.
            let two = share(3, &[(1_800_000_000, "snap7"), (1_800_000_060, "snap8")]);
            system.exports.apply_versions(&two).unwrap();
            check_versions(system, 3, &[("@GMT-2027.01.15-08.00.00", "snap7"), ("@GMT-2027.01.15-08.01.00", "snap8")]);
            assert_eq!(apply(&[share(1, &[]), two]).unwrap(), Applied::default(), "that was all there was to do");
            system.exports.apply_versions(&share(3, &[(1_800_000_060, "snap8")])).unwrap();
            check_versions(system, 3, &[("@GMT-2027.01.15-08.01.00", "snap8")]);
            system.exports.apply_versions(&share(5, &[(1_800_000_000, "snap9")])).unwrap();
            if system.is_real() {
                assert!(!std::path::Path::new("/vsnap/.versions/contract5").exists());
            }
            changes_once(|| apply(&[SmbShare { read_only: true, ..share(3, &[]) }]));
            check_shared(system, &["[contract3]"]);
            changes_once(|| apply(&[]));
            check_shared(system, &[]);
            [1, 3].into_iter().for_each(|number| system.zfs.unmount_dataset(&filesystem(number)).unwrap());
        });
    });
}

/// Addresses at which a port is listened on, on the real system.
fn sockets(port: u16) -> BTreeSet<String> {
    let output = std::process::Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let local = text.lines().filter_map(|line| line.split_whitespace().nth(3));
    local.map(|socket| socket.rsplit_once(':').unwrap().0.trim_matches(['[', ']']).to_owned()).collect()
}

#[test]
fn servers_listen_where_they_are_to_and_are_restarted_for_nothing_else() {
    alone(|system| {
        [1, 3].into_iter().for_each(|number| drop(system.make_filesystem(number)));
        let nfs = |listen: &Listen| system.exports.apply_nfs(&[export(1, &["all"])], listen);
        let smb = |listen: &Listen| system.exports.apply_smb(&[share(3, &[])], listen);
        let everywhere = || {
            for port in [2049, 445].into_iter().filter(|_| system.is_real()) {
                assert!(sockets(port).iter().any(|socket| socket == "0.0.0.0" || socket == "*"), "{:?}", sockets(port));
            }
            assert!(!std::path::Path::new("/etc/nfs.conf.d/vsnap-listen.conf").exists());
        };
        let here = vsnap::os::network::local_addresses().unwrap();
        let closed = *here.iter().find(|address| address.is_ipv4() && !address.is_loopback()).unwrap();
        let rest: BTreeSet<String> = here.iter().filter(|it| **it != closed).map(ToString::to_string).collect();
        changes_once(|| nfs(EVERYWHERE));
        changes_once(|| smb(EVERYWHERE));
        changes_once(|| nfs(&Listen::NotOn([closed].into())));
        changes_once(|| smb(&Listen::NotOn([closed].into())));
        if system.is_real() {
            assert_eq!((sockets(2049), sockets(445)), (rest.clone(), rest));
        }
        changes_once(|| nfs(EVERYWHERE));
        changes_once(|| smb(EVERYWHERE));
        everywhere();
        // With nothing to serve they are not restricted, but given back to their administrator.
        let restricted = Listen::NotOn([closed].into());
        let no_nfs = |listen: &Listen| system.exports.apply_nfs(&[], listen);
        let no_smb = |listen: &Listen| system.exports.apply_smb(&[], listen);
        [no_nfs(EVERYWHERE), no_smb(EVERYWHERE)].into_iter().for_each(|applied| drop(applied.unwrap()));
        assert_eq!(no_nfs(&restricted).unwrap(), Applied::default());
        assert_eq!(no_smb(&restricted).unwrap(), Applied::default());
        [nfs(&restricted), smb(&restricted)].into_iter().for_each(|applied| drop(applied.unwrap()));
        [no_nfs(&restricted), no_smb(&restricted)].into_iter().for_each(|applied| drop(applied.unwrap()));
        changes_once(|| no_nfs(EVERYWHERE));
        changes_once(|| no_smb(EVERYWHERE));
        everywhere();
        [1, 3].into_iter().for_each(|number| system.zfs.unmount_dataset(&filesystem(number)).unwrap());
    });
}
