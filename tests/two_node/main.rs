//! Replication between two appliances on fakes: what goes through the link are the real questions, answers and streams.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod failures;
mod node;
mod partners;
mod protocol;
mod relationships;
mod sessions;
