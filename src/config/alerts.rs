//! `[alerts]`: what alarms and status mail need to know, and how mail about them leaves.

use super::check::{Reader, is_host_name};
use super::section::{At, Section};
use crate::mail::{Address, Untrusted};
use std::net::IpAddr;
use std::path::PathBuf;

/// Most recipients: alerts are for those who mind the gateway.
pub const ALERT_RECIPIENTS_MAX: usize = 10;
/// Longest span in hours: a year.
const HOURS_MAX: u64 = 8_760;
/// `fetch_silence_hours` unless told otherwise.
const FETCH_SILENCE_HOURS: u64 = 24;
/// `remind_hours` unless told otherwise.
const REMIND_HOURS: u64 = 24;
/// `disk_margin_bytes` unless told otherwise: 1 GiB.
const DISK_MARGIN_BYTES: u64 = 1024 * 1024 * 1024;
/// Keys that mean nothing without `to` and `relay`.
const MAIL_KEYS: [&str; 6] = ["from", "port", "security", "username", "password_file", "ca_file"];
/// `daily_report_at` unless told otherwise: 7:00, in minutes.
const DAILY_REPORT_MINUTE: u16 = 7 * 60;

/// Alarms and status mail. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// How mail leaves; `None` without `to` and `relay`. Alarms are then logged and shown, not mailed.
    pub mail: Option<AlertMail>,
    /// `daily_report_at`: when the status report is mailed, in minutes after midnight UTC, written `"07:00"`; `None` is
    /// `"off"`. Default `"07:00"`.
    pub daily_report_minute: Option<u16>,
    /// `fetch_silence_hours`: mail may wait so long without a login before it is an alarm. 0 is for ever, at most a
    /// year. Default 24.
    pub fetch_silence_hours: u64,
    /// `remind_hours`: an alarm that lasts is told again after so long. 0 is never, at most a year. Default 24.
    pub remind_hours: u64,
    /// `disk_margin_bytes`: free space, beyond the two largest messages kept in reserve, below which the disk is low, in
    /// octets. Default 1073741824 (1 GiB).
    pub disk_margin_bytes: u64,
}

/// The relay alerts and status mail are handed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertMail {
    /// `to`: one to [`ALERT_RECIPIENTS_MAX`] addresses, none of them in `domains`. Goes with `relay`.
    pub to: Vec<Address>,
    /// `from`: sender, where the relay's bounces go. Default `daybook@` and the `hostname`.
    pub from: Address,
    /// `relay`: host name or IP address. Goes with `to`.
    pub relay: String,
    /// `port`. Default 587, 465 or 25, as `security` is `"starttls"`, `"tls"` or `"none"`.
    pub port: u16,
    /// `security`. Default `"starttls"`.
    pub security: RelaySecurity,
    /// `username` and `password_file`; both or neither, and not with `security = "none"`. Default: absent.
    pub login: Option<RelayLogin>,
    /// `ca_file`: PEM file with further authorities to trust for the relay, besides the system's. Default: absent.
    pub ca_file: Option<PathBuf>,
}

/// How to log in to the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayLogin {
    /// `username`.
    pub username: String,
    /// `password_file`: holds the password and nothing else; read for every mail, so it may change at any time.
    pub password_file: PathBuf,
}

/// `[alerts] security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelaySecurity {
    /// STARTTLS; nothing is sent to a relay that does not offer it.
    #[default]
    StartTls,
    /// TLS from the first octet.
    Tls,
    /// In clear.
    None,
}

impl RelaySecurity {
    const ALL: [RelaySecurity; 3] = [RelaySecurity::StartTls, RelaySecurity::Tls, RelaySecurity::None];

    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            RelaySecurity::StartTls => "starttls",
            RelaySecurity::Tls => "tls",
            RelaySecurity::None => "none",
        }
    }

    fn port(self) -> u16 {
        match self {
            RelaySecurity::StartTls => 587,
            RelaySecurity::Tls => 465,
            RelaySecurity::None => 25,
        }
    }
}

impl Default for Alerts {
    fn default() -> Alerts {
        Alerts {
            mail: None,
            daily_report_minute: Some(DAILY_REPORT_MINUTE),
            fetch_silence_hours: FETCH_SILENCE_HOURS,
            remind_hours: REMIND_HOURS,
            disk_margin_bytes: DISK_MARGIN_BYTES,
        }
    }
}

impl Alerts {
    /// `daily_report_at` as the file writes it.
    pub fn daily_report_at(&self) -> String {
        let written = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        self.daily_report_minute.map_or_else(|| "off".to_owned(), written)
    }
}

/// `HH:MM` in minutes.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let is_pair = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
        if is_pair { digits.parse::<u16>().ok() } else { None }
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

