//! Sessions: the queue, and each one from PENDING to its end (contract section 14).

use std::sync::Arc;

use super::{Caller, Engine};
use crate::{
    catalog,
    error::{Error, Result},
    types::{
        RelationshipId, SessionId,
        selection::{Selection, SessionField},
        session::{Session, SessionRequest},
    },
};

impl Engine {
    /// The sessions that are selected, and how many there are without the page.
    pub fn sessions(&self, selection: &Selection<SessionField>) -> Result<(Vec<Session>, u64)> {
        let (rows, total) = self.catalog.read(|view| catalog::session::select(view, selection))?;
        Ok((rows.into_iter().map(|row| row.session).collect(), total))
    }

    /// One session.
    pub fn session(&self, id: SessionId) -> Result<Session> {
        let row = self.catalog.read(|view| catalog::session::find(view, id))?;
        Ok(row.ok_or_else(|| Error::not_found("session", id))?.session)
    }

    /// Puts a session into the queue; a new snapshot is made for it when none is named.
    pub fn create_session(
        self: &Arc<Self>,
        _caller: &Caller,
        _relationship: &RelationshipId,
        _request: SessionRequest,
    ) -> Result<Session> {
        Err(Error::State("not yet".to_owned()))
    }

    /// Ends a session that is not over. What was received is kept, so that the next one can go on there, unless it is to
    /// be discarded.
    pub fn cancel_session(self: &Arc<Self>, _caller: &Caller, _id: SessionId, _discard: bool) -> Result<Session> {
        Err(Error::State("not yet".to_owned()))
    }
}
