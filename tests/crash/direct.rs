//! Changes that need no journal: whatever step they were stopped at, the same request again brings them to their end.

use vsnap::{
    error::Error,
    os::{Authentication, Kind},
    types::{
        PoolId,
        pool::{Health, PoolAction, Scan, Vdev, VdevErrors},
        user::{Password, UserName},
    },
};

use crate::{
    appliance::{Appliance, caller},
    scenarios::Scenario,
    sweep_and,
};

/// A change, with what must be true whenever it was stopped, and what once it was asked for again.
pub struct Direct {
    scenario: Scenario,
    /// How it can be between before and after.
    between: fn(&Appliance) -> bool,
    again: fn(&Appliance) -> Result<(), Error>,
    after: fn(&Appliance) -> bool,
}

impl Direct {
    pub fn sweep(&self, reboot: bool) {
        // One effect: stopped before it and after it.
        sweep_and(&self.scenario, reboot, 2, &|appliance, when| {
            assert!((self.between)(appliance), "{when}");
            if let Err(error) = (self.again)(appliance) {
                panic!("{when}, and asked for again: {error}");
            }
            assert!((self.after)(appliance), "{when}, and asked for again");
        });
    }
}

const POOL: PoolId = PoolId(1);

fn act(appliance: &Appliance, action: PoolAction) -> Result<(), Error> {
    appliance.engine().act_on_pool(&caller(), POOL, action).map(drop)
}

/// Passes when it is as asked for already.
fn unless_done(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::System(error)) if error.kind == Kind::Busy => Ok(()),
        Err(Error::State(_)) => Ok(()),
        result => result,
    }
}

fn scan(appliance: &Appliance) -> Option<Scan> {
    appliance.engine().pool_report(POOL).unwrap().status.unwrap().scan
}

/// The second disk of the pool's group.
fn leaf(appliance: &Appliance) -> Vdev {
    appliance.engine().pool_report(POOL).unwrap().status.unwrap().data[0].children[1].clone()
}

fn scrub_once(appliance: &Appliance) -> Result<(), Error> {
    act(appliance, PoolAction::Scrub)
}

fn stop_scrub_once(appliance: &Appliance) -> Result<(), Error> {
    act(appliance, PoolAction::ScrubStop)
}

fn take_offline(appliance: &Appliance) -> Result<(), Error> {
    act(appliance, PoolAction::Offline(appliance.uuids(2..=2).remove(0)))
}

fn bring_online(appliance: &Appliance) -> Result<(), Error> {
    act(appliance, PoolAction::Online(appliance.uuids(2..=2).remove(0)))
}

fn clear_errors(appliance: &Appliance) -> Result<(), Error> {
    act(appliance, PoolAction::Clear)
}

pub fn scrub() -> Direct {
    Direct {
        scenario: Scenario {
            name: "scrub",
            prepare: Appliance::make_pool,
            work: |appliance| scrub_once(appliance).unwrap(),
        },
        between: |appliance| scan(appliance).is_none_or(|scan| scan.function == "scrub" && scan.is_running()),
        again: |appliance| unless_done(scrub_once(appliance)),
        after: |appliance| scan(appliance).is_some_and(|scan| scan.is_running()),
    }
}

pub fn scrub_stop() -> Direct {
    Direct {
        scenario: Scenario {
            name: "scrubstop",
            prepare: |appliance| {
                appliance.make_pool();
                scrub_once(appliance).unwrap();
            },
            work: |appliance| stop_scrub_once(appliance).unwrap(),
        },
        between: |appliance| scan(appliance).is_some(),
        again: |appliance| unless_done(stop_scrub_once(appliance)),
        after: |appliance| scan(appliance).is_some_and(|scan| scan.state == "canceled"),
    }
}

pub fn offline() -> Direct {
    Direct {
        scenario: Scenario {
            name: "offline",
            prepare: Appliance::make_pool,
            work: |appliance| take_offline(appliance).unwrap(),
        },
        between: |appliance| [Health::Online, Health::Offline].contains(&leaf(appliance).state),
        again: take_offline,
        after: |appliance| leaf(appliance).state == Health::Offline,
    }
}

pub fn online() -> Direct {
    Direct {
        scenario: Scenario {
            name: "online",
            prepare: |appliance| {
                appliance.make_pool();
                take_offline(appliance).unwrap();
            },
            work: |appliance| bring_online(appliance).unwrap(),
        },
        between: |appliance| [Health::Online, Health::Offline].contains(&leaf(appliance).state),
        again: bring_online,
        after: |appliance| leaf(appliance).state == Health::Online,
    }
}

