//! What differs between two points in time, as `zfs diff -FH` prints it: what happened, type, path, and for a renamed
//! one its new path, between tabs. Paths are absolute, bytes other than plain ASCII written as `\0ooo`.

use super::{OpenZfs, messages, mounts::octal, pool::STALL};
use crate::{
    os::{Change, ChangeKind, Error, Kind, Result, command::Limit},
    types::names::SnapshotName,
};

impl OpenZfs {
    pub(super) fn find_changes(
        &self,
        from: &SnapshotName,
        to: Option<&SnapshotName>,
        found: &mut dyn FnMut(Change) -> bool,
    ) -> Result<()> {
        let root = self.mount_point(from.dataset())?;
        // It says "No such file or directory" of a snapshot as of a file.
        self.check_both(from, to)?;
        let until = to.map_or(from.dataset().as_str(), SnapshotName::as_str);
        let command = self.zfs(["diff", "-FH", from.as_str(), until]).limit(Limit::Stall(STALL));
        let action = command.to_string();
        command.lines(messages::zfs, &mut |line| {
            let unreadable = || Error::new(Kind::Other, action.clone(), format!("unexpected line {line:?}"));
            change(line, &root).ok_or_else(unreadable).map(&mut *found)
        })
    }
}

/// A line of a filesystem that is mounted at `root`.
fn change(line: &str, root: &str) -> Option<Change> {
    let mut fields = line.split('\t');
    let kind = match fields.next()? {
        "+" => ChangeKind::Added,
        "-" => ChangeKind::Removed,
        "M" => ChangeKind::Modified,
        "R" => ChangeKind::Renamed,
        _ => return None,
    };
    let mut letters = fields.next()?.chars();
    let (Some(file_type), None) = (letters.next(), letters.next()) else { return None };
    let path = relative(fields.next()?, root)?;
    // Of a modified file a change of its link count may follow.
    let new_path = match kind {
        ChangeKind::Renamed => Some(relative(fields.next()?, root)?),
        _ => None,
    };
    Some(Change { kind, file_type, path, new_path })
}

/// A path without the mount point; empty for the root itself, which ends in a slash.
fn relative(path: &str, root: &str) -> Option<String> {
    octal(path, 4)?.strip_prefix(root)?.strip_prefix('/').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_openzfs() {
        let read = |line: &str| {
            let change = change(line, "/vsnap/vpool1/fs1").unwrap();
            (change.kind, change.file_type, change.path, change.new_path)
        };
        let path = |text: &str| text.to_owned();
        assert_eq!(read("M\t/\t/vsnap/vpool1/fs1/"), (ChangeKind::Modified, '/', path(""), None));
        assert_eq!(
            read("+\tF\t/vsnap/vpool1/fs1/\\0303\\0274/n\\0011t"),
            (ChangeKind::Added, 'F', path("ü/n\tt"), None)
        );
        assert_eq!(read("M\tF\t/vsnap/vpool1/fs1/data\t(+1)"), (ChangeKind::Modified, 'F', path("data"), None));
        assert_eq!(read("-\t@\t/vsnap/vpool1/fs1/y"), (ChangeKind::Removed, '@', path("y"), None));
        assert_eq!(
            read("R\tF\t/vsnap/vpool1/fs1/data\\00403\t/vsnap/vpool1/fs1/data5"),
            (ChangeKind::Renamed, 'F', path("data 3"), Some(path("data5")))
        );
        for bad in ["", "M", "M\tF", "X\tF\t/vsnap/vpool1/fs1/a", "M\tF\t/elsewhere/a", "R\tF\t/vsnap/vpool1/fs1/a"] {
            assert_eq!(change(bad, "/vsnap/vpool1/fs1"), None, "{bad}");
        }
    }
}
