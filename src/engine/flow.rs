//! How rows and time go through an engine.
//!
//! Rows from outside come in with the log's time. Those of a domain with a clock of its own go
//! through its entrance, which gives them theirs; so do the rows that queries put into a stream
//! whose rows carry their time, and dead letters for such a domain. These are brought in one after
//! the other, when what has caused them is done.

use std::sync::Arc;

use super::reorder::{Refusal, Verdict, Waiting};
use super::table::RefusedRow;
use super::{Arrival, Engine, Outputs, Source};
use crate::event::{Batch, Rejected, Row, Rows, Seq, Stamp, Timestamp, Value, render_json};
use crate::sql::plan::{LOG, StreamId};

/// What falls due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Node(usize),
    Entrance(usize),
}

impl Engine {
    /// Takes rows of a stream, stamped, their times not decreasing. Rows of a stream that takes
    /// dead letters are such, from outside: they are outputs too, where somebody watches it.
    pub fn push(&mut self, stream: StreamId, rows: Rows<'_>, to: &mut dyn Outputs) {
        if !self.is_watched(stream) || !self.takes_letters(stream) {
            self.take(stream, rows, to);
            return;
        }
        // One after the other, so that keys ascend whatever else comes out there.
        for row in rows.iter() {
            self.advance(row.stamp.time, row.stamp.seq, to);
            let mut one = Batch::new(row.values.len());
            one.push(row.stamp, row.values.iter().cloned());
            self.give(stream, None, &one, to);
            self.take(stream, one.rows(), to);
        }
    }

    fn is_watched(&self, stream: StreamId) -> bool {
        self.watched.get(stream.0).copied().unwrap_or(false)
    }

    fn takes_letters(&self, stream: StreamId) -> bool {
        let mut letters = self.plan.streams.iter().filter_map(|one| one.dead_letters);
        letters.any(|letters| letters.stream == stream)
    }

    fn take(&mut self, stream: StreamId, rows: Rows<'_>, to: &mut dyn Outputs) {
        let domain = self.domains.of(stream);
        if domain == LOG {
            self.feed(LOG, stream, rows, to);
            return;
        }
        let mut rest = rows;
        while let Some(first) = rest.stamps().first().copied() {
            self.advance(first.time, first.seq, to);
            let together = |stamp: &Stamp| stamp.time <= first.time;
            let (head, tail) = rest.split_at(rest.stamps().partition_point(together).max(1));
            self.enter(domain, stream, head, to);
            rest = tail;
        }
    }

    /// Moves the log's clock to `time`, for the reason `seq`; what is due on the way fires, in
    /// order.
    pub fn advance(&mut self, time: Timestamp, seq: Seq, to: &mut dyn Outputs) {
        self.advance_clock(LOG, time, seq, to);
    }

    /// Whether the log's clock can be taken for the true time from here on: then rows that say a
    /// time far ahead of it are wrong.
    pub fn trust_clock(&mut self, trusted: bool) {
        for entrance in &mut self.entrances {
            entrance.trust(trusted);
        }
    }

    /// Takes input of a stream that could not be decoded, and arrived at `time`.
    pub fn reject(
        &mut self,
        stream: StreamId,
        rejected: &Rejected,
        time: Timestamp,
        seq: Seq,
        to: &mut dyn Outputs,
    ) {
        self.advance(time, seq, to);
        let letters = self.plan.stream(stream).and_then(|one| one.dead_letters);
        if letters.is_some_and(|letters| letters.rejected) {
            let event = String::from_utf8_lossy(&rejected.bytes);
            self.letter(stream, &event, &rejected.reason, &rejected.detail, seq);
            self.bring_in(to);
        }
    }

    /// When a node of a domain falls due.
    pub(super) fn clock_due(&self, domain: usize) -> Option<Timestamp> {
        let clock = self.clocks.get(domain)?;
        clock.deadlines.first().map(|(due, _)| *due)
    }

    /// When an entrance has something to do by the log's clock.
    pub(super) fn entrance_due(&self) -> Option<(Timestamp, usize)> {
        let entrances = self.entrances.iter().zip(0..).skip(LOG + 1);
        entrances
            .filter_map(|(entrance, domain)| Some((entrance.due()?, domain)))
            .min()
    }

