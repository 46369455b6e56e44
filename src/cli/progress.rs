//! A spinner or a bar on standard error while something takes long. Neither is drawn where that is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Something to look at; it disappears when it is dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A spinner beside `message` and the time that has passed.
    pub fn spinner(message: impl Into<String>) -> Self {
        Self::with("{spinner} {msg} ({elapsed})", None, message)
    }

    /// A bar for hundredths beside `message`.
    pub fn bar(message: impl Into<String>) -> Self {
        Self::with("{msg} [{bar:40}] {pos} % {prefix}", Some(100), message)
    }

    fn with(template: &str, length: Option<u64>, message: impl Into<String>) -> Self {
        // Both templates are constants, so they parse; a plain bar is good enough if ever they don't.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(message.into());
        match length {
            Some(length) => bar.set_length(length),
            None => bar.unset_length(),
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Progress(bar)
    }

    /// What stands beside the spinner from now on.
    pub fn say(&self, message: String) {
        self.0.set_message(message);
    }

    /// Moves the bar to `percent`, with a `note` after it.
    pub fn set(&self, percent: u64, note: String) {
        self.0.set_position(percent);
        self.0.set_prefix(note);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
