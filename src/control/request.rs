//! The envelope of a request: read on the node, made by the operator.
//!
//! ```text
//! {"id":"…", "args":…, "ttl_s":30, "ts":<ms since 1970>, "sig":{"alg":"ed25519", "kid", "value"}}
//!
//! signed:  eventflux-request-1 LF, then each with LF: node, verb, id, ts, ttl_s, SHA-256 of args
//!          as they stand in the payload (of nothing when absent)
//! ```
//!
//! What it promises: a request that is verified says what its signer wrote, to this node, for this
//! verb. What it leaves to its users: whether it is old, and whether it came before.

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;

use super::envelope::{Sig, signed_lines};
use super::fields::Fields;
use super::hash::sha256_hex;
use super::keys::{KeyError, SigningKey, Trusted};
use super::{Code, Fault};
use crate::event::to_hex;

/// A longer payload is not read.
pub const REQUEST_BYTES_MAX: usize = 256 << 10;
/// The longest id, in characters.
pub const ID_CHARS_MAX: usize = 128;

const VERSION: u64 = 1;
const CONTEXT: &str = "eventflux-request-1";
const FIELDS: &[&str] = &["v", "id", "args", "ttl_s", "ts", "sig"];

/// Which request it is: a text of 1 to [`ID_CHARS_MAX`] characters without control characters, or a
/// whole number, answered as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    text: String,
    is_number: bool,
}

impl Id {
    fn read(fields: &Fields<'_>) -> Result<Id, Fault> {
        let is_text = |raw: &str| raw.starts_with('"');
        if let (Some(false), Ok(Some(number))) =
            (fields.raw("id").map(is_text), fields.integer("id"))
        {
            let text = number.to_string();
            return Ok(Id {
                text,
                is_number: true,
            });
        }
        let text = fields.must("id", fields.text("id")?)?;
        if text.is_empty() || text.chars().count() > ID_CHARS_MAX {
            let why = format!("an id has 1 to {ID_CHARS_MAX} characters");
            return Err(fields.fault("id", &why));
        }
        if text.chars().any(char::is_control) {
            return Err(fields.fault("id", "an id has no control characters"));
        }
        Ok(Id {
            text,
            is_number: false,
        })
    }

    /// As it is signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it came.
    #[must_use]
    pub fn json(&self) -> Value {
        match self.is_number.then(|| self.text.parse::<i64>()) {
            Some(Ok(number)) => number.into(),
            Some(Err(_)) | None => self.text.as_str().into(),
        }
    }
}

/// A request; what its verb makes of `args` is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which it is.
    pub id: Id,
    /// The arguments; `null` when absent.
    pub args: Value,
    /// The SHA-256 of the arguments as they stand in the payload; of nothing when absent.
    pub args_sha256: String,
    /// After how many seconds it is void.
    pub ttl_s: Option<u32>,
    /// When it was made, in milliseconds since 1970.
    pub ts: Option<u64>,
    sig: Option<Sig>,
}

/// A request that cannot be read, and its id when that could be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Refused {
    /// The id to answer with.
    pub id: Option<Id>,
    /// Why.
    pub fault: Fault,
}

/// Reads a request.
///
/// # Errors
/// [`Code::TooLarge`], [`Code::Request`] and [`Code::Version`]; a signature that is of no known
/// form is refused when it is asked for.
pub fn read(payload: &[u8]) -> Result<Request, Refused> {
    let unread = |fault| Refused { id: None, fault };
    if payload.len() > REQUEST_BYTES_MAX {
        return Err(too_large(payload));
    }
    let fields = Fields::read(payload, FIELDS, Code::Request).map_err(unread)?;
    let id = Id::read(&fields).map_err(unread)?;
    checked(&fields, &id).map_err(|fault| Refused {
        id: Some(id),
        fault,
    })
}

/// The refusal of a request that is too large to be kept, to whoever can be told.
pub(super) fn too_large(payload: &[u8]) -> Refused {
    let bytes = payload.len();
    let message = format!("the payload has {bytes} bytes of {REQUEST_BYTES_MAX}");
    let fields = Fields::read(payload, FIELDS, Code::Request);
    Refused {
        id: fields.and_then(|fields| Id::read(&fields)).ok(),
        fault: Fault::new(Code::TooLarge, message),
    }
}

fn checked(fields: &Fields<'_>, id: &Id) -> Result<Request, Fault> {
    match fields.number("v")? {
        None | Some(VERSION) => {}
        Some(version) => {
            let message = format!("version {version} of the contract is not known here");
            return Err(Fault::new(Code::Version, message));
        }
    }
    let ttl_s = match fields.number("ttl_s")? {
        None => None,
        Some(seconds) => {
            let seconds = u32::try_from(seconds);
            Some(seconds.map_err(|_| fields.fault("ttl_s", "so long nobody waits"))?)
        }
    };
    let written = fields.written("args");
    let args = match written.map(serde_json::from_str) {
        None => Value::Null,
        Some(Ok(args)) => args,
        // It is JSON, since the whole is: too deep, or a number too large.
        Some(Err(error)) => return Err(fields.fault("args", &error.to_string())),
    };
    Ok(Request {
        id: id.clone(),
        args,
        args_sha256: sha256_hex(written.unwrap_or_default().as_bytes()),
        ttl_s,
        ts: fields.number("ts")?,
        sig: Sig::read(fields)?,
    })
}

