//! NFS exports through the kernel's nfsd.
//!
//! What is wanted stands in a file of our own below `/etc/exports.d`, so that an `exportfs -ra` of others keeps it:
//! `zfs create`, `zfs mount` and `zfs unmount` all end with one. What is live is read from the table that `mountd`
//! answers from, and differences are given to `exportfs`, many at a time. Every export of a filesystem of ours is ours
//! to set and to take away; those of other paths are never touched.
//!
//! | option | reason |
//! |---|---|
//! | `sync` | what a client was told is on disk is on disk |
//! | `no_root_squash` | backup software writes as root |
//! | `no_subtree_check` | whole filesystems are exported, so there is nothing to check |
//! | `insecure` | clients in user space and behind address translation have high ports; a port number proves nothing |
//! | `crossmnt` | with it snapshots in `.zfs/snapshot` can be entered, without it they are empty folders |

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Error, Kind, Result,
    command::{Limit, Tool},
    exports::Applied,
    file,
    listen::{Listen, Listener, wait_for_zfs_share},
    nfs_cache::{flush_turn, release},
};
use crate::types::share::{AllowedHost, AllowedHosts};

/// Our file.
const FILE: &str = "/etc/exports.d/vsnap.exports";
/// Where the server listens.
const LISTEN: &str = "/etc/nfs.conf.d/vsnap-listen.conf";
/// What is exported now.
const TABLE: &str = "/var/lib/nfs/etab";
/// How many threads nfsd has; none, or no file, when it does not run.
const THREADS: &str = "/proc/fs/nfsd/threads";
/// Exports that one command is given.
const MOST: usize = 500;
/// How long all name servers together may take in one pass.
const ASKING: Duration = Duration::from_secs(10);
/// How long the answer of a name server is used.
const NAME_TIME: Duration = Duration::from_secs(300);

/// A filesystem that NFS clients may mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsExport {
    /// Where it is mounted here, and what clients mount.
    pub path: String,
    /// Who may mount it.
    pub hosts: AllowedHosts,
    /// Nobody can write.
    pub read_only: bool,
    /// Snapshots in `.zfs/snapshot` can be entered.
    pub snapshots_visible: bool,
}

impl NfsExport {
    fn options(&self) -> String {
        let access = if self.read_only { "ro" } else { "rw" };
        let snapshots = if self.snapshots_visible { "crossmnt" } else { "nocrossmnt" };
        format!("{access},sync,no_root_squash,no_subtree_check,insecure,{snapshots}")
    }
}

/// Path and client of an export, both as the table has them.
type Place = (String, String);

/// The kernel's NFS server.
pub struct Nfs {
    exportfs: Option<Tool>,
    systemctl: Option<Tool>,
    getent: Option<Tool>,
    /// What name servers said, and when.
    names: Mutex<HashMap<String, (Option<String>, Instant)>>,
    listener: Listener,
}

impl Nfs {
    /// Looks for its tools, which are needed only when something is exported.
    pub fn new() -> Result<Self> {
        Ok(Nfs {
            exportfs: Tool::find_optional("exportfs"),
            systemctl: Tool::find_optional("systemctl"),
            getent: Tool::find_optional("getent"),
            names: Mutex::default(),
            listener: Listener::new(LISTEN, 2049, listen_lines),
        })
    }

    /// See [`super::Exports::apply_nfs`].
    pub fn apply(&self, wanted: &[NfsExport], listen: &Listen) -> Result<Applied> {
        let mounted = mounted()?;
        let here: Vec<&NfsExport> = wanted.iter().filter(|export| mounted.contains(&export.path)).collect();
        let mut applied = Applied::default();
        let text = render(&here);
        if file::read(Path::new(FILE))?.unwrap_or_default() != text {
            file::write(Path::new(FILE), text.as_bytes(), 0o644)?;
        }
        let serves = here.iter().any(|export| !export.hosts.as_slice().is_empty());
        self.start_server(serves, listen, &mut applied)?;
        let live = live()?;
        let plan = self.plan(&here, &live)?;
        self.carry_out(&plan, &mut applied)?;
        self.forget(&plan, &mut applied);
        Ok(applied)
    }

