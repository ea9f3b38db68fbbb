//! `daybook mailbox …`

use super::approval::{ask_approved, confirm};
use super::args::{MailboxCommand, RoleArgument};
use super::output::{Failure, counted, grouped, safe, table, time};
use super::{ask, keeping, secret, trust};
use crate::admin::{
    CreatedView, FolderView, GatewayMailboxView, OpError, Request, Response, RoleView, ServedView,
};
use crate::config::Settings;
use crate::mail::{GatewayMailboxState, Maildrop, Profile};

pub(super) fn run(command: MailboxCommand, settings: &Settings, json: bool) -> Result<u8, Failure> {
    match command {
        MailboxCommand::Create { name, domain, tenant, profile, role, serves } => {
            if role == RoleArgument::Journal && serves.is_some() {
                return Err(Failure::usage("--serves is for an NDR mailbox: say --role ndr too".to_owned()));
            }
            let profile = profile.into();
            let request = Request::CreateGatewayMailbox { name, domain, tenant, profile, serves };
            ask(settings, request, json, |response| created(response, settings))
        }
        MailboxCommand::List => ask(settings, Request::ListGatewayMailboxes, json, list),
        MailboxCommand::Show { which } => {
            ask(settings, Request::ShowGatewayMailbox { gateway_mailbox: which.mailbox }, json, show)
        }
        MailboxCommand::Set { which, settings: changes, yes } => {
            let request = |approved| Request::SetGatewayMailbox {
                gateway_mailbox: which.mailbox.clone(),
                settings: changes.clone(),
                approved,
            };
            let asked = ("Set it?", "this takes mail away");
            ask_approved(settings, request, yes, asked, json, show)
        }
        MailboxCommand::Hold(arguments) => {
            let request = Request::HoldGatewayMailbox {
                gateway_mailbox: arguments.which.mailbox,
                user: arguments.user,
                reason: arguments.reason,
            };
            ask(settings, request, json, keeping::held)
        }
        MailboxCommand::Unhold(arguments) => {
            let request = |approved| Request::UnholdGatewayMailbox {
                gateway_mailbox: arguments.which.mailbox.clone(),
                user: arguments.user.clone(),
                approved,
            };
            let asked = ("End the hold?", "this lets mail go");
            ask_approved(settings, request, arguments.yes, asked, json, keeping::held)
        }
        MailboxCommand::Rotate { which, overlap } => {
            let request =
                Request::RotateGatewayMailbox { gateway_mailbox: which.mailbox, overlap_days: overlap };
            ask(settings, request, json, trust::rotated)
        }
        MailboxCommand::Pin { which, tenant, certificate, yes } => {
            let request = |approved| Request::PinGatewayMailbox {
                gateway_mailbox: which.mailbox.clone(),
                tenant: tenant.clone(),
                certificate: certificate.clone(),
                approved,
            };
            let asked = ("Pin it?", "this decides whose mail is delivered");
            ask_approved(settings, request, yes, asked, json, show)
        }
        MailboxCommand::Escrow { which, key } => {
            let key = secret::key(&key, &which.mailbox)?;
            let request = Request::EscrowGatewayMailbox { gateway_mailbox: which.mailbox, key };
            ask(settings, request, json, escrowed)
        }
        MailboxCommand::ResetPassword(arguments) => super::key::reset_password(arguments, settings, json),
        MailboxCommand::Suspend { which } => {
            ask(settings, Request::SuspendGatewayMailbox { gateway_mailbox: which.mailbox }, json, changed)
        }
        MailboxCommand::Resume { which } => {
            ask(settings, Request::ResumeGatewayMailbox { gateway_mailbox: which.mailbox }, json, changed)
        }
        MailboxCommand::Delete { which, force, yes } => {
            if !yes {
                let question =
                    format!("Delete gateway mailbox {}? It cannot be undone.", safe(&which.mailbox));
                confirm("", &question, || {
                    OpError::NeedsApproval("this destroys something: say --yes".to_owned())
                })?;
            }
            let request = Request::DeleteGatewayMailbox { gateway_mailbox: which.mailbox, force };
            ask(settings, request, json, deleted)
        }
    }
}

fn state(state: GatewayMailboxState) -> &'static str {
    match state {
        GatewayMailboxState::Active => "active",
        GatewayMailboxState::Suspended => "suspended",
        GatewayMailboxState::Deleted => "deleted",
    }
}

fn profile(profile: Profile) -> &'static str {
    match profile {
        Profile::Microsoft365 => "microsoft365",
        Profile::Generic => "generic",
    }
}

