//! Hands one mail to the relay.
//!
//! With `security = "starttls"` a relay that does not offer it gets nothing, not even the name of the user: whoever can take
//! the offer out of the relay's greeting could otherwise read the password. The password file is read for each mail.

use super::outbox::{Kind, Letter};
use crate::config::{AlertMail, RelayLogin, RelaySecurity};
use crate::mail::NOTICE_ID_BEGINNING;
use crate::net::private_file::{self, Secret};
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use zeroize::Zeroizing;

/// How long handing over one mail may take.
const SEND_WAIT: Duration = Duration::from_secs(30);
/// Longest password read, in octets.
const PASSWORD_OCTETS_MAX: u64 = 4_096;
/// Largest file of authorities read, in octets.
const CA_OCTETS_MAX: u64 = 1024 * 1024;

/// Why a mail was not taken. Always worth another try: the operator may have mended it by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MailError {
    /// One word for what failed, the same for the same failure.
    pub(super) kind: &'static str,
    /// What failed, with the relay's answer.
    pub(super) why: String,
}

/// The way to the relay.
#[derive(Clone, Debug)]
pub(super) struct Mailer {
    mail: AlertMail,
    hostname: String,
}

impl Mailer {
    pub(super) fn new(mail: AlertMail, hostname: &str) -> Mailer {
        Mailer { mail, hostname: hostname.to_owned() }
    }

    pub(super) fn relay(&self) -> &str {
        &self.mail.relay
    }

    pub(super) fn recipients(&self) -> Vec<String> {
        self.mail.to.iter().map(|address| address.as_str().to_owned()).collect()
    }

    /// What is wrong with how the password is kept, if anything.
    pub(super) fn password_trouble(&self) -> Option<String> {
        let file = &self.mail.login.as_ref()?.password_file;
        match fs::metadata(file) {
            Err(error) => Some(format!("{} cannot be read: {error}", file.display())),
            Ok(_) => private_file::check(file, Secret::Lent).err().map(|exposed| exposed.to_string()),
        }
    }

    /// Hands `letter` over for one recipient; gives what the relay said.
    pub(super) async fn send(&self, letter: &Letter, to: &str) -> Result<String, MailError> {
        let (octets, envelope) = self.written(letter, to)?;
        let mailer = self.clone();
        // Files are read, those of the system's authorities too.
        let transport = tokio::task::spawn_blocking(move || mailer.transport())
            .await
            .map_err(|error| MailError { kind: "broken", why: error.to_string() })??;
        match tokio::time::timeout(SEND_WAIT, transport.send_raw(&envelope, &octets)).await {
            Ok(Ok(response)) => {
                let said: Vec<&str> = response.message().collect();
                Ok(format!("{} {}", response.code(), said.join(" ")))
            }
            Ok(Err(error)) => Err(MailError { kind: kind(&error), why: chain(&error) }),
            Err(_) => {
                let why = format!("the relay did not take it within {} s", SEND_WAIT.as_secs());
                Err(MailError { kind: "late", why })
            }
        }
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
        let mail = &self.mail;
        let security = match mail.security {
            RelaySecurity::StartTls => Tls::Required(self.tls()?),
            RelaySecurity::Tls => Tls::Wrapper(self.tls()?),
            RelaySecurity::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(mail.relay.as_str())
            .port(mail.port)
            .tls(security)
            .timeout(Some(SEND_WAIT))
            .hello_name(ClientId::Domain(self.hostname.clone()));
        if let Some(RelayLogin { username, password_file }) = &mail.login {
            let password = password(password_file)?;
            builder = builder.credentials(Credentials::new(username.clone(), password.as_str().to_owned()));
        }
        Ok(builder.build())
    }

    fn tls(&self) -> Result<TlsParameters, MailError> {
        let mut builder = TlsParameters::builder(self.mail.relay.clone());
        if let Some(file) = &self.mail.ca_file {
            let trouble = |why: String| MailError {
                kind: "ca_file",
                why: format!("ca_file {}: {why}", file.display()),
            };
            let pem = read(file, CA_OCTETS_MAX).map_err(|error| trouble(error.to_string()))?;
            let authority = Certificate::from_pem(&pem).map_err(|error| trouble(chain(&error)))?;
            builder = builder.add_root_certificate(authority);
        }
        builder.build().map_err(|error| MailError { kind: "tls", why: chain(&error) })
    }

    /// The mail as it goes over the wire, and its envelope.
    fn written(&self, letter: &Letter, to: &str) -> Result<(Vec<u8>, Envelope), MailError> {
        let wrong = |error: &dyn Error| MailError { kind: "form", why: chain(error) };
        let parse = |text: &str| text.parse::<Address>().map_err(|error| wrong(&error));
        let from = parse(self.mail.from.as_str())?;
        let milliseconds = u64::try_from(letter.at.unix_ms()).unwrap_or(0);
        let mut builder = Message::builder()
            .from(Mailbox::new(Some("Daybook".to_owned()), from.clone()))
            .subject(letter.subject.as_str())
            .date(UNIX_EPOCH + Duration::from_millis(milliseconds))
            .message_id(Some(format!("{NOTICE_ID_BEGINNING}{}@{}>", letter.id, self.hostname)))
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("X-Daybook-Notice"),
                self.hostname.clone(),
            ));
        for recipient in self.recipients() {
            builder = builder.to(Mailbox::new(None, parse(&recipient)?));
        }
        let text = SinglePart::plain(letter.text.clone());
        let message = match &letter.attachment {
            None => builder.singlepart(text),
            Some(json) => {
                let json_type = ContentType::parse("application/json").map_err(|error| wrong(&error))?;
                let attached = Attachment::new("status.json".to_owned()).body(json.clone(), json_type);
                builder.multipart(MultiPart::mixed().singlepart(text).singlepart(attached))
            }
        };
        let message = message.map_err(|error| wrong(&error))?;
        let envelope = Envelope::new(Some(from), vec![parse(to)?]).map_err(|error| wrong(&error))?;
        Ok((message.formatted(), envelope))
    }
}

