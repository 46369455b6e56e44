//! Talking to a partner over the link: the one that asks.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::Engine;
use crate::{
    catalog::{self, partner::PartnerRow},
    error::Error,
    os::{
        self, Kind,
        link::{Stop, read_text, write_text},
        peers::{Contact, Link},
    },
    types::{
        SystemId,
        link::{Answer, FailureKind, MAX_ANSWER, Message, Question, VERSION},
        partner::Address,
    },
};

/// How long a partner may think about a question; making or removing a replica takes a few transaction groups.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long opening a link may take, with all that SSH does.
const OPENING: Duration = Duration::from_secs(30);

/// How long SSH gets to end by itself after its link has.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Links to one partner that stay open at most when nobody needs them.
const IDLE: usize = 4;
/// How long one that stayed open may take to answer before it is given up for a new one.
const AWAKE: Duration = Duration::from_secs(3);

/// For those who can't be stopped.
pub(super) const UNSTOPPABLE: Stop<'static> = &|| false;

/// Why a partner did not do what it was asked for.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The link can't be opened, or broke. Trying again may help.
    Unreachable(String),
    /// It does not take this appliance's key.
    Unwelcome(String),
    /// It answered that it won't.
    Refused(FailureKind, String),
    /// It is this side that failed.
    Local(Error),
    /// This side was told to stop.
    Stopped,
}

impl Trouble {
    /// As an error of the API.
    pub(super) fn into_error(self, partner: &PartnerRow) -> Error {
        let who = format!("partner {} ({})", partner.id, partner.address);
        match self {
            Trouble::Unreachable(why) => Error::Partner(format!("{who} can't be reached: {why}")),
            Trouble::Unwelcome(why) => Error::Partner(format!("{who}: {why}")),
            Trouble::Refused(kind, why) => {
                let message = format!("{who} says: {why}");
                match kind {
                    FailureKind::Exists => Error::Exists(message),
                    FailureKind::Busy => Error::Busy(message),
                    FailureKind::NoSpace => Error::NoSpace(message),
                    FailureKind::NotFound | FailureKind::State | FailureKind::Invalid => Error::State(message),
                    FailureKind::Broken | FailureKind::Other => Error::Partner(message),
                }
            }
            Trouble::Local(error) => error,
            Trouble::Stopped => Error::State("the appliance is stopping".to_owned()),
        }
    }
}

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Trouble::Local(error.into())
    }
}

/// An open link to a partner.
pub(super) struct Conversation {
    pub(super) link: Link,
    pub(super) address: Address,
}

impl Conversation {
    pub(super) fn ask(&self, question: &Question, stop: Stop<'_>) -> Result<Answer, Trouble> {
        self.ask_within(question, PATIENCE, stop)
    }

    fn ask_within(&self, question: &Question, limit: Duration, stop: Stop<'_>) -> Result<Answer, Trouble> {
        let message = Message { version: VERSION, body: question };
        let text = serde_json::to_vec(&message).map_err(|error| Error::Contradiction(error.to_string()))?;
        write_text(&self.link.output, &text, limit, stop).map_err(|error| self.broken(&error, stop))?;
        self.answer(Some(limit), stop)
    }

    /// The next answer.
    pub(super) fn answer(&self, limit: Option<Duration>, stop: Stop<'_>) -> Result<Answer, Trouble> {
        let text = read_text(&self.link.input, MAX_ANSWER, limit, stop).map_err(|error| self.broken(&error, stop))?;
        let Some(text) = text else { return Err(self.ended()) };
        let message: Message<Answer> = serde_json::from_slice(&text)
            .map_err(|error| Trouble::Unreachable(format!("its answer can't be read: {error}")))?;
        match message.body {
            Answer::Failed { kind, message } => Err(Trouble::Refused(kind, message)),
            answer => Ok(answer),
        }
    }

    fn broken(&self, error: &os::Error, stop: Stop<'_>) -> Trouble {
        if stop() {
            return Trouble::Stopped;
        }
        match error.kind {
            Kind::TimedOut => Trouble::Unreachable(format!("no answer from {}", self.address)),
            // Too long a text: SSH has nothing to say about that.
            Kind::Denied => Trouble::Unreachable(format!("{}: {}", self.address, error.detail)),
            _ => self.ended(),
        }
    }

