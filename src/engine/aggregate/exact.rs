//! Sums of floats, and of products of two, without any rounding: fixed point, as wide as what has
//! been added needs (after U. Kulisch's long accumulator). What is taken out again leaves nothing
//! behind, and the order does not matter.
//!
//! A sum is an integer times a power of 2^64, in two's complement, in limbs of 64 bits from the
//! least one up. Readings of one sensor take three or four limbs; the widest that doubles can ask
//! for is seventy-odd.

use super::super::state::StateError;
use super::{BAD_STATE, int_at, values_at};
use crate::event::Value;

/// The limbs that differences of products are computed in: from 2^(64 * FIRST_LIMB) up. The least
/// product of two doubles is 2^-2148, the largest below 2^2048, and a sum of sums adds 64 bits.
const FIRST_LIMB: i32 = -36;
const LIMBS: usize = 80;

/// A sum without rounding.
#[derive(Clone, Debug, Default)]
pub(super) struct Exact {
    /// What limb the first one is: it counts 2^(64 * low).
    low: i32,
    /// The last one is nothing but sign.
    limbs: Vec<u64>,
}

/// The integer and the power of two that a finite float is.
fn parts(x: f64) -> (i64, i32) {
    let bits = x.to_bits();
    let exponent = i32::try_from((bits >> 52) & 0x7FF).unwrap_or_default();
    let fraction = i64::try_from(bits & 0x000F_FFFF_FFFF_FFFF).unwrap_or_default();
    let (whole, exponent) = if exponent == 0 {
        (fraction, -1074)
    } else {
        (fraction | 1 << 52, exponent - 1075)
    };
    (if x.is_sign_negative() { -whole } else { whole }, exponent)
}

impl Exact {
    pub(super) fn add(&mut self, x: f64) {
        let (whole, exponent) = parts(x);
        self.add_scaled(i128::from(whole), exponent);
    }

    pub(super) fn add_product(&mut self, x: f64, y: f64) {
        let ((x, x_exponent), (y, y_exponent)) = (parts(x), parts(y));
        self.add_scaled(i128::from(x) * i128::from(y), x_exponent + y_exponent);
    }

    /// Adds `whole` (106 bits) times a power of two.
    fn add_scaled(&mut self, whole: i128, exponent: i32) {
        if whole == 0 {
            return;
        }
        let shift = exponent.rem_euclid(64);
        let first = self.make_room(exponent.div_euclid(64));
        let sign = if whole < 0 { u64::MAX } else { 0 };
        let low = (whole << shift).to_le_bytes();
        let high = if shift == 0 {
            sign
        } else {
            low_word((whole >> (128 - shift)).to_le_bytes())
        };
        let addend = [low_word(low), high_word(low), high];
        let mut carry = 0;
        for (place, limb) in self.limbs.iter_mut().skip(first).enumerate() {
            let word = addend.get(place).copied().unwrap_or(sign);
            if place >= addend.len() && word.wrapping_add(carry) == 0 {
                break;
            }
            let (sum, one) = limb.overflowing_add(word);
            let (sum, other) = sum.overflowing_add(carry);
            *limb = sum;
            carry = u64::from(one || other);
        }
        match self.limbs.last() {
            None | Some(0 | &u64::MAX) => {}
            Some(last) => {
                let sign = if last >> 63 == 1 { u64::MAX } else { 0 };
                self.limbs.push(sign);
            }
        }
    }

    /// Widens the sum so that it has the limb `wanted` and three more; where it lies.
    fn make_room(&mut self, wanted: i32) -> usize {
        if self.limbs.is_empty() {
            self.low = wanted;
        }
        if wanted < self.low {
            let missing = usize::try_from(self.low - wanted).unwrap_or_default();
            self.limbs.splice(0..0, std::iter::repeat_n(0, missing));
            self.low = wanted;
        }
        let first = usize::try_from(wanted - self.low).unwrap_or_default();
        if self.limbs.len() < first + 4 {
            let sign = self.limbs.last().copied().unwrap_or(0);
            self.limbs.resize(first + 4, sign);
        }
        first
    }

    fn magnitude(&self) -> Magnitude {
        let negative = self.limbs.last().is_some_and(|last| last >> 63 == 1);
        let mut magnitude = Magnitude {
            negative,
            low: self.low,
            limbs: [0; LIMBS],
            count: self.limbs.len().min(LIMBS),
        };
        let mut carry = negative;
        for (to, from) in magnitude.limbs.iter_mut().zip(&self.limbs) {
            (*to, carry) = if negative {
                (!from).overflowing_add(u64::from(carry))
            } else {
                (*from, false)
            };
        }
        magnitude
    }

