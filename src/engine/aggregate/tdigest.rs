//! Percentiles of any number of values in bounded memory: a merging t-digest (T. Dunning, O. Ertl,
//! "Computing extremely accurate quantiles using t-digests", 2019).
//!
//! Values are kept as centroids, a mean and how many values it stands for: few where many values
//! may be one without harm (in the middle), single values at the ends. How many is bounded by the
//! slope of the paper's scale function k1, which takes a square root and no arcsine, so that every
//! machine computes the same. A value cannot be taken out again.

use super::super::state::StateError;
use super::over::Tally;
use super::percentile::{Share, between, place};
use super::{BAD_STATE, Saved, float_at, int_at, values_at};
use crate::event::Value;

/// What a centroid in the middle may stand for: 2π/δ of half the values, with δ = 200.
const WIDTH: f64 = 0.031_415_926_535_897_93;

/// So many values are kept as they are before they are merged.
const WAITING_MAX: usize = 128;

#[derive(Clone, Copy)]
struct Centroid {
    mean: f64,
    weight: f64,
}

impl Centroid {
    fn one(x: f64) -> Centroid {
        Centroid {
            mean: x,
            weight: 1.0,
        }
    }

    fn and(self, other: Centroid) -> Centroid {
        let weight = self.weight + other.weight;
        Centroid {
            mean: between(self.mean, other.mean, other.weight / weight),
            weight,
        }
    }
}

/// The values of one group.
#[derive(Default)]
pub(super) struct Digest {
    /// Ascending.
    centroids: Vec<Centroid>,
    /// Ascending, not merged yet.
    waiting: Vec<f64>,
    /// What the centroids stand for.
    merged: u64,
}

impl Digest {
    /// Centroids and waiting values, ascending.
    fn all(&self) -> impl Iterator<Item = Centroid> {
        let mut centroids = self.centroids.iter().copied().peekable();
        let mut waiting = self.waiting.iter().copied().peekable();
        std::iter::from_fn(move || match (centroids.peek(), waiting.peek()) {
            (Some(centroid), Some(x)) if centroid.mean <= *x => centroids.next(),
            (_, Some(_)) => waiting.next().map(Centroid::one),
            (_, None) => centroids.next(),
        })
    }

    fn values(&self) -> u64 {
        self.merged + self.waiting.len() as u64
    }

    fn merge(&mut self) {
        let values = self.values();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of values, far below 2^53"
        )]
        let total = values as f64;
        let most = |before: f64| {
            let part = before / total;
            total * WIDTH * (part * (1.0 - part)).max(0.0).sqrt()
        };
        let mut merged: Vec<Centroid> = Vec::with_capacity(self.centroids.len() + 16);
        // What the centroids before the last one stand for.
        let mut before = 0.0;
        for next in self.all() {
            let Some(last) = merged.last_mut() else {
                merged.push(next);
                continue;
            };
            let both = last.and(next);
            if both.weight <= most(before).min(most(before + both.weight)) {
                *last = both;
            } else {
                before += last.weight;
                merged.push(next);
            }
        }
        self.centroids = merged;
        self.waiting.clear();
        self.merged = values;
    }

    /// The value at a place, between the centroids around it. A centroid lies in the middle of
    /// the places that it stands for; the first and the last are single values.
    fn at(&self, wanted: f64) -> Option<f64> {
        let mut before = 0.0;
        let mut last: Option<(f64, f64)> = None;
        for centroid in self.all() {
            let middle = before + (centroid.weight - 1.0) / 2.0;
            if middle >= wanted {
                return Some(match last {
                    Some((place, mean)) if middle > wanted => {
                        between(mean, centroid.mean, (wanted - place) / (middle - place))
                    }
                    Some(_) | None => centroid.mean,
                });
            }
            last = Some((middle, centroid.mean));
            before += centroid.weight;
        }
        last.map(|(_, mean)| mean)
    }
}

impl Tally for Digest {
    type Item = f64;
    type Settings = Share;

