//! The API over real connections.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use axum_server::tls_rustls::RustlsConfig;
use reqwest::{Certificate, Client, ClientBuilder, Version};
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::CertificateDer};
use vsnap::{
    api::{
        server::{self, Listeners, Running},
        tls,
    },
    config::Config,
};

use crate::appliance::{ADMIN, Appliance, basic};

struct Served {
    appliance: Appliance,
    config: Config,
    tls: RustlsConfig,
    running: Running,
}

fn subject() -> tls::Subject {
    tls::Subject { hostname: "vsnap1".into(), ..tls::Subject::default() }
}

fn serve(change: impl FnOnce(&mut Config)) -> Served {
    let appliance = Appliance::with(|options| options.body_time = Duration::from_secs(10));
    let mut config = appliance.config.clone();
    change(&mut config);
    let tls = RustlsConfig::from_config(tls::Files::of(&config).load(subject).unwrap());
    let listeners = Listeners::bind(&config).unwrap();
    let running = server::serve(listeners, appliance.router(), tls.clone(), &config).unwrap();
    Served { appliance, config, tls, running }
}

impl Served {
    fn address(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address().port())
    }

    fn certificate(&self) -> Vec<u8> {
        std::fs::read(self.config.state_dir.join("tls/self-signed.crt")).unwrap()
    }

    /// A client that trusts the appliance's certificate of the moment, and no other.
    fn client(&self) -> ClientBuilder {
        // Fails when another test has done it; there is one provider in any case.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder().tls_certs_only([Certificate::from_pem(&self.certificate()).unwrap()]).tls_info(true)
    }

    /// A connection below HTTP.
    fn stream(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.certificate()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        StreamOwned::new(connection, stream)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn read_to_end(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // A peer that closes without the TLS farewell is an error to rustls, after the bytes.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_work_over_a_self_signed_certificate() {
    let served = serve(|_| {});
    let two = served.client().build().unwrap();
    let one = served.client().http1_only().build().unwrap();
    for (client, version) in [(two, Version::HTTP_2), (one, Version::HTTP_11)] {
        let answer = client.get(served.url("/api/system")).basic_auth(ADMIN.0, Some(ADMIN.1)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        let answer = client.get(served.url("//api//none/")).basic_auth(ADMIN.0, Some(ADMIN.1)).send().await.unwrap();
        let error: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(error["error"]["type"], "NotFoundError");
        let large = " ".repeat(2 * 1024 * 1024);
        let answer = client.post(served.url("/api/disk")).basic_auth(ADMIN.0, Some(ADMIN.1)).body(large).send();
        assert_eq!(answer.await.unwrap().status().as_u16(), 413, "{version:?}");
    }
    assert_eq!(served.appliance.os.password_checks(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_trust_nobody_are_warned() {
    let served = serve(|_| {});
    let _ = served.client();
    let client = Client::builder().build().unwrap();
    assert!(client.get(served.url("/api/system")).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_a_restart() {
    let served = serve(|_| {});
    let certificate = |response: &reqwest::Response| {
        response.extensions().get::<reqwest::tls::TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
    };
    let old = served.client().build().unwrap();
    let before = old.get(served.url("/api/system")).basic_auth(ADMIN.0, Some(ADMIN.1)).send().await.unwrap();
    std::fs::remove_file(served.config.state_dir.join("tls/self-signed.crt")).unwrap();
    served.tls.reload_from_config(tls::Files::of(&served.config).load(subject).unwrap());

    let new = served.client().build().unwrap();
    let after = new.get(served.url("/api/system")).basic_auth(ADMIN.0, Some(ADMIN.1)).send().await.unwrap();
    assert_eq!(after.status().as_u16(), 200);
    assert_ne!(certificate(&before), certificate(&after));
    // The old connection goes on.
    let still = old.get(served.url("/api/system")).basic_auth(ADMIN.0, Some(ADMIN.1)).send().await.unwrap();
    assert_eq!(certificate(&still), certificate(&before));
}

/// A request that the appliance has begun to read, and whose body is not whole.
async fn begun(served: &Served) -> StreamOwned<ClientConnection, TcpStream> {
    let mut stream = served.stream();
    let login = basic(ADMIN.0, ADMIN.1);
    let head = format!(
        "POST /api/disk HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\nExpect: 100-continue\r\n\
         Content-Length: 20\r\n\r\n"
    );
    blocking(move || {
        stream.write_all(head.as_bytes()).unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_requests_end_and_takes_no_more() {
    let served = serve(|_| {});
    let mut stream = begun(&served).await;
    let (address, socket) = (served.address(), served.config.socket.clone());
    assert!(socket.exists());
    let stopping = tokio::spawn(served.running.stop(Duration::from_secs(10)));
    while TcpStream::connect(address).is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!stopping.is_finished());
    let answer = blocking(move || {
        stream.write_all(b"{\"action\": \"rescan\"}").unwrap();
        read_to_end(stream)
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let left = stopping.await.unwrap();
    assert!(left > Duration::from_secs(5), "{left:?}");
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_has_a_limit() {
    let served = serve(|_| {});
    let stream = begun(&served).await;
    let started = std::time::Instant::now();
    assert_eq!(served.running.stop(Duration::from_millis(50)).await, Duration::ZERO);
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_dropped() {
    let served = serve(|config| config.limits.header_seconds = 1);
    let mut half = served.stream();
    let answer = blocking(move || {
        half.write_all(b"GET /api/system HTTP/1.1\r\nHost:").unwrap();
        read_to_end(half)
    });
    tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap();
    // Not even a handshake.
    let silent = TcpStream::connect(served.address()).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(blocking(move || read_to_end(silent)).await, "");
}

fn over_socket(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    read_to_end(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn root_needs_no_password_on_the_socket() {
    let served = serve(|_| {});
    let socket = served.config.socket.clone();
    let request = "POST /api/disk HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 19\r\n\r\n\
                   {\"action\":\"rescan\"} ";
    let answer = blocking(move || over_socket(&socket, request)).await;
    let expected = if nix::unistd::geteuid().is_root() { "HTTP/1.1 200 " } else { "HTTP/1.1 403 " };
    assert!(answer.starts_with(expected), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_does_not_start() {
    let served = serve(|_| {});
    assert!(Listeners::bind(&served.config).is_err());
    let taken = Config { listen: vec![served.address()], socket: "/nonexistent/x".into(), ..served.config.clone() };
    assert!(Listeners::bind(&taken).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_serves_both_families() {
    let everywhere = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    let served = serve(|config| config.listen = vec![everywhere]);
    let port = served.address().port();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    if served.address().is_ipv6() {
        TcpStream::connect(("::1", port)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_listens_on_the_interfaces_that_are_left() {
    let served = serve(|config| config.listen = vec![SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 0))]);
    let port = served.address().port();
    let follow = Arc::new(served.running.follower());
    let without = async |names: &[&str]| {
        let (follow, names) = (Arc::clone(&follow), names.iter().map(|name| (*name).to_owned()).collect());
        blocking(move || follow(&names)).await;
    };
    let client = served.client().build().unwrap();
    let ask = async || client.get(served.url("/api/disk")).basic_auth(ADMIN.0, Some(ADMIN.1)).send().await;
    let connect = || TcpStream::connect(("127.0.0.1", port)).map(drop);
    ask().await.unwrap();

    without(&["eth-of-nobody"]).await;
    connect().unwrap();
    without(&["lo"]).await;
    assert!(connect().is_err());
    // On the connection of before.
    ask().await.unwrap();
    without(&["eth-of-nobody"]).await;
    connect().unwrap();
    without(&[]).await;
    connect().unwrap();
    served.running.stop(Duration::from_secs(5)).await;
    without(&["eth-of-nobody"]).await;
    assert!(connect().is_err(), "it was stopped");
}
