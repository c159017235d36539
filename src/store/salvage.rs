//! What can still be read of a store that does not open: sealed values that are whole, found by
//! their form wherever they lie in sled's files.
//!
//! Promises: every value that it has was sealed by this program and has not changed a bit since,
//! and of several that lay under one key it is the one written last, as far as that can be told.
//!
//! Does not promise that all is there: of what lies in damaged places it has what was written
//! elsewhere too. Nor that all of it was there at the end: sled leaves what was removed or replaced
//! until its place is needed, so that records may come back that had been trimmed, and outputs
//! that were delivered. Whoever reads it sees by the log's sequence, by an outbox's cursor and by
//! the sums of a checkpoint.
//!
//! As sled 0.34 writes it, all integers but `lsn` as its varints:
//!
//! ```text
//! db        segments of 512 KiB; none is part of another
//! segment   crc u32 LE, lsn i64 LE (all bits but the highest flipped), stable i64 LE, messages
//! message   crc u32 LE, kind u8, length, segment, page, then `length` bytes
//! kind 8    a page: next, merging child, merging u8, prefix length u8, lowest key, highest key,
//!           0 u8, how many, keys without the prefix, values; a key or a value: length, bytes
//! kind 10   a change of a page: 0 u8, key without the page's prefix, value
//! kind 9    a page that lies in the file blobs/<n>: n i64 LE; kind 11: a change likewise
//! blobs/<n> crc u32 LE, kind u8, then as above
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read};
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::seal::is_whole;
use super::{Compaction, Pair, Store, StoreError, Visit, WriteBatch, table};

const SEGMENT_BYTES: usize = 512 << 10;
const SEGMENT_HEAD: usize = 20;
const BLOB_HEAD: usize = 5;
const LSN_MASK: i64 = i64::MAX;
const KIND_PAGE: u8 = 8;
const KIND_CHANGE: u8 = 10;
const KIND_BLOB_PAGE: u8 = 9;
const KIND_BLOB_CHANGE: u8 = 11;
/// A page has fewer keys.
const KEYS_MAX: u64 = 4096;
/// A larger file is no blob of ours.
const BLOB_BYTES_MAX: u64 = 256 << 20;

/// The tables whose values are looked for.
const TABLES: [u8; 6] = [
    table::SYSTEM,
    table::CHECKPOINT,
    table::LOG,
    table::LOG_ASIDE,
    table::OUTBOX,
    table::OUTBOX_STATE,
];

/// Where a value lies.
#[derive(Clone, Copy, Debug)]
struct Spot {
    file: usize,
    offset: u64,
    bytes: usize,
}

/// In which order things were written: the generation, then sled's own count.
type Age = (usize, i64);

/// The prefix that a page had since when.
type Prefixes = Vec<(i64, Vec<u8>)>;

/// What was found. A [`Store`] that can only be read.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    files: Vec<File>,
    pairs: BTreeMap<Vec<u8>, (Age, Spot)>,
    bytes: u64,
    /// Values in places that could be read, but that have changed.
    pub(super) damaged: u64,
    /// Whole values whose key is not known.
    pub(super) unplaced: u64,
}

/// Reads the folders of one store, the oldest generation first.
///
/// # Errors
/// When a file cannot be read. What is in it does not matter.
pub(super) fn salvage(homes: &[PathBuf]) -> Result<Salvage, StoreError> {
    let mut search = Search::default();
    for (generation, home) in homes.iter().enumerate() {
        search.generation = generation;
        search.home(home).map_err(|error| StoreError::Unusable {
            path: home.clone(),
            why: error.to_string(),
        })?;
    }
    search.place_changes();
    Ok(search.found)
}

impl Salvage {
    /// How many values there are.
    pub(super) fn values(&self) -> u64 {
        to_u64(self.pairs.len())
    }

    fn put(&mut self, key: Vec<u8>, age: Age, spot: Spot) {
        let known = self.pairs.get(&key);
        if known.is_none_or(|(known, _)| *known <= age) {
            self.pairs.insert(key, (age, spot));
        }
    }

    fn read(&self, spot: Spot) -> Result<Vec<u8>, StoreError> {
        let mut value = vec![0; spot.bytes];
        let file = self.files.get(spot.file);
        let read = match file {
            Some(file) => file.read_exact_at(&mut value, spot.offset),
            None => Err(Error::from(ErrorKind::NotFound)),
        };
        read.map_err(|error| StoreError::Io {
            doing: "reading",
            why: error.to_string(),
        })?;
        Ok(value)
    }
}

