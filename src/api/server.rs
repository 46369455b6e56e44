//! Listeners, their limits, and how they stop.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Ready, ready},
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Router, http::Request};
use axum_server::{
    Address, Handle, Server,
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{
    net::{TcpStream, UnixStream},
    runtime,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tower::Service;

use super::{
    auth::Origin,
    listeners::{self, Place},
    socket::LocalSocket,
};
use crate::config::Config;

/// Connections at a time over the network; more are closed at once.
const MAX_CONNECTIONS: usize = 1000;

/// Connections at a time over the Unix socket, which has its own share, so that root always gets in.
const MAX_LOCAL_CONNECTIONS: usize = 100;

/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;

/// How often an HTTP/2 client is asked whether it is there, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Largest header of an HTTP/2 request; HTTP/1 requests have a limit of about 400 KB for all of it in hyper.
const MAX_HEADER_BYTES: u32 = 64 * 1024;

/// Why the API can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address or the socket can't be listened on.
    #[error("cannot listen on {place}: {error}")]
    Listen {
        /// Address or path.
        place: String,
        /// Why.
        error: io::Error,
    },
}

/// Places that are listened on, but not served yet: what can go wrong with them goes wrong at start.
pub struct Listeners {
    network: Vec<TcpListener>,
    socket: LocalSocket,
    local: std::os::unix::net::UnixListener,
}

impl Listeners {
    /// Binds every address of `config.listen` and `config.socket`.
    pub fn bind(config: &Config) -> Result<Self, Error> {
        let network = listeners::bind_all(&config.listen, &None)
            .map_err(|(address, error)| Error::Listen { place: address.to_string(), error })?;
        let (socket, local) = LocalSocket::bind(&config.socket)
            .map_err(|error| Error::Listen { place: config.socket.display().to_string(), error })?;
        Ok(Listeners { network, socket, local })
    }
}

/// The API, being served.
pub struct Running {
    addresses: Vec<SocketAddr>,
    network: Arc<Mutex<Network>>,
    local: Handle<std::os::unix::net::SocketAddr>,
    local_task: JoinHandle<()>,
    failures: mpsc::UnboundedReceiver<io::Error>,
    /// Its file is removed when the last connection is gone.
    socket: LocalSocket,
}

/// The API over the network.
struct Network {
    /// Those of the configuration, with the ports that were chosen where it says 0.
    addresses: Vec<SocketAddr>,
    router: Router,
    tls: RustlsConfig,
    gate: Gate,
    header_time: Duration,
    handle: Handle<SocketAddr>,
    /// What takes connections, by where it listens; `None` when no more shall be taken.
    open: Option<BTreeMap<Place, Vec<JoinHandle<()>>>>,
    failures: mpsc::UnboundedSender<io::Error>,
}

/// Serves `router`. A certificate put into `tls` later is used for the connections that come then.
pub fn serve(listeners: Listeners, router: Router, tls: RustlsConfig, config: &Config) -> io::Result<Running> {
    let header_time = Duration::from_secs(config.limits.header_seconds.max(1));
    let (failures, failed) = mpsc::unbounded_channel();
    let addresses: Vec<SocketAddr> =
        listeners.network.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    let mut network = Network {
        addresses: addresses.clone(),
        router: router.clone(),
        tls,
        gate: Gate::new(MAX_CONNECTIONS),
        header_time,
        handle: Handle::new(),
        open: Some(BTreeMap::new()),
        failures: failures.clone(),
    };
    network.serve(None, listeners.network)?;
    let local = Handle::new();
    let gate = Gate::new(MAX_LOCAL_CONNECTIONS);
    let mut server = axum_server::from_unix(listeners.local)?.acceptor(gate).handle(local.clone());
    limit(&mut server, header_time);
    let local_task = tokio::spawn(until_it_ends(server.serve(router.into_make_service()), failures));
    let network = Arc::new(Mutex::new(network));
    Ok(Running { addresses, network, local, local_task, failures: failed, socket: listeners.socket })
}

/// Nothing takes connections any more when this has ended by itself.
async fn until_it_ends(serving: impl Future<Output = io::Result<()>>, failures: mpsc::UnboundedSender<io::Error>) {
    let error = serving.await.err().unwrap_or_else(|| io::Error::other("a listener ended"));
    // Nobody listens when the daemon stops.
    let _ = failures.send(error);
}

impl Network {
    /// Takes connections at this place, unless the daemon stops.
    fn serve(&mut self, place: Place, listeners: Vec<TcpListener>) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let mut tasks = Vec::new();
        for listener in listeners {
            let acceptor = RustlsAcceptor::new(self.tls.clone()).handshake_timeout(self.header_time);
            let acceptor = acceptor.acceptor(self.gate.clone());
            let mut server = axum_server::from_tcp(listener)?.acceptor(acceptor).handle(self.handle.clone());
            limit(&mut server, self.header_time);
            let serving = server.serve(self.router.clone().into_make_service());
            tasks.push(tokio::spawn(until_it_ends(serving, self.failures.clone())));
        }
        open.insert(place, tasks);
        Ok(())
    }

    fn listen(&mut self, place: Place) {
        let shown = place.as_ref().map_or_else(|| "every interface".to_owned(), ToString::to_string);
        let opened = listeners::bind_all(&self.addresses, &place).map_err(|(_, error)| error);
        match opened.and_then(|listeners| self.serve(place, listeners)) {
            Ok(()) => tracing::info!("the API listens on {shown}"),
            // An interface that has just gone; or upkeep tries again.
            Err(error) => tracing::warn!(%error, "the API cannot listen on {shown}"),
        }
    }

    async fn follow(&mut self, without_management: &BTreeSet<String>) {
        let wanted = match listeners::places(without_management) {
            Ok(wanted) => wanted,
            Err(error) => return tracing::error!(%error, "interfaces cannot be listed; the API listens where it did"),
        };
        let Some(open) = &mut self.open else { return };
        // First, since nobody can listen on one interface while a socket listens on all.
        for (_, tasks) in open.extract_if(.., |place, _| !wanted.contains(place)) {
            for task in tasks {
                task.abort();
                // Its socket is closed when it has ended, which is all that is asked; its connections go on.
                let _ = task.await;
            }
        }
        let missing: Vec<Place> = wanted.into_iter().filter(|place| !open.contains_key(place)).collect();
        missing.into_iter().for_each(|place| self.listen(place));
        // Better kept from some interfaces by the packet filter alone than from the administrator.
        if self.open.as_ref().is_some_and(BTreeMap::is_empty) {
            self.listen(None);
        }
    }
}

