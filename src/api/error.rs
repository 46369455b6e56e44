//! What a request that failed is answered with: one type, one envelope, one table of all error types.

use std::{error::Error as StdError, sync::Arc};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{
    error::Error,
    os::{self, Kind},
};

/// A kind of error as clients see it. Clients tell errors apart by `name`; the set is part of the contract.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorType {
    /// The member `type` of the answer.
    pub name: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What it means, for the documentation.
    pub meaning: &'static str,
}

macro_rules! error_types {
    ($($constant:ident $status:literal $name:literal $meaning:literal)*) => {
        $(#[doc = $meaning]
        pub const $constant: ErrorType = ErrorType { name: $name, status: $status, meaning: $meaning };)*

        /// Every error type there is, by status. The documentation is made from this.
        pub const ALL: &[ErrorType] = &[$($constant),*];
    };
}

error_types! {
    INVALID_PARAMETER 400 "InvalidParameterError" "The request, or the member that the message names, is wrong. Nothing was changed."
    INVALID_CANDIDATE 400 "InvalidCandidateError" "A disk cannot be used for a pool; the member `reason` says why, when that is known."
    UNAUTHORIZED 401 "UnauthorizedError" "No credentials, or wrong ones."
    FORBIDDEN 403 "ForbiddenError" "The credentials are right, but this user may not do this."
    NOT_FOUND 404 "NotFoundError" "There is no such object or route."
    METHOD_NOT_ALLOWED 405 "MethodNotAllowedError" "The route exists, but not for this method; the header `Allow` lists those it has."
    REQUEST_TIMEOUT 408 "RequestTimeoutError" "The body of the request did not arrive in time."
    ALREADY_EXISTS 409 "AlreadyExistsError" "The name is taken or the object exists."
    BUSY 409 "BusyError" "The object is in use, or another operation is working on it. Try again later."
    INVALID_STATE 409 "InvalidStateError" "The state of the object does not allow this."
    NOT_INITIALIZED 409 "NotInitializedError" "The system has not been initialised; see `POST /api/system`."
    BODY_TOO_LARGE 413 "BodyTooLargeError" "The body of the request is larger than the appliance takes."
    TOO_MANY_ATTEMPTS 429 "TooManyAttemptsError" "Too many logins wait for their turn; the header `Retry-After` says when to try again."
    INTERNAL 500 "InternalError" "The appliance failed. Its log has the details under the request id in the header `X-Request-Id`."
    TIMEOUT 500 "TimeoutError" "The request took longer than the limit. Its operation goes on in the background; ask for the object to follow it."
    PARTNER 502 "PartnerError" "A partner cannot be reached, or did not do what it was asked for; the message says what it answered."
    NO_SPACE 507 "NoSpaceError" "The storage is full."
}

/// Longest message: some quote what the client sent.
const MAX_MESSAGE_CHARS: usize = 1000;

/// A request that failed, on its way to the client and to the log.
#[derive(Debug)]
pub struct Failure {
    /// Which of the table.
    pub kind: &'static ErrorType,
    /// For a person: what is wrong and what to do next.
    pub message: String,
    /// Member `reason` of [`INVALID_CANDIDATE`], whose message is fixed.
    reason: Option<String>,
    /// What only the log gets.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Failure {
    /// A failure of type `kind`.
    pub fn new(kind: &'static ErrorType, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Failure { kind, message, reason: None, source: None, header: None }
    }

    /// Something in the request is wrong; the message names it.
    pub fn invalid(message: impl Into<String>) -> Self {
        Failure::new(&INVALID_PARAMETER, message)
    }

    /// The appliance failed. The client learns where to look, the log learns `source`.
    pub fn internal(message: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let advice = "see `journalctl -u vsnapd` on the appliance for the request id in the header X-Request-Id";
        Failure { source: Some(source.into()), ..Failure::new(&INTERNAL, format!("{message}; {advice}")) }
    }

    /// The code has a fault; details stay in the log.
    pub fn panicked() -> Self {
        Failure::internal("the appliance failed while it dealt with the request", "a panic, logged above")
    }

