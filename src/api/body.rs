//! How requests are read, once for all routes: the JSON body, the query string, and what in them nobody knows.
//!
//! That is told in a header of the answer, but of a DELETE it is refused: a misspelt `preserve_replica` would be learnt
//! about when the replica is gone.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderMap, Method, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Api,
    edge::Record,
    error::{BODY_TOO_LARGE, Failure, REQUEST_TIMEOUT},
};

/// The members of a JSON body. No body at all is the same as `{}`, and so is no `Content-Type`.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let bytes = read_all(&parts.headers, body, api).await?;
        let (value, ignored) = parse_body(&bytes)?;
        note_ignored(&parts, ignored);
        Ok(Json(value))
    }
}

/// The parameters of a query string, read like the members of a body.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Failure> {
        let (value, ignored) = parse_query(parts)?;
        if parts.method == Method::DELETE
            && let Some(name) = ignored.first()
        {
            let message = format!("{name}: a DELETE of this has no such parameter; /api/docs shows those that it has");
            return Err(Failure::invalid(message));
        }
        note_ignored(parts, ignored);
        Ok(Query(value))
    }
}

/// Refuses a DELETE with something in its body, which no handler reads.
pub(super) async fn refuse_on_delete(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method() != Method::DELETE {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match read_all(&parts.headers, body, &api).await {
        Ok(bytes) if says_nothing(&bytes) => next.run(Request::from_parts(parts, Body::empty())).await,
        Ok(_) => {
            let message = "a DELETE has its options in the query, such as ?force=true, and nothing in its body";
            Failure::invalid(message).into_response()
        }
        Err(failure) => failure.into_response(),
    }
}

/// Whether a body is as good as none.
fn says_nothing(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    let value = || serde_json::from_slice::<Option<Map<String, Value>>>(body);
    body.is_empty() || value().is_ok_and(|value| value.is_none_or(|members| members.values().all(Value::is_null)))
}

/// Tells the client, in a header, and the log about parameters or members that nobody knows.
pub(super) fn note_ignored(parts: &Parts, ignored: Vec<String>) {
    if let Some(record) = parts.extensions.get::<Record>() {
        record.note_ignored(ignored);
    }
}

/// How much of a body that is too large is read and thrown away: a client that is still sending does not look for
/// an answer, and closing the connection would lose it.
const DISCARD_FACTOR: usize = 16;

async fn read_all(headers: &HeaderMap, body: Body, api: &Api) -> Result<Bytes, Failure> {
    let options = api.options();
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    read(body, announced, options.body_bytes, options.body_time).await
}

async fn read(body: Body, announced: Option<usize>, limit: usize, time: Duration) -> Result<Bytes, Failure> {
    let too_large = || Failure::new(&BODY_TOO_LARGE, format!("the request body is larger than {limit} bytes"));
    let late = |_| Failure::new(&REQUEST_TIMEOUT, "the request body did not arrive in time");
    if announced.is_some_and(|bytes| bytes > limit.saturating_mul(DISCARD_FACTOR)) {
        return Err(too_large());
    }
    let work = async {
        let mut body = Limited::new(body, limit.saturating_mul(DISCARD_FACTOR));
        let (mut kept, mut fits) = (Vec::new(), announced.is_none_or(|bytes| bytes <= limit));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => too_large(),
                None => Failure::invalid("the request body broke off"),
            })?;
            let Ok(data) = frame.into_data() else { continue };
            fits &= kept.len() + data.len() <= limit;
            if fits {
                kept.extend_from_slice(&data);
            }
        }
        if fits { Ok(Bytes::from(kept)) } else { Err(too_large()) }
    };
    tokio::time::timeout(time, work).await.map_err(late)?
}

/// The members of `bytes`, and the paths of those that `T` does not know.
fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Vec<String>), Failure> {
    let members = if bytes.trim_ascii().is_empty() {
        Map::new()
    } else {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err(Failure::invalid("the request body must be a JSON object, {...}")),
            Err(error) => return Err(Failure::invalid(format!("the request body is no valid JSON: {error}"))),
        }
    };
    read_members(members)
}

/// The parameters of a query string, for a handler that looks at them.
pub(super) fn query_pairs(parts: &Parts) -> Result<Vec<(String, String)>, Failure> {
    if let Some(record) = parts.extensions.get::<Record>() {
        record.note_query_read();
    }
    pairs(&parts.uri)
}

/// The parameters of an address.
pub(super) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Failure> {
    // Every query string is a list of pairs; this cannot fail.
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    pairs.map(|pairs| pairs.0).map_err(|error| Failure::invalid(error.to_string()))
}

fn parse_query<T: DeserializeOwned>(parts: &Parts) -> Result<(T, Vec<String>), Failure> {
    let mut members = Map::new();
    for (name, value) in query_pairs(parts)? {
        if members.contains_key(&name) {
            return Err(Failure::invalid(format!("{name}: is given twice")));
        }
        members.insert(name, Value::String(value));
    }
    read_members(members)
}

