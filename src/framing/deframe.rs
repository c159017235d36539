//! Bytes become frames: a buffer, and how far it is understood.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use super::stuffing::{cobs_decode, slip_decode};
use super::{Coding, Framing, Kind, LengthField, Size, Start, checksum};
use crate::decode::{Reason, Reject};

/// What [`Deframer::next_piece`] gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The payload of a whole frame; never empty.
    Frame(&'a [u8]),
    /// Bytes that were to be a frame and are none.
    Fault {
        /// Why not.
        reject: Reject,
        /// The bytes, as they came, at most as many as a frame may have.
        bytes: &'a [u8],
    },
}

/// Makes frames of the bytes of one connection.
///
/// ```text
///  buffer  ──── done ────┬──── looked through ────┬─── not yet ───
///                        at                       scanned        ↑ gaps
/// ```
#[derive(Debug)]
pub struct Deframer {
    framing: Framing,
    buffer: Vec<u8>,
    /// Before it everything is given.
    at: usize,
    /// Before it no mark begins.
    scanned: usize,
    /// Where in the buffer the line was quiet so long that a frame cannot go on.
    gaps: VecDeque<usize>,
    state: State,
    /// So many bytes that belong to no frame are dropped without a fault: the beginning is not
    /// known yet, or the fault that led here was given.
    quiet: usize,
    /// When the last byte came; `None` once the pause behind it was long enough.
    heard: Option<Instant>,
    /// Nothing comes any more, and what is there is complete.
    is_finished: bool,
    skipped: u64,
    decoded: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of a frame, or where one is looked for.
    Between,
    /// Behind the mark of a beginning.
    Inside,
    /// Whatever comes is dropped up to the next end.
    Skipping,
}

/// What was found, by its place in the buffer.
enum Found {
    Frame(Range<usize>),
    /// Of `decoded`.
    Decoded(Range<usize>),
    Fault(Reject, Range<usize>),
}

/// What a step leads to.
enum Step {
    Found(Found),
    /// Something was passed over; go on.
    Again,
    /// More bytes are needed.
    Wait,
}

impl Deframer {
    pub(super) fn new(framing: Framing, start: Start, now: Instant) -> Deframer {
        let mut deframer = Deframer {
            framing,
            buffer: Vec::new(),
            at: 0,
            scanned: 0,
            gaps: VecDeque::new(),
            state: State::Between,
            quiet: 0,
            heard: None,
            is_finished: false,
            skipped: 0,
            decoded: Vec::new(),
        };
        deframer.begin(start, now);
        deframer
    }

