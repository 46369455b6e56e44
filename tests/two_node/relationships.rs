use vsnap::{
    error::Error,
    os::Kind,
    types::{
        Epoch, Name, SnapshotId, VolumeId,
        relationship::{RelationshipRequest, Role},
        selection::Selection,
        session::SessionRequest,
        share::{AllowedHosts, ShareProperties, ShareType},
        snapshot::{Retention, SnapshotRequest},
        volume::{VolumeAction, VolumeOptions, VolumeRequest, VolumeSource, VolumeUpdate},
    },
};

use crate::node::{Pair, caller};

#[test]
fn both_sides_tell_of_it() {
    let (pair, volume, id) = Pair::with_relationship();
    let here = pair.a.engine().relationship(&id).unwrap();
    let there = pair.b.engine().relationship(&id).unwrap();
    assert_eq!((here.role, there.role), (Role::Primary, Role::Replica));
    assert_eq!((here.local_volume, here.remote_volume), (volume, there.local_volume));
    assert_eq!((there.remote_volume, there.remote_pool), (volume, pair.pool_a));
    assert_eq!((here.partner, there.partner), (pair.b.id(), pair.a.id()));
    assert_eq!((here.remote_name.as_str(), there.local_name.as_str()), ("data", "data"));
    let again = pair.a.engine().create_relationship(&caller(), volume, pair.a.request(&pair.b)).unwrap_err();
    assert!(matches!(again, Error::Exists(_)), "{again:?}");
}

#[test]
fn names_that_are_taken_there_get_a_number_or_are_refused() {
    let pair = Pair::new();
    pair.b.make_filesystem("data", pair.pool_b);
    let volume = pair.a.make_filesystem("data", pair.pool_a);
    let wish = Some(Name::new("data").unwrap());
    let request = RelationshipRequest { remote_name: wish, ..pair.a.request(&pair.b) };
    let error = pair.a.engine().create_relationship(&caller(), volume, request).unwrap_err();
    assert!(matches!(error, Error::Exists(_)), "{error:?}");
    assert_eq!(pair.a.stored("SELECT count(*) FROM relationship"), 0);
    let id = pair.a.replicate(volume, &pair.b);
    assert_eq!(pair.a.engine().relationship(&id).unwrap().remote_name.as_str(), "data_2");
    let request = RelationshipRequest { remote_pool: Some(vsnap::types::PoolId(99)), ..pair.a.request(&pair.b) };
    let other = pair.a.make_filesystem("other", pair.pool_a);
    let error = pair.a.engine().create_relationship(&caller(), other, request).unwrap_err();
    assert!(error.to_string().contains("pool 99"), "{error}");
    assert_eq!(pair.b.stored("SELECT count(*) FROM volume"), 2);
}

#[test]
fn other_names_are_known_from_the_next_session_on() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let rename = |node: &crate::node::Node, volume, name: &str| {
        let update =
            VolumeUpdate { name: Some(Name::new(name).unwrap()), size: None, options: VolumeOptions::default() };
        node.engine().update_volume(&caller(), volume, update).unwrap();
    };
    rename(&pair.a, volume, "here");
    rename(&pair.b, pair.replica(&relationship), "there");
    pair.a.sync(&relationship);
    let [one, other] = [&pair.a, &pair.b].map(|node| node.engine().relationship(&relationship).unwrap());
    assert_eq!((one.local_name.as_str(), one.remote_name.as_str()), ("here", "there"));
    assert_eq!((other.local_name.as_str(), other.remote_name.as_str()), ("there", "here"));
}

#[test]
fn nobody_changes_a_replica_and_a_clone_of_it_can_be_used() {
    let (pair, _, relationship) = Pair::with_relationship();
    let session = pair.a.sync(&relationship);
    let engine = pair.b.engine();
    let replica = pair.replica(&relationship);
    let dataset = pair.b.dataset(replica);
    assert!(pair.b.os.world().write(&dataset, b"x").is_err(), "it is read-only");
    let properties = ShareProperties {
        share_type: ShareType::Nfs,
        read_only: true,
        allowed_hosts: AllowedHosts::default(),
        snapshots_visible: false,
    };
    let newest = session.remote_snapshot.unwrap();
    let snapshots =
        SnapshotRequest { volumes: vec![replica], name: None, retention: Retention { expires: None, locked: false } };
    let rollback = VolumeAction::Rollback {
        snapshot: newest,
        discard_snapshots: Vec::new(),
        discard_clones: Vec::new(),
        discard_shares: Vec::new(),
        discard_hosts: Vec::new(),
    };
    let errors = [
        engine.create_share(&caller(), replica, &properties).unwrap_err(),
        engine.create_snapshots(&caller(), snapshots).unwrap_err(),
        engine.act_on_volume(&caller(), replica, rollback).unwrap_err(),
        engine.create_relationship(&caller(), replica, pair.b.request(&pair.a)).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, Error::State(message) if message.contains("is the replica of")), "{error:?}");
    }
    let error = engine.delete_snapshot(&caller(), newest).unwrap_err();
    assert!(error.to_string().contains("builds on"), "{error}");
    let error = engine.delete_volume(&caller(), replica, false).unwrap_err();
    assert!(matches!(&error, Error::Busy(message) if message.contains(relationship.as_str())), "{error:?}");
    let request = VolumeRequest { name: Name::new("look").unwrap(), source: VolumeSource::Clone { snapshot: newest } };
    let clone = engine.create_volume(&caller(), request).unwrap();
    assert_eq!(pair.b.read(clone.id).as_deref(), Some(&b"one"[..]));
    engine.create_share(&caller(), clone.id, &properties).unwrap();
}

