//! The rules of the architecture that the compiler does not know (see the map in `src/lib.rs`).
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// What a layer may import of this crate. Layers that are not listed here don't exist.
const IMPORTS: [(&str, &[&str]); 9] = [
    ("types", &["types"]),
    ("config", &["config"]),
    ("catalog", &["catalog", "types"]),
    ("os", &["os", "types"]),
    ("error", &["error", "catalog", "os", "types"]),
    ("engine", &["engine", "error", "catalog", "os", "config", "types"]),
    ("api", &["api", "engine", "error", "os", "config", "types"]),
    ("cli", &["cli", "types"]),
    ("bin", &["api", "catalog", "cli", "config", "engine", "error", "os", "types"]),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "misc", "manager"];

const MAX_LINES: usize = 500;

fn sources() -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    assert!(found.len() > 30, "the sources are not where this test looks for them");
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `engine` for `src/engine/pool.rs`, `error` for `src/error.rs`.
fn layer(path: &Path) -> String {
    let relative = path.strip_prefix(root().join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The first names behind each `crate::` (and, in programs, `vsnap::`), also in groups: `crate::{a, b::c}`.
fn imported(text: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (index, _) in text.match_indices(prefix) {
        let before = text[..index].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[index + prefix.len()..];
        match rest.strip_prefix('{') {
            None => names.push(word(rest)),
            Some(group) => {
                let (mut depth, mut start) = (0, true);
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            names.push(word(&group[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn imports_follow_the_direction() {
    let mut faults = Vec::new();
    for path in sources() {
        let layer = layer(&path);
        if layer == "lib" {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == layer) else {
            panic!("{} is in no layer", path.display());
        };
        let text = without_comments(&std::fs::read_to_string(&path).unwrap());
        let prefix = if layer == "bin" { "vsnap::" } else { "crate::" };
        for name in imported(&text, prefix).iter().filter(|name| !allowed.contains(&name.as_str())) {
            faults.push(format!("{} imports {name}", path.display()));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn groups_of_imports_are_understood() {
    let text = "use crate::{\n  a::b,\n  c::{d, e},\n f\n};\nlet x = crate::g::h(); xcrate::no";
    assert_eq!(imported(text, "crate::"), ["a", "c", "f", "g"]);
}

#[test]
fn files_are_short_and_named_for_what_is_inside() {
    let mut faults = Vec::new();
    for path in sources() {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{} has {lines} lines", path.display()));
        }
        for part in path.strip_prefix(root()).unwrap().components() {
            let name = part.as_os_str().to_string_lossy();
            if EMPTY_NAMES.contains(&name.trim_end_matches(".rs")) {
                faults.push(format!("{} says nothing about what is inside", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn processes_start_and_files_are_written_in_one_place_each() {
    // clippy.toml bans the calls themselves; this finds the attributes that would lift the ban.
    // The kernel's configfs is no place for whole files: each write there is an instruction.
    let allowed = ["src/os/command.rs", "src/os/file.rs", "src/os/lio/execute.rs"];
    for path in sources() {
        let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let text = without_comments(&std::fs::read_to_string(&path).unwrap());
        let lifts = text.contains("disallowed_methods") || text.contains("disallowed_types");
        assert!(!lifts || allowed.contains(&relative.as_str()), "{relative} lifts a ban of clippy.toml");
        let unsafely = text.contains("allow(unsafe_code)") || text.contains("expect(unsafe_code");
        assert!(!unsafely || relative == "src/os/pam.rs", "{relative} has unsafe code");
    }
}

#[test]
fn only_the_bridge_leads_from_async_to_the_engine() {
    for path in sources().iter().filter(|path| ["engine", "catalog", "os", "types"].contains(&layer(path).as_str())) {
        let text = without_comments(&std::fs::read_to_string(path).unwrap());
        for banned in ["async fn", "tokio::", ".await"] {
            assert!(!text.contains(banned), "{} has {banned}", path.display());
        }
    }
}

#[test]
fn nothing_unfinished_is_left() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        for mark in ["todo!(", "unimplemented!(", "FIXME", "XXX"] {
            assert!(!text.contains(mark), "{} has {mark}", path.display());
        }
    }
}
