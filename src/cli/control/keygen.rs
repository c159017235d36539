//! `control keygen`: a pair of keys.

use std::path::PathBuf;

use clap::Args;

use super::Trouble;
use crate::cli::{Exit, Terminal};
use crate::control::keys::{KeyError, SigningKey};

#[derive(Debug, Args)]
pub(in crate::cli) struct Keygen {
    /// Where the private key goes; the public key goes beside it, with the ending .pub
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn keygen(wish: &Keygen, terminal: &mut Terminal<'_>) -> Result<Exit, Trouble> {
    let public = wish.file.with_extension("pub");
    if public == wish.file {
        let message = "the private key cannot end with .pub: that is the public one's ending";
        return Err(Trouble::new(Exit::Usage, message));
    }
    // Neither is written when one of them cannot be.
    if public.symlink_metadata().is_ok() {
        return Err(KeyError::Exists { path: public }.into());
    }
    let key = SigningKey::generate()?;
    key.write(&wish.file)?;
    key.write_public(&public)?;
    terminal.say(key.kid());
    terminal.complain(format_args!(
        "private key: {}, to sign with; keep it to yourself\n\
         public key:  {}, for /etc/eventflux/trusted.d of every node that is to obey",
        wish.file.display(),
        public.display()
    ));
    Ok(Exit::Success)
}
