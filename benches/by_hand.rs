//! What an expert would write for one query and nothing else: the same rows in, the same rows
//! out, no SQL, no plan, nothing that could be asked to do another query.
//!
//! A loop takes batches like the engine and fills a reused batch of output rows. Sums are
//! compensated, since the rows must be the same to the last bit.

use std::collections::VecDeque;

use ecow::EcoString;
use eventflux::event::{Batch, Rows, Seq, Stamp, Timestamp, Value};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::events::Tally;

/// Something that takes batches of the bench's events.
pub(crate) trait Loop {
    /// Takes the next rows.
    fn push(&mut self, rows: Rows<'_>, to: &mut Tally);
    /// Gives what is due at `time`, because of `seq`.
    fn finish(&mut self, time: Timestamp, seq: Seq, to: &mut Tally);
}

/// F: `SELECT sensor_id, temperature * 1.8 + 32 AS f FROM S WHERE temperature > 30`.
pub(crate) struct Filter {
    out: Batch,
}

impl Filter {
    pub(crate) fn new() -> Filter {
        Filter { out: Batch::new(2) }
    }
}

impl Loop for Filter {
    fn push(&mut self, rows: Rows<'_>, to: &mut Tally) {
        self.out.clear();
        for row in rows.iter() {
            let [sensor, Value::Float(temperature), ..] = row.values else {
                continue;
            };
            if *temperature > 30.0 {
                let f = Value::finite(*temperature * 1.8 + 32.0);
                self.out.push_with(row.stamp, |values| {
                    values.push(sensor.clone());
                    values.push(f);
                });
            }
        }
        to.read(&self.out);
    }

    fn finish(&mut self, _time: Timestamp, _seq: Seq, _to: &mut Tally) {}
}

/// T: `SELECT sensor_id, avg(temperature), max(temperature), count(*) FROM S
/// WINDOW('tumbling', 1 SECOND) GROUP BY sensor_id`.
pub(crate) struct Tumbling {
    groups: HashMap<EcoString, usize, FixedState>,
    /// In the order of their first row.
    states: Vec<Group>,
    end_ms: i64,
    out: Batch,
}

struct Group {
    sensor: EcoString,
    sum: Sum,
    max: f64,
    rows: u32,
}

impl Tumbling {
    pub(crate) fn new() -> Tumbling {
        Tumbling {
            groups: HashMap::default(),
            states: Vec::new(),
            end_ms: i64::MIN,
            out: Batch::new(4),
        }
    }

    fn flush(&mut self, seq: Seq) {
        let stamp = Stamp {
            seq,
            time: Timestamp(self.end_ms),
        };
        for group in self.states.drain(..) {
            let count = f64::from(group.rows);
            self.out.push_with(stamp, |values| {
                values.push(Value::Str(group.sensor));
                values.push(Value::finite(group.sum.total() / count));
                values.push(Value::Float(group.max));
                values.push(Value::Int(i64::from(group.rows)));
            });
        }
        self.groups.clear();
    }
}

impl Loop for Tumbling {
    fn push(&mut self, rows: Rows<'_>, to: &mut Tally) {
        self.out.clear();
        for row in rows.iter() {
            let time_ms = row.stamp.time.0;
            if time_ms >= self.end_ms {
                self.flush(row.stamp.seq);
                self.end_ms = time_ms - time_ms.rem_euclid(1_000) + 1_000;
            }
            let [Value::Str(sensor), Value::Float(temperature), ..] = row.values else {
                continue;
            };
            let next = self.states.len();
            let place = match self.groups.get(sensor.as_str()) {
                Some(place) => *place,
                None => {
                    self.groups.insert(sensor.clone(), next);
                    self.states.push(Group {
                        sensor: sensor.clone(),
                        sum: Sum::default(),
                        max: f64::NEG_INFINITY,
                        rows: 0,
                    });
                    next
                }
            };
            let group = &mut self.states[place];
            group.sum.add(*temperature);
            group.max = group.max.max(*temperature);
            group.rows += 1;
        }
        to.read(&self.out);
    }

    fn finish(&mut self, time: Timestamp, seq: Seq, to: &mut Tally) {
        self.out.clear();
        if time.0 >= self.end_ms {
            self.flush(seq);
        }
        to.read(&self.out);
    }
}

/// L: `SELECT avg(temperature) AS a FROM S WINDOW('length', 100)`.
pub(crate) struct Length {
    ring: [f64; 100],
    /// How many there are, and where the next one goes.
    rows: usize,
    next: usize,
    sum: Sum,
    out: Batch,
}

impl Length {
    pub(crate) fn new() -> Length {
        Length {
            ring: [0.0; 100],
            rows: 0,
            next: 0,
            sum: Sum::default(),
            out: Batch::new(1),
        }
    }
}

impl Loop for Length {
    #[expect(clippy::cast_precision_loss, reason = "at most 100")]
    fn push(&mut self, rows: Rows<'_>, to: &mut Tally) {
        self.out.clear();
        for row in rows.iter() {
            let [_, Value::Float(temperature), ..] = row.values else {
                continue;
            };
            if self.rows == self.ring.len() {
                self.sum.add(-self.ring[self.next]);
            } else {
                self.rows += 1;
            }
            self.ring[self.next] = *temperature;
            self.next = (self.next + 1) % self.ring.len();
            self.sum.add(*temperature);
            let mean = Value::finite(self.sum.total() / self.rows as f64);
            self.out.push_with(row.stamp, |values| values.push(mean));
        }
        to.read(&self.out);
    }

