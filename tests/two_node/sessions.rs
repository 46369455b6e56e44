use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use vsnap::{
    error::Error,
    os::Kind,
    types::{
        Name, RelationshipId, SnapshotId,
        network::Services,
        partner::{PartnerUpdate, PreferencesUpdate},
        selection::{Selection, SessionField, Value},
        session::{Session, SessionRequest, SessionStatus},
        snapshot::{Retention, SnapshotRequest},
        volume::VolumeAction,
    },
};

use crate::node::{Node, Pair, caller, connect, partner_request};

#[test]
fn data_arrives_under_the_same_guid_and_then_only_what_changed() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let first = pair.a.sync(&relationship);
    let replica = pair.replica(&relationship);
    assert_eq!(pair.b.read(replica).as_deref(), Some(&b"one"[..]));
    let (here, there) = (first.local_snapshot.unwrap(), first.remote_snapshot.unwrap());
    let guid = |node: &crate::node::Node, id| node.engine().snapshot(id).unwrap().guid;
    assert_eq!(guid(&pair.a, here), guid(&pair.b, there));
    assert_eq!(first.address.unwrap(), pair.b.address);
    assert!(first.sent.unwrap() >= 300_000 && first.started >= Some(first.queued) && first.ended >= first.started);
    assert_eq!(first.remote_name, first.local_name);

    pair.a.write(volume, b"two");
    let named = SessionRequest { snapshot: None, remote_name: Some(Name::new("evening").unwrap()) };
    let second = pair.a.engine().create_session(&caller(), &relationship, named).unwrap();
    let second = pair.a.wait(second.id);
    assert_eq!(second.status, SessionStatus::Completed, "{second:?}");
    assert_eq!(second.remote_name.unwrap().as_str(), "evening");
    assert_eq!(pair.b.read(replica).as_deref(), Some(&b"two"[..]));
    let there = pair.b.engine().snapshot(second.remote_snapshot.unwrap()).unwrap();
    assert_eq!((there.name.as_str(), there.volume), ("evening", replica));
    let row = pair.a.engine().relationship(&relationship).unwrap();
    assert_eq!(row.last_status, Some(SessionStatus::Completed));
    assert_eq!((row.last_success, row.last_attempt), (second.local_snapshot, second.local_snapshot));
    let row = pair.b.engine().relationship(&relationship).unwrap();
    assert_eq!((row.last_status, row.last_success), (None, None), "a replica has no sessions");
    // One bookmark is left, of what the next one builds on.
    let dataset = pair.a.dataset(volume);
    assert_eq!(pair.a.os.world().dataset(&dataset).unwrap().bookmarks.len(), 1);
}

#[test]
fn the_same_snapshot_twice_is_sent_once() {
    let (pair, _, relationship) = Pair::with_relationship();
    let first = pair.a.sync(&relationship);
    let request = SessionRequest { snapshot: first.local_snapshot, remote_name: None };
    let again = pair.a.engine().create_session(&caller(), &relationship, request).unwrap();
    let again = pair.a.wait(again.id);
    assert_eq!((again.status, again.sent), (SessionStatus::Completed, Some(0)));
    assert_eq!(again.remote_snapshot, first.remote_snapshot);
}

#[test]
fn an_older_snapshot_again_leaves_what_the_next_session_builds_on() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let first = pair.a.sync(&relationship);
    pair.a.write(volume, b"two");
    let second = pair.a.sync(&relationship);
    let request = SessionRequest { snapshot: first.local_snapshot, remote_name: None };
    let again = pair.a.engine().create_session(&caller(), &relationship, request).unwrap();
    let again = pair.a.wait(again.id);
    assert_eq!((again.status, again.remote_snapshot), (SessionStatus::Completed, first.remote_snapshot), "{again:?}");
    // The replica's newest one is still known, and what it has can't be rolled back under it.
    let rollback = VolumeAction::Rollback {
        snapshot: first.local_snapshot.unwrap(),
        discard_snapshots: vec![second.local_snapshot.unwrap()],
        discard_clones: Vec::new(),
        discard_shares: Vec::new(),
        discard_hosts: Vec::new(),
    };
    let error = pair.a.engine().act_on_volume(&caller(), volume, rollback).unwrap_err();
    assert!(matches!(&error, Error::Busy(message) if message.contains("could not follow")), "{error:?}");
    pair.a.engine().delete_snapshot(&caller(), second.local_snapshot.unwrap()).unwrap();
    pair.a.write(volume, b"three");
    pair.a.sync(&relationship);
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"three"[..]));
}