impl Reader<'_> {
    pub(super) fn alerts(
        &mut self,
        mut section: Section<'_, '_>,
        hostname: Option<&str>,
        domains: Option<&[String]>,
    ) -> Alerts {
        let mut alerts = Alerts::default();
        let mail = self.alert_mail(&mut section, hostname.unwrap_or_default(), domains.unwrap_or_default());
        alerts.mail = mail;
        if let Some(at) = section.string("daily_report_at", self.problems) {
            alerts.daily_report_minute = minute_of_day(&at.value);
            if alerts.daily_report_minute.is_none() && at.value != "off" {
                let why =
                    format!("\"{}\" is no time of the day like \"07:00\", nor \"off\"", Untrusted(&at.value));
                section.bad_value("daily_report_at", at.line, &why, self.problems);
            }
        }
        if let Some(hours) = section.number("fetch_silence_hours", 0..=HOURS_MAX, "hours", self.problems) {
            alerts.fetch_silence_hours = hours;
        }
        if let Some(hours) = section.number("remind_hours", 0..=HOURS_MAX, "hours", self.problems) {
            alerts.remind_hours = hours;
        }
        let bytes = section.number("disk_margin_bytes", 0..=i64::MAX.unsigned_abs(), "octets", self.problems);
        alerts.disk_margin_bytes = bytes.unwrap_or(alerts.disk_margin_bytes);
        section.finish(self.problems);
        alerts
    }

    fn alert_mail(
        &mut self,
        section: &mut Section<'_, '_>,
        hostname: &str,
        domains: &[String],
    ) -> Option<AlertMail> {
        let to = section.strings("to", self.problems);
        let from = section.string("from", self.problems);
        let relay = section.string("relay", self.problems);
        let port = section.number("port", 1..=u64::from(u16::MAX), "for a port", self.problems);
        let security = section.string("security", self.problems);
        let username = section.string("username", self.problems);
        let password_file = section.string("password_file", self.problems);
        let ca_file = section.string("ca_file", self.problems);

        let known = RelaySecurity::ALL.map(|value| (value.as_str(), value));
        let security = security.and_then(|given| self.choice(section, "security", &given, &known));
        let security = security.unwrap_or_default();
        let login = self.relay_login(section, username, password_file, security);
        let ca_file = ca_file.and_then(|path| self.path(section, "ca_file", path));
        let to = to.map(|to| self.recipients(section, to, domains));
        let from = match from {
            Some(from) => self.plain_address(section, "from", &from),
            // A host name that is none has been reported.
            None => Address::parse(&format!("daybook@{hostname}")).ok(),
        };
        if let Some(relay) = &relay
            && !is_host_name(&relay.value)
            && relay.value.parse::<IpAddr>().is_err()
        {
            let why = format!("\"{}\" is neither a host name nor an IP address", Untrusted(&relay.value));
            section.bad_value("relay", relay.line, &why, self.problems);
        }
        match (&to, &relay) {
            (Some(_), None) if !section.has("relay") => {
                section.missing(
                    "relay",
                    "recipients are of no use without the host to hand mail to",
                    self.problems,
                );
            }
            (None, Some(_)) if !section.has("to") => {
                section.missing("to", "a relay is of no use without recipients", self.problems);
            }
            (None, None) if MAIL_KEYS.iter().any(|key| section.has(key)) => {
                section.missing("relay", "without it, and \"to\", no mail leaves", self.problems);
            }
            _ => {}
        }
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(security.port());
        Some(AlertMail { to: to?, from: from?, relay: relay?.value, port, security, login, ca_file })
    }

    fn relay_login(
        &mut self,
        section: &Section<'_, '_>,
        username: Option<At<String>>,
        password_file: Option<At<String>>,
        security: RelaySecurity,
    ) -> Option<RelayLogin> {
        match (username, password_file) {
            (Some(username), Some(password_file)) => {
                if security == RelaySecurity::None {
                    let why = "a password is never sent in clear: security must be \"starttls\" or \"tls\"";
                    section.bad_value("username", username.line, why, self.problems);
                }
                let password_file = self.path(section, "password_file", password_file)?;
                Some(RelayLogin { username: username.value, password_file })
            }
            (Some(_), None) if !section.has("password_file") => {
                section.missing(
                    "password_file",
                    "a user name is of no use without its password",
                    self.problems,
                );
                None
            }
            (None, Some(_)) if !section.has("username") => {
                section.missing("username", "a password is of no use without its user name", self.problems);
                None
            }
            _ => None,
        }
    }

    /// None may be a gateway mailbox: an alert about one would arrive in it, and be the next thing to be alarmed about.
    fn recipients(
        &mut self,
        section: &Section<'_, '_>,
        to: At<Vec<At<String>>>,
        domains: &[String],
    ) -> Vec<Address> {
        if to.value.is_empty() || to.value.len() > ALERT_RECIPIENTS_MAX {
            let why = format!("must name 1 to {ALERT_RECIPIENTS_MAX} recipients");
            section.bad_value("to", to.line, &why, self.problems);
        }
        let mut recipients = Vec::new();
        for given in &to.value {
            let Some(address) = self.plain_address(section, "to", given) else { continue };
            if domains.iter().any(|domain| domain.eq_ignore_ascii_case(address.domain())) {
                let why = format!(
                    "\"{}\" is in one of \"domains\": alerts must not go into what they are about",
                    Untrusted(&given.value)
                );
                section.bad_value("to", given.line, &why, self.problems);
            }
            recipients.push(address);
        }
        recipients
    }

    /// An address every relay takes: ASCII, nothing quoted.
    fn plain_address(&mut self, section: &Section<'_, '_>, key: &str, given: &At<String>) -> Option<Address> {
        let address = Address::parse(&given.value).ok();
        let address =
            address.filter(|address| address.as_str().is_ascii() && !address.local().starts_with('"'));
        if address.is_none() {
            let why = format!("\"{}\" is not an address like \"admin@example.net\"", Untrusted(&given.value));
            section.bad_value(key, given.line, &why, self.problems);
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_day_reads_back_as_written() {
        for text in ["00:00", "07:00", "23:59"] {
            let alerts = Alerts { daily_report_minute: minute_of_day(text), ..Alerts::default() };
            assert_eq!(alerts.daily_report_at(), text);
        }
        for text in ["", "7:00", "24:00", "12:60", "12:3", "+1:00", "12:00:00", "٠٧:٠٠"] {
            assert_eq!(minute_of_day(text), None, "{text}");
        }
    }
}