impl Request {
    /// Whether it has a signature, right or wrong.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.sig.is_some()
    }

    /// The id of the trusted key that has signed it, for this node and this verb.
    ///
    /// # Errors
    /// [`Code::Unsigned`]: it has no signature. [`Code::Request`]: it has no `ts`, without which it
    /// could be sent again by anybody. [`Code::Key`] and [`Code::Signature`] as for
    /// [`Trusted::verify`].
    pub fn verify(&self, node: &str, verb: &str, trusted: &Trusted) -> Result<String, Fault> {
        let Some(sig) = &self.sig else {
            let message = format!("`{verb}` wants a signature, and it has none");
            return Err(Fault::new(Code::Unsigned, message));
        };
        if self.ts.is_none() {
            let message = "field `ts`: a signed request has one";
            return Err(Fault::new(Code::Request, message));
        }
        let covered = Covered {
            node,
            verb,
            id: self.id.text(),
            ts: self.ts,
            ttl_s: self.ttl_s,
            args_sha256: &self.args_sha256,
        };
        sig.verify(&covered.message(), trusted)
    }
}

/// An id that nobody else uses: 128 random bits.
///
/// # Errors
/// The system gives no random numbers.
pub fn new_id() -> Result<String, KeyError> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| KeyError::Random)?;
    Ok(to_hex(&bytes))
}

/// What a signature covers.
struct Covered<'a> {
    node: &'a str,
    verb: &'a str,
    id: &'a str,
    ts: Option<u64>,
    ttl_s: Option<u32>,
    args_sha256: &'a str,
}

impl Covered<'_> {
    fn message(&self) -> Vec<u8> {
        signed_lines(&[
            CONTEXT.to_owned(),
            self.node.to_owned(),
            self.verb.to_owned(),
            self.id.to_owned(),
            self.ts.map(|ts| ts.to_string()).unwrap_or_default(),
            self.ttl_s.map(|ttl| ttl.to_string()).unwrap_or_default(),
            self.args_sha256.to_owned(),
        ])
    }
}

/// A request on the operator's side.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// Whom it is for.
    pub node: &'a str,
    /// What is asked for.
    pub verb: &'a str,
    /// Which it is: 1 to [`ID_CHARS_MAX`] characters, no control characters.
    pub id: &'a str,
    /// The arguments.
    pub args: Option<Value>,
    /// After how many seconds it is void.
    pub ttl_s: Option<u32>,
    /// When it is made, in milliseconds since 1970.
    pub ts: u64,
}