    /// Starts the server when it is needed and does not run; one that runs where it should is never touched. Clients of
    /// NFS 4 get back from one that is restarted what they had open.
    fn start_server(&self, needed: bool, listen: &Listen, applied: &mut Applied) -> Result<()> {
        let threads = file::read(Path::new(THREADS))?.unwrap_or_default();
        let is_running = threads.trim().parse::<u32>().is_ok_and(|threads| threads > 0);
        if self.listener.prepare(listen, needed)? {
            if is_running || needed {
                self.systemctl("restart")?;
            }
            applied.changes.push(self.listener.restarted(listen)?);
            return Ok(());
        }
        if is_running || !needed {
            return Ok(());
        }
        self.systemctl("start")?;
        applied.changes.push("the NFS server was not running and was started".to_owned());
        Ok(())
    }

    fn systemctl(&self, action: &str) -> Result<()> {
        let systemctl = self.systemctl.as_ref().ok_or_else(|| missing("systemctl", "systemd"))?;
        systemctl.command([action, "nfs-server.service"]).output(|_| Kind::Other)?;
        wait_for_zfs_share(systemctl)
    }

    fn plan(&self, wanted: &[&NfsExport], live: &BTreeMap<Place, String>) -> Result<Plan> {
        let (mut places, mut asking) = (BTreeMap::new(), Duration::ZERO);
        for export in wanted {
            for host in export.hosts.as_slice() {
                if let Some(client) = self.client(&export.path, host, live, &mut asking)? {
                    places.insert((export.path.clone(), client), export.options());
                }
            }
        }
        Ok(Plan::new(&places, live))
    }

    /// The client as the table has it: names of hosts stand there as the name server has them. `None` for one that it
    /// does not know.
    fn client(
        &self,
        path: &str,
        host: &AllowedHost,
        live: &BTreeMap<Place, String>,
        asking: &mut Duration,
    ) -> Result<Option<String>> {
        let text = if host.is_all() { "*" } else { host.as_str() };
        let is_name = host.as_str().parse::<std::net::IpAddr>().is_err() && !host.as_str().contains('/');
        if host.is_all() || !is_name || live.contains_key(&(path.to_owned(), text.to_owned())) {
            return Ok(Some(text.to_owned()));
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, asked)) = names.get(text)
            && asked.elapsed() < NAME_TIME
        {
            return Ok(name.clone());
        }
        // A name server that does not answer takes nothing away from a host that had an address.
        let last = names.get(text).and_then(|(name, _)| name.clone());
        let name = self.canonical(text, asking).or(last);
        if name.is_none() {
            tracing::warn!(host = text, path, "an allowed host has no address now, so it can't mount the share");
        }
        names.insert(text.to_owned(), (name.clone(), Instant::now()));
        Ok(name)
    }

    /// `asking` is how long has been waited for names in this pass.
    fn canonical(&self, host: &str, asking: &mut Duration) -> Option<String> {
        // What a slow or dead name server would say is not worth more than this, for all hosts together.
        let limit = Limit::Time(ASKING.checked_sub(*asking)?);
        let began = Instant::now();
        let answer = self.ask(host, limit);
        *asking += began.elapsed();
        answer
    }

    fn ask(&self, host: &str, limit: Limit) -> Option<String> {
        let output = self.getent.as_ref()?.command(["ahosts", host]).limit(limit).run().ok()?;
        if !output.succeeded() {
            return None;
        }
        let text = output.text();
        let name = text.lines().find_map(|line| line.split_ascii_whitespace().nth(2));
        Some(name.unwrap_or(host).to_owned())
    }

    fn carry_out(&self, plan: &Plan, applied: &mut Applied) -> Result<()> {
        if plan.is_empty() {
            return Ok(());
        }
        let exportfs = self.exportfs.as_ref().ok_or_else(|| missing("exportfs", "nfs-kernel-server"))?;
        // Each run flushes what the kernel remembers.
        let turn = flush_turn()?;
        let mut failure = None;
        for places in plan.unexport.chunks(MOST) {
            // It fails also for what is gone already: an `exportfs -ra` of somebody else, as by zfs-share.service after
            // each start of the server, may have come first.
            if let Err(error) = exportfs.command(["-u"]).args(places.iter().map(argument)).output(|_| Kind::Other) {
                failure.get_or_insert(error);
            }
            applied.changes.extend(places.iter().map(|(path, client)| format!("{path} is not exported to {client}")));
        }
        for (options, places) in &plan.export {
            for places in places.chunks(MOST) {
                // -i, since without it exportfs asks name servers about all hosts in all files.
                let command = exportfs.command(["-i", "-o", options]).args(places.iter().map(argument));
                command.output(|_| Kind::Other)?;
                let change = |(path, client): &Place| format!("{path} is exported to {client} with {options}");
                applied.changes.extend(places.iter().map(change));
            }
        }
        drop(turn);
        // It exits with 0 also when it could not do all.
        let live = live()?;
        let undone = plan.export.values().flatten().find(|place| !live.contains_key(place));
        let left = plan.unexport.iter().find(|place| live.contains_key(place));
        match undone.or(left) {
            None => Ok(()),
            Some((path, client)) => Err(failure.unwrap_or_else(|| {
                let detail = format!("{TABLE} does not say so afterwards; see the log of nfs-mountd");
                Error::new(Kind::Other, format!("exportfs of {path} to {client}"), detail)
            })),
        }
    }

    /// Waits until the kernel has let go of what is exported no longer, so that it can be unmounted.
    fn forget(&self, plan: &Plan, applied: &mut Applied) {
        let gone: Vec<&str> = plan.gone.iter().map(String::as_str).collect();
        if gone.is_empty() {
            return;
        }
        if let Err(error) = release(&gone) {
            applied.changes.push(format!("the kernel has not let go of {}: {error}", gone.join(", ")));
        }
    }
}

