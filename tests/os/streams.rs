use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use vsnap::{
    os::{
        Kind,
        stream::{Base, BookmarkFacts, Receiving, Sending},
    },
    types::{SnapshotId, names::SnapshotName},
};

use crate::{
    snapshots::{facts, take},
    system::{System, fails, filesystem},
};

fn whole(snapshot: &SnapshotName) -> Sending {
    Sending::Snapshot { snapshot: snapshot.clone(), base: None, raw: false }
}

#[test]
fn a_bookmark_outlives_its_snapshot() {
    System::with_small_pool(|system| {
        let zfs = &system.zfs;
        let name = system.make_filesystem(1);
        assert_eq!(zfs.bookmarks(&name).unwrap(), []);
        fails(zfs.bookmarks(&filesystem(99)), Kind::Missing);
        let (older, newer) = (take(system, &name, 9), take(system, &name, 2));
        let bookmarks = [&older, &newer].map(|snapshot| {
            let facts = facts(system, snapshot);
            BookmarkFacts {
                name: snapshot.as_str().replace('@', "#"),
                guid: facts.guid,
                transaction: facts.transaction,
            }
        });
        for (snapshot, number) in [(&newer, 2), (&older, 9), (&newer, 2)] {
            zfs.bookmark(snapshot, &name.bookmark(SnapshotId(number))).unwrap();
        }
        assert_eq!(zfs.bookmarks(&name).unwrap(), bookmarks);
        zfs.destroy_snapshots(std::slice::from_ref(&older)).unwrap();
        assert_eq!(zfs.bookmarks(&name).unwrap(), bookmarks);
        fails(zfs.bookmark(&older, &name.bookmark(SnapshotId(1))), Kind::Missing);
        for _ in 0..2 {
            zfs.destroy_bookmark(&name.bookmark(SnapshotId(9))).unwrap();
            assert_eq!(zfs.bookmarks(&name).unwrap(), bookmarks[1..]);
        }
        zfs.destroy_bookmark(&filesystem(99).bookmark(SnapshotId(1))).unwrap();
    });
}

#[test]
fn the_size_of_a_stream_is_known_before_it_is_sent() {
    System::with_small_pool(|system| {
        let zfs = &system.zfs;
        let name = system.make_filesystem(1);
        let base = take(system, &name, 1);
        if system.is_real() {
            std::fs::write(format!("{}/file", name.mountpoint()), vec![7; 3 << 20]).unwrap();
        }
        let snapshot = take(system, &name, 2);
        zfs.bookmark(&base, &name.bookmark(SnapshotId(1))).unwrap();
        let since = |base: Base| Sending::Snapshot { snapshot: snapshot.clone(), base: Some(base), raw: false };
        let sizes = [
            whole(&snapshot),
            since(Base::Snapshot(base.clone())),
            since(Base::Bookmark(name.bookmark(SnapshotId(1)))),
        ]
        .map(|sending| zfs.stream_size(&sending).unwrap());
        assert!(sizes[0] > zfs.stream_size(&whole(&base)).unwrap() || !system.is_real(), "{sizes:?}");
        assert!(sizes[0] >= sizes[1] && sizes[1] > 0, "{sizes:?}");
        assert_eq!(sizes[1], sizes[2]);
        fails(zfs.stream_size(&whole(&name.snapshot(SnapshotId(3)))), Kind::Missing);
        fails(zfs.stream_size(&since(Base::Bookmark(name.bookmark(SnapshotId(3))))), Kind::Missing);
        fails(zfs.stream_size(&since(Base::Snapshot(name.snapshot(SnapshotId(3))))), Kind::Missing);
    });
}

#[test]
fn a_stream_that_has_properties_in_it_is_refused() {
    System::with_small_pool(|system| {
        let (zfs, source, replica) = (&system.zfs, system.make_filesystem(1), system.make_filesystem(2));
        let snapshot = take(system, &source, 1);
        zfs.set_replica(&replica, true).unwrap();
        // The fake has no such streams.
        let flags: &[&str] = if system.is_real() { &["-p", "-R", "-L"] } else { &[] };
        for flag in flags {
            let mut sending =
                Command::new("zfs").args(["send", flag, snapshot.as_str()]).stdout(Stdio::piped()).spawn().unwrap();
            let input = OwnedFd::from(sending.stdout.take().unwrap());
            let receiving = Receiving { snapshot: replica.snapshot(SnapshotId(1)), new: None, whole: true };
            let received = zfs.receive(&receiving, input).and_then(|process| process.wait());
            sending.wait().unwrap();
            match *flag {
                "-L" => received.unwrap(),
                _ => fails(received, Kind::Denied),
            }
            assert_eq!(zfs.snapshots(&replica).unwrap().len(), usize::from(*flag == "-L"), "{flag}");
        }
    });
}

#[test]
fn lists_of_snapshots_have_their_holds_and_notes() {
    System::with_small_pool(|system| {
        let name = system.make_filesystem(1);
        let taken = [1, 2, 3].map(|number| take(system, &name, number));
        for tag in ["b", "a"] {
            system.zfs.hold(&taken[1], tag).unwrap();
        }
        let notes = BTreeMap::from([("vsnap:note".to_owned(), "x".repeat(4000))]);
        system.zfs.note_snapshot(&taken[2], &notes).unwrap();
        let listed = system.zfs.snapshots(&name).unwrap();
        let of = |at: usize| (listed[at].name.as_str(), listed[at].holds.len(), listed[at].notes.len());
        assert_eq!(
            [0, 1, 2].map(of),
            [(taken[0].as_str(), 0, 0), (taken[1].as_str(), 2, 0), (taken[2].as_str(), 0, 1)]
        );
        assert_eq!(listed[1].holds, ["a", "b"]);
        assert_eq!(listed, taken.each_ref().map(|snapshot| facts(system, snapshot)));
        for tag in ["a", "b"] {
            system.zfs.release(&taken[1], tag).unwrap();
        }
    });
}
