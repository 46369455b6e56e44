//! One session at work: attempts, until one comes to an end that lasts.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Control, Place,
    plan::{Conflict, Facts, Interrupted, Plan, Step, plan},
    progress,
    source::Source,
    throttle::Limits,
};
use crate::{
    catalog::{self, session::SessionRow},
    engine::{
        Engine,
        link::{Conversation, Trouble, UNSTOPPABLE},
        relationship_change::senseless,
    },
    error::{Error, Result},
    os::{
        self, Kind,
        link::{Pump, widen},
        process::Stream,
        stream::{Base, Sending, TokenFacts},
    },
    types::{
        Name, SessionId, SnapshotId, SystemId,
        link::{Answer, Delivery, FailureKind, Question, ReplicaSnapshot},
        session::SessionStatus,
    },
};

/// From one attempt to the next: first this, then twice as long each time, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How much is moved at once.
const PIECE: usize = 1 << 20;
/// An attempt that sent so many bytes got on, so that patience begins anew.
const GETS_ON: u64 = 1 << 20;
/// How long the partner gets to say why it takes no more.
const LAST_WORDS: Duration = Duration::from_secs(20);
/// How often one that needs a place looks for one.
const PLACES: Duration = Duration::from_millis(200);
/// How often limits are read again.
const LIMITS: Duration = Duration::from_secs(1);

/// The end that a session came to.
struct Arrived {
    snapshot: SnapshotId,
    name: Name,
    /// The newest snapshot that both sides have now, by its number here.
    base: Option<SnapshotId>,
}

impl Engine {
    /// Brings a session to its end, unless the appliance stops before that. False when its end can't be written down: then
    /// it is still open, and would begin anew at once.
    pub(super) fn run_session(self: &Arc<Self>, id: SessionId, control: &Control) -> bool {
        let outcome = self.try_session(id, control);
        let written = match outcome {
            Ok(Some(arrived)) => self.complete_session(id, control, arrived),
            // It goes on at the next start.
            Ok(None) => Ok(()),
            Err(reason) => {
                tracing::warn!(session.id = id.0, reason, "session failed");
                self.fail_session(id, &reason)
            }
        };
        if let Err(error) = &written {
            tracing::error!(session.id = id.0, %error, "the end of a session can't be written down; upkeep tries it again");
        }
        written.is_ok()
    }

