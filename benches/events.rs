//! The events everybody measures, and the consumer of the rows that come out.

use eventflux::engine::Outputs;
use eventflux::event::{Batch, Seq, Stamp, Timestamp, Value};
use eventflux::sql::plan::StreamId;

/// The stream of the events.
pub(crate) const STREAM: &str = "CREATE STREAM S (sensor_id STRING, temperature DOUBLE, \
    humidity DOUBLE, seq BIGINT, ts BIGINT);\n";

/// The time of the first event; each later one comes a millisecond after the one before.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// Marsaglia's xorshift with 64 bits ("Xorshift RNGs", 2003).
pub(crate) struct Xorshift(pub(crate) u64);

impl Default for Xorshift {
    fn default() -> Xorshift {
        Xorshift(0x9E37_79B9_7F4A_7C15)
    }
}

impl Xorshift {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to below `scale`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub(crate) fn float(&mut self, scale: f64) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64 * scale
    }
}

/// The events, in order.
pub(crate) struct Events {
    random: Xorshift,
    sensors: Vec<Value>,
    next: i64,
}

impl Events {
    /// From the first on, of so many sensors.
    pub(crate) fn new(sensors: usize) -> Events {
        let sensors = 0..sensors;
        Events {
            random: Xorshift::default(),
            sensors: sensors
                .map(|number| Value::text(&format!("sensor-{number:03}")))
                .collect(),
            next: 0,
        }
    }

    /// Puts the next `count` events into `batch` and takes away what was there.
    pub(crate) fn fill(&mut self, batch: &mut Batch, count: usize) {
        batch.clear();
        for _ in 0..count {
            let sensor = self.random.next() % self.sensors.len() as u64;
            let sensor = usize::try_from(sensor).expect("a sensor's number");
            let temperature = self.random.float(50.0);
            let humidity = self.random.float(100.0);
            let row = [
                self.sensors[sensor].clone(),
                Value::Float(temperature),
                Value::Float(humidity),
                Value::Int(self.next),
                Value::Int(START_MS + self.next),
            ];
            batch.push(self.stamp(), row);
            self.next += 1;
        }
    }

    /// When and as which input the next event comes.
    pub(crate) fn stamp(&self) -> Stamp {
        stamp_of(self.next)
    }
}

/// When and as which input the event with this number comes, from 0.
pub(crate) fn stamp_of(number: i64) -> Stamp {
    Stamp {
        seq: Seq(number.unsigned_abs() + 1),
        time: Timestamp(START_MS + number),
    }
}

/// When and as which input comes what is there before the first event.
pub(crate) const BEFORE: Stamp = Stamp {
    seq: Seq(0),
    time: Timestamp(START_MS - 1),
};

/// What is known of so many sensors before the first event: `(id, line, factor)`.
pub(crate) fn devices(count: usize) -> Batch {
    let mut devices = Batch::new(3);
    let mut random = Xorshift::default();
    for number in 0..count {
        let row = [
            Value::text(&format!("sensor-{number:03}")),
            Value::text(&format!("line-{:02}", number % 50)),
            Value::Float(1.0 + random.float(1.0)),
        ];
        devices.push(BEFORE, row);
    }
    devices
}

/// Reads every cell of every row and keeps nothing but their number and a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many rows there were.
    pub(crate) rows: u64,
    /// Of all stamps and values, in order.
    pub(crate) hash: u64,
}

impl Tally {
    /// Reads the rows.
    #[inline]
    pub(crate) fn read(&mut self, batch: &Batch) {
        for row in batch.rows().iter() {
            self.rows += 1;
            self.mix(row.stamp.seq.0);
            self.mix(bits(row.stamp.time.0));
            for value in row.values {
                match value {
                    Value::Null => self.mix(0),
                    Value::Bool(truth) => self.mix(1 + u64::from(*truth)),
                    Value::Int(number) => self.mix(bits(*number)),
                    Value::Float(number) => self.mix(number.to_bits()),
                    Value::Str(text) => self.text(text.as_bytes()),
                    Value::Bytes(bytes) => self.text(bytes),
                }
            }
        }
    }

    #[inline]
    fn mix(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
    }

    #[inline]
    fn text(&mut self, bytes: &[u8]) {
        let words = bytes.chunks_exact(8);
        let rest = words.remainder();
        for word in words {
            self.mix(word.try_into().map_or(0, u64::from_le_bytes));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
    }
}

fn bits(number: i64) -> u64 {
    u64::from_le_bytes(number.to_le_bytes())
}

impl Outputs for Tally {
    fn take(&mut self, _stream: StreamId, _query: u32, rows: &Batch, _ordinals: &[u32]) {
        self.read(rows);
    }
}
