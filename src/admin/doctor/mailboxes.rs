//! `gateway-mailbox`, `last-report` and `last-fetch`: there is one to take mail, mail comes, and mail is fetched.

use super::{Finding, Subject, finding::or_ok, span};
use crate::admin::{Examined, GatewayMailboxView, MailboxExamined, RoleView, trust};
use crate::config::Exchange;
use crate::mail::{GatewayMailboxState, Profile, Timestamp};

pub(super) const NAME: &str = "gateway-mailbox";
pub(super) const LAST_REPORT: &str = "last-report";
pub(super) const LAST_FETCH: &str = "last-fetch";

/// Without a report for longer, weekend included, something on the way is suspected.
const REPORT_AGE_MS: i64 = 3 * 86_400_000;
/// Mail that waits longer is not being fetched.
const WAITING_MS: i64 = 86_400_000;

fn customers(examined: &Examined) -> impl Iterator<Item = &MailboxExamined> {
    examined.gateway_mailboxes.iter().filter(|mailbox| !mailbox.self_test)
}

fn unknown(name: &'static str, subject: &Subject) -> Vec<Finding> {
    vec![Finding::skipped(name, subject.view.why_unknown())]
}

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    match subject.view.examined() {
        Some(examined) => judge(examined, &subject.settings.exchange, |arguments| subject.command(arguments)),
        None => unknown(NAME, subject),
    }
}

fn judge(examined: &Examined, exchange: &Exchange, command: impl Fn(&str) -> String) -> Vec<Finding> {
    let all: Vec<&GatewayMailboxView> = customers(examined).map(|mailbox| &mailbox.gateway_mailbox).collect();
    if all.is_empty() {
        let make = command("mailbox create --name NAME");
        let fix = format!("make one and send journal reports to its address: `{make}`");
        return vec![Finding::problem(NAME, "there is none: no mail is taken", fix)];
    }
    let (active, suspended): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|mailbox| mailbox.state == GatewayMailboxState::Active);
    let one = |mailbox: &&GatewayMailboxView| {
        let seen = format!("{} is suspended: senders are asked to try again later", named(mailbox));
        let fix = format!(
            "when it may take mail again: `{}`",
            command(&format!("mailbox resume {}", mailbox.login))
        );
        if active.is_empty() { Finding::problem(NAME, seen, fix) } else { Finding::warning(NAME, seen, fix) }
    };
    let mut findings: Vec<Finding> = suspended.iter().map(one).collect();
    for mailbox in &active {
        let about = |key: &str| command(&format!("mailbox {key} {}", mailbox.login));
        let warning = |note: String, fix| Finding::warning(NAME, format!("{}: {note}", named(mailbox)), fix);
        findings.extend(trust::holds_everything(mailbox, exchange).map(|note| {
            let (show, pin) = (about("show"), about("pin"));
            let fix = format!(
                "see what was learned (`{show}`) and confirm the tenant (`{pin}`), or only observe (`{} mode=observe`)",
                about("set")
            );
            warning(note, fix)
        }));
        findings.extend(trust::trusts_everybody(mailbox, exchange).map(|note| {
            warning(
                note,
                format!("trust only relays of your own, or none: `{} trusted_networks=`", about("set")),
            )
        }));
    }
    let homeless =
        |mailbox: &&&GatewayMailboxView| mailbox.serves.as_ref().is_some_and(|s| s.login.is_none());
    findings.extend(active.iter().filter(homeless).map(|mailbox| {
        let seen = format!(
            "{}: the gateway mailbox it serves is not there: reports that come back go to nobody",
            named(mailbox)
        );
        let make = command("mailbox create --role ndr --serves ADDRESS --name NAME");
        let fix =
            format!("make one for a gateway mailbox that is there (`{make}`), and give Exchange its address");
        Finding::problem(NAME, seen, fix)
    }));
    findings.extend(active.iter().chain(&suspended).filter_map(|mailbox| not_in_escrow(mailbox, &command)));
    findings.extend(active.iter().chain(&suspended).filter_map(|mailbox| without_escrow(mailbox)));
    findings.extend(active.iter().chain(&suspended).filter_map(|mailbox| lacking_keys(mailbox, &command)));
    or_ok(findings, NAME, || active.iter().map(|mailbox| described(mailbox)).collect::<Vec<_>>().join(", "))
}

/// A gateway mailbox that was made before an escrow recipient was configured.
fn not_in_escrow(mailbox: &GatewayMailboxView, command: impl Fn(&str) -> String) -> Option<Finding> {
    let escrow = mailbox.escrow.as_ref().filter(|escrow| !escrow.missing.is_empty())?;
    let (missing, all) = (escrow.missing.len(), escrow.missing.len() + escrow.open_by.len());
    Some(Finding::warning(
        NAME,
        format!("{}: {missing} of {all} escrow recipients cannot open it", named(mailbox)),
        format!("with its password: `{}`", command(&format!("mailbox escrow {}", mailbox.login))),
    ))
}

