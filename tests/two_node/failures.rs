use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use vsnap::{
    error::Error,
    os::{
        Kind,
        fake::{Partial, Stopped},
    },
    types::{
        relationship::RelationshipRequest,
        selection::Selection,
        session::{SessionRequest, SessionStatus},
    },
};

use crate::node::{Pair, caller, partner_request};

#[test]
fn a_partner_that_stays_away_fails_the_session_and_the_next_one_goes_on() {
    let (pair, volume, relationship) = Pair::with_relationship();
    pair.a.sync(&relationship);
    pair.a.write(volume, b"two");
    *pair.weather.down.lock().unwrap() = true;
    let message = pair.a.fail(&relationship);
    assert!(message.contains("given up after 3 s") && message.contains("timed out"), "{message}");
    *pair.weather.down.lock().unwrap() = false;
    pair.a.sync(&relationship);
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"two"[..]));
    let error = {
        *pair.weather.down.lock().unwrap() = true;
        pair.a.engine().delete_relationship(&caller(), &relationship, false, false).unwrap_err()
    };
    assert!(matches!(error, Error::Partner(_)), "{error:?}");
    assert_eq!(pair.a.engine().relationships(&Selection::default()).unwrap().1, 1);
    pair.a.engine().delete_relationship(&caller(), &relationship, false, true).unwrap();
    assert_eq!(pair.b.stored("SELECT count(*) FROM relationship"), 1, "its side stays as it is");
}

#[test]
fn a_partner_that_keeps_nothing_of_what_it_takes_fails_the_session() {
    let (pair, volume, relationship) = Pair::with_relationship();
    pair.a.sync(&relationship);
    // More than counts as progress.
    pair.a.write(volume, &[7; 3 << 20]);
    pair.b.os.refuse("take_in", Kind::TimedOut);
    let message = pair.a.fail(&relationship);
    assert!(message.contains("given up after 3 s"), "{message}");
    pair.b.os.allow_all();
    pair.a.sync(&relationship);
    assert_eq!(pair.b.read(pair.replica(&relationship)).unwrap().len(), 3 << 20);
}

#[test]
fn strangers_on_the_replica_are_left_alone_and_told() {
    let (pair, volume, relationship) = Pair::with_relationship();
    pair.a.sync(&relationship);
    let replica = pair.b.dataset(pair.replica(&relationship));
    pair.b.os.world().add_strange_snapshot(&format!("{replica}@byhand")).unwrap();
    pair.a.write(volume, b"two");
    let message = pair.a.fail(&relationship);
    assert!(message.contains("byhand") && message.contains("destroy them"), "{message}");
    assert!(pair.b.os.world().snapshot(&format!("{replica}@byhand")).is_ok());
    pair.b.os.world().dataset_mut(&replica).unwrap().snapshots.pop();
    pair.a.sync(&relationship);
    // Written by hand, past the read-only property.
    pair.b.os.world().dataset_mut(&replica).unwrap().replica = false;
    pair.b.os.world().write(&replica, b"by hand").unwrap();
    pair.a.write(volume, b"three");
    let message = pair.a.fail(&relationship);
    assert!(message.contains("modified"), "{message}");
    assert_eq!(pair.b.os.world().read(&replica).as_deref(), Some(&b"by hand"[..]), "nothing was rolled back");
}

#[test]
fn foreign_snapshots_and_bookmarks_of_the_volume_confuse_nobody() {
    let (pair, volume, relationship) = Pair::with_relationship();
    let dataset = pair.a.dataset(volume);
    pair.a.os.world().add_strange_snapshot(&format!("{dataset}@syncoid_1")).unwrap();
    pair.a.sync(&relationship);
    pair.a.os.world().add_strange_snapshot(&format!("{dataset}@syncoid_2")).unwrap();
    {
        // A bookmark and a hold of somebody else's.
        let mut world = pair.a.os.world();
        let dataset = world.dataset_mut(&dataset).unwrap();
        let mut bookmark = dataset.bookmarks[0].clone();
        bookmark.name = "zrepl_cursor".to_owned();
        dataset.bookmarks.push(bookmark);
        dataset.snapshots[0].holds.insert("zrepl_step".to_owned());
    }
    pair.a.write(volume, b"two");
    pair.a.sync(&relationship);
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"two"[..]));
    let world = pair.a.os.world();
    assert!(world.snapshot(&format!("{dataset}@syncoid_1")).unwrap().holds.contains("zrepl_step"));
    assert!(world.dataset(&dataset).unwrap().bookmarks.iter().any(|bookmark| bookmark.name == "zrepl_cursor"));
}