    /// Where the first limb stands, how many there are, and these.
    pub(super) fn save(&self) -> impl Iterator<Item = Value> + '_ {
        let count = i64::try_from(self.limbs.len()).unwrap_or_default();
        let limbs = self.limbs.iter();
        let limbs = limbs.map(|limb| i64::from_le_bytes(limb.to_le_bytes()));
        let head = [i64::from(self.low), count];
        head.into_iter().chain(limbs).map(Value::Int)
    }

    /// Reads a sum at the beginning of `state`, and moves behind it.
    pub(super) fn load(state: &mut &[Value]) -> Result<Exact, StateError> {
        let low = i32::try_from(int_at(state, 0)?).map_err(|_| BAD_STATE)?;
        let count = usize::try_from(int_at(state, 1)?).map_err(|_| BAD_STATE)?;
        let all = low.abs() <= -FIRST_LIMB && count <= LIMBS;
        let limbs = values_at(state, 2..if all { count + 2 } else { usize::MAX })?;
        let limbs = limbs.iter().map(|limb| limb.as_int().ok_or(BAD_STATE));
        let limbs = limbs.map(|limb| Ok(u64::from_le_bytes(limb?.to_le_bytes())));
        let exact = Exact {
            low,
            limbs: limbs.collect::<Result<_, StateError>>()?,
        };
        *state = values_at(state, count + 2..state.len())?;
        Ok(exact)
    }
}

fn low_word(bytes: [u8; 16]) -> u64 {
    let word = bytes.first_chunk::<8>().copied();
    u64::from_le_bytes(word.unwrap_or_default())
}

fn high_word(bytes: [u8; 16]) -> u64 {
    let word = bytes.last_chunk::<8>().copied();
    u64::from_le_bytes(word.unwrap_or_default())
}

/// A sum without its sign.
struct Magnitude {
    negative: bool,
    low: i32,
    limbs: [u64; LIMBS],
    count: usize,
}

impl Magnitude {
    /// The limbs that are not zero, with their places.
    fn limbs(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        let limbs = (self.low..).zip(self.limbs.iter().take(self.count).copied());
        limbs.filter(|(_, limb)| *limb != 0)
    }
}

/// `count` times the sum `xy` of the products of `x` and `y`, minus the product of their sums: that
/// is `count` squared times the covariance. Exact before the result is rounded.
pub(super) fn spread(count: u64, xy: &Exact, x: &Exact, y: &Exact) -> Scaled {
    let mut wide = Wide { limbs: [0; LIMBS] };
    let (xy, x, y) = (xy.magnitude(), x.magnitude(), y.magnitude());
    for (place, limb) in xy.limbs() {
        wide.add(place, u128::from(limb) * u128::from(count), xy.negative);
    }
    for (place, one) in x.limbs() {
        for (other_place, other) in y.limbs() {
            let product = u128::from(one) * u128::from(other);
            wide.add(place + other_place, product, x.negative == y.negative);
        }
    }
    wide.rounded()
}

/// Limbs from `FIRST_LIMB` on, in two's complement.
struct Wide {
    limbs: [u64; LIMBS],
}

impl Wide {
    fn add(&mut self, place: i32, number: u128, negative: bool) {
        let first = usize::try_from(place - FIRST_LIMB).unwrap_or(LIMBS);
        let bytes = number.to_le_bytes();
        let words = [low_word(bytes), high_word(bytes)];
        let mut carry = false;
        for (number, limb) in self.limbs.iter_mut().skip(first).enumerate() {
            let word = words.get(number).copied().unwrap_or(0);
            if number >= words.len() && !carry {
                break;
            }
            let (sum, one) = if negative {
                limb.overflowing_sub(word)
            } else {
                limb.overflowing_add(word)
            };
            let (sum, other) = if negative {
                sum.overflowing_sub(u64::from(carry))
            } else {
                sum.overflowing_add(u64::from(carry))
            };
            *limb = sum;
            carry = one || other;
        }
    }

    /// Rounded once, to the digits of a double.
    fn rounded(mut self) -> Scaled {
        let negative = self.limbs.last().is_some_and(|last| last >> 63 == 1);
        if negative {
            let mut carry = true;
            for limb in &mut self.limbs {
                (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
            }
        }
        let Some(top) = self.limbs.iter().rposition(|limb| *limb != 0) else {
            return Scaled {
                number: 0.0,
                exponent: 0,
            };
        };
        let limb = |place: Option<usize>| {
            let limb = place.and_then(|place| self.limbs.get(place));
            u128::from(limb.copied().unwrap_or(0))
        };
        let digits = (limb(Some(top)) << 64) | limb(top.checked_sub(1));
        #[expect(
            clippy::cast_precision_loss,
            reason = "rounding to a double is what is wanted"
        )]
        let number = digits as f64;
        let top = i32::try_from(top).unwrap_or_default();
        Scaled {
            number: if negative { -number } else { number },
            exponent: (FIRST_LIMB + top - 1) * 64,
        }
    }
}

