//! The HTTPS API: the only layer that is asynchronous. This page has every route.
//!
//! A request passes `edge` (id, log, time limit, envelope), [`auth`], for a DELETE a check that it has no body, then its
//! handler in `<resource>.rs`, which turns JSON into [`crate::types`], calls the engine through [`blocking`] and turns the
//! result into JSON.
//!
//! | what | where |
//! |---|---|
//! | error types and the envelope | [`error`] |
//! | reading a body or a query string | [`body`] |
//! | which object or part of a list a GET asks for | `lookup` |
//! | numbers as strings | [`wire`] |
//! | the OpenAPI document | [`openapi`] |
//! | listeners, limits, stopping | [`server`], [`tls`], [`socket`] |

pub mod auth;
pub mod body;
mod credentials;
mod disk;
mod edge;
pub mod error;
mod host;
mod host_request;
mod listeners;
mod lookup;
mod network;
pub mod openapi;
mod operation;
mod partner;
mod partner_request;
mod pool;
mod pool_status;
mod relationship;
pub mod server;
mod session;
mod share;
mod share_request;
mod snapshot;
mod snapshot_diff;
mod snapshot_request;
pub mod socket;
pub mod supervision;
mod system;
mod system_catalog;
mod target;
pub mod tls;
mod user;
mod volume;
mod volume_request;
pub mod wire;

use std::{sync::Arc, time::Duration};

use axum::{Router, middleware};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use auth::Origin;
use credentials::Credentials;
pub use credentials::GuessLimit;
use error::Failure;

use crate::{config::Config, engine::Engine};

/// Every route that is described by the OpenAPI document.
fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::preamble())
        .routes(routes!(system::show, system::act))
        .routes(routes!(system::statistics))
        .routes(routes!(system_catalog::report))
        .routes(routes!(system_catalog::rebuild))
        .routes(routes!(user::list, user::create))
        .routes(routes!(user::show, user::act, user::set_password))
        .routes(routes!(network::list))
        .routes(routes!(network::show, network::update))
        .routes(routes!(target::list))
        .routes(routes!(disk::list, disk::act))
        .routes(routes!(pool::list, pool::create))
        .routes(routes!(pool::show, pool::update, pool::act, pool::delete))
        .routes(routes!(pool_status::show))
        .routes(routes!(volume::list, volume::create))
        .routes(routes!(volume::show, volume::update, volume::act, volume::delete))
        .routes(routes!(snapshot::list_of_volume, snapshot::create))
        .routes(routes!(snapshot::list, snapshot::create_several))
        .routes(routes!(snapshot::show, snapshot::update, snapshot::act, snapshot::delete))
        .routes(routes!(snapshot_diff::show))
        .routes(routes!(operation::list))
        .routes(routes!(share::create_of_volume, share::update_of_volume, share::delete_of_volume))
        .routes(routes!(share::list, share::create))
        .routes(routes!(share::show, share::update, share::delete))
        .routes(routes!(host::list, host::create))
        .routes(routes!(host::show, host::update, host::act, host::delete))
        .routes(routes!(host::map))
        .routes(routes!(host::unmap))
        .routes(routes!(partner::preferences, partner::set_preferences))
        .routes(routes!(partner::list, partner::create))
        .routes(routes!(partner::pair))
        .routes(routes!(partner::show, partner::update, partner::delete))
        .routes(routes!(relationship::list_of_volume, relationship::create))
        .routes(routes!(relationship::list))
        .routes(routes!(relationship::show, relationship::delete))
        .routes(routes!(session::create))
        .routes(routes!(session::list))
        .routes(routes!(session::show, session::act))
}

/// Settings of the router.
#[derive(Debug, Clone)]
pub struct Options {
    /// Largest body of a request.
    pub body_bytes: usize,
    /// How long the body may take to arrive.
    pub body_time: Duration,
    /// How long a request may take before it is answered with an error.
    pub request_time: Duration,
    /// How long a right password is remembered.
    pub credential_ttl: Duration,
    /// How wrong passwords are slowed down.
    pub guesses: GuessLimit,
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Self {
        let limits = &config.limits;
        Options {
            body_bytes: limits.body_bytes,
            body_time: Duration::from_secs(limits.header_seconds),
            request_time: Duration::from_secs(limits.request_seconds),
            credential_ttl: Duration::from_secs(limits.credential_cache_seconds),
            guesses: GuessLimit::default(),
        }
    }
}

/// Engine calls that run at a time; more wait. Far below tokio's 512 blocking threads, so that a password check
/// and the watchdog always find one.
const PARALLEL_CALLS: usize = 128;

