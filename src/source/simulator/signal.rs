//! What one column of a simulated stream does over time: a wave, and what is wrong with its sensor.
//! Pure; the same numbers for the same seed.
//!
//! ```text
//! signal    wave { fault }
//! wave      sine(middle, amplitude, period)      square(low, high, period)
//!           triangle(low, high, period)          saw(low, high, period)
//!           walk(start, step, low, high)         random(low, high)
//!           constant(number)                     counter(first, step)
//!           choice(text, ...)                    cycle(text, ...)
//! fault     noise SIZE | spike SHARE SIZE | drop SHARE | stuck SHARE READINGS | nan SHARE
//!           | digits COUNT
//! ```

use std::f64::consts::TAU;

use crate::event::{Type, parse_duration_ms};

/// Readings for which a sensor may be stuck.
const STUCK_MAX: f64 = 1e9;

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// From 0 up to and without 1.
    pub(super) fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut state = self.0;
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let high = u32::try_from((state ^ (state >> 31)) >> 32).unwrap_or(0);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }

    /// Whether something of this share happens now. Nothing is drawn for what never happens.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.share() < share
    }

    /// A place among `count`.
    pub(super) fn place(&mut self, count: usize) -> usize {
        let count_real = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let place = (self.share() * count_real).floor();
        (0..count).rev().find(|at| real(*at) <= place).unwrap_or(0)
    }
}

/// A column's behaviour.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Signal {
    wave: Wave,
    noise: f64,
    spike: (f64, f64),
    drop: f64,
    stuck: (f64, f64),
    nan: f64,
    digits: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Wave {
    /// A shape between two bounds, and its period in milliseconds.
    Periodic(Shape, f64, f64, f64),
    Walk {
        start: f64,
        step: f64,
        low: f64,
        high: f64,
    },
    Random(f64, f64),
    Constant(f64),
    Counter(f64, f64),
    Choice(Vec<String>),
    Cycle(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Sine,
    Square,
    Triangle,
    Saw,
}

/// What a signal remembers, of one device.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    walk: Option<f64>,
    count: f64,
    /// What the sensor is stuck at, and for how many more readings.
    stuck: Option<(Reading, f64)>,
}

