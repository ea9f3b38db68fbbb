//! From the text of the file to [`Settings`]: each key once, with its type, its bounds and what it must agree with.

use super::error::ConfigErrors;
use super::section::{At, Problems, Section, parse_document};
use super::settings::*;
use crate::mail::Untrusted;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Largest configuration file read, in octets.
const FILE_OCTETS_MAX: u64 = 1024 * 1024;

/// What [`parse`] calls a text that came from no file.
const UNNAMED: &str = "daybook.toml";

/// `[http] listen` that turns it off.
const HTTP_OFF: &str = "off";

/// Bounds of `[log] rotate_bytes`, if it is not 0.
const LOG_ROTATE_BYTES_BOUNDS: RangeInclusive<u64> = LOG_ROTATE_BYTES_MIN..=LOG_ROTATE_BYTES_MAX;

/// Longest host name, in octets, as text without a final dot (RFC 1035 §3.1).
const HOSTNAME_OCTETS_MAX: usize = 253;

/// Reads and checks the configuration in `path`. Relative paths in it are taken from the file's folder.
///
/// # Errors
/// Every fault found, with line and key; or that the file cannot be read. Always the operator's to mend.
pub fn load(path: &Path) -> Result<Settings, ConfigErrors> {
    let cannot_read =
        |error: std::io::Error| ConfigErrors::whole_file(path, format!("cannot be read: {error}"));
    let file = std::fs::File::open(path).map_err(cannot_read)?;
    let mut octets = Vec::new();
    file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets).map_err(cannot_read)?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(ConfigErrors::whole_file(path, format!("is larger than {FILE_OCTETS_MAX} octets")));
    }
    let Ok(text) = String::from_utf8(octets) else {
        return Err(ConfigErrors::whole_file(path, "is not UTF-8 text".to_owned()));
    };
    let absolute = std::path::absolute(path).map_err(cannot_read)?;
    parse_named(&text, path, absolute.parent().unwrap_or(Path::new("/")))
}

/// Checks a configuration given as text. Relative paths in it are taken from `base_dir`.
///
/// # Errors
/// Every fault found, with line and key. Always the operator's to mend.
pub fn parse(text: &str, base_dir: &Path) -> Result<Settings, ConfigErrors> {
    parse_named(text, Path::new(UNNAMED), base_dir)
}

fn parse_named(text: &str, file: &Path, base_dir: &Path) -> Result<Settings, ConfigErrors> {
    parse_document(text, file, |root, problems| {
        let mut reader = Reader { base_dir, problems, bound: HashMap::new() };
        reader.settings(root)
    })
}

/// What the readers of all sections share.
pub(super) struct Reader<'a> {
    base_dir: &'a Path,
    pub(super) problems: &'a mut Problems,
    /// Who listens where: two services on one port would fail only when bound.
    bound: HashMap<SocketAddr, String>,
}

