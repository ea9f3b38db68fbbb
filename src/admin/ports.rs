//! Where a server really listens, for those who let the system choose the ports.
//!
//! `data_dir/ports.json` holds one object, only what is bound, the first address of each:
//! `{"smtp":"127.0.0.1:34567","pop3":"127.0.0.1:34568","pop3s":"127.0.0.1:34569","imap":"127.0.0.1:34570",
//! "imaps":"127.0.0.1:34571","http":"127.0.0.1:34572"}`. It appears whole, once everything is bound, and goes when the server ends in good order.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// Name of the file in `data_dir`.
pub const PORTS_FILE: &str = "ports.json";

/// The first bound address of each service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// SMTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SocketAddr>,
    /// POP3 with STLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pop3: Option<SocketAddr>,
    /// POP3 over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pop3s: Option<SocketAddr>,
    /// IMAP with STARTTLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imap: Option<SocketAddr>,
    /// IMAP over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imaps: Option<SocketAddr>,
    /// Health and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
}

impl Ports {
    /// Writes the file; readers see the old one or the new one, whole.
    ///
    /// # Errors
    /// `data_dir` cannot be written to.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let new = data_dir.join(format!("{PORTS_FILE}.new"));
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        fs::write(&new, text)?;
        fs::rename(&new, data_dir.join(PORTS_FILE))
    }

    /// Removes the file, if it is there.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(data_dir: &Path) -> io::Result<()> {
        match fs::remove_file(data_dir.join(PORTS_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