fn created(response: &Response, settings: &Settings) -> String {
    let Response::Created(created) = response else { return String::new() };
    let CreatedView { gateway_mailbox, password } = created.as_ref();
    let port = |listen: &[std::net::SocketAddr]| {
        listen.first().map(std::net::SocketAddr::port).filter(|port| *port != 0)
    };
    let (pop3s, imaps) = (port(&settings.pop3.listen_tls), port(&settings.imap_listen().listen_tls));
    let readers = match gateway_mailbox.escrow.as_ref().map_or(0, |escrow| escrow.open_by.len()) {
        0 => "nobody",
        _ => "nobody but the escrow recipients",
    };
    let pop3s = pop3s.map(|port| format!(", port {port}")).unwrap_or_default();
    let imaps = imaps.map(|port| format!(" (or by IMAP over TLS, port {port})")).unwrap_or_default();
    format!(
        "Gateway mailbox \"{}\" is made.\n\n\
         \x20 address   {}\n\
         \x20 login     {}\n\
         \x20 password  {}\n\n\
         The password is shown this once and kept nowhere. Without it {readers} can read what is stored here: put it\n\
         into a safe place now.\n\n\
         Next:\n{}",
        safe(&gateway_mailbox.name),
        safe(&gateway_mailbox.address),
        safe(&gateway_mailbox.login),
        password.as_str(),
        next_steps(gateway_mailbox, &format!("{}{pop3s}{imaps}", safe(&settings.hostname))),
    )
}

fn next_steps(gateway_mailbox: &GatewayMailboxView, pop3s: &str) -> String {
    let login = safe(&gateway_mailbox.login);
    match gateway_mailbox.role {
        RoleView::Journal if gateway_mailbox.profile == Profile::Generic => format!(
            "\x20 1. Have the mail server send its copies to the address above. Nobody else needs it.\n\
             \x20 2. Name the header fields in which it writes the envelope, or nobody is assigned anything:\n\
             \x20    daybook mailbox set {login} recipient_headers=X-Gm-Original-To\n\
             \x20 3. In the archive, fetch by POP3 over TLS from {pop3s}, with login and password above.\n"
        ),
        RoleView::Journal => format!(
            "\x20 1. In Exchange, make a journal rule that sends journal reports to the address above. Nobody else needs it.\n\
             \x20 2. In the archive, fetch by POP3 over TLS from {pop3s}, with login and password above.\n\
             \x20 3. Send a mail that the rule covers, then look:  daybook mailbox show {login}\n"
        ),
        RoleView::Ndr => format!(
            "\x20 1. In Exchange, have NDRs of journal reports sent to the address above:\n\
             \x20    Set-TransportConfig -JournalingReportNdrTo {}\n\
             \x20 2. Nobody has to fetch here: a report that comes back goes to the gateway mailbox served. Look now and then,\n\
             \x20    and whenever the alarm report-missing is raised:  daybook gaps\n\
             \x20 3. On this host it is down when the gateway mailbox served is, and what it misses then is lost. Against that,\n\
             \x20    run a second Daybook elsewhere and have the archive fetch from both.\n",
            safe(&gateway_mailbox.address),
        ),
    }
}

/// What comes to it, and for whom.
fn role(mailbox: &GatewayMailboxView) -> String {
    match &mailbox.serves {
        None => mailbox.role.as_str().to_owned(),
        Some(ServedView { login: Some(login), name, .. }) => {
            let name = name.as_deref().unwrap_or_default();
            format!("ndr: reports that come back go to \"{}\" ({})", safe(name), safe(login))
        }
        Some(ServedView { id, .. }) => format!("ndr: the gateway mailbox it serves, {id}, is not there"),
    }
}

fn list(response: &Response) -> String {
    let Response::GatewayMailboxes(all) = response else { return String::new() };
    if all.is_empty() {
        return "There is no gateway mailbox yet. Make one with: daybook mailbox create --name NAME\n"
            .to_owned();
    }
    let row = |mailbox: &GatewayMailboxView| {
        vec![
            safe(&mailbox.address),
            state(mailbox.state).to_owned(),
            mailbox.role.as_str().to_owned(),
            profile(mailbox.profile).to_owned(),
            grouped(mailbox.inbox.entries),
            mailbox.inbox.oldest.map(time).unwrap_or_else(|| "-".to_owned()),
            keeping::hold(&mailbox.holds),
            safe(&mailbox.name),
        ]
    };
    table(
        &["ADDRESS", "STATE", "ROLE", "PROFILE", "INBOX", "OLDEST", "HOLD", "NAME"],
        &all.iter().map(row).collect::<Vec<_>>(),
    )
}

