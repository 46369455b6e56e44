//! The daemon: reads the configuration, brings the appliance up, serves the API, and goes down in order.

use std::{
    error::Error, io::IsTerminal, os::unix::fs::DirBuilderExt, path::PathBuf, process::ExitCode, sync::Arc,
    time::Duration,
};

use axum_server::tls_rustls::RustlsConfig;
use clap::{CommandFactory, Parser};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};
use vsnap::{
    api::{self, openapi, server, supervision, tls},
    catalog::Catalog,
    config::{self, Config},
    engine::{Engine, System},
    os::{
        LinuxExports,
        link_socket::{self, LinkSocket},
        machine::Linux,
        ssh::OpenSsh,
        zfs::OpenZfs,
    },
};

/// The vSnap appliance daemon: serves the HTTPS API that turns this machine's disks into storage for backups.
#[derive(Parser)]
#[command(name = "vsnapd", version, max_term_width = 100)]
struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "PATH", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Check the configuration file and end
    #[arg(long)]
    check_config: bool,
    /// Print the OpenAPI document and end
    #[arg(long)]
    openapi: bool,
    /// Print the manual page and end
    #[arg(long, hide = true)]
    man: bool,
}

/// What the definition of the command line does not know, for the manual page, in the language of manual pages.
const MAN_SECTIONS: &str = r#".SH FILES
.TP
.I /etc/vsnap/vsnap.toml
Configuration, which explains each key. All of them may be left out. After a change of the TLS files:
.BR "systemctl reload vsnapd" ;
after any other:
.BR "systemctl restart vsnapd" .
.TP
.I /var/lib/vsnap/catalog.sqlite
The catalog: what the appliance knows of pools, volumes, snapshots, shares, hosts, partners and networks. When it is lost,
.B "vsnap system rebuild-catalog"
brings back what the pools tell.
.TP
.IR /var/lib/vsnap/tls ,\ /var/lib/vsnap/ssh ,\ /var/lib/vsnap/chap
The self-signed certificate; keys for partners and of partners; secrets of iSCSI.
.TP
.I /run/vsnap/api.sock
Socket of the API for root, without a password.
.TP
.I /run/vsnap-link.sock
Socket for the links of partners.
.TP
.IR /etc/exports.d/vsnap.exports ,\ /etc/samba/vsnap.conf
Shares. They are made from the catalog; changes by hand are lost.
.SH SIGNALS
.TP
.BR SIGTERM ,\ SIGINT
Stop. Requests and operations get
.I shutdown_seconds
of the configuration to end; an operation that has not ended then goes on at the next start.
.TP
.B SIGHUP
Read the TLS files again. Connections go on with the certificate that they began with.
.SH SEE ALSO
.BR vsnap (1),
.BR zpool (8),
.BR zfs (8),
and the comments in
.IR /etc/vsnap/vsnap.toml .
"#;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if tracing::dispatcher::has_been_set() {
                tracing::error!("vsnapd ends: {error}");
            } else {
                eprintln!("vsnapd: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    use std::io::Write;
    if arguments.openapi {
        return Ok(std::io::stdout().write_all(openapi::document().as_bytes())?);
    }
    if arguments.man {
        let page = clap_mangen::Man::new(Arguments::command()).section("8");
        page.render(&mut std::io::stdout())?;
        return Ok(std::io::stdout().write_all(MAN_SECTIONS.as_bytes())?);
    }
    let config = Config::load(&arguments.config)?;
    let filter = log_filter(&config.log).map_err(|error| format!("log = {:?}: {error}", config.log))?;
    if arguments.check_config {
        return Ok(writeln!(std::io::stdout(), "{}: good", arguments.config.display())?);
    }
    start_logging(filter)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %arguments.config.display(), "vsnapd starts");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(config));
    // What still blocks then was given its time already; the journal finishes it at the next start.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// rustls warns of every client that calls the appliance by its address, as many do: a line for each connection that