#[derive(Default)]
struct Search {
    generation: usize,
    found: Salvage,
    /// The prefixes of pages, by generation and page, as of when.
    prefixes: BTreeMap<(usize, u64), Prefixes>,
    /// Which blobs messages name: the newest of them, and its page.
    blobs: BTreeMap<(usize, i64), (Age, u64)>,
    /// Changes of pages: the page, the key without its prefix.
    changes: Vec<(Age, Option<u64>, Vec<u8>, Spot)>,
}

impl Search {
    fn home(&mut self, home: &Path) -> Result<(), Error> {
        self.database(&home.join("db"))?;
        let blobs = match fs::read_dir(home.join("blobs")) {
            Ok(blobs) => blobs,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for blob in blobs {
            self.blob(&blob?.path())?;
        }
        Ok(())
    }

    fn database(&mut self, path: &Path) -> Result<(), Error> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let number = self.found.files.len();
        let mut segment = Vec::with_capacity(SEGMENT_BYTES);
        let mut offset = 0;
        loop {
            segment.clear();
            let limit = u64::try_from(SEGMENT_BYTES).unwrap_or(u64::MAX);
            file.by_ref().take(limit).read_to_end(&mut segment)?;
            if segment.is_empty() {
                break;
            }
            self.found.bytes += len_u64(&segment);
            self.segment(&segment, number, offset);
            offset += limit;
        }
        self.found.files.push(file);
        Ok(())
    }

    fn segment(&mut self, segment: &[u8], file: usize, offset: u64) {
        let lsn = segment.get(4..).and_then(<[u8]>::first_chunk::<8>);
        let lsn = lsn.map_or(0, |lsn| i64::from_le_bytes(*lsn) ^ LSN_MASK);
        let bytes = i64::try_from(SEGMENT_BYTES).unwrap_or(i64::MAX);
        // A damaged head says anything; then what is in it counts as the oldest.
        let known = (lsn >= 0 && lsn % bytes == 0).then_some(lsn);
        let segment_number = known.and_then(|lsn| u64::try_from(lsn / bytes).ok());
        let mut at = SEGMENT_HEAD;
        while at < segment.len() {
            let Some(message) = Message::read(segment, at, segment_number) else {
                at += 1;
                continue;
            };
            let begin = i64::try_from(at).unwrap_or(0);
            let place = Place {
                age: (self.generation, known.map_or(-1, |lsn| lsn + begin)),
                page: Some(message.page),
                file,
                offset: offset + to_u64(message.begin),
            };
            at = match self.content(message.kind, message.body, place) {
                Some(()) => message.begin + message.body.len(),
                None => at + 1,
            };
        }
    }

    fn blob(&mut self, path: &Path) -> Result<(), Error> {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(lsn) = name.and_then(|name| name.parse::<i64>().ok()) else {
            return Ok(());
        };
        let file = match File::open(path) {
            Ok(file) => file,
            // sled has just removed it, as it was replaced.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() > BLOB_BYTES_MAX {
            return Ok(());
        }
        let mut blob = Vec::new();
        (&file).read_to_end(&mut blob)?;
        self.found.bytes += len_u64(&blob);
        // Without a message that names it, it is one that has been replaced.
        let named = self.blobs.get(&(self.generation, lsn)).copied();
        let place = Place {
            age: named.map_or((self.generation, -1), |(age, _)| age),
            page: named.map(|(_, page)| page),
            file: self.found.files.len(),
            offset: to_u64(BLOB_HEAD),
        };
        if let (Some(kind), Some(body)) = (blob.get(4), blob.get(BLOB_HEAD..)) {
            match *kind {
                KIND_BLOB_PAGE | KIND_PAGE => self.page(body, place),
                KIND_BLOB_CHANGE | KIND_CHANGE => self.change(body, place),
                _ => None,
            };
        }
        self.found.files.push(file);
        Ok(())
    }

    /// `None` when it is not what it should be.
    fn content(&mut self, kind: u8, body: &[u8], place: Place) -> Option<()> {
        match kind {
            KIND_PAGE => self.page(body, place),
            KIND_CHANGE => self.change(body, place),
            KIND_BLOB_PAGE | KIND_BLOB_CHANGE => {
                let lsn = i64::from_le_bytes(body.try_into().ok()?);
                let named = self.blobs.entry((self.generation, lsn));
                let known = named.or_insert((place.age, place.page?));
                *known = (*known).max((place.age, place.page?));
                Some(())
            }
            _ => None,
        }
    }