impl Reader<'_> {
    fn settings(&mut self, root: &mut Section<'_, '_>) -> Option<Settings> {
        let hostname = self.hostname(root);
        let domains = self.domains(root);
        let data_dir = root.required("data_dir", "the folder to keep everything in", self.problems);
        let data_dir = data_dir.and_then(|dir| self.path(root, "data_dir", dir));
        let tls = root.section("tls", "[tls]", self.problems).and_then(|section| self.tls(section));
        let smtp = root.section("smtp", "[smtp]", self.problems);
        let exchange = root.section("exchange", "[exchange]", self.problems);
        let pop3 = root.section("pop3", "[pop3]", self.problems);
        let imap = root.section("imap", "[imap]", self.problems);
        let http = root.section("http", "[http]", self.problems);
        let log = root.section("log", "[log]", self.problems);
        let assign = root.section("assign", "[assign]", self.problems);
        let keys = root.section("keys", "[keys]", self.problems);
        let store = root.section("store", "[store]", self.problems);
        let alerts = root.section("alerts", "[alerts]", self.problems);
        let alerts = alerts.map(|section| self.alerts(section, hostname.as_deref(), domains.as_deref()));
        let sources = root.sections("directory", "[[directory]]", self.problems);
        let pullers = root.sections("puller", "[[puller]]", self.problems);
        let settings = Settings {
            hostname: hostname.unwrap_or_default(),
            domains: domains.unwrap_or_default(),
            data_dir: data_dir.unwrap_or_default(),
            tls,
            // Read even when absent: the defaults, too, take part in the check for ports used twice.
            smtp: self.smtp(smtp),
            exchange: exchange.map(|section| self.exchange(section)).unwrap_or_default(),
            pop3: self.pop3(pop3),
            imap: imap.map(|section| self.imap(section)),
            http: http.map(|section| self.http(section)),
            log: log.map(|section| self.log(section)).unwrap_or_default(),
            assign: assign.map(|section| self.assign(section)).unwrap_or_default(),
            keys: keys.map(|section| self.keys(section)).unwrap_or_default(),
            store: store.map(|section| self.store(section)).unwrap_or_default(),
            alerts: alerts.unwrap_or_default(),
            directories: self.directories(sources),
            pullers: self.pullers(pullers),
        };
        Some(settings)
    }

    fn hostname(&mut self, root: &mut Section<'_, '_>) -> Option<String> {
        let name = root.required(
            "hostname",
            "the name of this host in greetings and its certificate",
            self.problems,
        )?;
        self.host_name(root, "hostname", &name);
        Some(name.value)
    }

    fn domains(&mut self, root: &mut Section<'_, '_>) -> Option<Vec<String>> {
        let what = "at least one right-hand side of gateway mailbox addresses";
        let Some(domains) = root.strings("domains", self.problems) else {
            // A wrong type has been reported; only absence has not.
            if !root.has("domains") {
                root.missing("domains", what, self.problems);
            }
            return None;
        };
        if domains.value.is_empty() {
            root.bad_value("domains", domains.line, &format!("must name {what}"), self.problems);
        }
        let mut seen = HashSet::new();
        for domain in &domains.value {
            self.host_name(root, "domains", domain);
            if !seen.insert(domain.value.to_ascii_lowercase()) {
                let why = format!("\"{}\" stands twice", Untrusted(&domain.value));
                root.bad_value("domains", domain.line, &why, self.problems);
            }
        }
        Some(domains.value.into_iter().map(|domain| domain.value.to_ascii_lowercase()).collect())
    }

    fn tls(&mut self, mut section: Section<'_, '_>) -> Option<TlsFiles> {
        let certificate = section.string("certificate", self.problems);
        let private_key = section.string("private_key", self.problems);
        section.finish(self.problems);
        match (certificate, private_key) {
            (Some(certificate), Some(private_key)) => Some(TlsFiles {
                certificate: self.path(&section, "certificate", certificate)?,
                private_key: self.path(&section, "private_key", private_key)?,
            }),
            (Some(_), None) if !section.has("private_key") => {
                section.missing("private_key", "a certificate is of no use without its key", self.problems);
                None
            }
            (None, Some(_)) if !section.has("certificate") => {
                section.missing(
                    "certificate",
                    "a private key is of no use without its certificate",
                    self.problems,
                );
                None
            }
            _ => None,
        }
    }

    fn pop3(&mut self, section: Option<Section<'_, '_>>) -> Pop3 {
        let mut pop3 = Pop3::default();
        let Some(mut section) = section else {
            self.claim_defaults("[pop3] listen", &pop3.listen);
            self.claim_defaults("[pop3] listen_tls", &pop3.listen_tls);
            return pop3;
        };
        self.listeners(&mut section, "listen", "[pop3] listen", &mut pop3.listen);
        self.listeners(&mut section, "listen_tls", "[pop3] listen_tls", &mut pop3.listen_tls);
        section.finish(self.problems);
        pop3
    }

    fn imap(&mut self, mut section: Section<'_, '_>) -> Imap {
        let mut imap = Imap::default();
        self.listeners(&mut section, "listen", "[imap] listen", &mut imap.listen);
        self.listeners(&mut section, "listen_tls", "[imap] listen_tls", &mut imap.listen_tls);
        section.finish(self.problems);
        imap
    }

    fn http(&mut self, mut section: Section<'_, '_>) -> Http {
        let mut http = Http::default();
        let given = section.string("listen", self.problems);
        let line = given.as_ref().map(|given| given.line).or(section.line()).unwrap_or(1);
        if let Some(given) = given {
            http.listen = given.value.parse().ok();
            if http.listen.is_none() && given.value != HTTP_OFF {
                let why = format!(
                    "\"{}\" is neither an IP address and port, like \"127.0.0.1:8450\", nor \"{HTTP_OFF}\"",
                    Untrusted(&given.value)
                );
                section.bad_value("listen", line, &why, self.problems);
            }
        }
        if let Some(address) = http.listen {
            self.claim(&section, "listen", "[http] listen", line, address);
        }
        section.finish(self.problems);
        http
    }

    fn log(&mut self, mut section: Section<'_, '_>) -> Log {
        let mut log = Log::default();
        if let Some(format) = section.string("format", self.problems) {
            let known = LogFormat::ALL.map(|value| (value.as_str(), value));
            log.format = self.choice(&section, "format", &format, &known).unwrap_or_default();
        }
        if let Some(level) = section.string("level", self.problems) {
            let known = LogLevel::ALL.map(|value| (value.as_str(), value));
            log.level = self.choice(&section, "level", &level, &known).unwrap_or_default();
        }
        let file = section.string("file", self.problems);
        log.file = file.and_then(|file| self.path(&section, "file", file));
        if let Some(bytes) =
            section.number_or_zero("rotate_bytes", LOG_ROTATE_BYTES_BOUNDS, "octets", self.problems)
        {
            log.rotate_bytes = bytes;
        }
        let days = section.number("rotate_days", 0..=LOG_ROTATE_DAYS_MAX, "days", self.problems);
        log.rotate_days = days.and_then(|days| days.try_into().ok()).unwrap_or(log.rotate_days);
        let keep = section.number("keep", 1..=LOG_KEEP_MAX, "files", self.problems);
        log.keep = keep.and_then(|keep| keep.try_into().ok()).unwrap_or(log.keep);
        section.finish(self.problems);
        log
    }

    pub(super) fn path(&mut self, section: &Section<'_, '_>, key: &str, path: At<String>) -> Option<PathBuf> {
        if path.value.is_empty() || path.value.contains('\0') {
            section.bad_value(key, path.line, "must be a path", self.problems);
            return None;
        }
        Some(self.base_dir.join(path.value))
    }

    fn host_name(&mut self, section: &Section<'_, '_>, key: &str, name: &At<String>) {
        if !is_host_name(&name.value) {
            let why =
                format!("\"{}\" is not a host name, like \"gateway.example.com\"", Untrusted(&name.value));
            section.bad_value(key, name.line, &why, self.problems);
        }
    }

    pub(super) fn address(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        text: &At<String>,
    ) -> Option<SocketAddr> {
        let address = text.value.parse().ok();
        if address.is_none() {
            let text_shown = Untrusted(&text.value);
            let why = format!(
                "\"{text_shown}\" is not an IP address and port, like \"[::]:25\" or \"127.0.0.1:25\""
            );
            section.bad_value(key, text.line, &why, self.problems);
        }
        address
    }

    /// Replaces `listen` by what the file gives, if it does. Returns the line to complain about.
    pub(super) fn listeners(
        &mut self,
        section: &mut Section<'_, '_>,
        key: &'static str,
        service: &str,
        listen: &mut Vec<SocketAddr>,
    ) -> usize {
        let Some(given) = section.strings(key, self.problems) else {
            let line = section.line().unwrap_or(1);
            for address in listen.iter() {
                self.claim(section, key, service, line, *address);
            }
            return line;
        };
        let mut addresses = Vec::with_capacity(given.value.len());
        let mut all_good = true;
        for text in &given.value {
            let Some(address) = self.address(section, key, text) else {
                all_good = false;
                continue;
            };
            self.claim(section, key, service, text.line, address);
            addresses.push(address);
        }
        // Keeping the default beside a fault avoids a second complaint that nothing is listened on.
        if all_good {
            *listen = addresses;
        }
        given.line
    }

    /// Notes that `service` listens on `address`, and reports it when another does already.
    fn claim(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        service: &str,
        line: usize,
        address: SocketAddr,
    ) {
        if address.port() == 0 {
            return;
        }
        if let Some(other) = self.bound.insert(address, service.to_owned()) {
            let why = format!("{address} is already taken by {other}");
            section.bad_value(key, line, &why, self.problems);
        }
    }

    /// As `claim`, for a section the file does not have.
    pub(super) fn claim_defaults(&mut self, service: &str, addresses: &[SocketAddr]) {
        for address in addresses {
            if let Some(other) = self.bound.insert(*address, service.to_owned()) {
                self.problems
                    .add(None, format!("{service} is {address} by default, already taken by {other}"));
            }
        }
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        given: &At<String>,
        known: &[(&str, T)],
    ) -> Option<T> {
        let found = known.iter().find(|(name, _)| *name == given.value).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let why = format!("\"{}\" is not one of {}", Untrusted(&given.value), names.join(", "));
            section.bad_value(key, given.line, &why, self.problems);
        }
        found
    }
}