#[test]
fn data_comes_in_over_interfaces_with_that_service_alone() {
    let (pair, _, relationship) = Pair::with_relationship();
    let id = pair.b.os.world().interfaces[0].id.clone();
    let serve =
        |words: &[&str]| pair.b.engine().update_network(&caller(), &id, Services::read(words).unwrap()).unwrap();
    serve(&["mgmt", "nfs"]);
    let message = pair.a.fail(&relationship);
    assert!(message.contains("does not have service repl"), "{message}");
    assert_eq!(pair.b.engine().snapshots(&Selection::default()).unwrap().1, 0);
    serve(&["mgmt", "repl"]);
    pair.a.sync(&relationship);
}

#[test]
fn a_link_stays_open_for_the_next_session() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let changed_and_sent = |text: &str| {
        let before = pair.weather.opened.load(Ordering::Relaxed);
        pair.a.write(volume, text.as_bytes());
        pair.a.sync(&relationship);
        assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(text.as_bytes()));
        pair.weather.opened.load(Ordering::Relaxed) - before
    };
    assert_eq!(changed_and_sent("one"), 1);
    assert_eq!(changed_and_sent("two"), 0, "it is still open");
    // It ends with the daemon of the partner, and when nobody answers any longer.
    pair.b.stop();
    pair.b.start();
    assert_eq!(changed_and_sent("three"), 1);
    *pair.weather.stuck_after.lock().unwrap() = Some(0);
    assert_eq!(changed_and_sent("four"), 1);
    assert_eq!(*pair.weather.stuck_after.lock().unwrap(), None, "it was stuck");
    // Nor does anything go on by what was agreed on before.
    pair.a.engine().create_partner(&caller(), partner_request(&pair.b.address)).unwrap();
    assert_eq!(changed_and_sent("five"), 1);
    assert_eq!(changed_and_sent("six"), 0);
    // Upkeep closes it when nobody needs it for long.
    pair.a.link_seconds.store(1, Ordering::Relaxed);
    pair.a.stop();
    pair.a.start();
    assert_eq!(changed_and_sent("seven"), 1);
    std::thread::sleep(Duration::from_secs(1));
    pair.a.engine().upkeep().unwrap();
    assert_eq!(changed_and_sent("eight"), 1);
}

#[test]
fn a_bookmark_is_enough_to_go_on() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let first = pair.a.sync(&relationship);
    pair.a.engine().delete_snapshot(&caller(), first.local_snapshot.unwrap()).unwrap();
    pair.a.write(volume, b"two");
    pair.a.sync(&relationship);
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"two"[..]));
}

#[test]
fn a_link_that_breaks_is_taken_up_where_it_was() {
    let (pair, _, relationship) = Pair::with_relationship();
    *pair.weather.cut_after.lock().unwrap() = Some(200_000);
    let session = pair.a.sync(&relationship);
    let sent = session.sent.unwrap();
    // What was in pipes when the link broke is sent again, and no more.
    assert!((300_000..600_000).contains(&sent), "{sent}");
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"one"[..]));
    assert_eq!(pair.b.stored("SELECT count(*) FROM delivery"), 0);
}

#[test]
fn a_link_that_takes_no_more_is_given_up_for_another_one() {
    let (pair, _, relationship) = Pair::with_relationship();
    *pair.weather.stuck_after.lock().unwrap() = Some(200_000);
    pair.a.sync(&relationship);
    assert_eq!(*pair.weather.stuck_after.lock().unwrap(), None, "it was stuck");
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"one"[..]));
    assert_eq!(pair.b.stored("SELECT count(*) FROM delivery"), 0);
}

#[test]
fn an_interrupted_stream_is_finished_before_the_next_snapshot() {
    let (pair, volume, relationship) = Pair::with_relationship();
    // Gives up with something received.
    *pair.weather.cut_after.lock().unwrap() = Some(200_000);
    let first = pair.a.start_session(&relationship);
    let deadline = Instant::now() + Duration::from_secs(10);
    while pair.weather.cut_after.lock().unwrap().is_some() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    let canceled = pair.a.engine().cancel_session(&caller(), first, false).unwrap();
    assert_eq!((canceled.status, canceled.message.as_deref()), (SessionStatus::Failed, Some("Canceled")));
    let replica = pair.b.dataset(pair.replica(&relationship));
    assert!(pair.b.os.world().dataset(&replica).unwrap().partial.is_some(), "it is kept");
    pair.a.write(volume, b"two");
    pair.a.sync(&relationship);
    assert_eq!(pair.b.engine().snapshots(&Selection::default()).unwrap().1, 2, "both arrived");
    assert!(matches!(pair.a.engine().cancel_session(&caller(), first, false), Err(Error::State(_))), "it is over");
}

