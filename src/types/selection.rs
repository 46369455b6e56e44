//! Which part of a list a client wants: filters on fields, order, and one page of it.

use super::Invalid;

/// What a field holds, and so how it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Number,
    /// Text.
    Text,
    /// `1`, `true`, `0` or `false`.
    Flag,
}

/// A value that a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// Nothing there, written as `null`.
    Null,
}

/// A field that a list can be filtered and sorted by.
pub trait Field: Copy + PartialEq + std::fmt::Debug + 'static {
    /// Every field with its name in the API.
    const ALL: &'static [(&'static str, Self, Kind)];
}

/// One page of a filtered, sorted list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection<F> {
    /// Each must be met.
    pub filters: Vec<(F, Value)>,
    /// Sorted by the first, then the second, ...; the flag says descending. Ends with the id in any case.
    pub sort: Vec<(F, bool)>,
    /// At most this many; all when there is none.
    pub limit: Option<u64>,
    /// After leaving out this many.
    pub offset: u64,
}

impl<F> Default for Selection<F> {
    /// Everything.
    fn default() -> Self {
        Selection { filters: Vec::new(), sort: Vec::new(), limit: None, offset: 0 }
    }
}

impl<F: Field> Selection<F> {
    /// Reads the parameters of a query. Gives the names of those, too, that mean nothing here.
    pub fn read(parameters: &[(String, String)]) -> Result<(Self, Vec<String>), Invalid> {
        let mut selection = Selection::default();
        let mut unknown = Vec::new();
        for (at, (name, text)) in parameters.iter().enumerate() {
            if parameters[..at].iter().any(|(before, _)| before == name) {
                return Err(Invalid::new(name, "is given twice"));
            }
            match name.as_str() {
                "limit" => selection.limit = Some(count(name, text)?),
                "offset" => selection.offset = count(name, text)?,
                "sort" => selection.sort = sort(text)?,
                _ => match F::ALL.iter().find(|(known, _, _)| known == name) {
                    Some((_, field, kind)) => selection.filters.push((*field, value(name, text, *kind)?)),
                    None => unknown.push(name.clone()),
                },
            }
        }
        Ok((selection, unknown))
    }

    /// Whether any of these fields is filtered or sorted by.
    pub fn concerns(&self, fields: &[F]) -> bool {
        let filtered = self.filters.iter().map(|(field, _)| field);
        filtered.chain(self.sort.iter().map(|(field, _)| field)).any(|field| fields.contains(field))
    }
}

fn count(name: &str, text: &str) -> Result<u64, Invalid> {
    let fault = || Invalid::new(name, format!("{text:?} is not a whole number from 0 upwards"));
    text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok()).ok_or_else(fault)
}

/// `name,-time_created`: by name, then the youngest first.
fn sort<F: Field>(text: &str) -> Result<Vec<(F, bool)>, Invalid> {
    let field = |word: &str| {
        let (name, descending) = word.strip_prefix('-').map_or((word, false), |name| (name, true));
        let known = F::ALL.iter().find(|(known, _, _)| *known == name);
        known.map(|(_, field, _)| (*field, descending)).ok_or_else(|| {
            let names: Vec<_> = F::ALL.iter().map(|(name, _, _)| *name).collect();
            Invalid::new(
                "sort",
                format!("{name:?} is none of {}; a - before the name turns the order", names.join(", ")),
            )
        })
    };
    text.split(',').map(field).collect()
}

fn value(name: &str, text: &str, kind: Kind) -> Result<Value, Invalid> {
    if text == "null" && kind != Kind::Flag {
        return Ok(Value::Null);
    }
    match kind {
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Number => match text.parse() {
            Ok(number) => Ok(Value::Number(number)),
            Err(_) => Err(Invalid::new(name, format!("{text:?} is not a whole number"))),
        },
        Kind::Flag => match text {
            "1" | "true" => Ok(Value::Flag(true)),
            "0" | "false" => Ok(Value::Flag(false)),
            _ => Err(Invalid::new(name, format!("{text:?} is none of 1, true, 0, false"))),
        },
    }
}

/// Fields of volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum VolumeField {
    Id,
    Name,
    VolumeType,
    IsClone,
    Serial,
    PoolId,
    PoolName,
    SizeTotal,
    SizeFree,
    SizeUsed,
    SizeBlock,
    ParentId,
    ParentPath,
    SnapshotId,
    TimeCreated,
    TimeUpdated,
}

impl Field for VolumeField {
    const ALL: &'static [(&'static str, Self, Kind)] = &[
        ("id", Self::Id, Kind::Number),
        ("name", Self::Name, Kind::Text),
        ("volume_type", Self::VolumeType, Kind::Text),
        ("is_clone", Self::IsClone, Kind::Flag),
        ("serial", Self::Serial, Kind::Text),
        ("pool_id", Self::PoolId, Kind::Number),
        ("pool_name", Self::PoolName, Kind::Text),
        ("size_total", Self::SizeTotal, Kind::Number),
        ("size_free", Self::SizeFree, Kind::Number),
        ("size_used", Self::SizeUsed, Kind::Number),
        ("size_block", Self::SizeBlock, Kind::Number),
        ("parent_id", Self::ParentId, Kind::Number),
        ("parent_path", Self::ParentPath, Kind::Text),
        ("snapshot_id", Self::SnapshotId, Kind::Number),
        ("time_created", Self::TimeCreated, Kind::Number),
        ("time_updated", Self::TimeUpdated, Kind::Number),
    ];
}

/// Fields of snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SnapshotField {
    Id,
    Name,
    ParentId,
    ParentName,
    PoolId,
    PoolName,
    HasClones,
    VersionId,
    ExpiresAt,
    Locked,
    TimeCreated,
    TimeUpdated,
}