    fn finish(&mut self, _time: Timestamp, _seq: Seq, _to: &mut Tally) {}
}

/// J: `SELECT s.sensor_id, d.line, s.temperature * d.factor AS t FROM S AS s JOIN Devices AS d
/// ON d.id = s.sensor_id`.
pub(crate) struct Lookup {
    devices: HashMap<EcoString, Device, FixedState>,
    out: Batch,
}

struct Device {
    line: Value,
    factor: f64,
}

impl Lookup {
    /// With the rows of the table: `(id, line, factor)`.
    pub(crate) fn new(table: &Batch) -> Lookup {
        let rows = table.rows();
        let devices = rows.iter().filter_map(|row| match row.values {
            [Value::Str(id), line, Value::Float(factor)] => {
                let (line, factor) = (line.clone(), *factor);
                Some((id.clone(), Device { line, factor }))
            }
            _ => None,
        });
        Lookup {
            devices: devices.collect(),
            out: Batch::new(3),
        }
    }
}

impl Loop for Lookup {
    fn push(&mut self, rows: Rows<'_>, to: &mut Tally) {
        self.out.clear();
        for row in rows.iter() {
            let [Value::Str(sensor), Value::Float(temperature), ..] = row.values else {
                continue;
            };
            let Some(device) = self.devices.get(sensor.as_str()) else {
                continue;
            };
            self.out.push_with(row.stamp, |values| {
                values.push(Value::Str(sensor.clone()));
                values.push(device.line.clone());
                values.push(Value::finite(*temperature * device.factor));
            });
        }
        to.read(&self.out);
    }

    fn finish(&mut self, _time: Timestamp, _seq: Seq, _to: &mut Tally) {}
}

/// P and PK: `SELECT a.ts, b.ts FROM PATTERN (EVERY a=S[temperature > 40] -> b=S[temperature < 10
/// AND sensor_id = a.sensor_id] WITHIN 10 SECONDS)`.
///
/// What can no longer be completed leaves when its sensor has the next row that matters: that is
/// least work, and enough while sensors do not come and go.
pub(crate) struct Pairs {
    waiting: HashMap<EcoString, VecDeque<Waiting>, FixedState>,
    out: Batch,
}

/// A hot row that no cold one has followed yet.
struct Waiting {
    time_ms: i64,
    ts: i64,
}

impl Pairs {
    const WITHIN_MS: i64 = 10_000;

    pub(crate) fn new() -> Pairs {
        Pairs {
            waiting: HashMap::default(),
            out: Batch::new(2),
        }
    }
}

impl Loop for Pairs {
    fn push(&mut self, rows: Rows<'_>, to: &mut Tally) {
        self.out.clear();
        for row in rows.iter() {
            let [
                Value::Str(sensor),
                Value::Float(temperature),
                _,
                _,
                Value::Int(ts),
            ] = row.values
            else {
                continue;
            };
            let time_ms = row.stamp.time.0;
            let first_ms = time_ms - Pairs::WITHIN_MS;
            if *temperature > 40.0 {
                let waiting = self.waiting.entry_ref(sensor).or_default();
                while waiting.front().is_some_and(|hot| hot.time_ms < first_ms) {
                    waiting.pop_front();
                }
                waiting.push_back(Waiting { time_ms, ts: *ts });
            } else if *temperature < 10.0 {
                let Some(waiting) = self.waiting.get_mut(sensor) else {
                    continue;
                };
                for hot in waiting.drain(..) {
                    if hot.time_ms >= first_ms {
                        self.out.push_with(row.stamp, |values| {
                            values.push(Value::Int(hot.ts));
                            values.push(Value::Int(*ts));
                        });
                    }
                }
            }
        }
        to.read(&self.out);
    }

    fn finish(&mut self, _time: Timestamp, _seq: Seq, _to: &mut Tally) {}
}

/// Neumaier's compensated sum (1974).
#[derive(Clone, Copy, Default)]
struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    #[inline]
    fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        self.lost += if self.sum.abs() >= x.abs() {
            (self.sum - sum) + x
        } else {
            (x - sum) + self.sum
        };
        self.sum = sum;
    }

    #[inline]
    fn total(self) -> f64 {
        self.sum + self.lost
    }
}
