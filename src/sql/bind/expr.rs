//! Expressions: names are looked up, types are found and checked, operands widened.

use std::cell::Cell;

use sqlparser::ast::{
    self, BinaryOperator, Expr as Written, Spanned, UnaryOperator, Value as WrittenValue,
    ValueWithSpan,
};

use super::super::parse::place_of;
use super::super::plan::{Aggregate, ArithmeticOp, CompareOp, Expr, ExprKind, Table, TableId};
use super::super::types;
use super::analytic::List;
use super::call;
use super::fold::fold;
use super::names::Named;
use super::pattern::Seen;
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::{Type, Value};

/// A binding that failed has reported why.
pub(super) struct Failed;

/// Either an expression or word that it has been reported why there is none.
pub(super) type Bound = Result<Expr, Failed>;

/// What an expression may refer to, and what is found while it is bound.
pub(super) struct Scope<'a> {
    pub(super) path: &'a str,
    pub(super) sources: &'a [Named<'a>],
    /// Select items by alias: what HAVING and ORDER BY may name besides columns.
    pub(super) aliases: &'a [(String, Expr)],
    /// Whether an alias hides a column of the same name (ORDER BY) or not (HAVING).
    pub(super) aliases_first: bool,
    /// Where aggregates may be used: the list that they are added to. Else why they may not.
    pub(super) aggregates: Result<&'a mut Vec<Aggregate>, &'static str>,
    /// The same for analytic functions.
    pub(super) analytics: Result<List<'a>, &'static str>,
    /// Where `uuid` and `rand` cannot be used, since the expression is computed several times for
    /// a row: why not.
    pub(super) draws: Result<(), &'static str>,
    /// Where the statement begins: for what has no place of its own.
    pub(super) place: Place,
    /// What the sources are called and what else can be read of them where they are the elements
    /// of a pattern.
    pub(super) elements: Option<Seen<'a>>,
    /// The tables, for `x IN table`.
    pub(super) tables: &'a [Table],
    pub(super) progress: &'a Progress,
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
}

/// What binding the expressions of a statement has come to.
#[derive(Default)]
pub(super) struct Progress {
    /// How many expressions have been bound, copies included.
    pub(super) steps: Cell<usize>,
    /// Whether a name was met that no source has.
    pub(super) unknown: Cell<bool>,
}

/// Expressions of one statement. Operands that a form needs twice are bound twice, which nested
/// deeply would take for ever.
const STEPS_MAX: usize = 20_000;

impl<'s> Scope<'s> {
    pub(super) fn fail<T>(
        &mut self,
        place: Place,
        message: impl Into<String>,
    ) -> Result<T, Failed> {
        self.fail_with(place, message, None)
    }