/// What a sensor says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    /// Nothing.
    Missing,
    /// What is no number, where one is expected.
    NotANumber,
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl Signal {
    /// Reads a signal, for a column of this type.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub(super) fn parse(text: &str, ty: Type) -> Result<Signal, String> {
        let (wave, faults) = match (text.find('('), text.rfind(')')) {
            (Some(open), Some(close)) if open < close => {
                let name = text.get(..open).unwrap_or_default().trim();
                let inside = text.get(open + 1..close).unwrap_or_default();
                let wave = Wave::parse(name, inside)?;
                (wave, text.get(close + 1..).unwrap_or_default())
            }
            _ => {
                let form = "write a wave such as sine(20, 5, 60 s), and then its faults";
                return Err(format!("`{text}` is no signal: {form}"));
            }
        };
        let has_texts = matches!(wave, Wave::Choice(_) | Wave::Cycle(_));
        let is_number = ty.is_numeric();
        match ty {
            Type::Bool | Type::String => {}
            _ if is_number && !has_texts => {}
            _ if is_number => {
                return Err("a column of numbers takes no choice of texts".to_owned());
            }
            _ => return Err(format!("a {ty} cannot be simulated")),
        }
        let mut signal = Signal {
            wave,
            noise: 0.0,
            spike: (0.0, 0.0),
            drop: 0.0,
            stuck: (0.0, 0.0),
            nan: 0.0,
            digits: 3,
        };
        let mut words = faults.split_ascii_whitespace();
        while let Some(fault) = words.next() {
            signal.fault(fault, &mut words)?;
        }
        if ty.is_integral() {
            signal.digits = 0;
        }
        Ok(signal)
    }

    fn fault<'a>(
        &mut self,
        fault: &str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), String> {
        let mut number = |what: &str, max: f64| {
            let word = words.next().unwrap_or_default();
            let number = finite(word).filter(|number| (0.0..=max).contains(number));
            number.ok_or_else(|| format!("after `{fault}` stands {what}, not `{word}`"))
        };
        let share = "a share from 0 to 1, such as 0.01";
        match fault {
            "noise" => self.noise = number("its size", f64::MAX)?,
            "spike" => self.spike = (number(share, 1.0)?, number("its size", f64::MAX)?),
            "drop" => self.drop = number(share, 1.0)?,
            "stuck" => self.stuck = (number(share, 1.0)?, number("for how many", STUCK_MAX)?),
            "nan" => self.nan = number(share, 1.0)?,
            "digits" => {
                let digits = number("a count from 0 to 9", 9.0)?;
                self.digits = (0..=9).find(|count| real(*count) >= digits).unwrap_or(9);
            }
            other => {
                let known = "noise, spike, drop, stuck, nan and digits";
                return Err(format!(
                    "`{other}` is no fault of a signal: there are {known}"
                ));
            }
        }
        Ok(())
    }

    /// The texts that come in turn or at random; none for numbers.
    pub(super) fn texts(&self) -> &[String] {
        match &self.wave {
            Wave::Choice(texts) | Wave::Cycle(texts) => texts,
            Wave::Periodic(..)
            | Wave::Walk { .. }
            | Wave::Random(..)
            | Wave::Constant(_)
            | Wave::Counter(..) => &[],
        }
    }

    /// How many digits follow the point.
    pub(super) fn digits(&self) -> usize {
        self.digits
    }

    /// What comes next; `shift` is how far this device is behind the others, in periods.
    pub(super) fn next(
        &self,
        memory: &mut Memory,
        time_ms: f64,
        shift: f64,
        random: &mut Random,
    ) -> Reading {
        let value = self.wave.next(memory, time_ms, shift, random);
        let value = match value {
            Reading::Number(number) => Reading::Number(number + self.errors(random)),
            other => other,
        };
        if let Some((held, left)) = memory.stuck.take() {
            if left > 1.0 {
                memory.stuck = Some((held.clone(), left - 1.0));
            }
            return held;
        }
        if random.happens(self.drop) {
            return Reading::Missing;
        }
        if random.happens(self.nan) {
            return Reading::NotANumber;
        }
        if random.happens(self.stuck.0) && self.stuck.1 >= 1.0 {
            memory.stuck = Some((value.clone(), self.stuck.1));
        }
        value
    }

    fn errors(&self, random: &mut Random) -> f64 {
        let mut error = 0.0;
        if self.noise > 0.0 {
            // The sum of three is close enough to a bell.
            let sum = random.share() + random.share() + random.share();
            error += (sum - 1.5) / 1.5 * self.noise;
        }
        if random.happens(self.spike.0) {
            error += if random.happens(0.5) {
                self.spike.1
            } else {
                -self.spike.1
            };
        }
        error
    }
}

impl Wave {
    fn parse(name: &str, inside: &str) -> Result<Wave, String> {
        let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
        let shape = match name {
            "sine" => Some(Shape::Sine),
            "square" => Some(Shape::Square),
            "triangle" => Some(Shape::Triangle),
            "saw" => Some(Shape::Saw),
            _ => None,
        };
        let numbers: Vec<Option<f64>> = parts.iter().map(|part| finite(part)).collect();
        let wave = match (name, numbers.as_slice(), shape) {
            (_, [Some(first), Some(second), _], Some(shape)) => {
                let period = parts.get(2).and_then(|text| parse_duration_ms(text));
                let period = period
                    .and_then(|ms| u32::try_from(ms).ok())
                    .filter(|ms| *ms > 0);
                let (low, high) = match shape {
                    Shape::Sine => (first - second, first + second),
                    Shape::Square | Shape::Triangle | Shape::Saw => (*first, *second),
                };
                period.map(|ms| Wave::Periodic(shape, low, high, f64::from(ms)))
            }
            ("walk", [Some(start), Some(step), Some(low), Some(high)], _) if low <= high => {
                Some(Wave::Walk {
                    start: start.clamp(*low, *high),
                    step: *step,
                    low: *low,
                    high: *high,
                })
            }
            ("random", [Some(low), Some(high)], _) => Some(Wave::Random(*low, *high)),
            ("constant", [Some(number)], _) => Some(Wave::Constant(*number)),
            ("counter", [Some(first), Some(step)], _) => Some(Wave::Counter(*first, *step)),
            ("choice" | "cycle", _, _) if parts.iter().all(|part| !part.is_empty()) => {
                let texts = parts.iter().map(|part| (*part).to_owned()).collect();
                Some(match name {
                    "choice" => Wave::Choice(texts),
                    _ => Wave::Cycle(texts),
                })
            }
            _ => None,
        };
        wave.ok_or_else(|| match FORMS.iter().find(|(known, _)| *known == name) {
            Some((_, form)) => format!("`{name}({inside})` has another form: {form}"),
            None => {
                let known: Vec<&str> = FORMS.iter().map(|(known, _)| *known).collect();
                format!("`{name}` is no wave: there are {}", known.join(", "))
            }
        })
    }

