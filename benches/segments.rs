//! A store of append-only files, to compare sled with: small and honest, not the product's.
//!
//! Every write is one frame at the end of the newest segment; an index in memory says where each
//! value lies. A segment of which less than half is live has its live pairs written anew and is
//! deleted after the next sync. What sled does and this does not: reading a store again after a
//! start, and keeping its keys on the disk.
//!
//! ```text
//! frame   crc32c of the rest: u32 LE, length of the changes: u32 LE, changes
//! change  key length: u32 LE, value length + 1 or 0 for a removal: u32 LE, key, value
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use eventflux::store::{Compaction, Pair, Store, StoreError, Visit, WriteBatch};

const SEGMENT_BYTES: u64 = 8 << 20;
const FRAME_HEAD: usize = 8;
const CHANGE_HEAD: usize = 8;

pub(crate) struct Segments {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    segments: BTreeMap<u64, Segment>,
    index: BTreeMap<Vec<u8>, Place>,
    /// Segments whose live pairs lie elsewhere by now, but perhaps not durably.
    emptied: Vec<u64>,
    frame: Vec<u8>,
    live: u64,
    written: u64,
}

struct Segment {
    file: Arc<File>,
    length: u64,
    live: u64,
    synced: bool,
}

#[derive(Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    length: u32,
}

impl Segments {
    pub(crate) fn new(dir: &Path) -> Segments {
        let store = Segments {
            dir: dir.to_owned(),
            state: Mutex::default(),
        };
        store.begin_segment(&mut store.state());
        store
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked")
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn begin_segment(&self, state: &mut State) {
        let number = state.segments.keys().next_back().map_or(0, |last| last + 1);
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(self.path(number)).expect("the disk has room");
        let segment = Segment {
            file: Arc::new(file),
            length: 0,
            live: 0,
            synced: false,
        };
        state.segments.insert(number, segment);
    }

    fn append(&self, state: &mut State, changes: &[(&[u8], Option<&[u8]>)]) {
        let mut frame = std::mem::take(&mut state.frame);
        frame.clear();
        frame.extend_from_slice(&[0; FRAME_HEAD]);
        let mut offsets = Vec::with_capacity(changes.len());
        for (key, value) in changes {
            let length = |bytes: usize| u32::try_from(bytes).expect("it is short").to_le_bytes();
            frame.extend_from_slice(&length(key.len()));
            frame.extend_from_slice(&length(value.map_or(0, |value| value.len() + 1)));
            frame.extend_from_slice(key);
            offsets.push(frame.len());
            frame.extend_from_slice(value.unwrap_or_default());
        }
        let length = u32::try_from(frame.len() - FRAME_HEAD).expect("it is short");
        frame[4..FRAME_HEAD].copy_from_slice(&length.to_le_bytes());
        let sum = crc32c::crc32c(&frame[4..]);
        frame[..4].copy_from_slice(&sum.to_le_bytes());
        let (number, segment) = state.segments.iter_mut().next_back().expect("there is one");
        let (number, begin) = (*number, segment.length);
        segment
            .file
            .write_all_at(&frame, begin)
            .expect("the disk has room");
        segment.length += frame.len() as u64;
        segment.synced = false;
        let full = segment.length >= SEGMENT_BYTES;
        state.written += frame.len() as u64;
        for ((key, value), offset) in changes.iter().zip(offsets) {
            let place = value.map(|value| Place {
                segment: number,
                offset: begin + offset as u64,
                length: u32::try_from(value.len()).expect("it is short"),
            });
            state.point(key, place);
        }
        state.frame = frame;
        if full {
            self.begin_segment(state);
        }
    }

    /// Writes anew what is live in segments that are more than half empty.
    fn collect(&self, state: &mut State) {
        let newest = *state.segments.keys().next_back().expect("there is one");
        let sparse = state.segments.iter().filter(|(number, segment)| {
            **number != newest
                && segment.live < segment.length / 2
                && !state.emptied.contains(number)
        });
        let sparse: Vec<u64> = sparse.map(|(number, _)| *number).collect();
        for number in sparse {
            let inside = state
                .index
                .iter()
                .filter(|(_, place)| place.segment == number);
            let keys: Vec<Vec<u8>> = inside.map(|(key, _)| key.clone()).collect();
            for key in keys {
                let value = state.value(state.index[&key]);
                self.append(state, &[(&key, Some(&value))]);
            }
            state.emptied.push(number);
        }
    }
}

fn cost(key: &[u8], length: u32) -> u64 {
    (CHANGE_HEAD + key.len()) as u64 + u64::from(length)
}

impl State {
    fn point(&mut self, key: &[u8], place: Option<Place>) {
        if let Some(place) = place {
            let bytes = cost(key, place.length);
            self.live += bytes;
            let segment = self.segments.get_mut(&place.segment);
            segment.expect("it was just written").live += bytes;
        }
        let before = match place {
            Some(place) => self.index.insert(key.to_vec(), place),
            None => self.index.remove(key),
        };
        if let Some(before) = before {
            let bytes = cost(key, before.length);
            self.live -= bytes;
            if let Some(segment) = self.segments.get_mut(&before.segment) {
                segment.live -= bytes;
            }
        }
    }