    pub(super) fn fail_with<T>(
        &mut self,
        place: Place,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Result<T, Failed> {
        let place = if place.line == 0 { self.place } else { place };
        let fault = Diagnostic::error(self.path, place, message);
        self.diagnostics.push(fault.with_hint_if(hint));
        Err(Failed)
    }

    /// A condition: must be BOOLEAN.
    pub(super) fn condition(&mut self, written: &Written, clause: &str) -> Bound {
        let expr = self.bind(written)?;
        if expr.ty == Type::Bool || expr.is_null_literal() {
            return Ok(expr);
        }
        let message = format!("{clause} needs a BOOLEAN, this is {}", expr.ty);
        self.fail(place(written), message)
    }

    /// Counts an expression; the one too many is reported, those behind it just fail.
    fn step(&mut self) -> Result<(), Failed> {
        let steps = &self.progress.steps;
        steps.set(steps.get() + 1);
        if steps.get() == STEPS_MAX + 1 {
            let message = format!("more than {STEPS_MAX} expressions in one statement");
            return self.fail(self.place, message);
        }
        if self.progress.steps.get() > STEPS_MAX {
            Err(Failed)
        } else {
            Ok(())
        }
    }

    pub(super) fn bind(&mut self, written: &Written) -> Bound {
        self.step()?;
        self.bind_any(written).map(fold)
    }

    fn bind_any(&mut self, written: &Written) -> Bound {
        match written {
            Written::Identifier(name) => self.column(None, name),
            Written::CompoundIdentifier(parts) => match parts.as_slice() {
                [stream, name] => self.column(Some(stream), name),
                _ => self.fail(place(written), format!("unknown name '{written}'")),
            },
            Written::Nested(inner) => self.bind(inner),
            Written::Value(value) => self.literal(value),
            Written::UnaryOp { op, expr } => self.unary(written, *op, expr),
            Written::BinaryOp { left, op, right } => self.binary(written, left, op, right),
            Written::IsNull(x) => Ok(boolean(ExprKind::IsNull(self.bind(x)?.into()))),
            Written::IsNotNull(x) => Ok(not(boolean(ExprKind::IsNull(self.bind(x)?.into())))),
            Written::InList {
                expr,
                list,
                negated,
            } => self.in_list(expr, list, *negated),
            Written::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let between = fold(self.between(expr, low, high)?);
                Ok(if *negated { not(between) } else { between })
            }
            Written::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_deref(), *negated, false),
            Written::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_deref(), *negated, true),
            Written::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(
                written,
                operand.as_deref(),
                conditions,
                else_result.as_deref(),
            ),
            Written::Cast {
                kind,
                expr,
                data_type,
                format: None,
            } => self.cast(written, kind, expr, data_type),
            _ => self.bind_test(written),
        }
    }

    /// `IS …` something other than NULL.
    fn bind_test(&mut self, written: &Written) -> Bound {
        match written {
            Written::IsUnknown(x) => Ok(boolean(ExprKind::IsNull(
                self.condition(x, "IS UNKNOWN")?.into(),
            ))),
            Written::IsNotUnknown(x) => {
                let known = self.condition(x, "IS NOT UNKNOWN")?;
                Ok(not(boolean(ExprKind::IsNull(known.into()))))
            }
            Written::IsTrue(x) => self.is_truth(x, true),
            Written::IsFalse(x) => self.is_truth(x, false),
            Written::IsNotTrue(x) => self.is_truth(x, true).map(not),
            Written::IsNotFalse(x) => self.is_truth(x, false).map(not),
            Written::IsDistinctFrom(x, y) => self.same_as(written, x, y).map(not),
            Written::IsNotDistinctFrom(x, y) => self.same_as(written, x, y),
            _ => self.bind_call(written),
        }
    }

    /// The forms that are calls, some of them with a grammar of their own.
    fn bind_call(&mut self, written: &Written) -> Bound {
        match written {
            Written::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            Written::TypedString(typed) => self.typed(written, typed),
            Written::Extract { field, expr, .. } => {
                let unit = literal(Value::from(field.to_string()), Type::String);
                let time = self.bind(expr)?;
                let at = place(written);
                call::apply(self, at, "extract", vec![(unit, at), (time, place(expr))])
            }
            Written::Function(function) => call::bind(self, written, function),
            Written::Ceil { expr, field: WHOLE } => {
                call::scalar(self, place(written), "ceil", &[expr])
            }
            Written::Floor { expr, field: WHOLE } => {
                call::scalar(self, place(written), "floor", &[expr])
            }
            Written::Position { expr, r#in } => {
                call::scalar(self, place(written), "position", &[r#in, expr])
            }
            Written::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => self.substring(
                written,
                expr,
                substring_from.as_deref(),
                substring_for.as_deref(),
            ),
            Written::Trim {
                trim_where,
                trim_what,
                expr,
                trim_characters: None,
            } => {
                let name = match trim_where {
                    None | Some(ast::TrimWhereField::Both) => "trim",
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                };
                let arguments: Vec<&Written> = std::iter::once(&**expr)
                    .chain(trim_what.as_deref())
                    .collect();
                call::scalar(self, place(written), name, &arguments)
            }
            _ => {
                let message = format!("this form is not supported by this version: {written}");
                self.fail(place(written), message)
            }
        }
    }

    /// The same scope, for expressions that may use other things.
    pub(super) fn copy(&mut self) -> Scope<'_> {
        Scope {
            path: self.path,
            sources: self.sources,
            aliases: self.aliases,
            aliases_first: self.aliases_first,
            aggregates: Err("here"),
            analytics: Err("here"),
            draws: self.draws,
            elements: self.elements,
            place: self.place,
            tables: self.tables,
            progress: self.progress,
            diagnostics: self.diagnostics,
        }
    }

    pub(super) fn literal(&mut self, written: &ValueWithSpan) -> Bound {
        let place = place_of(written.span);
        match &written.value {
            WrittenValue::Null => Ok(Expr::null()),
            WrittenValue::Boolean(truth) => Ok(literal(Value::Bool(*truth), Type::Bool)),
            WrittenValue::SingleQuotedString(text) => Ok(literal(Value::text(text), Type::String)),
            WrittenValue::Number(digits, true) => self.fail(
                place,
                format!("the suffix of {digits}L is not known; write CAST"),
            ),
            WrittenValue::Number(digits, false) => match number(digits) {
                Some(expr) => Ok(expr),
                None => self.fail(place, format!("the number {digits} is out of range")),
            },
            other => self.fail(place, format!("{other} is not a literal of this dialect")),
        }
    }

    fn unary(&mut self, written: &Written, op: UnaryOperator, x: &Written) -> Bound {
        // A minus belongs to the number, so that the smallest BIGINT can be written.
        let negative = match (op, x) {
            (
                UnaryOperator::Minus,
                Written::Value(ValueWithSpan {
                    value: WrittenValue::Number(digits, false),
                    ..
                }),
            ) => number(&format!("-{digits}")),
            _ => None,
        };
        if let Some(negative) = negative {
            return Ok(negative);
        }
        let x = self.bind(x)?;
        match op {
            UnaryOperator::Not if x.ty == Type::Bool => Ok(not(x)),
            UnaryOperator::Plus if x.ty.is_numeric() => Ok(x),
            UnaryOperator::Minus if x.ty.is_numeric() => Ok(Expr {
                ty: x.ty,
                kind: ExprKind::Negate(x.into()),
            }),
            _ => self.fail(place(written), format!("{op} does not work on {}", x.ty)),
        }
    }

    fn binary(
        &mut self,
        written: &Written,
        left: &Written,
        op: &BinaryOperator,
        right: &Written,
    ) -> Bound {
        let compare = match op {
            BinaryOperator::Eq => Some(CompareOp::Equal),
            BinaryOperator::NotEq => Some(CompareOp::NotEqual),
            BinaryOperator::Lt => Some(CompareOp::Less),
            BinaryOperator::LtEq => Some(CompareOp::LessOrEqual),
            BinaryOperator::Gt => Some(CompareOp::Greater),
            BinaryOperator::GtEq => Some(CompareOp::GreaterOrEqual),
            _ => None,
        };
        if let Some(op) = compare {
            return self.compare(written, op, left, right);
        }
        if let (BinaryOperator::Plus | BinaryOperator::Minus, Written::Interval(interval)) =
            (op, right)
        {
            return self.later(written, left, *op == BinaryOperator::Plus, interval);
        }
        let arithmetic = match op {
            BinaryOperator::Plus => ArithmeticOp::Add,
            BinaryOperator::Minus => ArithmeticOp::Subtract,
            BinaryOperator::Multiply => ArithmeticOp::Multiply,
            BinaryOperator::Divide => ArithmeticOp::Divide,
            BinaryOperator::Modulo => ArithmeticOp::Remainder,
            BinaryOperator::And | BinaryOperator::Or => {
                let (x, y) = (
                    self.condition(left, "AND/OR"),
                    self.condition(right, "AND/OR"),
                );
                let (x, y) = (x?.into(), y?.into());
                let is_and = *op == BinaryOperator::And;
                return Ok(boolean(if is_and {
                    ExprKind::And(x, y)
                } else {
                    ExprKind::Or(x, y)
                }));
            }
            BinaryOperator::Arrow => return self.arrow(left, right, "json_get"),
            BinaryOperator::LongArrow => return self.arrow(left, right, "json_get_text"),
            BinaryOperator::StringConcat => {
                return call::scalar(self, place(written), "concat", &[left, right]);
            }
            _ => return self.fail(place(written), format!("the operator {op} is not known")),
        };
        self.arithmetic(written, arithmetic, left, right)
    }

    fn arithmetic(
        &mut self,
        written: &Written,
        op: ArithmeticOp,
        left: &Written,
        right: &Written,
    ) -> Bound {
        let (x, y) = (self.bind(left), self.bind(right));
        let (x, y) = (x?, y?);
        if x.is_null_literal() || y.is_null_literal() {
            let other = if x.is_null_literal() { &y } else { &x };
            let ty = other.ty;
            let computes = ty.is_numeric() || ty == Type::Timestamp || other.is_null_literal();
            if !computes {
                return self.fail(place(written), format!("cannot compute NULL with {ty}"));
            }
            return Ok(if other.is_null_literal() {
                Expr::null()
            } else {
                typed_null(ty)
            });
        }
        let plus_or_minus = matches!(op, ArithmeticOp::Add | ArithmeticOp::Subtract);
        let (wide, ty) = match (x.ty, y.ty) {
            (Type::Timestamp, Type::Timestamp) if op == ArithmeticOp::Subtract => {
                (Type::Timestamp, Type::Long)
            }
            (Type::Timestamp, Type::Int | Type::Long) if plus_or_minus => {
                (Type::Timestamp, Type::Timestamp)
            }
            (Type::Int | Type::Long, Type::Timestamp) if op == ArithmeticOp::Add => {
                (Type::Timestamp, Type::Timestamp)
            }
            (a, b) => match types::wider(a, b) {
                Some(_) if op == ArithmeticOp::Divide => (Type::Double, Type::Double),
                Some(wide) => (wide, wide),
                None => {
                    let message = format!("cannot compute {} with {}", x.ty, y.ty);
                    return self.fail(place(written), message);
                }
            },
        };
        let kind = ExprKind::Arithmetic(op, widen(x, wide).into(), widen(y, wide).into());
        Ok(Expr { kind, ty })
    }

    fn compare(&mut self, whole: &Written, op: CompareOp, x: &Written, y: &Written) -> Bound {
        let (x, y) = (self.bind(x), self.bind(y));
        let (x, y) = self.unify(place(whole), x?, y?)?;
        if !matches!(op, CompareOp::Equal | CompareOp::NotEqual) {
            self.ordered(place(whole), &x)?;
        }
        Ok(boolean(ExprKind::Compare(op, x.into(), y.into())))
    }

    fn between(&mut self, x: &Written, low: &Written, high: &Written) -> Bound {
        let at = place(x);
        let (x, low, high) = (self.bind(x), self.bind(low), self.bind(high));
        let (x, low) = self.unify(at, x?, low?)?;
        let (x, high) = self.unify(at, x, high?)?;
        self.ordered(at, &x)?;
        let low = widen(low, x.ty);
        Ok(boolean(ExprKind::Between(
            x.into(),
            low.into(),
            high.into(),
        )))
    }

    /// JSON is equal or not; which of two is less, nobody says.
    pub(super) fn ordered(&mut self, at: Place, x: &Expr) -> Result<(), Failed> {
        if x.ty != Type::Json {
            return Ok(());
        }
        let hint = Some("write j ->> 'name', or CAST(j -> 'name' AS DOUBLE)".to_owned());
        self.fail_with(at, "JSON has no order", hint)
    }

    /// Brings two operands to one type, or says that they cannot be compared.
    pub(super) fn unify(&mut self, place: Place, x: Expr, y: Expr) -> Result<(Expr, Expr), Failed> {
        if x.is_null_literal() {
            return Ok((Expr { ty: y.ty, ..x }, y));
        }
        if y.is_null_literal() {
            return Ok((x.clone(), Expr { ty: x.ty, ..y }));
        }
        match types::common(x.ty, y.ty) {
            Some(ty) => Ok((widen(x, ty), widen(y, ty))),
            None => {
                let message = format!("cannot compare {} with {}", x.ty, y.ty);
                let hint = match Type::Json == x.ty || Type::Json == y.ty {
                    true => "write j ->> 'name' for text, or CAST(j -> 'name' AS DOUBLE)",
                    false => "write CAST(… AS …) to convert one of them",
                };
                let hint = Some(hint.to_owned());
                self.fail_with(place, message, hint)
            }
        }
    }

    fn same_as(&mut self, whole: &Written, x: &Written, y: &Written) -> Bound {
        let (x, y) = (self.bind(x), self.bind(y));
        let (x, y) = self.unify(place(whole), x?, y?)?;
        Ok(boolean(ExprKind::SameAs(x.into(), y.into())))
    }

    fn is_truth(&mut self, x: &Written, truth: bool) -> Bound {
        let x = self.condition(x, "IS TRUE/FALSE")?;
        Ok(boolean(ExprKind::IsTruth(truth, x.into())))
    }

    fn in_list(&mut self, x: &Written, list: &[Written], negated: bool) -> Bound {
        if let [Written::Identifier(name)] = list {
            if let Some(table) = self.table_named(&name.value) {
                return self.in_table(x, table, negated);
            }
            let mut sources = self.sources.iter();
            if !sources.any(|source| source.schema.index_of(&name.value).is_some()) {
                let known = self.tables.iter().map(|table| table.name.as_str());
                let hint = did_you_mean(&name.value, known);
                let message = format!("unknown table '{}'", name.value);
                return self.fail_with(place_of(name.span), message, hint);
            }
        }
        let mut needle = self.bind(x)?;
        let mut bound = Vec::with_capacity(list.len());
        for item in list {
            let item_place = place(item);
            let item = self.bind(item)?;
            let (wide, item) = self.unify(item_place, needle, item)?;
            needle = wide;
            bound.push(item);
        }
        let ty = needle.ty;
        let list = bound.into_iter().map(|item| widen(item, ty)).collect();
        let found = boolean(ExprKind::InList(needle.into(), list));
        Ok(if negated { not(found) } else { found })
    }

    /// The table of this name, unless a column hides it.
    fn table_named(&self, name: &str) -> Option<TableId> {
        let mut sources = self.sources.iter();
        if sources.any(|source| source.schema.index_of(name).is_some()) {
            return None;
        }
        let index = self.tables.iter().position(|table| table.name == name)?;
        Some(TableId(index))
    }

    /// `x IN table`: the table's key, or its first column when it has none, is searched for x.
    fn in_table(&mut self, x: &Written, id: TableId, negated: bool) -> Bound {
        let needle = self.bind(x)?;
        let Some(table) = self.tables.get(id.0) else {
            return Err(Failed);
        };
        let column = match table.primary_key.as_slice() {
            [] => 0,
            [only] => *only,
            _ => {
                let message = format!("'{}' has a key of several columns", table.name);
                let hint = Some("JOIN the table instead".to_owned());
                return self.fail_with(place(x), message, hint);
            }
        };
        let Some(field) = table.schema.fields().get(column) else {
            return Err(Failed);
        };
        let name = table.name.as_str().into();
        if types::common(needle.ty, field.ty).is_none() && !needle.is_null_literal() {
            let message = format!("cannot look up {} among {}", needle.ty, field.ty);
            return self.fail(place(x), message);
        }
        let is_float = |ty: Type| matches!(ty, Type::Float | Type::Double);
        if is_float(needle.ty) && field.ty.is_integral() {
            let message = format!("cannot look up {} among {}", needle.ty, field.ty);
            let hint = Some(format!("write CAST(… AS {})", field.ty));
            return self.fail_with(place(x), message, hint);
        }
        // Whole numbers of all types lie in a row alike, and so do the others.
        let alike = needle.ty.is_integral() && field.ty.is_integral() || is_float(needle.ty);
        let needle = if alike {
            needle
        } else {
            widen(needle, field.ty)
        };
        let found = boolean(ExprKind::InTable(needle.into(), id, name));
        Ok(if negated { not(found) } else { found })
    }

    fn like(
        &mut self,
        text: &Written,
        pattern: &Written,
        escape: Option<&Written>,
        negated: bool,
        ignore_case: bool,
    ) -> Bound {
        let (bound_text, bound_pattern) = (self.bind(text), self.bind(pattern));
        let (bound_text, bound_pattern) = (bound_text?, bound_pattern?);
        for (expr, written) in [(&bound_text, text), (&bound_pattern, pattern)] {
            if expr.ty != Type::String && !expr.is_null_literal() {
                let message = format!("LIKE needs a STRING, this is {}", expr.ty);
                return self.fail(place(written), message);
            }
        }
        let escape = match escape {
            None => None,
            Some(Written::Value(ValueWithSpan {
                value: WrittenValue::SingleQuotedString(text),
                ..
            })) if text.chars().count() == 1 => text.chars().next(),
            Some(_) => return self.fail(place(pattern), "ESCAPE takes a string of one character"),
        };
        let like = boolean(ExprKind::Like {
            text: bound_text.into(),
            pattern: bound_pattern.into(),
            escape,
            ignore_case,
        });
        Ok(if negated { not(like) } else { like })
    }

    /// The type that all alternatives share.
    pub(super) fn common_type(&mut self, at: Place, all: Vec<Expr>) -> Result<Type, Failed> {
        let mut shared: Option<Type> = None;
        for expr in all.into_iter().filter(|expr| !expr.is_null_literal()) {
            shared = match shared {
                None => Some(expr.ty),
                Some(ty) => match types::common(ty, expr.ty) {
                    Some(ty) => Some(ty),
                    None => {
                        let message = format!("{ty} and {} cannot be one result", expr.ty);
                        return self.fail(at, message);
                    }
                },
            };
        }
        Ok(shared.unwrap_or(Type::String))
    }
}

