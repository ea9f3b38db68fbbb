//! States as metrics, asked for when somebody scrapes: the store, the directory, the certificate, every gateway mailbox.
//!
//! How full a gateway mailbox is, and when mail last came, costs a look at each of its folders and at its last hour, so it is
//! asked at most every [`MAILBOXES_KEPT`], however many scrape. Everything else is cheap and always fresh. Meanings: the table in
//! [`metrics`](crate::observe::metrics).

use super::health::readiness;
use super::ops::{Context, blocking};
use super::request::OpError;
use super::watch::CredentialEnd;
use crate::directory::SourceStatus;
use crate::mail::{GatewayMailboxState, Timestamp};
use crate::observe::alarm::ALARMS;
use crate::observe::{metrics, now};
use crate::pull::PullerStatus;
use crate::store::{FolderName, FolderStatus};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long what was asked about gateway mailboxes is shown.
pub(super) const MAILBOXES_KEPT: Duration = Duration::from_secs(15);

/// A family whose series are told apart by two labels.
type Pairs = Family<[(&'static str, String); 2], Gauge>;

/// What was last asked about gateway mailboxes.
#[derive(Default)]
pub(super) struct Gauges {
    /// Held while asking: those who scrape meanwhile wait for that answer and do not ask again.
    mailboxes: Mutex<Option<(Instant, Arc<[MailboxState]>)>>,
}

/// One gateway mailbox.
#[derive(Debug, Default)]
struct MailboxState {
    id: String,
    name: String,
    is_active: bool,
    messages: u64,
    octets: u64,
    oldest: Option<Timestamp>,
    unfetched: Option<u64>,
    oldest_unfetched: Option<Timestamp>,
    quarantine: u64,
    unassigned: u64,
    last_report: Option<Timestamp>,
    last_fetch: Option<Timestamp>,
}

impl Gauges {
    /// Every state now. What cannot be found out is left out, and the log says so.
    pub(super) async fn read(&self, context: &Context) -> Registry {
        let mut registry = metrics::registry();
        let mailboxes = self.mailboxes(context).await;
        show_mailboxes(&mut registry, &mailboxes);
        let looked = blocking(context, |context| {
            let mut registry = registry;
            show_health(&mut registry, context);
            show_alarms(&mut registry, context);
            show_directory(&mut registry, context);
            show_pullers(&mut registry, context);
            show_credentials(&mut registry, context);
            Ok(registry)
        });
        match looked.await {
            Ok(registry) => registry,
            Err(error) => {
                log_failure(&error);
                metrics::registry()
            }
        }
    }

    async fn mailboxes(&self, context: &Context) -> Arc<[MailboxState]> {
        let mut kept = self.mailboxes.lock().await;
        if let Some((asked, states)) = &*kept
            && asked.elapsed() < MAILBOXES_KEPT
        {
            return Arc::clone(states);
        }
        let asked = blocking(context, ask_mailboxes).await;
        let states: Arc<[MailboxState]> = match asked {
            Ok(states) => states.into(),
            Err(error) => {
                log_failure(&error);
                Arc::default()
            }
        };
        *kept = Some((Instant::now(), Arc::clone(&states)));
        states
    }
}

fn log_failure(error: &OpError) {
    tracing::warn!(event = "metrics.incomplete", %error);
}

fn ask_mailboxes(context: &Context) -> Result<Vec<MailboxState>, OpError> {
    let mut states = Vec::new();
    for gateway_mailbox in context.store.gateway_mailboxes().iter().filter(|m| !m.is_self_test()) {
        let folders = context.store.folders(gateway_mailbox.id)?;
        let find = |name: &FolderName| folders.iter().find(|folder| folder.name == *name);
        let count = |name: &FolderName| find(name).map_or(0, |folder| folder.entries);
        let inbox: Option<&FolderStatus> = find(&FolderName::Inbox);
        let activity = context.store.activity(gateway_mailbox.id, now())?;
        let backlog = context.store.backlog(gateway_mailbox.id)?;
        // No rule asks when something last came to an NDR mailbox, nor whether somebody fetches there.
        let is_journal = gateway_mailbox.role.is_journal();
        states.push(MailboxState {
            id: gateway_mailbox.id.to_string(),
            name: gateway_mailbox.name.clone(),
            is_active: gateway_mailbox.state == GatewayMailboxState::Active,
            messages: count(&FolderName::Inbox),
            octets: inbox.map_or(0, |inbox| inbox.octets),
            oldest: inbox.and_then(|inbox| inbox.oldest).filter(|_| is_journal),
            unfetched: backlog.unfetched,
            oldest_unfetched: backlog.oldest_unfetched.filter(|_| is_journal),
            quarantine: count(&FolderName::Quarantine),
            unassigned: count(&FolderName::Unassigned),
            last_report: activity.last_received.filter(|_| is_journal),
            last_fetch: activity.last_fetched.max(context.visits.last(gateway_mailbox.id)),
        });
    }
    Ok(states)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Registers a family and fills it with what each of `items` has.
fn show<T>(
    registry: &mut Registry,
    (name, help): (&str, &str),
    items: &[T],
    labels: impl Fn(&T) -> [(&'static str, String); 2],
    value: impl Fn(&T) -> Option<i64>,
) {
    let family = Pairs::default();
    for item in items {
        if let Some(value) = value(item) {
            family.get_or_create(&labels(item)).set(value);
        }
    }
    registry.register(name, help, family);
}

fn show_one(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn show_mailboxes(registry: &mut Registry, states: &[MailboxState]) {
    let seconds = |at: Option<Timestamp>| at.map(Timestamp::unix_seconds);
    let mut add = |name, help, value: &dyn Fn(&MailboxState) -> Option<i64>| {
        let labels = |state: &MailboxState| [("mailbox", state.id.clone()), ("name", state.name.clone())];
        show(registry, (name, help), states, labels, value);
    };
    add("mailbox_active", "1 active, 0 suspended", &|m| Some(i64::from(m.is_active)));
    add("mailbox_messages", "Messages in INBOX", &|m| Some(whole(m.messages)));
    add("mailbox_bytes", "Stored size of the messages in INBOX", &|m| Some(whole(m.octets)));
    add("mailbox_oldest_timestamp_seconds", "When the oldest message in INBOX was received", &|m| {
        seconds(m.oldest)
    });
    add("mailbox_unfetched_messages", "Messages in INBOX that were not fetched", &|m| m.unfetched.map(whole));
    let help = "When the oldest message in INBOX that was not fetched was received";
    add("mailbox_oldest_unfetched_timestamp_seconds", help, &|m| seconds(m.oldest_unfetched));
    add("mailbox_quarantine_messages", "Messages in Quarantine", &|m| Some(whole(m.quarantine)));
    add("mailbox_unassigned_messages", "Messages in Unassigned", &|m| Some(whole(m.unassigned)));
    add("last_report_timestamp_seconds", "When a message last came", &|m| seconds(m.last_report));
    add("last_fetch_timestamp_seconds", "When a client last logged in, fetched or deleted", &|m| {
        seconds(m.last_fetch)
    });
}

fn show_health(registry: &mut Registry, context: &Context) {
    let ready = readiness(context).is_ok_and(|readiness| readiness.ready);
    show_one(registry, "ready", "Whether mail would be taken now", i64::from(ready));
    let store_ready = i64::from(context.store.ready().is_ok());
    show_one(registry, "store_ready", "Whether the store takes mail", store_ready);
    match context.store.space() {
        Ok(space) => {
            let (free, reserve) = (whole(space.free_octets), whole(space.reserve_octets));
            show_one(registry, "store_free_bytes", "Free on the file system of data_dir", free);
            show_one(registry, "store_reserve_bytes", "With less free no mail is taken", reserve);
        }
        Err(error) => log_failure(&error.into()),
    }
    if let Some(newest) = context.store.checkpoints().newest {
        let help = "When the newest signed checkpoint was made";
        show_one(registry, "store_last_checkpoint_timestamp_seconds", help, newest.at.unix_seconds());
    }
    show_scrub(registry, context);
    show_retention(registry, context);
    if let Some(ends) = context.serving.tls.as_ref().and_then(|tls| tls.not_after()) {
        let help = "When the certificate shown to peers ends";
        show_one(registry, "tls_cert_expiry_timestamp_seconds", help, ends.unix_seconds());
    }
    if let Some(tls) = &context.serving.tls {
        let help = "Whether certificate and key in their files are what is shown to peers";
        show_one(registry, "tls_cert_files_good", help, i64::from(tls.fault().is_none()));
    }
}

fn show_scrub(registry: &mut Registry, context: &Context) {
    let scrub = context.store.scrub();
    show_one(registry, "store_damaged", "Things found not to be what was stored", whole(scrub.damaged));
    let help = "How fast what is stored may be read again, 0 when it is not";
    show_one(registry, "scrub_limit_bytes_per_second", help, whole(scrub.bytes_per_second));
    if let Some(at) = scrub.read_until() {
        let help = "When all that is stored had last been read again, or when that first began";
        show_one(registry, "scrub_last_pass_timestamp_seconds", help, at.unix_seconds());
    }
}

fn show_retention(registry: &mut Registry, context: &Context) {
    let keeping = context.store.keeping();
    let help = "Whether the clock jumped ahead, so that nothing leaves";
    show_one(registry, "retention_paused", help, i64::from(keeping.paused.is_some()));
    if let Some(last) = keeping.last {
        let help = "When the last pass of retention ended";
        show_one(registry, "retention_last_pass_timestamp_seconds", help, last.ended_at.unix_seconds());
        let help = "Whether the last pass of retention failed";
        show_one(registry, "retention_last_pass_failed", help, i64::from(last.error.is_some()));
    }
}

/// Those that are not raised are shown too, as 0.
fn show_alarms(registry: &mut Registry, context: &Context) {
    let raised = context.watch.as_ref().map(|watch| watch.raised()).unwrap_or_default();
    let alarms = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    for alarm in ALARMS {
        let count = raised.iter().filter(|raised| raised.cause.name() == alarm).count();
        alarms.get_or_create(&[("alarm", alarm)]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("alarms", "Alarms that are raised, of each kind", alarms);
}

fn show_pullers(registry: &mut Registry, context: &Context) {
    let statuses = context.pullers.as_ref().map(|pullers| pullers.statuses()).unwrap_or_default();
    let mut add = |name, help, value: &dyn Fn(&PullerStatus) -> Option<i64>| {
        let protocol =
            |status: &PullerStatus| status.account.split(':').next().unwrap_or_default().to_owned();
        let labels =
            |status: &PullerStatus| [("puller", status.name.clone()), ("protocol", protocol(status))];
        show(registry, (name, help), &statuses, labels, value);
    };
    add("pull_good", "Whether the last visit did all it should", &|s| Some(i64::from(s.failures == 0)));
    add("pull_last_success_timestamp_seconds", "When a visit last did all it should", &|s| {
        Some(s.last_success.map_or(0, Timestamp::unix_seconds))
    });
    let help = "Messages that are too large and stay at the account";
    add("pull_left_messages", help, &|s| Some(whole(s.left)));
}

fn show_directory(registry: &mut Registry, context: &Context) {
    let sources = context.directory.sources();
    let mut add = |name, help, value: &dyn Fn(&SourceStatus) -> Option<i64>| {
        let labels = |source: &SourceStatus| [("source", source.name.clone()), ("kind", source.kind.clone())];
        show(registry, (name, help), &sources, labels, value);
    };
    let count = |number: usize| i64::try_from(number).ok();
    let is_good = |s: &SourceStatus| s.error.is_none() && s.last_try.is_some();
    let help = "Whether the source was read well at the last try";
    add("directory_good", help, &|s| Some(i64::from(is_good(s))));
    add("directory_users", "Users in force", &|s| count(s.users));
    let help = "Users who are gone, and whose addresses still lead to them";
    add("directory_gone_users", help, &|s| count(s.gone));
    let help = "Whether a change waits for an approval";
    add("directory_plan_waiting", help, &|s| Some(i64::from(s.pending.is_some())));
    let help = "Whether somebody went back to a former list, and what the source says waits";
    add("directory_held", help, &|s| Some(i64::from(s.held)));
    add("directory_last_success_timestamp_seconds", "When the source was last read well", &|s| {
        s.last_good.map(Timestamp::unix_seconds)
    });
    add("directory_last_try_timestamp_seconds", "When the source was last tried", &|s| {
        s.last_try.map(Timestamp::unix_seconds)
    });
}

/// Those whose end is known.
fn show_credentials(registry: &mut Registry, context: &Context) {
    let credentials = context.watch.as_ref().map(|watch| watch.credentials()).unwrap_or_default();
    let labels = |end: &CredentialEnd| [("name", end.name.clone()), ("used_by", end.used_by.clone())];
    let about =
        ("credential_expiry_timestamp_seconds", "When the credential of an application in Entra ID ends");
    show(registry, about, &credentials, labels, |end| end.ends.map(Timestamp::unix_seconds));
}
