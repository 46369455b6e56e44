//! Tests against a real appliance, over its API, its command line and its console. `make vm-test` boots one in a
//! virtual machine; with `VSNAP_TEST_HOST` and its companions set, any disposable machine will do (see README.md).
//!
//! They destroy what is in the appliance's pools and want at least 16 unused disks.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod bad_input;
mod bed;
mod command_line;
mod crash;
mod daemon;
mod disks;
mod hosts;
#[path = "../crash/model_state.rs"]
mod model_state;
mod networks;
mod older_catalog;
mod outside;
mod package;
mod pool_disks;
mod pool_failures;
mod pools;
mod random;
mod reboot;
mod scale;
mod shares;
mod snapshots;
mod system;
mod thousands;
mod upkeep;
mod users;
mod volumes;
mod wait;
