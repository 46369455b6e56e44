//! Names that people give. They are catalog text only: they never reach a command line or a path.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Invalid, PoolId, SnapshotId, VolumeId};

/// A name of a pool, volume, host or snapshot: 1 to 256 printable characters, no control characters, no space at
/// either end (contract section 7.1, decisions "names").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Longest name, in characters.
    pub const MAX_CHARS: usize = 256;

    /// Checks a name that came in as request member `name`.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let fault = if text.is_empty() {
            "is empty; give 1 to 256 characters"
        } else if text.chars().count() > Self::MAX_CHARS {
            "is longer than 256 characters"
        } else if text.chars().any(|c| c.is_control() || invisible(c)) {
            "has a control character; use printable characters only"
        } else if text.trim_matches(|c: char| c.is_whitespace() || is_joiner(c)) != text {
            "begins or ends with a space or an invisible joiner"
        } else {
            return Ok(Name(text));
        };
        Err(Invalid::new("name", format!("the name {fault}")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Line separators and text-direction marks: not control characters by category, but nothing a person sees, and
/// able to make one name look like another.
fn invisible(c: char) -> bool {
    let group = matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}');
    group && !is_joiner(c)
}

/// The zero-width joiner and non-joiner: Persian, the scripts of India and composed emoji are not written right without
/// them. Between other characters only, so that a name always has something to see.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200C}' | '\u{200D}')
}

impl TryFrom<String> for Name {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Name::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Name of a pool as ZFS knows it: `vpool<pool id>`, made from the id so that no text of a user reaches a tool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZpoolName(String);

impl ZpoolName {
    /// The ZFS name of pool `id`.
    pub fn of(id: PoolId) -> Self {
        ZpoolName(format!("vpool{id}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its root dataset is mounted.
    pub fn mountpoint(&self) -> String {
        format!("/vsnap/{}", self.0)
    }
}

impl fmt::Display for ZpoolName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Name of a volume's dataset as ZFS knows it: `vpool<p>/fs<v>` or `vpool<p>/lun<v>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetName(String);

impl DatasetName {
    /// The dataset of filesystem `volume`.
    pub fn filesystem(pool: PoolId, volume: VolumeId) -> Self {
        DatasetName(format!("{}/fs{volume}", ZpoolName::of(pool)))
    }

    /// The zvol of lun `volume`.
    pub fn lun(pool: PoolId, volume: VolumeId) -> Self {
        DatasetName(format!("{}/lun{volume}", ZpoolName::of(pool)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it is mounted, when it is a filesystem.
    pub fn mountpoint(&self) -> String {
        format!("/vsnap/{}", self.0)
    }

    /// Its block device, when it is a zvol.
    pub fn device(&self) -> String {
        format!("/dev/zvol/{}", self.0)
    }

    /// Its snapshot with this number.
    pub fn snapshot(&self, id: SnapshotId) -> SnapshotName {
        SnapshotName { dataset: self.clone(), full: format!("{}@snap{id}", self.0) }
    }
}

impl DatasetName {
    /// Its bookmark of the snapshot with this number: the decisions' name for what an incremental stream can begin at
    /// when the snapshot is gone.
    pub fn bookmark(&self, id: SnapshotId) -> BookmarkName {
        BookmarkName(format!("{}#snap{id}", self.0))
    }
}

/// Name of a bookmark as ZFS knows it: `<dataset>#snap<s>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BookmarkName(String);

impl BookmarkName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BookmarkName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Name of a snapshot as ZFS knows it: `<dataset>@snap<s>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName {
    dataset: DatasetName,
    full: String,
}

impl SnapshotName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// What it is a snapshot of.
    pub fn dataset(&self) -> &DatasetName {
        &self.dataset
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.full.fmt(formatter)
    }
}

/// Text as a ZFS user property value: plain ASCII without `%`, other bytes as `%XX`.
///
/// OpenZFS drops characters outside the basic plane when it prints JSON, so what must be read back is kept in
/// ASCII. ZFS allows 8,192 bytes; 256 characters need at most 256 * 4 * 3 = 3,072.
pub fn to_property(text: &str) -> String {
    use std::fmt::Write;
    let mut ascii = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' || byte == b' ' {
            ascii.push(byte as char);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(ascii, "%{byte:02X}");
        }
    }
    ascii
}

/// The text that [`to_property`] made `ascii` from; `None` when it did not.
pub fn from_property(ascii: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(ascii.len());
    let mut rest = ascii.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_decisions() {
        for good in [
            "demo1",
            "a",
            "$(reboot); `x` | y & z > /etc/passwd",
            "Größe 容量 🦀",
            "--help",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "👨\u{200d}👩\u{200d}👧",
            &"n".repeat(256),
        ] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " a",
            "a ",
            "a\nb",
            "a\0",
            "\u{7f}",
            "a\u{202e}b",
            "a\u{200b}b",
            "a\u{200e}b",
            "a\u{200f}b",
            "\u{200d}",
            "\u{200c}a",
            "a\u{200d}",
            &"n".repeat(257),
        ] {
            assert_eq!(Name::new(bad).unwrap_err().field, "name", "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn property_text_comes_back(text in "\\PC*") {
            let ascii = to_property(&text);
            prop_assert!(ascii.is_ascii());
            prop_assert_eq!(from_property(&ascii), Some(text));
        }
    }
}
