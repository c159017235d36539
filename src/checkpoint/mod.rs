//! Checkpoints: the state of all operators as of one [`Seq`].
//!
//! Promises: [`Checkpoints::load_latest`] gives a snapshot exactly as it was saved, or an older
//! one, or none; never a mixture.
//!
//! Leaves to others: what the chunks mean (the engine), when to save, and trimming the log, which
//! must keep everything from [`Checkpoints::oldest_retained`] on.
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
//! The frames are written one by one, then the manifest with the caller's batch. There is no sync
//! between: a crash keeps a prefix of the writes, so that a manifest is never there without its
//! frames, and a disk that breaks this order is noticed by the checksums in the manifest. Frames
//! without a manifest are removed at open. Chunks go into a frame until it holds
//! [`FRAME_BYTES_MAX`]; beyond some 7 KiB packed the store would put them into files of their own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::event::{DeliveryMark, Seq, Timestamp, cbor};
use crate::store::seal::{Damage, Sealer, TooLong, Unsealer, check};
use crate::store::{Store, StoreError, WriteBatch, table};

/// A frame is closed when it holds so many bytes, unpacked; a larger chunk has its own.
pub const FRAME_BYTES_MAX: usize = 32 << 10;
/// A larger chunk is stored in pieces.
const PIECE_BYTES_MAX: usize = 16 << 20;

const KIND_FRAME: u8 = 1;
const KIND_MANIFEST: u8 = 2;
const FRAME_HEAD: usize = 12;
const MANIFEST_HEAD: usize = 16;
const MANIFEST_PART: u32 = u32::MAX;
/// Frames without a manifest that are removed in one write.
const REMOVED_MAX: usize = 256;

/// The state of everything after one input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The last input that the state has seen.
    pub seq: Seq,
    /// The log's clock.
    pub time: Timestamp,
    /// The application whose operators the chunks belong to, in its written form.
    pub application: String,
    /// The operators' state.
    pub chunks: Vec<Chunk>,
    /// By source: what the sources' brokers could deliver again.
    pub marks: BTreeMap<String, Vec<DeliveryMark>>,
}

/// A piece of one operator's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The fingerprint of the operator's plan.
    pub operator: u64,
    /// The operator's name for the piece.
    pub key: u64,
    /// The piece, in a form that only the operator knows.
    pub bytes: Vec<u8>,
}

/// Why a checkpoint cannot be saved or looked for.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chunk or the list of frames is too large.
    #[error("cannot save the checkpoint: {0}")]
    TooLong(#[from] TooLong),
    /// It has more than 2³² frames.
    #[error("cannot save the checkpoint: it has too many parts")]
    TooMany,
    /// The manifest cannot be encoded.
    #[error("cannot save the checkpoint: {0}")]
    Encode(#[from] cbor::CborError),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The newest snapshot that is whole.
    pub snapshot: Option<Snapshot>,
    /// Newer ones that are not, and why: a sentence each.
    pub skipped: Vec<String>,
}

/// What was saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The chunks' bytes.
    pub state_bytes: u64,
    /// The bytes given to the store.
    pub stored_bytes: u64,
}

/// The checkpoints of one store.
pub struct Checkpoints {
    store: Arc<dyn Store>,
    keep: usize,
    /// Oldest first.
    retained: Vec<Retained>,
    next: u64,
    sealer: Sealer,
}

impl std::fmt::Debug for Checkpoints {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Checkpoints")
            .field("retained", &self.retained)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
struct Retained {
    number: u64,
    seq: Seq,
}

type Manifest = (
    Timestamp,
    String,
    BTreeMap<String, Vec<DeliveryMark>>,
    Vec<u32>,
);

impl Checkpoints {
    /// Finds what is there and removes what an interrupted [`Checkpoints::save`] left behind.
    /// `keep` says how many are kept; at least 1.
    pub fn open(store: Arc<dyn Store>, keep: usize) -> Result<Checkpoints, CheckpointError> {
        let mut retained = Vec::new();
        let mut orphans: Vec<Vec<u8>> = Vec::new();
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut current = 0;
        let mut next = 1;
        store.range(
            &[table::CHECKPOINT],
            &[table::CHECKPOINT + 1],
            &mut |key, value| {
                let Some((number, part)) = place_of(key) else {
                    orphans.push(key.to_vec());
                    return ControlFlow::Continue(());
                };
                if number != current {
                    orphans.append(&mut frames);
                    current = number;
                }
                next = next.max(number.saturating_add(1));
                if part != MANIFEST_PART {
                    frames.push(key.to_vec());
                    return ControlFlow::Continue(());
                }
                // A damaged manifest stays until it is pushed out, so that loading can speak of it.
                let sealed = check(value, MANIFEST_HEAD).ok();
                let seq = sealed.and_then(|sealed| sealed.head.get(8..)?.first_chunk::<8>());
                let seq = Seq(seq.map_or(0, |seq| u64::from_le_bytes(*seq)));
                retained.push(Retained { number, seq });
                frames.clear();
                ControlFlow::Continue(())
            },
        )?;
        orphans.append(&mut frames);
        for some in orphans.chunks(REMOVED_MAX) {
            let mut batch = WriteBatch::new();
            some.iter().for_each(|key| batch.delete(key.as_slice()));
            store.write(batch)?;
        }
        Ok(Checkpoints {
            store,
            keep: keep.max(1),
            retained,
            next,
            sealer: Sealer::default(),
        })
    }

