//! The messages of simulated sensors, one reading after the other. Pure.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::signal::{Memory, Random, Reading, Signal};
use crate::event::Type;

/// Devices follow each other's waves by this part of a period: the golden ratio, so that no two
/// of them ever meet.
const SHIFT: f64 = 0.618_033_988_749_895;
/// Readings that may be late at the same time; beyond that the oldest come.
const LATE_MAX: usize = 10_000;

/// What goes wrong with messages, each as a share of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Faults {
    /// They do not arrive.
    pub(super) lost: f64,
    /// They arrive twice.
    pub(super) duplicate: f64,
    /// They are cut off somewhere.
    pub(super) garbage: f64,
    /// They arrive so many readings later.
    pub(super) late: (f64, u64),
}

/// A column and what it does.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// The column's name.
    pub(super) name: String,
    /// Its type.
    pub(super) ty: Type,
    /// What it does.
    pub(super) signal: Signal,
    memories: Vec<Memory>,
}

impl Column {
    pub(super) fn new(name: &str, ty: Type, signal: Signal) -> Column {
        Column {
            name: name.to_owned(),
            ty,
            signal,
            memories: vec![Memory::default()],
        }
    }
}

/// All columns, and where they are.
#[derive(Clone, Debug)]
pub(super) struct Plant {
    columns: Vec<Column>,
    /// The column that says which device it is.
    key: Option<usize>,
    /// The column with the time.
    time: Option<String>,
    every_ms: u32,
    faults: Faults,
    random: Random,
    /// How many readings there were.
    count: u64,
    late: VecDeque<(u64, String)>,
}

impl Plant {
    /// Columns in order; `key` is the place of the one whose texts each stand for a device.
    pub(super) fn new(
        mut columns: Vec<Column>,
        key: Option<usize>,
        time: Option<String>,
        every_ms: u32,
        faults: Faults,
        seed: u64,
    ) -> Plant {
        let devices = key.and_then(|key| columns.get(key));
        let devices = devices.map_or(1, |column| column.signal.texts().len().max(1));
        for (index, column) in columns.iter_mut().enumerate() {
            if Some(index) != key {
                column.memories = vec![Memory::default(); devices];
            }
        }
        Plant {
            columns,
            key,
            time,
            every_ms,
            faults,
            random: Random::new(seed),
            count: 0,
            late: VecDeque::new(),
        }
    }

    /// How many readings there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Makes the next reading, at this time, and gives the messages that arrive now.
    pub(super) fn next(&mut self, time_ms: i64, into: &mut Vec<String>) {
        while self.late.front().is_some_and(|(at, _)| *at <= self.count) {
            into.extend(self.late.pop_front().map(|(_, message)| message));
        }
        let mut message = self.message(time_ms);
        self.count += 1;
        if self.random.happens(self.faults.garbage) {
            let at = self.random.place(message.len());
            let at = (0..=at).rev().find(|at| message.is_char_boundary(*at));
            message.truncate(at.unwrap_or(0));
        }
        if self.random.happens(self.faults.lost) {
            return;
        }
        let (late, by) = self.faults.late;
        if self.random.happens(late) {
            self.late.push_back((self.count + by, message));
            if self.late.len() > LATE_MAX {
                into.extend(self.late.pop_front().map(|(_, message)| message));
            }
            return;
        }
        if self.random.happens(self.faults.duplicate) {
            into.push(message.clone());
        }
        into.push(message);
    }

    /// What is late comes now: there is nothing more.
    pub(super) fn end(&mut self, into: &mut Vec<String>) {
        into.extend(self.late.drain(..).map(|(_, message)| message));
    }

    fn message(&mut self, time_ms: i64) -> String {
        let steps = self.count.checked_mul(u64::from(self.every_ms));
        let since_ms = real(steps.unwrap_or(u64::MAX));
        let mut device = 0;
        let mut key = None;
        if let Some(column) = self.key.and_then(|key| self.columns.get_mut(key)) {
            if let Some(memory) = column.memories.first_mut() {
                let reading = column.signal.next(memory, since_ms, 0.0, &mut self.random);
                if let Reading::Text(text) = &reading {
                    let texts = column.signal.texts();
                    device = texts.iter().position(|known| known == text).unwrap_or(0);
                }
                key = Some(reading);
            }
        }
        let shift = real(u64::try_from(device).unwrap_or(0)) * SHIFT;
        let mut out = String::from("{");
        for (index, column) in self.columns.iter_mut().enumerate() {
            let Some(memory) = column
                .memories
                .get_mut(device)
                .filter(|_| Some(index) != self.key)
            else {
                if let Some(reading) = key.take() {
                    write(column, &reading, &mut out);
                }
                continue;
            };
            let reading = column
                .signal
                .next(memory, since_ms, shift, &mut self.random);
            write(column, &reading, &mut out);
        }
        if let Some(time) = &self.time {
            field(time, &time_ms.to_string(), &mut out);
        }
        out.push('}');
        out
    }
}

