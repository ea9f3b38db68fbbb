//! The gateway as one thing that starts and stops: every room put together, in this process.
//!
//! ```text
//! start: store ─▶ TLS ─▶ directory ─▶ bind smtp, pop3, pop3s, imap, imaps, http, admin.sock ─▶ ports.json ─▶ serve
//! stop:  drain smtp, pop3, pop3s, imap, imaps ─▶ http, admin.sock and ports.json go ─▶ store closes
//! ```
//! Invariants:
//! - Whatever can fail has been tried before the first connection is taken.
//! - `ports.json` appears when everything in it answers, and `admin.sock` does too; both go before the store closes.
//! - The store is closed in every ending, so that the next start finds it clean.

use super::limits;
use super::notify::Notify;
use super::renewal;
use super::signals::Signals;
use super::start::{StartError, bind, check_secrets, identity, open_directory, open_store};
use super::syncing;
use super::vitals::Vitals;
use crate::admin::watch::Watch;
use crate::admin::{self, Context, PORTS_FILE, Ports, Serving};
use crate::config::{Live, Settings};
use crate::directory::Directory;
use crate::fetch::auth::Logins;
use crate::fetch::door::Protocol;
use crate::fetch::imap::server::Imap;
use crate::fetch::pop3::server::Pop3;
use crate::fetch::stored::StoredMaildrops;
use crate::net::admission::{Admission, AdmissionPolicy};
use crate::net::drain::Drain;
use crate::net::listen::{self, Listener};
use crate::net::tls::TlsIdentity;
use crate::observe::{Visits, metrics, now};
use crate::pipeline::{InFlightLimits, Pipeline};
use crate::pull::{self, Pullers};
use crate::smtp;
use crate::store::{Embedded, OpenReport, Store};
use rustls::pki_types::CertificateDer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};

/// How long POP3 and IMAP connections may go on once the server ends: a message being fetched may be finished.
const FETCH_DRAIN_WAIT: Duration = Duration::from_secs(30);

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
    pub settings: Live,
    /// Where they are read from again.
    pub(super) config_file: Option<PathBuf>,
    pub(super) embedded: Arc<Embedded>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) smtp: smtp::server::LiveSettings,
    /// Who may be connected to SMTP.
    pub(super) admission: Admission,
    visits: Visits,
    /// Fetch from accounts elsewhere.
    pub(super) pullers: Arc<Pullers>,
    /// None until it has begun.
    pub(super) alarms: Option<Arc<Watch>>,
    pub(super) tls: Arc<TlsIdentity>,
    drain: Drain,
    services: JoinSet<()>,
    /// Those of them without which there is no mail.
    vital: Vec<(&'static str, AbortHandle)>,
    admin_drain: Drain,
    admin: JoinSet<()>,
}

impl Daybook {
    /// Starts a gateway with these settings. Logging is the caller's affair.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then, and the store is closed.
    pub async fn start(settings: Settings) -> Result<Running, StartError> {
        metrics::begin();
        check_secrets(&settings)?;
        let embedded = Arc::new(open_store(&settings).await?);
        let started = start_on(Arc::clone(&embedded), settings).await;
        if started.is_err() {
            embedded.close().await;
        }
        started
    }
}

async fn start_on(embedded: Arc<Embedded>, settings: Settings) -> Result<Running, StartError> {
    let tls = Arc::new(identity(&settings)?);
    let directory = Arc::new(open_directory(&settings).await?);
    let bound = bind(&settings).await?;
    let store = Arc::clone(&embedded) as Arc<dyn Store>;
    let pipeline = Pipeline::new(Arc::clone(&store), Arc::clone(&directory), &settings.exchange);
    pipeline.replace_assign(&settings.assign, &settings.domains);
    pipeline.limit_in_flight(in_flight_limits(&settings));
    let (live, drain) = (Live::new(settings), Drain::new());
    let settings = live.current();
    let receiver = Arc::clone(&pipeline) as Arc<dyn smtp::Receiver>;
    let pulling = pull::Gateway { store: Arc::clone(&store), receiver, settings: live.clone() };

    let mut running = Running {
        ports: bound.ports,
        store,
        directory,
        smtp: Arc::new(smtp_settings(&settings)).into(),
        admission: Admission::new(limits::smtp(&settings, limits::descriptors())),
        settings: live,
        config_file: None,
        embedded,
        visits: Visits::default(),
        pipeline,
        pullers: Pullers::new(pulling, drain.clone()),
        alarms: None,
        tls,
        drain,
        services: JoinSet::new(),
        vital: Vec::new(),
        admin_drain: Drain::new(),
        admin: JoinSet::new(),
    };
    running.raise_alarms().await?;
    limits::warn_of_few_descriptors(&running.settings.current(), limits::descriptors());
    // No waiting from here on: whoever is told to end while starting ends at once, and must not leave connections behind.
    running.serve_smtp(bound.smtp);
    running.serve_fetch([bound.pop3, bound.pop3s], [bound.imap, bound.imaps]);
    running.services.spawn(syncing::watch(Arc::clone(&running.directory), running.drain.clone()));
    running.services.spawn(renewal::watch(Arc::clone(&running.tls), running.drain.clone()));
    running.services.spawn(admin::show_waiting(running.context()));
    running.pullers.configure(&settings.pullers);
    running.services.spawn(Arc::clone(&running.pullers).serve());
    let (context, admin_drain) = (running.context(), running.admin_drain.clone());
    running.admin.spawn(admin::http::serve(bound.http, context.clone(), admin_drain.clone()));
    running.admin.spawn(bound.admin.serve(context, admin_drain));
    Ok(running)
}

