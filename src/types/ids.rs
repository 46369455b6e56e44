//! Identifiers as the contract has them: small integers that are never reused, and 32 hex digits for systems.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Number of a pool: counts up from 1 and is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolId(pub i64);

impl fmt::Display for PoolId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for PoolId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse::<i64>() {
            Ok(number) if number > 0 => Ok(PoolId(number)),
            _ => Err(Invalid::new("id", format!("{text:?} is not a pool id, which is a whole number from 1 upwards"))),
        }
    }
}

/// Identity of an appliance: 32 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemId(String);

impl SystemId {
    /// A new random identity.
    pub fn random() -> Self {
        SystemId(uuid::Uuid::new_v4().simple().to_string())
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for SystemId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(digits) {
            Ok(SystemId(text.to_owned()))
        } else {
            Err(Invalid::new("id", format!("{text:?} is not a system id of 32 lower-case hex digits")))
        }
    }
}

/// The value of the user property `vsnap:id`, our mark on everything we create in ZFS.
///
/// It names the appliance as well as the object, so that a pool that was carried over from another appliance is
/// never taken for ours. Only a *local* property value counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(String);

impl Mark {
    /// The mark of a pool of this appliance.
    pub fn pool(system: &SystemId, pool: PoolId) -> Self {
        Mark(format!("{system}/pool/{pool}"))
    }

    /// As it is written on disk.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A mark as it was read from disk, ours or not.
    pub fn read(text: impl Into<String>) -> Self {
        Mark(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_ids_are_positive() {
        assert_eq!("7".parse(), Ok(PoolId(7)));
        for bad in ["0", "-1", "", "1.5", "9223372036854775808", "x"] {
            assert!(bad.parse::<PoolId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn system_ids_are_32_hex_digits() {
        assert!(SystemId::random().as_str().parse::<SystemId>().is_ok());
        for bad in ["", "69813aef15146b54092deac8564e124", "69813AEF15146b54092deac8564e1249"] {
            assert!(bad.parse::<SystemId>().is_err(), "{bad}");
        }
    }
}