fn write(column: &Column, reading: &Reading, out: &mut String) {
    let digits = column.signal.digits();
    let value = match (column.ty, reading) {
        (_, Reading::Missing) => return,
        (_, Reading::NotANumber) => "NaN".to_owned(),
        (Type::Bool, Reading::Number(number)) => (*number >= 0.5).to_string(),
        (Type::Bool, Reading::Text(text)) => (text == "true").to_string(),
        (Type::String, Reading::Number(number)) => quoted(&fixed(*number, digits)),
        (_, Reading::Number(number)) => fixed(*number, digits),
        (_, Reading::Text(text)) => quoted(text),
    };
    field(&column.name, &value, out);
}

fn field(name: &str, value: &str, out: &mut String) {
    let comma = if out.len() > 1 { "," } else { "" };
    // Writing into a string cannot fail.
    let _ = write!(out, "{comma}{}:{value}", quoted(name));
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A number with so many digits after the point, and no `-0`, which is no whole number in JSON.
fn fixed(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        Some(_) | None => text,
    }
}

#[expect(clippy::cast_precision_loss, reason = "of no matter to a wave")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plant(faults: Faults, seed: u64) -> Plant {
        let column = |name, ty, text| Column::new(name, ty, Signal::parse(text, ty).unwrap());
        let columns = vec![
            column("device", Type::String, "cycle(a, b)"),
            column("n", Type::Long, "counter(0, 1)"),
            column("t", Type::Double, "walk(20, 1, 0, 40) digits 1"),
            column("on", Type::Bool, "square(0, 1, 40 ms)"),
        ];
        Plant::new(columns, Some(0), Some("at".to_owned()), 10, faults, seed)
    }

    fn messages(faults: Faults, seed: u64, count: i64) -> Vec<String> {
        let mut plant = plant(faults, seed);
        let mut messages = Vec::new();
        for number in 0..count {
            plant.next(1_000 + number, &mut messages);
        }
        plant.end(&mut messages);
        messages
    }

    #[test]
    fn each_device_has_readings_of_its_own() {
        let messages = messages(Faults::default(), 1, 6);
        let rows: Vec<serde_json::Value> = messages
            .iter()
            .map(|message| serde_json::from_str(message).unwrap())
            .collect();
        for (number, row) in (0_i64..).zip(&rows) {
            assert_eq!(row["device"], if number % 2 == 0 { "a" } else { "b" });
            assert_eq!(row["n"], number / 2, "{row}");
            assert_eq!(row["at"], 1_000 + number);
        }
        assert_eq!(rows[0]["on"], false);
        assert_eq!(rows[2]["on"], true);
    }

    #[test]
    fn the_seed_says_it_all() {
        let faults = || Faults {
            lost: 0.1,
            duplicate: 0.1,
            garbage: 0.1,
            late: (0.1, 7),
        };
        let one = messages(faults(), 3, 2_000);
        assert_eq!(one, messages(faults(), 3, 2_000));
        assert_ne!(one, messages(faults(), 4, 2_000));
        let whole = |message: &&String| serde_json::from_str::<serde_json::Value>(message).is_ok();
        let garbage = one.len() - one.iter().filter(whole).count();
        assert!((120..280).contains(&garbage), "{garbage}");
        let at = |message: &String| -> Option<i64> {
            serde_json::from_str::<serde_json::Value>(message).ok()?["at"].as_i64()
        };
        let times: Vec<i64> = one.iter().filter_map(at).collect();
        let late = times.windows(2).filter(|two| two[1] < two[0]).count();
        let twice = times.windows(2).filter(|two| two[1] == two[0]).count();
        let all: std::collections::BTreeSet<&i64> = times.iter().collect();
        let lost = 2_000 - garbage - all.len();
        for count in [late, twice, lost] {
            assert!((90..280).contains(&count), "{late} {twice} {lost}");
        }
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!(fixed(-0.04, 1), "0.0");
        assert_eq!(fixed(-0.4, 0), "0");
        assert_eq!(fixed(-0.06, 1), "-0.1");
    }
}
