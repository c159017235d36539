//! Expressions, compiled once into typed closures.
//!
//! Operands that are plain columns or constants are read without a call, so that the common
//! `column op constant` costs one. Nothing here fails: what cannot be computed (division by zero,
//! overflow, a cast that does not fit) is NULL and counted.

use std::cell::Cell;
use std::sync::Arc;

use ecow::{EcoString, EcoVec};

use super::draws::Draws;
use super::table::SharedTable;
use super::window::Picked;
use crate::event::{Stamp, Type, Value};
use crate::sql::functions::{Argument, Function, LikePattern, Moment, Nulls, Reads, cast};
use crate::sql::plan::{ArithmeticOp, CompareOp, Expr, ExprKind, TableId};

/// What an expression is evaluated over.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    pub(super) row: &'a [Value],
    pub(super) moment: Moment,
    /// Counts what could not be computed.
    pub(super) faults: &'a Cell<u64>,
}

impl<'a> Env<'a> {
    /// A row at the moment `at`.
    #[inline]
    pub(super) fn new(row: &'a [Value], stamp: Stamp, at: Stamp, faults: &'a Cell<u64>) -> Env<'a> {
        let moment = Moment {
            now: at.time,
            time: stamp.time,
            seq: at.seq,
        };
        Env {
            row,
            moment,
            faults,
        }
    }

    fn fault<T>(&self) -> Option<T> {
        self.faults.set(self.faults.get() + 1);
        None
    }

    /// The result, or NULL and one more fault.
    pub(super) fn or_fault<T>(&self, result: Option<T>) -> Option<T> {
        if result.is_none() {
            self.fault()
        } else {
            result
        }
    }
}

/// A compiled expression of one type; `None` is NULL.
pub(super) type Eval<T> = Arc<dyn Fn(&Env<'_>) -> Option<T> + Send + Sync>;

/// A value to compute with: read from the row, constant, or computed. A clone shares the code.
#[derive(Clone)]
pub(super) enum Operand<T> {
    Column(usize),
    Constant(T),
    Computed(Eval<T>),
}

/// A type that lies in a row.
pub(super) trait Cell64: Clone + Send + Sync + 'static {
    fn read(value: &Value) -> Option<Self>;
}

impl Cell64 for bool {
    fn read(value: &Value) -> Option<bool> {
        value.as_bool()
    }
}

impl Cell64 for i64 {
    fn read(value: &Value) -> Option<i64> {
        value.as_int()
    }
}

impl Cell64 for f64 {
    fn read(value: &Value) -> Option<f64> {
        match value {
            Value::Float(number) => Some(*number),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Str(_) | Value::Bytes(_) => None,
        }
    }
}

impl Cell64 for EcoString {
    fn read(value: &Value) -> Option<EcoString> {
        match value {
            Value::Str(text) => Some(text.clone()),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Bytes(_) => {
                None
            }
        }
    }
}

impl Cell64 for EcoVec<u8> {
    fn read(value: &Value) -> Option<EcoVec<u8>> {
        match value {
            Value::Bytes(bytes) => Some(bytes.clone()),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_) => None,
        }
    }
}

impl<T: Cell64> Operand<T> {
    /// The value, `None` for NULL.
    #[inline]
    pub(super) fn get(&self, env: &Env<'_>) -> Option<T> {
        match self {
            Operand::Column(index) => column(env, *index),
            Operand::Constant(value) => Some(value.clone()),
            Operand::Computed(eval) => eval(env),
        }
    }
}

impl<T: Cell64> Operand<T> {
    /// Computes for rows, each with the slot of its group, and skips those that give NULL.
    #[inline]
    pub(super) fn for_each(
        &self,
        slots: &[usize],
        rows: Picked<'_>,
        faults: &Cell<u64>,
        mut take: impl FnMut(usize, T),
    ) {
        let rows = slots.iter().copied().zip(rows.iter());
        if let Operand::Column(index) = self {
            for (slot, row) in rows {
                if let Some(value) = row.values.get(*index).and_then(T::read) {
                    take(slot, value);
                }
            }
            return;
        }
        for (slot, row) in rows {
            if let Some(value) = self.get(&Env::new(row.values, row.stamp, row.stamp, faults)) {
                take(slot, value);
            }
        }
    }
}

