//! Accounts (contract section 3). Over HTTPS they can be looked at; root changes them over the Unix socket.

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    auth::LocalChangeBy,
    blocking,
    body::Json,
    error::Failure,
    wire::{Decimal, Empty, Secret},
};
use crate::{
    error::Error,
    types::user::{self, Password, ROLE, UserName},
};

/// An account of the operating system in group `vsnap`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct User {
    /// Id of its primary group.
    gid: Decimal,
    /// Login name.
    name: String,
    /// Always `vsnap_admin`, the one role there is.
    role: &'static str,
    /// User id.
    uid: Decimal,
}

impl From<user::User> for User {
    fn from(user: user::User) -> Self {
        User { gid: user.gid.into(), name: user.name, role: ROLE, uid: user.uid.into() }
    }
}

/// All accounts that may use the API, in uid order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserList {
    total: usize,
    users: Vec<User>,
}

/// A new account.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewUser {
    /// Login name: up to 32 of a-z, 0-9, _ and -.
    name: String,
    /// 8 to 128 characters.
    #[schema(value_type = String, format = Password)]
    password: Secret,
}

/// A new password.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewPassword {
    /// 8 to 128 characters.
    #[schema(value_type = String, format = Password)]
    password: Secret,
}

/// What to do with an account.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct UserAction {
    /// `grant`: put it into the group. `revoke`: take it out; the account stays.
    action: UserVerb,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum UserVerb {
    Grant,
    Revoke,
}

/// Get users
///
/// All accounts of the operating system in group `vsnap`, primary or supplementary, in uid order.
#[utoipa::path(get, path = "/api/user", operation_id = "listUsers", tag = "user",
    responses((status = 200, description = "The users", body = UserList)))]
pub(super) async fn list(State(api): State<Api>) -> Result<axum::Json<UserList>, Failure> {
    let users = blocking(&api, |engine| engine.users()).await?;
    Ok(axum::Json(UserList { total: users.len(), users: users.into_iter().map(User::from).collect() }))
}

/// Get a user
///
/// One account of group `vsnap`.
#[utoipa::path(get, path = "/api/user/{name}", operation_id = "getUser", tag = "user",
    params(("name" = String, Path, description = "Login name")),
    responses((status = 200, description = "The user", body = User)))]
pub(super) async fn show(State(api): State<Api>, Path(name): Path<String>) -> Result<axum::Json<User>, Failure> {
    let user = blocking(&api, move |engine| {
        let found = engine.users()?.into_iter().find(|user| user.name == name);
        found.ok_or_else(|| Error::not_found("user", name))
    });
    Ok(axum::Json(user.await?.into()))
}

/// Create a user
///
/// Makes an account without a shell, in group `vsnap`. Only over the Unix socket, as root: `vsnap user create`.
#[utoipa::path(post, path = "/api/user", operation_id = "createUser", tag = "user", request_body = NewUser,
    responses((status = 200, description = "The user", body = User)))]
pub(super) async fn create(
    State(api): State<Api>,
    LocalChangeBy(caller): LocalChangeBy,
    Json(body): Json<NewUser>,
) -> Result<axum::Json<User>, Failure> {
    let name = UserName::new(body.name).map_err(Error::from)?;
    let password = Password::new(body.password.expose()).map_err(Error::from)?;
    let user = blocking(&api, move |engine| engine.create_user(&caller, name, password)).await?;
    Ok(axum::Json(user.into()))
}

/// Change a password
///
/// Only over the Unix socket, as root: `vsnap user password`.
#[utoipa::path(put, path = "/api/user/{name}", operation_id = "setPassword", tag = "user", request_body = NewPassword,
    params(("name" = String, Path, description = "Login name")),
    responses((status = 200, description = "The user", body = User)))]
pub(super) async fn set_password(
    State(api): State<Api>,
    LocalChangeBy(caller): LocalChangeBy,
    Path(name): Path<String>,
    Json(body): Json<NewPassword>,
) -> Result<axum::Json<User>, Failure> {
    let name = UserName::new(name).map_err(Error::from)?;
    let password = Password::new(body.password.expose()).map_err(Error::from)?;
    let user = blocking(&api, move |engine| engine.set_password(&caller, name, password)).await?;
    Ok(axum::Json(user.into()))
}

/// Grant or revoke access
///
/// `grant` answers with the user, `revoke` with `{}`. Only over the Unix socket, as root: `vsnap user grant`,
/// `vsnap user revoke`.
#[utoipa::path(post, path = "/api/user/{name}", operation_id = "changeUserAccess", tag = "user",
    request_body = UserAction, params(("name" = String, Path, description = "Login name")),
    responses((status = 200, description = "The user, or nothing after `revoke`", body = UserOrNothing)))]
pub(super) async fn act(
    State(api): State<Api>,
    LocalChangeBy(caller): LocalChangeBy,
    Path(name): Path<String>,
    Json(body): Json<UserAction>,
) -> Result<axum::Json<UserOrNothing>, Failure> {
    let name = UserName::new(name).map_err(Error::from)?;
    let answer = match body.action {
        UserVerb::Grant => {
            let user = blocking(&api, move |engine| engine.grant_user(&caller, name)).await?;
            UserOrNothing::User(user.into())
        }
        UserVerb::Revoke => {
            blocking(&api, move |engine| engine.revoke_user(&caller, name)).await?;
            UserOrNothing::Nothing(Empty {})
        }
    };
    Ok(axum::Json(answer))
}

/// A user, or `{}`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum UserOrNothing {
    User(User),
    Nothing(Empty),
}
