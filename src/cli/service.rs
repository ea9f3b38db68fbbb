//! The gateway as one thing that starts and stops: every room put together, in this process.
//!
//! ```text
//! start: store ─▶ TLS ─▶ directory ─▶ bind smtp, pop3, pop3s, http, admin.sock ─▶ ports.json ─▶ serve
//! stop:  drain smtp, pop3, pop3s ─▶ http, admin.sock and ports.json go ─▶ store closes
//! ```
//! Invariants:
//! - Whatever can fail has been tried before the first connection is taken.
//! - `ports.json` appears when everything in it answers, and `admin.sock` does too; both go before the store closes.
//! - The store is closed in every ending, so that the next start finds it clean.

use super::notify::Notify;
use super::signals::Signals;
use super::vitals::Vitals;
use crate::admin::watch::Watch;
use crate::admin::{self, AdminSocket, Context, PORTS_FILE, Ports, Serving};
use crate::config::{DirectorySource, Settings};
use crate::directory::{Directory, ReloadReport};
use crate::fetch::pop3::server::{Pop3, Waits};
use crate::fetch::stored::StoredMaildrops;
use crate::mail::Untrusted;
use crate::net::drain::Drain;
use crate::net::listen::{self, BindError, ConnectionCap, Listener};
use crate::net::tls::{TlsError, TlsIdentity};
use crate::observe::{Visits, metrics, now};
use crate::pipeline::Pipeline;
use crate::smtp;
use crate::store::{Embedded, OpenReport, Options, Store, StoreError};
use rustls::pki_types::CertificateDer;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{AbortHandle, JoinSet};

/// POP3 connections open at once, over all its ports.
const POP3_CONNECTIONS_MAX: usize = 256;
/// How long POP3 connections may go on once the server ends: a message being fetched may be finished.
const POP3_DRAIN_WAIT: Duration = Duration::from_secs(30);
/// How often the files of the directory are looked at.
const DIRECTORY_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Largest messages that must still fit on the disk for mail to be taken.
const RESERVE_MESSAGES: u64 = 2;
/// Conflicts logged of one source; the rest is counted.
const CONFLICTS_LOGGED_MAX: usize = 20;

/// Why the gateway did not start. Nothing is left running.
#[derive(Debug)]
pub enum StartError {
    /// The store cannot be opened.
    Store(PathBuf, StoreError),
    /// The certificate cannot be used. The operator's to mend.
    Tls(TlsError),
    /// An address cannot be listened on.
    Bind(&'static str, BindError),
    /// `data_dir` cannot be written to.
    DataDir(PathBuf, io::Error),
    /// A task ended in a panic; the log says where.
    Panicked,
}

impl StartError {
    /// 2 when the configuration is at fault, else 3.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Tls(_) => 2,
            StartError::Store(..) | StartError::Bind(..) | StartError::DataDir(..) | StartError::Panicked => {
                3
            }
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(data_dir, StoreError::Locked) => {
                write!(f, "data_dir {} is in use by another daybook process", data_dir.display())
            }
            StartError::Store(data_dir, error) => {
                write!(f, "open the store in {}: {error}", data_dir.display())
            }
            StartError::Tls(error) => chain(f, error),
            StartError::Bind(service, error) => {
                write!(f, "{service}: ")?;
                chain(f, error)
            }
            StartError::DataDir(data_dir, error) => write!(f, "write to {}: {error}", data_dir.display()),
            StartError::Panicked => f.write_str("a task failed while starting"),
        }
    }
}

fn chain(f: &mut fmt::Formatter<'_>, error: &dyn Error) -> fmt::Result {
    write!(f, "{error}")?;
    match error.source() {
        Some(cause) => {
            f.write_str(": ")?;
            chain(f, cause)
        }
        None => Ok(()),
    }
}

impl Error for StartError {}

/// Starts gateways.
#[derive(Debug)]
pub struct Daybook;

