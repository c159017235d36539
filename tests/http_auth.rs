//! Who we are to an HTTP server, and who it is to us: passwords, tokens, certificates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/delivering.rs"]
mod delivering;
#[path = "common/http.rs"]
mod http;
#[path = "common/wait.rs"]
mod wait;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use delivering::{start, text};
use eventflux::config::options::OptionValue;
use eventflux::event::ReportKind;
use http::{Message, Server, body, say};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn authorizations(requests: &[Message]) -> Vec<&str> {
    let headers = requests.iter();
    headers
        .map(|request| request.header("authorization").unwrap_or("none"))
        .collect()
}

fn token(token: &str, lasts: &str) -> http::Act {
    let text = format!(
        "{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\",\"expires_in\":{lasts}}}"
    );
    body("200 OK", &text)
}

fn oauth2(tokens: &Server) -> Vec<(&'static str, OptionValue)> {
    vec![
        ("http.oauth2.url", text(&tokens.url("/token"))),
        ("http.oauth2.client_id", text("gate way")),
        ("http.oauth2.client_secret", text("s:cret")),
        ("http.oauth2.scope", text("alerts write")),
    ]
}

#[test]
fn a_password() {
    let server = Server::new([]);
    let options = [
        ("http.username", text("me")),
        ("http.password", text("pä:ss")),
    ];
    let sink = start(&server.url("/"), &options);
    sink.send(1);
    sink.wait_confirmed(1);
    assert_eq!(authorizations(&server.rest()), ["Basic bWU6cMOkOnNz"]);
    sink.end();
}

/// Tokens that last are kept, those that do not are fetched again; one that is taken back costs one
/// more request, and no pause.
#[test]
fn tokens_are_fetched_when_one_is_needed() {
    let tokens = Server::new([
        token("one", "0"),
        token("two", "\"3600\""),
        token("three", "3600"),
    ]);
    let api = Server::new([
        say("200 OK"),
        say("200 OK"),
        say("200 OK"),
        say("401 Unauthorized"),
        say("200 OK"),
    ]);
    let sink = start(&api.url("/"), &oauth2(&tokens));
    for number in 1..=4 {
        sink.send(number);
        sink.wait_confirmed(number);
    }
    let shown = api.rest();
    let expected = [
        "Bearer one",
        "Bearer two",
        "Bearer two",
        "Bearer two",
        "Bearer three",
    ];
    assert_eq!(authorizations(&shown), expected);
    let asked = tokens.rest();
    assert_eq!(asked.len(), 3);
    for request in &asked {
        assert_eq!(request.line, "POST /token HTTP/1.1");
        let form = "grant_type=client_credentials&scope=alerts%20write";
        assert_eq!(request.text(), form);
        // `gate%20way:s%3Acret`
        let header = request.header("authorization");
        assert_eq!(header, Some("Basic Z2F0ZSUyMHdheTpzJTNBY3JldA=="));
    }
    assert_eq!(sink.end().retries.load(Ordering::Relaxed), 0);
}

/// What a token server says of time is bounded: neither a number without end nor a pause of years
/// ends the sink.
#[test]
fn a_token_for_ever_and_a_pause_for_ever() {
    let tokens = Server::new([
        token("one", "18446744073709551615"),
        say("503 Service Unavailable\r\nRetry-After: 18446744073709551615"),
    ]);
    let api = Server::new([say("200 OK"), say("401 Unauthorized")]);
    let sink = start(&api.url("/"), &oauth2(&tokens));
    sink.send(1);
    sink.wait_confirmed(1);
    sink.send(2);
    wait::wait_until("it waits for a token", || {
        sink.metrics.retries.load(Ordering::Relaxed) == 1
    });
    sink.stop.send(true).unwrap();
    sink.thread.join().unwrap();
}

