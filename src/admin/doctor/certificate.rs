//! `certificate`: it can be used, names this host, is valid for a while, and is what the running server shows.

use super::{Finding, Subject, View, finding::or_ok, ports, quoted, span};
use crate::admin::probe::Smtp;
use crate::config::Settings;
use crate::mail::Timestamp;
use crate::net::certificate::{CertificateFacts, facts};
use crate::net::tls::{TlsError, TlsIdentity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::error::Error;
use std::io;
use std::path::PathBuf;

pub(super) const NAME: &str = "certificate";
const DAY_MS: i64 = 86_400_000;
/// With less left, the next outage is near.
const LEFT_PROBLEM_MS: i64 = 7 * DAY_MS;
/// With less left, renewal should have happened.
const LEFT_WARNING_MS: i64 = 28 * DAY_MS;

/// Where certbot keeps what it got; root's alone, and replaced at every renewal.
pub(super) const CERTBOT_DIR: &str = "/etc/letsencrypt";
/// How the server gets copies of that which it may read.
pub(super) const HOOK: &str = "install the deploy hook that comes with Daybook, config/certbot-hook.sh, as \
    /etc/daybook/certbot-hook.sh with mode 755 (it gives the server a copy in /etc/daybook/tls now and after every renewal)";

/// The configured certificate and key, as they lie in their files.
pub(super) struct Pair {
    certificate: PathBuf,
    key: PathBuf,
    /// Made by the server itself, for want of `[tls]`.
    ours: bool,
    chain: Vec<CertificateDer<'static>>,
    facts: Option<CertificateFacts>,
    fault: Option<TlsError>,
}

impl Pair {
    /// Reads what the settings name. What cannot be read is a fault to be judged later.
    pub(super) fn read(settings: &Settings) -> Pair {
        let [certificate, key] = match &settings.tls {
            Some(tls) => [tls.certificate.clone(), tls.private_key.clone()],
            None => TlsIdentity::self_signed_files(&settings.data_dir),
        };
        let chain = CertificateDer::pem_file_iter(&certificate)
            .map(|certificates| certificates.filter_map(Result::ok).collect::<Vec<_>>())
            .unwrap_or_default();
        Pair {
            facts: chain.first().and_then(facts),
            fault: TlsIdentity::load(&certificate, &key).err(),
            ours: settings.tls.is_none(),
            certificate,
            key,
            chain,
        }
    }

    /// The certificate itself, if it can be read.
    pub(super) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    pub(super) fn not_before(&self) -> Option<Timestamp> {
        self.facts.as_ref().map(|facts| facts.not_before)
    }

    fn is_not_made_yet(&self) -> bool {
        self.ours && !self.certificate.exists() && !self.key.exists()
    }
}

/// What the running server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Same,
    Other,
    Unknown,
}

pub(super) fn check(subject: &Subject, pair: &Pair, now: Timestamp) -> Vec<Finding> {
    if pair.is_not_made_yet() && !subject.view.server_runs() {
        return vec![Finding::skipped(NAME, "the server makes a self-signed one at its first start")];
    }
    let shown = if subject.view.server_runs() { shown(subject, pair) } else { Shown::Unknown };
    let pid = subject.view.examined().filter(|_| subject.view.server_runs()).map(|examined| examined.pid);
    let judge = Judge { subject, pair, pid };
    match &pair.fault {
        Some(TlsError::File { path, source })
            if source.kind() == io::ErrorKind::PermissionDenied && matches!(subject.view, View::Foreign) =>
        {
            vec![Finding::skipped(NAME, format!("{} is another user's: see server", path.display()))]
        }
        Some(fault) => vec![judge.fault(fault)],
        None => judge.good_pair(shown, now),
    }
}

