//! Expressions with a grammar of their own: CASE, CAST, typed literals, intervals, steps into JSON.

use sqlparser::ast::{self, CastKind, Expr as Written, Value as WrittenValue, ValueWithSpan};

use super::super::parse::place_of;
use super::super::plan::{Expr, ExprKind};
use super::super::types;
use super::call;
use super::expr::{Bound, Failed, Scope, literal, place, typed_null, widen};
use super::pattern::begins_with_index;
use crate::diagnostic::{Place, did_you_mean};
use crate::event::{Type, Value};

impl Scope<'_> {
    /// `j -> step`, `j ->> step`.
    pub(super) fn arrow(&mut self, left: &Written, right: &Written, name: &str) -> Bound {
        let (json, step) = (self.bind(left), self.bind(right));
        self.step_into(json?, place(left), (step?, place(right)), name)
    }

    /// `j['name']`, `j[0]`, with a stream before it or not.
    pub(super) fn access(&mut self, root: &Written, chain: &[ast::AccessExpr]) -> Bound {
        let at = place(root);
        let (mut json, steps) = match (root, chain) {
            (Written::Identifier(name), chain)
                if begins_with_index(chain) && self.names_element(name) =>
            {
                self.of_row(name, chain)?
            }
            (
                Written::Identifier(stream),
                [
                    ast::AccessExpr::Dot(Written::Identifier(column)),
                    steps @ ..,
                ],
            ) if self.source_named(&stream.value).is_some() => {
                (self.column(Some(stream), column)?, steps)
            }
            _ => (self.bind(root)?, chain),
        };
        for step in steps {
            let step = match step {
                ast::AccessExpr::Dot(Written::Identifier(name)) => (
                    literal(Value::text(&name.value), Type::String),
                    place_of(name.span),
                ),
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                    (self.bind(index)?, place(index))
                }
                _ => {
                    return self.fail(at, format!("'{step}' leads nowhere; write [n] or ['name']"));
                }
            };
            json = self.step_into(json, at, step, "json_get")?;
        }
        Ok(json)
    }

    /// One more step into JSON; several are one call.
    fn step_into(&mut self, json: Expr, at: Place, step: (Expr, Place), name: &str) -> Bound {
        if !matches!(json.ty, Type::Json | Type::String) && !json.is_null_literal() {
            let message = format!("only JSON has members and elements, this is {}", json.ty);
            return self.fail(at, message);
        }
        let mut arguments = match json.kind {
            ExprKind::Call(function, arguments) if function.names == ["json_get"] => arguments
                .into_iter()
                .map(|argument| (argument, at))
                .collect(),
            _ => vec![(json, at)],
        };
        arguments.push(step);
        call::apply(self, at, name, arguments)
    }

    /// `TIMESTAMP '2026-07-17T10:30'` and the like.
    pub(super) fn typed(&mut self, written: &Written, typed: &ast::TypedString) -> Bound {
        let at = place(written);
        let ty = self.type_of(at, &typed.data_type)?;
        let text = self.literal(&typed.value)?;
        let value = self.cast_to(at, text, ty)?;
        match value.kind {
            ExprKind::Literal(_) => Ok(value),
            _ => self.fail(at, format!("{} is not a {ty}", typed.value)),
        }
    }

    /// `time + INTERVAL '1' DAY`.
    pub(super) fn later(
        &mut self,
        written: &Written,
        time: &Written,
        is_plus: bool,
        interval: &ast::Interval,
    ) -> Bound {
        let at = place(written);
        let text = match &*interval.value {
            Written::Value(ValueWithSpan {
                value: WrittenValue::SingleQuotedString(text),
                ..
            }) => Some(text.trim()),
            _ => None,
        };
        let (count, unit) = match (text, &interval.leading_field) {
            (None, Some(unit)) => (self.bind(&interval.value)?, unit.to_string()),
            (Some(text), unit) => {
                let (count, rest) = text.split_once(' ').unwrap_or((text, ""));
                let unit = match unit {
                    Some(unit) if rest.is_empty() => unit.to_string(),
                    Some(_) => String::new(),
                    None => rest.trim().to_owned(),
                };
                match count.parse() {
                    Ok(count) => (literal(Value::Int(count), Type::Long), unit),
                    Err(_) => return self.fail(at, format!("'{text}' is not a span of time")),
                }
            }
            (None, None) => return self.fail(at, "INTERVAL needs a unit: INTERVAL '1' DAY"),
        };
        let name = if is_plus { "date_add" } else { "date_sub" };
        let unit = literal(Value::from(unit), Type::String);
        let time = self.bind(time)?;
        call::apply(self, at, name, vec![(time, at), (count, at), (unit, at)])
    }

    pub(super) fn case(
        &mut self,
        written: &Written,
        operand: Option<&Written>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&Written>,
    ) -> Bound {
        let mut operand = operand.map(|operand| self.bind(operand)).transpose()?;
        let mut branches = Vec::with_capacity(conditions.len());
        for when in conditions {
            let condition = match operand.take() {
                None => self.condition(&when.condition, "WHEN")?,
                Some(compared) => {
                    let value = self.bind(&when.condition)?;
                    let (wide, value) = self.unify(place(&when.condition), compared, value)?;
                    operand = Some(wide);
                    value
                }
            };
            branches.push((condition, self.bind(&when.result)?));
        }
        let otherwise = otherwise.map(|expr| self.bind(expr)).transpose()?;
        let results = branches.iter().map(|(_, result)| result).chain(&otherwise);
        let ty = self.common_type(place(written), results.cloned().collect())?;
        let branches: Vec<(Expr, Expr)> = branches
            .into_iter()
            .map(|(condition, result)| (condition, widen(result, ty)))
            .collect();
        let otherwise = otherwise.map(|expr| widen(expr, ty).into());
        let kind = match operand {
            None => ExprKind::Case {
                branches,
                otherwise,
            },
            Some(operand) => {
                let wide = |(value, result)| (widen(value, operand.ty), result);
                ExprKind::Switch {
                    branches: branches.into_iter().map(wide).collect(),
                    operand: operand.into(),
                    otherwise,
                }
            }
        };
        Ok(Expr { kind, ty })
    }

    pub(super) fn cast(
        &mut self,
        written: &Written,
        kind: &CastKind,
        expr: &Written,
        data_type: &ast::DataType,
    ) -> Bound {
        if matches!(kind, CastKind::SafeCast) {
            return self.fail(place(written), "SAFE_CAST is not known; write TRY_CAST");
        }
        let x = self.bind(expr)?;
        let ty = self.type_of(place(written), data_type)?;
        self.cast_to(place(written), x, ty)
    }

    fn type_of(&mut self, at: Place, data_type: &ast::DataType) -> Result<Type, Failed> {
        let full = data_type.to_string();
        let name = if full.eq_ignore_ascii_case("DOUBLE PRECISION") {
            "DOUBLE"
        } else {
            &full
        };
        if let Some((plain, _)) = name.split_once(['(', ' ', '[']) {
            if types::type_named(plain).is_some() {
                let message = format!("a {plain} has no modifier: {full}");
                let hint = Some(format!("write CAST(… AS {plain})"));
                return self.fail_with(at, message, hint);
            }
        }
        if let Some(ty) = types::type_named(name) {
            return Ok(ty);
        }
        let names = types::TYPE_NAMES.iter().map(|(name, _)| *name);
        let hint = did_you_mean(name, names);
        self.fail_with(at, format!("unknown type '{full}'"), hint)
    }

    fn cast_to(&mut self, at: Place, x: Expr, ty: Type) -> Bound {
        if !x.is_null_literal() && !types::castable(x.ty, ty) {
            return self.fail(at, format!("cannot cast {} to {ty}", x.ty));
        }
        if x.is_null_literal() {
            return Ok(typed_null(ty));
        }
        Ok(widen(x, ty))
    }

    pub(super) fn substring(
        &mut self,
        written: &Written,
        text: &Written,
        from: Option<&Written>,
        length: Option<&Written>,
    ) -> Bound {
        match (from, length) {
            (Some(from), None) => call::scalar(self, place(written), "substring", &[text, from]),
            (Some(from), Some(length)) => {
                call::scalar(self, place(written), "substring", &[text, from, length])
            }
            (None, _) => self.fail(place(written), "SUBSTRING needs a start"),
        }
    }
}
