//! Anything that is published to a node: a document or a request that was not signed is never taken
//! for one that was, and what is taken without a signature keeps to its limit.
#![no_main]

use std::sync::LazyLock;

use eventflux::control::Scope;
use eventflux::control::envelope::{self, Demand, Rules};
use eventflux::control::keys::{SigningKey, Trusted};
use eventflux::control::request;
use libfuzzer_sys::fuzz_target;

const NODE: &str = "pump-7";
const CONTENT_BYTES_MAX: usize = 1_024;

/// A key that nobody has signed with.
static TRUSTED: LazyLock<Trusted> = LazyLock::new(|| {
    let mut trusted = Trusted::default();
    trusted.add(SigningKey::generate().expect("a key").public());
    trusted
});

fuzz_target!(|payload: &[u8]| {
    let scope = Scope::Node(NODE.to_owned());
    let rules = |demand| Rules {
        scope: &scope,
        content_bytes_max: CONTENT_BYTES_MAX,
        demand,
        trusted: &TRUSTED,
    };
    assert!(envelope::read(payload, &rules(Demand::Signed)).is_err());
    if let Ok(desired) = envelope::read(payload, &rules(Demand::Unsigned)) {
        assert!(desired.content.len() <= CONTENT_BYTES_MAX);
        assert_eq!(desired.signed_by, None);
    }
    if let Ok(request) = request::read(payload) {
        assert!(request.verify(NODE, "restart", &TRUSTED).is_err());
    }
});