    /// No credentials or wrong ones.
    pub fn unauthorized(message: &str) -> Self {
        Failure::new(&UNAUTHORIZED, message)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"vSnap\", charset=\"UTF-8\""))
    }

    /// The same about an object that stood in the path: the message does not begin with a `member` that the client never
    /// sent.
    #[must_use]
    pub fn without_member(mut self, member: &str) -> Self {
        if let Some(rest) = self.message.strip_prefix(member).and_then(|rest| rest.strip_prefix(": ")) {
            self.message = rest.to_owned();
        }
        self
    }

    /// The same with a header in the answer.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// What an error answer that did not come from here stands for: axum's own 404, 405 and rejections.
    pub fn from_status(status: StatusCode, method: &str, path: &str) -> Self {
        match status.as_u16() {
            404 => Failure::new(&NOT_FOUND, format!("there is no {path}; /api/docs shows what there is")),
            405 => Failure::new(&METHOD_NOT_ALLOWED, format!("{method} is not possible on {path}")),
            408 => Failure::new(&REQUEST_TIMEOUT, "the request did not arrive in time"),
            413 => Failure::new(&BODY_TOO_LARGE, "the request body is too large"),
            400..=499 => Failure::invalid(format!("{path} is no valid address")),
            _ => Failure::internal("the appliance failed", format!("answer {status} without an error")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(_) => Failure::invalid(message),
            Error::InvalidCandidate { uuid, reason } => {
                let fixed = Error::InvalidCandidate { uuid, reason: None }.to_string();
                Failure { reason, ..Failure::new(&INVALID_CANDIDATE, fixed) }
            }
            Error::NotFound { .. } => Failure::new(&NOT_FOUND, message),
            Error::Exists(_) => Failure::new(&ALREADY_EXISTS, message),
            Error::Busy(_) => Failure::new(&BUSY, message),
            Error::State(_) => Failure::new(&INVALID_STATE, message),
            Error::NotInitialized { .. } => Failure::new(&NOT_INITIALIZED, message),
            Error::Partner(_) => Failure::new(&PARTNER, message),
            Error::NoSpace(_) => Failure::new(&NO_SPACE, message),
            Error::Forbidden(_) => Failure::new(&FORBIDDEN, message),
            // Text of SQLite means nothing to a client.
            Error::Catalog(error) => Failure::internal("the catalog failed", error),
            Error::System(error) => Failure::of_system(error),
            Error::Contradiction(_) => Failure::new(&INVALID_STATE, message),
        }
    }
}

impl Failure {
    fn of_system(error: os::Error) -> Self {
        match error.kind {
            Kind::Busy => Failure { source: Some(error.clone().into()), ..Failure::new(&BUSY, error.to_string()) },
            Kind::NoSpace => {
                Failure { source: Some(error.clone().into()), ..Failure::new(&NO_SPACE, error.to_string()) }
            }
            Kind::Missing | Kind::Exists | Kind::Denied | Kind::TimedOut | Kind::Unclear | Kind::Other => {
                Failure::internal(&error.to_string(), error.clone())
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut error = json!({ "type": self.kind.name, "message": self.message });
        if let Some(reason) = &self.reason {
            error["reason"] = json!(reason);
        }
        let status = StatusCode::from_u16(self.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = HeaderValue::from_static("application/json");
        let body = json!({ "error": error }).to_string();
        let mut response = (status, [(header::CONTENT_TYPE, json)], body).into_response();
        if let Some((name, value)) = self.header.as_deref().cloned() {
            response.headers_mut().insert(name, value);
        }
        // For the request's line in the log, and the sign that this answer has its envelope already.
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Invalid, system::InitStatus};

    #[test]
    fn names_are_camel_case_unique_and_sorted_by_status() {
        assert!(ALL.is_sorted_by_key(|kind| kind.status));
        for (at, kind) in ALL.iter().enumerate() {
            assert!(kind.name.ends_with("Error") && kind.name.chars().all(char::is_alphabetic), "{kind:?}");
            assert!(ALL[at + 1..].iter().all(|other| other.name != kind.name), "{kind:?} is there twice");
            assert!(StatusCode::from_u16(kind.status).is_ok());
        }
    }

    #[test]
    fn every_meaning_has_its_type() {
        let system = |kind| Error::System(os::Error::new(kind, "zpool create vpool1", "no"));
        let cases = [
            (Error::Invalid(Invalid::new("name", "is empty")), "InvalidParameterError", 400),
            (Error::not_found("pool", 7), "NotFoundError", 404),
            (Error::Exists("taken".into()), "AlreadyExistsError", 409),
            (Error::Busy("busy".into()), "BusyError", 409),
            (Error::State("no".into()), "InvalidStateError", 409),
            (Error::NotInitialized { status: InitStatus::Failed, message: None }, "NotInitializedError", 409),
            (Error::NoSpace("full".into()), "NoSpaceError", 507),
            (Error::Partner("gone".into()), "PartnerError", 502),
            (Error::Forbidden("no".into()), "ForbiddenError", 403),
            (Error::Contradiction("odd".into()), "InvalidStateError", 409),
            (system(Kind::Busy), "BusyError", 409),
            (system(Kind::NoSpace), "NoSpaceError", 507),
            (system(Kind::TimedOut), "InternalError", 500),
            (system(Kind::Missing), "InternalError", 500),
            (system(Kind::Other), "InternalError", 500),
        ];
        for (error, name, status) in cases {
            let text = format!("{error:?}");
            let failure = Failure::from(error);
            assert_eq!((failure.kind.name, failure.kind.status), (name, status), "{text}");
        }
    }

    #[test]
    fn the_message_about_a_candidate_is_the_contracts() {
        let error = Error::InvalidCandidate { uuid: "12345".into(), reason: Some("it holds ext4".into()) };
        let failure = Failure::from(error);
        assert_eq!(failure.message, "Disk UUID 12345 is not a valid candidate for a pool");
        assert_eq!(failure.reason.as_deref(), Some("it holds ext4"));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let failure = Failure::invalid("ü".repeat(5000));
        assert_eq!(failure.message.chars().count(), MAX_MESSAGE_CHARS + 1);
    }
}
