//! Has an operation done by whoever can: the running server, or else this process with the store opened here.

use super::output::Failure;
use super::service::log_directory;
use super::start::{open_with, store_options};
use crate::admin::{self, AskError, Context, ExportView, OpError, Request, Response, Serving};
use crate::config::{Live, Settings};
use crate::directory::Directory;
use crate::observe::{RefusedMail, Visits};
use crate::store::{Embedded, Store, StoreError};
use std::cell::Cell;
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
    let asked = request.clone();
    reach(
        settings,
        &request,
        |data_dir| admin::ask(data_dir, &request),
        move |context, actor, runtime| Ok(runtime.block_on(admin::perform(context, actor, asked))?),
    )
}

/// Has a message exported, by the server if there is one, and hands its octets to `take`.
pub(super) fn export<T>(
    settings: &Settings,
    request: &Request,
    take: impl FnOnce(&ExportView, &mut dyn Read) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Called once, by whoever opens the message.
    let take = Cell::new(Some(take));
    let hand = |view: &ExportView, reader: &mut dyn Read| match take.take() {
        Some(take) => take(view, reader),
        None => Err(Failure::from("the message was handed out before".to_owned())),
    };
    reach(
        settings,
        request,
        |data_dir| {
            let (view, mut reader) = admin::export(data_dir, request)?;
            Ok(hand(&view, &mut reader))
        },
        |context, actor, _| {
            let Request::ExportMessage { receipt_id, gateway_mailbox, key } = request else {
                return Err(Failure::from("nothing to export".to_owned()));
            };
            let mut export =
                admin::begin_export(context, actor, *receipt_id, gateway_mailbox.as_deref(), key)?;
            Ok(hand(&export.view, &mut export.reader))
        },
    )?
}

/// Has `request` done: `ask` asks the server in this `data_dir`; `here` does it with the store opened here, as this actor.
fn reach<T>(
    settings: &Settings,
    request: &Request,
    ask: impl Fn(&Path) -> Result<T, AskError>,
    here: impl FnOnce(&Context, &str, &Runtime) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + LOCKED_WAIT;
    loop {
        match ask(&settings.data_dir) {
            Ok(done) => return Ok(done),
            Err(AskError::Failed(error)) => return Err(error.into()),
            Err(error @ AskError::Broken(_)) => return Err(error.to_string().into()),
            Err(AskError::NobodyListens) => {}
        }
        check_owner(&settings.data_dir, request)?;
        match open_with(&store_options(settings), settings.keys.escrow.clone()) {
            Ok((store, report)) => {
                super::service::log_open_report(&report);
                return with_store(settings, store, here);
            }
            Err(StoreError::Locked) if Instant::now() < deadline => std::thread::sleep(LOCKED_RETRY),
            Err(error) => {
                return Err(Failure::from(format!("open {}: {error}", settings.data_dir.display())));
            }
        }
    }
}

/// Opening the store makes what is missing. That must not happen for a question, nor as another user than the server's:
/// what root makes here, the server could not open.
fn check_owner(data_dir: &Path, request: &Request) -> Result<(), Failure> {
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match request {
            Request::CreateGatewayMailbox { .. } => Ok(()),
            _ => {
                Err(Failure::from(format!("there is no {} yet: nothing was ever stored", data_dir.display())))
            }
        },
        Err(error) => Err(Failure::from(format!("open {}: {error}", data_dir.display()))),
    }
}

fn with_store<T>(
    settings: &Settings,
    store: Embedded,
    work: impl FnOnce(&Context, &str, &Runtime) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from(format!("start: {error}")))?;
    let (directory, report) = Directory::open(&settings.directories);
    log_directory(&report, true);
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
    };
    let actor = format!("cli, uid {}", rustix::process::geteuid().as_raw());
    let outcome = work(&context, &actor, &runtime);
    runtime.block_on(store.close());
    outcome
}
