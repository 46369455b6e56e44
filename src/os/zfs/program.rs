//! Reading some of what is inside a pool by channel programs (`zfs-program(8)`): a few lines of Lua that run in the
//! kernel and answer for many datasets at one moment.
//!
//! * They run read-only, in the open context, where the pool's datasets can't come or go in the meantime. One that is
//!   not there must be asked for with `zfs.exists`, since reading a property of it ends the program.
//! * Whether a dataset is in use is known in the syncing context alone: in the open one every check says that it is not.
//! * ZFS writes each of them into the pool's history, so that what is read often is read without (`objset.rs`).
//! * While one runs, nothing can be created or destroyed in the pool. So many names are read in groups of [`GROUP`].
//! * `libnv` can't read nested lists: a program answers one string, a line for each name, of fields between tabs.
//! * Lua's numbers are signed: a guid from 2^63 on arrives as a negative one.

use std::collections::BTreeMap;

use libzetta::{
    libnv::nvpair::{NvList, Value},
    zfs::ZfsEngine,
};

use super::{OpenZfs, property};
use crate::os::{Error, Kind, Result};

/// How many datasets or snapshots one program reads. Each property costs the kernel a look into the dataset, which has
/// to be opened for it anew unless it is mounted or in use.
const GROUP: usize = 200;
/// Instructions and bytes of memory that a program gets: what the kernel module allows at most, by default.
const MOST_INSTRUCTIONS: u64 = 100_000_000;
const MOST_MEMORY: u64 = 100 << 20;

/// Before every program. Its argument is a table whose keys are names. Characters that are none of plain ASCII become
/// `%XX`, so that a value can't be taken for the end of a field or line.
const HEAD: &str = r#"
local names = ...
local lines = {}

local function escape(text)
    return (string.gsub(text, "[^\32-\36\38-\126]", function(character)
        return string.format("%%%02X", string.byte(character))
    end))
end

