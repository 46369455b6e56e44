//! Secrets of CHAP: a file for each set, open to root only. They are never changed, only replaced by a set with another
//! key, so that whoever knows a key knows what it stands for, also after a crash.

use std::path::PathBuf;

use crate::{
    os::{Error, Kind, Result, file},
    types::host::{ChapCredentials, ChapSecret, ChapUser},
};

/// The folder of the files.
pub(in crate::os) struct Secrets {
    folder: PathBuf,
}

impl Secrets {
    /// Below the folder of the daemon's state.
    pub(in crate::os) fn new(state: &std::path::Path) -> Self {
        Secrets { folder: state.join("chap") }
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::new(Kind::Other, "looking for CHAP secrets", format!("{key:?} is no key")));
        }
        Ok(self.folder.join(key))
    }

    pub(in crate::os) fn keep(&self, key: &str, credentials: &ChapCredentials) -> Result<()> {
        file::write(&self.path(key)?, text(credentials).as_bytes(), 0o600)
    }

    pub(in crate::os) fn find(&self, key: &str) -> Result<Option<ChapCredentials>> {
        let Some(text) = file::read(&self.path(key)?)?.map(zeroize::Zeroizing::new) else { return Ok(None) };
        match parse(&text) {
            Some(credentials) => Ok(Some(credentials)),
            None => Err(Error::new(Kind::Other, format!("reading the CHAP secrets {key}"), "the file is damaged")),
        }
    }

    pub(in crate::os) fn forget(&self, key: &str) -> Result<()> {
        file::remove(&self.path(key)?)
    }

    pub(in crate::os) fn keys(&self) -> Result<Vec<String>> {
        let names = file::names(&self.folder)?;
        Ok(names.into_iter().filter(|name| self.path(name).is_ok()).collect())
    }
}

/// One value a line: none of them has a line end in it.
fn text(credentials: &ChapCredentials) -> zeroize::Zeroizing<String> {
    let mut text = format!("{}\n{}\n", credentials.user.as_str(), credentials.secret.expose());
    if let Some((user, secret)) = &credentials.mutual {
        text.push_str(&format!("{}\n{}\n", user.as_str(), secret.expose()));
    }
    text.into()
}

fn parse(text: &str) -> Option<ChapCredentials> {
    let user = |text: &str| ChapUser::new("chap.user", text).ok();
    let secret = |text: &str| ChapSecret::new("chap.secret", text).ok();
    let lines: Vec<&str> = text.lines().collect();
    let (name, word, mutual) = match lines[..] {
        [name, word] => (name, word, None),
        [name, word, other, its] => (name, word, Some((user(other)?, secret(its)?))),
        _ => return None,
    };
    ChapCredentials::new(user(name)?, secret(word)?, mutual).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_again_and_for_root_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(folder.path());
        assert!(secrets.keys().unwrap().is_empty());
        let user = |text| ChapUser::new("chap.user", text).unwrap();
        let secret = |text| ChapSecret::new("chap.secret", text).unwrap();
        for mutual in [None, Some((user("target"), secret("the-other-secret")))] {
            let credentials = ChapCredentials::new(user("host1"), secret("secret-of-host1"), mutual).unwrap();
            secrets.keep("abc1", &credentials).unwrap();
            assert_eq!(secrets.find("abc1").unwrap(), Some(credentials));
        }
        let mode = std::fs::metadata(folder.path().join("chap/abc1")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(secrets.keys().unwrap(), ["abc1"]);
        file::write(&folder.path().join("chap/abc1"), b"half", 0o600).unwrap();
        assert!(secrets.find("abc1").is_err(), "damaged is not the same as none");
        secrets.forget("abc1").unwrap();
        assert_eq!(secrets.find("abc1").unwrap(), None);
        assert!(secrets.find("../catalog").is_err());
    }
}
