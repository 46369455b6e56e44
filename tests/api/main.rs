//! The API as a client sees it, with a fake operating system behind it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod access;
mod appliance;
mod conventions;
mod document;
mod failures;
mod hosts;
mod networks;
mod numbers;
mod replication_input;
mod resources;
mod scale;
mod server;
mod shares;
mod snapshots;
mod volume_input;
mod volumes;
