//! The texts of a configuration as they were read, and as they may be shown.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::catalogue;
use super::prepare::{Failure, Prepared};
use crate::config::{self, Veil};
use crate::diagnostic::Diagnostic;
use crate::event::to_hex;

/// Everything that was read, by path.
pub(super) struct Written {
    pub(super) texts: BTreeMap<String, String>,
    pub(super) veil: Veil,
}

impl Written {
    pub(super) fn new(texts: BTreeMap<String, String>) -> Written {
        let mut options = catalogue::all_options();
        options.push(catalogue::CONTROL);
        Written {
            veil: Veil::over(&texts, &options),
            texts,
        }
    }

    /// The texts with stars in place of the characters of secrets.
    pub(super) fn shown(&self) -> BTreeMap<String, String> {
        let texts = self.texts.iter();
        let masked = texts.map(|(path, text)| (path.clone(), self.veil.mask(path, text)));
        masked.collect()
    }

    /// Every secret that is written into a document as it is.
    pub(super) fn secrets_in(&self, document: &str) -> Vec<Diagnostic> {
        let text = self.texts.get(document);
        text.map_or_else(Vec::new, |text| self.veil.faults(document, text))
    }

    /// Findings that quote no secret.
    pub(super) fn veiled(&self, findings: Vec<Diagnostic>) -> Vec<Diagnostic> {
        veiled(findings, &self.veil)
    }

    /// What keeps a configuration from being used, in the order of the texts.
    pub(super) fn failure(&self, findings: Vec<Diagnostic>, order: &[String]) -> Failure {
        let mut diagnostics = self.veiled(findings);
        config::in_order(&mut diagnostics, order);
        Failure {
            diagnostics,
            texts: self.shown(),
            is_local_only: false,
        }
    }
}

/// Findings that quote nothing that is behind a veil.
pub(super) fn veiled(findings: Vec<Diagnostic>, veil: &Veil) -> Vec<Diagnostic> {
    let veiled = findings.into_iter().map(|found| Diagnostic {
        message: veil.sentence(&found.message),
        hint: found.hint.map(|hint| veil.sentence(&hint)),
        ..found
    });
    veiled.collect()
}

impl Prepared {
    /// A value without what variables stand for in a document.
    #[must_use]
    pub fn without_variables(&self, value: serde_json::Value) -> serde_json::Value {
        self.veil.value(value)
    }

    /// The text of a file or document that was read, with `[hidden]` in place of every secret that
    /// is written there as it is; references stay as they are.
    #[must_use]
    pub fn redacted(&self, path: &str) -> Option<String> {
        Some(self.veil.redact(path, self.texts.get(path)?))
    }
}

/// Everything that a configuration was read from, by path.
pub type Texts = BTreeMap<String, String>;

/// By what a configuration is known: of one text its SHA-256, as `sha256sum` shows it; of several
/// that of their sums, a line each in the order of their paths.
#[must_use]
pub fn fingerprint(texts: &Texts) -> String {
    let sum = |text: &str| to_hex(&Sha256::digest(text.as_bytes()));
    let sums: Vec<String> = texts.values().map(|text| sum(text)).collect();
    match sums.as_slice() {
        [one] => one.clone(),
        several => sum(&several.join("\n")),
    }
}
