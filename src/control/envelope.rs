//! The envelope of a configuration document: read on the node, made by the operator.
//!
//! ```text
//! {"v":1, "rev":42, "sha256":"…", "content":"…",                   what must be there
//!  "node":"pump-7", "base_sha256":null, "mode":"apply", "confirm":"auto", "confirm_s":120,
//!  "state_policy":"keep_compatible", "not_before":null, "expires":null,
//!  "encoding":"none" | "base64" | "zstd+base64",
//!  "sig":{"alg":"ed25519", "kid":"<16 hex>", "value":"<base64>"}}
//!
//! signed:  eventflux-config-1 LF, then each with LF: node or _group/g, rev, mode, confirm,
//!          confirm_s, state_policy, not_before, expires, base_sha256, sha256 (of the content)
//! ```
//!
//! What it promises: nothing is unpacked that is larger than the limit; no text in the envelope
//! can stand for another in what is signed, since every covered field is checked to be of its
//! form; whoever reads a [`Desired`] reads what was signed. What it leaves to its users: revisions,
//! `base_sha256`, times, and what the content means.

use super::fields::{Fields, shown};
use super::hash::sha256_hex;
use super::keys::{SigningKey, Trusted};
use super::{Code, Fault, Scope};
use crate::config::StatePolicy;
use crate::event::{Timestamp, from_base64, to_base64};

/// What an envelope may have besides its content.
pub const OVERHEAD_BYTES_MAX: usize = 16 << 10;
/// What a byte of a text takes in JSON, at the most: of the two of an `é`, written `\u00e9`.
const JSON_BYTES_PER_BYTE: usize = 3;
/// How long a probation is when nobody says.
pub const CONFIRM_S_DEFAULT: u32 = 120;
/// The longest probation: a day.
pub const CONFIRM_S_MAX: u32 = 86_400;
/// How Zstandard says that the buffer is full (`ZSTD_error_dstSize_tooSmall`), and that there is
/// too little to read (`ZSTD_error_srcSize_wrong`): negated numbers, which do not change.
const TOO_LARGE: usize = 0_usize.wrapping_sub(70);
const TRUNCATED: usize = 0_usize.wrapping_sub(72);
/// The level of compression; documents are small.
const LEVEL: i32 = 9;

const VERSION: u64 = 1;
const CONTEXT: &str = "eventflux-config-1";
const ALGORITHM: &str = "ed25519";
const FIELDS: &[&str] = &[
    "v",
    "rev",
    "node",
    "base_sha256",
    "mode",
    "confirm",
    "confirm_s",
    "state_policy",
    "not_before",
    "expires",
    "encoding",
    "sha256",
    "content",
    "sig",
];
pub(super) const SIG_FIELDS: &[&str] = &["alg", "kid", "value"];
const MODES: &[(&str, Mode)] = &[("validate", Mode::Validate), ("apply", Mode::Apply)];
const CONFIRMS: &[(&str, Confirm)] = &[("auto", Confirm::Auto), ("operator", Confirm::Operator)];
const POLICIES: &[(&str, StatePolicy)] = &[
    ("keep_compatible", StatePolicy::KeepCompatible),
    ("keep_or_fail", StatePolicy::KeepOrFail),
    ("discard", StatePolicy::Discard),
];
const ENCODINGS: &[(&str, Encoding)] = &[
    ("none", Encoding::None),
    ("base64", Encoding::Base64),
    ("zstd+base64", Encoding::ZstdBase64),
];

/// Whether a document is to be tried out or to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A dry run.
    Validate,
    /// It is to hold.
    Apply,
}

impl Mode {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        word_of(MODES, self)
    }
}

/// Who says that a document has proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// The health gate alone.
    Auto,
    /// An operator too.
    Operator,
}

impl Confirm {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        word_of(CONFIRMS, self)
    }
}

/// How the content stands in the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As a text.
    None,
    /// In Base64.
    Base64,
    /// Compressed by Zstandard, in Base64.
    ZstdBase64,
}