    /// Takes bytes that came at `now`. [`Deframer::next_piece`] then gives what they complete, and
    /// is to be called until it gives nothing.
    pub fn push(&mut self, bytes: &[u8], now: Instant) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.scanned = self.scanned.saturating_sub(self.at);
            for gap in &mut self.gaps {
                *gap = gap.saturating_sub(self.at);
            }
            self.at = 0;
        }
        self.expire(now);
        self.buffer.extend_from_slice(bytes);
        match self.framing.kind {
            Kind::Whole => self.gaps.push_back(self.buffer.len()),
            Kind::Ended { .. } | Kind::Sized { .. } | Kind::Paused => self.heard = Some(now),
        }
    }

    /// The next frame or fault of what was pushed.
    pub fn next_piece(&mut self) -> Option<Piece<'_>> {
        let found = loop {
            let gap = self.gaps.front().copied();
            let limit = gap.unwrap_or(self.buffer.len());
            match self.step(limit, gap.is_some()) {
                Step::Found(found) => break found,
                Step::Again => {}
                Step::Wait => {
                    self.gaps.pop_front()?;
                }
            }
        };
        Some(match found {
            Found::Frame(range) => Piece::Frame(self.buffer.get(range).unwrap_or_default()),
            Found::Decoded(range) => Piece::Frame(self.decoded.get(range).unwrap_or_default()),
            Found::Fault(reject, range) => Piece::Fault {
                reject,
                bytes: self.buffer.get(range).unwrap_or_default(),
            },
        })
    }

    /// When [`Deframer::expire`] is to be called, if nothing comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.heard? + self.framing.idle?)
    }

    /// Notices that nothing came for so long that what has begun is over; then
    /// [`Deframer::next_piece`] may have something.
    pub fn expire(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.heard = None;
            self.gaps.push_back(self.buffer.len());
        }
    }

    /// Nothing comes any more and nothing was cut off: a last line without its end is a frame too,
    /// which [`Deframer::next_piece`] gives.
    pub fn finish(&mut self) {
        self.is_finished = true;
        self.gaps.push_back(self.buffer.len());
    }

    /// Drops what has begun, since the connection is lost, and says how many bytes that was. What
    /// is pushed from now on belongs to a new connection.
    pub fn abandon(&mut self, start: Start, now: Instant) -> usize {
        let begun = match self.state {
            State::Skipping => 0,
            State::Between | State::Inside => self.buffer.len().saturating_sub(self.at),
        };
        self.buffer.clear();
        self.gaps.clear();
        self.at = 0;
        self.begin(start, now);
        begun
    }

    /// How many bytes belonged to no frame and to no fault.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn begin(&mut self, start: Start, now: Instant) {
        self.scanned = self.at;
        self.is_finished = false;
        // Whether the line was quiet before the first byte is only known from here on.
        self.heard = Some(now);
        let is_known = match start {
            Start::Boundary => true,
            Start::Midway => self.framing.keeps_first == Some(true),
        } && self.framing.keeps_first != Some(false);
        self.quiet = if is_known { 0 } else { self.budget() };
        let needs_end = match &self.framing.kind {
            Kind::Ended { starts, .. } => starts.is_empty(),
            Kind::Sized { sync, .. } => sync.is_empty() && self.framing.checksum.is_none(),
            Kind::Paused => true,
            Kind::Whole => false,
        };
        self.state = match needs_end && !is_known {
            true => State::Skipping,
            false => State::Between,
        };
    }

    /// What is dropped without a fault while a beginning is looked for.
    fn budget(&self) -> usize {
        self.framing.frame_bytes_max().saturating_mul(2)
    }

    /// Looks at what lies before `limit`; `closes` when no frame goes beyond it.
    fn step(&mut self, limit: usize, closes: bool) -> Step {
        let left = limit.saturating_sub(self.at);
        match &self.framing.kind {
            Kind::Ended { starts, end, .. } => {
                let (has_starts, mark) = (!starts.is_empty(), end.len());
                match self.state {
                    State::Between if has_starts => self.look_for_start(limit, closes),
                    State::Between | State::Inside | State::Skipping => {
                        self.look_for_end(limit, closes, mark)
                    }
                }
            }
            Kind::Sized { .. } if self.state == State::Skipping => {
                self.pass_over(left);
                if closes {
                    self.state = State::Between;
                }
                Step::Wait
            }
            Kind::Sized { .. } => self.look_at_sized(limit, closes),
            Kind::Paused | Kind::Whole => self.look_at_paused(limit, closes),
        }
    }

    fn pass_over(&mut self, count: usize) {
        self.at += count;
        self.scanned = self.scanned.max(self.at);
        self.quiet = self.quiet.saturating_sub(count);
        self.skipped += u64::try_from(count).unwrap_or(u64::MAX);
    }

    /// What a fault of so many bytes says; they are done.
    fn fault(&mut self, reject: Reject, count: usize) -> Step {
        let range = self.at..self.at + count;
        self.at += count;
        self.scanned = self.scanned.max(self.at);
        Step::Found(Found::Fault(reject, range))
    }

    /// Looks for the mark of a beginning, and deals with what stands before it.
    fn look_for_start(&mut self, limit: usize, closes: bool) -> Step {
        let Kind::Ended { starts, .. } = &self.framing.kind else {
            return Step::Wait;
        };
        let rest = self.buffer.get(self.at..limit).unwrap_or_default();
        let found = first_of(rest, starts, 0);
        let length_max = starts.iter().map(Vec::len).max().unwrap_or(0);
        let noise = match (found, closes) {
            (Some((at, _)), _) => at,
            (None, true) => rest.len(),
            // The beginning of a mark may be there.
            (None, false) => (rest.len() + 1).saturating_sub(length_max),
        };
        if noise > 0 {
            return self.drop_noise(noise, found.is_some() || closes);
        }
        match found {
            Some((_, length)) => {
                self.state = State::Inside;
                self.scanned = self.at + length;
                Step::Again
            }
            None => Step::Wait,
        }
    }

    /// Drops `count` bytes that no frame has, silently as long as that is expected.
    fn drop_noise(&mut self, count: usize, is_all: bool) -> Step {
        if self.quiet > 0 {
            self.pass_over(count.min(self.quiet));
            return Step::Again;
        }
        let max = self.framing.frame_bytes_max();
        if !is_all && count < max {
            return Step::Wait;
        }
        let count = count.min(max);
        let noise = self.buffer.get(self.at..self.at + count);
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
        if noise.unwrap_or_default().iter().all(is_blank) {
            self.pass_over(count);
            return Step::Again;
        }
        let detail = format!("{count} bytes that belong to no frame");
        self.fault(Reject::new(Reason::Malformed, detail), count)
    }

    /// Looks for the mark of the end. `at` stands at the frame's first byte, its beginning's mark
    /// included.
    fn look_for_end(&mut self, limit: usize, closes: bool, mark: usize) -> Step {
        let Kind::Ended { starts, end, .. } = &self.framing.kind else {
            return Step::Wait;
        };
        let longest = starts.iter().map(Vec::len).max().unwrap_or(0).max(mark);
        let begin = match self.state {
            State::Inside => self.scanned.max(self.at + 1),
            State::Between | State::Skipping => self.scanned.max(self.at),
        };
        let buffer = self.buffer.get(..limit).unwrap_or_default();
        let end_at = find(buffer, end, begin);
        let anew = match self.state {
            State::Inside => first_of(buffer, starts, begin).map(|(at, _)| at),
            State::Between | State::Skipping => None,
        };
        let anew = anew.filter(|anew| end_at.is_none_or(|end_at| *anew < end_at));
        let frame_max = self.framing.frame_bytes_max();
        // Before it no mark begins.
        let clear = match closes {
            true => limit,
            false => (limit + 1).saturating_sub(longest),
        };
        let known = anew.or(end_at).unwrap_or(clear);
        if self.state != State::Skipping && known.saturating_sub(self.at) > frame_max {
            let detail = format!("more than {frame_max} bytes without an end of the frame");
            self.after_fault(false);
            return self.fault(Reject::new(Reason::TooLarge, detail), frame_max);
        }
        if let Some(anew) = anew {
            let detail = "the next frame began before this one had ended";
            self.after_fault(true);
            return self.fault(Reject::new(Reason::Malformed, detail), anew - self.at);
        }
        let behind = self.framing.bytes_behind_mark();
        match end_at {
            Some(end_at) if self.state == State::Skipping => {
                self.pass_over(end_at + mark - self.at);
                self.state = State::Between;
                Step::Again
            }
            Some(end_at) if end_at + mark + behind <= limit => {
                self.close_frame(end_at, end_at + mark + behind)
            }
            Some(_) | None if closes => self.close_at_gap(limit),
            Some(end_at) => {
                self.scanned = end_at;
                Step::Wait
            }
            None => {
                self.scanned = begin.max(clear);
                if self.state == State::Skipping {
                    self.pass_over(self.scanned.saturating_sub(self.at));
                }
                Step::Wait
            }
        }
    }

    /// Where frames are looked for after a fault that does not end at a frame's end.
    fn after_fault(&mut self, is_boundary: bool) {
        let Kind::Ended { starts, .. } = &self.framing.kind else {
            return;
        };
        self.state = match (is_boundary, starts.is_empty()) {
            (true, _) => State::Between,
            (false, true) => State::Skipping,
            (false, false) => {
                self.quiet = self.budget();
                State::Between
            }
        };
    }

    /// No end came before the pause.
    fn close_at_gap(&mut self, limit: usize) -> Step {
        let left = limit.saturating_sub(self.at);
        let is_frame = self.is_finished && self.framing.bytes_behind_mark() == 0;
        match self.state {
            State::Between if is_frame && left > 0 => self.close_frame(limit, limit),
            State::Skipping => {
                self.pass_over(left);
                self.state = State::Between;
                Step::Wait
            }
            State::Between | State::Inside => {
                self.state = State::Between;
                if left == 0 {
                    return Step::Wait;
                }
                self.fault(Reject::new(Reason::Malformed, CUT), left)
            }
        }
    }

    /// A frame lies between `at` and `end_at`, and the next may begin at `next`.
    fn close_frame(&mut self, end_at: usize, next: usize) -> Step {
        let from = self.at;
        self.at = next;
        self.scanned = next;
        let is_inside = self.state == State::Inside;
        self.state = State::Between;
        self.decoded.clear();
        match self.framing.open(
            &self.buffer,
            from,
            end_at,
            next,
            is_inside,
            &mut self.decoded,
        ) {
            Ok(None) => Step::Again,
            Ok(Some((payload, is_decoded))) => {
                self.quiet = 0;
                match is_decoded {
                    true => Step::Found(Found::Decoded(payload)),
                    false => Step::Found(Found::Frame(payload)),
                }
            }
            Err(reject) => Step::Found(Found::Fault(reject, from..end_at)),
        }
    }

    /// A frame of known size may begin at `at`.
    fn look_at_sized(&mut self, limit: usize, closes: bool) -> Step {
        let Kind::Sized { sync, size } = &self.framing.kind else {
            return Step::Wait;
        };
        let rest = self.buffer.get(self.at..limit).unwrap_or_default();
        let noise = match find(rest, sync, 0) {
            Some(at) => at,
            None if closes => rest.len(),
            None => rest.len() - tail_of(rest, sync),
        };
        let is_there = rest.get(noise..).is_some_and(|rest| rest.starts_with(sync));
        if noise > 0 {
            return self.drop_noise(noise, is_there || closes);
        }
        if !is_there || rest.is_empty() {
            return Step::Wait;
        }
        let length = match size {
            Size::Fixed(size) => Ok(Some(*size)),
            Size::Field(field) => self.framing.length_of(*field, rest),
        };
        let length = match length {
            Ok(Some(length)) => length,
            Ok(None) if closes => return self.no_frame(cut(), rest.len()),
            Ok(None) => return Step::Wait,
            Err(reject) => {
                let seen = rest.len().min(self.framing.head_bytes());
                return self.no_frame(reject, seen);
            }
        };
        let Some(frame) = rest.get(..length) else {
            return match closes {
                true => self.no_frame(cut(), rest.len()),
                false => Step::Wait,
            };
        };
        match self.framing.payload_of(frame, 0) {
            Ok(payload) => {
                let begin = self.at;
                self.at += length;
                self.quiet = 0;
                match payload.is_empty() {
                    true => Step::Again,
                    false => Step::Found(Found::Frame(begin + payload.start..begin + payload.end)),
                }
            }
            Err(reject) => self.no_frame(reject, length),
        }
    }

    /// What begins at `at` is no frame: the next may begin at the next byte already, as the length
    /// itself may be what is wrong. One fault is enough until a frame is found.
    fn no_frame(&mut self, reject: Reject, count: usize) -> Step {
        let range = self.at..self.at + count;
        let is_told = self.quiet > 0;
        self.at += 1;
        if is_told {
            self.quiet -= 1;
            self.skipped += 1;
            return Step::Again;
        }
        self.quiet = self.budget();
        Step::Found(Found::Fault(reject, range))
    }

    fn look_at_paused(&mut self, limit: usize, closes: bool) -> Step {
        let max = self.framing.frame_bytes_max();
        let left = limit.saturating_sub(self.at);
        if self.state == State::Skipping {
            self.pass_over(left);
            if closes {
                self.state = State::Between;
            }
            return Step::Wait;
        }
        if left > max {
            self.state = State::Skipping;
            let detail = format!("more than {max} bytes without a pause");
            return self.fault(Reject::new(Reason::TooLarge, detail), max);
        }
        match closes && left > 0 {
            true => self.close_frame(limit, limit),
            false => Step::Wait,
        }
    }
}

