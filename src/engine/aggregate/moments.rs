//! Variance and standard deviation, and what two columns have to do with each other. The sums
//! behind them are exact, so that rows may leave in any order and leave nothing behind; only the
//! result is rounded.

use super::super::state::StateError;
use super::exact::{Exact, spread};
use super::over::Tally;
use super::{BAD_STATE, Saved, int_at, values_at};
use crate::event::Value;

/// Which measure of how far values lie from their mean.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    /// Of a sample: over one less than the count.
    sample: bool,
    /// The standard deviation.
    root: bool,
}

impl Spread {
    pub(super) fn new(sample: bool, root: bool) -> Spread {
        Spread { sample, root }
    }
}

/// The sums for the variance of one column.
#[derive(Default)]
pub(super) struct Moments {
    count: u64,
    sum: Exact,
    squares: Exact,
}

impl Tally for Moments {
    type Item = f64;
    type Settings = Spread;

    fn add(&mut self, x: f64, _: &Spread) {
        self.count += 1;
        self.sum.add(x);
        self.squares.add_product(x, x);
    }

    fn remove(&mut self, x: f64, _: &Spread) {
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            *self = Moments::default();
            return;
        }
        self.sum.add(-x);
        self.squares.add_product(-x, x);
    }

    fn result(&self, wanted: &Spread) -> Value {
        let less = u64::from(wanted.sample);
        if self.count <= less {
            return Value::Null;
        }
        let variance = spread(self.count, &self.squares, &self.sum, &self.sum);
        let variance = variance.over(float(self.count) * float(self.count - less));
        Value::finite(if wanted.root {
            variance.sqrt().value()
        } else {
            variance.value()
        })
    }

    fn save(&self) -> Saved<'_> {
        let sums = self.sum.save().chain(self.squares.save());
        Box::new(std::iter::once(count_value(self.count)).chain(sums))
    }

    fn load(state: &[Value]) -> Result<Moments, StateError> {
        let mut sums = values_at(state, 1..state.len())?;
        Ok(Moments {
            count: count_at(state)?,
            sum: Exact::load(&mut sums)?,
            squares: Exact::load(&mut sums)?,
        })
    }
}

/// What is wanted of the points of two columns.
#[derive(Clone, Copy)]
pub(super) enum Line {
    /// How near they are to a line.
    Correlation,
    /// How steep it is.
    Slope,
}

/// The sums for the covariance of two columns.
#[derive(Default)]
pub(super) struct Pairs {
    count: u64,
    y: Exact,
    x: Exact,
    yy: Exact,
    xx: Exact,
    xy: Exact,
}

impl Pairs {
    fn change(&mut self, (y, x): (f64, f64), sign: f64) {
        self.y.add(sign * y);
        self.x.add(sign * x);
        self.yy.add_product(sign * y, y);
        self.xx.add_product(sign * x, x);
        self.xy.add_product(sign * x, y);
    }
}

impl Tally for Pairs {
    type Item = (f64, f64);
    type Settings = Line;

    fn add(&mut self, pair: (f64, f64), _: &Line) {
        self.count += 1;
        self.change(pair, 1.0);
    }

    fn remove(&mut self, pair: (f64, f64), _: &Line) {
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            *self = Pairs::default();
        } else {
            self.change(pair, -1.0);
        }
    }

    fn result(&self, wanted: &Line) -> Value {
        let x = spread(self.count, &self.xx, &self.x, &self.x);
        if x.is_zero() {
            return Value::Null;
        }
        let both = spread(self.count, &self.xy, &self.x, &self.y);
        match wanted {
            Line::Slope => Value::finite(both.ratio(x).value()),
            Line::Correlation => {
                let y = spread(self.count, &self.yy, &self.y, &self.y);
                if y.is_zero() {
                    return Value::Null;
                }
                let correlation = both.ratio(x.times(y).sqrt()).value();
                Value::finite(correlation.clamp(-1.0, 1.0))
            }
        }
    }

    fn save(&self) -> Saved<'_> {
        let sums = [&self.y, &self.x, &self.yy, &self.xx, &self.xy];
        let sums = sums.into_iter().flat_map(Exact::save);
        Box::new(std::iter::once(count_value(self.count)).chain(sums))
    }

    fn load(state: &[Value]) -> Result<Pairs, StateError> {
        let mut sums = values_at(state, 1..state.len())?;
        Ok(Pairs {
            count: count_at(state)?,
            y: Exact::load(&mut sums)?,
            x: Exact::load(&mut sums)?,
            yy: Exact::load(&mut sums)?,
            xx: Exact::load(&mut sums)?,
            xy: Exact::load(&mut sums)?,
        })
    }
}

fn float(count: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of rows, far below 2^53"
    )]
    let count = count as f64;
    count
}

fn count_value(count: u64) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn count_at(state: &[Value]) -> Result<u64, StateError> {
    u64::try_from(int_at(state, 0)?).map_err(|_| BAD_STATE)
}