/// nobody can do anything about. The configuration can have it back (`rustls=warn`).
fn log_filter(wanted: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("rustls=error,{wanted}"))
}

/// To the journal when it is there, else to stderr.
fn start_logging(filter: EnvFilter) -> Outcome {
    let registry = tracing_subscriber::registry().with(filter);
    let journal = if stderr_is_the_journal() { tracing_journald::layer().ok() } else { None };
    if let Some(journal) = journal {
        registry.with(journal.with_syslog_identifier("vsnapd".to_owned())).try_init()?;
    } else {
        let colours = std::io::stderr().is_terminal();
        registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours)).try_init()?;
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic: {}", panic.payload_as_str().unwrap_or("?"));
    }));
    Ok(())
}

/// The variable alone is not enough: it is inherited by what a unit starts with another stderr.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    nix::sys::stat::fstat(std::io::stderr()).is_ok_and(|found| stream == format!("{}:{}", found.st_dev, found.st_ino))
}

/// What can be asked of a running daemon from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }

    /// Ends when the daemon shall stop; a reload means nothing before there is something to reload.
    async fn stop(&mut self) {
        while self.next().await != Wish::Stop {}
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Stop,
    Reload,
}

async fn serve(config: Config) -> Outcome {
    let mut signals = Signals::listen()?;
    // First of all, since this is what a second daemon fails at, before it could touch anything. Clients that come
    // while the appliance starts wait in the queue.
    let listeners = server::Listeners::bind(&config)?;
    let engine = tokio::select! {
        engine = start_engine(config.clone()) => engine?,
        () = signals.stop() => return Ok(()),
    };
    let certificates = tls::Files::of(&config);
    let tls = RustlsConfig::from_config(load(&certificates, &engine).await?);
    let router = api::router(Arc::clone(&engine), api::Options::from(&config))?;
    let mut running = server::serve(listeners, router, tls.clone(), &config)?;
    let (follower, follows) = (running.follower(), Arc::clone(&engine));
    tokio::task::spawn_blocking(move || follows.follow_management(Box::new(follower))).await?;
    serve_links(&engine)?;
    let watchdog = tokio::spawn(supervision::watch(Arc::clone(&engine)));
    tracing::info!(addresses = ?running.addresses(), socket = %config.socket.display(), "serving");
    supervision::ready();

    let mut daily = tokio::time::interval(Duration::from_secs(24 * 60 * 60));
    daily.reset();
    loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::Stop => break,
                Wish::Reload => reload(&certificates, &engine, &tls).await,
            },
            _ = daily.tick() => renew(&certificates, &engine, &tls).await,
            error = running.failed() => return Err(error.into()),
        }
    }
    tracing::info!("vsnapd stops");
    supervision::stopping();
    let left = running.stop(Duration::from_secs(config.limits.shutdown_seconds)).await;
    let drained = tokio::task::spawn_blocking(move || engine.drain(left.max(Duration::from_secs(1)))).await?;
    watchdog.abort();
    if !drained {
        tracing::warn!("an operation is still running; it is finished at the next start");
    }
    Ok(())
}

/// Opens the catalog, looks at the system, and finishes what an earlier daemon left.
async fn start_engine(config: Config) -> Outcome<Arc<Engine>> {
    let work = move || -> Outcome<Arc<Engine>> {
        // systemd has made it already, when there is systemd.
        let mut folder = std::fs::DirBuilder::new();
        folder
            .recursive(true)
            .mode(0o700)
            .create(&config.state_dir)
            .map_err(|error| format!("cannot make {}: {error}", config.state_dir.display()))?;
        let catalog = Catalog::open(&config.state_dir.join("catalog.sqlite"))?;
        let zfs = Arc::new(OpenZfs::new()?);
        let machine = Arc::new(Linux::new(config.storage.allow_loop_devices)?);
        let exports = Arc::new(LinuxExports::new(&config.state_dir)?);
        let peers = Arc::new(OpenSsh::new(&config.state_dir)?);
        let engine = Engine::new(catalog, System { zfs, machine, exports, peers }, config)?;
        engine.start()?;
        Ok(engine)
    };
    tokio::task::spawn_blocking(work).await?
}