/// Where something is mounted.
pub(super) fn mounted() -> Result<BTreeSet<String>> {
    let text = file::read_required("/proc/self/mounts")?;
    // Our own mount points have nothing in them that is written as an escape.
    Ok(text.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned).collect())
}

fn missing(tool: &str, package: &str) -> Error {
    Error::new(Kind::Missing, format!("looking for the program {tool}"), format!("install package {package}"))
}

/// The file that says where the server listens.
fn listen_lines(addresses: &[String]) -> String {
    format!("# Made by vsnapd: the addresses of interfaces that have nfs.\n[nfsd]\nhost={}\n", addresses.join(","))
}

/// The file.
fn render(wanted: &[&NfsExport]) -> String {
    let mut text = "# Made by vsnapd from its catalog. What is written here by hand is lost.\n".to_owned();
    for export in wanted.iter().filter(|export| !export.hosts.as_slice().is_empty()) {
        text.push_str(&export.path);
        for host in export.hosts.as_slice() {
            let client = if host.is_all() { "*" } else { host.as_str() };
            text.push_str(&format!(" {client}({})", export.options()));
        }
        text.push('\n');
    }
    text
}

/// `client:/path`, with IPv6 addresses in brackets.
fn argument((path, client): &Place) -> String {
    match client.split_once('/') {
        Some((address, prefix)) if address.contains(':') => format!("[{address}]/{prefix}:{path}"),
        None if client.contains(':') => format!("[{client}]:{path}"),
        _ => format!("{client}:{path}"),
    }
}

/// Exports of filesystems of ours that are live, with their options.
fn live() -> Result<BTreeMap<Place, String>> {
    parse(&file::read(Path::new(TABLE))?.unwrap_or_default())
}

fn parse(table: &str) -> Result<BTreeMap<Place, String>> {
    let mut live = BTreeMap::new();
    for line in table.lines().filter(|line| !line.is_empty()) {
        let unreadable = || Error::new(Kind::Other, format!("reading {TABLE}"), format!("unexpected line {line:?}"));
        let (path, rest) = line.split_once('\t').ok_or_else(unreadable)?;
        if is_ours(path) {
            let (client, options) =
                rest.strip_suffix(')').and_then(|rest| rest.split_once('(')).ok_or_else(unreadable)?;
            live.insert((path.to_owned(), client.to_owned()), options.to_owned());
        }
    }
    Ok(live)
}

/// Whether a path is that of a filesystem volume: `/vsnap/vpool1/fs2`.
fn is_ours(path: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = path.strip_prefix("/vsnap/vpool").and_then(|rest| rest.split_once("/fs"));
    parts.is_some_and(|(pool, volume)| number(pool) && number(volume))
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    unexport: Vec<Place>,
    /// By options.
    export: BTreeMap<String, Vec<Place>>,
    /// Paths that are exported to nobody any longer.
    gone: BTreeSet<String>,
}

impl Plan {
    fn new(wanted: &BTreeMap<Place, String>, live: &BTreeMap<Place, String>) -> Self {
        let mut plan = Plan::default();
        plan.unexport.extend(live.keys().filter(|place| !wanted.contains_key(place)).cloned());
        for (place, options) in wanted {
            if !live.get(place).is_some_and(|live| has_all(live, options)) {
                plan.export.entry(options.clone()).or_default().push(place.clone());
            }
        }
        let stay: BTreeSet<&String> = wanted.keys().map(|(path, _)| path).collect();
        plan.gone.extend(plan.unexport.iter().map(|(path, _)| path).filter(|path| !stay.contains(path)).cloned());
        plan
    }