    /// `None` when the appliance stops; an error is the message of a session that failed.
    fn try_session(self: &Arc<Self>, id: SessionId, control: &Control) -> Result<Option<Arrived>, String> {
        let words = |error: Error| error.to_string();
        self.update_session(id, |session| {
            session.status = SessionStatus::Active;
            session.started = session.started.or(Some(self.now()));
            session.message = None;
        })
        .map_err(words)?;
        let patience = Duration::from_secs(self.config.replication.retry_seconds);
        let (mut since, mut pause, mut resumable) = (Instant::now(), FIRST, true);
        // Whether what an attempt sent is kept shows when the next one begins: where, and since when it is there.
        let (mut place, mut there_since) = (None, since);
        loop {
            let row = self.session_row(id).map_err(words)?;
            let (trouble, resumed) = match self.attempt(&row, control, resumable) {
                Ok(arrived) => return Ok(Some(arrived)),
                Err(failure) => failure,
            };
            let (sent, address) = (control.progress.take_sent(), control.progress.address());
            self.update_session(id, |session| {
                session.sent = Some(session.sent.unwrap_or(0) + sent).filter(|sent| *sent > 0);
                session.address = address.or(session.address.take());
            })
            .map_err(words)?;
            if let Some((kept, began)) = control.progress.start() {
                if place.replace(kept) != Some(kept) {
                    there_since = began;
                }
                // When all attempts of so long a time came to nothing, the bytes of one more are no progress.
                if sent >= GETS_ON && began.saturating_duration_since(there_since) < patience {
                    (since, pause) = (Instant::now(), FIRST);
                }
            }
            // What was of no use has been replaced.
            resumable |= !resumed && sent > 0;
            let why = match trouble {
                Trouble::Stopped => return self.stopped(&row, control),
                Trouble::Unreachable(why)
                | Trouble::Refused(FailureKind::Busy | FailureKind::Broken, why)
                | Trouble::Local(Error::Busy(why)) => why,
                // The name that was asked for is taken there, or there is no room: nothing is wrong with what was received.
                Trouble::Refused(FailureKind::Exists | FailureKind::NoSpace, why) => return Err(why),
                // What was kept of an interrupted stream is of no use: once more without it.
                Trouble::Refused(_, why) if resumed && resumable => {
                    tracing::warn!(session.id = id.0, why, "an interrupted stream can't go on; it begins anew");
                    resumable = false;
                    continue;
                }
                Trouble::Refused(_, why) | Trouble::Unwelcome(why) => return Err(why),
                Trouble::Local(error) => return Err(error.to_string()),
            };
            if since.elapsed() >= patience {
                return Err(format!("given up after {} s without getting on: {why}", patience.as_secs()));
            }
            tracing::info!(session.id = id.0, why, "a session is interrupted");
            control.progress.say(Some(format!("interrupted, trying again: {why}")));
            let Some(queued) = self.wait_for_next(control, pause).map_err(words)? else {
                return self.stopped(&row, control);
            };
            since += queued;
            there_since += queued;
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Between two attempts: others may have the place meanwhile. Tells how long it took until there was one again, or that
    /// the session is to stop.
    fn wait_for_next(self: &Arc<Self>, control: &Control, pause: Duration) -> Result<Option<Duration>> {
        control.set_place(Place::Left);
        self.dispatch_sessions();
        let goes_on = self.pause(control, pause);
        control.set_place(Place::Wanted);
        let began = Instant::now();
        while goes_on && !self.is_stopped(control) {
            let most = self.catalog.read(catalog::partner::preferences)?.parallel_sessions;
            if self.sessions.take_place(control, most) {
                return Ok(Some(began.elapsed()));
            }
            std::thread::sleep(PLACES);
        }
        Ok(None)
    }

    /// False when it is to stop meanwhile.
    fn pause(&self, control: &Control, time: Duration) -> bool {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.is_stopped(control) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50).min(time));
        }
        !self.is_stopped(control)
    }

    fn is_stopped(&self, control: &Control) -> bool {
        control.stop.load(Ordering::Acquire) || self.stopping.load(Ordering::Relaxed)
    }

    fn stopped(&self, row: &SessionRow, control: &Control) -> Result<Option<Arrived>, String> {
        if !control.stop.load(Ordering::Acquire) {
            return Ok(None);
        }
        if control.discard.load(Ordering::Relaxed)
            && let Err(error) = self.discard_remote(row)
        {
            tracing::warn!(session.id = row.session.id.0, %error, "what was received is still kept by the partner");
        }
        Err(control.reason.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn discard_remote(&self, row: &SessionRow) -> Result<()> {
        let relationship = self.ready_relationship(&row.session.relationship)?;
        let partner = self.ready_partner(&relationship.partner)?;
        let question = Question::Discard { relationship: relationship.id };
        self.ask_partner(&partner, &question).map(drop).map_err(|trouble| trouble.into_error(&partner))
    }

    fn complete_session(&self, id: SessionId, control: &Control, arrived: Arrived) -> Result<()> {
        let row = self.session_row(id)?;
        self.change_session(id, |transaction, session| {
            let sent = session.sent.unwrap_or(0) + control.progress.sent();
            session.status = SessionStatus::Completed;
            session.address = control.progress.address().or(session.address.take());
            session.remote_snapshot = Some(arrived.snapshot);
            session.remote_name = Some(arrived.name);
            session.sent = Some(sent);
            let seconds = session.started.map_or(0, |started| self.now().0 - started.0);
            session.message = Some(format!("{} sent in {seconds} s", progress::bytes(sent as f64)));
            Ok(catalog::relationship::set_base(transaction, &session.relationship, arrived.base)?)
        })?;
        tracing::info!(session.id = id.0, relationship.id = %control.relationship, "session completed");
        // What the sessions before this one needed is needed no more; what can't be removed now is so after the next one.
        let relationship = self.relationship_row(&row.session.relationship)?;
        if let Err(error) = self.volume_row(relationship.volume).and_then(|volume| self.drop_bookmarks(&volume, None)) {
            tracing::warn!(session.id = id.0, %error, "bookmarks that nobody needs could not be removed");
        }
        Ok(())
    }

    /// Also tells whether it was the rest of an interrupted stream that made trouble.
    fn attempt(&self, row: &SessionRow, control: &Control, resumable: bool) -> Result<Arrived, (Trouble, bool)> {
        let fresh = |trouble: Trouble| (trouble, false);
        let relationship = self.ready_relationship(&row.session.relationship).map_err(|error| fresh(error.into()))?;
        let partner = self.ready_partner(&relationship.partner).map_err(|error| fresh(error.into()))?;
        // What SSH takes to log in is enough to look at the volume.
        let (source, conversation) = std::thread::scope(|scope| {
            let link = scope.spawn(|| self.session_link(&partner, &|| self.is_stopped(control)));
            let source = self.source(&relationship, row.guid);
            (source, link.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (source, conversation) = (source.map_err(|error| fresh(error.into()))?, conversation.map_err(fresh)?);
        control.progress.reached(conversation.address.clone());
        let arrived = self.bring_up_to_date(row, control, &source, &conversation, resumable)?;
        self.keep_link(&partner, conversation);
        Ok(arrived)
    }

    /// Sends what the replica lacks. Tells of trouble as [`Engine::attempt`] does.
    fn bring_up_to_date(
        &self,
        row: &SessionRow,
        control: &Control,
        source: &Source,
        conversation: &Conversation,
        resumable: bool,
    ) -> Result<Arrived, (Trouble, bool)> {
        let fresh = |trouble: Trouble| (trouble, false);
        let stop = || self.is_stopped(control);
        let relationship = &row.session.relationship;
        let volume_name = Some(source.volume.name.clone());
        let question = Question::State { relationship: relationship.clone(), volume_name };
        let answer = conversation.ask(&question, &stop).map_err(fresh)?;
        let Answer::State { snapshots, token, volume_name } = answer else {
            return Err(fresh(senseless(&source.partner).into()));
        };
        let interrupted = match token.as_deref() {
            Some(token) => self.token_facts(token).map_err(|error| fresh(error.into()))?,
            None => None,
        };
        let kept = interrupted.as_ref().map(|token| (token.guid, token.bytes));
        control.progress.begins_at((snapshots.last().map(|snapshot| snapshot.guid), kept));
        let facts = Facts {
            wanted: row.guid.unwrap_or(0),
            source: source.points.clone(),
            replica: snapshots.iter().map(|snapshot| snapshot.guid).collect(),
            interrupted: interrupted
                .filter(|_| resumable)
                .map(|token| Interrupted { guid: token.guid, base: token.base }),
            has_token: token.is_some(),
        };
        let common = facts.replica.iter().rev().find_map(|guid| source.numbers.get(guid)).copied();
        self.note_replica(relationship, common, volume_name.as_ref()).map_err(|error| fresh(error.into()))?;
        let (discard, steps) = match plan(&facts) {
            Plan::UpToDate => return there_already(&snapshots, facts.wanted, common).map_err(fresh),
            Plan::Conflict(conflict) => {
                return Err(fresh(Trouble::Refused(FailureKind::State, describe(&conflict, row, &snapshots))));
            }
            Plan::Send { discard, steps } => (discard, steps),
        };
        if discard {
            let question = Question::Discard { relationship: relationship.clone() };
            conversation.ask(&question, &stop).map_err(fresh)?;
        }
        let mut arrived: Option<Arrived> = None;
        for step in steps {
            let resumed = matches!(step, Step::Resume { .. });
            if let Some(arrived) = &arrived {
                // The newest of the replica now, which needs its bookmark until the next step has arrived as well.
                self.note_replica(relationship, arrived.base, None).map_err(|error| fresh(error.into()))?;
            }
            let sent = self.send_step(row, control, source, conversation, step, token.as_deref());
            arrived = Some(sent.map_err(|trouble| (trouble, resumed))?);
        }
        arrived.ok_or_else(|| fresh(senseless(&source.partner).into()))
    }

    /// What a token says that fits this side; one that can't be read is as good as none.
    fn token_facts(&self, token: &str) -> Result<Option<TokenFacts>> {
        let facts = self.zfs.read_token(token)?;
        if facts.is_none() {
            tracing::warn!(token, "what an interrupted stream left can't be read, so it begins anew");
        }
        Ok(facts)
    }

    fn send_step(
        &self,
        row: &SessionRow,
        control: &Control,
        source: &Source,
        conversation: &Conversation,
        step: Step,
        token: Option<&str>,
    ) -> Result<Arrived, Trouble> {
        let wanted = row.guid.unwrap_or(0);
        let (to, base) = match step {
            Step::Full => (wanted, None),
            Step::Incremental { from } => (wanted, Some(from.guid)),
            Step::Resume { to, base } => (to, base),
        };
        let number = |guid: u64| source.numbers.get(&guid).copied().ok_or_else(|| Error::not_found("snapshot", guid));
        let target = number(to)?;
        let snapshot = source.dataset.snapshot(target);
        let sending = match (step, token) {
            (Step::Resume { .. }, Some(token)) => Sending::Rest { token: token.to_owned(), raw: source.raw },
            (Step::Incremental { from }, _) => {
                let number = number(from.guid)?;
                let base = match from.is_bookmark {
                    true => Base::Bookmark(source.dataset.bookmark(number)),
                    false => Base::Snapshot(source.dataset.snapshot(number)),
                };
                Sending::Snapshot { snapshot: snapshot.clone(), base: Some(base), raw: source.raw }
            }
            _ => Sending::Snapshot { snapshot: snapshot.clone(), base: None, raw: source.raw },
        };
        self.note_sending(&row.session.relationship, &source.dataset, target)?;
        let total = self.zfs.stream_size(&sending).map_err(vanished)?;
        let (name, exact_name) = self.name_there(row, target)?;
        let delivery = Delivery {
            relationship: row.session.relationship.clone(),
            guid: to,
            name,
            exact_name,
            base,
            resume: matches!(step, Step::Resume { .. }),
            raw: source.raw,
        };
        let stop = || self.is_stopped(control);
        // It starts while the partner makes ready; before it is read it gets no further than a full pipe.
        let stream = self.zfs.send(&sending)?;
        match conversation.ask(&Question::Receive(delivery), &stop)? {
            Answer::Ready => {}
            _ => return Err(senseless(&source.partner).into()),
        }
        control.progress.begin(total);
        self.send_stream(control, source, conversation, &stream)?;
        control.progress.say(Some("waiting for the partner to finish".to_owned()));
        match conversation.answer(Some(self.stall()), &stop)? {
            Answer::Received { snapshot, name } => Ok(Arrived { snapshot, name, base: Some(target) }),
            _ => Err(senseless(&source.partner).into()),
        }
    }

    /// Name that the snapshot shall have on the replica, and whether a client asked for it: until a session is over its row
    /// has no other.
    fn name_there(&self, row: &SessionRow, snapshot: SnapshotId) -> Result<(Name, bool)> {
        let session = &row.session;
        if session.local_snapshot != Some(snapshot) {
            return Ok((self.snapshot_row(snapshot)?.name, false));
        }
        if let Some(name) = session.remote_name.clone() {
            return Ok((name, true));
        }
        let name = session.local_name.clone().ok_or_else(|| Error::not_found("snapshot", snapshot))?;
        Ok((name, false))
    }

    fn send_stream(
        &self,
        control: &Control,
        source: &Source,
        conversation: &Conversation,
        stream: &Stream,
    ) -> Result<(), Trouble> {
        let stop = || self.is_stopped(control);
        let output = &conversation.link.output;
        widen(&stream.output);
        widen(output);
        let (patience, mut pump) = (self.stall(), Pump::new(&stream.output, output));
        let (mut limits, mut read) = (self.limits(&source.partner)?, Instant::now());
        loop {
            match pump.pass(limits.piece(PIECE), patience, &stop) {
                Ok(0) => break,
                Ok(count) => {
                    control.progress.add(count);
                    let wait = self.throttle.count(&source.partner, limits, count);
                    if !wait.is_zero() && !self.pause(control, wait) {
                        stream.process.kill();
                        return Err(Trouble::Stopped);
                    }
                }
                Err(error) => {
                    stream.process.kill();
                    if stop() {
                        return Err(Trouble::Stopped);
                    }
                    if error.kind == Kind::TimedOut {
                        let why = format!("{}: nothing moved for {} s", error.action, patience.as_secs());
                        return Err(Trouble::Unreachable(why));
                    }
                    // The link is gone, or the partner has closed it: perhaps it has said why.
                    let words = conversation.answer(Some(LAST_WORDS), UNSTOPPABLE);
                    return Err(words.err().unwrap_or_else(|| Trouble::Unreachable(error.to_string())));
                }
            }
            if read.elapsed() >= LIMITS {
                (limits, read) = (self.limits(&source.partner)?, Instant::now());
            }
        }
        Ok(stream.process.wait().map_err(|error| {
            tracing::warn!(volume.id = source.volume.id.0, %error, "zfs send failed");
            error
        })?)
    }

    /// How long a stream may stand still.
    fn stall(&self) -> Duration {
        Duration::from_secs(self.config.replication.stall_seconds)
    }

    fn limits(&self, partner: &SystemId) -> Result<Limits> {
        self.catalog.read(|view| {
            let row = catalog::partner::find(view, partner)?;
            let overall = catalog::partner::preferences(view)?.rate_limit;
            Ok(Limits { partner: row.and_then(|row| row.rate_limit), overall })
        })
    }
}

/// What was planned with may be deleted a moment later: then the next attempt plans anew, and knows.
pub(super) fn vanished(error: os::Error) -> Trouble {
    match error.kind {
        Kind::Missing => Trouble::Refused(FailureKind::Busy, error.to_string()),
        _ => error.into(),
    }
}

fn there_already(snapshots: &[ReplicaSnapshot], guid: u64, base: Option<SnapshotId>) -> Result<Arrived, Trouble> {
    let found = snapshots.iter().find(|snapshot| snapshot.guid == guid).and_then(|snapshot| snapshot.known.clone());
    let (snapshot, name) = found.ok_or_else(|| {
        let why = "the snapshot is on the replica, but the partner's catalog does not know it".to_owned();
        Trouble::Refused(FailureKind::State, why)
    })?;
    Ok(Arrived { snapshot, name, base })
}

fn describe(conflict: &Conflict, row: &SessionRow, snapshots: &[ReplicaSnapshot]) -> String {
    let local = row.session.local_snapshot.map_or_else(|| "?".to_owned(), |snapshot| snapshot.to_string());
    match conflict {
        Conflict::Gone => format!("snapshot {local} was deleted before it was sent"),
        Conflict::NothingInCommon => {
            "the replica has no snapshot in common with the volume any longer; delete the relationship and make a new one \
             to send everything anew"
                .to_owned()
        }
        Conflict::Newer(guids) => {
            let named = snapshots.iter().filter(|snapshot| guids.contains(&snapshot.guid));
            let names: Vec<&str> = named.take(10).map(|snapshot| snapshot.zfs_name.as_str()).collect();
            format!(
                "after the last snapshot in common the replica has some that the volume does not know, or knows no longer: \
                 {}; delete the relationship and make a new one to send everything anew, or, if nobody needs them, \
                 destroy them on the partner",
                names.join(", ")
            )
        }
        Conflict::Older => format!("the replica has a snapshot that is younger than {local}, so that can't follow"),
    }
}