    /// The end of SSH. A partner can close its side of the link and leave SSH running; then it is ended here.
    fn last_words(&self) -> os::Result<()> {
        let (ended, is_ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if is_ended.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
                    self.link.process.kill();
                }
            });
            let end = self.link.process.wait();
            drop(ended);
            end
        })
    }

    /// What SSH said when the link ended.
    fn ended(&self) -> Trouble {
        let address = &self.address;
        match self.last_words() {
            Err(error) if error.kind == Kind::Denied && !error.detail.contains("Permission denied") => {
                Trouble::Unreachable(format!(
                    "the SSH server at {address} has another host key than the one that was agreed on, so it may be \
                     somebody else's; if its keys were changed on purpose, add the partner once more to renew them"
                ))
            }
            Err(error) if error.kind == Kind::Denied => Trouble::Unwelcome(format!(
                "the SSH server at {address} does not take this appliance's key; if it has removed the partnership, \
                 remove it here with force, or add the partner once more to renew it"
            )),
            Err(error) => Trouble::Unreachable(format!("{address}: {}", error.detail)),
            Ok(()) => Trouble::Unreachable(format!("{address} closed the link")),
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.link.process.kill();
    }
}

/// Links that sessions have left open, by partner, the one that was needed last at the end.
#[derive(Default)]
pub(super) struct IdleLinks(Mutex<HashMap<SystemId, Vec<(Instant, Conversation)>>>);

impl IdleLinks {
    fn links(&self) -> MutexGuard<'_, HashMap<SystemId, Vec<(Instant, Conversation)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, partner: &SystemId) -> Option<Conversation> {
        self.links().get_mut(partner)?.pop().map(|(_, conversation)| conversation)
    }

    fn keep(&self, partner: SystemId, conversation: Conversation) {
        let mut links = self.links();
        let idle = links.entry(partner).or_default();
        idle.push((Instant::now(), conversation));
        let surplus = idle.len().saturating_sub(IDLE);
        // They end when nobody else waits for them.
        let ended: Vec<_> = idle.drain(..surplus).collect();
        drop(links);
        drop(ended);
    }

    /// Closes those to one partner.
    pub(super) fn close_those_of(&self, partner: &SystemId) {
        let ended = self.links().remove(partner);
        drop(ended);
    }

    /// Closes those that nobody needed for so long.
    pub(super) fn close_old(&self, limit: Duration) {
        let mut ended = Vec::new();
        self.links().retain(|_, idle| {
            ended.extend(idle.extract_if(.., |(since, _)| since.elapsed() >= limit));
            !idle.is_empty()
        });
        drop(ended);
    }

    /// Closes all of them.
    pub(super) fn close_all(&self) {
        let ended = std::mem::take(&mut *self.links());
        drop(ended);
    }
}

impl Engine {
    /// A link for a session: one that an earlier one has left open, if it is awake and leads where a new one would.
    pub(super) fn session_link(&self, partner: &PartnerRow, stop: Stop<'_>) -> Result<Conversation, Trouble> {
        if let Some(conversation) = self.idle_links.take(&partner.id) {
            match self.greet(partner, &conversation, AWAKE, stop) {
                Ok(offered) if self.ways_to(partner, &offered)?.first() == Some(&conversation.address) => {
                    return Ok(conversation);
                }
                Err(Trouble::Stopped) => return Err(Trouble::Stopped),
                // The others are no better. What is the matter shows when a new one is opened.
                _ => self.idle_links.close_those_of(&partner.id),
            }
        }
        self.open_link(partner, stop)
    }

    /// Leaves a link open for the next session, when all that was asked has been answered.
    pub(super) fn keep_link(&self, partner: &PartnerRow, conversation: Conversation) {
        if self.config.replication.link_seconds > 0 {
            self.idle_links.keep(partner.id.clone(), conversation);
        }
    }

    /// Opens a link to a partner on one of its addresses: the management address when that has service `repl` or none is
    /// known to have it, then those that have it, then the management address all the same.
    pub(super) fn open_link(&self, partner: &PartnerRow, stop: Stop<'_>) -> Result<Conversation, Trouble> {
        let mut first: Option<Trouble> = None;
        for address in self.ways_to(partner, &partner.addresses)? {
            let contact = Contact { partner: partner.id.clone(), address, port: partner.ssh_port };
            match self.try_link(partner, contact, stop) {
                Ok(conversation) => return Ok(conversation),
                Err(trouble @ (Trouble::Unreachable(_) | Trouble::Unwelcome(_))) => first = first.or(Some(trouble)),
                Err(trouble) => return Err(trouble),
            }
        }
        Err(first.unwrap_or_else(|| Trouble::Unreachable("it has no address".to_owned())))
    }

