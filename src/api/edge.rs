//! What every request goes through, known route or not: its id, its line in the log, the clean path, the time
//! limit, and the error envelope for answers that have none.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument;

use super::{
    auth::Origin,
    body::pairs,
    error::{Failure, TIMEOUT},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IGNORED: HeaderName = HeaderName::from_static("x-vsnap-ignored");

/// What is found out about a request on its way, for the log and for headers of the answer. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Record(Arc<Found>);

#[derive(Debug)]
struct Found {
    request_id: String,
    user: OnceLock<String>,
    ignored: Mutex<Vec<String>>,
    query_read: AtomicBool,
}

impl Record {
    fn new(request_id: String) -> Self {
        let (user, ignored, query_read) = (OnceLock::new(), Mutex::default(), AtomicBool::new(false));
        Record(Arc::new(Found { request_id, user, ignored, query_read }))
    }

    /// Id of the request.
    pub(super) fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// The user has been authenticated.
    pub(super) fn note_user(&self, user: &str) {
        // Set twice only if a request were authenticated twice; the first one stays then.
        let _ = self.0.user.set(user.to_owned());
    }

    /// The handler looks at the query string, and tells what it does not know of it.
    pub(super) fn note_query_read(&self) {
        self.0.query_read.store(true, Ordering::Relaxed);
    }

    /// The request was carried out without a look at its query string.
    fn note_unread_query(&self, uri: &Uri) {
        if !self.0.query_read.load(Ordering::Relaxed) {
            let pairs = pairs(uri).unwrap_or_default();
            self.note_ignored(pairs.into_iter().map(|(name, _)| name).collect());
        }
    }

    /// The request has members that nobody knows, or that mean nothing in it.
    pub(super) fn note_ignored(&self, names: Vec<String>) {
        if !names.is_empty() {
            self.0.ignored.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(names);
        }
    }

    fn ignored(&self) -> Option<HeaderValue> {
        let names = self.0.ignored.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if names.is_empty() { None } else { HeaderValue::try_from(list_for_header(&names)).ok() }
    }
}

/// Longest value of `X-Vsnap-Ignored`; names beyond it are counted only.
const MAX_IGNORED_BYTES: usize = 1000;

/// Member names, separated by `, `; what has no place in a header is percent-encoded.
fn list_for_header(names: &[String]) -> String {
    let mut list = String::new();
    for (at, name) in names.iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let plain = |byte: &u8| byte.is_ascii_graphic() && !b"%,".contains(byte);
        let encode = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let name: String = name.bytes().take(MAX_IGNORED_BYTES).map(encode).collect();
        if list.len() + name.len() > MAX_IGNORED_BYTES {
            return format!("{list}{separator}and {} more", names.len() - at);
        }
        list.push_str(separator);
        list.push_str(&name);
    }
    list
}