/// Whether there must be a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// One of a key that is trusted here.
    Signed,
    /// None; one of a key that is trusted must be right all the same.
    Unsigned,
}

/// What an envelope is held against.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Whom the topic speaks to.
    pub scope: &'a Scope,
    /// How large the content may be.
    pub content_bytes_max: usize,
    /// Whether there must be a signature.
    pub demand: Demand,
    /// Whose signatures count.
    pub trusted: &'a Trusted,
}

impl Rules<'_> {
    /// The longest payload that is read at all: the largest content as JSON may write it, and the
    /// rest.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        let content = self.content_bytes_max.saturating_mul(JSON_BYTES_PER_BYTE);
        content.saturating_add(OVERHEAD_BYTES_MAX)
    }
}

/// A document that is what it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Its revision, at least 1.
    pub rev: u64,
    /// The SHA-256 of `content`, 64 digits in lower case.
    pub sha256: String,
    /// The TOML.
    pub content: String,
    /// The document that it was made from.
    pub base_sha256: Option<String>,
    /// A dry run, or not.
    pub mode: Mode,
    /// Who says that it has proved itself.
    pub confirm: Confirm,
    /// The length of its probation, 1 to [`CONFIRM_S_MAX`].
    pub confirm_s: u32,
    /// What becomes of the state; what the configuration says when absent.
    pub state_policy: Option<StatePolicy>,
    /// Not to be applied before.
    pub not_before: Option<Timestamp>,
    /// Not to be applied from then on.
    pub expires: Option<Timestamp>,
    /// The id of the key whose signature was verified.
    pub signed_by: Option<String>,
    /// What should be known about it.
    pub warnings: Vec<String>,
}

/// A document that is not accepted, and what could be read of it all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Refused {
    /// Why.
    pub fault: Fault,
    /// Its revision, which nobody has vouched for.
    pub rev: Option<u64>,
    /// What it says that its SHA-256 is.
    pub sha256: Option<String>,
}

/// Reads an envelope; an empty payload, which withdraws one, is the caller's business.
///
/// # Errors
/// The first reason for which it is refused: its size, its form, its addressee, its version, its
/// content, its signature, in this order.
pub fn read(payload: &[u8], rules: &Rules<'_>) -> Result<Desired, Refused> {
    let unread = |fault| Refused {
        fault,
        rev: None,
        sha256: None,
    };
    let bytes_max = rules.payload_bytes_max();
    if payload.len() > bytes_max {
        let message = format!("the payload has {} bytes of {bytes_max}", payload.len());
        return Err(unread(Fault::new(Code::TooLarge, message)));
    }
    let fields = Fields::read(payload, FIELDS, Code::Envelope).map_err(unread)?;
    checked(&fields, rules).map_err(|fault| Refused {
        fault,
        rev: fields.number("rev").ok().flatten(),
        sha256: fields.sha256("sha256").ok().flatten(),
    })
}

fn checked(fields: &Fields<'_>, rules: &Rules<'_>) -> Result<Desired, Fault> {
    addressed(fields, rules.scope)?;
    let version = fields.must("v", fields.number("v")?)?;
    if version != VERSION {
        let message = format!("version {version} of the contract is not known here");
        return Err(Fault::new(Code::Version, message));
    }
    let covered = Covered::read(fields)?;
    let content = content(fields, rules.content_bytes_max)?;
    let sha256 = sha256_hex(content.as_bytes());
    if sha256 != covered.sha256 {
        let message = format!("the SHA-256 of the content is {sha256}");
        return Err(Fault::new(Code::Sha256, message));
    }
    let mut warnings = Vec::new();
    let message = covered.message(rules.scope);
    let signed_by = match (Sig::read(fields)?, rules.demand) {
        (Some(sig), demand) => match (sig.verify(&message, rules.trusted), demand) {
            (Ok(kid), _) => Some(kid),
            (Err(fault), Demand::Unsigned) if fault.code == Code::Key => {
                warnings.push(format!("the signature says nothing: {}", fault.message));
                None
            }
            (Err(fault), Demand::Signed | Demand::Unsigned) => return Err(fault),
        },
        (None, Demand::Unsigned) => None,
        (None, Demand::Signed) => {
            return Err(Fault::new(
                Code::Unsigned,
                "it has no signature, and control.mode = \"signed\" wants one",
            ));
        }
    };
    Ok(Desired {
        rev: covered.rev,
        sha256,
        content,
        base_sha256: covered.base_sha256,
        mode: covered.mode.unwrap_or(Mode::Apply),
        confirm: covered.confirm.unwrap_or(Confirm::Auto),
        confirm_s: covered.confirm_s.unwrap_or(CONFIRM_S_DEFAULT),
        state_policy: covered.state_policy,
        not_before: covered.not_before.map(|when| when.time()),
        expires: covered.expires.map(|when| when.time()),
        signed_by,
        warnings,
    })
}

