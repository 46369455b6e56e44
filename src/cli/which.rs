//! Which object a command means, by id or by name, and which part of a list: the same for every noun.

use std::marker::PhantomData;

use clap::Args;
use serde_json::Value;

use super::{
    client::Client,
    failure::{Failure, Result},
    json,
};
use crate::types::{SystemId, partner::Address};

/// A kind of object that has an id and a name.
pub(super) trait Noun: std::fmt::Debug + Clone + Send + Sync + 'static {
    /// `pool`: in commands, in messages, and in paths of the API.
    const NOUN: &'static str;
    /// What stands for one in the help.
    const PLACEHOLDER: &'static str;
    /// The member of the API that people call it by.
    const NAME: &'static str = "name";

    /// Whether this can be an id; what can't is not asked for as one.
    fn may_be_id(key: &str) -> bool {
        is_number(key)
    }

    /// A name as the appliance keeps it.
    fn kept_name(name: &str) -> String {
        name.to_owned()
    }

    /// The object that is meant when none was named.
    fn unnamed(_: &Client) -> Result<Found> {
        Err(Failure::local(format!("say which {0} is meant; `vsnap {0} show` lists those there are", Self::NOUN)))
    }
}

/// Pools. Where there is only one, it need not be named.
#[derive(Debug, Clone)]
pub(super) struct Pool;

impl Noun for Pool {
    const NOUN: &'static str = "pool";
    const PLACEHOLDER: &'static str = "POOL";

    fn unnamed(client: &Client) -> Result<Found> {
        let list = client.get("/api/pool")?;
        match json::items(&list, "pools") {
            [pool] => Ok(Found::new::<Self>(pool)),
            [] => Err(Failure::Outcome("there is no pool yet; make one with `vsnap pool create`".to_owned())),
            pools => {
                let names: Vec<_> = pools.iter().map(|pool| json::text(pool, "name")).collect();
                Err(Failure::local(format!("there are several pools, say which one: {}", names.join(", "))))
            }
        }
    }
}

/// Volumes.
#[derive(Debug, Clone)]
pub(super) struct Volume;

impl Noun for Volume {
    const NOUN: &'static str = "volume";
    const PLACEHOLDER: &'static str = "VOLUME";
}

/// Hosts.
#[derive(Debug, Clone)]
pub(super) struct Host;

impl Noun for Host {
    const NOUN: &'static str = "host";
    const PLACEHOLDER: &'static str = "HOST";
}

/// Snapshots. Several volumes may have one of the same name.
#[derive(Debug, Clone)]
pub(super) struct Snapshot;

impl Noun for Snapshot {
    const NOUN: &'static str = "snapshot";
    const PLACEHOLDER: &'static str = "SNAPSHOT";
}

/// Network interfaces. Their ids are MACs, or begin with one.
#[derive(Debug, Clone)]
pub(super) struct Network;

impl Noun for Network {
    const NOUN: &'static str = "network";
    const PLACEHOLDER: &'static str = "INTERFACE";

