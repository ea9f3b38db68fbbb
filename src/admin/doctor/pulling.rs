//! `pullers`: each has an NDR mailbox to fetch into, and does what it should.

use super::{Finding, Subject, finding::or_ok};
use crate::admin::{Examined, GatewayMailboxView, RoleView};
use crate::config::Puller;
use crate::mail::{AddressKey, GatewayMailboxState, Untrusted};
use crate::pull::PullerStatus;

pub(super) const NAME: &str = "pullers";

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let pullers = &subject.settings.pullers;
    if pullers.is_empty() {
        return vec![Finding::skipped(NAME, "no [[puller]] is configured")];
    }
    let Some(examined) = subject.view.examined() else {
        return vec![Finding::skipped(NAME, subject.view.why_unknown())];
    };
    let command = subject.command("");
    let findings = pullers.iter().filter_map(|puller| judge(puller, examined, command.trim_end())).collect();
    let good = || pullers.iter().map(|puller| puller.name.as_str()).collect::<Vec<_>>().join(", ");
    or_ok(findings, NAME, good)
}

fn judge(puller: &Puller, examined: &Examined, command: &str) -> Option<Finding> {
    let (name, wanted) = (&puller.name, Untrusted(&puller.mailbox));
    let all = examined.gateway_mailboxes.iter().map(|examined| &examined.gateway_mailbox);
    let found = all.into_iter().find(|mailbox| is_meant(mailbox, &puller.mailbox));
    let problem = |seen: String, fix: String| Some(Finding::problem(NAME, format!("{name}: {seen}"), fix));
    match found {
        None => problem(
            format!("there is no gateway mailbox {wanted}"),
            format!("{command} mailbox list; then set mailbox in [[puller]] {name}"),
        ),
        Some(mailbox) if mailbox.role == RoleView::Journal => problem(
            format!("{wanted} has role journal: pullers fetch into NDR mailboxes alone"),
            format!("{command} mailbox create --name NDRs --role ndr --serves {wanted}; then name that one"),
        ),
        Some(mailbox) if mailbox.state != GatewayMailboxState::Active => problem(
            format!("{wanted} is suspended: nothing is fetched"),
            format!("{command} mailbox resume {wanted}"),
        ),
        Some(_) => examined.pullers.iter().find(|status| status.name == *name).and_then(failing),
    }
}

fn is_meant(mailbox: &GatewayMailboxView, named: &str) -> bool {
    let key = AddressKey::of(named);
    let served = mailbox.addresses.iter().map(|served| served.address.as_str());
    served.chain([mailbox.address.as_str(), mailbox.login.as_str()]).any(|known| {
        AddressKey::of(known) == key
            || known.split('@').next().is_some_and(|local| AddressKey::of(local) == key)
    })
}

fn failing(status: &PullerStatus) -> Option<Finding> {
    let fault = status.fault.as_ref()?;
    let since = status.failing_since.map(|since| format!(", since {since}")).unwrap_or_default();
    Some(Finding::problem(NAME, format!("{}: {}{since}", status.name, fault.text), fault.advice.clone()))
}
