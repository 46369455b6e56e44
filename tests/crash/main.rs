#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]
//! The crash sweep: every operation is stopped before, within and after each of its effects and commits; then its
//! recovery is stopped at each of *its* steps, too. Afterwards catalog and system must agree, and what belongs to
//! strangers must be as it was.

mod absence;
mod appliance;
mod direct;
mod hosts;
mod many;
mod model;
mod model_state;
mod network_scenarios;
mod older_catalog;
mod rebuild;
mod scenarios;
mod share_scenarios;
mod strangers;
mod volume_scenarios;
mod volumes;

use std::panic::{AssertUnwindSafe, catch_unwind};

use appliance::Appliance;
use scenarios::Scenario;
use vsnap::os::fake::Stopped;

/// Steps that no operation reaches: a sweep that gets there never ends.
const TOO_MANY: usize = 500;

/// Runs `work`; tells whether it was stopped on the way. Any other panic is a failed test.
fn is_stopped(work: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(()) => false,
        Err(payload) if payload.is::<Stopped>() => true,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// Stops `scenario` at `step`. `None` when it came to its end before that.
fn stop_scenario(scenario: &Scenario, step: usize) -> Option<Appliance> {
    let mut appliance = Appliance::new();
    (scenario.prepare)(&appliance);
    appliance.fake.stop_at(Some(step));
    let stopped = is_stopped(|| (scenario.work)(&appliance));
    appliance.fake.stop_at(None);
    appliance.kill();
    stopped.then_some(appliance)
}

/// Stops are no news.
fn keep_quiet() {
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().is::<Stopped>() {
            eprintln!("{info}");
        }
    }));
}

fn sweep(scenario: &Scenario, reboot: bool) {
    // The journal alone has more steps than that.
    sweep_and(scenario, reboot, 5, &|_, _| ());
}

/// The sweep of a scenario with `fewest` steps or more. After each recovery `look` looks at what is the scenario's own;
/// it gets the appliance and the words for when that was.
fn sweep_and(scenario: &Scenario, reboot: bool, fewest: usize, look: &dyn Fn(&Appliance, &str)) {
    keep_quiet();
    for step in 0..TOO_MANY {
        let Some(stopped) = stop_scenario(scenario, step) else {
            assert!(step >= fewest, "{}: the sweep found only {step} steps to stop at", scenario.name);
            return;
        };
        if reboot {
            stopped.fake.world().reboot();
        }
        let when = format!("{} stopped at step {step}", scenario.name);
        let mut appliance = stopped.copy();
        appliance.start();
        appliance.check(&when);
        look(&appliance, &when);
        sweep_recovery(&stopped, &when, look);
    }
    panic!("{}: the sweep did not come to an end", scenario.name);
}

/// Each recovery begins on a copy of the appliance that was stopped, which is as good as a stop of its own.
fn sweep_recovery(stopped: &Appliance, when: &str, look: &dyn Fn(&Appliance, &str)) {
    for second in 0..TOO_MANY {
        let mut appliance = stopped.copy();
        appliance.fake.stop_at(Some(second));
        let stopped = is_stopped(|| appliance.start());
        appliance.fake.stop_at(None);
        appliance.kill();
        if !stopped {
            return;
        }
        appliance.start();
        let when = format!("{when}, its recovery at step {second}");
        appliance.check(&when);
        look(&appliance, &when);
    }
    panic!("{when}: the recovery did not come to an end");
}

/// How it ends when a pool's disks are gone at a start.
#[derive(Clone, Copy, PartialEq)]
enum Outage {
    /// They are back at the next start.
    UntilRestart,
    /// They come back, and upkeep sees it.
    UntilUpkeep,
    /// The administrator has the pool forgotten.
    Forgotten,
}

/// After the stop the pool's disks are gone.
fn sweep_without_disks(scenario: &Scenario, outage: Outage) {
    keep_quiet();
    for step in 0..TOO_MANY {
        let Some(mut appliance) = stop_scenario(scenario, step) else { return };
        let when = format!("{} stopped at step {step}, then without disks", scenario.name);
        appliance.fake.world().reboot();
        appliance.plug(false);
        appliance.start();
        if outage == Outage::Forgotten {
            // Not even a pool that is gone is forgotten while it has locked snapshots, or when hosts can't be told.
            appliance.fake.advance(10_000);
            appliance.fake.allow_all();
            let _ = appliance.engine().delete_pool(&appliance::caller(), vsnap::types::PoolId(1), true);
        }
        if outage == Outage::UntilUpkeep {
            appliance.engine().upkeep().unwrap();
            appliance.plug(true);
            appliance.fake.allow_all();
            appliance.engine().upkeep().unwrap();
        } else {
            appliance.kill();
            appliance.fake.world().reboot();
            appliance.plug(true);
            appliance.fake.allow_all();
            appliance.start();
        }
        if outage == Outage::Forgotten {
            appliance.check_nothing(&when);
        } else {
            appliance.check(&when);
        }
    }
    panic!("{}: the sweep did not come to an end", scenario.name);
}