/// A gateway at work. Dropped without [`Running::stop`] it ends as in a crash: at once, and losing nothing.
pub struct Running {
    /// Where it listens: the first address of each service.
    pub ports: Ports,
    /// What it stores into.
    pub store: Arc<dyn Store>,
    /// Who the users are.
    pub directory: Arc<Directory>,
    /// The configuration in force.
    pub settings: Arc<Settings>,
    embedded: Arc<Embedded>,
    visits: Visits,
    alarms: Arc<Watch>,
    tls: Arc<TlsIdentity>,
    drain: Drain,
    services: JoinSet<()>,
    /// Those of them without which there is no mail.
    vital: Vec<(&'static str, AbortHandle)>,
    admin_drain: Drain,
    admin: JoinSet<()>,
}

/// Everything bound and nothing served yet.
struct Bound {
    smtp: Vec<Listener>,
    pop3: Vec<Listener>,
    pop3s: Vec<Listener>,
    http: Vec<Listener>,
    admin: AdminSocket,
    ports: Ports,
}

impl Daybook {
    /// Starts a gateway with these settings. Logging is the caller's affair.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then, and the store is closed.
    pub async fn start(settings: Settings) -> Result<Running, StartError> {
        metrics::begin();
        let settings = Arc::new(settings);
        let embedded = Arc::new(open_store(&settings).await?);
        let started = start_on(Arc::clone(&embedded), settings).await;
        if started.is_err() {
            embedded.close().await;
        }
        started
    }
}

/// How long the start waits for a store that another process has open.
const STORE_LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const STORE_LOCK_RETRY: Duration = Duration::from_millis(100);

async fn open_store(settings: &Settings) -> Result<Embedded, StartError> {
    let deadline = Instant::now() + STORE_LOCK_WAIT;
    loop {
        let options = store_options(settings);
        let opened = tokio::task::spawn_blocking(move || Embedded::open(&options)).await;
        match opened.map_err(|_| StartError::Panicked)? {
            Ok((store, report)) => {
                log_open_report(&report);
                return Ok(store);
            }
            // A command that works without a server holds the store for a moment: a restart must not fail on it.
            Err(StoreError::Locked) if Instant::now() < deadline => {
                tokio::time::sleep(STORE_LOCK_RETRY).await
            }
            Err(error) => return Err(StartError::Store(settings.data_dir.clone(), error)),
        }
    }
}

/// How the store of these settings is opened.
pub(super) fn store_options(settings: &Settings) -> Options {
    let reserve_octets = settings.smtp.max_message_bytes.saturating_mul(RESERVE_MESSAGES);
    Options { data_dir: settings.data_dir.clone(), reserve_octets }
}

async fn start_on(embedded: Arc<Embedded>, settings: Arc<Settings>) -> Result<Running, StartError> {
    let tls = Arc::new(identity(&settings)?);
    let directory = Arc::new(open_directory(settings.directories.clone()).await?);
    let bound = bind(&settings).await?;

    let store: Arc<dyn Store> = Arc::clone(&embedded) as Arc<dyn Store>;
    let drain = Drain::new();
    let mut services = JoinSet::new();
    let visits = Visits::default();
    let receiver = Pipeline::new(Arc::clone(&store), Arc::clone(&directory));
    let smtp = services.spawn(smtp::server::serve(
        bound.smtp,
        Arc::new(smtp_settings(&settings)),
        Some(Arc::clone(&tls)),
        receiver,
        drain.clone(),
    ));
    let mut vital = vec![("smtp", smtp)];
    let maildrops = StoredMaildrops::new(Arc::clone(&store), visits.clone());
    let pop3 = Arc::new(Pop3::new(maildrops, tls.server_config(), drain.clone(), Waits::default()));
    for (name, listeners, port) in
        [("pop3", bound.pop3, pop3.plain()), ("pop3s", bound.pop3s, pop3.implicit_tls())]
    {
        let turned_off = listeners.is_empty();
        let task = services.spawn(listen::serve(
            listeners,
            port,
            ConnectionCap::new(POP3_CONNECTIONS_MAX),
            drain.clone(),
            POP3_DRAIN_WAIT,
        ));
        if !turned_off {
            vital.push((name, task));
        }
    }
    services.spawn(watch(Arc::clone(&directory), drain.clone()));

    let context = Context {
        store: Arc::clone(&store),
        directory: Arc::clone(&directory),
        settings: Arc::clone(&settings),
        ports: Some(bound.ports.clone()),
        serving: Serving { tls: Some(Arc::clone(&tls)), drain: drain.clone(), services: vital.clone() },
        visits: visits.clone(),
        watch: None,
    };
    let (watched, identity) = (context.clone(), Arc::clone(&tls));
    let taken_up = tokio::task::spawn_blocking(move || Watch::new(watched, identity, now())).await;
    let alarms = Arc::new(taken_up.map_err(|_| StartError::Panicked)?);
    let (watching, until) = (Arc::clone(&alarms), drain.clone());
    services.spawn(async move { watching.run(until).await });
    let mut running = Running {
        ports: bound.ports,
        store,
        directory,
        settings,
        embedded,
        visits,
        alarms,
        tls,
        drain,
        services,
        vital,
        admin_drain: Drain::new(),
        admin: JoinSet::new(),
    };
    let (context, admin_drain) = (running.context(), running.admin_drain.clone());
    running.admin.spawn(admin::http::serve(bound.http, context.clone(), admin_drain.clone()));
    running.admin.spawn(bound.admin.serve(context, admin_drain));
    Ok(running)
}

fn identity(settings: &Settings) -> Result<TlsIdentity, StartError> {
    match &settings.tls {
        Some(files) => TlsIdentity::load(&files.certificate, &files.private_key).map_err(StartError::Tls),
        None => {
            let made =
                TlsIdentity::self_signed(&settings.data_dir, &settings.hostname).map_err(StartError::Tls)?;
            tracing::warn!(
                event = "tls.self_signed",
                hostname = settings.hostname,
                advice = "peers that check certificates will refuse it: configure [tls]",
            );
            Ok(made)
        }
    }
}

fn smtp_settings(settings: &Settings) -> smtp::server::Settings {
    smtp::server::Settings {
        message_octets_max: settings.smtp.max_message_bytes,
        require_tls: settings.smtp.require_tls,
        ..smtp::server::Settings::new(&settings.hostname)
    }
}

async fn open_directory(sources: Vec<DirectorySource>) -> Result<Directory, StartError> {
    let opened = tokio::task::spawn_blocking(move || Directory::open(&sources)).await;
    let (directory, report) = opened.map_err(|_| StartError::Panicked)?;
    log_directory(&report, true);
    Ok(directory)
}

async fn bind(settings: &Settings) -> Result<Bound, StartError> {
    let data_dir = |error| StartError::DataDir(settings.data_dir.clone(), error);
    // One that a crash left names ports that may be somebody else's by now.
    Ports::remove(&settings.data_dir).map_err(data_dir)?;
    let smtp = listeners("smtp", &settings.smtp.listen).await?;
    let pop3 = listeners("pop3", &settings.pop3.listen).await?;
    let pop3s = listeners("pop3s", &settings.pop3.listen_tls).await?;
    let http = http_listeners(settings).await?;
    let first = |listeners: &[Listener]| listeners.first().map(Listener::address);
    let ports = Ports { smtp: first(&smtp), pop3: first(&pop3), pop3s: first(&pop3s), http: first(&http) };
    let admin = AdminSocket::bind(&settings.data_dir).map_err(data_dir)?;
    ports.write(&settings.data_dir).map_err(data_dir)?;
    Ok(Bound { smtp, pop3, pop3s, http, admin, ports })
}

async fn listeners(service: &'static str, addresses: &[SocketAddr]) -> Result<Vec<Listener>, StartError> {
    let listeners = listen::bind(addresses).await.map_err(|error| StartError::Bind(service, error))?;
    for listener in &listeners {
        tracing::info!(event = "listening", service, addr = %listener.address());
    }
    Ok(listeners)
}

/// Nobody asked for the default: monitoring that cannot be had must not keep mail from being taken.
async fn http_listeners(settings: &Settings) -> Result<Vec<Listener>, StartError> {
    let addresses: Vec<SocketAddr> = settings.http_listen().into_iter().collect();
    match listeners("http", &addresses).await {
        Err(error) if settings.http.is_none() => {
            tracing::warn!(event = "http.unavailable", %error);
            Ok(Vec::new())
        }
        bound => bound,
    }
}

/// Puts changes of the directory's files in force as they come.
async fn watch(directory: Arc<Directory>, drain: Drain) {
    loop {
        tokio::select! {
            () = drain.started() => return,
            () = tokio::time::sleep(DIRECTORY_LOOK_INTERVAL) => {}
        }
        let directory = Arc::clone(&directory);
        let looked = tokio::task::spawn_blocking(move || directory.changed().then(|| directory.reload()));
        if let Ok(Some(report)) = looked.await {
            log_directory(&report, false);
        }
    }
}

impl Running {
    /// Opens the log file anew and reads the directory's files and the certificate again; what is bad stays as it was, and
    /// the log says so.
    pub async fn reload(&self) {
        // May wait for the log's thread. When it failed, the others are read all the same.
        tokio::task::spawn_blocking(crate::observe::reopen).await.ok();
        let (directory, tls) = (Arc::clone(&self.directory), Arc::clone(&self.tls));
        let reloaded = tokio::task::spawn_blocking(move || (directory.reload(), tls.reload())).await;
        let Ok((report, tls)) = reloaded else { return };
        log_directory(&report, false);
        match tls {
            Ok(()) => tracing::info!(event = "tls.reloaded"),
            Err(error) => {
                let error = StartError::Tls(error);
                tracing::error!(event = "tls.kept", %error);
            }
        }
    }

