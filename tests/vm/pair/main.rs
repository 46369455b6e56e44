//! Replication between two real appliances: OpenSSH, ZFS and two daemons. `tests/vm/nodes` starts it and says by
//! environment variables where they are.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod failures;
mod link;
mod node;
mod replication;
#[path = "../wait.rs"]
mod wait;
