//! Talking to a partner over the link: the one that answers. Who asks is known from the key that opened the link, and
//! gets at nothing but what the two share.

use std::{
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Caller, Engine};
use crate::{
    catalog::{self, RowState},
    error::{Error, Result},
    os::{
        self, Kind,
        link::{read_text, write_text},
    },
    types::{
        RelationshipId, SystemId,
        link::{Answer, FailureKind, MAX_QUESTION, Message, Question, VERSION},
        network::{Interface, Service},
    },
};

/// How long a link may be silent between questions.
const SILENCE: Duration = Duration::from_secs(900);

/// The ends of a link.
pub(super) struct Ends<'a> {
    /// Address of this appliance that the partner came to, if that is known.
    pub(super) address: Option<IpAddr>,
    pub(super) input: &'a OwnedFd,
    pub(super) output: &'a OwnedFd,
}

impl Engine {
    /// Answers what a partner asks, until it closes the link or says something that makes no sense.
    pub fn serve_link(
        self: &Arc<Self>,
        partner: &SystemId,
        address: Option<IpAddr>,
        input: &OwnedFd,
        output: &OwnedFd,
    ) {
        let ends = Ends { address, input, output };
        let stop = || self.stopping.load(Ordering::Relaxed);
        loop {
            let text = match read_text(input, MAX_QUESTION, Some(SILENCE), &stop) {
                Ok(Some(text)) => text,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(partner.id = %partner, %error, "a link ended");
                    if error.kind == Kind::Denied {
                        self.reply(&ends, refuse(FailureKind::Invalid, error.detail));
                    }
                    break;
                }
            };
            let (answer, goes_on) = self.answer(partner, &text, &ends);
            if !self.reply(&ends, answer) || !goes_on {
                break;
            }
        }
    }

    /// False when nobody reads it any longer.
    pub(super) fn reply(&self, ends: &Ends<'_>, answer: Answer) -> bool {
        let stop = || self.stopping.load(Ordering::Relaxed);
        let message = Message { version: VERSION, body: answer };
        match serde_json::to_vec(&message) {
            Ok(text) => write_text(ends.output, &text, SILENCE, &stop).is_ok(),
            Err(error) => {
                tracing::error!(%error, "an answer to a partner can't be written");
                false
            }
        }
    }

    fn answer(self: &Arc<Self>, partner: &SystemId, text: &[u8], ends: &Ends<'_>) -> (Answer, bool) {
        let version = serde_json::from_slice::<Message<serde_json::Value>>(text).map(|message| message.version);
        if version.as_ref().is_ok_and(|version| *version != VERSION) {
            let message =
                format!("it speaks version {VERSION} of the link; update the older one of the two appliances");
            return (refuse(FailureKind::Invalid, message), false);
        }
        let question = match serde_json::from_slice::<Message<Question>>(text) {
            Ok(message) => message.body,
            Err(error) => return (refuse(FailureKind::Invalid, format!("that makes no sense: {error}")), false),
        };
        match self.carry_out_question(partner, question, ends) {
            Ok(Some(answer)) => (answer, true),
            // Nobody knows where the next question would begin.
            Ok(None) => (refuse(FailureKind::Broken, "the stream ended too early".to_owned()), false),
            Err((error, goes_on)) => {
                tracing::warn!(partner.id = %partner, %error, "a partner was refused");
                (refuse(kind(&error), error.to_string()), goes_on)
            }
        }
    }

    fn carry_out_question(
        self: &Arc<Self>,
        partner: &SystemId,
        question: Question,
        ends: &Ends<'_>,
    ) -> Result<Option<Answer>, (Error, bool)> {
        let goes_on = |error: Error| (error, true);
        let caller = Caller { user: format!("partner {partner}"), request_id: "link".to_owned() };
        let new = matches!(question, Question::Hello | Question::Confirm | Question::Forget);
        self.require_partner(partner, new).map_err(goes_on)?;
        let done = |()| Answer::Done;
        let answer = match question {
            Question::Hello => self.hello(),
            Question::Confirm => self.confirm_partner(partner).map(done),
            Question::Forget => self.forget_partner(partner).map(done),
            Question::CreateReplica(new) => self.create_replica(&caller, partner, new),
            Question::EndRelationship { relationship, preserve } => {
                self.end_relationship_for(&caller, partner, &relationship, preserve).map(done)
            }
            Question::State { relationship, volume_name } => {
                self.replica_state(partner, &relationship, volume_name.as_ref())
            }
            Question::Discard { relationship } => self.discard_delivery(partner, &relationship).map(done),
            Question::Receive(delivery) => {
                self.require_replication(ends.address).map_err(goes_on)?;
                return self.receive_delivery(partner, &delivery, ends);
            }
        };
        answer.map(Some).map_err(goes_on)
    }

    /// Fails for one that is no partner; `new`: one that is about to become one will do.
    fn require_partner(&self, id: &SystemId, new: bool) -> Result<()> {
        let row = self.catalog.read(|view| catalog::partner::find(view, id))?;
        match row.map(|row| row.state) {
            Some(RowState::Ready) => Ok(()),
            Some(RowState::Creating) if new => Ok(()),
            _ => Err(Error::not_found("partner", id)),
        }
    }

    fn hello(&self) -> Result<Answer> {
        Ok(Answer::Hello { id: self.id(), addresses: self.replication_addresses()? })
    }

    /// Where this appliance takes data.
    pub(super) fn replication_addresses(&self) -> Result<Vec<IpAddr>> {
        let networks = self.networks()?;
        let offering = networks.iter().filter(|network| network.services.has(Service::Repl));
        Ok(offering.flat_map(|network| network.interface.reachable()).collect())
    }

    /// Fails unless data may come in here: over an interface that has service `repl`. What is only asked may come over
    /// any that lets SSH in.
    fn require_replication(&self, address: Option<IpAddr>) -> Result<()> {
        let networks = self.networks()?;
        let has_address = |interface: &Interface| match address {
            Some(IpAddr::V4(address)) => interface.ip4_addrs.contains(&address),
            Some(IpAddr::V6(address)) => interface.ip6_addrs.contains(&address),
            None => false,
        };
        let came_over = networks.iter().find(|network| has_address(&network.interface));
        let why = match came_over {
            Some(network) if network.services.has(Service::Repl) => return Ok(()),
            Some(network) => format!("interface {} does not have service repl", network.interface.name),
            // An address that is no interface's own: the connection was led here.
            None if networks.iter().any(|network| network.services.has(Service::Repl)) => return Ok(()),
            None => "no interface has service repl".to_owned(),
        };
        // Busy: whoever asks tries again for a while, since another way may come back.
        Err(Error::Busy(format!("{why}, so no data is taken there; give it repl, or make one that has it reachable")))
    }

    /// A relationship that this partner may speak of.
    pub(super) fn relationship_with(
        &self,
        partner: &SystemId,
        id: &RelationshipId,
    ) -> Result<catalog::relationship::RelationshipRow> {
        let row = self.catalog.read(|view| catalog::relationship::find(view, id))?;
        // One of another partner is as good as none: nobody learns what others have.
        row.filter(|row| row.partner == *partner).ok_or_else(|| Error::not_found("relationship", id))
    }
}

fn refuse(kind: FailureKind, message: String) -> Answer {
    Answer::Failed { kind, message }
}

/// What an error means to a partner.
pub(super) fn kind(error: &Error) -> FailureKind {
    match error {
        Error::NotFound { .. } => FailureKind::NotFound,
        Error::Exists(_) => FailureKind::Exists,
        Error::Busy(_) | Error::System(os::Error { kind: Kind::TimedOut, .. }) => FailureKind::Busy,
        Error::NoSpace(_) | Error::System(os::Error { kind: Kind::NoSpace, .. }) => FailureKind::NoSpace,
        Error::State(_) | Error::NotInitialized { .. } | Error::Contradiction(_) | Error::Forbidden(_) => {
            FailureKind::State
        }
        Error::Invalid(_) | Error::InvalidCandidate { .. } => FailureKind::Invalid,
        Error::Partner(_) | Error::Catalog(_) | Error::System(_) => FailureKind::Other,
    }
}