fn shown(subject: &Subject, pair: &Pair) -> Shown {
    let seen = ports::smtp(subject).map(|address| {
        Smtp::connect(address, &subject.settings.hostname).and_then(|session| {
            let certificate = session.certificate();
            session.quit();
            certificate
        })
    });
    match (seen, pair.leaf()) {
        (Some(Ok(shown)), Some(leaf)) if shown == *leaf => Shown::Same,
        (Some(Ok(_)), Some(_)) => Shown::Other,
        // Why it does not answer is for `ports`.
        _ => Shown::Unknown,
    }
}

struct Judge<'a> {
    subject: &'a Subject,
    pair: &'a Pair,
    pid: Option<u32>,
}

impl Judge<'_> {
    fn fault(&self, fault: &TlsError) -> Finding {
        let (certificate, key) = (quoted(&self.pair.certificate), quoted(&self.pair.key));
        let why = fault.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let seen = format!("cannot {fault}{why}");
        let fix = match fault {
            // Whoever asks need not be whom the server runs as: that check knows both.
            TlsError::Exposed(_) => "close it to its group and to others: file-rights says how".to_owned(),
            _ if self.pair.ours => format!(
                "the server made this pair itself: `rm {certificate} {key}`, and the next start makes another: {}",
                self.restart()
            ),
            TlsError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => format!(
                "put it there, or correct certificate and private_key under [tls] in {}, then start the server",
                self.subject.config_file.display()
            ),
            TlsError::File { path, .. } if path.starts_with(CERTBOT_DIR) => from_certbot(self.subject),
            TlsError::File { .. } => {
                "let the server's user read certificate, key and every folder that leads to them; to see it as that user \
                 does, run doctor as it"
                    .to_owned()
            }
            TlsError::Pair(_) => format!(
                "name the key that this certificate was requested with under [tls] private_key: `openssl x509 -in \
                 {certificate} -noout -pubkey` and `openssl pkey -in {key} -pubout` must print the same"
            ),
            TlsError::Certificate | TlsError::Key | TlsError::Authorities(_) | TlsError::SelfSign(_) => format!(
                "both files are PEM text: {certificate} begins with the certificate, {key} holds its key without a password"
            ),
        };
        Finding::problem(NAME, seen, fix)
    }

    fn good_pair(&self, shown: Shown, now: Timestamp) -> Vec<Finding> {
        let Some(facts) = &self.pair.facts else {
            let fix = "get another: what cannot be read here, peers may not read either";
            return vec![Finding::warning(NAME, "names and dates of the certificate cannot be read", fix)];
        };
        let mut findings = Vec::new();
        findings.extend(self.name(facts));
        findings.extend(self.validity(facts, now));
        if shown == Shown::Other {
            findings.push(Finding::problem(
                NAME,
                format!(
                    "the running server shows another certificate than {} holds",
                    self.pair.certificate.display()
                ),
                format!("have it read its files again: {}", self.reload()),
            ));
        }
        if facts.self_signed {
            let seen = format!(
                "{} is self-signed: peers that check certificates refuse it",
                self.pair.certificate.display()
            );
            findings.push(Finding::warning(NAME, seen, self.get_one()));
        } else if self.pair.chain.len() < 2 {
            findings.push(Finding::warning(
                NAME,
                format!("{} holds no intermediate certificate: peers may not trust it", self.pair.certificate.display()),
                format!(
                    "name the file that holds the chain too, often fullchain.pem, under [tls] certificate in {}; then {}",
                    self.subject.config_file.display(),
                    self.restart()
                ),
            ));
        }
        or_ok(findings, NAME, || {
            let told = if shown == Shown::Same { ", shown by the server" } else { "" };
            format!(
                "{}, {} left{told}",
                facts.dns_names.join(", "),
                span(facts.not_after.unix_ms() - now.unix_ms())
            )
        })
    }

    fn name(&self, facts: &CertificateFacts) -> Option<Finding> {
        let hostname = &self.subject.settings.hostname;
        if facts.dns_names.iter().any(|name| covers(name, hostname)) {
            return None;
        }
        let names = match facts.dns_names.as_slice() {
            [] => "no host at all".to_owned(),
            names => names.join(", "),
        };
        let fix = if self.pair.ours {
            self.made_anew()
        } else {
            format!(
                "get one for {hostname}, or, if this host is called otherwise, correct hostname in {} and restart the server",
                self.subject.config_file.display()
            )
        };
        Some(Finding::problem(NAME, format!("it is for {names}, not for {hostname}"), fix))
    }

    fn validity(&self, facts: &CertificateFacts, now: Timestamp) -> Option<Finding> {
        let left = facts.not_after.unix_ms() - now.unix_ms();
        let seen = if left < 0 {
            format!("it expired {} ago, at {}", span(left), facts.not_after)
        } else {
            format!("it expires in {}, at {}", span(left), facts.not_after)
        };
        let fix = if self.pair.ours {
            self.made_anew()
        } else {
            format!(
                "renew it (`certbot renew`, or as it was got), put the new one into {}, then {}",
                self.pair.certificate.display(),
                self.reload()
            )
        };
        match left {
            ..LEFT_PROBLEM_MS => Some(Finding::problem(NAME, seen, fix)),
            LEFT_PROBLEM_MS..LEFT_WARNING_MS => Some(Finding::warning(NAME, seen, fix)),
            _ => None,
        }
    }

    fn made_anew(&self) -> String {
        format!(
            "the server made it itself: `rm {}`, and the next start makes another: {}",
            quoted(&self.pair.certificate),
            self.restart()
        )
    }

    fn get_one(&self) -> String {
        let hostname = &self.subject.settings.hostname;
        format!(
            "get one, such as from certbot: {HOOK}, then `certbot certonly --standalone --domain {hostname} --deploy-hook \
             /etc/daybook/certbot-hook.sh`; under [tls] in {} set certificate = \"/etc/daybook/tls/fullchain.pem\" and \
             private_key = \"/etc/daybook/tls/privkey.pem\", and {}",
            self.subject.config_file.display(),
            self.restart()
        )
    }

    fn restart(&self) -> String {
        "`systemctl restart daybook`".to_owned()
    }

    fn reload(&self) -> String {
        match self.pid {
            Some(pid) => format!("`kill -HUP {pid}`"),
            None => "`systemctl reload daybook`".to_owned(),
        }
    }
}

