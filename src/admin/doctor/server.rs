//! `server`: one runs, it is this version, it would take mail, and it talks to us.

use super::{Examined, Finding, Subject, View, finding::or_ok};
use std::os::unix::fs::MetadataExt;

pub(super) const NAME: &str = "server";

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let owner = std::fs::metadata(&subject.settings.data_dir).ok().map(|metadata| metadata.uid());
    let we = rustix::process::geteuid().as_raw();
    judge(
        &subject.view,
        owner,
        we,
        env!("CARGO_PKG_VERSION"),
        &subject.command("serve"),
        &subject.command("doctor"),
    )
}

fn judge(view: &View, owner: Option<u32>, we: u32, version: &str, serve: &str, doctor: &str) -> Vec<Finding> {
    let as_owner = |command: &str| match owner {
        Some(owner) if owner != we => format!("`sudo -u '#{owner}' {command}`"),
        _ => format!("`{command}`"),
    };
    match view {
        View::Server(examined) => running(examined, version),
        View::Store(_) | View::Unopened => vec![stopped("no server runs".to_owned(), &as_owner(serve))],
        View::Closed(why) => {
            let seen = format!("no server runs, and what is stored cannot be looked at: {why}");
            let mut finding = stopped(seen, &as_owner(serve));
            if owner.is_some_and(|owner| owner != we)
                && let Some(fix) = &mut finding.fix
            {
                fix.push_str(&format!("; to look at the store without one, run {}", as_owner(doctor)));
            }
            vec![finding]
        }
        View::Foreign => {
            let whom =
                owner.map(|owner| format!("user {owner}")).unwrap_or_else(|| "another user".to_owned());
            vec![Finding::warning(
                NAME,
                format!(
                    "data_dir belongs to {whom}: neither it nor a server on it says anything to user {we}"
                ),
                format!("run doctor as that user or as root: {}", as_owner(doctor)),
            )]
        }
        View::Silent(why) => vec![Finding::problem(
            NAME,
            format!("a server runs and gives no usable answer: {why}"),
            "restart it: `systemctl restart daybook`, or end it and start it again as you did before",
        )],
    }
}

fn stopped(seen: String, serve: &str) -> Finding {
    let fix = format!(
        "start it: `systemctl start daybook`, or {serve} in a terminal; its log (`journalctl -u daybook`) says why it ended"
    );
    Finding::problem(NAME, seen, fix)
}

fn running(examined: &Examined, version: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(readiness) = &examined.readiness else {
        return vec![Finding::problem(NAME, "it serves nobody", "restart it: `systemctl restart daybook`")];
    };
    if readiness.version != version {
        findings.push(Finding::warning(
            NAME,
            format!("the server is version {}, this program {version}", readiness.version),
            "restart it, so that it becomes the installed version: `systemctl restart daybook`",
        ));
    }
    // What only advises has checks of its own here.
    for check in readiness.checks.iter().filter(|check| !check.good && !check.advisory) {
        let why = check.why.as_deref().unwrap_or("not as it should be");
        findings.push(Finding::problem(
            NAME,
            format!("the server takes no mail: {}: {why}", check.name),
            "senders keep what they have and try again; see the check disk, and the ERROR lines of the log: \
             `journalctl -u daybook -p err`",
        ));
    }
    or_ok(findings, NAME, || {
        format!("version {version}, process {}, user {}, ready", examined.pid, examined.uid)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::admin::{Check, Ports, Readiness};

    fn examined(version: &str, why: Option<&str>) -> Examined {
        let check = Check {
            name: "store".to_owned(),
            good: why.is_none(),
            advisory: false,
            why: why.map(str::to_owned),
        };
        Examined {
            directories: Vec::new(),
            pid: 7,
            uid: 100,
            readiness: Some(Readiness {
                ready: check.good,
                checks: vec![check],
                version: version.to_owned(),
                ports: Ports::default(),
            }),
            newest: None,
            scrub: None,
            keeping: None,
            pullers: Vec::new(),
            gateway_mailboxes: Vec::new(),
        }
    }

    fn check(view: View, owner: Option<u32>, status: Status, words: &[&str]) {
        let found = judge(&view, owner, 5, "1.0", "daybook serve", "daybook doctor");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].status, status, "{found:?}");
        let text = format!("{} {}", found[0].seen, found[0].fix.as_deref().unwrap_or_default());
        words.iter().for_each(|word| assert!(text.contains(word), "{word} is not in {text}"));
    }

    #[test]
    fn judges_who_answers_and_what() {
        check(View::Server(examined("1.0", None)), Some(5), Status::Ok, &["process 7", "user 100"]);
        check(View::Server(examined("0.9", None)), Some(5), Status::Warning, &["0.9", "1.0", "restart"]);
        check(
            View::Server(examined("1.0", Some("no space"))),
            Some(5),
            Status::Problem,
            &["store: no space"],
        );
        check(View::Store(examined("1.0", None)), Some(5), Status::Problem, &["`daybook serve`"]);
        check(View::Store(examined("1.0", None)), Some(9), Status::Problem, &["sudo -u '#9' daybook serve"]);
        check(View::Closed("locked".to_owned()), None, Status::Problem, &["locked"]);
        check(
            View::Closed("not ours".to_owned()),
            Some(9),
            Status::Problem,
            &["sudo -u '#9' daybook doctor"],
        );
        check(View::Foreign, Some(9), Status::Warning, &["user 9", "sudo -u '#9' daybook doctor"]);
        check(View::Silent("unknown op".to_owned()), Some(5), Status::Problem, &["unknown op", "restart"]);
    }
}
