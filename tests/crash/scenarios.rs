//! Every operation, with what has to be there before it. Work that is made to fail ignores its error: what counts is
//! the state afterwards.

use vsnap::{
    os::Kind,
    types::{
        Name, PoolId,
        pool::{PoolAction, PoolUpdate},
        system::InitRequest,
    },
};

use crate::appliance::{Appliance, caller};

pub struct Scenario {
    pub name: &'static str,
    pub prepare: fn(&Appliance),
    pub work: fn(&Appliance),
}

const POOL: PoolId = PoolId(1);

fn act(appliance: &Appliance, action: PoolAction) {
    let _ = appliance.engine().act_on_pool(&caller(), POOL, action);
}

fn with_log(appliance: &Appliance) {
    appliance.make_pool();
    act(appliance, PoolAction::AddLog(appliance.uuids(5..=6)));
}

fn with_cache(appliance: &Appliance) {
    appliance.make_pool();
    act(appliance, PoolAction::AddCache(appliance.uuids(5..=5)));
}

fn with_spares(appliance: &Appliance) {
    appliance.make_pool();
    act(appliance, PoolAction::AddSpare(appliance.uuids(5..=6)));
}

fn rename(appliance: &Appliance) {
    let update = PoolUpdate {
        name: Some(Name::new("näme 🦀").unwrap()),
        compression: Some(false),
        deduplication: Some(true),
        syncwrite: Some(false),
    };
    let _ = appliance.engine().update_pool(&caller(), POOL, update);
}

fn expand_by_group(appliance: &Appliance) {
    act(appliance, PoolAction::Expand(appliance.uuids(5..=8)));
}

fn delete_pool(appliance: &Appliance) {
    let _ = appliance.engine().delete_pool(&caller(), POOL, false);
}

pub fn initialize() -> Scenario {
    Scenario {
        name: "init",
        prepare: |_| {},
        work: |appliance| {
            let _ = appliance.engine().initialize(&caller(), InitRequest::default());
        },
    }
}

pub fn create() -> Scenario {
    Scenario { name: "create", prepare: |_| {}, work: Appliance::make_pool }
}

pub fn create_that_fails() -> Scenario {
    Scenario {
        name: "create that fails",
        prepare: |appliance| appliance.refuse("create_pool"),
        work: Appliance::make_pool,
    }
}

pub fn update() -> Scenario {
    Scenario { name: "update", prepare: Appliance::make_pool, work: rename }
}

pub fn update_that_fails() -> Scenario {
    Scenario {
        name: "update that fails",
        prepare: |appliance| {
            appliance.make_pool();
            appliance.refuse("change_pool");
        },
        work: rename,
    }
}

pub fn expand() -> Scenario {
    Scenario { name: "expand", prepare: Appliance::make_pool, work: expand_by_group }
}

pub fn expand_that_fails() -> Scenario {
    Scenario {
        name: "expand that fails",
        prepare: |appliance| {
            appliance.make_pool();
            appliance.refuse("add_vdevs");
        },
        work: expand_by_group,
    }
}

pub fn add_log() -> Scenario {
    Scenario {
        name: "addlog",
        prepare: Appliance::make_pool,
        work: |appliance| act(appliance, PoolAction::AddLog(appliance.uuids(5..=6))),
    }
}

pub fn remove_log() -> Scenario {
    Scenario { name: "removelog", prepare: with_log, work: |appliance| act(appliance, PoolAction::RemoveLog) }
}

pub fn add_cache() -> Scenario {
    Scenario {
        name: "addcache",
        prepare: Appliance::make_pool,
        work: |appliance| act(appliance, PoolAction::AddCache(appliance.uuids(5..=5))),
    }
}

pub fn remove_cache() -> Scenario {
    Scenario { name: "removecache", prepare: with_cache, work: |appliance| act(appliance, PoolAction::RemoveCache) }
}

pub fn add_spare() -> Scenario {
    Scenario {
        name: "addspare",
        prepare: Appliance::make_pool,
        work: |appliance| act(appliance, PoolAction::AddSpare(appliance.uuids(5..=6))),
    }
}

pub fn remove_spare() -> Scenario {
    Scenario {
        name: "removespare",
        prepare: with_spares,
        work: |appliance| act(appliance, PoolAction::RemoveSpare(appliance.uuids(6..=6))),
    }
}

pub fn remove_spares_that_fails_halfway() -> Scenario {
    Scenario {
        name: "removespare that fails halfway",
        prepare: |appliance| {
            with_spares(appliance);
            appliance.fake.refuse_later("remove_vdev", 1, Kind::Busy);
        },
        work: |appliance| act(appliance, PoolAction::RemoveSpare(appliance.uuids(5..=6))),
    }
}

pub fn replace() -> Scenario {
    Scenario {
        name: "replace",
        prepare: Appliance::make_pool,
        work: |appliance| {
            let [old, new] = [appliance.uuids(2..=2), appliance.uuids(9..=9)].map(|uuids| uuids[0].clone());
            act(appliance, PoolAction::Replace(old, new));
        },
    }
}

pub fn delete() -> Scenario {
    Scenario { name: "delete", prepare: with_spares, work: delete_pool }
}

pub fn delete_that_is_refused() -> Scenario {
    Scenario {
        name: "delete that is refused",
        prepare: |appliance| {
            appliance.make_pool();
            appliance.refuse("destroy_pool");
        },
        work: delete_pool,
    }
}
