//! Where one message ends and the next begins, in bytes that come without such marks: from serial
//! ports, TCP connections and files.
//!
//! What it promises: a [`Deframer`] gives whole frames only. However the bytes are cut on their
//! way, the frames are the same. What cannot be a frame (a wrong checksum, too many bytes, an
//! escape that means nothing) is given as a fault with its bytes, and the next whole frame is
//! found. A frame that has only begun is never given: what a connection that ends leaves is
//! dropped, and how much that was is said. It reads no clock: time is an argument.
//!
//! What it leaves to others: reading, and what the payload of a frame means ([`crate::decode`]).

mod checksum;
mod deframe;
mod options;
mod stuffing;
#[cfg(test)]
mod tests;
mod write;

pub use checksum::Algorithm;
pub use deframe::{Deframer, Piece};
pub use options::{FRAMING_OPTIONS, bytes_of, text_of};

use std::time::{Duration, Instant};

use crate::config::options::OptionFault;
use checksum::Checksum;

/// How bytes are cut into frames and payloads are made frames, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    kind: Kind,
    /// The largest payload, in bytes.
    max: usize,
    /// A pause of so long ends a frame.
    idle: Option<Duration>,
    /// Whether what comes before the first mark of an end is a frame; unset: as the connector
    /// knows.
    keeps_first: Option<bool>,
    checksum: Option<Checksum>,
    /// So many bytes at a frame's beginning are not payload.
    strip: usize,
    /// What ends a line that is written.
    ending: &'static [u8],
}

/// What tells frames apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A mark at the end, perhaps one of several at the beginning too.
    Ended {
        starts: Vec<Vec<u8>>,
        end: Vec<u8>,
        coding: Coding,
    },
    /// Its size, known beforehand or written in it, perhaps behind a word to recognise it by.
    Sized { sync: Vec<u8>, size: Size },
    /// Silence.
    Paused,
    /// Whoever gives the bytes: each push is a frame.
    Whole,
}

/// What stands between the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// The payload itself.
    Plain,
    /// The payload, and perhaps a carriage return.
    Line,
    /// Consistent overhead byte stuffing (Cheshire and Baker, 1999).
    Cobs,
    /// RFC 1055.
    Slip,
    /// A sentence of NMEA 0183, with its checksum.
    Nmea,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// So many bytes, everything included.
    Fixed(usize),
    /// As a number in the frame says.
    Field(LengthField),
}

/// A length in a frame: `offset + width + value + adjust` bytes are the whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LengthField {
    /// Where it stands, from the frame's first byte.
    offset: usize,
    /// 1, 2 or 4 bytes.
    width: usize,
    is_little: bool,
    adjust: i64,
}

/// Where in the far side's frames the first byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At a frame's beginning: a connection that was made for us.
    Boundary,
    /// Anywhere: a port that was opened while the device talks. What cannot be known to be a whole
    /// frame is dropped.
    Midway,
}

impl Framing {
    /// Frames that are frames already, datagrams say: each push is one. Of the options only
    /// `framing.max` and those of the checksum count.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn whole(options: &crate::config::options::Options) -> Result<Framing, OptionFault> {
        options::whole(options)
    }

    /// Checks the options, see [`FRAMING_OPTIONS`].
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn from_options(options: &crate::config::options::Options) -> Result<Framing, OptionFault> {
        options::framing(options)
    }

    /// Checks that the beginning of a frame can be found again when bytes are lost or more come,
    /// which happens on a serial line and not in a TCP connection.
    ///
    /// # Errors
    /// It cannot.
    pub fn must_resynchronise(&self) -> Result<(), OptionFault> {
        match &self.kind {
            Kind::Sized { sync, .. }
                if sync.is_empty() && self.checksum.is_none() && self.idle.is_none() =>
            {
                let problem = "when a byte is lost, the next frame is never found again: add \
                               'framing.sync', a 'checksum' or 'framing.idle'";
                Err(OptionFault::new("framing", problem))
            }
            Kind::Ended { .. } | Kind::Sized { .. } | Kind::Paused | Kind::Whole => Ok(()),
        }
    }

    /// How long the line must be quiet between two frames that are written, when it is that what
    /// tells them apart.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.idle
    }

    /// Whether time tells frames apart: then what is read must be read soon.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.idle.is_some()
    }

    /// What makes frames of bytes that come from `now` on.
    #[must_use]
    pub fn deframer(&self, start: Start, now: Instant) -> Deframer {
        Deframer::new(self.clone(), start, now)
    }
}
