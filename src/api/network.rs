//! Network interfaces (contract section 4).

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    auth::EarlyChangeBy,
    blocking,
    body::{Json, Query},
    error::Failure,
    lookup::{Asked, Lookup},
};
use crate::{
    error::Error,
    types::network::{self, Services},
};

/// A network interface and the services that are offered on it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Network {
    /// MAC address without separators, made unique for links that share one.
    id: String,
    /// Name of the interface.
    name: String,
    /// MAC address without separators.
    hw_addr: String,
    /// IPv4 addresses.
    #[schema(value_type = Vec<String>)]
    ip4_addrs: Vec<std::net::Ipv4Addr>,
    /// IPv6 addresses.
    #[schema(value_type = Vec<String>)]
    ip6_addrs: Vec<std::net::Ipv6Addr>,
    /// Of `mgmt`, `nfs`, `smb`, `iscsi`, `repl`, in this order.
    services: Vec<&'static str>,
}

impl From<network::Network> for Network {
    fn from(network: network::Network) -> Self {
        let link = network.interface;
        Network {
            id: link.id,
            name: link.name,
            hw_addr: link.hw_addr,
            ip4_addrs: link.ip4_addrs,
            ip6_addrs: link.ip6_addrs,
            services: network.services.words(),
        }
    }
}

/// All interfaces but the loopback and those without a MAC address, such as tunnels, which stay open.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NetworkList {
    networks: Vec<Network>,
    total: usize,
}

/// Get network interfaces
///
/// With `id` or `name` the answer is that one interface, or 404.
#[utoipa::path(get, path = "/api/network", operation_id = "listNetworks", tag = "network", params(Lookup),
    responses((status = 200, description = "The interfaces, or the one asked for", body = NetworkAnswer)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(lookup): Query<Lookup>,
) -> Result<axum::Json<NetworkAnswer>, Failure> {
    let answer = blocking(&api, move |engine| match lookup.asked()? {
        Asked::Id(id) => Ok(NetworkAnswer::One(engine.network(&id)?.into())),
        Asked::Name(name) => {
            let found = engine.networks()?.into_iter().find(|network| network.interface.name == name);
            Ok(NetworkAnswer::One(found.ok_or_else(|| Error::not_found("network interface", name))?.into()))
        }
        Asked::List(()) => {
            let networks: Vec<_> = engine.networks()?.into_iter().map(Network::from).collect();
            Ok(NetworkAnswer::List(NetworkList { total: networks.len(), networks }))
        }
    });
    Ok(axum::Json(answer.await?))
}

/// Get a network interface
#[utoipa::path(get, path = "/api/network/{id}", operation_id = "getNetwork", tag = "network",
    params(("id" = String, Path, description = "Id of the interface")),
    responses((status = 200, description = "The interface", body = Network)))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<axum::Json<Network>, Failure> {
    let network = blocking(&api, move |engine| engine.network(&id)).await?;
    Ok(axum::Json(network.into()))
}

/// What is to be offered on an interface.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NetworkServices {
    /// One or more of `mgmt`, `nfs`, `smb`, `iscsi`, `repl`; or `all`, beside which the others do not matter.
    #[schema(min_items = 1)]
    services: Vec<String>,
}

/// Set network interface services
///
/// From now on these services are reachable through this interface, and no others, on IPv4 and IPv6. `mgmt` is the API;
/// SSH is reachable where `mgmt` or `repl` is. What belongs to none of the services is not touched.
///
/// Clients of a data service that is taken away are cut off. Connections to the API and SSH that exist go on, so this
/// request is answered also when it takes `mgmt` from the interface that it came through.
///
/// While every interface has `iscsi`, the target listens on all addresses; otherwise on those of the interfaces that have
/// it, and an address that comes later is listened on within a minute. The same holds for `nfs` and `smb` while something
/// is shared by them, but their servers are restarted for it: NFS clients wait and go on, SMB clients connect again.
///
/// `mgmt` can't be taken from the last interface with an address that has it (409). An interface that appears later
/// offers everything. May be used before `init`.
#[utoipa::path(put, path = "/api/network/{id}", operation_id = "updateNetwork", tag = "network",
    request_body = NetworkServices, params(("id" = String, Path, description = "Id of the interface")),
    responses((status = 200, description = "The interface", body = Network)))]
pub(super) async fn update(
    State(api): State<Api>,
    EarlyChangeBy(caller): EarlyChangeBy,
    Path(id): Path<String>,
    Json(body): Json<NetworkServices>,
) -> Result<axum::Json<Network>, Failure> {
    let services = Services::read(&body.services).map_err(Error::from)?;
    let network = blocking(&api, move |engine| engine.update_network(&caller, &id, services)).await?;
    Ok(axum::Json(network.into()))
}

/// All interfaces, or one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum NetworkAnswer {
    List(NetworkList),
    One(Network),
}
