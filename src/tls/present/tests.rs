use rcgen::{CertificateParams, Issuer, KeyPair};

use super::*;
use crate::config::options::{Layer, OptionValue};

/// A CA, and a certificate of it with its key.
struct Made {
    ca: String,
    cert: String,
    key: String,
}

fn made() -> Made {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.signed_by(&key, &issuer).unwrap();
    Made {
        ca: ca_cert.pem(),
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

fn options(all: &[(&str, &str)]) -> Options {
    let mut options = Options::default();
    for (name, text) in all {
        let value = OptionValue::Text((*text).to_owned());
        options.set(&format!("x.tls.{name}"), value, Layer::Sql);
    }
    options
}

#[test]
fn faults_name_the_option_and_what_is_wrong() {
    let (one, other) = (made(), made());
    let (damaged, encrypted) = (
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let table: &[(&[(&str, &str)], &str)] = &[
        (
            &[("ca", "/no/such/file")],
            "x.tls.ca: cannot read `/no/such/file`: No such file",
        ),
        (
            &[("ca", &one.key)],
            "x.tls.ca: what is written holds no certificate",
        ),
        (
            &[("ca", damaged)],
            "x.tls.ca: certificate 1 of what is written is damaged",
        ),
        (
            &[("ca", "/dev/null")],
            "x.tls.ca: `/dev/null` holds no certificate",
        ),
        (
            &[("cert", &one.cert)],
            "x.tls.cert: it needs its other half: set x.tls.key too",
        ),
        (
            &[("key", &one.key)],
            "x.tls.key: it needs its other half: set x.tls.cert too",
        ),
        (
            &[("cert", &one.cert), ("key", &other.key)],
            "x.tls.key: the key does not belong to the certificate of x.tls.cert",
        ),
        (
            &[("cert", &one.cert), ("key", encrypted)],
            "x.tls.key: what is written holds no private key; only an encrypted one",
        ),
        (
            &[("server_name", "a b")],
            "x.tls.server_name: `a b` is not a host name",
        ),
        (
            &[("alpn", "mqtt,,x")],
            "x.tls.alpn: each protocol has a name",
        ),
    ];
    for (written, expected) in table {
        let fault = client(&options(written), "x.tls").unwrap_err().to_string();
        assert!(fault.starts_with(expected), "{fault}");
    }
    let lonely = [("client_ca", one.ca.as_str())];
    let fault = server(&options(&lonely), "x.tls", &[]).unwrap_err();
    assert_eq!(fault.option, "x.tls.client_ca");
}

#[test]
fn a_client_and_a_listener_agree() {
    let made = made();
    let all = [
        ("ca", made.ca.as_str()),
        ("client_ca", &made.ca),
        ("cert", &made.cert),
        ("key", &made.key),
        ("alpn", "mqtt, x-amzn-mqtt-ca"),
        ("server_name", "localhost"),
    ];
    let ours = client(&options(&all), "x.tls").unwrap();
    let theirs = server(&options(&all), "x.tls", &["mqtt"]).unwrap().unwrap();
    assert!(theirs.wants_client_certificates());
    let name = ours.server_name().unwrap().clone();
    let mut from = rustls::ClientConnection::new(ours.config().unwrap(), name).unwrap();
    let mut to = rustls::ServerConnection::new(theirs.config().unwrap()).unwrap();
    while from.is_handshaking() || to.is_handshaking() {
        let mut wire = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut wire).unwrap();
        }
        to.read_tls(&mut wire.as_slice()).unwrap();
        to.process_new_packets().unwrap();
        wire.clear();
        while to.wants_write() {
            to.write_tls(&mut wire).unwrap();
        }
        from.read_tls(&mut wire.as_slice()).unwrap();
        from.process_new_packets().unwrap();
    }
    assert_eq!(from.alpn_protocol(), Some(b"mqtt".as_slice()));
    assert_eq!(to.peer_certificates().unwrap().len(), 1);
}

#[test]
fn a_renewed_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, made().ca).unwrap();
    let client = client(&options(&[("ca", path.to_str().unwrap())]), "x.tls").unwrap();
    let first = client.config().unwrap();
    assert!(Arc::ptr_eq(&first, &client.config().unwrap()));
    std::fs::write(&path, made().ca).unwrap();
    let later = modified(&path).unwrap() + std::time::Duration::from_secs(5);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(later).unwrap();
    assert!(!Arc::ptr_eq(&first, &client.config().unwrap()));
    std::fs::remove_file(&path).unwrap();
    let fault = client.config().unwrap_err().to_string();
    assert!(fault.starts_with("x.tls.ca: cannot read"), "{fault}");
}

#[test]
fn without_a_ca_the_system_is_trusted() {
    assert!(system_roots().len() > 50);
    assert!(server(&Options::default(), "x.tls", &[]).unwrap().is_none());
}