    fn value(&self, place: Place) -> Vec<u8> {
        let mut value = vec![0; place.length as usize];
        let segment = &self.segments[&place.segment];
        let read = segment.file.read_exact_at(&mut value, place.offset);
        read.expect("it was written");
        value
    }
}

impl Store for Segments {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state();
        Ok(state.index.get(key).map(|place| state.value(*place)))
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let changes: Vec<_> = batch.changes().collect();
        self.append(&mut self.state(), &changes);
        Ok(())
    }

    fn range(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let state = self.state();
        for (key, place) in state.index.range(from.to_vec()..to.to_vec()) {
            if let ControlFlow::Break(()) = visit(key, &state.value(*place)) {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, StoreError> {
        let state = self.state();
        let last = state.index.range(from.to_vec()..to.to_vec()).next_back();
        Ok(last.map(|(key, place)| (key.clone(), state.value(*place))))
    }

    fn sync(&self) -> Result<(), StoreError> {
        let (files, emptied) = {
            let mut state = self.state();
            self.collect(&mut state);
            let dirty = state
                .segments
                .values_mut()
                .filter(|segment| !segment.synced);
            let files: Vec<_> = dirty
                .map(|segment| {
                    segment.synced = true;
                    Arc::clone(&segment.file)
                })
                .collect();
            (files, std::mem::take(&mut state.emptied))
        };
        // Outside of the lock: whoever writes does not wait for the disk.
        for file in files {
            file.sync_data().expect("the disk works");
        }
        for number in emptied {
            self.state().segments.remove(&number);
            std::fs::remove_file(self.path(number)).expect("it is ours");
        }
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        let state = self.state();
        Ok(state.segments.values().map(|segment| segment.length).sum())
    }

    fn bytes_live(&self) -> u64 {
        self.state().live
    }

    fn bytes_written(&self) -> u64 {
        self.state().written
    }

    fn compact(&self, _bytes_max: u64) -> Result<Compaction, StoreError> {
        Ok(Compaction::Idle)
    }
}

/// The same bytes at the end of one file, synced as often: as little as can be done.
pub(crate) struct Plain {
    file: File,
}

impl Plain {
    pub(crate) fn new(dir: &Path) -> Plain {
        let file = File::create(dir.join("file")).expect("the folder is ours");
        Plain { file }
    }

    pub(crate) fn append(&self, key: &[u8], value: &[u8]) {
        let mut file = &self.file;
        file.write_all(key).expect("the disk has room");
        file.write_all(value).expect("the disk has room");
    }

    pub(crate) fn sync(&self) {
        self.file.sync_data().expect("the disk works");
    }
}