impl Kind {
    /// Its name in the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Alert => "alert",
            Kind::Report => "report",
        }
    }
}

fn read(file: &Path, octets_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut octets = Zeroizing::new(Vec::new());
    File::open(file)?.take(octets_max + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > octets_max {
        return Err(io::Error::other(format!("is larger than {octets_max} octets")));
    }
    Ok(octets)
}

fn password(file: &Path) -> Result<Zeroizing<String>, MailError> {
    let trouble = |why: String| MailError {
        kind: "password_file",
        why: format!("password_file {}: {why}", file.display()),
    };
    let octets = read(file, PASSWORD_OCTETS_MAX).map_err(|error| trouble(error.to_string()))?;
    let text = std::str::from_utf8(&octets).map_err(|_| trouble("is not UTF-8 text".to_owned()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(trouble("is empty".to_owned()));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn kind(error: &lettre::transport::smtp::Error) -> &'static str {
    match error.status().map(u16::from) {
        Some(530..=535 | 538) => "login",
        Some(500..) => "refused",
        Some(_) => "deferred",
        None if error.is_tls() => "tls",
        None if error.is_timeout() => "late",
        None if error.is_client() => "unable",
        None if error.is_response() => "garbled",
        None => "connect",
    }
}

/// An error and what caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let further = error.to_string();
        // Some errors tell their cause themselves.
        if !text.contains(&further) {
            text.push_str(&format!(": {further}"));
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Timestamp;

    fn mailer(to: &str) -> Mailer {
        let to = vec![crate::mail::Address::parse(to).unwrap()];
        let mail = AlertMail {
            to,
            from: crate::mail::Address::parse("daybook@localhost").unwrap(),
            relay: "relay.example".to_owned(),
            port: 25,
            security: RelaySecurity::None,
            login: None,
            ca_file: None,
        };
        Mailer::new(mail, "gateway.example.com")
    }

    fn letter(attachment: Option<&str>) -> Letter {
        Letter {
            id: "abc".to_owned(),
            kind: Kind::Report,
            at: Timestamp::parse("2026-11-21T09:30:00Z").unwrap(),
            subject: "[daybook gw] No report for \"Zo\u{eb}\" since 09:14 UTC".to_owned(),
            text: "one\n.\nFrom two\n".to_owned(),
            attachment: attachment.map(str::to_owned),
        }
    }

    #[test]
    fn a_mail_is_known_for_ours_by_its_headers() {
        let (octets, envelope) =
            mailer("admin@example.net").written(&letter(Some("{}")), "admin@example.net").unwrap();
        let text = String::from_utf8(octets).unwrap();
        for line in [
            "From: Daybook <daybook@localhost>",
            "To: admin@example.net",
            "Date: Sat, 21 Nov 2026 09:30:00 +0000",
            "Message-ID: <daybook-notice.abc@gateway.example.com>",
            "Auto-Submitted: auto-generated",
            "X-Daybook-Notice: gateway.example.com",
            "MIME-Version: 1.0",
            "Content-Disposition: attachment; filename=\"status.json\"",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line} is not in\n{text}");
        }
        assert!(text.is_ascii() && text.contains("Subject: [daybook gw] No report for"), "{text}");
        assert_eq!(envelope.to().len(), 1);
        assert_eq!(envelope.from().map(ToString::to_string).unwrap(), "daybook@localhost");
    }

    #[test]
    fn every_address_the_configuration_takes_can_be_written_to() {
        for to in
            ["root@localhost", "a+b.c@x.example", "o'hara_1@192-0-2-1.example", "a@xn--bcher-kva.example"]
        {
            assert!(mailer(to).written(&letter(None), to).is_ok(), "{to}");
        }
    }

    #[test]
    fn a_password_file_that_will_not_do_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        assert_eq!(password(&file).unwrap_err().kind, "password_file");
        for (octets, good) in
            [(&b"secret\r\n"[..], true), (b"\n", false), (b"\xff", false), (&[b'a'; 5_000], false)]
        {
            fs::write(&file, octets).unwrap();
            assert_eq!(password(&file).is_ok(), good, "{octets:?}");
        }
        fs::write(&file, "sec ret\n").unwrap();
        assert_eq!(password(&file).unwrap().as_str(), "sec ret");
    }
}
