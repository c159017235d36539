//! How far which file is taken, as delivery marks in the log: they travel with the rows that they
//! speak of, so that after a crash every line is taken exactly once. Pure.
//!
//! ```text
//! mark of a name       packet 1sssssss ssssssss    digest: the file's inode
//! mark of a place      packet 0sssssss ssssssss    digest: check (24 bits) | offset (40 bits)
//! ```
//!
//! `s` is the slot that stands for a file. A place is the offset behind a line, and a check over
//! the [`CHECKED_BYTES`] before it (fewer at a beginning): a file that has other bytes there is
//! another file, or was written anew. The device is left out: its number may change whenever the
//! machine starts, and what it would tell apart the check does.
//!
//! The log remembers the last [`TAIL_MARKS_MAX`] marks of a source. So that no file falls out of
//! them, the marks of all files are given again after every [`REFRESH_AFTER`].

use crate::event::DeliveryMark;
use crate::source::redelivery::{TAIL_MARKS_MAX, digest};

/// Files that can be followed at the same time.
pub(super) const FILES_MAX: usize = 256;
/// Marks after which all files are marked anew.
pub(super) const REFRESH_AFTER: usize = 1_024;
/// Lines of one step, which has a mark for each.
pub(super) const STEP_LINES_MAX: usize = 1_024;
/// How many bytes before a place are checked: more than one line, as lines may end alike.
pub(super) const CHECKED_BYTES: usize = 512;
/// Where a file ends for us: 1 TiB.
pub(super) const OFFSET_MAX: u64 = (1 << OFFSET_BITS) - 1;

const OFFSET_BITS: u32 = 40;
const NAME: u16 = 0x8000;
/// A file has two marks; a step may name every file and then refresh.
const ALL_MARKS: usize = 2 * FILES_MAX;
const _: () = assert!(3 * ALL_MARKS + REFRESH_AFTER + STEP_LINES_MAX <= TAIL_MARKS_MAX);

/// How far a file is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What stands for the file.
    pub(super) slot: u16,
    /// Its inode.
    pub(super) inode: u64,
    /// Behind the last line that was taken.
    pub(super) offset: u64,
    /// What [`check`] gave there.
    pub(super) check: u32,
}

impl Place {
    /// The mark that names the file.
    pub(super) fn name(&self) -> DeliveryMark {
        DeliveryMark {
            packet: NAME | self.slot,
            digest: self.inode,
        }
    }

    /// The mark that says how far it is taken.
    pub(super) fn mark(&self) -> DeliveryMark {
        DeliveryMark {
            packet: self.slot,
            digest: u64::from(self.check) << OFFSET_BITS | self.offset & OFFSET_MAX,
        }
    }
}

/// What the bytes before a place come to, in 24 bits.
pub(super) fn check(before: &[u8]) -> u32 {
    u32::try_from(digest(b"before", before) >> OFFSET_BITS).unwrap_or(0)
}

/// The places that marks speak of, the one marked last at the end. A mark of a place whose file
/// was not named before says nothing.
pub(super) fn places(marks: &[DeliveryMark]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for mark in marks {
        let slot = mark.packet & !NAME;
        let known = places.iter().position(|place| place.slot == slot);
        let known = known.map(|index| places.remove(index));
        if mark.packet & NAME != 0 {
            let same = known.filter(|place| place.inode == mark.digest);
            places.push(same.unwrap_or(Place {
                slot,
                inode: mark.digest,
                offset: 0,
                check: check(&[]),
            }));
        } else if let Some(place) = known {
            places.push(Place {
                offset: mark.digest & OFFSET_MAX,
                check: u32::try_from(mark.digest >> OFFSET_BITS).unwrap_or(0),
                ..place
            });
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(slot: u16, inode: u64, offset: u64) -> Place {
        Place {
            slot,
            inode,
            offset,
            check: check(&offset.to_le_bytes()),
        }
    }

    #[test]
    fn what_is_marked_is_remembered() {
        let (a, b) = (place(0, 77, 1_000), place(255, u64::MAX, OFFSET_MAX));
        let marks = [a.name(), b.name(), a.mark(), b.mark()];
        assert_eq!(places(&marks), [a, b]);
        let further = place(0, 77, 2_000);
        let marks = [a.name(), b.name(), b.mark(), a.mark(), further.mark()];
        assert_eq!(places(&marks), [b, further]);
        // The beginning is out of reach: what is not named is not known.
        assert_eq!(places(&marks[1..]), [b]);
        // Named again, it is where it was; another file in its slot is at its beginning.
        assert_eq!(places(&[a.name(), a.mark(), a.name()]), [a]);
        let other = place(0, 78, 0);
        let begun = Place {
            check: check(&[]),
            ..other
        };
        assert_eq!(places(&[a.name(), a.mark(), other.name()]), [begun]);
    }
}