#[test]
fn a_snapshot_that_is_deleted_in_the_queue_fails_its_session_alone() {
    let (pair, volume, relationship) = Pair::with_relationship();
    pair.a.sync(&relationship);
    pair.a.write(volume, b"two");
    *pair.weather.down.lock().unwrap() = true;
    let session = pair.a.start_session(&relationship);
    let snapshot = pair.a.engine().session(session).unwrap().local_snapshot.unwrap();
    pair.a.engine().delete_snapshot(&caller(), snapshot).unwrap();
    *pair.weather.down.lock().unwrap() = false;
    let session = pair.a.wait(session);
    assert_eq!(session.status, SessionStatus::Failed);
    assert!(session.message.as_ref().unwrap().contains("was deleted before it was sent"), "{session:?}");
    pair.a.sync(&relationship);
}

#[test]
fn a_full_pool_there_is_told_and_room_mends_it() {
    let (pair, _, relationship) = Pair::with_relationship();
    let pool = format!("vpool{}", pair.pool_b);
    pair.b.os.world().full(&pool, true).unwrap();
    let message = pair.a.fail(&relationship);
    assert!(message.contains("pool is full"), "{message}");
    pair.b.os.world().full(&pool, false).unwrap();
    pair.a.sync(&relationship);
}

#[test]
fn a_stop_of_either_side_in_the_middle_is_no_end() {
    let (pair, _, relationship) = Pair::with_relationship();
    let slow = vsnap::types::partner::PartnerUpdate { rate_limit: Some(Some(100_000)), ..Default::default() };
    pair.a.engine().update_partner(&caller(), &pair.b.id(), &slow).unwrap();
    let session = pair.a.start_session(&relationship);
    std::thread::sleep(Duration::from_millis(800));
    pair.a.stop();
    pair.a.start();
    assert!(!pair.a.engine().session(session).unwrap().status.is_over());
    std::thread::sleep(Duration::from_millis(800));
    pair.b.stop();
    pair.b.start();
    let session = pair.a.wait(session);
    assert_eq!(session.status, SessionStatus::Completed, "{session:?}");
    assert!(session.sent.unwrap() < 700_000, "{session:?}");
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"one"[..]));
}

/// Kills the daemon of one side at each step of a replication, and sees that afterwards nothing is half, and the next
/// session works.
fn sweep(kill_primary: bool) {
    let mut step = 0;
    loop {
        let pair = Pair::new();
        let volume = pair.a.make_filesystem("data", pair.pool_a);
        pair.a.write(volume, b"one");
        let victim = if kill_primary { &pair.a } else { &pair.b };
        victim.os.stop_from(step);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let id = pair.a.engine().create_relationship(&caller(), volume, pair.a.request(&pair.b))?.id;
            let session = pair.a.engine().create_session(&caller(), &id, SessionRequest::default())?.id;
            while victim.os.steps() <= step && !pair.a.engine().session(session)?.status.is_over() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok::<_, Error>(())
        }));
        if let Err(panic) = &outcome {
            let expected = panic.is::<Stopped>() || panic.downcast_ref::<String>().is_some();
            assert!(expected, "step {step}: another panic");
        }
        let ended = victim.os.steps() <= step;
        victim.forget();
        victim.os.stop_at(None);
        victim.start();
        let open = "SELECT count(*) FROM session WHERE status IN ('PENDING', 'ACTIVE')";
        let deadline = Instant::now() + Duration::from_secs(20);
        while pair.a.stored(open) > 0 {
            assert!(Instant::now() < deadline, "step {step}: a session has no end");
            std::thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..2 {
            pair.a.engine().upkeep().unwrap();
            pair.b.engine().upkeep().unwrap();
        }
        let when = format!("step {step}, primary {kill_primary}");
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 0, "{when}");
            assert_eq!(node.stored("SELECT count(*) FROM relationship WHERE state <> 'ready'"), 0, "{when}");
        }
        let ids: Vec<_> =
            pair.a.engine().relationships(&Selection::default()).unwrap().0.into_iter().map(|row| row.id).collect();
        let theirs: Vec<_> =
            pair.b.engine().relationships(&Selection::default()).unwrap().0.into_iter().map(|row| row.id).collect();
        let journal: Vec<_> = pair.a.journal();
        assert_eq!(ids, theirs, "{when}: whole or not at all, on both: {journal:?}");
        let id = ids.first().cloned().unwrap_or_else(|| pair.a.replicate(volume, &pair.b));
        pair.a.write(volume, b"two");
        pair.a.sync(&id);
        assert_eq!(pair.b.read(pair.replica(&id)).as_deref(), Some(&b"two"[..]), "{when}");
        let open = pair.a.stored("SELECT count(*) FROM session WHERE status IN ('PENDING', 'ACTIVE')");
        assert_eq!((open, pair.b.stored("SELECT count(*) FROM delivery")), (0, 0), "{when}");
        assert!(pair.b.engine().report().unwrap().findings.is_empty(), "{when}");
        if ended {
            return;
        }
        step += 1;
    }
}