const CUT: &str = "the line fell silent within a frame";

fn cut() -> Reject {
    Reject::new(Reason::Malformed, CUT)
}

impl Framing {
    /// The most bytes that a frame has on its way, without its end's mark.
    fn frame_bytes_max(&self) -> usize {
        let sum = self.checksum.as_ref().map_or(0, |checksum| {
            checksum.length() + checksum.separator.len() + checksum.trailer
        });
        let whole = self.max + self.strip + sum;
        match &self.kind {
            Kind::Ended { starts, coding, .. } => match coding {
                Coding::Plain => whole + starts.iter().map(Vec::len).max().unwrap_or(0),
                Coding::Line => whole + 1,
                Coding::Cobs => whole + whole / 254 + 1,
                Coding::Slip => whole * 2,
                // `$` and `*hh` are part of the payload; the carriage return is not.
                Coding::Nmea => whole + 1,
            },
            Kind::Sized { sync, size } => match size {
                Size::Fixed(size) => *size,
                Size::Field(field) => whole.max(sync.len() + self.max).max(field.end() + self.max),
            },
            Kind::Paused | Kind::Whole => whole,
        }
    }

    /// So many bytes behind the mark of the end belong to the frame.
    fn bytes_behind_mark(&self) -> usize {
        match &self.checksum {
            Some(sum) if sum.position == checksum::Position::After => sum.length() + sum.trailer,
            Some(_) | None => 0,
        }
    }