    fn page(&mut self, body: &[u8], place: Place) -> Option<()> {
        let mut rest = Cursor { bytes: body, at: 0 };
        let (_next, _child) = (rest.number()?, rest.number()?);
        let (merging, prefix_length) = (rest.byte()?, rest.byte()?);
        let (lowest, _highest) = (rest.slice()?, rest.slice()?);
        let prefix = lowest.get(..usize::from(prefix_length))?;
        let (is_index, keys) = (rest.byte()?, rest.number()?);
        if merging > 1 || is_index != 0 || keys > KEYS_MAX {
            return None;
        }
        let keys: Vec<&[u8]> = (0..keys).map(|_| rest.slice()).collect::<Option<_>>()?;
        let mut spots = Vec::with_capacity(keys.len());
        for key in keys {
            let value = rest.slice()?;
            let begin = rest.at - value.len();
            spots.push(([prefix, key].concat(), value, begin));
        }
        if rest.at != body.len() {
            return None;
        }
        if let Some(page) = place.page {
            let known = self.prefixes.entry((self.generation, page)).or_default();
            known.push((place.age.1, prefix.to_vec()));
        }
        for (key, value, begin) in spots {
            // Empty is what the store puts there for itself, to end a page.
            if !is_ours(&key) || value.is_empty() {
                continue;
            }
            match is_whole(value) {
                true => self.found.put(key, place.age, place.spot(begin, value)),
                false => self.found.damaged += 1,
            }
        }
        Some(())
    }

    fn change(&mut self, body: &[u8], place: Place) -> Option<()> {
        let mut rest = Cursor { bytes: body, at: 0 };
        if rest.byte()? != 0 {
            return None;
        }
        let (key, value) = (rest.slice()?, rest.slice()?);
        if rest.at != body.len() {
            return None;
        }
        if value.is_empty() {
            return Some(());
        }
        if !is_whole(value) {
            self.found.damaged += 1;
            return Some(());
        }
        let spot = place.spot(rest.at - value.len(), value);
        self.changes
            .push((place.age, place.page, key.to_vec(), spot));
        Some(())
    }