    /// The oldest input after which a retained checkpoint begins: the log must keep everything
    /// after it. `None` when there is no checkpoint, or one whose input is not known: then the
    /// log must keep everything.
    #[must_use]
    pub fn oldest_retained(&self) -> Option<Seq> {
        let oldest = self.retained.iter().map(|retained| retained.seq).min();
        oldest.filter(|seq| *seq > Seq(0))
    }

    /// Writes the snapshot's frames now and puts its manifest, and the removal of what is older
    /// than the newest that are kept, into `batch`: the checkpoint exists once the caller has
    /// written that.
    pub fn save(
        &mut self,
        snapshot: &Snapshot,
        batch: &mut WriteBatch,
    ) -> Result<Saved, CheckpointError> {
        let number = self.next;
        self.next = number.saturating_add(1);
        let mut saved = Saved::default();
        let mut sums: Vec<u32> = Vec::new();
        let mut frame = Vec::new();
        let mut pieces = snapshot.chunks.iter().flat_map(pieces).peekable();
        while let Some((chunk, bytes)) = pieces.next() {
            saved.state_bytes += bytes_of(bytes);
            put_piece(chunk, bytes, &mut frame)?;
            let follows = pieces.peek().map_or(usize::MAX, |(_, next)| next.len());
            if frame.len().saturating_add(follows) > FRAME_BYTES_MAX {
                let part = u32::try_from(sums.len()).ok();
                let part = part.filter(|part| *part < MANIFEST_PART);
                let part = part.ok_or(CheckpointError::TooMany)?;
                let mut head = number.to_le_bytes().to_vec();
                head.extend_from_slice(&part.to_le_bytes());
                let value = self.sealer.seal(KIND_FRAME, &head, &frame)?;
                sums.push(crc32c::crc32c(&value));
                saved.stored_bytes += bytes_of(&value);
                let mut one = WriteBatch::new();
                one.put(place(number, part), value);
                self.store.write(one)?;
                frame.clear();
            }
        }
        let mut head = number.to_le_bytes().to_vec();
        head.extend_from_slice(&snapshot.seq.0.to_le_bytes());
        let payload =
            cbor::encode(&(snapshot.time, &snapshot.application, &snapshot.marks, &sums))?;
        let value = self.sealer.seal(KIND_MANIFEST, &head, &payload)?;
        saved.stored_bytes += bytes_of(&value);
        batch.put(place(number, MANIFEST_PART), value);
        let seq = snapshot.seq;
        self.retained.push(Retained { number, seq });
        self.forget_old(batch)?;
        Ok(saved)
    }

    fn forget_old(&mut self, batch: &mut WriteBatch) -> Result<(), CheckpointError> {
        let surplus = self.retained.len().saturating_sub(self.keep);
        for old in self.retained.drain(..surplus) {
            // The manifest sorts last and belongs to it.
            let mut end = place(old.number, MANIFEST_PART);
            end.push(0);
            self.store
                .range(&place(old.number, 0), &end, &mut |key, _| {
                    batch.delete(key);
                    ControlFlow::Continue(())
                })?;
        }
        Ok(())
    }