/// What handlers share.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

struct Shared {
    engine: Arc<Engine>,
    options: Options,
    credentials: Credentials,
    calls: Arc<Semaphore>,
}

impl Api {
    fn options(&self) -> &Options {
        &self.0.options
    }

    fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }
}

/// The whole API, to be served or to be called in a test. Requests without an [`Origin`] in their extensions count
/// as coming from the network.
///
/// Fails when the system has no random numbers.
pub fn router(engine: Arc<Engine>, options: Options) -> Result<Router, getrandom::Error> {
    let request_time = options.request_time;
    let credentials = Credentials::new(Arc::clone(&engine), options.credential_ttl, options.guesses)?;
    let calls = Arc::new(Semaphore::new(PARALLEL_CALLS));
    let api = Api(Arc::new(Shared { engine, options, credentials, calls }));
    let inner = routes()
        .split_for_parts()
        .0
        .merge(openapi::routes())
        .route_layer(middleware::from_fn_with_state(api.clone(), body::refuse_on_delete))
        .layer(middleware::from_fn_with_state(api.clone(), auth::authenticate))
        .with_state(api);
    Ok(at_the_edge(inner, request_time))
}

/// The layers that stand around everything, also around authentication. They are outside of the router, because
/// they clean the path that it looks at.
fn at_the_edge(inner: Router, request_time: Duration) -> Router {
    Router::new()
        .fallback_service(inner)
        .layer(CatchPanicLayer::custom(edge::on_panic))
        .layer(middleware::from_fn_with_state(request_time, edge::edge))
}

/// Asks the engine for a few rows of the catalog, right here: the way to another thread and back costs more than they do.
/// Not for what changes something, asks the system, or costs more the more objects there are.
pub fn look_up<T>(api: &Api, work: impl FnOnce(&Engine) -> crate::error::Result<T>) -> Result<T, Failure> {
    Ok(work(&api.0.engine)?)
}

/// Runs `work` on a thread that may block. But for [`look_up`] the only way from here to the engine.
///
/// The work goes on when the request is given up; a panic in it becomes an error.
pub async fn blocking<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Arc<Engine>) -> crate::error::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let closed = |error| Failure::internal("the appliance is stopping", error);
    let permit = Arc::clone(&api.0.calls).acquire_owned().await.map_err(closed)?;
    let (engine, span) = (Arc::clone(&api.0.engine), tracing::Span::current());
    let work = move || {
        let _permit = permit;
        span.in_scope(|| work(&engine))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Failure::panicked()),
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Request, StatusCode, header},
        response::Response,
        routing::{get, post},
    };
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    async fn ask(request: Request<Body>) -> (Response<()>, Value) {
        let routes = Router::new()
            .route("/api/fine", get(|| async { "fine" }))
            .route(
                "/api/panic",
                post(|| async {
                    if true {
                        panic!("secret detail")
                    }
                }),
            )
            .route("/api/slow", get(|| async { std::future::pending::<()>().await }))
            .route("/api/text/{text}", get(|path: axum::extract::Path<String>| async move { path.0 }));
        let response = at_the_edge(routes, Duration::from_millis(50)).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::String(String::from_utf8_lossy(&bytes).into()));
        (Response::from_parts(parts, ()), value)
    }

    fn request(method: &str, path: &str) -> Request<Body> {
        Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn every_failure_has_the_envelope() {
        let cases = [
            ("GET", "/api/none", 404, "NotFoundError"),
            ("GET", "/", 404, "NotFoundError"),
            ("DELETE", "/api/fine", 405, "MethodNotAllowedError"),
            ("OPTIONS", "/api/fine", 405, "MethodNotAllowedError"),
            ("POST", "/api/panic", 500, "InternalError"),
            ("GET", "/api/slow", 500, "TimeoutError"),
            ("GET", "/api/text/%FF", 400, "InvalidParameterError"),
        ];
        for (method, path, status, kind) in cases {
            let (response, value) = ask(request(method, path)).await;
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            assert_eq!(value["error"]["type"], kind, "{method} {path}");
            assert!(!value["error"]["message"].as_str().unwrap().contains("secret detail"));
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
            assert!(response.headers().contains_key("x-request-id"));
            assert_eq!(response.headers().contains_key(header::ALLOW), status == 405);
        }
    }

    #[tokio::test]
    async fn slashes_do_not_matter() {
        for path in ["/api/fine", "//api/fine", "/api//fine/", "///api///fine//?x=1"] {
            let (response, value) = ask(request("GET", path)).await;
            assert_eq!((response.status(), value), (StatusCode::OK, "fine".into()), "{path}");
        }
    }
}