    fn is_empty(&self) -> bool {
        self.unexport.is_empty() && self.export.is_empty()
    }
}

/// Whether the table's options have all that we give; it adds those that are the default.
fn has_all(live: &str, options: &str) -> bool {
    options.split(',').all(|option| live.split(',').any(|other| other == option))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nfs-utils 2.8 writes it.
    const REST: &str = "sync,wdelay,hide,nocrossmnt,insecure,no_root_squash,no_all_squash,no_subtree_check,\
                        secure_locks,acl,no_pnfs,anonuid=65534,anongid=65534,sec=sys";

    fn export(path: &str, hosts: &[&str]) -> NfsExport {
        let hosts = AllowedHosts::new(hosts).unwrap();
        NfsExport { path: path.to_owned(), hosts, read_only: false, snapshots_visible: false }
    }

    fn place(path: &str, client: &str) -> Place {
        (path.to_owned(), client.to_owned())
    }

    #[test]
    fn the_file_has_what_is_wanted() {
        let read_only = NfsExport { read_only: true, snapshots_visible: true, ..export("/vsnap/vpool1/fs2", &["all"]) };
        let wanted = [export("/vsnap/vpool1/fs1", &["10.1.0.0/16", "2001:db8::1"]), read_only, export("/x", &[])];
        let text = render(&wanted.iter().collect::<Vec<_>>());
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let options = "rw,sync,no_root_squash,no_subtree_check,insecure,nocrossmnt";
        assert_eq!(lines[0], format!("/vsnap/vpool1/fs1 10.1.0.0/16({options}) 2001:db8::1({options})"));
        assert_eq!(lines[1], "/vsnap/vpool1/fs2 *(ro,sync,no_root_squash,no_subtree_check,insecure,crossmnt)");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn only_our_own_are_ours() {
        let table = format!(
            "/srv/a b\t10.0.0.1(rw,{REST})\n/vsnap/vpool1/fs1\t10.0.0.1(rw,{REST},rw)\n/vsnap/vpool1\t*(ro,{REST})\n\
             /vsnap/vpool1/fs1/x\t*(ro,{REST})\n/vsnap/vpoolx/fs1\t*(ro)\n"
        );
        let live = parse(&table).unwrap();
        assert_eq!(live.keys().cloned().collect::<Vec<_>>(), [place("/vsnap/vpool1/fs1", "10.0.0.1")]);
        assert!(parse("/srv 10.0.0.1(rw)\n").is_err() && parse("/vsnap/vpool1/fs1\tx\n").is_err());
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn only_differences_are_applied() {
        let (one, two, three) = ("/vsnap/vpool1/fs1", "/vsnap/vpool1/fs2", "/vsnap/vpool1/fs3");
        let live = parse(&format!(
            "{one}\t*(rw,{REST},rw)\n{one}\t10.0.0.1(rw,{REST})\n{two}\t*(rw,{REST})\n{three}\t*(rw,{REST})\n"
        ))
        .unwrap();
        let (wide, narrow) =
            (export(one, &["all"]).options(), NfsExport { read_only: true, ..export(two, &[]) }.options());
        let wanted = BTreeMap::from([(place(one, "*"), wide), (place(two, "*"), narrow.clone())]);
        let plan = Plan::new(&wanted, &live);
        assert_eq!(plan.unexport, [place(one, "10.0.0.1"), place(three, "*")]);
        assert_eq!(plan.export, BTreeMap::from([(narrow, vec![place(two, "*")])]));
        assert_eq!(plan.gone, BTreeSet::from([three.to_owned()]));
        assert!(Plan::new(&BTreeMap::new(), &BTreeMap::new()).is_empty());
    }

    #[test]
    fn arguments_of_exportfs() {
        for (client, expected) in [
            ("*", "*:/p"),
            ("10.0.0.0/8", "10.0.0.0/8:/p"),
            ("host", "host:/p"),
            ("2001:db8::1", "[2001:db8::1]:/p"),
            ("2001:db8::/32", "[2001:db8::]/32:/p"),
        ] {
            assert_eq!(argument(&place("/p", client)), expected);
        }
    }
}
