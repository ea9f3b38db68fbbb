//! `daybook receipts`, and what `daybook trace` shows of a transaction that was turned away.

use super::args::ReceiptsArguments;
use super::output::{Failure, counted, grouped, print_part, safe, time};
use super::reach;
use super::receipts::Lines;
use crate::admin::{Request, Response, TRANSACTIONS_MAX, TransactionsAsked};
use crate::config::Settings;
use crate::observe::{json_safe, now};
use crate::store::{TransactionMailbox, TransactionOutcome, TransactionView, Transactions};
use std::fmt::Write;

/// Exit code when an entry is damaged.
const FOUND_A_PROBLEM: u8 = 1;

pub(super) fn run(settings: &Settings, arguments: &ReceiptsArguments, json: bool) -> Result<u8, Failure> {
    let now = now();
    let mut listing = Listing { json, left: arguments.limit.unwrap_or(u64::MAX), ..Listing::default() };
    let request = |before| {
        Request::ListTransactions(TransactionsAsked {
            since: arguments.since.map(|since| since.before(now)),
            until: arguments.until.map(|until| until.before(now)),
            outcome: arguments.outcome.map(TransactionOutcome::from),
            gateway_mailbox: arguments.mailbox.clone(),
            before,
            // Never fewer: of those looked at, those of other gateway mailboxes are not shown.
            most: TRANSACTIONS_MAX,
        })
    };
    let asked = reach::perform_each(settings, request(None), |response| {
        let Response::Transactions(page) = response else { return None };
        match listing.add(&page) {
            Ok(true) => page.last.map(|last| request(Some(last))),
            Ok(false) => None,
            Err(failure) => {
                listing.failure = Some(failure);
                None
            }
        }
    });
    let outcome = asked.and_then(|()| listing.failure.take().map_or(Ok(()), Err));
    listing.end(outcome)
}

/// What has been printed of a list that does not fit into memory.
#[derive(Default)]
struct Listing {
    json: bool,
    begun: bool,
    /// Transactions that may be printed still.
    left: u64,
    damaged: bool,
    /// Nobody reads any more.
    unread: bool,
    failure: Option<Failure>,
}

impl Listing {
    /// False when there is nothing to go on for.
    fn add(&mut self, page: &Transactions) -> Result<bool, Failure> {
        let mut text = String::new();
        for transaction in &page.transactions {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            self.damaged |= transaction.damaged.is_some();
            match self.json {
                true => {
                    let value = serde_json::to_string(transaction);
                    let value = value.map_err(|error| Failure::from(error.to_string()))?;
                    text.push(if self.begun { ',' } else { '[' });
                    text.push_str(&json_safe(&value));
                }
                false => line(&mut text, transaction),
            }
            self.begun = true;
        }
        self.unread = !print_part(&text)?;
        Ok(!self.unread && self.left > 0)
    }

    fn end(self, outcome: Result<(), Failure>) -> Result<u8, Failure> {
        if self.unread {
            return Ok(0);
        }
        let code = match outcome {
            // A list that is begun must end; its last value says why it is not whole.
            Err(failure) if self.json && self.begun => {
                let error = serde_json::json!({ "error": failure.to_json() }).to_string();
                print_part(&format!(",{}", json_safe(&error)))?;
                failure.code()
            }
            Err(failure) => return Err(failure),
            Ok(()) if self.damaged => FOUND_A_PROBLEM,
            Ok(()) => 0,
        };
        if self.json {
            print_part(if self.begun { "]\n" } else { "[]\n" })?;
        }
        Ok(code)
    }
}

