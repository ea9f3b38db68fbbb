//! What is shown of a gateway mailbox's addresses and of who is trusted to deliver to it.

use super::output::{grouped, safe, time};
use crate::admin::{
    AddressView, Counted, CountedCertificate, GatewayMailboxView, LearnedView, RecentView, Response, Verdicts,
};
use crate::mail::Mode;

/// What to do now that there is a new address.
pub(super) fn rotated(response: &Response) -> String {
    let Response::GatewayMailbox(mailbox) = response else { return String::new() };
    let login = safe(&mailbox.login);
    let mut text = format!(
        "Gateway mailbox \"{}\" has a new address.\n\n  address   {}\n  login     {login}\n\n",
        safe(&mailbox.name),
        safe(&mailbox.address),
    );
    let served: Vec<&AddressView> =
        mailbox.addresses.iter().skip(1).filter(|address| !address.retired).collect();
    if served.is_empty() {
        text.push_str(
            "No former address is served any more: mail to it and logins by it are refused as unknown ones are. A report\n\
             refused so goes to the address for undeliverable journal reports: be quick with what follows.\n",
        );
    } else {
        text.push_str("Mail to a former address and logins by it are taken as well until its end, and then refused as unknown ones are:\n");
        for address in served {
            text.push_str(&format!(
                "  {}  {}\n",
                address.until.map(time).unwrap_or_default(),
                safe(&address.address)
            ));
        }
    }
    for note in &mailbox.notes {
        text.push_str(&format!("\nNote: {}.\n", safe(note)));
    }
    text.push_str(&format!(
        "\nNext:\n\
         \x20 1. In Exchange, give the new address to the contact of the journal rule:\n\
         \x20      Set-MailContact \"Daybook journal\" -ExternalEmailAddress {}\n\
         \x20 2. In the archive, change the login; the password stays.\n\
         \x20 3. See that nothing uses a former one any more:  daybook mailbox show {login}\n\
         \x20    (\"last used\"), and in the log mailbox.former_address_used and mailbox.former_login_used.\n",
        safe(&mailbox.address),
    ));
    text
}

/// Former addresses, each with its end.
pub(super) fn former(mailbox: &GatewayMailboxView) -> String {
    let mut text = String::new();
    for address in mailbox.addresses.iter().skip(1) {
        let until = address.until.map(time).unwrap_or_default();
        let end = if address.retired { "served no more since" } else { "served until" };
        let used = match (address.last_used, &mailbox.recent) {
            (Some(at), _) => format!(", last used {}", time(at)),
            (None, Some(recent)) => format!(", not used by the last {} messages", grouped(recent.messages)),
            (None, None) => String::new(),
        };
        text.push_str(&format!("  former    {}, {end} {until}{used}\n", safe(&address.address)));
    }
    text
}

/// Who is trusted to deliver.
pub(super) fn trust(mailbox: &GatewayMailboxView) -> String {
    let means = match mailbox.mode {
        Mode::Observe => "mail that is not authentic is delivered like any other",
        Mode::Enforce => "mail that is not authentic is held back in Quarantine",
        Mode::Strict => "as enforce, and peers that could not be authentic are refused",
    };
    let mut text = format!("  mode      {}: {means}\n", mailbox.mode.as_str());
    for network in &mailbox.trusted_networks {
        text.push_str(&format!("  trusted   network {network}\n"));
    }
    for certificate in &mailbox.pinned_certificates {
        text.push_str(&format!("  pinned    certificate {}\n", safe(certificate)));
    }
    text
}

/// What was learned, how the last messages were judged, and what to know about it.
pub(super) fn told(mailbox: &GatewayMailboxView) -> String {
    let mut text = String::new();
    if let Some(learned) = mailbox.learned.as_ref().filter(|learned| learned.reports > 0) {
        text.push_str(&learned_text(learned));
        // The one of the first reports and the one of the last, where there are both, must be the same.
        let mut proven = learned.tenants_proven.iter().chain(&learned.tenants_recent);
        let first = proven.next();
        if mailbox.tenant.is_none()
            && first.is_some_and(|first| proven.all(|other| other.value == first.value))
        {
            text.push_str(&format!(
                "If that is the tenant, confirm it:  daybook mailbox pin {}\n",
                safe(&mailbox.login)
            ));
        }
    }
    if let Some(recent) = mailbox.recent.as_ref().filter(|recent| recent.messages > 0) {
        text.push_str(&recent_text(recent));
    }
    for note in &mailbox.notes {
        text.push_str(&format!("\nNote: {}.\n", safe(note)));
    }
    text
}

fn learned_text(learned: &LearnedView) -> String {
    let of = if learned.complete { "only" } else { "first" };
    let mut text = format!(
        "\nLearned from the {of} {} reports, {} to {}:\n",
        grouped(learned.reports),
        learned.first.map(time).unwrap_or_default(),
        learned.last.map(time).unwrap_or_default(),
    );
    let mut row = |what: &str, values: String| {
        let values = if values.is_empty() { "-".to_owned() } else { values };
        text.push_str(&format!("  {what:<22}  {values}\n"));
    };
    row("tenant, proven", counted(&learned.tenants_proven));
    row("tenant, proven lately", counted(&learned.tenants_recent));
    row("tenant, from elsewhere", counted(&learned.tenants_elsewhere));
    row("X-LD-Processed", counted(&learned.ld_processed));
    row("Sender", counted(&learned.senders));
    row("MAIL FROM", counted(&learned.reverse_paths));
    row("network", counted(&learned.networks));
    row("certificate", learned.certificates.iter().map(certificate).collect::<Vec<_>>().join(", "));
    row("verdict", verdicts(&learned.verdicts));
    text
}

fn counted(values: &[Counted]) -> String {
    let one = |counted: &Counted| {
        let value = if counted.value.is_empty() { "<>".to_owned() } else { safe(&counted.value) };
        format!("{value} ({})", counted.reports)
    };
    values.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn certificate(certificate: &CountedCertificate) -> String {
    let names = if certificate.dns_names.is_empty() {
        "no name".to_owned()
    } else {
        safe(&certificate.dns_names.join(" "))
    };
    format!("{} {names} ({})", safe(&certificate.sha256), certificate.reports)
}

fn verdicts(verdicts: &Verdicts) -> String {
    let all = [
        ("authentic", verdicts.authentic),
        ("unverified", verdicts.unverified),
        ("suspect", verdicts.suspect),
        ("without a verdict", verdicts.unjudged),
        ("held back", verdicts.held_back),
    ];
    let there = all.iter().filter(|(_, count)| *count > 0);
    there.map(|(what, count)| format!("{what} {}", grouped(*count))).collect::<Vec<_>>().join(", ")
}

fn recent_text(recent: &RecentView) -> String {
    format!(
        "\nThe last {} messages, since {}: {}{}.\n",
        grouped(recent.messages),
        recent.since.map(time).unwrap_or_default(),
        verdicts(&recent.verdicts),
        match recent.left_out {
            0 => String::new(),
            left_out => format!("; not looked at, since their receipts are too large: {}", grouped(left_out)),
        }
    )
}
