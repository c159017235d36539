//! Loading: one thread reads, others check, unpack and find the pieces.

use std::ops::{ControlFlow, Range};

use crossbeam::channel::{Receiver, bounded};

use super::cover::Cover;
use super::frame::{Entries, Entry, sum_of, unpack};
use super::frame_key;
use super::manifest::Run;
use crate::event::{Place, State};
use crate::store::seal::{Damage, Unsealer};
use crate::store::{Store, StoreError};

/// Threads that unpack, at most.
const THREADS_MAX: usize = 4;
/// What is read at a time, packed.
const BATCH_BYTES: usize = 512 << 10;
/// How many such batches wait.
const BATCHES_MAX: usize = 4;

/// How far loading has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The bytes that have been read.
    pub bytes_done: u64,
    /// The bytes that there are to be read.
    pub bytes_total: u64,
}

/// A frame as it lies in the store.
struct Packed {
    /// Which of the runs.
    run: usize,
    number: u64,
    part: u32,
    value: Vec<u8>,
}

struct Frame {
    /// Which of the runs.
    run: usize,
    part: u32,
    sum: [u8; 4],
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// The state that runs make; the inner error says what is damaged.
pub(super) fn runs(
    store: &dyn Store,
    runs: &[Run],
    progress: &mut dyn FnMut(Progress),
) -> Result<Result<State, String>, StoreError> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let bytes: u64 = runs.iter().map(|run| run.stored_bytes).sum();
    let threads = match bytes > super::count(BATCH_BYTES) {
        true => threads.clamp(2, THREADS_MAX),
        false => 0,
    };
    let (send, receive) = bounded(BATCHES_MAX);
    let mut own = Unpacked::default();
    let (read, unpacked) = std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads)
            .map_while(|_| {
                let receive = receive.clone();
                let thread = std::thread::Builder::new().name("load".to_owned());
                thread
                    .spawn_scoped(scope, move || unpack_all(&receive))
                    .ok()
            })
            .collect();
        drop(receive);
        let alone = spawned.is_empty();
        let read = read(store, runs, progress, &mut |batch| match alone {
            true => own.take(batch),
            // When nobody receives, all have found damage, which they will say.
            false => drop(send.send(batch)),
        });
        drop(send);
        let unpacked: Vec<Unpacked> = spawned
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Unpacked::failed()))
            .collect();
        (read, unpacked)
    });
    let missing = read?;
    let mut frames = Vec::new();
    for mut some in unpacked.into_iter().chain([own]) {
        if let Some(why) = some.damage {
            return Ok(Err(why));
        }
        frames.append(&mut some.frames);
    }
    if let Some(why) = missing {
        return Ok(Err(why));
    }
    frames.sort_unstable_by_key(|frame| (frame.run, frame.part));
    if let Some(why) = differing(runs, &frames) {
        return Ok(Err(why));
    }
    Ok(assemble(frames))
}

