//! What the error output of `zpool` and `zfs` means. A text that is not known is [`Kind::Other`].

use crate::os::Kind;

/// Fragments of messages, the first that occurs counts: an error that names several things ("cannot destroy: pool is
/// busy") is told by the more specific fragment, so those stand above.
const ZPOOL: &[(&str, Kind)] = &[
    ("no such pool or dataset", Kind::Missing),
    ("no such pool", Kind::Missing),
    ("no such device in pool", Kind::Missing),
    ("couldn't find device", Kind::Missing),
    ("cannot resolve path", Kind::Missing),
    ("there is no active scrub", Kind::Missing),
    ("pool already exists", Kind::Exists),
    ("a pool with that name already exists", Kind::Exists),
    ("currently scrubbing", Kind::Busy),
    ("currently resilvering", Kind::Busy),
    ("is in use and contains a", Kind::Busy),
    ("one or more vdevs refer to the same device", Kind::Busy),
    ("is currently in use", Kind::Busy),
    ("pool or dataset is busy", Kind::Busy),
    ("pool is busy", Kind::Busy),
    ("Pool busy", Kind::Busy),
    ("no valid replicas", Kind::Busy),
    ("device is busy", Kind::Busy),
    ("Device or resource busy", Kind::Busy),
    ("out of space", Kind::NoSpace),
    ("device is too small", Kind::NoSpace),
    ("previously in use from another system", Kind::Denied),
    ("currently imported on another host", Kind::Denied),
    ("is part of ", Kind::Denied),
    ("contains a filesystem of type", Kind::Denied),
    ("contains a corrupt primary EFI label", Kind::Denied),
    ("mismatched replication level", Kind::Denied),
    ("contains devices of different sizes", Kind::Denied),
    ("permission denied", Kind::Denied),
    ("Permission denied", Kind::Denied),
    ("only applicable to", Kind::Denied),
];

/// As [`ZPOOL`], for `zfs`.
const ZFS: &[(&str, Kind)] = &[
    ("dataset does not exist", Kind::Missing),
    ("no such pool or dataset", Kind::Missing),
    ("no such pool", Kind::Missing),
    ("parent does not exist", Kind::Missing),
    ("no such tag on this dataset", Kind::Missing),
    ("filesystem already mounted", Kind::Exists),
    ("dataset already exists", Kind::Exists),
    ("bookmark exists", Kind::Exists),
    ("tag already exists on this dataset", Kind::Exists),
    ("conflicting snapshot", Kind::Exists),
    ("has children", Kind::Busy),
    ("has dependent clones", Kind::Busy),
    ("more recent snapshots or bookmarks exist", Kind::Busy),
    ("pool or dataset is busy", Kind::Busy),
    ("dataset is busy", Kind::Busy),
    ("Device or resource busy", Kind::Busy),
    ("out of space", Kind::NoSpace),
    ("quota exceeded", Kind::NoSpace),
    ("size is less than current used or reserved space", Kind::NoSpace),
    ("not a cloned filesystem", Kind::Denied),
    ("permission denied", Kind::Denied),
    ("Permission denied", Kind::Denied),
];

/// Whether a pool could not be destroyed or exported only because somebody has it open at the moment, not because it is
/// mounted and in use.
pub(super) fn is_open_elsewhere(detail: &str) -> bool {
    let is_meant = detail.contains("cannot destroy") || detail.contains("cannot export");
    is_meant && detail.contains("pool is busy") && !detail.contains("unmount")
}

/// Whether ZFS could not open a disk that it had found before. A disk that it opened and then found faulty is another
/// matter: "use 'zpool clear' to restore a faulted device". It has two ways to say it, for a device that is not there and
/// for a path that leads nowhere; a pool that is not there is "no such pool" to it.
pub(super) fn is_unavailable(detail: &str) -> bool {
    detail.contains("one or more devices is currently unavailable")
        || detail.contains("no such pool or dataset")
        || detail.contains("remains in faulted state") && detail.contains("no longer present")
}

/// Whether a dataset could not be destroyed only because somebody has its device or mount open at the moment.
pub(super) fn is_open(detail: &str) -> bool {
    detail.contains("dataset is busy")
}

/// What `zpool` said.
pub(super) fn zpool(stderr: &str) -> Kind {
    find(ZPOOL, stderr)
}

/// What `zfs` said.
pub(super) fn zfs(stderr: &str) -> Kind {
    find(ZFS, stderr)
}

fn find(table: &[(&str, Kind)], stderr: &str) -> Kind {
    table.iter().find(|(fragment, _)| stderr.contains(fragment)).map_or(Kind::Other, |(_, kind)| *kind)
}

