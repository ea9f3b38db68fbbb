//! Who is trusted to deliver: what an admin may set, what follows from it, and confirming what was learned.

use super::Context;
use super::gateway_mailboxes::{checked_tenant, log_change, resolve};
use super::learned::{Counted, LearnedView, seen};
use super::ops::blocking;
use super::request::{GatewayMailboxView, OpError};
use crate::config::Exchange;
use crate::mail::{GatewayMailbox, GatewayMailboxId, Mode, Network, Trust};
use crate::store::GatewayMailboxChange;

/// Networks that one gateway mailbox may trust.
const TRUSTED_NETWORKS_MAX: usize = 64;
/// Client certificates that may be pinned for one gateway mailbox.
const PINNED_CERTIFICATES_MAX: usize = 32;
/// Hex digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// Takes one key of `set` into `trust`; false when the key is none of it.
pub(super) fn set(trust: &mut Trust, key: &str, value: &str) -> Result<bool, OpError> {
    match key {
        "mode" => {
            trust.mode = match value {
                "observe" => Mode::Observe,
                "enforce" => Mode::Enforce,
                "strict" => Mode::Strict,
                _ => return Err(OpError::Usage(format!("mode is observe, enforce or strict, not {value}"))),
            };
        }
        "trusted_networks" => trust.networks = listed(value, key, TRUSTED_NETWORKS_MAX, network)?,
        "pinned_certificates" => {
            trust.certificates = listed(value, key, PINNED_CERTIFICATES_MAX, fingerprint)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Values with commas between them, each once; none when there is nothing.
pub(super) fn listed<T: PartialEq>(
    value: &str,
    key: &str,
    most: usize,
    read: impl Fn(&str) -> Result<T, OpError>,
) -> Result<Vec<T>, OpError> {
    let mut all = Vec::new();
    for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let item = read(item)?;
        if !all.contains(&item) {
            all.push(item);
        }
        if all.len() > most {
            return Err(OpError::Usage(format!("{key} takes at most {most}")));
        }
    }
    Ok(all)
}

fn network(text: &str) -> Result<Network, OpError> {
    text.parse().map_err(|why| {
        OpError::Usage(format!("{text} is no network such as 192.0.2.0/24 or 2001:db8::/32: {why}"))
    })
}

/// As tools print it: in either case, with or without colons.
fn fingerprint(text: &str) -> Result<String, OpError> {
    let digits: String = text.trim().chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    if digits.len() == SHA256_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    Err(OpError::Usage(format!("{text} is no SHA-256 of a certificate: it has {SHA256_DIGITS} hex digits")))
}

/// Says so when mail that is not authentic is held back, and nothing can be authentic.
pub(super) fn holds_everything(mailbox: &GatewayMailboxView, exchange: &Exchange) -> Option<String> {
    let exchange_can = mailbox.tenant.is_some() && !exchange.networks.is_empty();
    let anything_can =
        exchange_can || !mailbox.trusted_networks.is_empty() || !mailbox.pinned_certificates.is_empty();
    (mailbox.mode != Mode::Observe && !anything_can).then(|| {
        format!(
            "the mode is {} and nothing can be authentic, since no tenant, no trusted network and no certificate is named: \
             all mail is held back in Quarantine",
            mailbox.mode.as_str()
        )
    })
}

/// Says so when a trusted network makes every tenant's mail authentic.
pub(super) fn trusts_everybody(mailbox: &GatewayMailboxView, exchange: &Exchange) -> Option<String> {
    let holds_exchange =
        |trusted: &&Network| exchange.networks.iter().any(|network| network.overlaps(trusted));
    let everybody: Vec<String> =
        mailbox.trusted_networks.iter().filter(holds_exchange).map(ToString::to_string).collect();
    (!everybody.is_empty()).then(|| {
        format!(
            "hosts of Exchange Online are in the trusted networks ({}): every tenant of Microsoft is trusted there, \
             whatever tenant is named",
            everybody.join(", ")
        )
    })
}

/// What an admin should know of the trust in force, one sentence each.
pub(super) fn notes(mailbox: &GatewayMailboxView, exchange: &Exchange) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    notes.extend(holds_everything(mailbox, exchange));
    notes.extend(trusts_everybody(mailbox, exchange));
    let Some(learned) = &mailbox.learned else { return notes };
    for certificate in &learned.certificates {
        if certificate.exchange > 0 && mailbox.pinned_certificates.contains(&certificate.sha256) {
            notes.push(format!(
                "the pinned certificate {} is Exchange Online's: every tenant of Microsoft is trusted",
                certificate.sha256
            ));
        }
    }
    if let Some(tenant) = &mailbox.tenant {
        let others = others(learned, tenant);
        if !others.is_empty() {
            notes.push(format!(
                "the tenant named is {tenant}, and reports from Exchange Online bear another: {}",
                list(&others)
            ));
        }
    }
    notes
}

/// Tenants learned over proven sessions, from the first reports and from the last, with where they were seen most.
fn tenants(learned: &LearnedView) -> Vec<Counted> {
    let mut all: Vec<Counted> = learned.tenants_proven.clone();
    for recent in &learned.tenants_recent {
        match all.iter_mut().find(|known| known.value == recent.value) {
            Some(known) => known.reports = known.reports.max(recent.reports),
            None => all.push(recent.clone()),
        }
    }
    all
}

/// Those of them other than `tenant`.
fn others(learned: &LearnedView, tenant: &str) -> Vec<Counted> {
    tenants(learned).into_iter().filter(|counted| counted.value != tenant).collect()
}

fn list(counted: &[Counted]) -> String {
    let one = |counted: &Counted| format!("{} ({})", counted.value, counted.reports);
    counted.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Confirms what was learned: names the tenant, pins a certificate, or both.
///
/// # Errors
/// [`OpError::Refused`] when no tenant is given and not exactly one was learned; [`OpError::NeedsApproval`], saying what would
/// be pinned, when it is not `approved`.
pub(super) async fn pin(
    context: &Context,
    actor: &str,
    text: &str,
    tenant: Option<String>,
    certificate: Option<String>,
    approved: bool,
) -> Result<(GatewayMailboxId, LearnedView), OpError> {
    let mailbox = resolve(context, text)?;
    let id = mailbox.id;
    let learned = blocking(context, move |c| Ok(seen(c, id)?.learned())).await?;
    let certificate = certificate.as_deref().map(fingerprint).transpose()?;
    let tenant = match tenant {
        Some(tenant) => Some(checked_tenant(&tenant)?.ok_or_else(|| {
            OpError::Usage("a tenant is taken away by `daybook mailbox set ADDRESS tenant=`".to_owned())
        })?),
        None if certificate.is_some() => None,
        None => Some(the_one(&learned)?),
    };
    let tenant = tenant.filter(|tenant| mailbox.tenant.as_ref() != Some(tenant));
    let certificate = certificate.filter(|sha256| !mailbox.trust.certificates.contains(sha256));
    if tenant.is_none() && certificate.is_none() {
        return Ok((id, learned));
    }
    if certificate.is_some() && mailbox.trust.certificates.len() >= PINNED_CERTIFICATES_MAX {
        return Err(OpError::Refused(format!("{PINNED_CERTIFICATES_MAX} certificates are pinned already")));
    }
    if !approved {
        return Err(OpError::NeedsApproval(plan(
            &mailbox,
            &learned,
            tenant.as_deref(),
            certificate.as_deref(),
        )));
    }
    let mut changes: Vec<GatewayMailboxChange> = Vec::new();
    changes.extend(tenant.map(|tenant| GatewayMailboxChange::Tenant(Some(tenant))));
    changes.extend(certificate.map(|sha256| {
        let mut becomes = mailbox.trust.clone();
        becomes.certificates.push(sha256);
        GatewayMailboxChange::Trust { was: mailbox.trust.clone(), becomes }
    }));
    let changed = context.store.change_gateway_mailbox(id, changes, actor).await?;
    log_change("mailbox.changed", &changed, actor);
    Ok((id, learned))
}

/// The one tenant learned over proven sessions: the same from the first reports and from the last, and no other in either.
fn the_one(learned: &LearnedView) -> Result<String, OpError> {
    let advice = "name the right one with --tenant";
    match tenants(learned).as_slice() {
        [one] => match checked_tenant(&one.value) {
            Ok(Some(tenant)) => Ok(tenant),
            _ => Err(OpError::Refused(format!("what was learned is no tenant: {}; {advice}", one.value))),
        },
        [] => {
            let seen = match learned.tenants_elsewhere.as_slice() {
                [] => String::new(),
                seen => format!(". From elsewhere, where anybody can write it: {}", list(seen)),
            };
            Err(OpError::Refused(format!(
                "no tenant was learned: none of {} reports and of the last messages bears one over a session proven to be Exchange Online's; {advice}{seen}",
                learned.reports
            )))
        }
        several => {
            Err(OpError::Refused(format!("more than one tenant was learned: {}; {advice}", list(several))))
        }
    }
}

/// What would be pinned, and what speaks for and against it.
fn plan(
    mailbox: &GatewayMailbox,
    learned: &LearnedView,
    tenant: Option<&str>,
    certificate: Option<&str>,
) -> String {
    let mut lines = Vec::new();
    if let Some(tenant) = tenant {
        let count = |of: &[Counted]| of.iter().find(|c| c.value == tenant).map_or(0, |c| c.reports);
        lines.push(format!(
            "pin the tenant {tenant} for \"{}\": {} of the first reports over sessions proven to be Exchange Online's bear it, \
             and {} of the last",
            mailbox.name,
            count(&learned.tenants_proven),
            count(&learned.tenants_recent)
        ));
        let others = others(learned, tenant);
        if !others.is_empty() {
            lines.push(format!("this contradicts what was learned: {}", list(&others)));
        }
        if let Some(before) = &mailbox.tenant {
            lines.push(format!("it replaces the tenant named before: {before}"));
        }
    }
    if let Some(sha256) = certificate {
        let seen = learned.certificates.iter().find(|c| c.sha256 == sha256);
        let reports = seen.map_or(0, |c| c.reports);
        lines.push(format!(
            "pin the certificate {sha256} for \"{}\": {reports} of {} reports came with it; whoever holds its key is trusted \
             for everything",
            mailbox.name, learned.reports
        ));
        if seen.is_some_and(|c| c.exchange > 0) {
            lines.push("it is Exchange Online's: every tenant of Microsoft would be trusted".to_owned());
        }
    }
    lines.join("\n")
}