macro_rules! sweeps {
    ($module:ident: $($name:ident)*) => {$(
        mod $name {
            #[test]
            fn daemon_killed() {
                super::sweep(&super::$module::$name(), false);
            }

            #[test]
            fn machine_rebooted() {
                super::sweep(&super::$module::$name(), true);
            }
        }
    )*};
}

sweeps! {
    scenarios:
    initialize
    create
    create_that_fails
    delete
    delete_that_is_refused
}

/// What is inside a pool, and how far a change of it came, can't be told while the pool is not here.
macro_rules! outages {
    ($module:ident, $sweeps:ident: $($name:ident)*) => {
        sweeps! { $module: $($name)* }

        mod $sweeps {$(
            mod $name {
                use crate::{Outage, $module::$name, sweep_without_disks};

                #[test]
                fn without_disks() {
                    sweep_without_disks(&$name(), Outage::UntilRestart);
                }

                #[test]
                fn forgotten() {
                    sweep_without_disks(&$name(), Outage::Forgotten);
                }

                #[test]
                fn disks_come_back() {
                    sweep_without_disks(&$name(), Outage::UntilUpkeep);
                }
            }
        )*}
    };
}

outages! {
    scenarios, pools_away:
    update
    update_that_fails
    expand
    expand_that_fails
    add_log
    remove_log
    add_cache
    remove_cache
    add_spare
    remove_spare
    remove_spares_that_fails_halfway
    replace
}

outages! {
    volume_scenarios, volumes_away:
    create_filesystem
    create_filesystem_that_fails
    create_filesystem_that_is_not_mounted
    create_lun
    create_lun_without_device
    create_file_lun
    create_file_lun_that_fails
    create_clone
    create_clone_that_fails
    create_clone_that_is_not_mounted
    update_filesystem
    update_lun
    update_file_lun
    update_volume_that_fails
    delete_volume
    delete_lun
    delete_file_lun
    delete_file_lun_that_fails
    delete_clone
    delete_volume_with_past_lock
    delete_volume_with_clones
    delete_volume_that_is_open
    delete_volume_refused_at_its_snapshots
    delete_volume_refused_at_its_end
    snapshot_of_one
    snapshot_of_three
    snapshot_of_three_that_fails
    snapshot_that_is_locked
    snapshot_that_can_not_be_locked
    delete_snapshot_in_the_middle
    delete_snapshot_with_past_lock
    delete_snapshot_that_fails
    rollback
    rollback_with_clones
    rollback_that_fails
    rollback_refused_at_snapshots
    rollback_refused_at_a_clone
    rollback_refused_by_an_open_clone
    promotion
    promotion_that_fails
    lock_snapshot
    lock_that_fails
    lock_refused_at_its_notes
    hold_snapshot
    hold_that_fails
    release_snapshot
    release_that_fails
    expiry
}

sweeps! {
    volume_scenarios:
    delete_pool_with_volumes
}

sweeps! {
    network_scenarios:
    take_services
    change_services
    give_services
    take_services_that_fails
}

outages! {
    share_scenarios, shares_away:
    create_nfs_share
    create_smb_share
    create_share_that_is_not_exported
    create_share_that_is_not_noted
    update_share
    update_type_of_share
    update_share_that_fails
    delete_share
    delete_share_that_fails
    delete_volume_with_share
    delete_volume_with_share_refused_at_its_end
    rollback_with_share
    rollback_with_share_that_fails
    rollback_with_shared_clone
    snapshot_of_smb_share
    delete_snapshot_of_smb_share
    delete_snapshot_of_smb_share_that_fails
    promotion_of_smb_share
}

sweeps! {
    share_scenarios:
    delete_pool_with_shares
}

macro_rules! direct_sweeps {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn daemon_killed() {
                super::direct::$name().sweep(false);
            }

            #[test]
            fn machine_rebooted() {
                super::direct::$name().sweep(true);
            }
        }
    )*};
}

direct_sweeps! {
    scrub
    scrub_stop
    offline
    online
    clear
    create_user
    set_password
    grant_user
    revoke_user
}

outages! {
    hosts, mappings_away:
    create_host
    create_host_that_fails
    update_host
    update_host_that_fails
    delete_host
    delete_host_that_is_refused
    map_lun
    map_file_lun
    map_that_fails
    unmap
    unmap_that_fails
    delete_mapped_lun
    delete_mapped_lun_that_is_refused
    rollback_of_mapped_lun
    rollback_of_mapped_lun_that_fails
}

sweeps! {
    hosts:
    delete_mapped_pool
    delete_mapped_pool_that_is_refused
}