    /// The newest snapshot that is whole. Those found damaged are forgotten, and removed with the
    /// next [`Checkpoints::save`].
    pub fn load_latest(&mut self) -> Result<Loaded, CheckpointError> {
        let mut loaded = Loaded::default();
        for retained in self.retained.clone().into_iter().rev() {
            match self.load(retained.number)? {
                Ok(snapshot) => {
                    loaded.snapshot = Some(snapshot);
                    break;
                }
                Err(damage) => {
                    let Retained { number, seq } = retained;
                    let text = format!("checkpoint {number} at {seq} is damaged: {damage}");
                    loaded.skipped.push(text);
                    // Now the oldest: pushed out first.
                    self.retained.retain(|other| other.number != number);
                    self.retained.insert(0, Retained { number, seq });
                }
            }
        }
        Ok(loaded)
    }

    fn load(&self, number: u64) -> Result<Result<Snapshot, Damage>, StoreError> {
        let Some(value) = self.store.get(&place(number, MANIFEST_PART))? else {
            return Ok(Err(Damage::Short));
        };
        let mut unsealer = Unsealer::default();
        let (mut snapshot, sums) = match manifest(number, &value, &mut unsealer) {
            Ok(manifest) => manifest,
            Err(damage) => return Ok(Err(damage)),
        };
        let mut sums = sums.into_iter();
        let mut damage = None;
        let bound = place(number, MANIFEST_PART);
        self.store
            .range(&place(number, 0), &bound, &mut |_, value| {
                let read = match sums.next() {
                    Some(sum) if sum == crc32c::crc32c(value) => {
                        take_chunks(value, &mut unsealer, &mut snapshot.chunks)
                    }
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
        Ok(match damage {
            Some(damage) => Err(damage),
            None if sums.next().is_some() => Err(Damage::Short),
            None => Ok(snapshot),
        })
    }
}

fn manifest(
    number: u64,
    value: &[u8],
    unsealer: &mut Unsealer,
) -> Result<(Snapshot, Vec<u32>), Damage> {
    let sealed = check(value, MANIFEST_HEAD)?;
    let (own, rest) = sealed.head.split_first_chunk::<8>().ok_or(Damage::Short)?;
    let seq = u64::from_le_bytes(*rest.first_chunk::<8>().ok_or(Damage::Short)?);
    if sealed.kind != KIND_MANIFEST || u64::from_le_bytes(*own) != number {
        return Err(Damage::Misplaced);
    }
    let payload = unsealer.payload(sealed)?;
    let (time, application, marks, sums): Manifest =
        cbor::decode(&payload).map_err(|_| Damage::Content)?;
    let snapshot = Snapshot {
        seq: Seq(seq),
        time,
        application,
        chunks: Vec::new(),
        marks,
    };
    Ok((snapshot, sums))
}

/// The bytes of a chunk in pieces that can be stored; an empty chunk is one empty piece.
fn pieces(chunk: &Chunk) -> impl Iterator<Item = (&Chunk, &[u8])> {
    let empty = chunk.bytes.is_empty().then_some(&[][..]);
    let pieces = chunk.bytes.chunks(PIECE_BYTES_MAX).chain(empty);
    pieces.map(move |bytes| (chunk, bytes))
}

fn put_piece(chunk: &Chunk, piece: &[u8], frame: &mut Vec<u8>) -> Result<(), TooLong> {
    let bytes = piece.len();
    let length = u32::try_from(bytes).map_err(|_| TooLong { bytes })?;
    frame.extend_from_slice(&chunk.operator.to_le_bytes());
    frame.extend_from_slice(&chunk.key.to_le_bytes());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(piece);
    Ok(())
}

fn take_chunks(
    value: &[u8],
    unsealer: &mut Unsealer,
    chunks: &mut Vec<Chunk>,
) -> Result<(), Damage> {
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
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Damage::Content)?;
        let (bytes, after) = after.split_at_checked(length).ok_or(Damage::Content)?;
        let (operator, key) = (u64::from_le_bytes(*operator), u64::from_le_bytes(*key));
        match chunks
            .last_mut()
            .filter(|last| (last.operator, last.key) == (operator, key))
        {
            Some(begun) => begun.bytes.extend_from_slice(bytes),
            None => chunks.push(Chunk {
                operator,
                key,
                bytes: bytes.to_vec(),
            }),
        }
        rest = after;
    }
    Ok(())
}

fn place(number: u64, part: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(14);
    key.push(table::CHECKPOINT);
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

fn place_of(key: &[u8]) -> Option<(u64, u32)> {
    let (number, part) = key.get(1..)?.split_first_chunk::<8>()?;
    let part = u32::from_be_bytes(part.try_into().ok()?);
    Some((u64::from_be_bytes(*number), part))
}

fn bytes_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
