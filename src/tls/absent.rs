//! A build without TLS: whatever asks for it is refused when the configuration is checked.

use tokio::net::TcpStream;

use super::{Fault, NotEncrypted};
use crate::config::options::{OptionFault, Options};

const PROBLEM: &str = "this build has no TLS: use one with the feature `tls`";

/// A connection that we made, encrypted: there is none.
pub type Connected = TcpStream;

/// A connection that we took, encrypted: there is none.
pub type Accepted = TcpStream;

/// What a client needs to speak TLS.
#[derive(Debug)]
pub struct Client(());

/// What a listener needs to speak TLS.
#[derive(Debug)]
pub enum Server {}

/// Says that this build does not encrypt, as `option` wants.
///
/// # Errors
/// Always.
pub fn required(option: &str) -> Result<(), OptionFault> {
    Err(refused(option))
}

/// Checks that no client option `<prefix>.…` is written for this stream. What is written for all
/// streams need not concern this one.
///
/// # Errors
/// The first that is.
pub fn client(options: &Options, prefix: &str) -> Result<Client, OptionFault> {
    match under(options, prefix).find(|name| options.is_own(name)) {
        None => Ok(Client(())),
        Some(name) => Err(refused(name)),
    }
}

/// Checks that no listener option `<prefix>.…` is written.
///
/// # Errors
/// The first that is.
pub fn server(
    options: &Options,
    prefix: &str,
    _alpn: &[&str],
) -> Result<Option<Server>, OptionFault> {
    match under(options, prefix).next() {
        None => Ok(None),
        Some(name) => Err(refused(name)),
    }
}

/// The options under `prefix` that have a value.
fn under<'a>(options: &'a Options, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let names = options.iter().map(|(name, ..)| name);
    names.filter(move |name| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with('.'))
    })
}

fn refused(option: &str) -> OptionFault {
    OptionFault::new(option, PROBLEM)
}

impl Client {
    /// Fails, as nothing is encrypted here.
    ///
    /// # Errors
    /// Always.
    pub async fn encrypt(
        &self,
        _host: &str,
        _stream: TcpStream,
    ) -> Result<Connected, NotEncrypted> {
        Err(Fault::from(refused("tls")).into())
    }
}

impl Server {
    /// There is no such listener.
    ///
    /// # Errors
    /// Never.
    pub async fn accept(&self, _stream: TcpStream) -> Result<Accepted, NotEncrypted> {
        match *self {}
    }

    /// There is no such listener.
    #[must_use]
    pub fn wants_client_certificates(&self) -> bool {
        match *self {}
    }
}

/// Refuses a name under which a far side is to be verified.
///
/// # Errors
/// Always.
pub fn parse_name(option: &str, _name: &str) -> Result<(), OptionFault> {
    required(option)
}

/// What a failed handshake comes down to: there is none.
#[must_use]
pub fn explain(_error: &std::io::Error, _prefix: &str) -> Option<String> {
    None
}