fn addressed(fields: &Fields<'_>, scope: &Scope) -> Result<(), Fault> {
    match fields.text("node")? {
        Some(node) if node != scope.to_string() => {
            let message = format!("it is for '{}', and came for '{scope}'", shown(&node));
            Err(Fault::new(Code::Node, message))
        }
        Some(_) | None => Ok(()),
    }
}

fn content(fields: &Fields<'_>, bytes_max: usize) -> Result<String, Fault> {
    let too_large = || {
        let message = format!("the content has more than {bytes_max} bytes (control.max_bytes)");
        Fault::new(Code::TooLarge, message)
    };
    let undecodable = |why: &str| Fault::new(Code::Encoding, format!("field `content`: {why}"));
    let encoding = fields.word("encoding", ENCODINGS)?;
    let text = fields.must("content", fields.text("content")?)?;
    let decoded = || from_base64(&text).ok_or_else(|| undecodable("not Base64"));
    let bytes = match encoding.unwrap_or(Encoding::None) {
        Encoding::None => text.into_bytes(),
        Encoding::Base64 if text.len() > bytes_max.div_ceil(3).saturating_mul(4) => {
            return Err(too_large());
        }
        Encoding::Base64 => decoded()?,
        Encoding::ZstdBase64 => match unpack(&decoded()?, bytes_max) {
            Ok(bytes) => bytes,
            Err(TOO_LARGE) => return Err(too_large()),
            Err(code) => {
                let why = zstd::zstd_safe::get_error_name(code);
                return Err(undecodable(&format!("not Zstandard: {why}")));
            }
        },
    };
    if bytes.len() > bytes_max {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|_| undecodable("not UTF-8"))
}

/// What was packed, into a buffer that is as large as it may be: whatever the frames say of
/// themselves, and however large a window they ask for, no more is taken.
fn unpack(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, usize> {
    // Of nothing, the library makes nothing.
    if packed.is_empty() {
        return Err(TRUNCATED);
    }
    let mut bytes = Vec::with_capacity(bytes_max);
    let length = zstd::zstd_safe::decompress(&mut bytes, packed)?;
    match length <= bytes_max {
        true => Ok(bytes),
        false => Err(TOO_LARGE),
    }
}

/// A time as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// RFC 3339.
    Text(String, Timestamp),
    /// Milliseconds since 1970.
    Number(i64),
}

impl When {
    /// Reads a time.
    #[must_use]
    pub fn parse(text: &str) -> Option<When> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(When::Text(
            text.to_owned(),
            Timestamp(time.as_millisecond()),
        ))
    }

    fn read(fields: &Fields<'_>, name: &str) -> Result<Option<When>, Fault> {
        let is_text = fields.raw(name).is_some_and(|raw| raw.starts_with('"'));
        if !is_text {
            return Ok(fields.integer(name)?.map(When::Number));
        }
        let text = fields.text(name)?.unwrap_or_default();
        let when = When::parse(&text).ok_or_else(|| {
            let why = format!("'{}' is no time such as 2026-11-21T10:00:00Z", shown(&text));
            fields.fault(name, &why)
        });
        when.map(Some)
    }

    /// The moment.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        match self {
            When::Text(_, time) => *time,
            When::Number(ms) => Timestamp(*ms),
        }
    }

    fn line(&self) -> String {
        match self {
            When::Text(text, _) => text.clone(),
            When::Number(ms) => ms.to_string(),
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            When::Text(text, _) => text.as_str().into(),
            When::Number(ms) => (*ms).into(),
        }
    }
}