    /// So many bytes tell the length.
    fn head_bytes(&self) -> usize {
        match &self.kind {
            Kind::Sized {
                size: Size::Field(field),
                ..
            } => field.end(),
            Kind::Sized { .. } | Kind::Ended { .. } | Kind::Paused | Kind::Whole => 0,
        }
    }

    /// The length of the frame that begins with `head`; `None` while it is not there.
    fn length_of(&self, field: LengthField, head: &[u8]) -> Result<Option<usize>, Reject> {
        let Some(digits) = head.get(field.offset..field.end()) else {
            return Ok(None);
        };
        let fold = |sum: i64, byte: &u8| sum << 8 | i64::from(*byte);
        let value = match field.is_little {
            true => digits.iter().rev().fold(0, fold),
            false => digits.iter().fold(0, fold),
        };
        let behind = value + field.adjust;
        let max = self.frame_bytes_max() - field.end();
        if behind < 0 {
            let detail = format!("the length {value} is less than nothing when adjusted");
            return Err(Reject::new(Reason::Malformed, detail));
        }
        match usize::try_from(behind) {
            Ok(behind) if behind <= max => Ok(Some(field.end() + behind)),
            Ok(_) | Err(_) => {
                let detail = format!("{behind} bytes are announced; framing.max allows {max}");
                Err(Reject::new(Reason::TooLarge, detail))
            }
        }
    }