#[test]
fn the_primary_may_be_killed_at_each_step() {
    sweep(true);
}

#[test]
fn the_replica_may_be_killed_at_each_step() {
    sweep(false);
}

#[test]
fn a_relationship_that_was_being_made_with_a_partner_that_went_for_good_can_be_given_up() {
    for of_volume in [false, true] {
        let pair = Pair::new();
        let volume = pair.a.make_filesystem("data", pair.pool_a);
        let is_begun = || pair.a.stored("SELECT count(*) FROM operation WHERE state = 'running'") == 1;
        let step = (0..50).find(|step| {
            pair.a.os.stop_from(*step);
            let create = || pair.a.engine().create_relationship(&caller(), volume, pair.a.request(&pair.b));
            let stopped = catch_unwind(AssertUnwindSafe(create)).is_err();
            pair.a.os.stop_at(None);
            stopped && is_begun()
        });
        assert!(step.is_some());
        *pair.weather.down.lock().unwrap() = true;
        pair.a.forget();
        pair.a.start();
        let engine = pair.a.engine();
        engine.upkeep().unwrap();
        assert!(is_begun(), "the partner may come back");
        let id = pair.a.stored_text("SELECT id FROM relationship").parse().unwrap();
        assert!(matches!(engine.delete_volume(&caller(), volume, false), Err(Error::Busy(_))));
        assert!(matches!(engine.delete_relationship(&caller(), &id, false, false), Err(Error::NotFound { .. })));
        if of_volume {
            engine.delete_volume(&caller(), volume, true).unwrap();
        } else {
            engine.delete_relationship(&caller(), &id, false, true).unwrap();
        }
        assert!(!is_begun());
        assert_eq!(pair.a.stored("SELECT count(*) FROM relationship"), 0);
        engine.delete_partner(&caller(), &pair.b.id(), true).unwrap();
    }
}

#[test]
fn a_replica_outlives_the_catalog_of_its_appliance() {
    let (pair, volume, relationship) = Pair::with_relationship();
    pair.a.sync(&relationship);
    let replica = pair.replica(&relationship);
    pair.b.lose_catalog();
    pair.b.engine().rebuild_catalog(&caller(), None).unwrap();
    // Partners and relationships are not on disk: it is a volume like others now.
    assert_eq!(pair.b.read(replica).as_deref(), Some(&b"one"[..]));
    let dataset = pair.b.dataset(replica);
    assert!(pair.b.os.world().dataset(&dataset).unwrap().mounted);
    let message = pair.a.fail(&relationship);
    assert!(message.contains("add the partner once more"), "{message}");
    pair.a.engine().delete_relationship(&caller(), &relationship, true, true).unwrap();
    pair.a.engine().create_partner(&caller(), partner_request(&pair.b.address)).unwrap();
    pair.a.write(volume, b"two");
    let reuse = RelationshipRequest { reuse: true, ..pair.a.request(&pair.b) };
    let id = pair.a.engine().create_relationship(&caller(), volume, reuse).unwrap().id;
    pair.a.sync(&id);
    assert_eq!(pair.replica(&id), replica);
    assert_eq!(pair.b.read(replica).as_deref(), Some(&b"two"[..]));
    assert_eq!(pair.b.engine().snapshots(&Selection::default()).unwrap().1, 2, "no full copy");
}