    fn next_due(&self, domain: usize) -> Option<(Timestamp, Due)> {
        let clock = self.clocks.get(domain)?;
        let node = clock.deadlines.first();
        let node = node.map(|(due, number)| (*due, Due::Node(*number)));
        if domain != LOG {
            return node;
        }
        let entrance = self.entrance_due();
        let entrance = entrance.map(|(due, domain)| (due, Due::Entrance(domain)));
        node.into_iter().chain(entrance).min()
    }

    /// Moves the clock of a domain.
    fn advance_clock(&mut self, domain: usize, time: Timestamp, seq: Seq, to: &mut dyn Outputs) {
        if domain == LOG {
            for entrance in self.entrances.iter_mut().skip(LOG + 1) {
                entrance.begin(time);
            }
            self.take_up(time, seq, to);
        }
        let unstarted = self.clocks.get_mut(domain);
        let unstarted = unstarted.map(|clock| std::mem::take(&mut clock.unstarted));
        for number in unstarted.unwrap_or_default() {
            if let Some(node) = self.nodes.get_mut(number) {
                node.start(Stamp { seq, time });
            }
            self.settle(number, to);
        }
        while let Some((due, what)) = self.next_due(domain) {
            if due > time {
                break;
            }
            self.set_clock(domain, due);
            match what {
                Due::Node(number) => {
                    if let Some(node) = self.nodes.get_mut(number) {
                        node.fire(Stamp { seq, time: due }, time);
                    }
                    self.settle(number, to);
                }
                Due::Entrance(number) => {
                    if let Some(entrance) = self.entrances.get_mut(number) {
                        entrance.expire(due);
                    }
                    self.release(number, seq, to);
                }
            }
            if domain == LOG {
                self.bring_in(to);
            }
        }
        self.set_clock(domain, time);
        if domain == LOG {
            self.bring_in(to);
        }
    }

    fn set_clock(&mut self, domain: usize, time: Timestamp) {
        if let Some(clock) = self.clocks.get_mut(domain) {
            clock.now = clock.now.max(time);
        }
    }

    fn now(&self, domain: usize) -> Timestamp {
        let clock = self.clocks.get(domain);
        clock.map_or(Timestamp::MIN, |clock| clock.now)
    }

    /// Rows that waited when their stream still had a clock of its own come in at the log's.
    fn take_up(&mut self, time: Timestamp, seq: Seq, to: &mut dyn Outputs) {
        let Some(entrance) = self.entrances.first_mut() else {
            return;
        };
        while let Some((_, Waiting { stream, values, .. })) = entrance.pop(Timestamp(i64::MAX)) {
            let time = time.max(self.clocks.first().map_or(time, |clock| clock.now));
            let mut rows = Batch::new(values.len().max(1));
            rows.push(Stamp { seq, time }, values);
            self.arrivals.push_back(Arrival {
                stream,
                rows,
                unseen: false,
            });
        }
        self.bring_in(to);
    }

    /// Gives rows to what reads them, with what falls due on the way.
    fn feed(&mut self, domain: usize, stream: StreamId, rows: Rows<'_>, to: &mut dyn Outputs) {
        // What comes of each row is brought in before the next one.
        let alone = domain == LOG && self.enters.get(stream.0).copied().unwrap_or(false);
        let mut rest = rows;
        while let Some(first) = rest.stamps().first().copied() {
            self.advance_clock(domain, first.time, first.seq, to);
            let count = match self.bound(domain, stream, first.time) {
                _ if alone => 1,
                None => rest.len(),
                Some(until) => rest
                    .stamps()
                    .partition_point(|stamp| stamp.time < until)
                    .max(1),
            };
            let (head, tail) = rest.split_at(count);
            self.dispatch(stream, head, to);
            if let Some(last) = head.stamps().last() {
                self.set_clock(domain, last.time);
            }
            if domain == LOG {
                self.bring_in(to);
            }
            rest = tail;
        }
    }