/// A number times a power of two, which may lie far beyond what a double holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaled {
    number: f64,
    /// A multiple of 64.
    exponent: i32,
}

impl Scaled {
    pub(super) fn is_zero(self) -> bool {
        self.number == 0.0
    }

    /// Divided by a number of no great size.
    pub(super) fn over(self, divisor: f64) -> Scaled {
        Scaled {
            number: self.number / divisor,
            ..self
        }
    }

    /// Divided by another.
    pub(super) fn ratio(self, divisor: Scaled) -> Scaled {
        Scaled {
            number: self.number / divisor.number,
            exponent: self.exponent - divisor.exponent,
        }
    }

    pub(super) fn sqrt(self) -> Scaled {
        Scaled {
            number: self.number.sqrt(),
            exponent: self.exponent / 2,
        }
    }

    pub(super) fn times(self, other: Scaled) -> Scaled {
        Scaled {
            number: self.number * other.number,
            exponent: self.exponent + other.exponent,
        }
    }

    /// As a double; infinite or zero where it does not fit.
    pub(super) fn value(self) -> f64 {
        // 2^64 and 2^-64, exactly.
        const UP: f64 = 18_446_744_073_709_551_616.0;
        let mut value = self.number;
        let mut exponent = self.exponent;
        while exponent >= 32 && value.is_finite() && value != 0.0 {
            let step = exponent.min(64);
            value *= if step == 64 { UP } else { 4_294_967_296.0 };
            exponent -= if step == 64 { 64 } else { 32 };
        }
        while exponent <= -32 && value != 0.0 {
            let step = exponent.max(-64);
            value /= if step == -64 { UP } else { 4_294_967_296.0 };
            exponent += if step == -64 { 64 } else { 32 };
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variance(values: &[f64]) -> f64 {
        let (mut sum, mut squares) = (Exact::default(), Exact::default());
        for x in values {
            sum.add(*x);
            squares.add_product(*x, *x);
        }
        let count = values.len() as u64;
        let count_squared = (count * count) as f64;
        spread(count, &squares, &sum, &sum)
            .over(count_squared)
            .value()
    }

    #[test]
    fn nothing_is_rounded_away() {
        assert_eq!(variance(&[1.0, 2.0, 3.0, 4.0]), 1.25);
        assert_eq!(variance(&[-1.0, -2.0, -3.0, -4.0]), 1.25);
        assert_eq!(variance(&[0.1; 7]), 0.0);
        assert_eq!(variance(&[-0.0, 0.0]), 0.0);
        let far = 2f64.powi(50);
        assert_eq!(
            variance(&[far + 1.0, far + 2.0, far + 3.0, far + 4.0]),
            1.25
        );
        assert_eq!(variance(&[1e300, -1e300]), f64::INFINITY);
        let large = 2f64.powi(500);
        assert_eq!(variance(&[large, -large]), 2f64.powi(1000));
        let least = f64::from_bits(1);
        assert_eq!(variance(&[least * 1e100, -least * 1e100]), 0.0);
        let (mut sum, mut squares) = (Exact::default(), Exact::default());
        for x in [f64::MAX, least, -f64::MAX, 3.5, -least, 2.5] {
            sum.add(x);
            squares.add_product(x, x);
        }
        for x in [f64::MAX, -f64::MAX, least, -least] {
            sum.add(-x);
            squares.add_product(-x, x);
        }
        assert_eq!(spread(2, &squares, &sum, &sum).over(4.0).value(), 0.25);
        let saved: Vec<Value> = sum.save().chain(squares.save()).collect();
        let mut rest = saved.as_slice();
        let sum = Exact::load(&mut rest).unwrap();
        let squares = Exact::load(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!(spread(2, &squares, &sum, &sum).over(4.0).value(), 0.25);
    }

    #[test]
    fn a_deviation_may_fit_where_its_square_does_not() {
        let (mut sum, mut squares) = (Exact::default(), Exact::default());
        for x in [1e300, -1e300] {
            sum.add(x);
            squares.add_product(x, x);
        }
        let spread = spread(2, &squares, &sum, &sum).over(4.0);
        assert_eq!(spread.sqrt().value(), 1e300);
    }
}