impl Field for SnapshotField {
    const ALL: &'static [(&'static str, Self, Kind)] = &[
        ("id", Self::Id, Kind::Number),
        ("name", Self::Name, Kind::Text),
        ("parent_id", Self::ParentId, Kind::Number),
        ("parent_name", Self::ParentName, Kind::Text),
        ("pool_id", Self::PoolId, Kind::Number),
        ("pool_name", Self::PoolName, Kind::Text),
        ("has_clones", Self::HasClones, Kind::Flag),
        // Beyond 2^63, so it is compared as text.
        ("version_id", Self::VersionId, Kind::Text),
        ("expires_at", Self::ExpiresAt, Kind::Number),
        ("locked", Self::Locked, Kind::Flag),
        ("time_created", Self::TimeCreated, Kind::Number),
        ("time_updated", Self::TimeUpdated, Kind::Number),
    ];
}

/// Fields of shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ShareField {
    Id,
    Name,
    VolId,
    ShareType,
    TimeCreated,
    TimeUpdated,
}

impl Field for ShareField {
    const ALL: &'static [(&'static str, Self, Kind)] = &[
        ("id", Self::Id, Kind::Number),
        ("name", Self::Name, Kind::Text),
        ("vol_id", Self::VolId, Kind::Number),
        ("share_type", Self::ShareType, Kind::Text),
        ("time_created", Self::TimeCreated, Kind::Number),
        ("time_updated", Self::TimeUpdated, Kind::Number),
    ];
}

/// Fields of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HostField {
    Id,
    Name,
    TimeCreated,
    TimeUpdated,
}

impl Field for HostField {
    const ALL: &'static [(&'static str, Self, Kind)] = &[
        ("id", Self::Id, Kind::Number),
        ("name", Self::Name, Kind::Text),
        ("time_created", Self::TimeCreated, Kind::Number),
        ("time_updated", Self::TimeUpdated, Kind::Number),
    ];
}

/// Fields of partners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PartnerField {
    Id,
    Address,
    TimeCreated,
    TimeUpdated,
}

impl Field for PartnerField {
    const ALL: &'static [(&'static str, Self, Kind)] = &[
        ("id", Self::Id, Kind::Text),
        ("address", Self::Address, Kind::Text),
        ("time_created", Self::TimeCreated, Kind::Number),
        ("time_updated", Self::TimeUpdated, Kind::Number),
    ];
}

/// Fields of relationships.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RelationshipField {
    Id,
    VolName,
    LocalVolId,
    LocalPoolId,
    LocalRole,
    PartnerId,
    LastSyncStatus,
    TimeCreated,
    TimeUpdated,
}

impl Field for RelationshipField {
    const ALL: &'static [(&'static str, Self, Kind)] = &[
        ("id", Self::Id, Kind::Text),
        // The contract's parameter (section 13.2) for what the answer calls local_vol_name.
        ("vol_name", Self::VolName, Kind::Text),
        ("local_vol_name", Self::VolName, Kind::Text),
        ("local_vol_id", Self::LocalVolId, Kind::Number),
        ("local_pool_id", Self::LocalPoolId, Kind::Number),
        ("local_role", Self::LocalRole, Kind::Text),
        ("partner_id", Self::PartnerId, Kind::Text),
        ("last_sync_status", Self::LastSyncStatus, Kind::Text),
        ("time_created", Self::TimeCreated, Kind::Number),
        ("time_updated", Self::TimeUpdated, Kind::Number),
    ];
}

/// Fields of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SessionField {
    Id,
    RelId,
    LocalSnapId,
    Status,
    TimeQueued,
    TimeStarted,
    TimeEnded,
}

impl Field for SessionField {
    const ALL: &'static [(&'static str, Self, Kind)] = &[
        ("id", Self::Id, Kind::Number),
        ("rel_id", Self::RelId, Kind::Text),
        ("local_snap_id", Self::LocalSnapId, Kind::Number),
        ("status", Self::Status, Kind::Text),
        ("time_queued", Self::TimeQueued, Kind::Number),
        ("time_started", Self::TimeStarted, Kind::Number),
        ("time_ended", Self::TimeEnded, Kind::Number),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<(Selection<SnapshotField>, Vec<String>), Invalid> {
        let owned: Vec<_> = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Selection::read(&owned)
    }

    #[test]
    fn parameters_are_understood() {
        let (selection, unknown) = read(&[
            ("parent_id", "7"),
            ("locked", "1"),
            ("name", "a b"),
            ("expires_at", "null"),
            ("sort", "name,-time_created"),
            ("limit", "10"),
            ("offset", "20"),
            ("typo", "x"),
        ])
        .unwrap();
        assert_eq!(unknown, ["typo"]);
        assert_eq!((selection.limit, selection.offset), (Some(10), 20));
        assert_eq!(selection.sort, [(SnapshotField::Name, false), (SnapshotField::TimeCreated, true)]);
        assert_eq!(selection.filters.len(), 4);
        assert_eq!(selection.filters[3], (SnapshotField::ExpiresAt, Value::Null));
        assert!(selection.concerns(&[SnapshotField::Locked]) && !selection.concerns(&[SnapshotField::Id]));
    }

    #[test]
    fn faults_name_the_parameter() {
        let cases = [
            ("limit", "-1"),
            ("limit", "x"),
            ("offset", "1.5"),
            ("sort", "nonsense"),
            ("sort", ""),
            ("parent_id", "one"),
            ("locked", "yes"),
            ("limit", "9223372036854775808"),
        ];
        for (name, text) in cases {
            assert_eq!(read(&[(name, text)]).unwrap_err().field, name, "{name}={text}");
        }
        assert_eq!(read(&[("limit", "1"), ("limit", "2")]).unwrap_err().field, "limit");
    }
}
