//! Carrying the steps out. This writes configfs, where a file is an instruction and a folder is an object of the kernel.
#![allow(clippy::disallowed_methods, reason = "the kernel's configfs is written here, and files nowhere")]

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, symlink},
    path::Path,
};

use super::{
    plan::{Action, Scope, Step},
    reservations,
};
use crate::{
    os::{Applied, Error, Kind, Result, file},
    types::VolumeId,
};

/// Sees to it that there is a target to configure.
pub(super) fn prepare(root: &Path) -> Result<()> {
    if !root.join("core").exists() {
        let detail = "there is no LIO in the kernel; load it with `modprobe target_core_mod iscsi_target_mod`";
        return Err(Error::new(Kind::Missing, format!("looking for {}", root.display()), detail));
    }
    // The kernel loads the module for this name itself.
    make(&root.join("iscsi")).map_err(|error| Error::io("making configfs folder iscsi", &error))?;
    // Without it the kernel answers requests for reservations that outlive a restart with NOT READY.
    let folder = reservations::folder(root)?;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| Error::io(format!("making {folder}"), &error))
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Carries the steps out. After a failure the rest of the same scope is left out, and all else goes on. Failures of
/// units that nobody waits for are logged, so that one broken disk does not keep others from hosts.
pub(super) fn execute(
    root: &Path,
    steps: &[Step],
    needed: &dyn Fn(VolumeId) -> bool,
    progress: &dyn Fn(),
) -> Result<Applied> {
    let (mut applied, mut failed) = (Applied::default(), BTreeSet::new());
    let mut first = None;
    for step in steps {
        if failed.contains(&step.scope) || failed.contains(&Scope::Target) {
            continue;
        }
        progress();
        match carry_out(root, step) {
            Ok(()) => applied.changes.extend(words(step)),
            Err(error) => {
                let removes = matches!(step.action, Action::Remove | Action::Unlink);
                match &step.scope {
                    Scope::Unit(volume) if !removes && !needed(*volume) => {
                        tracing::error!(volume.id = volume.0, %error, "a mapped volume can't be reached");
                    }
                    // The address has just gone, or is still being looked at for another one that has it.
                    Scope::Portal(portal) if !portal.ip().is_unspecified() => {
                        tracing::warn!(%portal, %error, "the iSCSI target can't be reached at an address yet");
                    }
                    _ => {
                        first.get_or_insert(error);
                    }
                }
                failed.insert(step.scope.clone());
            }
        }
    }
    match first {
        None => Ok(applied),
        Some(error) => {
            for change in applied.changes {
                tracing::info!("before that failed: {change}");
            }
            Err(error)
        }
    }
}

fn carry_out(root: &Path, step: &Step) -> Result<()> {
    let path = root.join(&step.path);
    let done = match &step.action {
        Action::Make => make(&path),
        Action::Remove => gone(fs::remove_dir(&path)),
        Action::Unlink => gone(fs::remove_file(&path)),
        Action::Write(value) => write(&path, value),
        Action::TryWrite(value) => {
            if let Err(error) = write(&path, value) {
                tracing::debug!(%error, "{} was not set to {value}", step.path);
            }
            Ok(())
        }
        Action::Hide(value) => write(&path, &value.0),
        Action::Link(to) => symlink(root.join(to), &path),
        Action::Forget => return file::remove(&path),
    };
    done.map_err(|error| Error::io(format!("{} in LIO's configfs", action(step)), &error))
}

/// One write: the kernel takes each for an instruction of its own.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    match file.write(value.as_bytes())? {
        written if written >= value.len() => Ok(()),
        _ => Err(io::Error::other("the kernel took a part of it only")),
    }
}

fn action(step: &Step) -> String {
    let path = &step.path;
    match &step.action {
        Action::Make => format!("making {path}"),
        Action::Remove | Action::Unlink | Action::Forget => format!("removing {path}"),
        Action::Write(value) | Action::TryWrite(value) => format!("writing {value:?} to {path}"),
        Action::Hide(_) => format!("writing {path}"),
        Action::Link(to) => format!("linking {path} to {to}"),
    }
}

/// For the log: objects that came and went, and values that changed.
fn words(step: &Step) -> Option<String> {
    let is_new_part = step.path.contains("/control") || step.path.starts_with("core/") && step.path.contains("/wwn/");
    match step.action {
        Action::Link(_) | Action::Unlink | Action::TryWrite(_) | Action::Forget => None,
        Action::Write(_) if is_new_part => None,
        Action::Make | Action::Remove if step.path.matches('/').count() < 2 => None,
        _ => Some(format!("iSCSI: {}", action(step))),
    }
}
