//! Frames: what a run is cut into. The form is drawn at the module's head.
//!
//! Promises: what is read from a frame is in order and has the form it was written in, whatever
//! the bytes are; nothing is unpacked that says it is longer than a frame may be.

use std::ops::Range;

use super::{CheckpointError, FORMAT, KIND_FRAME, Run, frame_key};
use crate::event::Place;
use crate::store::seal::{Damage, Sealer, Unsealer, check};
use crate::store::{Store, WriteBatch};

/// A frame is closed before it holds more, unpacked.
pub(super) const FRAME_BYTES_MAX: usize = 32 << 10;
/// A frame is closed earlier when it would be longer than this when packed, as far as the frame
/// before tells.
const PACKED_BYTES_GOAL: u64 = 7 << 10;
/// Packed badly or not, a frame is worth its own head.
const FRAME_BYTES_MIN: u64 = 8 << 10;
/// More than a frame ever takes: what it may hold, a part of a piece, and their places.
const FRAME_READ_MAX: usize = 2 * FRAME_BYTES_MAX + 64;
const FRAME_HEAD: usize = 13;

const PUT: u64 = 0;
const REMOVED: u64 = 1;
const EMPTIED: u64 = 2;
const MORE: u64 = 3;
const OPERATOR: u64 = 4;

/// A place as one number, so that places that follow each other differ by one.
pub(super) fn number_of(place: Place) -> u128 {
    (u128::from(place.operator) << 64) | u128::from(place.key)
}

/// What a run says of one place, or of the places from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The piece is these bytes of the frame.
    Put(Place, Range<usize>),
    /// The piece goes on with these bytes of the frame.
    More(Place, Range<usize>),
    /// There is no piece.
    Removed(Place),
    /// There is no piece from the first to the last place, but for those of this run.
    Emptied(Place, Place),
}

/// Writes a run frame by frame.
#[derive(Debug)]
pub(super) struct RunWriter {
    run: Run,
    frame: Vec<u8>,
    before: Option<Place>,
    frame_bytes_max: usize,
    sealer: Sealer,
}

impl RunWriter {
    pub(super) fn new(number: u64) -> RunWriter {
        RunWriter {
            run: Run {
                number,
                ..Run::default()
            },
            frame: Vec::new(),
            before: None,
            frame_bytes_max: FRAME_BYTES_MAX,
            sealer: Sealer::default(),
        }
    }

    pub(super) fn emptied(
        &mut self,
        first: Place,
        last: Place,
        store: &dyn Store,
    ) -> Result<(), CheckpointError> {
        self.make_room(0, store)?;
        self.entry(EMPTIED, first, 0);
        self.frame.extend_from_slice(&last.operator.to_le_bytes());
        put_varint(&mut self.frame, last.key);
        Ok(())
    }

    pub(super) fn removed(
        &mut self,
        place: Place,
        store: &dyn Store,
    ) -> Result<(), CheckpointError> {
        self.make_room(0, store)?;
        self.entry(REMOVED, place, 0);
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        place: Place,
        piece: &[u8],
        store: &dyn Store,
    ) -> Result<(), CheckpointError> {
        let (first, rest) = piece.split_at(piece.len().min(FRAME_BYTES_MAX));
        self.part(PUT, place, first, store)?;
        self.more(place, rest, store)
    }

    /// Appends to the piece that was put last.
    pub(super) fn more(
        &mut self,
        place: Place,
        bytes: &[u8],
        store: &dyn Store,
    ) -> Result<(), CheckpointError> {
        for part in bytes.chunks(FRAME_BYTES_MAX) {
            self.part(MORE, place, part, store)?;
        }
        Ok(())
    }

    fn part(
        &mut self,
        kind: u64,
        place: Place,
        bytes: &[u8],
        store: &dyn Store,
    ) -> Result<(), CheckpointError> {
        self.make_room(bytes.len(), store)?;
        self.entry(kind, place, super::count(bytes.len()));
        self.frame.extend_from_slice(bytes);
        Ok(())
    }

    fn entry(&mut self, kind: u64, place: Place, length: u64) {
        let before = self.before.replace(place);
        let delta = before
            .filter(|before| before.operator == place.operator)
            .and_then(|before| place.key.checked_sub(before.key));
        let word = (length << 3) | kind;
        match delta {
            Some(delta) => {
                put_varint(&mut self.frame, word);
                put_varint(&mut self.frame, delta);
            }
            None => {
                put_varint(&mut self.frame, word | OPERATOR);
                self.frame.extend_from_slice(&place.operator.to_le_bytes());
                put_varint(&mut self.frame, place.key);
            }
        }
    }

    fn make_room(&mut self, bytes: usize, store: &dyn Store) -> Result<(), CheckpointError> {
        if !self.frame.is_empty() && self.frame.len().saturating_add(bytes) > self.frame_bytes_max {
            self.flush(store)?;
        }
        Ok(())
    }

    fn flush(&mut self, store: &dyn Store) -> Result<(), CheckpointError> {
        let run = &mut self.run;
        let part = run.frames;
        run.frames = part.checked_add(1).ok_or(CheckpointError::TooMany)?;
        let mut head = vec![FORMAT];
        head.extend_from_slice(&run.number.to_le_bytes());
        head.extend_from_slice(&part.to_le_bytes());
        let value = self.sealer.seal(KIND_FRAME, &head, &self.frame)?;
        let (plain, packed) = (super::count(self.frame.len()), super::count(value.len()));
        run.state_bytes += plain;
        run.stored_bytes += packed;
        run.sum = sum_with(run.sum, &value);
        let fitting = plain * PACKED_BYTES_GOAL / packed.max(1);
        self.frame_bytes_max = usize::try_from(fitting.max(FRAME_BYTES_MIN))
            .map_or(FRAME_BYTES_MAX, |bytes| bytes.min(FRAME_BYTES_MAX));
        self.frame.clear();
        self.before = None;
        let mut batch = WriteBatch::new();
        batch.put(frame_key(run.number, part), value);
        Ok(store.write(batch)?)
    }