    /// Where in a frame the payload lies. `mark` is the length of the end's mark, if it is in
    /// `frame`.
    fn payload_of(&self, frame: &[u8], mark: usize) -> Result<Range<usize>, Reject> {
        let payload = match &self.checksum {
            Some(checksum) => checksum.verify(frame, mark)?,
            None => 0..frame.len(),
        };
        let begin = payload.start.max(self.strip).min(payload.end);
        let length = payload.end - begin;
        if length > self.max {
            let detail = format!("{length} bytes; framing.max is {}", self.max);
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        Ok(begin..payload.end)
    }

    /// Opens the frame `from..end_at`, behind which the next begins at `next`. The payload's place,
    /// in `buffer` or in `decoded`; `None` when there is none.
    fn open(
        &self,
        buffer: &[u8],
        from: usize,
        end_at: usize,
        next: usize,
        is_inside: bool,
        decoded: &mut Vec<u8>,
    ) -> Result<Option<(Range<usize>, bool)>, Reject> {
        let frame = buffer.get(from..end_at).unwrap_or_default();
        let (starts, mark, coding) = match &self.kind {
            Kind::Ended {
                starts,
                end,
                coding,
            } => (starts.as_slice(), end.len(), *coding),
            Kind::Sized { .. } | Kind::Paused | Kind::Whole => (&[][..], 0, Coding::Plain),
        };
        let (begin, end) = match coding {
            Coding::Plain if is_inside => {
                let start = starts.iter().find(|start| frame.starts_with(start));
                (from + start.map_or(0, Vec::len), end_at)
            }
            Coding::Plain => (from, end_at),
            Coding::Line | Coding::Nmea => (from, end_at - usize::from(frame.ends_with(b"\r"))),
            Coding::Cobs | Coding::Slip => {
                match coding {
                    Coding::Cobs => cobs_decode(frame, decoded)?,
                    Coding::Slip | Coding::Plain | Coding::Line | Coding::Nmea => {
                        slip_decode(frame, decoded)?;
                    }
                }
                if decoded.is_empty() {
                    return Ok(None);
                }
                let payload = self.payload_of(decoded, 0)?;
                return Ok((!payload.is_empty()).then_some((payload, true)));
            }
        };
        let end = match self.bytes_behind_mark() {
            0 => end,
            _ => next,
        };
        let body = buffer.get(begin..end).unwrap_or_default();
        if body.is_empty() || begin == end_at {
            return Ok(None);
        }
        if coding == Coding::Nmea {
            super::write::check_sentence(body)?;
        }
        let payload = self.payload_of(body, mark)?;
        let range = begin + payload.start..begin + payload.end;
        Ok((!range.is_empty()).then_some((range, false)))
    }
}

impl LengthField {
    /// Where the bytes that it counts begin, but for `adjust`.
    pub(super) fn end(self) -> usize {
        self.offset + self.width
    }
}

/// Where `what` first stands in `bytes`, at `from` or later. Nothing stands everywhere.
fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let Some((first, others)) = what.split_first() else {
        return Some(from);
    };
    let mut at = 0;
    loop {
        let here = rest.get(at..)?;
        at += here.iter().position(|byte| byte == first)?;
        if rest.get(at + 1..)?.starts_with(others) {
            return Some(from + at);
        }
        at += 1;
    }
}

/// Where the first of several stands, and how long it is.
fn first_of(bytes: &[u8], any: &[Vec<u8>], from: usize) -> Option<(usize, usize)> {
    let places = any
        .iter()
        .filter_map(|what| Some((find(bytes, what, from)?, what.len())));
    places.min()
}

/// How many bytes at the end of `bytes` may be the beginning of `what`.
fn tail_of(bytes: &[u8], what: &[u8]) -> usize {
    let longest = what.len().saturating_sub(1).min(bytes.len());
    let tail = |length: &usize| bytes.ends_with(what.get(..*length).unwrap_or_default());
    (1..=longest).rev().find(tail).unwrap_or(0)
}
