//! What the appliance is doing and has done, for clients that follow long operations.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Engine;
use crate::{
    catalog,
    error::Result,
    types::operation::{OperationFilter, OperationReport, OperationState},
};

/// How far operations are that can tell: done and all, by id. In memory only, since after a crash it is counted anew.
#[derive(Default)]
pub struct Progress(Mutex<HashMap<i64, (usize, usize)>>);

impl Progress {
    /// Operation `id` has done `done` of `all`.
    pub(super) fn set(&self, id: i64, done: usize, all: usize) {
        self.lock().insert(id, (done, all));
    }

    /// Operation `id` is over.
    pub(super) fn end(&self, id: i64) {
        self.lock().remove(&id);
    }

    fn percent(&self, id: i64) -> Option<u8> {
        let (done, all) = *self.lock().get(&id)?;
        u8::try_from(done.min(all) * 100 / all.max(1)).ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, (usize, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Operations that the filter lets through, the youngest first.
    pub fn operations(&self, filter: &OperationFilter) -> Result<Vec<OperationReport>> {
        let mut reports = self.catalog.read(|view| catalog::operation::select(view, filter))?;
        for report in &mut reports {
            report.percent = match report.state {
                OperationState::Running => self.progress.percent(report.id),
                OperationState::Done => Some(100),
                OperationState::Failed => None,
            };
        }
        Ok(reports)
    }
}
