use vsnap::{
    error::Error,
    types::{
        partner::{PartnerUpdate, PreferencesUpdate},
        selection::Selection,
        user::Password,
    },
};

use crate::node::{Node, Pair, caller, connect, partner_request};

#[test]
fn both_sides_get_the_partner() {
    let pair = Pair::new();
    let ids = |node: &Node| -> Vec<_> {
        node.engine().partners(&Selection::default()).unwrap().0.into_iter().map(|partner| partner.id).collect()
    };
    assert_eq!(ids(&pair.a), [pair.b.id()]);
    assert_eq!(ids(&pair.b), [pair.a.id()]);
    let seen = pair.b.engine().partner(&pair.a.id()).unwrap();
    assert_eq!((seen.address, seen.api_port, seen.ssh_port), (pair.a.address.clone(), 8900, 22));
}

#[test]
fn wrong_credentials_and_nobody_there_leave_nothing_on_either_side() {
    let (a, b) = (Node::new(1), Node::new(2));
    let weather = connect(&[&a, &b]);
    let mut request = partner_request(&b.address);
    request.password = Password::given("wrong horse");
    let error = a.engine().create_partner(&caller(), request).unwrap_err();
    assert!(matches!(&error, Error::Invalid(invalid) if invalid.field == "remote_user"), "{error:?}");
    *weather.down.lock().unwrap() = true;
    let error = a.engine().create_partner(&caller(), partner_request(&b.address)).unwrap_err();
    assert!(matches!(error, Error::Partner(_)), "{error:?}");
    *weather.down.lock().unwrap() = false;
    let error = a.engine().create_partner(&caller(), partner_request(&a.address)).unwrap_err();
    assert!(error.to_string().contains("own partner") || error.to_string().contains("itself"), "{error}");
    for node in [&a, &b] {
        assert_eq!(node.stored("SELECT count(*) FROM partner"), 0);
        assert!(node.os.world().partners.is_empty());
    }
}

#[test]
fn one_that_introduced_itself_and_never_confirmed_is_forgotten() {
    let (a, b) = (Node::new(1), Node::new(2));
    connect(&[&a, &b]);
    // It gets no further than the introduction.
    a.os.refuse("connect", vsnap::os::Kind::Other);
    a.engine().create_partner(&caller(), partner_request(&b.address)).unwrap_err();
    assert_eq!(b.engine().partners(&Selection::default()).unwrap().1, 0, "it is no partner yet");
    assert_eq!(b.stored("SELECT count(*) FROM partner WHERE state = 'creating'"), 1);
    b.os.advance(700);
    b.engine().upkeep().unwrap();
    assert_eq!(b.stored("SELECT count(*) FROM partner"), 0);
    assert!(b.os.world().partners.is_empty(), "its key opens nothing any longer");
    // The first side tries to tell it, until it learns that there is nothing to tell.
    assert_eq!(a.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 1);
    a.os.allow_all();
    a.engine().upkeep().unwrap();
    assert_eq!(a.stored("SELECT count(*) FROM partner"), 0);
    assert_eq!(a.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 0);
}

#[test]
fn a_partner_is_removed_on_both_sides() {
    let (pair, _, relationship) = Pair::with_relationship();
    let engine = pair.a.engine();
    let error = engine.delete_partner(&caller(), &pair.b.id(), true).unwrap_err();
    assert!(matches!(&error, Error::Busy(message) if message.contains(relationship.as_str())), "{error:?}");
    engine.delete_relationship(&caller(), &relationship, false, false).unwrap();
    engine.delete_partner(&caller(), &pair.b.id(), false).unwrap();
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.stored("SELECT count(*) FROM partner"), 0);
        assert!(node.os.world().partners.is_empty());
    }
}

#[test]
fn a_key_that_can_not_be_taken_away_keeps_no_one_from_parting() {
    for careful in [true, false] {
        let pair = Pair::new();
        let (a, b) = (&pair.a, &pair.b);
        let troubled = if careful { a } else { b };
        troubled.os.refuse("apply_partners", vsnap::os::Kind::Busy);
        a.engine().delete_partner(&caller(), &b.id(), false).unwrap();
        let failed = "SELECT count(*) FROM operation WHERE state = 'failed'";
        for node in [a, b] {
            assert_eq!((node.stored("SELECT count(*) FROM partner"), node.stored(failed)), (0, 0), "{:?}", a.journal());
        }
        troubled.os.allow_all();
        troubled.engine().upkeep().unwrap();
        assert!(troubled.os.world().partners.is_empty(), "upkeep takes the key away");
    }
}

