//! The HTTP client: over the Unix socket of the appliance, or over HTTPS.

use std::{
    error::Error as StdError,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use reqwest::{
    Certificate, Method,
    blocking::{ClientBuilder, RequestBuilder, Response},
    redirect,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    failure::{Failure, Result},
    prompt::Prompt,
};

/// Port of the API.
const PORT: u16 = 8900;

/// The socket that the daemon listens on when its configuration does not say otherwise.
const SOCKET: &str = "/run/vsnap/api.sock";

/// Time for a TCP connection and the TLS handshake. A daemon that is down is noticed at once; this is for hosts
/// that are off.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Time for an answer to a question.
const READ_TIME: Duration = Duration::from_secs(60);

/// Time for an answer to a change: longer than the daemon itself allows, so that its own explanation arrives.
const CHANGE_TIME: Duration = Duration::from_secs(660);

/// How to reach the appliance.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection options")]
pub struct Connection {
    /// Appliance to connect to over HTTPS; without it, the one this command runs on
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    host: Option<String>,

    /// User to log in as on that host. The password is asked for, or taken from the environment variable
    /// VSNAP_PASSWORD
    #[arg(long, global = true, value_name = "NAME")]
    user: Option<String>,

    /// PEM file with the certificates to trust: the appliance's own, or those of the authority that signed it.
    /// Without it, those that the system trusts
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Do not check the appliance's certificate, so that anyone on the way can read the password
    #[arg(long, global = true, env = "VSNAP_INSECURE", hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    insecure: bool,

    /// Unix socket of the daemon, when its configuration names another
    #[arg(long, global = true, value_name = "PATH", hide = true)]
    socket: Option<PathBuf>,
}

impl Connection {
    /// What options that are wanted everywhere can't say to the parser themselves.
    pub fn check(&self) -> Result<(), &'static str> {
        match (&self.host, &self.user) {
            (Some(_), _) if self.socket.is_some() => Err("--host and --socket do not go together"),
            (Some(_), None) => Err("--host needs --user NAME: the user to log in as there"),
            (None, Some(_)) => Err("--user needs --host HOST: on the appliance itself, root needs no user"),
            (None, None) if self.ca_file.is_some() => Err("--ca-file needs --host HOST"),
            _ => Ok(()),
        }
    }
}

/// The way to one appliance.
pub struct Client {
    http: reqwest::blocking::Client,
    base: String,
    place: String,
    login: Option<Login>,
}

struct Login {
    user: String,
    password: Zeroizing<String>,
}

impl Client {
    /// Prepares the way; nothing is sent yet. Asks for the password when one is needed.
    pub fn new(connection: &Connection, prompt: &Prompt) -> Result<Self> {
        match (&connection.host, &connection.user) {
            (Some(host), Some(user)) => Self::remote(connection, host, user, prompt),
            _ => Self::local(connection.socket.as_deref()),
        }
    }

    fn local(socket: Option<&Path>) -> Result<Self> {
        // The daemon would refuse others too, but it can't tell them about sudo when they can't reach the socket.
        if socket.is_none() && !nix::unistd::geteuid().is_root() {
            return Err(Failure::local(
                "only root uses the appliance without a password: call it with sudo, or give --host HOST --user NAME",
            ));
        }
        let socket = socket.unwrap_or(Path::new(SOCKET));
        // No certificate is checked on a socket; loading those of the system would only cost time.
        let builder = builder().unix_socket(socket).tls_certs_only([]);
        let place = socket.display().to_string();
        Ok(Client { http: build(builder)?, base: "http://localhost".to_owned(), place, login: None })
    }

