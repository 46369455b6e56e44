//! **vSnap**: a Linux machine with disks becomes a ZFS storage appliance for backup.
//!
//! This page is the map. A feature lives under the same file name (`pool`, `disk`, `system`, ...) in every layer:
//!
//! ```text
//!             cli  ──HTTP──►  api          bin/vsnap, bin/vsnapd
//!                              │
//!                              ▼           what the appliance does, synchronous;
//!                            engine        every change is a journalled operation
//!                              │
//!                              ▼
//!                            error         one error, by meaning
//!                            │    │
//!                            ▼    ▼
//!                      catalog    os       SQLite rows  |  everything outside the process
//!                            │    │
//!                            ▼    ▼
//!                            types         values that are valid by construction; no I/O
//! ```
//!
//! Arrows are imports, and none leads up. Some layers also import what is further below: [`engine`] all of it, [`api`]
//! [`mod@error`], [`os`] and [`types`]. [`cli`] imports [`types`]. [`config`] imports nothing, and [`engine`] and [`api`]
//! read it. `tests/architecture.rs` has the whole list and allows no others.
//!
//! | looking for | it is in |
//! |---|---|
//! | a field of a reply, a parameter of a request | [`api`]`/<resource>.rs` |
//! | a rule ("raid6 needs four disks") | [`engine`]`/<resource>.rs` |
//! | a column | `migrations/` and [`catalog`]`/<resource>.rs` |
//! | a flag given to `zpool` or `zfs` | [`os::zfs`] |
//! | what happens after a crash | [`engine::operation`] |
//! | what keeps others out of a pool until something has ended | `engine/absence.rs` |
//! | why no number is given twice | `engine/given_numbers.rs` |
//! | which disks may be used | [`os::disks`] finds them, `engine/disk.rs` judges them |
//! | who may come in | [`api::auth`], [`os::pam`] |
//! | what is reachable through which interface | `engine/network.rs`, [`os::network_rules`], [`os::listen`] |
//! | what is sent in a replication session, and what the next one builds on | `engine/session/source.rs`, `plan.rs`, `base.rs` |
//! | how a stream gets from `zfs send` to SSH | [`os::link`] |
//! | what partners say to each other, and who answers | [`types::link`], `engine/link_serve.rs` |
//! | which certificate a new partner must show | `os/certificate.rs`; the fingerprint comes from [`types::partner`] |
//! | a key of the configuration file | [`config`] |

pub mod api;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod os;
pub mod types;