    /// Gives changes their whole keys, by the page that was there before, else by any.
    fn place_changes(&mut self) {
        for (age, page, key, spot) in std::mem::take(&mut self.changes) {
            let known = page.and_then(|page| self.prefixes.get_mut(&(age.0, page)));
            let prefix = known.and_then(|known| {
                known.sort_unstable();
                let after = known.partition_point(|(lsn, _)| *lsn < age.1);
                known.get(after.saturating_sub(1))
            });
            let whole = match prefix {
                Some((_, prefix)) => [prefix, key.as_slice()].concat(),
                None => key,
            };
            match is_ours(&whole) {
                true => self.found.put(whole, age, spot),
                false => self.found.unplaced += 1,
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Place {
    age: Age,
    page: Option<u64>,
    file: usize,
    /// Where the body begins.
    offset: u64,
}

impl Place {
    fn spot(self, begin: usize, value: &[u8]) -> Spot {
        Spot {
            file: self.file,
            offset: self.offset + to_u64(begin),
            bytes: value.len(),
        }
    }
}

struct Message<'a> {
    kind: u8,
    page: u64,
    begin: usize,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn read(segment: &'a [u8], at: usize, number: Option<u64>) -> Option<Message<'a>> {
        let kind = *segment.get(at + 4)?;
        if !(KIND_PAGE..=KIND_BLOB_CHANGE).contains(&kind) {
            return None;
        }
        let mut head = Cursor {
            bytes: segment,
            at: at + 5,
        };
        let (length, in_segment, page) = (head.number()?, head.number()?, head.number()?);
        if number.is_some_and(|number| number != in_segment) {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        let body = segment.get(head.at..)?.get(..length)?;
        Some(Message {
            kind,
            page,
            begin: head.at,
            body,
        })
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// sled's varint: up to 240 itself, up to 2287 in two bytes, up to 67823 in three, then the
    /// first byte less 247 says how many follow.
    fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        match first {
            0..=240 => Some(u64::from(first)),
            241..=248 => Some(240 + 256 * (u64::from(first) - 241) + u64::from(self.byte()?)),
            249 => Some(2288 + 256 * u64::from(self.byte()?) + u64::from(self.byte()?)),
            250..=255 => {
                let bytes = usize::from(first) - 247;
                let some = self.bytes.get(self.at..)?.get(..bytes)?;
                self.at += bytes;
                let fold = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
                Some(some.iter().rev().fold(0, fold))
            }
        }
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let slice = self.bytes.get(self.at..)?.get(..length)?;
        self.at += length;
        Some(slice)
    }
}

fn is_ours(key: &[u8]) -> bool {
    key.first().is_some_and(|first| TABLES.contains(first))
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn len_u64(bytes: &[u8]) -> u64 {
    to_u64(bytes.len())
}

impl Store for Salvage {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.pairs.get(key);
        found.map(|(_, spot)| self.read(*spot)).transpose()
    }

    fn write(&self, _: WriteBatch) -> Result<(), StoreError> {
        Err(StoreError::Poisoned {
            why: "it could not be opened, and what was found of it can only be read".to_owned(),
        })
    }

    fn range(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        for (key, (_, spot)) in self.pairs.range::<[u8], _>(bounds) {
            if visit(key, &self.read(*spot)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, StoreError> {
        if from >= to {
            return Ok(None);
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let last = self.pairs.range::<[u8], _>(bounds).next_back();
        last.map(|(key, (_, spot))| Ok((key.clone(), self.read(*spot)?)))
            .transpose()
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        Ok(self.bytes)
    }

    fn bytes_live(&self) -> u64 {
        let pairs = self.pairs.iter();
        pairs
            .map(|(key, (_, spot))| to_u64(key.len() + spot.bytes))
            .sum()
    }

    fn bytes_written(&self) -> u64 {
        0
    }

    fn compact(&self, _: u64) -> Result<Compaction, StoreError> {
        Ok(Compaction::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::seal::Sealer;
    use crate::store::sled::{StoreOptions, open};

    /// Keys of several tables, some with long parts in common, as outboxes have them.
    fn key(number: u64) -> Vec<u8> {
        let prefix: &[u8] = match number % 5 {
            0 => b"L",
            1 => b"O\0\x05Sink1",
            2 => b"O\0\x05Sink2",
            3 => b"CR",
            _ => b"S",
        };
        [prefix, &(number / 5).to_be_bytes()].concat()
    }

    /// Everything that a sound store has is found in its files, as it was written last.
    #[test]
    fn all_that_is_there_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut seed = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for round in 0..4 {
            let opened = open(folder.path(), &StoreOptions::default()).unwrap();
            let store = opened.store;
            for step in 0..1500_u64 {
                let key = key(next() % 900);
                let mut batch = WriteBatch::new();
                if next() % 4 == 0 {
                    expected.remove(&key);
                    batch.delete(key);
                } else {
                    let length = match next() % 300 {
                        0 => 300_000,
                        1..=20 => 5_000,
                        _ => next() % 400,
                    };
                    let payload: Vec<u8> = (0..length).map(|_| next().to_le_bytes()[0]).collect();
                    let value = Sealer::default().seal(1, &step.to_le_bytes(), &payload);
                    let value = value.unwrap();
                    expected.insert(key.clone(), value.clone());
                    batch.put(key, value);
                }
                store.write(batch).unwrap();
            }
            store.sync().unwrap();
            let found = salvage(&[folder.path().join("store")]).unwrap();
            for (key, value) in &expected {
                assert!(
                    found.get(key).unwrap().as_ref() == Some(value),
                    "{key:x?} in {round}"
                );
            }
            assert_eq!(found.damaged, 0);
            drop(store);
        }
    }

    #[test]
    fn sleds_numbers_are_read() {
        let table: [(&[u8], Option<u64>); 8] = [
            (&[240], Some(240)),
            (&[241, 1], Some(241)),
            (&[248, 255], Some(2287)),
            (&[249, 0, 0], Some(2288)),
            (&[249, 255, 255], Some(67_823)),
            (&[250, 0, 0, 2], Some(131_072)),
            (&[255, 1, 0, 0, 0, 0, 0, 0, 128], Some((1 << 63) + 1)),
            (&[250, 0, 0], None),
        ];
        for (bytes, expected) in table {
            assert_eq!(Cursor { bytes, at: 0 }.number(), expected, "{bytes:?}");
        }
    }
}