pub(super) fn smtp_settings(settings: &Settings) -> smtp::server::Settings {
    let limits = &settings.smtp;
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    smtp::server::Settings {
        hostname: settings.hostname.clone(),
        message_octets_max: limits.max_message_bytes,
        require_tls: limits.require_tls,
        recipients_max: count(limits.max_recipients),
        errors_max: u32::try_from(limits.max_errors).unwrap_or(u32::MAX),
        messages_max: limits.max_messages,
        tarpit_max: Duration::from_secs(limits.tarpit_seconds),
        timeouts: smtp::server::Timeouts {
            command: Duration::from_secs(limits.command_seconds),
            handshake: Duration::from_secs(limits.handshake_seconds),
            reply: Duration::from_secs(limits.reply_seconds),
            body: smtp::server::PaceLimits {
                idle: Duration::from_secs(limits.data_idle_seconds),
                grace: Duration::from_secs(limits.data_grace_seconds),
                octets_per_second_min: limits.min_data_bytes_per_second,
                total: Duration::from_secs(limits.max_data_seconds),
            },
            session: Duration::from_secs(limits.max_session_seconds),
            drain: Duration::from_secs(limits.drain_seconds),
        },
    }
}

pub(super) fn in_flight_limits(settings: &Settings) -> InFlightLimits {
    InFlightLimits {
        octets_max: settings.smtp.max_in_flight_bytes,
        message_octets_max: settings.smtp.max_message_bytes,
        wait: Duration::from_secs(settings.smtp.in_flight_seconds),
    }
}

impl Running {
    fn serve_smtp(&mut self, listeners: Vec<Listener>) {
        let task = self.services.spawn(smtp::server::serve(
            listeners,
            self.admission.clone(),
            self.smtp.clone(),
            Some(Arc::clone(&self.tls)),
            Arc::clone(&self.pipeline) as Arc<dyn smtp::Receiver>,
            self.drain.clone(),
        ));
        self.vital.push(("smtp", task));
    }

    /// Each protocol on its ports where TLS is asked for and on those where it begins at once.
    fn serve_fetch(&mut self, pop3: [Vec<Listener>; 2], imap: [Vec<Listener>; 2]) {
        let maildrops = StoredMaildrops::new(Arc::clone(&self.store), self.visits.clone());
        // One for all protocols, or each would have its own limits.
        let logins = Arc::new(Logins::new(maildrops));
        let (tls, drain) = (self.tls.server_config(), self.drain.clone());
        let server = Pop3::new(Arc::clone(&logins), Arc::clone(&tls), drain.clone(), Pop3::waits());
        self.serve_protocol(["pop3", "pop3s"], pop3, server, limits::pop3(limits::descriptors()));
        let server = Imap::new(logins, tls, drain, Imap::waits());
        self.serve_protocol(["imap", "imaps"], imap, server, limits::imap(limits::descriptors()));
    }

    fn serve_protocol<P: Protocol>(
        &mut self,
        names: [&'static str; 2],
        [plain, implicit_tls]: [Vec<Listener>; 2],
        server: P,
        policy: AdmissionPolicy,
    ) {
        // Both for all its ports.
        let (server, admission) = (Arc::new(server), Admission::new(policy));
        let ports = [(plain, server.plain()), (implicit_tls, server.implicit_tls())];
        for (name, (listeners, port)) in names.into_iter().zip(ports) {
            let turned_off = listeners.is_empty();
            let serving =
                listen::serve(listeners, port, admission.clone(), self.drain.clone(), || FETCH_DRAIN_WAIT);
            let task = self.services.spawn(serving);
            if !turned_off {
                self.vital.push((name, task));
            }
        }
    }

    /// Begins to watch over the gateway.
    async fn raise_alarms(&mut self) -> Result<(), StartError> {
        let (watched, identity) = (self.context(), Arc::clone(&self.tls));
        let taken_up = tokio::task::spawn_blocking(move || Watch::new(watched, identity, now())).await;
        let alarms = Arc::new(taken_up.map_err(|_| StartError::Panicked)?);
        let (watching, until) = (Arc::clone(&alarms), self.drain.clone());
        self.services.spawn(async move { watching.run(until).await });
        self.alarms = Some(alarms);
        Ok(())
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

    /// Has the configuration read from `file` at each reload; else it stays as it is.
    pub fn reading(self, file: PathBuf) -> Running {
        Running { config_file: Some(file), ..self }
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
            settings: self.settings.clone(),
            ports: Some(self.ports.clone()),
            serving: Serving {
                tls: Some(Arc::clone(&self.tls)),
                drain: self.drain.clone(),
                services: self.vital.clone(),
            },
            visits: self.visits.clone(),
            refused_mail: self.pipeline.refused_mail(),
            watch: self.alarms.clone(),
            pullers: Some(Arc::clone(&self.pullers)),
        }
    }

    /// How long open connections may go on once the end has begun.
    pub(super) fn drain_wait(&self) -> Duration {
        smtp_settings(&self.settings.current()).timeouts.drain.max(FETCH_DRAIN_WAIT)
    }

    /// Takes no new connections, lets those that are open end, and closes the store.
    pub async fn stop(mut self) {
        self.drain.start();
        while self.services.join_next().await.is_some() {}
        if let Err(error) = Ports::remove(&self.settings.current().data_dir) {
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
