//! The number of different values in bounded memory: HyperLogLog (P. Flajolet et al., 2007) with
//! O. Ertl's estimator ("New cardinality estimation algorithms for HyperLogLog sketches", 2017),
//! which needs no corrections measured beforehand.
//!
//! A value's hash names a register and a rank, of which the register keeps the largest. Where rows
//! leave, it counts how many values have each rank, so that any of them can be taken out again.
//! Few values are kept by their hashes and so counted exactly.

use std::collections::BTreeMap;

use super::super::state::StateError;
use super::hash::hash_of;
use super::over::Tally;
use super::{BAD_STATE, Saved, int_at, values_at};
use crate::event::Value;

/// How many bits of a hash name the register: 4096 registers, a standard error of 1.04 / 64.
const REGISTER_BITS: u32 = 12;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// The largest rank: all other bits are zero.
const RANK_MAX: usize = 64 - REGISTER_BITS as usize + 1;
/// So many different values are counted exactly.
const EXACT_MAX: usize = 256;

/// The register of a hash, and the rank from 1.
fn place(hash: u64) -> (usize, usize) {
    let register = usize::try_from(hash % REGISTERS as u64).unwrap_or_default();
    let rest = (hash >> REGISTER_BITS) | 1 << (RANK_MAX - 1);
    (register, rest.trailing_zeros() as usize + 1)
}

/// How many registers hold each rank; 0 is an empty register.
type Ranks = [u32; RANK_MAX + 1];

fn all_empty() -> Ranks {
    let mut ranks = [0; RANK_MAX + 1];
    if let Some(empty) = ranks.first_mut() {
        *empty = 1 << REGISTER_BITS;
    }
    ranks
}

/// A register goes from one rank to another.
fn shift(ranks: &mut Ranks, from: usize, to: usize) {
    if let Some(count) = ranks.get_mut(from) {
        *count -= 1;
    }
    if let Some(count) = ranks.get_mut(to) {
        *count += 1;
    }
}

/// Ertl's improved raw estimator: sums and square roots only, so that every machine computes the
/// same.
fn estimate(ranks: &Ranks) -> Value {
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let registers = f64::from(1_u32 << REGISTER_BITS);
    let count = |rank: usize| f64::from(ranks.get(rank).copied().unwrap_or(0));
    let mut z = registers * tau(1.0 - count(RANK_MAX) / registers);
    for rank in (1..RANK_MAX).rev() {
        z = 0.5 * (z + count(rank));
    }
    z += registers * sigma(count(0) / registers);
    let estimate = (ALPHA * registers * registers / z).round();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an estimate beyond 64 bits is the largest number"
    )]
    let estimate = estimate as i64;
    Value::Int(estimate)
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Different values by their hashes, with their counts, while they are few; then registers.
struct Sketch<R> {
    few: BTreeMap<u64, i64>,
    registers: Option<Box<R>>,
}

impl<R> Default for Sketch<R> {
    fn default() -> Sketch<R> {
        Sketch {
            few: BTreeMap::new(),
            registers: None,
        }
    }
}

trait Registers: Sized {
    fn empty() -> Self;
    fn add(&mut self, hash: u64, count: i64);
    fn remove(&mut self, hash: u64);
    fn ranks(&self) -> &Ranks;
    fn save(&self) -> Saved<'_>;
    fn load(state: &[Value]) -> Result<Self, StateError>;
}

impl<R: Registers> Sketch<R> {
    fn add(&mut self, value: &Value) {
        let hash = hash_of(value);
        if let Some(registers) = &mut self.registers {
            registers.add(hash, 1);
            return;
        }
        *self.few.entry(hash).or_insert(0) += 1;
        if self.few.len() > EXACT_MAX {
            let mut registers = Box::new(R::empty());
            for (hash, count) in std::mem::take(&mut self.few) {
                registers.add(hash, count);
            }
            self.registers = Some(registers);
        }
    }

