//! Documents and requests as an operator makes them, and their signatures: made from the words of
//! docs/control.md, not with the code that is under test.

#![allow(dead_code, reason = "each test program uses its part")]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What stands before the 32 bytes of a public key in its PEM: SubjectPublicKeyInfo of Ed25519.
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A pair of keys.
pub(crate) struct Key(Ed25519KeyPair);

impl Key {
    pub(crate) fn new() -> Key {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Key(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    /// Writes the public half as nodes want it.
    pub(crate) fn write_public(&self, path: &Path) {
        let mut der = SPKI.to_vec();
        der.extend(self.0.public_key().as_ref());
        let text = base64(&der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
        std::fs::write(path, pem).unwrap();
    }

    pub(crate) fn kid(&self) -> String {
        sha256(self.0.public_key().as_ref())[..16].to_owned()
    }

    fn sign(&self, bytes: &[u8]) -> Value {
        let value = base64(self.0.sign(bytes).as_ref());
        json!({"alg": "ed25519", "kid": self.kid(), "value": value})
    }

    /// Signs an envelope for a node, or for `_group/<group>`, over whatever it has by then.
    pub(crate) fn signed(&self, scope: &str, mut envelope: Value) -> Value {
        let mut text = format!("eventflux-config-1\n{scope}\n");
        for field in [
            "rev",
            "mode",
            "confirm",
            "confirm_s",
            "state_policy",
            "not_before",
            "expires",
            "base_sha256",
            "sha256",
        ] {
            text.push_str(&as_line(&envelope[field]));
            text.push('\n');
        }
        envelope["sig"] = self.sign(text.as_bytes());
        envelope
    }

    /// A signed request. `ts` is in milliseconds.
    pub(crate) fn request(&self, node: &str, verb: &str, id: &str, ts: u64, args: &str) -> String {
        let hash = sha256(args.as_bytes());
        let text = format!("eventflux-request-1\n{node}\n{verb}\n{id}\n{ts}\n30\n{hash}\n");
        let sig = self.sign(text.as_bytes());
        format!(
            "{{\"v\":1,\"id\":\"{id}\",\"args\":{args},\"ttl_s\":30,\"ts\":{ts},\"sig\":{sig}}}"
        )
    }
}

/// A value as it stands in the envelope.
fn as_line(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An envelope around `content`, to be tried out for a second, and not signed.
pub(crate) fn envelope(rev: u64, content: &str) -> Value {
    json!({
        "v": 1,
        "rev": rev,
        "mode": "apply",
        "confirm": "auto",
        "confirm_s": 1,
        "encoding": "none",
        "sha256": sha256(content.as_bytes()),
        "content": content,
    })
}