    /// Resolves when the process is told to end by SIGTERM or SIGINT; reloads at each SIGHUP until then. Without signals,
    /// at once.
    pub async fn run_until_told(&self) {
        match Signals::new() {
            Ok(mut signals) => {
                signals.end_of(self, &Notify::nobody()).await;
            }
            Err(error) => tracing::error!(event = "service.failed", %error),
        }
    }

    /// The certificate shown to peers now.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.tls.certificate()
    }

    /// What it cannot do without.
    pub(super) fn vitals(&self) -> Vitals {
        Vitals::new(self.ports.clone(), Arc::downgrade(&self.embedded), self.vital.clone())
    }

    /// What operations on this gateway work on.
    pub fn context(&self) -> Context {
        Context {
            store: Arc::clone(&self.store),
            directory: Arc::clone(&self.directory),
            settings: Arc::clone(&self.settings),
            ports: Some(self.ports.clone()),
            serving: Serving {
                tls: Some(Arc::clone(&self.tls)),
                drain: self.drain.clone(),
                services: self.vital.clone(),
            },
            visits: self.visits.clone(),
            watch: Some(Arc::clone(&self.alarms)),
        }
    }

    /// Takes no new connections, lets those that are open end, and closes the store.
    pub async fn stop(mut self) {
        self.drain.start();
        while self.services.join_next().await.is_some() {}
        if let Err(error) = Ports::remove(&self.settings.data_dir) {
            tracing::warn!(event = "service.file_left", file = PORTS_FILE, %error);
        }
        self.admin_drain.start();
        while self.admin.join_next().await.is_some() {}
        self.embedded.close().await;
    }
}

