//! The form of checkpoints before runs. It is read and removed, and not written any more.
//!
//! ```text
//! key       'C'  number: u64 BE, counted upwards  part: u32 BE, FFFFFFFF for the manifest
//! value     sealed, see `store::seal`
//! frame     kind 1   head: number u64 LE, part u32 LE
//!           payload: per piece  operator u64 LE, key u64 LE, length u32 LE, bytes;
//!           pieces of one operator and key that follow each other are one chunk
//! manifest  kind 2   head: number u64 LE, seq u64 LE
//!           payload: CBOR [time, application, marks, [CRC-32C of the sealed frame, ...]]
//! ```
//!
//! No number had ever a first byte but 0, so that these keys lie before those of today.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::manifest::{Form, Keys, Listed};
use super::{Migrated, Restored};
use crate::event::{DeliveryMark, Place, Seq, State, StateChanges, Timestamp, cbor};
use crate::store::seal::{Damage, Unsealer, check};
use crate::store::{Store, StoreError, table};

const KIND_FRAME: u8 = 1;
const KIND_MANIFEST: u8 = 2;
const FRAME_HEAD: usize = 12;
const MANIFEST_HEAD: usize = 16;
const MANIFEST_PART: u32 = u32::MAX;

type Payload = (
    Timestamp,
    String,
    BTreeMap<String, Vec<DeliveryMark>>,
    Vec<u32>,
);

struct Manifest {
    seq: Seq,
    time: Timestamp,
    migrated: Migrated,
    sums: Vec<u32>,
}

/// All checkpoints of the old form, oldest first.
pub(super) fn list(store: &dyn Store) -> Result<Vec<Listed>, StoreError> {
    let mut listed = Vec::new();
    for number in numbers(store)? {
        let Some(value) = store.get(&manifest_key(number))? else {
            continue;
        };
        let (seq, time, form) = match manifest(number, &value) {
            Ok(manifest) => (manifest.seq, manifest.time, Form::Old),
            Err(damage) => {
                let form = Form::Damaged(format!("its manifest: {damage}"));
                (Seq(0), Timestamp(0), form)
            }
        };
        listed.push(Listed {
            number,
            seq,
            time,
            form,
        });
    }
    Ok(listed)
}

/// Frames of the old form that have no manifest, and the greatest number.
pub(super) fn orphans(store: &dyn Store) -> Result<(Vec<Keys>, u64), StoreError> {
    let mut orphans = Vec::new();
    let mut last = 0;
    for number in numbers(store)? {
        last = number;
        if store.get(&manifest_key(number))?.is_none() {
            orphans.push(keys(number));
        }
    }
    Ok((orphans, last))
}

fn numbers(store: &dyn Store) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    let mut from = key(0, 0);
    loop {
        let mut found = None;
        store.range(&from, &[table::CHECKPOINT, 1], &mut |key, _| {
            let number = key.get(1..).and_then(<[u8]>::first_chunk::<8>);
            found = number.map(|number| u64::from_be_bytes(*number));
            ControlFlow::Break(())
        })?;
        let Some(number) = found else {
            return Ok(numbers);
        };
        numbers.push(number);
        (_, from) = keys(number);
    }
}

pub(super) fn keys(number: u64) -> Keys {
    let mut end = manifest_key(number);
    end.push(0);
    (key(number, 0), end)
}

pub(super) fn manifest_key(number: u64) -> Vec<u8> {
    key(number, MANIFEST_PART)
}

fn key(number: u64, part: u32) -> Vec<u8> {
    let mut key = vec![table::CHECKPOINT];
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

fn manifest(number: u64, value: &[u8]) -> Result<Manifest, Damage> {
    let sealed = check(value, MANIFEST_HEAD)?;
    let (own, rest) = sealed.head.split_first_chunk::<8>().ok_or(Damage::Short)?;
    let seq = u64::from_le_bytes(*rest.first_chunk::<8>().ok_or(Damage::Short)?);
    if sealed.kind != KIND_MANIFEST || u64::from_le_bytes(*own) != number {
        return Err(Damage::Misplaced);
    }
    let payload = Unsealer::default().payload(sealed)?;
    let (time, application, marks, sums): Payload =
        cbor::decode(&payload).map_err(|_| Damage::Content)?;
    Ok(Manifest {
        seq: Seq(seq),
        time,
        migrated: Migrated { application, marks },
        sums,
    })
}

/// What the checkpoint with a number has kept.
pub(super) fn load(store: &dyn Store, number: u64) -> Result<Result<Restored, Damage>, StoreError> {
    let Some(value) = store.get(&manifest_key(number))? else {
        return Ok(Err(Damage::Short));
    };
    let manifest = match manifest(number, &value) {
        Ok(manifest) => manifest,
        Err(damage) => return Ok(Err(damage)),
    };
    let mut unsealer = Unsealer::default();
    let mut sums = manifest.sums.into_iter();
    let mut damage = None;
    let mut chunks = Chunks::default();
    let (from, to) = (key(number, 0), manifest_key(number));
    store.range(&from, &to, &mut |_, value| {
        let read = match sums.next() {
            Some(sum) if sum == crc32c::crc32c(value) => chunks.take(value, &mut unsealer),
            Some(_) => Err(Damage::Checksum),
            None => Err(Damage::Misplaced),
        };
        match read {
            Ok(()) => ControlFlow::Continue(()),
            Err(found) => {
                damage = Some(found);
                ControlFlow::Break(())
            }
        }
    })?;
    if sums.next().is_some() {
        damage = damage.or(Some(Damage::Short));
    }
    Ok(match damage {
        Some(damage) => Err(damage),
        None => Ok(Restored {
            number,
            seq: manifest.seq,
            time: manifest.time,
            state: chunks.state(),
            migrated: Some(manifest.migrated),
        }),
    })
}

#[derive(Default)]
struct Chunks {
    whole: StateChanges,
    begun: Option<(Place, Vec<u8>)>,
}

impl Chunks {
    fn take(&mut self, value: &[u8], unsealer: &mut Unsealer) -> Result<(), Damage> {
        let sealed = check(value, FRAME_HEAD)?;
        if sealed.kind != KIND_FRAME {
            return Err(Damage::Misplaced);
        }
        let payload = unsealer.payload(sealed)?;
        let mut rest: &[u8] = &payload;
        while !rest.is_empty() {
            let (operator, after) = rest.split_first_chunk::<8>().ok_or(Damage::Content)?;
            let (key, after) = after.split_first_chunk::<8>().ok_or(Damage::Content)?;
            let (length, after) = after.split_first_chunk::<4>().ok_or(Damage::Content)?;
            let length =
                usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Damage::Content)?;
            let (bytes, after) = after.split_at_checked(length).ok_or(Damage::Content)?;
            rest = after;
            let place = Place {
                operator: u64::from_le_bytes(*operator),
                key: u64::from_le_bytes(*key),
            };
            match &mut self.begun {
                Some((begun, piece)) if *begun == place => piece.extend_from_slice(bytes),
                Some(_) | None => {
                    self.end();
                    self.begun = Some((place, bytes.to_vec()));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        if let Some((place, piece)) = self.begun.take() {
            let put = self.whole.put(place, |out| {
                out.extend_from_slice(&piece);
                Ok::<(), std::convert::Infallible>(())
            });
            let Ok(()) = put;
        }
    }

    fn state(mut self) -> State {
        self.end();
        State::from_changes(self.whole)
    }
}