#[inline]
fn column<T: Cell64>(env: &Env<'_>, index: usize) -> Option<T> {
    env.row.get(index).and_then(T::read)
}

/// A compiled expression by the physical form of its result.
#[derive(Clone)]
pub(super) enum Compiled {
    Bool(Operand<bool>),
    Int(Operand<i64>),
    Float(Operand<f64>),
    /// STRING, and JSON in its canonical form.
    Text(Operand<EcoString>),
    Bytes(Operand<EcoVec<u8>>),
}

impl Compiled {
    /// The column that this is, when it is nothing else.
    pub(super) fn column(&self) -> Option<usize> {
        match self {
            Compiled::Bool(Operand::Column(index))
            | Compiled::Int(Operand::Column(index))
            | Compiled::Float(Operand::Column(index))
            | Compiled::Text(Operand::Column(index))
            | Compiled::Bytes(Operand::Column(index)) => Some(*index),
            Compiled::Bool(_)
            | Compiled::Int(_)
            | Compiled::Float(_)
            | Compiled::Text(_)
            | Compiled::Bytes(_) => None,
        }
    }

    /// Puts the result at the end of a row.
    #[inline]
    pub(super) fn push_to(&self, env: &Env<'_>, row: &mut Vec<Value>) {
        match self {
            Compiled::Float(Operand::Computed(eval)) => match eval(env) {
                Some(number) => row.push(Value::Float(number)),
                None => row.push(Value::Null),
            },
            Compiled::Bool(Operand::Column(index))
            | Compiled::Int(Operand::Column(index))
            | Compiled::Float(Operand::Column(index))
            | Compiled::Text(Operand::Column(index))
            | Compiled::Bytes(Operand::Column(index)) => match env.row.get(*index) {
                Some(value) => value.copy_to(row),
                None => row.push(Value::Null),
            },
            Compiled::Bool(_)
            | Compiled::Int(_)
            | Compiled::Float(_)
            | Compiled::Text(_)
            | Compiled::Bytes(_) => {
                row.push(self.value(env));
            }
        }
    }

    /// The result as a value of a row.
    #[inline]
    pub(super) fn value(&self, env: &Env<'_>) -> Value {
        match self {
            Compiled::Bool(Operand::Column(index))
            | Compiled::Int(Operand::Column(index))
            | Compiled::Float(Operand::Column(index))
            | Compiled::Text(Operand::Column(index))
            | Compiled::Bytes(Operand::Column(index)) => {
                env.row.get(*index).cloned().unwrap_or_default()
            }
            Compiled::Bool(x) => x.get(env).map_or(Value::Null, Value::Bool),
            Compiled::Int(x) => x.get(env).map_or(Value::Null, Value::Int),
            Compiled::Float(x) => x.get(env).map_or(Value::Null, Value::Float),
            Compiled::Text(x) => x.get(env).map_or(Value::Null, Value::Str),
            Compiled::Bytes(x) => x.get(env).map_or(Value::Null, Value::Bytes),
        }
    }
}

/// What an expression is compiled for.
#[derive(Clone, Copy)]
pub(super) struct Cx<'a> {
    /// Where the columns of the plan lie in the rows that will be given; empty means that column
    /// `i` lies at `i`.
    pub(super) columns: &'a [usize],
    /// The tables, for `x IN table`.
    pub(super) tables: &'a [SharedTable],
    /// The sites of `uuid` and `rand`.
    pub(super) draws: Option<&'a Arc<Draws>>,
}

impl Cx<'_> {
    /// Rows that have just the columns of the plan, and no tables.
    #[cfg(test)]
    pub(super) const PLAIN: Cx<'static> = Cx {
        columns: &[],
        tables: &[],
        draws: None,
    };

    /// Where a column of the plan lies.
    pub(super) fn place(self, index: usize) -> usize {
        self.columns.get(index).copied().unwrap_or(index)
    }
}

