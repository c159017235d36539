//! TLS, from what is written in the configuration: for whoever connects, and for whoever listens.
//!
//! What it promises: whatever of the certificates and keys can be read is checked before anything
//! runs, and a fault names the option, the file and what is wrong with it. A file that may not be
//! read (yet) is no fault then, but one when a connection is made. Files that have changed are
//! read again for the next connection, so that a renewed certificate needs no restart.
//! Certificates are always verified; there is no option against that.
//!
//! Which authorities are trusted when none is written: those of the system, so that what a company
//! has installed there counts; where a system has none, those that Mozilla trusted when this was
//! built.
//!
//! What it leaves to its users: connecting, listening, and the names of the options.
//!
//! A build without the feature `tls` knows the options, and refuses them.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod present;

#[cfg(not(feature = "tls"))]
pub use absent::*;
#[cfg(feature = "tls")]
pub use present::*;

use crate::config::options::{OptionFault, OptionKind, OptionSpec};

/// The authorities that a client trusts.
#[must_use]
pub const fn ca(name: &'static str) -> OptionSpec {
    OptionSpec::new(
        name,
        OptionKind::Text,
        "The certificates of the authorities to trust, in place of the system's: a PEM file, or \
         the PEM itself",
    )
}

/// The certificate that a client shows.
#[must_use]
pub const fn cert(name: &'static str) -> OptionSpec {
    OptionSpec::new(
        name,
        OptionKind::Text,
        "Our certificate, followed by those between it and its authority: a PEM file, or the PEM \
         itself",
    )
}

/// The key of that certificate.
#[must_use]
pub const fn key(name: &'static str) -> OptionSpec {
    OptionSpec::new(
        name,
        OptionKind::Text,
        "The private key of our certificate, not encrypted: a PEM file, or the PEM itself as \
         ${secret:name}",
    )
    .secret()
}

/// The name under which the far side is addressed and verified.
#[must_use]
pub const fn server_name(name: &'static str) -> OptionSpec {
    OptionSpec::new(
        name,
        OptionKind::Text,
        "The name that the far side's certificate must bear, and that we ask for (SNI), when it \
         is not the host we connect to",
    )
}

/// The protocols that a client offers.
#[must_use]
pub const fn alpn(name: &'static str) -> OptionSpec {
    OptionSpec::new(name, OptionKind::List, "The protocols to offer (ALPN)")
}

/// The authorities whose certificates a listener wants from its clients.
#[must_use]
pub const fn client_ca(name: &'static str) -> OptionSpec {
    OptionSpec::new(
        name,
        OptionKind::Text,
        "Only clients with a certificate of these authorities are let in: a PEM file, or the PEM \
         itself",
    )
}

/// What is wrong with certificates and keys when a connection is to be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(#[from] OptionFault);

/// Why a connection is not encrypted.
#[derive(Debug, thiserror::Error)]
pub enum NotEncrypted {
    /// What we have to show cannot be used now.
    #[error(transparent)]
    Ours(#[from] Fault),
    /// The far side broke it off, or must not be trusted.
    #[error(transparent)]
    Theirs(#[from] std::io::Error),
}
