#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
//! The crash sweep: every operation is stopped before, within and after each of its effects and commits; then its
//! recovery is stopped at each of *its* steps, too. Afterwards catalog and system must agree, and what belongs to
//! strangers must be as it was.

mod appliance;
mod direct;
mod scenarios;

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

fn sweep(scenario: &Scenario, reboot: bool) {
    // The journal alone has more steps than that.
    sweep_and(scenario, reboot, 5, &|_, _| ());
}

/// The sweep of a scenario with `fewest` steps or more. After each recovery `look` looks at what is the scenario's own;
/// it gets the appliance and the words for when that was.
fn sweep_and(scenario: &Scenario, reboot: bool, fewest: usize, look: &dyn Fn(&Appliance, &str)) {
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().is::<Stopped>() {
            eprintln!("{info}");
        }
    }));
    for step in 0..TOO_MANY {
        let Some(mut appliance) = stop_scenario(scenario, step) else {
            assert!(step >= fewest, "{}: the sweep found only {step} steps to stop at", scenario.name);
            return;
        };
        if reboot {
            appliance.fake.world().reboot();
        }
        appliance.start();
        let when = format!("{} stopped at step {step}", scenario.name);
        appliance.check(&when);
        look(&appliance, &when);
        sweep_recovery(scenario, step, reboot, look);
    }
    panic!("{}: the sweep did not come to an end", scenario.name);
}

fn sweep_recovery(scenario: &Scenario, step: usize, reboot: bool, look: &dyn Fn(&Appliance, &str)) {
    for second in 0..TOO_MANY {
        let Some(mut appliance) = stop_scenario(scenario, step) else { return };
        if reboot {
            appliance.fake.world().reboot();
        }
        appliance.fake.stop_at(Some(second));
        let stopped = is_stopped(|| appliance.start());
        appliance.fake.stop_at(None);
        appliance.kill();
        if !stopped {
            return;
        }
        appliance.start();
        let when = format!("{} stopped at step {step}, its recovery at step {second}", scenario.name);
        appliance.check(&when);
        look(&appliance, &when);
    }
    panic!("{}: the recovery did not come to an end", scenario.name);
}

macro_rules! sweeps {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn daemon_killed() {
                super::sweep(&super::scenarios::$name(), false);
            }

            #[test]
            fn machine_rebooted() {
                super::sweep(&super::scenarios::$name(), true);
            }
        }
    )*};
}

sweeps! {
    initialize
    create
    create_that_fails
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
    replace
    delete
    delete_that_is_refused
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