local function read(name, properties)
    local fields = { name }
    for _, property in ipairs(properties) do
        local value = zfs.get_prop(name, property)
        if value ~= nil then
            fields[#fields + 1] = property .. "=" .. value
        end
    end
    return fields
end

local function read_mark(name, fields)
    local value, source = zfs.get_prop(name, "vsnap:id")
    if value ~= nil and source == name then
        fields[#fields + 1] = "vsnap:id=" .. escape(value)
    end
end

local function read_notes(name, fields)
    for property, value, source in zfs.list.user_properties(name) do
        if source == name and string.sub(property, 1, 6) == "vsnap:" then
            fields[#fields + 1] = property .. "=" .. escape(value)
        end
    end
end
"#;

/// After every program.
const TAIL: &str = r#"
return table.concat(lines, "\n")
"#;

/// Which of the given names are there.
pub(super) const EXISTING: &str = r#"
for name in pairs(names) do
    if zfs.exists(name) then
        lines[#lines + 1] = name
    end
end
"#;

/// Which of the given datasets have snapshots and are open: mounted, or a zvol whose device somebody uses. What ZFS
/// would say to a rollback tells it (16 is `EBUSY`), without doing one. For [`OpenZfs::check`].
pub(super) const OPEN: &str = r#"
for name in pairs(names) do
    if zfs.exists(name) and zfs.check.rollback(name) == 16 then
        lines[#lines + 1] = name
    end
end
"#;

/// Sizes of datasets.
pub(super) const NUMBERS: &str = r#"
for name in pairs(names) do
    if zfs.exists(name) then
        lines[#lines + 1] = table.concat(read(name, { "used", "available", "referenced" }), "\t")
    end
end
"#;

/// Marks of datasets.
pub(super) const MARKS: &str = r#"
for name in pairs(names) do
    if zfs.exists(name) then
        local fields = { name }
        read_mark(name, fields)
        lines[#lines + 1] = table.concat(fields, "\t")
    end
end
"#;

/// What is wanted of snapshots that were just made.
pub(super) const MADE: &str = r#"
for name in pairs(names) do
    if zfs.exists(name) then
        local fields = read(name, { "guid", "creation" })
        read_mark(name, fields)
        lines[#lines + 1] = table.concat(fields, "\t")
    end
end
"#;

/// All that is wanted of snapshots.
pub(super) const SNAPSHOTS: &str = r#"
local wanted = { "guid", "creation", "createtxg", "used" }
for name in pairs(names) do
    if zfs.exists(name) then
        local fields = read(name, wanted)
        read_notes(name, fields)
        for clone in zfs.list.clones(name) do
            fields[#fields + 1] = "clone=" .. escape(clone)
        end
        for tag in zfs.list.holds(name) do
            fields[#fields + 1] = "hold=" .. escape(tag)
        end
        lines[#lines + 1] = table.concat(fields, "\t")
    end
end
"#;

/// What a program says of one dataset or snapshot.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    /// ZFS name.
    pub name: String,
    fields: Vec<(String, String)>,
}

impl OpenZfs {
    /// Runs a program for many names, group by group.
    pub(super) fn read_all<'a>(
        &self,
        pool: &str,
        program: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Record>> {
        let names: Vec<&str> = names.into_iter().collect();
        let mut records = Vec::new();
        for group in names.chunks(GROUP) {
            records.extend(self.read(pool, program, group)?);
        }
        Ok(records)
    }

    /// Runs a program for some names of one pool. `Missing` when the pool is not imported.
    pub(super) fn read(&self, pool: &str, program: &str, names: &[&str]) -> Result<Vec<Record>> {
        self.run_program(pool, program, names, false)
    }

    /// The same in the syncing context: takes a transaction group's time, and changes nothing either.
    pub(super) fn check(&self, pool: &str, program: &str, names: &[&str]) -> Result<Vec<Record>> {
        self.run_program(pool, program, names, true)
    }

    fn run_program(&self, pool: &str, program: &str, names: &[&str], syncing: bool) -> Result<Vec<Record>> {
        let program = format!("{HEAD}{program}{TAIL}");
        let action = || match names {
            [name] => format!("reading {name}"),
            _ => format!("reading what is in {pool}"),
        };
        let odd = |error: libzetta::libnv::NvError| Error::new(Kind::Other, action(), error.to_string());
        let mut arguments = NvList::default();
        for name in names {
            arguments.insert_boolean_value(*name, true).map_err(odd)?;
        }
        let answer = self
            .core
            .run_channel_program(pool, &program, MOST_INSTRUCTIONS, MOST_MEMORY, syncing, arguments)
            .map_err(|error| core_error(action(), error, |_| None))?;
        let text = answer.get_string("return").map_err(odd)?;
        text.lines().map(|line| Record::read(&action(), line)).collect()
    }
}

/// Text as the programs write it, see [`HEAD`].
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

impl Record {
    /// One that did not come from a program; texts are escaped.
    pub(super) fn of(name: &str, fields: Vec<(String, String)>) -> Self {
        Record { name: name.to_owned(), fields }
    }

    fn read(action: &str, line: &str) -> Result<Self> {
        let unreadable = || Error::new(Kind::Other, action, format!("its answer can't be read: {line:?}"));
        let mut parts = line.split('\t');
        let name = parts.next().filter(|name| !name.is_empty()).ok_or_else(unreadable)?.to_owned();
        let field = |part: &str| part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        let fields = parts.map(|part| field(part).ok_or_else(unreadable)).collect::<Result<_>>()?;
        Ok(Record { name, fields })
    }

    /// A property in words, if there is one of this name.
    pub(super) fn find(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A property in words.
    pub(super) fn text(&self, key: &str) -> Result<&str> {
        self.find(key).ok_or_else(|| self.fault(key, "ZFS did not give it"))
    }

    /// A property that is a number.
    pub(super) fn number(&self, key: &str) -> Result<u64> {
        let text = self.text(key)?;
        let number: i64 =
            text.parse().map_err(|_| self.fault(key, &format!("ZFS gave the unexpected value {text}")))?;
        Ok(number.cast_unsigned())
    }

    /// Everything under a key that may stand more than once, sorted.
    pub(super) fn list(&self, key: &str) -> Result<Vec<String>> {
        let values = self.fields.iter().filter(|(name, _)| name == key);
        let mut list = values.map(|(_, value)| self.unescape(key, value)).collect::<Result<Vec<_>>>()?;
        list.sort();
        Ok(list)
    }

    /// Our user properties; the programs give only those that were set on the dataset itself.
    pub(super) fn notes(&self) -> Result<BTreeMap<String, String>> {
        let ours = self.fields.iter().filter(|(name, _)| name.starts_with(property::OURS));
        ours.map(|(name, value)| Ok((name.clone(), self.unescape(name, value)?))).collect()
    }

    fn unescape(&self, key: &str, text: &str) -> Result<String> {
        let broken = || self.fault(key, &format!("the escapes of {text} can't be read"));
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first == b'%' {
                let (digits, tail) = tail.split_at_checked(2).ok_or_else(broken)?;
                let digits = std::str::from_utf8(digits).map_err(|_| broken())?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
                rest = tail;
            } else {
                bytes.push(first);
            }
        }
        // What we write is ASCII. Others may have set anything.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn fault(&self, key: &str, detail: &str) -> Error {
        Error::new(Kind::Other, format!("reading property {key} of {}", self.name), detail)
    }
}

/// What libzfs_core says, as our error. `kind` may know better than the usual meaning of an error number.
pub(super) fn core_error(
    action: String,
    error: libzetta::zfs::Error,
    kind: impl Fn(nix::errno::Errno) -> Option<Kind>,
) -> Error {
    use libzetta::zfs::Error as Core;
    let from_number = |number: i32| {
        let error = Error::io(action.clone(), &std::io::Error::from_raw_os_error(number));
        Error { kind: kind(nix::errno::Errno::from_raw(number)).unwrap_or(error.kind), ..error }
    };
    match error {
        Core::Io(error) => match error.raw_os_error() {
            Some(number) => from_number(number),
            None => Error::io(action, &error),
        },
        // An error number for each name that it failed for, and for "N_MORE_ERRORS" how many were left out.
        Core::MultiOpError(errors) => {
            let mut numbers: Vec<(&str, i32)> = Vec::new();
            for (name, value) in &errors {
                if let (true, Value::Int32(number)) = (name.contains('/'), value) {
                    numbers.push((name, *number));
                }
            }
            numbers.sort();
            match numbers.first() {
                Some((name, number)) => {
                    let error = from_number(*number);
                    Error { detail: format!("{name}: {}", error.detail), ..error }
                }
                None => Error::new(Kind::Other, action, format!("{errors:?}")),
            }
        }
        Core::ChanProgInval(said) | Core::ChanProgRuntime(said) => {
            let detail = match said.get("error") {
                Some(Value::String(text)) => text.clone(),
                _ => {
                    "the kernel does not take the program; are zfs_lua_max_instrlimit and memlimit lowered?".to_owned()
                }
            };
            Error::new(Kind::Other, action, detail)
        }
        error => Error::new(Kind::Other, action, format!("{error:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use libzetta::zfs::Error as Core;
    use nix::errno::Errno;

    use super::*;

    fn record(line: &str) -> Record {
        Record::read("reading vpool1", line).unwrap()
    }

    #[test]
    fn a_line_of_a_program() {
        let line =
            "vpool1/fs 1@a\tguid=-4221995860067445630\tused=12\tvsnap:id=x=y%09%25\tvsnap:empty=\tclone=v/b\tclone=v/a";
        let snapshot = record(line);
        assert_eq!(snapshot.name, "vpool1/fs 1@a");
        assert_eq!(snapshot.number("guid").unwrap(), 14_224_748_213_642_105_986);
        assert_eq!((snapshot.number("used").unwrap(), snapshot.find("quota")), (12, None));
        assert_eq!(snapshot.list("clone").unwrap(), ["v/a", "v/b"]);
        assert_eq!(snapshot.list("hold").unwrap(), [""; 0]);
        let notes = [("vsnap:id".to_owned(), "x=y\t%".to_owned()), ("vsnap:empty".to_owned(), String::new())];
        assert_eq!(snapshot.notes().unwrap(), notes.into());
    }

    #[test]
    fn what_can_not_be_read_is_an_error() {
        assert!(Record::read("reading", "").is_err());
        assert!(Record::read("reading", "name\tused").is_err());
        assert!(record("name").number("used").is_err() && record("name").text("type").is_err());
        assert!(record("name\tused=x").number("used").is_err());
        assert!(record("name\tvsnap:a=%2").notes().is_err() && record("name\tvsnap:a=%xx").notes().is_err());
    }

    #[test]
    fn error_numbers_have_meanings() {
        let kind =
            |error| core_error("trying".to_owned(), error, |number| (number == Errno::E2BIG).then_some(Kind::Busy));
        let io = |number: Errno| Core::Io(std::io::Error::from_raw_os_error(number as i32));
        assert_eq!(kind(io(Errno::ENOENT)).kind, Kind::Missing);
        assert_eq!(kind(io(Errno::EDQUOT)).kind, Kind::NoSpace);
        assert_eq!(kind(io(Errno::E2BIG)).kind, Kind::Busy);
        let several = |errors: &[(&str, i32)]| {
            let errors = errors.iter().map(|(name, number)| ((*name).to_owned(), Value::Int32(*number)));
            kind(Core::MultiOpError(errors.collect()))
        };
        let error = several(&[("v/b@s", Errno::ENOENT as i32), ("v/a@s", Errno::EEXIST as i32), ("N_MORE_ERRORS", 3)]);
        assert_eq!((error.kind, error.detail.starts_with("v/a@s: ")), (Kind::Exists, true), "{error}");
        assert_eq!(several(&[("N_MORE_ERRORS", 3)]).kind, Kind::Other);
        assert_eq!(kind(Core::ChanProgInval(HashMap::new())).kind, Kind::Other);
        let said = [("error".to_owned(), Value::String("no such function".to_owned()))].into();
        assert_eq!(kind(Core::ChanProgRuntime(said)).detail, "no such function");
    }
}
