//! Random requests on volumes and snapshots, some of them interrupted by a kill of the daemon, beside a model that is
//! small enough to be right. After every step the appliance must be what the model is, content included.

use std::collections::{BTreeMap, BTreeSet};

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
    volumes::{name, reason},
};

/// A request. Numbers pick one of what there is.
#[derive(Debug, Clone)]
enum Step {
    Create { lun: bool },
    Write(usize, u8),
    Snapshot(Vec<usize>),
    Clone(usize),
    Promote(usize),
    Rollback { snapshot: usize, discard: bool },
    Delete(usize),
    DeleteSnapshot(usize),
    Hold(usize),
    Release(usize),
    Restart { reboot: bool },
}

/// The same with what was picked.
#[derive(Debug, Clone)]
enum Request {
    Create { lun: bool },
    Write(i64, u8),
    Snapshot(BTreeSet<i64>),
    Clone(i64),
    Promote(i64),
    Rollback { snapshot: i64, discard: bool },
    Delete(i64),
    DeleteSnapshot(i64),
    Hold(i64),
    Release(i64),
    Restart { reboot: bool },
}

#[derive(Debug, Clone, PartialEq)]
struct Volume {
    lun: bool,
    origin: Option<i64>,
    content: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Snapshot {
    volume: i64,
    held: bool,
    content: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    volumes: BTreeMap<i64, Volume>,
    snapshots: BTreeMap<i64, Snapshot>,
}

fn pick<T>(map: &BTreeMap<i64, T>, number: usize) -> Option<i64> {
    map.keys().nth(number % map.len().max(1)).copied()
}

impl Model {
    /// `None` when there is nothing to pick.
    fn request(&self, step: &Step) -> Option<Request> {
        let volume = |number: &usize| pick(&self.volumes, *number);
        let snapshot = |number: &usize| pick(&self.snapshots, *number);
        Some(match step {
            Step::Create { lun } => Request::Create { lun: *lun },
            Step::Write(number, byte) => Request::Write(volume(number)?, *byte),
            Step::Snapshot(numbers) => Request::Snapshot(numbers.iter().map(volume).collect::<Option<_>>()?),
            Step::Clone(number) => Request::Clone(snapshot(number)?),
            Step::Promote(number) => Request::Promote(volume(number)?),
            Step::Rollback { snapshot: number, discard } => {
                Request::Rollback { snapshot: snapshot(number)?, discard: *discard }
            }
            Step::Delete(number) => Request::Delete(volume(number)?),
            Step::DeleteSnapshot(number) => Request::DeleteSnapshot(snapshot(number)?),
            Step::Hold(number) => Request::Hold(snapshot(number)?),
            Step::Release(number) => Request::Release(snapshot(number)?),
            Step::Restart { reboot } => Request::Restart { reboot: *reboot },
        })
    }

    fn newer(&self, snapshot: i64) -> Vec<i64> {
        let volume = self.snapshots[&snapshot].volume;
        let of_volume = self.snapshots.iter().filter(|(id, other)| other.volume == volume && **id > snapshot);
        of_volume.map(|(id, _)| *id).collect()
    }

    fn clones(&self, snapshots: &[i64]) -> Vec<i64> {
        let is_clone = |volume: &Volume| volume.origin.is_some_and(|origin| snapshots.contains(&origin));
        self.volumes.iter().filter(|(_, volume)| is_clone(volume)).map(|(id, _)| *id).collect()
    }

    fn snapshots_of(&self, volume: i64) -> Vec<i64> {
        self.snapshots.iter().filter(|(_, snapshot)| snapshot.volume == volume).map(|(id, _)| *id).collect()
    }

    fn is_deletable(&self, volume: i64) -> bool {
        let own = self.snapshots_of(volume);
        self.clones(&own).is_empty() && own.iter().all(|id| !self.snapshots[id].held)
    }