    /// Rows from `time` on may go together until this time: before it, nothing can fall due.
    pub(super) fn bound(
        &self,
        domain: usize,
        stream: StreamId,
        time: Timestamp,
    ) -> Option<Timestamp> {
        let timed = self.timed.get(stream.0).into_iter().flatten();
        let earliest = timed
            .filter_map(|number| self.nodes.get(*number)?.earliest(time))
            .min();
        let delay_ms = self.delays_ms.get(stream.0).copied().flatten();
        let delayed = delay_ms.map(|delay_ms| time.plus_ms(delay_ms));
        let due = self.next_due(domain).map(|(due, _)| due);
        earliest.into_iter().chain(delayed).chain(due).min()
    }

    fn dispatch(&mut self, stream: StreamId, rows: Rows<'_>, to: &mut dyn Outputs) {
        if self.tapped.get(stream.0).is_some_and(|tapped| *tapped) {
            to.pass(stream, rows);
        }
        let mut rest = rows;
        let one_by_one = self.one_by_one.get(stream.0).copied().unwrap_or(false);
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(if one_by_one { 1 } else { rest.len() });
            rest = tail;
            if self.screens.begin(stream, head) {
                self.dispatch_screened(stream, head, to);
                continue;
            }
            let readers = self.readers.get(stream.0).map_or(0, Vec::len);
            for index in 0..readers {
                let reader = self.readers.get(stream.0);
                let Some(port) = reader.and_then(|list| list.get(index)).copied() else {
                    continue;
                };
                if let Some(node) = self.nodes.get_mut(port.node) {
                    node.push(port, head);
                }
                self.settle(port.node, to);
            }
        }
    }

    /// Gives rows that a screen has looked at to the readers that it names.
    fn dispatch_screened(&mut self, stream: StreamId, rows: Rows<'_>, to: &mut dyn Outputs) {
        while let Some(reader) = self.screens.next(stream) {
            let readers = self.readers.get(stream.0);
            let Some(port) = readers.and_then(|list| list.get(reader)).copied() else {
                continue;
            };
            if let Some(node) = self.nodes.get_mut(port.node) {
                match self.screens.fits(stream, reader, rows) {
                    None => node.push(port, rows),
                    Some(fits) => node.push_fitting(port, rows, fits),
                }
            }
            self.settle(port.node, to);
        }
    }

    /// After a node has worked: notes its deadline and what it reacts to, and sends what came out
    /// on its way.
    fn settle(&mut self, number: usize, to: &mut dyn Outputs) {
        let Some(node) = self.nodes.get_mut(number) else {
            return;
        };
        self.screens.worked(number, node);
        if let Some(worked) = self.worked.get_mut(number) {
            *worked = true;
        }
        let deadline = node.deadline();
        let noted = self.deadline_of.get_mut(number);
        let domain = self.domain_of.get(number).copied().unwrap_or(LOG);
        if let (Some(noted), Some(clock)) = (noted, self.clocks.get_mut(domain)) {
            if *noted != deadline {
                if let Some(old) = noted.take() {
                    clock.deadlines.remove(&(old, number));
                }
                let new = deadline.map(|deadline| (deadline, number));
                clock.deadlines.extend(new);
                *noted = deadline;
            }
        }
        while let Some((source, mut out)) = self.nodes.get_mut(number).and_then(super::Node::take) {
            let (target, query) = match source {
                Source::Query(query) => {
                    let target = self.plan.queries.get(query).and_then(|q| q.target_stream());
                    (target, Some(query))
                }
                Source::Stream(stream) => (Some(stream), None),
            };
            if let Some(target) = target {
                self.give(target, query, &out, to);
                let entered = self.plan.stream(target);
                if entered.is_some_and(|entered| entered.event_time.is_some()) {
                    self.arrivals.push_back(Arrival {
                        stream: target,
                        rows: out,
                        unseen: false,
                    });
                    continue;
                }
                self.dispatch(target, out.rows(), to);
            }
            out.clear();
            if let Some(node) = self.nodes.get_mut(number) {
                node.take_back(out);
            }
        }
    }

    /// Shows rows to those outside, when the stream is watched.
    fn give(&mut self, target: StreamId, query: Option<usize>, rows: &Batch, to: &mut dyn Outputs) {
        if !self.is_watched(target) {
            return;
        }
        self.number(target, rows);
        let query = query.and_then(|query| u32::try_from(query).ok());
        to.take(target, query.unwrap_or(u32::MAX), rows, &self.ordinals);
    }

    fn number(&mut self, stream: StreamId, rows: &Batch) {
        self.ordinals.clear();
        let Some((seq, given)) = self.given.get_mut(stream.0) else {
            return;
        };
        for row in rows.rows().stamps() {
            if row.seq != *seq {
                (*seq, *given) = (row.seq, 0);
            }
            self.ordinals.push(*given);
            *given += 1;
        }
    }

    /// Brings in what is on its way to an entrance.
    fn bring_in(&mut self, to: &mut dyn Outputs) {
        if self.makes_letters {
            self.collect_refused();
        }
        if self.bringing || self.arrivals.is_empty() {
            return;
        }
        self.bringing = true;
        while let Some(Arrival {
            stream,
            rows,
            unseen,
        }) = self.arrivals.pop_front()
        {
            if unseen {
                self.give(stream, None, &rows, to);
            }
            match self.domains.of(stream) {
                LOG => self.feed(LOG, stream, rows.rows(), to),
                domain => self.enter(domain, stream, rows.rows(), to),
            }
        }
        self.bringing = false;
    }

    /// Takes rows that arrive now, by the log's clock, into a domain with a clock of its own.
    fn enter(&mut self, domain: usize, stream: StreamId, rows: Rows<'_>, to: &mut dyn Outputs) {
        let direct = self.entrances.get(domain).is_some_and(|one| one.direct);
        if direct {
            self.enter_directly(domain, stream, rows, to);
            return;
        }
        for row in rows.iter() {
            let verdict = self.judge(domain, stream, row);
            self.place(domain, stream, row, verdict);
            self.release(domain, row.stamp.seq, to);
            self.bring_in(to);
        }
    }

    fn judge(&mut self, domain: usize, stream: StreamId, row: Row<'_>) -> Verdict {
        let log = self.clock();
        match self.entrances.get_mut(domain) {
            Some(entrance) => entrance.judge(stream, row.values, log, &mut self.counts),
            None => Verdict::Take(log),
        }
    }

    /// Lets a row wait for its turn, or refuses it.
    fn place(&mut self, domain: usize, stream: StreamId, row: Row<'_>, verdict: Verdict) {
        let (time, ahead) = match verdict {
            Verdict::Take(time) => (time, false),
            Verdict::Wait(time) => (time, true),
            Verdict::Refuse(refusal) => {
                self.refuse(stream, row.values, &refusal, row.stamp.seq);
                return;
            }
        };
        let Some(entrance) = self.entrances.get_mut(domain) else {
            return;
        };
        let left = entrance.insert(time, stream, row.values, ahead, &mut self.counts);
        if let Some(Waiting { stream, values, .. }) = left {
            let refusal = Refusal {
                reason: "full",
                message: "too many rows wait to be put in order".to_owned(),
                letter: true,
            };
            self.refuse(stream, &values, &refusal, row.stamp.seq);
        }
    }

    /// A row that is not taken becomes a dead letter, where it may.
    fn refuse(&mut self, stream: StreamId, values: &[Value], refusal: &Refusal, seq: Seq) {
        let Some(definition) = self.plan.stream(stream) else {
            return;
        };
        if !refusal.letter || definition.dead_letters.is_none() {
            return;
        }
        let mut event = Vec::new();
        render_json(&definition.schema, values, &mut event);
        let event = String::from_utf8_lossy(&event);
        self.letter(stream, &event, refusal.reason, &refusal.message, seq);
    }

    /// What tables have refused becomes dead letters, where they make such.
    fn collect_refused(&mut self) {
        let plan = Arc::clone(&self.plan);
        let stores = Arc::clone(&self.stores.tables);
        for (table, shared) in plan.tables.iter().zip(stores.iter()) {
            let Some(letters) = table.letters else {
                continue;
            };
            let refused = shared.lock().take_refused();
            for RefusedRow { stamp, row, why } in refused {
                let mut event = Vec::new();
                render_json(&table.schema, &row, &mut event);
                let event = String::from_utf8_lossy(&event);
                let (reason, message) = why.words();
                self.write_letter(letters, &table.name, [&event, reason, message], stamp.seq);
            }
        }
    }

    /// Writes a dead letter about input of a stream.
    fn letter(&mut self, stream: StreamId, event: &str, reason: &str, message: &str, seq: Seq) {
        let plan = Arc::clone(&self.plan);
        let Some(definition) = plan.stream(stream) else {
            return;
        };
        if let Some(letters) = definition.dead_letters {
            self.write_letter(
                letters.stream,
                &definition.name,
                [event, reason, message],
                seq,
            );
        }
    }

    fn write_letter(
        &mut self,
        letters: StreamId,
        about: &str,
        [event, reason, message]: [&str; 3],
        seq: Seq,
    ) {
        let time = self.clock();
        self.counts.dead_letters += 1;
        let values = [
            Value::text(event),
            Value::text(message),
            Value::text(reason),
            Value::Int(time.0),
            Value::Int(1),
            Value::text(about),
        ];
        let mut rows = Batch::new(values.len());
        rows.push(Stamp { seq, time }, values);
        self.arrivals.push_back(Arrival {
            stream: letters,
            rows,
            unseen: true,
        });
    }

    /// Gives the rows whose time has come to what reads them, and moves the clock.
    fn release(&mut self, domain: usize, seq: Seq, to: &mut dyn Outputs) {
        let log = self.clock();
        let entrance = self.entrances.get_mut(domain);
        let Some(watermark) = entrance.and_then(|entrance| entrance.watermark(log)) else {
            return;
        };
        self.release_until(domain, watermark, seq, to);
        self.advance_clock(domain, watermark, seq, to);
    }

    fn release_until(&mut self, domain: usize, until: Timestamp, seq: Seq, to: &mut dyn Outputs) {
        let mut run: Option<(StreamId, Batch)> = None;
        while let Some((time, row)) = self
            .entrances
            .get_mut(domain)
            .and_then(|entrance| entrance.pop(until))
        {
            let time = time.max(self.now(domain));
            let Waiting { stream, values, .. } = row;
            if let Some((of, rows)) = run.take_if(|(of, _)| *of != stream) {
                self.feed(domain, of, rows.rows(), to);
            }
            let width = values.len().max(1);
            let (_, rows) = run.get_or_insert_with(|| (stream, Batch::new(width)));
            rows.push(Stamp { seq, time }, values);
        }
        if let Some((of, rows)) = run {
            self.feed(domain, of, rows.rows(), to);
        }
    }

    /// Gives rows on as they come, each at its time or at the clock's.
    fn enter_directly(
        &mut self,
        domain: usize,
        stream: StreamId,
        rows: Rows<'_>,
        to: &mut dyn Outputs,
    ) {
        let log = self.clock();
        let mut stamps = std::mem::take(&mut self.stamps);
        stamps.clear();
        let mut rest = rows;
        for row in rows.iter() {
            let seq = row.stamp.seq;
            if let Some(entrance) = self.entrances.get_mut(domain) {
                entrance.expire(log);
                entrance.watermark(log);
            }
            let verdict = self.judge(domain, stream, row);
            if let Verdict::Take(time) = verdict {
                let clock = stamps.last().map_or(self.now(domain), |last| last.time);
                let time = time.max(clock);
                let entrance = self.entrances.get(domain);
                if !entrance.is_some_and(|entrance| entrance.has_due(time)) {
                    stamps.push(Stamp { seq, time });
                    continue;
                }
            }
            let (head, tail) = rest.split_at(stamps.len());
            self.feed(domain, stream, head.with_stamps(&stamps), to);
            stamps.clear();
            rest = tail;
            if let Verdict::Take(time) = verdict {
                let time = time.max(self.now(domain));
                self.release_until(domain, time, seq, to);
                stamps.push(Stamp { seq, time });
            } else {
                self.place(domain, stream, row, verdict);
                rest = rest.split_at(1).1;
            }
            self.bring_in(to);
        }
        self.feed(domain, stream, rest.with_stamps(&stamps), to);
        self.stamps = stamps;
        self.bring_in(to);
    }
}
