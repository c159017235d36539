//! Columns by the names of the fields that fill them, for formats whose values are text.

use super::column::{Columns, Scalar};
use super::{MESSAGE_ROWS_MAX, Reason, Reject};
use crate::config::options::{OptionFault, Options};
use crate::event::{Batch, Schema, Value};

/// A field, and the columns that take it.
#[derive(Debug)]
struct Field {
    name: Box<str>,
    columns: Vec<usize>,
}

/// The fields that columns take, and the row while it is filled.
#[derive(Debug)]
pub(super) struct Fields {
    columns: Columns,
    all: Vec<Field>,
    /// Which columns of the row have a value.
    present: Vec<bool>,
    rejects_missing: bool,
    rejects_unknown: bool,
}

impl Fields {
    /// Nothing is filled yet: fields come by [`Fields::add`].
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub(super) fn new(
        format: &str,
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Fields, OptionFault> {
        let columns = Columns::new(format, options, schema, taken)?.converting_text();
        columns.check_family(options, &format!("{format}.mapping."))?;
        let set_to_reject =
            |name: &str| options.text(&format!("{format}.{name}")) == Some("reject");
        Ok(Fields {
            columns,
            all: Vec::new(),
            present: vec![false; schema.width()],
            rejects_missing: set_to_reject("missing"),
            rejects_unknown: set_to_reject("unknown"),
        })
    }

    /// The same, where each column takes the field of its name or the one that it is mapped to.
    pub(super) fn by_name(
        format: &str,
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Fields, OptionFault> {
        let mut fields = Fields::new(format, options, schema, taken)?;
        let own: Vec<(usize, String)> = fields
            .columns
            .own()
            .map(|(index, column)| {
                let mapped = options.text(&format!("{format}.mapping.{}", column.name));
                (index, mapped.unwrap_or(&column.name).to_owned())
            })
            .collect();
        for (column, name) in own {
            fields.add(&name, column);
        }
        Ok(fields)
    }

    /// Has `column` take the field called `name`; gives the field's number.
    pub(super) fn add(&mut self, name: &str, column: usize) -> usize {
        let known = self.all.iter_mut().position(|field| *field.name == *name);
        match known.and_then(|number| Some((number, self.all.get_mut(number)?))) {
            Some((number, field)) => {
                field.columns.push(column);
                number
            }
            None => {
                self.all.push(Field {
                    name: name.into(),
                    columns: vec![column],
                });
                self.all.len() - 1
            }
        }
    }

    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The number of a field that some column takes, looked for from `hint` on.
    pub(super) fn find(&self, name: &str, hint: usize) -> Option<usize> {
        let is_it = |field: &Field| *field.name == *name;
        match self.all.get(hint) {
            Some(field) if is_it(field) => Some(hint),
            Some(_) | None => self.all.iter().position(is_it),
        }
    }

    /// Begins a row; `before` is how many rows there were before the message.
    pub(super) fn begin<'b>(
        &mut self,
        before: usize,
        into: &'b mut Batch,
    ) -> Result<&'b mut [Value], Reject> {
        if into.len() - before >= MESSAGE_ROWS_MAX {
            return Err(super::too_many_rows());
        }
        self.present.fill(false);
        Ok(into.push_null())
    }

    /// Puts a value into the columns that take the field of this number.
    pub(super) fn store(
        &mut self,
        number: usize,
        scalar: Scalar<'_>,
        row: &mut [Value],
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        let Some(field) = self.all.get(number) else {
            return Ok(());
        };
        for column in &field.columns {
            self.columns.store(*column, scalar, row, ignored)?;
            if let Some(present) = self.present.get_mut(*column) {
                *present = true;
            }
        }
        Ok(())
    }

    /// There is a field that no column takes: a reject where that is not wanted.
    pub(super) fn unknown(&self, name: impl FnOnce() -> String) -> Result<(), Reject> {
        if !self.rejects_unknown {
            return Ok(());
        }
        let name = name();
        let detail = format!(
            "no column takes the field `{}`",
            super::text::excerpt(&name)
        );
        Err(Reject::new(Reason::UnknownField, detail))
    }

    /// Ends the row: a reject when a column has no value and must have one.
    pub(super) fn end(&self) -> Result<(), Reject> {
        if !self.rejects_missing {
            return Ok(());
        }
        let mut own = self.columns.own();
        let missing = own.find(|(index, _)| self.present.get(*index) == Some(&false));
        match missing {
            Some((_, column)) => {
                let detail = format!("no value for column `{}`", column.name);
                Err(Reject::new(Reason::MissingField, detail))
            }
            None => Ok(()),
        }
    }
}