#[test]
fn a_replica_gets_on_with_a_catalog_that_is_older_than_it() {
    let (pair, volume, relationship) = Pair::with_relationship();
    pair.a.sync(&relationship);
    pair.b.forget();
    let copy = pair.b.copy_catalog();
    pair.b.start();
    pair.a.write(volume, b"two");
    pair.a.sync(&relationship);
    pair.b.restore_catalog(&copy);
    pair.a.write(volume, b"three");
    pair.a.sync(&relationship);
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"three"[..]));
    let (snapshots, _) = pair.b.engine().snapshots(&Selection::default()).unwrap();
    assert!(snapshots.iter().all(|snapshot| snapshot.id.0 == 1 || snapshot.id.0 > 1000), "{snapshots:?}");
}

#[test]
fn what_arrived_without_its_mark_gets_it_at_the_next_start() {
    let (pair, _, relationship) = Pair::with_relationship();
    pair.b.os.refuse("note_snapshot", Kind::Other);
    pair.a.fail(&relationship);
    assert_eq!(pair.b.stored("SELECT count(*) FROM delivery"), 1);
    pair.b.forget();
    pair.b.os.allow_all();
    pair.b.start();
    assert_eq!(pair.b.stored("SELECT count(*) FROM delivery"), 0);
    assert!(pair.b.engine().report().unwrap().findings.is_empty());
    // It is no snapshot of somebody else, which would keep the replica.
    pair.a.engine().delete_relationship(&caller(), &relationship, false, false).unwrap();
    assert_eq!(pair.b.stored("SELECT count(*) FROM volume"), 0);
}

/// A session that is cut in the middle and canceled, so that what arrived is kept.
fn interrupt(pair: &Pair, relationship: &vsnap::types::RelationshipId) {
    *pair.weather.cut_after.lock().unwrap() = Some(200_000);
    let session = pair.a.start_session(relationship);
    while pair.weather.cut_after.lock().unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(5));
    }
    pair.a.engine().cancel_session(&caller(), session, false).unwrap();
    let replica = pair.b.dataset(pair.replica(relationship));
    assert!(pair.b.os.world().dataset(&replica).unwrap().partial.is_some());
}

#[test]
fn a_token_that_nobody_understands_is_dropped_once() {
    let (pair, _, relationship) = Pair::with_relationship();
    interrupt(&pair, &relationship);
    let replica = pair.b.dataset(pair.replica(&relationship));
    pair.b.os.world().dataset_mut(&replica).unwrap().partial = Some(Partial::unknown());
    pair.a.sync(&relationship);
    assert_eq!(pair.b.read(pair.replica(&relationship)).as_deref(), Some(&b"one"[..]));
}

#[test]
fn a_token_that_can_not_be_looked_at_is_kept() {
    let (pair, _, relationship) = Pair::with_relationship();
    interrupt(&pair, &relationship);
    let replica = pair.b.dataset(pair.replica(&relationship));
    let before = pair.b.os.world().dataset(&replica).unwrap().partial.clone();
    pair.a.os.refuse("read_token", Kind::TimedOut);
    pair.a.fail(&relationship);
    assert_eq!(pair.b.os.world().dataset(&replica).unwrap().partial, before, "a failure is no reason to discard it");
    pair.a.os.allow_all();
    pair.a.sync(&relationship);
}

#[test]
fn a_replica_that_was_written_before_the_first_stream_is_left_alone() {
    let (pair, _, relationship) = Pair::with_relationship();
    let replica = pair.b.dataset(pair.replica(&relationship));
    pair.b.os.world().dataset_mut(&replica).unwrap().replica = false;
    pair.b.os.world().write(&replica, &vec![7; 2 << 20]).unwrap();
    let message = pair.a.fail(&relationship);
    assert!(message.contains("did not come from the primary"), "{message}");
    assert_eq!(pair.b.os.world().read(&replica).unwrap().len(), 2 << 20);
}