/// Compiles `expr`.
pub(super) fn compile(expr: &Expr, cx: Cx<'_>) -> Compiled {
    match expr.ty {
        Type::Bool => Compiled::Bool(boolean(expr, cx)),
        Type::Int | Type::Long | Type::Timestamp => Compiled::Int(integer(expr, cx)),
        Type::Float | Type::Double => Compiled::Float(float(expr, cx)),
        Type::String | Type::Json => Compiled::Text(text(expr, cx)),
        Type::Bytes => Compiled::Bytes(bytes(expr, cx)),
    }
}

/// Compiles a condition.
pub(super) fn predicate(expr: &Expr, cx: Cx<'_>) -> Operand<bool> {
    boolean(expr, cx)
}

fn computed<T>(eval: impl Fn(&Env<'_>) -> Option<T> + Send + Sync + 'static) -> Operand<T> {
    Operand::Computed(Arc::new(eval))
}

/// One closure for two operands: a column or a constant is read inside it, without a call.
fn fuse<A: Cell64, B: Cell64, R>(
    a: Operand<A>,
    b: Operand<B>,
    f: impl Fn(&Env<'_>, A, B) -> Option<R> + Send + Sync + 'static,
) -> Operand<R> {
    match (a, b) {
        (Operand::Column(a), Operand::Constant(b)) => {
            computed(move |env| f(env, column(env, a)?, b.clone()))
        }
        (Operand::Constant(a), Operand::Column(b)) => {
            computed(move |env| f(env, a.clone(), column(env, b)?))
        }
        (Operand::Column(a), Operand::Column(b)) => {
            computed(move |env| f(env, column(env, a)?, column(env, b)?))
        }
        (Operand::Computed(a), Operand::Constant(b)) => {
            computed(move |env| f(env, a(env)?, b.clone()))
        }
        (a, b) => computed(move |env| f(env, a.get(env)?, b.get(env)?)),
    }
}

/// The forms that are alike for every type.
fn shared<T: Cell64>(
    expr: &Expr,
    cx: Cx<'_>,
    compile: fn(&Expr, Cx<'_>) -> Operand<T>,
) -> Operand<T> {
    match &expr.kind {
        ExprKind::Column(index) => Operand::Column(cx.place(*index)),
        ExprKind::Literal(value) => match T::read(value) {
            Some(constant) => Operand::Constant(constant),
            None => computed(|_| None),
        },
        ExprKind::Case {
            branches,
            otherwise,
        } => case(branches, otherwise.as_deref(), cx, compile),
        ExprKind::Switch {
            operand,
            branches,
            otherwise,
        } => switch(operand, branches, otherwise.as_deref(), cx, compile),
        ExprKind::Call(function, arguments) => call(function, arguments, expr.ty, cx),
        ExprKind::Cast(inner) => {
            let from = inner.ty;
            let to = expr.ty;
            let inner = self::compile(inner, cx);
            computed(move |env| match inner.value(env) {
                Value::Null => None,
                value => match cast(&value, from, to) {
                    Some(Value::Null) => None,
                    value => env.or_fault(value.as_ref().and_then(T::read)),
                },
            })
        }
        // The binder gives these forms to other types only.
        ExprKind::Aggregate(_)
        | ExprKind::Negate(_)
        | ExprKind::Not(_)
        | ExprKind::Arithmetic(..)
        | ExprKind::Compare(..)
        | ExprKind::And(..)
        | ExprKind::Or(..)
        | ExprKind::IsNull(_)
        | ExprKind::IsTruth(..)
        | ExprKind::SameAs(..)
        | ExprKind::InList(..)
        | ExprKind::InTable(..)
        | ExprKind::Between(..)
        | ExprKind::Like { .. } => computed(|_| None),
    }
}

fn case<T: Cell64>(
    branches: &[(Expr, Expr)],
    otherwise: Option<&Expr>,
    cx: Cx<'_>,
    compile: fn(&Expr, Cx<'_>) -> Operand<T>,
) -> Operand<T> {
    let branches: Vec<(Operand<bool>, Operand<T>)> = branches
        .iter()
        .map(|(when, then)| (boolean(when, cx), compile(then, cx)))
        .collect();
    let otherwise = otherwise.map(|expr| compile(expr, cx));
    computed(move |env| {
        let taken = branches
            .iter()
            .find(|(when, _)| when.get(env) == Some(true));
        taken.map(|(_, then)| then).or(otherwise.as_ref())?.get(env)
    })
}

fn switch<T: Cell64>(
    operand: &Expr,
    branches: &[(Expr, Expr)],
    otherwise: Option<&Expr>,
    cx: Cx<'_>,
    compile: fn(&Expr, Cx<'_>) -> Operand<T>,
) -> Operand<T> {
    let operand = self::compile(operand, cx);
    let branches: Vec<(Compiled, Operand<T>)> = branches
        .iter()
        .map(|(value, then)| (self::compile(value, cx), compile(then, cx)))
        .collect();
    let otherwise = otherwise.map(|expr| compile(expr, cx));
    computed(move |env| {
        let operand = operand.value(env);
        let mut branches = branches.iter();
        let taken = if operand.is_null() {
            None
        } else {
            branches.find(|(value, _)| value.value(env) == operand)
        };
        taken.map(|(_, then)| then).or(otherwise.as_ref())?.get(env)
    })
}

fn call<T: Cell64>(
    function: &'static Function,
    arguments: &[Expr],
    ty: Type,
    cx: Cx<'_>,
) -> Operand<T> {
    if function.reads == Reads::Position {
        return drawn(function, arguments, cx);
    }
    let given: Vec<Argument<'_>> = arguments.iter().map(Argument::of).collect();
    let arguments: Vec<Compiled> = arguments
        .iter()
        .map(|argument| compile(argument, cx))
        .collect();
    match function.prepare {
        None => called(function, arguments, ty, function.eval),
        Some(prepare) => match prepare(&given) {
            Ok(eval) => called(function, arguments, ty, eval),
            // The binder has refused it.
            Err(_) => computed(|env: &Env<'_>| env.fault()),
        },
    }
}

/// A function of the place in the log: behind its arguments come the log's identity, the site and
/// its count.
fn drawn<T: Cell64>(function: &'static Function, arguments: &[Expr], cx: Cx<'_>) -> Operand<T> {
    let (Some((site, arguments)), Some(draws)) = (arguments.split_last(), cx.draws) else {
        return computed(|_| None);
    };
    let number = match &site.kind {
        ExprKind::Literal(value) => value.as_int().unwrap_or_default(),
        _ => 0,
    };
    let (draws, site) = (Arc::clone(draws), draws.site(number));
    let arguments: Vec<Compiled> = arguments
        .iter()
        .map(|argument| compile(argument, cx))
        .collect();
    computed(move |env| {
        let mut values: Vec<Value> = arguments
            .iter()
            .map(|argument| argument.value(env))
            .collect();
        if values.iter().any(Value::is_null) {
            return None;
        }
        let count = i64::try_from(site.next(env.moment.seq)).ok()?;
        values.extend([draws.identity(), site.number(), count].map(Value::Int));
        env.or_fault(
            (function.eval)(&env.moment, &values)
                .as_ref()
                .and_then(T::read),
        )
    })
}

fn called<T: Cell64>(
    function: &'static Function,
    arguments: Vec<Compiled>,
    ty: Type,
    eval: impl Fn(&Moment, &[Value]) -> Option<Value> + Send + Sync + 'static,
) -> Operand<T> {
    computed(move |env| {
        let mut few: [Value; 4] = Default::default();
        let many: Vec<Value>;
        let values: &[Value] = if let Some(places) = few.get_mut(..arguments.len()) {
            for (place, argument) in places.iter_mut().zip(&arguments) {
                *place = argument.value(env);
            }
            places
        } else {
            many = arguments
                .iter()
                .map(|argument| argument.value(env))
                .collect();
            &many
        };
        if function.nulls == Nulls::Propagate && values.iter().any(Value::is_null) {
            return None;
        }
        match eval(&env.moment, values) {
            Some(Value::Null) => None,
            Some(value) if ty.admits(&value) => T::read(&value),
            Some(_) | None => env.fault(),
        }
    })
}

fn integer(expr: &Expr, cx: Cx<'_>) -> Operand<i64> {
    let narrow = expr.ty == Type::Int;
    let fits = move |env: &Env<'_>, result: Option<i64>| {
        env.or_fault(result.filter(|number| !narrow || i32::try_from(*number).is_ok()))
    };
    match &expr.kind {
        ExprKind::Negate(x) => {
            let x = integer(x, cx);
            computed(move |env| fits(env, x.get(env)?.checked_neg()))
        }
        ExprKind::Arithmetic(op, x, y) => {
            let (x, y) = (integer(x, cx), integer(y, cx));
            match op {
                ArithmeticOp::Add => fuse(x, y, move |env, x, y| fits(env, x.checked_add(y))),
                ArithmeticOp::Subtract => fuse(x, y, move |env, x, y| fits(env, x.checked_sub(y))),
                ArithmeticOp::Multiply => fuse(x, y, move |env, x, y| fits(env, x.checked_mul(y))),
                // `/` is always DOUBLE and never comes here.
                ArithmeticOp::Divide => fuse(x, y, move |env, x, y| fits(env, x.checked_div(y))),
                ArithmeticOp::Remainder => fuse(x, y, move |env, x, y| fits(env, remainder(x, y))),
            }
        }
        _ => shared(expr, cx, integer),
    }
}

/// Division of the smallest integer by -1 overflows; its remainder does not.
fn remainder(x: i64, y: i64) -> Option<i64> {
    if y == -1 { Some(0) } else { x.checked_rem(y) }
}

fn float(expr: &Expr, cx: Cx<'_>) -> Operand<f64> {
    let most = if expr.ty == Type::Float {
        f64::from(f32::MAX)
    } else {
        f64::MAX
    };
    let fits = move |env: &Env<'_>, result: f64| {
        // Also false for what is not a number.
        if result.abs() <= most {
            Some(result)
        } else {
            env.fault()
        }
    };
    match &expr.kind {
        ExprKind::Negate(x) => {
            let x = float(x, cx);
            computed(move |env| Some(-x.get(env)?))
        }
        ExprKind::Arithmetic(op, x, y) => {
            let (x, y) = (float(x, cx), float(y, cx));
            match op {
                ArithmeticOp::Add => fuse(x, y, move |env, x, y| fits(env, x + y)),
                ArithmeticOp::Subtract => fuse(x, y, move |env, x, y| fits(env, x - y)),
                ArithmeticOp::Multiply => fuse(x, y, move |env, x, y| fits(env, x * y)),
                ArithmeticOp::Divide => fuse(x, y, move |env, x, y| fits(env, x / y)),
                ArithmeticOp::Remainder => fuse(x, y, move |env, x, y| fits(env, x % y)),
            }
        }
        // Widening an integer is common and cannot fail.
        #[expect(
            clippy::cast_precision_loss,
            reason = "integers widen to DOUBLE by rounding"
        )]
        ExprKind::Cast(x) if x.ty.is_integral() => {
            let x = integer(x, cx);
            computed(move |env| Some(x.get(env)? as f64))
        }
        ExprKind::Cast(x) if x.ty == Type::Float && expr.ty == Type::Double => float(x, cx),
        _ => shared(expr, cx, float),
    }
}

fn text(expr: &Expr, cx: Cx<'_>) -> Operand<EcoString> {
    shared(expr, cx, text)
}

fn bytes(expr: &Expr, cx: Cx<'_>) -> Operand<EcoVec<u8>> {
    shared(expr, cx, bytes)
}

fn boolean(expr: &Expr, cx: Cx<'_>) -> Operand<bool> {
    match &expr.kind {
        ExprKind::Not(x) => {
            let x = boolean(x, cx);
            computed(move |env| Some(!x.get(env)?))
        }
        ExprKind::And(x, y) => {
            let (x, y) = (boolean(x, cx), boolean(y, cx));
            computed(move |env| match x.get(env) {
                Some(false) => Some(false),
                Some(true) => y.get(env),
                None => y.get(env).filter(|y| !y),
            })
        }
        ExprKind::Or(x, y) => {
            let (x, y) = (boolean(x, cx), boolean(y, cx));
            computed(move |env| match x.get(env) {
                Some(true) => Some(true),
                Some(false) => y.get(env),
                None => y.get(env).filter(|y| *y),
            })
        }
        ExprKind::IsNull(x) => {
            let x = compile(x, cx);
            computed(move |env| Some(x.value(env).is_null()))
        }
        ExprKind::IsTruth(truth, x) => {
            let (truth, x) = (*truth, boolean(x, cx));
            computed(move |env| Some(x.get(env) == Some(truth)))
        }
        ExprKind::SameAs(x, y) => {
            let (x, y) = (compile(x, cx), compile(y, cx));
            computed(move |env| Some(x.value(env) == y.value(env)))
        }
        ExprKind::Compare(op, x, y) => compare(*op, x, y, cx),
        ExprKind::InList(x, list) => in_list(x, list, cx),
        ExprKind::Between(x, low, high) => between([x, low, high], cx),
        ExprKind::InTable(x, table, _) => in_table(x, *table, cx),
        ExprKind::Like {
            text,
            pattern,
            escape,
            ignore_case,
        } => like(text, pattern, *escape, *ignore_case, cx),
        _ => shared(expr, cx, boolean),
    }
}

fn compare(op: CompareOp, x: &Expr, y: &Expr, cx: Cx<'_>) -> Operand<bool> {
    match (compile(x, cx), compile(y, cx)) {
        (Compiled::Float(x), Compiled::Float(y)) => match op {
            CompareOp::Equal => fuse(x, y, |_, x, y| Some(x == y)),
            CompareOp::NotEqual => fuse(x, y, |_, x, y| Some(x != y)),
            CompareOp::Less => fuse(x, y, |_, x, y| Some(x < y)),
            CompareOp::LessOrEqual => fuse(x, y, |_, x, y| Some(x <= y)),
            CompareOp::Greater => fuse(x, y, |_, x, y| Some(x > y)),
            CompareOp::GreaterOrEqual => fuse(x, y, |_, x, y| Some(x >= y)),
        },
        (Compiled::Int(x), Compiled::Int(y)) => ordered(op, x, y),
        (Compiled::Bool(x), Compiled::Bool(y)) => ordered(op, x, y),
        (Compiled::Text(Operand::Column(x)), Compiled::Text(Operand::Constant(y))) => {
            let holds = holds(op);
            computed(move |env| Some(holds(env.row.get(x)?.as_str()?.cmp(y.as_str()))))
        }
        (Compiled::Text(x), Compiled::Text(y)) => ordered(op, x, y),
        (Compiled::Bytes(x), Compiled::Bytes(y)) => ordered(op, x, y),
        // The binder has brought both sides to one type.
        _ => computed(|_| None),
    }
}

fn ordered<T: Cell64 + Ord>(op: CompareOp, x: Operand<T>, y: Operand<T>) -> Operand<bool> {
    match op {
        CompareOp::Equal => fuse(x, y, |_, x, y| Some(x == y)),
        CompareOp::NotEqual => fuse(x, y, |_, x, y| Some(x != y)),
        CompareOp::Less
        | CompareOp::LessOrEqual
        | CompareOp::Greater
        | CompareOp::GreaterOrEqual => {
            let holds = holds(op);
            fuse(x, y, move |_, x: T, y: T| Some(holds(x.cmp(&y))))
        }
    }
}

fn holds(op: CompareOp) -> fn(std::cmp::Ordering) -> bool {
    match op {
        CompareOp::Equal => std::cmp::Ordering::is_eq,
        CompareOp::NotEqual => std::cmp::Ordering::is_ne,
        CompareOp::Less => std::cmp::Ordering::is_lt,
        CompareOp::LessOrEqual => std::cmp::Ordering::is_le,
        CompareOp::Greater => std::cmp::Ordering::is_gt,
        CompareOp::GreaterOrEqual => std::cmp::Ordering::is_ge,
    }
}

/// `x BETWEEN low AND high`, as `x >= low AND x <= high` with x computed once.
fn between([x, low, high]: [&Expr; 3], cx: Cx<'_>) -> Operand<bool> {
    match (compile(x, cx), compile(low, cx), compile(high, cx)) {
        (Compiled::Bool(x), Compiled::Bool(low), Compiled::Bool(high)) => within(x, low, high),
        (Compiled::Int(x), Compiled::Int(low), Compiled::Int(high)) => within(x, low, high),
        (Compiled::Float(x), Compiled::Float(low), Compiled::Float(high)) => within(x, low, high),
        (Compiled::Text(x), Compiled::Text(low), Compiled::Text(high)) => within(x, low, high),
        (Compiled::Bytes(x), Compiled::Bytes(low), Compiled::Bytes(high)) => within(x, low, high),
        // The binder has brought all three to one type.
        _ => computed(|_| None),
    }
}

fn within<T: Cell64 + PartialOrd>(
    x: Operand<T>,
    low: Operand<T>,
    high: Operand<T>,
) -> Operand<bool> {
    computed(move |env| {
        let x = x.get(env)?;
        let above = low.get(env).map(|low| x >= low);
        if above == Some(false) {
            return Some(false);
        }
        match high.get(env).map(|high| x <= high) {
            Some(false) => Some(false),
            Some(true) => above,
            None => None,
        }
    })
}

/// `x IN (…)`: true when found; NULL when not found and x or one of the list is NULL.
fn in_list(x: &Expr, list: &[Expr], cx: Cx<'_>) -> Operand<bool> {
    let x = compile(x, cx);
    let constants: Option<Vec<Value>> = list
        .iter()
        .map(|item| match &item.kind {
            ExprKind::Literal(value) => Some(value.clone()),
            _ => None,
        })
        .collect();
    if let Some(constants) = constants {
        let has_null = constants.iter().any(Value::is_null);
        let mut set: hashbrown::HashSet<Value, foldhash::fast::FixedState> =
            hashbrown::HashSet::with_hasher(foldhash::fast::FixedState::default());
        set.extend(constants.into_iter().filter(|value| !value.is_null()));
        return computed(move |env| {
            let needle = x.value(env);
            if needle.is_null() {
                return None;
            }
            if set.contains(&needle) {
                Some(true)
            } else {
                (!has_null).then_some(false)
            }
        });
    }
    let list: Vec<Compiled> = list.iter().map(|item| compile(item, cx)).collect();
    computed(move |env| {
        let needle = x.value(env);
        if needle.is_null() {
            return None;
        }
        let mut unknown = false;
        for item in &list {
            let item = item.value(env);
            if item.is_null() {
                unknown = true;
            } else if item == needle {
                return Some(true);
            }
        }
        (!unknown).then_some(false)
    })
}

/// `x IN table`, as the table is at that moment.
fn in_table(x: &Expr, table: TableId, cx: Cx<'_>) -> Operand<bool> {
    let Some(table) = cx.tables.get(table.0).cloned() else {
        return computed(|_| None);
    };
    let seek = table.lock().member_seek();
    let x = compile(x, cx);
    computed(move |env| {
        let needle = x.value(env);
        if needle.is_null() {
            return None;
        }
        Some(table.lock().contains(&seek, &needle, env.moment.now))
    })
}

fn like(
    subject: &Expr,
    pattern: &Expr,
    escape: Option<char>,
    ignore_case: bool,
    cx: Cx<'_>,
) -> Operand<bool> {
    let subject = text(subject, cx);
    if let ExprKind::Literal(Value::Str(pattern)) = &pattern.kind {
        let pattern = LikePattern::new(pattern, escape, ignore_case);
        return computed(move |env| Some(pattern.matches(&subject.get(env)?)));
    }
    let pattern = text(pattern, cx);
    fuse(
        subject,
        pattern,
        move |_, subject: EcoString, pattern: EcoString| {
            Some(LikePattern::new(&pattern, escape, ignore_case).matches(&subject))
        },
    )
}
