//! Identifiers as the contract has them: small integers that are never reused, and 32 hex digits for systems.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    Invalid, Name,
    names::{from_property, to_property},
};

macro_rules! numbered {
    ($($(#[$doc:meta])* $name:ident $kind:literal)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text.parse::<i64>() {
                    Ok(number) if number > 0 => Ok($name(number)),
                    _ => {
                        let fault = concat!("is not a ", $kind, " id, which is a whole number from 1 upwards");
                        Err(Invalid::new("id", format!("{text:?} {fault}")))
                    }
                }
            }
        }
    )*};
}

numbered! {
    /// Number of a pool: counts up from 1 and is never given twice.
    PoolId "pool"
    /// Number of a volume: counts up from 1 and is never given twice.
    VolumeId "volume"
    /// Number of a snapshot: counts up from 1 and is never given twice. Of two snapshots in one line of descent the
    /// younger one has the higher number.
    SnapshotId "snapshot"
    /// Number of a share: counts up from 1 and is never given twice.
    ShareId "share"
    /// Number of a host: counts up from 1 and is never given twice.
    HostId "host"
    /// Number of a replication session: counts up from 1 and is never given twice.
    SessionId "session"
}

macro_rules! hexadecimal {
    ($($(#[$doc:meta])* $name:ident $kind:literal)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new random one.
            pub fn random() -> Self {
                $name(uuid::Uuid::new_v4().simple().to_string())
            }

            /// The 32 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                if text.len() == 32 && text.bytes().all(digits) {
                    Ok($name(text.to_owned()))
                } else {
                    let fault = concat!("is not a ", $kind, " id of 32 lower-case hex digits");
                    Err(Invalid::new("id", format!("{text:?} {fault}")))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    )*};
}

hexadecimal! {
    /// Identity of an appliance: 32 lower-case hex digits. A partner's id is that of the partner's system.
    SystemId "system"
    /// Identity of a relationship between two volumes, the same on both appliances: 32 lower-case hex digits.
    RelationshipId "relationship"
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

    /// The mark of a volume of this appliance.
    pub fn volume(system: &SystemId, volume: VolumeId) -> Self {
        Mark(format!("{system}/volume/{volume}"))
    }

    /// The mark of snapshots of this appliance with this name. ZFS gives all snapshots of an atomic set the same
    /// properties, so it has no number: which one it is stands in its ZFS name. The name is part of it because ZFS takes
    /// its time for each property of a snapshot.
    pub fn snapshot(system: &SystemId, name: &Name) -> Self {
        Mark(format!("{system}/snapshot/{}", to_property(name.as_str())))
    }

    /// The name in the mark of a snapshot of this appliance; `None` when it is another mark.
    pub fn snapshot_name(&self, system: &SystemId) -> Option<Name> {
        let name = self.0.strip_prefix(system.as_str())?.strip_prefix("/snapshot/")?;
        Name::new(from_property(name)?).ok()
    }

    /// As it is written on disk.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Appliance, kind of object and number in it; `None` when it is no mark of an appliance. Snapshots have no number.
    pub fn parts(&self) -> Option<(SystemId, &str, Option<i64>)> {
        let mut parts = self.0.splitn(3, '/');
        let (system, kind) = (parts.next()?.parse().ok()?, parts.next()?);
        let number = match kind {
            "snapshot" => None,
            _ => Some(parts.next()?.parse::<i64>().ok().filter(|number| *number > 0)?),
        };
        Some((system, kind, number))
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
    fn marks_are_read_again() {
        let system = SystemId::random();
        let volume = Mark::volume(&system, VolumeId(7));
        assert_eq!(volume.parts(), Some((system.clone(), "volume", Some(7))));
        let name = Name::new("50 %, now/then: ü").unwrap();
        let snapshot = Mark::snapshot(&system, &name);
        assert_eq!(snapshot.parts(), Some((system.clone(), "snapshot", None)));
        assert_eq!((snapshot.snapshot_name(&system), volume.snapshot_name(&system)), (Some(name), None));
        assert_eq!(snapshot.snapshot_name(&SystemId::random()), None);
        for bad in ["", "/", "/snapshot", "/snapshot/", "/snapshot/%2", "/snapshots/a"] {
            assert_eq!(Mark::read(format!("{system}{bad}")).snapshot_name(&system), None, "{bad}");
        }
        for bad in ["", "x", "x/pool/1", &format!("{system}/pool/0"), &format!("{system}/pool/1/2")] {
            assert_eq!(Mark::read(bad).parts(), None, "{bad}");
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
