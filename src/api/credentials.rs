//! Checks passwords: a memory of right ones, a brake for wrong ones, and few threads that ask PAM.
//!
//! A check costs 13 ms of processor when right and blocks for seconds when wrong, and backup software sends its
//! credentials with every request. So a right password is remembered for a while, as a hash under a key of this
//! process, until any account changes. A password that has been right before is never held up; others wait for
//! their turn once a user and address have spent their free guesses.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock, DefaultClock},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::error::{Failure, TOO_MANY_ATTEMPTS};
use crate::{engine::Engine, os::Authentication, types::user::Password};

/// How wrong guesses are slowed down, per user and address.
#[derive(Debug, Clone, Copy)]
pub struct GuessLimit {
    /// Guesses that are checked at once.
    pub burst: NonZeroU32,
    /// After those, one is checked each time this has passed.
    pub interval: Duration,
}

impl Default for GuessLimit {
    fn default() -> Self {
        // Enough for a person who mistypes; a guesser gets 43,000 a day, less than a short random password withstands.
        GuessLimit { burst: NonZeroU32::MIN.saturating_add(4), interval: Duration::from_secs(2) }
    }
}

/// Passwords that PAM checks at a time: each may sit in a thread for seconds.
const PARALLEL_CHECKS: usize = 4;

/// Requests that wait for their turn at a time. They cost memory only, but that must have a bound.
const MAX_WAITING: usize = 128;

/// Pairs of user and address that are kept track of. They are forgotten when their burst is free again.
const MAX_PAIRS: usize = 20_000;

/// Users with a remembered password. There are as many as members of a group, so this is never reached in earnest.
const MAX_KNOWN: usize = 1_000;

/// Longest user name that is looked at.
const MAX_USER_BYTES: usize = 256;

/// Hash of a user name and password under the key of this process.
type Print = [u8; 32];

/// A password that was right.
struct Known {
    print: Print,
    accounts_version: u64,
    checked: Instant,
}

/// Checks passwords.
pub(super) struct Credentials {
    engine: Arc<Engine>,
    /// New in every process, so that prints are worth nothing elsewhere.
    key: [u8; 64],
    ttl: Duration,
    known: Mutex<HashMap<String, Known>>,
    guesses: DefaultKeyedRateLimiter<(String, IpAddr)>,
    waiting: Semaphore,
    checks: Arc<Semaphore>,
    /// Checks under way, so that twenty requests with the same new password ask PAM once.
    running: Mutex<HashMap<Print, Arc<tokio::sync::Mutex<()>>>>,
}

impl Credentials {
    /// `ttl` is how long a right password is remembered.
    pub(super) fn new(engine: Arc<Engine>, ttl: Duration, limit: GuessLimit) -> Result<Self, getrandom::Error> {
        let mut key = [0; 64];
        getrandom::fill(&mut key)?;
        // A period of zero has no rate; the shortest there is means "no brake".
        let interval = limit.interval.max(Duration::from_nanos(1));
        let quota = Quota::with_period(interval).unwrap_or(Quota::per_second(limit.burst)).allow_burst(limit.burst);
        Ok(Credentials {
            engine,
            key,
            ttl,
            known: Mutex::default(),
            guesses: DefaultKeyedRateLimiter::keyed(quota),
            waiting: Semaphore::new(MAX_WAITING),
            checks: Arc::new(Semaphore::new(PARALLEL_CHECKS)),
            running: Mutex::default(),
        })
    }

    /// Whether this is the user's password and he may come in.
    pub(super) async fn check(
        &self,
        user: &str,
        password: Password,
        remote: IpAddr,
    ) -> Result<Authentication, Failure> {
        if user.is_empty() || user.len() > MAX_USER_BYTES || user.contains('\0') || password.expose().contains('\0') {
            return Ok(Authentication::Refused);
        }
        let print = self.print(user, &password);
        if self.is_fresh(user, &print)? {
            return Ok(Authentication::Granted);
        }
        let turn = Turn::new(&self.running, print);
        let _turn = turn.mutex.lock().await;
        self.check_in_turn(user, password, remote, print).await
    }