/// CEIL and FLOOR of a number, to a whole one.
const WHOLE: ast::CeilFloorKind = ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime);

/// Where an expression begins.
pub(super) fn place(written: &Written) -> Place {
    place_of(written.span())
}

/// The expression in type `ty`: unchanged, or through a cast.
pub(super) fn widen(expr: Expr, ty: Type) -> Expr {
    if expr.ty == ty || expr.is_null_literal() {
        return Expr { ty, ..expr };
    }
    match &expr.kind {
        // A constant is converted here and now, so that it costs nothing later.
        ExprKind::Literal(Value::Int(number)) if matches!(ty, Type::Float | Type::Double) => {
            #[expect(
                clippy::cast_precision_loss,
                reason = "integers widen to DOUBLE by rounding"
            )]
            let number = *number as f64;
            literal(Value::Float(number), ty)
        }
        ExprKind::Literal(Value::Int(number)) if ty.is_integral() && ty != Type::Int => {
            literal(Value::Int(*number), ty)
        }
        ExprKind::Literal(Value::Float(number)) if ty == Type::Double => {
            literal(Value::Float(*number), ty)
        }
        _ => fold(Expr {
            kind: ExprKind::Cast(expr.into()),
            ty,
        }),
    }
}

/// A NULL whose type is known, unlike that of the constant, which takes any.
pub(super) fn typed_null(ty: Type) -> Expr {
    Expr {
        kind: ExprKind::Cast(Expr::null().into()),
        ty,
    }
}

fn boolean(kind: ExprKind) -> Expr {
    Expr {
        kind,
        ty: Type::Bool,
    }
}

fn not(expr: Expr) -> Expr {
    fold(boolean(ExprKind::Not(expr.into())))
}

pub(super) fn literal(value: Value, ty: Type) -> Expr {
    Expr {
        kind: ExprKind::Literal(value),
        ty,
    }
}

/// INT when it fits, then BIGINT; with a point or an exponent DOUBLE.
fn number(digits: &str) -> Option<Expr> {
    if let Ok(number) = digits.parse::<i64>() {
        let ty = if i32::try_from(number).is_ok() {
            Type::Int
        } else {
            Type::Long
        };
        return Some(literal(Value::Int(number), ty));
    }
    if !digits.contains(['.', 'e', 'E']) {
        return None;
    }
    let number: f64 = digits.parse().ok()?;
    number
        .is_finite()
        .then(|| literal(Value::Float(number), Type::Double))
}
