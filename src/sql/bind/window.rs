//! Windows: their arguments are bound over the stream's row.

use sqlparser::ast::{BinaryOperator, Expr as Written, Value as Literal};

use super::super::ast::{WindowArgument, WindowCall, WindowValue};
use super::super::cron::Cron;
use super::super::parse::expression;
use super::super::plan::{Condition, Expr, ExprKind, SortKey, UniqueBound, Window};
use super::super::windows::{ABSENT, WINDOWS, WindowKind, WindowSpec, window_named};
use super::super::zone::Zone;
use super::Binder;
use super::expr::{Failed, Progress, Scope, place};
use super::names::Named;
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::{Schema, format_duration_ms};

const DAY_MS: i64 = 86_400_000;

impl Binder<'_> {
    /// The window that a call means, over the rows of a stream with these names.
    pub(super) fn window(
        &mut self,
        path: &str,
        call: &WindowCall,
        names: [Option<&str>; 2],
        schema: &Schema,
    ) -> Result<Window, Failed> {
        let kind = &call.kind;
        let Some(spec) = window_named(&kind.text) else {
            return self.unknown_window(path, call);
        };
        let progress = Progress::default();
        let row = Named {
            names,
            schema,
            first: 0,
            what: "stream",
            alone: true,
        };
        let newest = Named {
            names: [Some("last"), None],
            what: "row",
            alone: false,
            ..row
        };
        let oldest = Named {
            names: [Some("first"), None],
            first: schema.width(),
            ..newest
        };
        let mut scope = Scope {
            path,
            sources: &[row, newest, oldest],
            aliases: &[],
            aliases_first: false,
            aggregates: Err("in this argument of a window"),
            analytics: Err("in a window"),
            draws: Err("in an argument of a window"),
            elements: None,
            place: kind.place,
            tables: &self.application.tables,
            progress: &progress,
            diagnostics: self.diagnostics,
        };
        let mut arguments = Arguments::new(&mut scope, spec, kind.place, &call.arguments);
        let window = arguments.window()?;
        arguments.none_left()?;
        Ok(window)
    }

    fn unknown_window(&mut self, path: &str, call: &WindowCall) -> Result<Window, Failed> {
        let kind = &call.kind;
        if ABSENT
            .iter()
            .any(|name| name.eq_ignore_ascii_case(&kind.text))
        {
            let message = format!("WINDOW '{}' is not supported by this version", kind.text);
            return self.refuse(path, kind.place, message);
        }
        let known = WINDOWS.iter().flat_map(|spec| spec.names).copied();
        let message = format!("unknown window '{}'", kind.text);
        let fault = Diagnostic::error(path, kind.place, message);
        self.diagnostics
            .push(fault.with_hint_if(did_you_mean(&kind.text, known)));
        Err(Failed)
    }
}

/// The arguments of one call, taken one after another.
struct Arguments<'a, 'b, 's> {
    scope: &'a mut Scope<'s>,
    spec: &'static WindowSpec,
    place: Place,
    left: std::slice::Iter<'b, WindowArgument>,
    /// `'timezone' = '…'` and the like: name, value and their places.
    options: Vec<(&'b str, Place, &'b str, Place)>,
    /// An argument behind the options.
    late: Option<Place>,
    /// How many columns the stream has.
    width: usize,
}