/// Links of partners, each in a thread of its own. They end with the process; what was on its way goes on later.
fn serve_links(engine: &Arc<Engine>) -> Outcome {
    /// More links at a time than any number of sessions needs.
    const MOST: usize = 256;
    let socket = LinkSocket::bind(link_socket::PATH.as_ref())?;
    let engine = Arc::clone(engine);
    let open = Arc::new(());
    let serve = move || {
        loop {
            let incoming = match socket.accept() {
                Ok(incoming) if Arc::strong_count(&open) <= MOST => incoming,
                Ok(incoming) => {
                    tracing::warn!(partner.id = %incoming.partner, "too many links; this one is closed");
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "a link did not come to be");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let (engine, place) = (Arc::clone(&engine), Arc::clone(&open));
            let thread = std::thread::Builder::new().name("link".to_owned()).spawn(move || {
                engine.serve_link(&incoming.partner, incoming.address, &incoming.input, &incoming.output);
                drop((incoming.bringer, place));
            });
            if let Err(error) = thread {
                tracing::error!(%error, "a link could not be served");
            }
        }
    };
    std::thread::Builder::new().name("links".to_owned()).spawn(serve)?;
    Ok(())
}

/// The certificate as it is on disk now; a self-signed one is made or renewed first, when needed.
async fn load(files: &tls::Files, engine: &Arc<Engine>) -> Outcome<Arc<rustls::ServerConfig>> {
    let (files, engine) = (files.clone(), Arc::clone(engine));
    Ok(tokio::task::spawn_blocking(move || files.load(|| subject(&engine))).await??)
}

/// Names and addresses of this appliance. What can't be found out is left out: a certificate is needed all the same.
fn subject(engine: &Engine) -> tls::Subject {
    let mut subject = tls::Subject::default();
    match engine.system() {
        Ok(info) => (subject.hostname, subject.fqdn) = (info.hostname, info.fqdn),
        Err(error) => tracing::warn!(%error, "the certificate is made without host names"),
    }
    match engine.networks() {
        Ok(networks) => {
            for link in networks.into_iter().map(|network| network.interface) {
                subject.addresses.extend(link.ip4_addrs.into_iter().map(std::net::IpAddr::from));
                subject.addresses.extend(link.ip6_addrs.into_iter().map(std::net::IpAddr::from));
            }
        }
        Err(error) => tracing::warn!(%error, "the certificate is made without addresses"),
    }
    subject
}

/// Reads the certificate again on request. Connections go on with the one they began with.
async fn reload(files: &tls::Files, engine: &Arc<Engine>, tls: &RustlsConfig) {
    supervision::reloading();
    match load(files, engine).await {
        Ok(config) => {
            tls.reload_from_config(config);
            supervision::ready();
        }
        Err(error) => {
            tracing::error!(%error, "reload failed; the old certificate stays");
            supervision::reload_failed(&error.to_string());
        }
    }
}

/// Once a day: a self-signed certificate that ends soon is made anew.
async fn renew(files: &tls::Files, engine: &Arc<Engine>, tls: &RustlsConfig) {
    match load(files, engine).await {
        Ok(config) => tls.reload_from_config(config),
        Err(error) => tracing::error!(%error, "the certificate cannot be checked; the old one stays"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_of_rustls_are_logged_when_they_are_wanted() {
        let directives = |wanted: &str| {
            let filter = log_filter(wanted).unwrap().to_string();
            filter.split(',').map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(directives("info"), ["info", "rustls=error"].map(str::to_owned).into());
        assert_eq!(directives("vsnap=debug,rustls=warn"), ["rustls=warn", "vsnap=debug"].map(str::to_owned).into());
        assert!(log_filter("vsnap=loud").is_err());
    }
}
