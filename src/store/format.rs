//! Which format a store is written in, so that no program reads, or mends, what it does not know.
//!
//! ```text
//! key 00 'F', sealed (see `seal`), kind 'F', no payload
//! head: format u32 LE, the lowest format a program must know to use the store u32 LE
//! ```
//!
//! The number grows with every change after which an older program would take what is written for
//! damage. A program that knows more reads older stores and writes its own format from then on.

use super::seal::{Damage, Sealer, check};
use super::{Store, StoreError, WriteBatch, table};

/// The format that this program writes. 2 has records of the log that say that the state went back.
pub const FORMAT: u32 = 2;

const KEY: &[u8] = &[table::SYSTEM, b'F'];
const KIND: u8 = b'F';
const HEAD_BYTES: usize = 8;

/// Says that the store is used in this program's format, unless a newer program has written it.
///
/// # Errors
/// [`StoreError::TooNew`], and nothing was changed; or the store fails.
pub fn claim(store: &dyn Store) -> Result<(), StoreError> {
    let found = store.get(KEY)?;
    let known = found.as_deref().map(|value| check(value, HEAD_BYTES));
    let (format, needed) = match known {
        Some(Ok(sealed)) => head_of(sealed.head),
        // Written in a manner that did not exist when this program was made.
        Some(Err(Damage::Version(_) | Damage::Flags(_))) => (u32::MAX, u32::MAX),
        // The values themselves will show whether they can be read.
        None | Some(Err(_)) => (0, 0),
    };
    if needed > FORMAT {
        return Err(StoreError::TooNew {
            needed: needed.min(format),
            known: FORMAT,
        });
    }
    if format == FORMAT {
        return Ok(());
    }
    let head = [FORMAT.to_le_bytes(), FORMAT.to_le_bytes()].concat();
    let value = Sealer::default().seal(KIND, &head, &[]);
    let mut batch = WriteBatch::new();
    batch.put(KEY, value.unwrap_or_default());
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
        batch.put(KEY, Sealer::default().seal(KIND, &head, &[]).unwrap());
        store.write(batch).unwrap();
        store
    }

    #[test]
    fn a_newer_store_is_refused_and_left_alone() {
        let store = written(FORMAT + 2, FORMAT + 1);
        let before = store.get(KEY).unwrap();
        let refused = StoreError::TooNew {
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
