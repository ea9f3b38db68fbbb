//! Dovecot as a whole: IMAPS and POP3S on loopback with passwords and XOAUTH2, and one Maildir.

use super::support::wait_until;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// The account, and its password.
pub(crate) const LOGIN: &str = "ndr@example.net";
pub(crate) const PASSWORD: &str = "a pass\"word\\ of spaces";

/// A server at work; ended when dropped.
pub(crate) struct Dovecot {
    dir: TempDir,
    child: Child,
    key: KeyPair,
    pub(crate) imaps: u16,
    pub(crate) pop3s: u16,
}

impl Dovecot {
    pub(crate) fn start() -> Dovecot {
        let dir = tempfile::Builder::new().prefix("daybook-dovecot-").tempdir().unwrap();
        let path = dir.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["Maildir/cur", "Maildir/new", "Maildir/tmp", "run", "keys/default/RS256"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(path.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(path.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        fs::write(path.join("users"), format!("{LOGIN}:{{PLAIN}}{PASSWORD}\n")).unwrap();
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).unwrap();
        let public = BASE64_STANDARD.encode(public.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{public}\n-----END PUBLIC KEY-----\n");
        fs::write(path.join("keys/default/RS256/daybook"), pem).unwrap();
        let (imaps, pop3s) = (free_port(), free_port());
        fs::write(path.join("oauth2.conf"), oauth2(path)).unwrap();
        fs::write(path.join("dovecot.conf"), configuration(path, imaps, pop3s)).unwrap();
        let owner = ["-R", "nobody:nogroup"];
        for owned in ["Maildir", "keys"] {
            assert!(Command::new("chown").args(owner).arg(path.join(owned)).status().unwrap().success());
        }
        let child = Command::new("/usr/sbin/dovecot")
            .args(["-F", "-c"])
            .arg(path.join("dovecot.conf"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("dovecot is needed: {e}"));
        let server = Dovecot { dir, child, key, imaps, pop3s };
        wait_until("Dovecot", || {
            [imaps, pop3s].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
        });
        server
    }

    /// Its certificate, which vouches for itself.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// Has this message in its Maildir.
    pub(crate) fn receive(&self, n: usize, message: &[u8]) {
        let path = self.dir.path().join("Maildir/tmp").join(format!("{}.M{n}P1.loopback", 1_700_000_000 + n));
        fs::write(&path, message).unwrap();
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        fs::rename(&path, self.dir.path().join("Maildir/new").join(path.file_name().unwrap())).unwrap();
    }

    /// The names of the messages that are there.
    pub(crate) fn messages(&self) -> Vec<String> {
        let folders =
            ["Maildir/cur", "Maildir/new"].map(|name| fs::read_dir(self.dir.path().join(name)).unwrap());
        let mut names: Vec<String> = folders
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A token for the account that ends after so many seconds.
    pub(crate) fn token(&self, seconds: i64) -> String {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let header = serde_json::json!({ "alg": "RS256", "typ": "JWT", "kid": "daybook" });
        let claims = serde_json::json!({
            "iss": "https://sts.windows.net/", "sub": "ndr", "email": LOGIN, "iat": now - 10_000, "nbf": now - 10_000,
            "exp": now + seconds,
        });
        let encode = |part: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // The master ends its children in good order.
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn oauth2(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={dir}/keys/\nusername_attribute = email\n"
    )
}

fn configuration(dir: &Path, imaps: u16, pop3s: u16) -> String {
    let dir = dir.display();
    let listener = |protocol: &str, port: u16| {
        format!(
            "service {protocol}-login {{\n inet_listener {protocol} {{\n  port = 0\n }}\n \
             inet_listener {protocol}s {{\n  address = 127.0.0.1\n  port = {port}\n  ssl = yes\n }}\n}}\n"
        )
    };
    let listeners = listener("imap", imaps) + &listener("pop3", pop3s);
    format!(
        "base_dir = {dir}/run\nstate_dir = {dir}/run\nlog_path = {dir}/log\nprotocols = imap pop3\n\
         ssl = required\nssl_cert = <{dir}/cert.pem\nssl_key = <{dir}/key.pem\n\
         mail_location = maildir:{dir}/Maildir\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
         auth_mechanisms = plain login xoauth2 oauthbearer\nauth_failure_delay = 0\nauth_verbose = yes\nmail_max_userip_connections = 100\n\
         passdb {{\n driver = passwd-file\n mechanisms = plain login\n args = {dir}/users\n}}\n\
         passdb {{\n driver = oauth2\n mechanisms = xoauth2 oauthbearer\n args = {dir}/oauth2.conf\n}}\n\
         userdb {{\n driver = static\n args = uid=nobody gid=nogroup home={dir}\n}}\n{listeners}"
    )
}
