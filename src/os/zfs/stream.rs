//! Streams, by `zfs send` and `zfs receive`: libzfs_core has no resumable receive that leaves an interrupted one to be
//! seen. What can be asked and done without a process is in `bookmark`.

use std::{collections::BTreeMap, os::fd::OwnedFd, process::Stdio, sync::Arc, time::Duration};

use super::{OpenZfs, messages, program::Record, property};
use crate::{
    os::{
        Datasets, Error, Kind, Result,
        command::Limit,
        link::peek,
        process::{Process, Stream},
        stream::{BookmarkFacts, REPLICA, Receiving, Sending, Streams, TokenFacts},
    },
    types::{
        ids::Mark,
        names::{BookmarkName, DatasetName, SnapshotName},
    },
};

/// What is looked at of a stream: the first fields of `dmu_replay_record_t` (`sys/zfs_ioctl.h`), with type and length of the
/// payload before magic number and version.
const BEGINNING: usize = 24;
/// `zfs send` was started before the partner asked whether it may, so they are on their way.
const FIRST_BYTES: Duration = Duration::from_secs(30);
/// `DMU_BACKUP_MAGIC`
const MAGIC: u64 = 0x2_F5BA_CBAC;
/// `DMU_SUBSTREAM`, in the two lowest bits of the version: one snapshot and nothing else.
const SINGLE: u64 = 1;

/// What stands for no encryption: inherited from nowhere, or off (`zio_encrypt` of `sys/zio.h`).
const NO_CIPHER: [&str; 2] = ["0", "2"];

impl Streams for OpenZfs {
    fn bookmarks(&self, dataset: &DatasetName) -> Result<Vec<BookmarkFacts>> {
        self.read_bookmarks(dataset)
    }

    fn bookmark(&self, snapshot: &SnapshotName, name: &BookmarkName) -> Result<()> {
        match self.make_bookmark(snapshot, name) {
            Err(error) if error.kind == Kind::Exists => Ok(()),
            result => result,
        }
    }

    fn destroy_bookmark(&self, name: &BookmarkName) -> Result<()> {
        match self.remove_bookmark(name) {
            // With its dataset.
            Err(error) if error.kind == Kind::Missing => Ok(()),
            result => result,
        }
    }

    fn receive_token(&self, dataset: &DatasetName) -> Result<Option<String>> {
        Ok(self.there(dataset)?.find("receive_resume_token").map(str::to_owned))
    }

    fn read_token(&self, token: &str) -> Result<Option<TokenFacts>> {
        if !is_token(token) {
            return Ok(None);
        }
        // It fails when the snapshot is gone, but has told by then what the token says.
        let output = self.zfs(["send", "-nvP", "-t", token]).run()?;
        match facts(&output.text()) {
            Some(facts) => Ok(Some(facts)),
            // Its words for one that is damaged, or of another version.
            None if output.stderr.contains("token") => Ok(None),
            None => Err(output.failure("reading a receive token", messages::zfs)),
        }
    }

    fn discard_receive(&self, dataset: &DatasetName) -> Result<()> {
        if self.receive_token(dataset)?.is_none() {
            return Ok(());
        }
        self.zfs(["receive", "-A", dataset.as_str()]).output(messages::zfs).map(drop)
    }

    fn stream_size(&self, sending: &Sending) -> Result<u64> {
        if let Sending::Snapshot { snapshot, base, raw } = sending {
            return self.estimate(snapshot, base.as_ref(), *raw);
        }
        let command = self.zfs(["send", "-nP"]).args(flags(sending)?);
        let action = command.to_string();
        let text = command.output(messages::zfs)?;
        let size = text.lines().find_map(|line| line.strip_prefix("size")?.trim().parse().ok());
        size.ok_or_else(|| Error::new(Kind::Other, action, format!("it did not tell a size: {text:?}")))
    }

    fn send(&self, sending: &Sending) -> Result<Stream> {
        let command = self.zfs(["send"]).args(flags(sending)?);
        let running = command.start(Stdio::null(), Stdio::piped(), messages::zfs)?;
        let (_, output) = running.pipes();
        let output = output.ok_or_else(|| Error::new(Kind::Other, "zfs send", "it has no output"))?;
        Ok(Stream { output, process: Arc::new(running) })
    }

