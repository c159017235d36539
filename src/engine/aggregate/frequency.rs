//! How often values occur: `mode` and `top_k`, exact, in O(log n) per row.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::super::state::StateError;
use super::collect::Json;
use super::ordered::Key;
use super::over::Tally;
use super::{BAD_STATE, Saved, int_at};
use crate::event::Value;

/// What is given of the values.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// The most frequent one.
    Mode,
    /// So many of the most frequent ones, with their counts.
    Top(usize, Json),
}

/// Values with their counts, and in the order of these: most frequent first, then smallest.
#[derive(Default)]
pub(super) struct Frequencies {
    counts: HashMap<Value, i64, FixedState>,
    ranks: BTreeSet<(Reverse<i64>, Key)>,
}

impl Frequencies {
    fn change(&mut self, value: Value, step: i64) {
        let before = self.counts.get(&value).copied().unwrap_or(0);
        let count = before + step;
        let mut rank = (Reverse(before), Key(value.clone()));
        self.ranks.remove(&rank);
        if count > 0 {
            rank.0 = Reverse(count);
            self.ranks.insert(rank);
            self.counts.insert(value, count);
        } else {
            self.counts.remove(&value);
        }
    }
}

impl Tally for Frequencies {
    type Item = Value;
    type Settings = Wanted;

    fn add(&mut self, value: Value, _: &Wanted) {
        self.change(value, 1);
    }

    fn remove(&mut self, value: Value, _: &Wanted) {
        self.change(value, -1);
    }

    fn result(&self, wanted: &Wanted) -> Value {
        let Some((_, most)) = self.ranks.first() else {
            return Value::Null;
        };
        match wanted {
            Wanted::Mode => most.0.clone(),
            Wanted::Top(count, json) => {
                let ranks = self.ranks.iter().take(*count);
                json.array(ranks, |json, (Reverse(count), key), out| {
                    // Names in order, as JSON lies in a row.
                    out.push_str("{\"count\":");
                    out.push_str(&count.to_string());
                    out.push_str(",\"value\":");
                    json.write(&key.0, out);
                    out.push('}');
                })
            }
        }
    }

    /// Values and counts by turns.
    fn save(&self) -> Saved<'_> {
        let ranks = self.ranks.iter();
        Box::new(ranks.flat_map(|(Reverse(count), key)| [key.0.clone(), Value::Int(*count)]))
    }

    fn load(state: &[Value]) -> Result<Frequencies, StateError> {
        let mut frequencies = Frequencies::default();
        for pair in state.chunks(2) {
            let value = pair.first().ok_or(BAD_STATE)?.clone();
            frequencies.change(value, int_at(pair, 1)?);
        }
        Ok(frequencies)
    }
}
