//! Listeners, their limits, and how they stop.

use std::{
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::AsRawFd,
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
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tower::Service;

use super::{auth::Origin, socket::LocalSocket};
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
        let at = |place: String| move |error| Error::Listen { place, error };
        let network = config.listen.iter().map(|address| {
            // A separate IPv4 listener on the same port leaves only IPv6 to this one.
            let split = config.listen.iter().any(|other| other.is_ipv4() && other.port() == address.port());
            bind(*address, split).map_err(at(address.to_string()))
        });
        let network = network.collect::<Result<_, _>>()?;
        let (socket, local) = LocalSocket::bind(&config.socket).map_err(at(config.socket.display().to_string()))?;
        Ok(Listeners { network, socket, local })
    }
}

fn bind(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    match open(address, only_v6) {
        // IPv6 is switched off in this kernel: "all addresses" then means all of IPv4.
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL)) =>
        {
            let fallback = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), address.port());
            tracing::warn!(%address, %fallback, "IPv6 is not available");
            open(fallback, false)
        }
        result => result,
    }
}

fn open(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(family, SockType::Stream, flags, None)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        // Said outright, because a sysctl changes the default.
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &only_v6)?;
    }
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    socket::listen(&fd, socket::Backlog::new(1024)?)?;
    Ok(TcpListener::from(fd))
}

/// The API, being served.
pub struct Running {
    addresses: Vec<SocketAddr>,
    network: Handle<SocketAddr>,
    local: Handle<std::os::unix::net::SocketAddr>,
    tasks: JoinSet<io::Result<()>>,
    /// Its file is removed when the last connection is gone.
    socket: LocalSocket,
}

/// Serves `router`. A certificate put into `tls` later is used for the connections that come then.
pub fn serve(listeners: Listeners, router: Router, tls: RustlsConfig, config: &Config) -> io::Result<Running> {
    let header_time = Duration::from_secs(config.limits.header_seconds.max(1));
    let (network, local) = (Handle::new(), Handle::new());
    let mut tasks = JoinSet::new();
    let mut addresses = Vec::new();
    let gate = Gate::new(MAX_CONNECTIONS);
    for listener in listeners.network {
        addresses.push(listener.local_addr()?);
        let acceptor = RustlsAcceptor::new(tls.clone()).handshake_timeout(header_time).acceptor(gate.clone());
        let mut server = axum_server::from_tcp(listener)?.acceptor(acceptor).handle(network.clone());
        limit(&mut server, header_time);
        tasks.spawn(server.serve(router.clone().into_make_service()));
    }
    let gate = Gate::new(MAX_LOCAL_CONNECTIONS);
    let mut server = axum_server::from_unix(listeners.local)?.acceptor(gate).handle(local.clone());
    limit(&mut server, header_time);
    tasks.spawn(server.serve(router.into_make_service()));
    Ok(Running { addresses, network, local, tasks, socket: listeners.socket })
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

    /// Ends when a listener fails, which it does not by itself.
    pub async fn failed(&mut self) -> io::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => io::Error::other(error),
            Some(Ok(Ok(()))) | None => io::Error::other("a listener ended"),
        }
    }

    /// Takes no more connections and requests, and waits for those that are there to end, at most for `limit`.
    /// Gives back what is left of the time.
    pub async fn stop(mut self, limit: Duration) -> Duration {
        let started = Instant::now();
        self.network.graceful_shutdown(Some(limit));
        self.local.graceful_shutdown(Some(limit));
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            let connections = self.network.connection_count() + self.local.connection_count();
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