fn read_members<T: DeserializeOwned>(mut members: Map<String, Value>) -> Result<(T, Vec<String>), Failure> {
    drop_nulls(&mut members);
    let mut ignored = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(Value::Object(members), &mut track);
    match serde_ignored::deserialize(tracked, |path| ignored.push(path.to_string())) {
        Ok(value) => Ok((value, ignored)),
        Err(error) => Err(describe(&track.path().to_string(), &error.to_string())),
    }
}

/// A member that is `null` counts as absent.
fn drop_nulls(members: &mut Map<String, Value>) {
    members.retain(|_, value| !value.is_null());
    for value in members.values_mut() {
        if let Value::Object(inner) = value {
            drop_nulls(inner);
        }
    }
}

/// Serde's words with the member first.
fn describe(path: &str, message: &str) -> Failure {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let place = if path == "." { String::new() } else { format!("{path}: ") };
    match missing {
        Some(field) => Failure::invalid(format!("{field}: is missing")),
        None => Failure::invalid(format!("{place}{message}")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{super::wire::Decimal, *};

    #[derive(Debug, PartialEq, Deserialize)]
    struct Sample {
        name: Option<String>,
        #[serde(default)]
        disk_list: Vec<String>,
        size: Option<Decimal>,
        force: Option<bool>,
    }

    fn parse(text: &str) -> Result<(Sample, Vec<String>), Failure> {
        parse_body(text.as_bytes())
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().message
    }

    #[test]
    fn nothing_is_an_empty_object() {
        for nothing in ["", " \r\n\t ", "{}", r#"{"name": null, "disk_list": null, "size": null}"#] {
            let (sample, ignored) = parse(nothing).unwrap();
            assert_eq!(sample, Sample { name: None, disk_list: vec![], size: None, force: None }, "{nothing}");
            assert!(ignored.is_empty());
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["null", "[]", "\"x\"", "7", "{", "{\"name\": }", "{} {}", "\u{feff}{}", "name=x"] {
            assert_eq!(parse(bad).unwrap_err().kind.status, 400, "{bad}");
        }
        assert_eq!(parse_body::<Sample>(b"{\"name\": \"\xff\"}").unwrap_err().kind.status, 400);
        let deep = "[".repeat(100_000);
        assert_eq!(parse(&format!("{{\"x\": {deep}")).unwrap_err().kind.status, 400);
    }

    #[test]
    fn what_is_as_good_as_no_body() {
        for nothing in ["", " \r\n\t ", "{}", " { } ", "null", r#"{"force": null}"#] {
            assert!(says_nothing(nothing.as_bytes()), "{nothing}");
        }
        for something in [r#"{"force": false}"#, "[]", "x", "{", "0", "false", "\"\"", "{} {}", "force=true"] {
            assert!(!says_nothing(something.as_bytes()), "{something}");
        }
    }

    #[test]
    fn the_wrong_member_is_named() {
        assert!(message(r#"{"disk_list": ["a", 5]}"#).starts_with("disk_list[1]: "));
        assert!(message(r#"{"disk_list": "a"}"#).starts_with("disk_list: "));
        assert!(message(r#"{"force": "true"}"#).starts_with("force: "));
        assert!(message(r#"{"size": "1k"}"#).starts_with("size: "));
        assert!(message(r#"{"disk_list": [null]}"#).starts_with("disk_list[0]: "));
        #[derive(Debug, Deserialize)]
        struct Needy {
            #[allow(dead_code)]
            name: String,
        }
        assert_eq!(parse_body::<Needy>(b"").unwrap_err().message, "name: is missing");
        assert_eq!(parse_body::<Needy>(b"{\"name\": null}").unwrap_err().message, "name: is missing");
    }

    #[test]
    fn unknown_members_are_reported_and_numbers_are_either() {
        let (sample, ignored) = parse(r#"{"size": "5", "new": {"a": 1}, "typo": null, "Name": "x"}"#).unwrap();
        assert_eq!(sample.size, Some(5u64.into()));
        assert_eq!(ignored, ["new", "Name"]);
        assert_eq!(parse(r#"{"size": 5}"#).unwrap().0.size, Some(5u64.into()));
    }

    #[tokio::test]
    async fn bodies_have_a_limit_of_size_and_time() {
        let second = Duration::from_secs(1);
        let body = |bytes: usize| Body::from(vec![b' '; bytes]);
        assert_eq!(read(body(10), None, 10, second).await.unwrap().len(), 10);
        for (bytes, announced) in [(11, None), (11, Some(11)), (500, None), (10, Some(500))] {
            assert_eq!(read(body(bytes), announced, 10, second).await.unwrap_err().kind.status, 413);
        }
        let never = Body::new(Silence);
        let error = read(never, None, 10, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.kind.status, 408);
    }

    /// A client that sends nothing and does not go away.
    struct Silence;

    impl hyper::body::Body for Silence {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }
    }
}