/// Gives away the frames of all runs. Says what is missing: a sentence.
fn read(
    store: &dyn Store,
    runs: &[Run],
    progress: &mut dyn FnMut(Progress),
    give: &mut dyn FnMut(Vec<Packed>),
) -> Result<Option<String>, StoreError> {
    let bytes_total = runs.iter().map(|run| run.stored_bytes).sum();
    let mut bytes_done = 0;
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    for (index, run) in runs.iter().enumerate() {
        let number = run.number;
        let mut part = 0;
        while part < run.frames {
            let (begun, mut bytes) = (part, 0);
            let (from, to) = (frame_key(number, part), frame_key(number, run.frames));
            store.range(&from, &to, &mut |key, value| {
                if key != frame_key(number, part) {
                    return ControlFlow::Break(());
                }
                batch.push(Packed {
                    run: index,
                    number,
                    part,
                    value: value.to_vec(),
                });
                part += 1;
                bytes += value.len();
                if bytes < BATCH_BYTES {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            if part == begun {
                let frames = run.frames;
                return Ok(Some(format!(
                    "run {number}: frame {part} of {frames} is missing"
                )));
            }
            bytes_done += super::count(bytes);
            batch_bytes += bytes;
            // Small runs share a batch.
            if batch_bytes >= BATCH_BYTES {
                batch_bytes = 0;
                give(std::mem::take(&mut batch));
                progress(Progress {
                    bytes_done,
                    bytes_total,
                });
            }
        }
    }
    give(batch);
    Ok(None)
}

fn unpack_all(receive: &Receiver<Vec<Packed>>) -> Unpacked {
    let mut unpacked = Unpacked::default();
    for batch in receive {
        unpacked.take(batch);
        if unpacked.damage.is_some() {
            break;
        }
    }
    unpacked
}

/// What one thread has unpacked.
#[derive(Default)]
struct Unpacked {
    unsealer: Unsealer,
    frames: Vec<Frame>,
    /// A sentence.
    damage: Option<String>,
}

impl Unpacked {
    fn failed() -> Unpacked {
        Unpacked {
            damage: Some("unpacking it failed".to_owned()),
            ..Unpacked::default()
        }
    }

    fn take(&mut self, batch: Vec<Packed>) {
        for packed in batch {
            match self.frame(&packed) {
                Ok(frame) => self.frames.push(frame),
                Err(damage) => {
                    let Packed { number, part, .. } = packed;
                    self.damage = Some(format!("run {number}, frame {part}: {damage}"));
                    return;
                }
            }
        }
    }

    fn frame(&mut self, packed: &Packed) -> Result<Frame, Damage> {
        let value = &packed.value;
        let bytes = unpack(packed.number, packed.part, value, &mut self.unsealer)?;
        let mut entries = Vec::new();
        let mut reader = Entries::default();
        while let Some(entry) = reader.next(&bytes)? {
            entries.push(entry);
        }
        Ok(Frame {
            run: packed.run,
            part: packed.part,
            sum: *sum_of(value).ok_or(Damage::Short)?,
            bytes,
            entries,
        })
    }
}

/// Whether the frames are those that the manifest means: a sentence when they are not.
fn differing(runs: &[Run], frames: &[Frame]) -> Option<String> {
    let mut sums = vec![(0u32, 0u32); runs.len()];
    for frame in frames {
        if let Some((count, sum)) = sums.get_mut(frame.run) {
            *count += 1;
            *sum = crc32c::crc32c_append(*sum, &frame.sum);
        }
    }
    let mut both = runs.iter().zip(sums);
    let (run, (count, _)) = both.find(|(run, sum)| (run.frames, run.sum) != *sum)?;
    let Run { number, frames, .. } = run;
    Some(match count == *frames {
        true => format!("run {number}: its frames are not those that were written"),
        false => format!("run {number}: {count} of {frames} frames are there"),
    })
}

/// Where a piece lies, or that there is none.
struct Found {
    place: Place,
    age: usize,
    at: Option<At>,
}

struct At {
    block: usize,
    range: Range<usize>,
    /// The block is the piece's own, made of several frames.
    own: bool,
}

/// Applies the runs in order: of each place, what is said last counts.
fn assemble(frames: Vec<Frame>) -> Result<State, String> {
    let mut cover = Cover::default();
    let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(frames.len());
    let mut found: Vec<Found> = Vec::new();
    for frame in frames {
        let (age, block) = (frame.run, blocks.len());
        blocks.push(frame.bytes);
        for entry in frame.entries {
            match entry {
                Entry::Emptied(first, last) => cover.empty(first, last, age),
                Entry::Put(place, range) => found.push(Found {
                    place,
                    age,
                    at: Some(At {
                        block,
                        range,
                        own: false,
                    }),
                }),
                Entry::Removed(place) => found.push(Found {
                    place,
                    age,
                    at: None,
                }),
                Entry::More(place, range) => {
                    let before = found.last_mut();
                    let before = before.filter(|one| (one.place, one.age) == (place, age));
                    let begun = before.and_then(|one| one.at.as_mut());
                    let begun = begun.ok_or("a piece goes on that has not begun")?;
                    go_on(begun, block, range, &mut blocks);
                }
            }
        }
    }
    // Stable: of one place, the youngest stands last.
    found.sort_by_key(|found| found.place);
    let mut pieces = Vec::with_capacity(found.len());
    let mut used = vec![false; blocks.len()];
    let mut found = found.into_iter().peekable();
    while let Some(one) = found.next() {
        let replaced = found.peek().is_some_and(|next| next.place == one.place);
        if replaced || cover.hides(one.place, one.age) {
            continue;
        }
        if let Some(At { block, range, .. }) = one.at {
            pieces.push((one.place, block, range));
            if let Some(used) = used.get_mut(block) {
                *used = true;
            }
        }
    }
    let unused = blocks.iter_mut().zip(used).filter(|(_, used)| !used);
    unused.for_each(|(block, _)| *block = Vec::new());
    Ok(State::of(blocks, pieces))
}

/// A piece of several frames gets a block of its own.
fn go_on(begun: &mut At, block: usize, range: Range<usize>, blocks: &mut Vec<Vec<u8>>) {
    let part = |blocks: &[Vec<u8>], block: usize, range: Range<usize>| {
        let block = blocks.get(block).map_or(&[][..], Vec::as_slice);
        block.get(range).unwrap_or_default().to_vec()
    };
    let more = part(blocks, block, range);
    if !begun.own {
        let first = part(blocks, begun.block, begun.range.clone());
        begun.block = blocks.len();
        begun.own = true;
        blocks.push(first);
    }
    if let Some(own) = blocks.get_mut(begun.block) {
        own.extend_from_slice(&more);
        begun.range = 0..own.len();
    }
}