#[test]
fn a_secret_that_is_repeated_is_not_shown() {
    let tokens = Server::new([
        body("400 Bad Request", "what is client_secret=s%3Acret?"),
        token("one", "60"),
    ]);
    let api = Server::new([]);
    let mut options = oauth2(&tokens);
    options.push(("http.oauth2.credentials", text("body")));
    let mut sink = start(&api.url("/"), &options);
    sink.send(1);
    sink.wait_confirmed(1);
    let report = sink.reports.blocking_recv().unwrap();
    assert_eq!(report.kind, ReportKind::SinkDown);
    assert!(report.reason.contains("status 400"), "{}", report.reason);
    assert!(!report.reason.contains("s%3Acret"), "{}", report.reason);
    sink.end();
}

#[test]
fn no_token_costs_nothing_but_time() {
    let tokens = Server::new([
        body("400 Bad Request", "{\"error\":\"invalid_client\"}"),
        say("503 Service Unavailable"),
        body("200 OK", "no token"),
        http::Act::Close,
        token("one", "60"),
        token("two", "60"),
        token("three", "60"),
    ]);
    let api = Server::new([
        say("401 Unauthorized"),
        say("401 Unauthorized"),
        say("200 OK"),
    ]);
    let mut options = oauth2(&tokens);
    options.push(("http.oauth2.credentials", text("body")));
    options.push(("http.oauth2.audience", text("x&y")));
    let sink = start(&api.url("/"), &options);
    sink.send(1);
    sink.wait_confirmed(1);
    let shown = api.rest();
    let expected = ["Bearer one", "Bearer two", "Bearer three"];
    assert_eq!(authorizations(&shown), expected);
    let asked = tokens.next();
    assert_eq!(asked.header("authorization"), None);
    let form = "grant_type=client_credentials&client_id=gate%20way&client_secret=s%3Acret&\
                scope=alerts%20write&audience=x%26y";
    assert_eq!(asked.text(), form);
    let metrics = sink.end();
    assert_eq!(metrics.refused.load(Ordering::Relaxed), 0);
    assert!(metrics.retries.load(Ordering::Relaxed) >= 4);
}

/// A CA, and what it has signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        pem,
        issuer: Issuer::new(params, key),
    }
}

impl Authority {
    /// A certificate and its key, in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A server of this name that lets only those in whom `clients` has signed.
    fn server(&self, name: &str, clients: &Authority) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(clients.pem.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let (certificate, key) = self.sign(name);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Arc::new(config)
    }
}

#[test]
fn certificates_on_both_sides() {
    let (ours, theirs, others) = (authority(), authority(), authority());
    let server = Server::encrypted([], Some(theirs.server("cloud.example", &ours)));
    let (cert, key) = ours.sign("gateway");
    let (other_cert, other_key) = others.sign("gateway");
    let url = format!("https://{}/", server.at);
    let ca = ("http.tls.ca", text(&theirs.pem));
    let name = ("http.tls.server_name", text("cloud.example"));
    let pair = |cert: &str, key: &str| [("http.tls.cert", text(cert)), ("http.tls.key", text(key))];
    let [cert, key] = pair(&cert, &key);
    let [other_cert, other_key] = pair(&other_cert, &other_key);
    let wrong: [Vec<(&str, OptionValue)>; 4] = [
        // Nobody vouches for the server; it has another name; we are nobody; we are another.
        vec![name.clone(), cert.clone(), key.clone()],
        vec![ca.clone(), cert.clone(), key.clone()],
        vec![ca.clone(), name.clone()],
        vec![ca.clone(), name.clone(), other_cert, other_key],
    ];
    for options in wrong {
        let mut sink = start(&url, &options);
        sink.send(1);
        let report = sink.reports.blocking_recv().unwrap();
        assert_eq!(report.kind, ReportKind::SinkDown, "{options:?}");
        sink.stop.send_replace(true);
        sink.end();
    }
    assert_eq!(server.rest().len(), 0);
    let sink = start(&url, &[ca, name, cert, key]);
    (1..=3).for_each(|number| sink.send(number));
    sink.wait_confirmed(3);
    let connections: Vec<usize> = server.rest().iter().map(|one| one.connection).collect();
    assert_eq!(connections.len(), 3);
    assert_eq!(connections[0], connections[2], "the connection is kept");
    sink.end();
}
