//! The catalog was restored from a copy that is older than the pools: what it does not know keeps its number and its
//! data, whatever is made anew.

use vsnap::{
    error::Error,
    types::{
        PoolId, SnapshotId, VolumeId,
        pool::{PoolOptions, PoolRequest, PoolType},
        selection::Selection,
        snapshot::{Retention, SnapshotRequest},
        volume::{BlockSize, RelativePath, VolumeOptions, VolumeRequest, VolumeSource},
    },
};

use crate::{
    appliance::{Appliance, caller},
    volumes::name,
};

fn filesystem() -> VolumeSource {
    VolumeSource::Filesystem { pool: PoolId(1), limit: None, options: VolumeOptions::default() }
}

fn file() -> VolumeSource {
    VolumeSource::File { parent: VolumeId(1), path: RelativePath::new("files/lun.img").unwrap() }
}

/// Volumes 1 to 3 with a snapshot are in the copy. Since then there are volume 4, lun 5 and snapshots 2 and 3.
fn behind() -> Appliance {
    let mut appliance = Appliance::new();
    appliance.make_volumes();
    appliance.snap("a", &[1]);
    appliance.kill();
    let copy = appliance.copy();
    appliance.start();
    assert_eq!(appliance.create("four", filesystem()).unwrap().id, VolumeId(4));
    let options = VolumeOptions::default();
    let lun = VolumeSource::Lun { pool: PoolId(1), bytes: 1 << 20, block: BlockSize::default(), options };
    assert_eq!(appliance.create("five", lun).unwrap().id, VolumeId(5));
    for dataset in ["vpool1/fs4", "vpool1/lun5"] {
        appliance.fake.world().write(dataset, b"precious").unwrap();
    }
    appliance.snap("b", &[1]);
    appliance.snap("c", &[1]);
    appliance.restore_catalog(&copy);
    appliance
}

/// Nobody has touched what the catalog does not know.
#[track_caller]
fn check_old(appliance: &Appliance) {
    let world = appliance.fake.world();
    for dataset in ["vpool1/fs4", "vpool1/lun5"] {
        assert_eq!(world.read(dataset).as_deref(), Some(&b"precious"[..]), "{dataset}");
        assert!(world.dataset(dataset).unwrap().mark.is_some(), "{dataset}");
    }
    for (snapshot, content) in [("vpool1/fs1@snap2", "b"), ("vpool1/fs1@snap3", "c")] {
        assert_eq!(world.read(snapshot).as_deref(), Some(content.as_bytes()), "{snapshot}");
    }
}

fn make(appliance: &Appliance, text: &str, source: VolumeSource) -> Result<VolumeId, Error> {
    Ok(appliance.engine().create_volume(&caller(), VolumeRequest { name: name(text), source })?.id)
}

fn snap(appliance: &Appliance, text: &str, volumes: &[i64]) -> Result<SnapshotId, Error> {
    let volumes = volumes.iter().map(|id| VolumeId(*id)).collect();
    let request = SnapshotRequest { volumes, name: Some(name(text)), retention: Retention::default() };
    Ok(appliance.engine().create_snapshots(&caller(), request)?[0].id)
}

#[track_caller]
fn is_taken<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::Exists(text) if text.contains("vsnap system report")), "{error:?}");
}

#[test]
fn numbers_of_what_it_does_not_know_are_passed_at_start() {
    for reboot in [false, true] {
        let mut appliance = behind();
        if reboot {
            appliance.fake.world().reboot();
        }
        appliance.start();
        assert_eq!(make(&appliance, "new", filesystem()).unwrap(), VolumeId(1006));
        assert_eq!(snap(&appliance, "b", &[1]).unwrap(), SnapshotId(1004));
        assert_eq!(appliance.fake.world().read("vpool1/fs1006"), None, "it is empty");
        check_old(&appliance);
        // Once is enough.
        appliance.kill();
        appliance.start();
        assert_eq!(make(&appliance, "newer", filesystem()).unwrap(), VolumeId(1007));
        check_old(&appliance);
    }
}

#[test]
fn numbers_are_passed_when_the_pool_comes_back_later() {
    let mut appliance = behind();
    appliance.fake.world().reboot();
    appliance.plug(false);
    appliance.start();
    appliance.plug(true);
    appliance.engine().upkeep().unwrap();
    assert_eq!(make(&appliance, "new", filesystem()).unwrap(), VolumeId(1006));
    check_old(&appliance);
}