/// What a signature covers besides whom it is for, as it stands in the envelope.
#[derive(Debug)]
struct Covered {
    rev: u64,
    mode: Option<Mode>,
    confirm: Option<Confirm>,
    confirm_s: Option<u32>,
    state_policy: Option<StatePolicy>,
    not_before: Option<When>,
    expires: Option<When>,
    base_sha256: Option<String>,
    sha256: String,
}

impl Covered {
    fn read(fields: &Fields<'_>) -> Result<Covered, Fault> {
        let rev = fields.must("rev", fields.number("rev")?)?;
        if rev == 0 {
            return Err(fields.fault("rev", "the first revision is 1"));
        }
        let confirm_s = match fields.number("confirm_s")? {
            None => None,
            Some(seconds) => match u32::try_from(seconds) {
                Ok(seconds @ 1..=CONFIRM_S_MAX) => Some(seconds),
                Ok(_) | Err(_) => {
                    let why = format!("{seconds} is not 1 to {CONFIRM_S_MAX}");
                    return Err(fields.fault("confirm_s", &why));
                }
            },
        };
        Ok(Covered {
            rev,
            mode: fields.word("mode", MODES)?,
            confirm: fields.word("confirm", CONFIRMS)?,
            confirm_s,
            state_policy: fields.word("state_policy", POLICIES)?,
            not_before: When::read(fields, "not_before")?,
            expires: When::read(fields, "expires")?,
            base_sha256: fields.sha256("base_sha256")?,
            sha256: fields.must("sha256", fields.sha256("sha256")?)?,
        })
    }

    /// The bytes that are signed.
    fn message(&self, scope: &Scope) -> Vec<u8> {
        let time = |when: &Option<When>| when.as_ref().map(When::line).unwrap_or_default();
        let lines = [
            CONTEXT.to_owned(),
            scope.to_string(),
            self.rev.to_string(),
            self.mode.map(Mode::word).unwrap_or_default().to_owned(),
            self.confirm
                .map(Confirm::word)
                .unwrap_or_default()
                .to_owned(),
            self.confirm_s.map(|s| s.to_string()).unwrap_or_default(),
            self.state_policy
                .map(policy_word)
                .unwrap_or_default()
                .to_owned(),
            time(&self.not_before),
            time(&self.expires),
            self.base_sha256.clone().unwrap_or_default(),
            self.sha256.clone(),
        ];
        signed_lines(&lines)
    }
}

/// Lines as they are signed: each ended by a line feed.
pub(super) fn signed_lines(lines: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// A signature as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sig {
    kid: Option<String>,
    value: Result<Vec<u8>, Fault>,
}

impl Sig {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Sig>, Fault> {
        let Some(sig) = fields.object("sig", SIG_FIELDS, "sig.")? else {
            return Ok(None);
        };
        let algorithm = sig.must("alg", sig.text("alg")?)?;
        let kid = sig.text("kid")?;
        let text = sig.must("value", sig.text("value")?)?;
        let refuse = |message: String| Err(Fault::new(Code::Signature, message));
        let value = if algorithm == ALGORITHM {
            from_base64(&text).map_or_else(|| refuse("`sig.value` is not Base64".to_owned()), Ok)
        } else {
            let shown = shown(&algorithm);
            refuse(format!(
                "`sig.alg` is '{shown}': only {ALGORITHM} is known here"
            ))
        };
        Ok(Some(Sig { kid, value }))
    }

    /// The id of the trusted key that has signed `message`, with or without the line feed behind
    /// its last line: a shell that makes the lines takes that one away.
    pub(super) fn verify(&self, message: &[u8], trusted: &Trusted) -> Result<String, Fault> {
        let value = self.value.as_ref().map_err(Fault::clone)?;
        let verify = |message| trusted.verify(self.kid.as_deref(), message, value);
        verify(message).or_else(|fault| match message.strip_suffix(b"\n") {
            Some(without) => verify(without).map_err(|_| fault),
            None => Err(fault),
        })
    }