    fn receive(&self, receiving: &Receiving, input: OwnedFd) -> Result<Arc<dyn Process>> {
        // -s: what came before an interruption is kept; -u: not mounted.
        let mut flags: Vec<String> = receiving.whole.then(|| "-F".to_owned()).into_iter().collect();
        if let Some((mark, notes)) = &receiving.new {
            flags.extend(mark_flags(mark, notes));
            // All that makes a replica, from the first moment on.
            flags.extend(["-oreadonly=on".to_owned(), "-ocanmount=noauto".to_owned(), format!("-o{REPLICA}=yes")]);
        }
        require_single(&peek(&input, BEGINNING, FIRST_BYTES)?)?;
        let command = self.zfs(["receive", "-s", "-u"]).args(flags).arg(receiving.snapshot.as_str());
        Ok(Arc::new(command.start(Stdio::from(input), Stdio::null(), messages::zfs)?))
    }

    fn is_encrypted(&self, dataset: &DatasetName) -> Result<bool> {
        Ok(self.there(dataset)?.find("encryption").is_some_and(|cipher| !NO_CIPHER.contains(&cipher)))
    }

    fn sync(&self, dataset: &DatasetName) -> Result<()> {
        self.zpool(["sync", super::dataset::pool(dataset)])
            .limit(Limit::Stall(super::pool::STALL))
            .output(messages::zpool)
            .map(drop)
    }

    fn is_blank(&self, dataset: &DatasetName) -> Result<bool> {
        let missing = || Error::new(Kind::Missing, format!("reading {dataset}"), "there is no such dataset");
        let facts = self.dataset(dataset)?.ok_or_else(missing)?;
        if matches!(facts.kind, crate::os::DatasetKind::Zvol { .. }) || !self.snapshots(dataset)?.is_empty() {
            return Ok(false);
        }
        let folder = self.mount_point(dataset)?;
        let entries = std::fs::read_dir(&folder);
        Ok(entries.map_err(|error| Error::io(format!("reading {folder}"), &error))?.next().is_none())
    }

    fn set_replica(&self, dataset: &DatasetName, replica: bool) -> Result<()> {
        let missing = || Error::new(Kind::Missing, format!("reading {dataset}"), "there is no such dataset");
        let is_filesystem =
            matches!(self.dataset(dataset)?.ok_or_else(missing)?.kind, crate::os::DatasetKind::Filesystem { .. });
        if replica {
            // Before the properties, so that setting them has nothing to mount anew.
            self.unmount_dataset(dataset)?;
        }
        let readonly = if replica { "on" } else { "off" };
        let mut values = vec![format!("readonly={readonly}")];
        values.extend(replica.then(|| format!("{REPLICA}=yes")));
        values.extend(is_filesystem.then(|| format!("canmount={}", if replica { "noauto" } else { "on" })));
        self.zfs(["set", "-u"]).args(values).arg(dataset.as_str()).output(messages::zfs)?;
        if !replica {
            // Last: until then a rebuild of the catalog does this again.
            self.drop_note(dataset.as_str(), REPLICA)?;
        }
        if replica || self.lacks_key(dataset)? { Ok(()) } else { self.mount_dataset(dataset) }
    }
}

impl OpenZfs {
    /// What ZFS knows of a dataset that must be there.
    fn there(&self, dataset: &DatasetName) -> Result<Record> {
        let missing = || Error::new(Kind::Missing, format!("reading {dataset}"), "there is no such dataset");
        self.look(dataset.as_str())?.ok_or_else(missing)
    }

    /// Whether nobody can read what is in a dataset, as long as its key is not loaded.
    fn lacks_key(&self, dataset: &DatasetName) -> Result<bool> {
        let value = self.zfs(["get", "-H", "-o", "value", "keystatus", dataset.as_str()]).output(messages::zfs)?;
        Ok(value.trim() == "unavailable")
    }
}

/// Mark and notes as flags of `zfs receive`.
fn mark_flags(mark: &Mark, notes: &BTreeMap<String, String>) -> Vec<String> {
    let mark = format!("-o{}={}", property::MARK, mark.as_str());
    std::iter::once(mark).chain(notes.iter().map(|(note, value)| format!("-o{note}={value}"))).collect()
}