    fn try_link(&self, partner: &PartnerRow, contact: Contact, stop: Stop<'_>) -> Result<Conversation, Trouble> {
        let link = self.peers.connect(&contact).map_err(|error| Trouble::Unreachable(error.to_string()))?;
        let conversation = Conversation { link, address: contact.address };
        self.greet(partner, &conversation, OPENING, stop)?;
        Ok(conversation)
    }

    /// Makes sure that it is this partner, and tells where that takes data now.
    fn greet(
        &self,
        partner: &PartnerRow,
        conversation: &Conversation,
        limit: Duration,
        stop: Stop<'_>,
    ) -> Result<Vec<IpAddr>, Trouble> {
        let Answer::Hello { id, addresses } = conversation.ask_within(&Question::Hello, limit, stop)? else {
            return Err(Trouble::Unreachable("what it answered makes no sense".to_owned()));
        };
        if id != partner.id {
            return Err(Trouble::Unreachable(format!("the appliance there is now {id}")));
        }
        if addresses != partner.addresses {
            self.catalog.write(|transaction| catalog::partner::set_addresses(transaction, &id, &addresses))?;
        }
        Ok(addresses)
    }

    /// Addresses of a partner in the order in which they are tried. `offered`: those on which it takes data.
    fn ways_to(&self, partner: &PartnerRow, offered: &[IpAddr]) -> Result<Vec<Address>, Trouble> {
        let own = self.machine.interfaces()?;
        let own: Vec<IpAddr> = own.iter().flat_map(|interface| interface.reachable()).collect();
        Ok(addresses(&partner.address, offered, &own))
    }

    /// Opens a link, asks one question, and closes it.
    pub(super) fn ask_partner(&self, partner: &PartnerRow, question: &Question) -> Result<Answer, Trouble> {
        self.open_link(partner, UNSTOPPABLE)?.ask(question, UNSTOPPABLE)
    }

    /// Fails unless the partner answers: before anything is changed that it has to know of.
    pub(super) fn require_reachable(&self, partner: &PartnerRow) -> crate::error::Result<()> {
        self.open_link(partner, UNSTOPPABLE).map(drop).map_err(|trouble| trouble.into_error(partner))
    }
}

/// `own`: addresses of this appliance. Two networks that are not joined may use the same ones, and there it would only
/// reach itself.
fn addresses(management: &Address, offered: &[IpAddr], own: &[IpAddr]) -> Vec<Address> {
    let offered = offered.iter().filter(|address| !own.contains(address));
    let offered: Vec<Address> = offered.copied().map(Address::from).collect();
    let mut all = Vec::new();
    if offered.is_empty() || offered.contains(management) {
        all.push(management.clone());
    }
    for address in offered.into_iter().chain([management.clone()]) {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::os::process::Process;

    /// Goes on until it is killed.
    struct Endless(Mutex<mpsc::Receiver<()>>, Mutex<mpsc::Sender<()>>);

    impl Process for Endless {
        fn wait(&self) -> os::Result<()> {
            self.0.lock().unwrap().recv().unwrap();
            Ok(())
        }

        fn kill(&self) {
            let _ = self.1.lock().unwrap().send(());
        }
    }

    #[test]
    fn a_link_that_is_closed_while_ssh_goes_on_has_an_end() {
        let ((input, their_output), (_their_input, output)) =
            (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
        let (sender, receiver) = mpsc::channel();
        let process = Arc::new(Endless(Mutex::new(receiver), Mutex::new(sender)));
        let address = Address::from(IpAddr::from([192, 0, 2, 1]));
        let conversation = Conversation { link: Link { input, output, process }, address };
        drop(their_output);
        let trouble = conversation.answer(Some(Duration::from_secs(60)), UNSTOPPABLE).unwrap_err();
        assert!(matches!(&trouble, Trouble::Unreachable(why) if why.contains("closed the link")), "{trouble:?}");
    }
}
