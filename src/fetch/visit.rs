//! What the log says of a client that was logged in: one line, at its end.

use super::maildrop::{Client, FetchError};
use super::talk::End;
use crate::mail::{GatewayMailboxId, Untrusted};
use crate::observe::metrics;
use tokio::time::Instant;

/// Whose maildrop or folders a client has open, and since when.
pub(super) struct Visit {
    /// As the client gave it.
    pub(super) login: String,
    /// The user name of the gateway mailbox, whichever name the client gave.
    pub(super) mailbox: String,
    pub(super) mailbox_id: GatewayMailboxId,
    pub(super) since: Instant,
}

/// What it did. What a protocol does not know stays `None` and is not logged.
#[derive(Default)]
pub(super) struct Deeds<'a> {
    /// Messages it was shown.
    pub(super) listed: usize,
    /// Messages it fetched whole, as far as that is on record.
    pub(super) fetched: usize,
    /// Octets of messages given to the connection.
    pub(super) octets: u64,
    /// Messages it took out.
    pub(super) deleted: usize,
    /// How often it opened a folder.
    pub(super) folders: Option<u64>,
    /// How often it searched.
    pub(super) searches: Option<u64>,
    /// What its program says of itself.
    pub(super) program: Option<&'a str>,
}

impl Visit {
    /// The line itself, and the count.
    pub(super) fn log(&self, client: &Client, deeds: &Deeds<'_>, end: End) {
        metrics::fetch_session(client.protocol, end.as_str());
        let program = deeds.program.map(Untrusted).map(tracing::field::display);
        tracing::info!(
            event = "fetch.session",
            session_id = %client.session_id,
            login = %Untrusted(&self.login),
            protocol = client.protocol,
            peer = %client.peer,
            mailbox = self.mailbox,
            mailbox_id = %self.mailbox_id,
            listed = deeds.listed,
            fetched = deeds.fetched,
            octets = deeds.octets,
            deleted = deeds.deleted,
            folders = deeds.folders,
            searches = deeds.searches,
            client = program,
            seconds = self.since.elapsed().as_secs_f64(),
            end = end.as_str(),
        );
    }

    /// What the client fetched and deleted could not be put on record.
    pub(super) fn log_failed_commit(&self, client: &Client, error: FetchError) {
        let session_id = client.session_id;
        tracing::error!(event = "fetch.commit_failed", %session_id, mailbox = self.mailbox, %error);
    }
}

/// Credentials came, or were about to come, in clear.
pub(super) fn log_clear_refused(client: &Client) {
    let (session_id, peer, protocol) = (client.session_id, client.peer, client.protocol);
    metrics::login_refused(protocol, "clear");
    tracing::warn!(event = "auth.failed", %session_id, protocol, %peer, reason = "clear");
}