    fn add(&mut self, x: f64, _: &Share) {
        let place = self.waiting.partition_point(|known| *known <= x);
        self.waiting.insert(place, x);
        // Not before there is one too many: up to so many, the result is exact.
        if self.waiting.len() > WAITING_MAX {
            self.merge();
        }
    }

    /// Used where rows never leave.
    fn remove(&mut self, _: f64, _: &Share) {}

    fn result(&self, share: &Share) -> Value {
        let value = self.at(place(share.part, self.values()));
        value.map_or(Value::Null, Value::finite)
    }

    /// What the centroids stand for, how many these are, means and weights by turns, then the
    /// waiting values.
    fn save(&self) -> Saved<'_> {
        let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let head = [int(self.merged), int(self.centroids.len() as u64)];
        let centroids = self.centroids.iter();
        let centroids = centroids.flat_map(|centroid| [centroid.mean, centroid.weight]);
        let floats = centroids.chain(self.waiting.iter().copied());
        Box::new(head.into_iter().chain(floats.map(Value::Float)))
    }

    fn load(state: &[Value]) -> Result<Digest, StateError> {
        let count = usize::try_from(int_at(state, 1)?).map_err(|_| BAD_STATE)?;
        let end = count.checked_mul(2).and_then(|count| count.checked_add(2));
        let end = end.ok_or(BAD_STATE)?;
        let centroids = values_at(state, 2..end)?.chunks(2).map(|pair| {
            Ok(Centroid {
                mean: float_at(pair, 0)?,
                weight: float_at(pair, 1)?,
            })
        });
        let waiting = values_at(state, end..state.len())?.iter();
        Ok(Digest {
            centroids: centroids.collect::<Result<_, StateError>>()?,
            waiting: waiting
                .map(|value| value.as_float().ok_or(BAD_STATE))
                .collect::<Result<_, _>>()?,
            merged: u64::try_from(int_at(state, 0)?).map_err(|_| BAD_STATE)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::percentile::Limit;
    use super::*;

    /// How far, in parts of all ranks, the digest's percentile lies from the wanted rank.
    fn rank_errors(values: &[f64]) -> Vec<(f64, f64)> {
        let mut digest = Digest::default();
        let share = |part| Share {
            part,
            limit: Limit::None,
        };
        for x in values {
            digest.add(*x, &share(0.5));
        }
        assert!(digest.centroids.len() < 250, "{}", digest.centroids.len());
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let error = |part: f64| {
            let x = digest.result(&share(part)).as_float().unwrap();
            let below = sorted.partition_point(|value| *value < x) as f64;
            let up_to = sorted.partition_point(|value| *value <= x) as f64;
            let wanted = part * sorted.len() as f64;
            (below - wanted).max(wanted - up_to).max(0.0) / sorted.len() as f64
        };
        [
            0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0,
        ]
        .map(|part| (part, error(part)))
        .to_vec()
    }

    #[test]
    fn ranks_are_near_and_nearer_at_the_ends() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let uniform: Vec<f64> = (0..200_000).map(|_| random()).collect();
        let heavy: Vec<f64> = (0..200_000).map(|_| 1.0 / (random() + 1e-9)).collect();
        let rising: Vec<f64> = (0..200_000).map(f64::from).collect();
        let falling: Vec<f64> = rising.iter().rev().copied().collect();
        let few: Vec<f64> = (0..200_000).map(|_| (random() * 7.0).floor()).collect();
        for values in [uniform, heavy, rising, falling, few] {
            for (part, error) in rank_errors(&values) {
                let most = 0.01 * (4.0_f64 * part * (1.0 - part)).sqrt() + 2e-4;
                assert!(error <= most, "{part}: {error}");
            }
        }
    }

    #[test]
    fn equal_values_stay_what_they_are() {
        let mut digest = Digest::default();
        let share = Share {
            part: 0.3,
            limit: Limit::None,
        };
        for _ in 0..10_000 {
            digest.add(0.1, &share);
        }
        assert_eq!(digest.result(&share), Value::Float(0.1));
    }
}