    fn next(&self, memory: &mut Memory, time_ms: f64, shift: f64, random: &mut Random) -> Reading {
        match self {
            Wave::Periodic(shape, low, high, period_ms) => {
                let turn = (time_ms / period_ms + shift).fract();
                Reading::Number(low + (high - low) * shape.at(turn))
            }
            Wave::Walk {
                start,
                step,
                low,
                high,
            } => {
                let way = (2.0 * random.share() - 1.0) * step;
                let at = memory
                    .walk
                    .map_or(*start, |at| (at + way).clamp(*low, *high));
                memory.walk = Some(at);
                Reading::Number(at)
            }
            Wave::Random(low, high) => Reading::Number(low + (high - low) * random.share()),
            Wave::Constant(number) => Reading::Number(*number),
            Wave::Counter(first, step) => {
                let count = memory.count;
                memory.count += 1.0;
                Reading::Number(first + count * step)
            }
            Wave::Choice(texts) => text(texts, random.place(texts.len())),
            Wave::Cycle(texts) => {
                let at = (0..texts.len())
                    .find(|at| real(*at) >= memory.count)
                    .unwrap_or(0);
                let next = at + 1;
                memory.count = if next < texts.len() { real(next) } else { 0.0 };
                text(texts, at)
            }
        }
    }
}

impl Shape {
    /// From 0 to 1, at a place in the period from 0 to 1.
    fn at(self, turn: f64) -> f64 {
        match self {
            Shape::Sine => 0.5 + 0.5 * (turn * TAU).sin(),
            Shape::Square => f64::from(u8::from(turn >= 0.5)),
            Shape::Triangle => 1.0 - (2.0 * turn - 1.0).abs(),
            Shape::Saw => turn,
        }
    }
}

const FORMS: &[(&str, &str)] = &[
    (
        "sine",
        "sine(middle, amplitude, period), such as sine(20, 5, 60 s)",
    ),
    (
        "square",
        "square(low, high, period), such as square(0, 1, 10 s)",
    ),
    (
        "triangle",
        "triangle(low, high, period), such as triangle(0, 100, 5 min)",
    ),
    ("saw", "saw(low, high, period), such as saw(0, 100, 5 min)"),
    (
        "walk",
        "walk(start, step, low, high), such as walk(20, 0.5, 10, 30)",
    ),
    ("random", "random(low, high), such as random(0, 1)"),
    ("constant", "constant(number), such as constant(5)"),
    ("counter", "counter(first, step), such as counter(0, 1)"),
    ("choice", "choice(text, ...), such as choice(open, closed)"),
    ("cycle", "cycle(text, ...), such as cycle(press-1, press-2)"),
];