#[test]
fn the_replica_goes_with_its_relationship_or_stays_as_a_volume() {
    let (pair, volume, relationship) = Pair::with_relationship();
    pair.a.sync(&relationship);
    let replica = pair.replica(&relationship);
    pair.a.engine().delete_relationship(&caller(), &relationship, true, false).unwrap();
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.engine().relationships(&Selection::default()).unwrap().1, 0);
    }
    pair.b.write(replica, b"failover");
    let other = pair.a.make_filesystem("other", pair.pool_a);
    let second = pair.a.replicate(other, &pair.b);
    pair.a.sync(&second);
    let gone = pair.replica(&second);
    // From the other side this time.
    pair.b.engine().delete_relationship(&caller(), &second, false, false).unwrap();
    assert!(matches!(pair.b.engine().volume(gone), Err(Error::NotFound { .. })));
    assert_eq!(pair.a.engine().relationships(&Selection::default()).unwrap().1, 0);
    for volume in [volume, other] {
        let dataset = pair.a.dataset(volume);
        assert!(pair.a.os.world().dataset(&dataset).unwrap().bookmarks.is_empty(), "nobody needs them");
    }
}

#[test]
fn failover_and_back_sends_only_what_changed() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let first = pair.a.sync(&relationship);
    let replica = pair.replica(&relationship);
    pair.a.engine().delete_relationship(&caller(), &relationship, true, false).unwrap();
    pair.b.write(replica, b"written after the failover");
    let back =
        RelationshipRequest { remote_name: Some(Name::new("data").unwrap()), reuse: true, ..pair.b.request(&pair.a) };
    // What was written on the old primary since would be lost: that is for people to decide.
    pair.a.write(volume, b"written when nobody knew yet");
    let error = pair.b.engine().create_relationship(&caller(), replica, back.clone()).unwrap_err();
    assert!(error.to_string().contains("roll it back"), "{error}");
    let rollback = VolumeAction::Rollback {
        snapshot: first.local_snapshot.unwrap(),
        discard_snapshots: Vec::new(),
        discard_clones: Vec::new(),
        discard_shares: Vec::new(),
        discard_hosts: Vec::new(),
    };
    pair.a.engine().act_on_volume(&caller(), volume, rollback).unwrap();
    let id = pair.b.engine().create_relationship(&caller(), replica, back).unwrap().id;
    assert_eq!(pair.a.engine().relationship(&id).unwrap().local_volume, volume);
    // What they have in common can go here before the first session.
    pair.b.engine().delete_snapshot(&caller(), first.remote_snapshot.unwrap()).unwrap();
    pair.b.sync(&id);
    assert_eq!(pair.a.read(volume).as_deref(), Some(&b"written after the failover"[..]));
    let row = pair.a.engine().snapshots(&Selection::default()).unwrap().0;
    assert_eq!(row.iter().filter(|snapshot| snapshot.volume == volume).count(), 2, "no full copy");
    assert_eq!(row[0].id, first.local_snapshot.unwrap());
    assert_ne!(row[1].id, SnapshotId(0));
}

#[test]
fn volumes_and_pools_with_relationships_go_by_force_and_the_other_side_keeps_its_data() {
    let (pair, volume, relationship) = Pair::with_relationship();
    pair.a.sync(&relationship);
    let replica = pair.replica(&relationship);
    let engine = pair.a.engine();
    assert!(matches!(engine.delete_volume(&caller(), volume, false), Err(Error::Busy(_))));
    assert!(matches!(engine.delete_pool(&caller(), pair.pool_a, false), Err(Error::Busy(_))));
    engine.delete_volume(&caller(), volume, true).unwrap();
    assert_eq!(pair.b.engine().relationships(&Selection::default()).unwrap().1, 0);
    assert_eq!(pair.b.read(replica).as_deref(), Some(&b"one"[..]));
    let volume = pair.a.make_filesystem("again", pair.pool_a);
    pair.a.replicate(volume, &pair.b);
    engine.delete_pool(&caller(), pair.pool_a, true).unwrap();
    assert_eq!(pair.a.stored("SELECT count(*) FROM relationship"), 0);
    assert_eq!(pair.b.stored("SELECT count(*) FROM relationship"), 0);
}