    fn remove(&mut self, value: &Value) {
        let hash = hash_of(value);
        if let Some(registers) = &mut self.registers {
            registers.remove(hash);
            // Empty again: exact again.
            if registers.ranks() == &all_empty() {
                self.registers = None;
            }
        } else if let Some(count) = self.few.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.few.remove(&hash);
            }
        }
    }

    fn result(&self) -> Value {
        match &self.registers {
            Some(registers) => estimate(registers.ranks()),
            None => i64::try_from(self.few.len()).map_or(Value::Null, Value::Int),
        }
    }

    /// Whether there are registers; these, or hashes and counts by turns.
    fn save(&self) -> Saved<'_> {
        let head = std::iter::once(Value::Bool(self.registers.is_some()));
        match &self.registers {
            Some(registers) => Box::new(head.chain(registers.save())),
            None => Box::new(head.chain(self.few.iter().flat_map(|(hash, count)| {
                let hash = i64::from_le_bytes(hash.to_le_bytes());
                [Value::Int(hash), Value::Int(*count)]
            }))),
        }
    }

    fn load(state: &[Value]) -> Result<Sketch<R>, StateError> {
        let dense = state.first().and_then(Value::as_bool).ok_or(BAD_STATE)?;
        let state = values_at(state, 1..state.len())?;
        let mut few = BTreeMap::new();
        if dense {
            let registers = Some(Box::new(R::load(state)?));
            return Ok(Sketch { few, registers });
        }
        for pair in state.chunks(2) {
            let hash = u64::from_le_bytes(int_at(pair, 0)?.to_le_bytes());
            few.insert(hash, int_at(pair, 1)?);
        }
        let registers = None;
        Ok(Sketch { few, registers })
    }
}

/// The largest rank of each register.
struct Largest {
    registers: Vec<u8>,
    ranks: Ranks,
}

impl Registers for Largest {
    fn empty() -> Largest {
        Largest {
            registers: vec![0; REGISTERS],
            ranks: all_empty(),
        }
    }

    fn add(&mut self, hash: u64, _count: i64) {
        let (register, rank) = place(hash);
        if let Some(largest) = self.registers.get_mut(register) {
            if usize::from(*largest) < rank {
                shift(&mut self.ranks, usize::from(*largest), rank);
                *largest = u8::try_from(rank).unwrap_or(u8::MAX);
            }
        }
    }

    /// Used where rows never leave.
    fn remove(&mut self, _hash: u64) {}

    fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Eight registers to a number.
    fn save(&self) -> Saved<'_> {
        let words = self.registers.chunks_exact(8);
        Box::new(words.map(|word| {
            let word = <[u8; 8]>::try_from(word).unwrap_or_default();
            Value::Int(i64::from_le_bytes(word))
        }))
    }

    fn load(state: &[Value]) -> Result<Largest, StateError> {
        let words = state.iter().map(|word| word.as_int().ok_or(BAD_STATE));
        let words: Vec<i64> = words.collect::<Result<_, _>>()?;
        let registers: Vec<u8> = words.into_iter().flat_map(i64::to_le_bytes).collect();
        let mut ranks = all_empty();
        for rank in &registers {
            if usize::from(*rank) > RANK_MAX {
                return Err(BAD_STATE);
            }
            shift(&mut ranks, 0, usize::from(*rank));
        }
        if registers.len() != REGISTERS {
            return Err(BAD_STATE);
        }
        Ok(Largest { registers, ranks })
    }
}

/// How many values of each register have each rank, from 1 up to the largest.
struct Counted {
    registers: Vec<Vec<i64>>,
    ranks: Ranks,
}

impl Registers for Counted {
    fn empty() -> Counted {
        Counted {
            registers: vec![Vec::new(); REGISTERS],
            ranks: all_empty(),
        }
    }

    fn add(&mut self, hash: u64, count: i64) {
        let (register, rank) = place(hash);
        if let Some(counts) = self.registers.get_mut(register) {
            if counts.len() < rank {
                shift(&mut self.ranks, counts.len(), rank);
                counts.resize(rank, 0);
            }
            if let Some(known) = counts.get_mut(rank - 1) {
                *known += count;
            }
        }
    }

