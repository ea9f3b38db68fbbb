//! Has an operation done by whoever can: the running server, or else this process with the store opened here.

use super::output::Failure;
use super::start::open_with;
use crate::admin::{self, AskError, Context, ExportView, OpError, Request, Response, Serving};
use crate::config::{Live, Settings};
use crate::directory::Directory;
use crate::observe::{RefusedMail, Visits};
use crate::store::{Embedded, Store, StoreError};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long to go on when the store is in use, yet nobody listens: a server is starting or ending, or another command
/// is at work.
const LOCKED_WAIT: Duration = Duration::from_secs(5);
/// Pause between two tries.
const LOCKED_RETRY: Duration = Duration::from_millis(50);

/// Asks the server, and nobody else.
pub(super) fn ask_server(settings: &Settings, request: &Request) -> Result<Response, Failure> {
    admin::ask(&settings.data_dir, request).map_err(|error| {
        Failure::from(match error {
            AskError::Failed(error) => error,
            AskError::NobodyListens | AskError::Broken(_) => OpError::Unavailable(error.to_string()),
        })
    })
}

/// Asks the server if there is one, else does it here.
pub(super) fn perform(settings: &Settings, request: Request) -> Result<Response, Failure> {
    let mut answer = None;
    perform_each(settings, request, |response| {
        answer = Some(response);
        None
    })?;
    answer.ok_or_else(|| Failure::from("there is no answer".to_owned()))
}

/// The same for one request after the other, as `next` makes of each answer. The store is opened once.
pub(super) fn perform_each<N: FnMut(Response) -> Option<Request>>(
    settings: &Settings,
    request: Request,
    next: N,
) -> Result<(), Failure> {
    let opening = Opening::of(&request);
    let mut state = (Some(request), next);
    let ask = |data_dir: &Path, (request, next): &mut (Option<Request>, N)| {
        while let Some(asked) = request {
            *request = next(admin::ask(data_dir, asked)?);
        }
        Ok(())
    };
    reach(settings, opening, &mut state, ask, |context, actor, runtime, (request, next)| {
        while let Some(asked) = request.take() {
            *request = next(runtime.block_on(admin::perform(context, actor, asked))?);
        }
        Ok(())
    })
}

/// Has a message exported, by the server if there is one, and hands its octets to `take`.
pub(super) fn export<T, H: FnMut(&ExportView, &mut dyn Read) -> Result<T, Failure>>(
    settings: &Settings,
    request: &Request,
    mut take: H,
) -> Result<T, Failure> {
    let ask = |data_dir: &Path, take: &mut H| {
        let (view, mut octets) = admin::export(data_dir, request)?;
        Ok(take(&view, &mut octets))
    };
    reach(settings, Opening::default(), &mut take, ask, |context, actor, _, take| {
        let Request::ExportMessage { receipt_id, gateway_mailbox, key } = request else {
            return Err(Failure::from("nothing to export".to_owned()));
        };
        let mut export = admin::begin_export(context, actor, *receipt_id, gateway_mailbox.as_deref(), key)?;
        Ok(take(&export.view, &mut export.reader))
    })?
}

/// What is opened here when no server runs, and how.
#[derive(Clone, Copy, Default)]
struct Opening {
    /// There need be no store yet.
    makes: bool,
    /// Users are as they were left: whether what their sources say now comes in force is what is asked.
    keeps_users: bool,
}

impl Opening {
    fn of(request: &Request) -> Opening {
        Opening {
            makes: matches!(request, Request::CreateGatewayMailbox { .. }),
            keeps_users: matches!(
                request,
                Request::Examine
                    | Request::SyncUsers { .. }
                    | Request::ApplyPlan { .. }
                    | Request::ListPlans
                    | Request::ListSnapshots { .. }
                    | Request::RollBackUsers { .. }
            ),
        }
    }

    fn directory(self, settings: &Settings) -> Directory {
        if self.keeps_users {
            return Directory::open_unread(&settings.directories, &settings.data_dir);
        }
        let (directory, report) = Directory::open_kept(&settings.directories, &settings.data_dir);
        admin::log_reload(&report, true);
        directory
    }
}

/// Has something done: `ask` asks the server in this `data_dir`; `here` does it with the store opened here, as this actor. Both
/// work on `state`.
fn reach<S, T>(
    settings: &Settings,
    opening: Opening,
    state: &mut S,
    ask: impl Fn(&Path, &mut S) -> Result<T, AskError>,
    here: impl FnOnce(&Context, &str, &Runtime, &mut S) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + LOCKED_WAIT;
    loop {
        match ask(&settings.data_dir, state) {
            Ok(done) => return Ok(done),
            Err(AskError::Failed(error)) => return Err(error.into()),
            Err(error @ AskError::Broken(_)) => return Err(error.to_string().into()),
            Err(AskError::NobodyListens) => {}
        }
        check_owner(&settings.data_dir, opening.makes)?;
        match open_with(settings) {
            Ok((store, report)) => {
                super::service::log_open_report(&report);
                return with_store(settings, store, opening, |context, actor, runtime| {
                    here(context, actor, runtime, state)
                });
            }
            Err(StoreError::Locked) if Instant::now() < deadline => std::thread::sleep(LOCKED_RETRY),
            Err(error) => {
                return Err(Failure::from(format!("open {}: {error}", settings.data_dir.display())));
            }
        }
    }
}

/// Has `work` done, again and again while it does nothing because another process has the store open.
pub(super) fn until_unlocked<T>(
    settings: &Settings,
    mut work: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + LOCKED_WAIT;
    loop {
        match work()? {
            Some(done) => return Ok(done),
            None if Instant::now() < deadline => std::thread::sleep(LOCKED_RETRY),
            None => {
                let data_dir = settings.data_dir.display();
                return Err(Failure::from(format!("open {data_dir}: {}", StoreError::Locked)));
            }
        }
    }
}

/// Opening the store makes what is missing. That must not happen for a question, nor as another user than the server's:
/// what root makes here, the server could not open.
pub(super) fn check_owner(data_dir: &Path, makes: bool) -> Result<(), Failure> {
    match std::fs::metadata(data_dir) {
        Ok(metadata) => {
            let (owner, we) = (metadata.uid(), rustix::process::geteuid().as_raw());
            if owner == we {
                return Ok(());
            }
            Err(Failure::from(format!(
                "{} belongs to user {owner} and no server is running: run this as that user, or start the server",
                data_dir.display()
            )))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && makes => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Failure::from(format!("there is no {} yet: nothing was ever stored", data_dir.display())))
        }
        Err(error) => Err(Failure::from(format!("open {}: {error}", data_dir.display()))),
    }
}

/// Who does something here, as the log of the store has it.
pub(super) fn actor() -> String {
    format!("cli, uid {}", rustix::process::geteuid().as_raw())
}

fn with_store<T>(
    settings: &Settings,
    store: Embedded,
    opening: Opening,
    work: impl FnOnce(&Context, &str, &Runtime) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from(format!("start: {error}")))?;
    let directory = opening.directory(settings);
    let store = Arc::new(store);
    let context = Context {
        store: Arc::clone(&store) as Arc<dyn Store>,
        directory: Arc::new(directory),
        settings: Live::new(settings.clone()),
        ports: None,
        serving: Serving::default(),
        visits: Visits::default(),
        refused_mail: RefusedMail::default(),
        watch: None,
        pullers: None,
    };
    let outcome = work(&context, &actor(), &runtime);
    runtime.block_on(store.close());
    outcome
}