    /// The run, when all of it has been given to the store.
    pub(super) fn close(mut self, store: &dyn Store) -> Result<Run, CheckpointError> {
        if !self.frame.is_empty() {
            self.flush(store)?;
        }
        Ok(self.run)
    }
}

/// The checksum of a run is that of its frames' checksums, in order.
pub(super) fn sum_with(sum: u32, value: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, sum_of(value).map_or(&[], <[u8; 4]>::as_slice))
}

/// The checksum in a sealed value.
pub(super) fn sum_of(value: &[u8]) -> Option<&[u8; 4]> {
    value.get(4..)?.first_chunk()
}

/// A frame as it was before it was packed; its place in the run is right.
pub(super) fn unpack(
    run: u64,
    part: u32,
    value: &[u8],
    unsealer: &mut Unsealer,
) -> Result<Vec<u8>, Damage> {
    let sealed = check(value, FRAME_HEAD)?;
    let (format, rest) = sealed.head.split_first().ok_or(Damage::Short)?;
    let (own_run, rest) = rest.split_first_chunk::<8>().ok_or(Damage::Short)?;
    let own_part = rest.first_chunk::<4>().ok_or(Damage::Short)?;
    let own = (u64::from_le_bytes(*own_run), u32::from_le_bytes(*own_part));
    if sealed.kind != KIND_FRAME || own != (run, part) {
        return Err(Damage::Misplaced);
    }
    if *format != FORMAT {
        return Err(Damage::Version(*format));
    }
    if sealed.payload_bytes() > FRAME_READ_MAX {
        return Err(Damage::TooLong(sealed.payload_bytes()));
    }
    Ok(unsealer.payload(sealed)?.into_owned())
}

/// Reads the entries of a frame one by one, or of frames that follow each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    at: usize,
    /// What the next key counts from.
    coded: Option<Place>,
    /// The last place of the range that came before.
    emptied: Option<Place>,
    /// The place of the piece that came before.
    piece: Option<Place>,
}

impl Entries {
    /// Goes on with the run's next frame.
    pub(super) fn next_frame(&mut self) {
        self.at = 0;
        self.coded = None;
    }

    /// The next entry; `None` at the end.
    pub(super) fn next(&mut self, frame: &[u8]) -> Result<Option<Entry>, Damage> {
        let mut rest = frame.get(self.at..).ok_or(Damage::Content)?;
        if rest.is_empty() {
            return Ok(None);
        }
        let word = take_varint(&mut rest)?;
        let place = if word & OPERATOR == 0 {
            let before = self.coded.ok_or(Damage::Content)?;
            let delta = take_varint(&mut rest)?;
            let key = before.key.checked_add(delta).ok_or(Damage::Content)?;
            Place { key, ..before }
        } else {
            take_place(&mut rest)?
        };
        let length = usize::try_from(word >> 3).map_err(|_| Damage::Content)?;
        let mut last = None;
        if word & 3 == EMPTIED {
            last = Some(take_place(&mut rest)?);
        }
        let start = frame.len() - rest.len();
        let end = start.checked_add(length).filter(|end| *end <= frame.len());
        let bytes = start..end.ok_or(Damage::Content)?;
        self.at = bytes.end;
        self.coded = Some(place);
        self.in_order(word & 3, place, last)?;
        match (word & 3, last) {
            (EMPTIED, Some(last)) if length == 0 => Ok(Some(Entry::Emptied(place, last))),
            (PUT, None) => Ok(Some(Entry::Put(place, bytes))),
            (MORE, None) => Ok(Some(Entry::More(place, bytes))),
            (REMOVED, None) if length == 0 => Ok(Some(Entry::Removed(place))),
            (..) => Err(Damage::Content),
        }
    }

    /// Ranges come first and do not touch, then pieces, each place once.
    fn in_order(&mut self, kind: u64, place: Place, last: Option<Place>) -> Result<(), Damage> {
        let ordered = match last {
            Some(last) => {
                let after = self.emptied.replace(last).is_none_or(|end| end < place);
                after && place <= last && self.piece.is_none()
            }
            None => match self.piece.replace(place) {
                None => true,
                Some(before) if kind == MORE => before == place,
                Some(before) => before < place,
            },
        };
        if ordered {
            Ok(())
        } else {
            Err(Damage::Content)
        }
    }
}

fn take_place(rest: &mut &[u8]) -> Result<Place, Damage> {
    let (operator, after) = rest.split_first_chunk::<8>().ok_or(Damage::Content)?;
    *rest = after;
    Ok(Place {
        operator: u64::from_le_bytes(*operator),
        key: take_varint(rest)?,
    })
}

/// LEB128: seven bits a byte, the lowest first; the top bit says that more follow.
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        out.push(u8::try_from(number & 0x7F).unwrap_or(0x7F) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0x7F));
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, Damage> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(Damage::Content)?;
        *rest = after;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return Err(Damage::Content);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damage::Content)
}
