//! Who may come in: HTTP Basic over HTTPS, the peer's uid on the Unix socket. Every request goes through here.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, Method, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose};

use super::{
    Api,
    edge::Record,
    error::{FORBIDDEN, Failure},
    look_up,
};
use crate::{
    engine::Caller,
    os::Authentication,
    types::user::{GROUP, Password},
};

/// Where a connection comes from. The server puts it into the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The network.
    Network(SocketAddr),
    /// The Unix socket, by a process of this user.
    Local {
        /// From `SO_PEERCRED`.
        uid: u32,
    },
}

impl Default for Origin {
    /// The origin with the least rights, for requests that came in some unknown way.
    fn default() -> Self {
        Origin::Network((Ipv6Addr::UNSPECIFIED, 0).into())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Network(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).fmt(formatter),
            Origin::Local { uid } => write!(formatter, "socket, uid {uid}"),
        }
    }
}

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    user: String,
    local: bool,
}

/// Lets a request through when it comes from someone who may come in.
pub(super) async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let origin = request.extensions().get::<Origin>().copied().unwrap_or_default();
    let identity = match origin {
        Origin::Local { uid } => identify_local(uid),
        Origin::Network(address) => identify_remote(&api, request.headers(), address.ip().to_canonical()).await,
    };
    let identity = match identity {
        Ok(identity) => identity,
        Err(failure) => return failure.into_response(),
    };
    if let Some(record) = request.extensions().get::<Record>() {
        record.note_user(&identity.user);
    }
    if let Err(failure) = refuse_other_sites(request.method(), request.uri(), request.headers()) {
        return failure.into_response();
    }
    request.extensions_mut().insert(identity);
    next.run(request).await
}

fn identify_local(uid: u32) -> Result<Identity, Failure> {
    if uid != 0 {
        return Err(Failure::new(&FORBIDDEN, "this socket is for root; other users come in over HTTPS"));
    }
    Ok(Identity { user: "root".to_owned(), local: true })
}

async fn identify_remote(api: &Api, headers: &HeaderMap, remote: IpAddr) -> Result<Identity, Failure> {
    let Some((user, password)) = basic_credentials(headers) else {
        return Err(Failure::unauthorized("give user name and password with HTTP basic authentication"));
    };
    match api.credentials().check(&user, password, remote).await? {
        Authentication::Granted => Ok(Identity { user, local: false }),
        Authentication::Forbidden => {
            tracing::warn!(user, %remote, "login of {user:?} from {remote} refused: not in group {GROUP}, locked or expired");
            Err(Failure::new(
                &FORBIDDEN,
                format!(
                    "this user may not use the appliance: the account must be valid and a member of group {GROUP}; \
                     see `vsnap user grant` on the appliance"
                ),
            ))
        }
        Authentication::Refused => {
            tracing::warn!(user, %remote, "login of {user:?} from {remote} refused: wrong user or password");
            Err(Failure::unauthorized("user name or password is wrong"))
        }
    }
}

/// User and password of the one `Authorization` header (RFC 7617). Anything else is no credentials.
fn basic_credentials(headers: &HeaderMap) -> Option<(String, Password)> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (all.next()?.to_str().ok()?, all.next()) else { return None };
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let padding = general_purpose::GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
    let decoder = general_purpose::GeneralPurpose::new(&base64::alphabet::STANDARD, padding);
    let text = zeroize::Zeroizing::new(decoder.decode(encoded.trim()).ok()?);
    let (user, password) = std::str::from_utf8(&text).ok()?.split_once(':')?;
    Some((user.to_owned(), Password::given(password)))
}

/// Refuses changes that a browser sends for a page of another site: it would add the credentials it remembers, and
/// since the content type is free, no preflight request would stop it.
fn refuse_other_sites(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    if method.is_safe() {
        return Ok(());
    }
    let text = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or("?"));
    let here = uri.authority().map(|authority| authority.as_str()).or_else(|| text(header::HOST));
    let same = match (text(header::HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) == here,
        (None, None) => true,
    };
    if same {
        Ok(())
    } else {
        Err(Failure::new(&FORBIDDEN, "changes from web pages of another site are refused; send the request directly"))
    }
}