/// Flags of `zfs send`, with what is to be sent.
fn flags(sending: &Sending) -> Result<Vec<String>> {
    match sending {
        // The token knows the flags that the stream began with. But it comes from the partner: what is encrypted must leave
        // so whatever it says.
        Sending::Rest { token, raw } if is_token(token) => {
            let flags = raw.then(|| "-w".to_owned()).into_iter();
            Ok(flags.chain(["-t".to_owned(), token.clone()]).collect())
        }
        Sending::Rest { .. } => {
            Err(Error::new(Kind::Other, "zfs send -t", "the token has characters that no token has"))
        }
        Sending::Snapshot { snapshot, base, raw } => {
            let mut flags: Vec<String> = ["-L", "-c", "-e"].map(str::to_owned).into();
            flags.extend(raw.then(|| "-w".to_owned()));
            if let Some(base) = base {
                flags.extend(["-i".to_owned(), base.as_str().to_owned()]);
            }
            flags.push(snapshot.as_str().to_owned());
            Ok(flags)
        }
    }
}

/// Fails when a stream has more than one snapshot in it. Those of `zfs send -p` and `-R` have properties, which would be set
/// on the replica: one that comes from a partner must not say where it is mounted. What has no whole beginning fails by
/// itself.
fn require_single(beginning: &[u8]) -> Result<()> {
    let field = |at: usize| Some(u64::from_ne_bytes(beginning.get(at..at + 8)?.try_into().ok()?));
    let (Some(magic), Some(version)) = (field(8), field(16)) else { return Ok(()) };
    let version = match magic {
        MAGIC => version,
        // Of a machine with the other order of bytes.
        magic if magic.swap_bytes() == MAGIC => version.swap_bytes(),
        _ => return Err(Error::new(Kind::Denied, "zfs receive", "what came is no stream of ZFS")),
    };
    match version & 3 {
        SINGLE => Ok(()),
        _ => Err(Error::new(Kind::Denied, "zfs receive", "the stream has properties or more than one snapshot in it")),
    }
}

/// `1-11b6a3f1d6-100-789c...`: it comes from the partner, and goes into an argv.
fn is_token(text: &str) -> bool {
    text.len() < 16 << 10
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// What `zfs send -nvP -t` prints: `toguid = 0xd1c5...`.
fn facts(text: &str) -> Option<TokenFacts> {
    let value = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)?.trim().strip_prefix("= "));
    let number = |key: &str| u64::from_str_radix(value(key)?.strip_prefix("0x")?, 16).ok();
    Some(TokenFacts {
        name: value("toname")?.to_owned(),
        guid: number("toguid")?,
        base: number("fromguid").filter(|guid| *guid != 0),
        bytes: number("bytes")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_from_options() {
        assert!(is_token("1-11b6a3f1d6-100-789c636064000310a500c4ec50360710e72765a5269730301c"));
        for bad in ["", "-R", "x", "1 2", "1;2", "1\n2"] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_is_encrypted_is_sent_so_whatever_a_token_says() {
        let rest = |raw| flags(&Sending::Rest { token: "1-2-3-4".to_owned(), raw }).unwrap();
        assert_eq!(rest(false), ["-t", "1-2-3-4"]);
        assert_eq!(rest(true), ["-w", "-t", "1-2-3-4"]);
    }

    #[test]
    fn a_stream_of_more_than_a_snapshot_is_refused() {
        let beginning = |magic: [u8; 8], version: [u8; 8]| [[0; 8], magic, version].concat();
        let little = |kind: u64| beginning(MAGIC.to_le_bytes(), (kind | 0x24 << 2).to_le_bytes());
        let big = |kind: u64| beginning(MAGIC.to_be_bytes(), (kind | 0x24 << 2).to_be_bytes());
        for fine in [little(1), big(1), little(1)[..23].to_vec(), Vec::new()] {
            require_single(&fine).unwrap();
        }
        for bad in [little(2), big(2), little(0), little(3), vec![0; BEGINNING], vec![7; BEGINNING]] {
            assert_eq!(require_single(&bad).unwrap_err().kind, Kind::Denied, "{bad:?}");
        }
    }

    #[test]
    fn what_a_token_says_is_read() {
        let text = "resume token contents:\nnvlist version: 0\n\tfromguid = 0x9c\n\tobject = 0x2\n\toffset = 0x1e00000\n\
                    \tbytes = 0x1d7a950\n\ttoguid = 0xd1c5f0e6d2b8a3f4\n\ttoname = vpool1/fs2@snap3\n\tembedok = 1\n\
                    full\tvpool1/fs2@snap3\t104902376\nsize\t104902376\n";
        let expected = TokenFacts {
            name: "vpool1/fs2@snap3".to_owned(),
            guid: 0xd1c5_f0e6_d2b8_a3f4,
            base: Some(0x9c),
            bytes: 0x1d7_a950,
        };
        assert_eq!(facts(text), Some(expected));
        assert_eq!(facts("cannot resume send: invalid token"), None);
    }
}
