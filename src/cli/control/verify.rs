//! `control verify`: an envelope as a node sees it.

use std::path::PathBuf;

use clap::Args;

use super::report::clean;
use super::{Addressee, Trouble, text_of};
use crate::cli::{Exit, Terminal};
use crate::control::envelope::{self, Demand, Desired, Rules, policy_word};
use crate::control::keys::{PublicKey, Trusted};

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// The envelope (JSON); - for the standard input
    #[arg(value_name = "ENVELOPE")]
    envelope: PathBuf,
    #[command(flatten)]
    to: Addressee,
    #[command(flatten)]
    keys: Keys,
    /// How large the document may be: control.max_bytes of the node
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10)]
    max_bytes: u32,
    /// Print the document itself
    #[arg(long)]
    content: bool,
}

/// Whose signatures count.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Keys {
    /// A folder of public keys, as security.trusted_path of a node
    #[arg(long, value_name = "FOLDER")]
    trusted: Option<PathBuf>,
    /// A public key
    #[arg(long = "pub", value_name = "FILE")]
    public: Option<PathBuf>,
}

pub(super) fn verify(wish: &Verify, terminal: &mut Terminal<'_>) -> Result<Exit, Trouble> {
    let mut trusted = Trusted::default();
    if let Some(folder) = &wish.keys.trusted {
        let (read, warnings) = Trusted::read(folder);
        trusted = read;
        for warning in warnings {
            terminal.complain(format_args!("warning: {warning}"));
        }
    }
    if let Some(path) = &wish.keys.public {
        trusted.add(PublicKey::read(path)?);
    }
    let scope = wish.to.scope();
    let rules = Rules {
        scope: &scope,
        content_bytes_max: usize::try_from(wish.max_bytes).unwrap_or(usize::MAX),
        demand: Demand::Signed,
        trusted: &trusted,
    };
    let bytes_max = u64::try_from(rules.payload_bytes_max()).unwrap_or(u64::MAX);
    let payload = text_of(&wish.envelope, bytes_max.saturating_add(1))?;
    // As a text file it may end with a line break, which costs nothing.
    match envelope::read(payload.trim_end().as_bytes(), &rules) {
        Ok(desired) if wish.content => {
            terminal.say(desired.content.trim_end_matches('\n'));
            Ok(Exit::Success)
        }
        Ok(desired) => {
            say(&desired, terminal);
            Ok(Exit::Success)
        }
        Err(refused) => {
            terminal.complain(clean(&refused.to_string()));
            Ok(Exit::Refused)
        }
    }
}

fn say(desired: &Desired, terminal: &mut Terminal<'_>) {
    let policy = desired.state_policy.map(policy_word);
    let time = |time: Option<crate::event::Timestamp>| time.map(crate::event::Timestamp::utc);
    let lines = [
        ("rev", Some(desired.rev.to_string())),
        ("sha256", Some(desired.sha256.clone())),
        ("base_sha256", desired.base_sha256.clone()),
        ("mode", Some(desired.mode.word().to_owned())),
        ("confirm", Some(desired.confirm.word().to_owned())),
        ("confirm_s", Some(desired.confirm_s.to_string())),
        ("state_policy", policy.map(str::to_owned)),
        ("not_before", time(desired.not_before)),
        ("expires", time(desired.expires)),
        ("bytes", Some(desired.content.len().to_string())),
        ("signed_by", desired.signed_by.clone()),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            terminal.say(format_args!("{name:<13}{value}"));
        }
    }
}
