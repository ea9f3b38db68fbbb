//! An account at a server, whichever protocol it speaks.

use super::fault::{Fault, FaultKind};
use super::imap::Imap;
use super::pop3::Pop3;
use super::state::State;
use super::talk::Intake;
use crate::config::{PullAfter, PullProtocol, Puller};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

/// How long it may take from the greeting until the login is in, however often the server answers.
const LOGIN_WAIT: Duration = Duration::from_secs(2 * 60);

/// What a puller logs in with.
pub(super) enum Secret {
    Password(Zeroizing<String>),
    Token(Zeroizing<String>),
}

/// What names a message at its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Uid(u32),
    Uidl { number: u32, uidl: String },
}

/// A message at the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) key: Key,
    /// Its size, as the server says.
    pub(super) octets: u64,
}

impl Item {
    /// What it is called in the log and in the state file.
    pub(super) fn id(&self) -> String {
        match &self.key {
            Key::Uid(uid) => uid.to_string(),
            Key::Uidl { uidl, .. } => uidl.clone(),
        }
    }

    pub(super) fn uid(&self) -> u32 {
        match &self.key {
            Key::Uid(uid) => *uid,
            Key::Uidl { .. } => 0,
        }
    }

    pub(super) fn number(&self) -> u32 {
        match &self.key {
            Key::Uid(_) => 0,
            Key::Uidl { number, .. } => *number,
        }
    }
}

/// What asking for a message brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// All of it.
    Whole,
    /// It is not there any more.
    Gone,
    /// The server does not give it; what it says.
    Refused(String),
}

/// What is at an account.
pub(super) struct Listing {
    /// What is to be fetched.
    pub(super) items: Vec<Item>,
    /// There is more than that.
    pub(super) more: bool,
    /// What was fetched before, and whose end at the account is not known.
    pub(super) unsettled: Vec<Item>,
}

/// A session with an account.
pub(super) enum Account<S> {
    Imap(Box<Imap<S>>),
    Pop3(Box<Pop3<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Account<S> {
    /// Logs in.
    pub(super) async fn log_in(puller: &Puller, stream: S, secret: &Secret) -> Result<Account<S>, Fault> {
        match tokio::time::timeout(LOGIN_WAIT, Self::log_in_at_leisure(puller, stream, secret)).await {
            Ok(logged_in) => logged_in.map_err(Fault::at_the_door),
            Err(_) => {
                Err(Fault::new(FaultKind::Unreachable, "the server does not come to an end with the login"))
            }
        }
    }

    async fn log_in_at_leisure(puller: &Puller, stream: S, secret: &Secret) -> Result<Account<S>, Fault> {
        match puller.protocol {
            PullProtocol::Imaps => {
                let mut imap = Imap::greet(stream).await?;
                imap.log_in(&puller.login, secret).await?;
                Ok(Account::Imap(Box::new(imap)))
            }
            PullProtocol::Pop3s => {
                let mut pop3 = Pop3::greet(stream).await?;
                pop3.log_in(&puller.login, secret).await?;
                Ok(Account::Pop3(Box::new(pop3)))
            }
        }
    }

    /// Opens the folder and lists at most so many messages to be fetched. The state learns what is not there any more.
    pub(super) async fn list(
        &mut self,
        puller: &Puller,
        state: &mut State,
        most: usize,
    ) -> Result<Listing, Fault> {
        match self {
            Account::Imap(imap) => {
                let validity = imap.open(&puller.folder, puller.after == PullAfter::Keep).await?;
                state.begin_validity(validity);
                let from = state.first_open_uid();
                let (items, more) = imap.list(from, most, |uid| !state.has_uid(uid)).await?;
                if !more {
                    state.close_gaps(&items.iter().map(Item::uid).collect::<Vec<_>>());
                }
                let unsettled = state.unsettled_uids();
                let unsettled = unsettled.map(|uid| Item { key: Key::Uid(uid), octets: 0 }).collect();
                Ok(Listing { items, more, unsettled })
            }
            Account::Pop3(pop3) => {
                let listed = pop3.list(most.max(state.uidls()), |uidl| !state.has_uidl(uidl)).await?;
                let mut items = listed.items;
                let more = listed.more || items.len() > most;
                items.truncate(most);
                if !listed.more {
                    state.keep_uidls(&listed.done.iter().map(Item::id).collect::<BTreeSet<_>>());
                }
                let unsettled =
                    listed.done.into_iter().filter(|item| state.is_unsettled(&item.id())).collect();
                Ok(Listing { items, more, unsettled })
            }
        }
    }

    /// Fetches one message.
    pub(super) async fn fetch(&mut self, item: &Item, intake: &mut Intake<'_>) -> Result<Given, Fault> {
        match self {
            Account::Imap(imap) => imap.fetch(item.uid(), intake).await,
            Account::Pop3(pop3) => pop3.fetch(item, intake).await,
        }
    }

    /// Does with these messages, which are stored, what is to be done. Gives whether that is done for good; over POP3 it is when
    /// the session ends well.
    pub(super) async fn settle(&mut self, after: PullAfter, items: &[Item]) -> Result<bool, Fault> {
        if items.is_empty() {
            return Ok(true);
        }
        let uids = || items.iter().map(Item::uid).collect::<Vec<_>>();
        match (self, after) {
            (_, PullAfter::Keep) => Ok(true),
            (Account::Imap(imap), PullAfter::Mark) => imap.mark(&uids()).await.map(|()| true),
            (Account::Imap(imap), PullAfter::Delete) => imap.delete(&uids()).await,
            // The configuration refuses it.
            (Account::Pop3(_), PullAfter::Mark) => Ok(true),
            (Account::Pop3(pop3), PullAfter::Delete) => {
                for item in items {
                    pop3.delete(item).await?;
                }
                Ok(false)
            }
        }
    }

    /// Ends the session; gives whether what was deleted over POP3 is.
    pub(super) async fn log_out(self) -> Result<bool, Fault> {
        match self {
            Account::Imap(imap) => {
                imap.log_out().await;
                Ok(false)
            }
            Account::Pop3(pop3) => pop3.quit().await.map(|()| true),
        }
    }
}

/// The initial response of XOAUTH2, in Base64.
pub(super) fn xoauth2(login: &str, token: &str) -> Zeroizing<String> {
    let bare = Zeroizing::new(format!("user={login}\u{1}auth=Bearer {token}\u{1}\u{1}"));
    Zeroizing::new(STANDARD.encode(bare.as_bytes()))
}

/// What a challenge says; as it is when it is no Base64.
pub(super) fn base64_text(challenge: &[u8]) -> String {
    let decoded = STANDARD.decode(challenge);
    String::from_utf8_lossy(&decoded.unwrap_or_else(|_| challenge.to_vec())).into_owned()
}