/// One transaction on one line. Writing to a String cannot fail.
fn line(out: &mut String, told: &TransactionView) {
    let at = told.at.map(time).unwrap_or_default();
    let code = told.code.map_or_else(|| "-".to_owned(), |code| code.to_string());
    let peer = told.peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
    let (receipt_id, outcome) = (told.receipt_id, told.outcome.as_str());
    write!(out, "{at:<20}  {receipt_id}  {outcome:<8}  {code:<3}  {peer:<15}").unwrap_or_default();
    if let Some(reason) = &told.reason {
        write!(out, "  {}", safe(reason)).unwrap_or_default();
    }
    for mailbox in &told.gateway_mailboxes {
        write!(out, "  {}", mailbox_text(mailbox)).unwrap_or_default();
    }
    if told.outcome == TransactionOutcome::Accepted {
        let octets = grouped(told.octets.unwrap_or(0));
        write!(out, "  {octets} octets, {} placed", told.placements).unwrap_or_default();
    }
    if let Some(further) = further(told) {
        write!(out, "  ({further})").unwrap_or_default();
    }
    if let Some(damaged) = &told.damaged {
        write!(out, "  damaged: {}", safe(damaged)).unwrap_or_default();
    }
    out.push('\n');
}

fn mailbox_text(mailbox: &TransactionMailbox) -> String {
    let address = mailbox.address.as_deref().map_or_else(|| mailbox.id.to_string(), safe);
    let class = mailbox.class.map(|class| format!(" {class}")).unwrap_or_default();
    let verdict = mailbox.verdict.map(|verdict| format!(" {}", verdict.as_str())).unwrap_or_default();
    let held_back = if mailbox.held_back { " held back" } else { "" };
    let repeats = mailbox.repeats.map(|earlier| format!(" repeats {earlier}")).unwrap_or_default();
    format!("{address}{class}{verdict}{held_back}{repeats}")
}

/// How many more an entry stands for.
fn further(told: &TransactionView) -> Option<String> {
    if told.further_deferred + told.further_refused == 0 {
        return None;
    }
    let (deferred, refused) = (grouped(told.further_deferred), grouped(told.further_refused));
    Some(format!("{deferred} more deferred and {refused} refused since the entry before, only counted"))
}

/// All that is on record of one that was turned away.
pub(super) fn whole(told: &TransactionView) -> String {
    let mut out = Lines::default();
    writeln!(out.0, "Receipt {}", told.receipt_id).unwrap_or_default();
    if let Some(why) = &told.damaged {
        out.add("turned away", &format!("its entry is damaged: {}", safe(why)));
        return out.0;
    }
    let at = told.at.map(|at| at.to_string()).unwrap_or_default();
    out.add("turned away", &at);
    let said = match (told.code, &told.enhanced) {
        (Some(code), Some(enhanced)) => format!("{code} {}", safe(enhanced)),
        (Some(code), None) => code.to_string(),
        (None, _) => "nothing was said, the connection broke".to_owned(),
    };
    let reason = told.reason.as_deref().map(safe).unwrap_or_default();
    let fault = match told.blame.as_deref() {
        Some("peer") => "; the peer's fault",
        Some("ours") => "; our fault",
        Some("operator") => "; for an operator to mend",
        _ => "",
    };
    out.add(told.outcome.as_str(), &format!("{said}: {reason}{fault}"));
    for mailbox in &told.gateway_mailboxes {
        out.add("for", &mailbox_text(mailbox));
    }
    let helo = told.helo.as_deref().map_or_else(|| "no name".to_owned(), safe);
    let peer = told.peer.map(|peer| peer.to_string()).unwrap_or_default();
    out.add("from peer", &format!("{peer}, who said it was {helo}"));
    if let Some(sender) = &told.sender {
        out.add("MAIL FROM", &format!("<{}>", safe(sender)));
    }
    if told.recipient_count > 0 {
        let named: Vec<String> = told.recipients.iter().map(|to| format!("<{}>", safe(to))).collect();
        let more = told.recipient_count.saturating_sub(named.len() as u64);
        let more = if more > 0 { format!(" and {} more", grouped(more)) } else { String::new() };
        out.add("RCPT TO", &format!("{}{more}", named.join(" ")));
    }
    let octets = [("declared", told.octets_declared), ("received", told.octets)];
    for (what, octets) in octets.into_iter().filter_map(|(what, octets)| Some((what, octets?))) {
        out.add(what, &counted(octets, "octet"));
    }
    if let Some(further) = further(told) {
        out.add("further", &further);
    }
    if let Some(session) = told.session_id {
        out.add("session", &session.to_string());
    }
    out.0
}
