//! The contract of the boundary to the operating system. Every test runs on the fake and, with `VSNAP_OS_TEST=real`
//! (as root, on a disposable machine with unused disks), on the real system, so that the fake can't drift.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod accounts;
mod datasets;
mod disks;
mod exports;
mod iscsi;
mod networks;
mod pools;
mod snapshots;
mod streams;
mod system;
