//! A model of volumes and snapshots that is small enough to be right, and random requests to it. The crash tests and those
//! on a real appliance hold what they see against it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

/// A request. Numbers pick one of what there is.
#[derive(Debug, Clone)]
pub enum Step {
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
pub enum Request {
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
pub struct Volume {
    pub lun: bool,
    pub origin: Option<i64>,
    pub content: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub volume: i64,
    pub held: bool,
    pub content: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub volumes: BTreeMap<i64, Volume>,
    pub snapshots: BTreeMap<i64, Snapshot>,
}

pub fn pick<T>(map: &BTreeMap<i64, T>, number: usize) -> Option<i64> {
    map.keys().nth(number % map.len().max(1)).copied()
}

impl Model {
    /// `None` when there is nothing to pick.
    pub fn request(&self, step: &Step) -> Option<Request> {
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

    pub fn newer(&self, snapshot: i64) -> Vec<i64> {
        let volume = self.snapshots[&snapshot].volume;
        let of_volume = self.snapshots.iter().filter(|(id, other)| other.volume == volume && **id > snapshot);
        of_volume.map(|(id, _)| *id).collect()
    }

    pub fn clones(&self, snapshots: &[i64]) -> Vec<i64> {
        let is_clone = |volume: &Volume| volume.origin.is_some_and(|origin| snapshots.contains(&origin));
        self.volumes.iter().filter(|(_, volume)| is_clone(volume)).map(|(id, _)| *id).collect()
    }

    pub fn snapshots_of(&self, volume: i64) -> Vec<i64> {
        self.snapshots.iter().filter(|(_, snapshot)| snapshot.volume == volume).map(|(id, _)| *id).collect()
    }

    pub fn is_deletable(&self, volume: i64) -> bool {
        let own = self.snapshots_of(volume);
        self.clones(&own).is_empty() && own.iter().all(|id| !self.snapshots[id].held)
    }

    pub fn allows(&self, request: &Request) -> bool {
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
    pub fn carry_out(&mut self, request: &Request, new: &[i64]) {
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

    pub fn volume(&mut self, id: i64) -> &mut Volume {
        self.volumes.get_mut(&id).unwrap()
    }

    pub fn promote(&mut self, volume: i64) {
        let origin = self.volumes[&volume].origin.unwrap();
        let from = self.snapshots[&origin].volume;
        for (_, snapshot) in self.snapshots.range_mut(..=origin).filter(|(_, snapshot)| snapshot.volume == from) {
            snapshot.volume = volume;
        }
        self.volume(volume).origin = self.volumes[&from].origin;
        self.volume(from).origin = Some(origin);
    }

    pub fn delete(&mut self, volume: i64) {
        self.volumes.remove(&volume);
        self.snapshots.retain(|_, snapshot| snapshot.volume != volume);
    }
}

/// Numbers that the appliance has and the model has not: of volumes or, when there are none, of snapshots.
pub fn new_numbers(model: &Model, seen: &Model) -> Vec<i64> {
    let volumes = seen.volumes.keys().filter(|id| !model.volumes.contains_key(id));
    let snapshots = seen.snapshots.keys().filter(|id| !model.snapshots.contains_key(id));
    volumes.chain(snapshots).copied().collect()
}

pub fn step() -> impl Strategy<Value = Step> {
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
