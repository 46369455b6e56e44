//! Speaks just enough HTTP to look at what `vsnap` sends and at how it shows what it gets. No appliance: it has no
//! state, only answers.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a request looked like.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// `GET /api/pool?x=1`
    pub line: String,
    /// `authorization`, when there.
    pub login: Option<String>,
    /// Body; null when empty.
    pub body: Value,
}

/// Answers by request line; several for one line are given one after the other, the last one for ever.
#[derive(Default)]
pub struct Answers(HashMap<String, Vec<(u16, Value)>>);

impl Answers {
    pub fn on(self, line: &str, answer: Value) -> Self {
        self.status(line, 200, answer)
    }

    pub fn fail(self, line: &str, status: u16, kind: &str, message: &str) -> Self {
        self.status(line, status, json!({ "error": { "type": kind, "message": message } }))
    }

    pub fn status(mut self, line: &str, status: u16, answer: Value) -> Self {
        self.0.entry(line.to_owned()).or_default().push((status, answer));
        self
    }

    fn next(&mut self, line: &str) -> (u16, Value) {
        let nothing = (404, json!({ "error": { "type": "NotFoundError", "message": format!("no {line}") } }));
        match self.0.get_mut(line) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => nothing,
        }
    }
}

/// A running stub.
pub struct Stub {
    seen: Arc<Mutex<Vec<Seen>>>,
    folder: TempDir,
    port: u16,
}

impl Stub {
    /// On a Unix socket.
    pub fn local(answers: Answers) -> Self {
        let stub = Stub { seen: Arc::default(), folder: tempfile::tempdir().unwrap(), port: 0 };
        let listener = UnixListener::bind(stub.socket()).unwrap();
        let (seen, answers) = (Arc::clone(&stub.seen), Arc::new(Mutex::new(answers)));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
                thread::spawn(move || serve(stream, &seen, &answers));
            }
        });
        stub
    }

    /// On TLS, with a self-signed certificate for `localhost` in [`Stub::certificate`].
    pub fn remote(answers: Answers) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("certificate.pem"), made.cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stub = Stub { seen: Arc::default(), folder, port: listener.local_addr().unwrap().port() };
        let (seen, answers) = (Arc::clone(&stub.seen), Arc::new(Mutex::new(answers)));
        let config = Arc::new(config);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
                let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
                thread::spawn(move || serve(tls, &seen, &answers));
            }
        });
        stub
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("api.sock")
    }

    pub fn certificate(&self) -> std::path::PathBuf {
        self.folder.path().join("certificate.pem")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// What came in so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The bodies of the changes that came in so far, with their request lines.
    pub fn changes(&self) -> Vec<(String, Value)> {
        let seen = self.seen().into_iter().filter(|seen| !seen.line.starts_with("GET "));
        seen.map(|seen| (seen.line, seen.body)).collect()
    }
}

fn serve(stream: impl Read + Write, seen: &Mutex<Vec<Seen>>, answers: &Mutex<Answers>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream) {
        let (status, answer) = answers.lock().unwrap().next(&request.line);
        seen.lock().unwrap().push(request);
        let text = answer.to_string();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", text.len());
        if stream
            .get_mut()
            .write_all(format!("{head}{text}").as_bytes())
            .and_then(|()| stream.get_mut().flush())
            .is_err()
        {
            return;
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|&length| length > 0)?;
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        match header.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Some(Seen { line, login: headers.remove("authorization"), body })
}
