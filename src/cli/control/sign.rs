//! `control sign`: a signed envelope, away from any broker.

use std::path::PathBuf;

use clap::Args;

use super::document::{self, Terms};
use super::{Addressee, Trouble};
use crate::cli::{Exit, Terminal};
use crate::control::keys::SigningKey;

#[derive(Debug, Args)]
pub(in crate::cli) struct Sign {
    /// The document (TOML); - for the standard input
    #[arg(value_name = "DOC")]
    document: PathBuf,
    #[command(flatten)]
    to: Addressee,
    /// The private key to sign with
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Its revision: higher than every one that the node has accepted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rev: u64,
    /// Apply it only in place of the configuration with this SHA-256
    #[arg(long, value_name = "SHA256", value_parser = document::sha256)]
    base: Option<String>,
    #[command(flatten)]
    terms: Terms,
}

pub(super) fn sign(wish: &Sign, terminal: &mut Terminal<'_>) -> Result<Exit, Trouble> {
    let key = SigningKey::read(&wish.key)?;
    let content = document::read(&wish.document)?;
    let base = wish.base.clone();
    let draft = wish.terms.draft(wish.to.scope(), wish.rev, base, content);
    terminal.say(draft.to_json(Some(&key)));
    Ok(Exit::Success)
}