    fn may_be_id(key: &str) -> bool {
        key.get(..12).is_some_and(|mac| mac.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// Shares, whose names are made by the appliance.
#[derive(Debug, Clone)]
pub(super) struct Share;

impl Noun for Share {
    const NOUN: &'static str = "share";
    const PLACEHOLDER: &'static str = "SHARE";
}

/// Partners, which people call by their address.
#[derive(Debug, Clone)]
pub(super) struct Partner;

impl Noun for Partner {
    const NOUN: &'static str = "partner";
    const PLACEHOLDER: &'static str = "PARTNER";
    const NAME: &'static str = "address";

    fn may_be_id(key: &str) -> bool {
        is_hex_id(key)
    }

    fn kept_name(name: &str) -> String {
        // What is no address is no partner's either; the appliance says so.
        Address::new("partner", name).map_or_else(|_| name.to_owned(), String::from)
    }
}

/// The object that a command is about.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Which<N: Noun> {
    #[arg(value_name = N::PLACEHOLDER, help = format!("The {}, by id or name", N::NOUN))]
    key: Option<String>,
    #[arg(long, value_name = "ID", help = format!("The {}, by id", N::NOUN))]
    id: Option<String>,
    #[arg(long, value_name = "NAME", help = format!("The {}, by name", N::NOUN))]
    name: Option<String>,
    #[arg(skip)]
    noun: PhantomData<N>,
}

impl<N: Noun> Which<N> {
    /// Whether one was named.
    pub(super) fn is_given(&self) -> bool {
        self.key.is_some() || self.id.is_some() || self.name.is_some()
    }

    /// The object that is meant.
    pub(super) fn find(&self, client: &Client) -> Result<Found> {
        match (&self.key, &self.id, &self.name) {
            (Some(key), _, _) => find::<N>(client, key),
            (_, Some(id), _) => by::<N>(client, "id", id)?.ok_or_else(|| missing::<N>(id)),
            (_, _, Some(name)) => by::<N>(client, N::NAME, &N::kept_name(name))?.ok_or_else(|| missing::<N>(name)),
            (None, None, None) => N::unnamed(client),
        }
    }
}

/// Which part of a list to show.
#[derive(Debug, Args)]
#[command(next_help_heading = "Part of the list")]
pub(super) struct Part {
    /// At most this many
    #[arg(long, value_name = "NUMBER", conflicts_with = "Which")]
    limit: Option<u64>,
    /// Leave out this many first
    #[arg(long, value_name = "NUMBER", conflicts_with = "Which")]
    offset: Option<u64>,
    /// Order: names of fields as --json shows them, with commas; a - before one turns its order
    #[arg(long, value_name = "FIELD,...", allow_hyphen_values = true, conflicts_with = "Which")]
    sort: Option<String>,
}

impl Part {
    /// The parameters of a request for it.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&'static str, String)> {
        let count = |number: Option<u64>| number.map(|number| number.to_string());
        let parameters = [("limit", count(self.limit)), ("offset", count(self.offset)), ("sort", self.sort.clone())];
        parameters.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

/// An object that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    noun: &'static str,
}

impl Found {
    /// What an answer of the API describes.
    pub(super) fn new<N: Noun>(value: &Value) -> Self {
        Found { id: json::text(value, "id"), name: json::text(value, N::NAME), noun: N::NOUN }
    }

    /// Its path in the API.
    pub(super) fn path(&self) -> String {
        format!("/api/{}/{}", self.noun, self.id)
    }
}

/// The object with this id, or else with this name.
pub(super) fn find<N: Noun>(client: &Client, key: &str) -> Result<Found> {
    if N::may_be_id(key)
        && let Some(found) = by::<N>(client, "id", key)?
    {
        return Ok(found);
    }
    by::<N>(client, N::NAME, &N::kept_name(key))?.ok_or_else(|| missing::<N>(key))
}

/// The snapshot of `volume` with this id, or else with this name.
pub(super) fn find_snapshot_of(client: &Client, volume: &Found, key: &str) -> Result<Found> {
    let path = format!("{}/snapshot", volume.path());
    let one = |member: &str| -> Result<Option<Found>> {
        let list = client.find(&path, &[(member, key)])?;
        Ok(json::items(&list, "snapshots").first().map(Found::new::<Snapshot>))
    };
    let by_id = if is_number(key) { one("id")? } else { None };
    by_id.map_or_else(|| one("name"), |found| Ok(Some(found)))?.ok_or_else(|| {
        let Found { name, id, .. } = volume;
        Failure::Outcome(format!("volume {name} has no snapshot {key}; `vsnap snapshot show --volume {id}` lists them"))
    })
}

/// Whether this can be the id of a partner or relationship.
pub(super) fn is_hex_id(key: &str) -> bool {
    key.parse::<SystemId>().is_ok()
}

fn is_number(key: &str) -> bool {
    key.parse::<u64>().is_ok_and(|number| i64::try_from(number).is_ok())
}

fn by<N: Noun>(client: &Client, member: &str, key: &str) -> Result<Option<Found>> {
    match client.find(&format!("/api/{}", N::NOUN), &[(member, key)]) {
        Err(failure) if failure.is_not_found() => Ok(None),
        Err(failure) => Err(failure),
        Ok(answer) => match answer[format!("{}s", N::NOUN)].as_array().map(Vec::as_slice) {
            None => Ok(Some(Found::new::<N>(&answer))),
            Some([]) => Ok(None),
            Some([one]) => Ok(Some(Found::new::<N>(one))),
            Some(several) => Err(ambiguous::<N>(key, several)),
        },
    }
}

fn missing<N: Noun>(key: &str) -> Failure {
    Failure::Outcome(format!("there is no {0} {key}; `vsnap {0} show` lists those there are", N::NOUN))
}

fn ambiguous<N: Noun>(key: &str, several: &[Value]) -> Failure {
    const SHOWN: usize = 5;
    let text = |it: &Value| match it["parent_id"].as_str() {
        Some(volume) => format!("{} (volume {volume})", json::text(it, "id")),
        None => json::text(it, "id"),
    };
    let mut ids: Vec<_> = several.iter().take(SHOWN).map(text).collect();
    if several.len() > SHOWN {
        ids.push(format!("{} more", several.len() - SHOWN));
    }
    Failure::local(format!("there are several {}s {key}, say which one by its id: {}", N::NOUN, ids.join(", ")))
}