/// Logs what opening the store found.
pub(super) fn log_open_report(report: &OpenReport) {
    for what in &report.torn {
        tracing::warn!(event = "store.torn", what);
    }
    for what in &report.damage {
        tracing::error!(event = "store.damaged", what);
    }
    for what in &report.orphaned {
        tracing::warn!(event = "store.orphaned", what);
    }
    if let Some(reason) = &report.index_rebuilt {
        tracing::warn!(event = "store.index_rebuilt", reason);
    }
    if report.replayed_groups > 0 {
        tracing::info!(event = "store.replayed", groups = report.replayed_groups);
    }
}

/// Logs what reading the directory brought, source by source.
pub(super) fn log_directory(report: &ReloadReport, first: bool) {
    for source in &report.sources {
        let path = source.path.display();
        let (users, changed) = (source.users, source.changed);
        match &source.error {
            None if first => tracing::info!(event = "directory.loaded", %path, users),
            None => tracing::info!(event = "directory.reloaded", %path, users, changed),
            Some(reason) => tracing::error!(event = "directory.kept", %path, users, %reason),
        }
        for conflict in source.conflicts.iter().take(CONFLICTS_LOGGED_MAX) {
            tracing::warn!(event = "directory.conflict", %path, conflict = %Untrusted(&conflict.to_string()));
        }
        let unlogged = source.conflicts.len().saturating_sub(CONFLICTS_LOGGED_MAX);
        if unlogged > 0 {
            tracing::warn!(event = "directory.conflict", %path, unlogged);
        }
    }
}