/// One whose mail is lost with its password.
fn without_escrow(mailbox: &GatewayMailboxView) -> Option<Finding> {
    let escrow = mailbox.escrow.as_ref()?;
    let alone = escrow.open_by.is_empty() && escrow.missing.is_empty();
    alone.then(|| {
        Finding::warning(
            NAME,
            format!("{}: nothing but its password opens it, and its mail is lost with that", named(mailbox)),
            "make an escrow identity with age-keygen, keep it off this machine, and name its recipient in [keys] escrow"
                .to_owned(),
        )
    })
}

/// One with mail that the password of today does not open.
fn lacking_keys(mailbox: &GatewayMailboxView, command: impl Fn(&str) -> String) -> Option<Finding> {
    let lost = mailbox.keys.lost().last()?;
    let unopened = mailbox.keys.unopened.filter(|count| *count > 0)?;
    let join =
        command(&format!("mailbox reset-password {} --password-file OLD --password-file NEW", mailbox.login));
    Some(Finding::warning(
        NAME,
        format!(
            "{}: its password does not open {unopened} messages received until {}",
            named(mailbox),
            lost.until
        ),
        format!("with the old password, or by --identity with an escrow identity: `{join}`"),
    ))
}

fn named(mailbox: &GatewayMailboxView) -> String {
    format!("\"{}\" ({})", mailbox.name, mailbox.login)
}

fn described(mailbox: &GatewayMailboxView) -> String {
    let profile = match mailbox.profile {
        Profile::Microsoft365 => "microsoft365",
        Profile::Generic => "generic",
    };
    let tenant = mailbox.tenant.as_deref().map(|tenant| format!(", tenant {tenant}")).unwrap_or_default();
    if mailbox.role == RoleView::Ndr {
        return format!("\"{}\" active, for NDRs{tenant}", mailbox.name);
    }
    format!("\"{}\" active, profile {profile}{tenant}", mailbox.name)
}

pub(super) fn last_report(subject: &Subject, now: Timestamp) -> Vec<Finding> {
    let Some(examined) = subject.view.examined() else { return unknown(LAST_REPORT, subject) };
    each(LAST_REPORT, examined, |mailbox| judge_report(mailbox, now))
}

pub(super) fn last_fetch(subject: &Subject, now: Timestamp) -> Vec<Finding> {
    let Some(examined) = subject.view.examined() else { return unknown(LAST_FETCH, subject) };
    let hostname = &subject.settings.hostname;
    each(LAST_FETCH, examined, |mailbox| judge_fetch(mailbox, hostname, now))
}

/// What is wrong with each gateway mailbox; what is right of all in one line.
fn each(
    name: &'static str,
    examined: &Examined,
    judge: impl Fn(&MailboxExamined) -> Result<String, Finding>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut good = Vec::new();
    for mailbox in customers(examined).filter(|m| m.gateway_mailbox.state == GatewayMailboxState::Active) {
        match judge(mailbox) {
            Ok(seen) => good.push(format!("{} {seen}", named(&mailbox.gateway_mailbox))),
            Err(finding) => findings.push(finding),
        }
    }
    if good.is_empty() && findings.is_empty() {
        return vec![Finding::skipped(name, "no gateway mailbox is active")];
    }
    or_ok(findings, name, || good.join(", "))
}

fn ago(at: Timestamp, now: Timestamp) -> i64 {
    (now.unix_ms() - at.unix_ms()).max(0)
}

fn judge_report(mailbox: &MailboxExamined, now: Timestamp) -> Result<String, Finding> {
    let named = named(&mailbox.gateway_mailbox);
    let address = &mailbox.gateway_mailbox.address;
    if mailbox.gateway_mailbox.role == RoleView::Ndr {
        // Reports come back when something was wrong. None is best.
        return Ok(mailbox.last_received.map_or_else(
            || "for NDRs: none has come".to_owned(),
            |last| format!("for NDRs: the last came {} ago", span(ago(last, now))),
        ));
    }
    let Some(last) = mailbox.last_received else {
        return Err(Finding::warning(
            LAST_REPORT,
            format!("{named}: no message has come yet"),
            format!(
                "in Exchange, see that a journal rule is on and sends to {address} (`Get-JournalRule | fl`), that a mail \
                 contact with this address exists, and that port 25 of this host is open to Exchange; then send a mail the \
                 rule covers and trace it in the Exchange admin center"
            ),
        ));
    };
    let age = ago(last, now);
    if age <= REPORT_AGE_MS {
        return Ok(format!("{} ago", span(age)));
    }
    Err(Finding::warning(
        LAST_REPORT,
        format!("{named}: the last message came {} ago, at {last}", span(age)),
        format!(
            "in Exchange, see whether the journal rule is still on and sends to {address} (`Get-JournalRule | fl`), whether \
             reports wait or failed (message trace, recipient {address}), and whether the mailbox for undeliverable journal \
             reports (`Get-TransportConfig | fl JournalingReportNdrTo`) has filled; here, look for smtp events in the log"
        ),
    ))
}

