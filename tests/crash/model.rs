//! Random requests on volumes and snapshots, some of them interrupted by a kill of the daemon, beside a model that is
//! small enough to be right. After every step the appliance must be what the model is, content included.

use std::collections::BTreeSet;

use proptest::prelude::*;
use vsnap::types::{
    PoolId, SnapshotId, VolumeId,
    selection::Selection,
    snapshot::{Retention, SnapshotAction, SnapshotRequest},
    volume::{BlockSize, VolumeAction, VolumeOptions, VolumeRequest, VolumeSource},
};

use crate::{
    appliance::{Appliance, caller},
    is_stopped, keep_quiet,
    model_state::{Model, Request, Snapshot, Step, Volume, new_numbers, step},
    volumes::{name, reason},
};

/// The appliance as the model has it.
fn seen(appliance: &Appliance) -> Model {
    let (volumes, _) = appliance.engine().volumes(&Selection::default()).unwrap();
    let (snapshots, _) = appliance.engine().snapshots(&Selection::default()).unwrap();
    let held = |id| !appliance.engine().snapshot(id).unwrap().holds.is_empty();
    let held: BTreeSet<i64> = snapshots.iter().filter(|row| held(row.id)).map(|row| row.id.0).collect();
    let world = appliance.fake.world();
    let dataset = |id| {
        let volume = volumes.iter().find(|volume| volume.id == id).unwrap();
        volume.volume_type.dataset(volume.pool, id).unwrap()
    };
    let volume = |row: &vsnap::types::volume::Volume| Volume {
        lun: row.block.is_some(),
        origin: row.origin.map(|id| id.0),
        content: world.read(dataset(row.id).as_str()),
    };
    let snapshot = |row: &vsnap::types::snapshot::Snapshot| Snapshot {
        volume: row.volume.0,
        held: held.contains(&row.id.0),
        content: world.read(dataset(row.volume).snapshot(row.id).as_str()),
    };
    Model {
        volumes: volumes.iter().map(|row| (row.id.0, volume(row))).collect(),
        snapshots: snapshots.iter().map(|row| (row.id.0, snapshot(row))).collect(),
    }
}

/// Asks the appliance; tells whether it did it.
fn ask(appliance: &Appliance, model: &Model, request: &Request, number: usize) -> bool {
    let engine = appliance.engine();
    let (pool, options, name) = (PoolId(1), VolumeOptions::default(), name(&format!("object {number}")));
    let create = |source| engine.create_volume(&caller(), VolumeRequest { name: name.clone(), source }).is_ok();
    let act = |id: &i64, action| engine.act_on_snapshot(&caller(), SnapshotId(*id), action).is_ok();
    match request {
        Request::Create { lun: true } => {
            create(VolumeSource::Lun { pool, bytes: 1 << 20, block: BlockSize::default(), options })
        }
        Request::Create { lun: false } => create(VolumeSource::Filesystem { pool, limit: None, options }),
        Request::Write(volume, byte) => {
            let kind = if model.volumes[volume].lun { "lun" } else { "fs" };
            appliance.fake.world().write(&format!("vpool1/{kind}{volume}"), &[*byte; 9]).is_ok()
        }
        Request::Snapshot(volumes) => {
            let volumes = volumes.iter().map(|id| VolumeId(*id)).collect();
            let request = SnapshotRequest { volumes, name: Some(name.clone()), retention: Retention::default() };
            engine.create_snapshots(&caller(), request).is_ok()
        }
        Request::Clone(snapshot) => create(VolumeSource::Clone { snapshot: SnapshotId(*snapshot) }),
        Request::Promote(volume) => engine.act_on_volume(&caller(), VolumeId(*volume), VolumeAction::Promote).is_ok(),
        Request::Rollback { snapshot, discard } => {
            let newer = if *discard { model.newer(*snapshot) } else { Vec::new() };
            let action = VolumeAction::Rollback {
                snapshot: SnapshotId(*snapshot),
                discard_snapshots: newer.iter().map(|id| SnapshotId(*id)).collect(),
                discard_clones: model.clones(&newer).into_iter().map(VolumeId).collect(),
                discard_shares: vec![],
                discard_hosts: vec![],
            };
            let volume = VolumeId(model.snapshots[snapshot].volume);
            engine.act_on_volume(&caller(), volume, action).is_ok()
        }
        Request::Delete(volume) => engine.delete_volume(&caller(), VolumeId(*volume), false).is_ok(),
        Request::DeleteSnapshot(id) => engine.delete_snapshot(&caller(), SnapshotId(*id)).is_ok(),
        Request::Hold(id) => act(id, SnapshotAction::Hold(reason("case"))),
        Request::Release(id) => act(id, SnapshotAction::Release(reason("case"))),
        Request::Restart { .. } => true,
    }
}

fn restart(appliance: &mut Appliance, reboot: bool) {
    appliance.kill();
    if reboot {
        appliance.fake.world().reboot();
    }
    appliance.start();
}

/// One step; with `stop`, the daemon is killed at that of its effects and commits. Gives what the model is then.
fn take_step(appliance: &mut Appliance, model: &Model, request: &Request, number: usize, stop: Option<usize>) -> Model {
    let when = format!("step {number}, {request:?}, stopped at {stop:?}");
    let allowed = model.allows(request);
    let mut done = allowed;
    appliance.fake.stop_at(stop);
    let stopped = is_stopped(|| done = ask(appliance, model, request, number));
    appliance.fake.stop_at(None);
    match request {
        Request::Restart { reboot } => restart(appliance, *reboot),
        _ if stopped => restart(appliance, number.is_multiple_of(3)),
        _ => assert_eq!(done, allowed, "{when}: model {model:?}"),
    }
    let now = seen(appliance);
    let mut after = model.clone();
    let new = new_numbers(model, &now);
    let makes = matches!(request, Request::Create { .. } | Request::Snapshot(_) | Request::Clone(_));
    // What was stopped before it was written to the journal did not happen; all else goes on after the restart.
    let happened = allowed && if makes { !new.is_empty() || !stopped } else { !stopped || now != *model };
    if happened {
        after.carry_out(request, &new);
    }
    assert_eq!(now, after, "{when}");
    appliance.check(&when);
    after
}

fn run(steps: &[(Step, Option<usize>)]) {
    keep_quiet();
    let mut appliance = Appliance::new();
    appliance.make_pool();
    let mut model = Model::default();
    for (number, (step, stop)) in steps.iter().enumerate() {
        if let Some(request) = model.request(step) {
            model = take_step(&mut appliance, &model, &request, number, *stop);
        }
    }
    restart(&mut appliance, true);
    assert_eq!(seen(&appliance), model);
    appliance.check("at the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_appliance_is_what_the_model_is(steps in prop::collection::vec((step(), Just(None)), 1..50)) {
        run(&steps);
    }

    #[test]
    fn so_it_is_when_requests_are_interrupted(
        steps in prop::collection::vec((step(), prop::option::of(0..14_usize)), 1..50),
    ) {
        run(&steps);
    }
}
