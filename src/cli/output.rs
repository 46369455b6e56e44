//! Standard output: JSON with `--json`, text for people without.

use std::io::{self, Write};

use serde_json::Value;

use super::failure::{Failure, Result};

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// `json` is the option `--json`.
    pub fn new(json: bool) -> Self {
        Output { json }
    }

    /// Whether `--json` was given.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints `value`, or what `text` makes of it for people.
    pub fn show(self, value: &Value, text: impl FnOnce(&Value) -> String) -> Result {
        if self.json { print(&format!("{value:#}")) } else { print(&text(value)) }
    }
}

/// Prints a text with a line end. A reader who went away (`vsnap pool show | head -1`) is no failure.
pub fn print(text: &str) -> Result {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::local(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