fn show(response: &Response) -> String {
    let Response::GatewayMailbox(mailbox) = response else { return String::new() };
    let archive = if mailbox.archive { "on: users have folders" } else { "off: INBOX only" };
    let mut text = format!(
        "{}\n  address   {}\n  login     {}\n  id        {}\n  state     {}\n  role      {}\n  profile   {}\n  \
         tenant    {}\n\
         \x20 archive   {archive}\n  made      {}\n  opened by {}\n",
        safe(&mailbox.name),
        safe(&mailbox.address),
        safe(&mailbox.login),
        mailbox.id,
        state(mailbox.state),
        role(mailbox),
        profile(mailbox.profile),
        mailbox.tenant.as_deref().map(safe).unwrap_or_else(|| "-".to_owned()),
        time(mailbox.created_at),
        opened_by(mailbox),
    );
    text.push_str(&super::key::former(mailbox));
    for (label, names) in [("recipient", &mailbox.recipient_headers), ("sender", &mailbox.sender_headers)] {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| safe(name)).collect();
            text.push_str(&format!("  {label:<9} of plain mail is named in {}\n", names.join(", ")));
        }
    }
    text.push_str(&fetching(mailbox));
    text.push_str(&keeping::keeping(mailbox));
    text.push_str(&trust::trust(mailbox));
    text.push_str(&trust::former(mailbox));
    match mailbox.folders.as_deref() {
        None => {}
        Some([]) => text.push_str("\nNo message has come yet.\n"),
        Some(folders) => {
            text.push('\n');
            text.push_str(&folder_table(folders));
        }
    }
    text.push_str(&trust::told(mailbox));
    text
}

/// What clients find and may do, and how far they came.
fn fetching(mailbox: &GatewayMailboxView) -> String {
    let finds = match mailbox.maildrop {
        Maildrop::Originals if mailbox.role == RoleView::Ndr || mailbox.profile == Profile::Generic => {
            "originals: but nothing is unwrapped here, a poller finds each message as received"
        }
        Maildrop::Originals => {
            "originals: a poller finds the mail in each journal report, without the report around it"
        }
        Maildrop::Reports => {
            "reports: a poller finds each message as received, the mail inside its journal report"
        }
    };
    let deletes = match mailbox.user_delete {
        true => "in every folder",
        false => "in INBOX alone",
    };
    let mut text = format!("  maildrop  {finds}\n  deleting  clients may delete {deletes}\n");
    if let Some(fetching) = &mailbox.fetching {
        let last = fetching.last.map(time).unwrap_or_else(|| "never".to_owned());
        let left = match (fetching.unfetched, fetching.oldest_unfetched) {
            (None, _) => "too much is kept in INBOX to tell what was not fetched".to_owned(),
            (Some(count), Some(oldest)) => {
                format!("{} not fetched yet, the oldest received {}", counted(count, "message"), time(oldest))
            }
            (Some(_), None) => "nothing waits that was not fetched".to_owned(),
        };
        text.push_str(&format!("  fetched   last {last}; {left}\n"));
    }
    text
}

/// Its password, and which escrow recipients; and which of those that should not can.
fn opened_by(mailbox: &GatewayMailboxView) -> String {
    let Some(escrow) = &mailbox.escrow else { return "its password".to_owned() };
    let mut text = match escrow.open_by.len() + escrow.others {
        0 => "its password alone".to_owned(),
        1 => "its password, 1 escrow recipient".to_owned(),
        several => format!("its password, {several} escrow recipients"),
    };
    if escrow.others > 0 {
        text.push_str(&format!(" ({} not configured any more)", escrow.others));
    }
    for missing in &escrow.missing {
        let login = safe(&mailbox.login);
        text.push_str(&format!("\n            not by {}: daybook mailbox escrow {login}", safe(missing)));
    }
    text
}

fn escrowed(response: &Response) -> String {
    let Response::GatewayMailbox(mailbox) = response else { return String::new() };
    format!("{} is opened by {}.\n", safe(&mailbox.address), opened_by(mailbox))
}

/// A row for each folder.
pub(super) fn folder_table(folders: &[FolderView]) -> String {
    let row = |folder: &FolderView| {
        vec![
            grouped(folder.entries),
            grouped(folder.octets),
            folder.oldest.map(time).unwrap_or_else(|| "-".to_owned()),
            safe(&folder.path),
        ]
    };
    table(&["MESSAGES", "OCTETS", "OLDEST", "FOLDER"], &folders.iter().map(row).collect::<Vec<_>>())
}

fn changed(response: &Response) -> String {
    let Response::GatewayMailbox(mailbox) = response else { return String::new() };
    let means = match mailbox.state {
        GatewayMailboxState::Active => "mail is taken",
        GatewayMailboxState::Suspended => "senders are asked to try again later; fetching goes on",
        GatewayMailboxState::Deleted => "it is served no more",
    };
    format!("{} is {}: {means}.\n", safe(&mailbox.address), state(mailbox.state))
}

fn deleted(response: &Response) -> String {
    let Response::GatewayMailbox(mailbox) = response else { return String::new() };
    let left = match mailbox.inbox.entries {
        0 => String::new(),
        entries => format!(" {} had not been fetched from its INBOX.", counted(entries, "message")),
    };
    let content = match mailbox.grace_days {
        0 => "What is stored of it is freed with one of the next passes of retention".to_owned(),
        days => format!("What is stored of it is freed once {} are over", counted(u64::from(days), "day")),
    };
    let address = safe(&mailbox.address);
    format!("{address} is deleted: it takes no mail, and nobody can log in.{left}\n{content}.\n")
}