impl Draft<'_> {
    /// The payload, signed when there is a key.
    #[must_use]
    pub fn to_json(&self, key: Option<&SigningKey>) -> String {
        let mut payload = serde_json::json!({"v": VERSION, "id": self.id, "ts": self.ts});
        // What is hashed is what will stand in the payload: a value is always written alike.
        let written = self.args.as_ref().map(Value::to_string);
        let args_sha256 = sha256_hex(written.unwrap_or_default().as_bytes());
        let sig = key.map(|key| {
            let covered = Covered {
                node: self.node,
                verb: self.verb,
                id: self.id,
                ts: Some(self.ts),
                ttl_s: self.ttl_s,
                args_sha256: &args_sha256,
            };
            Sig::json(key, &covered.message())
        });
        if let Some(fields) = payload.as_object_mut() {
            let optional = [
                ("args", self.args.clone()),
                ("ttl_s", self.ttl_s.map(Value::from)),
                ("sig", sig),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    fields.insert(name.to_owned(), value);
                }
            }
        }
        payload.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(text: &str) -> (Option<String>, Code) {
        let refused = read(text.as_bytes()).unwrap_err();
        (refused.id.map(|id| id.text), refused.fault.code)
    }

    #[test]
    fn a_request_is_read() {
        let request = read(br#"{"id": "a-1", "args": { "x" :1 }, "ttl_s": 30, "y": 2}"#).unwrap();
        assert_eq!(request.id.json(), "a-1");
        assert_eq!(request.args, json!({"x": 1}));
        assert_eq!(request.args_sha256, sha256_hex(br#"{ "x" :1 }"#));
        assert_eq!((request.ttl_s, request.ts), (Some(30), None));
        assert!(!request.is_signed());
        let bare = read(br#"{"id":"1"}"#).unwrap();
        assert_eq!(
            (bare.args, bare.args_sha256),
            (Value::Null, sha256_hex(b""))
        );
        let null = read(br#"{"id":"1","args":null}"#).unwrap();
        assert_eq!(
            (null.args, null.args_sha256),
            (Value::Null, sha256_hex(b"null"))
        );
    }

    #[test]
    fn an_id_may_be_a_number_and_is_answered_as_it_came() {
        for (written, id) in [
            ("7", json!(7)),
            ("-7", json!(-7)),
            (r#""7""#, json!("7")),
            ("9223372036854775807", json!(i64::MAX)),
        ] {
            let request = read(format!("{{\"id\": {written}}}").as_bytes()).unwrap();
            assert_eq!(request.id.json(), id);
            assert_eq!(request.id.text(), written.trim_matches('"'));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_id_when_it_has_one() {
        let long = "x".repeat(ID_CHARS_MAX + 1);
        for text in [
            String::new(),
            "ping".to_owned(),
            "{}".to_owned(),
            r#"{"id": 7.5}"#.to_owned(),
            r#"{"id": [7]}"#.to_owned(),
            r#"{"id": 9223372036854775808}"#.to_owned(),
            r#"{"id": ""}"#.to_owned(),
            r#"{"id": "a\nb"}"#.to_owned(),
            r#"{"id": "a", "id": "b"}"#.to_owned(),
            format!(r#"{{"id": "{long}"}}"#),
        ] {
            assert_eq!(code(&text), (None, Code::Request), "{text}");
        }
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for rest in [
            r#""ttl_s": -1"#.to_owned(),
            r#""ttl_s": 4294967296"#.to_owned(),
            r#""ts": "now""#.to_owned(),
            r#""sig": 1"#.to_owned(),
            r#""args": 1e999"#.to_owned(),
            format!(r#""args": {deep}"#),
        ] {
            let text = format!(r#"{{"id": "a", {rest}}}"#);
            assert_eq!(code(&text), (Some("a".to_owned()), Code::Request), "{rest}");
        }
        let later = (Some("a".to_owned()), Code::Version);
        assert_eq!(code(r#"{"id": "a", "v": 2}"#), later);
        let large = format!(r#"{{"id": "a", "x": "{}"}}"#, "x".repeat(REQUEST_BYTES_MAX));
        assert_eq!(code(&large), (Some("a".to_owned()), Code::TooLarge));
        assert_eq!(code(&large[1..]), (None, Code::TooLarge));
    }

    #[test]
    fn a_signature_holds_for_one_node_one_verb_and_these_arguments() {
        let key = SigningKey::from_seed([7; 32]).unwrap();
        let mut trusted = Trusted::default();
        trusted.add(key.public());
        let draft = Draft {
            node: "pump-7",
            verb: "outbox.purge",
            id: "a-1",
            args: Some(json!({"sink": "Out", "confirm": true})),
            ttl_s: Some(30),
            ts: 1_795_255_200_000,
        };
        let text = draft.to_json(Some(&key));
        let request = read(text.as_bytes()).unwrap();
        let verify = |request: &Request, node: &str, verb: &str| {
            let verdict = request.verify(node, verb, &trusted);
            verdict.map_err(|fault| fault.code)
        };
        assert_eq!(verify(&request, "pump-7", "outbox.purge"), Ok(key.kid()));
        let wrong = Err(Code::Signature);
        assert_eq!(verify(&request, "pump-8", "outbox.purge"), wrong);
        assert_eq!(verify(&request, "pump-7", "restart"), wrong);
        for (from, to) in [
            ("a-1", "a-2"),
            ("1795255200000", "1795255200001"),
            ("30", "31"),
            ("\"Out\"", "\"Our\""),
            // The same to a reader, and not what was signed.
            ("\"Out\"", " \"Out\""),
        ] {
            let other = read(text.replace(from, to).as_bytes()).unwrap();
            assert_eq!(
                verify(&other, "pump-7", "outbox.purge"),
                wrong,
                "{from} {to}"
            );
        }
        let expected =
            "eventflux-request-1\npump-7\nping\na-1\n5\n\n".to_owned() + &sha256_hex(b"");
        let bare = Draft {
            verb: "ping",
            args: None,
            ttl_s: None,
            ts: 5,
            ..draft
        };
        let signature = crate::event::to_base64(&key.sign((expected + "\n").as_bytes()));
        assert!(bare.to_json(Some(&key)).contains(&signature));
        let unsigned = read(bare.to_json(None).as_bytes()).unwrap();
        assert_eq!(verify(&unsigned, "pump-7", "ping"), Err(Code::Unsigned));
        let text = bare.to_json(Some(&key)).replace(",\"ts\":5", "");
        let undated = read(text.as_bytes()).unwrap();
        assert_eq!(verify(&undated, "pump-7", "ping"), Err(Code::Request));
    }
}