impl<'a, 'b, 's> Arguments<'a, 'b, 's> {
    fn new(
        scope: &'a mut Scope<'s>,
        spec: &'static WindowSpec,
        place: Place,
        given: &'b [WindowArgument],
    ) -> Arguments<'a, 'b, 's> {
        let first = given.iter().position(|one| option(one).is_some());
        let (given, options) = given.split_at(first.unwrap_or(given.len()));
        let (mut named, mut late) = (Vec::new(), None);
        for argument in options {
            match option(argument) {
                Some(option) => named.push(option),
                None => late = Some(argument.place),
            }
        }
        let width = scope.sources.first().map_or(0, |row| row.schema.width());
        Arguments {
            scope,
            spec,
            place,
            left: given.iter(),
            options: named,
            late,
            width,
        }
    }

    fn window(&mut self) -> Result<Window, Failed> {
        Ok(match self.spec.kind {
            WindowKind::Length => Window::Length { rows: self.rows()? },
            WindowKind::Time => Window::Time {
                span_ms: self.span_ms()?,
            },
            WindowKind::TimeLength => Window::TimeLength {
                span_ms: self.span_ms()?,
                rows: self.rows()?,
            },
            WindowKind::ExternalTime => Window::ExternalTime {
                time: Box::new(self.time()?),
                span_ms: self.span_ms()?,
            },
            WindowKind::Delay => Window::Delay {
                span_ms: self.span_ms()?,
            },
            WindowKind::Sort => Window::Sort {
                rows: self.rows()?,
                keys: self.sort_keys()?,
            },
            WindowKind::Unique
            | WindowKind::FirstUnique
            | WindowKind::UniqueLength
            | WindowKind::FirstUniqueLength
            | WindowKind::UniqueTime
            | WindowKind::FirstUniqueTime => self.unique()?,
            WindowKind::Frequent => Window::Frequent {
                counters: self.rows()?,
                keys: self.keys_or_all()?,
            },
            WindowKind::LossyFrequent => self.lossy_frequent()?,
            WindowKind::Expression => Window::Expression {
                condition: Box::new(self.condition()?),
            },
            WindowKind::LengthBatch => Window::LengthBatch { rows: self.rows()? },
            WindowKind::TimeBatch => Window::TimeBatch {
                span_ms: self.span_ms()?,
                start: self.optional_ms()?,
            },
            WindowKind::Tumbling => self.tumbling()?,
            WindowKind::Hop => self.hop()?,
            WindowKind::ExternalTimeBatch => Window::ExternalTimeBatch {
                time: Box::new(self.time()?),
                span_ms: self.span_ms()?,
                start: self.optional_ms()?,
                timeout_ms: self.optional_span_ms()?,
            },
            WindowKind::Session => self.session()?,
            WindowKind::Cron => Window::Cron {
                cron: Box::new(self.cron()?),
                zone: self.zone()?.unwrap_or(Zone::UTC),
            },
            WindowKind::ExpressionBatch => Window::ExpressionBatch {
                condition: Box::new(self.condition()?),
            },
            WindowKind::State => Window::State {
                begin: self.begin()?,
                emit: Box::new(self.condition()?),
            },
            WindowKind::Batch => Window::Batch,
        })
    }

    fn none_left(&mut self) -> Result<(), Failed> {
        let name = self.name();
        if let Some(place) = self.late {
            return self.scope.fail(place, "options stand behind all arguments");
        }
        if let Some(extra) = self.left.next() {
            let message = match self.spec.arguments {
                "" => format!("WINDOW '{name}' takes no arguments"),
                arguments => format!("WINDOW '{name}' takes {arguments}"),
            };
            return self.scope.fail(extra.place, message);
        }
        if let Some((option, place, ..)) = self.options.first().copied() {
            let message = format!("WINDOW '{name}' has no option '{option}'");
            let hint = did_you_mean(option, ["timezone"])
                .filter(|_| self.spec.arguments.contains("timezone"));
            return self.scope.fail_with(place, message, hint);
        }
        Ok(())
    }

    fn unique(&mut self) -> Result<Window, Failed> {
        let bounded = match self.spec.kind {
            WindowKind::UniqueLength | WindowKind::FirstUniqueLength => Some(true),
            WindowKind::UniqueTime | WindowKind::FirstUniqueTime => Some(false),
            _ => None,
        };
        let behind = usize::from(bounded.is_some());
        let mut keys = Vec::new();
        while keys.is_empty() || self.left.len() > behind {
            keys.push(self.key()?);
        }
        Ok(Window::Unique {
            keys,
            first: matches!(
                self.spec.kind,
                WindowKind::FirstUnique
                    | WindowKind::FirstUniqueLength
                    | WindowKind::FirstUniqueTime
            ),
            bound: match bounded {
                None => UniqueBound::None,
                Some(true) => UniqueBound::Rows(self.rows()?),
                Some(false) => UniqueBound::Span(self.span_ms()?),
            },
        })
    }

    fn lossy_frequent(&mut self) -> Result<Window, Failed> {
        let at = self
            .left
            .as_slice()
            .get(1)
            .map_or(self.place, |one| one.place);
        let support = self.fraction()?;
        let error = self.fraction()?;
        if error >= support {
            let message = "the error of 'lossyFrequent' must be smaller than the support";
            return self.scope.fail(at, message);
        }
        Ok(Window::LossyFrequent {
            support,
            error,
            keys: self.keys_or_all()?,
        })
    }

    fn tumbling(&mut self) -> Result<Window, Failed> {
        let span_ms = self.span_ms()?;
        let offset_ms = self.optional_ms()?.unwrap_or(0).rem_euclid(span_ms);
        let zone_place = self.options.first().map(|(_, place, ..)| *place);
        let zone = self.zone()?;
        if let (Some(at), true) = (zone_place, zone.is_some() && span_ms % DAY_MS != 0) {
            let message = "'timezone' is for spans of whole days";
            return self.scope.fail(at, message);
        }
        Ok(Window::Tumbling {
            span_ms,
            offset_ms,
            zone,
        })
    }

    fn hop(&mut self) -> Result<Window, Failed> {
        let (size_ms, hop_ms) = (self.span_ms()?, self.span_ms()?);
        if size_ms == hop_ms {
            return Ok(Window::Tumbling {
                span_ms: size_ms,
                offset_ms: 0,
                zone: None,
            });
        }
        Ok(Window::Hop { size_ms, hop_ms })
    }

    fn session(&mut self) -> Result<Window, Failed> {
        let gap_ms = self.span_ms()?;
        let next = self.left.as_slice().first().map(|one| &one.value);
        let key = match next {
            Some(WindowValue::Expr(_)) => Some(self.key()?),
            Some(WindowValue::Span(_) | WindowValue::Number(_)) | None => None,
        };
        Ok(Window::Session {
            gap_ms,
            key,
            latency_ms: self.optional_ms()?.unwrap_or(0),
        })
    }

    fn name(&self) -> &'static str {
        self.spec.names.first().copied().unwrap_or_default()
    }

    fn rows(&mut self) -> Result<u64, Failed> {
        match self.left.next() {
            Some(WindowArgument {
                value: WindowValue::Number(rows),
                ..
            }) if *rows > 0 => Ok(rows.unsigned_abs()),
            other => self.wrong(other, "a number of rows, at least 1"),
        }
    }

    fn span_ms(&mut self) -> Result<i64, Failed> {
        match self.left.next() {
            Some(WindowArgument {
                value: WindowValue::Span(span_ms) | WindowValue::Number(span_ms),
                ..
            }) if *span_ms > 0 => Ok(*span_ms),
            other => self.wrong(other, "a span of time such as 5 SECONDS, longer than 0"),
        }
    }

    fn optional_span_ms(&mut self) -> Result<Option<i64>, Failed> {
        if self.left.len() == 0 {
            return Ok(None);
        }
        self.span_ms().map(Some)
    }

    fn optional_ms(&mut self) -> Result<Option<i64>, Failed> {
        match self.left.next() {
            None => Ok(None),
            Some(WindowArgument {
                value: WindowValue::Span(span_ms) | WindowValue::Number(span_ms),
                ..
            }) => Ok(Some(*span_ms)),
            other => self.wrong(other, "a time in milliseconds"),
        }
    }

    /// A number above 0 and at most 1.
    fn fraction(&mut self) -> Result<f64, Failed> {
        let argument = self.left.next();
        let number = match argument.map(|one| &one.value) {
            Some(WindowValue::Number(1)) => Some(1.0),
            Some(WindowValue::Expr(written)) => match &**written {
                Written::Value(value) => match &value.value {
                    Literal::Number(digits, false) => digits.parse::<f64>().ok(),
                    _ => None,
                },
                _ => None,
            },
            Some(WindowValue::Number(_) | WindowValue::Span(_)) | None => None,
        };
        match number.filter(|number| *number > 0.0 && *number <= 1.0) {
            Some(number) => Ok(number),
            None => self.wrong(argument, "a fraction such as 0.1, above 0 and at most 1"),
        }
    }

    /// An expression over the row.
    fn expr(&mut self, wanted: &str) -> Result<(Expr, Place), Failed> {
        let argument = self.left.next();
        let Some(WindowArgument {
            value: WindowValue::Expr(written),
            place,
        }) = argument
        else {
            return self.wrong(argument, wanted);
        };
        let expr = self.scope.bind(written)?;
        if let ExprKind::Literal(_) = expr.kind {
            return self.wrong(argument, wanted);
        }
        self.only_the_row(&expr, *place)?;
        Ok((expr, *place))
    }

    /// There is no oldest row where rows are looked at one by one.
    fn only_the_row(&mut self, expr: &Expr, place: Place) -> Result<(), Failed> {
        let mut first = false;
        let width = self.width;
        expr.clone()
            .for_each_column(&mut |column| first |= *column >= width);
        if first {
            let message = "'first.' is for the condition of a window, outside aggregates";
            return self.scope.fail(place, message);
        }
        Ok(())
    }

    fn key(&mut self) -> Result<Expr, Failed> {
        Ok(self.expr("a column or an expression as key")?.0)
    }

    /// The keys that are left, or else every column.
    fn keys_or_all(&mut self) -> Result<Vec<Expr>, Failed> {
        if self.left.len() == 0 {
            let row = self.scope.sources.first();
            let fields = row.map(|row| row.schema.fields()).unwrap_or_default();
            let columns = fields.iter().enumerate();
            let column = |(index, field): (usize, &crate::event::Field)| Expr {
                kind: ExprKind::Column(index),
                ty: field.ty,
            };
            return Ok(columns.map(column).collect());
        }
        let mut keys = Vec::new();
        while self.left.len() > 0 {
            keys.push(self.key()?);
        }
        Ok(keys)
    }

    fn sort_keys(&mut self) -> Result<Vec<SortKey>, Failed> {
        let mut keys = Vec::new();
        while keys.is_empty() || self.left.len() > 0 {
            let (expr, _) = self.expr("a column or an expression to sort by")?;
            let descending = match self.left.as_slice().first().and_then(text) {
                None => false,
                Some((word, place)) => {
                    self.left.next();
                    if !word.eq_ignore_ascii_case("asc") && !word.eq_ignore_ascii_case("desc") {
                        let message = format!("'{word}' is neither 'asc' nor 'desc'");
                        let hint = did_you_mean(word, ["asc", "desc"]);
                        return self.scope.fail_with(place, message, hint);
                    }
                    word.eq_ignore_ascii_case("desc")
                }
            };
            keys.push(SortKey {
                expr,
                descending,
                // As in ORDER BY: NULL counts as larger than everything.
                nulls_first: descending,
            });
        }
        Ok(keys)
    }

    /// A time of the row's own.
    fn time(&mut self) -> Result<Expr, Failed> {
        let (expr, place) = self.expr("a column with the time in milliseconds")?;
        if expr.ty.is_integral() {
            return Ok(expr);
        }
        let name = self.name();
        let message = format!(
            "WINDOW '{name}' takes a BIGINT or TIMESTAMP here, this is {}",
            expr.ty
        );
        self.scope.fail(place, message)
    }

    fn cron(&mut self) -> Result<Cron, Failed> {
        let argument = self.left.next();
        let Some((words, place)) = argument.and_then(text) else {
            return self.wrong(argument, "a cron expression such as '0 0 2 * * *'");
        };
        Cron::parse(words).or_else(|fault| self.scope.fail(place, fault))
    }

    /// `'timezone' = '…'`.
    fn zone(&mut self) -> Result<Option<Zone>, Failed> {
        let is_zone = |name: &str| name.eq_ignore_ascii_case("timezone");
        let Some(index) = self.options.iter().position(|(name, ..)| is_zone(name)) else {
            return Ok(None);
        };
        let (_, _, name, place) = self.options.remove(index);
        match Zone::named(name) {
            Some(zone) => Ok(Some(zone)),
            None => {
                let names = Zone::names();
                let hint = did_you_mean(name, names.iter().map(String::as_str));
                let message = format!("unknown time zone '{name}'");
                self.scope.fail_with(place, message, hint)
            }
        }
    }

    /// A condition as it is written: by itself, or in a string.
    fn written(&mut self) -> Result<(Written, Place), Failed> {
        let argument = self.left.next();
        let Some(WindowArgument {
            value: WindowValue::Expr(written),
            place,
        }) = argument
        else {
            return self.wrong(argument, "a condition such as 'count() <= 20'");
        };
        let Some((words, place)) = argument.and_then(text) else {
            return Ok(((**written).clone(), *place));
        };
        match expression(self.scope.path, words, place) {
            Ok(written) => Ok((written, place)),
            Err(fault) => {
                self.scope.diagnostics.push(fault);
                Err(Failed)
            }
        }
    }

    /// A condition over the row.
    fn begin(&mut self) -> Result<Expr, Failed> {
        let (written, place) = self.written()?;
        let expr = self
            .scope
            .condition(&written, "the condition of a window")?;
        self.only_the_row(&expr, place)?;
        Ok(expr)
    }

    /// A condition over the rows of the window.
    fn condition(&mut self) -> Result<Condition, Failed> {
        let (written, at) = self.written()?;
        let mut aggregates = Vec::new();
        let mut inner = Scope {
            aggregates: Ok(&mut aggregates),
            ..self.scope.copy()
        };
        let mut holds = inner.condition(&written, "the condition of a window")?;
        let arguments = aggregates.iter().flat_map(|one| one.exprs());
        for argument in arguments {
            self.only_the_row(argument, place(&written))?;
        }
        let _ = at;
        let (mut first, mut last) = (Vec::new(), Vec::new());
        holds.for_each_column(&mut |column| match column.checked_sub(self.width) {
            Some(column) => first.push(column),
            None => last.push(*column),
        });
        for columns in [&mut first, &mut last] {
            columns.sort_unstable();
            columns.dedup();
        }
        let before = aggregates.len();
        holds.for_each_column(&mut |column| {
            let index = match column.checked_sub(self.width) {
                Some(column) => first.binary_search(&column),
                None => last.binary_search(column).map(|index| first.len() + index),
            };
            *column = before + index.unwrap_or_default();
        });
        results(&mut holds);
        Ok(Condition {
            aggregates,
            first,
            last,
            holds,
        })
    }

    fn wrong<T>(&mut self, argument: Option<&WindowArgument>, wanted: &str) -> Result<T, Failed> {
        let name = self.name();
        let place = argument.map_or(self.place, |argument| argument.place);
        let found = match argument.map(|argument| &argument.value) {
            None => "nothing".to_owned(),
            Some(WindowValue::Span(span_ms)) => format_duration_ms(*span_ms),
            Some(WindowValue::Number(number)) => number.to_string(),
            Some(WindowValue::Expr(written)) => written.to_string(),
        };
        let message = format!("WINDOW '{name}' takes {wanted}; found {found}");
        self.scope.fail_with(place, message, Some(self.spec.call()))
    }
}

/// The results of aggregates stand first in the row that a condition sees.
fn results(expr: &mut Expr) {
    if let ExprKind::Aggregate(index) = expr.kind {
        expr.kind = ExprKind::Column(index);
    }
    expr.operands_mut().into_iter().for_each(results);
}

/// The text of an argument that is a string.
fn text(argument: &WindowArgument) -> Option<(&str, Place)> {
    match &argument.value {
        WindowValue::Expr(written) => string(written).map(|text| (text, argument.place)),
        WindowValue::Span(_) | WindowValue::Number(_) => None,
    }
}

fn string(written: &Written) -> Option<&str> {
    match written {
        Written::Value(value) => match &value.value {
            Literal::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// An argument of the form `'name' = 'value'`.
fn option(argument: &WindowArgument) -> Option<(&str, Place, &str, Place)> {
    let WindowValue::Expr(written) = &argument.value else {
        return None;
    };
    match &**written {
        Written::BinaryOp {
            left,
            op: BinaryOperator::Eq,
            right,
        } => Some((string(left)?, place(left), string(right)?, place(right))),
        _ => None,
    }
}
