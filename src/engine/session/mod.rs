//! Sessions: the queue, and each one from PENDING to its end (contract section 14).
//!
//! A session is a row and, while it is at work, a thread. Rows are the truth: after a restart those that were not over
//! are put to work again, and go on where the stream was cut. [`source`] has what can be sent, [`plan`] decides what is,
//! [`run`] does it, [`throttle`] says how fast, [`base`] keeps what the next one builds on.

pub(super) mod base;
mod plan;
mod progress;
mod run;
mod source;
pub(super) mod throttle;

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::Transaction;

use self::progress::Progress;
use super::{Caller, Engine, snapshot::require_ready};
use crate::{
    catalog::{self, session::SessionRow},
    error::{Error, Result},
    types::{
        Invalid, RelationshipId, SessionId,
        relationship::Role,
        selection::{Selection, SessionField},
        session::{Session, SessionRequest, SessionStatus},
        snapshot::{Retention, SnapshotRequest},
    },
};

/// How long a session gets to end when it is told to.
const ENDING: Duration = Duration::from_secs(30);

/// Sessions that are at work at most, with those that wait for their next attempt.
const MOST: usize = 128;

/// A session at work.
pub(super) struct Control {
    relationship: RelationshipId,
    stop: AtomicBool,
    discard: AtomicBool,
    /// Why it was told to stop.
    reason: Mutex<String>,
    progress: Progress,
    place: Mutex<Place>,
}

/// What a session does with one of the places of which there are as many as sessions may be at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It has one.
    Taken,
    /// It needs none until its next attempt, so that a partner that is away keeps no others waiting.
    Left,
    /// It needs one again, before those that have not begun.
    Wanted,
}

/// Sessions at work.
#[derive(Default)]
pub(super) struct Sessions {
    running: Mutex<HashMap<SessionId, Arc<Control>>>,
    ended: Condvar,
}