#[test]
fn a_volume_that_is_there_is_never_taken_for_a_new_one() {
    // `four` and `five` had these numbers; a name may come again.
    for texts in [["four", "five"], ["new", "newer"]] {
        let mut appliance = behind();
        appliance.refuse("names");
        appliance.start();
        is_taken(make(&appliance, texts[0], filesystem()));
        check_old(&appliance);
        assert_eq!(make(&appliance, texts[0], filesystem()).unwrap(), VolumeId(1006));
        assert_eq!(snap(&appliance, "b", &[1]).unwrap(), SnapshotId(1004));
        check_old(&appliance);
    }
}

#[test]
fn a_snapshot_that_is_there_is_never_taken_for_a_new_one() {
    for text in ["b", "new"] {
        for volumes in [&[1][..], &[1, 3], &[3, 1]] {
            let mut appliance = behind();
            appliance.refuse("names");
            appliance.start();
            is_taken(snap(&appliance, text, volumes));
            assert!(appliance.fake.world().snapshot("vpool1/fs3@snap2").is_err());
            check_old(&appliance);
            assert!(snap(&appliance, text, volumes).unwrap().0 > 1000);
            check_old(&appliance);
        }
    }
}

#[test]
fn a_note_of_a_lun_is_never_taken_for_a_new_one() {
    let mut appliance = Appliance::new();
    appliance.make_volumes();
    appliance.kill();
    let copy = appliance.copy();
    appliance.start();
    let serial = make(&appliance, "file", file()).and_then(|id| appliance.engine().volume(id)).unwrap().serial;
    appliance.restore_catalog(&copy);
    appliance.start();
    is_taken(make(&appliance, "new", file()));
    let note = || appliance.fake.world().dataset("vpool1/fs1").unwrap().notes.get("vsnap:file.4.serial").cloned();
    assert_eq!(note(), serial);
    assert_eq!(make(&appliance, "new", file()).unwrap(), VolumeId(5));
    assert_eq!(note(), serial);
}

fn pool(appliance: &Appliance) -> Result<PoolId, Error> {
    let request = PoolRequest {
        name: name("demo1"),
        disks: appliance.uuids(5..=8),
        pool_type: PoolType::Raid6,
        options: PoolOptions::default(),
    };
    Ok(appliance.engine().create_pool(&caller(), request)?.id)
}

/// The copy is older than the pool itself.
fn before_the_pool() -> Appliance {
    let mut appliance = Appliance::new();
    appliance.kill();
    let copy = appliance.copy();
    appliance.start();
    appliance.make_pool();
    appliance.create("one", filesystem()).unwrap();
    appliance.fake.world().write("vpool1/fs1", b"precious").unwrap();
    appliance.restore_catalog(&copy);
    appliance
}

#[test]
fn numbers_of_pools_are_passed_at_start() {
    let mut appliance = before_the_pool();
    appliance.start();
    assert_eq!(pool(&appliance).unwrap(), PoolId(1002));
    assert_eq!(appliance.fake.world().read("vpool1/fs1").as_deref(), Some(&b"precious"[..]));
}

#[test]
fn a_pool_that_is_there_is_never_taken_for_a_new_one() {
    let mut appliance = before_the_pool();
    appliance.refuse("pool_facts");
    appliance.start();
    appliance.fake.allow_all();
    assert!(matches!(pool(&appliance), Err(Error::Exists(text)) if text.contains("vpool1")));
    assert_eq!(appliance.fake.world().read("vpool1/fs1").as_deref(), Some(&b"precious"[..]));
    assert!(pool(&appliance).unwrap() > PoolId(1));
    assert_eq!(appliance.fake.world().read("vpool1/fs1").as_deref(), Some(&b"precious"[..]));
}

#[test]
fn rows_are_told_from_other_snapshots_by_their_guids() {
    let appliance = {
        let mut appliance = behind();
        appliance.start();
        appliance
    };
    let guid = appliance.fake.world().new_guid();
    appliance.fake.world().snapshot_mut("vpool1/fs1@snap1").unwrap().guid = guid;
    let error = appliance.engine().delete_snapshot(&caller(), SnapshotId(1)).unwrap_err();
    assert!(matches!(&error, Error::Contradiction(text) if text.contains("another guid")), "{error:?}");
    assert!(appliance.fake.world().snapshot("vpool1/fs1@snap1").is_ok());
    assert_eq!(appliance.engine().snapshots(&Selection::default()).unwrap().1, 1);
}