fn finite(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

fn text(texts: &[String], at: usize) -> Reading {
    texts
        .get(at)
        .map_or(Reading::Missing, |text| Reading::Text(text.clone()))
}

fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(text: &str, count: u32) -> Vec<Reading> {
        let signal = Signal::parse(text, Type::String).unwrap();
        let (mut memory, mut random) = (Memory::default(), Random::new(5));
        (0..count)
            .map(|at| signal.next(&mut memory, f64::from(at) * 250.0, 0.0, &mut random))
            .collect()
    }

    fn numbers(text: &str, count: u32) -> Vec<f64> {
        let numbers = readings(text, count)
            .into_iter()
            .map(|reading| match reading {
                Reading::Number(number) => (number * 1e6).round() / 1e6,
                other => panic!("{other:?}"),
            });
        numbers.collect()
    }

    #[test]
    fn waves_have_their_forms() {
        for (text, expected) in [
            ("sine(20, 5, 1 s)", [20.0, 25.0, 20.0, 15.0, 20.0]),
            ("square(1, 9, 1 s)", [1.0, 1.0, 9.0, 9.0, 1.0]),
            ("triangle(0, 8, 1 s)", [0.0, 4.0, 8.0, 4.0, 0.0]),
            ("saw(0, 8, 1 s)", [0.0, 2.0, 4.0, 6.0, 0.0]),
            ("constant(-3.5)", [-3.5; 5]),
            ("counter(10, -2)", [10.0, 8.0, 6.0, 4.0, 2.0]),
            ("walk(5, 9, 5, 5)", [5.0; 5]),
        ] {
            assert_eq!(numbers(text, 5), expected, "{text}");
        }
        let texts = ["a", "b b", "c", "a"].map(|text| Reading::Text(text.to_owned()));
        assert_eq!(readings("cycle(a, b b, c)", 4), texts);
    }

    #[test]
    fn what_is_random_keeps_to_its_bounds() {
        let within = |text: &str, low: f64, high: f64| {
            let numbers = numbers(text, 5_000);
            assert!(numbers.iter().all(|n| (low..=high).contains(n)), "{text}");
            let middle = (low + high) / 2.0;
            let above = numbers.iter().filter(|n| **n > middle).count();
            assert!((1_000..4_000).contains(&above), "{text}: {above}");
            assert_eq!(numbers, self::numbers(text, 5_000), "{text}");
        };
        within("random(-1, 1)", -1.0, 1.0);
        within("walk(0, 0.5, -2, 2)", -2.0, 2.0);
        within("constant(7) noise 0.5", 6.5, 7.5);
        let chosen = readings("choice(a, b, c)", 3_000);
        for text in ["a", "b", "c"] {
            let count = chosen
                .iter()
                .filter(|r| **r == Reading::Text(text.to_owned()))
                .count();
            assert!((800..1_200).contains(&count), "{text}: {count}");
        }
    }

    #[test]
    fn faults_happen_as_often_as_they_should() {
        let count = |text: &str, is_fault: fn(&Reading) -> bool| {
            readings(text, 10_000)
                .iter()
                .filter(|r| is_fault(r))
                .count()
        };
        let missing = count("constant(1) drop 0.1", |r| *r == Reading::Missing);
        assert!((800..1_200).contains(&missing), "{missing}");
        let nan = count("constant(1) nan 0.01", |r| *r == Reading::NotANumber);
        assert!((60..140).contains(&nan), "{nan}");
        let spikes = count(
            "constant(1) spike 0.01 40",
            |r| matches!(r, Reading::Number(n) if *n == 41.0 || *n == -39.0),
        );
        assert!((60..140).contains(&spikes), "{spikes}");
        let stuck = numbers("counter(0, 1) stuck 0.01 20", 10_000);
        let repeats = stuck.windows(2).filter(|two| two[0] == two[1]).count();
        assert!((1_000..2_600).contains(&repeats), "{repeats}");
    }

    #[test]
    fn what_is_no_signal_is_said() {
        for (text, ty, problem) in [
            ("sine", Type::Double, "`sine` is no signal"),
            (
                "sin(1, 2, 3 s)",
                Type::Double,
                "`sin` is no wave: there are sine, ",
            ),
            ("sine(1, 2)", Type::Double, "has another form: sine(middle"),
            ("sine(1, 2, 0)", Type::Double, "has another form"),
            ("sine(1, inf, 1 s)", Type::Double, "has another form"),
            ("walk(1, 1, 5, 4)", Type::Double, "has another form"),
            ("choice(a,,b)", Type::String, "has another form"),
            ("choice(a)", Type::Double, "takes no choice"),
            ("constant(1)", Type::Json, "a JSON cannot be simulated"),
            (
                "constant(1) noise",
                Type::Double,
                "after `noise` stands its size, not ``",
            ),
            (
                "constant(1) drop 2",
                Type::Double,
                "after `drop` stands a share",
            ),
            ("constant(1) rust 2", Type::Double, "`rust` is no fault"),
        ] {
            let error = Signal::parse(text, ty).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
