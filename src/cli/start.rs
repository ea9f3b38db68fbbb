//! What a gateway needs before it serves anybody: its store, its certificate, its users, its addresses. Whatever can fail
//! fails here, before the first connection is taken.

use super::service::log_open_report;
use crate::admin::{AdminSocket, Ports, log_reload};
use crate::config::Settings;
use crate::directory::Directory;
use crate::net::listen::{self, BindError, Listener};
use crate::net::private_file::{self, Exposed, Secret};
use crate::net::tls::{TlsError, TlsIdentity};
use crate::store::{Embedded, OpenReport, Options, StoreError};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Largest messages that must still fit on the disk for mail to be taken.
const RESERVE_MESSAGES: u64 = 2;
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
    /// Others can get at these secrets.
    Exposed(Vec<Exposed>),
    /// A task ended in a panic; the log says where.
    Panicked,
}

impl StartError {
    /// 2 when the configuration is at fault, else 3. What could not be read may be readable again by itself, so it is no
    /// such fault: a service manager must go on trying.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Tls(TlsError::File { .. }) => 3,
            StartError::Tls(_) | StartError::Exposed(_) => 2,
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
            StartError::Exposed(secrets) => {
                let told: Vec<String> = secrets.iter().map(ToString::to_string).collect();
                f.write_str(&told.join("; "))
            }
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

/// Everything bound and nothing served yet.
pub(super) struct Bound {
    pub(super) smtp: Vec<Listener>,
    pub(super) pop3: Vec<Listener>,
    pub(super) pop3s: Vec<Listener>,
    pub(super) imap: Vec<Listener>,
    pub(super) imaps: Vec<Listener>,
    pub(super) http: Vec<Listener>,
    pub(super) admin: AdminSocket,
    pub(super) ports: Ports,
}

/// Refuses to start on secrets that others can get at. The `[tls]` key is looked at whenever it is read.
pub(super) fn check_secrets(settings: &Settings) -> Result<(), StartError> {
    let mut own = vec![settings.data_dir.join("keys")];
    // Folders are read while the list of them grows: keys/, and one for each gateway mailbox.
    let mut next = 0;
    while let Some(entries) = own.get(next).map(std::fs::read_dir) {
        own.extend(entries.into_iter().flatten().flatten().map(|entry| entry.path()));
        next += 1;
    }
    let [_, key] = TlsIdentity::self_signed_files(&settings.data_dir);
    own.push(key);
    let login = settings.alerts.mail.as_ref().and_then(|mail| mail.login.as_ref());
    let files = settings.lent_files();
    let lent =
        login.map(|login| login.password_file.as_path()).into_iter().chain(files.secrets).chain(files.keys);
    let lent = lent.map(|path| private_file::check(path, Secret::Lent));
    let looked = own.iter().map(|path| private_file::check(path, Secret::Own)).chain(lent);
    let exposed: Vec<Exposed> = looked.filter_map(Result::err).take(EXPOSED_TOLD_MAX).collect();
    if exposed.is_empty() { Ok(()) } else { Err(StartError::Exposed(exposed)) }
}

/// Secrets told of at once: a folder that was copied without its rights holds any number of them.
const EXPOSED_TOLD_MAX: usize = 10;

/// How long the start waits for a store that another process has open.
const STORE_LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const STORE_LOCK_RETRY: Duration = Duration::from_millis(100);

pub(super) async fn open_store(settings: &Settings) -> Result<Embedded, StartError> {
    let deadline = Instant::now() + STORE_LOCK_WAIT;
    loop {
        let wanted = settings.clone();
        let opened = tokio::task::spawn_blocking(move || open_with(&wanted)).await;
        match opened.map_err(|_| StartError::Panicked)? {
            Ok((store, report)) => {
                log_open_report(&report);
                store.set_ballast(settings.store.ballast_bytes);
                store.set_scrub(settings.store.scrub_bytes_per_second);
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

/// Opens the store of these settings.
pub(super) fn open_with(settings: &Settings) -> Result<(Embedded, OpenReport), StoreError> {
    let (store, report) =
        Embedded::open_witnessed(&store_options(settings), settings.store.checkpoint_dir.clone())?;
    store.set_escrow(settings.keys.escrow.clone());
    Ok((store, report))
}

/// How the store of these settings is opened.
pub(super) fn store_options(settings: &Settings) -> Options {
    Options { data_dir: settings.data_dir.clone(), reserve_octets: reserve_octets(settings) }
}

/// What must stay free for mail to be taken.
pub(super) fn reserve_octets(settings: &Settings) -> u64 {
    settings.smtp.max_message_bytes.saturating_mul(RESERVE_MESSAGES)
}

pub(super) fn identity(settings: &Settings) -> Result<TlsIdentity, StartError> {
    let identity = pair(settings)?;
    identity.trust(settings.exchange.ca_file.as_deref()).map_err(StartError::Tls)?;
    Ok(identity)
}

fn pair(settings: &Settings) -> Result<TlsIdentity, StartError> {
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

pub(super) async fn open_directory(settings: &Settings) -> Result<Directory, StartError> {
    let (sources, data_dir) = (settings.directories.clone(), settings.data_dir.clone());
    let opened = tokio::task::spawn_blocking(move || Directory::open_kept(&sources, &data_dir)).await;
    let (directory, report) = opened.map_err(|_| StartError::Panicked)?;
    log_reload(&report, true);
    Ok(directory)
}

pub(super) async fn bind(settings: &Settings) -> Result<Bound, StartError> {
    let data_dir = |error| StartError::DataDir(settings.data_dir.clone(), error);
    // One that a crash left names ports that may be somebody else's by now.
    Ports::remove(&settings.data_dir).map_err(data_dir)?;
    let smtp = listeners("smtp", &settings.smtp.listen).await?;
    let pop3 = listeners("pop3", &settings.pop3.listen).await?;
    let pop3s = listeners("pop3s", &settings.pop3.listen_tls).await?;
    let wanted = settings.imap_listen();
    let imap = imap_listeners("imap", &wanted.listen, settings).await?;
    let imaps = imap_listeners("imaps", &wanted.listen_tls, settings).await?;
    let http = http_listeners(settings).await?;
    let first = |listeners: &[Listener]| listeners.first().map(Listener::address);
    let ports = Ports {
        smtp: first(&smtp),
        pop3: first(&pop3),
        pop3s: first(&pop3s),
        imap: first(&imap),
        imaps: first(&imaps),
        http: first(&http),
    };
    let admin = AdminSocket::bind(&settings.data_dir).map_err(data_dir)?;
    ports.write(&settings.data_dir).map_err(data_dir)?;
    Ok(Bound { smtp, pop3, pop3s, imap, imaps, http, admin, ports })
}

async fn listeners(service: &'static str, addresses: &[SocketAddr]) -> Result<Vec<Listener>, StartError> {
    let listeners = listen::bind(addresses).await.map_err(|error| StartError::Bind(service, error))?;
    for listener in &listeners {
        tracing::info!(event = "listening", service, addr = %listener.address());
    }
    Ok(listeners)
}

/// Nobody asked for the default, which another server may have: one that served POP3 before must go on when it is renewed.
async fn imap_listeners(
    service: &'static str,
    addresses: &[SocketAddr],
    settings: &Settings,
) -> Result<Vec<Listener>, StartError> {
    match listeners(service, addresses).await {
        Err(error) if settings.imap.is_none() => {
            tracing::warn!(event = "fetch.unavailable", service, %error);
            Ok(Vec::new())
        }
        bound => bound,
    }
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