#[test]
fn what_the_first_of_two_streams_brought_is_known_when_the_second_fails() {
    let (pair, volume, relationship) = Pair::with_relationship();
    *pair.weather.cut_after.lock().unwrap() = Some(200_000);
    let first = pair.a.start_session(&relationship);
    while pair.weather.cut_after.lock().unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let first = pair.a.engine().cancel_session(&caller(), first, false).unwrap();
    pair.a.write(volume, b"two");
    // A stream is asked for and received: the second one is not.
    pair.b.os.refuse_later("receive", 1, Kind::Other);
    pair.a.fail(&relationship);
    assert_eq!(pair.b.engine().snapshots(&Selection::default()).unwrap().1, 1, "the first one arrived");
    assert_eq!(pair.a.stored("SELECT base FROM relationship"), first.local_snapshot.unwrap().0);
}

#[test]
fn what_was_received_is_discarded_on_request() {
    let (pair, _, relationship) = Pair::with_relationship();
    *pair.weather.cut_after.lock().unwrap() = Some(200_000);
    let session = pair.a.start_session(&relationship);
    while pair.weather.cut_after.lock().unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(5));
    }
    pair.a.engine().cancel_session(&caller(), session, true).unwrap();
    let replica = pair.b.dataset(pair.replica(&relationship));
    assert!(pair.b.os.world().dataset(&replica).unwrap().partial.is_none());
    assert_eq!(pair.b.stored("SELECT count(*) FROM snapshot"), 0);
    pair.a.sync(&relationship);
}

#[test]
fn many_relationships_share_the_workers_and_none_is_forgotten() {
    let pair = Pair::new();
    let update = PreferencesUpdate { parallel_sessions: Some(3), ..PreferencesUpdate::default() };
    pair.a.engine().set_replication_preferences(&caller(), &update).unwrap();
    let mut started = Vec::new();
    let mut relationships = Vec::new();
    for number in 0..20 {
        let volume = pair.a.make_filesystem(&format!("volume{number}"), pair.pool_a);
        pair.a.write(volume, format!("data {number}").as_bytes());
        let relationship = pair.a.replicate(volume, &pair.b);
        started.push(pair.a.start_session(&relationship));
        // A second one of the same waits for the first.
        started.push(pair.a.start_session(&relationship));
        relationships.push((volume, relationship));
    }
    for session in &started {
        let session = pair.a.wait(*session);
        assert_eq!(session.status, SessionStatus::Completed, "{session:?}");
    }
    for (volume, relationship) in &relationships {
        assert_eq!(pair.a.read(*volume), pair.b.read(pair.replica(relationship)));
        let filter = (SessionField::RelId, Value::Text(relationship.as_str().to_owned()));
        let selection = Selection { filters: vec![filter], ..Selection::default() };
        assert_eq!(pair.a.engine().sessions(&selection).unwrap().1, 2);
    }
    let update = PreferencesUpdate { session_history: Some(25), ..PreferencesUpdate::default() };
    pair.a.engine().set_replication_preferences(&caller(), &update).unwrap();
    pair.a.sync(&relationships[0].1);
    let all = pair.a.engine().sessions(&Selection::default()).unwrap().1;
    assert_eq!(all, 26, "25 that were over, and the one since");
}

#[test]
fn a_partner_that_is_away_keeps_no_others_waiting() {
    let (pair, _, relationship) = Pair::with_relationship();
    let third = Node::new(3);
    connect(&[&pair.a, &pair.b, &third]);
    third.make_pool("pool", 1..=2);
    pair.a.engine().create_partner(&caller(), partner_request(&third.address)).unwrap();
    let other = pair.a.make_filesystem("other", pair.pool_a);
    let to_third = pair.a.replicate(other, &third);
    let update = PreferencesUpdate { parallel_sessions: Some(1), ..PreferencesUpdate::default() };
    pair.a.engine().set_replication_preferences(&caller(), &update).unwrap();
    pair.b.stop();
    let away = pair.a.start_session(&relationship);
    pair.a.sync(&to_third);
    assert!(!pair.a.engine().session(away).unwrap().status.is_over());
    pair.b.start();
    let away = pair.a.wait(away);
    assert_eq!(away.status, SessionStatus::Completed, "{away:?}");
}

/// A session for a snapshot that shall be called so on the replica.
fn named(pair: &Pair, relationship: &RelationshipId, snapshot: Option<SnapshotId>, name: &str) -> Session {
    let request = SessionRequest { snapshot, remote_name: Some(Name::new(name).unwrap()) };
    let session = pair.a.engine().create_session(&caller(), relationship, request).unwrap();
    pair.a.wait(session.id)
}