/// What to do when the server is to read certbot's own files: they are root's, and a right given to one goes with the renewal.
pub(super) fn from_certbot(subject: &Subject) -> String {
    let hostname = &subject.settings.hostname;
    format!(
        "leave certbot's files as they are: {HOOK}, have it run by `certbot renew --force-renewal --cert-name {hostname} \
         --deploy-hook /etc/daybook/certbot-hook.sh`, and under [tls] in {} set certificate = \"/etc/daybook/tls/fullchain.pem\" and \
         private_key = \"/etc/daybook/tls/privkey.pem\"",
        subject.config_file.display()
    )
}

/// Whether a name of a certificate stands for `host`: the same, or `*` in place of its first label (RFC 9525 §6.3).
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        None => name.eq_ignore_ascii_case(host),
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use std::path::Path;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn subject() -> Subject {
        Subject {
            config_file: "/etc/d.toml".into(),
            config_named: false,
            settings: Settings::with_defaults("gw.example", &["gw.example"], Path::new("/d")),
            notices: Vec::new(),
            reserve_octets: 0,
            view: View::Closed(String::new()),
        }
    }

    /// A pair valid for so long, its file holding so many certificates.
    fn pair(name: &str, left_ms: i64, self_signed: bool, chain: usize) -> Pair {
        Pair {
            certificate: "/c.pem".into(),
            key: "/k.pem".into(),
            ours: false,
            chain: vec![CertificateDer::from(vec![1]); chain],
            facts: Some(CertificateFacts {
                dns_names: vec![name.to_owned()],
                not_before: Timestamp::from_unix_ms(0),
                not_after: Timestamp::from_unix_ms(NOW_MS + left_ms),
                self_signed,
            }),
            fault: None,
        }
    }

    fn check(pair: &Pair, shown: Shown, expect: &[(Status, &str)]) {
        let judge = Judge { subject: &subject(), pair, pid: Some(7) };
        let found = judge.good_pair(shown, Timestamp::from_unix_ms(NOW_MS));
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (found, (status, word)) in found.iter().zip(expect) {
            assert_eq!(found.status, *status, "{found:?}");
            let text = format!("{} {}", found.seen, found.fix.as_deref().unwrap_or_default());
            assert!(text.contains(word), "{word} is not in {text}");
        }
    }

    #[test]
    fn judges_name_days_chain_and_what_is_shown() {
        use Status::{Ok, Problem, Warning};
        let good = |days: i64| pair("gw.example", days * DAY_MS, false, 2);
        check(&good(61), Shown::Same, &[(Ok, "gw.example, 61 days left, shown by the server")]);
        check(&good(27), Shown::Same, &[(Warning, "expires in 27 days")]);
        check(&good(6), Shown::Same, &[(Problem, "expires in 6 days")]);
        check(&good(-1), Shown::Same, &[(Problem, "expired 24 hours ago")]);
        check(&good(61), Shown::Other, &[(Problem, "`kill -HUP 7`")]);
        check(
            &pair("other.example", 61 * DAY_MS, false, 2),
            Shown::Same,
            &[(Problem, "for other.example, not for gw.example")],
        );
        check(&pair("gw.example", 61 * DAY_MS, false, 1), Shown::Same, &[(Warning, "fullchain.pem")]);
        let hook = "--domain gw.example --deploy-hook /etc/daybook/certbot-hook.sh`";
        check(&pair("gw.example", 61 * DAY_MS, true, 1), Shown::Same, &[(Warning, hook)]);
        let copy = "private_key = \"/etc/daybook/tls/privkey.pem\"";
        check(&pair("gw.example", 61 * DAY_MS, true, 1), Shown::Same, &[(Warning, copy)]);
        let ours = Pair { ours: true, ..pair("old.example", 61 * DAY_MS, true, 1) };
        check(&ours, Shown::Unknown, &[(Problem, "`rm /c.pem`"), (Warning, "self-signed")]);
    }

    #[test]
    fn a_star_stands_for_one_label() {
        for (name, host, expect) in [
            ("gw.example.com", "GW.example.com", true),
            ("*.example.com", "gw.example.com", true),
            ("*.example.com", "a.gw.example.com", false),
            ("*.example.com", "example.com", false),
            ("example.com", "gw.example.com", false),
        ] {
            assert_eq!(covers(name, host), expect, "{name} {host}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_say_which_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        let mut settings = subject().settings;
        settings.tls =
            Some(crate::config::TlsFiles { certificate: certificate.clone(), private_key: key.clone() });
        let seen = |word: &str| {
            let pair = Pair::read(&settings);
            let found =
                Judge { subject: &subject(), pair: &pair, pid: None }.fault(pair.fault.as_ref().unwrap());
            let text = format!("{} {}", found.seen, found.fix.unwrap());
            assert!(text.contains(word), "{word} is not in {text}");
        };
        seen("[tls] in /etc/d.toml");
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (one, other) = (made("gw.example"), made("gw.example"));
        std::fs::write(&certificate, one.cert.pem()).unwrap();
        std::fs::write(&key, "no key").unwrap();
        let set = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&key, mode).unwrap();
        };
        set(0o644);
        seen("file-rights says how");
        set(0o600);
        seen("PEM text");
        std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        seen("requested with");
        std::fs::write(&key, one.signing_key.serialize_pem()).unwrap();
        assert!(Pair::read(&settings).fault.is_none());
    }
}