#[test]
fn a_replica_that_was_destroyed_by_hand_in_the_middle_can_be_given_up() {
    let (pair, _, relationship) = Pair::with_relationship();
    interrupt(&pair, &relationship);
    let replica = pair.b.dataset(pair.replica(&relationship));
    pair.b.os.world().pool_mut(&format!("vpool{}", pair.pool_b)).unwrap().datasets.remove(&replica);
    pair.a.engine().delete_relationship(&caller(), &relationship, false, false).unwrap();
    for table in ["relationship", "volume", "snapshot", "delivery"] {
        assert_eq!(pair.b.stored(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
}

#[test]
fn what_was_received_is_kept_when_the_pool_there_is_full_or_slow_to_answer() {
    let (pair, _, relationship) = Pair::with_relationship();
    interrupt(&pair, &relationship);
    let (pool, replica) = (format!("vpool{}", pair.pool_b), pair.b.dataset(pair.replica(&relationship)));
    let partial = || pair.b.os.world().dataset(&replica).unwrap().partial.clone();
    let before = partial();
    pair.b.os.world().full(&pool, true).unwrap();
    let message = pair.a.fail(&relationship);
    assert!(message.contains("pool is full"), "{message}");
    assert_eq!(partial(), before);
    pair.b.os.world().full(&pool, false).unwrap();
    pair.b.os.refuse("receive_token", Kind::TimedOut);
    let session = pair.a.start_session(&relationship);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!pair.a.engine().session(session).unwrap().status.is_over());
    pair.b.os.allow_all();
    let session = pair.a.wait(session);
    assert_eq!(session.status, SessionStatus::Completed, "{session:?}");
    assert_eq!(pair.b.engine().snapshots(&Selection::default()).unwrap().1, 2, "the first one was gone on with");
}

#[test]
fn one_resume_that_fails_is_not_held_against_the_next() {
    let (pair, _, relationship) = Pair::with_relationship();
    interrupt(&pair, &relationship);
    pair.b.os.refuse_once("receive", Kind::Other);
    *pair.weather.cut_after.lock().unwrap() = Some(200_000);
    let before = pair.b.os.count("discard_receive");
    pair.a.sync(&relationship);
    assert_eq!(*pair.weather.cut_after.lock().unwrap(), None, "it was cut");
    // When it was asked for, and when the stream that it made way for began.
    assert_eq!(pair.b.os.count("discard_receive"), before + 2, "what that one left was gone on with");
}

#[test]
fn giving_up_a_relationship_leaves_the_volume_that_it_was_to_reuse() {
    let found = (0..60).any(|step| {
        let pair = Pair::new();
        let volume = pair.a.make_filesystem("data", pair.pool_a);
        let reused = pair.b.make_filesystem("data", pair.pool_b);
        pair.a.os.stop_from(step);
        let reuse = RelationshipRequest { reuse: true, ..pair.a.request(&pair.b) };
        let create = || pair.a.engine().create_relationship(&caller(), volume, reuse);
        let stopped = catch_unwind(AssertUnwindSafe(create)).is_err();
        pair.a.os.stop_at(None);
        let is_begun = pair.a.stored("SELECT count(*) FROM operation WHERE state = 'running'") == 1;
        if !stopped || !is_begun || pair.b.stored("SELECT count(*) FROM relationship WHERE state = 'ready'") == 0 {
            return false;
        }
        *pair.weather.down.lock().unwrap() = true;
        pair.a.forget();
        pair.a.start();
        *pair.weather.down.lock().unwrap() = false;
        let id = pair.a.stored_text("SELECT id FROM relationship").parse().unwrap();
        pair.a.engine().delete_relationship(&caller(), &id, false, true).unwrap();
        for node in [&pair.a, &pair.b] {
            assert_eq!(node.stored("SELECT count(*) FROM relationship"), 0, "step {step}");
        }
        let dataset = pair.b.dataset(reused);
        assert!(pair.b.os.world().dataset(&dataset).unwrap().mounted, "step {step}");
        true
    });
    assert!(found, "at no step the partner knew of it alone");
}

#[test]
fn a_session_whose_end_can_not_be_written_down_waits_for_upkeep() {
    let (pair, _, relationship) = Pair::with_relationship();
    pair.a.change_catalog("CREATE TRIGGER full BEFORE UPDATE ON session BEGIN SELECT raise(ABORT, 'disk full'); END");
    let session = pair.a.start_session(&relationship);
    std::thread::sleep(Duration::from_millis(300));
    pair.a.change_catalog("DROP TRIGGER full");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        pair.a.engine().session(session).unwrap().status,
        SessionStatus::Pending,
        "it does not try all the time"
    );
    pair.a.stop();
    pair.a.start();
    let session = pair.a.wait(session);
    assert_eq!(session.status, SessionStatus::Completed, "{session:?}");
}