fn judge_fetch(mailbox: &MailboxExamined, hostname: &str, now: Timestamp) -> Result<String, Finding> {
    let shown = &mailbox.gateway_mailbox;
    if shown.role == RoleView::Ndr {
        return Ok(format!("for NDRs: holds {}, nobody has to fetch", shown.inbox.entries));
    }
    let fetched = match mailbox.last_fetched {
        Some(at) => format!("last fetched {} ago", span(ago(at, now))),
        None => "never fetched".to_owned(),
    };
    let Some(oldest) = shown.inbox.oldest else {
        return Ok(format!("holds nothing, {fetched}"));
    };
    // A client that leaves mail on the server has fetched whatever came before.
    let is_new = mailbox.last_received > mailbox.last_fetched;
    let waits = ago(mailbox.last_fetched.map_or(oldest, |at| at.max(oldest)), now);
    if !is_new || waits <= WAITING_MS {
        return Ok(format!("holds {}, {fetched}", shown.inbox.entries));
    }
    Err(Finding::warning(
        LAST_FETCH,
        format!(
            "{}: {} messages wait, the oldest since {oldest}; {fetched}",
            named(shown),
            shown.inbox.entries
        ),
        format!(
            "see that the archive still polls {hostname} by POP3 with the login {} and the password shown when it was made; \
             what it is told stands in the log under auth.failed and pop3 events",
            shown.login
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::admin::{InboxView, ServedView};
    use crate::mail::{Maildrop, Mode};
    use crate::store::Escrow;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(NOW_MS)
    }

    fn mailbox(state: GatewayMailboxState) -> MailboxExamined {
        MailboxExamined {
            gateway_mailbox: GatewayMailboxView {
                address: "mbx-1@gw.example".to_owned(),
                login: "mbx-1".to_owned(),
                state,
                id: crate::mail::GatewayMailboxId::new(1, [0; 10]),
                name: "Contoso".to_owned(),
                tenant: Some("contoso.example".to_owned()),
                profile: Profile::Microsoft365,
                role: RoleView::Journal,
                serves: None,
                archive: true,
                created_at: now(),
                inbox: InboxView::default(),
                folders: None,
                addresses: vec![],
                mode: Mode::Observe,
                trusted_networks: vec![],
                pinned_certificates: vec![],
                recipient_headers: vec![],
                sender_headers: vec![],
                grace_days: 7,
                inbox_retention_days: None,
                user_retention_days: None,
                holds: vec![],
                maildrop: Maildrop::default(),
                user_delete: false,
                fetching: None,
                escrow: None,
                keys: Default::default(),
                learned: None,
                recent: None,
                notes: vec![],
            },
            self_test: false,
            last_received: None,
            last_fetched: None,
        }
    }

    fn check(mailboxes: Vec<MailboxExamined>, expect: &[(Status, &str)]) {
        let examined = Examined {
            directories: Vec::new(),
            pid: 1,
            uid: 1,
            readiness: None,
            newest: None,
            scrub: None,
            keeping: None,
            pullers: Vec::new(),
            gateway_mailboxes: mailboxes,
        };
        let found = judge(&examined, &Exchange::default(), |arguments| format!("daybook {arguments}"));
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (found, (status, word)) in found.iter().zip(expect) {
            assert_eq!(found.status, *status, "{found:?}");
            let text = format!("{} {}", found.seen, found.fix.as_deref().unwrap_or_default());
            assert!(text.contains(word), "{word} is not in {text}");
        }
    }

    #[test]
    fn one_must_be_active_and_the_one_for_self_tests_does_not_count() {
        use GatewayMailboxState::{Active, Suspended};
        let own = MailboxExamined { self_test: true, ..mailbox(Active) };
        check(vec![], &[(Status::Problem, "`daybook mailbox create --name NAME`")]);
        check(vec![own], &[(Status::Problem, "there is none")]);
        check(vec![mailbox(Active)], &[(Status::Ok, "profile microsoft365, tenant contoso.example")]);
        check(vec![mailbox(Suspended)], &[(Status::Problem, "`daybook mailbox resume mbx-1`")]);
        check(vec![mailbox(Active), mailbox(Suspended)], &[(Status::Warning, "is suspended")]);
    }

    #[test]
    fn holding_everything_back_and_trusting_everybody_are_told() {
        let with = |mode, tenant: Option<&str>, trusted: &[&str]| {
            let mut one = mailbox(GatewayMailboxState::Active);
            one.gateway_mailbox.mode = mode;
            one.gateway_mailbox.tenant = tenant.map(str::to_owned);
            one.gateway_mailbox.trusted_networks = trusted.iter().map(|n| n.parse().unwrap()).collect();
            vec![one]
        };
        check(with(Mode::Observe, None, &[]), &[(Status::Ok, "active")]);
        check(with(Mode::Enforce, None, &[]), &[(Status::Warning, "`daybook mailbox pin mbx-1`")]);
        check(with(Mode::Strict, None, &[]), &[(Status::Warning, "all mail is held back in Quarantine")]);
        check(with(Mode::Enforce, Some("contoso.example"), &[]), &[(Status::Ok, "active")]);
        check(with(Mode::Enforce, None, &["192.0.2.0/24"]), &[(Status::Ok, "active")]);
        check(with(Mode::Observe, None, &["0.0.0.0/0"]), &[(Status::Warning, "every tenant of Microsoft")]);
    }

    #[test]
    fn to_an_ndr_mailbox_nothing_need_come_but_it_must_serve_one_that_is_there() {
        let serving = |login: Option<&str>| {
            let mut one = mailbox(GatewayMailboxState::Active);
            one.gateway_mailbox.role = RoleView::Ndr;
            let id = crate::mail::GatewayMailboxId::new(2, [0; 10]);
            one.gateway_mailbox.serves = Some(ServedView { id, login: login.map(str::to_owned), name: None });
            one
        };
        check(vec![serving(Some("mbx-2"))], &[(Status::Ok, "for NDRs")]);
        check(vec![serving(None)], &[(Status::Problem, "go to nobody")]);
        let mut one = serving(Some("mbx-2"));
        assert!(judge_report(&one, now()).is_ok(), "none has come");
        one.last_received = hours_ago(9_999);
        one.gateway_mailbox.inbox = InboxView { entries: 1, octets: 9, oldest: hours_ago(9_999) };
        assert!(judge_report(&one, now()).is_ok() && judge_fetch(&one, "gw.example", now()).is_ok());
    }

    #[test]
    fn one_that_an_escrow_recipient_cannot_open_is_told() {
        let with = |open_by: &[&str], missing: &[&str]| {
            let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let mut one = mailbox(GatewayMailboxState::Active);
            let escrow = Escrow { open_by: all(open_by), missing: all(missing), others: 0 };
            one.gateway_mailbox.escrow = Some(escrow);
            vec![one]
        };
        check(with(&[], &[]), &[(Status::Warning, "nothing but its password opens it")]);
        check(with(&["age1a"], &[]), &[(Status::Ok, "active")]);
        check(with(&["age1a"], &["age1b"]), &[(Status::Warning, "1 of 2 escrow recipients cannot open it")]);
        check(with(&[], &["age1b"]), &[(Status::Warning, "`daybook mailbox escrow mbx-1`")]);
    }

    fn hours_ago(hours: i64) -> Option<Timestamp> {
        Some(Timestamp::from_unix_ms(NOW_MS - hours * 3_600_000))
    }

    #[test]
    fn reports_are_missed_after_three_days() {
        let after = |last_received| {
            let mailbox = MailboxExamined { last_received, ..mailbox(GatewayMailboxState::Active) };
            judge_report(&mailbox, now()).map_err(|finding| finding.seen)
        };
        assert_eq!(after(hours_ago(71)), Ok("2 days ago".to_owned()));
        assert!(after(hours_ago(73)).unwrap_err().contains("came 3 days ago"));
        assert!(after(None).unwrap_err().contains("no message has come yet"));
    }

    #[test]
    fn fetching_is_missed_when_something_new_waits_for_a_day() {
        let after = |oldest, last_received, last_fetched| {
            let mut mailbox =
                MailboxExamined { last_received, last_fetched, ..mailbox(GatewayMailboxState::Active) };
            mailbox.gateway_mailbox.inbox = InboxView { entries: 3, octets: 9, oldest };
            judge_fetch(&mailbox, "gw.example", now()).is_ok()
        };
        assert!(after(None, hours_ago(99), hours_ago(90)), "nothing waits");
        assert!(after(hours_ago(2), hours_ago(1), None), "it has not waited long");
        assert!(!after(hours_ago(25), hours_ago(1), None), "never fetched");
        assert!(
            after(hours_ago(500), hours_ago(400), hours_ago(399)),
            "left on the server, all of it fetched"
        );
        assert!(after(hours_ago(500), hours_ago(1), hours_ago(3)), "fetched a while ago");
        assert!(!after(hours_ago(500), hours_ago(1), hours_ago(30)), "fetched too long ago");
    }
}