/// Whether all that `zpool create` or `add` complains about is that groups differ in width or disks in size: the
/// only thing that `-f` is used for. The same flag would also overwrite a file system or an exported pool.
pub(super) fn is_only_uneven(stderr: &str) -> bool {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let uneven = |line: &str| {
        line.contains("mismatched replication level") || line.ends_with("contains devices of different sizes")
    };
    lines.next() == Some("invalid vdev specification")
        && lines.next() == Some("use '-f' to override the following errors:")
        && lines.clone().count() > 0
        && lines.all(uneven)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Every text was printed by OpenZFS 2.3.9.
    #[rstest]
    #[case("cannot open 'nope': no such pool", Kind::Missing)]
    #[case("cannot remove nope: no such device in pool", Kind::Missing)]
    #[case("cannot replace /dev/a with /dev/b: no such device in pool", Kind::Missing)]
    #[case("couldn't find device \"nope\" in pool \"vpool1\"", Kind::Missing)]
    #[case("cannot resolve path '/dev/disk/by-id/nope'", Kind::Missing)]
    #[case("cannot import '123': no such pool available", Kind::Missing)]
    #[case("cannot cancel scrubbing vpool1: there is no active scrub", Kind::Missing)]
    #[case("cannot create 'vpool1': pool already exists", Kind::Exists)]
    #[case("cannot scrub vpool1: currently scrubbing; use 'zpool scrub -s' to cancel scrub", Kind::Busy)]
    #[case("/dev/disk/by-id/scsi-1 is in use and contains a unknown filesystem.", Kind::Busy)]
    #[case(
        "cannot unmount '/vsnap/vpool1': pool or dataset is busy\ncould not destroy 'vpool1': could not unmount \
         datasets",
        Kind::Busy
    )]
    #[case("cannot offline /dev/disk/by-id/scsi-3: no valid replicas", Kind::Busy)]
    #[case("cannot remove raidz2-0: out of space", Kind::NoSpace)]
    #[case("cannot detach /dev/disk/by-id/scsi-1: only applicable to mirror and replacing vdevs", Kind::Denied)]
    #[case(
        "invalid vdev specification\nuse '-f' to override the following errors:\n/dev/disk/by-id/a contains a \
         filesystem of type 'ext4'",
        Kind::Denied
    )]
    #[case("something that nobody has seen yet", Kind::Other)]
    #[case("", Kind::Other)]
    fn zpool_texts(#[case] text: &str, #[case] kind: Kind) {
        assert_eq!(zpool(text), kind);
    }

    #[rstest]
    #[case("cannot mount 'vpool1': filesystem already mounted", Kind::Exists)]
    #[case("cannot open 'nope': dataset does not exist", Kind::Missing)]
    #[case("cannot set property for 'vpool1': bad property", Kind::Other)]
    #[case("cannot create 'vpool1/fs1': no such pool 'vpool1'", Kind::Missing)]
    #[case("cannot create 'vpool1/nope/fs1': parent does not exist", Kind::Missing)]
    #[case("cannot hold snapshot 'vpool1/fs1@nope': dataset does not exist", Kind::Missing)]
    #[case("cannot release hold from snapshot 'vpool1/fs1@snap1': no such tag on this dataset", Kind::Missing)]
    #[case("cannot create 'vpool1/fs1': dataset already exists", Kind::Exists)]
    #[case("cannot hold snapshot 'vpool1/fs1@snap1': tag already exists on this dataset", Kind::Exists)]
    #[case("cannot promote 'vpool1/fs3': conflicting snapshot 'snap1' from parent 'vpool1/fs1@snap1'", Kind::Exists)]
    #[case(
        "cannot destroy 'vpool1/fs1': filesystem has children\nuse '-r' to destroy the following datasets:\n\
         vpool1/fs1@snap1",
        Kind::Busy
    )]
    #[case(
        "cannot rollback to 'vpool1/fs1@snap1': more recent snapshots or bookmarks exist\nuse '-r' to force deletion \
         of the following snapshots and bookmarks:\nvpool1/fs1@snap2",
        Kind::Busy
    )]
    #[case("cannot destroy 'vpool1/lun2': dataset is busy", Kind::Busy)]
    #[case("cannot set property for 'vpool1/fs1': size is less than current used or reserved space", Kind::NoSpace)]
    #[case("cannot promote 'vpool1/fs1': not a cloned filesystem", Kind::Denied)]
    #[case("Unable to obtain diffs: \n   Not an earlier snapshot from the same fs", Kind::Other)]
    fn zfs_texts(#[case] text: &str, #[case] kind: Kind) {
        assert_eq!(zfs(text), kind);
    }

    #[rstest]
    #[case("cannot create 'vpool1': one or more devices is currently unavailable", true)]
    #[case("cannot create 'vpool12': no such pool or dataset", true)]
    #[case(
        "warning: device '/dev/a' onlined, but remains in faulted state use 'zpool replace' to replace devices that \
         are no longer present",
        true
    )]
    #[case(
        "warning: device '/dev/a' onlined, but remains in faulted state use 'zpool clear' to restore a faulted device",
        false
    )]
    #[case("cannot open 'nope': no such pool", false)]
    fn unavailable_disks(#[case] text: &str, #[case] unavailable: bool) {
        assert_eq!(is_unavailable(text), unavailable);
    }

    #[test]
    fn force_is_only_for_uneven_groups() {
        let complaint =
            |lines: &str| format!("invalid vdev specification\nuse '-f' to override the following errors:\n{lines}");
        assert!(is_only_uneven(&complaint("mirror contains devices of different sizes\n")));
        assert!(is_only_uneven(&complaint("mismatched replication level: pool uses raidz and new vdev is disk")));
        assert!(!is_only_uneven(&complaint("/dev/a contains a filesystem of type 'ext4'")));
        assert!(!is_only_uneven(&complaint(
            "mirror contains devices of different sizes\n/dev/a-part1 is part of exported pool 'ex'"
        )));
        assert!(!is_only_uneven(&complaint("")));
        assert!(!is_only_uneven("/dev/a is in use and contains a unknown filesystem."));
    }
}