    /// A signature for an envelope.
    pub(super) fn json(key: &SigningKey, message: &[u8]) -> serde_json::Value {
        serde_json::json!({
            "alg": ALGORITHM,
            "kid": key.kid(),
            "value": to_base64(&key.sign(message)),
        })
    }
}

/// A document on the operator's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Whom it is for.
    pub scope: Scope,
    /// Its revision, at least 1.
    pub rev: u64,
    /// The TOML.
    pub content: String,
    /// The document that it was made from.
    pub base_sha256: Option<String>,
    /// A dry run, or not.
    pub mode: Mode,
    /// Who says that it has proved itself.
    pub confirm: Confirm,
    /// The length of its probation, 1 to [`CONFIRM_S_MAX`].
    pub confirm_s: u32,
    /// What becomes of the state; what the configuration says when absent.
    pub state_policy: Option<StatePolicy>,
    /// Not to be applied before.
    pub not_before: Option<When>,
    /// Not to be applied from then on.
    pub expires: Option<When>,
    /// How the content is put into the envelope.
    pub encoding: Encoding,
}

impl Draft {
    /// The SHA-256 of the content.
    #[must_use]
    pub fn sha256(&self) -> String {
        sha256_hex(self.content.as_bytes())
    }

    /// The envelope, signed when there is a key.
    #[must_use]
    pub fn to_json(&self, key: Option<&SigningKey>) -> String {
        let covered = Covered {
            rev: self.rev,
            mode: Some(self.mode),
            confirm: Some(self.confirm),
            confirm_s: Some(self.confirm_s),
            state_policy: self.state_policy,
            not_before: self.not_before.clone(),
            expires: self.expires.clone(),
            base_sha256: self.base_sha256.clone(),
            sha256: self.sha256(),
        };
        let (encoding, content) = self.encoded();
        let mut envelope = serde_json::json!({
            "v": VERSION,
            "node": self.scope.to_string(),
            "rev": self.rev,
            "base_sha256": self.base_sha256,
            "mode": self.mode.word(),
            "confirm": self.confirm.word(),
            "confirm_s": self.confirm_s,
            "state_policy": self.state_policy.map(policy_word),
            "not_before": self.not_before.as_ref().map(When::json),
            "expires": self.expires.as_ref().map(When::json),
            "encoding": word_of(ENCODINGS, encoding),
            "sha256": covered.sha256,
            "content": content,
        });
        if let (Some(key), Some(fields)) = (key, envelope.as_object_mut()) {
            let sig = Sig::json(key, &covered.message(&self.scope));
            fields.insert("sig".to_owned(), sig);
        }
        envelope.to_string()
    }

    fn encoded(&self) -> (Encoding, String) {
        let bytes = self.content.as_bytes();
        match self.encoding {
            Encoding::None => (Encoding::None, self.content.clone()),
            Encoding::Base64 => (Encoding::Base64, to_base64(bytes)),
            Encoding::ZstdBase64 => match zstd::bulk::compress(bytes, LEVEL) {
                Ok(packed) => (Encoding::ZstdBase64, to_base64(&packed)),
                // For want of memory: it is right without as well.
                Err(_) => (Encoding::Base64, to_base64(bytes)),
            },
        }
    }
}

/// The word for what becomes of the state.
#[must_use]
pub fn policy_word(policy: StatePolicy) -> &'static str {
    word_of(POLICIES, policy)
}

/// What a word for what becomes of the state means.
#[must_use]
pub fn policy_of(word: &str) -> Option<StatePolicy> {
    let found = POLICIES.iter().find(|(known, _)| *known == word);
    found.map(|(_, policy)| *policy)
}

fn word_of<T: Copy + PartialEq>(words: &[(&'static str, T)], meaning: T) -> &'static str {
    let found = words.iter().find(|(_, other)| *other == meaning);
    found.map_or("", |(word, _)| word)
}

#[cfg(test)]
mod tests;