impl Sessions {
    fn running(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Control>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place when one of `most` is free.
    fn take_place(&self, control: &Control, most: u64) -> bool {
        let running = self.running();
        let is_free = places(&running, &[Place::Taken]) < most;
        if is_free {
            control.set_place(Place::Taken);
        }
        is_free
    }

    /// Waits until none of those that `which` says is at work, at most `limit`; tells whether it came to that.
    fn wait(&self, limit: Duration, which: impl Fn(SessionId, &Control) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut running = self.running();
        while running.iter().any(|(id, control)| which(*id, control)) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            running = self.ended.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// How many of those at work do one of these with their place.
fn places(running: &HashMap<SessionId, Arc<Control>>, which: &[Place]) -> u64 {
    running.values().filter(|control| which.contains(&control.place())).count() as u64
}

impl Control {
    fn new(relationship: RelationshipId) -> Self {
        Control {
            relationship,
            stop: AtomicBool::new(false),
            discard: AtomicBool::new(false),
            reason: Mutex::default(),
            progress: Progress::default(),
            place: Mutex::new(Place::Taken),
        }
    }

    fn place(&self) -> Place {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_place(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    fn tell_to_stop(&self, reason: &str, discard: bool) {
        reason.clone_into(&mut self.reason.lock().unwrap_or_else(PoisonError::into_inner));
        self.discard.store(discard, Ordering::Relaxed);
        self.stop.store(true, Ordering::Release);
    }
}

/// Takes a session from the list of those at work, also when its thread panics.
struct AtWork<'a>(&'a Engine, SessionId);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.sessions.running().remove(&self.1);
        self.0.sessions.ended.notify_all();
    }
}

impl Engine {
    /// The sessions that are selected, and how many there are without the page.
    pub fn sessions(&self, selection: &Selection<SessionField>) -> Result<(Vec<Session>, u64)> {
        let (rows, total) = self.catalog.read(|view| catalog::session::select(view, selection))?;
        Ok((rows.into_iter().map(|row| self.present_session(row)).collect(), total))
    }

    /// One session.
    pub fn session(&self, id: SessionId) -> Result<Session> {
        self.session_row(id).map(|row| self.present_session(row))
    }

    fn session_row(&self, id: SessionId) -> Result<SessionRow> {
        let row = self.catalog.read(|view| catalog::session::find(view, id))?;
        row.ok_or_else(|| Error::not_found("session", id))
    }

    /// With what the one at work knows and has not written down.
    fn present_session(&self, row: SessionRow) -> Session {
        let mut session = row.session;
        if session.status == SessionStatus::Active
            && let Some(control) = self.sessions.running().get(&session.id)
        {
            let sent = control.progress.sent();
            session.sent = Some(session.sent.unwrap_or(0) + sent).filter(|sent| *sent > 0);
            session.message = control.progress.message().or(session.message);
            session.address = control.progress.address().or(session.address);
        }
        session
    }

    /// Puts a session into the queue; a new snapshot is made for it when none is named.
    pub fn create_session(
        self: &Arc<Self>,
        caller: &Caller,
        relationship: &RelationshipId,
        request: SessionRequest,
    ) -> Result<Session> {
        let row = self.ready_relationship(relationship)?;
        if row.role == Role::Replica {
            return Err(Error::State(format!(
                "this appliance has the replica of relationship {relationship}; sessions are started on partner {}",
                row.partner
            )));
        }
        let snapshot = match request.snapshot {
            Some(snapshot) => snapshot,
            None => {
                let retention = Retention { expires: None, locked: false };
                let request = SnapshotRequest { volumes: vec![row.volume], name: None, retention };
                let made = self.create_snapshots(caller, request)?;
                made.first().map(|snapshot| snapshot.id).ok_or_else(|| Error::not_found("snapshot", "just made"))?
            }
        };
        let snapshot_row = self.snapshot_row(snapshot)?;
        if snapshot_row.volume != row.volume {
            let fault = format!("snapshot {snapshot} is of volume {}, not of {}", snapshot_row.volume, row.volume);
            return Err(Invalid::new("snap_id", fault).into());
        }
        require_ready(&snapshot_row)?;
        let id = self.catalog.write(|transaction| -> Result<_> {
            // Nothing may end it in between without being seen.
            catalog::relationship::find(transaction, relationship)?
                .filter(|row| row.state == catalog::RowState::Ready)
                .ok_or_else(|| Error::not_found("relationship", relationship))?;
            let still = catalog::snapshot::find(transaction, snapshot)?;
            require_ready(&still.ok_or_else(|| Error::not_found("snapshot", snapshot))?)?;
            let preferences = catalog::partner::preferences(transaction)?;
            catalog::session::prune(transaction, preferences.session_history)?;
            let snapshot = Some((snapshot, &snapshot_row.name, snapshot_row.guid));
            let remote_name = request.remote_name.as_ref();
            Ok(catalog::session::insert(transaction, relationship, snapshot, remote_name, self.now())?)
        })?;
        tracing::info!(session.id = id.0, relationship.id = %relationship, snapshot.id = snapshot.0, "session queued");
        // As it is before it begins: the caller learns of the rest by asking.
        let queued = self.session(id)?;
        self.dispatch_sessions();
        Ok(queued)
    }

    /// Puts those to work that are next, as many as may be. What can't be read now is tried when the next one ends.
    pub(super) fn dispatch_sessions(self: &Arc<Self>) {
        if let Err(error) = self.try_dispatch() {
            tracing::error!(%error, "the queue of sessions can't be read");
        }
    }

    fn try_dispatch(self: &Arc<Self>) -> Result<()> {
        let mut running = self.sessions.running();
        if self.stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (open, preferences) = self
            .catalog
            .read(|view| -> Result<_> { Ok((catalog::session::open(view)?, catalog::partner::preferences(view)?)) })?;
        for row in open {
            let Session { id, relationship, .. } = row.session;
            let taken = places(&running, &[Place::Taken, Place::Wanted]);
            if taken >= preferences.parallel_sessions || running.len() >= MOST {
                break;
            }
            if running.contains_key(&id) || running.values().any(|control| control.relationship == relationship) {
                continue;
            }
            let control = Arc::new(Control::new(relationship));
            running.insert(id, Arc::clone(&control));
            let engine = Arc::clone(self);
            let thread = std::thread::Builder::new().name(format!("session {id}"));
            let spawned = thread.spawn(move || {
                let has_ended = {
                    let _at_work = AtWork(&engine, id);
                    engine.run_session(id, &control)
                };
                if has_ended {
                    engine.dispatch_sessions();
                }
            });
            if let Err(error) = spawned {
                running.remove(&id);
                return Err(crate::os::Error::io("starting a session", &error).into());
            }
        }
        Ok(())
    }

    /// Ends a session that is not over. What was received is kept, so that the next one can go on there, unless it is to
    /// be discarded.
    pub fn cancel_session(self: &Arc<Self>, _caller: &Caller, id: SessionId, discard: bool) -> Result<Session> {
        let over = |status: SessionStatus| Error::State(format!("session {id} is over: it is {}", status.word()));
        let row = self.session_row(id)?;
        if row.session.status.is_over() {
            return Err(over(row.session.status));
        }
        self.stop_session(id, "Canceled", discard)?;
        self.dispatch_sessions();
        let ended = self.session(id)?;
        // It may have come to its end before it heard of this.
        if ended.status == SessionStatus::Completed { Err(over(ended.status)) } else { Ok(ended) }
    }

    fn stop_session(&self, id: SessionId, reason: &str, discard: bool) -> Result<()> {
        {
            let running = self.sessions.running();
            match running.get(&id) {
                Some(control) => control.tell_to_stop(reason, discard),
                // None can begin while this lock is held.
                None => return self.fail_session(id, reason),
            }
        }
        if self.sessions.wait(ENDING, |other, _| other == id) {
            return Ok(());
        }
        Err(Error::Busy(format!("session {id} was told to end and has not come to it yet; look at it again")))
    }

    fn fail_session(&self, id: SessionId, reason: &str) -> Result<()> {
        self.update_session(id, |session| {
            session.status = SessionStatus::Failed;
            session.message = Some(reason.to_owned());
        })
    }

    /// Writes down how a session stands, unless it is over; with its end, how its relationship stands.
    fn update_session(&self, id: SessionId, change: impl FnOnce(&mut Session)) -> Result<()> {
        self.change_session(id, |_, session| {
            change(session);
            Ok(())
        })
    }

    /// As [`Engine::update_session`], with what else changes in the same moment.
    fn change_session(
        &self,
        id: SessionId,
        change: impl FnOnce(&Transaction<'_>, &mut Session) -> Result<()>,
    ) -> Result<()> {
        self.catalog.write(|transaction| -> Result<()> {
            let Some(mut row) = catalog::session::find(transaction, id)? else { return Ok(()) };
            if row.session.status.is_over() {
                return Ok(());
            }
            change(transaction, &mut row.session)?;
            let session = &mut row.session;
            if session.status.is_over() {
                session.ended = Some(self.now());
            }
            catalog::relationship::set_last(
                transaction,
                &session.relationship,
                session.status,
                session.local_snapshot.filter(|_| session.started.is_some()),
            )?;
            Ok(catalog::session::update(transaction, &row)?)
        })
    }

    /// Ends every session of a relationship.
    pub(super) fn end_sessions_of(&self, relationship: &RelationshipId, reason: &str) -> Result<()> {
        let open = self.catalog.read(|view| catalog::session::open_of(view, relationship))?;
        // The youngest first, so that none begins when another one ends.
        open.iter().rev().try_for_each(|row| self.stop_session(row.session.id, reason, false))
    }

    /// Lets all sessions end where they are, to go on at the next start.
    pub(super) fn suspend_sessions(&self, limit: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        self.deliveries().values().for_each(|process| process.kill());
        if !self.sessions.wait(limit, |_, _| true) {
            tracing::warn!("a session did not end in time; it goes on at the next start");
        }
        self.idle_links.close_all();
    }
}