    fn remove(&mut self, hash: u64) {
        let (register, rank) = place(hash);
        if let Some(counts) = self.registers.get_mut(register) {
            let before = counts.len();
            if let Some(known) = counts.get_mut(rank - 1) {
                *known -= 1;
            }
            while counts.last() == Some(&0) {
                counts.pop();
            }
            shift(&mut self.ranks, before, counts.len());
        }
    }

    fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Of each register the largest rank, and the counts up to it.
    fn save(&self) -> Saved<'_> {
        Box::new(self.registers.iter().flat_map(|counts| {
            let largest = i64::try_from(counts.len()).unwrap_or_default();
            let counts = counts.iter().copied();
            std::iter::once(largest).chain(counts).map(Value::Int)
        }))
    }

    fn load(state: &[Value]) -> Result<Counted, StateError> {
        let mut counted = Counted::empty();
        let mut rest = state.iter().map(|count| count.as_int().ok_or(BAD_STATE));
        for counts in &mut counted.registers {
            let largest = usize::try_from(rest.next().ok_or(BAD_STATE)??);
            let largest = largest.map_err(|_| BAD_STATE)?;
            if largest > RANK_MAX {
                return Err(BAD_STATE);
            }
            *counts = rest.by_ref().take(largest).collect::<Result<_, _>>()?;
            shift(&mut counted.ranks, 0, counts.len());
        }
        Ok(counted)
    }
}

/// Where rows never leave.
#[derive(Default)]
pub(super) struct Growing {
    sketch: Sketch<Largest>,
}

impl Tally for Growing {
    type Item = Value;
    type Settings = ();

    fn add(&mut self, value: Value, (): &()) {
        self.sketch.add(&value);
    }

    fn remove(&mut self, _: Value, (): &()) {}

    fn result(&self, (): &()) -> Value {
        self.sketch.result()
    }

    fn save(&self) -> Saved<'_> {
        self.sketch.save()
    }

    fn load(state: &[Value]) -> Result<Growing, StateError> {
        let sketch = Sketch::load(state)?;
        Ok(Growing { sketch })
    }
}

/// Where rows leave, in whatever order.
#[derive(Default)]
pub(super) struct Sliding {
    sketch: Sketch<Counted>,
}

impl Tally for Sliding {
    type Item = Value;
    type Settings = ();

    fn add(&mut self, value: Value, (): &()) {
        self.sketch.add(&value);
    }

    fn remove(&mut self, value: Value, (): &()) {
        self.sketch.remove(&value);
    }

    fn result(&self, (): &()) -> Value {
        self.sketch.result()
    }

    fn save(&self) -> Saved<'_> {
        self.sketch.save()
    }

    fn load(state: &[Value]) -> Result<Sliding, StateError> {
        let sketch = Sketch::load(state)?;
        Ok(Sliding { sketch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_within_three_standard_errors() {
        let mut growing = Growing::default();
        let mut sliding = Sliding::default();
        let text = |number: i64| Value::from(format!("sensor-{number}"));
        let mut known = 0;
        for count in [100, 256, 257, 1_000, 5_000, 20_000, 60_000, 300_000] {
            for number in known..count {
                let number: i64 = number;
                growing.add(Value::Int(number), &());
                sliding.add(text(number), &());
                sliding.add(text(number), &());
            }
            known = count;
            for result in [growing.result(&()), sliding.result(&())] {
                let estimate = result.as_int().unwrap();
                let error = (estimate - count).abs() as f64 / count as f64;
                let most = if count <= 256 { 0.0 } else { 0.049 };
                assert!(error <= most, "{estimate} of {count}");
            }
        }
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        let (mut both, mut one) = (Sliding::default(), Sliding::default());
        for number in 0..3_000 {
            both.add(Value::Int(number), &());
            both.add(Value::Int(number + 1_000_000), &());
            one.add(Value::Int(number), &());
        }
        for number in 0..3_000 {
            both.remove(Value::Int(number + 1_000_000), &());
        }
        assert_eq!(both.result(&()), one.result(&()));
        for number in 0..3_000 {
            both.remove(Value::Int(number), &());
        }
        assert_eq!(both.result(&()), Value::Int(0));
        assert!(both.sketch.registers.is_none());
    }
}