#[test]
fn a_name_that_was_asked_for_is_used_or_refused() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let first = named(&pair, &relationship, None, "evening");
    assert_eq!(first.remote_name.unwrap().as_str(), "evening");
    pair.a.write(volume, b"two");
    let second = named(&pair, &relationship, None, "evening");
    let message = second.message.unwrap();
    assert_eq!(second.status, SessionStatus::Failed, "{message}");
    assert!(message.contains("\"evening\"") && message.contains("remote_snap_name"), "{message}");
    assert!(second.ended.unwrap().0 - second.started.unwrap().0 < 2, "it is not tried again");
    assert_eq!(pair.b.stored("SELECT count(*) FROM snapshot"), 1);
    assert_eq!(pair.b.stored("SELECT count(*) FROM delivery"), 0);
    let third = named(&pair, &relationship, second.local_snapshot, "late evening");
    assert_eq!((third.status, third.remote_name.unwrap().as_str()), (SessionStatus::Completed, "late evening"));
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"two"[..]));
    // A name that nobody asked for gives way.
    let retention = Retention { expires: None, locked: false };
    let name = Some(Name::new("evening").unwrap());
    let request = SnapshotRequest { volumes: vec![volume], name, retention };
    let local = pair.a.engine().create_snapshots(&caller(), request).unwrap()[0].id;
    let request = SessionRequest { snapshot: Some(local), remote_name: None };
    let session = pair.a.engine().create_session(&caller(), &relationship, request).unwrap();
    assert_eq!(pair.a.wait(session.id).remote_name.unwrap().as_str(), "evening_2");
}

#[test]
fn an_interrupted_stream_goes_on_under_the_name_that_is_asked_for() {
    let (pair, volume, relationship) = Pair::with_relationship();
    named(&pair, &relationship, None, "evening");
    pair.a.write(volume, b"two");
    // The link has carried the first stream already.
    *pair.weather.cut_after.lock().unwrap() = Some(500_000);
    let session = pair.a.start_session(&relationship);
    while pair.weather.cut_after.lock().unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let canceled = pair.a.engine().cancel_session(&caller(), session, false).unwrap();
    let replica = pair.b.dataset(pair.replica(&relationship));
    let partial = || pair.b.os.world().dataset(&replica).unwrap().partial.clone();
    assert!(partial().is_some(), "it is kept");
    let taken = named(&pair, &relationship, canceled.local_snapshot, "evening");
    assert_eq!(taken.status, SessionStatus::Failed, "{taken:?}");
    assert!(partial().is_some(), "a name that is taken is no reason to discard it");
    let other = named(&pair, &relationship, canceled.local_snapshot, "late evening");
    assert_eq!((other.status, other.remote_name.unwrap().as_str()), (SessionStatus::Completed, "late evening"));
    let there = pair.b.engine().snapshot(other.remote_snapshot.unwrap()).unwrap();
    assert_eq!(there.name.as_str(), "late evening");
}

#[test]
fn a_limit_holds_also_for_a_session_that_is_at_work() {
    let (pair, _, relationship) = Pair::with_relationship();
    let limit = |bytes| {
        let update = PartnerUpdate { rate_limit: Some(bytes), ..PartnerUpdate::default() };
        pair.a.engine().update_partner(&caller(), &pair.b.id(), &update).unwrap();
    };
    limit(Some(64 << 10));
    let session = pair.a.start_session(&relationship);
    std::thread::sleep(Duration::from_millis(1500));
    let now = pair.a.engine().session(session).unwrap();
    assert_eq!(now.status, SessionStatus::Active, "300,000 bytes take five seconds");
    assert!((10_000..250_000).contains(&now.sent.unwrap()), "{now:?}");
    assert!(now.message.as_ref().unwrap().contains("%"), "{now:?}");
    let began = Instant::now();
    limit(None);
    assert_eq!(pair.a.wait(session).status, SessionStatus::Completed);
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn bad_requests_change_nothing() {
    let (pair, _, relationship) = Pair::with_relationship();
    let other = pair.a.make_filesystem("other", pair.pool_a);
    let other = pair.a.replicate(other, &pair.b);
    let foreign = pair.a.sync(&other).local_snapshot;
    let before = pair.a.engine().sessions(&Selection::default()).unwrap().1;
    let request = SessionRequest { snapshot: foreign, remote_name: None };
    let error = pair.a.engine().create_session(&caller(), &relationship, request).unwrap_err();
    assert!(matches!(&error, Error::Invalid(invalid) if invalid.field == "snap_id"), "{error:?}");
    let error = pair.b.engine().create_session(&caller(), &relationship, SessionRequest::default()).unwrap_err();
    assert!(error.to_string().contains("has the replica"), "{error}");
    assert_eq!(pair.a.engine().sessions(&Selection::default()).unwrap().1, before);
}
