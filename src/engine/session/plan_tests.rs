use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// Points of the volume from a drawing: `1 2b 4` are snapshots 1 and 4 and a bookmark of 2, in this order.
fn points(drawing: &str) -> Vec<Point> {
    let point = |word: &str| {
        let number = word.trim_end_matches('b').parse().unwrap();
        Point { guid: number, transaction: number, is_bookmark: word.ends_with('b') }
    };
    drawing.split_whitespace().map(point).collect()
}

fn guids(drawing: &str) -> Vec<u64> {
    drawing.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

fn point(drawing: &str) -> Point {
    points(drawing)[0]
}

fn send(steps: Vec<Step>) -> Plan {
    Plan::Send { discard: false, steps }
}

fn after_discard(steps: Vec<Step>) -> Plan {
    Plan::Send { discard: true, steps }
}

#[rstest]
// Nothing there yet.
#[case("5", "", 5, send(vec![Step::Full]))]
#[case("1 3b 5", "", 5, send(vec![Step::Full]))]
// The newest of the replica is a snapshot here, a bookmark here, or both.
#[case("1 5", "1", 5, send(vec![Step::Incremental { from: point("1") }]))]
#[case("1b 5", "1", 5, send(vec![Step::Incremental { from: point("1b") }]))]
#[case("1b 1 5", "1", 5, send(vec![Step::Incremental { from: point("1") }]))]
#[case("1 2 3 5", "1 3", 5, send(vec![Step::Incremental { from: point("3") }]))]
// Older ones of the replica may be strangers.
#[case("3 5", "9 3", 5, send(vec![Step::Incremental { from: point("3") }]))]
// It is there already, wherever.
#[case("1 5", "5", 5, Plan::UpToDate)]
#[case("1 5 6", "1 5 6", 5, Plan::UpToDate)]
#[case("5b", "5", 5, Plan::UpToDate)]
// Conflicts.
#[case("1 4b", "1", 4, Plan::Conflict(Conflict::Gone))]
#[case("1", "1", 4, Plan::Conflict(Conflict::Gone))]
#[case("1 5", "9", 5, Plan::Conflict(Conflict::NothingInCommon))]
#[case("1 5", "1 8 9", 5, Plan::Conflict(Conflict::Newer(vec![8, 9])))]
#[case("1b 5", "1 9", 5, Plan::Conflict(Conflict::Newer(vec![9])))]
#[case("3 5", "5", 3, Plan::Conflict(Conflict::Older))]
#[case("3 5b", "1 5", 3, Plan::Conflict(Conflict::Older))]
fn without_a_token(#[case] source: &str, #[case] replica: &str, #[case] wanted: u64, #[case] expected: Plan) {
    let facts = Facts { wanted, source: points(source), replica: guids(replica), ..Facts::default() };
    assert_eq!(plan(&facts), expected);
}

#[rstest]
// It makes what is wanted.
#[case("1 5", "1", (5, Some(1)), 5, send(vec![Step::Resume { to: 5, base: Some(1) }]))]
#[case("1b 5", "1", (5, Some(1)), 5, send(vec![Step::Resume { to: 5, base: Some(1) }]))]
#[case("5", "", (5, None), 5, send(vec![Step::Resume { to: 5, base: None }]))]
// It makes an older one, on which the wanted one follows.
#[case("1 4 5", "1", (4, Some(1)), 5,
    send(vec![Step::Resume { to: 4, base: Some(1) }, Step::Incremental { from: point("4") }]))]
#[case("4 5", "", (4, None), 5, send(vec![Step::Resume { to: 4, base: None }, Step::Incremental { from: point("4") }]))]
// It makes what is gone, or only a bookmark by now.
#[case("1 5", "1", (4, Some(1)), 5, after_discard(vec![Step::Incremental { from: point("1") }]))]
#[case("1 4b 5", "1", (4, Some(1)), 5, after_discard(vec![Step::Incremental { from: point("1") }]))]
// It makes a younger one than is wanted.
#[case("1 4 5", "1", (5, Some(1)), 4, after_discard(vec![Step::Incremental { from: point("1") }]))]
// It begins somewhere else than where the replica ends.
#[case("1 2 5", "1 2", (5, Some(1)), 5, after_discard(vec![Step::Incremental { from: point("2") }]))]
#[case("1 5", "1", (5, None), 5, after_discard(vec![Step::Incremental { from: point("1") }]))]
#[case("1 5", "", (5, Some(1)), 5, after_discard(vec![Step::Full]))]
// Its base is unknown here.
#[case("5", "7", (5, Some(7)), 5, Plan::Conflict(Conflict::NothingInCommon))]
// It is there already all the same.
#[case("1 5", "1 5", (5, Some(1)), 5, Plan::UpToDate)]
fn with_a_token(
    #[case] source: &str,
    #[case] replica: &str,
    #[case] (guid, base): (u64, Option<u64>),
    #[case] wanted: u64,
    #[case] expected: Plan,
) {
    let facts = Facts {
        wanted,
        source: points(source),
        replica: guids(replica),
        interrupted: Some(Interrupted { guid, base }),
        has_token: true,
    };
    assert_eq!(plan(&facts), expected);
}

