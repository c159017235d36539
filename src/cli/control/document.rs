//! A document, and on which terms it is to hold.

use std::path::Path;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Trouble, text_of};
use crate::config::StatePolicy;
use crate::control::Scope;
use crate::control::envelope::{
    CONFIRM_S_DEFAULT, CONFIRM_S_MAX, Confirm, Draft, Encoding, Mode, When, policy_of,
};

/// No node takes a larger document.
const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// The terms of a document.
#[derive(Debug, Args)]
pub(super) struct Terms {
    /// apply: it is to hold; validate: a dry run, answered with all that is wrong
    #[arg(long, value_name = "MODE", value_parser = modes(), default_value = "apply")]
    pub(super) mode: Mode,
    /// auto: the node's own checks decide whether it stays; operator: somebody must confirm it too
    #[arg(long, value_name = "WHO", value_parser = confirms(), default_value = "auto")]
    pub(super) confirm: Confirm,
    /// How long it is on probation, in seconds
    #[arg(long, value_name = "S", default_value_t = CONFIRM_S_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(CONFIRM_S_MAX)))]
    pub(super) confirm_s: u32,
    /// What becomes of the state; without it the configuration says so
    #[arg(long, value_name = "POLICY", value_parser = policies())]
    state_policy: Option<StatePolicy>,
    /// Not to be applied before this time, such as 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = when)]
    not_before: Option<When>,
    /// Not to be applied from this time on
    #[arg(long, value_name = "TIME", value_parser = when)]
    expires: Option<When>,
    /// Compress the document
    #[arg(long)]
    compress: bool,
}

impl Terms {
    /// A document on these terms.
    pub(super) fn draft(
        &self,
        scope: Scope,
        rev: u64,
        base_sha256: Option<String>,
        content: String,
    ) -> Draft {
        Draft {
            scope,
            rev,
            content,
            base_sha256,
            mode: self.mode,
            confirm: self.confirm,
            confirm_s: self.confirm_s,
            state_policy: self.state_policy,
            not_before: self.not_before.clone(),
            expires: self.expires.clone(),
            encoding: if self.compress {
                Encoding::ZstdBase64
            } else {
                Encoding::None
            },
        }
    }
}

/// The text of a document.
pub(super) fn read(path: &Path) -> Result<String, Trouble> {
    text_of(path, DOCUMENT_BYTES_MAX)
}

fn modes() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(["apply", "validate"]).map(|word| match word.as_str() {
        "validate" => Mode::Validate,
        _ => Mode::Apply,
    })
}

fn confirms() -> impl TypedValueParser<Value = Confirm> {
    PossibleValuesParser::new(["auto", "operator"]).map(|word| match word.as_str() {
        "operator" => Confirm::Operator,
        _ => Confirm::Auto,
    })
}

fn policies() -> impl TypedValueParser<Value = StatePolicy> {
    PossibleValuesParser::new(["keep_compatible", "keep_or_fail", "discard"])
        .try_map(|word| policy_of(&word).ok_or("unknown"))
}

fn when(text: &str) -> Result<When, String> {
    let when = When::parse(text);
    when.ok_or_else(|| "not a time such as 2026-11-21T10:00:00Z".to_owned())
}

/// A SHA-256 as somebody types it.
pub(super) fn sha256(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if lower.len() == 64 && lower.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(lower);
    }
    Err("a SHA-256 has 64 hexadecimal digits".to_owned())
}
