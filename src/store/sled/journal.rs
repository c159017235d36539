//! A batch as one value, so that it happens as a whole.
//!
//! ```text
//! per change:  0 put | 1 delete : u8,  key length: u32 LE,  key,
//!              when put: value length: u32 LE, value
//! ```

use crate::store::WriteBatch;

pub(super) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// `batch` in bytes; `None` when a length does not fit.
pub(super) fn write(batch: &WriteBatch) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(batch.bytes() + batch.len() * 9);
    let field = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
        out.extend_from_slice(bytes);
        Some(())
    };
    for (key, value) in batch.changes() {
        out.push(u8::from(value.is_none()));
        field(&mut out, key)?;
        if let Some(value) = value {
            field(&mut out, value)?;
        }
    }
    Some(out)
}

/// The changes in order; `None` when `bytes` are not what [`write`] makes.
pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<Change<'_>>> {
    fn field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        *bytes = rest;
        Some(field)
    }
    let mut changes = Vec::new();
    while let Some((deletes, rest)) = bytes.split_first() {
        bytes = rest;
        let key = field(&mut bytes)?;
        let value = match deletes {
            0 => Some(field(&mut bytes)?),
            1 => None,
            _ => return None,
        };
        changes.push((key, value));
    }
    Some(changes)
}
