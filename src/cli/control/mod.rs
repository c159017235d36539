//! `control`: the operator's side of configuration over MQTT, for people and for the pipelines of
//! a fleet.
//!
//! Progress goes to the standard error, what was asked for to the standard output; how it ended is
//! the exit code.

mod broker;
mod document;
mod finish;
mod keygen;
mod line;
mod push;
mod report;
mod request;
mod sign;
mod verify;
mod watch;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Exit, Terminal};
use crate::control::Scope;
use crate::control::keys::{KeyError, SigningKey};

#[derive(Debug, Subcommand)]
pub(super) enum Question {
    /// Make a pair of keys to sign with
    ///
    /// The private key (PKCS#8, PEM) stays with whoever signs; the public key (SPKI, PEM) goes to
    /// the folder `security.trusted_path` of every node that is to obey, and nowhere else.
    Keygen(keygen::Keygen),
    /// Put a document into a signed envelope, and write that to the standard output
    ///
    /// For signing where there is no way to the broker; any MQTT client can publish the result,
    /// retained, to ROOT/v1/NODE/config/desired.
    Sign(sign::Sign),
    /// Check an envelope as a node would before it looks at the content
    Verify(verify::Verify),
    /// Publish a document, and follow what becomes of it to the end
    ///
    /// The end is in_sync or valid (exit code 0), rejected, expired or replaced by another (8),
    /// rolled_back (9), or no end in time (10). The password for the broker is taken from
    /// --password-file or from EVENTFLUX_MQTT_PASSWORD.
    Push(Box<push::Push>),
    /// Show what nodes say: their state, what becomes of documents, events
    Watch(Box<watch::Watch>),
    /// Send a request, and print the answer
    Request(Box<request::Request>),
}

pub(super) fn control(question: &Question, terminal: &mut Terminal<'_>) -> Exit {
    let done = match question {
        Question::Keygen(wish) => keygen::keygen(wish, terminal),
        Question::Sign(wish) => sign::sign(wish, terminal),
        Question::Verify(wish) => verify::verify(wish, terminal),
        Question::Push(wish) => push::push(wish, terminal),
        Question::Watch(wish) => watch::watch(wish, terminal),
        Question::Request(wish) => request::request(wish, terminal),
    };
    done.unwrap_or_else(|trouble| {
        terminal.complain(format_args!("error: {}", report::clean(&trouble.message)));
        trouble.exit
    })
}

/// Why a command could not do what it was asked for.
#[derive(Debug)]
struct Trouble {
    exit: Exit,
    message: String,
}

impl Trouble {
    fn new(exit: Exit, message: impl Into<String>) -> Trouble {
        Trouble {
            exit,
            message: message.into(),
        }
    }
}

impl From<KeyError> for Trouble {
    fn from(error: KeyError) -> Trouble {
        Trouble::new(Exit::Usage, error.to_string())
    }
}

/// Whom a document is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Addressee {
    /// The node
    #[arg(long, value_name = "NAME", value_parser = name)]
    node: Option<String>,
    /// All nodes that are in this group
    #[arg(long, value_name = "NAME", value_parser = name)]
    group: Option<String>,
}

impl Addressee {
    fn scope(&self) -> Scope {
        match (&self.node, &self.group) {
            (Some(node), _) => Scope::Node(node.clone()),
            (None, group) => Scope::Group(group.clone().unwrap_or_default()),
        }
    }
}

/// The name of a node or of a group.
fn name(text: &str) -> Result<String, String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=64).contains(&text.len()) && text.chars().all(is_known) {
        return Ok(text.to_owned());
    }
    Err("a name has 1 to 64 of A-Z, a-z, 0-9, _ and -".to_owned())
}

fn signing_key(path: Option<&PathBuf>) -> Result<Option<SigningKey>, Trouble> {
    let key = path.map(|path| SigningKey::read(path)).transpose();
    key.map_err(Trouble::from)
}

/// Runs what talks to a broker.
fn wait_for<T>(talk: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(talk),
        Err(error) => {
            let message = format!("cannot talk to anybody: {error}");
            Err(Trouble::new(Exit::Failure, message))
        }
    }
}

/// The text of a file, or of the standard input for `-`.
fn text_of(path: &Path, bytes_max: u64) -> Result<String, Trouble> {
    use std::io::Read as _;
    let cannot = |why: String| {
        let message = format!("cannot read `{}`: {why}", path.display());
        Trouble::new(Exit::Configuration, message)
    };
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        let input = std::io::stdin();
        input
            .take(bytes_max.saturating_add(1))
            .read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).map_err(|error| cannot(error.to_string()))?;
        file.take(bytes_max.saturating_add(1))
            .read_to_string(&mut text)
    };
    let read = read.map_err(|error| cannot(error.to_string()))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > bytes_max {
        return Err(cannot(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(text)
}