fn limit<A: Address, Acceptor>(server: &mut Server<A, Acceptor>, header_time: Duration) {
    let builder: &mut hyper_util::server::conn::auto::Builder<TokioExecutor> = server.http_builder();
    // Also closes connections that are idle for so long; clients open a new one when they have something to say.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_time);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
}

impl Running {
    /// Addresses that are listened on, with the ports that were chosen where the configuration says 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What makes the API listen on the interfaces that have `mgmt`: on all at once, or, when those that it is given
    /// lack it, on each of the others. For threads that may block; it comes back when it is done.
    pub fn follower(&self) -> impl Fn(&BTreeSet<String>) + Send + Sync + use<> {
        // Not its owner: the network has the router, that the engine, and the engine keeps this.
        let (network, runtime) = (Arc::downgrade(&self.network), runtime::Handle::current());
        move |without_management| {
            if let Some(network) = network.upgrade() {
                runtime.block_on(async { network.lock().await.follow(without_management).await });
            }
        }
    }

    /// Ends when a listener fails, which it does not by itself.
    pub async fn failed(&mut self) -> io::Error {
        // The network has a sender.
        self.failures.recv().await.unwrap_or_else(|| io::Error::other("no listener is left"))
    }

    /// Takes no more connections and requests, and waits for those that are there to end, at most for `limit`.
    /// Gives back what is left of the time.
    pub async fn stop(self, limit: Duration) -> Duration {
        let started = Instant::now();
        let open = {
            let mut network = self.network.lock().await;
            network.handle.graceful_shutdown(Some(limit));
            network.open.take().unwrap_or_default()
        };
        self.local.graceful_shutdown(Some(limit));
        let all = async {
            for task in open.into_values().flatten().chain([self.local_task]) {
                // One that panicked has ended, too.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            let connections = self.network.lock().await.handle.connection_count() + self.local.connection_count();
            tracing::warn!(connections, "requests were cut off; their operations go on");
        }
        drop(self.socket);
        limit.saturating_sub(started.elapsed())
    }
}

/// Counts connections, and notes on each where it comes from.
#[derive(Debug, Clone)]
struct Gate {
    places: Arc<Semaphore>,
}

impl Gate {
    fn new(places: usize) -> Self {
        Gate { places: Arc::new(Semaphore::new(places)) }
    }

    fn admit<I, S>(&self, stream: I, service: S, origin: Origin) -> Ready<io::Result<(I, Admitted<S>)>> {
        ready(match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok((stream, Admitted { service, origin, _place: Arc::new(place) })),
            Err(_) => {
                tracing::warn!(remote = %origin, "too many connections; this one is closed");
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        })
    }
}

impl<S> Accept<TcpStream, S> for Gate {
    type Stream = TcpStream;
    type Service = Admitted<S>;
    type Future = Ready<io::Result<(TcpStream, Admitted<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // Answers are small and whole: nothing is gained by waiting for more.
        match stream.peer_addr().and_then(|address| stream.set_nodelay(true).map(|()| address)) {
            Ok(address) => self.admit(stream, service, Origin::Network(address)),
            Err(error) => ready(Err(error)),
        }
    }
}

impl<S> Accept<UnixStream, S> for Gate {
    type Stream = UnixStream;
    type Service = Admitted<S>;
    type Future = Ready<io::Result<(UnixStream, Admitted<S>)>>;

    fn accept(&self, stream: UnixStream, service: S) -> Self::Future {
        match stream.peer_cred() {
            Ok(peer) => self.admit(stream, service, Origin::Local { uid: peer.uid() }),
            Err(error) => ready(Err(error)),
        }
    }
}

/// The service of one connection. Its place is free again when the last clone, one for each request, is gone.
#[derive(Debug, Clone)]
struct Admitted<S> {
    service: S,
    origin: Origin,
    _place: Arc<OwnedSemaphorePermit>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Admitted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.origin);
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_free_again_when_the_last_request_has_ended() {
        let gate = Gate::new(1);
        let admit = || gate.admit((), (), Origin::Local { uid: 0 });
        let ((), connection) = admit().await.unwrap();
        let request = connection.clone();
        assert!(admit().await.is_err());
        drop(connection);
        assert!(admit().await.is_err());
        drop(request);
        assert!(admit().await.is_ok());
    }
}