    fn allows(&self, request: &Request) -> bool {
        match request {
            Request::Promote(volume) => self.volumes[volume].origin.is_some(),
            Request::Rollback { snapshot, discard } => {
                let newer = self.newer(*snapshot);
                let free = newer.iter().all(|id| !self.snapshots[id].held);
                newer.is_empty() || *discard && free && self.clones(&newer).iter().all(|id| self.is_deletable(*id))
            }
            Request::Delete(volume) => self.is_deletable(*volume),
            Request::DeleteSnapshot(id) => self.clones(&[*id]).is_empty() && !self.snapshots[id].held,
            Request::Hold(id) => !self.snapshots[id].held,
            Request::Release(id) => self.snapshots[id].held,
            _ => true,
        }
    }

    /// Does what is allowed; `new` are the numbers of what it makes.
    fn carry_out(&mut self, request: &Request, new: &[i64]) {
        match request {
            Request::Create { lun } => {
                self.volumes.insert(new[0], Volume { lun: *lun, origin: None, content: None });
            }
            Request::Write(volume, byte) => self.volume(*volume).content = Some(vec![*byte; 9]),
            Request::Snapshot(volumes) => {
                for (volume, id) in volumes.iter().zip(new) {
                    let content = self.volumes[volume].content.clone();
                    self.snapshots.insert(*id, Snapshot { volume: *volume, held: false, content });
                }
            }
            Request::Clone(snapshot) => {
                let Snapshot { volume, content, .. } = self.snapshots[snapshot].clone();
                let lun = self.volumes[&volume].lun;
                self.volumes.insert(new[0], Volume { lun, origin: Some(*snapshot), content });
            }
            Request::Promote(volume) => self.promote(*volume),
            Request::Rollback { snapshot, .. } => {
                let newer = self.newer(*snapshot);
                self.clones(&newer).into_iter().for_each(|clone| self.delete(clone));
                newer.iter().for_each(|id| drop(self.snapshots.remove(id)));
                let Snapshot { volume, content, .. } = self.snapshots[snapshot].clone();
                self.volume(volume).content = content;
            }
            Request::Delete(volume) => self.delete(*volume),
            Request::DeleteSnapshot(id) => drop(self.snapshots.remove(id)),
            Request::Hold(id) | Request::Release(id) => {
                if let Some(snapshot) = self.snapshots.get_mut(id) {
                    snapshot.held = !snapshot.held;
                }
            }
            Request::Restart { .. } => {}
        }
    }

    fn volume(&mut self, id: i64) -> &mut Volume {
        self.volumes.get_mut(&id).unwrap()
    }

    fn promote(&mut self, volume: i64) {
        let origin = self.volumes[&volume].origin.unwrap();
        let from = self.snapshots[&origin].volume;
        for (_, snapshot) in self.snapshots.range_mut(..=origin).filter(|(_, snapshot)| snapshot.volume == from) {
            snapshot.volume = volume;
        }
        self.volume(volume).origin = self.volumes[&from].origin;
        self.volume(from).origin = Some(origin);
    }

    fn delete(&mut self, volume: i64) {
        self.volumes.remove(&volume);
        self.snapshots.retain(|_, snapshot| snapshot.volume != volume);
    }
}

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

/// Numbers that the appliance has and the model has not: of volumes or, when there are none, of snapshots.
fn new_numbers(model: &Model, seen: &Model) -> Vec<i64> {
    let volumes = seen.volumes.keys().filter(|id| !model.volumes.contains_key(id));
    let snapshots = seen.snapshots.keys().filter(|id| !model.snapshots.contains_key(id));
    volumes.chain(snapshots).copied().collect()
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

fn step() -> impl Strategy<Value = Step> {
    let number = || 0..50_usize;
    prop_oneof![
        3 => any::<bool>().prop_map(|lun| Step::Create { lun }),
        4 => (number(), any::<u8>()).prop_map(|(volume, byte)| Step::Write(volume, byte)),
        6 => prop::collection::vec(number(), 1..4).prop_map(Step::Snapshot),
        4 => number().prop_map(Step::Clone),
        4 => number().prop_map(Step::Promote),
        4 => (number(), any::<bool>()).prop_map(|(snapshot, discard)| Step::Rollback { snapshot, discard }),
        2 => number().prop_map(Step::Delete),
        2 => number().prop_map(Step::DeleteSnapshot),
        1 => number().prop_map(Step::Hold),
        1 => number().prop_map(Step::Release),
        1 => any::<bool>().prop_map(|reboot| Step::Restart { reboot }),
    ]
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