fn caller(parts: &Parts) -> Result<(Caller, bool), Failure> {
    let missing = || Failure::internal("the request was not authenticated", "a route is outside of the layers");
    let identity = parts.extensions.get::<Identity>().ok_or_else(missing)?;
    let record = parts.extensions.get::<Record>().ok_or_else(missing)?;
    let caller = Caller { user: identity.user.clone(), request_id: record.request_id().to_owned() };
    Ok((caller, identity.local))
}

/// Who asks for a change. Getting one is what checks that the system is initialised: a handler that changes
/// something can't be written without saying which of the three kinds it is. It stands before the body, so that
/// `NotInitializedError` comes before complaints about the body.
pub(super) struct ChangeBy(pub(super) Caller);

impl FromRequestParts<Api> for ChangeBy {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let (caller, _) = caller(parts)?;
        look_up(api, |engine| engine.require_initialized())?;
        Ok(ChangeBy(caller))
    }
}

/// Who asks for a change that is possible before init too: init itself, rescan, network services.
pub(super) struct EarlyChangeBy(pub(super) Caller);

impl FromRequestParts<Api> for EarlyChangeBy {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Failure> {
        caller(parts).map(|(caller, _)| EarlyChangeBy(caller))
    }
}

/// Root on the appliance itself, who alone changes accounts: also before init, since the first one is made there.
pub(super) struct LocalChangeBy(pub(super) Caller);

impl FromRequestParts<Api> for LocalChangeBy {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Failure> {
        match caller(parts)? {
            (caller, true) => Ok(LocalChangeBy(caller)),
            (_, false) => Err(Failure::new(
                &FORBIDDEN,
                "accounts are changed on the appliance itself: use `vsnap user create|password|grant|revoke` there as root",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn basic_credentials_are_read_as_the_rfc_says() {
        let read = |text: &str| {
            basic_credentials(&headers(&[("authorization", text)]))
                .map(|(user, password)| (user, password.expose().to_owned()))
        };
        let aladdin = Some(("Aladdin".to_owned(), "OpenSesame".to_owned()));
        assert_eq!(read("Basic QWxhZGRpbjpPcGVuU2VzYW1l"), aladdin);
        assert_eq!(read("bAsIc   QWxhZGRpbjpPcGVuU2VzYW1l "), aladdin);
        // "u:pässwörd: with colon"
        assert_eq!(read("Basic dTpww6Rzc3fDtnJkOiB3aXRoIGNvbG9u").unwrap().1, "pässwörd: with colon");
        assert_eq!(read("Basic dTo=").unwrap(), ("u".into(), "".into()));
        assert_eq!(read("Basic dTo").unwrap(), ("u".into(), "".into()));
        for bad in
            ["", "Basic", "Basic ", "Basic !!!", "Basic dXNlcg==", "Bearer QWxhZGRpbjpPcGVuU2VzYW1l", "Basic /zo="]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
        let mut twice = headers(&[("authorization", "Basic dTo=")]);
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Basic dTo="));
        assert!(basic_credentials(&twice).is_none());
    }

    #[test]
    fn changes_from_pages_of_other_sites_are_refused() {
        let uri = Uri::from_static("/api/pool");
        let check = |pairs: &[(&'static str, &str)]| refuse_other_sites(&Method::POST, &uri, &headers(pairs)).is_ok();
        assert!(check(&[]));
        assert!(check(&[("host", "vsnap:8900"), ("origin", "https://vsnap:8900")]));
        assert!(check(&[("host", "vsnap:8900"), ("sec-fetch-site", "same-origin")]));
        assert!(!check(&[("host", "vsnap:8900"), ("origin", "https://evil.example")]));
        assert!(!check(&[("host", "vsnap:8900"), ("origin", "null")]));
        assert!(!check(&[("host", "vsnap:8900"), ("sec-fetch-site", "cross-site")]));
        assert!(!check(&[("host", "vsnap:8900"), ("sec-fetch-site", "same-site")]));
        let elsewhere = headers(&[("sec-fetch-site", "cross-site")]);
        assert!(refuse_other_sites(&Method::GET, &uri, &elsewhere).is_ok());
    }

    #[test]
    fn only_root_comes_in_over_the_socket() {
        assert!(identify_local(0).unwrap().local);
        assert_eq!(identify_local(1000).unwrap_err().kind, &FORBIDDEN);
    }
}
