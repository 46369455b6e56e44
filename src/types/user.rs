//! Accounts that may use the API (contract section 3).

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Invalid;

/// The OS group whose members are administrators of the appliance.
pub const GROUP: &str = "vsnap";

/// Accounts below this number belong to the OS (`UID_MIN` of `login.defs(5)`).
pub const FIRST_UID: u32 = 1000;

/// The one role there is.
pub const ROLE: &str = "vsnap_admin";

/// Login name of an OS account, in the form that `useradd` accepts by default.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserName(String);

impl UserName {
    /// Checks a name for an account that is to be made or changed (member `name`).
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let mut chars = text.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
        let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
        if !(first && rest && text.len() <= 32) {
            return Err(Invalid::new(
                "name",
                format!("{text:?} is not a user name: use up to 32 of a-z, 0-9, _ and -, beginning with a letter or _"),
            ));
        }
        Ok(UserName(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A password on its way to PAM or the account tools: wiped from memory when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

impl Password {
    /// A password to be *checked*: anything goes, except what no C string can carry.
    pub fn given(text: impl Into<String>) -> Self {
        Password(text.into())
    }

    /// A password to be *set* (member `password`): what the account tools' line format can carry.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let password = Password(text.into());
        let length = password.0.chars().count();
        if !(8..=128).contains(&length) {
            return Err(Invalid::new("password", "the password needs 8 to 128 characters"));
        }
        if password.0.chars().any(char::is_control) {
            return Err(Invalid::new("password", "the password has a control character"));
        }
        Ok(password)
    }

    /// The text, for the one place that hands it over.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(..)")
    }
}

/// An OS account in group [`GROUP`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name, as the OS has it.
    pub name: String,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric id of its primary group.
    pub gid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_what_useradd_takes() {
        for good in ["vsuser", "_x", "a-b_c9"] {
            assert!(UserName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", "Root", "a b", "a:b", "é", "9a", &"a".repeat(33)] {
            assert!(UserName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_never_printed() {
        assert_eq!(format!("{:?}", Password::given("geheim!!")), "Password(..)");
        assert!(Password::new("short").is_err());
        assert!(Password::new("line\nbreak").is_err());
        assert!(Password::new("colon: and ünïcode").is_ok());
    }
}