/// The outermost layer. `limit` is how long a request may take.
pub(super) async fn edge(State(limit): State<Duration>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let record = Record::new(request_id(request.headers()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let remote = request.extensions().get::<Origin>().copied().unwrap_or_default();
    if let Some(uri) = with_clean_path(request.uri()) {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(record.clone());
    let with_query = request.uri().query().map(|_| request.uri().clone());

    let span = tracing::info_span!("request", request.id = record.request_id());
    let response = match tokio::time::timeout(limit, next.run(request).instrument(span)).await {
        Ok(response) => response,
        Err(_) => Failure::new(
            &TIMEOUT,
            format!("not done after {} s; it goes on in the background: ask for the object", limit.as_secs()),
        )
        .into_response(),
    };
    let mut response = in_envelope(response, method.as_str(), &path);
    if let Some(uri) = with_query.filter(|_| response.status().is_success()) {
        record.note_unread_query(&uri);
    }
    let headers = response.headers_mut();
    // Both are made of characters that are allowed in headers.
    if let Ok(id) = HeaderValue::try_from(record.request_id()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(names) = record.ignored() {
        headers.insert(IGNORED, names);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    log(&record, method.as_str(), &path, remote, &response, started.elapsed());
    response
}

/// A read that takes longer is worth a line.
const SLOW: Duration = Duration::from_secs(1);

/// One line for each request; an error that is ours is told here, and only here. Reads that go well have theirs at the
/// level "debug": backup software polls, a line costs more than the read, and what changes would be lost among them.
fn log(record: &Record, method: &str, path: &str, remote: Origin, response: &Response, took: Duration) {
    let is_plain = matches!(method, "GET" | "HEAD") && response.status().is_success() && took < SLOW;
    if is_plain && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let status = response.status().as_u16();
    let user = record.0.user.get().map_or("-", String::as_str);
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let id = record.request_id();
    let failure = response.extensions().get::<Arc<Failure>>();
    let error_type = failure.map(|failure| failure.kind.name);
    // All of it in the message too: `journalctl` shows nothing else.
    let mut line = format!("{method} {path} {status} {duration_ms} ms, {user} from {remote}");
    if let Some(names) = record.ignored() {
        line.push_str(&format!(", ignored: {}", names.to_str().unwrap_or_default()));
    }
    if let Some(failure) = failure {
        line.push_str(&format!(", {}: {}", failure.kind.name, failure.message));
        if let Some(source) = &failure.source {
            line.push_str(&format!(" ({source})"));
        }
    }
    // A message may quote the client: it must not be able to begin a line of its own.
    let line = line.replace(char::is_control, " ");
    // They differ in level, which must be a constant.
    if is_plain {
        tracing::debug!(request.id = id, user, method, path, status, duration_ms, %remote, error_type, "{line}");
    } else if response.status().is_server_error() {
        tracing::error!(request.id = id, user, method, path, status, duration_ms, %remote, error_type, "{line}");
    } else {
        tracing::info!(request.id = id, user, method, path, status, duration_ms, %remote, error_type, "{line}");
    }
}

/// Gives an error that axum or a layer made its envelope; headers such as `Allow` stay.
fn in_envelope(response: Response, method: &str, path: &str) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.extensions().get::<Arc<Failure>>().is_some() {
        return response;
    }
    let mut failure = Failure::from_status(status, method, path).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        failure.headers_mut().insert(header::ALLOW, allow.clone());
    }
    failure
}

/// The client's id when it is harmless, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        (8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(harmless);
    given.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

/// The address with repeated slashes merged and without one at the end; `None` when it is so already.
fn with_clean_path(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && (path.len() <= 1 || !path.ends_with('/')) {
        return None;
    }
    let mut clean: String = path.split('/').filter(|part| !part.is_empty()).flat_map(|part| ["/", part]).collect();
    if clean.is_empty() {
        clean.push('/');
    }
    if let Some(query) = uri.query() {
        clean.push('?');
        clean.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(clean).ok()?);
    Uri::from_parts(parts).ok()
}

/// What a panic in a handler is answered with. The panic hook has logged it.
pub(super) fn on_panic(_: Box<dyn std::any::Any + Send>) -> Response {
    Failure::panicked().into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn slashes_are_merged() {
        let clean = |text: &str| with_clean_path(&text.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(clean("/api/system"), None);
        assert_eq!(clean("/"), None);
        assert_eq!(clean("//api/system").as_deref(), Some("/api/system"));
        assert_eq!(clean("/api///pool//1//?a=//b/").as_deref(), Some("/api/pool/1?a=//b/"));
        assert_eq!(clean("///").as_deref(), Some("/"));
        assert_eq!(clean("/api/pool/%2F%20/").as_deref(), Some("/api/pool/%2F%20"));
        assert_eq!(clean("https://[::1]:8900//api/").as_deref(), Some("https://[::1]:8900/api"));
    }

    #[test]
    fn ids_of_clients_are_kept_when_harmless() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            request_id(&headers)
        };
        assert_eq!(id("job-4711.a_b"), "job-4711.a_b");
        for bad in ["", "short", "has a space", "semi;colon", "ünïcode-id", &"x".repeat(65)] {
            assert_ne!(id(bad), bad);
            assert_eq!(id(bad).len(), 36);
        }
    }

    #[test]
    fn names_fit_into_a_header() {
        let list = |names: &[&str]| list_for_header(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert_eq!(list(&["naem", "a.b", "x\r\ny: z", "ü,%"]), "naem, a.b, x%0D%0Ay:%20z, %C3%BC%2C%25");
        let many: Vec<String> = (0..500).map(|at| format!("member{at}")).collect();
        let list = list_for_header(&many);
        assert!(list.len() < 1100 && list.ends_with(" more"), "{list}");
    }

    #[test]
    fn answers_without_envelope_get_one_and_keep_allow() {
        let bare = (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET,HEAD")]).into_response();
        let response = in_envelope(bare, "PATCH", "/api/pool");
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let odd = in_envelope(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(), "GET", "/x");
        assert_eq!(odd.status(), 400);
    }
}
