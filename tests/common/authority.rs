//! A certificate authority of the tests' own, and what it certifies, in a folder.

#![allow(dead_code, reason = "each test program uses its part")]

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A folder with a CA (`ca.pem`), and certificates of it.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), cert.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Authority { folder, issuer }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path as it stands in a configuration.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// What a file holds.
    pub(crate) fn pem(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes `<name>.pem` and `<name>.key`.
    pub(crate) fn certify(&self, name: &str) {
        self.write(name, name, |_| {});
    }

    /// A certificate for `name` that was good until some years ago.
    pub(crate) fn certify_late(&self, file: &str, name: &str) {
        self.write(file, name, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2011, 1, 1);
        });
    }

    fn write(&self, file: &str, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), cert.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    /// What a broker's configuration says of a listener with TLS: its port on the loopback address,
    /// and whose certificate it shows.
    pub(crate) fn listener(&self, port: u16, file: &str, more: &str) -> String {
        format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n{more}\n",
            self.text("ca.pem"),
            self.text(&format!("{file}.pem")),
            self.text(&format!("{file}.key")),
        )
    }
}
