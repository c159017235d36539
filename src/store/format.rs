//! Which format a store is written in, so that no program reads, or mends, what it does not know.
//!
//! ```text
//! key 00 'F', and the file <dir>/format: sealed (see `seal`), kind 'F'
//! head: format u32 LE, the lowest format a program must know to use the store u32 LE
//! payload: the version of the program that has written it, as a text; empty in older stores
//! ```
//!
//! The number grows with every change after which an older program would take what is written for
//! damage. A program that knows more reads older stores and writes its own format from then on.
//!
//! The file is there to be read before anything is opened: sled writes when it opens, and takes
//! what it does not know for damage. It is durable before the first thing of its format is
//! written, so that a crash amid an upgrade leaves a store that is refused, never one that is
//! mistaken. It may be missing, or damaged: then the key decides.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::seal::{Damage, Sealer, Unsealer, check};
use super::{Store, StoreError, WriteBatch, table};

/// The format that this program writes. 2 has records of the log that say that the state went back.
pub const FORMAT: u32 = 2;

pub(super) const KEY: &[u8] = &[table::SYSTEM, b'F'];
const FILE: &str = "format";
const KIND: u8 = b'F';
const HEAD_BYTES: usize = 8;

/// What is said of a format.
struct Said {
    format: u32,
    needed: u32,
    by: Option<String>,
}

impl Said {
    /// None when nothing is said, or what is said is damaged: the values themselves will show
    /// whether they can be read.
    fn of(value: &[u8]) -> Option<Said> {
        let sealed = match check(value, HEAD_BYTES) {
            Ok(sealed) => sealed,
            // Written in a manner that did not exist when this program was made.
            Err(Damage::Version(_) | Damage::Flags(_)) => return Some(Said::UNKNOWN),
            Err(_) => return None,
        };
        let (format, needed) = head_of(sealed.head);
        let by = Unsealer::default().payload(sealed).ok();
        let by = by.and_then(|by| String::from_utf8(by.into_owned()).ok());
        let is_version = |by: &String| !by.is_empty() && !by.contains(char::is_control);
        Some(Said {
            format,
            needed,
            by: by.filter(is_version),
        })
    }

    const UNKNOWN: Said = Said {
        format: u32::MAX,
        needed: u32::MAX,
        by: None,
    };

    fn admit(self) -> Result<(), StoreError> {
        match self.needed > FORMAT {
            true => Err(StoreError::TooNew {
                by: self.by,
                needed: self.needed.min(self.format),
                known: FORMAT,
            }),
            false => Ok(()),
        }
    }
}

fn own() -> Vec<u8> {
    let head = [FORMAT.to_le_bytes(), FORMAT.to_le_bytes()].concat();
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let value = Sealer::default().seal(KIND, &head, version);
    value.unwrap_or_default()
}

/// Whether this program may open the store in this state directory, as far as its file says.
///
/// # Errors
/// [`StoreError::TooNew`], and nothing was touched.
pub(super) fn admit(dir: &Path) -> Result<(), StoreError> {
    let value = fs::read(dir.join(FILE)).unwrap_or_default();
    Said::of(&value).map_or(Ok(()), Said::admit)
}

/// The same, as far as the value of [`KEY`] says.
pub(super) fn admit_value(value: Option<&[u8]>) -> Result<(), StoreError> {
    value.and_then(Said::of).map_or(Ok(()), Said::admit)
}

/// The answer to a value that is whole and sealed in a manner that this program does not know.
pub(super) fn unknown() -> StoreError {
    StoreError::TooNew {
        by: None,
        needed: u32::MAX,
        known: FORMAT,
    }
}

/// Says beside the store that this program uses it, durably.
pub(super) fn note(dir: &Path) -> std::io::Result<()> {
    let (path, fresh) = (dir.join(FILE), dir.join("format.new"));
    let own = own();
    match fs::read(&path) {
        Ok(known) if known == own => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = File::create(&fresh)?;
    file.write_all(&own)?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    File::open(dir)?.sync_all()
}

/// Says that the store is used in this program's format, unless a newer program has written it.
///
/// # Errors
/// [`StoreError::TooNew`], and nothing was changed; or the store fails.
pub fn claim(store: &dyn Store) -> Result<(), StoreError> {
    let found = store.get(KEY)?;
    let said = found.as_deref().and_then(Said::of);
    let format = said.as_ref().map_or(0, |said| said.format);
    said.map_or(Ok(()), Said::admit)?;
    if format == FORMAT {
        return Ok(());
    }
    let mut batch = WriteBatch::new();
    batch.put(KEY, own());
    store.write(batch)
}

/// The format that the store says it is in; `None` when it says none, or nothing that this program
/// can read.
///
/// # Errors
/// When the store fails.
pub fn said(store: &dyn Store) -> Result<Option<u32>, StoreError> {
    let found = store.get(KEY)?;
    let sealed = found
        .as_deref()
        .and_then(|value| check(value, HEAD_BYTES).ok());
    Ok(sealed.map(|sealed| head_of(sealed.head).0))
}

fn head_of(head: &[u8]) -> (u32, u32) {
    let number = |at: usize| {
        let bytes = head.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    (number(0), number(4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sim::SimStore;

    fn written(format: u32, needed: u32) -> SimStore {
        let store = SimStore::new();
        let head = [format.to_le_bytes(), needed.to_le_bytes()].concat();
        let mut batch = WriteBatch::new();
        batch.put(KEY, Sealer::default().seal(KIND, &head, b"9.8.7").unwrap());
        store.write(batch).unwrap();
        store
    }

    #[test]
    fn a_newer_store_is_refused_and_left_alone() {
        let store = written(FORMAT + 2, FORMAT + 1);
        let before = store.get(KEY).unwrap();
        let refused = StoreError::TooNew {
            by: Some("9.8.7".to_owned()),
            needed: FORMAT + 1,
            known: FORMAT,
        };
        assert_eq!(claim(&store), Err(refused));
        assert_eq!(store.get(KEY).unwrap(), before);
        assert_eq!(claim(&written(FORMAT + 2, FORMAT)), Ok(()));
    }

    #[test]
    fn a_store_is_claimed_once() {
        let store = SimStore::new();
        claim(&store).unwrap();
        let operations = store.operations();
        claim(&store).unwrap();
        assert_eq!(store.operations(), operations);
        assert!(store.get(KEY).unwrap().is_some());
    }

    #[test]
    fn what_is_sealed_in_an_unknown_manner_is_newer() {
        let store = written(FORMAT, FORMAT);
        let mut value = store.get(KEY).unwrap().unwrap();
        value[0] += 1;
        let sum = crc32c::crc32c(&value[..4]);
        let sum = crc32c::crc32c_append(sum, &value[8..]);
        value[4..8].copy_from_slice(&sum.to_le_bytes());
        let mut batch = WriteBatch::new();
        batch.put(KEY, value);
        store.write(batch).unwrap();
        assert!(matches!(claim(&store), Err(StoreError::TooNew { .. })));
    }
}
