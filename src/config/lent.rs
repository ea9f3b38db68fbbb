//! The files of an operator's that directories and pullers go by: who may read them is looked at when the server starts, and by
//! `doctor`.

use super::directory::DirectoryKind;
use super::entra::{EntraApp, EntraCredential};
use super::puller::PullCredential;
use super::secret::SecretSource;
use super::settings::Settings;
use std::path::Path;

/// Files that `[[directory]]` and `[[puller]]` name, but for lists of users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LentFiles<'a> {
    /// Passwords and client secrets: nobody but the server may read them.
    pub secrets: Vec<&'a Path>,
    /// Private keys: as secrets.
    pub keys: Vec<&'a Path>,
    /// Certificates, which everybody may read.
    pub readable: Vec<&'a Path>,
}

impl<'a> LentFiles<'a> {
    fn secret(&mut self, source: &'a SecretSource) {
        // What the service manager hands over lies in a folder that it guards itself.
        if let SecretSource::File(file) = source {
            self.secrets.push(file);
        }
    }

    fn app(&mut self, app: &'a EntraApp) {
        match &app.credential {
            EntraCredential::Secret { secret, .. } => self.secret(secret),
            EntraCredential::Certificate { certificate, private_key, .. } => {
                self.readable.push(certificate);
                self.keys.push(private_key);
            }
        }
        self.readable.extend(app.ca_file.as_deref());
    }
}

impl Settings {
    /// The files that directories and pullers are lent.
    pub fn lent_files(&self) -> LentFiles<'_> {
        let mut files = LentFiles::default();
        for source in &self.directories {
            match &source.kind {
                DirectoryKind::File { .. } | DirectoryKind::Csv(_) => {}
                DirectoryKind::Ldap(ldap) => {
                    files.secret(&ldap.password);
                    files.readable.extend(ldap.ca_file.as_deref());
                }
                DirectoryKind::Graph(graph) => files.app(&graph.app),
            }
        }
        for puller in &self.pullers {
            files.readable.extend(puller.ca_file.as_deref());
            match &puller.credential {
                PullCredential::Password(password) => files.secret(password),
                PullCredential::Xoauth2 { app, .. } => files.app(app),
            }
        }
        files
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_of_a_directory_or_puller_is_known_by_what_it_is() {
        let text = include_str!("../../corpus/config/ok/everything.toml");
        let settings = crate::config::parse(text, std::path::Path::new("/d")).unwrap();
        let files = settings.lent_files();
        let shown = |paths: &[&std::path::Path]| -> Vec<String> {
            paths.iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(shown(&files.secrets), ["/run/secrets/ldap", "/d/password", "/d/secret"]);
        assert_eq!(shown(&files.keys), ["/d/k.pem"]);
        assert_eq!(shown(&files.readable), ["/d/ca.pem", "/d/c.pem", "/d/ca.pem", "/d/ca.pem", "/d/ca.pem"]);
    }
}