    async fn check_in_turn(
        &self,
        user: &str,
        password: Password,
        remote: IpAddr,
        print: Print,
    ) -> Result<Authentication, Failure> {
        // Whoever had the turn before may have found that the password is right.
        if self.is_fresh(user, &print)? {
            return Ok(Authentication::Granted);
        }
        if !self.was_right(user, &print) {
            self.wait_for_guess(user, remote).await?;
        }
        // Read before the check: a change during the check makes the answer stale at once.
        let accounts_version = self.accounts_version()?;
        let answer = self.ask_pam(user, password, remote).await?;
        let mut known = lock(&self.known);
        match answer {
            Authentication::Granted => {
                if known.len() >= MAX_KNOWN && !known.contains_key(user) {
                    known.clear();
                }
                known.insert(user.to_owned(), Known { print, accounts_version, checked: Instant::now() });
            }
            Authentication::Forbidden | Authentication::Refused => {
                if known.get(user).is_some_and(|it| same(&it.print, &print)) {
                    known.remove(user);
                }
            }
        }
        Ok(answer)
    }

    async fn ask_pam(&self, user: &str, password: Password, remote: IpAddr) -> Result<Authentication, Failure> {
        let closed = |error| Failure::internal("passwords cannot be checked now", error);
        let permit = Arc::clone(&self.checks).acquire_owned().await.map_err(closed)?;
        let (engine, user) = (Arc::clone(&self.engine), user.to_owned());
        let work = move || {
            // Held to the end of the check, also when the client has gone away meanwhile.
            let _permit = permit;
            engine.authenticate(&user, &password, Some(remote))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::panicked()),
        }
    }

    /// Returns when this user may be guessed again from this address.
    async fn wait_for_guess(&self, user: &str, remote: IpAddr) -> Result<(), Failure> {
        let pair = (user.to_owned(), network_of(remote));
        if self.guesses.len() >= MAX_PAIRS {
            self.guesses.retain_recent();
            if self.guesses.len() >= MAX_PAIRS {
                return Err(too_many(Duration::from_secs(10)));
            }
        }
        let mut place = None;
        loop {
            let Err(not_until) = self.guesses.check_key(&pair) else { return Ok(()) };
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            if place.is_none() {
                place = Some(self.waiting.try_acquire().map_err(|_| too_many(wait))?);
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn print(&self, user: &str, password: &Password) -> Print {
        // HMAC's two rounds; the length keeps user and password apart.
        let (inner, outer) = self.key.split_at(32);
        let round = Sha256::new()
            .chain_update(inner)
            .chain_update((user.len() as u64).to_be_bytes())
            .chain_update(user)
            .chain_update(password.expose())
            .finalize();
        Sha256::new().chain_update(outer).chain_update(round).finalize().into()
    }

    /// The password was right a short while ago and no account has changed since.
    fn is_fresh(&self, user: &str, print: &Print) -> Result<bool, Failure> {
        let accounts_version = self.accounts_version()?;
        let known = lock(&self.known);
        Ok(known.get(user).is_some_and(|it| {
            same(&it.print, print) && it.accounts_version == accounts_version && it.checked.elapsed() < self.ttl
        }))
    }

    /// The password was right at some time: it is no guess, though PAM must be asked again.
    fn was_right(&self, user: &str, print: &Print) -> bool {
        lock(&self.known).get(user).is_some_and(|it| same(&it.print, print))
    }

    fn accounts_version(&self) -> Result<u64, Failure> {
        // A few stat calls on files that are always in memory: no thread is worth it.
        Ok(self.engine.accounts_version()?)
    }
}

/// A place in the queue of requests with the same password. Given back also when the client goes away meanwhile.
struct Turn<'a> {
    running: &'a Mutex<HashMap<Print, Arc<tokio::sync::Mutex<()>>>>,
    print: Print,
    mutex: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> Turn<'a> {
    fn new(running: &'a Mutex<HashMap<Print, Arc<tokio::sync::Mutex<()>>>>, print: Print) -> Self {
        let mutex = Arc::clone(lock(running).entry(print).or_default());
        Turn { running, print, mutex }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut running = lock(self.running);
        // Two are left when nobody else waits: this one and the map's.
        if Arc::strong_count(&self.mutex) <= 2 {
            running.remove(&self.print);
        }
    }
}

fn same(one: &Print, other: &Print) -> bool {
    one.ct_eq(other).into()
}

/// Nothing that holds these locks can leave a half-made state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn too_many(wait: Duration) -> Failure {
    let seconds = wait.as_secs() + 1;
    Failure::new(&TOO_MANY_ATTEMPTS, format!("too many logins wait for their turn; try again in {seconds} s"))
        .with(axum::http::header::RETRY_AFTER, seconds.into())
}

/// The address as far as one holder of an IPv6 network cannot change it at will.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