pub fn clear() -> Direct {
    const ERRORS: VdevErrors = VdevErrors { read: 0, write: 3, checksum: 7 };
    Direct {
        scenario: Scenario {
            name: "clear",
            prepare: |appliance| {
                appliance.make_pool();
                let mut world = appliance.fake.world();
                world.pool_mut("vpool1").unwrap().status.data[0].children[1].errors = ERRORS;
            },
            work: |appliance| clear_errors(appliance).unwrap(),
        },
        between: |appliance| [ERRORS, VdevErrors::default()].contains(&leaf(appliance).errors),
        again: clear_errors,
        after: |appliance| leaf(appliance).errors == VdevErrors::default(),
    }
}

const OLD: &str = "the old secret";
const NEW: &str = "the new secret";

fn name() -> UserName {
    UserName::new("backup").unwrap()
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

/// What an attempt to log in with this password comes to.
fn login(appliance: &Appliance, text: &str) -> Authentication {
    appliance.engine().authenticate(name().as_str(), &password(text), None).unwrap()
}

/// The password that Samba knows.
fn samba(appliance: &Appliance) -> Option<String> {
    appliance.fake.world().samba_password(name().as_str()).map(str::to_owned)
}

fn is_listed(appliance: &Appliance) -> bool {
    appliance.engine().users().unwrap().iter().any(|user| user.name == name().as_str())
}

fn make_user(appliance: &Appliance, text: &str) -> Result<(), Error> {
    appliance.engine().create_user(&caller(), name(), password(text)).map(drop)
}

fn change_password(appliance: &Appliance) -> Result<(), Error> {
    appliance.engine().set_password(&caller(), name(), password(NEW)).map(drop)
}

fn grant(appliance: &Appliance) -> Result<(), Error> {
    appliance.engine().grant_user(&caller(), name()).map(drop)
}

fn revoke(appliance: &Appliance) -> Result<(), Error> {
    appliance.engine().revoke_user(&caller(), name())
}

pub fn create_user() -> Direct {
    Direct {
        scenario: Scenario {
            name: "a new account",
            prepare: |_| {},
            work: |appliance| make_user(appliance, NEW).unwrap(),
        },
        // Half an account lets nobody in, whatever is tried; a whole one knows its password everywhere.
        between: |appliance| match login(appliance, NEW) {
            Authentication::Granted => is_listed(appliance) && samba(appliance).as_deref() == Some(NEW),
            refused => refused == Authentication::Refused && login(appliance, OLD) == Authentication::Refused,
        },
        again: |appliance| match make_user(appliance, NEW) {
            // It was whole.
            Err(Error::Exists(_)) if login(appliance, NEW) == Authentication::Granted => Ok(()),
            result => result,
        },
        after: |appliance| {
            login(appliance, NEW) == Authentication::Granted
                && is_listed(appliance)
                && samba(appliance).as_deref() == Some(NEW)
                && matches!(make_user(appliance, OLD), Err(Error::Exists(_)))
                && login(appliance, OLD) == Authentication::Refused
        },
    }
}

pub fn set_password() -> Direct {
    Direct {
        scenario: Scenario {
            name: "a new password",
            prepare: |appliance| make_user(appliance, OLD).unwrap(),
            work: |appliance| change_password(appliance).unwrap(),
        },
        // Always exactly one of them.
        between: |appliance| {
            let mut answers = [OLD, NEW].map(|text| login(appliance, text));
            answers.sort_by_key(|answer| *answer == Authentication::Granted);
            answers == [Authentication::Refused, Authentication::Granted]
        },
        again: change_password,
        after: |appliance| {
            login(appliance, OLD) == Authentication::Refused
                && login(appliance, NEW) == Authentication::Granted
                && samba(appliance).as_deref() == Some(NEW)
        },
    }
}

pub fn grant_user() -> Direct {
    Direct {
        scenario: Scenario {
            name: "access granted",
            prepare: |appliance| appliance.fake.add_user(name().as_str(), OLD, false),
            work: |appliance| grant(appliance).unwrap(),
        },
        between: |appliance| is_listed(appliance) == (login(appliance, OLD) == Authentication::Granted),
        again: grant,
        after: |appliance| is_listed(appliance) && login(appliance, OLD) == Authentication::Granted,
    }
}

pub fn revoke_user() -> Direct {
    Direct {
        scenario: Scenario {
            name: "access revoked",
            prepare: |appliance| make_user(appliance, OLD).unwrap(),
            work: |appliance| revoke(appliance).unwrap(),
        },
        // Who is out is out of Samba, too; who is not is listed, so that he can be put out.
        between: |appliance| match login(appliance, OLD) {
            Authentication::Granted => is_listed(appliance),
            answer => answer == Authentication::Forbidden && !is_listed(appliance) && samba(appliance).is_none(),
        },
        again: |appliance| match revoke(appliance) {
            Err(Error::NotFound { .. }) if !is_listed(appliance) => Ok(()),
            result => result,
        },
        after: |appliance| {
            login(appliance, OLD) == Authentication::Forbidden && !is_listed(appliance) && samba(appliance).is_none()
        },
    }
}