    fn remote(connection: &Connection, host: &str, user: &str, prompt: &Prompt) -> Result<Self> {
        let authority = authority(host)?;
        let mut builder = builder().connect_timeout(CONNECT_TIME).https_only(true);
        if connection.insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        } else if let Some(file) = &connection.ca_file {
            builder = builder.tls_certs_only(certificates(file)?);
        }
        let http = build(builder)?;
        let password = match std::env::var("VSNAP_PASSWORD") {
            Ok(password) => password.into(),
            Err(_) => prompt
                .password(&format!("Password of {user} on {host}: "), "set the environment variable VSNAP_PASSWORD")?,
        };
        let login = Some(Login { user: user.to_owned(), password });
        Ok(Client { http, base: format!("https://{authority}"), place: authority, login })
    }

    /// Whether the appliance is the machine that this runs on.
    pub fn is_local(&self) -> bool {
        self.login.is_none()
    }

    /// Asks for `path`, such as `/api/pool/1`.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, &[], None)
    }

    /// Asks for `path` with parameters.
    pub fn find(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.send(Method::GET, path, query, None)
    }

    /// Makes something, or acts on it.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, &[], Some(body))
    }

    /// Changes something.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::PUT, path, &[], Some(body))
    }

    /// Deletes something.
    pub fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.send(Method::DELETE, path, query, None)
    }

    fn send(&self, method: Method, path: &str, query: &[(&str, &str)], body: Option<&Value>) -> Result<Value> {
        let time = if method == Method::GET { READ_TIME } else { CHANGE_TIME };
        let mut request: RequestBuilder =
            self.http.request(method, format!("{}{path}", self.base)).query(query).timeout(time);
        if let Some(Login { user, password }) = &self.login {
            request = request.basic_auth(user, Some(password.as_str()));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().map_err(|error| self.explain(&error, time))?;
        self.read(response, time)
    }

    fn read(&self, response: Response, time: Duration) -> Result<Value> {
        let status = response.status();
        let text = response.text().map_err(|error| self.explain(&error, time))?;
        let stranger =
            || Failure::local(format!("what answers at {} is no vSnap appliance (status {status})", self.place));
        let value: Value = serde_json::from_str(&text).map_err(|_| stranger())?;
        if status.is_success() {
            return Ok(value);
        }
        let member = |name: &str| value["error"][name].as_str().map(str::to_owned);
        let (kind, message) = member("type").zip(member("message")).ok_or_else(stranger)?;
        Err(Failure::Api { status: status.as_u16(), kind, message, reason: member("reason") })
    }

    /// Says in the reader's terms why nothing came back.
    fn explain(&self, error: &reqwest::Error, time: Duration) -> Failure {
        if let Some(fault) = cause::<rustls::Error>(error) {
            return Failure::local(untrusted(&self.place, fault));
        }
        let place = self.place.clone();
        let reason = match cause::<io::Error>(error) {
            Some(fault) if self.is_local() && fault.kind() == io::ErrorKind::PermissionDenied => {
                return Failure::local(format!(
                    "only root may use {place}: call it with sudo, or give --host and --user"
                ));
            }
            Some(fault) => without_code(fault),
            None if error.is_connect() && error.is_timeout() => {
                format!("no connection in {} s", CONNECT_TIME.as_secs())
            }
            None if error.is_timeout() => format!("no answer in {} s", time.as_secs()),
            None => innermost(error),
        };
        let advice =
            if self.is_local() { "systemctl status vsnapd" } else { "systemctl status vsnapd, on the appliance" };
        Failure::Down { place, reason, advice }
    }
}

/// `segment` of a path, so that a name with `/` or `?` in it stays one.
pub fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The body of an action.
pub fn action(name: &str) -> Value {
    json!({ "action": name })
}

fn builder() -> ClientBuilder {
    // Two TLS providers in one program would have to be told apart; this one is it. Already installed is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder()
        .user_agent(concat!("vsnap/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
}

fn build(builder: ClientBuilder) -> Result<reqwest::blocking::Client> {
    builder.build().map_err(|error| {
        Failure::local(format!(
            "cannot set up the connection: {}; where the system has no certificates (package ca-certificates), \
             give --ca-file",
            innermost(&error)
        ))
    })
}

fn certificates(file: &Path) -> Result<Vec<Certificate>> {
    let unusable = |why: String| Failure::local(format!("--ca-file {}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|error| unusable(without_code(&error)))?;
    let found = Certificate::from_pem_bundle(&text).map_err(|error| unusable(innermost(&error)))?;
    if found.is_empty() { Err(unusable("there is no PEM certificate in it".to_owned())) } else { Ok(found) }
}

/// Host and port as they stand in a URL: `host`, `host:port`, `::1`, `[::1]:port`.
fn authority(host: &str) -> Result<String> {
    let wrong = || Failure::local(format!("--host {host:?} is neither HOST nor HOST:PORT"));
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(format!("[{host}]:{PORT}"));
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, port.parse().map_err(|_| wrong())?),
        _ => (host, PORT),
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let sound = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    if sound { Ok(format!("{name}:{port}")) } else { Err(wrong()) }
}

fn untrusted(place: &str, fault: &rustls::Error) -> String {
    if !matches!(fault, rustls::Error::InvalidCertificate(_)) {
        return format!("no TLS connection to {place}: {fault}");
    }
    format!(
        "the certificate of {place} is not trusted ({fault}). An appliance makes a self-signed one at first: copy it from \
         there and give --ca-file FILE, or go on without checking it with --insecure (or VSNAP_INSECURE=1)"
    )
}

/// The first error of type `E` in the chain, also inside of I/O errors, which don't show what they wrap.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        current = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}

fn innermost(error: &dyn StdError) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// `Connection refused (os error 111)` says nothing more than `connection refused`.
fn without_code(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_default_port() {
        let cases = [
            ("appliance1", "appliance1:8900"),
            ("appliance1:443", "appliance1:443"),
            ("192.0.2.7", "192.0.2.7:8900"),
            ("::1", "[::1]:8900"),
            ("[::1]", "[::1]:8900"),
            ("[fe80::1]:9000", "[fe80::1]:9000"),
        ];
        for (host, expected) in cases {
            assert_eq!(authority(host).unwrap(), expected);
        }
        for bad in ["", ":8900", "a:b", "a:99999", "https://a", "a/b", "u@a", "[x]:1", "a b"] {
            assert!(authority(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn segments_stay_segments() {
        assert_eq!(segment("a-b_c.9~"), "a-b_c.9~");
        assert_eq!(segment("../x?y#z ü"), "..%2Fx%3Fy%23z%20%C3%BC");
    }
}