#[test]
fn a_rollback_keeps_sessions_from_what_goes_and_clones_with_relationships_stay() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let engine = pair.a.engine();
    let first = pair.a.sync(&relationship).local_snapshot.unwrap();
    let retention = Retention { expires: None, locked: false };
    let request = SnapshotRequest { volumes: vec![volume], name: None, retention };
    let newer = engine.create_snapshots(&caller(), request).unwrap()[0].id;
    let source = VolumeSource::Clone { snapshot: newer };
    let clone = engine.create_volume(&caller(), VolumeRequest { name: Name::new("look").unwrap(), source }).unwrap().id;
    let of_clone = pair.a.replicate(clone, &pair.b);
    let rollback = |clones: &[VolumeId]| VolumeAction::Rollback {
        snapshot: first,
        discard_snapshots: vec![newer],
        discard_clones: clones.to_vec(),
        discard_shares: Vec::new(),
        discard_hosts: Vec::new(),
    };
    let error = engine.act_on_volume(&caller(), volume, rollback(&[clone])).unwrap_err();
    assert!(matches!(&error, Error::Busy(message) if message.contains(of_clone.as_str())), "{error:?}");
    engine.delete_volume(&caller(), clone, true).unwrap();
    // A rollback that nobody knows the end of.
    pair.a.os.refuse("rollback", Kind::Unclear);
    engine.act_on_volume(&caller(), volume, rollback(&[])).unwrap_err();
    let session = SessionRequest { snapshot: Some(newer), remote_name: None };
    let error = engine.create_session(&caller(), &relationship, session).unwrap_err();
    assert!(matches!(&error, Error::State(message) if message.contains("being deleted")), "{error:?}");
    pair.a.os.allow_all();
    engine.upkeep().unwrap();
    assert!(matches!(engine.snapshot(newer), Err(Error::NotFound { .. })));
    pair.a.sync(&relationship);
}

#[test]
fn a_deletion_that_is_refused_ends_no_relationship() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let session = pair.a.sync(&relationship);
    let (engine, replica) = (pair.a.engine(), pair.replica(&relationship));
    let expires = Some(Epoch(i64::MAX));
    let locked = SnapshotRequest { volumes: vec![volume], name: None, retention: Retention { expires, locked: true } };
    engine.create_snapshots(&caller(), locked).unwrap();
    let error = engine.delete_pool(&caller(), pair.pool_a, true).unwrap_err();
    assert!(matches!(&error, Error::State(message) if message.contains("locked")), "{error:?}");
    // The partner can be reached and refuses: force is not for that.
    let source = VolumeSource::Clone { snapshot: session.remote_snapshot.unwrap() };
    let request = VolumeRequest { name: Name::new("look").unwrap(), source };
    let clone = pair.b.engine().create_volume(&caller(), request).unwrap();
    let error = engine.delete_relationship(&caller(), &relationship, false, true).unwrap_err();
    assert!(matches!(&error, Error::Busy(message) if message.contains("clones")), "{error:?}");
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.stored("SELECT count(*) FROM relationship WHERE state = 'ready'"), 1);
    }
    pair.a.sync(&relationship);
    pair.b.engine().delete_volume(&caller(), clone.id, false).unwrap();
    engine.delete_relationship(&caller(), &relationship, false, true).unwrap();
    assert!(matches!(pair.b.engine().volume(replica), Err(Error::NotFound { .. })));
}

#[test]
fn what_was_sent_cannot_be_rolled_back_under_its_replica() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let first = pair.a.sync(&relationship).local_snapshot.unwrap();
    pair.a.write(volume, b"two");
    let second = pair.a.sync(&relationship).local_snapshot.unwrap();
    let rollback = |snapshot, discard: &[SnapshotId]| VolumeAction::Rollback {
        snapshot,
        discard_snapshots: discard.to_vec(),
        discard_clones: Vec::new(),
        discard_shares: Vec::new(),
        discard_hosts: Vec::new(),
    };
    let error = pair.a.engine().act_on_volume(&caller(), volume, rollback(first, &[second])).unwrap_err();
    assert!(error.to_string().contains(relationship.as_str()), "{error}");
    pair.a.write(volume, b"three");
    pair.a.engine().act_on_volume(&caller(), volume, rollback(second, &[])).unwrap();
    pair.a.sync(&relationship);
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"two"[..]));
}
