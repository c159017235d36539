//! Aggregates that give their values themselves: `collect_set`, `collect_list`, `string_agg`.
//!
//! Keeping the values is O(1) or O(log n) per row; writing them down is as long as what is
//! written, for each row that comes out.

use ecow::EcoString;

use super::super::state::StateError;
use super::ordered::{Lined, Sizes};
use super::over::{Entered, Tally};
use super::{BAD_STATE, Saved, values_at};
use crate::event::{Type, Value};
use crate::sql::functions::{in_json, to_text};

/// A longer text is NULL.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// How values are written as JSON.
#[derive(Clone, Copy)]
pub(super) struct Json {
    /// Whether they are JSON already.
    pub(super) raw: bool,
}

impl Json {
    /// A compact array of items, each written by `write`; NULL when it is too long.
    pub(super) fn array<T>(
        self,
        items: impl Iterator<Item = T>,
        write: impl Fn(Json, T, &mut String),
    ) -> Value {
        let mut out = "[".to_owned();
        for item in items {
            if out.len() > 1 {
                out.push(',');
            }
            write(self, item, &mut out);
            if out.len() >= TEXT_BYTES_MAX {
                return Value::Null;
            }
        }
        out.push(']');
        Value::from(out)
    }

    pub(super) fn write(self, value: &Value, out: &mut String) {
        let ty = if self.raw { Type::Json } else { Type::String };
        out.push_str(&in_json(value, ty).unwrap_or_else(|| "null".into()));
    }
}

/// How values are put together.
#[derive(Clone)]
pub(super) enum Form {
    /// An array.
    Json(Json),
    /// Their texts, with this between them.
    Joined(EcoString),
}

impl Form {
    fn of<'a>(&self, values: impl Iterator<Item = &'a Value>) -> Value {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return Value::Null;
        }
        let separator = match self {
            Form::Json(json) => {
                return json.array(values, |json, value, out| json.write(value, out));
            }
            Form::Joined(separator) => separator,
        };
        let mut out = String::new();
        let mut first = true;
        for value in values {
            if !std::mem::take(&mut first) {
                out.push_str(separator);
            }
            out.push_str(&to_text(value).unwrap_or_default());
            if out.len() > TEXT_BYTES_MAX {
                return Value::Null;
            }
        }
        Value::from(out)
    }

    /// The least that a value takes in the text.
    fn bytes(&self, value: &Value) -> usize {
        let text = value.as_str().map_or(1, str::len);
        match self {
            Form::Json(_) => text + 1,
            Form::Joined(separator) => text + separator.len(),
        }
    }
}

/// The different values, ascending.
#[derive(Default)]
pub(super) struct Set {
    sizes: Sizes,
}

impl Tally for Set {
    type Item = Value;
    type Settings = Form;

    fn add(&mut self, value: Value, _: &Form) {
        self.sizes.add(value);
    }

    fn remove(&mut self, value: Value, _: &Form) {
        self.sizes.remove(value);
    }

    fn result(&self, form: &Form) -> Value {
        form.of(self.sizes.values())
    }

    fn save(&self) -> Saved<'_> {
        self.sizes.save()
    }

    fn load(state: &[Value]) -> Result<Set, StateError> {
        let sizes = Sizes::load(state)?;
        Ok(Set { sizes })
    }
}

/// The values in the order of their rows.
#[derive(Default)]
pub(super) struct List<L> {
    values: L,
}

impl<L: Lined> Tally for List<L> {
    type Item = Entered;
    type Settings = Form;

    fn add(&mut self, entered: Entered, _: &Form) {
        self.values.push(entered);
    }

    fn remove(&mut self, entered: Entered, _: &Form) {
        self.values.take(&entered);
    }

    fn result(&self, form: &Form) -> Value {
        form.of(self.values.values())
    }

    fn save(&self) -> Saved<'_> {
        self.values.save()
    }

    fn load(state: &[Value]) -> Result<List<L>, StateError> {
        let values = L::load(state)?;
        Ok(List { values })
    }
}

/// Where rows never leave: a text that has become too long stays so, and its values are let go.
#[derive(Default)]
pub(super) struct Bounded<T> {
    tally: T,
    /// Of the values since the text was looked at last.
    bytes: usize,
    full: bool,
}

/// What a bounded tally takes.
pub(super) trait Measured {
    fn value(&self) -> &Value;
}

impl Measured for Value {
    fn value(&self) -> &Value {
        self
    }
}

impl Measured for Entered {
    fn value(&self) -> &Value {
        &self.value
    }
}

/// The text is looked at when what has come since the last look would fill it, so that a look,
/// which costs its length, is rare; until then at most two such texts are kept.
impl<T: Tally<Settings = Form>> Tally for Bounded<T>
where
    T::Item: Measured,
{
    type Item = T::Item;
    type Settings = Form;

    fn add(&mut self, item: T::Item, form: &Form) {
        if self.full {
            return;
        }
        self.bytes += form.bytes(item.value());
        self.tally.add(item, form);
        if self.bytes > TEXT_BYTES_MAX {
            self.bytes = 0;
            if self.tally.result(form).is_null() {
                self.tally = T::default();
                self.full = true;
            }
        }
    }

    fn remove(&mut self, _: T::Item, _: &Form) {}

    fn result(&self, form: &Form) -> Value {
        self.tally.result(form)
    }

    fn save(&self) -> Saved<'_> {
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        let head = [Value::Bool(self.full), Value::Int(bytes)];
        Box::new(head.into_iter().chain(self.tally.save()))
    }

    fn load(state: &[Value]) -> Result<Bounded<T>, StateError> {
        let full = state.first().and_then(Value::as_bool).ok_or(BAD_STATE)?;
        let bytes = super::int_at(state, 1)?;
        Ok(Bounded {
            tally: T::load(values_at(state, 2..state.len())?)?,
            bytes: usize::try_from(bytes).map_err(|_| BAD_STATE)?,
            full,
        })
    }
}