#[test]
fn one_that_is_gone_is_removed_by_force_alone() {
    let pair = Pair::new();
    *pair.weather.down.lock().unwrap() = true;
    let engine = pair.a.engine();
    let error = engine.delete_partner(&caller(), &pair.b.id(), false).unwrap_err();
    assert!(matches!(error, Error::Partner(_)), "{error:?}");
    assert_eq!(engine.partners(&Selection::default()).unwrap().1, 1, "it is still there");
    engine.delete_partner(&caller(), &pair.b.id(), true).unwrap();
    assert_eq!(engine.partners(&Selection::default()).unwrap().1, 0);
    // It comes back as if nothing had been.
    *pair.weather.down.lock().unwrap() = false;
    engine.create_partner(&caller(), partner_request(&pair.b.address)).unwrap();
}

#[test]
fn a_host_key_that_changed_is_refused_until_it_is_renewed() {
    let (pair, _, relationship) = Pair::with_relationship();
    pair.a.os.world().partners[0].host_keys.clear();
    let message = pair.a.fail(&relationship);
    assert!(message.contains("host key") && message.contains("add the partner once more"), "{message}");
    pair.a.engine().create_partner(&caller(), partner_request(&pair.b.address)).unwrap();
    pair.a.sync(&relationship);
}

#[test]
fn limits_and_addresses_can_be_changed() {
    let pair = Pair::new();
    let engine = pair.a.engine();
    let update = PartnerUpdate { rate_limit: Some(Some(1 << 20)), ssh_port: Some(2222), ..PartnerUpdate::default() };
    let partner = engine.update_partner(&caller(), &pair.b.id(), &update).unwrap();
    assert_eq!((partner.rate_limit, partner.ssh_port, partner.api_port), (Some(1 << 20), 2222, 8900));
    let update =
        PreferencesUpdate { rate_limit: Some(Some(5 << 20)), parallel_sessions: Some(2), session_history: None };
    engine.set_replication_preferences(&caller(), &update).unwrap();
    let preferences = engine.replication_preferences().unwrap();
    assert_eq!((preferences.rate_limit, preferences.parallel_sessions), (Some(5 << 20), 2));
    for bad in [0, 65] {
        let update = PreferencesUpdate { parallel_sessions: Some(bad), ..PreferencesUpdate::default() };
        assert!(matches!(engine.set_replication_preferences(&caller(), &update), Err(Error::Invalid(_))));
    }
}

/// Kills the daemon of one side at each step of a pairing: afterwards both are partners, or neither is.
fn sweep(kill_first: bool) {
    for step in 0.. {
        let (a, b) = (Node::new(1), Node::new(2));
        connect(&[&a, &b]);
        let victim = if kill_first { &a } else { &b };
        victim.os.stop_from(step);
        let pairing = || a.engine().create_partner(&caller(), partner_request(&b.address)).is_ok();
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(pairing));
        let ended = victim.os.steps() <= step;
        victim.forget();
        victim.os.stop_at(None);
        victim.start();
        for _ in 0..2 {
            for node in [&a, &b] {
                node.engine().upkeep().unwrap();
                node.os.advance(700);
            }
        }
        let when = format!("step {step}, first {kill_first}");
        let count = |node: &Node| node.engine().partners(&Selection::default()).unwrap().1;
        assert_eq!(count(&a), count(&b), "{when}: {:?}", a.journal());
        for node in [&a, &b] {
            assert_eq!(node.stored("SELECT count(*) FROM partner WHERE state <> 'ready'"), 0, "{when}");
            assert_eq!(node.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 0, "{when}");
            assert_eq!(node.os.world().partners.len() as u64, count(node), "{when}");
        }
        a.engine().create_partner(&caller(), partner_request(&b.address)).unwrap();
        assert_eq!((count(&a), count(&b)), (1, 1), "{when}");
        if ended {
            return;
        }
    }
}

#[test]
fn the_one_that_asks_may_be_killed_at_each_step_of_a_pairing() {
    sweep(true);
}

#[test]
fn the_one_that_is_asked_may_be_killed_at_each_step_of_a_pairing() {
    sweep(false);
}
