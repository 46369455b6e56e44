//! What a dataset or snapshot of the fake's world holds: files, each of one block. A zvol has one file, [`DATA`].

use std::collections::BTreeMap;

use crate::os::{Change, ChangeKind, Kind};

/// The file that [`super::World::write`] writes.
pub const DATA: &str = "data";

/// More links than this in one path are a circle.
const MOST_LINKS: usize = 40;

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file with what is in it.
    File(Vec<u8>),
    /// A folder.
    Folder,
    /// A symbolic link to a path relative to the root of the filesystem; `None`: it leads out of it.
    Link(Option<String>),
    /// A named pipe.
    Pipe,
}

impl FileKind {
    /// The letter of `zfs diff -F`.
    fn letter(&self) -> char {
        match self {
            FileKind::File(_) => 'F',
            FileKind::Folder => '/',
            FileKind::Link(_) => '@',
            FileKind::Pipe => '|',
        }
    }
}

/// A file: two with the same node are the same file, two with the same block have the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    number: u64,
    block: u64,
    kind: FileKind,
}

/// Files by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content(BTreeMap<String, Node>);

impl Content {
    /// What is in a regular file.
    pub(super) fn read(&self, path: &str) -> Option<&[u8]> {
        match &self.0.get(path)?.kind {
            FileKind::File(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Writes a file anew, or makes it; folders on the way are made. `new` gives numbers never given before.
    pub(super) fn put(&mut self, path: &str, kind: FileKind, new: &mut impl FnMut() -> u64) {
        for folder in folders(path) {
            let node = || Node { number: new(), block: new(), kind: FileKind::Folder };
            self.0.entry(folder.to_owned()).or_insert_with(node);
        }
        let number = self.0.get(path).map_or_else(&mut *new, |node| node.number);
        self.0.insert(path.to_owned(), Node { number, block: new(), kind });
    }

    /// Takes a file away; false when there is none.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        self.0.remove(path).is_some()
    }

    /// Gives a file another name; false when there is none.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        let node = self.0.remove(from);
        node.map(|node| self.0.insert(to.to_owned(), node)).is_some()
    }

    /// Bytes by block.
    pub(super) fn blocks(&self) -> BTreeMap<u64, u64> {
        let bytes = |node: &Node| match &node.kind {
            FileKind::File(bytes) => bytes.len() as u64,
            _ => 0,
        };
        self.0.values().map(|node| (node.block, bytes(node))).collect()
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks().values().sum()
    }

    /// Bytes in blocks that `before` has not.
    pub(super) fn written_since(&self, before: &Content) -> u64 {
        let known = before.blocks();
        self.blocks().iter().filter(|(block, _)| !known.contains_key(block)).map(|(_, bytes)| bytes).sum()
    }

    /// How `later` differs. As ZFS has it, a folder is modified when a name in it comes, goes or changes, and the
    /// root's path is empty.
    pub(super) fn changes(&self, later: &Content) -> Vec<Change> {
        let paths = |content: &Content| -> BTreeMap<u64, String> {
            content.0.iter().map(|(path, node)| (node.number, path.clone())).collect()
        };
        let (old, new) = (paths(self), paths(later));
        let mut changes: BTreeMap<String, Change> = BTreeMap::new();
        let mut add = |kind, node: &Node, path: &String, new_path: Option<String>| {
            let touched: Vec<String> = match kind {
                ChangeKind::Modified => Vec::new(),
                _ => std::iter::once(path).chain(&new_path).map(|path| parent(path).to_owned()).collect(),
            };
            for folder in touched {
                // Only what is there before and after can be modified.
                let lasts = self.0.get(&folder).is_some_and(|node| new.contains_key(&node.number));
                if folder.is_empty() || lasts {
                    changes.entry(folder.clone()).or_insert_with(|| change(ChangeKind::Modified, '/', &folder, None));
                }
            }
            changes.insert(path.clone(), change(kind, node.kind.letter(), path, new_path));
        };
        for (path, node) in &self.0 {
            match new.get(&node.number) {
                None => add(ChangeKind::Removed, node, path, None),
                Some(other) if other != path => add(ChangeKind::Renamed, node, path, Some(other.clone())),
                Some(other) if later.0[other].block != node.block => add(ChangeKind::Modified, node, path, None),
                Some(_) => {}
            }
        }
        for (path, node) in later.0.iter().filter(|(_, node)| !old.contains_key(&node.number)) {
            add(ChangeKind::Added, node, path, None);
        }
        changes.into_values().collect()
    }

    /// Size of the regular file that a path leads to without leaving the filesystem.
    pub(super) fn size_of(&self, path: &str) -> Result<u64, (Kind, &'static str)> {
        let mut links = 0;
        let mut rest: Vec<String> = parts(path);
        let mut here = String::new();
        while let Some(part) = rest.pop() {
            let next = if here.is_empty() { part } else { format!("{here}/{part}") };
            match self.0.get(&next).map(|node| &node.kind) {
                None => return Err((Kind::Missing, "no such file")),
                Some(FileKind::Folder) => here = next,
                Some(FileKind::Link(None)) => return Err((Kind::Denied, "it leads out of the filesystem")),
                Some(FileKind::Link(Some(_))) if links == MOST_LINKS => return Err((Kind::Denied, "it is a circle")),
                Some(FileKind::Link(Some(target))) => {
                    links += 1;
                    here.clear();
                    rest.extend(parts(target));
                }
                Some(_) if !rest.is_empty() => return Err((Kind::Missing, "a part of the path is no folder")),
                Some(FileKind::File(bytes)) => return Ok(bytes.len() as u64),
                Some(FileKind::Pipe) => break,
            }
        }
        Err((Kind::Denied, "it is no regular file"))
    }
}

fn change(kind: ChangeKind, file_type: char, path: &str, new_path: Option<String>) -> Change {
    Change { kind, file_type, path: path.to_owned(), new_path }
}

/// The parts of a path, the last one first.
fn parts(path: &str) -> Vec<String> {
    path.rsplit('/').map(str::to_owned).collect()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The folders that a path goes through.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}