/// Letters, digits and inner hyphens in dotted labels (RFC 1123 §2.1). International names are given as A-labels.
/// A name whose last label is all digits would be read as an IP address.
pub(crate) fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= HOSTNAME_OCTETS_MAX
        && name.split('.').all(is_label)
        && !name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: &str = "hostname = 'gw.example'\ndomains = ['gw.example']\ndata_dir = 'data'\n";

    fn check(extra: &str, expect: &[&str]) {
        let found = parse(&format!("{REQUIRED}{extra}"), Path::new("/etc/daybook"));
        let lines = found.err().map(|errors| errors.to_string()).unwrap_or_default();
        let expect: Vec<String> = expect.iter().map(|line| format!("daybook.toml:{line}")).collect();
        assert_eq!(lines, expect.join("\n"), "{extra}");
    }

    #[test]
    fn fills_in_defaults_and_joins_paths_to_the_folder_of_the_file() {
        let settings = parse(REQUIRED, Path::new("/etc/daybook")).unwrap();
        let data_dir = Path::new("/etc/daybook/data");
        assert_eq!(settings, Settings::with_defaults("gw.example", &["gw.example"], data_dir));
        let text = format!("{REQUIRED}[tls]\ncertificate = 'a.pem'\nprivate_key = '/b.pem'\n");
        let tls = parse(&text, Path::new("/etc/daybook")).unwrap().tls.unwrap();
        assert_eq!(tls.certificate, Path::new("/etc/daybook/a.pem"));
        assert_eq!(tls.private_key, Path::new("/b.pem"));
    }

    #[test]
    fn names_line_section_and_nearest_key_of_an_unknown_one() {
        check("\n[smtp]\nlistn = []", &["6: unknown key \"listn\" in [smtp]; did you mean \"listen\"?"]);
        check(
            "[log]\ncolour = 1",
            &[
                "5: unknown key \"colour\" in [log]; known here: format, level, file, rotate_bytes, rotate_days, keep",
            ],
        );
        check("[pop]\n", &["4: unknown key \"pop\"; did you mean \"pop3\"?"]);
        check(
            "pop3.listen_tsl = []",
            &["4: unknown key \"listen_tsl\" in [pop3]; did you mean \"listen_tls\"?"],
        );
    }

    #[test]
    fn reports_every_fault_in_line_order() {
        check(
            "[smtp]\nlisten = 25\nmax_message_bytes = '1'\n[log]\nlevel = 'loud'\nfromat = 'json'",
            &[
                "5: \"listen\" in [smtp] must be an array of strings, not a whole number",
                "6: \"max_message_bytes\" in [smtp] must be a whole number, not a string",
                "8: \"level\" in [log]: \"loud\" is not one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
                "9: unknown key \"fromat\" in [log]; did you mean \"format\"?",
            ],
        );
    }

    #[test]
    fn bounds_the_message_size() {
        let why = "\"max_message_bytes\" in [smtp]: must be between 65536 and 1073741824 octets";
        check("smtp.max_message_bytes = 65_536", &[]);
        check("smtp.max_message_bytes = 0x40000000", &[]);
        check("smtp.max_message_bytes = 65535", &[&format!("4: {why}")]);
        check("smtp.max_message_bytes = 1073741825", &[&format!("4: {why}")]);
        check("smtp.max_message_bytes = -1", &[&format!("4: {why}")]);
    }

    #[test]
    fn finds_a_port_used_twice_even_by_a_default() {
        check("[pop3]\nlisten = ['127.0.0.1:0', '127.0.0.1:0']", &[]);
        check(
            "[pop3]\nlisten = ['[::]:25']",
            &["5: \"listen\" in [pop3]: [::]:25 is already taken by [smtp] listen"],
        );
        check(
            "[smtp]\nlisten = [\n'[::]:2525',\n'[::]:2525']",
            &["7: \"listen\" in [smtp]: [::]:2525 is already taken by [smtp] listen"],
        );
    }

    #[test]
    fn wants_both_halves_of_a_certificate_or_none() {
        check("[tls]\n", &[]);
        check(
            "[tls]\ncertificate = 'a'",
            &["4: \"private_key\" in [tls] is missing: a certificate is of no use without its key"],
        );
    }

    #[test]
    fn knows_host_names() {
        for good in ["a", "gateway.example.com", "xn--bcher-kva.example", "1a.example", "a.b2"] {
            assert!(is_host_name(good), "{good}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in
            ["", "a.", ".a", "a..b", "a_b", "-a", "a-", "127.0.0.1", "[::1]", "bücher.example", "a b", &long]
        {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    #[test]
    fn keeps_quiet_about_meaning_while_the_syntax_is_broken() {
        let errors = parse("hostname = \nlisten = 3", Path::new("/")).unwrap_err();
        assert_eq!(errors.errors().first().unwrap().line, Some(1));
        assert!(errors.to_string().lines().all(|line| line.contains("not valid TOML")), "{errors}");
    }
}
