//! What lies beside sled, so that one notices when sled has silently lost something.
//!
//! ```text
//! <dir>/mark: sealed (see `seal`), kind 'P', no payload
//! head: the progress counter u64 LE, the end of the log u64 LE
//! ```
//!
//! The end of the log is the place of its last record: the greatest number behind a key's first
//! byte in the table of the log; 0 when there is none. It is written after each sync, without one
//! of its own: so it may lag behind what is durable, but never leads.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::seal::{Sealer, check};
use super::super::{StoreError, table};
use super::place::unusable;

const KIND: u8 = b'P';
const HEAD_BYTES: usize = 16;

/// How far a store has come, at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reached {
    pub(super) progress: u64,
    pub(super) log_end: u64,
}

/// The file.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: Option<File>,
    last: Option<Reached>,
}

impl Mark {
    pub(super) fn new(dir: &Path) -> Mark {
        Mark {
            path: dir.join("mark"),
            file: None,
            last: None,
        }
    }

    /// What it says; nothing when it is not there or cannot be read.
    pub(super) fn read(&self) -> Result<Reached, StoreError> {
        let value = match std::fs::read(&self.path) {
            Ok(value) => value,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Reached::default()),
            Err(error) => return Err(unusable(&self.path, &error)),
        };
        let sealed = check(&value, HEAD_BYTES).ok();
        let reached = sealed.and_then(|sealed| {
            let (progress, rest) = sealed.head.split_first_chunk::<8>()?;
            Some(Reached {
                progress: u64::from_le_bytes(*progress),
                log_end: u64::from_le_bytes(*rest.first_chunk::<8>()?),
            })
        });
        Ok(reached.unwrap_or_default())
    }

    /// Writes it, when it says something new, and says how many bytes.
    pub(super) fn write(&mut self, reached: Reached, durably: bool) -> std::io::Result<u64> {
        if self.last == Some(reached) && !durably {
            return Ok(0);
        }
        let head = [
            reached.progress.to_le_bytes(),
            reached.log_end.to_le_bytes(),
        ]
        .concat();
        let value = Sealer::default().seal(KIND, &head, &[]);
        let value = value.map_err(std::io::Error::other)?;
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false);
            self.file = Some(options.open(&self.path)?);
        }
        if let Some(file) = &self.file {
            file.write_all_at(&value, 0)?;
            if durably {
                file.sync_data()?;
            }
        }
        self.last = Some(reached);
        Ok(u64::try_from(value.len()).unwrap_or(0))
    }
}

/// The place of a record of the log by its key; none when it is none.
pub(super) fn place_in_log(key: &[u8]) -> Option<u64> {
    let (of, number) = key.split_first()?;
    let number = number.first_chunk::<8>().filter(|_| *of == table::LOG)?;
    Some(u64::from_be_bytes(*number))
}
