//! The windows: names, arguments, documentation, and the plan each becomes.

use super::ast::{WindowArgument, WindowCall, WindowValue};
use super::plan::Window;
use crate::diagnostic::{Diagnostic, Place, did_you_mean};

/// How a window is declared.
#[derive(Debug)]
pub struct WindowSpec {
    /// Every spelling; the first is the one shown.
    pub names: &'static [&'static str],
    /// The arguments, for messages and documentation.
    pub arguments: &'static str,
    /// One line of documentation.
    pub doc: &'static str,
    plan: fn(&Arguments<'_>) -> Result<Window, Diagnostic>,
}

/// Every window.
pub const WINDOWS: &[WindowSpec] = &[
    WindowSpec {
        names: &["length"],
        arguments: "rows",
        doc: "the last n rows",
        plan: |arguments| {
            Ok(Window::Length {
                rows: arguments.rows(0)?,
            })
        },
    },
    WindowSpec {
        names: &["time"],
        arguments: "span",
        doc: "the rows of the last span",
        plan: |arguments| {
            Ok(Window::Time {
                span_ms: arguments.span_ms(0)?,
            })
        },
    },
    WindowSpec {
        names: &["lengthBatch"],
        arguments: "rows",
        doc: "every n rows",
        plan: |arguments| {
            Ok(Window::LengthBatch {
                rows: arguments.rows(0)?,
            })
        },
    },
    WindowSpec {
        names: &["timeBatch"],
        arguments: "span [, start]",
        doc: "every span, from the first row or from start (milliseconds since the epoch)",
        plan: |arguments| {
            Ok(Window::TimeBatch {
                span_ms: arguments.span_ms(0)?,
                start: arguments.optional_ms(1)?,
            })
        },
    },
    WindowSpec {
        names: &["tumbling"],
        arguments: "span [, offset]",
        doc: "every span, aligned to the epoch plus offset",
        plan: |arguments| {
            let span_ms = arguments.span_ms(0)?;
            let offset_ms = arguments.optional_ms(1)?.unwrap_or(0).rem_euclid(span_ms);
            Ok(Window::Tumbling { span_ms, offset_ms })
        },
    },
];

/// Windows of the dialect that this version does not have, so that they are refused by name.
const LATER: &[&str] = &[
    "timeLength",
    "externalTime",
    "delay",
    "sort",
    "unique",
    "firstUnique",
    "uniqueLength",
    "uniqueTime",
    "frequent",
    "lossyFrequent",
    "expression",
    "sliding",
    "hop",
    "hopping",
    "externalTimeBatch",
    "session",
    "cron",
    "expressionBatch",
    "state",
    "batch",
];

/// The window that a call means.
pub(crate) fn plan_window(path: &str, call: &WindowCall) -> Result<Window, Diagnostic> {
    let kind = &call.kind;
    let same = |name: &&str| name.eq_ignore_ascii_case(&kind.text);
    let Some(spec) = WINDOWS.iter().find(|spec| spec.names.iter().any(same)) else {
        if LATER.iter().any(same) {
            let message = format!("WINDOW '{}' is not supported by this version", kind.text);
            return Err(Diagnostic::error(path, kind.place, message));
        }
        let known = WINDOWS.iter().flat_map(|spec| spec.names).copied();
        let message = format!("unknown window '{}'", kind.text);
        return Err(Diagnostic::error(path, kind.place, message)
            .with_hint_if(did_you_mean(&kind.text, known)));
    };
    let arguments = Arguments {
        path,
        spec,
        place: kind.place,
        given: &call.arguments,
    };
    let most = spec.arguments.split(',').count();
    if let Some(extra) = call.arguments.get(most) {
        let message = format!("WINDOW '{}' takes {}", kind.text, spec.arguments);
        return Err(Diagnostic::error(path, extra.place, message));
    }
    (spec.plan)(&arguments)
}

struct Arguments<'a> {
    path: &'a str,
    spec: &'static WindowSpec,
    place: Place,
    given: &'a [WindowArgument],
}

impl Arguments<'_> {
    fn rows(&self, index: usize) -> Result<u64, Diagnostic> {
        match self.given.get(index) {
            Some(WindowArgument {
                value: WindowValue::Number(rows),
                ..
            }) if *rows > 0 => Ok(rows.unsigned_abs()),
            other => Err(self.wrong(other, "a number of rows, at least 1")),
        }
    }

    fn span_ms(&self, index: usize) -> Result<i64, Diagnostic> {
        match self.given.get(index) {
            Some(WindowArgument {
                value: WindowValue::Span(span_ms) | WindowValue::Number(span_ms),
                ..
            }) if *span_ms > 0 => Ok(*span_ms),
            other => Err(self.wrong(other, "a span of time such as 5 SECONDS, longer than 0")),
        }
    }

    fn optional_ms(&self, index: usize) -> Result<Option<i64>, Diagnostic> {
        match self.given.get(index) {
            None => Ok(None),
            Some(WindowArgument {
                value: WindowValue::Span(span_ms) | WindowValue::Number(span_ms),
                ..
            }) => Ok(Some(*span_ms)),
            other => Err(self.wrong(other, "a time in milliseconds")),
        }
    }

    fn wrong(&self, argument: Option<&WindowArgument>, wanted: &str) -> Diagnostic {
        let name = self.spec.names.first().copied().unwrap_or_default();
        let place = argument.map_or(self.place, |argument| argument.place);
        let found = match argument {
            None => "nothing".to_owned(),
            Some(argument) => match &argument.value {
                WindowValue::Span(span_ms) => crate::event::format_duration_ms(*span_ms),
                WindowValue::Number(number) => number.to_string(),
                WindowValue::Other(text) => text.clone(),
            },
        };
        let message = format!("WINDOW '{name}' takes {wanted}; found {found}");
        Diagnostic::error(self.path, place, message)
            .with_hint(format!("WINDOW('{name}', {})", self.spec.arguments))
    }
}