#[test]
fn a_token_that_cannot_be_read_is_discarded() {
    let facts = Facts { wanted: 5, source: points("1 5"), replica: guids("1"), interrupted: None, has_token: true };
    assert_eq!(plan(&facts), after_discard(vec![Step::Incremental { from: point("1") }]));
}

/// ZFS as far as streams go: carries a plan out on the replica, or says why it would refuse.
fn carry_out(facts: &Facts, steps: &[Step]) -> Result<Vec<u64>, String> {
    let mut replica = facts.replica.clone();
    let is_snapshot = |guid: u64| facts.source.iter().any(|point| point.guid == guid && !point.is_bookmark);
    let time = |guid: u64| facts.source.iter().find(|point| point.guid == guid).map(|point| point.transaction);
    for step in steps {
        let (to, base) = match step {
            Step::Full => (facts.wanted, None),
            Step::Incremental { from } => (facts.wanted, Some(from.guid)),
            Step::Resume { to, base } => (*to, *base),
        };
        if !is_snapshot(to) {
            return Err(format!("{to} is no snapshot"));
        }
        if base != replica.last().copied() {
            return Err(format!("{base:?} is not where {replica:?} ends"));
        }
        if base.is_some_and(|base| time(base) >= time(to)) {
            return Err(format!("{base:?} is not older than {to}"));
        }
        replica.push(to);
    }
    Ok(replica)
}

fn facts() -> impl Strategy<Value = Facts> {
    let source = prop::collection::vec((1_u64..9, any::<bool>()), 0..8);
    let token = prop::option::of((1_u64..12, prop::option::of(1_u64..12)));
    (1_u64..9, source, prop::collection::btree_set(1_u64..12, 0..5), token, any::<bool>()).prop_map(
        |(wanted, source, replica, token, readable)| Facts {
            wanted,
            source: source
                .into_iter()
                .map(|(guid, is_bookmark)| Point { guid, transaction: guid, is_bookmark })
                .collect(),
            // Strangers have guids from 9 on, and may be anywhere.
            replica: replica.into_iter().map(|guid| if guid % 2 == 0 { 12 - guid } else { guid }).fold(
                Vec::new(),
                |mut all, guid| {
                    if !all.contains(&guid) {
                        all.push(guid);
                    }
                    all
                },
            ),
            interrupted: token.filter(|_| readable).map(|(guid, base)| Interrupted { guid, base }),
            has_token: token.is_some(),
        },
    )
}

proptest! {
    /// Whatever the facts: ZFS takes every plan, the replica ends with what was wanted, and nothing of it is lost.
    #[test]
    fn zfs_takes_every_plan(facts in facts()) {
        match plan(&facts) {
            Plan::Send { discard, steps } => {
                let resumes = matches!(steps[0], Step::Resume { .. });
                prop_assert!(!facts.has_token || discard || resumes);
                prop_assert!(!discard || facts.has_token);
                let after = carry_out(&facts, &steps).map_err(TestCaseError::fail)?;
                prop_assert_eq!(after.last(), Some(&facts.wanted));
                prop_assert!(after.starts_with(&facts.replica));
            }
            Plan::UpToDate => prop_assert!(facts.replica.contains(&facts.wanted)),
            Plan::Conflict(Conflict::Gone) => {
                prop_assert!(!facts.source.iter().any(|point| point.guid == facts.wanted && !point.is_bookmark));
            }
            // The only base that ZFS would take is the newest of the replica.
            Plan::Conflict(Conflict::Older) => {
                let newest = *facts.replica.last().unwrap();
                prop_assert!(facts.source.iter().any(|point| point.guid == newest) && newest >= facts.wanted);
            }
            Plan::Conflict(Conflict::Newer(_) | Conflict::NothingInCommon) => {
                let newest = *facts.replica.last().unwrap();
                prop_assert!(facts.source.iter().all(|point| point.guid != newest));
            }
        }
    }
}
